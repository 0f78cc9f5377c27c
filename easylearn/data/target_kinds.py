"""The four readings of what is to be predicted: one class, several labels, columns of 0 and 1, numbers.

Each is learnt from training items, turns values into a tensor, and can be written down as JSON. Who wants to read
targets calls `easylearn.data.targets`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, did_you_mean
from ..task import Regression, Scale, Task, multi_label, regression, single_label
from .label_words import as_list, bare, forgotten_separator, is_whole, order_classes, split_labels, tell_twins, word
from .levels import Level, Lookup, from_json, plain_all, to_json
from .values import Coded, factorize, is_missing, is_ordered, numbers, refuse_rows

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

Indices: TypeAlias = npt.NDArray[np.int64]
Where: TypeAlias = Callable[[int], str]
TaskName = Literal["auto", "single_label", "multi_label", "regression"]

LARGEST = 1e150  # of numbers to predict
_SHOWN = 10  # classes in a message
_HINT = "Correct it, leave the row out, or see that training has such items"


@dataclass(frozen=True)
class TargetOptions:
    """What a user may say about the values to predict.

    Args:
        task: "single_label" (each item has one class), "multi_label" (any number of labels), "regression" (numbers),
            or "auto" to look at the values.
        label_sep: what stands between several labels in one cell of text; " " is any blanks.
        log_target: predict the logarithm of numbers (of numbers plus one, where there are zeros).
        classes: fixes the list of classes or labels, and their order; whole numbers are then positions in it.
    """

    task: TaskName = "auto"
    label_sep: str | None = None
    log_target: bool = False
    classes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        known = get_args(TaskName)
        if self.task not in known:
            raise ArgumentError(
                f"task must be one of {list(known)}, got {self.task!r}. {did_you_mean(str(self.task), known)}"
            )
        if self.label_sep is not None and (not isinstance(self.label_sep, str) or not self.label_sep):
            raise ArgumentError(f"label_sep must be what stands between labels, such as ';', got {self.label_sep!r}")
        if self.label_sep is not None and self.task not in ("auto", "multi_label"):
            raise ArgumentError(f"label_sep parts the labels of a multi-label task, but task={self.task!r} was given")
        if self.log_target and (self.task not in ("auto", "regression") or self.label_sep is not None):
            raise ArgumentError(f"log_target is for numbers, this task is {self.task}; leave it out")
        if self.classes is not None and (self.log_target or self.task == "regression"):
            raise ArgumentError("classes= names classes, but numbers are to be predicted; leave one of them out")
        if isinstance(self.classes, str) or (self.classes is not None and len(set(self.classes)) < len(self.classes)):
            raise ArgumentError(f"classes must be a list of different names, got {self.classes!r}")
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(map(str, self.classes)))


@dataclass(frozen=True)
class TargetRows:
    """What is to be predicted of some items, as it was given.

    Args:
        columns: of equal length; one for classes and labels.
        where: a row's position to what messages call it.
        coded: what `factorize` gave for the column of classes or of text, or the labels of each item, if it was asked.
        in_table: the columns have names of their own.
        split: "train", "valid" or "test", for messages.
        hint: what to do about a label that training does not have.
    """

    columns: tuple[pd.Series[Any], ...]
    where: Where
    coded: Coded | None = None
    in_table: bool = False
    split: str = "train"
    hint: str = _HINT

    def __len__(self) -> int:
        return len(self.columns[0])

    def refuse(self, rows: Indices, why: str, column: int = 0) -> None:
        """Raise a DataError that names some rows; nothing if there are none."""
        refuse_rows(self.columns[column], rows, why if self.split == "train" else f"in {self.split} {why}", self.where)

    def refuse_missing(self, rows: Indices, why: str, column: int = 0) -> None:
        """As `refuse`, of rows whose target is missing."""
        given = self.columns[column]
        known = self.in_table and bool(given.isna().to_numpy()[rows].all())  # to pandas, too: no blank, no "N/A"
        how = f", as df.dropna(subset=[{given.name!r}]) does" * known
        self.refuse(rows, f"{why}; fill them in, or leave these rows out{how}", column)


@dataclass(frozen=True)
class TargetKind(ABC):
    """One reading of targets, learnt from training items; final classes follow.

    Args:
        levels: a value of each class or label, in the order of the model's outputs; none where columns say what is
            predicted.
        fixed: the user gave them, so that whole numbers are positions among them.
        sep: what stands between several labels in text; None where cells are lists.
        scale: on which the model predicts numbers: "linear", "log" or "log1p".
    """

    reading: ClassVar[str]
    task_name: ClassVar[str]
    has_levels: ClassVar[bool] = False
    levels: tuple[Level, ...] = ()
    fixed: bool = False
    sep: str | None = None
    scale: Scale = "linear"

    @property
    def names(self) -> tuple[str, ...]:
        """The classes or labels as text."""
        return tuple(map(word, self.levels))

    @classmethod
    @abstractmethod
    def learn(cls, rows: TargetRows, train: Indices | None, options: TargetOptions) -> TargetKind:
        """What the training items tell; None means all of `rows`."""

    @abstractmethod
    def task(self, columns: Sequence[str]) -> Task:
        """The task that they make."""

    @abstractmethod
    def encode(self, rows: TargetRows) -> Tensor:
        """Class numbers (n,), float32 (n, k) of labels, or float64 (n, k) of numbers."""

    def state_dict(self) -> dict[str, Any]:
        """What `from_state` needs, in what JSON can hold."""
        labels = to_json(self.levels) if self.levels else None
        return {"reading": self.reading, "labels": labels, "fixed": self.fixed, "sep": self.sep, "scale": self.scale}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], n_out: int) -> Self:
        """What `state_dict` described."""
        levels = () if state["labels"] is None else tuple(from_json(state["labels"]))
        if len(levels) != n_out and (levels or cls.has_levels):
            raise DataError(f"the saved target has {len(levels)} labels, but the model gives {n_out} numbers")
        sep, scale = state.get("sep"), state.get("scale", "linear")
        if scale not in get_args(Scale):
            raise DataError(f"the saved scale of the target is {str(scale)[:50]!r}, not one of {get_args(Scale)}")
        return cls(levels, bool(state.get("fixed", False)), None if sep is None else str(sep), scale)


class OneClass(TargetKind):
    """Each item has one class."""

    reading = "classes"
    task_name = "single_label"
    has_levels = True

    @classmethod
    def learn(cls, rows: TargetRows, train: Indices | None, options: TargetOptions) -> OneClass:
        """The classes of the training items: in the order of an ordered categorical, else sorted.

        Raises:
            DataError: an item has no label, or all training items have the same.
        """
        codes, values = coded_labels(rows)
        column = rows.columns[0]
        chosen = codes if train is None else codes[train]
        if not len(chosen):
            raise DataError(f"the target {column.name!r} has no training rows")
        by_word: dict[str, Level] = {}
        for code in np.flatnonzero(np.bincount(chosen)).tolist():
            by_word.setdefault(word(values[code]), values[code])
        if len(by_word) < 2:
            raise DataError(
                f"every training row of the target {column.name!r} has the label {values[chosen[0]]!r}, so there is "
                "nothing to tell apart; a classifier needs rows of at least two classes"
            )
        if options.classes is not None:
            return cls(tuple(options.classes), fixed=True)
        tell_twins(by_word, str(column.name))
        return cls(tuple(by_word.values() if is_ordered(column) else order_classes(by_word)))

    def task(self, columns: Sequence[str]) -> Task:
        return single_label(self.names)

    def encode(self, rows: TargetRows) -> Tensor:
        codes, values = coded_labels(rows)
        table = np.array([*_class_numbers(values, self), -1], np.int64)
        target = table[codes]
        bad = np.flatnonzero(target < 0)
        if len(bad):
            _refuse_unseen(rows, bad, [values[c] for c in dict.fromkeys(codes[bad].tolist())], self)
        return torch.from_numpy(target)


class SeveralLabels(TargetKind):
    """Each item has any number of labels, all in one cell."""

    reading = "labels"
    task_name = "multi_label"
    has_levels = True

    @classmethod
    def learn(cls, rows: TargetRows, train: Indices | None, options: TargetOptions) -> SeveralLabels:
        """The labels of the training items, sorted.

        Raises:
            DataError: no training item has a label.
        """
        if options.classes is not None:
            return cls(tuple(options.classes), True, options.label_sep)
        codes, lists = rows.coded or label_lists(rows, options.label_sep)
        chosen = np.unique(codes if train is None else codes[train])
        by_word = {word(label): label for c in chosen.tolist() if c >= 0 for label in lists[c]}
        if not by_word:
            raise DataError(f"no training row of the target {rows.columns[0].name!r} has a label")
        if len(chosen) > 0 and len(by_word) == 1 and all(c >= 0 and lists[c] for c in chosen.tolist()):
            raise DataError(
                f"every training row of the target {rows.columns[0].name!r} has the one label {next(iter(by_word))!r}, "
                "so there is nothing to tell apart; some rows need another, or none"
            )
        tell_twins(by_word, str(rows.columns[0].name))
        return cls(tuple(map(word, order_classes(by_word))), False, options.label_sep)

    def task(self, columns: Sequence[str]) -> Task:
        return multi_label(self.names)

    def encode(self, rows: TargetRows) -> Tensor:
        codes, lists = rows.coded or label_lists(rows, self.sep)
        distinct = list(dict.fromkeys(chain.from_iterable(lists)))
        number = dict(zip(distinct, _class_numbers(distinct, self), strict=True))
        row = np.repeat(np.arange(len(lists)), [len(labels) for labels in lists])
        at = np.array([number[label] for labels in lists for label in labels], np.int64)
        # One column more is for labels that are no class, one row more is read by -1: an empty cell.
        flags = np.zeros((len(lists) + 1, len(self.levels) + 1), np.float32)
        flags[row, at] = 1
        bad = np.flatnonzero(flags[codes, -1])
        if len(bad):
            unseen = (label for code in codes[bad].tolist() for label in lists[code] if number[label] < 0)
            _refuse_unseen(rows, bad, list(dict.fromkeys(unseen)), self)
        return torch.from_numpy(flags[codes, :-1])


class Flags(TargetKind):
    """Each label has a column, 1 where an item has it and 0 where not; the names may be given."""

    reading = "flags"
    task_name = "multi_label"

    @classmethod
    def learn(cls, rows: TargetRows, train: Indices | None, options: TargetOptions) -> Flags:
        """Nothing but the names.

        Raises:
            DataError: there are more or fewer names than columns.
        """
        names = tuple(options.classes or ())
        if names and len(names) != len(rows.columns):
            raise DataError(f"{rows.where(0)}: {len(rows.columns)} numbers for {len(names)} classes")
        return cls(names, fixed=bool(names))

    def task(self, columns: Sequence[str]) -> Task:
        return multi_label(self.names or columns)

    def encode(self, rows: TargetRows) -> Tensor:
        values = _finite(rows)
        for j, column in enumerate(values.T):
            odd = np.flatnonzero((column != 0) & (column != 1))
            rows.refuse(odd, "are neither 0 nor 1, as a label's column must be", j)
        return torch.from_numpy(values.astype(np.float32))


class Numbers(TargetKind):
    """Each item has a number per column."""

    reading = "numbers"
    task_name = "regression"

    @classmethod
    def learn(cls, rows: TargetRows, train: Indices | None, options: TargetOptions) -> Numbers:
        """The scale: of the logarithms, with one added first where there are zeros.

        Raises:
            DataError: all training items have the same number, or a value is missing and logarithms are wanted.
        """
        try:
            read = [numbers(c, "target", rows.where) for c in rows.columns]
        except DataError as error:
            if not options.log_target:
                raise
            raise DataError(f"{error}; if these are classes, leave log_target out") from error
        chosen = [x[slice(None) if train is None else train] for x in read]
        if len(chosen[0]) > 1 and all(x.min() == x.max() for x in chosen):
            raise DataError(
                f"every training row of the target {rows.columns[0].name!r} has the number {chosen[0][0]:g}, so there "
                "is nothing to predict; rows of at least two different numbers are needed"
            )
        return cls(scale=("log1p" if (_finite(rows) == 0).any() else "log") if options.log_target else "linear")

    def task(self, columns: Sequence[str]) -> Regression:
        return regression(columns, scale=self.scale)

    def encode(self, rows: TargetRows) -> Tensor:
        values, lowest = _finite(rows), self.task(["y"]).lowest
        for j, column in enumerate(values.T):
            rows.refuse(np.flatnonzero(column <= lowest), "have no logarithm; leave log_target out", j)
            large = np.flatnonzero(np.abs(column) > LARGEST)
            rows.refuse(large, f"are beyond {LARGEST:g}, so that no float holds their squares; take a larger unit", j)
        return torch.from_numpy(values)


KINDS: dict[str, type[TargetKind]] = {k.reading: k for k in (OneClass, SeveralLabels, Flags, Numbers)}


def label_lists(rows: TargetRows, sep: str | None) -> Coded:
    """The labels of each item, parted by `sep` or in lists: codes, -1 where a cell is empty, and the distinct lists.

    Raises:
        DataError: a cell is no list among lists, or holds what can be no label; the row is named.
    """
    column = rows.columns[0]
    if sep is not None:
        codes, values = factorize(column)
        return codes, [split_labels(word(v), sep) for v in values]
    lists: list[list[Level]] = []
    for i, cell in enumerate(column.tolist()):
        given = as_list(cell)
        if given is None and not is_missing(cell):
            raise DataError(f"{rows.where(i)}: the target {column.name!r} holds lists of labels, but here {cell!r:.60}")
        if any(map(is_missing, given or ())):
            raise DataError(f"{rows.where(i)}: a label is missing among {given!r:.60} of the target {column.name!r}")
        try:
            lists.append(plain_all(given or []))
        except TypeError as error:
            raise DataError(f"{rows.where(i)}: {given!r:.60} of the target {column.name!r}: {error}") from error
    return np.arange(len(lists)), lists


def coded_labels(rows: TargetRows) -> Coded:
    """Each label as its position among the distinct ones; refuses missing ones, and text without a letter."""
    codes, values = rows.coded or factorize(rows.columns[0])
    empty = [i for i, v in enumerate(values) if isinstance(v, str) and not v.strip()]
    if empty:
        codes = np.where(np.isin(codes, empty), -1, codes)
    rows.refuse_missing(np.flatnonzero(codes < 0), "have no label")
    return codes, values


def _finite(rows: TargetRows) -> npt.NDArray[np.float64]:
    """The columns as numbers, shape (n, k)."""
    out = np.empty((len(rows), len(rows.columns)))
    for j, column in enumerate(rows.columns):
        out[:, j] = numbers(column, "target", rows.where)
        rows.refuse_missing(np.flatnonzero(np.isnan(out[:, j])), "are missing", j)
        rows.refuse(np.flatnonzero(np.isinf(out[:, j])), "are infinite; correct them, or leave them out", j)
    return out


def _class_numbers(values: Sequence[Level], kind: TargetKind) -> list[int]:
    """The place of each value among the classes, -1 for none."""
    words = {name: i for i, name in enumerate(kind.names)}
    if not kind.fixed:
        found = Lookup(kind.levels, 0, -1).codes(values)
        return [words.get(word(v), -1) if n < 0 else n for n, v in zip(found, values, strict=True)]

    def place(value: Level) -> int:
        if not is_whole(value) or (isinstance(value, bool) and word(value) in words):
            return words.get(word(value), -1)
        return int(value) if 0 <= value < len(words) else -1

    return [place(v) for v in values]


def _refuse_unseen(rows: TargetRows, bad: Indices, unseen: Sequence[Level], kind: TargetKind) -> None:
    """Raise a DataError about `unseen` labels that are no classes, those of the first of the `bad` rows in front."""
    label, names = unseen[0], kind.names
    place = rows.where(int(bad[0])) + (f" ({rows.split})" if rows.split != "train" else "")
    others = f" ({len(bad)} rows, with {', '.join(map(repr, unseen[:5]))})" if len(bad) > 1 else ""
    known = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if kind.fixed and is_whole(label):
        raise DataError(f"{place}: the class number {label} is not between 0 and {len(names) - 1}{others}: {known}")
    given = word(label)
    twin = next((n for n in names if bare(n) == bare(given)), None)
    sep = None if kind.fixed else forgotten_separator([*names, *map(word, unseen)])
    if sep is not None:
        near = f"Did you mean label_sep={sep!r}, for several labels in a cell? "
    elif twin is not None:
        near = f"It differs from {twin!a} only by blanks or by unicode's normal form. "
    else:
        hint = did_you_mean(given, names)
        near = hint + " " if hint.startswith("Did") else ""
    raise DataError(
        f"{place}: the label {label!r} of the target {rows.columns[0].name!r} is "
        f"{'not in classes=' if kind.fixed else 'in no training row'}{others}. {near}Known are {known}. {rows.hint}"
    )
