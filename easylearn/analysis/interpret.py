"""Interpretation: what a model gets wrong, how sure it is, and whether it is right to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from ..data.bunch import Data, PartName
from ..errors import ArgumentError, DataError, did_you_mean
from ..task import Task
from .plots import new_figure
from ..train.predict import gather
from ..train.strategy import Strategy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_NAMED = 40  # classes that can still be told apart along an axis
MOST_POINTS = 5000  # of a scatter plot; more make a blot, not a picture
MOST_DRAWN = 4  # predicted numbers that get a row of drawings
_PICTURE, _WORDS = (2.5, 3.0, 3), (3.3, 2.7, 2)  # inches across and down for one item, and items in a row


@dataclass(frozen=True)
class Calibration:
    """Whether things said with a probability of 80 % are right in 80 % of the cases (arXiv 1706.04599).

    Args:
        table: a row per bin of probabilities, above `low` to `high`: the `count` in it, their mean `confidence` and
            their `accuracy`, the share that was right; both NaN in an empty bin.
        error: the expected calibration error: the mean distance between confidence and accuracy, weighted by count.
    """

    table: pd.DataFrame
    error: float

    def __repr__(self) -> str:
        return f"expected calibration error {self.error:.4f}\n{self.table.to_string(float_format='{:.3f}'.format)}"


class Interpretation:
    """What a model says of the items of one part, beside what is true. `learn.interpret()` makes it.

    Args:
        data: where the items are; it draws them.
        task: what is predicted.
        part: "train", "valid" or "test".
        logits: the model's outputs in file order, shape (n, n_out).
        targets: shape (n,) or (n, n_out).
        device: where a loss with weights of its own has them; None is that of the logits.

    Attributes:
        ids: one name per item, in file order.
        probs: probabilities, or numbers in their own units, shape (n, n_out).
        losses: of each item by itself, shape (n,).
        labels: what was predicted, decoded.
        truths: what is true, decoded.

    Raises:
        DataError: there are no targets.

    >>> from easylearn.data.loaders import TensorData
    >>> from easylearn.task import single_label
    >>> logits, y = torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])
    >>> data = TensorData((logits, y), (logits, y), single_label(["cat", "dog"]))
    >>> found = Interpretation(data, data.task, "valid", logits, y)
    >>> found.confusion_matrix().tolist()
    [[1, 0], [1, 1]]
    >>> found.top_losses(1)["predicted"].tolist()
    ['cat']
    """

    def __init__(
        self,
        data: Data,
        task: Task,
        part: PartName,
        logits: Tensor,
        targets: Tensor | None,
        device: torch.device | None = None,
    ) -> None:
        if targets is None:
            raise DataError(
                f"the items of the {part} part have no targets, so nothing can be said of mistakes; learn.predict() "
                "gives what the model says of them"
            )
        self.data = data
        self.task = task
        self.part = part
        self.logits = logits
        self.ids = tuple(data.ids(part))
        if not len(self.ids) == len(logits) == len(targets):
            raise DataError(
                f"the {part} part names {len(self.ids)} items, but there are {len(logits)} outputs and "
                f"{len(targets)} targets"
            )
        self.probs = task.activate(logits)
        self.losses = task.item_losses(logits.to(device), targets.to(device)).cpu()
        self.targets = targets
        # Shares of classes, as distillation gives them, have a truth, too: the largest.
        is_shares = task.kind == "single_label" and targets.is_floating_point()
        self._classes = targets.argmax(1) if is_shares else targets
        self.labels: tuple[Any, ...] = tuple(task.decode(self.probs))
        self.truths: tuple[Any, ...] = (
            tuple(task.names[i] for i in self._classes.tolist())
            if task.kind == "single_label"
            else tuple(task.decode(targets))
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        mean = float(self.losses.mean())
        return f"Interpretation({self.part}: {len(self):,} items, {self.task.kind}, mean loss {mean:.4g})"

    # -- single items --------------------------------------------------------------------------------------

    def top_losses(self, k: int = 10) -> pd.DataFrame:
        """The items with the highest loss, the worst first.

        Args:
            k: how many; fewer where there are fewer.

        Returns:
            Columns id, loss, predicted, actual and, with classes, probability: of the predicted class; with several
            labels the lowest that the truth about any of them was given. With numbers instead residual: predicted
            minus actual. The index is the position in the part.
        """
        import pandas as pd

        order = self.worst(k)
        columns: dict[str, Any] = {
            "id": [self.ids[i] for i in order],
            "loss": self.losses[order].tolist(),
            "predicted": [self.labels[i] for i in order],
            "actual": [self.truths[i] for i in order],
        }
        if self.task.kind == "regression":
            rows = self._residuals()[order].tolist()
            columns["residual"] = [row[0] if len(row) == 1 else tuple(row) for row in rows]
        else:
            columns["probability"] = self._probability()[order].tolist()
        frame: pd.DataFrame = pd.DataFrame(columns, index=pd.Index(order, name="position"))
        return frame

    def worst(self, k: int) -> list[int]:
        """Positions of the `k` items with the highest loss, the worst first."""
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ArgumentError(f"the number of items must be a whole number of at least 1, got {k!r}")
        return self.losses.argsort(descending=True, stable=True)[:k].tolist()

    def _probability(self) -> Tensor:
        if self.task.kind == "single_label":
            return self.probs.max(1).values
        on = self.targets > 0.5
        return torch.where(on, self.probs, 1 - self.probs).min(1).values

    def plot_top_losses(self, k: int = 9) -> Figure:
        """Draw the items with the highest loss: pictures; texts and rows in words.

        Args:
            k: how many.

        Returns:
            The figure. A red title is a wrong class.
        """
        order = self.worst(k)
        titles = [self._title(i) for i in order]
        return draw_items(self.data, self.part, order, [t for t, _ in titles], [right for _, right in titles])

    def _title(self, i: int) -> tuple[str, bool]:
        """What was said of item `i`, and whether it was right (numbers: always)."""
        if self.task.kind == "single_label":
            return single_label_title(self.task.names, self.probs[i], int(self._classes[i]))
        if self.task.kind == "multi_label":
            said, true = (" ".join(labels) or "nothing" for labels in (self.labels[i], self.truths[i]))
            return f"said {short(said, 30)},\nis {short(true, 30)}", self.labels[i] == self.truths[i]
        said, true = (", ".join(f"{v:.4g}" for v in row.reshape(-1)) for row in (self.probs[i], self.targets[i]))
        return f"said {short(said, 30)}, is {short(true, 30)}", True

    # -- classes -------------------------------------------------------------------------------------------

    def confusion_matrix(self) -> Tensor:
        """How often items of class i were taken for class j: counts of shape (c, c), rows are the true classes."""
        self._need_single("a confusion matrix")
        return count_confusions(self.probs, self._classes, self.task.n_out)

    def plot_confusion(self) -> Figure:
        """Draw the confusion matrix."""
        return draw_confusion(self.confusion_matrix(), self.task.names)

    def most_confused(self, min_count: int = 1) -> pd.DataFrame:
        """Pairs of classes that were mixed up, the most frequent first.

        Args:
            min_count: pairs with fewer items are left out.

        Returns:
            Columns actual, predicted, count.
        """
        import pandas as pd

        if min_count < 1:
            raise ArgumentError(f"min_count must be at least 1, got {min_count}")
        counts = self.confusion_matrix().fill_diagonal_(0)
        pairs = torch.nonzero(counts >= min_count)
        number = counts[pairs[:, 0], pairs[:, 1]]
        order = number.argsort(descending=True, stable=True)
        names = self.task.names
        rows = [(names[i], names[j], int(n)) for (i, j), n in zip(pairs[order].tolist(), number[order], strict=True)]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=["actual", "predicted", "count"])
        return frame

    def report(self) -> pd.DataFrame:
        """One row per class or label: precision, recall, f1 and support, as scikit-learn defines them.

        Where nothing was predicted, or nothing is there, what would be 0/0 is 0. Of numbers, one row per predicted
        number: the mean error (bias), mae, rmse, r2 and support.
        """
        import pandas as pd

        if self.task.kind == "regression":
            return self._number_report()
        if self.task.kind == "single_label":
            counts = self.confusion_matrix()
            hits, said, there = counts.diagonal(), counts.sum(0), counts.sum(1)
        else:
            chosen, true = self.probs >= self.task.threshold, self.targets > 0.5
            hits, said, there = (chosen & true).sum(0), chosen.sum(0), true.sum(0)
        hits, said, there = hits.double(), said.double(), there.double()
        frame: pd.DataFrame = pd.DataFrame(
            {
                "precision": (hits / said.clamp_min(1)).tolist(),
                "recall": (hits / there.clamp_min(1)).tolist(),
                "f1": (2 * hits / (said + there).clamp_min(1)).tolist(),
                "support": there.long().tolist(),
            },
            index=pd.Index(self.task.names, name="class", dtype=object),
        )
        return frame

    def calibration(self, n_bins: int = 10) -> Calibration:
        """Whether probabilities mean what they say (arXiv 1706.04599).

        Single label: how sure the model was of the class it chose, against how often that was right. Several labels:
        every probability of every label, against how often the label is there.

        Args:
            n_bins: bins of equal width from 0 to 1.

        Returns:
            A table of the bins, and the expected calibration error.
        """
        import pandas as pd

        if self.task.kind == "regression":
            raise ArgumentError(
                "calibration is about probabilities, and these are numbers: use plot_predictions() or residuals()"
            )
        if isinstance(n_bins, bool) or not isinstance(n_bins, int) or n_bins < 1:
            raise ArgumentError(f"n_bins must be a whole number of at least 1, got {n_bins!r}")
        if self.task.kind == "single_label":
            sure, chosen = self.probs.double().max(1)
            right = (chosen == self._classes).double()
        else:
            sure, right = self.probs.double().flatten(), (self.targets > 0.5).double().flatten()
        edges = torch.linspace(0, 1, n_bins + 1, dtype=torch.float64)
        place = torch.bucketize(sure, edges[1:-1])
        count = torch.bincount(place, minlength=n_bins)
        confidence = torch.bincount(place, sure, n_bins) / count  # 0/0 is NaN: an empty bin says nothing
        accuracy = torch.bincount(place, right, n_bins) / count
        error = float(((confidence - accuracy).abs() * count / len(sure)).nansum())
        table: pd.DataFrame = pd.DataFrame(
            {
                "low": edges[:-1].tolist(),
                "high": edges[1:].tolist(),
                "count": count.tolist(),
                "confidence": confidence.tolist(),
                "accuracy": accuracy.tolist(),
            }
        )
        return Calibration(table, error)

    def plot_calibration(self, n_bins: int = 10) -> Figure:
        """Draw accuracy against confidence, and how many items have each confidence.

        Args:
            n_bins: bins of equal width from 0 to 1.

        Returns:
            The figure. Bars below the diagonal: the model is surer than it should be.
        """
        found = self.calibration(n_bins)
        table = found.table
        figure = new_figure(5.2, 4.6)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        width = 1 / n_bins
        middle = (table["low"] + table["high"]) / 2
        upper.bar(middle, table["accuracy"].fillna(0), width * 0.92, color="C0", label="share that was right")
        upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="as it should be")
        upper.plot(table["confidence"], table["accuracy"], "o", color="C1", markersize=4, label="mean of the bin")
        upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        upper.set_title(f"expected calibration error {found.error:.3f}", fontsize=11)
        upper.legend(fontsize=8, loc="upper left")
        lower.bar(middle, table["count"], width * 0.92, color="0.7")
        lower.set(xlabel="probability that was given", ylabel="count")
        return figure

    # -- numbers -------------------------------------------------------------------------------------------

    def residuals(self) -> pd.DataFrame:
        """Predicted minus actual in the targets' own units: a row per item, a column per predicted number."""
        import pandas as pd

        self._need_numbers("residuals")
        frame: pd.DataFrame = pd.DataFrame(
            self._residuals().numpy(), index=pd.Index(self.ids, name="id"), columns=list(self.task.names)
        )
        return frame

    def plot_predictions(self) -> Figure:
        """Draw predicted against actual numbers, and how the errors spread; on a log scale where the task has one."""
        self._need_numbers("plot_predictions")
        residuals = self._residuals()
        said, true = self.probs.reshape(len(self), -1), self.targets.reshape(len(self), -1)
        names = self.task.names[:MOST_DRAWN]
        step = -(-len(self) // MOST_POINTS)
        figure = new_figure(8.4, 3.6 * len(names))
        grid = figure.subplots(len(names), 2, squeeze=False)
        for j, name in enumerate(names):
            left, right = grid[j]
            left.scatter(true[::step, j], said[::step, j], s=8, alpha=0.4, linewidths=0)
            low, high = float(true[:, j].min()), float(true[:, j].max())
            left.plot([low, high], [low, high], color="0.4", linestyle="--", linewidth=1)
            if self.task.scale == "log":
                left.set(xscale="log", yscale="log")
            left.set(xlabel="actual", ylabel="predicted")
            left.set_title(short(name, 40), parse_math=False, fontsize=11)
            errors = residuals[:, j][residuals[:, j].isfinite()].numpy()
            right.hist(errors, bins=min(40, max(len(errors) // 4, 5)), color="0.6")
            right.axvline(0, color="0.2", linewidth=1)
            right.set(xlabel="predicted minus actual", ylabel="items")
        return figure

    def _residuals(self) -> Tensor:
        return self.probs.reshape(len(self), -1) - self.targets.reshape(len(self), -1).to(self.probs.dtype)

    def _number_report(self) -> pd.DataFrame:
        import pandas as pd

        error = self._residuals().double()
        true = self.targets.reshape(len(self), -1).double()
        spread = (true - true.mean(0)).square().sum(0)
        frame: pd.DataFrame = pd.DataFrame(
            {
                "bias": error.mean(0).tolist(),
                "mae": error.abs().mean(0).tolist(),
                "rmse": error.square().mean(0).sqrt().tolist(),
                "r2": (1 - error.square().sum(0) / spread).tolist(),
                "support": len(self),
            },
            index=pd.Index(self.task.names, name="target", dtype=object),
        )
        return frame

    # -- what does not fit the task ------------------------------------------------------------------------

    def _need_single(self, what: str) -> None:
        if self.task.kind == "single_label":
            return
        instead = {
            "multi_label": "items have several labels here: use report() for the precision and recall of each label",
            "regression": "these are numbers: use report(), residuals() or plot_predictions()",
        }
        raise ArgumentError(f"{what} needs one class per item, and {instead[self.task.kind]}")

    def _need_numbers(self, what: str) -> None:
        if self.task.kind != "regression":
            raise ArgumentError(
                f"{what} is for predicted numbers, this task is {self.task.kind}: use report(), calibration() or "
                "top_losses()"
            )


def interpret(model: nn.Module, data: Data, task: Task, strategy: Strategy, part: PartName = "valid") -> Interpretation:
    """Run the model over a part and look at what it says; see `Learner.interpret`."""
    if part not in get_args(PartName):
        raise ArgumentError(f"there is no part {part!r}. {did_you_mean(str(part), get_args(PartName))}")
    if task.is_streamed:
        raise ArgumentError(
            "a language model has no items whose losses could be compared; learn.validate() gives its perplexity, and "
            "learn.generate(prompt, n) shows what it has learnt"
        )
    if (part == "valid" and not data.has_valid) or (part == "test" and not data.has_test):
        raise DataError(f"there is no {part} part; pass {part}= when making the data, or interpret another part")
    logits, targets = gather(model, data.loader(part), strategy)
    return Interpretation(data, task, part, logits, targets, strategy.device)


# -- counting and drawing, also for predictions that are there already ---------------------------------------


def count_confusions(probs: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """Counts of shape (n_classes, n_classes): rows are the true classes, columns the most probable ones.

    Args:
        probs: shape (n, n_classes).
        targets: class numbers, shape (n,).
        n_classes: number of classes.
    """
    pairs = targets * n_classes + probs.argmax(1)
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def draw_confusion(counts: Tensor, names: Sequence[str]) -> Figure:
    """Draw a confusion matrix.

    Args:
        counts: rows are the true classes, shape (c, c).
        names: of the classes.

    Returns:
        The figure; numbers and names are written where there are few enough classes.
    """
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


def draw_items(
    data: Data, part: PartName, positions: Sequence[int], titles: Sequence[str], right: Sequence[bool]
) -> Figure:
    """Draw items in rows, each under its title, which is red where the model was wrong.

    Args:
        data: draws them.
        part: where they are.
        positions: which they are.
        titles: one per item.
        right: one per item.

    Returns:
        The figure.
    """
    wide, high, most = _PICTURE if data.has_pictures else _WORDS
    ids = data.ids(part)
    columns = min(most, len(positions))
    rows = -(-len(positions) // columns)
    figure = new_figure(wide * columns, high * rows)
    for place, (i, title, good) in enumerate(zip(positions, titles, right, strict=True), 1):
        axes = figure.add_subplot(rows, columns, place)
        data.draw_item(part, i, axes)
        axes.set_title(title, fontsize=9, color="black" if good else "C3", parse_math=False)
        if not axes.get_xlabel():
            axes.set_xlabel(ids[i][-34:], fontsize=7, color="0.4", parse_math=False)
    return figure


def single_label_title(names: Sequence[str], probs: Tensor, truth: int) -> tuple[str, bool]:
    """What was said of an item and how surely, and whether it was right.

    Args:
        names: of the classes.
        probs: shape (c,).
        truth: the true class.

    >>> single_label_title(["cat", "dog"], torch.tensor([0.25, 0.75]), 0)
    ('said dog (75%), is cat', False)
    """
    best = int(probs.argmax())
    said, share = short(names[best], 18), f"{float(probs[best]):.0%}"
    if best == truth:
        return f"said {said}, but only {share}", True
    return f"said {said} ({share}), is {short(names[truth], 18)}", False


def short(text: str, most: int) -> str:
    """The text, its end cut off where it is longer than `most` characters.

    >>> short("a long name", 7)
    'a lo...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."
