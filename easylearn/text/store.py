"""Numericalised text in one memory-mapped file: the numbers of all documents, one after the other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, StateError
from ..files import StrPath, atomic_write

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.int32]
_FILE = "tokens.bin"
_MAGIC = "easylearn tokens"
_VERSION = 1
_HEAD = 4096  # bytes kept for the header, which is known last and written last
_NAMES = {"uint16": "<u2", "int32": "<i4"}


def dtype_for(n_tokens: int) -> np.dtype[Any]:
    """The smallest type for the numbers of a vocabulary of that size: uint16, else int32.

    >>> dtype_for(60_000).name, dtype_for(70_000).name
    ('uint16', 'int32')
    """
    return np.dtype("<u2" if n_tokens <= 2**16 else "<i4")


class TokenStore:
    """Documents as numbers, in memory or memory-mapped.

    Args:
        ids: the numbers of all documents, shape (n_tokens,), uint16 or int32.
        offsets: where documents begin, then where the last one ends, int64, shape (documents + 1,).
        digest: a fingerprint of the contents; None computes it.

    >>> store = TokenStore.from_lists([[2, 8, 9], [2]])
    >>> len(store), store.n_tokens, store.lengths.tolist(), store.doc(0).tolist()
    (2, 4, [3, 1], [2, 8, 9])
    """

    def __init__(self, ids: Ids, offsets: npt.NDArray[np.int64], digest: str | None = None) -> None:
        if ids.dtype.newbyteorder("<").str not in _NAMES.values() or ids.ndim != 1:
            raise ArgumentError(f"ids must be one row of uint16 or int32, got {ids.dtype} of shape {ids.shape}")
        self.ids = ids
        self.offsets = offsets
        if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(ids) or bool((np.diff(offsets) < 0).any()):
            raise ArgumentError(f"offsets must rise from 0 to the number of tokens, {len(ids)}")
        if digest is None:
            seen = _Fingerprint(ids.dtype)
            seen.add(ids)
            digest = seen.finish(offsets)
        self.digest = digest

    @classmethod
    def from_lists(cls, documents: Iterable[Sequence[int]], dtype: npt.DTypeLike = np.uint16) -> TokenStore:
        """A store in memory.

        Raises:
            ArgumentError: a number does not fit `dtype`.
        """
        kind = _dtype(dtype)
        rows = [_as_ids(d, kind) for d in documents]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(r) for r in rows], out=offsets[1:])
        return cls(np.concatenate(rows) if rows else np.empty(0, kind), offsets)

    @classmethod
    def open(cls, folder: StrPath) -> TokenStore:
        """The finished store in a folder, memory-mapped.

        Raises:
            DataError: there is none, or its file is damaged.
        """
        path = Path(folder) / _FILE
        try:
            with open(path, "rb") as file:
                head = file.read(_HEAD)
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise DataError(f"{folder} holds no finished token store: {error.strerror or error}") from error
        try:
            said = json.loads(head.rstrip(b"\0"))
            if said["magic"] != _MAGIC:
                raise KeyError("magic")
            version, name, n_tokens, n_documents = (said[k] for k in ("version", "dtype", "tokens", "documents"))
            fingerprint = str(said["digest"])
            known = version != _VERSION or (name in _NAMES and n_tokens >= 0 and n_documents >= 0)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no token store of easylearn; delete it and make it again") from error
        if version != _VERSION or not known:
            raise DataError(
                f"{path} has version {version!r}, this easylearn reads {_VERSION}; delete it, make it again"
            )
        dtype = np.dtype(_NAMES[name])
        begin = _after(n_tokens, dtype)
        expected = begin + 8 * (n_documents + 1)
        if size != expected:
            raise DataError(f"{path} is damaged: it has {size} bytes, not {expected}; delete it and make it again")
        offsets = np.fromfile(path, "<i8", offset=begin).astype(np.int64)
        # An empty file region cannot be mapped.
        ids = np.memmap(path, dtype, "r", _HEAD, (n_tokens,)) if n_tokens else np.empty(0, dtype)
        try:
            return cls(cast(Ids, ids), offsets, fingerprint)
        except ArgumentError as error:
            raise DataError(f"{path} is damaged: {error}; delete it and make it again") from error

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per document, shape (documents,)."""
        return np.diff(self.offsets)

    @property
    def n_tokens(self) -> int:
        """Tokens in all documents."""
        return int(self.offsets[-1])

    def doc(self, i: int) -> Ids:
        """The numbers of one document: a view, not a copy."""
        if not 0 <= i < len(self):
            raise DataError(f"the store has documents 0 to {len(self) - 1}, but {i} was asked for")
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def __repr__(self) -> str:
        return f"TokenStore({len(self):,} documents, {self.n_tokens:,} tokens, {self.ids.dtype.name})"


class TokenWriter:
    """Writes documents to a store on disk, one after the other; what is in memory is 8 bytes per document.

    The file takes its name in `finish`. A crash before that leaves nothing that could be opened, and an older store
    of the folder as it was.

    Args:
        folder: where the store goes; it is made if it is missing.
        dtype: uint16 or int32; see `dtype_for`.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with TokenWriter(folder, "uint16") as writer:
    ...     writer.append_many([2, 8, 9, 2], [3, 1])
    ...     store = writer.finish()
    >>> store == TokenStore.open(folder), TokenStore.open(folder).doc(0).tolist()
    (False, [2, 8, 9])
    """

    def __init__(self, folder: StrPath, dtype: npt.DTypeLike) -> None:
        self.folder = Path(folder)
        self.dtype = _dtype(dtype)
        self._ends: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._n_tokens = 0
        self._seen = _Fingerprint(self.dtype)
        self._stack = ExitStack()
        part = self._stack.enter_context(atomic_write(self.folder / _FILE))
        self._file: BinaryIO | None = self._stack.enter_context(part.open("wb"))
        self._file.write(bytes(_HEAD))

    def append_many(self, ids: Sequence[int] | npt.NDArray[Any], lengths: Sequence[int] | npt.NDArray[Any]) -> None:
        """Add several documents.

        Args:
            ids: their numbers, one document after the other, shape (tokens,).
            lengths: tokens of each, shape (documents,).

        Raises:
            SaveError: the disk is full, say. Nothing of the store is left.
        """
        file = self._open_file()
        row, counts = _as_ids(ids, self.dtype), np.asarray(lengths, np.int64)
        if (counts.size and counts.min() < 0) or counts.sum() != len(row):
            raise ArgumentError(f"lengths must add up to the {len(row)} ids, but give {int(counts.sum())}")
        with self._all_or_nothing():
            file.write(row.data.cast("B"))
        self._seen.add(row)
        self._ends.append(self._n_tokens + np.cumsum(counts))
        self._n_tokens += len(row)

    def finish(self) -> TokenStore:
        """Give the file its name.

        Returns:
            The store, memory-mapped.
        """
        file = self._open_file()
        offsets = np.concatenate(self._ends)
        head = {
            "magic": _MAGIC, "version": _VERSION, "dtype": self.dtype.name, "tokens": self._n_tokens,
            "documents": len(offsets) - 1, "digest": self._seen.finish(offsets),
        }  # fmt: skip
        with self._all_or_nothing():
            file.write(bytes(_after(self._n_tokens, self.dtype) - _HEAD - self._n_tokens * self.dtype.itemsize))
            file.write(offsets.astype("<i8").data.cast("B"))
            file.seek(0)
            file.write(json.dumps(head).encode())
        self._file = None
        self._stack.close()
        return TokenStore.open(self.folder)

    def abandon(self) -> None:
        """Remove what was written so far."""
        if self._file is not None:
            self._file = None
            error = StateError("abandoned")
            with suppress(StateError):
                self._stack.__exit__(StateError, error, None)

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise StateError("this TokenWriter is finished; make a new one to write a store")
        return self._file

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Turn a failed write into a SaveError, and remove the unfinished file."""
        with ExitStack() as undo:
            undo.push(self._stack.__exit__)
            undo.callback(setattr, self, "_file", None)
            yield
            undo.pop_all()

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abandon()


class _Fingerprint:
    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._state = hashlib.blake2b(dtype.name.encode(), digest_size=16)

    def add(self, ids: npt.NDArray[Any]) -> None:
        step = 2**22  # a memory-mapped array passes in parts
        for i in range(0, len(ids), step):
            self._state.update(np.ascontiguousarray(ids[i : i + step]).data.cast("B"))

    def finish(self, offsets: npt.NDArray[np.int64]) -> str:
        self._state.update(np.ascontiguousarray(offsets.astype("<i8")).data.cast("B"))
        return self._state.hexdigest()


def _after(n_tokens: int, dtype: np.dtype[Any]) -> int:
    """Where the offsets begin: behind the ids, at a multiple of eight bytes."""
    return _HEAD + -(-n_tokens * dtype.itemsize // 8) * 8


def _dtype(given: npt.DTypeLike) -> np.dtype[Any]:
    name = np.dtype(given).name
    if name not in _NAMES:
        raise ArgumentError(f"dtype must be uint16 or int32, got {name}; dtype_for(len(vocab)) chooses")
    return np.dtype(_NAMES[name])


def _as_ids(ids: Sequence[int] | npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    given = np.asarray(ids)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ArgumentError(f"ids must be one row of whole numbers, got {given.dtype} of shape {given.shape}")
    if given.dtype == dtype or not given.size:
        return np.ascontiguousarray(given, dtype)
    low, high = int(given.min()), int(given.max())
    if low < 0 or high > np.iinfo(dtype).max:
        raise ArgumentError(f"ids must be from 0 to {np.iinfo(dtype).max} for {dtype.name}, got {low} to {high}")
    return np.ascontiguousarray(given, dtype)
