"""HistoryPreprocessor: how what somebody took becomes what a recommender takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..data.frames import read_table
from ..data.order import Source
from ..data.preprocess import Items, Preprocessor, Refused, RuntimeInputs
from ..errors import DataError, EasyLearnWarning, WeightsError, did_you_mean
from ..task import Task
from .gather import Columns
from .histories import Histories, HistorySource, named
from .reading import HISTORY, HistoryReader, as_name, as_weight, is_history, listed

if TYPE_CHECKING:
    import pandas as pd


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
        self.reader = HistoryReader(self.items)

    def read(self, given: Any, first: int = 0) -> Items:
        """Read one history, a list of histories, or a table with a row for each thing that a person took.

        Args:
            given: the history or histories; of a table the persons are the items, in the order in which they come.
            first: the number of the first history, which names it where no person does.
        """
        import pandas as pd

        if isinstance(given, pd.DataFrame):
            return self._of_frame(given)
        given = listed(_as_list(given))
        given = list(map(_as_list, given)) if isinstance(given, list) else given
        single = is_history(given)
        many = [given] if single else given
        if not isinstance(many, list) or not many:
            hint = "that of somebody who took nothing yet is [[]]" if isinstance(many, list) else "write [name]"
            raise DataError(
                f"expected a history, such as ['a', 'b'], or a list of histories, got {given!r:.60}; {hint}"
            )
        return self._items(many, [str(i) for i in range(first, first + len(many))], single)

    def _items(self, histories: Sequence[Any], ids: Sequence[str], single: bool) -> Items:
        read = [self.reader(history, i) for i, history in enumerate(histories)]
        unknown = list(dict.fromkeys(name for _, names in read for name in names))
        if unknown:
            hint = did_you_mean(unknown[0], self.items) if len(unknown) == 1 else ""
            told = named(map(repr, unknown), 5)
            warnings.warn(
                f"left out of a history, as they cannot be recommended: {told}. {hint}".rstrip(),
                EasyLearnWarning,
                stacklevel=4,
            )
        return Items(Histories.of_dicts([found for found, _ in read]), tuple(ids), single)

    def _of_frame(self, frame: pd.DataFrame) -> Items:
        how = self.columns
        weight = how.weight if how.weight in frame.columns else None
        Columns(how.user, how.item, weight).require(frame, "the table")
        if not len(frame):
            raise DataError("the table has no rows")
        weights = np.ones(len(frame)) if weight is None else frame[weight]
        histories: dict[str, dict[Any, float]] = {}
        for row, (user, item, much) in enumerate(zip(frame[how.user], frame[how.item], weights, strict=True)):
            one, name = histories.setdefault(str(as_name(user, row)), {}), as_name(item, row)
            one[name] = one.get(name, 0.0) + as_weight(much, item, row)
        return self._items(list(histories.values()), list(histories), False)

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


def _as_list(given: Any) -> Any:
    """A column of names as a list; anything else as it is."""
    import pandas as pd

    return list(given) if isinstance(given, pd.Series | pd.Index) else given
