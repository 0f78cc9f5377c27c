"""Batches of pictures: decoded by workers once, then read from the store in one gather."""

from __future__ import annotations

import functools
import multiprocessing
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .. import keyed
from ..data._old_bunch import Batch
from ..data.cache import ItemStore
from ..data._old_loaders import batch_bounds
from ..device import at_most_threads, mapping, prepare, usable_cores
from ..errors import DataError
from .augment import BatchStage
from .decode import ItemStage, Source, no_warnings, window
from .store import load

FEW = 300  # below this, decoding takes less than a second, and forking workers gains little
FEW_TO_SPAWN = 5000  # processes that are not forked import torch and torchvision first, for seconds
MAX_WORKERS = 8
NUMBERS_LIKE_A_FILE = 2_000_000  # shrinking an array of so many takes about as long as decoding a usual file

StoreMaker = Callable[[], ItemStore | None]


@dataclass(frozen=True)
class Order:
    """A batch to be made: which items, how much (height, width) to cut of each, and where (None: in the middle)."""

    positions: npt.NDArray[np.int64]
    size: tuple[int, int]
    at: npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class Failure:
    """What a worker gives instead of a batch, so that the same error is raised with and without workers."""

    message: str


class Pictures(Dataset["Tensor | Failure"]):
    """The item stage over the sources of one part, one whole batch at a time.

    Args:
        sources: what `ItemStage.load` takes.
        ids: how messages call them.
        stage: decodes and shrinks.
        store: where results are kept, or None.
    """

    def __init__(
        self, sources: Sequence[Source], ids: Sequence[str], stage: ItemStage, store: ItemStore | None
    ) -> None:
        self.sources = sources
        self.ids = ids
        self.stage = stage
        self.store = store

    def __len__(self) -> int:
        return len(self.sources)

    def item(self, position: int, wait: bool = True) -> npt.NDArray[np.uint8] | None:
        """One picture at working size; see `load`."""
        return load(self.store, position, self.sources[position], self.ids[position], self.stage, wait)

    def __getitem__(self, order: Order) -> Tensor | Failure:
        return self.make(order)

    def make(self, order: Order, each: Callable[..., Iterable[Any]] = map) -> Tensor | Failure:
        """One batch of uint8 pictures; `each` is `map`, or that of a pool of threads."""
        out = np.empty((len(order.positions), self.stage.channels, *order.size), np.uint8)
        try:
            with no_warnings():  # others may be decoding some of these: the rest comes first
                later = self._fill(out, np.arange(len(out)), order, each, wait=False)
                self._fill(out, later, order, each, wait=True)
        except DataError as error:
            return Failure(str(error))
        return torch.from_numpy(out)

    def _fill(
        self,
        out: npt.NDArray[np.uint8],
        rows: npt.NDArray[np.int64],
        order: Order,
        each: Callable[..., Iterable[Any]],
        wait: bool,
    ) -> npt.NDArray[np.int64]:
        """Cut some rows of a batch out of their pictures; gives those that are to be waited for."""
        later = []
        found = each(functools.partial(self.item, wait=wait), order.positions[rows].tolist())
        for row, pixels in zip(rows.tolist(), found, strict=True):
            if pixels is None:
                later.append(row)
                continue
            at = None if order.at is None else (float(order.at[row, 0]), float(order.at[row, 1]))
            top, left = window((pixels.shape[1], pixels.shape[2]), order.size, at)
            out[row] = pixels[:, top : top + order.size[0], left : left + order.size[1]]
        return np.array(later, np.int64)


def in_threads(pictures: Pictures, orders: Iterable[Order], n: int) -> Generator[Tensor | Failure, None, None]:
    """`pictures[order]` for each order, in order, made in this process by `n` threads.

    They take turns with the rest of the program, and do not compete with it for the cores as processes do; decoding
    and shrinking let other threads run.
    """
    if n > 1:
        from PIL import Image

        Image.init()  # else Pillow extends its list of formats while other threads read it
    with mapping(n) as each:
        for order in orders:
            yield pictures.make(order, each)


def _as_it_is(batch: Any) -> Any:
    return batch


def in_workers(
    pictures: Dataset[Any], orders: Iterable[Any], workers: int, start_method: str | None = None, pin: bool = False
) -> Generator[Any, None, None]:
    """`pictures[order]` for each order, in order, made by worker processes, or here if `workers` is 0.

    The global random state is neither read nor moved.
    """
    if workers < 1:
        yield from (pictures[order] for order in orders)
        return
    if (start_method or usual_start_method()) == "fork":
        import torchvision.io  # noqa: F401 - else each worker would import it by itself, which takes seconds
    loader: DataLoader[Any] = DataLoader(
        pictures,
        batch_size=None,
        sampler=list(orders),
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=keyed.generator(0, "workers"),
        multiprocessing_context=start_method,
        pin_memory=pin,
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads, and torch always has threads; DataLoader is made for it.
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        batches = iter(loader)
    yield from batches


def usual_start_method() -> str:
    """How Python starts processes here. Asking must not settle it, or the user could no longer choose."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def choose_workers(n_items: int) -> int:
    """How many processes decode `n_items` pictures: none for a few, else one per core, at most 8."""
    if n_items < (FEW if usual_start_method() == "fork" else FEW_TO_SPAWN):
        return 0
    cores = usable_cores()
    return min(cores, MAX_WORKERS) if cores > 1 else 0


class ImageLoader:
    """A way through the pictures of one part; see `easylearn.data.bunch.Loader`.

    Args:
        sources: what `ItemStage.load` takes.
        ids: how messages call them.
        targets: shape (n, ...), or None.
        item_stage: decodes and shrinks.
        batch_stage: augments and normalises.
        batch_size: items in a batch.
        shuffle: a new order each epoch, and a last batch of one item merged into the one before.
        view: None is the plain view; any number the augmented view of that number.
        workers: processes that decode; None chooses. With 0, threads of this process do.
        store: gives the store to keep what was decoded in, asked once, at the first batch.
        start_method: how processes start; None is Python's choice.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        ids: Sequence[str],
        targets: Tensor | None,
        item_stage: ItemStage,
        batch_stage: BatchStage,
        *,
        batch_size: int,
        shuffle: bool = False,
        view: int | None = None,
        workers: int | None = None,
        store: StoreMaker = lambda: None,
        start_method: str | None = None,
    ) -> None:
        self.sources = sources
        self.ids = ids
        self.targets = targets
        self.item_stage = item_stage
        self.batch_stage = batch_stage
        self.batch_size = batch_size
        self.n_items = len(sources)
        self.shuffle = shuffle
        self.view = view
        self.workers = workers
        self._store = functools.cache(store)
        self._start_method = start_method
        self._bounds = batch_bounds(self.n_items, batch_size, merge_single=shuffle)

    def __len__(self) -> int:
        return len(self._bounds)

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`.

        Raises:
            DataError: a picture cannot be read; the message names it.
        """
        prepare(device)
        order = keyed.permutation(self.n_items, seed, "shuffle", epoch) if self.shuffle else np.arange(self.n_items)
        orders = [self._order(order[a:b], seed, epoch) for a, b in self._bounds[start:]]
        store = self._store()
        pictures = Pictures(self.sources, self.ids, self.item_stage, store)
        to_decode = self.n_items - (int(store.filled.sum()) if store is not None else 0)
        workers = choose_workers(self._like_files(to_decode)) if self.workers is None else self.workers
        threads = torch.get_num_threads()
        if to_decode and workers:
            made = in_workers(pictures, orders, workers, self._start_method, pin=device.type == "cuda")
            if device.type == "cpu":  # threads that compete with workers for cores wait for each other most of the time
                threads = max(1, usable_cores() - workers)
        else:
            made = in_threads(pictures, orders, self._threads(to_decode))
        # Closed at once, also after an error: workers that wait for the garbage collector stall it for seconds.
        with closing(made):
            for one, x in zip(orders, made, strict=True):
                if isinstance(x, Failure):
                    raise DataError(x.message)
                x = x.to(device, non_blocking=True)
                index = torch.from_numpy(one.positions)
                with at_most_threads(threads):
                    if self.view is None:
                        x = self.batch_stage.plain(x)
                    else:
                        x = self.batch_stage.augmented(x, one.positions, seed, epoch, self.view)
                target = None if self.targets is None else self.targets[index].to(device, non_blocking=True)
                yield Batch((x,), target, index)

    def _threads(self, to_decode: int) -> int:
        """How many threads of this process decode. Pillow's own images are lazy, and two threads may meet in one."""
        files = to_decode > 1 and all(isinstance(source, str | os.PathLike) for source in self.sources)
        return min(torch.get_num_threads(), MAX_WORKERS) if files else 1

    def _like_files(self, n: int) -> int:
        """As many files are as much work as `n` of these sources."""
        first = self.sources[0] if n else None
        if isinstance(first, np.ndarray):
            return n * int(first.size) // NUMBERS_LIKE_A_FILE
        return n * first.numel() // NUMBERS_LIKE_A_FILE if isinstance(first, Tensor) else n

    def _order(self, positions: npt.NDArray[np.int64], seed: int, epoch: int) -> Order:
        if self.view is None or self.item_stage.method != "crop":
            return Order(positions, self.item_stage.size, None)
        # What samples between pixels cuts for itself, and may look beyond the edge of what it cuts.
        size = self.item_stage.working_size if self.batch_stage.interpolates else self.item_stage.size
        return Order(positions, size, keyed.uniform(positions, 2, seed, "augment", "window", epoch, self.view))
