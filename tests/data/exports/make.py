"""Writes one file of each kind, and what it says, as this easylearn does: once per schema version, never again.

Beside the model files: an encoder, weights, and the checkpoint of a run that was stopped.

    python tests/data/exports/make.py

The files of a version stay here for ever, so that `tests/artefact/test_golden.py` shows that they can be read.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from easylearn import (
    Callback,
    ImageData,
    Learner,
    Pause,
    Run,
    TabularData,
    TensorData,
    TextData,
    TextLMData,
    generate,
    language_model_learner,
    load_predictor,
    regression,
    save_encoder,
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
        "tensors": run(),
        "pictures": vision_learner(pictures, net, hidden=(8,), **QUIET),
        "table": tabular_learner(table, (8,), num_emb_size=2, **QUIET),
        "text": text_classifier_learner(texts, layers=(8,), **small),
        "language_model": language_model_learner(stream, **small),
    }


def run() -> Learner:
    """A learner on numbers by a formula, so that its data is the same for ever."""
    x = torch.arange(40, dtype=torch.float32).reshape(20, 2).sin()
    data = TensorData((x[:16], x[:16].sum(1)), (x[16:], x[16:].sum(1)), regression(["sum"]), batch_size=4)
    torch.manual_seed(0)
    return Learner(data, nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)), **QUIET)


def stop_after(steps: int) -> Callback:
    class Stop(Callback):
        def on_batch_end(self, run: Run) -> None:
            if run.step == steps:
                run.stop_reason = Pause("enough")

    return Stop()


def items(kind: str) -> Any:
    """What each file is asked; for a language model the prompt."""
    if kind == "pictures":
        # By a formula, so that no generator of NumPy's has to give the same numbers for ever.
        return [(np.arange(16 * 16 * 3).reshape(16, 16, 3) * step % 251).astype(np.uint8) for step in (1, 7, 31)]
    if kind == "tensors":
        return torch.tensor([[0.5, -1.0], [2.0, 0.25]])
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


def resume(folder: Path) -> Learner:
    """The run that was stopped, brought to its end; the folder is left as it is."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        learn = run()
        learn.resume(copy, callbacks=[stop_after(-1)])
    return learn


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
    save_encoder(learners()["language_model"], folder / "encoder")
    stopped = run()
    stopped.fit(1e-2, 3, checkpoint=folder / "checkpoint", every=1, keep=1, callbacks=[stop_after(5)])
    stopped.path = folder
    stopped.save("weights")
    expected["weights"] = stopped.predict().probs.tolist()
    expected["checkpoint"] = resume(folder / "checkpoint").record.losses
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
