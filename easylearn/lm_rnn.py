"""2018's `fastai.lm_rnn`: AWD-LSTMs called as in 2018, with tokens of shape (sl, bs).

The models are easylearn's own, which a learner trains, saves and exports as such; called with tokens alone they answer
as those of 2018 did, with a tuple that begins with the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import core, keyed
from .errors import ArgumentError
from .imports import star
from .nn.awd_lstm import AWDLSTM, INIT_RANGE, Drops, EncoderOutput, State
from .nn.registry import note
from .nn.text_models import LanguageModel, TextClassifier, classifier_head
from .options import strict
from .rnn_reg import LockedDropout
from .texts.transfer import fastai_tensors

_OLD = {"qrnn": "There is one architecture, AWD-LSTM.", "bidir": "Encoders read in one direction; make two models."}


def seq2seq_reg(output: Any, xtra: Any = (), loss: Any = 0.0, alpha: float = 0.0, beta: float = 0.0) -> Any:
    """Add to a loss what keeps outputs small and slow (arXiv 1708.01009); `partial` gives alpha and beta.

    Args:
        output: not looked at.
        xtra: what the model gave besides: outputs of each layer, and the same after dropout, of shape (sl, bs, width).
        loss: the loss so far.
        alpha: weight of the size of the last layer's outputs.
        beta: weight of their change from one token to the next.
    """
    if len(xtra) == 2 and xtra[0]:
        raw, dropped = xtra[0][-1], xtra[1][-1]
        loss = loss + alpha * dropped.pow(2).mean()
        if beta and len(raw) > 1:
            loss = loss + beta * (raw[1:] - raw[:-1]).pow(2).mean()
    return loss


def repackage_var(h: Any) -> Any:
    """The state `h`, a tensor or tuples of them, cut off from what it was computed from."""
    return h.detach() if isinstance(h, Tensor) else tuple(map(repackage_var, h))


class SequentialLM(LanguageModel):
    """A `LanguageModel` that can be called as in 2018: `m[0]` is the encoder, `m[1]` the decoder.

    Args:
        encoder, tie, bias: see `LanguageModel`.
    """

    def __init__(self, encoder: AWDLSTM, *, tie: bool = True, bias: bool = True) -> None:
        super().__init__(encoder, tie=tie, bias=bias)
        note(self, "easylearn.language_model", {"encoder": encoder, "tie": tie, "bias": bias})

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, "LanguageModel", 1)  # which it is for a file

    @classmethod
    def of(cls, model: LanguageModel) -> SequentialLM:
        """The same model, to be called so; the one given is used no more."""
        with keyed.scoped_rng(0, "text"):
            made = cls(model.encoder, tie=model.tied, bias=model.decoder.bias is not None)
        made.decoder = model.decoder
        return made

    def __getitem__(self, i: int) -> nn.Module:
        return (self.encoder, self.decoder)[i]

    def forward(self, x: Tensor, carry: Tensor | None = None) -> Any:
        """See `LanguageModel.forward`; of tokens (sl, bs) alone, what follows on what was read before.

        Returns:
            Then logits (sl * bs, n_tokens), and the last layer's outputs, as they are and after dropout.
        """
        if carry is not None:
            return super().forward(x, carry)
        rows = x.t()
        output: EncoderOutput = self.encoder(rows, self._kept(len(rows), torch.tensor(True)))
        self._keep(output.state)
        logits: Tensor = self.decoder(output.dropped.transpose(0, 1).flatten(0, 1))
        return logits, [output.raw.transpose(0, 1)], [output.dropped.transpose(0, 1)]

    def reset(self, train: bool = True) -> None:
        """Forget what was read; `train` is not used, and is here because old notebooks give it."""
        super().reset()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """See torch; names of 2018, such as "0.encoder.weight", are understood, too."""
        return super().load_state_dict(_renamed(self, state_dict), strict, assign)


class SequentialClassifier(TextClassifier):
    """A `TextClassifier` that can be called as in 2018: `m[0]` is the encoder, `m[1]` the head.

    Args:
        encoder, head, bptt, max_len: see `TextClassifier`.
    """

    def __init__(self, encoder: AWDLSTM, head: nn.Module, *, bptt: int = 70, max_len: int = 1400) -> None:
        super().__init__(encoder, head, bptt=bptt, max_len=max_len)
        note(self, "easylearn.text_classifier", {"encoder": encoder, "head": head, "bptt": bptt, "max_len": max_len})

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, "TextClassifier", 1)  # which it is for a file

    def __getitem__(self, i: int) -> nn.Module:
        return (self.encoder, self.head)[i]

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Any:
        """See `TextClassifier.forward`; of tokens (sl, bs) alone, padded at either end.

        Returns:
            Then logits (bs, n_out), and two empty lists.
        """
        if lengths is not None:
            return super().forward(x, lengths)
        rows = x.t()
        real: Tensor = rows.ne(self.encoder.embedding.padding_idx or 0)
        order = (~real).int().argsort(dim=1, stable=True)
        return super().forward(rows.gather(1, order), real.sum(1).cpu()), [], []

    def reset(self) -> None:
        """A classifier reads each text from its beginning; here because notebooks call it."""


class RNN_Encoder(nn.Module):  # noqa: N801 (2018's name, as those below)
    """An AWD-LSTM for models that are put together by hand; it goes on where it ended, until `reset`.

    Args:
        ntoken: how many tokens there are.
        emb_sz, n_hid, n_layers, pad_token, dropouth, dropouti, dropoute, wdrop: see `get_language_model`.
        bidir, qrnn: False; nothing else is there.
    """

    def __init__(
        self, ntoken: int, emb_sz: int, n_hid: int, n_layers: int, pad_token: int, bidir: bool = False,
        dropouth: float = 0.3, dropouti: float = 0.65, dropoute: float = 0.1, wdrop: float = 0.5, qrnn: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, given in {"bidir": bidir, "qrnn": qrnn}.items():
            if given:
                raise ArgumentError(f"{name}=True is not supported. {_OLD[name]}")
        drops = Drops(embedding=dropoute, input=dropouti, weight=wdrop, hidden=dropouth, output=0.0)
        self.awd = AWDLSTM(ntoken, emb_sz, n_hid, n_layers, drops=drops, pad=pad_token)
        self.emb_sz, self.n_hid, self.n_layers, self.bs = emb_sz, n_hid, n_layers, 1
        self.state: State | None = None

    @property
    def encoder(self) -> nn.Embedding:
        """The vectors of the tokens, for a decoder that shares them."""
        return self.awd.embedding

    def reset(self) -> None:
        """Forget what was read."""
        self.state = None

    def forward(self, input: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs of the last layer for tokens `input` (sl, bs), in a list, twice: a decoder drops of the second."""
        if self.state is not None and self.state[0][0].shape[1] != input.shape[1]:
            self.reset()
        output: EncoderOutput = self.awd(input.t(), self.state)
        self.state, self.bs = output.state, input.shape[1]
        return [output.raw.transpose(0, 1)], [output.dropped.transpose(0, 1)]


class MultiBatchRNN(RNN_Encoder):
    """Reads whole texts, in windows; it gives the outputs of their last tokens.

    Args:
        bptt: tokens in a window.
        max_seq: about how many tokens at the end are given.
        ntoken, emb_sz, n_hid, n_layers, pad_token, bidir, dropouth, dropouti, dropoute, wdrop, qrnn: see `RNN_Encoder`.
    """

    def __init__(
        self, bptt: int, max_seq: int, ntoken: int, emb_sz: int, n_hid: int, n_layers: int, pad_token: int,
        bidir: bool = False, dropouth: float = 0.3, dropouti: float = 0.65, dropoute: float = 0.1, wdrop: float = 0.5,
        qrnn: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(ntoken, emb_sz, n_hid, n_layers, pad_token, bidir, dropouth, dropouti, dropoute, wdrop, qrnn)
        self.bptt, self.max_seq = bptt, max_seq

    def forward(self, input: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """See `RNN_Encoder.forward`, whose `input` this is."""
        self.reset()
        windows = [super(MultiBatchRNN, self).forward(window) for window in torch.split(input, self.bptt)]
        first = max(len(input) - self.max_seq, -1) // self.bptt + 1
        raw, dropped = ([torch.cat([w[k][0] for w in windows[first:]])] for k in (0, 1))
        return raw, dropped


class LinearDecoder(nn.Module):
    """Logits of the next token, of what an `RNN_Encoder` gives.

    Args:
        n_out: how many tokens.
        n_hid: length of what comes in.
        dropout: of it.
        tie_encoder: an embedding whose weights are shared.
        bias: whether there is one.
    """

    def __init__(
        self, n_out: int, n_hid: int, dropout: float, tie_encoder: nn.Embedding | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        self.decoder = nn.Linear(n_hid, n_out, bias=bias)
        nn.init.uniform_(self.decoder.weight, -INIT_RANGE, INIT_RANGE)
        self.dropout = LockedDropout(dropout)
        if tie_encoder is not None:
            self.decoder.weight = tie_encoder.weight

    def forward(self, input: Any) -> tuple[Tensor, Any, Any]:
        """Logits (sl * bs, n_out), and the pair `input` of lists."""
        raw, dropped = input
        return self.decoder(self.dropout(dropped[-1]).flatten(0, 1)), raw, dropped


class LinearBlock(nn.Sequential):
    """Batch-norm of `ni` numbers, dropout `drop` and a linear layer to `nf`."""

    def __init__(self, ni: int, nf: int, drop: float) -> None:
        super().__init__(nn.BatchNorm1d(ni), nn.Dropout(drop), nn.Linear(ni, nf))


class PoolingLinearClassifier(nn.Module):
    """Logits of classes, of what a `MultiBatchRNN` gives: its last, largest and mean outputs, and linear layers.

    Args:
        layers: three times the length of an output, the sizes between, how many classes.
        drops: dropout before each layer.
    """

    def __init__(self, layers: Sequence[int], drops: Sequence[float]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(LinearBlock, layers[:-1], layers[1:], drops))

    def forward(self, input: Any) -> tuple[Tensor, Any, Any]:
        """Logits (bs, n_out), and the pair `input` of lists."""
        raw, dropped = input
        out = dropped[-1]
        x = torch.cat([out[-1], out.amax(0), out.mean(0)], 1)
        for k, layer in enumerate(self.layers):
            x = layer(x.relu() if k else x)
        return x, raw, dropped


class SequentialRNN(nn.Sequential):
    """Modules one after the other, which can be told to forget."""

    def reset(self) -> None:
        """Tell those that remember to forget what was read."""
        for module in self.children():
            if isinstance(module, RNN_Encoder):
                module.reset()


def _renamed(model: LanguageModel, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tensors by our names; a bias that 2018's decoder lacked stays as it is."""
    if "0.encoder.weight" not in given:
        return given
    own = {n if n.startswith("decoder.") else f"encoder.{n}": t for n, t in fastai_tensors(given).items()}
    own["decoder.weight"] = given.get("1.decoder.weight", own["encoder.embedding.weight"])
    if model.decoder.bias is not None:
        own.setdefault("decoder.bias", model.decoder.bias.detach())
    return own


@strict(_OLD)
def get_language_model(
    n_tok: int,
    emb_sz: int,
    n_hid: int,
    n_layers: int,
    pad_token: int,
    dropout: float = 0.4,
    dropouth: float = 0.3,
    dropouti: float = 0.5,
    dropoute: float = 0.1,
    wdrop: float = 0.5,
    tie_weights: bool = True,
    bias: bool = False,
) -> SequentialLM:
    """A language model.

    Args:
        n_tok: how many tokens there are.
        emb_sz: length of a word's vector.
        n_hid: width of all recurrent layers but the last.
        n_layers: recurrent layers.
        pad_token: the token for padding.
        dropouti, dropout, wdrop, dropoute, dropouth: dropout of inputs, outputs, recurrent weights, whole words and
            between layers.
        tie_weights: the decoder's weights are the embedding's.
        bias: the decoder has a bias.

    >>> m = get_language_model(20, 6, 8, 2, 1)
    >>> res, *_ = m(torch.zeros(5, 3, dtype=torch.int64))
    >>> res.shape, m[0].n_layers
    (torch.Size([15, 20]), 2)
    """
    drops = Drops(embedding=dropoute, input=dropouti, weight=wdrop, hidden=dropouth, output=dropout)
    return SequentialLM(AWDLSTM(n_tok, emb_sz, n_hid, n_layers, drops=drops, pad=pad_token), tie=tie_weights, bias=bias)


@strict(_OLD)
def get_rnn_classifier(
    bptt: int,
    max_seq: int,
    n_class: int,
    n_tok: int,
    emb_sz: int,
    n_hid: int,
    n_layers: int,
    pad_token: int,
    layers: Sequence[int],
    drops: Sequence[float],
    dropouth: float = 0.3,
    dropouti: float = 0.5,
    dropoute: float = 0.1,
    wdrop: float = 0.5,
) -> SequentialClassifier:
    """A classifier of texts.

    Args:
        bptt: tokens in a window.
        max_seq: how many tokens at the end of a text get gradients.
        n_class: how many classes; the last of `layers`, too.
        n_tok, emb_sz, n_hid, n_layers, pad_token: see `get_language_model`.
        layers: sizes of the head: three times `emb_sz`, those between, and `n_class`.
        drops: dropout before each layer of the head.
        dropouti, wdrop, dropoute, dropouth: see `get_language_model`.

    Raises:
        ArgumentError: `layers` do not begin and end with these sizes.

    >>> m = get_rnn_classifier(4, 8, 2, 20, 6, 8, 1, 1, [18, 5, 2], [0.1, 0.1])
    >>> m(torch.tensor([[1, 3], [1, 4], [7, 5]]))[0].shape
    torch.Size([2, 2])
    """
    if len(layers) < 2 or (layers[0], layers[-1]) != (3 * emb_sz, n_class) or len(drops) != len(layers) - 1:
        raise ArgumentError(
            f"layers must begin with 3 * emb_sz = {3 * emb_sz} and end with the {n_class} classes, with one of drops "
            f"for each step between, got {list(layers)} and {list(drops)}"
        )
    dropped = Drops(embedding=dropoute, input=dropouti, weight=wdrop, hidden=dropouth, output=0.0)
    encoder = AWDLSTM(n_tok, emb_sz, n_hid, n_layers, drops=dropped, pad=pad_token)
    head = classifier_head(emb_sz, n_class, list(layers[1:-1]), [float(p) for p in drops])
    return SequentialClassifier(encoder, head, bptt=bptt, max_len=max_seq)


get_rnn_classifer = get_rnn_classifier  # as notebooks of early 2018 spell it
_OWN = [
    "LinearBlock", "LinearDecoder", "MultiBatchRNN", "PoolingLinearClassifier", "RNN_Encoder", "SequentialRNN",
    "get_language_model", "get_rnn_classifer", "get_rnn_classifier", "repackage_var", "seq2seq_reg",
]  # fmt: skip
__all__ = star(globals(), core, own=_OWN)
