"""A table whose columns are looked at once for each question, whoever asks: targets, guesses, warnings, codes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..data.target_kinds import Where
from ..data.values import Coded, Floats, factorize, numbers, require_columns
from ..errors import ArgumentError, DataError

if TYPE_CHECKING:
    import pandas as pd


class Column:
    """A column and what was found out about it; `where` makes of a row's position what messages call it."""

    def __init__(self, series: pd.Series[Any], where: Where | None = None) -> None:
        self.series = series
        self.where = where
        self.name = str(series.name)

    def __len__(self) -> int:
        return len(self.series)

    @cached_property
    def coded(self) -> Coded:
        """See `factorize`."""
        return factorize(self.series)

    @cached_property
    def numbers(self) -> Floats:
        """See `numbers`."""
        return numbers(self.series, where=self.where)

    @cached_property
    def as_numbers(self) -> Floats | None:
        """The same; None where the column holds what is no number. Text is read once for each different one."""
        import pandas as pd

        try:
            if self.is_number or self.is_span:
                return self.numbers
            codes, values = self.coded
            return np.append(numbers(pd.Series(values, name=self.name, dtype=object)), np.nan)[codes]
        except DataError:
            return None

    @cached_property
    def held(self) -> npt.NDArray[np.int64]:
        """Which of the values of `coded` occur."""
        return np.flatnonzero(np.bincount(self.coded[0] + 1)[1:])

    @cached_property
    def n_present(self) -> int:
        """How many rows have a value."""
        return int(self.series.count())

    @cached_property
    def n_distinct(self) -> int:
        """How many different values there are; numbers are counted without codes for them."""
        return int(self.series.nunique()) if self.is_number else len(self.held)

    def at(self, rows: npt.NDArray[np.int64]) -> Column:
        """The column in some rows, with what is known of it already."""
        if len(rows) == len(self):
            return self
        few, known = Column(self.series.iloc[rows]), vars(self)
        if "coded" in known:
            few.coded = (self.coded[0][rows], self.coded[1])
        if "numbers" in known:
            few.numbers = self.numbers[rows]
        return few

    @property
    def is_number(self) -> bool:
        """Whether its type is one of real numbers; booleans are none."""
        import pandas as pd

        return pd.api.types.is_any_real_numeric_dtype(self.series.dtype)

    @property
    def is_span(self) -> bool:
        """Whether it holds lengths of time."""
        return self.series.dtype.kind == "m"

    @cached_property
    def is_whole(self) -> bool:
        """Whether every number of it is whole; whole numbers with gaps come as floats."""
        import pandas as pd

        if pd.api.types.is_integer_dtype(self.series.dtype):
            return True
        x = self.numbers
        head = x[:1000]
        if not (np.isnan(head) | (head == np.floor(head))).all():
            return False
        return bool((np.isnan(x) | ((x == np.floor(x)) & np.isfinite(x))).all())


class TableView:
    """The columns of a DataFrame, each made once; arguments as of `Column`."""

    def __init__(self, df: pd.DataFrame, where: Where | None = None) -> None:
        self.df = df
        self.where = where
        self._columns: dict[str, Column] = {}

    @classmethod
    def of(cls, given: pd.DataFrame | TableView) -> TableView:
        """A table of a DataFrame; one that is a table already is passed on."""
        return given if isinstance(given, TableView) else cls(given)

    def __len__(self) -> int:
        return len(self.df)

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = Column(self.df[name], self.where)
        return self._columns[name]

    @cached_property
    def names(self) -> list[str]:
        """All columns; one whose name is no text, or comes twice, is refused."""
        names = list(self.df.columns)
        odd = [n for n in names if not isinstance(n, str)]
        if odd:
            raise ArgumentError(
                f"column names must be text, got {odd[0]!r}; name them: df.columns = df.columns.astype(str)"
            )
        self.require(names)
        return names

    def require(self, names: Sequence[str], aside: str = "") -> None:
        """See `require_columns`."""
        require_columns(self.df, names, aside)
