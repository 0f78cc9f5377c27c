"""blend: several models' predictions as one, with a score that what chose their weights had no part in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..artefact.ensemble import normalised, ranked
from ..errors import ArgumentError, DataError, did_you_mean
from ..files import StrPath
from ..intervals import Interval
from ..metrics import Metric
from ..task import Predictions, Task
from .certainty import interval, matched, metric_of, targets_of
from .cross_fit import Crossed, export_members

if TYPE_CHECKING:
    import pandas as pd

How = Literal["mean", "rank", "greedy", "stack"]
ROUNDS = 50  # of the greedy choice
QUANTILES = 1001  # by which ranks are told

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Blend:
    """Several models as one; `blend` makes it.

    Args:
        members: what is blended.
        how: by which rule.
        weights: of each member, chosen on all out-of-fold predictions; they add up to 1.
        oof: out-of-fold predictions of the blend. Where weights are chosen by targets, those for a fold are chosen on
            the others, so that no item has a part in its own prediction.
        test: the blend of the members' predictions of the test split; None where one has none.
        metric: by which weights are chosen, and what the score is of.
        ranks: of "rank": for each member and column the quantiles that ranks are told by.
    """

    members: tuple[Crossed, ...]
    how: How
    weights: tuple[float, ...]
    oof: Predictions
    test: Predictions | None
    metric: Metric
    ranks: tuple[Tensor, ...] = ()

    @property
    def plan(self) -> Any:
        """The plan that all members follow."""
        return self.members[0].plan

    @cached_property
    def score(self) -> Interval:
        """The metric of `oof`, with its interval: from an outer loop, not from what chose the weights."""
        return Crossed(self.plan, self.oof, metric=self.metric).score

    def table(self) -> pd.DataFrame:
        """One row for each member: its weight, and its own score with its interval; and one for the blend."""
        import pandas as pd

        scores = [*(interval(one.oof, self.metric) for one in self.members), self.score]
        weights = [*self.weights, 1.0]
        rows = [[w, s.value, s.low, s.high] for w, s in zip(weights, scores, strict=True)]
        index = [*map(str, range(len(self.members))), f"blend ({self.how})"]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=["weight", self.metric.name, "low", "high"], index=index)
        return frame

    def export(self, path: StrPath) -> Path:
        """Write the trainings of all members, with their weights, as one file that `load_predictor` reads.

        Args:
            path: the file to create or replace.

        Returns:
            The path. The file predicts the mean of each member's folds and seeds, blended as here.

        Raises:
            StateError: a member's model cannot be written down, or comes without its trainings.
        """
        return export_members(path, self.members, self.weights, self.ranks or None)

    def __repr__(self) -> str:
        return f"Blend({len(self.members)} by {self.how}: {self.metric.name} {self.score})"


def blend(members: Sequence[Crossed], how: How = "mean", metric: Metric | None = None) -> Blend:
    """Blend what several recipes predict of the same folds.

    Args:
        members: what `cross_fit` gave for each, of one and the same plan.
        how: "mean" of the probabilities or numbers; "rank", the mean of their ranks, where only the order counts
            (`roc_auc`); "greedy", the members that make the mean best, one at a time and with repetition (Caruana et
            al., ICML 2004, doi 10.1145/1015330.1015432); "stack", weights of at least 0 that add up to 1 by least
            squares (Breiman, Stacked regressions, 1996).
        metric: what "greedy" makes best, and what the score is of; None takes the members'.

    Returns:
        The blend: `.oof`, `.test`, `.score`, `.weights`.

    Raises:
        DataError: the members follow different plans, or are of different items, targets or classes.

    >>> from easylearn.data.folds import folds
    >>> from easylearn.metrics import accuracy
    >>> from easylearn.task import single_label
    >>> task, y, plan = single_label(["no", "yes"]), torch.tensor([0, 1] * 10), folds(20, 4)
    >>> ids = [str(i) for i in range(20)]
    >>> good = Crossed(plan, Predictions.of(task, torch.eye(2)[y], ids, y))
    >>> poor = Crossed(plan, Predictions.of(task, torch.full((20, 2), 0.5), ids, y))
    >>> both = blend([good, poor], how="greedy")
    >>> both.weights, both.score.value
    ((1.0, 0.0), 1.0)
    """
    given = _checked(members)
    if how not in get_args(How):
        raise ArgumentError(
            f"how is one of {list(get_args(How))}, got {how!r}. {did_you_mean(str(how), get_args(How))}"
        )
    first = given[0]
    chosen = metric_of(first.oof, metric if metric is not None else first.metric)
    if how == "greedy" and chosen.higher_is_better is None:
        raise ArgumentError(f"whether a higher {chosen.name} is better is not known, so nothing can be made best by it")
    task, targets = first.oof.task, targets_of(first.oof)
    if task.sorts_outputs:
        raise ArgumentError(f"a blend is a mean, which {task.kind} have none of: average_predictions joins them")
    ranks = tuple(_quantiles(one.oof.probs) for one in given) if how == "rank" else ()
    if ranks and task.predicts_numbers:
        raise ArgumentError('how="rank" keeps the order alone, and these are numbers in their own units: take "mean"')
    stacked = torch.stack([one.oof.probs.double() for one in given])
    tests = [one.test for one in given if one.test is not None]
    if how == "rank":
        stacked = torch.stack([ranked(p, r) for p, r in zip(stacked, ranks, strict=True)])

    def choose(rows: Tensor) -> Weights:
        if how == "greedy":
            return _greedy(stacked[:, rows], targets[rows], chosen)
        if how == "stack":
            return _least_squares(stacked[:, rows], targets[rows], task)
        return np.full(len(given), 1 / len(given))

    probs = _outer(first, stacked, choose) if how in ("greedy", "stack") else stacked.mean(0)
    weights = choose(torch.arange(len(targets)))
    oof = _predictions(first.oof, normalised(probs, task) if ranks else probs)
    test = None
    if len(tests) == len(given):
        each = [ranked(one.probs.double(), r) for one, r in zip(tests, ranks, strict=True)] if ranks else None
        mixed = _mixed(torch.stack(each or [one.probs.double() for one in tests]), weights)
        test = _predictions(tests[0], normalised(mixed, task) if ranks else mixed)
    return Blend(given, how, tuple(weights.tolist()), oof, test, chosen, ranks)


def _checked(members: Sequence[Crossed]) -> tuple[Crossed, ...]:
    """Members that can be blended, their items in one order."""
    given = tuple(members) if isinstance(members, list | tuple) else ()
    odd = next((one for one in given if not isinstance(one, Crossed)), None)
    if len(given) < 2 or odd is not None:
        got = f"{len(given)}" if odd is None else type(odd).__name__
        raise ArgumentError(
            f"blend takes a list of at least two results of cross_fit, got {got}; predictions from elsewhere become "
            "one by Crossed(plan, oof, test)"
        )
    first, made = given[0], [given[0]]
    for number, other in enumerate(given[1:], 2):
        if other.plan.fingerprint != first.plan.fingerprint:
            raise DataError(
                f"members 1 and {number} follow different plans ({first.plan!r}, {other.plan!r}): of an item that one "
                "held out another was trained on, so that a blend's score would be too good. Run cross_fit of both "
                "with one plan"
            )
        try:
            matched(first.oof, other.oof)
        except DataError as error:
            raise DataError(f"members 1 and {number} do not go together: {error}") from error
        if other.oof.ids != first.oof.ids:
            raise DataError(f"members 1 and {number} have their items in different orders, so they follow no one plan")
        if first.test is not None and other.test is not None and first.test.ids != other.test.ids:
            raise DataError(f"members 1 and {number} predict different test items, or in another order")
        made.append(other)
    return tuple(made)


def _outer(first: Crossed, stacked: Tensor, choose: Any) -> Tensor:
    """Each fold blended by weights that were chosen on others; in time on those before it."""
    plan, n = first.plan, stacked.shape[1]
    total, count = torch.zeros(stacked.shape[1:], dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    before = torch.zeros(n, dtype=torch.bool)
    for _, valid in plan:
        at = torch.from_numpy(np.searchsorted(plan.held_out, valid))
        rest = before.clone() if plan.times is not None else torch.ones(n, dtype=torch.bool)
        rest[at], before[at] = False, True
        equal = np.full(len(stacked), 1 / len(stacked))
        weights = choose(rest.nonzero().flatten()) if rest.any() else equal
        total[at] += _mixed(stacked[:, at], weights)
        count[at] += 1
    return total / count.reshape(-1, *[1] * (total.ndim - 1))


def _mixed(stacked: Tensor, weights: Weights) -> Tensor:
    mixed: Tensor = torch.tensordot(torch.from_numpy(weights), stacked, 1)
    return mixed


def _predictions(like: Predictions, probs: Tensor) -> Predictions:
    return Predictions.of(like.task, probs.to(like.probs.dtype), like.ids, like.targets, places=like.places)


def _greedy(stacked: Tensor, targets: Tensor, metric: Metric) -> Weights:
    """How often each member is taken, where one after the other is added that makes the mean best."""
    sign = 1 if metric.higher_is_better else -1
    taken, total = np.zeros(len(stacked)), torch.zeros_like(stacked[0])
    best, found = -np.inf, taken
    for round_ in range(1, ROUNDS + 1):
        scores = [sign * metric((total + one) / round_, targets) for one in stacked]
        at = int(np.nanargmax(np.nan_to_num(scores, nan=-np.inf)))
        total = total + stacked[at]
        taken[at] += 1
        if scores[at] > best + 1e-12:
            best, found = scores[at], taken / taken.sum()
    return found


def _least_squares(stacked: Tensor, targets: Tensor, task: Task) -> Weights:
    """Weights of at least 0 that add up to 1, with the smallest squared error."""
    from scipy.optimize import nnls

    wanted = (targets if task.predicts_numbers else task.soft_target(targets)).double().reshape(len(targets), -1)
    scale = float(wanted.square().mean().sqrt()) or 1.0
    table = torch.cat([stacked.reshape(len(stacked), -1), wanted.reshape(1, -1)]).T / scale
    small: Weights = np.linalg.qr(table.numpy(), mode="r")  # type: ignore[assignment]  # the same squares in a few rows
    heavy = 1e3 * float(np.abs(small).max())
    rows = np.concatenate([small[:, :-1], np.full((1, len(stacked)), heavy)])
    weights, _ = nnls(rows, np.append(small[:, -1], heavy))
    return np.asarray(weights / weights.sum(), np.float64)


def _quantiles(probs: Tensor) -> Tensor:
    """Quantiles of each column, numbers that it holds, shape (QUANTILES at most, columns): of few items all of them."""
    at = torch.linspace(0, len(probs) - 1, min(len(probs), QUANTILES), dtype=torch.float64).round().long()
    return probs.double().reshape(len(probs), -1).sort(0).values[at]
