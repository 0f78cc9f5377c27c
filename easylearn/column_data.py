"""The 2018 names for models on tables: `from easylearn.column_data import *`. Thin, over `TabularData`.

The codes that `proc_df` gave are taken as categories: one that training does not hold counts as *unknown*, and an
embedding has as many rows as training has codes, two more for *unknown* and *missing*.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn, optim

from .data.bunch import SplitName
from .data.frames import read_table
from .data.split import get_cv_idxs
from .data.targets import TaskName
from .errors import ArgumentError, DataError
from .files import StrPath
from .learner07 import Learner07
from .learning import Learner
from .options import strict
from .tabular.collab import CollabData, collab_learner
from .tabular.data import TabularData
from .tabular.learner import tabular_learner
from .tabular.loader import MemorySplit
from .train.optim import OptimizerFn, adamw

if TYPE_CHECKING:
    Array = npt.NDArray[Any]
    Rows = Sequence[Any] | Array | pd.Series[Any] | pd.DataFrame

__all__ = [
    "CollabFilterDataset",
    "ColumnarModelData",
    "F",
    "Learner",
    "Path",
    "get_cv_idxs",
    "math",
    "nn",
    "np",
    "optim",
    "pd",
    "plt",
    "torch",
]

adam = functools.partial(adamw, weight_decay=0.0)  # without weight decay, AdamW is Adam


@dataclass(frozen=True)
class ColumnarDataset:
    """One split of a table as `trn_ds`, `val_ds` and `test_ds` show it.

    Args:
        cats: codes, shape (n, n_cat): 0 is *unknown*, 1 *missing*, then the categories.
        conts: numbers, shape (n, n_cont).
        y: targets, shape (n,) for classes, otherwise (n, n_out); None where they are not known.
    """

    cats: npt.NDArray[np.int64]
    conts: npt.NDArray[np.float32]
    y: npt.NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.cats)


class ColumnarModelData:
    """A table whose categories are codes already and whose other columns are numbers.

    Make one with `from_data_frame`, `from_data_frames` or `from_arrays`.

    Args:
        path: `<path>/models` is where weights are saved.
        data: the table.
    """

    def __init__(self, path: StrPath, data: TabularData) -> None:
        self.path = Path(path)
        self.data = data

    @classmethod
    @strict({"val_idx": "val_idxs", "df_test": "test_df", "cat_vars": "cat_flds"})
    def from_data_frame(
        cls,
        path: StrPath,
        val_idxs: Sequence[int] | Array,
        df: pd.DataFrame,
        y: Rows,
        cat_flds: Sequence[str],
        bs: int = 64,
        is_reg: bool = True,
        is_multi: bool = False,
        test_df: pd.DataFrame | None = None,
        shuffle: bool = True,
    ) -> ColumnarModelData:
        """One table and the positions of its validation rows.

        Args:
            path: `<path>/models` is where weights are saved.
            val_idxs: positions of the validation rows.
            df: every column is a feature: those in `cat_flds` are categories, all others numbers.
            y: what to predict, one entry per row, or one row of zeros and ones if `is_multi`.
            cat_flds: the columns of categories.
            bs: rows in a batch.
            is_reg: whether y is a number; otherwise a class, or several.
            is_multi: whether a row has any number of labels; then `is_reg` must be False.
            test_df: rows to predict.
            shuffle: train in a new order in each epoch.
        """
        table, targets = _with_target(df, y)
        data = _data(table, targets, val_idxs, test_df, cat_flds, _task(is_reg, is_multi), bs)
        data.shuffle = shuffle
        return cls(path, data)

    @classmethod
    @strict({"df_test": "test_df", "cat_vars": "cat_flds"})
    def from_data_frames(
        cls,
        path: StrPath,
        trn_df: pd.DataFrame,
        val_df: pd.DataFrame,
        trn_y: Rows,
        val_y: Rows,
        cat_flds: Sequence[str],
        bs: int = 64,
        is_reg: bool = True,
        is_multi: bool = False,
        test_df: pd.DataFrame | None = None,
        shuffle: bool = True,
    ) -> ColumnarModelData:
        """A table to train on and one to validate on.

        Args:
            path: `<path>/models` is where weights are saved.
            trn_df: the features of the training rows.
            val_df: the features of the validation rows.
            trn_y: what to predict, one entry per training row.
            val_y: the same for validation.
            cat_flds, bs, is_reg, is_multi, test_df, shuffle: see `from_data_frame`.
        """
        (table, targets), (valid, _) = _with_target(trn_df, trn_y), _with_target(val_df, val_y)
        data = _data(table, targets, valid, test_df, cat_flds, _task(is_reg, is_multi), bs)
        data.shuffle = shuffle
        return cls(path, data)

    @classmethod
    @strict()
    def from_arrays(
        cls,
        path: StrPath,
        val_idxs: Sequence[int] | Array,
        xs: Array,
        y: Rows,
        is_reg: bool = True,
        is_multi: bool = False,
        bs: int = 64,
        test_xs: Array | None = None,
        shuffle: bool = True,
    ) -> ColumnarModelData:
        """An array of numbers, without categories; its columns are called x0, x1 ...

        Args:
            path, val_idxs, y, is_reg, is_multi, bs, shuffle: see `from_data_frame`.
            xs: shape (n, columns).
            test_xs: rows to predict.

        >>> md = ColumnarModelData.from_arrays(".", [0, 1], np.arange(20.0).reshape(10, 2), np.arange(10) % 3)
        >>> md.trn_ds.conts.shape, md.val_y.tolist()
        ((8, 2), [[0.0], [1.0]])
        """
        return cls.from_data_frame(
            path, val_idxs, _as_table(xs), y, [], bs, is_reg, is_multi,
            None if test_xs is None else _as_table(test_xs), shuffle,
        )  # fmt: skip

    @strict({"opt_func": "opt_fn", "ps": "drops", "layers": "szs"})
    def get_learner(
        self,
        emb_szs: Sequence[tuple[int, int]],
        n_cont: int,
        emb_drop: float,
        out_sz: int,
        szs: Sequence[int],
        drops: Sequence[float],
        y_range: tuple[float, float] | None = None,
        use_bn: bool = False,
        *,
        opt_fn: OptimizerFn = adam,
        metrics: Sequence[Any] | None = None,
    ) -> Learner07:
        """A learner with embeddings, batch-norm on the numbers, and a small network.

        Args:
            emb_szs: (number of codes, length of a vector) per category; the number is counted anew.
            n_cont: how many columns are numbers.
            emb_drop: dropout of the embeddings.
            out_sz: how many outputs.
            szs: sizes of the hidden layers.
            drops: dropout after each of them.
            y_range: bounds of the outputs.
            use_bn: batch-norm in the hidden layers.
            opt_fn: makes the optimizer; Adam by default.
            metrics: instead of the task's own.

        Returns:
            The learner.

        Raises:
            ArgumentError: sizes do not fit the data or each other; the message says both.
        """
        data = self.data
        if len(emb_szs) != len(data.cat_names):
            raise ArgumentError(
                f"emb_szs has {len(emb_szs)} entries, cat_flds names {len(data.cat_names)} columns: {data.cat_names}"
            )
        columns = data.preprocessor.processor.cont_names
        if n_cont != len(columns):
            raise ArgumentError(f"n_cont is {n_cont}, but {len(columns)} columns are not in cat_flds: {columns[:20]}")
        if out_sz != data.task.n_out:
            raise ArgumentError(
                f"out_sz is {out_sz}, but there are {data.task.n_out} targets or classes: {list(data.task.names[:20])}"
            )
        if len(drops) != len(szs):
            raise ArgumentError(
                f"drops has {len(drops)} entries, szs has {len(szs)}: give one dropout for each hidden layer"
            )
        learn = tabular_learner(
            data, szs, emb_szs=list(emb_szs), emb_drop=emb_drop, num_emb_size=0, ps=drops, y_range=y_range,
            use_bn=use_bn, optimizer=opt_fn, metrics=metrics, path=self.path / "models",
        )  # fmt: skip
        return Learner07.of(learn)

    @property
    def bs(self) -> int:
        """Rows in a batch."""
        return self.data.batch_size

    @property
    def is_reg(self) -> bool:
        """Whether targets are numbers."""
        return self.data.task.predicts_numbers

    @property
    def is_multi(self) -> bool:
        """Whether rows have several labels."""
        return self.data.task.is_multi

    @property
    def trn_ds(self) -> ColumnarDataset:
        """The training rows as the model sees them."""
        return self._dataset("train")

    @property
    def val_ds(self) -> ColumnarDataset:
        """The validation rows as the model sees them."""
        return self._dataset("valid")

    @property
    def test_ds(self) -> ColumnarDataset | None:
        """The test rows as the model sees them; None without any."""
        return self._dataset("test") if "test" in self.data.splits else None

    @property
    def trn_y(self) -> Array:
        """Training targets."""
        return self._y("train")

    @property
    def val_y(self) -> Array:
        """Validation targets."""
        return self._y("valid")

    def _dataset(self, name: SplitName) -> ColumnarDataset:
        split = self.data._split(name)
        assert isinstance(split, MemorySplit)
        cats, conts = split.fetch()
        return ColumnarDataset(
            cats.numpy(), conts.numpy(), None if split.target is None else split.target.cpu().numpy()
        )

    def _y(self, name: SplitName) -> Array:
        target = self.data.target(name)
        assert target is not None
        y: Array = target.cpu().numpy()
        return y


class CollabFilterDataset:
    """Ratings of items by users. Make one with `from_csv` or `from_data_frame`.

    Args:
        path: `<path>/models` is where weights are saved.
        df: the ratings.
        columns: of users, items and ratings.
    """

    def __init__(self, path: StrPath, df: pd.DataFrame, columns: tuple[str, str, str]) -> None:
        self.path = Path(path)
        self.df = df
        self.columns = columns

    @classmethod
    @strict({"rating": "rating_name", "user": "user_name", "item": "item_name"})
    def from_data_frame(
        cls, path: StrPath, df: pd.DataFrame, user_name: str, item_name: str, rating_name: str
    ) -> CollabFilterDataset:
        """A DataFrame with one rating per row.

        Args:
            path: `<path>/models` is where weights are saved.
            df: the ratings.
            user_name, item_name, rating_name: its columns.
        """
        return cls(path, df, (user_name, item_name, rating_name))

    @classmethod
    @strict({"rating": "rating_name", "user": "user_name", "item": "item_name"})
    def from_csv(
        cls, path: StrPath, csv: StrPath, user_name: str, item_name: str, rating_name: str
    ) -> CollabFilterDataset:
        """A csv file with a header and one rating per line.

        Args:
            path: the folder of the file; `<path>/models` is where weights are saved.
            csv: name of the file.
            user_name, item_name, rating_name: its columns.
        """
        return cls.from_data_frame(path, read_table(Path(path) / csv).frame, user_name, item_name, rating_name)

    @strict({"opt_func": "opt_fn"})
    def get_learner(
        self,
        n_factors: int,
        val_idxs: Sequence[int] | Array,
        bs: int = 64,
        *,
        opt_fn: OptimizerFn | None = None,
        metrics: Sequence[Any] | None = None,
    ) -> Learner07:
        """A learner with the dot product of a user's and an item's vector, plus their biases.

        Args:
            n_factors: length of the vectors.
            val_idxs: positions of the validation rows.
            bs: rows in a batch.
            opt_fn: makes the optimizer, which then decays weights as it does by itself; `fit` takes another decay as
                `wd=`. None takes what `collab_learner` does.
            metrics: instead of the task's own.

        Returns:
            The learner. Predictions go a tenth beyond the lowest and the highest rating.
        """
        data = CollabData.from_df(self.df, *self.columns, valid=val_idxs, batch_size=bs)
        return Learner07.of(
            collab_learner(data, n_factors, optimizer=opt_fn, metrics=metrics, path=self.path / "models")
        )


def _with_target(df: pd.DataFrame, y: Rows) -> tuple[pd.DataFrame, list[str]]:
    """The table with y in columns of its own, and what these are called."""
    if not isinstance(df, pd.DataFrame):
        raise ArgumentError(f"expected a pandas DataFrame, got {type(df).__name__}")
    values = np.asarray(y)
    if values.ndim not in (1, 2) or len(values) != len(df):
        raise DataError(f"y must have one entry or one row per row of the table ({len(df)}), got shape {values.shape}")
    values = values.reshape(len(df), -1)
    names = ["y"] if values.shape[1] == 1 else [f"y{i}" for i in range(values.shape[1])]
    taken = [n for n in names if n in df.columns]
    if taken:
        raise DataError(f"the table has columns {taken}, which are what y is called here; rename them")
    return df.assign(**{n: values[:, i] for i, n in enumerate(names)}), names


def _task(is_reg: bool, is_multi: bool) -> TaskName:
    if is_reg and is_multi:
        raise ArgumentError("is_multi is for labels; pass is_reg=False with it")
    return "regression" if is_reg else "multi_label" if is_multi else "single_label"


def _data(
    table: pd.DataFrame,
    targets: list[str],
    valid: Sequence[int] | Array | pd.DataFrame,
    test: pd.DataFrame | None,
    cat_flds: Sequence[str],
    task: TaskName,
    bs: int,
) -> TabularData:
    conts = [str(c) for c in table.columns if c not in {*cat_flds, *targets}]
    return TabularData.from_df(
        table, targets, cat_names=cat_flds, cont_names=conts, valid=valid, test=test, task=task, batch_size=bs,
        scale="none",
    )  # fmt: skip


def _as_table(xs: Array) -> pd.DataFrame:
    values = np.asarray(xs)
    if values.ndim != 2:
        raise DataError(f"xs must have rows and columns, got shape {values.shape}")
    table: pd.DataFrame = pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])
    return table
