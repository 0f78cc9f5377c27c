from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError, SaveError, StateError
from easylearn.texts import processing
from easylearn.texts import store as stores
from easylearn.texts.processing import TextProcessor
from easylearn.texts.sources import Documents
from easylearn.texts.store import TokenStore
from easylearn.texts.tokenize import (
    FunctionTokenizer,
    SubwordTokenizer,
    Tokenizer,
    UntrainedTokenizer,
    WordTokenizer,
    as_tokenizer,
    tokenizer_from_state,
)
from easylearn.texts.vocab import SPECIALS, Vocab
from easylearn.train import waiting

PROSE = "It was the best of times, it was the worst of times; Don't say the LOWEST price is 1,000.50! " * 3


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def corpus(n: int = 60, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    words = ["the", "The", "film", "GOOD", "don't", "no no no", "bad", "really!!!", "3.50", "soooo", "été", "\n"]
    words += [f"w{i}" for i in range(40)]
    return [" ".join(rng.choices(words, k=rng.randint(0, 30))) for _ in range(n)]


def plain(texts: list[str], tokenizer: Tokenizer, max_vocab: int, min_freq: int) -> tuple[Vocab, list[list[int]]]:
    """The same in the obvious way."""
    rows = [tokenizer.tokenize([t])[0] for t in texts]
    vocab = Vocab.from_counts(Counter(t for r in rows for t in r), max_vocab, min_freq)
    return vocab, [[vocab.bos, *map(vocab.id_of, r)] for r in rows]


def rows_of(store: TokenStore) -> list[list[int]]:
    return [store.doc(i).tolist() for i in range(len(store))]


# Compared with the obvious way


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 30), size=st.integers(1, 300), min_freq=st.integers(1, 3),
    max_vocab=st.integers(9, 60), spill=st.booleans(),
)  # fmt: skip
def test_fit_is_counting_and_looking_up(
    seed: int, n: int, size: int, min_freq: int, max_vocab: int, spill: bool
) -> None:
    texts = corpus(n, seed)
    vocab, want = plain(texts, WordTokenizer(), max_vocab, min_freq)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing, "_BATCH_CHARACTERS", size)
        patch.setattr(stores, "IN_MEMORY", 50 if spill else 2**20)
        processor, store = TextProcessor.fit(Documents.from_list(texts), max_vocab=max_vocab, min_freq=min_freq)
        assert processor.vocab == vocab and rows_of(store) == want
        assert rows_of(processor.store(Documents.from_list(texts[::-1]))) == want[::-1]
    assert [processor.encode(t) for t in texts] == want


def test_the_first_of_fit_is_that_of_store_and_of_a_given_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    docs = Documents.from_list(corpus())
    with monkeypatch.context() as patch:
        patch.setattr(stores, "IN_MEMORY", 100)
        processor, store = TextProcessor.fit(docs)
    assert isinstance(store.ids, np.memmap) and store.ids.dtype == np.uint16
    again, same = TextProcessor.fit(docs, vocab=processor.vocab)
    assert again.vocab is processor.vocab
    assert store.digest == same.digest == processor.store(docs).digest
    assert processor.encode_all(list(docs)).digest == same.digest


@pytest.mark.parametrize("count", [1, 2])
def test_processes_change_nothing(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = corpus(300)
    want = TextProcessor.fit(Documents.from_list(texts))
    monkeypatch.setattr(processing, "usual_workers", lambda: count)
    monkeypatch.setattr(processing, "WARM_UP", 2000)
    monkeypatch.setattr(processing, "_BATCH_CHARACTERS", 500)
    got = TextProcessor.fit(Documents.from_list(texts))
    assert got[0].vocab == want[0].vocab and got[1].digest == want[1].digest
    assert got[0].store(Documents.from_list(texts)).digest == want[1].digest


def test_an_error_in_the_source_ends_the_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i:02}.txt").write_bytes(b"some words\xff" if i == 25 else b"some words " * 50)
    monkeypatch.setattr(processing, "usual_workers", lambda: 2)
    monkeypatch.setattr(processing, "WARM_UP", 500)
    monkeypatch.setattr(processing, "_BATCH_CHARACTERS", 500)
    with pytest.raises(DataError, match=r"25\.txt is not utf-8"):
        TextProcessor.fit(Documents.from_folder(tmp_path))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subwords_are_trained_and_all_kept(kind: str) -> None:
    docs = Documents.from_list(corpus())
    processor, store = TextProcessor.fit(docs, kind)
    assert isinstance(processor.tokenizer, SubwordTokenizer) and processor.tokenizer.name == kind
    assert set(processor.tokenizer.closed or ()) <= set(processor.vocab.tokens)
    assert rows_of(store) == [processor.encode(t) for t in docs]
    assert [processor.decode(store.doc(i)) for i in range(len(store))] == list(docs)
    assert "☃" in processor.decode(processor.encode("snow ☃ man"))


def test_any_function() -> None:
    texts = corpus()
    vocab, want = plain(texts, FunctionTokenizer(str.split), 100, 2)
    processor, store = TextProcessor.fit(Documents.from_list(texts), str.split, max_vocab=100)
    assert processor.vocab == vocab and rows_of(store) == want
    with pytest.raises(StateError, match="function"):
        processor.state_dict()


# Behaviour


def test_every_document_begins_with_a_mark_even_an_empty_one() -> None:
    processor, store = TextProcessor.fit(Documents.from_list(["", "the film", "", ""]), min_freq=1)
    assert rows_of(store)[0] == rows_of(store)[2] == [processor.vocab.bos] == processor.encode("")
    assert store.lengths.tolist() == [1, 3, 1, 1]
    processor, store = TextProcessor.fit(Documents.from_list([""]))
    assert rows_of(store) == [[2]] and processor.vocab.tokens == SPECIALS


def test_decode_gives_text_again() -> None:
    text = "I don't like it; no no no! Soooo BAD..."
    processor, _ = TextProcessor.fit(Documents.from_list([text]), min_freq=1)
    assert processor.decode(processor.encode(text)) == text
    assert processor.decode(np.array(processor.encode("I zebra it"))) == "I xxunk it"
    with pytest.raises(DataError, match="but 999 was asked for"):
        processor.decode([999])


def test_a_large_vocabulary_takes_wider_numbers() -> None:
    vocab = Vocab([f"w{i}" for i in range(70_000)])
    _, store = TextProcessor.fit(Documents.from_list(["w69999 w1"]), vocab=vocab)
    assert store.ids.dtype == np.int32 and store.doc(0).tolist() == [2, 70_007, 9]


@pytest.mark.parametrize("tokenizer", [None, "bpe"])
def test_states(tokenizer: str | None) -> None:
    processor, _ = TextProcessor.fit(Documents.from_list(corpus()), tokenizer)
    again = TextProcessor.from_state(json.loads(json.dumps(processor.state_dict())))
    assert again.vocab == processor.vocab
    assert again.vocab.tokenizer is again.tokenizer
    text = "The film isn't GOOD, zebra"
    assert again.encode(text) == processor.encode(text)
    for wrong in ({}, [], {**processor.state_dict(), "version": 9}):
        with pytest.raises(StateError):
            TextProcessor.from_state(wrong)  # type: ignore[arg-type]


class Counting(WordTokenizer):
    prepared = 0

    def prepare(self, text: str) -> str:
        type(self).prepared += 1
        return super().prepare(text)


def test_what_was_made_once_is_found_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = Documents.from_list(corpus())
    monkeypatch.setattr(Counting, "prepared", 0)
    monkeypatch.setattr(stores, "IN_MEMORY", 100)

    def fit(docs: Documents = docs, **options: object) -> tuple[TextProcessor, TokenStore, int]:
        before = Counting.prepared
        processor, store = TextProcessor.fit(docs, Counting(), **options)  # type: ignore[arg-type]
        return processor, store, Counting.prepared - before

    first, second = fit(), fit()
    assert first[2] == len(docs) and second[2] == 0
    assert first[0].vocab == second[0].vocab and first[1].digest == second[1].digest
    assert fit(min_freq=1)[2] == len(docs), "another vocabulary"
    assert fit(docs.take([0, 1, 2]))[2] == 3, "other documents"
    assert fit()[2] == 0 and any(cache.iterdir())
    monkeypatch.setattr(stores, "IN_MEMORY", 2**20)
    for file in cache.glob("*/note.json"):
        file.write_text("{")
    assert fit()[2] == len(docs), "what is damaged is made again"


def test_a_store_without_a_name_goes_with_its_last_user(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "IN_MEMORY", 100)
    _, store = TextProcessor.fit(Documents.from_list(corpus()), str.split)
    assert isinstance(store.ids, np.memmap) and any(cache.iterdir())
    del store, _
    assert not any(cache.iterdir())


def test_a_crash_leaves_no_store(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "IN_MEMORY", 10)
    TextProcessor.fit(Documents.from_list(["an older one"]))
    before = [p.name for p in cache.iterdir()]

    def crash(self: object, *args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(processing._Numbers, "of", crash)
        with pytest.raises(KeyboardInterrupt):
            TextProcessor.fit(Documents.from_list(corpus()))
    assert [p.name for p in cache.iterdir()] == before
    _, store = TextProcessor.fit(Documents.from_list(["an older one"]))
    assert len(store) == 1


def test_progress_is_shown_only_where_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = Documents.from_list(corpus())
    monkeypatch.setattr(waiting, "PATIENCE", 600.0)
    TextProcessor.fit(docs)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    TextProcessor.fit(docs, progress=False)
    assert capsys.readouterr().err == ""
    TextProcessor.fit(docs)
    assert "tokenising" in capsys.readouterr().err


# Mistakes


def test_mistakes_are_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = Documents.from_list(["a"])
    with pytest.raises(ArgumentError, match=r"max_size|max_vocab"):
        TextProcessor.fit(docs, max_vocab=3)
    with pytest.raises(ArgumentError, match="min_freq"):
        TextProcessor.fit(docs, min_freq=0)
    with pytest.raises(StateError, match="not trained yet"):
        TextProcessor(as_tokenizer("bpe"), Vocab([]))
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("EASYLEARN_CACHE", str(blocked))
    monkeypatch.setattr(stores, "IN_MEMORY", 10)
    with pytest.raises(SaveError, match="EASYLEARN_CACHE"):
        TextProcessor.fit(Documents.from_list(corpus()))


def test_what_may_be_passed() -> None:
    assert isinstance(as_tokenizer(None), WordTokenizer) and isinstance(as_tokenizer("word"), WordTokenizer)
    word = WordTokenizer(lower=False)
    assert as_tokenizer(word) is word
    assert isinstance(as_tokenizer(str.split), FunctionTokenizer)
    with pytest.raises(ArgumentError, match="Did you mean 'bpe'"):
        as_tokenizer("bpee")
    with pytest.raises(ArgumentError, match="not its class"):
        as_tokenizer(WordTokenizer)
    with pytest.raises(ArgumentError, match="got int"):
        as_tokenizer(3)  # type: ignore[arg-type]
    for kind in ("bpe", "unigram"):
        wish = as_tokenizer(kind)
        assert isinstance(wish, UntrainedTokenizer) and wish.name == kind
        for call in (lambda w=wish: w.tokenize(["a"]), lambda w=wish: w.join(["a"]), lambda w=wish: w.state_dict()):
            with pytest.raises(StateError, match="not trained yet"):
                call()


@pytest.mark.parametrize(
    "make", [lambda: WordTokenizer(False, True), lambda: SubwordTokenizer.train([PROSE], vocab_size=280)]
)
def test_states_of_tokenizers(make: object) -> None:
    tokenizer: Tokenizer = make()  # type: ignore[operator]
    state = json.loads(json.dumps(tokenizer.state_dict()))
    again = tokenizer_from_state(state)
    assert again.state_dict() == tokenizer.state_dict() and again.tokenize([PROSE]) == tokenizer.tokenize([PROSE])
    with pytest.raises(StateError, match="version"):
        tokenizer_from_state({**state, "version": 99})


@pytest.mark.parametrize("state", [{}, {"kind": "os.system"}, [], {"kind": "subword", "version": 1}])
def test_foreign_states_are_refused(state: object) -> None:
    with pytest.raises(StateError):
        tokenizer_from_state(state)  # type: ignore[arg-type]
