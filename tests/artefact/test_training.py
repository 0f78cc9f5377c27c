"""The training part of a model file: what is written is read again, and what is damaged is named."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from easylearn.artefact.training import TrainingSettings
from easylearn.errors import WeightsError
from easylearn.nn.registry import describe
from easylearn.texts.callbacks import ActivationPenalty
from easylearn.train.callback import Callback
from easylearn.train.optim import adamw, sgd

SETTINGS = TrainingSettings(
    optimizer="sgd",
    wd=0.1,
    clip=1.0,
    accumulate=2,
    precision="bf16",
    seed=-3,
    bn_freeze=True,
    frozen=["stem"],
    epochs_done=4,
    callbacks=[describe(ActivationPenalty(alpha=3.0))],
    result={"valid_loss": 0.25},
)


def test_what_is_written_is_read_again() -> None:
    for settings in (SETTINGS, TrainingSettings(frozen=[], callbacks=[])):
        assert TrainingSettings.from_json(json.loads(json.dumps(settings.to_json())), "m.easylearn") == settings


def test_what_is_missing_has_its_default_and_what_is_unknown_is_left_out() -> None:
    assert TrainingSettings.from_json({"wd": 0.5, "of a newer version": 1}, "m") == TrainingSettings(wd=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", 3),
        ("wd", "much"),
        ("wd", -1),
        ("wd", math.nan),
        ("clip", 0),
        ("clip", math.inf),
        ("accumulate", 0),
        ("accumulate", 2.0),
        ("precision", "fp64"),
        ("precision", ["fp32"]),
        ("seed", True),
        ("bn_freeze", 1),
        ("frozen", "head"),
        ("frozen", [1]),
        ("epochs_done", -1),
        ("epochs_done", 2**63),
        ("callbacks", {}),
        ("result", {"valid_loss": "low"}),
    ],
)
def test_a_damaged_setting_is_named_with_its_file(name: str, value: Any) -> None:
    with pytest.raises(WeightsError, match=rf"m\.easylearn .*{name}="):
        TrainingSettings.from_json({**SETTINGS.to_json(), name: value}, "m.easylearn")


@pytest.mark.parametrize("given", [None, [], "adam"])
def test_no_training_part_at_all(given: Any) -> None:
    with pytest.raises(WeightsError, match=r"m\.easylearn"):
        TrainingSettings.from_json(given, "m.easylearn")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sgd", sgd),
        ("adamw", adamw),
        ("Adam", torch.optim.Adam),
        ("SGD", torch.optim.SGD),
        (None, None),
        ("<lambda>", None),
        ("lr_scheduler", None),  # a module beside the optimizers
    ],
)
def test_an_optimizer_by_its_name(name: str | None, found: Any) -> None:
    assert TrainingSettings(optimizer=name).make_optimizer() is found


def test_callbacks_are_made_as_described() -> None:
    class Custom(Callback):
        pass

    settings = TrainingSettings(callbacks=[*SETTINGS.callbacks, describe(Custom())])
    made = settings.make_callbacks("m")
    assert len(made) == 1 and isinstance(made[0], ActivationPenalty) and made[0].alpha == 3.0


@pytest.mark.parametrize(
    "description",
    [
        {"build": "Linear", "args": {"in_features": 2**30, "out_features": 2**30}},
        {"build": "easylearn.activation_penalty", "args": {"alpha": {"build": "Linear", "args": {}}}},
        {"build": "easylearn.activation_penalty", "args": {"no_such": 0}},
        {"build": "easylearn.activation_penalty"},
        {"build": "eval", "args": {}},
        7,
    ],
)
def test_a_description_that_makes_no_callback_is_refused(description: Any) -> None:
    with pytest.raises(WeightsError, match=r"m\.easylearn"):
        TrainingSettings(callbacks=[description]).make_callbacks("m.easylearn")
