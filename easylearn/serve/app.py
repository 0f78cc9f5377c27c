"""The ASGI application: models by name, the routes, the page."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from .batching import Batcher
from .counters import Counters
from .engine import Floats
from .forms import Asked, asked
from .guard import LOOPBACK, App, Guard, Receive, Scope, Send
from .open_inference import infer
from .opening import open_engine
from .refusals import Limits, RefusedError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("easylearn.serve")
_JSON = "application/json"
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"), "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}  # fmt: skip


class Models:
    """The models that are served, by name; each can be replaced while it is asked.

    Args:
        files: the model file of each name.
        limits: of what a request may cost.

    Raises:
        WeightsError: a file is damaged, or gives other numbers here than where it was exported.
    """

    def __init__(self, files: Mapping[str, Path], limits: Limits) -> None:
        if not files:
            raise ArgumentError("there is no model to serve: name a file that learn.export wrote")
        self.files, self.limits = dict(files), limits
        self.lag = 0.0  # seconds by which this process is late for what is due: others wait in their sockets so long
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._served = {name: self._open(name) for name in self.files}

    def _open(self, name: str) -> Batcher:
        self._stamps[name] = _stamp(self.files[name])
        engine = open_engine(self.files[name], self.limits)
        engine.check()
        return Batcher(engine, self.limits)

    def find(self, name: str) -> Batcher:
        """The model of a name; the first where there is none."""
        try:
            return self._served[name] if name else next(iter(self._served.values()))
        except KeyError as error:
            raise RefusedError(404, f"there is no model {name[:60]!r}; there are {list(self._served)}") from error

    def admit(self) -> None:
        """Refuse a request with 503 where those before it keep this process from its turn."""
        if self.lag > self.limits.max_wait / 2:  # it waited once to be read, and waits once more to be run
            said = {"retry-after": str(max(1, round(self.lag)))}
            raise RefusedError(503, f"the server is {self.lag:.1f} s behind with what came before: come again", said)

    @property
    def names(self) -> list[str]:
        """The names, in the order given."""
        return list(self._served)

    @property
    def versions(self) -> dict[str, str]:
        """The digest of each model's file."""
        return {name: served.engine.version for name, served in self._served.items()}

    def changed(self) -> list[str]:
        """The models whose files are others than when they were read."""
        return [name for name in self.files if _stamp(self.files[name]) != self._stamps[name]]

    def reload(self, counters: Counters, names: Sequence[str] | None = None) -> None:
        """Read files again, check them, and put them in place; a damaged one leaves its model as it was."""
        for name in self.names if names is None else names:
            try:
                new = self._open(name)
            except Exception as error:  # a damaged file may lead to any; whoever watches for the next must live
                counters.add("reload errors")
                log.error("model %s stays as it was: %s: %s", name, type(error).__name__, error)
                continue
            if new.engine.version != self._served[name].engine.version:
                self._served[name] = new  # what is in the old one's queue is answered by the old one
                counters.add("reloads")
                log.warning("model %s is now %s", name, new.engine.version[:12])


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino


class Service:
    """What the routes do."""

    def __init__(self, models: Models, counters: Counters) -> None:
        self.models, self.counters = models, counters

    def file(self, name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
        """What answers with a file of the page, for people; its three files are all that it asks for."""
        held = (Path(__file__).parent / name).read_bytes()

        async def page(request: Request) -> Response:
            return _response(held, kind)

        return page

    async def about(self, request: Request) -> Response:
        """What a model takes and says, for the page and for programs."""
        name = request.path_params.get("name", "")
        said = self.models.find(name).engine.describe()
        return _json({**said, "names": self.models.names, "name": name or self.models.names[0]})

    async def metrics(self, request: Request) -> Response:
        """Counters, for Prometheus."""
        return _response(self.counters.text(self.models.versions).encode(), "text/plain; version=0.0.4; charset=utf-8")

    async def predict(self, request: Request) -> Response:
        """Items in whatever form, and what the model says of them."""
        self.models.admit()
        served = self.models.find(request.path_params.get("name", ""))
        content_type = request.headers.get("content-type", "")
        given = asked(served.engine.items, content_type, await request.body(), self.models.limits)
        served.admit(len(given.items))
        rows = await _rows(served, given.items, request.receive)
        self._count(served)
        if given.as_csv:
            return _response(_csv(served, given, rows), "text/csv; charset=utf-8")
        if given.single:
            if isinstance(rows[0], RefusedError):
                raise rows[0]
            return _json(served.engine.answer(rows[0]))
        return _json({"predictions": [_said(served, row) for row in rows]})

    def _count(self, served: Batcher) -> None:
        for name, of in (("items", "items"), ("batches", "batches"), ("model seconds", "busy")):
            self.counters.add(name, getattr(served, of))
            setattr(served, of, 0)

    async def infer(self, request: Request) -> Response:
        """The Open Inference Protocol, version 2."""
        self.models.admit()
        name = request.path_params["name"]
        served = self.models.find(name)

        async def predicted(items: list[Any]) -> list[Floats]:
            served.admit(len(items))
            found = await _rows(served, items, request.receive)
            for row in found:
                if isinstance(row, RefusedError):
                    raise row
            return [row for row in found if not isinstance(row, RefusedError)]

        async def computed(compute: Callable[[], Floats], n: int) -> Floats:
            served.admit(n)
            return await served.apart(compute, n)

        body, headers = await infer(
            name, served.engine, request.headers, await request.body(), predicted, computed, self.models.limits
        )
        self._count(served)
        return _response(body, headers.pop("content-type", _JSON), headers)

    async def server(self, request: Request) -> Response:
        """What the server is."""
        return _json({"name": "easylearn", "version": "2", "extensions": ["binary_tensor_data"]})

    async def model(self, request: Request) -> Response:
        """What a model is, in the words of the Open Inference Protocol."""
        name = request.path_params["name"]
        engine = self.models.find(name).engine
        from .open_inference import metadata

        return _json(metadata(name, engine))

    async def live(self, request: Request) -> Response:
        """Whether the server runs."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Whether models are there; they are checked before the server listens."""
        self.models.find(request.path_params.get("name", ""))
        return _json({"ready": True})


async def _rows(served: Batcher, items: list[Any], receive: Receive) -> list[Floats | RefusedError]:
    """What the model says of each item, unless the caller leaves first."""
    if len(items) == 1 and served.is_free:
        try:
            return [await served.one(items[0])]
        except RefusedError as refused:
            return [refused]
    futures = [served.put(item) for item in items]
    together = asyncio.gather(*futures)
    gone = asyncio.ensure_future(receive())
    waited: list[asyncio.Future[Any]] = [together, gone]
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not together.done():
            raise asyncio.CancelledError
        return list(together.result())
    finally:
        gone.cancel()
        together.cancel()


def _said(served: Batcher, row: Floats | RefusedError) -> dict[str, Any]:
    return {"error": str(row)} if isinstance(row, RefusedError) else served.engine.answer(row)


def _csv(served: Batcher, given: Asked, rows: Sequence[Floats | RefusedError]) -> bytes:
    """A line per item: its number or id, label, probabilities or numbers, and what was wrong."""
    engine = served.engine
    has_label = engine.task.get("kind") != "regression"
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["id", *(["label"] if has_label else []), *engine.names, "error"])
    for i, (item, row) in enumerate(zip(given.items, rows, strict=True)):
        name = item.get("id", i)
        if isinstance(row, RefusedError):
            writer.writerow([name, *[""] * (len(engine.names) + has_label), str(row)])
            continue
        said = engine.answer(row)
        label = said["label"]
        labels = [" ".join(label) if isinstance(label, list) else label] if has_label else []
        writer.writerow([name, *labels, *(said.get("probs") or said["values"]).values(), ""])
    return out.getvalue().encode()


def _json(said: Any) -> Response:
    return _response(json.dumps(said, ensure_ascii=False).encode(), _JSON)


def _response(body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Response:
    from starlette.responses import Response

    return Response(body, media_type=content_type, headers=headers)


def asgi(
    model: str | Path | Mapping[str, str | Path] | Models, *, limits: Limits | None = None,
    hosts: Collection[str] | None = LOOPBACK, token: str | None = None, counters: Counters | None = None,
) -> App:  # fmt: skip
    """An ASGI application that serves a model file: a page, predictions, the Open Inference Protocol, metrics.

    Args:
        model: a file that `learn.export` wrote, an .onnx file, or several by name.
        limits: of what a request may cost; None takes `Limits()`.
        hosts: names by which the server may be asked; None takes any, for an application behind a proxy that checks it.
        token: what callers send as "Authorization: Bearer ..."; None asks for none.
        counters: where requests are counted; None counts in this process alone.

    Returns:
        The application, to be run by uvicorn or mounted in another one.

    Raises:
        WeightsError: a file is damaged, or gives other numbers here than where it was exported.
    """
    try:
        from starlette.exceptions import HTTPException
        from starlette.routing import Route, Router
    except ImportError as error:
        raise ArgumentError('serving needs starlette and uvicorn: pip install "easylearn[serve]"') from error
    limits = limits or Limits()
    models = model if isinstance(model, Models) else Models(_named(model), limits)
    counters = counters or Counters(None, 1)
    service = Service(models, counters)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_watch(models, counters)), asyncio.create_task(_feel(models))]
        yield
        for task in tasks:
            task.cancel()

    routes = [
        Route("/predict", service.predict, methods=["POST"]),
        Route("/predict/{name}", service.predict, methods=["POST"]),
        *(Route(path, service.file(*said)) for path, said in _FILES.items()),
        Route("/model", service.about), Route("/model/{name}", service.about),
        Route("/metrics", service.metrics), Route("/v2", service.server), Route("/v2/health/live", service.live),
        Route("/v2/health/ready", service.ready), Route("/v2/models/{name}", service.model),
        Route("/v2/models/{name}/ready", service.ready),
        Route("/v2/models/{name}/infer", service.infer, methods=["POST"]),
    ]  # fmt: skip
    router = Router(routes, redirect_slashes=False, lifespan=lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app  # for the router: raise where there is no route
        try:
            await router(scope, receive, send)
        except HTTPException as error:
            said = "there is nothing here" if error.status_code == 404 else str(error.detail)
            raise RefusedError(error.status_code, f"{said}; see / for what there is", error.headers) from error

    return Guard(app, limits, counters, hosts, token)


async def _watch(models: Models, counters: Counters) -> None:
    """Each second: say that this process lives, and read the files that changed."""
    reading: asyncio.Future[None] | None = None
    while True:
        counters.beat()  # also while a large file is read, which may take longer than a silent process may live
        changed = models.changed() if reading is None or reading.done() else []
        if changed:
            await asyncio.sleep(0.2)  # of a file that is still being copied
            reading = asyncio.get_running_loop().run_in_executor(None, models.reload, counters, changed)
        await asyncio.sleep(1)


async def _feel(models: Models) -> None:
    """Notice how late this process is: quick models are asked at once, so nothing is queued where that would show."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.02
        await asyncio.sleep(0.02)
        models.lag = loop.time() - due


def _named(model: str | Path | Mapping[str, str | Path]) -> dict[str, Path]:
    if isinstance(model, Mapping):
        return {str(name): Path(path) for name, path in model.items()}
    return {Path(model).stem: Path(model)}
