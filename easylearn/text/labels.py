"""Labels of documents: what kind of task they make, and their values as a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, did_you_mean
from ..task import Task, multi_label, regression, single_label
from .sources import is_missing

Kind = Literal["single_label", "multi_label", "regression"]
TaskName = Literal["auto", Kind]
MAX_WHOLE_CLASSES = 20  # a column of more whole numbers than these is taken as numbers, not as classes


@dataclass(frozen=True)
class Labels:
    """How labels become targets.

    Args:
        task: what they make.
        where: what messages call them, such as "column 'label'".
        sep: multi-label: what stands between the labels in one cell, "" where each cell is a list of them; None where
            each label has a column.
    """

    task: Task
    where: str
    sep: str | None = None

    def encode(self, values: Sequence[Any], rows: Sequence[Any], part: str) -> Tensor:
        """Targets of some documents.

        Args:
            values: one cell, or for several columns one row of cells, per document.
            rows: what messages call each document.
            part: "train", "valid" or "test", for messages.

        Returns:
            Class numbers (n,), or float32 of shape (n, number of names).

        Raises:
            DataError: a label is missing, is no number where one is needed, or was never seen in training.
        """
        self._refuse_missing(values, rows, part)
        if self.task.predicts_numbers:
            return torch.from_numpy(_numbers(values, rows, self.where, part))
        place = {name: i for i, name in enumerate(self.task.names)}
        if self.task.is_exclusive:
            words = [word(v) for v in values]
            self._refuse_unseen([[w] for w in words], place, rows, part)
            return torch.tensor([place[w] for w in words], dtype=torch.int64)
        if self.sep is None:
            flags = _numbers(values, rows, self.where, part)
            bad = np.flatnonzero(~np.isin(flags, (0, 1)).all(1))
            if bad.size:
                raise DataError(
                    f"{self.where}, {part} row {rows[bad[0]]}: each label is 0 or 1, got {flags[bad[0]].tolist()}"
                )
            return torch.from_numpy(flags)
        lists = [split_labels(v, self.sep) for v in values]
        target = torch.zeros(len(values), len(place))
        self._refuse_unseen(lists, place, rows, part)
        for row, labels in zip(target, lists, strict=True):
            row[[place[w] for w in labels]] = 1
        return target

    def _refuse_missing(self, values: Sequence[Any], rows: Sequence[Any], part: str) -> None:
        if self.task.is_multi and self.sep is not None:
            return  # an empty cell: none of the labels
        bad = [i for i, v in enumerate(values) if is_missing(v)]
        if bad:
            raise DataError(
                f"{len(bad)} {part} documents have no label in {self.where}, the first is row {rows[bad[0]]}; fill "
                "them in, or leave them out"
            )

    def _refuse_unseen(self, given: list[list[str]], place: dict[str, int], rows: Sequence[Any], part: str) -> None:
        for i, labels in enumerate(given):
            for label in labels:
                if label not in place:
                    raise DataError(
                        f"{self.where}, {part} row {rows[i]}: the label {label!r} does not occur in training. "
                        f"{did_you_mean(label, place)} Correct it, leave the row out, or split so that each label "
                        "trains"
                    )


def find_labels(
    values: Sequence[Any], rows: Sequence[Any], where: str, task: TaskName = "auto", sep: str | None = None,
    names: Sequence[str] = (),
) -> Labels:  # fmt: skip
    """What kind of task the training labels make; a guess that could be another is printed.

    Args:
        values: of the training documents.
        rows: what messages call each document.
        where: what messages call the labels.
        task: "auto" looks at the values.
        sep: what stands between several labels in one cell; makes it a multi-label task.
        names: of the columns, where there are several; each then holds numbers, or zeros and ones.
    """
    known = get_args(TaskName)
    if task not in known:
        raise ArgumentError(f"task must be one of {list(known)}, got {task!r}. {did_you_mean(str(task), known)}")
    if sep is not None and task not in ("auto", "multi_label"):
        raise ArgumentError(f"label_sep parts the labels of a multi-label task, but task={task!r} was given")
    if len(names) > 1:
        return _several(values, rows, where, task, names)
    if sep is None and task in ("auto", "multi_label") and hold_lists(values):
        sep = ""
    kind: Kind = "multi_label" if sep is not None else _guess(values, where) if task == "auto" else task
    if kind == "multi_label" and sep is None:
        raise ArgumentError(
            "task='multi_label' needs label_sep=, what stands between the labels of a cell, lists of labels, or "
            "several label columns"
        )
    if kind == "regression":
        return Labels(regression(names or ("target",)), where)
    present = [v for v in values if not is_missing(v)]
    if kind == "multi_label":
        found = sorted({w for v in present for w in split_labels(v, sep or "")})
        if not found:
            raise DataError(f"{where} holds no label at all")
        return Labels(multi_label(found), where, sep)
    classes = sort_classes({word(v): v for v in present})
    if len(classes) < 2:
        raise DataError(f"{where}: a classifier needs at least two classes in training, got {classes}")
    return Labels(single_label(classes), where)


def _several(values: Sequence[Any], rows: Sequence[Any], where: str, task: TaskName, names: Sequence[str]) -> Labels:
    if task == "single_label":
        raise ArgumentError(f"single_label has one label column, got {list(names)}")
    numbers = _numbers(values, rows, where, "train")
    binary = bool(np.isin(numbers, (0, 1)).all())
    if task == "multi_label" and not binary:
        raise DataError(f"{where}: several label columns must hold zeros and ones")
    if task == "auto":
        print(f"{where}: {'zeros and ones, taken as labels' if binary else 'numbers, so this is regression'}")
    chosen = multi_label(names) if task == "multi_label" or (task == "auto" and binary) else regression(names)
    return Labels(chosen, where)


def _guess(values: Sequence[Any], where: str) -> Kind:
    different = _different_numbers(values)
    if different is None:
        return "single_label"
    if _few_whole(different):
        if different != {0.0, 1.0}:
            print(
                f"{where}: {len(different)} different whole numbers, taken as classes; task='regression' takes numbers"
            )
        return "single_label"
    print(f"{where}: numbers, so this is regression")
    return "regression"


def _different_numbers(values: Sequence[Any]) -> set[float] | None:
    """The values that occur; None where any is no number, or all are missing."""
    present = [v for v in values if not is_missing(v)]
    numbers = [v for v in present if isinstance(v, int | float | np.number) and not isinstance(v, bool | np.bool_)]
    return None if len(numbers) < len(present) or not present else {float(v) for v in numbers}


def _few_whole(different: set[float]) -> bool:
    return len(different) <= MAX_WHOLE_CLASSES and all(v.is_integer() for v in different)


def hold_lists(values: Sequence[Any]) -> bool:
    """Whether each cell that is not missing is a list or a set of labels.

    >>> hold_lists([["rude"], [], None]), hold_lists(["rude"])
    (True, False)
    """
    present = [v for v in values if not is_missing(v)]
    return bool(present) and all(isinstance(v, list | tuple | set | frozenset) for v in present)


def have_classes(values: Sequence[Any], task: TaskName, sep: str | None) -> bool:
    """Whether each cell is one class, so that a split can give each class its share.

    >>> have_classes(["pos", "neg"], "auto", None), have_classes([0.5, 1.7], "auto", None)
    (True, False)
    """
    if sep is not None or task in ("regression", "multi_label") or hold_lists(values):
        return False
    different = _different_numbers(values)
    return task == "single_label" or different is None or _few_whole(different)


def word(value: Any) -> str:
    """A class name: whole numbers without a decimal point, everything else as it is written.

    >>> word(1.0), word("neg"), word(True)
    ('1', 'neg', 'True')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def sort_classes(found: dict[str, Any]) -> list[str]:
    """Class names in order: by value where all are numbers, else by name.

    >>> sort_classes({"10": 10, "9": 9}), sort_classes({"pos": "pos", "neg": "neg"})
    (['9', '10'], ['neg', 'pos'])
    """
    numeric = all(isinstance(v, int | float | np.number) for v in found.values())
    return sorted(found, key=(lambda w: float(found[w])) if numeric else str)


def split_labels(cell: Any, sep: str) -> list[str]:
    """The labels of one cell; none in an empty one.

    >>> split_labels("toxic; rude", ";")
    ['toxic', 'rude']
    """
    if isinstance(cell, list | tuple | set | frozenset):
        return [word(v) for v in cell]
    if is_missing(cell):
        return []
    if not sep:
        return [word(cell)]
    return [w.strip() for w in str(cell).split(sep) if w.strip()]


def _numbers(values: Sequence[Any], rows: Sequence[Any], where: str, part: str) -> npt.NDArray[np.float32]:
    array = np.empty(
        len(values) if not values or np.ndim(values[0]) == 0 else (len(values), len(values[0])), np.float32
    )
    for i, value in enumerate(values):
        try:
            array[i] = value
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}, {part} row {rows[i]}: a number was expected, got {value!r}") from error
    bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))
    if bad.size:
        raise DataError(f"{where}: {bad.size} {part} documents have no finite number, the first is row {rows[bad[0]]}")
    return array.reshape(len(array), -1)
