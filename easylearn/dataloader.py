"""The 2018 loaders: batches that a loop of one's own can go through, `for *xs, y in md.trn_dl`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .core import T
from .errors import ArgumentError
from .files import StrPath
from .options import strict

Array = npt.NDArray[Any]

__all__ = ["DataLoader", "ModelData"]


@runtime_checkable
class ByBatch(Protocol):
    """A dataset that gives many rows at once."""

    def batch(self, rows: Any) -> list[Array]:
        """The arrays of some rows, the target last."""
        ...


class DataLoader:
    """Batches of a dataset as lists of tensors, the target last.

    Args:
        dataset: has a length, and gives the item (x, ..., y) at a position.
        batch_size: items in a batch.
        shuffle: in a new order each time, drawn from torch's global generator.
        sampler: gives the order instead.
        batch_sampler: gives the positions of each batch instead.
        pad_idx: what sequences of unequal length are filled up with.
        num_workers, pin_memory, collate_fn: not used; they are here because notebooks give them.
        drop_last: leave out a last batch that is not full.
        pre_pad: fill up before the sequence, not behind it.
        half: floats of 16 bits.
        transpose, transpose_y: inputs, or targets, with the sequence along the first axis.

    >>> next(iter(DataLoader([([1, 2], 0), ([3], 1)], batch_size=2, pad_idx=9)))
    [tensor([[1, 2],
            [9, 3]]), tensor([0, 1])]
    """

    @strict({"bs": "batch_size"})
    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        pad_idx: float = 0,
        num_workers: int | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        pre_pad: bool = True,
        half: bool = False,
        transpose: bool = False,
        transpose_y: bool = False,
        collate_fn: Any = None,
    ) -> None:
        if shuffle and sampler is not None:
            raise ArgumentError("a sampler says the order by itself: leave out shuffle=True, or sampler=")
        self.dataset, self.batch_size, self.shuffle = dataset, int(batch_size), shuffle
        self.sampler, self.batch_sampler, self.drop_last = sampler, batch_sampler, drop_last
        self.pad_idx, self.pre_pad, self.half = pad_idx, pre_pad, half
        self.transpose, self.transpose_y = transpose, transpose_y

    def __len__(self) -> int:
        if self.batch_sampler is not None:
            return len(list(self.batch_sampler))
        n, rest = divmod(len(self.dataset), self.batch_size)
        # A training batch of one item is joined to the one before: batch-norm has nothing to compare it with.
        alone = self.shuffle and rest == 1 and n > 0
        return n + (rest > 0 and not self.drop_last and not alone)

    def __iter__(self) -> Iterator[list[Tensor]]:
        for rows in self._rows():
            yield self.get_batch(rows)

    def _rows(self) -> Iterable[Sequence[int]]:
        if self.batch_sampler is not None:
            return self.batch_sampler
        n, size, count = len(self.dataset), self.batch_size, len(self)
        if self.sampler is not None:
            order = list(self.sampler)
        else:
            order = (torch.randperm(n) if self.shuffle else torch.arange(n)).tolist()
        ends = [size * (i + 1) for i in range(count - 1)]
        ends.append(min(size * count, len(order)) if self.drop_last else len(order))
        return [order[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def get_batch(self, rows: Sequence[int]) -> list[Tensor]:
        """The items at some positions, as tensors."""
        if isinstance(self.dataset, ByBatch):
            columns: list[Any] = self.dataset.batch(np.asarray(rows))
        else:
            columns = [self._stacked(column) for column in zip(*(self.dataset[i] for i in rows), strict=True)]
        made = [T(column, self.half, cuda=False) for column in columns]
        if self.transpose:
            made[:-1] = [t.transpose(0, 1) if t.ndim > 1 else t for t in made[:-1]]
        if self.transpose_y and made[-1].ndim > 1:
            made[-1] = made[-1].transpose(0, 1)
        return made

    def _stacked(self, column: Sequence[Any]) -> Any:
        """Items side by side; of sequences the shorter ones filled up."""
        if isinstance(column[0], Tensor):
            return torch.stack(list(column))
        items = [np.asarray(item) for item in column]
        if len({item.shape for item in items}) > 1 and items[0].ndim:
            longest = max(map(len, items))
            fill = [(longest - len(i), 0) if self.pre_pad else (0, longest - len(i)) for i in items]
            items = [
                np.pad(i, [f, *[(0, 0)] * (i.ndim - 1)], constant_values=self.pad_idx)
                for i, f in zip(items, fill, strict=True)
            ]
        return np.stack(items)


class ModelData:
    """Loaders for training, validation and maybe test, as one object.

    Args:
        path: `<path>/models` is where weights are saved.
        trn_dl, val_dl, test_dl: give batches (x, ..., y) anew each time they are iterated; they have a length, and a
            `dataset` that `trn_ds` and the like give.
    """

    path: Path
    trn_dl: Any
    val_dl: Any
    test_dl: Any

    def __init__(self, path: StrPath, trn_dl: Any, val_dl: Any, test_dl: Any = None) -> None:
        self.path = Path(path)
        self.trn_dl, self.val_dl, self.test_dl = trn_dl, val_dl, test_dl

    @classmethod
    def from_dls(cls, path: StrPath, trn_dl: Any, val_dl: Any, test_dl: Any = None) -> ModelData:
        """The same by its other name."""
        return ModelData(path, trn_dl, val_dl, test_dl)

    @property
    def trn_ds(self) -> Any:
        """What the training batches are made of."""
        return self.trn_dl.dataset

    @property
    def val_ds(self) -> Any:
        """What the validation batches are made of; None without any."""
        return None if self.val_dl is None else self.val_dl.dataset

    @property
    def test_ds(self) -> Any:
        """What the test batches are made of; None without any."""
        return None if self.test_dl is None else self.test_dl.dataset

    @property
    def trn_y(self) -> Any:
        """Training targets."""
        return self.trn_ds.y

    @property
    def val_y(self) -> Any:
        """Validation targets."""
        return self.val_ds.y

    @property
    def is_reg(self) -> bool:
        """Whether targets are numbers."""
        return bool(self.trn_ds.is_reg)

    @property
    def is_multi(self) -> bool:
        """Whether items have several labels."""
        return bool(self.trn_ds.is_multi)

    @property
    def bs(self) -> int:
        """Items in a training batch."""
        return int(self.trn_dl.batch_size)
