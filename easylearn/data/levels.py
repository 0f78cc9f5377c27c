"""The values a categorical column can take: plain Python values that sort, compare and fit in a JSON file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError

Level = Any
NUMBERS = frozenset({"bool", "int", "float", "decimal"})


def plain(value: Any) -> Level:
    """The Python value behind a NumPy or pandas scalar.

    Raises:
        TypeError: the value cannot be a level (a list, a dict, an object of an unknown class).

    >>> plain(np.int64(3)), plain(np.str_("a")), plain(np.bool_(True))
    (3, 'a', True)
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    if isinstance(value, bool | int | float | Decimal):
        return value
    if isinstance(value, Fraction):
        return float(value)
    import pandas as pd

    if isinstance(value, np.datetime64 | dt.datetime):
        return pd.Timestamp(value)
    if isinstance(value, np.timedelta64 | dt.timedelta):
        return pd.Timedelta(value)
    if isinstance(value, pd.Interval):
        return pd.Interval(plain(value.left), plain(value.right), closed=value.closed)
    if isinstance(value, dt.date | pd.Period):
        return value
    raise TypeError(
        f"{type(value).__name__} cannot be a category; text, numbers, booleans, dates, periods and intervals can"
    )


def plain_all(values: Sequence[Any]) -> list[Level]:
    """`plain` of each value; lists of one of the common types are passed on as they are."""
    if set(map(type, values)) <= {str, int, float, bool}:
        return list(values)
    return [plain(v) for v in values]


class _Kind(NamedTuple):
    """What values of one kind are, how they are written into JSON and read again, and by what they are sorted.

    Kinds with one rank are compared with one another.
    """

    type: type
    rank: int
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    key: Callable[[Any], tuple[Any, ...]] = lambda value: (value,)


def _isoformat(value: Any) -> str:
    return value.isoformat()  # type: ignore[no-any-return]


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    if value.is_nan():  # one of them cannot be looked up at all
        raise ValueError("no number")
    return value


_PLAIN = {
    "str": _Kind(str, 1, str, str),
    "bool": _Kind(bool, 0, bool, bool),
    "int": _Kind(int, 0, int, int),
    "float": _Kind(float, 0, lambda v: v if np.isfinite(v) else str(v), float),
    "decimal": _Kind(Decimal, 0, str, _decimal),
    "date": _Kind(dt.date, 2, _isoformat, dt.date.fromisoformat),
}
"""The kinds that want no pandas, which need not be there where a model is served."""
_NAMES = {known.type: name for name, known in _PLAIN.items()}


@cache
def _kinds() -> dict[str, _Kind]:
    import pandas as pd

    def sides(i: Any) -> list[Any]:
        return [*([kind(side), _kinds()[kind(side)].write(side)] for side in (i.left, i.right)), i.closed]

    def interval(given: Any) -> Any:
        left, right = (_kinds()[name].read(packed) for name, packed in given[:2])
        return pd.Interval(left, right, closed=given[2])

    return {
        **{name: known for name, known in _PLAIN.items() if name != "date"},
        # Times with and without a zone cannot be compared with each other.
        "timestamp": _Kind(pd.Timestamp, 3, _isoformat, pd.Timestamp, lambda v: (v.tzinfo is not None, v)),
        "timedelta": _Kind(pd.Timedelta, 4, _isoformat, pd.Timedelta),
        "period": _Kind(
            pd.Period, 5,
            lambda v: [v.ordinal, v.freqstr], lambda p: pd.Period(ordinal=p[0], freq=p[1]),
            lambda v: (v.freqstr, v.ordinal),
        ),
        "interval": _Kind(
            pd.Interval, 6, sides, interval, lambda v: (_sort_key(v.left), _sort_key(v.right), v.closed)
        ),
        "date": _PLAIN["date"],  # after the time, which is one
    }  # fmt: skip


def _known(name: str) -> _Kind:
    return _PLAIN[name] if name in _PLAIN else _kinds()[name]


def kind(value: Level) -> str:
    """The name of the kind that a plain value is of: "str", "int", "float", "bool", "timestamp" ..."""
    exact = _NAMES.get(type(value))
    return exact or next(name for name, known in _kinds().items() if isinstance(value, known.type))


def _sort_key(value: Level) -> tuple[Any, ...]:
    known = _known(kind(value))
    return (known.rank, *known.key(value))


def in_order(values: Iterable[Level]) -> list[Level]:
    """The values sorted: numbers, then text, then dates and the rest; the same whatever order they come in.

    >>> in_order(["b", 2, "a", 1.5])
    [1.5, 2, 'a', 'b']
    """
    given = list(values)
    if {type(v) for v in given} in ({str}, {int}, {float}, {bool}, set()):
        return sorted(given)
    return sorted(given, key=_sort_key)


def to_json(values: Sequence[Level]) -> dict[str, Any]:
    """Levels as numbers, words and lists, with their kinds.

    >>> to_json(["a", "b"])
    {'kind': 'str', 'values': ['a', 'b']}
    """
    kinds = [kind(v) for v in values]
    packed = [_known(k).write(v) for k, v in zip(kinds, values, strict=True)]
    if len(set(kinds)) <= 1:
        return {"kind": kinds[0] if kinds else "str", "values": packed}
    return {"kind": "mixed", "values": [[k, p] for k, p in zip(kinds, packed, strict=True)]}


def from_json(state: Mapping[str, Any]) -> list[Level]:
    """What `to_json` was given.

    Raises:
        DataError: the state holds something that no level can be.
    """
    name = state["kind"]
    readers = _PLAIN if name in _PLAIN else _kinds()
    if name not in (*readers, "mixed"):
        raise DataError(f"a saved category is of the unknown kind {name!r}; known kinds are {sorted(readers)}")
    try:
        if name == "mixed":
            return [readers[k].read(p) for k, p in state["values"]]
        return [readers[name].read(p) for p in state["values"]]
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise DataError(f"saved categories of the kind {name!r} cannot be read: {error}") from error


class Lookup:
    """Finds the code of a value, also when a file gave it another type than the training table did.

    Numbers are equal whatever their type: 1, 1.0 and True are one level. What equals no level is looked up as another
    type would spell it: text as the number, time or interval that it says, a number or a time as it is written, a date
    as a time at midnight and the reverse.

    Args:
        levels: the values with codes `first`, `first + 1`, ...
        first: the code of the first level.
        unknown: the code of everything else.

    >>> Lookup([1, 2], first=2, unknown=0).codes([2.0, "1", "x", 7])
    [3, 2, 0, 0]
    >>> Lookup(["01", "2", dt.date(2024, 1, 31)], first=2, unknown=0).codes([1, 2, "2024-01-31"])
    [0, 3, 4]
    """

    def __init__(self, levels: Sequence[Level], first: int, unknown: int) -> None:
        self.unknown = unknown
        self.table = {v: i for i, v in enumerate(levels, first)}
        self.kinds = {kind(v) for v in levels}
        # As text, numbers are read; of others that is how pandas writes them into a file.
        self._written = {str(v): i for v, i in self.table.items() if kind(v) not in {"str", *NUMBERS}}

    def codes(self, values: Iterable[Level]) -> list[int]:
        """One code per value; a value that is no level gets the code of the unknown."""
        table, find = self.table, self._find
        return [table[v] if v in table else find(v) for v in values]

    def _find(self, value: Level) -> int:
        if isinstance(value, str):
            spellings = self._said_by(value)
        else:
            spellings = [*_other_types(value), *(_as_written(value) if "str" in self.kinds else ())]
        for other in spellings:
            if other in self.table:
                return self.table[other]
        return self._written.get(value, self.unknown) if isinstance(value, str) else self.unknown

    def _said_by(self, text: str) -> list[Level]:
        """The values of other kinds that a text may stand for."""
        bare, names = text.strip().lower(), []
        if self.kinds & NUMBERS and "_" not in text:  # Python would read "1_0" as ten
            names = ["int", "float", *self.kinds & {"decimal"}]
        found: list[Level] = [bare == "true"] if "bool" in self.kinds and bare in ("true", "false") else []
        for name in [*names, *self.kinds & {"timestamp", "timedelta", "date"}]:
            with suppress(ValueError, ArithmeticError):
                found.append(_known(name).read(text))
        if "date" in self.kinds:  # a day, at midnight
            with suppress(ValueError):
                when = dt.datetime.fromisoformat(text.strip())
                found += [when.date()] if when == dt.datetime.combine(when.date(), dt.time()) else []
        return found


def _other_types(value: Level) -> list[Level]:
    """A number or time as a level of another type that does not compare as equal to it."""
    name = kind(value)
    if name == "decimal":
        return [float(value)]
    if name == "float":
        return [Decimal(str(value))]
    if name == "date":
        import pandas as pd

        return [pd.Timestamp(value)]
    return [value.date()] if name == "timestamp" and value == value.normalize() and value.tzinfo is None else []


def _as_written(value: Level) -> list[str]:
    """A value as text may have it."""
    name = kind(value)
    if name in ("float", "decimal") and np.isfinite(float(value)) and value == int(value):
        return [str(int(value)), str(value)]
    if name == "timestamp":
        return [*(day.isoformat() for day in _other_types(value)), str(value), value.isoformat()]
    return [str(value)]
