"""language_model_learner and text_classifier_learner: text in, a Learner out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import keyed
from ..data.loaders import first_outputs
from ..errors import ArgumentError
from ..files import StrPath, as_path
from ..learning import Learner, Training, TrainingOptions
from ..nn.awd_lstm import AWDLSTM, CLASSIFIER_DROPS, LM_DROPS, Drops
from ..nn.bert import encoder_classifier
from ..nn.heads import begin_at
from ..nn.text_models import LanguageModel, TextClassifier, classifier_head
from ..options import strict
from ..train.callback import Callback, check_callbacks
from .bodies import TextBody, text_body
from .callbacks import ActivationPenalty, RateByLength, SampledSoftmax
from .data import TextData, TextLMData
from .preprocess import AnyText
from .torchtext import set_vectors, vector_table
from .transfer import SavedEncoder, copy_encoder, download_wt103, read_encoder

if TYPE_CHECKING:
    from typing_extensions import Unpack

SIZES = {"emb_size": 400, "n_hidden": 1152, "n_layers": 3}  # arXiv 1801.06146, with 1152 for 1150: kernels like it

BODY_CLIP = 1.0  # largest norm of the gradients where an encoder trains, as in arXiv 1810.04805's code

Pretrained = StrPath | tuple[StrPath, StrPath] | SavedEncoder | None

_OLD_NAMES = {
    "em_sz": "emb_size", "emb_sz": "emb_size", "nh": "n_hidden", "n_hid": "n_hidden", "nl": "n_layers",
    "dropouti": "drops=Drops(input=...)", "dropouth": "drops=Drops(hidden=...)",
    "dropoute": "drops=Drops(embedding=...)", "wdrop": "drops=Drops(weight=...)", "dropout": "drops=Drops(output=...)",
    "opt_fn": "optimizer", "opt_func": "optimizer", "loss_func": "loss", "cbs": "callbacks",
    "pretrained_fnames": "pretrained=(weights, vocabulary)", "arch": "There is one architecture, AWD-LSTM.",
    "config": "Give its entries as arguments: emb_size, n_hidden, n_layers, drops.",
    "seq_len": "bptt belongs to the data: TextLMData.from_df(..., bptt=...)", "max_sl": "max_len",
}  # fmt: skip


@strict(_OLD_NAMES, Training)
def language_model_learner(
    data: TextLMData, *, pretrained: Pretrained = None, vectors: Any = None, emb_size: int | None = None,
    n_hidden: int | None = None, n_layers: int | None = None, drop_mult: float = 1.0, drops: Drops = LM_DROPS,
    tie_weights: bool = True, alpha: float = 2.0, beta: float = 1.0, sampled: int | None = None,
    **options: Unpack[TrainingOptions],
) -> Learner:  # fmt: skip
    """A learner for a language model: an AWD-LSTM that predicts each next token (arXiv 1708.02182, 1801.06146).

    Args:
        data: the texts.
        pretrained: a file of `save_encoder`, a folder of `easylearn pretrain-lm`, or fast.ai's weights, with their
            vocabulary as (weights, vocabulary) or beside them; or "wt103", which fetches fast.ai's model of
            WikiText-103. Sizes come from the file; words are matched by name, and unknown ones start at the mean.
        vectors: word vectors to start the embedding from, instead: torchtext's `Vectors` or `GloVe`, or what has their
            `stoi` and `vectors`. Words are matched by name; others start as they would without.
        emb_size: length of a word's vector, that of `vectors` or 400 if not given.
        n_hidden: width of all recurrent layers but the last, 1152 if not given.
        n_layers: recurrent layers, 3 if not given.
        drop_mult: all dropouts times this: below 1 for much text, above for little.
        drops: the dropouts.
        tie_weights: the decoder's weights are the embedding's.
        alpha, beta: penalties on large and on changing outputs; see `ActivationPenalty`.
        sampled: train each batch to choose among its own tokens and so many drawn others, which is faster where the
            vocabulary is large; None: among all. See `SampledSoftmax`.

    Returns:
        The learner. Its layer groups are one per recurrent layer, then "embedding", which holds the decoder, too.
        `save_encoder(learn, name)` writes what a classifier starts from; `generate(learn, prompt, n)` continues a
        prompt.

    Raises:
        ArgumentError: sizes contradict those of the file.
        WeightsError: the file does not fit, or is damaged.
    """
    if not isinstance(data, TextLMData):
        raise ArgumentError(f"a language model needs TextLMData, got {type(data).__name__}")
    texts = data.preprocessor
    saved = _read(pretrained, texts.backward)
    sizes = _sizes(saved, vectors, {"emb_size": emb_size, "n_hidden": n_hidden, "n_layers": n_layers})
    with keyed.scoped_rng(options.get("seed", 0), "text"):
        model = LanguageModel(_encoder(texts, sizes, drops.scaled(drop_mult), vectors), tie=tie_weights)
    if saved is not None:
        copy_encoder(saved, model, texts.vocab, texts.backward)
    standing: list[Callback] = [RateByLength(texts.bptt)]
    standing += [ActivationPenalty(alpha, beta)] if alpha or beta else []
    standing += [] if sampled is None else [SampledSoftmax(sampled)]
    options["callbacks"] = [*standing, *check_callbacks(options.get("callbacks", ()))]
    return Learner(data, model, **options)


@strict({**_OLD_NAMES, "seq_len": "bptt"}, Training)
def text_classifier_learner(
    data: TextData, *, body: StrPath | TextBody | None = None, precompute: bool = False,
    pretrained: Pretrained = None, vectors: Any = None, emb_size: int | None = None,
    n_hidden: int | None = None, n_layers: int | None = None, drop_mult: float = 1.0, drops: Drops = CLASSIFIER_DROPS,
    layers: Sequence[int] | None = None, ps: float | Sequence[float] | None = None, bptt: int = 70, max_len: int = 1400,
    alpha: float = 2.0, beta: float = 1.0, **options: Unpack[TrainingOptions],
) -> Learner:  # fmt: skip
    """A learner for texts with labels: an AWD-LSTM read to the end (arXiv 1801.06146), or a pretrained encoder.

    With `body` it starts frozen, and its first fit begins with the regularised linear model of the encoder's vectors:
    the way for few labels. `contrast(learn)` then adapts the encoder.

    Args:
        data: the documents and their labels. With `body` they are tokenised anew, by the encoder's tokenizer.
        body: "minilm", a folder with an encoder of that kind, or a `TextBody`; None reads with an AWD-LSTM. What
            belongs to that (pretrained to max_len, but for layers and ps; alpha, beta) is then left out.
        precompute: train the head on stored vectors of the frozen encoder, at the speed of a small network.
        pretrained: the encoder to start from, as in `language_model_learner`; the learner then starts frozen but for
            its head. `load_encoder(learn, name)` puts one into a learner that is there, and leaves freezing alone.
        vectors, emb_size, n_hidden, n_layers: as in `language_model_learner`.
        drop_mult: all dropouts of the encoder, and those of the head if `ps` is None, times this.
        drops: the dropouts.
        layers: sizes of the head's hidden layers; None is one of 50, or with `body` none.
        ps: dropout before each layer of the head: one number, or one per layer; None is `drops.output`, then 0.1, or
            with `body` that of `pooled_head`.
        bptt: tokens in a window of truncated back-propagation.
        max_len: how many tokens at the end of a document get gradients.
        alpha, beta: penalties on large and on changing outputs; see `ActivationPenalty`.

    Returns:
        The learner. Its layer groups are "embedding", one per recurrent layer, and "head"; with `body` they are "stem"
        (embeddings and the first half of the layers), "late" and "head".

    Raises:
        ArgumentError: sizes contradict those of the file, or `body`; there is no such body.
        WeightsError: the file does not fit, or is damaged.
    """
    if not isinstance(data, TextData):
        raise ArgumentError(f"a text classifier needs TextData, got {type(data).__name__}")
    if body is not None:
        given = {"pretrained": pretrained, "vectors": vectors, "emb_size": emb_size, "n_hidden": n_hidden}
        odd = [n for n, v in {**given, "n_layers": n_layers}.items() if v is not None]
        if odd:
            raise ArgumentError(f"{odd[0]}= belongs to the AWD-LSTM: leave it out, or body=")
        return _body_learner(data, text_body(body), precompute, layers or (), ps, options)
    if precompute:
        raise ArgumentError('precompute stores what a frozen encoder says of texts: name one, such as body="minilm"')
    layers = (50,) if layers is None else layers
    texts = data.preprocessor
    saved = _read(pretrained, texts.backward)
    sizes = _sizes(saved, vectors, {"emb_size": emb_size, "n_hidden": n_hidden, "n_layers": n_layers})
    dropped = drops.scaled(drop_mult)
    with keyed.scoped_rng(options.get("seed", 0), "text"):
        encoder = _encoder(texts, sizes, dropped, vectors)
        head_drops = ps if ps is not None else [dropped.output] + [0.1] * len(layers)
        head = classifier_head(encoder.emb_size, data.task.n_out, hidden=layers, ps=head_drops)
        begin_at(head, first_outputs(data))
        model = TextClassifier(encoder, head, bptt=bptt, max_len=max_len)
    standing: list[Callback] = [ActivationPenalty(alpha, beta)] if alpha or beta else []
    options["callbacks"] = [*standing, *check_callbacks(options.get("callbacks", ()))]
    learn = Learner(data, model, **options)
    if saved is not None:
        copy_encoder(saved, model, texts.vocab, texts.backward)
        learn.freeze()
    return learn


def _body_learner(
    data: TextData, body: TextBody, precompute: bool, hidden: Sequence[int], ps: float | Sequence[float] | None,
    options: TrainingOptions,
) -> Learner:  # fmt: skip
    """A frozen encoder and a new head."""
    if data.preprocessor.backward:
        raise ArgumentError("an encoder reads texts from their beginning; make the data with backward=False")
    data = data.tokenised(body.tokenizer, body.most_tokens)
    with keyed.scoped_rng(options.get("seed", 0), "text"):
        encoder = body.encoder()
        model = encoder_classifier(encoder, body.shape.n_features, data.task.n_out, hidden=hidden, ps=ps)
    begin_at(model.head, first_outputs(data))
    body.fill(encoder)
    options.setdefault("clip", BODY_CLIP)
    learn = Learner(data, model, precompute=precompute, **options)
    learn.freeze()
    return learn


def _encoder(texts: AnyText, sizes: Mapping[str, int], drops: Drops, vectors: Any) -> AWDLSTM:
    encoder = AWDLSTM(len(texts.vocab), **sizes, drops=drops, pad=texts.vocab.pad)
    if vectors is not None:
        set_vectors(encoder.embedding, texts.vocab, vectors)
    return encoder


def _read(pretrained: Pretrained, backward: bool) -> SavedEncoder | None:
    if pretrained is None or isinstance(pretrained, SavedEncoder):
        return pretrained
    if pretrained == "wt103":
        pretrained = download_wt103(backward)
    if isinstance(pretrained, tuple):
        return read_encoder(*pretrained)
    return read_encoder(as_path(pretrained, "an encoder (pretrained=None for none)"))


def _sizes(saved: SavedEncoder | None, vectors: Any, given: dict[str, int | None]) -> dict[str, int]:
    """The sizes of the encoder: of the file, of the vectors, as given, or the usual ones."""
    if vectors is not None:
        if saved is not None:
            raise ArgumentError(f"pretrained= brings the vectors of {saved.source}; leave out pretrained= or vectors=")
        size = int(vector_table(vectors).shape[1])
        if given["emb_size"] not in (None, size):
            raise ArgumentError(f"the vectors have {size} numbers per word; leave emb_size={given['emb_size']} out")
        given = {**given, "emb_size": size}
    if saved is None:
        return {name: SIZES[name] if size is None else size for name, size in given.items()}
    wrong = [f"{n}={size}" for n, size in given.items() if size is not None and size != saved.sizes[n]]
    if wrong:
        raise ArgumentError(f"{', '.join(wrong)} was given, but {saved.source} has {saved.sizes}; leave the sizes out")
    return saved.sizes
