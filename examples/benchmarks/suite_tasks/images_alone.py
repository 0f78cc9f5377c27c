"""A folder of JPEGs of 500x375 to augmented batches of 224 pixels, without a model and without worker processes.

Mirrored with p 0.5, turned by up to 10 degrees and enlarged by up to 1.1 with p 0.75, brightness and contrast by 0.2.
A repeat is an epoch over all images. Ours is measured in the first epoch, which decodes, and in the second.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from .editions import training_loader
from .photos import files_and_classes
from .settings import Repeat, Settings

WORKERS = 0
BATCH = 64
SIDE, WORKING = 224, 256
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def rate(settings: Settings, batches: Iterable[Any]) -> float:
    """Images per second."""
    begun, n = settings.now(), 0
    for batch in batches:
        pictures = batch[0] if isinstance(batch, tuple | list) else batch.inputs[0]
        assert pictures.shape[1:] == (3, SIDE, SIDE) and pictures.dtype == torch.float32
        n += len(pictures)
    return n / (settings.now() - begun)


# -- by hand -----------------------------------------------------------------------------------------------


class Pictures(Dataset[Any]):
    def __init__(self, settings: Settings, load: Callable[[str], Any]) -> None:
        self.files, self.classes = files_and_classes(settings.photos)
        self.load = load

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.load(self.files[i]), self.classes[i]


def sometimes(n: int, low: float, high: float, p: float = 0.75, otherwise: float = 0.0) -> Tensor:
    """A number per picture: between two bounds with probability p."""
    return torch.where(torch.rand(n) < p, torch.empty(n).uniform_(low, high), otherwise)


def matrices(n: int) -> Tensor:
    """From a place in the result to one in the picture, both -1 to 1, shape (n, 2, 3)."""
    angle = torch.deg2rad(sometimes(n, -10, 10))
    scale = 1 / sometimes(n, 1.0, 1.1, otherwise=1.0)
    mirror = 1 - 2 * (torch.rand(n) < 0.5).float()
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    free = torch.empty(2, n).uniform_(-1, 1) * (1 - scale)
    return torch.stack([cos * mirror, sin, free[0], -sin * mirror, cos, free[1]], 1).view(n, 2, 3)


def lit(x: Tensor) -> Tensor:
    """Light and normalisation of pixels from 0 to 255, as one factor and one summand per picture and channel."""
    n = len(x)
    contrast = torch.exp(sometimes(n, -0.2, 0.2)).view(n, 1, 1, 1)
    brightness = sometimes(n, -0.1, 0.1).view(n, 1, 1, 1)
    factor = contrast / (255 * STD)
    summand = (0.5 * (1 - contrast) + brightness - MEAN) / STD
    return x.mul_(factor).add_(summand)


def stacked(items: list[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
    """Pixels of shape (n, 3, h, w) as floats, and classes."""
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in items]))
    return pixels.permute(0, 3, 1, 2).contiguous().float(), torch.tensor([number for _, number in items])


def shrunk(file: str) -> Any:
    """A random square of the full height, 256 pixels wide."""
    from PIL import Image

    with Image.open(file) as image:
        image.draft("RGB", (WORKING, WORKING))
        side = min(image.size)
        left, top = (np.random.uniform(0, length - side) for length in image.size)
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((WORKING, WORKING), Image.Resampling.BILINEAR, box=box))


def warped(items: list[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
    x, y = stacked(items)
    grid = F.affine_grid(matrices(len(x)), [len(x), 3, SIDE, SIDE], align_corners=True)
    return lit(F.grid_sample(x, grid, padding_mode="reflection", align_corners=True)), y


def plain_loader(settings: Settings, workers: int) -> DataLoader[Any]:
    """Pillow decodes and shrinks each picture; geometry and light are done with the whole batch."""
    return DataLoader(
        Pictures(settings, shrunk), BATCH, shuffle=True, num_workers=workers, collate_fn=warped, drop_last=True
    )


def transformed(file: str) -> Any:
    """Cutting, mirroring, turning, enlarging and shrinking as one affine map of the decoded picture."""
    from PIL import Image

    with Image.open(file) as image:
        image.draft("RGB", (WORKING, WORKING))
        image = image.convert("RGB")
        side = min(image.size)
        x, y = (np.random.uniform(side / 2, length - side / 2) for length in image.size)
        (a, b, dx), (c, d, dy) = (matrices(1)[0] * (side / 2)).tolist()
        # From -1..1 across the result to its pixels: divide by half a side, less one.
        half = SIDE / 2
        coefficients = (a / half, b / half, x + dx - a - b, c / half, d / half, y + dy - c - d)
        made = image.transform((SIDE, SIDE), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        return np.asarray(made)


def only_lit(items: list[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
    x, y = stacked(items)
    return lit(x), y


def best_loader(settings: Settings, workers: int) -> DataLoader[Any]:
    """One affine map per picture. It does not smooth while it shrinks: the quickest way, not the finest."""
    return DataLoader(
        Pictures(settings, transformed), BATCH, shuffle=True, num_workers=workers, collate_fn=only_lit, drop_last=True
    )


# -- libraries ---------------------------------------------------------------------------------------------


def our_rates(settings: Settings, workers: int) -> dict[str, float]:
    """First and second epoch with an empty store."""
    from easylearn import Flip, ImageData, Light, Rotate, Zoom

    store = tempfile.mkdtemp(dir=settings.scratch)
    changes = [Flip(), Rotate(10.0, p=0.75), Zoom(1.1, p=0.75), Light(0.1, 0.2)]
    more = {"augment": changes, "batch_size": BATCH, "workers": workers, "cache": store}
    data = ImageData.from_folder(settings.photos, SIDE, valid=0.01, **more)
    loader, cpu = training_loader(data), torch.device("cpu")
    try:
        return {
            "rate": rate(settings, loader.batches(cpu, epoch=0)),
            "second": rate(settings, loader.batches(cpu, epoch=1)),
        }
    finally:
        shutil.rmtree(store, ignore_errors=True)


def fastai_loader(settings: Settings, workers: int) -> Any:
    from fastai.vision.all import ImageDataLoaders, Normalize, Resize, aug_transforms, imagenet_stats

    changes = aug_transforms(size=SIDE, max_warp=0.0, max_rotate=10, max_zoom=1.1, max_lighting=0.2)
    return ImageDataLoaders.from_folder(
        settings.photos, valid_pct=0.01, seed=0, item_tfms=Resize(WORKING),
        batch_tfms=[*changes, Normalize.from_stats(*imagenet_stats)], bs=BATCH, num_workers=workers,
    ).train  # fmt: skip


def plain(settings: Settings) -> Repeat:
    loader = plain_loader(settings, WORKERS)
    return lambda: {"rate": rate(settings, loader)}


def best(settings: Settings) -> Repeat:
    loader = best_loader(settings, WORKERS)
    return lambda: {"rate": rate(settings, loader)}


def easylearn(settings: Settings) -> Repeat:
    return lambda: our_rates(settings, WORKERS)


def fastai(settings: Settings) -> Repeat:
    loader = fastai_loader(settings, WORKERS)
    return lambda: {"rate": rate(settings, loader)}
