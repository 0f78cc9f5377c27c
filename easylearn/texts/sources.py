"""Where texts come from: a list, columns of a table, a folder of files; referred to, and read again whenever asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from ..data.places import copied, is_elsewhere
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


@dataclass(frozen=True, eq=False)
class Documents:
    """Texts that can be gone through again and again, at least one; make them with one of the `from_` methods."""

    rows: Sequence[int]  # of the table or list of files that are documents
    names: Any  # of all of them
    read: Callable[[Sequence[int]], dict[str, list[str]]]  # the texts of some, by column; of a table nothing is copied
    marked: bool = False  # the texts of several columns are one document, with a mark before each
    folder: Path | None = None  # where the files are; None for texts in memory
    how: tuple[str, ...] = ()  # files are read

    @classmethod
    def from_list(cls, texts: Sequence[str], ids: Sequence[str] | None = None, where: str = "list") -> Documents:
        """Texts in memory, called `ids` or numbered; messages call the list `where`."""
        import pandas as pd

        if isinstance(texts, str):
            raise ArgumentError("texts must be a list of texts, got one text; write [text]")
        names = list(range(len(texts)) if ids is None else ids)
        if len(names) != len(texts):
            raise ArgumentError(f"there must be one id per text, got {len(names)} ids and {len(texts)} texts")
        if not names:
            raise DataError(f"{where} has no documents; there must be one at least, even if it is empty")
        frame = pd.DataFrame({"text": pd.Series(list(texts), dtype=object)})
        return replace(cls.from_frame(frame, "text", where=lambda _, i: f"{where}: item {names[i]}"), names=names)

    @classmethod
    def from_frame(
        cls, df: pd.DataFrame, text: str | Sequence[str], missing: Missing = "error", where: Where | None = None
    ) -> Documents:
        """A column of a DataFrame, or several put together: "xxfld 1 ... xxfld 2 ...". The table is left as it is.

        Empty places are an "error", or by `missing` "empty" texts. What `where` calls a place, messages do.
        """
        if missing not in get_args(Missing):
            raise ArgumentError(f"missing must be 'error' or 'empty', got {missing!r}")
        by_text = {str(c): c for c in df.columns}  # a column may be called 7
        columns = [by_text.get(name, name) for name in as_names(text)]
        require_columns(df, columns)
        if not len(df):
            raise DataError("the table has no documents; there must be one at least, even if it is empty")
        place: Where = where or (lambda column, i: f"column {column!r}, row {df.index[i]}")

        def texts(column: Any, rows: Sequence[int]) -> list[str]:
            cells = df[column].iloc[list(rows)].tolist()
            if all(type(cell) is str for cell in cells):
                return cast("list[str]", cells)
            at = partial(place, str(column))
            return [text_of(cell, missing, partial(at, i)) for i, cell in zip(rows, cells, strict=True)]

        df = df[columns]
        found = cls(range(len(df)), df.index, lambda rows: {str(c): texts(c, rows) for c in columns}, not is_one(text))
        for _ in found:  # what is no text is refused now
            pass
        return found

    @classmethod
    def from_folder(cls, path: StrPath, pattern: str = "*.txt", errors: Errors = "strict") -> Documents:
        """One document per file of this pattern, in the order of their relative paths; a dot before a name hides it.

        Bytes that are no UTF-8 are refused with file and offset ("strict"), replaced by U+FFFD ("replace") or left out
        ("ignore"), as a byte order mark is.
        """
        if errors not in get_args(Errors):
            raise ArgumentError(f"errors must be 'strict', 'replace' or 'ignore', got {errors!r}")
        root = copied(path) if is_elsewhere(path) else Path(path)
        if not root.is_dir():
            near = sorted(p.name for p in root.parent.iterdir()) if root.parent.is_dir() else None
            hint = f", nor a folder {root.parent} to hold it" if near is None else f". {did_you_mean(root.name, near)}"
            raise DataError(f"there is no folder {root}{hint}")
        files = (f.relative_to(root) for f in root.rglob(pattern) if f.is_file() or not f.exists())  # read, and refused
        names = sorted(f.as_posix() for f in files if not any(p.startswith(".") for p in f.parts))
        if not names:
            kinds = sorted({f.suffix or f.name for f in root.rglob("*") if f.is_file()})
            hint = f"it has files {', '.join(kinds[:10])}; choose with pattern=" if kinds else "it has no files at all"
            raise DataError(f"{root} has no file {pattern}: {hint}")

        def read(rows: Sequence[int]) -> dict[str, list[str]]:
            return {"text": [read_text(root / names[i], errors) for i in rows]}

        return cls(range(len(names)), names, read, folder=root, how=("files", errors))

    def __iter__(self) -> Iterator[str]:
        step = CHUNK_ROWS if self.folder is None else 1
        for begin in range(0, len(self.rows), step):
            texts = list(self.read(self.rows[begin : begin + step]).values())
            yield from map(join_columns, zip(*texts, strict=True)) if self.marked else texts[0]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Documents({len(self):,} documents)"

    @property
    def ids(self) -> Sequence[str]:
        """What the documents are called: relative paths, row labels or numbers, or as given."""
        return [str(self.names[i]) for i in self.rows]

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the contents, or of the files' identities."""
        folder = self.folder
        return digest(self if folder is None else [*self.how, *(file_identity(folder / name) for name in self.ids)])

    def describe(self, i: int) -> dict[str, str]:
        """Document `i` as it was, by the name of each column, or as "text"."""
        return {name: texts[0] for name, texts in self.read([self.rows[i]]).items()}

    def take(self, positions: Iterable[int]) -> Documents:
        """Some of the documents, in the order of `positions`."""
        return replace(self, rows=[self.rows[i] for i in positions])


def read_text(path: StrPath, errors: Errors = "strict") -> str:
    """A whole file. A DataError says what cannot be read, or is no UTF-8, and where."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return data.decode("utf-8", errors).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not utf-8: broken at byte {error.start} (0x{data[error.start]:02x}). Pass errors='replace' to "
            "read it with U+FFFD there, or write it anew as utf-8"
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
    """The texts of several columns as one, each after a mark and its number."""
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
