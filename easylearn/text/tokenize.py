"""Text into tokens and back: words with marks for capitals and repeats, or what any function gives."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, StateError
from . import words
from .vocab import BOS, PAD, WREP
from .words import LINE, REPEATS

Ints = npt.NDArray[np.int64]
Forms = npt.NDArray[np.int32]

VERSION = 1  # of a tokenizer's state
_PIECE = 20_000  # characters split at a time: the list of words stays in the processor's cache
_MEMO = 2**19  # whitespace-separated strings whose tokens are remembered
_MEMO_LENGTH = 64  # longer ones will not come again
_SPACE = re.compile(r"\s")


class Tokenizer(ABC):
    """Parts texts into tokens and puts tokens together again."""

    name: str

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """The tokens of each text, without the mark of its beginning.

        Args:
            texts: the documents.
        """

    @abstractmethod
    def join(self, tokens: Sequence[str]) -> str:
        """Readable text again; marks of beginning and padding are left out.

        Args:
            tokens: of one text.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What makes the same tokenizer again, as plain values; see `tokenizer_from_state`."""

    def counter(self) -> Counter:
        """What numbers the tokens of a large corpus quickly; it gives the tokens that `tokenize` gives."""
        return Counter(self)

    @property
    def closed(self) -> tuple[str, ...] | None:
        """All tokens it can ever give, where that is known; the vocabulary then holds all of them."""
        return None


class Counter:
    """Numbers what it meets in order of appearance; what a number stands for is decided once.

    Such a number stands for a *form*: one token, or several that always come together.
    """

    in_workers = False  # whether forked processes do it faster

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.forms: list[tuple[str, ...]] = []
        self._known: dict[str, int] = {}

    def add(self, tokens: tuple[str, ...]) -> int:
        """A number for a form that has none yet."""
        self.forms.append(tokens)
        return len(self.forms) - 1

    def encode(self, texts: Sequence[str]) -> tuple[Forms, Ints]:
        """Forms of several texts.

        Args:
            texts: the documents.

        Returns:
            Their forms one after the other, and how many each text has, shape (len(texts),).
        """
        rows = self.tokenizer.tokenize(texts)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        known = self._known
        out = np.empty(int(lengths.sum()), np.int32)
        at = 0
        for row in rows:
            for token in row:
                number = known.get(token)
                if number is None:
                    number = known[token] = self.add((token,))
                out[at] = number
                at += 1
        return out, lengths


class WordTokenizer(Tokenizer):
    r"""Words, numbers, signs and emoji, with marks for what would else need a token of its own.

    Whitespace separates. Within it are kept whole: web and mail addresses, numbers with their points (1,000.50),
    abbreviations of letters (U.S.), emoji with their modifiers, words with their accents. Each Chinese or Japanese
    character is a token, and so is each other sign; hyphens and underscores part words. Contractions are parted as in
    the Penn treebank: *do n't*, *it 's*, *they 'll*; other apostrophes stay (*o'clock*).

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
        self._pieces: dict[str, list[str]] = {}

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        return [self._tokens(text) for text in texts]

    def _tokens(self, text: str) -> list[str]:
        memo, forms = self._pieces, []
        for word in self.prepare(text).split():
            parts = memo.get(word)
            if parts is None:
                parts = self.parts(word)
                if len(word) <= _MEMO_LENGTH:
                    if len(memo) >= _MEMO:
                        memo.clear()
                    memo[word] = parts
            forms += parts
        out: list[str] = []
        for form, run in groupby(forms):
            tokens = self.expand(form)
            n = sum(1 for _ in run)
            if n >= REPEATS and words.can_repeat(tokens):
                out += (WREP, str(n), *tokens)
            else:
                out += tokens * n
        return out

    def prepare(self, text: str) -> str:
        """The `text` cleaned as a whole; what `parts` is called with stands between whitespace in it."""
        words.check_text(text)
        text = words.plain(text)
        if self.keep_newlines:
            text = words.line_ends(text).replace("\n", f" {LINE} ")
        return text

    def parts(self, word: str) -> list[str]:
        """Words and signs of a `word`, a string without whitespace, their case kept."""
        return ["\n"] if word == LINE and self.keep_newlines else words.word_parts(word)

    def expand(self, form: str) -> tuple[str, ...]:
        """The tokens of a `form`, one of the `parts`: marks, and what they mark."""
        return words.expand(form, self.lower)

    def join(self, tokens: Sequence[str]) -> str:
        return words.join_words(tokens)

    def counter(self) -> Counter:
        return WordCounter(self)

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "word", "version": VERSION, "lower": self.lower, "keep_newlines": self.keep_newlines}

    def __repr__(self) -> str:
        return f"WordTokenizer(lower={self.lower}, keep_newlines={self.keep_newlines})"


class _Memo(dict[str, bytes]):
    """The forms of strings without whitespace, as bytes of int32, made where they are missing."""

    def __init__(self, counter: WordCounter) -> None:
        self._counter = counter

    def __missing__(self, word: str) -> bytes:
        made = self._counter.forms_of(word)
        if len(word) <= _MEMO_LENGTH:
            if len(self) >= _MEMO:
                self.clear()
            self[word] = made
        return made


class WordCounter(Counter):
    """The fast way of `WordTokenizer`: rules run once per different word, all else is done by whole arrays."""

    in_workers = True

    def __init__(self, tokenizer: WordTokenizer) -> None:
        super().__init__(tokenizer)
        self.words = tokenizer
        self._memo = _Memo(self)
        self._repeated: dict[tuple[int, int], int] = {}
        self._may_repeat = bytearray()

    def forms_of(self, word: str) -> bytes:
        """The forms of a string without whitespace."""
        known = self._known
        numbers = []
        for part in self.words.parts(word):
            number = known.get(part)
            if number is None:
                number = known[part] = self.add(self.words.expand(part))
            numbers.append(number)
        return array("i", numbers).tobytes()

    def encode(self, texts: Sequence[str]) -> tuple[Forms, Ints]:
        look_up = self._memo.__getitem__
        rows: list[bytes] = []
        lengths = np.empty(len(texts), np.int64)
        for i, text in enumerate(texts):
            found = [
                b"".join(map(look_up, piece.split())) for piece in words.cut(self.words.prepare(text), _PIECE, _SPACE)
            ]
            lengths[i] = sum(map(len, found)) // 4
            rows += found
        return self._mark_repeats(np.frombuffer(b"".join(rows), np.int32), lengths)

    def add(self, tokens: tuple[str, ...]) -> int:
        self.forms.append(tokens)
        self._may_repeat.append(words.can_repeat(tokens))
        return len(self.forms) - 1

    def _mark_repeats(self, forms: Forms, lengths: Ints) -> tuple[Forms, Ints]:
        """Replace the same word three or more times in a row by one form that says so."""
        if len(forms) < REPEATS:
            return forms, lengths
        same = forms[1:] == forms[:-1]
        ends = np.cumsum(lengths)
        inner = ends[(ends > 0) & (ends < len(forms))]
        same[inner - 1] = False
        if not (same[1:] & same[:-1]).any():
            return forms, lengths
        starts = np.flatnonzero(np.concatenate(([True], ~same)))
        counts = np.diff(starts, append=len(forms))
        chosen = (counts >= REPEATS) & np.frombuffer(self._may_repeat, np.bool_)[forms[starts]]
        if not chosen.any():
            return forms, lengths
        out = forms.copy()
        keep = np.ones(len(forms), np.bool_)
        for at, n in zip(starts[chosen].tolist(), counts[chosen].tolist(), strict=True):
            key = (n, int(forms[at]))
            number = self._repeated.get(key)
            if number is None:
                number = self._repeated[key] = self.add((WREP, str(n), *self.forms[key[1]]))
            out[at] = number
            keep[at + 1 : at + n] = False
        kept = np.concatenate(([0], np.cumsum(keep)))
        return out[keep], np.diff(kept[np.concatenate(([0], ends))])


class FunctionTokenizer(Tokenizer):
    """Any function from a text to its tokens.

    Args:
        fn: called with one text at a time.

    >>> FunctionTokenizer(str.split).tokenize(["a b", ""])
    [['a', 'b'], []]
    """

    def __init__(self, fn: Callable[[str], Iterable[str]]) -> None:
        if not callable(fn):
            raise ArgumentError(f"expected a function from a text to a list of tokens, got {type(fn).__name__}")
        self.fn = fn
        self.name = str(getattr(fn, "__name__", type(fn).__name__))

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """See `Tokenizer.tokenize`.

        Raises:
            DataError: the function gave something that is no list of texts.
        """
        out: list[list[str]] = []
        for text in texts:
            words.check_text(text)
            given = self.fn(text)
            tokens = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
            if tokens is None or not all(isinstance(t, str) for t in tokens):
                raise DataError(
                    f"the tokenizer {self.name} must give a list of texts, but for {text[:40]!r} it gave "
                    f"{str(given)[:60]!r}, a {type(given).__name__}"
                )
            out.append(tokens)
        return out

    def join(self, tokens: Sequence[str]) -> str:
        """The tokens with spaces between them, for nobody knows how the function parted them."""
        return " ".join(t for t in tokens if t not in (BOS, PAD))

    def state_dict(self) -> dict[str, Any]:
        """Refused, since a function cannot be written to a file.

        Raises:
            StateError: always.
        """
        raise StateError(
            f"the tokenizer {self.name} is a function of yours, which cannot be saved; pass the same function again "
            "when loading, or use 'word', 'bpe' or 'unigram', which are saved with the model"
        )

    def __repr__(self) -> str:
        return f"FunctionTokenizer({self.name})"
