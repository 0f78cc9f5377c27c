"""Looking at predictions: which classes are mixed up, and which pictures the model is most wrong about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import ArgumentError, DataError
from ..learner import Learner, Predictions
from ..train.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data import ImageData


def confusion_matrix(predictions: Predictions, n_classes: int) -> torch.Tensor:
    """How often items of class i were taken for class j.

    Args:
        predictions: single-label predictions with targets.
        n_classes: number of classes.

    Returns:
        Counts of shape (n_classes, n_classes); rows are the true classes.

    >>> said = Predictions(torch.eye(2)[[0, 1, 1]], torch.tensor([0, 0, 1]), ("a", "b", "c"), (), torch.empty(0))
    >>> confusion_matrix(said, 2).tolist()
    [[1, 1], [0, 1]]
    """
    if predictions.targets is None or predictions.targets.ndim != 1 or predictions.targets.is_floating_point():
        raise DataError("a confusion matrix needs single-label predictions with their targets")
    pairs = predictions.targets * n_classes + predictions.probs.argmax(1)
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


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
    side = min(max(3.6, 0.45 * len(names) + 1.6), 16.0)
    figure = new_figure(side, side)
    axes = figure.add_subplot()
    axes.imshow(counts.numpy(), cmap="Blues")
    axes.set(xlabel="predicted", ylabel="true", title=f"{int(counts.diagonal().sum())} of {int(counts.sum())} right")
    if len(names) <= 40:
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
        half = int(counts.max()) / 2
        for i, row in enumerate(counts.tolist()):
            for j, count in enumerate(row):
                if count:
                    axes.text(j, i, str(count), ha="center", va="center", color="white" if count > half else "black")
    return figure


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
    if not isinstance(data, ImageData) or learn.task.kind != "single_label":
        raise ArgumentError("plot_worst shows single-label images; this learner has something else")
    if n < 1:
        raise ArgumentError(f"n must be at least 1, got {n}")
    said: Predictions = predictions if predictions is not None else learn.predict()
    if said.targets is None:
        raise DataError("which predictions are the worst can only be told with targets")
    if said.ids != data.ids("valid"):
        raise DataError("these predictions are not of the learner's present validation part; predict anew")
    true = said.probs.gather(1, said.targets[:, None])[:, 0]
    order = true.argsort()[:n].tolist()
    pictures = _pictures(data, order)
    columns = min(3, len(order))
    rows = -(-len(order) // columns)
    figure = new_figure(2.5 * columns, 3.0 * rows)
    names = learn.task.classes
    for place, (row, picture) in enumerate(zip(order, pictures, strict=True), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(picture.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1)
        best = int(said.probs[row].argmax())
        truth = int(said.targets[row])
        title = f"said {names[best]} ({float(said.probs[row, best]):.0%}), is {names[truth]}"
        if best == truth:
            title = f"said {names[best]}, but only {float(said.probs[row, best]):.0%}"
        axes.set_title(title, fontsize=9, color="black" if best == truth else "C3")
        axes.set_xlabel(said.ids[row][-34:], fontsize=7, color="0.4")
        axes.set(xticks=[], yticks=[])
    return figure


def _pictures(data: ImageData, positions: list[int]) -> torch.Tensor:
    """Validation images as the model sees them, pixels in [0, 1], shape (n, c, h, w)."""
    sources = [data.valid.sources[i] for i in positions]
    batches = data.new_loader(sources).batches(torch.device("cpu"))
    return torch.cat([data.batch_stage.denormalise(b.inputs[0]) for b in batches])
