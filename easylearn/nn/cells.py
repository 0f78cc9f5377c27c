"""Nets out of one small cell that is repeated: what an architecture search looks for (NAS-Bench-201, arXiv 2001.00326).

A cell is a graph of nodes, each the sum of what comes along the edges from all nodes before it. On each edge is one of
five operations, so six edges make 5 ** 6 = 15,625 cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, check_whole, did_you_mean
from ..keyed import scoped_rng
from . import registry
from .body_head import BodyHead

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What may be on an edge, by its name in NAS-Bench-201."""
FREE = ("none", "skip_connect", "avg_pool_3x3")
"""Those without parameters."""
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class Nothing(nn.Module):
    """Zeros in the shape of what came: no edge."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def operation(name: str, channels: int, affine: bool = True) -> nn.Module:
    """An operation of `OPERATIONS`, which changes neither size nor channels.

    Args:
        name: of the operation.
        channels: of its input and output.
        affine: whether batch-norm has weights; in a search they would hide how strong an operation is (DARTS).
    """
    if name == "none":
        return Nothing()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return _conv(channels, channels, 1 if name == "nor_conv_1x1" else 3, affine)


def _conv(n_in: int, n_out: int, size: int, affine: bool, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(n_out, affine=affine))


class Cell(nn.Module):
    """The nodes and edges of a cell.

    Args:
        edges: what is on each, in the order (0 to 1), (0 to 2), (1 to 2), (0 to 3), ...
    """

    def __init__(self, edges: Sequence[nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)
        self.n_nodes = nodes_of(len(edges))

    def forward(self, x: Tensor) -> Tensor:
        """The last node, of the shape of `x`, (b, c, h, w)."""
        nodes = [x]
        for j in range(1, self.n_nodes):
            first = j * (j - 1) // 2
            coming = [self.edges[first + i](node) for i, node in enumerate(nodes)]
            nodes.append(torch.stack(coming).sum(0) if j > 1 else coming[0])
        return nodes[-1]


def nodes_of(edges: int) -> int:
    """How many nodes a cell of so many edges has.

    >>> nodes_of(6)
    4
    """
    check_whole("edges", edges)
    n = next(n for n in range(2, edges + 2) if n * (n - 1) // 2 >= edges)
    if n * (n - 1) // 2 != edges:
        raise ArgumentError(f"a cell with edges between all its nodes has 1, 3, 6 or 10 edges, and so on, got {edges}")
    return n


def stack_cells(
    make: Callable[[int], nn.Module], channels: int, cells: int, n_in: int, affine: bool = True
) -> tuple[nn.Sequential, int]:
    """A body of one convolution and many cells, halved in size and doubled in channels after each third of them.

    Args:
        make: gives a cell for a number of channels.
        channels: of the first cells.
        cells: how many.
        n_in: channels of the images.
        affine: see `operation`.

    Returns:
        The body, and its last number of channels.
    """
    for name, value in (("channels", channels), ("cells", cells), ("n_in", n_in)):
        check_whole(name, value)
    first = nn.Sequential(nn.Conv2d(n_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    layers: list[nn.Module] = [first]
    for k in range(cells):
        if k and k in (cells // 3, 2 * cells // 3):
            layers.append(_conv(channels, 2 * channels, 3, affine, stride=2))
            channels *= 2
        layers.append(make(channels))
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU()), channels


@registry.register("easylearn.cell_net")
def cell_net(
    genotype: Sequence[str], n_out: int, channels: int = 16, cells: int = 3, n_in: int = 3, seed: int = 0
) -> BodyHead:
    """A net of images out of one cell; trained, frozen, exported like any model.

    Args:
        genotype: the operation on each edge, by its name in `OPERATIONS`; what `genotype(p)` and `darts` give.
        n_out: how many logits.
        channels: of the first cells.
        cells: how often the cell comes; after each third of them the image is halved and the channels doubled.
        n_in: channels of the images.
        seed: of the random weights.

    Returns:
        The model: logits of shape (b, n_out) for images of shape (b, n_in, h, w).

    Raises:
        ArgumentError: an operation is unknown, or there is no cell of so many edges.

    >>> net = cell_net(["nor_conv_3x3", "skip_connect", "none"], 10, channels=4)
    >>> net(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    """
    names = list(genotype)
    nodes_of(len(names))
    for name in names:
        if name not in OPERATIONS:
            raise ArgumentError(f"there is no operation {name!r}. {did_you_mean(str(name), OPERATIONS)}")
    check_whole("n_out", n_out)
    with scoped_rng(seed, "cells"):
        body, width = stack_cells(lambda c: Cell([operation(n, c) for n in names]), channels, cells, n_in)
        head = nn.Linear(width, n_out)
    layers, mean_std = list(body), _IMAGENET if n_in == 3 else ([], [])
    half = (len(layers) + 1) // 2
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return BodyHead(body, pool, head, [tuple(layers[:half]), tuple(layers[half:])], *mean_std)
