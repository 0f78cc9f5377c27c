"""The 2018 names for text: `from easylearn.nlp import *`. Thin, over `TextLMData`, `TextData` and their learners.

A `field` says how text becomes tokens: any function from a text to a list of tokens, an object like torchtext's old
`Field` (its `preprocess`, or its `tokenize` and `lower`), or None for easylearn's own words. It is left as it is: the
vocabulary is that of the data, `md.vocab`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import bow07, fields07
from . import text as text2018
from .data.bunch import SplitName
from .errors import ArgumentError, DataError, did_you_mean
from .files import StrPath
from .imports import load_names, star
from .lm_rnn import SequentialClassifier, SequentialLM
from .nn import text_models
from .nn.awd_lstm import Drops
from .options import strict
from .text import LanguageModelLoader, RNN_Learner, penalty_of
from .textdata07 import DocumentData07, SplitTexts, StreamData07, TextModelData
from .texts.gather import Gathered, Rows
from .texts.learner import language_model_learner, text_classifier_learner
from .texts.options import LabelOptions, StreamOptions, vocabulary_of
from .texts.sources import Documents, read_text
from .texts.torchtext import TOKEN_MARK, field_tokenizer, given_tokens, read_examples
from .train.optim import OptimizerFn

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


class LanguageModelData(TextModelData):
    """Texts to read and go on with. Make one with `from_text_files` or `from_dataframes`.

    Args:
        path: `<path>/models` is where weights are saved.
        data: the texts.
    """

    data: StreamData07

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
        return cls(path, StreamData07._make(Gathered(splits, {}), how), field)

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
        return cls(path, StreamData07._make(Gathered(splits, {}), how), field)

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
        reg_fn: Any = None,
        vectors: Any = None,
        metrics: Sequence[Any] | None = None,
    ) -> RNN_Learner:
        """A learner that predicts each next token; see `language_model_learner`.

        Args:
            opt_fn: makes the optimizer; None takes AdamW.
            emb_sz: length of a word's vector.
            n_hid: width of all recurrent layers but the last.
            n_layers: recurrent layers.
            dropouti, dropout, wdrop, dropoute, dropouth: dropout of inputs, outputs, recurrent weights, whole words
                and between layers.
            tie_weights: the decoder's weights are the embedding's.
            clip: largest norm of the gradients; `learn.clip` may be set, too.
            reg_fn: `partial(seq2seq_reg, alpha=2, beta=1)`; `learn.reg_fn` may be set, too.
            vectors: word vectors to start from; see `language_model_learner`.
            metrics: instead of perplexity and accuracy.

        Returns:
            The learner.
        """
        learn = language_model_learner(
            self.data, emb_size=emb_sz, n_hidden=n_hid, n_layers=n_layers, vectors=vectors,
            drops=Drops(embedding=dropoute, input=dropouti, weight=wdrop, hidden=dropouth, output=dropout),
            tie_weights=tie_weights, alpha=0, beta=0, callbacks=penalty_of(reg_fn), optimizer=opt_fn, clip=clip,
            metrics=metrics, path=self.path / "models",
        )  # fmt: skip
        assert isinstance(learn.model, text_models.LanguageModel)
        learn.model = SequentialLM.of(learn.model)
        return RNN_Learner.of(learn)

    def _batches(self, name: SplitName) -> Any:
        store, how = self.data.store(name), self.data.preprocessor
        made = LanguageModelLoader(store.ids, self.bs, how.bptt, how.backward)
        made.dataset = SplitTexts(self.data, name)
        return made

    @property
    def bptt(self) -> int:
        """Tokens in a window."""
        return self.data.preprocessor.bptt


class TextData(TextModelData):
    """Documents with labels. Make one with `from_splits`.

    Args:
        path: `<path>/models` is where weights are saved.
        data: the texts.
    """

    data: DocumentData07

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
        if vocab is None and isinstance(field, fields07.Field):
            vocab = field.known
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
        return cls(path, DocumentData07._make(found, learned.task, targets, how), field)

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
        reg_fn: Any = None,
        vectors: Any = None,
        metrics: Sequence[Any] | None = None,
    ) -> RNN_Learner:
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
            max_len=max_sl, alpha=0, beta=0, callbacks=penalty_of(reg_fn), optimizer=opt_fn, clip=clip, metrics=metrics,
            path=self.path / "models",
        )  # fmt: skip
        old = learn.model
        assert isinstance(old, text_models.TextClassifier)
        learn.model = SequentialClassifier(old.encoder, old.head, bptt=old.bptt, max_len=old.max_len)
        return RNN_Learner.of(learn)

    @property
    def c(self) -> int:
        """How many classes, labels or numbers a document has to be given."""
        return self.data.task.n_out

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes."""
        return tuple(self.data.classes)


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
    return vocab.data if isinstance(vocab, TextModelData) else vocab, field_tokenizer(field)


_theirs = load_names(
    """
sklearn.feature_extraction.text: CountVectorizer | sklearn.model_selection: train_test_split
"""
)
globals().update(_theirs)
__all__ = star(globals(), text2018, bow07, fields07, own=[*_theirs, "LanguageModelData", "TextData"])
