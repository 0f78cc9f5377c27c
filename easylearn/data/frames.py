"""Tables out of files: csv files (packed ones too) and parquet, read by one set of rules, which docs/labels.md tells.

What a trained model knows as text is read as text, and what it knows as numbers cell by cell, so that a file to predict
for, or one to validate on, never means another thing than the training data did: pass `**known_types(frame)`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, EasyLearnWarning, did_you_mean
from ..files import StrPath, file_identity
from .cells import EMPTY, EXACT, FIRST, Known, as_column, no_text, read_cell
from .csv_rows import CsvRows, Piece
from .places import Place, Shelf, copied, is_elsewhere
from .values import MISSING_WORDS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

_NO_CSV = {".xlsx": "excel", ".xls": "excel", ".ods": "excel", ".json": "json", ".feather": "feather", ".dta": "stata"}

_MISSING = list(EMPTY.union(*({w, w.upper(), w.title()} for w in MISSING_WORDS)))


class KnownTypes(TypedDict):
    """Columns that are text, and those that are read cell by cell; see `read_table`."""

    text: list[str]
    numbers: list[str]


@dataclass(frozen=True)
class Table:
    """Rows out of a file, and what messages call them.

    Args:
        frame: the rows, numbered from `first` on.
        path: the file.
        lines: of a csv file: the line in which each row begins; None for parquet.
    """

    frame: pd.DataFrame
    path: Path
    lines: npt.NDArray[np.int64] | None = None

    def where(self, i: int) -> str:
        """What messages call row `i` of the frame."""
        if self.lines is None:
            return f"{self.path.name} row {self.frame.index[i]}"
        return f"{self.path.name} line {self.lines[i]}"


def read_table(
    path: StrPath,
    *,
    columns: Sequence[str] | None = None,
    text: Collection[str | int] = (),
    numbers: Collection[str | int] = (),
    is_data: Callable[[str], bool] | None = None,
) -> Table:
    r"""A csv file with a header, or parquet, as a table.

    Args:
        path: the file, packed or not; or a folder of parquet files.
        columns: which to read, in this order; None takes all.
        text: columns that are text, by name or by position; others than the file has are ignored.
        numbers: columns that are read cell by cell, as float64; what is no number stays text in a column of objects,
            and whole numbers beyond 2**53 make it Int64.
        is_data: says of a cell of the header whether it is data, as the name of a file that exists is; then the file
            has no header, and is refused.

    Returns:
        The table. Parquet columns have the types of the file, whatever `text` says.

    Raises:
        DataError: there is no such file or column, the header is missing or names a column twice, a row has more
            fields than the header, or bytes are no UTF-8; the line is named. Fewer fields are told.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "shops.csv"
    >>> _ = file.write_text("zip,size,kind\n01234,7,NA\n99999,NA,b\n")
    >>> table = read_table(file)
    >>> table.frame.to_dict("list"), table.where(1)
    ({'zip': ['01234', '99999'], 'size': [7.0, nan], 'kind': ['NA', 'b']}, 'shops.csv line 3')
    """
    file = _existing(path)
    if _is_parquet(file):
        whole = ParquetTable(file)
        return Table(whole.read(_known(file, whole.columns, columns)), file)
    rows = CsvRows(file)
    _check_header(rows, is_data)
    return next(_csv_tables(rows, columns, text, numbers, whole=True))


def iter_table(
    path: StrPath,
    n: int,
    *,
    columns: Sequence[str] | None = None,
    text: Collection[str | int] = (),
    numbers: Collection[str | int] = (),
) -> Iterator[Table]:
    """As `read_table`, at most `n` rows at a time: for files to predict for, which may be larger than memory.

    No cell means another thing because of the piece that it is read in, so a csv file with a column that is neither in
    `text` nor in `numbers` is read as a whole first.
    """
    file = _existing(path)
    if _is_parquet(file):
        whole = ParquetTable(file)
        names = _known(file, whole.columns, columns)
        tables: Iterator[Table] = (Table(whole.read_group(group, names), file) for group in whole.groups)
    else:
        tables = _csv_tables(CsvRows(file), columns, text, numbers, whole=False)
    for table in tables:
        for begin in range(0, len(table.frame), n):
            lines = None if table.lines is None else table.lines[begin : begin + n]
            yield Table(table.frame.iloc[begin : begin + n], file, lines)


def known_types(frame: pd.DataFrame) -> KnownTypes:
    """What `read_table` is to be told so that another file's columns are read as those of this table.

    >>> import pandas as pd
    >>> known_types(pd.DataFrame({"zip": ["01234"], "size": [7]}))
    {'text': ['zip'], 'numbers': ['size']}
    """
    import pandas as pd

    types = pd.api.types
    text = [str(c) for c, t in frame.dtypes.items() if isinstance(t, pd.StringDtype) or t == np.object_]
    numbers = [str(c) for c, t in frame.dtypes.items() if types.is_numeric_dtype(t) or types.is_bool_dtype(t)]
    return {"text": text, "numbers": numbers}


def column_names(path: StrPath) -> list[str]:
    """The columns of a file that `read_table` reads."""
    file = _existing(path)
    return ParquetTable(file).columns if _is_parquet(file) else CsvRows(file).names


def _known(file: Path, names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """The columns to read, which must be there, and once."""
    wanted = list(names if columns is None else columns)
    known = set(names)
    absent = [name for name in wanted if name not in known]
    if absent:
        raise DataError(f"{file} has no columns {absent}. {did_you_mean(str(absent[0]), names)}")
    twice = sorted({name for name in wanted if names.count(name) > 1}) if len(known) < len(names) else []
    if twice:
        raise DataError(
            f"{file} has more than one column called {', '.join(map(repr, twice[:5]))}; rename them in the header, or "
            "add a header if the first line is data"
        )
    return wanted


def _existing(path: StrPath) -> Path:
    try:
        file = copied(path) if is_elsewhere(path) else Path(path)
    except TypeError as error:
        raise ArgumentError(f"expected the name of a csv or parquet file, got {type(path).__name__}") from error
    if not file.exists():
        folder = file.parent
        near = sorted(f.name for f in folder.iterdir()) if folder.is_dir() else []
        hint = did_you_mean(file.name, near) if folder.is_dir() else f"There is no folder {folder} either."
        raise DataError(f"there is no file {file}. {hint}".rstrip())
    if reader := _NO_CSV.get(file.suffix.lower()):
        raise DataError(f"{file} is neither csv nor parquet; pass the DataFrame that pandas.read_{reader}(path) gives")
    return file


def _is_parquet(file: Path) -> bool:
    if file.is_dir() or file.suffix.lower() in (".parquet", ".pq"):
        return True
    try:
        with open(file, "rb") as opened:
            return opened.read(4) == b"PAR1"
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _check_header(rows: CsvRows, is_data: Callable[[str], bool] | None) -> None:
    data = next((name for name in rows.names if is_data is not None and is_data(name)), None)
    if data is not None:
        raise DataError(
            f"{rows.path}, line {rows.header_line}: {data!r} is no name of a column but data itself, so the file "
            "seems to have no header; put one before it, such as file,label"
        )
    if not any(isinstance(read_cell(name), str) for name in rows.names):
        warnings.warn(
            f"{rows.path}: the first line, {', '.join(rows.names[:5])}, holds only numbers and is taken for a header; "
            "if it is data, put a header before it",
            EasyLearnWarning,
            stacklevel=3,
        )


def _csv_tables(
    rows: CsvRows,
    columns: Sequence[str] | None,
    text: Collection[str | int],
    numbers: Collection[str | int],
    whole: bool,
) -> Iterator[Table]:
    """The rows in one table, or in pieces where this is not to be the `whole` and all is known of the columns."""
    import pandas as pd

    names = rows.names
    used = {names.index(name): name for name in _known(rows.path, names, columns)}

    def named(given: Collection[str | int]) -> set[str | int]:
        return {names[i] if isinstance(i, int) and -len(names) <= i < len(names) else i for i in given}

    given: dict[str | int, Known] = {**dict.fromkeys(named(numbers), "numbers"), **dict.fromkeys(named(text), "text")}
    known: dict[int, Known] = {j: given.get(name, "") for j, name in used.items()}
    pieces = rows.pieces(list(used))
    if whole or "" in known.values():
        pieces = iter([Piece.join(list(pieces), used)])
    first = 0
    for piece in pieces:
        frame = _frame(rows, piece, known)
        frame.columns = pd.Index(list(used.values()))
        frame.index = pd.RangeIndex(first, first + len(frame))
        yield Table(frame, rows.path, piece.lines)
        first += len(frame)


def _frame(rows: CsvRows, piece: Piece, known: Mapping[int, Known]) -> pd.DataFrame:
    """Columns of a piece as pandas reads them; those that it spoils are read as they are, and by `as_column`."""
    import pandas as pd

    # Since 3.1 pandas reads floats exactly, and warns of the argument that asked it to.
    exact: dict[str, Any] = (
        {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
    )
    read: dict[int, pd.Series[Any]] = {}
    comma = rows.delimiter == ";"
    for words in (list(EMPTY), _MISSING, []) if piece.data else ():
        left = [j for j in known if j not in read and (not words or piece.zeros[j] >= 0)]
        if not left:
            continue
        frame: pd.DataFrame = pd.read_csv(
            io.BytesIO(piece.data), sep=rows.delimiter, header=None, names=range(len(rows.names)), usecols=left,
            index_col=False, dtype=None if words else object, keep_default_na=False, na_values=words,
            skip_blank_lines=False, low_memory=False, **exact,
        )  # fmt: skip
        for j in left:
            column = frame[j]
            if not words:
                read[j] = as_column(column.to_numpy(), rows.names[j], known[j], comma=comma)
            elif _is_right(column, known[j], comma, words is not _MISSING):
                read[j] = column.astype(float) if known[j] == "numbers" and column.dtype.kind in "iu" else column
    whole: pd.DataFrame = pd.DataFrame({j: read[j] if piece.data else as_column([], known=known[j]) for j in known})
    return whole


def _is_right(column: pd.Series[Any], known: Known, comma: bool, may_be_text: bool) -> bool:
    """Whether pandas made of cells what `as_column` would."""
    kind = column.dtype.kind
    if known != "text" and kind in "iufb":
        values = column.to_numpy()
        few = (values < EXACT) & (values > -EXACT)  # others lose their last digits as floats
        return kind == "b" or (kind != "f" and not known) or bool(few.sum() == (values == values).sum() > 0)
    first = column.first_valid_index() if may_be_text and known != "numbers" else None
    if first is None or not isinstance(column[first], str) or column.isin(EMPTY).any():
        return False  # where whole numbers are longer than 64 bits, pandas marks none as missing
    return known == "text" or not no_text(column.iloc[:FIRST].fillna("").tolist(), comma)


class RowGroup(NamedTuple):
    """Rows of a parquet table, from `start` to before `stop`, that are one numbered group of a file called `name`."""

    file: pq.ParquetFile
    name: str
    number: int
    start: int
    stop: int


class ParquetTable:
    """One parquet file, or a folder of them in the order of their names, read by columns and by row groups.

    Args:
        path: of this machine, or an address such as s3://bucket/table.
        cache: of a table elsewhere: bytes of this machine's disk for the row groups that `read_group` keeps.

    Raises:
        ArgumentError: pyarrow is not installed.
        DataError: there is no such file, it is damaged, or the files have different columns.
    """

    def __init__(self, path: StrPath, cache: int = 0) -> None:
        try:
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ArgumentError(
                "reading parquet needs pyarrow, which is not installed: pip install 'easylearn[parquet]'"
            ) from error
        self.path: Path | Place = Place.of(str(path)) if is_elsewhere(path) else Path(path)
        self.files: Sequence[Path | Place] = [self.path]
        if isinstance(self.path, Place):
            self.files = self.path.files(".parquet")
        elif not self.path.exists():
            raise DataError(f"there is no parquet file or folder {self.path}")
        elif self.path.is_dir():
            self.files = sorted(self.path.glob("*.parquet"))
        if not self.files:
            raise DataError(
                f"{self.path} is a folder and holds no *.parquet file; give a csv by its own path, 'folder/data.csv'"
            )
        self.columns: list[str] = []
        self.groups: list[RowGroup] = []
        self.n_bytes = self.n_rows = 0
        for file in self.files:
            opened = _open(pq, file)
            names = opened.schema_arrow.names
            self.columns = self.columns or list(names)
            if differing := sorted(set(names) ^ set(self.columns)):
                raise DataError(f"{file} and {self.files[0]} have different columns: {differing[:10]}")
            for k in range(opened.metadata.num_row_groups):
                info = opened.metadata.row_group(k)
                self.groups.append(RowGroup(opened, str(file), k, self.n_rows, self.n_rows + info.num_rows))
                self.n_bytes += info.total_byte_size
                self.n_rows += info.num_rows
        keeps = cache and isinstance(self.path, Place)
        self._shelf = Shelf("\x1f".join(self.identity()), cache) if keeps else None

    def read_group(self, group: RowGroup, columns: Sequence[str], *, keep: bool = False) -> pd.DataFrame:
        """Some columns of one row group, the index the positions of the rows in the whole table.

        Args:
            group, columns: of this table.
            keep: it will be read again: keep it on this machine's disk, if it comes from elsewhere and there is room.
        """
        if self._shelf is None or not keep:
            return self._frame([group], columns)
        key = "\x1f".join([group.name, str(group.number), *columns])
        return self._made([group], [self._shelf.get(key, lambda: self._read(group, columns))])

    def read(self, columns: Sequence[str], most_rows: int | None = None, *, categories: bool = False) -> pd.DataFrame:
        """Some columns of all rows, or of the first row groups that have `most_rows` rows between them.

        Args:
            columns, most_rows: which columns, and how many rows; None for all.
            categories: text as categories, which take a byte or two for each row.
        """
        if not self.groups:
            raise DataError(f"{self.path} has no rows")
        enough = (i for i, g in enumerate(self.groups, 1) if most_rows is not None and g.stop >= most_rows)
        return self._frame(self.groups[: next(enough, None)], columns, categories)

    def _frame(self, groups: Sequence[RowGroup], columns: Sequence[str], categories: bool = False) -> pd.DataFrame:
        return self._made(groups, [self._read(group, columns) for group in groups], categories)

    def _read(self, group: RowGroup, columns: Sequence[str]) -> pa.Table:
        from pyarrow import ArrowException

        try:
            return group.file.read_row_group(group.number, columns=list(columns))
        except (ArrowException, OSError) as error:
            raise DataError(f"{group.name}: row group {group.number} cannot be read: {error}") from error

    def _made(self, groups: Sequence[RowGroup], tables: Sequence[pa.Table], categories: bool = False) -> pd.DataFrame:
        import pandas as pd
        import pyarrow as pa

        try:
            whole = pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(f"the files of {self.path} do not go together: {error}") from error
        frame: pd.DataFrame = whole.to_pandas(strings_to_categorical=categories)
        frame.index = pd.RangeIndex(groups[0].start, groups[-1].stop)
        return frame

    def identity(self) -> list[str]:
        """What tells these files, in this state, from all others."""
        return [f.identity() if isinstance(f, Place) else file_identity(f) for f in self.files]


def _open(pq: Any, file: Path | Place) -> pq.ParquetFile:
    from pyarrow import ArrowException

    try:
        if isinstance(file, Place):  # neighbouring columns in one request
            return pq.ParquetFile(file.path, filesystem=file.system, pre_buffer=True)
        return pq.ParquetFile(file)
    except (ArrowException, OSError) as error:
        raise DataError(f"{file} is not a whole parquet file: {error}") from error
