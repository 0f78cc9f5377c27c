"""ImagePreprocessor: makes a model's inputs of images, the same for training data, a learner and a model file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data.preprocess import Items, Preprocessor, RuntimeInputs, is_open_file
from ..errors import ArgumentError, DataError, StateError, WeightsError
from ..nn.body_head import BodyHead
from ..task import Task
from .augment import IMAGENET_MEAN, IMAGENET_STD, BatchStage, Transform
from .decode import LONG_SIDE, MAX_PIXELS, AnyImage, ItemStage, Method, single_images
from .folders import list_images, listing, printable
from .items import named_in
from .source import Images, ImageSource
from .transforms_json import transforms_from_json, transforms_to_json

Size = int | tuple[int, int]
CROP_PCT = 224 / 256  # what ImageNet's usual evaluation shows, and what torchvision's weights were trained for
LARGEST = 16_384  # pixels per side that a model file may ask for
GREY_MEAN, GREY_STD = (0.449,), (0.226,)  # means over ImageNet's three channels
_TAKEN = "a path, the bytes of a file, an open file, a PIL image, an array or a tensor, or a list of them"


@dataclass(frozen=True)
class ImagePreprocessor(Preprocessor):
    """How an image becomes a model's input. It may be used by several threads."""

    size: Size  # of the input in pixels, one number or (height, width)
    method: Method = "crop"  # see `ItemStage`
    channels: int = 3
    crop_pct: float = CROP_PCT
    mean: tuple[float, ...] | None = None  # per channel, of pixels in [0, 1]; None takes ImageNet's
    std: tuple[float, ...] | None = None
    workers: int | None = None  # 0 never decodes in processes of its own; None chooses
    max_pixels: int = MAX_PIXELS  # files of more are refused, before they are decoded
    transforms: tuple[Transform, ...] | None = ()  # of augmented views; None where nobody knows
    kind: ClassVar[str] = "images"
    in_recipes: ClassVar[tuple[str, ...]] = ("size", "method", "channels", "crop_pct", "mean", "std", "max_pixels")

    def __post_init__(self) -> None:
        usual = (GREY_MEAN, GREY_STD) if self.channels == 1 else (IMAGENET_MEAN, IMAGENET_STD)
        mean, std = (usual[k] if given is None else given for k, given in enumerate((self.mean, self.std)))
        object.__setattr__(self, "size", pair_of(self.size))
        object.__setattr__(self, "mean", tuple(map(float, mean)))
        object.__setattr__(self, "std", tuple(map(float, std)))
        if self.workers is not None and self.workers < 0:
            raise ArgumentError(f"workers must be 0 or more, or None to choose, got {self.workers}")
        self.item_stage, self.batch_stage  # noqa: B018 - they check the rest
        if len(self.batch_stage.mean) != self.channels:
            raise ArgumentError(f"mean and std need {self.channels} numbers each, got {self.mean} and {self.std}")

    @cached_property
    def item_stage(self) -> ItemStage:
        """Decodes an image and brings it to working size."""
        return ItemStage(pair_of(self.size), self.method, self.channels, self.crop_pct, self.max_pixels)

    @cached_property
    def batch_stage(self) -> BatchStage:
        """Normalises a batch."""
        assert self.mean is not None and self.std is not None
        return BatchStage(pair_of(self.size), (), self.mean, self.std)

    def read(self, given: Any, first: int = 0) -> Items:
        """Read one image, or several; see `Preprocessor.read`.

        One is a path, the bytes of a file, a file opened with mode "rb", a PIL image, or an array or tensor of shape
        (h, w), (h, w, c) or (c, h, w); several are a list of them, or an array or tensor (n, h, w, c) or (n, c, h, w).
        """
        sources, single = _listed(given)
        if not sources:
            raise DataError("there are no images to predict")
        names = [f"image {k}" for k, _ in enumerate(sources, first)]
        loaded = [_loaded(source, name) for source, name in zip(sources, names, strict=True)]
        ids = [printable(str(s)) if isinstance(s, str | os.PathLike) else str(k) for k, s in enumerate(loaded, first)]
        return Items(Images(loaded, names), tuple(ids), single)

    def is_file(self, given: Any) -> bool:
        """Whether this is a folder of images or a csv that names them; any other file is one image."""
        return isinstance(given, Path) and (given.is_dir() or given.suffix.lower() == ".csv")

    def read_file(self, path: Path, n: int, skip: bool = False) -> Iterator[Items]:
        """The images below a folder, sorted, or those that a csv names in its first column; see `Preprocessor`."""
        if path.is_dir():
            names, folder = list_images(path), path
            if not names:
                raise DataError(f"no image files below {path}; it holds {listing(path)}")
        else:
            names, folder = named_in(path), path.parent
        for a in range(0, len(names), n):
            some = names[a : a + n]
            files = [str(folder / name) for name in some]
            yield Items(Images(files, files), tuple(map(printable, some)))

    def source(self, values: Images) -> ImageSource:
        return self._source(values, self.batch_stage, None)

    def _source(self, values: Images, stage: BatchStage, view: int | None) -> ImageSource:
        return ImageSource(values, self.item_stage, stage, view, workers=0 if self.workers == 0 else None)

    @property
    def view_stage(self) -> BatchStage:
        """Augments and normalises a batch.

        Raises:
            StateError: nobody knows how.
        """
        if self.transforms is None:
            raise StateError(
                "this model's file does not say how views are augmented, since that is code of its owner's, or the "
                "file is older: load_learner(path, data=data).tta() takes what the data says"
            )
        return replace(self.batch_stage, transforms=self.transforms)

    def stage_for(self, view: int | None) -> BatchStage:
        """What makes batches: None is the plain view, 0 that of training, any other the augmented view for `tta`."""
        return self.view_stage

    def has_views(self, sources: Iterable[AnyImage]) -> bool:
        """Whether augmented views of some images can differ: there are transforms, or windows that move."""
        stage = self.item_stage
        if self.view_stage.transforms or stage.method != "crop" or stage.working_size != stage.size:
            return bool(self.transforms) or stage.method == "crop"
        h, w = stage.size  # files may have any shape
        return any(not isinstance(s, np.ndarray) or s.shape[0] * w != s.shape[1] * h for s in sources)

    def views(self, values: Images) -> Callable[[int], ImageSource] | None:
        """See `Preprocessor.views`: drawn as `tta` of the learner draws them for items at these positions."""
        return partial(self._source, values, self.view_stage) if self.has_views(values.sources) else None

    def with_stats(self, mean: Sequence[float], std: Sequence[float]) -> ImagePreprocessor:
        """The same with other statistics, one number per channel each."""
        return replace(self, mean=tuple(mean), std=tuple(std))

    def for_model(self, model: nn.Module) -> ImagePreprocessor:
        """The same with the statistics that the model's body was trained with."""
        if not isinstance(model, BodyHead) or len(model.mean) != self.channels:
            return self
        return self.with_stats(model.mean.tolist(), model.std.tolist())

    def recipe(self) -> dict[str, Any]:
        about = {name: value for name, value in vars(self).items() if name in self.in_recipes}
        augment = None if self.transforms is None else transforms_to_json(self.transforms)
        return {"kind": self.kind, **about, "size": list(pair_of(self.size)), "augment": augment}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> ImagePreprocessor:
        try:
            given = {name: recipe[name] for name in cls.in_recipes if name != "max_pixels" or name in recipe}
            found = cls(**given, transforms=transforms_from_json(recipe.get("augment")))
            size = pair_of(found.size)
            if max(size) > LARGEST or any(type(n) is not int for n in (*recipe["size"], found.channels)):
                raise ValueError(f"{found.channels} channels of size {size}")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WeightsError(f"the recipe of the images is damaged: {error!r}") from error
        return found

    def runtime_inputs(self, inputs: Sequence[Tensor]) -> RuntimeInputs:
        # pixels from 0 to 255 at the model's size; the file normalises them
        normalise = Normalise(self.batch_stage.mean, self.batch_stage.std)
        about = {
            "order": "RGB" if self.channels == 3 else "L", "values": "0 to 255; the file normalises them",
            "filter": "bicubic, antialiased, as torch rounds it", "long_side": LONG_SIDE, "pad": "reflect",
            "transparent": "white", "exif": "turned as its orientation says",
            "jpeg": "decoded at 1/2, 1/4 or 1/8 where that is large enough",
        }  # fmt: skip
        return RuntimeInputs(("pixels",), ({0: "batch"},), normalise, lambda given: (normalise.undo(given[0]),), about)


class Normalise(nn.Module):
    """What `BatchStage.plain` does to images of the right size, as a module that can be part of a model.

    >>> Normalise((0.5,), (0.5,))(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    tensor([[[[-1.,  1.]]]])
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("scale", 1 / (255.0 * np.array(std))), ("shift", -np.array(mean) / np.array(std))):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 to float32, shape (b, c, h, w)."""
        return pixels.float() * self.scale + self.shift

    def undo(self, x: Tensor) -> Tensor:
        """float32 back to uint8."""
        return ((x - self.shift) / self.scale).round().clamp(0, 255).to(torch.uint8)


def pair_of(size: Any) -> tuple[int, int]:
    """(height, width) of one number or two; `ArgumentError` where it is neither."""
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(isinstance(s, int | np.integer) and type(s) is not bool and s > 0 for s in pair):
        raise ArgumentError(f"size must be a positive whole number of pixels or (height, width), got {size!r}")
    return int(pair[0]), int(pair[1])


def _listed(given: Any) -> tuple[list[AnyImage], bool]:
    """The single images of what was given, and whether it was one by itself."""
    from PIL import Image

    if isinstance(given, np.ndarray | Tensor) and given.ndim != 1:
        return (single_images(given, "images"), False) if given.ndim == 4 else ([given], True)
    if isinstance(given, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or is_open_file(given):
        return [given], True
    if isinstance(given, list | tuple):
        return list(given), False
    import pandas as pd

    if isinstance(given, pd.DataFrame):
        raise DataError("expected images, got a DataFrame: pass its column of file names, as df['file'].tolist()")
    if not isinstance(given, Iterable) or not isinstance(given, Sized) or isinstance(given, Mapping):
        raise DataError(f"expected {_TAKEN}; got {type(given).__name__}")
    return list(given), False


def _loaded(source: AnyImage, name: str) -> AnyImage:
    """One source, read if it is an open file; refused if it is text that names no file."""
    if isinstance(source, str):
        if "://" in source[:20]:
            raise DataError(f"{source[:200]} is an address: download it first, and pass the file or its bytes")
        if os.path.isdir(source):
            raise DataError(f"{source} is a folder: pass Path({source!r}), whose images are then read")
    if not is_open_file(source):
        return source
    with suppress(AttributeError, OSError):  # a stream that has no beginning to go back to
        source.seek(0)
    held = source.read()
    if not isinstance(held, bytes):
        raise DataError(f'{name}: the file gives {type(held).__name__}, not bytes; open it with mode "rb"')
    return held
