"""Drawings of predictions beside what is true. Each is a matplotlib figure and works without a screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from ..data.bunch import Data, SplitName
from ..errors import ArgumentError, DataError, check_kind, did_you_mean, short
from ..task import Predictions, Task
from .plots import grid, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_NAMED = 40  # classes that can still be told apart along an axis
MOST_LABELS = 60  # of a plane of vectors that can still be read
MOST_POINTS = 5000  # of a scatter plot; more make a blot
MOST_DRAWN = 4  # predicted numbers that get a row of drawings
_IMAGE, _WORDS = (2.5, 3.0, 3), (3.3, 2.7, 2)  # inches across and down for one item, and items in a row
_BESIDE = (7.5, 2.6, 1)  # of an item beside what is true of it and what was said


def draw_confusion(counts: Tensor, names: Sequence[str]) -> Figure:
    """Draw a confusion matrix (c, c), whose rows are the true classes; numbers and names where there are few."""
    side = min(max(3.6, 0.45 * len(names) + 1.6), 16.0)
    figure = new_figure(side, side)
    axes = figure.add_subplot()
    axes.imshow(counts.numpy(), cmap="Blues")
    axes.set(xlabel="predicted", ylabel="true", title=f"{int(counts.diagonal().sum())} of {int(counts.sum())} right")
    if len(names) <= MOST_NAMED:
        ticks = [short(n, 24) for n in names]
        turned = 90 if max(map(len, ticks)) > 3 else 0
        axes.set_xticks(range(len(names)), ticks, rotation=turned, parse_math=False)
        axes.set_yticks(range(len(names)), ticks, parse_math=False)
        half = int(counts.max()) / 2
        for i, row in enumerate(counts.tolist()):
            for j, count in enumerate(row):
                if count:
                    axes.text(j, i, str(count), ha="center", va="center", color="white" if count > half else "black")
    return figure


def shows_images(data: Data[Any]) -> bool:
    """Whether a kind of data draws its items itself; any other says in words what is in them."""
    return type(data).draw_item is not Data.draw_item


def draw_items(
    data: Data[Any], split: SplitName, positions: Sequence[int], titles: Sequence[tuple[str, bool]],
    said: Tensor | None = None,
) -> Figure:  # fmt: skip
    """Draw items of a split in rows, each under its title, which is red where it is not right.

    Args:
        data: has them.
        split: where they are.
        positions: which.
        titles: of each, and whether it is right.
        said: what a model said of all items of the split, for data that can draw it beside the item.
    """
    wide, high, most = _IMAGE if shows_images(data) else _WORDS
    if said is not None and data.draws_beside:
        wide, high, most = _BESIDE
    ids = data.ids(split)
    figure, places = grid(len(positions), min(most, len(positions)), wide, high)
    for axes, i, (title, good) in zip(places, positions, titles, strict=True):
        if said is None:
            data.draw_item(split, i, axes)
        else:
            data.draw_said(split, i, said[i], axes)
        axes.set_title(title, fontsize=9, color="black" if good else "C3", parse_math=False)
        if not axes.get_xlabel():
            axes.set_xlabel(ids[i][-34:], fontsize=7, color="0.4", parse_math=False)
    return figure


def draw_calibration(table: pd.DataFrame, error: float) -> Figure:
    """Draw accuracy against confidence, and how many items have each confidence; see `Calibration`."""
    figure = new_figure(5.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = 0.92 / len(table)
    middle = (table["low"] + table["high"]) / 2
    upper.bar(middle, table["accuracy"].fillna(0), width, color="C0", label="fraction that was right")
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="as it should be")
    upper.plot(table["confidence"], table["accuracy"], "o", color="C1", markersize=4, label="mean of the bin")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    upper.set_title(f"expected calibration error {error:.3f}", fontsize=11)
    upper.legend(fontsize=8, loc="upper left")
    lower.bar(middle, table["count"], width, color="0.7")
    lower.set(xlabel="probability that was given", ylabel="count")
    return figure


def draw_numbers(names: Sequence[str], predicted: Tensor, true: Tensor, is_log: bool = False) -> Figure:
    """Draw predicted against actual numbers, both (n, number of names), of the first names, and the errors' spread."""
    names = names[:MOST_DRAWN]
    step = -(-len(true) // MOST_POINTS)
    figure = new_figure(8.4, 3.6 * len(names))
    grid = figure.subplots(len(names), 2, squeeze=False)
    for j, name in enumerate(names):
        left, right = grid[j]
        left.scatter(true[::step, j], predicted[::step, j], s=8, alpha=0.4, linewidths=0)
        low, high = float(true[:, j].min()), float(true[:, j].max())
        left.plot([low, high], [low, high], color="0.4", linestyle="--", linewidth=1)
        if is_log:
            left.set(xscale="log", yscale="log")
        left.set(xlabel="actual", ylabel="predicted")
        left.set_title(short(name, 40), parse_math=False, fontsize=11)
        errors = predicted[:, j] - true[:, j]
        errors = errors[errors.isfinite()]
        right.hist(errors.numpy(), bins=min(40, max(len(errors) // 4, 5)), color="0.6")
        right.axvline(0, color="0.2", linewidth=1)
        right.set(xlabel="predicted minus actual", ylabel="items")
    return figure


def draw_vectors(vectors: pd.DataFrame, name: str, levels: Sequence[Any] | None = None) -> Figure:
    """Draw `vectors`, a row for each category of `name`, in the plane that keeps most of their variance.

    Names are written at `levels`; None writes them all, or every n-th where there are too many to read.
    """
    n, width = vectors.shape
    if n < 3 or width < 2:
        raise ArgumentError(f"{name!r} has {n} categories in {width} dimensions; a plane needs 3 in 2")
    values = vectors.to_numpy(np.float64)
    left, strength, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    places = left[:, :2] * strength[:2]
    share = strength**2 / max(float((strength**2).sum()), 1e-30)
    figure = new_figure(7.2, 5.4)
    axes = figure.add_subplot()
    axes.scatter(places[:, 0], places[:, 1], s=12)
    known = list(vectors.index)
    for level in known[:: -(-n // MOST_LABELS)] if levels is None else levels:
        if level not in known:
            raise ArgumentError(f"{name!r} has no category {level!r}. {did_you_mean(str(level), map(str, known))}")
        x, y = places[known.index(level)].tolist()
        axes.annotate(
            short(str(level), 40), (x, y), xytext=(3, 3), textcoords="offset points", fontsize=8, parse_math=False
        )
    axes.set(title=f"Embedding of {name}", ylabel=f"second component ({share[1]:.0%})")
    axes.set_xlabel(f"first component ({share[0]:.0%} of the variance)")
    return figure


@runtime_checkable
class Predicting(Protocol):
    """What is asked of a learner here."""

    task: Task

    @property
    def data(self) -> Data[Any]: ...

    def predict(self, items: Any = ..., *, split: SplitName | None = None) -> Any: ...


def plot_confusion(learn: Predicting, predictions: Predictions | None = None) -> Figure:
    """Draw the confusion matrix of the validation split.

    Args:
        learn: a single-label learner.
        predictions: of `learn.predict()` or `learn.tta()`; None predicts the validation split.
    """
    check_kind("plot_confusion takes a learner", learn, Predicting)
    found: Predictions = predictions if predictions is not None else learn.predict(split="valid")
    if found.targets is None or not learn.task.is_exclusive:
        raise DataError("a confusion matrix needs single-label predictions with their targets")
    return draw_confusion(learn.task.confusions(found.probs, found.targets), learn.task.names)


def plot_worst(learn: Predicting, n: int = 9, predictions: Predictions | None = None) -> Figure:
    """Draw the `n` validation items with the highest loss: what was predicted, what is true, how sure it was.

    The arguments as in `plot_confusion`. Items without single labels are refused.
    """
    check_kind("plot_worst takes a learner", learn, Predicting)
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
