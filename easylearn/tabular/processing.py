"""From a DataFrame to two arrays of numbers, with everything that was learned taken from the training rows only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..data.frames import KnownTypes
from ..data.levels import Level
from ..data.values import Bools, Rows, is_ordered, positions
from ..device import mapping
from ..errors import ArgumentError, DataError, EasyLearnError, StateError, did_you_mean
from .fitted import Fill, FittedCategory, FittedNumber, NotPlainError, Piece, Scale, Settings, Spread, median, unusable
from .reports import N_SPECIAL, TransformReport
from .summaries import Blocks, learn_blocks
from .view import Column, TableView

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN, MISSING = "(unknown)", "(missing)"
_VERSION = 1
_READ_AS_NUMBERS = {"bool", "int", "float"}  # a cell of a file says what it is; categories of others are read as text
_MANY_ROWS, _MOST_THREADS = 50_000, 4


@dataclass
class Encoded:
    """A table as numbers, and what was unknown, missing, infinite or filled in it."""

    cats: npt.NDArray[np.int64]  # codes, shape (n, number of categorical columns)
    conts: npt.NDArray[np.float32]  # shape (n, number of continuous columns and flags)
    report: TransformReport
    split: tuple[TransformReport, TransformReport] | None = None  # rows that were learned from and others, if any

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model takes: `cats` and `conts`, sharing their memory."""
        return torch.from_numpy(self.cats), torch.from_numpy(self.conts)


class TableProcessor:
    """Turns tables into codes and numbers, always in the way that the training rows asked for.

    Categorical columns: code 0 is *unknown* (a value that no training row held, or a rare one), code 1 is *missing*,
    then come the categories: in the order of an ordered categorical, otherwise sorted. Continuous columns: missing and
    infinite places are filled; every column that had such places in training gets one more column that is 1 there and 0
    elsewhere. Then comes the scale. A column that never varied in training gives 0 always, unless `scale="none"`.

    Args:
        cat_names: the categorical columns.
        cont_names: the continuous columns.
        scale: "standard" (mean 0, deviation 1), "quantile" (a normal distribution by rank) or "none".
        fill: what missing numbers become: the training rows' "median", their "mean", or "constant".
        fill_value: the number for `fill="constant"`.
        min_count: a category with fewer training rows becomes *unknown*, which is thereby trained.
        max_levels: keep at most so many categories of a column, the most frequent; the others become *unknown*.

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
        self, cat_names: Iterable[str], cont_names: Iterable[str], *, scale: Scale = "standard", fill: Fill = "median",
        fill_value: float = 0.0, min_count: int = 1, max_levels: int | None = None,
    ) -> None:  # fmt: skip
        self.cat_names = column_list(cat_names, "cat_names")
        self.cont_names = column_list(cont_names, "cont_names")
        twice = [n for n in self.cat_names if n in set(self.cont_names)]
        if twice:
            raise ArgumentError(f"columns cannot be both categorical and continuous, but {twice} are in both lists")
        self.settings = Settings(scale, fill, fill_value, min_count, max_levels)
        self._cats: list[FittedCategory] | None = None
        self._conts: list[FittedNumber] = []

    @property
    def names(self) -> list[str]:
        """The columns that are read: the categorical ones, then the continuous ones."""
        return [*self.cat_names, *self.cont_names]

    def fit(self, df: pd.DataFrame) -> TableProcessor:
        """Learn categories, fill values and scales from `df`, which holds training rows only. Returns itself."""
        self.fit_transform(df)
        return self

    def fit_transform(self, df: pd.DataFrame | TableView, rows: Rows | None = None) -> Encoded:
        """Learn from some rows and encode all, as `fit` and `transform` would, looking at each column once.

        Args:
            df: training and other rows.
            rows: positions (not labels) of the training rows, or a boolean mask; None means all.
        """
        table = TableView.of(df)
        table.require(self.names)
        if not len(table):
            raise DataError("the table has no rows, so there is nothing to learn from")
        encoded, self._cats, self._conts = self._encode(
            table, slice(None) if rows is None else positions(rows, len(table))
        )
        return encoded

    def fit_blocks(self, blocks: Blocks) -> tuple[TransformReport, TransformReport]:
        """Learn from a table that is never wholly in memory.

        The same as `fit` on its training rows, but for the last digits of means and deviations. A second reading looks
        for the medians of large tables; `scale="quantile"` reads one column at a time, which has to fit into memory. So
        have the different values of all categorical columns.

        Args:
            blocks: given the names of columns, the same blocks of rows each time, with masks of the training rows.

        Returns:
            What was seen in the training rows, and in the others.
        """
        self._cats, self._conts, seen = learn_blocks(blocks, self.cat_names, self.cont_names, self.settings)
        return seen

    def _learn_category(self, column: Column, rows: Piece) -> FittedCategory:
        codes, values = column.coded
        counts = np.bincount(codes[rows] + 1, minlength=len(values) + 1)[1:]
        return FittedCategory.learn(column.name, is_ordered(column.series), values, counts, self.settings)

    def _learn_number(self, column: Column, bad: Bools, rows: Piece) -> FittedNumber:
        x, bad = column.numbers[rows], bad[rows]
        flag = bool(bad.any())
        x = x[~bad] if flag else x
        return FittedNumber.learn(column.name, flag, Spread.of(x), lambda: median(x), lambda: x, self.settings)

    def transform(self, df: pd.DataFrame | TableView) -> Encoded:
        """Encode a table with what was learned; other columns are ignored."""
        self._learned()
        table = TableView.of(df)
        table.require(self.names, " (None where a value is not known)")
        return self._encode(table, None)[0]

    def _encode(
        self, table: TableView, train: Piece | None
    ) -> tuple[Encoded, list[FittedCategory], list[FittedNumber]]:
        """The rows of a table by what is learned of `train`, which is reported apart; None takes what is known."""
        n = len(table)
        rows: list[Piece] = [slice(None)]
        if isinstance(train, np.ndarray):
            others = np.ones(n, np.bool_)
            others[train] = False
            rows += [train, np.flatnonzero(others)]
        cats = np.empty((n, len(self.cat_names)), np.int64)
        conts = np.empty((n, len(self.cont_names)), np.float32)

        def of_category(j: int) -> tuple[FittedCategory, list[TransformReport]]:
            column = table[self.cat_names[j]]
            fitted = self._learned()[j] if train is None else self._learn_category(column, train)
            return fitted, fitted.encode(column.coded, cats[:, j], rows)

        def of_number(j: int) -> tuple[FittedNumber, list[TransformReport], Bools]:
            column = table[self.cont_names[j]]
            bad = unusable(column.numbers)
            fitted = self._conts[j] if train is None else self._learn_number(column, bad, train)
            return fitted, fitted.encode(column.numbers, bad if bad.any() else None, conts[:, j], rows), bad

        with mapping(min(torch.get_num_threads(), _MOST_THREADS) if n >= _MANY_ROWS else 1) as each:
            # Text holds Python's lock and numbers do not: so one thread reads text while another scales numbers.
            coming = each(of_number, range(len(self.cont_names)))
            of_cats = list(each(of_category, range(len(self.cat_names))))
            of_conts = list(coming)
        if flags := [bad[:, None] for number, _, bad in of_conts if number.flag]:
            conts = np.concatenate([conts, *flags], axis=1, dtype=np.float32)
        reports = [TransformReport(n if isinstance(piece, slice) else len(piece)) for piece in rows]
        for seen in (*(seen for _, seen in of_cats), *(seen for _, seen, _ in of_conts)):
            for report, of_piece in zip(reports, seen, strict=False):  # a column without such rows has none
                report += of_piece
        whole, *split = reports
        encoded = Encoded(cats, conts, whole, (split[0], split[1]) if split else None)
        return encoded, [fitted for fitted, _ in of_cats], [fitted for fitted, *_ in of_conts]

    def transform_row(self, row: Mapping[str, Any]) -> Encoded | None:
        """One row, by column, as `transform` would encode it, without a DataFrame: fifty times as quick.

        None if it lacks a column or holds anything but text, numbers, booleans and None: `transform` knows what to make
        of these, or to say.
        """
        report = TransformReport(1)
        try:
            cats = [category.encode_one(row, report) for category in self._learned()]
            pairs = [number.encode_one(row, report) for number in self._conts]
        except NotPlainError:
            return None
        flags = [bad for (_, bad), number in zip(pairs, self._conts, strict=True) if number.flag]
        conts = [*(x for x, _ in pairs), *flags]
        return Encoded(np.array([cats], np.int64), np.array([conts], np.float32), report)

    def decode(self, cats: npt.NDArray[np.int64], conts: npt.NDArray[np.float32]) -> pd.DataFrame:
        """The arrays of `Encoded` back to values, as far as they are known: "(unknown)" and "(missing)" stay words.

        A number whose flag is set is missing (NaN). Without a flag a filled place looks like its fill value.
        """
        import pandas as pd

        columns: dict[str, Any] = {
            n: np.array(self.levels(n), object)[cats[:, j]] for j, n in enumerate(self.cat_names)
        }
        for number, (j, *flag) in zip(self._conts, self.cont_places.values(), strict=True):
            values = number.unscaled(conts[:, j].astype(np.float64))
            columns[number.name] = np.where(conts[:, flag[0]] > 0, np.nan, values) if flag else values
        frame: pd.DataFrame = pd.DataFrame(columns, index=pd.RangeIndex(len(cats)))
        return frame

    def levels(self, name: str) -> list[Level]:
        """The values of a categorical column by code: "(unknown)", "(missing)", then its categories."""
        for category in self._learned():
            if category.name == name:
                return [UNKNOWN, MISSING, *category.levels]
        raise ArgumentError(f"{name!r} is not a categorical column. {did_you_mean(name, self.cat_names)}")

    @property
    def cardinalities(self) -> dict[str, int]:
        """How many codes each categorical column has, with those of *unknown* and *missing*."""
        return {c.name: N_SPECIAL + len(c.levels) for c in self._learned()}

    def known_types(self) -> KnownTypes:
        """How the columns of a file are to be read so that they mean what they meant in training; see `read_table`."""
        text = [c.name for c in self._learned() if not c.lookup.kinds <= _READ_AS_NUMBERS]
        return {"text": text, "numbers": [n for n in self.names if n not in text]}

    @property
    def cont_out_names(self) -> list[str]:
        """The names of the columns of `Encoded.conts`: the continuous columns, then their flags."""
        self._learned()
        taken, flags = set(self.names), []
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
        flags = iter(range(len(self._conts), len(self.cont_out_names)))
        return {c.name: (j, next(flags)) if c.flag else (j,) for j, c in enumerate(self._conts)}

    def _learned(self) -> list[FittedCategory]:
        if self._cats is None:
            raise StateError("this TableProcessor has learned nothing yet: call fit(df) with the training rows first")
        return self._cats

    def state_dict(self) -> dict[str, Any]:
        """Everything, as numbers, words, lists and dicts that fit in a JSON file."""
        cats, conts = ([c.state_dict() for c in columns] for columns in (self._learned(), self._conts))
        return {"version": _VERSION, "settings": asdict(self.settings), "cats": cats, "conts": conts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TableProcessor:
        """A processor as `state_dict` described it."""
        try:
            if state["version"] != _VERSION:
                raise DataError(
                    f"this table processing was saved in version {state['version']}, this library reads version "
                    f"{_VERSION}; install the version it was saved with"
                )
            cats = [FittedCategory.from_state(c) for c in state["cats"]]
            conts = [FittedNumber.from_state(c) for c in state["conts"]]
            made = cls([c.name for c in cats], [c.name for c in conts], **dict(state["settings"]))
        except EasyLearnError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise DataError(f"this is not the state of a TableProcessor: {str(error)[:200]!r}") from error
        made._cats, made._conts = cats, conts
        return made

    def agrees_with(self, other: TableProcessor) -> bool:
        """Whether both make the same of every table, but for the last digits of what is scaled."""
        states = self.state_dict(), other.state_dict()
        digits = [[c.pop(n) for c in state["conts"] for n in ("fill", "center", "factor")] for state in states]
        return states[0] == states[1] and np.allclose(digits[0], digits[1], rtol=1e-9, atol=0.0)

    def __repr__(self) -> str:
        learned = "learned nothing yet" if self._cats is None else f"{len(self.cont_out_names)} numbers out"
        return (
            f"TableProcessor({len(self.cat_names)} categorical and {len(self.cont_names)} continuous columns, "
            f"scale={self.settings.scale!r}, fill={self.settings.fill!r}, {learned})"
        )


def column_list(names: Iterable[str], what: str) -> list[str]:
    """Names of columns as a list, refused where they are none; `what` is the argument that they came by."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ArgumentError(f"{what} must be a list of column names, got {names!r}; write [{names!r}]")
    given = list(names)
    odd = [n for n in given if not isinstance(n, str)]
    if odd:
        raise ArgumentError(
            f"{what} must hold text, got {odd[0]!r:.100}; name the columns: df.columns = df.columns.astype(str)"
        )
    twice = sorted({n for n in given if given.count(n) > 1})
    if twice:
        raise ArgumentError(f"{what} names {twice} more than once")
    return given
