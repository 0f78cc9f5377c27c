"""branches: what each branch of a learner is worth, alone and by what is lost without it, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data.bunch import SplitName
from ..data.order import Loader
from ..errors import ArgumentError, DataError
from ..intervals import DRAWS, difference_of, interval_of
from ..learning import Learner
from ..metrics import Metric, as_metric
from ..nn.branched import Branched
from ..train.precompute import FeatureStore
from ..train.predict import gather
from .learner import branched_of

if TYPE_CHECKING:
    import pandas as pd


class _Parts(nn.Module):
    """What the branches give, side by side, (b, branches * width)."""

    def __init__(self, model: Branched) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.parts(*inputs).flatten(1)


def branches(
    learn: Learner, split: SplitName = "valid", metric: Metric | Callable[..., Any] | None = None, *,
    draws: int = DRAWS, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """What each branch is worth: alone, left out, and all together, with intervals by a keyed bootstrap of the items.

    The branches are run once, and put together in each way. A row is of the items that have an input for it, and is
    compared with all branches on these very items.

    Args:
        learn: made by `multi_learner`.
        split: with targets.
        metric: of probabilities; None takes the first of the task's.
        draws: how often items are drawn.
        seed: of the draws.

    Returns:
        One row for "all", "image alone", "without image" and so on: `items`, the metric, `low` and `high`; and how much
        better all branches are than it (`all better by`, from `at least` to `at most`, 95 %). NaN where a branch has
        too few items for them.

    Raises:
        DataError: there is no such split, or it has no targets.
    """
    model, data = branched_of(learn)
    chosen = _metric(learn, metric)
    seen: tuple[Branched, Loader] = model, data.loader(split)
    if learn.precompute and split == "valid":  # what frozen bodies give is there
        short, _, stored = FeatureStore().view(model, data, learn.strategy)
        if isinstance(short, Branched) and stored is not None:
            seen = short, stored
    parts, target = gather(_Parts(seen[0]), seen[1], learn.strategy)
    if target is None:
        raise DataError(f"the {split} split has no targets, so nothing says how good the branches are")
    present = data.present(split)
    parts = parts.view(len(parts), len(data.branches), -1)

    def probs(names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Probabilities of these branches, and the items that have one of them."""
        here = present * torch.tensor([int(n in names) for n in data.branches])
        with learn.strategy.evaluating(model):
            device = next(model.parameters()).device
            logits = model.combine(parts.to(device), here).float().cpu()
        return learn.task.activate(logits), here.sum(1) > 0

    every = list(data.branches)
    ways = {"all": every} | {f"{n} alone": [n] for n in every}
    if len(every) > 2:
        ways |= {f"without {n}": [k for k in every if k != n] for n in every}
    whole, rows = probs(every)[0], []
    for names in ways.values():
        said, at = probs(names)
        row = [math.nan] * 6
        with suppress(DataError) if names != every else nullcontext():  # of too few items, or of one class, say
            one = interval_of(said[at], target[at], chosen, draws=draws, seed=seed)
            row[:3] = one.value, one.low, one.high
            if names != every:
                gap = difference_of(whole[at], said[at], target[at], chosen, draws=draws, seed=seed)
                row[3:] = gap.value, gap.low, gap.high
        rows.append([int(at.sum()), *row])
    return _table(list(ways), rows, chosen.name)


def _table(names: Sequence[str], rows: Sequence[Sequence[float]], metric: str) -> pd.DataFrame:
    import pandas as pd

    columns = ["items", metric, "low", "high", "all better by", "at least", "at most"]
    frame: pd.DataFrame = pd.DataFrame(rows, index=pd.Index(names, name="branches"), columns=columns)
    return frame


def _metric(learn: Learner, given: Any) -> Metric:
    own = learn.task.metrics
    metric = as_metric(given) if given is not None else own[0] if own else None
    if metric is None or metric.needs == "logits":
        raise ArgumentError("branches needs a metric of probabilities: give metric=")
    return metric
