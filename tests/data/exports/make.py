"""Writes one model file of each kind, and what it says, as this easylearn does: once per schema version, never again.

    python tests/data/exports/make.py

The files of a version stay here for ever, so that `tests/artefact/test_golden.py` shows that they can be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from easylearn import (
    ImageData,
    TabularData,
    TextData,
    TextLMData,
    generate,
    language_model_learner,
    load_predictor,
    tabular_learner,
    text_classifier_learner,
    vision_learner,
)
from easylearn.artefact.archive import SCHEMA

HERE = Path(__file__).parent
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
TEXTS = [f"{a} film that {b} liked" for a in ("good", "bad", "long", "short") for b in ("we", "they", "all", "few")]


def learners() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
    pictures = ImageData.from_arrays((x[:8], list("abababab")), (x[8:], list("abab")), size=16, batch_size=4, workers=0)
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
    late = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.ReLU())
    net = nn.Sequential(stem, late, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    df = pd.DataFrame(
        {
            "shop": rng.choice(list("abcd"), 60), "day": rng.integers(0, 7, 60), "size": rng.normal(50, 7, 60),
            "rain": np.where(rng.random(60) < 0.2, np.nan, rng.random(60)), "sales": rng.random(60) * 100 + 1,
        }
    )  # fmt: skip
    table = TabularData.from_df(df, "sales", cat_names=["shop", "day"], cont_names=["size", "rain"], batch_size=16)
    labels = ["pos" if "good" in t or "long" in t else "neg" for t in TEXTS]
    texts = TextData.from_lists(TEXTS, labels, min_freq=1, batch_size=4, progress=False, valid=0.25)
    stream = TextLMData.from_lists(TEXTS * 3, min_freq=1, batch_size=4, bptt=7, progress=False)
    small: dict[str, Any] = {"emb_size": 8, "n_hidden": 12, "n_layers": 2, **QUIET}
    return {
        "pictures": vision_learner(pictures, net, hidden=(8,), **QUIET),
        "table": tabular_learner(table, (8,), num_emb_size=2, **QUIET),
        "text": text_classifier_learner(texts, layers=(8,), **small),
        "language_model": language_model_learner(stream, **small),
    }


def items(kind: str) -> Any:
    """What each file is asked; for a language model the prompt."""
    if kind == "pictures":
        # By a formula, so that no generator of NumPy's has to give the same numbers for ever.
        return [(np.arange(16 * 16 * 3).reshape(16, 16, 3) * step % 251).astype(np.uint8) for step in (1, 7, 31)]
    if kind == "table":
        return [
            {"shop": "a", "day": 3, "size": 51.5, "rain": 0.25},
            {"shop": "unheard", "day": None, "size": float("inf"), "rain": None},
        ]
    return "good film" if kind == "language_model" else ["a good film", "nobody liked it, in the end", ""]


def said(kind: str, predictor: Any) -> Any:
    """What a predictor says of them, in what JSON can hold."""
    if kind == "language_model":
        return generate(predictor, items(kind), 8, temperature=0)
    predictions = predictor.predict(items(kind))
    return {"labels": list(predictions.labels), "probs": predictions.probs.tolist()}


def main() -> None:
    folder = HERE / f"schema{SCHEMA}"
    if folder.exists():
        raise SystemExit(f"{folder} is there already, and what is there stays as it is")
    folder.mkdir()
    expected = {}
    for kind, learn in learners().items():
        if kind != "language_model":
            learn.fit(1e-2, 2)
        learn.export(folder / f"{kind}.easylearn")
        expected[kind] = said(kind, load_predictor(folder / f"{kind}.easylearn", device="cpu"))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
