"""What `easylearn serve` costs and endures, on this machine; the figures that the page on serving promises.

    python examples/benchmarks/serving.py                                  # all but the comparison: about 12 minutes
    pip install litserve fastapi bentoml && python examples/benchmarks/serving.py --parts cost
    python examples/benchmarks/serving.py --parts steady --long            # ten minutes at 80 %, instead of two
    python examples/benchmarks/serving.py --parts steady --kind images --seconds 3600

cost: CPU time per request (of all the server's processes) beside LitServe, FastAPI and BentoML, those of them that are
installed: one worker each, the same file in the same engine, eight connections that ask without a pause.
steady: 80 % of saturation. overload: 200 % of it, and what refusing costs. kill: SIGKILL of one of two workers under
load. reloads: 50 new files under load. hostile: fourteen kinds of bad clients beside healthy ones. parity: both engines
beside the learner.

Requests leave when they are due (an open loop), but for the cost, and saturation is the most that is served at any
rate, each twice the one before, until far too many come.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

import easylearn as el
from easylearn.serve.load import Plan, Request, Result, measured
from easylearn.serve.opening import open_engine
from easylearn.serve.refusals import Limits
from easylearn.serve.workers import Server

MARK = "EASYLEARN_BENCHMARK"
TOKEN = "a token for this benchmark"
ROW = {"shop": "c", "day": 3, "size": 51.0, "rain": 0.25, "wind": 0.5}
TEXTS = [f"a {a} film that was {b}" for a in ("old", "new", "long") for b in ("good", "bad", "fine", "dull")]
PEERS = {"fastapi": "fastapi", "litserve": "litserve", "litserve, batches": "litserve", "bentoml": "bentoml"}


def photo(seed: int = 0, size: tuple[int, int] = (375, 500)) -> bytes:
    """A JPEG as large as ImageNet's are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(held, "jpeg", quality=85)
    return held.getvalue()


def learners(px: int) -> dict[str, Any]:
    """An image, a table and a text model, with random weights."""
    x = np.random.default_rng(0).integers(0, 255, (8, px, px, 3), dtype=np.uint8)
    images = el.ImageData.from_arrays((x[:4], list("abab")), (x[4:], list("abab")), size=px, batch_size=4, workers=0)
    r, n = np.random.default_rng(0), 2000
    frame = pd.DataFrame(
        {"shop": r.choice(list("abcdefgh"), n), "day": r.integers(0, 7, n), "size": r.normal(50, 7, n),
         "rain": r.random(n), "wind": r.random(n), "label": r.choice(["yes", "no"], n)}
    )  # fmt: skip
    table = el.TabularData.from_df(frame, "label", cat_names=["shop", "day"], cont_names=["size", "rain", "wind"])
    labels = ["pos" if "good" in t or "fine" in t else "neg" for t in TEXTS]
    frame = pd.DataFrame({"text": TEXTS * 2, "label": labels * 2})
    text = el.TextData.from_df(frame, "text", "label", batch_size=4, min_freq=1, progress=False)
    quiet: dict[str, Any] = {"device": "cpu", "progress": False}
    return {
        "images": el.vision_learner(images, "resnet18", pretrained=False, **quiet),
        "table": el.tabular_learner(table, [200, 100], **quiet),
        "text": el.text_classifier_learner(text, **quiet),
    }


def exported(folder: Path, px: int) -> dict[str, Any]:
    found = learners(px)
    for name, learn in found.items():
        learn.export(folder / f"{name}.onnx", format="onnx")
        learn.export(folder / f"{name}.easylearn")
    return found


@contextmanager
def running(files: dict[str, Path], workers: int = 1, **how: Any) -> Iterator[Server]:
    """A server that serves files until the block ends."""
    os.environ[MARK] = "easylearn"
    server = Server(files, port=0, workers=workers, log=False, **how)
    server.start()
    watching = threading.Thread(target=server.watch)
    watching.start()
    try:
        settle(server)
        yield server
    finally:
        server._stopping.set()
        watching.join()
        server.stop()


def settle(server: Server) -> None:
    """Wait until the spare worker has imported what it needs, which is no cost of requests."""
    used, quiet, until = 0.0, 0, time.monotonic() + 60
    while quiet < 6 and time.monotonic() < until:
        time.sleep(0.5)
        before, used = used, cpu_of_one(server._spare.pid) if server._spare else 0.0
        quiet = quiet + 1 if used == before > 0 else 0


def ask(server: Server, requests: Sequence[Request], rate: float, seconds: float, path: str, token: str = "") -> Result:
    """Requests at a steady rate."""
    plan = Plan(f"http://127.0.0.1:{server.port}{path}", "", rate, seconds, token or None)
    return measured(plan, rate, requests)


def saturation(server: Server, requests: Sequence[Request], seconds: float, path: str) -> float:
    """Requests per second that are served where far too many come."""
    rate, most = 20.0, 0.0
    while True:
        found = ask(server, requests, rate, seconds, path)
        most = max(most, found.served)
        if found.served < 0.7 * rate:
            return most
        rate *= 2


def processes(mark: str) -> list[int]:
    """The processes that were started with this mark, their children, too."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def cpu_of(mark: str) -> float:
    """Seconds of CPU that these processes used."""
    return sum(map(cpu_of_one, processes(mark)))


def cpu_of_workers(server: Server) -> float:
    """Seconds of CPU that the workers used."""
    return sum(cpu_of_one(p.pid) for p in server._processes)


def cpu_of_one(pid: int) -> float:
    """Seconds of CPU that a process used, 0 where it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def memory_of(server: Server) -> float:
    """MiB of all workers."""
    pages = sum(int(Path(f"/proc/{p.pid}/statm").read_text().split()[1]) for p in server._processes)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# The parts.


def cost(files: Path, seconds: float, peers: Sequence[str]) -> list[str]:
    """CPU time per request beside others."""
    lines = []
    for kind, body in (("images", photo()), ("table", json.dumps(ROW).encode())):
        found = {}
        with running({kind: files / f"{kind}.onnx"}, limits=Limits(max_wait=60)) as server:
            sent = ("image/jpeg" if kind == "images" else "application/json", body)
            found["easylearn"] = _cost_of("easylearn", server.port, sent, seconds)
        coded = json.dumps({"image": base64.b64encode(body).decode()}).encode() if kind == "images" else body
        for peer in peers:
            if importlib.util.find_spec(PEERS[peer]) is None:
                print(f"{peer} is not installed and left out: pip install {PEERS[peer]}", file=sys.stderr)
                continue
            raw = peer == "fastapi" and kind == "images"
            with _peer(peer, kind, files / f"{kind}.onnx") as port:
                given = ("image/jpeg", body) if raw else ("application/json", coded)
                found[peer] = _cost_of(peer, port, given, seconds)
        least = min((ms for name, (ms, _) in found.items() if name != "easylearn"), default=float("nan"))
        aim = 0.85 if kind == "images" else 0.3
        for name, (ms, rate) in found.items():
            lines.append(f"{kind}, {name}: {ms:.3f} ms of CPU per request, {rate:.0f} requests/s")
        ratio = found["easylearn"][0] / least
        lines.append(f"{kind}: {ratio:.2f} of the best of them (aim: at most {aim})")
    return lines


def _cost_of(mark: str, port: int, request: Request, seconds: float) -> tuple[float, float]:
    """Milliseconds of CPU per request, and requests per second."""
    asyncio.run(_closed(port, request, min(seconds, 2.0)))
    before = cpu_of(mark)
    n, wall = asyncio.run(_closed(port, request, seconds))
    return 1000 * (cpu_of(mark) - before) / n, n / wall


async def _closed(port: int, request: Request, seconds: float, connections: int = 8) -> tuple[int, float]:
    """Connections that ask again as soon as they are answered: requests, all of them good, and the time they took."""
    kind, body = request
    first = f"POST /predict HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
    head = f"{first}content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    began, done = time.perf_counter(), 0

    async def one() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - began < seconds:
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            if answer.split()[1] != "200":
                raise RuntimeError(f"a server answered {answer[:200]}")
            await reader.readexactly(int(answer.partition("content-length:")[2].partition("\r\n")[0]))
            done += 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return done, time.perf_counter() - began


@contextmanager
def _peer(name: str, kind: str, file: Path) -> Iterator[int]:
    """Another server on a port of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, MARK: name, "SERVED": f"{kind}={file}", "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]]),
    }  # fmt: skip
    words = [sys.executable, str(Path(__file__).with_name("serving_peers.py")), name, str(port)]
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            until = time.monotonic() + 120
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if time.monotonic() > until or started.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(f"{name} did not start: {log.read()[-2000:].decode()}")
                time.sleep(0.2)
            time.sleep(2)  # some listen before they can answer
            yield port
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                for pid in processes(name):
                    with suppress(OSError):
                        os.kill(pid, number)
                time.sleep(1)


def steady(files: Path, seconds: float, fraction: float = 0.8, kind: str = "table") -> dict[str, float]:
    """A fraction of saturation: errors, latency beside the service time, growth of memory, CPU of a request."""
    requests = [("image/jpeg", photo())] if kind == "images" else [("application/json", json.dumps(ROW).encode())]
    with running({kind: files / f"{kind}.onnx"}) as server:

        def asked(rate: float, seconds: float) -> tuple[Result, float]:
            began = cpu_of_workers(server)
            return ask(server, requests, rate, seconds, f"/predict/{kind}"), cpu_of_workers(server) - began

        most = saturation(server, requests, min(3.0, seconds), f"/predict/{kind}")
        alone, _ = asked(max(1.0, most / 20), min(3.0, seconds))
        asked(fraction * most, min(10.0, seconds))  # memory that is taken once
        before = memory_of(server)
        found, cpu = asked(fraction * most, seconds)
        growth, n, refused = memory_of(server) - before, sum(found.statuses.values()), found.statuses["503"]
        costs = [1e3 * cpu / n, float("nan")]
        if refused > n / 10:  # where more are refused for each that is served, the difference tells what that costs
            further, more = asked(3 * fraction * most, min(10.0, seconds))
            counts = [[r.statuses["200"], r.statuses["503"]] for r in (found, further)]
            costs = 1e3 * np.linalg.lstsq(np.array(counts, float), np.array([cpu, more]), rcond=None)[0]
        return {
            "saturation": most, "asked": found.rate, "served": found.served, "requests": n,
            "errors": n - found.statuses["200"] - refused, "refused": refused, "of saturation": found.served / most,
            "service ms": alone.percentile(50), "p99": found.percentile(99),
            "CPU ms of one served": float(costs[0]), "of one refused": float(costs[1]),
            "MiB per 10,000": 1e4 * growth / n,
        }  # fmt: skip


def each_kind(kinds: Sequence[str], *how: Any) -> dict[str, float]:
    """`steady` for models of each kind."""
    return {f"{kind}, {key}": value for kind in kinds for key, value in steady(*how, kind=kind).items()}


def kill(files: Path, seconds: float) -> dict[str, float]:
    """SIGKILL of one of two workers under load."""
    requests = [("application/json", json.dumps(ROW).encode())]
    patient = Limits(max_wait=60)  # how many are refused on a busy machine is another matter
    with running({"table": files / "table.onnx"}, workers=2, limits=patient) as server:
        victim, back = server._processes[0].pid, [float("nan")] * 2

        def end() -> None:
            time.sleep(seconds / 4)
            os.kill(victim, signal.SIGKILL)
            began = time.monotonic()
            while time.monotonic() - began < 60:
                if server._processes[0].pid != victim and server._counters.get("ready", 0):
                    back[:] = time.monotonic() - began, cpu_of_one(server._processes[0].pid)
                    return
                time.sleep(0.01)

        killer = threading.Thread(target=end)
        killer.start()
        found = ask(server, requests, 100, seconds, "/predict/table")
        killer.join()
        n = sum(found.statuses.values())
        lost = {status: k for status, k in found.statuses.items() if status != "200"}
        return {
            "requests": n,
            "lost": n - found.statuses["200"],
            "by": lost,
            "ready again, s": back[0],
            "of it CPU": back[1],
        }


def reloads(files: Path, n: int, seconds: float) -> dict[str, float]:
    """New files under load, a damaged one among them."""
    requests = [("application/json", json.dumps(ROW).encode())]
    with tempfile.TemporaryDirectory() as name:
        path, other = Path(name) / "model.onnx", Path(name) / "other.onnx"
        shutil.copy(files / "table.onnx", path)
        import onnx

        changed = onnx.load(path)
        changed.doc_string = "the same numbers, and another digest"
        onnx.save(changed, other)
        with running({"table": path}, workers=2, limits=Limits(max_wait=60)) as server:

            def replace() -> None:
                good = path.read_bytes()
                for k in range(n):
                    time.sleep(seconds / (n + 1))
                    source = other if k % 2 == 0 else files / "table.onnx"
                    held = b"damaged" if k == n // 2 else source.read_bytes()
                    counter = "reload errors" if k == n // 2 else "reloads" if held != good else None
                    before = [server._counters.get(counter, row) for row in range(2)] if counter else []
                    (Path(name) / "new").write_bytes(held)
                    os.replace(Path(name) / "new", path)
                    server.reload()
                    good, until = held if k != n // 2 else good, time.monotonic() + 60
                    while counter and time.monotonic() < until:  # on a slow machine the next would come too soon
                        if all(server._counters.get(counter, row) > before[row] for row in range(2)):
                            break
                        time.sleep(0.01)

            thread = threading.Thread(target=replace)
            thread.start()
            found = ask(server, requests, 50, seconds, "/predict/table")
            thread.join()
            count = sum(found.statuses.values())
            return {
                "requests": count, "errors": count - found.statuses["200"],
                "reloads": server._counters.total("reloads"),
                "damaged files refused": server._counters.total("reload errors"), "p99": found.percentile(99),
            }  # fmt: skip


def parity(files: Path, trained: dict[str, Any]) -> dict[str, float]:
    """The largest differences: the torch engine from the predictor, the ONNX engine from it on equal inputs."""
    found = {}
    items = {"images": [photo(k) for k in range(4)], "table": [ROW, {**ROW, "shop": "h", "rain": None}], "text": TEXTS}
    for name, some in items.items():
        wanted = el.load_predictor(files / f"{name}.easylearn", device="cpu").predict(some).probs.numpy()
        ours = open_engine(files / f"{name}.easylearn", Limits())
        found[f"{name}, torch engine"] = float(np.abs(ours.run([ours.prepare(i) for i in some]) - wanted).max())
        graph = open_engine(files / f"{name}.onnx", Limits())
        if name != "images":
            given = graph.run([graph.prepare(i) for i in some])
            found[f"{name}, ONNX engine"] = float(np.abs(given - wanted).max())
            continue
        pixels = np.concatenate([graph.prepare(i).pixels for i in some])
        learn = trained[name]
        runtime = learn.data.preprocessor.runtime_inputs(())
        import torch

        with torch.no_grad():
            equal = learn.task.activate(learn.model.eval()(runtime.prepare(torch.from_numpy(pixels)))).numpy()
        found["images, ONNX engine, equal pixels"] = float(np.abs(graph.run([{"pixels": pixels}]) - equal).max())
        found["images, ONNX engine, our own pixels"] = float(np.abs(graph.run([{"pixels": pixels}]) - wanted).max())
    return found


# Hostile clients. Each gives the statuses that it was answered with, 0 where the connection ended without one.

DEADLINE = 2.0


def head(path: str, length: int | str | None, kind: str = "image/jpeg", token: str = TOKEN, **more: str) -> bytes:
    """The head of a request."""
    lines = {"host": "127.0.0.1", "content-type": kind, "authorization": f"Bearer {token}", **more}
    if length is not None:
        lines["content-length"] = str(length)
    return f"POST {path} HTTP/1.1\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in lines.items()).encode() + b"\r\n"


def exchange(port: int, *sent: bytes, pause: float = 0.0) -> int:
    """Send pieces, with a pause after each, and read the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        with suppress(OSError):  # it may answer and hang up before it has all
            for piece in sent:
                client.sendall(piece)
                if pause:
                    time.sleep(pause)
        with suppress(OSError):
            answer = client.recv(4096)
            return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0
    return 0


def post(port: int, path: str, body: bytes, kind: str = "image/jpeg", **how: str) -> int:
    """The status of a whole request."""
    return exchange(port, head(path, len(body), kind, **how) + body)


def bomb() -> bytes:
    """A PNG of 3.6 milliards of pixels."""
    first = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [first, b"IDAT" + zlib.compress(b"\0" * 10**6), b"IEND"]
    packed = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + packed


def silent(port: int, n: int) -> list[int]:
    """Sockets that connect and say nothing."""
    with ExitStack() as stack:
        some = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(n)]
        return [int(client.recv(100).split()[1]) for client in some]


def form(part: bytes) -> bytes:
    return b"--XX\r\n" + part + b"\r\n--XX--\r\n"


MULTIPART, JSON, V2 = "multipart/form-data; boundary=XX", "application/json", "/v2/models/table/infer"


def tensor(shape: list[int]) -> bytes:
    return json.dumps({"inputs": [{"name": "cats", "shape": shape, "datatype": "INT64", "data": [1]}]}).encode()


def hostile(sockets: int = 1000) -> dict[str, tuple[Callable[[int], list[int]], set[int]]]:
    """The kinds by name: what one does at a port, and with what it may be answered."""
    images, table = "/predict/images", "/predict/table"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    chunked = {"transfer-encoding": "chunked"}
    return {
        "pixel bomb": (lambda p: [post(p, images, bomb())], {413}),
        "EPS": (lambda p: [post(p, images, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")], {415}),
        "truncated": (lambda p: [post(p, images, photo()[:5000])], {422}),
        "endless body": (lambda p: [exchange(p, head(images, None, **chunked), *[chunk] * 400)], {413}),
        "wrong length": (
            lambda p: [exchange(p, head(images, n) + b"x") for n in (5, "-1", "1e3", 10**18)], {400, 408, 413},
        ),
        "half header": (lambda p: [exchange(p, head(images, 9)[:60])], {408}),
        "byte by byte": (lambda p: [exchange(p, head(images, 99), *[b"x"] * 9, pause=DEADLINE / 6)], {408}),
        "silent sockets": (lambda p: silent(p, sockets), {408}),
        "deep JSON": (
            lambda p: [post(p, table, b, JSON) for b in (b"[" * 10**5, b'{"a":' * 999 + b"1" + b"}" * 999)], {400},
        ),
        "NaN and huge shapes": (
            lambda p: [
                post(p, table, b'{"shop": "a", "day": 1, "size": NaN, "rain": 0, "wind": 0}', JSON),
                *(post(p, V2, tensor(s), JSON) for s in ([10**9, 10**9], [-1, 2], [10**30])),
            ],
            {400},
        ),
        "path or URL": (
            lambda p: [
                *(post(p, images, json.dumps({"image": x}).encode(), JSON) for x in ("/etc/passwd", "http://127.0.0.1/")),
                post(p, images, b"/etc/passwd", "text/plain"), post(p, "/predict/../../etc/passwd", b"x"),
            ],
            {404, 415, 422},
        ),
        "foreign Host or Origin": (
            lambda p: [post(p, images, photo(), host="evil.example"), post(p, images, photo(), origin="http://evil.example")],
            {403},
        ),
        "bad token": (lambda p: [post(p, images, photo(), token=t) for t in ("", "wrong")], {401, 403}),
        "multipart headers": (
            lambda p: [
                post(p, images, form(b"A" * 10**6 + b": x\r\n\r\nx"), MULTIPART),
                post(p, images, form(b"".join(b"a%d: x\r\n" % k for k in range(999)) + b"\r\nx"), MULTIPART),
                post(p, images, b"--XX\r\nbroken", MULTIPART), post(p, images, form(b""), "multipart/form-data"),
            ],
            {400},
        ),
    }  # fmt: skip


def endure(files: Path, seconds: float, sockets: int = 1000, rate: float = 20.0) -> dict[str, Any]:
    """Every hostile kind in turn beside healthy clients: statuses, memory, and what the healthy ones noticed."""
    kinds, said = hostile(sockets), {}
    healthy = [("application/json", json.dumps(ROW).encode())]
    models = {name: files / f"{name}.onnx" for name in ("images", "table", "text")}
    with running(models, workers=2, limits=Limits(deadline=DEADLINE), token=TOKEN) as server:
        alone = ask(server, healthy, rate, seconds, "/predict/table", TOKEN)
        pids, before, ended = [p.pid for p in server._processes], memory_of(server), threading.Event()

        def attack() -> None:
            for name, (act, _) in kinds.items():
                try:
                    said[name] = act(server.port)
                except OSError as error:
                    said[name] = [type(error).__name__]
            ended.set()

        thread = threading.Thread(target=attack)
        thread.start()
        beside = [ask(server, healthy, rate, seconds, "/predict/table", TOKEN)]
        while not ended.is_set():
            beside.append(ask(server, healthy, rate, seconds, "/predict/table", TOKEN))
        thread.join()
        statuses = sum((r.statuses for r in beside), Counter[str]())
        together = Result(rate, seconds=[s for r in beside for s in r.seconds])
        return {
            "wrong": {n: sorted(set(s)) for n, s in said.items() if not set(s) <= kinds[n][1]},
            "answered": {n: dict(Counter(s)) for n, s in said.items()},
            "workers alive": pids == [p.pid for p in server._processes], "healthy": dict(statuses),
            "MiB more": memory_of(server) - before,
            "p99 alone": alone.percentile(99), "p99 beside them": together.percentile(99),
        }  # fmt: skip


def told(name: str, found: dict[str, Any]) -> None:
    """Print figures as a line each."""
    for key, value in found.items():
        print(f"{name}: {key}: {value:.4g}" if isinstance(value, float) else f"{name}: {key}: {value}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    everything = ["parity", "kill", "reloads", "hostile", "overload", "steady"]
    parser.add_argument("--parts", nargs="+", default=everything, choices=[*everything, "cost"])
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--long", action="store_true", help="ten minutes at 80 %% of saturation instead of two")
    parser.add_argument("--kind", nargs="+", choices=["images", "table"], help="of steady (table) and overload (both)")
    parser.add_argument("--seconds", type=float, help="of steady and overload")
    chosen = parser.parse_args()
    quick = chosen.quick
    overload, long = (
        chosen.seconds or (2 if quick else 30),
        chosen.seconds or (2 if quick else 600 if chosen.long else 120),
    )
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        trained = exported(files, 32 if quick else 128)
        ways: dict[str, Callable[[], dict[str, Any]]] = {
            "parity": lambda: parity(files, trained),
            "kill": lambda: kill(files, 6 if quick else 20),
            "reloads": lambda: reloads(files, 5 if quick else 50, 5 if quick else 60),
            "hostile": lambda: endure(files, 2 if quick else 10, 50 if quick else 1000),
            "overload": lambda: each_kind(chosen.kind or ["images", "table"], files, overload, 2.0),
            "steady": lambda: each_kind(chosen.kind or ["table"], files, long),
        }
        for part in chosen.parts:
            if part == "cost":
                print("\n".join(cost(files, 2 if quick else 10, chosen.peers)), flush=True)
            else:
                told(part, ways[part]())


if __name__ == "__main__":
    main()
