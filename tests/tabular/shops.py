"""A table of shops that several tests share."""

from __future__ import annotations

import numpy as np
import pandas as pd

CATS, CONTS = ["shop", "day"], ["size", "rain"]


def table(n: int = 120, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = rng.normal(50, 7, n)
    size[rng.random(n) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "shop": np.array(["a", "b", None, "c"], object)[rng.integers(0, 4, n)],
            "day": rng.integers(0, 7, n),
            "size": size,
            "rain": rng.random(n),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.permutation(n), unit="D"),
            "label": np.array(["no", "yes"])[rng.integers(0, 2, n)],
            "y": rng.normal(100, 10, n),
            "z": rng.normal(0, 1, n),
        }
    )
