"""Grad-CAM: which places of an image a convolutional network decided by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..analysis.plots import new_figure
from ..errors import ArgumentError, check_kind, short
from ..learning import Learner
from ..nn.body_head import BodyHead
from ..nn.layers import ConcatPool2d
from .pixels import draw_image
from .preprocess import ImagePreprocessor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def grad_cam(learn: Learner, item: Any, target: str | int | None = None) -> Tensor:
    """Where in an image a class is found: Grad-CAM at the body's last feature map (arXiv 1610.02391).

    Channels of the map are weighted by the mean gradient of the class's logit; what is left above zero is scaled so
    that its largest value is 1, and enlarged to the image: it is as fine as the map, which for most architectures
    has a place for each 32 x 32 pixels. The learner is as it was afterwards.

    Args:
        learn: made by `vision_learner` with a convolutional body.
        item: one image as `learn.predict` takes it.
        target: a class's name or number; None takes the most probable class (of numbers, the first).

    Returns:
        Heat in [0, 1] of the size (h, w) at which the model sees the image; zeros where no place speaks for the class.
    """
    return _look(learn, item, target)[0]


def plot_grad_cam(learn: Learner, item: Any, target: str | int | None = None) -> Figure:
    """Draw an image, and over it where it speaks for a class; see `grad_cam`."""
    heat, image, column, value = _look(learn, item, target)
    name = short(learn.task.names[column], 30)
    figure = new_figure(6.4, 3.4)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        draw_image(axes, image)
    # Cold places stay clear, so that the image can be seen.
    right.imshow(heat.numpy(), cmap="jet", alpha=(0.7 * heat).numpy(), vmin=0, vmax=1)
    said = f"{name} ({value:.0%})" if learn.task.classes else f"{name}: {value:.4g}"
    left.set_title(said, fontsize=10, parse_math=False)
    right.set_title("what speaks for it", fontsize=10)
    return figure


def _look(learn: Learner, item: Any, target: str | int | None) -> tuple[Tensor, Tensor, int, float]:
    """The heat map, the image as the model sees it, the column of the target and its probability or value."""
    check_kind("Grad-CAM takes a learner of images", learn, Learner)
    images, model = learn.data.preprocessor, learn.model
    if not isinstance(images, ImagePreprocessor) or not isinstance(model, BodyHead):
        raise ArgumentError(
            f"Grad-CAM needs images and a model with a convolutional body, made by vision_learner; this is {learn!r}"
        )
    chosen = None if target is None else learn.task.column(target)
    read = images.read(item)
    if len(read) != 1:
        raise ArgumentError(f"Grad-CAM looks at one image, got {len(read)}; call it once for each")
    (x,) = images.source(read.values).fetch(np.arange(1), learn.strategy.device)
    with learn.strategy.evaluating(model):
        features = model.body(x)
        if not isinstance(features, Tensor) or features.ndim != 4:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ArgumentError(
                f"Grad-CAM needs a body that ends in a feature map (1, c, h, w), this one gives {shape}; transformers "
                "have none. Use a convolutional architecture, such as resnet34"
            )
        # Gradients stop at the map: no weight gets any, and no hook is needed.
        features = features.detach().requires_grad_()
        with torch.enable_grad():
            # A copy, since a head of one's own may begin with a layer that works in place.
            logits = model.head(model.pool(features.clone()))[0]
            column = int(logits.argmax()) if chosen is None and learn.task.classes else chosen or 0
            (gradient,) = torch.autograd.grad(logits[column], features)
        value = float(learn.task.activate(logits.detach()[None])[0, column])
        if isinstance(model.pool, ConcatPool2d) and model.pool.channels_last:
            features, gradient = features.movedim(-1, 1), gradient.movedim(-1, 1)
        weights = gradient.mean((2, 3), keepdim=True)
        heat = (weights * features).sum(1, keepdim=True).relu().float()
        heat = F.interpolate(heat, size=x.shape[2:], mode="bilinear", align_corners=False)[0, 0].cpu()
        image = images.batch_stage.denormalise(x)[0].cpu()
    return heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny), image, column, value
