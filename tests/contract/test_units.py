"""Numbers are learnt alike in any unit, whatever they are of; `examples/benchmarks/units.py` shows it at length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
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

HOW: dict[str, Any] = {"device": "cpu", "progress": False}
RNG = np.random.default_rng(0)
Y = RNG.normal(3, 2, 60)
VALID = list(range(0, 60, 4))


def table(y: Any, linear: bool = False) -> Learner:
    df = pd.DataFrame({"a": Y + np.arange(60) % 3, "y": y})
    data = TabularData.from_df(df, "y", valid=VALID, batch_size=15, task="regression")
    return tabular_learner(data, linear=linear, **HOW)


def linear_table(y: Any) -> Learner:
    return table(y, linear=True)


def ratings(y: Any) -> Learner:
    df = pd.DataFrame({"user": np.arange(60) % 7, "film": np.arange(60) % 5, "rating": y})
    return collab_learner(CollabData.from_df(df, valid=VALID, batch_size=15), 3, **HOW)


def texts(y: Any) -> Learner:
    documents = [" ".join(["good"] * int(4 + v) + ["film"]) for v in Y.clip(-3, 9)]
    data = TextData.from_lists(documents, y, valid=VALID, batch_size=15, task="regression")
    return text_classifier_learner(data, emb_size=4, n_hidden=6, n_layers=1, **HOW)


def images(y: Any) -> Learner:
    x = np.broadcast_to((90 + 20 * Y).clip(0, 255).astype(np.uint8)[:, None, None, None], (60, 8, 8, 3))
    train = np.setdiff1d(np.arange(60), VALID)
    data = ImageData.from_arrays((x[train], y[train]), (x[VALID], y[VALID]), size=8, task="regression", workers=0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    return vision_learner(data, net, hidden=(), ps=0.0, **HOW)


@pytest.mark.parametrize("make", [table, linear_table, ratings, texts, images])
def test_another_unit_is_the_same_training(make: Callable[[Any], Learner]) -> None:
    plain, large, far = make(Y), make(Y * 2.0**40), make(Y + 1e9)
    of_the_mean, first = ((Y[VALID] - Y.mean()) ** 2).mean() / Y.var(), plain.validate()["valid_loss"]
    assert first < 0.5 * of_the_mean if make is linear_table else first == pytest.approx(of_the_mean, rel=0.3)
    for learn in (plain, large, far):
        learn.fit(0.01, 2)
    assert plain.record is not None and large.record is not None
    assert plain.record.losses == large.record.losses
    said, true = plain.predict()
    assert torch.equal(large.predict().probs, said * 2**40)
    assert far.predict().probs.dtype == torch.float64
    assert float((far.predict().probs - 1e9 - said).abs().max()) < 0.5 * float(true.std())
    assert far.validate()["rmse"] == pytest.approx(plain.validate()["rmse"], rel=0.2)
