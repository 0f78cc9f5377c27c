"""Plans of a search: which trials come next, and which go on, from what has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np

from .. import keyed
from .lines import Row
from .samplers import LEARNS, METHODS, Known, Sampler, Tried, annealing
from .space import Space
from .store import History, Job

MODEL_STARTS = 30
"""With halving a model proposes after so many points that were spread evenly; docs/log.md has the figures."""
GP_STARTS = 15
"""The same of a Gaussian process, which learns from all rungs."""
_OTHERS = 1 / 3  # of the proposals that stay spread evenly then, so that a model that errs is found out


@dataclass(frozen=True)
class SearchPlan:
    """The plan of a search, a pure function of the history.

    Args:
        space: what is searched.
        method: a name of `samplers.METHODS`, or "grid" or "list".
        trials: how many in all.
        seed: of the proposals, and of every trial.
        points: of a grid or a list.
        halving: of each so many trials that end a rung one goes on; None trains every trial to its end.
        brackets: begin some trials at later rungs, as Hyperband does.
        per_round: jobs in a round.
        levels: how many rungs there are; None where the trials say so, by the epochs at which their cycles end.
        stop: trials are told the best value that they have to beat.
    """

    space: Space
    method: str
    trials: int
    seed: int = 0
    points: tuple[Mapping[str, Any], ...] = ()
    halving: float | None = None
    brackets: bool = False
    per_round: int = 4
    levels: int | None = None
    stop: bool = False

    def __call__(self, history: History) -> list[Job]:
        """The next round."""
        view = _View(self, history)
        total = min(self.trials, len(self.points)) if self.points else self.trials
        begun = len(view.jobs)
        if self.halving is None:
            many = self.per_round if self.method in LEARNS or self.stop else total
            return [self._new(view, n) for n in range(begun, min(total, begun + many))]
        jobs: list[Job] = []
        while len(jobs) < self.per_round:
            job = view.promoted(jobs)
            if job is None and begun < total:
                job, begun = self._new(view, begun), begun + 1
            if job is None:
                break
            jobs.append(job)
        if not jobs and not history.open_jobs:
            last = view.last_chance()
            jobs = [last] if last is not None else []
        return jobs

    def _new(self, view: _View, number: int) -> Job:
        bracket, by, known = self._bracket(view, number), self.method, cast(Known, ())
        if self.method in LEARNS:
            by, known = self._who(view, number)
        point = self.points[number] if self.points else self._sampler(by)(self.space, self.seed, number, known)
        return Job(number, point, self.seed, None, bracket, by, bracket, view.best if self.stop else None)

    def _sampler(self, name: str) -> Sampler:
        return partial(annealing, trials=self.trials) if name == "annealing" else METHODS[name]

    def _who(self, view: _View, number: int) -> tuple[str, Known]:
        """Who proposes a point, and from which trials."""
        if self.halving is None:
            return self.method, view.tried(0)
        if self.method == "gp":  # which learns from all of them
            every = [tried for r in range(view.levels) for tried in view.tried(r)]
            return ("quasi", ()) if number < GP_STARTS else (self.method, every)
        rung = next((r for r in reversed(range(view.levels)) if len(view.at(r)) >= len(self.space.names) + 2), None)
        even = float(keyed.uniform([number], 1, self.seed, "even")[0, 0]) < _OTHERS
        if number < MODEL_STARTS or even or rung is None:
            return "quasi", ()
        return self.method, view.tried(rung)

    def _bracket(self, view: _View, number: int) -> int:
        """The rung at which a trial begins: drawn so that each bracket has its share of the epochs."""
        if not self.brackets or self.halving is None or view.levels < 2:
            return 0
        n = view.levels
        weights = [self.halving ** (n - 1 - b) * n / (n - b) for b in range(n)]
        u = float(keyed.uniform([number], 1, self.seed, "bracket")[0, 0]) * sum(weights)
        for bracket, weight in enumerate(weights):
            u -= weight
            if u < 0:
                return bracket
        return n - 1


class _View:
    """A history as a plan looks at it."""

    def __init__(self, plan: SearchPlan, history: History) -> None:
        self.plan, self.history = plan, history
        self.jobs = {job.trial: job for job in reversed(history.jobs)}  # the first of each trial
        self.planned = {job.key for job in history.jobs}

    @cached_property
    def levels(self) -> int:
        """How many rungs there are; 1 while nobody knows."""
        if self.plan.levels is not None:
            return self.plan.levels
        return max((len(row.get("rungs") or [0]) for row in self.history.ends.values()), default=1)

    @property
    def best(self) -> float | None:
        """The best value of a trial that went to its end; where it ended with several epochs' mean, of one epoch."""
        ended = [row for row in self.history.ends.values() if row["status"] == "done"]
        if not ended:
            return None
        row = ended[int(np.argmin(losses_of(ended)))]
        return float(row["at_epoch"] if "at_epoch" in row else row["value"])

    def at(self, rung: int) -> list[tuple[int, Row]]:
        """The trials that have ended a rung, by number."""
        return sorted((trial, row) for (trial, at), row in self.history.ends.items() if at == rung)

    def tried(self, rung: int) -> list[Tried]:
        """What a sampler may learn from a rung."""
        ended = self.at(rung)
        losses = losses_of([row for _, row in ended])
        far = rung / (self.levels - 1) if self.levels > 1 else 1.0
        return [Tried(n, self.jobs[n].point, loss, far) for (n, _), loss in zip(ended, losses, strict=True)]

    def promoted(self, jobs: Sequence[Job]) -> Job | None:
        """The best trial that may go on, of the highest rung that has one."""
        assert self.plan.halving is not None
        planned = self.planned | {job.key for job in jobs}
        for rung in reversed(range(self.levels - 1)):
            for bracket in range(rung + 1):
                best = self._ranked(rung, bracket)
                for trial in best[: int(len(best) / self.plan.halving)]:
                    if (trial, rung + 1) not in planned and self._goes_on(trial, rung):
                        return replace(self.jobs[trial], rung=rung + 1)
        return None

    def _ranked(self, rung: int, bracket: int) -> list[int]:
        ended = [(n, row) for n, row in self.at(rung) if self.jobs[n].bracket == bracket]
        losses = losses_of([row for _, row in ended])
        return [n for _, n in sorted((loss, n) for (n, _), loss in zip(ended, losses, strict=True))]

    def _goes_on(self, trial: int, rung: int) -> bool:
        status = self.history.ends[trial, rung]["status"]
        return status == "paused" or (status == "done" and self.plan.levels is not None)

    def last_chance(self) -> Job | None:
        """The best trial of the highest rung that any has reached, where none has come to the end."""
        if any(row["status"] == "done" and key[1] + 1 >= self.levels for key, row in self.history.ends.items()):
            return None
        for rung in reversed(range(self.levels - 1)):
            for trial in [n for b in range(rung + 1) for n in self._ranked(rung, b)]:
                if (trial, rung + 1) not in self.planned and self._goes_on(trial, rung):
                    return replace(self.jobs[trial], rung=rung + 1)
        return None


def losses_of(rows: Sequence[Row]) -> list[float]:
    """The losses of rows, lower is better; a trial without a value has the worst of those that have one.

    >>> losses_of([{"value": 0.9, "higher": True}, {"value": None}, {"value": 0.7, "higher": True}])
    [-0.9, -0.7, -0.7]
    """
    signed = [None if row.get("value") is None else (-row["value"] if row["higher"] else row["value"]) for row in rows]
    worst = max((v for v in signed if v is not None and math.isfinite(v)), default=0.0)
    return [worst if v is None else float(v) for v in signed]
