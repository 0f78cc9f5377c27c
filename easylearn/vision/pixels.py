"""What data of images have in common, whatever is predicted of them: labels, masks, boxes or other images."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..analysis.plots import grid
from ..data.bunch import Data, SplitName
from ..data.order import ItemLoader, Order
from ..errors import DataError, short
from ..files import digest, file_identity
from .augment import BatchStage
from .decode import ItemStage
from .options import ImageOptions
from .preprocess import ImagePreprocessor, Size
from .source import ImageSource
from .splits import Assembled, ImageSplit
from .store import image_keys, open_images, treatment
from .warp import Moving

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from typing_extensions import Self

CPU = torch.device("cpu")


class PixelData(Data[ImageSplit]):
    """Images in train and maybe valid and test, at one size. What is predicted of them is said by whoever extends it.

    Args:
        given: the splits, their task and what came to light on the way.
        preprocessor: makes a model's inputs.
        how: the options that all such data take.

    Attributes:
        path: what ids are relative to; None for images in memory.
        weights: how often each training image is drawn; None for once an epoch.
        moving: how targets move with their images in augmented views; None where they do not.
    """

    moving: Moving | None = None

    def __init__(self, given: Assembled, preprocessor: ImagePreprocessor, how: ImageOptions) -> None:
        super().__init__(given.task, how.batch_size, preprocessor, given.splits)
        self.preprocessor: ImagePreprocessor = preprocessor
        self.path = given.path
        self.weights = given.weights
        self._how = how
        self._given = given

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
        source = ImageSource(one.images, stage, self._stage_for(view), view, workers, store)
        source.moving = self.moving
        return ItemLoader(order, source, self.target(split))

    def _stage_for(self, view: int | None) -> BatchStage:
        """What makes the batches of a view."""
        return self.preprocessor.stage_for(view)

    def target(self, split: SplitName) -> Tensor | None:
        """What is true of each image of a `split`, as the model's input shows it, (n, ...); None if nobody knows."""
        return self._split(split).targets

    def ids(self, split: SplitName) -> tuple[str, ...]:
        return self._split(split).ids

    def fingerprint(self, split: SplitName) -> str:
        one = self._split(split)
        contents = image_keys(one.sources, one.ids, lambda files: [file_identity(file) for file in files])
        known = self._known(one)
        drawn = "" if self.weights is None or split != "train" else str(self.weights.tolist())
        return digest([treatment(self.item_stage), repr(self.batch_stage), known, drawn, *contents, *one.ids])

    def _known(self, one: ImageSplit) -> str:
        """The targets of a split as text."""
        return "" if one.targets is None else str(one.targets.tolist())

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
            titles = [self.task.in_words(label) or "-" for label in self.task.decode_target(batch.target[:n])]
        figure, places = grid(len(pixels), max(1, round(len(pixels) ** 0.5)), 2.4, 2.6)
        for k, (axes, image, title) in enumerate(zip(places, pixels, titles, strict=False)):
            draw_image(axes, image)
            self._draw_target(axes, None if batch.target is None else batch.target[k])
            axes.set_title(short(title, 30) if self.task.of_pixels else title, fontsize=9, parse_math=False)
            axes.set_axis_off()
        return figure

    def _draw_target(self, axes: Axes, target: Tensor | None) -> None:
        """Draw what is true of an image over it, where that can be drawn."""

    def __repr__(self) -> str:
        (h, w), what = self.size, "classes" if self.classes else "targets"
        about = f"{h}x{w}, {self.preprocessor.method}, batches of {self.batch_size}"
        lines = [f"{type(self).__name__}: {self.task.kind}, {len(self.task.names)} {what}, {about}"]
        lines += [f"  {name}: {len(one)}{self._counts(one)}" for name, one in self._splits.items()]
        if self._given.skipped:
            lines.append(f"  left out: {len(self._given.skipped)} unreadable, see report()")
        return "\n".join(lines)

    def _counts(self, one: ImageSplit) -> str:
        if one.targets is None or (not self.task.is_exclusive and not self.task.is_multi):
            return ""
        counts = self.task.count_classes(one.targets)
        named = [f"{name} {n}" for name, n in zip(self.classes, counts, strict=True)]
        return " (" + ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "") + ")"


def draw_image(axes: Axes, pixels: Tensor) -> None:
    """Draw an image, (c, h, w) in [0, 1] with 1 or 3 channels, without ticks."""
    axes.imshow(pixels.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
