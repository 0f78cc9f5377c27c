"""What is asked of the functions of an experiment: that they can be called as they are, and make each model anew."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import ArgumentError, name_of, signature_of

_SHOWN = {"make": "def make(p): return ...", "fit": "def fit(learn, p, **how): return learn.fit(p.lr, 3, **how)"}
_FEW = 8  # rows of a parameter that are added up: a step changes all, but those of words that no text had


def check_functions(make: Any = ..., fit: Any = ...) -> None:
    """Refuse a `make` that is no function of a point, or a `fit` that is none of a learner and a point.

    Args:
        make, fit: as for `search`; what is left out is not looked at.

    >>> check_functions(make=lambda a, b: a)
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: make is called with p alone, and <lambda>(a, b) cannot be: def make(p): return ...
    """
    for what, given in (("make", make), ("fit", fit)):
        if given is ...:
            continue
        if not callable(given):
            raise ArgumentError(f"{what} must be a function, got {given!r:.60}: {_SHOWN[what]}")
        takes = signature_of(given)
        if takes is None:
            continue
        how = "p alone" if what == "make" else "a learner and p"
        try:
            takes.bind_partial(*(["p"] if what == "make" else ["learn", "p"]))
            wanting = [p.name for p in list(takes.parameters.values())[1 if what == "make" else 2 :] if _is_needed(p)]
        except TypeError:
            wanting = ["too few"]
        if wanting:
            raise ArgumentError(
                f"{what} is called with {how}, and {name_of(given)}{takes} cannot be: {_SHOWN[what]}"
            ) from None


def _is_needed(parameter: inspect.Parameter) -> bool:
    """Whether a call without it fails; what fit is given besides has names."""
    is_one = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    named = parameter.name in ("checkpoint", "every", "keep", "callbacks")
    return is_one and not named and parameter.default is parameter.empty


class Begun:
    """Weights that trials of this process began and ended with, to find one that begins with what another has trained.

    It keeps no weights: those of a model that is gone are forgotten.

    >>> net, begun = nn.Linear(2, 1), Begun()
    >>> begun.check(net)
    >>> _ = net.weight.data.add_(1)
    >>> begun.end(net)
    >>> begun.check(nn.Linear(2, 1))
    >>> begun.check(net)
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: make gave a model whose weights ('weight') an earlier trial has trained, ...
    """

    def __init__(self) -> None:
        self._held: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
        self._sums: dict[int, tuple[float, float | None]] = {}  # at the beginning of a trial and at its end

    def __reduce__(self) -> tuple[Any, ...]:
        return Begun, ()  # in another process nothing has begun

    def check(self, model: nn.Module) -> None:
        """Note what a model begins with.

        Raises:
            ArgumentError: it is what an earlier trial, which had the same tensors, ended with.
        """
        for name, weights, total in _sums(model):
            first, last = self._sums[id(weights)] if self._held.get(id(weights)) is weights else (total, None)
            if total == last != first:
                raise ArgumentError(
                    f"make gave a model whose weights ({name!r}) an earlier trial has trained, so that this one would "
                    "begin with what that has learnt, maybe from the very items that it is judged by: make the model "
                    "inside of make, or give copy.deepcopy(model)"
                )
            self._held[id(weights)], self._sums[id(weights)] = weights, (total, None)

    def end(self, model: nn.Module) -> None:
        """Note what a model ended with."""
        for _, weights, total in _sums(model):
            if self._held.get(id(weights)) is weights:
                self._sums[id(weights)] = self._sums[id(weights)][0], total


def _sums(model: nn.Module) -> Iterator[tuple[str, Tensor, float]]:
    """The parameters by name, each with the sum of its first rows."""
    for name, weights in model.named_parameters():
        if not is_lazy(weights):
            few = weights.detach()[:_FEW] if weights.ndim else weights.detach()
            yield name, weights, float(few.cpu().double().sum())  # there: Apple's GPUs have no float64
