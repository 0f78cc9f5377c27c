"""What a file says of itself: its inputs, and what the model gives for items of no meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.preprocess import Preprocessor, RuntimeInputs
from ..task import Task
from ..train.strategy import Strategy
from .check_items import can_be_made, check_items, kept

Run = Callable[[tuple[Tensor, ...]], Tensor]


def describe_inputs(runtime: RuntimeInputs, given: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Name, dtype and shape of each input; an axis whose length may vary has a name in place of it."""
    return [
        {"name": name, "dtype": str(x.dtype).removeprefix("torch."),
         "shape": [axes.get(i, n) for i, n in enumerate(x.shape)]}
        for name, x, axes in zip(runtime.names, given, runtime.axes, strict=True)
    ]  # fmt: skip


def written_check(
    inputs: Sequence[Mapping[str, Any]], given: Sequence[Tensor], run: Run | None, within: float
) -> dict[str, Any] | None:
    """What a file holds to be checked by; None where the model takes no items of no meaning.

    Args:
        inputs: as `describe_inputs` says them.
        given: the inputs of some real items, whose codes are known to the model.
        run: the model, or a program of it: it gives probabilities; None where two machines may order them otherwise.
        within: how far off they may be elsewhere, see `check_items.WITHIN`.
    """
    if run is None or not can_be_made(inputs):
        return None
    below: dict[str, Any] = {}
    for said, x in zip(inputs, given, strict=True):
        if said["dtype"] == "int64" and x.numel():
            varies = any(isinstance(n, str) for n in said["shape"][1:])
            below[said["name"]] = (x.max() if varies else x.amax(0)).add(1).tolist()
    items = check_items(inputs, below)
    try:
        probs = run(tuple(torch.from_numpy(items[said["name"]]) for said in inputs))
    except Exception:  # a model of one's own may take real items alone, and runtimes raise their own kinds
        return None
    if not bool(probs.isfinite().all()):
        return None
    return {"inputs": list(inputs), "below": below, "probs": kept(probs.numpy()).tolist(), "within": within}


def run_model(model: nn.Module, task: Task, preprocessor: Preprocessor, strategy: Strategy) -> Run:
    """The model as a function of what its file takes."""
    prepare = preprocessor.runtime_inputs(()).prepare

    def run(given: tuple[Tensor, ...]) -> Tensor:
        inputs: Any = given if prepare is None else prepare(*given)
        some = inputs if isinstance(inputs, tuple) else (inputs,)
        with strategy.evaluating(model):
            return task.activate(strategy.forward(model, tuple(x.to(strategy.device) for x in some)).float().cpu())

    return run
