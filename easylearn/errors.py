"""The errors easylearn raises, and the hints that make them useful.

    EasyLearnError
     |- ArgumentError (ValueError)     an argument is wrong or unknown
     |- DataError     (ValueError)     a file, row, column or label is wrong
     |- StateError    (RuntimeError)   the call does not fit what the object is doing now
     |- WeightsError  (RuntimeError)   weights are missing or do not fit the model
     |   `- SchemaError                another version of easylearn wrote the file
     `- SaveError     (OSError)        a file could not be written; the old one is whole

Each message says what was expected, what came, where, and what to do.
"""

from __future__ import annotations

import difflib
import inspect
import math
import operator
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


class EasyLearnError(Exception):
    """Anything that easylearn itself refuses."""


class ArgumentError(EasyLearnError, ValueError):
    """An argument is wrong or unknown."""


class DataError(EasyLearnError, ValueError):
    """A file, row, column or label is wrong."""


class StateError(EasyLearnError, RuntimeError):
    """The call does not fit the present state of the object."""


class WeightsError(EasyLearnError, RuntimeError):
    """Weights are missing or do not fit the model."""


class SchemaError(WeightsError):
    """Another version of easylearn wrote the file, in a layout that this one does not read."""


class SaveError(EasyLearnError, OSError):
    """A file could not be written; what stood there before is whole."""

    def __str__(self) -> str:
        return str(self.args[-1]) if self.args else ""


class EasyLearnWarning(UserWarning):
    """Something worth knowing that does not stop the work."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence to append to a message: which known name was meant by a word, or which names there are.

    >>> did_you_mean("resnet43", ["resnet34", "vgg16"])
    "Did you mean 'resnet34'?"
    >>> did_you_mean("tree", ["resnet34", "vgg16"])
    'Known: resnet34, vgg16.'
    """
    names = list(known)
    close = difflib.get_close_matches(word[:100], names, n=3, cutoff=0.6)  # it may be out of a damaged file
    if close:
        return "Did you mean " + " or ".join(repr(c) for c in close) + "?"
    if not names:
        return ""
    shown = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    return f"Known: {shown}."


def check_kind(wanted: str, value: object, kind: type[Any] | tuple[type[Any], ...]) -> None:
    """Refuse what is no object of a kind; `wanted` says what takes which.

    >>> check_kind("occlusion takes a learner", [1, 2], str)
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: occlusion takes a learner, got list
    """
    if not isinstance(value, kind):
        raise ArgumentError(f"{wanted}, got {type(value).__name__}")


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`; `name` is the argument that it came by.

    >>> check_whole("epochs", 0)
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: epochs must be a whole number of at least 1, got 0
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        shown, advice = f"{value!r:.100}", ""
        if isinstance(value, Integral) and not isinstance(value, int):  # of NumPy, whose older editions show 3
            shown = f"np.{type(value).__name__}({value})"
            # Settings are written down, in Python's own numbers.
            advice = f": write int({value})" if int(value) >= least else ""
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {shown}{advice}")


_BOUNDS = {"at least": operator.ge, "above": operator.gt, "at most": operator.le, "below": operator.lt}


def check_number(name: str, value: Any, *bounds: str) -> float:
    """`value` as a float, refused unless it is a finite number within bounds such as "above 0" and "at most 1".

    >>> check_number("wd", float("nan"), "at least 0")
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: wd must be a number at least 0, got nan
    """
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    limits = (bound.rpartition(" ") for bound in bounds)
    if not number or not all(_BOUNDS[word](value, float(limit)) for word, _, limit in limits):
        wanted = " and ".join(bounds) or "that is finite"
        raise ArgumentError(f"{name} must be a number {wanted}, got {value!r:.100}")
    return float(value)


def check_takes_two(function: Any, what: str, of: str) -> None:
    """Refuse a `function`, given as `what`, that cannot be called with two values, `of` which messages tell.

    >>> check_takes_two(lambda logits: 0.0, "loss", "(logits, target)")
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: loss must be a function of (logits, target); <lambda>(logits) takes other arguments
    """
    signature = signature_of(function)
    if signature is None:
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        name = name_of(function)
        raise ArgumentError(f"{what} must be a function of {of}; {name}{signature} takes other arguments") from error


def signature_of(function: Any) -> inspect.Signature | None:
    """What a function takes; None where nobody knows, as of some that are written in C.

    >>> str(signature_of(short))
    "(text: 'str', most: 'int') -> 'str'"
    """
    try:
        return inspect.signature(function)
    except (TypeError, ValueError, NameError):  # Python 3.14 asks only now for names that types were given by
        return None


def short(text: str, most: int) -> str:
    """The text, its end cut off where it is longer than `most` characters.

    >>> short("a long name", 7)
    'a lo...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."


def name_of(thing: object) -> str:
    """What a function, or the class of an object, is called.

    >>> name_of(short), name_of(3)
    ('short', 'int')
    """
    return str(getattr(thing, "__name__", type(thing).__name__))
