"""What a trial costs beside its training, and whether memory grows: a random search of short fits of ten epochs.

    python examples/benchmarks/search_overhead.py [--trials 300] [--optuna]

CPU time is that of this process. The same fits without a search are subtracted, with the same points and seeds. Memory
is what the process holds, from the 50th trial on. `--optuna` lets Optuna's journal and sqlite do the same.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import easylearn as el
from easylearn.experiment import log, powers, uniform
from easylearn.experiment.trials import point_of

SPACE = {"lr": log(1e-4, 1e-1), "hidden": powers(4, 64), "dropout": uniform(0, 0.6), "wd": log(1e-6, 1e-2)}


def tensors():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 8, generator=g)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def make(p):
    x, y = tensors()
    data = el.TensorData((x[:200], y[:200]), (x[200:], y[200:]), el.single_label(["a", "b"]), batch_size=50)
    layers = nn.Linear(8, p.hidden), nn.ReLU(), nn.Dropout(p.dropout), nn.Linear(p.hidden, 2)
    return el.Learner(data, nn.Sequential(*layers), wd=p.wd, seed=p.seed, progress=False)


def fit(learn, p, **how):
    return learn.fit(p.lr, 10, **how)


def resident():
    """Megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def by_optuna(storage, trials):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(0), direction="maximize")

    def objective(trial):
        point = {
            "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            "hidden": 2 ** trial.suggest_int("hidden", 2, 6),
            "dropout": trial.suggest_float("dropout", 0, 0.6),
            "wd": trial.suggest_float("wd", 1e-6, 1e-2, log=True),
        }
        p = point_of({**point, "seed": 0})
        record = fit(make(p), p)
        for epoch, row in enumerate(record.epochs):
            trial.report(row["accuracy"], epoch)
        return record.epochs[-1]["accuracy"]

    study.optimize(objective, n_trials=trials)


def clocks():
    return time.process_time(), time.perf_counter()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--optuna", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    n = chosen.trials
    base = Path(tempfile.mkdtemp())
    el.search(make, SPACE, fit, base / "warm", trials=5, method="random", progress=False)
    held = []

    def noting(p):
        held.append(resident())
        return make(p)

    begun = clocks()
    found = el.search(noting, SPACE, fit, base / "search", trials=n, method="random", progress=False)
    searched = clocks()
    for t in found.trials:
        p = point_of({**t.point, "seed": 0})
        fit(make(p), p)
    plain = clocks()
    cpu, wall = (((searched[i] - begun[i]) - (plain[i] - searched[i])) / n * 1000 for i in (0, 1))
    alone = (plain[0] - searched[0]) / n * 1000
    print(f"easylearn: {cpu:.1f} ms of CPU a trial beside its training of {alone:.0f} ms ({wall:.0f} ms by the clock)")
    print(f"memory: {held[min(50, n // 2)]:.1f} MB at trial {min(50, n // 2)}, {held[-1]:.1f} MB at trial {n - 1}")
    if chosen.optuna:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        for name, storage in (
            ("journal", JournalStorage(JournalFileBackend(str(base / "journal.log")))),
            ("sqlite", f"sqlite:///{base / 'optuna.db'}"),
        ):
            begun = clocks()
            by_optuna(storage, n // 5)
            ended = clocks()
            more = [(ended[i] - begun[i]) / (n // 5) * 1000 for i in (0, 1)]
            print(f"Optuna, {name}: {more[0] - alone:.1f} ms of CPU a trial beside its training")


if __name__ == "__main__":
    main()
