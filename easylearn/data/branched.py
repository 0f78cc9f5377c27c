"""Data of items that have several inputs: a branch for each, which is data of its own kind, over one list of items."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..errors import DataError, WeightsError
from ..files import digest
from ..nn.branched import Branched
from ..task import Task
from .bunch import BlankData, Data, SplitName
from .loaders import content_of
from .order import Indices, ItemLoader, Order, Source, Subset
from .preprocess import Preprocessor, RuntimeInputs

if TYPE_CHECKING:
    from typing_extensions import Self


class BranchSource(Source):
    """The inputs of all branches for the same items, one after the other, and at last which of them there are.

    Args:
        sources: of the branches, each of all items; where an item has no input, another's stands in its place.
        present: 1 where an item has the input of a branch, else 0, shape (n, branches). It stays on the CPU, where the
            model looks at it.
    """

    def __init__(self, sources: Sequence[Source], present: Tensor) -> None:
        lengths = [len(present), *map(len, sources)]
        if len(set(lengths)) != 1:
            raise DataError(f"all branches must have the same number of items, got {lengths}")
        self.sources = tuple(sources)
        self.present = present

    def __len__(self) -> int:
        return len(self.present)

    def fetch(self, index: Indices, device: torch.device) -> tuple[Tensor, ...]:
        """See `Source.fetch`."""
        inputs = [x for source in self.sources for x in source.fetch(index, device)]
        return (*inputs, self.present[torch.from_numpy(index)])

    def stream(
        self, batches: Sequence[Indices], device: torch.device, seed: int = 0, epoch: int = 0
    ) -> Generator[tuple[Tensor, ...], None, None]:
        """See `Source.stream`; each branch prepares its batches ahead in its own way."""
        with ExitStack() as stack:
            streams = [stack.enter_context(closing(s.stream(batches, device, seed, epoch))) for s in self.sources]
            for index, *parts in zip(batches, *streams, strict=True):
                yield (*(x for part in parts for x in part), self.present[torch.from_numpy(index)])


@dataclass(frozen=True)
class BranchedValues:
    """Items that were read: the values of each branch, of all items, and which there are, as in `BranchSource`."""

    parts: Mapping[str, Any]
    present: Tensor


@dataclass(frozen=True)
class BranchedPreprocessor(Preprocessor):
    """How items with several inputs become a model's: each input by the preprocessor of its branch."""

    branches: Mapping[str, Preprocessor]

    def with_branches(self, branches: Mapping[str, Preprocessor]) -> Self:
        """The same with other preprocessors of some branches."""
        return replace(self, branches={**self.branches, **branches})

    def for_model(self, model: nn.Module) -> Self:
        if not isinstance(model, Branched):
            return self
        return self.with_branches({n: p.for_model(model.branches[n]) for n, p in self.branches.items()})

    def check_model(self, model: nn.Module) -> None:
        if not isinstance(model, Branched) or list(model.branches) != list(self.branches):
            raise WeightsError(f"the model has no branches {list(self.branches)}, of which the items have inputs")
        for name, one in self.branches.items():
            one.check_model(model.branches[name])

    def source(self, values: BranchedValues) -> BranchSource:
        return BranchSource([p.source(values.parts[n]) for n, p in self.branches.items()], values.present)

    def views(self, values: BranchedValues) -> Callable[[int], Source] | None:
        ways = {n: p.views(values.parts[n]) for n, p in self.branches.items()}
        if all(way is None for way in ways.values()):
            return None

        def view(k: int) -> Source:
            sources = []
            for name, way in ways.items():
                sources.append(self.branches[name].source(values.parts[name]) if way is None else way(k))
            return BranchSource(sources, values.present)

        return view

    def order(self, values: Any, source: Source, batch_size: int) -> Order:
        """See `Preprocessor.order`: texts of like length together."""
        assert isinstance(source, BranchSource)
        own = zip(self.branches.items(), source.sources, strict=True)
        found = [p.order(values.parts[n], s, batch_size).lengths for (n, p), s in own]
        known = [lengths for lengths in found if lengths is not None]
        return Order(len(source), batch_size, lengths=sum(known[1:], known[0]) if known else None)

    def runtime_inputs(self, inputs: Sequence[Tensor]) -> RuntimeInputs:
        """The inputs of each branch, "text.lengths" say, and "present"."""
        each: dict[str, RuntimeInputs] = {}
        for name, one in self.branches.items():
            n = len(one.runtime_inputs(()).names)
            each[name] = one.runtime_inputs(inputs[:n])
            inputs = inputs[n:]
        counts = [len(one.names) for one in each.values()]

        def undo(given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            *pieces, present = _pieces(given, counts)
            return (*(x for one, own in zip(each.values(), pieces, strict=True) for x in one.undo(own)), *present)

        return RuntimeInputs(
            (*(f"{branch}.{name}" for branch, one in each.items() for name in one.names), "present"),
            (*(_apart(axes, branch) for branch, one in each.items() for axes in one.axes), {0: "batch"}),
            _Prepare([one.prepare for one in each.values()], counts), undo,
            {"branches": {name: dict(one.about) for name, one in each.items()}},
        )  # fmt: skip


def _pieces(given: Sequence[Tensor], counts: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """The inputs of each branch, and the rest."""
    ends = np.cumsum([0, *counts]).tolist()
    return [tuple(given[a:b]) for a, b in pairwise([*ends, len(given)])]


def _apart(axes: Mapping[int, str], branch: str) -> dict[int, str]:
    """Lengths that vary by the names of their branches: two texts of an item are not alike in length."""
    return {i: name if name == "batch" else f"{branch}_{name}" for i, name in axes.items()}


class _Prepare(nn.Module):
    """From a file's inputs to the model's, branch by branch."""

    def __init__(self, ways: Sequence[nn.Module | None], counts: Sequence[int]) -> None:
        super().__init__()
        self.ways = nn.ModuleList(nn.Identity() if way is None else way for way in ways)
        self._plain, self._counts = [way is None for way in ways], list(counts)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        *pieces, rest = _pieces(given, self._counts)
        made: list[Tensor] = []
        for way, plain, own in zip(self.ways, self._plain, pieces, strict=True):
            out = own if plain else way(*own)
            made += out if isinstance(out, tuple) else [out]
        return (*made, *rest)


@dataclass(frozen=True)
class BranchedSplit:
    """The items of one split.

    Args:
        ids: what they are called.
        target: of each, shape (n, ...); None where they are not known.
        rows: for each branch, which of its own items each is, shape (n,); 0 where it has none.
        present: see `BranchSource`.
    """

    ids: tuple[str, ...]
    target: Tensor | None
    rows: Mapping[str, Indices]
    present: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"BranchedSplit({len(self):,} items of {', '.join(self.rows)})"


class BranchedData(Data[BranchedSplit]):
    """Items with several inputs.

    Args:
        task: what is predicted.
        splits: which items there are.
        branches: the data of each branch, whose splits have those items that have its input.
        preprocessor: of rows with all inputs, by those of the branches.
        batch_size: items in a training batch.
        weights: how often each training item is drawn, shape (n,); None for each once in an epoch.
    """

    preprocessor: BranchedPreprocessor

    def __init__(
        self, task: Task, splits: Mapping[SplitName, BranchedSplit], branches: Mapping[str, Data[Any]],
        preprocessor: BranchedPreprocessor, *, batch_size: int = 64, weights: npt.NDArray[np.float64] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(task, batch_size, preprocessor, splits)
        self.branches = dict(branches)
        self._weights = weights

    def with_branches(self, branches: Mapping[str, Data[Any]]) -> Self:
        """The same items with other data of some branches, prepared in another way."""
        other = copy.copy(self)
        other.branches = {**self.branches, **branches}
        made = {name: data.preprocessor for name, data in other.branches.items()}
        other.preprocessor = self.preprocessor.with_branches(made)
        return other

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> ItemLoader:
        """See `Data.loader`; texts of like length come together."""
        return self.loader_of(split, {}, training, view)

    def loader_of(
        self, split: SplitName, instead: Mapping[str, Source], training: bool = False, view: int = 0
    ) -> ItemLoader:
        """The loader of a `split`, with other sources `instead` of those of some branches, of their own items each."""
        one, sources = self._split(split), []
        lengths: Any = None
        for name, branch in self.branches.items():
            own, rows = branch.loader(split, training=training, view=view), one.rows[name]
            assert isinstance(own, ItemLoader)
            sources.append(Subset(instead.get(name, own.source), rows))
            if own.order.lengths is not None:
                lengths = own.order.lengths[rows] + (0 if lengths is None else lengths)
        weights = self._weights if training and split == "train" else None
        order = Order(len(one), self.batch_size, shuffle=training, weights=weights, lengths=lengths)
        return ItemLoader(order, BranchSource(sources, one.present), one.target)

    def ids(self, split: SplitName) -> Sequence[str]:
        return self._split(split).ids

    def present(self, split: SplitName) -> Tensor:
        """Which inputs the items of a `split` have, 1 or 0, shape (n, branches)."""
        return self._split(split).present

    def here(self, split: SplitName, i: int) -> list[str]:
        """The branches whose input item `i` of a `split` has."""
        return [name for name, on in zip(self.branches, self._split(split).present[i].tolist(), strict=True) if on]

    def fingerprint(self, split: SplitName) -> str:
        one = self._split(split)
        parts: list[str | bytes] = [content_of(one.present, one.target), *one.ids]
        parts += [name + branch.fingerprint(split) for name, branch in self.branches.items()]
        parts += [rows.tobytes() for rows in one.rows.values()]
        return digest(parts if self._weights is None or split != "train" else [*parts, self._weights.tobytes()])

    def item_keys(self, split: SplitName, positions: Sequence[int] | None = None) -> Sequence[str]:
        """See `Data.item_keys`: the contents of all inputs."""
        one = self._split(split)
        at = np.arange(len(one)) if positions is None else np.asarray(positions, np.int64)
        keys = [branch.item_keys(split, one.rows[name][at].tolist()) for name, branch in self.branches.items()]
        present = one.present[torch.from_numpy(at)].tolist()
        named = zip(present, *keys, strict=True)
        return [digest([key if on else "" for on, key in zip(here, each, strict=True)]) for here, *each in named]

    @property
    def has_views(self) -> bool:
        """Whether augmented views of any branch can differ."""
        return any(branch.has_views for branch in self.branches.values())

    def describe_item(self, split: SplitName, i: int) -> dict[str, str]:
        rows, found = self._split(split).rows, dict[str, str]()
        for name in self.here(split, i):
            found |= self.branches[name].describe_item(split, int(rows[name][i]))
        return found

    def notes(self) -> list[str]:
        lacks = []
        for split, one in self._splits.items():
            n = (one.present == 0).sum(0).tolist()
            lacks += [
                f"{k:,} items of the {split} split have no {b}" for b, k in zip(self.branches, n, strict=True) if k
            ]
        return lacks + [note for branch in self.branches.values() for note in branch.notes()]

    def for_model(self, model: nn.Module) -> Self:
        """See `Data.for_model`: each branch for its own."""
        if not isinstance(model, Branched):
            return self
        return self.with_branches({n: self.branches[n].for_model(m) for n, m in model.branches.items()})

    def adopt(self, old: Data[Any]) -> Self:
        """See `Data.adopt`; the branches must be the same, and each must fit."""
        super().adopt(old)
        assert isinstance(old.preprocessor, BranchedPreprocessor)
        theirs = old.preprocessor.branches
        if list(theirs) != list(self.branches):
            raise DataError(f"this data has the branches {list(self.branches)}, the model {list(theirs)}")
        blank = {name: BlankData(self.task, self.batch_size, one) for name, one in theirs.items()}
        return self.with_branches({name: branch.adopt(blank[name]) for name, branch in self.branches.items()})

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}: {self.task}, batches of {self.batch_size}"]
        for name, one in self._splits.items():
            n = one.present.sum(0).tolist()
            lines.append(
                f"  {name}: {len(one):,}, " + ", ".join(f"{b} {k:,}" for b, k in zip(self.branches, n, strict=True))
            )
        return "\n".join(lines)
