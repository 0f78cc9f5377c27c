"""A small table, recipes that follow a plan of folds, and predictions by hand, for the tests that share them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import easylearn as el
from easylearn.experiment.cross_fit import Crossed
from easylearn.learning import Learner
from easylearn.task import Predictions, Task

N = 60


def table(n: int = N, seed: int = 0) -> pd.DataFrame:
    r = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": r.normal(size=n), "b": r.choice(list("xyz"), n), "c": r.normal(size=n)})
    frame["y"] = np.where(frame.a + (frame.b == "x") + 0.3 * r.normal(size=n) > 0.3, "yes", "no")
    return frame


TABLE, TEST = table(), table(12, 1).drop(columns="y")


def make(p: Any) -> Learner:
    data = el.TabularData.from_df(
        TABLE, "y", valid=p.valid, test=TEST, cat_names=["b"], cont_names=["a", "c"], batch_size=16
    )
    return el.tabular_learner(data, [4], seed=p.seed)


def fit(learn: Learner, p: Any, **how: Any) -> Any:
    return learn.fit(0.05, 1, **how)


def tensors(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=g)
    return x, (x[:, 0] > 0).long()


def make_tensors(p: Any) -> Learner:
    """Of tensors, which have no names; the recipe splits them itself."""
    x, y = tensors()
    data = el.TensorData((x[p.train], y[p.train]), (x[p.valid], y[p.valid]), el.single_label(["a", "b"]), batch_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(p.seed)
        return Learner(data, nn.Linear(3, 2), seed=p.seed)


def by_hand(
    plan: el.Folds, probs: torch.Tensor, y: torch.Tensor, *, task: Task | None = None, test: torch.Tensor | None = None,
    **how: Any,
) -> Crossed:  # fmt: skip
    """Crossed of predictions from elsewhere; `test` are those of the test split."""
    task = task or el.single_label(["no", "yes"])
    said = Predictions.of(task, probs, [f"i{k}" for k in range(len(y))], y)
    last = None if test is None else Predictions.of(task, test, [f"t{k}" for k in range(len(test))])
    return Crossed(plan, said, last, **how)


def two_columns(p: Any) -> torch.Tensor:
    """Probabilities of two classes, from those of the second."""
    second = torch.as_tensor(p, dtype=torch.float64)
    return torch.stack([1 - second, second], 1)
