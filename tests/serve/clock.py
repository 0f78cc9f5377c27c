"""A loop with a time of its own, which passes only while nothing happens: a busy machine changes no test's outcome."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")
_ON_ITS_WAY = 0.01  # seconds in which what one socket sent reaches another one of this machine


class _Selector(selectors.DefaultSelector):
    """Where nothing is to be read or written it does not wait, but lets the time pass at once."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and (timeout is None or timeout > 0):
            found = super().select(_ON_ITS_WAY)
            if not found and timeout is not None:
                self.now += timeout
        return found


def run(main: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` gives, by that time, which `time.perf_counter` tells, too; no thread may be waited for."""
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    now = lambda: selector.now  # noqa: E731
    with mock.patch.object(loop, "time", now), mock.patch.object(time, "perf_counter", now):
        try:
            return loop.run_until_complete(main)
        finally:
            loop.run_until_complete(_end(asyncio.all_tasks(loop)))
            loop.close()


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
