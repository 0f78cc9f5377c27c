"""Names for what models are made of, so that a file can say how to build one without holding any code.

A registered class or function leaves on each module that it makes a note of plain values: its name and its arguments.
`describe` reads the note, `build` calls what is registered under the name: nothing else can be called by a file.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ArgumentError, WeightsError, did_you_mean
from .dropout import Dropout

_TORCH_LAYERS: Mapping[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm,
        nn.LayerNorm, nn.Dropout, nn.Dropout2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU,
        nn.Hardswish, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Identity, nn.Flatten, nn.Unflatten, nn.MaxPool1d,
        nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
        nn.Upsample, nn.ZeroPad2d,
    )
}  # fmt: skip
"""Layers of torch's that are described by what they keep of their arguments; `nn.Sequential` of them, too."""

T = TypeVar("T", bound=Callable[..., Any])
_NOTE = "_easylearn_note"
_MAKERS: dict[str, Callable[..., Any]] = {}
DEEPEST = 20  # levels of modules in modules that a description may have
_DRAWS = ("uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_")
MOST_PARTS = 2**16  # values of a description, floats left aside: each may become a module of some kilobytes


def register(name: str) -> Callable[[T], T]:
    """Let files call a class or a function of yours by name, to build the models in them.

    What it is called with must be plain: numbers, texts, None, lists, dictionaries, or modules that are registered
    themselves. Register it under the same name before the file is loaded.

    Args:
        name: what files call it; of your own choice, and no other's.

    Returns:
        The decorator.

    >>> @register("doctest-net")
    ... class Net(nn.Sequential):
    ...     def __init__(self, width: int = 4) -> None:
    ...         super().__init__(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
    >>> describe(Net(8))
    {'build': 'doctest-net', 'args': {'width': 8}}
    >>> build(describe(Net(8)))[0]
    Linear(in_features=3, out_features=8, bias=True)
    """
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"register takes a name, as in @register('my-net'), got {name!r}")

    def decorate(maker: T) -> T:
        known = _MAKERS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (maker.__module__, maker.__qualname__):
            raise ArgumentError(
                f"the name {name!r} belongs to {known.__module__}.{known.__qualname__}; register yours under another"
            )
        made: Any = maker
        if not isinstance(maker, type):
            made = _noting(maker, name)
        elif not dataclasses.is_dataclass(maker):  # a dataclass is its own note
            made.__init__ = _noting(made.__init__, name, maker)
        _MAKERS[name] = made
        return made  # type: ignore[no-any-return]

    return decorate


def _noting(call: Any, name: str, cls: type | None = None) -> Any:
    """The same call, with its arguments noted: on what it returns, or, as the constructor of `cls`, on the instance."""
    signature = inspect.signature(call)

    @functools.wraps(call)
    def noting(*args: Any, **kwargs: Any) -> Any:
        made = call(*args, **kwargs)
        if cls is None:
            _note_call(made, name, signature.bind(*args, **kwargs))
        elif type(args[0]) is cls:  # a subclass has arguments of its own
            _note_call(args[0], name, signature.bind(*args, **kwargs), first=1)
        return made

    return noting


def _note_call(made: Any, name: str, call: inspect.BoundArguments, first: int = 0) -> None:
    """Note a call whose arguments can all be given by name; what takes others is its owner's alone."""
    given: dict[str, Any] = {}
    for argument, value in list(call.arguments.items())[first:]:
        kind = call.signature.parameters[argument].kind
        if kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
            return
        given.update(value if kind == inspect.Parameter.VAR_KEYWORD else {argument: value})
    note(made, name, given)


def note(made: Any, name: str, arguments: Mapping[str, Any]) -> None:
    """Write on a module what made it, and with which arguments: as plain values, so no module is held twice."""
    object.__setattr__(made, _NOTE, {"build": name, "args": {n: describe(v) for n, v in arguments.items()}})


def describe(value: Any) -> Any:
    """How to make a module, or what one was made with, again: in what JSON can hold.

    A registered thing is `{"build": name, "args": {...}}`, and what cannot be described `{"own": its type}`.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list | tuple):
        return [describe(v) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {"dict": {k: describe(v) for k, v in value.items()}}
    return _describe_object(value)


def _describe_object(value: Any) -> dict[str, Any]:
    """A module or a dataclass by its note, its layers, its arguments or its fields."""
    found = getattr(value, _NOTE, None)
    if isinstance(found, dict):
        return found
    if type(value) is nn.Sequential:
        return {"layers": {name: describe(layer) for name, layer in value.named_children()}}
    kind = nn.Dropout if type(value) is Dropout else type(value)  # which does the same, and files call it so
    if kind in _TORCH_LAYERS.values():
        return {"build": f"torch.nn.{kind.__name__}", "args": _torch_arguments(value)}
    name = next((name for name, maker in _MAKERS.items() if maker is type(value)), None)
    if name is not None and dataclasses.is_dataclass(value):
        return {"build": name, "args": {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}}
    return {"own": type(value).__name__}


def _torch_arguments(layer: nn.Module) -> dict[str, Any]:
    """What a layer of torch's was made with: it keeps each argument under its name, and a bias as a parameter."""
    given: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(type(layer).__init__).parameters.items())[1:]:
        value = getattr(layer, name, parameter.default)
        if name == "bias" and not isinstance(value, bool):
            value = value is not None
        # What is usual may be unknown to another version of torch.
        if value != parameter.default and not _is_for_torch(name):
            given[name] = describe(value)
    return given


def _is_for_torch(name: str) -> bool:
    """Whether a layer's argument says where it lies, or is torch's own; a device would overrule that of the loader."""
    return name in ("device", "dtype") or name.startswith("_")


def own_parts(description: Any) -> list[str]:
    """The types in a description that only their owner can make.

    >>> own_parts({"build": "a", "args": {"net": {"own": "MyNet"}, "n": [1, 2]}})
    ['MyNet']
    """
    if isinstance(description, list):
        return [name for part in description for name in own_parts(part)]
    if not isinstance(description, Mapping):
        return []
    own = set(description) == {"own"}
    return [str(description["own"])] if own else own_parts(list(description.values()))


def is_made_by(description: Any, kind: type) -> bool:
    """Whether a description names a registered class that is, or comes of, `kind`."""
    name = description.get("build") if isinstance(description, Mapping) else None
    maker = _MAKERS.get(name) if isinstance(name, str) else None
    return isinstance(maker, type) and issubclass(maker, kind)


def build(description: Any, own: Any = None) -> Any:
    """Make what `describe` described; only what is registered can be called.

    Args:
        description: what `describe` gave.
        own: takes the place of the one part that nobody else can make, if there is one.

    Raises:
        WeightsError: a name is not registered, or the arguments do not suit it.
    """
    if _count(description, DEEPEST) > MOST_PARTS:
        raise WeightsError(f"the file describes a model of more than {MOST_PARTS:,} parts; it is damaged")
    return _build(description, own, DEEPEST)


def _count(given: Any, levels: int) -> int:
    """The values in a description, down to the level where `_build` refuses it."""
    if isinstance(given, float) or levels < 0:
        return 0
    parts = given.values() if isinstance(given, Mapping) else given if isinstance(given, list) else ()
    return 1 + sum(_count(v, levels - 1) for v in parts)


def _build(given: Any, own: Any, levels: int) -> Any:
    if levels < 0:
        raise WeightsError(f"the file describes a model of more than {DEEPEST} levels; it is damaged")
    if given is None or isinstance(given, bool | int | float | str):
        return given
    if isinstance(given, list):
        return [_build(v, own, levels - 1) for v in given]
    if not isinstance(given, Mapping):
        raise WeightsError(f"the file describes a model with a {type(given).__name__}; it is damaged")
    if set(given) == {"own"}:
        if own is None:
            raise WeightsError(
                f"the model holds a {str(given['own'])[:100]}, which the file cannot build; pass one with model="
            )
        return own
    return _build_object(given, own, levels)


def _build_object(given: Mapping[Any, Any], own: Any, levels: int) -> Any:
    """The value of a description with one of the keys that `describe` writes."""
    keys = set(given)

    def build_all(parts: Mapping[Any, Any]) -> dict[str, Any]:
        return {str(k): _build(v, own, levels - 1) for k, v in parts.items()}

    if keys == {"float"} and given["float"] in ("nan", "inf", "-inf"):
        return float(given["float"])
    if keys == {"layers"} and isinstance(given["layers"], Mapping):
        return nn.Sequential(OrderedDict(build_all(given["layers"])))
    if keys == {"dict"} and isinstance(given["dict"], Mapping):
        return build_all(given["dict"])
    if keys != {"build", "args"} or not isinstance(given["args"], Mapping) or not isinstance(given["build"], str):
        raise WeightsError(f"the file describes a model by {str(sorted(map(str, keys)))[:100]}, which is unknown")
    maker = _MAKERS.get(given["build"]) or _TORCH_LAYERS.get(given["build"].removeprefix("torch.nn."))
    if maker is None:
        raise WeightsError(
            f"the model is made by {given['build'][:100]!r}, and nothing is registered under that name: import the "
            f"module that registers it, or pass the model. {did_you_mean(given['build'], _MAKERS)}"
        )
    return _make(maker, given["build"], build_all(given["args"]))


def _make(maker: Callable[..., Any], name: str, arguments: dict[str, Any]) -> Any:
    if maker in _TORCH_LAYERS.values():
        if odd := [n for n in arguments if _is_for_torch(n)]:
            raise WeightsError(f"{name} cannot be built with {odd}; the file is damaged")
        arguments = {n: tuple(v) if isinstance(v, list) else v for n, v in arguments.items()}
    try:
        inspect.signature(maker).bind(**arguments)
    except TypeError as error:
        raise WeightsError(
            f"{name} cannot be built: {str(error)[:200]}; it has changed since the file was written"
        ) from error
    return maker(**arguments)


class undrawn(TorchFunctionMode):  # noqa: N801  (a context manager)
    """In the block no random numbers are drawn for weights, which others then replace, nor for what has no memory.

    For the latter torch imports its compiler, which takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("tensor")
        if isinstance(first, Tensor) and (first.is_meta or isinstance(first, nn.Parameter)) and func.__name__ in _DRAWS:
            return first
        if func is torch.randn and "generator" not in kwargs and torch.empty(0).is_meta:
            func = torch.empty
        return func(*args, **kwargs)


def model_name(model: nn.Module) -> str:
    """The name of a model's class, and of its architecture where one was asked for by name.

    >>> model_name(nn.Linear(2, 1))
    'Linear'
    """
    made = describe(model)
    arch = made.get("args", {}).get("arch") if isinstance(made, dict) else None
    kind = type(model).__name__
    return f"{kind} of {arch}" if isinstance(arch, str) else kind
