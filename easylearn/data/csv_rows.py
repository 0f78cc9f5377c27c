"""The rows of a csv file as text: unpacked, decoded, of one length, each known by the line in which it begins."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, EasyLearnWarning

_DELIMITERS = ",;\t|"
_PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_BLOCK = 2**16  # bytes
PIECE = 2**14  # rows
# Two code points that are no characters, so no text holds them.
_END, _RETURN = "\ufdd0", "\ufdd1"
_BETWEEN = "\0"


@dataclass(frozen=True)
class Piece:
    """Some rows of a csv file.

    Args:
        lines: for each row the line in which it begins; the first line of the file is 1.
        columns: by position, the cells of a column in one string, which takes a fifth of what a list of them takes.
    """

    lines: npt.NDArray[np.int64]
    columns: dict[int, str]

    @classmethod
    def join(cls, pieces: Sequence[Piece], used: Collection[int]) -> Piece:
        """All rows of several pieces."""
        lines = np.concatenate([np.empty(0, np.int64), *(p.lines for p in pieces)])
        return cls(lines, {j: _BETWEEN.join(p.columns[j] for p in pieces) for j in used})

    def cells(self, j: int) -> list[str]:
        """The cells of a column."""
        return self.columns[j].split(_BETWEEN) if len(self.lines) else []


class CsvRows:
    """A csv file with a header, whose rows are checked as they are read; blank lines are left out.

    Args:
        path: the file; packed ones (gzip, bzip2, xz, zip) are known by their first bytes.

    Raises:
        DataError: there is no such file, it is empty, or its bytes are no UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.delimiter = path, ","
        self.header_line, header = next(self._rows())
        self.names = [name.replace(_RETURN, "\r") or f"Unnamed: {i}" for i, name in enumerate(header)]  # as in pandas

    def pieces(self, used: Collection[int]) -> Iterator[Piece]:
        """Some columns of the rows below the header.

        Raises:
            DataError: a row has more fields than the header, or a quote never ends; the line is named.
        """
        rows, width, short = self._rows(), len(self.names), []
        next(rows)
        while True:
            lines, cells = [], []  # in one list: rows that are kept as lists of their own busy the garbage collector
            for line, row in islice(rows, PIECE):
                lines.append(line)
                cells += row
                if len(row) < width:
                    short.append(line)
                    cells += [""] * (width - len(row))
            if not lines:
                break
            columns = {j: _BETWEEN.join(cells[j::width]).replace(_RETURN, "\r") for j in used}
            if any(text.count(_BETWEEN) >= len(lines) for text in columns.values()):
                raise DataError(f"{self.path}, line {lines[0]} or later: there is a zero byte, which no text has")
            yield Piece(np.array(lines), columns)
        if short:
            warnings.warn(
                f"{self.path}: fewer fields than the header's {width} in {len(short)} of the lines, the first is line "
                f"{short[0]}; the fields at their end count as missing",
                EasyLearnWarning,
                stacklevel=4,
            )

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The header, then the rows, each with the line in which it begins."""
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # a document may be longer than the usual limit
        lines = self._lines()
        before, first = next(((i, line) for i, line in enumerate(lines) if line.strip()), (0, ""))
        self.delimiter = _usual_delimiter(first)
        reader = csv.reader(chain([first], lines, [_END]), delimiter=self.delimiter)
        begin, width = before + 1, 0
        try:
            for row in reader:
                if row and row[-1].endswith(_END):
                    if row != [_END]:
                        raise DataError(
                            f"{self.path}, line {begin}: a field begins with a quotation mark that is never closed; "
                            "close it, or double each mark that belongs to a text"
                        )
                elif len(row) == width > 0:
                    yield begin, row
                elif len(row) > width > 0:
                    raise DataError(
                        f"{self.path}, line {begin}: {len(row)} fields, but the header has {width}: "
                        f"{self.delimiter.join(row)[:60]!r}. Put a text with {self.delimiter!r} in it into quotation "
                        "marks, or complete the header"
                    )
                elif any(map(str.strip, row)) if not width else row and not (len(row) == 1 and row[0].isspace()):
                    width = width or len(row)
                    yield begin, row
                begin = before + reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{self.path}, line {begin}: this is no row of a csv file: {error}") from error
        if not width:
            raise DataError(f"{self.path} is empty; a csv file has a header line, and then one line per row")

    def _lines(self) -> Iterator[str]:
        """The file's lines with their ends; carriage returns inside of a line are hidden from the parser."""
        with _opened(self.path) as file:
            head = file.read(_BLOCK)
            file.seek(0)
            end = "\r" if b"\r" in head[:-1] and b"\n" not in head else "\n"  # the former by old Macs
            try:
                with io.TextIOWrapper(file, "utf-8-sig", newline=end) as text:
                    for line in text:
                        yield line if "\r" not in line[:-2] else line[:-2].replace("\r", _RETURN) + line[-2:]
            except UnicodeDecodeError as error:
                raise DataError(self._no_utf8()) from error

    def _no_utf8(self) -> str:
        """Which byte in which line is none, and what to do."""
        with _opened(self.path) as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    guess = "utf-16" if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "cp1252"
                    return (
                        f"{self.path}, line {number}: the byte 0x{line[error.start]:02x} is no UTF-8. Save it so, "
                        f"or pass the DataFrame that pandas.read_csv(path, encoding={guess!r}) gives"
                    )
        return f"{self.path} is no UTF-8"


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file, unpacked where it is packed."""
    try:
        with open(path, "rb") as file:
            begin = file.read(6)
        if begin.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX")]
                if len(names) != 1:
                    raise DataError(
                        f"{path} holds {len(names)} files, {', '.join(names[:5])}; unpack it and name one of them"
                    )
                with archive.open(names[0]) as member:
                    yield member
        else:
            opener = next((opener for magic, opener in _PACKED.items() if begin.startswith(magic)), open)
            with opener(path, "rb") as file:
                yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} cannot be read: {reason}") from error


def _usual_delimiter(line: str) -> str:
    """Which of the usual delimiters a line has most of, outside of quotes; a comma if it has none."""
    return max(_DELIMITERS, key=re.sub(r'"[^"]*"', "", line).count)
