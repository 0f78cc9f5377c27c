"""Residual nets with VGG's wide layers at their end, as notebooks of 2018 import them."""

from __future__ import annotations

from torch import Tensor, nn

from ..torch_imports import archs, children

__all__ = ["vgg_resnet34", "vgg_resnet50"]


class _VGGResNet(nn.Module):
    def __init__(self, of: str, n_features: int, num_classes: int) -> None:
        super().__init__()
        wide: list[nn.Module] = []
        for n_in in (n_features * 9, 4096):
            wide += [nn.Linear(n_in, 4096), nn.ReLU(), nn.BatchNorm1d(4096), nn.Dropout(0.25)]
        body = children(archs[of].build())[:-2]
        self.features = nn.Sequential(*body, nn.AdaptiveAvgPool2d(3), nn.Flatten(), *wide, nn.Linear(4096, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.features(x)
        return made


def vgg_resnet34(num_classes: int = 1000) -> nn.Module:
    """ResNet-34 with three wide layers, the last of `num_classes`; its weights are random."""
    return _VGGResNet("resnet34", 512, num_classes)


def vgg_resnet50(num_classes: int = 1000) -> nn.Module:
    """ResNet-50 with three wide layers, the last of `num_classes`; its weights are random."""
    return _VGGResNet("resnet50", 2048, num_classes)
