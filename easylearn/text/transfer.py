"""Encoders in files: written with their vocabulary, and read into models whose vocabulary is another one.

A word that the file knows takes its row; one that it does not know starts at the mean of all rows (arXiv 1801.06146).
fast.ai's files of 2018 and 2019 are read, too, without executing anything that is in them.
"""

from __future__ import annotations

import json
import pickletools
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EasyLearnWarning, StateError, WeightsError, did_you_mean
from ..files import StrPath, atomic_write, cache_dir, write_tensors
from ..nn.awd_lstm import AWDLSTM, LanguageModel
from .vocab import BOS, FLD, MAJ, PAD, REP, UNK, UP, WREP, Vocab

SCHEMA = 1
WT103 = "https://files.fast.ai/models/wt103"
"""Where fast.ai keeps its language models of 2018."""
FEW_KNOWN = 0.5  # below this share of known words a transfer is probably a mistake
OLD_TOKENS = {
    "_unk_": UNK, "_pad_": PAD, "_bos_": BOS, "xbos": BOS, "xfld": FLD,
    "t_up": UP, "tk_rep": REP, "tk_wrep": WREP, "xxeos": "xxeos", "t_maj": MAJ,
}  # fmt: skip
"""fast.ai's names of the special tokens in 2018, and ours."""


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


def save_encoder(path: StrPath, model: nn.Module, vocab: Vocab, backward: bool) -> Path:
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
        path: a file of `save_encoder` or of `easylearn pretrain-lm` (or its folder), or fast.ai's weights (`.h5`,
            `.pth`).
        itos: fast.ai's vocabulary, a list of words in a `.pkl` file; None looks for `itos*.pkl` beside the weights.

    Raises:
        WeightsError: there is no such file, it is damaged, or it is something else.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "encoder.safetensors"
    if not file.exists() and not file.suffix:
        file = file.with_name(file.name + ".safetensors")
    if not file.exists():
        others = sorted(f.name for f in file.parent.glob("*.safetensors")) if file.parent.is_dir() else []
        hint = did_you_mean(file.name, others) if others else "The folder has no encoders."
        raise WeightsError(f"there is no encoder {file}. {hint}")
    return _read_own(file) if file.suffix == ".safetensors" else _read_fastai(file, itos)


def download_wt103(backward: bool = False) -> tuple[Path, Path]:
    """fast.ai's language model of WikiText-103 (2018), fetched into the cache folder unless it is there already.

    Args:
        backward: the model that reads texts from their end.

    Returns:
        The files of weights and of vocabulary, as `read_encoder` takes them.

    Raises:
        WeightsError: they could not be fetched; the message says where else to get them.
    """
    folder = cache_dir() / "wt103"
    files = [folder / f"{'bwd' if backward else 'fwd'}_wt103.h5", folder / "itos_wt103.pkl"]
    for file in files:
        if not file.exists():
            _fetch(f"{WT103}/{file.name}", file)
    return files[0], files[1]


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
        raise WeightsError(f"{file} holds no encoder; learn.save_encoder(name) writes one, learn.save(name) does not")
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


def _read_fastai(file: Path, itos: StrPath | None) -> SavedEncoder:
    """fast.ai's files: `0.encoder.weight`, `0.rnns.*.module.weight_hh_l0_raw` and so on."""
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
    tokens = tuple(OLD_TOKENS.get(t, t) for t in read_itos(itos))
    return _checked(SavedEncoder(str(file), tokens, tensors, backward="bwd" in file.stem))


def fastai_tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fast.ai's names of tensors as ours, of 2018 and of 2019; doubles and what is not of the encoder left out.

    >>> sorted(fastai_tensors({"0.encoder.weight": torch.zeros(1), "0.rnns.0.module.weight_hh_l0_raw": torch.ones(1)}))
    ['embedding.weight', 'rnns.0.weight_hh_l0']
    """
    own: dict[str, Tensor] = {}
    for name, tensor in found.items():
        parts = name.removeprefix("0.").split(".")
        if parts == ["encoder", "weight"]:
            own["embedding.weight"] = tensor
        elif parts == ["1", "decoder", "bias"]:
            own["decoder.bias"] = tensor
        elif parts[0] == "rnns" and len(parts) >= 3:
            leaf = parts[-1].removesuffix("_raw")
            key = f"rnns.{parts[1]}.{leaf}"
            # The file of 2019 has the dropped weight beside the raw one; the raw one is the weight.
            if key not in own or parts[-1].endswith("_raw"):
                own[key] = tensor
    return own


_LIST_OPCODES = frozenset(
    {
        "PROTO", "FRAME", "EMPTY_LIST", "LIST", "MARK", "APPEND", "APPENDS", "STOP", "MEMOIZE", "BINPUT", "LONG_BINPUT",
        "PUT", "BINGET", "LONG_BINGET", "GET",
    }
)  # fmt: skip
_TEXT_OPCODES = frozenset(
    {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)


def read_itos(path: StrPath) -> list[str]:
    """A list of words out of a pickle file, by its opcodes alone: no class is looked up and nothing is called.

    Args:
        path: what `pickle.dump(list_of_words, file)` wrote.

    Raises:
        WeightsError: the file holds anything but one list of words.
    """
    words: list[str] = []
    lists = 0
    memo: dict[int, str | None] = {}
    last: str | None = None
    try:
        for opcode, argument, _ in pickletools.genops(Path(path).read_bytes()):
            name = opcode.name
            if name in _TEXT_OPCODES:
                last = argument.decode() if isinstance(argument, bytes) else str(argument)
                words.append(last)
            elif name not in _LIST_OPCODES:
                raise WeightsError(f"{path} holds more than a list of words ({name}); it was not read")
            elif name == "MEMOIZE":
                memo[len(memo)] = last
            elif name.endswith("PUT"):
                memo[int(argument or 0)] = last
            elif name.endswith("GET"):
                known = memo.get(int(argument or 0))
                if known is None:
                    raise WeightsError(f"{path} holds more than a flat list of words; it was not read")
                words.append(known)
            elif name in ("EMPTY_LIST", "LIST"):
                last, lists = None, lists + 1
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read as a list of words: {error}") from error
    if not words or lists != 1:
        raise WeightsError(f"{path} holds {lists} lists and {len(words)} words instead of one list of words")
    return words


def load_encoder(saved: SavedEncoder, model: nn.Module, vocab: Vocab, backward: bool) -> int:
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
    state = encoder.state_dict()
    missing = [n for n in state if n not in saved.tensors]
    if missing:
        raise WeightsError(f"{saved.source} lacks {len(missing)} tensors of the encoder, the first is {missing[0]!r}")
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
