"""The routes: items in every form, answers, refusals, limits, who may ask."""

from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import io
import json
import shutil
import struct
import sys
import threading
import tracemalloc
import warnings
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from PIL import Image
from starlette.applications import Starlette

import easylearn as el
from easylearn.errors import ArgumentError, EasyLearnWarning, WeightsError
from easylearn.learning import Learner
from easylearn.serve.app import Models, asgi
from easylearn.serve.counters import BOUNDS, Counters
from easylearn.serve.guard import Guard
from easylearn.serve.refusals import Limits, parse_json
from tests.serve.asking import ask, ask_async, photo

ROW = {"a": 0.5, "b": "x", "c": 1.0}


@pytest.fixture(scope="module", autouse=True)
def _quick_models() -> Iterator[None]:
    """What was measured of each model: a slow or busy machine would find that none is free for a small request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("easylearn.serve.batching._measure", lambda engine, longest: (8, 1e-4))
        yield


@pytest.fixture(scope="module")
def app(files: Path) -> Guard:
    named = {name: files / f"{name}.onnx" for name in ("images", "table", "text", "ratings", "histories")}
    return asgi(
        {
            **named, "torch": files / "table.easylearn", "photos": files / "images.easylearn",
            "persons": files / "histories.easylearn",
        },
        limits=Limits(max_items=5, max_wait=60.0),  # those that come at once are answered, however long it takes
    )  # fmt: skip


def form(*parts: tuple[str, bytes]) -> bytes:
    return (
        b"".join(b"--XX\r\nContent-Disposition: form-data; " + h.encode() + b"\r\n\r\n" + d + b"\r\n" for h, d in parts)
        + b"--XX--\r\n"
    )


FORM = "multipart/form-data; boundary=XX"


def test_an_image_in_every_form(app: Guard, learners: Mapping[str, Learner]) -> None:
    data = photo(3)
    wanted = learners["images"].predict(data)
    coded = base64.b64encode(data).decode()
    for body, kind in (
        (data, "image/jpeg"), (data, ""), (data, "application/octet-stream"),
        (form(('name="f"; filename="a.jpg"', data)), FORM), (json.dumps({"image": coded}).encode(), "application/json"),
        (json.dumps({"image": f"data:image/jpeg;base64,{coded}"}).encode(), "application/json"),
    ):  # fmt: skip
        answer = ask(app, "/predict/images", body, kind)
        assert answer.status == 200, answer.body
        assert answer.said["label"] == wanted.label
        assert answer.said["probs"] == pytest.approx(wanted.to_dict(), abs=2e-3)
    several = ask(
        app, "/predict/images", form(('name="f"; filename="a"', data), ('name="g"; filename="b"', b"no image")), FORM
    )
    first, second = several.said["predictions"]
    assert first["label"] == wanted.label
    assert "no image" in second["error"]
    assert ask(app, "/predict/photos", data, "image/jpeg").said["probs"] == wanted.to_dict()


def test_rows_in_every_form(app: Guard, learners: Mapping[str, Learner]) -> None:
    wanted = learners["table"].predict(ROW).to_dict()["y"]
    for path, exact in (("/predict/table", False), ("/predict/torch", True)):
        said = ask(app, path, ROW).said
        assert said["values"]["y"] == (wanted if exact else pytest.approx(wanted, abs=1e-5))
        assert said["label"] == said["values"]["y"]
        for many in ([ROW, ROW], {"rows": [ROW, ROW]}):
            assert [p["label"] for p in ask(app, path, many).said["predictions"]] == [said["label"]] * 2
    fields = form(*((f'name="{k}"', str(v).encode()) for k, v in ROW.items()))
    assert ask(app, "/predict/table", fields, FORM).said["label"] == pytest.approx(wanted, abs=1e-5)
    csv = ask(app, "/predict/table", b"id,a,b,c\r\nfirst,0.5,x,1.0\nsecond,,new,\n", "text/csv; charset=utf-8")
    assert csv.headers["content-type"].startswith("text/csv")
    lines = csv.body.decode().splitlines()
    assert ask(app, "/predict/table", b"id,a,b,c,,\r\nfirst,0.5,x,1.0,,", "text/csv").body.decode().split() == lines[:2]
    assert lines[0] == "id,y,error"
    assert lines[1].startswith("first,")
    assert float(lines[1].split(",")[1]) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("", "text/csv"), ("*/*", "text/csv"), ("text/csv;q=0.5", "text/csv"), ("application/json", "application/json"),
     ("text/csv;q=0.2, application/json;q=0.3", "application/json"), ("text/csv, */*;q=0.1", "text/csv")],
)  # fmt: skip
def test_a_csv_is_answered_in_json_where_that_is_wanted(accept: str, kind: str, app: Guard) -> None:
    answer = ask(app, "/predict/table", b"a,b,c\n0.5,x,1.0\n", "text/csv", accept=accept)
    assert answer.headers["content-type"].startswith(kind)
    assert kind == "text/csv" or answer.said == ask(app, "/predict/table", [ROW]).said


@pytest.mark.parametrize("suffix", ["onnx", "easylearn"])
def test_of_a_csv_of_texts_the_column_of_texts_is_read(suffix: str, files: Path) -> None:
    app = asgi(Models({"m": files / f"text.{suffix}"}, Limits()))
    answer = ask(app, body=b"t,id,text,e\n0,7,good film,0\n", kind="text/csv")
    line = answer.body.decode().splitlines()[1].split(",")
    assert line[0] == "7" and line[1] == ask(app, body={"text": "good film"}).said["label"] and line[-1] == ""


def test_headers_that_come_several_times_are_read_together(app: Guard) -> None:
    """The last one of them must not be what is checked where another reader takes the first."""

    def asked(*more: tuple[bytes, bytes]) -> int:
        body, sent = json.dumps(ROW).encode(), list[Any]()
        headers = [(b"content-type", b"application/json"), *more]
        scope = {"type": "http", "method": "POST", "path": "/predict/table", "headers": headers}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(app(scope, receive, send))
        return int(sent[0]["status"])

    host = (b"host", b"localhost")
    assert asked(host) == 200 and asked(host, (b"a", b"1"), (b"a", b"2")) == 200
    assert asked((b"host", b"evil.example"), host) == asked(host, host) == 403
    assert asked(host, (b"origin", b"http://evil.example"), (b"origin", b"http://localhost")) == 403
    assert asked(host, (b"content-length", b"1"), (b"content-length", b"1")) == 400


@pytest.mark.parametrize(("name", "value"), [("content_encoding", "GZIP"), ("transfer_encoding", "gzip, chunked")])
def test_compressed_bodies_are_refused_in_words(name: str, value: str, app: Guard) -> None:
    answer = ask(app, "/predict/table", gzip.compress(json.dumps(ROW).encode()), **{name: value})
    assert answer.status == 415 and "compressed" in answer.said["error"]
    for same in ({"content_encoding": "identity"}, {"content_encoding": ""}, {"transfer_encoding": "Chunked"}):
        assert ask(app, "/predict/table", ROW, **same).status == 200


def test_long_answers_are_written_beside_the_loop(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models({"m": files / "table.onnx"}, Limits())
    app, apart = asgi(models), list[int]()
    rows = [{"a": k / 7, "b": "x", "c": None} for k in range(50)]
    lines = "\n".join(["a,b,c", *(f"{row['a']!r},x," for row in rows)]).encode()
    data = [{"name": "items", "shape": [50], "datatype": "BYTES", "data": [json.dumps(row) for row in rows]}]

    def asked() -> list[Any]:
        listed = ask(app, body=rows).said["predictions"]
        return [
            listed,
            ask(app, body=lines, kind="text/csv").body,
            ask(app, "/v2/models/m/infer", {"inputs": data}).said,
        ]

    whole, run = asked(), models.find("m").apart

    async def noting(act: Any, n: int, weight: float) -> Any:
        apart.append(n)
        return await run(act, n, weight)

    monkeypatch.setattr(models.find("m"), "apart", noting)
    for place in ("app", "open_inference"):
        monkeypatch.setattr(f"easylearn.serve.{place}.LONG_ANSWER", 7)  # the protocol's numbers are written so many
    assert asked() == whole and apart == [50] * 3
    assert [one["label"] for one in whole[0]] == pytest.approx(whole[2]["outputs"][0]["data"], abs=1e-6)


def test_texts_in_every_form(app: Guard, learners: Mapping[str, Learner]) -> None:
    text = "a bad film that was new"
    wanted = learners["text"].predict(text).to_dict()
    for body, kind in ((text.encode(), "text/plain"), (json.dumps(text).encode(), "application/json"),
                       (json.dumps({"text": text}).encode(), "application/json"),
                       (form(('name="text"', text.encode())), FORM)):  # fmt: skip
        assert ask(app, "/predict/text", body, kind).said["probs"] == pytest.approx(wanted, abs=1e-5)
    csv = ask(app, "/predict/text", f"text\n{text}\n".encode(), "text/csv").body.decode()
    assert csv.splitlines()[0] == "id,label,neg,pos,error"


@pytest.mark.filterwarnings("ignore:left out of a history")
def test_histories_in_every_form(app: Guard, learners: Mapping[str, Learner]) -> None:
    wanted = learners["histories"].predict(["i1", "i4"])
    first = {name: wanted.to_dict()[name] for name in wanted.label}
    for path in ("/predict/histories", "/predict/persons"):
        for body in ({"history": ["i1", "i4"]}, {"history": {"i4": 1, "i1": 1}}, {"i1": 1, "i4": 1, "unknown": 3}):
            said = ask(app, path, body).said
            assert said["label"] == list(wanted.label) and said["probs"] == pytest.approx(first, abs=1e-5)
            assert "i1" not in said["probs"]
        two = ask(app, path, [["i1", "i4"], {"history": []}]).said["predictions"]
        assert two[0] == said and len(two[1]["label"]) == 9
        assert ask(app, path, [["i1", "i4"], []]).said["predictions"] == two  # no two runtimes take them otherwise
        assert ask(app, path, {"history": "i1"}).status == 422 and ask(app, path, b"i1", "text/plain").status == 415
        assert ask(app, path, b"who,what\na,i1\n", "text/csv").status == 415
        assert ask(app, path, form(('name="history"', b"i1")), FORM).status == 415


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "named"),
    [
        ("/predict/table", b"", "application/json", 400, "empty"),
        ("/predict/table", b"{", "application/json", 400, "JSON"),
        ("/predict/table", b'"\xff"', "application/json", 400, "UTF-8"),
        ("/predict/table", b'{"a": NaN, "b": 1, "c": 1}', "application/json", 400, "NaN"),
        ("/predict/table", b'{"a": 1, "b": "x", "c": 1, "a": 2}', "application/json", 400, "'a' twice"),
        ("/predict/table", b'[{"a": {"x": 1, "x": 1}}]' + b" " * 100_000, "application/json", 400, "'x' twice"),
        ("/predict/table", b'{"a": 1' + b"0" * 400 + b', "b": "x", "c": 1}', "application/json", 200, ""),
        ("/predict/torch", b'{"a": 1' + b"0" * 400 + b', "b": "x", "c": 1}', "application/json", 200, ""),
        ("/predict/table", b'{"a": 1' + b"0" * 5000 + b"}", "application/json", 400, "JSON"),
        ("/predict/table", form(*((f'name="{n}"', b"1") for n in "abca")), FORM, 400, "'a' twice"),
        ("/predict/table", b"a,b,c\n1,\0,2\n", "text/csv", 200, ""),
        ("/predict/table", b"[" * 100_000, "application/json", 400, "deep"),
        ("/predict/table", b"[" * 9 + b"]" * 9, "application/json", 400, "deep"),
        ("/predict/table", b"[]", "application/json", 400, "no items"),
        ("/predict/table", b'{"b": "x"}', "application/json", 422, "'a'"),
        ("/predict/table", b'{"a": "x", "b": "x", "c": 1}', "application/json", 422, "'a'"),
        ("/predict/table", b'{"a": 1, "b": {"x": 1}, "c": 1}', "application/json", 422, "neither"),
        ("/predict/torch", b'"a text"', "application/json", 422, "table"),
        ("/predict/torch", b'{"a": 1, "b": "\\ud800", "c": 1}', "application/json", 422, "'b' holds half"),
        ("/predict/torch", b'{"a": 1, "b": "x", "c": 1, "d": "\\ud800"}', "application/json", 422, "'d' holds half"),
        ("/predict/torch", b'{"a": 1, "b": "x", "c": 1, "\\ud800": 1}', "application/json", 422, "holds half"),
        ("/predict/histories", b'{"history": ["i1", ["i2"]]}', "application/json", 422, "names no item"),
        ("/predict/persons", b'{"history": ["i1", {}]}', "application/json", 422, "names no item"),
        ("/predict/table", b"a,b,c\n1,2\n", "text/csv", 400, "row 2"),
        ("/predict/table", b"a,b,c,a\n1,x,2,3\n", "text/csv", 400, "'a' twice"),
        ("/predict/table", form(*[('name="f"; filename="f"', b"a,b,c\n1,x,2")] * 2), FORM, 400, "got 2 files"),
        ("/predict/table", b'a,b,c\n"1', "text/csv", 400, "damaged"),
        ("/predict/table", json.dumps([ROW] * 6).encode(), "application/json", 413, "at most 5"),
        ("/predict/images", b"x", "image/jpeg", 415, "no image"),
        ("/predict/images", b'{"image": "/etc/passwd"}', "application/json", 422, "paths"),
        ("/predict/images", b'{"image": "http://localhost/a.jpg"}', "application/json", 422, "addresses"),
        ("/predict/images", b'{"url": "http://localhost/a.jpg"}', "application/json", 422, "base64"),
        ("/predict/photos", b'"/etc/passwd"', "application/json", 422, "base64"),
        ("/predict/images", b"a,b\n", "text/csv", 415, "text/csv"),
        ("/predict/images", b"--XX\r\nbroken", FORM, 400, "form"),
        ("/predict/images", b"--XX\r\n" + b"A" * 300 + b": x\r\n\r\nx\r\n--XX--", FORM, 400, "header"),
        ("/predict/images", form(('name="f"', b"x")), "multipart/form-data", 400, "form"),
        ("/predict/text", b"\xff", "text/plain", 400, "UTF-8"),
        ("/predict/text", b"[1]", "application/json", 200, ""),
        ("/predict/histories", b'{"i1": 1e39}', "application/json", 422, "1.0e+38"),  # endless in 32 bits
        ("/predict/persons", b'{"i1": ' + b"9" * 400 + b"}", "application/json", 422, "1.0e+38"),
        ("/predict/nix", b"x", "image/jpeg", 404, "no model"),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_is_refused(
    app: Guard, path: str, body: bytes, kind: str, status: int, named: str
) -> None:
    answer = ask(app, path, body, kind)
    assert answer.status == status, answer.body
    if status != 200:
        assert set(answer.said) == {"error", "id"}
        assert named in answer.said["error"]
        assert answer.headers["x-request-id"] == answer.said["id"]
        assert "Traceback" not in answer.said["error"]


def test_routes(app: Guard, files: Path) -> None:
    page = ask(app, "/", method="GET")
    assert b"<!doctype html>" in page.body
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    paths = ("/page.js", "/page.drawn.js", "/page.css")
    for path in paths:
        kind = ask(app, path, method="GET").headers["content-type"]
        assert kind.startswith("text/css" if path.endswith("css") else "text/javascript")
    for word in (b"http://", b"https://", b"//cdn"):  # nothing is asked of others
        assert all(word not in ask(app, path, method="GET").body for path in ("/", *paths))
    about = ask(app, "/model/table", method="GET").said
    assert about["items"] == "table"
    assert [c["name"] for c in about["form"]] == ["b", "a", "c"]
    assert ask(app, "/nix", method="GET").status == 404
    wrong = ask(app, "/predict", method="GET")
    assert wrong.status == 405
    assert "POST" in wrong.headers["allow"]
    assert ask(app, "/v2/health/live", method="GET").said == {"live": True}
    assert ask(app, "/v2/health/ready", method="GET").said == {"ready": True}
    metrics = ask(app, "/metrics", method="GET").body.decode()
    assert 'easylearn_requests_total{status="404"}' in metrics
    assert 'easylearn_request_seconds_bucket{le="+Inf"}' in metrics


def test_who_may_ask(files: Path) -> None:
    model = files / "table.onnx"
    app = asgi(model)
    assert ask(app, body=ROW, host="evil.example").status == 403
    assert ask(app, body=ROW, host="localhost:1").status == 200
    assert ask(app, body=ROW, host="[::1]:80").status == 200
    assert ask(app, body=ROW, host="").status == 403
    assert ask(app, body=ROW, origin="http://evil.example").status == 403
    assert ask(app, body=ROW, origin="null").status == 403
    assert ask(app, body=ROW, origin="http://127.0.0.1:8000").status == 200
    assert ask(asgi(model, hosts=None), body=ROW, host="any.example").status == 200
    locked = asgi(model, token="a secret of some length")
    assert ask(locked, body=ROW).status == 401
    assert ask(locked, body=ROW, authorization="Bearer wrong").status == 403
    assert ask(locked, body=ROW, authorization="Bearer a secret of some length").status == 200
    assert ask(locked, "/", method="GET").status == 200
    assert ask(locked, "/model", method="GET").status == 401
    assert ask(locked, "/v2/health/ready", method="GET").status == 200


def test_mounted_in_another_application_it_has_the_same_page_and_the_same_guard(files: Path) -> None:
    outer = Starlette()
    outer.mount("/pets", asgi(files / "table.onnx", token="a secret of some length"))
    page = ask(outer, "/pets/", method="GET")
    assert page.status == 200 and b"<!doctype html>" in page.body
    assert ask(outer, "/pets/page.js", method="GET").headers["content-type"].startswith("text/javascript")
    assert ask(outer, "/pets/v2/health/live", method="GET").said == {"live": True}
    for path in ("/pets/model", "/pets/predict", "/pets/pets/page.js"):
        assert ask(outer, path, method="GET").status == 401


def test_mounted_in_another_application_it_watches_its_files(files: Path, tmp_path: Path) -> None:
    """Whoever mounts an application does not tell it that a loop begins."""
    path = tmp_path / "model.onnx"
    shutil.copy(files / "table.onnx", path)
    models = Models({"m": path}, Limits())
    outer, before = Starlette(), models.versions
    outer.mount("/pets", asgi(models))

    async def run() -> None:
        assert (await ask_async(outer, "/pets/predict", json.dumps(ROW).encode())).status == 200
        shutil.copy(files / "ratings.onnx", path)
        while models.versions == before:
            await asyncio.sleep(0.05)
        assert (await ask_async(outer, "/pets/predict", b'{"user": 1, "item": 2}')).status == 200

    asyncio.run(asyncio.wait_for(run(), 100))
    assert ask(outer, "/pets/predict", {"user": 1, "item": 2}).status == 200  # in another loop


def test_an_application_begins_and_ends_as_servers_ask_it_to(files: Path) -> None:
    app, said = asgi(files / "table.onnx"), []

    async def run() -> None:
        coming = ["lifespan.startup", "lifespan.shutdown"]

        async def receive() -> dict[str, str]:
            return {"type": coming.pop(0)}

        async def send(message: MutableMapping[str, Any]) -> None:
            said.append((message["type"], len(asyncio.all_tasks())))

        await app({"type": "lifespan"}, receive, send)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

        async def close(message: MutableMapping[str, Any]) -> None:
            said.append((message["type"], 0))

        await app({"type": "websocket"}, receive, close)

    asyncio.run(run())
    assert said == [("lifespan.startup.complete", 2), ("lifespan.shutdown.complete", 2), ("websocket.close", 0)]


def test_small_requests_are_answered_at_once_as_they_are_the_long_way(app: Guard) -> None:
    for name, body, kind in (
        ("table", json.dumps(ROW).encode(), "application/json"), ("text", b"a good film", "text/plain"),
        ("ratings", b'{"user": 3, "item": 4}', "application/json; charset=utf-8"),
    ):  # fmt: skip
        headers = {b"host": b"127.0.0.1", b"content-type": kind.encode(), b"x-request-id": b"abc1"}
        raw = app.at_once(f"/predict/{name}", headers, body, "1.2.3.4")
        assert raw is not None
        head, _, said = raw.partition(b"\r\n\r\n")
        long = ask(app, f"/predict/{name}", body, kind, x_request_id="abc1")
        assert said == long.body
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        assert lines[0] == ["HTTP/1.1 200 OK"] and dict(lines[1:]) == long.headers  # type: ignore[arg-type]


def test_what_is_refused_is_refused_alike_both_ways_and_counted_once(files: Path) -> None:
    counters, token = Counters(None, 1), "a secret of some length"
    app = asgi({"table": files / "table.onnx"}, counters=counters, token=token)
    good = {
        "host": "127.0.0.1", "content-type": "application/json", "x-request-id": "abc1",
        "authorization": f"Bearer {token}",
    }  # fmt: skip
    row = json.dumps(ROW).encode()
    for status, path, changed, body in (
        (400, "/predict/table", {}, b"{"), (404, "/predict/nix", {}, row), (422, "/predict/table", {}, b'{"a": 1}'),
        (403, "/predict/table", {"host": "evil.example"}, row), (401, "/predict", {"authorization": ""}, row),
        (403, "/predict/table", {"origin": "http://evil.example"}, row),
        (415, "/predict", {"content-type": "a/b"}, row), (403, "/predict", {"authorization": "Bearer other"}, row),
    ):  # fmt: skip
        headers = {**good, **changed}
        raw = app.at_once(path, {k.encode(): v.encode() for k, v in headers.items()}, body, "")
        assert raw is not None and counters.total("items") == (status == 422)  # it was read, and no other
        head, _, said = raw.partition(b"\r\n\r\n")
        long = ask(app, path, body, **headers)
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        assert long.status == status and lines[0][0].startswith(f"HTTP/1.1 {status} ")
        assert said == long.body and dict(lines[1:]) == long.headers  # type: ignore[arg-type]
        assert counters.total("requests") == 2 and counters.total(f"status {status}") == 2
        counters = app._counters = app._service.counters = Counters(None, 1)  # type: ignore[attr-defined]


def test_what_is_not_small_goes_the_long_way(app: Guard) -> None:
    good = {b"host": b"127.0.0.1", b"content-type": b"application/json"}
    row = json.dumps(ROW).encode()
    for path, headers, body in (
        ("/predict/table", good, json.dumps([ROW, ROW]).encode()), ("/predicted", good, row),
        ("/predict/images", {**good, b"content-type": b"image/jpeg"}, photo(1)), ("/model/table", good, row),
        ("/predict/table/infer", good, row), ("/predict/", good, row),
        ("/predict/table", {**good, b"content-type": b"text/csv"}, b"a,b,c\n1,x,2"),
    ):  # fmt: skip
        assert app.at_once(path, headers, body, "") is None
    small = asgi(app._service.models, limits=Limits(max_body=10))  # type: ignore[attr-defined]
    assert (
        small.at_once("/predict/table", {**good, b"content-length": b"20"}, row, "") is None
    )  # it ends the connection
    assert app.at_once("/predict/table", good, row, "") is not None


def test_a_process_that_is_late_refuses_at_once_the_short_way_too(files: Path) -> None:
    models, counters = Models({"m": files / "table.onnx"}, Limits(max_wait=1.0)), Counters(None, 1)
    app = asgi(models, counters=counters)
    models.turns.is_over = lambda: True  # type: ignore[method-assign]
    raw = app.at_once("/predict", {b"host": b"localhost"}, b"{}", "")
    assert raw is not None and raw.startswith(b"HTTP/1.1 503 Service Unavailable\r\n") and b"retry-after: 1" in raw
    assert counters.total("status 503") == 1


def test_images_that_are_small_files_may_not_be_many_pixels_together(files: Path) -> None:
    held = io.BytesIO()
    Image.new("1", (1000, 1000)).save(held, "png")
    blank = held.getvalue()
    assert len(blank) < 2000
    models = {"m": files / "images.onnx", "photos": files / "images.easylearn"}
    app = asgi(models, limits=Limits(max_pixels=1e6))
    for n, status in ((11, 413), (3, 200)):
        files_of = form(*((f'name="f"; filename="{k}"', blank) for k in range(n)))
        for name in models:
            answer = ask(app, f"/predict/{name}", files_of, FORM)
            assert answer.status == status, answer.body
        coded = [base64.b64encode(blank).decode()] * n
        items = {"inputs": [{"name": "items", "shape": [n], "datatype": "BYTES", "data": coded}]}
        assert ask(app, "/v2/models/m/infer", items).status == status
    assert "10,000,000 pixels" in ask(app, "/predict/m", json.dumps(coded * 11).encode()).said["error"]


def test_an_image_that_is_no_base64_is_refused_alone(app: Guard) -> None:
    good = {"image": base64.b64encode(photo(3)).decode()}
    first, second, third = ask(app, "/predict/images", [good, {"image": "/etc/passwd"}, good]).said["predictions"]
    assert first == third and set(first) == {"label", "probs"}
    assert "paths" in second["error"]


def test_odd_addresses_are_refused_in_words(app: Guard) -> None:
    assert ask(app, "/predict/table", ROW, origin="http://[x").status == 403
    assert ask(app, "/model/", method="GET").status == 404  # no redirect, which would be counted as a failure


def test_bodies_have_limits(files: Path) -> None:
    app = asgi(files / "table.onnx", limits=Limits(max_body=100, deadline=0.2))
    assert ask(app, body=b"x" * 101).status == 413
    assert ask(app, chunks=[b"x" * 60, b"x" * 60]).status == 413  # without a length, or with a wrong one
    assert ask(app, body=b"x", content_length="9" * 30).status == 413
    assert ask(app, body=b"x", content_length="-1").status == 400
    late = ask(app, chunks=[b"{", 1.0, b"}"])
    assert late.status == 408
    assert late.headers["connection"] == "close"
    drops = ask(app, chunks=[b"{", *[x for _ in range(20) for x in (0.05, b" ")]])
    assert drops.status == 408  # each byte came soon, the whole too late


def test_bodies_have_a_limit_together(files: Path) -> None:
    """Else thousands of connections fill the memory with halves of bodies, none of which is too large."""
    app = asgi(files / "table.onnx", limits=Limits(max_body=1000, max_wait=100.0))

    async def ask_many() -> list[int]:
        halves = [[b"x" * 900, 0.3, b"x"] for _ in range(60)]
        answers = await asyncio.gather(*(ask_async(app, chunks=half) for half in halves))
        return [answer.status for answer in answers]

    said = asyncio.run(ask_many())
    assert said == [400] * 55 + [503] * 5
    assert app._held == 0 and ask(app, body=ROW).status == 200


def test_a_model_can_be_replaced_and_a_damaged_file_changes_nothing(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(files / "table.onnx", path)
    models, counters = Models({"m": path}, Limits()), Counters(None, 1)
    app = asgi(models, counters=counters)
    before = models.versions["m"]
    assert models.changed() == []
    path.write_bytes(b"damaged")
    assert models.changed() == ["m"]
    for _ in range(2):  # whoever saw the change is second, after a signal
        models.reload(counters, changed=True)
    assert ask(app, body=ROW).status == 200
    assert (models.versions["m"], counters.total("reload errors")) == (before, 1)
    shutil.copy(files / "ratings.onnx", path)
    models.reload(counters)
    assert models.versions["m"] != before
    assert ask(app, body={"user": 1, "item": 2}).status == 200
    assert models.changed() == []


@pytest.mark.parametrize("name", ["images", "table", "text"])
def test_a_model_that_was_replaced_is_let_go_at_once(name: str, files: Path, tmp_path: Path) -> None:
    """What begins with a server is frozen and no collection finds it: in a circle, it would stay for ever."""
    path = tmp_path / "model.onnx"
    shutil.copy(files / f"{name}.onnx", path)
    models = Models({"m": path}, Limits())
    old = weakref.ref(models.find("m")), weakref.ref(models.find("m").engine)
    shutil.copy(files / "ratings.onnx", path)
    gc.collect()
    gc.disable()
    try:
        models.reload(Counters(None, 1))
        assert [one() for one in old] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "changed",
    [None, [], {}, {"check": None, "inputs": [{"name": "cats", "dtype": "int64", "shape": ["batch", 10**13]}]},
     {"check": None, "inputs": [{"name": "cats", "dtype": "x", "shape": ["batch", 1]}]}],
)  # fmt: skip
def test_a_file_that_says_nonsense_changes_nothing(files: Path, tmp_path: Path, changed: object) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(files / "table.onnx", path)
    models, counters = Models({"m": path}, Limits()), Counters(None, 1)
    before = models.versions
    model = onnx.load(path)
    said = json.loads(model.metadata_props[0].value)
    held = {**said, **changed} if changed and isinstance(changed, dict) else changed
    onnx.helper.set_model_props(model, {"easylearn": json.dumps(held)})
    onnx.save(model, path)
    models.reload(counters)
    assert (models.versions, counters.total("reload errors")) == (before, 1)
    with pytest.raises(WeightsError, match=r"model\.onnx"):
        Models({"m": path}, Limits())


def test_a_process_that_is_late_refuses_at_once(files: Path) -> None:
    models = Models({"m": files / "table.onnx"}, Limits(max_wait=1.0))
    app = asgi(models, limits=models.limits)
    assert ask(app, body=ROW).status == 200
    models.turns.is_over = lambda: True  # type: ignore[method-assign]
    for path in ("/predict", "/v2/models/m/infer"):
        late = ask(app, path, body=ROW)
        assert late.status == 503 and int(late.headers["retry-after"]) >= 1
    assert ask(app, "/v2/health/live", method="GET").status == 200


def test_who_asks_on_and_on_in_one_task_is_answered(files: Path) -> None:
    models = Models({"m": files / "table.onnx"}, Limits(max_wait=1e-6))  # each takes longer than a turn may serve
    app = asgi(models, limits=models.limits)

    async def run() -> list[int]:
        return [(await ask_async(app, body=json.dumps(ROW).encode())).status for _ in range(5)]

    assert asyncio.run(run()) == [200] * 5


def test_what_is_refused_unread_is_told_as_else_and_counted_by_the_turn(
    files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models, counters = Models({"m": files / "table.onnx"}, Limits()), Counters(None, 1)
    app = asgi(models, counters=counters, token="a secret of some length")

    async def run() -> list[bytes]:
        assert not app.is_behind()
        models.turns.is_over = lambda: True  # type: ignore[method-assign]
        assert app.is_behind()
        said = [app.refused() for _ in range(3)]
        assert not counters.total("requests")
        await asyncio.sleep(0)
        said.append(app.refused())
        await asyncio.sleep(0)
        return said

    with caplog.at_level("INFO", "easylearn.serve"):
        first, *others, later = asyncio.run(run())
    assert others == [first, first] and later != first
    assert counters.total("requests") == counters.total("status 503") == counters.total(f"le {BOUNDS[0]}") == 4
    long = ask(app, body=ROW, authorization="Bearer a secret of some length", x_request_id="abc1")
    head, _, said = first.partition(b"\r\n\r\n")
    lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
    assert lines[0] == ["HTTP/1.1 503 Service Unavailable"] and long.status == 503
    told = json.loads(said)
    assert {**long.headers, "content-length": str(len(said)), "x-request-id": told["id"]} == dict(lines[1:])  # type: ignore[arg-type]
    assert told["error"] == long.said["error"]
    logged = [json.loads(record.getMessage()) for record in caplog.records]
    assert [(line["id"], line["status"], line.get("requests", 1)) for line in logged] == [
        (told["id"], 503, 3), (json.loads(later.partition(b"\r\n\r\n")[2])["id"], 503, 1)
    ]  # fmt: skip


def test_long_bodies_are_read_while_others_are_answered(app: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[tuple[int, bool]] = []

    def noting(body: bytes) -> Any:
        threads.append((len(body), threading.current_thread() is threading.main_thread()))
        return parse_json(body)

    for place in ("forms", "open_inference"):
        monkeypatch.setattr(f"easylearn.serve.{place}.parse_json", noting)
    for n in (1, 200_000):
        row = {**ROW, "more": "x" * n}
        items = [{"name": "items", "shape": [1], "datatype": "BYTES", "data": [json.dumps(row)]}]
        assert (
            ask(app, "/predict/table", row).status
            == ask(app, "/v2/models/table/infer", {"inputs": items}).status
            == 200
        )
        assert [is_main for _, is_main in threads] == [n == 1] * 3  # the protocol has a row as JSON within JSON
        threads.clear()
    bad = ask(app, "/predict/table", b'{"a": NaN' + b" " * 200_000 + b"}")
    assert bad.status == 400 and "NaN" in bad.said["error"]


def test_a_thread_that_parses_lets_others_run() -> None:
    """The parser of JSON lets nobody in between, but where it calls what is written in Python."""

    def calls(one: Any, n: int) -> int:
        seen: list[str] = []
        body = json.dumps([one] * n).encode()
        gc.disable()  # a collection calls what others left behind
        sys.setprofile(lambda frame, what, given: seen.append(what))
        try:
            parse_json(body)
        finally:
            sys.setprofile(None)
            gc.enable()
        return seen.count("call")

    for one, many in (({"a": "x" * 90}, 2000), (1, 40_000), (0.5, 40_000)):
        assert calls(one, 5) < 20 and calls(one, many) > many
    given = [1, -7, 10**30, 0.1, 1e300, -2.5e-7, {"a": 3}]
    assert parse_json(json.dumps(given * 5000).encode()) == given * 5000


def test_nobody_is_warned_of_what_callers_send(files: Path) -> None:
    """Python prints each such text, and keeps it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        app = asgi({name: files / f"{name}.easylearn" for name in ("table", "histories")})
        for path, item in (("table", {**ROW, "b": "new"}), ("histories", ["i1", "new"])):
            assert ask(app, f"/predict/{path}", item).status == ask(app, f"/predict/{path}", [item] * 3).status == 200
        assert not told
        warnings.warn("of another part of the program", EasyLearnWarning, stacklevel=1)
    assert len(told) == 1


def test_an_application_wants_models_that_are_whole(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no model"):
        asgi({})
    with pytest.raises(WeightsError, match="cannot be read"):
        asgi(tmp_path / "absent.onnx")


def test_a_failure_of_ours_tells_callers_an_id_and_no_more(
    files: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = asgi(files / "table.onnx")
    monkeypatch.setattr("easylearn.serve.app.in_json", lambda said: 1 / 0)
    answer = ask(app, body=ROW, x_request_id="abc123")
    assert answer.status == 500
    assert answer.said["id"] == "abc123"
    assert "Zero" not in answer.said["error"]
    assert "ZeroDivisionError" in caplog.text


def test_many_at_once_are_answered_each_with_its_own(app: Guard, learners: Mapping[str, Learner]) -> None:
    rows = [{"a": i / 10, "b": "xyz"[i % 3], "c": -i / 20} for i in range(40)]
    photos = [photo(i) for i in range(8)]

    async def all_of_them():
        return await asyncio.gather(
            *(ask_async(app, "/predict/table", json.dumps(row).encode()) for row in rows),
            *(ask_async(app, "/predict/images", p, "image/jpeg") for p in [*photos, b"bad"]),
        )

    answers = asyncio.run(all_of_them())
    wanted = learners["table"].predict(rows).probs[:, 0].tolist()
    assert [a.said["label"] for a in answers[:40]] == pytest.approx(wanted, abs=1e-5)
    probs = learners["images"].predict(photos).probs
    given = np.array([list(a.said["probs"].values()) for a in answers[40:48]])
    assert np.allclose(given, probs, atol=2e-3)
    assert answers[48].status == 415


# The Open Inference Protocol.

TENSORS = {
    "inputs": [
        {"name": "cats", "shape": [2, 1], "datatype": "INT64", "data": [[2], [3]]},
        {"name": "conts", "shape": [2, 2], "datatype": "FP32", "data": [0.5, 0, 1, 2]},
    ]
}


def test_open_inference_takes_tensors_and_items(app: Guard, learners: Mapping[str, Learner]) -> None:
    said = ask(app, "/v2/models/table", method="GET").said
    assert [i["name"] for i in said["inputs"]] == ["items", "cats", "conts"]
    answer = ask(app, "/v2/models/table/infer", {**TENSORS, "id": "7"}).said
    assert (answer["id"], answer["outputs"][0]["shape"]) == ("7", [2, 1])
    rows = [json.dumps(ROW), json.dumps({**ROW, "b": "y"})]
    items = {"inputs": [{"name": "items", "shape": [2], "datatype": "BYTES", "data": rows}]}
    wanted = learners["table"].predict([json.loads(r) for r in rows]).probs[:, 0].tolist()
    for name in ("table", "torch"):
        found = ask(app, f"/v2/models/{name}/infer", items).said["outputs"][0]["data"]
        assert found == pytest.approx(wanted, abs=1e-5)


def test_open_inference_refuses_answers_of_several_shapes(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of masks are, of images that are wide and of such that are high."""
    models = Models({"m": files / "images.onnx"}, Limits())
    shapes = {4: (2, 3, 4), 3: (2, 4, 3)}
    monkeypatch.setattr(models.find("m").engine, "prepare", lambda item: shapes[len(item)])
    monkeypatch.setattr(models.find("m").engine, "run", lambda prepared: [np.zeros(shape) for shape in prepared])
    for data, status in ((["wide", "tall"], 200), (["wide", "low"], 400)):
        items = {"inputs": [{"name": "items", "shape": [2], "datatype": "BYTES", "data": data}]}
        answer = ask(asgi(models), "/v2/models/m/infer", items)
        assert answer.status == status
    assert "(2, 3, 4), (2, 4, 3)" in answer.said["error"]


def test_open_inference_in_bytes(app: Guard, learners: Mapping[str, Learner]) -> None:
    photos = [photo(1), photo(2, form="png")]
    held = b"".join(struct.pack("<I", len(p)) + p for p in photos)
    head = json.dumps({
        "inputs": [{"name": "items", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(held)}}],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    answer = ask(app, "/v2/models/images/infer", head + held, "application/octet-stream",
                 inference_header_content_length=str(len(head)))  # fmt: skip
    size = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    probs = np.frombuffer(answer.body[size:], "<f4").reshape(2, 2)
    assert np.allclose(probs, learners["images"].predict(photos).probs, atol=2e-3)


def _changed(**how: object) -> dict[str, object]:
    first, second = (dict(i) for i in TENSORS["inputs"])
    return {"inputs": [{**first, **how}, second]}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "inputs"), ({"inputs": 3}, "inputs"), ({"inputs": [3]}, "name"),
        (_changed(shape=[10**9, 10**9]), "impossible"),
        (_changed(shape=[-1, 1]), "impossible"), (_changed(shape=[3, 1]), "3 numbers"),
        (_changed(shape=[2, *[1] * 70]), "impossible"), (_changed(shape=[0, *[10**8] * 3], data=[]), "impossible"),
        (_changed(datatype="FP64"), "FP64"),
        (_changed(datatype="FP32"), "int64"), (_changed(data=["a", "b"]), "numbers"),
        (_changed(data=[10**30, 1]), "INT64"), (_changed(data=[2**63, 1]), "beyond"),
        (_changed(datatype="UINT8", data=[256, 1]), "beyond"), (_changed(datatype="UINT8", data=[-1, 1]), "beyond"),
        ({"inputs": [*TENSORS["inputs"], TENSORS["inputs"][0]]}, "'cats' comes twice"),
        (_changed(name="nix"), "'cats'"), (_changed(data=[99, 2]), "codes"), (_changed(data=[-1, 2]), "codes"),
        (_changed(shape=[1, 1], data=[2]), "different"),
        (_changed(parameters={"binary_data_size": 9}), "binary_data_size"),
        ({**TENSORS, "outputs": [{"name": "logits"}]}, "logits"), (_changed(shape=[2], data=[2, 3]), "shape"),
        (_changed(shape=[], data=[2]), "shape"), (_changed(shape=[0, 1], data=[]), "empty"),
        (_changed(data=[2.5, 3]), "fractions"), (_changed(name="items"), "BYTES"),
        ({"inputs": [{"name": "items", "shape": [0], "datatype": "BYTES", "data": []}]}, "an item at least"),
        ({"inputs": [{"name": "items", "shape": [1], "datatype": "BYTES", "data": ["\ud800"]}]}, "half"),
    ],
)  # fmt: skip
def test_open_inference_refuses_what_does_not_fit(app: Guard, given: dict, named: str) -> None:
    answer = ask(app, "/v2/models/table/infer", given)
    assert answer.status == 400, answer.body
    assert named in answer.said["error"]


def test_a_table_of_categories_alone_is_asked_by_tensors(tmp_path: Path) -> None:
    frame = pd.DataFrame({"b": list("xyz") * 20, "y": list("ppqqr") * 12})
    data = el.TabularData.from_df(frame, "y", batch_size=4)
    el.tabular_learner(data, [4], progress=False, device="cpu").export(tmp_path / "m.onnx", format="onnx")
    app = asgi(tmp_path / "m.onnx")
    cats, conts = ({**said, "shape": [2, k]} for said, k in zip(TENSORS["inputs"], (1, 0), strict=True))
    found = ask(app, "/v2/models/m/infer", {"inputs": [cats, {**conts, "data": []}]})
    assert found.status == 200 and found.said["outputs"][0]["shape"] == [2, 3]
    none = ask(
        app, "/v2/models/m/infer", {"inputs": [{**x, "shape": [0, x["shape"][1]], "data": []} for x in (cats, conts)]}
    )
    assert none.status == 400 and "empty" in none.said["error"]


def test_open_inference_bytes_that_end_too_soon(app: Guard) -> None:
    for held, named in ((b"\x09\x00\x00\x00abc", "3 are there"), (b"\x01\x00", "length")):
        head = json.dumps(
            {
                "inputs": [
                    {"name": "items", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(held)}}
                ]
            }
        ).encode()
        answer = ask(app, "/v2/models/text/infer", head + held, inference_header_content_length=str(len(head)))
        assert answer.status == 400
        assert named in answer.said["error"]
    assert ask(app, "/v2/models/text/infer", b"{}", inference_header_content_length="99").status == 400
    tokens = {"inputs": [{"name": "tokens", "shape": [1, 2], "datatype": "INT64", "data": [2, 10**6]},
                         {"name": "lengths", "shape": [1], "datatype": "INT64", "data": [2]}]}  # fmt: skip
    assert "tokens are numbers" in ask(app, "/v2/models/text/infer", tokens).said["error"]


def test_what_a_small_body_would_swell_to_is_refused_at_once(app: Guard) -> None:
    wide = ",".join(f"c{i}" for i in range(100_000)).encode()
    tracemalloc.start()
    short = ask(app, "/predict/table", wide + b"\n" + b"1\n" * 100_000, "text/csv")
    assert short.status == 400 and "row 2" in short.said["error"]
    assert tracemalloc.get_traced_memory()[1] < 50e6  # filled up, the rows would have 10**10 fields
    tracemalloc.stop()
    many_wide = b"a,b,c,id," + wide + b"\n" + 5 * (b"0.5,x,1.0,7" + b"," * 100_000 + b"\n")
    for name in ("table", "torch", "text"):
        tracemalloc.start()
        answer = ask(app, f"/predict/{name}", many_wide.replace(b"a,b,", b"text,b,", name == "text"), "text/csv")
        assert tracemalloc.get_traced_memory()[1] < 20e6  # as dictionaries 5 MB each
        tracemalloc.stop()
        assert answer.body.count(b"\r\n7,") == 5 and answer.body.endswith(b",\r\n") and answer.status == 200
    many = ask(app, "/predict/table", b"a,b,c\n" + b"1,x,2\n" * 6, "text/csv")
    assert many.status == 413 and "more than 5" in many.said["error"]
    same = ask(app, "/predict/table", form(*[('name="a"', b"1")] * 1100), FORM)
    assert same.status == 413 and "parts" in same.said["error"]


@pytest.mark.parametrize("shape", [[0, 3], [1, 0]])
def test_no_tokens_end_no_process(app: Guard, shape: list[int]) -> None:
    """ONNX Runtime's LSTM calls std::terminate on a batch of none."""
    said = [{"name": "tokens", "shape": shape, "datatype": "INT64", "data": []},
            {"name": "lengths", "shape": shape[:1], "datatype": "INT64", "data": [1] * shape[0]}]  # fmt: skip
    answer = ask(app, "/v2/models/text/infer", {"inputs": said})
    assert answer.status == 400 and "empty" in answer.said["error"]


def test_open_inference_holds_tensors_to_the_limit_and_names_what_is_damaged(app: Guard) -> None:
    cats, conts = TENSORS["inputs"]
    many = [{**cats, "shape": [6, 1], "data": [2] * 6}, {**conts, "shape": [6, 2], "data": [0.5] * 12}]
    assert ask(app, "/v2/models/table/infer", {"inputs": many}).status == 413  # the application takes 5
    coded = {"inputs": [{"name": "items", "shape": [1], "datatype": "BYTES", "data": ["/9j/a"]}]}
    assert "base64" in ask(app, "/v2/models/images/infer", coded).said["error"]
    for length in ("\u00b2", "9" * 5000):  # the first is a digit to str.isdigit
        answer = ask(app, "/v2/models/table/infer", TENSORS, inference_header_content_length=length)
        assert answer.status == 400 and "number of bytes" in answer.said["error"]


def test_tensors_are_computed_beside_the_loop(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models({"m": files / "table.onnx"}, Limits(max_wait=0.001))
    app, served = asgi(models, limits=models.limits), models.find("m")
    began, ended = threading.Event(), threading.Event()
    run = served.engine.run_inputs

    def slowly(given):
        began.set()
        assert ended.wait(60)
        return run(given)

    monkeypatch.setattr(served.engine, "run_inputs", slowly)

    async def ask_all():
        first = asyncio.create_task(ask_async(app, "/v2/models/m/infer", json.dumps(TENSORS).encode()))
        while not began.is_set():
            await asyncio.sleep(0.01)
        served.seconds = 1.0
        live = await ask_async(app, "/v2/health/live", method="GET")
        more = await ask_async(app, "/v2/models/m/infer", json.dumps(TENSORS).encode())
        ended.set()
        return await first, live, more

    first, live, more = asyncio.run(asyncio.wait_for(ask_all(), 100))
    assert (first.status, live.status, more.status) == (200, 200, 503)
