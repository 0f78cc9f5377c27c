"""Batches without waiting: whatever is queued when the model is free goes through it together."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from .engine import Engine, Floats
from .refusals import Limits, RefusedError

T = TypeVar("T")
SIZES = (1, 2, 4, 8, 16, 32)
GAIN = 0.9  # batches must take less than this of the time per item
_ALIKE = 1.03  # of two sizes that differ less in it the smaller one is taken, which keeps others waiting less long
_LONGEST = 0.25  # of max_wait, that a batch may take
_TURNS = 3  # of the loop between batches: answers are sent, and what lies in sockets is read and queued
_TRIAL = 0.05  # seconds in which a size is tried, twice at least
QUICK = 2e-3  # seconds; what takes less is not worth another thread
_WRITTEN = 1e-6  # seconds in which a number of an answer is written
_MEMORY = 0.9  # of what was known of the time of an item, after each batch
_BURST = 0.4  # of max_wait, that a turn of the loop serves
# The same, after a turn that refused: where more comes than can be served, a longer queue serves no more, and what is
# refused costs less where fewer connections wait. Shorter still, pauses of a busy machine would refuse much.
_STEADY = 0.015
_LEAST = 0.004  # the same, in the end where turn after turn refuses, which no pause brings about
_LESS, _MORE = 0.9, 1.5  # of the turn before, where it refused and where it did not


class Turns:
    """Turns of the loop, each of which serves for a time and refuses what else it reads.

    Quick models are asked at once, so nothing is queued that could be counted: what waits lies in sockets. A turn reads
    all that came during the one before, which is how long it waited; so no turn may be long. The first of a turn is
    always served, and as the next turn begins with what came meanwhile, a process that refuses is never idle.

    Args:
        max_wait: seconds that a request may have to wait.
    """

    def __init__(self, max_wait: float) -> None:
        self._long, self._short, self._least = (part * max_wait for part in (_BURST, _STEADY, _LEAST))
        self._length = self._long
        self._loop: asyncio.AbstractEventLoop | None = None
        self._until = math.inf
        self._is_on = self._has_refused = False

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count the turns of a loop; before it, none is over."""
        self._loop, self._length, self._is_on, self._has_refused = loop, self._long, False, False

    def is_over(self) -> bool:
        """Whether this turn has served for long enough; to be asked when a request begins."""
        if self._is_on:
            self._has_refused = late = time.monotonic() > self._until
            return late
        if self._loop is not None and self._loop.is_running():
            if self._has_refused:
                self._length = max(self._least, min(self._short, _LESS * self._length))
            else:
                self._length = min(self._long, _MORE * self._length)
            self._is_on, self._until, self._has_refused = True, time.monotonic() + self._length, False
            self._loop.call_soon(self._end)  # called when all that this turn read was handled
        return False

    def _end(self) -> None:
        self._is_on = False


class Batcher:
    """The queue in front of a model.

    Args:
        engine: the model.
        limits: `max_wait` refuses a request whose turn would come too late.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.size, self.seconds = _measure(engine, _LONGEST * limits.max_wait)  # of a batch; per item
        self._least = self.seconds  # at rest: on a busy machine a quick model is late, and waiting makes it later
        self._max_wait = limits.max_wait
        self._queue: deque[tuple[Any, asyncio.Future[Floats | RefusedError]]] = deque()
        self._running = self._apart = 0
        self._weight = 0.0  # of all of them: a long text is as many items as it takes the time of
        self._thread = ThreadPoolExecutor(1, "model")
        self._task: asyncio.Task[None] | None = None
        self.batches = self.items = 0
        self.busy = 0.0

    @property
    def wait(self) -> float:
        """Seconds that what comes now has to wait, as far as the queue tells."""
        return self._weight * self.seconds

    def weigh(self, items: Sequence[Any]) -> float:
        """How many items of the usual length some items are worth."""
        return sum(map(self.engine.weight, items))

    def weigh_answer(self, n: int, numbers: int) -> float:
        """The same of writing an answer about `n` items: of a slow model a part of what computing them took."""
        return min(n, _WRITTEN * numbers / max(self.seconds, _WRITTEN))

    @property
    def is_free(self) -> bool:
        """Whether nothing is before what comes now."""
        return not (self._queue or self._running or self._apart)

    def admit(self, n: int, weight: float) -> None:
        """Refuse a request of `n` items, and of some weight, with 503 where its answer would come too late.

        Where nothing is before it, it is taken, however long it is; one item also behind the batch that is computed, or
        one whose image is written.
        """
        before = len(self._queue) + (self._apart + self._running if n > 1 or self._apart > 1 else 0)
        wait = self.wait + (weight - 1 + self.size) * self.seconds  # the last one goes with a batch, which may be full
        if before and wait > self._max_wait:
            raise RefusedError(
                503,
                f"{before} items are before yours, and {wait:.1f} s of work before your answer: come again",
                {"retry-after": str(max(1, math.ceil(self.wait)))},
            )

    def put(self, item: Any) -> asyncio.Future[Floats | RefusedError]:
        """Queue an item. The future has its probabilities or what is wrong with it; cancel it to leave the queue."""
        future: asyncio.Future[Floats | RefusedError] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        self._weight += self.weigh([item])
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        return future

    def is_quick(self, item: Any) -> bool:
        """Whether an item takes so little time that others may wait for it."""
        return self._least * self.engine.effort(item) < QUICK

    def at_once(self, item: Any) -> Floats | RefusedError | None:
        """What the model says of an item, if it is quick and nothing is before it; else None."""
        return self._noted(*self._compute([item]))[0] if self.is_free and self.is_quick(item) else None

    async def apart(self, act: Callable[[], T], n: int, weight: float) -> T:
        """What comes of an act for `n` items of some weight, in the model's thread: others are answered meanwhile.

        It may be their prediction, or the writing of an answer so long that it is held as others are before it. Nothing
        of the next items is computed beside it, so that no such answers gather.
        """
        self._apart += n
        self._weight += weight
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act)
        finally:
            self._apart -= n
            self._weight -= weight

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            began = time.perf_counter()
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            taken = self._take()
            if not taken:
                continue
            self._running = len(taken)
            items = [item for item, _ in taken]
            weight = self.weigh(items)
            try:
                if sum(self._least * self.engine.effort(item) for item in items) < QUICK:
                    computed = self._compute(items)
                else:
                    computed = await loop.run_in_executor(self._thread, self._compute, items)
            finally:
                self._running = 0
                self._weight -= weight
            for (_, future), said in zip(taken, self._noted(*computed), strict=True):
                if not future.done():
                    future.set_result(said)
            # Of the whole turn, for that is what a queue waits for: others may have the processor in between.
            took = (time.perf_counter() - began) / weight
            self.seconds = _MEMORY * self.seconds + (1 - _MEMORY) * took

    def _take(self) -> list[tuple[Any, asyncio.Future[Floats | RefusedError]]]:
        """A batch out of the queue; of long items fewer, and of those whose answers are large images, held together."""
        taken: list[tuple[Any, asyncio.Future[Floats | RefusedError]]] = []
        room, left = 1.0, float(self.size)
        while self._queue and len(taken) < self.size:
            item, future = self._queue[0]
            weight = self.weigh([item])
            if future.done():  # whoever asked has left
                self._weight -= weight
            else:
                room, left = room - self.engine.share(item), left - weight
                if taken and (room < 0 or left < 0):
                    break
                taken.append((item, future))
            self._queue.popleft()
        return taken

    def _compute(self, items: Sequence[Any]) -> tuple[list[Floats | RefusedError], float]:
        """What the model says of each item, and the seconds that it took; one that is damaged fails alone."""
        began = time.perf_counter()
        prepared: list[Any] = []
        found: list[Floats | RefusedError | None] = []
        for item in items:
            try:
                if isinstance(item, RefusedError):  # it was no item where it was read
                    raise item
                prepared.append(self.engine.prepare(item))
                found.append(None)
            except RefusedError as refused:
                found.append(refused)
            except Exception as error:  # else all that went with it would wait for ever
                found.append(_failed(error))
        said = iter(self._run(prepared) if prepared else ())
        return [next(said) if f is None else f for f in found], time.perf_counter() - began

    def _noted(self, found: list[Floats | RefusedError], took: float) -> list[Floats | RefusedError]:
        """What was found, once it is counted: in the loop, where the counts are read, and not in the model's thread."""
        self.batches += 1
        self.items += len(found)
        self.busy += took
        return found

    def _run(self, prepared: list[Any]) -> list[Floats | RefusedError]:
        try:
            found = list(self.engine.run(prepared))
            if len(found) != len(prepared):  # else those that have none would wait for ever
                raise ValueError(f"it says {len(found)} times something of {len(prepared)} items")
            return found
        except Exception as error:  # a runtime raises its own kinds; the server answers, and lives
            if len(prepared) > 1:
                return [said for one in prepared for said in self._run([one])]
            if isinstance(error, RefusedError):
                return [error]
            return [_failed(error)]


def _failed(error: Exception) -> RefusedError:
    return RefusedError(500, f"the model failed: {type(error).__name__}: {error}"[:300])


def _measure(engine: Engine, longest: float) -> tuple[int, float]:
    """The size of batches that pays, and the seconds of an item in one; no batch takes longer than some seconds."""
    sample, each = engine.sample(), dict[int, float]()

    def tried(n: int) -> float:
        took: list[float] = []
        while len(took) < 2 or (len(took) < 8 and sum(took) < _TRIAL):
            began = time.perf_counter()
            engine.run([sample] * n)
            took.append(time.perf_counter() - began)
        return min(took) / n  # other programs only make it longer

    for n in SIZES:
        each[n] = tried(n)
        if 2 * n * each[n] > longest:
            break
    each[1] = min(each[1], tried(1))  # once more, for what others took of its time would count for batches
    best = min(each.values())
    size = next(n for n, seconds in each.items() if seconds < _ALIKE * best) if best < GAIN * each[1] else 1
    return size, each[size]
