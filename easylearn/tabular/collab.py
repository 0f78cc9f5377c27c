"""Collaborative filtering: who likes what, from ratings alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..data.frames import read_table
from ..data.split import Split
from ..errors import ArgumentError, DataError
from ..files import StrPath
from ..learner import Learner
from ..nn.embeddings import DotProduct
from ..options import strict
from ..task import LossFn
from ..train.callback import Callback
from ..train.optim import OptimizerFn, adamw
from .data import TabularData
from .learner import FORGET, EmbSizes, forgetting, output_layer, tabular_learner
from .ranges import YRange

if TYPE_CHECKING:
    import pandas as pd

_OLD_NAMES = {
    "user_name": "user",
    "item_name": "item",
    "rating_name": "rating",
    "valid_pct": "valid",
    "val_idxs": "valid",
    "bs": "batch_size",
}
WD = 0.3


class CollabData:
    """Makers of ratings: a `TabularData` of two categorical columns, user and item, and a number to predict."""

    @classmethod
    @strict(_OLD_NAMES)
    def from_df(
        cls,
        df: pd.DataFrame,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        *,
        valid: Split | pd.DataFrame | None = 0.2,
        time: str | None = None,
        test: pd.DataFrame | None = None,
        batch_size: int | None = None,
        min_count: int = 1,
        y_range: YRange = "auto",
        seed: int = 0,
    ) -> TabularData:
        """A DataFrame with one rating per row.

        Args:
            df: the ratings.
            user: column of users; None takes the first.
            item: column of items; None takes the second.
            rating: column of ratings; None takes the third.
            valid, time, test, batch_size, seed: see `TabularData.from_df`.
            min_count: users and items with fewer ratings count as *unknown*.
            y_range: the lowest and the highest prediction; "auto" goes a tenth beyond the ratings on both sides,
                since a sigmoid reaches its bounds never.

        Returns:
            The data.
        """
        import pandas as pd

        if not isinstance(df, pd.DataFrame):
            raise ArgumentError(f"df must be a pandas DataFrame, got {type(df).__name__}")
        if df.shape[1] < 3 and None in (user, item, rating):
            raise DataError(f"ratings need columns of users, items and ratings, got {list(df.columns)}; name them")
        names = [str(df.columns[i]) if n is None else n for i, n in enumerate((user, item, rating))]
        return TabularData.from_df(
            df, names[2], cat_names=names[:2], cont_names=[], valid=valid, time=time, test=test, task="regression",
            batch_size=batch_size, min_count=min_count, y_range=y_range, seed=seed,
        )  # fmt: skip

    @classmethod
    @strict(_OLD_NAMES)
    def from_csv(
        cls,
        path: StrPath,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        *,
        valid: Split | None = 0.2,
        time: str | None = None,
        batch_size: int | None = None,
        min_count: int = 1,
        y_range: YRange = "auto",
        seed: int = 0,
    ) -> TabularData:
        """A csv file with one rating per line; see `from_df`."""
        return cls.from_df(
            read_table(path).frame, user, item, rating, valid=valid, time=time, batch_size=batch_size,
            min_count=min_count, y_range=y_range, seed=seed,
        )  # fmt: skip


@strict({"opt_func": "optimizer", "opt_fn": "optimizer", "loss_func": "loss", "cbs": "callbacks"})
def collab_learner(
    data: TabularData,
    n_factors: int = 50,
    *,
    y_range: YRange = None,
    use_nn: bool = False,
    layers: Sequence[int] = (100,),
    emb_szs: EmbSizes | None = None,
    ps: float | Sequence[float] = 0.0,
    forget: float = FORGET,
    optimizer: OptimizerFn | None = None,
    metrics: Sequence[Any] | None = None,
    loss: LossFn | None = None,
    wd: float | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    path: StrPath = "models",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Learner:
    """A learner for ratings: the dot product of a user's and an item's vector, plus their biases.

    Users and items that training did not see get the vector of the unknown, which is learnt; see `forget`.

    Args:
        data: made by `CollabData`.
        n_factors: length of the vectors.
        y_range: see `CollabData.from_df`; None takes what the data says.
        use_nn: instead, a small network over embeddings of both, as `tabular_learner` makes it.
        layers: its hidden layers.
        emb_szs: lengths of its embeddings; None takes `emb_size`'s rule.
        ps: its dropout.
        forget: share of users and items that training replaces by *unknown*.
        optimizer: None takes AdamW.
        wd: weight decay, which keeps those with few ratings near the mean; None is 0.3 for that AdamW, and the
            optimizer's own for others.
        metrics, loss, device, seed, path, callbacks, progress: see `Learner`.

    Returns:
        The learner.
    """
    if not isinstance(data, TabularData):
        raise ArgumentError(f"collab_learner needs ratings made by CollabData, got {type(data).__name__}")
    if len(data.cat_names) != 2 or data.cont_names or not data.task.predicts_numbers or data.task.n_out != 1:
        raise ArgumentError(
            f"collab_learner needs ratings of items by users, made by CollabData; this is {data!r}. For other tables "
            "use tabular_learner"
        )
    if optimizer is None:
        optimizer, wd = adamw, WD if wd is None else wd
    if use_nn:
        return tabular_learner(
            data, layers, emb_szs=emb_szs, ps=ps, forget=forget, y_range=y_range, optimizer=optimizer, metrics=metrics,
            loss=loss, wd=wd, device=device, seed=seed, path=path, callbacks=callbacks, progress=progress,
        )  # fmt: skip
    if n_factors < 1:
        raise ArgumentError(f"n_factors must be at least 1, got {n_factors}")
    users, items = data.processor.cardinalities.values()
    model: nn.Module = DotProduct(users, items, n_factors, output_layer(data, y_range), forgetting(data, forget), seed)
    return Learner(
        data, model, optimizer=optimizer, metrics=metrics, loss=loss, wd=wd, device=device, seed=seed, path=path,
        callbacks=callbacks, progress=progress,
    )  # fmt: skip
