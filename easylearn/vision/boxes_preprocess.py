"""BoxPreprocessor: images in which boxes are looked for; their borders are the mean, since reflections are objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data.preprocess import RuntimeInputs
from .augment import BatchStage
from .boxes_geometry import moved_boxes
from .boxes_torchvision import TorchvisionDetector
from .decode import ItemStage
from .dense import DensePreprocessor, Laid
from .warp import Motion

if TYPE_CHECKING:
    from typing_extensions import Self

SIDES = ((-1.0, 0.0), (0.0, -1.0), (1.0, 0.0), (0.0, 1.0))  # left, above, right, below


@dataclass(frozen=True)
class BoxPreprocessor(DensePreprocessor):
    """A `DensePreprocessor` for boxes."""

    kind: ClassVar[str] = "boxes"

    @cached_property
    def item_stage(self) -> ItemStage:
        """See `ImagePreprocessor.item_stage`."""
        return replace(super().item_stage, fill=self._fill)

    @cached_property
    def batch_stage(self) -> BatchStage:
        """See `ImagePreprocessor.batch_stage`."""
        return replace(super().batch_stage, border="mean")

    @property
    def _fill(self) -> tuple[int, ...]:
        assert self.mean is not None
        return tuple(round(255 * m) for m in self.mean)

    def for_model(self, model: nn.Module) -> Self:
        """See `Preprocessor.for_model`."""
        if isinstance(model, TorchvisionDetector):
            return replace(self, mean=model.stats[0], std=model.stats[1])
        found: Any = super().for_model(model)
        return found  # type: ignore[no-any-return]

    def undo_view(self, k: int, outputs: Tensor) -> Tensor:
        """See `Preprocessor.undo_view`: maps, whose sides change places, or boxes (n, k, 6)."""
        way = self.ways[k - 1]
        if outputs.ndim == 3:
            return _boxes_undone(outputs, way, self.item_stage.size)
        laid = way.undone(outputs)
        back = np.array(way.rows)[:, :2].T
        order = [SIDES.index((float((back @ side)[0]) + 0.0, float((back @ side)[1]) + 0.0)) for side in SIDES]
        return torch.cat([laid[:, :-4], laid[:, -4:][:, order]], 1)

    def runtime_inputs(self, inputs: Sequence[Tensor]) -> RuntimeInputs:
        """See `Preprocessor.runtime_inputs`."""
        found = super().runtime_inputs(inputs)
        return replace(found, about={**found.about, "pad": list(self._fill)})


def _boxes_undone(found: Tensor, way: Laid, size: tuple[int, int]) -> Tensor:
    """Boxes (n, k, 6) of a laid view where they are in the plain one."""
    inverse = np.array(way.rows)
    inverse[:, :2] = inverse[:, :2].T
    boxes, _ = moved_boxes(found[..., :4].double().numpy(), np.tile(inverse, (len(found), 1, 1)), size, size)
    return torch.cat([torch.from_numpy(boxes).to(found.dtype), found[..., 4:]], -1)


@dataclass(frozen=True)
class MovingBoxes:
    """Boxes (b, m, 5) that move with their images, see `Moving`: what is not left has the class -1 afterwards."""

    def move(self, target: Tensor, motion: Motion) -> Tensor:
        """See `Moving.move`."""
        given = target.double().cpu().numpy()
        boxes, left = moved_boxes(given[..., :4], motion.matrix, motion.shape, motion.size)
        label = np.where(left, given[..., 4], -1.0)
        out = np.concatenate([np.where(label[..., None] >= 0, boxes, 0.0), label[..., None]], -1)
        return torch.from_numpy(out.astype(np.float32)).to(target.device)
