from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.data.loaders import TensorData
from easylearn.data.order import Batch
from easylearn.errors import ArgumentError, StateError
from easylearn.learning import Learner
from easylearn.task import regression
from easylearn.train.optim import sgd
from easylearn.train.strategy import SingleDevice

CPU = torch.device("cpu")
MakeLearner = Callable[..., Learner]


def no_noise(make_model: Any, n_out: int = 3) -> nn.Module:
    """Without dropout and batch-norm a large batch is the sum of its parts."""
    model: nn.Module = make_model("plain", n_out)[0]
    return model


class TestAccumulation:
    @pytest.mark.parametrize("n_train", [32, 36, 44, 46, 9])
    @pytest.mark.parametrize("clip", [None, 0.05])
    def test_equals_the_bigger_batch(
        self, make_learner: MakeLearner, make_model: Any, make_data: Any, n_train: int, clip: float | None
    ) -> None:
        small = make_learner(no_noise(make_model), make_data(n_train=n_train, batch_size=4), accumulate=4, clip=clip)
        large = make_learner(no_noise(make_model), make_data(n_train=n_train, batch_size=16), clip=clip)
        small.fit(0.1, 3, cycle_len=None)
        large.fit(0.1, 3, cycle_len=None)
        for p, q in zip(small.model.parameters(), large.model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)

    def test_steps_are_made_when_they_are_due_and_at_each_epochs_end(
        self, make_learner: MakeLearner, make_data: Any, at: Any
    ) -> None:
        steps: list[int] = []
        learn = make_learner(data=make_data(n_train=28), accumulate=3)  # seven batches
        learn.fit(0.1, 2, callbacks=[at(grads=lambda run: steps.append(run.step))])
        assert steps == [2, 5, 6, 9, 12, 13]

    def test_the_shown_loss_is_that_of_the_batch(
        self, make_learner: MakeLearner, make_model: Any, make_data: Any
    ) -> None:
        data = make_data(n_train=8)
        one = make_learner(no_noise(make_model), data).fit(0.0, 1)
        two = make_learner(no_noise(make_model), data, accumulate=2).fit(0.0, 1)
        assert one.losses == two.losses

    def test_one_is_bit_identical_to_none(self, make_learner: MakeLearner, weights: Any, same: Any) -> None:
        a, b = make_learner(), make_learner(accumulate=1)
        a.fit(0.1, 1), b.fit(0.1, 1)
        assert same(weights(a), weights(b))


class TestClipping:
    def test_is_torchs(self, make_learner: MakeLearner, make_model: Any, make_data: Any, at: Any) -> None:
        data, found = make_data(), []
        learn = make_learner(no_noise(make_model), data, clip=0.01)
        learn.fit(
            0.1, 1, callbacks=[at(grads=lambda run: found.append([p.grad.clone() for p in run.model.parameters()]))]
        )

        model = no_noise(make_model)
        batch = next(iter(data.loader("train", training=True).batches(CPU, 0, 0)))
        data.task.loss(model(*batch.inputs), batch.target).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        assert norm > 0.01
        for ours, p in zip(found[0], model.parameters(), strict=True):
            assert p.grad is not None
            torch.testing.assert_close(ours, p.grad)
        for grads in found:
            assert torch.cat([g.flatten() for g in grads]).norm() <= 0.01 + 1e-6


class TestPrecision:
    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_half_precision_trains_weights_of_full_precision(
        self, make_learner: MakeLearner, make_data: Any, precision: str
    ) -> None:
        learn = make_learner(data=make_data(n_train=64, n_valid=40, batch_size=16), precision=precision)
        before = learn.validate()["valid_loss"]
        learn.fit(0.1, 4)
        after = learn.validate()
        assert after["valid_loss"] < before
        assert {p.dtype for p in learn.model.parameters()} == {torch.float32}
        assert learn.predict().probs.dtype == torch.float32

    @pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
    def test_layers_compute_in_it_and_the_loss_in_full(self, precision: str, dtype: torch.dtype) -> None:
        seen = []
        model = nn.Linear(3, 1)
        model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        strategy = SingleDevice(CPU, precision)
        batch = Batch((torch.randn(4, 3),), torch.randn(4), torch.arange(4))
        logits, loss = strategy.forward_loss(model, regression(), batch)
        assert seen == [dtype] and logits.dtype == loss.dtype == torch.float32
        assert strategy.scales_loss == (precision == "fp16")

    def test_fp16_is_torchs_own_scaling(self, make_model: Any) -> None:
        ours, theirs = (no_noise(make_model, 1) for _ in range(2))
        x, y = torch.randn(8, 5), torch.randn(8)
        strategy, task = SingleDevice(CPU, "fp16", clip=0.5), regression()
        a, b = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (ours, theirs))
        scaler = torch.amp.GradScaler("cpu")
        for _ in range(3):
            _, loss = strategy.forward_loss(ours, task, Batch((x,), y, torch.arange(8)))
            strategy.backward(loss, 8)
            strategy.finish_grads(a)
            strategy.step(a)

            with torch.autocast("cpu", torch.float16):
                out = theirs(x)
            scaler.scale(task.loss(out.float(), y)).backward()
            scaler.unscale_(b)
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            scaler.step(b)
            scaler.update()
            b.zero_grad()
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q)
        assert strategy.state_dict()["scaler"] == scaler.state_dict()

    def test_an_overflow_is_skipped_and_lowers_the_scale(self) -> None:
        model = nn.Linear(2, 1)
        strategy, optimizer = SingleDevice(CPU, "fp16"), torch.optim.SGD(model.parameters(), lr=0.1)
        before = model.weight.detach().clone()
        scale = strategy.state_dict()["scaler"]["scale"]
        strategy.backward((model.weight * float("inf")).sum(), 1)
        strategy.finish_grads(optimizer)
        strategy.step(optimizer)
        assert torch.equal(model.weight, before)
        assert strategy.state_dict()["scaler"]["scale"] == scale / 2

    def test_an_overflow_in_the_first_step_does_no_harm_to_the_second(self) -> None:
        models = [nn.Linear(2, 1), nn.Linear(2, 1)]
        models[1].load_state_dict(models[0].state_dict())
        for model, overflows in zip(models, (True, False), strict=True):
            optimizer = sgd(model.parameters(), lr=0.1)
            strategy = SingleDevice(CPU, "fp16")
            strategy.reset(optimizer)
            for step in range(4):
                if step or overflows:
                    factor = 1.0 if step else float("inf")
                    strategy.backward((model.weight * factor).sum() + model.bias.sum(), 1)
                    strategy.finish_grads(optimizer)
                    strategy.step(optimizer)
        for p, q in zip(*(m.parameters() for m in models), strict=True):
            torch.testing.assert_close(p, q)

    def test_state_round_trips(self) -> None:
        a, b = SingleDevice(CPU, "fp16"), SingleDevice(CPU, "fp16")
        state = a.state_dict()
        state["scaler"]["scale"] = 1234.0
        b.load_state_dict(state)
        assert b.state_dict() == state
        b.reset(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1))
        assert b.state_dict() == state  # a new fit goes on with the scale
        plain = SingleDevice(CPU)
        plain.load_state_dict(state)
        assert plain.state_dict()["scaler"] == {}

    @pytest.mark.parametrize("precision", ["fp8", "float16", "", None])
    def test_unknown(self, make_learner: MakeLearner, precision: Any) -> None:
        with pytest.raises(ArgumentError, match="precision must be 'fp32', 'bf16' or 'fp16'"):
            make_learner(precision=precision)


class TestCompile:
    @pytest.fixture
    def compiled(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """Compile by following every call in Python, which needs no compiler, and note what was asked for."""
        calls: list[dict[str, Any]] = []
        real = torch.compile

        def spy(model: nn.Module, mode: str | None = None) -> Any:
            made = real(model, backend="eager")
            calls.append({"mode": mode, "steps": 0})

            def call(*inputs: Any) -> Any:
                calls[-1]["steps"] += 1
                return made(*inputs)

            return call

        monkeypatch.setattr(torch, "compile", spy)
        return calls

    def test_only_training_steps_run_through_it_and_nothing_else_changes(
        self, make_learner: MakeLearner, compiled: list[dict[str, Any]]
    ) -> None:
        plain, learn = make_learner(), make_learner(compile=True)
        kind, names = type(learn.model), list(learn.model.state_dict())
        records = plain.fit(0.1, 2), learn.fit(0.1, 2)
        assert compiled == [{"mode": None, "steps": len(records[1])}]
        assert records[0].losses == records[1].losses
        assert records[0].last["valid_loss"] == records[1].last["valid_loss"]
        assert type(learn.model) is kind and list(learn.model.state_dict()) == names
        learn.fit(0.1, 1)
        assert len(compiled) == 1  # it is kept

    def test_with_a_mode_and_frozen_groups(self, make_learner: MakeLearner, compiled: list[dict[str, Any]]) -> None:
        learn = make_learner(compile="max-autotune")
        learn.freeze_to(-1)
        learn.fit(0.1, 1)
        learn.unfreeze()
        learn.fit(0.1, 1)
        assert [c["mode"] for c in compiled] == ["max-autotune"]

    def test_a_run_goes_on_only_as_it_was_begun(
        self, make_learner: MakeLearner, compiled: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        make_learner(compile=True).fit(0.1, 1, checkpoint=tmp_path)
        with pytest.raises(StateError, match=r"precision: fp32, compiled .*fp32 now"):
            make_learner().resume(tmp_path)
        make_learner(compile=True).resume(tmp_path)

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
    def test_for_real(self, make_learner: MakeLearner) -> None:
        plain, learn = make_learner("plain"), make_learner("plain", compile=True)
        assert learn.fit(0.1, 2).losses == pytest.approx(plain.fit(0.1, 2).losses, rel=1e-4)
        dropping = [make_learner("mlp", compile=True).fit(0.1, 2).losses for _ in range(2)]
        assert dropping[0] == dropping[1]  # drawn otherwise than by torch, but from the seed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accumulate": 0}, "accumulate must be a whole number of at least 1"),
        ({"clip": 0.0}, "clip.*must be a number above 0"),
        ({"clip": -1.0}, "clip"),
        ({"clip": math.nan}, "clip.*above 0, got nan"),
        ({"clip": math.inf}, "clip.*got inf"),
        ({"wd": -1}, "wd must be a number at least 0, got -1"),
        ({"wd": math.nan}, "wd must be.*nan"),
        ({"wd": "x"}, "wd must be.*'x'"),
        ({"progress": "no"}, "progress must be True or False, got 'no'"),
        ({"path": 3}, "expected the path of a folder.*int: 3"),
        ({"label_smoothing": math.nan}, "label_smoothing must be.*below 1, got nan"),
        ({"seed": math.nan}, "seed"),
        ({"compile": "fast"}, "compile must be True, False or a mode of torch.compile .default, .*, got 'fast'"),
        ({"compile": 1}, "compile must be True"),
    ],
)
def test_bad_settings(make_learner: MakeLearner, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        make_learner(**changes)


def test_gradients_are_forgotten_after_each_step(
    make_learner: MakeLearner, at: Any, make_data: Callable[..., TensorData]
) -> None:
    learn = make_learner(data=make_data())
    learn.fit(0.1, 1)
    assert all(p.grad is None for p in itertools.chain(learn.model.parameters()))


def test_an_optimizer_forgets_gradients_in_its_own_way() -> None:
    class Keeping(torch.optim.SGD):
        calls = 0

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.calls += 1
            super().zero_grad(set_to_none=False)

    weight = nn.Parameter(torch.ones(1))
    optimizer = Keeping([weight], lr=0.1)
    strategy = SingleDevice(torch.device("cpu"))
    strategy.backward((weight * 2).sum(), 1)
    strategy.step(optimizer)
    assert optimizer.calls == 1 and weight.grad is not None and float(weight.grad) == 0.0
