"""Times by which items are split: read from any kind of column; a date that could be read in two ways is told."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, DataError, EasyLearnWarning

if TYPE_CHECKING:
    import pandas as pd

_DATE = re.compile(
    r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{1,2}([-/])\d{1,2}\2\d\d)([ T].*)?$"
)
_DAY_MONTH = re.compile(r"\s*(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(\D.*)?")


def says_date(value: object) -> bool:
    """Whether it is a text that looks like a date, with or without a time of day.

    >>> [says_date(text) for text in ("2024-01-31", "31/1/24 10:00", "1.2.34", "3-4")]
    [True, True, False, False]
    """
    return isinstance(value, str) and _DATE.match(value) is not None


def read_times(time: Any, n: int) -> pd.Series[Any]:
    """Times, or the numbers that stand for them, one per item and none missing, as datetime64 or numbers.

    Args:
        time: a column, array or list of times of any kind, of text that says them, or of numbers.
        n: how many items there are.

    Raises:
        ArgumentError: there is not one time per item.
        DataError: a time is missing or cannot be read; the row is named.

    >>> read_times(["31.1.2024", "1.2.2024"], 2).dt.month.tolist()
    [1, 2]
    """
    import pandas as pd

    column: pd.Series[Any] = pd.Series(time).reset_index(drop=True)
    name = "time" if column.name is None else str(column.name)
    if len(column) != n:
        raise ArgumentError(f"time must have one entry per item: got {len(column)} entries for {n} items")
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.start_time
    elif not (types.is_datetime64_any_dtype(column.dtype) or types.is_numeric_dtype(column.dtype)):
        column = _of_objects(column, name)
    missing = np.flatnonzero(column.isna().to_numpy())
    if missing.size:
        raise DataError(
            f"{missing.size} rows of the time column {name!r} are empty, the first is row {missing[0]}; it is not "
            "known on which side they belong, so leave them out"
        )
    return column


def length_of(given: str | dt.timedelta, argument: str) -> pd.Timedelta:
    """A length of time, longer than nothing; an ArgumentError says what is none.

    >>> length_of("2W", "valid").days
    14
    """
    import pandas as pd

    try:
        length: pd.Timedelta = pd.Timedelta(given)
    except ValueError as error:
        raise ArgumentError(f"{argument}={given!r} is no length of time, such as '6W', '42D' or '12h'") from error
    if not length > pd.Timedelta(0):
        raise ArgumentError(f"{argument}={given!r} must be longer than nothing")
    return length


def _of_objects(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Text and Python's own dates as times; each different one is read once."""
    import pandas as pd

    codes, found = pd.factorize(column.where(column != "", None))
    distinct = pd.Series(list(found), dtype=object)
    if all(isinstance(v, str) for v in distinct):
        read = _of_text(distinct, name)
    else:
        read = pd.to_datetime(distinct, errors="coerce")
    bad = np.flatnonzero(read.isna())
    if bad.size:
        raise DataError(
            f"time column {name!r}, row {int(np.argmax(codes == bad[0]))}: {distinct[bad[0]]!r} cannot be read as a "
            "time; write it as 2024-01-31, or turn the column into times with pd.to_datetime"
        )
    return read.reindex(codes).reset_index(drop=True)


def _of_text(texts: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Texts as times: as ISO 8601 has them, as numbers, or as people write them."""
    import pandas as pd

    with suppress(ValueError):
        return pd.to_datetime(texts, format="ISO8601")
    with suppress(ValueError):
        return pd.to_numeric(texts)
    try:
        return pd.to_datetime(texts, format="mixed", dayfirst=_day_first(texts, name), errors="coerce")
    except ValueError as error:  # times of several zones
        raise DataError(f"the time column {name!r} cannot be read as times: {error}") from error


def _day_first(texts: Iterable[str], name: str) -> bool:
    """Whether dates such as 3/4/2024 begin with the day; where nothing tells, the usual way is taken and told.

    Raises:
        DataError: some dates must begin with the day, and others with the month.
    """
    found = [(text, match) for text in texts if (match := _DAY_MONTH.fullmatch(text))]
    day = next((text for text, match in found if int(match[1]) > 12), None)
    month = next((text for text, match in found if int(match[3]) > 12), None)
    if day is not None and month is not None:
        raise DataError(
            f"the time column {name!r} has dates that begin with the day, such as {day!r}, and others that begin with "
            f"the month, such as {month!r}; write all of them as 2024-01-31"
        )
    if day is not None or month is not None or not found:
        return day is not None
    text, match = found[0]
    by_day = match[2] == "."  # as most who write dots do; with other signs as pandas reads them
    if match[1] != match[3]:
        warnings.warn(
            f"every date of the time column {name!r} could begin with the day or with the month; {text!r} is taken as "
            f"{'day, month, year' if by_day else 'month, day, year'}. If that is wrong, turn the column into times: "
            f"pd.to_datetime(df[{name!r}], dayfirst={not by_day})",
            EasyLearnWarning,
            stacklevel=2,
        )
    return by_day
