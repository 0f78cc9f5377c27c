"""2018's `fastai.transforms`: what happens to images, in words that `ImageData` takes, and callable on one array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from . import core, cv07, torch_imports
from .core import listify
from .cv07 import TfmType
from .cv07 import Transform as OwnTransform
from .errors import ArgumentError
from .imports import star
from .options import strict
from .vision.archs import Arch, Stats, get_arch
from .vision.augment import (
    PRESETS,
    BatchStage,
    Dihedral,
    Erase,
    Flip,
    Light,
    RandomResizedCrop,
    Rotate,
    Shift,
    Zoom,
)
from .vision.augment import Transform as Change
from .vision.decode import ItemStage, Method
from .vision.preprocess import CROP_PCT, pair_of
from .vision.source import Images, ImageSource

Array = npt.NDArray[Any]
imagenet_stats: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
inception_stats: Stats = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_AS_IT_IS: Stats = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

transforms_basic: list[Change] = list(PRESETS["basic"])
transforms_side_on: list[Change] = [t for t in PRESETS["side_on"] if not isinstance(t, Zoom)]
transforms_top_down: list[Change] = [t for t in PRESETS["top_down"] if not isinstance(t, Zoom)]


class CropType(IntEnum):
    """How an image becomes a square.

    RANDOM and CENTER cut off what is too long, at a random place in training and in the middle otherwise; NO squashes,
    and so does NOOP, which is for images that are squares already; GOOGLENET cuts out a part of random area and
    proportions in training.
    """

    RANDOM = 1
    CENTER = 2
    NO = 3
    GOOGLENET = 4
    NOOP = 5


def _made(
    image: Any, size: tuple[int, int], method: Method, transforms: Sequence[Change], stats: Stats, seed: int
) -> Array:
    """One image through both stages: channels first. The same seed makes the same draws."""
    stage = ItemStage(size, method, crop_pct=CROP_PCT if method == "crop" else 1.0)
    after = BatchStage(size, tuple(transforms), *stats)
    source = ImageSource(Images([image], ["the image"]), stage, after, 0 if transforms else None, workers=0)
    (made,) = source.stream([np.array([0])], torch.device("cpu"), seed)
    return np.ascontiguousarray(made[0][0].numpy())


def _any_seed() -> int:
    return int(np.random.default_rng().integers(2**31))


def _boxes(y: Any, x: Any, change: Callable[[Array], Array]) -> Array:
    """Boxes (top, left, bottom, right, ...) of an image after a change of it: what is left of each, painted white."""
    found = []
    for top, left, bottom, right in np.asarray(y, np.float32).reshape(-1, 4):
        mask = np.zeros((*np.shape(x)[:2], 3), np.float32)
        mask[int(top) : int(bottom), int(left) : int(right)] = 1
        rows, columns = np.nonzero(change(mask) > 0.5)
        found += [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1] if len(rows) else [0, 0, 0, 0]
    return np.array(found, np.float32)


def _dark(t: Change) -> Change:
    """The same draws without light: what happens to a mask."""
    return replace(t, brightness=0.0, contrast=0.0) if isinstance(t, Light) else t


@dataclass(frozen=True)
class Tfms:
    """What `tfms_from_model` says of one split; called with an image, what the model gets of it.

    Args:
        size: side of the square in pixels.
        method: how an image becomes a square.
        transforms: changes in training.
        stats: mean and standard deviation per channel.
        tfm_y: what the target is.
        own: transforms of one's own in training, of the image at its size.

    >>> _, valid = tfms_from_stats(imagenet_stats, 8)
    >>> valid(np.zeros((10, 20, 3), np.float32)).shape
    (3, 8, 8)
    """

    size: int
    method: Method
    transforms: tuple[Change, ...]
    stats: Stats
    tfm_y: TfmType = field(default=TfmType.NO)
    own: tuple[OwnTransform, ...] = ()

    @property
    def sz(self) -> int:
        """The size under its 2018 name."""
        return self.size

    def __call__(self, x: Any, y: Any = None) -> Any:
        """The image `x`, (h, w, 3) in [0, 1], as the model gets it, (3, sz, sz); with `y` both, changed alike."""
        seed, size = _any_seed(), pair_of(self.size)
        if self.own:
            x, y = Resized(self.size, "scale" if self.method == "crop" else "squash", self.tfm_y)(x, y)
        for one in self.own:
            x, y = one(x, y)
        made = _made(x, size, self.method, self.transforms, self.stats, seed)
        if y is None:
            return made
        if self.tfm_y is TfmType.COORD:
            dark = [_dark(t) for t in self.transforms]
            return made, _boxes(y, x, lambda mask: _made(mask, size, self.method, dark, _AS_IT_IS, seed)[0])
        if self.tfm_y is TfmType.NO:
            return made, y
        pixels = self.tfm_y is TfmType.PIXEL
        stats = self.stats if pixels else _AS_IT_IS
        other = _made(y, size, self.method, [_dark(t) for t in self.transforms], stats, seed)
        return made, other if pixels else other[0].round()

    def boxes(self, y: Any, shape: Sequence[int]) -> Array:
        """Boxes (top, left, bottom, right, ...) in an image of `shape` as boxes in what the model gets: from `y`."""
        if self.method != "squash" or any(type(t).matrix is not Change.matrix for t in self.transforms):
            raise ArgumentError("boxes follow an image that is squashed: give crop_type=CropType.NO, and no turns")
        sides = [self.size / s for s in shape[:2]]
        return (np.asarray(y, np.float32).reshape(-1, 2) * sides).reshape(-1).astype(np.float32)

    def denorm(self, x: Any) -> Array:
        """Normalised images `x`, channels last, as pixels again."""
        mean, std = (np.asarray(s, np.float32) for s in self.stats)
        return np.asarray(x) * std + mean


class TfmsPair(NamedTuple):
    """Transforms for training and for validation."""

    train: Tfms
    valid: Tfms


@dataclass(frozen=True)
class Applied:
    """One of 2018's transforms: in a list of `aug_tfms`, or called with an image, (h, w, 3) in [0, 1].

    Args:
        of: what it is here.
        tfm_y: what a target is that is changed alike.
    """

    of: tuple[Change, ...]
    tfm_y: TfmType | None = None

    def __call__(self, x: Any, y: Any = None) -> tuple[Array, Any]:
        """The image `x` and its target `y`, changed."""
        seed, size = _any_seed(), pair_of(np.shape(x)[:2])

        def changed(image: Any, of: Sequence[Change]) -> Array:
            return np.moveaxis(_made(image, size, "squash", of, _AS_IT_IS, seed), 0, -1)

        dark = [_dark(t) for t in self.of]
        if y is None or self.tfm_y in (None, TfmType.NO):
            return changed(x, self.of), y
        if self.tfm_y is TfmType.COORD:
            return changed(x, self.of), _boxes(y, x, lambda mask: changed(mask, dark)[..., 0])
        return changed(x, self.of), changed(y, self.of if self.tfm_y is TfmType.PIXEL else dark)


@dataclass(frozen=True)
class Resized:
    """One of 2018's changes of size, called with an image, (h, w, 3) in [0, 1].

    Args:
        sz: of what comes out, in pixels.
        how: "scale" brings the shorter side to it, "squash" both; "center" and "random" cut a square out.
        tfm_y: what a target is that is changed alike.
        max_zoom: "scale": up to this times as large.
    """

    sz: int
    how: str
    tfm_y: TfmType | None = None
    max_zoom: float = 1.0

    def __call__(self, x: Any, y: Any = None) -> tuple[Array, Any]:
        """The image `x` and its target `y`, changed."""
        u = np.random.default_rng().random(3)
        if y is None or self.tfm_y in (None, TfmType.NO):
            return self._of(x, u), y
        if self.tfm_y is TfmType.COORD:
            return self._of(x, u), _boxes(y, x, lambda mask: self._of(mask, u)[..., 0])
        return self._of(x, u), self._of(y, u)

    def _of(self, image: Any, u: Array) -> Array:
        h, w = np.shape(image)[:2]
        if self.how in ("center", "random"):
            top, left = (
                (s - self.sz) * (0.5 if self.how == "center" else at) for s, at in zip((h, w), u, strict=False)
            )
            return np.asarray(image)[max(int(top), 0) :, max(int(left), 0) :][: self.sz, : self.sz]
        size, by = (self.sz, self.sz), (1 + (self.max_zoom - 1) * u[2]) * self.sz / min(h, w)
        if self.how == "scale":
            size = (max(round(h * by), self.sz), max(round(w * by), self.sz))
        return np.moveaxis(_made(image, size, "squash", (), _AS_IT_IS, 0), 0, -1)


def Scale(sz: int, tfm_y: TfmType | None = None, sz_y: int | None = None) -> Resized:  # noqa: N802 (2018's names)
    """The shorter side becomes `sz`; `tfm_y`: see `Resized`, `sz_y` says nothing."""
    return Resized(sz, "scale", tfm_y)


def RandomScale(  # noqa: N802
    sz: int, max_zoom: float, p: float = 0.75, tfm_y: TfmType | None = None, sz_y: int | None = None
) -> Resized:
    """The shorter side becomes `sz` to `max_zoom` times that; `p` and `sz_y` say nothing, `tfm_y`: see `Resized`."""
    return Resized(sz, "scale", tfm_y, max_zoom)


def NoCrop(sz: int, tfm_y: TfmType | None = None, sz_y: int | None = None) -> Resized:  # noqa: N802
    """Both sides become `sz`; `tfm_y`: see `Resized`, `sz_y` says nothing."""
    return Resized(sz, "squash", tfm_y)


def CenterCrop(sz: int, tfm_y: TfmType | None = None, sz_y: int | None = None) -> Resized:  # noqa: N802
    """The middle square of `sz`; `tfm_y`: see `Resized`, `sz_y` says nothing."""
    return Resized(sz, "center", tfm_y)


def RandomCrop(targ_sz: int, tfm_y: TfmType | None = None, sz_y: int | None = None) -> Resized:  # noqa: N802
    """Any square of `targ_sz`; `tfm_y`: see `Resized`, `sz_y` says nothing."""
    return Resized(targ_sz, "random", tfm_y)


def RandomFlip(tfm_y: TfmType | None = None, p: float = 0.5) -> Applied:  # noqa: N802 (2018's names)
    """Mirror with probability `p`; `tfm_y`: see `Applied`."""
    return Applied((Flip(p),), tfm_y)


def RandomDihedral(tfm_y: TfmType | None = None) -> Applied:  # noqa: N802
    """One of eight ways to lay a square down; `tfm_y`: see `Applied`."""
    return Applied((Dihedral(),), tfm_y)


def RandomRotate(deg: float, p: float = 0.75, mode: Any = None, tfm_y: TfmType | None = None) -> Applied:  # noqa: N802
    """Turn by up to `deg` with probability `p`, reflected at the edges whatever `mode`; `tfm_y`: see `Applied`."""
    return Applied((Rotate(deg, p),), tfm_y)


def RandomLighting(b: float, c: float, tfm_y: TfmType | None = None) -> Applied:  # noqa: N802
    """Brightness by up to `b`, contrast by up to `c`; `tfm_y`: see `Applied`."""
    return Applied((Light(b, c, p=1.0),), tfm_y)


def RandomZoom(zoom_max: float, zoom_min: float = 0, mode: Any = None, tfm_y: TfmType | None = None) -> Applied:  # noqa: N802
    """Enlarge by up to `zoom_max` (`zoom_min` and `mode` say nothing); `tfm_y`: see `Applied`."""
    return Applied((Zoom(1 + zoom_max, p=1.0),), tfm_y)


def RandomStretch(max_stretch: float, tfm_y: TfmType | None = None) -> Applied:  # noqa: N802
    """Stretch by up to `max_stretch`; `tfm_y`: see `Applied`."""
    most = 1 + max_stretch
    return Applied((RandomResizedCrop(1 / most, (1 / most, most)),), tfm_y)


def RandomRotateZoom(  # noqa: N802
    deg: float, zoom: float, stretch: float, ps: Sequence[float] | None = None, mode: Any = None,
    tfm_y: TfmType | None = None,
) -> Applied:  # fmt: skip
    """Turn by up to `deg`, enlarge by up to `zoom`, by the first two of `ps`.

    `stretch` and `mode` say nothing; `tfm_y`: see `Applied`.
    """
    p = (0.25, 0.25) if ps is None else ps
    return Applied((Rotate(deg, p[0]), Zoom(1 + zoom, p[1])), tfm_y)


def Cutout(n_holes: int, length: float, p: float = 0.5, tfm_y: TfmType | None = None) -> Applied:  # noqa: N802
    """Blank `n_holes` squares of `length` pixels (of 224), each with probability `p`; `tfm_y`: see `Applied`."""
    return Applied((Erase(n_holes, min(length / 224, 1.0), p),), tfm_y)


def GoogleNetResize(targ_sz: int, min_area_frac: float = 0.08, tfm_y: TfmType | None = None) -> Applied:  # noqa: N802
    """A part of at least `min_area_frac` of the area (`targ_sz` says nothing); `tfm_y`: see `Applied`."""
    return Applied((RandomResizedCrop(min_area_frac),), tfm_y)


RandomFlipXY, RandomDihedralXY, RandomRotateXY = RandomFlip, RandomDihedral, RandomRotate  # as early 2018 spelt them
RandomRotateZoomXY, RandomZoomXY, RandomStretchXY = RandomRotateZoom, RandomZoom, RandomStretch
ScaleXY, RandomScaleXY, NoCropXY = Scale, RandomScale, NoCrop
CenterCropXY, RandomCropXY = CenterCrop, RandomCrop
_ONE_SIZE = "For other areas give crop_type=CropType.GOOGLENET, or max_zoom=."


def _listed(aug_tfms: Any, size: int) -> tuple[tuple[Change, ...], tuple[OwnTransform, ...]]:
    """The transforms of a list, a single one, or None; and those of one's own among them.

    Crops say nothing, since `crop_type` does, and so do changes to one size.
    """
    chosen: list[Change] = []
    own: list[OwnTransform] = []
    for t in [] if aug_tfms is None else listify(aug_tfms, 1):
        if isinstance(t, OwnTransform):
            own.append(t)
        elif isinstance(t, Resized):
            chosen += [Zoom(t.max_zoom)] if t.max_zoom > 1 else []
        elif not isinstance(t, Change | Applied):
            raise ArgumentError(f"aug_tfms must list transforms such as RandomFlip() or RandomRotate(10), got {t!r}")
        else:
            for one in t.of if isinstance(t, Applied) else (t,):
                chosen.append(replace(one, size=min(one.size * 224 / size, 1.0)) if isinstance(one, Erase) else one)
    return tuple(chosen), tuple(own)


@strict({"scale": _ONE_SIZE})
def tfms_from_stats(
    stats: Any,
    sz: int,
    aug_tfms: Any = None,
    max_zoom: float | None = None,
    pad: int = 0,
    crop_type: CropType = CropType.RANDOM,
    tfm_y: TfmType | None = None,
    sz_y: int | None = None,
    pad_mode: Any = None,
    norm_y: bool = True,
) -> TfmsPair:
    """Transforms for images of `sz` pixels, normalised with `stats`.

    Args:
        stats: mean and standard deviation per channel; None leaves pixels in [0, 1].
        sz: side of the square in pixels.
        aug_tfms: such as `transforms_side_on`, or a list of transforms; None for no augmentation.
        max_zoom: enlarge by up to this factor while training.
        pad: move by up to so many pixels while training; what comes in from outside is reflected.
        crop_type: see `CropType`.
        tfm_y: see `TfmType`; boxes follow `CropType.NO` alone.
        sz_y, pad_mode, norm_y: say nothing; a target is as large as the image.

    Returns:
        (training, validation), which `ImageClassifierData` takes as `tfms=`.
    """
    chosen, own = _listed(aug_tfms, sz)
    if max_zoom is not None and max_zoom > 1:
        chosen = (*chosen, Zoom(max_zoom))
    if pad:
        chosen = (*chosen, Shift(pad / sz, p=1.0))
    if crop_type is CropType.GOOGLENET:
        chosen = (*chosen, RandomResizedCrop())
    method: Method = "squash" if crop_type in (CropType.NO, CropType.NOOP) else "crop"
    mean, std = (tuple(float(v) for v in s) for s in (_AS_IT_IS if stats is None else stats))
    valid = Tfms(int(sz), method, (), (mean, std), TfmType.NO if tfm_y is None else tfm_y)  # type: ignore[arg-type]
    return TfmsPair(replace(valid, transforms=chosen, own=own), valid)


@strict({"scale": _ONE_SIZE})
def tfms_from_model(
    f_model: Any,
    sz: int,
    aug_tfms: Any = None,
    max_zoom: float | None = None,
    pad: int = 0,
    crop_type: CropType = CropType.RANDOM,
    tfm_y: TfmType | None = None,
    sz_y: int | None = None,
    pad_mode: Any = None,
    norm_y: bool = True,
) -> TfmsPair:
    """Transforms for an architecture: as `tfms_from_stats`, with the statistics its weights were trained with.

    Args:
        f_model: an architecture, such as `resnet34`, or its name; a function of your own has ImageNet's statistics.
        sz, aug_tfms, max_zoom, pad, crop_type, tfm_y, sz_y, pad_mode, norm_y: see `tfms_from_stats`.

    Returns:
        (training, validation), which `ImageClassifierData` takes as `tfms=`.

    >>> train, valid = tfms_from_model("resnet34", 224, transforms_side_on, max_zoom=1.1)
    >>> train.size, len(train.transforms), len(valid.transforms)
    (224, 4, 0)
    """
    stats = get_arch(f_model).stats if isinstance(f_model, str | Arch) or not callable(f_model) else imagenet_stats
    return tfms_from_stats(stats, sz, aug_tfms, max_zoom, pad, crop_type, tfm_y)


_OWN = [
    "CenterCrop", "CropType", "Cutout", "GoogleNetResize", "NoCrop", "RandomCrop", "RandomDihedral", "RandomFlip",
    "RandomLighting", "RandomRotate", "RandomRotateZoom", "RandomScale", "RandomStretch", "RandomZoom", "Scale",
    "imagenet_stats", "inception_stats", "tfms_from_model", "tfms_from_stats", "transforms_basic", "transforms_side_on",
    "transforms_top_down", *(name for name in globals() if name.endswith("XY")),
]  # fmt: skip
__all__ = star(globals(), core, torch_imports, cv07, own=_OWN)
