"""A column of every type that can hold categories, with the levels that are in it, in order."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

COLUMNS: dict[str, tuple[Any, list[Any]]] = {
    "object text": (pd.Series(["b", "a", None, "b", np.nan], dtype=object), ["a", "b"]),
    "string": (pd.Series(["b", "a", None, "b", None], dtype="string"), ["a", "b"]),
    "numpy text": (pd.Series(np.array(["b", "a", "a", "b", "c"])), ["a", "b", "c"]),
    "int": (pd.Series([3, 1, 2, 3, 3]), [1, 2, 3]),
    "uint8": (pd.Series([3, 1, 2, 3, 255], dtype="uint8"), [1, 2, 3, 255]),
    "float": (pd.Series([3.5, 1.0, None, np.inf, 3.5]), [1.0, 3.5, np.inf]),
    "bool": (pd.Series([True, False, True, True, True]), [False, True]),
    "bool with gaps": (pd.Series([True, False, None, True, True], dtype=object), [False, True]),
    "boolean": (pd.Series([True, False, None, True, True], dtype="boolean"), [False, True]),
    "Int64": (pd.Series([3, 1, None, 3, 3], dtype="Int64"), [1, 3]),
    "Float64": (pd.Series([3.5, 1.0, None, 3.5, 3.5], dtype="Float64"), [1.0, 3.5]),
    "mixed": (pd.Series(["b", 2, None, "a", 1.5], dtype=object), [1.5, 2, "a", "b"]),
    "mixed numbers": (pd.Series([2, True, None, 1.5, 0.0], dtype=object), [0.0, True, 1.5, 2]),
    "categorical": (pd.Series(pd.Categorical(["b", "a", None, "b", "a"], categories=["z", "b", "a"])), ["a", "b"]),
    "ordered": (
        pd.Series(pd.Categorical(["lo", "hi", None, "lo", "hi"], categories=["lo", "mid", "hi"], ordered=True)),
        ["lo", "hi"],
    ),
    "categorical ints": (pd.Series(pd.Categorical([5, 3, None, 5, 3])), [3, 5]),
    "time": (
        pd.Series(pd.DatetimeIndex(["2020-01-02", "2019-05-05 10:00:00.000001", None, "2020-01-02", None])),
        [pd.Timestamp("2019-05-05 10:00:00.000001"), pd.Timestamp("2020-01-02")],
    ),
    "time with zone": (
        pd.Series(pd.to_datetime(["2020-01-02", "2019-05-05", None, None, None])).dt.tz_localize("Europe/Berlin"),
        [pd.Timestamp("2019-05-05", tz="Europe/Berlin"), pd.Timestamp("2020-01-02", tz="Europe/Berlin")],
    ),
    "duration": (
        pd.Series(pd.to_timedelta([2, 1, None, 2, 2], unit="h")),
        [pd.Timedelta(hours=1), pd.Timedelta(hours=2)],
    ),
    "period": (
        pd.Series(pd.PeriodIndex(["2020-02", "2020-01", None, "2020-01", "2020-01"], freq="M")),
        [pd.Period("2020-01", "M"), pd.Period("2020-02", "M")],
    ),
    "date": (
        pd.Series([dt.date(2020, 1, 2), dt.date(2019, 1, 1), None, None, None], dtype=object),
        [dt.date(2019, 1, 1), dt.date(2020, 1, 2)],
    ),
    "decimal": (
        pd.Series([Decimal("1.10"), Decimal("0.5"), None, None, None], dtype=object),
        [Decimal("0.5"), Decimal("1.10")],
    ),
    "interval": (
        pd.cut(pd.Series([0.5, 2.5, None, 0.5, 9]), [0, 1, 2, 3]),
        [pd.Interval(0, 1, closed="right"), pd.Interval(2, 3, closed="right")],
    ),
    "all missing": (pd.Series([None] * 5, dtype=object), []),
}
