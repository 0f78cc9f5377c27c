"""From a DataFrame to two arrays of numbers, with everything that was learned taken from the training rows only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..device import mapping
from ..errors import ArgumentError, DataError, EasyLearnError, StateError, did_you_mean
from .levels import Level, Lookup, from_json, in_order, plain, plain_all, to_json

if TYPE_CHECKING:
    import pandas as pd

Scale = Literal["standard", "quantile", "none"]
Fill = Literal["median", "mean", "constant"]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.ArrayLike
Coded = tuple[npt.NDArray[np.int64], list[Level]]

UNKNOWN, MISSING = "(unknown)", "(missing)"
UNKNOWN_CODE, MISSING_CODE, N_SPECIAL = 0, 1, 2
_LARGEST = float(np.finfo(np.float32).max)
_NO_TEXT = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>", "nat"})
_VERSION = 1
_SHORT = 32
_MANY_ROWS, _MOST_THREADS = 50_000, 4
_PLAIN = (str, int, float, bool, type(None))


@dataclass
class TransformReport:
    """What was met in one or several tables on their way into numbers.

    Args:
        rows: how many rows were seen.
        unknown: per categorical column, the values that are none of its levels.
        missing: per column, the empty places.
        infinite: per continuous column, infinities and numbers too large for 32 bits.
        filled: per continuous column, the places that got its fill value.
        examples: per categorical column, some of the unknown values, as text.
    """

    rows: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    infinite: dict[str, int] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def __add__(self, other: TransformReport) -> TransformReport:
        def sums(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
            return {n: a.get(n, 0) + b.get(n, 0) for n in [*a, *(n for n in b if n not in a)]}

        names = [*self.examples, *(n for n in other.examples if n not in self.examples)]
        both = {n: [*self.examples.get(n, []), *other.examples.get(n, [])] for n in names}
        return TransformReport(
            self.rows + other.rows,
            sums(self.unknown, other.unknown),
            sums(self.missing, other.missing),
            sums(self.infinite, other.infinite),
            sums(self.filled, other.filled),
            {n: list(dict.fromkeys(words))[:5] for n, words in both.items()},
        )

    def take(self, of_column: TransformReport) -> None:
        """Add what was met in a column that is not in yet; the rows are the same."""
        for name in ("unknown", "missing", "infinite", "filled", "examples"):
            getattr(self, name).update(getattr(of_column, name))

    @property
    def is_clean(self) -> bool:
        """Whether every value was a known level or a finite number."""
        return not (self.unknown or self.missing or self.infinite)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dicts and numbers."""
        return {
            "rows": self.rows,
            "unknown": dict(self.unknown),
            "missing": dict(self.missing),
            "infinite": dict(self.infinite),
            "filled": dict(self.filled),
            "examples": {n: list(words) for n, words in self.examples.items()},
        }

    def __str__(self) -> str:
        if self.is_clean:
            return f"{self.rows} rows, nothing unknown, missing or infinite"
        lines = [f"{self.rows} rows"]
        for what in ("unknown", "missing", "infinite", "filled"):
            counts: dict[str, int] = getattr(self, what)
            for name, n in counts.items():
                shown = (
                    f", for example {', '.join(self.examples[name])}"
                    if what == "unknown" and name in self.examples
                    else ""
                )
                lines.append(f"  {what:9}{n:>9}  in {name}{shown}")
        return "\n".join(lines)


@dataclass
class Encoded:
    """A table as numbers.

    Args:
        cats: codes, int64, shape (n, number of categorical columns).
        conts: numbers, float32, shape (n, number of continuous columns and flags).
        report: what was unknown, missing, infinite, filled.
        split: the same for the rows that were learned from and for the others, where both are in the table.
    """

    cats: npt.NDArray[np.int64]
    conts: npt.NDArray[np.float32]
    report: TransformReport
    split: tuple[TransformReport, TransformReport] | None = None

    def __len__(self) -> int:
        return len(self.cats)


@dataclass
class _Category:
    """What was learned of one categorical column."""

    name: str
    levels: list[Level]
    ordered: bool
    n_rare: int

    def __post_init__(self) -> None:
        self.lookup = Lookup(self.levels, N_SPECIAL, UNKNOWN_CODE)


@dataclass
class _Number:
    """What was learned of one continuous column: output = (value - center) * factor, or a place among quantiles."""

    name: str
    fill: float
    center: float
    factor: float
    flag: bool
    quantiles: Floats | None

    def scaled(self, x: Floats) -> Floats:
        """The finite numbers `x` on the scale of the model."""
        if self.quantiles is None:
            with np.errstate(over="ignore"):
                y = np.subtract(x, self.center)
                y *= self.factor
            return np.clip(y, -_LARGEST, _LARGEST, out=y) if y.size and np.abs(y).max() > _LARGEST else y
        return _to_normal(x, self.quantiles)

    def unscaled(self, y: Floats) -> Floats:
        """The inverse of `scaled`; a column that never varied gives its fill value.

        The model's numbers have 32 bits. What these do not tell is rounded away, so that a zero is a zero again.
        """
        if self.quantiles is not None:
            ranks = torch.special.ndtr(torch.from_numpy(y)).numpy()
            x: Floats = np.interp(ranks, np.linspace(0, 1, len(self.quantiles)), self.quantiles)
            spread = float(self.quantiles[-1] - self.quantiles[0])
        elif self.factor == 0:
            return np.full_like(y, self.fill)
        elif (self.center, self.factor) == (0.0, 1.0):
            return y
        else:
            x, spread = y / self.factor + self.center, 1 / self.factor
        rounded: Floats = np.round(x, 6 - math.floor(math.log10(spread))) + 0.0  # -0.0 becomes 0.0
        return rounded


class TableProcessor:
    """Turns tables into codes and numbers, always in the way that the training rows asked for.

    Categorical columns: code 0 is *unknown* (a value that no training row held, or a rare one), code 1 is
    *missing*, then come the levels: in the order of an ordered categorical, otherwise sorted.
    Continuous columns: missing and infinite places are filled; every column that had such places in
    training gets one more column that is 1 there and 0 elsewhere. Then comes the scale. A column that never varied
    in training gives 0 always, unless `scale="none"`.

    Args:
        cat_names: the categorical columns.
        cont_names: the continuous columns.
        scale: "standard" (mean 0, deviation 1), "quantile" (a normal distribution by rank) or "none".
        fill: what missing numbers become: the training rows' "median", their "mean", or "constant".
        fill_value: the number for `fill="constant"`.
        min_count: a level with fewer training rows becomes part of *unknown*, which is thereby trained.
        max_levels: keep at most so many levels of a column, the most frequent; the others become *unknown*.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"shop": ["b", "a", None], "size": [1.0, 3.0, None]})
    >>> table = TableProcessor(["shop"], ["size"], scale="none").fit(df)
    >>> table.levels("shop"), table.cont_out_names
    (['(unknown)', '(missing)', 'a', 'b'], ['size', 'size_na'])
    >>> new = table.transform(pd.DataFrame({"shop": ["z", "a"], "size": [5.0, float("inf")]}))
    >>> new.cats.tolist(), new.conts.tolist()
    ([[0], [2]], [[5.0, 0.0], [2.0, 1.0]])
    >>> print(new.report)
    2 rows
      unknown          1  in shop, for example 'z'
      infinite         1  in size
      filled           1  in size
    """

    def __init__(
        self,
        cat_names: Sequence[str],
        cont_names: Sequence[str],
        *,
        scale: Scale = "standard",
        fill: Fill = "median",
        fill_value: float = 0.0,
        min_count: int = 1,
        max_levels: int | None = None,
    ) -> None:
        self.cat_names = _column_names(cat_names, "cat_names")
        self.cont_names = _column_names(cont_names, "cont_names")
        twice = [n for n in self.cat_names if n in set(self.cont_names)]
        if twice:
            raise ArgumentError(f"columns cannot be both categorical and continuous, but {twice} are in both lists")
        for what, given, known in (
            ("scale", scale, ("standard", "quantile", "none")),
            ("fill", fill, ("median", "mean", "constant")),
        ):
            if given not in known:
                raise ArgumentError(f"{what} must be one of {known}, got {given!r}")
        if min_count < 1:
            raise ArgumentError(f"min_count must be at least 1, got {min_count}")
        if max_levels is not None and max_levels < 1:
            raise ArgumentError(f"max_levels must be at least 1, or None for no limit, got {max_levels}")
        if not np.isfinite(fill_value):
            raise ArgumentError(f"fill_value must be a finite number, got {fill_value}")
        self.scale, self.fill, self.fill_value = scale, fill, float(fill_value)
        self.min_count, self.max_levels = min_count, max_levels
        self.report = TransformReport()
        self._cats: list[_Category] | None = None
        self._conts: list[_Number] = []

    # Learning

    def fit(self, df: pd.DataFrame) -> TableProcessor:
        """Learn levels, fill values and scales from `df`, which holds training rows only. Returns itself."""
        self._run(df, None, learn=True, encode=False)
        return self

    def fit_transform(self, df: pd.DataFrame, rows: Rows | None = None) -> Encoded:
        """Learn from some rows and encode all of them, reading each column once.

        Args:
            df: training and other rows.
            rows: positions (not labels) of the training rows, or a boolean mask; None means all.

        Returns:
            Every row of `df`, encoded as `fit` on those rows and `transform` would.
        """
        encoded = self._run(df, rows, learn=True, encode=True)
        assert encoded is not None
        return encoded

    def transform(self, df: pd.DataFrame) -> Encoded:
        """Encode a table with what was learned. `df` is left as it is; columns that were not asked for are ignored.

        Raises:
            DataError: columns are missing, or a continuous one holds text (naming column, row and value).
            StateError: nothing was learned yet.
        """
        encoded = self._run(df, None, learn=False, encode=True)
        assert encoded is not None
        self.report = encoded.report
        return encoded

    def transform_row(self, row: Mapping[str, Any]) -> Encoded | None:
        """One row of plain values as `transform` would encode it, without a DataFrame: fifty times as quick.

        Args:
            row: by column.

        Returns:
            The row's codes and numbers; None if it lacks a column or holds anything but text, numbers, booleans and
            None, of which `transform` knows what to make or to say.
        """
        report = TransformReport(1)
        cats = np.empty((1, len(self.cat_names)), np.int64)
        for j, category in enumerate(self._learned()):
            if category.name not in row:
                return None
            value = row[category.name]
            if type(value) not in _PLAIN:
                return None
            if value is None or value != value:
                cats[0, j] = MISSING_CODE
                report.missing[category.name] = 1
                continue
            (code,) = category.lookup.codes([value])
            cats[0, j] = code
            if code == UNKNOWN_CODE:
                report.unknown[category.name] = 1
                report.examples[category.name] = [repr(value)[:40]]
        conts = np.empty((1, len(self._conts) + sum(c.flag for c in self._conts)), np.float32)
        place = len(self._conts)
        for j, number in enumerate(self._conts):
            given = row.get(number.name, "")
            if type(given) not in _PLAIN or isinstance(given, str):
                return None
            x = np.array([np.nan if given is None else given], np.float64)
            bad = ~(np.abs(x) <= _LARGEST)
            if bad[0]:
                report.take(_count_numbers(number.name, x, bad))
                x[0] = number.fill
            conts[0, j] = number.scaled(x)[0]
            if number.flag:
                conts[0, place] = bad[0]
                place += 1
        return Encoded(cats, conts, report)

    def decode(self, cats: npt.NDArray[np.int64], conts: npt.NDArray[np.float32]) -> pd.DataFrame:
        """Codes and numbers back to values, as far as they are known: "(unknown)" and "(missing)" stay words.

        Args:
            cats: codes, shape (n, number of categorical columns).
            conts: numbers, shape (n, number of continuous columns and flags).

        Returns:
            One row per row; a number whose flag is set is missing (NaN). Without a flag a filled place looks like its
            fill value.

        >>> import pandas as pd
        >>> df = pd.DataFrame({"shop": ["b", "a"], "size": [1.0, 3.0]})
        >>> table = TableProcessor(["shop"], ["size"]).fit(df)
        >>> table.decode(*[getattr(table.transform(df), n) for n in ("cats", "conts")])["size"].tolist()
        [1.0, 3.0]
        """
        import pandas as pd

        columns: dict[str, Any] = {}
        for j, name in enumerate(self.cat_names):
            levels = np.array([UNKNOWN, MISSING, *self._category(name).levels], object)
            columns[name] = levels[cats[:, j]]
        for number, (j, *flag) in zip(self._conts, self.cont_places.values(), strict=True):
            values = number.unscaled(conts[:, j].astype(np.float64))
            columns[number.name] = np.where(conts[:, flag[0]] > 0, np.nan, values) if flag else values
        frame: pd.DataFrame = pd.DataFrame(columns, index=pd.RangeIndex(len(cats)))
        return frame

    def _run(self, df: pd.DataFrame, rows: Rows | None, *, learn: bool, encode: bool) -> Encoded | None:
        n = len(df)
        require_columns(df, [*self.cat_names, *self.cont_names])
        if learn and n == 0:
            raise DataError("the table has no rows, so there is nothing to learn from")
        chosen = None if rows is None else _positions(rows, n)
        if not learn and self._cats is None:
            raise StateError("this TableProcessor has learned nothing yet: call fit(df) with the training rows first")
        parts: list[npt.NDArray[np.int64] | slice] = [slice(None)]
        reports = [TransformReport(n)]
        if chosen is not None:
            outside = np.ones(n, np.bool_)
            outside[chosen] = False
            others = np.flatnonzero(outside)
            parts += [chosen, others]
            reports += [TransformReport(len(chosen)), TransformReport(len(others))]
        cats = np.empty((n, len(self.cat_names)), np.int64) if encode else None
        n_flags = 0 if learn else sum(c.flag for c in self._conts)
        conts = np.empty((n, len(self.cont_names) + n_flags), np.float32) if encode else None

        def category(j: int) -> tuple[_Category, list[TransformReport]]:
            codes, values = factorize(cat_columns[j])
            if learn:
                counts = np.bincount((codes if chosen is None else codes[chosen]) + 1, minlength=len(values) + 1)[1:]
                spec = self._learn_levels(cat_columns[j], values, counts)
            else:
                spec = self._learned()[j]
            if cats is None:
                return spec, []
            # The last entry is read by -1, the code of a missing value.
            table = np.array([*spec.lookup.codes(values), MISSING_CODE], np.int64)
            np.take(table, codes, out=cats[:, j], mode="wrap")
            return spec, [_count_codes(spec.name, table, codes[part], values) for part in parts]

        def number(j: int) -> tuple[_Number, Bools | None, list[TransformReport]]:
            x = numbers(cont_columns[j])
            bad = ~(np.abs(x) <= _LARGEST)
            any_bad = bool(bad.any())
            spec = (
                self._learn_scale(self.cont_names[j], x, bad if any_bad else None, chosen) if learn else self._conts[j]
            )
            met: list[TransformReport] = []
            if conts is not None:
                if any_bad:
                    met = [_count_numbers(spec.name, x[part], bad[part]) for part in parts]
                    x = np.where(bad, spec.fill, x)
                conts[:, j] = spec.scaled(x)
            return spec, bad if spec.flag else None, met

        cat_columns, cont_columns = ([df[name] for name in names] for names in (self.cat_names, self.cont_names))
        with mapping(min(torch.get_num_threads(), _MOST_THREADS) if n >= _MANY_ROWS else 1) as each:
            # Text holds Python's lock and numbers do not: so one thread reads text while another scales numbers.
            coming = each(number, range(len(cont_columns)))
            of_cats = list(each(category, range(len(cat_columns))))
            of_conts = list(coming)
        for *_, met in (*of_cats, *of_conts):
            for report, of_column in zip(reports, met, strict=False):  # a column without such places has none
                report.take(of_column)
        if learn:
            self._cats, self._conts = [spec for spec, _ in of_cats], [spec for spec, _, _ in of_conts]
        if cats is None or conts is None:
            return None
        flags = [bad for _, bad, _ in of_conts if bad is not None]
        if learn:
            conts = np.concatenate([conts, *(f[:, None].astype(np.float32) for f in flags)], axis=1) if flags else conts
        else:
            for k, flag in enumerate(flags, len(self.cont_names)):
                conts[:, k] = flag
        whole, *split = reports
        return Encoded(cats, conts, whole, (split[0], split[1]) if split else None)

    def _learn_levels(self, column: pd.Series[Any], values: list[Level], counts: npt.NDArray[np.int64]) -> _Category:
        total: dict[Level, int] = {}
        for value, count in zip(values, counts.tolist(), strict=True):
            if count:  # equal values of different types (1 and True) are one level
                total[value] = total.get(value, 0) + count
        ordered = _is_ordered(column)
        levels = list(total) if ordered else in_order(total)
        kept = [v for v in levels if total[v] >= self.min_count]
        if self.max_levels is not None and len(kept) > self.max_levels:
            # sorted() is stable: among equally frequent levels the first in order stay.
            frequent = set(sorted(range(len(kept)), key=lambda i: -total[kept[i]])[: self.max_levels])
            kept = [v for i, v in enumerate(kept) if i in frequent]
        return _Category(str(column.name), kept, ordered, len(levels) - len(kept))

    def _learn_scale(self, name: str, x: Floats, bad: Bools | None, rows: npt.NDArray[np.int64] | None) -> _Number:
        if rows is not None:
            x, bad = x[rows], None if bad is None else bad[rows]
        flag = bad is not None and bool(bad.any())
        if flag and bad is not None:
            x = x[~bad]
        if self.fill == "constant" or x.size == 0:
            fill = self.fill_value
        else:
            fill = _median(x) if self.fill == "median" else float(np.mean(x))
        if self.scale == "none":
            return _Number(name, fill, 0.0, 1.0, flag, None)
        if x.size == 0 or _is_constant(x):
            return _Number(name, fill, fill, 0.0, flag, None)
        if self.scale == "quantile":
            return _Number(name, fill, 0.0, 1.0, flag, np.quantile(x, np.linspace(0, 1, min(1000, x.size))))
        return _Number(name, fill, float(x.mean()), 1.0 / float(x.std()), flag, None)

    # What was learned

    def levels(self, name: str) -> list[Level]:
        """The values of a categorical column by code: "(unknown)", "(missing)", then its levels."""
        return [UNKNOWN, MISSING, *self._category(name).levels]

    @property
    def cardinalities(self) -> dict[str, int]:
        """How many codes each categorical column has, with those of *unknown* and *missing*."""
        return {c.name: N_SPECIAL + len(c.levels) for c in self._learned()}

    @property
    def n_rare(self) -> dict[str, int]:
        """How many levels of each categorical column were too rare and became *unknown*."""
        return {c.name: c.n_rare for c in self._learned()}

    @property
    def cont_out_names(self) -> list[str]:
        """The names of the columns of `Encoded.conts`: the continuous columns, then their flags."""
        self._learned()
        taken = {*self.cat_names, *self.cont_names}
        flags = []
        for c in self._conts:
            if c.flag:
                name = f"{c.name}_na"
                while name in taken:
                    name += "_"
                taken.add(name)
                flags.append(name)
        return [*self.cont_names, *flags]

    @property
    def cont_places(self) -> dict[str, tuple[int, ...]]:
        """Where each continuous column is among the columns of `Encoded.conts`: its number, and its flag if any."""
        self._learned()
        flags = iter(range(len(self._conts), len(self.cont_out_names)))
        return {c.name: (j, next(flags)) if c.flag else (j,) for j, c in enumerate(self._conts)}

    @property
    def fills(self) -> dict[str, float]:
        """What a missing or infinite number becomes, per continuous column, before scaling."""
        self._learned()
        return {c.name: c.fill for c in self._conts}

    def _learned(self) -> list[_Category]:
        if self._cats is None:
            raise StateError("this TableProcessor has learned nothing yet: call fit(df) with the training rows first")
        return self._cats

    def _category(self, name: str) -> _Category:
        for category in self._learned():
            if category.name == name:
                return category
        raise ArgumentError(f"{name!r} is not a categorical column. {did_you_mean(name, self.cat_names)}")

    # Keeping it

    def state_dict(self) -> dict[str, Any]:
        """Everything, as numbers, words, lists and dicts that fit in a JSON file."""
        settings = {n: getattr(self, n) for n in ("scale", "fill", "fill_value", "min_count", "max_levels")}
        return {
            "version": _VERSION,
            "settings": settings,
            "cats": [
                {"name": c.name, "ordered": c.ordered, "n_rare": c.n_rare, "levels": to_json(c.levels)}
                for c in self._learned()
            ],
            "conts": [
                {
                    "name": c.name,
                    "fill": c.fill,
                    "center": c.center,
                    "factor": c.factor,
                    "flag": c.flag,
                    "quantiles": None if c.quantiles is None else c.quantiles.tolist(),
                }
                for c in self._conts
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> TableProcessor:
        """Take over what another TableProcessor learned. Returns itself.

        Raises:
            DataError: the state was written by a newer version, or is not one of a TableProcessor.
        """
        try:
            if state["version"] != _VERSION:
                raise DataError(
                    f"this table processing was saved in version {state['version']}, this library reads version "
                    f"{_VERSION}; install the version it was saved with"
                )
            cats = [_Category(c["name"], from_json(c["levels"]), c["ordered"], c["n_rare"]) for c in state["cats"]]
            conts = [
                _Number(
                    c["name"],
                    float(c["fill"]),
                    float(c["center"]),
                    float(c["factor"]),
                    bool(c["flag"]),
                    _as_floats(c["quantiles"]),
                )
                for c in state["conts"]
            ]
            settings = dict(state["settings"])
            fresh = TableProcessor([c.name for c in cats], [c.name for c in conts], **settings)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            if isinstance(error, EasyLearnError):
                raise
            raise DataError(f"this is not the state of a TableProcessor: {str(error)[:200]!r}") from error
        if any(c.quantiles is not None and (c.quantiles.ndim != 1 or len(c.quantiles) < 2) for c in conts):
            raise DataError("this is not the state of a TableProcessor: quantiles are two numbers at least, in a row")
        self.cat_names, self.cont_names = fresh.cat_names, fresh.cont_names
        self.scale, self.fill, self.fill_value = fresh.scale, fresh.fill, fresh.fill_value
        self.min_count, self.max_levels = fresh.min_count, fresh.max_levels
        self._cats, self._conts = cats, conts
        return self

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TableProcessor:
        """A processor as `state_dict` described it."""
        return cls([], []).load_state_dict(state)

    def __repr__(self) -> str:
        learned = "learned nothing yet" if self._cats is None else f"{len(self.cont_out_names)} numbers out"
        return (
            f"TableProcessor({len(self.cat_names)} categorical and {len(self.cont_names)} continuous columns, "
            f"scale={self.scale!r}, fill={self.fill!r}, {learned})"
        )


class Labels:
    """The classes of a target column, in one order for training, validation, test and the saved model.

    Args:
        values: the classes, in order.

    >>> import pandas as pd
    >>> labels = Labels.learn(pd.Series(["no", "yes", "no"], name="rain"))
    >>> labels.names, labels.encode(pd.Series(["yes", "no"])).tolist()
    (('no', 'yes'), [1, 0])
    """

    def __init__(self, values: Sequence[Level]) -> None:
        self.values = list(values)
        self._lookup = Lookup(self.values, 0, -1)

    @classmethod
    def learn(cls, column: pd.Series[Any], rows: Rows | None = None, coded: Coded | None = None) -> Labels:
        """The classes that the training rows hold: in the order of an ordered categorical, otherwise sorted.

        Args:
            column: the target.
            rows: positions of the training rows, or a boolean mask; None means all.
            coded: what `factorize` gave for the column, if it was asked already.

        Raises:
            DataError: some rows have no label (naming them), or all have the same one.
        """
        codes, values = factorize(column) if coded is None else coded
        chosen = np.arange(len(codes)) if rows is None else _positions(rows, len(codes))
        if len(chosen) == 0:
            raise DataError(f"the target {column.name!r} has no training rows")
        refuse_rows(column, chosen[codes[chosen] < 0], "have no label; drop these rows or give them labels")
        seen = np.bincount(codes[chosen], minlength=len(values))
        held = list(dict.fromkeys(v for v, n in zip(values, seen.tolist(), strict=True) if n))
        classes = held if _is_ordered(column) else in_order(held)
        if len(classes) < 2:
            raise DataError(
                f"every training row of the target {column.name!r} has the label {classes[0]!r}, so there is nothing "
                "to tell apart; a classifier needs rows of at least two classes"
            )
        return cls(classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes as text, in the order of the model's outputs."""
        return tuple(str(v) for v in self.values)

    def encode(self, column: pd.Series[Any], coded: Coded | None = None) -> npt.NDArray[np.int64]:
        """Class numbers; `coded` as in `learn`.

        Raises:
            DataError: a row has no label or one that is no class (naming rows and labels).
        """
        codes, values = factorize(column) if coded is None else coded
        refuse_rows(column, np.flatnonzero(codes < 0), "have no label; drop these rows or give them labels")
        table = np.array([*self._lookup.codes(values), -1], np.int64)
        result: npt.NDArray[np.int64] = table[codes]
        bad = np.flatnonzero(result < 0)
        if len(bad):
            words = sorted({repr(values[c]) for c in codes[bad[:1000]]})[:5]
            refuse_rows(
                column,
                bad,
                f"have labels that no training row has ({', '.join(words)}); known are {self.values[:10]}. "
                "Split so that every class is in training (stratified), or drop these rows",
            )
        return result

    def state_dict(self) -> dict[str, Any]:
        """The classes, as words and numbers that fit in a JSON file."""
        return to_json(self.values)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Labels:
        """Labels as `state_dict` described them."""
        return cls(from_json(state))


def target_numbers(df: pd.DataFrame, names: Sequence[str]) -> Floats:
    """The columns of a regression or multi-label target, float64, shape (n, len(names)).

    Raises:
        DataError: a column is missing, holds text, or has missing or infinite places (naming the rows).
    """
    require_columns(df, names)
    out = np.empty((len(df), len(names)), np.float64)
    for j, name in enumerate(names):
        x = numbers(df[name])
        refuse_rows(
            df[name], np.flatnonzero(~np.isfinite(x)), "are missing or infinite; drop these rows or give them numbers"
        )
        out[:, j] = x
    return out


def refuse_rows(column: pd.Series[Any], rows: npt.NDArray[np.int64], why: str) -> None:
    """Raise a DataError that names the first of some rows of a target column; nothing if there are none."""
    if len(rows) == 0:
        return
    shown = ", ".join(_row(column, int(i)) for i in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    raise DataError(f"{len(rows)} of {len(column)} rows of the target {column.name!r} {why}. Rows: {shown}{more}")


def require_columns(df: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table in which columns are missing, or named twice.

    Raises:
        DataError: names them all.
    """
    import pandas as pd

    if not isinstance(df, pd.DataFrame):
        raise ArgumentError(f"expected a pandas DataFrame, got {type(df).__name__}")
    known = set(df.columns)
    absent = [n for n in names if n not in known]
    if absent:
        others = [str(c) for c in df.columns if c not in set(names)]
        more = f" {did_you_mean(str(absent[0]), others)}".replace("Known:", "Besides what is needed, it has:").rstrip()
        raise DataError(f"the table has no columns {absent}; they are needed (None where a value is not known).{more}")
    if not df.columns.is_unique:
        twice = sorted({str(c) for c in df.columns[df.columns.duplicated()] if c in set(names)})
        if twice:
            raise DataError(f"the columns {twice} are in the table more than once; rename or drop the copies")


def factorize(column: pd.Series[Any]) -> Coded:
    """Each value as its position in a list of distinct ones; every string is hashed once.

    Args:
        column: of any dtype: text, numbers, booleans, dates, categories, nullable or Arrow.

    Returns:
        Codes of shape (n,), -1 where the value is missing, and the distinct values as plain Python values
        (of a categorical column: its categories in their order, used or not).

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
            held = plain_all([v for v in column.tolist() if not _is_missing(v)])
            place = {v: i for i, v in enumerate(dict.fromkeys(held))}
            codes = np.array([-1 if _is_missing(v) else place[plain(v)] for v in column.tolist()], np.int64)
            values = list(place)
        else:
            codes, uniques = pd.factorize(column)
            codes = codes.astype(np.int64, copy=False)
            distinct = (
                uniques.to_numpy(np.object_)  # pandas itself takes texts out one by one
                if isinstance(uniques.dtype, pd.StringDtype)
                else uniques
            )
            plainly = isinstance(distinct, np.ndarray) and distinct.dtype.kind not in "mM"
            values = distinct.tolist() if plainly else list(distinct)
        return codes, plain_all(values)
    except TypeError as error:
        for i, value in enumerate(column.tolist()):
            try:
                if not _is_missing(value):
                    plain(value)
            except TypeError as reason:
                raise DataError(f"column {column.name!r}, {_row(column, i)}: {value!r}: {reason}") from error
        raise


def numbers(column: pd.Series[Any]) -> Floats:
    """A column as float64, missing as NaN; durations in seconds. Numbers written as text are read.

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
        held = numbers(pd.Series(column.cat.categories, name=column.name))
        chosen: Floats = np.append(held, np.nan)[column.cat.codes.to_numpy()]
        return chosen
    types = pd.api.types
    if types.is_timedelta64_dtype(dtype):
        seconds: Floats = column.dt.total_seconds().to_numpy(np.float64)
        return seconds
    if types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        if column.isna().all():  # a row with NaT in a column of numbers
            return np.full(len(column), np.nan)
        raise DataError(
            f"the continuous column {column.name!r} holds dates ({dtype}); turn them into numbers with "
            f"add_datepart(df, {column.name!r}), or make the column categorical"
        )
    if types.is_complex_dtype(dtype):
        raise DataError(f"the continuous column {column.name!r} holds complex numbers; split it into two columns")
    if types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype):
        nullable: Floats = column.to_numpy(np.float64, na_value=np.nan)
        return nullable
    return _numbers_of_objects(column)


def _numbers_of_objects(column: pd.Series[Any]) -> Floats:
    import pandas as pd

    out = np.full(len(column), np.nan)
    present = np.flatnonzero(column.notna().to_numpy(np.bool_))
    held = column.iloc[present]
    if pd.api.types.infer_dtype(held) in (
        "string",
        "integer",
        "floating",
        "mixed-integer-float",
        "boolean",
        "decimal",
        "empty",
    ):
        out[present] = pd.to_numeric(held, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        present = present[np.isnan(out[present])]
    for i in present.tolist():
        value = column.iloc[i]
        try:
            if isinstance(value, str) and value.strip().lower() in _NO_TEXT:
                continue
            if not isinstance(plain(value), str | bool | int | float | Decimal):
                raise TypeError
            if isinstance(value, str) and "_" in value:  # Python would read "1_0" as ten
                raise ValueError
            out[i] = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            what = "text" if isinstance(value, str) else type(value).__name__
            raise DataError(
                f"the continuous column {column.name!r} holds {what} in {_row(column, i)}: {value!r}. Turn it "
                "into a number; a column of such values belongs in cat_names when the data is made"
            ) from error
    return out


def _row(column: pd.Series[Any], position: int) -> str:
    label = column.index[position]
    return f"row {position}" if label is position or label == position else f"row {position} (index {label!r})"


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return value is None or (not isinstance(value, str) and pd.isna(value) is True)


def _is_ordered(column: pd.Series[Any]) -> bool:
    import pandas as pd

    return isinstance(column.dtype, pd.CategoricalDtype) and bool(column.dtype.ordered)


def _median(x: Floats) -> float:
    """As NumPy's, five times as quick: looking for one place instead of two, NumPy partitions with SIMD."""
    half = len(x) // 2
    parted = np.partition(x, half)
    upper = float(parted[half])
    return upper if len(x) % 2 else (float(parted[:half].max()) + upper) / 2


def _is_constant(x: Floats) -> bool:
    """Whether the numbers differ by no more than rounding makes them differ (as scikit-learn decides it)."""
    mean, variance = x.mean(), x.var()
    eps = np.finfo(np.float64).eps
    return bool(variance <= x.size * eps * variance + (x.size * mean * eps) ** 2) or bool(x.min() == x.max())


def _to_normal(x: Floats, quantiles: Floats) -> Floats:
    """The rank of each number among the quantiles, as a value of the standard normal distribution."""
    ranks = np.linspace(0, 1, len(quantiles))
    # Repeated values lie at the middle of the ranks they take up: read the curve from both sides.
    rank = 0.5 * (np.interp(x, quantiles, ranks) - np.interp(-x, -quantiles[::-1], -ranks[::-1]))
    rank = np.where(x >= quantiles[-1], 1.0, np.where(x <= quantiles[0], 0.0, rank))
    # 1e-7 keeps the ends at +-5.2 deviations, where scikit-learn puts them too.
    normal: Floats = torch.special.ndtri(torch.from_numpy(np.clip(rank, 1e-7, 1 - 1e-7))).numpy()
    return normal


def _as_floats(values: Sequence[float] | None) -> Floats | None:
    return None if values is None else np.asarray(values, np.float64)


def _column_names(names: Sequence[str], what: str) -> list[str]:
    if isinstance(names, str):
        raise ArgumentError(f"{what} must be a list of column names, got the word {names!r}; write [{names!r}]")
    given = list(names)
    odd = [n for n in given if not isinstance(n, str)]
    if odd:
        raise ArgumentError(
            f"{what} must hold text, got {odd[0]!r}; name the columns: df.columns = df.columns.astype(str)"
        )
    twice = sorted({n for n in given if given.count(n) > 1})
    if twice:
        raise ArgumentError(f"{what} names {twice} more than once")
    return given


def _positions(rows: Rows, n: int) -> npt.NDArray[np.int64]:
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
    return given.astype(np.int64)


def _count_codes(
    name: str, table: npt.NDArray[np.int64], codes: npt.NDArray[np.int64], values: list[Level]
) -> TransformReport:
    report = TransformReport()
    unknown = np.flatnonzero(table == UNKNOWN_CODE)
    held = np.bincount(codes + 1, minlength=len(values) + 1)
    if held[0]:
        report.missing[name] = int(held[0])
    met = unknown[held[unknown + 1] > 0]
    if len(met):
        report.unknown[name] = int(held[met + 1].sum())
        report.examples[name] = [repr(values[i])[:40] for i in met[:5]]
    return report


def _count_numbers(name: str, x: Floats, bad: Bools) -> TransformReport:
    report = TransformReport()
    missing, total = int(np.isnan(x).sum()), int(bad.sum())
    if total:
        report.filled[name] = total
    if missing:
        report.missing[name] = missing
    if total > missing:
        report.infinite[name] = total - missing
    return report
