"""What making data of several inputs takes, written once, and the options of each modality out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Union

from ..data.bunch import Data
from ..data.targets import TaskName
from ..data.weights import ItemWeights
from ..errors import ArgumentError, check_whole
from ..files import StrPath
from ..options import check_split
from ..tabular.fitted import Fill, Scale
from ..tabular.options import TableOptions
from ..texts.options import LabelOptions
from ..texts.preprocess import TextPreprocessor
from ..texts.tokenize import Tokenizing
from ..vision.augment import Augment
from ..vision.decode import Method
from ..vision.options import ImageOptions, OnError
from .preprocess import MultiPreprocessor

if TYPE_CHECKING:
    import pandas as pd

Names = Union[Sequence[str], "pd.Index[str]"]

OLD_NAMES = {
    "target": "targets", "label": "targets", "y": "targets", "images": "image", "texts": "text", "sz": "size",
    "bs": "batch_size", "tfms": "augment", "num_workers": "workers", "valid_pct": "valid", "val_idxs": "valid",
    "label_delim": "label_sep", "cat_vars": "cat_names", "contin_vars": "cont_names", "folder": "path",
    "table": "Name the columns of the table: cat_names=[...], cont_names=[...].",
}  # fmt: skip


@dataclass(frozen=True)
class MultiOptions:
    """How items with several inputs are split, and how each kind of input is prepared.

    Args:
        task: "single_label", "multi_label", "regression", or "auto" to look at the targets.
        label_sep: parts a text into several labels, such as " ".
        log_target: learn the logarithm of numbers.
        stratify: give each class its share of the validation items; None does so where classes are split by a fraction.
        groups: a column; all items of one of its values stay on one side.
        time: a column; the last items by it validate.
        weights: how often a training item comes: a column of numbers, one number per item, a number for each class, or
            "balanced".
        batch_size: items in a training batch.
        seed: of the split by fraction.
        augment: changes of training images: "none", "basic", "side_on", "top_down" or a list of transforms.
        method: "crop", "squash" or "pad" for images of another shape; see `ImageData`.
        channels: 3 for colour, 1 for grey.
        workers: processes that decode images; None chooses. The batches are the same whatever the number.
        cache: keep decoded images on disk; False decodes in every epoch.
        on_error: of images that cannot be read: "raise" stops, "skip" takes the items as ones without that image.
        vocab, tokenizer: of texts, as in `TextData`; a pretrained encoder brings its own.
        max_tokens: cut longer texts, keeping beginning and end; None keeps all.
        scale: of numbers: "standard", "quantile" or "none".
        fill: what missing numbers become: "median", "mean" or "constant" (0).
        min_count: categories with fewer training rows count as *unknown*.
        like: take classes, vocabularies, codes and scales of this data (`learn.data`), for a model that was trained
            with it.
    """

    task: TaskName = "auto"
    label_sep: str | None = None
    log_target: bool = False
    stratify: bool | None = None
    groups: str | None = None
    time: str | None = None
    weights: ItemWeights = None
    batch_size: int = 64
    seed: int = 0
    augment: Augment = "none"
    method: Method = "crop"
    channels: int = 3
    workers: int | None = None
    cache: bool | StrPath = True
    on_error: OnError = "raise"
    vocab: Any = None
    tokenizer: Tokenizing = None
    max_tokens: int | None = None
    scale: Scale = "standard"
    fill: Fill = "median"
    min_count: int = 1
    like: Data[Any] | None = None

    def __post_init__(self) -> None:
        check_split(self.seed, self.stratify)
        check_whole("batch_size", self.batch_size)
        for name in ("groups", "time"):
            if not isinstance(getattr(self, name), str | None):
                raise ArgumentError(f"{name} must name a column, got {getattr(self, name)!r:.60}")

    @property
    def of_images(self) -> ImageOptions:
        """The options of images."""
        return ImageOptions(
            self.batch_size, self.augment, self.method, None, self.channels, self.workers, self.cache,
            on_error=self.on_error,
        )  # fmt: skip

    def of_texts(self, name: str) -> LabelOptions:
        """The options of a branch of texts."""
        like = self.learnt
        own = None if like is None else like.branches[name]
        if not isinstance(own, TextPreprocessor):
            return LabelOptions(
                self.vocab, self.tokenizer, missing="empty", batch_size=self.batch_size, max_tokens=self.max_tokens,
                progress=False,
            )  # fmt: skip
        return LabelOptions(
            own, missing="empty", batch_size=self.batch_size, max_tokens=own.max_tokens, progress=False
        )  # fmt: skip

    @property
    def learnt(self) -> MultiPreprocessor | None:
        """What was learnt by the data that new data shall be like."""
        if self.like is None:
            return None
        if not isinstance(self.like, Data) or not isinstance(self.like.preprocessor, MultiPreprocessor):
            raise ArgumentError(
                f"like= takes data of several inputs, such as learn.data, got {type(self.like).__name__}"
            )
        return self.like.preprocessor

    def of_table(self, cats: Names | None, conts: Names | None) -> TableOptions:
        """The options of a table with these columns, and how items are split and drawn."""
        return TableOptions(
            cats or (), conts or (), self.stratify, self.groups, self.time, self.weights, batch_size=self.batch_size,
            scale=self.scale, fill=self.fill, min_count=self.min_count, seed=self.seed,
        )  # fmt: skip


class MultiKeywords(TypedDict, total=False):
    """The fields of `MultiOptions` as keywords, for type checkers."""

    task: TaskName
    label_sep: str | None
    log_target: bool
    stratify: bool | None
    groups: str | None
    time: str | None
    weights: ItemWeights
    batch_size: int
    seed: int
    augment: Augment
    method: Method
    channels: int
    workers: int | None
    cache: bool | StrPath
    on_error: OnError
    vocab: Any
    tokenizer: Tokenizing
    max_tokens: int | None
    scale: Scale
    fill: Fill
    min_count: int
    like: Data[Any] | None
