"""A nested state in one safetensors file: tensors as such, all the rest as JSON, with a digest over both.

No pickle is written or read. A state holds numbers, strings, None, lists, tuples, dictionaries and tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import SchemaError, StateError, WeightsError
from ...files import StrPath, digest, read_tensors, write_tensors

SCHEMA = 2
_JSON = "json"
_HEADER = "easylearn"
_WHAT = "checkpoint"


def write_state(path: StrPath, state: Mapping[str, Any], info: Mapping[str, Any]) -> Path:
    """Write a state of plain values and tensors, whole or not at all; gives the path.

    Args:
        path: the file to create or replace.
        state: anything else in it is a StateError, whose message says where.
        info: a few plain values that `read_info` reads without the rest.

    >>> import tempfile
    >>> file = write_state(Path(tempfile.mkdtemp()) / "a.safetensors", {"x": (1, torch.ones(2))}, {"step": 3})
    >>> read_info(file)["step"], read_state(file)
    (3, {'x': (1, tensor([1., 1.]))})
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encode(state, "", tensors))
    tensors[_JSON] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    known = {**info, "what": _WHAT, "schema": SCHEMA}
    header = {_HEADER: json.dumps({**known, "digest": _digest(known, tensors)})}
    return write_tensors(path, tensors, header)


def read_info(path: StrPath) -> dict[str, Any]:
    """The few values of a file's header; the rest is not read. Raises as `read_state`."""
    info, _ = read_tensors(path, _HEADER, SCHEMA, with_tensors=False)
    return _checked(path, info)


def read_state(path: StrPath) -> dict[str, Any]:
    """The state that `write_state` wrote, checked against its digest.

    Raises:
        WeightsError: the file is missing, damaged, or something else; or another version of easylearn wrote it.
    """
    file = Path(path)
    header, mapped = read_tensors(file, _HEADER, SCHEMA)
    info = _checked(file, header)
    tensors = {name: tensor.clone() for name, tensor in mapped.items()}  # they may lie in a file to be replaced
    if _JSON not in tensors or tensors[_JSON].dtype != torch.uint8:
        raise WeightsError(f"{file} is damaged: a part of it is missing")
    given = info.pop("digest")
    if given != _digest(info, tensors):
        raise WeightsError(f"{file} is damaged: its content does not have the digest that was written with it")
    try:
        state = _decode(json.loads(bytes(tensors.pop(_JSON).numpy())), tensors)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{file} is damaged: {error}") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{file} is damaged: it holds a {type(state).__name__} instead of a dictionary")
    return state


def _checked(file: StrPath, info: dict[str, Any] | None) -> dict[str, Any]:
    if info is None or info.get("what") != _WHAT or not isinstance(info.get("digest"), str):
        raise WeightsError(f"{file} is not a checkpoint of a run; weights alone are read by learn.load")
    if info["schema"] < SCHEMA:
        raise SchemaError(
            f"{file} was written by an older easylearn (schema {info['schema']}), whose runs this one cannot go on "
            "with; start the fit anew"
        )
    return info


def _digest(info: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    def parts() -> Iterator[str | memoryview]:
        yield json.dumps(dict(info), sort_keys=True)
        for name in sorted(tensors):
            tensor = tensors[name]
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}"
            yield tensor.reshape(-1).view(torch.uint8).numpy().data

    return digest(parts())


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON; tensors are put into `tensors` and referred to by name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return _encode_tensor(value, path, tensors)
    if isinstance(value, list | tuple):
        items = [_encode(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        if any(type(k) not in (str, int) for k in value):
            raise StateError(f"a checkpoint cannot hold {path[1:]}: its keys are neither strings nor whole numbers")
        return {"dict": [[k, _encode(v, f"{path}/{k}", tensors)] for k, v in value.items()]}
    raise StateError(
        f"a checkpoint cannot hold {path[1:]}, a {type(value).__name__}: only numbers, strings, None, lists, tuples, "
        "dictionaries and tensors can be written"
    )


def _encode_tensor(value: Tensor, path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if value.layout != torch.strided or value.is_quantized:
        raise StateError(f"a checkpoint cannot hold {path[1:]}: a tensor of layout {value.layout}")
    name = path[1:]
    while name in tensors or name == _JSON:
        name += "'"
    given = value.detach()
    tensors[name] = given.cpu().contiguous()
    # The order in memory counts: an optimizer's kernels want a weight and what belongs to it in the same one.
    stride, usual = given.stride(), torch.empty(given.shape, device="meta").stride()
    in_order = stride == usual or not _is_dense(given.shape, stride)
    return {"tensor": name} if in_order else {"tensor": name, "stride": list(stride)}


def _is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether each place in memory belongs to one entry, in any order."""
    expected = 1
    for step, size in sorted((s, n) for s, n in zip(stride, shape, strict=True) if n != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if "dict" in value:
        return {k: _decode(v, tensors) for k, v in value["dict"]}
    if "tuple" in value:
        return tuple(_decode(v, tensors) for v in value["tuple"])
    tensor = tensors[value["tensor"]]
    if "stride" not in value:
        return tensor
    stride = tuple(value["stride"])
    if len(stride) != tensor.ndim or not _is_dense(tensor.shape, stride):
        raise ValueError(f"strides {stride} do not fit a tensor of shape {tuple(tensor.shape)}")
    return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)
