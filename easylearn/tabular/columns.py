"""Which columns are categories, which are numbers, and which had better not be features at all."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..data.values import Coded, factorize, numbers, require_columns
from ..errors import ArgumentError, DataError
from ..keyed import generator, permutation

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE = 20_000
_NEAR = 0.95
_FEW_ROWS = 20
_DATE = re.compile(r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([ T].*)?$")
_NO_ACCIDENT = math.log(1e-9)


@dataclass
class Columns:
    """What `guess_columns` made of a table. Printing it shows all.

    Args:
        cat_names: columns to embed.
        cont_names: columns to scale.
        dropped: columns left out, each with the reason.
        notes: what a person should look at.
    """

    cat_names: list[str] = field(default_factory=list)
    cont_names: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{len(self.cat_names)} categorical: {', '.join(self.cat_names) or 'none'}",
            f"{len(self.cont_names)} continuous: {', '.join(self.cont_names) or 'none'}",
        ]
        if self.dropped:
            lines += [f"{len(self.dropped)} left out:", *(f"  {n}: {why}" for n, why in self.dropped.items())]
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])


def guess_columns(df: pd.DataFrame, target: str | Sequence[str] = (), max_card: int = 20) -> Columns:
    """Sort the columns of a table by their dtypes and by how many values they hold.

    Text, booleans and categoricals are categories, and so are whole numbers with at most `max_card` distinct
    values; other numbers are continuous. Dates, constants, names of single rows and columns of lists are left out.

    Args:
        df: the table (training rows are enough). It is left as it is.
        target: the column or columns to predict: never features.
        max_card: the most distinct whole numbers that are still taken for codes.

    Returns:
        The guess.

    Raises:
        DataError: the target is missing, or a column name occurs twice.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"shop": ["a", "b"] * 20, "day": [1, 2, 3, 4] * 10, "sales": range(40), "one": 1})
    >>> print(guess_columns(df, "sales"))
    2 categorical: shop, day
    0 continuous: none
    1 left out:
      one: it holds one value only, 1
    """
    import pandas as pd

    if max_card < 1:
        raise ArgumentError(f"max_card must be at least 1, got {max_card}")
    targets = [target] if isinstance(target, str) else list(target)
    require_columns(df, targets)
    odd = [c for c in df.columns if not isinstance(c, str)]
    if odd:
        raise ArgumentError(
            f"column names must be text, got {odd[0]!r}; name them: df.columns = df.columns.astype(str)"
        )
    names = [str(c) for c in df.columns if c not in set(targets)]
    require_columns(df, names)
    if len(df) == 0:
        raise DataError("the table has no rows, so its columns cannot be told apart")
    found = Columns()
    types = pd.api.types
    for name in names:
        column = df[name]
        dtype = column.dtype
        if types.is_datetime64_any_dtype(dtype):
            found.dropped[name] = f"it holds dates; add_datepart(df, {name!r}) makes features of them"
            continue
        if types.is_complex_dtype(dtype):
            found.dropped[name] = "it holds complex numbers"
            continue
        if types.is_float_dtype(dtype) and not _whole(column):
            first, n_distinct = _few_values(column)
            if n_distinct < 2:
                found.dropped[name] = _constant(first, n_distinct)
            else:
                found.cont_names.append(name)
            continue
        try:
            codes, values = factorize(column)
        except DataError as error:
            found.dropped[name] = f"it cannot be read: {error}"
            continue
        held = _held(codes)
        n_distinct, n_present = len(held), int((codes >= 0).sum())
        if n_distinct < 2:
            found.dropped[name] = _constant(values[held[0]] if n_distinct else None, n_distinct)
        elif _is_span(column):
            found.cont_names.append(name)
        elif _is_numeric(column, [values[i] for i in held[:1000]]):
            if n_distinct <= max_card:
                found.cat_names.append(name)
            elif _names_rows(name, column, n_distinct, n_present):
                found.dropped[name] = f"{n_distinct} different values in {n_present} rows: it names the rows"
            else:
                found.cont_names.append(name)
                if _numbered(column, n_distinct):
                    found.notes.append(
                        f"{name} holds the whole numbers up to {n_distinct} and is taken for a number; if they are "
                        "codes, name it in cat_names"
                    )
        elif n_distinct > max_card and all(_is_written_date(values[i]) for i in held[:100]):
            found.dropped[name] = f"it holds dates, written as text; add_datepart(df, {name!r}) makes features of them"
        elif n_present >= _FEW_ROWS and n_distinct > _NEAR * n_present:
            found.dropped[name] = f"{n_distinct} different values in {n_present} rows: it names the rows"
        else:
            found.cat_names.append(name)
            if n_distinct > max(1000, n_present / 10):
                found.notes.append(
                    f"{name} has {n_distinct} levels, {n_present / n_distinct:.1f} rows each; min_count folds the rare"
                )
    return found


def find_ids(df: pd.DataFrame, names: Sequence[str] | None = None) -> list[str]:
    """Columns with nearly as many values as rows: they name a row and say nothing about the next one.

    Numbers with fractions are never taken for names; whole numbers only if they are densely numbered or
    called so ("id", "user_id", "index").

    Args:
        df: the table.
        names: the columns to look at; None means all.

    Returns:
        Their names, in the order of `names`.
    """
    chosen = [str(c) for c in df.columns] if names is None else list(names)
    require_columns(df, chosen)
    return ids_in(Sample(df), chosen)


def find_leaks(df: pd.DataFrame, target: str, names: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Features from which the target can be read off: a copy of it, a function of it, or a code for it.

    Looks at a keyed sample of at most 20,000 rows, one feature at a time.

    Args:
        df: the table with its target.
        target: the column to predict.
        names: the features to look at; None means every other column.

    Returns:
        Pairs of a column and the reason why it looks like a leak.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"y": ["a", "b", "c"] * 20, "code": [7, 8, 9] * 20, "x": range(60)})
    >>> find_leaks(df, "y")
    [('code', "each value of 'code' goes with one value of 'y'")]
    """
    chosen = [str(c) for c in df.columns if c != target] if names is None else [n for n in names if n != target]
    require_columns(df, [target, *chosen])
    return leaks_in(Sample(df), target, chosen)


class Sample:
    """A keyed sample of at most 20,000 rows of a table; what is asked of a column as categories is read once.

    Args:
        df: the table.
    """

    def __init__(self, df: pd.DataFrame) -> None:
        self.df = df
        self.rows = _sampled_rows(len(df))
        self._coded: dict[str, Coded | None] = {}

    def column(self, name: str) -> pd.Series[Any]:
        """The values of a column in the sampled rows."""
        column: pd.Series[Any] = self.df[name]
        return column if len(self.rows) == len(self.df) else column.iloc[self.rows]

    def coded(self, name: str) -> Coded | None:
        """See `factorize`; None where the column holds what cannot be a category."""
        if name not in self._coded:
            try:
                self._coded[name] = factorize(self.column(name))
            except DataError:
                self._coded[name] = None
        return self._coded[name]


def ids_in(sample: Sample, names: Sequence[str]) -> list[str]:
    """See `find_ids`."""
    df = sample.df
    if len(sample.rows) < _FEW_ROWS:
        return []
    found = []
    for name in names:
        column = df[name]
        if _is_span(column) or (_looks_continuous(column) and not _whole(column)):
            continue
        # A sample of a column of names is all different; only then is the whole column counted.
        coded = sample.coded(name)
        if coded is None or not _mostly_different(coded[0]):
            continue
        if len(sample.rows) < len(df):
            try:
                coded = factorize(column)
            except DataError:
                continue
        codes, values = coded
        if not _mostly_different(codes):
            continue
        held, present = _held(codes), int((codes >= 0).sum())
        if not _is_numeric(column, [values[i] for i in held[:1000]]) or _names_rows(name, column, len(held), present):
            found.append(name)
    return found


def leaks_in(sample: Sample, target: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """See `find_leaks`."""
    import pandas as pd

    coded = sample.coded(target)
    if coded is None:
        return []
    there = coded[0] >= 0
    goal = coded[0][there]
    if len(goal) < _FEW_ROWS:
        return []
    held = _held(goal)
    if len(held) < 2:
        return []
    goal = np.searchsorted(held, goal)
    y = _as_numbers(sample.column(target)) if len(held) > _FEW_ROWS else None
    y = None if y is None else y[there]
    found = []
    for name in names:
        column = sample.column(name)
        x = _as_numbers(column) if y is not None or _looks_continuous(column) else None
        x = None if x is None else x[there]
        codes: npt.NDArray[np.int64] | None
        if x is not None and pd.api.types.is_float_dtype(column.dtype):
            codes = _codes_of(x)
        else:
            coded = sample.coded(name)
            if coded is None:
                continue
            codes = coded[0][there]
        by_code = "" if codes is None else _code_leak(codes, goal, y)
        by_order = "" if x is None else _numeric_leak(x, goal, y)
        why = by_code or by_order if y is None else by_order or by_code
        if why:
            found.append((name, why.format(x=repr(name), y=repr(target))))
    return found


def _held(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The codes that occur, in order, without that of missing values."""
    held: npt.NDArray[np.int64] = np.flatnonzero(np.bincount(codes + 1)[1:])
    return held


def _mostly_different(codes: npt.NDArray[np.int64]) -> bool:
    return bool(len(_held(codes)) > _NEAR * np.count_nonzero(codes >= 0))


def _codes_of(x: npt.NDArray[np.float64]) -> npt.NDArray[np.int64] | None:
    """Codes of numbers; None where too few of them are equal to prove anything (see `_code_leak`)."""
    ordered = np.sort(x)  # much quicker than finding who is equal to whom
    same = (ordered[1:] == ordered[:-1]) | np.isnan(ordered[:-1])  # NaN lies at the end
    if 2 * np.count_nonzero(same) < _FEW_ROWS:  # so many rows share their number at most
        return None
    codes: npt.NDArray[np.int64] = np.unique(x, return_inverse=True)[1]
    return codes


def _numeric_leak(x: npt.NDArray[np.float64], goal: npt.NDArray[np.int64], y: npt.NDArray[np.float64] | None) -> str:
    """Why a feature of numbers gives the target away; empty if it does not."""
    there = np.isfinite(x) if y is None else np.isfinite(x) & np.isfinite(y)
    x, goal = x[there], goal[there]
    if len(x) < _FEW_ROWS or x.min() == x.max():
        return ""
    if y is not None:
        y = y[there]
        if y.min() == y.max():
            return ""
        if np.array_equal(x, y):
            return "{x} equals the target {y}"
        rank = np.corrcoef(_ranks(x), _ranks(y))[0, 1]
        return (
            f"{{x}} rises and falls with the target {{y}} (rank correlation {rank:.5f})" if abs(rank) > 0.9999 else ""
        )
    counts = np.bincount(goal)
    low, high = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    np.minimum.at(low, goal, x)
    np.maximum.at(high, goal, x)
    low, high, counts = low[counts > 0], high[counts > 0], counts[counts > 0]
    order = np.argsort(low)
    parted = len(counts) > 1 and bool((high[order[:-1]] < low[order[1:]]).all())
    # Of all the orders in which the rows could lie, that share keeps every class together.
    chance = sum(map(math.lgamma, counts + 1.0)) + math.lgamma(len(counts) + 1) - math.lgamma(len(x) + 1)
    return "sorted by {x}, the classes of {y} do not overlap" if parted and chance < _NO_ACCIDENT else ""


def _code_leak(codes: npt.NDArray[np.int64], goal: npt.NDArray[np.int64], y: npt.NDArray[np.float64] | None) -> str:
    """Why a feature of categories gives the target away; empty if it does not."""
    # Rows that are alone with their value prove nothing: keep values that occur at least twice.
    codes = codes + 1
    repeated = np.bincount(codes)[codes] > 1
    codes, goal = codes[repeated], goal[repeated]
    if len(codes) < _FEW_ROWS:
        return ""
    n = np.bincount(codes).astype(np.float64)
    if y is not None:
        y = y[repeated]
        spread = y.var()
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(codes, y) / n
        within = np.mean((y - mean[codes]) ** 2)
        determined = len(codes) - np.count_nonzero(n) >= _FEW_ROWS and spread > 0 and within <= 1e-6 * spread
        return "each value of {x} goes with one value of {y}" if determined else ""
    n_goals = int(goal.max()) + 1
    pairs, pair_n = np.unique(codes * n_goals + goal, return_counts=True)
    best = np.zeros(len(n))
    np.maximum.at(best, pairs // n_goals, pair_n)
    overall = np.bincount(goal)
    errors, blind = len(codes) - best.sum(), len(codes) - overall.max()
    # Goodman and Kruskal's lambda: the share of the errors of blind guessing that knowing the feature removes.
    # Repeats of a value that agree by accident do so with the chance `agree` each.
    repeats, agree = len(codes) - np.count_nonzero(n), float(((overall / len(codes)) ** 2).sum())
    if blind == 0 or errors > 0.005 * blind or repeats * np.log(agree) > _NO_ACCIDENT:
        return ""
    same = np.count_nonzero(n) == np.count_nonzero(overall)
    return "each value of {x} goes with one value of {y}" + ("" if same else ", though not the other way round")


def _ranks(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks with ties shared, as Spearman's correlation needs them."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    top = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = (top - (counts - 1) / 2)[inverse]
    return ranks


def _as_numbers(column: pd.Series[Any]) -> npt.NDArray[np.float64] | None:
    try:
        return numbers(column)
    except DataError:
        return None


def _sampled_rows(n: int) -> npt.NDArray[np.int64]:
    if n <= 2 * _SAMPLE:
        return np.arange(n) if n <= _SAMPLE else np.sort(permutation(n, 0, "sampled rows")[:_SAMPLE])
    # Without a permutation of all rows; a few that come twice count once.
    rows = torch.randint(n, (_SAMPLE,), generator=generator(0, "sampled rows")).sort().values
    chosen: npt.NDArray[np.int64] = torch.unique_consecutive(rows).numpy()
    return chosen


def _few_values(column: pd.Series[Any]) -> tuple[Any, int]:
    """The first value of a column of numbers and 0, 1 or 2: how many different ones it has, counted up to two."""
    x = numbers(column)
    x = x[~np.isnan(x)]
    return (None, 0) if len(x) == 0 else (float(x[0]), 1 if x.min() == x.max() else 2)


def _constant(value: Any, n_distinct: int) -> str:
    return f"it holds one value only, {value!r}" if n_distinct else "it is empty: every value is missing"


def _looks_continuous(column: pd.Series[Any]) -> bool:
    import pandas as pd

    types = pd.api.types
    return types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)


def _is_span(column: pd.Series[Any]) -> bool:
    """Whether the column holds lengths of time."""
    import pandas as pd

    return pd.api.types.is_timedelta64_dtype(column.dtype)


def _whole(column: pd.Series[Any]) -> bool:
    """Whether every number of the column is whole (whole numbers with gaps come as floats)."""
    import pandas as pd

    if not pd.api.types.is_float_dtype(column.dtype):
        return True
    x = numbers(column)
    head = x[:1000]
    if not (np.isnan(head) | (head == np.floor(head))).all():
        return False
    return bool((np.isnan(x) | ((x == np.floor(x)) & np.isfinite(x))).all())


def _is_numeric(column: pd.Series[Any], values: Sequence[Any]) -> bool:
    """Whether a column is one of numbers, also where they come as objects (Decimals, whole numbers beside None)."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column.dtype):
        return False
    if pd.api.types.is_numeric_dtype(column.dtype):
        return True
    return all(isinstance(v, int | float) or type(v).__name__ == "Decimal" for v in values) and not all(
        isinstance(v, bool) for v in values
    )


def _numbered(column: pd.Series[Any], n_distinct: int) -> bool:
    """Whether a column with so many distinct whole numbers holds exactly those from 0 or 1 on, as codes do."""
    x = numbers(column)
    x = x[~np.isnan(x)]
    return bool(x.min() in (0, 1) and x.max() - x.min() + 1 == n_distinct)


def _is_written_date(value: Any) -> bool:
    return isinstance(value, str) and _DATE.match(value) is not None


def _names_rows(name: str, column: pd.Series[Any], n_distinct: int, n_present: int) -> bool:
    """Whether whole numbers are running numbers of the rows."""
    if n_present < _FEW_ROWS or n_distinct <= _NEAR * n_present:
        return False
    x = _as_numbers(column)
    if x is None or not np.isfinite(x).any():
        return False
    x = x[np.isfinite(x)]
    dense = x.max() - x.min() + 1 <= 1.05 * n_distinct
    return bool(dense or re.search(r"(^|[_\W])(id|idx|index|row)$|Id$|ID$", name))
