"""2018's data sets: items by position, for whoever puts data together by hand, and what is read for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from torch.utils.data import Dataset

from .core import to_np
from .dataloader import DataLoader
from .errors import DataError
from .files import StrPath
from .transforms import Tfms
from .vision.folders import list_images

__all__ = [
    "ArraysDataset", "ArraysIndexDataset", "ArraysIndexRegressionDataset", "ArraysNhotDataset", "BaseDataset",
    "DataLoader", "FilesArrayDataset", "FilesDataset", "FilesIndexArrayDataset", "FilesIndexArrayRegressionDataset",
    "FilesNhotArrayDataset", "ImageData", "ModelData", "csv_source", "folder_source", "n_hot", "open_image",
    "parse_csv_labels", "read_dir", "read_dirs",
]  # fmt: skip

Array = npt.NDArray[Any]


def n_hot(ids: Any, c: int) -> Array:
    """`c` zeros, with ones at `ids`."""
    made = np.zeros(c, np.float32)
    made[ids] = 1
    return made


def open_image(fn: StrPath) -> Array:
    """The image in the file `fn`: (h, w, 3), float32 in [0, 1]."""
    try:
        with Image.open(fn) as image:
            return np.asarray(image.convert("RGB"), np.float32) / 255
    except OSError as error:
        raise DataError(f"{fn} cannot be read as an image: {error}") from error


def read_dir(path: StrPath, folder: str) -> list[str]:
    """The images in `folder`, relative to `path`."""
    return [f"{folder}/{name}" for name in list_images(Path(path) / folder)]


def read_dirs(path: StrPath, folder: str) -> tuple[list[str], list[str], list[str]]:
    """The images in the class folders of `folder`, relative to `path`; a class for each; all classes."""
    names = read_dir(path, folder)
    labels = [Path(name).parent.name for name in names]
    return names, labels, sorted(set(labels))


def folder_source(path: StrPath, folder: str) -> tuple[list[str], Array, list[str]]:
    """As `read_dirs` of `path` and `folder`, the classes as numbers."""
    names, labels, classes = read_dirs(path, folder)
    return names, np.array([classes.index(label) for label in labels]), classes


def parse_csv_labels(fn: StrPath, skip_header: bool = True, cat_separator: str = " ") -> tuple[Any, ...]:
    """File names, and the labels of each as a list, from the first two columns of a csv.

    Args:
        fn: the csv.
        skip_header: whether it has a header.
        cat_separator: between labels.

    Returns:
        (names, labels by name, all labels, number of each label).
    """
    table = pd.read_csv(fn, header=0 if skip_header else None, dtype=str)
    found = {name: str(labels).split(cat_separator) for name, labels in zip(table.iloc[:, 0], table.iloc[:, 1])}  # noqa: B905
    every = sorted({label for labels in found.values() for label in labels})
    return table.iloc[:, 0].to_numpy(), found, every, {label: k for k, label in enumerate(every)}


def csv_source(
    folder: str, csv_file: StrPath, skip_header: bool = True, suffix: str = "", continuous: bool = False,
    cat_separator: str = " ",
) -> tuple[list[str], Array, list[str]]:  # fmt: skip
    """File names below `folder`, targets and classes from a csv; the rest as in `ImageClassifierData.from_csv`.

    Args:
        folder, suffix, continuous: as there.
        csv_file, skip_header, cat_separator: see `parse_csv_labels`.
    """
    names, found, every, number = parse_csv_labels(csv_file, skip_header, cat_separator)
    files = [f"{folder}/{name}{suffix}" if folder else f"{name}{suffix}" for name in names]
    if continuous:
        return files, np.array([found[name] for name in names], np.float32), every
    if all(len(labels) == 1 for labels in found.values()):
        return files, np.array([number[found[name][0]] for name in names]), every
    return files, np.stack([n_hot([number[label] for label in found[name]], len(every)) for name in names]), every


# -- items one by one ----------------------------------------------------------------------------------


class BaseDataset(Dataset[Any]):
    """Items by position; a subclass says in `get_n`, `get_x`, `get_y`, `get_c` and `get_sz` what they are.

    Args:
        transform: of (x, y); None leaves both.
    """

    def __init__(self, transform: Callable[..., Any] | None = None) -> None:
        self.transform = transform
        self.n, self.c, self.sz = self.get_n(), self.get_c(), self.get_sz()

    def __len__(self) -> int:
        return int(self.n)

    def __getitem__(self, idx: Any) -> Any:
        if isinstance(idx, slice):
            xs, ys = zip(*(self.get1item(i) for i in range(*idx.indices(len(self)))), strict=True)
            return np.stack(xs), ys
        if not -len(self) <= idx < len(self):
            raise IndexError(idx)
        return self.get1item(idx)

    def get1item(self, idx: int) -> Any:
        """Item `idx`, transformed."""
        return self.get(self.transform, self.get_x(idx), self.get_y(idx))

    def get(self, tfm: Callable[..., Any] | None, x: Any, y: Any) -> Any:
        """`x` and `y` after `tfm`."""
        return (x, y) if tfm is None else tfm(x, y)

    def get_n(self) -> int:
        """How many items."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many items it has: give it get_n")

    def get_c(self) -> int:
        """How many numbers a model gives for one."""
        return 0

    def get_sz(self) -> int:
        """Side of the images."""
        return int(self.transform.sz) if isinstance(self.transform, Tfms) else 0

    def get_x(self, i: int) -> Any:
        """What item `i` looks like."""
        raise NotImplementedError(f"{type(self).__name__} does not say what an item looks like: give it get_x")

    def get_y(self, i: int) -> Any:
        """The target of item `i`."""
        return 0

    @property
    def is_multi(self) -> bool:
        """Whether items have several labels."""
        return False

    @property
    def is_reg(self) -> bool:
        """Whether targets are numbers."""
        return False

    def denorm(self, arr: Any) -> Array:
        """A batch `arr` of normalised images, channels first, as pixels, channels last."""
        images = to_np(arr)
        images = np.moveaxis(images[None] if images.ndim == 3 else images, 1, -1)
        return self.transform.denorm(images) if isinstance(self.transform, Tfms) else images


class FilesDataset(BaseDataset):
    """Image files.

    Args:
        fnames: names of the files.
        transform: of (image, target).
        path: what names are relative to.
    """

    def __init__(self, fnames: Sequence[str], transform: Callable[..., Any] | None, path: StrPath) -> None:
        self.fnames, self.path = fnames, path
        super().__init__(transform)

    def get_n(self) -> int:
        """See `BaseDataset.get_n`."""
        return len(self.fnames)

    def get_x(self, i: int) -> Any:
        """See `BaseDataset.get_x`, whose `i` this is."""
        return open_image(Path(self.path) / self.fnames[i])


class _WithTargets(BaseDataset):
    y: Any

    def get_y(self, i: int) -> Any:
        """See `BaseDataset.get_y`, whose `i` this is."""
        return 0 if self.y is None else self.y[i]

    def get_c(self) -> int:
        """See `BaseDataset.get_c`."""
        return (
            self.y.shape[1] if np.ndim(self.y) > 1 else 0 if self.y is None or not len(self.y) else int(max(self.y)) + 1
        )


class FilesArrayDataset(_WithTargets, FilesDataset):
    """Image files and a target each.

    Args:
        fnames, transform, path: see `FilesDataset`.
        y: the targets; None where they are not known.
    """

    def __init__(self, fnames: Sequence[str], y: Any, transform: Callable[..., Any] | None, path: StrPath) -> None:
        self.y = y
        super().__init__(fnames, transform, path)


class ArraysDataset(_WithTargets):
    """Arrays and a target each.

    Args:
        x: shape (n, ...), or a list of arrays.
        y: the targets.
        transform: of (x, y).
    """

    def __init__(self, x: Any, y: Any, transform: Callable[..., Any] | None) -> None:
        self.x, self.y = x, y
        super().__init__(transform)

    def get_n(self) -> int:
        """See `BaseDataset.get_n`."""
        return len(self.x)

    def get_x(self, i: int) -> Any:
        """See `BaseDataset.get_x`, whose `i` this is."""
        return self.x[i]


class _Several(BaseDataset):
    @property
    def is_multi(self) -> bool:
        """True."""
        return True


class _Numbers(BaseDataset):
    @property
    def is_reg(self) -> bool:
        """True."""
        return True


class FilesIndexArrayDataset(FilesArrayDataset):
    """Image files and a class number each."""


class FilesNhotArrayDataset(_Several, FilesArrayDataset):
    """Image files with several labels."""


class FilesIndexArrayRegressionDataset(_Numbers, FilesArrayDataset):
    """Image files and numbers."""


class ArraysIndexDataset(ArraysDataset):
    """Arrays and a class number each."""


class ArraysNhotDataset(_Several, ArraysDataset):
    """Arrays with several labels."""


class ArraysIndexRegressionDataset(_Numbers, ArraysDataset):
    """Arrays and numbers."""


def kind_of(data: Any, of_files: bool) -> Any:
    """The data set for what is predicted in `data`: `of_files`, or of arrays."""
    if data.is_reg:
        return FilesIndexArrayRegressionDataset if of_files else ArraysIndexRegressionDataset
    if data.is_multi:
        return FilesNhotArrayDataset if of_files else ArraysNhotDataset
    return FilesIndexArrayDataset if of_files else ArraysIndexDataset


class ModelData:
    """Loaders of one's own, for a `Learner` with a model and a loss of one's own.

    Args:
        path: `<path>/models` is where weights are saved.
        trn_dl, val_dl, test_dl: give (x, ..., y); test may be None.
    """

    def __init__(self, path: StrPath, trn_dl: Any, val_dl: Any, test_dl: Any = None) -> None:
        self.path, self.trn_dl, self.val_dl, self.test_dl = path, trn_dl, val_dl, test_dl

    @classmethod
    def from_dls(cls, path: StrPath, trn_dl: Any, val_dl: Any, test_dl: Any = None) -> ModelData:
        """As `ModelData`: `path`, `trn_dl`, `val_dl` and `test_dl`."""
        return ModelData(path, trn_dl, val_dl, test_dl)

    @property
    def trn_ds(self) -> Any:
        """The training items."""
        return self.trn_dl.dataset

    @property
    def val_ds(self) -> Any:
        """The validation items."""
        return self.val_dl.dataset

    @property
    def test_ds(self) -> Any:
        """The test items."""
        return self.test_dl.dataset

    @property
    def trn_y(self) -> Any:
        """Training targets."""
        return self.trn_ds.y

    @property
    def val_y(self) -> Any:
        """Validation targets."""
        return self.val_ds.y

    @property
    def c(self) -> int:
        """How many numbers a model gives for one item."""
        return int(self.trn_ds.c)

    @property
    def sz(self) -> int:
        """Side of the images."""
        return int(self.trn_ds.sz)

    @property
    def is_multi(self) -> bool:
        """Whether items have several labels."""
        return bool(self.trn_ds.is_multi)

    @property
    def is_reg(self) -> bool:
        """Whether targets are numbers."""
        return bool(self.trn_ds.is_reg)


class ImageData(ModelData):
    """Data sets of one's own: train, validation, train without augmentation, validation with it, test, test with it.

    Args:
        path: `<path>/models` is where weights are saved.
        datasets: six, as `get_ds` gives them; the last two may be None.
        bs: items in a batch.
        num_workers: says nothing.
        classes: names, where there are any.
    """

    def __init__(
        self, path: StrPath, datasets: Sequence[Any], bs: int, num_workers: int = 0, classes: Any = None
    ) -> None:
        self.bs, self.num_workers, self.classes = bs, num_workers, classes
        trn, val, fix, aug, test, test_aug = (self.get_dl(ds, k == 0) for k, ds in enumerate(datasets))
        super().__init__(path, trn, val, test)
        self.fix_dl, self.aug_dl, self.test_aug_dl = fix, aug, test_aug

    def resize(self, targ_sz: int, new_path: str = "tmp", resume: bool = True, fn: Any = None) -> ImageData:
        """The same data; `targ_sz`, `new_path`, `resume` and `fn` say nothing."""
        return self

    def get_dl(self, ds: Any, shuffle: bool) -> DataLoader | None:
        """The data set `ds` in batches, with `shuffle` in another order each time; None for None."""
        return None if ds is None else DataLoader(ds, self.bs, shuffle=shuffle)

    @staticmethod
    def get_ds(fn: Callable[..., Any], trn: Any, val: Any, tfms: Any, test: Any = None, **more: Any) -> list[Any]:
        """Six data sets for `ImageData`.

        Args:
            fn: makes one of (names, targets, transforms), and the path if there is one.
            trn, val: (names, targets).
            tfms: (training, validation).
            test: names, or (names, targets); None for none.
            more: what else `fn` takes, such as path, which names are relative to.
        """
        made = partial(fn, **more)
        pairs = [(*trn[:2], tfms[0]), (*val[:2], tfms[1]), (*trn[:2], tfms[1]), (*val[:2], tfms[0])]
        if test is not None:
            known = test[:2] if isinstance(test, tuple) else (test, np.zeros((len(test), *np.shape(trn[1])[1:])))
            pairs += [(*known, tfms[1]), (*known, tfms[0])]
        return [*(made(*one) for one in pairs), *[None] * (6 - len(pairs))]
