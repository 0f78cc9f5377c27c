"""Images with boxes for a Learner: tables, VOC's XML, COCO's JSON and instance masks become `BoxData`."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.bunch import Data, SplitName
from ..data.split import Split
from ..errors import ArgumentError, EasyLearnWarning
from ..files import StrPath, digest
from ..options import strict
from .boxes_geometry import placing
from .boxes_preprocess import BoxPreprocessor, MovingBoxes
from .boxes_read import (
    Boxed,
    BoxOptions,
    Collected,
    Exif,
    Form,
    box_arrays,
    coco_boxes,
    mask_boxes,
    table_boxes,
    voc_boxes,
)  # fmt: skip
from .boxes_targets import BoxTargets, settle
from .folders import existing_folder
from .items import Column, Listed, Rows, folder_to_predict, listed_arrays, named_tables
from .options import DenseKeywords, DenseOptions, sorted_out
from .pixels import PixelData, draw_image
from .preprocess import Size
from .splits import Assembled, ImageSplit, assemble

OLD_NAMES = {
    "bs": "batch_size", "sz": "size", "tfms": "augment", "num_workers": "workers", "valid_pct": "valid",
    "valid_idx": "valid", "fn_col": "file_col", "csv_fname": "csv", "bbox_cols": "box_cols",
    "crop_pct": "The whole image is seen: leave it out.", "task": "Boxes are one task: leave it out.",
}  # fmt: skip

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from typing_extensions import Self, Unpack

    from ..placement import Placement


class BoxKeywords(DenseKeywords, total=False):
    """The fields of `BoxOptions` and of `DenseOptions`, as keywords for type checkers."""

    file_col: Column
    box_cols: Sequence[Column]
    label_col: Column | None
    form: Form
    split_col: Column | None
    classes: Sequence[str] | None
    exif: Exif
    test: str | None


@dataclass(frozen=True)
class BoxSplit(ImageSplit):
    """The images of one split; `targets` are in pixels of the files, (n, m, 5), see `task.Boxes`."""

    shapes: tuple[tuple[int, int], ...] = ()  # (height, width) of each image


class BoxData(PixelData):
    """Images with boxes, in train and maybe valid and test, at one size.

    Make one with `from_csv`, `from_df`, `from_voc`, `from_coco` or `from_masks`. What was left out of the boxes is
    warned of, and told again by `notes()`.
    """

    moving = MovingBoxes()
    _told: tuple[str, ...] = ()

    @classmethod
    @strict(OLD_NAMES, BoxOptions, DenseOptions)
    def from_csv(
        cls, path: StrPath, csv: StrPath = "boxes.csv", folder: str = "", size: Size = 256, *, valid: Split = 0.2,
        **options: Unpack[BoxKeywords],
    ) -> Self:  # fmt: skip
        """A csv or parquet file with a row for each box: file, xmin, ymin, xmax, ymax, label.

        An image without boxes has one row, in which all but the file is empty.

        Args:
            path: holds the table and the folder.
            csv: the table, relative to `path`.
            folder: holds the images, relative to `path`.
            size: of the model's input in pixels, one number or (height, width).
            valid: a fraction of the images; their positions, in the order in which the table first names them; a mask;
                the name of a table of validation images, relative to `path`; None for no validation.

        Raises:
            DataError: a column or file is missing, a box is not whole; the message names the line.
        """
        root = existing_folder(path, f"the table {csv} and the images")
        return cls._from_tables(named_tables(root, csv, valid), root, folder, valid, size, options)

    @classmethod
    @strict(OLD_NAMES, BoxOptions, DenseOptions)
    def from_df(
        cls, df: pd.DataFrame, path: StrPath = ".", folder: str = "", size: Size = 256, *,
        valid: Split | pd.DataFrame = 0.2, **options: Unpack[BoxKeywords],
    ) -> Self:  # fmt: skip
        """A DataFrame with a row for each box, as `from_csv` reads one. Messages count rows from 0.

        Args:
            df: the table.
            path: what the folder is relative to.
            folder: holds the images, relative to `path`.
            size: of the model's input in pixels, one number or (height, width).
            valid: as in `from_csv`; or a DataFrame of validation images.

        Raises:
            DataError: a column or file is missing, a box is not whole; the message names the row.
        """
        import pandas as pd

        root = existing_folder(path, "the images that the DataFrame names")
        tables = [df, valid] if isinstance(valid, pd.DataFrame) else [df]
        return cls._from_tables(tables, root, folder, valid, size, options)

    @classmethod
    @strict(OLD_NAMES, BoxOptions, DenseOptions)
    def from_voc(
        cls, path: StrPath, size: Size = 256, *, images: str = "JPEGImages", annotations: str = "Annotations",
        train: str | None = None, valid: Split = 0.2, difficult: bool = False, **options: Unpack[BoxKeywords],
    ) -> Self:  # fmt: skip
        """A folder as PASCAL VOC has it: `Annotations/*.xml` beside `JPEGImages/`.

        Args:
            path: holds both.
            size: of the model's input in pixels, one number or (height, width).
            images: name of the folder of images.
            annotations: name of the folder of XML files.
            train: a list in ImageSets/Main to train on, such as "train" or "trainval"; None takes every image.
            valid: another list, such as "val"; or a fraction, positions or a mask of the images; None for none.
            difficult: also take boxes that are marked as difficult.

        Raises:
            DataError: a file is missing, or an object is not whole; the message names both.
        """
        layout, how = sorted_out(options, BoxOptions, DenseOptions)
        root = existing_folder(path, f"{annotations}/ and {images}/")
        by_list = isinstance(valid, str)
        sets = [name for name in (train, valid if by_list else None) if isinstance(name, str)]
        if by_list and train is None:
            raise ArgumentError(f'valid={valid!r} names a list of images, so train= must name one, too: "train", say')
        read = list(voc_boxes(root, images, annotations, sets, difficult).values())
        return cls._from_collected(read, root / images, root, valid, layout, how, size)

    @classmethod
    @strict(OLD_NAMES, BoxOptions, DenseOptions)
    def from_coco(
        cls, path: StrPath, json: StrPath, folder: str = "", size: Size = 256, *, valid: Split = 0.2,
        valid_folder: str | None = None, crowds: bool = False, **options: Unpack[BoxKeywords],
    ) -> Self:  # fmt: skip
        """A JSON file of COCO's form.

        Args:
            path: holds the file and the folder.
            json: the file, relative to `path`.
            folder: holds the images, relative to `path`.
            size: of the model's input in pixels, one number or (height, width).
            valid: a fraction, positions or a mask of the images; the name of another JSON file; None for no validation.
            valid_folder: holds the images of that other file; None is the same folder.
            crowds: also take boxes around crowds.

        Raises:
            DataError: a file is missing, or an annotation is not whole; the message names it.
        """
        layout, how = sorted_out(options, BoxOptions, DenseOptions)
        root = existing_folder(path, f"the file {json} and the images")
        names = [json, *([valid] if isinstance(valid, str) and valid.lower().endswith(".json") else [])]
        read = [coco_boxes(root / name, crowds) for name in names]
        folders = [root / folder, root / (folder if valid_folder is None else valid_folder)]
        return cls._from_collected(read, folders, root, valid, replace(layout, form="size"), how, size)

    @classmethod
    @strict(OLD_NAMES, BoxOptions, DenseOptions)
    def from_masks(
        cls, path: StrPath, size: Size = 256, *, images: str = "images", masks: str = "masks",
        label: str | Callable[[int], str | None] = "object", valid: Split = 0.2, **options: Unpack[BoxKeywords],
    ) -> Self:  # fmt: skip
        """Instance masks: of each object its own number, 0 where there is none; a box is drawn around each.

        Args:
            path: holds both folders.
            size: of the model's input in pixels, one number or (height, width).
            images: name of the folder of images.
            masks: name of the folder of masks, called as the images are but for the ending.
            label: the class of all objects, or a function of an object's number; None for what is none.
            valid: a fraction, positions in the sorted list of images, or a mask; None for no validation.

        Raises:
            DataError: a mask is missing, or is no mask.
        """
        layout, how = sorted_out(options, BoxOptions, DenseOptions)
        root = existing_folder(path, f"{images}/ and {masks}/")
        read = [mask_boxes(root, images, masks, label, how.max_pixels)]
        return cls._from_collected(read, root / images, root, valid, layout, how, size)

    @classmethod
    @strict(OLD_NAMES, DenseOptions)
    def from_arrays(
        cls, train: tuple[Any, Any], valid: tuple[Any, Any] | Split = 0.2, test: Any = None, size: Size | None = None,
        *, classes: Sequence[str], **options: Unpack[DenseKeywords],
    ) -> Self:  # fmt: skip
        """Images and boxes in memory.

        Args:
            train: (x, y). x are images, (n, h, w, c) or (n, c, h, w), as uint8 or floats in [0, 1]; y holds for each an
                array (k, 5) of xmin, ymin, xmax, ymax and the number of a class.
            valid: (x, y); a fraction; positions in train; a mask; None for no validation.
            test: x, or (x, y).
            size: of the model's input in pixels; None takes the images' own.
            classes: names of the classes 0, 1, ...

        Raises:
            DataError: a box is no such row; the message names it.

        >>> x, y = np.zeros((10, 32, 32, 3), np.uint8), [np.array([[4, 4, 12, 20, 0]])] * 10
        >>> data = BoxData.from_arrays((x, y), classes=["cell"], batch_size=4)
        >>> data.classes, data.target("valid").tolist()[0]
        (('cell',), [[4.0, 4.0, 12.0, 20.0, 0.0]])
        """
        names = [str(n) for n in classes]
        listed, size = listed_arrays(train, valid, test, size, functools.partial(box_arrays, classes=names))
        return cls._made(listed, valid, BoxOptions(classes=names), DenseOptions(**options), size)

    @classmethod
    def _from_tables(
        cls, tables: Sequence[Path | pd.DataFrame], root: Path, folder: str, valid: Any, size: Size, options: Any
    ) -> Self:
        layout, how = sorted_out(options, BoxOptions, DenseOptions)
        images = existing_folder(root / folder, "the images that the table names")
        beside = {"groups": how.groups, "weights": how.weights}
        read = [table_boxes(table, images, root, layout, beside) for table in tables]
        return cls._from_collected(read, images, root, valid, layout, how, size)

    @classmethod
    def _from_collected(
        cls, read: Sequence[Collected], images: Path | Sequence[Path], root: Path, valid: Any, layout: BoxOptions,
        how: DenseOptions, size: Size,
    ) -> Self:  # fmt: skip
        """Rows of what was read, at most training and validation images."""
        folders = [images] * len(read) if isinstance(images, Path) else images
        rows = [one.rows(folder, root, layout.form) for one, folder in zip(read, folders, strict=False)]
        by_name: Mapping[str, Rows] = {"train": rows[0], **({"valid": rows[1]} if rows[1:] else {})}
        if read[0].splits:
            by_name = read[0].split(rows[0])
            valid = None
        test = by_name.get("test")
        if test is None and layout.test is not None:
            found = folder_to_predict(root, layout.test)
            assert found is not None
            test = replace(found, labels=None)
        listed = Listed(by_name["train"], by_name.get("valid"), test, folder_labels=False, root=root)
        return cls._made(listed, valid, layout, how, size, [note for one in read for note in one.notes])

    @classmethod
    def _made(
        cls, listed: Listed, valid: Any, layout: BoxOptions, how: DenseOptions, size: Size, notes: Sequence[str] = ()
    ) -> Self:
        images = how.as_images()
        given = assemble(listed, valid, images, lambda rows: BoxTargets(rows.labels, layout.classes))
        settled, told = settled_splits(given, layout.exif, notes, layout.form)
        prepared = images.preprocessor(size, 1.0, BoxPreprocessor)
        made = cls(settled, prepared, images)
        made._told = tuple(told)
        return made

    def notes(self) -> list[str]:
        return [*super().notes(), *self._told]

    def places(self, split: SplitName) -> Sequence[Placement]:
        one = self._split(split)
        assert isinstance(one, BoxSplit)
        return [self.item_stage.place(*shape) for shape in one.shapes]

    def target(self, split: SplitName) -> Tensor | None:
        given = self._split(split).targets
        if given is None:
            return None
        factor, summand = (torch.from_numpy(t)[:, None] for t in placing(self.places(split)))
        boxes = (given[..., :4].double() * factor + summand).float()
        return torch.cat([boxes * (given[..., 4:] >= 0), given[..., 4:]], -1)

    def adopt(self, old: Data[Any]) -> Self:
        other = copy.copy(self)
        other.task = self.task.in_units_of(old.task)
        return super(BoxData, other).adopt(old)

    def _known(self, one: ImageSplit) -> str:
        return "" if one.targets is None else digest([str(one.targets.shape), one.targets.numpy().tobytes()])

    def draw_said(self, split: SplitName, i: int, probs: Tensor, axes: Axes) -> None:
        """Draw an image with its boxes, dashed, and those that a model found."""
        draw_image(axes, self.image(split, i))
        target = self.target(split)
        if target is not None:
            draw_boxes(axes, target[i][target[i][:, 4] >= 0], self.classes, "--")
        task: Any = self.task
        draw_boxes(axes, task.told(probs), self.classes)

    def draw_item(self, split: SplitName, i: int, axes: Axes) -> None:
        super().draw_item(split, i, axes)
        target = self.target(split)
        self._draw_target(axes, None if target is None else target[i])

    def _draw_target(self, axes: Axes, target: Tensor | None) -> None:
        if target is not None:
            draw_boxes(axes, target[target[:, 4] >= 0], self.classes)

    def _counts(self, one: ImageSplit) -> str:
        if one.targets is None:
            return ""
        counts = zip(self.classes, self.task.count_classes(one.targets), strict=True)
        named = [f"{name} {n:,}" for name, n in counts]
        return " (" + ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "") + ")"


def draw_boxes(axes: Axes, boxes: Tensor, classes: Sequence[str], style: str = "-") -> None:
    """Draw boxes over an image, a colour for each class.

    Args:
        axes: of matplotlib.
        boxes: (k, 5) of xmin, ymin, xmax, ymax and class, or (k, 6) with the score before the class.
        classes: their names.
        style: of the lines.
    """
    from matplotlib.patches import Rectangle

    for row in boxes.tolist():
        (x0, y0, x1, y1), number = row[:4], int(row[-1])
        colour = f"C{(1 + number) % 10}"
        axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=colour, ls=style, lw=1.2))
        text = classes[number] if len(row) == 5 else f"{classes[number]} {row[4]:.2f}"
        if len(boxes) <= 12:
            axes.text(x0, y0 - 1, text[:16], fontsize=5, color=colour, va="bottom", parse_math=False, clip_on=True)


def settled_splits(
    given: Assembled, exif: Exif, notes: Sequence[str], form: Form = "corners"
) -> tuple[Assembled, list[str]]:
    """The splits with boxes within their images, and what there is to be told, which is warned of."""
    told, splits = list(notes), dict(given.splits)
    for name, one in given.splits.items():
        labels: Sequence[Boxed] = one.labels or [Boxed(np.zeros((0, 4)), (), ())] * len(one)
        target = torch.full((len(one), 1, 5), -1.0) if one.targets is None else one.targets
        settled, shapes, more = settle(target, one.sources, one.ids, labels, exif, form)
        told += more
        known = None if one.targets is None else settled
        splits[name] = BoxSplit(one.sources, known, one.ids, shapes=tuple(shapes))
    for note in told:
        warnings.warn(note, EasyLearnWarning, stacklevel=7)
    return replace(given, splits=splits), told
