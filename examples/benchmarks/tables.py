"""Tables: accuracy beside gradient-boosted trees, and speed beside loops written by hand.

    python examples/benchmarks/tables.py rossmann data/rossmann     # RMSPE of the last six weeks, beside trees
    python examples/benchmarks/tables.py adult data/adult           # accuracy and ROC AUC, beside trees
    python examples/benchmarks/tables.py movielens data/movielens   # RMSE of ratings
    python examples/benchmarks/tables.py fit                        # rows per second, 500,000 made-up rows
    python examples/benchmarks/tables.py prepare                    # from a DataFrame to tensors, beside plain pandas
    python examples/benchmarks/tables.py predict                    # one row

`adult` holds adult.csv.gz with UCI's own test rows marked in `is_test`, `movielens` movielens100k.csv.gz. Whatever is
compared runs in one process, in turn; only `prepare` starts a process for each, since it measures peak memory.
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
from torch.nn import functional as F

from easylearn import (
    CollabData,
    EntityEmbedder,
    Learner,
    TabularData,
    collab_learner,
    rmspe,
    roc_auc,
    tabular_learner,
)
from easylearn.train.optim import adamw

CPU = torch.device("cpu")
LEVELS = (2, 10, 50, 200, 1000, 2000)
CATS = [f"cat{i}" for i in range(len(LEVELS))]
CONTS = [f"num{i}" for i in range(10)]


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def show(name: str, values: list[float], unit: str = "") -> None:
    print(f"{name:44s} {statistics.mean(values):.4f} {unit}  [{', '.join(f'{v:.4f}' for v in values)}]", flush=True)


# -- accuracy ----------------------------------------------------------------------------------------------


def rossmann(folder: Path, seeds: int) -> None:
    """The lesson's features and rows for both."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    sys.path.insert(0, str(Path(__file__).parent.parent))
    import lesson3_rossmann as lesson

    df = lesson.make_features(lesson.read(folder))
    cats, conts = lesson.CATS.split(), lesson.CONTS.split()
    data = TabularData.from_df(df, "Sales", cat_names=cats, cont_names=conts, time="Date", valid="6W", log_target=True)
    print(data)
    scores = []
    for seed in range(seeds):
        learn = tabular_learner(data, [400, 200], metrics=[rmspe], seed=seed, progress=False)
        took = timed(lambda learn=learn: learn.fit_one_cycle(1e-2, 3))
        scores.append(learn.record.last["rmspe"])
        print(f"  seed {seed}: RMSPE {scores[-1]:.4f} in {took:.0f} s")
    show("easylearn, 3 epochs", scores)

    late = df["Date"] > df["Date"].max() - pd.Timedelta("6W")
    x = df[[*cats, *conts]].assign(**{c: df[c].astype("category").cat.codes for c in cats})
    few = [c for c in cats if df[c].nunique() <= 255]  # more levels than scikit-learn's trees take as categories
    truth = torch.tensor(df["Sales"][late].to_numpy())
    for name, settings in (
        ("by default", {}),
        ("tuned", {"max_iter": 1000, "learning_rate": 0.1, "max_leaf_nodes": 127}),
    ):
        trees = HistGradientBoostingRegressor(categorical_features=few, random_state=0, **settings)
        took = timed(lambda trees=trees: trees.fit(x[~late], np.log(df["Sales"][~late])))
        score = rmspe(torch.tensor(np.exp(trees.predict(x[late]))), truth)
        print(f"trees {name}: RMSPE {score:.4f} in {took:.0f} s")


def adult(folder: Path, seeds: int) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import accuracy_score, roc_auc_score
    from sklearn.pipeline import make_pipeline

    df = pd.read_csv(folder / "adult.csv.gz")
    train, test = (df[df["is_test"] == t].drop(columns="is_test") for t in (False, True))
    data = TabularData.from_df(train, "salary", valid=test)
    x_train, x_test = train.drop(columns="salary"), test.drop(columns="salary")
    y_train, y_test = train["salary"] == ">50K", (test["salary"] == ">50K").to_numpy()
    text = [c for c in x_train if not pd.api.types.is_numeric_dtype(x_train[c])]
    as_codes = [x.assign(**{c: x[c].astype(pd.CategoricalDtype(sorted(df[c].dropna().unique()))) for c in text})
                for x in (x_train, x_test)]  # fmt: skip
    scores: dict[str, list[tuple[float, float, float]]] = {}

    def note(name: str, took: float, probability: np.ndarray) -> None:
        score = accuracy_score(y_test, probability > 0.5), roc_auc_score(y_test, probability)
        scores.setdefault(name, []).append((*score, took))

    for seed in range(seeds):
        learn = tabular_learner(data, metrics=[roc_auc], seed=seed, progress=False)
        took = timed(lambda learn=learn: learn.fit_one_cycle(1e-2, 5))
        note("easylearn, 5 epochs", took, learn.predict().probs[:, 1].numpy())
        trees = HistGradientBoostingClassifier(random_state=seed, categorical_features="from_dtype")
        took = timed(lambda trees=trees: trees.fit(as_codes[0], y_train))
        note("trees", took, trees.predict_proba(as_codes[1])[:, 1])
        both = make_pipeline(EntityEmbedder(seed=seed), HistGradientBoostingClassifier(random_state=seed))
        took = timed(lambda both=both: both.fit(x_train, y_train))
        note("trees on EntityEmbedder's vectors", took, both.predict_proba(x_test)[:, 1])
    for name, rows in scores.items():
        for what, column in zip(("accuracy", "ROC AUC", "seconds"), zip(*rows, strict=True), strict=True):
            show(f"{name}: {what}", list(column))


def movielens(folder: Path, seeds: int) -> None:
    df = pd.read_csv(folder / "movielens100k.csv.gz")
    for name, settings in (("dot product", {}), ("neural", {"use_nn": True, "ps": 0.5})):
        scores, seconds = [], []
        for seed in range(seeds):
            data = CollabData.from_df(df, "userId", "movieId", "rating", seed=seed)
            learn = collab_learner(data, seed=seed, progress=False, **settings)
            seconds.append(timed(lambda learn=learn: learn.fit_one_cycle(5e-3, 5)))
            scores.append(learn.record.last["rmse"])
        show(f"{name}: RMSE", scores)
        show(f"{name}: seconds", seconds)


# -- speed -------------------------------------------------------------------------------------------------


def make_up(rows: int) -> pd.DataFrame:
    """Six columns of words, ten of numbers of which two have gaps, and a label of two classes."""
    random = np.random.default_rng(0)
    columns: dict[str, np.ndarray] = {}
    score = np.zeros(rows)
    for name, n in zip(CATS, LEVELS, strict=True):
        code = np.minimum((random.random(rows) ** 1.5 * n).astype(np.int64), n - 1)
        columns[name] = np.array([f"v{j}" for j in range(n)], dtype=object)[code]
        score += 0.5 * random.standard_normal(n)[code]
    for i, name in enumerate(CONTS):
        x = random.standard_normal(rows) * (i + 1) + i
        score += 0.1 * x
        if i < 2:
            x[random.random(rows) < 0.05] = np.nan
        columns[name] = x
    columns["y"] = np.where(score + random.standard_normal(rows) > np.nanmedian(score), "yes", "no").astype(object)
    return pd.DataFrame(columns)


def made_up_data(rows: int) -> TabularData:
    return TabularData.from_df(make_up(rows), "y", cat_names=CATS, cont_names=CONTS, valid=None, batch_size=1024)


def by_hand(learn: Learner, cats: torch.Tensor, conts: torch.Tensor, y: torch.Tensor) -> None:
    """One epoch over ready tensors with the fused optimizer: as quick as a loop can be written."""
    model = learn.model
    optimizer = adamw(model.parameters(), lr=1e-3)
    model.train()
    for i in torch.randperm(len(y)).split(1024):
        loss = F.cross_entropy(model(cats[i], conts[i]), y[i])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def fit(rows: int, repeats: int) -> None:
    data = made_up_data(rows)
    batches = [(*b.inputs, b.target) for b in data.loader("train").batches(CPU)]
    cats, conts, y = (torch.cat(t) for t in zip(*batches, strict=True))
    n = len(y)
    kinds = {"the default network": {}, "without vectors of numbers": {"cont_emb": 0, "forget": 0.0}}
    seconds: dict[str, list[float]] = {}
    for repeat in range(repeats + 1):
        for name, settings in kinds.items():
            learn = tabular_learner(data, [200, 100], device="cpu", progress=False, **settings)
            took = {
                "fit": timed(lambda learn=learn: learn.fit(1e-3, 1)),
                "by hand": timed(lambda learn=learn: by_hand(learn, cats, conts, y)),
            }
            if repeat:  # the first round warms up
                for what, value in took.items():
                    seconds.setdefault(f"{what}, {name}", []).append(value)
    seconds["batches alone"] = [
        timed(lambda k=k: sum(1 for _ in data.train_loader().batches(CPU, epoch=k))) for k in range(repeats)
    ]
    for name, values in seconds.items():
        middle = n / statistics.median(values)
        print(f"{name:36s} {middle:11,.0f} rows/s  [{n / max(values):,.0f} to {n / min(values):,.0f}]")
    for name in kinds:
        ratio = statistics.median(seconds[f"by hand, {name}"]) / statistics.median(seconds[f"fit, {name}"])
        print(f"fit / by hand, {name}: {ratio:.3f}")


def with_pandas(df: pd.DataFrame, train: np.ndarray) -> list[torch.Tensor]:
    """What one would write: codes by factorize on the training rows, medians, deviations."""
    cats = np.empty((len(df), len(CATS) + 2), np.int64)
    for j, name in enumerate(CATS):
        _, values = pd.factorize(df[name].iloc[train], sort=True)
        cats[:, j] = pd.Index(values).get_indexer(df[name]) + 1
    x = np.array(df[CONTS], np.float32)
    gone = np.isnan(x)
    for k, j in enumerate(np.flatnonzero(gone[train].any(0))):
        x[gone[:, j], j] = np.nanmedian(x[train, j])
        cats[:, len(CATS) + k] = gone[:, j] + 1
    x -= x[train].mean(0)
    x /= x[train].std(0) + 1e-7
    y, _ = pd.factorize(df["y"], sort=True)
    return [torch.from_numpy(a) for a in (cats, x, y)]


def prepare(rows: int, repeats: int, only: str | None) -> None:
    if only is None:
        for name in ("easylearn", "pandas"):
            seconds, megabytes = [], []
            for _ in range(repeats):
                command = [sys.executable, __file__, "prepare", "--rows", str(rows), "--only", name]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
                seconds.append(float(said[0]))
                megabytes.append(float(said[1]))
            print(
                f"{name:12s} {statistics.median(seconds):.3f} s [{min(seconds):.3f} to {max(seconds):.3f}], "
                f"{statistics.median(megabytes):.0f} MB at the peak beside the table"
            )
        return
    df = make_up(rows)
    valid = np.random.default_rng(1).permutation(rows)[: rows // 50]
    train = np.setdiff1d(np.arange(rows), valid)
    warm = df.iloc[:2000]
    calls: dict[str, Callable[[pd.DataFrame, np.ndarray, np.ndarray], object]] = {
        "easylearn": lambda d, t, v: TabularData.from_df(d, "y", cat_names=CATS, cont_names=CONTS, valid=v),
        "pandas": lambda d, t, v: with_pandas(d, t),
    }
    calls[only](warm, np.arange(100, 2000), np.arange(100))
    before = peak_memory(reset=True)
    took = timed(lambda: calls[only](df, train, valid))
    print(took, (peak_memory() - before) / 1e6)


def peak_memory(reset: bool = False) -> float:
    """Bytes: the largest resident size since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    with open("/proc/self/status", encoding="ascii") as file:
        return next(float(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def predict(rows: int, repeats: int) -> None:
    data = made_up_data(rows)
    learn = tabular_learner(data, [200, 100], device="cpu", progress=False)
    row = make_up(1000).drop(columns="y").iloc[7]
    table, as_dict = row.to_frame().T.infer_objects(), row.to_dict()
    batch = next(iter(data.loader("train").batches(CPU)))
    cats, conts = (t[:1] for t in batch.inputs)
    learn.model.eval()

    def bare() -> None:
        with torch.no_grad():
            learn.model(cats, conts)

    calls = {
        "the bare forward pass": bare,
        "predict(row as a dictionary)": lambda: learn.predict(as_dict),
        "predict(row as a Series)": lambda: learn.predict(row),
        "predict(table of one row)": lambda: learn.predict(table),
    }
    for name, call in calls.items():
        call()
        values = sorted(timed(call) * 1e3 for _ in range(100 * repeats))
        print(f"{name:32s} {statistics.median(values):.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rossmann", "adult", "movielens", "fit", "prepare", "predict"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["easylearn", "pandas"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what in ("rossmann", "adult", "movielens"):
        if given.folder is None:
            parser.error(f"{given.what} needs the folder of its files")
        {"rossmann": rossmann, "adult": adult, "movielens": movielens}[given.what](given.folder, given.seeds)
    elif given.what == "prepare":
        prepare(given.rows, given.repeats, given.only)
    else:
        {"fit": fit, "predict": predict}[given.what](given.rows, given.repeats)


if __name__ == "__main__":
    main()
