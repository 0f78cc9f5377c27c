from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.text import subwords as module
from easylearn.text.subwords import SubwordTokenizer

PROSE = "It was the best of times, it was the worst of times; Don't say the LOWEST price is 1,000.50! " * 3
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
        plain = unicodedata.normalize("NFC", module._for_subwords(text))
        assert subwords.join(["xxbos", *row]) == plain
    if texts:
        counter = subwords.counter()
        forms, lengths = counter.encode(texts)
        assert [t for f in forms.tolist() for t in counter.forms[f]] == [t for row in rows for t in row]
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
        monkeypatch.setattr(module, "_RUST_PIECE", size)
        assert subwords.tokenize([text, "a"]) == whole


def test_subword_arguments() -> None:
    with pytest.raises(ArgumentError, match="vocab_size must be at least 257"):
        SubwordTokenizer.train(["a"], vocab_size=10)
    with pytest.raises(ArgumentError, match="'bpe' or 'unigram'"):
        SubwordTokenizer.train(["a"], kind="word")  # type: ignore[arg-type]
    with pytest.raises(StateError, match="not the JSON of a tokenizer"):
        SubwordTokenizer("{}")


def test_what_is_no_text_is_refused(subwords: SubwordTokenizer) -> None:
    with pytest.raises(DataError, match="takes texts, got None"):
        subwords.tokenize([None])  # type: ignore[list-item]
