"""Which columns are categories, which are numbers, and which had better not be features at all."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..data.cells import read_cell
from ..data.times import says_date
from ..data.values import Bools, Floats
from ..errors import DataError
from ..keyed import generator, permutation
from .view import Column, TableView

if TYPE_CHECKING:
    import pandas as pd

MAX_CARD = 20  # the most distinct whole numbers that are still taken for codes
_SAMPLE = 20_000
_NEAR = 0.95
_FEW_ROWS = 20
_DATEPART = "add_datepart(df, {!r}) makes features of them"
_ID = re.compile(r"(^|[_\W])(id|idx|index|row|rownames?)$|Id$|ID$")
_DRESSED = re.compile(r"-?[$€£¥]?\s?-?(0|[1-9]\d{0,2}(,\d{3})+|[1-9]\d*)(\.\d+)?\s?[%$€£¥]?", re.ASCII)
_HUGE = 10.0**10  # more digits than seconds since 1970 or a price have; bar codes and accounts have them
_NO_ACCIDENT = math.log(1e-9)

Role = Literal["category", "number", "dropped"]
Ints = npt.NDArray[np.int64]


@dataclass
class Columns:
    """What `guess_columns` made of a table. Printing it shows all."""

    cat_names: list[str] = field(default_factory=list)
    cont_names: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)  # columns left out, each with the reason
    notes: list[str] = field(default_factory=list)  # what a person should look at

    def __str__(self) -> str:
        lines = [
            f"{len(self.cat_names)} categorical: {', '.join(self.cat_names) or 'none'}",
            f"{len(self.cont_names)} continuous: {', '.join(self.cont_names) or 'none'}",
        ]
        if self.dropped:
            lines += [f"{len(self.dropped)} left out:", *(f"  {n}: {why}" for n, why in self.dropped.items())]
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])


def guess_columns(df: pd.DataFrame | TableView, names: Sequence[str] | None = None) -> Columns:
    """Sort the columns of a table by their dtypes and by how many values they hold.

    Text, booleans and categoricals are categories, and so are whole numbers with at most `MAX_CARD` distinct values;
    other numbers, Decimals among them, are continuous. Dates, constants, names of single rows (text, huge whole
    numbers, whole numbers that are called an id) and columns of lists are left out.

    Args:
        df: the table (training rows are enough). It is left as it is.
        names: the columns to sort; None means all.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"shop": ["a", "b"] * 20, "day": [1, 2, 3, 4] * 10, "sales": range(40), "one": 1})
    >>> print(guess_columns(df, ["shop", "day", "one"]))
    2 categorical: shop, day
    0 continuous: none
    1 left out:
      one: it holds one value only, 1
    """
    table = TableView.of(df)
    if not len(table):
        raise DataError("the table has no rows, so its columns cannot be told apart")
    found = Columns()
    for name in table.names if names is None else names:
        try:
            role, words = _role(table[name])
        except DataError as error:
            role, words = "dropped", f"it cannot be read: {error}"
        if role == "dropped":
            found.dropped[name] = words
            continue
        (found.cat_names if role == "category" else found.cont_names).append(name)
        if words:
            found.notes.append(f"{name} {words}")
    return found


def _role(column: Column) -> tuple[Role, str]:
    """What a column is, and why it is left out or what a person should know."""
    import pandas as pd

    types, dtype = pd.api.types, column.series.dtype
    if types.is_datetime64_any_dtype(dtype):
        return "dropped", f"it holds dates; {_DATEPART.format(column.name)}"
    if types.is_complex_dtype(dtype):
        return "dropped", "it holds complex numbers"
    constant = _constant(column)
    if constant is not None:
        return "dropped", constant
    if column.is_span or (column.is_number and not column.is_whole):
        return "number", ""
    return _whole_role(column) if column.is_number else _object_role(column)


def _whole_role(column: Column) -> tuple[Role, str]:
    n, present = column.n_distinct, column.n_present
    if n <= MAX_CARD:
        return "category", ""
    if _names_rows(column):
        return "dropped", f"{n} different values in {present} rows: it names the rows; if not, name it in cont_names"
    if present >= _FEW_ROWS and n > _NEAR * present:
        return "number", "holds a different whole number in nearly every row; if it only numbers the rows, leave it out"
    x = column.numbers[~np.isnan(column.numbers)]
    if x.min() in (0, 1) and x.max() - x.min() + 1 == n:  # as codes are
        return "number", (
            f"holds the whole numbers up to {x.max():.0f} and is taken for a number; if they are codes, name it in "
            "cat_names"
        )
    return "number", ""


def _object_role(column: Column) -> tuple[Role, str]:
    """Of text, booleans, categoricals and Python objects."""
    values = [column.coded[1][i] for i in column.held[:1000]]
    n, present = column.n_distinct, column.n_present
    if _is_numbers(column, values):
        return _whole_role(column) if column.is_whole else ("number", "")
    if n > MAX_CARD and all(map(says_date, values[:100])):
        return "dropped", f"it holds dates, written as text; {_DATEPART.format(column.name)}"
    if column.series.dtype == object and all(isinstance(v, dt.date) for v in values):
        return "dropped", f"it holds dates; {_DATEPART.format(column.name)}"
    said = _said_numbers(column, values)
    if present >= _FEW_ROWS and n > _NEAR * present:
        return "dropped", f"{n} different values in {present} rows: it names the rows{said and f', or holds {said}'}"
    if said:
        return "category", f"holds {said}. Now it has {n} categories"
    if n > max(1000, present / 10):
        return "category", f"has {n} categories, {present / n:.1f} rows each; min_count folds the rare"
    return "category", ""


def _said_numbers(column: Column, values: Sequence[Any]) -> str:
    """What to do about text that says numbers, not just a few codes; empty where it says something else."""
    if not all(isinstance(v, str) for v in values) or column.series.dtype.name == "category":
        return ""
    told = [read_cell(word) for word in values]
    if not any(isinstance(v, str | bool) or v is None for v in told):
        is_coded = column.n_distinct <= MAX_CARD and all(float(v).is_integer() for v in told)
        return "" if is_coded else "text that says numbers; to take them as such, name it in cont_names"
    if not all(map(_DRESSED.fullmatch, values)):
        return ""
    odd = next(word for word, v in zip(values, told, strict=True) if isinstance(v, str))
    made = f"df[{column.name!r}].str.replace(r'[^0-9.-]', '', regex=True).astype(float)"
    return f"text that says numbers, such as {odd!r}; to take them as such, make the column {made}"


def _constant(column: Column) -> str | None:
    """Why a column that never varies is left out; None if it varies."""
    if column.is_number and not column.is_whole:  # without counting all of them
        x = column.numbers[~np.isnan(column.numbers)]
        varies, first = len(x) > 0 and x.min() != x.max(), x[0].item() if len(x) else None
    else:
        varies = column.n_distinct > 1
        first = None if varies or not column.n_present else column.coded[1][column.held[0]]
    if varies:
        return None
    if first is None:
        return "it is empty: every value is missing"
    n = len(column) - column.n_present
    beside = f", and nothing in {n} rows; if that tells something, name it in cat_names" * bool(n)
    return f"it holds one value only, {first!r}{beside}"


def sample(table: TableView, names: Iterable[str]) -> dict[str, Column]:
    """Columns in a keyed sample of at most 20,000 rows. What is known of whole columns is not asked again."""
    n = len(table)
    if n <= 2 * _SAMPLE:
        rows = np.arange(n) if n <= _SAMPLE else np.sort(permutation(n, 0, "sampled rows")[:_SAMPLE])
    else:  # without a permutation of all rows; a few that come twice count once
        rows = np.unique(torch.randint(n, (_SAMPLE,), generator=generator(0, "sampled rows")).numpy())
    return {name: table[name].at(rows) for name in names}


def find_ids(table: TableView, few: Mapping[str, Column], names: Sequence[str]) -> list[str]:
    """Those categories with nearly as many values as rows: they name a row and say nothing about the next one.

    In a sample (`few`) of such a column all is different, too; only then is the whole column counted.
    """
    found = (name for name in names if _mostly_different(few[name]) and _mostly_different(table[name]))
    return [name for name in found if table[name].n_present >= _FEW_ROWS]


def find_leaks(few: Mapping[str, Column], target: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Columns of a `sample` from which the target can be read off, each with the reason why it looks like that.

    Such a feature is a copy of the target, a function of it, or a code for it. One at a time is looked at.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"y": ["a", "b", "c"] * 20, "code": [7, 8, 9] * 20, "x": range(60)})
    >>> find_leaks(sample(TableView(df), df), "y", ["code", "x"])
    [('code', "each value of 'code' goes with one value of 'y'")]
    """
    goal_of = few[target]
    try:
        there = goal_of.coded[0] >= 0
    except DataError:
        return []
    goal = goal_of.coded[0][there]
    if len(goal) < _FEW_ROWS or len(goal_of.held) < 2:
        return []
    goal = np.searchsorted(goal_of.held, goal)
    y = goal_of.as_numbers if len(goal_of.held) > _FEW_ROWS else None
    y = None if y is None else y[there]
    reasons = ((name, _why_leak(few[name], there, goal, y)) for name in names)
    return [(name, why.format(x=repr(name), y=repr(target))) for name, why in reasons if why]


def _why_leak(column: Column, there: Bools, goal: Ints, y: Floats | None) -> str:
    """How the target can be read off a column, with {x} and {y} for their names; empty if it cannot."""
    x = column.as_numbers if y is not None or column.is_number else None
    x = None if x is None else x[there]
    try:
        codes: Ints | None = _codes_of(x) if x is not None and column.is_number else column.coded[0][there]
    except DataError:
        return ""
    by_code = "" if codes is None else _code_leak(codes, goal, y)
    by_order = "" if x is None else _numeric_leak(x, goal, y)
    return by_code or by_order if y is None else by_order or by_code


def _mostly_different(column: Column) -> bool:
    return column.n_distinct > _NEAR * column.n_present


def _codes_of(x: Floats) -> Ints | None:
    """Codes of numbers; None where too few of them are equal to prove anything (see `_code_leak`)."""
    ordered = np.sort(x)  # much quicker than finding who is equal to whom
    same = (ordered[1:] == ordered[:-1]) | np.isnan(ordered[:-1])  # NaN lies at the end
    if 2 * np.count_nonzero(same) < _FEW_ROWS:  # so many rows share their number at most
        return None
    codes: Ints = np.unique(x, return_inverse=True)[1]
    return codes


def _numeric_leak(x: Floats, goal: Ints, y: Floats | None) -> str:
    """Why a feature of numbers gives the target away; empty if it does not."""
    import pandas as pd

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
        rank = pd.DataFrame({"x": x, "y": y}).rank().corr().iloc[0, 1]  # Spearman's
        same = f"{{x}} rises and falls with the target {{y}} (rank correlation {rank:.5f})"
        return same if abs(rank) > 0.9999 else ""
    counts = np.bincount(goal)
    low, high = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    np.minimum.at(low, goal, x)
    np.maximum.at(high, goal, x)
    low, high, counts = (of_class[counts > 0] for of_class in (low, high, counts))
    order = np.argsort(low)
    parted = len(counts) > 1 and bool((high[order[:-1]] < low[order[1:]]).all())
    # Of all the orders in which the rows could lie, that share keeps every class together.
    chance = sum(map(math.lgamma, counts + 1.0)) + math.lgamma(len(counts) + 1) - math.lgamma(len(x) + 1)
    return "sorted by {x}, the classes of {y} do not overlap" if parted and chance < _NO_ACCIDENT else ""


def _code_leak(codes: Ints, goal: Ints, y: Floats | None) -> str:
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


def _is_numbers(column: Column, values: Sequence[Any]) -> bool:
    """Whether Python objects are numbers (Decimals, whole numbers beside None), and not only booleans."""
    is_number = column.series.dtype == object and all(isinstance(v, int | float | Decimal) for v in values)
    return is_number and not all(isinstance(v, bool) for v in values)


def _names_rows(column: Column) -> bool:
    """Whether whole numbers name the rows: nearly all differ, and they are huge or are called so."""
    if column.n_present < _FEW_ROWS or not _mostly_different(column):
        return False
    x = np.abs(column.numbers)
    x = x[np.isfinite(x)]
    return bool(len(x) and x.min() >= _HUGE) or _ID.search(column.name) is not None
