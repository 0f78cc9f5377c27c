"""What is made of an AWD-LSTM: the language model (arXiv 1708.02182) and the text classifier (arXiv 1801.06146)."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .awd_lstm import AWDLSTM, INIT_RANGE, EncoderOutput, State, check_size
from .groups import LayerGroup
from .heads import pooled_head
from .layers import WarmBatchNorm1d
from .registry import register


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


class _OfThread(threading.local):
    """The state that an evaluation leaves: each thread has its own, and a copy of the model begins without any."""

    state: State | None = None

    def __deepcopy__(self, memo: object) -> _OfThread:
        return _OfThread()

    def __reduce__(self) -> tuple[type[_OfThread], tuple[()]]:
        return _OfThread, ()


@register("easylearn.language_model")
class LanguageModel(nn.Module):
    """Says of each token of a text which one comes next.

    The hidden state stays between calls, so that a text may come in windows. In training it is in buffers that
    `state_dict` leaves out; in evaluation each thread has a state of its own, so that several may evaluate the model at
    once, and none of them disturbs a training that goes on.

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
        self._evaluation = _OfThread()
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
        device = self.encoder.embedding.weight.device
        if kept[0][0].shape[1] != rows or kept[0][0].device != device:
            return self.encoder.start(rows)
        # Chosen and not multiplied: NaN times 0 is NaN.
        goes_on = carry.view(1, -1, 1).to(device)
        zero = kept[0][0].new_zeros(())
        return tuple((torch.where(goes_on, h, zero), torch.where(goes_on, c, zero)) for h, c in kept)

    def _keep(self, state: State) -> None:
        if not self.training:
            self._evaluation.state = state
            return
        for i, (h, c) in enumerate(state, start=1):
            setattr(self, f"hidden{i}", h)
            setattr(self, f"cell{i}", c)

    @property
    def state(self) -> State:
        """The states after the last call in this mode, of 0 rows if there was none."""
        if not self.training:
            return self._evaluation.state or self.encoder.start(0)
        return tuple(
            (self.get_buffer(f"hidden{i}"), self.get_buffer(f"cell{i}")) for i in range(1, self.encoder.n_layers + 1)
        )

    def step(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits (b, t, n_tokens) and the state after `x`; what `forward` keeps is neither read nor changed.

        Args:
            x: tokens, shape (b, t).
            state: what an earlier call gave; None for the beginning of a text.
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
        check_size("bptt", bptt)
        check_size("max_len", max_len)
        self.encoder = encoder
        self.head = head
        self.bptt, self.max_len = bptt, max_len

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits (b, n_out) of a batch of texts.

        Args:
            x: tokens, shape (b, t), padded on the right.
            lengths: how many tokens of each row are real, shape (b,). On the CPU it costs no wait for a GPU.
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
        order = torch.tensor(sizes).argsort(descending=True, stable=True)
        if bool((order.diff() > 0).all()):
            return self._pool(x, sizes)
        pooled = self._pool(x[order.to(x.device, non_blocking=True)], [sizes[i] for i in order.tolist()])
        return pooled[order.argsort().to(x.device, non_blocking=True)]

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
                padding = (torch.arange(end - begin) >= real.unsqueeze(1)).unsqueeze(2).to(x.device, non_blocking=True)
                shown, summed = raw.masked_fill(padding, -math.inf), raw.masked_fill(padding, 0.0)
            most = shown.amax(1) if most is None else torch.maximum(most, shown.amax(1))
            total = summed.sum(1) if total is None else total + summed.sum(1)
            left = sum(n > end for n in sizes[:rows])
            if left < rows:
                ended = torch.arange(left, rows, device=x.device)
                last = raw[ended, (real[left:] - 1).to(x.device, non_blocking=True)]
                count = torch.tensor(sizes[left:rows], dtype=wide).unsqueeze(1).to(x.device, non_blocking=True)
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
        ps: dropout before each linear layer: one number, or one per layer; None means 0.4 for the first, then 0.1.
    """
    drops = (0.4, *[0.1] * len(hidden)) if ps is None else ps
    head = pooled_head(3 * emb_size, n_out, hidden, drops)
    return nn.Sequential(*(WarmBatchNorm1d(m.num_features) if isinstance(m, nn.BatchNorm1d) else m for m in head))
