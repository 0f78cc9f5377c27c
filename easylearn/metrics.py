"""Metrics: functions of all predictions and all targets of a split, with a name and a direction.

A metric is never averaged over batches: the mean of the batches' F1 or AUC is not that of the data. One that is made
from a mean over items (`per_item`) is added up; for others all predictions are kept. All agree with scikit-learn's.

Shapes: single-label outputs (n, c) with class numbers (n,); multi-label outputs (n, c) with zeros and ones (n, c);
regression outputs and targets (n,), (n, 1) or (n, k). A metric that is undefined for the data at hand (one class only,
no items, NaN among the outputs) is NaN and warns: training does not end because of a number that it reports.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ArgumentError, EasyLearnWarning, check_takes_two, did_you_mean, name_of
from .quiet import no_warnings
from .thresholds import Threshold, as_threshold, reaches

Average = Literal["auto", "binary", "macro", "micro", "weighted", "samples"]
Needs = Literal["probs", "logits", "either"]
MetricFn = Callable[[Tensor, Tensor], float]
ItemFn = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    Args:
        name: how tables and `save_best=` call it.
        fn: takes the pooled outputs and targets, both on the CPU, and gives a number.
        higher_is_better: the direction; None where it is not known.
        needs: what `fn` and `per_item` want: "probs" (of numbers: in their own units), "logits", or "either" where
            only the order of the classes counts, which spares a language model the probabilities of all its words.
        per_item: where the metric is made from a mean over items: gives each item's share of it, shape (n,) or (n, k),
            from outputs and targets of some items. A language model reports such metrics alone.
        finish: what is done to that mean, of shape () or (k,), at last; None takes the mean over what is left.
        at: gives the same metric at the task's threshold; None where none counts, or one of the metric's own.

    >>> accuracy(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.tensor([0, 0]))
    0.5
    """

    name: str
    fn: MetricFn
    higher_is_better: bool | None
    needs: Needs = "probs"
    per_item: ItemFn | None = None
    finish: Callable[[Tensor], float | Tensor] | None = None
    at: Callable[[Threshold], Metric] | None = None

    def __post_init__(self) -> None:
        if self.needs not in get_args(Needs):
            hint = did_you_mean(str(self.needs), get_args(Needs))
            raise ArgumentError(f"the metric {self.name!r} needs one of {get_args(Needs)}, got {self.needs!r}. {hint}")
        if not isinstance(self.name, str) or not self.name or self.higher_is_better not in (True, False, None):
            raise ArgumentError(f"a metric has a name, and True, False or None for its direction, got {self!r:.100}")

    def of_mean(self, mean: Tensor) -> float:
        """The metric, from the `mean` of what `per_item` gave for all items."""
        value = float(mean.mean() if self.finish is None else self.finish(mean))
        return _undefined(self.name, "there are NaN among the outputs") if math.isnan(value) else value

    def __call__(self, outputs: Tensor | npt.NDArray[Any], targets: Tensor | npt.NDArray[Any]) -> float:
        """The metric of these outputs (probabilities or logits, see `needs`) and targets."""
        value: Any = self.fn(torch.as_tensor(outputs).detach().cpu(), torch.as_tensor(targets).detach().cpu())
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ArgumentError(
                f"the metric {self.name!r} must give one number, got {type(value).__name__}. "
                "Take the mean, or call the function that makes the metric"
            ) from error


def mean_metric(
    name: str,
    per_item: ItemFn,
    higher_is_better: bool | None,
    needs: Needs = "probs",
    finish: Callable[[Tensor], float | Tensor] | None = None,
) -> Metric:
    """A metric that is made from the mean of what each item gives; it is added up batch by batch.

    Args:
        name, per_item, higher_is_better, needs, finish: see `Metric`.

    >>> sure = mean_metric("sure", lambda probs, targets: probs.max(1).values, True)
    >>> sure(torch.tensor([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([0, 1]))
    0.625
    """
    fn = functools.partial(_pooled, per_item, finish)
    return Metric(name, functools.partial(_guarded, name, fn), higher_is_better, needs, per_item, finish)


def as_metric(m: Metric | Callable[..., Any]) -> Metric:
    """A metric as it is; a plain function of (outputs, targets) as a metric whose direction is not known.

    Args:
        m: a `Metric`, or a function that takes pooled probabilities and targets, after which it is named.

    >>> def mean_confidence(probs, targets):
    ...     return probs.max(1).values.mean()
    >>> as_metric(mean_confidence).name
    'mean_confidence'
    """
    if isinstance(m, Metric):
        return m
    if isinstance(m, type):
        raise ArgumentError(f"a metric is made before it is given: write {m.__name__}(), with brackets")
    if not callable(m):
        known = [name for name, value in globals().items() if isinstance(value, Metric)]
        hint = f" {did_you_mean(m, known)}" if isinstance(m, str) else ""
        hint = f" Write {m}, without quotes" if m in known else hint
        raise ArgumentError(f"a metric is a Metric or a function of (outputs, targets), got {m!r}.{hint}")
    inner: Any = m
    if m in (mean_metric, accuracy_at, top_k, f_beta, precision, recall, quadratic_kappa):
        raise ArgumentError(f"{inner.__name__} makes a metric: write {inner.__name__}(...)")
    while isinstance(inner, functools.partial):
        inner = inner.func
    if str(getattr(inner, "__module__", "")).startswith("sklearn."):
        raise ArgumentError(
            f"scikit-learn's {inner.__name__} takes (true, predicted), and a metric here is called with probabilities, "
            f"shape (n, classes), and targets, shape (n,): give a function such as def mine(probs, targets): return "
            f"{inner.__name__}(targets, probs.argmax(1)), without argmax for numbers"
        )
    check_takes_two(m, "a metric", "(outputs, targets)")
    return Metric(name_of(inner), m, None)


def _undefined(name: str, why: str) -> float:
    # The stack level differs from caller to caller; the name in the text is what identifies the metric.
    warnings.warn(f"{name} is undefined: {why}", EasyLearnWarning, stacklevel=4)
    return math.nan


def _guarded(name: str, fn: MetricFn, outputs: Tensor, targets: Tensor) -> float:
    """NaN for no items and for NaN outputs, which argmax and scikit-learn would hide or refuse."""
    if len(outputs) != len(targets):
        raise ArgumentError(f"{name} needs one output row per target, got {len(outputs)} and {len(targets)}")
    if not targets.numel():
        return _undefined(name, "there are no items")
    if outputs.is_floating_point():
        # Half precision is too coarse for logarithms and sums, and scikit-learn does not know bfloat16.
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
        if torch.isnan(outputs).any():
            return _undefined(name, f"{int(torch.isnan(outputs).sum())} of {outputs.numel()} outputs are NaN")
    return fn(outputs, targets)


def _by(name: str, fn: Callable[..., float], *how: Any, higher_is_better: bool = True) -> Metric:
    """A metric by a function of (name, *how, outputs, targets)."""
    # Partials of functions of this module, and no closures: a task can be sent to a spawned worker.
    return Metric(name, functools.partial(_guarded, name, functools.partial(fn, name, *how)), higher_is_better)


def check_suited(metrics: Sequence[Metric], probs: Tensor, logits: Tensor, targets: Tensor) -> None:
    """Try `metrics` on outputs and `targets` of a few items; an ArgumentError names one for another kind of task."""
    for m in metrics:
        if not isinstance(m.fn, functools.partial) or m.fn.func is not _guarded:
            continue  # a user's own may do anything
        try:
            with no_warnings():
                m(logits if m.needs == "logits" else probs, targets)
        except ArgumentError:
            raise
        except (ValueError, TypeError, RuntimeError, IndexError):
            continue  # of two items not everything can be asked


def _pooled(per_item: ItemFn, finish: Callable[[Tensor], Any] | None, outputs: Tensor, targets: Tensor) -> float:
    values = per_item(outputs, targets).double()
    return float(values.mean() if finish is None else finish(values.mean(0)))


def _shapes(outputs: Tensor, targets: Tensor) -> str:
    return f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"


def _need_single(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Class numbers of a single-label task, checked."""
    if outputs.ndim != targets.ndim + 1 or outputs.shape[:-1] != targets.shape:
        multi = " For several labels per item use accuracy_at or f_beta." if outputs.shape == targets.shape else ""
        raise ArgumentError(
            f"{name} needs outputs (n, classes) with class numbers (n,), got {_shapes(outputs, targets)}.{multi}"
        )
    return targets.long()


def _need_multi(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Zeros and ones of a multi-label task, checked."""
    if outputs.ndim != 2 or outputs.shape != targets.shape:
        raise ArgumentError(f"{name} needs both in one shape (n, labels), got {_shapes(outputs, targets)}")
    return targets > 0.5


def _columns(name: str, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Regression outputs and targets as (n, k) in double precision. (n, 1) meets (n,) without broadcasting."""
    o, t = outputs.reshape(len(outputs), -1).double(), targets.reshape(len(targets), -1).double()
    if o.shape != t.shape:
        raise ArgumentError(f"{name} needs as many outputs as targets per item, got {_shapes(outputs, targets)}")
    return o, t


# Of each item. NaN outputs give NaN, which argmax would hide.


def item_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Minus the logarithm of the probability that each target was given, shape (n,).

    Args:
        logits: shape (n, c).
        targets: class numbers, shape (n,).
    """
    labels = _need_single("perplexity", logits, targets)
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")


def _item_is(name: str, wanted: bool, outputs: Tensor, targets: Tensor) -> Tensor:
    labels = _need_single(name, outputs, targets)
    best, chosen = outputs.max(-1)
    return ((chosen == labels) == wanted).float().masked_fill(best.isnan(), math.nan)


def _item_in_top(name: str, k: int, outputs: Tensor, targets: Tensor) -> Tensor:
    labels = _need_single(name, outputs, targets)
    best, chosen = outputs.topk(min(k, outputs.shape[-1]), dim=-1)
    return (chosen == labels.unsqueeze(-1)).any(-1).float().masked_fill(best.isnan().any(-1), math.nan)


def _item_log_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    eps = torch.finfo(outputs.dtype).eps
    probs = outputs.double().clamp(eps, 1 - eps)
    if outputs.ndim == targets.ndim == 2:
        on = _need_multi("log_loss", outputs, targets)
        return F.binary_cross_entropy(probs, on.double(), reduction="none").mean(-1)
    labels = _need_single("log_loss", outputs, targets).flatten()
    return F.nll_loss(probs.log().flatten(0, -2), labels, reduction="none")


def _item_right_at(threshold: Threshold, outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.ndim == 1:
        outputs, targets = outputs.unsqueeze(1), targets.unsqueeze(-1) if targets.ndim == 1 else targets
    on = _need_multi("accuracy_at", outputs, targets)
    return (reaches(outputs, threshold) == on).float().masked_fill(outputs.isnan(), math.nan)


# Numbers: several columns are averaged with equal weight, as scikit-learn does


def _item_error(name: str, power: int, outputs: Tensor, targets: Tensor) -> Tensor:
    o, t = _columns(name, outputs, targets)
    return (o - t).abs() ** power


def _mean_of_roots(squares: Tensor) -> Tensor:
    return squares.sqrt().mean()


def _exp(mean: Tensor) -> float:
    return math.inf if mean > 709 else math.exp(mean)  # a model that fell apart is no OverflowError


def _of_classes(name: str, function: str, outputs: Tensor, targets: Tensor) -> float:
    """What a function of scikit-learn says of true and chosen class numbers."""
    from sklearn import metrics as sk

    labels, chosen = _need_single(name, outputs, targets).flatten(), outputs.argmax(-1).flatten()
    with no_warnings():  # of classes that are predicted and do not occur
        return float(vars(sk)[function](labels.numpy(), chosen.numpy()))


def _of_numbers(name: str, function: str, outputs: Tensor, targets: Tensor) -> float:
    """What a function of scikit-learn says of true and predicted numbers."""
    from sklearn import metrics as sk

    o, t = _columns(name, outputs, targets)
    if len(t) < 2:
        return _undefined(name, "it needs at least two items")
    if not o.isfinite().all():
        return _undefined(name, "there are infinite outputs")
    return float(vars(sk)[function](t.numpy(), o.numpy()))


def _kappa(name: str, weights: Literal["quadratic"] | None, outputs: Tensor, targets: Tensor) -> float:
    from sklearn.metrics import cohen_kappa_score

    labels, chosen = _need_single(name, outputs, targets).flatten(), outputs.argmax(-1).flatten()
    if bool((labels == labels[0]).all()) and bool((chosen == labels[0]).all()):
        return _undefined(name, f"every target and every prediction is class {int(labels[0])}")
    # The classes are handed in: quadratic weights depend on how far apart classes are, also across unused ones.
    classes = np.arange(outputs.shape[-1])
    return float(cohen_kappa_score(labels.numpy(), chosen.numpy(), labels=classes, weights=weights))


def _per_class(name: str, outputs: Tensor, targets: Tensor) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """(is it the class, its score) for each label, for each class against the rest, or for class 1 of two."""
    if outputs.ndim == targets.ndim == 2:
        on = _need_multi(name, outputs, targets)
    elif outputs.ndim == 1 and targets.ndim == 1:
        on, outputs = (targets > 0.5).unsqueeze(1), outputs.unsqueeze(1)
    else:
        on = F.one_hot(_need_single(name, outputs, targets), outputs.shape[-1]).bool()
        if outputs.shape[-1] == 2:
            on, outputs = on[:, 1:], outputs[:, 1:]
    return list(zip(on.T.numpy(), outputs.T.numpy(), strict=True))


def _ranking(name: str, one_sided: bool, outputs: Tensor, targets: Tensor) -> float:
    from sklearn import metrics as sk

    # One-sided: it needs no negative items.
    fn = sk.average_precision_score if one_sided else sk.roc_auc_score
    pairs = _per_class(name, outputs, targets)
    usable = [(on, s) for on, s in pairs if on.any() and (one_sided or not on.all())]
    if not usable:
        return _undefined(name, "the targets hold one class only, so there is nothing to rank")
    if len(usable) < len(pairs):
        warnings.warn(
            f"{name} is the mean over {len(usable)} of {len(pairs)} classes; for the others it is undefined",
            EasyLearnWarning,
            stacklevel=4,
        )
    return float(np.mean([fn(on, s) for on, s in usable]))


def _f_score(
    name: str, what: int, beta: float, average: Average, threshold: Threshold, outputs: Tensor, targets: Tensor
) -> float:
    """Precision, recall or F, the first, second or third (`what`) of what scikit-learn gives."""
    from sklearn.metrics import precision_recall_fscore_support

    multi = outputs.ndim == targets.ndim == 2
    n_classes = outputs.shape[-1]
    if multi:
        truth, chosen = _need_multi(name, outputs, targets).long(), reaches(outputs, threshold).long()
        two_sided = n_classes == 1
        if two_sided:
            truth, chosen = truth.flatten(), chosen.flatten()
    else:
        truth, chosen = _need_single(name, outputs, targets).flatten(), outputs.argmax(-1).flatten()
        two_sided = n_classes == 2
    how: str = average
    if average == "auto":
        how = "binary" if two_sided else "samples" if multi else "macro"
    if (how == "binary" and not two_sided) or (how == "samples" and not (multi and n_classes > 1)):
        raise ArgumentError(
            f"average={average!r} does not fit {_shapes(outputs, targets)}: 'binary' is for two classes, 'samples' for "
            "several labels per item. Use 'macro', 'micro', 'weighted' or 'auto'"
        )
    found = precision_recall_fscore_support(truth.numpy(), chosen.numpy(), beta=beta, average=how, zero_division=0)
    return float(found[what])


def _percent(name: str, are_logs: bool, outputs: Tensor, targets: Tensor) -> float:
    o, t = _columns(name, outputs, targets)
    o, t = (o.exp(), t.exp()) if are_logs else (o, t)
    counted = t != 0
    if not counted.any(0).all():
        return _undefined(name, "every target is zero, and a share of zero has no meaning")
    share = torch.where(counted, (t - o) / t, 0.0)
    return (share.square().sum(0) / counted.sum(0)).sqrt().mean().item()


# Public metrics
accuracy = mean_metric("accuracy", functools.partial(_item_is, "accuracy", True), True, "either")
"""Single label: the share of items whose most probable class is the right one."""
error_rate = mean_metric("error_rate", functools.partial(_item_is, "error_rate", False), False, "either")
"""Single label: one minus the accuracy."""
balanced_accuracy = _by("balanced_accuracy", _of_classes, "balanced_accuracy_score")
"""Single label: the mean recall over the classes that occur in the targets."""
matthews = _by("matthews", _of_classes, "matthews_corrcoef")
"""Single label: the correlation of Matthews, from -1 to 1."""
cohen_kappa = _by("cohen_kappa", _kappa, None)
"""Single label: the agreement beyond chance."""
log_loss = mean_metric("log_loss", _item_log_loss, False)
"""Single or multi label: minus the mean logarithm of the probability given to the truth."""
roc_auc = _by("roc_auc", _ranking, False)
"""Area under the ROC curve: of class 1 of two, else the mean over the classes (each against the rest) or labels."""
average_precision = _by("average_precision", _ranking, True)
"""Average precision: of class 1 of two, else the mean over the classes (each against the rest) or labels."""
perplexity = mean_metric("perplexity", item_cross_entropy, False, "logits", _exp)
"""The exponential of the mean cross-entropy, from logits."""
mae = mean_metric("mae", functools.partial(_item_error, "mae", 1), False)
"""Regression: the mean absolute error."""
mse = mean_metric("mse", functools.partial(_item_error, "mse", 2), False)
"""Regression: the mean squared error."""
rmse = mean_metric("rmse", functools.partial(_item_error, "rmse", 2), False, finish=_mean_of_roots)
"""Regression: the root of the mean squared error; with several columns the mean of their roots."""
rmspe = _by("rmspe", _percent, False, higher_is_better=False)
"""Regression: the root of the mean squared error as a share of the target, over targets that are not zero."""
exp_rmspe = _by("exp_rmspe", _percent, True, higher_is_better=False)
"""Regression on logarithms: `rmspe` of the exponentials of outputs and targets."""
r2 = _by("r2", _of_numbers, "r2_score")
"""Regression: the coefficient of determination, 1 at best."""
explained_variance = _by("explained_variance", _of_numbers, "explained_variance_score")
"""Regression: as `r2`, but a constant error is not counted."""


def _at(threshold: Threshold) -> str:
    return f"_at_{threshold:g}" if isinstance(threshold, float) else "_at_thresholds"


def accuracy_at(threshold: Threshold | None = None) -> Metric:
    """Multi-label: the share of all (item, label) pairs that are right at the threshold.

    Args:
        threshold: from which probability a label counts as given, or one for each label; None is the task's, or 0.5.

    >>> accuracy_at(0.5)(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.tensor([[1, 0], [1, 1]]))
    0.75
    """
    value = as_threshold(0.5 if threshold is None else threshold)
    made = mean_metric("accuracy" + _at(value), functools.partial(_item_right_at, value), True)
    return replace(made, at=_accuracy_at_tasks) if threshold is None else made


def _accuracy_at_tasks(threshold: Threshold) -> Metric:
    return replace(accuracy_at(threshold), at=_accuracy_at_tasks)


def top_k(k: int) -> Metric:
    """Single label: the share of items whose class is among the `k` most probable.

    >>> top_k(2)(torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([1]))
    1.0
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ArgumentError(f"k must be a whole number of at least 1, got {k!r}")
    name = f"top_{k}_accuracy"
    return mean_metric(name, functools.partial(_item_in_top, name, k), True, "either")


def f_beta(beta: float, average: Average = "auto", threshold: Threshold | None = None) -> Metric:
    """The F score: the weighted harmonic mean of precision and recall. Where it is 0/0 it counts as 0.

    Args:
        beta: how many times recall weighs as much as precision; above 0.
        average: over the classes, as in scikit-learn; "auto" is "binary" (class 1) with two classes, "samples" for
            several labels per item, "macro" otherwise.
        threshold: multi-label: as in `accuracy_at`; None is that of the task.

    >>> f_beta(2)(torch.tensor([[0.9, 0.6], [0.2, 0.7]]), torch.tensor([[1, 1], [0, 1]]))
    1.0
    """
    if not (beta > 0 and math.isfinite(beta)):
        raise ArgumentError(f"beta must be above 0, got {beta}")
    return _f_metric(f"f{beta:g}", 2, float(beta), average, threshold)


def precision(average: Average = "auto", threshold: Threshold | None = None) -> Metric:
    """The share of what was predicted that is right. Arguments as in `f_beta`."""
    return _f_metric("precision", 0, 1.0, average, threshold)


def recall(average: Average = "auto", threshold: Threshold | None = None) -> Metric:
    """The share of what is there that was predicted. Arguments as in `f_beta`."""
    return _f_metric("recall", 1, 1.0, average, threshold)


def quadratic_kappa() -> Metric:
    """Single label with ordered classes: Cohen's kappa where a mistake weighs the square of its distance."""
    return _by("quadratic_kappa", _kappa, "quadratic")


def _f_metric(name: str, what: int, beta: float, average: Average, threshold: Threshold | None) -> Metric:
    known = get_args(Average)
    if average not in known:
        raise ArgumentError(f"average must be one of {known}, got {average!r}. {did_you_mean(str(average), known)}")
    # The name tells apart whatever differs from the defaults, so that two of a kind make two columns.
    full = name + (f"_{average}" if average != "auto" else "")
    if threshold is None:
        return _f_at_tasks(full, what, beta, average, 0.5)
    value = as_threshold(threshold)
    return _by(full + _at(value), _f_score, what, beta, average, value)


def _f_at_tasks(full: str, what: int, beta: float, average: Average, threshold: Threshold) -> Metric:
    made = _by(full, _f_score, what, beta, average, threshold)
    return replace(made, at=functools.partial(_f_at_tasks, full, what, beta, average))


f1 = f_beta(1.0)
"""The harmonic mean of precision and recall, see `f_beta`."""
f2 = f_beta(2.0)
"""As `f1`, with recall weighing twice as much, see `f_beta`."""
