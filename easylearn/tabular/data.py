"""Tables for a Learner: a DataFrame, a csv or a parquet file becomes `TabularData`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data._old_bunch import Data, Loader, PartedData, PartName, RuntimeInputs
from ..data._old_loaders import TensorLoader
from ..data.frames import ParquetTable, iter_table, known_types, read_table
from ..data.split import Indices, Split, fraction_of, split_indices
from ..data.targets import TargetOptions, Targets, TaskName, read_targets, repeated
from ..data.values import require_columns
from ..errors import ArgumentError, DataError, EasyLearnWarning, WeightsError
from ..files import StrPath
from ..options import strict
from ..task import Task
from .columns import Sample, guess_columns, ids_in, leaks_in
from .loader import BUFFER_ROWS, MemoryPart, Part, StreamPart, fit_streamed, memory_limit
from .processing import Encoded, Fill, Scale, TableProcessor
from .ranges import YRange
from .reports import TransformReport

if TYPE_CHECKING:
    import pandas as pd

RECIPE = "table"
HEAD_ROWS = 200_000  # of a streamed table, from which its columns are guessed
IN_MEMORY = 3  # how many times larger a table is in memory than uncompressed in its file, roughly
_OLD_NAMES = {
    "bs": "batch_size",
    "y": "target",
    "y_names": "target",
    "dep_var": "target",
    "cat_flds": "cat_names",
    "cat_vars": "cat_names",
    "contin_vars": "cont_names",
    "val_idxs": "valid",
    "valid_idx": "valid",
    "splits": "valid",
    "valid_pct": "valid",
    "test_df": "test",
    "df_test": "test",
    "procs": "There are no procs: scale=, fill= and min_count= say how columns become numbers.",
    "y_block": "task",
}


class TabularData(PartedData[Part]):
    """A table in train, valid and maybe test: two tensors each, codes of categories and scaled numbers.

    Make one with `from_df`, `from_csv` or `from_parquet`. Every value that training did not know has a place:
    categories have codes for *unknown* and *missing*, missing numbers are filled and flagged. `report()` counts them.

    Args:
        parts: "train", and maybe "valid" and "test".
        processor: fitted on the training rows.
        targets: which columns are predicted.
        batch_size: rows in a training batch.
        y_range: bounds of the predictions; see `tabular_learner`.
        reports: what was met in each part.
        shuffle: train in a new order in each epoch.
    """

    def __init__(
        self,
        parts: Mapping[PartName, Part],
        processor: TableProcessor,
        targets: Targets,
        batch_size: int,
        *,
        y_range: YRange = None,
        reports: Mapping[str, TransformReport] | None = None,
        shuffle: bool = True,
    ) -> None:
        super().__init__(targets.task, batch_size)
        if "train" not in parts or not len(parts["train"]):
            raise DataError("no rows are left to train on")
        self._parts = dict(parts)
        self.processor = processor
        self.targets = targets
        self.y_range = y_range
        self.shuffle = shuffle
        self._reports: dict[str, TransformReport] = dict(reports or {})

    # -- ways to make one ----------------------------------------------------------------------------------

    @classmethod
    @strict(_OLD_NAMES)
    def from_df(
        cls,
        df: pd.DataFrame,
        target: str | Sequence[str],
        *,
        cat_names: Sequence[str] | None = None,
        cont_names: Sequence[str] | None = None,
        valid: Split | pd.DataFrame | None = 0.2,
        stratify: bool | None = None,
        groups: str | None = None,
        time: str | None = None,
        test: pd.DataFrame | None = None,
        task: TaskName = "auto",
        log_target: bool = False,
        y_range: YRange = None,
        batch_size: int | None = None,
        scale: Scale = "standard",
        fill: Fill = "median",
        min_count: int = 1,
        max_levels: int | None = None,
        like: TabularData | None = None,
        seed: int = 0,
    ) -> TabularData:
        """A DataFrame with one row per item.

        Args:
            df: features and targets; it is left as it is.
            target: the column to predict, or several.
            cat_names: columns of categories; None guesses them by type and by how many values they hold, and prints
                what was found.
            cont_names: columns of numbers; None guesses them.
            valid: a fraction; positions of rows or a mask; a DataFrame of its own; None for no validation. With
                `time` also a length of time such as "6W".
            stratify: give each class its share of the validation rows; None does so where classes are split by a
                fraction.
            groups: a column; all rows of one of its values stay on one side.
            time: a column; the last rows by it validate.
            test: rows to predict; their targets, if there are any, are not looked at.
            task: "single_label", "multi_label", "regression", or "auto" to look at the target.
            log_target: learn the logarithm of numbers (of numbers plus one, where there are zeros), so that errors
                count in proportion. Predictions and metrics stay in the target's own units.
            y_range: (low, high) or "auto": keep predicted numbers between bounds; see `tabular_learner`.
            batch_size: rows in a batch; None takes 64 to 1024, by the number of rows.
            scale: "standard", "quantile" or "none"; see `TableProcessor`.
            fill: what missing numbers become: "median", "mean" or "constant" (0).
            min_count: levels with fewer training rows count as *unknown*.
            max_levels: the most levels that a column keeps.
            like: take columns, codes, scales and classes of this data, for a model that was trained with it.
            seed: of the split by fraction.

        Returns:
            The data.

        Raises:
            ArgumentError: arguments contradict each other.
            DataError: a column is missing or holds what it should not; the message names column, row and value.
        """
        options = _Options(
            _target_names(target), cat_names, cont_names, stratify, groups, time, task, log_target, y_range,
            batch_size, scale, fill, min_count, max_levels, like, seed,
        )  # fmt: skip
        return cls._from_frames(options, df, valid, test)

    @classmethod
    @strict(_OLD_NAMES)
    def from_csv(
        cls,
        path: StrPath,
        target: str | Sequence[str],
        *,
        cat_names: Sequence[str] | None = None,
        cont_names: Sequence[str] | None = None,
        valid: Split | StrPath | None = 0.2,
        stratify: bool | None = None,
        groups: str | None = None,
        time: str | None = None,
        test: StrPath | None = None,
        task: TaskName = "auto",
        log_target: bool = False,
        y_range: YRange = None,
        batch_size: int | None = None,
        scale: Scale = "standard",
        fill: Fill = "median",
        min_count: int = 1,
        max_levels: int | None = None,
        like: TabularData | None = None,
        seed: int = 0,
    ) -> TabularData:
        """A csv file with a header; see `from_df`. `valid` and `test` may be files, too."""
        options = _Options(
            _target_names(target), cat_names, cont_names, stratify, groups, time, task, log_target, y_range,
            batch_size, scale, fill, min_count, max_levels, like, seed,
        )  # fmt: skip
        file, split = _file_or_split(valid, time)
        df = read_table(path).frame
        types = known_types(df)  # so that other files are read as this one was
        return cls._from_frames(
            options,
            df,
            split if file is None else read_table(file, **types).frame,
            None if test is None else read_table(test, **types).frame,
        )

    @classmethod
    @strict(_OLD_NAMES)
    def from_parquet(
        cls,
        path: StrPath,
        target: str | Sequence[str],
        *,
        cat_names: Sequence[str] | None = None,
        cont_names: Sequence[str] | None = None,
        valid: Split | StrPath | None = 0.2,
        stratify: bool | None = None,
        groups: str | None = None,
        time: str | None = None,
        test: StrPath | None = None,
        task: TaskName = "auto",
        log_target: bool = False,
        y_range: YRange = None,
        batch_size: int | None = None,
        scale: Scale = "standard",
        fill: Fill = "median",
        min_count: int = 1,
        max_levels: int | None = None,
        like: TabularData | None = None,
        seed: int = 0,
        stream: bool | None = None,
        memory: int | None = None,
        buffer_rows: int = BUFFER_ROWS,
    ) -> TabularData:
        """A parquet file, or a folder of them; see `from_df`. It needs pyarrow: `pip install "easylearn[parquet]"`.

        A table that does not fit into memory is streamed: row groups come in a new order in each epoch, and rows are
        mixed in a buffer. Fitting reads it by row groups, too. So what must fit is one row group, the
        buffer as numbers, the different values of all categorical columns, and some 40 bytes for each row: on which
        side it is, and its target.

        Args:
            path: the file or folder.
            target, cat_names, cont_names, valid, stratify, groups, time, test, task, log_target, y_range, batch_size,
                scale, fill, min_count, max_levels, like, seed: see `from_df`; `valid` and `test` may be files, too.
            stream: True or False; None streams a table that would take more than `memory`.
            memory: bytes; None is half of this machine's.
            buffer_rows: how many rows are mixed with one another.
        """
        if buffer_rows < 1:
            raise ArgumentError(f"buffer_rows must be at least 1, got {buffer_rows}")
        options = _Options(
            _target_names(target), cat_names, cont_names, stratify, groups, time, task, log_target, y_range,
            batch_size, scale, fill, min_count, max_levels, like, seed,
        )  # fmt: skip
        table = ParquetTable(path)
        file, split = _file_or_split(valid, time)
        own_valid = None if file is None else ParquetTable(file)
        test_table = None if test is None else ParquetTable(test)
        if stream is None:
            stream = table.n_bytes * IN_MEMORY > (memory_limit() if memory is None else memory)
        if stream:
            return cls._from_stream(options, table, own_valid or split, test_table, buffer_rows)
        return cls._from_frames(
            options,
            table.read(table.columns),
            split if own_valid is None else own_valid.read(own_valid.columns),
            None if test_table is None else test_table.read(test_table.columns),
        )

    @classmethod
    def _from_frames(
        cls, options: _Options, df: pd.DataFrame, valid: Split | pd.DataFrame | None, test: pd.DataFrame | None
    ) -> TabularData:
        import pandas as pd

        own_valid = valid if isinstance(valid, pd.DataFrame) else None
        for what, frame in (("df", df), ("valid", own_valid), ("test", test)):
            if frame is not None and not isinstance(frame, pd.DataFrame):
                raise ArgumentError(f"{what} must be a pandas DataFrame, got {type(frame).__name__}")
            if frame is not None and not len(frame):
                raise DataError(f"{what} has no rows")
        plan = _plan(options, df, df, None if isinstance(valid, pd.DataFrame) else valid)
        processor, target = plan.processor, plan.target
        new = options.like is None
        encoded = processor.fit_transform(df, plan.train) if new else processor.transform(df)
        reports: dict[str, TransformReport] = {"train": encoded.report}
        if encoded.split is not None and len(plan.valid):
            reports["train"], reports["valid"] = encoded.split
        parts: dict[PartName, Part] = {"train": _take(encoded, target, df.index, plan.train)}
        if len(plan.valid):
            parts["valid"] = _take(encoded, target, df.index, plan.valid)
        others: list[tuple[PartName, pd.DataFrame | None]] = [("valid", own_valid), ("test", test)]
        for name, frame in others:
            if frame is not None:
                more = processor.transform(frame)
                known = plan.targets.encode(frame, split="valid") if name == "valid" else None
                parts[name] = _take(more, known, frame.index)
                reports[name] = more.report
        return cls(parts, processor, plan.targets, plan.batch_size, y_range=plan.y_range, reports=reports)

    @classmethod
    def _from_stream(
        cls,
        options: _Options,
        table: ParquetTable,
        valid: Split | ParquetTable | None,
        test: ParquetTable | None,
        buffer_rows: int,
    ) -> TabularData:
        own_valid = valid if isinstance(valid, ParquetTable) else None
        known = [n for n in (*options.target, options.groups, options.time) if n in table.columns]
        side = table.read(list(dict.fromkeys(known)), categories=True)
        head = table.read(table.columns, HEAD_ROWS)
        plan = _plan(options, side, head, None if isinstance(valid, ParquetTable) else valid)
        reports: dict[str, TransformReport] = {}
        if options.like is None:
            reports["train"], reports["valid"] = fit_streamed(plan.processor, table, plan.train)
        columns = (*plan.processor.cat_names, *plan.processor.cont_names)

        def part(source: ParquetTable, rows: Indices, values: Tensor | None) -> StreamPart:
            return StreamPart(source, columns, rows, plan.processor.transform, values, buffer_rows)

        parts: dict[PartName, Part] = {"train": part(table, plan.train, plan.target[plan.train])}
        if len(plan.valid):
            parts["valid"] = part(table, plan.valid, plan.target[plan.valid])
        if own_valid is not None:
            values = plan.targets.encode(own_valid.read(plan.targets.columns), split="valid")
            parts["valid"] = part(own_valid, np.arange(own_valid.n_rows), values)
        if test is not None:
            parts["test"] = part(test, np.arange(test.n_rows), None)
        return cls(parts, plan.processor, plan.targets, plan.batch_size, y_range=plan.y_range, reports=reports)

    # -- what a Learner asks -------------------------------------------------------------------------------

    def train_loader(self) -> Loader:
        """See `Data.train_loader`."""
        return self._part("train").loader(self.batch_size, shuffle=self.shuffle)

    def loader(self, part: PartName, view: int = 0) -> Loader:
        """See `Data.loader`; rows have no augmented views."""
        return self._part(part).loader(max(self.batch_size, 1024), shuffle=False)

    def new_loader(self, items: Any) -> TensorLoader:
        """See `Data.new_loader`: a DataFrame, one row as a Series or a dictionary, or a list of such rows.

        What is unknown or missing in them is counted in `report()`.
        """
        encoded = self.processor.transform_row(items) if isinstance(items, Mapping) else None
        if encoded is None:
            frame = _as_frame(items)
            if not len(frame):
                raise DataError("there are no rows to predict")
            encoded = self.processor.transform(frame)
        self._reports["predict"] = self.met("predict") + encoded.report
        inputs = (torch.from_numpy(encoded.cats), torch.from_numpy(encoded.conts))
        return TensorLoader(inputs, None, max(self.batch_size, 1024))

    def recipe(self) -> dict[str, Any]:
        """See `Data.recipe`: columns, levels, fill values, scales and targets."""
        return {
            "kind": RECIPE,
            "processor": self.processor.state_dict(),
            "targets": self.targets.state_dict(),
            "batch_size": self.batch_size,
            "y_range": list(self.y_range) if isinstance(self.y_range, tuple) else self.y_range,
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> TabularData:
        """See `Data.from_recipe`."""
        data = cls.__new__(cls)
        try:
            Data.__init__(data, task, int(recipe["batch_size"]))
            data.processor = TableProcessor.from_state(recipe["processor"])
            data.targets = Targets.from_state(recipe.get("targets", recipe), task)
            y_range = recipe["y_range"]
            data.y_range = (float(y_range[0]), float(y_range[1])) if isinstance(y_range, list) else y_range
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise WeightsError(f"the recipe of the table is damaged: {error}") from error
        data._parts, data._reports, data.shuffle = {}, {}, True
        return data

    def runtime_inputs(self, inputs: tuple[Tensor, ...]) -> RuntimeInputs:
        """See `Data.runtime_inputs`: codes and scaled numbers, as `processor.transform` makes them of a table."""
        about = {"cat_names": list(self.cat_names), "cont_names": list(self.cont_names)}
        return RuntimeInputs(("cats", "conts"), ({0: "batch"}, {0: "batch"}), about=about)

    def is_single(self, items: Any) -> bool:
        """Whether it is one row: a Series or a dictionary."""
        import pandas as pd

        return isinstance(items, Mapping | pd.Series)

    def holds_items(self, source: Any) -> bool:
        """See `Data.holds_items`: a row is no path."""
        return True

    def read_items(self, source: Path, n: int) -> Iterator[tuple[list[str], Any]]:
        """See `Data.read_items`: the rows of a csv or parquet file, called by their numbers."""
        columns = [*self.processor.cat_names, *self.processor.cont_names]
        for table in iter_table(source, n, columns=columns, **self.processor.known_types()):
            yield [str(i) for i in table.frame.index], table.frame

    def item_ids(self, items: Any, n: int, first: int = 0) -> list[str]:
        """See `Data.item_ids`: the index of a DataFrame."""
        import pandas as pd

        return [str(i) for i in items.index] if isinstance(items, pd.DataFrame) else super().item_ids(items, n, first)

    def ids(self, part: PartName) -> Sequence[str]:
        """The labels of the rows, as text."""
        return self._part(part).ids()

    def fingerprint(self, part: PartName) -> str:
        """See `Data.fingerprint`."""
        return self._part(part).fingerprint()

    def for_model(self, model: nn.Module) -> TabularData:
        """The same data on the model's device, as far as it fits there."""
        parameter = next(model.parameters(), None)
        if parameter is not None:
            self._parts = {name: part.to(parameter.device) for name, part in self._parts.items()}
        return self

    def adopt(self, old: Data) -> TabularData:
        """The same data for a model that was trained with `old`, whose codes and scales it must share.

        Raises:
            DataError: targets, codes or scales differ.
        """
        super().adopt(old)
        assert isinstance(old, TabularData)
        if self.processor is not old.processor and not self.processor.agrees_with(old.processor):
            raise DataError(
                "this data has codes and scales of its own, so the model would misread it; make it with "
                "TabularData.from_df(..., like=learn.data)"
            )
        return self

    # -- looking -------------------------------------------------------------------------------------------

    @property
    def cat_names(self) -> list[str]:
        """The categorical columns."""
        return self.processor.cat_names

    @property
    def cont_names(self) -> list[str]:
        """The continuous columns that the model sees: those of the table, then the flags of missing values."""
        return self.processor.cont_out_names

    def met(self, part: str) -> TransformReport:
        """What was unknown, missing or infinite in "train", "valid", "test", or so far in "predict"."""
        return self._reports.get(part, TransformReport())

    def report(self) -> pd.DataFrame:
        """What was unknown, missing or infinite, by part and column; "predict" counts all predictions so far.

        Returns:
            One row per part and column with something to tell: counts, the share of the part's rows, and examples of
            unknown values. Empty where every value was known.
        """
        import pandas as pd

        rows = []
        for part, met in self._reports.items():
            for name in [*self.cat_names, *self.processor.cont_names]:
                counts = [c.get(name, 0) for c in (met.unknown, met.missing, met.infinite, met.filled)]
                if any(counts):
                    shown = ", ".join(met.examples.get(name, []))
                    rows.append([part, name, *counts, sum(counts[:3]) / met.rows, shown])
        columns = ["part", "column", "unknown", "missing", "infinite", "filled", "share", "examples"]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=columns).set_index(["part", "column"])
        return frame

    def describe_item(self, part: PartName, i: int) -> dict[str, str]:
        """See `Data.describe_item`: the columns of row `i`, numbers in their own units."""
        row = self._part(part).row(i)
        values = self.processor.decode(*(t.cpu().numpy() for t in row)).iloc[0]
        return {str(n): f"{v:.6g}" if isinstance(v, float) else str(v) for n, v in values.items()}

    def notes(self) -> list[str]:
        """See `Data.notes`: unknown categories, and places that are missing or infinite."""
        notes = []
        for _, row in self.report().reset_index().iterrows():
            part, column = row["part"], row["column"]
            what = [f"{int(row[n]):,} {n}" for n in ("unknown", "missing", "infinite") if row[n]]
            if part != "predict" and what:
                shown = f", for example {row['examples']}" if row["examples"] else ""
                notes.append(f"{part} part, column {column}: {' and '.join(what)} ({row['share']:.1%}){shown}")
        return notes

    def target(self, part: PartName) -> Tensor | None:
        """The targets of a part in their own units, or None where nobody knows them."""
        return self._part(part).target

    def sample(self, part: PartName, n: int) -> Tensor:
        """The continuous columns of at most `n` rows, always the same ones, shape (rows, n_cont)."""
        return self._part(part).sample(n)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(part):,} {name}" for name, part in self._parts.items())
        named = ", ".join(self.task.names[:5]) + (" ..." if self.task.n_out > 5 else "")
        return (
            f"TabularData({sizes}; {len(self.cat_names)} categorical, {len(self.cont_names)} continuous; "
            f"{self.task.kind}: {named})"
        )


def default_batch_size(n_rows: int) -> int:
    """A power of two that gives at least 128 steps an epoch, from 64 to 1024."""
    size = 64
    while size < 1024 and size * 2 * 128 <= n_rows:
        size *= 2
    return size


def _target_names(target: str | Sequence[str]) -> list[str]:
    names = [target] if isinstance(target, str) else list(target)
    if not names or len(set(names)) != len(names):
        raise ArgumentError(f"target must name one column or several different ones, got {target!r}")
    return names


@dataclass(frozen=True)
class _Options:
    """What every way of making a `TabularData` takes."""

    target: list[str]
    cat_names: Sequence[str] | None
    cont_names: Sequence[str] | None
    stratify: bool | None
    groups: str | None
    time: str | None
    task: TaskName
    log_target: bool
    y_range: YRange
    batch_size: int | None
    scale: Scale
    fill: Fill
    min_count: int
    max_levels: int | None
    like: TabularData | None
    seed: int


@dataclass(frozen=True)
class _Plan:
    """What follows from the options and the table."""

    train: Indices
    valid: Indices
    targets: Targets
    processor: TableProcessor
    y_range: YRange
    batch_size: int
    target: Tensor


def _plan(options: _Options, side: pd.DataFrame, head: pd.DataFrame, valid: Split | None) -> _Plan:
    """Split the rows, and find targets and columns.

    Args:
        options: as given.
        side: all rows, with the columns of targets, groups and times at least.
        head: some rows with all columns.
        valid: how to split; None where all rows train.
    """
    like, columns = options.like, options.target
    if valid is None and (options.stratify or options.groups or options.time):
        raise ArgumentError("stratify, groups and time say how to split the table, but valid does not ask for a split")
    require_columns(side, [*columns, *(n for n in (options.groups, options.time) if n is not None)])
    if like is not None and tuple(columns) != like.targets.columns:
        raise ArgumentError(f"the data in like= predicts {list(like.targets.columns)}, so target cannot be {columns}")
    if like is not None:
        target = like.targets.encode(side)
        codes = repeated(target.numpy()) if target.ndim == 1 else None
        train, held_out = _split(side, options, codes, valid)
        y_range = like.y_range if options.y_range is None else options.y_range
        return _Plan(train, held_out, like.targets, like.processor, y_range, _size(options, train), target)
    given = read_targets(side, TargetOptions(options.task, log_target=options.log_target), names=columns)
    train, held_out = _split(side, options, given.stratify_codes(), valid)
    targets = given.learn(train)
    cats, conts = _columns(head, options)
    processor = TableProcessor(
        cats, conts, scale=options.scale, fill=options.fill, min_count=options.min_count, max_levels=options.max_levels
    )
    return _Plan(
        train, held_out, targets, processor, options.y_range, _size(options, train), targets.encode(given)
    )  # fmt: skip


def _size(options: _Options, train: Indices) -> int:
    return default_batch_size(len(train)) if options.batch_size is None else options.batch_size


def _split(side: pd.DataFrame, options: _Options, codes: Indices | None, valid: Split) -> tuple[Indices, Indices]:
    groups, time, stratify = options.groups, options.time, options.stratify
    by_fraction = fraction_of(valid) is not None and groups is None and time is None
    if stratify and not (codes is not None and by_fraction):
        raise ArgumentError(
            "stratify goes with a fraction and one column of classes that repeat, without groups or time"
        )
    return split_indices(
        len(side),
        valid,
        seed=options.seed,
        stratify=codes if by_fraction and stratify is not False else None,
        groups=None if groups is None else side[groups],
        time=None if time is None else side[time],
        index=side.index,
    )


def _columns(head: pd.DataFrame, options: _Options) -> tuple[list[str], list[str]]:
    """The feature columns: those named, and where none were named those guessed; what is odd is said."""
    targets, cats, conts = options.target, options.cat_names, options.cont_names
    named = [*(cats or ()), *(conts or ())]
    require_columns(head, named)
    if both := [n for n in named if n in targets]:
        raise ArgumentError(f"{both} are to be predicted, so they are no features; cat_names and cont_names name them")
    if cats is None or conts is None:
        special = [n for n in (options.groups, options.time) if n is not None and n not in named]
        guess = guess_columns(head.drop(columns=[*dict.fromkeys([*special, *named])]), targets)
        if cats is not None:
            guess.dropped.update(dict.fromkeys(guess.cat_names, "a category that cat_names does not name"))
            guess.cat_names = list(cats)
        if conts is not None:
            guess.dropped.update(dict.fromkeys(guess.cont_names, "a number that cont_names does not name"))
            guess.cont_names = list(conts)
        guess.dropped.update(dict.fromkeys(special, "it says how to split"))
        print(guess)
        cats, conts = guess.cat_names, guess.cont_names
    if not cats and not conts:
        raise DataError("no column is left as a feature; name some in cat_names and cont_names")
    sample = Sample(head)
    for name in ids_in(sample, cats):
        _warn(
            f"{name!r} has nearly as many values as there are rows: it names the rows, and says little about new ones. "
            "Leave the column out, or fold rare values with min_count"
        )
    for target in targets:
        for _, why in leaks_in(sample, target, [*cats, *conts]):
            _warn(f"{why}. Would it be known when a prediction is wanted? Otherwise leave the column out")
    return list(cats), list(conts)


def _warn(message: str) -> None:
    warnings.warn(message, EasyLearnWarning, stacklevel=6)


def _take(encoded: Encoded, target: Tensor | None, index: pd.Index[Any], rows: Indices | None = None) -> MemoryPart:
    cats, conts = torch.from_numpy(encoded.cats), torch.from_numpy(encoded.conts)
    if rows is None or len(rows) == len(cats):
        return MemoryPart(cats, conts, target, index)
    at = torch.from_numpy(rows)
    chosen = None if target is None else target.index_select(0, at)
    return MemoryPart(cats.index_select(0, at), conts.index_select(0, at), chosen, index[rows])


def _as_frame(items: Any) -> pd.DataFrame:
    """Rows that came from elsewhere, as a table."""
    import pandas as pd

    if isinstance(items, pd.DataFrame):
        return items
    rows = [items] if isinstance(items, Mapping | pd.Series) else items
    if not isinstance(rows, list | tuple) or not all(isinstance(r, Mapping | pd.Series) for r in rows):
        raise ArgumentError(
            f"expected a DataFrame, one row (a Series or a dictionary) or a list of rows, got {type(items).__name__}"
        )
    frame: pd.DataFrame = pd.DataFrame([dict(r) for r in rows])
    return frame


def _file_or_split(valid: Split | StrPath | None, time: str | None) -> tuple[StrPath | None, Split | None]:
    """Whether `valid` names a file, or says how to split; with `time`, a word is a length of time."""
    if isinstance(valid, os.PathLike) or (isinstance(valid, str) and time is None):
        return valid, None
    return None, valid
