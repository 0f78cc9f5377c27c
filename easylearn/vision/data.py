"""Pictures for a Learner: folders, csv files, tables, arrays and lists of names become `ImageData`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data._old_bunch import Data, PartedData, PartName, RuntimeInputs
from ..data.cache import ItemStore
from ..data.split import Split, split_indices
from ..errors import ArgumentError, DataError, WeightsError
from ..options import strict
from ..files import digest, file_identity
from ..nn.body_head import BodyHead
from ..task import Task
from ..analysis.plots import new_figure
from . import items
from .augment import IMAGENET_MEAN, IMAGENET_STD, Augment, BatchStage, Normalise, resolve
from .decode import ItemStage, Method, Source, as_uint8
from .items import Column, Kind, OnError, Rows
from .loader import ImageLoader, choose_workers, in_workers
from .store import image_keys, open_images, treatment

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = int | tuple[int, int]
RECIPE = "images"
LARGEST = 16_384  # pixels per side that a model file may ask for
CROP_PCT = 224 / 256  # what ImageNet's usual evaluation shows, and what torchvision's weights were trained for
_OLD_NAMES = {
    "bs": "batch_size",
    "sz": "size",
    "tfms": "augment",
    "aug_tfms": "augment",
    "crop_type": "method",
    "num_workers": "workers",
    "trn_name": "train",
    "val_name": "valid",
    "val_idxs": "valid",
    "valid_pct": "valid",
    "test_name": "test",
    "csv_fname": "csv",
    "suff": "suffix",
    "label_delim": "label_sep",
    "fn_col": "file_col",
    "continuous": "regression",
}


@dataclass(frozen=True)
class Part:
    """The pictures of train, valid or test.

    Args:
        sources: what `ItemStage.load` takes.
        targets: shape (n, ...); None where nobody knows them.
        ids: one name per picture, in order.
    """

    sources: Sequence[Source]
    targets: Tensor | None
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, positions: Sequence[int] | None) -> Part:
        """Some of them, in that order; all for None."""
        if positions is None:
            return self
        some = [int(p) for p in positions]
        targets = None if self.targets is None else self.targets[some]
        return Part([self.sources[p] for p in some], targets, tuple(self.ids[p] for p in some))


@dataclass(frozen=True)
class _Options:
    """What every way of making an `ImageData` takes."""

    size: Size
    batch_size: int
    augment: Augment
    method: Method
    crop_pct: float
    workers: int | None
    cache: bool | str | os.PathLike[str]
    channels: int


class ImageData(PartedData[Part]):
    """Pictures in train, valid and maybe test, at one size.

    Make one with `from_folder`, `from_csv`, `from_df`, `from_arrays` or `from_names`. All take:

    * `size`: of the model's input in pixels, one number or (height, width).
    * `batch_size`: pictures in a batch.
    * `augment`: "none", "basic", "side_on", "top_down" or a list of transforms; training pictures only.
    * `method`: "crop" cuts what is too long off, at a random place in training and on both sides otherwise;
      "squash" ignores proportions; "pad" adds reflected borders.
    * `crop_pct`: "crop" shows the model this share of the shorter side, the middle of it outside training. The
      published weights were trained to see objects a little larger than 1.0 would show them.
    * `workers`: processes that decode; None chooses. The batches are the same whatever the number.
    * `cache`: keep decoded pictures on disk (easylearn's cache folder, or the folder given), so that each
      file is decoded once; False decodes in every epoch.
    * `channels`: 3 for colour, 1 for grey.

    Args:
        parts: "train" and "valid", maybe "test".
        task: what is predicted.
        options: see above.
        path: what ids are relative to.
        skipped: files that could not be read and were left out, with the reason.
    """

    def __init__(
        self,
        parts: Mapping[PartName, Part],
        task: Task,
        options: _Options,
        path: Path | None = None,
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(task, options.batch_size)
        needed: tuple[PartName, ...] = ("train", "valid")
        for name in needed:
            if name not in parts or not len(parts[name]):
                raise DataError(f"no pictures are left in the {name} part")
        self._parts = dict(parts)
        self.path = path
        self.method = options.method
        self.workers = options.workers
        self.cache = options.cache
        self._skipped = dict(skipped or {})
        if options.workers is not None and options.workers < 0:
            raise ArgumentError(f"workers must be 0 or more, or None to choose, got {options.workers}")
        size = _pair(options.size)
        transforms = resolve(options.augment)
        grey = options.channels == 1
        mean, std = ((0.449,), (0.226,)) if grey else (IMAGENET_MEAN, IMAGENET_STD)
        self.batch_stage = BatchStage(size, transforms, mean, std)
        self.item_stage = ItemStage(size, options.method, options.channels, options.crop_pct)

    # -- ways to make one ----------------------------------------------------------------------------

    @classmethod
    @strict(_OLD_NAMES)
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        size: Size = 224,
        *,
        batch_size: int = 64,
        train: str = "train",
        valid: str | Split = "valid",
        test: str | None = None,
        augment: Augment = "none",
        method: Method = "crop",
        crop_pct: float = CROP_PCT,
        workers: int | None = None,
        seed: int = 0,
        stratify: bool = False,
        on_error: OnError = "raise",
        cache: bool | str | os.PathLike[str] = True,
        channels: int = 3,
    ) -> ImageData:
        """One class per sub-folder: `train/cats/1.jpg`, `valid/dogs/7.jpg`.

        Args:
            path: holds the `train` and `valid` folders; or class folders, if `valid` is no folder's name.
            size: see the class, as for all that is not explained here.
            batch_size: pictures in a batch.
            train: name of the training folder.
            valid: name of the validation folder; or a fraction, or positions in the sorted list of files.
            test: name of a folder to predict, with or without class folders; None takes `test` if it is there.
            augment: changes of training pictures.
            method: "crop", "squash" or "pad".
            crop_pct: share of the shorter side that "crop" keeps.
            workers: processes that decode.
            seed: of the split by fraction.
            stratify: give each class its share of the validation pictures.
            on_error: "raise" stops at a file that cannot be read; "skip" tries all files first and leaves those
                out; `report()` lists them.
            cache: keep decoded pictures.
            channels: 3 or 1.

        Raises:
            DataError: a folder is missing or empty, or a class is in `valid` only; the message says what was
                expected and what was found.
        """
        _check_on_error(on_error)
        root = items.existing_folder(path, f"{train}/ and {valid if isinstance(valid, str) else 'class folders'}/")
        options = _Options(size, batch_size, augment, method, crop_pct, workers, cache, channels)
        test_folder = root / test if test is not None else root / "test" if (root / "test").is_dir() else None
        if isinstance(valid, str):
            if stratify:
                raise ArgumentError("stratify goes with a fraction, such as valid=0.2; here the folders are the split")
            layout = f"{train}/<class>/*.jpg and {valid}/<class>/*.jpg"
            for name, argument in ((train, "train"), (valid, "valid")):
                if not (root / name).is_dir():
                    above = [p for p in root.resolve().parents[:2] if (p / train).is_dir() and (p / valid).is_dir()]
                    hint = f"Did you mean {above[0]}, which holds both? " if above else ""
                    raise DataError(
                        f"{root} has no folder {name!r}; it holds {items.listing(root)}. Expected {layout}. {hint}Pass "
                        f"{argument}=<name of the folder>, or valid=0.2 to split off a fifth of the pictures"
                    )
            train_rows = items.folder_rows(root, root / train)
            valid_rows = items.folder_rows(root, root / valid)
        else:
            base = root / train if (root / train).is_dir() else root
            special = [test_folder.name] if test_folder is not None and base == root else []
            rows = items.folder_rows(root, base, leave_out=special)
            _need_classes_to_stratify(stratify, "single_label")
            chosen = split_indices(len(rows), valid, seed=seed, stratify=rows.labels if stratify else None)
            train_rows, valid_rows = (rows.take(c) for c in chosen)
        parts = {"train": train_rows, "valid": valid_rows}
        if test_folder is not None:
            parts["test"] = items.rows_to_predict(root, test_folder, sorted(set(train_rows.labels)))
        return cls._from_rows(
            parts, "single_label", options, root, on_error, split=not isinstance(valid, str),
            classes=sorted(set(train_rows.labels)) if on_error == "raise" else None,
        )  # fmt: skip

    @classmethod
    @strict(_OLD_NAMES)
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        csv: str | os.PathLike[str] = "labels.csv",
        folder: str = "",
        size: Size = 224,
        *,
        suffix: str = "",
        file_col: Column = 0,
        label_col: Column | Sequence[Column] = 1,
        label_sep: str | None = None,
        regression: bool = False,
        valid: Split = 0.2,
        test: str | None = None,
        batch_size: int = 64,
        augment: Augment = "none",
        method: Method = "crop",
        crop_pct: float = CROP_PCT,
        workers: int | None = None,
        seed: int = 0,
        stratify: bool = False,
        on_error: OnError = "raise",
        cache: bool | str | os.PathLike[str] = True,
        channels: int = 3,
    ) -> ImageData:
        """A csv with a header and one line per picture: its file name and its label.

        Args:
            path: holds the csv and the folder.
            csv: the file, relative to `path`.
            folder: holds the pictures, relative to `path`.
            size: see the class, as for all that is not explained here.
            suffix: appended to each file name, such as ".jpg".
            file_col: column of file names, by name or position.
            label_col: column of labels; for regression also several.
            label_sep: what stands between the labels of one picture, often " ": makes it multi-label.
            regression: the labels are numbers to be predicted.
            valid: a fraction, or positions of lines, the first after the header being 0.
            test: a folder of pictures to predict, relative to `path`.
            batch_size: pictures in a batch.
            augment: changes of training pictures.
            method: "crop", "squash" or "pad".
            crop_pct: share of the shorter side that "crop" keeps.
            workers: processes that decode.
            seed: of the split by fraction.
            stratify: give each class its share of the validation pictures.
            on_error: "raise" stops at a file that is missing or cannot be read; "skip" leaves it out.
            cache: keep decoded pictures.
            channels: 3 or 1.

        Raises:
            DataError: a missing file, a missing label, two labels for one file; the message names the line.
        """
        root = items.existing_folder(path, f"the csv file {csv} and the pictures")
        file = root / csv
        table = items.read_csv(file)
        lines = table.index.tolist()
        options = _Options(size, batch_size, augment, method, crop_pct, workers, cache, channels)
        return cls._from_table(
            table, lambda p: f"{file.name} line {lines[p]}", root, folder, suffix, file_col, label_col, label_sep,
            regression, valid, test, seed, stratify, on_error, options,
        )  # fmt: skip

    @classmethod
    @strict(_OLD_NAMES)
    def from_df(
        cls,
        df: pd.DataFrame,
        path: str | os.PathLike[str] = ".",
        folder: str = "",
        size: Size = 224,
        *,
        suffix: str = "",
        file_col: Column = 0,
        label_col: Column | Sequence[Column] = 1,
        label_sep: str | None = None,
        regression: bool = False,
        valid: Split = 0.2,
        test: str | None = None,
        batch_size: int = 64,
        augment: Augment = "none",
        method: Method = "crop",
        crop_pct: float = CROP_PCT,
        workers: int | None = None,
        seed: int = 0,
        stratify: bool = False,
        on_error: OnError = "raise",
        cache: bool | str | os.PathLike[str] = True,
        channels: int = 3,
    ) -> ImageData:
        """A DataFrame with one row per picture; see `from_csv`. Messages count rows from 0, as `iloc` does."""
        root = items.existing_folder(path, "the pictures that the DataFrame names")
        options = _Options(size, batch_size, augment, method, crop_pct, workers, cache, channels)
        return cls._from_table(
            df, lambda p: f"row {p} of the DataFrame", root, folder, suffix, file_col, label_col, label_sep,
            regression, valid, test, seed, stratify, on_error, options,
        )  # fmt: skip

    @classmethod
    @strict(_OLD_NAMES)
    def from_names(
        cls,
        path: str | os.PathLike[str],
        names: Sequence[str],
        labels: Sequence[Any] | None = None,
        size: Size = 224,
        *,
        label_fn: Callable[[str], Any] | None = None,
        classes: Sequence[str] | None = None,
        regression: bool = False,
        valid: Split = 0.2,
        test: str | None = None,
        batch_size: int = 64,
        augment: Augment = "none",
        method: Method = "crop",
        crop_pct: float = CROP_PCT,
        workers: int | None = None,
        seed: int = 0,
        stratify: bool = False,
        on_error: OnError = "raise",
        cache: bool | str | os.PathLike[str] = True,
        channels: int = 3,
    ) -> ImageData:
        """File names with a label each, or with a function that reads the label out of the name.

        Args:
            path: what the names are relative to.
            names: of the files.
            labels: one per name: a word or number; a list of words for multi-label; numbers for regression.
            size: see the class, as for all that is not explained here.
            label_fn: gives the label of a name, instead of `labels`.
            classes: fixes the list of classes; whole numbers as labels are positions in it.
            regression: the labels are numbers to be predicted.
            valid: a fraction, or positions in `names`.
            test: a folder of pictures to predict, relative to `path`.
            batch_size: pictures in a batch.
            augment: changes of training pictures.
            method: "crop", "squash" or "pad".
            crop_pct: share of the shorter side that "crop" keeps.
            workers: processes that decode.
            seed: of the split by fraction.
            stratify: give each class its share of the validation pictures.
            on_error: "raise" or "skip".
            cache: keep decoded pictures.
            channels: 3 or 1.
        """
        root = items.existing_folder(path, "the pictures named")
        if (labels is None) == (label_fn is None):
            raise ArgumentError("from_names needs either labels or label_fn")
        if label_fn is not None:
            labels = [label_fn(str(n)) for n in names]
        assert labels is not None
        if len(labels) != len(names):
            raise DataError(f"there are {len(names)} names but {len(labels)} labels")
        kind, words = items.plain_labels(labels, regression, classes, lambda p: f"names[{p}] ({names[p]})")
        rows = Rows(
            [str(root / n) for n in names],
            [items.relative(root / n, root) for n in names],
            words,
            [f"names[{p}]" for p in range(len(names))],
        )
        options = _Options(size, batch_size, augment, method, crop_pct, workers, cache, channels)
        columns = _target_names(words) if kind == "regression" else None
        return cls._from_list(rows, kind, columns or classes, root, valid, test, seed, stratify, on_error, options)

    @classmethod
    @strict(_OLD_NAMES)
    def from_arrays(
        cls,
        train: tuple[Any, Any],
        valid: tuple[Any, Any] | Split = 0.2,
        test: Any = None,
        size: Size | None = None,
        *,
        classes: Sequence[str] | None = None,
        regression: bool = False,
        batch_size: int = 64,
        augment: Augment = "none",
        method: Method = "crop",
        crop_pct: float = 1.0,
        workers: int | None = None,
        seed: int = 0,
        stratify: bool = False,
        cache: bool | str | os.PathLike[str] = True,
        channels: int = 3,
    ) -> ImageData:
        """Pictures in memory.

        Args:
            train: (x, y). x has shape (n, h, w), (n, h, w, c) or (n, c, h, w), as uint8 or floats in [0, 1]; where
                both could be meant, arrays are read as (n, h, w, c) and tensors as (n, c, h, w). y has shape (n,)
                of class numbers or names, (n, k) of 0 and 1 for multi-label, or numbers for regression.
            valid: (x, y); or a fraction, or positions in train.
            test: x, or (x, y).
            size: of the model's input; None takes the pictures' own.
            classes: names of the classes 0, 1, ...
            regression: y are numbers to be predicted.
            batch_size: pictures in a batch.
            augment: changes of training pictures.
            method: "crop", "squash" or "pad".
            crop_pct: share of the shorter side that "crop" keeps.
            workers: processes that resize; None chooses.
            seed: of the split by fraction.
            stratify: give each class its share of the validation pictures.
            cache: keep resized pictures.
            channels: 3 or 1; grey pictures are repeated for 3.

        >>> x, y = np.zeros((10, 8, 8), np.uint8), [0, 1] * 5
        >>> data = ImageData.from_arrays((x[:8], y[:8]), (x[8:], y[8:]), batch_size=4)
        >>> data.classes, len(data.train_loader()), data.size
        (('0', '1'), 2, (8, 8))
        """
        rows, kind = _array_rows(train, "train", regression, classes)
        if isinstance(valid, tuple) and len(valid) == 2 and not isinstance(valid[0], int):
            train_rows = rows
            valid_rows, valid_kind = _array_rows(valid, "valid", regression, classes)
            if valid_kind != kind:
                raise DataError(f"train has {kind} labels, valid has {valid_kind} labels")
        else:
            chosen = split_indices(len(rows), valid, seed=seed, stratify=rows.labels if stratify else None)
            train_rows, valid_rows = (rows.take(c) for c in chosen)
        parts = {"train": train_rows, "valid": valid_rows}
        if test is not None:
            pair = test if isinstance(test, tuple) and len(test) == 2 else (test, None)
            parts["test"] = _array_rows(pair, "test", regression, classes)[0]
        first = train_rows.sources[0]
        own = tuple(first.shape[:2]) if isinstance(first, np.ndarray) else None
        if size is None and own is None:
            raise ArgumentError("pass size=, since the pictures are not arrays of one size")
        options = _Options(size or own or 0, batch_size, augment, method, crop_pct, workers, cache, channels)
        names = _target_names(rows.labels) if kind == "regression" else classes
        return cls._from_rows(parts, kind, options, None, "raise", split=True, classes=names)

    # -- what they share -----------------------------------------------------------------------------

    @classmethod
    def _from_table(
        cls,
        table: pd.DataFrame,
        where: Callable[[int], str],
        root: Path,
        folder: str,
        suffix: str,
        file_col: Column,
        label_col: Column | Sequence[Column],
        label_sep: str | None,
        regression: bool,
        valid: Split,
        test: str | None,
        seed: int,
        stratify: bool,
        on_error: OnError,
        options: _Options,
    ) -> ImageData:
        columns = [label_col] if isinstance(label_col, int | str) else list(label_col)
        if regression and label_sep is not None:
            raise ArgumentError("label_sep is for several labels, regression for numbers; pass only one of them")
        if len(columns) != 1 and not regression:
            raise ArgumentError(
                f"label_col names {len(columns)} columns: that is for regression=True. For several labels in one "
                'column pass label_sep, such as " "'
            )
        kind: Kind = "regression" if regression else "multi_label" if label_sep is not None else "single_label"
        pictures = items.existing_folder(root / folder, "the pictures that the table names")
        rows = items.table_rows(
            table, pictures, root=root, suffix=suffix, file_col=file_col, label_cols=columns, label_sep=label_sep,
            kind=kind, where=where,
        )  # fmt: skip
        names = [str(items.column_name(table, c, "label_col")) for c in columns] if regression else None
        return cls._from_list(rows, kind, names, root, valid, test, seed, stratify, on_error, options)

    @classmethod
    def _from_list(
        cls,
        rows: Rows,
        kind: Kind,
        classes: Sequence[str] | None,
        root: Path,
        valid: Split,
        test: str | None,
        seed: int,
        stratify: bool,
        on_error: OnError,
        options: _Options,
    ) -> ImageData:
        _check_on_error(on_error)
        if not len(rows):
            raise DataError(f"no pictures are listed for {root}")
        _need_classes_to_stratify(stratify, kind)
        skipped: dict[str, str] = {}
        stay = items.drop_duplicates(rows)
        missing = set(items.missing_files(rows))
        if missing:
            if on_error == "raise":
                raise DataError(items.missing_file_message(rows, sorted(missing)))
            skipped = {rows.ids[p]: f"{rows.where[p]}: the file does not exist" for p in sorted(missing)}
            stay = [p for p in stay if p not in missing]
        if not stay:
            message = items.missing_file_message(rows, sorted(missing))
            raise DataError(f"none of the {len(rows)} files exists. {message}")
        if isinstance(valid, float):
            kept = rows.take(stay)
            chosen = split_indices(len(kept), valid, seed=seed, stratify=kept.labels if stratify else None)
            train_rows, valid_rows = (kept.take(c) for c in chosen)
        else:  # positions count the rows as given, with those that were left out
            staying = set(stay)
            chosen = split_indices(len(rows), valid)
            train_rows, valid_rows = (rows.take(p for p in c.tolist() if p in staying) for c in chosen)
        parts = {"train": train_rows, "valid": valid_rows}
        if test is not None:
            known = items.vocabulary(train_rows, kind, classes) if kind == "single_label" else ()
            parts["test"] = items.rows_to_predict(root, root / test, known)
        return cls._from_rows(parts, kind, options, root, on_error, split=True, classes=classes, skipped=skipped)

    @classmethod
    def _from_rows(
        cls,
        rows: Mapping[str, Rows],
        kind: Kind,
        options: _Options,
        root: Path | None,
        on_error: OnError,
        *,
        split: bool,
        classes: Sequence[str] | None,
        skipped: Mapping[str, str] | None = None,
    ) -> ImageData:
        left_out = dict(skipped or {})
        if on_error == "skip":
            readable = {}
            for name, some in rows.items():
                bad = _unreadable(some, options)
                left_out |= {some.ids[p]: reason for p, reason in bad.items()}
                readable[name] = some.take(p for p in range(len(some)) if p not in bad)
            rows = readable
        for name in ("train", "valid"):
            if not len(rows[name]):
                why = (
                    f"; {len(left_out)} cannot be read, the first: {next(iter(left_out.values()))}" if left_out else ""
                )
                raise DataError(f"no pictures are left in the {name} part{why}")
        task = items.make_task(kind, items.vocabulary(rows["train"], kind, classes))
        parts: dict[PartName, Part] = {}
        for part in ("train", "valid", "test"):
            if part in rows:
                some = rows[part]
                known = items.targets(some, task, part, split) if some.labels else None
                parts[part] = Part(some.sources, known, tuple(some.ids))
        return cls(parts, task, options, root, left_out)

    # -- what a Learner asks for ---------------------------------------------------------------------

    @property
    def train(self) -> Part:
        """The training pictures."""
        return self._parts["train"]

    @property
    def valid(self) -> Part:
        """The validation pictures."""
        return self._parts["valid"]

    @property
    def test(self) -> Part | None:
        """The pictures to predict, if there are any."""
        return self._parts.get("test")

    @property
    def c(self) -> int:
        """How many numbers a model gives for one picture."""
        return self.task.n_out

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the model's input."""
        return self.batch_stage.size

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel, what is subtracted from pixels in [0, 1]; ImageNet's until `with_stats`."""
        return self.batch_stage.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel, what they are divided by."""
        return self.batch_stage.std

    @property
    def has_views(self) -> bool:
        """Whether augmented views can differ: there are transforms, or windows that move."""
        return bool(self.batch_stage.transforms) or self.method == "crop"

    def train_loader(self) -> ImageLoader:
        """See `Data.train_loader`."""
        return self._make_loader(self._part("train"), shuffle=True, view=0)

    def loader(self, part: PartName, view: int = 0) -> ImageLoader:
        """See `Data.loader`."""
        return self._make_loader(self._part(part), shuffle=False, view=view or None)

    def _make_loader(self, one: Part, *, shuffle: bool, view: int | None) -> ImageLoader:
        return ImageLoader(
            one.sources,
            one.ids,
            one.targets,
            self.item_stage,
            self.batch_stage,
            batch_size=self.batch_size,
            shuffle=shuffle,
            view=view,
            workers=self.workers,
            store=lambda: self._store(one),
        )

    def new_loader(self, items: Any) -> ImageLoader:
        """Pictures from elsewhere: a path, PIL image, array or tensor, or a list of those (also one 4-d array)."""
        if isinstance(items, np.ndarray | Tensor) and items.ndim == 4:
            sources: list[Source] = list(_images(items, "items"))
        else:
            sources = list(items) if isinstance(items, Sequence) and not isinstance(items, str) else [items]
        if not sources:
            raise DataError("there are no pictures to predict")
        ids = [str(s) if isinstance(s, str | os.PathLike) else f"item {k}" for k, s in enumerate(sources)]
        workers = 0 if self.workers == 0 else None
        return ImageLoader(
            sources, ids, None, self.item_stage, self.batch_stage, batch_size=self.batch_size, workers=workers
        )

    def holds_items(self, source: Any) -> bool:
        """See `Data.holds_items`: a folder or a csv; any other file is one picture."""
        path = Path(source)
        return path.is_dir() or path.suffix.lower() == ".csv"

    def read_items(self, source: Path, n: int) -> Iterator[tuple[list[str], Any]]:
        """See `Data.read_items`: the pictures below a folder, sorted, or those that a csv names in its first column."""
        if source.is_dir():
            names = items.list_images(source)
            if not names:
                raise DataError(f"no image files below {source}; it holds {items.listing(source)}")
            folder = source
        else:
            table = items.read_csv(source)
            names, folder = [str(v) for v in table[table.columns[0]]], source.parent
        for a in range(0, len(names), n):
            some = names[a : a + n]
            yield some, [str(folder / name) for name in some]

    def item_ids(self, items: Any, n: int, first: int = 0) -> list[str]:
        """See `Data.item_ids`: a picture in a file is called by its path."""
        listed = items if isinstance(items, list | tuple) else [None] * n
        return [str(s) if isinstance(s, str | os.PathLike) else str(first + i) for i, s in enumerate(listed)]

    def ids(self, part: PartName) -> tuple[str, ...]:
        """See `Data.ids`: posix paths relative to `path`."""
        return self._part(part).ids

    def fingerprint(self, part: PartName) -> str:
        """See `Data.fingerprint`: of file identities (or contents), both stages and the decoders' versions."""
        one = self._part(part)
        contents = image_keys(one.sources, one.ids, lambda files: [file_identity(file) for file in files])
        known = "" if one.targets is None else str(one.targets.tolist())
        return digest([treatment(self.item_stage), repr(self.batch_stage), known, *contents, *one.ids])

    def item_keys(self, part: PartName, positions: Sequence[int] | None = None) -> list[str]:
        """See `Data.item_keys`: of file identities (or contents), both stages but for the transforms, and versions."""
        one = self._part(part).take(positions)
        how = [treatment(self.item_stage), repr(replace(self.batch_stage, transforms=()))]
        return [digest([*how, key]) for key in image_keys(one.sources, one.ids)]

    def _store(self, one: Part) -> ItemStore | None:
        return open_images(one.sources, one.ids, self.item_stage, self.cache)

    def recipe(self) -> dict[str, Any]:
        """See `Data.recipe`: size, how pictures are fitted into it, and what they are normalised with."""
        stage = self.item_stage
        return {
            "kind": RECIPE,
            "size": list(stage.size),
            "method": stage.method,
            "channels": stage.channels,
            "crop_pct": stage.crop_pct,
            "mean": list(self.batch_stage.mean),
            "std": list(self.batch_stage.std),
            "batch_size": self.batch_size,
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> ImageData:
        """See `Data.from_recipe`."""
        data = cls.__new__(cls)
        try:
            Data.__init__(data, task, _whole(recipe["batch_size"]))
            size = (_whole(recipe["size"][0]), _whole(recipe["size"][1]))
            mean, std = (tuple(float(v) for v in recipe[name]) for name in ("mean", "std"))
            data.item_stage = ItemStage(size, recipe["method"], _whole(recipe["channels"]), float(recipe["crop_pct"]))
            data.batch_stage = BatchStage(size, (), mean, std)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WeightsError(f"the recipe of the pictures is damaged: {error!r}") from error
        if max(size) > LARGEST or len(mean) != data.item_stage.channels:
            raise WeightsError(f"the recipe of the pictures is damaged: size {size}, mean {mean}")
        data._parts, data._skipped = {}, {}
        data.path, data.workers, data.cache, data.method = None, None, False, data.item_stage.method
        return data

    def runtime_inputs(self, inputs: tuple[Tensor, ...]) -> RuntimeInputs:
        """See `Data.runtime_inputs`: pixels from 0 to 255 at the model's size; the file normalises them."""
        normalise = Normalise(self.mean, self.std)
        about = {"size": list(self.size), "channels": self.item_stage.channels, "method": self.method}
        return RuntimeInputs(("pixels",), ({0: "batch"},), normalise, lambda given: (normalise.undo(given[0]),), about)

    # -- the same data, otherwise prepared -----------------------------------------------------------

    def resized(self, size: Size) -> ImageData:
        """The same pictures and the same split at another size."""
        pair = _pair(size)
        other = copy.copy(self)
        other.batch_stage = replace(self.batch_stage, size=pair)
        other.item_stage = replace(self.item_stage, size=pair)
        return other

    def with_stats(self, mean: Sequence[float], std: Sequence[float]) -> ImageData:
        """The same pictures normalised with other statistics, one number per channel each."""
        if len(mean) != self.item_stage.channels:
            raise ArgumentError(f"mean and std need {self.item_stage.channels} numbers each, got {mean} and {std}")
        other = copy.copy(self)
        other.batch_stage = replace(
            self.batch_stage, mean=tuple(float(m) for m in mean), std=tuple(float(s) for s in std)
        )
        return other

    def for_model(self, model: nn.Module) -> ImageData:
        """See `Data.for_model`: normalised with the statistics that the model's body was trained with."""
        if not isinstance(model, BodyHead) or len(model.mean) != self.item_stage.channels:
            return self
        return self.with_stats(model.mean.tolist(), model.std.tolist())

    def adopt(self, old: Data) -> ImageData:
        """See `Data.adopt`: the statistics belong to the model, so this data takes over those of `old`."""
        super().adopt(old)
        assert isinstance(old, ImageData)
        if old.item_stage.channels != self.item_stage.channels:
            raise DataError(
                f"this data has {self.item_stage.channels} channels, the model was built for "
                f"{old.item_stage.channels}. Make it with channels={old.item_stage.channels}"
            )
        return self.with_stats(old.mean, old.std)

    # -- for people ----------------------------------------------------------------------------------

    def report(self) -> dict[str, str]:
        """The files that `on_error="skip"` left out, each with the reason."""
        return dict(self._skipped)

    def notes(self) -> list[str]:
        """See `Data.notes`: what `on_error="skip"` left out."""
        if not self._skipped:
            return []
        name, reason = next(iter(self._skipped.items()))
        return [f"{len(self._skipped)} pictures could not be read and were left out, the first: {name} ({reason})"]

    @property
    def has_pictures(self) -> bool:
        """Always."""
        return True

    def picture(self, part: PartName, i: int) -> Tensor:
        """Picture `i` of a part as the model sees it in validation, pixels in [0, 1], shape (c, h, w)."""
        one = self._part(part)
        return self.shown([one.sources[i]], [one.ids[i]])[0]

    def shown(self, sources: Sequence[Source], ids: Sequence[str]) -> Tensor:
        """Any pictures as the model sees them in validation, pixels in [0, 1], shape (n, c, h, w)."""
        loader = ImageLoader(sources, ids, None, self.item_stage, self.batch_stage, batch_size=len(sources), workers=0)
        return torch.cat([self.batch_stage.denormalise(b.inputs[0]) for b in loader.batches(torch.device("cpu"))])

    def draw_item(self, part: PartName, i: int, axes: Axes) -> None:
        """See `Data.draw_item`: the picture, and below it its id."""
        draw_picture(axes, self.picture(part, i))
        axes.set_xlabel(self.ids(part)[i][-34:], fontsize=7, color="0.4", parse_math=False)

    def show_batch(self, n: int = 9, part: PartName = "train") -> Figure:
        """The first pictures of a part as the model sees them: of train the first batch, augmented.

        Args:
            n: how many pictures.
            part: "train", "valid" or "test".

        Returns:
            A matplotlib figure that shows itself in a notebook and saves itself with `savefig`.
        """
        one, training = self._part(part), part == "train"
        loader = ImageLoader(
            one.sources, one.ids, one.targets, self.item_stage, self.batch_stage, batch_size=min(n, len(one)),
            shuffle=training, view=0 if training else None, workers=0, store=lambda: self._store(one),
        )  # fmt: skip
        batch = next(loader.batches(torch.device("cpu")))
        pictures = self.batch_stage.denormalise(batch.inputs[0])[:n].permute(0, 2, 3, 1).numpy()
        columns = min(len(pictures), max(1, round(len(pictures) ** 0.5)))
        rows = -(-len(pictures) // columns)
        figure = new_figure(2.4 * columns, 2.6 * rows)
        titles = self._titles(batch.target, batch.index)
        for k, (picture, title) in enumerate(zip(pictures, titles, strict=False)):
            axes = figure.add_subplot(rows, columns, k + 1)
            axes.imshow(picture.squeeze(), cmap="gray" if self.item_stage.channels == 1 else None, vmin=0, vmax=1)
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
        return figure

    def _titles(self, target: Tensor | None, index: Tensor) -> list[str]:
        if target is None:
            return [str(i) for i in index.tolist()]
        if self.task.kind == "single_label":
            return [self.task.names[t] for t in target.tolist()]
        if self.task.kind == "multi_label":
            return [" ".join(labels) or "-" for labels in self.task.decode(target)]
        return [", ".join(f"{v:g}" for v in row) for row in target.reshape(len(target), -1).tolist()]

    def __repr__(self) -> str:
        h, w = self.size
        lines = [f"ImageData: {self.task.kind}, {self.task.n_out} {'targets' if not self.classes else 'classes'}, "
                 f"{h}x{w}, {self.method}, batches of {self.batch_size}"]  # fmt: skip
        lines += [f"  {name}: {len(part)}{self._counts(part)}" for name, part in self._parts.items()]
        if self._skipped:
            lines.append(f"  left out: {len(self._skipped)} unreadable, see report()")
        return "\n".join(lines)

    def _counts(self, part: Part) -> str:
        if part.targets is None or not self.classes:
            return ""
        if self.task.kind == "single_label":
            counts = torch.bincount(part.targets, minlength=self.c).tolist()
        else:
            counts = part.targets.sum(0).int().tolist()
        named = [f"{name} {n}" for name, n in zip(self.classes, counts, strict=True)]
        return " (" + ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "") + ")"


def draw_picture(axes: Axes, pixels: Tensor) -> None:
    """Draw a picture without ticks.

    Args:
        axes: matplotlib's, empty.
        pixels: in [0, 1], shape (c, h, w) with 1 or 3 channels.
    """
    axes.imshow(pixels.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])


def _whole(value: Any) -> int:
    """A whole number out of a file."""
    if type(value) is not int:
        raise TypeError(f"expected a whole number, got {str(value)[:50]!r}")
    return value


def _pair(size: Size) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(isinstance(s, int | np.integer) and s > 0 for s in pair):
        raise ArgumentError(f"size must be a positive whole number of pixels or (height, width), got {size!r}")
    return int(pair[0]), int(pair[1])


def _check_on_error(on_error: str) -> None:
    if on_error not in ("raise", "skip"):
        raise ArgumentError(f'on_error must be "raise" or "skip", got {on_error!r}')


def _need_classes_to_stratify(stratify: bool, kind: Kind) -> None:
    if stratify and kind != "single_label":
        raise ArgumentError(f"stratify needs one class per picture; these labels are {kind}")


def _unreadable(rows: Rows, options: _Options) -> dict[int, str]:
    """Positions of the pictures that cannot be read, with the reason: each file is tried."""
    chunks = [list(range(a, min(a + 64, len(rows)))) for a in range(0, len(rows), 64)]
    workers = choose_workers(len(rows)) if options.workers is None else options.workers
    found = in_workers(items.Probe(rows, options.channels), chunks, workers)
    return {position: reason for some in found for position, reason in some}


def _target_names(labels: Sequence[tuple[float, ...]]) -> list[str]:
    width = len(labels[0]) if labels else 1
    return ["target"] if width == 1 else [f"target {k}" for k in range(width)]


def _images(x: Any, name: str) -> Sequence[Source]:
    """The single pictures of an array or tensor of them, as uint8 arrays (h, w) or (h, w, c)."""
    if not isinstance(x, np.ndarray | Tensor):
        if isinstance(x, Sequence) and not isinstance(x, str):
            return [s.numpy().transpose(1, 2, 0) if isinstance(s, Tensor) and s.ndim == 3 else s for s in x]
        raise DataError(f"{name}: pictures must come as an array, a tensor or a list, got {type(x).__name__}")
    channels_first = isinstance(x, Tensor)
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
    if array.ndim == 4:
        first, last = array.shape[1] in (1, 3, 4), array.shape[3] in (1, 3, 4)
        if not first and not last:
            raise DataError(f"{name}: pictures must have 1, 3 or 4 channels, first or last, got shape {array.shape}")
        if first and (channels_first or not last):
            array = array.transpose(0, 2, 3, 1)
    elif array.ndim != 3:
        raise DataError(f"{name}: pictures must have shape (n, h, w), (n, h, w, c) or (n, c, h, w), got {array.shape}")
    if not array.size:
        raise DataError(f"{name} is empty, its shape is {array.shape}")
    return list(as_uint8(array, name))


def _array_rows(
    given: Any, name: str, regression: bool = False, classes: Sequence[str] | None = None
) -> tuple[Rows, Kind]:
    """(x, y) as rows."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ArgumentError(f"{name} must be a pair (pictures, labels), got {type(given).__name__}")
    x, y = given
    sources = list(_images(x, name))
    ids = [f"{name}[{k}]" for k in range(len(sources))]
    if y is None:
        return Rows(sources, ids, [], ids), "single_label"
    labels = y.tolist() if isinstance(y, Tensor | np.ndarray) else list(y)
    if len(labels) != len(sources):
        raise DataError(f"{name} has {len(sources)} pictures but {len(labels)} labels")
    kind, words = items.array_labels(labels, regression, classes, lambda p: ids[p])
    return Rows(sources, ids, words, ids), kind
