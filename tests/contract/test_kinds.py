"""Every exported function whose first argument is a learner, or predictions, refuses what is neither in words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

import easylearn as el
from easylearn import experiment
from easylearn.errors import EasyLearnError

EXPORTED: dict[str, Any] = {n: getattr(m, n) for m in (el, experiment) for n in m.__all__}


def first_of(given: Any) -> str:
    return next(iter(inspect.signature(given).parameters), "")


FUNCTIONS = {n: f for n, f in EXPORTED.items() if inspect.isfunction(f) and first_of(f) in ("learn", "predictions")}


def test_they_are_found() -> None:
    assert {"contrast", "grad_cam", "make_image", "plot_worst", "snapshots", "average_predictions"} <= FUNCTIONS.keys()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_what_is_neither_learner_nor_predictions_is_refused_in_words(name: str) -> None:
    function: Callable[..., Any] = FUNCTIONS[name]
    x = torch.zeros(4, 2)
    data = el.TensorData((x, x[:, 0].long()), None, el.single_label(["a", "b"]))
    more = list(inspect.signature(function).parameters.values())[1:]
    needed = ["name" for p in more if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    for wrong in (None, data, "films"):
        with pytest.raises(EasyLearnError, match=r"\w+ \w+ \w+"):
            function(wrong, *needed)
