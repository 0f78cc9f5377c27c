"""Text into tokens and back: words with marks, pieces of words learned from text, or what any function gives."""

from __future__ import annotations

import functools
import math
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, Literal, NoReturn, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, StateError, did_you_mean
from . import words
from .store import Ints
from .vocab import BOS, FLD, PAD, UNK, WREP, check_version
from .words import LINE, REPEATS

SequenceIds = npt.NDArray[np.int32]
V = TypeVar("V")
SubwordKind = Literal["bpe", "unigram"]

VERSION = 1  # of a tokenizer's state
_PIECE = 20_000  # characters split at a time: the list of words stays in the processor's cache
_MEMO = 2**19  # whitespace-separated strings whose tokens are remembered
_MEMO_LENGTH = 64  # longer ones will not come again
_SPACE = re.compile(r"\s")
SUBWORDS = 8000  # tokens of a subword vocabulary, unless another number is asked for
_RUST_PIECE = 100_000  # characters given to the Rust library as one text
_SAFE_CUT = re.compile(r"(?<=\S) (?=\S)")
_COLUMN = re.compile(rf"\s?{FLD} \d+ ")
_NAMES = (("[PAD]", "<pad>"), ("[UNK]", "<unk>"))  # of padding and of what is unknown, in pretrained tokenizers


class Memo(dict[str, V]):
    """What `make` gives for a string, of up to `most` strings; longer ones than `longest` will not come again."""

    def __init__(self, make: Callable[[str], V], most: float = math.inf, longest: float = math.inf) -> None:
        self._make, self._most, self._longest = make, most, longest

    def __missing__(self, key: str) -> V:
        value = self._make(key)
        if len(key) <= self._longest:
            if len(self) >= self._most:
                self.clear()
            self[key] = value
        return value


class Tokenizer(ABC):
    """Splits texts into tokens and puts tokens together again."""

    name: str

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """The tokens of each of the `texts`, without the mark of its beginning."""
        counter = self.counter()
        ids, lengths = counter.encode(texts)
        found = [counter.sequences[i] for i in ids.tolist()]
        ends = np.cumsum(lengths).tolist()
        return [[t for sequence in found[a:b] for t in sequence] for a, b in pairwise([0, *ends])]

    @abstractmethod
    def join(self, tokens: Sequence[str]) -> str:
        """Readable text again of the `tokens` of one text; marks of beginning and padding are left out."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What makes the same tokenizer again, as plain values; see `tokenizer_from_state`."""

    @abstractmethod
    def counter(self) -> Counter:
        """What numbers the tokens of many texts quickly."""

    @property
    def closed(self) -> tuple[str, ...] | None:
        """All tokens it can ever give, where that is known; the vocabulary then holds all of them."""
        return None


Tokenizing = str | Tokenizer | Callable[[str], Iterable[str]] | None


class Counter:
    """Numbers the token sequences of texts, as `tokens` splits them: one token each; others may join several.

    It gives numbers in the order in which sequences come first.
    """

    in_workers = False  # whether forked processes do it faster

    def __init__(self, tokens: Callable[[str], list[str]]) -> None:
        self.sequences: list[tuple[str, ...]] = []
        self._tokens = tokens
        self._known = Memo(lambda token: self.add((token,)))

    def add(self, tokens: tuple[str, ...]) -> int:
        """A number for a token sequence that has none yet."""
        self.sequences.append(tokens)
        return len(self.sequences) - 1

    def encode(self, texts: Sequence[str]) -> tuple[SequenceIds, Ints]:
        """The numbers of the token sequences of several texts one after the other, and how many each text has."""
        rows = [self._tokens(text) for text in texts]
        lengths = np.array([len(row) for row in rows], np.int64)
        return np.fromiter(map(self._known.__getitem__, chain.from_iterable(rows)), np.int32, lengths.sum()), lengths


class WordTokenizer(Tokenizer):
    r"""Words, numbers, signs and emoji, with marks for what would else need a token of its own.

    Whitespace separates. Within it are kept whole: web and mail addresses, numbers with their points (1,000.50),
    abbreviations of letters (U.S.), emoji with their modifiers, words with their accents. Each Chinese or Japanese
    character is a token, and so is each other sign; hyphens and underscores separate words. Contractions are split as
    in the Penn treebank: *do n't*, *it 's*, *they 'll*; other apostrophes stay (*o'clock*).

    Marks: `xxmaj` before a capitalised word and `xxup` before one of two or more capitals, which are then written
    small; `xxrep 4 !` for a character three or more times in a row; `xxwrep 3 ha` for a word so. Digits are never
    counted so (1000000), nor Roman numerals (VIII), nor parts of addresses.

    Cleaned first: html's `<br />` is a line break and its entities (`&amp;`) are characters; typographic apostrophes
    within words are plain; text is in Unicode's normal form C; invisible characters (byte order and direction marks,
    zero-width and control characters) go. What reads like one of the marks, say `xxbos`, is parted, so that no text can
    forge one; `xxfld` stays, since it is written between columns.

    Args:
        lower: mark capitals and write words small; else leave them as they are.
        keep_newlines: make each line break a token `"\n"`; else it is whitespace like any other.

    >>> WordTokenizer().tokenize(["I didn't LIKE it... at all!", "Ha ha ha, Soooo good<br />"])
    [['xxmaj', 'i', 'did', "n't", 'xxup', 'like', 'it', 'xxrep', '3', '.', 'at', 'all', '!'],
     ['xxmaj', 'ha', 'ha', 'ha', ',', 'xxmaj', 's', 'xxrep', '4', 'o', 'good']]
    >>> WordTokenizer().join(["xxbos", "xxmaj", "i", "did", "n't", "xxwrep", "3", "xxup", "like", "it", "!"])
    "I didn't LIKE LIKE LIKE it!"
    """

    name = "word"

    def __init__(self, lower: bool = True, keep_newlines: bool = False) -> None:
        self.lower = lower
        self.keep_newlines = keep_newlines

    def prepare(self, text: str) -> str:
        """The `text` cleaned as a whole; whitespace separates its words."""
        words.check_text(text)
        text = words.plain(text)
        if self.keep_newlines:
            text = words.line_ends(text).replace("\n", f" {LINE} ")
        return text

    def join(self, tokens: Sequence[str]) -> str:
        return words.join_words(tokens)

    def counter(self) -> Counter:
        return WordCounter(self)

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "word", "version": VERSION, "lower": self.lower, "keep_newlines": self.keep_newlines}

    def __repr__(self) -> str:
        return f"WordTokenizer(lower={self.lower}, keep_newlines={self.keep_newlines})"


class WordCounter(Counter):
    """Rules run once per different word, all else is done by whole arrays."""

    in_workers = True

    def __init__(self, tokenizer: WordTokenizer) -> None:
        super().__init__(words.word_parts)
        self._tokenizer = tokenizer
        self._known = Memo(lambda part: self.add(words.expand(part, tokenizer.lower)))
        self._ids = Memo(self._ids_of, _MEMO, _MEMO_LENGTH)
        self._repeated: dict[tuple[int, int], int] = {}
        self._may_repeat = bytearray()

    def _ids_of(self, word: str) -> bytes:
        """The numbers of the token sequences of a string without whitespace, as bytes of int32."""
        is_line = word == LINE and self._tokenizer.keep_newlines
        parts = ["\n"] if is_line else self._tokens(word)
        return array("i", map(self._known.__getitem__, parts)).tobytes()

    def encode(self, texts: Sequence[str]) -> tuple[SequenceIds, Ints]:
        look_up = self._ids.__getitem__
        rows: list[bytes] = []
        lengths = np.empty(len(texts), np.int64)
        for i, text in enumerate(texts):
            pieces = words.cut(self._tokenizer.prepare(text), _PIECE, _SPACE)
            found = [b"".join(map(look_up, piece.split())) for piece in pieces]
            lengths[i] = sum(map(len, found)) // 4
            rows += found
        return self._mark_repeats(np.frombuffer(b"".join(rows), np.int32), lengths)

    def add(self, tokens: tuple[str, ...]) -> int:
        self._may_repeat.append(words.can_repeat(tokens))
        return super().add(tokens)

    def _mark_repeats(self, ids: SequenceIds, lengths: Ints) -> tuple[SequenceIds, Ints]:
        """Replace the same word three or more times in a row by one sequence that says so."""
        if len(ids) < REPEATS:
            return ids, lengths
        same = ids[1:] == ids[:-1]
        ends = np.cumsum(lengths)
        same[ends[(ends > 0) & (ends < len(ids))] - 1] = False
        if not (same[1:] & same[:-1]).any():
            return ids, lengths
        starts = np.flatnonzero(np.concatenate(([True], ~same)))
        counts = np.diff(starts, append=len(ids))
        chosen = (counts >= REPEATS) & np.frombuffer(self._may_repeat, np.bool_)[ids[starts]]
        out = ids.copy()
        keep = np.ones(len(ids), np.bool_)
        for at, n in zip(starts[chosen].tolist(), counts[chosen].tolist(), strict=True):
            key = (n, int(ids[at]))
            number = self._repeated.get(key)
            if number is None:
                number = self._repeated[key] = self.add((WREP, str(n), *self.sequences[key[1]]))
            out[at] = number
            keep[at + 1 : at + n] = False
        kept = np.concatenate(([0], np.cumsum(keep)))
        return out[keep], np.diff(kept[np.concatenate(([0], ends))])


class FunctionTokenizer(Tokenizer):
    """Any function `fn` from a text to its tokens."""

    def __init__(self, fn: Callable[[str], Iterable[str]]) -> None:
        if not callable(fn):
            raise ArgumentError(
                "tokenizer must be 'word', 'bpe', 'unigram', a Tokenizer or a function from a text to a list of tokens,"
                f" got {type(fn).__name__}"
            )
        self.fn = fn
        self.name = str(getattr(fn, "__name__", type(fn).__name__))

    def tokens(self, text: str) -> list[str]:
        """The tokens of one text."""
        words.check_text(text)
        given = self.fn(text)
        tokens = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
        if tokens is None or not all(isinstance(t, str) for t in tokens):
            raise DataError(
                f"the tokenizer {self.name} must give a list of texts, but for {text[:40]!r} it gave "
                f"{str(given)[:60]!r}, a {type(given).__name__}"
            )
        return tokens

    def counter(self) -> Counter:
        return Counter(self.tokens)

    def join(self, tokens: Sequence[str]) -> str:
        """The tokens with spaces between them, since how the function split them is not known."""
        return " ".join(t for t in tokens if t not in (BOS, PAD))

    def state_dict(self) -> dict[str, Any]:
        """Refused, since a function cannot be written to a file."""
        raise StateError(
            f"the tokenizer {self.name} is a function of yours, which cannot be saved; pass the same function again "
            "when loading, or use 'word', 'bpe' or 'unigram', which are saved with the model"
        )

    def __repr__(self) -> str:
        return f"FunctionTokenizer({self.name})"


class SubwordTokenizer(Tokenizer):
    """Pieces of words, learned from text: no text is ever *unknown*, and `join` gives back all of it.

    What goes in is first cleaned of html, has plain line ends and Unicode's normal form C; `join` gives that. The
    pieces are of bytes, so that they cover every script.

    Args:
        model: a trained tokenizer of the `tokenizers` library, as its JSON.

    >>> tokenizer = SubwordTokenizer.train(["low lower lowest"] * 9, vocab_size=270)
    >>> tokenizer.join(tokenizer.tokenize(["slower snow ☃"])[0])
    'slower snow ☃'
    """

    def __init__(self, model: str) -> None:
        import tokenizers

        try:
            self._rust = tokenizers.Tokenizer.from_str(model)
            self.name = {"BPE": "bpe", "Unigram": "unigram"}.get(type(self._rust.model).__name__, "subword")
        except Exception as error:  # the library raises bare Exception
            raise StateError(
                f"this is not the JSON of a tokenizer that the tokenizers library reads: {error}"
            ) from error

    @classmethod
    def train(
        cls, texts: Iterable[str], kind: SubwordKind = "bpe", vocab_size: int = SUBWORDS, progress: bool = False
    ) -> SubwordTokenizer:
        """Learn which pieces are frequent.

        Args:
            texts: read once, a few at a time.
            kind: "bpe" (byte-pair encoding, arXiv 1508.07909) or "unigram" (arXiv 1804.10959).
            vocab_size: how many different pieces; at least the 256 bytes and one.
            progress: show the library's bars.
        """
        import tokenizers
        from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

        if kind not in ("bpe", "unigram"):
            raise ArgumentError(f"kind must be 'bpe' or 'unigram', got {kind!r}")
        if vocab_size < 257:
            raise ArgumentError(f"vocab_size must be at least 257, for there are 256 bytes, got {vocab_size}")
        rust = tokenizers.Tokenizer(models.BPE() if kind == "bpe" else models.Unigram())
        trainer: Any = trainers.BpeTrainer if kind == "bpe" else trainers.UnigramTrainer
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        how = {"vocab_size": vocab_size, "initial_alphabet": alphabet, "special_tokens": [FLD]}
        rust.normalizer = normalizers.NFC()
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        rust.decoder = decoders.ByteLevel()
        pieces = (piece for text in texts for piece in words.cut(_for_subwords(text), _RUST_PIECE, _SAFE_CUT))
        rust.train_from_iterator(pieces, trainer(**how, show_progress=progress))
        return cls(rust.to_str())

    def encode(self, texts: Sequence[str]) -> tuple[SequenceIds, Ints]:
        """Positions in `closed` of the tokens of all `texts`, one after the other, and how many each text has."""
        pieces = [list(words.cut(_for_subwords(text), _RUST_PIECE, _SAFE_CUT)) for text in texts]
        of = [i for i, some in enumerate(pieces) for _ in some]
        found = self._rust.encode_batch_fast([p for some in pieces for p in some], add_special_tokens=False)
        rows = [np.array(e.ids, np.int32) for e in found]
        lengths = np.zeros(len(texts), np.int64)
        np.add.at(lengths, of, [len(r) for r in rows])
        return np.concatenate([np.empty(0, np.int32), *rows]), lengths

    def join(self, tokens: Sequence[str]) -> str:
        text: str = self._rust.decoder.decode([t for t in tokens if t not in (BOS, PAD)])
        return text

    @functools.cached_property
    def closed(self) -> tuple[str, ...]:
        """All tokens, in the order of their numbers."""
        return self._all_tokens()

    def _all_tokens(self) -> tuple[str, ...]:
        by_id = sorted((i, t) for t, i in self._rust.get_vocab().items())
        if [i for i, _ in by_id] != list(range(len(by_id))):
            raise StateError("the numbers of this tokenizer's tokens have gaps; train it anew")
        return tuple(t for _, t in by_id)

    def counter(self) -> Counter:
        return _SubwordCounter(self)

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "subword", "version": VERSION, "model": self._rust.to_str()}

    def __repr__(self) -> str:
        return f"SubwordTokenizer({self.name}, {self._rust.get_vocab_size()} tokens)"


class _SubwordCounter(Counter):
    def __init__(self, tokenizer: SubwordTokenizer) -> None:
        self.sequences = [(t,) for t in tokenizer.closed]
        self._encode = tokenizer.encode

    def encode(self, texts: Sequence[str]) -> tuple[SequenceIds, Ints]:
        return self._encode(texts)


class PretrainedTokenizer(SubwordTokenizer):
    """The tokenizer that a pretrained encoder of texts was trained with, BERT's for instance.

    It has marks of its own for the beginning and the end of a text, *padding* and *unknown*: in `closed` the first and
    the last two are called as ours are. Each of several columns ends with the mark of the end.

    Args:
        model: its JSON, as in a `tokenizer.json`.
        prefix: put before each text; some encoders were trained with "query: ", say.
    """

    def __init__(self, model: str, prefix: str = "") -> None:
        super().__init__(model)
        self.name, self.prefix = "pretrained", prefix
        self._rust.no_truncation()
        self._rust.no_padding()
        marks = self._rust.encode("").tokens
        if len(marks) != 2:
            raise StateError(f"expected a tokenizer that marks a text's beginning and its end, this one puts {marks}")
        self._end = int(self._rust.encode("").ids[1])
        known = [next((t for t in names if self._rust.token_to_id(t) is not None), None) for names in _NAMES]
        self._ours = dict(zip((marks[0], *known), (BOS, PAD, UNK), strict=True))
        self._rust.encode_special_tokens = True  # what only looks like a mark is text

    def encode(self, texts: Sequence[str]) -> tuple[SequenceIds, Ints]:
        columns = [[c for c in _COLUMN.split(self.prefix + text) if c] or [""] for text in texts]
        ids, lengths = super().encode([c for some in columns for c in some])
        ends = np.cumsum([0, *map(len, columns)])
        sums = np.concatenate(([0], np.cumsum(lengths + 1)))
        return np.insert(ids, np.cumsum(lengths), self._end), np.diff(sums[ends])

    def join(self, tokens: Sequence[str]) -> str:
        end = self.closed[self._end]
        return super().join([t for t in tokens if t != end])

    def _all_tokens(self) -> tuple[str, ...]:
        return tuple(self._ours.get(t, t) for t in super()._all_tokens())

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "pretrained", "version": VERSION, "model": self._rust.to_str(), "prefix": self.prefix}

    def __repr__(self) -> str:
        return f"PretrainedTokenizer({self._rust.get_vocab_size()} tokens)"


class UntrainedTokenizer(Tokenizer):
    """The wish for subwords of a `kind` before there is text to learn them from; `TextProcessor.fit` trains it."""

    def __init__(self, kind: SubwordKind) -> None:
        self.name = self.kind = kind

    def _refuse(self, *given: object) -> NoReturn:
        raise StateError(
            f"the {self.kind} tokenizer is not trained yet: pass it to TextProcessor.fit, or use SubwordTokenizer.train"
        )

    counter = join = state_dict = _refuse  # type: ignore[assignment]


def _for_subwords(text: str) -> str:
    words.check_text(text)
    return words.without_surrogates(words.line_ends(words.plain(text)))


def as_tokenizer(given: Tokenizing) -> Tokenizer:
    """A tokenizer from what users pass: "bpe" and "unigram" are trained later, on the training split."""
    if given is None or given == "word":
        return WordTokenizer()
    if isinstance(given, Tokenizer):
        return given
    if given in ("bpe", "unigram"):
        return UntrainedTokenizer(cast(SubwordKind, given))
    if isinstance(given, str):
        raise ArgumentError(f"there is no tokenizer {given!r}. {did_you_mean(given, ['word', 'bpe', 'unigram'])}")
    if isinstance(given, type) and issubclass(given, Tokenizer):
        raise ArgumentError(f"tokenizer must be a tokenizer, not its class: make one of {given}")
    return FunctionTokenizer(cast(Callable[[str], Iterable[str]], given))


def tokenizer_from_state(state: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `state_dict` this is. Nothing of it is executed."""
    kind = state.get("kind") if isinstance(state, Mapping) else None
    if kind not in ("word", "subword", "pretrained"):
        raise StateError(
            f"this is no state of a tokenizer of easylearn: its kind is {kind!r}, not 'word', 'subword' or 'pretrained'"
        )
    check_version(state, VERSION, "tokenizer")
    if kind == "word":
        return WordTokenizer(bool(state.get("lower", True)), bool(state.get("keep_newlines", False)))
    model = state.get("model")
    if not isinstance(model, str):
        raise StateError("this state of a SubwordTokenizer lacks its model, a JSON text")
    return SubwordTokenizer(model) if kind == "subword" else PretrainedTokenizer(model, str(state.get("prefix", "")))
