"""Half of a photograph model's weights, and most of them, set to zero: after training, and while it goes on.

    python examples/benchmarks/pruning.py data/dogscats --amounts 0.5 0.8 --seeds 2

A folder with `train` and `valid`, efficientnet_lite0 at 96 pixels: a head on stored features, then everything for four
epochs, as lesson 1 does. "after" is `export(prune=amount)` of a learner that never pruned, "while" the same of one that
had `Prune(amount)` in the second fit. Accuracy is that of `valid`, which chose nothing here. One thread of the CPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from easylearn import ImageData, Learner, Prune, vision_learner


def trained(path: str, seed: int, amount: float | None) -> Learner:
    data = ImageData.from_folder(path, size=96, augment="side_on", batch_size=64, workers=0)
    learn = vision_learner(data, "efficientnet_lite0", precompute=True, device="cpu", progress=False, seed=seed)
    learn.fit(1e-2, 2)
    learn.precompute = False
    learn.unfreeze()
    learn.fit_one_cycle([1e-4, 1e-3, 1e-2], 4, callbacks=[] if amount is None else [Prune(amount, every=4)])
    return learn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="holds train/ and valid/, each with one folder per class")
    parser.add_argument("--amounts", type=float, nargs="+", default=[0.5, 0.8])
    parser.add_argument("--seeds", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(chosen.seeds):
        for amount in (None, *chosen.amounts):
            began = time.process_time()
            learn = trained(chosen.path, seed, amount)
            took = time.process_time() - began
            for share in chosen.amounts if amount is None else [amount]:
                with tempfile.TemporaryDirectory() as folder:
                    rows = learn.export(Path(folder) / "m", prune=share).rows
                before, after = rows["before"], rows["after"]
                print(
                    f"seed {seed} {'after' if amount is None else 'while'} {share}: accuracy {before['accuracy']:.4f} -> "
                    f"{after['accuracy']:.4f}, {before['bytes'] / 1e6:.2f} -> {after['bytes'] / 1e6:.2f} MB, "
                    f"{took:.0f} s of CPU to train",
                    flush=True,
                )


if __name__ == "__main__":
    main()
