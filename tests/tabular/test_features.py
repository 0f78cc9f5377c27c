from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError
from easylearn.tabular.features import add_datepart, elapsed_since, rolling_windows, to_times

NAMES = ["Year", "Month", "Week", "Day", "Dayofweek", "Dayofyear", "Is_month_end", "Is_month_start"]
NAMES += ["Is_quarter_end", "Is_quarter_start", "Is_year_end", "Is_year_start"]
EPOCH = dt.datetime(1970, 1, 1)


def slow_parts(t: dt.datetime) -> dict[str, Any]:
    """What the parts of a date are, by the standard library."""
    after = t.date() + dt.timedelta(days=1)
    return {
        "Year": t.year,
        "Month": t.month,
        "Week": t.isocalendar()[1],
        "Day": t.day,
        "Dayofweek": t.weekday(),
        "Dayofyear": t.timetuple().tm_yday,
        "Is_month_end": after.day == 1,
        "Is_month_start": t.day == 1,
        "Is_quarter_end": after.day == 1 and after.month in (1, 4, 7, 10),
        "Is_quarter_start": t.day == 1 and t.month in (1, 4, 7, 10),
        "Is_year_end": after.day == 1 and after.month == 1,
        "Is_year_start": t.day == 1 and t.month == 1,
        "Hour": t.hour,
        "Minute": t.minute,
        "Second": t.second,
        "Elapsed": (t - EPOCH) // dt.timedelta(seconds=1),
    }


# add_datepart


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)), min_size=1, max_size=20),
    st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_parts_are_those_of_the_standard_library_in_any_unit(times: list[dt.datetime], unit: str) -> None:
    df = pd.DataFrame({"SaleDate": np.array(times, f"datetime64[{unit}]")}, index=[7] * len(times))
    out = add_datepart(df, "SaleDate", time=True)
    assert list(out.columns) == ["Sale" + n for n in [*NAMES, "Hour", "Minute", "Second", "Elapsed"]]
    assert out.index.tolist() == [7] * len(times)
    for row, t in zip(out.to_dict("records"), times, strict=True):
        assert row == {"Sale" + k: v for k, v in slow_parts(t).items()}
    assert {str(d) for d in out.dtypes} == {"int64", "bool"}


def test_strings_that_pandas_reads_as_microseconds_give_seconds() -> None:
    out = add_datepart(pd.DataFrame({"date": ["2020-01-01", "1969-12-31 23:59:59"]}), "date")
    assert out["Elapsed"].tolist() == [1_577_836_800, -1]
    assert out["Week"].tolist() == [1, 1]
    assert out["Year"].tolist() == [2020, 1969]


def test_a_missing_date_is_missing_in_every_part() -> None:
    df = pd.DataFrame({"Date": pd.to_datetime(["2020-12-31", None])})
    out = add_datepart(df, "Date")
    assert out.iloc[1].isna().all()
    first = out.iloc[0].to_dict()
    want = slow_parts(dt.datetime(2020, 12, 31))
    assert first == {n: want[n] for n in [*NAMES, "Elapsed"]}
    assert str(out["Is_month_end"].dtype) == "boolean"
    assert out["Year"].dtype == np.float64
    nothing = add_datepart(pd.DataFrame({"Date": [None, None]}), "Date", time=True)
    assert nothing.isna().all().all()
    assert len(add_datepart(df.iloc[:0], "Date")) == 0


def test_zones_give_local_parts_and_elapsed_in_utc() -> None:
    times = pd.Series(pd.to_datetime(["2020-07-01 00:30", "2020-12-31 23:30"])).dt.tz_localize("Europe/Berlin")
    out = add_datepart(pd.DataFrame({"when": times}), "when", time=True, prefix="")
    assert out["Day"].tolist() == [1, 31]
    assert out["Hour"].tolist() == [0, 23]
    assert out["Elapsed"].tolist() == [int(t.timestamp()) for t in times]
    texts = add_datepart(pd.DataFrame({"when": ["2020-07-01T00:30+02:00", "2020-07-02T00:30+02:00"]}), "when")
    assert texts["whenDay"].tolist() == [1, 2]
    assert texts["whenElapsed"].iloc[0] == out["Elapsed"].iloc[0]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["2020-02-29", "2021-03-01"]),
        pd.Series(["2020-02-29", "2021-03-01"], dtype="string"),
        pd.Series(["2020-02-29", "2021-03-01"], dtype="category"),
        pd.Series([dt.date(2020, 2, 29), dt.date(2021, 3, 1)], dtype=object),
        pd.Series([dt.datetime(2020, 2, 29), pd.Timestamp("2021-03-01")], dtype=object),
        pd.Series(pd.PeriodIndex(["2020-02-29", "2021-03-01"], freq="D")),
        pd.Series(np.array(["2020-02-29", "2021-03-01"], "datetime64[s]"), dtype="category"),
    ],
)
def test_other_ways_to_hold_dates(column: pd.Series[Any]) -> None:
    out = add_datepart(pd.DataFrame({"d": column}).set_axis([3, 3]), "d")
    assert out["dDayofyear"].tolist() == [60, 60]
    assert out["dElapsed"].tolist() == [1_582_934_400, 1_614_556_800]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_arrow_times(zone: str | None) -> None:
    pa = pytest.importorskip("pyarrow")
    plain = pd.Series(pd.to_datetime(["2020-02-29 01:00", None])).dt.tz_localize(zone)
    df = pd.DataFrame({"d": plain})
    # A copy: with NumPy 1, pandas 3.0 writes 1970 into the missing times of what is cast to Arrow.
    arrow = df.copy(deep=True).astype({"d": pd.ArrowDtype(pa.timestamp("us", tz=zone))})
    pd.testing.assert_frame_equal(add_datepart(arrow, "d", time=True), add_datepart(df, "d", time=True))
    day = pd.DataFrame({"d": pd.Series([dt.date(2020, 2, 29), None], dtype=pd.ArrowDtype(pa.date32()))})
    assert add_datepart(day, "d")["dDay"].tolist()[0] == 29


def test_dates_out_of_reach_of_nanoseconds() -> None:
    out = add_datepart(pd.DataFrame({"d": np.array(["3000-01-01", "0001-01-01"], "datetime64[s]")}), "d")
    assert out["dYear"].tolist() == [3000, 1]
    assert out["dElapsed"].tolist() == [32_503_680_000, -62_135_596_800]


def test_a_column_of_the_tables_own_is_not_replaced() -> None:
    df = pd.DataFrame({"Date": ["2020-01-01", "2021-06-30"], "Year": [7, 8], "x": [1, 2]})
    with pytest.raises(ArgumentError, match=r"\['Year'\] of its own.*'Date'.*prefix='Date_'"):
        add_datepart(df, "Date")
    assert df["Year"].tolist() == [7, 8]
    other = add_datepart(df, "Date", prefix="Date_")
    assert other["Year"].tolist() == [7, 8] and other["Date_Year"].tolist() == [2020, 2021]


def test_add_datepart_is_pure_and_names_follow_fast_ai() -> None:
    df = pd.DataFrame({"saledate": ["2020-01-01"], "x": [1]})
    before = df.copy(deep=True)
    kept = add_datepart(df, "saledate", drop=False)
    pd.testing.assert_frame_equal(df, before)
    assert list(kept.columns[:3]) == ["saledate", "x", "saleYear"]
    again = add_datepart(kept, "saledate", drop=False)
    pd.testing.assert_frame_equal(again, kept)
    assert "dMonth" in add_datepart(df, "saledate", prefix="d").columns
    # "Updated" does end in "date" + "d": nothing is cut off.
    assert "UpdatedYear" in add_datepart(pd.DataFrame({"Updated": ["2020-01-01"]}), "Updated").columns


@pytest.mark.filterwarnings("ignore:Could not infer format")
@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["2020-01-01", "soon"], r"'d', row 1: 'soon' is not a date"),
        ([*["2020-01-01"] * 60, ["soon"]], r"'d', row 60: \['soon'\] is not a date"),
        ([20200101, 20200102], "holds numbers"),
        ([True, False], "holds numbers"),
        (["2020-01-01", "2020-13-01"], "row 1: '2020-13-01'"),
        ([["2020"]], "row 0"),
    ],
)
def test_what_is_no_date(column: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        add_datepart(pd.DataFrame({"d": column}), "d")


@pytest.mark.filterwarnings("ignore:.*mixed time ?zones:FutureWarning")
def test_mixed_zones_and_missing_columns() -> None:
    with pytest.raises(DataError, match="utc=True"):
        to_times(pd.DataFrame({"d": ["2020-01-01T00:00+01:00", "2020-01-01T00:00+02:00"]}), "d")
    with pytest.raises(DataError, match="Did you mean 'Date'"):
        add_datepart(pd.DataFrame({"Date": ["2020-01-01"]}), "Dates")


# elapsed_since

PANEL = st.lists(
    st.tuples(
        st.sampled_from([1, 2, None]),
        st.one_of(st.none(), st.integers(0, 12)),
        st.sampled_from([True, False, False]),
        st.one_of(st.none(), st.integers(-5, 5)),
    ),
    max_size=40,
)


def panel(rows: list[Any]) -> pd.DataFrame:
    start = pd.Timestamp("2015-01-01")
    df = pd.DataFrame(rows, columns=["Store", "day", "Promo", "v"])
    times = [pd.NaT if d is None or pd.isna(d) else start + pd.Timedelta(days=int(d)) for d in df["day"]]
    df["Date"] = pd.Series(pd.DatetimeIndex(times), index=df.index)
    df["Promo"] = df["Promo"].astype(bool)
    df["v"] = df["v"].astype(float)
    return df.set_index(pd.Index(np.arange(len(df)) % 3))


@settings(max_examples=120, deadline=None)
@given(PANEL, st.sampled_from(["s", "ns"]))
def test_elapsed_since_is_a_slow_loop(rows: list[Any], unit: str) -> None:
    df = panel(rows)
    df["Date"] = df["Date"].astype(f"datetime64[{unit}]")
    before = df.copy(deep=True)
    out = elapsed_since(df, "Promo")
    pd.testing.assert_frame_equal(df, before)
    assert list(out.columns) == ["AfterPromo", "BeforePromo"]
    assert out.index.equals(df.index)
    for i, (store, day, _, _) in enumerate(rows):
        events = (
            [] if store is None or day is None else [d for s, d, e, _ in rows if e and s == store and d is not None]
        )
        past, future = [day - d for d in events if d <= day], [d - day for d in events if d >= day]
        want = [min(past, default=np.nan), min(future, default=np.nan)]
        np.testing.assert_array_equal(out.iloc[i].to_numpy(), np.array(want, float))


def test_elapsed_since_takes_masks_groups_and_times_of_day() -> None:
    df = pd.DataFrame({"a": [1, 1, 2], "b": ["x", "x", "x"], "t": ["2020-01-02 12:00", "2020-01-01", "2020-01-03"]})
    mask = np.array([False, True, False])
    assert elapsed_since(df, mask, by=["a", "b"], date="t")["After"].tolist()[:2] == [1.5, 0.0]
    assert elapsed_since(df, mask, by=None, date="t")["After"].tolist() == [1.5, 0.0, 2.0]
    assert elapsed_since(df, [None, 1, 0], by=None, date="t")["Before"].isna().tolist() == [True, False, True]  # type: ignore[list-item]
    assert elapsed_since(df.iloc[:0], mask[:0], by="a", date="t").shape == (0, 2)


def test_clocks_that_change_do_not_break_days() -> None:
    times = pd.Series(pd.to_datetime(["2020-03-28", "2020-03-30"])).dt.tz_localize("Europe/Berlin")
    df = pd.DataFrame({"Store": 1, "Date": times, "e": [1, 0]})
    assert elapsed_since(df, "e")["Aftere"].tolist() == [0.0, 2.0]


def test_bad_events() -> None:
    df = pd.DataFrame({"Store": [1], "Date": ["2020-01-01"], "e": ["often"]})
    with pytest.raises(DataError, match="'e' holds text"):
        elapsed_since(df, "e")
    with pytest.raises(ArgumentError, match="one entry per row"):
        elapsed_since(df, [True, False])
    with pytest.raises(DataError, match="Shop"):
        elapsed_since(df, [True], by="Shop")


# rolling_windows


@settings(max_examples=120, deadline=None)
@given(
    PANEL,
    st.sampled_from([1, 2, 7]),
    st.sampled_from(["backward", "forward"]),
    st.sampled_from(["sum", "mean"]),
    st.booleans(),
    st.sampled_from(["s", "ns"]),
)
def test_rolling_windows_are_a_slow_loop(
    rows: list[Any], days: int, direction: Any, stat: Any, current: bool, unit: str
) -> None:
    df = panel(rows)
    df["Date"] = df["Date"].astype(f"datetime64[{unit}]")
    before = df.copy(deep=True)
    out = rolling_windows(df, "v", windows=[f"{days}D"], direction=direction, stat=stat, include_current=current)
    pd.testing.assert_frame_equal(df, before)
    assert list(out.columns) == [f"v_{stat}_{'next_' if direction == 'forward' else ''}{days}D"]
    assert out.index.equals(df.index)
    sign = 1 if direction == "backward" else -1
    for i, (store, day, _, _) in enumerate(rows):
        held = []
        for s, d, _, v in rows:
            if store is not None and day is not None and s == store and d is not None and v is not None:
                ago = sign * (day - d)
                # With the own date: that date and the days - 1 before it; without: the `days` days before it.
                if (0 <= ago < days) if current else (0 < ago <= days):
                    held.append(v)
        want = np.nan if not held else sum(held) if stat == "sum" else sum(held) / len(held)
        assert out.iloc[i, 0] == pytest.approx(want, nan_ok=True)


def test_rolling_windows_agree_with_pandas() -> None:
    rng = np.random.default_rng(0)
    days = pd.date_range("2013-01-01", periods=200)
    df = pd.DataFrame({"Store": np.repeat([1, 2, 3], 200), "Date": list(days) * 3, "v": rng.normal(size=600) * 1e6})
    shuffled = df.sample(frac=1, random_state=1)
    got = rolling_windows(shuffled, ["v"], windows=["7D", "30D"], stat="mean").sort_index()
    for window in ("7D", "30D"):
        want = df.groupby("Store").rolling(window, on="Date")["v"].mean().to_numpy()
        np.testing.assert_allclose(got[f"v_mean_{window}"], want, rtol=1e-9)


def test_a_huge_value_leaves_other_windows_exact() -> None:
    df = pd.DataFrame({"Store": 1, "Date": pd.date_range("2020-01-01", periods=4), "v": [1e20, 1.0, 2.0, 3.0]})
    assert rolling_windows(df, "v", windows=["2D"])["v_sum_2D"].tolist()[2:] == [3.0, 5.0]


def test_windows_of_hours_on_dates_in_seconds() -> None:
    times = np.array(["2020-01-01T00:00:00", "2020-01-01T00:00:01", "2020-01-01T00:00:02"], "datetime64[s]")
    df = pd.DataFrame({"g": 1, "t": times, "v": [1, 2, 4]})
    half = rolling_windows(df, "v", by="g", date="t", windows=[pd.Timedelta(milliseconds=1500)])
    assert half.iloc[:, 0].tolist() == [1, 3, 6]
    assert rolling_windows(df, "v", by=None, date="t", windows=["1h"]).iloc[:, 0].tolist() == [1, 3, 7]
    assert rolling_windows(df, "v", by=None, date="t", windows=[pd.Timedelta(days=7)]).columns.tolist() == ["v_sum_7D"]
    assert rolling_windows(df.iloc[:0], "v", by="g", date="t").shape == (0, 1)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"direction": "up"}, "direction must be one of"),
        ({"stat": "max"}, "stat must be one of"),
        ({"windows": "7D"}, "list of lengths"),
        ({"windows": ["week"]}, "length of time"),
        ({"windows": ["-7D"]}, "longer than nothing"),
        ({"windows": ["NaT"]}, "longer than nothing"),
    ],
)
def test_bad_windows(settings_: dict[str, Any], words: str) -> None:
    df = pd.DataFrame({"Store": [1], "Date": ["2020-01-01"], "v": [1]})
    with pytest.raises(ArgumentError, match=words):
        rolling_windows(df, "v", **settings_)
