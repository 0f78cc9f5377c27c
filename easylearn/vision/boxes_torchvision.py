"""torchvision's detectors as models of a learner: each has a loss of its own, and gives boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, WeightsError, did_you_mean
from ..keyed import scoped_rng
from ..nn import registry
from ..nn.groups import LayerGroup
from .archs import HALF_STATS, IMAGENET_STATS, Stats
from .model import Pretrained
from .weights import State, TorchvisionWeights, read_file

# By name, the number of the first class: those that tell objects from background by a class of its own keep 0 for it.
DETECTORS: Mapping[str, int] = {
    "fasterrcnn_resnet50_fpn": 1, "fasterrcnn_resnet50_fpn_v2": 1, "fasterrcnn_mobilenet_v3_large_fpn": 1,
    "fasterrcnn_mobilenet_v3_large_320_fpn": 1, "retinanet_resnet50_fpn": 0, "retinanet_resnet50_fpn_v2": 0,
    "fcos_resnet50_fpn": 0, "ssd300_vgg16": 1, "ssdlite320_mobilenet_v3_large": 1,
}  # fmt: skip
_SIDES = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}  # whose first boxes are laid out for one size
_STATS: Mapping[str, Stats] = {
    "ssd300_vgg16": ((0.48235, 0.45882, 0.40784), (1 / 255.0, 1 / 255.0, 1 / 255.0)),
    "ssdlite320_mobilenet_v3_large": HALF_STATS,
}
_ELSEWHERE = {"yolo": "ultralytics", "detr": "transformers", "rtmdet": "mmdetection", "efficientdet": "effdet"}


def check_detector(name: str, size: tuple[int, int]) -> None:
    """Refuse a name that torchvision has no detector of, and a size of images that it does not take."""
    if name not in DETECTORS:
        beside = next((where for word, where in _ELSEWHERE.items() if word in name.lower()), None)
        hint = f" {name} is of {beside}, under its own terms, and not of torchvision." if beside else ""
        raise ArgumentError(f"no detector is called {name!r}.{hint} {did_you_mean(name, DETECTORS)}")
    side = _SIDES.get(name)
    if side is not None and size != (side, side):
        raise ArgumentError(
            f"{name} takes images of {side} x {side} pixels alone, and the data gives {size[0]} x {size[1]}: make the "
            f'data with size={side} (method="squash" is what it was trained with)'
        )


@registry.register("easylearn.torchvision_detector")
class TorchvisionDetector(nn.Module):
    """One of torchvision's detectors over normalised images of one size. Made by `detection_learner`.

    In evaluation it gives boxes (b, most, 6), the surest first: xmin, ymin, xmax, ymax, score and class; a score of 0
    is none. In training it has no outputs, only `loss`.

    Args:
        arch: a name of `DETECTORS`.
        n_classes: how many there are, without one for the background.
        most: boxes of an image.
        overlap: the IoU above which two boxes of a class are one object.

    Attributes:
        stats: what images are normalised with.
    """

    def __init__(self, arch: str, n_classes: int, most: int = 100, overlap: float = 0.5) -> None:
        super().__init__()
        from torchvision.models import get_model

        if arch not in DETECTORS:
            raise ArgumentError(f"no detector is called {arch!r}. {did_you_mean(arch, DETECTORS)}")
        self._first, self._most = DETECTORS[arch], most
        self.stats = _STATS.get(arch, IMAGENET_STATS)
        prefix = "box_" if arch.startswith("fasterrcnn") else ""
        given = {f"{prefix}detections_per_img": most, f"{prefix}nms_thresh": overlap, f"{prefix}score_thresh": 0.01}
        self.net = get_model(arch, weights=None, weights_backbone=None, num_classes=n_classes + self._first, **given)
        self.net.transform = _AsTheyAre()

    def forward(self, x: Tensor) -> Tensor:
        """Boxes of images (b, 3, h, w), in their pixels."""
        if self.net.training:
            raise ArgumentError("a detector of torchvision's has outputs in evaluation alone, and a loss in training")
        out = x.new_zeros(len(x), self._most, 6)
        out[..., 5] = -1
        for row, found in zip(out, self.net(list(x)), strict=True):
            n = min(self._most, len(found["scores"]))
            order = found["scores"].argsort(descending=True, stable=True)[:n]
            label = (found["labels"] - self._first)[order, None].to(x.dtype)
            row[:n] = torch.cat([found["boxes"][order], found["scores"][order, None], label], 1)
        return out

    def loss(self, inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        """The sum of the detector's own losses of a batch; `target` is (b, m, 5), see `task.Boxes`."""
        boxes = []
        for row in target:
            there = row[row[:, 4] >= 0]
            boxes.append({"boxes": there[:, :4], "labels": there[:, 4].long() + self._first})
        losses: Mapping[str, Tensor] = self.net(list(inputs[0]), boxes)
        return torch.stack(list(losses.values())).sum()

    def layer_groups(self) -> Sequence[LayerGroup]:
        """Two groups: "body", the backbone with its pyramid, and "head"."""
        rest = tuple(m for name, m in self.net.named_children() if name != "backbone")
        return LayerGroup("body", (self.net.backbone,)), LayerGroup("head", rest)


class _AsTheyAre(nn.Module):
    """In place of torchvision's own normalising and resizing, which the data has done."""

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[Any, Any]:
        """The images as one batch."""
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(images), [(int(x.shape[-2]), int(x.shape[-1])) for x in images]), targets

    def postprocess(self, result: Any, image_shapes: Any, original_sizes: Any) -> Any:
        """Boxes are in the right pixels already."""
        return result


def torchvision_detector(
    arch: str, n_classes: int, pretrained: Pretrained | None, seed: int, most: int, overlap: float
) -> TorchvisionDetector:
    """A detector with published weights (COCO's), except for what has another number of classes there.

    Args:
        arch: a name of `DETECTORS`.
        n_classes: how many there are.
        pretrained: True, the path of a file, or False for random weights; None is True.
        seed: of random weights.
        most, overlap: see `TorchvisionDetector`.
    """
    with scoped_rng(seed, "head"):
        model = TorchvisionDetector(arch, n_classes, most, overlap)
    if pretrained is not False:
        source = TorchvisionWeights(arch, "COCO_V1")
        published = pretrained is None or pretrained is True
        _fill(model.net, source.read() if published else read_file(str(pretrained)), arch)
    return model


def _fill(net: nn.Module, state: State, arch: str) -> None:
    """Copy the weights that fit; those of the last layers are for COCO's classes."""
    own = net.state_dict(keep_vars=True)
    body = [name for name in own if name.startswith("backbone.") and not name.endswith("num_batches_tracked")]
    missing = [name for name in body if name not in state or state[name].shape != own[name].shape]
    if missing:
        raise WeightsError(f"these weights are not of {arch}: {len(missing)} of its body's tensors, first {missing[0]}")
    with torch.no_grad():
        for name, tensor in own.items():
            if name in state and state[name].shape == tensor.shape:
                tensor.copy_(state[name])
