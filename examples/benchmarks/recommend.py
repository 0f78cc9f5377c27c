"""Lists for persons by what they took: a recommender at its defaults beside simple methods, and `implicit`.

    python examples/benchmarks/recommend.py --movielens ml100k/ratings.csv --lastfm lastfm2k/plays.csv
    python examples/benchmarks/recommend.py --movielens ml100k/ratings.csv --by-time      # each person's last film
    python examples/benchmarks/recommend.py --quick                                       # made-up rows: no result

Of each person a quarter of the films, or a fifth of the artists, is held out at random (artists that five persons or
more heard, as others filter them: before the split). All items are ranked, those of a history left out; recall and nDCG
are of the first ten. Each method is fitted to the same histories, on one thread. "tuned" is the best of a few settings
on another split (seed 10), for each data set by itself; the recommender has one and the same setting everywhere.
`implicit` is left out where it is not installed: pip install implicit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from easylearn import InteractionData, recommend, recommender
from easylearn.analysis.rankers import ease, neighbours, taken
from easylearn.learning import Learner

LR, EPOCHS = 3e-3, 60
TUNING = 10
OURS = "recommender of easylearn"
Ranker = Callable[[Any, Any, Any], Any]
"""From who took what in training, the histories of those asked for, and which persons of training they are, scores."""


def movielens(file: Path, seed: int, by_time: bool) -> InteractionData:
    df = pd.read_csv(file)
    how: dict[str, Any] = {"valid": "last", "time": "timestamp"} if by_time else {"valid": 0.25}
    return InteractionData.from_df(df, "user_id", "item_id", seed=seed, **how)


def lastfm(file: Path, seed: int) -> InteractionData:
    df = pd.read_csv(file)
    df = df[df["artist"].map(df["artist"].value_counts()) >= 5]
    return InteractionData.from_df(df, "user", "artist", weight="plays", valid=0.2, seed=seed)


def made_up(seed: int) -> InteractionData:
    g = np.random.default_rng(0)
    who = np.repeat(np.arange(60), 10)
    what = np.concatenate([g.permutation(20)[:10] * 2 + person % 2 for person in range(60)])
    return InteractionData.from_df(pd.DataFrame({"who": who, "what": what}), "who", "what", valid=0.25, seed=seed)


def popular(train: Any, known: Any, persons: Any) -> Any:
    return np.tile(np.asarray(train.sum(0), np.float32), (known.shape[0], 1))


def of_implicit(make: Callable[..., Any], **how: Any) -> Ranker:
    def rank(train: Any, known: Any, persons: Any) -> Any:
        model = make(num_threads=1, random_state=0, **how)
        model.fit(train, show_progress=False)
        return model.user_factors[persons] @ model.item_factors.T

    return rank


def of_histories(fn: Callable[..., Any], **how: Any) -> Ranker:
    return lambda train, known, persons: fn(train, known, **how)


def methods() -> dict[str, list[Ranker]]:
    """Each method, and the settings that are tried where it is tuned."""
    found: dict[str, list[Ranker]] = {
        "most popular": [popular],
        "item neighbours": [of_histories(neighbours)],
        "item neighbours, tuned": [of_histories(neighbours, k=k) for k in (10, 20, 50, 100, 200)],
        "EASE": [of_histories(ease)],
        "EASE, tuned": [of_histories(ease, penalty=p) for p in (30.0, 100.0, 200.0, 300.0, 500.0)],
    }
    if find_spec("implicit") is None:
        return found
    from implicit.als import AlternatingLeastSquares as Als
    from implicit.bpr import BayesianPersonalizedRanking as Bpr

    found["implicit ALS"] = [of_implicit(Als)]
    found["implicit ALS, tuned"] = found["implicit ALS"] + [
        of_implicit(Als, factors=f, alpha=a, regularization=r)
        for f, a, r in ((64, 5.0, 10.0), (32, 2.0, 5.0), (64, 2.0, 5.0))
    ]
    found["implicit BPR"] = [of_implicit(Bpr)]
    found["implicit BPR, tuned"] = found["implicit BPR"] + [
        of_implicit(Bpr, factors=f, learning_rate=lr, regularization=reg, iterations=100)
        for f, lr, reg in ((64, 0.05, 0.01), (32, 0.05, 0.03))
    ]
    return found


def target_of(data: InteractionData) -> Tensor:
    return torch.cat([b.target for b in data.loader("valid").batches(torch.device("cpu")) if b.target is not None])


def scored(data: InteractionData, scores: Any) -> dict[str, float]:
    total = data.task.accumulator()
    total.add(torch.from_numpy(np.asarray(scores, np.float32)), target_of(data))
    return total.result()


def measure(data: InteractionData, rank: Ranker) -> dict[str, float]:
    train, known = (taken(data.plain_inputs(split)) for split in ("train", "valid"))  # type: ignore[arg-type]
    number = {name: i for i, name in enumerate(data.ids("train"))}
    persons = np.array([number[name] for name in data.ids("valid")])
    begin = time.process_time()
    scores = rank(train, known, persons)
    seconds = time.process_time() - begin
    return {**scored(data, scores), "seconds": seconds}


def trained(data: InteractionData, seed: int, epochs: int) -> tuple[Learner, dict[str, float]]:
    begin = time.process_time()
    learn = recommender(data, seed=seed, device="cpu", progress=False)
    learn.fit_one_cycle(LR, epochs)
    seconds = time.process_time() - begin
    return learn, {**learn.validate(), "seconds": seconds}


def new_person(learn: Learner) -> float:
    """Milliseconds for the list of somebody new."""
    names = list(learn.task.names)
    times = []
    for i in range(30):
        begin = time.process_time()
        recommend(learn, history=names[i::40])
        times.append(time.process_time() - begin)
    return 1000 * float(np.median(times))


def standard_errors(learn: Learner) -> dict[str, float]:
    """Of the mean over persons."""
    said = learn.predict()
    values = {m.name: m.per_item(said.probs, said.targets) for m in learn.task.metrics[:2] if m.per_item is not None}
    return {name: float(v.std() / len(v) ** 0.5) for name, v in values.items()}


def tuned(make: Callable[[int], InteractionData], settings: list[Ranker]) -> Ranker:
    """The best of some settings on another split."""
    if not settings[1:]:
        return settings[0]
    data = make(TUNING)
    return max(settings, key=lambda rank: measure(data, rank)["ndcg_10"])


def run(make: Callable[[int], InteractionData], seeds: range, epochs: int, wanted: list[str]) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {OURS: []}
    about: dict[str, Any] = {}
    for seed in seeds:
        data = make(seed)
        learn, row = trained(data, seed, epochs)
        rows[OURS].append(row)
        tell(OURS, seed, row)
        about = {"data": repr(data), "ms of a new person": new_person(learn), "standard errors": standard_errors(learn)}
    for name, settings in methods().items():
        if wanted and not any(name.startswith(word) for word in wanted):
            continue
        rank = tuned(make, settings)
        for seed in seeds:
            rows.setdefault(name, []).append(measure(make(seed), rank))
            tell(name, seed, rows[name][-1])
    return {"rows": rows, **about}


def tell(name: str, seed: int, row: Mapping[str, float]) -> None:
    print(f"{name}, split {seed}: {', '.join(f'{k} {v:.4f}' for k, v in row.items())}", file=sys.stderr, flush=True)


def show(name: str, found: Mapping[str, Any]) -> None:
    print(
        f"\n## {name}: {found['data']}\n\n| method | recall@10 | nDCG@10 | coverage@10 | CPU seconds |\n"
        "|---|---|---|---|---|"
    )
    for method, rows in found["rows"].items():
        cells = []
        for metric in ("recall_10", "ndcg_10", "coverage_10", "seconds"):
            values = np.array([row[metric] for row in rows])
            digits = 1 if metric == "seconds" else 4
            spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}")
        print(f"| {method} | {' | '.join(cells)} |")
    errors = ", ".join(f"{metric} {value:.4f}" for metric, value in found["standard errors"].items())
    print(f"\nA list for a new person: {found['ms of a new person']:.1f} ms. Standard errors over persons: {errors}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--movielens", type=Path, help="ratings.csv with user_id, item_id, timestamp")
    parser.add_argument("--lastfm", type=Path, help="plays.csv with user, artist, plays")
    parser.add_argument("--by-time", action="store_true", help="hold out each person's last film")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=[], help="those whose names begin so; all if left out")
    parser.add_argument("--quick", action="store_true", help="made-up rows instead")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    makers: dict[str, Callable[[int], InteractionData]] = {}
    if given.quick:
        makers["made up"] = made_up
    if given.movielens is not None:
        makers["MovieLens"] = lambda seed: movielens(given.movielens, seed, given.by_time)
    if given.lastfm is not None:
        makers["last.fm"] = lambda seed: lastfm(given.lastfm, seed)
    if not makers:
        parser.error("name data, or --quick")
    seeds, epochs = (range(1), 5) if given.quick else (range(given.seeds), EPOCHS)
    results = {name: run(make, seeds, epochs, given.methods) for name, make in makers.items()}
    for name, found in results.items():
        show(name, found)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
