"""Four ways to fine-tune, and the head alone beside them, on few photographs, each for the same number of epochs.

    python examples/benchmarks/finetuning_ways.py PATH     # PATH has train/{cats,dogs} and valid/{cats,dogs}
    python examples/benchmarks/finetuning_ways.py --quick  # stripes of 48 pixels and an untrained net: no result

Each way's rate is the best of `--rates` on photographs of the training folder that no other run sees. Then each seed
draws its own training photographs, trains every way on them from the same head, and validates on all of `valid`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from easylearn import ImageData, Learner, vision_learner


def head_alone(learn: Learner, rate: float, n: int) -> None:
    learn.freeze()
    learn.fit(rate, 1, cycle_len=n)


def all_at_once(learn: Learner, rate: float, n: int) -> None:
    learn.unfreeze()
    learn.fit(rate, 1, cycle_len=n)


def freeze_then_unfreeze(learn: Learner, rate: float, n: int) -> None:
    learn.freeze()
    learn.fit(rate, 1, cycle_len=n // 2)
    learn.unfreeze()
    learn.fit(rate / 10, 1, cycle_len=n - n // 2)


def rate_per_group(learn: Learner, rate: float, n: int) -> None:
    learn.unfreeze()
    learn.fit([rate / 100, rate / 10, rate], 1, cycle_len=n)


def shallow_frozen(learn: Learner, rate: float, n: int) -> None:
    learn.freeze_to(-2)
    learn.fit([0, rate / 10, rate], 1, cycle_len=n)


WAYS: dict[str, Callable[[Learner, float, int], None]] = {
    "head alone": head_alone,
    "new head, train all": all_at_once,
    "freeze, then unfreeze": freeze_then_unfreeze,
    "a rate per group": rate_per_group,
    "shallow part frozen": shallow_frozen,
}


def stripes(folder: Path) -> Path:
    """Lying ones and standing ones, for --quick."""
    for k in range(40):
        place = folder / ("valid" if k >= 30 else "train") / ("lying", "standing")[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = 128 + 100 * np.sin(np.mgrid[:48, :64][k % 2] / (2 + k / 20) + k)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{k:02d}.png")
    return folder


def listed(path: Path, part: str) -> list[list[str]]:
    """The files of a part, one list per class."""
    classes = sorted(p for p in (path / part).iterdir() if p.is_dir())
    return [sorted(str(f.relative_to(path)) for f in c.iterdir() if f.is_file()) for c in classes]


def run(
    way: str, rate: float, train: list[str], valid: list[str], seed: int, o: argparse.Namespace
) -> dict[str, float]:
    def photographs(n_valid: int) -> ImageData:
        return ImageData.from_names(
            o.path, [*train, *valid[:n_valid]], label_fn=lambda name: Path(name).parent.name, size=o.size,
            augment="side_on", valid=list(range(len(train), len(train) + n_valid)), batch_size=o.batch_size,
        )  # fmt: skip

    few = photographs(1)  # so that an epoch spends its time on training
    learn = vision_learner(few, o.arch, pretrained=False if o.quick else None, seed=seed, progress=False)
    begun = time.perf_counter()
    WAYS[way](learn, rate, o.epochs)
    seconds = time.perf_counter() - begun
    learn.set_data(photographs(len(valid)))
    return {**learn.validate(), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="holds train/ and valid/, each with one folder per class")
    parser.add_argument("--arch", default="efficientnet_lite0")
    parser.add_argument("--photos", type=int, default=200, help="to train on (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rates", default="1e-3,3e-3,1e-2,3e-2,1e-1,3e-1", help="of the head, to choose from")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="needs no data; shows no more than that it runs")
    o = parser.parse_args()
    if o.path is None and not o.quick:
        parser.error("give the folder of photographs, or --quick")
    with tempfile.TemporaryDirectory() as folder:
        if o.quick:
            o.path, o.arch, o.size, o.photos, o.epochs, o.batch_size = (
                stripes(Path(folder)), "squeezenet1_1", 48, 8, 2, 4,
            )  # fmt: skip
            o.rates, o.seeds = "1e-3,1e-2", 1
        compare(o)


def compare(o: argparse.Namespace) -> None:
    rates = [float(r) for r in o.rates.split(",")]
    per_class = o.photos // 2
    pools = [[str(n) for n in np.random.default_rng(0).permutation(names)] for names in listed(o.path, "train")]
    if any(len(pool) < 3 * per_class for pool in pools):
        raise SystemExit(f"choosing a rate and training need {3 * per_class} photographs of each class in train")
    tune = [n for pool in pools for n in pool[:per_class]]
    check = [n for pool in pools for n in pool[per_class : 2 * per_class]]
    valid = [n for names in listed(o.path, "valid") for n in names]
    chosen = {}
    for way in WAYS:
        losses = {rate: run(way, rate, tune, check, 100, o)["valid_loss"] for rate in rates}
        chosen[way] = min(losses, key=losses.__getitem__)
        print(json.dumps({"way": way, "losses": {f"{r:g}": round(v, 4) for r, v in losses.items()}}), flush=True)
    reached: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(o.seeds):
        rng = np.random.default_rng(seed)
        train = [str(n) for pool in pools for n in rng.choice(pool[2 * per_class :], per_class, replace=False)]
        for way, runs in reached.items():
            runs.append(run(way, chosen[way], train, valid, seed, o))
            print(json.dumps({"way": way, "seed": seed, **{k: round(v, 4) for k, v in runs[-1].items()}}), flush=True)
    print(f"\neasylearn: {o.photos} photographs of {o.size} px, {o.epochs} epochs, {len(valid)} to validate")
    for way, runs in reached.items():
        cells = [f"rate {chosen[way]:g}"]
        for key in ("accuracy", "valid_loss", "seconds"):
            values = [r[key] for r in runs]
            cells.append(f"{key} {statistics.median(values):.4g} [{min(values):.4g}, {max(values):.4g}]")
        print(f"{way:22s} | {' | '.join(cells)}")


if __name__ == "__main__":
    main()
