"""Texts with few labels: TF-IDF and logistic regression beside a pretrained encoder, frozen, contrasted and unfrozen,
and the mean of its probabilities and TF-IDF's.

python examples/benchmarks/few_labels.py FOLDER --labels 16 64 200 1000   # with rt-polarity.pos and rt-polarity.neg
python examples/benchmarks/few_labels.py FOLDER --labels 200 1000         # with imdb_50k.csv.gz
python examples/benchmarks/few_labels.py FOLDER --unlabelled imdb_unsup_50k.csv.gz

The same test texts for all; each seed draws other labels, half of each class. Vectors of a text are computed once for
all draws and kept in easylearn's cache. "reference" is scikit-learn on the same vectors as "frozen". Whatever the
encoder says is averaged with TF-IDF, too: the rows "+ tfidf". With a table of texts without labels there is a
`word_model`, too: "words" and "+ words". With `--named 3000` the frozen encoder says what so many of these are, and
words learn from that: "taught"; "all" is the mean of these words, the frozen encoder and the one after `contrast`. With
`--more 12000` these words name as many others, and `contrast` learns from the surest of them: "contrast, named".
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from easylearn import Learner, Predictions, TextBody, TextData, contrast, text_classifier_learner, word_model
from easylearn.texts.word_model import WordModel

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


def tfidf(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Ten lines of scikit-learn: probabilities of the classes."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    )
    return words.fit(train["text"], train["label"]).predict_proba(test["text"])


def vectors(learn: Learner, split: str) -> np.ndarray:
    """What the frozen encoder gives, out of the store."""
    return learn._features.table(learn.model, learn.data, split, learn.strategy).numpy()


def reference(learn: Learner) -> np.ndarray:
    """Logistic regression on the same vectors."""
    from sklearn.linear_model import LogisticRegression

    target = learn.data.loader("train").target.numpy()
    model = LogisticRegression(C=10, max_iter=1000).fit(vectors(learn, "train"), target)
    return model.predict_proba(vectors(learn, "valid"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[16, 64, 200, 1000])
    parser.add_argument("--ways", nargs="+", default=["tfidf", "reference", "frozen", "contrast"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", type=int, default=1500, help="test texts")
    parser.add_argument("--body", default="minilm")
    parser.add_argument("--max-tokens", type=int, help="of a text; eight windows if not given")
    parser.add_argument("--unlabelled", type=Path, help="a csv file with a column `text`")
    parser.add_argument("--named", type=int, default=0, help="of these, said by the frozen encoder")
    parser.add_argument("--more", type=int, default=0, help="of the others, said by the words that were taught so")
    parser.add_argument("--epochs", type=int, default=1, help="of contrast")
    parser.add_argument(
        "--precision", default="fp32", help="bf16 takes a third of the time where the processor knows it"
    )
    given = parser.parse_args()
    if given.named and given.unlabelled is None:
        parser.error("--named takes texts of --unlabelled: name a csv file with a column `text`")
    torch.set_num_threads(1)
    pool, test = read(given.folder, given.test)
    target = test["label"].to_numpy() == sorted(set(test["label"]))[1]
    found: dict[tuple[int, str], list[float]] = {}
    unlabelled: Any = () if given.unlabelled is None else pd.read_csv(given.unlabelled)["text"].tolist()
    named = pd.DataFrame({"text": unlabelled}).sample(given.named, random_state=0) if given.named else None
    more = [] if named is None else pd.Series(unlabelled).drop(named.index).sample(given.more, random_state=1).tolist()

    def note(n: int, way: str, seed: int, work: Callable[[], np.ndarray]) -> np.ndarray:
        begun = time.process_time()
        probs = work()
        accuracy = 100 * float(((probs[:, 1] > 0.5) == target).mean())
        found.setdefault((n, way), []).append(accuracy)
        seconds = time.process_time() - begun
        print(f"{n:6} labels, seed {seed}, {way:16} {accuracy:5.1f} %, {seconds:6.1f} s CPU", flush=True)
        return probs

    for n in given.labels:
        for seed in given.seeds:
            train = draw(pool, n, seed)
            data = TextData.from_df(train, valid=test, test=named, batch_size=16, progress=False)
            beside = {"tfidf": note(n, "tfidf", seed, lambda train=train: tfidf(train, test))}
            if given.unlabelled is not None and named is None:
                unlabelled = word_model(data, unlabelled)  # the next draw takes the directions of this one
                beside["words"] = note(n, "words", seed, lambda words=unlabelled: words.predict().probs.numpy())
            body = TextBody(given.body, max_tokens=given.max_tokens)
            options = {"precompute": True, "progress": False, "seed": seed, "precision": given.precision}
            learn = text_classifier_learner(data, body=body, **options)
            members = []
            for way in (w for w in given.ways if w != "tfidf"):
                if way == "unfrozen":
                    learn = text_classifier_learner(data, body=body, **options)
                probs = note(n, way, seed, lambda learn=learn, way=way: WAYS[way](learn, given.epochs))
                for other, said_by_it in beside.items():
                    note(n, f"{way} + {other}", seed, lambda probs=probs, other=said_by_it: (probs + other) / 2)
                if way == "frozen" and named is not None:
                    told = Predictions.of(learn.task, torch.from_numpy(said(learn, "test")), tuple(data.ids("test")))
                    words = word_model(data, named["text"].tolist(), said=told)
                    beside["taught"] = note(n, "taught", seed, lambda words=words: words.predict().probs.numpy())
                    members = [beside["taught"], probs]
                    note(n, "frozen + taught", seed, lambda members=members: sum(members) / 2)
                    if more:
                        new = text_classifier_learner(data, body=body, **options)
                        probs = note(
                            n, "contrast, named", seed, lambda new=new, words=words: contrasted_by(words, new, more)
                        )
                        note(n, "all, named", seed, lambda members=[*members, probs]: sum(members) / 3)
                elif members:
                    note(n, f"all, {way}", seed, lambda members=[*members, probs]: sum(members) / 3)
    print("\n| labels | way | accuracy: median [least, most] |\n|---|---|---|")
    for (n, way), values in found.items():
        print(f"| {n:,} | {way} | {np.median(values):.1f} [{min(values):.1f}, {max(values):.1f}] % |")


def said(learn: Learner, split: str = "valid") -> np.ndarray:
    """Probabilities of the test texts by their stored vectors: `learn.predict()` without reading them once more."""
    with torch.no_grad():
        logits = learn.model.head.eval()(torch.from_numpy(vectors(learn, split)))
    return learn.task.activate(logits).numpy()


def frozen(learn: Learner) -> np.ndarray:
    """The head of the frozen encoder."""
    learn.fit_one_cycle(1e-3, 1)
    return said(learn)


def contrasted(learn: Learner, epochs: int) -> np.ndarray:
    """After SetFit's step."""
    contrast(learn, epochs)
    return said(learn)


def contrasted_by(words: WordModel, learn: Learner, texts: list[str]) -> np.ndarray:
    """After SetFit's step on texts without labels, too, that words have named."""
    contrast(learn, unlabelled=texts, said=words.predict(texts))
    return said(learn)


def unfrozen(learn: Learner) -> np.ndarray:
    """Everything trained by the labels' own loss."""
    learn.fit_one_cycle(1e-3, 1)
    learn.unfreeze()
    learn.fit_one_cycle([1e-5, 2e-5, 1e-3], 3)
    return learn.predict().probs.numpy()


WAYS: dict[str, Callable[[Learner, int], np.ndarray]] = {
    "reference": lambda learn, _: reference(learn),
    "frozen": lambda learn, _: frozen(learn),
    "contrast": contrasted,
    "unfrozen": lambda learn, _: unfrozen(learn),
}


if __name__ == "__main__":
    main()
