"""From a DataFrame to two arrays of numbers, with everything that was learned taken from the training rows only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..data.levels import Level, Lookup, from_json, in_order, to_json
from ..data.values import Bools, Floats, Rows, factorize, is_ordered, numbers, positions, require_columns
from ..device import mapping
from ..errors import ArgumentError, DataError, EasyLearnError, StateError, did_you_mean
from .reports import MISSING_CODE, N_SPECIAL, UNKNOWN_CODE, TransformReport, count_codes, count_numbers
from .summaries import LARGEST, LevelCounts, NumberSums, Spread, median, unusable

if TYPE_CHECKING:
    import pandas as pd

Scale = Literal["standard", "quantile", "none"]
Fill = Literal["median", "mean", "constant"]

UNKNOWN, MISSING = "(unknown)", "(missing)"
_VERSION = 1
_MANY_ROWS, _MOST_THREADS = 50_000, 4
_PLAIN = (str, int, float, bool, type(None))


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
            return np.clip(y, -LARGEST, LARGEST, out=y) if y.size and np.abs(y).max() > LARGEST else y
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


Blocks = Callable[[list[str]], Iterator[tuple["pd.DataFrame", Bools]]]
"""Gives some columns of a table in blocks of rows, with masks of the training rows."""


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

    def fit_blocks(self, blocks: Blocks) -> tuple[TransformReport, TransformReport]:
        """Learn from a table that is never wholly in memory.

        The same as `fit` on its training rows, but for the last digits of means and deviations. A second reading looks
        for the medians of large tables; `scale="quantile"` reads one column at a time, which has to fit into memory.
        So have the different values of all categorical columns.

        Args:
            blocks: given the names of columns, their rows in blocks, each with a mask of its training rows; the same
                ones whenever it is called.

        Returns:
            What was met in the training rows, and in the others.

        Raises:
            DataError: as from `fit`.
        """
        names = [*self.cat_names, *self.cont_names]
        levels = {name: LevelCounts() for name in self.cat_names}
        sums = {name: NumberSums(name) for name in self.cont_names}
        met = (TransformReport(), TransformReport())
        for frame, train in blocks(names):
            require_columns(frame, names)
            met[0].rows += int(train.sum())
            met[1].rows += int((~train).sum())
            for name, counts in levels.items():
                counts.add(frame[name], train)
            for name, sum_ in sums.items():
                sum_.add(frame[name], train)
            del frame, train  # before the next block is read
        if not met[0].rows:
            raise DataError("the table has no training rows, so there is nothing to learn from")
        cats = []
        for name, counts in levels.items():
            counts.settle()
            cats.append(self._learn_levels(name, counts.ordered, counts.values, counts.held(0)[1:]))
            for report, of_column in zip(met, counts.reports(name, cats[-1].lookup.codes(counts.values)), strict=True):
                report.take(of_column)
        medians = self._medians(blocks, sums) if self.fill == "median" else {}
        conts = []
        for name, sum_ in sums.items():

            def quantiles(n: int, name: str = name) -> Floats:
                return np.quantile(_clean(blocks, name), np.linspace(0, 1, n))

            conts.append(
                self._number(name, sum_.flag, sum_.spread, lambda name=name: medians[name], quantiles)  # type: ignore[misc]
            )
            for report, of_column in zip(met, sum_.met, strict=True):
                report.take(of_column)
        self._cats, self._conts = cats, conts
        return met

    def _medians(self, blocks: Blocks, sums: Mapping[str, NumberSums]) -> dict[str, float]:
        """The medians of the training rows, by a second reading where the first one did not see all numbers at once."""
        there = {name: sum_ for name, sum_ in sums.items() if sum_.spread.n}
        middles = {name: middle for name, sum_ in there.items() if (middle := sum_.middle()) is not None}
        found = {name: sum_.median() for name, sum_ in there.items() if name not in middles}
        for frame, train in blocks(list(middles)) if middles else ():
            for name, middle in middles.items():
                middle.add(_usable(frame[name], train))
            del frame, train
        for name, middle in middles.items():
            value = middle.median()
            found[name] = median(_clean(blocks, name)) if value is None else value
        return found

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
            bad = unusable(x)
            if bad[0]:
                report.take(count_numbers(number.name, x, bad))
                x[0] = number.fill
            conts[0, j] = number.scaled(x)[0]
            if number.flag:
                conts[0, place] = bad[0]
                place += 1
        return Encoded(cats, conts, report)

    def known_types(self) -> dict[str, list[str]]:
        """How a file's columns are to be read so that they mean what they meant in training; see `read_table`."""
        text = [c.name for c in self._learned() if "str" in c.lookup.kinds]
        return {"text": text, "numbers": [n for n in (*self.cat_names, *self.cont_names) if n not in text]}

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
        chosen = None if rows is None else positions(rows, n)
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
                spec = self._learn_levels(self.cat_names[j], is_ordered(cat_columns[j]), values, counts)
            else:
                spec = self._learned()[j]
            if cats is None:
                return spec, []
            # The last entry is read by -1, the code of a missing value.
            table = np.array([*spec.lookup.codes(values), MISSING_CODE], np.int64)
            np.take(table, codes, out=cats[:, j], mode="wrap")
            held = (np.bincount(codes[part] + 1, minlength=len(values) + 1) for part in parts)
            return spec, [count_codes(spec.name, table, counts, values) for counts in held]

        def number(j: int) -> tuple[_Number, Bools | None, list[TransformReport]]:
            x = numbers(cont_columns[j])
            bad = unusable(x)
            any_bad = bool(bad.any())
            spec = (
                self._learn_scale(self.cont_names[j], x, bad if any_bad else None, chosen) if learn else self._conts[j]
            )
            met: list[TransformReport] = []
            if conts is not None:
                if any_bad:
                    met = [count_numbers(spec.name, x[part], bad[part]) for part in parts]
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

    def _learn_levels(self, name: str, ordered: bool, values: list[Level], counts: npt.NDArray[np.int64]) -> _Category:
        total: dict[Level, int] = {}
        for value, count in zip(values, counts.tolist(), strict=True):
            if count:  # equal values of different types (1 and True) are one level
                total[value] = total.get(value, 0) + count
        levels = list(total) if ordered else in_order(total)
        kept = [v for v in levels if total[v] >= self.min_count]
        if self.max_levels is not None and len(kept) > self.max_levels:
            # sorted() is stable: among equally frequent levels the first in order stay.
            frequent = set(sorted(range(len(kept)), key=lambda i: -total[kept[i]])[: self.max_levels])
            kept = [v for i, v in enumerate(kept) if i in frequent]
        return _Category(name, kept, ordered, len(levels) - len(kept))

    def _learn_scale(self, name: str, x: Floats, bad: Bools | None, rows: npt.NDArray[np.int64] | None) -> _Number:
        if rows is not None:
            x, bad = x[rows], None if bad is None else bad[rows]
        flag = bad is not None and bool(bad.any())
        if flag and bad is not None:
            x = x[~bad]
        return self._number(name, flag, Spread.of(x), lambda: median(x), lambda n: np.quantile(x, np.linspace(0, 1, n)))

    def _number(
        self, name: str, flag: bool, spread: Spread, middle: Callable[[], float], quantiles: Callable[[int], Floats]
    ) -> _Number:
        """What follows from the numbers of the training rows; median and quantiles are asked for where they matter."""
        if self.fill == "constant" or not spread.n:
            fill = self.fill_value
        else:
            fill = middle() if self.fill == "median" else spread.mean
        if self.scale == "none":
            return _Number(name, fill, 0.0, 1.0, flag, None)
        if not spread.n or spread.is_constant:
            return _Number(name, fill, fill, 0.0, flag, None)
        if self.scale == "quantile":
            return _Number(name, fill, 0.0, 1.0, flag, quantiles(min(1000, spread.n)))
        return _Number(name, fill, spread.mean, 1.0 / math.sqrt(spread.variance), flag, None)

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

    def agrees_with(self, other: TableProcessor) -> bool:
        """Whether both make the same of every table, but for the last digits of what is scaled.

        Args:
            other: fitted.
        """

        def parts(processor: TableProcessor) -> tuple[Any, list[float]]:
            state = processor.state_dict()
            digits = [c.pop(n) for c in state["conts"] for n in ("fill", "center", "factor")]
            return state, digits

        (state, digits), (of_other, other_digits) = parts(self), parts(other)
        return state == of_other and np.allclose(digits, other_digits, rtol=1e-9, atol=0.0)

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


def _usable(column: pd.Series[Any], train: Bools) -> Floats:
    """A copy of the usable numbers of the training rows of a block."""
    x = numbers(column)
    return x[train & ~unusable(x)]


def _clean(blocks: Blocks, name: str) -> Floats:
    """The usable numbers of the training rows of one column."""
    pieces = []
    for frame, train in blocks([name]):
        pieces.append(_usable(frame[name], train))
        del frame, train
    return np.concatenate(pieces)


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
