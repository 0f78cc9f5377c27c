"""Train on one process or on many, and come to the same weights.

    python train.py
    torchrun --standalone --nproc-per-node 2 train.py
    torchrun --standalone --nproc-per-node 4 --max-restarts 3 train.py

Killed at any moment and started anew, also with another number of processes, it goes on where it was. Each command
prints the same digest (with OMP_NUM_THREADS=1 for all of them; torchrun sets it).
"""

from __future__ import annotations

import argparse

import torch

from easylearn import TensorData, accuracy, single_label
from easylearn.files import digest
from easylearn.learning import Learner
from easylearn.nn.dropout import Dropout


def make_data() -> TensorData:
    """Points in eight dimensions, of three classes that are known from products of coordinates."""
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > x[:, 3]).long()
    return TensorData((x[:3000], y[:3000]), (x[3000:], y[3000:]), single_label(["a", "b", "c"]), batch_size=64)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on one process or on many, and come to the same weights.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", default="run", help="folder of the checkpoints; a run that it holds goes on")
    args = parser.parse_args()

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 128), torch.nn.BatchNorm1d(128), torch.nn.ReLU(), Dropout(0.2), torch.nn.Linear(128, 3)
    )
    learn = Learner(make_data(), model, metrics=[accuracy], lanes=4, device="cpu")
    learn.fit_one_cycle(1e-2, args.epochs, checkpoint=args.out, every=20, go_on=True)
    if learn.strategy.is_main:
        weights = [v.contiguous().view(-1).view(torch.uint8).numpy().data for v in model.state_dict().values()]
        print(f"{learn.strategy.world} processes, {torch.get_num_threads()} threads: weights {digest(weights)[:12]}")


if __name__ == "__main__":
    main()
