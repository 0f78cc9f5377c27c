"""The 2018 names for text: `from easylearn.nlp import *`. Thin, over `TextLMData`, `TextData` and their learners.

A `field` says how text becomes tokens: any function from a text to a list of tokens, an object like torchtext's old
`Field` (its `preprocess`, or its `tokenize` and `lower`), or None for easylearn's own words. It is left as it is: the
vocabulary is that of the data, `md.vocab`.

What a fit does is settled when it begins, so `learn.clip = 0.3` and `learn.reg_fn = partial(seq2seq_reg, alpha=2,
beta=1)` are arguments of `get_model` here: `md.get_model(..., clip=0.3, reg_fn=partial(seq2seq_reg, alpha=2, beta=1))`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

from .data.bunch import SplitName
from .data.order import Loader
from .errors import ArgumentError, DataError, did_you_mean
from .files import StrPath
from .learner07 import Learner07
from .learning import Learner
from .metrics import accuracy
from .nn.awd_lstm import Drops
from .options import strict
from .text import data as texts
from .text.callbacks import ActivationPenalty
from .text.gather import Gathered, Rows
from .text.learner import language_model_learner, text_classifier_learner
from .text.options import LabelOptions, StreamOptions, vocabulary_of
from .text.sources import Documents, read_text
from .text.torchtext import TOKEN_MARK, field_tokenizer, given_tokens, read_examples
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
    """One split as `trn_ds`, `val_ds` and `test_ds` show it.

    Args:
        data: the texts.
        name: of the split.
    """

    data: texts.TextLMData | texts.TextData
    name: SplitName

    def __len__(self) -> int:
        return len(self.data.store(self.name))

    def __getitem__(self, i: int) -> Example:
        if not 0 <= i < len(self):  # also what ends a loop over it
            raise IndexError(f"the {self.name} split has {len(self)} documents, but number {i} was asked for")
        tokens = [self.data.vocab[int(t)] for t in self.data.store(self.name).doc(i)]
        target = self.data._split(self.name).target
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
        """The vocabulary, made from the training split; `.tokens` is what `TEXT.vocab.itos` was, `.ids` its `stoi`."""
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
        return TextDataset(self.data, "test") if "test" in self.data.splits else None

    @property
    def trn_dl(self) -> Loader:
        """Training batches: `len(md.trn_dl)` of them in an epoch."""
        return self.data.loader("train", training=True)

    @property
    def val_dl(self) -> Loader:
        """Validation batches."""
        return self.data.loader("valid")

    @property
    def test_dl(self) -> Loader | None:
        """Test batches; None without any."""
        return self.data.loader("test") if "test" in self.data.splits else None


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
            test: the same for the test split, or None.
            bs: rows of the stream that are read side by side.
            bptt: tokens in a window, on average.
            min_freq: tokens that come less often are *unknown*.
            max_vocab: the most tokens of a vocabulary.
            backward: read each text from its end.
            vocab: take this vocabulary instead of making one.
        """
        splits: dict[SplitName, Documents] = {
            "train": _read(path, train, "train"),
            "valid": _read(path, validation, "validation"),
        }
        if test is not None:
            splits["test"] = _read(path, test, "test")
        how = StreamOptions(
            *_words(vocab, field), max_vocab=max_vocab, min_freq=min_freq, batch_size=bs, bptt=bptt, backward=backward
        )
        return cls(path, texts.TextLMData._make(Gathered(splits, {}), how))

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
        splits: dict[SplitName, Documents] = {}
        for name, frame in (("train", train_df), ("valid", val_df), ("test", test_df)):
            if frame is None and name == "test":
                continue
            if not isinstance(frame, pd.DataFrame):
                raise ArgumentError(f"{name} must be a pandas DataFrame, got {type(frame).__name__}")
            splits[name] = Documents.from_frame(frame, col)  # type: ignore[index]
        how = StreamOptions(
            *_words(vocab, field), max_vocab=max_vocab, min_freq=min_freq, batch_size=bs, bptt=bptt, backward=backward
        )
        return cls(path, texts.TextLMData._make(Gathered(splits, {}), how))

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
    ) -> Learner07:
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
        learn = language_model_learner(
            self.data, emb_size=emb_sz, n_hidden=n_hid, n_layers=n_layers, vectors=vectors,
            drops=Drops(embedding=dropoute, input=dropouti, weight=wdrop, hidden=dropouth, output=dropout),
            tie_weights=tie_weights, alpha=0, beta=0, callbacks=_penalty(reg_fn), optimizer=opt_fn, clip=clip,
            metrics=metrics, path=self.path / "models",
        )  # fmt: skip
        return Learner07.of(learn)

    @property
    def bptt(self) -> int:
        """Tokens in a window."""
        return self.data.preprocessor.bptt


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
        documents: dict[SplitName, Documents] = {}
        labels: dict[SplitName, list[Any]] = {}
        names: tuple[SplitName, ...] = ("train", "valid", "test")
        for name, split in zip(names, splits, strict=False):
            some, given = read_examples(split, text_name, label_name, name)
            documents[name] = Documents.from_list(some, where=name)
            if name != "test" or (given and all(label is not None for label in given)):
                labels[name] = given
        if field is None:
            fields = getattr(splits[0], "fields", None)
            field = fields.get(text_name) if isinstance(fields, Mapping) else None
        own, tokenizer = _words(vocab, field)
        if any(t.startswith(TOKEN_MARK) for t in documents["train"]):
            tokenizer = given_tokens(vocabulary_of(own, tokenizer)[1])
        how = LabelOptions(own, tokenizer, max_vocab, min_freq, batch_size=bs, backward=backward)
        rows = {n: Rows.of_lists(n, documents[n].ids, given) for n, given in labels.items()}
        learned = rows["train"].targets("label", how).learn()
        if "test" in rows and not rows["test"].are_of(learned.task):
            del rows["test"]
        targets = {n: some.encode(learned, None, n) for n, some in rows.items()}
        found = Gathered(documents, {"train": np.arange(len(documents["train"]))})
        return cls(path, texts.TextData._make(found, learned.task, targets, how))

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
    ) -> Learner07:
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
        learn = text_classifier_learner(
            self.data, emb_size=emb_sz, n_hidden=n_hid, n_layers=n_layers, vectors=vectors, layers=(), ps=dropout,
            drops=Drops(embedding=dropoute, input=dropouti, weight=wdrop, hidden=dropouth, output=0.0), bptt=bptt,
            max_len=max_sl, alpha=0, beta=0, callbacks=_penalty(reg_fn), optimizer=opt_fn, clip=clip, metrics=metrics,
            path=self.path / "models",
        )  # fmt: skip
        return Learner07.of(learn)

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


def _words(vocab: Any, field: Any) -> tuple[Any, Any]:
    """What easylearn takes for a vocabulary and a field."""
    return vocab.data if isinstance(vocab, _ModelData) else vocab, field_tokenizer(field)
