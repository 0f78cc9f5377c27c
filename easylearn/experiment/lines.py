"""Files of JSON lines that only grow: each line ends with a sum over the rest of it, and a torn tail is ignored."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import StrPath

Row = dict[str, Any]
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(", ", ": ")).encode


def line_of(row: Mapping[str, Any]) -> str:
    r"""The line of a row: JSON whose last key is "sum"; what is no finite number becomes the text that `float` reads.

    >>> line_of({"step": 1, "loss": float("nan")})
    '{"step": 1, "loss": "nan", "sum": "183d39b4"}\n'
    """
    try:
        body = _encode(row)
    except ValueError:  # JSON has no NaN and no infinity
        body = _encode(_finite(row))
    return seal(body[:-1] + (", " if len(body) > 2 else ""))


def seal(start: str) -> str:
    """The line of a JSON object that is written as far as its last key, ending in a comma and a blank."""
    return f'{start}"sum": "{zlib.crc32(start.encode()):08x}"}}\n'


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def read_line(line: bytes) -> Row | None:
    """The row of a line, None if the line is not whole."""
    start, mark, end = line.rpartition(b'"sum": "')
    if not mark or len(end) != 11 or end[8:] != b'"}\n' or f"{zlib.crc32(start):08x}".encode() != end[:8]:
        return None
    row: Row = json.loads(line)
    del row["sum"]
    return row


def append_lines(path: StrPath, lines: Iterable[str], sync: bool = False) -> None:
    """Add lines to the end of a file with one writer, all or none; a torn tail that a crash left goes.

    Args:
        path: the file; it is made where there is none, its folder must be there.
        lines: of `line_of`.
        sync: wait until the disk has them.
    """
    text = "".join(lines).encode()
    if not text:
        return
    with open(path, "ab+", buffering=0) as file:
        size = file.tell()
        end = _last_newline(file, size)
        if end < size:
            file.truncate(end)
        try:
            done = 0
            while done < len(text):
                done += file.write(text[done:])
            if sync:
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(end)
            raise


def _last_newline(file: Any, end: int) -> int:
    """How long a file is up to its last whole line."""
    if end > 0:
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return end
    while end > 0:
        begin = max(0, end - 65536)
        file.seek(begin)
        found: int = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def read_lines(path: StrPath) -> Iterator[tuple[int, Row]]:
    """The rows of a file, each with where its line ends in bytes; nothing if there is no file, no torn tail.

    Raises:
        DataError: a line is damaged that whole ones follow, so that no crash of a writer explains it.
    """
    with suppress(FileNotFoundError), open(path, "rb") as file:
        place, damaged = 0, 0
        for number, line in enumerate(file, 1):
            place += len(line)
            row = read_line(line)
            if row is None:
                damaged = damaged or number
                continue
            if damaged:
                raise DataError(
                    f"line {damaged} of {path} is damaged, and whole lines follow it: the file was changed after it "
                    "was written. Restore it, or delete that line"
                )
            yield place, row


def cut_lines(path: StrPath, end: int) -> None:
    """Shorten a file to its first `end` bytes, where `read_lines` said that a line ends."""
    if Path(path).exists() and os.path.getsize(path) > end:
        os.truncate(path, end)
