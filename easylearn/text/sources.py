"""Where texts come from: a list, columns of a table, a folder of files; referred to, and read again whenever asked."""

from __future__ import annotations

import codecs
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
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

CHUNK_ROWS = 20_000  # of a table, looked at together
_OLD_NAMES = {
    "text_cols": "text",
    "text_col": "text",
    "txt_cols": "text",
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

    in_memory = True  # the texts themselves, and not only their files

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
    def describe(self, i: int) -> dict[str, str]:
        """Document `i` as it was, by the name of each column, or as "text"."""

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
        import pandas as pd

        if isinstance(texts, str):
            raise ArgumentError("texts must be a list of texts, got one text; write [text]")
        _check_missing(missing)
        column = pd.Series(list(texts), dtype=object, name="text")
        if ids is not None:
            if len(ids) != len(column):
                raise ArgumentError(f"there must be one id per text, got {len(ids)} ids and {len(column)} texts")
            column.index = pd.Index(list(ids))
        _check_some(len(column), where)
        return _Rows([column], True, missing, lambda _, i: f"{where}: item {column.index[i]}")

    @classmethod
    @strict(_OLD_NAMES)
    def from_frame(
        cls,
        df: pd.DataFrame,
        text: str | Sequence[str],
        missing: Missing = "error",
        where: Callable[[str, int], str] | None = None,
    ) -> Documents:
        """A column of a DataFrame, or several put together.

        Args:
            df: one row per document; it is left as it is.
            text: the column; several become one text, "xxfld 1 ... xxfld 2 ...".
            missing: what to do with empty places: "error", or take them for "empty" texts.
            where: what messages call a column of the row at a position; None names both by the table.

        Raises:
            DataError: a column is missing, or holds something that is no text; the message names column and row.
        """
        _check_missing(missing)
        columns = _columns(text)
        _check_columns(columns, [str(c) for c in df.columns], "the table")
        _check_some(len(df), "the table")
        found = [df[c] for c in columns]
        usual: Callable[[str, int], str] = lambda column, i: f"column {column!r}, row {df.index[i]}"  # noqa: E731
        return _Rows(found, isinstance(text, str), missing, where or usual)

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


class _Rows(Documents):
    """The texts in columns of a table; of a text nothing is copied.

    Args:
        columns: of one length and index.
        alone: there is one column, and it is not marked as the first of several.
        missing: what a cell without a text is.
        where: what messages call a column of the row at a position.
        rows: which rows are documents; None takes all.
    """

    def __init__(
        self,
        columns: Sequence[pd.Series[Any]],
        alone: bool,
        missing: Missing,
        where: Callable[[str, int], str],
        rows: Sequence[int] | None = None,
    ) -> None:
        self._columns, self._alone, self._missing, self._where = columns, alone, missing, where
        self._rows = range(len(columns[0])) if rows is None else rows
        if rows is None:
            for _ in self:  # what is no text is refused now
                pass

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self._rows), CHUNK_ROWS):
            rows = self._rows[begin : begin + CHUNK_ROWS]
            texts = [self._texts_of(column, rows) for column in self._columns]
            yield from texts[0] if self._alone else (join_columns(row) for row in zip(*texts, strict=True))

    def _texts_of(self, column: pd.Series[Any], rows: Sequence[int]) -> list[str]:
        cells = column.iloc[list(rows)].tolist()
        return _texts(cells, self._missing, lambda i: self._where(str(column.name), rows[i]))

    @property
    def ids(self) -> Sequence[str]:
        index = self._columns[0].index
        return [str(index[i]) for i in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def digest(self) -> str:
        return digest(t.encode("utf-8", "surrogatepass") for t in self)

    def describe(self, i: int) -> dict[str, str]:
        return {str(c.name): self._texts_of(c, [self._rows[i]])[0] for c in self._columns}

    def take(self, positions: Sequence[int]) -> Documents:
        chosen = [self._rows[i] for i in _positions(positions, len(self))]
        return _Rows(self._columns, self._alone, self._missing, self._where, chosen)


class _Files(Documents):
    in_memory = False

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

    def describe(self, i: int) -> dict[str, str]:
        return {"text": read_text(self._root / self._names[i], self._encoding, self._errors)}

    def take(self, positions: Sequence[int]) -> Documents:
        chosen = _positions(positions, len(self._names))
        return _Files(self._root, [self._names[i] for i in chosen], self._encoding, self._errors)


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


def _texts(values: list[Any], missing: Missing, where: Callable[[int], str]) -> list[str]:
    """The values if all of them are texts; empty ones in place of missing ones where that is wanted."""
    if all(type(v) is str for v in values):
        return cast("list[str]", values)
    out: list[str] = []
    for i, value in enumerate(values):
        if isinstance(value, str):
            out.append(str(value))
            continue
        place = where(i)
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


def is_frame(value: Any) -> bool:
    """Whether it is a pandas DataFrame; asking does not import pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def is_series(value: Any) -> bool:
    """Whether it is a pandas Series; asking does not import pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.Series)


def is_missing(value: Any) -> bool:
    """Whether a cell of a table is empty: None, NaN or one of pandas' own.

    >>> is_missing(None), is_missing(float("nan")), is_missing("")
    (True, True, False)
    """
    if value is None or (isinstance(value, float | np.floating) and value != value):
        return True
    import pandas as pd

    return value is pd.NA or value is pd.NaT


def join_columns(texts: Sequence[str]) -> str:
    """The texts of several columns as one, each after its number.

    >>> join_columns(["A title", "a text"])
    'xxfld 1 A title xxfld 2 a text'
    """
    return " ".join(f"{FLD} {k} {t}" for k, t in enumerate(texts, 1))


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
