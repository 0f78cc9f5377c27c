"""Schedules as plain values and back, by an allow-list of the classes in `easylearn.schedules`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ... import schedules
from ...schedules import Schedule

KINDS: dict[str, Callable[..., Schedule]] = {
    kind.__name__: kind
    for kind in (
        schedules.Constant,
        schedules.Linear,
        schedules.Cosine,
        schedules.Exponential,
        schedules.Polynomial,
        schedules.Step,
        schedules.OneCycle,
        schedules.SlantedTriangular,
        schedules.Join,
        schedules.Warmup,
        schedules.Sgdr,
    )
}


def encode_schedule(schedule: Schedule) -> dict[str, Any] | None:
    """The schedule as plain values; None if it, or a part of it, is not one of `easylearn.schedules`.

    >>> state = encode_schedule(schedules.warmup(schedules.cosine(), 1))
    >>> state["kind"], decode_schedule(state) == schedules.warmup(schedules.cosine(), 1)
    ('Warmup', True)
    >>> encode_schedule(lambda epoch, n_epochs: 1.0) is None
    True
    """
    try:
        state: dict[str, Any] = _encode(schedule)
    except LookupError:
        return None
    return state


def _encode(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    name = type(value).__name__
    if KINDS.get(name) is not type(value):
        raise LookupError(name)
    return {"kind": name, **{f.name: _encode(getattr(value, f.name)) for f in fields(value)}}


def decode_schedule(state: Mapping[str, Any]) -> Schedule:
    """The schedule that `encode_schedule` wrote.

    Raises:
        ValueError: the values describe no schedule, or one that gives no number.
    """
    schedule = _decode(state)
    if not callable(schedule):
        raise ValueError(f"{str(state)[:80]} is not a schedule")
    value = schedule(0.0, 1.0)
    if not isinstance(value, float) or math.isnan(value):
        raise ValueError(f"{schedule!r} gives no number")
    checked: Schedule = schedule
    return checked


def _decode(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if not isinstance(value, Mapping) or value.get("kind") not in KINDS:
        raise ValueError(f"{str(value)[:80]} is not a schedule")
    return KINDS[value["kind"]](**{k: _decode(v) for k, v in value.items() if k != "kind"})
