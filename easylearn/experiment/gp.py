"""gp: the next point by a Gaussian process over points and how far trials went, so that every rung teaches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import keyed
from .space import Listed, Space

MOST = 150
"""Trials that a proposal is worked out from, those that went furthest first."""
CANDIDATES = 600  # points that are compared, half of them near the best that went furthest
_PACES = np.array([0.03, 0.1, 0.25])  # how near, of the unit cube
_NOISE = (1e-4, 0.5)

Floats = npt.NDArray[np.float64]


def propose(space: Space, points: Sequence[Mapping[str, Any]], rungs: Floats, losses: Floats, *key: int | str) -> Any:
    """The point from which a Gaussian process expects most of an improvement at the end (Jones et al. 1998).

    How far a trial went is one more dimension (as in arXiv 1703.06240), so that a cheap rung tells of the dear ones as
    much as it is like them. Losses count by their logarithm above the best, so that what went wholly wrong does not
    decide how smooth the rest is.

    Args:
        space: of the points.
        points: of the trials; one may come several times, at other rungs.
        rungs: how far each went, from 0 to 1; 1 is the end.
        losses: what came of it, lower is better.
        key: what candidates are drawn by.
    """
    last = np.argsort(-rungs, kind="stable")[:MOST]
    units = np.array([space.units(points[i]) for i in last])
    rungs, losses = rungs[last], losses[last]
    scale = float(np.median(np.abs(losses - np.median(losses)))) or 1.0
    y = np.arcsinh((losses - losses.min()) / scale)
    y = (y - y.mean()) / (float(y.std()) or 1.0)
    x = np.c_[_features(space, units), rungs]
    model = _Process(x, y)
    drawn = _candidates(units[np.lexsort((y, -rungs))[:8]], np.random.default_rng(keyed.key(*key)))
    mean, deviation = model.at(np.c_[_features(space, drawn), np.ones(len(drawn))])
    at_end, _ = model.at(np.c_[x[:, :-1], np.ones(len(x))])
    order = np.argsort(-_gain(at_end.min() - mean, deviation), kind="stable")
    found = (space.point(drawn[k].tolist()) for k in order)
    return next((point for point in found if point not in points), space.point(drawn[order[0]].tolist()))


def _features(space: Space, units: Floats) -> Floats:
    """Places in the unit cube, in which values without an order are all equally far from each other."""
    columns: list[Floats] = []
    for name, column in zip(space.names, units.T, strict=True):
        dimension = space.plain(name)
        if isinstance(dimension, Listed) and not dimension.ordered:
            n = len(dimension.values)
            columns += [(np.minimum((column * n).astype(int), n - 1) == k) / np.sqrt(2) for k in range(n)]
        else:
            columns.append(column)
    return np.stack(columns, 1)


def _candidates(best: Floats, rng: np.random.Generator) -> Floats:
    """Points to compare: anywhere, and with some of their values near those of the best."""
    drawn, half = rng.random((CANDIDATES, best.shape[1])), CANDIDATES // 2
    near = best[rng.integers(len(best), size=half)]
    moved = near + rng.choice(_PACES, size=(half, 1)) * rng.normal(size=near.shape)
    moved = np.where(rng.random(near.shape) < 0.2, drawn[:half], moved)  # to values that are not neighbours
    moved = (1 - np.abs(1 - np.abs(moved))).clip(0, 1)  # reflected at both ends, where points would gather
    drawn[:half] = np.where(rng.random(near.shape) < 0.5, moved, near)
    return drawn


def _gain(ahead: Floats, deviation: Floats) -> Floats:
    """The logarithm of the expected improvement."""
    from scipy.special import ndtr

    z = ahead / deviation
    gain: Floats = np.log(deviation) + np.log(np.maximum(z * ndtr(z) + np.exp(-z * z / 2) / np.sqrt(2 * np.pi), 1e-300))
    return gain


class _Process:
    """A Gaussian process with a Matern 5/2 kernel and a length for each dimension, fitted by a search of its own.

    Lengths and noise are changed one at a time by factors, twice around, where that makes the data more likely; a prior
    keeps lengths near 0.7, so that with few trials nothing is left out.

    Args:
        x: shape (n, d), about within 0 to 1.
        y: shape (n,), of mean 0 and deviation 1.
    """

    def __init__(self, x: Floats, y: Floats) -> None:
        self.x, self.y = x, y
        self.lengths, self.noise = np.full(x.shape[1], 0.7), 1e-2
        self._cost, self._root, self._weights = self._fit(self.lengths, self.noise)
        for k in [*range(x.shape[1] + 1)] * 2:
            for factor in (0.6, 1.7, 3.0):
                lengths, noise = self.lengths.copy(), self.noise
                if k < x.shape[1]:
                    lengths[k] = np.clip(lengths[k] * factor, 0.1, 6)
                else:
                    noise = float(np.clip(noise * factor**2, *_NOISE))
                found = self._fit(lengths, noise)
                if found[0] < self._cost:
                    self.lengths, self.noise = lengths, noise
                    self._cost, self._root, self._weights = found

    def _fit(self, lengths: Floats, noise: float) -> tuple[float, Floats, Floats]:
        """How unlikely the data is, the root of its covariance, and the weights of a prediction."""
        n = len(self.y)
        try:
            root = np.linalg.cholesky(_matern(self.x, self.x, lengths) + noise * np.eye(n))
        except np.linalg.LinAlgError:
            return np.inf, np.eye(n), np.zeros(n)
        weights: Floats = np.linalg.solve(root.T, np.linalg.solve(root, self.y)).astype(np.float64)
        prior = 0.1 * float((np.log(lengths / 0.7) ** 2).sum())
        cost = n / 2 * math.log(max(float(self.y @ weights) / n, 1e-12)) + float(np.log(np.diag(root)).sum()) + prior
        return cost, root.astype(np.float64), weights

    def at(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, without noise, at places of shape (m, d)."""
        like = _matern(x, self.x, self.lengths)
        known = np.linalg.solve(self._root, like.T)
        variance = max(float(self.y @ self._weights) / len(self.y), 1e-12) * (1 - (known**2).sum(0))
        return like @ self._weights, np.sqrt(np.maximum(variance, 1e-9))


def _matern(a: Floats, b: Floats, lengths: Floats) -> Floats:
    a, b = a / lengths, b / lengths
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    far = np.sqrt(5 * np.maximum(square, 1e-12))
    kernel: Floats = (1 + far + far**2 / 3) * np.exp(-far)
    return kernel
