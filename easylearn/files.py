"""Files that are whole or not there at all, and the place where caches live."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError, SaveError, SchemaError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

StrPath = str | os.PathLike[str]
TICK = 0.02  # seconds within which a file system may give two changes of a file the same time


def as_path(given: Any, what: str) -> Path:
    """`given` as a Path, or an error that says that it should have been that of `what`.

    >>> as_path("photos", "a folder").name
    'photos'
    """
    if isinstance(given, str | os.PathLike):
        return Path(given)
    raise ArgumentError(f"expected the path of {what}, as text or a Path, got {type(given).__name__}: {given!r:.60}")


@contextmanager
def atomic_write(path: StrPath) -> Iterator[Path]:
    """Give a temporary file beside `path`; on success it takes the name of `path`, on failure it goes.

    The data reaches the disk (fsync) before the name does, so a crash or a full disk, a SaveError, leaves the old file
    whole. A missing folder is made.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_write(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    target = as_path(path, "a file to write")
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = part_of(target)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        reason: BaseException = error
        while isinstance(reason, SaveError) and isinstance(reason.__cause__, OSError):  # of a file within the writing
            reason = reason.__cause__
        said = f"could not write {target}: {getattr(reason, 'strerror', None) or reason}"
        if target.is_dir():
            raise SaveError(error.errno, f"could not write {target}: it is a folder. Name a file in it") from error
        state = "the file that was there is unchanged" if target.exists() else "no file was made"
        raise SaveError(
            error.errno, f"{said}; {state}. Free some space or choose another folder, and save again"
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def part_of(path: Path) -> Path:
    """A new, empty file beside `path`, which is to take its name once it is whole.

    It is as readable as any other file, which those of `tempfile` are not. Nobody asks for the umask, since that is to
    set it: of two threads that do so at once, one would leave the process without any.
    """
    part = path.parent / f".{path.name}.{secrets.token_hex(5)}.part"
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return part


def is_part(path: Path) -> bool:
    """Whether a file has such a name as `part_of` gives."""
    return path.name.startswith(".") and path.suffix == ".part"


def write_tensors(path: StrPath, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write a safetensors file, whole or not at all; gives its path.

    Args:
        path: the file to create or replace.
        tensors: by name; those that share memory are written apart, as the format wants.
        metadata: of the file's header.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    owned: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, given in tensors.items():
        tensor = given.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        owned[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    with atomic_write(path) as temporary:
        try:
            save_file(owned, temporary, metadata=dict(metadata))
        except SafetensorError as error:  # its own name for a full disk
            raise OSError(None, str(error)) from error
    return Path(path)


def read_tensors(
    path: StrPath, key: str, schema: int, with_tensors: bool = True
) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """What a safetensors file holds under `key` in its header, None if nothing, and its tensors.

    Raises:
        WeightsError: the file is damaged, or has another header; a SchemaError if its schema is above `schema`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {}).get(key, "null"))
            tensors = {name: opened.get_tensor(name) for name in (opened.keys() if with_tensors else ())}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); it was cut short or is something else"
        ) from error
    if header is not None and not (isinstance(header, dict) and isinstance(header.get("schema"), int)):
        raise WeightsError(f"{path} has a header that easylearn did not write: {str(header)[:100]}")
    if header is not None and header["schema"] > schema:
        raise SchemaError(
            f"{path} was written by a newer easylearn (schema {header['schema']}); update easylearn to read it"
        )
    return header, tensors


def cache_dir() -> Path:
    """Where caches go: `$EASYLEARN_CACHE`, else the user's cache folder. Deleting it is always safe."""
    given = os.environ.get("EASYLEARN_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "easylearn"


def cache_limit(usual: int) -> int:
    """Bytes that what is kept in a folder of the caches may take: `$EASYLEARN_CACHE_GB` (10**9 each), else `usual`."""
    given = os.environ.get("EASYLEARN_CACHE_GB")
    with suppress(ValueError):
        if not given or 0 < float(given) < float("inf"):
            return int(float(given) * 1e9) if given else usual
    raise ArgumentError(f"the environment variable EASYLEARN_CACHE_GB is a number of GB above 0, got {given!r}")


def mapped_copy(fd: int, size: int) -> mmap.mmap:
    """The first `size` bytes of a file, mapped; changes to them do not reach it, and no memory is kept for them.

    Linux refuses a plain copy-on-write mapping of more bytes than all memory has.
    """
    if sys.platform == "linux":
        return mmap.mmap(fd, size, mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000))
    return mmap.mmap(fd, size, access=mmap.ACCESS_COPY)


def digest(parts: Iterable[str | bytes | memoryview]) -> str:
    """A hexadecimal fingerprint (blake2b, 128 bits) of the parts, in their order.

    >>> digest(["a", "b"]) == digest(["ab"])
    False
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        # Names of files may be no UTF-8.
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def file_identity(path: StrPath) -> str:
    """What makes a file the same file as before: its absolute path, size and time of change."""
    info = os.stat(path)
    return f"{os.path.abspath(path)}\x1f{info.st_size}\x1f{info.st_mtime_ns}"


def file_keys(paths: Sequence[StrPath]) -> list[str]:
    """What each file is now: where it is, its size, and its times of change.

    `st_ctime` tells also a file that was replaced and given the old size and time. A file that has just been written
    may change once more within the same tick of the clock: that tick is waited for.
    """
    for _ in range(10):
        now = time.time_ns()
        infos = [os.stat(path) for path in paths]
        ages = (now - max(info.st_mtime_ns, info.st_ctime_ns) for info in infos)
        if not any(0 <= age < TICK * 1e9 for age in ages):
            break
        time.sleep(TICK)
    names = (os.path.abspath(path) for path in paths)
    return [
        digest([f"{name}\x1f{i.st_size}\x1f{i.st_mtime_ns}\x1f{i.st_ctime_ns}"])
        for name, i in zip(names, infos, strict=True)
    ]
