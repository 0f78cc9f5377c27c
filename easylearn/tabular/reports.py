"""What was seen in tables on their way into numbers: unknown, missing and infinite values, by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..data.levels import Level
from ..data.values import Bools, Floats

UNKNOWN_CODE, MISSING_CODE, N_SPECIAL = 0, 1, 2


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
        """Add what was seen in a column that is not in yet; the rows are the same."""
        for name in ("unknown", "missing", "infinite", "filled", "examples"):
            getattr(self, name).update(getattr(of_column, name))

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "column", "unknown", "missing", "infinite", "filled", "fraction", "examples"
    )  # fmt: skip

    def rows_of_columns(self, names: Iterable[str]) -> list[list[Any]]:
        """One row for each of some columns with something to tell, as `COLUMNS` names its cells."""
        found = []
        for name in names:
            counts = [c.get(name, 0) for c in (self.unknown, self.missing, self.infinite, self.filled)]
            if any(counts):
                found.append([name, *counts, sum(counts[:3]) / self.rows, ", ".join(self.examples.get(name, []))])
        return found

    @property
    def is_clean(self) -> bool:
        """Whether every value was a known category or a finite number."""
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


def count_codes(
    name: str, codes: npt.NDArray[np.int64], held: npt.NDArray[np.int64], values: Sequence[Level]
) -> TransformReport:
    """What was seen in a categorical column.

    Args:
        name: of the column.
        codes: what each of `values` became.
        held: how many places are missing, then how often each of `values` occurs.
        values: different ones.
    """
    report = TransformReport()
    if held[0]:
        report.missing[name] = int(held[0])
    others = np.flatnonzero((codes[: len(values)] == UNKNOWN_CODE) & (held[1:] > 0))
    if len(others):
        report.unknown[name] = int(held[others + 1].sum())
        report.examples[name] = [repr(values[i])[:40] for i in others[:5]]
    return report


def count_numbers(name: str, x: Floats, bad: Bools) -> TransformReport:
    """What was seen in a continuous column.

    Args:
        name: of the column.
        x: its numbers, missing as NaN.
        bad: which of them are missing or infinite.
    """
    report = TransformReport()
    missing, total = int(np.isnan(x).sum()), int(bad.sum())
    if total:
        report.filled[name] = total
    if missing:
        report.missing[name] = missing
    if total > missing:
        report.infinite[name] = total - missing
    return report
