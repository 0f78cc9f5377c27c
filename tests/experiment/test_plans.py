"""Plans, run on made-up learning curves: which trials come, which go on, and that nothing but the history counts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from easylearn.experiment.plans import GP_STARTS, MODEL_STARTS, SearchPlan, _View
from easylearn.experiment.space import Space, log, uniform
from easylearn.experiment.store import History, Job

SPACE = Space({"lr": log(1e-4, 1.0), "x": uniform(0, 1)})
RUNGS = [1, 3, 9]


def quality(job: Job) -> float:
    return float(-abs(np.log10(job.point["lr"]) + 2) - job.point["x"])


def end(job: Job, halved: bool, levels: bool = False) -> dict[str, Any]:
    if job.trial % 11 == 5:
        return {"trial": job.trial, "rung": job.rung, "status": "diverged", "value": None}
    last = job.rung == len(RUNGS) - 1
    status = "done" if last or not halved or levels else "paused"
    row = {"trial": job.trial, "rung": job.rung, "status": status, "higher": True, "value": quality(job)}
    return {**row, "rungs": RUNGS if halved and not levels else []}


def simulate(plan: SearchPlan, order: list[int] | None = None) -> History:
    """All rounds of a plan; each history is written and read anew, and ends in another order."""
    history, draw = History(), np.random.default_rng(0)
    while jobs := plan(history):
        assert plan(history) == jobs
        history.rounds.append([Job(**j) for j in json.loads(json.dumps([asdict(j) for j in jobs]))])
        for i in draw.permutation(len(jobs)) if order is None else range(len(jobs)):
            row = end(jobs[i], plan.halving is not None, plan.levels is not None)
            assert jobs[i].key not in history.ends
            history.ends[jobs[i].key] = row
    assert history.open_jobs == []
    return history


@pytest.mark.parametrize("method", ["random", "quasi", "annealing", "evolution"])
def test_every_trial_is_trained_once_to_its_end(method: str) -> None:
    history = simulate(SearchPlan(SPACE, method, 37, seed=2))
    assert [j.trial for j in history.jobs] == list(range(37))
    assert {j.by for j in history.jobs} == {method} and {j.seed for j in history.jobs} == {2}
    assert simulate(SearchPlan(SPACE, method, 37, seed=2), order=[0]).rounds == history.rounds
    sizes = {len(r) for r in history.rounds[:-1]}
    assert sizes <= ({4} if method in ("annealing", "evolution") else {37})


def test_more_trials_go_on_with_the_same_ones() -> None:
    few, many = simulate(SearchPlan(SPACE, "evolution", 24)), History()
    many.rounds, many.ends = list(few.rounds), dict(few.ends)
    assert [j.trial for j in SearchPlan(SPACE, "evolution", 26)(many)] == [24, 25]
    assert SearchPlan(SPACE, "evolution", 10)(many) == []


def test_a_list_is_taken_as_it_is() -> None:
    points = tuple({"lr": 0.1, "x": i / 10} for i in range(6))
    history = simulate(SearchPlan(SPACE, "list", 4, points=points))
    assert [j.point["x"] for j in history.jobs] == [0.0, 0.1, 0.2, 0.3]
    assert len(simulate(SearchPlan(SPACE, "list", 60, points=points)).jobs) == 6


@pytest.mark.parametrize("method", ["quasi", "evolution"])
def test_halving_lets_the_best_third_go_on(method: str) -> None:
    history = simulate(SearchPlan(SPACE, method, 60, halving=3))
    at = [[j for j in history.jobs if j.rung == r] for r in range(3)]
    assert [j.trial for j in at[0]] == list(range(60))
    assert 16 <= len(at[1]) <= 26 and 4 <= len(at[2]) <= 9  # 20 and 6.7, and some promoted too early
    assert all(history.ends[j.trial, j.rung - 1]["status"] == "paused" for r in (1, 2) for j in at[r])
    best = max((j for j in at[0] if j.trial % 11 != 5), key=quality)
    assert best.trial in {j.trial for j in at[2]}
    keys = Counter(j.key for j in history.jobs)
    assert max(keys.values()) == 1


def test_a_model_proposes_after_even_starts_and_not_always() -> None:
    history = simulate(SearchPlan(SPACE, "evolution", 120, halving=3))
    begun = {j.trial: j.by for j in history.jobs if j.rung == 0}
    assert {begun[n] for n in range(MODEL_STARTS)} == {"quasi"}
    later = Counter(begun[n] for n in range(MODEL_STARTS, 120))
    assert 0.2 < later["quasi"] / 90 < 0.47 and later["evolution"] > 40


def test_a_process_learns_from_all_rungs() -> None:
    plan = SearchPlan(SPACE, "gp", 24, halving=3)
    history = simulate(plan)
    begun = {j.trial: j.by for j in history.jobs if j.rung == 0}
    assert {begun[n] for n in range(GP_STARTS)} == {"quasi"}
    assert {begun[n] for n in range(GP_STARTS, 24)} == {"gp"}
    _, known = plan._who(_View(plan, history), 24)
    assert len(known) == len(history.ends) and {t.rung for t in known} == {0.0, 0.5, 1.0}


def test_hyperband_begins_some_later() -> None:
    history = simulate(SearchPlan(SPACE, "quasi", 150, halving=3, brackets=True))
    first = {j.trial: j for j in reversed(history.jobs)}
    share = Counter(j.bracket for j in first.values())
    assert all(j.rung == j.bracket for j in first.values())
    assert share[0] > share[1] > share[2] > 5  # 9, 4.5 and 3 of 16.5
    for job in history.jobs:
        assert job.rung >= job.bracket == first[job.trial].bracket


def test_few_trials_still_come_to_the_end() -> None:
    history = simulate(SearchPlan(SPACE, "quasi", 2, halving=3))
    assert sum(j.rung == 2 for j in history.jobs) == 1


def test_with_a_fidelity_every_rung_is_done_and_still_goes_on() -> None:
    history = simulate(SearchPlan(SPACE, "quasi", 27, halving=3, levels=3))
    rungs = Counter(j.rung for j in history.jobs)
    assert rungs[0] == 27 and rungs[1] >= 8 and rungs[2] >= 2


def test_nothing_goes_on_where_all_failed() -> None:
    plan, history = SearchPlan(SPACE, "quasi", 8, halving=3), History()
    while jobs := plan(history):
        history.rounds.append(jobs)
        history.ends |= {j.key: {"trial": j.trial, "rung": 0, "status": "diverged", "value": None} for j in jobs}
    assert len(history.jobs) == 8
