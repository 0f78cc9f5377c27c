"""Places: files and folders elsewhere (object stores, other machines), found and opened in one way.

Addresses look like `s3://bucket/table`. What pyarrow knows (S3, Google's and Azure's stores, HDFS) it opens by itself,
everything else goes through fsspec. A part of what is read may be kept on this machine's disk.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import ArgumentError, DataError
from ..files import StrPath, atomic_write, cache_dir, digest, is_part
from .claims import FILE, byte_of, claims_in

MOST_COPIED = 64 * 2**30  # bytes of a folder elsewhere that is copied as a whole
AT_ONCE = 8  # files that are copied at the same time
PATIENCE = 86400.0  # seconds that a process waits for another that lives, and copies the same
NATIVE = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file", "mock")
"""Kinds of addresses that pyarrow opens by itself."""


def is_elsewhere(path: object) -> TypeGuard[str]:
    """Whether it is an address, and no path of this machine.

    >>> is_elsewhere("s3://bucket/table.parquet"), is_elsewhere("table.parquet")
    (True, False)
    """
    return isinstance(path, str) and "://" in path


@dataclass(frozen=True)
class Place:
    """A file or a folder elsewhere.

    Args:
        system: a `pyarrow.fs.FileSystem`.
        path: in it.
        url: the address, for messages, without a password.
    """

    system: Any
    path: str
    url: str

    @classmethod
    def of(cls, url: str) -> Place:
        """The place of an address.

        Raises:
            ArgumentError: pyarrow or fsspec is not installed, or knows no such kind of address.
            DataError: it is one of the web.
        """
        kind, given = url.split("://", 1)[0].lower(), url
        url = re.sub(r"(?<=://)([^/?:@]*):[^/?]*@", r"\1@", url)  # a password is for no message and no log
        if kind in ("http", "https", "ftp"):
            raise DataError(
                f"{url} is no file of this machine, and such a server does not say what it holds or what has changed; "
                "download it, or give the address of an object store (s3://, gs://, ...)"
            )
        try:
            from pyarrow import ArrowException, fs

            if kind in NATIVE:
                native, path = fs.FileSystem.from_uri(given)
                return cls(native, path, url)
            import fsspec
        except ImportError as error:
            raise ArgumentError(
                f"reading {url} needs {error.name}, which is not installed: pip install 'easylearn[remote]'"
            ) from error
        except (ArrowException, OSError, ValueError) as error:
            raise ArgumentError(f"{url} is no address that pyarrow can open: {error}") from error
        try:
            system, path = fsspec.core.url_to_fs(given)
        except (ImportError, OSError, ValueError) as error:
            raise ArgumentError(f"{url} is no address that fsspec can open: {error}") from error
        return cls(fs.PyFileSystem(fs.FSSpecHandler(system)), path, url)

    def __str__(self) -> str:
        return self.url

    def files(self, suffix: str) -> list[Place]:
        """The file itself, or those of the folder whose names have an ending, in the order of their names.

        Raises:
            DataError: there is no such file or folder, or it cannot be reached.
        """
        from pyarrow import fs

        info = self.info()
        if info.type == fs.FileType.File:
            return [self]
        try:
            found = self.system.get_file_info(fs.FileSelector(self.path))
        except OSError as error:
            raise DataError(f"{self.url} cannot be read: {error}") from error
        names = sorted(i.base_name for i in found if i.type == fs.FileType.File and i.base_name.endswith(suffix))
        folder, url = self.path.rstrip("/"), self.url.split("?", 1)
        more = "".join(f"?{asked}" for asked in url[1:])
        return [Place(self.system, f"{folder}/{name}", f"{url[0].rstrip('/')}/{name}{more}") for name in names]

    def identity(self) -> str:
        """What tells this file, in this state, from all others."""
        info = self.info()
        return f"{self.url.split('?', 1)[0]}\x1f{info.size}\x1f{info.mtime_ns}"

    def info(self) -> Any:
        """What kind of thing is there, its size and its time of change: a `pyarrow.fs.FileInfo`."""
        from pyarrow import fs

        try:
            info = self.system.get_file_info(self.path)
        except OSError as error:
            raise DataError(f"{self.url} cannot be reached: {error}") from error
        if info.type == fs.FileType.NotFound:
            raise DataError(f"there is no file or folder {self.url}; look at the address, and at who may read it")
        return info


def copied(url: str) -> Path:
    """A file or a folder elsewhere as one of this machine, in the folder of caches: what is not there yet is fetched.

    Images and texts are many small files that are read again and again; tables of parquet are read where they are.

    Raises:
        ArgumentError, DataError: as of `Place`; or there is more than `MOST_COPIED` or the disk hold.
    """
    from pyarrow import fs

    place = Place.of(url)
    info, base = place.info(), cache_dir() / "remote" / f"copy_{digest([url])}"
    home, found = base, {info.base_name: info}
    if info.type == fs.FileType.Directory:
        home, cut = base / info.base_name, len(info.path.rstrip("/")) + 1
        below = place.system.get_file_info(fs.FileSelector(info.path, recursive=True))
        found = {i.path[cut:]: i for i in below if i.type == fs.FileType.File}
    inside = os.path.normpath(home) + os.sep
    if odd := [name for name in found if not os.path.normpath(home / name).startswith(inside)]:
        raise DataError(
            f"{place} holds {odd[0]!r}, a name that leads out of the folder: nothing was copied; rename it there"
        )
    home.mkdir(parents=True, exist_ok=True)
    with claims_in(base).hold(byte_of(url), PATIENCE):  # the processes of a script want the same at the same time
        _follow(place, found, home)
    return home / info.base_name if info.type == fs.FileType.File else home


def _follow(place: Place, found: dict[str, Any], home: Path) -> None:
    """Make a folder of this machine hold the files that were `found` at a place, and no others."""
    known = {*found, FILE}
    for file in [f for f in home.rglob("*") if f.is_file() and f.relative_to(home).as_posix() not in known]:
        with suppress(FileNotFoundError):
            if not is_part(file) or time.time() - file.stat().st_mtime > PATIENCE:  # where no locks hold, others write
                file.unlink()  # it is gone there, too
    missing = {name: i for name, i in found.items() if not _is_copy(home / name, i)}
    needed, room = sum(i.size or 0 for i in missing.values()), shutil.disk_usage(home).free
    if needed > room or sum(i.size or 0 for i in found.values()) > MOST_COPIED:
        raise DataError(
            f"{place} has {needed / 2**30:.1f} GiB to copy to {home}, where {room / 2**30:.1f} GiB are free, of at "
            f"most {MOST_COPIED / 2**30:.0f} GiB for a folder: set EASYLEARN_CACHE to a larger disk, or train on a part"
        )

    def fetch(name: str) -> None:
        try:
            with place.system.open_input_stream(found[name].path) as source, atomic_write(home / name) as temporary:
                with open(temporary, "wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
            if (changed := found[name].mtime_ns) is not None:
                os.utime(home / name, ns=(changed, changed))
        except OSError as error:
            raise DataError(f"{place}: {name} cannot be copied to {home}: {error}") from error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, missing))


def _is_copy(file: Path, info: Any) -> bool:
    """Whether a file was copied from what `info` tells of."""
    try:
        here = file.stat()
    except OSError:
        return False
    return here.st_size == info.size and info.mtime_ns in (None, here.st_mtime_ns)


class Shelf:
    """Tables that were read from elsewhere, kept on this machine's disk up to a limit.

    In training every row group comes once an epoch, in another order: whatever is put out to make room is as likely to
    come next as what takes its place. So what is there stays, and only what other tables have left there gives way.

    Args:
        table: what tells the table from all others.
        limit: bytes on disk that all shelves may take together, roughly: processes do not wait for each other.
        folder: where; None is the folder of caches.
    """

    def __init__(self, table: str, limit: int, folder: StrPath | None = None) -> None:
        self.limit = limit
        self.folder = Path(cache_dir() / "remote" if folder is None else folder)
        self._name = digest([table])

    def get(self, key: str, read: Callable[[], Any]) -> Any:
        """The `pyarrow.Table` that is kept under a key, or what `read` gives, which is kept if there is room."""
        import pyarrow as pa

        file = self.folder / f"{self._name}_{digest([key])}.arrow"
        with suppress(OSError, pa.ArrowException):  # there is none, or another process has just put it out
            with pa.OSFile(str(file)) as source:
                return pa.ipc.open_file(source).read_all()
        table = read()
        packed = pa.ipc.IpcWriteOptions(compression="lz4" if pa.Codec.is_available("lz4") else None)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema, options=packed) as writer:
            writer.write_table(table)
        content = sink.getvalue()
        with suppress(OSError):  # a full disk, say: the table is here
            if self._make_room(content.size):
                with atomic_write(file) as temporary:
                    temporary.write_bytes(content)
        return table

    def _make_room(self, size: int) -> bool:
        """Whether so many bytes fit in, now that as few as possible of other tables are put out."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = []
        for entry in os.scandir(self.folder):
            with suppress(OSError):
                info = entry.stat()
                kept.append((entry.name.startswith(self._name), info.st_mtime, info.st_size, entry.path))
        taken = sum(each[2] for each in kept)
        for own, _, bytes_of_it, path in sorted(kept):
            if own or taken + size <= self.limit:
                break
            with suppress(OSError):
                os.unlink(path)
                taken -= bytes_of_it
        return taken + size <= self.limit
