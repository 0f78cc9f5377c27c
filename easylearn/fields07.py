"""2018's torchtext, as far as notebooks type it: `data.Field`, `datasets.IMDB.splits`. torchtext has neither now."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from .core import T
from .errors import DataError, EasyLearnWarning, StateError
from .files import StrPath
from .texts.tokenize import WordTokenizer
from .texts.vocab import Vocab

__all__ = ["Field", "data", "datasets"]


class Numbers(dict[str, int]):
    """The numbers of words; every other word is `unknown`."""

    unknown = 0

    def __missing__(self, word: str) -> int:
        return self.unknown


class FieldVocab:
    """The words of a field: `itos` by number, `stoi` by word, `freqs` how often they came.

    Args:
        itos: the words.
        unknown: the number of every other word.
        freqs: how often each came; empty where nobody counted.
    """

    def __init__(self, itos: Sequence[str], unknown: int = 0, freqs: Counter[str] | None = None) -> None:
        self.itos = list(itos)
        self.stoi = Numbers({word: i for i, word in enumerate(self.itos)})
        self.stoi.unknown = unknown
        self.freqs = Counter() if freqs is None else freqs

    def __len__(self) -> int:
        return len(self.itos)


def _words(text: str) -> list[str]:
    return WordTokenizer().tokenize([text])[0]


class Field:
    """How text becomes tokens, and tokens numbers.

    The data that is made with it puts its vocabulary into `vocab`.

    Args:
        sequential: False takes each text as one token.
        use_vocab: not used.
        lower: small letters.
        tokenize: a function from a text to tokens; None splits at spaces. "spacy" takes easylearn's words.
        init_token, eos_token: what begins and ends each text, or None.
        pad_token, unk_token: what `build_vocab` calls padding and the unknown.
        batch_first: numbers of shape (bs, sl), not (sl, bs).

    >>> field = Field(lower=True)
    >>> field.build_vocab([["a", "film"], ["a"]])
    >>> field.preprocess("A film"), field.numericalize([["a", "zebra"]]).tolist()
    (['a', 'film'], [[2], [0]])
    """

    vocab: FieldVocab
    known: Vocab | None = None  # that of the data which was made with it

    def __init__(
        self,
        sequential: bool = True,
        use_vocab: bool = True,
        init_token: str | None = None,
        eos_token: str | None = None,
        lower: bool = False,
        tokenize: Callable[[str], Iterable[str]] | str | None = None,
        batch_first: bool = False,
        pad_token: str = "<pad>",
        unk_token: str = "<unk>",
    ) -> None:
        if isinstance(tokenize, str):
            warnings.warn(
                f"tokenize={tokenize!r}: easylearn's own words are taken; tokenize= takes any function from a text to "
                "tokens, such as one that asks spaCy",
                EasyLearnWarning,
                stacklevel=2,
            )
            tokenize = _words
        self.tokenize: Callable[[str], Iterable[str]] = str.split if tokenize is None else tokenize
        self.sequential, self.use_vocab, self.lower, self.batch_first = sequential, use_vocab, lower, batch_first
        self.init_token, self.eos_token, self.pad_token, self.unk_token = init_token, eos_token, pad_token, unk_token

    def preprocess(self, x: Any) -> Any:
        """The tokens of `x`, a text or its tokens; a field that is not `sequential` leaves it as it is."""
        if not self.sequential:
            return x.lower() if self.lower else x
        tokens = list(self.tokenize(x) if isinstance(x, str) else x)
        return [t.lower() for t in tokens] if self.lower else tokens

    def build_vocab(self, *texts: Iterable[Sequence[str]], max_size: int | None = None, min_freq: int = 1) -> None:
        """Make the vocabulary of lists of tokens, the most frequent first.

        Args:
            texts: iterables of lists of tokens.
            max_size: the most words.
            min_freq: words that come less often are unknown.
        """
        freqs = Counter(word for some in texts for text in some for word in text)
        kept = [word for word, n in sorted(freqs.items(), key=lambda f: (-f[1], f[0])) if n >= min_freq][:max_size]
        specials = [t for t in (self.unk_token, self.pad_token, self.init_token, self.eos_token) if t is not None]
        self.vocab = FieldVocab(list(dict.fromkeys([*specials, *kept])), 0, freqs)

    def numericalize(self, arr: Sequence[Sequence[str]], device: Any = None, train: bool = True) -> Tensor:
        """Numbers of several texts of equal length, shape (sl, bs).

        Args:
            arr: the tokens of each.
            device, train: not used.
        """
        if "vocab" not in vars(self):
            raise StateError("this field has no vocabulary yet: make data with it, or call build_vocab")
        made = T([[self.vocab.stoi[token] for token in text] for text in arr])
        return made if self.batch_first else made.t()


class Example(SimpleNamespace):
    """One item, with an attribute for each field."""

    @classmethod
    def fromlist(cls, values: Sequence[Any], fields: Sequence[tuple[str, Field]]) -> Example:
        """An item of `values`, one for each of the `fields`, a list of (name, field)."""
        return cls(**{name: field.preprocess(value) for value, (name, field) in zip(values, fields, strict=True)})


class Dataset:
    """Items with fields.

    Args:
        examples: the items.
        fields: (name, field), as a list or a dictionary.
        filter_pred: says which items to keep.
    """

    def __init__(self, examples: Iterable[Any], fields: Any, filter_pred: Callable[[Any], bool] | None = None) -> None:
        self.examples, self.fields = list(filter(filter_pred or (lambda e: True), examples)), dict(fields)

    @classmethod
    def splits(
        cls, path: StrPath | None = None, root: StrPath = ".data", train: str | None = None,
        validation: str | None = None, test: str | None = None, **fields: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """One dataset for each name that is given.

        Args:
            path: the folder; None takes `root`.
            train, validation, test: names in it.
            fields: what the class takes besides the path of one.
        """
        folder = Path(root if path is None else path)
        return tuple(cls(str(folder / name), **fields) for name in (train, validation, test) if name is not None)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> Any:
        return self.examples[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.examples)


class IMDB(Dataset):
    """Reviews of films, which are fetched by hand: `aclImdb_v1.tar.gz`, unpacked.

    Args:
        path: a folder with `pos` and `neg`.
        text_field, label_field: how texts and labels become tokens.
    """

    def __init__(self, path: StrPath, text_field: Field, label_field: Field) -> None:
        fields = [("text", text_field), ("label", label_field)]
        files = [(f, label) for label in ("pos", "neg") for f in sorted((Path(path) / label).glob("*.txt"))]
        if not files:
            raise DataError(f"there are no texts in the folders pos and neg of {path}")
        super().__init__([Example.fromlist([f.read_text(encoding="utf-8"), y], fields) for f, y in files], fields)

    @classmethod
    def splits(  # type: ignore[override]
        cls, text_field: Field, label_field: Field, root: StrPath = ".data", train: str = "train", test: str = "test"
    ) -> tuple[Any, ...]:
        """The reviews to train on, and those to test with.

        Args:
            text_field, label_field: how texts and labels become tokens.
            root: the folder that holds `aclImdb`, or `imdb/aclImdb`.
            train, test: its sub-folders, each with `pos` and `neg`.
        """
        found = [p for p in (Path(root) / "aclImdb", Path(root) / "imdb" / "aclImdb") if p.is_dir()]
        if not found:
            raise DataError(f"there is no folder aclImdb in {root}; unpack aclImdb_v1.tar.gz there")
        return super().splits(found[0], train=train, test=test, text_field=text_field, label_field=label_field)


data = SimpleNamespace(Field=Field, Example=Example, Dataset=Dataset)
datasets = SimpleNamespace(IMDB=IMDB)
"""What `from torchtext import data, datasets` gave."""
