"""Names that differ between the editions of easylearn that `--against` may put side by side."""

from __future__ import annotations

import inspect
from typing import Any


def training_loader(data: Any) -> Any:
    """The loader of the training split, shuffled and augmented."""
    if "training" in inspect.signature(data.loader).parameters:
        return data.loader("train", training=True)
    return data.train_loader()  # the first edition


def plain_network() -> dict[str, int]:
    """The options of `tabular_learner` that leave the network alone: numbers as they are, no linear model beside it."""
    from easylearn import tabular_learner

    names = inspect.signature(tabular_learner).parameters
    return {name: 0 for name in ("num_emb_size", "cont_emb", "linear") if name in names}
