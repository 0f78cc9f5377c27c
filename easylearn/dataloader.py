"""2018's `fastai.dataloader`, and the loaders and targets of any data under their names of 2018."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.utils.data
from torch import Tensor

from .core import T, to_gpu
from .data.bunch import Data, SplitName
from .data.loaders import ForeignLoader, LoaderData
from .data.order import Loader
from .errors import DataError
from .metrics import Metric
from .task import Task

__all__ = ["DataLoader"]

Array = npt.NDArray[Any]


class DataLoader(torch.utils.data.DataLoader[Any]):
    """torch's, with sequences of unequal length padded, on the GPU if there is one.

    Args:
        dataset: gives (x, ..., y) by position.
        batch_size, shuffle, sampler, batch_sampler, drop_last: torch's.
        pad_idx: what fills up short sequences.
        num_workers, pin_memory, half: say nothing.
        pre_pad: fill up in front.
        transpose: x with its first two dimensions exchanged.
        transpose_y: y likewise.
    """

    def __init__(
        self, dataset: Any, batch_size: int = 1, shuffle: bool = False, sampler: Any = None, batch_sampler: Any = None,
        pad_idx: int = 0, num_workers: int | None = None, pin_memory: bool = False, drop_last: bool = False,
        pre_pad: bool = True, half: bool = False, transpose: bool = False, transpose_y: bool = False,
    ) -> None:  # fmt: skip
        self.pad_idx, self.pre_pad, self.turned = pad_idx, pre_pad, (transpose, transpose_y)
        super().__init__(dataset, batch_size, shuffle, sampler, batch_sampler, 0, self._together, drop_last=drop_last)

    def _together(self, items: Sequence[Any]) -> list[Any]:
        columns = [self._column(column) for column in zip(*items, strict=True)]
        for at, turn in zip((0, -1), self.turned, strict=True):
            columns[at] = columns[at].transpose(0, 1) if turn else columns[at]
        return columns

    def _column(self, values: Sequence[Any]) -> Any:
        if isinstance(values[0], str):
            return list(values)
        if isinstance(values[0], tuple):
            return [self._column(column) for column in zip(*values, strict=True)]
        rows = [np.asarray(v) for v in values]
        longest = max(row.shape[0] if row.ndim else 0 for row in rows)
        if rows[0].ndim == 1 and any(len(row) < longest for row in rows):
            sides = [(longest - len(row), 0) if self.pre_pad else (0, longest - len(row)) for row in rows]
            rows = [np.pad(row, side, constant_values=self.pad_idx) for row, side in zip(rows, sides, strict=True)]
        return T(np.stack(rows))


class Counted(Iterator[Any]):
    """An iterator that says how many items it had at the beginning, as `len(iter(dl))` did.

    Args:
        items: the items.
        n: how many.

    >>> len(Counted(iter("ab"), 2)), list(Counted(iter("ab"), 2))
    (2, ['a', 'b'])
    """

    def __init__(self, items: Iterator[Any], n: int) -> None:
        self.items, self.n = items, n

    def __len__(self) -> int:
        return self.n

    def __next__(self) -> Any:
        return next(self.items)


class Batches:
    """The batches of a split as `data.trn_dl` and the like give them: lists of tensors, inputs first, then the target.

    Each time through it is the next epoch of a training split, and another view of an augmented one. Where the target
    is not known, it is zeros.

    Args:
        data: of the split.
        split: "train", "valid" or "test".
        training: shuffled and augmented.
        augmented: a random view of each item, in order.
    """

    def __init__(self, data: Data07, split: SplitName, training: bool = False, augmented: bool = False) -> None:
        self.data, self.split, self.training, self.augmented = data, split, training, augmented
        self.epoch = 0
        self.own: DataLoader | None = None

    def __len__(self) -> int:
        return len(self.own) if self.own is not None else len(self.data.loader(self.split, training=self.training))

    @property
    def dataset(self) -> Any:
        """The items of the split: `data.trn_ds`, `val_ds` or `test_ds`; others may be put in their place."""
        if self.own is not None:
            return self.own.dataset
        return {"train": self.data.trn_ds, "valid": self.data.val_ds, "test": self.data.test_ds}[self.split]

    @dataset.setter
    def dataset(self, dataset: Any) -> None:
        self.own = DataLoader(dataset, self.batch_size, shuffle=self.training)

    @property
    def batch_size(self) -> int:
        """Items in a batch."""
        return self.data.batch_size

    def __iter__(self) -> Counted:
        return Counted(self._through(), len(self))

    def _through(self) -> Generator[list[Any], None, None]:
        if self.own is not None:
            yield from self.own
            return
        view = int(np.random.default_rng().integers(1, 2**20)) if self.augmented and self.data.has_views else 0
        loader = self.data.loader(self.split, training=self.training, view=view)
        self.epoch += 1
        with closing(loader.batches(to_gpu(torch.empty(0)).device, epoch=self.epoch - 1)) as batches:
            for batch in batches:
                target = torch.zeros(len(batch.index), 1) if batch.target is None else batch.target
                yield [*(x.contiguous() for x in batch.inputs), to_gpu(target)]


class Data07(Data[Any]):
    """What data of every kind has in 2018: loaders, data sets, targets, and what is predicted."""

    def _batches(self, name: str, split: SplitName, training: bool = False, augmented: bool = False) -> Any:
        if split not in self.splits:
            return None
        kept: dict[str, Batches] = vars(self).setdefault("_dls", {})
        if name not in kept or kept[name].data is not self:  # a copy at another size came with the dictionary
            kept[name] = Batches(self, split, training, augmented)
        return kept[name]

    @property
    def is_changed(self) -> bool:
        """Whether somebody put a data set of their own into a loader."""
        return any(dl.own is not None for dl in vars(self).get("_dls", {}).values() if dl.data is self)

    def get_dl(self, ds: Any, shuffle: bool) -> DataLoader | None:
        """The data set `ds` in batches, with `shuffle` in another order each time; None for None."""
        return None if ds is None else DataLoader(ds, self.batch_size, shuffle=shuffle)

    @property
    def trn_dl(self) -> Any:
        """Training batches: shuffled, augmented, others in each epoch."""
        return self._batches("trn", "train", training=True)

    @property
    def val_dl(self) -> Any:
        """Validation batches."""
        return self._batches("val", "valid")

    @property
    def fix_dl(self) -> Any:
        """The training items in their order, as validation has them."""
        return self._batches("fix", "train")

    @property
    def aug_dl(self) -> Any:
        """The validation items, augmented."""
        return self._batches("aug", "valid", augmented=True)

    @property
    def test_dl(self) -> Any:
        """Test batches; None without any."""
        return self._batches("test", "test")

    @property
    def test_aug_dl(self) -> Any:
        """The test items, augmented; None without any."""
        return self._batches("test_aug", "test", augmented=True)

    @property
    def trn_ds(self) -> Any:
        """The training items; what was put in their place, if anything was."""
        return self._own("trn") or self._dataset("train")

    @property
    def val_ds(self) -> Any:
        """The validation items; what was put in their place, if anything was."""
        return self._own("val") or self._dataset("valid")

    def _own(self, name: str) -> Any:
        dl = vars(self).get("_dls", {}).get(name)
        return None if dl is None or dl.data is not self or dl.own is None else dl.own.dataset

    @property
    def test_ds(self) -> Any:
        """The test items; None without any."""
        return self._dataset("test") if "test" in self.splits else None

    def _dataset(self, split: SplitName) -> Any:
        raise DataError(f"{type(self).__name__} has no data sets of 2018")

    @property
    def bs(self) -> int:
        """Items in a batch."""
        return self.batch_size

    @property
    def c(self) -> int:
        """How many numbers a model gives for one item."""
        return self.task.n_out

    @property
    def is_multi(self) -> bool:
        """Whether items have several labels."""
        return self.task.is_multi

    @property
    def is_reg(self) -> bool:
        """Whether targets are numbers."""
        return self.task.predicts_numbers

    @property
    def trn_y(self) -> Array:
        """Training targets."""
        return self._y("train")

    @property
    def val_y(self) -> Array:
        """Validation targets."""
        return self._y("valid")

    def _y(self, split: SplitName) -> Array:
        found: Array | None = self._dataset(split).y
        if found is None:
            raise DataError(f"the {split} split has no targets")
        return found


class Outputs(Task):
    """What a model of one's own gives, compared by a loss of one's own."""

    kind = "outputs"

    def default_metrics(self) -> tuple[Metric, ...]:
        """None."""
        return ()

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean square of each item, which was 2018's loss where nobody gave another."""
        return (logits - target).square().flatten(1).mean(1)

    def activate(self, logits: Tensor) -> Tensor:
        """As they are."""
        return logits

    def decode(self, probs: Tensor) -> list[Any]:
        """As they are."""
        return list(probs)

    def check_target(self, target: Tensor) -> Tensor:
        """As it is."""
        return target


class _Inputs:
    """A loader without its targets."""

    def __init__(self, dl: Any) -> None:
        self.dl, self.batch_size, self.dataset = dl, dl.batch_size, dl.dataset

    def __len__(self) -> int:
        return len(self.dl)

    def __iter__(self) -> Generator[tuple[Any, ...], None, None]:
        for *xs, _ in self.dl:
            yield tuple(xs)


class _Packed(_Inputs):
    """A loader whose targets are lists of tensors, as one tensor that says itself what it holds."""

    def __iter__(self) -> Generator[tuple[Any, ...], None, None]:
        for *xs, y in self.dl:
            widths = [(t.shape[1] if t.ndim > 1 else 0, int(t.is_floating_point())) for t in y]
            head = torch.tensor([len(y), *(v for pair in widths for v in pair)], dtype=torch.float64)
            rows = [t.detach().cpu().double().reshape(len(t), -1) for t in y]
            yield *xs, torch.cat([head.expand(len(rows[0]), -1), *rows], 1)


def targets_of(data: Data[Any], target: Any) -> Any:
    """The `target` that a loss of one's own gets: a list where each item of the `data` has a tuple of them."""
    if not isinstance(data, ForeignData) or not data.several:
        return target
    n = int(target[0, 0])
    widths, floats = (target[0, k : 2 * n + 1 : 2].int().tolist() for k in (1, 2))
    parts = target[:, 2 * n + 1 :].split([max(w, 1) for w in widths], 1)
    typed = [p.float() if is_float else p.long() for p, is_float in zip(parts, floats, strict=True)]
    return [p if w else p[:, 0] for p, w in zip(typed, widths, strict=True)]


class ForeignData(Data07, LoaderData):
    """Data of 2018 that somebody put together, for a learner: `learn.data` has its loaders.

    Args:
        md: has `trn_dl`, `val_dl` and maybe `test_dl`.
    """

    def __init__(self, md: Any) -> None:
        test = getattr(md, "test_dl", None)
        items = getattr(md.trn_dl, "dataset", None)
        self.several = (
            isinstance(items, torch.utils.data.Dataset) and len(items) > 0 and isinstance(items[0][-1], tuple)  # type: ignore[arg-type]
        )
        train, valid = (_Packed(dl) if self.several else dl for dl in (md.trn_dl, md.val_dl))
        super().__init__(train, valid, Outputs(("output",)), None if test is None else _Inputs(test))
        self.md = md
        self.path = md.path

    def _batches(self, name: str, split: SplitName, training: bool = False, augmented: bool = False) -> Any:
        return getattr(self.md, f"{name}_dl", None)

    @property
    def has_views(self) -> bool:
        """Whether validation items come augmented, too."""
        return self.aug_dl is not None

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> Loader:
        """The batches of a split as they come; with a `view` those of `aug_dl` or `test_aug_dl`."""
        changed = {"valid": self.aug_dl, "test": self.test_aug_dl}.get(split) if view else None
        if changed is None:
            return super().loader(split)
        return (
            ForeignLoader(_Packed(changed) if self.several else changed)
            if split == "valid"
            else ForeignLoader(_Inputs(changed), has_target=False)
        )

    def _dataset(self, split: SplitName) -> Any:
        return {"train": self.trn_dl, "valid": self.val_dl, "test": self.test_dl}[split].dataset


def as_data(md: Any) -> Data[Any]:
    """`md` as a learner takes it: data that somebody put together by hand, or changed, becomes `ForeignData`."""
    is_whole = isinstance(md, Data) and not (isinstance(md, Data07) and md.is_changed)
    return md if is_whole else ForeignData(md)
