"""A row of a table as codes and numbers, by what a model file says of each column; no pandas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.values import MISSING_WORDS
from ..tabular.fitted import FittedCategory, FittedNumber, NotPlainError
from ..tabular.reports import TransformReport
from .refusals import RefusedError

Arrays = dict[str, npt.NDArray[Any]]


class RowReader:
    """A dictionary of plain values to `cats` (1, n) and `conts` (1, m), as the learner's own processor makes them."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        processor = about["processor"]
        self.cats = [FittedCategory.from_state(c) for c in processor["cats"]]
        self.conts = [FittedNumber.from_state(c) for c in processor["conts"]]
        self.names = [*(c.name for c in self.cats), *(c.name for c in self.conts)]

    def __call__(self, row: Any) -> Arrays:
        """The arrays of one row; every column must be there, and null is a missing value."""
        if not isinstance(row, dict):
            raise RefusedError(422, f"a row is an object with a value for each column, got {type(row).__name__}")
        absent = [n for n in self.names if n not in row]
        if absent:
            raise RefusedError(
                422, f"the row has no column {absent[0]!r} ({len(absent)} missing); the model takes {self.names[:20]}"
            )
        report = TransformReport()
        try:
            cats = [c.encode_one(row, report) for c in self.cats]
        except NotPlainError as error:
            name = next((c.name for c in self.cats if isinstance(row[c.name], list | Mapping)), "")
            raise RefusedError(
                422, f"column {name!r} is neither text, number, true, false nor null, but {type(row[name]).__name__}"
            ) from error
        pairs = [c.encode_one({c.name: _number(row[c.name], c.name)}, report) for c in self.conts]
        flags = [float(bad) for (_, bad), c in zip(pairs, self.conts, strict=True) if c.flag]
        conts = [*(x for x, _ in pairs), *flags]
        return {"cats": np.array([cats], np.int64), "conts": np.array([conts], np.float32)}

    def form(self) -> list[dict[str, Any]]:
        """What a page needs to ask for a row: each column with its categories or its range."""
        said: list[dict[str, Any]] = [
            {"name": c.name, "categories": [str(v) for v in c.levels[:500]]} for c in self.cats
        ]
        for c in self.conts:
            usual = c.center if c.factor else c.fill
            step = 1 / abs(c.factor) if c.factor else 1.0
            said.append(
                {
                    "name": c.name,
                    "usual": _short(usual),
                    "low": _short(usual - 3 * step),
                    "high": _short(usual + 3 * step),
                }
            )
        return said


def _short(x: float) -> float:
    return float(f"{x:.3g}")


def _number(value: Any, name: str) -> Any:
    """A number, also one that is written as text, as files and forms have it; None where it is missing."""
    if not isinstance(value, str):
        if isinstance(value, list | Mapping):
            raise RefusedError(422, f"column {name!r} is a number, got {value!r:.60}")
        return value
    text = value.strip()
    if text.lower() in MISSING_WORDS:
        return None
    try:
        return math.nan if "_" in text else float(text)
    except ValueError as error:
        raise RefusedError(422, f"column {name!r} is a number, got {value!r:.60}") from error
