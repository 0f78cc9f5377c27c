"""What is true of every callback that comes with easylearn."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from easylearn.data.loaders import TensorData
from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.task import single_label
from easylearn.train import callbacks
from easylearn.train.callback import HOOKS, Callback
from easylearn.train.optim import sgd

ALL = [getattr(callbacks, name) for name in callbacks.__all__]
MAKES = {
    **{kind.__name__: kind for kind in ALL},
    "WeightAverage ema": lambda: callbacks.WeightAverage("ema", decay=0.5),
    # These act within the first two epochs of a fit; as they are made above, they only watch.
    "EarlyStopping now": lambda: callbacks.EarlyStopping(patience=1, min_delta=1e3),
    "ReduceLROnPlateau now": lambda: callbacks.ReduceLROnPlateau(patience=1, min_delta=1e3, factor=0.5),
    "KeepBest of several": lambda: callbacks.KeepBest(2),
    "LossGuard now": lambda: callbacks.LossGuard(every=1),
}
NEED_VALIDATION = [name for name in MAKES if name.startswith(("EarlyStopping", "ReduceLROnPlateau", "SaveBest"))]
WATCHERS = ["EarlyStopping", "LossGuard", "Progress", "ReduceLROnPlateau", "SaveBest", "SaveCycles", "Scheduler"]

every_class = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
every = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())


@pytest.fixture
def learner(tmp_path: Path) -> Callable[..., Learner]:
    """A learner of small images, so that the callbacks that mix images have some."""

    def make(valid: bool = True, **settings: Any) -> Learner:
        g = torch.Generator().manual_seed(0)
        x, y = torch.randn(14, 1, 6, 6, generator=g), torch.arange(14) % 2
        data = TensorData((x, y), (x[:5], y[:5]) if valid else None, single_label(["a", "b"]), batch_size=4)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(
                nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(48, 2)
            )
        return Learner(data, model, optimizer=sgd, device="cpu", progress=False, path=tmp_path / "models", **settings)

    return make


@pytest.fixture(autouse=True)
def _quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress prints."""


def plain(value: Any) -> Any:
    """The same with tensors as lists; anything that is neither JSON nor a tensor is refused."""
    if isinstance(value, Tensor):
        return {"tensor": value.tolist()}
    if isinstance(value, Mapping):
        assert all(isinstance(k, str) for k in value)
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    assert value is None or type(value) in (bool, int, float, str), (
        f"{type(value).__name__} is neither JSON nor a tensor"
    )
    return value


def states_of(callback: Callback, learn: Learner, n: int) -> list[dict[str, Any]]:
    """Its state after each epoch of a fit, and at the end."""
    states: list[dict[str, Any]] = []

    class Watch(Callback):
        def on_epoch_end(self, run: Any) -> None:
            states.append(deepcopy(callback.state_dict()))

    learn.fit(0.1, n, callbacks=[callback, Watch()])
    return [*states, callback.state_dict()]


def state_at_the_beginning(callback: Callback, learn: Learner) -> dict[str, Any]:
    """Its state when a fit has begun: averaged weights are taken up there."""
    states: list[dict[str, Any]] = []

    class Watch(Callback):
        def on_fit_begin(self, run: Any) -> None:
            states.append(deepcopy(callback.state_dict()))

    learn.fit(0.1, 1, callbacks=[callback, Watch()])
    return states[0]


def test_every_callback_of_the_package_is_exported() -> None:
    def below(kind: type[Callback]) -> set[type[Callback]]:
        return {kind}.union(*(below(k) for k in kind.__subclasses__())) if kind.__subclasses__() else {kind}

    package = f"{callbacks.__name__}."
    found = {k for k in below(Callback) if k.__module__.startswith(package) and not k.__name__.startswith("_")}
    assert found == set(ALL)


@every_class
def test_it_can_be_made_without_arguments_and_says_what_it_does(kind: type[Callback]) -> None:
    assert isinstance(kind(), Callback)
    assert inspect.getdoc(kind) and inspect.getdoc(kind) != inspect.getdoc(Callback)
    arguments = list(inspect.signature(kind).parameters.values())
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD and p.annotation is not p.empty for p in arguments)
    assert not arguments or "Args:" in (inspect.getdoc(kind) or "")


@every_class
def test_a_misspelt_hook_of_a_subclass_is_refused(kind: type[Callback]) -> None:
    with pytest.raises(ArgumentError, match=r"Mine\.on_batch_ends is not a hook\. Did you mean 'on_batch_end'"):
        type("Mine", (kind,), {"on_batch_ends": lambda self, run: None})


@every_class
def test_it_has_no_other_public_hook_like_method(kind: type[Callback]) -> None:
    assert {n for n in dir(kind) if n.startswith("on_")} == set(HOOKS)


@every
def test_a_fit_with_it_trains_and_gives_back_the_generators(
    make: Callable[[], Callback], learner: Callable[..., Learner]
) -> None:
    learn = learner()
    before, rng = [p.detach().clone() for p in learn.model.parameters()], torch.get_rng_state()
    record = learn.fit(0.1, 2, callbacks=[make()])
    assert len(record.epochs) == 2 and torch.equal(rng, torch.get_rng_state())
    assert any(not torch.equal(p, q) for p, q in zip(before, learn.model.parameters(), strict=True))
    assert all(p.requires_grad for p in learn.model.parameters())


@pytest.mark.parametrize("name", WATCHERS)
def test_who_only_watches_changes_nothing(name: str, learner: Callable[..., Learner], weights: Any, same: Any) -> None:
    with_it, without = learner(), learner()
    a, b = with_it.fit(0.05, 2, callbacks=[MAKES[name]()]), without.fit(0.05, 2)
    assert a.losses == b.losses and same(weights(with_it), weights(without))


@pytest.mark.parametrize("name", [name for name in MAKES if name not in NEED_VALIDATION])
def test_without_validation_data_it_works(name: str, learner: Callable[..., Learner]) -> None:
    record = learner(valid=False).fit(0.1, 1, callbacks=[MAKES[name]()])
    assert len(record) == 4 and "valid_loss" not in record.last


@pytest.mark.parametrize("name", NEED_VALIDATION)
def test_what_needs_validation_data_refuses_to_begin_without(name: str, learner: Callable[..., Learner]) -> None:
    learn = learner(valid=False)
    before = [p.detach().clone() for p in learn.model.parameters()]
    with pytest.raises(ArgumentError, match="validation"):
        learn.fit(0.1, 1, callbacks=[MAKES[name]()])
    assert learn.epochs_done == 0 and all(map(torch.equal, before, learn.model.parameters()))


@pytest.mark.filterwarnings("ignore:.*keeps the weights of an earlier fit")
@every
def test_on_fit_end_runs_exactly_when_on_fit_begin_ran(
    make: Callable[[], Callback], learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Callback):
        def __init__(self, hook: str) -> None:
            self.hook = hook

        def on_fit_begin(self, run: Any) -> None:
            if self.hook == "on_fit_begin":
                raise ZeroDivisionError

        def on_batch_end(self, run: Any) -> None:
            if self.hook == "on_batch_end":
                raise ZeroDivisionError

        def on_epoch_end(self, run: Any) -> None:
            if self.hook == "on_epoch_end":
                raise KeyboardInterrupt

    callback = make()
    seen: list[str] = []
    for name in ("on_fit_begin", "on_fit_end"):
        inner = getattr(callback, name)

        def spy(run: Any, name: str = name, inner: Callable[[Any], None] = inner) -> None:
            inner(run)
            seen.append(name)

        monkeypatch.setattr(callback, name, spy)
    learn = learner()
    learn.fit(0.1, 1, callbacks=[callback])
    assert seen == ["on_fit_begin", "on_fit_end"]
    for hook in ("on_batch_end", "on_epoch_end", "on_fit_begin"):
        seen.clear()
        with pytest.raises((ZeroDivisionError, KeyboardInterrupt)):
            learn.fit(0.1, 1, callbacks=[callback, Fails(hook)])
        assert seen == ["on_fit_begin", "on_fit_end"]
        seen.clear()
        with pytest.raises((ZeroDivisionError, KeyboardInterrupt)):
            learn.fit(0.1, 1, callbacks=[Fails(hook), callback])
        assert seen == ([] if hook == "on_fit_begin" else ["on_fit_begin", "on_fit_end"])
    seen.clear()
    assert len(learn.fit(0.1, 1, callbacks=[callback])) == 4  # and it can be used again


@every
def test_its_state_is_json_and_tensors_and_round_trips(
    make: Callable[[], Callback], learner: Callable[..., Learner]
) -> None:
    first = make()
    for state in [make().state_dict(), *states_of(first, learner(), 2)]:
        text = json.dumps(plain(state), allow_nan=False)
        second = make()
        second.load_state_dict(deepcopy(state))
        found = state_at_the_beginning(second, learner()) if state.get("average") else second.state_dict()
        assert json.dumps(plain(found)) == text


@pytest.mark.filterwarnings("ignore:.*keeps the weights of an earlier fit")
@every
def test_one_object_in_two_fits_is_as_good_as_two(
    make: Callable[[], Callback], learner: Callable[..., Learner], weights: Any, same: Any
) -> None:
    reused, fresh = learner(), learner()
    callback = make()
    records = [
        (reused.fit(0.05, 3, callbacks=[callback]), fresh.fit(0.05, 3, callbacks=[make()])),
        (reused.fit(0.05, 3, callbacks=[callback]), fresh.fit(0.05, 3, callbacks=[make()])),
    ]
    for a, b in records:
        assert a.losses == b.losses and a.rates == b.rates and a.stop_reason == b.stop_reason
    assert same(weights(reused), weights(fresh))


@every
def test_two_objects_share_nothing(make: Callable[[], Callback]) -> None:
    one, two = make(), make()
    shared = [k for k, v in vars(one).items() if isinstance(v, list | dict | Tensor) and vars(two)[k] is v]
    assert shared == [] and make() is not make()
