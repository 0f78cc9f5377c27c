"""A folder that serves a model in a container."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..files import atomic_write
from .engine import OnnxEngine
from .opening import open_engine
from .refusals import Limits

_READY = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=3)"
_DOCKERFILE = """\
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 app
WORKDIR /service
COPY . .
RUN pip install --no-cache-dir -r requirements.txt
USER app
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "{ready}"]
# Everyone who reaches the port is let in: put a proxy in front, or mount a token and write "--token-file", "/run/token"
# for "--open".
CMD {words}
"""


def build(model: Path, out: Path, wheels: Sequence[Path] = ()) -> str:
    """Write model, requirements and Dockerfile into a folder; says what to do with it.

    Args:
        model: an .onnx file, for an image without torch, or one that `learn.export` wrote.
        out: the folder; what is in it under these names is replaced.
        wheels: files to install in place of what the package index has, such as one of `easylearn-runtime`.

    Raises:
        ArgumentError: a file or folder is not what it should be.
        WeightsError: the model is damaged, or gives other numbers here than where it was exported.
    """
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out} is a file; name a folder to write")
    for wheel in wheels:
        if wheel.suffix != ".whl" or not wheel.is_file():
            raise ArgumentError(f"{wheel} is no wheel: build one with pip wheel --no-deps, and name the .whl file")
    engine = open_engine(model, Limits())
    engine.check()
    out.mkdir(parents=True, exist_ok=True)
    for file in (model, *wheels):
        with atomic_write(out / file.name) as temporary:
            shutil.copyfile(file, temporary)
    names = {w.name.partition("-")[0]: f"./{w.name}" for w in wheels}
    package, extra = "easylearn", "[serve]"
    if isinstance(engine, OnnxEngine):
        package, extra = "easylearn-runtime", _extra(engine.about)
    first = names.pop(package.replace("-", "_"), package) + extra
    # "./", for a name may begin like an option or hold the sign that names a model; as JSON, for it may hold quotes.
    words = [package, "serve", f"./{model.name}", "--host", "0.0.0.0", "--open", "--workers", "1"]
    docker = _DOCKERFILE.format(words=json.dumps(words), ready=_READY)
    for name, text in (("requirements.txt", "\n".join([first, *names.values()]) + "\n"), ("Dockerfile", docker)):
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    tag = re.sub("[^a-z0-9]+", "-", out.resolve().name.lower()).strip("-") or "service"
    return f"docker build -t {tag} {shlex.quote(str(out))} && docker run -p 8000:8000 {tag}"


def _extra(about: Mapping[str, Any]) -> str:
    """What the runtime needs beside itself."""
    kind = ((about.get("processor") or {}).get("tokenizer") or {}).get("kind", "word")
    return "" if kind == "word" else "[subwords]"
