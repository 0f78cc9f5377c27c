"""Films by poster, words and figures: one learner over three branches, each branch alone, and what noise and gaps cost.

python examples/benchmarks/several.py FOLDER                  # with movies.csv and posters/
python examples/benchmarks/several.py FOLDER --fuse mean      # or concat
python examples/benchmarks/several.py --quick                 # made-up films, seconds

Ten genres, several of a film; 700 films drawn once are the test for all. Each seed is another training. The rows "with
noise" have a further branch, the posters of other films; in "with gaps" a tenth of the posters and a tenth of the words
are missing, in training and in the test; a branch alone is then of the films that have it. "gaps in the test alone" is
what is lost by inputs that are not there, whoever learns from the others. TF-IDF with logistic
regression reads the same words. Times are of the processor; features are stored by the first run and found by the
others. With --choose the other films alone are used, 600 of which validate: for choosing settings.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from easylearn import Learner, MultiData, multi_learner

GENRES = ["Drama", "Comedy", "Thriller", "Action", "Romance", "Adventure", "Crime", "Fantasy", "Sci-Fi", "Horror"]
TEST = 700


def macro_auc(probs: torch.Tensor, target: torch.Tensor) -> float:
    return float(roc_auc_score(target.numpy() > 0.5, probs.numpy(), average="macro"))


def mean_precision(probs: torch.Tensor, target: torch.Tensor) -> float:
    return float(average_precision_score(target.numpy() > 0.5, probs.numpy(), average="macro"))


def films(folder: Path) -> pd.DataFrame:
    """The films with those of the ten genres that each has; log money."""
    df = pd.read_csv(folder / "movies.csv")
    df["genres"] = df["genres"].fillna("").map(lambda names: [n for n in names.split() if n in GENRES])
    for name in ("budget", "gross"):
        df[name] = np.log1p(df[name])
    return df


def with_gaps(df: pd.DataFrame, share: float = 0.1) -> pd.DataFrame:
    """The films, of which a tenth lacks the poster, and a tenth the words."""
    rng = np.random.default_rng(1)
    no_poster, no_words = (rng.random(len(df)) < share for _ in range(2))
    return df.assign(
        poster=df["poster"].mask(no_poster), title=df["title"].mask(no_words), keywords=df["keywords"].mask(no_words)
    )


def tfidf(df: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """Macro AUC and mAP of ten lines of scikit-learn on the words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    text = (df["title"] + ". " + df["keywords"].fillna("")).to_numpy()
    y = np.stack([[g in names for g in GENRES] for names in df["genres"]])
    vectors = TfidfVectorizer(sublinear_tf=True).fit(text[train])
    a, b = vectors.transform(text[train]), vectors.transform(text[test])
    kinds = [LogisticRegression(C=5, max_iter=500).fit(a, y[train, k]) for k in range(len(GENRES))]
    probs = torch.from_numpy(np.stack([kind.predict_proba(b)[:, 1] for kind in kinds], 1))
    target = torch.from_numpy(y[test]).float()
    return macro_auc(probs, target), mean_precision(probs, target)


def learner(df: pd.DataFrame, test: np.ndarray, image: Any, seed: int, args: argparse.Namespace) -> Learner:
    data = MultiData.from_df(
        df, "genres", image=image, text=["title", "keywords"], cat_names=["language", "country", "content_rating"],
        cont_names=["duration", "title_year", "budget", "gross"], path=args.folder, valid=test, min_count=10,
        size=64 if args.quick else (192, 128),
    )  # fmt: skip
    body = {"arch": "squeezenet1_1", "pretrained": False} if args.quick else args.image
    text = {"emb_size": 8, "n_hidden": 8, "n_layers": 1} if args.quick else args.text
    learn = multi_learner(
        data, image=body, text=text, fuse=args.fuse, precompute=not args.quick, seed=seed, wd=args.wd, progress=False,
        device="cpu",
    )  # fmt: skip
    learn.fit_one_cycle(args.lr, 1 if args.quick else args.epochs)
    return learn


def scores(learn: Learner, gaps: torch.Tensor | None = None) -> dict[str, tuple[float, float]]:
    """Macro AUC and mAP of all branches, of each alone and of all but each, on the test; and with `gaps` in it."""
    model, _, test = learn._view()
    names = list(learn.data.branches)
    ways = (
        {"all": names}
        | {f"{n} alone": [n] for n in names}
        | {f"without {n}": [k for k in names if k != n] for n in names}
    )
    parts, here, target, index = [], [], [], []
    with torch.no_grad():
        for batch in test.batches(torch.device("cpu")):
            parts.append(model.eval().parts(*batch.inputs))
            here.append(batch.inputs[-1])
            target.append(batch.target)
            index.append(batch.index)
    order = torch.cat(index).argsort()  # as in the table
    each, present, y = (torch.cat(column)[order] for column in (parts, here, target))
    found = {}
    for way, chosen in ways.items():
        flags = present * torch.tensor([int(n in chosen) for n in names])
        with torch.no_grad():
            probs = learn.task.activate(model.combine(each, flags))
        at = flags.sum(1) > 0
        found[way] = macro_auc(probs[at], y[at]), mean_precision(probs[at], y[at])
    if gaps is not None:
        with torch.no_grad():
            probs = learn.task.activate(model.combine(each, gaps))
        found["gaps in the test alone"] = macro_auc(probs, y), mean_precision(probs, y)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--image", default="efficientnet_lite0")
    parser.add_argument("--text", default="minilm")
    parser.add_argument("--fuse", default="evidence", choices=["evidence", "mean", "concat"])
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--wd", type=float)
    parser.add_argument("--only", nargs="+", default=["all", "with noise", "with gaps"])
    parser.add_argument("--choose", action="store_true", help="without the films of the test")
    parser.add_argument("--quick", action="store_true", help="made-up films, small models, one epoch")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.quick:
        sys.path.append(str(Path(__file__).parents[1]))
        import made_up

        args.folder, args.seeds = Path(tempfile.mkdtemp()), [0]
        made_up.films(args.folder)
    df = films(args.folder)
    order = np.random.default_rng(0).permutation(len(df))
    test = order[-min(TEST, len(df) // 4) :]
    if args.choose:
        df = df.drop(index=test).reset_index(drop=True)
        test = np.random.default_rng(1).permutation(len(df))[:600]
    train = np.setdiff1d(np.arange(len(df)), test)
    print("TF-IDF, logistic regression: macro AUC {:.4f}, mAP {:.4f}".format(*tfidf(df, train, test)))
    others = df.assign(other=df["poster"].sample(frac=1, random_state=2).to_numpy())
    ways: dict[str, tuple[pd.DataFrame, Any]] = {
        "all": (df, "poster"),
        "with noise": (others, {"image": "poster", "noise": "other"}),
        "with gaps": (with_gaps(df), "poster"),
    }
    lacking = with_gaps(df).iloc[np.sort(test)]
    gaps = torch.tensor(
        np.stack([lacking["poster"].notna(), lacking["title"].notna(), lacking["id"].notna()], 1)
    ).long()
    for name in args.only:
        told: dict[str, list[list[float]]] = {}
        for seed in args.seeds:
            began = time.process_time()
            table, image = ways[name]
            learn = learner(table, test, image, seed, args)
            seconds = time.process_time() - began
            for way, found in scores(learn, gaps if name == "all" else None).items():
                told.setdefault(way, []).append([*found, seconds])
        print(
            f"easylearn, {name}, {len(args.seeds)} seeds: mean and deviation over them, CPU seconds of a run",
            flush=True,
        )
        for way, rows in told.items():
            mean, off = np.mean(rows, 0), np.std(rows, 0, ddof=1) if len(rows) > 1 else np.zeros(3)
            print(
                f"  {way:22s} macro AUC {mean[0]:.4f} ({off[0]:.4f})  mAP {mean[1]:.4f} ({off[1]:.4f})"
                + (f"  {', '.join(f'{r[2]:.0f}' for r in rows)} s" if way == "all" else "")
            )


if __name__ == "__main__":
    main()
