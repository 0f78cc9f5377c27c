from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.metrics import Metric
from easylearn.train.callbacks import EarlyStopping, ReduceLROnPlateau

MakeLearner = Callable[..., Learner]


def scripted(make_learner: MakeLearner, values: list[float], higher: bool = True, **more: Any) -> Learner:
    """A learner whose metric "score" gives the numbers that it is told to."""
    left = iter(values)
    return make_learner("plain", metrics=[Metric("score", lambda outputs, target: next(left), higher)], **more)


class TestEarlyStopping:
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
        self, make_learner: MakeLearner, values: list[float], higher: bool, patience: int, epochs: int
    ) -> None:
        record = scripted(make_learner, values, higher).fit(
            0.01, len(values), callbacks=[EarlyStopping("score", patience)]
        )
        assert len(record.epochs) == epochs
        if epochs < len(values):
            best = max(values[:epochs]) if higher else min(values[:epochs])
            assert record.stop_reason == f"score was no better than {best} for {patience} epochs"

    def test_min_delta(self, make_learner: MakeLearner) -> None:
        record = scripted(make_learner, [1.0, 1.05, 1.06, 9.0]).fit(
            0.01, 4, callbacks=[EarlyStopping("score", 2, min_delta=0.1)]
        )
        assert len(record.epochs) == 3

    def test_the_validation_loss_by_default(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        record = learn.fit(0.0, 9, callbacks=[EarlyStopping(patience=2)])
        # At a rate of 0 only batch-norm's statistics move.
        assert len(record.epochs) < 9 or min(record.column("valid_loss")[-2:]) == min(record.column("valid_loss"))

    def test_a_second_fit_counts_anew(self, make_learner: MakeLearner) -> None:
        stop = EarlyStopping("score", 2)
        learn = scripted(make_learner, [9, 1, 1, 5, 4, 6, 7], callbacks=[stop])
        assert len(learn.fit(0.01, 5).epochs) == 3
        record = learn.fit(0.01, 4)
        assert len(record.epochs) == 4 and record.stop_reason is None

    def test_the_state_goes_on(self, make_learner: MakeLearner) -> None:
        one, two = EarlyStopping("score", 3), EarlyStopping("score", 3)
        scripted(make_learner, [5, 4, 3]).fit(0.01, 3, callbacks=[one])
        two.load_state_dict(one.state_dict())
        assert two.state_dict() == one.state_dict() == {"best": 5, "waited": 2}

    def test_refused(self, make_learner: MakeLearner, make_data: Any) -> None:
        with pytest.raises(ArgumentError, match=r"patience must be.*at least 1, got 0"):
            EarlyStopping(patience=0)
        with pytest.raises(ArgumentError, match="validation data, and there is none"):
            make_learner(data=make_data(n_valid=None)).fit(0.1, 1, callbacks=[EarlyStopping()])
        with pytest.raises(ArgumentError, match="no metric 'f1'"):
            make_learner().fit(0.1, 1, callbacks=[EarlyStopping("f1")])


class TestReduceLROnPlateau:
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        values=st.lists(st.integers(0, 5).map(float), min_size=2, max_size=10),
        higher=st.booleans(),
        patience=st.integers(1, 3),
        min_delta=st.sampled_from([0.0, 1.0]),
    )
    def test_rates_are_those_of_torchs_scheduler(
        self,
        make_learner: MakeLearner,
        make_data: Any,
        values: list[float],
        higher: bool,
        patience: int,
        min_delta: float,
    ) -> None:
        learn = scripted(make_learner, values, higher, data=make_data(n_train=4))
        plateau = ReduceLROnPlateau("score", factor=0.5, patience=patience, min_delta=min_delta)
        record = learn.fit(0.1, len(values), cycle_len=None, callbacks=[plateau])
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        theirs = lr_scheduler.ReduceLROnPlateau(
            optimizer,
            "max" if higher else "min",
            0.5,
            patience=patience - 1,
            threshold=min_delta,
            threshold_mode="abs",
            eps=0,
        )
        for (rate,), value in zip(record.rates, values, strict=True):
            assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
            theirs.step(value)

    def test_it_works_on_top_of_a_schedule_and_on_all_groups(self, make_learner: MakeLearner) -> None:
        left = iter([2, 1, 1, 1])
        learn = make_learner(metrics=[Metric("score", lambda outputs, target: next(left), True)])
        record = learn.fit([0.1, 0.2, 0.3], 4, callbacks=[ReduceLROnPlateau("score", 0.1, 1)])
        assert record.rates[::6] == [pytest.approx([lr * s for lr in (0.1, 0.2, 0.3)]) for s in (1, 1, 0.1, 0.01)]

    def test_a_second_fit_begins_at_its_own_rates(self, make_learner: MakeLearner) -> None:
        learn = scripted(make_learner, [5, 4, 3, 3, 2], True, callbacks=[ReduceLROnPlateau("score", 0.1, 1)])
        assert learn.fit(0.1, 3, cycle_len=None).rates[-1][0] == pytest.approx(0.01)
        record = learn.fit(0.1, 2, cycle_len=None)
        assert {r[0] for r in record.rates} == {0.1}

    def test_the_state_goes_on(self, make_learner: MakeLearner) -> None:
        one, two = ReduceLROnPlateau("score", 0.5, 1), ReduceLROnPlateau("score", 0.5, 1)
        scripted(make_learner, [5, 4, 3], True).fit(0.01, 3, callbacks=[one])
        two.load_state_dict(one.state_dict())
        assert two.state_dict() == one.state_dict() == {"best": 5, "waited": 0, "scale": 0.25}

    @pytest.mark.parametrize("factor", [0.0, 1.0, -1.0, 2.0])
    def test_refused(self, factor: float) -> None:
        with pytest.raises(ArgumentError, match="factor must be a number above 0 and below 1"):
            ReduceLROnPlateau(factor=factor)
        with pytest.raises(ArgumentError, match="patience"):
            ReduceLROnPlateau(patience=0)
