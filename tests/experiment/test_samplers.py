"""Samplers: pure functions whose points lie in the space, learn from what is known, and can be repeated."""

from __future__ import annotations

import builtins
import random as python_random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from easylearn.errors import ArgumentError
from easylearn.experiment import samplers
from easylearn.experiment.plans import losses_of
from easylearn.experiment.samplers import LEARNS, METHODS, STARTS, Tried
from easylearn.experiment.space import Space, choice, log, powers, uniform, when

SPACE = Space(
    {
        "lr": log(1e-5, 1.0),
        "kind": choice(["a", "b", None]),
        "size": powers(8, 64),
        "layers": uniform(1, 4, whole=True),
        "hidden": when("kind", ["a", None], log(16, 256, whole=True)),
    }
)
OWN = sorted(set(METHODS) - {"bayes", "genetic"})


def loss(point: dict[str, Any]) -> float:
    far = abs(np.log10(point["lr"]) + 3) / 2 + abs(point["layers"] - 3) / 3
    return float(far + (point["kind"] != "a") + 0.1 * (point["size"] != 32))


def known(n: int) -> list[Tried]:
    points = [samplers.random(SPACE, 9, i, ()) for i in range(n)]
    return [Tried(i, p, loss(p)) for i, p in enumerate(points)]


def importorskip(method: str) -> None:
    if method not in OWN:
        pytest.importorskip("optuna")


@pytest.mark.parametrize("method", METHODS)
def test_a_point_is_a_pure_function(method: str, disturb: Callable[[], None]) -> None:
    importorskip(method)
    seen = known(30)
    state = torch.get_rng_state()
    first = METHODS[method](SPACE, 3, 30, seen)
    assert torch.equal(torch.get_rng_state(), state)
    disturb()
    python_state = python_random.getstate()
    assert METHODS[method](SPACE, 3, 30, seen[::-1]) == first
    assert python_random.getstate() == python_state
    assert SPACE.check(first, "it") == first
    others = [METHODS[method](SPACE, s, n, seen) for s, n in ((4, 30), (3, 31))]
    assert first not in others


@pytest.mark.parametrize("method", sorted(LEARNS))
def test_what_learns_begins_evenly_and_comes_nearer(method: str) -> None:
    importorskip(method)
    sample = METHODS[method]
    few = known(STARTS - 1)
    assert sample(SPACE, 0, 4, few) == samplers.quasi(SPACE, 0, 4, ())
    tried: list[Tried] = []
    for n in range(60):
        point = sample(SPACE, 0, n, tried)
        assert SPACE.check(point, "it") == point
        tried.append(Tried(n, point, loss(point)))
    starts, last = [t.loss for t in tried[:STARTS]], [t.loss for t in tried[-10:]]
    assert np.mean(last) < np.mean(starts) - 0.3


def test_sobol_is_spread_evenly() -> None:
    space = Space({"a": uniform(0, 1), "b": uniform(0, 1)})
    points = [samplers.quasi(space, 0, n, ()) for n in range(64)]
    cells = {(int(p["a"] * 8), int(p["b"] * 8)) for p in points}
    assert len(cells) == 64  # one in each of 8 x 8 cells: a (0, 6, 2)-net
    engine = torch.quasirandom.SobolEngine(2, scramble=True, seed=samplers.keyed.key(0, "sobol") % 2**31)
    reference = engine.draw(64, dtype=torch.float64).tolist()
    assert [[p["a"], p["b"]] for p in points] == reference


def test_ordered_values_take_steps_and_others_are_drawn() -> None:
    space = Space({"size": powers(1, 1024), "kind": choice("abcdefgh")})
    here = {"size": 32, "kind": "d"}
    moved = [samplers._moved(space, here, 0.05, 0, n) for n in range(200)]
    assert all(p != here for p in moved)
    sizes = {p["size"] for p in moved}
    assert {16, 32, 64} <= sizes <= {4, 8, 16, 32, 64, 128, 256}
    assert {p["kind"] for p in moved} == set("abcdefgh")


def test_a_space_of_one_point_has_no_neighbour() -> None:
    space = Space({"kind": choice(["a"])})
    seen = [Tried(i, {"kind": "a"}, 0.0) for i in range(30)]
    assert samplers.evolution(space, 0, 30, seen) == {"kind": "a"}
    assert samplers.annealing(space, 0, 30, seen) == {"kind": "a"}


def test_optuna_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_optuna(name: str, *rest: Any, **more: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_optuna)
    with pytest.raises(ArgumentError, match=r"easylearn\[search\].*\"quasi\""):
        METHODS["bayes"](SPACE, 0, 30, known(30))


def test_failed_trials_have_the_worst_loss() -> None:
    rows = [{"value": 2.0, "higher": False}, {"value": None, "status": "diverged"}, {"value": 1.0, "higher": False}]
    assert losses_of(rows) == [2.0, 2.0, 1.0]
    assert losses_of([{"value": None}]) == [0.0]
