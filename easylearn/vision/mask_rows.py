"""Where images and their masks are: folders and tables become rows, each of which knows where it came from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..data.values import is_missing
from ..errors import ArgumentError, DataError
from ..losses import VOID
from ..task import Masks
from .decode import AnyImage, ItemStage
from .folders import existing_folder, list_images, listing
from .items import Listed, Rows, TableOptions, array_rows
from .mask_files import MaskCodes, read_masks

if TYPE_CHECKING:
    import pandas as pd

Pair = tuple[AnyImage, AnyImage]  # an image and its mask


@dataclass(frozen=True)
class MaskFolders:
    """How images and masks lie in folders.

    Args:
        images: the folder of images, in each of the splits' folders or in the whole.
        masks: the folder of masks beside it, with the same names; endings may differ.
        suffix: what a mask's name has more than its image's, before the ending, such as "_mask".
    """

    images: str = "images"
    masks: str = "masks"
    suffix: str = ""

    def listed(self, root: Path, train: str, valid: Any, test: str | bool | None) -> Listed:
        """The images of a data set; see `MaskData.from_folder`."""
        is_split = isinstance(valid, str)
        existing_folder(root, f"{train}/{self.images} and {train}/{self.masks}" if is_split else self.images)
        if is_split and (root / self.images).is_dir() and not (root / train).exists():
            raise DataError(
                f"{root} has no folder {train!r}, and {self.images} lies in it directly: pass valid=0.2 to split off a "
                "fifth of the images"
            )
        base = root / train if is_split or (root / train / self.images).is_dir() else root
        rows = self.rows(root, base)
        others = self.rows(root, root / valid) if is_split else None
        name = test if isinstance(test, str) else "test"
        has_test = test is not False and (isinstance(test, str) or (root / name / self.images).is_dir())
        testing = self.rows(root, root / name, may_lack=True) if has_test else None
        return Listed(rows, others, testing, folder_labels=False, root=root)

    def rows(self, root: Path, base: Path, may_lack: bool = False) -> Rows:
        """The images of one split with their masks; those to predict may lack them."""
        layout = f"{base / self.images} with images and {base / self.masks} with a mask of the same name for each"
        folder, beside = existing_folder(base / self.images, layout), base / self.masks
        names = list_images(folder)
        if not names:
            raise DataError(f"no image files in {folder}; it holds {listing(folder)}. Expected {layout}")
        rows = Rows.of_files(names, folder, root, [f"in {folder}"] * len(names))
        if may_lack and not beside.is_dir():
            return rows
        existing_folder(beside, layout)
        found = by_stem(beside, "masks")
        rows.labels = []
        for name, source in zip(names, rows.sources, strict=True):
            wanted = os.path.splitext(name)[0] + self.suffix
            if wanted not in found:
                raise DataError(
                    f"{source} has no mask: expected {beside / wanted}.png; {beside} holds {listing(beside)}. Pass "
                    'suffix= if masks are called otherwise, such as suffix="_mask"'
                )
            rows.labels.append((source, str(beside / found[wanted])))
        return rows


def by_stem(folder: Path, what: str) -> dict[str, str]:
    """The images below a folder by their names without endings; `what` they are is for messages."""
    found: dict[str, str] = {}
    for name in list_images(folder):
        other = found.setdefault(os.path.splitext(name)[0], name)
        if other != name:
            raise DataError(f"{folder} has two {what} of one name: {other} and {name}. Remove one")
    return found


@dataclass(frozen=True)
class MaskTable:
    """How a table names images and their masks.

    Args:
        layout: how it names images; its labels are the names of masks.
        folder: holds the images, below the folder of the data.
        mask_folder: holds the masks.
        suffix: appended to each mask's name.
    """

    layout: TableOptions
    folder: str
    mask_folder: str
    suffix: str

    def rows(self, table: Path | pd.DataFrame, root: Path, beside: dict[str, Any]) -> Rows:
        """The images that a `table` names, with their masks; `root` and `beside` as of `TableOptions.rows`."""
        rows = self.layout.rows(table, root, self.folder, beside, "mask_col")
        pairs: list[Pair] = []
        for source, name, where in zip(rows.sources, rows.labels.iloc[:, 0].tolist(), rows.where, strict=True):
            if is_missing(name):
                raise DataError(f"{where}: it names no mask. Fill it in, or remove the row")
            named = (
                int(name) if isinstance(name, float) and name.is_integer() else name
            )  # a column of numbers with gaps
            file = root / self.mask_folder / f"{named}{self.suffix}"
            if not file.is_file():
                raise DataError(f"{where}: there is no mask {file}. Look at mask_col=, mask_folder= and mask_suffix=")
            pairs.append((source, str(file)))
        rows.labels = pairs
        return rows


def mask_arrays(given: Any, name: str, what: str = "masks") -> Rows:
    """(x, y) in memory with masks y, (n, height, width); `what` they are is for messages."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ArgumentError(f"{name} must be a pair (images, {what}), got {type(given).__name__}")
    x, y = given
    rows = array_rows((x, None), name)
    if y is None and name != "test":
        raise DataError(f"{name} has images alone: pass a pair (x, y), with what is to be learnt of each")
    if y is None:
        return rows
    if len(y) != len(rows):
        raise DataError(f"{name} has {len(rows)} images but {len(y)} {what}")
    rows.labels = list(zip(rows.sources, list(y), strict=True))
    return rows


@dataclass
class GivenMasks:
    """Masks as they are given, not read yet; see `splits.Labels`, and for `encode` `splits.KnownTargets`.

    Args:
        codes: what their numbers mean.
        stage: says where an image lies in the model's frame.
    """

    codes: MaskCodes
    stage: ItemStage
    note: str = ""
    _trained: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(256, bool))

    @property
    def task(self) -> Masks:
        """What is predicted."""
        return Masks(self.codes.names, values=self.codes.values)

    def stratify_codes(self) -> None:
        """None: a mask has many classes."""

    def learn(self, train: npt.NDArray[np.int64]) -> GivenMasks:
        """The same: nothing is learnt before the masks are read."""
        return self

    def encode(self, values: Sequence[Pair], where: Callable[[int], str], split: str, hint: str) -> Tensor:
        """The masks of a split in the model's frame, (n, h, w), uint8."""
        names = [mask if isinstance(mask, str) else f"the mask of {where(k)}" for k, (_, mask) in enumerate(values)]
        made = read_masks(self.codes, values, names, self.stage.place)
        counts = [
            np.bincount(one.reshape(-1), minlength=256) for one in made.numpy()
        ]  # of all, 8 bytes a pixel at once
        there = np.sum(counts, 0) > 0
        there[VOID] = False
        if not there.any():
            raise DataError(f"no pixel of the {split} masks has a class: all of them are void")
        if split == "train":
            if there.sum() == 1:
                only = self.codes.names[int(there.argmax())]
                raise DataError(
                    f"all known pixels of the training masks are {only!r}, so there is nothing to tell apart: add "
                    "masks with other classes, or look at what the numbers in the files are"
                )
            self._trained = there
        elif (new := there & ~self._trained).any():
            numbers = np.flatnonzero(new)
            first = next(k for k, mask in enumerate(made.numpy()) if np.isin(mask, numbers).any())
            known = ", ".join(self.codes.names[c] for c in numbers)
            raise DataError(
                f"the {split} masks have classes that no training mask has: {known} (the first in {names[first]}). Add "
                "training images of them, choose others to validate, or say void= for classes that are not to count"
            )
        return made
