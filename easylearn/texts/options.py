"""What all ways of making text data take, written once, and the vocabulary out of what is passed for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy.typing as npt

from ..artefact.archive import Archive
from ..artefact.predictor import Predictor
from ..data.bunch import Data, SplitName
from ..data.targets import TaskName
from ..errors import ArgumentError, StateError, WeightsError
from ..learning import Learner
from ..options import check_split
from .preprocess import AnyText
from .processing import TextProcessor
from .sources import Documents, Missing
from .store import TokenStore
from .tokenize import Tokenizing, as_tokenizer, tokenizer_from_state
from .torchtext import as_vocab
from .transfer import SavedEncoder, find_file, read_encoder
from .vocab import Vocab

Columns = str | Sequence[str]
OnePerText = str | Callable[[str], Any] | Sequence[Any] | npt.NDArray[Any] | None

OLD_NAMES = {
    "bs": "batch_size", "valid_pct": "valid", "val_idxs": "valid", "valid_col": "Pass valid=df['column'], a mask.",
    "text_col": "text", "label_col": "label", "label_delim": "label_sep", "text_vocab": "vocab", "seq_len": "bptt",
    "is_lm": "Use TextLMData for a language model.", "tok_tfm": "tokenizer",
    "max_freq": "There is no highest frequency; max_vocab limits the vocabulary.", "min_count": "min_freq",
    "is_backward": "backward", "share": "fraction",
}  # fmt: skip


@dataclass(frozen=True)
class TextOptions:
    """How texts are prepared and split, however they are given.

    Args:
        vocab: take this vocabulary: a `Vocab`, torchtext's, the data, learner or predictor that has it, or the file or
            name of a saved encoder or model; None makes one from the training split.
        tokenizer: "word", "bpe", "unigram" (trained on the training split), a `Tokenizer`, or any function from a
            text to a list of tokens. None is the vocabulary's own, or "word".
        max_vocab: the most tokens that a new vocabulary keeps.
        min_freq: tokens that come less often are *unknown*.
        missing: what a missing text is: an "error", or an "empty" document, also when it is predicted.
        batch_size: documents in a training batch; of a language model, rows of the stream that are read side by side.
        backward: read each text from its end.
        groups: what belongs together and stays in one split, such as the author: one entry per text; of a table also
            the name of a column, of a folder a function of a file's name.
        time: the last texts by it validate: one entry per text; of a table also the name of a column.
        seed: of the split by fraction.
        progress: draw a bar while tokenising, where it takes long.
    """

    vocab: Any = None
    tokenizer: Tokenizing = None
    max_vocab: int = 60_000
    min_freq: int = 2
    missing: Missing = "error"
    batch_size: int = 64
    backward: bool = False
    groups: OnePerText = None
    time: OnePerText = None
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        check_split(self.seed)

    def fit(self, documents: Mapping[SplitName, Documents]) -> tuple[TextProcessor, dict[SplitName, TokenStore]]:
        """Tokens of every split, by a vocabulary given or made from the training split."""
        vocab, tokenizer = vocabulary_of(self.vocab, self.tokenizer)
        how = (self.max_vocab, self.min_freq, self.progress)
        processor, train = TextProcessor.fit(documents["train"], tokenizer, vocab, *how)
        stores: dict[SplitName, TokenStore] = {"train": train}
        stores |= {name: processor.store(d, self.progress) for name, d in documents.items() if name != "train"}
        return processor, stores


@dataclass(frozen=True)
class StreamOptions(TextOptions):
    """What the data of a language model takes besides.

    Args:
        bptt: tokens in a window, on average.
    """

    bptt: int = 70


@dataclass(frozen=True)
class LabelOptions(TextOptions):
    """What data of texts with labels takes besides.

    Args:
        task: "single_label", "multi_label" or "regression"; "auto" looks at the labels.
        label_sep: what stands between several labels in one cell.
        stratify: give each class its proportion of the validation texts; None does so where they are a fraction and
            nothing else is said.
        weights: how often training texts are drawn: "balanced", a dictionary by class, or one number per text; of a
            table also the name of a column.
        max_tokens: cut longer documents, keeping beginning and end; None keeps all.
    """

    task: TaskName = "auto"
    label_sep: str | None = None
    stratify: bool | None = None
    weights: Any = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        check_split(self.seed, self.stratify)

    @property
    def weight_column(self) -> str | None:
        """The column that says how often a row is drawn."""
        return self.weights if isinstance(self.weights, str) and self.weights != "balanced" else None


class TextKeywords(TypedDict, total=False):
    """The fields of `TextOptions` as keywords, for type checkers."""

    vocab: Any
    tokenizer: Tokenizing
    max_vocab: int
    min_freq: int
    missing: Missing
    batch_size: int
    backward: bool
    groups: OnePerText
    time: OnePerText
    seed: int
    progress: bool


class StreamKeywords(TextKeywords, total=False):
    """The fields of `StreamOptions`."""

    bptt: int


class LabelKeywords(TextKeywords, total=False):
    """The fields of `LabelOptions`."""

    task: TaskName
    label_sep: str | None
    stratify: bool | None
    weights: Any
    max_tokens: int | None


def vocabulary_of(given: Any, tokenizer: Tokenizing = None) -> tuple[Vocab | None, Any]:
    """The vocabulary and the tokenizer out of what users pass as `vocab=`, as `TextOptions` has them."""
    called, made_by = type(given).__name__, None
    if given is None:
        return None, as_tokenizer(tokenizer)
    if isinstance(given, str | Path | SavedEncoder):
        given = _saved(given, tokenizer)
    if isinstance(given, Learner):
        given = given.data
    if isinstance(given, Data | Predictor):
        given = given.preprocessor
    if isinstance(given, AnyText):
        given = given.processor
    if isinstance(given, TextProcessor):
        given, made_by = given.vocab, given.tokenizer
    vocab = as_vocab(given)
    if vocab is None:
        raise ArgumentError(
            "vocab must be a Vocab, the data, learner or predictor whose vocabulary to take, or the file or name of a "
            f"saved encoder or model, got {called}"
        )
    return vocab, as_tokenizer(next((t for t in (tokenizer, made_by) if t is not None), vocab.tokenizer))


def _saved(given: str | Path | SavedEncoder, tokenizer: Tokenizing) -> TextProcessor | Vocab:
    """The vocabulary of a saved encoder or model."""
    file = None if isinstance(given, SavedEncoder) else find_file(given, ".safetensors", ".easylearn")
    if file is not None and file.suffix not in (".safetensors", ".h5", ".pth"):
        with Archive(file) as archive:
            recipe = archive.spec.get("data")
        try:
            if not isinstance(recipe, Mapping) or "processor" not in recipe:
                raise StateError("it is no model of texts")
            return TextProcessor.from_state(recipe["processor"])
        except StateError as error:
            raise WeightsError(f"{file} holds no vocabulary: {error}") from error
    saved = given if isinstance(given, SavedEncoder) else read_encoder(given)
    if saved.tokenizer is not None:
        return Vocab(saved.tokens, tokenizer_from_state(saved.tokenizer))
    if tokenizer is None:
        raise ArgumentError(f"{saved.source} does not say what made its tokens, a function; pass tokenizer= again")
    return Vocab(saved.tokens)
