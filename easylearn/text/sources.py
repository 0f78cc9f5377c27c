"""Where texts come from: a list, columns of a table, a folder of files; referred to, and read again whenever asked."""

from __future__ import annotations

import codecs
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

from ..data.values import is_missing, require_columns
from ..errors import ArgumentError, DataError, did_you_mean
from ..files import StrPath, digest, file_identity
from .vocab import FLD

if TYPE_CHECKING:
    import pandas as pd

Missing = Literal["error", "empty"]
Errors = Literal["strict", "replace", "ignore"]
Where = Callable[[str, int], str]
"""What messages call a column of the row at a position."""

CHUNK_ROWS = 20_000  # of a table, looked at together


@dataclass(frozen=True, eq=False, repr=False)
class Documents(ABC):
    """Texts that can be gone through again and again, at least one; make them with one of the `from_` methods.

    Args:
        rows: positions of the documents among the rows of the table, or among the files.

    >>> docs = Documents.from_list(["a good film", ""], ids=["x", "y"])
    >>> list(docs), list(docs.ids), len(docs)
    (['a good film', ''], ['x', 'y'], 2)
    >>> list(docs.take([1]).ids)
    ['y']
    """

    rows: Sequence[int]

    in_memory: ClassVar[bool] = True  # the texts themselves, and not only their files

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

    def take(self, positions: Iterable[int]) -> Documents:
        """Some of the documents, in the order of `positions`."""
        return replace(self, rows=[self.rows[i] for i in positions])

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({len(self):,} documents)"

    @classmethod
    def from_list(
        cls, texts: Sequence[str], ids: Sequence[str] | None = None, where: str = "list", missing: Missing = "error"
    ) -> Documents:
        """Texts in memory, called `ids` or numbered; messages call the list `where`. See `from_frame` for `missing`."""
        import pandas as pd

        if isinstance(texts, str):
            raise ArgumentError("texts must be a list of texts, got one text; write [text]")
        column = pd.Series(list(texts), dtype=object, name="text")
        if ids is not None:
            if len(ids) != len(column):
                raise ArgumentError(f"there must be one id per text, got {len(ids)} ids and {len(column)} texts")
            column.index = pd.Index(list(ids))
        return _Rows.of([column], False, missing, lambda _, i: f"{where}: item {column.index[i]}", where)

    @classmethod
    def from_frame(
        cls, df: pd.DataFrame, text: str | Sequence[str], missing: Missing = "error", where: Where | None = None
    ) -> Documents:
        """A column of a DataFrame, or several put together.

        Args:
            df: one row per document; it is left as it is.
            text: the column; several become one text, "xxfld 1 ... xxfld 2 ...".
            missing: what to do with empty places: "error", or take them for "empty" texts.
            where: see `Where`; None names column and row by the table.

        Raises:
            DataError: a column is missing, or holds something that is no text; the message names column and row.
        """
        by_text = {str(c): c for c in df.columns}  # a column may be called 7
        columns = [by_text.get(name, name) for name in as_names(text)]
        require_columns(df, columns)
        usual: Where = lambda column, i: f"column {column!r}, row {df.index[i]}"  # noqa: E731
        return _Rows.of([df[c] for c in columns], not is_one(text), missing, where or usual, "the table")

    @classmethod
    def from_folder(
        cls, path: StrPath, pattern: str = "*.txt", errors: Errors = "strict", encoding: str = "utf-8"
    ) -> Documents:
        """One document per file, in the order of their relative paths, those in subfolders included.

        Args:
            path: the folder.
            pattern: which files, as in a shell. Those whose names begin with a dot are left out.
            errors: what to do with bytes that are not of that encoding: "strict", "replace" by U+FFFD, or "ignore".
            encoding: of the files; a byte order mark is left out.

        Raises:
            DataError: there is no such folder or file; while reading: broken bytes, with file and offset.
        """
        if errors not in get_args(Errors):
            raise ArgumentError(f"errors must be 'strict', 'replace' or 'ignore', got {errors!r}")
        try:
            codecs.lookup(encoding)
        except LookupError as error:
            raise ArgumentError(f"there is no encoding {encoding!r}; 'utf-8' and 'latin-1' are usual") from error
        root = Path(path)
        if not root.is_dir():
            near = sorted(p.name for p in root.parent.iterdir()) if root.parent.is_dir() else None
            hint = f", nor a folder {root.parent} to hold it" if near is None else f". {did_you_mean(root.name, near)}"
            raise DataError(f"there is no folder {root}{hint}")
        names = sorted(
            f.relative_to(root).as_posix()
            for f in root.rglob(pattern)
            if f.is_file() and not any(p.startswith(".") for p in f.relative_to(root).parts)
        )
        if not names:
            kinds = sorted({f.suffix or f.name for f in root.rglob("*") if f.is_file()})
            hint = f"it has files {', '.join(kinds[:10])}; choose with pattern=" if kinds else "it has no files at all"
            raise DataError(f"{root} has no file {pattern}: {hint}")
        return _Files(range(len(names)), root, names, encoding, errors)


@dataclass(frozen=True, eq=False, repr=False)
class _Rows(Documents):
    """The texts in columns of a table, each with a mark before it if `marked`; of a text nothing is copied."""

    columns: Sequence[pd.Series[Any]]
    marked: bool
    missing: Missing
    where: Where

    @classmethod
    def of(
        cls, columns: Sequence[pd.Series[Any]], marked: bool, missing: Missing, where: Where, called: str
    ) -> Documents:
        """All rows, looked through for what is no text."""
        if missing not in get_args(Missing):
            raise ArgumentError(f"missing must be 'error' or 'empty', got {missing!r}")
        if not len(columns[0]):
            raise DataError(f"{called} has no documents; there must be one at least, even if it is empty")
        found = cls(range(len(columns[0])), columns, marked, missing, where)
        for _ in found:
            pass
        return found

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self.rows), CHUNK_ROWS):
            rows = self.rows[begin : begin + CHUNK_ROWS]
            texts = [self._texts(column, rows) for column in self.columns]
            yield from map(join_columns, zip(*texts, strict=True)) if self.marked else texts[0]

    def _texts(self, column: pd.Series[Any], rows: Sequence[int]) -> list[str]:
        cells = column.iloc[list(rows)].tolist()
        if all(type(cell) is str for cell in cells):
            return cast("list[str]", cells)
        where = partial(self.where, str(column.name))
        return [text_of(cell, self.missing, partial(where, i)) for i, cell in zip(rows, cells, strict=True)]

    @property
    def ids(self) -> Sequence[str]:
        index = self.columns[0].index
        return [str(index[i]) for i in self.rows]

    @cached_property
    def digest(self) -> str:
        return digest(self)

    def describe(self, i: int) -> dict[str, str]:
        return {str(c.name): self._texts(c, [self.rows[i]])[0] for c in self.columns}


@dataclass(frozen=True, eq=False, repr=False)
class _Files(Documents):
    root: Path
    names: Sequence[str]
    encoding: str
    errors: Errors

    in_memory = False

    def __iter__(self) -> Iterator[str]:
        return (read_text(self.root / name, self.encoding, self.errors) for name in self.ids)

    @property
    def ids(self) -> Sequence[str]:
        return [self.names[i] for i in self.rows]

    @cached_property
    def digest(self) -> str:
        files = (file_identity(self.root / name).encode("utf-8", "surrogateescape") for name in self.ids)
        return digest(["files", self.encoding, self.errors, *files])

    def describe(self, i: int) -> dict[str, str]:
        return {"text": next(iter(self.take([i])))}


def read_text(path: StrPath, encoding: str = "utf-8", errors: Errors = "strict") -> str:
    """A whole file. A DataError says what cannot be read, or has bytes that are not of this encoding, and where."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return data.decode(encoding, errors).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {encoding}: broken at byte {error.start} (0x{data[error.start]:02x}). Pass "
            "errors='replace' to read it with U+FFFD there, or name the file's encoding, such as encoding='latin-1'"
        ) from error


def text_of(cell: Any, missing: Missing, where: Callable[[], str]) -> str:
    """A cell's text; an empty one in place of a missing one where that is wanted."""
    if isinstance(cell, str):
        return str(cell)
    shown = f"{cell!r:.60}, a {type(cell).__name__}"
    if is_missing(cell):
        if missing == "empty":
            return ""
        raise DataError(
            f"{where()} is missing (got {shown}). Leave such rows out, or make the data with missing='empty': they are "
            "empty texts then, also when they are predicted"
        )
    hint = "read its file by Path.read_text()" if isinstance(cell, Path) else "turn it into text first"
    raise DataError(f"{where()}: expected a text, got {shown}; {hint}. A whole column is turned by .astype(str)")


def is_frame(value: Any) -> bool:
    """Whether it is a pandas DataFrame; asking does not import pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def is_series(value: Any) -> bool:
    """Whether it is a pandas Series; asking does not import pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.Series)


def join_columns(texts: Sequence[str]) -> str:
    """The texts of several columns as one, each after its number.

    >>> join_columns(["A title", "a text"])
    'xxfld 1 A title xxfld 2 a text'
    """
    return " ".join(f"{FLD} {k} {t}" for k, t in enumerate(texts, 1))


def is_one(columns: Any) -> bool:
    """Whether this names one column, and is no list of names."""
    return isinstance(columns, str) or not isinstance(columns, Iterable)


def as_names(columns: Any, what: str = "text") -> list[str]:
    """One column or several as a list of their names; messages call the argument `what`."""
    if is_series(columns) or is_frame(columns) or getattr(columns, "ndim", 1) > 1:
        raise ArgumentError(
            f"{what} must name columns of the table, got a {type(columns).__name__}; values of their own go into "
            "from_lists, or into a column"
        )
    names = [str(columns)] if is_one(columns) else [str(c) for c in columns]
    if not names or len(set(names)) != len(names):
        raise ArgumentError(f"{what} must name one column or several different ones, got {names}")
    return names
