from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.texts.vocab import BOS, PAD, SPECIALS, UNK, Vocab


def test_counts_are_ordered_as_by_a_plain_sort() -> None:
    rng = random.Random(0)
    counts = Counter(rng.choice("abcdefghijklmnop") * rng.randint(1, 3) for _ in range(500))
    want = sorted((t for t in counts if counts[t] >= 5), key=lambda t: (-counts[t], t))[:12]
    items = list(counts.items())
    rng.shuffle(items)
    assert list(Vocab.from_counts(dict(items), max_size=len(SPECIALS) + 12, min_freq=5).tokens) == [*SPECIALS, *want]


def test_special_tokens_come_first_unless_they_have_a_place() -> None:
    vocab = Vocab(["the", "film"])
    assert vocab.tokens == (*SPECIALS, "the", "film")
    assert (vocab.unk, vocab.pad, vocab.bos) == (0, 1, 2) == tuple(vocab.ids[t] for t in (UNK, PAD, BOS))
    other = Vocab(["_", "xxpad", "the", "xxunk"])
    assert other.tokens[-4:] == ("_", "xxpad", "the", "xxunk") and other.tokens[other.unk] == "xxunk"
    assert Vocab.from_counts({"xxbos": 9, "a": 3}).tokens == (*SPECIALS, "a")


def test_lookup() -> None:
    vocab = Vocab(["the"])
    assert vocab[8] == "the" and vocab.id_of("the") == 8 and vocab.id_of("?") == vocab.unk
    assert len(vocab) == 9 and "the" in vocab and "a" not in vocab
    assert "9 tokens" in repr(vocab)
    for i in (9, -1):
        with pytest.raises(DataError, match=f"0 to 8, but {i}"):
            vocab[i]


def test_state_equality_and_digest() -> None:
    a, b = Vocab(["the", "film"]), Vocab(["film", "the"])
    again = Vocab.from_state(json.loads(json.dumps(a.state_dict())))
    assert again == a and hash(again) == hash(a) and again.digest == a.digest
    assert a != b and a.digest != b.digest and a != 3
    assert Vocab(["ab", "c"]).digest != Vocab(["a", "bc"]).digest
    assert Vocab(["\ud800"]).digest


@pytest.mark.parametrize(
    "state", [{}, {"version": 1}, {"version": 99, "tokens": []}, [], {"version": 1, "tokens": "ab"}]
)
def test_foreign_states_are_refused(state: object) -> None:
    with pytest.raises(StateError):
        Vocab.from_state(state)  # type: ignore[arg-type]


def test_bad_tokens_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'film' is there more than once"):
        Vocab(["film", "the", "film"])
    with pytest.raises(ArgumentError, match="more than once"):
        Vocab(["xxbos", "xxbos"])
    with pytest.raises(ArgumentError, match="one is 3, a int"):
        Vocab(["a", 3])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="one text 'film'"):
        Vocab("film")
    with pytest.raises(ArgumentError, match="max_size"):
        Vocab.from_counts({}, max_size=8)
    with pytest.raises(ArgumentError, match="min_freq"):
        Vocab.from_counts({}, min_freq=0)
