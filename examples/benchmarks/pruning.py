"""Most of a model's large weights set to zero: after training, and while it goes on.

    python examples/benchmarks/pruning.py --images data/dogscats --table adult.csv.gz

Images: a folder with `train` and `valid`, efficientnet_lite0 at 96 pixels; a head on stored features, then everything
for eight epochs, batch-norm statistics too. Table: columns as in UCI's Adult with `is_test` and `salary`; eight epochs.
"after" is `export(prune=amount)` of a learner that never pruned, "while" the same of one that had `Prune(amount)` in
its last fit. Accuracy is that of the validation split, which chose nothing here: rates and epochs were tried on a
quarter of the training photographs. One thread of the CPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from easylearn import ImageData, Learner, Prune, TabularData, adamw, tabular_learner, vision_learner
from easylearn.train.callback import Callback

Train = Callable[[str, int, list[Callback]], Learner]


def images(path: str, seed: int, callbacks: list[Callback]) -> Learner:
    data = ImageData.from_folder(path, size=96, augment="side_on", batch_size=64, workers=0)
    learn = vision_learner(data, "efficientnet_lite0", precompute=True, device="cpu", progress=False, seed=seed)
    learn.fit(1e-2, 2)
    learn.precompute = False
    learn.unfreeze()
    learn.bn_freeze(False)
    learn.fit_one_cycle([1e-3, 3e-3, 1e-2], 8, callbacks=callbacks)
    return learn


def table(path: str, seed: int, callbacks: list[Callback]) -> Learner:
    df = pd.read_csv(path)
    rows = df["is_test"].to_numpy(bool)
    data = TabularData.from_df(df.drop(columns="is_test"), "salary", valid=rows, batch_size=512)
    learn = tabular_learner(data, layers=[200, 100], optimizer=adamw, device="cpu", progress=False, seed=seed)
    learn.fit_one_cycle(3e-3, 8, callbacks=callbacks)
    return learn


def show(name: str, train: Train, path: str, amounts: Sequence[float], seeds: int) -> None:
    for seed in range(seeds):
        for amount in (None, *amounts):
            began = time.process_time()
            learn = train(path, seed, [] if amount is None else [Prune(amount)])
            took = time.process_time() - began
            for share in amounts if amount is None else [amount]:
                with tempfile.TemporaryDirectory() as folder:
                    rows = learn.export(Path(folder) / "m", prune=share).rows
                before, after = rows["before"], rows["after"]
                print(
                    f"{name}, seed {seed}, {'after' if amount is None else 'while'} {share}: accuracy "
                    f"{before['accuracy']:.4f} -> {after['accuracy']:.4f}, {before['bytes'] / 1e6:.3f} -> "
                    f"{after['bytes'] / 1e6:.3f} MB, {took:.0f} s of CPU",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder with train and valid")
    parser.add_argument("--table", help="Adult as a csv")
    parser.add_argument("--amounts", type=float, nargs="+", default=[0.5, 0.8, 0.9])
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.table:
        show("table", table, chosen.table, chosen.amounts, chosen.seeds)
    if chosen.images:
        show("images", images, chosen.images, chosen.amounts, chosen.seeds)


if __name__ == "__main__":
    main()
