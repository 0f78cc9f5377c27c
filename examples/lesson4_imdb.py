"""IMDB: is a review for or against its film? By a language model of such reviews first. The fourth lesson of 2018.

python examples/lesson4_imdb.py data/imdb   # {imdb_50k,imdb_unsup_50k}.csv.gz, with columns split, label, id, text

It reached 81.7 % of 2,000 reviews from 1,500 labels in 14 minutes of one core, with --pretrained (24 minutes of books).
More unlabelled reviews do more: docs/benchmarks.md.
"""

import argparse
from pathlib import Path

import pandas as pd

from easylearn import (
    TextData,
    TextLMData,
    generate,
    language_model_learner,
    save_encoder,
    text_classifier_learner,
)
from easylearn.schedules import slanted_triangular

FULL = ({"emb_size": 160, "n_hidden": 480, "n_layers": 2}, (4000, 1500, 2000))
QUICK = ({"emb_size": 100, "n_hidden": 100, "n_layers": 1}, (1000, 800, 500))


def read(path: Path, n_texts: int, n_train: int, n_test: int) -> list[pd.DataFrame]:
    reviews = pd.read_csv(path / "imdb_50k.csv.gz")
    train, test = (reviews[reviews["split"] == name] for name in ("train", "test"))
    texts = pd.read_csv(path / "imdb_unsup_50k.csv.gz", nrows=n_texts)
    return [texts, train.sample(n_train, random_state=0), test.sample(n_test, random_state=0)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="folder of the reviews")
    parser.add_argument("--quick", action="store_true", help="small model, few reviews; without a path made-up ones")
    parser.add_argument("--pretrained", help="folder of easylearn pretrain-lm, to start from")
    parser.add_argument("--out", type=Path, default=Path("imdb"), help="folder for encoder, weights and figure")
    given = parser.parse_args()
    if given.path is None and not given.quick:
        parser.error("give the folder of the reviews, or --quick")
    sizes, numbers = QUICK if given.quick else FULL
    if given.path is None:
        from made_up import reviews

        texts, train, test = reviews(), reviews()[:240], reviews()[240:]
    else:
        texts, train, test = read(given.path, *numbers)

    start = {"pretrained": given.pretrained} if given.pretrained else sizes
    lm_data = TextLMData.from_df(texts, batch_size=32, bptt=50, max_vocab=30_000)
    lm = language_model_learner(lm_data, **start, drop_mult=0.2, sampled=2048, path=given.out)
    lm.fit_one_cycle(1e-2, 1, momentum=(0.8, 0.7))
    save_encoder(lm, "encoder")
    print(generate(lm, "This film is", 40))
    data = TextData.from_df(train, valid=test, vocab=lm, batch_size=16, max_tokens=300)
    learn = text_classifier_learner(data, pretrained=given.out / "encoder", drop_mult=0.4, path=given.out)
    rates = [1e-2 / 1.3**k for k in reversed(range(len(learn.layer_groups)))]  # a small model can change much
    learn.fit(rates, 1, cycle_len=None, schedule=slanted_triangular())  # the head alone
    learn.unfreeze()
    learn.fit(rates, 4, cycle_len=None, schedule=slanted_triangular())
    for review in ("A moving and funny film.", "Two hours of my life that nobody gives me back."):
        print(review, learn.predict(review))
    learn.sched.plot_losses().savefig(given.out / "losses.png")
