"""The 2018 names for image data: thin constructors over `ImageData`. `from easylearn.dataset import *`.

What each means, and where the old library had a trap, is in docs/from-fastai.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .data.frames import read_table
from .data.split import get_cv_idxs, split_indices
from .data.targets import TaskName
from .errors import ArgumentError, DataError
from .files import StrPath
from .options import strict
from .vision.archs import Arch, Stats, get_arch
from .vision.augment import PRESETS, RandomResizedCrop, Transform, Zoom, resolve
from .vision.data import ImageData
from .vision.splits import ImageSplit

__all__ = [
    "CropType",
    "ImageClassifierData",
    "get_cv_idxs",
    "imagenet_stats",
    "inception_stats",
    "split_by_idx",
    "tfms_from_model",
    "tfms_from_stats",
    "transforms_basic",
    "transforms_side_on",
    "transforms_top_down",
]

imagenet_stats: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
inception_stats: Stats = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

transforms_basic: list[Transform] = list(PRESETS["basic"])
transforms_side_on: list[Transform] = [t for t in PRESETS["side_on"] if not isinstance(t, Zoom)]
transforms_top_down: list[Transform] = [t for t in PRESETS["top_down"] if not isinstance(t, Zoom)]


class CropType(Enum):
    """How an image becomes a square.

    RANDOM and CENTER cut off what is too long, at a random place in training and in the middle otherwise; NO squashes;
    GOOGLENET cuts out a part of random area and proportions in training.
    """

    RANDOM = 1
    CENTER = 2
    NO = 3
    GOOGLENET = 4


_NO_TARGETS = "Only images are transformed here, no targets."
_OLD_TFMS = {
    "tfm_y": _NO_TARGETS,
    "sz_y": _NO_TARGETS,
    "norm_y": _NO_TARGETS,
    "pad": 'For borders use ImageData with method="pad".',
    "pad_mode": "What comes in from outside is always reflected.",
    "scale": "For other areas use ImageData with augment=[RandomResizedCrop(min_area=...)].",
}


@dataclass(frozen=True)
class Tfms:
    """What `tfms_from_model` says of one split: size, shape and augmentation."""

    size: int
    method: str
    transforms: tuple[Transform, ...]
    stats: Stats


class TfmsPair(NamedTuple):
    """Transforms for training and for validation."""

    train: Tfms
    valid: Tfms


@strict(_OLD_TFMS)
def tfms_from_stats(
    stats: Stats,
    sz: int,
    aug_tfms: Sequence[Transform] | None = None,
    max_zoom: float | None = None,
    crop_type: CropType = CropType.RANDOM,
) -> TfmsPair:
    """Transforms for images of `sz` pixels, normalised with `stats`.

    Args:
        stats: mean and standard deviation per channel.
        sz: side of the square in pixels.
        aug_tfms: such as `transforms_side_on`; None for no augmentation.
        max_zoom: enlarge by up to this factor while training.
        crop_type: see `CropType`.

    Returns:
        (training, validation), which `ImageClassifierData` takes as `tfms=`.
    """
    chosen = resolve(tuple(aug_tfms or ()))
    if max_zoom is not None and max_zoom > 1:
        chosen = (*chosen, Zoom(max_zoom))
    if crop_type is CropType.GOOGLENET:
        chosen = (*chosen, RandomResizedCrop())
    method = "squash" if crop_type is CropType.NO else "crop"
    return TfmsPair(Tfms(sz, method, chosen, stats), Tfms(sz, method, (), stats))


@strict(_OLD_TFMS)
def tfms_from_model(
    f_model: str | Arch,
    sz: int,
    aug_tfms: Sequence[Transform] | None = None,
    max_zoom: float | None = None,
    crop_type: CropType = CropType.RANDOM,
) -> TfmsPair:
    """Transforms for an architecture: as `tfms_from_stats`, with the statistics its weights were trained with.

    Args:
        f_model: an architecture, such as `resnet34`, or its name.
        sz: side of the square in pixels.
        aug_tfms: such as `transforms_side_on`; None for no augmentation.
        max_zoom: enlarge by up to this factor while training.
        crop_type: see `CropType`.

    Returns:
        (training, validation), which `ImageClassifierData` takes as `tfms=`.

    >>> train, valid = tfms_from_model("resnet34", 224, transforms_side_on, max_zoom=1.1)
    >>> train.size, len(train.transforms), len(valid.transforms)
    (224, 4, 0)
    """
    return tfms_from_stats(get_arch(f_model).stats, sz, aug_tfms, max_zoom, crop_type)


def split_by_idx(idxs: Sequence[int], *arrays: npt.ArrayLike) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Split each array into (selected, rest): validation first, as in 2018.

    Args:
        idxs: positions to select.
        arrays: what to split, each of shape (n, ...).

    Returns:
        One pair per array.

    >>> [(v.tolist(), t.tolist()) for v, t in split_by_idx([1], [10, 20, 30])]
    [([20], [10, 30])]
    """
    pairs = []
    for array in arrays:
        values = np.asarray(array)
        train, valid = split_indices(len(values), list(idxs))
        pairs.append((values[valid], values[train]))
    return pairs


def _options(tfms: Sequence[Tfms | None] | None, bs: int, num_workers: int | None) -> dict[str, Any]:
    """The arguments of `ImageData` that a pair of transforms and 2018's `bs` and `num_workers` stand for."""
    if tfms is None or tfms[0] is None:
        return {"batch_size": bs, "workers": num_workers}
    if not isinstance(tfms[0], Tfms):
        raise ArgumentError(f"tfms= takes what tfms_from_model or tfms_from_stats gives, got {type(tfms[0]).__name__}")
    train = tfms[0]
    return {
        "size": train.size,
        "method": train.method,
        "augment": train.transforms,
        "batch_size": bs,
        "workers": num_workers,
    }


def _normalised(data: ImageClassifierData, tfms: Sequence[Tfms | None] | None) -> ImageClassifierData:
    """The data with the statistics that the transforms were made with, if any were given."""
    given = tfms[0] if tfms is not None else None
    return data if given is None else data.with_stats(*given.stats)


def _task(y: Any, continuous: bool) -> TaskName:
    """What labels are, as 2018 told it: numbers by `continuous`, several labels by their shape, else a class each."""
    if continuous:
        return "regression"
    return "single_label" if all(np.ndim(label) == 0 for label in y) else "auto"


@dataclass(frozen=True)
class Dataset:
    """One split as `trn_ds`, `val_ds` and `test_ds` show it.

    Args:
        fnames: names relative to the data's path, in the order of predictions.
        y: targets, shape (n, ...); None where they are not known.
    """

    fnames: list[str]
    y: npt.NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.fnames)


class ImageClassifierData(ImageData):
    """`ImageData` under its 2018 names."""

    @classmethod
    @strict({"test_with_labels": "A test folder with one sub-folder per class has labels by itself."})
    def from_paths(
        cls,
        path: StrPath,
        bs: int = 64,
        tfms: Sequence[Tfms | None] | None = None,
        trn_name: str = "train",
        val_name: str = "valid",
        test_name: str | None = None,
        num_workers: int | None = None,
    ) -> ImageClassifierData:
        """One sub-folder per class in `path/train` and `path/valid`; see `ImageData.from_folder`.

        Args:
            path: the folder.
            bs: items in a batch.
            tfms: of `tfms_from_model`; None is 224 pixels without augmentation.
            trn_name: sub-folder of the training images.
            val_name: sub-folder of the validation images.
            test_name: sub-folder of the test images.
            num_workers: processes that decode; None chooses.
        """
        made = cls.from_folder(path, train=trn_name, valid=val_name, test=test_name, **_options(tfms, bs, num_workers))
        return _normalised(made, tfms)

    @classmethod
    @strict({"skip_header": "The csv must have a header line."})
    def from_csv(  # type: ignore[override]
        cls,
        path: StrPath,
        folder: str,
        csv_fname: StrPath,
        bs: int = 64,
        tfms: Sequence[Tfms | None] | None = None,
        val_idxs: Sequence[int] | None = None,
        suffix: str = "",
        test_name: str | None = None,
        continuous: bool = False,
        num_workers: int | None = None,
        cat_separator: str = " ",
    ) -> ImageClassifierData:
        """Files and labels in the first two columns of a csv; see `ImageData.from_csv`.

        Args:
            path: the folder.
            folder: sub-folder of the images.
            csv_fname: the csv.
            bs: items in a batch.
            tfms: of `tfms_from_model`.
            val_idxs: row numbers for validation, such as `get_cv_idxs(n)`; None takes those.
            suffix: added to each file name.
            test_name: sub-folder of the test images.
            continuous: labels are numbers.
            num_workers: processes that decode; None chooses.
            cat_separator: between the labels of a row; where any row has it, every row may have several labels.
        """
        frame = read_table(Path(path) / csv_fname, text=[0, 1]).frame
        if len(frame.columns) < 2:
            raise DataError(f"{csv_fname} needs two columns, file and label; it has {list(frame.columns)}")
        several = not continuous and frame.iloc[:, 1].astype(str).str.contains(cat_separator, regex=False).any()
        valid = list(val_idxs) if val_idxs is not None else get_cv_idxs(len(frame)).tolist()
        made = super().from_csv(
            path,
            csv_fname,
            folder,
            suffix=suffix,
            valid=valid,
            test=test_name,
            task="regression" if continuous else "multi_label" if several else "single_label",
            label_sep=cat_separator if several else None,
            **_options(tfms, bs, num_workers),
        )
        return _normalised(made, tfms)

    @classmethod
    @strict()
    def from_arrays(  # type: ignore[override]
        cls,
        path: StrPath,
        trn: tuple[Any, Any],
        val: tuple[Any, Any],
        bs: int = 64,
        tfms: Sequence[Tfms | None] | None = None,
        classes: Sequence[str] | None = None,
        num_workers: int | None = None,
        test: Any = None,
        continuous: bool = False,
    ) -> ImageClassifierData:
        """Images and labels in arrays; see `ImageData.from_arrays`.

        Args:
            path: not used; it is here because notebooks give it.
            trn: (x, y) for training.
            val: (x, y) for validation.
            bs: items in a batch.
            tfms: of `tfms_from_model`; None keeps the images' own size.
            classes: names of the classes 0, 1, ...
            num_workers: processes that resize; None chooses.
            test: x, or (x, y).
            continuous: labels are numbers.
        """
        task = _task(trn[1], continuous)
        made = super().from_arrays(trn, val, test, classes=classes, task=task, **_options(tfms, bs, num_workers))
        return _normalised(made, tfms)

    @classmethod
    @strict()
    def from_names_and_array(
        cls,
        path: StrPath,
        fnames: Sequence[str],
        y: Sequence[Any],
        classes: Sequence[str] | None = None,
        val_idxs: Sequence[int] | None = None,
        test_name: str | None = None,
        num_workers: int | None = None,
        suffix: str = "",
        tfms: Sequence[Tfms | None] | None = None,
        bs: int = 64,
        continuous: bool = False,
    ) -> ImageClassifierData:
        """File names and a label each; see `ImageData.from_names`.

        Args:
            path: the folder that names are relative to.
            fnames: names of the files.
            y: a label each: words, or numbers of `classes`; with `continuous` the numbers to predict.
            classes: names of the classes 0, 1, ...
            val_idxs: positions for validation, such as `get_cv_idxs(n)`; None takes those.
            test_name: sub-folder of the test images.
            num_workers: processes that decode; None chooses.
            suffix: added to each file name.
            tfms: of `tfms_from_model`.
            bs: items in a batch.
            continuous: labels are numbers.
        """
        valid = list(val_idxs) if val_idxs is not None else get_cv_idxs(len(fnames)).tolist()
        made = cls.from_names(
            path,
            [f"{n}{suffix}" for n in fnames],
            list(y),
            classes=None if continuous else classes,
            valid=valid,
            test=test_name,
            task=_task(y, continuous),
            **_options(tfms, bs, num_workers),
        )
        return _normalised(made, tfms)

    @property
    def c(self) -> int:
        """How many numbers a model gives for one image."""
        return self.task.n_out

    @property
    def sz(self) -> int:
        """Side of the images in pixels."""
        return self.size[0]

    @property
    def bs(self) -> int:
        """Items in a batch."""
        return self.batch_size

    @property
    def trn_ds(self) -> Dataset:
        """File names and targets of the training split."""
        return self._dataset(self.train)

    @property
    def val_ds(self) -> Dataset:
        """File names and targets of the validation split."""
        return self._dataset(self.valid)

    @property
    def test_ds(self) -> Dataset | None:
        """File names, and targets if there are any, of the test split; None without one."""
        return None if self.test is None else self._dataset(self.test)

    @staticmethod
    def _dataset(split: ImageSplit) -> Dataset:
        return Dataset(list(split.ids), None if split.targets is None else split.targets.numpy())

    @property
    def trn_y(self) -> npt.NDArray[Any]:
        """Training targets."""
        return self._y("train")

    @property
    def val_y(self) -> npt.NDArray[Any]:
        """Validation targets."""
        return self._y("valid")

    def _y(self, name: str) -> npt.NDArray[Any]:
        targets = (self.train if name == "train" else self.valid).targets
        if targets is None:
            raise DataError(f"the {name} split has no targets")
        return targets.numpy()

    @property
    def is_multi(self) -> bool:
        """Whether items have several labels."""
        return self.task.is_multi

    @property
    def is_reg(self) -> bool:
        """Whether targets are numbers."""
        return self.task.predicts_numbers
