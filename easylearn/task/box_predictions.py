"""What a model says of the objects in images: boxes in the images' own pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, short
from ..placement import in_own_pixels
from .predictions import Prediction, Predictions

if TYPE_CHECKING:
    import pandas as pd

    from .base import Task

COLUMNS = ("xmin", "ymin", "xmax", "ymax", "label", "score")


@dataclass(frozen=True, eq=False, repr=False)
class BoxPrediction(Prediction):
    """The boxes that a model found in one image; see `Prediction`.

    Attributes:
        label: the class of each box that is told, the surest first.
        probs: all found boxes in pixels of the model's input, (k, 6): xmin, ymin, xmax, ymax, score and class.

    >>> import torch
    >>> one = BoxPrediction(("cell",), None, torch.tensor([[2.0, 3.0, 8.0, 9.0, 0.75, 0.0]]), ("cell",))
    >>> one, one.to_frame().to_dict("list")
    (BoxPrediction(1 box: cell 1), {'xmin': [2.0], 'ymin': [3.0], 'xmax': [8.0], 'ymax': [9.0], 'label': ['cell'],
    'score': [0.75]})
    """

    @cached_property
    def _told(self) -> npt.NDArray[np.float64]:
        found = self.probs.double().numpy()
        told: npt.NDArray[np.float64] = found[np.argsort(-found[:, 4], kind="stable")][: len(self.label)]
        return told

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """xmin, ymin, xmax and ymax of each box that is told, (t, 4), in pixels of the image itself."""
        return in_own_pixels(self._told[:, :4], self.place)

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """How sure the model is of each box that is told, (t,), from 0 to 1."""
        return self._told[:, 4]

    def to_frame(self) -> pd.DataFrame:
        """A row for each box that is told, the surest first: xmin, ymin, xmax, ymax, label and score."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(self.boxes, columns=list(COLUMNS[:4]))
        frame["label"], frame["score"] = np.array(self.label, dtype=object), self.scores
        return frame

    def to_dict(self) -> dict[str, float]:
        """How many boxes of each class are told."""
        counts = Counter(self.label)
        return {name: float(counts[name]) for name in self.names}

    def rows(self, task: Task) -> list[list[str]]:
        """See `Prediction.rows`: a row for each box; an image without any has one that is empty."""
        rows = [
            [*(f"{v:.6g}" for v in box), label, f"{score:.6g}"]
            for box, label, score in zip(self.boxes.tolist(), self.label, self.scores.tolist(), strict=True)
        ]
        return rows or [[""] * len(COLUMNS)]

    def __repr__(self) -> str:
        n, counts = len(self.label), Counter(self.label)
        named = ", ".join(f"{short(name, 30)} {counts[name]}" for name in self.names if counts[name])
        return f"BoxPrediction({n} box{'' if n == 1 else 'es'}{': ' if n else ''}{named})"


@dataclass(frozen=True, eq=False, repr=False)
class BoxPredictions(Predictions):
    """The boxes that a model found in several images; see `Predictions`.

    `probs` has the shape (n, k, 6), and `targets` (n, m, 5), both in pixels of the model's input.
    """

    @property
    def placed(self) -> npt.NDArray[np.float64]:
        """All found boxes, (n, k, 6), in pixels of their images."""
        found: npt.NDArray[np.float64] = self.probs.double().numpy().copy()
        for row, place in zip(found, self.places or (), strict=False):  # without places there is nothing to do
            row[:, :4] = in_own_pixels(row[:, :4], place)
        return found

    def to_frame(self) -> pd.DataFrame:
        """A row for each box that is told, in pixels of its image: id, xmin, ymin, xmax, ymax, label and score."""
        import pandas as pd

        each = [BoxPrediction(one.label, None, one.probs, one.names, one.place).to_frame() for one in self._each()]
        frame: pd.DataFrame = pd.concat(each, ignore_index=True) if each else pd.DataFrame(columns=list(COLUMNS))
        frame.insert(0, "id", [name for name, one in zip(self.ids, each, strict=True) for _ in range(len(one))])
        return frame

    def _each(self) -> list[Prediction]:
        return [self[i] for i in range(len(self))]

    def to_dict(self) -> dict[str, dict[str, float]]:
        """For each id how many boxes of each class are told; see `Predictions.to_dict`."""
        return super().to_dict()

    def _dicts(self) -> list[dict[str, float]]:
        return [one.to_dict() for one in self._each()]

    def top(self, k: int = 5) -> Any:
        """Boxes have no such table."""
        raise ArgumentError("top(k) is of the classes of whole items, and these are boxes: use to_frame()")
