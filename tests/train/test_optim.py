from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.errors import ArgumentError
from easylearn.nn.groups import LayerGroup, ParamGroup, place_parameters
from easylearn.train.optim import adamw, build_optimizer, has_fused, sgd


def net() -> tuple[nn.Sequential, tuple[ParamGroup, ...]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    groups = [LayerGroup(name, (layer,)) for name, layer in zip(["stem", "late", "head"], model, strict=True)]
    return model, place_parameters(model, groups)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    x = torch.linspace(-1, 1, 12).reshape(4, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (sgd, functools.partial(torch.optim.SGD, momentum=0.9)),
        (adamw, functools.partial(torch.optim.AdamW, betas=(0.9, 0.99), weight_decay=0.01)),
    ],
)
def test_defaults_are_torchs_optimizers(ours: Any, torchs: Any) -> None:
    a, b = net()[0], net()[0]
    for p, q in zip(
        train(a, ours(a.parameters(), lr=0.05)), train(b, torchs(b.parameters(), lr=0.05, foreach=False)), strict=True
    ):
        torch.testing.assert_close(p, q)


def test_fused_is_asked_of_torch() -> None:
    p = nn.Parameter(torch.zeros(1))
    assert has_fused(torch.optim.SGD, "cpu") == bool(sgd([p]).param_groups[0].get("fused"))
    assert not has_fused(torch.optim.Rprop, "cpu")


def test_one_param_group_per_layer_group_with_all_its_settings() -> None:
    model, groups = net()
    optimizer = build_optimizer(sgd, groups, (0.1, 0.2, 0.3), 0.5)
    settings = [(g["group"], g["lr"], g["base_lr"], g["weight_decay"], g["momentum"]) for g in optimizer.param_groups]
    assert settings == [("stem", 0.1, 0.1, 0.5, 0.9), ("late", 0.2, 0.2, 0.5, 0.9), ("head", 0.3, 0.3, 0.5, 0.9)]
    placed = [p for g in optimizer.param_groups for p in g["params"]]
    assert [id(p) for p in placed] == [id(p) for p in model.parameters()]


def test_weight_decay_none_leaves_the_optimizers_own() -> None:
    assert {g["weight_decay"] for g in build_optimizer(adamw, net()[1], (1, 1, 1)).param_groups} == {0.01}
    assert {g["weight_decay"] for g in build_optimizer(adamw, net()[1], (1, 1, 1), 0.0).param_groups} == {0.0}


def test_frozen_parameters_are_not_in_it() -> None:
    model, groups = net()
    for p in model[0].parameters():
        p.requires_grad_(False)
    model[1].bias.requires_grad_(False)
    optimizer = build_optimizer(sgd, groups, (0.1, 0.2, 0.3))
    assert [(g["group"], len(g["params"])) for g in optimizer.param_groups] == [("late", 1), ("head", 2)]


@pytest.mark.parametrize(
    "make", [torch.optim.Adam, torch.optim.RMSprop, functools.partial(torch.optim.SGD, nesterov=True, momentum=0.9)]
)
def test_any_torch_optimizer(make: Any) -> None:
    model, groups = net()
    train(model, build_optimizer(make, groups, (0.1, 0.2, 0.3), 0.1))


def test_nothing_to_train() -> None:
    model, groups = net()
    model.requires_grad_(False)
    with pytest.raises(ArgumentError, match=r"every layer group is frozen.*learn.unfreeze\(\)"):
        build_optimizer(sgd, groups, (0.1, 0.2, 0.3))


def test_what_makes_no_optimizer() -> None:
    with pytest.raises(ArgumentError, match="must make a torch optimizer, it made dict"):
        build_optimizer(lambda params, lr: {}, net()[1], (0.1, 0.2, 0.3))  # type: ignore[arg-type, return-value]
