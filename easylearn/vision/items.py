"""Where images are: folders, tables, lists and arrays become rows, each of which knows where it came from."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..data.frames import read_table
from ..data.values import is_missing
from ..errors import ArgumentError, DataError, did_you_mean
from ..files import StrPath
from .decode import AnyImage, single_images
from .folders import (
    existing_folder,
    identity,
    is_dead_link,
    is_image,
    is_visible,
    list_files,
    list_images,
    listing,
    printable,
    relative,
)

if TYPE_CHECKING:
    import pandas as pd

Column = int | str
TABLES = (".csv", ".parquet", ".pq")


@dataclass
class Rows:
    """Images with what is known of them, row by row."""

    sources: list[AnyImage]  # what `ItemStage.load` takes
    ids: list[str]
    where: list[str]  # each came from, for messages
    labels: Any = None  # raw values, in any form that `read_targets` takes; None where they are not known
    beside: dict[str, list[Any]] = field(default_factory=dict)  # "groups", "time" and "weights"

    @classmethod
    def of_files(cls, names: Iterable[str], folder: Path, root: Path, where: list[str], labels: Any = None) -> Rows:
        """Files by their names in a folder, with ids that are relative to `root`."""
        files = [folder / name for name in names]
        return cls([str(f) for f in files], [relative(f, root) for f in files], where, labels)

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, index: Iterable[int]) -> Rows:
        """The rows of these numbers."""
        chosen = [int(i) for i in index]

        def of(values: Sequence[Any]) -> list[Any]:
            return [values[i] for i in chosen]

        labels = self.labels
        if isinstance(labels, np.ndarray | Tensor):
            labels = labels[chosen]
        elif labels is not None:
            labels = of(labels) if isinstance(labels, list) else labels.iloc[chosen]
        beside = {name: of(values) for name, values in self.beside.items()}
        return Rows(of(self.sources), of(self.ids), of(self.where), labels, beside)


@dataclass
class Listed:
    """Images as they were given, before they are split."""

    rows: Rows  # all that are to be split, or the training images where validation is given by itself
    valid: Rows | None = None
    test: Rows | None = None
    folder_labels: bool = True  # those of `test` are names of folders, which count where all of them are classes
    root: Path | None = None  # what ids are relative to; None for images in memory
    index: pd.Index[Any] | None = None  # the labels of a DataFrame's rows, by which a mask is read
    left_out: dict[str, str] = field(default_factory=dict)  # folders without an image, with what they hold


def listed_folders(path: StrPath, train: str, valid: Any, test: str | bool | None) -> Listed:
    """The images of class folders; see `ImageData.from_folder`."""
    root = existing_folder(path, f"{train}/ and {valid if isinstance(valid, str) else 'class folders'}/")
    left_out: dict[str, str] = {}
    is_split = isinstance(valid, str)
    if is_split:
        _need_both(root, train, valid)
        _refuse_one([root / train, root / valid], "its images would train and validate")
    base = root / train if is_split or _holds_classes(root / train) else root
    name = _test_name(root, test, unsplit=base == root)
    rows = _class_rows(root, base, left_out, leave_out=name if base == root else None, say_empty=base != root)
    by_itself = _class_rows(root, root / valid, left_out) if is_split else None
    return Listed(rows, by_itself, folder_to_predict(root, name), root=root, left_out=left_out)


def _need_both(root: Path, train: str, valid: str) -> None:
    for name, argument in ((train, "train"), (valid, "valid")):
        if not (root / name).is_dir():
            above = [p for p in root.resolve().parents[:2] if (p / train).is_dir() and (p / valid).is_dir()]
            hint = f"Did you mean {above[0]}, which holds both? " if above else ""
            raise DataError(
                f"{root} has no folder {name!r}; it holds {listing(root)}. Expected {train}/<class>/*.jpg and "
                f"{valid}/<class>/*.jpg. {hint}Pass {argument}=<name of the folder>, or valid=0.2 to split off a fifth "
                "of the images"
            )


def _holds_classes(folder: Path) -> bool:
    """Whether a folder is a split, and no class: it has folders of its own, and no image directly in it."""
    if not folder.is_dir():
        return False
    inside = [f for f in folder.iterdir() if is_visible(f.name)]
    return any(f.is_dir() for f in inside) and not any(is_image(f.name) for f in inside if f.is_file())


def _test_name(root: Path, test: str | bool | None, unsplit: bool) -> str | None:
    """The folder of images to predict: the one that was named, else "test" where it cannot be a class."""
    if isinstance(test, str):
        return test
    if test is False or not (root / "test").is_dir():
        return None
    if unsplit and not _holds_classes(root / "test"):
        raise ArgumentError(
            f'{root / "test"} lies among class folders: pass test="test" if it holds images to predict, or test=False '
            "if it is a class"
        )
    return "test"


def _class_rows(
    root: Path, folder: Path, left_out: dict[str, str], leave_out: str | None = None, say_empty: bool = False
) -> Rows:
    """The images of a folder that has one sub-folder per class, sorted by id.

    `leave_out` is no class; `left_out` gets the sub-folders that hold files, but none that is read here,
    and with `say_empty` also those that hold none.
    """
    layout = f"one sub-folder per class with its images, as in {folder}/cats/1.jpg and {folder}/dogs/1.jpg"
    existing_folder(folder, layout)
    names = sorted(f.name for f in folder.iterdir() if f.is_dir() and is_visible(f.name) and f.name != leave_out)
    if not names:
        raise DataError(f"{folder} has no class folders; it holds {listing(folder)}. Expected {layout}")
    _refuse_one([folder / name for name in names], "its images would be of two classes")
    for dead in (f for f in folder.iterdir() if is_visible(f.name) and not is_image(f.name) and is_dead_link(f)):
        left_out[relative(dead, root)] = f"it is a link to {printable(os.readlink(dead))}, which is not there"
    files: list[str] = []
    labels: list[str] = []
    for name in names:
        every = list_files(folder / name)
        images = [f"{name}/{f}" for f in every if is_image(f)]
        if every and not images:
            endings = sorted({os.path.splitext(f)[1].lower() or "none" for f in every})
            left_out[relative(folder / name, root)] = f"its files end in {printable(', '.join(endings[:5]))}"
        elif say_empty and not every and not (folder / name).is_symlink():
            left_out[relative(folder / name, root)] = "it is empty"
        files += images
        labels += [_class_name(name)] * len(images)
    if not files:
        raise DataError(
            f"no image files below {folder}, whose sub-folders are {printable(', '.join(names[:8]))}. Expected "
            f"{layout}, with endings such as .jpg, .png, .webp"
        )
    where = [f"in {printable(os.path.join(folder, f.split('/')[0]))}" for f in files]
    rows = Rows.of_files(files, folder, root, where, labels)
    return rows.take(sorted(range(len(files)), key=rows.ids.__getitem__))


def _refuse_one(folders: Sequence[Path], why: str) -> None:
    """Refuse two names of one folder, as links make them."""
    first: dict[tuple[int, int], Path] = {}
    for folder in folders:
        other = first.setdefault(identity(folder), folder)
        if other != folder:
            raise DataError(f"{other} and {folder} are one folder, by a link, and {why}. Remove the link")


def _class_name(folder: str) -> str:
    # macOS may write an accent as a letter of its own: that is no other class
    return unicodedata.normalize("NFC", printable(folder))


def named_tables(root: Path, csv: StrPath, valid: Any) -> list[Path]:
    """The table `csv`, and that of validation images where `valid` names one; both are relative to `root`."""
    has_more = isinstance(valid, str) and Path(valid).suffix.lower() in TABLES
    return [root / csv, *([root / valid] if has_more else [])]


def folder_to_predict(root: Path, name: str | None) -> Rows | None:
    """The images of a folder to predict, if one is named; where all lie in sub-folders these are their labels."""
    if name is None:
        return None
    folder = existing_folder(root / name, "a folder of images to predict")
    files = list_images(folder)
    if not files:
        raise DataError(f"no image files in the test folder {folder}; it holds {listing(folder)}")
    tops = [_class_name(f.split("/")[0]) if "/" in f else "" for f in files]
    return Rows.of_files(files, folder, root, [f"in {folder}"] * len(files), tops if all(tops) else None)


@dataclass(frozen=True)
class TableOptions:
    """How a table names images and their labels.

    Args:
        suffix: appended to each file name, such as ".jpg".
        file_col: column of file names, by name or number.
        label_col: column of labels; several of 0 and 1 are several labels, of numbers several numbers.
        label_sep: what stands between the labels of one image, often " ".
        time: column of times: the latest images validate.
        test: a folder of images to predict, relative to `path`.
    """

    suffix: str = ""
    file_col: Column = 0
    label_col: Column | Sequence[Column] = 1
    label_sep: str | None = None
    time: Column | None = None
    test: str | None = None

    def rows(
        self, given: Path | pd.DataFrame, root: Path, folder: str, beside: Mapping[str, Any], wanted: str = "label_col"
    ) -> Rows:
        """The images that a csv, a parquet file or a DataFrame names, in `folder` below `root`.

        `beside` are columns that are wanted beside the labels; what is no name of a column is left to others. `wanted`
        is what users call `label_col`.
        """
        images = existing_folder(root / folder, "the images that the table names")
        columns = [self.label_col] if isinstance(self.label_col, int | str) else list(self.label_col)
        text = columns if self.label_sep is not None else []
        table, rows = files_of(given, self.file_col, images, self.suffix, root, text)
        rows.labels = table[[column_name(table, c, wanted) for c in columns]]
        for what, column in {**beside, "time": self.time}.items():
            if isinstance(column, int | str):
                rows.beside[what] = table[column_name(table, column, what)].tolist()
        return rows


def files_of(
    given: Path | pd.DataFrame, column: Column, folder: Path, suffix: str, root: Path, text: Sequence[Column] = ()
) -> tuple[pd.DataFrame, Rows]:
    """A table, whose columns of `text` are read as it, and the files that it names."""
    where: Callable[[int], str] = "row {} of the DataFrame".format
    if isinstance(given, Path):  # a header that names an image is none
        read = read_table(given, text=[column, *text], is_data=lambda cell: (folder / f"{cell}{suffix}").is_file())
        table, where = read.frame, read.where
    else:
        table = given
    name = column_name(table, column, "file_col")
    if (folder / f"{name}{suffix}").is_file():  # else the first image would be lost
        raise DataError(
            f"the column of file names is called {name!r}, and a file has that name: the table seems to have no header "
            "line. Write one above the first image, such as file,label"
        )
    files = table[name].tolist()
    for i, file in enumerate(files):
        if is_missing(file):
            raise DataError(f"{where(i)}: the file name is missing. Fill it in or remove the row")
    said = [f"{where(i)} ({file})" for i, file in enumerate(files)]
    return table, Rows.of_files([f"{file}{suffix}" for file in files], folder, root, said)


def column_name(table: pd.DataFrame, column: Column, argument: str) -> Any:
    """The name of a column given by name or by number."""
    names = list(table.columns)
    if column in names:
        return column
    if isinstance(column, int):
        if -len(names) <= column < len(names):
            return names[column]
        raise ArgumentError(f"{argument}={column}, but the table has {len(names)} columns: {names}")
    raise ArgumentError(f"{argument}={column!r} is not a column. {did_you_mean(str(column), [str(n) for n in names])}")


def named_in(file: Path) -> list[str]:
    """The files that a table names in its first column."""
    _, rows = files_of(file, 0, file.parent, "", file.parent)
    return [os.path.relpath(source, file.parent) for source in rows.sources]


def named_rows(root: Path, names: Sequence[str], labels: Any) -> Rows:
    """Files by name with a label each."""
    if len(labels) != len(names):
        raise DataError(f"there are {len(names)} names but {len(labels)} labels")
    return Rows.of_files(names, root, root, [f"names[{i}] ({n})" for i, n in enumerate(names)], _as_labels(labels))


def array_rows(given: Any, name: str) -> Rows:
    """(x, y) in memory, as `ImageData.from_arrays` takes them; y may be None."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ArgumentError(f"{name} must be a pair (images, labels), got {type(given).__name__}")
    x, y = given
    if isinstance(x, np.ndarray | Tensor):
        sources = single_images(x, name)
    elif isinstance(x, Sequence) and not isinstance(x, str):
        sources = list(x)
    else:
        raise DataError(f"{name}: images must come as an array, a tensor or a list, got {type(x).__name__}")
    ids = [f"{name}[{k}]" for k in range(len(sources))]
    if y is not None and len(y) != len(sources):
        raise DataError(f"{name} has {len(sources)} images but {len(y)} labels")
    if isinstance(y, list | tuple) and all(_is_row_of_flags(row, y[0]) for row in y):
        y = np.asarray([list(row) for row in y])
    return Rows(sources, ids, list(ids), None if y is None else _as_labels(y))


def listed_arrays(
    train: Any, valid: Any, test: Any, size: Any, rows_of: Callable[[Any, str], Rows] = array_rows
) -> tuple[Listed, Any]:
    """Images in memory, as `from_arrays` takes them, and their size where none is given.

    Args:
        train, valid, test, size: see `ImageData.from_arrays`.
        rows_of: makes rows of a pair (x, y) and the name of its split.
    """
    given = {"train": train}
    if isinstance(valid, tuple) and len(valid) == 2 and not isinstance(valid[0], Integral):
        given["valid"] = valid
    if test is not None:
        given["test"] = test if isinstance(test, tuple) and len(test) == 2 else (test, None)
    by_name = {name: rows_of(pair, name) for name, pair in given.items()}
    rows = by_name["train"]
    if size is None:
        first = rows.sources[0] if len(rows) else None
        if not isinstance(first, np.ndarray):
            raise ArgumentError("pass size=, since the images are not arrays of one size")
        size = (int(first.shape[0]), int(first.shape[1]))
    return Listed(rows, by_name.get("valid"), by_name.get("test"), folder_labels=False), size


def _as_labels(given: Any) -> Any:
    """Labels that `Rows.take` can take of: arrays, columns and tables as they are, else a list."""
    is_table = getattr(given, "iloc", None) is not None
    return given if is_table or isinstance(given, np.ndarray | Tensor) else list(given)


def _is_row_of_flags(row: Any, first: Any) -> bool:
    """Whether a list holds 0 and 1 for each of several classes, as the first one does."""
    return isinstance(row, list | tuple) and 1 < len(row) == len(first) and all(v in (0, 1) for v in row)
