from __future__ import annotations

import unicodedata
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.texts import tokenize
from easylearn.texts import words as rules
from easylearn.texts.tokenize import Counter, FunctionTokenizer, SubwordTokenizer, WordTokenizer

PROSE = "It was the best of times, it was the worst of times; Don't say the LOWEST price is 1,000.50! " * 3
TRICKY = st.lists(
    st.sampled_from(
        [
            *(
                "ha",
                "Ha",
                "HA",
                " ",
                " ",
                " ",
                "\n",
                "\r\n",
                "don't",
                "'",
                "aaa",
                "...",
                "-",
                "xxbos",
                "xxrep",
                "3",
                "12.5",
            ),
            *("!", "👍🏽", "👩\u200d👧", "🇩🇪", "é", "e\u0301", "שָׁ", "مرحبا", "你", "<br />", "&amp;", "&", "\u200b"),
            *("\u200d", "\ud800", "http://a.b/c", "_", "III", "\ufdd0", "ß", "İ", "U.S.", "\x00", "\xa0"),
        ]
    )
    | st.text(max_size=4),
    max_size=25,
).map("".join)


def words(text: str, **options: bool) -> list[str]:
    return WordTokenizer(**options).tokenize([text])[0]


def expanded(counter: Counter, texts: list[str]) -> list[list[str]]:
    ids, lengths = counter.encode(texts)
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    return [[t for f in row.tolist() for t in counter.sequences[f]] for row in rows]


def plainly(tokenizer: WordTokenizer, text: str) -> list[str]:
    """The same in the obvious way, word by word."""
    parts: list[str] = []
    for word in tokenizer.prepare(text).split():
        parts += ["\n"] if word == rules.LINE and tokenizer.keep_newlines else rules.word_parts(word)
    out: list[str] = []
    for part, run in groupby(parts):
        tokens, n = rules.expand(part, tokenizer.lower), len(list(run))
        out += ("xxwrep", str(n), *tokens) if n >= 3 and rules.can_repeat(tokens) else tokens * n
    return out


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TRICKY, min_size=1, max_size=5), cut=st.integers(0, 5), keep=st.booleans(), lower=st.booleans())
def test_the_fast_way_is_the_plain_way_however_texts_are_batched(
    texts: list[str], cut: int, keep: bool, lower: bool
) -> None:
    tokenizer = WordTokenizer(lower, keep)
    single = [plainly(tokenizer, t) for t in texts]
    assert tokenizer.tokenize(texts) == single
    counter = tokenizer.counter()
    parts = [p for p in (texts[:cut], texts[cut:]) if p]
    assert [row for p in parts for row in expanded(counter, p)] == single
    assert all(row for row in single if row) and all(t for row in single for t in row)


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PROSE + "ha ha ha ha\n") * 5
    whole = words(text)
    monkeypatch.setattr(tokenize, "_PIECE", 7)
    monkeypatch.setattr(tokenize, "_MEMO", 3)
    assert expanded(WordTokenizer().counter(), [text, text]) == [whole, whole]
    assert words(text) == whole


def test_extreme_texts() -> None:
    assert words("a" * 1_000_000) == ["xxrep", "1000000", "a"]
    assert words("ab" * 500_000) == ["ab" * 500_000]
    assert words("ha " * 300_000) == ["xxwrep", "300000", "ha"]
    long = "One two, three. " * 60_000
    assert expanded(WordTokenizer().counter(), [long]) == [words(long)]


def test_functions() -> None:
    tokenizer = FunctionTokenizer(str.split)
    assert tokenizer.tokenize(["a b", ""]) == [["a", "b"], []] and tokenizer.join(["xxbos", "a", "b"]) == "a b"
    assert expanded(tokenizer.counter(), ["a b", "", "b b"]) == [["a", "b"], [], ["b", "b"]]
    with pytest.raises(StateError, match="split is a function of yours"):
        tokenizer.state_dict()
    for wrong in (lambda t: t, lambda t: None, lambda t: [1]):
        with pytest.raises(DataError, match="must give a list of texts"):
            FunctionTokenizer(wrong).tokenize(["a b"])
    assert FunctionTokenizer(lambda t: (w for w in t.split())).tokenize(["a b"]) == [["a", "b"]]
    with pytest.raises(ArgumentError):
        FunctionTokenizer("no")  # type: ignore[arg-type]


def test_what_is_no_text_is_refused() -> None:
    for tokenizer in (WordTokenizer(), FunctionTokenizer(str.split)):
        with pytest.raises(DataError, match="takes texts, got None"):
            tokenizer.tokenize([None])  # type: ignore[list-item]


# Subwords

TEXT = st.lists(
    st.sampled_from([" ", "\n", "\r\n", "low", "xxfld", "👩\u200d👧", "e\u0301", "你", "<br />", "&amp;", "\ud800"])
    | st.text(max_size=4),
    max_size=25,
).map("".join)


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def subwords(request: pytest.FixtureRequest) -> SubwordTokenizer:
    return SubwordTokenizer.train([PROSE, "low lower lowest"] * 4, request.param, 300)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, max_size=4))
def test_subwords_lose_nothing(subwords: SubwordTokenizer, texts: list[str]) -> None:
    rows = subwords.tokenize(texts)
    assert rows == [subwords.tokenize([t])[0] for t in texts]
    for text, row in zip(texts, rows, strict=True):
        plain = unicodedata.normalize("NFC", tokenize._for_subwords(text))
        assert subwords.join(["xxbos", *row]) == plain
    if texts:
        counter = subwords.counter()
        ids, lengths = counter.encode(texts)
        assert [t for f in ids.tolist() for t in counter.sequences[f]] == [t for row in rows for t in row]
        assert lengths.tolist() == [len(row) for row in rows]


def test_subwords_learn_from_the_text(subwords: SubwordTokenizer) -> None:
    assert subwords.closed is not None and 257 < len(subwords.closed) <= 301
    assert len(subwords.tokenize(["the best of times"])[0]) < len("the best of times")
    assert subwords.tokenize(["xxfld 1 the"])[0][0] == "xxfld"
    assert subwords.name in ("bpe", "unigram") and subwords.name in repr(subwords)


def test_pieces_of_long_texts_change_no_subword(subwords: SubwordTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PROSE + "  two  spaces\n\n and \t tabs xxfld 1 \n") * 3
    whole = subwords.tokenize([text, "a"])
    for size in (1, 5, 40):
        monkeypatch.setattr(tokenize, "_RUST_PIECE", size)
        assert subwords.tokenize([text, "a"]) == whole


def test_subword_arguments() -> None:
    with pytest.raises(ArgumentError, match="vocab_size must be at least 257"):
        SubwordTokenizer.train(["a"], vocab_size=10)
    with pytest.raises(ArgumentError, match="'bpe' or 'unigram'"):
        SubwordTokenizer.train(["a"], kind="word")  # type: ignore[arg-type]
    with pytest.raises(StateError, match="not the JSON of a tokenizer"):
        SubwordTokenizer("{}")


def test_what_is_no_text_is_no_subword(subwords: SubwordTokenizer) -> None:
    with pytest.raises(DataError, match="takes texts, got None"):
        subwords.tokenize([None])  # type: ignore[list-item]
