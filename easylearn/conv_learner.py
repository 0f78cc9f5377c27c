"""The 2018 names for images: `from easylearn.conv_learner import *`. Thin, over `vision_learner` and `ImageData`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import nn

from .dataset import (
    CropType,
    ImageClassifierData,
    get_cv_idxs,
    imagenet_stats,
    inception_stats,
    split_by_idx,
    tfms_from_model,
    tfms_from_stats,
    transforms_basic,
    transforms_side_on,
    transforms_top_down,
)
from .learner import Learner
from .learner07 import Learner07
from .metrics import accuracy, f1
from .metrics import accuracy_at as accuracy_thresh
from .options import strict
from .train.optim import OptimizerFn, sgd
from .vision.archs import Arch, get_arch
from .vision.data import ImageData
from .vision.learner import vision_learner
from .vision.model import Pretrained

resnet18 = get_arch("resnet18")
resnet34 = get_arch("resnet34")
resnet50 = get_arch("resnet50")
resnet101 = get_arch("resnet101")
resnet152 = get_arch("resnet152")
resnext50 = get_arch("resnext50_32x4d")
wrn = get_arch("wide_resnet50_2")
vgg16 = get_arch("vgg16_bn")
vgg19 = get_arch("vgg19_bn")
dn121 = densenet121 = get_arch("densenet121")
dn161 = densenet161 = get_arch("densenet161")
dn169 = densenet169 = get_arch("densenet169")
dn201 = densenet201 = get_arch("densenet201")
inception_v3 = get_arch("inception_v3")
squeezenet1_1 = get_arch("squeezenet1_1")

__all__ = [
    "Arch",
    "ConvLearner",
    "CropType",
    "ImageClassifierData",
    "Learner",
    "Path",
    "accuracy",
    "accuracy_thresh",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "dn121",
    "dn161",
    "dn169",
    "dn201",
    "f1",
    "get_cv_idxs",
    "imagenet_stats",
    "inception_stats",
    "inception_v3",
    "np",
    "pd",
    "plt",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50",
    "split_by_idx",
    "squeezenet1_1",
    "tfms_from_model",
    "tfms_from_stats",
    "torch",
    "transforms_basic",
    "transforms_side_on",
    "transforms_top_down",
    "vgg16",
    "vgg19",
    "wrn",
]


class ConvLearner:
    """Constructors of image learners under their 2018 names."""

    @classmethod
    @strict(
        {
            "opt_func": "opt_fn",
            "hidden": "xtra_fc",
            "xtra_cut": "Use vision_learner with cut=, which takes the module that ends the body.",
            "clip": "Use vision_learner, which takes clip=.",
            "crit": "Use vision_learner, which takes loss=.",
        }
    )
    def pretrained(
        cls,
        f: str | Arch | nn.Module,
        data: ImageData,
        ps: float | Sequence[float] | None = None,
        xtra_fc: Sequence[int] | None = None,
        custom_head: nn.Module | None = None,
        precompute: bool = False,
        pretrained: Pretrained | None = None,
        opt_fn: OptimizerFn = sgd,
        metrics: Sequence[Any] | None = None,
    ) -> Learner07:
        """A pretrained body with a new head, frozen but for the head; see `vision_learner`.

        Args:
            f: an architecture, such as `resnet34`; `resnet34.untrained()` starts from random weights.
            data: the images.
            ps: dropout of the head; one number is used for every block.
            xtra_fc: sizes of the head's hidden layers; None is [512].
            custom_head: takes the feature map, instead of pooling and head.
            precompute: train the head on stored outputs of the body.
            pretrained: False for random weights, or a file of weights.
            opt_fn: makes the optimizer.
            metrics: instead of the task's own.

        Returns:
            The learner.
        """
        learn = vision_learner(
            data,
            f,
            ps=ps,
            hidden=(512,) if xtra_fc is None else xtra_fc,
            custom_head=custom_head,
            precompute=precompute,
            pretrained=pretrained,
            optimizer=opt_fn,
            metrics=metrics,
        )
        return Learner07.of(learn)

    @classmethod
    @strict()
    def from_model_data(
        cls,
        m: nn.Module,
        data: ImageData,
        opt_fn: OptimizerFn = sgd,
        metrics: Sequence[Any] | None = None,
    ) -> Learner07:
        """A model of your own, trained as it is.

        Args:
            m: gives logits, one per class.
            data: the images.
            opt_fn: makes the optimizer.
            metrics: instead of the task's own.

        Returns:
            The learner.
        """
        return Learner07(data, m, optimizer=opt_fn, metrics=metrics)
