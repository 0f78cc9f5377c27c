"""Pieces of words, learned from text by the `tokenizers` library."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NoReturn

import numpy as np

from ..errors import ArgumentError, StateError
from .store import Ints
from .tokenize import VERSION, Counter, SequenceIds, Tokenizer
from .vocab import BOS, FLD, PAD
from .words import check_text, cut, line_ends, plain, without_surrogates

SubwordKind = Literal["bpe", "unigram"]

SUBWORDS = 8000  # tokens of a subword vocabulary, unless another number is asked for
_RUST_PIECE = 100_000  # characters given to the Rust library as one text
_SAFE_CUT = re.compile(r"(?<=\S) (?=\S)")


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
        pieces = (piece for text in texts for piece in cut(_for_subwords(text), _RUST_PIECE, _SAFE_CUT))
        rust.train_from_iterator(pieces, trainer(**how, show_progress=progress))
        return cls(rust.to_str())

    def encode(self, texts: Sequence[str]) -> tuple[SequenceIds, Ints]:
        """Positions in `closed` of the tokens of all `texts`, one after the other, and how many each text has."""
        pieces = [list(cut(_for_subwords(text), _RUST_PIECE, _SAFE_CUT)) for text in texts]
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


class UntrainedTokenizer(Tokenizer):
    """The wish for subwords of a `kind` before there is text to learn them from; `TextProcessor.fit` trains it."""

    def __init__(self, kind: SubwordKind) -> None:
        self.name = self.kind = kind

    def _refuse(self, *given: object) -> NoReturn:
        raise StateError(
            f"the {self.kind} tokenizer is not trained yet: pass it to TextProcessor.fit, or use SubwordTokenizer.train"
        )

    counter = join = state_dict = _refuse


def _for_subwords(text: str) -> str:
    check_text(text)
    return without_surrogates(line_ends(plain(text)))
