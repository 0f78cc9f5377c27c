"""Nets of cells: against the same by hand, in any size, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from easylearn.errors import ArgumentError
from easylearn.nn.cells import FREE, OPERATIONS, Cell, cell_net, nodes_of, operation

ALL = ["nor_conv_3x3", "skip_connect", "none", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3"]


def test_a_cell_is_the_sum_along_its_edges() -> None:
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    edges = [operation(name, 3).eval() for name in ALL]

    def pooled(t: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(t, 3, 1, 1, count_include_pad=False)

    first = edges[0](x)
    second = x + 0 * first
    third = pooled(x) + edges[4](first) + edges[5](second)
    assert torch.allclose(Cell(edges)(x), third, atol=1e-6)
    conv, norm = edges[0][1], edges[0][2]  # type: ignore[index]
    assert torch.equal(first, norm(conv(torch.relu(x))))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("affine", [True, False])
def test_an_operation_keeps_the_shape(name: str, affine: bool) -> None:
    made = operation(name, 4, affine)
    assert made(torch.randn(2, 4, 7, 6)).shape == (2, 4, 7, 6)
    assert any(True for _ in made.parameters()) == (name not in FREE)
    assert any(isinstance(m, nn.BatchNorm2d) and m.affine != affine for m in made.modules()) is False


@pytest.mark.parametrize(("cells", "halvings"), [(1, 0), (2, 1), (3, 2), (6, 2)])
@pytest.mark.parametrize("n_in", [1, 3])
def test_a_net_is_halved_after_each_third(cells: int, halvings: int, n_in: int) -> None:
    net = cell_net(ALL, 7, channels=4, cells=cells, n_in=n_in)
    x = torch.randn(2, n_in, 16, 16)
    assert net(x).shape == (2, 7)
    assert net.body(x).shape == (2, 4 * 2**halvings, 16 // 2**halvings, 16 // 2**halvings)
    assert sum(isinstance(m, Cell) for m in net.modules()) == cells
    groups = net.layer_groups()
    assert [g.name for g in groups] == ["stem", "late", "head"]
    assert sum(p.numel() for g in groups for m in g.modules for p in m.parameters()) == sum(
        p.numel() for p in net.parameters()
    )
    assert net.mean.shape == ((3,) if n_in == 3 else (0,))


def test_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (cell_net(ALL, 2, channels=2, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)  # type: ignore[arg-type]


def test_a_cell_that_lets_nothing_through_still_learns_shares() -> None:
    net = cell_net(["none"], 3, channels=2)
    out = net(torch.randn(4, 3, 8, 8))
    out.sum().backward()
    assert out.isfinite().all() and torch.equal(out[0], out[1])


@pytest.mark.parametrize(
    ("genotype", "more", "words"),
    [
        (["conv"], {}, "no operation 'conv'"),
        (["nor_conv_3x2"], {}, "Did you mean 'nor_conv_3x3'"),
        (["none"] * 4, {}, "1, 3, 6 or 10 edges"),
        ([], {}, "edges must be a whole number"),
        (["none"], {"cells": 0}, "cells must be"),
        (["none"], {"channels": 1.5}, "channels must be"),
        (["none"], {"n_in": 0}, "n_in must be"),
    ],
)
def test_what_is_no_cell_is_refused(genotype: list[str], more: dict[str, int], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        cell_net(genotype, 2, **more)


def test_nodes_of_edges() -> None:
    assert [nodes_of(e) for e in (1, 3, 6, 10, 15)] == [2, 3, 4, 5, 6]
