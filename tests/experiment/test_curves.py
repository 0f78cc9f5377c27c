"""Learning curves extrapolated: laws that are known, how often intervals hold, and trials that are stopped by them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import easylearn as el
from easylearn.errors import ArgumentError
from easylearn.experiment.curves import extrapolate, is_hopeless
from easylearn.experiment.plans import SearchPlan
from easylearn.experiment.search import search
from easylearn.experiment.space import Space, log
from easylearn.experiment.store import History, Job
from easylearn.experiment.trials import Recipe, _values, watcher
from easylearn.learning import Learner
from easylearn.train.record import Record
from tests.experiment.small_search import make

EPOCHS = np.arange(1, 18)


@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0, 2.5])
def test_a_power_law_is_found_again(exponent: float) -> None:
    found = extrapolate(EPOCHS.tolist(), (0.9 - 0.4 * EPOCHS**-exponent).tolist(), 52)
    truth = 0.9 - 0.4 * 52**-exponent
    assert found.value == pytest.approx(truth, abs=1e-6) and found.low - 1e-6 <= truth <= found.high + 1e-6


def test_the_interval_holds_the_end_of_noisy_laws() -> None:
    rng, held, wide = np.random.default_rng(0), 0, []
    for _ in range(300):
        exponent, noise = rng.uniform(0.1, 2), rng.uniform(0.001, 0.02)
        curve = 0.9 - 0.4 * np.arange(1, 53) ** -exponent + noise * rng.normal(size=52)
        found = extrapolate(EPOCHS.tolist(), curve[:17].tolist(), 52)
        held += curve[-1] in found
        wide.append(found.high - found.low)
    assert held >= 0.95 * 300 and np.median(wide) < 2


def test_direction_and_scale_do_not_matter() -> None:
    y = 0.9 - 0.4 * EPOCHS**-0.7 + 0.01 * np.sin(EPOCHS)
    one, turned = (extrapolate(EPOCHS.tolist(), v.tolist(), 52) for v in (y, 100 - 100 * y))
    assert turned.value == pytest.approx(100 - 100 * one.value, rel=1e-6)
    assert turned.low == pytest.approx(100 - 100 * one.high, rel=1e-6)


def test_a_flat_curve_stays() -> None:
    found = extrapolate([1, 2, 3, 4], [0.5] * 4, 9)
    assert found.value == pytest.approx(0.5) and found.high - found.low < 1e-3


def test_hopeless_is_what_cannot_come_up() -> None:
    bad, e = (0.6 - 0.1 * EPOCHS**-1.0).tolist(), EPOCHS.tolist()
    assert is_hopeless(e, bad, 52, 0.9, True, 0.95) and not is_hopeless(e, bad, 52, 0.55, True, 0.95)
    assert is_hopeless(e, [-v for v in bad], 52, -0.9, False, 0.95)
    assert not is_hopeless(e[:3], bad[:3], 52, 0.9, True, 0.95)  # too short to tell
    assert not is_hopeless(e, [*bad[:-1], float("nan")], 52, 0.9, True, 0.95)


@pytest.mark.parametrize(
    ("epochs", "values", "end"),
    [([1, 2, 3], [1, 2, 3], 9), ([1, 2, 3, 4], [1, 2, 3], 9), ([1, 2, 3, 4], [1, 2, 3, 4], 4),
     ([1, 2, 3, 4], [1, 2, 3, float("nan")], 9)],
)  # fmt: skip
def test_what_is_no_curve_is_refused(epochs: list[float], values: list[float], end: float) -> None:
    with pytest.raises(ArgumentError, match="at least 4 finite values"):
        extrapolate(epochs, values, end)


def test_trials_are_told_what_to_beat_when_they_are_planned() -> None:
    plan, history = SearchPlan(Space({"lr": log(1e-4, 1.0)}), "quasi", 8, per_round=4, stop=True), History()
    first = plan(history)
    assert len(first) == 4 and {j.beat for j in first} == {None}
    history.rounds.append(first)
    rows = [("done", 0.7), ("stopped", 0.95), ("diverged", None), ("done", 0.8)]
    for job, (status, value) in zip(first, rows, strict=True):
        history.ends[job.key] = {"trial": job.trial, "rung": 0, "status": status, "value": value, "higher": True}
    assert {j.beat for j in plan(history)} == {0.8}


def make_easy(p: Any) -> Learner:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    data = el.TensorData(
        (x, (x[:, 0] > 0).long()), (x, (x[:, 0] > 0).long()), el.single_label(["a", "b"]), batch_size=20
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(p.seed)
        return Learner(data, torch.nn.Linear(3, 2), seed=p.seed)


def fit_long(learn: Any, p: Any, **how: Any) -> Any:
    return learn.fit(p.lr, 12, cycle_len=1, **how)


def test_a_search_stops_what_cannot_win_and_says_so(tmp_path: Path) -> None:
    points = [{"lr": 0.1}, {"lr": 1e-4}, {"lr": 0.2}, {"lr": 1e-5}]

    def run(folder: str, **how: Any) -> Any:
        return search(
            make_easy, {"lr": log(1e-6, 1.0)}, fit_long, tmp_path / folder, trials=4, method=points, stop=0.95,
            per_round=1, progress=False, metric="valid_loss", **how,
        )  # fmt: skip

    found = run("a")
    stopped = [t for t in found.trials if t.status == "stopped"]
    assert found.best.number == 2 and [t.number for t in stopped] == [1, 3] and found.trials[0].epochs == 12
    assert all(4 <= t.epochs < 12 and "cannot come to" in t.reason for t in stopped)
    assert [t.status for t in found.ranked] == ["done", "done", "stopped", "stopped"]
    assert run("a").table().equals(found.table())  # the same line again
    for file in [*(tmp_path / "a" / "events").iterdir(), *(tmp_path / "a" / "claims").iterdir()]:
        file.unlink()  # as if no end had been written: the checkpoints know it
    assert run("a").table().equals(found.table())


def test_what_ends_with_its_best_weights_is_told_by_them() -> None:
    """Its last epoch is not where it ends, and a mean of several epochs is not what one epoch comes to."""
    losses, scores = [0.9, 0.6, 0.5, 0.7, math.nan, 0.5, 0.4], [0.5, 0.7, 0.8, 0.6, 0.9, 0.1, 0.85]
    record = Record(("head",))
    record.epochs += [{"valid_loss": a, "accuracy": b} for a, b in zip(losses, scores, strict=True)]
    assert _values(record, "accuracy") == scores
    assert _values(record, "accuracy", True) == [0.5, 0.7, 0.8, 0.8, 0.8, 0.8, 0.85]
    recipe = Recipe(make_easy, fit_long, metric="accuracy", stop=0.95)
    falls = [0.70, 0.80, 0.70, 0.60, 0.50, 0.40, 0.30, 0.20]  # after the second epoch it only learns by heart
    for callbacks, wanted in (([], falls), ([el.KeepBest()], [0.70, *[0.80] * 7])):
        watch = watcher(recipe, Job(0, {}, 0))
        run: Any = SimpleNamespace(
            record=SimpleNamespace(epochs=[{"valid_loss": 1 - v, "accuracy": v} for v in falls]), callbacks=callbacks,
            n_epochs=10, steps_per_epoch=1, cycle_ends=list(range(1, 11)),
        )  # fmt: skip
        watch.monitor = SimpleNamespace(name="accuracy", sign=1.0)  # type: ignore[assignment]
        assert watch._curve(run)[1] == wanted
    plan, history = SearchPlan(Space({"lr": log(1e-4, 1.0)}), "quasi", 8, per_round=1, stop=True), History()
    (job,) = plan(history)
    history.rounds.append([job])
    history.ends[job.key] = {"status": "done", "value": 0.9, "at_epoch": 0.85, "higher": True}
    assert [j.beat for j in plan(history)] == [0.85], "0.9 is a mean of several epochs' weights"


def test_a_trial_that_ends_with_its_best_weights_says_what_one_epoch_came_to(tmp_path: Path) -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    own = (x[:, :3], (x[:, 0] + x[:, 3] > 0).long())  # which nobody can know for sure

    def make_noisy(p: Any) -> Learner:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(p.seed)
            data = el.TensorData(own, own, el.single_label(["a", "b"]), batch_size=20)
            return Learner(data, torch.nn.Linear(3, 2), seed=p.seed)

    def fit_kept(learn: Any, p: Any, **how: Any) -> Any:
        return learn.fit(p.lr, 12, **{**how, "callbacks": [*how["callbacks"], el.KeepBest(3)]}, cycle_len=None)

    points = [{"lr": 0.3}, {"lr": 1e-5}]
    found = search(
        make_noisy, {"lr": log(1e-6, 1.0)}, fit_kept, tmp_path, trials=2, method=points, stop=0.95, per_round=1,
        progress=False, metric="valid_loss",
    )  # fmt: skip
    first, second = (found.engine.store().history.ends[(k, 0)] for k in range(2))
    assert first["at_epoch"] == min(first["curve"]) and first["value"] != first["at_epoch"]
    assert second["status"] == "stopped" and f"{first['at_epoch']:.4g}" in second["reason"]


def test_best_weights_of_which_a_metric_is_no_number_are_no_end(tmp_path: Path) -> None:
    """As of the first ones, which say the same of all items, where rates are so high that no epoch is better."""
    x, y = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 2

    def ordered(probs: torch.Tensor, target: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([probs[:, 1], target.float()]))[0, 1])

    def make_even(p: Any) -> Learner:
        task = el.single_label(["a", "b"]).with_metrics([el.metrics.Metric("ordered", ordered, True)])
        model = torch.nn.Linear(3, 2)
        for weights in model.parameters():
            torch.nn.init.zeros_(weights)
        return Learner(el.TensorData((x, y), (x, y), task, batch_size=20), model, seed=p.seed)

    def fit_kept(learn: Any, p: Any, **how: Any) -> Any:
        return learn.fit(p.lr, 3, **{**how, "callbacks": [*how["callbacks"], el.KeepBest()]})

    for _ in range(2):  # the second time it is read
        found = search(
            make_even, {"lr": log(1e-6, 100.0)}, fit_kept, tmp_path, trials=2, method=[{"lr": 50.0}, {"lr": 0.01}],
            stop=0.95, per_round=1, progress=False, metric="ordered",
        )  # fmt: skip
        first = found.engine.store().history.ends[(0, 0)]
        assert (first["status"], first["value"], first["reason"]) == ("diverged", None, "ordered became nan")
        assert math.isfinite(first["curve"][-1]) and found.best.number == 1


def test_stop_and_halving_are_not_both(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="halving"):
        search(make, {"hidden": log(2, 16, whole=True)}, fit_long, tmp_path, stop=0.9, halving=3)
    with pytest.raises(ArgumentError, match="stop must be a number"):
        search(make, {"hidden": log(2, 16, whole=True)}, fit_long, tmp_path, stop=1.0)
