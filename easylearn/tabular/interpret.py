"""What a table model goes by: how much each column matters, and what a column's value does to the prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import keyed
from ..data.bunch import SplitName
from ..data.order import ItemLoader, Order, TensorSource
from ..errors import ArgumentError, DataError, check_kind, check_whole, did_you_mean
from ..learning import Learner
from ..metrics import Metric, as_metric
from ..options import strict
from ..train.predict import gather
from .data import TabularData
from .processing import MISSING, TableProcessor
from .reports import N_SPECIAL

if TYPE_CHECKING:
    import pandas as pd

BATCH = 4096  # rows that are predicted at a time
MOST_LEVELS = 50  # of a categorical column that are tried where none are named
Place = tuple[int, list[int]]  # which of the inputs, and which of its columns


@strict({"part": "split", "ds_type": "split"})
def permutation_importance(
    learn: Learner,
    split: SplitName = "valid",
    metric: Metric | Callable[..., Any] | None = None,
    repeats: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """How much worse the predictions get when one column's values are dealt out anew among the rows.

    Columns that say the same (a date's month and its week) stand in for each other, so each of them looks less
    important than both together are. The split is held in memory as codes and numbers.

    Args:
        learn: trained on a `TabularData`.
        split: "train", "valid" or "test", with targets.
        metric: what is to get worse; None is the task's loss. Its direction must be known.
        repeats: how often each column is shuffled.
        seed: of the shuffles, which no global generator takes part in.

    Returns:
        One row per column of the table, the most important first: mean and std of what was lost over the repeats.
    """
    import pandas as pd

    data = _table(learn)
    check_whole("repeats", repeats)
    chosen = None if metric is None else as_metric(metric)
    if chosen is not None and chosen.higher_is_better is None:
        raise ArgumentError(
            f"whether a higher {chosen.name} is better is not known, so nothing can be said to get worse; pass "
            f"Metric({chosen.name!r}, fn, higher_is_better=True or False)"
        )
    inputs, target = _rows(learn, data, split)
    if target is None:
        raise DataError(f"the {split} split has no targets, so nothing is lost by shuffling; take another split")
    before = _cost(learn, chosen, inputs, target)
    rows = {}
    for name, place in _places(data.preprocessor.processor).items():
        values = inputs[place[0]][:, place[1]]
        lost = []
        for k in range(repeats):
            order = torch.from_numpy(keyed.permutation(len(target), seed, "importance", name, k)).to(values.device)
            lost.append(_cost(learn, chosen, _with(inputs, place, values[order]), target) - before)
        rows[name] = (float(np.mean(lost)), float(np.std(lost)))
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "std"]).rename_axis("column")
    ordered: pd.DataFrame = frame.sort_values("mean", ascending=False, kind="stable")
    return ordered


@strict({"part": "split", "ds_type": "split"})
def partial_dependence(
    learn: Learner,
    column: str,
    split: SplitName = "valid",
    values: Sequence[Any] | None = None,
    n_points: int = 20,
    max_rows: int = 5000,
    seed: int = 0,
) -> pd.DataFrame:
    """The mean prediction if every row had the same value in one column, for one value after the other.

    All other columns stay as they are, so combinations come about that no row has; trust it less where the column goes
    along with others (Friedman 2001, Annals of Statistics 29:5).

    Args:
        learn: trained on a `TabularData`.
        column: of the table.
        split: whose rows are taken.
        values: those to try, in the column's own units; None takes `n_points` of equal distance in rank between the
            split's 5 % and 95 % quantiles, or each category that it holds (of many the most frequent 50).
        n_points: how many values of a column of numbers.
        max_rows: of a larger split, so many rows drawn by `seed`.
        seed: of that draw.

    Returns:
        One row per value, one column per class (mean probability) or predicted number; `.plot()` draws it.
    """
    import pandas as pd

    data = _table(learn)
    processor = data.preprocessor.processor
    places = _places(processor)
    if column not in places:
        raise ArgumentError(f"{column!r} is no column that the model sees. {did_you_mean(column, places)}")
    check_whole("n_points", n_points, 2)
    check_whole("max_rows", max_rows)
    inputs, _ = _rows(learn, data, split)
    if len(inputs[0]) > max_rows:
        drawn = torch.from_numpy(keyed.permutation(len(inputs[0]), seed, "dependence")[:max_rows])
        inputs = [x[drawn.to(x.device)] for x in inputs]
    known = processor.decode(*(x.cpu().numpy() for x in inputs))
    which, at = places[column]
    levels = None if which else processor.levels(column)
    dtype = np.float64 if which else object
    tried = _grid(known[column], levels, n_points) if values is None else list(values)
    if not tried:
        raise ArgumentError(f"there are no values of {column!r} to try; name some in values=")
    # Through the processor, so that what is said of new rows holds for these values, too.
    frame = known.iloc[[0] * len(tried)].reset_index(drop=True)
    cells = [None if isinstance(v, str) and v == MISSING else v for v in tried]
    frame[column] = pd.Series(cells, dtype=dtype)
    encoded = processor.transform(frame).tensors()[which]
    means = []
    for row in encoded[:, at]:
        logits = _predict(learn, _with(inputs, places[column], row.to(inputs[which].device)))
        means.append(learn.task.activate(logits).double().mean(0).reshape(-1).tolist())
    index = pd.Index(tried, name=column, dtype=dtype)
    result: pd.DataFrame = pd.DataFrame(means, columns=list(learn.task.names), index=index)
    return result


def _grid(known: pd.Series[Any], levels: list[Any] | None, n_points: int) -> list[Any]:
    """The values to try: of the categories those that occur, the first two (unknown, missing) last; or quantiles."""
    if levels is not None:
        usual = set(known.value_counts().index[:MOST_LEVELS])
        return [v for v in [*levels[N_SPECIAL:], *levels[:N_SPECIAL]] if v in usual]
    held = known.dropna().to_numpy(np.float64)
    return np.unique(np.quantile(held, np.linspace(0.05, 0.95, n_points))).tolist() if len(held) else []


def _table(learn: Learner) -> TabularData:
    check_kind("this takes a learner of a table", learn, Learner)
    if not isinstance(learn.data, TabularData):
        raise ArgumentError(
            f"this is for tables, but the learner's data is {type(learn.data).__name__}: grad_cam looks into images, "
            "occlusion into texts"
        )
    return learn.data


def _places(processor: TableProcessor) -> dict[str, Place]:
    """Where each column of the table is: its code among the codes, or its number and its flag among the numbers."""
    codes: dict[str, Place] = {name: (0, [j]) for j, name in enumerate(processor.cat_names)}
    return codes | {name: (1, list(at)) for name, at in processor.cont_places.items()}


def _with(inputs: Sequence[Tensor], place: Place, values: Tensor) -> list[Tensor]:
    """The inputs with other values at a place."""
    which, at = place
    changed = list(inputs)
    changed[which] = inputs[which].clone()
    changed[which][:, at] = values
    return changed


def _rows(learn: Learner, data: TabularData, split: SplitName) -> tuple[list[Tensor], Tensor | None]:
    """All rows of a split: codes and numbers, and targets."""
    with closing(data.loader(split).batches(learn.strategy.device)) as batches:
        inputs, targets = zip(*((batch.inputs, batch.target) for batch in batches), strict=True)
    target = None if targets[0] is None else torch.cat(targets).cpu()
    return [torch.cat(x) for x in zip(*inputs, strict=True)], target


def _predict(learn: Learner, inputs: Sequence[Tensor]) -> Tensor:
    return gather(learn.model, ItemLoader(Order(len(inputs[0]), BATCH), TensorSource(inputs)), learn.strategy)[0]


def _cost(learn: Learner, metric: Metric | None, inputs: Sequence[Tensor], target: Tensor) -> float:
    """The loss, or the metric turned so that higher is worse."""
    logits = _predict(learn, inputs)
    if metric is None:
        device = learn.strategy.device
        return float(learn.task.loss(logits.to(device), target.to(device)))
    value = metric(logits if metric.needs == "logits" else learn.task.activate(logits), target)
    return -value if metric.higher_is_better else value
