"""Columns of a DataFrame as codes or as numbers, whatever type they have; what cannot be read is named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, did_you_mean
from .levels import Level, plain, plain_all

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.ArrayLike
Coded = tuple[npt.NDArray[np.int64], list[Level]]

MISSING_WORDS = frozenset(
    {"", "na", "n/a", "nan", "-nan", "null", "none", "nat", "<na>", "#n/a", "#na", "#n/a n/a", "1.#ind", "1.#qnan",
     "-1.#ind", "-1.#qnan"}
)  # fmt: skip
"""What files write for a number that is missing, in small letters; among texts the words mean themselves."""

_SHORT = 32
_NUMBERS = ("string", "integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty")  # as pandas infers


def factorize(column: pd.Series[Any]) -> Coded:
    """Each value as its position in a list of distinct ones; every string is hashed once.

    Args:
        column: of any dtype: text, numbers, booleans, dates, categories, nullable or Arrow.

    Returns:
        Codes of shape (n,), -1 where the value is missing, and the distinct values as plain Python values (of a
        categorical column: its categories in their order, used or not).

    Raises:
        DataError: a value cannot be a category (naming column, row and value).
    """
    import pandas as pd

    try:
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes = column.cat.codes.to_numpy().astype(np.int64)
            values = column.cat.categories.tolist()
        elif len(column) <= _SHORT:
            # pandas takes some 0.1 ms per column however short it is: too long where single rows are predicted.
            held = plain_all([v for v in column.tolist() if not is_missing(v)])
            place = {v: i for i, v in enumerate(dict.fromkeys(held))}
            codes = np.array([-1 if is_missing(v) else place[plain(v)] for v in column.tolist()], np.int64)
            values = list(place)
        else:
            codes, uniques = pd.factorize(column)
            codes = codes.astype(np.int64, copy=False)
            is_text = isinstance(uniques.dtype, pd.StringDtype)  # pandas itself takes texts out one by one
            distinct: Any = uniques.to_numpy(np.object_) if is_text else uniques
            plainly = isinstance(distinct, np.ndarray) and distinct.dtype.kind not in "mM"
            values = distinct.tolist() if plainly else list(distinct)
        return codes, plain_all(values)
    except (TypeError, NotImplementedError) as error:  # the second by Arrow, of lists
        for i, value in enumerate(column.tolist()):
            try:
                if not is_missing(value):
                    plain(value)
            except TypeError as reason:
                raise DataError(f"column {column.name!r}, {row_name(column, i)}: {value!r}: {reason}") from error
        raise


def numbers(
    column: pd.Series[Any], what: str = "continuous column", where: Callable[[int], str] | None = None
) -> Floats:
    """A column as float64, missing as NaN; durations in seconds. Numbers written as text are read.

    Args:
        column: of any dtype.
        what: messages call it so.
        where: what they call a row; None takes `row_name`.

    Returns:
        Shape (n,). It may be the column's own memory: do not write into it.

    Raises:
        DataError: the column holds text or dates (naming column, row and value).
    """
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        return column.to_numpy(np.float64)
    if isinstance(dtype, pd.CategoricalDtype):
        try:
            held = numbers(pd.Series(column.cat.categories, name=column.name), what, where)
        except DataError:  # of a category that no row has, or of one whose row shall be named
            return numbers(column.astype(column.cat.categories.dtype), what, where)
        chosen: Floats = np.append(held, np.nan)[column.cat.codes.to_numpy()]
        return chosen
    types = pd.api.types
    if dtype.kind == "m":
        seconds: Floats = column.dt.total_seconds().to_numpy(np.float64, na_value=np.nan)
        return seconds
    if types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        if column.isna().all():  # a row with NaT in a column of numbers
            return np.full(len(column), np.nan)
        raise DataError(
            f"the {what} {column.name!r} holds dates ({dtype}); turn them into numbers with "
            f"add_datepart(df, {column.name!r}), or make the column categorical"
        )
    if types.is_complex_dtype(dtype):
        raise DataError(f"the {what} {column.name!r} holds complex numbers; split it into two columns")
    if types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype):
        nullable: Floats = column.to_numpy(np.float64, na_value=np.nan)
        return nullable
    return _numbers_of_objects(column, what, where or partial(row_name, column))


def _numbers_of_objects(column: pd.Series[Any], called: str, where: Callable[[int], str]) -> Floats:
    import pandas as pd

    out = np.full(len(column), np.nan)
    present = np.flatnonzero(column.notna().to_numpy(np.bool_))
    held = column.iloc[present]
    if pd.api.types.infer_dtype(held) in _NUMBERS:
        with suppress(OverflowError):  # of a whole number that no float holds
            out[present] = pd.to_numeric(held, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        present = present[np.isnan(out[present])]
    for i in present.tolist():
        value = column.iloc[i]
        try:
            if isinstance(value, str) and value.strip().lower() in MISSING_WORDS:
                continue
            if not isinstance(plain(value), str | bool | int | float | Decimal):
                raise TypeError
            if isinstance(value, str) and "_" in value:  # Python would read "1_0" as ten
                raise ValueError
            out[i] = float(value)
        except OverflowError:
            out[i] = np.inf if value > 0 else -np.inf
        except (TypeError, ValueError) as error:
            what = "text" if isinstance(value, str) else type(value).__name__
            advice = f", as add_datepart(df, {column.name!r}) does" * isinstance(value, dt.date)
            advice += "; a column of such values belongs in cat_names when the data is made" * (called != "target")
            raise DataError(
                f"the {called} {column.name!r} holds {what} in {where(i)}: {value!r}. Turn it into a number{advice}"
            ) from error
    return out


def require_columns(df: pd.DataFrame, names: Sequence[str], aside: str = "") -> None:
    """Refuse a table in which columns are missing, or named twice; the DataError names them all, and says `aside`."""
    import pandas as pd

    if not isinstance(df, pd.DataFrame):
        raise ArgumentError(f"expected a pandas DataFrame, got {type(df).__name__}")
    known = set(df.columns)
    if absent := [n for n in names if n not in known]:
        others = [str(c) for c in df.columns if c not in set(names)]
        more = f" {did_you_mean(str(absent[0]), others)}".replace("Known:", "Besides what is needed, it has:").rstrip()
        raise DataError(f"the table has no columns {absent}; they are needed{aside}.{more}")
    if twice := sorted({str(c) for c in df.columns[df.columns.duplicated()] if c in set(names)}):
        raise DataError(f"the columns {twice} are in the table more than once; rename or drop the copies")


def refuse_rows(
    column: pd.Series[Any], rows: npt.NDArray[np.int64], why: str, where: Callable[[int], str] | None = None
) -> None:
    """Raise a DataError that says `why` and names the first of some rows of a target; nothing if there are none."""
    if len(rows) == 0:
        return
    called = where or partial(row_name, column)
    shown = ", ".join(called(int(i)) for i in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    raise DataError(f"{len(rows)} of {len(column)} rows of the target {column.name!r} {why}. Rows: {shown}{more}")


def row_name(column: pd.Series[Any], position: int) -> str:
    """How a message calls a row: by its position, and by its label where that is another."""
    label = column.index[position]
    label = label.item() if isinstance(label, np.generic) else label
    return f"row {position}" if label is position or label == position else f"row {position} (index {label!r})"


def is_missing(value: Any) -> bool:
    """Whether a value is None or one of the kinds of not-a-number."""
    import pandas as pd

    return value is None or (not isinstance(value, str) and pd.isna(value) is True)


def is_ordered(column: pd.Series[Any]) -> bool:
    """Whether the column is an ordered categorical."""
    import pandas as pd

    return isinstance(column.dtype, pd.CategoricalDtype) and bool(column.dtype.ordered)


def positions(rows: Rows, n: int) -> npt.NDArray[np.int64]:
    """Row positions, from positions or from a boolean mask."""
    given = np.asarray(rows)
    if given.dtype == np.bool_:
        if given.shape != (n,):
            raise ArgumentError(f"a mask of rows must have one entry per row ({n}), got shape {given.shape}")
        given = np.flatnonzero(given)
    if given.ndim != 1 or given.size == 0 or given.dtype.kind not in "iu":
        raise ArgumentError(
            f"rows must be a list of row positions or a boolean mask with at least one row, got {given!r:.80}"
        )
    if given.min() < 0 or given.max() >= n:
        raise ArgumentError(f"row positions must lie between 0 and {n - 1}, got {given.min()} to {given.max()}")
    return given.astype(np.int64, copy=False)
