"""The names of classes: how values are called, in which order, and which look as if something went wrong."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import EasyLearnWarning
from .levels import Level, in_order

_WHOLE = re.compile(r"-?\d+", re.ASCII)
_SEPARATORS = (";", "|", ",", "&", "+", "/", " ")


def word(value: Level) -> str:
    """The name of a class: whole numbers without a decimal point, everything else as it is written.

    >>> word(1.0), word("neg"), word(True), word(0.5)
    ('1', 'neg', 'True', '0.5')
    """
    return str(int(value)) if is_whole(value) and not isinstance(value, bool) else str(value)


def is_whole(value: Level) -> bool:
    """Whether it is a number without a fraction.

    >>> is_whole(2.0), is_whole(0.5), is_whole("2")
    (True, False, False)
    """
    if isinstance(value, int):
        return True
    return isinstance(value, float | Decimal) and bool(np.isfinite(float(value))) and value == int(value)


def order_classes(by_word: Mapping[str, Level]) -> list[Level]:
    """Classes, given by their names, in the order of the model's outputs, which never depends on that of the items.

    Whole numbers, also as text, come by value, other text by alphabet, and anything else as `in_order` has it.

    >>> order_classes({"10": "10", "9": "9"}), order_classes({"b": "b", "10": 10, "9": 9})
    (['9', '10'], [10, 9, 'b'])
    """
    if all(_WHOLE.fullmatch(w) for w in by_word):
        return [by_word[w] for w in sorted(by_word, key=lambda w: (int(w), w))]
    if any(isinstance(v, str) for v in by_word.values()):
        return [by_word[w] for w in sorted(by_word)]
    return in_order(by_word.values())


def split_labels(text: str, sep: str) -> list[str]:
    """The labels in a cell of text, each once.

    >>> split_labels("rude; toxic;rude", ";"), split_labels(" clear  road", " ")
    (['rude', 'toxic'], ['clear', 'road'])
    """
    parts = text.split() if sep == " " else [p.strip() for p in text.split(sep)]
    return list(dict.fromkeys(p for p in parts if p))


def as_list(cell: Any) -> list[Any] | None:
    """What a cell holds that is a list, tuple, set or array; None for other cells."""
    if isinstance(cell, np.ndarray | Tensor) and cell.ndim:
        return list(cell.tolist())
    return list(cell) if isinstance(cell, list | tuple | set | frozenset) else None


def forgotten_separator(words: Iterable[str]) -> str | None:
    """What seems to stand between several labels in what was taken for one class each; None if nothing does.

    >>> forgotten_separator(["a b", "a", "b c"]), forgotten_separator(["golden retriever", "red setter", "pug"])
    (' ', None)
    """
    classes = list(words)[:10_000]
    for sep in _SEPARATORS:
        lists = [split_labels(w, sep) for w in classes]
        counts = Counter(label for labels in lists for label in labels)
        again = sum(n > 1 for n in counts.values())
        if sum(len(labels) > 1 for labels in lists) > 1 and len(counts) <= len(classes) and 2 * again >= len(counts):
            return sep
    return None


def tell_twins(words: Iterable[str], column: str) -> None:
    """Warn of classes that look the same: they differ by blanks, by how unicode writes them, or by case only."""
    words = list(words)
    first: dict[str, str] = {}
    for given in words:
        other = first.setdefault(bare(given), given)
        if other != given:
            unseen = "".join(sorted({c for c in other + given if unicodedata.category(c) == "Cf"}))
            removed = f".str.replace({f'[{unseen}]'!a}, '', regex=True)" if unseen else ""
            warnings.warn(
                f"the labels {other!a} and {given!a} of the target {column!r} differ only by blanks or by "
                "unicode's normal form, and are two classes. If they are one, write them alike: "
                f"df[{column!r}]{removed}.str.split().str.join(' ').str.normalize('NFC')",
                EasyLearnWarning,
                stacklevel=5,
            )
    by_case: dict[str, list[str]] = {}
    for given in first:
        if len(given) > 1:  # letters are often classes of their own
            by_case.setdefault(given.casefold(), []).append(given)
    twins = [same for same in by_case.values() if len(same) > 1]
    if twins:
        more = f" (and {len(twins) - 1} more such)" if len(twins) > 1 else ""
        warnings.warn(
            f"the labels {' and '.join(map(repr, twins[0][:3]))}{more} of the target {column!r} differ only by case, "
            f"and are classes of their own. If they are one, write them alike: df[{column!r}].str.lower()",
            EasyLearnWarning,
            stacklevel=5,
        )


def bare(label: str) -> str:
    r"""A label without what cannot be seen: blanks around it or doubled, signs without width, ways to write one letter.

    >>> bare(" cafe\u0301 \u200b au  lait") == "caf\u00e9 au lait"
    True
    """
    if not label.isascii():
        label = "".join(c for c in unicodedata.normalize("NFC", label) if unicodedata.category(c) != "Cf")
    return " ".join(label.split())
