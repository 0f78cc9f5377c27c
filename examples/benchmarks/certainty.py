"""How often intervals hold the truth, how often two equal models seem to differ, and what the best of fifty is worth.

    python examples/benchmarks/certainty.py                  # 1,000 simulations of each; ten minutes on one core
    python examples/benchmarks/certainty.py --only coverage
    python examples/benchmarks/certainty.py --quick          # a few simulations: no result

Every simulation draws items anew from a population whose truth is known.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from easylearn.intervals import best_of, difference_of, interval_of
from easylearn.metrics import Metric, accuracy, f1, log_loss, mae, rmse, roc_auc

Drawn = tuple[Tensor, Tensor, Metric, Any, float]
"""Outputs, targets, metric, groups, and the truth."""


def _area(outputs: Tensor, targets: Tensor) -> float:
    """What `roc_auc` gives where no two outputs are equal, a hundred times as fast."""
    order = outputs[:, 1].double().numpy().argsort()
    y = targets.numpy()[order]
    n = int(y.sum())
    return float((np.flatnonzero(y).sum() + n - n * (n + 1) / 2) / (n * (len(y) - n)))


def _harmonic(outputs: Tensor, targets: Tensor) -> float:
    """What `f1` gives."""
    said, y = outputs[:, 1].numpy() > 0.5, targets.numpy() == 1
    return float(2 * (said & y).sum() / max(said.sum() + y.sum(), 1))


AREA, F1 = Metric("roc_auc", _area, higher_is_better=True), Metric("f1", _harmonic, higher_is_better=True)


def right_or_wrong(right: Any) -> tuple[Tensor, Tensor]:
    """Outputs of two classes that are right or wrong, and targets."""
    return torch.eye(2)[(~torch.as_tensor(right)).long()], torch.zeros(len(right), dtype=torch.int64)


def share_right(rng: np.random.Generator) -> Drawn:
    return (*right_or_wrong(rng.random(200) < 0.8937), accuracy, None, 0.8937)


def numbers(rng: np.random.Generator) -> Drawn:
    return torch.from_numpy(rng.standard_normal(100)), torch.zeros(100, dtype=torch.float64), rmse, None, 1.0


def skewed(rng: np.random.Generator) -> Drawn:
    return torch.from_numpy(rng.exponential(size=100)), torch.zeros(100, dtype=torch.float64), mae, None, 1.0


def ranking(rng: np.random.Generator) -> Drawn:
    y = torch.from_numpy((rng.random(150) < 0.3).astype(np.int64))
    p = torch.sigmoid(torch.from_numpy(rng.standard_normal(150)) + 1.2 * y)
    return torch.stack([1 - p, p], 1), y, AREA, None, 0.5 * (1 + math.erf(1.2 / 2))


def harmonic(rng: np.random.Generator) -> Drawn:
    y = rng.random(300) < 0.3
    said = np.where(y, rng.random(300) < 0.7, rng.random(300) < 0.1)
    truth = 2 * 0.21 / (2 * 0.21 + 0.07 + 0.09)
    return torch.eye(2)[torch.from_numpy(said.astype(np.int64))], torch.from_numpy(y.astype(np.int64)), F1, None, truth


def patients(rng: np.random.Generator) -> Drawn:
    sizes, p = rng.integers(2, 12, 40), rng.beta(8, 2, 40)
    groups = np.repeat(np.arange(40), sizes)
    return (*right_or_wrong(rng.random(len(groups)) < p[groups]), accuracy, groups, 0.8)


def patients_numbers(rng: np.random.Generator) -> Drawn:
    groups = np.repeat(np.arange(40), rng.integers(2, 12, 40))
    error = 0.8 * rng.standard_normal(40)[groups] + 0.6 * rng.standard_normal(len(groups))
    return torch.from_numpy(error), torch.zeros(len(groups), dtype=torch.float64), rmse, groups, 1.0


POPULATIONS: dict[str, Callable[[np.random.Generator], Drawn]] = {
    "accuracy, 200 items": share_right, "rmse, 100 items": numbers, "mae of exponentials, 100 items": skewed,
    "area under the curve, 150 items": ranking, "f1, 300 items": harmonic, "accuracy, 40 groups": patients,
    "rmse, 40 groups": patients_numbers,
}  # fmt: skip


def coverage(n: int) -> dict[str, float]:
    """The share of simulations in which the interval holds the truth."""
    for population, metric in ((ranking, roc_auc), (harmonic, f1)):
        outputs, targets, quick, _, _ = population(np.random.default_rng(0))
        assert abs(quick(outputs, targets) - metric(outputs, targets)) < 1e-6
    found = {}
    for name, population in POPULATIONS.items():
        held = 0
        for seed in range(n):
            outputs, targets, metric, groups, truth = population(np.random.default_rng(seed))
            draws = 1000 if metric.per_item is not None else 300
            one = interval_of(outputs, targets, metric, groups=groups, seed=seed, draws=draws)
            held += one.low - 1e-9 <= truth <= one.high + 1e-9
        found[name] = held / n
        print(f"{name:34} holds the truth in {held / n:.1%}, aim 93 to 97 %", flush=True)
    return found


def alarms(n: int) -> dict[str, float]:
    """The share of simulations in which two models that are equally good are called distinguishable."""
    found = {}
    for name in ("accuracy", "log_loss", "rmse", "accuracy, groups"):
        told = 0
        for seed in range(n):
            rng = np.random.default_rng(seed)
            groups = np.repeat(np.arange(50), 5) if "groups" in name else None
            if name == "rmse":
                shared = rng.standard_normal(250)
                one, two = (torch.from_numpy(shared + rng.standard_normal(250)) for _ in range(2))
                told += difference_of(one, two, torch.zeros(250, dtype=torch.float64), rmse, seed=seed).distinguishable
                continue
            hard = rng.normal(size=50)[groups] if groups is not None else rng.normal(size=250)
            own = rng.normal(size=(2, 50))[:, groups] if groups is not None else rng.normal(size=(2, 250))
            p = 1 / (1 + np.exp(-(1 + hard + own)))
            y, which = torch.zeros(250, dtype=torch.int64), log_loss if name == "log_loss" else accuracy
            outputs = [torch.from_numpy(np.stack([q, 1 - q], 1)) for q in p]
            told += difference_of(*outputs, y, which, groups=groups, seed=seed).distinguishable
        found[name] = told / n
        print(f"{name:34} false alarms {told / n:.1%}, aim 5 % at most", flush=True)
    return found


def best(n: int, models: int = 50) -> dict[str, float]:
    """How much too good the score of the best of fifty is, naive and corrected."""
    found = {}
    for name, spread in (("equal models", 0.0), ("models of 78 to 82 %", 0.01), ("models of 60 to 90 %", 0.075)):
        naive, corrected, held = [], [], 0
        for seed in range(n):
            rng = np.random.default_rng(seed)
            truth = 0.8 + spread * rng.uniform(-2, 2, models)
            hard = rng.normal(size=400) * 0.5
            own = rng.normal(size=(models, 400))
            # each item is right where its luck is below what makes the share right
            cut = np.array([np.quantile(rng.normal(size=4000) * math.sqrt(1.25), t) for t in truth])
            right = (own + hard) < cut[:, None]
            real = np.array([0.5 * (1 + math.erf(c / math.sqrt(2 * 1.25))) for c in cut])
            outputs = [right_or_wrong(row)[0] for row in right]
            one = best_of(outputs, torch.zeros(400, dtype=torch.int64), accuracy, seed=seed, draws=300)
            naive.append(one.naive - real[one.index])
            corrected.append(one.corrected.value - real[one.index])
            held += real[one.index] in one.corrected
        found[name] = 100 * float(np.mean(corrected))
        print(
            f"best of {models}, {name:22} naive {100 * np.mean(naive):+.2f} points, corrected "
            f"{found[name]:+.2f} (standard error {100 * np.std(corrected) / math.sqrt(n):.2f}), aim 0.3 at most; its "
            f"interval holds the truth in {held / n:.1%}",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="simulations of each")
    parser.add_argument("--only", choices=["coverage", "alarms", "best"])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    n = 3 if args.quick else args.n
    kinds = {"coverage": coverage, "alarms": alarms, "best": best}
    found = {name: kind(n) for name, kind in kinds.items() if args.only in (None, name)}
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
