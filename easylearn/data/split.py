"""Which items train and which validate: a fraction, chosen items, whole groups, or the last ones by time.

Folds for a cross-validation are in `folds.py`.

Every split is a pure function of its arguments and the seed; no global generator is read or moved.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .. import keyed
from ..errors import ArgumentError
from .times import length_of, read_times

if TYPE_CHECKING:
    import pandas as pd

Indices: TypeAlias = npt.NDArray[np.int64]
OnePerItem: TypeAlias = Union[Sequence[Any], npt.NDArray[Any], "pd.Series[Any]"]
Split: TypeAlias = Union[
    float, Sequence[int], npt.NDArray[Any], "pd.Series[Any]", "pd.Index[Any]", str, dt.timedelta, None
]
"""What `valid=` takes: a fraction between 0 and 1; the positions of the validation items, or a mask over all items (a
pandas Series or Index of a table's rows is read by the table's index); None for no validation; with `time` also how
long the last items reach back, such as "6W"."""

_CONTRADICTIONS = (
    ("stratify", "groups", "whole groups cannot keep the shares of classes"),
    ("groups", "time", "a group may go on in the last items"),
    ("stratify", "time", "the last items cannot keep the shares of classes"),
)


def split_indices(
    n: int,
    valid: Split,
    *,
    seed: int = 0,
    stratify: OnePerItem | None = None,
    groups: OnePerItem | None = None,
    time: OnePerItem | None = None,
    index: pd.Index[Any] | None = None,
) -> tuple[Indices, Indices]:
    """Split `range(n)` into training and validation items, as images, texts and tables all do.

    Args:
        n: how many items there are.
        valid: a fraction, rounded to whole items and at least one on each side; positions; a mask of length n; None
            for no validation; with `time` also a length of time.
        seed: which of the possible splits by fraction.
        stratify: n labels (or rows of labels); each class gives its share of validation items, rounded up or down,
            and keeps at least one item for training.
        groups: n group names, for example patients, which stay whole; missing names are one group.
        time: n times or numbers; the last items by it validate, and items of one time stay on one side.
        index: the labels of the n items, by which a pandas mask or Index is read; None numbers them from 0.

    Returns:
        Positions of the training items and of the validation items, each sorted.

    Raises:
        ArgumentError: an argument is out of range, does not fit the items or another, or a side would be empty.
        DataError: a time is missing or is no time.

    >>> train, valid = split_indices(10, 0.2, seed=1)
    >>> len(train), len(valid)
    (8, 2)
    >>> split_indices(4, [3, 0])
    (array([1, 2]), array([0, 3]))
    >>> split_indices(4, "2D", time=["2024-01-03", "2024-01-02", "2024-01-01", "2024-01-04"])
    (array([1, 2]), array([0, 3]))
    """
    n, how = whole("n", n, 1), given_of({"stratify": stratify, "groups": groups, "time": time})
    if valid is None:
        if how:
            raise ArgumentError(f"{how[0]} says how to split, but valid=None asks for no validation; give a fraction")
        return np.arange(n), np.arange(0)
    fraction = fraction_of(valid)
    if time is not None:
        return _last(n, valid, fraction, time)
    if fraction is not None:
        return _by_fraction(n, fraction, seed, stratify, groups)
    if isinstance(valid, str | dt.timedelta):
        raise ArgumentError(
            f"valid={valid!r} is neither a fraction between 0 and 1, nor whole positions such as [0, 5, 7], nor a "
            "mask; a length of time goes with time=, which names or gives the times"
        )
    if how:
        raise ArgumentError(f"{how[0]} goes with a fraction, such as valid=0.2; with chosen items leave it out")
    return complement(n, _positions(n, valid, index))


def get_cv_idxs(n: int, cv_idx: int = 0, val_pct: float = 0.2, seed: int = 42) -> Indices:
    """Give the validation items that fast.ai 0.7's function of this name gave, in its order.

    Args:
        n: how many items there are.
        cv_idx: which block of the permutation, from 0 on.
        val_pct: the size of a block as a fraction of n, rounded down.
        seed: of the permutation.

    Raises:
        ArgumentError: the fraction gives no item, or there is no such block.

    >>> get_cv_idxs(10)
    array([8, 1])
    """
    n, cv_idx = whole("n", n, 1), whole("cv_idx", cv_idx, 0)
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


def by_class(
    codes: Indices | None, valid: Any, stratify: bool | None, *, groups: Any = None, time: Any = None
) -> Indices | None:
    """The `codes` (None where no class repeats) by which to stratify, or None; other arguments of `split_indices`.

    Where `stratify` is None, a split by fraction is stratified if nothing else says how; what cannot be is refused.
    """
    possible = codes is not None and fraction_of(valid) is not None and groups is None and time is None
    if stratify and not possible:
        raise ArgumentError(
            "stratify goes with a fraction and one label an item, of classes that repeat, and no groups"
        )
    return codes if possible and stratify is not False else None


def fraction_of(valid: Any) -> float | None:
    """The fraction that `valid=` asks for; None where it is something else.

    >>> fraction_of(np.float32(0.25)), fraction_of([3, 7]), fraction_of(True)
    (0.25, None, None)
    """
    if isinstance(valid, np.ndarray | Tensor) and valid.ndim == 0:
        valid = valid.item()
    return float(valid) if isinstance(valid, Real | Decimal) and not isinstance(valid, bool | np.bool_) else None


def given_of(
    given: Mapping[str, OnePerItem | None], contradictions: Sequence[tuple[str, str, str]] = _CONTRADICTIONS
) -> list[str]:
    """Which of `stratify`, `groups` and `time` are given; refuses what is no column, and two that contradict."""
    how = [name for name, values in given.items() if values is not None]
    for name in how:
        if isinstance(given[name], bool | str):
            raise ArgumentError(f"{name} must have one entry per item, got {given[name]!r}")
    for one, other, why in contradictions:
        if one in how and other in how:
            raise ArgumentError(f"give {one} or {other}, not both: {why}")
    return how


def _last(n: int, valid: Any, fraction: float | None, time: OnePerItem) -> tuple[Indices, Indices]:
    """The items before a moment, and those from it on."""
    import pandas as pd

    by_length = isinstance(valid, str | dt.timedelta)
    if not by_length and (fraction is None or not 0.0 < fraction < 1.0):
        raise ArgumentError(
            "with time= the last items validate: valid must be a fraction such as 0.1 or a length such as '6W', got "
            f"{str(valid)[:60]!r}"
        )
    length = length_of(valid, "valid") if by_length else None
    when = read_times(time, n)
    if length is None:
        chosen = when >= np.sort(when.to_numpy())[n - max(round(n * float(fraction or 0)), 1)]
    elif pd.api.types.is_datetime64_any_dtype(when.dtype):
        chosen = when > when.max() - length
    else:
        raise ArgumentError(f"time holds numbers, so valid must be a fraction, not a length of time, got {valid!r}")
    if chosen.all():
        raise ArgumentError(f"valid={valid!r} takes every item from {when.min()} to {when.max()}, so none would train")
    return places(~chosen), places(chosen)


def _by_fraction(
    n: int, fraction: float, seed: int, stratify: OnePerItem | None, groups: OnePerItem | None
) -> tuple[Indices, Indices]:
    if not 0.0 < fraction < 1.0:
        raise ArgumentError(
            f"valid={fraction:g} is no fraction between 0 and 1. To choose items, give a list of their positions"
        )
    if n < 2:
        raise ArgumentError(f"splitting needs at least two items, got n={n}")
    wanted = min(max(round(n * fraction), 1), n - 1)
    order = keyed.permutation(n, seed, "split")
    if stratify is not None:
        return complement(n, _stratified(order, codes_of("stratify", stratify, n), fraction, wanted))
    if groups is not None:
        return complement(n, _grouped(order, codes_of("groups", groups, n), wanted))
    return complement(n, order[:wanted])


def _stratified(order: Indices, codes: npt.NDArray[Any], fraction: float, wanted: int) -> Indices:
    """Validation items by class; ties are broken by the order, which is random."""
    sizes = np.bincount(codes)
    quota = sizes * fraction
    counts = np.minimum(np.floor(quota).astype(np.int64), sizes - 1)
    room = (quota > counts) & (counts < sizes - 1)
    classes = codes[order]
    met = in_order_met(classes)
    by_remainder = met[np.argsort((counts - quota)[met], kind="stable")]
    counts[by_remainder[room[by_remainder]][: max(wanted - int(counts.sum()), 0)]] += 1
    if not counts.sum():
        raise ArgumentError(
            f"stratify leaves no item to validate: each of the {len(sizes)} classes has one item only, and it trains. "
            "Split without stratify, or by coarser labels"
        )
    ordered = np.argsort(classes, kind="stable")
    # Of each class the first ones, as many as it gives.
    within = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen: Indices = order[ordered[within < np.repeat(counts, sizes)]]
    return chosen


def _grouped(order: Indices, codes: npt.NDArray[Any], wanted: int) -> Indices:
    """Items of the groups, taken in random order, that bring the number of items nearer to what is wanted."""
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise ArgumentError("groups has one group only, so one side would be empty; give at least two groups")
    shuffled = in_order_met(codes[order])
    taken, total = np.zeros(len(sizes), dtype=bool), 0
    for group in shuffled.tolist():
        size = int(sizes[group])
        if abs(total + size - wanted) < abs(total - wanted) and total + size < len(codes):
            taken[group] = True
            total += size
    if not taken.any():
        taken[shuffled[np.argmin(sizes[shuffled])]] = True
    return np.flatnonzero(taken[codes]).astype(np.int64)


def in_order_met(codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The codes, in the order in which they are met."""
    import pandas as pd

    return np.asarray(pd.unique(codes))


def _positions(n: int, valid: Any, index: pd.Index[Any] | None) -> Indices:
    """Chosen validation items, checked."""
    import pandas as pd

    given = np.asarray(_by_label(n, valid, index) if isinstance(valid, pd.Series | pd.Index) else valid)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iub"):
        raise ArgumentError(
            "valid must be a fraction between 0 and 1, whole positions such as [0, 5, 7] or a mask, got "
            f"{type(valid).__name__} {str(valid)[:60]!r}"
        )
    if given.dtype.kind == "b":
        if len(given) != n:
            raise ArgumentError(f"the mask valid has length {len(given)}, but there are {n} items")
        given = np.flatnonzero(given)
    unique, counts = np.unique(given, return_counts=True)
    bad, twice = given[(given < 0) | (given >= n)], unique[counts > 1]
    if not given.size:
        raise ArgumentError("valid chooses no item; give at least one position, or a fraction such as 0.2")
    if bad.size:
        raise ArgumentError(
            f"valid holds {bad.size} positions outside 0 to {n - 1}, the first is {bad[0]}; positions count from 0"
        )
    if twice.size:
        raise ArgumentError(f"valid names {twice.size} items more than once, the first is {twice[0]}")
    if len(unique) == n:
        raise ArgumentError(f"valid chooses all {n} items, so none would train")
    return unique.astype(np.int64)


def _by_label(n: int, valid: Any, index: pd.Index[Any] | None) -> Any:
    """What a mask or the labels of rows mean by position; a Series of positions is taken as it is."""
    import pandas as pd

    labels = pd.RangeIndex(n) if index is None else index
    if not pd.api.types.is_bool_dtype(valid.dtype):
        if isinstance(valid, pd.Series):
            return valid.to_numpy()
        if not labels.is_unique:
            raise ArgumentError("valid gives labels of rows, but the index repeats some; give positions or a mask")
        at = labels.get_indexer(valid)
        absent = valid[at < 0]
        if len(absent):
            raise ArgumentError(f"valid names {len(absent)} rows that are not there, such as {absent[0]!r}")
        return at
    if valid.isna().any():
        raise ArgumentError(f"the mask valid has {int(valid.isna().sum())} missing entries; fill them with False")
    if isinstance(valid, pd.Series) and not valid.index.equals(labels):
        if len(valid) != n or not valid.index.is_unique or not labels.isin(valid.index).all():
            raise ArgumentError(
                "the mask valid has another index than the items, so it is not clear which it means; make it from the "
                "same table, or pass valid=mask.to_numpy() to take it by position"
            )
        valid = valid.reindex(labels)
    return valid.to_numpy(np.bool_)


def complement(n: int, valid: Indices) -> tuple[Indices, Indices]:
    """All other items than `valid`, and these, sorted."""
    mask = np.zeros(n, dtype=bool)
    mask[valid] = True
    return places(~mask), places(mask)


def places(mask: Any) -> Indices:
    """Where a mask is true."""
    return np.flatnonzero(np.asarray(mask)).astype(np.int64, copy=False)


def codes_of(name: str, labels: Iterable[Any], n: int) -> npt.NDArray[Any]:
    """Labels as numbers, in the order in which they first occur. All NaN are one label; a row is one label."""
    import pandas as pd

    arrays = np.ndarray | pd.Series | pd.Index
    if not isinstance(labels, arrays) or labels.ndim != 1 or labels.dtype == object:  # of objects may hold lists
        labels = pd.Series([_hashable(label) for label in labels], dtype=object)
    codes: npt.NDArray[Any] = pd.factorize(labels, use_na_sentinel=False)[0]  # type: ignore[call-overload]
    if len(codes) != n:
        raise ArgumentError(f"{name} must have one entry per item: got {len(codes)} entries for {n} items")
    return codes.astype(np.min_scalar_type(codes.max()))  # short numbers are sorted in one pass


def _hashable(label: Any) -> Hashable:
    return tuple(map(_hashable, label)) if isinstance(label, list | tuple | np.ndarray) else label


def whole(name: str, value: int, least: int) -> int:
    """`value` as a whole number of at least `least`, of whatever type, else refused by its `name`."""
    if not isinstance(value, Integral) or isinstance(value, (bool, np.bool_)) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
