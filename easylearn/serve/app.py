"""The ASGI application: models by name, the routes, the page."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from .batching import Batcher, Turns
from .counters import Counters
from .engine import Engine, Floats, Whole
from .exchange import LONG_ANSWER, Answer, Receive, Request, in_json, in_text, qualities
from .forms import Asked, asked
from .guard import LOOPBACK, GoneError, Guard
from .maps import png_of
from .open_inference import infer, metadata
from .opening import open_engine
from .refusals import Limits, RefusedError, behind

log = logging.getLogger("easylearn.serve")
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"), "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.drawn.js": ("page.drawn.js", "text/javascript; charset=utf-8"),
}  # fmt: skip
_NAMED = re.compile("/(predict|model|v2/models)/([^/]+)(/infer|/ready)?")
_BRIEF = 0.1  # seconds of work that are done sooner than it pays to watch whether the caller stays
_ALLOWED = {"GET": ("GET", "HEAD"), "POST": ("POST",)}


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
        self.turns = Turns(limits.max_wait)
        self._reading = threading.Lock()
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
        if self.turns.is_over():
            raise behind()

    async def enter(self) -> None:
        """The same in a task, which comes into the next turn: a caller in this process may ask on and on in one."""
        if self.turns.is_over():
            await asyncio.sleep(0)
            self.admit()

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

    def reload(self, counters: Counters, changed: bool = False) -> None:
        """Read all files again or those that changed, check and put in place; of a damaged one the model stays."""
        with self._reading:  # a signal and a look at the files may come together: the second finds nothing changed
            for name in self.changed() if changed else self.names:
                self._read_again(name, counters)

    def _read_again(self, name: str, counters: Counters) -> None:
        try:
            new = self._open(name)
        except Exception as error:  # a damaged file may lead to any; whoever watches for the next must live
            counters.add("reload errors")
            log.error("model %s stays as it was: %s: %s", name, type(error).__name__, error)
            return
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
    """What is answered, by path; and what goes on beside the requests."""

    def __init__(self, models: Models, counters: Counters) -> None:
        self.models, self.counters = models, counters
        pages = {path: ("GET", _file(name, kind)) for path, (name, kind) in _FILES.items()}
        self._routes: dict[str, tuple[str, Callable[[Request, str], Awaitable[Answer]]]] = {
            **pages, "/predict": ("POST", self.predict), "/predict/*": ("POST", self.predict),
            "/model": ("GET", self.about), "/model/*": ("GET", self.about), "/metrics": ("GET", self.metrics),
            "/v2": ("GET", self.server), "/v2/health/live": ("GET", self.live), "/v2/health/ready": ("GET", self.ready),
            "/v2/models/*": ("GET", self.model), "/v2/models/*/ready": ("GET", self.ready),
            "/v2/models/*/infer": ("POST", self.infer),
        }  # fmt: skip
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watching: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch the files and the turns of the loop that runs."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self.models.turns.begin(loop)
            self._watching = loop.create_task(_watch(self.models, self.counters))

    def end(self) -> None:
        """Watch no longer."""
        if self._watching is not None:
            self._watching.cancel()
        self._loop = None

    def is_behind(self) -> bool:
        """Whether a request that comes now would have to wait too long."""
        return self.models.turns.is_over()

    async def answer(self, request: Request) -> Answer:
        """The answer of a route."""
        named = _NAMED.fullmatch(request.path)
        key, name = (f"/{named[1]}/*{named[3] or ''}", named[2]) if named else (request.path, "")
        if key not in self._routes:
            key, name = request.path, ""
        if key not in self._routes:
            raise RefusedError(404, "there is nothing here; see / for what there is")
        method, act = self._routes[key]
        if request.method not in _ALLOWED[method]:
            said = {"allow": ", ".join(_ALLOWED[method])}
            raise RefusedError(405, f"{request.path[:60]} takes {method}; see / for what there is", said)
        return await act(request, name)

    async def about(self, request: Request, name: str) -> Answer:
        """What a model takes and says, for the page and for programs."""
        said = self.models.find(name).engine.describe()
        return in_json({**said, "names": self.models.names, "name": name or self.models.names[0]})

    async def metrics(self, request: Request, name: str) -> Answer:
        """Counters, for Prometheus."""
        text = self.counters.text(self.models.versions)
        return Answer(text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    def at_once(self, path: str, content_type: str, body: bytes) -> Answer | None:
        """The answer to a small request that a quick model is free for; None where it has to wait, or asks for more."""
        named = _NAMED.fullmatch(path)
        if path != "/predict" and not (named and named[1] == "predict" and named[3] is None):
            return None
        self.models.admit()
        served = self.models.find(named[2] if named else "")
        if not served.is_free:
            return None
        given = asked(served.engine.items, content_type, body, self.models.limits)  # no csv is one item
        found = served.at_once(given.items[0]) if given.single else None
        return None if found is None else self._one(served, found)

    def _one(self, served: Batcher, row: Floats | RefusedError) -> Answer:
        self._count(served)
        if isinstance(row, RefusedError):
            raise row
        return in_json(served.engine.answer(row))

    async def predict(self, request: Request, name: str) -> Answer:
        """Items in whatever form, and what the model says of them."""
        await self.models.enter()
        served = self.models.find(name)
        engine, sort, limits = served.engine, request.header("content-type"), self.models.limits
        given = await request.read(lambda body: asked(engine.items, sort, body, limits, engine.columns))
        wanted = _wanted(engine, request.header("accept"), given.single)
        rows = await self._predicted(served, given.items, request.receive, bool(wanted))
        if given.single and not wanted:
            return self._one(served, rows[0])
        if given.as_csv and _wants_csv(request.header("accept")):
            write = partial(_in_csv, served, given, rows)
        elif wanted:
            write = partial(_with_images, served, rows, given.single, wanted)
        else:
            write = partial(_in_list, served, rows)
        # Large images and long lists take their time to be written.
        n = len(rows) * len(engine.names)
        weight = len(rows) if wanted else served.weigh_answer(len(rows), n)
        return await served.apart(write, len(rows), weight) if wanted or n > LONG_ANSWER else write()

    async def _predicted(
        self, served: Batcher, items: list[Any], receive: Receive, whole: bool = False
    ) -> list[Floats | RefusedError]:
        """What is said of each item; with `whole` of images at their own sizes."""
        served.admit(len(items), served.weigh(items))
        if served.engine.items == "images" and len(items) > 1:
            await asyncio.get_running_loop().run_in_executor(None, served.engine.refuse_many, items, whole)
        items = [Whole(item) if isinstance(item, bytes) else item for item in items] if whole else items
        rows = await _rows(served, items, receive)
        self._count(served)
        return rows

    def _count(self, served: Batcher) -> None:
        for name, of in (("items", "items"), ("batches", "batches"), ("model seconds", "busy")):
            self.counters.add(name, getattr(served, of))
            setattr(served, of, 0)

    async def infer(self, request: Request, name: str) -> Answer:
        """The Open Inference Protocol, version 2."""
        await self.models.enter()
        served = self.models.find(name)

        async def predicted(items: list[Any]) -> list[Floats]:
            found = await self._predicted(served, items, request.receive)
            for row in found:
                if isinstance(row, RefusedError):
                    raise row
            return [row for row in found if not isinstance(row, RefusedError)]

        async def computed(compute: Callable[[], Floats], n: int, weight: float) -> Floats:
            served.admit(n, weight)
            found = await served.apart(compute, n, weight)
            served.items += n
            self._count(served)
            return found

        return await infer(name, served, request, predicted, computed, self.models.limits)

    async def server(self, request: Request, name: str) -> Answer:
        """What the server is."""
        return in_json({"name": "easylearn", "version": "2", "extensions": ["binary_tensor_data"]})

    async def model(self, request: Request, name: str) -> Answer:
        """What a model is, in the words of the Open Inference Protocol."""
        return in_json(metadata(name, self.models.find(name).engine))

    async def live(self, request: Request, name: str) -> Answer:
        """Whether the server runs."""
        return in_json({"live": True})

    async def ready(self, request: Request, name: str) -> Answer:
        """Whether models are there; they are checked before the server listens."""
        self.models.find(name)
        return in_json({"ready": True})


def _file(name: str, kind: str) -> Callable[[Request, str], Awaitable[Answer]]:
    """What answers with a file of the page, for people; its four files are all that it asks for."""
    held = Answer((Path(__file__).parent / name).read_bytes(), kind)

    async def page(request: Request, name: str) -> Answer:
        return held

    return page


async def _rows(served: Batcher, items: list[Any], receive: Receive) -> list[Floats | RefusedError]:
    """What the model says of each item, unless the caller leaves first."""
    if len(items) == 1 and (found := served.at_once(items[0])) is not None:
        return [found]
    futures = [served.put(item) for item in items]
    if served.wait < _BRIEF:
        return [await future for future in futures]
    together = asyncio.gather(*futures)
    gone = asyncio.ensure_future(receive())
    waited: list[asyncio.Future[Any]] = [together, gone]
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not together.done():
            raise GoneError
        return list(together.result())
    finally:
        gone.cancel()
        together.cancel()


def _wanted(engine: Engine, accept: str, single: bool) -> str:
    """Whether an image is wanted of a model whose answers are images: "beside" what JSON says, or "alone"; else ""."""
    is_named = any(kind in accept.lower() for kind in ("image/png", "image/*"))  # who takes anything wants no image
    png, as_json = qualities(accept, "image/png", "application/json") if is_named else (0.0, 1.0)
    if not png or png < as_json:
        return ""
    if as_json and not (engine.drawn and single and png > as_json):
        return "beside" if engine.drawn else ""
    if not engine.drawn:
        raise RefusedError(406, "what this model says is no image: accept application/json")
    if not single:
        raise RefusedError(406, "several images are answered in JSON: accept application/json, image/png")
    return "alone"


def _wants_csv(accept: str) -> bool:
    """Whether a csv is answered with a csv: unless JSON is wanted more."""
    as_csv, as_json = qualities(accept, "text/csv", "application/json")
    return as_csv >= as_json


def _with_images(served: Batcher, rows: Sequence[Floats | RefusedError], single: bool, wanted: str) -> Answer:
    """What is said of images at their own sizes."""
    first = rows[0]
    if not single:
        return _in_list(served, rows)
    if isinstance(first, RefusedError):
        raise first
    return Answer(png_of(first), "image/png") if wanted == "alone" else in_json(served.engine.answer(first))


def _in_list(served: Batcher, rows: Sequence[Floats | RefusedError]) -> Answer:
    """What is said of several items; one by one, for while one is written nobody else runs."""
    said = ", ".join(in_text(_said(served, row)) for row in rows)
    return Answer(f'{{"predictions": [{said}]}}'.encode())


def _said(served: Batcher, row: Floats | RefusedError) -> dict[str, Any]:
    return {"error": str(row)} if isinstance(row, RefusedError) else served.engine.answer(row)


def _in_csv(served: Batcher, given: Asked, rows: Sequence[Floats | RefusedError]) -> Answer:
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
    return Answer(out.getvalue().encode(), "text/csv; charset=utf-8")


def asgi(
    model: str | Path | Mapping[str, str | Path] | Models, *, limits: Limits | None = None,
    hosts: Collection[str] | None = LOOPBACK, token: str | None = None, counters: Counters | None = None,
) -> Guard:  # fmt: skip
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
    limits = limits or Limits()
    models = model if isinstance(model, Models) else Models(_named(model), limits)
    counters = counters or Counters(None, 1)
    return Guard(Service(models, counters), limits, counters, hosts, token)


async def _watch(models: Models, counters: Counters) -> None:
    """Each second: say that this process lives, and read the files that changed."""
    reading: asyncio.Future[None] | None = None
    while True:
        counters.beat()  # also while a large file is read, which may take longer than a silent process may live
        if (reading is None or reading.done()) and models.changed():
            await asyncio.sleep(0.2)  # of a file that is still being copied
            reading = asyncio.get_running_loop().run_in_executor(None, models.reload, counters, True)
        await asyncio.sleep(1)


def _named(model: str | Path | Mapping[str, str | Path]) -> dict[str, Path]:
    if isinstance(model, Mapping):
        return {str(name): Path(path) for name, path in model.items()}
    return {Path(model).stem: Path(model)}
