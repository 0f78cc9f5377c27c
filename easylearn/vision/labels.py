"""TEMPORARY, until data.targets: labels to a task and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import task as tasks
from ..errors import DataError
from ..task import Task
from .items import Rows


@dataclass(frozen=True)
class LabelOptions:
    """How labels are read.

    Args:
        task: what is predicted, where it was said.
        sep: what stands between the labels of one image.
        classes: their names, where they were given; whole numbers are then positions in it.
    """

    task: str | None = None
    sep: str | None = None
    classes: Sequence[str] | None = None


class Labels:
    """The labels of rows, read."""

    def __init__(self, rows: Rows, how: LabelOptions) -> None:
        self.how = how
        self.where = rows.where
        self.names = list(rows.labels)
        self.kind = how.task or _kind(rows, how)
        self.values = [self._one(cells, place) for cells, place in zip(zip(*rows.labels.values(), strict=True), rows.where, strict=True)]

    def _one(self, cells: tuple[Any, ...], place: str) -> Any:
        for name, cell in zip(self.names, cells, strict=True):
            if is_missing(cell):
                raise DataError(f"{place}: the label in column {name!r} is missing (NaN). Fill it in or remove the row")
        if self.kind == "regression":
            out = []
            for name, cell in zip(self.names, cells, strict=True):
                try:
                    out.append(float(cell))
                except (TypeError, ValueError) as error:
                    raise DataError(f"{place}: column {name!r} must hold numbers for regression, got {cell!r}") from error
                if not np.isfinite(out[-1]):
                    raise DataError(f"{place}: column {name!r} must hold finite numbers, got {cell!r}")
            return tuple(out)
        if len(cells) > 1:
            return tuple(n for n, c in zip(self.how.classes or self.names, cells, strict=True) if float(c))
        (cell,) = cells
        if self.kind == "multi_label":
            parts = cell.split(None if self.how.sep == " " else self.how.sep) if self.how.sep else list(cell)
            return tuple(dict.fromkeys(self._word(p.strip() if isinstance(p, str) else p, place) for p in parts if p != ""))
        return self._word(cell, place)

    def _word(self, cell: Any, place: str) -> str:
        if isinstance(cell, np.generic):
            cell = cell.item()
        if self.how.classes is not None and isinstance(cell, int):
            if not 0 <= cell < len(self.how.classes):
                raise DataError(f"{place}: the class number {cell} is not between 0 and {len(self.how.classes) - 1}")
            return str(self.how.classes[cell])
        return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)

    def take(self, index: Any) -> Labels:
        other = Labels.__new__(Labels)
        other.how, other.names, other.kind = self.how, self.names, self.kind
        other.values, other.where = [self.values[int(i)] for i in index], [self.where[int(i)] for i in index]
        return other

    def learn(self) -> Task:
        if self.kind == "regression":
            return tasks.regression(self.names)
        if self.how.classes is not None:
            found = [str(c) for c in self.how.classes]
        else:
            words = {c for v in self.values for c in (v if self.kind == "multi_label" else (v,))}
            found = sorted(words, key=(lambda c: (int(c), c)) if all(c.isdecimal() for c in words) else None)
        return tasks.single_label(found) if self.kind == "single_label" else tasks.multi_label(found)

    def encode(self, task: Task, split: str, advice: str) -> Tensor:
        if task.kind == "regression":
            return torch.tensor(self.values, dtype=torch.float32).reshape(len(self.values), task.n_out)
        number = {name: i for i, name in enumerate(task.names)}
        out = torch.zeros(len(self.values), task.n_out)
        for row, (value, place) in enumerate(zip(self.values, self.where, strict=True)):
            for name in value if task.kind == "multi_label" else (value,):
                if name not in number:
                    raise DataError(f"the class {name!r} is in {split}, {place}, but not in train, whose classes are {', '.join(task.names[:10])}. {advice}")
                out[row, number[name]] = 1.0
        return out if task.kind == "multi_label" else out.argmax(1)


def _kind(rows: Rows, how: LabelOptions) -> str:
    if how.sep is not None or len(rows.labels) > 1:
        return "multi_label"
    (values,) = rows.labels.values()
    several = [isinstance(v, list | tuple | set | frozenset) for v in values]
    if any(several) and not all(several):
        raise DataError(f"{rows.where[several.index(not several[0])]}: some labels are lists and some are not")
    return "multi_label" if any(several) else "single_label"


def is_missing(cell: Any) -> bool:
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)
