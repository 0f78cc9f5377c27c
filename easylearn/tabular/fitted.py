"""What was learned of one column, and how its values become codes or numbers by that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..data.levels import Level, Lookup, from_json, in_order, to_json
from ..data.values import Bools, Coded, Floats
from ..errors import ArgumentError, check_whole
from .reports import MISSING_CODE, N_SPECIAL, UNKNOWN_CODE, TransformReport, count_codes, count_numbers

Scale = Literal["standard", "quantile", "none"]
Fill = Literal["median", "mean", "constant"]
Piece = npt.NDArray[np.int64] | slice
"""Some rows of a table."""

LARGEST = float(np.finfo(np.float32).max)
_PLAIN = (str, int, float, bool, type(None))
_QUANTILES = 1000


class NotPlainError(Exception):
    """A value is of a kind that only a whole column can be read as."""


@dataclass(frozen=True)
class Settings:
    """How columns become codes and numbers; see `TableProcessor`."""

    scale: Scale = "standard"
    fill: Fill = "median"
    fill_value: float = 0.0
    min_count: int = 1
    max_levels: int | None = None

    def __post_init__(self) -> None:
        for what, known in (("scale", ("standard", "quantile", "none")), ("fill", ("median", "mean", "constant"))):
            if getattr(self, what) not in known:
                raise ArgumentError(f"{what} must be one of {known}, got {getattr(self, what)!r}")
        check_whole("min_count", self.min_count)
        check_whole("max_levels", 1 if self.max_levels is None else self.max_levels)
        if not np.isfinite(self.fill_value):
            raise ArgumentError(f"fill_value must be a finite number, got {self.fill_value}")


def unusable(x: Floats) -> Bools:
    """Which numbers are missing, infinite or too large for 32 bits."""
    return ~(np.abs(x) <= LARGEST)


def median(x: Floats) -> float:
    """As NumPy's, five times as quick: looking for one place instead of two, NumPy partitions with SIMD."""
    half = len(x) // 2
    parted = np.partition(x, half)
    upper = float(parted[half])
    return upper if len(x) % 2 else (float(parted[:half].max()) + upper) / 2


@dataclass(frozen=True)
class Spread:
    """Count, mean, variance and bounds of finite numbers; those of two blocks add up (Chan et al., 1983).

    >>> whole = Spread.of(np.array([1.0, 2.0])) + Spread.of(np.array([6.0]))
    >>> whole.mean, whole.high, round(whole.variance, 6)
    (3.0, 6.0, 4.666667)
    """

    n: int = 0
    mean: float = 0.0
    variance: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, x: Floats) -> Spread:
        """Of the numbers of an array."""
        return cls(x.size, float(x.mean()), float(x.var()), float(x.min()), float(x.max())) if x.size else cls()

    def __add__(self, other: Spread) -> Spread:
        if not (self.n and other.n):
            return self if self.n else other
        n = self.n + other.n
        apart, share = other.mean - self.mean, other.n / n
        variance = self.variance * (1 - share) + other.variance * share + apart**2 * share * (1 - share)
        return Spread(n, self.mean + apart * share, variance, min(self.low, other.low), max(self.high, other.high))

    @property
    def is_constant(self) -> bool:
        """Whether the numbers differ by no more than rounding makes them differ (as scikit-learn decides it)."""
        eps = float(np.finfo(np.float64).eps)
        rounding = self.n * eps * self.variance + (self.n * self.mean * eps) ** 2
        return self.variance <= rounding or self.low == self.high


@dataclass
class FittedCategory:
    """What was learned of a categorical column."""

    name: str
    levels: list[Level]  # its categories, in the order of their codes
    ordered: bool  # whether they have an order of their own
    n_rare: int  # how many more there were, too rare to be kept

    def __post_init__(self) -> None:
        self.lookup = Lookup(self.levels, N_SPECIAL, UNKNOWN_CODE)

    @classmethod
    def learn(
        cls, name: str, ordered: bool, values: Sequence[Level], counts: npt.NDArray[np.int64], how: Settings
    ) -> FittedCategory:
        """Of the values of a column and of how many training rows hold each of them."""
        total: dict[Level, int] = {}
        for value, count in zip(values, counts.tolist(), strict=True):
            if count:  # equal values of different types (1 and True) are one category
                total[value] = total.get(value, 0) + count
        levels = list(total) if ordered else in_order(total)
        kept = [v for v in levels if total[v] >= how.min_count]
        if how.max_levels is not None and len(kept) > how.max_levels:
            # sorted() is stable: among equally frequent categories the first in order stay.
            frequent = set(sorted(range(len(kept)), key=lambda i: -total[kept[i]])[: how.max_levels])
            kept = [v for i, v in enumerate(kept) if i in frequent]
        return cls(name, kept, ordered, len(levels) - len(kept))

    def encode(self, coded: Coded, out: npt.NDArray[np.int64], pieces: Sequence[Piece]) -> list[TransformReport]:
        """Write the code of each row into `out`; what was seen in each of some pieces of the rows."""
        codes, values = coded
        # The last entry is read by -1, the code of a missing value.
        table = np.array([*self.lookup.codes(values), MISSING_CODE], np.int64)
        np.take(table, codes, out=out, mode="wrap")
        held = (np.bincount(codes[piece] + 1, minlength=len(values) + 1) for piece in pieces)
        return [count_codes(self.name, table, counts, values) for counts in held]

    def encode_one(self, row: Mapping[str, Any], report: TransformReport) -> int:
        """The code of a row's value; NotPlainError where it lacks one, or one that only a column can be read as."""
        value = row.get(self.name, NotPlainError)
        if type(value) not in _PLAIN:
            raise NotPlainError
        if value is None or value != value:
            report.missing[self.name] = 1
            return MISSING_CODE
        (code,) = self.lookup.codes([value])
        if code == UNKNOWN_CODE:
            report.unknown[self.name] = 1
            report.examples[self.name] = [repr(value)[:40]]
        return code

    def state_dict(self) -> dict[str, Any]:
        return {"name": self.name, "ordered": self.ordered, "n_rare": self.n_rare, "levels": to_json(self.levels)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FittedCategory:
        return cls(state["name"], from_json(state["levels"]), state["ordered"], state["n_rare"])


@dataclass
class FittedNumber:
    """What was learned of a continuous column: output = (value - center) * factor, or a place among quantiles."""

    name: str
    fill: float  # stands for what is missing or infinite
    center: float
    factor: float
    flag: bool  # whether there is a second output that is 1 where a value is missing or infinite
    quantiles: Floats | None  # of the training rows, for a scale by rank

    @classmethod
    def learn(
        cls, name: str, flag: bool, spread: Spread, middle: Callable[[], float], all_of: Callable[[], Floats],
        how: Settings,
    ) -> FittedNumber:  # fmt: skip
        """Of the numbers of the training rows; their median, and all of them, are asked for where they matter."""
        if how.fill == "constant" or not spread.n:
            fill = float(how.fill_value)
        else:
            fill = middle() if how.fill == "median" else spread.mean
        if how.scale == "none":
            return cls(name, fill, 0.0, 1.0, flag, None)
        if not spread.n or spread.is_constant:
            return cls(name, fill, fill, 0.0, flag, None)
        if how.scale == "quantile":
            quantiles = np.quantile(all_of(), np.linspace(0, 1, min(_QUANTILES, spread.n)))
            return cls(name, fill, 0.0, 1.0, flag, quantiles)
        return cls(name, fill, spread.mean, 1.0 / math.sqrt(spread.variance), flag, None)

    def encode(
        self, x: Floats, bad: Bools | None, out: npt.NDArray[np.float32], pieces: Sequence[Piece]
    ) -> list[TransformReport]:
        """As `FittedCategory.encode`, of numbers and of which are missing or infinite; None where none is."""
        seen: list[TransformReport] = []
        if bad is not None:
            seen = [count_numbers(self.name, x[piece], bad[piece]) for piece in pieces]
            x = np.where(bad, self.fill, x)
        out[:] = self.scaled(x)
        return seen

    def encode_one(self, row: Mapping[str, Any], report: TransformReport) -> tuple[float, bool]:
        """The scaled number of a row, and whether its value is missing or infinite; see `FittedCategory.encode_one`."""
        value = row.get(self.name, "")
        if type(value) not in _PLAIN or isinstance(value, str):
            raise NotPlainError
        try:
            x = math.nan if value is None else float(value)
        except OverflowError:
            x = math.inf
        bad = not abs(x) <= LARGEST
        if bad:
            report += count_numbers(self.name, np.array([x]), np.array([True]))
            x = self.fill
        if self.quantiles is not None:
            return float(_to_normal(np.array([x]), self.quantiles)[0]), bad
        return min(max((x - self.center) * self.factor, -LARGEST), LARGEST), bad

    def scaled(self, x: Floats) -> Floats:
        """The finite numbers `x` on the scale of the model."""
        if self.quantiles is not None:
            return _to_normal(x, self.quantiles)
        with np.errstate(over="ignore"):
            y = np.subtract(x, self.center)
            y *= self.factor
        return np.clip(y, -LARGEST, LARGEST, out=y) if y.size and np.abs(y).max() > LARGEST else y

    def unscaled(self, y: Floats) -> Floats:
        """The inverse of `scaled`; a column that never varied gives its fill value.

        The model's numbers have 32 bits. What these do not tell is rounded away, so that a zero is a zero again.
        """
        if self.quantiles is not None:
            import torch

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

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "quantiles": None if self.quantiles is None else self.quantiles.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FittedNumber:
        quantiles = None if state["quantiles"] is None else np.asarray(state["quantiles"], np.float64)
        if quantiles is not None and (quantiles.ndim != 1 or len(quantiles) < 2):
            raise ValueError("quantiles are two numbers at least, in a row")
        fill, center, factor = (float(state[n]) for n in ("fill", "center", "factor"))
        return cls(state["name"], fill, center, factor, bool(state["flag"]), quantiles)


def _to_normal(x: Floats, quantiles: Floats) -> Floats:
    """The rank of each number among the quantiles, as a value of the standard normal distribution."""
    ranks = np.linspace(0, 1, len(quantiles))
    # Repeated values lie at the middle of the ranks they take up: read the curve from both sides.
    rank = 0.5 * (np.interp(x, quantiles, ranks) - np.interp(-x, -quantiles[::-1], -ranks[::-1]))
    rank = np.where(x >= quantiles[-1], 1.0, np.where(x <= quantiles[0], 0.0, rank))
    # 1e-7 keeps the ends at +-5.2 deviations, where scikit-learn puts them too.
    rank = np.clip(rank, 1e-7, 1 - 1e-7)
    try:
        import torch
    except ImportError:  # where a graph is served without it
        return np.array([NormalDist().inv_cdf(r) for r in rank.tolist()])
    normal: Floats = torch.special.ndtri(torch.from_numpy(rank)).numpy()
    return normal
