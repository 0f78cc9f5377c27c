"""Models on tables: entity embeddings with a small network (arXiv 1604.06737), and the dot product of two of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import keyed
from ..errors import ArgumentError, check_whole
from .dropout import Dropout
from .groups import LayerGroup
from .heads import check_layers, checked_drops
from .members import UNIT_WORK, MemberLinear, collect, deal, learning
from .registry import register

Size = tuple[int, int]
YRange = tuple[float, float] | Literal["auto"] | None
INIT_STD, DOT_STD = 0.05, 0.01
MANY_NUMBERS = 4096  # for which several passes over them cost less than a search for each
UNKNOWN, MISSING = 0, 1  # the codes that every categorical column has


def emb_size(n_levels: int) -> int:
    """How many numbers stand for one of `n_levels` levels: 1.6 times the 0.56th power, at most 600 (fast.ai's rule).

    >>> [emb_size(n) for n in (3, 9, 50, 1000, 100_000)]
    [3, 5, 14, 77, 600]
    """
    return min(600, round(1.6 * math.pow(n_levels, 0.56)))


@register("easylearn.forget")
class Forget(nn.Module):
    """In training, some codes (b, n_columns) become 0, *unknown*, so that its vector is learnt.

    A level that is first seen at prediction then gets what is best where nothing is known. The same is done for 1,
    *missing*, in columns where training has no missing value.

    Args:
        share: of the codes.
        never_missing: per column, whether training has no missing value.
    """

    from_top: Tensor

    def __init__(self, share: float, never_missing: Sequence[bool]) -> None:
        super().__init__()
        if not 0.0 <= share < 0.5:
            raise ArgumentError(f"unknown_p must be at least 0 and below 0.5, got {share}")
        self.share = share
        self.register_buffer("from_top", torch.tensor([1 - share * n for n in never_missing]), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        if not (self.training and self.share):
            return codes
        draw = torch.rand(codes.shape, device=codes.device)
        return codes.masked_fill(draw < self.share, UNKNOWN).masked_fill(draw >= self.from_top, MISSING)

    def extra_repr(self) -> str:
        return f"{self.share:g}"


class CategoryEmbeddings(nn.Module):
    """One table of vectors per categorical column; the vectors of a row stand side by side.

    Args:
        sizes: (number of codes, length of a vector) per column.
        drop: dropout of single numbers of the vectors.
    """

    def __init__(self, sizes: Sequence[Size], drop: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= drop < 1.0:
            raise ArgumentError(f"the dropout of embeddings must be at least 0 and below 1, got {drop}")
        self.tables = nn.ModuleList(nn.Embedding(n, width) for n, width in sizes)
        for weight in self.tables.parameters():
            nn.init.trunc_normal_(weight, std=INIT_STD)
        self.drop = Dropout(drop)
        self.width = sum(width for _, width in sizes)

    def forward(self, codes: Tensor) -> Tensor:
        """Look up the vectors: (b, n_columns) codes to (b, width)."""
        return torch.cat(self.columns(codes), 1)

    def columns(self, codes: Tensor) -> list[Tensor]:
        """The same for each column by itself: (b, length of a vector) each."""
        vectors = [table(column) for table, column in zip(self.tables, codes.unbind(1), strict=True)]
        return [self.drop(v) for v in vectors] if self.drop.p else vectors


class NumberEmbeddings(nn.Module):
    """A vector for each number, too: it moves along straight pieces between knots (arXiv 2203.05556).

    A network of plain numbers sees smooth functions only; with knots it can tell apart, as trees do, a gain of 7,688
    from one of 7,000.

    Args:
        knots: per continuous column, increasing numbers; at least two.
        width: length of a vector.

    >>> layer = NumberEmbeddings([[0.0, 1.0, 4.0]], width=2)
    >>> layer(torch.tensor([[0.5], [100.0]])).shape
    torch.Size([2, 2])
    """

    left: Tensor
    inverse: Tensor
    first: Tensor

    def __init__(self, knots: Sequence[Sequence[float]], width: int) -> None:
        super().__init__()
        most = max(len(k) for k in knots) - 1
        # Columns with fewer pieces are filled up with pieces that no number reaches.
        left = torch.full((len(knots), most), torch.inf)
        inverse = torch.zeros(len(knots), most)
        for row, column in enumerate(knots):
            values = np.asarray(column, np.float32)  # where there is no memory, torch imports its compiler to compute
            if len(values) < 2 or not (np.diff(values) > 0).all():
                raise ArgumentError(f"knots must be at least two increasing numbers, got {list(column)[:10]}")
            left[row, : len(values) - 1] = torch.tensor(values[:-1])
            inverse[row, : len(values) - 1] = torch.tensor(1 / np.diff(values))
        self.register_buffer("left", left)
        self.register_buffer("inverse", inverse)
        self.register_buffer("first", torch.tensor([[most * row] for row in range(len(knots))]))
        self.steps = nn.Parameter(torch.randn(len(knots), most, width).div_(most**0.5))
        self.start = nn.Parameter(torch.zeros(len(knots), 1, width))
        self.width = len(knots) * width
        self._find = _search

    def as_graph(self) -> NumberEmbeddings:
        """The same without a binary search, which ONNX has not; see `easylearn.nn.as_graph`."""
        other = copy.copy(self)
        other._find = _compare
        return other

    def forward(self, x: Tensor) -> Tensor:
        """Look up and interpolate: (b, n_columns) numbers to (b, width)."""
        x = x.t().contiguous()
        piece = self._find(self.left[:, 1:].contiguous(), x)
        share = ((x - self.left.gather(1, piece)) * self.inverse.gather(1, piece)).clamp(0, 1).t().unsqueeze(2)
        # Beyond the last knot a number has gone up every step.
        begin = self.steps.cumsum(1) - self.steps + self.start
        table = torch.cat((begin, self.steps), 2).flatten(0, 1)
        places = (piece + self.first).t().flatten()
        # On a CPU the gradient of index_select takes a quarter of embedding's time; on a GPU it adds up in any order.
        rows = table.index_select(0, places) if table.is_cpu else F.embedding(places, table)
        at_knot, step = rows.view(-1, len(self.first), table.shape[1]).chunk(2, 2)
        return torch.addcmul(at_knot, step, share).relu().flatten(1)


def _search(knots: Tensor, x: Tensor) -> Tensor:
    """How many of its column's knots (n_columns, n) each number of x (n_columns, b) has reached."""
    if x.numel() < MANY_NUMBERS or not x.is_cpu:
        return torch.searchsorted(knots, x, right=True)
    # The same by halving: without branches, of which a processor guesses half wrong, in a third of the time.
    n = knots.shape[1]
    step = 1 << n.bit_length() >> 1
    knots = F.pad(knots, (0, 2 * step - n), value=torch.nan)
    piece = torch.zeros(x.shape, dtype=torch.int64)
    while step:
        piece.add_(knots.gather(1, piece + (step - 1)) <= x, alpha=step)
        step //= 2
    return piece


def _compare(knots: Tensor, x: Tensor) -> Tensor:
    return (knots.unsqueeze(1) <= x.unsqueeze(2)).sum(2)


@register("easylearn.scaled")
class Scaled(nn.Module):
    """Puts outputs (b, n_out) where the targets are: `shift + scale * x`.

    A new model then begins near the mean of the targets, whatever their unit.

    Args:
        shift: one number per output, such as the targets' mean.
        scale: one number per output, such as the targets' standard deviation.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


@register("easylearn.sigmoid_range")
class SigmoidRange(nn.Module):
    """Keeps each output of (b, n_out) between its bounds `low` and `high`, by a sigmoid.

    >>> SigmoidRange([0.0], [10.0])(torch.tensor([[0.0]]))
    tensor([[5.]])
    """

    low: Tensor
    width: Tensor

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        super().__init__()
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise ArgumentError(f"low bounds must lie below high bounds, got {list(low)} and {list(high)}")
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("width", torch.tensor(high, dtype=torch.float32) - self.low)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.low, x.sigmoid(), self.width)

    def inverse(self, outputs: Tensor) -> Tensor:
        """What gives these `outputs`, (..., n_out); of what is not between the bounds, the nearest that is."""
        return ((outputs - self.low) / self.width).logit(1e-3)

    def slope(self, x: Tensor) -> Tensor:
        """By how much the outputs grow with `x` there."""
        return self.width * x.sigmoid() * (-x).sigmoid()


@register("easylearn.table_output")
class TableOutput(nn.Module):
    """The end of a `TableModel`: the mean of its members, and a linear model of the row, from which it starts.

    What the hidden layers give is added to the linear model, whose weights are found once and not trained; see
    `easylearn.tabular.learner.start_linear`. It also bounds the numbers that the whole model sees: beyond the training
    rows' by half of their range, a prediction stays as it is.

    Args:
        codes: how many codes each categorical column has; 0 leaves one out of the linear model.
        low: of each continuous column, the least number that the model is to see.
        high: the largest.
        n_out: how many logits.
        members: how many networks there are.
        average: what is the mean of the members' outputs: "softmax" or "sigmoid", their probabilities; "outputs".
        last: what each member's outputs pass through, such as `SigmoidRange`.

    >>> output = TableOutput([], [-1.0], [1.0], n_out=1)
    >>> output(torch.ones(2, 1), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 1)).shape
    torch.Size([2, 1])
    """

    low: Tensor
    high: Tensor
    first: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self, codes: Sequence[int], low: Sequence[float], high: Sequence[float], n_out: int, members: int = 1,
        average: Literal["softmax", "sigmoid", "outputs"] = "outputs", last: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if average not in ("softmax", "sigmoid", "outputs"):
            raise ArgumentError(f'average must be "softmax", "sigmoid" or "outputs", got {average!r}')
        check_whole("members", members)
        self.codes, self.members, self.average = list(codes), members, average
        self.says = True  # whether the linear model says anything, as far as is known
        self._chosen = [i for i, n in enumerate(codes) if n]
        self.last = nn.Identity() if last is None else last
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32))
        self.register_buffer("first", torch.tensor([sum(codes[:i]) for i in self._chosen], dtype=torch.int64))
        self.register_buffer("weight", torch.zeros(n_out, sum(codes) + len(low)))
        self.register_buffer("bias", torch.zeros(n_out))

    def within(self, conts: Tensor) -> Tensor:
        """The numbers (b, n_cont), none beyond its bounds."""
        return conts.clamp(self.low, self.high) if conts.shape[1] else conts

    def features(self, cats: Tensor, conts: Tensor) -> Tensor:
        """What the linear model sees, (b, n): for each category a column of 0 and 1, then the numbers."""
        flags = [F.one_hot(cats[:, i], self.codes[i]).to(conts.dtype) for i in self._chosen]
        return torch.cat([*flags, self.within(conts)], 1)

    def weights(self, column: int) -> Tensor:
        """Those of a categorical column in the linear model, (number of codes, n_out); no rows if it is not in it."""
        start = sum(self.codes[:column])
        return self.weight[:, start : start + self.codes[column]].t()

    def forward(self, x: Tensor, cats: Tensor, conts: Tensor) -> Tensor:
        """Logits of outputs `x` (b, n_out) or (b, members, n_out), codes and numbers within their bounds.

        (b, n_out); of several members in training (b * members, n_out), those of a row one after the other.
        """
        n = sum(self.codes)
        start = F.linear(conts, self.weight[:, n:], self.bias)
        if n:
            codes = cats if len(self._chosen) == len(self.codes) else cats[:, self._chosen]
            columns = (codes + self.first).t().flatten()  # picked at once: of rows it takes four times as long
            start = start + self.weight.index_select(1, columns).view(len(self.weight), len(self.first), -1).sum(1).t()
        x = self.last(x + (start if x.ndim == 2 else start.unsqueeze(1)))
        if x.ndim == 2:
            return x
        if self.training:
            return x.flatten(0, 1)
        if self.average == "softmax":
            return x.log_softmax(2).logsumexp(1) - math.log(self.members)
        return x.sigmoid().mean(1).logit(1e-7) if self.average == "sigmoid" else x.mean(1)


@register("easylearn.table_model")
class TableModel(nn.Module):
    """Embeddings of categories and batch-normalised numbers, through a small network, to logits.

    A hidden block is Linear, BatchNorm, ReLU, Dropout.

    Args:
        sizes: (number of codes, length of a vector) per categorical column.
        n_cont: how many continuous columns.
        n_out: how many logits.
        layers, ps, emb_drop, use_bn: see `tabular_learner`.
        output: what the logits pass through at last, such as `Scaled` or `SigmoidRange`. A `TableOutput` adds a linear
            model, and may have several members, each a network of its own; a layer of all is one product.
        forget: applied to the codes in training; None leaves them alone.
        knots: per continuous column, for `NumberEmbeddings` beside the numbers; None for the numbers alone. A column
            with fewer than three knots gets none.
        number_width: length of the vectors of numbers.
        seed: of the initial weights.

    >>> model = TableModel([(4, 2)], n_cont=3, n_out=1, layers=[8])
    >>> model(torch.tensor([[1], [2]]), torch.zeros(2, 3)).shape
    torch.Size([2, 1])
    """

    curved: Tensor

    def __init__(
        self, sizes: Sequence[Size], n_cont: int, n_out: int, layers: Sequence[int] = (200, 100),
        ps: float | Sequence[float] = 0.0, emb_drop: float = 0.0, use_bn: bool = True, output: nn.Module | None = None,
        forget: Forget | None = None, knots: Sequence[Sequence[float]] | None = None, number_width: int = 8,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        check_layers(layers)
        drops = checked_drops(ps, layers, 0)
        if not sizes and not n_cont:
            raise ArgumentError("a table model needs at least one categorical or continuous column")
        k = self.members = output.members if isinstance(output, TableOutput) else 1
        with keyed.scoped_rng(seed, "table"):
            self.embeddings = CategoryEmbeddings([(n, k * width) for n, width in sizes], emb_drop)
            self.cont_bn = nn.BatchNorm1d(k * n_cont) if n_cont else nn.Identity()
            curved = [] if knots is None else [i for i, column in enumerate(knots) if len(column) > 2]
            self.register_buffer("curved", torch.tensor(curved, dtype=torch.int64))
            vectors = NumberEmbeddings([knots[i] for i in curved], k * number_width) if knots and curved else None
            self.numbers, self._by_member = vectors, (len(curved), k, number_width)
            width = self.embeddings.width // k + n_cont + (0 if vectors is None else vectors.width // k)
            blocks: list[nn.Module] = []
            for size, p in zip(layers, drops, strict=True):
                if k > 1:
                    blocks.append(MemberLinear(k, width, size, bias=not use_bn))
                else:
                    linear = nn.Linear(width, size, bias=not use_bn)
                    nn.init.kaiming_normal_(linear.weight)
                    blocks.append(linear)
                blocks += [*([nn.BatchNorm1d(k * size)] if use_bn else []), nn.ReLU(inplace=True)]
                blocks += [Dropout(p)] if p else []
                width = size
            self.hidden = nn.Sequential(*blocks)
            n_weights = sum(p.numel() for p in self.hidden.parameters() if p.ndim > 1) // k
            self._work = n_weights + UNIT_WORK * sum(layers)
            self.last = nn.Linear(width, k * n_out)
        self.output = output if output is not None else nn.Identity()
        self.forget = forget if forget is not None else nn.Identity()

    def forward(self, cats: Tensor, conts: Tensor) -> Tensor:
        """Logits (b, n_out) of codes `cats` (b, n_cat) and numbers `conts` (b, n_cont)."""
        output, k = self.output if isinstance(self.output, TableOutput) else None, self.members
        conts = conts if output is None else output.within(conts)
        parts = self.embeddings.columns(
            self.forget(cats) if len(self.embeddings.tables) else cats
        )  # put side by side with the numbers at once
        if conts.shape[1]:
            parts.append(self.cont_bn(conts if k == 1 else conts.repeat(1, k)))
        if self.numbers is not None:
            vectors = self.numbers(conts.index_select(1, self.curved))
            if k > 1:  # those of a member come together
                vectors = vectors.view(-1, *self._by_member).transpose(1, 2).flatten(1)
            parts.append(vectors)
        if k == 1:
            x = self.last(self.hidden(parts[0] if len(parts) == 1 else torch.cat(parts, 1)))
        else:
            x = self._of_members(torch.cat([torch.unflatten(part, 1, (k, -1)) for part in parts], 2))
        logits: Tensor = self.output(x) if output is None else output(x, cats, conts)
        return logits

    def _of_members(self, x: Tensor) -> Tensor:
        """What each member's layers give, (b, members, n_out), of what comes into them, (b, members, width).

        In training (b, m, n_out) of the m members that learn from a row.
        """
        k, b = self.members, x.shape[0]
        m = learning(k, b * self._work) if self.training else k
        x = self.hidden(deal(x, k, m).transpose(1, 2))  # ONNX has no mT
        weight, bias = self.last.weight.view(k, -1, self.last.in_features), self.last.bias.view(k, -1, 1)
        x = torch.baddbmm(bias, weight, x.view(k, self.last.in_features, -1))
        return collect(x.transpose(1, 2), k, m, b)

    def layer_groups(self) -> list[LayerGroup]:
        """Embeddings, hidden, output; the first has no parameters where there are no categories."""
        numbers = () if self.numbers is None else (self.numbers,)
        return [
            LayerGroup("embeddings", (self.embeddings, *numbers)),
            LayerGroup("hidden", (self.cont_bn, self.hidden)),
            LayerGroup("output", (self.last, self.output)),
        ]

    def vectors(self, column: int) -> Tensor:
        """The embedding table of a categorical column, shape (number of codes, length of a vector).

        Of several members theirs side by side. Where the model starts linear, the last numbers are a category's
        weights in the linear model.
        """
        table = self.embeddings.tables.get_submodule(str(column)).get_parameter("weight").detach()
        linear = self.output.weights(column) if isinstance(self.output, TableOutput) else table[:0]
        return torch.cat([table, linear], 1) if len(linear) else table


@register("easylearn.dot_product")
class DotProduct(nn.Module):
    """The dot product of a user's and an item's vector, plus a bias of each (arXiv 1907.06902 on why to try it first).

    The bias is the last number of each vector, so that a row is looked up once.

    Args:
        n_users, n_items: number of codes.
        n_factors: length of the vectors.
        output, forget, seed: as of `TableModel`.
    """

    def __init__(
        self, n_users: int, n_items: int, n_factors: int, output: nn.Module | None = None,
        forget: Forget | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        with keyed.scoped_rng(seed, "dot"):
            self.users = nn.Embedding(n_users, n_factors + 1)
            self.items = nn.Embedding(n_items, n_factors + 1)
            for table in (self.users, self.items):
                nn.init.trunc_normal_(table.weight, std=DOT_STD)
                with torch.no_grad():
                    table.weight[:, -1] = 0
        self.bias = nn.Parameter(torch.zeros(1))
        self.output = output if output is not None else nn.Identity()
        self.forget = forget if forget is not None else nn.Identity()

    def forward(self, cats: Tensor, conts: Tensor) -> Tensor:
        """Scores of a batch: codes (b, 2) of user and item to (b, 1); `conts` is not looked at."""
        users, items = self.forget(cats).unbind(1)
        user, item = self.users(users), self.items(items)
        score = (user[:, :-1] * item[:, :-1]).sum(1) + user[:, -1] + item[:, -1] + self.bias
        scores: Tensor = self.output(score.unsqueeze(1))
        return scores

    def vectors(self, column: int) -> Tensor:
        """The vectors of users (0) or items (1), shape (number of codes, n_factors + 1); the bias is the last."""
        return (self.users, self.items)[column].weight.detach()
