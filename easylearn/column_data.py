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
import torch
from torch import Tensor, nn

from . import learner2018
from .data.frames import read_table
from .data.split import split_indices
from .data.targets import TaskName
from .data.values import numbers, refuse_rows, require_columns
from .errors import ArgumentError, DataError
from .files import StrPath
from .imports import star
from .learner07 import Learner07, _logs
from .modeldata import Array, ModelData, RowLoader
from .nn.embeddings import DotProduct, Forget, SigmoidRange, TableModel
from .nn.registry import note
from .options import strict
from .tabular.collab import WD
from .tabular.data import TabularData
from .tabular.learner import UNKNOWN_P, tabular_learner, unknowns, with_decay
from .train.optim import OptimizerFn, adamw

if TYPE_CHECKING:
    Rows = Sequence[Any] | Array | pd.Series[Any] | pd.DataFrame

adam = functools.partial(adamw, weight_decay=0.0)  # without weight decay, AdamW is Adam


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
        """Columns of a table by name."""
        return cls(*(df[c] for c in [*cols_x, col_y]), is_reg=is_reg, is_multi=is_multi)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> list[Any]:
        return [a[i] for a in [*self.xs, self.y]]

    def batch(self, rows: Any) -> list[Array]:
        """Some rows at once."""
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
        """A table of codes and one of numbers.

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
        """A table whose columns in `cat_flds` are codes, and all others numbers."""
        if not isinstance(df, pd.DataFrame):
            raise ArgumentError(f"expected a pandas DataFrame, got {type(df).__name__}")
        require_columns(df, [*df.columns, *cat_flds])
        return cls.from_data_frames(df[list(cat_flds)], df.drop(columns=list(cat_flds)), y, is_reg, is_multi)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> list[Any]:
        return [self.cats[i], self.conts[i], self.y[i]]

    def batch(self, rows: Any) -> list[Array]:
        """Some rows at once."""
        return [self.cats[rows], self.conts[rows], self.y[rows]]

    def frame(self) -> tuple[pd.DataFrame, list[str]]:
        """The inputs as a table, and which of its columns are codes."""
        made = [pd.DataFrame(self.cats[:, : self.n_cats]), pd.DataFrame(self.conts[:, : self.n_conts])]
        table: pd.DataFrame = pd.concat(made, axis=1)
        return table.set_axis(self.names, axis=1), self.names[: self.n_cats]


class TableData07(ModelData, TabularData):
    """What the learner of a table has as `data`: a `TabularData` with `trn_ds`, `val_dl`, `val_y` and so on."""

    __init__ = TabularData.__init__

    def shown_as(self, md: ModelData) -> TableData07:
        """The same with what the 2018 names stand for."""
        self.path, self.trn_dl, self.val_dl, self.test_dl = md.path, md.trn_dl, md.val_dl, md.test_dl
        return self


class StructuredLearner(Learner07):
    """The learner of a table."""

    __slots__ = ()

    def predict_array(self, x_cat: Any, x_cont: Any) -> Array:
        """What `predict()` would give for rows of codes, shape (n, n_cat), and of numbers, shape (n, n_cont)."""
        ds = self.data.trn_ds
        cats, conts = np.transpose(x_cat)[: ds.n_cats], np.transpose(x_cont)[: ds.n_conts]
        rows, _ = ColumnarDataset([*cats], [*conts], names=ds.names).frame()
        return _logs(self.task, self.predict(rows).probs).numpy()

    def predict_with_targs(self, is_test: bool = False) -> tuple[Array, Array | None]:
        """See `Learner07`; numbers and their targets have one shape, (n, n_out)."""
        found, target = super().predict_with_targs(is_test)
        return found, target.reshape(found.shape) if target is not None and self.task.predicts_numbers else target


class CollabFilterLearner(Learner07):
    """The learner of ratings."""

    __slots__ = ()

    def predict_with_targs(self, is_test: bool = False) -> tuple[Array, Array | None]:
        """See `Learner07`; ratings and predictions have shape (n,)."""
        found, target = super().predict_with_targs(is_test)
        return found.ravel(), None if target is None else target.ravel()


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
        super().__init__(path, RowLoader(trn_ds, bs, shuffle), *others)

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
        targets, (train, valid) = _target(df, y, is_reg, is_multi), _rows(len(df), val_idxs)
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
        given = {"train": (trn_df, trn_y), "valid": (val_df, val_y), "test": (test_df, None)}
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
        train, valid = _rows(len(values), val_idxs)
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
        made = TableData07.from_df(
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
            data, szs, emb_szs=list(emb_szs), emb_drop=emb_drop, num_emb_size=0, ps=drops, y_range=y_range,
            use_bn=use_bn, optimizer=opt_fn, metrics=metrics, loss=crit, clip=clip, path=self.path / "models",
        )  # fmt: skip
        return StructuredLearner.of(learn)


class EmbeddingDotBias(DotProduct):
    """The dot product of a user's and an item's vector, plus their biases, between two bounds.

    Args:
        n_factors: length of the vectors.
        n_users, n_items: how many vectors there are.
        min_score, max_score: the bounds.
        codes: for users and for items, the row of the table that each number has; None gives a row to each.
        forget: see `DotProduct`.
    """

    def __init__(
        self,
        n_factors: int,
        n_users: int,
        n_items: int,
        min_score: float,
        max_score: float,
        codes: Sequence[Tensor] | None = None,
        forget: Forget | None = None,
    ) -> None:
        self.codes = [torch.arange(n_users), torch.arange(n_items)] if codes is None else list(codes)
        made = {"n_users": n_users, "n_items": n_items, "n_factors": n_factors}
        super().__init__(**made, output=SigmoidRange([min_score], [max_score]), forget=forget)
        note(self, "easylearn.dot_product", {**made, "output": self.output, "forget": forget})

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores (b,) of numbers of users and of items, or (b, 1) of `DotProduct`'s codes."""
        if users.ndim > 1:
            return super().forward(users, items)
        rows = [c.to(users.device)[x] for c, x in zip(self.codes, (users, items), strict=True)]
        return super().forward(torch.stack(rows, 1), users).squeeze(1)

    def _table(self, column: int, part: slice) -> nn.Embedding:
        rows = self.vectors(column)[self.codes[column].to(self.bias.device)]
        return nn.Embedding.from_pretrained(rows[:, part].clone())

    @property
    def u(self) -> nn.Embedding:
        """The vectors of users by number, as they are now."""
        return self._table(0, slice(-1))

    @property
    def i(self) -> nn.Embedding:
        """The vectors of items."""
        return self._table(1, slice(-1))

    @property
    def ub(self) -> nn.Embedding:
        """The biases of users."""
        return self._table(0, slice(-1, None))

    @property
    def ib(self) -> nn.Embedding:
        """The biases of items."""
        return self._table(1, slice(-1, None))


def get_emb(ni: int, nf: int) -> nn.Embedding:
    """A small random vector of length `nf` for each of `ni` codes."""
    made = nn.Embedding(ni, nf)
    nn.init.uniform_(made.weight, -0.05, 0.05)
    return made


def emb_init(x: nn.Embedding) -> None:
    """Give an embedding random numbers that are the smaller the longer its vectors are."""
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
        """Outputs (b, out_sz) of codes (b, n_cat) and numbers (b, n_cont)."""
        out = super().forward(x_cat[:, : len(self.embeddings.tables)], x_cont[:, : self.n_cont])
        return out if self.is_reg else out.sigmoid() if self.is_multi else out.log_softmax(1)


class CollabFilterDataset:
    """Ratings of items by users. Make one with `from_csv` or `from_data_frame`.

    Args:
        path: `<path>/models` is where weights are saved.
        user_col, item_col, ratings: of equal length.

    Attributes:
        users, items: each user and item once, in the order of their first rating.
        user2idx, item2idx: their positions there.
        user_col, item_col: the positions, one for each rating.
        n_users, n_items, n: how many there are, and how many ratings.
        min_score, max_score: the lowest and the highest rating.

    >>> df = pd.DataFrame({"who": ["b", "a", "b"], "film": [7, 7, 9], "stars": [4, 2, 5]})
    >>> cf = CollabFilterDataset.from_data_frame(".", df, "who", "film", "stars")
    >>> cf.n_users, cf.item2idx[9], cf.user_col.tolist(), cf.item_col.tolist()
    (2, 1, [0, 1, 0], [0, 0, 1])
    """

    def __init__(self, path: StrPath, user_col: pd.Series[Any], item_col: pd.Series[Any], ratings: Any) -> None:
        self.path = Path(path)
        names = [s.name if s.name is not None else w for s, w in ((user_col, "user"), (item_col, "item"))]
        self.df = pd.DataFrame({names[0]: user_col.array, names[1]: item_col.array, "rating": np.asarray(ratings)})
        self.ratings = numbers(self.df["rating"]).astype(np.float32)
        self.n, self.min_score, self.max_score = len(self.df), min(self.ratings), max(self.ratings)
        self.users, self.user2idx, self.user_col, self.n_users = self.proc_col(user_col)
        self.items, self.item2idx, self.item_col, self.n_items = self.proc_col(item_col)
        self.cols = [self.user_col, self.item_col, self.ratings]

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
        require_columns(df, [user_name, item_name, rating_name])
        return cls(path, df[user_name], df[item_name], df[rating_name])

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

    @staticmethod
    def proc_col(col: pd.Series[Any]) -> tuple[Array, dict[Any, int], Array, int]:
        """A column's values once each, their positions by value, the position of each row's value, and how many."""
        codes, found = pd.factorize(col)
        uniq = np.asarray(found)
        return uniq, {value: i for i, value in enumerate(uniq)}, codes.astype(np.int64), len(uniq)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> list[Any]:
        return [column[i] for column in self.cols]

    def get_data(self, val_idxs: Sequence[int] | Array | None, bs: int = 64) -> ColumnarModelData:
        """Batches of users' and items' positions, and ratings, for a model and a loop of one's own."""
        train, valid = (PassthruDataset(*(c[rows] for c in self.cols)) for rows in _rows(self.n, val_idxs))
        return ColumnarModelData(self.path, train, valid if len(valid) else None, bs)

    def get_model(self, n_factors: int) -> EmbeddingDotBias:
        """A model of the positions, between the lowest and the highest rating."""
        return EmbeddingDotBias(n_factors, self.n_users, self.n_items, self.min_score, self.max_score)

    @strict({"opt_func": "opt_fn"})
    def get_learner(
        self,
        n_factors: int,
        val_idxs: Sequence[int] | Array,
        bs: int = 64,
        *,
        opt_fn: OptimizerFn | None = None,
        metrics: Sequence[Any] | None = None,
        crit: Any = None,
        clip: float | None = None,
    ) -> CollabFilterLearner:
        """A learner with the dot product of a user's and an item's vector, plus their biases.

        Args:
            n_factors: length of the vectors.
            val_idxs: positions of the validation rows.
            bs: rows in a batch.
            opt_fn: makes the optimizer, which then decays weights as it does by itself; `fit` takes another decay as
                `wds=`. None takes what `collab_learner` does.
            metrics: instead of the task's own.
            crit: the loss instead of the mean square error.
            clip: largest norm of the gradients.

        Returns:
            The learner, whose `model` gives vectors and biases by position: `model.i(V(cf.item2idx[name]))`, and `u`,
            `ub` and `ib`. Predictions go a tenth beyond the lowest and the highest rating.
        """
        user, item, rating = self.df.columns
        data = TableData07.from_df(
            self.df, rating, cat_names=[user, item], cont_names=[], valid=val_idxs, task="regression", batch_size=bs
        ).shown_as(self.get_data(val_idxs, bs))
        n = np.arange(max(self.n_users, self.n_items))
        each = pd.DataFrame({user: self.users[n % self.n_users], item: self.items[n % self.n_items]})
        codes = data.preprocessor.read(each).values.tensors()[0]
        room = (self.max_score - self.min_score) / 10 or 1.0
        model = EmbeddingDotBias(
            n_factors, *data.preprocessor.processor.cardinalities.values(), self.min_score - room,
            self.max_score + room, [codes[: self.n_users, 0], codes[: self.n_items, 1]], unknowns(data, UNKNOWN_P),
        )  # fmt: skip
        options = {"optimizer": opt_fn, "metrics": metrics, "loss": crit, "clip": clip, "path": self.path / "models"}
        return CollabFilterLearner(data, model, **with_decay(options, WD))


def _rows(n: int, valid: Sequence[int] | Array | None) -> tuple[Array, Array]:
    """Positions of training and validation rows; negative ones count from the end, as NumPy has them."""
    if valid is None or not len(valid):
        return np.arange(n), np.arange(0)
    given = np.asarray(valid)
    if given.dtype.kind in "iu" and -n <= given.min() < 0:
        given = given % n
    return split_indices(n, given)


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


_OWN = [
    "CollabFilterDataset", "CollabFilterLearner", "ColumnarDataset", "ColumnarModelData",    "EmbeddingDotBias", "MixedInputModel", "ModelData", "PassthruDataset", "StructuredLearner", "emb_init", "get_emb",
]  # fmt: skip
__all__ = star(globals(), learner2018, own=_OWN)
