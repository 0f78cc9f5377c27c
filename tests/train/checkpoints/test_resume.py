"""A run that is killed and resumed ends as the one that was never touched, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from easylearn import schedules
from easylearn.data.loaders import LoaderData, TensorData
from easylearn.errors import ArgumentError, EasyLearnWarning, SaveError, SchemaError, StateError, WeightsError
from easylearn.learning import Learner
from easylearn.losses import FocalLoss
from easylearn.task import single_label
from easylearn.train.callback import Callback
from easylearn.train.callbacks import (
    EarlyStopping,
    LossGuard,
    MixUp,
    ReduceLROnPlateau,
    SaveBest,
    WeightAverage,
)
from easylearn.train.checkpoints import state_file
from easylearn.train.checkpoints.state_file import read_state, write_state
from easylearn.train.optim import adamw, sgd
from easylearn.train.record import Record
from easylearn.train.state import Pause, Run

MakeLearner = Callable[..., Learner]
ROOT = Path(__file__).parents[3]


class KilledError(Exception):
    """In place of a signal: nothing of the run is used afterwards but its files."""


def _scaled(by: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, t: by * F.cross_entropy(x, t)


class Drops(nn.Module):
    """Drops a share by a function, and counts its calls, which is no setting."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.calls, self.last = share, 0, nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(F.dropout(x, self.share, self.training))


class Break(Callback):
    """Ends the process, so to speak, at a step or at a hook's n-th call."""

    def __init__(self, step: int = -1, hook: str = "batch_end", pause: bool = False) -> None:
        self.step, self.hook, self.pause = step, hook, pause

    def _at(self, hook: str, run: Run) -> None:
        if hook == self.hook and run.step == self.step:
            if not self.pause:
                raise KilledError
            run.stop_reason = Pause("the hour is over")

    def on_batch_begin(self, run: Run) -> None:
        self._at("batch_begin", run)

    def on_batch_end(self, run: Run) -> None:
        self._at("batch_end", run)

    def on_validate_begin(self, run: Run) -> None:
        self._at("validate_begin", run)

    def on_epoch_end(self, run: Run) -> None:
        self._at("epoch_end", run)


class Spy(Callback):
    """Keeps the run, to look at its optimizer; draws random numbers and counts, as somebody's own callback may."""

    def __init__(self) -> None:
        self.run: Any = None
        self.drawn: list[float] = []
        self.begun = 0

    def on_fit_begin(self, run: Run) -> None:
        self.run = run
        torch.rand(3)

    def on_epoch_begin(self, run: Run) -> None:
        self.begun += 1
        self.drawn.append(float(torch.rand(1)))

    def on_batch_begin(self, run: Run) -> None:
        self.drawn += [float(torch.rand(1)), random.random(), float(np.random.rand())]

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "begun": self.begun}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.drawn, self.begun = list(state["drawn"]), state["begun"]


def rows(record: Record) -> dict[str, Any]:
    """All of a record but the time it took."""
    state = record.state_dict()
    del state["before"]
    state["epochs"] = [{k: v for k, v in row.items() if k != "seconds"} for row in state["epochs"]]
    return state


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        alike = isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride()
        return alike and bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (a != a and b != b)


def ending(learn: Learner, record: Record, spy: Spy) -> dict[str, Any]:
    model = learn.model
    return {
        "weights": {n: t.detach().clone() for n, t in [*model.named_parameters(), *model.named_buffers()]},
        "record": rows(record),
        "optimizer": spy.run.optimizer.state_dict(),
        "strategy": spy.run.strategy.state_dict(),
        "epochs_done": learn.epochs_done,
        "seen": (spy.drawn, spy.begun),
        "flags": [p.requires_grad for p in model.parameters()],
    }


class Trial:
    """One fit, whole or broken off and resumed."""

    def __init__(self, make: Callable[[], Learner], folder: Path) -> None:
        self.make, self.folder = make, folder

    def whole(self, *, own: Callable[[], list[Callback]] = list, one_cycle: bool = False, **fit: Any) -> dict[str, Any]:
        learn, spy = self.make(), Spy()
        record = self._fit(learn, one_cycle, callbacks=[*own(), Break(), spy], **fit)
        return ending(learn, record, spy)

    def resumed(
        self,
        broken: Break,
        every: str | int = 1,
        *,
        own: Callable[[], list[Callback]] = list,
        one_cycle: bool = False,
        again: dict[str, Any] | None = None,
        **fit: Any,
    ) -> dict[str, Any]:
        learn = self.make()
        # A number of its own: each break begins with an empty folder.
        folder = self.folder / f"{broken.hook}{broken.step}{broken.pause}{every}"
        with suppress(KilledError):
            self._fit(learn, one_cycle, callbacks=[*own(), broken, Spy()], checkpoint=folder, every=every, **fit)
        learn, spy = self.make(), Spy()
        record = learn.resume(folder, callbacks=[*own(), Break(), spy], **(again or {}))
        return ending(learn, record, spy)

    @staticmethod
    def _fit(learn: Learner, one_cycle: bool, **fit: Any) -> Record:
        fit = {"n": 3, **fit}
        return learn.fit_one_cycle(0.05, **fit) if one_cycle else learn.fit(0.05, **fit)


@pytest.fixture
def trial(make_learner: MakeLearner, tmp_path: Path) -> Callable[..., Trial]:
    def make(**settings: Any) -> Trial:
        return Trial(lambda: make_learner(**settings), tmp_path / "runs")

    return make


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small files are written here."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class TestWhereItBreaks:
    """Six batches to an epoch, eighteen in all."""

    @pytest.mark.parametrize("pause", [False, True], ids=["killed", "paused"])
    @pytest.mark.parametrize("every", [1, 4, "epoch"])
    def test_after_any_step(self, trial: Callable[..., Trial], every: str | int, pause: bool) -> None:
        fit = trial()
        whole = fit.whole()
        for step in (1, 5, 6, 7, 17, 18):
            assert same(whole, fit.resumed(Break(step, pause=pause), every)), step

    @pytest.mark.parametrize("hook", ["batch_begin", "validate_begin", "epoch_end"])
    @pytest.mark.parametrize("pause", [False, True], ids=["killed", "paused"])
    def test_at_other_hooks(self, trial: Callable[..., Trial], hook: str, pause: bool) -> None:
        fit = trial()
        whole = fit.whole()
        for step in (0, 6, 8, 12, 18):
            assert same(whole, fit.resumed(Break(step, hook, pause), 5)), step

    def test_more_than_once(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        whole = make_learner()
        record = whole.fit(0.05, 3)
        learn = make_learner(callbacks=[Break(2)])
        with pytest.raises(KilledError):
            learn.fit(0.05, 3, checkpoint=tmp_path / "run", every=1)
        for step in (4, 5, 6, 7, 13, 17):
            with pytest.raises(KilledError):
                make_learner(callbacks=[Break(step)]).resume(tmp_path / "run")
        learn = make_learner(callbacks=[Break()])
        assert same(rows(learn.resume(tmp_path / "run")), rows(record))
        assert same(whole.model.state_dict(), learn.model.state_dict())

    def test_a_fit_that_ends_inside_an_epoch(self, trial: Callable[..., Trial]) -> None:
        fit = trial()
        whole = fit.whole(cycle_mult=0.5)  # 6 + 3 + 2 batches
        assert len(whole["record"]["losses"]) == 11
        for step, pause in ((1, False), (7, True), (10, False), (11, False), (11, True)):
            assert same(whole, fit.resumed(Break(step, pause=pause), 2, cycle_mult=0.5))

    def test_ctrl_c(self, make_learner: MakeLearner, tmp_path: Path, at: Any) -> None:
        whole, learn = make_learner(), make_learner()
        record = whole.fit(0.05, 3, callbacks=[at()])

        def send(run: Run) -> None:
            if run.step == 8:
                signal.raise_signal(signal.SIGINT)

        short = learn.fit(0.05, 3, callbacks=[at(loss=send)], checkpoint=tmp_path / "run")
        assert len(short) == 9 and learn.epochs_done == 2
        again = learn.resume(tmp_path / "run", callbacks=[at()])  # the same learner goes on, too
        assert len(again) == 18 and same(rows(again), rows(record)) and learn.epochs_done == 3
        assert same(whole.model.state_dict(), learn.model.state_dict())
        assert again is learn.record and again.stop_reason is None

    def test_the_next_fit_after_it_is_the_same(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        whole, broken, learn = make_learner(), make_learner(callbacks=[Break(7)]), make_learner(callbacks=[Break()])
        whole.fit(0.05, 1), whole.fit(0.05, 3)
        broken.fit(0.05, 1)
        with pytest.raises(KilledError):
            broken.fit(0.05, 3, checkpoint=tmp_path / "run", every=3)
        learn.resume(tmp_path / "run")
        assert whole.epochs_done == learn.epochs_done == 4
        assert same(whole.fit(0.05, 1).losses, learn.fit(0.05, 1).losses)
        assert same(whole.model.state_dict(), learn.model.state_dict())


class TestWhatIsCarriedOn:
    @pytest.mark.parametrize(
        "optimizer",
        [
            sgd,
            adamw,
            torch.optim.SGD,
            torch.optim.Adam,
            torch.optim.RMSprop,
            torch.optim.Adagrad,
            torch.optim.NAdam,
            torch.optim.Rprop,
            torch.optim.ASGD,
            lambda params, lr: torch.optim.AdamW(params, lr, amsgrad=True, foreach=True),
        ],
    )
    def test_every_optimizer(self, trial: Callable[..., Trial], optimizer: Any) -> None:
        fit = trial(optimizer=optimizer)
        assert same(fit.whole(wd=0.01), fit.resumed(Break(9), 4, wd=0.01))

    @pytest.mark.parametrize(
        "settings",
        [
            {"accumulate": 4},
            {"accumulate": 5, "clip": 0.1},
            {"clip": 0.1},
            {"precision": "bf16"},
            {"precision": "fp16", "accumulate": 2},
            {"seed": 7},
            {"bn_freeze": True},
            {"label_smoothing": 0.1},
            {"model": "body_head"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("pause", [False, True], ids=["killed", "paused"])
    def test_every_setting(self, trial: Callable[..., Trial], settings: dict[str, Any], pause: bool) -> None:
        fit = trial(**settings)
        whole = fit.whole()
        for step in (3, 11):
            assert same(whole, fit.resumed(Break(step, pause=pause), 2)), step

    @pytest.mark.parametrize(
        "own",
        [
            lambda: [EarlyStopping(patience=1, min_delta=0.01)],
            lambda: [LossGuard(every=4)],
            lambda: [ReduceLROnPlateau(patience=1, min_delta=0.2, factor=0.5)],
            lambda: [WeightAverage("swa")],
            lambda: [WeightAverage("swa", start=1), EarlyStopping(patience=1, min_delta=0.3)],
            lambda: [WeightAverage("ema", decay=0.7)],
            lambda: [SaveBest("mine")],
        ],
        ids=["early", "guard", "plateau", "swa", "swa, early", "ema", "best"],
    )
    def test_every_callback(self, trial: Callable[..., Trial], own: Callable[[], list[Callback]]) -> None:
        fit = trial()
        whole = fit.whole(own=own)
        last = len(whole["record"]["losses"])
        for step in (6, 8, last):
            for pause in (False, True):
                assert same(whole, fit.resumed(Break(step, pause=pause), 3, own=own)), (step, pause)

    def test_mixed_pictures(self, tmp_path: Path) -> None:
        x, y = torch.randn(14, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(14) % 2

        def make() -> Learner:
            data = TensorData((x, y), (x[:5], y[:5]), single_label(["a", "b"]), batch_size=4)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            return Learner(data, model, optimizer=sgd, device="cpu", progress=False)

        fit = Trial(make, tmp_path)
        mixing: Callable[[], list[Callback]] = lambda: [MixUp(0.4)]  # noqa: E731
        assert same(fit.whole(own=mixing), fit.resumed(Break(6), 1, own=mixing))

    def test_a_loss_that_breaks_after_resuming_puts_the_same_weights_back(
        self, make_learner: MakeLearner, tmp_path: Path, at: Any
    ) -> None:
        def spoil(run: Run) -> None:
            if run.step == 14:
                run.batch.inputs = (run.batch.inputs[0] * float("nan"),)  # type: ignore[union-attr]

        whole, broken, learn = make_learner(), make_learner(), make_learner()
        with pytest.warns(EasyLearnWarning, match="the loss became nan at step 14"):
            record = whole.fit(0.05, 3, callbacks=[LossGuard(every=4), at(batch_begin=spoil), Break()])
        with pytest.raises(KilledError):
            broken.fit(0.05, 3, callbacks=[LossGuard(every=4), at(), Break(14)], checkpoint=tmp_path / "run", every=1)
        with pytest.warns(EasyLearnWarning, match="the weights are those after step 12"):
            again = learn.resume(tmp_path / "run", callbacks=[LossGuard(every=4), at(batch_begin=spoil), Break()])
        assert same(rows(again), rows(record)) and again.stop_reason == record.stop_reason
        assert same(whole.model.state_dict(), learn.model.state_dict())

    @pytest.mark.parametrize("kind", ["one_cycle", "suited", "sgdr", "schedule", "momentum", "savers"])
    def test_every_form_of_fit(
        self, trial: Callable[..., Trial], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(TensorData, "suited_epochs", 3)
        fit, shape = trial(optimizer=adamw), schedules.warmup(schedules.step([1, 2], 0.3), 0.5)
        given: dict[str, Any] = {
            "one_cycle": {"one_cycle": True},
            "suited": {"one_cycle": True, "n": None},
            "sgdr": {"cycle_len": 1.5, "cycle_mult": 2},
            "schedule": {"schedule": shape},
            "momentum": {"cycle_len": None, "momentum": schedules.one_cycle_momentum()},
            "savers": {"save_best": "b", "save_cycles": "c"},
        }[kind]
        whole = fit.whole(**given)
        files = {f.name: f.read_bytes() for f in (tmp_path / "models").glob("*")}
        for file in (tmp_path / "models").glob("*"):
            file.unlink()
        assert same(whole, fit.resumed(Break(13), 5, **given))
        assert {f.name: f.read_bytes() for f in (tmp_path / "models").glob("*")} == files

    def test_rates_freezing_and_a_saver_of_ones_own(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        class Mine(SaveBest):
            """A class that the file does not know."""

        def fit(learn: Learner, **more: Any) -> Record:
            learn.freeze_to(1)
            learn.bn_freeze()
            return learn.fit({"stem": 0.1, "late": 0.02, "head": 0.05}, 2, wd=0.1, save_best=Mine("m"), **more)

        whole, learn = make_learner(), make_learner(seed=5)
        record = fit(whole)
        with pytest.raises(KilledError):
            fit(make_learner(callbacks=[Break(5)]), checkpoint=tmp_path / "run", every=2)
        learn.callbacks = [Break()]
        with pytest.raises(ArgumentError, match=r"had the callbacks \[Mine\], but resume was given \[\]"):
            learn.resume(tmp_path / "run")
        again = learn.resume(tmp_path / "run", callbacks=[Mine("m")])
        assert same(rows(record), rows(again)) and learn.seed == 0
        assert same(whole.model.state_dict(), learn.model.state_dict())
        assert [g.trainable for g in learn.layer_groups] == [False, True, True]

    def test_a_function_as_schedule_has_to_be_given_again(self, trial: Callable[..., Trial], tmp_path: Path) -> None:
        def falling(epoch: float, n_epochs: float) -> float:
            return 1 - epoch / n_epochs / 2

        fit, given = trial(), {"schedule": falling, "momentum": lambda epoch, n_epochs: 0.8}
        whole = fit.whole(**given)
        with pytest.raises(ArgumentError, match=r"schedule=falling, a function of your own.*pass the same one"):
            fit.resumed(Break(7), 2, **given)
        with pytest.raises(ArgumentError, match="momentum=<lambda>, a function"):
            fit.resumed(Break(8), 2, **given, again={"schedule": falling})
        assert same(whole, fit.resumed(Break(9), 2, **given, again=given))
        with pytest.raises(ArgumentError, match=r"schedule=Sgdr\(.*goes on with it; leave out"):
            fit.resumed(Break(10), 2, again={"schedule": falling})

    def test_precompute(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        def make(**more: Any) -> Learner:
            learn = make_learner("body_head", **more)
            learn.fit(0.05, 1)  # the body is no longer the one that a new learner has
            return learn

        whole, broken = make(), make()
        for learn in (whole, broken):
            learn.freeze()
            learn.precompute = True
        record = whole.fit(0.05, 3)
        broken.callbacks = [Break(8)]
        with pytest.raises(KilledError):
            broken.fit(0.05, 3, checkpoint=tmp_path / "run", every=3)
        learn = make_learner("body_head", callbacks=[Break()])
        assert same(rows(learn.resume(tmp_path / "run")), rows(record))
        assert learn.precompute and not learn.layer_groups[0].trainable and learn.epochs_done == 4
        assert same(whole.model.state_dict(), learn.model.state_dict())

    def test_without_validation_data(self, make_data: Any, trial: Callable[..., Trial]) -> None:
        fit = trial(data=make_data(n_valid=None))
        whole = fit.whole()
        for step in (6, 8):
            for pause in (False, True):
                assert same(whole, fit.resumed(Break(step, pause=pause), 1))

    def test_batches_of_a_shuffling_dataloader(self, make_model: Any, tmp_path: Path) -> None:
        x = torch.randn(22, 5, generator=torch.Generator().manual_seed(0))
        items = TensorDataset(x, (x.sum(1) > 0).long())

        def make() -> Learner:
            data = LoaderData(DataLoader(items, 4, shuffle=True), DataLoader(items, 8), single_label(["a", "b"]))
            model, groups = make_model("mlp", 2)
            return Learner(data, model, groups=groups, device="cpu", progress=False)

        class Still(Spy):  # the source draws from the same generator: whoever draws before it, moves its shuffle
            def on_epoch_begin(self, run: Run) -> None:
                self.begun += 1

        learn = make()
        record = learn.fit(0.05, 3, callbacks=[Break(), Still()])
        for step in (2, 6, 9):
            with pytest.raises(KilledError):
                make().fit(0.05, 3, callbacks=[Break(step), Still()], checkpoint=tmp_path / f"{step}", every=1)
            again = make()
            assert same(rows(again.resume(tmp_path / f"{step}", callbacks=[Break(), Still()])), rows(record)), step
            assert same(again.model.state_dict(), learn.model.state_dict())


class Recurrent(nn.Module):
    """Keeps a state from batch to batch in a buffer that grows to the batch and is left out of `state_dict`."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(5, 4), nn.Linear(4, 3)
        self.drop = nn.Dropout(0.2)
        self.calls = 0
        self.register_buffer("hidden", torch.zeros(0, 4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        hidden = self.get_buffer("hidden")
        before = hidden if len(hidden) == len(x) else x.new_zeros(len(x), 4)
        after = self.cell(x, before)
        self.hidden = after.detach()
        scores: Tensor = self.out(self.drop(after))
        return scores

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


def test_a_state_that_goes_from_batch_to_batch(make_data: Any, tmp_path: Path) -> None:
    data = make_data(n_train=24)

    def make() -> Learner:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Learner(data, Recurrent(), device="cpu", progress=False)

    fit = Trial(make, tmp_path)
    whole = fit.whole()
    for step in (1, 5, 6, 8, 13):
        for pause in (False, True):
            assert same(whole, fit.resumed(Break(step, pause=pause), 1)), (step, pause)
    learn = make()
    learn.resume(tmp_path / "batch_end1True1", callbacks=[Break(), Spy()])
    assert learn.model.calls == 18 + 3 * 3  # type: ignore[union-attr]
    assert learn.model.hidden.shape != (0, 4) and "hidden" in dict(learn.model.named_buffers())


class TestAFinishedRun:
    def test_gives_its_weights_and_record_and_trains_nothing(
        self, make_learner: MakeLearner, tmp_path: Path, at: Any
    ) -> None:
        learn, again = make_learner(), make_learner()
        record = learn.fit(0.05, 2, callbacks=[WeightAverage()], checkpoint=tmp_path / "run")
        found = again.resume(tmp_path / "run", callbacks=[WeightAverage()])
        assert found.state_dict() == record.state_dict() and again.epochs_done == 2
        assert same(learn.model.state_dict(), again.model.state_dict())

    def test_one_that_a_callback_ended_is_over(self, make_learner: MakeLearner, tmp_path: Path, at: Any) -> None:
        def stop(run: Run) -> None:
            if run.step == 8:
                run.stop_reason = "good enough"

        record = make_learner().fit(0.05, 3, callbacks=[at(batch_end=stop)], checkpoint=tmp_path / "run")
        again = make_learner().resume(tmp_path / "run", callbacks=[at(batch_end=stop)])
        assert len(again) == 8 and again.stop_reason == "good enough" and same(rows(again), rows(record))

    def test_its_folder_takes_another_run(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        learn = make_learner()
        learn.fit(0.05, 1, checkpoint=tmp_path)
        record = learn.fit(0.01, 2, checkpoint=tmp_path)
        again = make_learner().resume(tmp_path)
        assert same(rows(again), rows(record)) and again.rates[0][0] == 0.01

    def test_that_of_an_unfinished_one_does_not(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        with pytest.raises(KilledError):
            make_learner().fit(0.05, 2, checkpoint=tmp_path, every=2, callbacks=[Break(5)])
        before = sorted(f.name for f in tmp_path.glob("checkpoint*"))
        with pytest.raises(StateError, match=r"a run that is not finished \(step 4 of 12\): go on with learn\.resume"):
            make_learner().fit(0.05, 2, checkpoint=tmp_path)
        assert sorted(f.name for f in tmp_path.glob("checkpoint*")) == before


class TestFiles:
    @pytest.fixture
    def folder(self, make_learner: MakeLearner, tmp_path: Path) -> Path:
        with pytest.raises(KilledError):
            make_learner(callbacks=[Break(11)]).fit(0.05, 2, checkpoint=tmp_path / "run", every=3, keep=3)
        return tmp_path / "run"

    def names(self, folder: Path) -> list[str]:
        return sorted(f.name for f in folder.iterdir())

    def test_the_last_few_are_kept(self, make_learner: MakeLearner, folder: Path, tmp_path: Path) -> None:
        assert self.names(folder) == [f"checkpoint_00000{k}.safetensors" for k in (2, 3, 4)]
        assert [read_state(f)["position"]["step"] for f in sorted(folder.iterdir())] == [3, 6, 9]
        make_learner(callbacks=[Break()]).resume(folder)
        assert self.names(folder) == [f"checkpoint_00000{k}.safetensors" for k in (3, 4, 5)]
        make_learner().fit(0.05, 2, checkpoint=tmp_path / "one", every=1, keep=1)
        assert self.names(tmp_path / "one") == ["checkpoint_000013.safetensors"]

    @pytest.mark.parametrize("how", ["cut", "changed", "empty", "other"])
    def test_a_damaged_one_is_passed_over(self, make_learner: MakeLearner, folder: Path, how: str) -> None:
        whole = make_learner()
        record = whole.fit(0.05, 2)
        newest = folder / "checkpoint_000004.safetensors"
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes({"cut": content[:-100], "changed": content, "empty": b"", "other": b"\x80\x04K\x01."}[how])
        (folder / ".checkpoint_000005.safetensors.abc.part").write_bytes(b"half")
        learn = make_learner(callbacks=[Break()])
        with pytest.warns(EasyLearnWarning, match=r"checkpoint_000004\.safetensors .*Going on from .*000003") as caught:
            again = learn.resume(folder)
        assert len(caught) == 1 and same(rows(again), rows(record))
        assert same(whole.model.state_dict(), learn.model.state_dict())
        assert ".checkpoint_000005.safetensors.abc.part" not in self.names(folder)
        assert newest.name not in self.names(folder)  # it takes no place of a whole one

    def test_none_whole_and_none_there(self, make_learner: MakeLearner, folder: Path, tmp_path: Path) -> None:
        for file in folder.iterdir():
            file.write_bytes(file.read_bytes()[:1000])
        learn = make_learner(callbacks=[Break()])
        with pytest.raises(WeightsError, match=r"none of the 3 checkpoints in .* is whole: .*000004.*000002"):
            learn.resume(folder)
        (tmp_path / "empty").mkdir()
        with pytest.raises(WeightsError, match="empty has no checkpoints, so there is nothing to resume"):
            learn.resume(tmp_path / "empty")
        with pytest.raises(WeightsError, match="nowhere does not exist"):
            learn.resume(tmp_path / "nowhere")

    def test_one_of_another_version_is_not_passed_over(
        self, make_learner: MakeLearner, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for schema, wrote in ((1, "newer"), (3, "older")):
            monkeypatch.setattr(state_file, "SCHEMA", schema)
            with pytest.raises(SchemaError, match=rf"checkpoint_000004\.safetensors .*{wrote} easylearn \(schema 2\)"):
                make_learner(callbacks=[Break()]).resume(folder)

    def test_one_with_a_right_digest_and_wrong_content(self, make_learner: MakeLearner, folder: Path) -> None:
        newest = folder / "checkpoint_000004.safetensors"
        state = read_state(newest)
        for path, value, said in [
            (("plan", "rates"), "high", "plan/rates is not a list"),
            (("plan", "schedule"), {"name": "x", "state": {"kind": "eval"}}, "'eval'.* is not a schedule"),
            (("position", "step"), 1.5, "position/step is a float"),
            (("optimizer",), None, "optimizer is not a dictionary"),
            (("rng", "cpu"), [1], "rng/cpu is a list"),
            (("model", "params"), {}, "its weights are not those"),
        ]:
            changed = read_state(newest)
            inner = changed
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
            write_state(newest, changed, {})
            with pytest.raises(WeightsError, match=said):
                make_learner(callbacks=[Break()]).resume(folder)
            write_state(newest, state, {})

    def test_a_full_disk_ends_no_training(
        self, make_learner: MakeLearner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from easylearn.train.checkpoints import writer

        def full(*_: Any) -> None:
            raise SaveError(28, "no space")

        inner = writer.write_state
        written: list[Path] = []

        def now_and_then(path: Path, *more: Any) -> Path:
            written.append(path)
            return full() if len(written) == 3 else inner(path, *more)  # type: ignore[return-value]

        monkeypatch.setattr(writer, "write_state", now_and_then)
        with pytest.warns(EasyLearnWarning, match="no checkpoint after step 4: no space") as caught:
            make_learner().fit(0.05, 1, checkpoint=tmp_path / "run", every=2)
        assert len(caught) == 1 and len(list((tmp_path / "run").iterdir())) == 2
        monkeypatch.setattr(writer, "write_state", full)
        with pytest.raises(SaveError):  # where nothing can be written, it is said before anything is trained
            make_learner().fit(0.05, 1, checkpoint=tmp_path / "other")

    def test_a_state_that_no_file_can_hold(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        class Hoards(Callback):
            def state_dict(self) -> dict[str, Any]:
                return {"seen": {1, 2}}

        with pytest.raises(StateError, match="cannot hold callbacks/fit/0/state/seen, a set"):
            make_learner().fit(0.05, 1, checkpoint=tmp_path, callbacks=[Hoards()])


class TestAnotherRun:
    @pytest.fixture
    def folder(self, make_learner: MakeLearner, tmp_path: Path) -> Path:
        with pytest.raises(KilledError):
            make_learner().fit(0.05, 2, checkpoint=tmp_path / "run", callbacks=[Break(8)])
        return tmp_path / "run"

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"model": "plain"}, r"layer groups: \['stem', 'late', 'head'\] .*\['model'\]"),
            ({"accumulate": 2}, "accumulate: 1 .*2 now"),
            ({"clip": 1.0}, r"clip: None .*1\.0 now"),
            ({"precision": "bf16"}, "precision: fp32 .*bf16 now"),
            ({"label_smoothing": 0.1}, "label_smoothing"),
            ({"metrics": []}, r"metrics: \['accuracy'\] .*\[\] now"),
            ({"optimizer": torch.optim.Adam}, r"optimizer is SGD over \[.*\].* Adam"),
        ],
        ids=str,
    )
    def test_other_settings(self, make_learner: MakeLearner, folder: Path, changes: dict[str, Any], said: str) -> None:
        learn = make_learner(**changes)
        learn.freeze() if len(learn.layer_groups) > 1 else None
        before = learn.model.state_dict(), [p.requires_grad for p in learn.model.parameters()]
        with pytest.raises(StateError, match=said) as caught:
            learn.resume(folder, callbacks=[Break()])
        assert "belongs to another run" in str(caught.value)
        assert same(before, (learn.model.state_dict(), [p.requires_grad for p in learn.model.parameters()]))

    @pytest.mark.parametrize(
        ("was", "now", "said"),
        [
            ({"loss": nn.CrossEntropyLoss(torch.ones(3))}, nn.CrossEntropyLoss(torch.arange(3.0)), "weight=tensor 3"),
            ({"loss": nn.CrossEntropyLoss(torch.ones(3))}, None, "the task's own now"),
            ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, nn.CrossEntropyLoss(), "label_smoothing=0.0"),
            ({"loss": FocalLoss(2.0)}, FocalLoss(1.0), r"gamma=2\.0.*gamma=1\.0"),
            (
                {"loss": partial(F.cross_entropy, label_smoothing=0.2)},
                partial(F.cross_entropy, label_smoothing=0.3),
                r"label_smoothing=0\.2.*label_smoothing=0\.3",
            ),
            ({"loss": _scaled(2.0)}, _scaled(3.0), r"by=2\.0.*by=3\.0"),
            ({"loss": lambda x, t: 2 * F.cross_entropy(x, t)}, lambda x, t: 3 * F.cross_entropy(x, t), r"\[2\].*\[3\]"),
        ],
        ids=["weights", "own", "smoothing", "gamma", "partial", "closure", "number"],
    )
    def test_other_numbers_in_the_loss(
        self, make_learner: MakeLearner, tmp_path: Path, was: dict[str, Any], now: Any, said: str
    ) -> None:
        with pytest.raises(KilledError):
            make_learner(**was).fit(0.05, 2, checkpoint=tmp_path / "run", callbacks=[Break(8)])
        with pytest.raises(StateError, match=f"loss: .*{said}"):
            make_learner(loss=now).resume(tmp_path / "run", callbacks=[Break()])
        assert len(make_learner(**was).resume(tmp_path / "run", callbacks=[Break()])) == 12

    def test_other_dropout_or_layers_without_weights(self, make_learner: MakeLearner, folder: Path) -> None:
        learn = make_learner()
        learn.model[0][3].p = 0.5
        with pytest.raises(StateError, match=r"layers: 0\.3: p=0\.2, .* in the checkpoint, p=0\.5, .* now"):
            learn.resume(folder, callbacks=[Break()])
        learn = make_learner()
        learn.model[1][1].eps = 1e-3
        with pytest.raises(StateError, match=r"layers: 1\.1: .*eps=1e-05.*eps=0\.001"):
            learn.resume(folder, callbacks=[Break()])

    @pytest.mark.parametrize(
        ("was", "now"), [(nn.ReLU, nn.Tanh), (partial(nn.AdaptiveAvgPool1d, 4), partial(nn.AdaptiveMaxPool1d, 4))]
    )
    def test_another_layer_that_says_the_same(self, was: Any, now: Any, tmp_path: Path) -> None:
        def made(layer: nn.Module) -> Learner:
            g = torch.Generator().manual_seed(0)
            x, y = torch.randn(24, 8, generator=g), torch.arange(24) % 2
            model = nn.Sequential(nn.Linear(8, 4), layer, nn.Linear(4, 2))
            data = TensorData((x, y), (x, y), single_label(["a", "b"]), batch_size=4)
            return Learner(data, model, device="cpu", progress=False)

        made(was()).fit(0.05, 1, checkpoint=tmp_path / "run")
        with pytest.raises(
            StateError, match=r"layers: 1: .*(ReLU|AvgPool1d) in the checkpoint, .*(Tanh|MaxPool1d) now"
        ):
            made(now()).resume(tmp_path / "run")
        assert len(made(was()).resume(tmp_path / "run")) == 6

    def test_other_fractions_of_a_model_of_ones_own(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        with pytest.raises(KilledError):
            make_learner(Drops(0.1)).fit(0.05, 2, checkpoint=tmp_path / "run", callbacks=[Break(8)])
        with pytest.raises(StateError, match=r"share=0\.1 in the checkpoint, share=0\.3 now"):
            make_learner(Drops(0.3)).resume(tmp_path / "run", callbacks=[Break()])
        assert len(make_learner(Drops(0.1)).resume(tmp_path / "run", callbacks=[Break()])) == 12

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"seed": 1}, "the train and the valid data has another fingerprint"),
            ({"n_train": 23}, "items to train on: 22 .*23 now"),
            ({"batch_size": 5}, "batch_size: 4 .*5 now"),
            ({"n_valid": None}, r"splits of the data: \['train', 'valid'\] .*\['train'\]"),
            ({"kind": "multi_label"}, "task: single_label of 3 .*multi_label of 3"),
        ],
        ids=str,
    )
    def test_other_data(
        self, make_learner: MakeLearner, make_data: Any, folder: Path, changes: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(StateError, match=said):
            make_learner(data=make_data(**changes)).resume(folder, callbacks=[Break()])

    def test_the_same_data_in_another_place(self, make_learner: MakeLearner, make_data: Any, folder: Path) -> None:
        learn = make_learner(data=make_data(seed=1))
        assert len(learn.resume(folder, callbacks=[Break()], same_data=True)) == 12

    def test_a_layer_of_another_width(self, make_learner: MakeLearner, make_model: Any, folder: Path) -> None:
        model, groups = make_model("mlp")
        model[2][2] = nn.Linear(8, 3, bias=False)
        with pytest.raises(StateError, match=r"head: 2\.2\.bias: \(3,\) torch\.float32 .*missing"):
            make_learner(model, groups=groups).resume(folder, callbacks=[Break()])

    @pytest.mark.parametrize("given", [[], [Break(), Spy()], [Spy()]])
    def test_other_callbacks(self, make_learner: MakeLearner, folder: Path, given: list[Callback]) -> None:
        with pytest.raises(ArgumentError, match=r"had the callbacks \[Break\], but resume was given"):
            make_learner().resume(folder, callbacks=given)
        with pytest.raises(ArgumentError, match=r"had the callbacks \[\], but the learner was given \[Spy\]"):
            make_learner(callbacks=[Spy()]).resume(folder, callbacks=[Break()])

    def test_another_torch_is_no_error(self, make_learner: MakeLearner, folder: Path) -> None:
        newest = max(folder.iterdir())
        write_state(newest, {**read_state(newest), "versions": {"torch": "1.0", "device": "cpu"}}, {})
        with pytest.warns(EasyLearnWarning, match=r"not bit for bit .*torch 1\.0"):
            make_learner().resume(folder, callbacks=[Break()])


@pytest.mark.parametrize("every", [0, -1, True, 1.5, "5", "min", "5 fortnights", "0s", "-5min", "", None, []])
def test_a_bad_interval(make_learner: MakeLearner, tmp_path: Path, every: Any) -> None:
    learn = make_learner()
    if every is None:
        learn.fit(0.05, 1, checkpoint=tmp_path)  # each epoch
        return
    with pytest.raises(ArgumentError, match=r'every must be "epoch", a number of steps'):
        learn.fit(0.05, 1, checkpoint=tmp_path, every=every)
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments(make_learner: MakeLearner, tmp_path: Path) -> None:
    learn = make_learner()
    with pytest.raises(ArgumentError, match="say where, too: checkpoint=folder"):
        learn.fit(0.05, 1, every=3)
    for keep in (0, True, 1.5, "2"):
        with pytest.raises(ArgumentError, match="keep, how many checkpoints stay"):
            learn.fit(0.05, 1, checkpoint=tmp_path, keep=keep)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="called 'callbacks' here"):
        learn.resume(tmp_path, cbs=[])  # type: ignore[call-arg]


@pytest.mark.parametrize("every", ["0.001s", "0.0005 sec", "0.00001min", "1h"])
def test_times(make_learner: MakeLearner, tmp_path: Path, at: Any, every: str) -> None:
    slow = at(batch_begin=lambda run: time.sleep(0.002))  # each step takes longer than the short ones of the times
    make_learner().fit(0.05, 2, checkpoint=tmp_path, every=every, keep=50, callbacks=[slow])
    n = len(list(tmp_path.iterdir()))
    assert n == 2 if every == "1h" else n > 8


def test_without_a_checkpoint_nothing_is_written(make_learner: MakeLearner, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    make_learner().fit(0.05, 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_bar_goes_on_where_it_was(
    make_learner: MakeLearner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KilledError):
        make_learner(progress=True).fit(0.05, 3, checkpoint=tmp_path, callbacks=[Break(14)])
    capsys.readouterr()
    make_learner(progress=True).resume(tmp_path, callbacks=[Break()])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["epoch", "2"]


SCRIPT = """
import os, signal, sys, warnings
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from easylearn import *

folder, kind = Path(sys.argv[1]), sys.argv[2]

class Kill(Callback):
    def __init__(self, after): self.left = after
    def on_batch_end(self, run):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

rng = np.random.default_rng(0)
def make():
    if kind == "table":
        import pandas as pd
        n = 120
        columns = {"a": rng.integers(0, 5, n).astype(str), "x": rng.normal(size=n), "y": rng.integers(0, 2, n)}
        data = TabularData.from_df(
            pd.DataFrame(columns), "y", cat_names=["a"], cont_names=["x"], valid=range(20), task="single_label",
            batch_size=16,
        )
        return tabular_learner(data, [8], ps=0.2, members=2, device="cpu", progress=False)
    x, y = rng.integers(0, 255, (36, 20, 20, 3), dtype=np.uint8), rng.integers(0, 2, 36)
    data = ImageData.from_arrays((x, y), (x[:8], y[:8]), size=16, augment="side_on", batch_size=6, workers=int(kind))
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Dropout(0.2),
        torch.nn.Linear(196, 2),
    )
    return Learner(data, net, device="cpu", progress=False)

learn = make()  # before any process is made: importing what it needs takes longer than the runs
torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]).step()
def process(act, after, out):
    pid = os.fork()
    if pid == 0:
        learn.path = folder
        act(Kill(after))
        learn.save(out)
        (folder / (out + ".losses")).write_bytes(np.array(learn.record.losses).tobytes())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

run = folder / "run"
begin = lambda kill: learn.fit_one_cycle(0.01, 3, callbacks=[kill], checkpoint=run, every=1)
go_on = lambda kill: learn.resume(run, callbacks=[kill])
print(process(lambda kill: learn.fit_one_cycle(0.01, 3, callbacks=[kill]), -1, "whole"))
print(process(begin, 9, "again"), process(go_on, 5, "again"), process(go_on, -1, "again"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize(
    "kind",
    ["table", pytest.param("0", marks=pytest.mark.slow), pytest.param("2", marks=pytest.mark.slow)],
    ids=["table", "images", "images by two workers"],
)
def test_sigkill(kind: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["0", "-9", "-9", "0"], done.stdout + done.stderr
    for suffix in (".safetensors", ".losses"):
        assert (tmp_path / f"whole{suffix}").read_bytes() == (tmp_path / f"again{suffix}").read_bytes()


def test_images_with_and_without_workers(tmp_path: Path) -> None:
    from easylearn.vision.data import ImageData

    x = np.random.default_rng(0).integers(0, 255, (36, 20, 20, 3), dtype=np.uint8)
    y = np.arange(36) % 2

    def make(workers: int) -> Learner:
        data = ImageData.from_arrays((x, y), (x[:8], y[:8]), size=16, augment="side_on", batch_size=6, workers=workers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = nn.Sequential(
                nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(196, 2)
            )
        return Learner(data, net, device="cpu", progress=False)

    whole = Trial(lambda: make(0), tmp_path / "0").whole()
    for workers, steps in ((0, (2, 6, 9)), (2, (8,))):
        fit = Trial(lambda workers=workers: make(workers), tmp_path / str(workers))  # type: ignore[misc]
        for step in steps:
            assert same(whole, fit.resumed(Break(step), 1)), (workers, step)
