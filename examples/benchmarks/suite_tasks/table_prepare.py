"""From a DataFrame of 500,000 rows to what a model takes: seconds, and the most memory beyond what was there.

6 categories of 2 to 2,000 levels as strings, 10 numbers of which two have gaps. Levels, medians and deviations are of
the training rows alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .memory import Peak
from .settings import Repeat, Settings

if TYPE_CHECKING:
    import pandas as pd

N_ROWS = 500_000
LEVELS = (2, 10, 50, 200, 1000, 2000)
CATS = [f"cat{i}" for i in range(len(LEVELS))]
CONTS = [f"num{i}" for i in range(10)]
TARGET = "bought"
Indices = npt.NDArray[np.int64]


def made_up(n: int) -> pd.DataFrame:
    """The table: low levels are frequent, high ones rare."""
    import pandas as pd

    random = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    score = random.normal(size=n)
    for name, levels in zip(CATS, LEVELS, strict=True):
        codes = (random.random(n) ** 1.5 * levels).astype(np.int64)
        columns[name] = np.array([f"v{i}" for i in range(levels)], dtype=object)[codes]
        score += 0.5 * random.normal(size=levels)[codes]
    for i, name in enumerate(CONTS):
        columns[name] = random.normal(i, i + 1, n)
        score += 0.1 * columns[name]
    for name in CONTS[:2]:
        columns[name][random.random(n) < 0.05] = np.nan
    columns[TARGET] = np.where(score > np.median(score), "yes", "no").astype(object)
    return pd.DataFrame(columns)


def training_rows(n: int) -> tuple[Indices, Indices]:
    """Positions of training rows, and of the fiftieth that validates."""
    order = np.random.default_rng(1).permutation(n)
    return order[n // 50 :], order[: n // 50]


def by_factorize(table: pd.DataFrame, train: Indices) -> tuple[Any, Any, Any, list[int]]:
    """What one writes: categories, numbers, target, and how many codes each category has."""
    import pandas as pd
    import torch

    codes, levels = [], []
    for name in CATS:
        known = pd.Index(pd.factorize(table[name].iloc[train], sort=True)[1])
        codes.append(known.get_indexer(table[name]) + 1)  # 0 is what training does not have
        levels.append(len(known) + 1)
    numbers = table[CONTS].to_numpy(np.float32)
    numbers = numbers.copy() if not numbers.flags.writeable else numbers
    gaps = np.isnan(numbers)
    for j in np.flatnonzero(gaps[train].any(0)):
        numbers[gaps[:, j], j] = np.nanmedian(numbers[train, j])
        codes.append(gaps[:, j] + 1)
        levels.append(3)
    numbers -= numbers[train].mean(0)
    numbers /= numbers[train].std(0) + 1e-7
    target, _ = pd.factorize(table[TARGET], sort=True)
    cats = np.stack(codes, 1).astype(np.int64)
    return torch.from_numpy(cats), torch.from_numpy(numbers), torch.from_numpy(target), levels


def hashed_once(table: pd.DataFrame, train: Indices) -> tuple[Any, Any, Any, list[int]]:
    """The same, with each string looked at once: what training lacks is found among the codes."""
    import pandas as pd
    import torch

    n = len(table)
    in_training = np.zeros(n, bool)
    in_training[train] = True
    cats, levels = np.empty((len(CATS) + len(CONTS), n), np.int64), []
    for row, name in enumerate(CATS):
        found, words = pd.factorize(table[name])
        seen = np.bincount(found[in_training & (found >= 0)], minlength=len(words)) > 0
        known = np.flatnonzero(seen)
        known = known[np.argsort(np.asarray(words, dtype=object)[known])]
        number = np.zeros(len(words) + 1, np.int64)  # the last one is for -1, a gap
        number[known] = np.arange(1, len(known) + 1)
        np.take(number, found, out=cats[row], mode="wrap")
        levels.append(len(known) + 1)
    numbers = np.empty((len(CONTS), n), np.float32)
    row = len(CATS)
    for j, name in enumerate(CONTS):
        column = numbers[j]
        column[:] = table[name]
        gaps = np.isnan(column)
        if gaps.any():
            column[gaps] = np.median(column[in_training & ~gaps])
            cats[row] = gaps
            cats[row] += 1
            levels.append(3)
            row += 1
        trained = column[in_training]
        column -= trained.mean()
        column /= trained.std() + 1e-7
    target, _ = pd.factorize(table[TARGET], sort=True)
    return torch.from_numpy(cats[:row]).T, torch.from_numpy(numbers).T, torch.from_numpy(target), levels


def timed(settings: Settings, way: Callable[[], object]) -> Repeat:
    def repeat() -> dict[str, float]:
        peak = Peak()
        begun = settings.now()
        made = way()
        seconds = settings.now() - begun
        megabytes = peak.megabytes()
        del made
        return {"seconds": seconds, "megabytes": megabytes}

    return repeat


def plain(settings: Settings) -> Repeat:
    table = made_up(settings.pick(N_ROWS, 5000))
    train, _ = training_rows(len(table))
    return timed(settings, lambda: by_factorize(table, train))


def best(settings: Settings) -> Repeat:
    table = made_up(settings.pick(N_ROWS, 5000))
    train, _ = training_rows(len(table))
    return timed(settings, lambda: hashed_once(table, train))


def easylearn(settings: Settings) -> Repeat:
    from easylearn import TabularData

    table = made_up(settings.pick(N_ROWS, 5000))
    _, valid = training_rows(len(table))
    return timed(
        settings,
        lambda: TabularData.from_df(
            table, TARGET, cat_names=CATS, cont_names=CONTS, valid=valid, task="single_label", batch_size=1024
        ),
    )


def fastai(settings: Settings) -> Repeat:
    from fastai.tabular.all import Categorify, CategoryBlock, FillMissing, Normalize, TabularPandas

    table = made_up(settings.pick(N_ROWS, 5000))
    train, valid = training_rows(len(table))
    splits = [train.tolist(), valid.tolist()]
    return timed(
        settings,
        lambda: TabularPandas(
            table, procs=[Categorify, FillMissing, Normalize], cat_names=list(CATS), cont_names=list(CONTS),
            y_names=TARGET, y_block=CategoryBlock(), splits=splits,
        )
    )  # fmt: skip
