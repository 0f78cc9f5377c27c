"""Where the rows of a part come from: two tensors in memory, or the row groups of a parquet table."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import keyed
from ..data._old_bunch import Batch, Loader
from ..data._old_loaders import TensorLoader, batch_bounds
from ..data.frames import ParquetTable
from ..data.split import Indices
from ..data.values import Bools
from ..files import digest
from .processing import Encoded, TableProcessor
from .reports import TransformReport

if TYPE_CHECKING:
    import pandas as pd

BUFFER_ROWS = 2**18
GPU_SHARE = 0.5  # of the free memory of a GPU that a table may take


class Part(Protocol):
    """The rows of train, valid or test."""

    @property
    def target(self) -> Tensor | None:
        """The targets in their own units; None where nobody knows them."""
        ...

    def __len__(self) -> int: ...

    def loader(self, batch_size: int, shuffle: bool) -> Loader:
        """Batches of (cats, conts)."""
        ...

    def ids(self) -> Sequence[str]:
        """One name per row, in order."""
        ...

    def fingerprint(self) -> str:
        """Changes with the content."""
        ...

    def row(self, i: int) -> tuple[Tensor, Tensor]:
        """Codes (1, n_cat) and numbers (1, n_cont) of row `i`."""
        ...

    def sample(self, n: int) -> Tensor:
        """The continuous columns of at most `n` rows, always the same ones."""
        ...

    def to(self, device: torch.device) -> Part:
        """The same part, where the model is if there is room."""
        ...


@dataclass(frozen=True)
class MemoryPart:
    """A part that is wholly in memory.

    Args:
        cats: codes, shape (n, n_cat).
        conts: numbers, shape (n, n_cont).
        target: see `Targets.encode`; None where nobody knows it.
        index: the labels of the rows.
    """

    cats: Tensor
    conts: Tensor
    target: Tensor | None
    index: pd.Index[Any]

    def __len__(self) -> int:
        return len(self.cats)

    def loader(self, batch_size: int, shuffle: bool) -> TensorLoader:
        """Batches by one indexed read each."""
        return TensorLoader((self.cats, self.conts), self.target, batch_size, shuffle)

    def ids(self) -> Sequence[str]:
        """The labels of the table's rows, as text."""
        return [str(label) for label in self.index]

    def fingerprint(self) -> str:
        """Of all values."""
        tensors = [self.cats, self.conts, *(() if self.target is None else (self.target,))]
        contents = [t.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data for t in tensors]
        return digest([*(f"{t.dtype}{tuple(t.shape)}" for t in tensors), *contents])

    def row(self, i: int) -> tuple[Tensor, Tensor]:
        """See `Part.row`."""
        return self.cats[i : i + 1], self.conts[i : i + 1]

    def sample(self, n: int) -> Tensor:
        """Of rows from all over the part."""
        if len(self) <= n:
            return self.conts
        rows = torch.from_numpy(keyed.permutation(len(self), 0, "sample")[:n])
        return self.conts.index_select(0, rows.to(self.conts.device))

    def to(self, device: torch.device) -> MemoryPart:
        """On the device if it fits there; a GPU then reads its batches without waiting for the CPU."""
        if device.type == "cuda":
            tensors = [self.cats, self.conts, *(() if self.target is None else (self.target,))]
            needed = sum(t.numel() * t.element_size() for t in tensors if t.device != device)
            if needed > GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
                return self
        target = None if self.target is None else self.target.to(device)
        return replace(self, cats=self.cats.to(device), conts=self.conts.to(device), target=target)


@dataclass(frozen=True)
class StreamPart:
    """A part that is read anew, row group by row group, in each epoch.

    Args:
        table: where the rows are.
        columns: what is read.
        rows: positions of the part's rows in the table, sorted.
        encode: from rows of the table to codes and numbers.
        target: as in `MemoryPart`; targets are in memory.
        buffer_rows: how many rows are mixed with one another.
    """

    table: ParquetTable
    columns: tuple[str, ...]
    rows: Indices
    encode: Callable[[pd.DataFrame], Encoded]
    target: Tensor | None
    buffer_rows: int = BUFFER_ROWS

    def __len__(self) -> int:
        return len(self.rows)

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
        """See `Part.row`; its row group is read."""
        place = int(self.rows[i])
        group = next(g for g in self.table.groups if g.start <= place < g.stop)
        frame = self.table.read_group(group, self.columns)
        encoded = self.encode(frame.iloc[[place - group.start]])
        return torch.from_numpy(encoded.cats), torch.from_numpy(encoded.conts)

    def sample(self, n: int) -> Tensor:
        """Of whole row groups from all over the part."""
        with closing(self.loader(min(n, len(self)), shuffle=True).batches(torch.device("cpu"))) as batches:
            return next(batches).inputs[1]

    def to(self, device: torch.device) -> StreamPart:
        """A stream stays where it is; its batches go to the device."""
        return self


class StreamLoader:
    """Batches out of a parquet table that may be larger than memory.

    In training, row groups come in an order keyed by (seed, epoch); neighbours in this order fill a buffer, whose rows
    are mixed. Every row comes once per epoch. A later `start` reads only what comes after it. In memory are: one
    buffer of encoded rows, and the row group that is being read.

    Args:
        part: the rows.
        batch_size: rows in a batch.
        shuffle: for training.
    """

    def __init__(self, part: StreamPart, batch_size: int, shuffle: bool) -> None:
        self.part = part
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.n_items = len(part)
        self._bounds = batch_bounds(self.n_items, batch_size, merge_single=shuffle)
        # Rows edges[i] to edges[i + 1] of the part are in row group i.
        starts = [g.start for g in part.table.groups]
        self._edges = np.searchsorted(part.rows, [*starts, part.table.n_rows]).tolist()

    def __len__(self) -> int:
        return len(self._bounds)

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`."""
        bounds = self._bounds[start:]
        if not bounds:
            return
        blocks = self._blocks(seed, epoch, skip=bounds[0][0])
        order, block = next(blocks)
        for a, b in bounds:
            pieces: list[list[Tensor]] = []
            missing = b - a
            while missing:
                if not len(order):
                    order, block = next(blocks)
                chosen, order = order[:missing], order[missing:]
                pieces.append([t.index_select(0, chosen) for t in block])
                missing -= len(chosen)
            index, cats, conts = pieces[0] if len(pieces) == 1 else [torch.cat(t) for t in zip(*pieces, strict=True)]
            target = None if self.part.target is None else self.part.target.index_select(0, index)
            yield Batch(
                (cats.to(device, non_blocking=True), conts.to(device, non_blocking=True)),
                None if target is None else target.to(device, non_blocking=True),
                index,
            )

    def _blocks(self, seed: int, epoch: int, skip: int) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Buffers: an order of rows, and their (position in the part, cats, conts). `skip` rows are left out."""
        for number, buffer in enumerate(self._buffers(seed, epoch)):
            n = sum(self._edges[g + 1] - self._edges[g] for g in buffer)
            if skip >= n:
                skip -= n
                continue
            pieces = [self._read(g) for g in buffer]
            inputs = tuple(torch.cat(columns) for columns in zip(*pieces, strict=True))
            if self.shuffle:
                order = torch.from_numpy(keyed.permutation(n, seed, "stream", epoch, number))
            else:
                order = torch.arange(n)
            yield order[skip:], inputs
            skip = 0

    def _buffers(self, seed: int, epoch: int) -> list[list[int]]:
        """Row groups in their order in this epoch, put together until a buffer is full."""
        order = np.arange(len(self.part.table.groups))
        if self.shuffle:
            order = keyed.permutation(len(order), seed, "row groups", epoch)
        buffers: list[list[int]] = []
        filled = self.part.buffer_rows
        limit = self.part.buffer_rows if self.shuffle else 1  # in order there is nothing to mix
        for g in order.tolist():
            n = self._edges[g + 1] - self._edges[g]
            if not n:
                continue
            if filled >= limit:
                buffers.append([])
                filled = 0
            buffers[-1].append(g)
            filled += n
        return buffers

    def _read(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        part = self.part
        group = part.table.groups[number]
        first, last = self._edges[number], self._edges[number + 1]
        frame = part.table.read_group(group, part.columns)
        if last - first < group.stop - group.start:
            frame = frame.iloc[part.rows[first:last] - group.start]
        encoded = part.encode(frame)
        return torch.arange(first, last), torch.from_numpy(encoded.cats), torch.from_numpy(encoded.conts)


def memory_limit() -> int:
    """Bytes that a table may take before it is streamed: half of this machine's memory."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 * 2**30


def fit_streamed(
    processor: TableProcessor, table: ParquetTable, rows: Indices
) -> tuple[TransformReport, TransformReport]:
    """Fit a processor on a table of which one row group at a time fits into memory; see `TableProcessor.fit_blocks`.

    Args:
        processor: its settings are used; it is fitted afterwards.
        table: where the columns are.
        rows: positions of the training rows.

    Returns:
        What was met in the training rows, and in the others.
    """
    train = np.zeros(table.n_rows, np.bool_)
    train[rows] = True

    def blocks(names: list[str]) -> Iterator[tuple[pd.DataFrame, Bools]]:
        for group in table.groups:
            yield table.read_group(group, names), train[group.start : group.stop]

    return processor.fit_blocks(blocks)
