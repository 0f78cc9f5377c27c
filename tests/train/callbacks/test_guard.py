from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.data.loaders import TensorData
from easylearn.errors import EasyLearnWarning
from easylearn.learning import Learner
from easylearn.task import Regression
from easylearn.train.callbacks import LossGuard, WeightAverage

MakeLearner = Callable[..., Learner]


def break_at(step: int, value: float = math.nan) -> Callable[[Any], None]:
    def hook(run: Any) -> None:
        if run.step == step:
            run.batch.inputs = (run.batch.inputs[0] * value,)

    return hook


@pytest.fixture(params=["cpu", "elsewhere"])
def device_type(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On the CPU each loss is looked at; elsewhere only now and then. The second is played on the CPU."""
    kind: str = request.param
    if kind == "elsewhere":
        monkeypatch.setattr(LossGuard, "_on_cpu", staticmethod(lambda run: False))
    return kind


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_it_stops_says_where_and_keeps_the_last_good_weights(
    make_learner: MakeLearner, at: Any, weights: Any, same: Any, value: float, device_type: str
) -> None:
    copies: dict[int, Any] = {}
    learn = make_learner(
        callbacks=[at(batch_begin=break_at(44, value), loss=lambda run: copies.update({run.step: weights(run.model)}))]
    )
    with pytest.warns(EasyLearnWarning, match="the loss became nan at step 44") as caught:
        record = learn.fit(0.05, 10, cycle_len=None)
    assert len(caught) == 1
    reason = record.stop_reason
    assert reason is not None and reason == str(caught[0].message)
    assert "(epoch 7), with rates stem 0.05, late 0.05, head 0.05; the weights are those after step 40" in reason
    assert "lr_find" in reason
    assert same(weights(learn), copies[40])  # buffers, too
    assert all(t.isfinite().all() for t in learn.model.state_dict().values())
    assert math.isnan(record.losses[44]) and all(map(math.isfinite, record.losses[:44]))
    assert len(record) == (45 if device_type == "cpu" else 48)  # the epoch's end
    assert "valid_loss" not in record.last
    assert learn.record is record and not math.isnan(learn.validate()["valid_loss"])


def test_the_fit_after_it_works(make_learner: MakeLearner, at: Any) -> None:
    learn = make_learner()
    with pytest.warns(EasyLearnWarning):
        learn.fit(0.1, 1, callbacks=[at(batch_begin=break_at(2))])
    assert learn.fit(0.1, 1).stop_reason is None


def test_a_rate_that_is_far_too_high(make_learner: MakeLearner, make_data: Any) -> None:
    learn = make_learner("plain", make_data("regression", n_train=64))
    with pytest.warns(EasyLearnWarning, match="lower rate"):
        record = learn.fit(1e3, 5, cycle_len=None)
    assert record.stop_reason is not None
    assert all(p.isfinite().all() for p in learn.model.parameters())


def test_the_first_batch(make_learner: MakeLearner, at: Any, weights: Any, same: Any) -> None:
    learn = make_learner()
    before = weights(learn)
    with pytest.warns(EasyLearnWarning, match="at step 0 .* those after step 0"):
        learn.fit(0.1, 1, callbacks=[at(batch_begin=break_at(0))])
    assert same(before, weights(learn))


def test_weights_broken_by_the_last_step(make_learner: MakeLearner, at: Any, device_type: str) -> None:
    """Its loss was finite and none comes after it."""

    def spoil(run: Any) -> None:
        if run.step == run.n_steps - 1:
            next(run.model.parameters()).grad.fill_(math.inf)

    learn = make_learner()
    before = [p.detach().clone() for p in learn.model.parameters()]
    with pytest.warns(EasyLearnWarning, match="the weights became infinite or NaN in step 5 .* those after step 0"):
        record = learn.fit(0.1, 1, callbacks=[at(grads=spoil)])
    assert record.stop_reason is not None
    assert all(torch.equal(p, q) for p, q in zip(before, learn.model.parameters(), strict=True))
    assert all(t.isfinite().all() for t in learn.model.state_dict().values())


def test_the_last_loss_of_a_short_fit(make_learner: MakeLearner, at: Any, device_type: str) -> None:
    learn = make_learner()
    with pytest.warns(EasyLearnWarning, match="at step 5"):
        record = learn.fit(0.1, 1, callbacks=[at(batch_begin=break_at(5))])
    assert record.stop_reason is not None and all(t.isfinite().all() for t in learn.model.state_dict().values())


def test_averages_do_not_keep_what_was_bad(make_learner: MakeLearner, at: Any, device_type: str) -> None:
    learn = make_learner()
    with pytest.warns(EasyLearnWarning):
        learn.fit(0.1, 3, callbacks=[at(batch_begin=break_at(8)), WeightAverage("ema", decay=0.9)])
    assert all(t.isfinite().all() for t in learn.model.state_dict().values())


def test_no_cycle_is_saved_with_bad_weights(make_learner: MakeLearner, at: Any) -> None:
    learn = make_learner()
    with pytest.warns(EasyLearnWarning):
        learn.fit(0.1, 3, save_cycles="c", callbacks=[at(batch_begin=break_at(5))])
    learn.load("c_0")
    assert all(t.isfinite().all() for t in learn.model.state_dict().values())


def test_a_sound_fit_is_left_alone(make_learner: MakeLearner) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_learner().fit(0.1, 3).stop_reason is None


def test_single_overflows_of_fp16_are_borne(make_learner: MakeLearner, at: Any) -> None:
    learn = make_learner("plain", precision="fp16")
    record = learn.fit(0.1, 3, callbacks=[at(batch_begin=break_at(8, math.inf))])
    assert record.stop_reason is None and not math.isfinite(record.losses[8])
    assert all(p.isfinite().all() for p in learn.model.parameters())

    def always(run: Any) -> None:
        run.batch.inputs = (run.batch.inputs[0] * math.nan,)

    with pytest.warns(EasyLearnWarning, match="the loss became nan at step 10"):
        record = learn.fit(0.1, 3, callbacks=[at(batch_begin=always)])
    assert len(record) == 11


def test_frozen_weights_are_not_copied(make_learner: MakeLearner) -> None:
    learn = make_learner()
    learn.freeze()
    guard = LossGuard()
    group: dict[str, Any] = {"params": list(learn.layer_groups[-1].modules[0].parameters())}
    guard.on_fit_begin(SimpleNamespace(optimizer=SimpleNamespace(param_groups=[group]), model=learn.model, step=0))  # type: ignore[arg-type]
    n_buffers = len(list(learn.model.buffers()))
    assert len(guard._good) == len(group["params"]) + n_buffers
    assert all(not torch.is_inference(t) for t in guard._good)


@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_items_that_hold_no_numbers_are_blamed_and_not_the_rate(where: str) -> None:
    x, y = torch.zeros(8, 3), torch.zeros(8)
    x[5, 1] = math.inf
    task = Regression(("y",), center=(0.0,), spread=(1.0,))
    data = TensorData((x if where == "inputs" else torch.zeros(8, 3), y), None, task)
    if where == "targets":
        data._splits["train"].target[5] = math.nan  # type: ignore[index]
    learn = Learner(data, nn.Linear(3, 1), progress=False, device="cpu")
    with pytest.warns(EasyLearnWarning, match=rf"The {where} of 1 of its items hold NaN .* item 5") as caught:
        learn.fit(0.1, 1)
    assert "lower rate" not in str(caught[0].message)
