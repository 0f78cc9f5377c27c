"""The queue: batches of what is there, a damaged one fails alone, those that left are skipped, none waits too long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from easylearn.serve.batching import _BURST, _LEAST, _STEADY, Batcher, Turns
from easylearn.serve.engine import Engine, Whole
from easylearn.serve.refusals import Limits, RefusedError
from tests.serve.asking import photo


class Slow(Engine):
    """Gives each number itself. A batch takes `fixed` seconds and `each` for each item."""

    def __init__(self, fixed: float, each: float, items: str = "table") -> None:
        super().__init__(Path("x"), "v", {"kind": "regression", "names": ["y"]}, items, Limits(), None)
        self.fixed, self.each = fixed, each
        self.sleep: Callable[[float], None] = time.sleep
        self.seen: list[list[Any]] = []
        self.threads: set[int] = set()

    def prepare(self, item: Any) -> Any:
        if item == "bad":
            raise RefusedError(422, "bad")
        if item == "worse":
            raise KeyError("worse")
        return item

    def run(self, prepared: Sequence[Any]) -> Any:
        self.seen.append(list(prepared))
        self.threads.add(threading.get_ident())
        self.sleep(self.fixed + self.each * len(prepared))
        if "poison" in prepared:
            raise RuntimeError("no")
        return np.array([[float(len(p)) if isinstance(p, str) else float(p)] for p in prepared])

    def run_inputs(self, given: Any) -> Any:
        raise NotImplementedError

    def sample(self) -> Any:
        return 0

    def describe(self) -> dict[str, Any]:
        return {}


def made(engine: Slow, **limits: Any) -> Batcher:
    """A batcher that measured its engine by a clock of the engine's: on a busy machine it would sleep longer."""
    slept = [0.0]
    engine.sleep = slept.append
    with mock.patch.object(time, "perf_counter", side_effect=lambda: sum(slept)):
        batcher = Batcher(engine, Limits(**limits))
    engine.sleep = time.sleep
    engine.seen.clear()
    return batcher


def test_the_size_of_batches_is_what_pays() -> None:
    assert made(Slow(0.01, 0.0005)).size >= 8  # a batch costs little more than an item
    assert made(Slow(0.0, 0.02)).size == 1  # and here as much as its items


def test_answers_that_are_large_images_are_few_in_a_batch() -> None:
    engine = Slow(0.01, 0.0005)
    batcher = made(engine)
    batcher.size, engine._max_pixels, sizes = 8, 2000, []

    def run(prepared: Sequence[Any]) -> Any:
        sizes.append(len(prepared))
        return np.zeros((len(prepared), 1))

    engine.run = run  # type: ignore[method-assign]
    large, small = Whole(photo(0, (30, 40))), Whole(photo(0, (20, 10)))

    async def ask() -> None:
        await asyncio.gather(*(batcher.put(item) for item in (large, large, small, small, 3, large, Whole(b"none"))))

    asyncio.run(ask())
    assert sizes == [1, 4, 2]


def test_what_is_queued_goes_together_and_the_damaged_fail_alone() -> None:
    engine = Slow(0.02, 0.0005)
    batcher = made(engine)

    async def run() -> list[Any]:
        futures = [batcher.put(item) for item in (1, 2, "bad", 3, "poison", 4)]
        return await asyncio.gather(*futures)

    found = asyncio.run(run())
    assert [f.tolist() for f in (found[0], found[1], found[3], found[5])] == [[1.0], [2.0], [3.0], [4.0]]
    assert [found[2].status, found[4].status] == [422, 500]
    assert max(map(len, engine.seen)) >= 3
    assert (
        threading.get_ident() not in {t for t in engine.threads if len(engine.threads) > 1} or len(engine.threads) == 2
    )


def test_those_that_left_are_skipped() -> None:
    engine = Slow(0.01, 0.0)
    batcher = made(engine)

    async def run() -> None:
        first = batcher.put(1)
        await asyncio.sleep(0.002)  # it runs
        gone, stays = batcher.put(2), batcher.put(3)
        gone.cancel()
        assert (await stays).tolist() == [3.0]
        await first

    asyncio.run(run())
    assert [2] not in engine.seen
    assert all(2 not in batch for batch in engine.seen)


def test_a_queue_that_is_too_long_refuses_at_once() -> None:
    engine = Slow(0.0, 0.02)
    batcher = made(engine, max_wait=0.1)

    async def run() -> RefusedError:
        futures = [batcher.put(k) for k in range(12)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as caught:
            batcher.admit(1, 1)
        await asyncio.gather(*futures)
        batcher.admit(1, 1)  # it is empty again
        return caught.value

    refused = asyncio.run(run())
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1


def test_no_item_that_cannot_be_prepared_keeps_others_waiting() -> None:
    batcher = made(Slow(0.005, 0.0))

    async def run() -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(*map(batcher.put, (1, "worse", 2))), 60)

    first, worse, second = asyncio.run(run())
    assert (first.tolist(), worse.status, second.tolist()) == ([1.0], 500, [2.0])


def test_small_gains_add_up_to_a_size() -> None:
    """Of 24, 22, 21, 20.5 ms each doubling gains less than a tenth, and all together a seventh."""
    assert made(Slow(0.004, 0.02), max_wait=5).size >= 4
    assert made(Slow(0.004, 0.02), max_wait=0.1).size <= 2  # no batch takes longer than others may wait


def test_a_long_request_is_refused_where_others_are_before_it() -> None:
    batcher = made(Slow(0.0, 0.02), max_wait=0.1)
    batcher.admit(1000, 1000)  # alone it is taken, or it never could be

    async def run() -> list[int]:
        futures = [batcher.put(k) for k in range(2)]
        batcher.admit(1, 1)
        batcher.admit(2, 2)
        refused = []
        for n in (10, 1000):
            with pytest.raises(RefusedError, match="before your answer") as caught:
                batcher.admit(n, n)
            refused.append(caught.value.status)
        await asyncio.gather(*futures)
        return refused

    assert asyncio.run(run()) == [503, 503]


def test_the_writing_of_a_long_list_keeps_nobody_out_for_as_long_as_its_computing() -> None:
    batcher, write = made(Slow(0.0, 0.001), max_wait=1.0), threading.Event()
    batcher.seconds = 0.01

    async def ask() -> None:
        weight = batcher.weigh_answer(10_000, 30_000)
        writing = asyncio.create_task(batcher.apart(lambda: write.wait(60), 10_000, weight))
        await asyncio.sleep(0)
        assert not batcher.is_free and batcher.wait == pytest.approx(0.03)
        batcher.admit(1, 1)
        batcher.seconds = 1.0  # a slower model makes those that come wait longer
        with pytest.raises(RefusedError, match="before your answer"):
            batcher.admit(1, 1)
        write.set()
        await writing

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert batcher.is_free and batcher.wait == 0
    batcher.seconds = 0.0
    assert batcher.weigh_answer(5, 30_000) == 5  # of a quick model it is as much at most


def test_one_item_is_taken_behind_one_whose_image_is_written() -> None:
    """Else of two callers of a model that takes long one would be refused in that time, and taken before it."""
    batcher, write = made(Slow(0.0, 0.001), max_wait=1.0), threading.Event()
    batcher.seconds = 0.7

    async def ask() -> None:
        writing = [asyncio.create_task(batcher.apart(lambda: write.wait(60), 1, 1))]
        await asyncio.sleep(0)
        batcher.admit(1, 1)
        with pytest.raises(RefusedError, match=r"^1 items are before"):
            batcher.admit(2, 2)
        writing.append(asyncio.create_task(batcher.apart(lambda: write.wait(60), 1, 1)))
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match=r"^2 items are before"):
            batcher.admit(1, 1)
        write.set()
        await asyncio.gather(*writing)

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_long_items_count_for_as_many_as_they_take_the_time_of() -> None:
    engine = Slow(0.0, 0.001, "text")
    batcher, sizes = made(engine, max_wait=1.0), []
    batcher.size, batcher.seconds, long = 4, 0.001, "x" * 64 * 600

    def run(prepared: Sequence[Any]) -> Any:
        sizes.append(len(prepared))
        return np.zeros((len(prepared), 1))

    engine.run = run  # type: ignore[method-assign]

    async def ask() -> None:
        batcher.admit(1, batcher.weigh([long]))
        futures = [batcher.put(item) for item in (long, "a", "b")]
        assert batcher.wait == pytest.approx(0.602)
        batcher.admit(100, 100)
        with pytest.raises(RefusedError, match="before your answer"):
            batcher.admit(1, batcher.weigh([long]))
        gone = batcher.put(long)
        futures += [batcher.put(RefusedError(422, "no text")), batcher.put("c")]
        gone.cancel()
        await asyncio.gather(*futures)

    asyncio.run(ask())
    assert sizes == [1, 3] and batcher.is_free and batcher.wait == 0  # what was none is not run
    assert batcher.seconds < 0.001  # the long one took no time here, and was 600 items


def test_only_what_is_quick_is_run_in_the_loop() -> None:
    """How quick a model is was measured with a short text; a long one would keep all others waiting."""
    engine = Slow(0.0, 1e-4, "text")
    batcher = made(engine)
    loop = threading.get_ident()
    engine.threads.clear()
    assert batcher.at_once("a short text").tolist() == [12.0]  # type: ignore[union-attr]
    assert engine.threads == {loop}
    long, engine.threads = "a long text" * 1000, set()
    assert batcher.at_once(long) is None and not engine.seen[1:]

    async def run() -> Any:
        return await batcher.put(long)

    assert asyncio.run(run()).tolist() == [11_000.0] and loop not in engine.threads
    batcher.seconds = 1.0  # other programs had the processor
    assert batcher.at_once("a short text") is not None
    persons = made(Slow(0.0, 1e-4, "histories"))
    for many in (["a"] * 1300, {"history": ["a"] * 1300}, {f"a{i}": 1 for i in range(1300)}):
        assert not persons.is_quick(many) and persons.is_quick(type(many)())
    images = made(Slow(0.0, 1e-4, "images"))
    assert images.at_once(5) is None  # how much is in an image its size does not tell


def test_a_graph_that_says_too_little_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Slow(0.005, 0.0)
    batcher, run = made(engine), engine.run
    monkeypatch.setattr(engine, "run", lambda prepared: run(prepared)[:1])

    async def ask() -> list[Any]:
        return await asyncio.gather(*map(batcher.put, (1, 2, 3)))

    assert [said.tolist() for said in asyncio.run(asyncio.wait_for(ask(), 60))] == [[1.0], [2.0], [3.0]]
    monkeypatch.setattr(engine, "run", lambda prepared: run(prepared)[:0])
    assert [said.status for said in asyncio.run(asyncio.wait_for(ask(), 60))] == [500] * 3


def test_what_was_no_item_fails_alone() -> None:
    batcher = made(Slow(0.005, 0.0))
    wrong = RefusedError(422, "no base64")

    async def run() -> list[Any]:
        return await asyncio.gather(*map(batcher.put, (1, wrong, 2)))

    first, second, third = asyncio.run(run())
    assert (first.tolist(), second, third.tolist()) == ([1.0], wrong, [2.0])


def test_a_turn_serves_for_a_time_and_the_next_one_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now, turns = 100.0, Turns(10.0)
    monkeypatch.setattr("easylearn.serve.batching.time.monotonic", lambda: now)

    def served(n: int, each: float) -> int:
        """How many of `n` requests that were read in one turn are served, where each takes some seconds."""
        nonlocal now
        taken = 0
        for _ in range(n):
            if not turns.is_over():
                taken, now = taken + 1, now + each
        return taken

    assert served(1000, 1.0) == 1000  # it was not told of a loop
    assert turns._until == float("inf")

    async def run() -> list[int]:
        turns.begin(asyncio.get_running_loop())
        found = []
        for n, each in (
            (3, 1.0),
            (50, 0.1),
            (50, 0.1),
            (9, 0.1),
            *[(500, 0.001)] * 30,
            *[(3, 0.001)] * 20,
            (50, 0.1),
            (2, 99.0),
        ):
            found.append(served(n, each))
            await asyncio.sleep(0)
        return found

    long, short, least = _BURST * 10, _STEADY * 10, _LEAST * 10
    at_once, lasting = int(long / 0.1) + 1, int(short / 0.1) + 1
    found = asyncio.run(run())
    # A burst has its time; where too much comes again and again, turns are short, and ever shorter down to a limit.
    assert found[:4] == [3, at_once, lasting, lasting]
    often = found[4:34]
    assert often == sorted(often, reverse=True)
    assert often[-1] in (int(least / 0.001), int(least / 0.001) + 1) and often[-1] < often[0]
    assert found[34:54] == [3] * 20  # what is calm for some turns may have a burst again
    assert found[54:] == [at_once, 1]  # the first of a turn is served always
    assert asyncio.run(run())[0] == 3  # in another loop, where the last turn of the first did not end


def test_counts_change_in_the_loop_alone() -> None:
    """The service reads them and sets them to zero there; a thread that added to them would bring some back."""
    batcher = made(Slow(0.01, 0.0))
    batcher._compute([1, 2])
    assert (batcher.items, batcher.batches, batcher.busy) == (0, 0, 0.0)

    async def run() -> None:
        await asyncio.gather(*map(batcher.put, range(5)))

    asyncio.run(run())
    assert batcher.items == 5 and batcher.batches >= 1 and batcher.busy >= 0.01
