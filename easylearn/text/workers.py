"""Words of a large corpus, found by several processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain

import numpy as np

from ..device import usable_cores
from ..errors import StateError
from .store import Ints
from .tokenize import Counter, SequenceIds

WARM_UP = 8_000_000  # characters after which most words were met, and work is left that is worth a process
MAX_WORKERS = 16
_AHEAD = 2  # batches per process that are under way

Result = tuple[int, SequenceIds, Ints, list[tuple[str, ...]]]
_counter: Counter | None = None
_told = 0


def encode_all(
    counter: Counter, batches: Iterable[list[str]], workers: int | None = None
) -> Iterator[tuple[SequenceIds, Ints]]:
    """`counter.encode` of every batch, in order, by `workers` processes; None: by all cores if there is much to do.

    What was learned by the first batches, which are encoded here, is inherited by the processes that do the others;
    what each of them learns comes back with its results.
    """
    coming = iter(batches)
    n = usual_workers() if workers is None else workers
    if n < 1 or not counter.in_workers:
        yield from (counter.encode(texts) for texts in coming)
        return
    seen = 0
    for texts in coming:
        if workers is None and seen < WARM_UP:
            seen += sum(map(len, texts))
            yield counter.encode(texts)
            continue
        yield from _in_workers(counter, texts, coming, n)


def usual_workers() -> int:
    """One per core; none where processes cannot be forked, which would cost more than it gives."""
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return 0
    cores = usable_cores()
    return min(cores, MAX_WORKERS) if cores > 1 else 0


def _in_workers(
    counter: Counter, first: list[str], rest: Iterator[list[str]], n: int
) -> Iterator[tuple[SequenceIds, Ints]]:
    base = len(counter.sequences)
    known = {sequence: i for i, sequence in reversed(list(enumerate(counter.sequences)))}  # the first of equal ones
    here: dict[int, SequenceIds] = {}  # per process: the numbers here of the sequences that it numbered after `base`

    def merged(result: Result) -> tuple[SequenceIds, Ints]:
        """A result with the numbers of this process."""
        process, ids, lengths, new = result
        numbers = [known[s] if s in known else known.setdefault(s, counter.add(s)) for s in new]
        here[process] = np.append(here.get(process, np.empty(0, np.int32)), np.array(numbers, np.int32))
        later = ids >= base
        if later.any():
            ids = ids.copy()
            ids[later] = here[process][ids[later] - base]
        return ids, lengths

    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads; these processes touch nothing but texts and arrays.
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(n, context, initializer=_begin, initargs=(counter,))
        waiting: deque[Future[Result]] = deque()
        try:
            for texts in chain([first], rest):
                waiting.append(pool.submit(_encode, texts))
                if len(waiting) > _AHEAD * n:
                    yield merged(waiting.popleft().result())
            while waiting:
                yield merged(waiting.popleft().result())
        except BrokenProcessPool as error:
            raise StateError(
                "a process that splits text into words was ended from outside, maybe for want of memory; close other "
                "programs and run again"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(counter: Counter) -> None:
    global _counter, _told
    _counter, _told = counter, len(counter.sequences)


def _encode(texts: list[str]) -> Result:
    global _told
    assert _counter is not None
    ids, lengths = _counter.encode(texts)
    new = _counter.sequences[_told:]
    _told += len(new)
    return os.getpid(), ids, lengths, new
