"""Which pictures there are and what their labels say: folders, tables and lists, checked before training.

Everything here knows where a row came from (a folder, a line of a csv), so that each error names it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from .. import task as tasks
from ..errors import ArgumentError, DataError, EasyLearnWarning, did_you_mean
from ..task import Task
from .decode import IMAGE_SUFFIXES, ItemStage, Source

if TYPE_CHECKING:
    import pandas as pd

OnError = Literal["raise", "skip"]
Kind = Literal["single_label", "multi_label", "regression"]
Column = int | str


@dataclass
class Rows:
    """Pictures with their labels, row by row.

    Args:
        sources: what `ItemStage.load` takes.
        ids: one name each.
        labels: a word, a tuple of words or a tuple of numbers each; empty where nobody knows any.
        where: where each row came from, for messages.
    """

    sources: list[Source] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    where: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, positions: Iterable[int]) -> Rows:
        """The rows at these positions."""
        chosen = [int(p) for p in positions]
        return Rows(
            [self.sources[p] for p in chosen],
            [self.ids[p] for p in chosen],
            [self.labels[p] for p in chosen] if self.labels else [],
            [self.where[p] for p in chosen],
        )


# -- folders -----------------------------------------------------------------------------------------


def existing_folder(path: str | os.PathLike[str], expected: str) -> Path:
    """The folder, or an error that says what it should have held."""
    folder = Path(path)
    if not folder.exists():
        near = folder.parent
        found = f"{near} holds {listing(near)}" if near.is_dir() else f"{near} does not exist either"
        raise DataError(f"the folder {folder} does not exist ({found}). Expected {expected}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder. Expected {expected}")
    return folder


def list_images(folder: Path) -> list[str]:
    """Every image file below `folder`, as sorted posix paths relative to it; hidden files are left out."""
    found: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if _visible(f)]
        base = Path(place).relative_to(folder)
        pictures = (f for f in files if _visible(f) and os.path.splitext(f)[1].lower() in IMAGE_SUFFIXES)
        found += [(base / f).as_posix() for f in pictures]
    return sorted(found)


def _visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def listing(folder: Path) -> str:
    """What a folder holds, in a few words."""
    folders = sorted(f.name + "/" for f in folder.iterdir() if f.is_dir() and _visible(f.name))
    files = sorted(f.name for f in folder.iterdir() if not f.is_dir() and _visible(f.name))
    shown = folders[:8] + files[:3]
    rest = len(folders) + len(files) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "") if shown else "nothing"


def folder_rows(root: Path, folder: Path, leave_out: Sequence[str] = ()) -> Rows:
    """The pictures of a folder that has one sub-folder per class, sorted by id.

    Args:
        root: what ids are relative to.
        folder: holds the class folders.
        leave_out: sub-folders that are no classes.

    Raises:
        DataError: there are no class folders, or no pictures in them.
    """
    layout = f"one sub-folder per class with its pictures, as in {folder}/cats/1.jpg and {folder}/dogs/1.jpg"
    existing_folder(folder, layout)
    names = sorted(f.name for f in folder.iterdir() if f.is_dir() and _visible(f.name) and f.name not in leave_out)
    if not names:
        raise DataError(f"{folder} has no class folders; it holds {listing(folder)}. Expected {layout}")
    rows = Rows()
    base = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()
    prefix = "" if base == "." else base + "/"
    for name in names:
        for file in list_images(folder / name):
            rows.sources.append(str(folder / name / file))
            rows.ids.append(f"{prefix}{name}/{file}")
            rows.labels.append(name)
            rows.where.append(f"in {folder / name}")
    if not rows.sources:
        raise DataError(
            f"no image files below {folder}, whose sub-folders are {', '.join(names[:8])}. Expected {layout}, with "
            "endings such as .jpg, .png, .webp"
        )
    order = sorted(range(len(rows)), key=rows.ids.__getitem__)
    return rows.take(order)


def rows_to_predict(root: Path, folder: Path, classes: Sequence[str]) -> Rows:
    """The pictures of a test folder; labelled if they all lie in sub-folders named like classes."""
    existing_folder(folder, "a folder of pictures to predict")
    files = list_images(folder)
    if not files:
        raise DataError(f"no image files in the test folder {folder}; it holds {listing(folder)}")
    base = folder.relative_to(root).as_posix() + "/" if folder.is_relative_to(root) else folder.as_posix() + "/"
    tops = [f.split("/")[0] if "/" in f else "" for f in files]
    return Rows(
        [str(folder / f) for f in files],
        [base + f for f in files],
        tops if set(tops) <= set(classes) else [],
        [f"in {folder}"] * len(files),
    )


# -- tables ------------------------------------------------------------------------------------------


def read_csv(file: Path) -> pd.DataFrame:
    """A csv as text; only empty cells and nan are missing, so that a class may be called "NA".

    The index is the line number in the file, the header being line 1.
    """
    import pandas as pd

    if not file.is_file():
        raise DataError(f"the csv file {file} does not exist")
    try:
        table: pd.DataFrame = pd.read_csv(
            file, dtype=str, keep_default_na=False, na_values=["", "nan", "NaN", "NAN"], skip_blank_lines=False
        )
    except (ValueError, OSError) as error:  # pandas' ParserError, EmptyDataError and UnicodeDecodeError are ValueErrors
        raise DataError(
            f"{file} cannot be read as csv: {error}. Expected a header line and one line per picture"
        ) from error
    table.index = pd.RangeIndex(2, 2 + len(table))
    filled: pd.DataFrame = table.dropna(how="all")
    return filled


def column_name(table: pd.DataFrame, column: Column, argument: str) -> Any:
    """The name of a column given by name or by position."""
    names = list(table.columns)
    if column in names:
        return column
    if isinstance(column, int) and -len(names) <= column < len(names):
        return names[column]
    if isinstance(column, int):
        raise ArgumentError(f"{argument}={column}, but the table has {len(names)} columns: {names}")
    raise ArgumentError(f"{argument}={column!r} is not a column. {did_you_mean(str(column), [str(n) for n in names])}")


def table_rows(
    table: pd.DataFrame,
    folder: Path,
    *,
    root: Path,
    suffix: str,
    file_col: Column,
    label_cols: Sequence[Column],
    label_sep: str | None,
    kind: Kind,
    where: Callable[[int], str],
) -> Rows:
    """The pictures that a table names; missing cells are errors that name their row.

    Args:
        table: one row per picture.
        folder: holds the files.
        root: what ids are relative to.
        suffix: appended to each name, such as ".jpg".
        file_col: the column of file names.
        label_cols: the column of labels, or several of numbers.
        label_sep: what stands between the labels of one picture.
        kind: what is predicted.
        where: a row's position to words, for messages.
    """
    files = table[column_name(table, file_col, "file_col")].tolist()
    names = [column_name(table, c, "label_col") for c in label_cols]
    columns = [table[n].tolist() for n in names]
    rows = Rows()
    for position, file in enumerate(files):
        place = where(position)
        if _missing(file):
            raise DataError(f"{place}: the file name is missing. Fill it in or remove the row")
        cells = [c[position] for c in columns]
        for name, cell in zip(names, cells, strict=True):
            if _missing(cell):
                raise DataError(
                    f"{place} ({file}): the label in column {name!r} is missing (NaN). Fill it in or remove the row"
                )
        full = folder / (str(file) + suffix)
        rows.sources.append(str(full))
        rows.ids.append(relative(full, root))
        rows.where.append(place)
        rows.labels.append(_label(cells, names, label_sep, kind, f"{place} ({file})"))
    return rows


def relative(file: Path, root: Path) -> str:
    """A file's id: its posix path relative to `root`, or its whole path if it lies elsewhere."""
    clean = Path(os.path.normpath(file))
    base = Path(os.path.normpath(root))
    return clean.relative_to(base).as_posix() if clean.is_relative_to(base) else clean.as_posix()


def _missing(cell: Any) -> bool:
    import pandas as pd

    return cell is None or cell is pd.NA or (isinstance(cell, float | np.floating) and bool(np.isnan(cell)))


def _label(cells: list[Any], names: Sequence[Any], sep: str | None, kind: Kind, place: str) -> Any:
    if kind == "regression":
        numbers = []
        for name, cell in zip(names, cells, strict=True):
            try:
                numbers.append(float(cell))
            except (TypeError, ValueError) as error:
                raise DataError(f"{place}: column {name!r} must hold numbers for regression, got {cell!r}") from error
            if not np.isfinite(numbers[-1]):
                raise DataError(f"{place}: column {name!r} must hold finite numbers, got {cell!r}")
        return tuple(numbers)
    if kind == "multi_label":
        text = str(cells[0])
        return tuple(dict.fromkeys(w for w in (text.split() if sep == " " else map(str.strip, text.split(sep))) if w))
    return word(cells[0])


def word(cell: Any) -> str:
    """A label as text; whole floats lose their ".0", since a column of integers with a gap is read as floats."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def plain_labels(
    labels: Sequence[Any], regression: bool, classes: Sequence[str] | None, where: Callable[[int], str]
) -> tuple[Kind, list[Any]]:
    """Labels given as words, class numbers, lists of words or numbers to predict.

    Args:
        labels: one per picture.
        regression: whether they are numbers to predict.
        classes: if given, whole numbers are positions in it.
        where: a position to words, for messages.

    Returns:
        The kind of task, and the labels as `Rows` holds them.
    """
    values = [label.tolist() if isinstance(label, np.ndarray | np.generic | Tensor) else label for label in labels]
    several = [isinstance(v, list | tuple | set | frozenset) for v in values]
    if any(several) and not all(several):
        raise DataError(f"{where(several.index(not several[0]))}: some labels are lists and some are not")
    kind: Kind = "regression" if regression else "multi_label" if any(several) else "single_label"
    widths = {len(v) for v in values} if regression and any(several) else {1}
    if len(widths) > 1:
        raise DataError(f"every picture needs as many numbers for regression, got {sorted(widths)}")
    out: list[Any] = []
    for position, value in enumerate(values):
        cells = sorted(value) if isinstance(value, set | frozenset) else list(value) if several[position] else [value]
        if any(_missing(c) for c in cells):
            raise DataError(f"{where(position)}: the label is missing (NaN). Fill it in or leave the picture out")
        if regression:
            out.append(_label(cells, ["label"] * len(cells), None, kind, where(position)))
            continue
        words = tuple(_class_word(c, classes, where(position)) for c in cells)
        out.append(words if kind == "multi_label" else words[0])
    return kind, out


def _class_word(cell: Any, classes: Sequence[str] | None, place: str) -> str:
    if classes is None or not isinstance(cell, int):
        return word(cell)
    if not 0 <= cell < len(classes):
        raise DataError(f"{place}: the class number {cell} is not between 0 and {len(classes) - 1}")
    return str(classes[cell])


def array_labels(
    labels: Sequence[Any], regression: bool, classes: Sequence[str] | None, where: Callable[[int], str]
) -> tuple[Kind, list[Any]]:
    """As `plain_labels`, but rows of 0 and 1 say which classes a picture has."""
    rows = [label for label in labels if isinstance(label, list | tuple | np.ndarray)]
    if regression or len(rows) != len(labels) or not rows or any(isinstance(v, str) for r in rows for v in r):
        return plain_labels(labels, regression, classes, where)
    width = len(rows[0])
    names = [str(c) for c in classes] if classes is not None else [str(k) for k in range(width)]
    out: list[Any] = []
    for position, row in enumerate(rows):
        if len(row) != width or len(names) != width:
            raise DataError(f"{where(position)}: {len(row)} numbers for {len(names)} classes")
        if any(v not in (0, 1) for v in row):
            raise DataError(f"{where(position)}: multi-label rows hold 0 and 1, got {list(row)}")
        out.append(tuple(n for n, v in zip(names, row, strict=True) if v))
    return "multi_label", out


# -- checks ------------------------------------------------------------------------------------------


def drop_duplicates(rows: Rows) -> list[int]:
    """The positions that stay when each file is taken once.

    Raises:
        DataError: the same file has two different labels; both rows are named.
    """
    first: dict[str, int] = {}
    twice: list[int] = []
    for position, file in enumerate(rows.ids):
        before = first.setdefault(file, position)
        if before == position:
            continue
        if rows.labels[before] != rows.labels[position]:
            raise DataError(
                f"{file} has two labels: {rows.labels[before]!r} at {rows.where[before]} and "
                f"{rows.labels[position]!r} at {rows.where[position]}. Remove one of the rows"
            )
        twice.append(position)
    if twice:
        warnings.warn(
            f"{len(twice)} rows repeat an earlier row with the same label and were left out, the first is "
            f"{rows.ids[twice[0]]} at {rows.where[twice[0]]}",
            EasyLearnWarning,
            stacklevel=4,
        )
    gone = set(twice)
    return [p for p in range(len(rows)) if p not in gone]


def missing_files(rows: Rows) -> list[int]:
    """Positions whose file does not exist."""
    return [p for p, file in enumerate(rows.sources) if isinstance(file, str) and not os.path.isfile(file)]


def missing_file_message(rows: Rows, missing: Sequence[int]) -> str:
    """Names the first missing file and its row, and guesses why."""
    file = Path(rows.sources[missing[0]])
    more = f" ({len(missing)} of {len(rows)} files are missing)" if len(missing) > 1 else ""
    hint = "Check the folder and suffix arguments"
    for ending in sorted(IMAGE_SUFFIXES):
        if Path(f"{file}{ending}").is_file():
            hint = f'The file {file.name}{ending} exists: pass suffix="{ending}"'
    return f'{rows.where[missing[0]]}: the file {file} does not exist{more}. {hint}, or pass on_error="skip"'


class Probe(torch.utils.data.Dataset["list[tuple[int, str]]"]):
    """Tries pictures, small; gives the positions that cannot be read with the reason."""

    def __init__(self, rows: Rows, channels: int) -> None:
        self.sources, self.ids = rows.sources, rows.ids
        # Pillow's reduced decoding reads every byte of a JPEG but computes little: enough to find damage.
        self.stage = ItemStage((32, 32), "squash", channels)

    def __getitem__(self, positions: Sequence[int]) -> list[tuple[int, str]]:
        bad = []
        for p in positions:
            try:
                self.stage.load(self.sources[p], self.ids[p])
            except DataError as error:
                bad.append((p, str(error)))
        return bad


# -- labels to targets -------------------------------------------------------------------------------


def vocabulary(rows: Rows, kind: Kind, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The classes of the training rows: in alphabetical order, whole numbers in theirs; or those given."""
    if classes is not None:
        return tuple(str(c) for c in classes)
    found = {c for label in rows.labels for c in (label if kind == "multi_label" else (label,))}
    if found and all(c.isdecimal() for c in found):
        return tuple(sorted(found, key=lambda c: (int(c), c)))
    return tuple(sorted(found))


def make_task(kind: Kind, names: Sequence[str]) -> Task:
    """The task of that kind."""
    if kind == "single_label":
        return tasks.single_label(names)
    return tasks.multi_label(names) if kind == "multi_label" else tasks.regression(names)


def targets(rows: Rows, task: Task, part: str, split: bool) -> Tensor:
    """Labels as the numbers that the task compares with.

    Args:
        rows: with labels.
        task: owns the list of classes.
        part: "train", "valid" or "test", for the message.
        split: whether the part was split off at random, which the message then explains.

    Raises:
        DataError: a class that is not among the training rows.
    """
    if task.predicts_numbers:
        return torch.tensor(rows.labels, dtype=torch.float32).reshape(len(rows), task.n_out)
    number = {name: i for i, name in enumerate(task.names)}
    unknown: dict[str, str] = {}
    for label, place in zip(rows.labels, rows.where, strict=True):
        for name in label if task.is_multi else (label,):
            if name not in number:
                unknown.setdefault(name, place)
    if unknown:
        name, place = next(iter(unknown.items()))
        others = f" (and {len(unknown) - 1} more: {', '.join(list(unknown)[1:6])})" if len(unknown) > 1 else ""
        advice = (
            "With so few pictures of it, pass stratify=True, another seed, or fix the split with valid=[...]"
            if split
            else "Add training pictures of it, or take it out; the names must match exactly"
        )
        raise DataError(
            f"the class {name!r}{others} is in {part}, {place}, but not in train, whose classes are "
            f"{', '.join(task.names[:10])}{', ...' if task.n_out > 10 else ''}. {advice}"
        )
    if task.is_exclusive:
        return torch.tensor([number[label] for label in rows.labels], dtype=torch.int64)
    out = torch.zeros(len(rows), task.n_out)
    for row, label in enumerate(rows.labels):
        for name in label:
            out[row, number[name]] = 1.0
    return out
