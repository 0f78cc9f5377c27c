"""ImageSource: images made into batches, decoded ahead by workers once, then read from the store in one gather."""

from __future__ import annotations

import functools
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from .. import keyed
from ..data.cache import ItemStore
from ..data.order import Indices, Source
from ..device import at_most_threads, kept_memory, mapping, prepare, usable_cores
from ..errors import DataError, StateError
from ..quiet import fork_beside_threads
from .augment import BatchStage
from .decode import AnyImage, ItemStage, window
from .store import item_keys
from .warp import Moving

FEW = 300  # below this, decoding takes less than a second, and forking workers gains little
FEW_TO_SPAWN = 5000  # processes that are not forked import torch and torchvision first, for seconds
MAX_WORKERS = 8
GROUP = 16  # images that are looked up, claimed and kept together: between two that are decoded no cache is left
NUMBERS_LIKE_A_FILE = 2_000_000  # shrinking an array of so many takes about as long as decoding a usual file

StoreMaker = Callable[[], ItemStore | None]


@dataclass(frozen=True)
class Images:
    """Images that are not decoded yet: what `ItemStage.load` takes, and how messages call it (a file by its path)."""

    sources: Sequence[AnyImage]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class BatchRequest:
    """A batch to be made: which items, how much (height, width) to cut of each, and where (None: in the middle)."""

    index: Indices
    size: tuple[int, int]
    at: npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class BatchError:
    """What comes in place of a batch, so that the same error is raised with and without workers."""

    message: str


class ImageDataset(Dataset["tuple[Tensor | BatchError | npt.NDArray[Any], Any]"]):
    """The item stage over images, one whole batch at a time; what it gives is kept in `store`, if there is one."""

    def __init__(self, images: Images, stage: ItemStage, store: ItemStore | None = None) -> None:
        self.images = images
        self.stage = stage
        self.store = store

    def __getitem__(self, request: BatchRequest) -> tuple[Tensor | BatchError | npt.NDArray[Any], Any]:
        """What a worker gives: a batch, and which of its items are whole in the store."""
        made = self.make(request)
        whole = None if self.store is None else self.store.whole[request.index]
        return (made if isinstance(made, BatchError) or get_worker_info() is None else _shared(made)), whole

    def make(
        self, request: BatchRequest, each: Callable[..., Iterable[Any]] = map, threads: int = 1
    ) -> Tensor | BatchError:
        """One batch of uint8 images; `each` is `map`, or that of a pool of threads."""
        n = len(request.index)
        out = np.empty((n, self.stage.channels, *request.size), np.uint8)
        rows = list(range(n))
        size = max(1, min(GROUP, n // (2 * threads)))
        try:
            for wait in (False, True):  # others may be decoding some of these: the rest comes first
                groups = [rows[k : k + size] for k in range(0, len(rows), size)]
                items = [request.index[group].tolist() for group in groups]
                found = chain.from_iterable(each(functools.partial(self._images, wait=wait), items))
                rows = [row for row, pixels in zip(rows, found, strict=True) if not _cut(out, row, pixels, request)]
        except DataError as error:
            return BatchError(str(error))
        return torch.from_numpy(out)

    def _images(self, items: list[int], wait: bool) -> Sequence[npt.NDArray[Any] | None]:
        """Images at working size, shape (c, h, w), from the store if they are there; see `ItemStore.fetch`."""
        sources, names = self.images.sources, self.images.names

        def decode(some: Sequence[int]) -> list[npt.NDArray[Any]]:
            return [self.stage.load(sources[i], names[i]).numpy() for i in some]

        if self.store is None:
            return decode(items)
        return self.store.fetch(items, decode, lambda some: item_keys([sources[i] for i in some]), wait)


def _shared(batch: Tensor) -> Tensor | npt.NDArray[Any]:
    """A batch in the memory that processes share, or, where that is full (a container has 64 MB), for a pipe.

    Left to the thread that sends batches, the error would be that thread's, and its batch waited for in vain.
    """
    try:
        shared: Tensor = batch.share_memory_()  # type: ignore[no-untyped-call]
        return shared
    except RuntimeError:
        return batch.numpy()


def _cut(out: npt.NDArray[np.uint8], row: int, pixels: npt.NDArray[np.uint8] | None, request: BatchRequest) -> bool:
    """Cut a row of a batch out of its image; False if there is none yet."""
    if pixels is not None:
        at = None if request.at is None else (float(request.at[row, 0]), float(request.at[row, 1]))
        top, left = window((pixels.shape[1], pixels.shape[2]), request.size, at)
        out[row] = pixels[:, top : top + request.size[0], left : left + request.size[1]]
    return pixels is not None


def in_threads(
    dataset: ImageDataset, requests: Iterable[BatchRequest], n: int
) -> Generator[Tensor | BatchError, None, None]:
    """The batches of the requests, in order, made in this process by `n` threads.

    They take turns with the rest of the program, and do not compete with it for the cores as processes do.
    """
    if n > 1:
        from PIL import Image

        Image.init()  # else Pillow extends its list of formats while other threads read it
    with mapping(n) as each:
        for request in requests:
            yield dataset.make(request, each, n)


def _as_it_is(batch: Any) -> Any:
    return batch


def in_workers(
    dataset: Dataset[Any], requests: Iterable[Any], workers: int, start_method: str | None = None, pin: bool = False
) -> Generator[Any, None, None]:
    """`dataset[request]` for each request, in order, made by worker processes, or here if `workers` is 0.

    The global random state is neither read nor moved.
    """
    if workers < 1:
        yield from (dataset[request] for request in requests)
        return
    if (start_method or usual_start_method()) == "fork":
        import torchvision.io  # noqa: F401 - else each worker would import it by itself, which takes seconds
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=None,
        sampler=list(requests),
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=keyed.generator(0, "workers"),
        multiprocessing_context=start_method,
        pin_memory=pin,
    )
    with fork_beside_threads(), _no_alarm():  # torch always has threads; DataLoader is made for it
        batches = iter(loader)
    try:
        yield from batches
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise StateError(
            f"one of {workers} processes that prepare images was killed, mostly because memory ran out: "
            f"{str(error).splitlines()[0]}. Take fewer of them, workers=1, or none, workers=0; or a smaller batch_size"
        ) from error


@contextmanager
def _no_alarm() -> Iterator[None]:
    """Keep torch from raising, wherever the program is, when a worker dies: it is asked for at the next batch, too."""
    before = None
    if threading.current_thread() is threading.main_thread() and os.name == "posix":
        before = signal.getsignal(signal.SIGCHLD)
    yield
    if before is not None:
        signal.signal(signal.SIGCHLD, before)


def _noted(
    made: Generator[Any, None, None], requests: Iterable[BatchRequest], store: ItemStore | None
) -> Generator[Tensor | BatchError, None, None]:
    """The batches of workers; what these have compared with its check in the store is not compared once more."""
    with closing(made):
        for request, (batch, whole) in zip(requests, made, strict=True):
            if store is not None:
                store.whole[request.index] |= whole
            yield torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch


def usual_start_method() -> str:
    """How Python starts processes here. Asking must not settle it, or the user could no longer choose."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def choose_workers(n_items: int, asked: int | None = None) -> int:
    """How many processes decode `n_items` images: as many as `asked` for, else one per core if they are many, up to 8.

    0 in a process that may have none of its own, as the workers of task queues may not.
    """
    if multiprocessing.current_process().daemon:
        return 0
    if asked is not None:
        return asked
    if n_items < (FEW if usual_start_method() == "fork" else FEW_TO_SPAWN):
        return 0
    cores = usable_cores()
    return min(cores, MAX_WORKERS) if cores > 1 else 0


class ImageSource(Source):
    """Images made into normalised batches; one that cannot be read is a `DataError` that names it.

    Args:
        images: the items.
        item_stage: decodes and shrinks.
        batch_stage: augments and normalises.
        view: None is the plain view; any number the augmented view of that number.
        workers: processes that decode; None chooses. With 0, threads of this process do.
        store: gives the store to keep what was decoded in, asked once, at the first batch.
        start_method: how processes start; None is Python's choice.

    Attributes:
        moving: how targets move with their images in augmented views; None where they do not. May be set.
    """

    def __init__(
        self,
        images: Images,
        item_stage: ItemStage,
        batch_stage: BatchStage,
        view: int | None = None,
        workers: int | None = None,
        store: StoreMaker = lambda: None,
        start_method: str | None = None,
    ) -> None:
        self.images = images
        self.item_stage = item_stage
        self.batch_stage = batch_stage
        self.view = view
        self.workers = workers
        self._store = functools.cache(store)
        self._start_method = start_method
        self.moving: Moving | None = None

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, index: Indices, device: torch.device) -> tuple[Tensor, ...]:
        """See `Source.fetch`: decoded in this process."""
        request = self._request(index, 0, 0)
        made = ImageDataset(self.images, self.item_stage, self._store()).make(request)
        return (self._on_device(made, None, request, device, (0, 0))[0],)

    def stream(
        self, batches: Sequence[Indices], device: torch.device, seed: int = 0, epoch: int = 0
    ) -> Generator[tuple[Tensor, ...], None, None]:
        """See `Source.stream`: workers or threads decode ahead."""
        with closing(self._made(batches, repeat(None, len(batches)), device, (seed, epoch))) as made:
            yield from (inputs for inputs, _ in made)

    def with_targets(
        self, batches: Sequence[Indices], targets: Iterable[Tensor], device: torch.device, seed: int = 0, epoch: int = 0
    ) -> Generator[tuple[tuple[Tensor, ...], Tensor], None, None]:
        """See `Source.with_targets`: they go through the batch stage with their images, where they move with these."""
        with closing(self._made(batches, targets, device, (seed, epoch))) as made:
            for inputs, target in made:
                assert target is not None
                yield inputs, target

    def _made(
        self,
        batches: Sequence[Indices],
        targets: Iterable[Tensor | None],
        device: torch.device,
        key: tuple[int, int],
    ) -> Generator[tuple[tuple[Tensor, ...], Tensor | None], None, None]:
        """Batches with their targets; decoded ahead, and augmented by (seed, epoch), the `key`."""
        prepare(device)
        requests = [self._request(index, *key) for index in batches]
        store = self._store()
        dataset = ImageDataset(self.images, self.item_stage, store)
        wanted = np.unique(np.concatenate(batches)) if len(batches) else np.zeros(0, np.int64)
        to_decode = len(wanted) if store is None else int((~store.filled[wanted]).sum())
        workers = choose_workers(self._like_files(to_decode), self.workers)
        threads = torch.get_num_threads()
        if to_decode and workers:
            made = _noted(
                in_workers(dataset, requests, workers, self._start_method, device.type == "cuda"), requests, store
            )
            if device.type == "cpu":  # threads that compete with workers for cores wait for each other most of the time
                threads = max(1, usable_cores() - workers)
        else:
            made = in_threads(dataset, requests, self._threads(to_decode))
        # Closed at once, also after an error: workers that wait for the garbage collector stall it for seconds.
        # Outside of a fit, too, a batch gets the memory of the one before: each page of a fresh one is cleared first.
        with kept_memory(device, and_afterwards=True) if len(requests) > 1 else nullcontext(), closing(made):
            for request, x, target in zip(requests, made, targets, strict=True):
                with at_most_threads(threads):
                    batch, moved = self._on_device(x, target, request, device, key)
                yield (batch,), moved

    def _request(self, index: Indices, seed: int, epoch: int) -> BatchRequest:
        if self.view is None or self.item_stage.method != "crop":
            return BatchRequest(index, self.item_stage.size, None)
        # What samples between pixels cuts for itself, and may look beyond the edge of what it cuts.
        size = self.item_stage.working_size if self.batch_stage.interpolates else self.item_stage.size
        return BatchRequest(index, size, keyed.uniform(index, 2, seed, "augment", "window", epoch, self.view))

    def _on_device(
        self, made: Tensor | BatchError, target: Tensor | None, request: BatchRequest, device: torch.device,
        key: tuple[int, int],
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        if isinstance(made, BatchError):
            raise DataError(made.message)
        x = made.to(device, non_blocking=True)
        if self.view is None:
            return self.batch_stage.plain(x), target
        if target is None or self.moving is None:
            return self.batch_stage.augmented(x, request.index, *key, self.view), target
        return self.batch_stage.augmented_with(x, target, self.moving, request.index, *key, self.view)

    def _threads(self, to_decode: int) -> int:
        """How many threads of this process decode. Pillow's own images are lazy, and two threads may meet in one."""
        files = to_decode > 1 and all(isinstance(source, str | os.PathLike | bytes) for source in self.images.sources)
        return min(torch.get_num_threads(), MAX_WORKERS) if files else 1

    def _like_files(self, n: int) -> int:
        """As many files are as much work as `n` of these images."""
        first = self.images.sources[0] if n else None
        return n * math.prod(first.shape) // NUMBERS_LIKE_A_FILE if isinstance(first, np.ndarray | Tensor) else n
