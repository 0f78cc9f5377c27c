"""HistoryPreprocessor: how what somebody took becomes what a recommender takes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..data.frames import read_table
from ..data.levels import Lookup, plain
from ..data.order import Source
from ..data.preprocess import Items, Preprocessor, Refused, RuntimeInputs
from ..errors import DataError, EasyLearnWarning, WeightsError, did_you_mean
from ..task import Task
from .gather import Columns
from .histories import Histories, HistorySource, named

if TYPE_CHECKING:
    import pandas as pd

HISTORY = "history"  # the key of a dictionary that holds one: a person as JSON


class HistoryPreprocessor(Preprocessor):
    """Histories of persons, by the names of items.

    A history is a list of names, or a dictionary from names to how much of each was taken; `{"history": ...}` around it
    is taken, too. Items that cannot be recommended are left out of it, which a warning tells.

    Args:
        items: names of all items, in the order of the model's outputs.
        columns: of a table or a file of interactions.
    """

    kind = "histories"

    def __init__(self, items: Sequence[str], columns: Columns) -> None:
        self.items = tuple(items)
        self.columns = columns
        self._lookup = Lookup(self.items, 0, -1)

    def codes(self, names: Sequence[Any]) -> list[int]:
        """The number of each item of some `names`; -1 for one that is not known."""
        return self._lookup.codes(names)

    def read(self, given: Any, first: int = 0) -> Items:
        """Read one history, a list of histories, or a table with a row for each thing that a person took.

        Args:
            given: the history or histories; of a table the persons are the items, in the order in which they come.
            first: the number of the first history, which names it where no person does.
        """
        import pandas as pd

        if isinstance(given, pd.DataFrame):
            return self._of_frame(given)
        single = _is_history(given)
        many = [given] if single else _listed(given)
        if not isinstance(many, list) or not many:
            hint = "that of somebody who took nothing yet is [[]]" if isinstance(many, list) else "write [name]"
            raise DataError(
                f"expected a history, such as ['a', 'b'], or a list of histories, got {given!r:.60}; {hint}"
            )
        return self._items([self._as_dict(h, first + i) for i, h in enumerate(many)], first, single)

    def _items(self, histories: Sequence[Mapping[Any, float]], first: int, single: bool) -> Items:
        unknown: dict[str, None] = {}
        found: list[dict[int, float]] = []
        for history in histories:
            codes = self.codes(list(history))
            one: dict[int, float] = {}
            for code, (name, weight) in zip(codes, history.items(), strict=True):
                if code < 0:
                    unknown[str(name)] = None
                else:
                    one[code] = one.get(code, 0.0) + weight
            found.append({code: weight for code, weight in one.items() if weight > 0})
        self._warn_of_unknown(list(unknown))
        names = tuple(str(i) for i in range(first, first + len(found)))
        return Items(Histories.of_dicts(found), names, single)

    def _warn_of_unknown(self, unknown: Sequence[str]) -> None:
        if unknown:
            hint = did_you_mean(unknown[0], self.items) if len(unknown) == 1 else ""
            told = named(map(repr, unknown), 5)
            warnings.warn(
                f"left out of a history, as they cannot be recommended: {told}. {hint}".rstrip(),
                EasyLearnWarning,
                stacklevel=5,
            )

    def _as_dict(self, history: Any, number: int) -> dict[Any, float]:
        """One history as names and weights."""
        if isinstance(history, Mapping) and set(history) == {HISTORY}:
            history = history[HISTORY]
        if isinstance(history, Mapping):
            return {_name(n, number): _weight(w, n, number) for n, w in history.items()}
        history = _listed(history)
        if history != [] and not _is_history(history):
            raise DataError(f"history {number} is a list of names or a dictionary of weights, got {history!r:.60}")
        counts: dict[Any, float] = {}
        for name in history:
            counts[_name(name, number)] = counts.get(name, 0.0) + 1.0
        return counts

    def _of_frame(self, frame: pd.DataFrame) -> Items:
        how = self.columns
        Columns(how.user, how.item, how.weight if how.weight in frame.columns else None).require(frame, "the table")
        if not len(frame):
            raise DataError("the table has no rows")
        weights = frame[how.weight] if how.weight in frame.columns else np.ones(len(frame))
        histories: dict[str, dict[Any, float]] = {}
        for row, (user, item, weight) in enumerate(zip(frame[how.user], frame[how.item], weights, strict=True)):
            one, name = histories.setdefault(str(user), {}), _name(item, row)
            one[name] = one.get(name, 0.0) + _weight(weight, item, row)
        read = self._items(list(histories.values()), 0, False)
        return Items(read.values, tuple(histories))

    def read_file(self, path: Path, n: int, skip: bool = False) -> Iterator[Items | Refused]:
        """See `Preprocessor.read_file`: the persons of a csv or parquet file with a row for each thing taken."""
        yield self._of_frame(read_table(path, text=[self.columns.user, self.columns.item]).frame)

    def source(self, values: Histories) -> Source:
        return HistorySource(values, len(self.items))

    def recipe(self) -> dict[str, Any]:
        """See `Preprocessor.recipe`: the columns; the items are those of the task."""
        return {"kind": self.kind, "columns": vars(self.columns)}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> HistoryPreprocessor:
        try:
            given = recipe["columns"]
            columns = Columns(**{n: given[n] if given[n] is None else str(given[n]) for n in vars(Columns("", ""))})
        except (KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"the recipe of the histories is damaged: {error!r}") from error
        return cls(task.names, columns)

    def runtime_inputs(self, inputs: Sequence[Tensor]) -> RuntimeInputs:
        """See `Preprocessor.runtime_inputs`: log(1 + weight) of each item that a person took, 0 elsewhere."""
        return RuntimeInputs((HISTORY,), ({0: "batch"},))


def _listed(given: Any) -> Any:
    """A column of names as a list; anything else as it is."""
    import pandas as pd

    return list(given) if isinstance(given, tuple | pd.Series | pd.Index | np.ndarray) else given


def _is_history(given: Any) -> bool:
    """Whether it is one history, and not a list of them; an empty list says nothing by itself."""
    given = _listed(given)
    several = (list, tuple, np.ndarray, Mapping)
    return isinstance(given, Mapping) or (isinstance(given, list) and bool(given) and not isinstance(given[0], several))


def _name(name: Any, number: int) -> Any:
    try:
        value = plain(name)
    except TypeError as error:
        raise DataError(f"history {number} holds {name!r:.60}, which names no item: {error}") from error
    if value is None or value != value:
        raise DataError(f"history {number} holds a name that is missing")
    return value


def _weight(weight: Any, name: Any, number: int) -> float:
    if not isinstance(weight, Real) or not 0 <= weight < math.inf:
        raise DataError(
            f"history {number}: how much of {name!r} was taken is a number of 0 or more, got {weight!r:.60}"
        )
    return float(weight)
