"""Wide residual nets for CIFAR-10 (arXiv 1605.07146), under the names that notebooks of 2018 import."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["WideResNet", "wrn_22", "wrn_22_k8", "wrn_22_k10", "wrn_28", "wrn_28_k8"]


def _conv(n_in: int, n_out: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False)


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int, drop_p: float) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU())
        self.branch = nn.Sequential(
            _conv(n_in, n_out, stride=stride), nn.Dropout(drop_p), nn.BatchNorm2d(n_out), nn.ReLU(), _conv(n_out, n_out)
        )
        self.shortcut = nn.Identity() if n_in == n_out else _conv(n_in, n_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        given = self.before(x)
        made: Tensor = self.shortcut(given) + 0.2 * self.branch(given)
        return made


class WideResNet(nn.Module):
    """Stages of blocks, each as half as large and twice as wide as the one before; gives logits.

    Args:
        num_groups: stages.
        n: blocks in each.
        num_classes: how many outputs.
        k: the first stage has this many times `start_nf` channels.
        drop_p: dropout in a block.
        start_nf: channels of the first layer.
    """

    def __init__(
        self, num_groups: int, n: int, num_classes: int, k: int = 1, drop_p: float = 0.0, start_nf: int = 16
    ) -> None:  # fmt: skip
        super().__init__()
        layers: list[nn.Module] = [_conv(3, start_nf)]
        n_in = start_nf
        for stage in range(num_groups):
            for block in range(n):
                layers.append(_Block(n_in, start_nf * 2**stage * k, 2 if stage and not block else 1, drop_p))
                n_in = start_nf * 2**stage * k
        pooled = [nn.BatchNorm2d(n_in), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.features = nn.Sequential(*layers, *pooled, nn.Linear(n_in, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the images `x`."""
        made: Tensor = self.features(x)
        return made


def wrn_22(k: int = 6, drop_p: float = 0.0) -> WideResNet:
    """22 layers, `k` times as wide, with dropout `drop_p`."""
    return WideResNet(3, 3, 10, k, drop_p)


def wrn_28(k: int = 6, drop_p: float = 0.0) -> WideResNet:
    """28 layers, `k` times as wide, with dropout `drop_p`."""
    return WideResNet(3, 4, 10, k, drop_p)


def wrn_22_k8() -> WideResNet:
    """`wrn_22(8)`."""
    return wrn_22(8)


def wrn_22_k10() -> WideResNet:
    """`wrn_22(10)`."""
    return wrn_22(10)


def wrn_28_k8() -> WideResNet:
    """`wrn_28(8)`."""
    return wrn_28(8)
