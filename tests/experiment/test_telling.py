from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import easylearn as el
from easylearn.experiment.certainty import spread
from easylearn.experiment.search import search
from easylearn.experiment.space import uniform
from easylearn.experiment.store import History, Job
from easylearn.experiment.telling import Line
from tests.experiment import folded
from tests.experiment.small_search import SPACE, fit, make

GOOD = {"rung": 0, "status": "done", "metric": "auc", "higher": True, "seconds": 1.25}


def ended(history: History, trial: int, **row: Any) -> None:
    history.ends[trial, 0] = {"trial": trial, **GOOD, **row}


def history_of(*jobs: Job) -> History:
    return History([list(jobs)])


def test_a_line_for_each_trial_with_the_best_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    line, history = Line(7, True), history_of(*(Job(i, {"lr": 0.1 / 3, "hidden": 4}) for i in range(5)))
    ended(history, 0, value=0.9)  # came out of the folder
    line(history)
    assert capsys.readouterr() == ("", "")
    ended(history, 1, value=0.5)
    ended(history, 2, value=0.95, status="stopped")
    line(history)
    ended(history, 3, value=None, status="diverged", reason="the loss became nan")
    line(history), line(history)
    assert capsys.readouterr().out.splitlines() == [
        "[2/7] trial 1: auc 0.5000 in 1.2 s; lr=0.03333, hidden=4; best auc 0.9000 (trial 0)",
        "[3/7] trial 2: auc 0.9500 in 1.2 s (stopped); lr=0.03333, hidden=4; best auc 0.9500 (trial 2)",
        "[4/7] trial 3: diverged in 1.2 s (the loss became nan); lr=0.03333, hidden=4; best auc 0.9500 (trial 2)",
    ]


def test_what_ended_before_its_round_was_read_is_told_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Rounds are read before what has ended, and another process may plan and end a trial in between."""
    line, history = Line(2, True), history_of(Job(0))
    line(history)
    ended(history, 1, value=0.5)
    line(history)
    assert capsys.readouterr().out == ""
    history.rounds.append([Job(1)])
    line(history), line(history)
    assert capsys.readouterr().out == "[1/2] trial 1: auc 0.5000 in 1.2 s\n"


def test_an_output_that_cannot_take_a_text_ends_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    for out in (io.TextIOWrapper(file, "cp1252", write_through=True), None):
        line, history = Line(1, True), history_of(Job(0, {"arch": "日ö"}))
        line(history)
        ended(history, 0, value=0.5)
        monkeypatch.setattr(sys, "stdout", out)
        line(history)
    assert file.getvalue().decode("cp1252").splitlines() == [
        "[1/1] trial 0: auc 0.5000 in 1.2 s; arch='\\u65e5ö'",
    ]


def test_folds_and_seeds_have_a_mean(capsys: pytest.CaptureFixture[str]) -> None:
    line, history = Line(4, True, "fold"), history_of(*(Job(i, {"lr": 1.0}, i // 2, i % 2) for i in range(4)))
    line(history)
    ended(history, 0, value=0.5), ended(history, 1, value=0.7), ended(history, 2, value=0.9)
    line(history)
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] fold 0, seed 0: auc 0.5000 in 1.2 s",
        "[2/4] fold 1, seed 0: auc 0.7000 in 1.2 s; mean 0.6000",
        "[3/4] fold 0, seed 1: auc 0.9000 in 1.2 s; mean 0.7000",
    ]
    line, history = Line(4, True, "seed"), history_of(*(Job(i, {}, i % 2, by=str(5 + i // 2)) for i in range(4)))
    line(history)
    ended(history, 0, value=0.5), ended(history, 1, value=0.7), ended(history, 2, value=0.9)
    line(history)
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] trial 5, seed 0: auc 0.5000 in 1.2 s",
        "[2/4] trial 5, seed 1: auc 0.7000 in 1.2 s; mean 0.6000",
        "[3/4] trial 6, seed 0: auc 0.9000 in 1.2 s",
    ]


def test_on_a_terminal_there_is_a_bar_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("easylearn.experiment.telling.shows_bars", lambda: True)
    line, history = Line(7, True), history_of(Job(0), Job(1), Job(2))
    line(history)
    ended(history, 0, value=0.5), ended(history, 1, value=0.75), ended(history, 2, value=None)
    line(history)
    line.close()
    out, err = capsys.readouterr()
    assert "3/7" in err and "best auc 0.75" in err and "(trial 1)" in err and len(out.splitlines()) == 3
    silent = Line(7, False)
    silent(History()), silent(history)
    silent.close()
    assert capsys.readouterr() == ("", "")


def test_a_search_tells_each_trial_once_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(make, SPACE, fit, tmp_path, trials=2, per_round=2)
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"\[(\d/2)\] trial (\d): accuracy 0\.\d+ in ", line).groups() for line in lines] == [  # type: ignore[union-attr]
        ("1/2", "0"),
        ("2/2", "1"),
    ]
    found = search(make, SPACE, fit, tmp_path, trials=3, per_round=2)
    out, err = capsys.readouterr()
    assert re.fullmatch(r"\[3/3\] trial 2: accuracy .*; lr=.*, hidden=\d+; best accuracy .*\(trial \d\)\n", out)
    assert f"2 trainings were taken from {tmp_path}" in err
    found.confirm(1, 2)
    assert len(capsys.readouterr().out.splitlines()) == 2
    found.confirm(1, 2, progress=False), search(make, SPACE, fit, tmp_path, trials=4, per_round=2, progress=False)
    assert capsys.readouterr() == ("", "")


def test_workers_say_nothing_themselves(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def make_one(p: Any) -> Any:
        x = torch.arange(20.0)[:, None]
        data = el.TensorData((x, x), (x, x), el.regression(["y"]))
        return el.Learner(data, torch.nn.Linear(1, 1), seed=p.seed)

    def fit_one(learn: Any, p: Any, **how: Any) -> Any:
        return learn.fit(p.lr, 1, **how)

    search(make_one, {"lr": uniform(0.001, 0.01)}, fit_one, tmp_path, trials=2, workers=2)
    out = capfd.readouterr().out
    assert sorted(re.findall(r"^\[\d/2\] trial (\d): ", out, re.M)) == ["0", "1"] and len(out.splitlines()) == 2


def test_cross_fit_and_spread_tell_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = el.folds(folded.N, 2, stratify=folded.TABLE.y)

    def both(progress: bool) -> None:
        where = str(progress)
        el.cross_fit(folded.make, plan, folded.fit, tmp_path / where, check=False, progress=progress)
        spread(make, fit, {"lr": 0.1, "hidden": 2}, seeds=2, progress=progress)

    both(False)
    assert capsys.readouterr() == ("", "")
    both(True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["[1/2] fold 0", "[2/2] fold 1", "[1/2] seed 0", "[2/2] seed 1"]
    assert all("; mean 0." in line for line in lines[1::2])
