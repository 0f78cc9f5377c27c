"""A small learner of each kind of data, for the tests that must hold for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import easylearn as el
from easylearn.learning import Learner

MakeLearner = Callable[..., Learner]
TEXTS = [
    f"a {a} film that was {b} and {c} {d}"
    for a in ("old", "new")
    for b in ("good", "bad")
    for c in "xyz"
    for d in "uvw"
]
LABELS = ["pos" if "good" in text else "neg" for text in TEXTS]


def tensors(**how: Any) -> Learner:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 1, 6, 6, generator=g), torch.arange(64) % 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    return Learner(el.TensorData((x, y), (x[:8], y[:8]), el.single_label(["a", "b"]), batch_size=4), model, **how)


def images(**how: Any) -> Learner:
    x = np.random.default_rng(0).integers(0, 255, (72, 16, 16, 3), dtype=np.uint8)
    data = el.ImageData.from_arrays(
        (x[:64], ["a", "b"] * 32), (x[64:], ["a", "b"] * 4), size=16, augment="side_on", batch_size=4, workers=0
    )
    return el.vision_learner(data, small_body(), **how)


def small_body() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def tables(**how: Any) -> Learner:
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"a": r.normal(size=80), "b": r.choice(list("xyz"), 80), "c": r.normal(size=80)})
    frame["y"] = frame.a + (frame.b == "x")
    return el.tabular_learner(el.TabularData.from_df(frame, "y", batch_size=4), [8], **how)


def ratings(**how: Any) -> Learner:
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"user": r.integers(0, 9, 80), "item": r.integers(0, 9, 80), "rating": r.integers(1, 6, 80)})
    return el.collab_learner(el.CollabData.from_df(frame, "user", "item", "rating", batch_size=4), **how)


def histories(**how: Any) -> Learner:
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"who": r.integers(0, 60, 300), "what": [f"i{i}" for i in r.integers(0, 9, 300)]})
    return el.recommender(el.InteractionData.from_df(frame, "who", "what", batch_size=4), 6, **how)


def texts(**how: Any) -> Learner:
    frame = pd.DataFrame({"text": TEXTS * 2, "label": LABELS * 2})
    data = el.TextData.from_df(frame, "text", "label", batch_size=4, min_freq=1, progress=False)
    return el.text_classifier_learner(data, emb_size=6, n_hidden=8, n_layers=1, **how)


def language(**how: Any) -> Learner:
    data = el.TextLMData.from_df(
        pd.DataFrame({"text": TEXTS * 3}), "text", batch_size=4, bptt=8, min_freq=1, progress=False
    )
    return el.language_model_learner(data, emb_size=6, n_hidden=8, n_layers=1, **how)


def several(**how: Any) -> Learner:
    r = np.random.default_rng(0)
    n = 2 * len(TEXTS)
    x = r.integers(0, 255, (n, 16, 16, 3), dtype=np.uint8)
    frame = pd.DataFrame({"text": TEXTS * 2, "label": LABELS * 2, "size": r.normal(size=n), "image": list(x)})
    frame.loc[::7, "text"], frame.loc[::5, "image"] = None, None
    data = el.MultiData.from_df(
        frame, "label", image="image", text="text", cont_names=["size"], size=16, batch_size=4, workers=0,
        augment="side_on",
    )  # fmt: skip
    text = {"emb_size": 6, "n_hidden": 8, "n_layers": 1, "layers": ()}
    return el.multi_learner(data, image=small_body(), text=text, table=[8], **how)


def scenes(n: int = 24, size: tuple[int, int] = (32, 48)) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Images with a bright block and a red one each; their masks (0 is neither), and their boxes with classes."""
    r = np.random.default_rng(0)
    x, y, boxes = r.integers(0, 60, (n, *size, 3), dtype=np.uint8), np.zeros((n, *size), np.uint8), []
    for k in range(n):
        found = []
        for c, (h, w) in enumerate(((14, 14), (8, 20))):
            top, left = r.integers(1, size[0] - h), r.integers(1, size[1] // 2 - 10) + c * 20
            x[k, top : top + h, left : left + w] += np.array([(150, 150, 150), (180, 0, 0)][c], np.uint8)
            y[k, top : top + h, left : left + w] = c + 1
            found.append((left, top, min(size[1], left + w), top + h, c))
        boxes.append(np.array(found))
    return x, y, boxes


def maps_body() -> nn.Module:
    """A net whose maps are 4 and 8 times smaller than the image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU())
        second = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        return nn.Sequential(first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def masks(method: Any = "pad", **how: Any) -> Learner:
    x, y, _ = scenes()
    given = (x[:16], y[:16]), (x[16:], y[16:])
    data = el.MaskData.from_arrays(*given, codes=["back", "block", "bar"], batch_size=4, workers=0, method=method)
    return el.segmentation_learner(data, maps_body(), **how)


def boxes(method: Any = "pad", **how: Any) -> Learner:
    x, _, y = scenes()
    data = el.BoxData.from_arrays(
        (x[:16], y[:16]), (x[16:], y[16:]), classes=["block", "bar"], batch_size=4, workers=0, method=method
    )
    return el.detection_learner(data, maps_body(), width=16, **how)


def made_images(make: Any = "colour", **how: Any) -> Learner:
    x = scenes()[0]
    data = el.Image2ImageData.from_arrays((x, 255 - x) if make == "pairs" else x, make=make, batch_size=4, workers=0)
    return el.image2image_learner(data, maps_body(), **how)


KINDS: list[MakeLearner] = [tensors, images, tables, ratings, histories, texts, language, several]
ITEMS = [make for make in KINDS if make is not language]


def exported(learners: Mapping[str, Learner], folder: Path) -> Path:
    """The folder, with each learner as `NAME.onnx` and `NAME.easylearn`."""
    for name, learn in learners.items():
        learn.export(folder / f"{name}.onnx", format="onnx")
        learn.export(folder / f"{name}.easylearn")
    return folder
