"""Which items train and which validate: a fraction, chosen items, shares by class, whole groups, or folds.

Every split is a pure function of its arguments and the seed; no global generator is read or moved.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import keyed
from ..errors import ArgumentError

Indices: TypeAlias = npt.NDArray[np.int64]
Split: TypeAlias = float | Sequence[int] | npt.NDArray[Any]
"""What `valid=` takes: a fraction between 0 and 1, the positions of the validation items, or a mask over all items."""

_PIECE = 2**18  # items that are numbered at a time


def split_indices(
    n: int,
    valid: Split,
    *,
    seed: int = 0,
    stratify: Sequence[Any] | npt.NDArray[Any] | None = None,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
) -> tuple[Indices, Indices]:
    """Split `range(n)` into training and validation items.

    Args:
        n: how many items there are.
        valid: a fraction, rounded to whole items and at least one on each side; or positions; or a mask of length n.
        seed: which of the possible splits by fraction.
        stratify: n labels (or rows of labels); each class gives its share of validation items, rounded up or down,
            and keeps at least one item for training.
        groups: n group names, for example patients; all items of a group stay on one side. The share of items comes as
            near to the fraction as groups allow.

    Returns:
        Positions of the training items and of the validation items, each sorted.

    Raises:
        ArgumentError: the fraction or a position is out of range, a position comes twice, a side would be empty, or
            `stratify` or `groups` do not fit.

    >>> train, valid = split_indices(10, 0.2, seed=1)
    >>> len(train), len(valid)
    (8, 2)
    >>> split_indices(4, [3, 0])
    (array([1, 2]), array([0, 3]))
    """
    n = _whole("n", n, 1)
    if isinstance(valid, Real) and not isinstance(valid, (bool, np.bool_)):
        return _by_fraction(n, float(valid), seed, stratify, groups)
    if stratify is not None or groups is not None:
        raise ArgumentError("stratify and groups go with a fraction; with chosen validation items leave them out")
    return _complement(n, _positions(n, valid))


def kfold_indices(
    n: int, k: int, fold: int, seed: int = 0, stratify: Sequence[Any] | npt.NDArray[Any] | None = None
) -> tuple[Indices, Indices]:
    """Split `range(n)` for one fold of a k-fold cross-validation.

    The k validation parts are disjoint, hold every item between them and differ by at most one item in size.

    Args:
        n: how many items there are.
        k: how many folds, from 2 to n.
        fold: which of them validates, from 0 to k - 1.
        seed: which of the possible foldings; use one for all folds.
        stratify: n labels; the folds differ by at most one item in each class. A class with a single item is
            absent from training in the fold that holds it.

    Returns:
        Positions of the training items and of the validation items, each sorted.

    Raises:
        ArgumentError: a number is out of range or `stratify` has the wrong length.

    >>> sorted(i for fold in range(3) for i in kfold_indices(7, 3, fold)[1].tolist())
    [0, 1, 2, 3, 4, 5, 6]
    """
    n, k, fold = _whole("n", n, 2), _whole("k", k, 2), _whole("fold", fold, 0)
    if k > n:
        raise ArgumentError(f"k={k} folds need at least as many items, got n={n}")
    if fold >= k:
        raise ArgumentError(f"fold must be from 0 to {k - 1} with k={k}, got {fold}")
    order = keyed.permutation(n, seed, "kfold")
    if stratify is not None:
        codes = _codes("stratify", stratify, n)
        order = order[np.argsort(codes[order], kind="stable")]
    # Items are dealt out like cards, so neighbours (the same class) land in different folds.
    return _complement(n, order[fold::k])


def get_cv_idxs(n: int, cv_idx: int = 0, val_pct: float = 0.2, seed: int = 42) -> Indices:
    """Give the validation items that fast.ai 0.7's function of this name gave, in its order.

    Args:
        n: how many items there are.
        cv_idx: which block of the permutation, from 0 on.
        val_pct: the size of a block as a fraction of n, rounded down.
        seed: of the permutation.

    Returns:
        Positions, not sorted.

    Raises:
        ArgumentError: the fraction gives no item, or there is no such block.

    >>> get_cv_idxs(10)
    array([8, 1])
    """
    n, cv_idx = _whole("n", n, 1), _whole("cv_idx", cv_idx, 0)
    if not 0.0 < val_pct < 1.0:
        raise ArgumentError(f"val_pct must be above 0 and below 1, got {val_pct}")
    size = int(val_pct * n)
    if not size:
        raise ArgumentError(f"val_pct={val_pct} of n={n} items is less than one item; use a larger fraction")
    if (cv_idx + 1) * size > n:
        raise ArgumentError(
            f"cv_idx must be from 0 to {n // size - 1} with {size} of {n} items per block, got {cv_idx}"
        )
    # Not keyed: the legacy generator gives the very items of 2018, and one of its own leaves the global one alone.
    order = np.random.RandomState(seed).permutation(n)
    return order[cv_idx * size : (cv_idx + 1) * size].astype(np.int64)


def _by_fraction(
    n: int,
    fraction: float,
    seed: int,
    stratify: Sequence[Any] | npt.NDArray[Any] | None,
    groups: Sequence[Any] | npt.NDArray[Any] | None,
) -> tuple[Indices, Indices]:
    if not 0.0 < fraction < 1.0:
        raise ArgumentError(
            f"valid={fraction:g} is no fraction between 0 and 1. To choose items, give a list of their positions"
        )
    if stratify is not None and groups is not None:
        raise ArgumentError("give stratify or groups, not both: whole groups cannot keep the shares of classes")
    if n < 2:
        raise ArgumentError(f"splitting needs at least two items, got n={n}")
    wanted = min(max(round(n * fraction), 1), n - 1)
    classes = None if stratify is None else _codes("stratify", stratify, n)
    names = None if groups is None else _codes("groups", groups, n)
    order = keyed.permutation(n, seed, "split")
    if classes is not None:
        chosen = _stratified(order, classes, fraction, wanted)
    elif names is not None:
        chosen = _grouped(order, names, wanted)
    else:
        chosen = order[:wanted]
    return _complement(n, chosen)


def _stratified(order: Indices, codes: npt.NDArray[Any], fraction: float, wanted: int) -> Indices:
    """Validation items by class; ties are broken by the order, which is random."""
    sizes = np.bincount(codes)
    quota = sizes * fraction
    counts = np.minimum(np.floor(quota).astype(np.int64), sizes - 1)
    room = (quota > counts) & (counts < sizes - 1)
    classes = codes[order]
    by_remainder = np.lexsort((_first_places(classes, len(sizes)), counts - quota))
    extra = by_remainder[room[by_remainder]][: max(wanted - int(counts.sum()), 0)]
    counts[extra] += 1
    if not counts.sum():
        raise ArgumentError(
            f"stratify leaves no item to validate: each of the {len(sizes)} classes has one item only, and it trains. "
            "Split without stratify, or by coarser labels"
        )
    by_class = np.argsort(classes, kind="stable")
    # Of each class the first ones: from where the class begins, as many as it gives.
    begin = np.repeat((np.cumsum(sizes) - sizes) - (np.cumsum(counts) - counts), counts)
    chosen: Indices = order[by_class[begin + np.arange(len(begin))]]
    return chosen


def _grouped(order: Indices, codes: npt.NDArray[Any], wanted: int) -> Indices:
    """Items of the groups, taken in random order, that bring the number of items nearer to what is wanted."""
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise ArgumentError("groups has one group only, so one side would be empty; give at least two groups")
    shuffled = np.argsort(_first_places(codes[order], len(sizes)))
    taken = np.zeros(len(sizes), dtype=bool)
    total = 0
    for group in shuffled.tolist():
        size = int(sizes[group])
        if abs(total + size - wanted) < abs(total - wanted) and total + size < len(codes):
            taken[group] = True
            total += size
    if not taken.any():
        taken[shuffled[np.argmin(sizes[shuffled])]] = True
    return np.flatnonzero(taken[codes]).astype(np.int64)


def _positions(n: int, valid: Sequence[int] | npt.NDArray[Any] | float) -> Indices:
    """Chosen validation items, checked."""
    given = np.asarray(valid)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iub"):
        raise ArgumentError(
            "valid must be a fraction between 0 and 1, whole positions such as [0, 5, 7] or a mask, got "
            f"{type(valid).__name__} {str(valid)[:60]!r}"
        )
    if given.dtype.kind == "b":
        if len(given) != n:
            raise ArgumentError(f"the mask valid has length {len(given)}, but there are {n} items")
        given = np.flatnonzero(given)
    if not given.size:
        raise ArgumentError("valid chooses no item; give at least one position, or a fraction such as 0.2")
    bad = given[(given < 0) | (given >= n)]
    if bad.size:
        raise ArgumentError(
            f"valid holds {bad.size} positions outside 0 to {n - 1}, the first is {bad[0]}; positions count from 0"
        )
    unique, counts = np.unique(given, return_counts=True)
    if len(unique) < len(given):
        raise ArgumentError(
            f"valid names {int((counts > 1).sum())} items more than once, the first is {unique[counts > 1][0]}"
        )
    if len(unique) == n:
        raise ArgumentError(f"valid chooses all {n} items, so none would train")
    return unique.astype(np.int64)


def _complement(n: int, valid: Indices) -> tuple[Indices, Indices]:
    mask = np.zeros(n, dtype=bool)
    mask[valid] = True
    return np.flatnonzero(~mask).astype(np.int64, copy=False), np.flatnonzero(mask).astype(np.int64, copy=False)


def _codes(name: str, labels: Iterable[Any], n: int) -> npt.NDArray[Any]:
    """Labels as numbers, in the order in which they first occur. All NaN are one label; a row is one label.

    The type is the shortest that holds them: sorting short numbers takes one pass over them.
    """
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu" and len(labels):
        codes = _codes_of_numbers(labels)
    else:
        seen: dict[Hashable, int] = {}
        given = [seen.setdefault(_hashable(label), len(seen)) for label in labels]
        codes = np.asarray(given, np.min_scalar_type(max(len(seen) - 1, 0)))
    if len(codes) != n:
        raise ArgumentError(f"{name} must have one entry per item: got {len(codes)} entries for {n} items")
    return codes


def _codes_of_numbers(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As `_codes`, without a step of Python for each label."""
    low, high = int(labels.min()), int(labels.max())
    if high - low >= 4 * len(labels) or high > np.iinfo(np.int64).max:
        labels = np.unique(labels, return_inverse=True)[1]
        low, high = 0, int(labels.max())
    from_zero = np.subtract(labels, low, dtype=np.int64)
    held = np.flatnonzero(np.bincount(from_zero))
    in_order = held[np.argsort(_first_places(from_zero, high - low + 1)[held])]
    code = np.zeros(high - low + 1, np.min_scalar_type(len(held) - 1))
    code[in_order] = np.arange(len(held))
    codes: npt.NDArray[Any] = code[from_zero]
    return codes


def _first_places(codes: npt.NDArray[Any], n_codes: int) -> Indices:
    """Where each code occurs first; anything for a code that does not occur."""
    first = np.empty(n_codes, np.int64)
    for stop in range(len(codes), 0, -_PIECE):
        start = max(stop - _PIECE, 0)
        first[codes[start:stop][::-1]] = np.arange(stop - 1, start - 1, -1)  # the last one that is written stays
    return first


def _hashable(label: Any) -> Hashable:
    if isinstance(label, (list, tuple, np.ndarray)):
        return tuple(_hashable(part) for part in label)
    # NaN differs from itself, so each would be a class of its own.
    return "\x00nan" if isinstance(label, Real) and label != label else label


def _whole(name: str, value: int, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, (bool, np.bool_)) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
