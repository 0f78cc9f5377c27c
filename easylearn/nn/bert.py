"""BERT's encoder (arXiv 1810.04805), one vector per text of its outputs, and the classifier made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..device import keep_few_kernels
from ..errors import ArgumentError, check_number, check_whole
from .body_head import BodyHead
from .dropout import Dropout
from .heads import pooled_head
from .registry import register

Pooling = Literal["mean", "cls"]
Depth = Literal["last", "all"]

AT_ONCE = 16_384
"""Tokens that pass an encoder at once. Where there are more, gradients compute their outputs a second time."""


@register("easylearn.bert_shape")
@dataclass(frozen=True)
class BertShape:
    """The sizes of an encoder, and how one vector is made of a text's outputs.

    Args:
        n_tokens: size of the vocabulary.
        size: length of a token's vector.
        n_layers: attention layers.
        n_heads: attention heads, which share `size` among them.
        n_hidden: width inside of a layer.
        n_positions: the most tokens of a window.
        eps: of the layer norms.
        drop: dropout of embeddings, attention and outputs of layers.
        pooling: "mean" of the outputs of the real tokens, or that of the first, "cls".
        normalize: give the vector the length 1.
        depth: "last" takes the vector of the last layer; "all" puts before it the means of the embeddings and of every
            other layer, each of the length 1, which know more than what an encoder of meanings keeps (docs/log.md).
        window: longer texts pass in windows of like length, of at most so many tokens.
    """

    n_tokens: int
    size: int = 384
    n_layers: int = 6
    n_heads: int = 12
    n_hidden: int = 1536
    n_positions: int = 512
    eps: float = 1e-12
    drop: float = 0.1
    pooling: Pooling = "mean"
    normalize: bool = True
    depth: Depth = "all"
    window: int = 128

    @property
    def n_features(self) -> int:
        """Length of a text's vector."""
        return self.size * (1 + self.n_layers * (self.depth == "all"))

    def __post_init__(self) -> None:
        for name in ("n_tokens", "size", "n_layers", "n_heads", "n_hidden"):
            check_whole(name, getattr(self, name))
        for name in ("n_positions", "window"):  # two marks, and a token between them
            check_whole(name, getattr(self, name), 3)
        check_number("drop", self.drop, "at least 0", "below 1")
        check_number("eps", self.eps, "at least 0")
        if self.size % self.n_heads:
            raise ArgumentError(f"size={self.size} must be divided by n_heads={self.n_heads} without a rest")
        for name, kind in {"pooling": Pooling, "depth": Depth}.items():
            if getattr(self, name) not in get_args(kind):
                raise ArgumentError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")


class TextEncoder(nn.Module):
    """What gives outputs for tokens, and of these one vector per text.

    A text of more than `window` tokens passes in several windows of like length, each between the text's first and last
    token, its marks; the vector is made of the outputs of all of them.

    Args:
        shape: size of the vocabulary, and how the vector is made.
    """

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        keep_few_kernels()
        self.n_tokens, self.n_positions = shape.n_tokens, shape.n_positions
        self.pooling, self.normalize, self.depth = shape.pooling, shape.normalize, shape.depth
        self.window, self.n_parts = min(shape.window, shape.n_positions), shape.n_features // shape.size

    def outputs(self, x: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The embeddings and the outputs of each layer, (b, t, size), and which of their tokens are real, (b, t).

        Args:
            x: tokens, shape (b, t), padded on the right; at most `n_positions` of them.
            lengths: how many of each row are real, shape (b,); of a row of length 0 the first is looked at.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Vectors (b, n_features) of texts of any length.

        Args:
            x: tokens, shape (b, t), padded on the right.
            lengths: how many of each row are real, shape (b,). On the CPU it costs no wait for a GPU.
        """
        counts = _pieces(lengths - 2, self.window - 2).clamp_min(1)
        row = torch.arange(len(x), device=lengths.device).repeat_interleave(counts)
        number = torch.arange(len(row), device=lengths.device) - (counts.cumsum(0) - counts)[row]
        at, real = _window_places(lengths, row, number, self.window - 2)
        at = at[:, : max(int(real.max()), 1)]
        tokens = x[row.to(x.device)[:, None], at.to(x.device, non_blocking=True)]
        per_pass = max(AT_ONCE // at.shape[1], 1)
        parts = [(tokens[i : i + per_pass], real[i : i + per_pass]) for i in range(0, len(tokens), per_pass)]
        again = len(parts) > 1 and torch.is_grad_enabled()
        sums = [checkpoint(self.summed, *p, use_reentrant=False) if again else self.summed(*p) for p in parts]
        n = int(counts.max())
        found = torch.cat(sums)
        if n > 1:  # not index_add, whose sums on a GPU come in any order
            grid = found.new_zeros(len(x) * n, found.shape[1])
            found = grid.index_copy(0, (row * n + number).to(x.device), found).view(len(x), n, -1).sum(1)
        weight = torch.zeros_like(lengths).index_add(0, row, real)
        return self.vectors(found, weight.to(x.device, non_blocking=True))

    def summed(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The sums of what a vector is the mean of, (b, n_features), of windows of at most `window` tokens."""
        found, real = self.outputs(x, lengths)
        weight = (real & (lengths > 0).to(x.device, non_blocking=True)[:, None]).unsqueeze(2)
        sums = [(h.float() * weight).sum(1) for h in (found if self.depth == "all" else found[-1:])]
        if self.pooling == "cls":
            sums[-1] = found[-1][:, 0].float() * weight.sum(1)
        return torch.cat(sums, 1)

    def vectors(self, sums: Tensor, lengths: Tensor) -> Tensor:
        """The vectors of texts with these sums over so many tokens."""
        found = sums / lengths.clamp_min(1).unsqueeze(1)
        *before, last = found.chunk(self.n_parts, 1)
        last = F.normalize(last, dim=1) if self.normalize or before else last
        return torch.cat([*(F.normalize(v, dim=1) for v in before), last], 1)

    def as_graph(self) -> nn.Module:
        """What stands for it in a graph, where all texts of a batch have as many windows."""
        return _EncoderGraph(self)

    def halves(self) -> list[tuple[nn.Module, ...]]:
        """Two layer groups: the embeddings with the first half of the layers, and the rest."""
        raise NotImplementedError


def real_tokens(x: Tensor, lengths: Tensor) -> Tensor:
    """Which tokens of `x`, (b, t), are real; of a row of length 0 the first."""
    place = torch.arange(x.shape[1], device=x.device)
    return place < lengths.to(x.device, non_blocking=True).clamp_min(1).unsqueeze(1)


def _pieces(n: Tensor, most: int) -> Tensor:
    """How many pieces of at most so many make `n`."""
    return torch.div(n + most - 1, most, rounding_mode="floor")


def _window_places(lengths: Tensor, row: Tensor, number: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Where the tokens of windows are in their texts, (m, most + 2), and how many of a window are real, (m,).

    Args:
        lengths: of the texts, marks included.
        row: the text of each window.
        number: which of the text's windows it is; those behind its last one are empty.
        most: tokens of a window between its marks.
    """
    length = lengths[row]
    inner = (length - 2).clamp_min(0)
    n = _pieces(inner, most).clamp_min(1)
    size = torch.div(inner + n - 1, n, rounding_mode="floor")
    start = size * number
    count = torch.minimum((inner - start).clamp_min(0), size)
    place = torch.arange(most + 2, device=lengths.device)
    at = torch.where(place == 0, place, start[:, None] + place)
    at = torch.where(place > count[:, None], (length - 1).clamp_min(0)[:, None], at)
    return at, torch.minimum(count + 2, length) * (number < n)


class _EncoderGraph(nn.Module):
    """What an encoder computes, without loops over the data: each text has as many windows as the longest may need."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        traced = torch.onnx.is_in_onnx_export()  # torch.export wants sizes that are never 1 and bounds of their own
        b, n = x.shape[0], x.shape[1] // (self.encoder.window - 2) + (1 if traced else 2)
        number = torch.arange(b * n, device=x.device)
        row = torch.div(number, n, rounding_mode="floor")
        at, real = _window_places(lengths, row, number - row * n, self.encoder.window - 2)
        at = at[:, : x.shape[1]] if traced else at  # no window is longer than all texts
        sums = self.encoder.summed(x[row[:, None], at], real)
        return self.encoder.vectors(sums.view(b, n, sums.shape[1]).sum(1), lengths)


class BertLayer(nn.Module):
    """Attention of all tokens to all, and two linear layers, each followed by a layer norm.

    >>> BertLayer(BertShape(9, size=8, n_heads=2))(torch.zeros(1, 3, 8), torch.ones(1, 1, 1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        size = shape.size
        self.n_heads, self.drop = shape.n_heads, shape.drop
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.norm1, self.norm2 = nn.LayerNorm(size, shape.eps), nn.LayerNorm(size, shape.eps)
        self.wide, self.narrow = nn.Linear(size, shape.n_hidden), nn.Linear(shape.n_hidden, size)
        self.dropout = Dropout(shape.drop)

    def forward(self, h: Tensor, real: Tensor) -> Tensor:
        """Outputs (b, t, size) of `h`, (b, t, size), where `real`, (b, 1, 1, t), says which tokens are looked at."""
        b, t, size = h.shape
        q, k, v = self.qkv(h).view(b, t, 3, self.n_heads, size // self.n_heads).permute(2, 0, 3, 1, 4)
        drop = self.drop if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=real, dropout_p=drop)
        h = self.norm1(h + self.dropout(self.out(seen.transpose(1, 2).reshape(b, t, size))))
        out: Tensor = self.norm2(h + self.dropout(self.narrow(F.gelu(self.wide(h)))))
        return out


@register("easylearn.bert")
class Bert(TextEncoder):
    """BERT's encoder and pooling: one vector per text. Post-norm layers, gelu, learnt positions, one segment.

    Args:
        shape: sizes and pooling.

    >>> Bert(BertShape(100, size=8, n_layers=2, n_heads=2, n_hidden=16))(torch.zeros(4, 5, dtype=torch.int64),
    ...     torch.tensor([5, 4, 1, 2])).shape
    torch.Size([4, 24])
    """

    def __init__(self, shape: BertShape) -> None:
        super().__init__(shape)
        self.words = nn.Embedding(shape.n_tokens, shape.size)
        self.positions = nn.Embedding(shape.n_positions, shape.size)
        self.norm, self.dropout = nn.LayerNorm(shape.size, shape.eps), Dropout(shape.drop)
        self.layers = nn.ModuleList(BertLayer(shape) for _ in range(shape.n_layers))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)  # as in the paper's code
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def outputs(self, x: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `TextEncoder.outputs`."""
        real, place = real_tokens(x, lengths), torch.arange(x.shape[1], device=x.device)
        found = [self.dropout(self.norm(self.words(x) + self.positions(place)))]
        for layer in self.layers:
            found.append(layer(found[-1], real[:, None, None]))
        return found, real

    def halves(self) -> list[tuple[nn.Module, ...]]:
        """See `TextEncoder.halves`."""
        layers = list(self.layers)
        half = len(layers) // 2
        return [(self.words, self.positions, self.norm, self.dropout, *layers[:half]), tuple(layers[half:])]


@register("easylearn.encoder_classifier")
def encoder_classifier(
    body: TextEncoder, n_features: int, n_out: int, *, hidden: Sequence[int] = (),
    ps: float | Sequence[float] | None = None,
) -> BodyHead:  # fmt: skip
    """An encoder of texts with a new head, in three layer groups: embeddings and first half of the layers, rest, head.

    Args:
        body: the encoder.
        n_features: length of its vectors.
        n_out: how many logits.
        hidden: sizes of the head's hidden layers.
        ps: dropout of the head, see `pooled_head`.

    >>> shape = BertShape(9, size=8, n_heads=2)
    >>> [group.name for group in encoder_classifier(Bert(shape), shape.n_features, 2).layer_groups()]
    ['stem', 'late', 'head']
    """
    return BodyHead(body, nn.Identity(), pooled_head(n_features, n_out, hidden, ps), body.halves())
