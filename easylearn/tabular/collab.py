"""Collaborative filtering: who likes what, from ratings alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..data.frames import known_types, read_table
from ..data.split import Split
from ..data.weights import ItemWeights
from ..errors import ArgumentError, DataError, check_whole
from ..files import StrPath
from ..learning import Learner, Training
from ..nn.embeddings import DotProduct, YRange
from ..options import strict
from .data import TabularData
from .learner import UNKNOWN_P, EmbSizes, output_layer, tabular_learner, unknowns, with_decay

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack

    from ..learning import TrainingOptions
    from .options import TableKeywords

_OLD_NAMES = {
    "user_name": "user", "item_name": "item", "rating_name": "rating", "valid_pct": "valid", "val_idxs": "valid",
    "bs": "batch_size",
}  # fmt: skip
WD = 0.3


@dataclass(frozen=True)
class RatingOptions:
    """How ratings become data.

    Args:
        time: a column; the last ratings by it validate.
        weights: see `TabularData.from_df`.
        batch_size: ratings in a batch; None takes 64 to 1024, by their number.
        min_count: users and items with fewer ratings count as *unknown*.
        y_range: the lowest and the highest prediction; "auto" goes a tenth beyond the ratings on both sides, since a
            sigmoid never reaches its bounds.
        seed: of the split by fraction.
    """

    time: str | None = None
    weights: ItemWeights = None
    batch_size: int | None = None
    min_count: int = 1
    y_range: YRange = "auto"
    seed: int = 0


class CollabData:
    """Makers of ratings: a `TabularData` of two categorical columns, user and item, and a number to predict."""

    @classmethod
    @strict(_OLD_NAMES, RatingOptions)
    def from_df(
        cls,
        df: pd.DataFrame,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        *,
        valid: Split | pd.DataFrame = 0.2,
        test: pd.DataFrame | None = None,
        **options: Unpack[TableKeywords],
    ) -> TabularData:
        """A DataFrame with one rating per row.

        Args:
            df: the ratings.
            user, item, rating: columns; None takes the first, the second and the third.
            valid, test: see `TabularData.from_df`.
        """
        import pandas as pd

        if not isinstance(df, pd.DataFrame):
            raise ArgumentError(f"df must be a pandas DataFrame, got {type(df).__name__}")
        if df.shape[1] < 3 and None in (user, item, rating):
            raise DataError(f"ratings need columns of users, items and ratings, got {list(df.columns)}; name them")
        names = [str(df.columns[i]) if n is None else n for i, n in enumerate((user, item, rating))]
        how = vars(RatingOptions(**options))  # type: ignore[misc]  # `strict` lets no other options pass
        return TabularData.from_df(
            df, names[2], cat_names=names[:2], cont_names=[], valid=valid, test=test, task="regression", **how
        )

    @classmethod
    @strict(_OLD_NAMES, RatingOptions)
    def from_csv(
        cls,
        path: StrPath,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        *,
        valid: Split = 0.2,
        test: StrPath | None = None,
        **options: Unpack[TableKeywords],
    ) -> TabularData:
        """A csv file with one rating per line; arguments as in `CollabData.from_df`, but for these.

        Args:
            path: the file.
            test: a file of ratings to predict.
        """
        df = read_table(path).frame
        other = None if test is None else read_table(test, **known_types(df)).frame
        return cls.from_df(df, user, item, rating, valid=valid, test=other, **options)


@strict(
    {"opt_func": "optimizer", "opt_fn": "optimizer", "loss_func": "loss", "cbs": "callbacks", "forget": "unknown_p"},
    Training,
)
def collab_learner(
    data: TabularData,
    n_factors: int = 50,
    *,
    y_range: YRange = None,
    use_nn: bool = False,
    layers: Sequence[int] = (100,),
    emb_szs: EmbSizes | None = None,
    ps: float | Sequence[float] = 0.0,
    unknown_p: float = UNKNOWN_P,
    **options: Unpack[TrainingOptions],
) -> Learner:
    """A learner for ratings: the dot product of a user's and an item's vector, plus their biases.

    Users and items that training did not see get the vector of the unknown, which is learnt; see `unknown_p`.

    Args:
        data: made by `CollabData`.
        n_factors: length of the vectors.
        y_range: see `CollabData.from_df`; None takes what the data says.
        use_nn: instead, a small network over embeddings of both, as `tabular_learner` makes it.
        layers, emb_szs, ps: of that network; see `tabular_learner`.
        unknown_p: the fraction of users and items that training replaces by *unknown*.
        optimizer: None takes AdamW with a weight decay of 0.3 (`wd=None`), which keeps those with few ratings near the
            mean; others have their own.
    """
    if not isinstance(data, TabularData):
        raise ArgumentError(f"collab_learner needs ratings made by CollabData, got {type(data).__name__}")
    if len(data.cat_names) != 2 or data.cont_names or not data.task.predicts_numbers or data.task.n_out != 1:
        raise ArgumentError(
            f"collab_learner needs ratings of items by users, made by CollabData; this is {data!r}. For other tables "
            "use tabular_learner"
        )
    options = with_decay(options, WD)
    if use_nn:
        return tabular_learner(data, layers, emb_szs=emb_szs, ps=ps, unknown_p=unknown_p, y_range=y_range, **options)
    check_whole("n_factors", n_factors)
    users, items = data.preprocessor.processor.cardinalities.values()
    output, seed = output_layer(data, y_range), Training(**options).seed
    return Learner(data, DotProduct(users, items, n_factors, output, unknowns(data, unknown_p), seed), **options)
