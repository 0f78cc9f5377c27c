"""TextPreprocessor and StreamPreprocessor: from texts to a model's tokens, the same for data, learners and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from torch import Tensor, nn

from ..artefact.predictor import Predictor
from ..data.frames import Table, iter_table
from ..data.order import Order, Source
from ..data.preprocess import Items, Preprocessor, Refused, RuntimeInputs, in_halves
from ..errors import ArgumentError, DataError, StateError, WeightsError
from ..learning import Learner
from ..nn.awd_lstm import AWDLSTM
from ..nn.bert import TextEncoder
from ..task import Task
from .loader import DocumentSource
from .processing import TextProcessor
from .sources import Documents, Missing, Where, as_names, is_frame, is_series, join_columns, read_text, text_of
from .store import TokenStore
from .tokenize import FunctionTokenizer
from .vocab import Vocab

if TYPE_CHECKING:
    from typing_extensions import Self

Columns = str | tuple[str, ...] | None
_TABLES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
EVAL_FACTOR = 2  # batches without gradients may be this much larger


@dataclass(frozen=True)
class AnyText(Preprocessor):
    """What both kinds have: the way from text to tokens and back.

    Args:
        processor: tokenizer and vocabulary.
        backward: texts are read from their end.
        columns: of texts, where they came from a table.
        missing: what a missing text is: an "error", or an "empty" document.
    """

    processor: TextProcessor
    backward: bool = False
    columns: Columns = None
    missing: Missing = "error"

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""
        return self.processor.vocab

    def check_model(self, model: nn.Module) -> None:
        """Each token needs its vector; the kernels do not look whether there is one."""
        for module in model.modules():
            if isinstance(module, AWDLSTM | TextEncoder) and module.n_tokens != len(self.vocab):
                raise WeightsError(
                    f"the vocabulary has {len(self.vocab):,} tokens, the model vectors for {module.n_tokens:,}: they "
                    "belong to different models, or the file is damaged"
                )

    def recipe(self) -> dict[str, Any]:
        """All fields, as plain values."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        columns = list(self.columns) if isinstance(self.columns, tuple) else self.columns
        return {"kind": self.kind, **own, "processor": self.processor.state_dict(), "columns": columns}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> Self:
        try:
            given: dict[str, Any] = {f.name: recipe.get(f.name, f.default) for f in fields(cls)}
            columns = recipe["columns"]
            given |= {
                "processor": TextProcessor.from_state(recipe["processor"]),
                "backward": bool(recipe["backward"]),
                "columns": columns if columns is None or isinstance(columns, str) else tuple(map(str, columns)),
                "missing": "empty" if given["missing"] == "empty" else "error",
            }
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError, StateError, ArgumentError) as error:
            raise WeightsError(f"the recipe of the texts is damaged: {error}") from error


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {str(value)[:50]!r}")


@dataclass(frozen=True)
class TextPreprocessor(AnyText):
    """How a document becomes a classifier's input. It may be used by several threads.

    Args:
        processor, backward, columns, missing: see `AnyText`.
        max_tokens: longer documents are cut to so many, a quarter of the beginning and the rest of the end (arXiv
            1905.05583); None keeps all.
    """

    kind: ClassVar[str] = "text"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            _check_whole("max_tokens", self.max_tokens, 2)

    def read(self, given: Any, first: int = 0) -> Items:
        """One text, or a row with the columns of texts (a dictionary or a Series); or a list, an array or a Series of
        texts, a list of rows, or a DataFrame. A text is never taken for the name of a file. See `Preprocessor.read`.
        """
        if isinstance(given, str) or self._is_row(given):
            return Items([self._text(given, str(first))], (str(first),), single=True)
        listed = given if isinstance(given, list | tuple) or is_frame(given) else _array(given)
        if listed is None:
            raise DataError(f"expected a text, a list of texts or rows of a table, got {given!r:.60}, a {_type(given)}")
        if not len(listed):
            raise DataError("there are no texts to predict")
        if is_frame(given):
            if self.columns is None:
                raise DataError("expected texts, got a DataFrame; give the column of texts, as df['text']")
            return self._of_rows(given, self.columns)
        labels = given.index if is_series(given) else range(first, first + len(listed))
        ids = tuple(str(i) for i in labels)
        return Items([self._text(item, i) for item, i in zip(listed, ids, strict=True)], ids)

    def _of_rows(self, frame: Any, columns: str | Sequence[str], where: Where | None = None) -> Items:
        documents = Documents.from_frame(frame, columns, missing=self.missing, where=where)
        return Items(list(documents), tuple(documents.ids))

    def _is_row(self, given: Any) -> bool:
        return isinstance(given, Mapping) or (
            is_series(given) and self.columns is not None and all(c in given.index for c in as_names(self.columns))
        )

    def _text(self, item: Any, name: str) -> str:
        """The text of one item."""
        if not self._is_row(item):
            return text_of(item, self.missing, lambda: f"item {name}")
        if self.columns is None:
            raise DataError(f"item {name}: expected a text, got a {_type(item)}; give the text that is in it")
        columns = as_names(self.columns)
        absent = [c for c in columns if c not in item]
        if absent:
            raise DataError(f"item {name} has no {absent[0]!r}; it has {[str(k) for k in item][:10]}")
        place = "item {}, column {!r}".format
        texts = [text_of(item[c], self.missing, partial(place, name, c)) for c in columns]
        return texts[0] if isinstance(self.columns, str) else join_columns(texts)

    def read_file(self, path: Path, n: int, skip: bool = False) -> Iterator[Items | Refused]:
        """The .txt files below a folder, one text file, or the rows of a csv or parquet file."""
        if is_table(path):
            names = self.columns or "text"
            for table in iter_table(path, n, columns=as_names(names), text=as_names(names)):
                read = partial(self._of_table, table, names)
                yield from in_halves(read, list(map(str, table.frame.index))) if skip else [read(0, len(table.frame))]
            return
        documents = Documents.from_folder(path) if path.is_dir() else None
        ids = [path.name] if documents is None else documents.ids
        for first in range(0, len(ids), n):
            some = ids[first : first + n]
            read = partial(_of_files, path if documents is None else documents.take(range(first, first + len(some))))
            yield from in_halves(read, some) if skip else [read(0, len(some))]

    def _of_table(self, table: Table, names: str | Sequence[str], a: int, b: int) -> Items:
        return self._of_rows(table.frame.iloc[a:b], names, lambda column, i: _place(table, column, a + i))

    def source(self, values: Sequence[str]) -> DocumentSource:
        return self.source_of(self.processor.encode_all(values))

    def source_of(self, store: TokenStore) -> DocumentSource:
        """The source of documents whose tokens are there."""
        return DocumentSource(store, pad=self.vocab.pad, backward=self.backward, max_tokens=self.max_tokens)

    def order(self, values: Any, source: Source, batch_size: int) -> Order:
        """Documents of like length together."""
        lengths = source.store.lengths if isinstance(source, DocumentSource) else None
        return Order(len(source), batch_size * EVAL_FACTOR, lengths=lengths)

    def runtime_inputs(self, inputs: Sequence[Tensor]) -> RuntimeInputs:
        """Numbers of tokens, as `processor.encode` gives them, and lengths."""
        about: dict[str, Any] = {"pad": self.vocab.pad, "n_tokens": len(self.vocab), "backward": self.backward}
        if isinstance(self.processor.tokenizer, FunctionTokenizer):  # which no recipe holds
            about |= {"max_tokens": self.max_tokens, "vocab": self.vocab.state_dict()}
        return RuntimeInputs(("tokens", "lengths"), ({0: "batch", 1: "time"}, {0: "batch"}), about=about)


@dataclass(frozen=True)
class StreamPreprocessor(AnyText):
    """How texts become the stream that a language model reads, in windows of `bptt` tokens."""

    kind: ClassVar[str] = "language_model"
    bptt: int = 70

    def __post_init__(self) -> None:
        _check_whole("bptt", self.bptt, 1)

    def read(self, given: Any, first: int = 0) -> NoReturn:
        """Refused: a language model says nothing of a whole text."""
        raise ArgumentError(
            "a language model predicts what comes next, and nothing of a whole text: use generate(learn, prompt, n)"
        )

    def source(self, values: Any) -> NoReturn:
        """See `read`."""
        self.read(values)

    def complete(self, task: Task) -> Task:
        """The task with its words, which a file has once, in the vocabulary."""
        return replace(task, names=self.vocab.tokens)


def predictor_of(learn: Learner | Predictor, verb: str) -> Predictor:
    """What predicts: of a learner, or as it is. Messages say `verb`."""
    if isinstance(learn, Learner):
        return Predictor(learn.model, learn.task, learn.data.preprocessor, learn.strategy, learn.data.batch_size)
    if not isinstance(learn, Predictor):
        raise ArgumentError(f"{verb} takes a learner or a predictor, got a {_type(learn)}")
    return learn


def is_table(path: Path) -> bool:
    """Whether a file or folder holds a table, by its name."""
    return not _TABLES.isdisjoint(map(str.lower, path.suffixes)) or (path.is_dir() and any(path.glob("*.parquet")))


def _array(given: Any) -> list[Any] | None:
    """What is in an array with one axis, of NumPy, pandas or torch; None where it is none."""
    plain = getattr(given, "tolist", None)
    if not callable(plain):
        return None
    if len(given.shape) != 1:
        raise DataError(f"expected a list of texts, got an array of shape {tuple(given.shape)}")
    listed: list[Any] = plain()
    return listed


def _place(table: Table, column: str, i: int) -> str:
    return f"column {column!r}, {table.where(i)}"


def _of_files(files: Documents | Path, a: int, b: int) -> Items:
    """Some of the files of a folder, or one file."""
    if isinstance(files, Path):
        return Items([read_text(files)], (files.name,))
    some = files.take(range(a, b))
    return Items(list(some), tuple(some.ids))


def _type(value: Any) -> str:
    return type(value).__name__
