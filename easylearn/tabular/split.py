"""Which rows of a table validate: a share, chosen rows, whole groups, or the last part by time."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..data.split import Indices, Split, split_indices
from ..errors import ArgumentError, DataError

if TYPE_CHECKING:
    import pandas as pd

TableSplit = Split | str | dt.timedelta
"""What `valid=` takes: see `easylearn.data.split.Split`; with `time=` also how long the last part is, such as "6W"."""


def split_rows(
    n: int,
    valid: TableSplit,
    *,
    seed: int = 0,
    stratify: npt.NDArray[np.int64] | None = None,
    groups: pd.Series[Any] | None = None,
    time: pd.Series[Any] | None = None,
) -> tuple[Indices, Indices]:
    """Split the rows of a table.

    Args:
        n: how many rows there are.
        valid: a fraction, positions or a mask; with `time` a fraction or a length of time.
        seed: of the split by fraction.
        stratify: class numbers; each class gives its share.
        groups: all rows of a group stay on one side.
        time: the last rows by it validate; rows of one time stay on one side.

    Returns:
        Positions of training and of validation rows, each sorted.

    Raises:
        ArgumentError: the arguments contradict each other, or a side would be empty.
        DataError: a time is missing or is no time.

    >>> import pandas as pd
    >>> days = pd.Series(pd.date_range("2024-01-01", periods=10))
    >>> split_rows(10, "3D", time=days)[1]
    array([7, 8, 9])
    """
    if time is not None:
        if groups is not None:
            raise ArgumentError("give groups or time, not both: a group may go on in the last part")
        return last_rows(time, valid)
    if isinstance(valid, str | dt.timedelta):
        raise ArgumentError(f"valid={valid!r} is a length of time: name the column of times with time=")
    codes = None
    if groups is not None:
        import pandas as pd

        codes, _ = pd.factorize(groups, use_na_sentinel=False)
    return split_indices(n, valid, seed=seed, stratify=stratify, groups=codes)


def last_rows(time: pd.Series[Any], valid: TableSplit) -> tuple[Indices, Indices]:
    """The rows before a moment, and those from it on; see `split_rows`."""
    import pandas as pd

    length: pd.Timedelta | None = None
    if isinstance(valid, str | dt.timedelta):
        try:
            length = pd.Timedelta(valid)
        except ValueError as error:
            raise ArgumentError(f"valid={valid!r} is no length of time, such as '6W', '42D' or '12h'") from error
        if not length > pd.Timedelta(0):
            raise ArgumentError(f"valid={valid!r} must be longer than nothing")
    elif not isinstance(valid, float) or not 0.0 < valid < 1.0:
        raise ArgumentError(
            "with time= the last part validates: valid must be a fraction such as 0.1 or a length such as '6W', got "
            f"{valid!r}"
        )
    when = _times(time)
    if length is None:
        order = np.sort(when.to_numpy())
        start: Any = order[len(order) - max(round(len(order) * float(valid)), 1)]  # type: ignore[arg-type]
    elif not pd.api.types.is_datetime64_any_dtype(when.dtype):
        raise ArgumentError(f"{time.name!r} holds numbers, so valid must be a fraction, not a length of time")
    else:
        start = when.max() - length
    chosen = (when > start if length is not None else when >= start).to_numpy()
    if chosen.all():
        raise ArgumentError(f"valid={valid!r} takes every row from {when.min()} to {when.max()}, so none would train")
    return np.flatnonzero(~chosen).astype(np.int64), np.flatnonzero(chosen).astype(np.int64)


def _times(time: pd.Series[Any]) -> pd.Series[Any]:
    """The column as times, or as the numbers that it holds."""
    import pandas as pd

    if isinstance(time.dtype, pd.PeriodDtype):
        time = time.dt.start_time
    elif not (pd.api.types.is_datetime64_any_dtype(time.dtype) or pd.api.types.is_numeric_dtype(time.dtype)):
        try:
            time = pd.to_datetime(time)
        except (ValueError, TypeError) as error:
            raise DataError(f"time column {time.name!r} cannot be read as times: {error}") from error
    missing = np.flatnonzero(time.isna().to_numpy())
    if missing.size:
        raise DataError(
            f"{missing.size} rows of the time column {time.name!r} are empty, the first is row {missing[0]}; nobody "
            "knows on which side they belong, so leave them out"
        )
    return time
