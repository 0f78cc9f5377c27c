"""Images out of images: the colours of grey ones, sharp ones of coarse ones, or whatever pairs show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..colours import AB_SCALE, psnr, wanted_of
from ..errors import ArgumentError, DataError
from ..lab import coloured
from ..metrics import Metric
from .base import Task
from .mask_predictions import placed
from .predictions import Prediction

if TYPE_CHECKING:
    from PIL import Image

COLOUR, PIXELS = ("a", "b"), ("red", "green", "blue")
_LIGHT = 145  # the grey of L = 60
_AT_ONCE = 16  # images whose outputs are enlarged together


@dataclass(frozen=True, eq=False, repr=False)
class ImagePrediction(Prediction):
    """The image that a model makes of one; see `Prediction`. `probs` has shape (2 or 3, h, w)."""

    def to_image(self, grey: Image.Image | None = None) -> Image.Image:
        """The image as Pillow has it, at the size of what was given.

        Args:
            grey: the image whose colours are predicted; without it they are shown at one lightness.
        """
        from PIL import Image

        values = placed(self.probs, self.place)
        if len(self.names) == len(COLOUR):
            size = values.shape[1:] if grey is None else (grey.height, grey.width)
            values = F.interpolate(values[None], size, mode="bilinear", align_corners=False)[0]
            pixels = np.full((*size, 3), _LIGHT, np.uint8) if grey is None else np.array(grey.convert("RGB"))
            return Image.fromarray(coloured(pixels, values.numpy()))
        return Image.fromarray(values.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy())

    def __repr__(self) -> str:
        means = ", ".join(f"{n} {float(v.mean()):.3g}" for n, v in zip(self.names, self.probs, strict=True))
        return f"ImagePrediction({' x '.join(map(str, self.probs.shape[1:]))}: {means})"


@final
@dataclass(frozen=True, repr=False)
class ImageTask(Task):
    """An image out of an image: squared error of each pixel, PSNR.

    Names are ("a", "b") for the colours of grey images, as Lab has them, or ("red", "green", "blue"). Outputs have the
    shape (n, 2 or 3, h, w), at any size; targets are images, uint8 (n, 3, height, width).

    Args:
        names, metrics, loss_fn: see `Task`; a loss of your own gets both at the targets' size, a and b divided by 100.
    """

    kind: ClassVar[str] = "image"
    noun: ClassVar[str] = "channel"
    of_pixels: ClassVar[bool] = True
    predicts_numbers: ClassVar[bool] = True
    prediction: ClassVar[type[Any] | None] = ImagePrediction
    instead: ClassVar[str] = "images have none: use top_losses()"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.names not in (COLOUR, PIXELS):
            raise ArgumentError(f"an image has the channels {COLOUR} or {PIXELS}, got {self.names}")

    @property
    def scale(self) -> float:
        """How much larger the numbers are than the model's outputs."""
        return AB_SCALE if self.names == COLOUR else 1.0

    def default_metrics(self) -> tuple[Metric, ...]:
        return (psnr,)

    def takes(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 3 and shape[0] == self.n_out

    def in_table(self, probs: Tensor) -> Tensor:
        """See `Task.in_table`: the mean of each channel."""
        return probs.flatten(2).mean(2)

    def compared(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        wanted = wanted_of(target, self.n_out) / self.scale
        if logits.shape[2:] != wanted.shape[2:]:
            logits = F.interpolate(logits, wanted.shape[2:], mode="bilinear", align_corners=False)
        return logits, wanted

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits - target).square().flatten(1).mean(1)

    def item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Task.item_losses`: a few at a time, as their outputs at the targets' size are many."""
        some = [
            Task.item_losses(self, logits[a : a + _AT_ONCE], target[a : a + _AT_ONCE])
            for a in range(0, len(logits), _AT_ONCE)
        ]
        return torch.cat(some) if some else logits.new_zeros(0)

    def activate(self, logits: Tensor) -> Tensor:
        return logits * self.scale if self.names == COLOUR else logits.clamp(0, 1)

    def outputs_for(self, probs: Tensor) -> Tensor:
        return probs / self.scale

    def first_outputs(self, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Task.first_outputs`: the mean colour of all pixels; `weights` are for items."""
        means = [wanted_of(one[None], self.n_out).mean((0, 2, 3)) for one in target]
        return torch.stack(means).double().mean(0) / self.scale

    def check_target(self, target: Tensor) -> Tensor:
        if target.ndim != 4 or target.shape[1] != 3 or target.dtype != torch.uint8:
            raise DataError(f"images are uint8 of shape (n, 3, h, w), got {tuple(target.shape)} {target.dtype}")
        return target

    def soft_target(self, target: Tensor) -> Tensor:
        raise ArgumentError("images that are targets are not mixed by MixUp; CutMix takes them along")

    def decode(self, probs: Tensor) -> list[Any]:
        """The mean of each channel."""
        return [tuple(row) for row in self.in_table(probs).tolist()]

    def decode_target(self, target: Tensor) -> list[Any]:
        return [tuple(wanted_of(one[None], self.n_out).mean((0, 2, 3)).tolist()) for one in target]

    def in_words(self, label: Any) -> str:
        return ", ".join(f"{name} {value:.3g}" for name, value in zip(self.names, label, strict=True))

    @property
    def row_names(self) -> list[str]:
        """See `Task.row_names`."""
        return list(self.names)

    def row(self, label: Any, probs: Tensor) -> list[str]:
        return [f"{value:.8g}" for value in self.in_table(probs[None])[0].tolist()]

    @property
    def summary(self) -> str:
        """See `Task.summary`."""
        return "the colours of each pixel" if self.names == COLOUR else "an image"

    def title(self, probs: Tensor, target: Tensor) -> tuple[str, bool]:
        """See `Task.title`: how near the image is."""
        return f"PSNR {psnr(probs[None], target[None]):.1f} dB", True

    def by_name(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        """See `Task.by_name`: of each channel the mean error (bias), mae and rmse."""
        rows = []
        for one, image in zip(probs, target, strict=True):
            out, wanted = self.compared(one[None], image[None])
            error = (out - wanted * self.scale)[0].flatten(1).double()
            rows.append(torch.stack([error.mean(1), error.abs().mean(1), error.square().mean(1)]))
        bias, mae, mse = torch.stack(rows).mean(0)
        return {"bias": bias.tolist(), "mae": mae.tolist(), "rmse": mse.sqrt().tolist()}

    def item_columns(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        return {"psnr": [psnr(p[None], t[None]) for p, t in zip(probs, target, strict=True)]}
