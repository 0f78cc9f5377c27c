"""Texts as numbers: those of all documents one after the other, in memory or in a memory-mapped file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..data.claims import Claims, byte_of, claims_in
from ..errors import DataError, SaveError
from ..files import cache_dir

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

IN_MEMORY = 64 * 2**20  # bytes of numbers above which they go to a file
NOTE = "note.json"  # written last, so a store without one is not finished
ORPHANED = 86_400.0  # seconds after which a folder that nobody claims is one of a process that was killed
_PIECE = 2**18  # tokens that are looked at together
_IDS, _OFFSETS = "tokens.bin", "offsets.npy"


def dtype_for(n_tokens: int) -> np.dtype[Any]:
    """The smallest type for the numbers of a vocabulary of that size: uint16, else int32."""
    return np.dtype("<u2" if n_tokens <= 2**16 else "<i4")


class TokenStore:
    """Documents as numbers, one after the other, and how many each has; in memory or memory-mapped."""

    def __init__(self, ids: Ids, lengths: Ints, digest: str | None = None) -> None:
        self.ids = ids
        self.offsets: Ints = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        if self.n_tokens != len(ids) or bool((lengths < 0).any()):
            raise DataError(f"the lengths of the documents must add up to the {len(ids)} tokens, not {self.n_tokens}")
        self._digest = digest

    @classmethod
    def open(cls, folder: Path, dtype: np.dtype[Any], digest: str | None = None) -> TokenStore:
        """The memory-mapped store in a folder of the cache; its files must fit each other."""
        ids = np.memmap(folder / _IDS, dtype, "r")
        return cls(cast(Ids, ids), np.diff(np.load(folder / _OFFSETS, allow_pickle=False)), digest)

    @property
    def lengths(self) -> Ints:
        """Tokens per document, shape (documents,)."""
        return np.diff(self.offsets)

    @property
    def n_tokens(self) -> int:
        """Tokens in all documents."""
        return int(self.offsets[-1])

    @property
    def digest(self) -> str:
        """A fingerprint of the contents."""
        if self._digest is None:
            state = hashlib.blake2b(self.ids.dtype.name.encode(), digest_size=16)
            for ids, _ in self.pieces():
                state.update(np.ascontiguousarray(ids).data.cast("B"))
            state.update(self.offsets.astype("<i8").data.cast("B"))
            self._digest = state.hexdigest()
        return self._digest

    def doc(self, i: int) -> Ids:
        """The numbers of one document: a view, not a copy."""
        if not 0 <= i < len(self):
            raise DataError(f"the store has documents 0 to {len(self) - 1}, but {i} was asked for")
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def pieces(self) -> Iterator[tuple[Ids, Ints]]:
        """All documents, a few at a time: their numbers one after the other, and how many each has."""
        begin, lengths = 0, self.lengths
        while begin < len(self):
            end = max(int(np.searchsorted(self.offsets, self.offsets[begin] + _PIECE, "right")) - 1, begin + 1)
            yield self.ids[self.offsets[begin] : self.offsets[end]], lengths[begin:end]
            begin = end

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return f"TokenStore({len(self):,} documents, {self.n_tokens:,} tokens, {self.ids.dtype.name})"


class TokenWriter:
    """Takes the numbers of documents: in memory while they are few, then in a file of the cache folder.

    A `key` names the file, so that `TokenStore.open` finds it again; without one it goes with its store.
    """

    def __init__(self, dtype: np.dtype[Any], key: str | None = None) -> None:
        self._dtype, self._key = dtype, key
        self._rows: list[Ids] = []  # that are in no file
        self._lengths: list[Ints] = [np.zeros(0, np.int64)]
        self._bytes = 0
        self._folder: Path | None = None
        self._claims: Claims | None = None  # on the folder, as long as it has no name of its own

    def add(self, ids: Ids, lengths: Ints) -> None:
        """Add several documents: their numbers one after the other, and how many each has."""
        self._rows.append(ids)
        self._lengths.append(lengths)
        self._bytes += ids.nbytes
        if self._bytes > IN_MEMORY:
            with _saving() as place:
                if self._folder is None:
                    self._folder, self._claims = _new_folder(place)
                with open(self._folder / _IDS, "ab") as file:
                    for row in self._rows:
                        file.write(np.ascontiguousarray(row).data.cast("B"))
            self._rows = []

    def finish(self, note: Mapping[str, Any] | None = None) -> TokenStore:
        """The store; where it is in a file with a name, `note` and the store's digest are written beside it."""
        lengths = np.concatenate(self._lengths)
        if self._folder is None:
            rows, self._rows = self._rows, []
            return TokenStore(np.concatenate([np.empty(0, self._dtype), *rows]), lengths)
        with _saving() as place:
            folder = self._folder
            np.save(folder / _OFFSETS, np.concatenate(([0], np.cumsum(lengths))), allow_pickle=False)
            if self._key is not None:
                with open(folder / _IDS, "rb+") as file:
                    os.fsync(file.fileno())
                digest = TokenStore.open(folder, self._dtype).digest
                (folder / NOTE).write_text(json.dumps({"digest": digest, **(note or {})}), encoding="utf-8")
                self._folder = self._named(folder, place / self._key, digest)
            store = TokenStore.open(self._folder, self._dtype)
            if self._folder == folder:
                weakref.finalize(store, _drop, folder, self._claims)
            else:
                _drop(folder, self._claims)
        self._folder = None
        return store

    def _named(self, folder: Path, name: Path, digest: str) -> Path:
        """Give a finished folder its name, or take the one that another process has made meanwhile, if it is the same.

        Nothing that is whole is removed: somebody may be about to open it.
        """
        for _ in range(2):
            with suppress(OSError):  # it is there
                return folder.rename(name)
            with suppress(OSError, ValueError, KeyError, TypeError, DataError):
                if json.loads((name / NOTE).read_text(encoding="utf-8"))["digest"] == digest:
                    TokenStore.open(name, self._dtype)
                    return name
            with suppress(OSError):  # it is damaged
                shutil.rmtree(name.rename(folder.with_name(f"{folder.name}-old")), ignore_errors=True)
        return folder

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._folder is not None:
            _drop(self._folder, self._claims)


def _new_folder(place: Path) -> tuple[Path, Claims]:
    """A folder that is claimed until this process ends; those of processes that were killed are removed."""
    place.mkdir(parents=True, exist_ok=True)
    claims = claims_in(place.parent)
    for old in place.glob("tmp*"):
        with suppress(OSError):
            last = max(f.stat().st_mtime for f in (old, *old.iterdir()))
            if time.time() - last > ORPHANED and claims.take(byte_of(old.name)):
                _drop(old, claims)
    folder = Path(tempfile.mkdtemp(dir=place))
    claims.take(byte_of(folder.name))
    return folder, claims


def _drop(folder: Path, claims: Claims | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if claims is not None:
        claims.give_back(byte_of(folder.name))


@contextmanager
def _saving() -> Iterator[Path]:
    """The cache's folder of stores; a write that fails says what to do about it."""
    place = cache_dir() / "tokens"
    try:
        yield place
    except OSError as error:
        raise SaveError(
            error.errno,
            f"could not write tokens into {place}: {error.strerror or error}. Free some space, or set EASYLEARN_CACHE "
            "to another folder",
        ) from error
