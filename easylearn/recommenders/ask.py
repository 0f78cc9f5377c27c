"""What a recommender is asked: lists for persons, items like another, how good it is beside simple methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from ..analysis.baseline import Baseline
from ..analysis.drawings import draw_vectors
from ..artefact.predictor import Predictor
from ..data.bunch import SplitName
from ..errors import ArgumentError, check_whole, did_you_mean
from ..learning import Learner
from ..nn.branched import Branched
from ..nn.history import HistoryEncoder
from ..task import Prediction, Predictions
from .data import InteractionData
from .preprocess import HistoryPreprocessor

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Recommender = Learner | Predictor
MOST_NAMED = 60  # items whose names can be read in a drawing


def recommend(learn: Recommender, who: Any = None, k: int = 10, *, history: Any = None) -> pd.DataFrame:
    """What persons take next, the most probable first; what they took already is left out.

    Args:
        learn: made by `recommender`, or what `load_predictor` gave.
        who: a person in the learner's data, or a list of persons. All that they took counts, also what is held out.
        k: how many items.
        history: in place of `who`: what somebody took, a list of items or a dictionary of items and how much of each;
            or a list of such. Nothing is trained for new people.

    Returns:
        Columns rank (from 1), item and probability; of several persons also id.

    Raises:
        ArgumentError: there is no such person, or both or none of `who` and `history` are given.
    """
    check_whole("k", k)
    preprocessor, _ = _parts(learn)
    if (who is None) == (history is None):
        raise ArgumentError("give a person of the data, or what somebody took: recommend(learn, history=['a', 'b'])")
    asked, ids = history, None
    if history is None:
        if not isinstance(learn, Learner) or not isinstance(learn.data, InteractionData):
            raise ArgumentError("a model out of a file knows no persons: give what somebody took, history=['a', 'b']")
        ids = [str(w) for w in who] if isinstance(who, list | tuple) else None
        data = learn.data
        asked = data.taken(who) if ids is None else [data.taken(w) for w in ids]
    said = learn.predict(asked)
    if single := isinstance(said, Prediction):
        said = Predictions.of(learn.task, said.probs[None], ["0"])
    elif ids is not None:
        said = replace(said, ids=tuple(ids))
    frame = said.top(min(k, len(preprocessor.items))).rename(columns={"label": "item"})
    frame = frame[frame["probability"] > 0].reset_index(drop=True)
    lists: pd.DataFrame = frame.drop(columns="id") if single else frame
    return lists


def similar(learn: Recommender, item: Any, k: int = 10) -> pd.DataFrame:
    """The items that are most like another one: the cosine of their vectors, which persons who take both bring near.

    Args:
        learn: made by `recommender`, or what `load_predictor` gave.
        item: its name.
        k: how many.

    Returns:
        Columns item and similarity, the most similar first.
    """
    import pandas as pd

    check_whole("k", k)
    preprocessor, model = _parts(learn)
    at = _number(preprocessor, item)
    vectors = F.normalize(model.vectors().float().cpu())
    likeness = vectors @ vectors[at]
    likeness[at] = -torch.inf
    best = likeness.topk(min(k, len(likeness) - 1))
    columns = {"item": [preprocessor.items[i] for i in best.indices.tolist()], "similarity": best.values.tolist()}
    frame: pd.DataFrame = pd.DataFrame(columns)
    return frame


def item_vectors(learn: Recommender) -> pd.DataFrame:
    """The vectors of all items, a row for each.

    Items that nobody took have none. A learner of what describes items, such as `multi_learner`, whose targets are
    these columns predicts theirs.

    Args:
        learn: made by `recommender`, or what `load_predictor` gave.

    Returns:
        A row for each item, a column for each factor.

    Raises:
        ArgumentError: it is no recommender.
    """
    import pandas as pd

    preprocessor, model = _parts(learn)
    index = pd.Index(preprocessor.items, name="item", dtype=object)
    frame: pd.DataFrame = pd.DataFrame(model.vectors().float().cpu().numpy(), index=index)
    return frame


def plot_items(learn: Learner, items: Sequence[Any] | None = None) -> Figure:
    """The vectors of items in the plane that keeps most of their variance (principal components).

    Args:
        learn: made by `recommender`.
        items: those that are drawn; None takes the 60 that most persons took in training.
    """
    preprocessor, _ = _parts(learn)
    if items is None:
        if not isinstance(learn.data, InteractionData):
            raise ArgumentError("this learner has no data that says which items most persons took: name some, items=")
        counts = torch.from_numpy(learn.data.popularity())
        numbers = counts.argsort(descending=True, stable=True)[:MOST_NAMED].tolist()
    else:
        numbers = [_number(preprocessor, i) for i in items]
    return draw_vectors(item_vectors(learn).iloc[numbers], "item")


def against(learn: Learner, split: SplitName = "valid") -> Baseline:
    """The recommender beside simple methods, on all items: what most take, items near others, and EASE.

    Item neighbours score by the cosine of who took both; EASE is the best linear map of histories to themselves in
    which no item counts for itself, in closed form (arXiv 1905.03375). A run's report has the same table.

    Args:
        learn: made by `recommender`.
        split: whose persons are asked for; some that are drawn, where they are so many that their scores for all items
            would be more than 50 million, unless they are those of "train".

    Returns:
        The scores, and whether the recommender is below one of them by more than two standard errors.
    """
    _parts(learn)
    return learn.baseline(split)


def _parts(learn: Any) -> tuple[HistoryPreprocessor, HistoryEncoder]:
    if not isinstance(learn, Learner | Predictor):
        raise ArgumentError(f"this is for a recommender or a predictor, got {type(learn).__name__}")
    preprocessor = learn.data.preprocessor if isinstance(learn, Learner) else learn.preprocessor
    if isinstance(learn.model, Branched):
        raise ArgumentError(
            "a model of several inputs has no vectors of items, nor lists of them. Train one whose targets are the "
            "columns of item_vectors(recommender): what it predicts are vectors of items that nobody took yet"
        )
    if not isinstance(preprocessor, HistoryPreprocessor) or not isinstance(learn.model, HistoryEncoder):
        raise ArgumentError(f"this is for recommenders, and this is {learn!r}; make one with recommender(data)")
    return preprocessor, learn.model


def _number(preprocessor: HistoryPreprocessor, item: Any) -> int:
    (code,) = preprocessor.reader.codes([item])
    if code < 0:
        raise ArgumentError(
            f"there is no item {item!r} that can be recommended. What nobody took in training has no vector, but "
            f"what describes items can predict one: see item_vectors. {did_you_mean(str(item), preprocessor.items)}"
        )
    return code
