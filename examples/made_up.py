"""Small data that the lessons make themselves, where no path is given."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits


def scattered_digits(folder: Path, n: int) -> range:
    """One to four of scikit-learn's digits per picture: train-jpg/*.jpg and labels.csv (image, tags).

    The first fifth of the pictures, whose places are returned, validates: it has digits of its own.
    """
    (folder / "train-jpg").mkdir(parents=True, exist_ok=True)
    digits, random, rows = load_digits(), np.random.default_rng(0), []
    for k in range(n):
        page = Image.new("L", (96, 96))
        first, end = (0, 360) if k < n // 5 else (360, len(digits.images))
        drawn = random.integers(first, end, random.integers(1, 5))
        for corner, digit in zip(random.permutation(4).tolist(), drawn, strict=False):
            small = Image.fromarray((digits.images[digit] * 15.9).astype(np.uint8)).resize((40, 40))
            y, x = random.integers(0, 9, 2).tolist()
            page.paste(small, (corner % 2 * 48 + x, corner // 2 * 48 + y))
        page.save(folder / "train-jpg" / f"{k:05d}.jpg")
        rows.append((f"{k:05d}", " ".join(sorted(set(map(str, digits.target[drawn]))))))
    pd.DataFrame(rows, columns=["image", "tags"]).to_csv(folder / "labels.csv", index=False)
    return range(n // 5)


def ratings() -> pd.DataFrame:
    """3,000 ratings of 40 films by 120 people, half of whom prefer the first 20 films."""
    random = np.random.default_rng(0)
    who, film = random.integers(0, 120, 3000), random.integers(0, 40, 3000)
    stars = 3 + (film % 5 - 2) / 3 + np.where((film < 20) == (who < 60), 1, -1) + random.normal(0, 0.3, 3000)
    return pd.DataFrame({"userId": who, "title": [f"Film {k}" for k in film], "rating": stars.round(1)})
