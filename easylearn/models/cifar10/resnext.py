"""ResNeXt for CIFAR-10 (arXiv 1611.05431), under the names that notebooks of 2018 import."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CifarResNeXt", "resnext29_8_64", "resnext29_16_64", "resnext_small"]


def _conv(n_in: int, n_out: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(n_in, n_out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(n_out))


class _Block(nn.Module):
    def __init__(self, n_in: int, planes: int, cardinality: int, base_width: int, stride: int) -> None:
        super().__init__()
        n_out, width = planes * 4, planes * base_width // 64 * cardinality
        self.reduce = _conv(n_in, width)
        self.grouped = _conv(width, width, 3, stride, cardinality)
        self.expand = _conv(width, n_out)
        self.shortcut = nn.Identity() if stride == 1 and n_in == n_out else _conv(n_in, n_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.grouped(F.relu(self.reduce(x))))
        return F.relu(self.shortcut(x) + self.expand(out))


class CifarResNeXt(nn.Sequential):
    """Three stages of grouped bottlenecks, which end in log-probabilities.

    Args:
        num_blocks: in each stage.
        cardinality: groups in a convolution.
        base_width: channels of a group in the first stage.
        num_classes: how many outputs.
    """

    def __init__(self, num_blocks: int, cardinality: int, base_width: int, num_classes: int = 10) -> None:
        layers: list[nn.Module] = [_conv(3, 64, 3), nn.ReLU()]
        n_in = 64
        for stage, planes in enumerate((64, 128, 256)):
            for k in range(num_blocks):
                layers.append(_Block(n_in, planes, cardinality, base_width, 2 if stage and not k else 1))
                n_in = planes * 4
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, num_classes), nn.LogSoftmax(-1)
        )


def resnext29_8_64(num_classes: int = 10) -> CifarResNeXt:
    """29 layers, 8 groups of 64 channels, `num_classes` outputs."""
    return CifarResNeXt(3, 8, 64, num_classes)


def resnext29_16_64(num_classes: int = 10) -> CifarResNeXt:
    """29 layers, 16 groups of 64 channels, `num_classes` outputs."""
    return CifarResNeXt(3, 16, 64, num_classes)


def resnext_small(num_classes: int = 10) -> CifarResNeXt:
    """11 layers, 4 groups of 16 channels, `num_classes` outputs."""
    return CifarResNeXt(1, 4, 16, num_classes)
