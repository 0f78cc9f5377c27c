"""What `fit` costs over a hand-written loop: microseconds per step of a tiny network, both in one process, in turn.

    python examples/benchmarks/loop.py

A step's time is a slope, (T(2,000 steps) - T(200 steps)) / 1,800, so that what a fit costs once does not hide in it.
Record, loss guard, metrics and progress are on. Both loops have the same batches, optimizer (torch's fused AdamW) and
rates.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from contextlib import redirect_stderr, redirect_stdout

import torch
from torch import nn
from torch.nn import functional as F

from easylearn import Learner, LoaderData, TensorData, single_label
from easylearn.train.optim import has_fused


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))


def rows(steps: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(steps * batch_size, 20, generator=torch.Generator().manual_seed(1))
    return x, (x[:, :5].sum(1) > 0).long()


def bare(steps: int, batch_size: int, indexed: bool, plain_optimizer: bool = False) -> float:
    x, y = rows(steps, batch_size)
    model = network()
    fused = has_fused(torch.optim.AdamW, "cpu") and not plain_optimizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    ready = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    begun = time.perf_counter()
    model.train()
    batches = ((x[i], y[i]) for i in torch.randperm(len(x)).split(batch_size)) if indexed else ready
    for xb, yb in batches:
        loss = F.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - begun


def ours(steps: int, batch_size: int, indexed: bool) -> float:
    x, y = rows(steps, batch_size)
    task = single_label(["no", "yes"])
    few = (x[:batch_size], y[:batch_size])
    if indexed:
        data: TensorData | LoaderData = TensorData((x, y), few, task, batch_size=batch_size)
    else:
        data = LoaderData(list(zip(x.split(batch_size), y.split(batch_size), strict=True)), [few], task)
    learn = Learner(data, network(), device="cpu")
    begun = time.perf_counter()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        learn.fit(1e-3, 1, cycle_len=None)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--json", help="write the figures here, too")
    parser.add_argument("--quick", action="store_true", help="one short repeat, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.repeats, chosen.steps = 1, 40
    kinds = {
        "bare loop, ready batches": lambda n: bare(n, chosen.batch_size, False),
        "bare loop, AdamW's defaults": lambda n: bare(n, chosen.batch_size, False, plain_optimizer=True),
        "easylearn, ready batches": lambda n: ours(n, chosen.batch_size, False),
        "bare loop, indexed tensors": lambda n: bare(n, chosen.batch_size, True),
        "easylearn, indexed tensors": lambda n: ours(n, chosen.batch_size, True),
    }
    short = max(chosen.steps // 10, 1)
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(chosen.repeats + 1):
        for name, run in kinds.items():
            slope = (run(chosen.steps) - run(short)) / (chosen.steps - short) * 1e6
            if repeat or chosen.quick:  # the first round warms up
                took[name].append(slope)
    medians = {name: statistics.median(values) for name, values in took.items()}
    for name, values in took.items():
        base = medians["bare loop, indexed tensors" if "indexed" in name else "bare loop, ready batches"]
        print(f"{name:30s} {medians[name]:7.0f} us [{min(values):.0f}, {max(values):.0f}]  {medians[name] / base:.2f}")
    if chosen.json:
        with open(chosen.json, "w", encoding="utf-8") as file:
            json.dump(
                {"torch": torch.__version__, "threads": torch.get_num_threads(), "us_per_step": took}, file, indent=1
            )


if __name__ == "__main__":
    main()
