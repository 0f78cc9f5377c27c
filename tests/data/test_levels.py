from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from easylearn.data.levels import Lookup, from_json, in_order, kind, plain, to_json
from easylearn.errors import DataError


def test_levels_travel_through_json() -> None:
    values = [
        0.1,
        float("-inf"),
        2**70,
        True,
        "é\n",
        dt.date(1, 1, 1),
        Decimal("1e-30"),
        pd.Timestamp(1),
        pd.Timedelta(1),
    ]
    assert from_json(json.loads(json.dumps(to_json(values), allow_nan=False))) == values
    assert from_json(to_json([])) == []
    interval = pd.Interval(pd.Timestamp("2020"), pd.Timestamp("2021"), closed="left")
    assert from_json(json.loads(json.dumps(to_json([interval])))) == [interval]


def test_order_of_kinds() -> None:
    zoned, naive = pd.Timestamp("2020", tz="UTC"), pd.Timestamp("2021")
    values = ["b", 3, pd.Timedelta(1), zoned, naive, dt.date(2020, 1, 1), Decimal("2.5"), False, pd.Period("2020", "Y")]
    want = [False, Decimal("2.5"), 3, "b", dt.date(2020, 1, 1), naive, zoned, pd.Timedelta(1), pd.Period("2020", "Y")]
    assert in_order(values) == want
    assert in_order(reversed(values)) == want


@pytest.mark.parametrize(
    "value", [np.datetime64("2020-01-01"), np.timedelta64(3, "h"), dt.datetime(2020, 1, 1), dt.timedelta(1)]
)
def test_times_become_pandas_times(value: Any) -> None:
    assert kind(plain(value)) in ("timestamp", "timedelta")


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), b"bytes"], ids=["list", "dict", "object", "bytes"])
def test_what_can_be_no_level(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be a category"):
        plain(value)


DAY, TIME = dt.date(2024, 1, 31), pd.Timestamp("2024-01-31")


@pytest.mark.parametrize(
    ("levels", "values", "codes"),
    [
        ([], ["a", 1], [0, 0]),
        (
            [1, 2],
            [2.0, True, "1", " 2 ", "2.0", "1e0", Decimal(2), "3", "x", "1_0", ""],
            [3, 2, 2, 3, 3, 2, 3, 0, 0, 0, 0],
        ),
        (["1", "2"], [1, 2.0, Decimal("2.0"), 3, True], [2, 3, 3, 0, 0]),
        (["01", "1.10"], [1, 1.1, "1", "1.1"], [0, 0, 0, 0]),
        ([0.5, float("inf")], ["0.5", "inf", "nan", Decimal("0.5")], [2, 3, 0, 2]),
        ([Decimal("1.10"), Decimal("2")], ["1.1", 1.1, 2, "2", "snan", "nan"], [2, 2, 3, 3, 0, 0]),
        ([True, False], ["True", "false", 1, 0, "1", "maybe"], [2, 3, 2, 3, 2, 0]),
        (["True", "False"], [True, False, 1], [2, 3, 0]),
        (["a", 1], ["1", 1, 1.0, "a", "b"], [3, 3, 3, 2, 0]),
        (["1", 2], ["2", 1, "1", 2], [3, 2, 2, 3]),
        (["1", 1], ["1", 1], [2, 3]),
        ([DAY], [TIME, "2024-01-31", pd.Timestamp("2024-01-31 10:00"), "31/1", "x"], [2, 2, 0, 0, 0]),
        ([TIME], [DAY, "2024-01-31", "2024-01-31 00:00:00", "2024-01-31T00:00", "x", ""], [2, 2, 2, 2, 0, 0]),
        ([pd.Timestamp("2024-01-31 10:00")], ["2024-01-31 10:00", DAY], [2, 0]),
        ([pd.Timestamp("2024-01-31", tz="UTC")], ["2024-01-31T00:00Z", TIME, DAY], [2, 0, 0]),
        (["2024-01-31"], [DAY, TIME, pd.Timestamp("2024-02-01")], [2, 2, 0]),
        (["2024-01-31 00:00:00"], [TIME, DAY], [2, 0]),
        (["2024-01-31T10:00:00"], [pd.Timestamp("2024-01-31 10:00")], [2]),
        ([pd.Timedelta("1h")], ["0 days 01:00:00", "1h", "soon"], [2, 2, 0]),
        ([pd.Period("2024-01", "M")], ["2024-01", "2024-02"], [2, 0]),
        ([pd.Interval(0, 1)], ["(0, 1]", "(1, 2]"], [2, 0]),
        (["(0, 1]"], [pd.Interval(0, 1)], [2]),
        (["a", DAY, 3], [TIME, "3", "2024-01-31", "a"], [3, 4, 3, 2]),
    ],
)
def test_a_level_is_found_whatever_type_a_file_gave_it(levels: list[Any], values: list[Any], codes: list[int]) -> None:
    assert Lookup(levels, 2, 0).codes(values) == codes
    again = Lookup(from_json(json.loads(json.dumps(to_json(levels)))), 2, 0)
    assert again.codes(values) == codes


def test_a_column_is_found_in_the_file_that_pandas_writes_of_it(tmp_path: Any) -> None:
    columns = [[1, 2], [0.1, 1e300], ["a", "01"], [True, False], [DAY, dt.date(1, 1, 1)], [TIME, pd.Timestamp(1)],
               [pd.Timedelta("1h"), pd.Timedelta(1)], [pd.Interval(0, 1), pd.Interval(1, 2)],
               [Decimal("1.10"), Decimal("2")], [pd.Period("2024-01", "M"), pd.Period("2025-01", "M")]]  # fmt: skip
    for levels in columns:
        pd.DataFrame({"c": pd.Series(levels, dtype=object)}).to_csv(tmp_path / "t.csv", index=False)
        written = pd.read_csv(tmp_path / "t.csv", dtype=str)["c"].tolist()
        assert Lookup(levels, 2, 0).codes(written) == [2, 3], written


def test_levels_that_cannot_be_read() -> None:
    with pytest.raises(DataError, match=r"unknown kind 'os.system'"):
        from_json({"kind": "os.system", "values": ["x"]})
    with pytest.raises(DataError, match="cannot be read"):
        from_json({"kind": "int", "values": ["x"]})


def test_a_day_is_found_as_text_with_midnight_and_a_fraction_is_a_number() -> None:
    texts = ["2020-01-02 00:00:00", "2020-01-02T00:00:00", " 2020-01-02", "2020-01-02 01:00:00", "2020", "x"]
    assert Lookup([dt.date(2020, 1, 2)], 2, 0).codes(texts) == [2, 2, 2, 0, 0, 0]
    assert plain(Fraction(1, 8)) == 0.125 and kind(plain(Fraction(2))) == "float"
