"""gp: its process against scikit-learn's, what it learns from rungs, and data that leaves little to learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from easylearn.experiment.gp import _features, _gain, _Process, propose
from easylearn.experiment.samplers import quasi
from easylearn.experiment.space import Space, choice, log, ordered, uniform, when

SPACE = Space({"a": uniform(0, 1), "b": log(1e-3, 1.0)})


def quality(point: dict[str, float]) -> float:
    return abs(point["a"] - 0.3) + abs(np.log10(point["b"]) + 1) / 3


def test_the_process_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.random((25, 3)), rng.random((40, 3))
    y = np.sin(4 * x[:, 0]) + x[:, 1] + 0.05 * rng.normal(size=25)
    y = (y - y.mean()) / y.std()
    own = _Process(x, y)
    variance = float(y @ own._weights / len(y))
    kernel = ConstantKernel(variance, "fixed") * Matern(own.lengths, "fixed", nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=variance * own.noise, optimizer=None).fit(x, y)
    mean, deviation = theirs.predict(new, return_std=True)
    found = own.at(new)
    assert np.allclose(found[0], mean, atol=1e-6) and np.allclose(found[1], deviation, atol=1e-5)
    likely = theirs.log_marginal_likelihood_value_
    first = ConstantKernel(1.0) * Matern([0.7] * 3, "fixed", nu=2.5)
    assert likely > GaussianProcessRegressor(first, alpha=1e-2, optimizer=None).fit(x, y).log_marginal_likelihood_value_
    assert own.lengths[2] > 2 * own.lengths[0]  # the third tells nothing


def test_expected_improvement_is_its_formula() -> None:
    draws = np.random.default_rng(0).normal(size=10**6)
    for ahead, deviation in ((0.3, 0.5), (-0.5, 1.0), (0.0, 2.0)):
        wanted = np.maximum(ahead + deviation * draws, 0).mean()
        assert np.exp(_gain(np.array([ahead]), np.array([deviation])))[0] == pytest.approx(wanted, rel=0.01)


def test_cheap_rungs_teach() -> None:
    """With three trials at the end and thirty that stopped early, it comes nearer than with the three alone."""

    def near(n_cheap: int) -> float:
        gaps = []
        for seed in range(6):
            points = [quasi(SPACE, seed, n, ()) for n in range(33)]
            rungs = np.array([0.0] * n_cheap + [1.0] * 3)
            chosen = points[:n_cheap] + points[30:]
            losses = np.array([quality(p) + (0.5 if r == 0 else 0.0) for p, r in zip(chosen, rungs, strict=True)])
            gaps.append(quality(propose(SPACE, chosen, rungs, losses, seed)))
        return float(np.mean(gaps))

    assert near(30) < 0.7 * near(0)


def test_values_without_an_order_are_equally_far() -> None:
    space = Space(
        {"kind": choice(["a", "b", "c"]), "size": ordered([1, 2, 3]), "more": when("kind", "a", uniform(0, 1))}
    )
    points = [{"kind": "a", "size": 2, "more": 0.5}, {"kind": "b", "size": 2}, {"kind": "c", "size": 2}]
    x = _features(space, np.array([space.units(p) for p in points]))
    gaps = [np.linalg.norm(x[i] - x[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert x.shape == (3, 5) and np.allclose(gaps, 1.0)


@pytest.mark.parametrize("losses", [[0.5] * 12, [0.1] + [1e9] * 11, list(range(12))])
def test_data_that_teaches_little_still_gives_points(losses: list[float]) -> None:
    points = [quasi(SPACE, 0, n % 5, ()) for n in range(12)]  # and some that come again
    found = [propose(SPACE, points, np.ones(12), np.array(losses, float), 3, n) for n in (0, 0, 1)]
    assert found[0] == found[1] != found[2] and all(SPACE.check(p, "it") == p for p in found)


def test_a_point_that_was_tried_is_not_proposed_again() -> None:
    space = Space({"kind": choice("abcd"), "more": choice([True, False])})
    every = space.grid()
    losses = np.arange(7.0)
    assert propose(space, every[:7], np.ones(7), losses, 0) == every[7]
    assert propose(space, every, np.ones(8), np.arange(8.0), 0) in every
