"""detection_learner: images with boxes and a body in, a Learner out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ..errors import ArgumentError
from ..learning import Learner, Training, TrainingOptions
from ..nn import registry
from ..nn.body_head import BodyHead
from ..nn.centre import centre_head
from ..nn.decoders import PyramidModel
from ..keyed import scoped_rng
from ..options import strict
from ..task import Boxes
from ..train.optim import OptimizerFn, adamw
from .archs import Arch, Stats
from .boxes_data import BoxData
from .boxes_torchvision import DETECTORS, check_detector, torchvision_detector
from .learner import PRETRAINED_CLIP
from .model import Cut, Pretrained, vision_model
from .pyramid import pyramid

if TYPE_CHECKING:
    from typing_extensions import Unpack


@strict({"num_classes": "n_classes"})
def detection_model(
    arch: str | Arch | nn.Module, n_classes: int, *, pretrained: Pretrained | None = None, stride: int = 4,
    width: int = 64, side: float = 4.0, cut: Cut | None = None, stats: Stats | None = None, seed: int = 0,
) -> PyramidModel:  # fmt: skip
    """A body with its pretrained weights and a head that finds objects by their centres (arXiv 1904.07850).

    Args:
        arch: a name, an `Arch` or a module of your own, as `vision_model` takes it; or a model of `vision_learner`'s,
            whose body and weights are taken.
        n_classes: how many there are.
        pretrained: see `vision_model`.
        stride: pixels of a cell of the maps: 4 or 8.
        width: channels of the decoder.
        side: cells from an object's centre to its sides, at first.
        cut, stats: see `vision_model`.
        seed: of random weights.

    Returns:
        A model that gives maps, (b, n_classes + 4, h, w), as `nn.centre` says.

    >>> model = detection_model("squeezenet1_1", 2, pretrained=False)
    >>> model(torch.zeros(1, 3, 64, 96)).shape, [group.name for group in model.layer_groups()]
    (torch.Size([1, 6, 16, 24]), ['stem', 'late', 'decoder'])
    """
    if stride not in (4, 8):
        raise ArgumentError(f"stride is 4 or 8 pixels, got {stride!r}")
    taken = isinstance(arch, BodyHead)
    whole = copy.deepcopy(arch) if isinstance(arch, BodyHead) else vision_model(
        arch, 1, pretrained=pretrained, cut=cut, stats=stats, seed=seed
    )  # fmt: skip
    stem, late, _ = whole.layer_groups()
    body = pyramid(whole.body, finest=stride)
    if body.strides[0] != stride:
        raise ArgumentError(f"the finest map of this body is {body.strides[0]} times smaller than the image: stride=8?")
    with scoped_rng(seed, "head"):
        head = centre_head(body.channels, n_classes, width, side)
    model = PyramidModel(body, head, [stem.modules, late.modules], whole.mean.tolist(), whole.std.tolist())
    note = registry.describe(whole)
    made = {"arch": note["args"]["arch"] if taken and "args" in note else registry.describe(arch)}
    del made
    return model.train()
