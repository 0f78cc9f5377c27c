"""vision_learner: images and an architecture in, a Learner out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ..data.loaders import LoaderData, TensorData, first_outputs
from ..errors import ArgumentError
from ..learning import Learner, Training, TrainingOptions
from ..nn.heads import begin_at
from ..options import strict
from ..train.optim import OptimizerFn, sgd
from .archs import Arch, Stats, get_arch
from .data import ImageData
from .model import Cut, Pretrained, vision_model

if TYPE_CHECKING:
    from typing_extensions import Unpack

# With batch-norm statistics that do not move, nothing but this holds back a body whose rates are too high: on cats
# and dogs, batches of 16 diverged at the course's rates without it (docs/log.md).
PRETRAINED_CLIP = 2.0

_LEARNERS = {
    "MaskData": ": segmentation_learner takes it", "BoxData": ": detection_learner takes it",
    "Image2ImageData": ": image2image_learner takes it",
}  # fmt: skip


@strict(
    {"xtra_fc": "hidden", "opt_fn": "optimizer", "opt_func": "optimizer", "loss_func": "loss", "cbs": "callbacks"},
    Training,
)
def vision_learner(  # type: ignore[misc]  # two of the shared options have other defaults here
    data: ImageData, arch: str | Arch | nn.Module, *, pretrained: Pretrained | None = None, precompute: bool = False,
    ps: float | Sequence[float] | None = None, hidden: Sequence[int] = (), custom_head: nn.Module | None = None,
    cut: Cut | None = None, stats: Stats | None = None, optimizer: OptimizerFn = sgd,
    clip: float | Literal["auto"] | None = "auto", bn_freeze: bool | None = None, **options: Unpack[TrainingOptions],
) -> Learner:  # fmt: skip
    """A learner for images: the body of an architecture and a new head, in three layer groups.

    With pretrained weights it starts frozen: only the head trains, until `learn.unfreeze()`. Its first fit then begins
    with the regularised linear model of the body's features, unless it has hidden layers.

    Args:
        data: the images.
        arch: a name such as "resnet34" or "efficientnet_lite0", any name of timm's, an `Arch`, or a module of your own.
        pretrained: True, False or a file of weights; None takes what the architecture says. See `vision_model`.
        precompute: train the head on stored outputs of the frozen body, at the speed of a small network.
        ps: dropout of the head: None for `pooled_head`'s, one number for every block, or one per block.
        hidden: sizes of the head's hidden layers, which start at random; () makes it linear.
        custom_head: a module that takes the feature map; it replaces pooling and head.
        cut: where a module of your own is cut.
        stats: mean and standard deviation per channel; None takes those of the weights.
        optimizer: SGD with momentum 0.9 by default.
        clip: largest norm of the gradients; "auto" is 2.0 where the body is pretrained, no clipping otherwise.
        bn_freeze: keep the body's batch-norm statistics while its weights train; None: where it is pretrained.

    Raises:
        ArgumentError: the architecture or an argument is unknown; the message suggests one.
        WeightsError: the weights cannot be had; the message says where to put a file.
    """
    if not isinstance(data, ImageData | TensorData | LoaderData):
        wanted = _LEARNERS.get(type(data).__name__, "")
        made = f"; make ImageData.from_folder({data!r}) first" if isinstance(data, str | os.PathLike) else ""
        raise ArgumentError(f"vision_learner needs ImageData, got {type(data).__name__}{made or wanted}")
    known = None if isinstance(arch, nn.Module) else get_arch(arch)
    model = vision_model(
        arch if known is None else known, data.task.n_out, pretrained=pretrained, ps=ps, hidden=hidden,
        custom_head=custom_head, cut=cut, stats=stats, seed=options.get("seed", 0),
    )  # fmt: skip
    if custom_head is None:
        begin_at(model.head, first_outputs(data))
    usual = known is not None and known.pretrained
    has_weights = (usual if pretrained is None else pretrained) is not False
    auto = PRETRAINED_CLIP if has_weights and options.get("strategy") is None else None
    learn = Learner(
        data,
        # Convolutions are quicker with the channels innermost, on the CPU and on GPUs alike.
        model.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        bn_freeze=has_weights if bn_freeze is None else bn_freeze, precompute=precompute, optimizer=optimizer,
        clip=auto if clip == "auto" else clip, **options,
    )  # fmt: skip
    if has_weights:
        learn.freeze()
    return learn
