"""The rows of a csv file: unpacked, of one length, each known by the line in which it begins.

pandas parses, but it pads or shifts rows of another length than the header, and reads 01234 as 1234. So the bytes are
looked at first, in blocks that fit a processor's cache. Where they are out of the usual, Python's csv module reads on.
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
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, EasyLearnWarning

Places = npt.NDArray[np.int64]

_DELIMITERS = ",;\t|"
_PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
BLOCK = 2**20  # bytes
ROWS = 2**12  # that the csv module reads at a time
# Two code points that are no characters, so no text holds them.
_END, _RETURN = "\ufdd0", "\ufdd1"
_NEWLINE, _CR, _QUOTE, _PLUS, _DOT, _ZERO = b'\n\r"+.0'
_AROUND = np.isin(np.arange(256), list(b' \t\n\r\v\f"-'))  # bytes that may stand before or after the digits of a number


@dataclass(frozen=True)
class Piece:
    """Some rows of a csv file.

    Args:
        data: their bytes in UTF-8, with as many fields in each row as the header has.
        lines: for each row the line in which it begins; the first line of the file is 1.
        zeros: for each column what the zeros in it tell; see `_zeros`.
    """

    data: bytes
    lines: Places
    zeros: dict[int, int]

    @classmethod
    def join(cls, pieces: Sequence[Piece], used: Collection[int]) -> Piece:
        """All rows of several pieces."""
        lines = np.concatenate([np.empty(0, np.int64), *(p.lines for p in pieces)])
        told = {j: {p.zeros[j] for p in pieces} for j in used}
        return cls(
            b"".join(p.data for p in pieces), lines, {j: z.pop() if len(z) == 1 else -1 for j, z in told.items()}
        )


class CsvRows:
    """A csv file with a header, whose rows are checked as they are read; blank lines are left out.

    Args:
        path: the file; packed ones (gzip, bzip2, xz, zip) are known by their first bytes.

    Raises:
        DataError: there is no such file, it is empty, or its bytes are no UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path, head = path, b""
        blocks = self._blocks(1)
        while not head.strip() and (block := next(blocks, b"")):
            head += block
        bare = re.sub(r'"[^"]*"', "", head.lstrip().split(b"\n", 1)[0].decode())
        self.delimiter = max(_DELIMITERS, key=bare.count)
        self.header_line, header = next(self._rows(chain([head], blocks), 1))
        header = [name.replace(_RETURN, "\r") for name in header]
        self.begin = self.header_line + 1 + "".join(header).count("\n")
        self.names = [name or f"Unnamed: {i}" for i, name in enumerate(header)]  # as in pandas

    def pieces(self, used: Sequence[int]) -> Iterator[Piece]:
        """The rows below the header.

        Args:
            used: positions of the columns that are wanted.

        Raises:
            DataError: a row has more fields than the header, or a quote never ends; the line is named.
        """
        width, line, short = len(self.names), self.begin, []
        waiting, blocks = b"", self._blocks(line)
        for block in blocks:
            waiting += block
            if width == 1 or not len(ends := _cell_ends(waiting, self.delimiter, width)):
                break  # blank lines look as rows of one field do; or rows are unusual, or one is long
            data = waiting[: ends[-1, -1] + 1]
            waiting, lines = waiting[len(data) :], np.arange(line, line + len(ends))
            line += (n_lines := data.count(b"\n") if b'"' in data else len(ends))
            if n_lines > len(ends):  # some are in texts
                newlines = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
                lines[1:] = lines[0] + 1 + np.searchsorted(newlines, ends[:-1, -1])
            yield Piece(data, lines, _zeros(data, ends, used))
        rows = self._rows(chain([waiting], blocks), line, width)
        while some := list(islice(rows, ROWS)):
            short += [line for line, row in some if len(row) < width]
            out = io.StringIO()
            writer = csv.writer(out, delimiter=self.delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
            writer.writerows(row + [""] * (width - len(row)) for _, row in some)
            data = out.getvalue().replace(_RETURN, "\r").encode()
            zeros = _zeros(data, _cell_ends(data, self.delimiter, width), used)
            yield Piece(data, np.array([line for line, _ in some]), zeros)
        if short:
            warnings.warn(
                f"{self.path}: fewer fields than the header's {width} in {len(short)} of the lines, the first is line "
                f"{short[0]}; the fields at their end count as missing",
                EasyLearnWarning,
                stacklevel=4,
            )

    def _rows(self, blocks: Iterable[bytes], begin: int, width: int = 0) -> Iterator[tuple[int, list[str]]]:
        """Rows that are not blank, the first of them the header where no width is known, each with its line."""
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # a document may be longer than the usual limit
        # Carriage returns inside of a line are hidden from the parser.
        lines = (
            line if "\r" not in line[:-2] else line[:-2].replace("\r", _RETURN) + line[-2:]
            for block in blocks
            for line in io.StringIO(block.decode(), newline="\n")
        )
        reader, before = csv.reader(chain(lines, [_END]), delimiter=self.delimiter), begin
        try:
            for row in reader:
                if row and row[-1].endswith(_END):
                    if row != [_END]:
                        raise DataError(
                            f"{self.path}, line {begin}: a field begins with a quotation mark that is never closed; "
                            "close it, or double each mark that belongs to a text"
                        )
                elif len(row) > width > 0:
                    raise DataError(
                        f"{self.path}, line {begin}: {len(row)} fields, but the header has {width}: "
                        f"{self.delimiter.join(row)[:60]!r}. Put a text with {self.delimiter!r} in it into quotation "
                        "marks, or complete the header"
                    )
                elif any(map(str.strip, row)) or (width and row and not (width > len(row) == 1 and row[0].isspace())):
                    width = width or len(row)
                    yield begin, row
                begin = before + reader.line_num
        except csv.Error as error:
            raise DataError(f"{self.path}, line {begin}: this is no row of a csv file: {error}") from error
        if not width:
            raise DataError(f"{self.path} is empty; a csv file has a header line, and then one line per row")

    def _blocks(self, line: int) -> Iterator[bytes]:
        """The file's bytes from a line on, in blocks of whole lines, without a byte order mark."""
        with _opened(self.path) as file:
            block = file.readline()
            if b"\n" not in block:  # but a return, as old Macs wrote
                file = io.BytesIO(block.replace(b"\r", b"\n"))
                block = file.readline()
            block = block.removeprefix(codecs.BOM_UTF8)
            for _ in range(1, line):
                block = file.readline()
            while block:
                block += file.read(BLOCK) + file.readline()
                try:
                    odd = block.find(0) if block.isascii() or block.decode() else 0
                except UnicodeDecodeError as error:
                    odd = error.start
                if odd >= 0:
                    utf16 = line == 1 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                    raise DataError(
                        f"{self.path}, line {line + block[:odd].count(10)}: the byte 0x{block[odd]:02x} is no UTF-8 "
                        "text. Save it so, or pass the DataFrame that "
                        f"pandas.read_csv(path, encoding={'utf-16' if utf16 else 'cp1252'!r}) gives"
                    )
                line += block.count(b"\n")
                yield block if block.endswith(b"\n") else block + b"\n"
                block = file.readline()


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


def _cell_ends(data: bytes, delimiter: str, width: int) -> Places:
    """Where the cells of the whole rows end, one row of `width` in each row.

    There are none if something is unusual: rows of another length, quotation marks inside of fields that do not begin
    with one, or carriage returns inside of a line.
    """
    b = np.frombuffer(data, np.uint8)
    newlines = b == _NEWLINE
    marks = newlines | (b == ord(delimiter))
    alone = (b[:-1] == _CR) & ~newlines[1:] if b"\r" in data else newlines[:0]
    if b'"' in data:
        quotes = b == _QUOTE
        before = np.flatnonzero(quotes)[::2] - 1  # a doubled mark closes and opens again
        if not (marks[before] | quotes[before]).all():
            return np.empty((0, width), np.int64)
        outside = ~np.logical_xor.accumulate(quotes)
        marks &= outside
        alone = alone & outside[: len(alone)]
    places = np.flatnonzero(marks)
    ends: Places = places[: len(places) // width * width].reshape(-1, width)
    at_end = newlines[ends]
    return ends[:0] if alone.any() or at_end[:, :-1].any() or not at_end[:, -1].all() else ends


def _zeros(data: bytes, ends: Places, numbers: Sequence[int]) -> dict[int, int]:
    """What zeros in columns of numbers tell that the numbers do not.

    Returns:
        For each column -1 where a cell begins with a plus, or with a zero before another digit, or where fractions of
        two and more digits end with a zero and others have not as many digits; if all have, how many bytes the
        fraction and its dot take and one more; 0 if zeros tell nothing.
    """
    b = np.frombuffer(data, np.uint8)
    begin = np.concatenate([[0], ends.ravel()[:-1] + 1]).reshape(ends.shape)[:, numbers]
    end = ends[:, numbers]
    for _ in range(4):  # a text may begin with a long line of blanks or dashes
        before, after = _AROUND[b[begin]] & (begin < end), _AROUND[b[end - 1]] & (begin < end - 1)
        if not before.any() and not after.any():
            break
        begin, end = begin + before, end - after
    first = b[begin]
    codes = (first == _PLUS) | ((first == _ZERO) & (b[begin + 1 - len(b)] - _ZERO < 10))
    codes |= (_AROUND[first] | _AROUND[b[end - 1]]) & (begin < end)
    told = dict(zip(numbers, np.where(codes.any(0), -1, 0).tolist(), strict=True))
    row, column = np.nonzero((b[end - 1] == _ZERO) & (end - begin > 2))
    stop = end[row, column]
    dot = stop - 2
    for _ in range(40):  # digits
        dot -= (digit := b[dot] - _ZERO < 10)
        if not digit.any():
            break
    size = np.where(b[dot] == _DOT, stop - dot, 0)
    which, place = np.unique(column[size > 2], return_index=True)
    for k, n in zip(which.tolist(), size[size > 2][place].tolist(), strict=True):
        alike = (b[end[:, k] - n] == _DOT) & (end[:, k] - begin[:, k] >= n) | (begin[:, k] == end[:, k])
        told[numbers[k]] = n if alike.all() and not told[numbers[k]] else -1
    return told
