"""TextPreprocessor and StreamPreprocessor: from texts to a model's tokens, the same for data, learners and files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
from torch import Tensor, nn

from ..artefact.predictor import Predictor
from ..data.frames import Table, iter_table
from ..data.order import Order, Source
from ..data.preprocess import Items, Preprocessor, RuntimeInputs
from ..errors import ArgumentError, DataError, StateError, WeightsError
from ..learning import Learner
from ..nn.awd_lstm import AWDLSTM
from ..task import Task
from .loader import DocumentSource
from .processing import TextProcessor
from .sources import Documents, Missing, as_names, is_frame, is_missing, is_one, is_series, join_columns, read_text
from .store import TokenStore
from .tokenize import Tokenizer
from .vocab import Vocab

if TYPE_CHECKING:
    from typing_extensions import Self

Columns = str | tuple[str, ...] | None
_TABLES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
EVAL_FACTOR = 2  # batches without gradients may be this much larger
_CONTINUES = "a language model predicts what comes next, and nothing of a whole text: use generate(learn, prompt, n)"


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

    @property
    def tokenizer(self) -> Tokenizer:
        """What splits text into tokens."""
        return self.processor.tokenizer

    def check_model(self, model: nn.Module) -> None:
        """Each token needs its vector; the kernels do not look whether there is one."""
        for module in model.modules():
            if isinstance(module, AWDLSTM) and module.n_tokens != len(self.vocab):
                raise WeightsError(
                    f"the vocabulary has {len(self.vocab):,} tokens, the model vectors for {module.n_tokens:,}: they "
                    "belong to different models, or the file is damaged"
                )

    def recipe(self) -> dict[str, Any]:
        """Tokenizer, vocabulary, direction and columns."""
        return {
            "kind": self.kind,
            "processor": self.processor.state_dict(),
            "backward": self.backward,
            "columns": list(self.columns) if isinstance(self.columns, tuple) else self.columns,
            "missing": self.missing,
            **self._more(),
        }

    @abstractmethod
    def _more(self) -> dict[str, Any]:
        """What a recipe has besides."""

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> Self:
        try:
            columns = recipe["columns"]
            return cls(
                TextProcessor.from_state(recipe["processor"]),
                bool(recipe["backward"]),
                columns if columns is None or isinstance(columns, str) else tuple(map(str, columns)),
                "empty" if recipe.get("missing") == "empty" else "error",
                *cls._read_more(recipe),
            )
        except (KeyError, TypeError, ValueError, AttributeError, StateError, ArgumentError) as error:
            raise WeightsError(f"the recipe of the texts is damaged: {error}") from error

    @classmethod
    @abstractmethod
    def _read_more(cls, recipe: Mapping[str, Any]) -> tuple[Any, ...]:
        """What `_more` gave, as further arguments."""


@dataclass(frozen=True)
class TextPreprocessor(AnyText):
    """How a document becomes a classifier's input. It may be used by several threads.

    Args:
        processor, backward, columns, missing: see above.
        max_tokens: longer documents are cut to so many, the first quarter of them from the beginning and the rest
            from the end (arXiv 1905.05583); None keeps all.

    >>> processor, _ = TextProcessor.fit(Documents.from_list(["a good film"]), min_freq=1)
    >>> texts = TextPreprocessor(processor, columns="review")
    >>> texts.read({"review": "a film", "stars": 3}), texts.read(["a", "film"]).ids
    (Items(values=['a film'], ids=('0',), single=True), ('0', '1'))
    """

    kind: ClassVar[str] = "text"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        most = self.max_tokens
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 2):
            raise ArgumentError(f"max_tokens must be None or a whole number of at least 2, got {str(most)[:50]!r}")

    # -- items from elsewhere ------------------------------------------------------------------------

    def read(self, given: Any, first: int = 0) -> Items:
        """Read one text, or several. A text is never taken for the name of a file.

        Args:
            given: a text, or a row with the columns of texts (a dictionary or a Series), which is one item; a list,
                an array or a Series of texts, a list of rows, or a DataFrame with the columns.
            first: the number of the first text, which names those that have no label of a row.

        Raises:
            DataError: something is no text; it is named, with its type.
        """
        if isinstance(given, str) or self._is_row(given):
            return Items([self._text(given, str(first))], (str(first),), single=True)
        if is_frame(given):
            if self.columns is None:
                raise DataError("expected texts, got a DataFrame; give the column of texts, as df['text']")
            _need_some(len(given))
            return self._of_rows(given, self.columns)
        listed = given if isinstance(given, list | tuple) else _array(given)
        if listed is None:
            raise DataError(f"expected a text, a list of texts or rows of a table, got {_shown(given)}")
        _need_some(len(listed))
        labels = given.index if is_series(given) else range(first, first + len(listed))
        ids = tuple(str(i) for i in labels)
        return Items([self._text(item, i) for item, i in zip(listed, ids, strict=True)], ids)

    def _of_rows(self, frame: Any, columns: Columns, where: Callable[[str, int], str] | None = None) -> Items:
        documents = Documents.from_frame(frame, columns or "text", missing=self.missing, where=where)
        return Items(list(documents), tuple(documents.ids))

    def _is_row(self, given: Any) -> bool:
        return isinstance(given, Mapping) or (
            is_series(given) and self.columns is not None and all(c in given.index for c in as_names(self.columns))
        )

    def _text(self, item: Any, name: str) -> str:
        """The text of one item."""
        if not self._is_row(item):
            return self._cell(item, f"item {name}")
        if self.columns is None:
            raise DataError(f"item {name}: expected a text, got a {type(item).__name__}; give the text that is in it")
        columns = as_names(self.columns)
        absent = [c for c in columns if c not in item]
        if absent:
            raise DataError(f"item {name} has no {absent[0]!r}; it has {[str(k) for k in item][:10]}")
        texts = [self._cell(item[c], f"item {name}, column {c!r}") for c in columns]
        return texts[0] if isinstance(self.columns, str) else join_columns(texts)

    def _cell(self, value: Any, where: str) -> str:
        """A text, or an empty one in its place."""
        if isinstance(value, str):
            return str(value)
        hint = "; its file is read by Path.read_text()" if isinstance(value, Path) else ""
        if is_missing(value):
            if self.missing == "empty":
                return ""
            hint = "; a model trained with missing='empty' takes what is missing for an empty text"
        raise DataError(f"{where}: expected a text, got {_shown(value)}{hint}")

    def read_file(self, path: Path, n: int) -> Iterator[Items]:
        """The .txt files below a folder, one text file, or the rows of a csv or parquet file.

        Raises:
            DataError: there is no such file, or it lacks the column of texts.
        """
        if is_table(path):
            names = self.columns or "text"
            for table in iter_table(path, n, columns=as_names(names), text=as_names(names)):
                yield self._of_rows(table.frame, names, partial(_place, table))
            return
        if path.is_dir():
            documents = Documents.from_folder(path)
        else:
            documents = Documents.from_list([read_text(path)], ids=[path.name])
        texts, ids = iter(documents), iter(documents.ids)
        while some := list(islice(texts, n)):
            yield Items(some, tuple(islice(ids, len(some))))

    def source(self, values: Sequence[str]) -> DocumentSource:
        ids = [self.processor.encode(text) for text in values]
        return self.source_of(TokenStore.from_lists(ids, np.int32))

    def source_of(self, store: TokenStore) -> DocumentSource:
        """The source of documents whose tokens are there."""
        return DocumentSource(store, pad=self.vocab.pad, backward=self.backward, max_tokens=self.max_tokens)

    def order(self, values: Any, source: Source, batch_size: int) -> Order:
        """Documents of like length together."""
        lengths = source.store.lengths if isinstance(source, DocumentSource) else None
        return Order(len(source), batch_size * EVAL_FACTOR, lengths=lengths)

    # -- for models and their files ------------------------------------------------------------------

    def runtime_inputs(self, inputs: Sequence[Tensor]) -> RuntimeInputs:
        """Numbers of tokens, as `processor.encode` gives them, and lengths."""
        about = {"pad": self.vocab.pad, "n_tokens": len(self.vocab), "backward": self.backward}
        return RuntimeInputs(("tokens", "lengths"), ({0: "batch", 1: "time"}, {0: "batch"}), about=about)

    def _more(self) -> dict[str, Any]:
        return {"max_tokens": self.max_tokens}

    @classmethod
    def _read_more(cls, recipe: Mapping[str, Any]) -> tuple[Any, ...]:
        return (recipe.get("max_tokens"),)


@dataclass(frozen=True)
class StreamPreprocessor(AnyText):
    """How texts become the stream that a language model reads.

    Args:
        processor, backward, columns, missing: see above.
        bptt: tokens in a window.
    """

    kind: ClassVar[str] = "language_model"
    bptt: int = 70

    def read(self, given: Any, first: int = 0) -> NoReturn:
        """Refused: a language model says nothing of a whole text."""
        raise ArgumentError(_CONTINUES)

    def source(self, values: Any) -> NoReturn:
        """Refused: a language model says nothing of a whole text."""
        raise ArgumentError(_CONTINUES)

    def complete(self, task: Task) -> Task:
        """The task with its words, which a file has once, in the vocabulary."""
        return replace(task, names=self.vocab.tokens)

    def _more(self) -> dict[str, Any]:
        return {"bptt": self.bptt}

    @classmethod
    def _read_more(cls, recipe: Mapping[str, Any]) -> tuple[Any, ...]:
        return (int(recipe.get("bptt", 70)),)


def predictor_of(learn: Learner | Predictor, verb: str) -> Predictor:
    """What predicts: of a learner, or as it is.

    Args:
        learn: a learner or a predictor.
        verb: what is to be done with it, for the message.
    """
    if isinstance(learn, Learner):
        return Predictor(learn.model, learn.task, learn.data.preprocessor, learn.strategy, learn.data.batch_size)
    if not isinstance(learn, Predictor):
        raise ArgumentError(f"{verb} takes a learner or a predictor, got a {type(learn).__name__}")
    return learn


def is_table(path: Path) -> bool:
    """Whether a file or folder holds a table, by its name.

    >>> is_table(Path("a.csv.gz")), is_table(Path("a.txt"))
    (True, False)
    """
    return bool({suffix.lower() for suffix in path.suffixes} & _TABLES) or (
        path.is_dir() and any(path.glob("*.parquet"))
    )


def as_columns(text: Any) -> Columns:
    """The columns of texts, as they are kept: one by its name, several as a tuple, None where there is no table."""
    if text is None:
        return None
    names = as_names(text)
    return names[0] if is_one(text) else tuple(names)


def _place(table: Table, column: str, i: int) -> str:
    return f"column {column!r}, {table.where(i)}"


def _array(given: Any) -> list[Any] | None:
    """What is in an array with one axis, of NumPy, pandas or torch; None where it is none."""
    plain = getattr(given, "tolist", None)
    if plain is None or not callable(plain):
        return None
    shape = tuple(given.shape)
    if len(shape) != 1:
        raise DataError(f"expected a list of texts, got an array of shape {shape}")
    listed: list[Any] = plain()
    return listed


def _need_some(n: int) -> None:
    if not n:
        raise DataError("there are no texts to predict")


def _shown(value: Any) -> str:
    return f"{value!r:.60}, a {type(value).__name__}"
