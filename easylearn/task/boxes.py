"""Boxes: each item has any number of boxes, each of one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..box_metrics import ap, ap50, box_iou, class_precision
from ..errors import ArgumentError, DataError, check_number, check_whole, short
from ..metrics import Metric
from ..nn.centre import centre_losses, found_boxes, survives
from .accumulate import Accumulator, in_file_order
from .base import LossFn, Task
from .box_predictions import COLUMNS, BoxPrediction, BoxPredictions
from .names import as_names

RIGHT = 0.5  # IoU from which a found box is the true one
PAIRS = 2**20  # of boxes that are compared at once


@final
@dataclass(frozen=True, repr=False)
class Boxes(Task):
    """Each item has any number of boxes, each of one of the classes. Made by `boxes`.

    A target is (n, m, 5): xmin, ymin, xmax, ymax and class number in each row; a class of -1 is none, since images have
    unlike numbers of boxes. What is predicted is (n, k, 6), with score and class at the end; a score of 0 is none. A
    model gives maps (see `nn.centre`), or, where it has a loss of its own, found boxes.

    Args:
        names, metrics, loss_fn: see `Task`.
        threshold: the score from which a box is told, in labels, tables and drawings; average precision takes all.
        overlap: the IoU above which two found boxes of a class are one object.
        most: found boxes of an item.
        stride: pixels of a cell of the maps.
    """

    kind: ClassVar[str] = "boxes"
    may_have_own_loss: ClassVar[bool] = True
    sorts_outputs: ClassVar[bool] = True
    prediction: ClassVar[type[Any] | None] = BoxPrediction
    predictions: ClassVar[type[Any] | None] = BoxPredictions
    instead: ClassVar[str] = "images have any number of boxes: use report(), calibration() or top_losses()"
    threshold: float = 0.3
    overlap: float = 0.6
    most: int = 100
    stride: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("threshold", "overlap"):
            check_number(name, getattr(self, name), "above 0", "below 1")
        for name in ("most", "stride"):
            check_whole(name, getattr(self, name))

    @property
    def n_out(self) -> int:
        """How many numbers the model gives for a cell: one per class, and four sides."""
        return len(self.names) + 4

    def difference(self, found: Tensor, wanted: Tensor) -> float:
        """See `Task.difference`: each box is compared with the nearest; where none is near, its score is the error."""

        def apart(a: Tensor, b: Tensor) -> Tensor:
            far = (a[:, :, None] - b[:, None]).abs() / a[:, :, None].abs().clamp_min(1)
            return torch.minimum(far.amax(-1).amin(-1), a[..., 4])

        return float(torch.stack([apart(found, wanted), apart(wanted, found)]).max())

    def takes(self, shape: tuple[int, ...]) -> bool:
        """See `Task.takes`: maps, or found boxes."""
        return (len(shape) == 3 and shape[0] == self.n_out) or (len(shape) == 2 and shape[1] == 6) or not shape

    def averaged(self, outputs: Sequence[Tensor], probs: Tensor) -> Tensor:
        """See `Task.averaged`: the boxes of the mean of the maps; of found boxes the best of all views."""
        if outputs[0].ndim == 4:
            return probs[0] if len(outputs) == 1 else self.activate(torch.stack([*outputs]).mean(0))
        every = torch.cat([*probs], 1)
        return torch.cat([self._best(some) for some in _pieces(every, every.shape[1])])

    def _best(self, together: Tensor) -> Tensor:
        """The surest of the boxes (n, k, 6) that several views found."""
        order = together[..., 4].argsort(dim=1, descending=True, stable=True)
        together = together.gather(1, order[..., None].expand(-1, -1, 6))
        score = together[..., 4] * survives(together[..., :4], together[..., 5], self.overlap)
        kept = score.argsort(dim=1, descending=True, stable=True)[:, : self.most, None].expand(-1, -1, 6)
        return torch.cat([together[..., :4], score[..., None], together[..., 5:]], -1).gather(1, kept)

    def alike(self, targets: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Task.alike`: each with as many rows as the longest, those that are none of class -1."""
        most = max((t.shape[1] for t in targets), default=0)
        return [F.pad(t, (0, 0, 0, most - t.shape[1]), value=-1.0) for t in targets]

    def default_metrics(self) -> tuple[Metric, ...]:
        return ap50, ap

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """That of the maps; of found boxes alone one minus their F score, each box weighing as much as its score."""
        if logits.ndim == 4:
            return centre_losses(logits, target, self.stride)
        losses = []
        for found, true in zip(_arrays(logits), _arrays(target), strict=True):
            right = _taken(found, true)
            n, scores = int((true[:, 4] >= 0).sum()), found[:, 4]
            total = n + scores.sum()
            losses.append(1 - 2 * scores[right].sum() / total if total else 0.0)
        return logits.new_tensor(losses)

    def activate(self, logits: Tensor) -> Tensor:
        if logits.ndim == 3:
            return logits
        return torch.cat([self.activate_in_graph(some) for some in _pieces(logits, self.most)])

    def activate_in_graph(self, logits: Tensor) -> Tensor:
        """See `Task.activate_in_graph`: all items at once."""
        return logits if logits.ndim == 3 else found_boxes(logits, self.stride, self.most, self.overlap)

    def told(self, probs: Tensor) -> Tensor:
        """The boxes of one item, (k, 6), that are told: (t, 6), the surest first."""
        kept = probs[probs[:, 4] >= self.threshold]
        return kept[kept[:, 4].argsort(descending=True, stable=True)]

    def decode(self, probs: Tensor) -> list[Any]:
        """The class of each box that is told, the surest first: a tuple per item."""
        return [tuple(self.names[int(c)] for c in self.told(row)[:, 5]) for row in probs]

    def decode_target(self, target: Tensor) -> list[Any]:
        return [tuple(self.names[int(c)] for c in row[:, 4] if c >= 0) for row in target]

    def check_target(self, target: Tensor) -> Tensor:
        if target.ndim != 3 or target.shape[2] != 5:
            raise DataError(f"targets of boxes have the shape (n, m, 5), got {tuple(target.shape)}")
        is_box = target[..., 4] >= 0
        sides = target[..., 2:4] - target[..., :2]
        fits = target.isfinite().all(-1) & (target[..., 4] < len(self.names)) & (sides > 0).all(-1)
        bad = (is_box & ~fits | target[..., 4].isnan()).nonzero()
        if len(bad):
            row, k = bad[0].tolist()
            raise DataError(
                f"row {row}: box {k} is {target[row, k].tolist()}; a box is xmin, ymin, xmax, ymax, with an area, and "
                f"a class number below {len(self.names)}, or -1 for none"
            )
        return target.float()

    def soft_target(self, target: Tensor) -> Tensor:
        """Boxes cannot be mixed."""
        raise ArgumentError("MixUp and CutMix mix targets, and boxes have no mean: train on boxes without them")

    def accumulator(self, device: torch.device | None = None) -> Accumulator:
        """See `Task.accumulator`: found boxes are kept, not the maps."""
        return FoundBoxes(self)

    def with_threshold(self, threshold: Any) -> Task:
        """The same task telling boxes from another score on.

        >>> boxes(["cell"]).with_threshold(0.5).threshold
        0.5
        """
        return replace(self, threshold=check_number("threshold", threshold, "above 0", "below 1"))

    def in_units_of(self, other: Task) -> Task:
        """See `Task.in_units_of`: cells of the same size."""
        return replace(self, stride=other.stride) if isinstance(other, Boxes) else self

    def same_as(self, other: Task) -> str:
        if isinstance(other, Boxes) and self.stride != other.stride:
            return f"one has cells of {self.stride} pixels, the other of {other.stride}"
        return super().same_as(other)

    @property
    def summary(self) -> str:
        return f"boxes of {len(self.names):,} class{'es' if len(self.names) > 1 else ''}"

    @property
    def row_names(self) -> list[str]:
        return list(COLUMNS)

    def in_words(self, label: Any) -> str:
        """How many boxes of each class.

        >>> boxes(["a", "b"]).in_words(("b", "a", "b"))
        'a 1, b 2'
        """
        counts = Counter(label)
        return ", ".join(f"{name} {counts[name]}" for name in self.names if counts[name])

    def title(self, probs: Tensor, target: Tensor) -> tuple[str, bool]:
        found, right, n = self._compared(probs, target)
        wrong = found - right
        told = f"found {right} of {n}" + (f", and {wrong} that {'is' if wrong == 1 else 'are'} none" if wrong else "")
        return short(told, 60), right == n and not wrong

    def item_columns(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        each = [self._compared(p, t) for p, t in zip(probs, target, strict=True)]
        return {
            "boxes": [n for _, _, n in each],
            "found": [right for _, right, _ in each],
            "wrong": [found - right for found, right, _ in each],
        }

    def _compared(self, probs: Tensor, target: Tensor) -> tuple[int, int, int]:
        """How many boxes of an item are told, how many of these are right, and how many there are."""
        (told,), (true,) = _arrays(self.told(probs)[None]), _arrays(target[None])
        return len(told), int(_taken(told, true).sum()), int((true[:, 4] >= 0).sum())

    def by_name(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        each = class_precision(_arrays(probs), _arrays(target), len(self.names))
        return {"ap50": each[:, 0].tolist(), "ap": each.mean(1).tolist(), "support": self.count_classes(target)}

    def count_classes(self, target: Tensor) -> list[int]:
        """How many boxes there are of each class."""
        labels = target[..., 4].long().flatten()
        return torch.bincount(labels[labels >= 0], minlength=len(self.names)).tolist()

    def calibrated(self, probs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The score of each found box, and whether it is right."""
        pairs = list(zip(_arrays(probs), _arrays(target), strict=True))
        right = np.concatenate([_taken(p, t) for p, t in pairs]) if pairs else np.zeros(0)
        score = probs[..., 4].double().flatten()
        return score[score > 0], torch.from_numpy(right.astype(np.float64))[score > 0]  # the others are none


def _pieces(rows: Tensor, k: int) -> tuple[Tensor, ...]:
    """A few items of `k` boxes at a time: each box is compared with each, which takes 36 bytes for a pair."""
    found: tuple[Tensor, ...] = rows.split(max(1, PAIRS // max(1, k) ** 2))  # type: ignore[no-untyped-call]
    return found


def _arrays(rows: Tensor) -> list[Any]:
    """The boxes of each item."""
    return list(rows.detach().cpu().double().numpy())


def _taken(found: Any, true: Any) -> Any:
    """Which found boxes (k, 6) are the first to lie on a true one of their class, the surest before the others."""
    right, true = np.zeros(len(found), bool), true[true[:, 4] >= 0]
    if not len(true) or not len(found):
        return right
    fits = box_iou(found[:, :4], true[:, :4]) * (found[:, 5:6] == true[:, 4])
    for k in np.argsort(-found[:, 4], kind="stable"):
        best = fits[k].argmax()
        if found[k, 4] > 0 and fits[k, best] >= RIGHT:
            right[k], fits[:, best] = True, 0.0
    return right


class FoundBoxes:
    """The accumulator of boxes: found and true ones of every item, and the sum of the losses; `task` makes it."""

    def __init__(self, task: Boxes) -> None:
        self._task = task
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []
        self._total, self._count = 0.0, 0

    def add(self, logits: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        """See `Accumulator.add`."""
        logits = logits.detach()
        index = torch.arange(self._count, self._count + len(target)) if index is None else index
        self._total += float(self._task.item_losses(logits, target).double().sum())
        self._count += len(target)
        self._batches.append((index, self._task.activate(logits).cpu(), target.cpu()))

    def result(self) -> dict[str, float]:
        """See `Accumulator.result`."""
        if not self._count:
            raise DataError("there are no items to predict")
        index, found, target = (torch.cat(tensors) for tensors in zip(*self._batches, strict=True))
        found, target = in_file_order(index, found, target)
        scores = {m.name: m(found, target) for m in self._task.metrics}
        return {"valid_loss": self._total / self._count, **scores}


def boxes(
    names: Sequence[str], loss_fn: LossFn | None = None, threshold: float = 0.3, overlap: float = 0.6, most: int = 100
) -> Boxes:
    """Each item has any number of boxes: the loss of `nn.centre`, AP at an IoU of 0.5, and its mean up to 0.95.

    Args:
        names: the classes, in the order of their numbers.
        loss_fn: takes (maps, target) and gives the mean loss, instead of the task's own.
        threshold: the score from which a box is told.
        overlap: the IoU above which two found boxes of a class are one object.
        most: found boxes of an item.

    >>> task = boxes(["cat", "dog"])
    >>> found = torch.tensor([[[0.0, 0.0, 8.0, 8.0, 0.9, 1.0], [0.0, 0.0, 4.0, 4.0, 0.1, 0.0]]])
    >>> task.decode(found), task.decode_target(torch.tensor([[[0.0, 0.0, 8.0, 8.0, 0.0]]]))
    ([('dog',)], [('cat',)])
    """
    return Boxes(as_names(names), loss_fn=loss_fn, threshold=threshold, overlap=overlap, most=most)
