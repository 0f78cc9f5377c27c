"""Boxes out of files: tables, PASCAL VOC's XML, COCO's JSON and instance masks become images with their boxes.

What cannot be right is refused with its place: a box without a label, a class that is not known, a column or a file
that is missing. What can be left out is, and is told: boxes without an area, those outside of their image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..data.values import is_missing
from ..errors import ArgumentError, DataError, did_you_mean
from .boxes_geometry import Array
from .folders import existing_folder, is_image, list_files, list_images, listing
from .items import Column, Rows, array_rows, column_name, files_of
from .mask_files import decoded_mask

if TYPE_CHECKING:
    from xml.etree import ElementTree

    import pandas as pd

Form = Literal["corners", "size"]
Exif = Literal["refuse", "shown", "stored"]
SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
LARGEST_FILE = 2**31  # bytes of JSON
_Box = tuple[Sequence[float], str, str]  # corners, label, and where it was said


@dataclass(frozen=True)
class Boxed:
    """What is known of one image: its boxes in pixels of the file, (k, 4), their labels, and where each was said."""

    corners: Array
    labels: tuple[str, ...]
    where: tuple[str, ...]
    drawn_on: tuple[int, int] | None = None  # (height, width) of the image, if it was said with the boxes


@dataclass(frozen=True)
class BoxOptions:
    """How boxes are given.

    Args:
        file_col: of a table: the column of file names, by name or number.
        box_cols: of a table: the four columns of a box's pixels.
        label_col: of a table: the column of classes; None where all boxes are of one class, "object".
        form: "corners" are xmin, ymin, xmax, ymax; "size" are xmin, ymin, width, height.
        split_col: of a table: a column that says "train", "valid" or "test" of each image.
        classes: fixes the list of classes; a box of any other is refused. None takes those of the training images.
        exif: what boxes mean where a file is to be turned, as a telephone's photographs are: "shown", they are those of
            the image as it is shown; "stored", of the pixels as they lie in the file, and are turned, too; "refuse"
            asks where the size that was said with the boxes does not tell.
        test: a folder of images to predict, relative to `path`.
    """

    file_col: Column = "file"
    box_cols: Sequence[Column] = ("xmin", "ymin", "xmax", "ymax")
    label_col: Column | None = "label"
    form: Form = "corners"
    split_col: Column | None = None
    classes: Sequence[str] | None = None
    exif: Exif = "refuse"
    test: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("form", Form), ("exif", Exif)):
            value = getattr(self, name)
            if value not in get_args(known):
                raise ArgumentError(f"unknown {name} {value!r}. {did_you_mean(str(value), get_args(known))}")
        if isinstance(self.classes, str):
            raise ArgumentError(f"classes is a list of names, got {self.classes!r}; write [{self.classes!r}]")
        if isinstance(self.box_cols, str) or not isinstance(self.box_cols, Iterable) or len(list(self.box_cols)) != 4:
            raise ArgumentError(f"box_cols are four columns, such as xmin, ymin, xmax, ymax; got {self.box_cols!r}")


@dataclass
class Collected:
    """Images in the order in which they came, with their boxes."""

    files: dict[str, list[_Box]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    drawn_on: dict[str, tuple[int, int]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)  # "groups" and "weights", by image
    flat: list[str] = field(default_factory=list)  # where boxes without an area were
    notes: list[str] = field(default_factory=list)
    n_boxes: int = 0

    def image(self, name: str, where: str) -> None:
        """Note an image, which may have no boxes."""
        self.files.setdefault(name, [])
        self.where.setdefault(name, where)

    def add(self, name: str, box: Sequence[float], label: str, where: str) -> None:
        """Note a box of an image, (xmin, ymin, xmax, ymax); one without an area is left out."""
        self.image(name, where)
        self.n_boxes += 1
        if box[2] <= box[0] or box[3] <= box[1]:
            self.flat.append(f"{where}: {', '.join(f'{v:g}' for v in box)}")
        else:
            self.files[name].append((box, label, where))

    def rows(self, folder: Path, root: Path, form: str = "") -> Rows:
        """The images as rows, whose labels are `Boxed`."""
        if not self.files:
            raise DataError(f"no images are listed for {folder}")
        if self.n_boxes and 2 * len(self.flat) > self.n_boxes:
            hint = (
                f" They were read as {form}: is it the other form, or are the columns in another order?" if form else ""
            )
            raise DataError(
                f"{len(self.flat)} of {self.n_boxes} boxes have no area, the first is {self.flat[0]}.{hint}"
            )
        if self.flat:
            self.notes.append(f"{_count(self.flat, 'box')} without an area left out, the first: {self.flat[0]}")
        again: list[str] = []
        for name, some in self.files.items():
            self.files[name] = _each_once(some, again)
        if again:
            self.notes.append(f"{_count(again, 'box')} that came before left out, the first: {again[0]}")
        names = list(self.files)
        labels = [
            Boxed(
                np.array([b for b, _, _ in some], np.float64).reshape(-1, 4), tuple(c for _, c, _ in some),
                tuple(w for _, _, w in some), self.drawn_on.get(name),
            )
            for name, some in self.files.items()
        ]  # fmt: skip
        rows = Rows.of_files(names, folder, root, [self.where[n] for n in names], labels)
        rows.beside = {what: [values[n] for n in names] for what, values in self.beside.items()}
        return rows

    def split(self, rows: Rows) -> dict[str, Rows]:
        """The rows of each split that was named."""
        names = list(self.files)
        found = {s: [i for i, n in enumerate(names) if self.splits.get(n) == s] for s in dict.fromkeys(SPLITS.values())}
        if not found["train"]:
            raise DataError(f"no image is of the train split; they are of {sorted(set(self.splits.values()))}")
        return {split: rows.take(some) for split, some in found.items() if some}


def _each_once(some: list[_Box], again: list[str]) -> list[_Box]:
    """The boxes of an image, each once; where the others were goes to `again`."""
    kept: dict[tuple[Any, ...], _Box] = {}
    for one in some:
        box, label, where = one
        if kept.setdefault((*box, label), one) is not one:
            again.append(where)
    return list(kept.values())


def _count(some: Sequence[Any], what: str) -> str:
    return f"{len(some):,} {what}{'' if len(some) == 1 else 'es'}"


def table_boxes(
    given: Path | pd.DataFrame, folder: Path, root: Path, how: BoxOptions, beside: Mapping[str, Any]
) -> Collected:
    """The boxes of a csv, a parquet file or a DataFrame, a row each; a row with no box says that its image has none.

    `beside` are columns that say something of whole images: what its first row says counts.
    """
    text = [] if how.label_col is None else [how.label_col]
    table, rows = files_of(given, how.file_col, folder, "", root, text)
    columns = [_column(table, c, f"box_cols[{k}]") for k, c in enumerate(how.box_cols)]
    cells = [table[c].tolist() for c in columns]
    labels = (
        ["object"] * len(rows) if how.label_col is None else table[_column(table, how.label_col, "label_col")].tolist()
    )
    words = None if how.split_col is None else table[_column(table, how.split_col, "split_col")].tolist()
    found, files = Collected(), table[_column(table, how.file_col, "file_col")].astype(str).tolist()
    names = [PurePath(name).as_posix() for name in files]  # ./1.jpg is 1.jpg
    for what, column in beside.items():
        if isinstance(column, int | str):
            values = table[column_name(table, column, what)].tolist()
            found.beside[what] = dict(zip(reversed(names), reversed(values), strict=True))  # the first one stays
    for i, (name, where, label) in enumerate(zip(names, rows.where, labels, strict=True)):
        box = [column[i] for column in cells]
        empty = [is_missing(v) for v in box]
        if words is not None:
            _note_split(found, name, words[i], where)
        unnamed = is_missing(label) or not str(label).strip()
        if all(empty) and (unnamed or how.label_col is None):
            found.image(name, where)
            continue
        if any(empty) or unnamed:
            column = columns[empty.index(True)] if any(empty) else how.label_col
            raise DataError(
                f"{where}: {column!r} is missing. Fill it in, or remove the row; an image without boxes has one row, "
                "in which the label and all four sides are empty"
            )
        numbers = [_number(v, c, where) for v, c in zip(box, columns, strict=True)]
        found.add(name, _corners(numbers, how.form), _word(label), where)
    _refuse_fractions(found)
    return found


def _column(table: pd.DataFrame, column: Column, argument: str) -> Any:
    try:
        return column_name(table, column, argument)
    except ArgumentError as error:
        raise DataError(f"{error} Pass {argument.partition('[')[0]}= with the names that the table has") from error


def _note_split(found: Collected, name: str, said: Any, where: str) -> None:
    word = str(said).strip().lower()
    if word not in SPLITS:
        raise DataError(f"{where}: the split {said!r} is none of train, valid and test")
    before = found.splits.setdefault(name, SPLITS[word])
    if before != SPLITS[word]:
        raise DataError(f"{where}: the image is of the {SPLITS[word]} split, and was of the {before} split before")


def _number(value: Any, column: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{where}: {column!r} is {value!r}, and not a number of pixels")
    return number


def _word(label: Any) -> str:
    """A class as text; 3.0, as a column with a gap has it, is "3"."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _corners(box: Sequence[float], form: str) -> tuple[float, float, float, float]:
    x, y, a, b = box
    return (x, y, a, b) if form == "corners" else (x, y, x + a, y + b)


def _refuse_fractions(found: Collected) -> None:
    boxes = [b for some in found.files.values() for b, _, _ in some]
    if boxes and max(map(max, boxes)) <= 1:
        raise DataError(
            "all boxes lie between 0 and 1: they seem to be fractions of the images, and pixels are needed. Multiply "
            "xmin and xmax by the width of each image, ymin and ymax by its height"
        )


def box_arrays(given: Any, name: str, classes: Sequence[str]) -> Rows:
    """(x, y) in memory: images, and for each an array (k, 5) of xmin, ymin, xmax, ymax and class number."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ArgumentError(f"{name} must be a pair (images, boxes), got {type(given).__name__}")
    rows = array_rows((given[0], None), name)
    if given[1] is None:
        return rows
    if len(given[1]) != len(rows):
        raise DataError(f"{name} has {len(rows)} images, and boxes for {len(given[1])}")
    rows.labels = [_boxed(some, f"{name}[{i}]", classes) for i, some in enumerate(given[1])]
    return rows


def _boxed(given: Any, where: str, classes: Sequence[str]) -> Boxed:
    try:
        boxes = np.asarray(given, np.float64).reshape(-1, 5)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: boxes are rows of xmin, ymin, xmax, ymax and class, got {str(given)[:80]}"
        ) from error
    for k, box in enumerate(boxes):
        is_class = box[4] in range(len(classes))
        if not np.isfinite(box).all() or not is_class or box[2] <= box[0] or box[3] <= box[1]:
            raise DataError(
                f"{where} box {k} is {box.tolist()}: a box is xmin, ymin, xmax, ymax, with an area, and the number of "
                f"one of the {len(classes)} classes"
            )
    labels = tuple(classes[int(c)] for c in boxes[:, 4])
    return Boxed(boxes[:, :4], labels, tuple(f"{where} box {k}" for k in range(len(boxes))))


def voc_boxes(root: Path, images: str, annotations: str, sets: Sequence[str], difficult: bool) -> dict[str, Collected]:
    """The boxes of PASCAL VOC's XML files, one for each image, of each set in ImageSets/Main; of all if none is named.

    Pixels count from 1 there and include the last one: they become where a box begins and ends.
    """
    folder = existing_folder(root / annotations, "one XML file for each image")
    pictures = existing_folder(root / images, "the images that the XML files name")
    every = sorted(f.removesuffix(".xml") for f in list_files(folder) if f.endswith(".xml"))
    if not every:
        raise DataError(f"no XML files below {folder}; it holds {listing(folder)}")
    chosen: dict[str, Sequence[str]] = {name: _voc_set(root, name, every) for name in sets} or {"": every}
    hard: list[str] = []
    result = {}
    for split, names in chosen.items():
        found = result[split] = Collected()
        for name in names:
            _voc_image(found, folder / f"{name}.xml", pictures, difficult, hard)
        if hard:
            found.notes.append(f"{_count(hard, 'box')} marked as difficult left out, the first: {hard[0]}")
        hard = []
    return result


def _voc_set(root: Path, name: str, every: Sequence[str]) -> list[str]:
    file = root / "ImageSets" / "Main" / f"{name}.txt"
    if not file.is_file():
        there = listing(file.parent) if file.parent.is_dir() else "nothing, as the folder is missing"
        raise DataError(f"the list of images {file} does not exist; its folder holds {there}")
    names = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if missing := sorted(set(names) - set(every)):
        raise DataError(f"{file} names {missing[0]!r}, of which there is no XML file ({len(missing)} are missing)")
    return names


def _voc_image(found: Collected, file: Path, images: Path, difficult: bool, hard: list[str]) -> None:
    data = file.read_bytes()
    plain = data.replace(b"\0", b"")  # what is in two or four bytes, too
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise DataError(f"{file} declares entities, which no annotation needs; it is not read")
    from xml.etree import ElementTree  # of the readers the only one that needs it

    try:
        tree = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{file} is no XML: {error}") from error
    name = _voc_name(tree, file, images)
    found.image(name, file.name)
    sides = [_text(tree, f"size/{side}") for side in ("height", "width")]
    if all(side is not None and side.isdigit() and int(side) > 0 for side in sides):
        found.drawn_on[name] = (int(sides[0] or 0), int(sides[1] or 0))
    for k, one in enumerate(tree.findall("object"), 1):
        where, label = f"{file.name} object {k}", _text(one, "name")
        if not label:
            raise DataError(f"{where}: it has no name, which says its class")
        said = [_text(one, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        x0, y0, x1, y1 = (_number(v, s, where) for v, s in zip(said, ("xmin", "ymin", "xmax", "ymax"), strict=True))
        if _text(one, "difficult") == "1" and not difficult:
            hard.append(where)
        else:
            found.add(name, (x0 - 1, y0 - 1, x1, y1), label, where)


def _text(tree: ElementTree.Element, path: str) -> str | None:
    found = tree.findtext(path)
    return None if found is None else found.strip()


def _voc_name(tree: ElementTree.Element, file: Path, images: Path) -> str:
    """The image that an XML file names, with the ending that it has."""
    said = re.split(r"[\\/]", _text(tree, "filename") or file.stem)[-1]
    for name in (said, f"{said}.jpg", f"{file.stem}.jpg", f"{file.stem}.jpeg", f"{file.stem}.png"):
        if is_image(name) and (images / name).is_file():
            return name
    return said


def coco_boxes(file: Path, keep_crowds: bool) -> Collected:
    """The boxes of a JSON file as COCO's: images, annotations with bbox (xmin, ymin, width, height), and categories."""
    images, annotations, categories = _coco_tables(file)
    found, crowds = Collected(), []
    names = {_field(c, "id", file.name, k): str(_field(c, "name", file.name, k)) for k, c in enumerate(categories)}
    files: dict[Any, str] = {}
    for k, one in enumerate(images):
        name = files[_field(one, "id", file.name, k)] = str(_field(one, "file_name", file.name, k))
        found.image(name, f"{file.name} image {one['id']}")
        if all(type(one.get(side)) is int and one[side] > 0 for side in ("height", "width")):
            found.drawn_on[name] = (one["height"], one["width"])
    for k, one in enumerate(annotations):
        where = f"{file.name} annotation {one.get('id', k)}"
        image, category = (_field(one, n, where, k) for n in ("image_id", "category_id"))
        if image not in files or category not in names:
            odd = f"image {image!r}" if image not in files else f"category {category!r}"
            raise DataError(f"{where}: it is of {odd}, which the file does not list")
        box = one.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise DataError(f"{where}: bbox must be [xmin, ymin, width, height], got {str(box)[:60]}")
        if one.get("iscrowd") and not keep_crowds:
            crowds.append(where)
        else:
            numbers = [_number(v, "bbox", where) for v in box]
            found.add(files[image], _corners(numbers, "size"), names[category], where)
    if crowds:
        found.notes.append(f"{_count(crowds, 'box')} around crowds left out, the first: {crowds[0]}")
    return found


def _coco_tables(file: Path) -> list[list[dict[str, Any]]]:
    """Images, annotations and categories of a JSON file."""
    if not file.is_file():
        there = listing(file.parent) if file.parent.is_dir() else "nothing, as it is missing"
        raise DataError(f"the file {file} does not exist; its folder holds {there}")
    if file.stat().st_size > LARGEST_FILE:
        raise DataError(f"{file} is larger than {LARGEST_FILE:,} bytes")
    try:
        given = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON: {str(error)[:200]}") from error
    tables = [given.get(n) if isinstance(given, dict) else None for n in ("images", "annotations", "categories")]
    if not all(isinstance(t, list) and all(isinstance(one, dict) for one in t) for t in tables):
        keys = list(given)[:8] if isinstance(given, dict) else type(given).__name__
        raise DataError(f"{file} must hold lists of images, annotations and categories as COCO's do; it holds {keys}")
    return [t for t in tables if t is not None]


def _field(one: Mapping[str, Any], name: str, where: str, k: int) -> Any:
    value = one.get(name)
    if value is None or value == "" or isinstance(value, list | dict):
        raise DataError(f"{where}: entry {k} has no {name!r}: {str(dict(one))[:80]}")
    return value


def mask_boxes(
    root: Path, images: str, masks: str, label: str | Callable[[int], str | None], largest: int
) -> Collected:
    """A box around each value but 0 of instance masks, which are called as their images are.

    Args:
        root: what the folders are relative to.
        images, masks: folders.
        label: the class of all, or a function from a value to its class; None for a value that is no object.
        largest: pixels of an image; more are refused.
    """
    if not isinstance(label, str) and not callable(label):
        raise ArgumentError(f"label is the class of all objects, or a function of an object's number, got {label!r}")
    pictures = existing_folder(root / images, "images")
    folder = existing_folder(root / masks, "a mask for each image, called as it is")
    by_stem = {Path(f).with_suffix("").as_posix(): f for f in list_images(folder)}
    found = Collected()
    for name in list_images(pictures):
        mask = by_stem.get(Path(name).with_suffix("").as_posix())
        if mask is None:
            raise DataError(f"{pictures / name} has no mask in {folder}, which holds {listing(folder)}")
        values = decoded_mask(str(folder / mask), str(folder / mask), largest)
        if values.ndim != 2:
            raise DataError(f"{folder / mask} has {values.ndim} dimensions; a mask has one number for each pixel")
        found.image(name, mask)
        found.drawn_on[name] = (values.shape[0], values.shape[1])
        for value, box in _around(values):
            word = label if isinstance(label, str) else label(value)
            if word is not None:
                found.add(name, box, str(word), f"{mask} value {value}")
    return found


def _around(values: npt.NDArray[Any]) -> Iterable[tuple[int, tuple[float, float, float, float]]]:
    """Each value but 0, and the box around its pixels."""
    rows, columns = np.nonzero(values)
    at, codes = np.unique(values[rows, columns], return_inverse=True)
    low, high = np.full((len(at), 2), np.iinfo(np.int64).max), np.zeros((len(at), 2), np.int64)
    np.minimum.at(low, codes.ravel(), np.stack([columns, rows], 1))
    np.maximum.at(high, codes.ravel(), np.stack([columns, rows], 1) + 1)
    for value, (x0, y0), (x1, y1) in zip(at.tolist(), low.tolist(), high.tolist(), strict=True):
        yield int(value), (float(x0), float(y0), float(x1), float(y1))
