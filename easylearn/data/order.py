"""Batches of items: an `Order` says which items make which batch, a `Source` makes tensors of them.

What comes as a stream (windows of a text, row groups of a table) has an order of its own and is a `Loader` by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, repeat
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import keyed
from ..device import has_float64
from ..errors import ArgumentError, DataError

Indices = npt.NDArray[np.int64]
Shard = tuple[int, int] | tuple[int, int, int]
"""(rank, world): which of how many asks; each takes a slice of every batch. A third number is the fewest rows of a
slice: those of a batch that is too small are put together."""

AHEAD = 256  # batches whose indices are prepared together: in the middle of a step nothing needed for it is in a cache
CHUNK_BATCHES = 50  # batches whose items are sorted by length together


@dataclass(slots=True)
class Batch:
    """Some items, ready for the model and on its device.

    Args:
        inputs: what the model is called with.
        target: what it should give; None where it is not known.
        index: positions of the items in their split, shape (b,), on the CPU.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor | None
    index: Tensor


class Loader(Protocol):
    """A way through the items of one split. `len` counts batches."""

    batch_size: int
    n_items: int

    def __len__(self) -> int: ...

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0, shard: Shard = (0, 1)
    ) -> Generator[Batch, None, None]:
        """The batches of one epoch, the same for the same (seed, epoch), with any number of workers and any start.

        Args:
            device: where the batches should be.
            seed: of the run.
            epoch: counted over the whole life of the learner.
            start: how many batches to leave out, for a run that is continued within an epoch.
            shard: which slice of every batch; see `Shard`.

        Returns:
            A generator. Close it if you do not go to its end: it may hold worker processes.
        """


def batch_bounds(n: int, batch_size: int, merge_single: bool = False) -> list[tuple[int, int]]:
    """Where each batch of `n` items begins and ends.

    Args:
        n: number of items.
        batch_size: items in a batch; the last may be smaller.
        merge_single: put a last batch of one item into the one before: batch-norm cannot train on a single item.

    >>> batch_bounds(9, 4), batch_bounds(9, 4, merge_single=True)
    ([(0, 4), (4, 8), (8, 9)], [(0, 4), (4, 9)])
    """
    starts = list(range(0, n, batch_size))
    if merge_single and len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return list(pairwise([*starts, n]))


def shard_of(n: int, shard: Shard) -> slice:
    """The slice of `n` rows that belongs to one of several.

    >>> [shard_of(5, (rank, 2)) for rank in range(2)]
    [slice(0, 2, None), slice(2, 5, None)]
    >>> [shard_of(5, (rank, 4, 2)) for rank in range(4)]  # with at least two rows, or none
    [slice(0, 2, None), slice(2, 2, None), slice(2, 5, None), slice(5, 5, None)]
    """
    rank, world, least = (*shard, 0)[:3]
    slices = world
    while slices > 1 and n < least * slices:  # by halves: so each of two neighbours keeps its rows, or gets both
        slices = slices // 2 if slices % 2 == 0 else 1
    each = world // slices
    return slice(-(-rank // each) * n // slices, -(-(rank + 1) // each) * n // slices)


@dataclass(frozen=True, eq=False)
class Order:
    """Which items make which batch, as a pure function of (seed, epoch).

    Args:
        n_items: how many items there are.
        batch_size: items in a batch; a last batch of one item is merged into the one before where `shuffle`.
        shuffle: training: a new order in each epoch.
        weights: how often an item comes, relative to the others, shape (n_items,): in each epoch as many items are
            drawn as there are, with replacement, each within one of its expected number (systematic resampling).
        lengths: of the items, shape (n_items,): items of like length share a batch, the longest first in it. In
            training the batch with the longest item comes first, so that too large a batch fails at once.
        turn: (which, of how many) take whole batches in turn, where each has to be computed once.

    >>> order = Order(5, 2)
    >>> [b.tolist() for b in order.batches()]
    [[0, 1], [2, 3], [4]]
    >>> sorted(i for b in Order(5, 2, shuffle=True).batches(seed=1) for i in b.tolist())
    [0, 1, 2, 3, 4]
    """

    n_items: int
    batch_size: int
    shuffle: bool = False
    weights: npt.NDArray[np.float64] | None = None
    lengths: npt.NDArray[np.int64] | None = None
    turn: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ArgumentError(f"batch_size must be at least 1, got {self.batch_size}")
        for name, given in (("weights", self.weights), ("lengths", self.lengths)):
            if given is not None and len(given) != self.n_items:
                raise DataError(f"{name} has {len(given)} entries for {self.n_items} items")

    @cached_property
    def _bounds(self) -> list[tuple[int, int]]:
        return batch_bounds(self.n_items, self.batch_size, merge_single=self.shuffle)

    def __len__(self) -> int:
        return len(range(self.turn[0], len(self._bounds), self.turn[1]))

    def batches(self, seed: int = 0, epoch: int = 0, start: int = 0, shard: Shard = (0, 1)) -> list[Indices]:
        """The items of each batch from `start` on; see `Loader.batches`."""
        chosen = self._items(seed, epoch)
        if self.lengths is not None:
            made = self._by_length(chosen, self.lengths, seed, epoch)
        else:
            made = [chosen[a:b] for a, b in self._bounds]
        made = made[self.turn[0] :: self.turn[1]][start:]
        return made if shard == (0, 1) else [b[shard_of(len(b), shard)] for b in made]

    def _items(self, seed: int, epoch: int) -> Indices:
        """The items of an epoch in the order in which they come."""
        if not self.shuffle:
            return np.arange(self.n_items)
        order = keyed.permutation(self.n_items, seed, "shuffle", epoch)
        if self.weights is None:
            return order
        shares = np.cumsum(self.weights)
        points = (np.arange(self.n_items) + keyed.uniform([0], 1, seed, "weights", epoch)[0, 0]) / self.n_items
        drawn = np.searchsorted(shares, points * shares[-1], side="right").clip(max=self.n_items - 1)
        chosen: Indices = drawn[order].astype(np.int64)
        return chosen

    def _by_length(self, items: Indices, lengths: npt.NDArray[np.int64], seed: int, epoch: int) -> list[Indices]:
        def longest_first(some: Indices) -> Indices:
            return some[np.argsort(-lengths[some], kind="stable")]

        if not self.shuffle:
            items = longest_first(items)
            return [items[a:b] for a, b in self._bounds]
        # Sorted in chunks: neighbours are alike in length, and still other neighbours in each epoch.
        size = self.batch_size * CHUNK_BATCHES
        items = np.concatenate([longest_first(items[a : a + size]) for a in range(0, len(items), size)])
        mixed = keyed.permutation(len(self._bounds), seed, "batches", epoch)
        made = [longest_first(items[slice(*self._bounds[i])]) for i in mixed]
        longest = max(range(len(made)), key=lambda i: lengths[made[i][0]])
        made[0], made[longest] = made[longest], made[0]
        return made


class Source(ABC):
    """Items of one split, made into the model's inputs."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def fetch(self, index: Indices, device: torch.device) -> tuple[Tensor, ...]:
        """The model's inputs on `device` for the items at some positions, shape (b,)."""

    def stream(
        self, batches: Sequence[Indices], device: torch.device, seed: int = 0, epoch: int = 0
    ) -> Generator[tuple[Tensor, ...], None, None]:
        """The inputs of one batch after the other; a source that prepares batches ahead does so here.

        Args:
            batches: positions of the items of each batch.
            device: where the inputs should be.
            seed: of the run.
            epoch: of the learner's life; what is drawn for an item depends on it.
        """
        for index in batches:
            yield self.fetch(index, device)

    def with_targets(
        self,
        batches: Sequence[Indices],
        targets: Iterable[Tensor],
        device: torch.device,
        seed: int = 0,
        epoch: int = 0,
    ) -> Generator[tuple[tuple[Tensor, ...], Tensor], None, None]:
        """As `stream`, each batch with its target; a source whose targets move with its items moves them here.

        Args:
            batches, device, seed, epoch: as in `stream`.
            targets: of each batch, (b, ...), for the items as they are without augmentation.
        """
        with closing(self.stream(batches, device, seed, epoch)) as stream:
            yield from zip(stream, targets, strict=True)


class TensorSource(Source):
    """Rows of whole tensors: one indexed read for a batch, no worker, no copy of single items.

    Args:
        inputs: tensors of shape (n, ...), given to the model in this order.
        rows: which rows are items, shape (n_items,); None takes all, in their order.
    """

    def __init__(self, inputs: Sequence[Tensor], rows: Indices | None = None) -> None:
        if len({len(t) for t in inputs}) != 1:
            raise DataError(f"inputs must have the same number of rows, got {[len(t) for t in inputs]}")
        self.inputs = tuple(inputs)
        self.rows = rows

    def __len__(self) -> int:
        return len(self.inputs[0]) if self.rows is None else len(self.rows)

    def fetch(self, index: Indices, device: torch.device) -> tuple[Tensor, ...]:
        """See `Source.fetch`."""
        return next(self.stream([index], device))

    def stream(
        self, batches: Sequence[Indices], device: torch.device, seed: int = 0, epoch: int = 0
    ) -> Generator[tuple[Tensor, ...], None, None]:
        """See `Source.stream`."""
        for at, sizes in _ahead(batches):
            rows = at if self.rows is None else self.rows[at]
            yield from zip(*(_rows(t, rows, sizes, device) for t in self.inputs), strict=True)


def _ahead(batches: Sequence[Indices]) -> Iterator[tuple[Indices, list[int]]]:
    """The items of many batches at once, and how many there are in each."""
    for first in range(0, len(batches), AHEAD):
        some = batches[first : first + AHEAD]
        yield np.concatenate(some), [len(index) for index in some]


def _rows(tensor: Tensor, at: Indices, sizes: list[int], device: torch.device) -> Iterator[Tensor]:
    """The rows of a tensor for one batch after the other."""
    n, start = len(at), int(at[0]) if len(at) else 0
    found: Iterator[Tensor]
    if n and at[-1] - start == n - 1 and (at[1:] > at[:-1]).all():  # neighbours in order: nothing is copied
        found = iter(tensor[start : start + n].split_with_sizes(sizes))
    else:  # index_select reads short rows several times as fast as t[rows] does
        found = map(
            tensor.index_select,
            repeat(0),
            torch.from_numpy(at).to(tensor.device, non_blocking=True).split_with_sizes(sizes),
        )
    return found if tensor.device == device else (to_device(t, device) for t in found)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there. A copy to a GPU goes on by itself; one to the CPU is waited for, since nothing else would."""
    return tensor if tensor.device == device else tensor.to(device, non_blocking=device.type != "cpu")


class Subset(Source):
    """Some items of a source.

    Args:
        source: of all items.
        items: positions in it, shape (n,).
    """

    def __init__(self, source: Source, items: Indices) -> None:
        self.source = source
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def fetch(self, index: Indices, device: torch.device) -> tuple[Tensor, ...]:
        """See `Source.fetch`."""
        return self.source.fetch(self.items[index], device)

    def stream(
        self, batches: Sequence[Indices], device: torch.device, seed: int = 0, epoch: int = 0
    ) -> Generator[tuple[Tensor, ...], None, None]:
        """See `Source.stream`."""
        return self.source.stream([self.items[index] for index in batches], device, seed, epoch)

    def with_targets(
        self,
        batches: Sequence[Indices],
        targets: Iterable[Tensor],
        device: torch.device,
        seed: int = 0,
        epoch: int = 0,
    ) -> Generator[tuple[tuple[Tensor, ...], Tensor], None, None]:
        """See `Source.with_targets`."""
        return self.source.with_targets([self.items[index] for index in batches], targets, device, seed, epoch)


class ItemLoader:
    """The loader of an order and a source; see `Loader`.

    Args:
        order: which items make which batch.
        source: makes the inputs.
        target: of each item, shape (n, ...); None where they are not known.
    """

    def __init__(self, order: Order, source: Source, target: Tensor | None = None) -> None:
        lengths = [order.n_items, len(source), *([] if target is None else [len(target)])]
        if len(set(lengths)) != 1:
            raise DataError(f"order, inputs and target must have the same number of rows, got {lengths}")
        self.order = order
        self.source = source
        self.target = target
        self.batch_size = order.batch_size
        self.n_items = order.n_items

    def __len__(self) -> int:
        return len(self.order)

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0, shard: Shard = (0, 1)
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`."""
        batches = self.order.batches(seed, epoch, start, shard)
        positions = (index for at, sizes in _ahead(batches) for index in torch.from_numpy(at).split_with_sizes(sizes))
        if self.target is None:
            with closing(self.source.stream(batches, device, seed, epoch)) as stream:
                for index, inputs in zip(positions, stream, strict=True):
                    yield Batch(inputs, None, index)
            return
        stays = self.target.dtype == torch.float64 and not has_float64(device)  # the task brings them to its scale
        known = TensorSource([self.target]).stream(batches, torch.device("cpu") if stays else device)
        with closing(self.source.with_targets(batches, (t for (t,) in known), device, seed, epoch)) as both:
            for index, (inputs, target) in zip(positions, both, strict=True):
                yield Batch(inputs, target, index)


def tensor_loader(
    inputs: Sequence[Tensor], target: Tensor | None, batch_size: int, shuffle: bool = False
) -> ItemLoader:
    """The loader of whole tensors, given to the model in this order.

    >>> loader = tensor_loader([torch.arange(3.0)], torch.arange(3), 2)
    >>> [batch.target.tolist() for batch in loader.batches(torch.device("cpu"))]
    [[0, 1], [2]]
    """
    source = TensorSource(inputs)
    return ItemLoader(Order(len(source), batch_size, shuffle), source, target)
