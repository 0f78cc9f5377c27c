"""Tables of interactions as histories: who took what, and what of it is held out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union, get_args

import numpy as np
import numpy.typing as npt

from ..data.bunch import SplitName
from ..data.levels import Lookup, in_order
from ..data.order import Indices
from ..data.split import Split, fraction_of, split_indices
from ..data.times import read_times
from ..data.values import factorize, numbers
from ..errors import ArgumentError, DataError, check_whole, did_you_mean
from .histories import Bools, Histories, draw_last, random_order

if TYPE_CHECKING:
    import pandas as pd

HowMany: TypeAlias = Literal["one", "last"]
HoldOut: TypeAlias = Union[Split, HowMany, "pd.DataFrame"]
TRAIN, VALID, TEST = range(3)


@dataclass(frozen=True)
class Columns:
    """Which columns say who took what, how much of it, and when; the last two may be None."""

    user: str
    item: str
    weight: str | None = None
    time: str | None = None

    @property
    def names(self) -> list[str]:
        """Those that there are."""
        return [n for n in (self.user, self.item, self.weight, self.time) if n is not None]

    def require(self, frame: pd.DataFrame, what: str = "df") -> None:
        """Refuse a table without them, or with one of them twice."""
        known = [str(c) for c in frame.columns]
        for name in self.names:
            if known.count(name) != 1:
                has = "no column" if name not in known else "several columns called"
                raise DataError(f"{what} has {has} {name!r}. {did_you_mean(name, known)}".rstrip())
        if len(set(self.names)) < len(self.names):
            raise ArgumentError(f"user, item, weight and time are different columns, got {self.names}")


@dataclass(frozen=True)
class Gathered:
    """Histories of all persons, and how they are split.

    Args:
        people: names of the persons, sorted.
        items: names of the items that can be recommended, sorted.
        splits: the persons of each split, and their histories.
        notes: what is odd, in sentences.
    """

    people: list[str]
    items: list[str]
    splits: dict[SplitName, tuple[Indices, Histories]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Pairs:
    """Who took what, each pair once and sorted by person: numbers of persons and items, weight, time, and its side."""

    person: Indices
    item: Indices
    weight: npt.NDArray[np.float64]
    time: npt.NDArray[Any] | None
    side: npt.NDArray[np.int64]

    def take(self, which: Bools) -> _Pairs:
        time = None if self.time is None else self.time[which]
        return _Pairs(self.person[which], self.item[which], self.weight[which], time, self.side[which])


def gather(
    frames: Mapping[str, pd.DataFrame],
    columns: Columns,
    valid: Any,
    min_item: int,
    seed: int,
    like: Sequence[str] | None,
) -> Gathered:
    """Split what persons took, and only then leave out what too few of them took.

    Args:
        frames: tables by what messages call them: "df", and maybe "valid" and "test", which are held out.
        columns: of all of them.
        valid: who or what validates, where no table does; see `InteractionData.from_df`.
        min_item: the fewest persons in training that take an item which can be recommended.
        seed: of the split.
        like: the items that can be recommended; None finds them.
    """
    import pandas as pd

    check_whole("min_item", min_item)
    for name, frame in frames.items():
        columns.require(frame, name)
    if not len(frames["df"]):
        raise DataError("df has no rows")
    parts = [frame[columns.names] for frame in frames.values()]
    whole = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
    sides = np.repeat([{"valid": VALID, "test": TEST}.get(n, TRAIN) for n in frames], [len(f) for f in parts])
    people, person = _codes(whole[columns.user], "user")
    items, item = _codes(whole[columns.item], "item")
    weight = _weights(whole, columns)
    when = None if columns.time is None else read_times(whole[columns.time], len(whole))
    by_share = fraction_of(valid) is not None
    per_person = valid in ("one", "last") if isinstance(valid, str) else by_share and when is None
    if not per_person and valid is not None:
        mine = np.flatnonzero(sides == TRAIN)
        by_moment = when is not None and (by_share or isinstance(valid, str | dt.timedelta))
        time = when.iloc[mine] if when is not None and by_moment else None
        sides[mine[split_indices(len(mine), valid, seed=seed, time=time, index=frames["df"].index)[1]]] = VALID
    rank = None if when is None else pd.factorize(when, sort=True)[0]
    pairs = _distinct(_Pairs(person, item, weight, rank, sides).take(weight > 0), len(items))
    if per_person:
        _hold_out(pairs, valid, seed)
    return _split(people, items, pairs, min_item, like)


def _codes(column: pd.Series[Any], what: str) -> tuple[list[str], Indices]:
    """Names in their order, and the number of each row's."""
    codes, found = factorize(column)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise DataError(
            f"{int((codes < 0).sum())} rows have no {what}: the first is row {column.index[row]} of column "
            f"{column.name!r}; leave them out"
        )
    ordered = in_order(found)
    names = [str(v) for v in ordered]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"column {column.name!r} has {twice!r} both as text and as a number; make it one type")
    place = {v: i for i, v in enumerate(ordered)}
    return names, np.array([place[v] for v in found], np.int64)[codes]


def _weights(whole: pd.DataFrame, columns: Columns) -> npt.NDArray[np.float64]:
    if columns.weight is None:
        return np.ones(len(whole))
    weight = numbers(whole[columns.weight], "weight column")
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise DataError(
            f"weights are 0 or more, but row {whole.index[bad[0]]} of column {columns.weight!r} has {weight[bad[0]]:g}"
            f" ({len(bad)} such rows)"
        )
    return weight


def _distinct(rows: _Pairs, n_items: int) -> _Pairs:
    """Each pair once: with its first time, its first side, and the weights of that side added up."""
    _, first, pair = np.unique(rows.person * n_items + rows.item, return_index=True, return_inverse=True)
    pair = pair.reshape(-1)
    side = np.full(len(first), TEST)
    np.minimum.at(side, pair, rows.side)
    counts = rows.side == side[pair]
    weight = np.bincount(pair[counts], rows.weight[counts], len(first)).astype(np.float64)
    time = None
    if rows.time is not None:
        time = np.full(len(first), rows.time.max(initial=0))
        np.minimum.at(time, pair, rows.time)
    return _Pairs(rows.person[first], rows.item[first], weight, time, side)


def _hold_out(pairs: _Pairs, valid: Any, seed: int) -> None:
    """Of each person a share of what they took, one, or the last; at least one stays."""
    mine = np.flatnonzero(pairs.side == TRAIN)
    person = pairs.person[mine]
    sizes = np.bincount(person) if len(person) else np.zeros(0, np.int64)
    share = fraction_of(valid)
    if share is not None and not 0 < share < 1:
        raise ArgumentError(f"valid={valid:g} is no fraction between 0 and 1")
    if valid == "last" and pairs.time is None:
        raise ArgumentError('valid="last" holds out what each person took last: name the column of times, time=')
    wanted = np.ones(len(sizes)) if share is None else np.rint(share * sizes)
    by: list[npt.NDArray[Any]] = [random_order(len(mine), seed, "hold out")]
    if valid == "last" and pairs.time is not None:
        by.insert(0, pairs.time[mine])
    pairs.side[mine[draw_last(person, np.minimum(wanted, sizes - 1).astype(np.int64), by)]] = VALID


def _split(people: list[str], names: list[str], pairs: _Pairs, min_item: int, like: Sequence[str] | None) -> Gathered:
    """The items that enough persons took in training, and the splits."""
    known = np.bincount(pairs.item[pairs.side == TRAIN], minlength=len(names)) >= min_item
    items = [n for n, k in zip(names, known, strict=True) if k] if like is None else list(like)
    number = np.array(Lookup(items, 0, -1).codes(names), np.int64)[pairs.item]
    if not (number[pairs.side == TRAIN] >= 0).any():
        if like is not None:
            raise DataError(f"nobody took an item of the data in like= in training, such as {like[0]!r}")
        raise DataError(f"no item was taken by {min_item} persons or more in training; give a smaller min_item")
    notes: list[str] = []
    splits: dict[SplitName, tuple[Indices, Histories]] = {}
    kept = pairs.take(number >= 0)
    number = number[number >= 0]
    for side, name in enumerate(get_args(SplitName)):  # in the order of the sides
        all_of, here = pairs.side == side, kept.side == side
        if not all_of.any():
            continue
        if not here.any():
            raise DataError(
                f"{name} split: of the {int(all_of.sum()):,} pairs that are held out each is of an item that fewer "
                f"than {min_item} persons took in training, so nothing of it can be recommended"
            )
        lost = int(all_of.sum() - here.sum())
        if lost and side != TRAIN:
            notes.append(
                f"{name} split: {lost:,} of {int(all_of.sum()):,} held-out pairs ({lost / all_of.sum():.1%}) are of "
                f"items that fewer than {min_item} persons took in training; no list can have them, and no metric "
                "counts them"
            )
        splits[name] = _of_side(kept, number, side, len(people))
        without = len(splits[name][0]) - int((np.diff(splits[name][1].known.starts) > 0).sum())
        if without and side != TRAIN:
            notes.append(f"{name} split: {without:,} persons have no history, and are given what most take")
    return Gathered(people, items, splits, notes)


def _of_side(pairs: _Pairs, item: Indices, side: int, n_people: int) -> tuple[Indices, Histories]:
    """The persons with something on this side, and all that they took up to it."""
    mine = np.unique(pairs.person[pairs.side == side])
    number = np.full(n_people, -1)
    number[mine] = np.arange(len(mine))
    here = (pairs.side <= side) & (number[pairs.person] >= 0)
    persons, held = number[pairs.person[here]], pairs.side[here] == side
    if side == TRAIN:  # of what trains a fifth is asked for where nothing is trained, so that splits compare
        wanted = np.rint(0.2 * np.bincount(persons, minlength=len(mine))).clip(1).astype(np.int64)
        held = draw_last(persons, wanted, [random_order(len(persons), 0, "train")])
    return mine, Histories.of(persons, item[here], pairs.weight[here].astype(np.float32), held, len(mine))
