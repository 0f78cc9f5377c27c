"""A csv file as rows of bytes: in which line each begins, and what a parser would spoil in silence.

pandas parses, but it pads or shifts rows of another length than the header, and reads 01234 as 1234. So the bytes are
looked at first, in blocks that fit a processor's cache; then pandas is told which columns are text.
"""

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
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, EasyLearnWarning

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

BLOCK = 2**20  # bytes that are looked at together; larger ones leave the processor's cache
_DELIMITERS = ",;\t|"
_NEWLINE, _RETURN, _QUOTE, _PLUS, _MINUS, _DOT, _ZERO = b'\n\r"+-.0'
_BEFORE_NUMBER = np.isin(np.arange(256), list(b' \t"-+'))  # what may stand before the digits of a number


@dataclass(frozen=True)
class CsvFormat:
    """How a csv file is written.

    Args:
        delimiter: what stands between fields; None takes what the header has: a comma, semicolon, tab or bar.
        encoding: of the file; None is UTF-8, and messages then speak of no argument that changes it.
        errors: what becomes of bytes that are not of that encoding: "strict" (refused), "replace" or "ignore".
    """

    delimiter: str | None = None
    encoding: str | None = None
    errors: str = "strict"

    def __post_init__(self) -> None:
        given = self.delimiter
        if given is not None and (len(given) != 1 or not given.isascii() or given in '"\r\n'):
            raise ArgumentError(f"delimiter must be one ASCII character, such as ',' or ';', got {given!r}")
        if self.errors not in ("strict", "replace", "ignore"):
            raise ArgumentError(f"errors must be 'strict', 'replace' or 'ignore', got {self.errors!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError as error:
            raise ArgumentError(
                f"there is no encoding {self.encoding!r}; 'utf-8', 'latin-1' and 'cp1252' are usual"
            ) from error


@dataclass(frozen=True)
class Piece:
    """Some whole rows of a csv file; blank lines are left out.

    Args:
        data: their bytes in UTF-8, each row with a newline at its end and no carriage return before that.
        lines: for each row the line in which it begins; the first line of the file is 1.
        no_numbers: columns in which something looks like a number that a parser would change: 01234, +49.
    """

    data: bytes
    lines: Places
    no_numbers: frozenset[int]

    @classmethod
    def join(cls, pieces: Sequence[Piece]) -> Piece:
        """All rows of several pieces."""
        return cls(
            b"".join(p.data for p in pieces),
            np.concatenate([np.empty(0, np.int64), *(p.lines for p in pieces)]),
            frozenset().union(*(p.no_numbers for p in pieces)),
        )


class CsvRows:
    """The rows of a csv file with a header, checked as they are read.

    Args:
        path: the file; gzip, bzip2, xz and zip are known by their first bytes.
        form: how it is written.

    Raises:
        DataError: there is no such file, it is empty, or its bytes are not of the encoding.
    """

    def __init__(self, path: Path, form: CsvFormat) -> None:
        self.path, self.form = path, form
        head, cells, rest = b"", [""], self._blocks()
        for block in rest:
            head += block
            self.delimiter = form.delimiter or _usual_delimiter(head)
            try:
                cells, self._begin, self.first_line = _header(head, self.delimiter)
            except csv.Error as error:
                raise DataError(f"{path}: the first line cannot be the header of a csv file: {error}") from error
            if self._begin < len(head):
                break
        rest.close()
        if not head.strip():
            raise DataError(f"{path} is empty; a csv file has a header line, and then one line per row")
        self.names = [name or f"Unnamed: {i}" for i, name in enumerate(cells)]  # as pandas calls them

    def pieces(self) -> Iterator[Piece]:
        """The rows below the header, in pieces of about a megabyte.

        Raises:
            DataError: a row has more fields than the header, or a quote never ends; the line is named.
        """
        skip, line, waiting, enough = self._begin, self.first_line, b"", 0
        short: list[int] = []
        for block in self._blocks():
            waiting += block[skip:]
            skip = max(skip - len(block), 0)
            if len(waiting) < enough:
                continue
            piece, stop, line = self._scan(waiting, line, short)
            if stop:
                yield piece
            # A field longer than this is looked at again when there is twice as much: not once per block.
            waiting, enough = waiting[stop:], 0 if stop else 2 * len(waiting)
        if waiting:
            piece, stop, after = self._scan(waiting if waiting.endswith(b"\n") else waiting + b"\n", line, short)
            if stop < len(waiting):
                raise DataError(
                    f"{self.path}, line {after}: a field begins with a quotation mark that is never closed; close it, "
                    "or double each mark that belongs to a text"
                )
            yield piece
        if short:
            warnings.warn(
                f"{self.path}: fewer fields than the header's {len(self.names)} in {len(short)} of the lines, the "
                f"first is line {short[0]}; the fields at their end count as missing",
                EasyLearnWarning,
                stacklevel=4,
            )

    def _blocks(self) -> Generator[bytes, None, None]:
        """The file's bytes, unpacked, in UTF-8 and without a byte order mark."""
        encoding = codecs.lookup(self.form.encoding or "utf-8").name
        decoder = codecs.getincrementaldecoder(encoding)(self.form.errors)
        as_it_is = encoding == "utf-8" and self.form.errors == "strict"
        done, first, old_mac = 0, True, False
        with _opened(self.path) as file:
            block = b" "
            while block:
                block = given = file.read(BLOCK)
                try:
                    if not (as_it_is and block.isascii() and block and not decoder.getstate()[0]):
                        text = decoder.decode(block, final=not block)
                        given = block if as_it_is else text.encode("utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(self._not_of_encoding(error, done)) from error
                done += len(block)
                if first:
                    given, first = given.removeprefix(codecs.BOM_UTF8), False
                    old_mac = b"\r" in given[:-1] and b"\n" not in given
                yield given.replace(b"\r", b"\n") if old_mac else given

    def _not_of_encoding(self, error: UnicodeDecodeError, done: int) -> str:
        """The message, where `done` bytes were read before those that the error is about."""
        with _opened(self.path) as file:
            line = 1 + file.read(done + error.start).count(b"\n")
        guess = "utf-16" if not done and error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "cp1252"
        if self.form.encoding is None:
            advice = f"Save it as UTF-8, or pass the DataFrame that pandas.read_csv(path, encoding={guess!r}) gives"
        else:
            advice = f"Name the file's encoding, maybe encoding={guess!r}, or pass errors='replace'"
        called = (self.form.encoding or "utf-8").upper()
        return f"{self.path}, line {line}: the byte 0x{error.object[error.start]:02x} is no {called}. {advice}"

    def _scan(self, data: bytes, line: int, short: list[int]) -> tuple[Piece, int, int]:
        """The whole rows in `data`, where they end, and the line in which what follows begins."""
        n, b = len(self.names), np.frombuffer(data, np.uint8)
        newlines = ends = b == _NEWLINE
        marks = newlines | (b == ord(self.delimiter))
        if b'"' in data:
            outside = ~_inside(b, b == _QUOTE, marks)
            ends, marks = newlines & outside, marks & outside
        row_end = np.flatnonzero(ends)
        stop = int(row_end[-1]) + 1 if len(row_end) else 0
        b, marks, data = b[:stop], marks[:stop], data[:stop]
        begins = np.concatenate([[0], row_end + 1])[:-1]
        lines = np.arange(line, line + len(row_end))
        line += len(row_end)
        if ends is not newlines and (every := np.count_nonzero(newlines[:stop])) > len(row_end):  # some are in texts
            lines = lines[:1] + np.searchsorted(np.flatnonzero(newlines), begins)
            line += every - len(row_end)
        places = np.flatnonzero(marks)
        at_end, blank = np.arange(n - 1, len(places), n), []
        if n == 1 or len(places) != n * len(row_end) or (places[at_end] != row_end).any():
            at_end = np.searchsorted(places, row_end)
            blank = self._check(data, lines, begins, row_end, np.diff(at_end, prepend=-1), short)
        no_numbers = _no_numbers(data, b, marks, places, at_end)
        returns = row_end[b[row_end - 1] == _RETURN] - 1 if b"\r" in data else row_end[:0]
        if len(returns) or blank:
            keep = np.ones(stop, bool)
            keep[returns] = False
            for row in blank:
                keep[begins[row] : row_end[row] + 1] = False
            data, lines = b[keep].tobytes(), np.delete(lines, blank)
        return Piece(data, lines, no_numbers), stop, line

    def _check(
        self, data: bytes, lines: Places, begins: Places, row_end: Places, fields: Places, short: list[int]
    ) -> list[int]:
        """The blank rows; refuses a row with more fields than the header, and notes those with fewer."""
        n = len(self.names)
        odd = fields != n
        if n == 1:
            odd |= row_end - begins <= 1
        blank = []
        for row in np.flatnonzero(odd).tolist():
            given = data[begins[row] : row_end[row]]
            if fields[row] > n:
                raise DataError(
                    f"{self.path}, line {lines[row]}: {fields[row]} fields, but the header has {n}: "
                    f"{given[:60].decode('utf-8', 'replace')!r}. Put a text with {self.delimiter!r} in it into "
                    "quotation marks, or complete the header"
                )
            if not (given.strip() if n > 1 else given.strip(b"\r")):
                blank.append(row)
            elif fields[row] < n:
                short.append(int(lines[row]))
        return blank


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file, unpacked where it is packed."""
    try:
        with open(path, "rb") as file:
            begin = file.read(6)
            file.seek(0)
            if begin[:2] == b"\x1f\x8b":
                yield gzip.GzipFile(fileobj=file)  # type: ignore[misc]
            elif begin[:3] == b"BZh":
                yield bz2.BZ2File(file)  # type: ignore[misc]
            elif begin == b"\xfd7zXZ\x00":
                yield lzma.LZMAFile(file)  # type: ignore[misc]  # noqa: SIM115
            elif begin[:4] == b"PK\x03\x04":
                with zipfile.ZipFile(file) as archive, archive.open(_only_member(path, archive)) as member:
                    yield member
            else:
                yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} cannot be read: {reason}") from error


def _only_member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX")]
    if len(names) != 1:
        raise DataError(f"{path} holds {len(names)} files, {', '.join(names[:5])}; unpack it and name one of them")
    return names[0]


def _usual_delimiter(head: bytes) -> str:
    """Which of the usual delimiters the first line has most of, outside of quotes; a comma if it has none."""
    first = re.split(rb"[\r\n]", head.lstrip(), maxsplit=1)[0].decode("utf-8", "replace")
    bare = re.sub(r'"[^"]*"', "", first)
    return max(_DELIMITERS, key=bare.count)


def _header(head: bytes, delimiter: str) -> tuple[list[str], int, int]:
    """The first row that is no blank line, how many bytes it and what is before it take, and the line after it."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for line in io.StringIO(head.decode("utf-8", "ignore"), newline="\n"):
            taken += len(line.encode("utf-8"))
            yield line

    reader = csv.reader(lines(), delimiter=delimiter)
    cells = next((row for row in reader if any(cell.strip() for cell in row)), [])
    return cells, taken, 1 + reader.line_num


def _inside(b: Bytes, quotes: Bools, marks: Bools) -> Bools:
    """Which bytes are inside of quotes: a mark opens at the beginning of a field only, and a doubled one is a text's.

    Args:
        b: bytes from the beginning of a row on.
        quotes: where quotation marks are.
        marks: where delimiters and newlines are.
    """
    at = np.flatnonzero(quotes)
    before = np.where(at > 0, marks[at - 1], True)
    opening = at[::2]
    if (before[::2] | ((opening > 0) & quotes[opening - 1])).all():
        kept = quotes  # every second mark closes; a doubled one closes and opens again
    else:
        kept = np.zeros(len(b), bool)
        kept[_that_count(at, before)] = True
    inside: Bools = np.bitwise_xor.accumulate(kept.view(np.uint8)).view(np.bool_)
    return inside


def _that_count(at: Places, before: Bools) -> list[int]:
    """The quotation marks that open or close a field; others are letters of a field that has none at its beginning."""
    kept: list[int] = []
    inside, doubled = False, -1
    places = at.tolist()
    for place, begins, after in zip(places, before.tolist(), [*places[1:], -1], strict=True):
        if place == doubled:
            continue
        if inside and after == place + 1:
            doubled = after
        elif inside or begins:
            inside = not inside
            kept.append(place)
    return kept


def _no_numbers(data: bytes, b: Bytes, marks: Bools, places: Places, at_end: Places) -> frozenset[int]:
    """The columns with a field that begins with a zero before another digit, or with a plus.

    Args:
        data: whole rows.
        b: the same as numbers.
        marks: where their delimiters and ends are.
        places: the same as positions.
        at_end: which of those end a row.
    """
    # Most bytes are ruled out by their neighbours: what is below the number that is subtracted wraps around.
    zero = b[:-1] == _ZERO
    zero &= (b[1:] - _ZERO) < 10
    zero[1:] &= (b[:-2] - _DOT) >= 12  # neither a dot, nor a slash, nor a digit
    zero[2:] &= ((b[:-3] - _ZERO) >= 10) | (b[1:-2] != _MINUS)  # as in 2024-01-31
    at = np.flatnonzero(zero)
    if b"+" in data:
        at = np.concatenate([at, np.flatnonzero(b == _PLUS)])
    before = at - 1
    going = np.flatnonzero(before >= 0)
    while len(going):  # back to the beginning of the field
        here = before[going]
        going = going[_BEFORE_NUMBER[b[here]] & ~marks[here]]
        before[going] -= 1
        going = going[before[going] >= 0]
    mark = np.searchsorted(places, at[(before < 0) | marks[before]])  # as many marks are before the field
    row = np.searchsorted(at_end, mark)
    return frozenset(np.unique(mark - np.concatenate([[0], at_end + 1])[row]).tolist())
