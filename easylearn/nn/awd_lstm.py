"""AWD-LSTM (arXiv 1708.02182): the encoder, the language model on it, and the text classifier (arXiv 1801.06146)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import keyed
from ..errors import ArgumentError
from .dropout import drop_mask, drop_numbers
from .groups import LayerGroup
from .heads import pooled_head
from .layers import WarmBatchNorm1d
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
        """All of them times one number: less for much text, more for little.

        Args:
            mult: at least 0; a product above 0.95 becomes 0.95.

        Returns:
            The new probabilities.

        Raises:
            ArgumentError: `mult` is negative or no number.

        >>> Drops(weight=0.5).scaled(0.5).weight, Drops(weight=0.5).scaled(3).weight
        (0.25, 0.95)
        """
        if isinstance(mult, bool) or not isinstance(mult, int | float) or not 0.0 <= mult < math.inf:
            raise ArgumentError(f"dropouts are scaled by a number of at least 0, got {mult!r}")
        return Drops(**{f.name: min(getattr(self, f.name) * mult, MOST_DROPPED) for f in fields(self)})


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
        self,
        n_tokens: int,
        emb_size: int = 400,
        n_hidden: int = 1152,
        n_layers: int = 3,
        *,
        drops: Drops = LM_DROPS,
        pad: int = 1,
    ) -> None:
        super().__init__()
        given = {"n_tokens": n_tokens, "emb_size": emb_size, "n_hidden": n_hidden, "n_layers": n_layers}
        for name, size in given.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ArgumentError(f"{name} must be a whole number of at least 1, got {size!r}")
        if n_layers > MOST_LAYERS:
            raise ArgumentError(f"n_layers must be at most {MOST_LAYERS}, got {n_layers}")
        if isinstance(pad, bool) or not isinstance(pad, int) or not 0 <= pad < n_tokens:
            raise ArgumentError(f"pad must be one of the tokens 0 to {n_tokens - 1}, got {pad!r}")
        if not isinstance(drops, Drops):
            raise ArgumentError(f"drops must be a Drops, got {type(drops).__name__}")
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
        dropped: list[Tensor | None] = []
        for rnn in self.layers:
            w_hh = _parameters(rnn)[1]
            if p and rnn.training:
                dropped.append(drop_numbers(w_hh, p))
            else:
                dropped.append(None)
        return tuple(dropped)

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

        Raises:
            ArgumentError: `x` is not of shape (b, t) with at least one token, or the state does not fit.
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
        """Say the dropouts."""
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


class Candidates(NamedTuple):
    """The tokens among which a language model is asked to choose.

    Args:
        tokens: their numbers, each once, shape (c,).
        shift: added to the logit of each, shape (c,).
    """

    tokens: Tensor
    shift: Tensor

    def decode(self, x: Tensor, decoder: nn.Linear) -> Tensor:
        """Logits (..., c) of outputs x (..., emb_size)."""
        bias = self.shift if decoder.bias is None else decoder.bias[self.tokens] + self.shift
        return nn.functional.linear(x, decoder.weight[self.tokens], bias)


@register("easylearn.language_model")
class LanguageModel(nn.Module):
    """Says of each token of a text which one comes next.

    The hidden state stays between calls, so that a text may come in windows. It is in buffers that `state_dict` leaves
    out.

    Args:
        encoder: the AWD-LSTM.
        tie: the decoder's weight is the embedding's (arXiv 1608.05859).
        bias: the decoder has a bias.

    >>> model = LanguageModel(AWDLSTM(100, emb_size=8, n_hidden=12))
    >>> model(torch.zeros(4, 5, dtype=torch.int64), torch.tensor(False)).shape
    torch.Size([4, 5, 100])
    """

    def __init__(self, encoder: AWDLSTM, *, tie: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Linear(encoder.emb_size, encoder.n_tokens, bias=bias)
        nn.init.uniform_(self.decoder.weight, -INIT_RANGE, INIT_RANGE)
        if bias:
            nn.init.zeros_(self.decoder.bias)
        self.tied = tie
        if tie:
            self.decoder.weight = encoder.embedding.weight
        self._candidates: Candidates | None = None
        for name, width in self._buffer_widths():
            self.register_buffer(name, torch.zeros(1, 0, width), persistent=False)

    def _buffer_widths(self) -> Iterator[tuple[str, int]]:
        for i, rnn in enumerate(self.encoder.layers, start=1):
            yield f"hidden{i}", rnn.hidden_size
            yield f"cell{i}", rnn.hidden_size

    def forward(self, x: Tensor, carry: Tensor) -> Tensor:
        """Logits for the token after each one.

        Args:
            x: tokens, shape (b, t).
            carry: True where a row goes on where the same row of the last call ended, shape () or (b,). Where it is
                False, or after a call with another number of rows, a row begins with no state.

        Returns:
            Logits of shape (b, t, n_tokens); after `restrict_to`, one per candidate.

        Raises:
            ArgumentError: `carry` has another shape or is no tensor of booleans.
        """
        rows = x.shape[0]
        if carry.dtype != torch.bool or carry.shape not in ((), (rows,)):
            raise ArgumentError(
                f"carry must be booleans of shape () or ({rows},), got {carry.dtype} of shape {tuple(carry.shape)}"
            )
        output: EncoderOutput = self.encoder(x, self._kept(rows, carry))
        self._keep(output.state)
        if self._candidates is not None:
            return self._candidates.decode(output.dropped, self.decoder)
        logits: Tensor = self.decoder(output.dropped)
        return logits

    def restrict_to(self, candidates: Candidates | None) -> None:
        """Let `forward` give logits of some tokens alone, until it is called with None."""
        self._candidates = candidates

    def _kept(self, rows: int, carry: Tensor) -> State:
        kept = self.state
        if kept[0][0].shape[1] != rows:
            return self.encoder.start(rows)
        # Chosen and not multiplied: NaN times 0 is NaN.
        goes_on = carry.view(1, -1, 1).to(kept[0][0].device)
        zero = kept[0][0].new_zeros(())
        return tuple((torch.where(goes_on, h, zero), torch.where(goes_on, c, zero)) for h, c in kept)

    def _keep(self, state: State) -> None:
        for i, (h, c) in enumerate(state, start=1):
            setattr(self, f"hidden{i}", h)
            setattr(self, f"cell{i}", c)

    @property
    def state(self) -> State:
        """The states after the last call, of 0 rows if there was none."""
        return tuple(
            (self.get_buffer(f"hidden{i}"), self.get_buffer(f"cell{i}")) for i in range(1, self.encoder.n_layers + 1)
        )

    def step(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits and the state after `x`; the state that `forward` keeps is neither read nor changed.

        Args:
            x: tokens, shape (b, t).
            state: what an earlier call gave; None for the beginning of a text.

        Returns:
            Logits of shape (b, t, n_tokens), and the state.
        """
        output: EncoderOutput = self.encoder(x, state)
        return self.decoder(output.dropped), output.state

    def reset(self) -> None:
        """Forget the state."""
        self._keep(tuple((h[:, :0], c[:, :0]) for h, c in self.state))

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """Each LSTM, then embedding and decoder: what faces the vocabulary is the last group, as a head is."""
        return (*_rnn_groups(self.encoder), LayerGroup("embedding", (self.encoder.embedding, self.decoder)))


def _rnn_groups(encoder: AWDLSTM) -> tuple[LayerGroup, ...]:
    return tuple(LayerGroup(f"rnn{i}", (rnn,)) for i, rnn in enumerate(encoder.layers, start=1))


@register("easylearn.text_classifier")
class TextClassifier(nn.Module):
    """One vector per text from all outputs of the encoder, and a head on it.

    A text goes through the encoder in windows. Gradients stay inside a window (truncated back-propagation), and only
    windows that hold some of the last `max_len` tokens of a row get any: so memory does not grow with the text. Rows
    that have ended are left out of the later windows. Weights are dropped once for all windows of a batch.

    Args:
        encoder: the AWD-LSTM.
        head: from (b, 3 * emb_size) to logits, such as `classifier_head`.
        bptt: tokens in a window.
        max_len: how many tokens at the end of a row give gradients, rounded up to windows.

    Raises:
        ArgumentError: `bptt` or `max_len` is below 1.

    >>> model = TextClassifier(AWDLSTM(100, emb_size=8, n_hidden=12), classifier_head(8, 2))
    >>> model(torch.zeros(4, 5, dtype=torch.int64), torch.tensor([5, 4, 1, 2])).shape
    torch.Size([4, 2])
    """

    def __init__(self, encoder: AWDLSTM, head: nn.Module, *, bptt: int = 70, max_len: int = 1400) -> None:
        super().__init__()
        for name, size in {"bptt": bptt, "max_len": max_len}.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ArgumentError(f"{name} must be a whole number of at least 1, got {size!r}")
        self.encoder = encoder
        self.head = head
        self.bptt, self.max_len = bptt, max_len

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits of a batch of texts.

        Args:
            x: tokens, shape (b, t), padded on the right.
            lengths: how many tokens of each row are real, shape (b,). On the CPU it costs no wait for a GPU.

        Returns:
            Logits of shape (b, n_out).

        Raises:
            ArgumentError: the lengths do not fit `x`.
        """
        logits: Tensor = self.head(self.features(x, lengths))
        return logits

    def features(self, x: Tensor, lengths: Tensor) -> Tensor:
        """What the head gets: last output, maximum and mean over the real tokens, shape (b, 3 * emb_size).

        A row of length 0 gives zeros.
        """
        if x.dim() != 2 or lengths.shape != x.shape[:1]:
            raise ArgumentError(
                f"tokens must have shape (b, t) and lengths (b,), got {tuple(x.shape)} and {tuple(lengths.shape)}"
            )
        sizes: list[int] = lengths.tolist()
        if any(not 0 <= n <= x.shape[1] for n in sizes):
            raise ArgumentError(f"lengths must lie between 0 and the {x.shape[1]} tokens of a row, got {sizes}")
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        in_order = order == list(range(len(sizes)))
        if in_order:
            return self._pool(x, sizes)
        device = x.device
        pooled = self._pool(x[torch.tensor(order, device=device)], [sizes[i] for i in order])
        back = sorted(range(len(order)), key=order.__getitem__)
        return pooled[torch.tensor(back, device=device)]

    def _pool(self, x: Tensor, sizes: list[int]) -> Tensor:
        """Features of rows whose lengths go down: what is left of the batch is then always its first rows."""
        like = self.encoder.embedding.weight
        wide = torch.promote_types(like.dtype, torch.float32)
        rows = sum(n > 0 for n in sizes)
        # Parts of the result from the last row to the first.
        done = [like.new_zeros((len(sizes) - rows, 3 * self.encoder.emb_size), dtype=wide)]
        state = self.encoder.start(rows)
        weights = self.encoder.drop_weights()
        most = total = None
        begin = 0
        while rows:
            end = min(begin + self.bptt, sizes[0])
            raw, state = self._window(x[:rows, begin:end], sizes[:rows], begin, state, weights)
            raw = raw.to(wide)
            real = torch.tensor([min(n, end) - begin for n in sizes[:rows]])
            shown, summed = raw, raw
            if sizes[rows - 1] < end:
                padding = (torch.arange(end - begin) >= real.unsqueeze(1)).unsqueeze(2).to(x.device)
                shown, summed = raw.masked_fill(padding, -math.inf), raw.masked_fill(padding, 0.0)
            most = shown.amax(1) if most is None else torch.maximum(most, shown.amax(1))
            total = summed.sum(1) if total is None else total + summed.sum(1)
            left = sum(n > end for n in sizes[:rows])
            if left < rows:
                ended = torch.arange(left, rows, device=x.device)
                last = raw[ended, (real[left:] - 1).to(x.device)]
                count = torch.tensor(sizes[left:rows], dtype=wide).unsqueeze(1).to(x.device)
                done.append(torch.cat((last, most[left:], total[left:] / count), 1))
                most, total = most[:left], total[:left]
                state = tuple((h[:, :left].contiguous(), c[:, :left].contiguous()) for h, c in state)
            rows, begin = left, end
        return torch.cat(done[::-1])

    def _window(
        self, x: Tensor, sizes: list[int], begin: int, state: State, weights: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, State]:
        """Outputs and states of one window; rows that end far behind it are read without a graph."""
        end = begin + self.bptt
        far = sum(n - self.max_len >= end for n in sizes) if torch.is_grad_enabled() else 0
        if far in (0, len(sizes)):
            with torch.set_grad_enabled(far == 0 and torch.is_grad_enabled()):
                output: EncoderOutput = self.encoder(x, state, weights)
            return output.raw, output.state
        first = tuple((h[:, :far].contiguous(), c[:, :far].contiguous()) for h, c in state)
        second = tuple((h[:, far:].contiguous(), c[:, far:].contiguous()) for h, c in state)
        with torch.no_grad():
            a: EncoderOutput = self.encoder(x[:far], first, weights)
        b: EncoderOutput = self.encoder(x[far:], second, weights)
        joined = tuple(
            (torch.cat((h1, h2), 1), torch.cat((c1, c2), 1))
            for (h1, c1), (h2, c2) in zip(a.state, b.state, strict=True)
        )
        return torch.cat((a.raw, b.raw)), joined

    def as_graph(self) -> OnePassClassifier:
        """The same in one pass over the tokens, without a loop over the data; see `easylearn.nn.as_graph`."""
        return OnePassClassifier(self.encoder, self.head)

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """Embedding, each LSTM, head."""
        embedding = LayerGroup("embedding", (self.encoder.embedding,))
        return (embedding, *_rnn_groups(self.encoder), LayerGroup("head", (self.head,)))


class OnePassClassifier(nn.Module):
    """What a `TextClassifier` computes when nothing is trained, as one graph: all tokens of all rows pass at once.

    Args:
        encoder: the AWD-LSTM.
        head: from (b, 3 * emb_size) to logits.

    >>> model = TextClassifier(AWDLSTM(100, emb_size=8, n_hidden=12), classifier_head(8, 2), bptt=3).eval()
    >>> x, lengths = torch.randint(100, (3, 7)), torch.tensor([7, 4, 0])
    >>> bool((model(x, lengths) - model.as_graph()(x, lengths)).abs().max() < 1e-5)
    True
    """

    def __init__(self, encoder: AWDLSTM, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits (b, n_out) of tokens (b, t), padded on the right, and how many of each row are real (b,)."""
        output: EncoderOutput = self.encoder(x)
        raw = output.raw
        size = lengths.unsqueeze(1)
        padding = (torch.arange(x.shape[1], device=x.device) >= size).unsqueeze(2)
        end = (size - 1).clamp_min(0).unsqueeze(2).expand(-1, -1, raw.shape[2])
        most = raw.masked_fill(padding, -math.inf).amax(1)
        mean = raw.masked_fill(padding, 0.0).sum(1) / size.clamp_min(1)
        features = torch.cat((raw.gather(1, end).squeeze(1), most, mean), 1)
        logits: Tensor = self.head(features.masked_fill(size == 0, 0.0))
        return logits


@register("easylearn.text_head")
def classifier_head(
    emb_size: int, n_out: int, hidden: Sequence[int] = (50,), ps: float | Sequence[float] | None = None
) -> nn.Sequential:
    """The head of a text classifier: `pooled_head` on last output, maximum and mean, with `WarmBatchNorm1d`.

    Args:
        emb_size: length of an output of the encoder.
        n_out: how many logits.
        hidden: sizes of the hidden layers.
        ps: dropout before each linear layer: one number, or one per layer; None means 0.4 for the first and 0.1 for
            the others.

    Returns:
        A module from (b, 3 * emb_size) to logits (b, n_out).

    Raises:
        ArgumentError: as `pooled_head`.
    """
    drops = (0.4, *[0.1] * len(hidden)) if ps is None else ps
    head = pooled_head(3 * emb_size, n_out, hidden, drops)
    return nn.Sequential(*(WarmBatchNorm1d(m.num_features) if isinstance(m, nn.BatchNorm1d) else m for m in head))
