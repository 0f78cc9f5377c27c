"""Images out of images for a Learner: `Image2ImageData`, and `image2image_learner`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..data.bunch import SplitName
from ..data.loaders import first_outputs
from ..data.preprocess import is_open_file
from ..data.split import Split
from ..device import mapping
from ..errors import ArgumentError, DataError, check_kind
from ..files import StrPath, digest
from ..lab import coloured
from ..learning import Training, TrainingOptions
from ..options import strict
from ..task import ImageTask
from ..task.image import COLOUR, PIXELS, ImagePrediction
from .augment import Transform
from .decode import ItemStage, shape_of
from .folders import existing_folder, list_images, listing
from .items import Listed, Rows, listed_arrays
from .made_images import MadePreprocessor, Make
from .mask_drawing import side_by_side
from .mask_learner import Body, Decoder, begin_decoder_at, dense_learner, has_weights, segmentation_model
from .mask_rows import by_stem, mask_arrays
from .model import Cut, Pretrained
from .options import DenseKeywords, DenseOptions
from .pixels import PixelData
from .preprocess import Size
from .splits import Assembled, ImageSplit, assemble
from .warp import MovingImages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image
    from typing_extensions import Self, Unpack

    from ..learning import Learner
    from ..placement import Placement
    from .archs import Stats

_THREADS = 4
OLD_NAMES = {"bs": "batch_size", "sz": "size", "tfms": "augment", "num_workers": "workers", "valid_pct": "valid"}


@dataclass
class GivenImages:
    """Images that are targets, not read yet; see `splits.Labels`, and for `encode` `splits.KnownTargets`.

    Args:
        stage: reads them.
        make: what is predicted.
    """

    stage: ItemStage
    make: Make
    note: str = ""

    @property
    def task(self) -> ImageTask:
        """What is predicted."""
        return ImageTask(COLOUR if self.make == "colour" else PIXELS)

    def stratify_codes(self) -> None:
        """None: there are no classes."""

    def learn(self, train: npt.NDArray[np.int64]) -> GivenImages:
        """The same: nothing is learnt."""
        return self

    def encode(self, values: Sequence[Any], where: Callable[[int], str], split: str, hint: str) -> Tensor:
        """The images of a split, uint8 (n, 3, h, w)."""
        return read_images(self.stage, values, [where(k) for k in range(len(values))])


def read_images(stage: ItemStage, sources: Sequence[Any], names: Sequence[str]) -> Tensor:
    """Images at a stage's size, uint8 (n, 3, h, w); `names` are for messages."""
    files = all(isinstance(s, str) for s in sources)  # Pillow's own images are lazy, and two threads may meet in one
    with mapping(min(_THREADS, torch.get_num_threads()) if files else 1) as each:
        return torch.stack(list(each(stage.load, sources, names)))


class Image2ImageData(PixelData):
    """Images in train and maybe valid and test, each with the image that is to be made of it.

    Make one with `from_folder` or `from_arrays`. The images to be made are kept in memory, 3 bytes for each pixel. They
    move with the inputs; light and colours are left alone, since they are what is predicted.

    Args:
        given: the splits with their targets.
        preprocessor: makes the inputs.
        how: the options that all data of images take.
    """

    moving = MovingImages()
    draws_beside = True
    preprocessor: MadePreprocessor

    @classmethod
    @strict(OLD_NAMES, DenseOptions)
    def from_folder(
        cls, path: StrPath, size: Size = 224, *, make: Make = "colour", times: int = 4, valid: str | Split = 0.2,
        train: str = "train", inputs: str = "inputs", targets: str = "targets", **options: Unpack[DenseKeywords],
    ) -> Self:  # fmt: skip
        """Photographs whose colours or detail is to be predicted, or folders of pairs with the same names.

        Args:
            path: a folder of images; with `make="pairs"` it holds the folders `inputs` and `targets`.
            size: of the model's input in pixels, one number or (height, width).
            make: "colour" (of grey images), "sharp" (of coarse ones), or "pairs".
            times: "sharp": how many times fewer pixels the coarse images have along each side.
            valid: a fraction; positions in the sorted list of files; a mask; the name of a folder in `path`; None for
                no validation.
            train: name of the training folder, where `valid` is the name of one.
            inputs: name of the folder of inputs, for pairs.
            targets: name of the folder of what is to be made of them.

        Raises:
            DataError: a folder is missing or empty, an image has no partner, or cannot be read.
        """
        root = existing_folder(path, "images")
        by_name = isinstance(valid, str) and (root / valid).is_dir()
        folders = [root / train, root / str(valid)] if by_name else [root]
        rows = [_rows(root, folder, (inputs, targets) if make == "pairs" else None) for folder in folders]
        listed = Listed(rows[0], rows[1] if by_name else None, folder_labels=False, root=root)
        return cls._made(listed, valid, DenseOptions(**options), size, make, times)

    @classmethod
    @strict(OLD_NAMES, DenseOptions)
    def from_arrays(
        cls, train: Any, valid: Any = 0.2, test: Any = None, size: Size | None = None, *, make: Make = "colour",
        times: int = 4, **options: Unpack[DenseKeywords],
    ) -> Self:  # fmt: skip
        """Images in memory.

        Args:
            train: images as `ImageData` takes them; with `make="pairs"` (x, y), images and what is made of them.
            valid: such images, or (x, y); a fraction; positions in train; None for no validation.
            test: images alone.
            size: of the model's input in pixels; None takes the images' own.
            make, times: as in `from_folder`.

        >>> x = np.zeros((10, 16, 16, 3), np.uint8)
        >>> data = Image2ImageData.from_arrays(x, make="colour", batch_size=4)
        >>> data.task, data.target("train").shape
        (image of 2 (a, b), torch.Size([8, 3, 16, 16]))
        """
        if make != "pairs":
            train, valid = (train, train), (valid, valid) if _are_images(valid) else valid
        listed, size = listed_arrays(train, valid, test, size, _pair_rows)
        return cls._made(listed, valid, DenseOptions(**options), size, make, times)

    @classmethod
    def _made(cls, given: Listed, valid: Any, how: DenseOptions, size: Size, make: Make, times: int) -> Self:
        images = how.as_images()
        prepared = images.preprocessor(size, 1.0, MadePreprocessor)
        assert isinstance(prepared, MadePreprocessor)
        moves = tuple(t for t in prepared.transforms or () if type(t).matrix is not Transform.matrix)
        if not isinstance(how.augment, str) and how.augment is not None and len(moves) < len(prepared.transforms or ()):
            raise ArgumentError(
                "light and colours are what is predicted: augment= can be transforms that move pixels alone, such as "
                "Flip() and Zoom()"
            )
        prepared = replace(prepared, make=make, times=times, transforms=moves)
        targets = GivenImages(prepared.whole_stage, make)
        found = assemble(given, valid, images, lambda rows: targets)
        if make == "pairs" and prepared.method == "pad":
            for one in found.splits.values():
                _check_proportions(one, prepared.whole_stage)
        return cls(found, prepared, images)

    def __init__(self, given: Assembled, preprocessor: MadePreprocessor, how: Any) -> None:
        super().__init__(given, preprocessor, how)
        self._read: dict[tuple[str, tuple[int, int]], Tensor] = {
            (str(name), self.size): one.targets for name, one in given.splits.items() if one.targets is not None
        }

    def target(self, split: SplitName) -> Tensor | None:
        """The images to be made, uint8 (n, 3, h, w); None where they are not known."""
        one = self._split(split)
        if one.labels is None:
            return None
        if (split, self.size) not in self._read:
            self._read[split, self.size] = read_images(self.preprocessor.whole_stage, one.labels, one.ids)
        return self._read[split, self.size]

    def places(self, split: SplitName) -> Sequence[Placement] | None:
        return self.preprocessor.places(self._split(split).images)

    def _known(self, one: ImageSplit) -> str:
        return "" if one.targets is None else digest([one.targets.numpy().reshape(-1).data])

    def _draw_target(self, axes: Axes, target: Tensor | None) -> None:
        if target is not None:
            shown = torch.from_numpy(np.array(axes.images[-1].get_array())).float()
            shown = shown[..., None] if shown.ndim == 2 else shown
            side_by_side(axes, [shown.permute(2, 0, 1), target.cpu().float() / 255])

    def draw_said(self, split: SplitName, i: int, probs: Tensor, axes: Axes) -> None:
        """Draw item `i` of a `split` into `axes`: what the model gets, makes of it (`probs`), and what is true."""
        image, target = self.image(split, i), self.target(split)
        wide = nn.functional.interpolate(probs[None], self.size, mode="bilinear", align_corners=False)
        made = wide[0].clamp(0, 1) if len(probs) == 3 else coloured_by(image, wide)
        side_by_side(axes, [image, made, *([] if target is None else [target[i].float() / 255])])
        axes.set_xlabel(self.ids(split)[i][-34:], fontsize=7, color="0.4", parse_math=False)


def coloured_by(image: Tensor, ab: Tensor) -> Tensor:
    """A grey image (3, h, w) in [0, 1] with the colours (1, 2, h, w) of Lab."""
    pixels = image.mul(255).round().byte().permute(1, 2, 0)
    return torch.from_numpy(coloured(pixels.numpy(), ab[0].numpy())).permute(2, 0, 1) / 255


def _are_images(valid: Any) -> bool:
    """Whether these are images themselves, and no fraction, positions, mask or pair."""
    if isinstance(valid, np.ndarray | Tensor):
        return valid.ndim > 2
    return isinstance(valid, list) and len(valid) > 0 and not isinstance(valid[0], int | np.integer | np.bool_)


def _pair_rows(given: Any, name: str) -> Rows:
    pair = given if isinstance(given, tuple | list) and len(given) == 2 else (given, None)
    rows = mask_arrays(pair, name, "images to be made of them")
    if rows.labels is not None:
        rows.labels = [target for _, target in rows.labels]
    return rows


def _check_proportions(split: ImageSplit, stage: ItemStage) -> None:
    """Refuse pairs that would not lie upon each other in the model's frame."""
    for source, target, name in zip(split.sources, split.labels or (), split.ids, strict=False):
        (h, w), (height, width) = shape_of(source, name), shape_of(target, name)
        inner, other = stage.place(h, w).inner, stage.place(height, width).inner
        if max(abs(inner[0] - other[0]), abs(inner[1] - other[1])) > 1:  # the size of one may have been rounded
            raise DataError(
                f"{name}: the image has {h} x {w} pixels (height x width), what is to be made of it {height} x "
                f"{width}: of other proportions, so that they do not lie upon each other. Cut them alike, or pass "
                'method="squash"'
            )


def _rows(root: Path, folder: Path, pairs: tuple[str, str] | None) -> Rows:
    """The images below a folder, each its own target, or those of two folders with the same names."""
    base = existing_folder(folder if pairs is None else folder / pairs[0], "images")
    names = list_images(base)
    if not names:
        raise DataError(f"no image files in {base}; it holds {listing(base)}")
    rows = Rows.of_files(names, base, root, [f"in {base}"] * len(names))
    rows.labels = list(rows.sources)
    if pairs is not None:
        beside = existing_folder(folder / pairs[1], f"an image for each in {base}")
        found = by_stem(beside, "images")
        for k, name in enumerate(names):
            partner = found.get(os.path.splitext(name)[0])
            if partner is None:
                raise DataError(f"{rows.sources[k]} has no partner of the same name in {beside}")
            rows.labels[k] = str(beside / partner)
    return rows


@strict({"arch": "body", "model": "body", "opt_func": "optimizer", "loss_func": "loss"}, Training)
def image2image_learner(  # type: ignore[misc]  # one of the shared options has another default here
    data: Image2ImageData, body: Body, *, decoder: Decoder | None = None, pretrained: Pretrained | None = None,
    precompute: bool = False, cut: Cut | None = None, stats: Stats | None = None,
    clip: float | Literal["auto"] | None = "auto",
    bn_freeze: bool | None = None, **options: Unpack[TrainingOptions],
) -> Learner:  # fmt: skip
    """A Learner that makes images of images: colours of grey ones, sharp ones of coarse ones, or what pairs show.

    Colours are the a and b of Lab, which people see less sharply than light: they are predicted coarsely, and joined
    with the image's own light by `make_image`. Other images are predicted as what is to be added to the input.

    Args:
        data: images with what is to be made of them.
        body: as in `segmentation_learner`.
        decoder: "light", "unet" or a module; None is "light" for colours, else "unet". See `segmentation_model`.
        pretrained: True, False or a file of weights; None takes what the architecture says.
        precompute: train the decoder on stored maps of the frozen body; for colours alone.
        cut: where a module of your own is cut.
        stats: mean and standard deviation per channel; None takes those of the weights.
        clip: largest norm of the gradients; "auto" is 2.0 where the body is pretrained, no clipping otherwise.
        bn_freeze: keep the body's batch-norm statistics while its weights train; None: where it is pretrained.

    Raises:
        ArgumentError: the body gives no maps of several sizes, or an argument is unknown.
        WeightsError: the weights cannot be had; the message says where to put a file.
    """
    if not isinstance(data, Image2ImageData):
        raise ArgumentError(f"image2image_learner needs Image2ImageData, got {type(data).__name__}")
    is_colour = data.preprocessor.make == "colour"
    chosen: Decoder = ("light" if is_colour else "unet") if decoder is None else decoder
    seed = options.get("seed", 0)
    model = segmentation_model(
        body, 2 if is_colour else 3, chosen, adds=not is_colour, pretrained=pretrained, cut=cut, stats=stats, seed=seed
    )
    if is_colour and isinstance(chosen, str):
        begin_decoder_at(model.head, first_outputs(data))
    return dense_learner(data, model, has_weights(body, pretrained), precompute, clip, bn_freeze, options)  # type: ignore[arg-type]


@runtime_checkable
class _Predicts(Protocol):
    def predict(self, items: Any) -> Any: ...


def make_image(learn: _Predicts, item: Any) -> Image.Image:
    """The image that a model makes of one, at its own size.

    Args:
        learn: a learner of `image2image_learner`, or a predictor of one.
        item: an image in any form that `predict` takes.

    Returns:
        An image of Pillow's: what was given in colours, or what the model makes of it.
    """
    check_kind("make_image takes a learner or a predictor", learn, _Predicts)
    held = item.read() if is_open_file(item) else item  # it is needed twice
    return image_said(learn.predict(held), held)


def image_said(said: Any, item: Any) -> Image.Image:
    """The image that a model made of an item, at its own size: `said` is what it predicted."""
    from PIL import Image

    if not isinstance(said, ImagePrediction):
        raise ArgumentError(f"make_image takes one image, and a model that makes images; it said {said!r}")
    if len(said.names) == len(PIXELS):
        return said.to_image()
    shape = said.place.shape if said.place is not None else said.probs.shape[1:]
    pixels = ItemStage((int(shape[0]), int(shape[1])), "squash").load(item)
    return said.to_image(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()))
