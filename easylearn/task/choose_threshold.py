"""choose_threshold: the probability from which a label counts as given, by what a metric says of predictions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from torch import Tensor

from ..errors import ArgumentError, DataError
from ..metrics import Metric
from ..thresholds import Threshold
from .predictions import Predictions

COARSE, FINE = 64, 32  # thresholds that are tried at first, and then between the neighbours of the best
OF_A_LABEL, SWEEPS = 40, 3  # the same for one label among others, and how often each label gets its turn


def choose_threshold(predictions: Predictions, metric: Metric, *, per_label: bool = False) -> Threshold:
    """The threshold at which a metric of several labels is best.

    It is chosen on the very items that it is given: what the metric says of them afterwards is no estimate of how good
    it will be, least of all with one threshold for each label. Take a validation split, and tell the score of a test
    split that had no part in it.

    Args:
        predictions: of a split with targets, as `learn.predict()` or `learn.tta()` gives them.
        metric: one that was made without a threshold of its own, such as `f_beta(2)` or `accuracy_at()`.
        per_label: one for each label, changed in turn as long as the metric of all gains; a label that is rare in the
            split gets a threshold that is mostly chance. It starts at the one number, so it is no worse on the split.

    Returns:
        A number, or a tuple of one for each label. Of equally good ones it is that next to 0.5. It is put in use by
        `learn.task = learn.task.with_threshold(found)`: in labels, metrics, reports, and files of the model.

    Raises:
        ArgumentError: the task is not one of several labels, or the metric knows no threshold.
        DataError: the items have no targets.

    >>> import torch
    >>> from easylearn.metrics import f_beta
    >>> from easylearn.task import multi_label
    >>> probs, targets = torch.tensor([[0.2, 0.8], [0.3, 0.4], [0.1, 0.6]]), torch.tensor([[0, 1], [1, 0], [0, 1]])
    >>> said = Predictions.of(multi_label(["haze", "road"]), probs, ["a", "b", "c"], targets)
    >>> round(choose_threshold(said, f_beta(1, "macro")), 2)
    0.25
    >>> [round(t, 2) for t in choose_threshold(said, f_beta(1, "macro"), per_label=True)]
    [0.25, 0.5]
    """
    probs, targets, at = _checked(predictions, metric)
    sign = 1.0 if metric.higher_is_better else -1.0

    def score(threshold: Threshold) -> float:
        return sign * at(threshold)(probs, targets)

    one = _best(score, probs.flatten(), 0.5, COARSE, FINE)
    if not per_label:
        return one
    chosen, reached = [one] * probs.shape[1], score(one)

    def with_one(j: int, threshold: float) -> float:
        return score((*chosen[:j], threshold, *chosen[j + 1 :]))

    for _ in range(SWEEPS):
        before = reached
        for j in range(len(chosen)):
            chosen[j] = _best(partial(with_one, j), probs[:, j], chosen[j], OF_A_LABEL, 0)
        reached = score(tuple(chosen))
        if not reached > before:
            break
    return tuple(chosen)


def _checked(predictions: Predictions, metric: Metric) -> tuple[Tensor, Tensor, Callable[[Threshold], Metric]]:
    """Probabilities, targets, and the metric at a threshold."""
    if not isinstance(predictions, Predictions):
        got = type(predictions).__name__
        raise ArgumentError(f"choose_threshold takes what learn.predict() or learn.tta() gave for a split, got {got}")
    if not predictions.task.is_multi:
        kind = predictions.task.kind
        raise ArgumentError(f"a threshold is for tasks of several labels, these are predictions of a {kind} task")
    if not isinstance(metric, Metric) or metric.at is None:
        name = metric.name if isinstance(metric, Metric) else repr(metric)[:60]
        raise ArgumentError(
            f"choose_threshold needs a metric that counts at a threshold and was made without one of its own, such as "
            f"f_beta(2), precision(), recall() or accuracy_at(); got {name}"
        )
    if predictions.targets is None:
        raise DataError("these predictions have no targets to choose a threshold by: take those of a split with labels")
    if not len(predictions) or not predictions.probs.isfinite().all():
        raise DataError("a threshold is chosen on finite probabilities of at least one item")
    return predictions.probs, predictions.targets, metric.at


def _best(score: Callable[[float], float], probs: Tensor, start: float, coarse: int, fine: int) -> float:
    """The threshold with the highest score, between two of the `probs`; `start` where none is better."""
    steps = np.unique(probs.double().numpy())
    between = np.concatenate([[0.0], (steps[1:] + steps[:-1]) / 2, (steps[-1:] + 1) / 2]).tolist()
    tried = {start: score(start)}

    def attempt(low: int, high: int, n: int) -> int:
        places = map(int, np.unique(np.linspace(low, high, min(n, high - low + 1)).round()))
        found: dict[int, float] = {i: score(between[i]) for i in places}
        tried.update({between[i]: value for i, value in found.items()})
        return max(found, key=lambda i: found[i])

    middle = attempt(0, len(between) - 1, coarse)
    if fine and len(between) > coarse:
        reach = len(between) // coarse + 1
        attempt(max(0, middle - reach), min(len(between) - 1, middle + reach), fine)
    return max(tried, key=lambda t: (tried[t], t == start, -abs(t - 0.5)))
