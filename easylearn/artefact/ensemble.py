"""Several models in one file, and what predicts with all of them: the weighted mean of what each says."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.order import Indices, Source
from ..data.preprocess import Items, Preprocessor
from ..errors import ArgumentError, DataError, StateError, WeightsError
from ..files import StrPath
from ..placement import Placement
from ..task import Task
from ..train.waiting import Waiting
from .archive import Archive, write_archive
from .predictor import Predictor

MOST = 1000  # models in a file
_SHOWN = ("easylearn", "task", "data", "training", "libraries")
_OF_FILE = ("what", "schema", "weights", "digest")  # of a spec: what is of the file, and not of its model


def write_ensemble(
    path: StrPath,
    files: Sequence[Path],
    weights: Sequence[float],
    member: Sequence[int],
    ranks: Sequence[Tensor] | None,
) -> Path:
    """Write several model files as one.

    Args:
        path: the file to create or replace.
        files: model files, as `write_model` writes them.
        weights: of each, at least 0; they add up to 1.
        member: which table of `ranks` each has.
        ranks: tables of quantiles, shape (quantiles, columns): then ranks are blended, not probabilities.
    """
    specs, tensors = [], dict[str, Tensor]()
    for k, file in enumerate(files):
        with Archive(file) as archive:
            specs.append({name: value for name, value in archive.spec.items() if name not in _OF_FILE})
            tensors |= {f"{k}/{name}": archive.read(name) for name in archive.entries}
    for k, table in enumerate(ranks or ()):
        tensors[f"ranks/{k}"] = table.contiguous()
    first = Task.from_json(specs[0]["task"])
    for k, spec in enumerate(specs):
        if difference := first.same_as(Task.from_json(spec["task"])):
            raise DataError(f"models 1 and {k + 1} predict different things: {difference}")
    about = {"members": specs, "shares": list(weights), "of": list(member), "ranked": ranks is not None}
    shown = {name: specs[0][name] for name in _SHOWN if name in specs[0]}
    model = {"build": f"an ensemble of {len(specs)} models", "args": {}}
    return write_archive(path, {**shown, "model": model, "packed": {}, "tied": {}, "ensemble": about}, tensors)


def is_ensemble(archive: Archive) -> bool:
    """Whether a file holds several models."""
    return "ensemble" in archive.spec


@dataclass(frozen=True)
class Members:
    """What a file of several models holds: each as a file of its own, weights, and tables of quantiles."""

    archives: tuple[Archive, ...]
    weights: tuple[float, ...]
    of: tuple[int, ...]
    ranks: Mapping[int, Tensor]  # by the numbers of `of`; none where probabilities are blended


def read_members(archive: Archive) -> Members:
    """The models of an open file.

    Raises:
        WeightsError: the file is damaged.
    """
    about = archive.spec["ensemble"]
    found = [about.get(n) if isinstance(about, dict) else None for n in ("members", "shares", "of")]
    specs, shares, of = ([*one] if isinstance(one, list) else [] for one in found)
    lists = all(type(k) is int for k in of)
    if not lists or not 0 < len(specs) <= MOST or not len(specs) == len(shares) == len(of):
        raise WeightsError(f"{archive.path} lists its models in a damaged way")
    good = all(isinstance(s, int | float) and not isinstance(s, bool) and 0 <= s <= 1 for s in shares)
    if not good or not math.isclose(sum(shares), 1, abs_tol=1e-6) or not all(isinstance(s, dict) for s in specs):
        raise WeightsError(f"{archive.path} gives its models weights that do not add up to 1: {str(shares)[:100]}")
    parts = []
    for k, spec in enumerate(specs):
        one = copy.copy(archive)  # the open file is shared
        one.spec, mark = spec, f"{k}/"
        one.entries = {n[len(mark) :]: e for n, e in archive.entries.items() if n.startswith(mark)}
        parts.append(one)
    ranks: dict[int, Tensor] = {}
    if about.get("ranked"):
        names = {k: f"ranks/{k}" for k in of}
        if not set(names.values()) <= archive.entries.keys():
            raise WeightsError(f"{archive.path} lacks the quantiles that its ranks are told by")
        ranks = {k: archive.read(name).double() for k, name in names.items()}
        width = Task.from_json(specs[0].get("task")).n_out
        if not all(_rises(table, width) for table in ranks.values()):
            raise WeightsError(f"{archive.path} has damaged quantiles: they should rise, a column for each output")
    return Members(tuple(parts), tuple(map(float, shares)), tuple(map(int, of)), ranks)


def _rises(table: Tensor, width: int) -> bool:
    """Whether a table of quantiles can be one: (quantiles, columns), each column of finite numbers that rise."""
    good = table.ndim == 2 and len(table) > 1 and table.shape[1] == width and bool(table.isfinite().all())
    return good and bool((table.diff(dim=0) >= 0).all())


def ranked(probs: Tensor, quantiles: Tensor) -> Tensor:
    """Each number as the share of numbers below it, and half of those equal to it, by `quantiles` of its column."""
    flat = probs.double().reshape(len(probs), -1).numpy()
    share = np.linspace(0, 1, len(quantiles))
    # np.interp takes the last of equal quantiles; turned around, that is the first of them
    columns = [
        (np.interp(x, q, share) + 1 - np.interp(-x, -q[::-1], share)) / 2
        for x, q in zip(flat.T, quantiles.numpy().T, strict=True)
    ]
    return torch.from_numpy(np.stack(columns, 1)).reshape(probs.shape)


def normalised(shares: Tensor, task: Task) -> Tensor:
    """Ranks as what a task has for probabilities: where each item has one class, they add up to 1."""
    if not task.is_exclusive:
        return shares
    total = shares.sum(-1, keepdim=True)
    return torch.where(total > 0, shares / total.clamp_min(1e-12), 1 / shares.shape[-1])


class JointPreprocessor(Preprocessor):
    """Reads items for several preprocessors: values are those of each, in a tuple."""

    kind = "several"

    def __init__(self, each: Sequence[Preprocessor]) -> None:
        self.each = tuple(each)

    def read(self, given: Any, first: int = 0) -> Items:
        read = [one.read(given, first) for one in self.each]
        return Items(tuple(one.values for one in read), read[0].ids, read[0].single)

    def source(self, values: Any) -> Source:
        raise StateError("several preprocessors have no single source")

    def places(self, values: Any, some: Indices | None = None) -> Sequence[Placement] | None:
        """See `Preprocessor.places`: those of the first."""
        return self.each[0].places(values[0], some)

    def is_file(self, given: Any) -> bool:
        return self.each[0].is_file(given)

    def read_file(self, path: Path, n: int, *skip: Any) -> Any:
        """See `Preprocessor.read_file`: of each preprocessor, side by side."""
        for read in zip(*(one.read_file(path, n, *skip) for one in self.each), strict=True):
            odd = next((one for one in read if not isinstance(one, Items)), None)
            yield odd if odd is not None else Items(tuple(one.values for one in read), read[0].ids, read[0].single)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Ensemble(Predictor):
    """A predictor of several models: the weighted mean of their probabilities or numbers, or of the ranks of these.

    Attributes:
        members: the predictors.
        weights: of each.
        of: which are one: of these the mean is taken before it is ranked.
        ranks: tables of quantiles, by the numbers of `of`; none where probabilities are blended.
        reader: which of the preprocessors each has.
    """

    members: tuple[Predictor, ...] = ()
    weights: tuple[float, ...] = ()
    of: tuple[int, ...] = ()
    ranks: Mapping[int, Tensor] = field(default_factory=dict)
    reader: tuple[int, ...] = ()

    def _probs(self, read: Items, some: Indices | None = None, wait: Waiting | None = None) -> Tensor:
        probs = self._joined([one._probs(own, some) for one, own in self._of_each(read)])
        if wait is not None:
            wait.add(len(probs))  # an item is done when all members have said what it is
        return probs

    def _views(self, read: Items, n_aug: int) -> tuple[Tensor, Tensor]:
        said, views = zip(*(one._views(own, n_aug) for one, own in self._of_each(read)), strict=True)
        return self._joined(said), torch.stack([self._joined(each) for each in zip(*views, strict=False)])

    def _of_each(self, read: Items) -> list[tuple[Predictor, Items]]:
        """The members, and the items as each has read them."""
        joint = isinstance(self.preprocessor, JointPreprocessor)
        values = [read.values[k] if joint else read.values for k in self.reader]
        return [(one, Items(v, read.ids, read.single)) for one, v in zip(self.members, values, strict=True)]

    def _joined(self, each: Sequence[Tensor]) -> Tensor:
        """What the members' probabilities or numbers are together."""
        if self.task.sorts_outputs:  # which no mean can be taken of; blend refuses them, so all weigh the same
            return self.task.averaged(each, torch.stack([*each]))
        sums, shares = dict[int, Tensor](), dict[int, float]()
        for probs, of, weight in zip(each, self.of, self.weights, strict=True):
            sums[of] = sums[of] + weight * probs.double() if of in sums else weight * probs.double()
            shares[of] = shares.get(of, 0.0) + weight
        if not self.ranks:
            return torch.stack(list(sums.values())).sum(0).to(each[-1].dtype)
        ranks = [shares[of] * ranked(total / shares[of], self.ranks[of]) for of, total in sums.items()]
        return normalised(torch.stack(ranks).sum(0), self.task).to(each[-1].dtype)

    def __repr__(self) -> str:
        return f"Ensemble({len(self.members)} models, {self.task})"


def make_ensemble(members: Sequence[Predictor], found: Members, info: Mapping[str, Any]) -> Ensemble:
    """One predictor of several, whose equal preprocessors become one."""
    if not members:
        raise ArgumentError("an ensemble needs a model")
    recipes: list[str] = []
    distinct: list[Preprocessor] = []
    reader = []
    for one in members:
        recipe = str(one.preprocessor.recipe())
        if recipe not in recipes:
            recipes.append(recipe)
            distinct.append(one.preprocessor)
        reader.append(recipes.index(recipe))
    first = members[0]
    nets = torch.nn.ModuleList([one.model for one in members])
    preprocessor = distinct[0] if len(distinct) == 1 else JointPreprocessor(distinct)
    return Ensemble(
        nets, first.task, preprocessor, first.strategy, first.batch_size, info, tuple(members), found.weights,
        found.of, found.ranks, tuple(reader),
    )  # fmt: skip
