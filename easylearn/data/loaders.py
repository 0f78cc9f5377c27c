"""Data that is in memory already: whole tensors, or batches that come ready-made."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .. import keyed
from ..errors import ArgumentError, DataError, WeightsError
from ..files import digest
from ..task import Task
from .bunch import Data, PlainInputs, SplitName
from .order import Batch, ItemLoader, Loader, Shard, TensorSource, shard_of, tensor_loader, to_device
from .preprocess import Items, Preprocessor

_is_cpu = attrgetter("is_cpu")  # to compare devices makes an object for each


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
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0, shard: Shard = (0, 1)
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`. `seed` and `epoch` do not reach a foreign source but by the global generators."""
        first = number = 0
        on_cpu = device.type == "cpu"
        # Where all batches are there, so are their positions: an arange for each is little work, but in the middle of
        # a step it finds nothing of what it needs in a cache.
        known = torch.arange(self.n_items).split(_sizes(self.source)) if isinstance(self.source, (list, tuple)) else ()
        for number, given in enumerate(self.source if not start else self._resumed(seed, epoch, start), 1):
            if number > self._n_batches:
                break
            parts = [t if isinstance(t, Tensor) else torch.as_tensor(t) for t in _parts(given)]
            if self.has_target and len(parts) < 2:
                raise DataError(
                    f"batch {number} must be (input, target), got an input alone; nothing can be learnt from it"
                )
            index = known[number - 1] if known else torch.arange(first, first + parts[0].size(0))
            first += index.numel()
            if number <= start:
                continue
            if shard != (0, 1):
                own = shard_of(index.numel(), shard)
                parts, index = [t[own] for t in parts], index[own]
            if not (on_cpu and all(map(_is_cpu, parts))):
                parts = [to_device(t, device) for t in parts]
            target = parts.pop() if self.has_target else None
            yield Batch(tuple(parts), target, index)
        if number != len(self):
            what = "more" if number > len(self) else f"only {number}"
            raise DataError(f"the {type(self.source).__name__} says that it has {len(self)} batches, but gave {what}")

    def _resumed(self, seed: int, epoch: int, start: int) -> Generator[Any, None, None]:
        """The batches, of which the first `start` leave no trace in the global generators."""
        with keyed.scoped_rng(seed, "epoch", epoch):
            batches = iter(self.source)
            yield from islice(batches, start)
        yield from batches


def _parts(batch: Any) -> list[Any]:
    if isinstance(batch, (Tensor, np.ndarray)):
        return [batch]
    if not isinstance(batch, (tuple, list)):
        raise DataError(f"a batch must be a tensor or a tuple of them, got {type(batch).__name__}")
    return list(batch)


def _sizes(batches: Sequence[Any]) -> list[int]:
    return [len(_parts(batch)[0]) for batch in batches]


def _count(source: Sized) -> tuple[int, int]:
    """Items in a batch, and in all."""
    if isinstance(source, list | tuple):
        sizes = _sizes(source)
        return max(sizes, default=1), sum(sizes)
    if isinstance(source, DataLoader) and source.batch_size is not None:
        if source.drop_last or not isinstance(source.sampler, Sized):
            return source.batch_size, len(source) * source.batch_size
        return source.batch_size, len(source.sampler)
    size = int(getattr(source, "batch_size", None) or 1)
    items = getattr(source, "dataset", None)
    return size, len(items) if isinstance(items, Sized) else len(source) * size


class TensorPreprocessor(Preprocessor):
    """Rows of tensors or arrays, taken as they are; `shapes` of a row of each input, empty where they are not known."""

    kind = "tensors"

    def __init__(self, shapes: Sequence[tuple[int, ...]] = ()) -> None:
        self.shapes = tuple(shapes)

    def read(self, given: Any, first: int = 0) -> Items:
        """Read a tensor of rows, a tuple of them where the model takes several, or a list or DataLoader of such.

        One row of the known shape is an item by itself.
        """
        if isinstance(given, DataLoader) or (isinstance(given, list) and given and not np.isscalar(given[0])):
            given = self._joined([_parts(piece) for piece in given])
        inputs = [_as_input(x) for x in (given if isinstance(given, tuple) else (given,))]
        if self.shapes and len(inputs) != len(self.shapes):
            raise DataError(f"the model takes {len(self.shapes)} inputs, got {len(inputs)}")
        single = bool(self.shapes) and all(tuple(x.shape) == s for x, s in zip(inputs, self.shapes, strict=True))
        if single:
            inputs = [x.unsqueeze(0) for x in inputs]
        for x, shape in zip(inputs, self.shapes, strict=False):
            if x.ndim != len(shape) + 1:
                raise DataError(f"expected rows of shape {shape}, so (n, *{shape}), got shape {tuple(x.shape)}")
        if not inputs[0].ndim:
            raise DataError("expected rows of numbers, got a single number")
        n = len(inputs[0])
        return Items(tuple(inputs), tuple(str(i) for i in range(first, first + n)), single)

    def _joined(self, pieces: Sequence[Sequence[Any]]) -> tuple[Tensor, ...]:
        """Rows, or batches of them, as one tensor for each input."""
        columns = [[_as_input(x) for x in column] for column in zip(*pieces, strict=False)]
        if self.shapes and len(columns) > len(self.shapes):
            columns = columns[: len(self.shapes)]  # batches with targets
        ndims = [len(s) for s in self.shapes] or [x[0].ndim - 1 for x in columns]
        try:
            return tuple(
                torch.stack(x) if x[0].ndim == n else torch.cat(x) for x, n in zip(columns, ndims, strict=False)
            )
        except RuntimeError as error:
            raise DataError(f"the rows do not fit together: {error}") from error

    def source(self, values: tuple[Tensor, ...]) -> TensorSource:
        """See `Preprocessor.source`."""
        return TensorSource(values)

    def recipe(self) -> dict[str, Any]:
        """See `Preprocessor.recipe`."""
        return {"kind": self.kind, "shapes": [list(s) for s in self.shapes]}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> TensorPreprocessor:
        """See `Preprocessor.from_recipe`."""
        try:
            return cls([tuple(int(n) for n in shape) for shape in recipe["shapes"]])
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"the recipe of the tensors is damaged: {error!r}") from error


@dataclass(frozen=True)
class TensorSplit:
    """Rows of tensors, and their targets where they are known."""

    inputs: tuple[Tensor, ...]
    target: Tensor | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __repr__(self) -> str:
        shapes = " and ".join(str(tuple(t.shape)) for t in self.inputs)
        return f"TensorSplit({shapes}{'' if self.target is None else ', with targets'})"


class TensorData(Data[TensorSplit]):
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
    >>> len(data.loader("train", training=True)), data.classes
    (2, ('no', 'yes'))
    """

    def __init__(
        self, train: tuple[Any, Any], valid: tuple[Any, Any] | None, task: Task, test: Any = None, batch_size: int = 64
    ) -> None:
        given: dict[SplitName, Any] = {"train": train, "valid": valid, "test": None if test is None else (test, None)}
        learnt = _tensor_split("train", task, *train).target
        task = task if learnt is None or not len(learnt) else task.fitted(learnt)
        splits = {name: _tensor_split(name, task, *pair) for name, pair in given.items() if pair is not None}
        shapes = [tuple(t.shape[1:]) for t in splits["train"].inputs]
        super().__init__(task, batch_size, TensorPreprocessor(shapes), splits)

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> ItemLoader:
        """See `Data.loader`; tensors have no augmented views."""
        rows = self._split(split)
        return tensor_loader(rows.inputs, rows.target, self.batch_size, shuffle=training)

    def ids(self, split: SplitName) -> Sequence[str]:
        """Row numbers."""
        return [str(i) for i in range(len(self._split(split)))]

    def plain_inputs(self, split: SplitName) -> PlainInputs | None:
        """See `Data.plain_inputs`: the numbers of each row, where there is one input and it has fractions."""
        first, *more = self._split(split).inputs
        return None if more or not first.is_floating_point() else PlainInputs(first.detach().cpu().flatten(1).numpy())

    def fingerprint(self, split: SplitName) -> str:
        """See `Data.fingerprint`: of the contents."""
        rows = self._split(split)
        return content_of(*rows.inputs, rows.target)

    def __repr__(self) -> str:
        shapes = " and ".join(str(tuple(t.shape[1:])) for t in self._splits["train"].inputs)
        counts = ", ".join(f"{name} {len(rows):,}" for name, rows in self._splits.items())
        return f"TensorData: {self.task}, rows of shape {shapes}, batches of {self.batch_size}; {counts}"

    def item_keys(self, split: SplitName, positions: Sequence[int] | None = None) -> list[str]:
        """See `Data.item_keys`: of the contents of each row."""
        inputs = self._split(split).inputs
        return row_keys(inputs if positions is None else [t[torch.as_tensor(positions)] for t in inputs])


def row_keys(tensors: Sequence[Tensor]) -> list[str]:
    """A fingerprint of each row of some tensors together."""
    like = str([(t.dtype, t.shape[1:]) for t in tensors])
    return [digest([like, *(row.data for row in item)]) for item in zip(*map(_as_bytes, tensors), strict=True)]


def content_of(*tensors: Tensor | None) -> str:
    """A fingerprint of all values of some tensors."""
    given = [t for t in tensors if t is not None]
    return digest([*(f"{t.dtype}{tuple(t.shape)}" for t in given), *(_as_bytes(t).reshape(-1).data for t in given)])


def _as_bytes(rows: Tensor) -> npt.NDArray[np.uint8]:
    """The memory of each row of a tensor, shape (n, bytes)."""
    return rows.cpu().contiguous().reshape(len(rows), math.prod(rows.shape[1:])).view(torch.uint8).numpy()


def _tensor_split(name: SplitName, task: Task, x: Any, y: Any) -> TensorSplit:
    inputs = tuple(_as_input(t) for t in (x if isinstance(x, tuple) else (x,)))
    target = None if y is None else torch.as_tensor(y)
    lengths = [len(t) for t in (*inputs, *(() if target is None else (target,)))]
    if len(set(lengths)) != 1:
        raise DataError(f"{name}: inputs and target must have the same number of rows, got {lengths}")
    if not isinstance(task, Task):
        raise ArgumentError(f"a task is made, such as single_label(['cat', 'dog']) or regression(), got {task!r}")
    if target is not None and lengths[0]:
        target = task.check_target(target)
    return TensorSplit(inputs, target)


def _as_input(values: Any) -> Tensor:
    """A tensor; NumPy's default of float64 becomes what models compute in."""
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"expected a tensor or an array of numbers, got a {type(values).__name__}: {error}") from error
    return tensor.float() if isinstance(values, np.ndarray) and tensor.dtype == torch.float64 else tensor


def first_outputs(data: Data[Any], target: Tensor | None = None) -> Tensor | None:
    """The outputs (n_out,) of a model that knows how often each class is drawn in training, and nothing of any item.

    None where the task does not say, or nobody knows all targets before they come.

    Args:
        data: made for the model.
        target: of the training items, where the loader does not hold it.

    >>> from easylearn.task import single_label
    >>> rows = torch.zeros(3, 1), torch.tensor([0, 0, 1])
    >>> first_outputs(TensorData(rows, None, single_label(["cat", "dog"]))).exp()
    tensor([0.6250, 0.3750], dtype=torch.float64)
    """
    loader = data.loader("train", training=True)
    weights = None
    if isinstance(loader, ItemLoader):
        target, weights = loader.target, loader.order.weights
    shares = None if weights is None else torch.from_numpy(weights / weights.mean())
    return None if target is None else data.task.first_outputs(target, shares)


class LoaderData(Data[ForeignLoader]):
    """Batches that come ready-made: torch DataLoaders, or lists of (input, target).

    Args:
        train: the training batches.
        valid: the validation batches in a fixed order, or None.
        task: what is predicted.
        test: batches of inputs, or None.
    """

    def __init__(
        self, train: Iterable[Any], valid: Iterable[Any] | None, task: Task, test: Iterable[Any] | None = None
    ) -> None:
        given: dict[SplitName, Iterable[Any] | None] = {"train": train, "valid": valid, "test": test}
        splits = {name: ForeignLoader(of, name != "test") for name, of in given.items() if of is not None}
        super().__init__(task, splits["train"].batch_size, TensorPreprocessor(), splits)

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> Loader:
        """The batches of a split as they come."""
        return self._split(split)

    def ids(self, split: SplitName) -> Sequence[str]:
        """Positions, as the source has no names."""
        return [str(i) for i in range(self._split(split).n_items)]

    def fingerprint(self, split: SplitName) -> str:
        """Refused: nothing is known of the source, so nothing may be reused."""
        self._split(split)
        raise DataError("batches that come ready-made have no identity, so precompute cannot be used with them")
