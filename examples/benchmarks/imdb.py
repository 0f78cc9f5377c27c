"""What transfer is worth: IMDB reviews with 200, 1,000 and 5,000 labels, beside no transfer and beside TF-IDF.

    python examples/benchmarks/imdb.py FOLDER tune ENCODER --out DIR      # the language model, on unlabelled reviews
    python examples/benchmarks/imdb.py FOLDER classify DIR --labels 200 1000 5000 --seeds 0 1 2
    python examples/benchmarks/imdb.py FOLDER tfidf

FOLDER holds imdb_50k.csv.gz (split, label, id, text) and imdb_unsup_50k.csv.gz (Maas et al. 2011). Accuracy is on every
fifth of the 25,000 test reviews, the same 5,000 for all.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd

from easylearn import (
    Learner,
    TextData,
    TextLMData,
    WeightAverage,
    generate,
    language_model_learner,
    save_encoder,
    schedules,
    text_classifier_learner,
)
from easylearn.texts.transfer import read_encoder

TEST_EVERY = 5
SETTINGS = {200: (8, 9, 0.98), 1000: (16, 5, 0.99), 5000: (32, 2, 0.99)}
"""By number of labels: batch size; epochs of all layers, after one of the head; share that averaged weights keep."""

RATE = 1e-2
FACTOR = 1.3  # each group's rate is so much below that of the group above it
MAX_TOKENS = 300  # of longer reviews the beginning and the end


def labelled(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = pd.read_csv(folder / "imdb_50k.csv.gz")
    train, test = table[table["split"] == "train"], table[table["split"] == "test"]
    return train.reset_index(drop=True), test.reset_index(drop=True).iloc[::TEST_EVERY].reset_index(drop=True)


def chosen(train: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Half of each class."""
    rows = train.groupby("label").sample(n // 2, random_state=seed).index
    return train.loc[rows].reset_index(drop=True)


def tune(folder: Path, encoder: str, out: Path, reviews: int, lr: float, epochs: int, sampled: int | None) -> None:
    unlabelled = pd.read_csv(folder / "imdb_unsup_50k.csv.gz").iloc[:reviews]
    begun = time.perf_counter()
    data = TextLMData.from_df(unlabelled, valid=0.02, max_vocab=30_000, min_freq=3, batch_size=64)
    print(data, f"{time.perf_counter() - begun:.1f} s", flush=True)
    lm = language_model_learner(data, pretrained=encoder, drop_mult=0.1, sampled=sampled, path=out)
    print("before:", lm.validate(), flush=True)
    lm.fit_one_cycle(lr, epochs, momentum=(0.8, 0.7), checkpoint=out / "checkpoint", every="5min")
    save_encoder(lm, "encoder")
    print(f"tuned on {reviews} reviews in {time.perf_counter() - begun:.0f} s; {generate(lm, 'This film is', 40)!r}")


def classify(folder: Path, tuned: Path, labels: int, seed: int, scratch: bool, dev: int = 0) -> dict[str, float]:
    train, test = labelled(folder)
    part = chosen(train, labels, seed)
    if dev:  # for choosing settings: training reviews that are not in `part`
        rest = train[~train["id"].isin(part["id"])]
        test = rest.sample(dev, random_state=100)
    saved = read_encoder(tuned)
    batch_size, epochs, decay = SETTINGS[labels]
    settings = {"vocab": saved, "batch_size": batch_size, "max_tokens": MAX_TOKENS, "progress": False}
    data = TextData.from_df(part, valid=None, **settings)
    begun = time.perf_counter()
    start = saved.sizes if scratch else {"pretrained": saved}
    learn = text_classifier_learner(data, **start, drop_mult=0.4, label_smoothing=0.1, seed=seed, progress=False)
    train_all(learn, epochs, decay)
    took = time.perf_counter() - begun
    learn.set_data(TextData.from_df(part, valid=test, **{**settings, "batch_size": 64}))
    result = {"labels": labels, "seed": seed, "scratch": scratch, "seconds": took, **learn.validate()}
    print(json.dumps(result), flush=True)
    return result


def train_all(learn: Learner, epochs: int, decay: float) -> None:
    """The head for an epoch, then everything; without transfer there is nothing that the head could start from."""
    n = len(learn.layer_groups)
    rates = [RATE / FACTOR ** (n - 1 - i) for i in range(n)]
    shape = schedules.slanted_triangular()
    if not learn.layer_groups[0].trainable:
        learn.fit(rates, 1, cycle_len=None, schedule=shape)
        learn.unfreeze()
    learn.fit(rates, epochs, cycle_len=None, schedule=shape, callbacks=[WeightAverage("ema", decay=decay)])


def tfidf(folder: Path, labels: int, seed: int) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline

    train, test = labelled(folder)
    part = chosen(train, labels, seed)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegressionCV(Cs=[1, 10, 100], cv=3, max_iter=500),
    )
    return float(model.fit(part["text"], part["label"]).score(test["text"], test["label"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=["tune", "classify", "scratch", "tfidf"])
    parser.add_argument("encoder", nargs="?", help="of easylearn pretrain-lm, or of tune")
    parser.add_argument("--out", type=Path, default=Path("imdb-lm"))
    parser.add_argument("--reviews", type=int, default=50_000)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--sampled", type=int, default=2048, help="tune: see SampledSoftmax")
    parser.add_argument("--labels", type=int, nargs="+", default=[200, 1000, 5000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dev", type=int, default=0, help="compare on so many training reviews instead of the test")
    given = parser.parse_args()
    if given.what == "tune":
        return tune(given.folder, given.encoder, given.out, given.reviews, given.lr, given.epochs, given.sampled)
    for labels in given.labels:
        for seed in given.seeds:
            if given.what == "tfidf":
                print(json.dumps({"labels": labels, "seed": seed, "tfidf": tfidf(given.folder, labels, seed)}))
            else:
                classify(given.folder, Path(given.encoder), labels, seed, given.what == "scratch", given.dev)


if __name__ == "__main__":
    main()
