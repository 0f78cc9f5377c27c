"""Simple methods that rank items by who took what: item neighbours, and EASE. Each is a few lines of algebra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.bunch import PlainInputs

NEIGHBOURS = 100  # of an item that count
PENALTY = 300.0  # of EASE, on each squared weight; of 100 to 500 the best differs little between MovieLens and last.fm
MOST_ITEMS = 20_000  # whose likeness to each other fits into memory: 1.6 GB in single precision

Scores = npt.NDArray[np.float32]
Ranker = Callable[[Any, Any], Scores]


def taken(plain: PlainInputs) -> Any:
    """Histories as a sparse matrix of zeros and ones, (persons, items)."""
    from scipy import sparse

    assert plain.words is not None
    items, starts, n_items = plain.words
    ones = np.ones(len(items), np.float32)
    return sparse.csr_matrix((ones, items, starts), (len(starts) - 1, n_items))


def neighbours(train: Any, known: Any, k: int = NEIGHBOURS) -> Scores:
    """Scores by the likeness of each item to those in a history: the cosine of who took both, of the `k` nearest.

    Args:
        train: who took what in training, (persons, items), sparse.
        known: the histories of those who are asked for, alike.
        k: how many neighbours of an item count.

    Returns:
        Shape (persons asked for, items).
    """
    both = np.asarray((train.T @ train).todense(), np.float32)
    norm = np.sqrt(np.diag(both)).clip(min=1e-12)
    both /= norm[:, None] * norm
    np.fill_diagonal(both, 0)
    if k < len(both):
        least = np.partition(both, -k, axis=1)[:, -k, None]
        both[both < least] = 0
    return np.asarray(known @ both.T, np.float32)


def ease(train: Any, known: Any, penalty: float = PENALTY) -> Scores:
    """Scores by the best linear map of histories to themselves in which no item counts for itself (arXiv 1905.03375).

    It is that of the least squared error, in closed form; arguments and result as of `neighbours`.

    Args:
        penalty: on each squared weight of the map.
    """
    from scipy import linalg

    gram = np.asarray((train.T @ train).todense(), np.float64)
    gram[np.diag_indices_from(gram)] += penalty
    inverse = linalg.cho_solve(linalg.cho_factor(gram, overwrite_a=True), np.eye(len(gram)), overwrite_b=True)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return np.asarray(known @ weights.astype(np.float32), np.float32)


# Name, method, and its seconds on one core: for each of (items squared times persons), and for each of items cubed.
RANKERS: tuple[tuple[str, Ranker, float, float], ...] = (
    ("item neighbours", neighbours, 2e-11, 0.0), ("EASE", ease, 2e-11, 2.5e-10),
)  # fmt: skip


def seconds(n_persons: int, n_items: int, each: float, cubed: float) -> float:
    """What a ranker takes, roughly."""
    return 1e-7 * n_items**2 + each * n_items**2 * n_persons + cubed * n_items**3
