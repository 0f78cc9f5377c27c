"""TensorBoard, WandB and MLflow get what the record has; absent, raising or drawing numbers they change nothing."""

from __future__ import annotations

import math
import random
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import easylearn as el
from easylearn.errors import ArgumentError, EasyLearnWarning
from easylearn.learning import Learner
from easylearn.train.callback import Callback
from tests.experiment.small import make

MAKES: dict[str, Callable[[Path], Any]] = {
    "TensorBoard": lambda folder: el.TensorBoard(folder / "board", every=0),
    "WandB": lambda folder: el.WandB("project", name="one", folder=folder, every=0),
    "MLflow": lambda folder: el.MLflow("project", uri=f"sqlite:///{folder}/m.db", every=0),
}
PACKAGES = ["torch.utils.tensorboard", "wandb", "mlflow"]
every = pytest.mark.parametrize("name", MAKES)


def same_weights(a: Learner, b: Learner) -> bool:
    return all(map(torch.equal, a.model.state_dict().values(), b.model.state_dict().values()))


class Fake:
    """Anything: notes each call, draws random numbers, and raises where it is told to."""

    def __init__(self, fails: str = "", name: str = "", calls: list[Any] | None = None) -> None:
        self.fails, self.name, self.calls = fails, name, [] if calls is None else calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Fake(self.fails, name, self.calls)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        torch.manual_seed(int(random.random() + np.random.rand() + torch.rand(1)))  # as a library may that names runs
        self.calls.append((self.name, arguments, named))
        if self.fails in ("all", self.name):
            raise ZeroDivisionError(f"{self.name} on purpose")
        return Fake(self.fails, "", self.calls)

    def __iter__(self) -> Any:
        return iter([Fake(self.fails, "", self.calls)])


def install(monkeypatch: pytest.MonkeyPatch, fake: Any) -> None:
    """Put the fake, or None for a package that is absent, where the three are imported from."""

    def module(name: str, **values: Any) -> None:
        found: Any = types.ModuleType(name)
        for key, value in values.items():
            setattr(found, key, value)
        monkeypatch.setitem(sys.modules, name, None if fake is None else found)

    module("torch.utils.tensorboard", SummaryWriter=fake and fake.SummaryWriter)
    module("torch.utils.tensorboard.summary", hparams=fake and fake.hparams)
    module("wandb", init=fake and fake.init, Settings=fake and fake.Settings)
    entities = {name: (lambda *values: values) for name in ("Metric", "Param")}
    module("mlflow", MlflowClient=fake and fake.MlflowClient, entities=types.SimpleNamespace(**entities))
    module("mlflow.entities", **entities)


@every
def test_absent_it_is_one_warning_and_the_same_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, None)
    learn, plain = make(), make()
    with pytest.warns(EasyLearnWarning, match=rf"{name} failed to begin.*easylearn\[track\]") as heard:
        learn.fit(0.1, 3, callbacks=[MAKES[name](tmp_path)])
    plain.fit(0.1, 3)
    assert len(heard) == 1 and same_weights(learn, plain) and learn.record.losses == plain.record.losses


FAILS = ["all", "SummaryWriter", "hparams", "add_scalar", "close", "init", "log", "finish", "MlflowClient"]
FAILS += ["log_batch", "create_run", "set_terminated"]


@every
@pytest.mark.parametrize("fails", FAILS)
def test_raising_it_is_at_most_one_warning_and_the_same_weights(
    name: str, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(fails)
    install(monkeypatch, fake)
    learn, plain = make(), make()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        learn.fit(0.1, 2, callbacks=[MAKES[name](tmp_path)])
    plain.fit(0.1, 2)
    raised = fails == "all" or any(called == fails for called, *_ in fake.calls)
    assert len(heard) == raised and fake.calls
    assert same_weights(learn, plain) and learn.record.losses == plain.record.losses


@every
def test_it_gets_every_step_and_epoch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    install(monkeypatch, fake)
    learn, tracker = make(), MAKES[name](tmp_path)
    records = [learn.fit(0.1, 2, callbacks=[tracker]), learn.fit(0.05, 1, callbacks=[tracker])]
    got = values_of(name, fake)
    losses = [loss for record in records for loss in record.losses]
    assert got["step/loss"] == dict(enumerate(losses, 1))
    valid = [row["valid_loss"] for record in records for row in record.epochs]
    assert got["epoch/valid_loss"] == dict(zip((5, 10, 15), valid, strict=True))
    assert got["rate/model"][1] == pytest.approx(0.1)


def values_of(name: str, fake: Fake) -> dict[str, dict[int, float]]:
    """What a fake was told: values by step, by name."""
    found: dict[str, dict[int, float]] = {}
    for called, arguments, named in fake.calls:
        if name == "TensorBoard" and called == "add_scalar":
            found.setdefault(arguments[0], {})[arguments[2]] = arguments[1]
        if name == "WandB" and called == "log":
            for key, value in arguments[0].items():
                found.setdefault(key, {})[named["step"]] = value
        if name == "MLflow" and called == "log_batch":
            for key, value, _, step in named.get("metrics", []):
                found.setdefault(key, {})[step] = value
    return found


@every
def test_a_resumed_fit_goes_on_where_the_checkpoint_was(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Callback):
        step = 0

        def on_batch_end(self, run: Any) -> None:
            if run.step == self.step:
                raise ZeroDivisionError

    first, second, fails = Fake(), Fake(), Fails()
    fails.step = 8
    install(monkeypatch, first)
    with pytest.raises(ZeroDivisionError):
        make().fit(0.1, 3, callbacks=[MAKES[name](tmp_path), fails], checkpoint=tmp_path / "c", every=3)
    install(monkeypatch, second)
    learn = make()
    learn.resume(tmp_path / "c", callbacks=[MAKES[name](tmp_path), Fails()])
    before, after = values_of(name, first)["step/loss"], values_of(name, second)["step/loss"]
    assert min(after) == 7 and max(after) == 15  # the checkpoint was after step 6
    assert {**before, **after} == dict(enumerate(learn.record.losses, 1))


def test_the_real_tensorboard_has_hyper_parameters_and_curves_in_one_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    learn = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        record = learn.fit(0.1, 2, callbacks=[el.TensorBoard(tmp_path / "board")])
        found = EventAccumulator(str(tmp_path / "board"))
        found.Reload()
    assert [e.value for e in found.Scalars("step/loss")] == pytest.approx(record.losses)
    assert found.PluginTagToContent("hparams") and not [f for f in (tmp_path / "board").iterdir() if f.is_dir()]


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="project"):
        el.WandB("")
    with pytest.raises(ArgumentError, match="experiment"):
        el.MLflow("")
    with pytest.raises(ArgumentError, match="TensorBoard"):
        el.TensorBoard(3)  # type: ignore[arg-type]


def test_losses_that_are_no_numbers_do_not_end_the_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    install(monkeypatch, fake)
    with pytest.warns(EasyLearnWarning, match="the weights are those after"):
        make().fit(1, 1, schedule=lambda done, n: 1e30, callbacks=[MAKES["WandB"](tmp_path)])
    assert not math.isfinite(values_of("WandB", fake)["step/loss"].popitem()[1])
