# ruff: noqa: RUF001 - text in many scripts is what is tested
from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from easylearn.texts import words as rules
from easylearn.texts.tokenize import WordTokenizer
from easylearn.texts.vocab import SPECIALS

SIGNS = st.lists(
    st.sampled_from(
        ["a", "Ab", "'", "’", "é", "你", ".", "-", "+", "@", "a@b.cc", "1.5", "www.", "http://", "_", "\u0301"]
    )
    | st.text(max_size=3),
    max_size=15,
).map("".join)
MAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"


def words(text: str, **options: bool) -> list[str]:
    return WordTokenizer(**options).tokenize([text])[0]


def test_plain_lower_case_text_is_parted_as_by_re() -> None:
    text = "the film, which i saw; (twice) was good: 12 of 20 people liked it!"
    assert words(text) == re.findall(r"\w+|[^\w\s]", text)


@settings(max_examples=200, deadline=None)
@given(text=SIGNS)
def test_short_cuts_for_ascii_change_nothing(text: str) -> None:
    for word in text.split():
        if word.isascii() and word.isprintable():
            assert rules.word_parts(word) == rules._parts(rules.patterns()[1], word)


@settings(max_examples=300, deadline=None)
@given(text=SIGNS)
def test_addresses_are_found_where_a_pattern_at_each_part_finds_them(text: str) -> None:
    parts = rules.patterns()[1]
    url, rest = parts.pattern.split("|[\U0001f1e6", 1)
    both = re.compile(f"{url}|{MAIL}|[\U0001f1e6{rest}")
    for word in text.split():
        assert rules._parts(parts, word) == [m[0] for m in both.finditer(word)]


@pytest.mark.parametrize(
    "unit", ["你", "é-", "é@", "a@b.cc+", "@b.cc!", "éwww.", "x's", "1.", "é.é", "é'", "👍", "_é"], ids=ascii
)
def test_the_time_is_linear_in_a_text_without_spaces(unit: str) -> None:
    def seconds(n: int) -> float:
        text = unit * (n // len(unit)) + "x"
        best = 1e9
        for _ in range(3):
            begun = time.process_time()
            WordTokenizer().tokenize([text])
            best = min(best, time.process_time() - begun)
        return best

    seconds(10)  # the patterns are made
    # Sixteen times as long: 16 if it is linear, 256 if it is quadratic; other programs share caches and may slow one.
    assert any(seconds(64_000) < 64 * max(seconds(4_000), 2e-4) for _ in range(5))


# The rules


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


# Together again


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
@example(tokens=["xxwrep", "999999", "xxrep", "999999", "("])
@given(tokens=st.lists(st.sampled_from([*SPECIALS, "3", "a", "film", ",", "(", '"', "\n", "999999"]), max_size=15))
def test_joining_takes_whatever_a_model_writes(tokens: list[str]) -> None:
    text = WordTokenizer().join(tokens)
    assert len(text) < 10**6
    assert not any(mark in text for mark in ("xxbos", "xxrep", "xxmaj"))
