"""What `compile=True` gains: time of a training step with and without, in one process, in turn.

    python examples/benchmarks/compiled.py

Compiling is done before the clock starts, and its own time is said. "small" is a table-like network on batches of 64,
"resnet18" one of 128 px on batches of 32, from random numbers; both in memory. Torch needs a C++ compiler for it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from torch import nn

from easylearn import Learner, TensorData, single_label, vision_model


def learner(kind: str, quick: bool, compiled: bool) -> Learner:
    """On enough random items for a fit of some seconds."""
    torch.manual_seed(0)
    task = single_label(["no", "yes"])
    if kind == "small":
        x, batch_size = torch.randn(640 if quick else 64_000, 20), 64
        model: nn.Module = nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.BatchNorm1d(200), nn.Linear(200, 2))
    else:
        size, batch_size = (32, 4) if quick else (128, 32)
        x = torch.randn(2 * batch_size if quick else 6 * batch_size, 3, size, size)
        model = vision_model("resnet18", 2, pretrained=False)
    y = torch.arange(len(x)) % 2
    data = TensorData((x, y), None, task, batch_size=batch_size)
    return Learner(data, model, device="cpu", progress=False, compile=compiled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=["small", "resnet18"], default=["small", "resnet18"])
    parser.add_argument("--quick", action="store_true", help="one short repeat, to see that it runs")
    chosen = parser.parse_args()
    for kind in chosen.models:
        both = {compiled: learner(kind, chosen.quick, compiled) for compiled in (False, True)}
        first, times = {}, {False: [], True: []}
        for repeat in range(1 + (1 if chosen.quick else chosen.repeats)):
            for compiled, learn in both.items():
                begun = time.perf_counter()
                steps = len(learn.fit(1e-4, 1))
                took = time.perf_counter() - begun
                if repeat:
                    times[compiled].append(took / steps)
                else:
                    first[compiled] = took
        ms = {c: [round(1e3 * t, 3) for t in (statistics.median(v), min(v), max(v))] for c, v in times.items()}
        print(json.dumps({
            "model": kind, "ms per step": ms[False], "compiled": ms[True],
            "speed": round(ms[False][0] / ms[True][0], 2),
            "seconds of the first fit": round(first[False], 1), "compiled, first": round(first[True], 1),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
