from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError
from easylearn.tabular.split import split_rows

DAYS = pd.Series(pd.date_range("2024-01-01", periods=100), name="day")


def shuffled(column: pd.Series, seed: int = 0) -> pd.Series:
    return column.iloc[np.random.default_rng(seed).permutation(len(column))]


# -- compared with plain pandas ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["2W", "14D", "336h", dt.timedelta(days=14), pd.Timedelta("14D")])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_last_weeks(length: str | dt.timedelta, unit: str) -> None:
    time = shuffled(DAYS).astype(f"datetime64[{unit}]")
    train, valid = split_rows(100, length, time=time)
    last = time > pd.Timestamp("2024-04-09") - pd.Timedelta(days=14)  # 9 April is the last day
    np.testing.assert_array_equal(valid, np.flatnonzero(last))
    np.testing.assert_array_equal(train, np.flatnonzero(~last))
    assert len(valid) == 14


@pytest.mark.parametrize("kind", ["text", "period", "zone", "number", "object"])
def test_the_last_share_of_every_kind_of_time(kind: str) -> None:
    time = {
        "text": DAYS.dt.strftime("%Y-%m-%d"),
        "period": DAYS.dt.to_period("D"),
        "zone": DAYS.dt.tz_localize("Europe/Berlin"),
        "number": pd.Series(np.arange(100.0)),
        "object": DAYS.dt.date,
    }[kind]
    train, valid = split_rows(100, 0.3, time=time)
    np.testing.assert_array_equal(valid, np.arange(70, 100))
    np.testing.assert_array_equal(train, np.arange(70))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=40), st.floats(0.05, 0.95), st.integers(0, 9))
def test_groups_stay_whole_and_every_row_is_on_one_side(groups: list[int], share: float, seed: int) -> None:
    named = pd.Series([None if g == 0 else f"g{g}" for g in groups], dtype=object)
    if len(set(groups)) < 2:
        with pytest.raises(ArgumentError):
            split_rows(len(groups), share, seed=seed, groups=named)
        return
    train, valid = split_rows(len(groups), share, seed=seed, groups=named)
    assert sorted([*train, *valid]) == list(range(len(groups))) and len(train) and len(valid)
    assert not {groups[i] for i in train} & {groups[i] for i in valid}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=40), st.floats(0.05, 0.95))
def test_one_time_stays_on_one_side_and_validation_is_later(times: list[int], share: float) -> None:
    time = pd.Series(times, name="t")
    try:
        train, valid = split_rows(len(times), share, time=time)
    except ArgumentError:
        # Only where the rows of the first time alone are more than the rest of the share.
        assert times.count(min(times)) > len(times) - max(round(share * len(times)), 1)
        return
    assert sorted([*train, *valid]) == list(range(len(times)))
    assert max(times[i] for i in train) < min(times[i] for i in valid)
    assert len(valid) >= max(round(share * len(times)), 1)


# -- behaviour ---------------------------------------------------------------------------------------------


def test_fraction_positions_and_mask() -> None:
    train, valid = split_rows(50, 0.2, seed=3)
    again = split_rows(50, 0.2, seed=3)
    assert len(valid) == 10 and np.array_equal(valid, again[1]) and not np.array_equal(valid, split_rows(50, 0.2)[1])
    mask = np.isin(np.arange(50), [7, 3])
    for given_rows in ([7, 3], np.array([3, 7]), mask):
        assert split_rows(50, given_rows)[1].tolist() == [3, 7]
    assert sorted([*train, *valid]) == list(range(50))


def test_classes_give_their_share() -> None:
    codes = np.array([0] * 80 + [1] * 20)
    _, valid = split_rows(100, 0.1, stratify=codes)
    assert np.bincount(codes[valid]).tolist() == [8, 2]


def test_positions_ignore_the_index() -> None:
    time = DAYS.copy()
    time.index = pd.Index([5] * 100)
    assert split_rows(100, "1D", time=time)[1].tolist() == [99]
    groups = pd.Series(["a"] * 60 + ["b"] * 40, index=[0] * 100)
    assert split_rows(100, 0.4, groups=groups)[1].tolist() == list(range(60, 100))


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("valid", "match"),
    [
        ("soon", "no length of time"),
        ("-2D", "longer than nothing"),
        ("0D", "longer than nothing"),
        ("NaT", "longer than nothing"),
        ("1000D", "so none would train"),
        (1.5, "fraction such as 0.1 or a length"),
        (0.0, "fraction such as 0.1 or a length"),
        ([1, 2], "fraction such as 0.1 or a length"),
    ],
)
def test_lengths_that_cannot_be(valid: object, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        split_rows(100, valid, time=DAYS)  # type: ignore[arg-type]


def test_arguments_that_contradict_each_other() -> None:
    with pytest.raises(ArgumentError, match="groups or time, not both"):
        split_rows(100, 0.1, time=DAYS, groups=DAYS)
    with pytest.raises(ArgumentError, match="name the column of times"):
        split_rows(100, "2W")
    with pytest.raises(ArgumentError, match="so valid must be a fraction"):
        split_rows(100, "2W", time=pd.Series(np.arange(100)))
    with pytest.raises(ArgumentError):
        split_rows(100, [100])
    with pytest.raises(ArgumentError):
        split_rows(100, list(range(100)))
    with pytest.raises(ArgumentError):
        split_rows(100, np.zeros(99, bool))


@pytest.mark.filterwarnings("ignore:Could not infer format")
def test_times_that_are_missing_or_none() -> None:
    holes = DAYS.copy()
    holes.iloc[[4, 9]] = pd.NaT
    with pytest.raises(DataError, match="2 rows of the time column 'day' are empty, the first is row 4"):
        split_rows(100, "2W", time=holes)
    with pytest.raises(DataError, match="'word' cannot be read as times"):
        split_rows(3, 0.4, time=pd.Series(["x", "y", "z"], name="word"))
