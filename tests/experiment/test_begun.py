"""make and fit as they are called, and models that trials share."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import easylearn as el
from easylearn.errors import ArgumentError
from easylearn.experiment.begun import Begun, check_functions
from easylearn.experiment.certainty import spread
from easylearn.experiment.cross_fit import cross_fit
from easylearn.experiment.search import search
from easylearn.learning import Learner
from tests.experiment.small_search import SPACE, data, fit, make


def test_functions_that_can_be_called_are_taken() -> None:
    class Made:
        def __call__(self, p: Any, more: int = 1) -> Any:
            return p

    for given in (make, Made(), partial(make, given=None), lambda *args: args, dict):
        check_functions(make=given)
    for trains in (fit, lambda learn, p, checkpoint, every, keep, callbacks: None, lambda *args, **how: None):
        check_functions(fit=trains)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"make": None}, "make must be a function, got None"),
        ({"make": lambda: 0}, r"make is called with p alone, and <lambda>\(\) cannot be: def make\(p\)"),
        ({"make": lambda p, data: 0}, r"<lambda>\(p, data\)"),
        ({"make": lambda p, *, data: 0}, r"<lambda>\(p, \*, data\)"),
        ({"fit": "fit"}, "fit must be a function, got 'fit'"),
        ({"fit": lambda learn: 0}, r"fit is called with a learner and p, .*\(learn\) cannot be: def fit\(learn, p, "),
        ({"fit": lambda learn, p, epochs, **how: 0}, r"\(learn, p, epochs, \*\*how\)"),
    ],
)
def test_what_cannot_be_called_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        check_functions(**given)


def test_functions_in_the_wrong_order_are_refused_everywhere(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="make is called with p alone"):
        search(fit, SPACE, make, tmp_path / "a", trials=1, progress=False)
    with pytest.raises(ArgumentError, match="make is called with p alone"):
        cross_fit(fit, el.folds(9, 3), make, tmp_path / "b")
    with pytest.raises(ArgumentError, match="fit must be a function"):
        spread(make, None, {"hidden": 2, "lr": 0.1})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_model_that_trials_share_is_refused(tmp_path: Path) -> None:
    net = nn.Linear(4, 2)

    def shared(p: Any) -> Learner:
        return Learner(data()[0], net, seed=p.seed)

    def copied(p: Any) -> Learner:
        return Learner(data()[0], copy.deepcopy(net), seed=p.seed)

    space, how = {"lr": SPACE["lr"]}, {"trials": 2, "progress": False}
    table = search(copied, space, fit, tmp_path / "copied", **how).table()
    assert len(table) == 2
    with pytest.raises(ArgumentError, match=r"weights \('weight'\) an earlier trial has trained.*copy\.deepcopy"):
        search(shared, space, fit, tmp_path / "shared", **how)
    with pytest.raises(ArgumentError, match="an earlier trial has trained"):
        spread(shared, fit, {"lr": 0.1}, seeds=2)


def test_a_model_that_a_failed_trial_has_trained_is_refused_too(tmp_path: Path) -> None:
    net = nn.Linear(4, 2)

    def shared(p: Any) -> Learner:
        return Learner(data()[0], net, seed=p.seed)

    def fails(learn: Learner, p: Any, **how: Any) -> Any:
        learn.fit(p.lr, 1, **how)
        raise ValueError("after it has trained")

    with pytest.raises(ArgumentError, match="an earlier trial has trained"):
        search(shared, {"lr": SPACE["lr"]}, fails, tmp_path, trials=2, on_error="skip", progress=False)


@pytest.mark.filterwarnings("ignore:Lazy modules")  # of torch 2.3
def test_a_shared_model_that_begins_anew_or_stays_frozen_is_taken() -> None:
    net, begun = nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(2)), Begun()
    first = copy.deepcopy(net.state_dict())
    begun.check(net)
    begun.end(net)
    begun.check(net)  # frozen: nothing has trained it
    net[0].weight.data += 1
    begun.end(net)
    net.load_state_dict(first)
    begun.check(net)
    net[0].weight.data += 1
    begun.end(net)
    net[0].reset_parameters()
    begun.check(net)  # another beginning of its own


def test_a_device_without_float64_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    double = torch.Tensor.double

    def of_apple(weights: torch.Tensor) -> torch.Tensor:
        assert weights.requires_grad is False and moved == ["cpu"], "Apple's GPUs have no float64"
        return double(weights)

    moved: list[str] = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda weights: moved.append("cpu") or weights)
    monkeypatch.setattr(torch.Tensor, "double", of_apple)
    Begun().check(nn.Linear(2, 2, bias=False))


def test_names_of_types_that_are_not_there_are_not_asked_for() -> None:
    """Python 3.14 looks for them when the signature is asked for, and those for type checkers alone are missing."""

    class Later:
        @property
        def __signature__(self) -> Any:
            raise NameError("name 'DataFrame' is not defined")

        def __call__(self, p: Any) -> Any:
            return p

    check_functions(make=Later(), fit=Later())


def test_nothing_has_begun_in_another_process_and_no_model_is_kept() -> None:
    begun = Begun()
    begun.check(nn.Linear(2, 2))
    assert not begun._held
    assert isinstance(pickle.loads(pickle.dumps(begun)), Begun)
