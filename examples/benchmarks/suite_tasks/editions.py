"""Names that differ between the editions of easylearn that `--against` may put side by side."""

from __future__ import annotations

import inspect
from typing import Any


def training_loader(data: Any) -> Any:
    """The loader of the training split, shuffled and augmented."""
    if "training" in inspect.signature(data.loader).parameters:
        return data.loader("train", training=True)
    return data.train_loader()  # the first edition


def without_embedded_numbers() -> dict[str, int]:
    """The option of `tabular_learner` that gives numbers to the network as they are."""
    from easylearn import tabular_learner

    names = inspect.signature(tabular_learner).parameters
    return {next(name for name in ("num_emb_size", "cont_emb") if name in names): 0}
