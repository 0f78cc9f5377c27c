"""The same training as `train.py`, with Ray Train starting the processes.

    pip install "ray[train]"
    python ray_train.py --workers 2

Ray gives each worker its rank and forms the group of processes; easylearn finds both. A worker that fails is started
anew by Ray (`max_failures`), and the run goes on from its folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def work(settings: dict[str, str]) -> None:
    """What each worker does: the script, with its arguments."""
    sys.path.insert(0, str(HERE))
    import torch
    import train

    torch.set_num_threads(1)
    sys.argv = ["train.py", "--epochs", settings["epochs"], "--out", settings["out"]]
    train.main()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train in the workers of Ray Train.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", default="run", help="folder of the checkpoints, which all workers see")
    parser.add_argument("--gpu", action="store_true", help="a GPU for each worker")
    args = parser.parse_args()

    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    # Metrics and messages go between CPUs, gradients between GPUs.
    backend = TorchConfig(backend="cpu:gloo,cuda:nccl" if args.gpu else "gloo")
    trainer = TorchTrainer(
        work,
        train_loop_config={"epochs": str(args.epochs), "out": os.path.abspath(args.out)},
        torch_config=backend,
        scaling_config=ScalingConfig(num_workers=args.workers, use_gpu=args.gpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=3)),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
