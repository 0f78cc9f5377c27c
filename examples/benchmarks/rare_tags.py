"""Rare tags: is the validation loss below the base rates' after one epoch, and what F2 does a chosen threshold give?

    python examples/benchmarks/rare_tags.py                # 2,000 images of one to four digits, with 23 tags
    python examples/benchmarks/rare_tags.py --arch small   # a small network from random weights instead

Ten tags say which digits are there; thirteen are rare: two of them together (5 tags), three (4), one alone (4).
Half of the validation images choose the thresholds, the other half tells F2. Median [least, most] of the seeds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import pandas as pd

from easylearn import ImageData, Learner, Predictions, adamw, choose_threshold, f_beta, vision_learner

sys.path.insert(0, str(Path(__file__).parents[1]))
from lesson2_multilabel import small_net
from made_up import scattered_digits

TOGETHER = ("01", "23", "45", "67", "89", "012", "345", "678", "369")
ALONE = "2579"


def tags(digits: str) -> str:
    """The digits of an image, which are tags themselves, with the rare tags that follow."""
    there = set(digits.split())
    alone = [f"only{d}" for d in ALONE if there == {d}]
    return " ".join([*sorted(there), *alone, *(f"all{some}" for some in TOGETHER if there >= set(some))])


def data_of(folder: Path, n: int, seed: int, size: int) -> ImageData:
    valid = scattered_digits(folder, n, seed)
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    table.assign(tags=table["tags"].map(tags)).to_csv(folder / "labels.csv", index=False)
    where = {"path": folder, "csv": "labels.csv", "folder": "train-jpg", "suffix": ".jpg", "label_sep": " "}
    return ImageData.from_csv(**where, valid=valid, size=size, crop_pct=1.0)


def half(said: Predictions, first: int) -> Predictions:
    """Every second item."""
    return Predictions.of(said.task, said.probs[first::2], said.ids[first::2], said.targets[first::2])


def learner(data: ImageData, arch: str, seed: int) -> Learner:
    if arch == "small":
        return vision_learner(data, small_net(), optimizer=adamw, seed=seed, progress=False)
    return vision_learner(data, arch, precompute=True, seed=seed, progress=False)


def one_seed(data: ImageData, arch: str, seed: int) -> dict[str, float]:
    learn = learner(data, arch, seed)
    first = learn.fit(1e-2, 1).last["valid_loss"]
    known = learn.baseline().scores
    reached = {f"loss: {n}": s["valid_loss"] for n, s in known.items() if n != "this model"}
    reached["loss: after one epoch"] = first
    learn = learner(data, arch, seed)
    reached["loss: after seven"] = learn.fit(1e-2, 3, cycle_len=1, cycle_mult=2).last["valid_loss"]
    choose, tell = half(learn.predict(), 0), half(learn.predict(), 1)
    one, each = (choose_threshold(choose, f_beta(2), per_label=per_label) for per_label in (False, True))
    for name, threshold in {"0.5": 0.5, "a chosen threshold": one, "one chosen for each tag": each}.items():
        reached[f"F2 at {name}"] = float(f_beta(2, threshold=threshold)(tell.probs, tell.targets))
    rates = data.loader("train").target.float().mean(0)
    constant = [Predictions.of(p.task, rates.expand_as(p.probs), p.ids, p.targets) for p in (choose, tell)]
    threshold = choose_threshold(constant[0], f_beta(2))
    reached["F2 of the base rates, likewise"] = float(f_beta(2, threshold=threshold)(constant[1].probs, tell.targets))
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="efficientnet_lite0", help="pretrained and frozen, or small")
    parser.add_argument("--n", type=int, default=2000, help="images, a fifth of which validates")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3, help="so many draws of images")
    parser.add_argument("--quick", action="store_true", help="300 images, a small network, one draw")
    given = parser.parse_args()
    if given.quick:
        given.arch, given.n, given.size, given.seeds = "small", 300, 24, 1
    runs = []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            data = data_of(Path(folder), given.n, seed, given.size)
            runs.append(one_seed(data, given.arch, seed))
    print(f"easylearn: {len(data.classes)} tags, {given.n} images, {given.arch}")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"{name:55s} {statistics.median(values):.4f} [{min(values):.4f}, {max(values):.4f}]")


if __name__ == "__main__":
    main()
