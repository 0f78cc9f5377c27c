"""Precompute: what a frozen body gives for each item, computed once and kept in a memory-mapped file."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .. import keyed
from ..data.branched import BranchedData
from ..data.bunch import Data, SplitName
from ..data.cache import ItemStore, open_store
from ..data.claims import byte_of, claims_in
from ..data.order import Batch, Indices, ItemLoader, Loader, Order, Shard, Subset, TensorSource
from ..data.room import why_full
from ..device import kept_memory
from ..errors import DataError, EasyLearnError, EasyLearnWarning
from ..files import cache_dir, cache_limit, digest
from ..nn.body_head import BodyHead
from ..nn.branched import Branched, stored_branches
from .snapshot import refuse_sharded
from .strategy import Strategy
from .waiting import Waiting

_PLAIN = (bool, int, float, str, tuple, type(None))  # strides, kernel sizes, eps: no weights, but they decide, too
FEATURE_PATIENCE = 600.0  # seconds that a process waits for another that lives, and computes a batch that both want

LIMIT_BYTES = 10 * 2**30
"""Above this, or what the user said instead, features used longest ago are deleted; see `open_store`. Data whose
features take more may have it, where the user said nothing."""

Rows = tuple[Tensor, Indices]  # features of shape (m, ...), and for each item its row among them


class FeatureStore:
    """Features of items, by everything that they depend on.

    They are found by the body's weights and buffers, the precision, and what the item is (its file's identity, the
    size): changing any of them finds nothing and computes anew. Where they cannot be kept in the folder they stay in
    memory.

    Args:
        folder: where the files are; None takes the user's cache folder.

    Attributes:
        progress: tell how far it is where storing takes long; of several processes the main one does.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.progress, self._seconds = False, 0.0
        self.folder = folder if folder is not None else cache_dir() / "features"
        self._open: dict[str, Rows] = {}
        self._told = False
        self._first, self.key = "", ""  # the keys of the first body, and of all that was stored last; see `stored_key`

    def telling(self, progress: bool) -> FeatureStore:
        """The store itself, which from now on tells how far it is, or does not."""
        self.progress = progress
        return self

    def spent(self) -> dict[str, float]:
        """The seconds that storing took since this was asked last, under its name; empty where nothing was stored."""
        seconds, self._seconds = self._seconds, 0.0
        return {"storing features": seconds} if seconds else {}

    def loaders(
        self, model: BodyHead, data: Data[Any], strategy: Strategy, validates: bool = True
    ) -> tuple[Loader, Loader | None]:
        """Those for training and, where there is such a split and somebody `validates`, for that; see `loader`."""
        self.key = key = features_key(model, strategy)
        train = self.loader(model, data, "train", strategy, shuffle=True, key=key)
        validates = validates and "valid" in data.splits
        return train, self.loader(model, data, "valid", strategy, key=key) if validates else None

    def view(
        self, model: nn.Module, data: Data[Any], strategy: Strategy, validates: bool = True
    ) -> tuple[nn.Module, Loader, Loader | None]:
        """What trains on stored features, and its loaders: a head, or a model without the bodies that are frozen.

        Args:
            model: with the bodies.
            data, strategy: as in `loader`.
            validates: store those of the validation items, too; without them there is no loader of these.
        """
        if isinstance(model, BodyHead):
            return model.head, *self.loaders(model, data, strategy, validates)
        assert isinstance(model, Branched) and isinstance(data, BranchedData)
        keys = _branch_keys(model, strategy)
        self.key = _joint_key(keys)

        def loader(split: SplitName) -> ItemLoader:
            instead = {}
            for name, key in keys.items():
                features, rows = self._rows(_body_of(model, name), data.branches[name], split, strategy, key)
                instead[name] = TensorSource([features], rows)
            return data.loader_of(split, instead, split == "train")

        validates = validates and "valid" in data.splits
        return model.on_features(tuple(keys)), loader("train"), loader("valid") if validates else None

    def loader(
        self,
        model: BodyHead,
        data: Data[Any],
        split: SplitName,
        strategy: Strategy,
        shuffle: bool = False,
        key: str | None = None,
    ) -> Loader:
        """Batches of (features, target) of one split of the data.

        Args:
            model: its body and pooling give the features.
            data: where the items come from, un-augmented.
            split: "train", "valid" or "test".
            strategy: device and precision.
            shuffle: a new order each epoch.
            key: the `features_key` of model and strategy, if it is known.
        """
        target = _targets(data.loader(split))
        if target is None:
            raise DataError(f"the {split} split has no targets, so nothing can be trained on its features")
        features, rows = self._rows(model, data, split, strategy, key)
        own = data.loader(split, training=shuffle)
        order = own.order if isinstance(own, ItemLoader) else Order(len(rows), data.batch_size, shuffle)
        return ItemLoader(order, TensorSource([features], rows), target)

    def table(self, model: BodyHead, data: Data[Any], split: SplitName, strategy: Strategy) -> Tensor:
        """The features of all items of a split, in file order; arguments as of `loader`."""
        features, rows = self._rows(model, data, split, strategy, None)
        return features[torch.from_numpy(rows)]

    def first_table(self, data: Data[Any], split: SplitName) -> Tensor | None:
        """The same of the first body that anything was asked of, before it was trained; None where not all are open."""
        found = self._open.get(digest([self._first, *data.item_keys(split)]))
        return None if found is None else found[0][torch.from_numpy(found[1])]

    def _rows(self, model: BodyHead, data: Data[Any], split: SplitName, strategy: Strategy, key: str | None) -> Rows:
        shown = self.progress and strategy.is_main
        filling = _Filling(self.folder, key or features_key(model, strategy), model, data, split, strategy, shown)
        self._first = self._first or filling.key
        name = digest([filling.key, *filling.item_keys])
        if name not in self._open:
            if len(self._open) > 8:
                self._open.clear()
            self._open[name] = filling.rows()
            self._seconds += filling.seconds
            if not filling.kept and not self._told:
                self._told = True
                warnings.warn(
                    f"the features could not be kept in {self.folder}, so they stay in memory and are computed anew "
                    f"by the next process: {why_full(self.folder, cache_limit(LIMIT_BYTES))}",
                    EasyLearnWarning,
                    stacklevel=5,
                )
        return self._open[name]


@dataclass
class _Filling:
    """Finds the features of one split of the data, and computes those that are missing.

    Args:
        folder: where stores are kept.
        key: see `features_key`.
        model: its body and pooling give the features.
        data: where the items come from.
        split: "train", "valid" or "test".
        strategy: device and precision.
        shown: tell how far it is.
    """

    folder: Path
    key: str
    model: BodyHead
    data: Data[Any]
    split: SplitName
    strategy: Strategy
    shown: bool
    kept: bool = True
    seconds: float = 0.0
    _store: ItemStore | None = None
    _spare: dict[int, Tensor] = field(default_factory=dict)  # what is not in the store
    _excused: set[int] = field(default_factory=set)  # what need not be: changed, or waited for in vain

    def __post_init__(self) -> None:
        self.item_keys = self.data.item_keys(self.split)

    def rows(self) -> Rows:
        """The features of all items."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._store = self._opened(None)
        missing = self._missing()
        if len(missing):
            begun = time.perf_counter()
            self._compute(missing)
            self.seconds = time.perf_counter() - begun
        store = self._store
        self.kept = store is not None and store.path.is_file() and self._spare.keys() <= self._excused
        table = store.table() if store is not None and not self._spare else None
        if store is not None and table is not None:
            return torch.from_numpy(table), store.slots
        n = len(self.item_keys)
        spare = self._spare.pop(0, None)
        first = self._stored(0) if spare is None else spare
        every = first.new_empty((n, *first.shape))  # filled while the single ones go: memory may not hold both
        every[0] = first
        for i in range(1, n):
            spare = self._spare.pop(i, None)
            every[i] = self._stored(i) if spare is None else spare
        return every, np.arange(n)

    def _stored(self, i: int) -> Tensor:
        found = self._store.get(i) if self._store is not None else None
        if found is None:
            raise EasyLearnError(f"features just written to {self.folder} cannot be read back; is the disk sound?")
        return torch.from_numpy(found.copy())

    def _opened(self, slot_bytes: int | None) -> ItemStore | None:
        said = cache_limit(0)  # by the user, who meant all data
        n_items = 0 if said else sum(len(self.data.ids(split)) for split in self.data.splits)
        return open_store(self.key, self.item_keys, slot_bytes, self.folder, said or LIMIT_BYTES, n_items)

    def _missing(self) -> Indices:
        there = np.zeros(len(self.item_keys), bool) if self._store is None else self._store.sound()
        there[list(self._spare)] = True
        return np.flatnonzero(~there)

    def _compute(self, missing: Indices) -> None:
        for alone in (False, False, True):
            loader = _some(self.data.loader(self.split), missing)
            wait = Waiting(f"precompute {self.split}", len(missing), self.shown)
            with wait, kept_memory(self.strategy.device), self.strategy.evaluating(self.model), keyed.scoped_rng():
                with closing(loader.batches(self.strategy.device)) as batches:
                    for batch in batches:
                        self._add(batch.inputs, missing[batch.index.numpy()].tolist(), loader.batch_size, alone)
                        wait.add(len(batch.index))
            if wait.done != len(missing):
                raise DataError(f"the {self.split} split gave {wait.done} of {len(missing)} items while precomputing")
            missing = self._missing()
            if self._store is not None and len(missing):  # others are computing them, or have ended meanwhile
                self._store.wait(missing.tolist(), FEATURE_PATIENCE)
                missing = self._missing()
            if not len(missing):
                return

    def _add(self, inputs: tuple[Tensor, ...], items: list[int], size: int, alone: bool) -> None:
        """Compute and keep what nobody else computes of one batch; `alone`: all of it that is not there."""
        row_of = {i: row for row, i in enumerate(items)}

        def make(some: Sequence[int]) -> list[npt.NDArray[Any]]:
            return list(self._features(inputs, np.array([row_of[i] for i in some]), size).numpy())

        if self._store is None and self.kept:  # how long a row is shows at the first batch: one process finds out
            with claims_in(self.folder).hold(byte_of(self.key), FEATURE_PATIENCE):
                self._store = self._opened(None)
                if self._store is None:
                    first = make(items)
                    self._store = self._opened(first[0].nbytes)
                    self.kept = self._store is not None
                    self._keep(items, lambda some: [first[row_of[i]] for i in some], alone)
                    return
        self._keep(items, make, alone)

    def _keep(self, items: list[int], make: Callable[[Sequence[int]], list[npt.NDArray[Any]]], alone: bool) -> None:
        store = self._store
        if store is None or alone:
            items = [i for i in items if i not in self._spare and (store is None or store.get(i) is None)]
            found: Sequence[npt.NDArray[Any] | None] = make(items) if items else []
            self._excused.update(items if alone else ())
        else:
            found = store.fetch(items, make, self._keys_now, wait=False)
        for i, row in zip(items, found, strict=True):
            if row is not None and (store is None or not store.whole[i]):
                self._spare[i] = torch.from_numpy(row)

    def _keys_now(self, items: Sequence[int]) -> Sequence[str]:
        keys = self.data.item_keys(self.split, items)
        self._excused |= {i for i, key in zip(items, keys, strict=True) if key != self.item_keys[i]}
        return keys

    def _features(self, inputs: tuple[Tensor, ...], rows: Indices, size: int) -> Tensor:
        """What the body gives for some rows of a batch, on the CPU.

        The batch is filled up to its full size: others may go through other kernels, and what an item gives must not
        depend, in its last bits, on which other items were there already.
        """
        index, size = torch.from_numpy(rows), max(size, len(inputs[0]))
        if len(rows) < size:
            others = torch.ones(size, dtype=torch.bool)
            others[index] = False
            inputs = tuple(torch.cat([x, *[torch.zeros_like(x[:1])] * (size - len(x))]) for x in inputs)
            for x in inputs:
                x[others.to(x.device)] = 0
        out = self.strategy.forward(_Features(self.model), inputs)
        return out[index.to(out.device)].to(self.model.feature_dtype).cpu().contiguous()


def _body_of(model: Branched, name: str) -> BodyHead:
    found = model.branches[name]
    assert isinstance(found, BodyHead)
    return found


def _targets(loader: Loader) -> Tensor | None:
    """The targets of a loader's items, in order."""
    if isinstance(loader, ItemLoader):
        return loader.target
    batches = [(batch.index, batch.target) for batch in loader.batches(torch.device("cpu"))]
    known = [target for _, target in batches if target is not None]
    return torch.cat(known)[torch.cat([index for index, _ in batches]).argsort()] if known else None


def _some(loader: Loader, items: Indices) -> Loader:
    """A loader of some of a loader's items; `Batch.index` counts among them."""
    if isinstance(loader, ItemLoader):
        return ItemLoader(Order(len(items), loader.batch_size), Subset(loader.source, items))
    return _Some(loader, items)


class _Some:
    """Some items of a loader that only gives all of them."""

    def __init__(self, loader: Loader, items: Indices) -> None:
        self.batch_size = loader.batch_size
        self.n_items = len(items)
        self._loader = loader
        self._items = torch.from_numpy(items)

    def __len__(self) -> int:
        return len(self._loader)

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0, shard: Shard = (0, 1)
    ) -> Generator[Batch, None, None]:
        """See `Loader.batches`."""
        with closing(self._loader.batches(device, seed, epoch, start, shard)) as batches:
            for batch in batches:
                at = torch.searchsorted(self._items, batch.index).clamp_(max=len(self._items) - 1)
                wanted = self._items[at] == batch.index
                if wanted.any():
                    yield Batch(tuple(x[wanted.to(x.device)] for x in batch.inputs), None, at[wanted])


class _Features(nn.Module):
    """The body and the pooling of a model, as a module that a strategy can call."""

    def __init__(self, model: BodyHead) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.features(*inputs)


def features_key(model: BodyHead, strategy: Strategy) -> str:
    """Names all that the features of an item depend on, but for the item."""
    refuse_sharded(model, "precompute, which runs the body by itself,")
    return digest(["features-2", state_digest(model.body, model.pool), strategy.precision])


def stored_key(model: nn.Module, strategy: Strategy) -> str:
    """Names all that the features depend on that are stored of a model, but for the items; "" where none are."""
    if isinstance(model, Branched):
        return _joint_key(_branch_keys(model, strategy))
    return features_key(model, strategy) if isinstance(model, BodyHead) else ""


def _branch_keys(model: Branched, strategy: Strategy) -> dict[str, str]:
    return {name: features_key(_body_of(model, name), strategy) for name in stored_branches(model)}


def _joint_key(keys: Mapping[str, str]) -> str:
    return digest([f"{name} {key}" for name, key in keys.items()]) if keys else ""


def state_digest(*modules: nn.Module) -> str:
    """A fingerprint of what modules compute: their structure with its plain settings, all weights and buffers."""
    parts: list[str | bytes | memoryview] = []
    for module in modules:
        for name, layer in module.named_modules():
            plain = {k: v for k, v in vars(layer).items() if k != "training" and isinstance(v, _PLAIN)}
            parts.append(f"{name} {type(layer).__module__}.{type(layer).__qualname__} {sorted(plain.items())}")
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            array = value.detach().cpu().contiguous()
            parts.append(f"{name} {array.dtype} {tuple(array.shape)}")
            parts.append(array.view(-1).view(torch.uint8).numpy().data)
    return digest(parts)
