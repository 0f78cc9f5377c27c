"""The Open Inference Protocol, version 2: tensors as JSON or as bytes.

https://github.com/open-inference/open-inference-protocol. Beside the inputs of the graph each model takes "items", of
type BYTES: files of images, texts, or rows as JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .batching import Batcher
from .engine import USUAL, Engine, Floats, OnnxEngine
from .exchange import LONG_ANSWER, Answer, Request
from .refusals import Limits, RefusedError, parse_json

ITEMS = "items"
_TYPES: Mapping[str, Any] = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}
_NAMES = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
_LENGTH = "inference-header-content-length"
_MOST = 10**8  # numbers in a tensor
_DEPTH = 8  # lists within one another, or axes

Predicted = Callable[[list[Any]], Awaitable[list[Floats]]]
Computed = Callable[[Callable[[], Floats], int, float], Awaitable[Floats]]


def metadata(name: str, engine: Engine) -> dict[str, Any]:
    """A model's inputs and outputs; lengths that vary are -1."""
    inputs: list[dict[str, Any]] = [{"name": ITEMS, "datatype": "BYTES", "shape": [-1]}]
    if isinstance(engine, OnnxEngine):
        inputs += [
            {
                "name": i["name"],
                "datatype": _NAMES[i["dtype"]],
                "shape": [n if isinstance(n, int) else -1 for n in i["shape"]],
            }
            for i in engine.inputs
        ]
    kind, n = engine.task.get("kind"), len(engine.names)
    shape = [-1, -1, 6] if kind == "boxes" else [-1, n, -1, -1] if kind in ("masks", "image") else [-1, n]
    outputs = [{"name": "probs", "datatype": "FP32", "shape": shape}]
    return {
        "name": name, "versions": [engine.version[:12]], "platform": f"easylearn_{engine.describe()['engine']}",
        "inputs": inputs, "outputs": outputs, "parameters": {"task": engine.task},
    }  # fmt: skip


async def infer(
    name: str, served: Batcher, request: Request, predicted: Predicted, computed: Computed, limits: Limits
) -> Answer:
    """The answer to an inference request.

    Args:
        name: of the model.
        served: the model.
        request: what is asked.
        predicted: what predicts items.
        computed: what calls a function that computes so many items, of some weight.
        limits: of how many items there may be.
    """
    length, engine = request.header(_LENGTH), served.engine
    given, tensors, items = await request.read(lambda body: _read_all(length, body, engine, limits))
    if items:
        probs = _together(await predicted(items))
    elif isinstance(engine, OnnxEngine):
        if any(isinstance(x, list) for x in tensors.values()):
            raise RefusedError(400, f"only {ITEMS!r} is of type BYTES")
        n = max(len(x) if x.ndim else 0 for x in tensors.values())
        if n > limits.max_items:
            raise RefusedError(413, f"at most {limits.max_items:,} items are taken in a request")
        weight = max(n, tensors["tokens"].size / USUAL) if "tokens" in tensors else float(n)
        probs = await computed(partial(engine.tensors, tensors), n, weight)
    else:
        raise RefusedError(400, f"this model takes the input {ITEMS!r}, of type BYTES")
    write = partial(_answer, name, engine, given, probs.astype(np.float32))
    if probs.size <= LONG_ANSWER:
        return write()
    return await served.apart(write, len(probs), served.weigh_answer(len(probs), probs.size))


def _read_all(
    length: str, body: bytes, engine: Engine, limits: Limits
) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """What a request says, its tensors, and its items, where it has them instead."""
    given, tensors = _read(length, body)
    if ITEMS not in tensors:
        return given, tensors, []
    held = tensors[ITEMS]
    if not isinstance(held, list) or not held:
        raise RefusedError(400, f"{ITEMS!r} is of type BYTES, with an item at least")
    if len(held) > limits.max_items:
        raise RefusedError(413, f"at most {limits.max_items:,} items are taken in a request")
    return given, tensors, [_item(engine, each) for each in held]


def _read(length: str, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a request says, and its tensors by name; `length` is that of the JSON, "" where there is nothing else."""
    if length and not (re.fullmatch("[0-9]{1,15}", length) and int(length) <= len(body)):
        raise RefusedError(400, f"{_LENGTH} is a number of bytes of the body, got {length[:20]!r}")
    n = int(length) if length else len(body)
    given, rest = parse_json(body[:n]), memoryview(body)[n:]
    if not isinstance(given, dict) or not isinstance(given.get("inputs"), list) or not given["inputs"]:
        raise RefusedError(400, 'expected {"inputs": [{"name", "shape", "datatype", "data"}]}')
    tensors: dict[str, Any] = {}
    for said in given["inputs"]:
        key, value, rest = _tensor(said, rest)
        if key in tensors:
            raise RefusedError(400, f"the input {key[:60]!r} comes twice")
        tensors[key] = value
    if len(rest):
        raise RefusedError(400, f"{len(rest)} bytes of the body belong to no input")
    return given, tensors


def _together(found: list[Floats]) -> Floats:
    """What is said of each item as a tensor."""
    shapes = {row.shape for row in found}
    if len(shapes) > 1:  # pixels of images of several shapes
        raise RefusedError(
            400, f"the answers have the shapes {sorted(shapes)[:3]}, and a tensor has one: ask one by one"
        )
    return np.stack(found)


def _answer(name: str, engine: Engine, given: Mapping[str, Any], probs: npt.NDArray[np.float32]) -> Answer:
    wanted = given.get("outputs")
    wants = wanted[0] if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict) else {}
    if wants.get("name", "probs") != "probs":
        raise RefusedError(400, f"there is no output {str(wants['name'])[:60]!r}; there is 'probs'")
    settings = (_parameters(given).get("binary_data_output"), _parameters(wants).get("binary_data"))
    output: dict[str, Any] = {"name": "probs", "datatype": "FP32", "shape": list(probs.shape)}
    said: dict[str, Any] = {"model_name": name, "model_version": engine.version[:12], "outputs": [output]}
    if isinstance(given.get("id"), str):
        said = {"id": given["id"][:200], **said}
    if True not in settings:
        output["data"] = []
        text = json.dumps(said).removesuffix("]}]}")  # in ASCII, for an id may hold half of a character
        return Answer(f"{text}{', '.join(_numbers_of(probs))}]}}]}}".encode())
    held = probs.tobytes()
    output["parameters"] = {"binary_data_size": len(held)}
    head = json.dumps(said).encode()
    return Answer(head + held, "application/octet-stream", {_LENGTH: str(len(head))})


def _numbers_of(probs: npt.NDArray[np.float32]) -> Iterator[str]:
    """Numbers in JSON, some after others, for while some are written nobody else runs."""
    flat = probs.reshape(-1)
    for first in range(0, len(flat), LONG_ANSWER):
        some = flat[first : first + LONG_ANSWER].tolist()
        yield json.dumps([x if math.isfinite(x) else None for x in some])[1:-1]


def _parameters(given: Mapping[str, Any]) -> Mapping[str, Any]:
    found = given.get("parameters")
    return found if isinstance(found, dict) else {}


def _tensor(said: Any, rest: memoryview) -> tuple[str, Any, memoryview]:
    """Name and value of an input, and the bytes after it."""
    name, shape, datatype = _said_of(said)
    size = _parameters(said).get("binary_data_size")
    if size is not None and not (type(size) is int and 0 <= size <= len(rest)):
        raise RefusedError(400, f"binary_data_size of {name[:60]!r} is {size!r}; {len(rest)} bytes are there")
    held = None if size is None else rest[:size]
    rest = rest if size is None else rest[size:]
    n = math.prod(shape)
    if datatype == "BYTES":
        items = _strings(held) if held is not None else [_encoded(x) for x in _flat(said.get("data"))]
        if len(items) != n:
            raise RefusedError(400, f"{name[:60]!r} has {len(items)} items and the shape {shape}")
        return name, items, rest
    if datatype not in _TYPES:
        raise RefusedError(400, f"the datatype {datatype[:20]!r} is not taken; {[*_TYPES, 'BYTES']} are")
    dtype = np.dtype(_TYPES[datatype])
    if held is None:
        return name, _numbers(name, _flat(said.get("data")), n, datatype).reshape(shape), rest
    if len(held) != n * dtype.itemsize:
        raise RefusedError(400, f"{name[:60]!r} has {len(held)} bytes, and its shape needs {n * dtype.itemsize}")
    return name, np.frombuffer(held, dtype.newbyteorder("<")).astype(dtype).reshape(shape), rest


def _said_of(said: Any) -> tuple[str, list[int], str]:
    """Name, shape and datatype of an input."""
    if not isinstance(said, dict) or not all(
        isinstance(said.get(k), t) for k, t in (("name", str), ("shape", list), ("datatype", str))
    ):
        raise RefusedError(400, "an input has a name, a shape and a datatype")
    name, shape = said["name"], said["shape"]
    is_whole = len(shape) <= _DEPTH and all(type(n) is int and 0 <= n <= _MOST for n in shape)
    if not is_whole or math.prod(max(1, n) for n in shape) > _MOST:
        raise RefusedError(400, f"the shape of {name[:60]!r} is impossible: {str(shape)[:60]}")
    return name, shape, said["datatype"]


def _numbers(name: str, flat: list[Any], n: int, datatype: str) -> npt.NDArray[Any]:
    """The data of an input out of JSON."""
    if len(flat) != n or not all(type(x) in (int, float, bool) for x in flat):
        raise RefusedError(
            400, f"the data of {name[:60]!r} is {n} numbers, as its shape says; there are {len(flat)} values"
        )
    dtype = np.dtype(_TYPES[datatype])
    if dtype.kind != "f" and any(type(x) is float and x % 1 for x in flat):
        raise RefusedError(400, f"the data of {name[:60]!r} is not of the type {datatype}: it holds fractions")
    try:
        if dtype.kind != "f" and flat and not np.iinfo(dtype).min <= min(flat) <= max(flat) <= np.iinfo(dtype).max:
            raise OverflowError("it holds numbers beyond its range")  # older NumPys take what is left of them
        with np.errstate(over="ignore"):  # what is too large for 32 bits is infinite
            return np.array(flat, np.float64 if dtype.kind == "f" else object).astype(dtype)
    except (OverflowError, ValueError, TypeError) as error:
        raise RefusedError(400, f"the data of {name[:60]!r} is not of the type {datatype}: {error}") from error


def _flat(data: Any, depth: int = _DEPTH) -> list[Any]:
    if not isinstance(data, list) or not depth:
        raise RefusedError(400, "data is a list")
    if not any(isinstance(x, list) for x in data):
        return data
    return [y for x in data for y in (_flat(x, depth - 1) if isinstance(x, list) else [x])]


def _encoded(x: Any) -> bytes:
    if not isinstance(x, str):
        raise RefusedError(400, "data of type BYTES is text in JSON")
    try:
        return x.encode()
    except UnicodeEncodeError as error:
        raise RefusedError(400, "data of type BYTES holds half of a character") from error


def _strings(held: memoryview) -> list[bytes]:
    """Byte strings, each after its length in four bytes."""
    out, at = [], 0
    while at < len(held):
        if len(held) - at < 4:
            raise RefusedError(400, "the bytes end within a length")
        (n,) = struct.unpack_from("<I", held, at)
        if n > len(held) - at - 4:
            raise RefusedError(400, f"an item says to be {n} bytes long, and {len(held) - at - 4} are there")
        out.append(bytes(held[at + 4 : at + 4 + n]))
        at += 4 + n
    return out


def _item(engine: Engine, held: bytes) -> Any:
    if engine.items == "images":
        if held[:4] in (b"/9j/", b"iVBO"):  # base64 of a JPEG or PNG, where JSON cannot hold bytes
            try:
                return base64.b64decode(held)
            except binascii.Error as error:
                raise RefusedError(400, f"an item is no base64: {error}") from error
        return held
    if engine.items in ("table", "histories"):
        return parse_json(held)
    try:
        return held.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(400, "an item is no text in UTF-8") from error
