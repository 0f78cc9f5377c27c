"""Images with masks for a Learner: `MaskData`, out of folders, csv files, tables and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..data.bunch import SplitName
from ..data.split import Split
from ..files import StrPath, digest
from ..mask_metrics import mask_of
from ..options import strict
from .dense import DensePreprocessor
from .folders import existing_folder
from .items import Column, Listed, TableOptions, listed_arrays
from .mask_drawing import draw_over, name_colours, overlaid, side_by_side
from .mask_files import Codes, MaskCodes, codes_of, read_masks
from .mask_rows import GivenMasks, MaskFolders, MaskTable, mask_arrays
from .options import DenseKeywords, DenseOptions
from .pixels import PixelData
from .preprocess import Size
from .splits import Assembled, ImageSplit, assemble
from .warp import MovingMasks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from typing_extensions import Self, Unpack

    from ..placement import Placement

OLD_NAMES = {
    "bs": "batch_size", "sz": "size", "tfms": "augment", "num_workers": "workers", "valid_pct": "valid",
    "valid_idx": "valid", "classes": "codes", "ignore_index": "void",
    "crop_pct": "The whole image is seen: leave it out.", "task": "Masks are one task: leave it out.",
}  # fmt: skip


class MaskData(PixelData):
    """Images in train and maybe valid and test, each with a mask that says of each pixel which class it has.

    Make one with `from_folder`, `from_csv`, `from_df` or `from_arrays`. Every mask is read when the data is made, so
    that what is no mask is refused before anything is trained; masks are kept in memory, a byte for each pixel of the
    model's size. In augmented images they move with the pixels, by the same grid.

    Args:
        given: the splits with their masks.
        preprocessor: makes the inputs.
        how: see `DenseOptions`.
        codes: what the numbers in files of masks mean.
    """

    moving = MovingMasks()
    draws_beside = True

    def __init__(self, given: Assembled, preprocessor: DensePreprocessor, how: DenseOptions, codes: MaskCodes) -> None:
        super().__init__(given, preprocessor, how.as_images())
        self.codes = codes
        self._read: dict[tuple[str, tuple[int, int]], Tensor] = {}
        for name, one in given.splits.items():
            if one.targets is not None:
                self._read[name, self.size] = one.targets

    @classmethod
    @strict(OLD_NAMES, DenseOptions)
    def from_folder(
        cls, path: StrPath, size: Size = 224, *, codes: Codes | None = None, void: Any = None, binary: bool = False,
        train: str = "train", valid: str | Split = "valid", test: str | bool | None = None, images: str = "images",
        masks: str = "masks", suffix: str = "", **options: Unpack[DenseKeywords],
    ) -> Self:  # fmt: skip
        """Folders of images, each with a folder of masks of the same names: `train/images/1.jpg`, `train/masks/1.png`.

        Args:
            path: holds the folders of the splits; or `images` and `masks`, if `valid` is no folder's name.
            size: of the model's input in pixels, one number or (height, width).
            codes: what the numbers in the masks mean: a csv in `path` with columns value and name (or r, g, b and
                name), a list of the names of 0, 1, ..., or a dictionary by number or by colour.
            void: what is not to count: a name, a number, or a list of these.
            binary: masks have 0 for the background and 255 (or 1) for the object.
            train: name of the training folder.
            valid: name of the validation folder; or a fraction, positions in the sorted list of files, or a mask; None
                for no validation.
            test: name of a folder to predict, whose masks may be missing; None takes `test` if it is there, False
                takes none.
            images: name of the folders of images.
            masks: name of the folders of masks.
            suffix: what a mask's name has more than its image's, such as "_mask".

        Raises:
            DataError: a mask is missing, has a value that is no class, or another size than its image, or a class is
                in `valid` only; the message names the file and the value.
        """
        root = existing_folder(path, f"{train}/{images} and {train}/{masks}")
        listed = MaskFolders(images, masks, suffix).listed(root, train, valid, test)
        return cls._made(listed, valid, DenseOptions(**options), codes_of(codes, void, binary, root), size)

    @classmethod
    @strict(OLD_NAMES, DenseOptions)
    def from_csv(
        cls, path: StrPath, csv: StrPath = "masks.csv", folder: str = "", size: Size = 224, *,
        codes: Codes | None = None, void: Any = None, binary: bool = False, valid: Split = 0.2, file_col: Column = 0,
        mask_col: Column = 1, mask_folder: str | None = None, suffix: str = "", mask_suffix: str = "",
        **options: Unpack[DenseKeywords],
    ) -> Self:  # fmt: skip
        """A csv with a header and one line per image: its file name and that of its mask.

        Args:
            path: holds the csv and the folders.
            csv: the file, relative to `path`.
            folder: holds the images, relative to `path`.
            size: of the model's input in pixels, one number or (height, width).
            codes, void, binary: as in `from_folder`.
            valid: a fraction; numbers of lines, the first after the header being 0; a mask; None for no validation.
            file_col: column of file names, by name or number.
            mask_col: column of the names of masks.
            mask_folder: holds the masks, relative to `path`; None is `folder`.
            suffix: appended to each file name, such as ".jpg".
            mask_suffix: appended to each mask's name, such as ".png".

        Raises:
            DataError: as `from_folder`.
        """
        root = existing_folder(path, f"the csv file {csv} and the images")
        masks = folder if mask_folder is None else mask_folder
        where = MaskTable(TableOptions(suffix, file_col, mask_col), folder, masks, mask_suffix)
        found = codes_of(codes, void, binary, root)
        return cls._from_table(root / csv, root, where, valid, DenseOptions(**options), found, size)

    @classmethod
    @strict(OLD_NAMES, DenseOptions)
    def from_df(
        cls, df: pd.DataFrame, path: StrPath = ".", folder: str = "", size: Size = 224, *,
        codes: Codes | None = None, void: Any = None, binary: bool = False, valid: Split = 0.2, file_col: Column = 0,
        mask_col: Column = 1, mask_folder: str | None = None, suffix: str = "", mask_suffix: str = "",
        **options: Unpack[DenseKeywords],
    ) -> Self:  # fmt: skip
        """A DataFrame with one row per image: its file name and that of its mask.

        Args:
            df: the table.
            path: what the folders are relative to.
            folder: holds the images, relative to `path`.
            size: of the model's input in pixels, one number or (height, width).
            codes, void, binary: as in `from_folder`.
            valid: a fraction; numbers of rows; a mask; None for no validation.
            file_col, mask_col, mask_folder, suffix, mask_suffix: as in `from_csv`.

        Raises:
            DataError: as `from_folder`; the message names the row.
        """
        root = existing_folder(path, "the images that the DataFrame names")
        masks = folder if mask_folder is None else mask_folder
        where = MaskTable(TableOptions(suffix, file_col, mask_col), folder, masks, mask_suffix)
        found = codes_of(codes, void, binary, root)
        return cls._from_table(df, root, where, valid, DenseOptions(**options), found, size)

    @classmethod
    @strict(OLD_NAMES, DenseOptions)
    def from_arrays(
        cls, train: tuple[Any, Any], valid: tuple[Any, Any] | Split = 0.2, test: Any = None, size: Size | None = None,
        *, codes: Codes | None = None, void: Any = None, binary: bool = False, **options: Unpack[DenseKeywords],
    ) -> Self:  # fmt: skip
        """Images and masks in memory.

        Args:
            train: (x, y): images as `ImageData` takes them, and masks (n, height, width) of whole numbers.
            valid: (x, y); a fraction; positions in train; a mask; None for no validation.
            test: x, or (x, y).
            size: of the model's input in pixels; None takes the images' own.
            codes, void, binary: as in `from_folder`.

        Raises:
            DataError: as `from_folder`.

        >>> import numpy as np
        >>> x, y = np.zeros((10, 8, 8), np.uint8), np.zeros((10, 8, 8), np.uint8)
        >>> y[:, :, 4:] = 1
        >>> data = MaskData.from_arrays((x, y), codes=["left", "right"], batch_size=4)
        >>> data.classes, data.target("train").shape
        (('left', 'right'), torch.Size([8, 8, 8]))
        """
        listed, size = listed_arrays(train, valid, test, size, mask_arrays)
        return cls._made(listed, valid, DenseOptions(**options), codes_of(codes, void, binary), size)

    @classmethod
    def _from_table(
        cls, table: Path | pd.DataFrame, root: Path, where: MaskTable, valid: Any, how: DenseOptions, codes: MaskCodes,
        size: Size,
    ) -> Self:  # fmt: skip
        rows = where.rows(table, root, {name: getattr(how, name) for name in ("groups", "weights")})
        index = None if isinstance(table, Path) else table.index
        return cls._made(Listed(rows, folder_labels=False, root=root, index=index), valid, how, codes, size)

    @classmethod
    def _made(cls, given: Listed, valid: Any, how: DenseOptions, codes: MaskCodes, size: Size) -> Self:
        images = how.as_images()
        prepared = images.preprocessor(size, 1.0, DensePreprocessor)
        assert isinstance(prepared, DensePreprocessor)
        masks = GivenMasks(codes, prepared.item_stage)
        return cls(assemble(given, valid, images, lambda rows: masks), prepared, how, codes)

    def target(self, split: SplitName) -> Tensor | None:
        """The masks of a `split` in the model's frame, (n, h, w), uint8; None where they are not known."""
        one = self._split(split)
        if one.labels is None:
            return None
        if (split, self.size) not in self._read:
            names = [mask if isinstance(mask, str) else i for (_, mask), i in zip(one.labels, one.ids, strict=True)]
            self._read[split, self.size] = read_masks(self.codes, one.labels, names, self.item_stage.place)
        return self._read[split, self.size]

    def places(self, split: SplitName) -> Sequence[Placement] | None:
        return self.preprocessor.places(self._split(split).images)

    def _known(self, one: ImageSplit) -> str:
        return "" if one.targets is None else digest([one.targets.numpy().reshape(-1).data])

    def draw_item(self, split: SplitName, i: int, axes: Axes) -> None:
        super().draw_item(split, i, axes)
        target = self.target(split)
        self._draw_target(axes, None if target is None else target[i])

    def draw_said(self, split: SplitName, i: int, probs: Tensor, axes: Axes) -> None:
        """Draw image `i` of a `split` into `axes`, with its mask over it, and with what the model said, its `probs`."""
        image, target = self.image(split, i), self.target(split)
        panels = [image] if target is None else [image, overlaid(image, target[i])]
        side_by_side(axes, [*panels, overlaid(image, mask_of(probs[None], self.size)[0])])
        axes.set_xlabel(self.ids(split)[i][-34:], fontsize=7, color="0.4", parse_math=False)

    def show_batch(self, n: int = 9, split: SplitName = "train") -> Figure:
        """Draw the first `n` images of a `split` with their masks, as the model sees them: of train augmented."""
        figure = super().show_batch(n, split)
        name_colours(figure, self.classes)
        return figure

    def _draw_target(self, axes: Axes, target: Tensor | None) -> None:
        if target is not None:
            draw_over(axes, target)

    def _counts(self, one: ImageSplit) -> str:
        if one.targets is None:
            return ""
        counts = self.task.count_classes(one.targets)
        total = max(1, sum(counts))
        shares = [f"{name} {n / total:.0%}" for name, n in zip(self.classes, counts, strict=True)]
        return " (" + ", ".join(shares[:8]) + (f" and {len(shares) - 8} more" if len(shares) > 8 else "") + ")"
