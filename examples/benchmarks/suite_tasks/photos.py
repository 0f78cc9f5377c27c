"""Photographs that nobody needs to download: crops of the two that scikit-learn brings, changed and grained."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, QUALITY = 500, 375, 90
GRAINS = 24  # fields of coarse grain, drawn once: they are the slow part

Pixels = npt.NDArray[np.float32]


def folder_of(n: int) -> Path:
    """Where `n` photographs are kept between runs."""
    return Path(tempfile.gettempdir()) / "easylearn-benchmarks" / f"photos-{n}-{WIDTH}x{HEIGHT}"


def make_photos(n: int, folder: Path | None = None) -> Path:
    """A folder with two class folders of JPEGs in it, made now if it is not there yet.

    Args:
        n: how many.
        folder: where; None is `folder_of(n)`.
    """
    folder = folder_of(n) if folder is None else folder
    if len(list(folder.glob("*/*.jpg"))) >= n:
        return folder
    from PIL import Image
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    originals = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    grains = [_coarse_grain(random) for _ in range(GRAINS)]
    for number in range(n):
        which = number % len(originals)
        original = originals[which]
        share = random.uniform(0.55, 1.0)
        high = original.height * share
        wide = min(high * WIDTH / HEIGHT, original.width)
        high = wide * HEIGHT / WIDTH
        left, top = random.uniform(0, original.width - wide), random.uniform(0, original.height - high)
        cut = original.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(left, top, left + wide, top + high))
        pixels = np.asarray(cut, np.float32)
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        pixels = (pixels - 128) * random.uniform(0.8, 1.2) + 128 + random.uniform(-20, 20)
        coarse = grains[random.integers(GRAINS)][..., None] * random.uniform(2.4, 8.0, 3)
        fine = random.normal(0, 4, pixels.shape)
        file = folder / ("temple", "flower")[which] / f"{number:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels + coarse + fine).clip(0, 255).astype(np.uint8)).save(file, quality=QUALITY)
    return folder


def _coarse_grain(random: np.random.Generator) -> Pixels:
    """Noise whose amplitude falls with its frequency, as that of photographs does; deviation 1."""
    across, down = np.fft.rfftfreq(WIDTH)[None, :], np.fft.fftfreq(HEIGHT)[:, None]
    frequency = np.hypot(across, down)
    frequency[0, 0] = np.inf  # no mean
    waves = np.fft.rfft2(random.standard_normal((HEIGHT, WIDTH))) / frequency
    field = np.fft.irfft2(waves, s=(HEIGHT, WIDTH))
    return (field / field.std()).astype(np.float32)


def files_and_classes(folder: Path) -> tuple[list[str], list[int]]:
    """Paths in order, and the number of each one's class folder."""
    files = sorted(folder.glob("*/*.jpg"))
    classes = sorted({file.parent.name for file in files})
    return [str(file) for file in files], [classes.index(file.parent.name) for file in files]
