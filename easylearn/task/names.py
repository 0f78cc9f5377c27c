"""The names of classes and metrics, as somebody gives them: each once, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, DataError, name_of
from ..metrics import Metric, as_metric

_TAKEN = ("epoch", "train_loss", "valid_loss", "rate", "seconds")  # what else a row of the record holds


def as_names(names: Sequence[str], noun: str = "class", may_be_empty: bool = False) -> tuple[str, ...]:
    """The `names` of classes or numbers, each of which is a `noun`, as text.

    Raises:
        DataError: one is there twice, or there are none, and it `may_be_empty` not.

    >>> as_names([3, 7])
    ('3', '7')
    """
    if isinstance(names, str):
        raise ArgumentError(f"a task needs a list of names, got the word {names!r}; write [{names!r}]")
    given = tuple(str(n) for n in names)
    if not given and not may_be_empty:
        raise DataError(f"a task needs at least one {noun}, got none")
    if twice := sorted(_several(given)):
        raise DataError(f"each {noun} must be named once, got {twice[:10]} more than once")
    return given


def as_metrics(chosen: Any) -> tuple[Metric, ...]:
    """The `chosen` list of metrics, or of functions that are taken for such.

    Raises:
        ArgumentError: it is no list, or two of them have one name.
    """
    if isinstance(chosen, Metric) or callable(chosen):
        name = chosen.name if isinstance(chosen, Metric) else name_of(chosen)
        raise ArgumentError(f"metrics must be a list: write metrics=[{name}]")
    if isinstance(chosen, str | Mapping) or not isinstance(chosen, Iterable):
        raise ArgumentError(f"metrics must be a list, such as [accuracy], got {chosen!r}")
    found = tuple(as_metric(m) for m in chosen)
    names = [m.name for m in found]
    twice = _several(names) or [n for n in names if n in _TAKEN]
    if twice:
        raise ArgumentError(
            f"each metric needs a name of its own, and {twice[0]!r} is "
            + ("what a record has already" if twice[0] in _TAKEN else "that of several")
            + ": give one another name, Metric('my name', function, higher_is_better)"
        )
    return found


def _several(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]
