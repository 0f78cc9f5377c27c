from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.errors import StateError
from easylearn.learning import Learner
from easylearn.train.callback import Callback
from easylearn.train.gate import Gate
from easylearn.train.state import Run

MakeLearner = Callable[..., Learner]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 3))


class TestGate:
    def test_modes_are_put_back_when_the_last_thread_ends(self) -> None:
        gate, model = Gate(), net()
        model[2].eval()
        inside, leave = threading.Event(), threading.Event()

        def other() -> None:
            with gate.evaluating(model):
                inside.set()
                leave.wait(60)

        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(60)
        with gate.evaluating(model):
            assert not any(m.training for m in model.modules()) and not torch.is_grad_enabled()
        assert not any(m.training for m in model.modules())  # the other thread is still at it
        leave.set()
        thread.join(60)
        assert [m.training for m in model.modules()] == [True, True, True, False, True, True]
        assert torch.is_grad_enabled()

    def test_a_step_waits_for_those_who_evaluate_and_they_for_it(self) -> None:
        gate, model, order = Gate(), net(), []
        ready, go = threading.Event(), threading.Event()

        def predict() -> None:
            with gate.evaluating(model):
                ready.set()
                go.wait(60)
                order.append("predicted")

        def predict_again() -> None:
            with gate.evaluating(model):
                order.append("predicted again")

        first = threading.Thread(target=predict)
        first.start()
        ready.wait(60)
        threading.Timer(0.05, go.set).start()
        with gate.training():
            order.append("step")
            second = threading.Thread(target=predict_again)
            second.start()
            second.join(0.05)
            order.append("step ends")
        first.join(60)
        second.join(60)
        assert order == ["predicted", "step", "step ends", "predicted again"]

    def test_of_two_fits_that_begin_at_once_one_is_refused(self) -> None:
        gate = Gate()
        turn = gate._turn

        class Late:
            """The turn, which another fit has had just before."""

            def __enter__(self) -> None:
                gate._fitting = -1
                turn.__enter__()

            def __exit__(self, *error: Any) -> None:
                turn.__exit__(*error)

        gate._turn = Late()  # type: ignore[assignment]
        with pytest.raises(StateError, match="another thread"), gate.fit():
            pass

    def test_a_thread_that_has_a_turn_may_take_another(self) -> None:
        gate, model = Gate(), net()
        with gate.training(), gate.training(), gate.evaluating(model), gate.evaluating(model):
            pass
        with gate.evaluating(model), gate.training():
            pass
        assert model.training

    def test_after_an_error_it_is_free_again(self) -> None:
        gate, model = Gate(), net()
        with pytest.raises(KeyError), gate.evaluating(model):
            raise KeyError
        with pytest.raises(KeyError), gate.training():
            raise KeyError
        assert model.training
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: gate.training().__enter__()).result(60)

    def test_nobody_waits_for_ever(self) -> None:
        gate, model = Gate(), net()
        done = {"steps": 0, "predictions": 0}

        def predict() -> None:
            for _ in range(200):
                with gate.evaluating(model):
                    done["predictions"] += 1

        threads = [threading.Thread(target=predict) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            with gate.training():
                done["steps"] += 1
        for thread in threads:
            thread.join(60)
        assert done["steps"] == 200 and not any(t.is_alive() for t in threads)


class TestThreads:
    def test_overlapping_predictions_equal_sequential_ones(self, make_learner: MakeLearner, weights: Any) -> None:
        learn = make_learner(net())
        learn.fit(0.1, 1)
        rows = torch.randn(64, 5)
        before, alone = weights(learn), [learn.predict(rows[k : k + 8]).probs for k in range(56)]
        modes = [m.training for m in learn.model.modules()]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda k: learn.predict(rows[k : k + 8]).probs, [k % 56 for k in range(1000)]))
        assert all(torch.equal(p, alone[k % 56]) for k, p in enumerate(found))
        assert [m.training for m in learn.model.modules()] == modes
        assert all(torch.equal(before[n], w) for n, w in weights(learn).items())

    @pytest.mark.parametrize("precompute", [False, True])
    def test_predicting_while_a_fit_runs_leaves_no_trace(
        self, make_learner: MakeLearner, weights: Any, precompute: bool
    ) -> None:
        def learner() -> Learner:
            return make_learner("body_head", precompute=True) if precompute else make_learner(net())

        alone, watched = learner(), learner()
        alone.fit(0.1, 30)
        rows, stop = torch.randn(16, 5), threading.Event()

        def ask() -> None:
            assert watched.predict(rows).probs.isfinite().all()
            while not stop.is_set():
                assert watched.predict(rows).probs.isfinite().all()

        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(ask) for _ in range(2)]
            try:
                watched.fit(0.1, 30)
            finally:
                stop.set()
            for one in asked:
                one.result(60)
        assert all(torch.equal(w, weights(watched)[n]) for n, w in weights(alone).items())

    def test_a_second_fit_at_once_is_refused(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        said: list[BaseException | None] = []

        class FitElsewhere(Callback):
            def on_batch_end(self, run: Run) -> None:
                if run.step == 1:
                    with ThreadPoolExecutor(1) as pool:
                        said.append(pool.submit(learn.fit, 0.1, 1).exception(60))

        learn.fit(0.1, 1, callbacks=[FitElsewhere()])
        assert isinstance(said[0], StateError) and "another thread" in str(said[0])
        learn.fit(0.1, 1)
