"""Target columns: what kind of task they make, and their values as a tensor."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, EasyLearnWarning, did_you_mean
from ..task import Scale, Task, multi_label, regression, single_label
from .processing import Coded, Floats, Labels, refuse_rows, require_columns, target_numbers

if TYPE_CHECKING:
    import pandas as pd

TableKind = Literal["single_label", "multi_label", "regression"]
TaskName = Literal["auto", TableKind]
YRange = tuple[float, float] | Literal["auto"] | None
MAX_WHOLE_CLASSES = 20  # a column of more whole numbers than these is taken as numbers, not as classes


@dataclass(frozen=True)
class Targets:
    """Which columns are predicted, and how.

    Args:
        columns: their names.
        task: what they make together.
        labels: the classes of a single-label task.
    """

    columns: tuple[str, ...]
    task: Task
    labels: Labels | None = None

    def encode(self, df: pd.DataFrame, coded: Coded | None = None) -> Tensor:
        """The targets of a table's rows.

        Args:
            df: has the columns.
            coded: what `factorize` gave for the column of classes, if it was asked already.

        Returns:
            Class numbers (n,) for single-label, otherwise float32 of shape (n, number of columns).

        Raises:
            DataError: a value is missing or is not what the task needs; the message names rows.
        """
        require_columns(df, self.columns)
        if self.labels is not None:
            return torch.from_numpy(self.labels.encode(df[self.columns[0]], coded))
        values = target_numbers(df, self.columns)
        for number, name in enumerate(self.columns):
            if self.task.kind == "multi_label":
                odd = (values[:, number] != 0) & (values[:, number] != 1)
                refuse_rows(df[name], np.flatnonzero(odd), "are neither 0 nor 1, as a label's column must be")
            else:
                lowest = {"linear": -np.inf, "log": 0.0, "log1p": -1.0}[self.task.scale]
                refuse_rows(
                    df[name], np.flatnonzero(values[:, number] <= lowest), "have no logarithm; leave log_target out"
                )
        return torch.from_numpy(values.astype(np.float32))


def find_targets(
    df: pd.DataFrame,
    columns: Sequence[str],
    train: npt.NDArray[np.int64],
    task: TaskName = "auto",
    log_target: bool = False,
    coded: Coded | None = None,
) -> Targets:
    """What the target columns make, with classes from the training rows. A guess is printed.

    Args:
        df: every row whose target is known.
        columns: the target columns.
        train: positions of the training rows.
        task: "auto" looks at types and values.
        log_target: predict the logarithm of numbers; of numbers plus one where there are zeros.
        coded: what `factorize` gave for the column of classes, if it was asked already.

    Raises:
        DataError: a value is missing, there is one class only, a number has no logarithm; rows are named.
    """
    kind = task_kind(df, columns, task, log_target)
    if kind == "single_label":
        labels = Labels.learn(df[columns[0]], train, coded)
        return Targets(tuple(columns), single_label(labels.names), labels)
    if kind == "multi_label":
        return Targets(tuple(columns), multi_label(columns))
    scale: Scale = "linear"
    if log_target:
        scale = "log1p" if (target_numbers(df, columns) == 0).any() else "log"
    return Targets(tuple(columns), regression(columns, scale=scale))


def task_kind(df: pd.DataFrame, columns: Sequence[str], task: TaskName = "auto", log_target: bool = False) -> TableKind:
    """The kind of task that the target columns make; where that is a guess, it is printed."""
    known = get_args(TaskName)
    if task not in known:
        raise ArgumentError(f"task must be one of {list(known)}, got {task!r}. {did_you_mean(str(task), known)}")
    if not columns:
        raise ArgumentError("name at least one target column")
    require_columns(df, columns)
    if task == "auto":
        kind, note = guess_task(df, columns, log_target)
        if note:
            print(note)
    else:
        kind = task
    if kind == "single_label" and len(columns) > 1:
        raise ArgumentError(f"single_label has one target column, got {len(columns)}: {list(columns)}")
    if log_target and kind != "regression":
        raise ArgumentError(f"log_target is for numbers, this task is {kind}; leave it out, or pass task='regression'")
    return kind


def guess_task(df: pd.DataFrame, columns: Sequence[str], log_target: bool = False) -> tuple[TableKind, str]:
    """The kind of task by the types and values of the targets, and a sentence on it where it could be another."""
    from pandas.api import types

    def is_numeric(name: str) -> bool:
        dtype = df[name].dtype
        return types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype)

    named = ", ".join(columns)
    if log_target:
        return "regression", ""
    if len(columns) > 1:
        text = [c for c in columns if not is_numeric(c)]
        if text:
            raise DataError(f"several targets must be numbers, or 0 and 1, but {text} are not; predict one at a time")
        if all(set(df[c].dropna().unique().tolist()) <= {0, 1} for c in columns):
            return "multi_label", f"targets {named}: zeros and ones, taken as labels; task='regression' takes numbers"
        return "regression", f"targets {named}: numbers, so this is regression"
    column = df[columns[0]]
    if types.is_bool_dtype(column.dtype) or not types.is_numeric_dtype(column.dtype):
        return "single_label", ""
    values = column.dropna().unique().tolist()
    whole = types.is_integer_dtype(column.dtype) or set(values) <= {0.0, 1.0}
    if whole and len(values) <= MAX_WHOLE_CLASSES:
        return "single_label", (
            f"target {named}: {len(values)} different whole numbers, taken as classes; task='regression' takes numbers"
        )
    return "regression", f"target {named}: numbers, so this is regression"


def range_of(task: Task, target: Tensor, y_range: YRange) -> tuple[Floats, Floats] | None:
    """The bounds between which a sigmoid keeps the model's outputs, on their own scale; None for no bounds.

    Args:
        task: regression.
        target: of the training rows, shape (n, k).
        y_range: (low, high) in the targets' own units; or "auto": the training targets and a tenth on both sides.

    Raises:
        ArgumentError: the range is none, or does not fit the targets.
    """
    if y_range is None:
        return None
    if task.kind != "regression":
        raise ArgumentError(f"y_range is for numbers, this task is {task.kind}; leave it out")
    scaled = task.to_scale(target.double()).numpy().reshape(len(target), -1)
    low, high = scaled.min(0), scaled.max(0)
    if isinstance(y_range, str):
        if y_range != "auto":
            raise ArgumentError(f"y_range must be (low, high), 'auto' or None, got {y_range!r}")
        margin = 0.1 * np.maximum(high - low, 1e-3)
        return low - margin, high + margin
    bounds = task.to_scale(torch.tensor(y_range, dtype=torch.float64)).numpy()
    if bounds.shape != (2,) or not bounds[0] < bounds[1]:
        raise ArgumentError(f"y_range must be (low, high) with low below high, got {y_range}")
    if not np.isfinite(bounds).all():
        raise ArgumentError(
            f"y_range={tuple(y_range)} has no finite logarithm; with log_target give a low end above 0, or 'auto'"
        )
    if (low < bounds[0]).any() or (high > bounds[1]).any():
        warnings.warn(
            f"y_range={tuple(y_range)} leaves out targets of the training rows, which go from {float(target.min()):g} "
            f"to {float(target.max()):g}; the model can never predict them",
            EasyLearnWarning,
            stacklevel=3,
        )
    return np.broadcast_to(bounds[0], low.shape), np.broadcast_to(bounds[1], high.shape)
