"""What the trainings in a folder came from: a fingerprint of the user's functions and of the data that they name."""

from __future__ import annotations

import dis
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor

from ..data.bunch import Data
from ..errors import EasyLearnWarning, name_of
from ..files import digest
from .lines import Row
from .store import Key, Store

MOST = 10_000_000  # values of a table or an array, above which it is not read only to be compared
_PACKAGE = str(Path(__file__).parents[1] / "_")[:-1]
_SETS = ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE")
_BINDS = ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF")


def origin_of(make: Any, fit: Any) -> Row:
    """What is noted with each training: digests of the functions, and of the values outside of them that they name.

    The same script gives the same at each start, and a cell of a notebook, too; lines and paths change nothing.

    >>> one, other = origin_of(lambda p: p.lr, None), origin_of(lambda p: p.lr + 1, None)
    >>> one["make"] == other["make"], one["fit"] == other["fit"]
    (False, True)
    """
    found: Row = {"python": ".".join(map(str, sys.version_info[:2]))}
    named = dict[str, Any]()
    for what, fn in (("make", make), ("fit", fit)):
        functions = list(_functions(fn, set()))
        found[what] = digest(text for f in functions for text in _texts(f))[:12]
        named |= _named(functions)
    values = {name: _of_value(value) for name, value in sorted(named.items())}
    return {**found, "values": {name: value for name, value in values.items() if value is not None}}


def tell_taken(store: Store, origin: Row, wanted: Iterable[Key], shown: bool = True) -> None:
    """Say which trainings are taken from the folder; warn where what they came from has changed since."""
    ends = [store.history.ends[key] for key in wanted if key in store.history.ends]
    if not ends:
        return
    changed = [(row, differs) for row in ends if (differs := _changed(row.get("origin"), origin))]
    if not changed:
        if shown:
            print(f"{len(ends)} trainings were taken from {store.folder}", file=sys.stderr)
        return
    words = list(dict.fromkeys(name for _, differs in changed for name in differs))
    told = f"{', '.join(words[:-1])} and {words[-1]} have" if len(words) > 1 else f"{words[0]} has"
    warn_user(
        f"{len(changed)} of {len(ends)} trainings were taken from {store.folder}"
        f"{_trained_on(store, [row for row, _ in changed])}; {told} changed since, and they were trained by the old "
        "one: another folder trains anew"
    )


def warn_user(message: str) -> None:
    """A warning that names the line outside of the library from which it was called."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, EasyLearnWarning, stacklevel=level)


def _changed(saved: Any, now: Row) -> list[str]:
    """What differs, in words; nothing where it is not known."""
    if not isinstance(saved, dict):
        return []
    same_python = saved.get("python") == now["python"]  # each has instructions of its own
    words = [what for what in ("make", "fit") if same_python and saved.get(what) != now[what]]
    values = saved.get("values") or {}
    return words + [name for name, value in now["values"].items() if values.get(name, value) != value]


def _trained_on(store: Store, rows: Iterable[Row]) -> str:
    folders = [store.trial_folder(row["trial"]) for row in rows]
    times = [folder.stat().st_mtime for folder in folders if folder.exists()]
    return f" (trained on {date.fromtimestamp(max(times))})" if times else ""


# -- functions -----------------------------------------------------------------------------------------------------


def _functions(fn: Any, seen: set[int]) -> Iterator[Any]:
    """A function, with the functions and methods of its own module that it names; anything else is itself."""
    if isinstance(fn, MethodType):
        fn = fn.__func__
    if id(fn) in seen:
        return
    seen.add(id(fn))
    yield fn
    for part in _parts(fn):
        yield from _functions(part, seen)


def _parts(fn: Any) -> Iterator[Any]:
    """The functions and methods that a function names."""
    if isinstance(fn, partial):
        parts = (fn.func, *fn.args, *fn.keywords.values())
        yield from (part for part in parts if isinstance(part, FunctionType | MethodType | partial))
    if not isinstance(fn, FunctionType):
        return
    for value in _outside(fn).values():
        if isinstance(value, FunctionType | type) and value.__module__ == fn.__module__:
            inside = [value] if isinstance(value, FunctionType) else [v for _, v in sorted(vars(value).items())]
            yield from (part for part in inside if isinstance(part, FunctionType))


def _outside(fn: FunctionType) -> dict[str, Any]:
    """What a function names that lies outside of it, by name: of its module, of functions around it, and defaults."""
    names = {str(step.argval) for step in _steps(fn) if step.opname == "LOAD_GLOBAL"}
    found = {name: fn.__globals__[name] for name in sorted(names) if name in fn.__globals__}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # nothing is in it yet
            continue
    return found | dict(fn.__kwdefaults__ or {})


def _steps(fn: FunctionType) -> Iterator[dis.Instruction]:
    for code in _codes(fn.__code__):
        yield from dis.get_instructions(code)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _texts(fn: Any) -> Iterator[str | bytes]:
    """What a function does, but for its name, lines and file."""
    if isinstance(fn, FunctionType):
        yield from _of_code(fn.__code__, fn.__doc__)
        yield from (repr(v) for v in fn.__defaults__ or () if _is_plain(v))
    elif isinstance(fn, partial):
        yield from (repr(v) for v in (*fn.args, *sorted(fn.keywords.items())) if _is_plain(v))
    else:
        yield name_of(fn)


def _of_code(code: CodeType, doc: str | None = None) -> Iterator[str | bytes]:
    yield code.co_code
    yield from (*code.co_names, *code.co_freevars)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _of_code(const)
        elif isinstance(const, frozenset):  # whose order is another at each start
            yield repr(sorted(map(repr, const)))
        elif doc is None or const != doc:
            yield repr(const)


# -- values --------------------------------------------------------------------------------------------------------


def _named(functions: Iterable[Any]) -> dict[str, Any]:
    """The values that functions read and do not change themselves."""
    found, bound, sets = dict[str, Any](), set[str](), False
    for fn in functions:
        if isinstance(fn, FunctionType):
            found |= _outside(fn)
            for step in _steps(fn):
                bound |= {str(step.argval)} if step.opname in _BINDS else set()
                sets |= step.opname in _SETS
    kept = {name: value for name, value in found.items() if name not in bound}
    return {name: value for name, value in kept.items() if not sets or _is_plain(value)}


def _is_plain(value: Any) -> bool:
    """Numbers, names and tuples of them; no path and no device, which may be others where nothing else is."""
    if isinstance(value, str):
        return not ("/" in value or "\\" in value or value.startswith(("cuda", "cpu", "mps")))
    if type(value) is tuple:
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float)


def _of_value(value: Any) -> str | None:
    """A digest of a value that is the same at each start of a script; None where that is not known, or is dear."""
    if _is_plain(value):
        return digest([repr(value)])[:12]
    if type(value) is list and value and all(isinstance(v, str) and _is_plain(v) for v in value):  # such as columns
        return digest(["list", *value])[:12]
    of: Callable[[Any], str | None] | None = _of_array if isinstance(value, np.ndarray | Tensor) else None
    if isinstance(value, Data):
        of = _of_data
    elif (pandas := sys.modules.get("pandas")) and isinstance(value, pandas.DataFrame | pandas.Series):
        of = _of_table
    try:
        return None if of is None else of(value)
    except Exception:  # a table of lists, files that are gone, data of the user's own: then nothing is known of it
        return None


def _of_array(value: Any) -> str | None:
    """Of floats of low precision, which a model may have computed with other last bits, only the shape."""
    size = value.numel() if isinstance(value, Tensor) else value.size
    parts: list[str | bytes] = [str(value.dtype), str(tuple(value.shape))]
    if size > MOST or (isinstance(value, Tensor) and value.device.type != "cpu"):
        return None
    array = value.detach().numpy() if isinstance(value, Tensor) and not value.is_floating_point() else value
    if isinstance(array, np.ndarray) and (array.dtype.kind in "biuSU" or array.dtype == np.float64):
        parts.append(np.ascontiguousarray(array).tobytes())
    return digest(parts)[:12]


def _of_table(value: Any) -> str | None:
    from pandas.util import hash_pandas_object

    if value.size > MOST:
        return None
    names = [str(name) for name in (value.columns if value.ndim == 2 else [value.name])]
    return digest([*names, hash_pandas_object(value).to_numpy().tobytes()])[:12]


def _of_data(value: Data[Any]) -> str:
    return digest(text for split in value.splits for text in (split, value.fingerprint(split)))[:12]
