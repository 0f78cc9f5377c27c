"""Histories as rows: against a matrix made by hand."""

from __future__ import annotations

import numpy as np
import torch

from easylearn.data.order import Order
from easylearn.recommenders.histories import Histories, HistoryLoader, HistorySource, draw_last, named

CPU = torch.device("cpu")
TAKEN = [{2: 1.0, 0: 3.0}, {}, {1: 2.0}, {0: 1.0, 1: 1.0, 3: 7.0}]


def matrix() -> np.ndarray:
    x = np.zeros((4, 5))
    for person, items in enumerate(TAKEN):
        for item, weight in items.items():
            x[person, item] = weight
    return x


def test_rows_are_the_logarithms_of_weights() -> None:
    source = HistorySource(Histories.of_dicts(TAKEN), 5)
    for index in ([0, 1, 2, 3], [3, 0], [1], [2, 2]):
        (rows,) = source.fetch(np.array(index), CPU)
        assert np.allclose(rows, np.log1p(matrix()[index]))
        assert np.array_equal(source.targets(np.array(index), CPU), matrix()[index] > 0)


def test_what_is_held_out_is_wanted_and_the_rest_is_left_out() -> None:
    held = np.array([True, False, False, False, True, True])
    taken = Histories.of_dicts(TAKEN).some(np.ones(6, bool), held)
    source, index = HistorySource(taken, 5, whole=False), np.array([3, 0])
    assert (source.fetch(index, CPU)[0] > 0).tolist() == [[True] + [False] * 4] * 2
    assert source.targets(index, CPU).tolist() == [[-1, 1, 0, 1, 0], [-1, 0, 1, 0, 0]]
    assert len(taken.known) == 4 and taken.known.starts.tolist() == [0, 1, 1, 2, 3]
    assert taken.taken_by(5).tolist() == [2, 2, 1, 1, 0]


def test_batches_are_those_of_the_order() -> None:
    loader = HistoryLoader(Order(4, 2, shuffle=True), HistorySource(Histories.of_dicts(TAKEN), 5))
    for batch, index in zip(loader.batches(CPU, 3, 1), Order(4, 2, shuffle=True).batches(3, 1), strict=True):
        assert batch.index.tolist() == index.tolist() and batch.target is not None
        assert np.array_equal(batch.inputs[0] > 0, batch.target > 0)
        assert np.array_equal(batch.target, matrix()[index] > 0)


def test_the_last_are_drawn_by_person() -> None:
    persons, time = np.array([0, 0, 0, 1, 1, 2]), np.array([5, 9, 7, 1, 0, 3])
    assert draw_last(persons, np.array([2, 1, 0]), [time]).tolist() == [False, True, True, True, False, False]
    ties = draw_last(persons, np.array([1, 1, 1]), [time * 0, np.array([0, 2, 1, 0, 1, 0])])
    assert ties.tolist() == [False, True, False, False, True, True]


def test_few_names_are_written() -> None:
    assert named("abc", 3) == "a, b, c" and named("abcde", 2) == "a, b and 3 more"
