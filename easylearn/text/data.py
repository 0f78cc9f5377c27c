"""Texts as data: TextLMData for a language model, TextData for documents with labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from .. import keyed
from ..data._old_bunch import Data, Loader, PartedData, PartName, RuntimeInputs, Sampling
from ..data.split import Split, split_indices
from ..errors import ArgumentError, DataError, StateError, WeightsError, did_you_mean
from ..options import strict
from ..files import StrPath, digest
from ..nn.awd_lstm import LanguageModel
from ..task import Task, next_token
from . import transfer
from .generate import continue_tokens
from .labels import Labels, TaskName, find_labels, have_classes
from .loader import DocumentLoader, StreamLoader
from .processing import TextProcessor
from .sources import Documents, Errors, Missing, read_text
from .store import TokenStore
from .processing import as_tokenizer
from .tokenize import Tokenizer
from .torchtext import are_pairs, as_vocab, read_pairs
from .vocab import BOS, PAD, UNK, Vocab

if TYPE_CHECKING:
    import pandas as pd

Tokenizing = str | Tokenizer | Callable[[str], list[str]] | None
Columns = str | Sequence[str]
MANY_UNKNOWN = 0.1  # a share of unknown tokens that is worth a remark
RECIPE, LM_RECIPE = "text", "language_model"
EVAL_FACTOR = 2  # batches without gradients may be this much larger

_OLD_NAMES = {
    "bs": "batch_size",
    "valid_pct": "valid",
    "val_idxs": "valid",
    "valid_col": "Pass valid=df['column'], a mask.",
    "text_col": "text",
    "label_col": "label",
    "label_delim": "label_sep",
    "text_vocab": "vocab",
    "seq_len": "bptt",
    "is_lm": "Use TextLMData for a language model.",
    "tok_tfm": "tokenizer",
    "max_freq": "There is no highest frequency; max_vocab limits the vocabulary.",
    "min_count": "min_freq",
    "is_backward": "backward",
}


@dataclass(frozen=True)
class Part:
    """The documents of one part.

    Args:
        store: their tokens.
        ids: what they are called, in file order.
        target: of each, or None.
    """

    store: TokenStore
    ids: tuple[str, ...]
    target: Tensor | None = None

    def __len__(self) -> int:
        return len(self.store)


@dataclass(frozen=True)
class _Options:
    """What every way to make text data has in common."""

    vocab: Any = None
    tokenizer: Tokenizing = None
    max_vocab: int = 60_000
    min_freq: int = 2
    progress: bool = True

    def read(self, documents: Mapping[PartName, Documents]) -> tuple[TextProcessor, dict[PartName, TokenStore]]:
        """Tokens of every part, by a vocabulary given or made from the training part."""
        vocab, tokenizer = vocabulary_of(self.vocab, self.tokenizer)
        processor, train = TextProcessor.fit(
            documents["train"],
            tokenizer,
            vocab=vocab,
            max_vocab=self.max_vocab,
            min_freq=self.min_freq,
            progress=self.progress,
        )
        stores: dict[PartName, TokenStore] = {"train": train}
        for name, more in documents.items():
            if name != "train":
                stores[name] = processor.store(more, progress=self.progress)
        return processor, stores


def vocabulary_of(vocab: Any, tokenizer: Tokenizing) -> tuple[Vocab | None, Any]:
    """The vocabulary and the tokenizer out of what users pass as `vocab=`.

    Args:
        vocab: None, a `Vocab`, a `TextProcessor`, other text data, a learner of such, or a `torchtext.vocab.Vocab`.
        tokenizer: as given; None takes the one that made the vocabulary's tokens.
    """
    if vocab is None:
        return None, as_tokenizer(tokenizer)
    holder = getattr(vocab, "data", vocab)
    processor = getattr(holder, "processor", holder)
    found = as_vocab(processor) or as_vocab(getattr(processor, "vocab", None))
    if found is None:
        raise ArgumentError(
            f"vocab must be a Vocab, or the data or the learner whose vocabulary to take, got {type(vocab).__name__}"
        )
    if tokenizer is not None:
        return found, as_tokenizer(tokenizer)
    if isinstance(processor, TextProcessor):
        return found, processor.tokenizer
    return found, as_tokenizer(found.tokenizer)


class _Texts(PartedData[Part]):
    """What both kinds of text data share: parts of documents and the way from text to tokens and back."""

    def __init__(
        self, task: Task, parts: Mapping[PartName, Part], processor: TextProcessor, batch_size: int, backward: bool
    ) -> None:
        super().__init__(task, batch_size)
        if "train" not in parts or not len(parts["train"]):
            raise DataError("no documents are left to train on")
        self._parts = dict(parts)
        self.processor = processor
        self.backward = backward
        self.columns: str | tuple[str, ...] | None = None  # of texts, where they came from a table

    @property
    def vocab(self) -> Vocab:
        """The vocabulary, made from the training part."""
        return self.processor.vocab

    @property
    def tokenizer(self) -> Tokenizer:
        """What parts text into tokens."""
        return self.processor.tokenizer

    def ids(self, part: PartName) -> Sequence[str]:
        """Names of the documents: row labels, or files."""
        return self._part(part).ids

    def store(self, part: PartName) -> TokenStore:
        """The tokens of a part."""
        return self._part(part).store

    def text(self, part: PartName, i: int) -> str:
        """Document `i` of a part as the model sees it."""
        return self.processor.decode(self._part(part).store.doc(i))

    def describe_item(self, part: PartName, i: int) -> dict[str, str]:
        """See `Data.describe_item`: the text as the model sees it."""
        return {"text": self.text(part, i)}

    def notes(self) -> list[str]:
        """See `Data.notes`: empty documents, and tokens that the vocabulary lacks."""
        notes = []
        for name, row in self.report().iterrows():
            if row["empty"]:
                notes.append(f"{int(row['empty']):,} documents of the {name} part are empty")
            if row["unknown"] > MANY_UNKNOWN:
                notes.append(f"the vocabulary lacks {row['unknown']:.1%} of the {name} part's tokens")
        return notes

    def adopt(self, old: Data) -> Data:
        """See `Data.adopt`; the vocabulary must be the same, too."""
        super().adopt(old)
        if not isinstance(old, _Texts):
            raise DataError(f"this is text, but the model was built for {type(old).__name__}; build a new learner")
        if self.vocab != old.vocab:
            raise DataError(
                "this data has another vocabulary than the model; make it with vocab=learn.vocab, so that each token "
                "has the number that the model knows"
            )
        if self.backward != old.backward:
            raise DataError(f"the model was built for data with backward={old.backward}; make this data so, too")
        return self

    def _recipe(self, kind: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "processor": self.processor.state_dict(),
            "batch_size": self.batch_size,
            "backward": self.backward,
            "columns": list(self.columns) if isinstance(self.columns, tuple) else self.columns,
        }

    def _fill(self, recipe: Mapping[str, Any], task: Task) -> None:
        """Become data without documents, as a recipe says."""
        try:
            Data.__init__(self, task, int(recipe["batch_size"]))
            self.processor = TextProcessor.from_state(recipe["processor"])
            self.backward = bool(recipe["backward"])
            columns = recipe["columns"]
            self.columns = columns if columns is None or isinstance(columns, str) else tuple(map(str, columns))
        except (KeyError, TypeError, ValueError, AttributeError, StateError) as error:
            raise WeightsError(f"the recipe of the texts is damaged: {error}") from error
        self._parts = {}

    def save_encoder(self, path: Path, model: nn.Module) -> Path:
        """See `Data.save_encoder`."""
        return transfer.save_encoder(path, model, self.vocab, self.backward)

    def load_encoder(self, path: Path, model: nn.Module) -> None:
        """See `Data.load_encoder`; words are matched by name."""
        transfer.load_encoder(transfer.read_encoder(path), model, self.vocab, self.backward)

    def report(self) -> pd.DataFrame:
        """One row per part: documents, tokens, their lengths, and the share of tokens that the vocabulary lacks."""
        import pandas as pd

        rows = {}
        for name, part in self._parts.items():
            lengths = part.store.lengths
            ids, step = part.store.ids, 2**22  # a memory-mapped array passes in pieces
            unknown = sum(int((ids[a : a + step] == self.vocab.unk).sum()) for a in range(0, len(ids), step))
            rows[name] = {
                "documents": len(part),
                "tokens": part.store.n_tokens,
                "median length": int(np.median(lengths)),
                "longest": int(lengths.max()),
                "empty": int((lengths <= 1).sum()),
                "unknown": unknown / max(part.store.n_tokens, 1),
            }
        table: pd.DataFrame = pd.DataFrame(rows).T
        return table

    def _sizes(self) -> str:
        return ", ".join(f"{n} {len(p):,} documents of {p.store.n_tokens:,} tokens" for n, p in self._parts.items())


class TextLMData(_Texts):
    """Texts for a language model: all documents of a part are one stream, read in windows.

    Make it with `from_df`, `from_csv`, `from_folder` or `from_lists`.

    Args:
        parts: documents of train, valid and maybe test.
        processor: from text to tokens and back.
        batch_size: rows that are read side by side.
        bptt: tokens in a window.
        backward: read each text from its end.
    """

    def __init__(
        self,
        parts: Mapping[PartName, Part],
        processor: TextProcessor,
        *,
        batch_size: int = 64,
        bptt: int = 70,
        backward: bool = False,
    ) -> None:
        super().__init__(next_token(processor.vocab.tokens), parts, processor, batch_size, backward)
        self.bptt = bptt
        for name, part in parts.items():
            try:
                self._stream(name, shuffle=name == "train")
            except DataError as error:  # at once, and not after an epoch
                raise DataError(f"{name} part of {len(part)} documents: {error}") from error

    @classmethod
    @strict(_OLD_NAMES)
    def from_df(
        cls,
        df: pd.DataFrame,
        text: Columns = "text",
        *,
        valid: Split | pd.DataFrame | None = 0.1,
        test: pd.DataFrame | None = None,
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        missing: Missing = "error",
        batch_size: int = 64,
        bptt: int = 70,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextLMData:
        """A DataFrame with one document per row.

        Args:
            df: has the texts; it is left as it is.
            text: the column of texts, or several, which are joined with a mark before each.
            valid: a fraction of the rows; positions or a mask; a DataFrame of its own; None for no validation.
            test: more rows.
            vocab: take this vocabulary: a `Vocab`, torchtext's, or the data or learner that has it; None makes one from
                the training part.
            tokenizer: "word", "bpe", "unigram" (trained on the training part), a `Tokenizer`, or any function from a
                text to a list of tokens. None is the vocabulary's own, or "word".
            max_vocab: the most tokens that a new vocabulary keeps.
            min_freq: tokens that come less often are *unknown*.
            missing: what an empty cell is: an "error", or an "empty" document.
            batch_size: rows of the stream that are read side by side.
            bptt: tokens in a window, on average.
            backward: read each text from its end.
            seed: of the split by fraction.
            progress: draw a bar while tokenising, where it takes long.

        Returns:
            The data.

        Raises:
            DataError: a text is missing or is no text; column and row are named.
        """
        documents = _frames(df, text, valid, test, missing, seed)[0]
        options = _Options(vocab, tokenizer, max_vocab, min_freq, progress)
        return cls._make(documents, options, batch_size, bptt, backward)

    @classmethod
    @strict(_OLD_NAMES)
    def from_csv(
        cls,
        path: StrPath,
        text: Columns = "text",
        *,
        valid: Split | StrPath | None = 0.1,
        test: StrPath | None = None,
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        missing: Missing = "error",
        batch_size: int = 64,
        bptt: int = 70,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextLMData:
        """A csv file with a header, packed or not; see `from_df`. `valid` and `test` may be files, too."""
        return cls.from_df(
            read_csv(path), text, valid=_table_or_split(valid), test=None if test is None else read_csv(test),
            vocab=vocab, tokenizer=tokenizer, max_vocab=max_vocab, min_freq=min_freq, missing=missing,
            batch_size=batch_size, bptt=bptt, backward=backward, seed=seed, progress=progress,
        )  # fmt: skip

    @classmethod
    @strict(_OLD_NAMES)
    def from_folder(
        cls,
        path: StrPath,
        *,
        train: str | None = None,
        valid: str | Split | None = 0.1,
        test: str | None = None,
        share: float = 1.0,
        pattern: str = "*.txt",
        errors: Errors = "strict",
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        batch_size: int = 64,
        bptt: int = 70,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextLMData:
        """A folder of text files, each a document, found in sub-folders, too. Texts are streamed, not held in memory.

        Args:
            path: the folder.
            train: its sub-folder of training texts; None takes `train` where it is there, else the whole folder.
            valid: a sub-folder; or a fraction, positions or a mask of the training files; None for no validation. With
                a sub-folder `valid` there, that is used instead of the fraction of 0.1.
            test: a sub-folder, or None.
            share: of the training files, how many to read, chosen by `seed`; for a trial, or where time is short.
            pattern: which files are texts.
            errors: what to do about bytes that are no UTF-8: "strict" names file and place, "replace" goes on.
            vocab, tokenizer, max_vocab, min_freq, batch_size, bptt, backward, seed, progress: see `from_df`.
        """
        documents = _folders(path, train, valid, test, pattern, errors, seed)
        if not 0 < share <= 1:
            raise ArgumentError(f"share must be above 0 and at most 1, got {share}")
        if share < 1:
            n = len(documents["train"])
            some = keyed.permutation(n, seed, "share")[: max(round(n * share), 1)]
            documents["train"] = documents["train"].take(sorted(some.tolist()))
        options = _Options(vocab, tokenizer, max_vocab, min_freq, progress)
        return cls._make(documents, options, batch_size, bptt, backward)

    @classmethod
    @strict(_OLD_NAMES)
    def from_lists(
        cls,
        texts: Iterable[str],
        *,
        valid: Split | Sequence[str] | None = 0.1,
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        batch_size: int = 64,
        bptt: int = 70,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextLMData:
        """Texts in a list; `valid` may be a list of texts, too. See `from_df`."""
        documents = _lists(texts, valid, seed)[0]
        options = _Options(vocab, tokenizer, max_vocab, min_freq, progress)
        return cls._make(documents, options, batch_size, bptt, backward)

    @classmethod
    def _make(
        cls, documents: Mapping[PartName, Documents], options: _Options, batch_size: int, bptt: int, backward: bool
    ) -> TextLMData:
        processor, stores = options.read(documents)
        parts: dict[PartName, Part] = {n: Part(s, tuple(documents[n].ids)) for n, s in stores.items()}
        return cls(parts, processor, batch_size=batch_size, bptt=bptt, backward=backward)

    def train_loader(self) -> Loader:
        """See `Data.train_loader`: documents in a new order in each epoch, windows of varying length."""
        return self._stream("train", shuffle=True)

    def loader(self, part: PartName, view: int = 0) -> Loader:
        """See `Data.loader`: documents in file order, every token once."""
        return self._stream(part, shuffle=False)

    def _stream(self, part: PartName, shuffle: bool) -> StreamLoader:
        store = self._part(part).store
        return StreamLoader(
            store, self.batch_size, self.bptt, pad=self.vocab.pad, shuffle=shuffle, backward=self.backward
        )

    def recipe(self) -> dict[str, Any]:
        """See `Data.recipe`: tokenizer, vocabulary and direction."""
        return {**self._recipe(LM_RECIPE), "bptt": self.bptt}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> TextLMData:
        """See `Data.from_recipe`; the words that the task predicts are those of the vocabulary."""
        data = cls.__new__(cls)
        data._fill(recipe, task)
        data.bptt = int(recipe.get("bptt", 70))
        data.task = replace(task, names=data.vocab.tokens)
        return data

    def new_loader(self, items: Any) -> Loader:
        """A language model has nothing to say of a whole text; it goes on after one."""
        raise ArgumentError("a language model predicts what comes next: use learn.generate(prompt, n)")

    def is_single(self, items: Any) -> bool:
        """A text is one item."""
        return isinstance(items, str)

    def fingerprint(self, part: PartName) -> str:
        """See `Data.fingerprint`."""
        return digest([self._part(part).store.digest, str(self.bptt), str(self.backward)])

    def generate(self, model: nn.Module, prompt: str, n: int, sampling: Sampling) -> str:
        """See `Data.generate`; a model that reads from the end writes what came before the prompt."""
        if not isinstance(model, LanguageModel):
            raise StateError(f"generate needs a LanguageModel, this learner's model is a {type(model).__name__}")
        ids = self.processor.encode(prompt)
        never = [self.vocab.ids[t] for t in (UNK, PAD, BOS)]
        if self.backward:
            drawn = continue_tokens(model, [ids[0], *ids[:0:-1]], n, sampling, never)
            return self.processor.decode([*drawn[::-1], *ids[1:]])
        return self.processor.decode([*ids[1:], *continue_tokens(model, ids, n, sampling, never)])

    def __repr__(self) -> str:
        return f"TextLMData({self._sizes()}; {len(self.vocab):,} different tokens)"


class TextData(_Texts):
    """Documents with labels.

    Make it with `from_df`, `from_csv`, `from_folder`, `from_lists` or `from_pairs`.

    Args:
        parts: documents of train, valid and maybe test.
        processor: from text to tokens and back.
        labels: what their labels mean.
        batch_size: documents in a training batch.
        max_tokens: longer documents are cut to so many, the first quarter of them from the beginning and the rest from
            the end (arXiv 1905.05583); None keeps all.
        backward: read each text from its end.
    """

    def __init__(
        self,
        parts: Mapping[PartName, Part],
        processor: TextProcessor,
        labels: Labels,
        *,
        batch_size: int = 64,
        max_tokens: int | None = None,
        backward: bool = False,
    ) -> None:
        super().__init__(labels.task, parts, processor, batch_size, backward)
        self.labels = labels
        self.max_tokens = max_tokens

    @classmethod
    @strict(_OLD_NAMES)
    def from_df(
        cls,
        df: pd.DataFrame,
        text: Columns = "text",
        label: Columns = "label",
        *,
        valid: Split | pd.DataFrame | None = 0.2,
        stratify: bool = True,
        test: pd.DataFrame | None = None,
        task: TaskName = "auto",
        label_sep: str | None = None,
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        missing: Missing = "error",
        batch_size: int = 64,
        max_tokens: int | None = None,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextData:
        """A DataFrame with one document per row.

        Args:
            df: has texts and labels; it is left as it is.
            text: the column of texts, or several, which are joined with a mark before each.
            label: the column of labels; several columns of numbers, or of zeros and ones.
            valid: a fraction of the rows; positions or a mask; a DataFrame of its own; None for no validation.
            stratify: a split by fraction gives each class its share.
            test: rows to predict; their labels, if there are any, are not looked at.
            task: "single_label", "multi_label", "regression", or "auto" to look at the labels.
            label_sep: what stands between several labels in one cell.
            vocab: take this vocabulary: a `Vocab`, torchtext's, or the data or learner that has it; None makes one from
                the training part. For an encoder out of a language model take that model's.
            tokenizer, max_vocab, min_freq, missing: see `TextLMData.from_df`.
            batch_size: documents in a training batch.
            max_tokens: cut longer documents, keeping beginning and end; None keeps all.
            backward: read each text from its end.
            seed: of the split by fraction.
            progress: draw a bar while tokenising, where it takes long.

        Returns:
            The data.

        Raises:
            DataError: a text or a label is missing, or a label does not occur in training; the row is named.
        """
        if not _is_frame(df):
            raise ArgumentError(f"df must be a pandas DataFrame, got {type(df).__name__}")
        columns = [label] if isinstance(label, str) else list(label)
        for name, frame in (("df", df), ("valid", valid if _is_frame(valid) else None)):
            for column in columns if frame is not None else ():
                if column not in frame.columns:  # type: ignore[union-attr]
                    found = [str(c) for c in frame.columns]  # type: ignore[union-attr]
                    raise DataError(f"{name} has no column {column!r}. {did_you_mean(column, found)}")
        values = _cells(df, columns)
        classes = values if stratify and len(columns) == 1 and have_classes(values, task, label_sep) else None
        documents, rows = _frames(df, text, valid, test, missing, seed, classes)
        options = _Options(vocab, tokenizer, max_vocab, min_freq, progress)
        own = valid if _is_frame(valid) else None
        cells: dict[PartName, list[Any]] = {n: [values[i] for i in r] for n, r in rows.items()}
        if own is not None:
            cells["valid"] = _cells(own, columns)  # type: ignore[arg-type]
        where = f"column {columns[0]!r}" if len(columns) == 1 else f"columns {columns}"
        names = columns if len(columns) > 1 else ()
        found_labels = find_labels(cells["train"], documents["train"].ids, where, task, label_sep, names)
        data = cls._make(documents, cells, found_labels, options, batch_size, max_tokens, backward)
        data.columns = text if isinstance(text, str) else tuple(text)
        return data

    @classmethod
    @strict(_OLD_NAMES)
    def from_csv(
        cls,
        path: StrPath,
        text: Columns = "text",
        label: Columns = "label",
        *,
        valid: Split | StrPath | None = 0.2,
        stratify: bool = True,
        test: StrPath | None = None,
        task: TaskName = "auto",
        label_sep: str | None = None,
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        missing: Missing = "error",
        batch_size: int = 64,
        max_tokens: int | None = None,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextData:
        """A csv file with a header, packed or not; see `from_df`. `valid` and `test` may be files, too."""
        return cls.from_df(
            read_csv(path), text, label, valid=_table_or_split(valid), stratify=stratify,
            test=None if test is None else read_csv(test), task=task, label_sep=label_sep, vocab=vocab,
            tokenizer=tokenizer, max_vocab=max_vocab, min_freq=min_freq, missing=missing, batch_size=batch_size,
            max_tokens=max_tokens, backward=backward, seed=seed, progress=progress,
        )  # fmt: skip

    @classmethod
    @strict(_OLD_NAMES)
    def from_folder(
        cls,
        path: StrPath,
        *,
        train: str | None = None,
        valid: str | Split | None = 0.2,
        test: str | None = None,
        classes: Sequence[str] | None = None,
        stratify: bool = True,
        pattern: str = "*.txt",
        errors: Errors = "strict",
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        batch_size: int = 64,
        max_tokens: int | None = None,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextData:
        """A folder with one sub-folder of text files per class, under `train` and `valid` or by itself.

        Args:
            path: the folder.
            train: its sub-folder of training classes; None takes `train` where it is there, else the whole folder.
            valid: a sub-folder; or a fraction, positions or a mask of the training files; None for no validation. With
                a sub-folder `valid` there, that is used instead of the fraction of 0.2.
            test: a sub-folder of texts to predict, or None.
            classes: the sub-folders to take; None takes all.
            stratify: a split by fraction gives each class its share.
            pattern: which files are texts.
            errors: what to do about bytes that are no UTF-8: "strict" names file and place, "replace" goes on.
            vocab, tokenizer, max_vocab, min_freq, batch_size, max_tokens, backward, seed, progress: see `from_df`.
        """
        documents = _folders(path, train, valid, test, pattern, errors, seed, classes, stratify)
        for name, part in documents.items():
            alone = [i for i in part.ids if "/" not in i] if name != "test" else []
            if alone:
                raise DataError(
                    f"{path}: {alone[0]} lies in no class's folder ({len(alone)} such files in the {name} part); move "
                    "them, or name the folders with classes="
                )
        cells: dict[PartName, list[Any]] = {
            n: [i.split("/")[0] for i in d.ids] for n, d in documents.items() if n != "test"
        }
        options = _Options(vocab, tokenizer, max_vocab, min_freq, progress)
        labels = find_labels(cells["train"], documents["train"].ids, "the folders' names", "single_label")
        return cls._make(documents, cells, labels, options, batch_size, max_tokens, backward)

    @classmethod
    @strict(_OLD_NAMES)
    def from_lists(
        cls,
        texts: Sequence[str],
        labels: Sequence[Any],
        *,
        valid: Split | tuple[Sequence[str], Sequence[Any]] | None = 0.2,
        stratify: bool = True,
        task: TaskName = "auto",
        label_sep: str | None = None,
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        batch_size: int = 64,
        max_tokens: int | None = None,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextData:
        """Texts and labels in lists; `valid` may be a pair of such lists. See `from_df`.

        A label may be a list of labels. An array or a Series is as good as a list.
        """
        values = _values(labels)
        if len(texts) != len(values):
            raise DataError(f"there are {len(texts)} texts, but {len(values)} labels")
        own: tuple[list[str], list[Any]] | None = None
        given: Any = valid
        if isinstance(given, tuple) and len(given) == 2 and not np.isscalar(given[0]):
            own = (list(given[0]), _values(given[1]))
            if len(own[0]) != len(own[1]):
                raise DataError(f"valid has {len(own[0])} texts, but {len(own[1])} labels")
        classes = values if stratify and have_classes(values, task, label_sep) else None
        documents, rows = _lists(texts, valid if own is None else own[0], seed, classes)
        cells: dict[PartName, list[Any]] = {n: [values[i] for i in r] for n, r in rows.items()}
        if own is not None:
            cells["valid"] = own[1]
        options = _Options(vocab, tokenizer, max_vocab, min_freq, progress)
        found = find_labels(cells["train"], documents["train"].ids, "labels", task, label_sep)
        return cls._make(documents, cells, found, options, batch_size, max_tokens, backward)

    @classmethod
    @strict(_OLD_NAMES)
    def from_pairs(
        cls,
        pairs: Iterable[tuple[Any, Any]],
        *,
        valid: Split | Iterable[tuple[Any, Any]] | None = 0.2,
        stratify: bool = True,
        task: TaskName = "auto",
        vocab: Any = None,
        tokenizer: Tokenizing = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        batch_size: int = 64,
        max_tokens: int | None = None,
        backward: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> TextData:
        """(label, text) out of a list, an iterator or a torchtext dataset, which is read once.

        Args:
            pairs: (label, text), as torchtext's datasets give; or (text, label), if labels are no texts.
            valid: more of them; or a fraction, positions or a mask; None for no validation.
            stratify, task, vocab, tokenizer, max_vocab, min_freq, batch_size, max_tokens, backward, seed, progress:
                see `from_df`.

        Returns:
            The data.

        Raises:
            DataError: an item is no such pair, or a label does not occur in training.

        >>> data = TextData.from_pairs(iter([("pos", "a good film"), ("neg", "a bad film")] * 4), valid=[0, 1])
        >>> data.classes, len(data.ids("valid"))
        (('neg', 'pos'), 2)
        """
        texts, labels = read_pairs(pairs)
        own: Any = read_pairs(valid, "valid") if are_pairs(valid) else valid  # type: ignore[arg-type]
        return cls.from_lists(
            texts, labels, valid=own, stratify=stratify, task=task, vocab=vocab, tokenizer=tokenizer,
            max_vocab=max_vocab, min_freq=min_freq, batch_size=batch_size, max_tokens=max_tokens, backward=backward,
            seed=seed, progress=progress,
        )  # fmt: skip

    @classmethod
    def _make(
        cls,
        documents: Mapping[PartName, Documents],
        cells: Mapping[PartName, Sequence[Any]],
        labels: Labels,
        options: _Options,
        batch_size: int,
        max_tokens: int | None,
        backward: bool,
    ) -> TextData:
        targets = {n: labels.encode(values, documents[n].ids, n) for n, values in cells.items()}  # before the long part
        processor, stores = options.read(documents)
        parts: dict[PartName, Part] = {n: Part(s, tuple(documents[n].ids), targets.get(n)) for n, s in stores.items()}
        return cls(parts, processor, labels, batch_size=batch_size, max_tokens=max_tokens, backward=backward)

    def train_loader(self) -> Loader:
        """See `Data.train_loader`: documents of like length together, in a new order in each epoch."""
        return self._documents(self._part("train"), self.batch_size, shuffle=True)

    def loader(self, part: PartName, view: int = 0) -> Loader:
        """See `Data.loader`: the longest documents first; `Batch.index` says which they are."""
        return self._documents(self._part(part), self.batch_size * EVAL_FACTOR)

    def recipe(self) -> dict[str, Any]:
        """See `Data.recipe`: tokenizer, vocabulary, direction, and how much of a long text is read."""
        return {**self._recipe(RECIPE), "max_tokens": self.max_tokens}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> TextData:
        """See `Data.from_recipe`."""
        data = cls.__new__(cls)
        data._fill(recipe, task)
        most = recipe.get("max_tokens")
        if most is not None and (type(most) is not int or most < 1):
            raise WeightsError(f"the recipe of the texts is damaged: max_tokens is {str(most)[:50]!r}")
        data.max_tokens, data.labels = most, Labels(task, "the labels")
        return data

    def runtime_inputs(self, inputs: tuple[Tensor, ...]) -> RuntimeInputs:
        """See `Data.runtime_inputs`: numbers of tokens, as `processor.encode` makes them of a text, and lengths."""
        about = {"pad": self.vocab.pad, "n_tokens": len(self.vocab), "backward": self.backward}
        return RuntimeInputs(("tokens", "lengths"), ({0: "batch", 1: "time"}, {0: "batch"}), about=about)

    def new_loader(self, items: Any) -> Loader:
        """See `Data.new_loader`: a text, a list of texts, a Series, or a DataFrame with the columns of training."""
        if _is_frame(items):
            if self.columns is None:
                raise ArgumentError("predict takes texts, got a DataFrame; give its column, df['text']")
            items = list(Documents.from_frame(items, self.columns))
        if isinstance(items, Mapping):
            raise ArgumentError(f"predict takes texts, got a {type(items).__name__}; give the text in it")
        texts = [items] if isinstance(items, str) else list(items)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"predict takes texts; item {i} is {text!r}, a {type(text).__name__}")
        if not texts:
            raise DataError("there are no texts to predict")
        store = TokenStore.from_lists([self.processor.encode(t) for t in texts], np.int32)
        return self._documents(Part(store, ()), self.batch_size * EVAL_FACTOR)

    def is_single(self, items: Any) -> bool:
        """A text is one item."""
        return isinstance(items, str)

    def read_items(self, source: Path, n: int) -> Iterator[tuple[list[str], Any]]:
        """See `Data.read_items`: the .txt files below a folder, one text file, or the rows of a csv."""
        if source.is_dir():
            documents = Documents.from_folder(source)
        elif source.suffix.lower() == ".csv":
            documents = Documents.from_csv(source, self.columns or "text")
        else:
            documents = Documents.from_list([read_text(source)], ids=[source.name])
        texts, ids = iter(documents), iter(documents.ids)
        while some := list(islice(texts, n)):
            yield [str(i) for i in islice(ids, len(some))], some

    def _documents(self, part: Part, batch_size: int, shuffle: bool = False) -> DocumentLoader:
        return DocumentLoader(
            part.store,
            part.target,
            batch_size,
            pad=self.vocab.pad,
            shuffle=shuffle,
            backward=self.backward,
            max_tokens=self.max_tokens,
        )

    def fingerprint(self, part: PartName) -> str:
        """See `Data.fingerprint`."""
        chosen = self._part(part)
        target = [] if chosen.target is None else [chosen.target.contiguous().numpy().tobytes()]
        return digest([chosen.store.digest, str(self.max_tokens), str(self.backward), *target])

    def __repr__(self) -> str:
        kind = f"{len(self.classes)} classes" if self.classes else f"regression of {', '.join(self.task.names)}"
        return f"TextData({self._sizes()}; {kind}; {len(self.vocab):,} different tokens)"


# -- from tables, folders and lists to documents ------------------------------------------------------------


def _is_frame(value: Any) -> bool:
    return getattr(value, "columns", None) is not None and getattr(value, "iloc", None) is not None


def read_csv(path: StrPath) -> pd.DataFrame:
    """A csv file as text cells where they are text; the words "NA" and "null" stay words."""
    import pandas as pd

    file = Path(path)
    if not file.is_file():
        near = [f.name for f in file.parent.glob("*.csv*")] if file.parent.is_dir() else []
        raise DataError(f"there is no file {file}. {did_you_mean(file.name, near)}")
    try:
        frame: pd.DataFrame = pd.read_csv(file, keep_default_na=False, na_values=[""])
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no UTF-8: {error}; convert it, or read it with pandas and use from_df") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{file} cannot be read as csv: {error}") from error
    return frame


def _values(labels: Any) -> list[Any]:
    """Labels by position: a Series would be asked for them by its own names."""
    if getattr(labels, "ndim", 1) != 1:
        raise ArgumentError(
            f"labels must be a list with one entry per text, got an array of shape {tuple(labels.shape)}; several "
            "columns go into a DataFrame: TextData.from_df(df, label=[...])"
        )
    plain = getattr(labels, "tolist", None)
    return list(labels) if plain is None else list(plain())


def _table_or_split(valid: Any) -> Any:
    return read_csv(valid) if isinstance(valid, str | Path) else valid


def _cells(df: pd.DataFrame, columns: Sequence[str]) -> list[Any]:
    if len(columns) == 1:
        cells: list[Any] = df[columns[0]].tolist()
        return cells
    return [tuple(row) for row in df[list(columns)].itertuples(index=False)]


def _parted(
    whole: Documents, valid: Any, seed: int, classes: Sequence[Any] | None
) -> tuple[dict[PartName, Documents], dict[PartName, npt.NDArray[np.int64]]]:
    """Training and maybe validation documents out of all, and which of all they are."""
    rows: dict[PartName, npt.NDArray[np.int64]] = {"train": np.arange(len(whole))}
    if valid is not None:
        values = getattr(valid, "to_numpy", lambda: valid)()
        stratify = classes if isinstance(values, float) else None
        rows["train"], rows["valid"] = split_indices(len(whole), values, seed=seed, stratify=stratify)
    return {name: whole.take(chosen.tolist()) for name, chosen in rows.items()}, rows


def _frames(
    df: pd.DataFrame,
    text: Columns,
    valid: Any,
    test: pd.DataFrame | None,
    missing: Missing,
    seed: int,
    classes: Sequence[Any] | None = None,
) -> tuple[dict[PartName, Documents], dict[PartName, npt.NDArray[np.int64]]]:
    """Documents of each part, and which rows of `df` the parts have that were split off it."""
    for name, frame in (("df", df), ("test", test)):
        if frame is not None and not _is_frame(frame):
            raise ArgumentError(f"{name} must be a pandas DataFrame, got {type(frame).__name__}")
    whole = Documents.from_frame(df, text, missing=missing)
    own = valid if _is_frame(valid) else None
    documents, rows = _parted(whole, None if own is not None else valid, seed, classes)
    if own is not None:
        documents["valid"] = Documents.from_frame(own, text, missing=missing)
    if test is not None:
        documents["test"] = Documents.from_frame(test, text, missing=missing)
    return documents, rows


def _lists(
    texts: Iterable[str], valid: Any, seed: int, classes: Sequence[Any] | None = None
) -> tuple[dict[PartName, Documents], dict[PartName, npt.NDArray[np.int64]]]:
    if isinstance(texts, str):
        raise ArgumentError("texts must be a list of texts, got one text")
    own = None
    if isinstance(valid, list | tuple) and valid and isinstance(valid[0], str):
        own, valid = valid, None
    documents, rows = _parted(Documents.from_list(list(texts)), valid, seed, classes)
    if own is not None:
        documents["valid"] = Documents.from_list(list(own), where="valid")
    return documents, rows


def _folders(
    path: StrPath,
    train: str | None,
    valid: Any,
    test: str | None,
    pattern: str,
    errors: Errors,
    seed: int,
    classes: Sequence[str] | None = None,
    stratify: bool = False,
) -> dict[PartName, Documents]:
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    if train is None and (root / "train").is_dir():
        train = "train"
    if isinstance(valid, float) and train is not None and (root / "valid").is_dir():
        valid = "valid"

    others = tuple(f"{name}/" for name in (valid, test) if isinstance(name, str))

    def read(name: str | None, chosen: bool = True) -> Documents:
        found = Documents.from_folder(root if name is None else root / name, pattern, errors=errors)
        if name is None and others:  # what validates or tests must not train, too
            own = [i for i, doc in enumerate(found.ids) if not doc.startswith(others)]
            if not own:
                raise DataError(f"{root} has no file {pattern} outside of {', '.join(others)}")
            found = found.take(own)
        if classes is None or not chosen:
            return found
        missing = [c for c in classes if not any(i.startswith(f"{c}/") for i in found.ids)]
        if missing:
            there = sorted({i.split("/")[0] for i in found.ids})
            raise DataError(f"{root / (name or '')} has no folder {missing[0]!r}. {did_you_mean(missing[0], there)}")
        return found.take([i for i, doc in enumerate(found.ids) if doc.split("/")[0] in classes])

    whole = read(train)
    documents: dict[PartName, Documents] = {}
    if isinstance(valid, str):
        documents = {"train": whole, "valid": read(valid)}
    else:
        labels = [i.split("/")[0] for i in whole.ids] if stratify else None
        documents, _ = _parted(whole, valid, seed, labels)
    if test is not None:
        documents["test"] = read(test, chosen=False)
    return documents
