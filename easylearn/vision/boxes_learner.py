"""detection_learner: images with boxes and a body, or a detector of torchvision's, in; a Learner out."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from ..errors import ArgumentError
from ..keyed import scoped_rng
from ..learning import Learner, Training, TrainingOptions
from ..nn import registry
from ..nn.centre import centre_head
from ..nn.decoders import PyramidModel
from ..options import strict
from ..train.gate import Gate
from .archs import Stats
from .boxes_data import BoxData
from .boxes_torchvision import DETECTORS, check_detector, torchvision_detector
from .mask_learner import Body, BodyKeywords, BodyOptions, dense_learner, has_weights, over_pyramid
from .model import Cut, Pretrained
from .pyramid import Pyramid

if TYPE_CHECKING:
    from typing_extensions import Unpack

STRIDES = (4, 8)


@strict({"num_classes": "n_classes", "backbone": "arch"}, BodyOptions)
def detection_model(
    arch: Body, n_classes: int, *, stride: int = 4, width: int = 64, side: float = 4.0,
    **body_options: Unpack[BodyKeywords],
) -> PyramidModel:  # fmt: skip
    """A body with its pretrained weights and a new head that finds objects by their centres (arXiv 1904.07850).

    Args:
        arch: a name, an `Arch` or a module as `vision_model` takes it; or a learner of images, whose body is copied.
        n_classes: how many there are.
        stride: pixels of a cell of the maps, 4 or 8: larger ones are quicker, and lose small objects.
        width: channels of the decoder.
        side: cells from an object's centre to its sides, at first.

    Returns:
        The model: images (b, 3, h, w) to maps (b, n_classes + 4, h / stride, w / stride), as `nn.centre` says.

    >>> model = detection_model("resnet18", 2, pretrained=False)
    >>> model(torch.zeros(1, 3, 64, 96)).shape, [group.name for group in model.layer_groups()]
    (torch.Size([1, 6, 16, 24]), ['stem', 'late', 'decoder'])
    """
    if stride not in STRIDES:
        raise ArgumentError(f"stride is one of {STRIDES} pixels, got {stride!r}")

    def make(body: Pyramid, *rest: Any) -> PyramidModel:
        return PyramidModel(body, centre_head(body.channels, n_classes, width, side), *rest)

    about = {"n_classes": n_classes, "stride": stride, "width": width}
    return over_pyramid(arch, BodyOptions(**body_options), stride, make, "easylearn.detection_model", about)


@registry.register("easylearn.detection_model")
def _untrained(
    arch: str | nn.Module, cut: int | None, stats: Stats | None, seed: int, n_classes: int, stride: int, width: int
) -> PyramidModel:
    """What a model file may ask for: no `pretrained`, which would read any other file, or fetch one."""
    how = BodyOptions(False, cut, stats, seed)
    return detection_model(arch, n_classes, stride=stride, width=width, **vars(how))


@strict({"body": "arch", "model": "arch", "opt_func": "optimizer", "loss_func": "loss"}, Training)
def detection_learner(  # type: ignore[misc]  # one of the shared options has another default here
    data: BoxData, arch: Body, *, stride: int = 4, width: int = 64, pretrained: Pretrained | None = None,
    precompute: bool = False, cut: Cut | None = None, stats: Stats | None = None,
    clip: float | Literal["auto"] | None = "auto",
    bn_freeze: bool | None = None, **options: Unpack[TrainingOptions],
) -> Learner:  # fmt: skip
    """A Learner of boxes: a body's maps of several sizes, and a head that finds objects by their centres.

    With pretrained weights it starts frozen: only the decoder trains, until `learn.unfreeze()`. One of torchvision's
    detectors, by its name, has two groups, and a loss of its own: "valid_loss" is then one minus the F score of what
    it found.

    Args:
        data: images with boxes.
        arch: a body's name such as "efficientnet_lite0", an `Arch`, a module of your own, or a learner whose body is
            taken; or a detector of torchvision's, such as "fcos_resnet50_fpn" (`DETECTORS` has the names).
        stride: pixels of a cell of the maps, 4 or 8: larger ones are quicker, and lose small objects.
        width: channels of the decoder.
        pretrained: True, False or a file of weights; None takes what the architecture says. See `vision_model`.
        precompute: train the decoder on stored maps of the frozen body, in half precision, without augmentation.
        cut: where a module of your own is cut.
        stats: mean and standard deviation per channel; None takes those of the weights.
        clip: largest norm of the gradients; "auto" is 2.0 where the body is pretrained, no clipping otherwise.
        bn_freeze: keep the body's batch-norm statistics while its weights train; None: where it is pretrained.

    Raises:
        ArgumentError: the body gives no maps of several sizes, or an argument is unknown.
        WeightsError: the weights cannot be had; the message says where to put a file.
    """
    if not isinstance(data, BoxData):
        raise ArgumentError(f"detection_learner needs BoxData, got {type(data).__name__}")
    task: Any = data.task
    seed, given = options.get("seed", 0), cast(TrainingOptions, options)
    if isinstance(arch, str) and (arch in DETECTORS or _names_a_detector(arch)):
        check_detector(arch, data.size)
        found = torchvision_detector(arch, len(task.names), pretrained, seed, task.most, task.overlap)
        return dense_learner(data, found, pretrained is not False, precompute, clip, bn_freeze, given)
    data = copy.copy(data)
    data.task = replace(task, stride=stride)
    model = detection_model(
        arch, len(task.names), stride=stride, width=width, side=_usual_side(data, stride), pretrained=pretrained,
        cut=cut, stats=stats, seed=seed,
    )  # fmt: skip
    _check_grid(model, data.size, stride)
    return dense_learner(data, model, has_weights(arch, pretrained), precompute, clip, bn_freeze, given)


def _check_grid(model: PyramidModel, size: tuple[int, int], stride: int) -> None:
    """Refuse a body whose maps have other cells than boxes are read by: its layers leave borders out."""
    with Gate().evaluating(model), scoped_rng():
        found = tuple(model(torch.zeros(1, len(model.mean), *size)).shape[2:])
    wanted = tuple(-(-n // stride) for n in size)
    if found != wanted:
        raise ArgumentError(
            f"the maps of this body are {found[0]} x {found[1]} cells for an image of {size[0]} x {size[1]} pixels; "
            f"cells of {stride} pixels would be {wanted[0]} x {wanted[1]}: take a body that keeps the borders of its "
            "maps, such as a ResNet or an EfficientNet, or another stride"
        )


def _names_a_detector(arch: str) -> bool:
    return any(word in arch.lower() for word in ("rcnn", "retinanet", "fcos", "ssd3", "ssdlite", "yolo", "detr"))


def _usual_side(data: BoxData, stride: int) -> float:
    """Half of the usual object's side in training, in cells."""
    target = data.target("train")
    boxes = target[target[..., 4] >= 0] if target is not None else torch.zeros(0, 5)
    sides = (boxes[:, 2:4] - boxes[:, :2]).flatten()
    return max(0.5, float(sides.median()) / 2 / stride) if len(sides) else 4.0
