"""Texts as data: TextLMData for a language model, TextData for documents with labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import keyed
from ..data.bunch import Data, PlainInputs, SplitName
from ..data.order import ItemLoader, Order
from ..data.split import Split, by_class
from ..errors import ArgumentError, DataError
from ..files import StrPath, digest
from ..options import strict
from ..task import ExclusiveTask, Task, next_token
from .gather import Folders, Gathered, Given, Rows, TextSplit, read_tables, rows_of
from .loader import StreamLoader
from .options import OLD_NAMES, Columns, LabelKeywords, LabelOptions, StreamKeywords, StreamOptions, TextOptions
from .preprocess import EVAL_FACTOR, AnyText, StreamPreprocessor, TextPreprocessor
from .processing import TextProcessor
from .sources import Documents, Errors, as_names, is_one
from .store import TokenStore, TokenWriter
from .tokenize import PretrainedTokenizer, Tokenizer
from .torchtext import are_pairs, read_pairs
from .vocab import Vocab

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack

MANY_UNKNOWN = 0.1  # a fraction of unknown tokens that is worth a remark

Splits = Mapping[SplitName, TextSplit]


class _Texts(Data[TextSplit]):
    """What both kinds of text data share."""

    preprocessor: AnyText

    @property
    def vocab(self) -> Vocab:
        """The vocabulary, made from the training split."""
        return self.preprocessor.vocab

    @property
    def tokenizer(self) -> Tokenizer:
        """What splits text into tokens."""
        return self.preprocessor.processor.tokenizer

    def ids(self, split: SplitName) -> Sequence[str]:
        return self._split(split).ids

    def store(self, split: SplitName) -> TokenStore:
        """The tokens of a split."""
        return self._split(split).store

    def text(self, split: SplitName, i: int) -> str:
        """Document `i` of a split as the model sees it."""
        return self.preprocessor.processor.decode(self.store(split).doc(i))

    def documents(self, split: SplitName) -> Documents:
        """The texts of a split as they were.

        Raises:
            DataError: they are too many to have been kept; the message says how to make the data instead.
        """
        found = self._split(split)
        if found.documents is None:
            raise DataError(
                f"the texts of the {split} split, {found.store.n_tokens:,} tokens, are not kept and cannot be split "
                "anew: make the data with tokenizer=TextBody(...).tokenizer, or from a folder of files"
            )
        return found.documents

    def plain_inputs(self, split: SplitName) -> PlainInputs:
        """See `Data.plain_inputs`: the tokens of each document."""
        store = self.store(split)
        return PlainInputs(words=(store.ids, store.offsets, len(self.vocab)))

    def describe_item(self, split: SplitName, i: int) -> dict[str, str]:
        documents = self._split(split).documents
        with suppress(DataError):  # a file that is not there any more
            if documents is not None:
                return documents.describe(i)
        return {"text": self.text(split, i)}  # as the model sees it

    def notes(self) -> list[str]:
        notes = []
        for name, row in self.report().iterrows():
            if row["empty"]:
                notes.append(f"{int(row['empty']):,} documents of the {name} split are empty")
            if row["unknown"] > MANY_UNKNOWN:
                notes.append(f"the vocabulary lacks {row['unknown']:.1%} of the {name} split's tokens")
        return notes

    def adopt(self, old: Data[Any]) -> _Texts:
        before = old.preprocessor
        if isinstance(before, AnyText) and type(before) is type(self.preprocessor):
            if self.vocab != before.vocab:
                raise DataError(
                    "this data has another vocabulary than the model; make it with vocab=learn, so that each token has "
                    "the number that the model knows"
                )
            if self.preprocessor.backward != before.backward:
                raise DataError(f"the model was built for data with backward={before.backward}; make this data so, too")
        return super().adopt(old)

    def report(self) -> pd.DataFrame:
        """One row per split: documents, tokens, their lengths, and the fraction that the vocabulary lacks."""
        import pandas as pd

        rows = {}
        for name in self.splits:
            store = self.store(name)
            unknown = sum(int((ids == self.vocab.unk).sum()) for ids, _ in store.pieces())
            lengths = store.lengths
            rows[name] = {
                "documents": len(store), "tokens": store.n_tokens, "median length": int(np.median(lengths)),
                "longest": int(lengths.max()), "empty": int((lengths <= 1).sum()),
                "unknown": unknown / max(store.n_tokens, 1),
            }  # fmt: skip
        table: pd.DataFrame = pd.DataFrame.from_dict(rows, orient="index")  # by rows: counts stay whole numbers
        return table

    def __repr__(self) -> str:
        stores = {name: self.store(name) for name in self.splits}
        sizes = ", ".join(f"{name} {len(s):,} documents of {s.n_tokens:,} tokens" for name, s in stores.items())
        kind = f"{len(self.classes)} classes; " if self.classes else ""
        if self.task.predicts_numbers:
            kind = f"regression of {', '.join(self.task.names)}; "
        return f"{type(self).__name__}({sizes}; {kind}{len(self.vocab):,} different tokens)"


class TextLMData(_Texts):
    """Texts for a language model: all documents of a split are one stream, read in windows.

    Args:
        splits: documents of train, valid and maybe test, as the `from_` methods make them.
        preprocessor: from text to tokens and back, and how long windows are.
        batch_size: rows that are read side by side.
    """

    preprocessor: StreamPreprocessor

    def __init__(self, splits: Splits, preprocessor: StreamPreprocessor, *, batch_size: int = 64) -> None:
        super().__init__(next_token(preprocessor.vocab.tokens), batch_size, preprocessor, splits)
        for name in self.splits:
            try:
                self.loader(name, training=name == "train")
            except DataError as error:  # at once, and not after an epoch
                raise DataError(f"{name} split of {len(self.ids(name))} documents: {error}") from error

    @classmethod
    @strict(OLD_NAMES, TextOptions, StreamOptions)
    def from_df(
        cls, df: pd.DataFrame, text: Columns = "text", *, valid: Split | pd.DataFrame | None = 0.1,
        test: pd.DataFrame | None = None, **options: Unpack[StreamKeywords],
    ) -> TextLMData:  # fmt: skip
        """A DataFrame with one document per row.

        Args:
            df: has the texts; it is left as it is.
            text: the column of texts, or several, which are joined with a mark before each.
            valid: a fraction of the rows; positions or a mask; a DataFrame of its own; None for no validation.
            test: more rows.

        Raises:
            DataError: a text is missing or is no text; column and row are named.
        """
        return cls._of_rows(rows_of(df, valid, test), text, StreamOptions(**options))

    @classmethod
    @strict(OLD_NAMES, TextOptions, StreamOptions)
    def from_csv(
        cls, path: StrPath, text: Columns = "text", *, valid: Split | StrPath | None = 0.1, test: StrPath | None = None,
        **options: Unpack[StreamKeywords],
    ) -> TextLMData:  # fmt: skip
        """The csv file (packed or not) or parquet file `path`; `valid` and `test` may be files. See `from_df`."""
        how = StreamOptions(**options)
        return cls._of_rows(read_tables(path, valid, test, text, None, how), text, how)

    @classmethod
    @strict(OLD_NAMES, TextOptions, StreamOptions)
    def from_folder(
        cls, path: StrPath, *, train: str | None = None, valid: str | Split | None = 0.1, test: str | None = None,
        fraction: float = 1.0, pattern: str = "*.txt", errors: Errors = "strict", **options: Unpack[StreamKeywords],
    ) -> TextLMData:  # fmt: skip
        """A folder of text files, each a document, found in sub-folders, too. Texts are streamed, not held in memory.

        Args:
            path: the folder.
            train: its sub-folder of training texts; None takes `train` where it is there, else the whole folder.
            valid: a sub-folder; or a fraction, positions or a mask of the training files; None for no validation. With
                a sub-folder `valid` there, that is used instead of a fraction.
            test: a sub-folder, or None.
            fraction: of the training files, how many to read, chosen by `seed`; for a trial, or where time is short.
            pattern: which files are texts.
            errors: what to do about bytes that are no UTF-8: "strict" names file and place, "replace" goes on.
        """
        how = StreamOptions(**options)
        if not 0 < fraction <= 1:
            raise ArgumentError(f"fraction must be above 0 and at most 1, got {fraction}")
        return cls._of_rows(Folders(path, train, valid, test, pattern, errors).rows(how), "text", how, fraction)

    @classmethod
    @strict(OLD_NAMES, TextOptions, StreamOptions)
    def from_lists(
        cls,
        texts: Iterable[str],
        *,
        valid: Split | Sequence[str] | None = 0.1,
        **options: Unpack[StreamKeywords],
    ) -> TextLMData:
        """The `texts` of a list; `valid` may be a list of texts, too. See `from_df`."""
        own = isinstance(valid, list | tuple) and len(valid) > 0 and isinstance(valid[0], str)
        split = Rows.of_lists("valid", valid) if own else valid  # type: ignore[arg-type]
        return cls._of_rows((Rows.of_lists("texts", texts), split, None), "text", StreamOptions(**options))

    @classmethod
    def _of_rows(cls, given: Given, text: Columns, how: StreamOptions, fraction: float = 1.0) -> TextLMData:
        train, valid, test = given
        train.require(text=text)
        found = train.gather(text, valid, test, how)
        if fraction < 1:
            n = len(found.documents["train"])
            some = np.sort(keyed.permutation(n, how.seed, "share")[: max(round(n * fraction), 1)])
            found.documents["train"] = found.documents["train"].take(some.tolist())
        return cls._make(found, how, text if train.is_table else None)

    @classmethod
    def _make(cls, found: Gathered, how: StreamOptions, text: Columns | None = None) -> TextLMData:
        processor, stores = how.fit(found.documents)
        preprocessor = StreamPreprocessor(processor, how.backward, _columns(text), how.missing, how.bptt)
        return cls(found.splits(stores), preprocessor, batch_size=how.batch_size)

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> StreamLoader:
        """In training documents come in a new order in each epoch, in windows of varying length; see `Data.loader`."""
        how = self.preprocessor
        return StreamLoader(
            self.store(split), self.batch_size, how.bptt, pad=how.vocab.pad, shuffle=training, backward=how.backward
        )

    def fingerprint(self, split: SplitName) -> str:
        return digest([self.store(split).digest, str(self.preprocessor.bptt), str(self.preprocessor.backward)])


class TextData(_Texts):
    """Documents with labels.

    Args:
        task: what the labels are.
        splits: documents of train, valid and maybe test, as the `from_` methods make them.
        preprocessor: from text to tokens and back.
        batch_size: documents in a training batch.
        weights: how often each training document is drawn, shape (n,); None for each once in an epoch.
    """

    preprocessor: TextPreprocessor

    def __init__(
        self, task: Task, splits: Splits, preprocessor: TextPreprocessor, *, batch_size: int = 64,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(task, batch_size, preprocessor, splits)
        self._weights = weights

    @classmethod
    @strict(OLD_NAMES, TextOptions, LabelOptions)
    def from_df(
        cls, df: pd.DataFrame, text: Columns = "text", label: Columns = "label", *,
        valid: Split | pd.DataFrame | None = 0.2, test: pd.DataFrame | None = None, **options: Unpack[LabelKeywords],
    ) -> TextData:  # fmt: skip
        """A DataFrame with one document per row.

        Args:
            df: has texts and labels; it is left as it is.
            text: the column of texts, or several, which are joined with a mark before each.
            label: the column of labels; several columns of numbers, or of zeros and ones.
            valid: a fraction of the rows; positions or a mask; a DataFrame of its own; None for no validation.
            test: rows to predict; with labels, where each row has one.

        Raises:
            DataError: a text or a label is missing, or a label does not occur in training; the row is named.
        """
        return cls._of_rows(rows_of(df, valid, test), text, label, LabelOptions(**options))

    @classmethod
    @strict(OLD_NAMES, TextOptions, LabelOptions)
    def from_csv(
        cls, path: StrPath, text: Columns = "text", label: Columns = "label", *, valid: Split | StrPath | None = 0.2,
        test: StrPath | None = None, **options: Unpack[LabelKeywords],
    ) -> TextData:  # fmt: skip
        """The csv file (packed or not) or parquet file `path`; `valid` and `test` may be files. See `from_df`."""
        how = LabelOptions(**options)
        return cls._of_rows(read_tables(path, valid, test, text, label, how), text, label, how)

    @classmethod
    @strict(OLD_NAMES, TextOptions, LabelOptions)
    def from_folder(
        cls, path: StrPath, *, train: str | None = None, valid: str | Split | None = 0.2, test: str | None = None,
        classes: Sequence[str] | None = None, pattern: str = "*.txt", errors: Errors = "strict",
        **options: Unpack[LabelKeywords],
    ) -> TextData:  # fmt: skip
        """A folder with one sub-folder of text files per class, under `train` and `valid` or by itself.

        Args:
            path, train, valid, pattern, errors: as in `TextLMData.from_folder`.
            test: a sub-folder of texts to predict, or None. Where each of them is in the folder of a class, that is its
                label.
            classes: the sub-folders to take; None takes all.
        """
        how = LabelOptions(**options)
        given = Folders(path, train, valid, test, pattern, errors, classes).rows(how)
        return cls._of_rows(given, "text", "label", how)

    @classmethod
    @strict(OLD_NAMES, TextOptions, LabelOptions)
    def from_lists(
        cls, texts: Sequence[str], labels: Sequence[Any], *,
        valid: Split | tuple[Sequence[str], Sequence[Any]] | None = 0.2, **options: Unpack[LabelKeywords],
    ) -> TextData:  # fmt: skip
        """Lists, arrays or Series of `texts` and `labels`; `valid` may be a pair of such, too. See `from_df`.

        A label may be a list of labels.
        """
        own = isinstance(valid, tuple) and len(valid) == 2 and not np.isscalar(valid[0])
        split = Rows.of_lists("valid", *valid) if own else valid  # type: ignore[misc]
        rows = Rows.of_lists("texts", texts, labels)
        return cls._of_rows((rows, split, None), "text", "label", LabelOptions(**options))

    @classmethod
    @strict(OLD_NAMES, TextOptions, LabelOptions)
    def from_pairs(
        cls,
        pairs: Iterable[tuple[Any, Any]],
        *,
        valid: Split | Iterable[tuple[Any, Any]] | None = 0.2,
        **options: Unpack[LabelKeywords],
    ) -> TextData:
        """(label, text) out of a list, an iterator or a torchtext dataset, which is read once.

        Args:
            pairs: (label, text), as torchtext's datasets give; or (text, label), if labels are no texts.
            valid: more of them; or a fraction, positions or a mask; None for no validation.

        Raises:
            DataError: an item is no such pair, or a label does not occur in training.

        >>> data = TextData.from_pairs(iter([("pos", "a good film"), ("neg", "a bad film")] * 4), valid=[0, 1])
        >>> data.classes, len(data.ids("valid"))
        (('neg', 'pos'), 2)
        """
        texts, labels = read_pairs(pairs)
        own: Any = read_pairs(valid, "valid") if are_pairs(valid) else valid  # type: ignore[arg-type]
        return cls.from_lists(texts, labels, valid=own, **options)

    @classmethod
    def _of_rows(cls, given: Given, text: Columns, label: Columns, how: LabelOptions) -> TextData:
        train, valid, test = given
        train.require(text=text, label=label)
        labels = train.targets(label, how)
        codes = by_class(labels.stratify_codes(), valid, how.stratify, groups=how.groups, time=how.time)
        found = train.gather(text, valid, test, how, codes)
        learned = labels.learn(found.rows["train"])
        targets = {name: train.encode(learned, rows, name) for name, rows in found.rows.items()}
        if isinstance(valid, Rows):
            targets["valid"] = valid.encode(learned, None, "valid")
        if test is not None and test.is_labelled(label, how, learned.task):
            targets["test"] = test.encode(learned, None, "test")
        weights = how.weights if how.weight_column is None else train.entries(how.weight_column, "weights")
        columns = text if train.files is None else None
        return cls._make(found, learned.task, targets, replace(how, weights=weights), columns)

    @classmethod
    def _make(
        cls, found: Gathered, task: Task, targets: Mapping[SplitName, Tensor], how: LabelOptions,
        text: Columns | None = None,
    ) -> TextData:  # fmt: skip
        weights = found.weights(how.weights, targets["train"], task.classes)
        processor, stores = how.fit(found.documents)
        preprocessor = TextPreprocessor(processor, how.backward, _columns(text), how.missing, how.max_tokens)
        return cls(task, found.splits(stores, targets), preprocessor, batch_size=how.batch_size, weights=weights)

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> ItemLoader:
        """Documents of like length together, the longest first in each batch."""
        chosen = self._split(split)
        batch_size = self.batch_size if training else self.batch_size * EVAL_FACTOR
        weights = self._weights if training and split == "train" else None
        order = Order(len(chosen), batch_size, shuffle=training, weights=weights, lengths=chosen.store.lengths)
        return ItemLoader(order, self.preprocessor.source_of(chosen.store), chosen.target)

    def tokenised(self, tokenizer: Tokenizer, max_tokens: int) -> TextData:
        """The same texts, read once more, as a pretrained encoder takes them.

        Args:
            tokenizer: the encoder's.
            max_tokens: what is longer is cut to so many, or to the fewer that this data is cut to.

        Raises:
            DataError: the texts are too many to have been kept; the message says how to make the data instead.
        """
        how = self.preprocessor
        most = max_tokens if how.max_tokens is None else min(how.max_tokens, max_tokens)
        splits = dict(self._splits)
        if not _is_same(self.tokenizer, tokenizer):
            processor = TextProcessor(tokenizer, Vocab(tokenizer.closed or ()))
            how = replace(how, processor=processor)
            for name, split in self._splits.items():
                splits[name] = replace(split, store=processor.store(self.documents(name), progress=False))
        how = replace(how, max_tokens=most)
        return TextData(self.task, splits, how, batch_size=self.batch_size, weights=self._weights)

    def training_only(self, batch_size: int, max_tokens: int) -> TextData:
        """The training split alone, in batches of another `batch_size`, of texts that are cut to `max_tokens`."""
        how = self.preprocessor
        how = replace(how, max_tokens=min(how.max_tokens or max_tokens, max_tokens))
        return TextData(self.task, {"train": self._split("train")}, how, batch_size=batch_size, weights=self._weights)

    def with_more(self, texts: Sequence[str], numbers: npt.NDArray[np.int64]) -> TextData:
        """The training split alone, and behind it more `texts` of classes with these `numbers`, one class each."""
        assert isinstance(self.task, ExclusiveTask)
        own, more = self._split("train"), self.preprocessor.processor.encode_all(texts)
        assert own.target is not None
        with TokenWriter(own.store.ids.dtype) as writer:
            for piece in (*own.store.pieces(), *more.pieces()):
                writer.add(*piece)
            store = writer.finish()
        target = torch.cat((self.task.class_numbers(own.target), torch.from_numpy(numbers)))
        weights = self._weights
        if weights is not None:
            weights = np.concatenate((weights, np.full(len(texts), weights.mean(), weights.dtype)))
        split = TextSplit(store, (*own.ids, *(f"more {i}" for i in range(len(texts)))), target)
        return TextData(self.task, {"train": split}, self.preprocessor, batch_size=self.batch_size, weights=weights)

    def item_keys(self, split: SplitName, positions: Sequence[int] | None = None) -> Sequence[str]:
        """What each document is: its tokens, and what becomes of them."""
        store, how = self.store(split), self.preprocessor
        made = f"{how.vocab.digest} {how.max_tokens} {how.backward} {store.ids.dtype}"
        return [digest([made, store.doc(i).tobytes()]) for i in (range(len(store)) if positions is None else positions)]

    def fingerprint(self, split: SplitName) -> str:
        chosen, how = self._split(split), self.preprocessor
        parts: list[str | bytes] = [chosen.store.digest, str(how.max_tokens), str(how.backward)]
        if chosen.target is not None:
            parts.append(chosen.target.contiguous().numpy().tobytes())
        if self._weights is not None and split == "train":
            parts.append(self._weights.tobytes())
        return digest(parts)


def _columns(text: Columns | None) -> str | tuple[str, ...] | None:
    """The columns of texts, as they are kept: one by its name, several as a tuple, None where there is no table."""
    names = [None] if text is None else as_names(text)
    return names[0] if text is None or is_one(text) else tuple(names)  # type: ignore[arg-type]


def _is_same(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether both are the tokenizer of one pretrained encoder."""
    known = isinstance(one, PretrainedTokenizer) and isinstance(other, PretrainedTokenizer)
    return known and one.state_dict() == other.state_dict()
