"""2018's collaborative filtering: ratings as `CollabFilterDataset`. Thin, over `TabularData` and `DotProduct`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .data.frames import read_table
from .data.values import numbers, require_columns
from .datasets07 import ModelData
from .files import StrPath
from .learner07 import Learner07
from .learning import Learner, TrainingOptions
from .modeldata import Array, PassthruDataset, RowLoader, TableData07, split_rows
from .nn.embeddings import DotProduct, Forget, SigmoidRange
from .nn.registry import note
from .options import strict
from .tabular.collab import WD
from .tabular.learner import UNKNOWN_P, unknowns, with_decay
from .train.optim import OptimizerFn

__all__ = ["CollabFilterDataset", "CollabFilterLearner", "EmbeddingDotBias", "get_emb"]


class CollabFilterLearner(Learner07):
    """The learner of ratings."""

    __slots__ = ()

    def predict_with_targs(self, is_test: bool = False, use_swa: bool = False) -> tuple[Array, Array | None]:
        """See `Learner07`; ratings and predictions have shape (n,)."""
        found, target = super().predict_with_targs(is_test)
        return found.ravel(), None if target is None else target.ravel()


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

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, "DotProduct", 1)  # which it is for a file

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores (b,) of numbers of `users` and of `items`, or (b, 1) of `DotProduct`'s codes."""
        if users.ndim > 1:
            return super().forward(users, items)
        rows = [c.to(users.device)[x] for c, x in zip(self.codes, (users, items), strict=True)]
        return super().forward(torch.stack(rows, 1), users).squeeze(1)

    def _table(self, column: int, part: slice) -> nn.Embedding:
        rows = self.vectors(column)[self.codes[column].to(self.bias.device)]
        made: nn.Embedding = nn.Embedding.from_pretrained(rows[:, part].clone())  # type: ignore[no-untyped-call]
        return made

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
        """The values of `col` once each, their positions by value, the position of each row's value, and how many."""
        codes, found = pd.factorize(col)
        uniq = np.asarray(found)
        return uniq, {value: i for i, value in enumerate(uniq)}, codes.astype(np.int64), len(uniq)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> list[Any]:
        return [column[i] for column in self.cols]

    def get_data(self, val_idxs: Sequence[int] | Array | None, bs: int = 64) -> ModelData:
        """Batches of `bs` positions of users and items, and ratings, for a loop of one's own; `val_idxs` validate."""
        train, valid = (PassthruDataset(*(c[rows] for c in self.cols)) for rows in split_rows(self.n, val_idxs))
        return ModelData(self.path, RowLoader(train, bs, True), RowLoader(valid, 2 * bs) if len(valid) else None)

    def get_model(self, n_factors: int) -> EmbeddingDotBias:
        """A model of the positions, with `n_factors` numbers each, between the lowest and the highest rating."""
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
        n_users, n_items = data.preprocessor.processor.cardinalities.values()
        model = EmbeddingDotBias(
            n_factors, n_users, n_items, self.min_score - room,
            self.max_score + room, [codes[: self.n_users, 0], codes[: self.n_items, 1]], unknowns(data, UNKNOWN_P),
        )  # fmt: skip
        options: TrainingOptions = {"optimizer": opt_fn, "metrics": metrics, "loss": crit, "clip": clip}
        options["path"] = self.path / "models"
        return CollabFilterLearner.of(Learner(data, model, **with_decay(options, WD)))
