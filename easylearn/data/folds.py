"""Folds: which items train and validate in each round of a cross-validation, as one plan for all who follow it."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .. import keyed
from ..errors import ArgumentError, EasyLearnWarning, short
from ..files import digest
from ..options import strict
from .split import Indices, OnePerItem, codes_of, complement, given_of, in_order_met, places, whole
from .times import length_of, read_times

Pair = tuple[Indices, Indices]
_CONTRADICTIONS = (
    ("groups", "times", "a group may go on in the last items"),
    ("stratify", "times", "the last items cannot keep the shares of classes"),
)


@dataclass(frozen=True, eq=False, repr=False)
class Folds(Sequence[Pair]):
    """A plan of a cross-validation: a sequence of (training items, validation items). Make one with `folds`.

    Args:
        n: how many items there are.
        pairs: positions of the training and of the validation items of each fold, sorted.
        how: what the folds were made by, in words.
        repeats: how often every item validates.
        groups: a number for each item's group, where whole groups validate.
        times: a number for each item's time, where later items validate.

    >>> plan = folds(6, 3, seed=1)
    >>> plan
    Folds(3 of 6 items, seed 1)
    >>> len(plan), len(plan[0][1]), [len(train) for train, valid in plan]
    (3, 2, [4, 4, 4])
    """

    n: int
    pairs: tuple[Pair, ...]
    how: str = ""
    repeats: int = 1
    groups: npt.NDArray[Any] | None = None
    times: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, i: int) -> Pair: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[Pair, ...]: ...
    def __getitem__(self, i: int | slice) -> Pair | tuple[Pair, ...]:
        return self.pairs[i]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    @cached_property
    def held_out(self) -> Indices:
        """The items that validate in some fold, sorted: all of them, but in time the first ones only train."""
        return np.unique(np.concatenate([valid for _, valid in self.pairs]))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of which items train and validate where."""
        sides = (np.ascontiguousarray(side, np.int64).data for pair in self.pairs for side in pair)
        return digest([str(self.n), *(memoryview(side).cast("B") if len(side) else b"" for side in sides)])

    def __repr__(self) -> str:
        return f"Folds({len(self)} of {self.n:,} items{self.how})"


@strict(
    {"n_splits": "k", "time": "times", "shuffle": "Give seed=; folds are always shuffled, but in time", "y": "stratify"}
)
def folds(
    n: int,
    k: int,
    *,
    seed: int = 0,
    stratify: OnePerItem | None = None,
    groups: OnePerItem | None = None,
    times: OnePerItem | None = None,
    gap: str | dt.timedelta | float | None = None,
    repeats: int = 1,
) -> Folds:
    """Split `range(n)` for a k-fold cross-validation, into disjoint validation splits.

    Without `times` they hold every item between them, and differ by at most one item in size, or with `groups` by as
    little as whole groups allow. With `times` they are the last k of k + 1 pieces of equal size.

    Args:
        n: how many items there are.
        k: how many folds, from 2 to n.
        seed: which of the possible foldings.
        stratify: n labels; the folds differ by at most one item in each class. A class with a single item is absent
            from training in the fold that holds it. With `groups` the shares are as even as whole groups allow.
        groups: n group names, for example patients; all items of a group are in one validation split.
        times: n times or numbers; each fold validates on a piece of it and trains on what was before.
        gap: with `times`: how much before the validation items is left out of training: a length of time such as "7D",
            or a number: of days, or where `times` holds numbers in their unit.
        repeats: how many times over, each with another folding; there are then k * repeats folds.

    Returns:
        The plan: per fold the positions of its training and of its validation items, each sorted.

    Raises:
        ArgumentError: an argument is out of range, or does not fit the items or another.
        DataError: a time is missing or is no time.

    >>> sorted(i for train, valid in folds(7, 3) for i in valid.tolist())
    [0, 1, 2, 3, 4, 5, 6]
    >>> [(len(train), valid.tolist()) for train, valid in folds(6, 2, times=[3, 1, 2, 6, 5, 4])]
    [(2, [0, 5]), (4, [3, 4])]
    """
    if isinstance(n, Sized) and not isinstance(n, str):
        raise ArgumentError(f"n is how many items there are: write len(df), not df itself, a {type(n).__name__}")
    n, k, repeats = whole("n", n, 2), whole("k", k, 2), whole("repeats", repeats, 1)
    how = given_of({"stratify": stratify, "groups": groups, "times": times}, _CONTRADICTIONS)
    if gap is not None and times is None:
        raise ArgumentError("gap goes with times=, the times of the items")
    if k > n:
        raise ArgumentError(f"k={k} folds need at least as many items, got n={n}")
    if times is not None:
        if repeats > 1:
            raise ArgumentError(f"repeats={repeats} is for folds that are drawn; those in time come in one way")
        pairs, when = _folds_in_time(n, k, times, gap)
        return Folds(n, tuple(pairs), " in time" + (f", gap {gap}" if gap is not None else ""), times=when)
    labels = None if stratify is None else codes_of("stratify", stratify, n)
    if stratify is not None and labels is not None:
        given = stratify.tolist() if isinstance(stratify, Tensor | np.ndarray) else list(stratify)
        _check_labels(given, labels, k)
    of = None if groups is None else codes_of("groups", groups, n)
    made: list[Pair] = []
    for repeat in range(repeats):
        order = keyed.permutation(n, seed, "kfold", *([repeat] if repeat else []))
        made += [complement(n, valid) for valid in _dealt(order, k, labels, of)]
    words = "".join(f", {word}" for word in ({"stratify": "stratified", "groups": "grouped"}[name] for name in how))
    words += f", {repeats} times" if repeats > 1 else ""
    return Folds(n, tuple(made), f"{words}, seed {seed}", repeats, of)


def _check_labels(given: Sequence[Any], codes: npt.NDArray[Any], k: int) -> None:
    """Refuse labels that are missing, and warn of classes that some folds cannot have; a row of labels is no class."""
    import pandas as pd

    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    rare = []
    for i, count in zip(first.tolist(), counts.tolist(), strict=True):
        label = given[i].item() if isinstance(given[i], np.generic) else given[i]
        if isinstance(label, list | tuple | np.ndarray):
            continue
        if pd.isna(label):
            raise ArgumentError(
                f"stratify has no label for {count:,} items, such as {i} ({label!r}): leave them out, or fill them in"
            )
        if count < k:
            rare.append(f"{short(repr(label), 40)} ({count})")
    if rare:
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        warnings.warn(
            f"classes of stratify that occur fewer times than there are folds, {k}: {', '.join(rare[:5])}{more}. Some "
            "folds hold none of them, and one that occurs once is not trained on where it is held out: take fewer "
            "folds, join them to others or leave them out",
            EasyLearnWarning,
            stacklevel=4,
        )


def _dealt(order: Indices, k: int, labels: npt.NDArray[Any] | None, groups: npt.NDArray[Any] | None) -> list[Indices]:
    """The validation items of each fold, by a random `order`."""
    if groups is not None:
        of = _fold_of_groups(order, groups, k) if labels is None else _stratified_groups(order, groups, labels, k)
        return [np.flatnonzero(of == fold) for fold in range(k)]
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    # Items are dealt out like cards, so neighbours (the same class) land in different folds.
    return [order[fold::k] for fold in range(k)]


def _fold_of_groups(order: Indices, codes: npt.NDArray[Any], k: int) -> Indices:
    """The fold of each item: groups, the largest first, each go where the fewest items are."""
    sizes = _sizes_of_groups(codes, k)
    shuffled = in_order_met(codes[order])  # groups of one size take turns
    fold_of, filled = np.zeros(len(sizes), np.int64), np.zeros(k, np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist():
        fold_of[group] = np.argmin(filled)
        filled[fold_of[group]] += sizes[group]
    chosen: Indices = fold_of[codes]
    return chosen


def _stratified_groups(order: Indices, codes: npt.NDArray[Any], labels: npt.NDArray[Any], k: int) -> Indices:
    """As `_fold_of_groups`, each group going where its classes, and items, are fewest, as shares of all there are."""
    sizes = _sizes_of_groups(codes, k)
    # Of each group how many items it has of each class, and in all, as shares of the whole.
    held = np.zeros((len(sizes), int(labels.max()) + 2))
    np.add.at(held, (codes, labels), 1.0)
    held[:, -1] = sizes
    held /= held.sum(0)
    shuffled = in_order_met(codes[order])
    most = shuffled[np.argsort(-(held**2).sum(1)[shuffled], kind="stable")]
    fold_of, filled, empty = np.zeros(len(sizes), np.int64), np.zeros((k, held.shape[1])), k
    for left, group in zip(range(len(most), 0, -1), most.tolist(), strict=True):
        cost = filled @ held[group]  # what the sum of squares grows by, but for what is the same in all folds
        taken = filled[:, -1] > 0
        cost[taken & (left <= empty)] = np.inf  # the last groups go to folds that have none yet
        fold_of[group] = np.lexsort((filled[:, -1], cost))[0]
        empty -= int(not taken[fold_of[group]])
        filled[fold_of[group]] += held[group]
    chosen: Indices = fold_of[codes]
    return chosen


def _sizes_of_groups(codes: npt.NDArray[Any], k: int) -> Indices:
    sizes = np.bincount(codes)
    if len(sizes) < k:
        raise ArgumentError(f"k={k} folds need at least as many groups, got {len(sizes)}")
    return sizes


def _gap(gap: Any, dated: bool) -> Any:
    """How much is left out before the validation items, in the unit of the times."""
    is_length = isinstance(gap, str | dt.timedelta)
    if dated and is_length:
        return length_of(gap, "gap")
    if not isinstance(gap, Real) or isinstance(gap, bool) or not float(gap) > 0:
        unit = "of days above 0, or a length such as '7D'" if dated else "in their unit, above 0"
        raise ArgumentError(f"times holds {'dates' if dated else 'numbers'}: gap must be a number {unit}, got {gap!r}")
    return length_of(f"{gap}D", "gap") if dated else gap


def _folds_in_time(
    n: int, k: int, times: OnePerItem, gap: str | dt.timedelta | float | None
) -> tuple[list[Pair], npt.NDArray[Any]]:
    """The last k of k + 1 pieces by time, each after all that was before it; items of one time stay in one piece."""
    import pandas as pd

    when = read_times(times, n)
    dated = pd.api.types.is_datetime64_any_dtype(when.dtype)
    before = None if gap is None else _gap(gap, dated)
    order = when.sort_values(ignore_index=True)
    size = n // (k + 1)
    begins = [order[n - (k - fold) * size] for fold in range(k)] if size else []
    if len(set(begins)) < k or begins[0] == order[0]:
        raise ArgumentError(
            f"{k} folds in time need {k + 1} pieces, but {when.nunique()} different times in {n} items do not give so "
            "many; take fewer folds"
        )
    made = []
    for fold, begin in enumerate(begins):
        held_out = when >= begin if fold == k - 1 else (when >= begin) & (when < begins[fold + 1])
        train = when < (begin if before is None else begin - before)
        if not train.any():
            raise ArgumentError(f"gap={gap!r} leaves nothing to train on before {begin}, where fold {fold} validates")
        made.append((places(train), places(held_out)))
    return made, when.to_numpy()
