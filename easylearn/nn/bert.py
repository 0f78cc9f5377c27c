"""BERT's encoder (arXiv 1810.04805), one vector per text of its outputs, and the classifier made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ArgumentError, check_number, check_whole
from .body_head import BodyHead
from .dropout import Dropout
from .heads import pooled_head
from .registry import register

Pooling = Literal["mean", "cls"]
Depth = Literal["last", "all"]


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
        n_positions: the most tokens of a text.
        eps: of the layer norms.
        drop: dropout of embeddings, attention and outputs of layers.
        pooling: "mean" of the outputs of the real tokens, or that of the first, "cls".
        normalize: give the vector the length 1.
        depth: "last" takes the vector of the last layer; "all" puts before it the means of the embeddings and of every
            other layer, each of the length 1, which know more than what an encoder of meanings keeps (docs/log.md).
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

    @property
    def n_features(self) -> int:
        """Length of a text's vector."""
        return self.size * (1 + self.n_layers * (self.depth == "all"))

    def __post_init__(self) -> None:
        for name in ("n_tokens", "size", "n_layers", "n_heads", "n_hidden", "n_positions"):
            check_whole(name, getattr(self, name))
        check_number("drop", self.drop, "at least 0", "below 1")
        check_number("eps", self.eps, "at least 0")
        if self.size % self.n_heads:
            raise ArgumentError(f"size={self.size} must be divided by n_heads={self.n_heads} without a rest")
        for name, kind in {"pooling": Pooling, "depth": Depth}.items():
            if getattr(self, name) not in get_args(kind):
                raise ArgumentError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")


class TextEncoder(nn.Module):
    """What gives outputs for tokens, and of these one vector per text.

    Args:
        shape: size of the vocabulary, and how the vector is made.
    """

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.n_tokens, self.n_positions = shape.n_tokens, shape.n_positions
        self.pooling, self.normalize, self.depth = shape.pooling, shape.normalize, shape.depth

    def outputs(self, x: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The embeddings and the outputs of each layer, (b, t, size), and which of their tokens are real, (b, t).

        Args:
            x: tokens, shape (b, t), padded on the right; at most `n_positions` of them.
            lengths: how many of each row are real, shape (b,); of a row of length 0 the first is looked at.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Vectors (b, n_features) of texts; see `outputs`."""
        found, real = self.outputs(x, lengths)
        weight = real.unsqueeze(2) / real.sum(1)[:, None, None]
        vectors = [(h.float() * weight).sum(1) for h in (found if self.depth == "all" else found[-1:])]
        if self.pooling == "cls":
            vectors[-1] = found[-1][:, 0].float()
        before, last = vectors[:-1], vectors[-1]
        last = F.normalize(last, dim=1) if self.normalize or before else last
        return torch.cat([*(F.normalize(v, dim=1) for v in before), last], 1)

    def halves(self) -> list[tuple[nn.Module, ...]]:
        """Two layer groups: the embeddings with the first half of the layers, and the rest."""
        raise NotImplementedError


def real_tokens(x: Tensor, lengths: Tensor) -> Tensor:
    """Which tokens of `x`, (b, t), are real; of a row of length 0 the first."""
    place = torch.arange(x.shape[1], device=x.device)
    return place < lengths.to(x.device, non_blocking=True).clamp_min(1).unsqueeze(1)


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
        return [(self.words, self.positions, self.norm, *layers[:half]), tuple(layers[half:])]


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
