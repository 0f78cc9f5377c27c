"""The 2018 names for tables: `from easylearn.structured import *`.

They do what they did, with the traps closed: nobody's lists are changed, columns whose values are missing in the
test table only are filled from training, and the order of the rows decides nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from . import forests07, imports, keyed
from .data.levels import in_order
from .data.values import factorize, numbers, refuse_rows, require_columns
from .errors import ArgumentError, DataError, EasyLearnWarning
from .imports import load_names, star
from .tabular import features
from .tabular.features import to_times

if TYPE_CHECKING:
    import pandas as pd

Mapper = dict[str, tuple[float, float]]


class NaDict(dict[str, float]):
    """What `proc_df` filled missing numbers with, by column; it also keeps the medians of all the other columns.

    Args:
        fills: the columns that had missing values, with their fill values.
        medians: every numeric column with its median in the training table.
    """

    def __init__(self, fills: Mapping[str, float] | None = None, medians: Mapping[str, float] | None = None) -> None:
        super().__init__(fills or {})
        self.medians = dict(medians or {})

    def copy(self) -> NaDict:
        """Another one with the same content."""
        return NaDict(self, self.medians)


def train_cats(df: pd.DataFrame) -> pd.DataFrame:
    """Make every column of text an ordered categorical, in place.

    Args:
        df: the training table; it is changed.

    Returns:
        The same table.

    >>> import pandas as pd
    >>> train_cats(pd.DataFrame({"size": ["S", "L", "S"]}))["size"].cat.codes.tolist()
    [1, 0, 1]
    """
    import pandas as pd

    for name in _text_columns(df):
        codes, values = factorize(df[name])
        levels = in_order(dict.fromkeys(values))
        place = {v: i for i, v in enumerate(levels)}
        table = np.array([*(place[v] for v in values), -1], np.int64)
        categories = pd.Index(levels, dtype=None if all(isinstance(v, str) for v in levels) else object)
        df[name] = pd.Categorical.from_codes(table[codes].tolist(), categories=categories, ordered=True)
    return df


def apply_cats(df: pd.DataFrame, trn: pd.DataFrame) -> pd.DataFrame:
    """Give the columns of a table the categories of the training table, in place. Other values become missing.

    Args:
        df: a validation or test table; it is changed.
        trn: the training table after `train_cats`.

    Returns:
        `df`.

    >>> import pandas as pd
    >>> trn = train_cats(pd.DataFrame({"size": ["S", "L"]}))
    >>> apply_cats(pd.DataFrame({"size": ["S", "XL"]}), trn)["size"].cat.codes.tolist()
    [1, -1]
    """
    import pandas as pd

    for name in df.columns:
        if name in trn.columns and isinstance(trn[name].dtype, pd.CategoricalDtype):
            categories = trn[name].cat.categories
            codes, values = factorize(df[name])
            known = {v: i for i, v in enumerate(categories.tolist())}
            table = np.array([*(known.get(v, -1) for v in values), -1], np.int64)
            df[name] = pd.Categorical.from_codes(table[codes], categories=categories, ordered=True)
    return df


def add_datepart(
    df: pd.DataFrame,
    fldnames: str | Sequence[str],
    drop: bool = True,
    time: bool = False,
    errors: Literal["raise", "coerce"] = "raise",
) -> pd.DataFrame:
    """Add the parts of one or several dates as columns, in place; see `easylearn.tabular.features.add_datepart`.

    Args:
        df: the table; it is changed.
        fldnames: the column or columns of dates.
        drop: take them out; otherwise they become columns of times.
        time: add Hour, Minute and Second too.
        errors: "coerce" makes what is no date a missing one.

    Returns:
        The same table.

    >>> import pandas as pd
    >>> add_datepart(pd.DataFrame({"saledate": ["2020-01-01"]}), "saledate")["saleElapsed"].tolist()
    [1577836800]
    """
    import pandas as pd

    for name in [fldnames] if isinstance(fldnames, str) else list(fldnames):
        # All is computed before anything is changed.
        dates = df[[name]].copy() if name in df.columns else df
        if errors == "coerce" and name in df.columns:
            dates[name] = pd.to_datetime(dates[name], errors="coerce")
        made = features.add_datepart(dates, name, drop=True, time=time)
        times = to_times(dates, name)
        others = [n for n in made.columns if n in df.columns and n != name and not made[n].equals(df[n])]
        if others:
            raise ArgumentError(
                f"the table has columns {others} of its own, which the parts of {name!r} would replace; rename "
                f"them, or {name!r}"
            )
        for column in made.columns:
            df[column] = made[column].array
        if name not in made.columns:
            if drop:
                del df[name]
            else:
                df[name] = times.array
    return df


def proc_df(
    df: pd.DataFrame,
    y_fld: str | None = None,
    skip_flds: Sequence[str] | None = None,
    ignore_flds: Sequence[str] | None = None,
    do_scale: bool = False,
    na_dict: Mapping[str, float] | None = None,
    preproc_fn: Callable[[pd.DataFrame], Any] | None = None,
    max_n_cat: int | None = None,
    subset: int | None = None,
    mapper: Mapper | None = None,
) -> tuple[Any, ...]:
    """Turn a table into numbers only: fill and flag missing numbers, replace categories by codes, split off the target.

    Call it on the training table, then on the others with the `nas` (and the mapper) of the first call.

    Args:
        df: the table. It is left as it is.
        y_fld: the target; text becomes class numbers.
        skip_flds: columns to leave out.
        ignore_flds: columns to pass on unchanged.
        do_scale: give every numeric column mean 0 and deviation 1.
        na_dict: what the training call returned as `nas`: its columns are filled and flagged (`<name>_na`) in the
            same way, all others are filled with their training medians and not flagged.
        preproc_fn: is called with the copy of the table, which it may change.
        max_n_cat: categoricals with at most so many categories become one column for each.
        subset: take so many rows at random (the same ones every time).
        mapper: what the training call returned as the last item, for `do_scale`.

    Returns:
        (x, y, nas) or, with `do_scale`, (x, y, nas, mapper). y is None without `y_fld`.

    Raises:
        DataError: a column is missing, or a target is missing (naming rows).

    >>> import pandas as pd
    >>> trn = train_cats(pd.DataFrame({"size": ["S", "L", None], "n": [1.0, None, 3.0], "y": [0, 1, 0]}))
    >>> x, y, nas = proc_df(trn, "y")
    >>> x.columns.tolist(), x.astype(float).values.tolist(), y.tolist(), nas
    (['size', 'n', 'n_na'], [[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 3.0, 0.0]], [0, 1, 0], {'n': 2.0})
    """
    import pandas as pd

    ignored, skipped = _names(ignore_flds, "ignore_flds"), _names(skip_flds, "skip_flds")
    require_columns(df, [*df.columns, *ignored, *skipped, *([] if y_fld is None else [y_fld])])
    kept = df.copy() if subset is None else get_sample(df, subset)
    passed_on = kept[ignored]
    kept = kept.drop(columns=ignored)
    if preproc_fn is not None:
        preproc_fn(kept)
    y = None
    if y_fld is not None:
        y = _target(kept[y_fld])
        skipped = [*skipped, y_fld]
    kept = kept.drop(columns=[n for n in dict.fromkeys(skipped) if n in kept.columns])
    nas = _fill(kept, na_dict)
    if do_scale:
        mapper = _scale(kept, mapper)
    text = set(_text_columns(kept))
    if text and na_dict is not None:
        warnings.warn(
            f"the columns {sorted(text)} hold text, and their codes are made from this table alone, so they do not fit "
            "those of the training table. Call train_cats on that table and apply_cats on this one before proc_df",
            EasyLearnWarning,
            stacklevel=2,
        )
    few: list[str] = []
    for name in kept.columns:
        column = kept[name]
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            warnings.warn(
                f"column {name!r} holds dates, which become the numbers of their order, of this table alone; call "
                f"add_datepart(df, {name!r}) before, or put it in skip_flds",
                EasyLearnWarning,
                stacklevel=2,
            )
        elif pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
            continue
        coded = column if isinstance(column.dtype, pd.CategoricalDtype) else train_cats(kept[[name]].copy())[name]
        if not isinstance(coded.dtype, pd.CategoricalDtype):
            coded = coded.astype("category")
        if max_n_cat is not None and len(coded.cat.categories) <= max_n_cat:
            few.append(name)
            kept[name] = coded
        else:
            kept[name] = coded.cat.codes.astype(np.int64) + 1
    x = pd.concat([passed_on, pd.get_dummies(kept, columns=few, dummy_na=True)], axis=1)
    return (x, y, nas, mapper) if do_scale else (x, y, nas)


def get_sample(df: pd.DataFrame, n: int) -> pd.DataFrame:
    """`n` rows of the table chosen at random, in their order; the same ones every time. A copy.

    >>> import pandas as pd
    >>> len(get_sample(pd.DataFrame({"a": range(10)}), 3))
    3
    """
    if n < 1:
        raise ArgumentError(f"a sample needs at least 1 row, got {n}")
    rows = np.sort(keyed.permutation(len(df), 0, "sample")[:n])
    sample: pd.DataFrame = df.iloc[rows].copy()
    return sample


def get_elapsed(
    df: pd.DataFrame, fld: str, pre: str, by: str | Sequence[str] = "Store", date: str = "Date"
) -> pd.DataFrame:
    """Add the days since the last event ("After") or, negative, up to the next one ("Before"), in place.

    In 2018 the order of the rows made the difference, and `pre` was only a word; now `pre` decides and the order
    does not matter. Without such an event the result is NaN, where it was a huge number.

    Args:
        df: the table; it gets the column `pre + fld`.
        fld: the column of events.
        pre: "After" or "Before".
        by: the column or columns that make the groups.
        date: the column of dates.

    Returns:
        The same table.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"Store": 1, "Date": ["2015-01-01", "2015-01-03"], "Promo": [1, 0]})
    >>> get_elapsed(df, "Promo", "After")["AfterPromo"].tolist()
    [0.0, 2.0]
    """
    if pre not in ("After", "Before"):
        raise ArgumentError(f"pre must be 'After' (days since the event) or 'Before' (days until it), got {pre!r}")
    days = features.elapsed_since(df, fld, by=by, date=date)[pre + fld].to_numpy()
    df[pre + fld] = days if pre == "After" else 0.0 - days
    return df


def fix_missing(df: pd.DataFrame, col: pd.Series[Any], name: str, na_dict: dict[str, float]) -> dict[str, float]:
    """Fill the missing numbers of one column in place, and flag them in `<name>_na`.

    Args:
        df: the table; it gets the columns.
        col: the numbers; a column of anything else is left alone.
        name: of the filled column.
        na_dict: fill values by name; where it has none for a column with missing values, it gets the median.

    Returns:
        `na_dict`.
    """
    import pandas as pd

    if pd.api.types.is_numeric_dtype(col.dtype):
        missing = col.isna()
        if name in na_dict or missing.any():
            df[name + "_na"] = missing
            df[name] = col.fillna(na_dict.setdefault(name, float(col.median())))
    return na_dict


def numericalize(df: pd.DataFrame, col: pd.Series[Any], name: str, max_n_cat: int | None) -> None:
    """Put the codes of a categorical column into `df[name]`, counted from 1, with 0 for missing.

    Args:
        df: the table; it gets the column.
        col: the categories; numbers are left alone.
        name: of the column of codes.
        max_n_cat: a column with at most so many categories is left alone; None leaves none.
    """
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(col.dtype) and (max_n_cat is None or len(col.cat.categories) > max_n_cat):
        df[name] = pd.Categorical(col).codes + 1


def scale_vars(df: pd.DataFrame, mapper: Mapper | None = None) -> Mapper:
    """Give every numeric column mean 0 and deviation 1, in place; what `proc_df(..., do_scale=True)` does.

    Args:
        df: the table; it is changed.
        mapper: what this gave for the training table.

    Returns:
        Mean and deviation by column.
    """
    return _scale(df, mapper)


def is_date(x: Any) -> bool:
    """Whether the column, or the array, `x` holds dates."""
    import pandas as pd

    return bool(pd.api.types.is_datetime64_any_dtype(x.dtype))


def is_categorical_dtype(x: Any) -> bool:
    """Whether the column, or the dtype, `x` is of categories."""
    import pandas as pd

    return isinstance(getattr(x, "dtype", x), pd.CategoricalDtype)


def combine_date(
    years: npt.ArrayLike,
    months: npt.ArrayLike = 1,
    days: npt.ArrayLike = 1,
    weeks: npt.ArrayLike | None = None,
    hours: npt.ArrayLike | None = None,
    minutes: npt.ArrayLike | None = None,
    seconds: npt.ArrayLike | None = None,
    milliseconds: npt.ArrayLike | None = None,
    microseconds: npt.ArrayLike | None = None,
    nanoseconds: npt.ArrayLike | None = None,
) -> npt.NDArray[np.datetime64]:
    """Dates made of numbers.

    Args:
        years, months, days: the date.
        weeks, hours, minutes, seconds, milliseconds, microseconds, nanoseconds: what is added to it.

    >>> str(combine_date(2018, 3, 31, hours=6))
    '2018-03-31T06'
    """
    first: Any = np.asarray(np.asarray(years) - 1970, "<M8[Y]") + np.asarray(np.asarray(months) - 1, "<m8[M]")
    rest = (np.asarray(days) - 1, weeks, hours, minutes, seconds, milliseconds, microseconds, nanoseconds)
    units = ("D", "W", "h", "m", "s", "ms", "us", "ns")
    added = (np.asarray(n, f"<m8[{unit}]") for n, unit in zip(rest, units, strict=True) if n is not None)
    return np.asarray(sum(added, first))


def _names(given: Sequence[str] | None, what: str) -> list[str]:
    if isinstance(given, str):
        raise ArgumentError(f"{what} must be a list of column names, got the word {given!r}; write [{given!r}]")
    return list(given or [])


def _text_columns(df: pd.DataFrame) -> list[str]:
    """The columns of text or of Python objects."""
    import pandas as pd

    types = pd.api.types
    return [n for n in df.columns if types.is_object_dtype(df[n].dtype) or isinstance(df[n].dtype, pd.StringDtype)]


def _target(column: pd.Series[Any]) -> npt.NDArray[Any]:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        values: npt.NDArray[Any] = column.to_numpy()
        refuse_rows(column, np.flatnonzero(column.isna()), "are missing; drop these rows or give them numbers")
        return values
    frame = train_cats(column.to_frame())
    coded = (
        frame[column.name] if isinstance(frame[column.name].dtype, pd.CategoricalDtype) else column.astype("category")
    )
    codes: npt.NDArray[Any] = coded.cat.codes.to_numpy()
    refuse_rows(column, np.flatnonzero(codes < 0), "have no label; drop these rows or give them labels")
    return codes


def _fill(df: pd.DataFrame, na_dict: Mapping[str, float] | None) -> NaDict:
    """Fill missing numbers in place and flag them; what was, or had been, filled with what."""
    import pandas as pd

    learned = NaDict() if na_dict is None else NaDict(na_dict, na_dict.medians if isinstance(na_dict, NaDict) else None)
    absent = [n for n in learned if n not in df.columns]
    if absent:
        raise DataError(
            f"the training table had columns {absent} with missing values; this one does not have the columns"
        )
    alone: list[str] = []
    for name in list(df.columns):
        column = df[name]
        if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
            continue
        x = numbers(column)
        gone = ~np.isfinite(x)
        any_gone = bool(gone.any())
        median = 0.0 if gone.all() else float(np.median(x[~gone]))
        if na_dict is None:
            learned.medians[name] = median
            if any_gone:
                learned[name] = median
        elif any_gone and name not in learned and name not in learned.medians:
            alone.append(name)
        if name in learned:
            df[name + "_na"] = gone
        if any_gone:
            df[name] = np.where(gone, learned.get(name, learned.medians.get(name, median)), x)
    if alone:
        warnings.warn(
            f"the columns {alone} have missing values here and had none in training, and the na_dict given does not "
            "know their training medians: they are filled with this table's own. Pass the nas that proc_df returned",
            EasyLearnWarning,
            stacklevel=3,
        )
    return learned


def _scale(df: pd.DataFrame, mapper: Mapper | None) -> Mapper:
    """Scale the numeric columns in place; by column its mean and deviation."""
    import pandas as pd

    if mapper is None:
        numeric = [n for n in df.columns if pd.api.types.is_numeric_dtype(df[n].dtype)]
        mapper = {}
        for name in numeric:
            x = df[name].to_numpy(np.float64)
            mapper[name] = (float(x.mean()), float(x.std()) or 1.0)
    require_columns(df, list(mapper))
    for name, (mean, deviation) in mapper.items():
        df[name] = (df[name].to_numpy(np.float64) - mean) / deviation
    return dict(mapper)


_theirs = load_names(
    """
pandas.api.types: is_numeric_dtype is_string_dtype | sklearn.impute: SimpleImputer as Imputer
sklearn.preprocessing: LabelEncoder StandardScaler | sklearn.tree: export_graphviz
"""
)
globals().update(_theirs)
_OWN = [
    "add_datepart", "apply_cats", "combine_date", "fix_missing", "get_elapsed", "get_sample", "is_categorical_dtype",
    "is_date", "numericalize", "proc_df", "scale_vars", "train_cats",
]  # fmt: skip
__all__ = star(globals(), imports, forests07, own=[*_theirs, *_OWN])
