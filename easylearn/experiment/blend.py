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
from ..task.gathered import by_pieces
from .certainty import interval, matched, metric_of, targets_of
from .cross_fit import Crossed, export_members

if TYPE_CHECKING:
    import pandas as pd

How = Literal["mean", "rank", "greedy", "stack"]
ROUNDS = 50  # of the greedy choice
QUANTILES = 1001  # by which ranks are told
AT_ONCE = 2**22  # numbers of all members that weights are chosen by together

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
    said = [one.oof.probs for one in given]  # which may be mapped: no two of them come into memory as a whole
    tests = [one.test for one in given if one.test is not None]

    def choose(rows: Tensor) -> Weights:
        if how == "greedy":
            return _greedy(said, targets, chosen, rows)
        if how == "stack":
            return _least_squares(said, targets, task, rows)
        return np.full(len(given), 1 / len(given))

    weights = choose(torch.arange(len(targets)))
    own = _outer(first, len(given), choose) if how in ("greedy", "stack") else None
    oof = _mixed([one.oof for one in given], weights if own is None else own, ranks)
    test = _mixed(tests, weights, ranks) if len(tests) == len(given) else None
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


def _outer(first: Crossed, members: int, choose: Any) -> Weights:
    """Weights for each item, (n, members), which were chosen on other folds; in time on those before its own."""
    plan, n = first.plan, len(first.oof)
    total, count = np.zeros((n, members)), np.zeros((n, 1))
    before = torch.zeros(n, dtype=torch.bool)
    for _, valid in plan:
        at = torch.from_numpy(np.searchsorted(plan.held_out, valid))
        rest = before.clone() if plan.times is not None else torch.ones(n, dtype=torch.bool)
        rest[at], before[at] = False, True
        total[at.numpy()] += choose(rest.nonzero().flatten()) if rest.any() else np.full(members, 1 / members)
        count[at.numpy()] += 1
    weights: Weights = total / count
    return weights


def _mixed(each: Sequence[Predictions], weights: Weights, ranks: Sequence[Tensor]) -> Predictions:
    """The mean of what several say, or of their ranks, by weights (members,) or of each item, (n, members)."""
    like, n = each[0], len(each[0])
    of = torch.from_numpy(np.broadcast_to(weights, (n, len(each))).copy())

    def mix(share: Tensor, *parts: Tensor) -> Tensor:
        total = torch.zeros(parts[0].shape, dtype=torch.float64)
        for m, part in enumerate(parts):
            one = ranked(part.double(), ranks[m]) if ranks else part.double()
            total += share[:, m].reshape(-1, *[1] * (one.ndim - 1)) * one
        return (normalised(total, like.task) if ranks else total).to(like.probs.dtype)

    probs = by_pieces(mix, of, *(one.probs for one in each), n_bytes=8 * like.probs.numel())
    return Predictions.of(like.task, probs, like.ids, like.targets, places=like.places)


def _greedy(said: Sequence[Tensor], targets: Tensor, metric: Metric, rows: Tensor) -> Weights:
    """How often each member is taken, where one after the other is added that makes the mean of some rows best."""
    sign, targets = 1 if metric.higher_is_better else -1, targets[rows]
    taken, total = np.zeros(len(said)), torch.zeros(len(rows), *said[0].shape[1:], dtype=torch.float64)
    best, found = -np.inf, taken
    for round_ in range(1, ROUNDS + 1):
        scores = [sign * metric((total + one[rows].double()) / round_, targets) for one in said]
        at = int(np.nanargmax(np.nan_to_num(scores, nan=-np.inf)))
        total += said[at][rows].double()
        taken[at] += 1
        if scores[at] > best + 1e-12:
            best, found = scores[at], taken / taken.sum()
    return found


def _least_squares(said: Sequence[Tensor], targets: Tensor, task: Task, rows: Tensor) -> Weights:
    """Weights of at least 0 that add up to 1, with the smallest squared error of some rows."""
    from scipy.optimize import nnls

    small: Weights = np.zeros((0, len(said) + 1))  # the same squares in a few rows
    for some in torch.split(rows, max(1, AT_ONCE // (len(said) * max(1, said[0][0].numel())))):
        wanted = targets[some] if task.predicts_numbers else task.soft_target(targets[some])
        table = torch.stack([*(one[some].double().flatten() for one in said), wanted.double().flatten()], 1)
        small = np.linalg.qr(np.concatenate([small, table.numpy()]), mode="r")  # type: ignore[assignment]
    small = small / ((np.square(small[:, -1]).sum() / (len(rows) * said[0][0].numel())) ** 0.5 or 1.0)
    heavy = 1e3 * float(np.abs(small).max())
    table_of_all = np.concatenate([small[:, :-1], np.full((1, len(said)), heavy)])
    weights, _ = nnls(table_of_all, np.append(small[:, -1], heavy))
    return np.asarray(weights / weights.sum(), np.float64)


def _quantiles(probs: Tensor) -> Tensor:
    """Quantiles of each column, numbers that it holds, shape (QUANTILES at most, columns): of few items all of them."""
    at = torch.linspace(0, len(probs) - 1, min(len(probs), QUANTILES), dtype=torch.float64).round().long()
    return torch.stack([column.sort().values[at].double() for column in probs.reshape(len(probs), -1).unbind(1)], 1)
