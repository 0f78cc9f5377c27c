"""Schedules as plain values and back, by an allow-list: the classes of `easylearn.schedules`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ... import schedules
from ...schedules import Schedule

KINDS: dict[str, Any] = {name: kind for name, kind in vars(schedules).items() if is_dataclass(kind)}


def encode_schedule(schedule: Schedule) -> dict[str, Any] | None:
    """The schedule as plain values; None if it, or a part of it, is not one of `easylearn.schedules`.

    >>> state = encode_schedule(schedules.warmup(schedules.cosine(), 1))
    >>> state["kind"], decode_schedule(state) == schedules.warmup(schedules.cosine(), 1)
    ('Warmup', True)
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
    """The schedule that `encode_schedule` wrote; values that describe none are a ValueError or TypeError."""
    schedule: Schedule = _decode(state)
    value = schedule(0.0, 1.0)
    if not isinstance(value, float) or math.isnan(value):
        raise ValueError(f"{schedule!r} gives no number")
    return schedule


def _decode(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if not isinstance(value, Mapping) or value.get("kind") not in KINDS:
        raise ValueError(f"{str(value)[:80]} is not a schedule")
    return KINDS[value["kind"]](**{k: _decode(v) for k, v in value.items() if k != "kind"})
