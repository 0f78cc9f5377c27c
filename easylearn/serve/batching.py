"""Batches without waiting: whatever is queued when the model is free goes through it together."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .engine import Engine, Floats
from .refusals import Limits, RefusedError

SIZES = (1, 2, 4, 8, 16, 32)
GAIN = 0.9  # a larger batch must take less than this of the time per item
QUICK = 2e-3  # seconds; what takes less is not worth another thread
_MEMORY = 0.9  # of what was known of the time of an item, after each batch


class Batcher:
    """The queue in front of a model.

    Args:
        engine: the model.
        limits: `max_wait` refuses a request whose turn would come too late.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.size, self.seconds = _measure(engine)  # of a batch; per item
        self._max_wait = limits.max_wait
        self._queue: deque[tuple[Any, asyncio.Future[Floats | RefusedError]]] = deque()
        self._running = self._apart = 0
        self._thread = ThreadPoolExecutor(1, "model")
        self._inline = self.seconds * self.size < QUICK
        self._task: asyncio.Task[None] | None = None
        self.batches = self.items = 0
        self.busy = 0.0

    @property
    def wait(self) -> float:
        """Seconds that what comes now has to wait, as far as the queue tells."""
        return (len(self._queue) + self._running + self._apart) * self.seconds

    @property
    def is_free(self) -> bool:
        """Whether nothing is before what comes now."""
        return not (self._queue or self._running or self._apart)

    def admit(self, n: int) -> None:
        """Refuse a request of `n` items with 503 where its turn would come too late."""
        if (self._queue or self._apart) and self.wait > self._max_wait:
            raise RefusedError(
                503,
                f"{len(self._queue) + self._apart} items are before yours, {self.wait:.1f} s of work: come again",
                {"retry-after": str(max(1, math.ceil(self.wait)))},
            )

    def put(self, item: Any) -> asyncio.Future[Floats | RefusedError]:
        """Queue an item. The future has its probabilities or what is wrong with it; cancel it to leave the queue."""
        future: asyncio.Future[Floats | RefusedError] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        return future

    async def one(self, item: Any) -> Floats:
        """The probabilities of an item."""
        if self._inline and self.is_free:
            (found,) = self._compute([item])
        else:
            found = await self.put(item)
        if isinstance(found, RefusedError):
            raise found
        return found

    async def apart(self, compute: Callable[[], Floats], n: int) -> Floats:
        """What is computed for `n` prepared items, in the model's thread: others are answered meanwhile."""
        self._apart += n
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, compute)
        finally:
            self._apart -= n
        self.items += n
        return found

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            taken: list[tuple[Any, asyncio.Future[Floats | RefusedError]]] = []
            while self._queue and len(taken) < self.size:
                item, future = self._queue.popleft()
                if not future.done():  # whoever asked may have left
                    taken.append((item, future))
            if not taken:
                continue
            self._running = len(taken)
            items = [item for item, _ in taken]
            try:
                if self._inline:
                    found = self._compute(items)
                    await asyncio.sleep(0)
                else:
                    found = await loop.run_in_executor(self._thread, self._compute, items)
            finally:
                self._running = 0
            for (_, future), said in zip(taken, found, strict=True):
                if not future.done():
                    future.set_result(said)

    def _compute(self, items: Sequence[Any]) -> list[Floats | RefusedError]:
        """What the model says of each item; one that is damaged fails alone."""
        began = time.perf_counter()
        prepared: list[Any] = []
        found: list[Floats | RefusedError | None] = []
        for item in items:
            try:
                prepared.append(self.engine.prepare(item))
                found.append(None)
            except RefusedError as refused:
                found.append(refused)
            except Exception as error:  # else all that went with it would wait for ever
                found.append(_failed(error))
        said = iter(self._run(prepared) if prepared else ())
        out = [next(said) if f is None else f for f in found]
        took = time.perf_counter() - began
        self.batches += 1
        self.items += len(items)
        self.busy += took
        self.seconds = _MEMORY * self.seconds + (1 - _MEMORY) * took / len(items)
        return out

    def _run(self, prepared: list[Any]) -> list[Floats | RefusedError]:
        try:
            return list(self.engine.run(prepared))
        except Exception as error:  # a runtime raises its own kinds; the server answers, and lives
            if len(prepared) > 1:
                return [said for one in prepared for said in self._run([one])]
            if isinstance(error, RefusedError):
                return [error]
            return [_failed(error)]


def _failed(error: Exception) -> RefusedError:
    return RefusedError(500, f"the model failed: {type(error).__name__}: {error}"[:300])


def _measure(engine: Engine) -> tuple[int, float]:
    """The size of batches that pays, and the seconds of an item in one."""
    sample, size, best = engine.sample(), 1, math.inf
    for n in SIZES:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            engine.run([sample] * n)
            took.append((time.perf_counter() - began) / n)
        each = min(took)  # other programs only make it longer
        if best < math.inf and not each < GAIN * best:
            break
        size, best = n, each
    return size, best
