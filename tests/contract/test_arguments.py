"""Arguments that are none are refused in words, whatever data they are given to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import easylearn as el
from easylearn.errors import ArgumentError
from tests.learners import LABELS, TEXTS, images, small_body


def arrays(**how: Any) -> Any:
    x = np.zeros((24, 20, 20, 3), np.uint8)
    return el.ImageData.from_arrays((x, ["a", "b"] * 12), **{"size": 16, "workers": 0, "batch_size": 4, **how})


def texts(**how: Any) -> Any:
    return el.TextData.from_lists(TEXTS, LABELS, min_freq=1, progress=False, **how)


def language(**how: Any) -> Any:
    return el.TextLMData.from_lists(TEXTS, min_freq=1, progress=False, **how)


def tables(**how: Any) -> Any:
    return el.TabularData.from_df(pd.DataFrame({"a": np.arange(40.0), "y": ["p", "q"] * 20}), "y", **how)


@pytest.mark.parametrize("make", [arrays, texts, language, tables], ids=lambda f: f.__name__)
@pytest.mark.parametrize("seed", [-1, 1.5, "x", True, None])
def test_seeds(make: Callable[..., Any], seed: Any) -> None:
    with pytest.raises(ArgumentError, match="seed must be a whole number"):
        make(seed=seed)


@pytest.mark.parametrize("make", [arrays, texts, tables], ids=lambda f: f.__name__)
@pytest.mark.parametrize("stratify", ["yes", 1, 0.5, [True]])
def test_stratify(make: Callable[..., Any], stratify: Any) -> None:
    with pytest.raises(ArgumentError, match="stratify must be True, False or None"):
        make(stratify=stratify)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"workers": "2"}, "workers"), ({"workers": 1.5}, "workers"), ({"workers": True}, "workers"),
        ({"cache": 3}, "a folder to keep images in"), ({"crop_pct": "x"}, "crop_pct must be between"),
        ({"groups": 3.5}, "groups must be a function"), ({"size": True}, "size must be"), ({"size": (8, True)}, "size"),
    ],
)  # fmt: skip
def test_images(how: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        arrays(**how)


def test_a_batch_of_one_and_batch_norm() -> None:
    learn = el.vision_learner(arrays(batch_size=1), small_body(), progress=False, device="cpu")
    with pytest.raises(ArgumentError, match="larger batch_size"):
        learn.fit(1e-3, 1)


@pytest.mark.parametrize("k", [1.5, "1", None, True, 9])
def test_freeze_to(k: Any) -> None:
    with pytest.raises(ArgumentError, match=r"freeze_to\(.*k is from -3 to 2"):
        images(progress=False, device="cpu").freeze_to(k)


def test_calls_that_fit_no_signature() -> None:
    learn = images(progress=False, device="cpu")
    for call, said in (
        (lambda: learn.fit(5, lr=1e-2), r"fit\(\): multiple values for argument 'lr'.*in order, \['lr', 'n'"),
        (lambda: learn.fit(), r"fit\(\): missing a required argument: 'lr'"),
        (lambda: learn.tta(1, 2), r"tta\(\): too many positional arguments"),
        (lambda: learn.validate(dl=3), r"validate\(\) has no argument 'dl'. It is called 'split'"),
    ):
        with pytest.raises(ArgumentError, match=said):
            call()
    with pytest.raises(TypeError, match=r"^mine$"):
        learn.fit(1e-3, 1, schedule=_raises)


def _raises(epoch: float, n_epochs: float) -> float:
    raise TypeError("mine")
