"""A folder that serves a model in a container."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import ArgumentError
from ..files import atomic_write
from .opening import open_engine
from .refusals import Limits

_DOCKERFILE = """\
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 app
WORKDIR /service
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY {model} .
USER app
EXPOSE 8000
STOPSIGNAL SIGTERM
# Everyone who reaches the port is let in: put a proxy in front, or mount a token and write --token-file for --open.
CMD ["{command}", "serve", "{model}", "--host", "0.0.0.0", "--open", "--workers", "1"]
"""


def build(model: Path, out: Path) -> str:
    """Write model, requirements and Dockerfile into a folder; says what to do with it.

    Args:
        model: an .onnx file, for an image without torch, or one that `learn.export` wrote.
        out: the folder; what is in it under these names is replaced.
    """
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out} is a file; name a folder to write")
    open_engine(model, Limits()).check()
    graph = model.suffix.lower() == ".onnx"
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / model.name) as temporary:
        shutil.copyfile(model, temporary)
    needs = "easylearn-runtime\n" if graph else "easylearn[serve]\n"
    command = "easylearn-runtime" if graph else "easylearn"
    for name, text in (
        ("requirements.txt", needs), ("Dockerfile", _DOCKERFILE.format(model=model.name, command=command)),
    ):  # fmt: skip
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return f"docker build -t {out.name} {out} && docker run -p 8000:8000 {out.name}"
