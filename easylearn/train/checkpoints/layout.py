"""The content and the file names of checkpoints, which writer and reader share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import schedules
from ...schedules import Schedule
from ..record import Record

Interval = str | int
"""When checkpoints are written: "epoch", a number of steps, or a time such as "5min"."""

_CALLBACK = {"name": str, "state": dict}
LAYOUT: dict[str, Any] = {
    "versions": dict,
    "facts": dict,
    "plan": {
        "rates": [float],
        "schedule": {"name": str},
        "n_steps": int,
        "cycle_ends": [int],
        "steps_per_epoch": int,
        "seed": int,
        "first_epoch": int,
        "freeze_stats": bool,
        "precompute": bool,
        "interval": (str, int),
        "keep": int,
    },
    "position": {"step": int, "epoch": int, "stop_reason": (str, type(None)), "metrics": dict},
    "model": {"params": dict, "trainable": [str], "buffers": dict, "extra": dict, "body": (str, type(None))},
    "optimizer": {"class": str, "state": {"param_groups": [dict]}},
    "strategy": {"scaler": dict, "pending": int, "first": int, "items": int, "states": (dict, type(None))},
    "grads": dict,
    "record": {"losses": Tensor, "rates": Tensor, "momentum": Tensor, "step_epoch": Tensor, "epochs": [dict]},
    "callbacks": {"first": [_CALLBACK], "learner": [_CALLBACK], "fit": [_CALLBACK], "savers": [_CALLBACK]},
    "rng": {"python": tuple, "numpy": tuple, "cpu": Tensor, "cuda": [Tensor]},
}
"""The types in a state: one or several; `[type]` is that of all entries of a list."""
KINDS: dict[str, Any] = {name: kind for name, kind in vars(schedules).items() if is_dataclass(kind)}
"""The schedules that a checkpoint may name; any other function has to be given again."""
_NAME = re.compile(r"checkpoint_(\d{6,12})\.safetensors")


def find_misfit(value: Any, layout: Any, key: str = "") -> str | None:
    """The first part of a value that is not of the type in the layout; None if there is none.

    >>> find_misfit({"plan": {"rates": [0.1, "high"]}}, {"plan": {"rates": [float]}})
    'plan/rates/1 is a str'
    """
    if isinstance(layout, dict):
        if not isinstance(value, dict):
            return f"{key or 'it'} is not a dictionary"
        found = (find_misfit(value.get(k), inner, f"{key}/{k}".lstrip("/")) for k, inner in layout.items())
        return next((f for f in found if f is not None), None)
    if isinstance(layout, list):
        if not isinstance(value, list):
            return f"{key} is not a list"
        found = (find_misfit(v, layout[0], f"{key}/{i}") for i, v in enumerate(value))
        return next((f for f in found if f is not None), None)
    return None if isinstance(value, layout) else f"{key} is a {type(value).__name__}"


def pack_record(record: Record) -> dict[str, Any]:
    """The state of a record with its columns as tensors: a long fit has a million steps."""
    state = record.state_dict()
    columns = {k: torch.tensor(state[k], dtype=torch.float64) for k in ("losses", "rates", "momentum")}
    return {**state, **columns, "step_epoch": torch.tensor(state["step_epoch"], dtype=torch.int64), "stop_reason": None}


def unpack_record(state: Mapping[str, Any]) -> dict[str, Any]:
    """What `pack_record` packed."""
    return {k: v.tolist() if isinstance(v, Tensor) else v for k, v in state.items()}


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((f for f in folder.iterdir() if _NAME.fullmatch(f.name)), key=_number, reverse=True)


def next_file(folder: Path) -> Path:
    """The path of the next checkpoint in a folder."""
    newest = next(iter(checkpoint_files(folder)), None)
    return folder / f"checkpoint_{(0 if newest is None else _number(newest)) + 1:06d}.safetensors"


def _number(file: Path) -> int:
    return int(file.name.removeprefix("checkpoint_").removesuffix(".safetensors"))


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
