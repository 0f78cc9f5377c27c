"""A person's history as a row of numbers, by the names of items that a model file has; no pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..recommenders.reading import HISTORY, HistoryReader
from .refusals import RefusedError


class PersonReader:
    """A list of names, or an object with weights, to `history` (1, n): the logarithm of one plus each item's weight."""

    def __init__(self, items: Sequence[str]) -> None:
        self._reader, self._n = HistoryReader(items), len(items)

    def __call__(self, item: Any) -> dict[str, npt.NDArray[Any]]:
        """The array of one person; items that cannot be recommended are left out."""
        try:
            found, _ = self._reader(item)
        except DataError as error:
            raise RefusedError(422, str(error)) from error
        row = np.zeros((1, self._n), np.float32)
        row[0, list(found)] = np.log1p(np.array(list(found.values()), np.float32))
        return {HISTORY: row}
