"""Tokens and their numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ..errors import ArgumentError, DataError, EasyLearnWarning, StateError
from ..files import digest

UNK, PAD, BOS, FLD, MAJ, UP, REP, WREP = "xxunk", "xxpad", "xxbos", "xxfld", "xxmaj", "xxup", "xxrep", "xxwrep"
SPECIALS = (UNK, PAD, BOS, FLD, MAJ, UP, REP, WREP)
FEW_KNOWN = 0.5  # below this share of known words a transfer is probably a mistake
_VERSION = 1


def check_version(state: Mapping[str, Any], version: int, of: str) -> None:
    """Refuse the state of something that another version of easylearn wrote."""
    if state.get("version") != version:
        raise StateError(
            f"the state of this {of} has version {state.get('version')!r}, this easylearn reads {version}; install the "
            "easylearn that wrote it, or a newer one"
        )


def warn_of_strangers(source: str, unknown: Sequence[str], total: int, kind: str) -> None:
    """Say where what has weights knows few of a vocabulary's words, which is probably a mistake."""
    if total - len(unknown) < FEW_KNOWN * total:
        warnings.warn(
            f"{source} knows only {total - len(unknown):,} of the {total:,} {kind} of this vocabulary (unknown: "
            f"{list(unknown[:8])}). Is it of another language, or made with another tokenizer?",
            EasyLearnWarning,
            stacklevel=4,
        )


class Vocab:
    """The tokens that a model knows, in the order of their numbers.

    Args:
        tokens: all different. Those of `SPECIALS` that are missing are put first, so that 0 is *unknown*, 1 is
            *padding* and 2 begins a document, unless `tokens` itself says otherwise.
        tokenizer: the `Tokenizer` that makes these tokens, where it is known, so that who gets the vocabulary
            splits texts in the same way. Two vocabularies with the same tokens are equal whatever it is.

    Raises:
        ArgumentError: a token is there twice, or is no text.

    >>> vocab = Vocab(["the", "film"])
    >>> len(vocab), vocab.id_of("the"), vocab[8], vocab.id_of("zebra") == vocab.unk
    (10, 8, 'the', True)
    """

    def __init__(self, tokens: Sequence[str], tokenizer: Any = None) -> None:
        if isinstance(tokens, str):
            raise ArgumentError(f"tokens must be a list of texts, got one text {tokens[:40]!r}")
        self.tokenizer = tokenizer
        given = tuple(tokens)
        held = set(given)
        self.tokens: tuple[str, ...] = (*(t for t in SPECIALS if t not in held), *given)
        self.ids: dict[str, int] = {t: i for i, t in enumerate(self.tokens)}
        for i, token in enumerate(self.tokens):
            if not isinstance(token, str):
                raise ArgumentError(f"tokens must be texts, but one is {token!r}, a {type(token).__name__}")
            if self.ids[token] != i:
                raise ArgumentError(
                    f"every token must be there once, but {token!r} is there more than once; "
                    "list(dict.fromkeys(tokens)) keeps the first of each"
                )
        self.unk, self.pad, self.bos = (self.ids[t] for t in (UNK, PAD, BOS))

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], max_size: int = 60_000, min_freq: int = 2) -> Vocab:
        """The most frequent tokens; ties go by the alphabet, so that equal counts give equal vocabularies.

        Args:
            counts: how often each token occurred.
            max_size: tokens at most, special ones included.
            min_freq: rarer tokens become *unknown*.

        >>> Vocab.from_counts({"b": 3, "a": 3, "c": 9, "rare": 1}).tokens[8:]
        ('c', 'a', 'b')
        """
        if max_size <= len(SPECIALS):
            raise ArgumentError(f"max_size must leave room beside the {len(SPECIALS)} special tokens, got {max_size}")
        if min_freq < 1:
            raise ArgumentError(f"min_freq must be at least 1, got {min_freq}")
        kept = sorted((-n, t) for t, n in counts.items() if n >= min_freq and t not in SPECIALS)
        return cls([t for _, t in kept[: max_size - len(SPECIALS)]])

    def id_of(self, token: str) -> int:
        """The number of a `token`; that of *unknown* if it is none of these."""
        return self.ids.get(token, self.unk)

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the tokens in their order."""
        return digest(t.encode("utf-8", "surrogatepass") for t in self.tokens)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain lists and numbers."""
        return {"version": _VERSION, "tokens": list(self.tokens)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Vocab:
        """The vocabulary whose `state_dict` this `state` is."""
        if not isinstance(state, Mapping) or not isinstance(state.get("tokens"), list | tuple):
            raise StateError("this is not the state of a Vocab: it lacks its list of tokens")
        check_version(state, _VERSION, "Vocab")
        return cls(state["tokens"])

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i: int) -> str:
        if not 0 <= i < len(self.tokens):
            raise DataError(f"the vocabulary has tokens 0 to {len(self.tokens) - 1}, but {i} was asked for")
        return self.tokens[i]

    def __contains__(self, token: object) -> bool:
        return token in self.ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def __repr__(self) -> str:
        return f"Vocab({len(self)} tokens: {', '.join(self.tokens[len(SPECIALS) : len(SPECIALS) + 5])} ...)"
