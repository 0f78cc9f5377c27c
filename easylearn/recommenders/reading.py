"""Histories as somebody writes them, as numbers of items and weights. Neither torch nor pandas is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..data.levels import Lookup, plain
from ..errors import DataError

HISTORY = "history"
"""The key of a dictionary that holds a history: a person as JSON; and the name of a file's input."""

_MOST = 1e38  # models compute in 32 bits, where more is endless


class HistoryReader:
    """Finds the items of histories among those that can be recommended.

    Args:
        items: the names of these, in the order of their numbers.
    """

    def __init__(self, items: Sequence[str]) -> None:
        self._lookup = Lookup(tuple(items), 0, -1)

    def codes(self, names: Sequence[Any]) -> list[int]:
        """The number of each item of some `names`; -1 for one that is not known."""
        return self._lookup.codes(names)

    def __call__(self, history: Any, number: int = 0) -> tuple[dict[int, float], list[str]]:
        """The weight of each item by its number, and the names that are not known.

        Args:
            history: a list of names, a dictionary from names to weights, or either under the key "history".
            number: what messages call it.
        """
        given = self._as_dict(history, number)
        found: dict[int, float] = {}
        for code, weight in zip(self.codes(list(given)), given.values(), strict=True):
            if weight > 0:
                found[code] = found.get(code, 0.0) + weight
        unknown = [str(name) for name, code in zip(given, self.codes(list(given)), strict=True) if code < 0]
        found.pop(-1, None)
        return found, unknown

    def _as_dict(self, history: Any, number: int) -> dict[Any, float]:
        if isinstance(history, Mapping) and set(history) == {HISTORY}:
            history = history[HISTORY]
        if isinstance(history, Mapping):
            return {as_name(n, number): as_weight(w, n, number) for n, w in history.items()}
        history = listed(history)
        if history != [] and not is_history(history):
            raise DataError(f"history {number} is a list of names or a dictionary of weights, got {history!r:.60}")
        counts: dict[Any, float] = {}
        for given in history:
            name = as_name(given, number)
            counts[name] = counts.get(name, 0.0) + 1.0
        return counts


def listed(given: Any) -> Any:
    """An array or a tuple of names as a list; anything else as it is."""
    return list(given) if isinstance(given, tuple | np.ndarray) else given


def is_history(given: Any) -> bool:
    """Whether it is one history, and not a list of them; an empty list says nothing by itself."""
    given = listed(given)
    several = (list, tuple, np.ndarray, Mapping)
    return isinstance(given, Mapping) or (isinstance(given, list) and bool(given) and not isinstance(given[0], several))


def as_name(name: Any, number: int) -> Any:
    """The name of an item, which history `number` holds, as a plain value."""
    try:
        value = None if isinstance(name, list | Mapping) else name if name is None else plain(name)
    except TypeError:
        value = None
    if value is None or value != value:
        raise DataError(f"history {number} holds {name!r:.60}, which names no item: a name is text or a number")
    return value


def as_weight(weight: Any, name: Any, number: int) -> float:
    """How much of the item of that `name` history `number` holds."""
    value: Any = weight if isinstance(weight, Real) else -1
    if not 0 <= value <= _MOST:
        raise DataError(
            f"history {number}: how much of {name!r} was taken is 0 or more, and below {_MOST:.1e}, got {weight!r:.60}"
        )
    return float(weight)
