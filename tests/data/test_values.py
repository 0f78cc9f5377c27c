from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from easylearn.data import values as reading
from easylearn.data.values import factorize, numbers, refuse_rows
from easylearn.errors import DataError
from tests.data.columns import COLUMNS

NUMBERS: dict[str, tuple[Any, list[float]]] = {
    "int": (pd.Series([1, 2]), [1, 2]),
    "bool": (pd.Series([True, False]), [1, 0]),
    "float32": (pd.Series([0.5, None], dtype="float32"), [0.5, np.nan]),
    "Int64": (pd.Series([1, None], dtype="Int64"), [1, np.nan]),
    "Float64": (pd.Series([1.5, None], dtype="Float64"), [1.5, np.nan]),
    "boolean": (pd.Series([True, None], dtype="boolean"), [1, np.nan]),
    "objects": (
        pd.Series([1, None, 2.5, True, Decimal("0.5"), pd.NA, np.float32(2)], dtype=object),
        [1, np.nan, 2.5, 1, 0.5, np.nan, 2],
    ),
    "text": (
        pd.Series([" 1", "2e3", None, "", "NaN", "n/a", "-inf"]),
        [1, 2000, np.nan, np.nan, np.nan, np.nan, -np.inf],
    ),
    "string": (pd.Series(["1", None], dtype="string"), [1, np.nan]),
    "text and numbers": (pd.Series(["1.5", 2, None], dtype=object), [1.5, 2, np.nan]),
    "duration": (pd.Series(pd.to_timedelta(["1h", None, "1s"])), [3600, np.nan, 1]),
    "duration in ms": (pd.Series(np.array([1500, 0], "timedelta64[ms]")), [1.5, 0]),
    "categorical": (pd.Series(pd.Categorical([3, None, 5])), [3, np.nan, 5]),
    "categorical text": (pd.Series(pd.Categorical(["3", None])), [3, np.nan]),
    "all missing": (pd.Series([None, None], dtype=object), [np.nan, np.nan]),
    "none": (pd.Series([], dtype=object), []),
    "large": (pd.Series([2**63, 1], dtype=object), [2.0**63, 1]),
    "beyond every float": (pd.Series([10**400, -(10**400), 1, None], dtype=object), [np.inf, -np.inf, 1, np.nan]),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_of_every_dtype(what: str) -> None:
    column, want = NUMBERS[what]
    got = numbers(column)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, np.array(want, float))


def test_a_category_that_no_row_has_need_not_be_a_number() -> None:
    column = pd.Series(pd.Categorical(["1.5", None, "2"], ["2", "no number", "1.5"]), name="c")
    np.testing.assert_array_equal(numbers(column), [1.5, np.nan, 2.0])
    with pytest.raises(DataError, match="'c' holds text in row 1: 'no number'"):
        numbers(column.fillna("no number"))


@pytest.mark.parametrize("what", COLUMNS)
def test_short_and_long_columns_are_factorized_alike(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    column = COLUMNS[what][0]
    codes, values = factorize(column)
    monkeypatch.setattr(reading, "_SHORT", 0)
    codes2, values2 = factorize(column)
    decoded = [None if c < 0 else values[c] for c in codes]
    assert decoded == [None if c < 0 else values2[c] for c in codes2]


def test_arrow_durations_and_lists() -> None:
    pa = pytest.importorskip("pyarrow")
    spans = pd.Series([dt.timedelta(hours=1), None], dtype=pd.ArrowDtype(pa.duration("us")))
    np.testing.assert_array_equal(numbers(spans), [3600, np.nan])
    for n in (1, 50):
        lists = pd.Series([[1, 2]] * n, name="c", dtype=pd.ArrowDtype(pa.list_(pa.int64())))
        with pytest.raises(DataError, match=r"'c', row 0: .*cannot be a category"):
            factorize(lists)


@pytest.mark.parametrize("value", [dt.date(2020, 1, 1), pd.Timestamp("2020-01-01")])
def test_dates_among_objects_are_named_with_what_makes_numbers_of_them(value: Any) -> None:
    with pytest.raises(DataError, match=r"'c' holds \w+ in row 0.*add_datepart\(df, 'c'\)"):
        numbers(pd.Series([value], name="c", dtype=object))


def test_rows_are_named_as_the_caller_names_them() -> None:
    column = pd.Series([1, 2, 3], name="y", index=["p", "q", "r"])
    refuse_rows(column, np.array([], np.int64), "nothing")
    with pytest.raises(DataError, match=r"2 of 3 rows of the target 'y' are odd. Rows: row 1 \(index 'q'\), row 2"):
        refuse_rows(column, np.array([1, 2]), "are odd")
    with pytest.raises(DataError, match=r"Rows: t\.csv line 3$"):
        refuse_rows(column, np.array([1]), "are odd", lambda i: f"t.csv line {i + 2}")
    with pytest.raises(DataError, match=r"row 4 and 45 more"):
        refuse_rows(pd.Series(range(50)), np.arange(50), "are odd")
    with pytest.raises(DataError, match=r"^the target 'y' holds text in line 1: 'x'. Turn it into a number$"):
        numbers(pd.Series(["1", "x"], name="y"), "target", lambda i: f"line {i}")
