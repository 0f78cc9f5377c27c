"""Items in JSON: counted before they are looked at, and a damaged one is damaged alone."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from easylearn.serve import forms
from easylearn.serve.forms import asked
from easylearn.serve.refusals import Limits, RefusedError


def test_items_are_counted_before_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "_is_deep", lambda *_: pytest.fail("it was looked at"))
    body = b"[" + b"[]," * 100_000 + b"[]]"
    for given in (body, b'{"rows": ' + body + b"}"):
        with pytest.raises(RefusedError, match="100,001 items") as caught:
            asked("table", "application/json", given, Limits())
        assert caught.value.status == 413


def test_depth_is_looked_for_no_deeper_than_it_is_refused() -> None:
    deep = b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}"
    began = time.process_time()
    for body in (deep, b"[" + deep + b"]", json.dumps([{"a": [[[1]]]}]).encode()):
        with pytest.raises(RefusedError, match="nests deeper") as caught:
            asked("table", "application/json", body, Limits())
        assert caught.value.status == 400
    assert time.process_time() - began < 5
    assert asked("table", "application/json", json.dumps([{"a": [[1]]}]).encode(), Limits()).items == [{"a": [[1]]}]


def test_an_image_that_is_no_base64_is_wrong_alone() -> None:
    good = base64.b64encode(b"bytes").decode()
    given = asked(
        "images", "application/json", json.dumps([good, "/etc/passwd", 3, {"image": good}]).encode(), Limits()
    )
    assert [given.items[0], given.items[3]] == [b"bytes", b"bytes"]
    assert all(isinstance(item, RefusedError) and item.status == 422 for item in given.items[1:3])


OPTIONS = [
    "boundary=XX",
    "boundary*0*=x''%zz",
    "boundary*=utf-8''%ff",
    'boundary="XX',
    "boundary=",
    "charset=x",
    "=",
    "*",
]
HEADERS = [
    "form-data",
    'name="a"',
    "name",
    "name*0*=x",
    "name*=x''%zz",
    'filename="\\',
    "filename*1=b",
    "\0",
    "\xe9",
    "a=b",
]
PIECES = [
    b"--XX", b"--", b"\r\n", b"\r\n\r\n", b": ", b"Content-Disposition", b"\0", b"\xff", b'"', b",", b"\n", b"a,b,c",
    b"{", b"}", b"[", b"]", b'"a": 1', b'"\\ud800"', b"1e999", b"-0", b"9" * 30, b'"image"', b"text", b"\xef\xbb\xbf",
]  # fmt: skip
plain = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
form_part = st.tuples(st.lists(st.sampled_from(HEADERS), max_size=4).map("; ".join), plain).map(
    lambda part: b"--XX\r\nContent-Disposition: " + part[0].encode("latin-1") + b"\r\n\r\n" + part[1] + b"\r\n"
)
forms_of = st.lists(form_part, max_size=3).map(lambda parts: b"".join(parts) + b"--XX--\r\n")
types = st.sampled_from(
    ["application/json", "multipart/form-data", "text/csv", "text/plain", "image/png", "", "\xff/a", "a"]
)


@settings(max_examples=120, deadline=None)
@drawn(
    st.sampled_from(["images", "table", "text", "histories"]), types, st.lists(st.sampled_from(OPTIONS), max_size=3),
    st.one_of(plain, forms_of),
)  # fmt: skip
def test_whatever_comes_is_read_or_refused(kind: str, sort: str, options: list[str], body: bytes) -> None:
    with suppress(RefusedError):  # and no other error
        assert asked(kind, "; ".join([sort, *options]), body, Limits()).items


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ('name="a b"; filename="x;y=\\"z\\".jpg"', b"data"), ("filename*=UTF-8''x; name=a", b"data"),
        ('name="a\\"b"', {'a"b': "data"}), ("NAME = é", {"é": "data"}), ("", {"": "data"}),
        ('name="filename=x"', {"filename=x": "data"}),
    ],
)  # fmt: skip
def test_parts_are_what_their_headers_say(header: str, wanted: Any) -> None:
    body = b'--X"X\r\nContent-disposition: form-data; ' + header.encode() + b'\r\n\r\ndata\r\n--X"X--'
    kind = "images" if isinstance(wanted, bytes) else "table"
    found = asked(kind, 'Multipart/Form-Data; charset=utf-8; boundary="X\\"X"', body, Limits())
    assert found.items == [wanted] and found.single
