"""Images for a Learner: folders, csv files, tables, arrays and lists of names become `ImageData`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.split import Split
from ..data.targets import TargetOptions
from ..errors import ArgumentError
from ..files import StrPath
from ..options import strict
from .folders import existing_folder
from .items import Listed, TableOptions, folder_to_predict, listed_arrays, listed_folders, named_rows, named_tables
from .options import OLD_NAMES, ImageKeywords, ImageOptions, TableKeywords, sorted_out
from .pixels import PixelData
from .preprocess import CROP_PCT, Size
from .splits import assemble, labels_by

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self, Unpack

OFTEN = 10  # images of another class, beside which one of a class is odd


class ImageData(PixelData):
    """Images in train and maybe valid and test, at one size.

    Make one with `from_folder`, `from_csv`, `from_df`, `from_arrays` or `from_names`; these give `given`,
    `preprocessor` and `how`.

    Attributes:
        path: what ids are relative to; None for images in memory.
        weights: how often each training image is drawn; None for once an epoch.
    """

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
        return cls._from_tables(named_tables(root, csv, valid), root, folder, valid, size, options)

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

        >>> import numpy as np
        >>> x, y = np.zeros((10, 8, 8), np.uint8), [0, 1] * 5
        >>> data = ImageData.from_arrays((x[:8], y[:8]), (x[8:], y[8:]), batch_size=4)
        >>> data.classes, len(data.loader("train")), data.size
        (('0', '1'), 2, (8, 8))
        """
        how = ImageOptions(**options)
        listed, size = listed_arrays(train, valid, test, size)
        return cls._made(listed, valid, how, TargetOptions(how.task, classes=classes), size, crop_pct=1.0)

    def notes(self) -> list[str]:
        train = self._splits.get("train")
        if train is None or train.targets is None or not self.task.is_exclusive:
            return super().notes()
        counts = self.task.count_classes(train.targets)
        once = [name for name, n in zip(self.classes, counts, strict=True) if n == 1]
        if not once or max(counts) < OFTEN:
            return super().notes()
        which = f"the class {once[0]!r} has" if len(once) == 1 else f"{len(once)} classes, as {once[0]!r}, have"
        return [*super().notes(), f"{which} one training image, of which nobody can tell what is the class's own"]

    @classmethod
    def _from_tables(
        cls, tables: Sequence[Path | pd.DataFrame], root: Path, folder: str, valid: Any, size: Size, options: Any
    ) -> Self:
        layout, how = sorted_out(options, TableOptions, ImageOptions)
        beside = {"groups": how.groups, "weights": None if how.weights == "balanced" else how.weights}
        rows, *more = (layout.rows(table, root, folder, beside) for table in tables)
        index = None if isinstance(tables[0], Path) else tables[0].index
        listed = Listed(rows, more[0] if more else None, folder_to_predict(root, layout.test), root=root, index=index)
        return cls._made(listed, valid, how, TargetOptions(how.task, layout.label_sep), size)

    @classmethod
    def _made(
        cls, given: Listed, valid: Any, how: ImageOptions, labels: TargetOptions, size: Size, crop_pct: float = CROP_PCT
    ) -> Self:
        return cls(assemble(given, valid, how, labels_by(labels)), how.preprocessor(size, crop_pct), how)
