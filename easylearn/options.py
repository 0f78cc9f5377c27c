"""Arguments that many functions share: written once, refused by name when they are unknown, shown in full."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from .errors import ArgumentError, check_whole, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")
_ENTRY = re.compile(r"^ {4}\w.*(?:\n {5,}.*)*", re.MULTILINE)  # an argument in a docstring, with the lines that go on


def check_split(seed: Any, stratify: Any = None) -> None:
    """Refuse a `seed` that is no whole number, and a `stratify` other than True, False and None.

    >>> check_split(0, "yes")
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: stratify must be True, False or None, got 'yes'
    """
    check_whole("seed", seed, 0)
    if stratify is not None and not isinstance(stratify, bool):
        raise ArgumentError(f"stratify must be True, False or None, got {stratify!r:.100}")


def strict(renamed: Mapping[str, str] | None = None, *shared: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that an unknown keyword is refused with a suggestion.

    Args:
        renamed: names of other libraries, or of fast.ai 0.7, mapped to a name here or to a whole sentence.
        shared: dataclasses whose fields are the keywords that `**options` may hold; the signature of the function then
            shows each of them, and its docstring says what they are.

    >>> @strict({"wds": "wd"})
    ... def fit(lr: float, wd: float = 0.0) -> float:
    ...     return lr
    >>> fit(0.1, wds=0.2)
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: fit() has no argument 'wds'. It is called 'wd' here.
    """
    old_names = dict(renamed or {})

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        signature = _written_out(inspect.signature(fn), shared)
        known = frozenset(signature.parameters)
        names = [n for n in signature.parameters if n not in ("self", "cls")]

        @functools.wraps(fn)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if not known.issuperset(kwargs):
                name = next(n for n in kwargs if n not in known)
                here = old_names.get(name, "")
                hint = f"It is called {here!r} here." if here in names else "" if here.isidentifier() else here
                raise ArgumentError(f"{fn.__name__}() has no argument {name!r}. {hint or did_you_mean(name, names)}")
            try:
                return fn(*args, **kwargs)
            except TypeError:
                try:
                    signature.bind(*args, **kwargs)
                except TypeError as error:  # of the call itself, and not of what it did
                    raise ArgumentError(f"{fn.__name__}(): {error}. Its arguments are, in order, {names}") from error
                raise

        checked.__signature__ = signature  # type: ignore[attr-defined]
        if shared:
            checked.__doc__ = _documented(inspect.getdoc(fn) or "", shared, own=inspect.signature(fn).parameters)
        return checked

    return decorate


def _written_out(signature: inspect.Signature, shared: tuple[type, ...]) -> inspect.Signature:
    """The signature with the fields of the shared options as keywords of their own."""
    parameters = {n: p for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD or not shared}
    for field in (field for options in shared for field in dataclasses.fields(options)):
        default = field.default if field.default is not dataclasses.MISSING else inspect.Parameter.empty
        keyword = inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type)
        parameters.setdefault(field.name, keyword)
    return signature.replace(parameters=list(parameters.values()))


def _documented(doc: str, shared: tuple[type, ...], own: Mapping[str, Any]) -> str:
    """The docstring with what the shared options mean among its arguments."""
    entries = [
        entry
        for options in shared
        for entry in _ENTRY.findall((inspect.getdoc(options) or "").partition("Args:\n")[2].partition("\n\n")[0])
        if entry.split(":")[0].strip() not in own
    ]
    if not entries:
        return doc
    begin, args, rest = doc.partition("Args:\n")
    if not args:
        return "\n".join([doc.rstrip(), "", "Args:", *entries])
    listed, gap, after = rest.partition("\n\n")
    return begin + args + "\n".join([listed, *entries]) + gap + after
