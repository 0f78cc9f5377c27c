"""The rules of words: which words and signs a text has, which marks stand for capitals and repeats, and back."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ..errors import DataError
from .vocab import BOS, FLD, MAJ, PAD, REP, SPECIALS, UP, WREP

REPEATS = 3  # so many of the same in a row become a mark and a number
LINE = "\ufdd0"  # stands for a line break while text is split at whitespace; Unicode keeps it free for such uses
_MOST_COPIES = 10_000  # what `join` writes for a number of repeats that a model made up

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROMAN = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
# What the parts of `patterns` find in printable ASCII without an address.
_ASCII = re.compile(
    r"(?:[A-Za-z]\.){2,}|[0-9]+(?:[.,:][0-9]+)+(?!\w)|[A-Za-z0-9]+(?:'[A-Za-z0-9]+)*|(?P<sign>[^A-Za-z0-9])(?P=sign)*"
)
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_AT = re.compile(r"@[\w-]+(?:\.[\w-]+)+")
_BEFORE_AT = re.compile(r"[\w.+-]+")
_ENDINGS = ("n't", "'s", "'d", "'m", "'re", "'ve", "'ll")
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%\u201d\u2019…»、。\uff0c\uff01\uff1f\uff1a\uff1b\uff09」』") | set(_ENDINGS)
_NO_SPACE_AFTER = frozenset("([{\u201c\u2018«$£€#@¿¡「『\uff08")
_GLUED = frozenset({"-", "--", "—", "/", "\n"})
_IN_PAIRS = frozenset("\"'_*`")
IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)


def check_text(text: str) -> None:
    """Refuse what is no text."""
    if not isinstance(text, str):
        raise DataError(f"a tokenizer takes texts, got {text!r:.60}, a {type(text).__name__}")


def plain(text: str) -> str:
    """Text without html's line breaks and entities."""
    if "<" in text:
        text = _BREAK.sub("\n", text)
    if "&" in text:
        text = _ENTITY.sub(lambda m: html.unescape(m[0]), text)
    return text


def line_ends(text: str) -> str:
    """Text with line breaks of one kind."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def without_surrogates(text: str) -> str:
    """Text that can be encoded: lone surrogates become U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def cut(text: str, size: int, where: re.Pattern[str]) -> Iterator[str]:
    """The text in pieces of about `size` characters, each beginning with a match of `where`."""
    begin = 0
    while len(text) - begin > size:
        found = where.search(text, begin + size)
        if found is None:
            break
        yield text[begin : found.start()]
        begin = found.start()
    yield text[begin:] if begin else text


def word_parts(word: str) -> list[str]:
    """Words and signs of a string without whitespace, their case kept: "(don't" is "(" and "don't"."""
    if word.isascii() and word.isprintable() and "@" not in word and ":/" not in word and "www." not in word:
        # Nearly all of English text. Only the last sign of most words is not a letter.
        if word.isalpha():
            return [word]
        if word[:-1].isalpha() and word[-1] in ".,;:!?" and len(word) > 2:
            return [word[:-1], word[-1]]
        return [m[0] for m in _ASCII.finditer(word)]
    dropped, pattern = patterns()
    return _parts(pattern, unicodedata.normalize("NFC", without_surrogates(dropped.sub("", word))))


def _parts(pattern: re.Pattern[str], word: str) -> list[str]:
    """What the pattern of parts finds, and mail addresses.

    Those are looked for from each @ on, since a pattern of them would read to the end of the word from each character:
    an address begins at the first part that lies among the characters before the @.
    """
    found, begin = [], 0
    for sign in _AT.finditer(word):
        at = sign.start()
        name = _BEFORE_AT.match(word[begin:at][::-1])
        first = at if name is None else at - name.end()
        while begin < at and (part := pattern.search(word, begin)) is not None:
            is_mail = first <= part.start() < at and part["url"] is None
            begin = sign.end() if is_mail else part.end()
            found.append(word[part.start() : begin])
    return found + [m[0] for m in pattern.finditer(word, begin)]


def expand(part: str, lower: bool) -> tuple[str, ...]:
    """The tokens of one of the `word_parts`, marks and what they mark: "LIKE" is xxup like, "didn't" is did n't."""
    if part in ("\n", FLD):
        return (part,)
    if part.isascii() and part.isalpha() and not part.lower().startswith("xx") and not _RUN.search(part.lower()):
        return (*_capitals(part, lower), part.lower() if lower else part)
    first = part[0]
    if not (first.isalnum() or unicodedata.category(first)[0] in "LM"):
        return _expand_sign(part)
    if "://" in part or "@" in part or part.startswith("www."):
        return (part.lower() if lower else part,)
    small, endings = _without_endings((part.lower() if lower else part).replace("\u2019", "'"))
    pieces = [small] if part.isdecimal() or (part.isascii() and _ROMAN.fullmatch(part)) else _without_runs(small)
    return (*_capitals(part, lower), *pieces, *endings)


def _capitals(part: str, lower: bool) -> tuple[str, ...]:
    """The mark of a word's capitals, if it has them."""
    if not lower or not (part[0].isupper() or part[0].istitle()):
        return ()
    return (UP,) if part.isupper() and sum(c.isalpha() for c in part) > 1 else (MAJ,)


def _without_endings(word: str) -> tuple[str, list[str]]:
    """What is left of a contraction, and its endings."""
    endings: list[str] = []
    while "'" in word[-3:]:
        ending = next((e for e in _ENDINGS if word[-len(e) :].lower() == e and len(word) > len(e)), None)
        if ending is None:
            break
        endings.append(word[-len(ending) :])
        word = word[: -len(ending)]
    return word, endings[::-1]


def can_repeat(tokens: tuple[str, ...]) -> bool:
    """Whether these tokens are one word, marks aside: only then is a repeat counted."""
    return tokens[-1][0].isalnum() and (len(tokens) == 1 or (len(tokens) == 2 and tokens[0] in (MAJ, UP)))


@functools.cache
def patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What is dropped, and the parts of a word; made late, for Unicode's tables take some milliseconds."""
    marks = _ranges(c for c in range(0x300, 0x20000) if unicodedata.category(chr(c))[0] == "M")
    marks += "\u200c\u200d"  # joiners within words, as in Persian
    formats = (c for c in range(0x80, 0x20000) if unicodedata.category(chr(c)) == "Cf" and c not in (0x200C, 0x200D))
    word = f"[^\\W_{IDEOGRAPHS}]+(?:[{marks}]+[^\\W_{IDEOGRAPHS}]*)*"
    emoji = f"[{_EMOJI}][\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
    parts = [
        r"(?P<url>(?:https?://|www\.)[^\s<>\"\u201c\u201d]*[^\s<>\"\u201c\u201d.,;:!?)\]}'\u2019])",
        "[\U0001f1e6-\U0001f1ff]{2}",
        "[0-9#*]\ufe0f?\u20e3",
        f"(?P<emoji>{emoji}(?:\u200d{emoji})*)(?P=emoji)*",
        r"(?:[^\W\d_]\.){2,}",
        r"\d+(?:[.,:]\d+)+(?!\w)",
        f"{word}(?:['\u2019]{word})*",
        f"[{IDEOGRAPHS}][{marks}]*",
        f"(?P<sign>[^\\w\\s{marks}]|_)(?P=sign)*[{marks}]*",
    ]
    return re.compile(f"[\\x00-\\x08\\x0e-\\x1b\\x7f-\\x9f{_ranges(formats)}]"), re.compile("|".join(parts))


def _ranges(codes: Iterable[int]) -> str:
    """Code points as the inside of a character class."""
    runs = (list(run) for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0]))
    return "".join(f"{re.escape(chr(run[0][1]))}-{re.escape(chr(run[-1][1]))}" for run in runs)


def _expand_sign(part: str) -> tuple[str, ...]:
    """A sign or emoji, or the same one several times."""
    found = patterns()[1].fullmatch(part)
    unit = (found["emoji"] or found["sign"]) if found else None
    if unit is None or len(part) == len(unit) or len(part) % len(unit):
        return (part,)
    n = len(part) // len(unit)
    if n >= REPEATS:
        return (REP, str(n), unit)
    return (part,) if part == "--" else (unit,) * n


def _without_runs(word: str) -> list[str]:
    """A word, with marks where a letter comes three or more times in a row; what reads like a mark itself is parted."""
    out: list[str] = []
    begin = 0
    for run in (*_RUN.finditer(word), None):
        text = word[begin : None if run is None else run.start()]
        if text:
            out += ["xx", text[2:]] if text in SPECIALS else [text]
        if run is not None:
            out += (REP, str(len(run[0])), run[1])
            begin = run.end()
    return out


def join_words(tokens: Sequence[str]) -> str:
    """Readable text; spaces around signs are guessed, and a repeated letter is put to the word before it."""
    out: list[str] = []
    space = after_word = False
    is_open: set[str] = set()
    for token, unit, is_run in _unmarked(tokens):
        closes = unit in is_open
        if is_run and unit.isalpha() and after_word:
            space = False
        if space and not (unit in _NO_SPACE_BEFORE or unit in _GLUED or closes):
            out.append(" ")
        out.append(token)
        space = not (unit in _NO_SPACE_AFTER or unit in _GLUED)
        if unit in _IN_PAIRS and len(token) == 1:
            is_open ^= {unit}
            space = closes
        after_word = unit[-1:].isalpha() and unit not in SPECIALS
    return "".join(out)


def _unmarked(tokens: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """What is left without marks: what to write, the single token or letter in it, and whether `xxrep` repeats it."""
    stack = [t for t in reversed(tokens) if t not in (BOS, PAD)]
    capitals, copies = "", 1
    while stack:
        token = unit = stack.pop()
        is_run = token == REP
        if token in (MAJ, UP):
            capitals = token
            continue
        if token in (REP, WREP):
            n = _number(stack)
            if n is not None and token == WREP:
                copies = n
            if n is None or token == WREP or not stack or stack[-1] in SPECIALS:
                continue
            unit = stack.pop()
            token = unit * n
        if capitals and token not in SPECIALS:
            token = token.upper() if capitals == UP else token[:1].upper() + token[1:]
            capitals = ""
        if copies > 1:  # a word that is itself a repeat: the bound is on both together
            fewer = max(1, _MOST_COPIES * len(unit) // len(token))
            token, copies = " ".join([token] * min(copies, fewer)), 1
        yield token, unit, is_run


def _number(stack: list[str]) -> int | None:
    """The number on top, taken off; None if there is none."""
    if stack and stack[-1].isascii() and stack[-1].isdecimal() and len(stack[-1]) < 9:
        return min(int(stack.pop()), _MOST_COPIES)
    return None
