"""The 2018 names for image data: thin constructors over `ImageData`. `from easylearn.dataset import *`.

What each means, and where the old library had a trap, is in docs/from-fastai.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from . import datasets07, transforms
from .core import to_np
from .cv07 import TfmType
from .data.bunch import SplitName
from .data.frames import read_table
from .data.loaders import TensorData
from .data.split import get_cv_idxs as _get_cv_idxs
from .data.split import split_indices
from .data.targets import TaskName
from .dataloader import Data07
from .datasets07 import ArraysDataset, csv_source, kind_of, read_dir
from .errors import ArgumentError, DataError
from .files import StrPath
from .imports import star
from .nn.body_head import BodyHead
from .options import strict
from .task import Task, multi_label, regression, single_label
from .transforms import Tfms
from .vision.augment import BatchStage
from .vision.data import ImageData as _ImageData
from .vision.decode import shape_of
from .vision.folders import list_images

if TYPE_CHECKING:
    from typing_extensions import Self

Array = npt.NDArray[Any]
Pair = Sequence[Tfms | None] | None


def get_cv_idxs(n: int, cv_idx: int = 0, val_pct: float = 0.2, seed: int = 42) -> Array:
    """Block `cv_idx` of a permutation by `seed`, as in 2018; all `n` where `val_pct` is 1 or more.

    >>> get_cv_idxs(10), len(get_cv_idxs(3, val_pct=5))
    (array([8, 1]), 3)
    """
    return _get_cv_idxs(n, cv_idx, val_pct, seed) if val_pct < 1 else np.arange(n)


def split_by_idx(idxs: Sequence[int], *arrays: npt.ArrayLike) -> list[tuple[Any, Any]]:
    """Split each array into (selected, rest): validation first, as in 2018.

    Args:
        idxs: positions to select.
        arrays: what to split, each of shape (n, ...); of tables rows are selected.

    Returns:
        One pair per array.

    >>> [(v.tolist(), t.tolist()) for v, t in split_by_idx([1], [10, 20, 30])]
    [([20], [10, 30])]
    """
    pairs = []
    for array in arrays:
        values = array if isinstance(array, pd.DataFrame | pd.Series) else np.asarray(array)
        train, valid = split_indices(len(values), list(idxs))
        chosen = values if isinstance(values, np.ndarray) else values.iloc
        pairs.append((chosen[valid], chosen[train]))
    return pairs


# -- data ----------------------------------------------------------------------------------------------


def _options(tfms: Pair, bs: int, num_workers: int | None) -> dict[str, Any]:
    """The arguments of `ImageData` that a pair of transforms and 2018's `bs` and `num_workers` stand for."""
    made: dict[str, Any] = {"batch_size": bs, "workers": num_workers}
    train = None if tfms is None else tfms[0]
    if train is None:
        return made
    if not isinstance(train, Tfms):
        raise ArgumentError(f"tfms= takes what tfms_from_model or tfms_from_stats gives, got {type(train).__name__}")
    if train.own:
        raise ArgumentError(
            f"{type(train.own[0]).__name__} is a transform of your own, for data sets by position: FilesDataset, "
            "FilesIndexArrayDataset and the like in ImageData.get_ds. Here, give RandomFlip() and its like alone"
        )
    return {**made, "size": train.size, "method": train.method, "augment": train.transforms}


def _normalised(data: ImageClassifierData, tfms: Pair) -> ImageClassifierData:
    """The data with the statistics that the transforms were made with, if any were given."""
    given = tfms[0] if tfms is not None else None
    return data if given is None else data.with_stats(*given.stats)


def _task(y: Any, continuous: bool) -> TaskName:
    """What labels are, as 2018 told it: numbers by `continuous`, several labels by their shape, else a class each."""
    if continuous:
        return "regression"
    return "single_label" if all(np.ndim(label) == 0 for label in y) else "auto"


def _there(path: StrPath, csv: StrPath) -> Path:
    """The csv, whose name may have the folder in front of it, as 2018's had."""
    inside = Path(path) / csv
    return (Path(csv) if not inside.exists() and Path(csv).exists() else inside).absolute()


class ArraysData(Data07, TensorData):
    """Arrays that reach the model as they are: what `ImageClassifierData.from_arrays` gives without transforms."""

    path: StrPath = "."

    def _dataset(self, split: SplitName) -> ArraysDataset:
        rows = self._split(split)
        y = None if rows.target is None else rows.target.numpy()
        made: ArraysDataset = kind_of(self, False)(rows.inputs[0].numpy(), y, None)
        made.c = self.c
        return made

    @property
    def sz(self) -> int:
        """The last dimension of an item."""
        return int(self._split("train").inputs[0].shape[-1])


class ImageClassifierData(Data07, _ImageData):
    """`ImageData` under its 2018 names."""

    _contiguous = False

    @classmethod
    @strict()
    def from_paths(
        cls,
        path: StrPath,
        bs: int = 64,
        tfms: Pair = None,
        trn_name: str = "train",
        val_name: str = "valid",
        test_name: str | None = None,
        test_with_labels: bool = False,
        num_workers: int | None = None,
    ) -> ImageClassifierData:
        """One sub-folder per class in `path/train` and `path/valid`; see `easylearn.ImageData.from_folder`.

        Args:
            path: the folder.
            bs: items in a batch.
            tfms: of `tfms_from_model`; None is 224 pixels without augmentation.
            trn_name: sub-folder of the training images.
            val_name: sub-folder of the validation images.
            test_name: sub-folder of the test images.
            test_with_labels: says nothing: a test folder with one sub-folder per class has labels by itself.
            num_workers: processes that decode; None chooses.
        """
        made = cls.from_folder(path, train=trn_name, valid=val_name, test=test_name, **_options(tfms, bs, num_workers))
        return _normalised(made, tfms)

    @classmethod
    @strict()
    def from_csv(  # type: ignore[override]
        cls,
        path: StrPath,
        folder: str,
        csv_fname: StrPath,
        bs: int = 64,
        tfms: Pair = None,
        val_idxs: Sequence[int] | None = None,
        suffix: str = "",
        test_name: str | None = None,
        continuous: bool = False,
        skip_header: bool = True,
        num_workers: int | None = None,
        cat_separator: str = " ",
    ) -> ImageClassifierData:
        """Files and labels in the first two columns of a csv; see `easylearn.ImageData.from_csv`.

        Args:
            path: the folder.
            folder: sub-folder of the images.
            csv_fname: the csv, relative to `path` or to where this runs.
            bs: items in a batch.
            tfms: of `tfms_from_model`.
            val_idxs: row numbers for validation, such as `get_cv_idxs(n)`; None takes those.
            suffix: added to each file name.
            test_name: sub-folder of the test images.
            continuous: labels are numbers, several of a row with the separator between them.
            skip_header: whether the csv has a header.
            num_workers: processes that decode; None chooses.
            cat_separator: between the labels of a row; where any row has it, every row may have several labels.
        """
        csv = _there(path, csv_fname)
        frame = read_table(csv, text=[0, 1]).frame if skip_header else None
        if frame is not None and len(frame.columns) < 2:
            raise DataError(f"{csv_fname} needs two columns, file and label; it has {list(frame.columns)}")
        if frame is None or (continuous and len(frame) and cat_separator in str(frame.iloc[0, 1])):
            files, y, classes = csv_source(folder, csv, skip_header, suffix, continuous, cat_separator)
            return cls.from_names_and_array(
                path, files, y, classes, val_idxs, test_name, num_workers, tfms=tfms, bs=bs, continuous=continuous
            )
        several = not continuous and frame.iloc[:, 1].astype(str).str.contains(cat_separator, regex=False).any()
        valid = list(val_idxs) if val_idxs is not None else get_cv_idxs(len(frame)).tolist()
        made = super().from_csv(
            path,
            csv,
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
        tfms: Pair = None,
        classes: Sequence[str] | None = None,
        num_workers: int | None = None,
        test: Any = None,
        continuous: bool = False,
    ) -> ImageClassifierData | ArraysData:
        """Arrays and their labels; see `easylearn.ImageData.from_arrays`.

        Args:
            path: `<path>/models` is where weights are saved.
            trn: (x, y) for training.
            val: (x, y) for validation.
            bs: items in a batch.
            tfms: of `tfms_from_model`; None gives the model pixels as images of their own size, and numbers that are no
                pixels (floats, of any shape) as they are.
            classes: names of the classes 0, 1, ...
            num_workers: processes that resize; None chooses.
            test: x, or (x, y).
            continuous: labels are numbers.
        """
        options = _options(tfms, bs, num_workers)
        if "size" not in options and np.asarray(trn[0]).dtype != np.uint8:
            y = np.asarray(trn[1])
            k = max(np.size(y[0]), 1)
            names = [str(c) for c in range(k if y.ndim > 1 else int(y.max()) + 1)] if classes is None else classes
            numbers = [f"y{i}" for i in range(k)]
            task: Task = regression(numbers) if continuous else (multi_label if y.ndim > 1 else single_label)(names)
            made = ArraysData(trn, val, task, test[0] if isinstance(test, tuple) else test, bs)
            made.path = path
            return made
        task_name = _task(trn[1], continuous)
        return _normalised(super().from_arrays(trn, val, test, classes=classes, task=task_name, **options), tfms)

    @classmethod
    @strict()
    def from_names_and_array(
        cls,
        path: StrPath,
        fnames: Sequence[str],
        y: Any,
        classes: Sequence[str] | None = None,
        val_idxs: Sequence[int] | None = None,
        test_name: str | None = None,
        num_workers: int | None = None,
        suffix: str = "",
        tfms: Pair = None,
        bs: int = 64,
        continuous: bool = False,
    ) -> ImageClassifierData:
        """File names and a label each; see `easylearn.ImageData.from_names`.

        Args:
            path: the folder that names are relative to.
            fnames: names of the files.
            y: a label each: words, or numbers of `classes`; with `continuous` the numbers to predict.
            classes: names of the classes 0, 1, ...
            val_idxs: positions for validation, such as `get_cv_idxs(n)`; None takes those.
            test_name: sub-folder of the test images.
            num_workers: processes that decode; None chooses.
            suffix: added to each file name.
            tfms: of `tfms_from_model`; with `TfmType.COORD` y are boxes in pixels of the files.
            bs: items in a batch.
            continuous: labels are numbers.
        """
        names = [f"{n}{suffix}" for n in fnames]
        given = None if tfms is None else tfms[0]
        if continuous and given is not None and given.tfm_y is TfmType.COORD:
            y = [given.boxes(row, shape_of(Path(path) / name)) for row, name in zip(y, names, strict=True)]
        made = cls.from_names(
            path,
            names,
            list(y),
            classes=None if continuous else classes,
            valid=list(val_idxs) if val_idxs is not None else get_cv_idxs(len(names)).tolist(),
            test=test_name,
            task=_task(y, continuous),
            **_options(tfms, bs, num_workers),
        )
        return _normalised(made, tfms)

    @classmethod
    @strict()
    def from_path_and_array(
        cls,
        path: StrPath,
        folder: str,
        y: Sequence[Any],
        classes: Sequence[str] | None = None,
        val_idxs: Sequence[int] | None = None,
        test_name: str | None = None,
        num_workers: int | None = None,
        tfms: Pair = None,
        bs: int = 64,
    ) -> ImageClassifierData:
        """The images of a folder in the order of their names, and a label each; see `from_names_and_array`.

        Args:
            folder: of the images, relative to `path`.
            path, y, classes, val_idxs, test_name, num_workers, tfms, bs: as there.
        """
        names = read_dir(path, folder)
        return cls.from_names_and_array(path, names, y, classes, val_idxs, test_name, num_workers, tfms=tfms, bs=bs)

    @property
    def sz(self) -> int:
        """Side of the images in pixels."""
        return self.size[0]

    def _dataset(self, split: SplitName) -> Any:
        one = self._split(split)
        after = self.batch_stage
        stats: Any = (after.mean, after.std)
        changes = after.transforms if split == "train" else ()
        tfms = Tfms(self.sz, self.item_stage.method, changes, stats)
        y = None if one.targets is None else one.targets.numpy()
        of_files = self.path is not None
        what = (list(one.ids), y, tfms, self.path) if of_files else (one.sources, y, tfms)
        made = kind_of(self, of_files)(*what)
        made.c = self.c
        return made

    def resize(self, targ_sz: int, new_path: str = "tmp", resume: bool = True, fn: Any = None) -> Self:
        """The same data: decoded images are kept at the size that is needed, so smaller copies spare nothing.

        Args:
            targ_sz, new_path, resume, fn: say nothing.
        """
        return self

    def for_model(self, model: nn.Module) -> Self:
        """See `Data.for_model`; a `model` of one's own may ask for `x.view(len(x), -1)`, and gets images for it."""
        made = super().for_model(model)
        made._contiguous = not isinstance(model, BodyHead) or vars(model).get("contiguous", False)
        return made

    def _stage_for(self, view: int | None) -> BatchStage:
        return replace(super()._stage_for(view), channels_last=not self._contiguous)


__all__ = star(
    globals(), transforms, datasets07, own=["ArraysData", "ImageClassifierData", "get_cv_idxs", "split_by_idx"]
)
