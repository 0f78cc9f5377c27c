"""Regression: each item has one or several numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import has_float64
from ..errors import ArgumentError, DataError, name_of, short
from ..losses import FocalLoss
from ..metrics import Metric, rmse
from .base import LossFn, Task
from .names import as_names

Scale = Literal["linear", "log", "log1p"]
FINE = 2.0**12  # deviations between zero and the mean, beyond which float32 would blur what a deviation is made of
FAR = 1e15  # numbers beyond it, or below its inverse, have squares that float32 does not hold
_OF_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss, nn.MultiLabelMarginLoss, FocalLoss)
_OF_CLASS_NUMBERS = (F.cross_entropy, F.nll_loss, F.multi_margin_loss, F.multilabel_margin_loss)
# Of each scale: from outputs to numbers, from numbers to outputs, and what numbers must be above.
_SCALES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]] = {
    "linear": (lambda outputs: outputs, lambda numbers: numbers, -torch.inf),
    "log": (torch.exp, torch.log, 0.0),
    "log1p": (lambda outputs: outputs.expm1().clamp_min(0), torch.log1p, -1.0),
}


@final
@dataclass(frozen=True, repr=False)
class Regression(Task):
    """Each item has one or several numbers: mean squared error on the scale, root mean squared error of the numbers.

    A model's outputs are deviations from the mean, `center`, as multiples of `spread`, so that a task is learnt alike
    in any unit; a loss of 1 is as good as predicting the mean. Targets, predictions and metrics keep the numbers' own
    units. A loss of the user's own gets outputs and targets in those units, too, on the `scale`.

    Args:
        names, metrics, loss_fn: see `Task`.
        scale: what is compared: the numbers themselves, their logarithms, or the logarithms of the numbers plus one.
        center, spread: of each number, on this scale; () is 0 and 1. Data learns them from its training targets where
            they are (); for a model of your own that gives numbers in the target's unit write 0 and 1.
    """

    kind: ClassVar[str] = "regression"
    noun = "target"
    predicts_numbers = True
    is_squared = True
    instead = "these are numbers: use report(), residuals() or plot_predictions()"
    scale: Scale = "linear"
    center: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise ArgumentError(f"scale must be one of {get_args(Scale)}, got {self.scale!r}")
        super().__post_init__()
        if {len(self.center), len(self.spread)} not in ({0}, {len(self.names)}):
            raise ArgumentError(
                f"center and spread have one number for each of {list(self.names)}, or none; got {self.center} and "
                f"{self.spread}"
            )
        if not all(map(math.isfinite, self.center)) or not all(0 < s < math.inf for s in self.spread):
            raise ArgumentError(f"center must be finite, spread finite and above 0: got {self.center}, {self.spread}")

    def fitted(self, target: Tensor) -> Task:
        """See `Task.fitted`.

        >>> task = regression().fitted(torch.tensor([1e9, 1e9 + 2], dtype=torch.float64))
        >>> task.center, task.spread, task.dtype
        ((1000000001.0,), (1.0,), torch.float64)
        """
        if self.center:
            return self
        x = _SCALES[self.scale][1](target.detach().cpu().double().reshape(len(target), -1)).numpy()
        far = np.exp2(np.frexp(np.abs(x).max(0))[1] - 1)  # of 1e200 not even float64 holds the square
        center, spread = far * (x / far).mean(0), far * (x / far).std(0)
        spread = np.where((x.min(0) == x.max(0)) | (spread == 0), 1.0, spread)
        return replace(self, center=tuple(center.tolist()), spread=tuple(spread.tolist()))

    def settings(self) -> dict[str, Any]:
        """See `Task.settings`; without what was not learnt, as files did not always hold it."""
        return {name: value for name, value in super().settings().items() if value != []}

    def in_units_of(self, other: Task) -> Task:
        """See `Task.in_units_of`."""
        return replace(self, center=other.center, spread=other.spread) if isinstance(other, Regression) else self

    @cached_property
    def dtype(self) -> torch.dtype:
        """What targets and predictions are held in: float64 where float32 would lose digits that matter."""
        for center, spread in zip(self.center, self.spread, strict=True):
            near = torch.tensor([center - spread, center, center + spread], dtype=torch.float64)
            largest = float(_SCALES[self.scale][0](near).abs().max())
            if abs(center) > FINE * spread or not 1 / FAR < largest < FAR:
                return torch.float64
        return torch.float32

    def default_metrics(self) -> tuple[Metric, ...]:
        return (rmse,)

    def with_loss(self, loss: LossFn) -> Task:
        """See `Task.with_loss`; losses that compare classes are refused: of one number they are 0 whatever it is."""
        if isinstance(loss, _OF_CLASSES) or loss in _OF_CLASS_NUMBERS:
            raise ArgumentError(
                f"the loss {name_of(loss)} compares classes, and this task predicts numbers ({self.summary}): leave "
                "loss= out, or give one of numbers, such as torch.nn.L1Loss(). If these are classes, say so where the "
                "data is made: task='single_label'"
            )
        return super().with_loss(loss)

    @property
    def lowest(self) -> float:
        """Targets must be above it, or they have no logarithm."""
        return _SCALES[self.scale][2]

    def compared(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and targets in one shape and unit: the one place where a unit comes into a loss."""
        # (b,) and (b, 1) are the same numbers; left alone they would be broadcast to (b, b).
        if target.ndim == logits.ndim - 1:
            target = target.unsqueeze(-1)
        elif logits.ndim == target.ndim - 1:
            logits = logits.unsqueeze(-1)
        if self.loss_fn is None:
            wanted = self.outputs_for(target)
            return logits, wanted if wanted.device == logits.device else wanted.to(logits.dtype).to(logits.device)
        logits = self._on_scale(logits)
        return logits, _SCALES[self.scale][1](target).to(logits.dtype).to(logits.device)

    def own_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(logits, target.to(logits.dtype))

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits - target.to(logits.dtype)).square().reshape(len(logits), -1).mean(1)

    def activate(self, logits: Tensor) -> Tensor:
        return _SCALES[self.scale][0](self._on_scale(logits))

    def activate_in_graph(self, logits: Tensor) -> Tensor:
        return (self._on_scale(logits).exp() - 1).clamp_min(0) if self.scale == "log1p" else self.activate(logits)

    def _on_scale(self, outputs: Tensor) -> Tensor:
        """Outputs, which count deviations, as numbers on the scale."""
        if not self.center:
            return outputs
        if self.dtype == torch.float64 and not has_float64(outputs.device):
            outputs = outputs.cpu()
        outputs = outputs.to(torch.promote_types(outputs.dtype, self.dtype))
        return outputs * _like(self.spread, outputs) + _like(self.center, outputs)

    def outputs_for(self, probs: Tensor) -> Tensor:
        """Numbers in their own units as what the model's outputs stand for.

        >>> regression(scale="log1p").outputs_for(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.6931])
        """
        probs = probs.to(torch.promote_types(probs.dtype, self.dtype))
        numbers = _SCALES[self.scale][1](probs)
        return (numbers - _like(self.center, numbers)) / _like(self.spread, numbers) if self.center else numbers

    def decode(self, probs: Tensor) -> list[Any]:
        return _rows(probs)

    def check_target(self, target: Tensor) -> Tensor:
        wide = target.reshape(len(target), -1)
        if wide.shape[1] != len(self.names):
            raise DataError(f"regression targets have {len(self.names)} columns {self.names}, got {wide.shape[1]}")
        bad = torch.nonzero(~torch.isfinite(wide).all(1)).flatten()
        if len(bad):
            raise DataError(f"{len(bad)} regression targets are not finite numbers, the first in row {int(bad[0])}")
        bad = torch.nonzero(~(wide > self.lowest).all(1)).flatten()
        if len(bad):
            raise DataError(
                f"{len(bad)} targets have no logarithm, the first is {wide[bad[0]].tolist()} in row {bad[0].item()}; "
                f"scale {self.scale!r} needs numbers above {self.lowest:g}"
            )
        return target.to(self.dtype) if self.center else target

    def soft_target(self, target: Tensor) -> Tensor:
        return target if target.is_floating_point() else target.float()

    def first_outputs(self, target: Tensor, weights: Tensor | None = None) -> Tensor | None:
        return torch.zeros(self.n_out) if self.center else None

    def same_as(self, other: Task) -> str:
        if isinstance(other, Regression) and self.scale != other.scale:
            return f"the outputs of one are on a {self.scale} scale, those of the other on a {other.scale} scale"
        return super().same_as(other)

    @property
    def summary(self) -> str:
        return f"{len(self.names)} number{'s' if len(self.names) > 1 else ''}: {short(', '.join(self.names), 80)}"

    @property
    def row_names(self) -> list[str]:
        return list(self.names)

    def row(self, label: Any, probs: Tensor) -> list[str]:
        return super().row(label, probs)[1:]

    def in_words(self, label: Any) -> str:
        return ", ".join(f"{v:g}" for v in (label if isinstance(label, tuple) else (label,)))

    def title(self, probs: Tensor, target: Tensor) -> tuple[str, bool]:
        return super().title(probs, target)[0], True

    def residuals(self, probs: Tensor, target: Tensor) -> Tensor:
        """Predicted minus actual in the targets' own units, shape (n, number of names)."""
        return probs.reshape(len(probs), -1) - target.reshape(len(target), -1).to(probs.dtype)

    def item_columns(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        return {"residual": _rows(self.residuals(probs, target))}

    def by_name(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        error, true = self.residuals(probs, target).double(), target.reshape(len(target), -1).double()
        spread = (true - true.mean(0)).square().sum(0)
        return {
            "bias": error.mean(0).tolist(),
            "mae": error.abs().mean(0).tolist(),
            "rmse": error.square().mean(0).sqrt().tolist(),
            "r2": (1 - error.square().sum(0) / spread).tolist(),
            "support": [len(true)] * len(self.names),
        }


def _like(values: tuple[float, ...], x: Tensor) -> Tensor | float:
    """One number per column of `x`, to compute with; on a GPU nothing waits for it."""
    if len(values) == 1:
        return values[0]
    return torch.tensor(values, dtype=x.dtype).to(x.device, non_blocking=True)


def _rows(values: Tensor) -> list[Any]:
    """A number per row where there is one column, else a tuple of them."""
    rows = values.reshape(len(values), -1).tolist()
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]


def regression(
    names: Sequence[str] = ("target",), loss_fn: LossFn | None = None, scale: Scale = "linear"
) -> Regression:
    """Each item has one or several numbers: mean squared error on the `scale`, root mean squared error of the numbers.

    Args:
        names: of the numbers, in the order of the model's outputs.
        loss_fn: takes (outputs, target) and gives the mean loss, instead of the squared error.
        scale: on which the model works; see `Regression`.

    >>> task = regression(["price"], scale="log")
    >>> task.decode(task.activate(torch.tensor([[0.0]])))
    [1.0]
    """
    return Regression(as_names(names, "target"), loss_fn=loss_fn, scale=scale)
