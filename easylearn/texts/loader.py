"""Batches of text: windows of one long stream for a language model, whole documents by length for a classifier."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import KW_ONLY, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import keyed
from ..data.order import Batch, Indices, Shard, Source, shard_of
from ..errors import ArgumentError, DataError
from ..task import NO_TARGET
from .store import TokenStore

SHORT_FRACTION = 0.05  # of the windows are half as long; the published recipe (arXiv 1708.02182, section 5)
SPREAD = 5.0  # deviation of a window's length, in tokens
HEAD_FRACTION = 0.25  # of a text that is cut, how much of its beginning is kept


@dataclass(eq=False)
class StreamLoader:
    """All documents as one stream, cut into rows that are read side by side in windows of some `bptt` tokens.

    Each batch goes on where the one before ended, so a model can carry its state along. In training (`shuffle`) the
    documents come in a new order in each epoch and windows vary in length (arXiv 1708.02182); both are keyed by (seed,
    epoch), the number of windows is the same in each epoch, and at most `batch_size` tokens are left out. In evaluation
    there are fewer rows if there is too little text for them, and `pad` fills the last one, with `NO_TARGET` as its
    targets. Read `backward`, each document begins with its mark all the same. Nothing but the window at hand is in
    memory.
    """

    store: TokenStore
    batch_size: int
    bptt: int = 70
    _: KW_ONLY
    pad: int = 1
    shuffle: bool = False
    backward: bool = False

    def __post_init__(self) -> None:
        store, batch_size, bptt, shuffle = self.store, self.batch_size, self.bptt, self.shuffle
        for name, size in {"batch_size": batch_size, "bptt": bptt}.items():
            if size < 1:
                raise ArgumentError(f"{name} must be at least 1, got {size}")
        n = store.n_tokens
        if n < 2:
            raise DataError(f"a language model needs at least two tokens, got {n} in {len(store)} documents")
        if shuffle and (n - 1) // batch_size < 1:
            raise DataError(
                f"{n:,} tokens do not fill {batch_size} rows; give more text, or a batch_size of at most {n - 1}"
            )
        self.batch_size = batch_size if shuffle else max(min(batch_size, (n - 1) // bptt), 1)
        self.n_items = self.batch_size
        self.row_length = (n - 1) // batch_size if shuffle else -(-(n - 1) // self.batch_size)
        mean = bptt * (1 - SHORT_FRACTION / 2) if shuffle else bptt
        about = max(round(self.row_length / mean), 1)
        self._n_windows = min(about, self.row_length) if shuffle else -(-self.row_length // bptt)

    def __len__(self) -> int:
        return self._n_windows

    def bounds(self, seed: int = 0, epoch: int = 0) -> Indices:
        """Where each window of a row begins, and at last where the row ends; shape (windows + 1,)."""
        n, length = self._n_windows, self.row_length
        if not self.shuffle:
            return np.minimum(np.arange(n + 1, dtype=np.int64) * self.bptt, length)
        draws = keyed.uniform(np.arange(n), 3, seed, "windows", epoch)
        normal = np.sqrt(-2 * np.log1p(-draws[:, 0])) * np.cos(2 * np.pi * draws[:, 1])  # Box and Muller, 1958
        centre = np.where(draws[:, 2] < SHORT_FRACTION, self.bptt / 2, self.bptt)
        wanted = np.maximum(centre + SPREAD * normal, min(5.0, self.bptt))
        ends = np.round(np.cumsum(wanted) * ((length - n) / wanted.sum())).astype(np.int64)
        return np.concatenate([[0], ends + np.arange(1, n + 1)])  # at least one token in each window

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0, shard: Shard = (0, 1)
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`. Inputs are tokens (b, t) and whether the batch goes on where the last one ended."""
        order = keyed.permutation(len(self.store), seed, "documents", epoch) if self.shuffle else None
        lengths = self.store.lengths if order is None else self.store.lengths[order]
        begins = np.concatenate([[0], np.cumsum(lengths)])
        index = torch.arange(self.batch_size)[shard_of(self.batch_size, shard)]
        rows = index.numpy()[:, None] * self.row_length
        bounds = self.bounds(seed, epoch)
        last = self.store.n_tokens - 1
        for number in range(start, self._n_windows):
            place = rows + np.arange(bounds[number], bounds[number + 1] + 1)
            tokens = torch.from_numpy(self._read(np.minimum(place, last), begins, order))
            x, y = tokens[:, :-1], tokens[:, 1:]
            if not self.shuffle and bool((place > last).any()):
                beyond = torch.from_numpy(place > last)
                x = x.masked_fill(beyond[:, :-1], self.pad)
                y = y.masked_fill(beyond[:, 1:], NO_TARGET)
            x, y = (part.contiguous().to(device, non_blocking=True) for part in (x, y))
            yield Batch((x, torch.full((), number > 0, device=device)), y, index)

    def _read(self, place: Indices, begins: Indices, order: Indices | None) -> Indices:
        """The tokens at these places of the stream."""
        if order is None and not self.backward:
            return self.store.ids[place].astype(np.int64)
        document = np.searchsorted(begins, place, side="right") - 1
        inside = place - begins[document]
        if order is not None:
            document = order[document]
        offsets = self.store.offsets
        source = offsets[document] + inside
        if self.backward:
            source = np.where(inside == 0, source, offsets[document + 1] - inside)
        return self.store.ids[source].astype(np.int64)


@dataclass(eq=False)
class DocumentSource(Source):
    """Whole documents, padded at their ends: tokens (b, t) and lengths (b,). `TextPreprocessor` says what is cut."""

    store: TokenStore
    _: KW_ONLY
    pad: int = 1
    backward: bool = False
    max_tokens: int | None = None

    def __len__(self) -> int:
        return len(self.store)

    def fetch(self, index: Indices, device: torch.device) -> tuple[Tensor, ...]:
        rows = [self._document(int(i)) for i in index]
        lengths = np.array([len(r) for r in rows], dtype=np.int64)
        tokens = np.full((len(rows), max(int(lengths.max(initial=0)), 1)), self.pad, dtype=np.int64)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        # The lengths stay where the model looks at them: to bring them back from a GPU would be a wait in each step.
        return torch.from_numpy(tokens).to(device, non_blocking=True), torch.from_numpy(lengths)

    def _document(self, i: int) -> npt.NDArray[np.integer]:
        ids = self.store.doc(i)
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            head = max(int(self.max_tokens * HEAD_FRACTION), 1)
            ids = np.concatenate([ids[:head], ids[len(ids) - (self.max_tokens - head) :]])
        if self.backward and len(ids) > 1:
            ids = np.concatenate([ids[:1], ids[:0:-1]])
        return ids
