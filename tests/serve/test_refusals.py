"""Limits hold numbers that can be limits."""

from __future__ import annotations

import math
from typing import Any

import pytest

from easylearn.errors import ArgumentError
from easylearn.serve.refusals import Limits, seconds_of, size_of


@pytest.mark.parametrize("name", ["max_body", "max_items", "max_connections", "max_pixels", "max_wait", "deadline"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "7", None, True])
def test_what_is_no_limit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("name", ["max_body", "max_items", "max_connections"])
def test_things_are_counted_in_whole_numbers(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1
    with pytest.raises(ArgumentError, match="whole number"):
        Limits(**{name: 1.5})  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["1e999", "9" * 400, "0", "-1", "nan", "inf", "7 parsecs", ""])
def test_no_size_and_no_time_is_without_an_end(given: str) -> None:
    for read in (size_of, seconds_of):
        with pytest.raises(ArgumentError, match="expected a"):
            read(given)
