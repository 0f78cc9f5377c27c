"""Texts with few labels: TF-IDF and logistic regression beside a pretrained encoder, frozen, contrasted and unfrozen.

python examples/benchmarks/few_labels.py FOLDER --labels 16 64 200 1000   # with rt-polarity.pos and rt-polarity.neg
python examples/benchmarks/few_labels.py FOLDER --labels 200 1000         # with imdb_50k.csv.gz

The same test texts for all; each seed draws other labels, half of each class. Vectors of a text are computed once for
all draws and kept in easylearn's cache. "reference" is scikit-learn on the same vectors as "frozen".
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from easylearn import Learner, TextBody, TextData, contrast, text_classifier_learner

BEFORE_TEST = 8000  # texts of rt_polarity to draw labels from; those behind them are the test


def read(folder: Path, n_test: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A pool to draw labels from and the test texts: columns `text` and `label`."""
    if (folder / "imdb_50k.csv.gz").exists():
        reviews = pd.read_csv(folder / "imdb_50k.csv.gz")
        train, test = (
            reviews[(reviews["split"] == s) & reviews["label"].isin(["pos", "neg"])] for s in ("train", "test")
        )
        return train.reset_index(drop=True), test.sample(n_test, random_state=0)
    rows = []
    for label in ("pos", "neg"):
        lines = (folder / f"rt-polarity.{label}").read_text(encoding="latin-1").split("\n")
        rows += [(line, label) for line in lines if line]
    table = pd.DataFrame(rows, columns=["text", "label"])
    table = table.iloc[np.random.default_rng(0).permutation(len(table))].reset_index(drop=True)
    return table[:BEFORE_TEST], table[BEFORE_TEST : BEFORE_TEST + n_test]


def draw(pool: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """So many labels, half of each class."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(pool["label"] == k), n // 2, replace=False) for k in sorted(set(pool["label"]))]
    return pool.iloc[np.concatenate(chosen)]


def tfidf(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Ten lines of scikit-learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000).fit(words.fit_transform(train["text"]), train["label"])
    return float(model.score(words.transform(test["text"]), test["label"]))


def vectors(learn: Learner, split: str) -> np.ndarray:
    """What the frozen encoder gives, out of the store."""
    learn.precompute = True
    loader = learn._features.loader(learn.model, learn.data, split, learn.strategy)
    batches = list(loader.batches(learn.strategy.device))
    order = torch.cat([b.index for b in batches]).argsort()
    return torch.cat([b.inputs[0] for b in batches])[order].numpy()


def reference(learn: Learner) -> float:
    """Logistic regression on the same vectors."""
    from sklearn.linear_model import LogisticRegression

    target = {split: learn.data.loader(split).target.numpy() for split in ("train", "valid")}
    model = LogisticRegression(C=10, max_iter=1000).fit(vectors(learn, "train"), target["train"])
    return float(model.score(vectors(learn, "valid"), target["valid"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[16, 64, 200, 1000])
    parser.add_argument("--ways", nargs="+", default=["tfidf", "reference", "frozen", "contrast"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", type=int, default=1500, help="test texts")
    parser.add_argument("--body", default="minilm")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=1, help="of contrast")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pool, test = read(given.folder, given.test)
    found: dict[tuple[int, str], list[float]] = {}

    def note(n: int, way: str, seed: int, work: Callable[[], float]) -> None:
        begun = time.process_time()
        accuracy = 100 * work()
        found.setdefault((n, way), []).append(accuracy)
        print(
            f"{n:6} labels, seed {seed}, {way:10} {accuracy:5.1f} %, {time.process_time() - begun:6.1f} s CPU",
            flush=True,
        )

    for n in given.labels:
        for seed in given.seeds:
            train = draw(pool, n, seed)
            if "tfidf" in given.ways:
                note(n, "tfidf", seed, lambda train=train: tfidf(train, test))
            if set(given.ways) == {"tfidf"}:
                continue
            data = TextData.from_df(train, valid=test, batch_size=16, progress=False)
            body = TextBody(given.body, max_tokens=given.max_tokens)
            learn = text_classifier_learner(data, body=body, precompute=True, progress=False, seed=seed)
            if "reference" in given.ways:
                note(n, "reference", seed, lambda learn=learn: reference(learn))
            if "frozen" in given.ways:
                note(n, "frozen", seed, lambda learn=learn: frozen(learn))
            if "contrast" in given.ways:
                note(n, "contrast", seed, lambda learn=learn: contrasted(learn, given.epochs))
            if "unfrozen" in given.ways:
                learn = text_classifier_learner(data, body=body, precompute=True, progress=False, seed=seed)
                note(n, "unfrozen", seed, lambda learn=learn: unfrozen(learn))
    print("\n| labels | way | accuracy: median [least, most] |\n|---|---|---|")
    for (n, way), values in found.items():
        print(f"| {n:,} | {way} | {np.median(values):.1f} [{min(values):.1f}, {max(values):.1f}] % |")


def frozen(learn: Learner) -> float:
    """The head of the frozen encoder."""
    learn.fit_one_cycle(1e-3, 1)
    return learn.record.last["accuracy"]


def contrasted(learn: Learner, epochs: int) -> float:
    """After SetFit's step."""
    return contrast(learn, epochs).last["accuracy"]


def unfrozen(learn: Learner) -> float:
    """Everything trained by the labels' own loss."""
    learn.fit_one_cycle(1e-3, 1)
    learn.unfreeze()
    return learn.fit_one_cycle([1e-5, 2e-5, 1e-3], 3).last["accuracy"]


if __name__ == "__main__":
    main()
