"""2018's `ModelData`: loaders of one's own as one object; and a loader that gives rows of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .core import T
from .files import StrPath

Array = npt.NDArray[Any]

__all__ = ["ModelData"]


class ByRows(Protocol):
    """A dataset that gives many rows at once."""

    def __len__(self) -> int: ...

    def batch(self, rows: Any) -> list[Array]:
        """The arrays of some rows, the target last."""
        ...


class RowLoader:
    """Batches of rows of arrays, as lists of tensors.

    Args:
        dataset: the rows.
        batch_size: rows in a batch.
        shuffle: in a new order each time, drawn from torch's global generator; a last batch of one row is then joined
            to the one before, as batch-norm has nothing to compare it with.
    """

    def __init__(self, dataset: ByRows, batch_size: int, shuffle: bool = False) -> None:
        self.dataset, self.batch_size, self.shuffle = dataset, int(batch_size), shuffle

    def __len__(self) -> int:
        n, rest = divmod(len(self.dataset), self.batch_size)
        return n + (rest > (1 if self.shuffle and n else 0))

    def __iter__(self) -> Iterator[list[Tensor]]:
        n = len(self.dataset)
        order = (torch.randperm(n) if self.shuffle else torch.arange(n)).numpy()
        ends = [self.batch_size * (i + 1) for i in range(len(self) - 1)]
        for rows in np.split(order, ends):
            yield [T(column) for column in self.dataset.batch(rows)]


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
