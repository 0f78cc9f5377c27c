"""The batch stage: uint8 images in, augmented and normalised floats out, on the model's device.

All flips, rotations, zooms, crops and perspectives of an item become one matrix, so that every pixel is interpolated
once; light, contrast, saturation, hue and normalisation become one matrix or one factor and a summand per channel. What
neither says (blur, policies, torchvision's transforms) comes between them. Draws are keyed by (seed, epoch, item).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import keyed
from ..errors import ArgumentError, did_you_mean
from .warp import Array, Motion, Moving, compose, lay, sample

Border = Literal["reflection", "mean"]
Number = Array | float
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IN_CACHE = 500_000  # floats that a core's cache is sure to hold


@dataclass(frozen=True)
class Transform:
    """One random change of an image. It does nothing itself: it says what its draws mean.

    A subclass is a frozen dataclass that sets `draws` and overrides one of the methods; a field `p` of it is a
    probability.

    Attributes:
        draws: how many uniform numbers an item needs.
        exact: it only mirrors or turns by right angles, which needs no interpolation.
    """

    draws: ClassVar[int] = 0
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        p = vars(self).get("p", 0.0)
        if not 0.0 <= p <= 1.0:
            raise ArgumentError(f"p is a probability, between 0 and 1, got {p}")

    def matrix(self, u: Array, size: tuple[int, int]) -> Array | None:
        """Where each output pixel comes from, in pixels (x right, y down) from the centre: shape (b, 2, 3), or None.

        `u` are uniform numbers, shape (b, draws); `size` is (height, width) of the image. Where lines do not stay
        parallel, the shape is (b, 3, 3), in homogeneous coordinates.
        """
        return None

    def light(self, u: Array) -> tuple[Array, Array] | None:
        """Factor and summand for pixels in [0, 1], each of shape (b,); None if it leaves them alone."""
        return None

    def colour(self, u: Array) -> Array | None:
        """By draws `u`, matrices (b, 3, 3) for pixels of three channels, which leave grey as it is; None for none."""
        return None

    def change(self, x: Tensor, u: Array) -> Tensor:
        """What none of the others says: of pixels `x` in [0, 1], (b, c, h, w) at the model's size, and draws `u`."""
        return x

    def blanked(self, u: Array, size: tuple[int, int]) -> Array | None:
        """Rectangles to blank by draws `u` at a `size`, (b, k, 4): top, left, bottom, right in pixels; None: none."""
        return None


def _matrices(xx: Number, xy: Number, yx: Number, yy: Number, x: Number = 0.0, y: Number = 0.0) -> Array:
    """Matrices ((xx, xy, x), (yx, yy, y)), shape (n, 2, 3); each entry is one number or n of them."""
    return np.stack(np.broadcast_arrays(xx, xy, x, yx, yy, y), -1).reshape(-1, 2, 3)


def _shown(x: Number, y: Number, at: Array, size: tuple[int, int]) -> Array:
    """Matrices that show the shares `x` and `y` of the two sides; `at`, shape (n, 2) in [0, 1), says where they lie."""
    free_x, free_y = (1.0 - x) * size[1] / 2, (1.0 - y) * size[0] / 2
    return _matrices(x, 0.0, 0.0, y, free_x * (2 * at[:, 0] - 1), free_y * (2 * at[:, 1] - 1))


@dataclass(frozen=True)
class Flip(Transform):
    """Mirror left and right with probability `p`."""

    p: float = 0.5
    draws: ClassVar[int] = 1
    exact: ClassVar[bool] = True

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        return _matrices(np.where(u[:, 0] < self.p, -1.0, 1.0), 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Dihedral(Transform):
    """One of the eight ways to lay a square down: mirrored or not, turned by 0, 90, 180 or 270 degrees."""

    draws: ClassVar[int] = 1
    exact: ClassVar[bool] = True

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        # an image that is not square is only mirrored along its two directions
        way = (u[:, 0] * 8).astype(np.int64)
        x, y = np.where(way & 1, -1.0, 1.0), np.where(way & 2, -1.0, 1.0)
        swap = (way & 4 != 0) & (size[0] == size[1])
        return _matrices(np.where(swap, 0, x), np.where(swap, x, 0), np.where(swap, y, 0), np.where(swap, 0, y))


@dataclass(frozen=True)
class Rotate(Transform):
    """Turn by up to `degrees` either way with probability `p`; what comes in from outside is reflected."""

    degrees: float = 10.0
    p: float = 0.75
    draws: ClassVar[int] = 2

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        # positive angles turn the image anticlockwise, as torchvision's do
        angle = np.where(u[:, 0] < self.p, np.deg2rad(self.degrees) * (2 * u[:, 1] - 1), 0.0)
        cos, sin = np.cos(angle), np.sin(angle)
        return _matrices(cos, -sin, sin, cos)


@dataclass(frozen=True)
class Zoom(Transform):
    """Enlarge by a factor between 1 and `max` with probability `p`, about a random point."""

    max: float = 1.1
    p: float = 0.75
    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max < 1.0:
            raise ArgumentError(f"Zoom(max) must be at least 1, got {self.max}")

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        shrink = 1.0 / np.where(u[:, 0] < self.p, 1.0 + (self.max - 1.0) * u[:, 1], 1.0)
        return _shown(shrink, shrink, u[:, 2:], size)


@dataclass(frozen=True)
class Shift(Transform):
    """Move by up to `max` of the width and of the height with probability `p`."""

    max: float = 0.1
    p: float = 0.75
    draws: ClassVar[int] = 3

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        far = np.where(u[:, 0] < self.p, self.max, 0.0)
        return _matrices(1.0, 0.0, 0.0, 1.0, far * (2 * u[:, 1] - 1) * size[1], far * (2 * u[:, 2] - 1) * size[0])


@dataclass(frozen=True)
class RandomResizedCrop(Transform):
    """Cut out a part of random area and proportions and stretch it to the size (arXiv 1409.4842).

    `min_area` is the smallest share of the area, `ratio` the range of width over height, on a logarithmic scale.
    """

    min_area: float = 0.35
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        if not 0.0 < self.min_area <= 1.0:
            raise ArgumentError(f"min_area must be above 0 and at most 1, got {self.min_area}")
        if not 0.0 < self.ratio[0] <= self.ratio[1]:
            raise ArgumentError(f"ratio must be two positive numbers in rising order, got {self.ratio}")

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        area = self.min_area + (1.0 - self.min_area) * u[:, 0]
        low, high = (math.log(r) for r in self.ratio)
        stretch = np.exp((low + (high - low) * u[:, 1]) / 2)
        x, y = (np.minimum(np.sqrt(area) * s, 1.0) for s in (stretch, 1.0 / stretch))
        return _shown(x, y, u[:, 2:], size)


@dataclass(frozen=True)
class Light(Transform):
    """Change brightness by up to `brightness` (of the full range) and contrast by a factor up to 1 + `contrast`.

    Contrast is about mid-grey and as often weaker as stronger; each happens with probability `p`.
    """

    brightness: float = 0.05
    contrast: float = 0.05
    p: float = 0.75
    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.brightness, self.contrast) < 0:
            raise ArgumentError(f"{self}: brightness and contrast must be at least 0")

    def light(self, u: Array) -> tuple[Array, Array]:
        add = np.where(u[:, 0] < self.p, self.brightness * (2 * u[:, 1] - 1), 0.0)
        factor = np.where(u[:, 2] < self.p, (1.0 + self.contrast) ** (2 * u[:, 3] - 1), 1.0)
        return factor, add + 0.5 * (1.0 - factor)


@dataclass(frozen=True)
class Erase(Transform):
    """Blank `n` squares at random places, each with probability `p` (Cutout, arXiv 1708.04552).

    `size` is their side, as a share of the image's shorter side.
    """

    n: int = 1
    size: float = 0.25
    p: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1 or not 0.0 < self.size <= 1.0:
            raise ArgumentError(f"Erase needs n >= 1 and 0 < size <= 1, got n={self.n}, size={self.size}")

    @property
    def draws(self) -> int:  # type: ignore[override]
        """Three numbers a square."""
        return 3 * self.n

    def blanked(self, u: Array, size: tuple[int, int]) -> Array:
        # the centre is anywhere, so a square may reach over the edge
        draws = u.reshape(len(u), self.n, 3)
        half = np.where(draws[..., 0] < self.p, self.size * min(size) / 2, 0.0)
        y, x = draws[..., 1] * size[0], draws[..., 2] * size[1]
        return np.rint(np.stack([y - half, x - half, y + half, x + half], -1))


@dataclass(frozen=True)
class ModuleTransform(Transform):
    """A transform of torchvision (v2), or any module that takes one uint8 image (c, h, w) and gives one of that shape.

    It gets images one by one, at the model's size, after whatever moves their pixels; torch's generator is seeded by
    what the images are. Floats that it gives are taken to be in [0, 1].
    """

    module: nn.Module
    draws: ClassVar[int] = 1

    def change(self, x: Tensor, u: Array) -> Tensor:
        out, pixels = torch.empty_like(x), x.mul(255).round_().clamp_(0, 255).byte()
        with keyed.scoped_rng():
            for row, draw in enumerate(u[:, 0]):
                keyed.seed_global("transform", int(draw * 2**53))
                made = self.module(pixels[row])
                if not isinstance(made, Tensor) or made.shape != x.shape[1:]:
                    got = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
                    raise ArgumentError(
                        f"{type(self.module).__name__} must make of an image of shape {tuple(x.shape[1:])} one of that "
                        f"shape, and gave {got}; leave out what changes the size or packs images into something else"
                    )
                out[row] = made if made.is_floating_point() else made / 255
        return out


PRESETS: dict[str, tuple[Transform, ...]] = {
    "none": (),
    "basic": (Rotate(10.0, p=0.75), Light(0.05, 0.05)),
    "side_on": (Flip(), Rotate(10.0, p=0.75), Zoom(1.1), Light(0.05, 0.05)),
    "top_down": (Dihedral(), Rotate(10.0, p=0.75), Zoom(1.1), Light(0.05, 0.05)),
}

Augment = str | Sequence[Transform | nn.Module] | None


def resolve(augment: Augment) -> tuple[Transform, ...]:
    """The transforms of a preset's name, or of a list.

    `augment` is "none", "basic" (rotation and light), "side_on" (also mirrored and enlarged: things photographed from
    the side), "top_down" (also turned in eight ways: seen from above), or a list of transforms, torchvision's (v2)
    among them.

    >>> resolve("basic")
    (Rotate(degrees=10.0, p=0.75), Light(brightness=0.05, contrast=0.05, p=0.75))
    """
    if augment is None:
        return ()
    if isinstance(augment, str):
        if augment not in PRESETS:
            raise ArgumentError(f"unknown augment {augment!r}. {did_you_mean(augment, PRESETS)}")
        return PRESETS[augment]
    if not isinstance(augment, Transform | nn.Module | Sequence):
        raise ArgumentError(f"augment must be one of {[*PRESETS]}, or a list of transforms, got {augment!r}")
    given: tuple[Any, ...] = (augment,) if isinstance(augment, Transform | nn.Module) else tuple(augment)
    chosen = tuple(ModuleTransform(t) if isinstance(t, nn.Module) else t for t in given)
    for t in chosen:
        if not isinstance(t, Transform):
            hint = f"; write {t.__name__}()" if isinstance(t, type) and issubclass(t, Transform) else ""
            raise ArgumentError(f"augment must list transforms such as Flip() or Rotate(10), got {t!r}{hint}")
    return chosen


@dataclass(frozen=True)
class BatchStage:
    """What happens to a whole batch on the model's device.

    >>> stage = BatchStage((8, 8), resolve("side_on"), mean=(0.5,), std=(0.5,))
    >>> x = torch.full((2, 1, 8, 8), 255, dtype=torch.uint8)
    >>> stage.plain(x).unique(), stage.augmented(x, torch.tensor([4, 7]), seed=0, epoch=0).shape
    (tensor([1.]), torch.Size([2, 1, 8, 8]))
    """

    size: tuple[int, int]  # (height, width) of what the model gets
    transforms: tuple[Transform, ...] = ()  # in this order, in the augmented views only
    mean: tuple[float, ...] = IMAGENET_MEAN  # per channel, for pixels in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    channels_last: bool = True  # the memory format of the result, which convolutions are quicker with
    border: Border = "reflection"  # what comes in from outside; "mean" for boxes, whose objects nothing may double

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ArgumentError(f"mean and std need one number per channel each, got {self.mean} and {self.std}")
        if min(self.std) <= 0:
            raise ArgumentError(f"std must be above 0, got {self.std}")
        if self.border not in get_args(Border):
            raise ArgumentError(f"unknown border {self.border!r}. {did_you_mean(str(self.border), get_args(Border))}")

    @property
    def interpolates(self) -> bool:
        """Whether the augmented views sample between pixels, and so want the whole image at working size."""
        return any(type(t).matrix is not Transform.matrix and not t.exact for t in self.transforms)

    def plain(self, x: Tensor) -> Tensor:
        """(x / 255 - mean) / std, after shrinking if `x` (uint8, (b, c, h, w)) is larger than the size."""
        same = tuple(x.shape[-2:]) == self.size

        def shrunk(rows: slice) -> Tensor:
            y = x[rows].float()
            return y if same else F.interpolate(y, self.size, mode="bilinear", antialias=True)

        return self._lit(x, shrunk, _Light(np.ones(len(x)), np.zeros(len(x))))

    def augmented(self, x: Tensor, index: npt.ArrayLike | Tensor, seed: int, epoch: int, view: int = 0) -> Tensor:
        """The batch (uint8, (b, c, h, w)) with each item changed in its own way.

        `index`, shape (b,), says which item of the data each row is. The result is float32 of shape (b, c, *size); its
        row i depends on `x[i]`, `index[i]`, seed, epoch and view only.
        """
        return self._augmented(x, self._drawn(x, index, seed, epoch, view), lambda motion, rows: None)

    def augmented_with(
        self, x: Tensor, target: Tensor, moving: Moving, index: npt.ArrayLike | Tensor, seed: int, epoch: int,
        view: int = 0,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The batch as `augmented` gives it, and its `target`, (b, ...), `moving` with the images."""
        parts: list[Tensor] = []
        draws = self._drawn(x, index, seed, epoch, view)
        out = self._augmented(x, draws, lambda motion, rows: parts.append(moving.move(target[rows], motion)))
        return out, torch.cat(parts) if parts else target

    def _drawn(self, x: Tensor, index: npt.ArrayLike | Tensor, seed: int, epoch: int, view: int) -> _Draws:
        """What happens to each of some images."""
        items = np.asarray(index)
        shape = (int(x.shape[-2]), int(x.shape[-1]))
        draws = _Draws(_Light(np.ones(len(items)), np.zeros(len(items))), self._cut(items, shape, seed, epoch, view))
        for place, t in enumerate(self.transforms):
            u = keyed.uniform(items, t.draws, seed, "augment", type(t).__name__, place, epoch, view)
            new = t.matrix(u, shape)
            if new is not None:
                draws.matrix = new if draws.matrix is None else compose(draws.matrix, new)
            draws.light = draws.light.then(t.light(u), t.colour(u) if x.shape[1] == 3 else None)
            blank = t.blanked(u, self.size)
            if blank is not None:
                draws.blanks.append(blank)
            if type(t).change is not Transform.change:
                draws.changes.append((draws.light, t, u))
                draws.light = _Light(np.ones(len(items)), np.zeros(len(items)))
        return draws

    def _augmented(self, x: Tensor, draws: _Draws, moved: Callable[[Motion, slice], None]) -> Tensor:
        """The batch after the `draws`; `moved` is told how each few of the images were moved."""
        shape = (int(x.shape[-2]), int(x.shape[-1]))
        exact = shape == self.size and not self.interpolates
        laid = lay(x, draws.matrix) if exact and draws.matrix is not None else x
        matrix = np.tile(np.eye(2, 3), (len(x), 1, 1)) if draws.matrix is None else draws.matrix
        fill = None
        if self.border == "mean":
            fill = torch.tensor(self.mean, device=x.device).mul_(255).view(-1, 1, 1)

        def drawn(rows: slice) -> Tensor:
            motion = Motion(matrix[rows], shape, self.size, exact, x.device, fill is None)
            y = laid[rows].float()
            y = y if exact else sample(y, motion.grid, fill)
            if draws.matrix is not None:
                moved(motion, rows)
            for before, t, u in draws.changes:
                y = t.change(before.on(y, rows, np.ones(y.shape[1]), np.zeros(y.shape[1])), u[rows]).mul(255)
            return y

        out = self._lit(x, drawn, draws.light)
        return _blank(out, np.concatenate(draws.blanks, 1)) if draws.blanks else out

    def _cut(self, items: Array, shape: tuple[int, int], seed: int, epoch: int, view: int) -> Array | None:
        """Where the model's size lies in larger images: anywhere. `RandomResizedCrop` chooses for itself."""
        if shape == self.size or any(isinstance(t, RandomResizedCrop) for t in self.transforms):
            return None
        at = keyed.uniform(items, 2, seed, "augment", "cut", epoch, view)
        return _shown(self.size[1] / shape[1], self.size[0] / shape[0], at, shape)

    def denormalise(self, x: Tensor) -> Tensor:
        """Floats as the model gets them, back to pixels in [0, 1] for looking at."""
        mean, std = (torch.tensor(v, device=x.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return (x * std + mean).clamp_(0, 1)

    def _lit(self, x: Tensor, drawn: Callable[[slice], Tensor], light: _Light) -> Tensor:
        """Light, colour, division by 255 and normalisation at once.

        `drawn` gives the floats of some rows, which are used nowhere else. On a CPU a few images are made at a time:
        what lies between bytes and result then stays in the cache, and a batch of 64 images of 224x224 takes a third of
        the time.
        """
        channels = x.shape[1]
        if channels != len(self.mean):
            raise ArgumentError(f"mean and std are for {len(self.mean)} channels, the images have {channels}")
        mean, std = np.array(self.mean), np.array(self.std)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        out = torch.empty((len(x), channels, *self.size), device=x.device, memory_format=layout)
        numbers = channels * math.prod(x.shape[-2:]) + (channels + 2) * math.prod(self.size)  # the grid is 2 of them
        few = max(IN_CACHE // numbers, torch.get_num_threads())
        at_once = few if x.device.type == "cpu" else max(len(x), 1)
        for start in range(0, len(x), at_once):
            rows = slice(start, start + at_once)
            out[rows] = light.on(drawn(rows), rows, 1 / std, -mean / std)
        return out


@dataclass(frozen=True)
class _Light:
    """Factor and summand, shape (b,), for pixels in [0, 1], after a matrix (b, 3, 3) where there is one."""

    factor: Array
    summand: Array
    matrix: Array | None = None

    def then(self, light: tuple[Array, Array] | None, colour: Array | None) -> _Light:
        """With more after it; matrices leave grey as it is, so that their order with light does not count."""
        factor, summand = (1.0, 0.0) if light is None else light
        matrix = self.matrix if colour is None else colour if self.matrix is None else colour @ self.matrix
        return _Light(self.factor * factor, self.summand * factor + summand, matrix)

    def on(self, y: Tensor, rows: slice, scale: Array, bias: Array) -> Tensor:
        """Some rows of 0 to 255, lit, then times `scale` and plus `bias` of each channel; `y` is used up."""
        factor = self.factor[rows, None] / 255.0 * scale
        summand = self.summand[rows, None] * scale + bias
        w, b = (torch.from_numpy(v.astype(np.float32)).to(y.device, non_blocking=True) for v in (factor, summand))
        if self.matrix is None:
            return y.mul_(w[..., None, None]).add_(b[..., None, None])
        m = torch.from_numpy(self.matrix[rows].astype(np.float32)).to(y.device, non_blocking=True) * w[..., None]
        return torch.baddbmm(b[..., None], m, y.flatten(2)).view(y.shape)


@dataclass
class _Draws:
    """What happens to each image of a batch: how it is lit and moved, what changes it, what is blanked."""

    light: _Light
    matrix: Array | None
    changes: list[tuple[_Light, Transform, Array]] = field(default_factory=list)
    blanks: list[Array] = field(default_factory=list)


def _blank(y: Tensor, boxes: Array) -> Tensor:
    """Set the boxes to 0, the mean of a normalised image."""
    b = torch.from_numpy(boxes.astype(np.float32)).to(y.device)[..., None]
    rows, columns = (torch.arange(s, device=y.device) for s in y.shape[-2:])
    in_rows = (rows >= b[:, :, 0]) & (rows < b[:, :, 2])
    in_columns = (columns >= b[:, :, 1]) & (columns < b[:, :, 3])
    inside = (in_rows[:, :, :, None] & in_columns[:, :, None, :]).any(1)
    return y.masked_fill_(inside[:, None], 0.0)
