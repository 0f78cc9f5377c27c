"""Squeeze-and-excitation nets (arXiv 1709.01507) under the names that notebooks of 2018 import: timm's."""

from __future__ import annotations

from functools import partial

from ..torch_imports import Arch07
from ..vision.archs import build_timm, timm_cut
from ..vision.weights import TimmWeights

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _arch(of: str) -> Arch07:
    return Arch07(of, partial(build_timm, of), timm_cut, None, _IMAGENET, 224, TimmWeights(of))


se_resnet50 = _arch("legacy_seresnet50")
se_resnet101 = _arch("legacy_seresnet101")
se_resnet152 = _arch("legacy_seresnet152")
se_resnext50_32x4d = _arch("legacy_seresnext50_32x4d")
se_resnext101_32x4d = _arch("legacy_seresnext101_32x4d")
senet154 = _arch("legacy_senet154")
__all__ = ["se_resnet50", "se_resnet101", "se_resnet152", "se_resnext50_32x4d", "se_resnext101_32x4d", "senet154"]
