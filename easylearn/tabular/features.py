"""Features out of dates and of the history of a shop, a patient, a machine: computed on whole columns at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..data.values import Bools, Floats, numbers, require_columns, row_name
from ..errors import ArgumentError, DataError

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Direction = Literal["backward", "forward"]
Stat = Literal["sum", "mean"]
_NAT = np.iinfo(np.int64).min
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_PARTS = ("Year", "Month", "Week", "Day", "Dayofweek", "Dayofyear")
_RENAMED = {"Dayofweek": "day_of_week", "Dayofyear": "day_of_year"}
_FLAGS = tuple(f"Is_{span}_{end}" for span in ("month", "quarter", "year") for end in ("end", "start"))
_CLOCK = ("Hour", "Minute", "Second")


def add_datepart(
    df: pd.DataFrame, column: str, drop: bool = True, time: bool = False, prefix: str | None = None
) -> pd.DataFrame:
    """A table with the parts of a date as columns of their own.

    Args:
        df: the table. It is left as it is.
        column: times of any unit and zone, days, periods, or text that can be read as times.
        drop: leave `column` out of the result.
        time: add Hour, Minute and Second too.
        prefix: what the new names begin with; None means the column's name without a final "Date".

    Returns:
        A new table: <prefix>Year, Month, Week (ISO 8601), Day, Dayofweek (Monday is 0), Dayofyear, Is_month_end,
        Is_month_start, Is_quarter_end, Is_quarter_start, Is_year_end, Is_year_start and [Hour, Minute, Second] in the
        column's own time zone; Elapsed, seconds since 1970 (UTC). Where the date is missing, so are they.

    Raises:
        DataError: the column is missing, or holds something that is no date (naming the row).
        ArgumentError: the table has another column of such a name; choose another `prefix`.

    >>> import pandas as pd
    >>> df = add_datepart(pd.DataFrame({"SaleDate": ["2020-01-01", "2021-12-31"]}), "SaleDate")
    >>> df[["SaleYear", "SaleWeek", "SaleIs_year_end", "SaleElapsed"]].values.tolist()
    [[2020, 1, False, 1577836800], [2021, 52, True, 1640908800]]
    """
    import pandas as pd

    times = to_times(df, column)
    start = re.sub("[Dd]ate$", "", column) if prefix is None else prefix
    missing = times.isna()
    any_missing = bool(missing.any())
    parts = pd.DataFrame(index=df.index)
    for name in (*_PARTS, *_FLAGS, *(_CLOCK if time else ())):
        part = times.dt.isocalendar().week if name == "Week" else getattr(times.dt, _RENAMED.get(name, name.lower()))
        if name in _FLAGS:
            parts[start + name] = part.astype("boolean").mask(missing) if any_missing else part.astype(np.bool_)
        else:
            parts[start + name] = part.astype(np.float64 if any_missing else np.int64)
    utc = times.dt.tz_convert(None) if times.dt.tz is not None else times
    elapsed = pd.Series(utc.to_numpy().astype("datetime64[s]").astype(np.int64), index=df.index)
    parts[start + "Elapsed"] = elapsed.mask(missing) if any_missing else elapsed
    kept = df.drop(columns=column) if drop else df
    again = [n for n in parts.columns if n in kept.columns]
    if others := [n for n in again if not parts[n].equals(kept[n])]:
        raise ArgumentError(
            f"the table has columns {others} of its own, which the parts of {column!r} would replace; give these "
            f"another beginning, such as prefix={column + '_'!r}"
        )
    made: pd.DataFrame = pd.concat([kept.drop(columns=again), parts], axis=1)
    return made


def elapsed_since(
    df: pd.DataFrame,
    event: str | Sequence[bool] | npt.NDArray[Any] | pd.Series[Any],
    by: str | Sequence[str] | None = "Store",
    date: str = "Date",
) -> pd.DataFrame:
    """How long ago the last event was, and how far off the next one is, within each group.

    The order of the rows plays no part: they are sorted by date inside. On the day of an event both are 0.

    Args:
        df: one row per group and date, or several. It is left as it is.
        event: a column that is true (or not 0) where an event happened, or one such value per row.
        by: the column or columns that make the groups; None means one group.
        date: the column of dates; times with a zone are taken as their clocks show them.

    Returns:
        Columns "After<event>" (days since the last event) and "Before<event>" (days until the next one), float64,
        with the index and the order of `df`; NaN where there is no such event, or no date or group.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"Store": 1, "Date": ["2015-01-03", "2015-01-01", "2015-01-02"], "Promo": [0, 0, 1]})
    >>> elapsed_since(df, "Promo").values.tolist()
    [[1.0, nan], [nan, 1.0], [0.0, 0.0]]
    """
    import pandas as pd

    groups, ticks, per_day = _panel(df, by, date)
    name = event if isinstance(event, str) else ""
    rows = pd.DataFrame({"group": groups, "tick": ticks, "row": np.arange(len(df))})
    rows = rows[groups >= 0].sort_values("tick", kind="stable")
    events = rows[_truth(df, event)[rows["row"]]].rename(columns={"row": "event"})
    result: pd.DataFrame = pd.DataFrame(index=df.index)
    directions: dict[str, Direction] = {"After": "backward", "Before": "forward"}
    for label, direction in directions.items():
        found = pd.merge_asof(rows, events, on="tick", by="group", direction=direction).dropna()
        at, of_event = found["row"].to_numpy(), found["event"].to_numpy(np.int64)
        days = np.full(len(df), np.nan)
        days[at] = np.abs(ticks[at] - ticks[of_event]) / per_day
        result[label + name] = days
    return result


def rolling_windows(
    df: pd.DataFrame,
    columns: str | Sequence[str],
    by: str | Sequence[str] | None = "Store",
    date: str = "Date",
    windows: Sequence[str | pd.Timedelta] = ("7D",),
    direction: Direction = "backward",
    stat: Stat = "sum",
    include_current: bool = True,
) -> pd.DataFrame:
    """Sums or means over the days before or after each row, within its group.

    The order of the rows plays no part. A window of "7D" that looks backward holds the row's own date and the
    six days before it; all rows of a date are in it or none. Missing values are left out.

    Args:
        df: the table. It is left as it is.
        columns: the columns of numbers to add up.
        by: the column or columns that make the groups; None means one group.
        date: the column of dates; times with a zone are taken as their clocks show them.
        windows: lengths, as pandas writes them: "7D", "36h".
        direction: "backward" (up to the row's date) or "forward" (from it on).
        stat: "sum" or "mean".
        include_current: whether rows of the row's own date are in the window. Say False for anything that is not
            known on the day itself, such as the target: the window is then the days before (or after) that date.

    Returns:
        A column "<column>_<stat>_<window>" (forward: "..._next_<window>") for each column and window, float64, with
        the index and the order of `df`; NaN where a window holds no value, or the row no date or group.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"Store": 1, "Date": pd.date_range("2015-01-01", periods=3), "Promo": [1, 1, 0]})
    >>> rolling_windows(df, "Promo", windows=["2D"])["Promo_sum_2D"].tolist()
    [1.0, 2.0, 1.0]
    """
    import pandas as pd

    for what, given, known in (("direction", direction, ("backward", "forward")), ("stat", stat, ("sum", "mean"))):
        if given not in known:
            raise ArgumentError(f"{what} must be one of {known}, got {given!r}")
    if isinstance(windows, str):
        raise ArgumentError(f"windows must be a list of lengths, got the word {windows!r}; write [{windows!r}]")
    names = [columns] if isinstance(columns, str) else list(columns)
    require_columns(df, names)
    groups, ticks, per_day = _panel(df, by, date)
    if direction == "forward":  # the days after are the days before, with time running backwards
        ticks = np.where(ticks == _NAT, _NAT, -ticks)
    order = np.lexsort((ticks, groups))
    order = order[groups[order] >= 0]
    g, t = groups[order], ticks[order]
    moments, moment = np.unique(t, return_inverse=True)
    # Groups and moments as one sorted key, so that one search finds the ends of every window.
    width = len(moments) + 1
    key = g * width + moment
    values = {}
    for name in names:
        x = numbers(df[name])[order]
        there = ~np.isnan(x)
        # reduceat may not start at the very end: one more place that holds nothing.
        values[name] = np.append(np.where(there, x, 0.0), 0.0), np.r_[0, np.cumsum(there)]
    out: dict[str, Floats] = {}
    for window in windows:
        length, label = _window(window, per_day)
        span = moments - length
        before = np.searchsorted(moments, span, side="right" if include_current else "left")
        start = np.searchsorted(key, g * width + before[moment], side="left")
        stop = np.searchsorted(key, key, side="right" if include_current else "left")
        for name in names:
            x, counted = values[name]
            n = counted[stop] - counted[start]
            total = np.add.reduceat(x, np.column_stack([start, stop]).ravel())[::2]
            result = np.full(len(df), np.nan)
            with np.errstate(invalid="ignore", divide="ignore"):
                result[order] = np.where(n > 0, total if stat == "sum" else total / n, np.nan)
            out[f"{name}_{stat}_{'next_' if direction == 'forward' else ''}{label}"] = result
    frame: pd.DataFrame = pd.DataFrame(out, index=df.index)
    return frame


def to_times(df: pd.DataFrame, column: str) -> pd.Series[Any]:
    """A column as pandas times, in the unit and zone it has; text is read, missing text is a missing time."""
    import pandas as pd

    require_columns(df, [column])
    given: pd.Series[Any] = df[column]
    types = pd.api.types
    dtype = given.cat.categories.dtype if isinstance(given.dtype, pd.CategoricalDtype) else given.dtype
    if types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype):
        raise DataError(
            f"column {column!r} holds numbers ({dtype}), which may be years, days or seconds; turn them into dates "
            f"with pd.to_datetime(df[{column!r}], unit=... or format=...)"
        )
    if dtype is not given.dtype:
        given = given.astype(dtype)
    if isinstance(given.dtype, pd.PeriodDtype):
        given = given.dt.to_timestamp()
    if isinstance(given.dtype, np.dtype | pd.DatetimeTZDtype) and types.is_datetime64_any_dtype(given.dtype):
        return given
    if types.is_datetime64_any_dtype(given.dtype):  # Arrow
        if given.dtype.name.startswith("date"):
            given = given.astype("timestamp[ms][pyarrow]")
        tz = given.dt.tz
        plain = given.dt.tz_convert("UTC").dt.tz_localize(None) if tz is not None else given
        local: pd.Series[Any] = pd.Series(plain.to_numpy(f"datetime64[{given.dt.unit}]"), index=given.index)
        return local if tz is None else local.dt.tz_localize("UTC").dt.tz_convert(tz)
    return _read_times(given, column)


def _read_times(given: pd.Series[Any], column: str) -> pd.Series[Any]:
    """Text or Python objects as times."""
    import pandas as pd

    why = "the times have different zones"
    # Dates with and without a time of day are of two formats to pandas, but of one standard.
    for form in (None, "ISO8601"):
        try:
            read = pd.to_datetime(given, format=form)
        except (ValueError, TypeError, OverflowError) as error:
            why = str(error)
        else:
            if pd.api.types.is_datetime64_any_dtype(read.dtype):
                return read
    alone = pd.to_datetime(given, errors="coerce", format="mixed", utc=True, cache=False)  # a cache wants to hash lists
    for i in np.flatnonzero(alone.isna() & given.notna())[:1].tolist():
        value = given.iloc[i]
        raise DataError(f"column {column!r}, {row_name(given, i)}: {value!r} is not a date that can be read")
    raise DataError(
        f"column {column!r} cannot be read as dates: {why}. Say how they are written: "
        f"pd.to_datetime(df[{column!r}], format=..., utc=True)"
    )


def _panel(df: pd.DataFrame, by: str | Sequence[str] | None, date: str) -> tuple[Ints, Ints, int]:
    """Per row its group (-1: none) and its time as a whole number, and how many of these make a day."""
    keys = [] if by is None else [by] if isinstance(by, str) else list(by)
    require_columns(df, [*keys, date])
    times = to_times(df, date)
    if times.dt.tz is not None:
        times = times.dt.tz_localize(None)
    ticks = times.to_numpy().astype(np.int64)
    groups = np.zeros(len(df), np.int64)
    if keys:
        grouped = df.groupby(keys, sort=False, dropna=True, observed=True)
        groups = grouped.ngroup().to_numpy(np.float64, na_value=-1).astype(np.int64)
    groups[ticks == _NAT] = -1
    return groups, ticks, _PER_DAY[str(times.dt.unit)]


def _truth(df: pd.DataFrame, event: str | Sequence[bool] | npt.NDArray[Any] | pd.Series[Any]) -> Bools:
    """Where an event happened; a missing entry is no event."""
    import pandas as pd

    if isinstance(event, str):
        require_columns(df, [event])
        given = df[event]
    else:
        given = pd.Series(np.asarray(event), name="event")
        if len(given) != len(df):
            raise ArgumentError(f"event must have one entry per row ({len(df)}), got {len(given)}")
    happened: Bools = np.nan_to_num(numbers(given)) != 0
    return happened


def _window(window: str | pd.Timedelta, per_day: int) -> tuple[int, str]:
    """The length of a window in the time unit of the dates, rounded up, and what to call it."""
    import pandas as pd

    try:
        length = pd.Timedelta(window)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"a window is a length of time such as '7D' or '36h', got {window!r}") from error
    if pd.isna(length) or length <= pd.Timedelta(0):
        raise ArgumentError(f"a window must be longer than nothing, got {window!r}")
    label = window if isinstance(window, str) else f"{length / pd.Timedelta(days=1):g}D"
    return -(-(length // pd.Timedelta(1, "ns")) * per_day // _PER_DAY["ns"]), label
