"""AWD-LSTM (arXiv 1708.02182): word vectors and recurrent layers with their dropouts, and the penalties on them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import keyed
from ..device import keep_few_kernels
from ..errors import ArgumentError
from .dropout import drop_mask, drop_numbers
from .registry import register

State = tuple[tuple[Tensor, Tensor], ...]
"""Per layer the hidden and the cell state, each of shape (1, b, width)."""

INIT_RANGE = 0.1
MOST_DROPPED = 0.95
MOST_LAYERS = 100


@register("easylearn.drops")
@dataclass(frozen=True)
class Drops:
    """Dropout probabilities of an AWD-LSTM.

    Args:
        embedding: of whole words: every occurrence in the batch at once.
        input: of single numbers of the word vectors, the same ones at each step of a row (arXiv 1512.05287).
        weight: of hidden-to-hidden weights, the same ones at each step and for all rows.
        hidden: between layers, the same numbers at each step of a row.
        output: of the last layer's output, the same numbers at each step of a row.

    Raises:
        ArgumentError: a value is no probability below 1.
    """

    embedding: float = 0.02
    input: float = 0.25
    weight: float = 0.2
    hidden: float = 0.15
    output: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            p = getattr(self, field.name)
            if isinstance(p, bool) or not isinstance(p, int | float) or not 0.0 <= p < 1.0:
                raise ArgumentError(
                    f"the {field.name} dropout must be a probability of at least 0 and below 1, got {p!r}"
                )

    def scaled(self, mult: float) -> Drops:
        """All of them times `mult`, less than 1 for much text; a product above 0.95 becomes 0.95.

        >>> Drops(weight=0.5).scaled(0.5).weight, Drops(weight=0.5).scaled(3).weight
        (0.25, 0.95)
        """
        if isinstance(mult, bool) or not isinstance(mult, int | float) or not 0.0 <= mult < math.inf:
            raise ArgumentError(f"dropouts are scaled by a number of at least 0, got {mult!r}")
        return Drops(**{f.name: min(getattr(self, f.name) * mult, MOST_DROPPED) for f in fields(self)})


def check_size(name: str, size: Any) -> None:
    """Refuse what is no whole number of at least 1."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {size!r}")


LM_DROPS = Drops()
"""For a language model, as fast.ai chose them."""

CLASSIFIER_DROPS = Drops(embedding=0.05, input=0.4, weight=0.5, hidden=0.3, output=0.4)
"""For a classifier, as fast.ai chose them; `output` stands for the first dropout of the head there."""


class EncoderOutput(NamedTuple):
    """What an encoder says about a batch of windows.

    Args:
        raw: outputs of the last layer, shape (b, t, emb_size).
        dropped: the same after output dropout; `raw` itself where there is none.
        state: the states after the last token, detached.
    """

    raw: Tensor
    dropped: Tensor
    state: State


@register("easylearn.awd_lstm")
class AWDLSTM(nn.Module):
    """Word vectors and a stack of LSTMs with the dropouts of AWD-LSTM.

    Weights are dropped by giving the fused kernel a product of weight and mask, so parameters have the names and values
    that `torch.nn.LSTM` gives them. A part in evaluation mode drops nothing, whatever the mode of the whole.

    Args:
        n_tokens: size of the vocabulary.
        emb_size: length of a word vector, and of an output.
        n_hidden: width of the layers before the last.
        n_layers: how many LSTMs.
        drops: the dropout probabilities; may be replaced at any time.
        pad: the token for padding, whose vector stays 0.

    Raises:
        ArgumentError: a size is below 1, or `pad` is no token.

    >>> encoder = AWDLSTM(100, emb_size=8, n_hidden=12, n_layers=2)
    >>> encoder(torch.zeros(4, 5, dtype=torch.int64)).raw.shape
    torch.Size([4, 5, 8])
    """

    def __init__(
        self, n_tokens: int, emb_size: int = 400, n_hidden: int = 1152, n_layers: int = 3, *, drops: Drops = LM_DROPS,
        pad: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        given = {"n_tokens": n_tokens, "emb_size": emb_size, "n_hidden": n_hidden, "n_layers": n_layers}
        for name, size in given.items():
            check_size(name, size)
        if n_layers > MOST_LAYERS:
            raise ArgumentError(f"n_layers must be at most {MOST_LAYERS}, got {n_layers}")
        if isinstance(pad, bool) or not isinstance(pad, int) or not 0 <= pad < n_tokens:
            raise ArgumentError(f"pad must be one of the tokens 0 to {n_tokens - 1}, got {pad!r}")
        if not isinstance(drops, Drops):
            raise ArgumentError(f"drops must be a Drops, got {type(drops).__name__}")
        keep_few_kernels()
        self.emb_size, self.n_hidden, self.n_layers = emb_size, n_hidden, n_layers
        self.drops = drops
        self.embedding = nn.Embedding(n_tokens, emb_size, padding_idx=pad)
        nn.init.uniform_(self.embedding.weight, -INIT_RANGE, INIT_RANGE)
        with torch.no_grad():
            self.embedding.weight[pad] = 0
        widths = [emb_size, *[n_hidden] * (n_layers - 1), emb_size]
        self.rnns = nn.ModuleList(
            nn.LSTM(size_in, size_out, batch_first=True) for size_in, size_out in pairwise(widths)
        )

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary."""
        return self.embedding.num_embeddings

    @property
    def layers(self) -> tuple[nn.LSTM, ...]:
        """The LSTMs from the input on."""
        return tuple(rnn for rnn in self.rnns if isinstance(rnn, nn.LSTM))

    def start(self, rows: int) -> State:
        """The state before any token, for `rows` rows: zeros."""
        like = self.embedding.weight
        zeros = (like.new_zeros(1, rows, rnn.hidden_size) for rnn in self.layers)
        return tuple((z, z) for z in zeros)

    def drop_weights(self) -> tuple[Tensor | None, ...]:
        """Hidden-to-hidden weights of each layer with a new mask; None where nothing is dropped."""
        p = self.drops.weight
        return tuple(drop_numbers(_parameters(rnn)[1], p) if p and rnn.training else None for rnn in self.layers)

    def forward(
        self, x: Tensor, state: State | None = None, weights: tuple[Tensor | None, ...] | None = None
    ) -> EncoderOutput:
        """Read windows of text.

        Args:
            x: tokens, shape (b, t), any type of integer.
            state: where the window begins; None for the beginning of a text.
            weights: what `drop_weights` gave, for windows that shall share one mask; None draws a new one.

        Returns:
            Outputs and the state after the last token.
        """
        if x.dim() != 2 or not x.shape[1]:
            raise ArgumentError(f"tokens must have shape (rows, at least one token), got {tuple(x.shape)}")
        rows = x.shape[0]
        if state is None:
            state = self.start(rows)
        elif len(state) != self.n_layers or state[0][0].shape[1] != rows:
            raise ArgumentError(
                f"the state is of {len(state)} layers and {state[0][0].shape[1] if state else 0} rows, "
                f"but there are {self.n_layers} layers and {rows} rows"
            )
        if weights is None:
            weights = self.drop_weights()
        out = self._vectors(x.long())
        after: list[tuple[Tensor, Tensor]] = []
        for i, (rnn, (h, c), w_hh) in enumerate(zip(self.layers, state, weights, strict=True)):
            out, h, c = _run_lstm(rnn, out, h, c, w_hh)
            after.append((h.detach(), c.detach()))
            if i < self.n_layers - 1 and rnn.training:
                out = _drop_over_time(out, self.drops.hidden)
        dropped = _drop_over_time(out, self.drops.output) if self.training else out
        return EncoderOutput(out, dropped, tuple(after))

    def _vectors(self, x: Tensor) -> Tensor:
        out: Tensor = self.embedding(x)
        if not self.embedding.training:
            return out
        if self.drops.embedding:
            out = out * drop_mask((self.n_tokens, 1), self.drops.embedding, out)[x, 0].unsqueeze(2)
        return _drop_over_time(out, self.drops.input)

    def extra_repr(self) -> str:
        return ", ".join(f"{f.name}={getattr(self.drops, f.name):g}" for f in fields(self.drops))


def _drop_over_time(x: Tensor, p: float) -> Tensor:
    """Drop numbers of each row of x (b, t, width), the same ones at each of the t steps."""
    return x * drop_mask((x.shape[0], 1, x.shape[2]), p, x) if p else x


def _cpu_autocast() -> torch.dtype | None:
    """The type that autocast on the CPU computes in; None while there is none."""
    if torch.__version__ < "2.4":  # its functions took no device then
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None


@functools.lru_cache(maxsize=4)
def _cpu_has_lstm(dtype: torch.dtype) -> bool:
    """Whether the CPU's LSTM kernel runs in a short type: on processors without such instructions it raises."""
    try:
        with keyed.scoped_rng(), torch.no_grad(), torch.autocast("cpu", dtype):
            nn.LSTM(4, 4, batch_first=True)(torch.zeros(1, 2, 4))
    except RuntimeError:
        return False
    return True


def _parameters(rnn: nn.LSTM) -> list[Tensor]:
    """Input-to-hidden weight, hidden-to-hidden weight, and the bias of each."""
    return [rnn.get_parameter(n) for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")]


def _run_lstm(rnn: nn.LSTM, x: Tensor, h: Tensor, c: Tensor, w_hh: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """One layer over a window: outputs (b, t, width), then hidden and cell state (1, b, width)."""
    short = _cpu_autocast() if x.device.type == "cpu" else None
    if short is not None and not _cpu_has_lstm(short):
        with torch.autocast("cpu", enabled=False):
            return _run_lstm(rnn, x.float(), h, c, w_hh)
    weights = _parameters(rnn)
    graph = torch.is_grad_enabled() and (x.requires_grad or any(w.requires_grad for w in weights))
    h, c = h.to(weights[0].dtype), c.to(weights[0].dtype)
    # Without a graph the kernel must not keep what only a backward pass would need.
    with torch.set_grad_enabled(graph):
        if w_hh is None and (rnn.training or not graph):
            out, (h, c) = rnn(x, (h, c))
            return out, h, c
        if w_hh is not None:
            weights[1] = w_hh
            if x.is_cuda:
                weights = _in_one_piece(weights)
        # A frozen layer is in evaluation mode, and cuDNN refuses gradients through that: so training is True here. It
        # means nothing else, the kernel's own dropout being 0.
        out, h, c = torch.lstm(x, (h, c), weights, True, 1, 0.0, True, False, True)
        return out, h, c


def _in_one_piece(weights: Sequence[Tensor]) -> list[Tensor]:
    """Copies that lie one behind the other, as cuDNN wants them: it warns at each call where it has to copy them."""
    pieces = torch.split(torch.cat([w.flatten() for w in weights]), [w.numel() for w in weights])
    return [piece.view(w.shape) for piece, w in zip(pieces, weights, strict=True)]


def activation_penalty(output: EncoderOutput, alpha: float = 2.0, beta: float = 1.0) -> Tensor:
    """AR and TAR (arXiv 1708.02182): large outputs, and outputs that change much from token to token, cost something.

    Args:
        output: what the encoder gave.
        alpha: weight of the mean square of the dropped outputs.
        beta: weight of the mean square of the differences between raw outputs of neighbouring tokens.

    Returns:
        A number, shape (), to be added to the loss.
    """
    raw = output.raw.float()
    penalty = alpha * output.dropped.float().pow(2).mean()
    if raw.shape[1] > 1:
        penalty = penalty + beta * (raw[:, 1:] - raw[:, :-1]).pow(2).mean()
    return penalty
