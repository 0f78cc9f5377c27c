"""What was made of items (decoded images, features of a frozen body), kept on the disk and found by what an item is.

A store holds the items of one treatment, whatever split, subset or batch they were met in, so that none is made
twice. It is two files: `NAME.items`, a header and one record per slot, and `NAME.NONCE.slots`, the contents. Both only
grow, under a claim; a record's check is written last, and says that the slot holds all of that item. Deleting the
folder is safe at any time; what is missing is made again.

Stores together have a limit, beyond which those used longest ago go. What a living process used last stays.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import struct
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, EasyLearnWarning
from ..files import cache_dir, cache_limit, digest, mapped_copy
from .claims import BYTES, Claims, byte_of, claims_in, use_of

DEFAULT_LIMIT = 20 * 10**9
PATIENCE = 60.0  # seconds that anybody waits for a process that lives and does not get on
MOST_HELD = 8  # stores that a process used last, which stay for it
_HELD: dict[str, tuple[Claims, int] | None] = {}  # these, and how the process says so
_USED: set[str] = set()  # all that it ever used
_MAGIC = b"EASYITM2"
_HEADER = np.dtype([("magic", "S8"), ("slot_bytes", "u8"), ("nonce", "u8"), ("spare", "u8")])
_RECORD = np.dtype([("key", "u8", 2), ("kind", "V16"), ("check", "u8")])
_HEAD = struct.Struct("=16s3IB3s")  # of a record, all but its check: key, shape, number of dimensions, dtype
_CHECK = struct.Struct("=Q")
_PRIME = 2**61 - 1
_ITEMS, _SLOTS = ".items", ".slots"
_ABANDONED = 86400  # seconds after which contents without an index are nobody's

Keys = npt.NDArray[np.uint64]


class ItemStore:
    """The items that somebody wants, out of a store that may hold many more.

    Make one with `open_store`. Processes and threads fill it together. It can be sent to worker processes, forked or
    spawned. Writing is by calls, not by mapped memory, so that a full disk is an error that is noticed, not a crash.

    Args:
        path: the file of records.
        nonce: drawn when the store was made, so that no file of another one is taken for its own.
        slot_bytes: the largest array that fits.
        keys: of the wanted items, shape (n, 2).
        slots: where each of them is, shape (n,).

    Attributes:
        whole: which items this process, or one of its workers, has written or compared with their checks, shape (n,).
    """

    def __init__(self, path: Path, nonce: int, slot_bytes: int, keys: Keys, slots: npt.NDArray[np.int64]) -> None:
        self.path = path
        self.nonce = nonce
        self.slot_bytes = slot_bytes
        self.keys = keys
        self.slots = slots
        self.whole = np.zeros(len(keys), bool)
        self._step = _step(slot_bytes)
        self._claims = claims_in(path.parent)
        self._first_byte = byte_of(f"{path.name} {nonce}")  # of the claims
        self._seeking = threading.Lock()  # Windows has one place in a file for all threads
        self._writable = self._open()

    def _open(self) -> bool:
        """Map both files. A store that is gone, as after a folder was deleted, has no item and takes none."""
        self._records: npt.NDArray[Any] = np.zeros(int(self.slots.max()) + 1, _RECORD)
        self._bytes: npt.NDArray[np.uint8] | None = None
        index = _Index.read(self.path)
        if index is None or index.nonce != self.nonce or len(index.keys) < len(self._records):
            return False
        for flags in (os.O_RDWR, os.O_RDONLY):
            self._fds: list[int] = []
            with suppress(OSError, ValueError):
                for path in (self.path, index.contents):
                    self._fds.append(os.open(path, flags | getattr(os, "O_BINARY", 0)))
                    weakref.finalize(self, os.close, self._fds[-1])
                self._index, contents = (mmap.mmap(fd, 0, access=mmap.ACCESS_READ) for fd in self._fds)
                self._records = np.frombuffer(self._index, _RECORD, len(index.keys), _HEADER.itemsize)
                self._bytes = np.frombuffer(contents, np.uint8, len(index.keys) * self._step)
                return flags == os.O_RDWR
        return False

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, i: int) -> str:
        """What item `i` is, as it was given to `open_store`."""
        return bytes(self.keys[i]).hex()

    @property
    def filled(self) -> npt.NDArray[np.bool_]:
        """Which of the wanted items are there, shape (n,)."""
        there = self._records[self.slots]
        full: npt.NDArray[np.bool_] = (there["check"] != 0) & (there["key"] == self.keys).all(1)
        return full

    def get(self, i: int) -> npt.NDArray[Any] | None:
        """Item `i`, a read-only view; None if it is not there, or damaged."""
        if self._bytes is None:
            return None
        slot = int(self.slots[i])
        record = self._index[_place(slot) : _place(slot + 1)]
        (check,) = _CHECK.unpack_from(record, _HEAD.size)
        key, *dims, ndim, name = _HEAD.unpack_from(record)
        if not check or key != self.keys[i].tobytes():
            return None
        try:
            dtype, shape = np.dtype(name.rstrip(b"\0").decode()), dims[:ndim]
        except (TypeError, UnicodeDecodeError):
            return None
        n = math.prod(shape) * dtype.itemsize
        if n > self.slot_bytes:
            return None
        data = self._bytes[slot * self._step : slot * self._step + n]
        if not self.whole[i]:
            if check != _check(data, record[: _HEAD.size]):
                return None
            self.whole[i] = True
        item: npt.NDArray[Any] = data.view(dtype).reshape(shape)
        return item

    def put(self, i: int, array: npt.NDArray[Any]) -> bool:
        """Keep item `i`; False if that is not possible, as on a full disk, or if the array is too large."""
        if self.get(i) is not None:
            return True
        array = np.asarray(array, order="C")
        data, kind = array.reshape(-1).view(np.uint8), array.dtype.str.encode()
        if not self._writable or len(data) > self.slot_bytes or array.ndim > 3 or len(kind) > 3:
            return False
        slot, key = int(self.slots[i]), self.keys[i].tobytes()
        place = _place(slot)
        if self._index[place : place + len(key)] != key:
            return False
        head = _HEAD.pack(key, *(*array.shape, 0, 0, 0)[:3], array.ndim, kind)
        try:
            if any(self._index[place + _HEAD.size : place + _RECORD.itemsize]):  # damaged: nobody may take it meanwhile
                self._write(self._fds[0], bytes(_CHECK.size), place + _HEAD.size)
            self._write(self._fds[1], data.data, slot * self._step)
            self._write(self._fds[0], head + _CHECK.pack(_check(data, head)), place)
        except OSError:
            self._writable = False  # a full disk will not be less full at the next item
            return False
        self.whole[i] = True
        return True

    def _write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        if sys.platform == "win32":
            with self._seeking:
                os.lseek(fd, offset, os.SEEK_SET)
                written = os.write(fd, data)
        else:
            written = os.pwrite(fd, data, offset)
        if written != len(data):
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes were written")

    def claim(self, i: int) -> bool:
        """Say that this thread makes item `i`; False if somebody else does. End it with `release`."""
        return self._claims.take(self._byte(i))

    def release(self, i: int) -> None:
        """End a claim."""
        self._claims.give_back(self._byte(i))

    def _byte(self, i: int) -> int:
        return (self._first_byte + int(self.slots[i])) % BYTES

    def fetch(
        self,
        items: Sequence[int],
        make: Callable[[Sequence[int]], Sequence[npt.NDArray[Any]]],
        keys_now: Callable[[Sequence[int]], Sequence[str]],
        wait: bool = True,
    ) -> list[npt.NDArray[Any] | None]:
        """Some items, those that are not there made and kept. Nobody waits while holding a claim.

        Args:
            items: which of the wanted items.
            make: makes some of them.
            keys_now: what items are after they were made: one that has changed since the store was opened is not kept.
            wait: whether to wait for other processes or threads that are making some of them.

        Returns:
            The items; None for those that somebody else is making, if `wait` is off.
        """
        found = [self.get(i) for i in items]
        mine = [k for k, i in enumerate(items) if found[k] is None and self._writable and self.claim(i)]
        try:
            for k in mine:
                found[k] = self.get(items[k])  # whoever made it has ended the claim only now
            new = [k for k in mine if found[k] is None]
            missing = [items[k] for k in new]
            for k, item in zip(new, make(missing) if new else (), strict=True):
                found[k] = item
            with suppress(OSError):  # a file was removed meanwhile
                for k, i, key in zip(new, missing, keys_now(missing) if new else (), strict=True):
                    if key == self.key(i):
                        self.put(i, found[k])  # type: ignore[arg-type]
        finally:
            for k in mine:
                self.release(items[k])
        for k, i in enumerate(items):
            while wait and self._writable and found[k] is None and self.wait([i], PATIENCE):
                (found[k],) = self.fetch([i], make, keys_now, wait=False)
        rest = [k for k, item in enumerate(found) if item is None and (wait or not self._writable)]
        for k, item in zip(rest, make([items[k] for k in rest]) if rest else (), strict=True):
            found[k] = item
        return found

    def _free(self, i: int) -> bool:
        if not self.claim(i):
            return False
        self.release(i)
        return True

    def wait(self, items: Iterable[int], patience: float = PATIENCE) -> bool:
        """Wait until each of the items is there or claimed by nobody; False if that takes longer than `patience`."""
        deadline = time.monotonic() + patience
        while True:
            items = [i for i in items if self.get(i) is None and not self._free(i)]
            if not items:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)

    def sound(self) -> npt.NDArray[np.bool_]:
        """Which of the wanted items are there and whole, shape (n,): as `filled`, and each compared with its check."""
        there = self.filled
        new = np.flatnonzero(there & ~self.whole)
        there[new] = [self.get(i) is not None for i in new.tolist()]
        return there

    def table(self) -> npt.NDArray[Any] | None:
        """All slots as one array of shape (capacity, ...), in which row `slots[i]` is item `i`: mapped, not read.

        Changes to it do not reach the file. None unless all wanted items are there and fill their slots.
        """
        first = self.get(0)
        if first is None or first.nbytes != self._step or not self.sound().all():
            return None
        mapped = mapped_copy(self._fds[1], len(self._records) * self._step)
        return np.frombuffer(mapped, first.dtype).reshape(-1, *first.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return ItemStore, (self.path, self.nonce, self.slot_bytes, self.keys, self.slots)


@dataclass(frozen=True)
class _Index:
    """What the file of records says; `keys` are those of the slots, shape (capacity, 2)."""

    path: Path
    slot_bytes: int
    nonce: int
    keys: Keys

    @property
    def contents(self) -> Path:
        return self.path.with_name(f"{self.path.stem}.{self.nonce:016x}{_SLOTS}")

    @classmethod
    def read(cls, path: Path) -> _Index | None:
        """What is there; None if there is nothing, or if it is damaged."""
        try:
            data = path.read_bytes()
            head = np.frombuffer(data, _HEADER, 1)[0]
            records = np.frombuffer(data, _RECORD, (len(data) - _HEADER.itemsize) // _RECORD.itemsize, _HEADER.itemsize)
            index = cls(path, int(head["slot_bytes"]), int(head["nonce"]), np.ascontiguousarray(records["key"]))
            large_enough = index.contents.stat().st_size >= len(records) * _step(index.slot_bytes)
        except (OSError, ValueError):
            return None
        return index if bytes(head["magic"]) == _MAGIC and index.slot_bytes > 0 and large_enough else None

    @classmethod
    def create(cls, path: Path, slot_bytes: int) -> _Index:
        """A store without a slot, in place of whatever is there."""
        for old in (path, *path.parent.glob(f"{path.stem}.*{_SLOTS}")):
            old.unlink(missing_ok=True)
        nonce = int.from_bytes(os.urandom(8), "little")
        index = cls(path, slot_bytes, nonce, np.zeros((0, 2), np.uint64))
        index.contents.touch()
        path.write_bytes(np.array((_MAGIC, slot_bytes, nonce, 0), _HEADER).tobytes())
        return index

    def find(self, keys: Keys) -> npt.NDArray[np.int64]:
        """The slot of each key, or -1."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        have, wanted = (np.ascontiguousarray(k).view("S16")[:, 0] for k in (self.keys, keys))
        order = np.argsort(have, kind="stable")
        found = order[np.searchsorted(have, wanted, sorter=order).clip(max=len(order) - 1)]
        return np.where(have[found] == wanted, found, -1)

    def extended(self, keys: Keys) -> _Index:
        """With a slot more for each of the keys. What a killed process left of a record is overwritten."""
        records = np.zeros(len(keys), _RECORD)
        records["key"] = keys
        n = len(self.keys)
        os.truncate(self.contents, (n + len(keys)) * _step(self.slot_bytes))
        with open(self.path, "r+b") as file:
            file.seek(_HEADER.itemsize + n * _RECORD.itemsize)
            file.write(records.tobytes())
        return replace(self, keys=np.concatenate([self.keys, keys]))


def open_store(
    key: str,
    item_keys: Sequence[str],
    slot_bytes: int | None,
    folder: Path | None = None,
    limit_bytes: int | None = None,
    n_items: int = 0,
) -> ItemStore | None:
    """The store of a treatment, with a slot for each item that is wanted.

    Args:
        key: names everything that decides what is made of an item, but for the item itself.
        item_keys: what each item is: 32 hexadecimal digits, as `file_keys` and `content_key` give them.
        slot_bytes: the largest array; None takes a store that has met any of the items.
        folder: where stores are kept; None means `images` in easylearn's cache folder.
        limit_bytes: of all stores in the folder; None means 20 GB (see `cache_limit`), or half of what the disk has to
            spare if that is less. The least recently used stores make room, but none of the eight that a living
            process used last: for these there may be more than the limit, up to half of what the disk has to spare.
        n_items: where so many items take more than the limit, it is what they take, or half of what the disk has to
            spare if that is less.

    Returns:
        The store; None if the items do not fit, the folder cannot be written, or `slot_bytes` is None and there is no
        such store.
    """
    if not len(item_keys) or (slot_bytes is not None and slot_bytes < 1):
        raise ArgumentError(
            f"a store needs at least one item of at least one byte, got {len(item_keys)} of slot_bytes={slot_bytes}"
        )
    keys = np.frombuffer(bytes.fromhex("".join(item_keys)), np.uint64).reshape(-1, 2)
    place = Path(folder) if folder is not None else cache_dir() / "images"
    stem = digest([key, f"{_HEADER} {_RECORD} {sys.byteorder}"])
    with suppress(OSError):
        for path in place.glob(f"{stem}-*{_ITEMS}") if slot_bytes is None else [place / f"{stem}-{slot_bytes}{_ITEMS}"]:
            index = _Index.read(path)
            slots = index.find(keys) if index is not None else np.array([-1])
            if index is not None and slots.min() >= 0:
                return _opened(index, keys, slots)
            if index is not None and slots.max() >= 0:
                slot_bytes = index.slot_bytes
        if slot_bytes is None:
            return None
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{stem}-{slot_bytes}{_ITEMS}"
        with claims_in(place).hold(byte_of(path.name), PATIENCE) as claimed:
            return _registered(path, keys, slot_bytes, limit_bytes, n_items) if claimed else None
    return None


def _opened(index: _Index, keys: Keys, slots: npt.NDArray[np.int64]) -> ItemStore:
    _hold(index.path)
    with suppress(OSError):  # in a folder that is only read
        os.utime(index.path)  # used now: the last to go
    return ItemStore(index.path, index.nonce, index.slot_bytes, keys, slots)


def _hold(path: Path) -> None:
    """Let a store stay for this process, in place of the one that it used longest ago.

    Windows removes no file that is open: there it need not be said, and a folder could not be deleted where it were.
    """
    name, claims = os.path.abspath(path), claims_in(path.parent)
    byte = None if sys.platform == "win32" else claims.use(use_of(path.name))
    ended = [_HELD.pop(name, None)]
    _HELD[name] = None if byte is None else (claims, byte)
    _USED.add(name)
    ended += [_HELD.pop(old, None) for old in list(_HELD)[:-MOST_HELD]]
    for its, at in filter(None, ended):
        its.give_back(at)


def _registered(path: Path, keys: Keys, slot_bytes: int, limit: int | None, n_items: int) -> ItemStore | None:
    """The store, with a slot for each key. Called under a claim: nobody else adds any meanwhile."""
    index = _Index.read(path)
    n_new = len(keys) if index is None else int((index.find(keys) < 0).sum())
    step = _step(slot_bytes)
    wanted = n_items * (step + _RECORD.itemsize)
    if not _make_room(path, n_new * step, limit, wanted):
        # It may be full of items that nobody wants any more, of files that have changed: then it begins anew.
        used = claims_in(path.parent).is_used(use_of(path.name))
        if index is None or used or not _make_room(path, len(keys) * step, limit, wanted, anew=True):
            return None
        index = None
    if index is None:
        index = _Index.create(path, slot_bytes)
    new = keys[index.find(keys) < 0]
    if len(new):
        first = np.unique(new, axis=0, return_index=True)[1]
        index = index.extended(new[np.sort(first)])
    return _opened(index, keys, index.find(keys))


def _make_room(path: Path, size: int, limit: int | None, wanted: int, anew: bool = False) -> bool:
    """Remove the stores used longest ago until that at `path`, begun anew or not, may grow by `size` bytes.

    Where `wanted` bytes are more than the limit, they are the limit, if the disk has so much. For what somebody uses it
    gives way likewise.
    """
    files = files_of(path.parent)
    taken = {name: sum(bytes_of(info) for _, info in of) for name, of in files.items()}
    used = {name: max(info.st_mtime for _, info in of) for name, of in files.items()}
    spare = (shutil.disk_usage(path.parent).free + sum(taken.values())) // 2
    limit = min(cache_limit(DEFAULT_LIMIT), spare) if limit is None else limit
    if wanted > limit:
        limit = min(int(1.01 * wanted) + 2**16, spare)  # with what file systems add
    own = taken.pop(path.stem, 0)
    size += 0 if anew else own
    if size > limit:
        return False
    total = size + sum(taken.values())
    stay = {name for name in taken if total > limit and _is_held(path.with_name(name + _ITEMS))}
    for name in sorted(taken.keys() - stay, key=lambda name: used[name]):
        lost = files[name][0][0].suffix != _ITEMS and time.time() - used[name] > _ABANDONED  # contents without an index
        if total > limit or lost:
            with suppress(OSError):
                for file, _ in files[name]:
                    file.unlink()
                total -= taken[name]
                _tell_of(files[name][0][0], limit)
    return total <= (max(limit, spare) if stay else limit)


def files_of(folder: Path) -> dict[str, list[tuple[Path, os.stat_result]]]:
    """The files of each store in a folder, an index before its contents."""
    files: dict[str, list[tuple[Path, os.stat_result]]] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.suffix):
        if file.suffix in (_ITEMS, _SLOTS):
            with suppress(OSError):
                files.setdefault(file.name.split(".")[0], []).append((file, file.stat()))
    return files


def _is_held(path: Path) -> bool:
    """Whether this process, or another one that lives, has used a store among its last ones."""
    return os.path.abspath(path) in _HELD or claims_in(path.parent).is_used(use_of(path.name))


def _tell_of(path: Path, limit: int) -> None:
    if os.path.abspath(path) in _USED:
        warnings.warn(
            f"{path.parent} may take {limit / 1e9:.3g} GB, so what this process kept there {MOST_HELD} such stores ago "
            "was removed. The environment variable EASYLEARN_CACHE_GB says how many GB it may take",
            EasyLearnWarning,
            stacklevel=6,
        )


def bytes_of(info: os.stat_result) -> int:
    """Bytes that a file takes on the disk, holes left out where the system says so."""
    return int(getattr(info, "st_blocks", 0)) * 512 or info.st_size


def _step(slot_bytes: int) -> int:
    """Bytes from one slot to the next: rows of floats lie without gaps, and what a slot leaves unused is a hole."""
    return -(-slot_bytes // 4) * 4


def _place(slot: int) -> int:
    """Where the record of a slot begins."""
    return _HEADER.itemsize + slot * _RECORD.itemsize


def _check(data: npt.NDArray[np.uint8], head: bytes) -> int:
    """A sum over contents and what a record says of them, never 0: it finds what a crash left half written."""
    words = len(data) // 8 * 8
    total = int(data[:words].view(np.uint64).sum()) + int(data[words:].sum()) + int.from_bytes(head, "little") % _PRIME
    return total % 2**64 or 1


def content_key(array: npt.NDArray[Any]) -> str:
    """What an array in memory is: its type, shape and contents."""
    array = np.ascontiguousarray(array)
    return digest([f"{array.dtype} {array.shape}", array.data.cast("B")])
