"""Images for a Learner: folders, csv files, tables, arrays and lists of names become `ImageData`."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..analysis.plots import grid
from ..data.bunch import Data, SplitName
from ..data.order import ItemLoader, Order
from ..data.split import Split
from ..data.targets import TargetOptions
from ..errors import ArgumentError, DataError
from ..files import StrPath, digest, file_identity
from ..options import strict
from .augment import BatchStage
from .decode import ItemStage
from .folders import existing_folder
from .items import TABLES, Listed, TableOptions, array_rows, folder_to_predict, listed_folders, named_rows
from .options import OLD_NAMES, ImageKeywords, ImageOptions, TableKeywords
from .preprocess import CROP_PCT, ImagePreprocessor, Size
from .source import ImageSource
from .splits import Assembled, ImageSplit, assemble
from .store import image_keys, open_images, treatment

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from typing_extensions import Self, Unpack

CPU = torch.device("cpu")


class ImageData(Data[ImageSplit]):
    """Images in train and maybe valid and test, at one size.

    Make one with `from_folder`, `from_csv`, `from_df`, `from_arrays` or `from_names`; these give `given`,
    `preprocessor` and `how`.

    Attributes:
        path: what ids are relative to; None for images in memory.
        weights: how often each training image is drawn; None for once an epoch.
    """

    def __init__(self, given: Assembled, preprocessor: ImagePreprocessor, how: ImageOptions) -> None:
        super().__init__(given.task, how.batch_size, preprocessor, given.splits)
        self.preprocessor: ImagePreprocessor = preprocessor
        self.path = given.path
        self.weights = given.weights
        self._how = how
        self._given = given

    @classmethod
    @strict(OLD_NAMES, ImageOptions)
    def from_folder(
        cls, path: StrPath, size: Size = 224, *, train: str = "train", valid: str | Split = "valid",
        test: str | bool | None = None, **options: Unpack[ImageKeywords],
    ) -> Self:  # fmt: skip
        """One class per sub-folder: `train/cats/1.jpg`, `valid/dogs/7.jpg`.

        Args:
            path: holds the `train` and `valid` folders; or class folders, if `valid` is no folder's name.
            size: of the model's input in pixels, one number or (height, width).
            train: name of the training folder.
            valid: name of the validation folder; or a fraction, positions in the sorted list of files, or a mask; None
                for no validation.
            test: name of a folder to predict, with or without class folders; None takes `test` if it is there, False
                takes none.

        Raises:
            DataError: a folder is missing or empty, or a class is in `valid` only.
        """
        how = ImageOptions(**options)
        task = "single_label" if how.task == "auto" else how.task  # whatever the names of folders look like
        return cls._made(listed_folders(path, train, valid, test), valid, how, TargetOptions(task), size)

    @classmethod
    @strict(OLD_NAMES, TableOptions, ImageOptions)
    def from_csv(
        cls, path: StrPath, csv: StrPath = "labels.csv", folder: str = "", size: Size = 224, *, valid: Split = 0.2,
        **options: Unpack[TableKeywords],
    ) -> Self:  # fmt: skip
        """A csv with a header and one line per image: its file name and its label.

        Args:
            path: holds the csv and the folder.
            csv: the file, relative to `path`.
            folder: holds the images, relative to `path`.
            size: of the model's input in pixels, one number or (height, width).
            valid: a fraction; numbers of lines, the first after the header being 0; a mask; the name of a csv of
                validation images, relative to `path`; with `time` how long the latest images reach back, such as "6W";
                None for no validation.

        Raises:
            DataError: a missing file, a missing label, two labels for one file; the message names the line.
        """
        root = existing_folder(path, f"the csv file {csv} and the images")
        files = [root / csv]
        if isinstance(valid, str) and Path(valid).suffix.lower() in TABLES:
            files.append(root / valid)
        return cls._from_tables(files, root, folder, valid, size, options)

    @classmethod
    @strict(OLD_NAMES, TableOptions, ImageOptions)
    def from_df(
        cls, df: pd.DataFrame, path: StrPath = ".", folder: str = "", size: Size = 224, *,
        valid: Split | pd.DataFrame = 0.2, **options: Unpack[TableKeywords],
    ) -> Self:  # fmt: skip
        """A DataFrame with one row per image: its file name and its label. Messages count rows from 0, as `iloc` does.

        Args:
            df: the table.
            path: what the folder is relative to.
            folder: holds the images, relative to `path`.
            size: of the model's input in pixels, one number or (height, width).
            valid: a fraction; numbers of rows; a mask; a DataFrame of validation images; with `time` how long the
                latest images reach back, such as "6W"; None for no validation.

        Raises:
            DataError: a missing file, a missing label, two labels for one file; the message names the row.
        """
        import pandas as pd

        root = existing_folder(path, "the images that the DataFrame names")
        tables = [df, valid] if isinstance(valid, pd.DataFrame) else [df]
        return cls._from_tables(tables, root, folder, valid, size, options)

    @classmethod
    @strict(OLD_NAMES, ImageOptions)
    def from_names(
        cls, path: StrPath, names: Sequence[str], labels: Sequence[Any] | None = None, size: Size = 224, *,
        label_fn: Callable[[str], Any] | None = None, classes: Sequence[str] | None = None, valid: Split = 0.2,
        test: str | None = None, **options: Unpack[ImageKeywords],
    ) -> Self:  # fmt: skip
        """File names with a label each, or with a function that reads the label out of the name.

        Args:
            path: what the names are relative to.
            names: of the files.
            labels: one per name: a word or a number; a list of words for several labels.
            size: of the model's input in pixels, one number or (height, width).
            label_fn: gives the label of a name, instead of `labels`.
            classes: fixes the list of classes; whole numbers as labels are positions in it.
            valid: a fraction; positions in `names`; a mask; None for no validation.
            test: a folder of images to predict, relative to `path`.

        Raises:
            DataError: a missing file or label; the message names it.
        """
        root = existing_folder(path, "the images named")
        if (labels is None) == (label_fn is None):
            raise ArgumentError("from_names needs either labels or label_fn")
        given = labels if label_fn is None else [label_fn(str(n)) for n in names]
        how = ImageOptions(**options)
        listed = Listed(named_rows(root, names, given), test=folder_to_predict(root, test), root=root)
        return cls._made(listed, valid, how, TargetOptions(how.task, classes=classes), size)

    @classmethod
    @strict(OLD_NAMES, ImageOptions)
    def from_arrays(
        cls, train: tuple[Any, Any], valid: tuple[Any, Any] | Split = 0.2, test: Any = None, size: Size | None = None,
        *, classes: Sequence[str] | None = None, **options: Unpack[ImageKeywords],
    ) -> Self:  # fmt: skip
        """Images in memory.

        Args:
            train: (x, y). x has shape (n, h, w), (n, h, w, c) or (n, c, h, w), as uint8 or floats in [0, 1]; where
                both could be meant, arrays are read as (n, h, w, c) and tensors as (n, c, h, w). y has shape (n,)
                of class numbers, names or numbers to predict, or (n, k) of 0 and 1 for several labels, else numbers.
            valid: (x, y); a fraction; positions in train; a mask; None for no validation.
            test: x, or (x, y).
            size: of the model's input in pixels; None takes the images' own.
            classes: names of the classes 0, 1, ...

        Raises:
            DataError: images or labels are wrong; the message names the first.

        >>> x, y = np.zeros((10, 8, 8), np.uint8), [0, 1] * 5
        >>> data = ImageData.from_arrays((x[:8], y[:8]), (x[8:], y[8:]), batch_size=4)
        >>> data.classes, len(data.loader("train")), data.size
        (('0', '1'), 2, (8, 8))
        """
        how = ImageOptions(**options)
        given = {"train": train}
        if isinstance(valid, tuple) and len(valid) == 2 and not isinstance(valid[0], Integral):
            given["valid"] = valid
        if test is not None:
            given["test"] = test if isinstance(test, tuple) and len(test) == 2 else (test, None)
        by_name = {name: array_rows(pair, name) for name, pair in given.items()}
        rows = by_name["train"]
        if size is None:
            first = rows.sources[0] if len(rows) else None
            if not isinstance(first, np.ndarray):
                raise ArgumentError("pass size=, since the images are not arrays of one size")
            size = (int(first.shape[0]), int(first.shape[1]))
        listed = Listed(rows, by_name.get("valid"), by_name.get("test"), folder_labels=False)
        return cls._made(listed, valid, how, TargetOptions(how.task, classes=classes), size, crop_pct=1.0)

    @classmethod
    def _from_tables(
        cls, tables: Sequence[Path | pd.DataFrame], root: Path, folder: str, valid: Any, size: Size, options: Any
    ) -> Self:
        own = {field.name for field in fields(TableOptions)}
        layout = TableOptions(**{n: v for n, v in options.items() if n in own})
        how = ImageOptions(**{n: v for n, v in options.items() if n not in own})
        beside = {"groups": how.groups, "weights": None if how.weights == "balanced" else how.weights}
        rows, *more = (layout.rows(table, root, folder, beside) for table in tables)
        index = None if isinstance(tables[0], Path) else tables[0].index
        listed = Listed(rows, more[0] if more else None, folder_to_predict(root, layout.test), root=root, index=index)
        return cls._made(listed, valid, how, TargetOptions(how.task, layout.label_sep), size)

    @classmethod
    def _made(
        cls, given: Listed, valid: Any, how: ImageOptions, labels: TargetOptions, size: Size, crop_pct: float = CROP_PCT
    ) -> Self:
        return cls(assemble(given, valid, how, labels), how.preprocessor(size, crop_pct), how)

    @property
    def train(self) -> ImageSplit:
        """The training images."""
        return self._split("train")

    @property
    def valid(self) -> ImageSplit:
        """The validation images."""
        return self._split("valid")

    @property
    def test(self) -> ImageSplit | None:
        """The images to predict, if there are any."""
        return self._splits.get("test")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the model's input."""
        return self.item_stage.size

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel, what is subtracted from pixels in [0, 1]; ImageNet's until `with_stats`."""
        return self.batch_stage.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel, what they are divided by."""
        return self.batch_stage.std

    @property
    def item_stage(self) -> ItemStage:
        """Decodes images."""
        return self.preprocessor.item_stage

    @property
    def batch_stage(self) -> BatchStage:
        """Augments and normalises batches."""
        return self.preprocessor.view_stage

    @property
    def has_views(self) -> bool:
        """Whether augmented views can differ: there are transforms, or windows that move."""
        return self.preprocessor.has_views(s for one in self._splits.values() for s in one.sources)

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> ItemLoader:
        weights = self.weights if training and split == "train" else None
        order = Order(len(self._split(split)), self.batch_size, shuffle=training, weights=weights)
        return self._loader(split, order, 0 if training else view or None, self.preprocessor.workers)

    def _loader(self, split: SplitName, order: Order, view: int | None, workers: int | None = 0) -> ItemLoader:
        one, stage = self._split(split), self.item_stage
        store = functools.partial(open_images, one.sources, one.ids, stage, self._how.cache)
        return ItemLoader(order, ImageSource(one.images, stage, self.batch_stage, view, workers, store), one.targets)

    def ids(self, split: SplitName) -> tuple[str, ...]:
        return self._split(split).ids

    def fingerprint(self, split: SplitName) -> str:
        one = self._split(split)
        contents = image_keys(one.sources, one.ids, lambda files: [file_identity(file) for file in files])
        known = "" if one.targets is None else str(one.targets.tolist())
        drawn = "" if self.weights is None or split != "train" else str(self.weights.tolist())
        return digest([treatment(self.item_stage), repr(self.batch_stage), known, drawn, *contents, *one.ids])

    def item_keys(self, split: SplitName, positions: Sequence[int] | None = None) -> list[str]:
        one = self._split(split)
        chosen = range(len(one)) if positions is None else positions
        how = [treatment(self.item_stage), repr(self.preprocessor.batch_stage)]
        keys = image_keys([one.sources[i] for i in chosen], [one.ids[i] for i in chosen])
        return [digest([*how, key]) for key in keys]

    def _with(self, preprocessor: ImagePreprocessor) -> Self:
        other = copy.copy(self)
        other.preprocessor = preprocessor
        return other

    def resized(self, size: Size) -> Self:
        """The same images and the same splits at another size."""
        return self._with(replace(self.preprocessor, size=size))

    def with_stats(self, mean: Sequence[float], std: Sequence[float]) -> Self:
        """The same images normalised with other statistics, one number per channel each."""
        return self._with(self.preprocessor.with_stats(mean, std))

    def for_model(self, model: nn.Module) -> Self:
        return self._with(self.preprocessor.for_model(model))

    def adopt(self, old: Data[Any]) -> Self:
        super().adopt(old)
        assert isinstance(old.preprocessor, ImagePreprocessor)
        theirs, ours = old.preprocessor, self.preprocessor
        if theirs.channels != ours.channels:
            raise DataError(
                f"this data has {ours.channels} channels, the model was built for {theirs.channels}. Make it with "
                f"channels={theirs.channels}"
            )
        return self.with_stats(theirs.batch_stage.mean, theirs.batch_stage.std)  # they belong to the model

    def report(self) -> dict[str, str]:
        """The files that `on_error="skip"` left out, each with the reason."""
        return dict(self._given.skipped)

    def notes(self) -> list[str]:
        given = self._given
        notes = [f"the folder {name} has no image that is read here: {what}" for name, what in given.left_out.items()]
        if given.note:
            notes.append(given.note)
        if given.skipped:
            n, (name, reason) = len(given.skipped), next(iter(given.skipped.items()))
            notes.append(f"{n} images could not be read and were left out, the first: {name} ({reason})")
        return notes

    def image(self, split: SplitName, i: int) -> Tensor:
        """Image number `i` of a `split` as the model sees it in validation: pixels in [0, 1], shape (c, h, w)."""
        order = Order(len(self._split(split)), 1)
        (batch,) = self._loader(split, order, None).source.fetch(np.array([i]), CPU)
        return self.batch_stage.denormalise(batch)[0]

    def draw_item(self, split: SplitName, i: int, axes: Axes) -> None:
        draw_image(axes, self.image(split, i))
        axes.set_xlabel(self.ids(split)[i][-34:], fontsize=7, color="0.4", parse_math=False)

    def show_batch(self, n: int = 9, split: SplitName = "train") -> Figure:
        """Draw the first `n` images of a `split` as the model sees them: of train the first batch, augmented."""
        size, training = len(self._split(split)), split == "train"
        loader = self._loader(split, Order(size, min(n, size), shuffle=training), 0 if training else None)
        with closing(loader.batches(CPU)) as batches:
            batch = next(batches)
        pixels, titles = self.batch_stage.denormalise(batch.inputs[0])[:n], list(map(str, batch.index.tolist()))
        if batch.target is not None:
            titles = [self.task.in_words(label) or "-" for label in self.task.decode_target(batch.target)]
        figure, places = grid(len(pixels), max(1, round(len(pixels) ** 0.5)), 2.4, 2.6)
        for axes, image, title in zip(places, pixels, titles, strict=False):
            draw_image(axes, image)
            axes.set_title(title, fontsize=9, parse_math=False)
            axes.set_axis_off()
        return figure

    def __repr__(self) -> str:
        (h, w), what = self.size, "classes" if self.classes else "targets"
        about = f"{h}x{w}, {self.preprocessor.method}, batches of {self.batch_size}"
        lines = [f"ImageData: {self.task.kind}, {self.task.n_out} {what}, {about}"]
        lines += [f"  {name}: {len(one)}{self._counts(one)}" for name, one in self._splits.items()]
        if self._given.skipped:
            lines.append(f"  left out: {len(self._given.skipped)} unreadable, see report()")
        return "\n".join(lines)

    def _counts(self, one: ImageSplit) -> str:
        if one.targets is None or not self.classes:
            return ""
        counts = self.task.count_classes(one.targets)
        named = [f"{name} {n}" for name, n in zip(self.classes, counts, strict=True)]
        return " (" + ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "") + ")"


def draw_image(axes: Axes, pixels: Tensor) -> None:
    """Draw an image, (c, h, w) in [0, 1] with 1 or 3 channels, without ticks."""
    axes.imshow(pixels.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
