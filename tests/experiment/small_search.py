"""A small search that tests share: it takes some hundredths of a second a trial."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

import easylearn as el
from easylearn.experiment.space import log, powers
from easylearn.learning import Learner

SPACE = {"lr": log(1e-3, 1.0), "hidden": powers(2, 16)}


def data(batch_size: int = 20, rows: Any = range(60)) -> Any:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(90, 4, generator=g)
    y = (x[:, 0] * x[:, 1] + 0.3 * torch.randn(90, generator=g) > 0).long()
    ids = [f"v{i}" for i in range(30)]
    train = x[list(rows)], y[list(rows)]
    return el.TensorData(train, (x[60:], y[60:]), el.single_label(["a", "b"]), batch_size=batch_size), ids


def make(p: Any, given: Any = None) -> Learner:
    model = nn.Sequential(nn.Linear(4, p.hidden), nn.BatchNorm1d(p.hidden), nn.ReLU(), nn.Dropout(0.2))
    return Learner(given or data()[0], nn.Sequential(*model, nn.Linear(p.hidden, 2)), seed=p.seed)


def fit(learn: Learner, p: Any, **how: Any) -> Any:
    return learn.fit(p.lr, 2, cycle_len=1, cycle_mult=3, **how)


def weights(learn: Learner) -> str:
    state = learn.model.state_dict().values()
    return hashlib.blake2b(b"".join(v.contiguous().numpy().tobytes() for v in state), digest_size=8).hexdigest()
