"""What 2018's `fastai.transforms` did to the array of one image, and the base of transforms of one's own."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

Array = npt.NDArray[Any]


class TfmType(IntEnum):
    """What a target is: no part of the image (NO), an image (PIXEL), boxes (COORD) or a mask of classes (CLASS)."""

    NO = 1
    PIXEL = 2
    COORD = 3
    CLASS = 4


def rand0(s: float) -> float:
    """A random number between `-s` and `s`."""
    return float(np.random.default_rng().uniform(-s, s))


def dihedral(x: Array, dih: int) -> Array:
    """`x` turned by `dih` right angles; mirrored as well where `dih` is 4 or more."""
    turned = np.rot90(x, dih % 4)
    return turned if dih < 4 else np.fliplr(turned)


def lighting(im: Array, b: float, c: float) -> Array:
    """`im` with its contrast, around its mean, times `c` and `b` added, within [0, 1]."""
    mean = im.mean()
    made: Array = np.clip((im - mean) * c + mean + b, 0.0, 1.0).astype(np.float32)
    return made


def scale_to(x: float, ratio: float, targ: int) -> int:
    """A side of `x` pixels times `ratio`, at least `targ`."""
    return max(math.floor(x * ratio), targ)


def _batch(im: Array) -> torch.Tensor:
    made = torch.as_tensor(np.ascontiguousarray(im), dtype=torch.float32)
    return (made[..., None] if made.dim() == 2 else made).permute(2, 0, 1)[None]


def _image(batch: torch.Tensor, like: Array) -> Array:
    made = batch[0].permute(1, 2, 0).numpy()
    return made[..., 0] if like.ndim == 2 else made


def _resized(im: Array, rows: int, columns: int) -> Array:
    return _image(F.interpolate(_batch(im), (rows, columns), mode="bilinear", antialias=True), im)


def _warped(im: Array, turn: float, zoom: float, mode: str) -> Array:
    """`im` turned by so many degrees against the clock and enlarged, around its middle."""
    cos, sin = math.cos(math.radians(turn)) / zoom, math.sin(math.radians(turn)) / zoom
    rows, columns = im.shape[:2]
    theta = torch.tensor([[[cos, -sin * rows / columns, 0.0], [sin * columns / rows, cos, 0.0]]])
    batch = _batch(im)
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    return _image(F.grid_sample(batch, grid, padding_mode=mode, align_corners=False), im)


def scale_min(im: Array, targ: int) -> Array:
    """`im` with its shorter side scaled to `targ` pixels."""
    ratio = targ / min(im.shape[:2])
    return _resized(im, scale_to(im.shape[0], ratio, targ), scale_to(im.shape[1], ratio, targ))


def no_crop(im: Array, min_sz: int | None = None) -> Array:
    """`im` squashed to a square of `min_sz` pixels; None is its shorter side."""
    side = min(im.shape[:2]) if min_sz is None else min_sz
    return _resized(im, side, side)


def crop(im: Array, r: int, c: int, sz: int) -> Array:
    """The square of `sz` pixels of `im` from row `r` and column `c` on."""
    return im[r : r + sz, c : c + sz]


def center_crop(im: Array, min_sz: int | None = None) -> Array:
    """The square of `min_sz` pixels in the middle of `im`; None is its shorter side."""
    side = min(im.shape[:2]) if min_sz is None else min_sz
    return crop(im, math.ceil((im.shape[0] - side) / 2), math.ceil((im.shape[1] - side) / 2), side)


def rotate_cv(im: Array, deg: float, mode: Any = None) -> Array:
    """`im` turned by `deg` degrees against the clock; black comes in, unless a `mode` asks for a reflection."""
    return _warped(im, deg, 1.0, "reflection" if mode else "zeros")


def zoom_cv(x: Array, z: float) -> Array:
    """The middle of `x` enlarged by 1 and `z`."""
    return _warped(x, 0.0, 1.0 + z, "zeros")


def stretch_cv(x: Array, sr: float, sc: float) -> Array:
    """`x` stretched by 1 and `sr` from top to bottom, by 1 and `sc` across, of which the middle is given."""
    rows, columns = x.shape[:2]
    made = _resized(x, int(rows * (sr + 1)), int(columns * (sc + 1)))
    top, left = (made.shape[0] - rows) // 2, (made.shape[1] - columns) // 2
    return made[top : top + rows, left : left + columns]


def cutout(im: Array, n_holes: int, length: float) -> Array:
    """`im` with `n_holes` black squares of `length` pixels, which may overlap."""
    draw = np.random.default_rng()
    made: Array = im.copy()
    for _ in range(n_holes):
        at = [int(draw.integers(side)) for side in im.shape[:2]]
        made[tuple(slice(max(int(a - length / 2), 0), max(int(a + length / 2), 0)) for a in at)] = 0
    return made


def to_bb(YY: Array, y: Any = None) -> Array:  # noqa: N803 (2018's name)
    """The box (top, left, bottom, right) around what is not 0 in the mask `YY`; `y` says nothing."""
    rows, columns = np.nonzero(YY)
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([rows.min(), columns.min(), rows.max(), columns.max()], np.float32)


def coords2px(y: Array, x: Array) -> Array:
    """A mask as large as `x`, with the four corners of the box `y`."""
    made = np.zeros(x.shape[:2])
    made[np.ix_(*(np.rint(np.asarray(y)[k::2][:2]).astype(int) for k in (0, 1)))] = 1
    return made


class Denormalize:
    """Pixels of normalised ones, channels last.

    Args:
        m: the mean of each channel.
        s: the standard deviation of each.
    """

    def __init__(self, m: Any, s: Any) -> None:
        self.m, self.s = np.asarray(m, np.float32), np.asarray(s, np.float32)

    def __call__(self, x: Any) -> Any:
        """The pixels of `x`."""
        return x * self.s + self.m


class Normalize(Denormalize):
    """Pixels with the mean subtracted, divided by the deviation; those of a target that is an image, too.

    Args:
        m, s: see `Denormalize`.
        tfm_y: what the target is.
    """

    def __init__(self, m: Any, s: Any, tfm_y: TfmType = TfmType.NO) -> None:
        super().__init__(m, s)
        self.tfm_y = tfm_y

    def __call__(self, x: Any, y: Any = None) -> Any:
        """(`x`, `y`), normalised."""
        pixels = self.tfm_y is TfmType.PIXEL and y is not None
        return (x - self.m) / self.s, (y - self.m) / self.s if pixels else y


class Transform:
    """A change of one's own: a subclass says in `do_transform` what it is, in `set_state` what is drawn for an item.

    It is for data sets by position (`FilesDataset` and those made of it, in `ImageData.get_ds`).

    Args:
        tfm_y: what a target is that is changed alike.

    >>> class Darker(Transform):
    ...     def do_transform(self, x, is_y):
    ...         return x / 2
    >>> Darker()(np.ones(1), 7)
    (array([0.5]), 7)
    """

    def __init__(self, tfm_y: TfmType = TfmType.NO) -> None:
        self.tfm_y = tfm_y
        self.store: Any = threading.local()

    def set_state(self) -> None:
        """Draw what is to be the same for an image and its target, and keep it in `store`."""

    def do_transform(self, x: Any, is_y: bool) -> Any:
        """The image `x` changed, or with `is_y` the target."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does to an image: give it do_transform")

    def transform(self, x: Any, y: Any = None) -> Any:
        """`x` changed, and `y` where there is one."""
        made = self.do_transform(x, False)
        return made if y is None else (made, self.do_transform(y, True))

    def transform_coord(self, x: Any, ys: Any) -> Any:
        """`x` changed, and the boxes `ys`, which a `CoordTransform` changes alike."""
        return self.transform(x), ys

    def __call__(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """The image `x` and its target `y`, changed."""
        self.set_state()
        if y is None or self.tfm_y == TfmType.NO:
            return self.transform(x), y
        made: tuple[Any, Any] = (self.transform_coord if self.tfm_y == TfmType.COORD else self.transform)(x, y)
        return made


class CoordTransform(Transform):
    """A change of one's own that boxes (top, left, bottom, right, ...) follow: each is changed as a mask.

    Args:
        tfm_y: see `Transform`.
    """

    def transform_coord(self, x: Any, ys: Any) -> tuple[Any, Array]:
        """See `Transform.transform_coord`, whose `x` and `ys` these are."""
        boxes = []
        for top, left, bottom, right in np.asarray(ys).reshape(-1, 4).astype(int):
            mask = np.zeros(x.shape[:2], np.float32)
            mask[top:bottom, left:right] = 1
            boxes.append(to_bb(self.do_transform(mask, True)))
        return self.do_transform(x, False), np.concatenate(boxes)


class AddPadding(CoordTransform):
    """`pad` pixels more on each side, reflected.

    Args:
        pad: how many.
        mode: says nothing.
        tfm_y: see `Transform`.
    """

    def __init__(self, pad: int, mode: Any = None, tfm_y: TfmType = TfmType.NO) -> None:
        super().__init__(tfm_y)
        self.pad = pad

    def do_transform(self, x: Any, is_y: bool) -> Any:
        """See `Transform.do_transform`, whose `x` and `is_y` these are."""
        return np.pad(x, [(self.pad, self.pad)] * 2 + [(0, 0)] * (x.ndim - 2), mode="symmetric")


class RandomBlur(Transform):
    """With `probability` the mean over squares of one of `blur_strengths` pixels.

    Args:
        blur_strengths: a number, or several.
        probability: how often.
        tfm_y: see `Transform`.
    """

    def __init__(
        self, blur_strengths: int | Sequence[int] = 5, probability: float = 0.5, tfm_y: TfmType = TfmType.NO
    ) -> None:
        super().__init__(tfm_y)
        self.sizes = [blur_strengths] if isinstance(blur_strengths, int) else list(blur_strengths)
        self.probability = probability

    def set_state(self) -> None:
        """See `Transform.set_state`."""
        draw = np.random.default_rng()
        self.store.size = int(draw.choice(self.sizes)) if draw.random() < self.probability else 1

    def do_transform(self, x: Any, is_y: bool) -> Any:
        """See `Transform.do_transform`, whose `x` and `is_y` these are."""
        size = self.store.size
        before, after = (size - 1) // 2, size // 2
        padded = F.pad(_batch(x), (before, after, before, after), mode="reflect")
        return _image(F.avg_pool2d(padded, size, stride=1), x)


def compose(im: Any, y: Any, fns: Sequence[Callable[..., Any]]) -> Any:
    """The image `im` and its target `y` after each of `fns`; the image alone where there is no target."""
    for fn in fns:
        im, y = fn(im, y)
    return im if y is None else (im, y)


__all__ = [
    "AddPadding", "CoordTransform", "Denormalize", "Normalize", "RandomBlur", "TfmType", "Transform", "center_crop",
    "compose", "coords2px", "crop", "cutout", "dihedral", "lighting", "no_crop", "rand0", "rotate_cv", "scale_min",
    "scale_to", "stretch_cv", "to_bb", "zoom_cv",
]  # fmt: skip
