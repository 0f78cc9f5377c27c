"""Simple rankers against what they are defined to be, solved in another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from easylearn.analysis.rankers import ease, neighbours, taken
from easylearn.data.bunch import PlainInputs


@pytest.fixture
def train() -> sparse.csr_matrix:
    return sparse.csr_matrix((np.random.default_rng(0).random((40, 8)) < 0.4).astype(np.float32))


def test_ease_is_a_ridge_regression_of_each_item_on_all_others(train: sparse.csr_matrix) -> None:
    x, known = train.toarray(), train.toarray()[:5]
    wanted = np.zeros((5, 8))
    for j in range(8):
        others = np.arange(8) != j
        model = Ridge(alpha=7.0, fit_intercept=False).fit(x[:, others], x[:, j])
        wanted[:, j] = model.predict(known[:, others])
    assert np.allclose(ease(train, train[:5], penalty=7.0), wanted, atol=1e-4)


def test_neighbours_are_cosines_of_columns(train: sparse.csr_matrix) -> None:
    likeness = cosine_similarity(train.T)
    np.fill_diagonal(likeness, 0)
    assert np.allclose(neighbours(train, train[:5]), train[:5] @ likeness, atol=1e-5)
    for row in likeness:  # of each item the nearest three
        row[row < np.sort(row)[-3]] = 0
    assert np.allclose(neighbours(train, train[:5], k=3), train[:5] @ likeness.T, atol=1e-5)


def test_an_item_that_nobody_took_is_no_error() -> None:
    train = sparse.csr_matrix(np.array([[1, 1, 0], [1, 0, 0]], np.float32))
    for rank in (neighbours, ease):
        assert np.isfinite(rank(train, train)).all()


def test_histories_are_rows() -> None:
    words = (np.array([2, 0, 1]), np.array([0, 2, 2, 3]), 4)
    assert taken(PlainInputs(words=words)).toarray().tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
