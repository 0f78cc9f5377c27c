"""2018's `fastai.metrics`, as far as `easylearn.metrics` has no better: functions of a batch's outputs and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from .core import to_np
from .metrics import Metric, accuracy, accuracy_at, f1, mean_metric

__all__ = [
    "accuracy", "accuracy_multi", "accuracy_multi_np", "accuracy_np", "accuracy_thresh", "f1", "f1_np", "fbeta",
    "fbeta_np", "precision", "precision_np", "recall", "recall_np",
]  # fmt: skip


def accuracy_thresh(thresh: float = 0.5) -> Metric:
    """`easylearn.metrics.accuracy_at` of `thresh`, for outputs of any shape, such as masks."""
    given = accuracy_at(thresh)
    share: Any = given.per_item

    def items(outputs: Tensor, targets: Tensor) -> Tensor:
        made: Tensor = share(*(t.flatten(1) if t.ndim > 2 else t for t in (outputs, targets)))
        return made

    return mean_metric(given.name, items, True)


def accuracy_np(preds: Any, targs: Any) -> Any:
    """The share of rows of `preds` whose largest number is at the class in `targs`."""
    return np.mean(np.argmax(to_np(preds), 1) == to_np(targs))


def accuracy_multi(preds: Any, targs: Any, thresh: float) -> Any:
    """The share of labels for which "above `thresh`" in `preds` agrees with `targs`."""
    return np.mean((to_np(preds) > thresh) == to_np(targs))


def fbeta_np(preds: Any, targs: Any, beta: float, thresh: float = 0.5) -> Any:
    """F-beta (`beta`) over all labels at once, of "above `thresh`" in the probabilities `preds` against `targs`."""
    right, found, true = _counts(preds, targs, thresh)
    return (1 + beta**2) * right / max(found + beta**2 * true, 1)


def precision_np(preds: Any, targs: Any, thresh: float = 0.5) -> Any:
    """Of what is above `thresh` in the probabilities `preds`, the share that `targs` confirms."""
    right, found, _ = _counts(preds, targs, thresh)
    return right / max(found, 1)


def recall_np(preds: Any, targs: Any, thresh: float = 0.5) -> Any:
    """Of what is true by `targs`, the share that is above `thresh` in the probabilities `preds`."""
    right, _, true = _counts(preds, targs, thresh)
    return right / max(true, 1)


def f1_np(preds: Any, targs: Any, thresh: float = 0.5) -> Any:
    """`fbeta_np` with beta 1, of `preds`, `targs` and `thresh`."""
    return fbeta_np(preds, targs, 1, thresh)


def fbeta(log_preds: Any, targs: Any, beta: float, thresh: float = 0.5) -> Any:
    """`fbeta_np` of log-probabilities: `log_preds`, `targs`, `beta` and `thresh`."""
    return fbeta_np(np.exp(to_np(log_preds)), targs, beta, thresh)


def precision(log_preds: Any, targs: Any, thresh: float = 0.5) -> Any:
    """`precision_np` of log-probabilities: `log_preds`, `targs` and `thresh`."""
    return precision_np(np.exp(to_np(log_preds)), targs, thresh)


def recall(log_preds: Any, targs: Any, thresh: float = 0.5) -> Any:
    """`recall_np` of log-probabilities: `log_preds`, `targs` and `thresh`."""
    return recall_np(np.exp(to_np(log_preds)), targs, thresh)


accuracy_multi_np = accuracy_multi


def _counts(preds: Any, targs: Any, thresh: float) -> tuple[int, int, int]:
    """How many are found and true, found, and true; of two classes with one number per item the second is meant."""
    found, true = to_np(preds) > thresh, to_np(targs) > 0.5
    if true.ndim < found.ndim:
        found = to_np(preds).argmax(1) > 0
    return int((found & true).sum()), int(found.sum()), int(true.sum())
