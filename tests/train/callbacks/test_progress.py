from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from easylearn.learning import Learner
from easylearn.train import waiting
from easylearn.train.callbacks import Progress, progress

MakeLearner = Callable[..., Learner]


def test_a_header_and_a_line_per_epoch(make_learner: MakeLearner, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_learner(progress=True).fit(0.1, 3)
    out = capsys.readouterr()
    lines = out.out.splitlines()
    assert lines[0].split() == ["epoch", "train_loss", "valid_loss", "accuracy", "rate", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "2"]
    assert f"{record.last['valid_loss']:.4f}" in lines[-1] and len({len(line) for line in lines}) == 1
    assert out.err == ""  # no bar where there is no terminal


def test_in_a_log_an_epoch_that_takes_long_says_how_far_the_fit_is(
    make_learner: MakeLearner, at: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(progress, "LONG", 10.0)
    steps = iter([1, 12, *[1] * 4, *[3] * 6, 1, 50])  # seconds of each

    def pass_time(run: Any) -> None:
        clock.now += next(steps, 1)

    make_learner(progress=True).fit(0.1, 3, callbacks=[at(batch_begin=pass_time)])
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert err.splitlines() == [
        "training: 2 of 18 batches after 0:13, about 1:44 to go",
        "training: 10 of 18 batches after 0:29, about 0:23 to go",
        "training: 14 of 18 batches after 1:26, about 0:25 to go",
        "training: 18 batches in 1:30",
    ]


def test_epochs_are_counted_over_the_learners_life(
    make_learner: MakeLearner, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = make_learner(progress=True)
    learn.fit(0.1, 2), learn.fit(0.1, 2)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["epoch", "0", "1", "epoch", "2", "3"]


def test_few_steps_are_pointed_out(
    make_learner: MakeLearner, make_data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make_learner(progress=True).fit(0.1, 1)
    assert capsys.readouterr().out.startswith("6 steps in all, which is few: a smaller batch_size")
    make_learner(data=make_data(n_train=4), progress=True).fit(0.1, 1)
    assert capsys.readouterr().out.startswith("1 step in all, which is few")


def test_why_it_stopped(make_learner: MakeLearner, at: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(run: Any) -> None:
        run.stop_reason = "enough"

    make_learner(progress=True).fit(0.1, 2, callbacks=[at(epoch_end=stop)])
    assert capsys.readouterr().out.splitlines()[-1] == "stopped: enough"


def test_on_a_terminal_there_is_a_bar_that_goes_away(
    make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    make_learner().fit(0.1, 2, callbacks=[Progress(interval=0.0)])
    err = capsys.readouterr().err
    assert "12/12" in err and "epoch 1" in err and "loss" in err
    assert err.rstrip("\r").endswith(" ")  # wiped


def test_the_bar_looks_at_the_loss_only_when_it_draws(
    make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from easylearn.train.record import Record

    looked: list[int] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(Record, "last_loss", property(lambda self: looked.append(1) or 0.0))
    make_learner().fit(0.1, 5, callbacks=[Progress(interval=3600.0)])
    assert len(looked) == 1


def test_a_notebook_shows_the_table_once(make_learner: MakeLearner, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell that ends with a fit shows what was printed, and then the record."""
    record = make_learner(progress=True).fit(0.1, 2)
    shown = capsys.readouterr().out + repr(record)
    assert shown.count("train_loss  valid_loss") == 1 and len(repr(record).splitlines()) == 1
    assert str(record) in shown


def test_the_bar_says_that_it_validates(
    make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    make_learner().fit(0.1, 1, callbacks=[Progress(interval=3600.0)])
    assert "epoch 0, validating" in capsys.readouterr().err


def test_validate_predict_and_interpret_tell_how_far_they_are(
    make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    learn = make_learner(progress=True)
    for call, told in (
        (learn.validate, "validating: 1 of 3 batches after 0:00"),
        (learn.predict, "predicting valid: 4 of 10 items after 0:00"),
        (lambda: learn.tta(split="train"), "predicting train: 4 of 22 items after 0:00"),
        (learn.interpret, "predicting valid: 4 of 10 items after 0:00"),
        (learn.baseline, "predicting valid: 4 of 10 items after 0:00"),
    ):
        call()
        out, err = capsys.readouterr()
        assert told in err and out == ""


def test_silence(make_learner: MakeLearner, capsys: pytest.CaptureFixture[str]) -> None:
    learn = make_learner(progress=False)
    learn.fit(0.1, 1), learn.lr_find(), learn.validate(), learn.tta()
    assert capsys.readouterr() == ("", "")


def test_an_epoch_without_validation_has_a_header_of_its_own(
    make_learner: MakeLearner, at: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(run: Any) -> None:
        run.stop_reason = "enough" if run.step == 8 else None

    make_learner(progress=True).fit(0.1, 2, callbacks=[at(batch_end=stop)])
    headers = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert len(headers) == 2 and "valid_loss" not in headers[1]
