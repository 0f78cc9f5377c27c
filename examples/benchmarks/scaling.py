"""Time and memory against size: pictures, rows of a table, rows of a parquet file that is streamed, and tokens.

    python examples/benchmarks/scaling.py --out plots  # up to 10,000 pictures, 10^6 rows, 10^7 tokens
    python examples/benchmarks/scaling.py --full       # 50,000 pictures, 10^7 rows and 10^8 tokens, too
    python examples/benchmarks/scaling.py --kinds images --pictures DIR  # DIR/<class>/*.jpg, such as CIFAR's

Each size has a fresh process. Memory is the most that was taken beyond the imports; for rows in memory beyond the
DataFrame, too. No model is trained but for rows, so that nothing hides what the data costs. One PNG per kind, both axes
logarithmic; a slope of 1 is linear, 0 is flat.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from suite_tasks.memory import Peak

SIZES = {
    "images": [100, 1000, 10_000],
    "rows": [10_000, 100_000, 1_000_000],
    "parquet": [10_000, 100_000, 1_000_000],
    "tokens": [100_000, 1_000_000, 10_000_000],
}
FULL = {"images": [50_000], "rows": [10_000_000], "parquet": [10_000_000], "tokens": [100_000_000]}
QUICK = {"images": [20, 60], "rows": [1000, 4000], "parquet": [1000, 4000], "tokens": [5000, 20_000]}
UNITS = {"images": "pictures", "rows": "rows", "parquet": "streamed rows", "tokens": "tokens"}
CHUNK = 250_000  # rows of a parquet file that are made at a time
Found = dict[str, float]
CPU = "cpu"


# -- one size, in a process of its own -----------------------------------------------------------------------


def timed(found: Found, name: str, what: Callable[[], Any]) -> Any:
    begun = time.perf_counter()
    result = what()
    found[name] = time.perf_counter() - begun
    return result


def drain(loader: Any, epoch: int) -> None:
    import torch

    for _ in loader.batches(torch.device(CPU), epoch=epoch):
        pass


def images(n: int, folder: Path, pictures: Path | None) -> Found:
    """List the files; decode, keep and augment them; augment what was kept."""
    from easylearn import ImageData

    common: dict[str, Any] = {"augment": "side_on", "crop_pct": 1.0}
    source = picture_folder(n, folder) if pictures is None else pictures
    files = sorted(file for file in source.glob("*/*") if file.suffix in (".png", ".jpg", ".jpeg"))
    if len(files) < n:
        raise SystemExit(f"{source} has {len(files)} pictures in class folders, {n} are wanted")
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, n).astype(int)]  # of all classes
    names, labels = [str(f.relative_to(source)) for f in chosen], [f.parent.name for f in chosen]
    few = ImageData.from_names(source, names[:10], ["a", "b"] * 5, 32, cache=False, **common)
    drain(few.loader("train", training=True), 0)  # what is imported on first use is not counted
    found: Found = {}
    peak = Peak()
    data = timed(
        found, "list files", lambda: ImageData.from_names(source, names, labels, 32, cache=folder / "kept", **common)
    )
    loader = data.loader("train", training=True)
    timed(found, "first epoch", lambda: drain(loader, 0))
    timed(found, "second epoch", lambda: drain(loader, 1))
    found["peak_mb"] = peak.megabytes()
    return found


def picture_folder(n: int, folder: Path) -> Path:
    """Small PNGs that differ, made by hand."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("light", "dark"):
        (folder / "pictures" / name).mkdir(parents=True)
    for i in range(n):
        pixels = random.integers(0, 128, (8, 8, 3), dtype=np.uint8) + np.uint8(127 * (i % 2))
        file = folder / "pictures" / ("dark", "light")[i % 2] / f"{i:06d}.png"
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR).save(file)
    return folder / "pictures"


CATS, CONTS = ["shop", "day", "kind"], ["price", "stock", "rain"]


def table(n: int, seed: int = 0) -> Any:
    import pandas as pd

    random = np.random.default_rng(seed)
    levels = zip(CATS, (1000, 7, 40), strict=True)
    columns: dict[str, Any] = {name: random.integers(0, k, n).astype("U4").astype(object) for name, k in levels}
    columns |= {name: random.normal(size=n) for name in CONTS}
    columns["sold"] = np.where(columns["price"] + random.normal(size=n) > 0, "yes", "no").astype(object)
    return pd.DataFrame(columns)


TABLE: dict[str, Any] = {"cat_names": CATS, "cont_names": CONTS, "valid": 0.02, "task": "single_label"}


def epoch_of(data: Any, found: Found) -> None:
    from easylearn import tabular_learner

    learn = tabular_learner(data, [50], device=CPU, progress=False)
    timed(found, "one epoch", lambda: learn.fit(1e-3, 1, cycle_len=None))


def rows(n: int, _folder: Path, _pictures: Path | None) -> Found:
    """A DataFrame to numbers, and an epoch of a small network."""
    from easylearn import TabularData

    frame, few = table(n), table(200)
    epoch_of(TabularData.from_df(few, "sold", **TABLE), {})  # what is imported on first use
    found: Found = {}
    peak = Peak()
    data = timed(found, "prepare", lambda: TabularData.from_df(frame, "sold", batch_size=1024, **TABLE))
    epoch_of(data, found)
    found["peak_mb"] = peak.megabytes()
    return found


def parquet(n: int, folder: Path, _pictures: Path | None) -> Found:
    """The same out of a file that is never wholly in memory."""
    from easylearn import TabularData

    file = folder / "table.parquet"
    write_parquet(n, file)
    few = folder / "few.parquet"
    write_parquet(200, few)
    epoch_of(TabularData.from_parquet(few, "sold", stream=True, **TABLE), {})
    found: Found = {}
    peak = Peak()
    data = timed(
        found, "prepare", lambda: TabularData.from_parquet(file, "sold", stream=True, batch_size=1024, **TABLE)
    )
    epoch_of(data, found)
    found["peak_mb"] = peak.megabytes()
    return found


def write_parquet(n: int, file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for seed, first in enumerate(range(0, n, CHUNK)):
        piece = pa.Table.from_pandas(table(min(CHUNK, n - first), seed), preserve_index=False)
        if writer is None:
            writer = pq.ParquetWriter(file, piece.schema)
        writer.write_table(piece)
    if writer is not None:
        writer.close()


def tokens(n: int, folder: Path, _pictures: Path | None) -> Found:
    """Text files to numbers, and once through the windows of a language model."""
    from easylearn import TextLMData

    texts = folder / "texts"
    write_texts(n, texts)
    few = TextLMData.from_lists(["some words of one text"] * 20, batch_size=2, progress=False)
    drain(few.loader("train", training=True), 0)
    found: Found = {}
    peak = Peak()
    data = timed(found, "read and number", lambda: TextLMData.from_folder(texts, valid=0.02, progress=False))
    timed(found, "one epoch", lambda: drain(data.loader("train", training=True), 0))
    found["peak_mb"] = peak.megabytes()
    return found


def write_texts(n: int, folder: Path) -> None:
    """Files of 5,000 words that follow Zipf's law, `n` in all; at least ten files, so that some can validate."""
    random = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(20_000)], dtype=object)
    share = 1 / np.arange(1, len(words) + 1)
    each = min(5000, n // 10)
    folder.mkdir()
    for number in range(n // each):
        chosen = words[random.choice(len(words), each, p=share / share.sum())]
        (folder / f"{number:06d}.txt").write_text(" ".join(chosen), encoding="utf-8")


KINDS = {"images": images, "rows": rows, "parquet": parquet, "tokens": tokens}


# -- all sizes -----------------------------------------------------------------------------------------------


def one_size(kind: str, n: int, pictures: Path | None) -> Found:
    """In a fresh process and a folder that goes."""
    with tempfile.TemporaryDirectory(prefix="easylearn-scaling-") as folder:
        command = [sys.executable, __file__, "--one", kind, str(n), folder]
        if pictures is not None:
            command += ["--pictures", str(pictures)]
        environment = {**os.environ, "EASYLEARN_CACHE": str(Path(folder) / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{kind}, {n:,}: {done.stderr}")
        found: Found = json.loads(done.stdout.splitlines()[-1])
        return found


def slope(sizes: list[int], values: list[float]) -> float:
    """Of the line through the logarithms: 1 is linear, 0 is flat."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])


def draw(kind: str, found: dict[int, Found], file: Path) -> list[str]:
    """Two panels, seconds and megabytes; returns a line per curve with its slopes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    sizes = sorted(found)
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    lines = []
    for name in found[sizes[0]]:
        values = [found[n][name] for n in sizes]
        if any(v != v for v in values):
            continue
        is_memory = name == "peak_mb"
        whole, last = slope(sizes, values), slope(sizes[-2:], values[-2:])
        label = "peak" if is_memory else name
        unit = "MB" if is_memory else "s"
        written = ", ".join(f"{v:.3g}" for v in values)
        lines.append(f"{kind}, {label}: {written} {unit}; slope {whole:.2f}, between the last two {last:.2f}")
        panels[int(is_memory)].loglog(sizes, values, "o-", label=f"{label}: slope {whole:.2f}, last {last:.2f}")
    for axes, title in zip(panels, ("seconds", "peak, MB"), strict=True):
        axes.set(xlabel=UNITS[kind], title=title)
        axes.grid(True, which="both", alpha=0.2)
        axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--pictures", type=Path, help="class folders with pictures, instead of made-up ones")
    parser.add_argument("--out", type=Path, default=Path("scaling"), help="folder for plots and figures")
    parser.add_argument("--full", action="store_true", help="the largest sizes, too: long, and several GB of memory")
    parser.add_argument("--quick", action="store_true", help="two small sizes of each, to see that it runs")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        kind, n, folder = chosen.one
        print(json.dumps(KINDS[kind](int(n), Path(folder), chosen.pictures)))
        return
    if "parquet" in chosen.kinds and find_spec("pyarrow") is None:
        print('parquet is left out: it needs pyarrow, pip install "easylearn[parquet]"', file=sys.stderr)
        chosen.kinds.remove("parquet")
    chosen.out.mkdir(parents=True, exist_ok=True)
    everything: dict[str, dict[int, Found]] = {}
    for kind in chosen.kinds:
        sizes = QUICK[kind] if chosen.quick else [*SIZES[kind], *(FULL[kind] if chosen.full else [])]
        if kind == "images" and chosen.pictures is not None and not chosen.quick:
            n_files = sum(1 for _ in chosen.pictures.glob("*/*"))
            sizes = [*(n for n in SIZES[kind] if n < n_files), n_files]
        everything[kind] = {n: one_size(kind, n, chosen.pictures) for n in sizes}
        print("\n".join(draw(kind, everything[kind], chosen.out / f"{kind}.png")), flush=True)
        (chosen.out / "scaling.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
