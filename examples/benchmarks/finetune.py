"""Cats and dogs with efficientnet_lite0: accuracy after each stage of the usual fine-tuning, over several seeds.

    python examples/benchmarks/finetune.py PATH              # head, then everything, at 224 pixels
    python examples/benchmarks/finetune.py PATH --first 128  # start at 128 pixels, go on at 224

PATH has train/{cats,dogs} and valid/{cats,dogs}.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from easylearn import ImageData, vision_learner


def train(
    path: str, first: int, size: int, seed: int, bn_freeze: bool, batch_size: int, rates: list[float]
) -> dict[str, float]:
    begun = time.perf_counter()
    reached = {}
    data = ImageData.from_folder(path, size=first, augment="side_on", batch_size=batch_size)
    learn = vision_learner(data, "efficientnet_lite0", precompute=True, seed=seed, bn_freeze=bn_freeze)
    learn.fit(1e-2, 3, cycle_len=1, cycle_mult=2)
    reached[f"head, {first} px"] = learn.validate()["accuracy"]
    if first != size:
        learn.set_data(size)
        learn.fit(1e-2, 3, cycle_len=1, cycle_mult=2)
        reached[f"head, {size} px"] = learn.validate()["accuracy"]
    learn.unfreeze()
    learn.fit(rates, 1)
    reached["unfrozen"] = learn.validate()["accuracy"]
    probs, targets = learn.tta()
    reached["unfrozen, tta"] = float((probs.argmax(1) == targets).float().mean())
    reached["seconds"] = time.perf_counter() - begun
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--first", type=int, help="pixels to start with")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rates", default="1e-5,1e-4,1e-3", help="of the three groups, once everything trains")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-bn", action="store_true", help="let batch-norm statistics of the body move")
    chosen = parser.parse_args()
    runs = []
    for seed in range(chosen.seeds):
        first = chosen.first or chosen.size
        rates = [float(r) for r in chosen.rates.split(",")]
        runs.append(train(chosen.path, first, chosen.size, seed, not chosen.train_bn, chosen.batch_size, rates))
        print(json.dumps(runs[-1]))
    for stage in runs[0]:
        values = [run[stage] for run in runs]
        print(f"{stage:16s} median {statistics.median(values):.4f}  [{min(values):.4f}, {max(values):.4f}]")


if __name__ == "__main__":
    main()
