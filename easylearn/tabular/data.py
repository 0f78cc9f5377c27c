"""Tables for a Learner: a DataFrame, a csv or a parquet file becomes `TabularData`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.bunch import Data, Loader, PartName
from ..data.loaders import TensorLoader
from ..data.split import Indices
from ..errors import ArgumentError, DataError, EasyLearnWarning, strict
from ..files import StrPath
from .columns import find_ids, find_leaks, guess_columns
from .loader import BUFFER_ROWS, MemoryPart, ParquetTable, Part, StreamPart, memory_limit
from .processing import MISSING_CODE, UNKNOWN_CODE, Encoded, Fill, Scale, TableProcessor, TransformReport, require_columns
from .split import TableSplit, split_rows
from .targets import Targets, TaskName, YRange, find_targets, task_kind

if TYPE_CHECKING:
    import pandas as pd

_HEAD_ROWS = 200_000  # of a streamed table, from which its columns are guessed
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


class TabularData(Data):
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
        valid: TableSplit | pd.DataFrame | None = 0.2,
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
        import pandas as pd

        columns = _target_names(target) if like is None else _same_target(like, target)
        own_valid = isinstance(valid, pd.DataFrame)
        named = {"df": df, "test": test, **({"valid": valid} if own_valid else {})}
        for what, frame in named.items():
            if frame is not None and not isinstance(frame, pd.DataFrame):
                raise ArgumentError(f"{what} must be a pandas DataFrame, got {type(frame).__name__}")
            if frame is not None and not len(frame):
                raise DataError(f"{what} has no rows")
        if own_valid and (stratify or groups or time):
            raise ArgumentError("valid is a table of its own, so stratify, groups and time have nothing to split")
        require_columns(df, [*columns, *(n for n in (groups, time) if n is not None)])
        kind = like.task.kind if like is not None else task_kind(df, columns, task, log_target)
        if own_valid or valid is None:
            train, held_out = np.arange(len(df)), np.arange(0)
        else:
            train, held_out = _split(df, columns, kind == "single_label", valid, stratify, groups, time, seed)
        if like is not None:
            targets, processor = like.targets, like.processor
            y_range = like.y_range if y_range is None else y_range
        else:
            targets = find_targets(df, columns, train, kind, log_target)
            cats, conts = _columns(df, columns, cat_names, cont_names, groups, time)
            processor = TableProcessor(
                cats, conts, scale=scale, fill=fill, min_count=min_count, max_levels=max_levels
            )
        target_values = targets.encode(df)
        encoded = processor.transform(df) if like is not None else processor.fit_transform(df, train)
        parts: dict[PartName, Part] = {}
        reports: dict[str, TransformReport] = {}
        chosen: list[tuple[PartName, Indices]] = [("train", train), ("valid", held_out)]
        for name, rows in chosen:
            if len(rows):
                parts[name] = _take(encoded, target_values, df.index, rows)
        reports["train"] = encoded.report
        others: list[tuple[PartName, Any]] = [("valid", valid if own_valid else None), ("test", test)]
        for name, frame in others:
            if frame is not None:
                more = processor.transform(frame)
                parts[name] = _take(more, targets.encode(frame) if name == "valid" else None, frame.index, None)
                reports[name] = more.report
        return cls(
            parts, processor, targets, batch_size or default_batch_size(len(train)), y_range=y_range, reports=reports
        )

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
        frame = _as_frame(items)
        encoded = self.processor.transform(frame)
        self._reports["predict"] = self._reports.get("predict", TransformReport()) + encoded.report
        part = _take(encoded, None, frame.index, None)
        return part.loader(max(self.batch_size, 1024), shuffle=False)

    def is_single(self, items: Any) -> bool:
        """Whether it is one row: a Series or a dictionary."""
        import pandas as pd

        return isinstance(items, Mapping | pd.Series)

    def ids(self, part: PartName) -> Sequence[str]:
        """The labels of the rows, as text."""
        return self._part(part).ids()

    def fingerprint(self, part: PartName) -> str:
        """See `Data.fingerprint`."""
        return self._part(part).fingerprint()

    @property
    def has_valid(self) -> bool:
        """Whether there is a validation part."""
        return "valid" in self._parts

    @property
    def has_test(self) -> bool:
        """Whether there is a test part."""
        return "test" in self._parts

    def for_model(self, model: nn.Module) -> TabularData:
        """This data on the model's device, as far as it fits there."""
        parameter = next(model.parameters(), None)
        if parameter is not None:
            self._parts = {name: part.to(parameter.device) for name, part in self._parts.items()}
        return self

    def adopt(self, old: Data) -> TabularData:
        """This data for a model that was trained with `old`, whose codes and scales it must share.

        Raises:
            DataError: targets, codes or scales differ.
        """
        super().adopt(old)
        assert isinstance(old, TabularData)
        if self.processor is not old.processor and self.processor.state_dict() != old.processor.state_dict():
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

    def target(self, part: PartName) -> Tensor | None:
        """The targets of a part in their own units, or None where nobody knows them."""
        return self._part(part).target

    def sample(self, part: PartName, n: int) -> Tensor:
        """The continuous columns of at most `n` rows, always the same ones, shape (rows, n_cont)."""
        return self._part(part).sample(n)

    def _part(self, part: PartName) -> Part:
        if part not in self._parts:
            raise DataError(f"there is no {part} part; pass {part}= when making the data")
        return self._parts[part]

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


def _same_target(like: TabularData, target: str | Sequence[str]) -> list[str]:
    names = _target_names(target)
    if tuple(names) != like.targets.columns:
        raise ArgumentError(f"the data in like= predicts {list(like.targets.columns)}, so target cannot be {names}")
    return names


def _split(
    df: pd.DataFrame,
    columns: Sequence[str],
    has_classes: bool,
    valid: Any,
    stratify: bool | None,
    groups: str | None,
    time: str | None,
    seed: int,
) -> tuple[Indices, Indices]:
    import pandas as pd

    by_fraction = isinstance(valid, float) and groups is None and time is None
    if stratify and not (has_classes and by_fraction):
        raise ArgumentError("stratify goes with one column of classes and a fraction, without groups or time")
    codes = None
    if has_classes and by_fraction and stratify is not False:
        codes = pd.factorize(df[columns[0]], use_na_sentinel=False)[0]
        if np.bincount(codes).max() < 2:  # every row a class of its own
            codes = None
    return split_rows(
        len(df),
        valid,
        seed=seed,
        stratify=codes,
        groups=None if groups is None else df[groups],
        time=None if time is None else df[time],
    )


def _columns(
    df: pd.DataFrame,
    targets: Sequence[str],
    cat_names: Sequence[str] | None,
    cont_names: Sequence[str] | None,
    groups: str | None,
    time: str | None,
) -> tuple[list[str], list[str]]:
    """The feature columns: those named, and where nothing was named those guessed; what is odd is said."""
    named = [*(cat_names or ()), *(cont_names or ())]
    leaked = [n for n in named if n in targets]
    if leaked:
        raise ArgumentError(f"{leaked} are to be predicted, so they cannot be features; take them out of cat_names or cont_names")
    if cat_names is None or cont_names is None:
        special = [n for n in (groups, time) if n is not None and n not in named]
        guess = guess_columns(df.drop(columns=[*special, *named]), targets)
        kept = [str(n) for n in guess.cat_names] if cat_names is None else []
        cats = [*kept] if cat_names is None else list(cat_names)
        conts = guess.cont_names if cont_names is None else list(cont_names)
        print(guess)
    else:
        cats, conts = list(cat_names), list(cont_names)
    if not cats and not conts:
        raise DataError("no column is left as a feature; name some in cat_names and cont_names")
    require_columns(df, [*cats, *conts])
    for name in find_ids(df, cats):
        _warn(f"the column {name!r} has nearly as many values as there are rows: it names rows and says little about new ones")
    for target in targets:
        for _, why in find_leaks(df, target, [*cats, *conts]):
            _warn(f"{why}: would it be known when a prediction is wanted? Otherwise leave the column out")
    return cats, conts


def _warn(message: str) -> None:
    warnings.warn(message, EasyLearnWarning, stacklevel=4)


def _take(encoded: Encoded, target: Tensor | None, index: pd.Index[Any], rows: Indices | None) -> MemoryPart:
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
        raise ArgumentError(f"expected a DataFrame, a row (a Series or a dictionary) or a list of rows, got {type(items).__name__}")
    return pd.DataFrame([dict(r) for r in rows])
