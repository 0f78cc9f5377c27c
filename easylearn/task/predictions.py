"""What a model says of one item, and of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import ArgumentError, DataError
from . import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Prediction:
    """What the model says of one item.

    Args:
        label: a class name, a tuple of class names, or numbers.
        index: the class number (single-label), those of the labels (multi-label), or None (regression).
        probs: probability of each class, or the numbers, shape (n_out,).
    """

    label: Any
    index: int | tuple[int, ...] | None
    probs: Tensor

    @classmethod
    def of(cls, task: Task, probs: Tensor) -> list[Prediction]:
        """One per row of probabilities (or numbers), shape (n, n_out)."""
        return [cls(label, _index(task, row), row) for label, row in zip(task.decode(probs), probs, strict=True)]


def _index(task: Task, probs: Tensor) -> int | tuple[int, ...] | None:
    if task.kind == "single_label":
        return int(probs.argmax())
    if task.kind == "multi_label":
        return tuple(torch.nonzero(probs >= task.threshold).flatten().tolist())
    return None


@dataclass(frozen=True)
class Predictions:
    """What the model says of a whole part, one row per item in file order; unpacks as `probs, targets`.

    Args:
        probs: shape (n, n_out).
        targets: shape (n,) or (n, n_out); None for a test set without labels.
        ids: one name per item.
        labels: the decoded predictions.
        views: shape (n_views, n, n_out): the plain view first, then the augmented ones.
        task: what was predicted, where it is known.
    """

    probs: Tensor
    targets: Tensor | None
    ids: tuple[str, ...]
    labels: tuple[Any, ...]
    views: Tensor
    task: Task | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the columns; empty for regression."""
        return () if self.task is None else self.task.classes

    def __iter__(self) -> Iterator[Tensor | None]:
        return iter((self.probs, self.targets))

    def __len__(self) -> int:
        return len(self.ids)

    def to_frame(self) -> pd.DataFrame:
        """A table: id, label and a probability per class; or id and a number per target for regression."""
        import pandas as pd

        names = () if self.task is None else self.task.names
        columns = [names[i] if i < len(names) else f"output {i}" for i in range(self.probs.shape[1])]
        numbers = self.task is not None and self.task.kind == "regression"
        shown = columns if numbers else [f"p_{c}" for c in columns]
        frame: pd.DataFrame = pd.DataFrame(self.probs.numpy(), columns=shown)
        if not numbers:
            frame.insert(0, "label", list(self.labels))
        frame.insert(0, "id", list(self.ids))
        return frame


def average_predictions(*predictions: Predictions) -> Predictions:
    """The mean of several models' probabilities for the same items, such as a forward and a backward reader.

    Args:
        predictions: what `learn.predict()` or `learn.tta()` gave, of learners of one task.

    Returns:
        Predictions whose `views` are those of all models.

    Raises:
        DataError: the items or the classes differ.
    """
    if not predictions:
        raise ArgumentError("there are no predictions to average")
    for given in predictions:
        if not isinstance(given, Predictions):
            raise ArgumentError(
                "average_predictions takes what learn.predict() or learn.tta() gave for a part, got "
                f"{type(given).__name__}"
            )
    first = predictions[0]
    for number, other in enumerate(predictions[1:], 2):
        if other.ids != first.ids:
            raise DataError(f"predictions 1 and {number} are of different items, or in another order")
        if other.classes != first.classes or other.probs.shape != first.probs.shape:
            raise DataError(f"predictions 1 and {number} are of different classes: {first.classes}, {other.classes}")
    probs = torch.stack([p.probs for p in predictions]).mean(0)
    views = torch.cat([p.views for p in predictions])
    return replace(first, probs=probs, labels=tuple(first.task.decode(probs)) if first.task else (), views=views)
