"""What was seen in tables on their way into numbers: unknown, missing and infinite values, by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..data.levels import Level
from ..data.values import Bools, Floats

if TYPE_CHECKING:
    from typing_extensions import Self

UNKNOWN_CODE, MISSING_CODE, N_SPECIAL = 0, 1, 2
COUNTS = ("unknown", "missing", "infinite", "filled")


@dataclass
class TransformReport:
    """What was seen in one or several tables on their way into numbers.

    Args:
        rows: how many rows were seen.
        unknown: per categorical column, the values that are none of its categories.
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

    def __iadd__(self, other: TransformReport) -> Self:
        """Count in other rows; or other columns of the same rows, by a report whose `rows` is 0."""
        self.rows += other.rows
        for what in COUNTS:
            mine: dict[str, int] = getattr(self, what)
            for name, n in getattr(other, what).items():
                mine[name] = mine.get(name, 0) + n
        for name, words in other.examples.items():
            self.examples[name] = list(dict.fromkeys([*self.examples.get(name, []), *words]))[:5]
        return self

    def rows_of_columns(self, names: Iterable[str]) -> list[list[Any]]:
        """For each of some columns with something to tell: its name, its counts, their share of the rows, examples."""
        found = []
        for name in names:
            counts = [getattr(self, what).get(name, 0) for what in COUNTS]
            if any(counts):
                found.append([name, *counts, sum(counts[:3]) / self.rows, ", ".join(self.examples.get(name, []))])
        return found

    @property
    def is_clean(self) -> bool:
        """Whether every value was a known category or a finite number."""
        return not (self.unknown or self.missing or self.infinite)

    def __str__(self) -> str:
        if self.is_clean:
            return f"{self.rows} rows, nothing unknown, missing or infinite"
        lines = [f"{self.rows} rows"]
        for what in COUNTS:
            for name, n in getattr(self, what).items():
                shown = f", for example {', '.join(self.examples[name])}" if what == "unknown" else ""
                lines.append(f"  {what:9}{n:>9}  in {name}{shown}")
        return "\n".join(lines)


def count_codes(
    name: str, codes: npt.NDArray[np.int64], held: npt.NDArray[np.int64], values: Sequence[Level]
) -> TransformReport:
    """What was seen in a categorical column: how many places are missing, then how often each value is `held`.

    `codes` say what each of the values became.
    """
    others = np.flatnonzero((codes[: len(values)] == UNKNOWN_CODE) & (held[1:] > 0))
    examples = {name: [repr(values[i])[:40] for i in others[:5]]} if len(others) else {}
    return TransformReport(
        unknown=_if_any(name, held[others + 1].sum()), missing=_if_any(name, held[0]), examples=examples
    )


def count_numbers(name: str, x: Floats, bad: Bools) -> TransformReport:
    """What was seen in a continuous column: its numbers, missing as NaN, and which are missing or infinite."""
    missing, total = np.isnan(x).sum(), bad.sum()
    return TransformReport(
        missing=_if_any(name, missing), infinite=_if_any(name, total - missing), filled=_if_any(name, total)
    )


def _if_any(name: str, n: Any) -> dict[str, int]:
    return {name: int(n)} if n else {}
