"""The datasets of tables in 2018, a loader of their rows, and what a learner's data shows of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from .core import T
from .data.bunch import SplitName
from .data.split import split_indices
from .data.values import numbers, refuse_rows, require_columns
from .dataloader import Counted, Data07
from .errors import ArgumentError
from .tabular.data import TabularData

if TYPE_CHECKING:
    from typing_extensions import Self

Array = npt.NDArray[Any]

__all__ = ["ColumnarDataset", "PassthruDataset"]


class ByRows(Protocol):
    """A dataset that gives many rows at once."""

    def __len__(self) -> int: ...

    def batch(self, rows: Any) -> list[Array]:
        """The arrays of some rows, the target last."""
        ...


class RowLoader:
    """Batches of rows of arrays, as lists of tensors.

    Args:
        dataset: the rows.
        batch_size: rows in a batch.
        shuffle: in a new order each time, drawn from torch's global generator; a last batch of one row is then joined
            to the one before, as batch-norm has nothing to compare it with.
    """

    def __init__(self, dataset: ByRows, batch_size: int, shuffle: bool = False) -> None:
        self.dataset, self.batch_size, self.shuffle = dataset, int(batch_size), shuffle

    def __len__(self) -> int:
        n, rest = divmod(len(self.dataset), self.batch_size)
        return n + (rest > (1 if self.shuffle and n else 0))

    def __iter__(self) -> Iterator[list[Tensor]]:
        n = len(self.dataset)
        order = (torch.randperm(n) if self.shuffle else torch.arange(n)).numpy()
        pieces = np.split(order, [self.batch_size * (i + 1) for i in range(len(self) - 1)])
        return Counted((self.get_batch(rows) for rows in pieces), len(pieces))

    def get_batch(self, rows: Any) -> list[Tensor]:
        """The rows at some positions."""
        return [T(column) for column in self.dataset.batch(rows)]


class PassthruDataset:
    """Columns beside each other: item i is `[x[i] for x in xs] + [y[i]]`.

    Args:
        args: arrays of equal length, the target last.
        is_reg: whether targets are numbers.
        is_multi: whether items have several labels.

    >>> PassthruDataset([1, 2], [3, 4], [0.5, 1.5]).batch([1])
    [array([2]), array([4]), array([1.5])]
    """

    def __init__(self, *args: Any, is_reg: bool = True, is_multi: bool = False) -> None:
        *self.xs, self.y = map(np.asarray, args)
        self.is_reg, self.is_multi = is_reg, is_multi

    @classmethod
    def from_data_frame(
        cls, df: pd.DataFrame, cols_x: Sequence[str], col_y: str, is_reg: bool = True, is_multi: bool = False
    ) -> PassthruDataset:
        """The columns `cols_x` and `col_y` of the table `df`; `is_reg` and `is_multi` as for the class."""
        return cls(*(df[c] for c in [*cols_x, col_y]), is_reg=is_reg, is_multi=is_multi)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> list[Any]:
        return [a[i] for a in [*self.xs, self.y]]

    def batch(self, rows: Any) -> list[Array]:
        """Some `rows` at once."""
        return [a[rows] for a in [*self.xs, self.y]]

    def frame(self) -> tuple[pd.DataFrame, list[str]]:
        """The inputs as a table of numbers, and the columns of categories: none."""
        return pd.DataFrame({f"x{i}": x for i, x in enumerate(self.xs)}), []


class ColumnarDataset:
    """One split of a table: item i is `[cats[i], conts[i], y[i]]`.

    Args:
        cats: columns of codes; none gives one of zeros, as in 2018.
        conts: columns of numbers, likewise.
        y: the targets; None, where nobody knows them, gives zeros. Numbers become a column of shape (n, 1).
        is_reg, is_multi: see `PassthruDataset`.
        names: of the columns, those of `cats` first.
    """

    def __init__(
        self,
        cats: Sequence[Any],
        conts: Sequence[Any],
        y: Any = None,
        is_reg: bool = True,
        is_multi: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        if not cats and not conts:
            raise ArgumentError("a table needs at least one column of codes or of numbers")
        n = len((cats or conts)[0])
        self.cats = np.stack(cats, 1).astype(np.int64) if cats else np.zeros((n, 1), np.int64)
        self.conts = np.stack(conts, 1).astype(np.float32) if conts else np.zeros((n, 1), np.float32)
        self.has_y = y is not None
        self.y: Array = np.asarray(y) if self.has_y else np.zeros(n if is_reg else (n, 1))
        if is_reg and self.y.ndim == 1:
            self.y = self.y[:, None]
        self.is_reg, self.is_multi = is_reg, is_multi
        self.n_cats, self.n_conts = len(cats), len(conts)
        self.names = [f"x{i}" for i in range(len(cats) + len(conts))] if names is None else list(names)

    @classmethod
    def from_data_frames(
        cls, df_cat: pd.DataFrame, df_cont: pd.DataFrame, y: Any = None, is_reg: bool = True, is_multi: bool = False
    ) -> ColumnarDataset:
        """A table of codes, `df_cat`, and one of numbers, `df_cont`; `y`, `is_reg`, `is_multi` as for the class.

        Raises:
            DataError: a value is no number; the message names column and row.
        """
        cats, conts = ([numbers(df[c]) for c in df.columns] for df in (df_cat, df_cont))
        for name, codes in zip(df_cat.columns, cats, strict=True):
            refuse_rows(df_cat[name], np.flatnonzero(~np.isfinite(codes)), "have no code; call proc_df(df) first")
        return cls(cats, conts, y, is_reg, is_multi, [*map(str, df_cat.columns), *map(str, df_cont.columns)])

    @classmethod
    def from_data_frame(
        cls, df: pd.DataFrame, cat_flds: Sequence[str], y: Any = None, is_reg: bool = True, is_multi: bool = False
    ) -> ColumnarDataset:
        """The table `df`, whose columns in `cat_flds` are codes; `y`, `is_reg`, `is_multi` as for the class."""
        if not isinstance(df, pd.DataFrame):
            raise ArgumentError(f"expected a pandas DataFrame, got {type(df).__name__}")
        require_columns(df, [*df.columns, *cat_flds])
        return cls.from_data_frames(df[list(cat_flds)], df.drop(columns=list(cat_flds)), y, is_reg, is_multi)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> list[Any]:
        return [self.cats[i], self.conts[i], self.y[i]]

    def batch(self, rows: Any) -> list[Array]:
        """Some `rows` at once."""
        return [self.cats[rows], self.conts[rows], self.y[rows]]

    def frame(self) -> tuple[pd.DataFrame, list[str]]:
        """The inputs as a table, and which of its columns are codes."""
        made = [pd.DataFrame(self.cats[:, : self.n_cats]), pd.DataFrame(self.conts[:, : self.n_conts])]
        table: pd.DataFrame = pd.concat(made, axis=1)
        return table.set_axis(self.names, axis=1), self.names[: self.n_cats]


class ShownData(Data07):
    """Data whose loaders and datasets of 2018 are those of a `ModelData`."""

    md: Any
    path = property(lambda self: self.md.path)

    def _batches(self, name: str, split: SplitName, training: bool = False, augmented: bool = False) -> Any:
        return getattr(self.md, f"{name}_dl") if name in ("trn", "val", "test") else None

    def _dataset(self, split: SplitName) -> Any:
        return getattr(self.md, {"train": "trn_ds", "valid": "val_ds", "test": "test_ds"}[split])

    def shown_as(self, md: Any) -> Self:
        """The same with what the 2018 names stand for."""
        self.md = md
        return self


class TableData07(ShownData, TabularData):
    """What the learner of a table has as `data`."""

    __init__ = TabularData.__init__


def split_rows(n: int, valid: Sequence[int] | Array | None) -> tuple[Array, Array]:
    """Positions of training and validation rows; negative ones count from the end, as NumPy has them."""
    if valid is None or not len(valid):
        return np.arange(n), np.arange(0)
    given = np.asarray(valid)
    if given.dtype.kind in "iu" and -n <= given.min() < 0:
        given = given % n
    return split_indices(n, given)
