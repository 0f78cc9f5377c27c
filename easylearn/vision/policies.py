"""Colours, perspective, blur, and policies that draw one change or several out of many for each image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, check_number, check_whole
from .augment import Transform
from .warp import Array

LUMA = np.array([0.299, 0.587, 0.114])  # how bright red, green and blue are (ITU-R BT.601)
STRONGEST = 30  # the highest magnitude of `RandAugment`


@dataclass(frozen=True)
class Saturation(Transform):
    """Make colours stronger by a factor up to 1 + `max`, or weaker as often, with probability `p`."""

    max: float = 0.3
    p: float = 0.75
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("max", self.max, "at least 0")

    def colour(self, u: Array) -> Array:
        factor = np.where(u[:, 0] < self.p, (1.0 + self.max) ** (2 * u[:, 1] - 1), 1.0)[:, None, None]
        matrix: Array = factor * np.eye(3) + (1.0 - factor) * LUMA
        return matrix


@dataclass(frozen=True)
class Hue(Transform):
    """Turn colours about grey by up to `max` of the whole circle either way with probability `p`.

    It is a turn of the cube of colours about its grey diagonal: at thirds of the circle red becomes green or blue, as
    in the HSV model, and between them colours keep their mean, not their largest channel.
    """

    max: float = 0.05
    p: float = 0.75
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("max", self.max, "at least 0", "at most 0.5")

    def colour(self, u: Array) -> Array:
        turn = np.where(u[:, 0] < self.p, self.max * (2 * u[:, 1] - 1), 0.0)
        angle = (2 * np.pi * turn)[:, None, None]
        across = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
        return np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) / 3 + np.sin(angle) * across


@dataclass(frozen=True)
class Perspective(Transform):
    """See the image from aside with probability `p`: its corners move inwards by up to `max` of half a side.

    What comes in from outside is reflected.
    """

    max: float = 0.25
    p: float = 0.5
    draws: ClassVar[int] = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("max", self.max, "at least 0", "below 1")

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        moved = np.where(u[:, :1] < self.p, self.max * u[:, 1:], 0.0).reshape(-1, 4, 2)
        half = np.array([size[1], size[0]]) / 2
        corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * half
        return between(corners * (1 - moved), corners)


def between(seen: Array, corners: Array) -> Array:
    """The matrices (b, 3, 3) that take four points `seen`, (b, 4, 2), to the `corners`, (4, 2)."""
    x, y = seen[..., 0], seen[..., 1]
    one, none = np.ones_like(x), np.zeros_like(x)
    to_x, to_y = corners[:, 0], corners[:, 1]
    rows = [
        np.stack([x, y, one, none, none, none, -to_x * x, -to_x * y], -1),
        np.stack([none, none, none, x, y, one, -to_y * x, -to_y * y], -1),
    ]
    right = np.broadcast_to(np.concatenate([to_x, to_y]), (len(seen), 8))
    found = np.linalg.solve(np.concatenate(rows, 1), right[..., None])[..., 0]
    return np.concatenate([found, np.ones((len(seen), 1))], 1).reshape(-1, 3, 3)


@dataclass(frozen=True)
class Blur(Transform):
    """Blur with a Gaussian of a deviation between the two of `sigma`, in pixels, with probability `p`."""

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.sigma[0] <= self.sigma[1] < math.inf:
            raise ArgumentError(f"sigma must be two positive numbers in rising order, in pixels, got {self.sigma}")

    def change(self, x: Tensor, u: Array) -> Tensor:
        rows = np.flatnonzero(u[:, 0] < self.p)
        if len(rows):
            at = torch.from_numpy(rows).to(x.device)
            x[at] = blurred(x[at], self.sigma[0] + (self.sigma[1] - self.sigma[0]) * u[rows, 1], self.sigma[1])
        return x


def blurred(x: Tensor, sigma: Array, widest: float) -> Tensor:
    """Images (b, c, h, w), each blurred by its own deviation; the kernel reaches to three of the `widest`."""
    reach = min(math.ceil(3 * widest), *(s - 1 for s in x.shape[-2:]))  # what is reflected must be there
    k = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma[:, None]) ** 2)
    weights = torch.from_numpy((k / k.sum(1, keepdims=True)).astype(np.float32)).to(x.device)
    for axis, pad in ((-1, (reach, reach, 0, 0)), (-2, (0, 0, reach, reach))):
        wide, out = F.pad(x, pad, mode="reflect"), torch.zeros_like(x)
        for j in range(2 * reach + 1):
            out.addcmul_(wide.narrow(axis, j, x.shape[axis]), weights[:, j, None, None, None])
        x = out
    return x


# -- policies ----------------------------------------------------------------------------------------------------

MOVES = ("shear_x", "shear_y", "shift_x", "shift_y", "rotate")
PIXELS = ("brightness", "colour", "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize")
OPERATIONS = ("as it is", *MOVES, *PIXELS)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x
    return (x * torch.tensor(LUMA, dtype=x.dtype, device=x.device)[:, None, None]).sum(1, keepdim=True)


def _mix(x: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """Away from the `other` image, or towards it where `strength` is below 0."""
    return (x + (x - other) * strength).clamp_(0, 1)


def _smooth(x: Tensor) -> Tensor:
    """Each pixel and its eight neighbours, itself five times; the edges stay."""
    kernel = torch.ones(3, 3, device=x.device)
    kernel[1, 1] = 5.0
    inner = F.conv2d(x.flatten(0, 1)[:, None], (kernel / kernel.sum())[None, None])
    out = x.clone()
    out[..., 1:-1, 1:-1] = inner.view(*x.shape[:2], *inner.shape[-2:])
    return out


def _posterize(x: Tensor, bits: Tensor) -> Tensor:
    step = 2.0 ** (8 - bits)
    return ((x * 255).round_() / step).floor_() * step / 255


def _auto_contrast(x: Tensor) -> Tensor:
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-8), x)


def _equalize(x: Tensor) -> Tensor:
    """Levels of each channel as equally frequent as whole levels allow, as Pillow does it."""
    levels = (x * 255).round_().clamp_(0, 255).long().flatten(2).flatten(0, 1)
    counts = torch.zeros(len(levels), 256, dtype=torch.long, device=x.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    last = counts.gather(1, levels.amax(1, keepdim=True))
    step = (levels.shape[1] - last) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp_min(1)).clamp_max_(255)
    new = torch.where(step > 0, table.gather(1, levels), levels)
    return (new / 255).view(x.shape).to(x.dtype)


_CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda x, m: _mix(x, torch.zeros_like(x), m),
    "colour": lambda x, m: _mix(x, _grey(x), m),
    "contrast": lambda x, m: _mix(x, _grey(x).mean((1, 2, 3), keepdim=True), m),
    "sharpness": lambda x, m: _mix(x, _smooth(x), m),
    "posterize": _posterize,
    "solarize": lambda x, m: torch.where(x >= m, 1 - x, x),
    "auto_contrast": lambda x, _: _auto_contrast(x),
    "equalize": lambda x, _: _equalize(x),
}


def apply_operation(name: str, x: Tensor, strength: Array) -> Tensor:
    """What an operation of `PIXELS` makes of images (b, c, h, w) in [0, 1]; its `strength` has shape (b,).

    It is how far to go away from black, from grey, from the mean grey and from a smoothed image; how many bits to keep;
    from which value on to invert; of the last two nothing.
    """
    m = torch.from_numpy(np.asarray(strength, np.float32)).to(x.device).view(-1, 1, 1, 1)
    return _CHANGES[name](x.clamp(0, 1), m)


@dataclass(frozen=True)
class _Policy(Transform):
    """Operations of `OPERATIONS`, drawn for each image; the subclasses say which, and how strong."""

    ranges: ClassVar[dict[str, float]]
    bits: ClassVar[float]  # that posterizing takes away at most

    def chosen(self, u: Array) -> list[tuple[Array, Array, Array]]:
        """By draws `u`, operations in a row: number in `OPERATIONS`, strength in [0, 1], and 1 or -1, each (b,)."""
        raise NotImplementedError

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        out = np.tile(np.eye(3), (len(u), 1, 1))
        for which, strength, sign in self.chosen(u):
            for name in MOVES:
                rows = np.flatnonzero(which == OPERATIONS.index(name))
                out[rows] = out[rows] @ self._move(name, (strength * sign)[rows] * self.ranges[name], size)
        return out[:, :2]

    @staticmethod
    def _move(name: str, m: Array, size: tuple[int, int]) -> Array:
        one = np.tile(np.eye(3), (len(m), 1, 1))
        if name == "rotate":
            turn = np.deg2rad(m)
            one[:, 0, 0] = one[:, 1, 1] = np.cos(turn)
            one[:, 0, 1], one[:, 1, 0] = -np.sin(turn), np.sin(turn)
        else:
            place = {"shear_x": (0, 1), "shear_y": (1, 0), "shift_x": (0, 2), "shift_y": (1, 2)}[name]
            one[:, place[0], place[1]] = -m * {"shift_x": size[1], "shift_y": size[0]}.get(name, 1)
        return one

    def change(self, x: Tensor, u: Array) -> Tensor:
        for which, strength, sign in self.chosen(u):
            for name in PIXELS:
                rows = np.flatnonzero(which == OPERATIONS.index(name))
                if len(rows):
                    at = torch.from_numpy(rows).to(x.device)
                    x[at] = apply_operation(name, x[at], self._strength(name, strength[rows], sign[rows]))
        return x

    def _strength(self, name: str, strength: Array, sign: Array) -> Array:
        if name == "posterize":
            return 8 - np.rint(strength * self.bits)
        return 1 - strength if name == "solarize" else strength * sign * self.ranges.get(name, 0.0)


@dataclass(frozen=True)
class TrivialAugment(_Policy):
    """One operation of fourteen for each image, of any strength (TrivialAugment Wide, arXiv 2103.10158).

    They are: nothing, two shears, two shifts, a turn, brightness, colour, contrast, sharpness, fewer bits, inverted
    highlights, full contrast and levels equally frequent. There is nothing to set.
    """

    draws: ClassVar[int] = 3
    ranges: ClassVar[dict[str, float]] = {
        "shear_x": 0.99, "shear_y": 0.99, "shift_x": 32 / 224, "shift_y": 32 / 224, "rotate": 135.0,
        **dict.fromkeys(PIXELS[:4], 0.99),
    }  # fmt: skip
    bits: ClassVar[float] = 6.0

    def chosen(self, u: Array) -> list[tuple[Array, Array, Array]]:
        return [((u[:, 0] * len(OPERATIONS)).astype(int), u[:, 1], np.where(u[:, 2] < 0.5, -1.0, 1.0))]


@dataclass(frozen=True)
class RandAugment(_Policy):
    """Operations of `TrivialAugment` one after the other, all of one strength (arXiv 1909.13719).

    `n` is how many, `magnitude` how strong, from 0 to 30.
    """

    n: int = 2
    magnitude: float = 9.0
    ranges: ClassVar[dict[str, float]] = {
        "shear_x": 0.3, "shear_y": 0.3, "shift_x": 150 / 331, "shift_y": 150 / 331, "rotate": 30.0,
        **dict.fromkeys(PIXELS[:4], 0.9),
    }  # fmt: skip
    bits: ClassVar[float] = 4.0

    def __post_init__(self) -> None:
        check_whole("n", self.n)
        check_number("magnitude", self.magnitude, "at least 0", f"at most {STRONGEST}")

    @property
    def draws(self) -> int:  # type: ignore[override]
        """Two numbers an operation."""
        return 2 * self.n

    def chosen(self, u: Array) -> list[tuple[Array, Array, Array]]:
        strength = np.full(len(u), self.magnitude / STRONGEST)
        pairs = u.reshape(len(u), self.n, 2)
        signs = np.where(pairs[..., 1] < 0.5, -1.0, 1.0)
        return [((pairs[:, i, 0] * len(OPERATIONS)).astype(int), strength, signs[:, i]) for i in range(self.n)]
