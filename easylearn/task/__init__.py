"""What is being predicted: a Task owns the loss, the activation, the decoding and the default metrics.

Heads return logits; only the Task turns them into probabilities, so a softmax can never meet a sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, DataError, did_you_mean
from ..metrics import Metric, accuracy, accuracy_at, as_metric, perplexity, rmse

Kind = Literal["single_label", "multi_label", "regression", "next_token"]
Scale = Literal["linear", "log", "log1p"]
LossFn = Callable[[Tensor, Tensor], Tensor]

NO_TARGET = -100
"""Where a next-token target says this, there is nothing to predict."""


@dataclass(frozen=True)
class Task:
    """One kind of prediction, over one list of classes or of target names.

    Make one with `single_label`, `multi_label`, `regression` or `next_token`.

    Args:
        kind: which of the four.
        names: the classes, the names of the predicted numbers, or the tokens of the vocabulary.
        metrics: what is reported after each epoch.
        threshold: multi-label: the probability from which a label counts as given.
        label_smoothing: single-label: the share of the target spread over all classes (arXiv 1512.00567).
        loss_fn: takes (logits, target) and gives the mean loss; None means the task's own.
        scale: regression: what the model's outputs stand for: the numbers themselves, their logarithms, or the
            logarithms of the numbers plus one. Targets, predictions and metrics keep the numbers' own units; only
            the loss compares on this scale.
    """

    kind: Kind
    names: tuple[str, ...]
    metrics: tuple[Metric, ...] = ()
    threshold: float = 0.5
    label_smoothing: float = 0.0
    loss_fn: LossFn | None = None
    scale: Scale = "linear"

    def __post_init__(self) -> None:
        unfit = [m.name for m in self.metrics if m.per_item is None] if self.is_streamed else []
        if unfit:  # said when it is made, and not after an epoch
            raise ArgumentError(
                f"a {self.kind} task can report metrics that are a mean over tokens (perplexity, accuracy, top_k(5)), "
                f"and {unfit[0]!r} is not: it has no per_item"
            )

    @property
    def n_out(self) -> int:
        """How many numbers the model gives for one item."""
        return len(self.names)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the model's outputs; empty for regression."""
        return () if self.kind == "regression" else self.names

    @property
    def is_streamed(self) -> bool:
        """Whether predictions are too many to be kept: each token has one number per word of the vocabulary."""
        return self.kind == "next_token"

    def __str__(self) -> str:
        """The kind, and the first names of what is predicted.

        >>> print(single_label(["cat", "dog"]))
        single_label of 2 (cat, dog)
        """
        few = ", ".join(self.names[:4]) + (", ..." if self.n_out > 4 else "")
        return f"{self.kind} of {self.n_out} ({few})"

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: the model's output, shape (b, n_out).
            target: shape (b,) of class numbers or (b, n_out) of class probabilities for single-label; (b, t) of
                token numbers for next-token, with logits (b, t, n_out); (b, n_out) otherwise, regression with one
                name also (b,).

        Returns:
            A scalar tensor with gradients.
        """
        if self.kind == "regression":
            # (b,) and (b, 1) are the same numbers; left alone they would be broadcast to (b, b).
            if target.ndim == logits.ndim - 1:
                target = target.unsqueeze(-1)
            elif logits.ndim == target.ndim - 1:
                logits = logits.unsqueeze(-1)
            target = self.to_scale(target)
        if self.loss_fn is not None:
            return self.loss_fn(logits, target)
        if self.kind == "next_token":
            return F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=NO_TARGET)
        if self.kind == "single_label":
            return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        if self.kind == "multi_label":
            return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))
        return F.mse_loss(logits, target.to(logits.dtype))

    def item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each item by itself; their mean is `loss`, where that is a mean over items.

        Args:
            logits: the model's output, shape (n, n_out).
            target: as in `loss`.

        Returns:
            Shape (n,), without gradients.

        Raises:
            ArgumentError: the task is a language model's, which has no items.

        >>> single_label(["no", "yes"]).item_losses(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.6931, 0.6931])
        """
        if self.is_streamed:
            raise ArgumentError(
                "a language model has a loss per token, and no items; learn.validate() gives its mean and perplexity"
            )
        with torch.no_grad():
            if self.loss_fn is not None:  # it gives means alone: each item is a batch of its own
                rows = [self.loss(logits[i : i + 1], target[i : i + 1]).reshape(()) for i in range(len(logits))]
                return torch.stack(rows) if rows else logits.new_zeros(0)
            if self.kind == "single_label":
                return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing, reduction="none")
            wide = target.reshape(len(target), -1).to(logits.dtype)
            if self.kind == "multi_label":
                return F.binary_cross_entropy_with_logits(logits, wide, reduction="none").mean(1)
            return (logits.reshape(len(logits), -1) - self.to_scale(wide)).square().mean(1)

    def to_scale(self, target: Tensor) -> Tensor:
        """Numbers in their own units as what the model's outputs stand for; the inverse of `activate`.

        >>> regression(scale="log1p").to_scale(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.6931])
        """
        if self.scale == "log":
            return target.log()
        return target.log1p() if self.scale == "log1p" else target

    def activate(self, logits: Tensor) -> Tensor:
        """Logits to probabilities (softmax or sigmoid), regression outputs to numbers in the target's own units."""
        if self.kind in ("single_label", "next_token"):
            return logits.softmax(-1)
        if self.kind == "multi_label":
            return logits.sigmoid()
        if self.scale == "log":
            return logits.exp()
        return logits.expm1().clamp_min(0) if self.scale == "log1p" else logits

    def decode(self, probs: Tensor) -> list[Any]:
        """One label per row: a class name, a tuple of class names, a number or a tuple of numbers.

        >>> single_label(["cat", "dog"]).decode(torch.tensor([[0.2, 0.8]]))
        ['dog']
        >>> multi_label(["haze", "road"]).decode(torch.tensor([[0.7, 0.6], [0.1, 0.2]]))
        [('haze', 'road'), ()]
        """
        if self.kind in ("single_label", "next_token"):
            return [self.names[i] for i in probs.argmax(-1).tolist()]
        if self.kind == "multi_label":
            rows = (probs >= self.threshold).tolist()
            return [tuple(n for n, on in zip(self.names, row, strict=True) if on) for row in rows]
        values = probs.reshape(len(probs), -1).tolist()
        return [row[0] if len(row) == 1 else tuple(row) for row in values]

    def column(self, target: str | int) -> int:
        """The column of the model's outputs that a class or a predicted number has.

        Args:
            target: its name or its number.

        Raises:
            ArgumentError: there is no such one.

        >>> single_label(["cat", "dog"]).column("dog")
        1
        """
        if isinstance(target, str):
            if target not in self.names:
                raise ArgumentError(f"{target!r} is not predicted here. {did_you_mean(target, self.names)}")
            return self.names.index(target)
        if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < self.n_out:
            raise ArgumentError(f"target must be a name or a number from 0 to {self.n_out - 1}, got {target!r}")
        return target

    def soft_target(self, target: Tensor) -> Tensor:
        """The target as floating-point rows, which can be mixed (MixUp, CutMix)."""
        if self.kind == "single_label" and not target.is_floating_point():
            return F.one_hot(target, self.n_out).float()
        return target.float()

    def same_as(self, other: Task) -> str:
        """Empty if both predict the same things in the same order; else what differs, in words."""
        if self.kind != other.kind:
            return f"one is {self.kind}, the other {other.kind}"
        if self.scale != other.scale:
            return f"the outputs of one are on a {self.scale} scale, those of the other on a {other.scale} scale"
        if self.names != other.names:
            extra = [n for n in self.names if n not in other.names]
            missing = [n for n in other.names if n not in self.names]
            if extra or missing:
                return f"only in the first: {extra[:10]}, only in the second: {missing[:10]}"
            return f"the order differs: {list(self.names[:10])} and {list(other.names[:10])}"
        return ""

    def with_metrics(self, chosen: Sequence[Metric | Callable[..., Any]]) -> Task:
        """The same task reporting other metrics."""
        if isinstance(chosen, str):
            raise ArgumentError(f"metrics must be a list, such as [accuracy], got the word {chosen!r}")
        return replace(self, metrics=tuple(as_metric(m) for m in chosen))

    @property
    def row_names(self) -> list[str]:
        """Columns of a table of predictions."""
        return list(self.names) if self.kind == "regression" else ["label", *(f"p_{n}" for n in self.classes)]

    def row(self, label: Any, probs: Tensor) -> list[Any]:
        """One row of it."""
        values = [f"{p:.8g}" for p in probs.tolist()]
        if self.kind == "regression":
            return values
        return [label if isinstance(label, str) else " ".join(label), *values]

    def configured(self, metrics: Sequence[Any] | None, loss: LossFn | None, label_smoothing: float) -> Task:
        """The same task with other metrics, another loss, smoothed labels."""
        task = self
        if metrics is not None:
            task = task.with_metrics(metrics)
        if loss is not None:
            task = replace(task, loss_fn=loss)
        if label_smoothing:
            if task.kind != "single_label":
                raise ArgumentError(f"label_smoothing is for single-label tasks, this one is {task.kind}")
            if not 0.0 <= label_smoothing < 1.0:
                raise ArgumentError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")
            if task.loss_fn is not None:
                raise ArgumentError("label_smoothing is a setting of the task's own loss; leave it out, or leave out loss=")
            task = replace(task, label_smoothing=label_smoothing)
        return task


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ArgumentError(f"a task needs a list of names, got the word {names!r}; write [{names!r}]")
    given = tuple(str(n) for n in names)
    if not given:
        raise DataError(f"a task needs at least one {what}, got none")
    if len(set(given)) != len(given):
        twice = sorted({n for n in given if given.count(n) > 1})
        raise DataError(f"each {what} must be named once, got {twice} more than once")
    return given


def single_label(classes: Sequence[str], label_smoothing: float = 0.0) -> Task:
    """Each item has exactly one of the classes: cross-entropy, softmax, accuracy.

    Args:
        classes: their names, in the order of the model's outputs.
        label_smoothing: share of the target spread over all classes (arXiv 1512.00567).
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ArgumentError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")
    return Task("single_label", _names(classes, "class"), (accuracy,), label_smoothing=label_smoothing)


def multi_label(classes: Sequence[str], threshold: float = 0.5) -> Task:
    """Each item has any number of the classes: binary cross-entropy, sigmoid, accuracy at the threshold.

    Args:
        classes: their names, in the order of the model's outputs.
        threshold: the probability from which a label counts as given.
    """
    return Task("multi_label", _names(classes, "class"), (accuracy_at(threshold),), threshold=threshold)


def regression(names: Sequence[str] = ("target",), loss_fn: LossFn | None = None, scale: Scale = "linear") -> Task:
    """Each item has one or several numbers: mean squared error on the `scale`, root mean squared error of the numbers.

    Args:
        names: of the numbers, in the order of the model's outputs.
        loss_fn: takes (outputs, target) and gives the mean loss, instead of the squared error.
        scale: on which the model works; see `Task`.

    >>> task = regression(["price"], scale="log")
    >>> task.decode(task.activate(torch.tensor([[0.0]])))
    [1.0]
    """
    if scale not in get_args(Scale):
        raise ArgumentError(f"scale must be one of {get_args(Scale)}, got {scale!r}")
    return Task("regression", _names(names, "target"), (rmse,), loss_fn=loss_fn, scale=scale)


def next_token(tokens: Sequence[str]) -> Task:
    """At each place of a text, the token that comes next: cross-entropy, softmax, perplexity.

    Args:
        tokens: the vocabulary, in the order of the model's outputs.

    >>> task = next_token(["the", "film"])
    >>> task.loss(torch.zeros(1, 3, 2), torch.tensor([[0, 1, NO_TARGET]]))
    tensor(0.6931)
    """
    return Task("next_token", _names(tokens, "token"), (perplexity, accuracy))


def check_target(task: Task, target: Tensor) -> None:
    """Refuse a target whose shape or values cannot belong to the task.

    Raises:
        DataError: a class number is out of range or the shape is wrong.
    """
    if task.kind == "next_token":
        raise ArgumentError("the targets of a language model are its own text; make the data with TextLMData")
    if task.kind == "single_label":
        if target.ndim != 1 or target.is_floating_point():
            raise DataError(
                f"single-label targets are class numbers of shape (n,), got {tuple(target.shape)} {target.dtype}"
            )
        bad = torch.nonzero((target < 0) | (target >= task.n_out)).flatten()
        if len(bad):
            raise DataError(
                f"row {bad[0].item()}: class number {target[bad[0]].item()} is not between 0 and {task.n_out - 1}"
            )
    elif task.kind == "multi_label":
        if target.ndim != 2 or target.shape[1] != task.n_out:
            raise DataError(f"multi-label targets have shape (n, {task.n_out}), got {tuple(target.shape)}")
        bad = torch.nonzero(~((target >= 0) & (target <= 1)).all(1)).flatten()
        if len(bad):
            raise DataError(
                f"multi-label targets are zeros and ones, but {len(bad)} rows hold something else, the first is row "
                f"{bad[0].item()}"
            )
    else:
        wide = target.reshape(len(target), -1)
        if wide.shape[1] != task.n_out:
            raise DataError(f"regression targets have {task.n_out} columns {task.names}, got {wide.shape[1]}")
        bad = torch.nonzero(~torch.isfinite(wide).all(1)).flatten()
        if len(bad):
            raise DataError(f"{len(bad)} regression targets are not finite numbers, the first in row {bad[0].item()}")
        low = {"linear": -torch.inf, "log": 0.0, "log1p": -1.0}[task.scale]
        bad = torch.nonzero(~(wide > low).all(1)).flatten()
        if len(bad):
            raise DataError(
                f"{len(bad)} targets have no logarithm, the first is {wide[bad[0]].tolist()} in row {bad[0].item()}; "
                f"scale {task.scale!r} needs numbers above {low:g}"
            )
