"""The servers that `serving.py` compares with: `serving_peers.py NAME PORT`; SERVED in the environment is KIND=FILE.

All of them give an item to the same engine, with one worker, so what differs is the server.
"""

import base64
import os
import sys
from pathlib import Path
from typing import Any

from easylearn.serve.opening import open_engine
from easylearn.serve.refusals import Limits

KIND, _, FILE = os.environ.get("SERVED", "").partition("=")


def item_of(request: Any) -> Any:
    """The item in parsed JSON."""
    return base64.b64decode(request["image"]) if KIND == "images" else request


def fastapi(port: int) -> None:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.concurrency import run_in_threadpool
    from pydantic import BaseModel

    app, engine = FastAPI(), open_engine(Path(FILE), Limits())

    class Row(BaseModel):
        shop: str
        day: int
        size: float
        rain: float
        wind: float

    def answer(item: Any) -> Any:
        return engine.answer(engine.run([engine.prepare(item)])[0])

    async def image(request: Request) -> Any:
        return await run_in_threadpool(answer, await request.body())

    def row(given: Row) -> Any:
        return answer(given.model_dump())

    app.post("/predict")(image if KIND == "images" else row)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def lit_api(size: int) -> Any:
    """The class that LitServe runs, in a process of its own, which finds it as `Api` in this module."""
    import litserve as ls

    class Api(ls.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            self.engine = open_engine(Path(FILE), Limits())

        def decode_request(self, request):  # type: ignore[no-untyped-def] # an annotation would be read
            return self.engine.prepare(item_of(request))

        def predict(self, x: Any) -> Any:
            return self.engine.run(x if size > 1 else [x])

        def encode_response(self, output: Any) -> Any:
            return self.engine.answer(output[0])

    if size > 1:
        Api.batch = lambda self, inputs: inputs
        Api.unbatch = lambda self, output: [row[None] for row in output]
    Api.__qualname__ = "Api"
    return Api


def litserve(port: int) -> None:
    import litserve as ls

    api = Api(max_batch_size=SIZE, batch_timeout=0.003 if SIZE > 1 else 0.0)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=30)
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="warning")


def bentoml(port: int) -> None:
    folder = str(Path(__file__).parent)
    words = [sys.executable, "-m", "bentoml", "serve", "serving_peers:Service", "--port", str(port)]
    os.execv(sys.executable, [*words, "--host", "127.0.0.1", "--working-dir", folder])


def bento_service() -> Any:
    import bentoml

    @bentoml.service(workers=1, traffic={"timeout": 30})
    class Service:
        def __init__(self) -> None:
            self.engine = open_engine(Path(FILE), Limits())

        if KIND == "images":

            @bentoml.api(route="/predict")
            def predict(self, image: str) -> dict[str, Any]:
                return self.engine.answer(self.engine.run([self.engine.prepare(base64.b64decode(image))])[0])

        else:

            @bentoml.api(route="/predict")
            def predict(self, shop: str, day: int, size: float, rain: float, wind: float) -> dict[str, Any]:
                row = {"shop": shop, "day": day, "size": size, "rain": rain, "wind": wind}
                return self.engine.answer(self.engine.run([self.engine.prepare(row)])[0])

    return Service


if __name__ == "serving_peers":  # BentoML imports it
    Service = bento_service()

if sys.argv[1:2] and sys.argv[1].startswith("litserve"):
    SIZE = 8 if "batches" in sys.argv[1] else 1
    Api = lit_api(SIZE)

if __name__ == "__main__":
    NAME, PORT = sys.argv[1], int(sys.argv[2])
    if NAME == "fastapi":
        fastapi(PORT)
    elif NAME == "bentoml":
        bentoml(PORT)
    else:
        litserve(PORT)
