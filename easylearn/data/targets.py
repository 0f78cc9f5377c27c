"""Targets: what is to be predicted (a class, several labels, numbers), and its values as a tensor.

Images, texts and tables read what they predict by this one table of rules; docs/labels.md shows it. What counts is the
value, not the type that holds it. The kind of task follows from all the items that are given, classes from the training
items only.

    given = read_targets(df["kind"], TargetOptions(task=task, label_sep=label_sep), where=table.where)
    train, valid = split_indices(len(given), 0.2, stratify=given.stratify_codes())
    targets = given.learn(train)
    y = targets.encode(given)  # of all items, in their order
    more = targets.encode(other["kind"], where=other_table.where, split="valid")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor

from .. import quiet
from ..errors import ArgumentError, DataError
from ..task import Task
from .cells import read_cell
from .label_words import as_list, forgotten_separator, is_whole, word
from .levels import NUMBERS, kind
from .target_kinds import (
    KINDS,
    Flags,
    Indices,
    Numbers,
    OneClass,
    SeveralLabels,
    TargetKind,
    TargetOptions,
    TargetRows,
    TaskName,
    Where,
    coded_labels,
    label_lists,
)
from .times import says_date
from .values import Coded, factorize, is_missing, numbers, require_columns, row_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GivenTargets", "TargetOptions", "Targets", "TaskName", "read_targets", "repeated"]

MAX_WHOLE_CLASSES = 20  # more different whole numbers than these are numbers, not classes
_DAYS = "(pd.to_datetime(df[{name!r}]) - some_day).dt.days"
_MANY_CLASSES = 2000  # that many are taken whatever they are
_SAMPLE = 2000  # rows that mostly tell whether a column holds few whole numbers
_INSTEAD = {
    "dates": "for numbers take (df[{name!r}] - some_day).dt.days, for classes df[{name!r}].astype(str)",
    "durations": "for numbers take df[{name!r}].dt.total_seconds(), for classes df[{name!r}].astype(str)",
    "complex numbers": "predict their parts, .real and .imag, as two columns",
}
_AUTO = TargetOptions()
_TIMES = {"date": "dates", "timestamp": "dates", "period": "dates", "timedelta": "durations"}


@dataclass(frozen=True)
class GivenTargets:
    """The values to predict of some items, looked at once: what kind of task they make, and how they are read.

    Args:
        rows: the values.
        columns: what the columns are called that held them: "target" where they have no name.
        names: what each number or label is called, where its column says so.
        how: the kind of reading.
        options: what the user said.
        note: a sentence on what was guessed, where it could be another; else empty.
    """

    rows: TargetRows
    columns: tuple[str, ...]
    names: tuple[str, ...]
    how: type[TargetKind]
    options: TargetOptions
    note: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def task_name(self) -> TaskName:
        """The kind of task, as `TargetOptions.task` says it."""
        return cast(TaskName, self.how.task_name)

    def stratify_codes(self) -> Indices | None:
        """Class numbers (n,) by which a split can give each class its share; None where no class repeats.

        Raises:
            DataError: an item has no label.
        """
        if self.how is not OneClass:
            return None
        codes, values = coded_labels(self.rows)
        first: dict[str, int] = {}
        same = np.array([first.setdefault(word(v), i) for i, v in enumerate(values)], np.int64)
        return repeated(same[codes])

    def learn(self, train: Indices | None = None) -> Targets:
        """The targets, with classes from the training items at positions `train`; None means all.

        Raises:
            DataError: a value is missing, there is one class only, or a number has no logarithm; rows are named.
        """
        found = self.how.learn(self.rows, train, self.options)
        task = found.task(self.names)
        if task.predicts_numbers:
            target = found.encode(self.rows)
            task = task.fitted(target if train is None else target[train])
        return Targets(self.columns, task, found)


@dataclass(frozen=True)
class Targets:
    """What is predicted, learnt from training items; made by `read_targets(...).learn(train)`.

    Args:
        columns: their names; "target" where what was given had none.
        task: what they make together.
        how: how values are read.
    """

    columns: tuple[str, ...]
    task: Task
    how: TargetKind

    def encode(
        self, values: Any, *, where: Where | None = None, split: str = "train", hint: str | None = None
    ) -> Tensor:
        """The targets of some items: class numbers, int64 (n,), for a task of one class; otherwise float32 (n, k).

        Numbers that float32 would blur are float64; see `Regression.dtype`.

        Args:
            values: what `read_targets` gave; or what it takes. Of a DataFrame the columns are taken.
            where: a row's position to what messages call it.
            split: "train", "valid" or "test", for messages.
            hint: what to do about a label that no training item has, such as "pass stratify=True".

        Raises:
            DataError: a value is missing, is not what the task needs, or is a class that training does not have.
        """
        if isinstance(values, GivenTargets):
            rows = values.rows
        else:
            columns = _columns(values, self.columns)
            if isinstance(self.how, Flags | Numbers) and len(columns) == 1 and _hold_lists(columns[0]):
                columns = _spread(columns[0], where)
            rows = _rows(columns, where)
        if isinstance(self.how, Flags | Numbers) and len(rows.columns) != self.task.n_out:
            n = len(rows.columns)
            raise DataError(f"{n} columns to predict, but training had {self.task.n_out}: {', '.join(self.task.names)}")
        target = self.how.encode(replace(rows, split=split, hint=rows.hint if hint is None else hint))
        return self.task.check_target(target) if self.task.predicts_numbers else target

    def state_dict(self) -> dict[str, Any]:
        """All of it but the task, in what JSON can hold."""
        return {"columns": list(self.columns), **self.how.state_dict()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], task: Task) -> Targets:
        """Targets as `state_dict` described them; also as version 0.1 wrote tables.

        Raises:
            DataError: the state is damaged.
        """
        try:
            columns = tuple(map(str, state["columns"]))
            older = "classes" if state["labels"] is not None else "flags" if task.classes else "numbers"
            reading = state.get("reading", older)
            if (reading == "classes", reading == "numbers") != (task.is_exclusive, task.predicts_numbers):
                raise TypeError(f"{reading} of a {task.kind} task")
            how = KINDS[reading].from_state(state, task.n_out)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"the saved target is damaged: {error!r}") from error
        return cls(columns, task, how)


def read_targets(
    values: Any,
    options: TargetOptions = _AUTO,
    *,
    names: Sequence[str] | None = None,
    where: Where | None = None,
    say: bool = True,
) -> GivenTargets:
    """Look at values to predict: what kind of task do they make?

    Args:
        values: one per item: a list, array, tensor or Series; lists of labels; a DataFrame or an array of shape (n, k)
            for several columns.
        options: what the user said.
        names: the columns to take of a DataFrame; of other values, what they are called.
        where: a row's position to what messages call it, such as `Table.where`; None says "row 3".
        say: print what was guessed, where it could be another.

    Raises:
        ArgumentError: the options do not fit the values.
        DataError: the values cannot be predicted: dates, or text in one of several columns.

    >>> given = read_targets([1.0, 2.0, 10.0, 2.0])
    target label: 3 different whole numbers, taken as classes; task='regression' takes numbers
    >>> targets = given.learn()
    >>> targets.task.names, targets.encode(given).tolist(), targets.encode(["10", 2]).tolist()
    (('1', '2', '10'), [0, 1, 2, 1], [2, 1])
    """
    given = _columns(values, names)
    spread = len(given) == 1 and _are_columns(given[0], options)
    columns = _spread(given[0], where) if spread else given
    for column in columns:
        _refuse_type(column)
    rows = _rows(columns, where)
    how, coded, note = _several(rows, options) if len(columns) > 1 else _one(rows, options)
    if note and say:
        quiet.note(note)
    called = _names_of(columns, how)
    held = _names_of(given, how) if spread else called
    return GivenTargets(replace(rows, coded=coded), held, called, how, options, note)


def repeated(codes: Indices) -> Indices | None:
    """The codes if any comes twice; None where each item is a class of its own, which no split can share out."""
    return codes if len(codes) and np.bincount(codes).max() > 1 else None


# -- from what was given to columns --------------------------------------------------------------------------


def _columns(values: Any, names: Sequence[str] | None) -> tuple[pd.Series[Any], ...]:
    """Values of any form as columns; those without a name are numbered, or called None if there is one only."""
    import pandas as pd

    if isinstance(values, pd.DataFrame):
        by_text = {str(c): c for c in values.columns}  # a column may be called 7, but not in a task
        chosen = list(values.columns) if names is None else [by_text.get(str(n), n) for n in names]
        if not chosen:
            raise ArgumentError("name at least one target column")
        require_columns(values, chosen)
        return tuple(values[name].rename(str(name)) for name in chosen)
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.ndim == 2:
        called = names if names is not None and len(names) == values.shape[1] else range(values.shape[1])
        return tuple(pd.Series(values[:, j], name=name) for j, name in enumerate(called))
    if isinstance(values, str | Mapping | Set) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise ArgumentError(
            "what to predict must come as a list, array or column with one entry per item, or as a table or array of "
            f"one row per item, got {type(values).__name__}"
        )
    if not isinstance(values, pd.Series):
        given = [v.tolist() if isinstance(v, Tensor | np.ndarray) else v for v in values]
        values = pd.Series(given, dtype=None if given else object)
    return (values if names is None else values.rename(names[0]),)


def _rows(columns: tuple[pd.Series[Any], ...], where: Where | None) -> TargetRows:
    called = tuple(c.rename("label") if c.name is None else c for c in columns)
    named = all(c.name is not None for c in columns)
    return TargetRows(called, where or partial(row_name, columns[0]), in_table=named)


def _names_of(columns: Sequence[pd.Series[Any]], how: type[TargetKind]) -> tuple[str, ...]:
    """What the columns are called in the task."""
    if len(columns) == 1:
        return ("target" if columns[0].name is None else str(columns[0].name),)
    return tuple(f"target {c.name}" if isinstance(c.name, int) and how is Numbers else str(c.name) for c in columns)


def _hold_lists(column: pd.Series[Any]) -> bool:
    """Whether the first cell that is not missing is a list of something."""
    import pandas as pd

    if column.dtype != np.object_ and not isinstance(column.dtype, pd.ArrowDtype):
        return False
    present = column.notna().to_numpy()
    return bool(present.any()) and as_list(column.iloc[int(present.argmax())]) is not None


def _are_columns(column: pd.Series[Any], options: TargetOptions) -> bool:
    """Whether lists in cells are rows of numbers, or of 0 and 1 for the classes given, and not lists of labels."""
    if options.label_sep is not None or not _hold_lists(column):
        return False
    if options.task == "regression" or options.log_target:
        return True
    if options.classes is None or options.task == "single_label":
        return False
    n, cells = len(options.classes), [as_list(cell) or [] for cell in column.tolist()]
    return all(len(cell) == n and all(not is_missing(v) and v in (0, 1) for v in cell) for cell in cells)


def _spread(column: pd.Series[Any], where: Where | None) -> tuple[pd.Series[Any], ...]:
    """Lists of equal length as columns."""
    import pandas as pd

    cells = [as_list(cell) for cell in column.tolist()]
    widths = Counter(len(cell) for cell in cells if cell)
    width = max(widths, key=lambda w: (widths[w], w), default=0)
    odd = next((i for i, cell in enumerate(cells) if not cell or len(cell) != width), None)
    if odd is not None:
        raise DataError(
            f"{(where or partial(row_name, column))(odd)} of the target {column.name or 'label'!r}: "
            f"{column.iloc[odd]!r:.60}; each row needs as many numbers, here {width}"
        )
    names = [j if column.name is None else f"{column.name} {j}" for j in range(width)]
    return tuple(pd.Series([c[j] for c in cells if c], index=column.index, name=name) for j, name in enumerate(names))


# -- what kind of task ---------------------------------------------------------------------------------------

Found = tuple[type[TargetKind], "Coded | None", str]


def _one(rows: TargetRows, options: TargetOptions) -> Found:
    """How one column is read, what was found on the way, and a sentence about a guess."""
    column = rows.columns[0]
    if options.label_sep is not None or _hold_lists(column):
        return SeveralLabels, _lists(rows, options), ""
    if options.task == "regression" or options.log_target:
        return Numbers, None, ""
    if options.task == "multi_label":
        if not _is_numeric(column):
            raise ArgumentError(
                "task='multi_label' needs label_sep=, what stands between the labels of a cell, or lists of labels, or "
                f"columns of 0 and 1; the target {column.name!r} holds one text per row"
            )
        return Flags, None, ""
    if options.task == "auto" and options.classes is None:
        return _guess(rows)
    coded = factorize(column)
    _refuse_times(rows, coded)
    return OneClass, coded, ""


def _guess(rows: TargetRows) -> Found:
    """As `_one`, by the values alone."""
    import pandas as pd

    column = rows.columns[0]
    name, types = column.name, pd.api.types
    coded: Coded | None
    if types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        coded = _few_whole(column)
    else:
        coded = factorize(column)
        _refuse_times(rows, coded)
        kinds = {kind(v) for v in coded[1]}
        if not kinds or isinstance(column.dtype, pd.CategoricalDtype) or not kinds <= NUMBERS:
            _refuse_names(str(name), len(rows), coded)
            return OneClass, coded, _note_on_text(str(name), len(rows), coded)
        coded = coded if _are_few_whole(coded[1]) else None
    if coded is None:
        return Numbers, None, f"target {name}: numbers, so this is regression; task='single_label' takes classes"
    few = f"target {name}: {len(coded[1])} different whole numbers, taken as classes; task='regression' takes numbers"
    plain = len(coded[1]) < 2 or {word(v) for v in coded[1]} <= {"0", "1", "True", "False"}
    return OneClass, coded, "" if plain else few


def _several(rows: TargetRows, options: TargetOptions) -> Found:
    """How several columns are read: 0 and 1 are labels, other numbers are numbers."""
    names = [str(c.name) for c in rows.columns]
    if options.label_sep is not None:
        raise ArgumentError(f"label_sep parts the labels of one column, got {len(names)}: {names}")
    if options.task == "single_label":
        raise ArgumentError(f"single_label has one target column, got {len(names)}: {names}")
    text = [n for n, c in zip(names, rows.columns, strict=True) if not _is_numeric(c)]
    if text:
        raise DataError(f"several targets must be numbers, or 0 and 1, but {text} are not; predict one at a time")
    if options.task == "regression" or options.log_target:
        return Numbers, None, ""
    if options.task == "multi_label" or options.classes is not None:
        return Flags, None, ""
    for column in rows.columns:
        x = numbers(column, "target", rows.where)
        if not ((x == 0) | (x == 1) | np.isnan(x)).all():
            return Numbers, None, f"targets {', '.join(names)}: numbers, so this is regression"
    note = f"targets {', '.join(names)}: zeros and ones, taken as labels; task='regression' takes numbers"
    return Flags, None, note


def _lists(rows: TargetRows, options: TargetOptions) -> Coded:
    """The labels of each item, out of lists or text."""
    column = rows.columns[0]
    if options.task == "single_label":
        raise ArgumentError(f"single_label has one class per item, but the target {column.name!r} holds lists")
    if not _hold_lists(column):
        return label_lists(rows, options.label_sep)
    if options.label_sep is not None:
        raise ArgumentError(f"label_sep parts text, but the target {column.name!r} holds lists of labels; leave it out")
    coded = label_lists(rows, None)
    if any(isinstance(v, float | Decimal) and not is_whole(v) for v in set(chain.from_iterable(coded[1]))):
        raise DataError(
            f"the target {column.name!r} holds lists of numbers that are no labels; task='regression' predicts them"
        )
    return coded


def _is_numeric(column: pd.Series[Any]) -> bool:
    """Whether the values are numbers or truth values, in a column of any type but categories."""
    import pandas as pd

    types = pd.api.types
    if column.dtype != np.object_ or _hold_lists(column):
        return bool(types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype))
    return {kind(v) for v in factorize(column)[1]} <= NUMBERS


def _few_whole(column: pd.Series[Any]) -> Coded | None:
    """What `factorize` gives for a column of few different whole numbers; None for others, mostly after a glance."""
    some = numbers(column.iloc[:_SAMPLE])
    some = np.unique(some[~np.isnan(some)])
    if len(some) > MAX_WHOLE_CLASSES or (some != np.floor(some)).any():
        return None
    coded = factorize(column)
    return coded if _are_few_whole(coded[1]) else None


def _are_few_whole(values: Sequence[Any]) -> bool:
    return len(values) <= MAX_WHOLE_CLASSES and all(map(is_whole, values))


def _note_on_text(name: str, n_rows: int, coded: Coded) -> str:
    """A sentence where text that was taken for classes looks like something else."""
    words = list(dict.fromkeys(word(v) for v in coded[1] if isinstance(v, str)))
    if words and all(w[:1] + w[-1:] in ("[]", "()", "{}") for w in words):
        return (
            f"target {name}: {len(words)} classes, such as {words[0]!r:.60}; if these are lists of labels that were "
            f"written as text, read them: df[{name!r}].map(ast.literal_eval)"
        )
    sep = forgotten_separator(words)
    if sep is not None:
        return f"target {name}: {len(words)} classes, such as {words[0]!r}; did you mean label_sep={sep!r}?"
    said = [read_cell(w) for w in words[: 10 * MAX_WHOLE_CLASSES]]
    if words and not any(isinstance(v, str | bool) or v is None for v in said) and not _are_few_whole(said):
        return f"target {name}: text that says numbers, taken as {len(words)} classes; task='regression' takes numbers"
    if len(words) > MAX_WHOLE_CLASSES and all(map(says_date, words[:100])):
        days = _DAYS.format(name=name)
        return f"target {name}: text that says dates, taken as {len(words)} classes; for numbers take {days}"
    if len(words) > max(MAX_WHOLE_CLASSES, 0.5 * n_rows):
        return (
            f"target {name}: {len(words)} classes in {n_rows} rows, such as {words[0]!r:.60}; what has a row or two "
            "only cannot be learnt. Is it a name, or a text?"
        )
    return ""


def _refuse_names(name: str, n_rows: int, coded: Coded) -> None:
    """Refuse what mostly names its rows: a network with an output for each takes all memory, and learns nothing."""
    n = len(coded[1])
    if n > max(_MANY_CLASSES, n_rows / 2):
        are_dates = all(map(says_date, coded[1][:100]))
        instead = f"For numbers take {_DAYS.format(name=name)}" if are_dates else "Take another column"
        raise DataError(
            f"the target {name!r} has {n:,} different values in {n_rows:,} rows, such as {coded[1][0]!r:.60}: names, "
            f"dates and texts cannot be learnt as classes. {instead}; if they are classes, pass task='single_label'"
        )


def _refuse_type(column: pd.Series[Any]) -> None:
    """Refuse a column whose type says that nothing can be predicted of it as it is."""
    import pandas as pd

    dtype = column.dtype
    dates = pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype)
    what = "dates" if dates else {"m": "durations", "c": "complex numbers"}.get(dtype.kind)
    if what:
        raise _unfit(what, column, str(dtype))


def _refuse_times(rows: TargetRows, coded: Coded) -> None:
    """Refuse dates and durations in a column of objects; the categories of a categorical may be any."""
    import pandas as pd

    column = rows.columns[0]
    for i, value in enumerate(coded[1]):
        if kind(value) in _TIMES and not isinstance(column.dtype, pd.CategoricalDtype):
            raise _unfit(_TIMES[kind(value)], column, f"{value!r} in {rows.where(int(np.argmax(coded[0] == i)))}")


def _unfit(what: str, column: pd.Series[Any], found: str) -> DataError:
    name = "label" if column.name is None else column.name
    instead = _INSTEAD[what].format(name=name)
    return DataError(f"the target {name!r} holds {what} ({found}), which cannot be predicted as they are: {instead}")
