"""Where the rows of a split come from: two tensors in memory, or the row groups of a parquet table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import keyed
from ..data.frames import ParquetTable
from ..data.loaders import content_of
from ..data.order import Batch, ItemLoader, Loader, Order, Shard, TensorSource, batch_bounds, shard_of
from ..data.split import Indices
from ..data.values import Bools
from ..files import digest
from .processing import TableProcessor
from .reports import TransformReport

if TYPE_CHECKING:
    import pandas as pd

BUFFER_ROWS = 2**18
GPU_SHARE = 0.5  # of the free memory of a GPU that a table may take
CPU = torch.device("cpu")


class TableSplit(Protocol):
    """The rows of train, valid or test."""

    @property
    def target(self) -> Tensor | None:
        """The targets in their own units; None where they are not known."""

    def __len__(self) -> int: ...

    def loader(self, batch_size: int, shuffle: bool) -> Loader:
        """Batches of (cats, conts)."""

    def ids(self) -> Sequence[str]:
        """One name per row, in order."""

    def fingerprint(self) -> str:
        """Changes with the content."""

    def row(self, i: int) -> tuple[Tensor, Tensor]:
        """Codes (1, n_cat) and numbers (1, n_cont) of row `i`."""

    def sample(self, n: int) -> Tensor:
        """The continuous columns of at most `n` rows, always the same ones."""


@dataclass(frozen=True)
class MemorySplit:
    """Some rows of a table that is wholly in memory; the splits of a table share it.

    Args:
        inputs: codes and numbers of all rows of the table, shapes (n, n_cat) and (n, n_cont).
        index: the labels of all rows.
        rows: positions of the split's rows; None for all.
        target: of the split's rows, see `Targets.encode`; None where it is not known.
        weights: of the split's rows: how often each comes in training; None for once each.
    """

    inputs: tuple[Tensor, Tensor]
    index: pd.Index[Any]
    rows: Indices | None = None
    target: Tensor | None = None
    weights: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.inputs[0]) if self.rows is None else len(self.rows)

    def __repr__(self) -> str:
        return f"MemorySplit({len(self):,} rows{'' if self.target is None else ', with targets'})"

    @property
    def _source(self) -> TensorSource:
        return TensorSource(self.inputs, self.rows)

    def loader(self, batch_size: int, shuffle: bool) -> ItemLoader:
        """Batches by one indexed read each."""
        order = Order(len(self), batch_size, shuffle=shuffle, weights=self.weights if shuffle else None)
        return ItemLoader(order, self._source, self.target)

    def ids(self) -> Sequence[str]:
        """The labels of the table's rows, as text."""
        return [str(label) for label in (self.index if self.rows is None else self.index[self.rows])]

    def fingerprint(self) -> str:
        """Of all values."""
        weights = () if self.weights is None else (torch.from_numpy(self.weights),)
        return content_of(*self.fetch(), self.target, *weights)

    def row(self, i: int) -> tuple[Tensor, Tensor]:
        """See `TableSplit.row`."""
        return self.fetch(np.array([i]))

    def sample(self, n: int) -> Tensor:
        """Of rows from all over the split."""
        every = len(self) <= n
        return self.fetch(None if every else keyed.permutation(len(self), 0, "sample")[:n])[1]

    def fetch(self, rows: Indices | None = None) -> tuple[Tensor, Tensor]:
        """Codes and numbers of some rows of the split, or of all, on the CPU."""
        cats, conts = self._source.fetch(np.arange(len(self)) if rows is None else rows, CPU)
        return cats, conts


def on_device(splits: Mapping[Any, TableSplit], device: torch.device) -> dict[Any, TableSplit]:
    """The splits with what is in memory on the device, if it fits there: a GPU then waits for no CPU."""
    held = [t for s in splits.values() if isinstance(s, MemorySplit) for t in (*s.inputs, s.target)]
    tensors = {id(t): t for t in held if t is not None and t.device != device}
    needed = sum(t.numel() * t.element_size() for t in tensors.values())
    if device.type == "cuda" and needed > GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return dict(splits)
    moved = {key: t.to(device) for key, t in tensors.items()}  # what splits share is moved once

    def there(split: TableSplit) -> TableSplit:
        if not isinstance(split, MemorySplit) or not moved:
            return split
        cats, conts = (moved.get(id(t), t) for t in split.inputs)
        return replace(split, inputs=(cats, conts), target=moved.get(id(split.target), split.target))

    return {name: there(split) for name, split in splits.items()}


@dataclass(frozen=True)
class StreamSplit:
    """A split that is read anew, row group by row group, in each epoch.

    Args:
        table: where the rows are.
        processor: makes codes and numbers of them.
        rows: positions of the split's rows in the table, sorted.
        target: as in `MemorySplit`; targets are in memory.
        buffer_rows: how many rows are mixed with one another.
    """

    table: ParquetTable
    processor: TableProcessor
    rows: Indices
    target: Tensor | None
    buffer_rows: int = BUFFER_ROWS

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"StreamSplit({len(self):,} rows{'' if self.target is None else ', with targets'})"

    @property
    def columns(self) -> list[str]:
        """What is read."""
        return [*self.processor.cat_names, *self.processor.cont_names]

    def loader(self, batch_size: int, shuffle: bool) -> StreamLoader:
        """Batches as the files give them."""
        return StreamLoader(self, batch_size, shuffle)

    def ids(self) -> Sequence[str]:
        """Positions in the table."""
        return [str(r) for r in self.rows.tolist()]

    def fingerprint(self) -> str:
        """Of the files, the columns and the rows; not of what they are encoded by."""
        return digest([*self.table.identity(), *self.columns, self.rows.tobytes()])

    def row(self, i: int) -> tuple[Tensor, Tensor]:
        """See `TableSplit.row`; its row group is read."""
        at = int(self.rows[i])
        group = next(g for g in self.table.groups if g.start <= at < g.stop)
        frame = self.table.read_group(group, self.columns)
        return self.processor.transform(frame.iloc[[at - group.start]]).tensors()

    def sample(self, n: int) -> Tensor:
        """Of whole row groups from all over the split."""
        with closing(self.loader(min(n, len(self)), shuffle=True).batches(CPU)) as batches:
            return next(batches).inputs[1]


class StreamLoader:
    """Batches out of a parquet table that may be larger than memory.

    In training, row groups come in an order keyed by (seed, epoch), which is cut into a span for each shard, and each
    shard reads its own span alone: neighbours in it fill a buffer, whose rows are mixed. A later `start` reads only
    what comes after it. In memory are one buffer of encoded rows, which the shards share out among them, and the row
    group that is being read.
    """

    def __init__(self, split: StreamSplit, batch_size: int, shuffle: bool) -> None:
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.n_items = len(split)
        self._bounds = batch_bounds(self.n_items, batch_size, merge_single=shuffle)
        # Rows edges[i] to edges[i + 1] of the split are in row group i.
        starts = [g.start for g in split.table.groups]
        self._edges = np.searchsorted(split.rows, [*starts, split.table.n_rows]).tolist()

    def __len__(self) -> int:
        return len(self._bounds)

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0, shard: Shard = (0, 1)
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`. In training, a shard reads the row groups of its span; in order, it reads all."""
        bounds = self._bounds[start:]
        if not bounds:
            return
        own = [shard_of(b - a, shard) for a, b in self._bounds]
        if self.shuffle:
            taken = [(s.stop - s.start, slice(None)) for s in own]
            blocks = self._blocks(seed, epoch, self._span(own, shard), shard, skip=sum(n for n, _ in taken[:start]))
        else:
            taken = [(b - a, s) for (a, b), s in zip(self._bounds, own, strict=True)]
            blocks = self._blocks(seed, epoch, (0, self.n_items), (0, 1), skip=bounds[0][0])
        order, block = next(blocks, None) or self._nothing()
        for missing, wanted in taken[start:]:
            pieces: list[list[Tensor]] = []
            first, last, _ = wanted.indices(missing)
            done = 0
            while not pieces or done < missing:
                if not len(order) and done < missing:
                    order, block = next(blocks)
                chosen, order = order[: missing - done], order[missing - done :]
                mine = chosen[max(first - done, 0) : max(last - done, 0)]
                done += len(chosen)
                pieces.append([t.index_select(0, mine) for t in block])
            index, cats, conts = pieces[0] if len(pieces) == 1 else [torch.cat(t) for t in zip(*pieces, strict=True)]
            target = None if self.split.target is None else self.split.target.index_select(0, index)
            yield Batch(
                (cats.to(device, non_blocking=True), conts.to(device, non_blocking=True)),
                None if target is None else target.to(device, non_blocking=True),
                index,
            )

    def _span(self, own: Sequence[slice], shard: Shard) -> tuple[int, int]:
        """Where the span of a shard begins and ends among all rows, of which it has its `own` ones of each batch."""
        if shard[1] == 1:
            return 0, self.n_items
        sizes = Counter(b - a for a, b in self._bounds)
        before = sum(count * shard_of(n, shard).start for n, count in sizes.items())
        return before, before + sum(s.stop - s.start for s in own)

    def _blocks(
        self, seed: int, epoch: int, span: tuple[int, int], shard: Shard, skip: int
    ) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Buffers: an order of rows, and their (position in the split, cats, conts). `skip` rows are left out."""
        whose = () if shard[1] == 1 else (*shard[:2],)
        for number, buffer in enumerate(self._buffers(seed, epoch, span, shard[1])):
            n = sum(last - first for _, first, last in buffer)
            if skip >= n:
                skip -= n
                continue
            inputs = tuple(torch.cat(columns) for columns in zip(*(self._read(*g) for g in buffer), strict=True))
            order = keyed.permutation(n, seed, "stream", epoch, number, *whose) if self.shuffle else np.arange(n)
            yield torch.from_numpy(order[skip:]), inputs
            skip = 0

    def _nothing(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A block without rows, of a shard that gets none."""
        number = next(g for g in range(len(self._edges) - 1) if self._edges[g] < self._edges[g + 1])
        return torch.empty(0, dtype=torch.int64), self._read(number, self._edges[number], self._edges[number] + 1)

    def _buffers(self, seed: int, epoch: int, span: tuple[int, int], shards: int) -> list[list[tuple[int, int, int]]]:
        """Row groups of a span in their order in this epoch, put together until a buffer is full.

        Of each group its number, and the first and the last of its rows in the split.
        """
        n_groups = len(self.split.table.groups)
        order = keyed.permutation(n_groups, seed, "row groups", epoch) if self.shuffle else np.arange(n_groups)
        buffers: list[list[tuple[int, int, int]]] = []
        limit = max(self.split.buffer_rows // shards, 1) if self.shuffle else 1  # in order there is nothing to mix
        filled, at = limit, 0
        for g in order.tolist():
            start, n = self._edges[g], self._edges[g + 1] - self._edges[g]
            first, last = max(span[0] - at, 0), min(span[1] - at, n)
            at += n
            if first >= last:
                continue
            if filled >= limit:
                buffers.append([])
                filled = 0
            buffers[-1].append((g, start + first, start + last))
            filled += last - first
        return buffers

    def _read(self, number: int, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        """Position, codes and numbers of some rows of the split, which are in one row group."""
        split, group = self.split, self.split.table.groups[number]
        frame = split.table.read_group(group, split.columns, keep=True)
        if last - first < group.stop - group.start:
            frame = frame.iloc[split.rows[first:last] - group.start]
        return torch.arange(first, last), *split.processor.transform(frame).tensors()


def memory_limit() -> int:
    """Bytes that a table may take before it is streamed: half of this machine's memory."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 * 2**30


def fit_streamed(
    processor: TableProcessor, table: ParquetTable, rows: Indices
) -> tuple[TransformReport, TransformReport]:
    """Fit a processor on the training `rows` of a table, of which one row group at a time fits into memory.

    Returns:
        What was seen in the training rows, and in the others; see `TableProcessor.fit_blocks`.
    """
    train = np.zeros(table.n_rows, np.bool_)
    train[rows] = True

    def blocks(names: list[str]) -> Iterator[tuple[pd.DataFrame, Bools]]:
        for group in table.groups:
            yield table.read_group(group, names), train[group.start : group.stop]

    return processor.fit_blocks(blocks)
