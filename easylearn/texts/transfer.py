"""Encoders in files, ours and fast.ai's: written with their vocabulary, and read into models of another vocabulary.

A word that the file knows takes its row; one that it does not know starts at the mean of all rows (arXiv 1801.06146).
"""

from __future__ import annotations

import json
import pickletools
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, StateError, WeightsError, did_you_mean
from ..files import StrPath, atomic_write, cache_dir, write_tensors
from ..learning import Learner
from ..nn.awd_lstm import AWDLSTM
from ..nn.text_models import LanguageModel
from ..options import strict
from .preprocess import AnyText
from .vocab import BOS, FLD, MAJ, PAD, REP, UNK, UP, WREP, Vocab, warn_of_strangers

SCHEMA = 1
MODELS = Path("models")  # where a learner keeps what it saves, if nothing else is said
_EXPECTED = ("embedding.weight", "rnns.0.weight_ih_l0", "rnns.0.weight_hh_l0")

WT103 = "https://files.fast.ai/models/wt103"
"""Where fast.ai keeps its language models of 2018."""
OLD_TOKENS = {
    "_unk_": UNK, "_pad_": PAD, "_bos_": BOS, "xbos": BOS, "xfld": FLD,
    "t_up": UP, "tk_rep": REP, "tk_wrep": WREP, "xxeos": "xxeos", "t_maj": MAJ,
}  # fmt: skip
"""fast.ai's names of the special tokens in 2018, and ours."""
_LIST_OPCODES = frozenset(["PROTO", "FRAME", "MARK", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "STOP"])


@dataclass(frozen=True)
class SavedEncoder:
    """An encoder out of a file.

    Its tensors are named as in an `AWDLSTM` ("decoder.bias" besides, of a language model), its tokens in the order of
    the embedding's rows, and the tokenizer's state is that of what made them, if it is known.
    """

    source: str
    tokens: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    backward: bool = False
    tokenizer: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        missing = [n for n in _EXPECTED if n not in self.tensors or self.tensors[n].ndim != 2]
        if missing:
            raise WeightsError(
                f"{self.source} has no tensor {missing[0]!r} as an AWD-LSTM has; it has {sorted(self.tensors)[:8]}"
            )
        rows = len(self.tensors["embedding.weight"])
        if rows != len(self.tokens):
            raise WeightsError(
                f"{self.source} has {rows:,} rows of embedding for {len(self.tokens):,} tokens; weights and vocabulary "
                "belong to different models"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes, as learners take them."""
        embedding, _, hidden = (self.tensors[n] for n in _EXPECTED)
        n_layers = sum(name.endswith("weight_hh_l0") for name in self.tensors)
        return {"emb_size": int(embedding.shape[1]), "n_hidden": int(hidden.shape[1]), "n_layers": n_layers}


def encoder_of(model: nn.Module) -> AWDLSTM:
    """The encoder of a language model or of a classifier."""
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, AWDLSTM):
        raise StateError(f"the model has no AWD-LSTM encoder: it is a {type(model).__name__}")
    return encoder


def write_encoder(path: StrPath, model: nn.Module, vocab: Vocab, backward: bool) -> Path:
    """Write the encoder of a model, a language model with its bias, with its vocabulary and what made its tokens."""
    tensors = dict(encoder_of(model).state_dict())
    if isinstance(model, LanguageModel) and model.decoder.bias is not None:
        tensors["decoder.bias"] = model.decoder.bias.detach()
    header = {
        "schema": SCHEMA, "kind": "awd_lstm", "backward": backward, "tokens": list(vocab.tokens), "tokenizer": None,
    }  # fmt: skip
    if vocab.tokenizer is not None:
        with suppress(StateError):  # a function of the user's: its name would say nothing
            header["tokenizer"] = vocab.tokenizer.state_dict()
    cpu = {n: t.cpu().contiguous() for n, t in tensors.items()}
    return write_tensors(path, cpu, {"easylearn-encoder": json.dumps(header)})


def read_encoder(path: StrPath, itos: StrPath | None = None) -> SavedEncoder:
    """Read an encoder out of a file; nothing in it is executed.

    Args:
        path: what `pretrained=` of `language_model_learner` may be.
        itos: fast.ai's vocabulary, a list of words in a `.pkl` file; None looks for `itos*.pkl` beside the weights.
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
    return SavedEncoder(str(file), tokens, tensors, backward="bwd" in file.stem)


def find_file(name: StrPath, *suffixes: str) -> Path | None:
    """The file of this name, with one of the suffixes if it has none, here or in `models`; None if there is none."""
    for place in (Path(name), MODELS / name):
        for file in (place / "encoder.safetensors", place, *(place.with_name(place.name + s) for s in suffixes)):
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
    kind, backward, tokens, tokenizer = (header.get(n) for n in ("kind", "backward", "tokens", "tokenizer"))
    known = kind == "awd_lstm" and isinstance(backward, bool) and isinstance(tokenizer, dict | None)
    if not known or not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
        raise WeightsError(f"{file} has a header that does not describe an encoder: {str(header)[:100]}")
    return SavedEncoder(str(file), tuple(tokens), tensors, bool(backward), tokenizer)


def copy_encoder(saved: SavedEncoder, model: nn.Module, vocab: Vocab, backward: bool) -> int:
    """Put an encoder into a model, words matched by name, all of it or nothing; returns how many words the file knows.

    A language model takes the decoder's bias, too; a word that the file does not know starts at the mean row.
    """
    encoder = encoder_of(model)
    state = encoder.state_dict()
    _check_fits(saved, encoder, state, backward)
    place = {token: row for row, token in reversed(list(enumerate(saved.tokens)))}  # the first of equal ones
    rows = torch.tensor([place.get(t, -1) for t in vocab.tokens])
    unknown = [t for t in vocab.tokens if t not in place]
    table = take_rows(saved.tensors["embedding.weight"], rows)
    if rows[vocab.pad] < 0:
        table[vocab.pad] = 0  # padding says nothing
    warn_of_strangers(saved.source, unknown, len(vocab), "tokens")
    with torch.no_grad():
        for name, live in state.items():
            live.copy_(table if name == "embedding.weight" else saved.tensors[name])
        if isinstance(model, LanguageModel):
            model.decoder.weight.copy_(table)
            if model.decoder.bias is not None and "decoder.bias" in saved.tensors:
                model.decoder.bias.copy_(take_rows(saved.tensors["decoder.bias"], rows))
    return len(vocab) - len(unknown)


def _check_fits(saved: SavedEncoder, encoder: AWDLSTM, state: Mapping[str, Tensor], backward: bool) -> None:
    """Refuse an encoder of other sizes, of the other direction, or one that is not whole."""
    own = {name: getattr(encoder, name) for name in saved.sizes}
    if saved.sizes["n_layers"] == 1:
        own["n_hidden"] = saved.sizes["n_hidden"]  # a single layer has the size of the embedding
    if own != saved.sizes:
        wanted, has = (", ".join(f"{n}={v}" for n, v in sizes.items()) for sizes in (saved.sizes, own))
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
    missing = [n for n in state if n not in saved.tensors]
    if missing:
        raise WeightsError(f"{saved.source} lacks {len(missing)} tensors of the encoder, the first is {missing[0]!r}")
    for name, live in state.items():
        shape = saved.tensors[name].shape
        if shape != live.shape and name != "embedding.weight":
            raise WeightsError(f"{saved.source}: {name} has shape {tuple(shape)}, the model's has {tuple(live.shape)}")


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table; the mean of all rows where `rows` says -1."""
    taken = table[rows.clamp_min(0)].clone()
    taken[rows < 0] = table.float().mean(0).to(table.dtype)
    return taken


@strict({"fname": "name", "file": "name", "path": "name"})
def save_encoder(learn: Learner, name: StrPath) -> Path:
    """Save what reads in a text model, with its vocabulary, for a classifier to start from.

    Args:
        learn: of a language model or a text classifier.
        name: the file is `<learn.path>/<name>.safetensors`; a `Path` is the file itself.

    Returns:
        The file, as `load_encoder`, `pretrained=` and `vocab=` take it.

    Raises:
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


def download_wt103(backward: bool = False) -> tuple[Path, Path]:
    """Weights and vocabulary of fast.ai's model of WikiText-103 (2018), fetched into the cache folder once."""
    folder = cache_dir() / "wt103"
    weights, words = folder / f"{'bwd' if backward else 'fwd'}_wt103.h5", folder / "itos_wt103.pkl"
    for file in (weights, words):
        if not file.exists():
            _fetch(f"{WT103}/{file.name}", file)
    return weights, words


def _fetch(address: str, file: Path) -> None:
    from urllib.request import urlopen

    try:
        with urlopen(address, timeout=60) as source, atomic_write(file) as temporary:
            expected = source.headers.get("Content-Length")
            with open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
            size = temporary.stat().st_size
            if expected is not None and size != int(expected):
                raise OSError(None, f"only {size:,} of {int(expected):,} bytes came")
    except OSError as error:
        raise WeightsError(
            f"{address} could not be fetched ({error}). Get it on a machine with a network and pass "
            "pretrained=(weights, vocabulary)"
        ) from error


def read_fastai(file: Path, itos: StrPath | None) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Vocabulary and tensors of the encoder in fast.ai's weights, both with our names; see `read_encoder`."""
    if itos is None:
        beside = sorted(file.parent.glob("itos*.pkl"))
        if len(beside) != 1:
            raise WeightsError(
                f"{file} needs its vocabulary, itos_*.pkl: found {[f.name for f in beside]} beside it. Pass "
                "pretrained=(weights, vocabulary)"
            )
        itos = beside[0]
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"{file} cannot be read as weights: {reason}") from error
    if isinstance(found, Mapping) and isinstance(found.get("model"), Mapping):
        found = found["model"]
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise WeightsError(f"{file} holds no dictionary of tensors, got {type(found).__name__}")
    tensors = fastai_tensors({str(n): t for n, t in found.items()})
    return tuple(OLD_TOKENS.get(t, t) for t in read_itos(itos)), tensors


def fastai_tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fast.ai's names of tensors as ours, of 2018 and of 2019; doubles and what is not of the encoder left out."""
    own: dict[str, Tensor] = {}
    for name, tensor in found.items():
        match name.removeprefix("0.").split("."):
            case ["encoder", "weight"]:
                own["embedding.weight"] = tensor
            case ["1", "decoder", "bias"]:
                own["decoder.bias"] = tensor
            case ["rnns", layer, *_, leaf]:
                # The file of 2019 has the dropped weight beside the raw one; the raw one is the weight.
                key = f"rnns.{layer}.{leaf.removesuffix('_raw')}"
                if key not in own or leaf.endswith("_raw"):
                    own[key] = tensor
    return own


def read_itos(path: StrPath) -> list[str]:
    """A list of words out of a pickle file, by its opcodes alone: no class is looked up and nothing is called."""
    words: list[str] = []
    lists = 0
    memo: dict[int, str | None] = {}
    last: str | None = None
    try:
        for opcode, argument, _ in pickletools.genops(Path(path).read_bytes()):
            name = opcode.name
            if "UNICODE" in name or "STRING" in name:
                last = argument.decode() if isinstance(argument, bytes) else str(argument)
                words.append(last)
            elif name == "MEMOIZE" or name.endswith("PUT"):
                memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = last
            elif name.endswith("GET"):
                word = memo.get(int(argument or 0))
                if word is None:
                    raise WeightsError(f"{path} holds more than a flat list of words; it was not read")
                words.append(word)
            elif name not in _LIST_OPCODES:
                raise WeightsError(f"{path} holds more than a list of words ({name}); it was not read")
            elif name.endswith("LIST"):
                last, lists = None, lists + 1
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read as a list of words: {error}") from error
    if not words or lists != 1:
        raise WeightsError(f"{path} holds {lists} lists and {len(words)} words instead of one list of words")
    return words
