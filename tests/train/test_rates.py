from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easylearn.errors import ArgumentError
from easylearn.train.rates import spread_rates

NAMES = ["stem", "late", "head"]
positive = st.floats(1e-8, 10.0)


@pytest.mark.parametrize("lr", [0.1, 1, np.float32(0.5), np.float64(0.1), torch.tensor(0.25)])
def test_a_number_is_for_every_group(lr: Any) -> None:
    assert spread_rates(lr, NAMES) == (float(lr),) * 3
    assert spread_rates(lr, ["model"]) == (float(lr),)


@pytest.mark.parametrize("lr", [[1e-4, 1e-3, 1e-2], (1e-4, 1e-3, 1e-2), np.array([1e-4, 1e-3, 1e-2])])
def test_a_list_is_one_per_group(lr: Any) -> None:
    assert spread_rates(lr, NAMES) == (1e-4, 1e-3, 1e-2)


def test_a_dictionary_is_by_name_in_any_order() -> None:
    assert spread_rates({"head": 0.3, "stem": 0.1, "late": 0.2}, NAMES) == (0.1, 0.2, 0.3)


@given(lo=positive, hi=positive, n=st.integers(2, 12))
def test_a_slice_is_numpys_geomspace(lo: float, hi: float, n: int) -> None:
    rates = spread_rates(slice(lo, hi), [f"g{i}" for i in range(n)])
    assert rates == pytest.approx(np.geomspace(lo, hi, n), rel=1e-9)
    assert rates[0] == lo


def test_a_slice_over_one_group_is_its_end() -> None:
    assert spread_rates(slice(1e-4, 1e-2), ["model"]) == (1e-2,)


def test_a_slice_without_start_favours_the_last_group() -> None:
    assert spread_rates(slice(0.1), NAMES) == (0.01, 0.01, 0.1)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_wrong_count_names_the_groups_and_both_numbers(n: int) -> None:
    with pytest.raises(ArgumentError, match=rf"{n} learning rates? .* 3 layer groups: stem, late, head"):
        spread_rates([0.1] * n, NAMES)


def test_three_rates_while_precomputing_say_so() -> None:
    with pytest.raises(ArgumentError, match=r"3 rates were given, but precompute is on.*learn\.unfreeze\(\)"):
        spread_rates([1e-4, 1e-3, 1e-2], NAMES, precomputed=True)
    assert spread_rates(0.1, NAMES, precomputed=True)[-1] == 0.1


def test_unknown_and_missing_names() -> None:
    with pytest.raises(ArgumentError, match=r"no layer group 'haed'. Did you mean 'head'\?"):
        spread_rates({"stem": 0.1, "late": 0.1, "haed": 0.1}, NAMES)
    with pytest.raises(ArgumentError, match=r"no rate was given for the layer groups \['late'\]"):
        spread_rates({"stem": 0.1, "head": 0.1}, NAMES)


@pytest.mark.parametrize(
    "lr",
    [
        -0.1,
        math.nan,
        math.inf,
        True,
        "0.1",
        None,
        [0.1, None, 0.1],
        [0.1, "x", 0.1],
        {"stem": "a", "late": 1, "head": 1},
        [[0.1], [0.1], [0.1]],
        slice(1, 2, 3),
        slice(1, None),
        slice(None),
        slice(0, 0.1),
        slice(0.1, 0),
        slice(-1, 0.1),
        slice("a", 0.1),
        object(),
    ],
)
def test_what_is_no_rate(lr: Any) -> None:
    with pytest.raises(ArgumentError):
        spread_rates(lr, NAMES)


def test_zero_keeps_a_group_as_it_is() -> None:
    assert spread_rates([0, 0.1, 0.1], NAMES)[0] == 0.0
