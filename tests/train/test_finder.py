from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from easylearn.data.loaders import ForeignLoader, LoaderData
from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.train.finder import LRCurve, suggest
from easylearn.train.strategy import SingleDevice

MakeLearner = Callable[..., Learner]


class Interrupting(nn.Module):
    """Lets so many batches through, then does something else."""

    def __init__(self, inner: nn.Module, after: int, act: Callable[[], None]) -> None:
        super().__init__()
        self.inner, self.left, self.act = inner, after, act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left == 0:
            self.act()
        out: torch.Tensor = self.inner(x)
        return out


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def raise_error() -> None:
    raise ZeroDivisionError


def signal_once() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def signal_twice() -> None:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def rng() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index, union-attr]


@contextmanager
def nothing_changes(learn: Learner, weights: Any, same: Any) -> Iterator[None]:
    def state() -> tuple[Any, ...]:
        params = list(learn.model.parameters())
        return (
            [m.training for m in learn.model.modules()],
            [p.requires_grad for p in params],
            [None if p.grad is None else p.grad.tolist() for p in params],
            [id(p) for p in params],
            rng(),
            signal.getsignal(signal.SIGINT),
            learn.precompute,
            learn.epochs_done,
            learn.record,
            learn.strategy.state_dict(),
        )

    before, tensors = state(), weights(learn)
    yield
    assert same(tensors, weights(learn))
    assert state() == before


class TestItLeavesNoTrace:
    @pytest.mark.parametrize(
        "settings",
        [{}, {"model": "body_head", "precompute": True}, {"accumulate": 3}, {"precision": "fp16"}, {"bn_freeze": True}],
    )
    def test_everything_is_as_before_and_the_next_fit_the_same(
        self, make_learner: MakeLearner, weights: Any, same: Any, settings: dict[str, Any]
    ) -> None:
        learn, never = (make_learner(**settings) for _ in range(2))
        if learn.precompute:
            learn.fit(0.1, 1), never.fit(0.1, 1)
        else:
            learn.freeze_to(1), never.freeze_to(1)
            next(learn.model.parameters()).grad = torch.ones_like(next(learn.model.parameters()))
        learn.model.eval()
        with nothing_changes(learn, weights, same):
            curve = learn.lr_find(1e-4, 100.0)
        assert len(curve.rates) >= 10
        a, b = learn.fit(0.1, 2), never.fit(0.1, 2)
        assert a.losses == b.losses and same(weights(learn), weights(never))

    @pytest.mark.parametrize(
        ("act", "raises"),
        [
            (raise_interrupt, KeyboardInterrupt),
            (raise_error, ZeroDivisionError),
            (signal_once, None),
            (signal_twice, KeyboardInterrupt),
        ],
    )
    @pytest.mark.parametrize("settings", [{}, {"accumulate": 3}, {"precision": "fp16"}])
    def test_the_same_when_interrupted(
        self,
        make_learner: MakeLearner,
        make_model: Any,
        weights: Any,
        same: Any,
        act: Callable[[], None],
        raises: type[BaseException] | None,
        settings: dict[str, Any],
    ) -> None:
        learn, never = (
            make_learner(Interrupting(make_model()[0], 13, act if i == 0 else lambda: None), **settings)
            for i in range(2)
        )
        with nothing_changes(learn, weights, same):
            if raises is None:
                curve = learn.lr_find()
                assert len(curve.rates) == 13 and "interrupted" in str(curve.record.stop_reason)
                assert curve.suggestion is None and "interrupted after step 12 of 100" in curve.reason
            else:
                with pytest.raises(raises):
                    learn.lr_find()
        a, b = learn.fit(0.1, 2), never.fit(0.1, 2)
        assert a.losses == b.losses and same(weights(learn), weights(never))

    def test_no_file_is_written(
        self, make_learner: MakeLearner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        make_learner().lr_find()
        assert [f for f in tmp_path.rglob("*") if f.is_file()] == []

    def test_two_by_turns_do_not_touch_each_other(self, make_learner: MakeLearner, weights: Any, same: Any) -> None:
        outer, inner, alone = (make_learner(model_seed=s) for s in (0, 1, 0))
        other = make_learner(model_seed=1)
        curves: list[LRCurve] = []

        def meanwhile() -> None:
            if not curves:
                curves.append(inner.lr_find())

        handle = outer.model.register_forward_hook(lambda *_: meanwhile())
        curve = outer.lr_find()
        handle.remove()
        assert curve.losses == alone.lr_find().losses
        assert curves[0].losses == other.lr_find().losses
        assert same(weights(inner), weights(other)) and same(weights(outer), weights(alone))


class TestTheSweep:
    def test_rates_grow_exponentially_from_one_end_to_the_other(self, make_learner: MakeLearner) -> None:
        curve = make_learner().lr_find(1e-6, 1e-3, n_steps=40)
        assert curve.rates == pytest.approx(np.geomspace(1e-6, 1e-3, 40).tolist())
        assert len(curve.losses) == len(curve.smooth) == 40

    def test_groups_keep_their_proportion(self, make_learner: MakeLearner) -> None:
        record = make_learner().lr_find(1e-6, 1e-3, lr=[1, 2, 10], n_steps=20).record
        for rates in record.rates:
            assert rates == pytest.approx((rates[-1] / 10, rates[-1] / 5, rates[-1]))
        spread = make_learner().lr_find(1e-6, 1e-3, lr=slice(1e-4, 1e-2), n_steps=20).record
        assert spread.rates[0] == pytest.approx((1e-8, 1e-7, 1e-6))

    def test_data_shorter_than_the_sweep_is_gone_through_again_in_the_order_of_a_fit(
        self, make_learner: MakeLearner, make_data: Any
    ) -> None:
        orders: list[list[list[int]]] = []
        data = make_data(n_train=7)  # two batches
        for sweeps in (True, False):
            seen: list[list[int]] = []
            learn = make_learner("plain", data)
            learn.model.register_forward_pre_hook(
                lambda m, x, seen=seen: seen.append(x[0][:, 0].tolist()) if m.training else None
            )
            if sweeps:
                curve = learn.lr_find(n_steps=30, end_lr=1e-3)
                assert len(curve.rates) == 30
            else:
                learn.fit(0.1, 15)
            orders.append(seen)
        assert orders[0] == orders[1]

    def test_it_stops_where_the_loss_is_four_times_its_best(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner("plain", make_data("regression", n_train=64, batch_size=16))
        curve = learn.lr_find(1e-5, 1e6, n_steps=200)
        assert len(curve.rates) < 200 and curve.record.stop_reason is not None
        best = min(curve.smooth[:-1])
        assert not curve.smooth[-1] <= 4 * best
        assert all(s <= 4 * min(curve.smooth[: i + 1]) for i, s in enumerate(curve.smooth[:-1]) if i > 5)

    @pytest.mark.parametrize("shift", [-5.0, -1.2, 0.0])
    def test_a_loss_below_zero_gives_the_same_curve(self, make_learner: MakeLearner, shift: float) -> None:
        plain = make_learner().lr_find()
        curve = make_learner(loss=lambda logits, target: F.cross_entropy(logits, target) + shift).lr_find()
        n = min(len(plain.rates), len(curve.rates))
        assert n > 60 and curve.rates[:n] == plain.rates[:n]
        assert curve.losses[:n] == pytest.approx([v + shift for v in plain.losses[:n]], abs=1e-4)
        assert curve.suggestion == pytest.approx(plain.suggestion)

    def test_a_loss_below_zero_that_breaks_ends_the_sweep(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data("regression", n_train=64, batch_size=16)
        curve = make_learner("plain", data, loss=lambda a, b: (a - b).square().mean() - 9).lr_find(
            1e-5, 1e6, n_steps=200
        )
        assert curve.record.stop_reason is not None and 50 < len(curve.rates) < 200

    def test_callbacks_of_the_learner_stay_out_of_it(self, make_learner: MakeLearner, at: Any) -> None:
        seen: list[int] = []
        make_learner(callbacks=[at(batch_end=lambda run: seen.append(run.step))]).lr_find()
        assert seen == []

    def test_it_runs_on_foreign_batches(self, make_learner: MakeLearner, make_data: Any) -> None:
        source = make_data(n_train=16)
        batches = [(b.inputs[0], b.target) for b in source.loader("train", training=True).batches(torch.device("cpu"))]
        data = LoaderData(batches, None, source.task)
        assert isinstance(data.loader("train", training=True), ForeignLoader)
        assert len(make_learner("plain", data).lr_find(n_steps=20).rates) == 20

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"start_lr": 1.0, "end_lr": 0.1}, "(start|end)_lr must be a number above"),
            ({"start_lr": 0.0}, "(start|end)_lr must be a number above"),
            ({"start_lr": math.nan}, "(start|end)_lr must be a number above"),
            ({"end_lr": math.inf}, "(start|end)_lr must be a number above"),
            ({"n_steps": 3}, "at least 10 steps"),
            ({"lr": [1, 1]}, "2 learning rates"),
            ({"lr": [1, 1, 0]}, "last group"),
            ({"num_it": 100}, "It is called 'n_steps' here"),
        ],
    )
    def test_refused(self, make_learner: MakeLearner, arguments: dict[str, Any], said: str) -> None:
        with pytest.raises(ArgumentError, match=said):
            make_learner().lr_find(**arguments)


class TestSuggestion:
    RATES = tuple(np.geomspace(1e-5, 10, 100).tolist())

    def test_a_valley(self) -> None:
        losses = tuple(2 - 1.5 * math.exp(-((math.log10(r) + 1) ** 2)) + 5 * max(math.log10(r), 0) for r in self.RATES)
        rate, why = suggest(self.RATES, losses)
        assert rate is not None and 0.003 < rate < 0.03 and "lowest" in why

    @pytest.mark.parametrize(
        "losses", [tuple(1.0 for _ in RATES), tuple(1.0 + r for r in RATES), (1.0, math.nan), (math.inf,) * 50, ()]
    )
    def test_none_comes_with_a_reason(self, losses: tuple[float, ...]) -> None:
        rate, why = suggest(self.RATES[: len(losses)], losses)
        assert rate is None and why

    def test_still_falling_at_the_end_says_so(self) -> None:
        rate, why = suggest(self.RATES, tuple(2.0 - i / 100 for i in range(100)))
        assert rate is not None and "end_lr" in why

    def test_a_last_loss_that_is_no_number_does_no_harm(self) -> None:
        losses = tuple(2 - 1.5 * math.exp(-((math.log10(r) + 1) ** 2)) for r in self.RATES)
        assert suggest(self.RATES, losses[:-1])[0] == suggest(self.RATES, (*losses[:-1], math.nan))[0]

    def test_it_is_a_rate_that_trains(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner(data=make_data(n_train=128, n_valid=64, batch_size=16))
        curve = learn.lr_find()
        assert curve.suggestion is not None and 1e-3 < curve.suggestion < 1.0
        assert f"suggested rate {curve.suggestion:.2g}" in str(curve) and curve.reason in str(curve)
        assert repr(curve) == f"LRCurve({len(curve.rates)} steps; {curve})"
        before = learn.validate()["valid_loss"]
        learn.fit(curve.suggestion, 3)
        assert learn.validate()["valid_loss"] < before

    def test_a_model_that_gives_no_number(self, make_learner: MakeLearner) -> None:
        learn = make_learner("plain")
        with torch.no_grad():
            next(learn.model.parameters()).fill_(math.nan)
        curve = learn.lr_find()
        assert suggest(tuple(10.0**k for k in range(20)), (0.0,) * 20)[0] is None  # a loss that never moves
        assert curve.suggestion is None and "finite" in curve.reason and str(curve).startswith("no rate suggested")


def test_smoothing_is_that_of_pandas(make_learner: MakeLearner) -> None:
    curve = make_learner().lr_find(n_steps=30)
    assert curve.smooth == pytest.approx(pd.Series(curve.losses).ewm(alpha=0.1).mean().tolist())


def test_a_strategys_scale_is_part_of_what_comes_back(make_learner: MakeLearner) -> None:
    learn = make_learner(precision="fp16")
    state = learn.strategy.state_dict()
    learn.lr_find(1e-3, 1e6)
    assert isinstance(learn.strategy, SingleDevice) and learn.strategy.state_dict() == state
