"""A static page that runs a model in the browser, without a server of ours: for any host of plain files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, WeightsError
from ..files import atomic_write
from ..texts import words
from ..texts.vocab import SPECIALS, Vocab
from .engine import OnnxEngine
from .opening import open_engine
from .refusals import Limits
from .rows import RowReader

_HERE = Path(__file__).parent
_OURS = ("page.css", "page.js", "page.drawn.js", "local.js", "prepare.js")
# Of onnxruntime-web's `dist`: the reader of WebAssembly, which holds its loader, and the runtime itself.
_RUNTIME = {"ort.js": "ort.wasm.bundle.min.mjs", "ort.wasm": "ort-wasm-simd-threaded.wasm"}
_POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; base-uri 'none'"
_SPACE = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def write_site(model: Path, out: Path, runtime: Path) -> str:
    """Write a page, a model and what runs it into a folder; says what to do with it.

    Args:
        model: an .onnx file that `learn.export` wrote.
        out: the folder; what is in it under the names of the page's files is replaced.
        runtime: the folder `dist` of the npm package onnxruntime-web.

    Raises:
        ArgumentError: a file or folder is not what it should be.
        WeightsError: the model is damaged, or prepares its items in a way that the page cannot.
    """
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out} is a file; name a folder to write")
    missing = [name for name in _RUNTIME.values() if not (runtime / name).is_file()]
    if missing:
        raise ArgumentError(
            f"{runtime} has no {missing[0]}: run npm install onnxruntime-web, and name its folder with "
            "--runtime node_modules/onnxruntime-web/dist"
        )
    engine = open_engine(model, Limits())
    if not isinstance(engine, OnnxEngine):
        raise ArgumentError(f'{model} is no .onnx file: write one with learn.export("model.onnx", format="onnx")')
    engine.check()
    said = {**engine.describe(), "name": model.stem, "prepare": _recipe(engine)}
    page = (_HERE / "page.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    page = page.replace('<html lang="en">', '<html lang="en" data-local>').replace("<head>", f"<head>\n{policy}")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("index.html", page), ("model.json", json.dumps(said, ensure_ascii=False))):
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    files = {**{name: _HERE / name for name in _OURS}, **{name: runtime / of for name, of in _RUNTIME.items()}}
    for name, source in {**files, "model.onnx": model}.items():
        with atomic_write(out / name) as temporary:
            shutil.copyfile(source, temporary)
    return f"python -m http.server -d {out} shows it at http://127.0.0.1:8000; any host of plain files will do"


def _recipe(engine: OnnxEngine) -> dict[str, Any]:
    """How items are prepared, as prepare.js takes it."""
    about = engine.about
    if engine.items == "images":
        if engine.drawn == "image":
            raise WeightsError(
                f"{engine.path} makes images, which a page without a server does not do: easylearn serve {engine.path}"
            )
        return {name: about.get(name) for name in ("size", "channels", "method", "crop_pct", "long_side", "pad")}
    processor = about.get("processor") or {}
    if engine.items == "table":
        cats = [{"name": c.name, "levels": [str(v) for v in c.levels]} for c in RowReader(about).cats]
        return {"cats": cats, "conts": processor["conts"]}
    if engine.items == "histories":
        raise WeightsError(f"{engine.path} recommends by histories, and a page without a server has no form for them")
    if not processor or (isinstance(about.get("columns"), list) and len(about["columns"]) > 1):
        raise WeightsError(
            f"{engine.path} reads several columns of texts, or splits them by a function; a page has one text box"
        )
    return {
        "tokenizer": _tokenizer(engine.path, processor["tokenizer"]),
        "vocab": list(Vocab.from_state(processor["vocab"]).tokens),
        "max_tokens": about.get("max_tokens"),
        "backward": bool(about.get("backward")),
    }


def _tokenizer(path: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    if state["kind"] == "word":
        dropped, parts = (in_javascript(p.pattern) for p in words.patterns())
        how = {name: state.get(name, usual) for name, usual in (("lower", True), ("keep_newlines", False))}
        return {"kind": "word", **how, "dropped": dropped, "parts": parts, "specials": list(SPECIALS)}
    model = json.loads(state["model"])["model"]
    if model["type"] != "BPE":
        raise WeightsError(f"{path} has the tokenizer {model['type']}; a page has words and byte pairs (bpe)")
    return {"kind": "bpe", "model": {"merges": model["merges"]}}


def in_javascript(pattern: str) -> str:
    r"""A pattern of the rules of words as JavaScript takes it, with the flag u.

    >>> in_javascript(r"(?P<sign>[^\w\s])(?P=sign)*\d")[:12]
    '(?<sign>[^\\p'
    """
    ideographs = words.IDEOGRAPHS
    for of, becomes in (
        (f"[^\\W_{ideographs}]", f"(?:(?![_{ideographs}])[\\p{{L}}\\p{{N}}])"),
        (r"[^\W\d_]", r"[\p{L}\p{Nl}\p{No}]"),
        (r"(?!\w)", r"(?![\p{L}\p{N}_])"),
        (r"[^\w\s", r"[^\p{L}\p{N}_" + _SPACE),
        (r"[^\s", "[^" + _SPACE),
        (r"\d", r"\p{Nd}"),
        ("(?P<", "(?<"),
        ('\\"', '"'),
    ):
        pattern = pattern.replace(of, becomes)
    return re.sub(r"\(\?P=(\w+)\)", r"\\k<\1>", pattern)
