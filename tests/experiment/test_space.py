from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easylearn.errors import ArgumentError
from easylearn.experiment.space import Space, choice, log, ordered, powers, standard_space, uniform, when

WHOLE = Space(
    {
        "lr": log(1e-6, 1e-1),
        "layers": uniform(1, 5, whole=True),
        "units": log(64, 1024, whole=True),
        "arch": choice(["a", "b", None]),
        "size": powers(8, 512),
        "flag": choice([True, 1]),
        "hidden": when("arch", ["a", None], ordered([1.5, 2.5])),
        "more": when("hidden", 2.5, uniform(-1, 1)),
    }
)


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_points_lie_in_the_space_and_come_back(units: list[float]) -> None:
    point = WHOLE.point(units)
    assert WHOLE.check(point, "it") == point
    again = WHOLE.point(WHOLE.units(point))
    assert again.keys() == point.keys()
    for name, value in point.items():
        assert (
            again[name] == pytest.approx(value)
            if isinstance(value, float)
            else again[name] is value or (again[name] == value and type(again[name]) is type(value))
        )
    assert json.loads(json.dumps(point)) == point
    assert ("hidden" in point) == (point["arch"] != "b")
    assert ("more" in point) == (point.get("hidden") == 2.5)


def test_whole_numbers_are_equally_likely() -> None:
    values = [uniform(1, 5, whole=True).value((i + 0.5) / 1000) for i in range(1000)]
    assert [values.count(n) for n in range(1, 6)] == [200] * 5
    assert all(isinstance(v, int) for v in values)


def test_log_is_even_in_factors() -> None:
    assert log(1e-4, 1.0).value(0.25) == pytest.approx(1e-3)
    assert log(1e-4, 1.0).unit(1e-2) == pytest.approx(0.5)
    assert math.isclose(uniform(2, 4).value(0.25), 2.5)


def test_a_grid_has_each_point_once() -> None:
    space = Space({"a": choice("xy"), "b": when("a", "x", powers(1, 4)), "c": ordered([1, 2])})
    points = space.grid()
    assert len(points) == 8 and len({repr(p) for p in points}) == 8
    with pytest.raises(ArgumentError, match="'lr' is a range"):
        Space({"lr": log(1e-3, 1)}).grid()


def test_a_space_comes_back_out_of_json() -> None:
    again = Space.from_json(json.loads(json.dumps(WHOLE.to_json())))
    assert again.dimensions == WHOLE.dimensions


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({}, "dictionary"),
        ({"lr": 0.1}, "'lr' must be what log"),
        ({"seed": log(1, 2)}, "'seed' cannot be"),
        ({"a b": log(1, 2)}, "'a b' cannot be"),
        ({"_x": log(1, 2)}, "'_x' cannot be"),
        ({"h": when("head", "deep", log(1, 2)), "head": choice(["deep"])}, "'head', which must be a name before"),
        ({"head": choice(["deep"]), "h": when("head", "flat", log(1, 2))}, "'flat', which it never is"),
    ],
)
def test_what_is_no_space_is_refused(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Space(bad)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: log(0, 1), "above 0"),
        (lambda: uniform(1, 1), "1 to 1"),
        (lambda: uniform(0.5, 2, whole=True), "whole ends"),
        (lambda: choice([]), "at least one"),
        (lambda: choice([object()]), "names"),
        (lambda: powers(3, 9), "powers"),
        (lambda: powers("a", 3), "low must be a whole number"),  # type: ignore[arg-type]
        (lambda: powers(2, 3.5), "high must be a whole number"),  # type: ignore[arg-type]
        (lambda: powers(2, 8, 1), "base must be a whole number of at least 2"),
        (lambda: ordered(5), "a list of values"),  # type: ignore[arg-type]
        (lambda: choice({"a": 1}), "a list of values"),
        (lambda: choice({"b", "a"}), r"a set has another order.*give a list, such as \['a', 'b'\]"),
        (lambda: choice([1.0, float("nan")]), "a choice is of.*got nan"),
        (lambda: uniform(0, float("inf")), "must be a number that is finite, got inf"),
        (lambda: standard_space(["wdd"]), "'wd'"),
    ],
)
def test_what_is_no_dimension_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ([1], "dictionary"),
        ({"arch": "b"}, "no 'lr'"),
        ({"lr": 1.0}, "'lr' = 1.0"),
        ({"lrr": 1.0}, "Did you mean 'lr'"),
    ],
)
def test_a_point_elsewhere_is_refused(point: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        WHOLE.check(point, "point 3 of the list")


def test_powers() -> None:
    assert powers(8, 512).values == (8, 16, 32, 64, 128, 256, 512)
    assert powers(1, 27, 3).values == (1, 3, 9, 27)
    assert standard_space(["lr", "batch_size"])["batch_size"] == powers(8, 512)


def test_numbers_of_numpy_become_those_that_files_hold() -> None:
    space = Space({
        "lr": log(np.float32(0.5), np.float64(2)), "n": uniform(np.int64(1), np.int64(3), whole=True),
        "k": choice(np.array([1, 2])), "x": ordered([np.float64(0.1), np.bool_(True)]),
    })  # fmt: skip
    assert Space.from_json(json.loads(json.dumps(space.to_json()))).to_json() == space.to_json()
    point = space.check({"lr": np.float32(1), "n": np.int64(2), "k": np.int8(2), "x": np.float64(0.1)}, "point 0")
    assert json.loads(json.dumps(point)) == point == {"lr": 1.0, "n": 2, "k": 2, "x": 0.1}
