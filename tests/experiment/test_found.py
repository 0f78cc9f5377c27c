"""What a search found: most of it on trials that were written down by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from easylearn.errors import ArgumentError, StateError
from easylearn.experiment.engine import Engine, once
from easylearn.experiment.found import Found
from easylearn.experiment.samplers import quasi
from easylearn.experiment.search import search
from easylearn.experiment.space import Space, choice, log, powers, uniform, when
from easylearn.experiment.store import Job
from easylearn.experiment.trials import Recipe
from tests.experiment.small_search import SPACE, fit, make, weights

WIDE = Space(
    {
        "lr": log(1e-5, 1.0),
        "size": powers(8, 128),
        "kind": choice(["a", "b"]),
        "x": uniform(0, 1),
        "more": when("kind", "b", uniform(0, 1)),
    }
)


def found(folder: Path, quality: Callable[[dict[str, Any]], float | None], n: int = 40, higher: bool = True) -> Found:
    jobs = [Job(i, quasi(WIDE, 0, i, ()), by="quasi") for i in range(n)]
    engine = Engine(folder, {"kind": "search"}, Recipe(make, fit), once(jobs))
    store = engine.store()
    store.add_round(jobs)
    for job in jobs:
        value = quality(dict(job.point))
        row = {"trial": job.trial, "rung": 0, "status": "done" if value is not None else "diverged", "value": value}
        row |= {"metric": "auc", "higher": higher, "epochs": 3, "curve": [0.1, 0.2, value], "seconds": 0.5}
        store.end({**row, "reason": "" if value is not None else "the loss became nan"})
    return Found(engine, WIDE)


def middle(point: dict[str, Any]) -> float:
    return float(-abs(math.log10(point["lr"]) + 2.5) - abs(point["x"] - 0.5) - 0.3 * (point["kind"] == "a"))


def test_the_best_and_the_table(tmp_path: Path) -> None:
    one = found(tmp_path, middle)
    values = [middle(dict(t.point)) for t in one.trials]
    assert one.best.number == int(np.argmax(values)) and one.best.value == max(values)
    assert [t.value for t in one.ranked] == sorted(values, reverse=True)
    table = one.table()
    assert list(table.columns) == ["trial", "status", "auc", "epochs", "by", "lr", "size", "kind", "x", "more"]
    assert table.more.isna().equals(table.kind == "a") and list(table.trial) == list(range(40))
    lower = found(tmp_path / "lower", middle, higher=False)
    assert lower.best.value == min(values)


def test_where_all_failed_there_is_no_best(tmp_path: Path) -> None:
    one = found(tmp_path, lambda point: None, n=4)
    with pytest.raises(StateError, match=r"no trial of .* has a value: the loss became nan"):
        _ = one.best
    assert repr(one) == "Found(4 trials, none with a value)"
    assert one.advice() and "4 of 4 trials have no value" in one.advice()[0]


def test_advice_on_edges_failures_and_what_does_not_matter(tmp_path: Path) -> None:
    def quality(point: dict[str, Any]) -> float | None:
        return None if point["lr"] > 0.1 else math.log(point["size"]) - abs(math.log10(point["lr"]) + 3)

    lines = found(tmp_path, quality, n=60).advice()
    assert any("of 60 trials have no value" in line and "most have a high lr" in line for line in lines)
    assert any("size near its upper end, 128: widen that range" in line for line in lines)
    weak = next(line for line in lines if "next to nothing" in line)
    assert "kind" in weak and "lr" not in weak.split(" changed")[0].split(", ") and "size" not in weak
    assert not any("near its" in line for line in found(tmp_path / "m", middle).advice())
    assert found(tmp_path / "few", middle, n=6).advice() == []


def test_importances_find_what_matters(tmp_path: Path) -> None:
    shares = found(tmp_path, middle, n=60)._importances()
    assert max(shares, key=lambda n: shares[n]) == "lr" and shares["lr"] > 0.5 > 3 * shares["size"]


def test_drawings(tmp_path: Path) -> None:
    one = found(tmp_path, lambda p: None if p["x"] > 0.9 else middle(p))
    axes = one.plot_axes().axes
    assert [a.get_xlabel() for a in axes] == WIDE.names
    assert axes[0].get_xscale() == "log" and [t.get_text() for t in axes[2].get_xticklabels()] == ["a", "b"]
    best = axes[0].collections[1].get_offsets()[0]
    assert tuple(best) == pytest.approx((one.best.point["lr"], one.best.value))
    figure = one.plot_isolation("lr")
    line = figure.axes[0].lines[0]
    peak = float(np.asarray(line.get_xdata())[np.argmax(line.get_ydata())])
    assert 1e-4 < peak < 1e-1 and figure.axes[0].get_xscale() == "log"
    one.plot_isolation("kind")
    with pytest.raises(ArgumentError, match=r"no 'lrr'.*'lr'"):
        one.plot_isolation("lrr")
    with pytest.raises(StateError, match="4 trials have a value, and at least 5"):
        found(tmp_path / "few", middle, n=4).plot_isolation("lr")


def test_the_page(tmp_path: Path) -> None:
    page = found(tmp_path / "s", middle).report(tmp_path / "search.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    for words in ("Search of 40 trials", "What matters", "auc", "quasi", "<img"):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page


def test_learners_and_points_confirmed(tmp_path: Path) -> None:
    one = search(make, SPACE, fit, tmp_path, trials=5, halving=3, progress=False)
    best = one.learner()
    assert best.validate()["accuracy"] == pytest.approx(one.best.value)
    last = one.ranked[-1].number
    assert weights(one.learner(last)) == weights(one.learner(last)) != weights(best)
    with pytest.raises(ArgumentError, match="no trial 9; they are numbered from 0 to 4"):
        one.learner(9)
    table = one.confirm(top=2, seeds=3)
    assert list(table.n) == [3, 3] and set(table.trial) == {t.number for t in one.ranked[:2]}
    assert table["mean"].is_monotonic_decreasing and (table["min"] <= table["mean"]).all() and (table.sd > 0).any()
    pd.testing.assert_frame_equal(one.confirm(top=2, seeds=3), table)
    with pytest.raises(ArgumentError, match="seeds"):
        one.confirm(seeds=1)


def test_nothing_is_confirmed_where_no_trial_has_a_value(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"no trial of .* has a value"):
        found(tmp_path, lambda p: None, n=3).confirm()


def test_the_score_is_corrected_for_having_chosen(tmp_path: Path) -> None:
    one = search(make, SPACE, fit, tmp_path / "s", trials=12, progress=False)
    score = one.score
    assert score.n == 12 and score.naive == pytest.approx(one.best.value)
    assert float(score.corrected) <= score.naive + 1e-9  # equal where one is the best on all parts of the items
    assert score.corrected.low < float(score.corrected) < score.corrected.high
    with pytest.raises(StateError, match="no score can be drawn from: auc needs"):
        _ = found(tmp_path / "f", lambda p: None, n=3).score
