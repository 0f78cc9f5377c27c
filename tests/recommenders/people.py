"""Persons of two tastes: half of them take items of the first kind, half of the second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from easylearn.learning import Learner
from easylearn.recommenders.data import InteractionData
from easylearn.recommenders.learner import recommender

N_ITEMS = 24


def plays(persons: int = 60, each: int = 8, seed: int = 0) -> pd.DataFrame:
    """Columns who, what, plays and day; items are a0, b1, a2, ..."""
    g = np.random.default_rng(seed)
    rows = []
    for person in range(persons):
        own = np.arange(person % 2, N_ITEMS, 2)
        for day, item in enumerate(g.permutation(own)[:each]):
            rows.append((f"p{person}", f"{'ab'[item % 2]}{item}", int(g.integers(1, 50)), day + g.integers(0, 3)))
    return pd.DataFrame(rows, columns=["who", "what", "plays", "day"])


def data(**how: Any) -> InteractionData:
    return InteractionData.from_df(plays(), "who", "what", **{"valid": 0.25, "batch_size": 16, **how})


def learner(given: InteractionData | None = None, **how: Any) -> Learner:
    return recommender(given or data(), 8, **{"device": "cpu", "progress": False, **how})
