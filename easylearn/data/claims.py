"""Claims: who is making what, so that two processes, or two threads, that want the same thing do not both make it.

A claim is a lock of the system on one byte of a file, so it ends with its process, however that ends: there is no
lease to renew, and no clock or process number to trust. Claims save work, and nothing else rests on them: where the
file system has no locks, or the file is deleted meanwhile, a thing is made twice, and equal.

Several processes may use one thing at once, and locks that are shared are not everywhere: each takes a byte of its own,
of a few that stand for the use of that thing.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..files import digest

FILE = "claims.lock"
BYTES = 2**30  # claims lie below this: Windows counts places in a file by 31 bits there
USERS = 64  # processes that use a thing at once; where there are more, these alone say so
_HELD = (errno.EACCES, errno.EAGAIN)
_OPEN: weakref.WeakValueDictionary[str, Claims] = weakref.WeakValueDictionary()
_LOCKS: dict[int, threading.Lock] = {}  # by process: one that was forked must not wait for its parent's threads


class Claims:
    """Claims on what is made in one folder. Make one with `claims_in`: a process must open the file once only.

    Args:
        path: the file that is locked; it stays empty. Where it cannot be opened, claims hold among threads alone.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = None
        with suppress(OSError):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            weakref.finalize(self, os.close, self._fd)
        self._begin()

    def _begin(self) -> None:
        self._mutex, self._held = threading.Lock(), set[int]()
        self._process = os.getpid()  # at last: a thread that sees it takes this mutex, and not that of before the fork

    def _here(self) -> threading.Lock:
        """What guards the claims of this process: one that was forked has none, and its parent's threads the mutex."""
        if self._process != os.getpid():
            with _alone():
                if self._process != os.getpid():
                    self._begin()
        return self._mutex

    def take(self, byte: int) -> bool:
        """Claim a byte; False if another process or thread has it."""
        with self._here():
            if byte in self._held or (self._fd is not None and not _lock(self._fd, byte)):
                return False
            self._held.add(byte)
            return True

    def give_back(self, byte: int) -> None:
        """End a claim that `take` has granted."""
        with self._here():
            self._held.discard(byte)
            if self._fd is not None:
                _lock(self._fd, byte, free=True)

    @contextmanager
    def hold(self, byte: int, patience: float) -> Iterator[bool]:
        """Claim a byte for the while, and wait for it at most `patience` seconds; gives whether it is claimed."""
        deadline, pause = time.monotonic() + patience, 0.001
        while not (taken := self.take(byte)) and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        try:
            yield taken
        finally:
            if taken:
                self.give_back(byte)

    def use(self, first: int) -> int | None:
        """Say that this process uses a thing; gives the byte, of those of `use_of`, by which `give_back` ends that."""
        return next(filter(self.take, range(first, first + USERS)), None)

    def is_used(self, first: int) -> bool:
        """Whether another process uses a thing; `first` as in `use`."""
        with self._here():
            mine = set(self._held)
        for byte in set(range(first, first + USERS)) - mine:
            if not self.take(byte):
                return True
            self.give_back(byte)
        return False

    def is_of(self, path: Path) -> bool:
        """Whether this locks the file that is there now, and not one that was deleted since."""
        try:
            return self._fd is not None and os.path.samestat(os.fstat(self._fd), os.stat(path))
        except OSError:
            return False


def claims_in(folder: Path) -> Claims:
    """The claims of a folder, the same object for the whole process while somebody uses it."""
    path = folder / FILE
    name = os.path.realpath(path)  # who closes the file, under whatever name, gives all claims of the process back
    with _alone():  # two threads that come first must not open it twice
        found = _OPEN.get(name)
        if found is None or not found.is_of(path):
            found = _OPEN[name] = Claims(path)
        return found


def _alone() -> threading.Lock:
    return _LOCKS.setdefault(os.getpid(), threading.Lock())


def byte_of(name: str) -> int:
    """The byte that stands for a thing; the bytes after it, modulo `BYTES`, stand for the parts of it."""
    return int(digest([name])[:8], 16) % BYTES


def use_of(name: str) -> int:
    """The first of the bytes that stand for the use of a thing, where there are no claims."""
    return BYTES + byte_of(f"use of {name}") // USERS * USERS


def _lock(fd: int, byte: int, free: bool = False) -> bool:
    """Lock a byte for this process, or free it; False if another has it. True also where there are no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(fd, byte, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK if free else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(fd, fcntl.LOCK_UN if free else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        return error.errno not in _HELD
    return True
