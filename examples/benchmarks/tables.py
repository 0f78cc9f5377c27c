"""Tables: accuracy on Rossmann, Adult and MovieLens beside boosted trees, speed beside a hand-written loop.

    python examples/benchmarks/tables.py --adult adult.csv.gz --ratings movielens100k.csv.gz --rossmann data/rossmann
    python examples/benchmarks/tables.py                # the speed of a made-up table alone

Adult: columns as in UCI with `is_test` and `salary`. Ratings: userId, movieId, rating. Rossmann: the third lesson's
folder. What preparing a table costs is measured in a process for each way, since it is about peak memory (Linux).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, roc_auc_score
from torch.nn import functional as F

from easylearn import (
    CollabData,
    EntityEmbedder,
    TabularData,
    accuracy,
    adamw,
    collab_learner,
    rmspe,
    roc_auc,
    tabular_learner,
)


def show(name: str, values: list[float]) -> None:
    print(f"{name:42s} {statistics.median(values):.4f}  [{min(values):.4f}, {max(values):.4f}]", flush=True)


def adult(file: str, seeds: int) -> None:
    """The network validates on a tenth of the training rows; no test row has a say in how long it is trained."""
    table = pd.read_csv(file)
    train, valid = (
        table[table["is_test"] == flag].drop(columns="is_test").reset_index(drop=True) for flag in (False, True)
    )
    cats = [c for c in train.columns if not pd.api.types.is_numeric_dtype(train[c]) and c != "salary"]
    conts = [c for c in train.columns if c not in (*cats, "salary")]
    x, y = (t[cats + conts].astype(dict.fromkeys(cats, "category")) for t in (train, valid)), valid["salary"]
    x_train, x_valid = x
    for c in cats:
        x_valid[c] = x_valid[c].cat.set_categories(x_train[c].cat.categories)
    figures: dict[str, list[float]] = {}
    for seed in range(seeds):
        for members in (1, 8):
            begun = time.process_time()
            data = TabularData.from_df(
                train, "salary", cat_names=cats, cont_names=conts, valid=0.1, test=valid, seed=seed
            )
            learn = tabular_learner(data, members=members, metrics=[accuracy, roc_auc], seed=seed, progress=False)
            learn.fit_one_cycle(1e-2)
            reached = learn.validate("test")
            name = "Adult, easylearn" + ", 8 members" * (members > 1)
            figures.setdefault(f"{name}, area under the curve", []).append(reached["roc_auc"])
            figures.setdefault(f"{name}, accuracy", []).append(reached["accuracy"])
            figures.setdefault(f"{name}, CPU seconds", []).append(time.process_time() - begun)
        embedder = EntityEmbedder(cat_names=cats, cont_names=conts, seed=seed).fit(train, train["salary"])
        fed = {"trees": (x_train, x_valid), "trees on embeddings": tuple(embedder.transform(t) for t in (train, valid))}
        for name, (a, b) in fed.items():
            kind = "from_dtype" if name == "trees" else None
            trees = HistGradientBoostingClassifier(random_state=seed, categorical_features=kind).fit(a, train["salary"])
            says = trees.predict_proba(b)[:, 1]
            figures.setdefault(f"Adult, {name}, area under the curve", []).append(
                roc_auc_score(y == trees.classes_[1], says)
            )
            figures.setdefault(f"Adult, {name}, accuracy", []).append(accuracy_score(y, trees.predict(b)))
    for name, values in figures.items():
        show(name, values)


def rossmann(folder: str, seeds: int) -> None:
    """The lesson's features, rows and logarithms for both.

    Trees take columns of up to 255 levels as categories, and of a shop, of which there are more, its mean in training.
    """
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import lesson3_rossmann as lesson

    table = lesson.make_features(lesson.read(Path(folder)))
    cats, conts = lesson.CATS.split(), lesson.CONTS.split()
    data = TabularData.from_df(
        table, "Sales", cat_names=cats, cont_names=conts, time="Date", valid="6W", log_target=True
    )
    errors, took = [], []
    for seed in range(seeds):
        learn = tabular_learner(data, [400, 200], linear=False, metrics=[rmspe], seed=seed, progress=False)
        begun = time.perf_counter()
        learn.fit_one_cycle(1e-2, 3)
        took.append(time.perf_counter() - begun)
        errors.append(learn.record.last["rmspe"])
    show("Rossmann, easylearn, rmspe", errors)
    show("Rossmann, easylearn, seconds", took)
    late = table["Date"] > table["Date"].max() - pd.Timedelta("6W")
    x = table[cats + conts].assign(**{c: table[c].astype("category").cat.codes for c in cats})
    logs = np.log(table["Sales"])
    for name in [c for c in cats if x[c].nunique() > 255]:
        x[name] = table[name].map(logs[~late].groupby(table[name]).mean())
    few = [c for c in cats if x[c].nunique() <= 255]
    for name, settings in {
        "by default": {},
        "600 of 127 leaves": {"max_iter": 600, "max_leaf_nodes": 127},
    }.items():
        trees = HistGradientBoostingRegressor(categorical_features=few, random_state=0, **settings)
        begun = time.perf_counter()
        trees.fit(x[~late], logs[~late])
        took = [time.perf_counter() - begun]
        show(
            f"Rossmann, trees {name}, rmspe",
            [rmspe(np.exp(trees.predict(x[late])), table["Sales"][late].to_numpy(copy=True))],
        )
        show(f"Rossmann, trees {name}, seconds", took)


def ratings(file: str, seeds: int) -> None:
    table = pd.read_csv(file)
    errors, took = [], []
    for seed in range(seeds):
        begun = time.perf_counter()
        data = CollabData.from_df(table, "userId", "movieId", "rating", valid=0.2, seed=seed)
        learn = collab_learner(data, seed=seed, progress=False)
        learn.fit_one_cycle(5e-3, 5)
        errors.append(learn.validate()["rmse"])
        took.append(time.perf_counter() - begun)
    show("MovieLens, easylearn, rmse", errors)
    show("MovieLens, easylearn, seconds", took)


def made_up(rows: int) -> tuple[pd.DataFrame, list[str], list[str]]:
    random = np.random.default_rng(0)
    levels = [2, 10, 50, 200, 1000, 2000]
    cats = {f"cat{n}": random.integers(0, n, rows).astype(str) for n in levels}
    conts = {f"num{i}": random.normal(size=rows) for i in range(10)}
    for i in range(2):
        conts[f"num{i}"][random.random(rows) < 0.05] = np.nan
    late = (conts["num3"] + random.normal(size=rows) > 0).astype(int)
    return pd.DataFrame({**cats, **conts, "late": late}), list(cats), list(conts)


def with_pandas(table: pd.DataFrame, train: np.ndarray, cats: list[str], conts: list[str]) -> list[torch.Tensor]:
    """What one would write: codes by factorize on the training rows, medians, flags, deviations."""
    codes = np.empty((len(table), len(cats) + 2), np.int64)
    for j, name in enumerate(cats):
        _, values = pd.factorize(table[name].iloc[train], sort=True)
        codes[:, j] = pd.Index(values).get_indexer(table[name]) + 1
    x = np.array(table[conts], np.float32)
    gone = np.isnan(x)
    for k, j in enumerate(np.flatnonzero(gone[train].any(0))):
        x[gone[:, j], j] = np.nanmedian(x[train, j])
        codes[:, len(cats) + k] = gone[:, j] + 1
    x -= x[train].mean(0)
    x /= x[train].std(0) + 1e-7
    y, _ = pd.factorize(table["late"], sort=True)
    return [torch.from_numpy(a) for a in (codes, x, y)]


def prepare(rows: int, way: str) -> None:
    """Print seconds and megabytes of one way from a DataFrame to tensors."""
    table, cats, conts = made_up(rows)
    valid = np.arange(rows) % 50 == 0
    ways: dict[str, Callable[[int], object]] = {
        "easylearn": lambda n: TabularData.from_df(
            table.iloc[:n], "late", cat_names=cats, cont_names=conts, valid=valid[:n], task="single_label"
        ),
        "pandas": lambda n: with_pandas(table.iloc[:n], np.flatnonzero(~valid[:n]), cats, conts),
    }
    ways[way](2000)  # what is imported on first use
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak()
    begun = time.perf_counter()
    ways[way](rows)
    print(time.perf_counter() - begun, (peak() - before) / 1024)


def peak() -> float:
    """The most memory so far, in kilobytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(float(line.split()[1]) for line in file if line.startswith("VmHWM"))


def preparing(rows: int, repeats: int) -> None:
    measured: dict[str, list[list[float]]] = {"easylearn": [], "pandas": []}
    for _ in range(repeats):
        for way, values in measured.items():
            command = [sys.executable, __file__, "--prepare", way, "--rows", str(rows)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            values.append([float(v) for v in done.stdout.split()[-2:]])
    for way, values in measured.items():
        seconds, megabytes = zip(*values, strict=True)
        show(f"preparing {rows:,} rows, {way}, seconds", list(seconds))
        show(f"preparing {rows:,} rows, {way}, megabytes", list(megabytes))


def speed(rows: int, repeats: int) -> None:
    table, cats, conts = made_up(rows)
    data = TabularData.from_df(table, "late", cat_names=cats, cont_names=conts, valid=0.02, batch_size=1024)
    batch = next(data.loader("valid").batches(torch.device("cpu")))
    one = dict(table.iloc[0])

    def ours(num_emb_size: int) -> Callable[[], float]:
        def run() -> float:
            learn = tabular_learner(data, [200, 100], num_emb_size=num_emb_size, device="cpu", progress=False)
            begun = time.perf_counter()
            learn.fit(1e-3, 1, cycle_len=None)
            return len(data.target("train")) / (time.perf_counter() - begun)

        return run

    whole = list(data.loader("train").batches(torch.device("cpu")))
    x, z = (torch.cat([b.inputs[i] for b in whole]) for i in (0, 1))
    y = torch.cat([b.target for b in whole if b.target is not None])

    def bare() -> float:
        model = tabular_learner(data, [200, 100], num_emb_size=0, device="cpu", progress=False).model
        optimizer = adamw(model.parameters(), lr=1e-3)
        begun = time.perf_counter()
        model.train()
        for rows in torch.randperm(len(y)).split(1024):
            loss = F.cross_entropy(model(x[rows], z[rows]), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():  # fit validates, too
            model.eval()(*batch.inputs)
        return len(y) / (time.perf_counter() - begun)

    kinds = {
        "hand-written loop": bare,
        "easylearn, the same model": ours(0),
        "easylearn, numbers embedded (default)": ours(8),
    }
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(repeats + 1):
        for name, run in kinds.items():
            value = run()
            if repeat or repeats == 1:  # the first round warms up
                took[name].append(value)
    base = statistics.median(took["hand-written loop"])
    for name, values in took.items():
        middle = statistics.median(values)
        print(f"{name:42s} {middle:9,.0f} rows/s [{min(values):,.0f}, {max(values):,.0f}]  {middle / base:.2f}")

    learn = tabular_learner(data, [200, 100], device="cpu", progress=False)
    single = tuple(t[:1] for t in batch.inputs)
    with torch.no_grad():
        learn.model.eval()
        calls = {"one row, bare forward": lambda: learn.model(*single), "one row, predict": lambda: learn.predict(one)}
        for name, call in calls.items():
            call()
            begun = time.perf_counter()
            for _ in range(50):
                call()
            print(f"{name:42s} {(time.perf_counter() - begun) * 20:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adult")
    parser.add_argument("--ratings")
    parser.add_argument("--rossmann", help="the third lesson's folder")
    parser.add_argument("--prepare", choices=["easylearn", "pandas"], help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small table once, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rows, chosen.repeats = 5000, 1
    if chosen.prepare:
        prepare(chosen.rows, chosen.prepare)
        return
    if chosen.rossmann:
        rossmann(chosen.rossmann, chosen.seeds)
    if chosen.adult:
        adult(chosen.adult, chosen.seeds)
    if chosen.ratings:
        ratings(chosen.ratings, chosen.seeds)
    speed(chosen.rows, chosen.repeats)
    if Path("/proc/self/clear_refs").exists():
        preparing(chosen.rows, chosen.repeats)


if __name__ == "__main__":
    main()
