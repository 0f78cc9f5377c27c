"""Text into tokens and back: words with marks for capitals and repeats, subwords, or any function."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, StateError, did_you_mean
from .vocab import BOS, FLD, MAJ, PAD, REP, SPECIALS, UP, WREP

SubwordKind = Literal["bpe", "unigram"]
Ints = npt.NDArray[np.int64]
Forms = npt.NDArray[np.int32]

SUBWORDS = 8000  # tokens of a subword vocabulary, unless another number is asked for
_VERSION = 1
_REPEATS = 3  # so many of the same in a row become a mark and a number
_PIECE = 20_000  # characters split at a time: the list of words stays in the processor's cache
_RUST_PIECE = 100_000  # characters given to the Rust library as one text
_MEMO = 2**19  # whitespace-separated strings whose tokens are remembered
_MEMO_LENGTH = 64  # longer ones will not come again
_MOST_COPIES = 10_000  # what `join` writes for a number of repeats that a model made up
_LINE = "\ufdd0"  # stands for a line break while text is split at whitespace; Unicode keeps it free for such uses

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_SPACE = re.compile(r"\s")
_SAFE_CUT = re.compile(r"(?<=\S) (?=\S)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROMAN = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
# What `_Patterns.parts` finds in printable ASCII without an address.
_ASCII = re.compile(
    r"(?:[A-Za-z]\.){2,}|[0-9]+(?:[.,:][0-9]+)+(?!\w)|[A-Za-z0-9]+(?:'[A-Za-z0-9]+)*|(?P<sign>[^A-Za-z0-9])(?P=sign)*"
)
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_NOT = re.compile(r"(.+)(n't)", re.IGNORECASE | re.DOTALL)
_ENDING = re.compile(r"(.+)('(?:s|d|m|re|ve|ll))", re.IGNORECASE | re.DOTALL)
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%\u201d\u2019…»、。\uff0c\uff01\uff1f\uff1a\uff1b\uff09」』") | {
    "n't",
    "'s",
    "'d",
    "'m",
    "'re",
    "'ve",
    "'ll",
}
_NO_SPACE_AFTER = frozenset("([{\u201c\u2018«$£€#@¿¡「『\uff08")
_GLUED = frozenset({"-", "--", "—", "/", "\n"})
_IN_PAIRS = frozenset("\"'_*`")
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)


class Tokenizer(ABC):
    """Parts texts into tokens and puts tokens together again."""

    name: str

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """The tokens of each text, without the mark of its beginning."""

    @abstractmethod
    def join(self, tokens: Sequence[str]) -> str:
        """Readable text again; marks of beginning and padding are left out."""

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
        """See `Tokenizer.tokenize`."""
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
            if n >= _REPEATS and can_repeat(tokens):
                out += (WREP, str(n), *tokens)
            else:
                out += tokens * n
        return out

    def prepare(self, text: str) -> str:
        """The text cleaned as a whole; what `parts` is called with is parted from it by whitespace."""
        _check_text(text)
        text = _plain(text)
        if self.keep_newlines:
            text = _line_ends(text).replace("\n", f" {_LINE} ")
        return text

    def parts(self, word: str) -> list[str]:
        """Words and signs of a string without whitespace, their case kept."""
        if word.isascii() and word.isprintable() and "@" not in word and ":/" not in word and "www." not in word:
            # Nearly all of English text. Only the last sign of most words is not a letter.
            if word.isalpha():
                return [word]
            if word[:-1].isalpha() and word[-1] in ".,;:!?" and len(word) > 2:
                return [word[:-1], word[-1]]
            return [m[0] for m in _ASCII.finditer(word)]
        if word == _LINE and self.keep_newlines:
            return ["\n"]
        patterns = _patterns()
        word = _SURROGATE.sub("\ufffd", patterns.dropped.sub("", word))
        return [m[0] for m in patterns.parts.finditer(unicodedata.normalize("NFC", word))]

    def expand(self, form: str) -> tuple[str, ...]:
        """The tokens of one of the `parts`: marks, and what they mark."""
        if form in ("\n", FLD):
            return (form,)
        if form.isascii() and form.isalpha() and not form.lower().startswith("xx") and not _RUN.search(form.lower()):
            if not self.lower or form.islower():
                return (form,)
            small = form.lower()
            if not form[0].isupper():
                return (small,)
            return (UP if len(form) > 1 and form.isupper() else MAJ, small)
        first = form[0]
        if not (first.isalnum() or unicodedata.category(first)[0] in "LM"):
            return _expand_sign(form)
        if "://" in form or "@" in form or form.startswith("www."):
            return (form.lower() if self.lower else form,)
        marks: tuple[str, ...] = ()
        if self.lower and (first.isupper() or first.istitle()):
            letters = sum(c.isalpha() for c in form)
            marks = (UP,) if letters > 1 and form.isupper() else (MAJ,)
        small = (form.lower() if self.lower else form).replace("\u2019", "'")
        pieces: list[str] = []
        while "'" in small and (found := _NOT.fullmatch(small) or _ENDING.fullmatch(small)):
            small, ending = found.groups()
            pieces.insert(0, ending)
        if not form.isdecimal() and not _is_roman(form):
            pieces[:0] = _part_runs(small)
        else:
            pieces.insert(0, small)
        return (*marks, *_defused(pieces))

    def join(self, tokens: Sequence[str]) -> str:
        """See `Tokenizer.join`. Spaces around signs are guessed; a repeated letter is put to the word before it."""
        return _join(tokens)

    def counter(self) -> Counter:
        """See `Tokenizer.counter`."""
        return WordCounter(self)

    def state_dict(self) -> dict[str, Any]:
        """See `Tokenizer.state_dict`."""
        return {"kind": "word", "version": _VERSION, "lower": self.lower, "keep_newlines": self.keep_newlines}

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
        """See `Counter.encode`."""
        look_up = self._memo.__getitem__
        rows: list[bytes] = []
        lengths = np.empty(len(texts), np.int64)
        for i, text in enumerate(texts):
            found = [b"".join(map(look_up, piece.split())) for piece in _cut(self.words.prepare(text), _PIECE, _SPACE)]
            lengths[i] = sum(map(len, found)) // 4
            rows += found
        return self._mark_repeats(np.frombuffer(b"".join(rows), np.int32), lengths)

    def add(self, tokens: tuple[str, ...]) -> int:
        """See `Counter.add`."""
        self.forms.append(tokens)
        self._may_repeat.append(can_repeat(tokens))
        return len(self.forms) - 1

    def _mark_repeats(self, forms: Forms, lengths: Ints) -> tuple[Forms, Ints]:
        """Replace the same word three or more times in a row by one form that says so."""
        if len(forms) < _REPEATS:
            return forms, lengths
        same = forms[1:] == forms[:-1]
        ends = np.cumsum(lengths)
        inner = ends[(ends > 0) & (ends < len(forms))]
        same[inner - 1] = False
        if not (same[1:] & same[:-1]).any():
            return forms, lengths
        starts = np.flatnonzero(np.concatenate(([True], ~same)))
        counts = np.diff(starts, append=len(forms))
        chosen = (counts >= _REPEATS) & np.frombuffer(self._may_repeat, np.bool_)[forms[starts]]
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
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer: Any
        if kind == "bpe":
            rust = tokenizers.Tokenizer(models.BPE())
            trainer = trainers.BpeTrainer(
                vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=[FLD], show_progress=progress
            )
        else:
            rust = tokenizers.Tokenizer(models.Unigram())
            trainer = trainers.UnigramTrainer(
                vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=[FLD], show_progress=progress
            )
        rust.normalizer = normalizers.NFC()
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        rust.decoder = decoders.ByteLevel()
        pieces = (piece for text in texts for piece in _cut(_for_subwords(text), _RUST_PIECE, _SAFE_CUT))
        rust.train_from_iterator(pieces, trainer)
        return cls(rust.to_str())

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """See `Tokenizer.tokenize`."""
        tokens = self.closed
        assert tokens is not None
        ids, lengths = self.encode(texts)
        rows = np.split(ids, np.cumsum(lengths)[:-1]) if len(texts) else []
        return [[tokens[i] for i in row.tolist()] for row in rows]

    def encode(self, texts: Sequence[str]) -> tuple[Forms, Ints]:
        """Places in `closed`: those of all texts one after the other, and how many each text has."""
        pieces, of = [], []
        for i, text in enumerate(texts):
            for piece in _cut(_for_subwords(text), _RUST_PIECE, _SAFE_CUT):
                pieces.append(piece)
                of.append(i)
        rows = [np.array(e.ids, np.int32) for e in self._rust.encode_batch_fast(pieces, add_special_tokens=False)]
        lengths = np.bincount(of, [len(r) for r in rows], minlength=len(texts)) if of else np.zeros(len(texts))
        return np.concatenate(rows) if rows else np.empty(0, np.int32), lengths.astype(np.int64)

    def join(self, tokens: Sequence[str]) -> str:
        """See `Tokenizer.join`."""
        text: str = self._rust.decoder.decode([t for t in tokens if t not in (BOS, PAD)])
        return text

    @property
    def closed(self) -> tuple[str, ...] | None:
        """See `Tokenizer.closed`."""
        return self._tokens

    @functools.cached_property
    def _tokens(self) -> tuple[str, ...]:
        by_id = sorted((i, t) for t, i in self._rust.get_vocab().items())
        if [i for i, _ in by_id] != list(range(len(by_id))):
            raise StateError("the numbers of this tokenizer's tokens have gaps; train it anew")
        return tuple(t for _, t in by_id)

    def counter(self) -> Counter:
        """See `Tokenizer.counter`."""
        return _SubwordCounter(self)

    def state_dict(self) -> dict[str, Any]:
        """See `Tokenizer.state_dict`."""
        return {"kind": "subword", "version": _VERSION, "model": self._rust.to_str()}

    def __repr__(self) -> str:
        return f"SubwordTokenizer({self.name}, {self._rust.get_vocab_size()} tokens)"


class _SubwordCounter(Counter):
    def __init__(self, tokenizer: SubwordTokenizer) -> None:
        super().__init__(tokenizer)
        self._subwords = tokenizer
        assert tokenizer.closed is not None
        self.forms = [(t,) for t in tokenizer.closed]

    def encode(self, texts: Sequence[str]) -> tuple[Forms, Ints]:
        """See `Counter.encode`."""
        return self._subwords.encode(texts)


class UntrainedTokenizer(Tokenizer):
    """The wish for subwords before there is text to learn them from; `TextProcessor.fit` trains it.

    Args:
        kind: "bpe" or "unigram".
        vocab_size: how many different pieces.
    """

    def __init__(self, kind: SubwordKind, vocab_size: int = SUBWORDS) -> None:
        self.name = self.kind = kind
        self.vocab_size = vocab_size

    def train(self, texts: Iterable[str], progress: bool = False) -> SubwordTokenizer:
        """The tokenizer that was wished for."""
        return SubwordTokenizer.train(texts, self.kind, self.vocab_size, progress)

    def _refuse(self) -> StateError:
        return StateError(
            f"the {self.kind} tokenizer is not trained yet: pass it to TextProcessor.fit, or call its train(texts)"
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """Refused."""
        raise self._refuse()

    def join(self, tokens: Sequence[str]) -> str:
        """Refused."""
        raise self._refuse()

    def state_dict(self) -> dict[str, Any]:
        """Refused."""
        raise self._refuse()


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
            _check_text(text)
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


def as_tokenizer(given: str | Tokenizer | Callable[[str], Iterable[str]] | None) -> Tokenizer:
    """A tokenizer from what users pass.

    Args:
        given: None or "word", "bpe" or "unigram" (trained later, on the training part), a tokenizer, or any function
            from a text to a list of tokens.

    Raises:
        ArgumentError: it is none of these.
    """
    if given is None or (isinstance(given, str) and given == "word"):
        return WordTokenizer()
    if isinstance(given, Tokenizer):
        return given
    if isinstance(given, str):
        if given in ("bpe", "unigram"):
            return UntrainedTokenizer("bpe" if given == "bpe" else "unigram")
        raise ArgumentError(f"there is no tokenizer {given!r}. {did_you_mean(given, ['word', 'bpe', 'unigram'])}")
    if isinstance(given, type) and issubclass(given, Tokenizer):
        raise ArgumentError(f"tokenizer must be a tokenizer, not its class: make one of {given}")
    if callable(given):
        return FunctionTokenizer(cast(Callable[[str], Iterable[str]], given))
    raise ArgumentError(
        "tokenizer must be 'word', 'bpe', 'unigram', a Tokenizer or a function from a text to a list of tokens, "
        f"got {type(given).__name__}"
    )


def tokenizer_from_state(state: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `state_dict` this is. Nothing of it is executed.

    Raises:
        StateError: it is none, or of a newer version.

    >>> tokenizer_from_state(WordTokenizer(lower=False).state_dict())
    WordTokenizer(lower=False, keep_newlines=False)
    """
    kind = state.get("kind") if isinstance(state, Mapping) else None
    if kind not in ("word", "subword"):
        raise StateError(f"this is no state of a tokenizer of easylearn: its kind is {kind!r}, not 'word' or 'subword'")
    if state.get("version") != _VERSION:
        raise StateError(
            f"the state of this tokenizer has version {state.get('version')!r}, this easylearn reads {_VERSION}; "
            "install the easylearn that wrote it, or a newer one"
        )
    if kind == "word":
        return WordTokenizer(bool(state.get("lower", True)), bool(state.get("keep_newlines", False)))
    model = state.get("model")
    if not isinstance(model, str):
        raise StateError("this state of a SubwordTokenizer lacks its model, a JSON text")
    return SubwordTokenizer(model)


def can_repeat(tokens: tuple[str, ...]) -> bool:
    """Whether these tokens are one word, marks aside: only then is a repeat counted."""
    return tokens[-1][0].isalnum() and (len(tokens) == 1 or (len(tokens) == 2 and tokens[0] in (MAJ, UP)))


class _Patterns:
    """Expressions that need Unicode's tables, which take some milliseconds to go through."""

    def __init__(self) -> None:
        marks = _ranges(c for c in range(0x300, 0x20000) if unicodedata.category(chr(c))[0] == "M")
        marks += "\u200c\u200d"  # joiners within words, as in Persian
        formats = (
            c for c in range(0x80, 0x20000) if unicodedata.category(chr(c)) == "Cf" and c not in (0x200C, 0x200D)
        )
        self.dropped = re.compile(f"[\\x00-\\x08\\x0e-\\x1b\\x7f-\\x9f{_ranges(formats)}]")
        word = f"[^\\W_{_IDEOGRAPHS}]+(?:[{marks}]+[^\\W_{_IDEOGRAPHS}]*)*"
        emoji = f"[{_EMOJI}][\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
        self.parts = re.compile(
            "|".join(
                [
                    r"(?:https?://|www\.)[^\s<>\"\u201c\u201d]*[^\s<>\"\u201c\u201d.,;:!?)\]}'\u2019]",
                    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
                    "[\U0001f1e6-\U0001f1ff]{2}",
                    "[0-9#*]\ufe0f?\u20e3",
                    f"(?P<emoji>{emoji}(?:\u200d{emoji})*)(?P=emoji)*",
                    r"(?:[^\W\d_]\.){2,}",
                    r"\d+(?:[.,:]\d+)+(?!\w)",
                    f"{word}(?:['\u2019]{word})*",
                    f"[{_IDEOGRAPHS}][{marks}]*",
                    f"(?P<sign>[^\\w\\s{marks}]|_)(?P=sign)*[{marks}]*",
                ]
            )
        )


@functools.cache
def _patterns() -> _Patterns:
    return _Patterns()


def _ranges(codes: Iterable[int]) -> str:
    """Code points as the inside of a character class."""
    spans: list[list[int]] = []
    for code in codes:
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in spans)


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise DataError(f"a tokenizer takes texts, got {text!r:.60}, a {type(text).__name__}")


def _plain(text: str) -> str:
    """Text without html's line breaks and entities."""
    if "<" in text:
        text = _BREAK.sub("\n", text)
    if "&" in text:
        text = _ENTITY.sub(lambda m: html.unescape(m[0]), text)
    return text


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _for_subwords(text: str) -> str:
    _check_text(text)
    return _SURROGATE.sub("\ufffd", _line_ends(_plain(text)))


def _cut(text: str, size: int, where: re.Pattern[str]) -> Iterator[str]:
    """The text in pieces of about `size` characters, each beginning with a match of `where`."""
    begin = 0
    while len(text) - begin > size:
        found = where.search(text, begin + size)
        if found is None:
            break
        yield text[begin : found.start()]
        begin = found.start()
    yield text[begin:] if begin else text


def _is_roman(form: str) -> bool:
    return form.isascii() and _ROMAN.fullmatch(form) is not None


def _expand_sign(form: str) -> tuple[str, ...]:
    """A sign or emoji, or the same one several times."""
    found = _patterns().parts.fullmatch(form)
    unit = (found["emoji"] or found["sign"]) if found else None
    if unit is None or len(form) == len(unit) or len(form) % len(unit):
        return (form,)
    n = len(form) // len(unit)
    if n >= _REPEATS:
        return (REP, str(n), unit)
    return (form,) if form == "--" else (unit,) * n


def _part_runs(word: str) -> list[str]:
    """A word, with marks where a letter comes three or more times in a row."""
    out: list[str] = []
    begin = 0
    for run in _RUN.finditer(word):
        if run.start() > begin:
            out.append(word[begin : run.start()])
        out += (REP, str(run.end() - run.start()), run[1])
        begin = run.end()
    if begin < len(word):
        out.append(word[begin:])
    return out


def _defused(pieces: list[str]) -> list[str]:
    """The same without words that read like special tokens."""
    if not any(p.startswith("xx") for p in pieces):
        return pieces
    out: list[str] = []
    for i, p in enumerate(pieces):
        is_mark = p == REP and i + 2 < len(pieces) and pieces[i + 1].isdecimal() and len(pieces[i + 2]) == 1
        out += [p] if p not in SPECIALS or is_mark else ["xx", p[2:]]
    return out


def _join(tokens: Sequence[str]) -> str:
    out: list[str] = []
    stack = [t for t in reversed(tokens) if t not in (BOS, PAD)]
    mark, copies, space = "", 1, False
    is_open: set[str] = set()
    after_word = False
    while stack:
        token = stack.pop()
        if token in (MAJ, UP):
            mark = token
            continue
        if token in (REP, WREP):
            n = _number(stack)
            if n is None:
                continue
            if token == WREP:
                copies = n
                continue
            if not stack:
                break
            unit = stack.pop()
            if unit in SPECIALS:
                stack.append(unit)
                continue
            token = unit * n
            if unit.isalpha() and after_word:
                space = False
        else:
            unit = token
        if mark and token not in SPECIALS:
            token = token.upper() if mark == UP else token[:1].upper() + token[1:]
            mark = ""
        if copies > 1:
            token, copies = " ".join([token] * copies), 1
        closes = unit in is_open
        if space and not (unit in _NO_SPACE_BEFORE or unit in _GLUED or closes):
            out.append(" ")
        out.append(token)
        space = not (unit in _NO_SPACE_AFTER or unit in _GLUED)
        if unit in _IN_PAIRS and len(token) == 1:
            is_open ^= {unit}
            space = closes
        after_word = unit[-1:].isalpha() and unit not in SPECIALS
    return "".join(out)


def _number(stack: list[str]) -> int | None:
    """The number on top, taken off; None if there is none."""
    if stack and stack[-1].isascii() and stack[-1].isdecimal() and len(stack[-1]) < 9:
        return min(int(stack.pop()), _MOST_COPIES)
    return None
