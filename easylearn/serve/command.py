"""The commands `serve`, `load`, `page` and `build`, of easylearn and of its runtime alike."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..errors import ArgumentError
from .refusals import Limits, seconds_of, size_of


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser's."""
    serve = commands.add_parser("serve", help="serve model files over HTTP, with a page to try them")
    serve.add_argument("models", nargs="+", metavar="[NAME=]FILE", help="files that learn.export wrote, or .onnx files")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    serve.add_argument("--workers", type=int, default=1, help="processes, one a core (default: %(default)s)")
    serve.add_argument("--max-body", default="10MB", help="of a request (default: %(default)s)")
    serve.add_argument("--max-pixels", type=float, default=40e6, help="of an image (default: %(default)g)")
    serve.add_argument("--max-items", type=int, default=10_000, help="of a request (default: %(default)s)")
    serve.add_argument("--max-wait", default="1s", help="longer queues are refused with 503 (default: %(default)s)")
    serve.add_argument("--deadline", default="30s", help="for a request to come in (default: %(default)s)")
    serve.add_argument("--max-connections", type=int, default=4000, help="to a worker (default: %(default)s)")
    serve.add_argument("--max-text", type=int, default=100_000, help="characters of a text (default: %(default)s)")
    serve.add_argument("--token-file", help="a file whose first line callers send as Authorization: Bearer")
    serve.add_argument("--open", action="store_true", help="let everyone in who reaches the address")
    serve.add_argument("--host-name", action="append", default=[], help="a name by which it may be asked; repeat it")
    serve.add_argument("--quiet", action="store_true", help="write no line per request")
    serve.set_defaults(run=_serve)
    load = commands.add_parser("load", help="ask a server at a steady rate, and say how long it took to answer")
    load.add_argument("url", help="of the server, http://127.0.0.1:8000 for one")
    load.add_argument("items", help="a folder of images or texts, an image, or a csv whose rows are sent one by one")
    load.add_argument("--rate", type=float, default=10.0, help="requests per second (default: %(default)s)")
    load.add_argument("--for", dest="duration", default="10s", help="how long (default: %(default)s)")
    load.add_argument("--sweep", action="store_true", help="double the rate until the server no longer follows")
    load.add_argument("--token-file", help="as of serve")
    load.add_argument("--report", help="a page to write, with the curve of rate against latency")
    load.set_defaults(run=_load)
    page = commands.add_parser("page", help="write a static page that runs an .onnx file in the browser")
    page.add_argument("model", help="an .onnx file that learn.export wrote")
    page.add_argument("--out", required=True, help="the folder to write, for any host of plain files")
    dist = "node_modules/onnxruntime-web/dist"
    what = "where onnxruntime-web's files are, as npm install onnxruntime-web puts them (default: %(default)s)"
    page.add_argument("--runtime", default=dist, help=what)
    page.set_defaults(run=_page)
    build = commands.add_parser(
        "build", help="write a folder that serves a model in a container: ONNX file, Dockerfile"
    )
    build.add_argument("model", help="an .onnx file, or one that learn.export wrote")
    build.add_argument("--out", required=True, help="the folder to write")
    what = "a wheel to install in place of what the package index has; repeat it"
    build.add_argument("--wheel", action="append", default=[], help=what)
    build.set_defaults(run=_build)


def _serve(chosen: argparse.Namespace) -> int:
    from .workers import Server

    files: dict[str, str] = {}
    for given in chosen.models:
        name, equals, path = given.partition("=")
        name, path = (name, path) if equals and "/" not in name else (Path(given).stem, given)
        if name in files:
            raise ArgumentError(f"two models are called {name!r}: name them, as first={path}")
        files[name] = path
    limits = Limits(
        size_of(chosen.max_body),
        chosen.max_pixels,
        chosen.max_items,
        seconds_of(chosen.max_wait),
        seconds_of(chosen.deadline),
        chosen.max_connections,
        chosen.max_text,
    )
    return Server(
        files, chosen.host, chosen.port, chosen.workers, limits, tuple(chosen.host_name), token_of(chosen.token_file),
        chosen.open, not chosen.quiet,
    ).run()  # fmt: skip


def token_of(path: str | None) -> str | None:
    """The token in a file that nobody else may read."""
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").partition("\n")[0].strip()
        others = os.stat(path).st_mode & 0o077
    except OSError as error:
        raise ArgumentError(f"the token file {path} cannot be read: {error.strerror}") from error
    if len(token) < 16 or not token.isascii() or not token.isprintable():
        raise ArgumentError(f"the first line of {path} must be a token of 16 plain characters at least")
    if others and os.name == "posix":
        raise ArgumentError(f"{path} can be read by others: chmod 600 {path}")
    return token


def _load(chosen: argparse.Namespace) -> int:
    from .load import Plan, run

    plan = Plan(chosen.url, chosen.items, chosen.rate, seconds_of(chosen.duration), token_of(chosen.token_file))
    return run(plan, chosen.sweep, chosen.report)


def _build(chosen: argparse.Namespace) -> int:
    from .build import build

    print(build(Path(chosen.model), Path(chosen.out), [Path(w) for w in chosen.wheel]))
    return 0


def _page(chosen: argparse.Namespace) -> int:
    from .site import write_site

    print(write_site(Path(chosen.model), Path(chosen.out), Path(chosen.runtime)))
    return 0
