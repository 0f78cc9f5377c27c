"""Whether numbers are learnt alike in any unit: the correlation of predictions with the truth on held-out rows.

    python examples/benchmarks/units.py

A table, ratings, texts and images, each made up and with a number to predict: as it is, times 1e-8, 1e-5, 1e6 and
1e11, and plus 1e9, where float32 knows no fractions any more. Then two numbers at once, of scales 1 and 1e4: the error
of each beside that of a model that learns it alone. The exit status is 1 where a correlation is not above 0.95, or an
error is more than a tenth above that of the model of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import nn

from easylearn import (
    CollabData,
    ImageData,
    TabularData,
    TextData,
    collab_learner,
    tabular_learner,
    text_classifier_learner,
    vision_learner,
)
from easylearn.learning import Learner

Numbers = npt.NDArray[np.float64]
UNITS = [(1.0, 0.0), (1e-8, 0.0), (1e-5, 0.0), (1e6, 0.0), (1e11, 0.0), (1.0, 1e9)]
HOW: dict[str, Any] = {"device": "cpu", "progress": False}
RNG = np.random.default_rng(0)
N = 1200


def table() -> tuple[Numbers, Callable[[Numbers], Learner]]:
    x = pd.DataFrame({"a": RNG.normal(size=N), "b": RNG.normal(size=N), "c": RNG.choice(list("xyz"), N)})
    y = np.stack([2 * x.a - x.b + 1.5 * (x.c == "x"), x.a + 2 * x.b - (x.c == "y")], 1) + RNG.normal(0, 0.3, (N, 2))

    def train(y: Numbers) -> Learner:
        columns = {f"y{i}": y[:, i] for i in range(y.shape[1])}
        how: Any = {"cat_names": ["c"], "cont_names": ["a", "b"], "task": "regression", "batch_size": 64}
        learn = tabular_learner(TabularData.from_df(x.assign(**columns), list(columns), **how), (50,), **HOW)
        learn.fit_one_cycle(0.01, 12)
        return learn

    return y, train


def ratings() -> tuple[Numbers, Callable[[Numbers], Learner]]:
    n = 3 * N
    users, films = RNG.integers(0, 40, n), RNG.integers(0, 40, n)
    y = RNG.normal(size=40)[users] + RNG.normal(size=40)[films] + RNG.normal(0, 0.2, n)

    def train(y: Numbers) -> Learner:
        df = pd.DataFrame({"user": users, "film": films, "rating": y[:, 0]})
        learn = collab_learner(CollabData.from_df(df, batch_size=64), n_factors=5, wd=0.01, **HOW)
        learn.fit_one_cycle(0.03, 8)
        return learn

    return y[:, None], train


def texts() -> tuple[Numbers, Callable[[Numbers], Learner]]:
    words = RNG.choice(["good", "bad", "film", "plot", "an", "the"], (N, 12))
    good, bad = (words == "good").sum(1), (words == "bad").sum(1)
    y = np.stack([good - bad + 5.0, good + 2.0 * bad], 1) + RNG.normal(0, 0.3, (N, 2))

    def train(y: Numbers) -> Learner:
        columns = {f"y{i}": y[:, i] for i in range(y.shape[1])}
        df = pd.DataFrame({"text": [" ".join(row) for row in words], **columns})
        data = TextData.from_df(df, "text", list(columns), task="regression", batch_size=32)
        learn = text_classifier_learner(data, emb_size=24, n_hidden=48, n_layers=1, drop_mult=0.0, ps=0.0, **HOW)
        learn.fit_one_cycle(0.01, 8)
        return learn

    return y, train


def images() -> tuple[Numbers, Callable[[Numbers], Learner]]:
    level = RNG.integers(30, 220, (N, 1, 1, 3))
    pixels = (level + RNG.normal(0, 12, (N, 16, 16, 3))).clip(0, 255).astype(np.uint8)
    red, green, blue = level[:, 0, 0].T / 100
    y = np.stack([red - green, green + blue], 1)
    y += RNG.normal(0, 0.1, y.shape)

    def train(y: Numbers) -> Learner:
        side = N // 5
        targets: Any = y[:, 0] if y.shape[1] == 1 else y
        data = ImageData.from_arrays(
            (pixels[side:], targets[side:]), (pixels[:side], targets[:side]), size=16, task="regression", workers=0
        )
        body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU())
        net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1))
        learn = vision_learner(data, net, ps=0.0, hidden=(32,), **HOW)
        learn.fit_one_cycle(0.03, 15)
        return learn

    return y, train


def correlation(learn: Learner) -> float:
    said, true = learn.predict()
    return float(np.corrcoef(said.double().numpy()[:, 0], true.double().numpy().reshape(len(true), -1)[:, 0])[0, 1])


def errors(learn: Learner) -> Numbers:
    """The root mean squared error of each number."""
    said, true = learn.predict()
    return np.asarray((said.double() - true.double().reshape(said.shape)).square().mean(0).sqrt())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="of the units only the first and the last two")
    units = UNITS[:1] + UNITS[-2:] if parser.parse_args().quick else UNITS
    print("| data | " + " | ".join(f"x {times:g} + {plus:g}" for times, plus in units) + " | two at once / alone |")
    print("|---" * (len(units) + 2) + "|")
    good = True
    for make in (table, ratings, texts, images):
        y, train = make()
        found = [correlation(train(y[:, :1] * times + plus)) for times, plus in units]
        cells = [f"{r:.4f}" for r in found]
        if y.shape[1] == 2:
            both = y * [1.0, 1e4]
            ratio = errors(train(both)) / [float(errors(train(both[:, i : i + 1]))[0]) for i in (0, 1)]
            cells.append(", ".join(f"{r:.3f}" for r in ratio))
            good = good and float(ratio.max()) < 1.1
        print("| " + " | ".join([make.__name__, *cells, *[""] * (len(units) + 1 - len(cells))]) + " |", flush=True)
        good = good and min(found) > 0.95
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
