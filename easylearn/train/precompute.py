"""Precompute: what a frozen body gives for each item, computed once and kept in a memory-mapped file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import keyed
from ..data.bunch import Data, SplitName
from ..data.order import Loader, tensor_loader
from ..errors import DataError, EasyLearnError
from ..files import atomic_write, cache_dir, digest
from ..nn.body_head import BodyHead
from .strategy import Strategy

_PLAIN = (bool, int, float, str, tuple, type(None))  # strides, kernel sizes, eps: no weights, but they decide, too

LIMIT_BYTES = 10 * 2**30
"""Above this the least recently used features are deleted."""


class FeatureStore:
    """Features of the splits of the data, by everything that they depend on.

    The key holds the body's weights and buffers, the precision, and the data's own fingerprint (each
    file's identity, the transforms, the size): changing any of them finds nothing and computes anew.

    Args:
        folder: where the files are; None takes the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else cache_dir() / "features"
        self._open: dict[str, tuple[Tensor, Tensor]] = {}

    def loader(self, model: BodyHead, data: Data, split: SplitName, strategy: Strategy, shuffle: bool) -> Loader:
        """Batches of (features, target) of one split of the data.

        Args:
            model: its body and pooling give the features.
            data: where the items come from, un-augmented.
            split: "train", "valid" or "test".
            strategy: device and precision.
            shuffle: a new order each epoch.
        """
        body_key = state_digest(model.body, model.pool)
        key = digest(["features-1", body_key, strategy.precision, data.fingerprint(split)])
        if key not in self._open:
            if len(self._open) > 8:
                self._open.clear()
            self._open[key] = self._read(key) or self._compute(key, model, data, split, strategy)
        features, target = self._open[key]
        return tensor_loader([features], target, data.batch_size, shuffle)

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.features.npy", self.folder / f"{key}.target.npy"

    def _read(self, key: str) -> tuple[Tensor, Tensor] | None:
        paths = self._paths(key)
        try:
            features = np.load(paths[0], mmap_mode="c", allow_pickle=False)
            target = np.load(paths[1], allow_pickle=False)
            os.utime(paths[0])
        except (OSError, ValueError, EOFError):
            return None  # not there, or damaged: it is computed anew
        if len(features) != len(target):
            return None
        return torch.from_numpy(features), torch.from_numpy(target)

    def _compute(
        self, key: str, model: BodyHead, data: Data, split: SplitName, strategy: Strategy
    ) -> tuple[Tensor, Tensor]:
        from tqdm.auto import tqdm

        loader = data.loader(split)
        paths = self._paths(key)
        targets: list[Tensor] = []
        done = 0
        # Written, not mapped: on a full disk a write fails with an error, a mapped page with the process.
        with (
            atomic_write(paths[0]) as temporary,
            open(temporary, "wb") as file,
            strategy.evaluating(model),
            keyed.scoped_rng(),
        ):
            with tqdm(total=len(loader), desc=f"precompute {split}", leave=False, unit="batch", disable=None) as bar:
                for batch in loader.batches(strategy.device):
                    if batch.target is None:
                        raise DataError(f"the {split} split has no targets, so nothing can be trained on its features")
                    out = strategy.forward(_Features(model), batch.inputs).float().cpu().contiguous().numpy()
                    if not targets:
                        shape = (loader.n_items, *out.shape[1:])
                        header = {"descr": out.dtype.str, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(file, header)
                    file.write(out.data)
                    done += len(out)
                    targets.append(batch.target.cpu())
                    bar.update()
            if not done or done != loader.n_items:
                raise DataError(f"the {split} split gave {done} of {loader.n_items} items while precomputing")
        target = torch.cat(targets)
        with atomic_write(paths[1]) as temporary, open(temporary, "wb") as file:
            np.save(file, target.numpy(), allow_pickle=False)
        self._evict(keep=key)
        read = self._read(key)
        if read is None:
            raise EasyLearnError(f"the features just written to {paths[0]} cannot be read back; is the disk sound?")
        return read

    def _evict(self, keep: str) -> None:
        files = sorted(self.folder.glob("*.features.npy"), key=lambda f: f.stat().st_mtime)
        total = sum(f.stat().st_size for f in files)
        for file in files:
            if total <= LIMIT_BYTES:
                break
            if file.name.startswith(keep):
                continue
            total -= file.stat().st_size
            with suppress(OSError):
                file.unlink()
                Path(str(file).replace(".features.npy", ".target.npy")).unlink()


class _Features(nn.Module):
    """The body and the pooling of a model, as a module that a strategy can call."""

    def __init__(self, model: BodyHead) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.features(x)


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
