"""How sure a score is: intervals of predictions, two models compared, and one recipe under several seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import metrics as known
from ..errors import ArgumentError, DataError, StateError, check_whole, short
from ..files import StrPath
from ..intervals import DRAWS, LEVEL, Difference, Interval, difference_of, interval_of
from ..learning import Learner
from ..metrics import Metric, as_metric
from ..task import Predictions
from .engine import Engine, once
from .found import Trial
from .origin import origin_of, tell_taken
from .store import Job
from .telling import Line
from .trials import Point, Recipe


def interval(
    predictions: Predictions, metric: Metric | Callable[..., Any] | None = None, *,
    groups: Sequence[Any] | None = None, level: float = LEVEL, draws: int = DRAWS, seed: int = 0,
) -> Interval:  # fmt: skip
    """A metric of predictions with between what it lies, by a keyed bootstrap of the items.

    It tells how much other items would change the score of these predictions, not what another training would.

    Args:
        predictions: with targets.
        metric: None takes the first of the task's.
        groups: n names, for example patients: whole groups are drawn, in place of items.
        level: how often the interval holds the truth.
        draws: how often the items are drawn.
        seed: of the draws.

    Raises:
        DataError: there are no targets, fewer than two items or groups, or the metric is not a number for them.

    >>> from easylearn.metrics import accuracy
    >>> from easylearn.task import single_label
    >>> said = Predictions.of(
    ...     single_label(["cat", "dog"]), torch.eye(2)[[0, 1] * 10], [str(i) for i in range(20)],
    ...     torch.tensor([0, 1] * 9 + [1, 0]),
    ... )
    >>> found = interval(said, accuracy)
    >>> found.value, 0.5 < found.low < 0.9 < found.high
    (0.9, True)
    """
    targets, chosen = targets_of(predictions), metric_of(predictions, metric)
    return interval_of(predictions.probs, targets, chosen, groups=groups, level=level, draws=draws, seed=seed)


def versus(
    one: Predictions, other: Predictions, metric: Metric | Callable[..., Any] | None = None, *,
    groups: Sequence[Any] | None = None, level: float = LEVEL, draws: int = DRAWS, seed: int = 0,
) -> Difference:  # fmt: skip
    """How much better `one` is than the `other` on the same items: a paired bootstrap and a permutation test.

    Args:
        one, other: of the same items, in any order, with targets.
        metric: its direction must be known; None takes the first of the task's.
        groups: a name for each item of `one`.
        level, draws, seed: see `interval`.

    Returns:
        The difference, positive where `one` is better; printed, it says whether the two can be told apart.

    Raises:
        DataError: the items, their targets or the classes differ, or there are no targets.
    """
    second = matched(one, other)
    return difference_of(
        one.probs, second.probs, targets_of(one), metric_of(one, metric), groups=groups, level=level, draws=draws,
        seed=seed,
    )  # fmt: skip


Values = Mapping[str, Any] | Point | Trial | None
"""The values of a point: a dictionary, the point of a trial, or `found.best`."""


@dataclass(frozen=True)
class Spread:
    """The scores of one recipe under several seeds.

    Args:
        metric: what they are of.
        values: one for each seed.
        by_items: the standard error that the choice of validation items alone gives a score.
    """

    metric: str
    values: tuple[float, ...]
    by_items: float

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return sum(self.values) / len(self.values)

    @property
    def deviation(self) -> float:
        """The standard deviation over the seeds."""
        return float(np.std(self.values, ddof=1))

    @property
    def unstable(self) -> bool:
        """Whether a new seed changes the score more than new items would."""
        return self.deviation > self.by_items

    def __str__(self) -> str:
        told = f"{self.metric} {self.mean:.4f}, deviation {self.deviation:.4f} over {len(self.values)} seeds"
        return f"{told}: unstable under a new seed" if self.unstable else told


def spread(
    make: Callable[[Any], Learner], fit: Callable[..., Any], p: Values = None, *,
    seeds: int = 5, folder: StrPath | None = None, metric: Metric | None = None, workers: Any = 1,
    progress: bool = True,
) -> Spread:  # fmt: skip
    """Train one recipe under several seeds: how much of a score is luck.

    Args:
        make, fit: as for `search`; `make` reads `p.seed`.
        p: the values of the point, such as `found.best`.
        seeds: how many, from 0 on.
        folder: keeps the trials, which then go on after a kill; None forgets them.
        metric: None takes the first of the task's.
        workers: see `search`.
        progress: print a line for each training as it ends.

    Raises:
        StateError: a training diverged.
    """
    check_whole("seeds", seeds, 2)
    point = values_of(p)
    jobs = [Job(seed, point, seed) for seed in range(seeds)]
    advice = "give seed=p.seed to the function that makes the learner, or all trainings are the same"
    with tempfile.TemporaryDirectory() as forgotten:
        settings = {"kind": "spread", "point": point, "seeds": seeds}
        recipe = Recipe(make, fit, needs=(("seed", advice),), origin=origin_of(make, fit))
        engine = Engine(forgotten if folder is None else folder, settings, recipe, once(jobs))
        store = engine.store()
        tell_taken(store, recipe.origin or {}, (job.key for job in jobs), progress)
        with closing(Line(seeds, progress, "seed")) as line:
            history = engine.run(workers, line)
        said = []
        for job in jobs:
            row = history.ends[job.key]
            if row["status"] != "done":
                raise StateError(f"the training with seed {job.seed} is {row['status']}: {row.get('reason', '')}")
            said.append(engine.predictions(job))
        chosen = metric_of(said[0], metric, row.get("metric"))
    found = [interval(one, chosen) for one in said]
    errors = [(i.high - i.low) / (2 * 1.96) for i in found]
    return Spread(chosen.name, tuple(i.value for i in found), sum(errors) / len(errors))


# -- for whoever compares predictions --------------------------------------------------------------------------


def values_of(p: Values) -> dict[str, Any]:
    """The values of a point in any form, without what each training has for itself."""
    given = p._given if isinstance(p, Point) else p.point if isinstance(p, Trial) else p
    if not isinstance(given, Mapping | None):
        raise ArgumentError(f"p is the values of a point, as a dictionary, or found.best; got {type(p).__name__}")
    return {k: v for k, v in (given or {}).items() if k not in ("seed", "fold") and not isinstance(v, np.ndarray)}


def targets_of(predictions: Predictions) -> torch.Tensor:
    """The targets, or an error that says that there are none."""
    if not isinstance(predictions, Predictions):
        raise ArgumentError(
            f"expected Predictions, such as crossed.oof or learn.predict(), got {type(predictions).__name__}"
        )
    if predictions.targets is None:
        raise DataError("these predictions have no targets, so nothing says how good they are")
    return predictions.targets


def metric_of(predictions: Predictions, given: Any = None, name: str | None = None) -> Metric:
    """The metric that was `given`; else a known one of this `name`; else the first of the task's."""
    targets_of(predictions)
    own = predictions.task.metrics
    named = {m.name: m for m in vars(known).values() if isinstance(m, Metric)} | {m.name: m for m in own}
    metric = as_metric(given) if given is not None else named.get(name or "", own[0] if own else None)
    if metric is None:
        raise ArgumentError("the task has no metric: give metric=")
    if metric.needs == "logits":
        raise ArgumentError(f"{metric.name} needs logits, and predictions hold probabilities; take log_loss")
    return metric


def matched(one: Predictions, other: Predictions) -> Predictions:
    """The `other` in the order of `one`; refused where items, targets or classes differ."""
    for said in (one, other):
        targets_of(said)
    if difference := one.task.same_as(other.task):
        raise DataError(f"the two predict different things: {difference}")
    if one.ids != other.ids:
        place = {name: i for i, name in enumerate(other.ids)}
        own = set(one.ids)
        lost = [name for name in one.ids if name not in place] or [n for n in other.ids if n not in own]
        if lost or len(place) != len(other.ids) or len(one.ids) != len(other.ids):
            why = f"{short(lost[0], 60)!r} is in one only" if lost else "an id comes twice"
            raise DataError(f"the two are of different items ({len(one):,} and {len(other):,}): {why}")
        other = rows_of(other, np.array([place[name] for name in one.ids]))
    if not same_targets(one.targets, other.targets):
        raise DataError("the two have different targets for the same items, so they do not compare")
    return other


def same_targets(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether two have the same targets, as far as they are known."""
    if one is None or other is None:
        return True
    if (
        one.dtype == other.dtype and not one.is_floating_point()
    ):  # of masks the numbers below would be eight times as large
        return torch.equal(one, other)
    gap = (one.double() - other.double()).abs() if one.shape == other.shape else None
    return gap is not None and bool((gap <= 1e-6 * one.double().abs().clamp_min(1e-30)).all())


def rows_of(said: Predictions, rows: npt.NDArray[Any]) -> Predictions:
    """Some of the predictions, in the order of `rows`."""
    at = torch.from_numpy(np.ascontiguousarray(rows, np.int64))
    targets = None if said.targets is None else said.targets[at]
    places = said.places and [said.places[i] for i in rows.tolist()]
    return Predictions.of(said.task, said.probs[at], [said.ids[i] for i in rows.tolist()], targets, places=places)
