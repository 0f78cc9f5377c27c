# ruff: noqa: RUF001 - text in many scripts is what is tested
from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.text import tokenize
from easylearn.text.tokenize import (
    Counter,
    FunctionTokenizer,
    SubwordTokenizer,
    Tokenizer,
    UntrainedTokenizer,
    WordTokenizer,
    as_tokenizer,
    tokenizer_from_state,
)

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
    forms, lengths = counter.encode(texts)
    rows = np.split(forms, np.cumsum(lengths)[:-1])
    return [[t for f in row.tolist() for t in counter.forms[f]] for row in rows]


# Words: compared with plain expressions


def test_plain_lower_case_text_is_parted_as_by_re() -> None:
    text = "the film, which i saw; (twice) was good: 12 of 20 people liked it!"
    assert words(text) == re.findall(r"\w+|[^\w\s]", text)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TRICKY, min_size=1, max_size=5), cut=st.integers(0, 5), keep=st.booleans(), lower=st.booleans())
def test_the_fast_way_is_the_plain_way_however_texts_are_batched(
    texts: list[str], cut: int, keep: bool, lower: bool
) -> None:
    tokenizer = WordTokenizer(lower, keep)
    single = [tokenizer.tokenize([t])[0] for t in texts]
    assert tokenizer.tokenize(texts) == single
    counter = tokenizer.counter()
    parts = [p for p in (texts[:cut], texts[cut:]) if p]
    assert [row for p in parts for row in expanded(counter, p)] == single
    assert all(row for row in single if row) and all(t for row in single for t in row)


@settings(max_examples=100, deadline=None)
@given(text=TRICKY)
def test_short_cuts_for_ascii_change_nothing(text: str) -> None:
    tokenizer = WordTokenizer()
    for word in tokenizer.prepare(text).split():
        if word.isascii() and word.isprintable():
            assert tokenizer.parts(word) == [m[0] for m in tokenize._patterns().parts.finditer(word)]


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PROSE + "ha ha ha ha\n") * 5
    whole = words(text)
    monkeypatch.setattr(tokenize, "_PIECE", 7)
    monkeypatch.setattr(tokenize, "_MEMO", 3)
    assert expanded(WordTokenizer().counter(), [text, text]) == [whole, whole]
    assert words(text) == whole


# Words: the rules


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The film", "xxmaj the film"),
        ("A film I SAW on TV", "xxmaj a film xxmaj i xxup saw on xxup tv"),
        ("McDonald iPhone", "xxmaj mcdonald iphone"),
        ("don't can't it's they'll IT'S o'clock", "do n't ca n't it 's they 'll xxup it 's o'clock"),
        ("I’d’ve", "xxmaj i 'd 've"),
        ("soooo goood!!!! wait...", "s xxrep 4 o g xxrep 3 o d xxrep 4 ! wait xxrep 3 ."),
        ("SOOO Aaaa", "xxup s xxrep 3 o xxmaj xxrep 4 a"),
        ("1000000 VIII III", "1000000 xxup viii xxup iii"),
        ("no no no, No no", "xxwrep 3 no , xxmaj no no"),
        ("! ! ! ha ha", "! ! ! ha ha"),
        ("don't don't don't", "do n't do n't do n't"),
        ("No No No", "xxwrep 3 xxmaj no"),
        ("well-known a_b (x) 'y' a -- b", "well - known a _ b ( x ) ' y ' a -- b"),
        ("$1,000.50 at 10:30, 1st 1920s, 3.", "$ 1,000.50 at 10:30 , 1st 1920s , 3 ."),
        ("U.S. e.g. end.", "xxup u.s. e.g. end ."),
        ("see http://a.org/B?c=d, or www.x.de. Me@X.org!", "see http://a.org/b?c=d , or www.x.de . me@x.org !"),
        ("a<br /><BR>b &amp; c&#39;s &lt; &quot &nosuch;", "a b & c 's < & quot & nosuch ;"),
        ("a\r\nb\rc\n\nd\u2028e\xa0f", "a b c d e f"),
        ("\ufeffa\u200bb\x00c\u202ed \ud800", "abcd \ufffd"),
        ("caf\u00e9 cafe\u0301", "caf\u00e9 caf\u00e9"),
        ("شكرا, שלום.", "شكرا , שלום ."),
        ("مرحباً می\u200cخواهم שָׁלוֹם हिन्दी", "مرحباً می\u200cخواهم שָׁלוֹם हिन्दी"),
        ("你好。コピ", "你 好 。 コ ピ"),
        ("a👍🏽b 👩\u200d👩\u200d👧 🇩🇪🇫🇷 1\ufe0f\u20e3", "a 👍🏽 b 👩\u200d👩\u200d👧 🇩🇪 🇫🇷 1\ufe0f\u20e3"),
        ("😂😂😂😂 ❤\ufe0f❤\ufe0f", "xxrep 4 😂 ❤\ufe0f ❤\ufe0f"),
        ("xxbos XXPAD xxfld 1 a xxrep xxmajor", "xx bos xxup xx pad xxfld 1 a xx rep xxmajor"),
        ("", ""),
        (" \n ", ""),
    ],
)  # fmt: skip
def test_rules(text: str, tokens: str) -> None:
    assert words(text) == tokens.split()


def test_case_and_line_breaks_can_be_kept() -> None:
    assert words("The TV don't", lower=False) == ["The", "TV", "do", "n't"]
    assert words("a<br />b\r\n\r\nc\rd", keep_newlines=True) == ["a", "\n", "b", "\n", "\n", "c", "\n", "d"]
    joined = WordTokenizer(keep_newlines=True).join(words("One.\nTwo, three", keep_newlines=True))
    assert joined == "One.\nTwo, three"


def test_no_text_can_forge_a_mark() -> None:
    assert not {"xxbos", "xxpad", "xxunk", "xxmaj"} & set(words("xxbos xxPAD XXUNK xxmaj xxbos's (xxbos) -xxbos-"))


def test_extreme_texts() -> None:
    assert words("a" * 1_000_000) == ["xxrep", "1000000", "a"]
    assert words("ab" * 500_000) == ["ab" * 500_000]
    assert words("ha " * 300_000) == ["xxwrep", "300000", "ha"]
    long = "One two, three. " * 60_000
    assert expanded(WordTokenizer().counter(), [long]) == [words(long)]


# Words: together again


@pytest.mark.parametrize(
    "text",
    [
        "I didn't LIKE it... at all!",
        "Ha Ha Ha, no no no no. Soooo good!!!!",
        'He said "Yes, (maybe) no" to a well-known 50% off; $3.50: fine.',
        "Go to http://a.org/b, it's 10:30 in the U.S. today",
        "“Don't go,” she said, “it's late.”",
        "_Never_ say never--ever",
        "👍🏽👍🏽👍🏽 great",
    ],
)
def test_joining_gives_the_text_again(text: str) -> None:
    assert WordTokenizer().join(["xxbos", *words(text), "xxpad"]) == text


@settings(max_examples=100, deadline=None)
@given(
    tokens=st.lists(st.sampled_from([*tokenize.SPECIALS, "3", "a", "film", ",", "(", '"', "\n", "999999"]), max_size=15)
)
def test_joining_takes_whatever_a_model_writes(tokens: list[str]) -> None:
    text = WordTokenizer().join(tokens)
    assert "xxbos" not in text and "xxrep" not in text and "xxmaj" not in text and len(text) < 10**6


# Subwords


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def subwords(request: pytest.FixtureRequest) -> SubwordTokenizer:
    return SubwordTokenizer.train([PROSE, "low lower lowest"] * 4, request.param, 300)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TRICKY, max_size=4))
def test_subwords_lose_nothing(subwords: SubwordTokenizer, texts: list[str]) -> None:
    import unicodedata

    rows = subwords.tokenize(texts)
    assert rows == [subwords.tokenize([t])[0] for t in texts]
    for text, row in zip(texts, rows, strict=True):
        plain = unicodedata.normalize("NFC", tokenize._for_subwords(text))
        assert subwords.join(["xxbos", *row]) == plain
    if texts:
        assert expanded(subwords.counter(), texts) == rows


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


# Any tokenizer


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
def test_states(make: object) -> None:
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


def test_what_is_no_text_is_refused(subwords: SubwordTokenizer) -> None:
    for tokenizer in (WordTokenizer(), subwords, FunctionTokenizer(str.split)):
        with pytest.raises(DataError, match="takes texts, got None"):
            tokenizer.tokenize([None])  # type: ignore[list-item]
