"""Looking at predictions: which classes are mixed up, and which items the model is most wrong about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..data.bunch import Data, SplitName
from ..errors import ArgumentError, DataError
from ..task import Predictions, Task
from .drawings import draw_confusion, draw_items

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Predicting(Protocol):
    """What is asked of a learner here."""

    task: Task

    @property
    def data(self) -> Data[Any]: ...

    def predict(self, items: Any = None, *, split: SplitName | None = None) -> Any: ...


def plot_confusion(learn: Predicting, predictions: Predictions | None = None) -> Figure:
    """Draw the confusion matrix of the validation split.

    Args:
        learn: a single-label learner.
        predictions: of `learn.predict()` or `learn.tta()`; None predicts the validation split.

    Raises:
        DataError: there are no single labels to compare with.
    """
    found: Predictions = predictions if predictions is not None else learn.predict(split="valid")
    if found.targets is None or not learn.task.is_exclusive:
        raise DataError("a confusion matrix needs single-label predictions with their targets")
    return draw_confusion(learn.task.confusions(found.probs, found.targets), learn.task.names)


def plot_worst(learn: Predicting, n: int = 9, predictions: Predictions | None = None) -> Figure:
    """Draw the `n` validation items with the highest loss: what was predicted, what is true, how sure it was.

    The arguments as in `plot_confusion`. Items without single labels are refused.
    """
    if not learn.task.is_exclusive:
        raise ArgumentError(
            f"plot_worst needs one class per item, this task is {learn.task}. learn.interpret().plot_top_losses() "
            "draws the worst items of any task"
        )
    if n < 1:
        raise ArgumentError(f"n must be at least 1, got {n}")
    found: Predictions = predictions if predictions is not None else learn.predict(split="valid")
    if found.targets is None:
        raise DataError("which predictions are the worst can only be told with targets")
    if found.ids != tuple(learn.data.ids("valid")):
        raise DataError("these predictions are not of the learner's present validation split; predict anew")
    true = found.probs.gather(1, found.targets[:, None])[:, 0]
    order = true.argsort()[:n].tolist()
    titles = [learn.task.title(found.probs[i], found.targets[i]) for i in order]
    return draw_items(learn.data, "valid", order, titles)
