from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.text import tokenize
from easylearn.text import words as rules
from easylearn.text.tokenize import Counter, FunctionTokenizer, WordTokenizer

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
