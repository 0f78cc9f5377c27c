"""A search over heads on stored features at 224 px, beside computing the features for each trial.

    python examples/benchmarks/search_heads.py [--trials 100] [--images 300] [--arch resnet34]

Images are noise and weights drawn at random, since only time counts; times are of this process's CPU, one thread. What
features cost is measured once, with one trial that has to make them, and taken for each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np
import torch

import easylearn as el
from easylearn.experiment import log, ordered, uniform
from easylearn.keyed import scoped_rng
from easylearn.vision.weights import TorchvisionWeights


def random_weights(weights):
    with scoped_rng(0, weights.model):
        return el.get_arch(weights.model).build().state_dict()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--arch", default="resnet34")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    base = tempfile.mkdtemp()
    os.environ["EASYLEARN_CACHE"] = os.path.join(base, "cache")
    drawn = np.random.default_rng(0).integers(0, 255, (chosen.images, 64, 64, 3), np.uint8)
    labels = ["a", "b", "c"] * (chosen.images // 3)
    kept = random_weights(TorchvisionWeights(chosen.arch))
    TorchvisionWeights.read = lambda self: kept

    def make(p):
        data = el.ImageData.from_arrays((drawn[: len(labels)], labels), size=224, batch_size=64, workers=0)
        return el.vision_learner(data, chosen.arch, precompute=True, hidden=[p.hidden], ps=p.dropout, seed=p.seed)

    def fit(learn, p, **how):
        return learn.fit(p.lr, 3, cycle_len=1, **how)

    space = {"lr": log(1e-4, 1e-1), "hidden": ordered([64, 128, 256, 512]), "dropout": uniform(0, 0.6)}
    begun = time.process_time()
    el.search(make, space, fit, os.path.join(base, "first"), trials=1, progress=False)
    first = time.process_time()
    el.search(make, space, fit, os.path.join(base, "all"), trials=chosen.trials, progress=False)
    each = (time.process_time() - first) / chosen.trials
    whole = first - begun
    print(
        f"{chosen.arch}, {len(labels)} images at 224 px: {whole:.1f} s of CPU for a trial that computes features, "
        f"{each:.2f} s for one of {chosen.trials} on stored ones: {whole / each:.0f} times"
    )


if __name__ == "__main__":
    main()
