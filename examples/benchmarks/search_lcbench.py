"""Regret of searches on LCBench (Zimmer et al., arXiv 2006.13799), by its YAHPO surrogate: curves of 52 epochs.

    python examples/benchmarks/search_lcbench.py FOLDER [--methods bayes-3 quasi-3 ...] [--seeds 4] [--budget 20]

FOLDER holds model.onnx, encoding.json and config_space.json of the scenario `lcbench`. The tasks are those outside
every third; choices were made on every third. Regret is 0 for the best of 1,000 random points, 1 for their median.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from easylearn import keyed
from easylearn.experiment.curves import extrapolate, is_hopeless
from easylearn.experiment.plans import SearchPlan
from easylearn.experiment.space import Space, log, uniform
from easylearn.experiment.store import History, Job

EPOCHS = 52
RUNGS = [2, 6, 17, 52]
SPACE = Space({
    "batch_size": log(16, 512, whole=True), "learning_rate": log(1e-4, 0.1), "momentum": uniform(0.1, 0.99),
    "weight_decay": uniform(1e-5, 0.1), "num_layers": uniform(1, 5, whole=True), "max_units": log(64, 1024, whole=True),
    "max_dropout": uniform(0, 1),
})  # fmt: skip


class Surrogate:
    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
        config = json.loads((folder / "config_space.json").read_text())["hyperparameters"]
        self.tasks = next(h["choices"] for h in config if h["name"] == "OpenML_task_id")

    def accuracy(self, task: str, points: list[dict[str, Any]], epochs: list[int]) -> np.ndarray:
        rows = [[e, *(float(p[n]) for n in SPACE.names)] for p in points for e in epochs]
        fed = {"x_cat": np.full((len(rows), 1), self.codes[task], np.int32), "x_cont": np.array(rows, np.float32)}
        return self.session.run(None, fed)[0][:, 1].reshape(len(points), len(epochs))


class Spent(Exception):  # noqa: N818
    pass


class Task:
    """A task with a budget of epochs; what was found is the end of the curve of the best value that was seen."""

    def __init__(self, surrogate: Surrogate, task: str, budget: int) -> None:
        self.surrogate, self.task, self.budget = surrogate, task, budget
        self.used, self.best = 0, (-math.inf, -math.inf)
        self.log: list[float] = []
        self.known: tuple[dict[str, Any], np.ndarray] = {}, np.zeros(0)  # the last curve that was looked up

    def train(self, point: dict[str, Any], begin: int, end: int) -> float:
        if point != self.known[0]:
            self.known = point, self.surrogate.accuracy(self.task, [point], list(range(1, EPOCHS + 1)))[0]
        curve = self.known[1][begin:]
        for value in curve[: end - begin]:
            if self.used >= self.budget:
                raise Spent
            self.used += 1
            self.best = max(self.best, (float(value), float(curve[-1])))
            self.log.append(self.best[1])
        return float(curve[end - begin - 1])


def ours(task: Task, plan: SearchPlan) -> None:
    history = History()
    halved = plan.halving is not None
    try:
        while jobs := plan(history):
            history.rounds.append(jobs)
            for job in jobs:
                end = RUNGS[job.rung] if halved else EPOCHS
                begin = RUNGS[job.rung - 1] if job.rung > job.bracket else 0
                status = "paused" if end < EPOCHS else "done"
                if job.beat is not None:
                    value, status = until_hopeless(task, job)
                else:
                    value = task.train(dict(job.point), begin, end)
                row = {"value": value, "higher": True, "status": status, "rungs": RUNGS if halved else []}
                history.ends[job.key] = row
    except Spent:
        return


def until_hopeless(task: Task, job: Job) -> tuple[float, str]:
    """A trial that ends where its curve cannot come to the best so far, as `search(stop=0.95)` ends it."""
    values: list[float] = []
    while len(values) < EPOCHS:
        values.append(task.train(dict(job.point), len(values), len(values) + 1))
        n = len(values)
        if EPOCHS / 2 <= n < EPOCHS and is_hopeless(range(1, n + 1), values, EPOCHS, job.beat or 0.0, True, 0.95):
            return values[-1], "stopped"
    return values[-1], "done"


def curves(surrogate: Surrogate, tasks: list[str]) -> None:
    """How often the interval of an extrapolated curve holds its end, and how well values rank trials."""
    from scipy.stats import spearmanr

    for n in (13, 26, 32, 39, 45):
        held, above, ranks, error = [], [], [], []
        for task in tasks:
            points = [SPACE.point(u) for u in keyed.uniform(range(100), len(SPACE.names), 0, "curves").tolist()]
            table = surrogate.accuracy(task, points, list(range(1, EPOCHS + 1)))
            found = [extrapolate(range(1, n + 1), row[:n].tolist(), EPOCHS) for row in table]
            held += [row[-1] in one for one, row in zip(found, table, strict=True)]
            above += [row[-1] > max(one.high, row[:n].max()) for one, row in zip(found, table, strict=True)]
            error += [abs(one.value - row[-1]) for one, row in zip(found, table, strict=True)]
            values = [one.value for one in found]
            ranks.append([spearmanr(x, table[:, -1])[0] for x in (table[:, n - 1], values)])
        last, law = np.mean(ranks, 0)
        print(
            f"after {n:2} of {EPOCHS} epochs: the 95 % interval holds the end in {np.mean(held):.1%}, it ends above in "
            f"{np.mean(above):.1%}; mean error {np.mean(error):.2f} points; rank correlation of the last value "
            f"{last:.2f}, of the law {law:.2f}",
            flush=True,
        )


def optunas(task: Task, name: str, seed: int) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = {
        "full": optuna.pruners.NopPruner(),
        "median": optuna.pruners.MedianPruner(),
        "halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3),
        "hyperband": optuna.pruners.HyperbandPruner(2, EPOCHS, 3),
    }[name]
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)

    def objective(trial: Any) -> float:
        point = {
            n: (trial.suggest_int if d.whole else trial.suggest_float)(n, d.low, d.high, log=d.log)
            for n, d in SPACE.dimensions.items()
        }
        value = math.nan
        for epoch in range(EPOCHS):
            value = task.train(point, epoch, epoch + 1)
            trial.report(value, epoch + 1)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    try:
        study.optimize(objective, n_trials=10**6)
    except Spent:
        return


def run(name: str, task: Task, seed: int, per_round: int) -> None:
    kind, _, how = name.partition("-")
    if kind == "optuna":
        return optunas(task, how, seed)
    halving, brackets = (3.0, how == "hyperband") if how in ("3", "hyperband") else (None, False)
    trials = 10**6 if halving or how == "stop" else -(-task.budget // EPOCHS)
    return ours(task, SearchPlan(SPACE, kind, trials, seed, (), halving, brackets, per_round, stop=how == "stop"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    usual = [
        "gp-3",
        "bayes-3",
        "quasi-3",
        "evolution-3",
        "random",
        "bayes",
        "optuna-full",
        "optuna-halving",
        "optuna-hyperband",
    ]
    parser.add_argument("--methods", nargs="+", default=usual)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--budget", type=int, default=20, help="in whole trainings")
    parser.add_argument("--per-round", type=int, default=4)
    parser.add_argument("--chosen-on", action="store_true", help="the tasks on which choices were made")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--curves", action="store_true", help="how well curves are extrapolated, instead")
    parser.add_argument("--tasks", type=int, default=99)
    chosen = parser.parse_args()
    surrogate = Surrogate(chosen.folder)
    tasks = [t for i, t in enumerate(surrogate.tasks) if (i % 3 == 0) == chosen.chosen_on][: chosen.tasks]
    if chosen.curves:
        return curves(surrogate, tasks)
    scale = {}
    for task in tasks:
        points = [SPACE.point(u) for u in keyed.uniform(range(1000), len(SPACE.names), 0, "reference").tolist()]
        ends = surrogate.accuracy(task, points, [EPOCHS])[:, 0]
        scale[task] = float(ends.max()), float(np.median(ends))
    for name in chosen.methods:
        begun, regrets = time.process_time(), []
        for task in tasks:
            for seed in range(chosen.seeds):
                one = Task(surrogate, task, chosen.budget * EPOCHS)
                run(name, one, seed, chosen.per_round)
                top, median = scale[task]
                regrets.append((top - one.log[-1]) / (top - median))
                if chosen.verbose:
                    print(f"    {task} seed {seed}: {regrets[-1]:.4f}", flush=True)
        error = np.std(regrets) / len(regrets) ** 0.5
        print(
            f"{name:18} regret {np.mean(regrets):.4f} +- {error:.4f} (median {np.median(regrets):.4f}) over "
            f"{len(tasks)} tasks, {chosen.seeds} seeds; {time.process_time() - begun:.0f} s of CPU",
            flush=True,
        )


if __name__ == "__main__":
    main()
