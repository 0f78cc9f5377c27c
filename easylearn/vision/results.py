"""Looking at predictions: which classes are mixed up, and which pictures the model is most wrong about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..analysis.drawings import draw_confusion, draw_items
from ..errors import ArgumentError, DataError
from ..learner import Learner
from ..task import Predictions
from ..task.exclusive import count_confusions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_matrix(predictions: Predictions, n_classes: int) -> torch.Tensor:
    """How often items of class i were taken for class j.

    Args:
        predictions: single-label predictions with targets.
        n_classes: number of classes.

    Returns:
        Counts of shape (n_classes, n_classes); rows are the true classes.

    >>> from easylearn.task import single_label
    >>> task, probs = single_label(["cat", "dog"]), torch.eye(2)[[0, 1, 1]]
    >>> said = Predictions.of(task, probs, ["a", "b", "c"], torch.tensor([0, 0, 1]))
    >>> confusion_matrix(said, 2).tolist()
    [[1, 1], [0, 1]]
    """
    if predictions.targets is None or predictions.targets.ndim != 1 or predictions.targets.is_floating_point():
        raise DataError("a confusion matrix needs single-label predictions with their targets")
    return count_confusions(predictions.probs, predictions.targets, n_classes)


def plot_confusion(learn: Learner, predictions: Predictions | None = None) -> Figure:
    """Draw the confusion matrix of the validation part.

    Args:
        learn: a single-label learner.
        predictions: of `learn.predict()` or `learn.tta()`; None predicts the validation part.

    Returns:
        The figure.

    Raises:
        DataError: there are no single labels to compare with.
    """
    names = learn.task.classes
    counts = confusion_matrix(predictions if predictions is not None else learn.predict(), len(names))
    return draw_confusion(counts, names)


def plot_worst(learn: Learner, n: int = 9, predictions: Predictions | None = None) -> Figure:
    """Draw the validation images with the highest loss: what was said, what is true, how sure it was.

    Args:
        learn: a single-label learner on images.
        n: how many.
        predictions: of `learn.predict()` or `learn.tta()`; None predicts the validation part.

    Returns:
        The figure.

    Raises:
        ArgumentError: the learner has no single-label images.
        DataError: the predictions have no targets, or are of other pictures.
    """
    from .data import ImageData

    data = learn.data
    if not isinstance(data, ImageData) or not learn.task.is_exclusive:
        raise ArgumentError(
            "plot_worst shows single-label images; this learner has something else. "
            "learn.interpret().plot_top_losses() draws the worst of any kind of items"
        )
    if n < 1:
        raise ArgumentError(f"n must be at least 1, got {n}")
    said: Predictions = predictions if predictions is not None else learn.predict()
    if said.targets is None:
        raise DataError("which predictions are the worst can only be told with targets")
    if said.ids != data.ids("valid"):
        raise DataError("these predictions are not of the learner's present validation part; predict anew")
    true = said.probs.gather(1, said.targets[:, None])[:, 0]
    order = true.argsort()[:n].tolist()
    titles = [learn.task.title(said.probs[i], said.targets[i]) for i in order]
    return draw_items(data, "valid", order, [t for t, _ in titles], [right for _, right in titles])
