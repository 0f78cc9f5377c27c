"""A small learner for the tests of experiments, which a process of its own can import, too."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import easylearn as el
from easylearn.learning import Learner


def make(seed: int = 0, n: int = 20, **how: Any) -> Learner:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=g)
    data = el.TensorData(
        (x, (x[:, 0] > 0).long()), (x[:6], (x[:6, 0] > 0).long()), el.single_label(["a", "b"]), batch_size=4
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 2))
    return Learner(data, model, seed=seed, device="cpu", progress=False, **how)
