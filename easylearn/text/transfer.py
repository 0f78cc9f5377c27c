"""Encoders in files: written with their vocabulary, and read into models whose vocabulary is another one.

`save_encoder` and `load_encoder` do it for a learner.

A word that the file knows takes its row; one that it does not know starts at the mean of all rows (arXiv 1801.06146).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, EasyLearnWarning, StateError, WeightsError, did_you_mean
from ..files import StrPath, write_tensors
from ..learning import Learner
from ..nn.awd_lstm import AWDLSTM
from ..nn.text_models import LanguageModel
from ..options import strict
from .fastai import read_fastai
from .preprocess import AnyText
from .vocab import Vocab

SCHEMA = 1
MODELS = Path("models")  # where a learner keeps what it saves, if nothing else is said
FEW_KNOWN = 0.5  # below this share of known words a transfer is probably a mistake


@dataclass(frozen=True)
class SavedEncoder:
    """An encoder out of a file.

    Args:
        source: where it came from, for messages.
        tokens: its vocabulary, in the order of the embedding's rows.
        tensors: named as in an `AWDLSTM`; "decoder.bias" besides, if it came from a language model.
        backward: whether it read texts from their end.
        tokenizer: state of the tokenizer that made its tokens, or None.
    """

    source: str
    tokens: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    backward: bool = False
    tokenizer: Mapping[str, Any] | None = None

    @property
    def emb_size(self) -> int:
        """Length of a word's vector."""
        return int(self.tensors["embedding.weight"].shape[1])

    @property
    def n_layers(self) -> int:
        """How many recurrent layers there are."""
        return sum(name.endswith("weight_hh_l0") for name in self.tensors)

    @property
    def n_hidden(self) -> int:
        """Width of all recurrent layers but the last."""
        return int(self.tensors["rnns.0.weight_hh_l0"].shape[1])

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes, as learners take them."""
        return {"emb_size": self.emb_size, "n_hidden": self.n_hidden, "n_layers": self.n_layers}


def encoder_of(model: nn.Module) -> AWDLSTM:
    """The encoder of a language model or of a classifier.

    Raises:
        StateError: the model has none.
    """
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, AWDLSTM):
        raise StateError(f"the model has no AWD-LSTM encoder: it is a {type(model).__name__}")
    return encoder


def write_encoder(path: StrPath, model: nn.Module, vocab: Vocab, backward: bool) -> Path:
    """Write the encoder of a model, with its vocabulary and what made its tokens.

    Args:
        path: the file to create or replace.
        model: a language model, whose decoder's bias is written, too, or a classifier.
        vocab: of the model.
        backward: whether texts are read from their end.

    Returns:
        The path.

    Raises:
        SaveError: the file could not be written; the old one is whole.
    """
    tensors = {n: t.detach().cpu().contiguous() for n, t in encoder_of(model).state_dict().items()}
    if isinstance(model, LanguageModel) and model.decoder.bias is not None:
        tensors["decoder.bias"] = model.decoder.bias.detach().cpu().contiguous()
    header = {
        "schema": SCHEMA,
        "kind": "awd_lstm",
        "backward": backward,
        "tokens": list(vocab.tokens),
        "tokenizer": _tokenizer_state(vocab),
    }
    return write_tensors(path, tensors, {"easylearn-encoder": json.dumps(header)})


def _tokenizer_state(vocab: Vocab) -> Mapping[str, Any] | None:
    try:
        return None if vocab.tokenizer is None else dict(vocab.tokenizer.state_dict())
    except StateError:
        return None  # a function of the user's: its name would say nothing


def read_encoder(path: StrPath, itos: StrPath | None = None) -> SavedEncoder:
    """Read an encoder out of a file; nothing in it is executed.

    Args:
        path: a file of `save_encoder`, with or without its suffix, or its name alone if it is in `models`; a folder
            of `easylearn pretrain-lm`; or fast.ai's weights (`.h5`, `.pth`).
        itos: fast.ai's vocabulary, a list of words in a `.pkl` file; None looks for `itos*.pkl` beside the weights.

    Raises:
        WeightsError: there is no such file, it is damaged, or it is something else.
    """
    file = find_file(path, ".safetensors")
    if file is None:
        wanted = Path(path)
        if not wanted.suffix:
            wanted = wanted.with_name(f"{wanted.name}.safetensors")
        others = sorted(f.name for f in wanted.parent.glob("*.safetensors")) if wanted.parent.is_dir() else []
        hint = did_you_mean(wanted.name, others) if others else "The folder has no encoders."
        raise WeightsError(f"there is no encoder {wanted}. {hint}")
    if file.suffix == ".safetensors":
        return _read_own(file)
    tokens, tensors = read_fastai(file, itos)
    return _checked(SavedEncoder(str(file), tokens, tensors, backward="bwd" in file.stem))


def find_file(name: StrPath, *suffixes: str) -> Path | None:
    """The file of this name, with one of the suffixes if it has none, here or in `models`; None if there is none."""
    given = Path(name)
    for place in (given, MODELS / given):
        if place.is_dir() and (place / "encoder.safetensors").is_file():
            return place / "encoder.safetensors"
        for file in (place, *(place.with_name(place.name + suffix) for suffix in suffixes)):
            if file.is_file():
                return file
    return None


def _read_own(file: Path) -> SavedEncoder:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            header = json.loads((opened.metadata() or {}).get("easylearn-encoder", "null"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{file} is not a whole safetensors file ({error}); it was cut short or is another"
        ) from error
    if header is None:
        raise WeightsError(f"{file} holds no encoder; save_encoder(learn, name) writes one, learn.save(name) does not")
    if not isinstance(header, dict) or not isinstance(header.get("schema"), int):
        raise WeightsError(f"{file} has a header that easylearn did not write: {str(header)[:100]}")
    if header["schema"] > SCHEMA:
        raise WeightsError(f"{file} was written by a newer easylearn (schema {header['schema']}); update easylearn")
    tokens, tokenizer = header.get("tokens"), header.get("tokenizer")
    if not (
        header.get("kind") == "awd_lstm"
        and isinstance(header.get("backward"), bool)
        and isinstance(tokens, list)
        and all(isinstance(t, str) for t in tokens)
        and isinstance(tokenizer, dict | None)
    ):
        raise WeightsError(f"{file} has a header that does not describe an encoder: {str(header)[:100]}")
    return _checked(SavedEncoder(str(file), tuple(tokens), tensors, header["backward"], tokenizer))


def _checked(saved: SavedEncoder) -> SavedEncoder:
    """Refuse tensors that are not those of one encoder."""
    tensors = saved.tensors
    expected = ("embedding.weight", "rnns.0.weight_ih_l0", "rnns.0.weight_hh_l0")
    missing = [n for n in expected if n not in tensors or tensors[n].ndim != 2]
    if missing:
        raise WeightsError(
            f"{saved.source} has no tensor {missing[0]!r} as an AWD-LSTM has; it has {sorted(tensors)[:8]}"
        )
    if len(tensors["embedding.weight"]) != len(saved.tokens):
        raise WeightsError(
            f"{saved.source} has {len(tensors['embedding.weight']):,} rows of embedding for {len(saved.tokens):,} "
            "tokens; weights and vocabulary belong to different models"
        )
    return saved


def copy_encoder(saved: SavedEncoder, model: nn.Module, vocab: Vocab, backward: bool) -> int:
    """Put an encoder into a model, words matched by name, all of it or nothing.

    Args:
        saved: from `read_encoder`.
        model: a language model (takes the decoder's bias, too) or a classifier.
        vocab: of the model; a word that the file does not know starts at the mean row.
        backward: whether the model reads texts from their end.

    Returns:
        How many words of the vocabulary the file knows.

    Raises:
        WeightsError: sizes or direction differ; the message says what to do.
    """
    encoder = encoder_of(model)
    _check_fits(saved, encoder, backward)
    state = encoder.state_dict()
    known, rows = match_rows(saved.tokens, vocab)
    new = {n: saved.tensors[n] for n in state if n != "embedding.weight"}
    new["embedding.weight"] = take_rows(saved.tensors["embedding.weight"], rows)
    if rows[vocab.pad] < 0:
        new["embedding.weight"][vocab.pad] = 0  # padding says nothing
    for name, live in state.items():
        if live.shape != new[name].shape:
            raise WeightsError(
                f"{saved.source}: {name} has shape {tuple(new[name].shape)}, the model's has {tuple(live.shape)}"
            )
    if known < FEW_KNOWN * len(vocab):
        strange = [t for t, row in zip(vocab.tokens, rows.tolist(), strict=True) if row < 0][:8]
        warnings.warn(
            f"{saved.source} knows only {known:,} of the {len(vocab):,} tokens of this vocabulary (unknown: {strange})."
            " Was it trained on another language, or with another tokenizer?",
            EasyLearnWarning,
            stacklevel=3,
        )
    with torch.no_grad():
        for name, live in state.items():
            live.copy_(new[name])
        if isinstance(model, LanguageModel):
            if model.decoder.weight is not encoder.embedding.weight:
                model.decoder.weight.copy_(new["embedding.weight"])
            if model.decoder.bias is not None and "decoder.bias" in saved.tensors:
                model.decoder.bias.copy_(take_rows(saved.tensors["decoder.bias"], rows))
    return known


def _check_fits(saved: SavedEncoder, encoder: AWDLSTM, backward: bool) -> None:
    """Refuse an encoder of other sizes or of the other direction."""
    own = {"emb_size": encoder.emb_size, "n_hidden": encoder.n_hidden, "n_layers": encoder.n_layers}
    if saved.n_layers == 1:
        own["n_hidden"] = saved.n_hidden  # a single layer has the size of the embedding
    if own != saved.sizes:
        wanted = ", ".join(f"{n}={v}" for n, v in saved.sizes.items())
        has = ", ".join(f"{n}={v}" for n, v in own.items())
        raise WeightsError(
            f"{saved.source} was saved with {wanted}, but this model has {has}. Make the learner with {wanted}, or "
            "with pretrained=, which takes the sizes from the file"
        )
    if saved.backward != backward:
        way = {True: "from the end", False: "from the beginning"}
        raise WeightsError(
            f"{saved.source} reads texts {way[saved.backward]}, this data gives them {way[backward]}; make the data "
            f"with backward={saved.backward}"
        )
    missing = [n for n in encoder.state_dict() if n not in saved.tensors]
    if missing:
        raise WeightsError(f"{saved.source} lacks {len(missing)} tensors of the encoder, the first is {missing[0]!r}")


def match_rows(tokens: tuple[str, ...], vocab: Vocab) -> tuple[int, Tensor]:
    """For each token of a vocabulary its row among `tokens`, -1 where it has none; and how many have one."""
    place: dict[str, int] = {}
    for row, token in enumerate(tokens):
        place.setdefault(token, row)
    rows = torch.tensor([place.get(t, -1) for t in vocab.tokens])
    return int((rows >= 0).sum()), rows


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table; the mean of all rows where `rows` says -1.

    >>> take_rows(torch.tensor([[1.0], [3.0]]), torch.tensor([1, -1]))
    tensor([[3.],
            [2.]])
    """
    taken = table[rows.clamp_min(0)].clone()
    taken[rows < 0] = table.float().mean(0).to(table.dtype)
    return taken


# -- for a learner -------------------------------------------------------------------------------------------


@strict({"fname": "name", "file": "name", "path": "name"})
def save_encoder(learn: Learner, name: StrPath) -> Path:
    """Save what reads in a text model, with its vocabulary, for a classifier to start from.

    Args:
        learn: of a language model or a text classifier.
        name: the file is `<learn.path>/<name>.safetensors`; a `Path` is the file itself.

    Returns:
        The file, as `load_encoder`, `pretrained=` and `vocab=` take it.

    Raises:
        ArgumentError: this is no learner of texts.
        SaveError: the file could not be written; an old one is whole.
    """
    texts = _texts_of(learn, "save_encoder", "learn.save(name) writes the weights of any model")
    return write_encoder(_file(learn, name), learn.model, texts.vocab, texts.backward)


@strict({"fname": "name", "file": "name", "path": "name"})
def load_encoder(learn: Learner, name: StrPath) -> Learner:
    """Put a saved encoder into a learner, all of it or nothing; words are matched by name.

    A word that the saved encoder does not know starts at the mean of all words. Freezing stays as it is.

    Args:
        learn: of a language model or a text classifier, with the sizes of the encoder.
        name: what `save_encoder` was given, or what it returned.

    Returns:
        The learner.

    Raises:
        ArgumentError: this is no learner of texts.
        WeightsError: there is no such file, or sizes or direction differ; the message says what to do.
    """
    texts = _texts_of(learn, "load_encoder", "learn.load(name) reads the weights of any model")
    file = _file(learn, name)
    elsewhere = not file.exists() and find_file(name, ".safetensors") is not None
    saved = read_encoder(name if elsewhere else file)
    with learn.strategy.gate.training():
        copy_encoder(saved, learn.model, texts.vocab, texts.backward)
    return learn


def _texts_of(learn: Learner, verb: str, instead: str) -> AnyText:
    if not isinstance(learn, Learner):
        raise ArgumentError(f"{verb} takes a learner, got a {type(learn).__name__}")
    texts = learn.data.preprocessor
    if not isinstance(texts, AnyText):
        raise ArgumentError(f"{verb} is for text models; this learner's data is {type(learn.data).__name__}. {instead}")
    return texts


def _file(learn: Learner, name: StrPath) -> Path:
    """Where a learner keeps what it saves under a name; a `Path` is a place by itself."""
    file = Path(name) if isinstance(name, Path) else learn.path / name
    return file if file.suffix == ".safetensors" else file.with_name(f"{file.name}.safetensors")
