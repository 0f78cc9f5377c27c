"""What asking a model file costs beside the forward pass: time for one picture and one row, and memory that stays.

    python examples/benchmarks/artefacts.py

A resnet18 with random weights at 128 pixels, asked about a JPEG file of 500 x 375, and a table model of five columns,
asked about a dictionary. `Predictor.predict` takes turns with the bare steps (decode, normalise, forward; or look up
codes, forward), on one thread, several calls each; medians [least, most] of the repeats, and their ratio. Memory is the
resident set after a warm-up and in the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from PIL import Image

from easylearn import ImageData, TabularData, load_predictor, tabular_learner, vision_learner
from easylearn.tabular.preprocess import TablePreprocessor
from easylearn.vision.preprocess import ImagePreprocessor


def picture(path: Path) -> Path:
    """A smooth picture with some noise, as large as ImageNet's are."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 9, 375))[:, None, None] * np.cos(np.linspace(0, 7, 500))[None, :, None]
    pixels = 128 + 90 * waves * np.array([1, 0.5, -0.7]) + rng.normal(0, 6, (375, 500, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def image_file(folder: Path) -> Path:
    x = np.random.default_rng(0).integers(0, 255, (8, 128, 128, 3), dtype=np.uint8)
    data = ImageData.from_arrays((x[:4], list("abab")), (x[4:], list("abab")), size=128, batch_size=4, workers=0)
    learn = vision_learner(data, "resnet18", pretrained=False, device="cpu", progress=False)
    return learn.export(folder / "images").path


def table_file(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    n = 2000
    df = pd.DataFrame(
        {
            "shop": rng.choice(list("abcdefgh"), n), "day": rng.integers(0, 7, n), "size": rng.normal(50, 7, n),
            "rain": rng.random(n), "wind": rng.random(n), "label": rng.choice(["yes", "no"], n),
        }
    )  # fmt: skip
    data = TabularData.from_df(df, "label", cat_names=["shop", "day"], cont_names=["size", "rain", "wind"])
    learn = tabular_learner(data, [200, 100], device="cpu", progress=False)
    return learn.export(folder / "table").path


def resident() -> float:
    """Megabytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def compare(name: str, asked: Callable[[], object], bare: Callable[[], object], calls: int, repeats: int) -> None:
    times: dict[Callable[[], object], list[float]] = {asked: [], bare: []}
    for repeat in range(repeats + 1):
        for call in (asked, bare) if repeat % 2 else (bare, asked):
            begun = time.perf_counter()
            for _ in range(calls):
                call()
            if repeat:  # the first one warms up
                times[call].append(1000 * (time.perf_counter() - begun) / calls)
    shown = {c: f"{median(t):.3f} [{min(t):.3f}, {max(t):.3f}] ms" for c, t in times.items()}
    ratio = median(times[asked]) / median(times[bare])
    print(f"{name:6} predict {shown[asked]}, bare {shown[bare]}, ratio {ratio:.2f}", flush=True)


def flat(name: str, asked: Callable[[], object], n: int) -> None:
    for _ in range(max(n // 20, 50)):
        asked()
    before = resident()
    for _ in range(n):
        asked()
    after = resident()
    print(f"{name:6} memory {before:.1f} MB, after {n:,} more predictions {after:.1f} MB ({after / before - 1:+.2%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="how often each is timed (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=10_000, help="predictions of a row (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=1_000, help="predictions of a picture (default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, table = (load_predictor(make(folder), device="cpu") for make in (image_file, table_file))
        file = str(picture(folder / "picture.jpg"))
        row = {"shop": "c", "day": 3, "size": 51.5, "rain": 0.25, "wind": 0.5}
        assert isinstance(images.preprocessor, ImagePreprocessor)
        assert isinstance(table.preprocessor, TablePreprocessor)
        stages, processor = images.preprocessor, table.preprocessor.processor

        @torch.no_grad()
        def bare_picture() -> object:
            logits = images.model(stages.batch_stage.plain(stages.item_stage.load(file)[None]))
            return images.task.decode(images.task.activate(logits))

        @torch.no_grad()
        def bare_row() -> object:
            encoded = processor.transform_row(row)
            assert encoded is not None
            logits = table.model(torch.from_numpy(encoded.cats), torch.from_numpy(encoded.conts))
            return table.task.decode(table.task.activate(logits))

        compare("image", lambda: images.predict(file), bare_picture, 20, chosen.repeats)
        compare("row", lambda: table.predict(row), bare_row, 200, chosen.repeats)
        flat("row", lambda: table.predict(row), chosen.rows)
        flat("image", lambda: images.predict(file), chosen.pictures)


if __name__ == "__main__":
    main()
