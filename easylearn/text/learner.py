"""language_model_learner and text_classifier_learner: text in, a Learner out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import keyed
from ..errors import ArgumentError
from ..options import strict
from ..files import StrPath
from ..learner import Learner
from ..nn.awd_lstm import (
    AWDLSTM,
    CLASSIFIER_DROPS,
    LM_DROPS,
    Drops,
    LanguageModel,
    TextClassifier,
    classifier_head,
)
from ..task import LossFn
from ..train.callback import Callback
from ..train.optim import OptimizerFn, adamw
from .callbacks import ActivationPenalty, RateByLength, SampledSoftmax
from .data import TextData, TextLMData
from .torchtext import set_vectors, vector_size
from .transfer import SavedEncoder, download_wt103, load_encoder, read_encoder

SIZES = {"emb_size": 400, "n_hidden": 1152, "n_layers": 3}  # arXiv 1801.06146, with 1152 for 1150: kernels like it

Pretrained = StrPath | tuple[StrPath, StrPath] | SavedEncoder | None

_OLD_NAMES = {
    "em_sz": "emb_size",
    "emb_sz": "emb_size",
    "nh": "n_hidden",
    "n_hid": "n_hidden",
    "nl": "n_layers",
    "dropouti": "drops=Drops(input=...)",
    "dropouth": "drops=Drops(hidden=...)",
    "dropoute": "drops=Drops(embedding=...)",
    "wdrop": "drops=Drops(weight=...)",
    "dropout": "drops=Drops(output=...)",
    "opt_fn": "optimizer",
    "opt_func": "optimizer",
    "loss_func": "loss",
    "cbs": "callbacks",
    "pretrained_fnames": "pretrained=(weights, vocabulary)",
    "arch": "There is one architecture, AWD-LSTM.",
    "config": "Give its entries as arguments: emb_size, n_hidden, n_layers, drops.",
    "seq_len": "bptt belongs to the data: TextLMData.from_df(..., bptt=...)",
    "max_sl": "max_len",
}


@strict(_OLD_NAMES)
def language_model_learner(
    data: TextLMData,
    *,
    pretrained: Pretrained = None,
    vectors: Any = None,
    emb_size: int | None = None,
    n_hidden: int | None = None,
    n_layers: int | None = None,
    drop_mult: float = 1.0,
    drops: Drops = LM_DROPS,
    tie_weights: bool = True,
    alpha: float = 2.0,
    beta: float = 1.0,
    sampled: int | None = None,
    optimizer: OptimizerFn | None = None,
    metrics: Sequence[Any] | None = None,
    loss: LossFn | None = None,
    wd: float | None = None,
    clip: float | None = None,
    accumulate: int = 1,
    precision: str = "fp32",
    compile: bool | str = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    path: StrPath = "models",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Learner:
    """A learner for a language model: an AWD-LSTM that predicts each next token (arXiv 1708.02182, 1801.06146).

    Args:
        data: the texts.
        pretrained: a file of `learn.save_encoder`, a folder of `easylearn pretrain-lm`, or fast.ai's weights, with
            their vocabulary as (weights, vocabulary) or beside them; or "wt103", which fetches fast.ai's model of
            WikiText-103. Sizes come from the file; words are matched by
            name, and unknown ones start at the mean.
        vectors: word vectors to start the embedding from, instead: torchtext's `Vectors` or `GloVe`, or what has their
            `stoi` and `vectors`. Words are matched by name; others start as they would without. The numbers are taken
            as they are, which for GloVe is several times as large.
        emb_size: length of a word's vector, that of `vectors` or 400 if not given.
        n_hidden: width of all recurrent layers but the last, 1152 if not given.
        n_layers: recurrent layers, 3 if not given.
        drop_mult: all dropouts times this: below 1 for much text, above for little.
        drops: the dropouts.
        tie_weights: the decoder's weights are the embedding's.
        alpha, beta: penalties on large and on changing outputs; see `ActivationPenalty`.
        sampled: train each batch to choose among its own tokens and so many drawn others, which is faster where the
            vocabulary is large; None: among all. See `SampledSoftmax`.
        optimizer: None takes AdamW.
        metrics: those that are a mean over tokens; None is perplexity and accuracy.
        loss, wd, clip, accumulate, precision, compile, device, seed, path, callbacks, progress: see `Learner`.

    Returns:
        The learner. Its layer groups are one per recurrent layer, then "embedding", which holds the decoder, too.
        `learn.save_encoder(name)` writes what a classifier starts from; `learn.generate(prompt, n)` writes text.

    Raises:
        ArgumentError: sizes contradict those of the file.
        WeightsError: the file does not fit, or is damaged.
    """
    if not isinstance(data, TextLMData):
        raise ArgumentError(f"a language model needs TextLMData, got {type(data).__name__}")
    saved = _read(pretrained, data.backward)
    if vectors is not None:
        emb_size = _vector_size(vectors, emb_size, saved)
    sizes = _sizes(saved, {"emb_size": emb_size, "n_hidden": n_hidden, "n_layers": n_layers})
    with keyed.scoped_rng(seed, "text"):
        encoder = AWDLSTM(len(data.vocab), **sizes, drops=drops.scaled(drop_mult), pad=data.vocab.pad)
        model = LanguageModel(encoder, tie=tie_weights)
    if vectors is not None:
        set_vectors(encoder.embedding, data.vocab, vectors)
    if saved is not None:
        load_encoder(saved, model, data.vocab, data.backward)
    standing: list[Callback] = [RateByLength(data.bptt)]
    if alpha or beta:
        standing.append(ActivationPenalty(alpha, beta))
    if sampled is not None:
        standing.append(SampledSoftmax(sampled))
    return Learner(
        data,
        model,
        groups=model.layer_groups(),
        optimizer=adamw if optimizer is None else optimizer,
        metrics=metrics,
        loss=loss,
        wd=wd,
        clip=clip,
        accumulate=accumulate,
        precision=precision,
        compile=compile,
        device=device,
        seed=seed,
        path=path,
        callbacks=[*standing, *callbacks],
        progress=progress,
    )


@strict(_OLD_NAMES)
def text_classifier_learner(
    data: TextData,
    *,
    pretrained: Pretrained = None,
    vectors: Any = None,
    emb_size: int | None = None,
    n_hidden: int | None = None,
    n_layers: int | None = None,
    drop_mult: float = 1.0,
    drops: Drops = CLASSIFIER_DROPS,
    layers: Sequence[int] = (50,),
    ps: float | Sequence[float] | None = None,
    bptt: int = 70,
    max_len: int = 1400,
    alpha: float = 2.0,
    beta: float = 1.0,
    optimizer: OptimizerFn | None = None,
    metrics: Sequence[Any] | None = None,
    loss: LossFn | None = None,
    label_smoothing: float = 0.0,
    wd: float | None = None,
    clip: float | None = None,
    accumulate: int = 1,
    precision: str = "fp32",
    compile: bool | str = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    path: StrPath = "models",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Learner:
    """A learner for texts with labels: an AWD-LSTM read to the end, and a head on what it says (arXiv 1801.06146).

    Args:
        data: the documents and their labels.
        pretrained: the encoder to start from, as in `language_model_learner`; the learner then starts frozen but for
            its head. `learn.load_encoder(name)` does the same to a learner that is there.
        vectors, emb_size, n_hidden, n_layers: as in `language_model_learner`.
        drop_mult: all dropouts of the encoder, and those of the head if `ps` is None, times this.
        drops: the dropouts.
        layers: sizes of the head's hidden layers.
        ps: dropout before each layer of the head: one number, or one per layer; None is `drops.output`, then 0.1.
        bptt: tokens in a window of truncated back-propagation.
        max_len: how many tokens at the end of a document get gradients.
        alpha, beta: penalties on large and on changing outputs; see `ActivationPenalty`.
        optimizer: None takes AdamW.
        metrics, loss, label_smoothing, wd, clip, accumulate, precision, compile, device, seed, path, callbacks,
            progress: see `Learner`.

    Returns:
        The learner. Its layer groups are "embedding", one per recurrent layer, and "head".

    Raises:
        ArgumentError: sizes contradict those of the file.
        WeightsError: the file does not fit, or is damaged.
    """
    if not isinstance(data, TextData):
        raise ArgumentError(f"a text classifier needs TextData, got {type(data).__name__}")
    saved = _read(pretrained, data.backward)
    if vectors is not None:
        emb_size = _vector_size(vectors, emb_size, saved)
    sizes = _sizes(saved, {"emb_size": emb_size, "n_hidden": n_hidden, "n_layers": n_layers})
    dropped = drops.scaled(drop_mult)
    with keyed.scoped_rng(seed, "text"):
        encoder = AWDLSTM(len(data.vocab), **sizes, drops=dropped, pad=data.vocab.pad)
        head_drops = ps if ps is not None else [dropped.output] + [0.1] * len(layers)
        head = classifier_head(encoder.emb_size, data.task.n_out, hidden=layers, ps=head_drops)
        model = TextClassifier(encoder, head, bptt=bptt, max_len=max_len)
    if vectors is not None:
        set_vectors(encoder.embedding, data.vocab, vectors)
    standing = [ActivationPenalty(alpha, beta)] if alpha or beta else []
    learn = Learner(
        data,
        model,
        groups=model.layer_groups(),
        optimizer=adamw if optimizer is None else optimizer,
        metrics=metrics,
        loss=loss,
        label_smoothing=label_smoothing,
        wd=wd,
        clip=clip,
        accumulate=accumulate,
        precision=precision,
        compile=compile,
        device=device,
        seed=seed,
        path=path,
        callbacks=[*standing, *callbacks],
        progress=progress,
    )
    if saved is not None:
        load_encoder(saved, model, data.vocab, data.backward)
        learn.freeze()
    return learn


def _read(pretrained: Pretrained, backward: bool) -> SavedEncoder | None:
    if pretrained is None or isinstance(pretrained, SavedEncoder):
        return pretrained
    if pretrained == "wt103":
        return read_encoder(*download_wt103(backward))
    if isinstance(pretrained, tuple):
        return read_encoder(*pretrained)
    return read_encoder(pretrained)


def _vector_size(vectors: Any, emb_size: int | None, saved: SavedEncoder | None) -> int:
    if saved is not None:
        raise ArgumentError(f"pretrained= brings the vectors of {saved.source}; leave out pretrained= or vectors=")
    size = vector_size(vectors)
    if emb_size not in (None, size):
        raise ArgumentError(
            f"the vectors have {size} numbers per word, but emb_size={emb_size} was given; leave emb_size out"
        )
    return size


def _sizes(saved: SavedEncoder | None, given: dict[str, int | None]) -> dict[str, int]:
    if saved is None:
        return {name: SIZES[name] if size is None else size for name, size in given.items()}
    wrong = [f"{n}={size}" for n, size in given.items() if size is not None and size != saved.sizes[n]]
    if wrong:
        raise ArgumentError(f"{', '.join(wrong)} was given, but {saved.source} has {saved.sizes}; leave the sizes out")
    return saved.sizes
