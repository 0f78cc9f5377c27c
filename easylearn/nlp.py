"""The 2018 names for text: `from easylearn.nlp import *`. Thin, over `TextLMData`, `TextData` and their learners.

A `field` says how text becomes tokens: any function from a text to a list of tokens, an object like torchtext's old
`Field` (its `preprocess`, or its `tokenize` and `lower`), or None for easylearn's own words. It is left as it is: the
vocabulary is that of the data, `md.vocab`.

What a fit does is settled when it begins, so `learn.clip = 0.3` and `learn.reg_fn = partial(seq2seq_reg, alpha=2,
beta=1)` are arguments of `get_model` here: `md.get_model(..., clip=0.3, reg_fn=partial(seq2seq_reg, alpha=2, beta=1))`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn, optim

from .data._old_bunch import Loader, PartName
from .errors import ArgumentError, DataError, did_you_mean
from .options import strict
from .files import StrPath
from .learner import Learner
from .metrics import accuracy
from .nn.awd_lstm import Drops
from .text import data as texts
from .text.callbacks import ActivationPenalty
from .text.labels import find_labels
from .text.learner import language_model_learner, text_classifier_learner
from .text.sources import Documents, read_text
from .text.tokenize import Tokenizer, as_tokenizer
from .text.torchtext import read_pairs
from .text.vocab import Vocab
from .train.optim import OptimizerFn

__all__ = [
    "F",
    "LanguageModelData",
    "Learner",
    "Path",
    "TextData",
    "accuracy",
    "nn",
    "np",
    "optim",
    "partial",
    "pd",
    "plt",
    "seq2seq_reg",
    "torch",
]

Penalty = ActivationPenalty | Callable[[], ActivationPenalty]

_MARK = "\x1f"  # Unicode's separator of units: stands before each token of a text that came in tokens

_OLD_DATA = {
    "max_size": "max_vocab",
    "backwards": "backward",
    "text_field": "field",
    "text_fld": "field",
    "valid": "validation",
    "batch_size": "bs",
    "specials": "The special tokens are easylearn's own.",
    "vectors": "Pass them to get_model(..., vectors=).",
    "vectors_cache": "Load the vectors, and pass them to get_model(..., vectors=).",
}
_OLD_MODEL = {
    "opt_func": "opt_fn",
    "qrnn": "There is one architecture, AWD-LSTM.",
    "bias": "The decoder has a bias.",
    "initrange": "Embeddings start as in the paper, between -0.1 and 0.1.",
    "crit": "Use language_model_learner or text_classifier_learner on md.data, which take loss=.",
    "max_seq": "max_sl",
}


def seq2seq_reg(alpha: float = 0.0, beta: float = 0.0) -> ActivationPenalty:
    """The penalty on large (alpha) and on changing (beta) outputs, for `get_model(..., reg_fn=seq2seq_reg(2, 1))`.

    Args:
        alpha, beta: see `ActivationPenalty`.
    """
    return ActivationPenalty(alpha, beta)


class Example(NamedTuple):
    """One document as the model sees it.

    Args:
        text: its tokens.
        label: a class, labels or numbers; None where nobody knows it, and in a language model.
    """

    text: list[str]
    label: Any = None


@dataclass(frozen=True)
class TextDataset:
    """One part as `trn_ds`, `val_ds` and `test_ds` show it.

    Args:
        data: the texts.
        name: of the part.
    """

    data: texts.TextLMData | texts.TextData
    name: PartName

    def __len__(self) -> int:
        return len(self.data.store(self.name))

    def __getitem__(self, i: int) -> Example:
        if not 0 <= i < len(self):  # also what ends a loop over it
            raise IndexError(f"the {self.name} part has {len(self)} documents, but number {i} was asked for")
        tokens = [self.data.vocab[int(t)] for t in self.data.store(self.name).doc(i)]
        target = self.data._part(self.name).target
        if target is None:
            return Example(tokens)
        return Example(tokens, self.data.task.decode_target(target[i : i + 1])[0])


class _ModelData:
    """What both kinds have in common.

    Args:
        path: `<path>/models` is where weights are saved.
        data: the texts.
    """

    data: texts.TextLMData | texts.TextData
    path: Path

    @property
    def vocab(self) -> Vocab:
        """The vocabulary, made from the training part; `.tokens` is what `TEXT.vocab.itos` was, `.ids` its `stoi`."""
        return self.data.vocab

    @property
    def nt(self) -> int:
        """How many different tokens there are."""
        return len(self.data.vocab)

    @property
    def pad_idx(self) -> int:
        """The number of the padding token."""
        return self.data.vocab.pad

    @property
    def bs(self) -> int:
        """Rows, or documents, in a batch."""
        return self.data.batch_size

    @property
    def trn_ds(self) -> TextDataset:
        """The training documents."""
        return TextDataset(self.data, "train")

    @property
    def val_ds(self) -> TextDataset:
        """The validation documents."""
        return TextDataset(self.data, "valid")

    @property
    def test_ds(self) -> TextDataset | None:
        """The test documents; None without any."""
        return TextDataset(self.data, "test") if self.data.has_test else None

    @property
    def trn_dl(self) -> Loader:
        """Training batches: `len(md.trn_dl)` of them in an epoch."""
        return self.data.train_loader()

    @property
    def val_dl(self) -> Loader:
        """Validation batches."""
        return self.data.loader("valid")

    @property
    def test_dl(self) -> Loader | None:
        """Test batches; None without any."""
        return self.data.loader("test") if self.data.has_test else None


class LanguageModelData(_ModelData):
    """Texts to read and go on with. Make one with `from_text_files` or `from_dataframes`.

    Args:
        path: `<path>/models` is where weights are saved.
        data: the texts.
    """

    data: texts.TextLMData

    def __init__(self, path: StrPath, data: texts.TextLMData) -> None:
        self.path = Path(path)
        self.data = data

    @classmethod
    @strict(_OLD_DATA)
    def from_text_files(
        cls,
        path: StrPath,
        field: Any,
        train: StrPath,
        validation: StrPath,
        test: StrPath | None = None,
        bs: int = 64,
        bptt: int = 70,
        min_freq: int = 2,
        max_vocab: int = 60_000,
        backward: bool = False,
        vocab: Any = None,
    ) -> LanguageModelData:
        """Files under a folder.

        Args:
            path: the folder; `<path>/models` is where weights are saved.
            field: how text becomes tokens: a function, an object like torchtext's `Field`, or None.
            train: a file in it, or a folder of files, each a document.
            validation: the same for validation.
            test: the same for the test part, or None.
            bs: rows of the stream that are read side by side.
            bptt: tokens in a window, on average.
            min_freq: tokens that come less often are *unknown*.
            max_vocab: the most tokens of a vocabulary.
            backward: read each text from its end.
            vocab: take this vocabulary instead of making one.
        """
        parts: dict[PartName, Documents] = {
            "train": _read(path, train, "train"),
            "valid": _read(path, validation, "validation"),
        }
        if test is not None:
            parts["test"] = _read(path, test, "test")
        return cls(path, _stream(parts, field, vocab, min_freq, max_vocab, bs, bptt, backward))

    @classmethod
    @strict(_OLD_DATA)
    def from_dataframes(
        cls,
        path: StrPath,
        field: Any,
        col: str,
        train_df: pd.DataFrame,
        val_df: pd.DataFrame,
        test_df: pd.DataFrame | None = None,
        bs: int = 64,
        bptt: int = 70,
        min_freq: int = 2,
        max_vocab: int = 60_000,
        backward: bool = False,
        vocab: Any = None,
    ) -> LanguageModelData:
        """Tables with one document per row.

        Args:
            path: `<path>/models` is where weights are saved.
            field: see `from_text_files`.
            col: the column of texts.
            train_df: the rows to train on.
            val_df: those to validate on.
            test_df: more, or None.
            bs, bptt, min_freq, max_vocab, backward, vocab: see `from_text_files`.

        >>> some = pd.DataFrame({"text": ["a good film", "a bad film"] * 20})
        >>> md = LanguageModelData.from_dataframes(".", str.split, "text", some, some[:4], bs=4, bptt=5)
        >>> len(md.trn_ds), md.trn_ds[0].text, md.nt
        (40, ['xxbos', 'a', 'good', 'film'], 12)
        """
        parts: dict[PartName, Documents] = {}
        for name, frame in (("train", train_df), ("valid", val_df), ("test", test_df)):
            if frame is None and name == "test":
                continue
            if not isinstance(frame, pd.DataFrame):
                raise ArgumentError(f"{name} must be a pandas DataFrame, got {type(frame).__name__}")
            parts[name] = Documents.from_frame(frame, col)  # type: ignore[index]
        return cls(path, _stream(parts, field, vocab, min_freq, max_vocab, bs, bptt, backward))

    @strict(_OLD_MODEL)
    def get_model(
        self,
        opt_fn: OptimizerFn | None,
        emb_sz: int,
        n_hid: int,
        n_layers: int,
        *,
        dropouti: float = 0.5,
        dropout: float = 0.4,
        wdrop: float = 0.5,
        dropoute: float = 0.1,
        dropouth: float = 0.3,
        tie_weights: bool = True,
        clip: float | None = None,
        reg_fn: Penalty | None = None,
        vectors: Any = None,
        metrics: Sequence[Any] | None = None,
    ) -> Learner:
        """A learner that predicts each next token; see `language_model_learner`.

        Args:
            opt_fn: makes the optimizer; None takes AdamW.
            emb_sz: length of a word's vector.
            n_hid: width of all recurrent layers but the last.
            n_layers: recurrent layers.
            dropouti, dropout, wdrop, dropoute, dropouth: dropout of inputs, outputs, recurrent weights, whole words
                and between layers.
            tie_weights: the decoder's weights are the embedding's.
            clip: largest norm of the gradients, what `learn.clip = 0.3` was.
            reg_fn: `seq2seq_reg(2, 1)`, or `partial(seq2seq_reg, alpha=2, beta=1)`, what `learn.reg_fn` was.
            vectors: word vectors to start from; see `language_model_learner`.
            metrics: instead of perplexity and accuracy.

        Returns:
            The learner.
        """
        return language_model_learner(
            self.data, emb_size=emb_sz, n_hidden=n_hid, n_layers=n_layers, vectors=vectors,
            drops=Drops(embedding=dropoute, input=dropouti, weight=wdrop, hidden=dropouth, output=dropout),
            tie_weights=tie_weights, alpha=0, beta=0, callbacks=_penalty(reg_fn), optimizer=opt_fn, clip=clip,
            metrics=metrics, path=self.path / "models",
        )  # fmt: skip

    @property
    def bptt(self) -> int:
        """Tokens in a window."""
        return self.data.bptt


class TextData(_ModelData):
    """Documents with labels. Make one with `from_splits`.

    Args:
        path: `<path>/models` is where weights are saved.
        data: the texts.
    """

    data: texts.TextData

    def __init__(self, path: StrPath, data: texts.TextData) -> None:
        self.path = Path(path)
        self.data = data

    @classmethod
    @strict({**_OLD_DATA, "sort_key": "Documents of like length come together by themselves."})
    def from_splits(
        cls,
        path: StrPath,
        splits: Sequence[Any],
        bs: int,
        text_name: str = "text",
        label_name: str = "label",
        *,
        field: Any = None,
        vocab: Any = None,
        min_freq: int = 2,
        max_vocab: int = 60_000,
        backward: bool = False,
    ) -> TextData:
        """Training, validation and maybe test documents.

        Args:
            path: `<path>/models` is where weights are saved.
            splits: two or three of: a table; an iterable of (label, text), such as torchtext's datasets; an object with
                `examples` that have a text, or its tokens, and a label, such as torchtext's old datasets.
            bs: documents in a training batch.
            text_name, label_name: of the columns, or of what examples have.
            field: how text becomes tokens, as in `LanguageModelData.from_text_files`. None takes the field called
                `text_name` that the splits bring, or what made the tokens of `vocab`, or easylearn's words.
            vocab: take this vocabulary: for a language model's encoder its data, `vocab=md`.
            min_freq: tokens that come less often are *unknown*.
            max_vocab: the most tokens of a vocabulary.
            backward: read each text from its end.

        >>> film = [("pos", "a good film"), ("neg", "a bad film")]
        >>> md = TextData.from_splits(".", (film * 4, film), bs=4, field=str.split)
        >>> md.c, md.classes, md.val_ds[1]
        (2, ('neg', 'pos'), Example(text=['xxbos', 'a', 'bad', 'film'], label='neg'))
        """
        if isinstance(splits, str) or len(splits) not in (2, 3):
            raise ArgumentError(f"splits must be (train, valid) or (train, valid, test), got {len(splits)} of them")
        documents: dict[PartName, Documents] = {}
        labels: dict[PartName, list[Any]] = {}
        names: tuple[PartName, ...] = ("train", "valid", "test")
        for name, split in zip(names, splits, strict=False):
            found, given = _documents(split, text_name, label_name, name)
            documents[name] = Documents.from_list(found, where=name)
            if name != "test":
                labels[name] = given
        if field is None:
            fields = getattr(splits[0], "fields", None)
            field = fields.get(text_name) if isinstance(fields, Mapping) else None
        tokenizer: Any = None if field is None else _of_field(field)
        if any(t.startswith(_MARK) for t in documents["train"]):
            tokenizer = _given_tokens(tokenizer, vocab)
        options = texts._Options(vocab, tokenizer, max_vocab, min_freq)
        found_labels = find_labels(labels["train"], documents["train"].ids, label_name)
        return cls(path, texts.TextData._make(documents, labels, found_labels, options, bs, None, backward))

    @strict(_OLD_MODEL)
    def get_model(
        self,
        opt_fn: OptimizerFn | None,
        max_sl: int,
        bptt: int,
        emb_sz: int,
        n_hid: int,
        n_layers: int,
        dropout: float,
        *,
        dropouti: float = 0.5,
        wdrop: float = 0.5,
        dropoute: float = 0.1,
        dropouth: float = 0.3,
        clip: float | None = None,
        reg_fn: Penalty | None = None,
        vectors: Any = None,
        metrics: Sequence[Any] | None = None,
    ) -> Learner:
        """A learner with one linear layer on what an encoder says; see `text_classifier_learner`.

        Args:
            opt_fn: makes the optimizer; None takes AdamW.
            max_sl: how many tokens at the end of a document get gradients.
            bptt: tokens in a window of truncated back-propagation.
            emb_sz: length of a word's vector.
            n_hid: width of all recurrent layers but the last.
            n_layers: recurrent layers.
            dropout: before the linear layer.
            dropouti, wdrop, dropoute, dropouth, clip, reg_fn, vectors, metrics: see `LanguageModelData.get_model`.

        Returns:
            The learner; `learn.load_encoder(name)` takes what a language model's `learn.save_encoder(name)` wrote.
        """
        return text_classifier_learner(
            self.data, emb_size=emb_sz, n_hidden=n_hid, n_layers=n_layers, vectors=vectors, layers=(), ps=dropout,
            drops=Drops(embedding=dropoute, input=dropouti, weight=wdrop, hidden=dropouth, output=0.0), bptt=bptt,
            max_len=max_sl, alpha=0, beta=0, callbacks=_penalty(reg_fn), optimizer=opt_fn, clip=clip, metrics=metrics,
            path=self.path / "models",
        )  # fmt: skip

    @property
    def c(self) -> int:
        """How many classes, labels or numbers a document has to be given."""
        return self.data.task.n_out

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes."""
        return tuple(self.data.classes)


def _penalty(reg_fn: Penalty | None) -> list[ActivationPenalty]:
    if reg_fn is None:
        return []
    made = reg_fn if isinstance(reg_fn, ActivationPenalty) or not callable(reg_fn) else reg_fn()
    if not isinstance(made, ActivationPenalty):
        raise ArgumentError(f"reg_fn must be seq2seq_reg(alpha, beta), got {type(made).__name__}")
    return [made] if made.alpha or made.beta else []


def _read(path: StrPath, name: StrPath, what: str) -> Documents:
    """A file as one document, or the files of a folder."""
    place = Path(path) / name
    if place.is_dir():
        return Documents.from_folder(place, "*.*")
    if not place.is_file():
        near = [f.name for f in place.parent.iterdir()] if place.parent.is_dir() else []
        raise DataError(f"{what}: there is no file or folder {place}. {did_you_mean(place.name, near) if near else ''}")
    return Documents.from_list([read_text(place)], ids=[str(name)])


def _stream(
    parts: Mapping[PartName, Documents],
    field: Any,
    vocab: Any,
    min_freq: int,
    max_vocab: int,
    bs: int,
    bptt: int,
    backward: bool,
) -> texts.TextLMData:
    options = texts._Options(vocab, None if field is None else _of_field(field), max_vocab, min_freq)
    return texts.TextLMData._make(parts, options, bs, bptt, backward)


def _of_field(field: Any) -> Any:
    """A tokenizer out of what 2018 passed as a field."""
    if isinstance(field, str | Tokenizer):
        return field
    tokenize = getattr(field, "tokenize", None)
    if not callable(tokenize):
        if callable(field):
            return field
        raise ArgumentError(
            "field must be a function from a text to a list of tokens, an object like torchtext's old Field, with a "
            f"function tokenize, or None, got {type(field).__name__}"
        )
    preprocess = getattr(field, "preprocess", None)
    if callable(preprocess):
        return preprocess
    return functools.partial(_lowered, tokenize) if getattr(field, "lower", False) else tokenize


def _lowered(tokenize: Callable[[str], Iterable[str]], text: str) -> list[str]:
    return [token.lower() for token in tokenize(text)]


def _given_tokens(tokenizer: Any, vocab: Any) -> Callable[[str], list[str]]:
    """What parts a text that came in tokens where it was parted, and another one by the tokenizer."""
    own = texts.vocabulary_of(vocab, tokenizer)[1] if vocab is not None else as_tokenizer(tokenizer)

    def tokens_as_given(text: str) -> list[str]:
        if text.startswith(_MARK):
            return text.split(_MARK)[1:]
        parted: list[list[str]] = own.tokenize([text])
        return parted[0]

    return tokens_as_given


def _documents(split: Any, text_name: str, label_name: str, part: str) -> tuple[list[str], list[Any]]:
    """Texts and labels of one split; tokens have a mark before each."""
    if isinstance(split, pd.DataFrame):
        missing = [n for n in (text_name, label_name) if n not in split.columns and (part, n) != ("test", label_name)]
        if missing:
            raise DataError(f"{part} has no column {missing[0]!r}. {did_you_mean(missing[0], map(str, split.columns))}")
        labels = split[label_name].tolist() if label_name in split.columns else []
        return split[text_name].tolist(), labels
    examples = getattr(split, "examples", None)
    if examples is None:
        return read_pairs(split, part)
    found: list[str] = []
    given: list[Any] = []
    for i, example in enumerate(examples):
        text = getattr(example, text_name, None)
        if isinstance(text, list | tuple):
            text = "".join(f"{_MARK}{t}" for t in text)
        label = getattr(example, label_name, None)
        if not isinstance(text, str) or (label is None and part != "test"):
            raise DataError(f"{part}: example {i} must have {text_name!r}, a text or tokens, and {label_name!r}")
        found.append(text)
        given.append(label)
    return found, given
