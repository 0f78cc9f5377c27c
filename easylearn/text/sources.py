"""Where texts come from: a list, a DataFrame, a csv file, a folder of files; read again whenever asked."""

from __future__ import annotations

import codecs
import gzip
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from ..errors import ArgumentError, DataError, did_you_mean
from ..files import StrPath, digest, file_identity
from ..options import strict
from .vocab import FLD

if TYPE_CHECKING:
    import pandas as pd

Missing = Literal["error", "empty"]
Errors = Literal["strict", "replace", "ignore"]

CHUNK_ROWS = 20_000  # of a csv file, read at a time
_OLD_NAMES = {
    "text_cols": "text",
    "text_col": "text",
    "txt_cols": "text",
    "sep": "delimiter",
    "chunksize": "chunk_rows",
    "error": "errors",
    "extensions": "Use pattern='*.txt'.",
}


class Documents(ABC):
    """Texts that can be gone through again and again; make them with one of the `from_` methods.

    A text may be empty, but there must be at least one.

    >>> docs = Documents.from_list(["a good film", ""], ids=["x", "y"])
    >>> list(docs), list(docs.ids), len(docs)
    (['a good film', ''], ['x', 'y'], 2)
    >>> list(docs.take([1]).ids)
    ['y']
    """

    @abstractmethod
    def __iter__(self) -> Iterator[str]: ...

    @property
    @abstractmethod
    def ids(self) -> Sequence[str]:
        """What the documents are called: relative paths, row labels or numbers, or as given."""

    @cached_property
    @abstractmethod
    def digest(self) -> str:
        """A fingerprint of the contents, or of the files' identities."""

    @abstractmethod
    def take(self, positions: Sequence[int]) -> Documents:
        """Some of the documents, in the order of `positions`."""

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({len(self):,} documents)"

    @classmethod
    @strict(_OLD_NAMES)
    def from_list(
        cls, texts: Sequence[str], ids: Sequence[str] | None = None, where: str = "list", missing: Missing = "error"
    ) -> Documents:
        """Texts in memory.

        Args:
            texts: the documents.
            ids: what they are called; None numbers them from 0.
            where: what messages call the list.
            missing: what to do with None and NaN: "error", or take them for an "empty" document.

        Raises:
            DataError: there is none, or one is no text.
        """
        if isinstance(texts, str):
            raise ArgumentError("texts must be a list of texts, got one text; write [text]")
        _check_missing(missing)
        values = list(texts)
        names = _Numbers(len(values)) if ids is None else [str(i) for i in ids]
        if len(names) != len(values):
            raise ArgumentError(f"there must be one id per text, got {len(names)} ids and {len(values)} texts")
        _check_some(len(values), where)
        return _Listed(_texts(values, missing, f"{where}: item {{}}", names), names)

    @classmethod
    @strict(_OLD_NAMES)
    def from_frame(cls, df: pd.DataFrame, text: str | Sequence[str], missing: Missing = "error") -> Documents:
        """A column of a DataFrame, or several put together.

        Args:
            df: one row per document; it is left as it is.
            text: the column; several become one text, "xxfld 1 ... xxfld 2 ...".
            missing: what to do with empty places: "error", or take them for "empty" texts.

        Raises:
            DataError: a column is missing, or holds something that is no text; the message names column and row.
        """
        _check_missing(missing)
        columns = _columns(text)
        _check_columns(columns, [str(c) for c in df.columns], "the table")
        _check_some(len(df), "the table")
        labels = [str(i) for i in df.index]
        parts = [_texts(df[c].tolist(), missing, f"column {c!r}, row {{}}", labels) for c in columns]
        return _Listed(parts[0] if isinstance(text, str) else _fields(parts), labels)

    @classmethod
    @strict(_OLD_NAMES)
    def from_csv(
        cls,
        path: StrPath,
        text: str | Sequence[str],
        *,
        delimiter: str = ",",
        encoding: str = "utf-8",
        errors: Errors = "strict",
        missing: Missing = "error",
        chunk_rows: int = CHUNK_ROWS,
    ) -> Documents:
        """A column of a csv file with a header, read a part at a time.

        Args:
            path: the file, maybe compressed (.gz, .bz2, .xz, .zip).
            text: the column; several become one text, "xxfld 1 ... xxfld 2 ...".
            delimiter: what parts columns.
            encoding: of the file.
            errors: what to do with bytes that are not of that encoding: "strict" (refuse), "replace" by U+FFFD, or
                "ignore".
            missing: what to do with empty places: "error", or take them for "empty" texts.
            chunk_rows: rows in memory at a time.

        Raises:
            DataError: there is no such file or column; while reading: a row without text, broken bytes.
        """
        _check_missing(missing)
        _check_errors(errors, encoding)
        if chunk_rows < 1:
            raise ArgumentError(f"chunk_rows must be at least 1, got {chunk_rows}")
        return _Csv(Path(path), text, delimiter, encoding, errors, missing, chunk_rows, None)

    @classmethod
    @strict(_OLD_NAMES)
    def from_folder(
        cls, path: StrPath, pattern: str = "*.txt", errors: Errors = "strict", encoding: str = "utf-8"
    ) -> Documents:
        """One document per file, in the order of their relative paths, those in subfolders included.

        Args:
            path: the folder.
            pattern: which files, as in a shell. Those whose names begin with a dot are left out.
            errors: what to do with bytes that are not of that encoding: "strict" (refuse), "replace" by U+FFFD, or
                "ignore".
            encoding: of the files; a byte order mark is left out.

        Raises:
            DataError: there is no such folder or file; while reading: broken bytes, with file and offset.
        """
        _check_errors(errors, encoding)
        root = Path(path)
        if not root.is_dir():
            raise DataError(f"there is no folder {root}{_similar(root)}")
        names = sorted(
            f.relative_to(root).as_posix()
            for f in root.rglob(pattern)
            if f.is_file() and not any(p.startswith(".") for p in f.relative_to(root).parts)
        )
        if not names:
            kinds = sorted({f.suffix or f.name for f in root.rglob("*") if f.is_file()})
            hint = f"it has files {', '.join(kinds[:10])}; choose with pattern=" if kinds else "it has no files at all"
            raise DataError(f"{root} has no file {pattern}: {hint}")
        return _Files(root, names, encoding, errors)


class _Numbers(Sequence[str]):
    """The texts "0", "1", ... without keeping them."""

    def __init__(self, n: int) -> None:
        self._range = range(n)

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [str(k) for k in self._range[i]]
        return str(self._range[i])


class _Listed(Documents):
    def __init__(self, texts: list[str], ids: Sequence[str]) -> None:
        self._texts = texts
        self._ids = ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    @cached_property
    def digest(self) -> str:
        return digest(t.encode("utf-8", "surrogatepass") for t in self._texts)

    def take(self, positions: Sequence[int]) -> Documents:
        chosen = _positions(positions, len(self._texts))
        return _Listed([self._texts[i] for i in chosen], [self._ids[i] for i in chosen])


class _Files(Documents):
    def __init__(self, root: Path, names: list[str], encoding: str, errors: Errors) -> None:
        self._root = root
        self._names = names
        self._encoding = encoding
        self._errors = errors

    def __iter__(self) -> Iterator[str]:
        for name in self._names:
            yield read_text(self._root / name, self._encoding, self._errors)

    @property
    def ids(self) -> Sequence[str]:
        return self._names

    @cached_property
    def digest(self) -> str:
        files = (file_identity(self._root / name) for name in self._names)
        return digest(["files", self._encoding, self._errors, *(f.encode("utf-8", "surrogateescape") for f in files)])

    def take(self, positions: Sequence[int]) -> Documents:
        chosen = _positions(positions, len(self._names))
        return _Files(self._root, [self._names[i] for i in chosen], self._encoding, self._errors)


class _Csv(Documents):
    def __init__(
        self,
        path: Path,
        text: str | Sequence[str],
        delimiter: str,
        encoding: str,
        errors: Errors,
        missing: Missing,
        chunk_rows: int,
        rows: Sequence[int] | None,
    ) -> None:
        self._path, self._text, self._delimiter, self._encoding = path, text, delimiter, encoding
        self._errors, self._missing, self._chunk_rows = errors, missing, chunk_rows
        self._rows = rows
        self._n: int | None = None if rows is None else len(rows)
        self._columns = _columns(text)
        if rows is None:
            if not path.is_file():
                raise DataError(f"there is no file {path}{_similar(path)}")
            _check_columns(self._columns, self._header(), str(path))

    def _header(self) -> list[str]:
        import pandas as pd

        with self._explained():
            head = pd.read_csv(
                self._path, sep=self._delimiter, nrows=0, encoding=self._encoding, encoding_errors=self._errors
            )
        return [str(c) for c in head.columns]

    def _read(self, columns: list[str]) -> Iterator[pd.DataFrame]:
        import pandas as pd

        with self._explained():
            with pd.read_csv(
                self._path,
                sep=self._delimiter,
                usecols=columns,
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                encoding=self._encoding,
                encoding_errors=self._errors,
                chunksize=self._chunk_rows,
            ) as reader:
                yield from reader

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of reading with what was expected, where, and what to do."""
        import pandas as pd

        try:
            yield
        except UnicodeDecodeError as error:
            offset = _broken_byte(self._path, self._encoding)
            place = f"at byte {offset}" if offset is not None else f"({error.reason})"
            raise DataError(_broken(self._path, self._encoding, place)) from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise DataError(f"{self._path} cannot be read as a csv file with a header: {error}") from error

    def __iter__(self) -> Iterator[str]:
        wanted = None if self._rows is None else iter(self._rows)
        following = None if wanted is None else next(wanted, None)
        begin = 0
        for frame in self._read(self._columns):
            names = _Range(begin, len(frame))
            if wanted is None:
                chosen = None
            else:
                chosen = []
                while following is not None and following < begin + len(frame):
                    chosen.append(following - begin)
                    following = next(wanted, None)
            parts = []
            for column in self._columns:
                values = frame[column].tolist()
                labels: Sequence[str] = names
                if chosen is not None:
                    values, labels = [values[i] for i in chosen], [names[i] for i in chosen]
                parts.append(_texts(values, self._missing, f"{self._path}: column {column!r}, row {{}}", labels))
            yield from parts[0] if isinstance(self._text, str) else _fields(parts)
            begin += len(frame)
        if self._rows is None:
            _check_some(begin, str(self._path))
            self._n = begin

    @property
    def ids(self) -> Sequence[str]:
        if self._rows is not None:
            return [str(i) for i in self._rows]
        if self._n is None:
            self._n = sum(len(frame) for frame in self._read(self._columns[:1]))
            _check_some(self._n, str(self._path))
        return _Numbers(self._n)

    @cached_property
    def digest(self) -> str:
        rows = "all" if self._rows is None else digest(str(i) for i in self._rows)
        how = [self._delimiter, self._encoding, self._errors, self._missing, str(isinstance(self._text, str)), rows]
        return digest(["csv", file_identity(self._path), *self._columns, *how])

    def take(self, positions: Sequence[int]) -> Documents:
        """See `Documents.take`; the file is read from its beginning to its end, so positions must rise."""
        chosen = _positions(positions, len(self))
        if any(b <= a for a, b in pairwise(chosen)):
            raise ArgumentError("a csv file is read in its order, so positions must rise; sort them")
        rows = chosen if self._rows is None else [self._rows[i] for i in chosen]
        return _Csv(
            self._path, self._text, self._delimiter, self._encoding, self._errors, self._missing, self._chunk_rows, rows
        )


class _Range(_Numbers):
    """Row numbers of a part of a file."""

    def __init__(self, begin: int, n: int) -> None:
        self._range = range(begin, begin + n)


def read_text(path: StrPath, encoding: str = "utf-8", errors: Errors = "strict") -> str:
    """A whole file.

    Raises:
        DataError: it cannot be read, or has bytes that are not of this encoding; with their offset.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return data.decode(encoding, errors).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(_broken(path, encoding, f"at byte {error.start} (0x{data[error.start]:02x})")) from error


def _broken(path: StrPath, encoding: str, place: str) -> str:
    return (
        f"{path} is not {encoding}: broken {place}. Pass errors='replace' to read it with U+FFFD there, or name the "
        "file's encoding, such as encoding='latin-1'"
    )


def _broken_byte(path: Path, encoding: str) -> int | None:
    """Where the first byte is that is not of this encoding, counted in what is uncompressed; None if not found."""
    if path.suffix not in ("", ".csv", ".tsv", ".txt", ".gz"):
        return None
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    read, step = 0, 2**20
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        while True:
            waiting = len(decoder.getstate()[0])
            block = file.read(step)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return read - waiting + error.start
            if not block:
                return None
            read += len(block)


def _texts(values: list[Any], missing: Missing, where: str, labels: Sequence[str]) -> list[str]:
    """The values if all of them are texts; empty ones in place of missing ones where that is wanted."""
    if all(type(v) is str for v in values):
        return cast("list[str]", values)
    out: list[str] = []
    for i, value in enumerate(values):
        if isinstance(value, str):
            out.append(str(value))
            continue
        place = where.format(labels[i])
        if not is_missing(value):
            raise DataError(
                f"{place}: expected a text, got {value!r:.60}, a {type(value).__name__}. Turn it into text first, "
                "with df[column].astype(str) for example, or name another column"
            )
        if missing == "error":
            raise DataError(
                f"{place} is missing ({value!r}). Drop such rows, or pass missing='empty' to take them for empty texts"
            )
        out.append("")
    return out


def is_missing(value: Any) -> bool:
    """Whether a cell of a table is empty: None, NaN or one of pandas' own.

    >>> is_missing(None), is_missing(float("nan")), is_missing("")
    (True, True, False)
    """
    if value is None or (isinstance(value, float | np.floating) and value != value):
        return True
    import pandas as pd

    return value is pd.NA or value is pd.NaT


def _fields(parts: Sequence[Sequence[str]]) -> list[str]:
    """The texts of several columns, row by row, each after its number."""
    return [" ".join(f"{FLD} {k} {t}" for k, t in enumerate(row, 1)) for row in zip(*parts, strict=True)]


def _columns(text: str | Sequence[str]) -> list[str]:
    names = [text] if isinstance(text, str) else list(text)
    if not names or len(set(names)) != len(names):
        raise ArgumentError(f"text must name one column or several different ones, got {text!r}")
    return names


def _check_columns(columns: Sequence[str], known: Sequence[str], where: str) -> None:
    for name in columns:
        if name not in known:
            raise DataError(f"{where} has no column {name!r}. {did_you_mean(str(name), known)}")


def _check_some(n: int, where: str) -> None:
    if not n:
        raise DataError(f"{where} has no documents; there must be one at least, even if it is empty")


def _check_missing(missing: str) -> None:
    if missing not in ("error", "empty"):
        raise ArgumentError(f"missing must be 'error' or 'empty', got {missing!r}")


def _check_errors(errors: str, encoding: str) -> None:
    if errors not in ("strict", "replace", "ignore"):
        raise ArgumentError(f"errors must be 'strict', 'replace' or 'ignore', got {errors!r}")
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise ArgumentError(f"there is no encoding {encoding!r}; 'utf-8', 'latin-1' and 'cp1252' are usual") from error


def _positions(positions: Sequence[int], n: int) -> list[int]:
    chosen = [int(i) for i in positions]
    if not chosen:
        raise DataError("no documents were chosen; there must be one at least")
    for i in chosen:
        if not 0 <= i < n:
            raise DataError(f"there are documents 0 to {n - 1}, but {i} was chosen")
    return chosen


def _similar(path: Path) -> str:
    """A hint at neighbours with a like name."""
    try:
        names = sorted(p.name for p in path.parent.iterdir())
    except OSError:
        return f", nor a folder {path.parent} to hold it"
    return f". {did_you_mean(path.name, names)}" if names else f"; {path.parent} is empty"
