"""From a body of images to its maps of several sizes, for decoders: by calling its layers in turn, without hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..keyed import scoped_rng
from ..train.gate import Gate

FINEST, COARSEST = 4, 32  # times smaller than the image
# What a forward may raise on an image that does not suit it, or that is no chain of children.
_ERRORS = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, NotImplementedError, AttributeError)


class Pyramid(nn.Module):
    """A body that gives its maps (b, c, h, w), the finest first. `pyramid` makes one.

    Attributes:
        channels: of the maps.
        strides: how many times smaller than the image they are.
    """

    def __init__(self, body: nn.Module, take: Sequence[int], shapes: Sequence[tuple[int, int, bool]]) -> None:
        super().__init__()
        self.body = body
        self._take = tuple(take)
        self.channels = tuple(c for c, _, _ in shapes)
        self.strides = tuple(s for _, s, _ in shapes)
        self._last = tuple(last for _, _, last in shapes)  # whether channels come last

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of images (b, 3, h, w)."""
        maps = self.chosen(x)
        return [m.permute(0, 3, 1, 2) if last else m for m, last in zip(maps, self._last, strict=True)]

    def chosen(self, x: Tensor) -> list[Tensor]:
        """The outputs of the layers that were chosen."""
        found, end = {}, max(self._take)
        for k, layer in enumerate(_chain(self.body)):
            x = layer(x)
            if k in self._take:
                found[k] = x
            if k == end:
                break
        return [found[k] for k in self._take]  # a body may enlarge its maps again


class TimmPyramid(Pyramid):
    """The same of a net of timm's, which can give its maps itself."""

    def chosen(self, x: Tensor) -> list[Tensor]:
        """See `Pyramid.chosen`."""
        return _intermediates(self.body, x, list(self._take))


def pyramid(body: nn.Module, sample: Tensor | None = None, finest: int = FINEST) -> Pyramid:
    """A body with its maps, from `finest` to 32 times smaller than the image, one of each size: the last of that size.

    Args:
        body: everything before the pooling: a chain of layers, or a net of timm's; it is not copied.
        sample: images (b, c, h, w) that the body takes; None tries blank ones.
        finest: how many times smaller than the image the finest map is.

    Raises:
        ArgumentError: the body gives no maps, or is no chain.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1))
    >>> maps = pyramid(net, torch.zeros(1, 3, 16, 24))
    >>> maps.channels, maps.strides, [tuple(m.shape) for m in maps(torch.zeros(1, 3, 16, 24))]
    ((4, 8), (4, 8), [(1, 4, 4, 6), (1, 8, 2, 3)])
    """
    samples = [sample] if sample is not None else [_blank(body, 128, 192), _blank(body, 224, 224)]
    for of_timm in (True, False):
        if of_timm and not callable(getattr(body, "forward_intermediates", None)):
            continue
        outputs = _outputs_of_timm if of_timm else _outputs_of_chain
        for x in samples:
            try:
                with Gate().evaluating(body), scoped_rng():
                    found = outputs(body, x)
            except _ERRORS as error:
                failure = error
                continue
            chosen = _chosen(found, x, finest)
            if chosen:
                take, shapes = zip(*((k, shape) for k, shape in chosen), strict=True)
                return (TimmPyramid if of_timm else Pyramid)(body, take, shapes)
            failure = ArgumentError(f"its layers give {[tuple(f.shape) for f in found if isinstance(f, Tensor)][-5:]}")
    raise ArgumentError(
        f"no maps of several sizes come out of this {type(body).__name__}: {str(failure)[:300]}. A decoder needs a "
        "body that is a chain of layers which give maps (b, c, h, w), such as a ResNet or an EfficientNet: of a net of "
        "your own, pass cut= so that nn.Sequential of its stages is left"
    ) from failure


def _blank(body: nn.Module, height: int, width: int) -> Tensor:
    like = next((p for p in body.parameters() if p.is_floating_point()), torch.empty(0))
    ramp = torch.linspace(-1, 1, 3 * height * width, device=like.device, dtype=like.dtype)
    return ramp.reshape(1, 3, height, width)


def _chain(body: nn.Module) -> Iterator[nn.Module]:
    """The layers of a body in turn; chains in it are opened."""
    for child in body.children():
        if isinstance(child, nn.Sequential) and type(child).forward is nn.Sequential.forward:
            yield from _chain(child)
        else:
            yield child


def _outputs_of_chain(body: nn.Module, x: Tensor) -> list[Any]:
    outputs: list[Any] = []
    y: Any = x
    for layer in _chain(body):
        y = layer(y)
        outputs.append(y)
    whole = body(x)
    same = isinstance(whole, Tensor) and isinstance(y, Tensor) and whole.shape == y.shape
    if not same or not (whole.is_meta or torch.allclose(whole, y, rtol=1e-3, atol=1e-4)):
        raise ArgumentError("its forward does more than call its children in turn")
    return outputs


def _intermediates(body: nn.Module, x: Tensor, take: list[int] | None) -> list[Tensor]:
    ask: Callable[..., Any] = getattr(body, "forward_intermediates")  # noqa: B009 - only timm's nets have it
    return list(ask(x, indices=take, stop_early=take is not None, intermediates_only=True))


def _outputs_of_timm(body: nn.Module, x: Tensor) -> list[Any]:
    return list(_intermediates(body, x, None))


def _chosen(found: Sequence[Any], x: Tensor, finest: int) -> list[tuple[int, tuple[int, int, bool]]]:
    """The last output of each size that is wanted: its number, and (channels, stride, whether channels come last)."""
    of_stride: dict[int, tuple[int, tuple[int, int, bool]]] = {}
    for k, one in enumerate(found):
        if not isinstance(one, Tensor) or one.ndim != 4:
            continue
        # Which two of the three dimensions are the sides? Where both ways could be, those that are nearer to halves.
        of_sides = _halvings(one.shape[2:], x), _halvings(one.shape[1:3], x)
        last = of_sides[1][1] < of_sides[0][1]
        halvings, off = of_sides[last]
        if off < math.inf and finest <= 2**halvings <= COARSEST:
            of_stride[2**halvings] = k, (int(one.shape[3 if last else 1]), 2**halvings, last)
    return [of_stride[stride] for stride in sorted(of_stride)]


def _halvings(sides: Sequence[int], x: Tensor) -> tuple[int, float]:
    """How often both sides of images were halved, and how far from that they are; infinitely where not alike."""
    logs = [math.log2(n / side) if side else math.inf for n, side in zip(x.shape[2:], sides, strict=True)]
    if math.inf in logs or len({round(log) for log in logs}) > 1:
        return 0, math.inf
    return round(logs[0]), sum(abs(log - round(log)) for log in logs)
