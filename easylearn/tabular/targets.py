"""Target columns: what kind of task they make, and their values as a tensor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.levels import Level, Lookup, from_json, in_order, to_json
from ..data.values import Coded, Floats, Rows, factorize, is_ordered, numbers, positions, refuse_rows, require_columns
from ..errors import ArgumentError, DataError, EasyLearnWarning, did_you_mean
from ..task import Scale, Task, multi_label, regression, single_label

if TYPE_CHECKING:
    import pandas as pd

TableKind = Literal["single_label", "multi_label", "regression"]
TaskName = Literal["auto", TableKind]
YRange = tuple[float, float] | Literal["auto"] | None
MAX_WHOLE_CLASSES = 20  # a column of more whole numbers than these is taken as numbers, not as classes


class Labels:
    """The classes of a target column, in one order for training, validation, test and the saved model.

    Args:
        values: the classes, in order.

    >>> import pandas as pd
    >>> labels = Labels.learn(pd.Series(["no", "yes", "no"], name="rain"))
    >>> labels.names, labels.encode(pd.Series(["yes", "no"])).tolist()
    (('no', 'yes'), [1, 0])
    """

    def __init__(self, values: Sequence[Level]) -> None:
        self.values = list(values)
        self._lookup = Lookup(self.values, 0, -1)

    @classmethod
    def learn(cls, column: pd.Series[Any], rows: Rows | None = None, coded: Coded | None = None) -> Labels:
        """The classes that the training rows hold: in the order of an ordered categorical, otherwise sorted.

        Args:
            column: the target.
            rows: positions of the training rows, or a boolean mask; None means all.
            coded: what `factorize` gave for the column, if it was asked already.

        Raises:
            DataError: some rows have no label (naming them), or all have the same one.
        """
        codes, values = factorize(column) if coded is None else coded
        chosen = np.arange(len(codes)) if rows is None else positions(rows, len(codes))
        if len(chosen) == 0:
            raise DataError(f"the target {column.name!r} has no training rows")
        of_training = codes[chosen]
        refuse_rows(column, chosen[of_training < 0], "have no label; drop these rows or give them labels")
        seen = np.bincount(of_training, minlength=len(values))
        held = list(dict.fromkeys(v for v, n in zip(values, seen.tolist(), strict=True) if n))
        classes = held if is_ordered(column) else in_order(held)
        if len(classes) < 2:
            raise DataError(
                f"every training row of the target {column.name!r} has the label {classes[0]!r}, so there is nothing "
                "to tell apart; a classifier needs rows of at least two classes"
            )
        return cls(classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes as text, in the order of the model's outputs."""
        return tuple(str(v) for v in self.values)

    def encode(self, column: pd.Series[Any], coded: Coded | None = None) -> npt.NDArray[np.int64]:
        """Class numbers; `coded` as in `learn`.

        Raises:
            DataError: a row has no label or one that is no class (naming rows and labels).
        """
        codes, values = factorize(column) if coded is None else coded
        refuse_rows(column, np.flatnonzero(codes < 0), "have no label; drop these rows or give them labels")
        table = np.array([*self._lookup.codes(values), -1], np.int64)
        result: npt.NDArray[np.int64] = table[codes]
        bad = np.flatnonzero(result < 0)
        if len(bad):
            words = sorted({repr(values[c]) for c in codes[bad[:1000]]})[:5]
            refuse_rows(
                column,
                bad,
                f"have labels that no training row has ({', '.join(words)}); known are {self.values[:10]}. "
                "Split so that every class is in training (stratified), or drop these rows",
            )
        return result

    def state_dict(self) -> dict[str, Any]:
        """The classes, as words and numbers that fit in a JSON file."""
        return to_json(self.values)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Labels:
        """Labels as `state_dict` described them."""
        return cls(from_json(state))


def target_numbers(df: pd.DataFrame, names: Sequence[str]) -> Floats:
    """The columns of a regression or multi-label target, float64, shape (n, len(names)).

    Raises:
        DataError: a column is missing, holds text, or has missing or infinite places (naming the rows).
    """
    require_columns(df, names)
    out = np.empty((len(df), len(names)), np.float64)
    for j, name in enumerate(names):
        x = numbers(df[name])
        refuse_rows(
            df[name], np.flatnonzero(~np.isfinite(x)), "are missing or infinite; drop these rows or give them numbers"
        )
        out[:, j] = x
    return out


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
