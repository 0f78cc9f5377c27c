from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.analysis.summary import Summary, plan_text, seconds_per_step
from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.train.callback import Callback
from easylearn.train.plan import FitPlan, plan_fit

MakeLearner = Callable[..., Learner]


class TestSummary:
    def test_layers_shapes_and_counts(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        learn.freeze()
        lines = learn.summary().splitlines()
        assert lines[0].split() == ["group", "layer", "kind", "output", "parameters", "trains"]
        assert lines[1].split() == ["stem", "0.0", "Linear", "4", "x", "8", "48", "frozen"]
        assert [line.split()[2 if line.startswith(("stem", "late", "head")) else 1] for line in lines[1:-1]] == [
            type(m).__name__ for m in learn.model.modules() if not list(m.children())
        ]
        assert any(line.split() == ["head", "2.2", "Linear", "4", "x", "3", "27", "yes"] for line in lines)
        total = sum(p.numel() for p in learn.model.parameters())
        training = sum(p.numel() for p in learn.model.parameters() if p.requires_grad)
        assert lines[-1] == f"{total:,} parameters, {training:,} of them train"

    def test_a_notebook_shows_it_as_text(self, make_learner: MakeLearner) -> None:
        found = make_learner().summary()
        assert isinstance(found, Summary) and repr(found) == str(found) and "'" not in repr(found)[:1]

    def test_it_changes_nothing(self, make_learner: MakeLearner, weights: Any, same: Any) -> None:
        learn = make_learner()
        learn.fit(0.1, 1)
        learn.model[0].eval()  # type: ignore[index]
        before, rng = weights(learn), torch.get_rng_state()
        modes = [m.training for m in learn.model.modules()]
        learn.summary()
        assert same(before, weights(learn)) and torch.equal(rng, torch.get_rng_state())
        assert modes == [m.training for m in learn.model.modules()]
        assert all(not m._forward_hooks for m in learn.model.modules()) and learn.epochs_done == 1

    def test_no_hook_stays_after_an_error(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner("plain", make_data())
        learn.model[0] = nn.Linear(99, 8)
        with pytest.raises(RuntimeError):
            learn.summary()
        assert all(not m._forward_hooks for m in learn.model.modules())

    def test_tied_and_loose_parameters_are_counted_once(self, make_learner: MakeLearner, make_data: Any) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b, self.out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
                self.b.weight = self.a.weight
                self.scale = nn.Parameter(torch.ones(1))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                out: torch.Tensor = self.out(self.b(self.a(x)) * self.scale)
                return out

        learn = make_learner(Tied(), make_data())
        total = 25 + 5 + 5 + 18 + 1
        assert learn.summary().endswith(f"{total} parameters, all of them train")


class TestPlan:
    def test_it_prints_what_fit_would_do(self, make_learner: MakeLearner, capsys: pytest.CaptureFixture[str]) -> None:
        learn = make_learner()
        learn.freeze_to(1)
        plan = learn.plan([0.001, 0.01, 0.1], 3, cycle_len=1, cycle_mult=2)
        text = capsys.readouterr().out
        assert isinstance(plan, FitPlan) and plan.n_epochs == 7 and plan.n_steps == 42
        assert "7 epochs of 6 batches = 42 steps; cycles of 1, 2, 4 epochs" in text
        assert re.search(r"^stem +- +frozen$", text, re.M)
        assert re.search(r"^late +0.01 +88$", text, re.M) and re.search(r"^head +0.1 +43$", text, re.M)
        assert re.search(r"about [\d.]+ s of training \(.* ms a step\)", text)

    def test_it_is_what_fit_then_does(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        plan = learn.plan([0.1, 0.2, 0.3], 2, cycle_mult=1.5)
        record = learn.fit([0.1, 0.2, 0.3], 2, cycle_mult=1.5)
        assert len(record) == plan.n_steps
        for step, rates in enumerate(record.rates):
            scale = plan.schedule(step / plan.steps_per_epoch, plan.n_epochs)
            assert rates == tuple(r * scale for r in plan.rates)

    def test_it_trains_nothing(self, make_learner: MakeLearner, weights: Any, same: Any) -> None:
        learn, never = make_learner(), make_learner()
        learn.model.eval()
        before, rng = weights(learn), torch.get_rng_state()
        learn.plan(0.1, 5)
        assert same(before, weights(learn)) and torch.equal(rng, torch.get_rng_state())
        assert not learn.model.training and learn.epochs_done == 0 and learn.record is None
        assert all(p.grad is None for p in learn.model.parameters())
        learn.fit(0.1, 1), never.fit(0.1, 1)
        assert same(weights(learn), weights(never))

    def test_while_precomputing_it_says_so(self, make_learner: MakeLearner, capsys: pytest.CaptureFixture[str]) -> None:
        make_learner("body_head", precompute=True).plan(0.1, 1)
        assert "the head alone, on precomputed features" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"callbacks": "x"}, "callbacks must be"),
            ({"keep": -3}, "keep.*-3"),
            ({"wd": -1}, "wd must be.*at least 0.*-1"),
            ({"every": "epoch"}, "checkpoint=folder"),
            ({"save_best": 3}, "save_best"),
        ],
    )
    def test_what_fit_refuses_it_refuses(self, make_learner: MakeLearner, changes: dict[str, Any], words: str) -> None:
        for call in (make_learner().plan, make_learner().fit):
            with pytest.raises(ArgumentError, match=words):
                call(0.1, 1, **changes)

    def test_it_measures_with_what_changes_steps(self, make_learner: MakeLearner) -> None:
        calls = []

        class Slow(Callback):
            changes_steps = True

            def on_fit_begin(self, run: Any) -> None:
                calls.append("begin")

            def on_batch_begin(self, run: Any) -> None:
                time.sleep(0.2)

            def on_fit_end(self, run: Any) -> None:
                calls.append("end")

        class Other(Callback):
            def on_batch_begin(self, run: Any) -> None:
                raise AssertionError("it writes files, perhaps")

        learn = make_learner(callbacks=[Slow()])
        plan = plan_fit((0.1,) * len(learn.layer_groups), 6, 1)
        run = learn._run(plan, learn.model, learn.data.loader("train", training=True), None, None)
        assert seconds_per_step(run, [*learn.callbacks, Other()]) > 0.2 and calls == ["begin", "end"]
        learn.plan(0.1, 1, callbacks=[Other()])
        assert calls == ["begin", "end"] * 2

    def test_it_takes_what_fit_takes(self) -> None:
        import inspect

        fit, plan = (inspect.signature(f).parameters for f in (Learner.fit, Learner.plan))
        assert {n: (p.kind, p.default) for n, p in fit.items()} == {n: (p.kind, p.default) for n, p in plan.items()}

    def test_time_from_a_single_batch(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner("plain", make_data(n_train=4))
        plan = plan_fit((0.1,), 1, 1)
        assert seconds_per_step(learn._run(plan, learn.model, learn.data.loader("train"), None, None)) > 0

    def test_long_times_are_in_minutes_and_many_cycles_are_cut_short(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        plan = learn.plan(0.1, 30)
        text = plan_text(plan, learn.layer_groups, 1.0, False)
        assert "about 3.0 min" in text and "1, 1, 1, 1, 1, 1, 1, 1, 1, 1 ... epochs" in text
