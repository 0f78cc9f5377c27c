"""Models to serve, and requests to an ASGI application without a server."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)


async def ask_async(app, path="/predict", body=b"", kind="application/json", method="POST", chunks=None, **headers):
    """What an application answers to one request; `chunks` come instead of `body`, a float being a pause."""
    given = {"host": "127.0.0.1:8000", "content-type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
    if chunks is None:
        given.setdefault("content-length", str(len(body)))
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items()], "client": ("1.2.3.4", 5),
        "http_version": "1.1",
    }  # fmt: skip
    coming = list([body] if chunks is None else chunks)
    sent: list[dict[str, Any]] = []
    asked_all = asyncio.Event()

    async def receive():
        while coming and isinstance(coming[0], float):
            await asyncio.sleep(coming.pop(0))
        if coming:
            return {"type": "http.request", "body": coming.pop(0), "more_body": bool(coming)}
        await asked_all.wait()  # a client that stays
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    return Answer(
        start["status"],
        {k.decode(): v.decode() for k, v in start["headers"]},
        b"".join(m.get("body", b"") for m in sent[1:]),
    )


def ask(app, path="/predict", body=b"", kind="application/json", method="POST", chunks=None, **headers) -> Answer:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return asyncio.run(ask_async(app, path, body, kind, method, chunks, **headers))


def photo(seed=0, size=(60, 80), form="jpeg", mode="RGB", **how) -> bytes:
    """An image file, smooth enough for JPEG."""
    rng = np.random.default_rng(seed)
    channels = len(Image.new(mode, (1, 1)).getbands())
    coarse = rng.integers(0, 256, (6, 8, channels), dtype=np.uint8)
    images = [Image.fromarray(coarse[:, :, c]).resize(size[::-1], Image.Resampling.BICUBIC) for c in range(channels)]
    image = images[0] if channels == 1 else Image.merge(mode, images)
    held = io.BytesIO()
    image.save(held, form, **how)
    return held.getvalue()
