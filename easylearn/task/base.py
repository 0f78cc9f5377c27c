"""Task: what is predicted. It owns the loss, the activation, the decoding, the metrics and what is said of mistakes.

Heads return logits; only the Task turns them into probabilities, so a softmax can never meet a sigmoid.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import (
    ArgumentError,
    DataError,
    EasyLearnError,
    StateError,
    WeightsError,
    check_takes_two,
    did_you_mean,
    name_of,
    short,
)
from ..metrics import Metric
from .accumulate import Accumulator, Means, Pool
from .names import as_metrics, as_names

LossFn = Callable[[Tensor, Tensor], Tensor]
_KINDS: dict[str, type[Task]] = {}


@dataclass(frozen=True, repr=False)
class Task(ABC):
    """One kind of prediction, over one list of classes or of target names.

    Make one with `single_label`, `multi_label`, `regression`, `ranking` or `next_token`. A kind of your own is a
    subclass that names its `kind` and fills in the abstract methods; `ExclusiveTask` has most of them for classes, and
    an example. Its settings are fields of a frozen dataclass with defaults (words, numbers, tuples of numbers); they
    are written to files and read again by themselves.

    Args:
        names: the classes, the names of the predicted numbers, or the tokens of the vocabulary.
        metrics: what is reported after each epoch; None takes the usual ones of the kind.
        loss_fn: takes (logits, target) and gives the mean loss; None means the task's own.

    Attributes:
        kind: the word for it in files and messages.
        noun: what one of the names is.
        is_exclusive: each item has exactly one of the classes.
        is_multi: each item has any number of the classes.
        predicts_numbers: the names are of numbers, and there are no classes.
        of_pixels: targets are maps of the images' size, (h, w) or (c, h, w).
        is_ranking: each item wants some of many names, and is given a short list of them.
        is_squared: the task's own loss is the mean of the squared differences of what `compared` gives.
        is_streamed: predictions are too many to be kept: one number per token and word of the vocabulary.
        instead: what to look at where an item has not exactly one class.
        lowest: targets must be above it.
        prediction, predictions: the classes of what is said of an item and of several; None is the usual ones.
        may_have_own_loss: a model with a method `loss(inputs, target)` is trained on that.
        sorts_outputs: what is predicted of an item has an order that the last bits of numbers may change.
    """

    kind: ClassVar[str]
    noun: ClassVar[str] = "class"
    is_exclusive: ClassVar[bool] = False
    is_multi: ClassVar[bool] = False
    predicts_numbers: ClassVar[bool] = False
    of_pixels: ClassVar[bool] = False
    is_ranking: ClassVar[bool] = False
    is_squared: ClassVar[bool] = False
    is_streamed: ClassVar[bool] = False
    instead: ClassVar[str] = "they have none here: use top_losses()"
    prediction: ClassVar[type[Any] | None] = None
    predictions: ClassVar[type[Any] | None] = None
    may_have_own_loss: ClassVar[bool] = False
    sorts_outputs: ClassVar[bool] = False

    names: tuple[str, ...]
    metrics: tuple[Metric, ...] = None  # type: ignore[assignment]  # filled in when it is made
    loss_fn: LossFn | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        kind = vars(cls).get("kind")
        if kind is None:
            if getattr(cls, "kind", None) is not None:
                raise ArgumentError(f"{cls.__name__}: a kind of task is final; give yours a `kind` of its own")
            return
        known = _KINDS.setdefault(kind, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ArgumentError(f"{cls.__name__}: {known.__name__} is the {kind!r} task already; choose another `kind`")
        _KINDS[kind] = cls

    def __post_init__(self) -> None:
        metrics = self.default_metrics() if self.metrics is None else self.metrics
        object.__setattr__(self, "names", as_names(self.names, self.noun, self.is_streamed))
        object.__setattr__(self, "metrics", as_metrics(metrics))

    # -- what a kind says ----------------------------------------------------------------------------------

    @abstractmethod
    def default_metrics(self) -> tuple[Metric, ...]:
        """What is reported where nobody says otherwise."""

    @abstractmethod
    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The task's own loss of each item, (n,), with gradients; `logits` and `target` as `compared` gives them."""

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """`logits`, shape (..., n_out), to probabilities or to numbers in the target's own units, (..., len(names))."""

    @abstractmethod
    def decode(self, probs: Tensor) -> list[Any]:
        """One label per row of `probs`, (n, len(names)): a class name or a number, or a tuple of several."""

    @abstractmethod
    def check_target(self, target: Tensor) -> Tensor:
        """The `target` of some items, as somebody gives it, as the loss takes it.

        Raises:
            DataError: its shape or a value cannot belong to the task; the message names the row.
        """

    # -- names and outputs ---------------------------------------------------------------------------------

    @property
    def n_out(self) -> int:
        """How many numbers the model gives for one item."""
        return len(self.names)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities; empty for regression."""
        return () if self.predicts_numbers else self.names

    @property
    def lowest(self) -> float:
        """Targets must be above it."""
        return -math.inf

    def column(self, target: str | int) -> int:
        """The column of the probabilities that a class, or a predicted number, has: `target` is its name or number.

        Raises:
            ArgumentError: there is no such one.
        """
        if isinstance(target, str):
            if target not in self.names:
                raise ArgumentError(f"{target!r} is not predicted here. {did_you_mean(target, self.names)}")
            return self.names.index(target)
        if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < len(self.names):
            raise ArgumentError(f"target must be a name or a number from 0 to {len(self.names) - 1}, got {target!r}")
        return target

    def index(self, probs: Tensor) -> int | tuple[int, ...] | None:
        """The number of the class that one item's `probs` predict, or those of its labels; None without classes."""
        return None

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a model's outputs of this `shape` for an item are such; a kind of one's own may want anything."""
        known = (self.is_exclusive or self.is_multi or self.predicts_numbers) and not self.is_streamed
        return not known or shape == (self.n_out,) or (shape == () and self.n_out == 1)

    def averaged(self, outputs: Sequence[Tensor], probs: Tensor) -> Tensor:
        """What several views say together: by a model's `outputs`, one of each view, and their `probs`, (v, n, ...)."""
        return probs[0] if len(probs) == 1 else probs.mean(0)

    def alike(self, targets: Sequence[Tensor]) -> Sequence[Tensor]:
        """The `targets` of several splits, (n, ...) each, in one shape beside their items."""
        return targets

    def in_table(self, probs: Tensor) -> Tensor:
        """What tables show of `probs`, (n, ...): a number for each of the names, (n, len(names))."""
        return probs.reshape(len(probs), -1)

    def decode_target(self, target: Tensor) -> list[Any]:
        """One label per row of a `target`, as `decode` gives them."""
        return self.decode(target)

    def activate_in_graph(self, logits: Tensor) -> Tensor:
        """`logits` to probabilities as `activate` gives them, by operations that files for other runtimes know."""
        return self.activate(logits)

    def outputs_for(self, probs: Tensor) -> Tensor:
        """What a model would have given for these `probs` or numbers, (..., len(names)): the inverse of `activate`.

        Raises:
            StateError: this kind of task does not say.
        """
        raise StateError(
            f"a file for another runtime gives probabilities, and a {self.kind} task has no `outputs_for` that turns "
            "them back into what its loss compares, so what quantizing or pruning costs cannot be measured"
        )

    def difference(self, found: Tensor, wanted: Tensor) -> float:
        """The largest difference between what was `found` and what is `wanted`, as a share of what is larger than 1."""
        if self.predicts_numbers:  # whose unit may be anything
            found, wanted = (self.outputs_for(x) for x in (found, wanted))
        return float(((found - wanted).abs() / wanted.abs().clamp_min(1)).max())

    # -- loss and metrics ----------------------------------------------------------------------------------

    def fitted(self, target: Tensor) -> Task:
        """The same task with what it learns of the training items' `target`, where it has not learnt it already."""
        return self

    def in_units_of(self, other: Task) -> Task:
        """The same task with outputs that mean what those of the `other` do, whose weights a model has got."""
        return self

    def first_outputs(self, target: Tensor, weights: Tensor | None = None) -> Tensor | None:
        """The outputs, (n_out,), of a model that knows the training targets, and nothing of any item.

        Args:
            target: of the training items, as the loss takes it.
            weights: how often each item is drawn, (n,), float64 with a mean of 1; None is equally often.

        Returns:
            The outputs; None where the kind of task does not say.
        """
        return None

    def outputs_of(self, counts: Tensor) -> Tensor | None:
        """The same of how many items want each name, where targets of all would be too many to be held.

        Args:
            counts: of items, (n_out,).

        Returns:
            The outputs; None where the kind of task needs the targets.
        """
        return None

    def compared(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """`logits` and `target`, as `loss` gets them, in the shapes and on the scale in which a loss compares them."""
        return logits, target

    def own_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The task's own mean loss of `logits` and `target`, as `compared` gives them."""
        return self.own_item_losses(logits, target).mean()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar with gradients.

        Args:
            logits: the model's output, shape (b, n_out); (b, t, n_out) for next-token. Several rows for each item, one
                after the other, are those of a model's members: the loss is the mean of theirs.
            target: class numbers (b,) or shares of classes (b, n_out) for single-label; token numbers (b, t) for
                next-token; else (b, n_out), for one number also (b,).

        Raises:
            ArgumentError: a loss of the user's own gave something else than one number.
        """
        times, beside = divmod(len(logits), max(1, len(target)))
        if times > 1 and not beside:
            target = target.repeat_interleave(times, 0)
        device, dtype = logits.device, logits.dtype
        logits, target = self.compared(logits, target)
        if self.loss_fn is None:
            return self.own_loss(logits, target)
        loss = self._given_loss(self.loss_fn, logits, target)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ArgumentError(
                f"the loss {name_of(self.loss_fn)} must give one number, the mean of the batch, as a tensor; it gave "
                f"{shape}. Take the mean of it (torch's losses: reduction='mean')"
            )
        return loss if loss.device == device else loss.to(dtype).to(device)

    def _given_loss(self, loss_fn: LossFn, logits: Tensor, target: Tensor) -> Any:
        """What a loss gives; where one of torch's refuses the tensors, what they are is said."""
        try:
            return loss_fn(logits, target)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            is_torchs = (getattr(loss_fn, "__module__", None) or "").startswith("torch.")
            if not is_torchs or isinstance(error, EasyLearnError | torch.cuda.OutOfMemoryError):
                raise
            shown = [f"shape {tuple(x.shape)} and {x.dtype}" for x in (logits, target)]
            raise ArgumentError(
                f"the loss {name_of(loss_fn)} does not take what a {self.kind} task compares, outputs of {shown[0]} "
                f"with targets of {shown[1]}: {str(error)[:300]}. Leave loss= out for the task's own"
            ) from error

    def item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each item by itself, shape (n,), without gradients; `logits` and `target` as in `loss`."""
        with torch.no_grad():
            if self.loss_fn is None:
                return self.own_item_losses(*self.compared(logits, target))
            # It gives means alone: each item is a batch of its own.
            rows = [self.loss(logits[i : i + 1], target[i : i + 1]).reshape(()) for i in range(len(logits))]
            return torch.stack(rows) if rows else logits.new_zeros(0)

    def soft_target(self, target: Tensor) -> Tensor:
        """The `target` as floating-point rows, which can be mixed (MixUp, CutMix)."""
        return target.float()

    def accumulator(self, device: torch.device | None = None) -> Accumulator:
        """What adds up loss and metrics over batches; `device` is where a loss with weights of its own has them.

        >>> from easylearn.task import single_label
        >>> total = single_label(["cat", "dog"]).accumulator()
        >>> total.add(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
        >>> total.add(torch.tensor([[0.0, 9.0]]), torch.tensor([1]))
        >>> round(total.result()["accuracy"], 4)
        0.6667
        """
        if (self.loss_fn is None or self.of_pixels) and all(m.per_item is not None for m in self.metrics):
            return Means(self.item_losses, self.metrics, self.activate, is_large=self.of_pixels)
        return Pool(self.loss, self.metrics, self.activate, device)

    def with_metrics(self, chosen: Sequence[Metric | Callable[..., Any]]) -> Task:
        """The same task reporting the `chosen` metrics, or functions of (probabilities, targets)."""
        return replace(self, metrics=as_metrics(chosen))

    def with_loss(self, loss: LossFn) -> Task:
        """The same task with another `loss`, a function of (logits, target) giving the mean."""
        if isinstance(loss, type):
            raise ArgumentError(f"loss must be made before it is given: write loss={loss.__name__}(), with brackets")
        if not callable(loss):
            raise ArgumentError(f"loss must be a function of (logits, target) that gives the mean, got {loss!r}")
        check_takes_two(loss, "loss", "(logits, target)")
        return replace(self, loss_fn=loss)

    def smoothed(self, label_smoothing: float) -> Task:
        """The same task with a fraction, `label_smoothing`, of each target spread over all classes."""
        raise ArgumentError(f"label_smoothing is for single-label tasks, this one is {self.kind}")

    def with_threshold(self, threshold: Any) -> Task:
        """The same task with another `threshold`, a probability or one for each label; its metrics follow.

        >>> from easylearn.task import multi_label
        >>> multi_label(["haze", "road"]).with_threshold([0.2, 0.9]).decode(torch.tensor([[0.3, 0.6]]))
        [('haze',)]
        """
        raise ArgumentError(f"a threshold is for tasks of several labels, this one is {self.kind}")

    def configured(
        self, metrics: Sequence[Any] | None, loss: LossFn | None, label_smoothing: float, threshold: Any = None
    ) -> Task:
        """The same task with other `metrics`, `loss`, `label_smoothing` and `threshold`, as far as they are given."""
        task = self if metrics is None else self.with_metrics(metrics)
        task = task if loss is None else task.with_loss(loss)
        task = task if threshold is None else task.with_threshold(threshold)
        return task.smoothed(label_smoothing) if label_smoothing else task

    def same_as(self, other: Task) -> str:
        """Empty if the `other` task predicts the same things in the same order; else what differs, in words."""
        if self.kind != other.kind:
            return f"one is {self.kind}, the other {other.kind}"
        if self.names != other.names:
            extra = [n for n in self.names if n not in other.names]
            missing = [n for n in other.names if n not in self.names]
            if extra or missing:
                return f"only in the first: {extra[:10]}, only in the second: {missing[:10]}"
            return f"the order differs: {list(self.names[:10])} and {list(other.names[:10])}"
        return ""

    # -- in files ------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What makes the task besides its names, metrics and loss, in what JSON can hold: {"threshold": 0.5}."""
        values = {f.name: getattr(self, f.name) for f in _setting_fields(type(self))}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def to_json(self) -> dict[str, Any]:
        """The task in what JSON can hold: kind, names and settings. Metrics and a loss of one's own are code."""
        return {"kind": self.kind, "names": list(self.names), **self.settings()}

    @staticmethod
    def from_json(given: Any) -> Task:
        """The task that `to_json` wrote, with the usual metrics and loss; other fields of `given` are left alone.

        Raises:
            WeightsError: it is none, or of a kind that is not known here.
        """
        found = given if isinstance(given, Mapping) else {}
        kind, names = found.get("kind"), found.get("names")
        if not isinstance(kind, str) or not isinstance(names, list):
            raise WeightsError(f"the file does not say what its model predicts: {str(given)[:100]}")
        if not all(isinstance(n, str) for n in names):
            raise WeightsError("the file names a class that is no text")
        if kind not in _KINDS:
            raise WeightsError(
                f"the file is of a {kind[:50]!r} task, which is not known here ({', '.join(_KINDS)}). If it is one of "
                "your own, import the module that defines it first"
            )
        made = _KINDS[kind]
        try:
            values = {f.name: _read_setting(f, found[f.name]) for f in _setting_fields(made) if f.name in found}
            return made(tuple(names), **values)
        except (ArgumentError, DataError) as error:
            raise WeightsError(f"the task of the file is damaged: {error}") from error

    # -- in words ------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        few = ", ".join(short(n, 30) for n in self.names[:4]) + (", ..." if len(self.names) > 4 else "")
        return f"{self.kind} of {len(self.names)} ({few})"

    __repr__ = __str__

    @property
    def summary(self) -> str:
        """What is predicted, in a few words, such as "one of 3 classes"."""
        return f"{self.kind.replace('_', ' ')} of {len(self.names)}"

    @property
    def row_names(self) -> list[str]:
        """The columns of a table of predictions: the label, and the probability of each class."""
        return ["label", *(f"p_{name}" for name in self.names)]

    def row(self, label: Any, probs: Tensor) -> list[str]:
        """One row of it, as text: of an item's `label` and `probs`."""
        return [self.in_words(label), *(f"{p:.8g}" for p in self.in_table(probs[None])[0].tolist())]

    def in_words(self, label: Any) -> str:
        """A `label` as text; empty where an item has none."""
        return str(label)

    # -- what an interpretation shows ----------------------------------------------------------------------

    def title(self, probs: Tensor, target: Tensor) -> tuple[str, bool]:
        """What was predicted of one item by its `probs` beside its true `target`, and whether it was right."""
        label, truth = self.decode(probs[None])[0], self.decode_target(target[None])[0]
        predicted, true = (short(self.in_words(v) or "nothing", 30) for v in (label, truth))
        return f"said {predicted},{' ' if self.predicts_numbers else chr(10)}is {true}", bool(label == truth)

    def item_columns(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        """How wrong each item is, besides its loss: columns by name, of `probs` and `target`."""
        return {}

    def by_name(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        """How good `probs` are for each of the names, beside the `target`: columns of numbers."""
        return {}

    def count_classes(self, target: Tensor) -> list[int]:
        """How many items of the `target` have each class; empty where there are no classes."""
        return []

    def calibrated(self, probs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Each of the `probs` that was given to something, and whether the `target` says so: both (k,), float64."""
        raise ArgumentError(f"calibration is about probabilities of classes, and {self.instead}")

    def confusions(self, probs: Tensor, target: Tensor) -> Tensor:
        """How often items of class i, by `target`, were taken for class j, by `probs`: counts of shape (c, c)."""
        raise ArgumentError(f"a confusion matrix needs one class per item, and {self.instead}")


def _setting_fields(kind: type[Task]) -> list[Field[Any]]:
    shared = {f.name for f in fields(Task)}
    return [f for f in fields(kind) if f.name not in shared]


def _read_setting(field: Field[Any], value: Any) -> Any:
    """A setting of a task out of a file; `value` must be of the type that the default of the `field` has.

    Raises:
        ArgumentError: it is of another type.
    """
    default: Any = field.default
    if isinstance(default, tuple):
        if isinstance(value, list) and all(_is_number(v) for v in value):
            return tuple(value)
    elif isinstance(default, float):
        if _is_number(value):
            return float(value)
        if field.metadata.get("per_name") and isinstance(value, list) and all(map(_is_number, value)):
            return tuple(value)
    elif type(value) is type(default):
        return value
    raise ArgumentError(f"{field.name} should be a {type(default).__name__}, got {str(value)[:50]!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
