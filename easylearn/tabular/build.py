"""From a table and options to splits and a fitted preprocessor: split, targets, columns, then codes and numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..data.bunch import SplitName
from ..data.frames import ParquetTable, Table
from ..data.split import Indices, Split, by_class, split_indices
from ..data.target_kinds import OneClass, SeveralLabels
from ..data.targets import TargetOptions, Targets, read_targets, repeated
from ..data.weights import draw_weights
from ..errors import ArgumentError, DataError, EasyLearnWarning
from ..quiet import note
from .columns import find_ids, find_leaks, guess_columns, sample
from .loader import MemorySplit, StreamSplit, TableSplit, fit_streamed
from .options import TableOptions, Target, like_of, target_names
from .preprocess import TablePreprocessor
from .processing import TableProcessor, column_list
from .reports import TransformReport
from .view import TableView

if TYPE_CHECKING:
    import pandas as pd

    Rows = pd.DataFrame | Table

HEAD_ROWS = 200_000  # of a streamed table, from which its columns are guessed
_SHOWN = 10  # columns in a message
_ALL_CLASSES = "Split so that every class is in training: a fraction does, with stratify=True"
Built = tuple[Mapping[SplitName, TableSplit], TablePreprocessor, int, Mapping[SplitName, TransformReport]]
"""What a `TabularData` is made of."""


def build_from_frames(how: TableOptions, target: Target, df: Rows, valid: Split | Rows, test: Rows | None) -> Built:
    """Of tables in memory, those of files with where their rows are; arguments as in `TabularData.from_df`."""
    import pandas as pd

    table = _view("df", df)
    others: dict[SplitName, TableView] = {} if test is None else {"test": _view("test", test)}
    if isinstance(valid, pd.DataFrame | Table):
        others, valid = {"valid": _view("valid", valid), **others}, None
    plan = _plan(how, target_names(target), table, table, valid)
    processor, targets = plan.preprocessor.processor, plan.preprocessor.targets
    if how.like is None:
        encoded = processor.fit_transform(table, plan.train if len(plan.valid) else None)
        warn_of_columns(table, plan.preprocessor)
    else:
        encoded = processor.transform(table)
    inputs, index = encoded.tensors(), table.df.index
    splits: dict[SplitName, TableSplit] = {
        "train": MemorySplit(inputs, index, plan.train, plan.target[plan.train], plan.weights)
    }
    seen: dict[SplitName, TransformReport] = {"train": encoded.report}
    if len(plan.valid):
        splits["valid"] = MemorySplit(inputs, index, plan.valid, plan.target[plan.valid])
    if encoded.split is not None:
        seen["train"], seen["valid"] = encoded.split
    for name, rows in others.items():
        more = processor.transform(rows)
        splits[name] = MemorySplit(more.tensors(), rows.df.index, None, _target_of(targets, rows, name))
        seen[name] = more.report
    return splits, plan.preprocessor, plan.batch_size, seen


def build_from_stream(
    how: TableOptions, target: Target, table: ParquetTable, valid: Split | ParquetTable, test: ParquetTable | None,
    buffer_rows: int,
) -> Built:  # fmt: skip
    """Of parquet tables that are read by row groups; arguments as in `TabularData.from_parquet`."""
    if how.weights is not None:
        raise ArgumentError("a streamed table comes in the order of its row groups, so weights= needs stream=False")
    own: dict[SplitName, Any] = {"valid": valid if isinstance(valid, ParquetTable) else None, "test": test}
    names = target_names(target)
    known = [n for n in (*names, how.groups, how.time) if n in table.columns]
    side = TableView(table.read(list(dict.fromkeys(known)), categories=True))
    head = TableView(table.read(table.columns, HEAD_ROWS))
    plan = _plan(how, names, side, head, None if isinstance(valid, ParquetTable) else valid)
    processor, targets = plan.preprocessor.processor, plan.preprocessor.targets
    seen: dict[SplitName, TransformReport] = {}
    if how.like is None:
        seen["train"], seen["valid"] = fit_streamed(processor, table, plan.train)
        warn_of_columns(head, plan.preprocessor)
    splits: dict[SplitName, TableSplit] = {}
    sides: dict[SplitName, Indices] = {"train": plan.train, "valid": plan.valid}
    for name, rows in sides.items():
        if len(rows):
            splits[name] = StreamSplit(table, processor, rows, plan.target[rows], buffer_rows)
    for name, source in own.items():
        if source is not None:
            there = [n for n in targets.columns if n in source.columns]
            values = _target_of(targets, TableView(source.read(there or source.columns[:1])), name)
            splits[name] = StreamSplit(source, processor, np.arange(source.n_rows), values, buffer_rows)
    return splits, plan.preprocessor, plan.batch_size, seen


def build_of_split(
    how: TableOptions, table: TableView, targets: Targets, target: Tensor, rows: Mapping[SplitName, Indices],
    weights: npt.NDArray[np.float64] | None = None, like: TablePreprocessor | None = None,
) -> Built:  # fmt: skip
    """Of a table that is split already, and whose targets are read: items that have other inputs, too.

    Args:
        how: names the columns; what it says of splits and targets is left aside.
        table: all rows.
        targets: as learnt from the training rows.
        target: of all rows.
        rows: of each split.
        weights: how often each training row is drawn.
        like: whose codes and scales to take; None learns them.
    """
    cats, conts = column_list(how.cat_names or (), "cat_names"), column_list(how.cont_names or (), "cont_names")
    kept = {"scale": how.scale, "fill": how.fill, "min_count": how.min_count, "max_levels": how.max_levels}
    made = TablePreprocessor(TableProcessor(cats, conts, **kept), targets, how.y_range)  # type: ignore[arg-type]
    if like is None:
        encoded = made.processor.fit_transform(table, rows["train"] if len(rows) > 1 else None)
        warn_of_columns(table, made)
    else:
        made = like
        encoded = made.processor.transform(table)
    seen: dict[SplitName, TransformReport] = {"train": encoded.report}
    if encoded.split is not None:
        seen["train"], seen["valid"] = encoded.split
    inputs, index = encoded.tensors(), table.df.index
    splits: dict[SplitName, TableSplit] = {
        name: MemorySplit(inputs, index, at, target[at], weights if name == "train" else None)
        for name, at in rows.items()
    }
    return splits, made, default_batch_size(len(rows["train"])) if how.batch_size is None else how.batch_size, seen


@dataclass(frozen=True)
class _Plan:
    """What follows from the options and the table; the processor may still have to learn."""

    train: Indices
    valid: Indices
    preprocessor: TablePreprocessor
    batch_size: int
    target: Tensor
    weights: npt.NDArray[np.float64] | None


def _plan(how: TableOptions, names: list[str], side: TableView, head: TableView, valid: Split) -> _Plan:
    """Split the rows, and find the targets `names` and the columns.

    `side` has all rows, with the columns of targets, groups and times at least; `head` has some rows of all columns.
    """
    side.require([*names, *(n for n in (how.groups, how.time) if n is not None)])
    like = like_of(how)
    if like is not None and tuple(names) != like.targets.columns:
        raise ArgumentError(f"the data in like= predicts {list(like.targets.columns)}, so target cannot be {names}")
    if like is None:
        options = TargetOptions(how.task, how.label_sep, how.log_target)
        given = read_targets(side.df, options, names=names, where=side.where)
        codes = given.stratify_codes()
        train, held_out = split_rows(side, how, codes, valid)
        if given.how is OneClass and codes is None and len(held_out):
            raise DataError(
                f"each of the {len(given)} rows of the target {names[0]!r} is a class of its own, so that none can "
                "be learnt and validated. Names, texts and dates cannot be predicted as they are; valid=None trains all"
            )
        columns = _columns(head, how, names)
        processor = TableProcessor(
            *columns, scale=how.scale, fill=how.fill, min_count=how.min_count, max_levels=how.max_levels
        )
        made = TablePreprocessor(processor, given.learn(train), how.y_range)
        target = made.targets.encode(given, hint=_ALL_CLASSES)
        if given.how is OneClass and given.rows.coded is not None:
            side[names[0]].coded = given.rows.coded
    else:
        target = like.targets.encode(side.df, where=side.where)
        codes = repeated(target.numpy()) if target.ndim == 1 else None
        train, held_out = split_rows(side, how, codes, valid)
        made = TablePreprocessor(like.processor, like.targets, like.y_range if how.y_range is None else how.y_range)
    size = default_batch_size(len(train)) if how.batch_size is None else how.batch_size
    weights = row_weights(how, side, train, target[train], made.targets.task.classes)
    return _Plan(train, held_out, made, size, target, weights)


def split_rows(side: TableView, how: TableOptions, codes: Indices | None, valid: Split) -> tuple[Indices, Indices]:
    """Positions of training and of validation rows; `codes` are classes of which each may have its share of them."""
    groups, time = how.groups, how.time
    stratify = by_class(codes, valid, how.stratify, groups=groups, time=time)
    by_group, by_time = (None if name is None else side[name].series for name in (groups, time))
    index = side.df.index
    return split_indices(len(side), valid, seed=how.seed, stratify=stratify, groups=by_group, time=by_time, index=index)


def row_weights(
    how: TableOptions, table: TableView, train: Indices, target: Tensor, classes: Sequence[str]
) -> npt.NDArray[np.float64] | None:
    """How often each training row comes."""
    import pandas as pd

    given = how.weights
    if isinstance(given, pd.Series) and not given.index.equals(table.df.index):
        raise ArgumentError("weights is a Series with another index than the table's; give an array to go by position")
    if isinstance(given, str) and given in table.df.columns:
        given = table[given].numbers
    if given is None or isinstance(given, str | Mapping):
        return draw_weights(given, len(train), target, classes)
    if len(given) != len(table):
        raise ArgumentError(f"weights has {len(given)} entries, the table {len(table)} rows")
    return draw_weights(np.asarray(given)[train], len(train))


def _columns(head: TableView, how: TableOptions, targets: list[str]) -> tuple[list[str], list[str]]:
    """The feature columns: those named, and where none were named those guessed, which are printed."""
    cats = None if how.cat_names is None else column_list(how.cat_names, "cat_names")
    conts = None if how.cont_names is None else column_list(how.cont_names, "cont_names")
    named, dropped = [*(cats or ()), *(conts or ())], dict[str, str]()
    head.require(named)
    if both := [n for n in named if n in targets]:
        raise ArgumentError(f"{both} are to be predicted, so they are no features; cat_names and cont_names name them")
    if cats is None or conts is None:
        special = {n: "it says how to split" for n in (how.groups, how.time) if n in head.names}
        if isinstance(how.weights, str) and how.weights in head.names:
            special[how.weights] = "it says how often a row comes"
        guess = guess_columns(head, [n for n in head.names if n not in {*named, *targets, *special}])
        guess.dropped |= {n: why for n, why in special.items() if n not in named}
        if cats is not None:
            guess.dropped |= dict.fromkeys(guess.cat_names, "a category that cat_names does not name")
            guess.cat_names = cats
        if conts is not None:
            guess.dropped |= dict.fromkeys(guess.cont_names, "a number that cont_names does not name")
            guess.cont_names = conts
        note(str(guess))
        cats, conts, dropped = guess.cat_names, guess.cont_names, guess.dropped
    if not cats and not conts:
        left_out = "".join(f"\n  {n}: {why}" for n, why in list(dropped.items())[:_SHOWN])
        raise DataError(f"no column is left as a feature; name some in cat_names or cont_names{left_out}")
    return cats, conts


def warn_of_columns(table: TableView, preprocessor: TablePreprocessor) -> None:
    """Warn of features that name the rows, or give a target away."""
    processor = preprocessor.processor
    targets = [n for n in preprocessor.targets.columns if n in table.df.columns]
    few = sample(table, [*processor.names, *targets])
    for name in find_ids(table, few, processor.cat_names):
        _warn(
            f"{name!r} has nearly as many values as there are rows: it names the rows, and says little about new ones. "
            "Leave the column out, or fold rare values with min_count"
        )
    for target in targets:
        for _, why in find_leaks(few, target, processor.names):
            _warn(f"{why}. Would it be known when a prediction is wanted? Otherwise leave the column out")


def _warn(message: str) -> None:
    warnings.warn(message, EasyLearnWarning, stacklevel=6)


def _view(what: str, rows: Any) -> TableView:
    import pandas as pd

    frame = rows.frame if isinstance(rows, Table) else rows
    if not isinstance(frame, pd.DataFrame):
        raise ArgumentError(f"{what} must be a pandas DataFrame, got {type(frame).__name__}")
    if not len(frame):
        raise DataError(f"{what} has no rows")
    return TableView(frame, rows.where if isinstance(rows, Table) else None)


def _target_of(targets: Targets, rows: TableView, split: SplitName) -> Tensor | None:
    """The targets of a table of its own; those of test may be left out, or be incomplete."""
    names = list(targets.columns)
    if split == "test":
        gaps = rows.df[names].isna().to_numpy() if set(names) <= set(rows.df.columns) else np.ones(1, np.bool_)
        # Where an item may have any number of labels, an empty cell is one without.
        if gaps.all() if isinstance(targets.how, SeveralLabels) else gaps.any():
            return None
    try:
        return targets.encode(rows.df, where=rows.where, split=split)
    except DataError as error:
        if split != "test":
            raise
        warnings.warn(f"the targets of test are left out: {error}", EasyLearnWarning, stacklevel=6)
        return None


def default_batch_size(n_rows: int) -> int:
    """A power of two that gives at least 128 steps an epoch, from 64 to 1024."""
    return next((size for size in (1024, 512, 256, 128) if size * 128 <= n_rows), 64)
