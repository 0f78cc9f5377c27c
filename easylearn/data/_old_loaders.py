"""Loaders for what is already in memory: whole tensors, or somebody else's batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence, Sized
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .. import keyed
from ..errors import ArgumentError, DataError, WeightsError
from ..task import Task
from ._old_bunch import Batch, Data, Loader, PartedData, PartName


def batch_bounds(n: int, batch_size: int, merge_single: bool = False) -> list[tuple[int, int]]:
    """Where each batch of `n` items begins and ends.

    Args:
        n: number of items.
        batch_size: items in a batch; the last may be smaller.
        merge_single: put a last batch of one item into the one before, since batch-norm cannot train on
            a single item. Nothing is left out.

    >>> batch_bounds(9, 4), batch_bounds(9, 4, merge_single=True)
    ([(0, 4), (4, 8), (8, 9)], [(0, 4), (4, 9)])
    """
    starts = list(range(0, n, batch_size))
    if merge_single and len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return list(pairwise([*starts, n]))


class TensorLoader:
    """Batches out of whole tensors: one indexed read each, no worker, no copy of single items.

    Args:
        inputs: tensors of shape (n, ...), given to the model in this order.
        target: shape (n, ...), or None.
        batch_size: items in a batch.
        shuffle: a new order each epoch, keyed by (seed, epoch).
    """

    def __init__(self, inputs: Sequence[Tensor], target: Tensor | None, batch_size: int, shuffle: bool = False) -> None:
        lengths = {len(t) for t in inputs} | ({len(target)} if target is not None else set())
        if len(lengths) != 1:
            raise DataError(f"inputs and target must have the same number of rows, got {sorted(lengths)}")
        self.inputs = tuple(inputs)
        self.target = target
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.n_items = lengths.pop()
        self._bounds = batch_bounds(self.n_items, batch_size, merge_single=shuffle)

    def __len__(self) -> int:
        return len(self._bounds)

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`."""
        move = any(t.device != device for t in self.inputs)
        order: Tensor | None = None
        if self.shuffle:
            order = torch.from_numpy(keyed.permutation(self.n_items, seed, "shuffle", epoch))
            on_cpu = self.inputs[0].device.type == "cpu"
            picked = order if on_cpu else order.to(self.inputs[0].device)
        for a, b in self._bounds[start:]:
            if order is None:
                index = torch.arange(a, b)
                inputs = tuple(t[a:b] for t in self.inputs)
                target = None if self.target is None else self.target[a:b]
            else:
                index = order[a:b]
                rows = index if on_cpu else picked[a:b]
                # index_select reads short rows several times as fast as t[rows] does.
                inputs = tuple(t.index_select(0, rows) for t in self.inputs)
                target = None if self.target is None else self.target.index_select(0, rows)
            if move:
                inputs = tuple(t.to(device, non_blocking=True) for t in inputs)
                target = None if target is None else target.to(device, non_blocking=True)
            yield Batch(inputs, target, index)


class ForeignLoader:
    """Somebody else's batches, such as a torch DataLoader or a list: (input, target) pairs.

    Shuffling and randomness are then their owner's; a run cannot be resumed in the middle of an epoch
    more exactly than the owner repeats itself. One that draws from torch's global generator, as a shuffling
    DataLoader does, repeats itself, since that generator is seeded for each epoch.

    Args:
        source: gives the batches anew each time it is iterated.
        has_target: False where the batches are inputs alone.
    """

    def __init__(self, source: Iterable[Any], has_target: bool = True) -> None:
        if not isinstance(source, Sized):
            raise ArgumentError(f"batches must have a length, got {type(source).__name__}; pass a list or a DataLoader")
        self.source = source
        self._n_batches = len(source)
        self.has_target = has_target
        self.batch_size, self.n_items = _count(source)

    def __len__(self) -> int:
        return self._n_batches

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`. `seed` and `epoch` do not reach a foreign source but by the global generators."""
        first = number = 0
        for number, given in enumerate(self._source(seed, epoch, start), 1):
            if number > len(self):
                break
            parts = [t if isinstance(t, Tensor) else torch.as_tensor(t) for t in _parts(given)]
            if self.has_target and len(parts) < 2:
                raise DataError(
                    f"batch {number} must be (input, target), got an input alone; nothing can be learnt from it"
                )
            target = parts.pop() if self.has_target else None
            size = len(parts[0])
            if number > start:
                inputs = tuple([t if t.device == device else t.to(device, non_blocking=True) for t in parts])
                if target is not None and target.device != device:
                    target = target.to(device, non_blocking=True)
                yield Batch(inputs, target, torch.arange(first, first + size))
            first += size
        if number != len(self):
            what = "more" if number > len(self) else f"only {number}"
            raise DataError(f"the {type(self.source).__name__} says that it has {len(self)} batches, but gave {what}")

    def _source(self, seed: int, epoch: int, start: int) -> Generator[Any, None, None]:
        """The batches, of which the first `start` leave no trace in the global generators."""
        batches = None
        if start:
            with keyed.scoped_rng(seed, "epoch", epoch):
                batches = iter(self.source)
                yield from islice(batches, start)
        yield from self.source if batches is None else batches


def _parts(batch: Any) -> list[Any]:
    if isinstance(batch, Tensor | np.ndarray):
        return [batch]
    if not isinstance(batch, tuple | list):
        raise DataError(f"a batch must be a tensor or a tuple of them, got {type(batch).__name__}")
    return list(batch)


def _count(source: Sized) -> tuple[int, int]:
    """Items in a batch, and in all."""
    if isinstance(source, list | tuple):
        sizes = [len(_parts(batch)[0]) for batch in source]
        return max(sizes, default=1), sum(sizes)
    if isinstance(source, DataLoader) and source.batch_size is not None:
        if source.drop_last or not isinstance(source.sampler, Sized):
            return source.batch_size, len(source) * source.batch_size
        return source.batch_size, len(source.sampler)
    size = int(getattr(source, "batch_size", None) or 1)
    items = getattr(source, "dataset", None)
    return size, len(items) if isinstance(items, Sized) else len(source) * size


TENSORS = "tensors"


class TensorData(PartedData[tuple[tuple[Tensor, ...], Tensor | None]]):
    """Tensors or arrays in memory, for a model of one's own.

    Args:
        train: (x, y): x of shape (n, ...) or a tuple of such, y of shape (n,) or (n, k).
        valid: the same for validation, or None.
        task: what is predicted.
        test: x, or a tuple of x alone, or None.
        batch_size: items in a training batch.

    >>> from easylearn.task import single_label
    >>> x, y = torch.randn(10, 3), torch.tensor([0, 1] * 5)
    >>> data = TensorData((x[:8], y[:8]), (x[8:], y[8:]), single_label(["no", "yes"]), batch_size=4)
    >>> len(data.train_loader()), data.classes
    (2, ('no', 'yes'))
    """

    def __init__(
        self,
        train: tuple[Any, Any],
        valid: tuple[Any, Any] | None,
        task: Task,
        test: Any = None,
        batch_size: int = 64,
    ) -> None:
        super().__init__(task, batch_size)
        self._shapes: tuple[tuple[int, ...], ...] = ()
        self._parts = {}
        given: dict[PartName, tuple[Any, Any] | None] = {
            "train": train, "valid": valid, "test": None if test is None else (test, None)
        }  # fmt: skip
        for name, part in given.items():
            if part is None:
                continue
            inputs = tuple(_as_input(x) for x in (part[0] if isinstance(part[0], tuple) else (part[0],)))
            target = None if part[1] is None else torch.as_tensor(part[1])
            if len(inputs[0]) == 0:
                raise DataError(f"the {name} part is empty")
            lengths = [len(t) for t in (*inputs, *(() if target is None else (target,)))]
            if len(set(lengths)) != 1:
                raise DataError(f"{name}: inputs and target must have the same number of rows, got {lengths}")
            if target is not None:
                target = task.check_target(target)
                if task.kind == "single_label":
                    target = target.long()  # class codes come as int8 or int32, too, which torch's losses refuse
            self._parts[name] = (inputs, target)
        if "train" in self._parts:
            self._shapes = tuple(tuple(t.shape[1:]) for t in self._parts["train"][0])

    def train_loader(self) -> Loader:
        """See `Data.train_loader`."""
        return TensorLoader(*self._part("train"), self.batch_size, shuffle=True)

    def loader(self, part: PartName, view: int = 0) -> Loader:
        """See `Data.loader`; tensors have no augmented views."""
        return TensorLoader(*self._part(part), self.batch_size)

    def new_loader(self, items: Any) -> Loader:
        """See `Data.new_loader`: a tensor of rows, or a tuple of them."""
        inputs = [_as_input(x) for x in (items if isinstance(items, tuple) else (items,))]
        if self._shapes and len(inputs) != len(self._shapes):
            raise DataError(f"the model takes {len(self._shapes)} inputs, got {len(inputs)}")
        return TensorLoader(inputs, None, self.batch_size)

    def is_single(self, items: Any) -> bool:
        """Rows always come as a table of them."""
        return False

    def ids(self, part: PartName) -> Sequence[str]:
        """Row numbers."""
        return [str(i) for i in range(len(self._part(part)[0][0]))]

    def fingerprint(self, part: PartName) -> str:
        """See `Data.fingerprint`: of the contents."""
        from ..files import digest

        inputs, target = self._part(part)
        tensors = [t.cpu().contiguous() for t in (*inputs, *(() if target is None else (target,)))]
        contents = [t.reshape(-1).view(torch.uint8).numpy().data for t in tensors]
        return digest([*(f"{t.dtype}{tuple(t.shape)}" for t in tensors), *contents])

    def recipe(self) -> dict[str, Any]:
        """See `Data.recipe`: rows of tensors are taken as they are."""
        return {"kind": TENSORS, "batch_size": self.batch_size, "shapes": [list(s) for s in self._shapes]}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> TensorData:
        """See `Data.from_recipe`."""
        try:
            shapes = tuple(tuple(int(n) for n in shape) for shape in recipe["shapes"])
            data = cls.__new__(cls)
            Data.__init__(data, task, int(recipe["batch_size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"the recipe of the tensors is damaged: {error!r}") from error
        data._shapes, data._parts = shapes, {}
        return data


def _as_input(values: Any) -> Tensor:
    """A tensor; NumPy's default of float64 becomes what models compute in."""
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"expected a tensor or an array of numbers, got a {type(values).__name__}: {error}") from error
    return tensor.float() if isinstance(values, np.ndarray) and tensor.dtype == torch.float64 else tensor


class LoaderData(PartedData[ForeignLoader]):
    """Batches that somebody else makes: torch DataLoaders, or lists of (input, target).

    Args:
        train: the training batches.
        valid: the validation batches in a fixed order, or None.
        task: what is predicted.
        test: batches of inputs, or None.
    """

    def __init__(
        self, train: Iterable[Any], valid: Iterable[Any] | None, task: Task, test: Iterable[Any] | None = None
    ) -> None:
        self._parts = {"train": ForeignLoader(train)}
        if valid is not None:
            self._parts["valid"] = ForeignLoader(valid)
        if test is not None:
            self._parts["test"] = ForeignLoader(test, has_target=False)
        super().__init__(task, self._parts["train"].batch_size)

    def train_loader(self) -> Loader:
        """The training batches as they come."""
        return self._part("train")

    def loader(self, part: PartName, view: int = 0) -> Loader:
        """The batches of a part as they come."""
        return self._part(part)

    def new_loader(self, items: Any) -> Loader:
        """See `Data.new_loader`: one input tensor, or an iterable of batches."""
        return ForeignLoader([items] if isinstance(items, Tensor) else items, has_target=False)

    def is_single(self, items: Any) -> bool:
        """Items always come as batches."""
        return False

    def ids(self, part: PartName) -> Sequence[str]:
        """Positions, as the source has no names."""
        return [str(i) for i in range(self.loader(part).n_items)]

    def recipe(self) -> dict[str, Any]:
        """See `Data.recipe`: a model file then takes rows of tensors."""
        return {"kind": TENSORS, "batch_size": self.batch_size, "shapes": []}

    def fingerprint(self, part: PartName) -> str:
        """Nothing is known of the source, so nothing may be reused."""
        raise DataError("batches that come ready-made have no identity, so precompute cannot be used with them")
