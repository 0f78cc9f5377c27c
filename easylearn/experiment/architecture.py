"""Architecture search in a space of cells: as a space for `search`, and by gradients, `darts`."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from ..data.bunch import Data
from ..data.order import Batch, ItemLoader, Loader, Order
from ..errors import ArgumentError, DataError, EasyLearnWarning, StateError, check_whole
from ..keyed import scoped_rng
from ..learning import Learner
from ..nn.cells import FREE, OPERATIONS, Cell, cell_net, nodes_of, operation, stack_cells
from ..nn.groups import LayerGroup
from ..train.callback import Callback
from ..train.optim import sgd
from ..train.processes import wants_processes
from ..train.record import Record
from ..train.state import Run
from .certainty import values_of
from .space import Listed, choice
from .trials import Point

RATE, SHARES_RATE = 0.025, 3e-3
"""Of the weights (SGD, falling to 0 by a cosine) and of the shares (Adam): the paper's 3e-4 is for 50 epochs of 390
steps."""

__all__ = ["Darts", "cell_net", "cells", "darts", "genotype"]


def cells(edges: int = 6) -> dict[str, Listed]:
    """The space of all cells with so many edges: `edge_0` and so on, each one of five operations.

    Args:
        edges: 1, 3, 6 or 10; six make the 15,625 cells of NAS-Bench-201 (arXiv 2001.00326).

    >>> list(cells(3)), cells(3)["edge_0"].n_values
    (['edge_0', 'edge_1', 'edge_2'], 5)
    """
    nodes_of(edges)
    return {f"edge_{k}": choice(OPERATIONS) for k in range(edges)}


def genotype(p: Any) -> tuple[str, ...]:
    """The operations on the edges of a point of `cells`, as `cell_net` takes them.

    Args:
        p: the point of a trial, `found.best`, or a dictionary.

    >>> genotype({"edge_0": "none", "edge_1": "skip_connect", "edge_2": "nor_conv_3x3", "lr": 0.1})
    ('none', 'skip_connect', 'nor_conv_3x3')
    """
    values = values_of(p)
    names = [f"edge_{k}" for k in range(sum(name.startswith("edge_") for name in values))]
    if not names or not set(names) <= set(values):
        raise ArgumentError(f"p has no edges: its space has to hold cells(6), and it has {sorted(values)}")
    return tuple(getattr(p, name) if isinstance(p, Point) else values[name] for name in names)


@dataclass(frozen=True)
class Darts:
    """What `darts` found.

    Args:
        genotype: the operation on each edge, for `cell_net`.
        strongest: the same without the guard: the strongest operation of each edge, "none" left aside.
        weights: the share of each operation on each edge; a tuple over `OPERATIONS` for each edge.
        record: of the training.
    """

    genotype: tuple[str, ...]
    strongest: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    record: Record

    def __str__(self) -> str:
        lines = [f"{'edge':4}  {'operation':14}" + "".join(f"{name:>14}" for name in OPERATIONS)]
        for k, (name, row) in enumerate(zip(self.genotype, self.weights, strict=True)):
            lines.append(f"{k:4}  {name:14}" + "".join(f"{share:14.2f}" for share in row))
        return "\n".join(lines)


def darts(
    data: Data[Any], channels: int = 8, cells: int = 3, epochs: int = 20, *,
    edges: int = 6, free: int = 2, seed: int = 0,
) -> Darts:  # fmt: skip
    """Search a cell by gradients: all operations at once, weighted; weights and shares in turn (arXiv 1806.09055).

    It is the first-order form. In each step the shares move by the gradient of one batch that validates, then the
    weights by that of one that trains: validation items choose the cell, so score it on others.

    Operations without parameters win easily, since they need no training, and such cells are bad (NAS-Bench-201: 54 %
    on CIFAR-10 where others have 94). At most `free` edges may have one, as in P-DARTS (arXiv 1904.12760); where more
    would have, that is told, and those edges get their strongest convolution.

    Args:
        data: of images, shape (b, c, h, w), with training and validation items.
        channels: of the first cells.
        cells: how often the cell comes.
        epochs: of the search.
        edges: of the cell: 1, 3, 6 or 10.
        free: edges that may have an operation without parameters.
        seed: of weights, shares and batches.

    Returns:
        What was found: `cell_net(found.genotype, n_out)` is a model of it.

    Raises:
        ArgumentError: an argument is wrong.
        DataError: the data has no validation items, or is not of images.
        StateError: this is one of several processes.

    >>> from easylearn import TensorData, single_label
    >>> x, y = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 2
    >>> data = TensorData((x, y), (x, y), single_label(["a", "b"]), batch_size=16)
    >>> found = darts(data, channels=2, cells=1, epochs=1, edges=1, free=1)
    >>> len(found.genotype), round(sum(found.weights[0]), 6)
    (1, 1.0)
    """
    if not isinstance(data, Data):
        raise ArgumentError(f"darts takes data of images, got {type(data).__name__}")
    if wants_processes():
        raise StateError("darts searches in one process, not in several: run it before, and give them what it found")
    check_whole("epochs", epochs)
    check_whole("free", free, 0)
    if "valid" not in data.splits:
        raise DataError("darts chooses by validation items, and the data has none: give valid=")
    with closing(data.loader("train").batches(torch.device("cpu"))) as batches:
        images = next(batches).inputs[0]
    if images.ndim != 4:
        raise DataError(f"darts takes images of shape (b, c, h, w), and the data gives {tuple(images.shape)}")
    net = _Mixture(edges, data.task.n_out, channels, cells, images.shape[1], seed)
    learn = Learner(data, net, optimizer=sgd, wd=3e-4, clip=5.0, seed=seed, progress=False)
    learn.freeze_to(1)
    shares = _Shares(net, data, seed)
    record = learn.fit(RATE, 1, cycle_len=epochs, callbacks=[shares])
    return _found(net, free, record)


class _Mixed(nn.Module):
    """All operations on an edge, weighted by their shares."""

    def __init__(self, channels: int, shares: nn.Parameter, edge: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation(name, channels, affine=False) for name in OPERATIONS)
        self.shares, self.edge = shares, edge

    def forward(self, x: Tensor) -> Tensor:
        weights = self.shares[self.edge].softmax(0)
        return torch.stack([w * op(x) for w, op in zip(weights[1:], self.operations[1:], strict=True)]).sum(0)


class _Mixture(nn.Module):
    """The net of a search: every cell holds all operations, and all cells have the same shares."""

    def __init__(self, edges: int, n_out: int, channels: int, cells: int, n_in: int, seed: int) -> None:
        super().__init__()
        nodes_of(edges)
        with scoped_rng(seed, "darts"):
            self.shares = nn.ParameterList([nn.Parameter(1e-3 * torch.randn(edges, len(OPERATIONS)))])

            def cell(width: int) -> Cell:
                return Cell([_Mixed(width, self.shares[0], k) for k in range(edges)])

            body, width = stack_cells(cell, channels, cells, n_in, affine=False)
            self.net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_out))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """The shares, which stay frozen for the optimizer of the weights, and all else."""
        return LayerGroup("shares", (self.shares,)), LayerGroup("weights", (self.net,))


class _Shares(Callback):
    """Moves the shares before each step, by the gradient of a batch that validates."""

    def __init__(self, net: _Mixture, data: Data[Any], seed: int) -> None:
        self.shares, self.loader, self.seed = net.shares[0], _shuffled(data.loader("valid")), seed
        self.optimizer = torch.optim.Adam([self.shares], SHARES_RATE, betas=(0.5, 0.999), weight_decay=1e-3)
        self.batches: Generator[Batch, None, None] | None = None

    def on_fit_begin(self, run: Run) -> None:
        self.batches = self._endless(run)

    def _endless(self, run: Run) -> Generator[Batch, None, None]:
        for epoch in count():
            with closing(self.loader.batches(run.strategy.device, self.seed, epoch)) as batches:
                yield from batches

    def on_batch_begin(self, run: Run) -> None:
        assert self.batches is not None
        batch = next(self.batches)
        self.shares.requires_grad_(True)
        try:
            _, loss = run.strategy.forward_loss(run.model, run.task, batch)
            self.shares.grad, = torch.autograd.grad(loss, [self.shares])  # fmt: skip
            self.optimizer.step()
        finally:
            self.shares.requires_grad_(False)
            self.shares.grad = None

    def on_fit_end(self, run: Run) -> None:
        if self.batches is not None:
            self.batches.close()


def _shuffled(loader: Loader) -> Loader:
    """The same items in another order in each epoch, where the loader has an order at all."""
    if not isinstance(loader, ItemLoader):
        return loader
    return ItemLoader(Order(loader.n_items, loader.batch_size, shuffle=True), loader.source, loader.target)


def _found(net: _Mixture, free: int, record: Record) -> Darts:
    """The cell of the strongest operations, of which few may be without parameters."""
    shares = net.shares[0].detach().softmax(1).cpu()
    rows: list[Mapping[str, float]] = [dict(zip(OPERATIONS, row, strict=True)) for row in shares.tolist()]
    strongest = [max(OPERATIONS[1:], key=row.__getitem__) for row in rows]
    bare = sorted((k for k, name in enumerate(strongest) if name in FREE), key=lambda k: -rows[k][strongest[k]])
    chosen = list(strongest)
    for k in bare[free:]:
        chosen[k] = max((name for name in OPERATIONS if name not in FREE), key=rows[k].__getitem__)
    if len(bare) > free:
        warnings.warn(
            f"operations without parameters are the strongest on {len(bare)} of {len(rows)} edges "
            f"({', '.join(f'{k}: {strongest[k]}' for k in sorted(bare))}), as they often are in this search, and not "
            f"for being good: {len(bare) - free} of them get their strongest convolution instead, free={free}. "
            "found.strongest has the cell without this",
            EasyLearnWarning,
            stacklevel=3,
        )
    return Darts(tuple(chosen), tuple(strongest), tuple(tuple(row) for row in shares.tolist()), record)
