"""Models to files and back: the content of `spec.json`, and reading weights into a model."""

from __future__ import annotations

import functools
import math
import platform
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from ..errors import ArgumentError, EasyLearnError, StateError, WeightsError
from ..files import StrPath
from ..nn import registry
from ..nn.pruning import is_large
from ..task import Task
from .archive import Archive, write_archive
from .pack import MARK, How, check, pack, unpack_into

MOST_OF_ALL = 2**40  # numbers of a model, before it is looked at how many are there
MOST_CUT_OFF = 2**26  # numbers that are made and not kept, where a model must be made in full
MOST_OUTPUT = 2**26  # numbers that a layer may give for one image of 224 pixels; VGG's largest gives 3 million
LIBRARIES = ("easylearn", "torch", "torchvision", "numpy", "pandas", "tokenizers", "timm")
# What a module's constructor may raise when it is given numbers that a damaged file made up.
BUILD_ERRORS = (
    ValueError, TypeError, RuntimeError, AssertionError, IndexError, KeyError, AttributeError, ArithmeticError,
    NotImplementedError, RecursionError,
)  # fmt: skip


@contextmanager
def refuse_damage(path: StrPath, what: str) -> Iterator[None]:
    """Turn whatever making something out of a file raises into a `WeightsError` that names the file."""
    try:
        yield
    except EasyLearnError as error:
        if isinstance(error, WeightsError) and str(path) in str(error):
            raise
        raise WeightsError(f"{path}: {error}") from error
    except torch.cuda.OutOfMemoryError:
        raise  # no damage, and whoever asks may free some
    except BUILD_ERRORS as error:
        lacks = re.search(r"(allocate|out of) memory", str(error))
        raise WeightsError(f"{path} {'does not fit into memory' if lacks else what}: {str(error)[:200]}") from error


def describe_task(task: Task) -> dict[str, Any]:
    """A task in what JSON can hold; a language model's names are its vocabulary, which is kept with the data."""
    described = task.to_json()
    return {**described, "names": []} if task.is_streamed else described


def library_versions() -> dict[str, str]:
    """The installed versions of the libraries that a model's numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_model(path: StrPath, model: nn.Module, spec: Mapping[str, Any], *, how: How | None = None) -> Path:
    """Write a model, and what else `spec` says in what JSON can hold, as one file.

    `how` packs the large weights; None keeps every bit. A model that is not what its making would give again is
    refused with a `StateError`.
    """
    description = registry.describe(model)
    tensors: dict[str, Tensor] = {}
    packed: dict[str, str] = {}
    tied: dict[str, str] = {}
    weights = {name for name, _ in model.named_parameters()}
    seen: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise StateError(f"the model's state holds {name!r}, a {type(value).__name__}; only tensors can be written")
        tensor = value.detach()
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and place in seen:
            tied[name] = seen[place]
            continue
        seen[place] = name
        way = _way(tensor, how) if name in weights else None
        if way is None:
            tensors[name] = tensor.cpu().contiguous().clone()
            continue
        packed[name] = way
        tensors.update({f"{name}{MARK}{piece}": t for piece, t in pack(tensor, way).items()})
    kernels = [p for p in model.parameters() if p.ndim == 4 and not p.is_contiguous()]
    last = bool(kernels) and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    about = {"model": description, "channels_last": last, "tied": tied, "packed": packed}
    if not registry.own_parts(description):
        _check_making(model, description)
    return write_archive(path, {**spec, **about, "libraries": library_versions()}, tensors)


def _way(tensor: Tensor, how: How | None) -> How | None:
    """The way to pack a tensor; None for a small one, a vector or whole numbers."""
    if how is None or not is_large(tensor):
        return None
    zeros = 1 - int(tensor.count_nonzero()) / tensor.numel()
    # A bit per number must be made up for by the zeros that are left out.
    worth = zeros > (1 / 8 if how == "sparse_int8" else 1 / 32)
    if how == "sparse":
        return "sparse" if worth else None
    return how if how == "int8" or worth else "int8"


def _check_making(model: nn.Module, description: Any) -> None:
    """Refuse a model that was changed after it was made, which a file could not build again."""
    with torch.device("meta"), registry.undrawn():
        again = registry.build(description)
    if _layout(again) != _layout(model):
        raise StateError(
            f"the {type(model).__name__} was changed after it was made, so a file could not build it again. Register "
            "a function that makes it as it is now (@register), make the learner with that, and export it"
        )


def _layout(module: nn.Module) -> tuple[str, list[tuple[str, torch.Size]]]:
    # Dropouts may be set at any time and mean nothing to a prediction; neither does what training alone does.
    shown = re.sub(r"\b(?:p|share|momentum|embedding|input|weight|hidden|output)=[\d.e-]+", "", repr(module))
    return shown, [(n, t.shape) for n, t in module.state_dict().items()]


def summary(archive: Archive) -> str:
    """The content of a model file as a text: task, model, size, preparation, result and versions."""
    spec = archive.spec
    lines = [f"{archive.path}: {archive.path.stat().st_size:,} bytes, schema {spec['schema']}"]
    task = Task.from_json(spec.get("task"))
    names = ", ".join(task.names[:10]) + (f" and {len(task.names) - 10} more" if len(task.names) > 10 else "")
    data, model, training, libraries = (
        part if isinstance(part := spec.get(name), dict) else {} for name in ("data", "model", "training", "libraries")
    )
    settings = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in task.settings().items())
    about = (f": {names}" if names else "") + (f" ({settings})" if settings else "")
    lines.append(f"predicts   {task.kind}{about}, from {data.get('kind')}")
    made, given = model.get("build", f"your own {model.get('own', 'layers')}"), model.get("args", {})
    shown = ", ".join(f"{n}={v}" for n, v in given.items() if isinstance(v, str | int | float) and v is not False)
    lines.append(f"model      {made}({shown})"[:200])
    numbers = sum(torch.Size(e.shape).numel() for e in archive.entries.values())
    packed = _names(spec, "packed")
    ways = f", {len(packed)} of them packed ({', '.join(sorted(set(packed.values())))})" if packed else ""
    lines.append(f"weights    {len(archive.entries)} tensors of {numbers:,} numbers{ways}")
    plain = {n: v for n, v in data.items() if n not in ("kind", "processor", "labels") and v is not None}
    lines.append("prepares   " + ", ".join(f"{n}={_short(v)}" for n, v in plain.items())[:200])
    result = training.get("result")
    if isinstance(result, dict) and result:
        lines.append("last epoch " + ", ".join(f"{n} {v:.4g}" for n, v in result.items() if isinstance(v, float)))
    made_with = ", ".join(f"{n} {v}" for n, v in libraries.items())
    return "\n".join([*lines, f"made with  {made_with}", f"digest     {spec.get('weights')} of its weights"])


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_short(v) for v in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def load_model(archive: Archive, own: nn.Module | None = None) -> nn.Module:
    """Build the model of an open file and read its weights: on the CPU, in evaluation mode.

    `own` is the model, or the part of it, that the file cannot build. Tensors that do not fit the model are refused
    with a `WeightsError` before anything large is allocated.
    """
    spec = archive.spec
    description = spec.get("model")
    names = registry.own_parts(description)
    if own is None and names:
        raise WeightsError(
            f"{archive.path} holds the weights of a {names[0]} that is not registered, and files hold no code: pass "
            f"one, load_predictor(path, model={names[0]}(...)), or register what makes it and export it again"
        )
    if own is not None and not names:
        raise WeightsError(f"{archive.path} says itself how to build its model; leave out model=")
    if not isinstance(description, Mapping):
        raise WeightsError(f"{archive.path} describes a {type(description).__name__}, which is not a model")
    build = functools.partial(registry.build, description, own)
    if own is None:
        # Without memory first: numbers that a damaged file makes up cost nothing then.
        with torch.device("meta"), registry.undrawn(), _bounded():
            model = _built(archive, build)
        _check_shapes(archive, model)
    if own is None and _is_all_state(model):
        model = _with_memory(model)
    else:
        with _bounded(archive):
            model = _built(archive, build)
        _check_shapes(archive, model)
    if spec.get("channels_last") is True:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    packed, tied = _names(spec, "packed"), _names(spec, "tied")
    pieces = _pieces(archive, packed)
    with torch.no_grad(), refuse_damage(archive.path, "is damaged"):
        for name, live in model.state_dict(keep_vars=True).items():
            stored = tied.get(name, name)
            if stored in packed:
                read = {piece: archive.read(key) for piece, key in pieces[stored].items()}
                unpack_into(live, read, packed[stored])
            elif archive.entries[stored].dtype == live.dtype:
                archive.read_into(stored, live)
            else:
                live.data = archive.read(stored)  # a model in half precision, say
    return model.eval()


class _Bound(threading.local):
    """How many numbers a model may have that this thread makes of a file, and has so far; None where it makes none."""

    most: int | None = None
    made = 0


_bound, _hooking = _Bound(), threading.Lock()  # torch counts its hooks without one


@functools.cache
def _count_numbers() -> None:
    """Look at what modules get, from now on: taking such a hook away breaks what another thread builds at the time."""

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        if _bound.most is None or tensor is None:
            return
        _bound.made += tensor.numel()
        if _bound.made > _bound.most:
            raise WeightsError(
                f"the file describes more than {_bound.most:,} numbers and does not hold them; it is damaged"
            )

    hooks.register_module_parameter_registration_hook(count)
    hooks.register_module_buffer_registration_hook(count)


@contextmanager
def _bounded(archive: Archive | None = None) -> Iterator[None]:
    """Refuse a description that makes many more numbers than its file holds, or a layer with a huge output.

    Some models are built in full before a part is cut off, and run once to see their shapes. Models of other threads
    are theirs.
    """

    def look(module: nn.Module, inputs: Any, out: Any) -> None:
        if _bound.most is not None and isinstance(out, Tensor) and out.numel() > MOST_OUTPUT:
            raise WeightsError(f"a {type(module).__name__} of the model gives {out.numel():,} numbers for one image")

    entries = () if archive is None else archive.entries.values()
    numbers = sum(math.prod(e.shape) * (8 if e.dtype == torch.uint8 else 1) for e in entries)
    with _hooking:
        _count_numbers()
        handle = hooks.register_module_forward_hook(look)
    _bound.most, _bound.made = MOST_OF_ALL if archive is None else MOST_CUT_OFF + 2 * numbers, 0
    try:
        yield
    finally:
        _bound.most = None
        handle.remove()


def _is_all_state(model: nn.Module) -> bool:
    """Whether the tensors of a module are its parameters and those buffers that are saved: then all are in the file."""
    saved = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    for module in model.modules():
        known = {"_parameters", "_buffers"} | ({"_flat_weights"} if isinstance(module, nn.RNNBase) else set())
        for name, value in vars(module).items():
            parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            tensors = [v for v in parts if isinstance(v, Tensor)]
            if any(name not in known or (id(v) not in saved and v.numel()) for v in tensors):
                return False
    return True


def _with_memory(model: nn.Module) -> nn.Module:
    """The module with uninitialised memory for its tensors; what was tied stays tied."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        weights = module.named_parameters(recurse=False, remove_duplicate=False)
        for name, tensor in [*weights, *module.named_buffers(recurse=False, remove_duplicate=False)]:
            if id(tensor) not in made:
                blank = torch.empty(tensor.shape, dtype=tensor.dtype)
                is_weight = isinstance(tensor, nn.Parameter)
                made[id(tensor)] = nn.Parameter(blank, requires_grad=tensor.requires_grad) if is_weight else blank
            setattr(module, name, made[id(tensor)])
    return model


def _built(archive: Archive, build: Callable[[], Any]) -> nn.Module:
    with refuse_damage(archive.path, "describes a model that cannot be built"):
        model = build()
    if not isinstance(model, nn.Module):
        raise WeightsError(f"{archive.path} describes a {type(model).__name__}, which is not a model")
    return model


def _names(spec: Mapping[str, Any], key: str) -> dict[str, str]:
    given = spec.get(key, {})
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        raise WeightsError(f"the file's list of {key} tensors is damaged")
    return given


def _pieces(archive: Archive, packed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The file's names for the pieces of each packed tensor."""
    found: dict[str, dict[str, str]] = {name: {} for name in packed}
    for key in archive.entries:
        name, mark, piece = key.partition(MARK)
        if mark and name in found:
            found[name][piece] = key
    return found


def _check_shapes(archive: Archive, model: nn.Module) -> None:
    """Refuse tensors that are missing, left over or of another shape than the model's."""
    packed, tied = _names(archive.spec, "packed"), _names(archive.spec, "tied")
    pieces, left, state = _pieces(archive, packed), dict(archive.entries), model.state_dict()
    untied = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items() if name not in tied}
    wrong = [
        f"{name} should be the same as {other}"
        for name, other in tied.items()
        if name not in state or untied.get(other) != (state[name].shape, state[name].dtype)
    ]
    for name in untied:
        live = state[name]
        if name in packed:
            found = {piece: left.pop(key) for piece, key in pieces[name].items()}
            try:
                check({n: torch.empty(e.shape, dtype=e.dtype, device="meta") for n, e in found.items()},
                      packed[name], tuple(live.shape))  # fmt: skip
            except ArgumentError as error:
                wrong.append(f"{name}: {error}")
        elif name not in left:
            wrong.append(f"{name} is missing")
        else:
            entry, shape = left.pop(name), tuple(live.shape)
            floats = entry.dtype.is_floating_point and live.is_floating_point()
            if entry.shape != shape or not (floats or entry.dtype == live.dtype):
                wrong.append(f"{name}: {entry.dtype} {entry.shape} in the file, {live.dtype} {shape} in the model")
    wrong += [f"{n} belongs to no part of the model" for n in (*left, *(packed.keys() - state.keys()))]
    if wrong:
        shown = "; ".join(w[:200] for w in wrong[:3]) + (f", and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise WeightsError(
            f"the weights in {archive.path} do not fit the model: {shown}. Was the model changed since it was exported?"
        )
