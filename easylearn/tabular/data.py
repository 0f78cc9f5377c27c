"""Tables for a Learner: a DataFrame, a csv or a parquet file becomes `TabularData`."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from ..data.bunch import Data, PlainInputs, SplitName
from ..data.frames import ParquetTable, known_types, read_table
from ..data.loaders import row_keys
from ..data.order import Loader
from ..data.places import is_elsewhere
from ..data.split import Split
from ..errors import DataError, check_whole
from ..files import StrPath
from ..options import strict
from .build import build_from_frames, build_from_stream
from .loader import BUFFER_ROWS, MemorySplit, TableSplit, memory_limit, on_device
from .options import TableKeywords, TableOptions, Target, like_of
from .preprocess import TablePreprocessor
from .reports import COUNTS, TransformReport

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self, Unpack

CACHE_BYTES = 8 * 2**30  # of tables elsewhere that may be kept on this machine's disk
IN_MEMORY = 3  # how many times larger a table is in memory than uncompressed in its file, roughly
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 400, 8, 60
MORE_EPOCHS, MORE_STEPS = 16, 8000  # so many at least where they are not more steps than this
LARGE_BATCH = 1024  # rows that are looked at together where nothing is learned
_OLD_NAMES = {
    "bs": "batch_size", "y": "target", "y_names": "target", "dep_var": "target", "cat_flds": "cat_names",
    "cat_vars": "cat_names", "contin_vars": "cont_names", "val_idxs": "valid", "valid_idx": "valid", "splits": "valid",
    "valid_pct": "valid", "test_df": "test", "df_test": "test", "sample_weight": "weights", "label_delim": "label_sep",
    "procs": "There are no procs: scale=, fill= and min_count= say how columns become numbers.", "y_block": "task",
}  # fmt: skip


class TabularData(Data[TableSplit]):
    """A table in train, valid and maybe test: two tensors each, codes of categories and scaled numbers.

    Make one with `from_df`, `from_csv` or `from_parquet`. Every value that training did not know has a place: there are
    codes for *unknown* and *missing* categories, missing numbers are filled and flagged. `report()` counts them, and
    `preprocessor.report(df)` those of any other table.

    Args:
        splits: "train", and maybe "valid" and "test".
        preprocessor: fitted on the training rows.
        batch_size: rows in a training batch.
        seen: what was unknown, missing or infinite in each split.

    Attributes:
        shuffle: whether training rows come in a new order in each epoch; may be set.
    """

    preprocessor: TablePreprocessor

    def __init__(
        self,
        splits: Mapping[SplitName, TableSplit],
        preprocessor: TablePreprocessor,
        batch_size: int,
        seen: Mapping[SplitName, TransformReport] | None = None,
    ) -> None:
        super().__init__(preprocessor.targets.task, batch_size, preprocessor, splits)
        self.shuffle = True
        self._seen = dict(seen or {})

    @classmethod
    @strict(_OLD_NAMES, TableOptions)
    def from_df(
        cls,
        df: pd.DataFrame,
        target: Target,
        *,
        valid: Split | pd.DataFrame | None = 0.2,
        test: pd.DataFrame | None = None,
        **options: Unpack[TableKeywords],
    ) -> Self:
        """A DataFrame with one row per item.

        Args:
            df: features and targets; it is left as it is.
            target: the column to predict, or several.
            valid: a fraction; positions of rows or a mask; a DataFrame of its own; None for no validation. With
                `time` also a length of time such as "6W".
            test: rows to predict. Where they have all their targets, these are known in `learn.predict(split="test")`.

        Raises:
            ArgumentError: arguments contradict each other.
            DataError: a column is missing or holds what it should not; the message names column, row and value.
        """
        return cls(*build_from_frames(TableOptions(**options), target, df, valid, test))

    @classmethod
    @strict(_OLD_NAMES, TableOptions)
    def from_csv(
        cls,
        path: StrPath,
        target: Target,
        *,
        valid: Split | StrPath | None = 0.2,
        test: StrPath | None = None,
        **options: Unpack[TableKeywords],
    ) -> Self:
        """A csv file with a header; arguments as in `TabularData.from_df`, but for these.

        Args:
            path: the file.
            valid: may be a file; columns that hold text in the training file are text there, too.
            test: a file of rows to predict.
        """
        how = TableOptions(**options)
        like = like_of(how)
        train = read_table(path) if like is None else read_table(path, **like.column_types())
        types = known_types(train.frame)
        file, split = _file_or_split(valid, how)
        own_valid, rows = (None if f is None else read_table(f, **types) for f in (file, test))
        return cls(*build_from_frames(how, target, train, own_valid or split, rows))

    @classmethod
    @strict(_OLD_NAMES, TableOptions)
    def from_parquet(
        cls,
        path: StrPath,
        target: Target,
        *,
        valid: Split | StrPath | None = 0.2,
        test: StrPath | None = None,
        stream: bool | None = None,
        memory: int | None = None,
        buffer_rows: int = BUFFER_ROWS,
        cache: int = CACHE_BYTES,
        **options: Unpack[TableKeywords],
    ) -> Self:
        """A parquet file, or a folder of them. It needs pyarrow: `pip install "easylearn[parquet]"`.

        A table that does not fit into memory is streamed: row groups come in a new order in each epoch, and rows are
        mixed in a buffer. Fitting reads it by row groups, too. So what must fit is one row group, the buffer as
        numbers, the different values of all categorical columns, and some 40 bytes for each row: on which side it is,
        and its target. Arguments as in `TabularData.from_df`, but for these.

        Args:
            path: the file or folder, also an address such as s3://bucket/table: then each row group is read when it is
                needed, in training by the process that trains on it. It needs `pip install "easylearn[remote]"`.
            valid: may be a file or folder.
            test: a file or folder of rows to predict.
            stream: True or False; None streams a table that would take more than `memory`.
            memory: bytes; None is half of this machine's.
            buffer_rows: how many rows are mixed with one another.
            cache: of a table elsewhere: bytes of this machine's disk for what training reads again; 0 keeps nothing.
        """
        check_whole("buffer_rows", buffer_rows)
        check_whole("cache", cache, 0)
        how = TableOptions(**options)
        table = ParquetTable(path, cache)
        file, split = _file_or_split(valid, how)
        others = [None if f is None else ParquetTable(f, cache) for f in (file, test)]
        if stream is None:
            stream = table.n_bytes * IN_MEMORY > (memory_limit() if memory is None else memory)
        if stream:
            return cls(*build_from_stream(how, target, table, others[0] or split, others[1], buffer_rows))
        own_valid, rows = (None if t is None else t.read(t.columns) for t in others)
        whole = table.read(table.columns)
        return cls(*build_from_frames(how, target, whole, split if own_valid is None else own_valid, rows))

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> Loader:
        batch_size = self.batch_size if training else max(self.batch_size, LARGE_BATCH)
        return self._split(split).loader(batch_size, shuffle=training and self.shuffle)

    @property
    def suited_epochs(self) -> int:
        """As many as make some 400 steps, from 16 to 60; of a large table 8,000 steps, from 8 to 16."""
        steps = len(self.loader("train", training=True))
        return max(LEAST_EPOCHS, min(MORE_EPOCHS, MORE_STEPS // steps), min(MOST_EPOCHS, -(-STEPS // steps)))

    def ids(self, split: SplitName) -> Sequence[str]:
        return self._split(split).ids()

    def fingerprint(self, split: SplitName) -> str:
        return self._split(split).fingerprint()

    def item_keys(self, split: SplitName, positions: Sequence[int] | None = None) -> Sequence[str]:
        """See `Data.item_keys`: of the codes and numbers of each row, where the table is in memory."""
        rows = self._split(split)
        if not isinstance(rows, MemorySplit):
            return super().item_keys(split, positions)
        return row_keys(rows.fetch(None if positions is None else np.asarray(positions, np.int64)))

    def for_model(self, model: nn.Module) -> Self:
        """The same data on the model's device, as far as it fits there."""
        parameter = next(model.parameters(), None)
        if parameter is None:
            return self
        splits = on_device(self._splits, parameter.device)
        if all(split is self._splits[name] for name, split in splits.items()):
            return self
        moved = copy.copy(self)
        moved._splits = splits
        return moved

    def adopt(self, old: Data[Any]) -> Self:
        """See `Data.adopt`; the data must share the codes and scales of `old`, too."""
        super().adopt(old)
        assert isinstance(old.preprocessor, TablePreprocessor)
        mine, theirs = self.preprocessor.processor, old.preprocessor.processor
        if mine is not theirs and not mine.agrees_with(theirs):
            raise DataError(
                "this data has codes and scales of its own, so the model would misread it; make it with "
                "TabularData.from_df(..., like=learn.data)"
            )
        return self

    @property
    def cat_names(self) -> list[str]:
        """The categorical columns."""
        return self.preprocessor.processor.cat_names

    @property
    def cont_names(self) -> list[str]:
        """The continuous columns that the model sees: those of the table, then the flags of missing values."""
        return self.preprocessor.processor.cont_out_names

    def seen(self, split: SplitName) -> TransformReport:
        """What was unknown, missing or infinite in a `split`, as far as it was read when the data was made."""
        return self._seen.get(split, TransformReport())

    def report(self) -> pd.DataFrame:
        """What was unknown, missing or infinite, by split and column; see `TablePreprocessor.report` for other rows.

        Returns:
            One row per split and column with something to tell: counts, the fraction of the split's rows, and examples
            of unknown values. Empty where every value was known.
        """
        import pandas as pd

        processor = self.preprocessor.processor
        rows = [[split, *row] for split, seen in self._seen.items() for row in seen.rows_of_columns(processor.names)]
        columns = ["split", "column", *COUNTS, "fraction", "examples"]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=columns).set_index(["split", "column"])
        return frame

    def plain_inputs(self, split: SplitName) -> PlainInputs | None:
        """See `Data.plain_inputs`: scaled numbers and codes, of a table in memory."""
        rows = self._split(split)
        if not isinstance(rows, MemorySplit):
            return None
        codes, numbers = rows.fetch()
        return PlainInputs(numbers.numpy() if numbers.shape[1] else None, codes.numpy() if codes.shape[1] else None)

    def describe_item(self, split: SplitName, i: int) -> dict[str, str]:
        """See `Data.describe_item`: the columns of row `i`, numbers in their own units."""
        row = self._split(split).row(i)
        values = self.preprocessor.processor.decode(*(t.cpu().numpy() for t in row)).iloc[0]
        return {str(n): f"{v:.6g}" if isinstance(v, float) else str(v) for n, v in values.items()}

    def notes(self) -> list[str]:
        notes = []
        for row in self.report().reset_index().to_dict("records"):
            what = " and ".join(f"{row[n]:,} {n}" for n in COUNTS[:3] if row[n])
            shown = f", for example {row['examples']}" if row["examples"] else ""
            if what:
                notes.append(f"{row['split']} split, column {row['column']}: {what} ({row['fraction']:.1%}){shown}")
        return notes

    def target(self, split: SplitName) -> Tensor | None:
        """The targets of a `split` in their own units, or None where they are not known."""
        return self._split(split).target

    def sample(self, split: SplitName, n: int) -> Tensor:
        """The continuous columns of `n` rows of a `split` at most, always the same ones: shape (rows, n_cont)."""
        return self._split(split).sample(n)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in self._splits.items())
        named = ", ".join(self.task.names[:5]) + (" ..." if self.task.n_out > 5 else "")
        return (
            f"TabularData({sizes}; {len(self.cat_names)} categorical, {len(self.cont_names)} continuous; "
            f"{self.task.kind}: {named})"
        )


def _file_or_split(valid: Split | StrPath | None, how: TableOptions) -> tuple[StrPath | None, Split]:
    """Whether `valid` names a file, or says how to split; with `time`, a word is a length of time."""
    if isinstance(valid, os.PathLike) or (isinstance(valid, str) and (how.time is None or is_elsewhere(valid))):
        return valid, None
    return None, valid
