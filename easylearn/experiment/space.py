"""Spaces: what a search varies, each value by a name, with ranges of numbers, lists, and values that others bring."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from .. import keyed
from ..errors import ArgumentError, check_number, check_whole, did_you_mean

Dimension = Any
RESERVED = {"seed", "fold"}


@dataclass(frozen=True)
class Span:
    """A range of numbers.

    Args:
        low, high: its ends, which belong to it.
        log: equal factors are equally far from each other.
        whole: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        low = check_number("the lower end of a range", self.low, *(["above 0"] if self.log else []))
        if not check_number("the upper end of a range", self.high) > low:
            raise ArgumentError(f"a range goes from its lower end to its upper end, got {self.low} to {self.high}")
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ArgumentError(f"a range of whole numbers has whole ends, got {self.low} to {self.high}")

    def value(self, u: float) -> float | int:
        """The value at `u`, from 0 to 1."""
        low, high = self._ends
        x = low + u * (high - low)
        x = math.exp(x) if self.log else x
        x = round(x) if self.whole else x
        return min(max(x, self.low), self.high)

    def unit(self, value: Any) -> float:
        """Where a value lies, from 0 to 1."""
        low, high = self._ends
        x = math.log(value) if self.log else float(value)
        return min(max((x - low) / (high - low), 0.0), 1.0)

    @property
    def _ends(self) -> tuple[float, float]:
        """The ends on the scale that is even; a whole number reaches half way to its neighbours."""
        half = 0.4999 if self.whole else 0.0
        low, high = self.low - half, self.high + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    @property
    def n_values(self) -> int | None:
        """How many values there are; None where they cannot be counted."""
        return int(self.high) - int(self.low) + 1 if self.whole else None

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and (not self.whole or float(value).is_integer())


@dataclass(frozen=True)
class Listed:
    """Some values.

    Args:
        values: in what JSON can hold.
        ordered: neighbours are alike.
    """

    values: tuple[Any, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(_plain(value) for value in self.values))
        if not self.values:
            raise ArgumentError("a choice needs at least one value, got none")
        for value in self.values:
            if not isinstance(value, str | int | float | bool | None) or value != value:
                raise ArgumentError(
                    f"a choice is of texts, numbers, True, False and None, got {value!r:.100}: give names, and let "
                    "make turn a name into what it stands for"
                )

    def value(self, u: float) -> Any:
        """The value at `u`, from 0 to 1."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def unit(self, value: Any) -> float:
        """Where a value lies, from 0 to 1: in the middle of its share."""
        return (self.index(value) + 0.5) / len(self.values)

    def index(self, value: Any) -> int:
        """The position of a value; 1 and True are two."""
        return next(i for i, v in enumerate(self.values) if v == value and type(v) is type(value))

    @property
    def n_values(self) -> int | None:
        """How many values there are."""
        return len(self.values)

    def holds(self, value: Any) -> bool:
        """Whether a value is among them."""
        return any(v == value and type(v) is type(value) for v in self.values)


@dataclass(frozen=True)
class When:
    """A dimension that is there only where another has one of some values; see `when`."""

    name: str
    values: tuple[Any, ...]
    inner: Span | Listed


def log(low: float, high: float, whole: bool = False) -> Span:
    """A range in which factors count: 0.001 is as far from 0.01 as that is from 0.1.

    Args:
        low, high: its ends.
        whole: whole numbers only.

    >>> round(log(1e-4, 1.0).value(0.5), 6)
    0.01
    """
    return Span(low, high, log=True, whole=whole)


def uniform(low: float, high: float, whole: bool = False) -> Span:
    """A range in which differences count.

    Args:
        low, high: its ends.
        whole: whole numbers only.

    >>> uniform(0, 4, whole=True).value(0.5)
    2
    """
    return Span(low, high, whole=whole)


def ordered(values: Iterable[Any]) -> Listed:
    """A list of values of which neighbours are alike: sizes, depths, architectures from small to large.

    Args:
        values: texts, numbers, True, False or None.

    >>> ordered(["small", "large"]).unit("large")
    0.75
    """
    return Listed(_several(values), ordered=True)


def choice(values: Iterable[Any]) -> Listed:
    """A list of values that have no order.

    Args:
        values: texts, numbers, True, False or None.

    >>> choice([True, False]).n_values
    2
    """
    return Listed(_several(values))


def _plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's, which files hold and give back."""
    return value.item() if isinstance(value, np.generic) else value


def _several(values: Any) -> tuple[Any, ...]:
    if isinstance(values, set | frozenset):
        raise ArgumentError(
            f"a set has another order at the next start, and the search would be another one: give a list, such as "
            f"{sorted(values, key=str)!r:.100}"
        )
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise ArgumentError(f'a list of values was expected, such as ["resnet18", "resnet34"], got {values!r:.100}')
    return tuple(values)


def powers(low: int, high: int, base: int = 2) -> Listed:
    """The powers of a base from `low` to `high`.

    Args:
        low, high: powers of the base, which belong to the list.
        base: a whole number above 1.

    >>> powers(8, 64).values
    (8, 16, 32, 64)
    """
    for name, value, least in (("low", low, 1), ("high", high, 1), ("base", base, 2)):
        check_whole(name, value, least)
    top = math.ceil(math.log(max(high, 2), max(base, 2))) + 1
    found = [base**k for k in range(top + 1) if low <= base**k <= high]
    if not found or found[0] != low or found[-1] != high:
        raise ArgumentError(f"powers({low}, {high}) goes from a power of {base} to another, such as powers(8, 64)")
    return ordered(found)


def when(name: str, values: Any, inner: Span | Listed) -> When:
    """A dimension that is there only where `name` has one of the `values`; else the point has no such name.

    Args:
        name: of a dimension before it.
        values: one, or a list.
        inner: what it is then.

    >>> space = Space({"head": choice(["flat", "deep"]), "hidden": when("head", "deep", powers(64, 128))})
    >>> space.point([0.0, 0.9]), space.point([0.9, 0.9])
    ({'head': 'flat'}, {'head': 'deep', 'hidden': 128})
    """
    listed = tuple(values) if isinstance(values, list | tuple) else (values,)
    return When(name, listed, inner)


_STANDARD: dict[str, Dimension] = {
    "lr": log(1e-5, 1e-1),
    "batch_size": powers(8, 512),
    "momentum": uniform(0.85, 0.98),
    "wd": log(1e-6, 1e-1),
    "dropout": uniform(0.0, 0.7),
    "label_smoothing": uniform(0.0, 0.2),
    "epochs": powers(1, 32),
    "size": ordered([96, 128, 160, 192, 224]),
}


def standard_space(names: Sequence[str]) -> dict[str, Dimension]:
    """Usual ranges of usual settings, to search in or to change.

    Args:
        names: of "lr", "batch_size", "momentum", "wd", "dropout", "label_smoothing", "epochs" and "size".

    >>> standard_space(["lr", "wd"])["lr"]
    Span(low=1e-05, high=0.1, log=True, whole=False)
    """
    for name in names:
        if name not in _STANDARD:
            raise ArgumentError(f"there is no standard range of {name!r}. {did_you_mean(name, _STANDARD)}")
    return {name: _STANDARD[name] for name in names}


def subset(n: int, items: int, seed: int = 0) -> list[int]:
    """So many of `n` rows, in their order: fewer lie among more of the same seed.

    For `fidelity={"items": [500, 1500, 4500]}`, where `make` trains on `subset(len(df), p.items)`.

    Args:
        n: rows there are.
        items: rows to take; all, where there are fewer.
        seed: another one takes others.

    >>> len(subset(100, 30)), set(subset(100, 10)) <= set(subset(100, 30))
    (30, True)
    """
    check_whole("n", n)
    check_whole("items", items)
    return sorted(keyed.permutation(n, seed, "subset")[:items].tolist())


class Space:
    """A space by names, and how its points lie in the unit cube.

    Args:
        dimensions: by name, of what `log`, `uniform`, `ordered`, `choice`, `powers` and `when` give.
    """

    def __init__(self, dimensions: Mapping[str, Dimension]) -> None:
        if not isinstance(dimensions, Mapping) or not dimensions:
            raise ArgumentError(f'a space is a dictionary such as {{"lr": log(1e-5, 0.1)}}, got {dimensions!r:.100}')
        self.dimensions = dict(dimensions)
        for name, dimension in self.dimensions.items():
            if not isinstance(name, str) or not name.isidentifier() or name.startswith("_") or name in RESERVED:
                raise ArgumentError(f"{name!r} cannot be a name of a space: a point is read as p.name, and has p.seed")
            if not isinstance(dimension, Span | Listed | When):
                raise ArgumentError(
                    f"{name!r} must be what log, uniform, ordered, choice, powers or when gives, got {dimension!r:.100}"
                )
            if isinstance(dimension, When):
                self._check_condition(name, dimension)

    def _check_condition(self, name: str, dimension: When) -> None:
        before = list(self.dimensions)[: list(self.dimensions).index(name)]
        if dimension.name not in before:
            raise ArgumentError(
                f"{name!r} depends on {dimension.name!r}, which must be a name before it. "
                f"{did_you_mean(dimension.name, before)}"
            )
        other = self.plain(dimension.name)
        if odd := [v for v in dimension.values if not other.holds(v)]:
            raise ArgumentError(f"{name!r} depends on {dimension.name!r} being {odd[0]!r}, which it never is")

    @property
    def names(self) -> list[str]:
        """In the order given."""
        return list(self.dimensions)

    def plain(self, name: str) -> Span | Listed:
        """A dimension without its condition."""
        found: Span | Listed | When = self.dimensions[name]
        return found.inner if isinstance(found, When) else found

    def is_active(self, name: str, point: Mapping[str, Any]) -> bool:
        """Whether a point, as far as it goes, has a value of this name."""
        found = self.dimensions[name]
        return not isinstance(found, When) or (found.name in point and point[found.name] in found.values)

    def point(self, units: Sequence[float]) -> dict[str, Any]:
        """The point at a place of the unit cube, a number for each name."""
        point: dict[str, Any] = {}
        for name, u in zip(self.dimensions, units, strict=True):
            if self.is_active(name, point):
                point[name] = self.plain(name).value(float(u))
        return point

    def units(self, point: Mapping[str, Any]) -> list[float]:
        """The place of a point; 0.5 for a name that it does not have."""
        return [self.plain(n).unit(point[n]) if n in point else 0.5 for n in self.dimensions]

    def grid(self) -> list[dict[str, Any]]:
        """All points, where each dimension is a list; those that differ only in what they do not have are one."""
        for name in self.dimensions:
            if self.plain(name).n_values is None:
                raise ArgumentError(
                    f'a grid needs values, and {name!r} is a range: write {name!r}: ordered([...]), or method="quasi"'
                )
        columns = [[(i + 0.5) / n for i in range(n)] for n in (self.plain(d).n_values or 0 for d in self.dimensions)]
        points: list[dict[str, Any]] = []
        seen = set[str]()
        for units in product(*columns):
            point = self.point(units)
            if repr(point) not in seen:
                seen.add(repr(point))
                points.append(point)
        return points

    def check(self, point: Any, which: str) -> dict[str, Any]:
        """A point of the user's own, which may lack nothing and lie nowhere else."""
        if not isinstance(point, Mapping):
            raise ArgumentError(f"{which} must be a dictionary of values by name, got {point!r:.100}")
        if odd := [n for n in point if n not in self.dimensions]:
            raise ArgumentError(f"{which} has {odd[0]!r}, which the space has not. {did_you_mean(odd[0], self.names)}")
        checked: dict[str, Any] = {}
        for name in self.dimensions:
            if not self.is_active(name, checked):
                continue
            if name not in point:
                raise ArgumentError(f"{which} has no {name!r}; a point has a value for each name of the space")
            value = _plain(point[name])
            if not self.plain(name).holds(value):
                raise ArgumentError(f"{which} has {name!r} = {value!r}, which is not in {self.dimensions[name]}")
            checked[name] = value
        return checked

    def to_json(self) -> dict[str, Any]:
        """What the space is, to compare."""
        return {n: {"kind": type(d).__name__, **asdict(d)} for n, d in self.dimensions.items()}

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> Space:
        """The space that `to_json` wrote."""
        return Space({name: _from_json(entry) for name, entry in given.items()})


def _from_json(entry: Mapping[str, Any]) -> Dimension:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    kind, inner = fields.pop("kind"), fields.pop("inner", None)
    if kind == "When":
        return When(inner=_from_json({"kind": "Listed" if "values" in inner else "Span", **inner}), **fields)
    return Span(**fields) if kind == "Span" else Listed(**fields)
