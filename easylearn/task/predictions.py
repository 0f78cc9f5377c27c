"""Prediction and Predictions: what a model says of one item, and of several."""

from __future__ import annotations

import operator
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from opcode import opname
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, check_kind, short
from ..placement import Placement
from .base import Task
from .gathered import by_pieces, stacked

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What the model says of one item.

    Args:
        label: a class name, a tuple of class names, or numbers.
        index: the class number (single-label), those of the labels (multi-label), or None (regression).
        probs: probability of each class, or the numbers, shape (n_out,).
        names: of the classes or numbers.
        place: where an image lies in what the model got, for tasks that say something of its pixels; else None.

    >>> from easylearn.task import single_label
    >>> Prediction.of(single_label(["cat", "dog"]), torch.tensor([[0.25, 0.75]]))
    [Prediction('dog', dog 0.75, cat 0.25)]
    """

    label: Any
    index: int | tuple[int, ...] | None
    probs: Tensor
    names: tuple[str, ...]
    place: Placement | None = None

    @classmethod
    def of(cls, task: Task, probs: Tensor, places: Sequence[Placement] | None = None) -> list[Prediction]:
        """One per row of probabilities (or numbers), shape (n, number of names), and where each image lies."""
        labels = decoded(task, probs, places)
        kind, rows = task.prediction or cls, zip(labels, probs, places or repeat(None), strict=False)
        return [kind(label, task.index(row), row, task.names, place) for label, row, place in rows]

    def to_dict(self) -> dict[str, float]:
        """The probability of each class, or each number, by name."""
        return dict(zip(self.names, self.probs.reshape(-1).tolist(), strict=True))

    def rows(self, task: Task) -> list[list[str]]:
        """The rows of a table of predictions that are about this item, as text, by its `task`; see `Task.row_names`."""
        shown = self.place.inside(self.probs) if task.of_pixels and self.place is not None else self.probs
        return [task.row(self.label, shown)]

    def __repr__(self) -> str:
        named = self.to_dict() if self.index is not None else {}
        best = sorted(named, key=lambda name: -named[name])[:3]
        return ", ".join([f"Prediction({self.label!r}", *(f"{short(n, 30)} {named[n]:.4g}" for n in best)]) + ")"


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """What the model says of several items, a row each, in file order or in the order given.

    `said[i]` is the `Prediction` of item `i`, a slice of them `Predictions` again. They unpack as `probs, targets`.

    Args:
        probs: probabilities or numbers, shape (n, number of names).
        targets: shape (n,) or (n, n_out); None where nobody knows them.
        ids: one name per item.
        labels: the decoded predictions.
        views: shape (n_views, n, number of names): the plain view first, then the augmented ones.
        task: what was predicted.
        errors: why other items, by id, have no prediction; `Predictor.predict` leaves them out by "skip".
        places: where each image lies in what the model got; None where that says nothing.

    >>> from easylearn.task import single_label
    >>> said = Predictions.of(single_label(["cat", "dog"]), torch.tensor([[0.25, 0.75], [0.5, 0.5]]), ["a", "b"])
    >>> said
    Predictions(2 items, single_label of 2 (cat, dog))
    >>> said[0].label, said.to_dict()["a"], said[1:].ids
    ('dog', {'cat': 0.25, 'dog': 0.75}, ('b',))
    >>> probs, targets = said
    """

    probs: Tensor
    targets: Tensor | None
    ids: tuple[str, ...]
    labels: tuple[Any, ...]
    views: Tensor
    task: Task
    errors: Mapping[str, str] = field(default_factory=dict)
    places: Sequence[Placement] | None = None

    @classmethod
    def of(
        cls, task: Task, probs: Tensor, ids: Sequence[str], targets: Tensor | None = None,
        views: Tensor | None = None, places: Sequence[Placement] | None = None,
    ) -> Predictions:  # fmt: skip
        """Predictions out of `probs`, decoded; arguments of `Predictions`, `views` None where there is one alone."""
        stack = probs.unsqueeze(0) if views is None else views
        kind: type[Predictions] = task.predictions or cls
        return kind(probs, targets, tuple(ids), tuple(decoded(task, probs, places)), stack, task, places=places)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the columns; empty for regression."""
        return self.task.classes

    def __len__(self) -> int:
        return len(self.probs)

    @overload
    def __getitem__(self, i: int) -> Prediction: ...
    @overload
    def __getitem__(self, i: slice) -> Predictions: ...
    def __getitem__(self, i: int | slice) -> Prediction | Predictions:
        if isinstance(i, slice):
            rows = list(range(len(self)))[i]  # a tensor has no steps backwards
            targets = None if self.targets is None else self.targets[rows]
            probs, views = self.probs[rows], self.views[:, rows]
            places, labels = self.places and self.places[i], self.labels[i]
            return replace(
                self, probs=probs, targets=targets, ids=self.ids[i], labels=labels, views=views, places=places
            )
        try:
            position = operator.index(i)
        except TypeError as error:
            raise ArgumentError(
                f"said[i] takes a position from 0 or a slice, got {i!r}; to_dict()[id] finds an item by its name"
            ) from error
        if not -len(self) <= position < len(self):
            raise IndexError(f"there are {len(self)} predictions, and none at position {position}")
        row, place = self.probs[position], self.places and self.places[position]
        kind: type[Prediction] = self.task.prediction or Prediction
        return kind(self.labels[position], self.task.index(row), row, self.task.names, place or None)

    def __iter__(self) -> Iterator[Tensor | None]:
        if _is_loop():
            raise ArgumentError(
                "a loop over predictions would go over the pair of probs and targets, as which they unpack: write "
                "for i in range(len(said)): said[i], or loop over said.labels"
            )
        return iter((self.probs, self.targets))

    def _table(self) -> Tensor:
        """What tables show, (n, len(names)): of maps what shows the images, not what is around them."""
        if not (self.task.of_pixels and self.places):
            return self.task.in_table(self.probs)
        rows = zip(self.probs, self.places, strict=True)
        return torch.cat([self.task.in_table(place.inside(row)[None]) for row, place in rows])

    def to_frame(self) -> pd.DataFrame:
        """A table: id, label and a probability per class; or id and a number per target for regression."""
        import pandas as pd

        heads = self.task.row_names
        values = pd.Index(heads[-len(self.task.names) :], dtype=object)
        frame: pd.DataFrame = pd.DataFrame(self._table().numpy(), columns=values)
        if len(heads) > len(values):
            frame.insert(0, heads[0], list(self.labels))
        frame.insert(0, "id", list(self.ids))
        return frame

    def to_dict(self) -> dict[str, dict[str, float]]:
        """For each id the probability of each class, or each number; for labels `dict(zip(said.ids, said.labels))`.

        Raises:
            DataError: two items have one id.
        """
        found = dict(zip(self.ids, self._dicts(), strict=True))
        if len(found) < len(self):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise DataError(f"several items are named {twice!r}, so no dictionary can hold all of them; use to_frame()")
        return found

    def _dicts(self) -> list[dict[str, float]]:
        return [dict(zip(self.task.names, row, strict=True)) for row in self._table().tolist()]

    def top(self, k: int = 5) -> pd.DataFrame:
        """The `k` most probable classes of each item: columns id, rank (from 1), label and probability.

        Raises:
            ArgumentError: these are numbers, or `k` is none.
        """
        import pandas as pd

        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ArgumentError(f"k must be a whole number of at least 1, got {k!r}")
        if not self.classes:
            raise ArgumentError("top(k) is of classes, and these are predicted numbers: use to_frame() or labels")
        n = min(k, len(self.classes))
        best = self._table().topk(n, dim=-1)
        columns = {
            "id": [i for i in self.ids for _ in range(n)],
            "rank": list(range(1, n + 1)) * len(self),
            "label": [self.classes[i] for i in best.indices.flatten().tolist()],
            "probability": best.values.flatten().tolist(),
        }
        frame: pd.DataFrame = pd.DataFrame(columns)
        return frame

    def __repr__(self) -> str:
        targets = "" if self.targets is None else ", with targets"
        views = f", {len(self.views)} views" if len(self.views) > 1 else ""
        errors = f", {len(self.errors):,} left out" if self.errors else ""
        return f"{type(self).__name__}({len(self):,} items, {self.task}{targets}{views}{errors})"


def decoded(task: Task, probs: Tensor, places: Sequence[Placement] | None) -> list[Any]:
    """One label per row of `probs`, as `task.decode` gives them: of maps by what shows the images."""
    if not (task.of_pixels and places):
        return task.decode(probs)
    return [task.decode(place.inside(row)[None])[0] for row, place in zip(probs, places, strict=True)]


def averaged(task: Task, outputs: Sequence[Tensor], probs: Tensor) -> Tensor:
    """What several views or models say together, (n, ...), by pieces where that is much; see `Task.averaged`."""
    if len(outputs) == 1:
        return task.averaged(outputs, probs)

    def of_some(said: Tensor, *some: Tensor) -> Tensor:
        return task.averaged(some, said.transpose(0, 1))

    return by_pieces(of_some, probs.transpose(0, 1), *outputs)


def _is_loop() -> bool:
    """Whether whoever called our caller does so by `for`, and not by unpacking, `list` or `tuple`.

    CPython keeps the instruction that a frame is at; where it does not say, this is no loop.
    """
    frame = sys._getframe(2)
    code, at = frame.f_code.co_code, frame.f_lasti
    return 0 <= at < len(code) and opname[code[at]] in ("GET_ITER", "GET_YIELD_FROM_ITER")


def average_predictions(*predictions: Predictions) -> Predictions:
    """The mean of several models' probabilities for the same items, such as a forward and a backward reader.

    Args:
        predictions: what `learn.predict()` or `learn.tta()` gave, of learners of one task.

    Returns:
        Predictions whose `views` are those of all models.

    Raises:
        DataError: the items or the classes differ.
    """
    for one in predictions:
        if isinstance(one, Prediction):
            raise ArgumentError("average_predictions takes Predictions: of one item, learn.predict([item])")
        check_kind(
            "average_predictions takes what learn.predict() or learn.tta() gave for several items", one, Predictions
        )
    if not predictions:
        raise ArgumentError("there are no predictions to average")
    first = predictions[0]
    for number, other in enumerate(predictions[1:], 2):
        if other.ids != first.ids:
            raise DataError(f"predictions 1 and {number} are of different items, or in another order")
        difference = first.task.same_as(other.task)
        if difference:
            raise DataError(f"predictions 1 and {number} are of different tasks: {difference}")
        if first.places and other.places and list(first.places) != list(other.places):
            raise DataError(
                f"predictions 1 and {number} are of the same images at different sizes, {first.places[0].frame} and "
                f"{other.places[0].frame}, or laid out otherwise: their pixels are not the same"
            )
    stack = views = stacked(p.probs for p in predictions)
    if any(len(p.views) > 1 for p in predictions):
        views = stacked(view for p in predictions for view in p.views)
    probs = averaged(first.task, list(stack), stack)
    return Predictions.of(first.task, probs, first.ids, first.targets, views, first.places)
