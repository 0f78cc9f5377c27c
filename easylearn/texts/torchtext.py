"""What torchtext brought, taken as it is: vocabularies, word vectors and streams of (label, text).

Objects are known by what they can do and not by their class, so nothing here imports torchtext, whose last version
loads with torch 2.3 only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, DataError, WeightsError, did_you_mean
from .sources import is_frame
from .tokenize import Tokenizer
from .vocab import BOS, PAD, SPECIALS, UNK, Vocab, warn_of_strangers

TOKEN_MARK = "\x1f"  # Unicode's separator of units: stands before each token of a text that came in tokens

_SPELLINGS = {
    UNK: ("<unk>", "[UNK]", "<UNK>"),
    PAD: ("<pad>", "[PAD]", "<PAD>"),
    BOS: ("<bos>", "<s>", "<sos>", "[CLS]", "<BOS>"),
}


def as_vocab(given: Any) -> Vocab | None:
    """A vocabulary out of ours, torchtext's (with `get_itos`) or an object with a list `itos`; None if it is none.

    A token keeps its number. Those that stand for *unknown* (the default index), *padding* and the beginning of a text
    (`<unk>`, `<pad>`, `<bos>` and the like) get our names; what our tokenizers need besides comes after the last one.
    """
    if isinstance(given, Vocab):
        return given
    read = getattr(given, "get_itos", None)
    tokens = read() if callable(read) else getattr(given, "itos", None)
    if not isinstance(tokens, list | tuple):
        return None
    names = list(tokens)
    index = getattr(given, "get_default_index", None)
    default = index() if callable(index) else None
    if UNK not in names and default is not None and names[default] not in SPECIALS:
        names[default] = UNK
    for special, spellings in _SPELLINGS.items():
        if special not in names:
            found = [s for s in spellings if s in names]
            if found:
                names[names.index(found[0])] = special
    return Vocab([*names, *(s for s in SPECIALS if s not in names)])


def read_pairs(pairs: Iterable[tuple[Any, Any]], where: str = "pairs") -> tuple[list[str], list[Any]]:
    """Texts and labels out of a torchtext dataset; messages call it `where`.

    Its items are (label, text), as most are; or (text, label) as in SST2, where the labels are no texts.
    """
    if isinstance(pairs, str | Mapping) or not _is_iterable(pairs):
        raise ArgumentError(f"{where} must be an iterable of (label, text), got a {type(pairs).__name__}")
    texts: list[str] = []
    labels: list[Any] = []
    place = None  # of the text, as the first pair has it
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"{where}: item {i} must be (label, text), got {pair!r:.80}, a {type(pair).__name__}")
        if place is None:
            place = 1 if isinstance(pair[1], str) else 0
        if not isinstance(pair[place], str):
            order = "(text, label) like those before it" if i and not place else "(label, text)"
            raise DataError(f"{where}: item {i} must be {order}, got {tuple(pair)!r:.80}")
        texts.append(pair[place])
        labels.append(pair[1 - place])
    if not texts:
        raise DataError(f"{where}: there is no (label, text) in it; an iterator that was read once is empty afterwards")
    return texts, labels


def field_tokenizer(field: Any) -> Any:
    """A tokenizer out of what 2018 passed as a field: a function, or an object like torchtext's old `Field`."""
    if field is None or isinstance(field, str | Tokenizer):
        return field
    tokenize = getattr(field, "tokenize", None)
    if not callable(tokenize):
        if callable(field):
            return field
        raise ArgumentError(
            "field must be a function from a text to a list of tokens, an object like torchtext's old Field, with a "
            f"function tokenize, or None, got {type(field).__name__}"
        )
    preprocess = getattr(field, "preprocess", None)
    if callable(preprocess):
        return preprocess
    return (lambda text: [t.lower() for t in tokenize(text)]) if getattr(field, "lower", False) else tokenize


def read_examples(split: Any, text: str, label: str, where: str) -> tuple[list[str], list[Any]]:
    """Texts and labels out of columns of a table, pairs, or attributes of the `examples` of an old dataset."""
    if is_frame(split):
        missing = [n for n in (text, label) if n not in split.columns and (where, n) != ("test", label)]
        if missing:
            raise DataError(
                f"{where} has no column {missing[0]!r}. {did_you_mean(missing[0], map(str, split.columns))}"
            )
        return split[text].tolist(), split[label].tolist() if label in split.columns else []
    examples = getattr(split, "examples", None)
    if examples is None:
        return read_pairs(split, where)
    texts: list[str] = []
    labels: list[Any] = []
    for i, example in enumerate(examples):
        found, given = getattr(example, text, None), getattr(example, label, None)
        if isinstance(found, list | tuple):
            found = "".join(f"{TOKEN_MARK}{t}" for t in found)
        if not isinstance(found, str) or (given is None and where != "test"):
            raise DataError(f"{where}: example {i} must have {text!r}, a text or tokens, and {label!r}")
        texts.append(found)
        labels.append(given)
    return texts, labels


def given_tokens(tokenizer: Tokenizer) -> Callable[[str], list[str]]:
    """A tokenizer that takes texts which came in tokens as they came, each token after a mark."""

    def tokens_as_given(text: str) -> list[str]:
        if text.startswith(TOKEN_MARK):
            return text.split(TOKEN_MARK)[1:]
        return tokenizer.tokenize([text])[0]

    return tokens_as_given


def are_pairs(given: Any) -> bool:
    """Whether this is an iterable of pairs, and not a fraction, a list of positions or a mask."""
    if isinstance(given, list | tuple):
        return bool(given) and isinstance(given[0], tuple | list)
    if given is None or isinstance(given, str | Tensor | range) or callable(getattr(given, "__array__", None)):
        return False
    return _is_iterable(given)


def _is_iterable(given: Any) -> bool:
    return isinstance(given, Iterable) or callable(getattr(given, "__getitem__", None))


def set_vectors(embedding: nn.Embedding, vocab: Vocab, vectors: Any) -> int:
    """Start the embedding of a vocabulary from word vectors, words matched by name; how many were known.

    Others stay as they are, and padding 0. The numbers are taken as they are: those of GloVe are several times as large
    as what an AWD-LSTM starts from, and serve it well all the same.
    """
    table = vector_table(vectors)
    if table.shape[1] != embedding.embedding_dim:
        raise ArgumentError(
            f"the vectors have {table.shape[1]} numbers per word, the model's embedding has {embedding.embedding_dim}; "
            f"make the learner with emb_size={table.shape[1]}, or leave emb_size out"
        )
    place = _places(vectors, len(table))
    found: dict[int, int] = {}
    for i, token in enumerate(vocab.tokens):
        names = [t for t in (token, *_SPELLINGS.get(token, ())) if t in place and token != PAD]
        if names:
            found[i] = place[names[0]]
    if not found:
        raise WeightsError(f"the vectors know none of the vocabulary's words, such as {list(vocab.tokens[8:14])}")
    unknown = [t for i, t in enumerate(vocab.tokens) if i not in found and t not in SPECIALS]
    warn_of_strangers("the table of vectors", unknown, len(vocab) - len(SPECIALS), "words")
    rows = table[torch.tensor(list(found.values()))]
    bad = (~torch.isfinite(rows).all(1)).nonzero().flatten().tolist()
    if bad:
        tokens = [vocab[list(found)[i]] for i in bad[:5]]
        raise WeightsError(f"the vectors of {len(bad)} words hold numbers that are not finite, such as {tokens}")
    with torch.no_grad():
        weight = embedding.weight
        weight[torch.tensor(list(found), device=weight.device)] = rows.to(weight)
    return len(found)


def vector_table(vectors: Any) -> Tensor:
    """The vectors themselves, of `vectors` as `set_vectors` takes them, shape (words, numbers)."""
    table = getattr(vectors, "vectors", None)
    if not isinstance(table, Tensor) or table.ndim != 2:
        raise ArgumentError(
            "vectors must be word vectors as torchtext.vocab.Vectors or GloVe are, with a tensor .vectors of shape "
            f"(words, numbers) and .stoi or .itos, got {type(vectors).__name__}"
        )
    return table


def _places(vectors: Any, n: int) -> Mapping[str, int]:
    """The row of each word."""
    stoi, itos = getattr(vectors, "stoi", None), getattr(vectors, "itos", None)
    if not isinstance(stoi, Mapping):
        if not isinstance(itos, Sequence) or isinstance(itos, str) or len(itos) != n:
            raise ArgumentError(f"vectors need .stoi or .itos, the words of their {n:,} rows")
        return {token: i for i, token in reversed(list(enumerate(itos)))}  # the first of equal ones
    if len(stoi) > n:
        raise ArgumentError(f"the vectors have {n:,} rows for {len(stoi):,} words")
    return stoi
