"""What all ways of making image data take, written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, get_args

import numpy.typing as npt

from ..data.targets import TaskName
from ..data.weights import ItemWeights
from ..errors import ArgumentError, check_whole
from ..files import StrPath, as_path
from ..options import check_split
from .augment import Augment, resolve
from .decode import MAX_PIXELS, Method
from .items import Column
from .preprocess import CROP_PCT, ImagePreprocessor, Size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Layout = TypeVar("Layout", bound="DataclassInstance")
How = TypeVar("How")
OnError = Literal["raise", "skip"]
Groups = str | int | Callable[[str], Any] | Sequence[Any] | npt.NDArray[Any] | None

OLD_NAMES = {
    "bs": "batch_size", "sz": "size", "tfms": "augment", "aug_tfms": "augment", "crop_type": "method",
    "num_workers": "workers", "trn_name": "train", "val_name": "valid", "val_idxs": "valid", "valid_pct": "valid",
    "test_name": "test", "csv_fname": "csv", "suff": "suffix", "label_delim": "label_sep", "fn_col": "file_col",
    **dict.fromkeys(("continuous", "regression"), 'Write task="regression".'),
}  # fmt: skip


@dataclass(frozen=True)
class ImageOptions:
    """How images are prepared, split and drawn, however they are given.

    Args:
        batch_size: images in a training batch.
        augment: changes of training images: "none", "basic", "side_on", "top_down" or a list of transforms.
        method: "crop" cuts what is too long off, at a random place in training and on both sides otherwise; "squash"
            ignores proportions; "pad" adds reflected borders.
        crop_pct: "crop" shows the model this fraction of the shorter side, the middle of it outside training. None is
            0.875 for files, which suits the published weights, and 1.0 for arrays.
        channels: 3 for colour, 1 for grey.
        workers: processes that decode; None chooses. The batches are the same whatever the number.
        cache: keep decoded images on disk (in easylearn's cache folder, or in the folder given), so that each file is
            decoded once; False decodes in every epoch.
        task: "single_label", "multi_label" or "regression"; "auto" looks at the labels, by one rule for images, texts
            and tables.
        seed: of the split by fraction.
        stratify: give each class its proportion of the validation images; None does so where classes are split by a
            fraction.
        groups: what belongs together and stays in one split, such as patients: a function of an image's id, or a
            sequence; of a table also the name of a column.
        weights: how often training images are drawn: "balanced", a dictionary by class, or one number per image; of a
            table also the name of a column.
        on_error: "raise" stops at a file that cannot be read; "skip" leaves it out, and `report()` lists it.
        max_pixels: files of more pixels are such, so that no small file takes all memory; the model keeps it.
    """

    batch_size: int = 64
    augment: Augment = "none"
    method: Method = "crop"
    crop_pct: float | None = None
    channels: int = 3
    workers: int | None = None
    cache: bool | StrPath = True
    task: TaskName = "auto"
    seed: int = 0
    stratify: bool | None = None
    groups: Groups = None
    weights: ItemWeights = None
    on_error: OnError = "raise"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.on_error not in get_args(OnError):
            raise ArgumentError(f'on_error must be "raise" or "skip", got {self.on_error!r}')
        check_split(self.seed, self.stratify)
        if self.workers is not None:
            check_whole("workers (None chooses)", self.workers, 0)
        if not isinstance(self.cache, bool):
            as_path(self.cache, "a folder to keep images in (or True, or False)")
        if isinstance(self.groups, float):
            raise ArgumentError(f"groups must be a function of an id, a sequence or a column, got {self.groups!r}")

    def preprocessor(
        self, size: Size, crop_pct: float = CROP_PCT, kind: type[ImagePreprocessor] = ImagePreprocessor
    ) -> ImagePreprocessor:
        """What prepares images at a size, of some `kind`; `crop_pct` is taken where none was given."""
        chosen = crop_pct if self.crop_pct is None else self.crop_pct
        return kind(
            size, self.method, self.channels, chosen, workers=self.workers, max_pixels=self.max_pixels,
            transforms=resolve(self.augment),
        )  # fmt: skip


@dataclass(frozen=True)
class DenseOptions:
    """How images are prepared and split of whose pixels something is predicted.

    Args:
        batch_size: images in a training batch.
        augment: changes of training images and, with them, of what is true of them: "none", "basic", "side_on",
            "top_down" or a list of transforms.
        method: "pad" fits the whole image inside, with borders that do not count; "squash" ignores proportions.
        channels: 3 for colour, 1 for grey.
        workers: processes that decode; None chooses. The batches are the same whatever the number.
        cache: keep decoded images on disk (in easylearn's cache folder, or in the folder given), so that each file is
            decoded once; False decodes in every epoch.
        seed: of the split by fraction.
        groups: what belongs together and stays in one split, such as patients or films: a function of an image's id,
            or a sequence; of a table also the name of a column.
        weights: how often training images are drawn, one number each; of a table also the name of a column.
        on_error: "raise" stops at an image that cannot be read; "skip" leaves it out, and `report()` lists it.
        max_pixels: files of more pixels are such, so that no small file takes all memory; the model keeps it.
    """

    batch_size: int = 16
    augment: Augment = "none"
    method: Literal["pad", "squash"] = "pad"
    channels: int = 3
    workers: int | None = None
    cache: bool | StrPath = True
    seed: int = 0
    groups: Groups = None
    weights: ItemWeights = None
    on_error: OnError = "raise"
    max_pixels: int = MAX_PIXELS

    def as_images(self) -> ImageOptions:
        """The same as options of images.

        Raises:
            ArgumentError: the images would be cut, or drawn by a class that they do not have.
        """
        if self.method not in ("pad", "squash"):
            raise ArgumentError(
                f'method must be "pad" or "squash", so that the whole image is seen, got {self.method!r}'
            )
        if isinstance(self.weights, dict) or self.weights == "balanced":
            raise ArgumentError("weights by class are for images of one class each; give one number per image")
        return ImageOptions(**vars(self), crop_pct=1.0)


class DenseKeywords(TypedDict, total=False):
    """The fields of `DenseOptions` as keywords, for type checkers."""

    batch_size: int
    augment: Augment
    method: Literal["pad", "squash"]
    channels: int
    workers: int | None
    cache: bool | StrPath
    seed: int
    groups: Groups
    weights: ItemWeights
    on_error: OnError
    max_pixels: int


def sorted_out(given: Mapping[str, Any], layout: type[Layout], rest: type[How]) -> tuple[Layout, How]:
    """Options of two kinds: those that are fields of `layout`, and the others."""
    own = {field.name for field in fields(layout)}
    first = layout(**{name: value for name, value in given.items() if name in own})
    return first, rest(**{name: value for name, value in given.items() if name not in own})


class ImageKeywords(TypedDict, total=False):
    """The fields of `ImageOptions` as keywords, for type checkers."""

    batch_size: int
    augment: Augment
    method: Method
    crop_pct: float | None
    channels: int
    workers: int | None
    cache: bool | StrPath
    task: TaskName
    seed: int
    stratify: bool | None
    groups: Groups
    weights: ItemWeights
    on_error: OnError
    max_pixels: int


class TableKeywords(ImageKeywords, total=False):
    """Those of `TableOptions` and of `ImageOptions`."""

    suffix: str
    file_col: Column
    label_col: Column | Sequence[Column]
    label_sep: str | None
    time: Column | None
    test: str | None
