"""Interpretation: what a model gets wrong, how sure it is, and whether it is right to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from ..data.bunch import Data, SplitName
from ..device import moved
from ..errors import ArgumentError, DataError, did_you_mean
from ..task import Task
from ..task.gathered import by_pieces
from ..task.predictions import decoded
from ..train.predict import gather
from ..train.strategy import Strategy
from .drawings import draw_calibration, draw_confusion, draw_items, draw_numbers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Calibration:
    """Whether things said with a probability of 80 % are right in 80 % of the cases (arXiv 1706.04599).

    `table` has a row per bin of probabilities, above `low` to `high`: the `count` in it, their mean `confidence` and
    their `accuracy`, the share that was right; both NaN in an empty bin.
    """

    table: pd.DataFrame
    error: float  # the expected one: the mean distance between confidence and accuracy, weighted by count

    def __repr__(self) -> str:
        return f"expected calibration error {self.error:.4f}\n{self.table.to_string(float_format='{:.3f}'.format)}"


class Interpretation:
    """What a model says of the items of one split, beside what is true. `learn.interpret()` makes it.

    Args:
        data, task, split: where the items are, and what is predicted.
        logits, targets: in file order, shape (n, n_out), and (n,) or (n, n_out).
        device: where a loss with weights of its own has them; None is that of the logits.

    Attributes:
        ids: one name per item, in file order.
        probs: probabilities, or numbers in their own units, shape (n, n_out).
        losses: of each item by itself, shape (n,).
        labels, truths: what was predicted and what is true, decoded.

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
        self, data: Data[Any], task: Task, split: SplitName, logits: Tensor, targets: Tensor | None,
        device: torch.device | None = None,
    ) -> None:  # fmt: skip
        if targets is None:
            raise DataError(
                f"the items of the {split} split have no targets, so nothing can be said of mistakes; learn.predict() "
                "gives what the model says of them"
            )
        self.data = data
        self.task = task
        self.split = split
        self.logits = logits
        self.ids = tuple(data.ids(split))
        if not len(self.ids) == len(logits) == len(targets):
            found = f"{len(logits)} outputs and {len(targets)} targets"
            raise DataError(f"the {split} split names {len(self.ids)} items, but there are {found}")
        self.probs = by_pieces(task.activate, logits)
        self.losses = by_pieces(
            lambda some, true: task.item_losses(some.to(device), moved(true, device)).cpu(), logits, targets
        )
        self.targets = targets
        places = data.places(split) if task.of_pixels else None
        self.labels: tuple[Any, ...] = tuple(decoded(task, self.probs, places))
        self.truths: tuple[Any, ...] = tuple(task.decode_target(targets))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        mean = float(self.losses.mean())
        return f"Interpretation({self.split}: {len(self):,} items, {self.task.kind}, mean loss {mean:.4g})"

    def top_losses(self, k: int = 10) -> pd.DataFrame:
        """The `k` items with the highest loss, the worst first; the index is the position in the split.

        Returns:
            Columns id, loss, predicted, actual and, with classes, probability: of the predicted class; with several
            labels the lowest that the truth about any of them was given. With numbers instead residual: predicted
            minus actual.
        """
        import pandas as pd

        order = self.worst(k)
        columns: dict[str, Any] = {
            "id": [self.ids[i] for i in order],
            "loss": self.losses[order].tolist(),
            "predicted": [self.labels[i] for i in order],
            "actual": [self.truths[i] for i in order],
            **self.task.item_columns(self.probs[order], self.targets[order]),
        }
        frame: pd.DataFrame = pd.DataFrame(columns, index=pd.Index(order, name="position"))
        return frame

    def worst(self, k: int) -> list[int]:
        """Positions of the `k` items with the highest loss, the worst first."""
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ArgumentError(f"the number of items must be a whole number of at least 1, got {k!r}")
        return self.losses.argsort(descending=True, stable=True)[:k].tolist()

    def plot_top_losses(self, k: int = 9) -> Figure:
        """Draw the `k` items with the highest loss, texts and rows in words. A red title is a wrong class."""
        order = self.worst(k)
        titles = [self.task.title(self.probs[i], self.targets[i]) for i in order]
        return draw_items(self.data, self.split, order, titles, self.probs)

    def confusion_matrix(self) -> Tensor:
        """How often items of class i were taken for class j: counts of shape (c, c), rows are the true classes."""
        return self.task.confusions(self.probs, self.targets)

    def plot_confusion(self) -> Figure:
        """Draw the confusion matrix."""
        return draw_confusion(self.confusion_matrix(), self.task.names)

    def most_confused(self, min_count: int = 1) -> pd.DataFrame:
        """Pairs of classes that were mixed up at least `min_count` times: actual, predicted, count; the worst first."""
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

        names = pd.Index(self.task.names, name=self.task.noun, dtype=object)
        frame: pd.DataFrame = pd.DataFrame(self.task.by_name(self.probs, self.targets), index=names)
        return frame

    def calibration(self, n_bins: int = 10) -> Calibration:
        """Whether probabilities mean what they say (arXiv 1706.04599), in `n_bins` of equal width from 0 to 1.

        Single label: how sure the model was of the class it chose, against how often that was right. Several labels:
        every probability of every label, against how often the label is there.
        """
        import pandas as pd

        sure, right = self.task.calibrated(self.probs, self.targets)
        if isinstance(n_bins, bool) or not isinstance(n_bins, int) or n_bins < 1:
            raise ArgumentError(f"n_bins must be a whole number of at least 1, got {n_bins!r}")
        edges = torch.linspace(0, 1, n_bins + 1, dtype=torch.float64)
        place = torch.bucketize(sure, edges[1:-1])
        count = torch.bincount(place, minlength=n_bins)
        confidence = torch.bincount(place, sure, n_bins) / count  # 0/0 is NaN: an empty bin says nothing
        accuracy = torch.bincount(place, right, n_bins) / count
        error = float(((confidence - accuracy).abs() * count / len(sure)).nansum())
        columns = {"low": edges[:-1], "high": edges[1:], "count": count, "confidence": confidence, "accuracy": accuracy}
        return Calibration(pd.DataFrame({name: values.tolist() for name, values in columns.items()}), error)

    def plot_calibration(self, n_bins: int = 10) -> Figure:
        """Draw `calibration` in `n_bins`. Bars below the diagonal: the model is surer than it should be."""
        found = self.calibration(n_bins)
        return draw_calibration(found.table, found.error)

    def residuals(self) -> pd.DataFrame:
        """Predicted minus actual in the targets' own units: a row per item, a column per predicted number."""
        import pandas as pd

        predicted, true = self._numbers("residuals")
        frame: pd.DataFrame = pd.DataFrame(
            (predicted - true).numpy(), index=pd.Index(self.ids, name="id"), columns=list(self.task.names)
        )
        return frame

    def plot_predictions(self) -> Figure:
        """Draw predicted against actual numbers, and how the errors spread; on a log scale where the task has one."""
        return draw_numbers(self.task.names, *self._numbers("plot_predictions"), is_log=self.task.lowest >= 0)

    def _numbers(self, what: str) -> tuple[Tensor, Tensor]:
        """Predicted and actual numbers, both of shape (n, number of names)."""
        if not self.task.predicts_numbers:
            raise ArgumentError(
                f"{what} is for predicted numbers, this task is {self.task.kind}: use report(), calibration() or "
                "top_losses()"
            )
        predicted = self.probs.reshape(len(self), -1)
        return predicted, self.targets.reshape(len(self), -1).to(predicted.dtype)


def interpret(
    model: nn.Module, data: Data[Any], task: Task, strategy: Strategy, split: SplitName = "valid",
    progress: bool = False,
) -> Interpretation:  # fmt: skip
    """Run the model over a split and look at what it says; see `Learner.interpret`."""
    if split not in get_args(SplitName):
        raise ArgumentError(f"there is no split {split!r}. {did_you_mean(str(split), get_args(SplitName))}")
    if task.is_streamed:
        raise ArgumentError(
            "a language model has no items whose losses could be compared; learn.validate() gives its perplexity, and "
            "generate(learn, prompt, n) shows what it has learnt"
        )
    logits, targets = gather(model, data.loader(split), strategy, f"predicting {split}" if progress else "")
    return Interpretation(data, task, split, logits, targets, strategy.device)
