"""Warnings that one thread is not told of, while the filters of all others stay as they are, and notes told once.

`warnings.catch_warnings` puts back the filters that it found. Those are the whole process's: where two threads overlap,
whoever leaves last puts back what it found while the other was inside, and "ignore" stays for good, or a filter that
somebody set meanwhile is gone. Here one filter is added for good, which looks whether its own thread is inside.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

_NOTHING = "(?!)"


class Quiet:
    """A context in which the thread that entered it is not told of some warnings; other threads are.

    Args:
        message: a regular expression that the texts begin with; "" takes all.
        category: their class.

    >>> with Quiet("odd")():
    ...     warnings.warn("odd metadata", stacklevel=1)
    """

    def __init__(self, message: str = "", category: type[Warning] = Warning) -> None:
        self._pattern = re.compile(message, re.IGNORECASE)
        self._here = threading.local()
        self._filter = ("ignore", self, category, None, 0)
        self._adding = threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Be inside."""
        self._add()
        self._here.depth = self._depth() + 1
        try:
            yield
        finally:
            self._here.depth = self._depth() - 1

    def _depth(self) -> int:
        return getattr(self._here, "depth", 0)

    def _add(self) -> None:
        """Put the filter before all that are not of this kind; somebody may have set others, or put back older ones."""
        with self._adding:
            filters = cast("list[Any]", warnings.filters)
            for one in filters:
                if one is self._filter:
                    return
                if not isinstance(one[1], Quiet):
                    break
            filters.insert(0, self._filter)
            for at in range(len(filters) - 1, 0, -1):  # where filters are set again and again there would be ever more
                if filters[at] is self._filter:
                    del filters[at]

    def match(self, text: str) -> bool:
        """Whether to keep a warning of this text back: what `warnings` asks the pattern of a filter."""
        return self._depth() > 0 and self._pattern.match(text) is not None

    @property
    def pattern(self) -> str:
        """What this thread is not told of, as a compiled expression has it: scikit-learn makes such filters anew."""
        return self._pattern.pattern if self._depth() else _NOTHING

    def __reduce__(self) -> tuple[Any, ...]:
        return re.compile, (_NOTHING,)  # joblib sends the filters to other processes, where no thread is inside


_told: ContextVar[set[str] | None] = ContextVar("told", default=None)


@contextmanager
def each_once(told: set[str]) -> Iterator[None]:
    """A context in which `note` prints what is not in `told` yet, and puts it there.

    Twenty trials make the same data twenty times, and what was guessed of its columns is news the first time.

    >>> with each_once(set()):
    ...     for _ in range(3):
    ...         note("3 columns are numbers")
    3 columns are numbers
    """
    token = _told.set(told)
    try:
        yield
    finally:
        _told.reset(token)


def note(text: str) -> None:
    """Print something that was guessed of the user's data; within `each_once`, what was printed there before is not.

    >>> note("label: 3 different whole numbers, taken as classes")
    label: 3 different whole numbers, taken as classes
    """
    told = _told.get()
    if told is not None:
        if text in told:
            return
        told.add(text)
    print(text)


no_warnings = Quiet()
"""A context: what other libraries warn of, such as odd metadata of images, is not the user's code to change."""

fork_beside_threads = Quiet(".*multi-threaded, use of fork", DeprecationWarning)
"""A context: Python 3.12 warns of any fork beside threads, also of processes that touch nothing of theirs."""
