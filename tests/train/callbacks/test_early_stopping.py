from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.metrics import Metric
from easylearn.train.callbacks import EarlyStopping

MakeLearner = Callable[..., Learner]


@pytest.fixture
def scripted(make_learner: MakeLearner) -> Callable[..., Learner]:
    """A learner whose metric "score" gives the numbers that it is told to."""

    def make(values: list[float], higher: bool = True, **settings: Any) -> Learner:
        left = iter(values)
        return make_learner(metrics=[Metric("score", lambda outputs, target: next(left), higher)], **settings)

    return make


@pytest.mark.parametrize(
    ("values", "higher", "patience", "epochs"),
    [
        ([1, 2, 3, 4, 5], True, 1, 5),
        ([5, 4, 3, 2, 1], True, 1, 2),
        ([5, 4, 3, 2, 1], False, 1, 5),
        ([1, 2, 1, 1, 1], True, 3, 5),
        ([1, 2, 1, 1, 3, 1, 1, 1, 1], True, 3, 8),
        ([1, 1, 1, 1], True, 2, 3),
    ],
)
def test_it_stops_after_patience_epochs_without_a_better_value(
    scripted: Callable[..., Learner], values: list[float], higher: bool, patience: int, epochs: int
) -> None:
    record = scripted(values, higher).fit(0.01, len(values), callbacks=[EarlyStopping("score", patience)])
    assert len(record.epochs) == epochs
    if epochs < len(values):
        best = max(values[:epochs]) if higher else min(values[:epochs])
        assert record.stop_reason == f"score was no better than {best} for {patience} epochs"


def test_min_delta(scripted: Callable[..., Learner]) -> None:
    record = scripted([1.0, 1.05, 1.06, 9.0]).fit(0.01, 4, callbacks=[EarlyStopping("score", 2, min_delta=0.1)])
    assert len(record.epochs) == 3


def test_the_validation_loss_by_default(make_learner: MakeLearner) -> None:
    learn = make_learner()
    record = learn.fit(0.0, 9, callbacks=[EarlyStopping(patience=2)])
    # At a rate of 0 only batch-norm's statistics move.
    assert len(record.epochs) < 9 or min(record.column("valid_loss")[-2:]) == min(record.column("valid_loss"))


def test_a_second_fit_counts_anew(scripted: Callable[..., Learner]) -> None:
    stop = EarlyStopping("score", 2)
    learn = scripted([9, 1, 1, 5, 4, 6, 7], callbacks=[stop])
    assert len(learn.fit(0.01, 5).epochs) == 3
    record = learn.fit(0.01, 4)
    assert len(record.epochs) == 4 and record.stop_reason is None


def test_the_state_goes_on(scripted: Callable[..., Learner]) -> None:
    one, two = EarlyStopping("score", 3), EarlyStopping("score", 3)
    scripted([5, 4, 3]).fit(0.01, 3, callbacks=[one])
    two.load_state_dict(one.state_dict())
    assert two.state_dict() == one.state_dict() == {"best": 5, "waited": 2}


def test_refused(make_learner: MakeLearner, make_data: Any) -> None:
    with pytest.raises(ArgumentError, match="patience must be at least 1 epoch, got 0"):
        EarlyStopping(patience=0)
    with pytest.raises(ArgumentError, match="validation data, and there is none"):
        make_learner(data=make_data(n_valid=None)).fit(0.1, 1, callbacks=[EarlyStopping()])
    with pytest.raises(ArgumentError, match="no metric 'f1'"):
        make_learner().fit(0.1, 1, callbacks=[EarlyStopping("f1")])
