"""Small uint8 pictures kept in one memory-mapped file, so that a photograph is decoded once.

A store is a file of `n` slots of equal size. It is filled under a private name by one process and its
workers, and takes its public name when the last slot is full: whoever finds a store by its key finds all
of it. Deleting the folder is safe at any time; what is missing is decoded again.
"""

from __future__ import annotations

import mmap
import os
import shutil
import socket
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError
from ..files import cache_dir, digest

DEFAULT_LIMIT = 20 * 10**9
_PAGE = 4096  # slots begin on pages: what a slot does not use then takes no room on the disk
_HEADER = 8  # bytes of a slot's shape: three uint16 (channels, height, width), then nothing
_ABANDONED = 2 * 86400  # seconds after which an unfinished file of another machine is nobody's
_SUFFIX, _PART = ".slots", ".part"


class ByteStore:
    """`n` slots for uint8 arrays of shape (c, h, w), each of at most `slot_bytes`.

    Make one with `open_store`. It can be sent to worker processes, forked or spawned, which fill it
    together, as threads may. Writing is by `pwrite`, so that a full disk is an error that is noticed, not a crash.

    Args:
        path: the private file to fill, or the finished one.
        final: the name it takes when it is full.
        n: number of slots.
        slot_bytes: the largest array that fits.
    """

    def __init__(self, path: Path, final: Path, n: int, slot_bytes: int) -> None:
        self.path = path
        self.final = final
        self.n = n
        self.slot_bytes = slot_bytes
        self._writing = threading.Lock()
        self._start = -(-n * (1 + _HEADER) // _PAGE) * _PAGE
        self._step = -(-slot_bytes // _PAGE) * _PAGE
        self._open()

    def _open(self) -> None:
        """Map the file. A store that is gone, as after a folder was deleted, has no slot filled and takes none."""
        self.filled: npt.NDArray[np.uint8] = np.zeros(self.n, np.uint8)
        self._bytes: npt.NDArray[np.uint8] | None = None
        self._fd: int | None = None
        for path, writable in ((self.path, self.path != self.final), (self.final, False)):
            with suppress(OSError, ValueError):
                flags = (os.O_RDWR if writable else os.O_RDONLY) | getattr(os, "O_BINARY", 0)
                fd = os.open(path, flags)
                try:
                    if os.fstat(fd).st_size != file_bytes(self.n, self.slot_bytes):
                        continue
                    mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
                    if writable:
                        self._fd = os.dup(fd)
                        weakref.finalize(self, os.close, self._fd)
                finally:
                    os.close(fd)
                self._bytes = np.frombuffer(mapped, np.uint8)
                self.filled = self._bytes[: self.n]
                self._shapes = self._bytes[self.n : self.n + self.n * _HEADER].reshape(self.n, _HEADER)
                return

    @property
    def complete(self) -> bool:
        """Whether every slot is filled."""
        return bool(self.filled.all())

    def get(self, slot: int) -> npt.NDArray[np.uint8] | None:
        """What the slot holds, a read-only view of shape (c, h, w); None if it is empty."""
        if self._bytes is None or not self.filled[slot]:
            return None
        c, h, w = (int(v) for v in self._shapes[slot, :6].copy().view(np.uint16))
        begin = self._start + slot * self._step
        return self._bytes[begin : begin + c * h * w].reshape(c, h, w)

    def put(self, slot: int, pixels: npt.NDArray[np.uint8]) -> bool:
        """Fill a slot; False if that is not possible, as on a full disk, or if the array is too large.

        The flag is written last, so that another process never reads half a picture.
        """
        if pixels.nbytes > self.slot_bytes:
            return False
        shape = np.array([*pixels.shape, 0], np.uint16)
        with self._writing:  # several threads decode, and Windows has one place in the file for all of them
            if self._fd is None:
                return False
            try:
                self._write(np.ascontiguousarray(pixels).data.cast("B"), self._start + slot * self._step)
                self._write(shape.data.cast("B"), self.n + slot * _HEADER)
                self._write(memoryview(b"\x01"), slot)
            except OSError:
                self._fd = None  # a full disk will not be less full at the next picture
                return False
        return True

    def _write(self, data: memoryview, offset: int) -> None:
        assert self._fd is not None
        if sys.platform == "win32":
            os.lseek(self._fd, offset, os.SEEK_SET)
            written = os.write(self._fd, data)
        else:
            written = os.pwrite(self._fd, data, offset)
        if written != len(data):
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes were written")

    def publish(self) -> bool:
        """Give a full store its public name; False while slots are empty. Cheap when nothing is to be done."""
        if self.path == self.final:
            return self._bytes is not None
        if not self.complete:
            return False
        with suppress(OSError):  # the folder is gone, or Windows holds the file: the private one goes on serving
            os.replace(self.path, self.final)
            self.path = self.final
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "final": self.final, "n": self.n, "slot_bytes": self.slot_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def file_bytes(n: int, slot_bytes: int) -> int:
    """How large the file of a store is, at most: what slots leave unused takes no room."""
    return (-(-n * (1 + _HEADER) // _PAGE) + n * -(-slot_bytes // _PAGE)) * _PAGE


def open_store(
    key: str, n: int, slot_bytes: int, folder: Path | None = None, limit_bytes: int | None = None
) -> ByteStore | None:
    """The finished store of that key, or a new one to fill.

    Args:
        key: names everything that decides the contents: the files' identities, their treatment, a version.
        n: number of slots.
        slot_bytes: the largest array, in bytes.
        folder: where stores are kept; None means `images` in easylearn's cache folder.
        limit_bytes: what all stores in the folder may take together; None means 20 GB, or half of what the
            disk has to spare if that is less. The least recently used stores make room.

    Returns:
        The store; None if it does not fit or the folder cannot be written: decode each time then.
    """
    if n < 1 or slot_bytes < 1:
        raise ArgumentError(f"a store needs at least one slot of at least one byte, got n={n}, slot_bytes={slot_bytes}")
    place = Path(folder) if folder is not None else cache_dir() / "images"
    name = digest([key, f"{n} {slot_bytes} {_HEADER}"])
    final = place / (name + _SUFFIX)
    size = file_bytes(n, slot_bytes)
    with suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        if final.is_file():
            store = ByteStore(final, final, n, slot_bytes)
            if store.complete:
                os.utime(final)  # used now: the last to go
                return store
            final.unlink()  # of another size than its name says: damaged from outside
        _remove_abandoned(place)
        if not _make_room(place, size, limit_bytes):
            return None
        private = place / f"{name}.{socket.gethostname()}.{os.getpid()}.{os.urandom(4).hex()}{_PART}"
        with open(private, "wb") as file:
            file.truncate(size)
        store = ByteStore(private, final, n, slot_bytes)
        weakref.finalize(store, _remove_own, private, os.getpid())
        return store
    return None


def _remove_own(private: Path, process: int) -> None:
    """Remove a store that was never finished. In the process that made it only: workers inherit the finaliser."""
    if os.getpid() == process:
        with suppress(OSError):
            private.unlink()


def _remove_abandoned(place: Path) -> None:
    """Remove unfinished files whose process is no more."""
    for file in place.glob("*" + _PART):
        with suppress(OSError, ValueError):
            host, process = file.name[: -len(_PART)].split(".", 1)[1].rsplit(".", 2)[:2]
            old = time.time() - file.stat().st_mtime > _ABANDONED
            if old or (host == socket.gethostname() and not _alive(int(process))):
                file.unlink()


def _alive(process: int) -> bool:
    if sys.platform == "win32":
        return True  # there os.kill would end it; the age decides
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _taken(file: Path) -> int:
    """Bytes that a file takes on the disk, holes left out where the system says so."""
    info = file.stat()
    return int(getattr(info, "st_blocks", 0)) * 512 or info.st_size


def _make_room(place: Path, size: int, limit: int | None) -> bool:
    """Remove the stores used longest ago until `size` more bytes are within the limit."""
    finished: list[tuple[float, int, Path]] = []
    total = 0
    for file in place.iterdir():
        with suppress(OSError):
            if file.name.endswith((_SUFFIX, _PART)):
                total += _taken(file)
            if file.name.endswith(_SUFFIX):
                finished.append((file.stat().st_mtime, _taken(file), file))
    if limit is None:
        limit = min(DEFAULT_LIMIT, (shutil.disk_usage(place).free + total) // 2)
    if size > limit:
        return False
    for _, taken, file in sorted(finished):
        if total + size <= limit:
            break
        with suppress(OSError):
            file.unlink()
            total -= taken
    return total + size <= limit
