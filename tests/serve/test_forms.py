"""Items in JSON: counted before they are looked at, and a damaged one is damaged alone."""

from __future__ import annotations

import base64
import json
import time

import pytest

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
    assert time.process_time() - began < 0.5
    assert asked("table", "application/json", json.dumps([{"a": [[1]]}]).encode(), Limits()).items == [{"a": [[1]]}]


def test_an_image_that_is_no_base64_is_wrong_alone() -> None:
    good = base64.b64encode(b"bytes").decode()
    given = asked(
        "images", "application/json", json.dumps([good, "/etc/passwd", 3, {"image": good}]).encode(), Limits()
    )
    assert [given.items[0], given.items[3]] == [b"bytes", b"bytes"]
    assert all(isinstance(item, RefusedError) and item.status == 422 for item in given.items[1:3])
