"""The 2018 names for models on tables: `from easylearn.column_data import *`. Thin, over `TabularData`.

`trn_ds`, `trn_dl` and the like hold the codes and numbers of the table as they were given, for models and loops of
one's own. `get_learner` takes these codes as categories: one that training does not hold counts as *unknown*, and an
embedding has as many rows as training has codes, two more for *unknown* and *missing*.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from . import collab07, learner, modeldata
from .data.targets import TaskName
from .data.values import numbers, refuse_rows, require_columns
from .datasets07 import ModelData
from .errors import ArgumentError, DataError
from .files import StrPath
from .fit07 import logs
from .imports import star
from .learner07 import Learner07
from .modeldata import Array, ColumnarDataset, PassthruDataset, RowLoader, TableData07, split_rows
from .nn.embeddings import SigmoidRange, TableModel
from .options import strict
from .tabular.learner import tabular_learner
from .train.optim import OptimizerFn, adamw

if TYPE_CHECKING:
    Rows = Sequence[Any] | Array | pd.Series[Any] | pd.DataFrame

adam = functools.partial(adamw, weight_decay=0.0)  # without weight decay, AdamW is Adam


class StructuredLearner(Learner07):
    """The learner of a table."""

    __slots__ = ()

    def predict_array(self, x_cat: Any, x_cont: Any) -> Array:  # type: ignore[override]
        """What `predict()` would give for rows of codes, `x_cat` (n, n_cat), and of numbers, `x_cont` (n, n_cont)."""
        assert isinstance(self.data, TableData07)
        ds = self.data.trn_ds
        cats, conts = np.transpose(x_cat)[: ds.n_cats], np.transpose(x_cont)[: ds.n_conts]
        rows, _ = ColumnarDataset([*cats], [*conts], names=ds.names).frame()
        return logs(self.task, self.predict(rows).probs).numpy()

    def predict_with_targs(self, is_test: bool = False, use_swa: bool = False) -> tuple[Array, Array | None]:
        """See `Learner07`; numbers and their targets have one shape, (n, n_out)."""
        found, target = super().predict_with_targs(is_test)
        return found, target.reshape(found.shape) if target is not None and self.task.predicts_numbers else target


class ColumnarModelData(ModelData):
    """A table whose categories are codes already and whose other columns are numbers.

    Make one with `from_data_frame`, `from_data_frames` or `from_arrays`.

    Args:
        path: `<path>/models` is where weights are saved.
        trn_ds, val_ds, test_ds: `ColumnarDataset`s or `PassthruDataset`s; the last two may be None.
        bs: rows in a batch.
        shuffle: train in a new order in each epoch.
    """

    def __init__(
        self, path: StrPath, trn_ds: Any, val_ds: Any, bs: int = 64, test_ds: Any = None, shuffle: bool = True
    ) -> None:
        others = [None if ds is None else RowLoader(ds, 2 * bs) for ds in (val_ds, test_ds)]
        super().__init__(Path(path), RowLoader(trn_ds, bs, shuffle), *others)
        self.bs = bs

    @property
    def val_ds(self) -> Any:
        """The validation rows; None without any."""
        return None if self.val_dl is None else self.val_dl.dataset

    @property
    def test_ds(self) -> Any:
        """The test rows; None without any."""
        return None if self.test_dl is None else self.test_dl.dataset

    @classmethod
    @strict({"val_idx": "val_idxs", "df_test": "test_df", "cat_vars": "cat_flds"})
    def from_data_frame(
        cls,
        path: StrPath,
        val_idxs: Sequence[int] | Array | None,
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
            val_idxs: positions of the validation rows, or a mask; None for no validation.
            df: every column is a feature: those in `cat_flds` are categories, all others numbers.
            y: what to predict, one entry per row, or one row of zeros and ones if `is_multi`.
            cat_flds: the columns of categories.
            bs: rows in a batch.
            is_reg: whether y is a number; otherwise a class, or several.
            is_multi: whether a row has any number of labels; then `is_reg` must be False.
            test_df: rows to predict.
            shuffle: train in a new order in each epoch.
        """
        targets, (train, valid) = _target(df, y, is_reg, is_multi), split_rows(len(df), val_idxs)
        return cls.from_data_frames(
            path, df.iloc[train], df.iloc[valid] if len(valid) else None, targets[train], targets[valid], cat_flds, bs,
            is_reg, is_multi, test_df, shuffle,
        )  # fmt: skip

    @classmethod
    @strict({"df_test": "test_df", "cat_vars": "cat_flds"})
    def from_data_frames(
        cls,
        path: StrPath,
        trn_df: pd.DataFrame,
        val_df: pd.DataFrame | None,
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
        given: dict[str, tuple[Any, Any]] = {
            "train": (trn_df, trn_y),
            "valid": (val_df, val_y),
            "test": (test_df, None),
        }
        made: dict[str, Any] = dict.fromkeys(given)
        for name, (df, y) in given.items():
            if df is not None or name == "train":
                target = None if y is None else _target(df, y, is_reg, is_multi)
                made[name] = ColumnarDataset.from_data_frame(df, cat_flds, target, is_reg, is_multi)
                shapes = made[name].y.shape, made["train"].y.shape
                if name == "valid" and shapes[0][1:] != shapes[1][1:]:
                    raise DataError(f"targets have shape {shapes[1]} in training, but {shapes[0]} in validation")
                if made[name].names != made["train"].names:
                    require_columns(df, made["train"].names)
                    made[name] = ColumnarDataset.from_data_frame(df[trn_df.columns], cat_flds, target, is_reg, is_multi)
        return cls(path, made["train"], made["valid"], bs, made["test"], shuffle)

    @classmethod
    @strict()
    def from_arrays(
        cls,
        path: StrPath,
        val_idxs: Sequence[int] | Array | None,
        xs: Array,
        y: Rows,
        is_reg: bool = True,
        is_multi: bool = False,
        bs: int = 64,
        test_xs: Array | None = None,
        shuffle: bool = True,
    ) -> ColumnarModelData:
        """An array of numbers, each of whose columns is an input of its own: x0, x1 ...

        Args:
            path, val_idxs, y, is_reg, is_multi, bs, shuffle: see `from_data_frame`.
            xs: shape (n, columns).
            test_xs: rows to predict.

        >>> md = ColumnarModelData.from_arrays(".", [0, 1], np.arange(20.0).reshape(10, 2), np.arange(10) % 3)
        >>> len(md.trn_dl), md.val_y.tolist(), [t.shape for t in next(iter(md.trn_dl))]
        (1, [0, 1], [torch.Size([8]), torch.Size([8]), torch.Size([8])])
        """
        values, targets = np.asarray(xs), np.asarray(y)
        if values.ndim != 2 or len(values) != len(targets):
            raise DataError(
                f"xs must have rows and columns, and y one entry per row, got shapes {values.shape} and {targets.shape}"
            )
        train, valid = split_rows(len(values), val_idxs)
        how = {"is_reg": is_reg, "is_multi": is_multi}
        some = [PassthruDataset(*values[rows].T, targets[rows], **how) for rows in (train, valid)]
        test = None if test_xs is None else np.asarray(test_xs)
        test_ds = None if test is None else PassthruDataset(*test.T, np.zeros(len(test)), **how)
        return cls(path, some[0], some[1] if len(valid) else None, bs, test_ds, shuffle)

    @property
    def data(self) -> TableData07:
        """The table with categories that training knows, as a learner takes it; made anew at each call."""
        parts = [(ds, *ds.frame()) for ds in (self.trn_ds, self.val_ds, self.test_ds) if ds is not None]
        y = np.asarray(self.trn_y).reshape(len(self.trn_ds), -1)
        (_, _, cats), names = parts[0], list(parts[0][1].columns)
        mark = next(mark for mark in ("", "_", "__") if not {f"y{mark}", f"y{mark}0"} & {*names})
        targets = [f"y{mark}"] if y.shape[1] == 1 else [f"y{mark}{i}" for i in range(y.shape[1])]
        frames = [
            frame if ds is self.test_ds else frame.assign(**dict(zip(targets, _columns(ds.y), strict=True)))
            for ds, frame, _ in parts
        ]
        valid = None if self.val_ds is None else frames[1]
        made: TableData07 = TableData07.from_df(
            frames[0], targets, cat_names=cats, cont_names=[n for n in names if n not in cats], valid=valid,
            test=None if self.test_ds is None else frames[-1], task=_task(self.is_reg, self.is_multi),
            batch_size=self.bs, scale="none",
        )  # fmt: skip
        made.shuffle = self.trn_dl.shuffle
        return made.shown_as(self)

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
        crit: Any = None,
        clip: float | None = None,
    ) -> StructuredLearner:
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
            crit: the loss instead of the task's own: of (logits, targets) where there are classes.
            clip: largest norm of the gradients.

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
            data, szs, linear=False, emb_szs=list(emb_szs), emb_drop=emb_drop, num_emb_size=0, ps=drops,
            y_range=y_range, use_bn=use_bn, optimizer=opt_fn, metrics=metrics, loss=crit, clip=clip,
            path=Path(self.path) / "models",
        )  # fmt: skip
        return StructuredLearner.of(learn)


def emb_init(x: nn.Embedding) -> None:
    """Give the embedding `x` random numbers that are the smaller the longer its vectors are."""
    nn.init.uniform_(x.weight, -2 / (x.embedding_dim + 1), 2 / (x.embedding_dim + 1))


class MixedInputModel(TableModel):
    """Embeddings of codes and batch-normalised numbers through a small network, for `fit(model, md, ...)`.

    Args:
        emb_szs: (number of codes, length of a vector) per column of codes.
        n_cont, emb_drop, out_sz, szs, drops, y_range, use_bn: see `ColumnarModelData.get_learner`.
        is_reg, is_multi: numbers, else probabilities of labels, else log-probabilities of classes.
    """

    def __init__(
        self,
        emb_szs: Sequence[tuple[int, int]],
        n_cont: int,
        emb_drop: float,
        out_sz: int,
        szs: Sequence[int],
        drops: Sequence[float],
        y_range: tuple[float, float] | None = None,
        use_bn: bool = False,
        is_reg: bool = True,
        is_multi: bool = False,
    ) -> None:
        bounds = SigmoidRange(*([bound] * out_sz for bound in y_range)) if y_range and is_reg else None
        super().__init__(emb_szs, n_cont, out_sz, list(szs), drops, emb_drop, use_bn, bounds)
        self.n_cont, self.is_reg, self.is_multi = n_cont, is_reg, is_multi

    def forward(self, x_cat: Tensor, x_cont: Tensor) -> Tensor:
        """Outputs (b, out_sz) of codes `x_cat` (b, n_cat) and numbers `x_cont` (b, n_cont)."""
        out = super().forward(x_cat[:, : len(self.embeddings.tables)], x_cont[:, : self.n_cont])
        return out if self.is_reg else out.sigmoid() if self.is_multi else out.log_softmax(1)


def _target(df: pd.DataFrame, y: Rows, is_reg: bool, is_multi: bool) -> Array:
    """The targets as an array, one entry or one row per row of the table."""
    _task(is_reg, is_multi)
    if not isinstance(df, pd.DataFrame):
        raise ArgumentError(f"expected a pandas DataFrame, got {type(df).__name__}")
    values = np.asarray(y)
    if values.ndim not in (1, 2) or len(values) != len(df):
        raise DataError(f"y must have one entry or one row per row of the table ({len(df)}), got shape {values.shape}")
    for column in _columns(values):
        missing = ~np.isfinite(numbers(pd.Series(column, name="y"))) if is_reg else pd.isna(column)
        refuse_rows(pd.Series(column, name="y"), np.flatnonzero(missing), "are missing; drop these rows")
    return values


def _columns(y: Array) -> list[Array]:
    return [y] if y.ndim == 1 else list(y.T)


def _task(is_reg: bool, is_multi: bool) -> TaskName:
    if is_reg and is_multi:
        raise ArgumentError("is_multi is for labels; pass is_reg=False with it")
    return "regression" if is_reg else "multi_label" if is_multi else "single_label"


_OWN = ["ColumnarModelData", "MixedInputModel", "StructuredLearner", "emb_init"]
__all__ = star(globals(), learner, modeldata, collab07, own=_OWN)
