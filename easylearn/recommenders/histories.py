"""Histories: what each of many persons took, in memory; and the batches that are made of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import keyed
from ..data.order import Batch, Indices, Order, Shard, Source, to_device

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Histories:
    """What each person took, one person after the other; each item once in a history.

    Args:
        items: numbers of the items, shape (n,).
        weights: how much of each, above 0, shape (n,).
        starts: where each person's begin, and where the last one's end, shape (persons + 1,).
        held: what is to be predicted, and not known, shape (n,).
    """

    items: Indices
    weights: Floats
    starts: Indices
    held: Bools

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __repr__(self) -> str:
        return f"Histories({len(self):,} persons, {len(self.items):,} pairs, {int(self.held.sum()):,} held out)"

    @classmethod
    def of(cls, persons: Indices, items: Indices, weights: Floats, held: Bools, n_persons: int) -> Histories:
        """Of pairs in the order of their `persons`, which are numbers below `n_persons`; each array has shape (n,)."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(persons, minlength=n_persons))]).astype(np.int64)
        return cls(items, weights.astype(np.float32), starts, held)

    @classmethod
    def of_dicts(cls, given: Sequence[Mapping[int, float]]) -> Histories:
        """Of a dictionary for each person, from the number of an item to its weight; nothing is held out."""
        items = np.array([item for one in given for item in one], np.int64)
        weights = np.array([w for one in given for w in one.values()], np.float32)
        persons = np.repeat(np.arange(len(given)), [len(one) for one in given])
        return cls.of(persons, items, weights, np.zeros(len(items), bool), len(given))

    def at(self, persons: Indices) -> tuple[Indices, Indices]:
        """Positions of what some persons took, and for each of these which of the persons it was, (m,)."""
        sizes = self.starts[persons + 1] - self.starts[persons]
        ends = np.cumsum(sizes)
        row = np.repeat(np.arange(len(persons)), sizes)
        return np.arange(len(row)) + np.repeat(self.starts[persons] - (ends - sizes), sizes), row

    def of_persons(self, persons: Indices) -> Histories:
        """The histories of these persons."""
        at, row = self.at(persons)
        return Histories.of(row, self.items[at], self.weights[at], self.held[at], len(persons))

    def some(self, which: Bools, held: Bools | None = None) -> Histories:
        """Of all persons a part of what they took, `which` (n,); `held` (n,) says anew what of all is held out."""
        persons = np.repeat(np.arange(len(self)), np.diff(self.starts))[which]
        of = self.held if held is None else held
        return Histories.of(persons, self.items[which], self.weights[which], of[which], len(self))

    @property
    def known(self) -> Histories:
        """What is not held out."""
        return self.some(~self.held)

    def taken_by(self, n_items: int) -> Indices:
        """How many persons took each of `n_items` items, shape (n_items,)."""
        return np.bincount(self.items, minlength=n_items)


def draw_last(persons: Indices, wanted: Indices, by: Sequence[npt.NDArray[np.generic]]) -> Bools:
    """Of each person's pairs the last ones.

    Args:
        persons: whose each pair is, numbers from 0, shape (n,).
        wanted: how many of each person's, shape (persons,).
        by: what the pairs are sorted by, the first counts most, each of shape (n,).
    """
    order = np.lexsort([*reversed(by), persons])
    sizes = np.bincount(persons, minlength=len(wanted))
    from_end = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(order))  # 1 for the last of a person
    chosen = np.zeros(len(persons), bool)
    chosen[order] = from_end <= wanted[persons[order]]
    return chosen


class HistorySource(Source):
    """Histories as rows of a matrix: how much of each item a person took, on a scale of logarithms.

    Args:
        histories: of the persons.
        n_items: how many items there are.
        whole: what is held out is there, too, as training wants it.
    """

    def __init__(self, histories: Histories, n_items: int, whole: bool = True) -> None:
        self.histories, self.n_items, self.whole = histories, n_items, whole

    def __len__(self) -> int:
        return len(self.histories)

    def fetch(self, index: Indices, device: torch.device) -> tuple[Tensor, ...]:
        """See `Source.fetch`: one tensor (b, n_items)."""
        at, row = self.histories.at(index)
        if not self.whole:
            known = ~self.histories.held[at]
            at, row = at[known], row[known]
        return (to_device(self._rows(at, row, np.log1p(self.histories.weights[at]), len(index)), device),)

    def targets(self, index: Indices, device: torch.device) -> Tensor:
        """What the persons want, as a `Ranking` task takes it, (b, n_items).

        That is all that they took, or, unless `whole`, what is held out, while the rest is left out.
        """
        at, row = self.histories.at(index)
        value = np.ones(len(at), np.float32) if self.whole else np.where(self.histories.held[at], 1, -1)
        return to_device(self._rows(at, row, value, len(index)), device)

    def _rows(self, at: Indices, row: Indices, value: npt.NDArray[np.generic], n: int) -> Tensor:
        rows = np.zeros(n * self.n_items, np.float32)
        rows[row * self.n_items + self.histories.items[at]] = value
        return torch.from_numpy(rows.reshape(n, self.n_items))


class HistoryLoader:
    """The loader of an order and histories, whose targets are made batch by batch; see `Loader`.

    Args:
        order: which persons make which batch.
        source: makes inputs and targets.
    """

    def __init__(self, order: Order, source: HistorySource) -> None:
        self.order, self.source = order, source
        self.batch_size, self.n_items = order.batch_size, order.n_items

    def __len__(self) -> int:
        return len(self.order)

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0, shard: Shard = (0, 1)
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`."""
        batches = self.order.batches(seed, epoch, start, shard)
        with closing(self.source.stream(batches, device, seed, epoch)) as stream:
            for index, inputs in zip(batches, stream, strict=True):
                yield Batch(inputs, self.source.targets(index, device), torch.from_numpy(index))


def random_order(n: int, seed: int, *parts: str) -> npt.NDArray[np.float64]:
    """A number for each of `n` pairs, by which they are in a random order that depends on `seed` and `parts` alone."""
    return keyed.uniform(np.arange(n), 1, seed, *parts)[:, 0]


def named(names: Iterable[str], most: int) -> str:
    """The first `most` names, and how many more there are."""
    given = list(names)
    more = f" and {len(given) - most:,} more" if len(given) > most else ""
    return ", ".join(given[:most]) + more
