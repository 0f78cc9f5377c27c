"""Keyed randomness: every random draw is a pure function of what it is for.

An item's augmentation is a function of (seed, epoch, item), a shuffle of (seed, epoch): so the order in which workers
happen to ask changes nothing, and a run resumed in the middle goes on as it would have.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Part = int | str
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key(*parts: Part) -> int:
    """A 64-bit number that depends on its parts alone, such as a seed, a purpose, an epoch: the same on every machine.

    >>> key(0, "shuffle", 1) == key(0, "shuffle", 1), key(0, "shuffle", 1) == key(0, "shuffle", 2)
    (True, False)
    """
    text = "\x1f".join(f"{type(p).__name__[0]}{p}" for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(*parts: Part) -> torch.Generator:
    """A torch generator on the CPU, seeded by the key of `parts`."""
    return torch.Generator().manual_seed(key(*parts) & 0x7FFFFFFFFFFFFFFF)


def permutation(n: int, *parts: Part) -> npt.NDArray[np.int64]:
    """A permutation of `range(n)` that depends on `parts` only.

    >>> sorted(permutation(5, 0, "shuffle", 3).tolist())
    [0, 1, 2, 3, 4]
    """
    return torch.randperm(n, generator=generator(*parts)).numpy()


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014), vectorised."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def uniform(items: npt.ArrayLike, n: int, *parts: Part) -> npt.NDArray[np.float64]:
    """`n` numbers in [0, 1) for each item; row i depends on `parts` and `items[i]` only.

    Args:
        items: integers, shape (b,): which items of the data are drawn for.
        n: how many numbers an item needs.
        parts: seed, purpose, epoch and the like.

    >>> a, b = uniform([7, 8], 2, 0, "flip"), uniform([8], 2, 0, "flip")
    >>> a.shape, bool((a[1] == b[0]).all())
    ((2, 2), True)
    """
    index = np.asarray(items).astype(np.uint64).reshape(-1, 1)
    with np.errstate(over="ignore"):
        row = _mix(index * _GOLDEN + np.uint64(key(*parts)))
        column = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
        bits = _mix(row + column)
    numbers: npt.NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def rng_state() -> dict[str, Any]:
    """How the global generators of Python, NumPy and torch (with every CUDA device) stand, in plain values and tensors.

    >>> state = rng_state()
    >>> first = random.random()
    >>> set_rng_state(state)
    >>> random.random() == first
    True
    """
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {
        "python": (version, torch.tensor(words, device="cpu"), gauss),  # whatever the default device is
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put back what `rng_state` gave; generators of GPUs only where there are as many of them."""
    version, words, gauss = state["python"]
    kind, keys, *rest = state["numpy"]
    random.setstate((version, tuple(words.tolist()), gauss))
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_global(*parts: Part) -> None:
    """Seed the global generators of Python, NumPy and torch by the key of `parts`."""
    number = key(*parts)
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    torch.manual_seed(number & 0x7FFFFFFFFFFFFFFF)


@contextmanager
def scoped_rng(*parts: Part) -> Iterator[None]:
    """Inside the block the global generators follow `parts` (if given); after it they are as before.

    Dropout and weight initialisation read torch's global generator: this is how they become keyed.

    >>> before = torch.get_rng_state()
    >>> with scoped_rng(0, "head"):
    ...     _ = torch.rand(3)
    >>> bool((torch.get_rng_state() == before).all())
    True
    """
    state = rng_state()
    try:
        if parts:
            seed_global(*parts)
        yield
    finally:
        set_rng_state(state)
