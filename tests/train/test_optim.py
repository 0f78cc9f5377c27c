from __future__ import annotations

import functools
import math
import re
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.errors import ArgumentError
from easylearn.nn.groups import LayerGroup, ParamGroup, place_parameters
from easylearn.train.optim import AdamW, adamw, build_optimizer, has_adamw_kernel, has_fused, sgd


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


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "x"])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (torch.optim.SGD, "momentum"),
        (torch.optim.AdamW, "weight_decay"),
        (torch.optim.RMSprop, "eps"),
        (torch.optim.Adam, "betas"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make: Any, name: str, value: Any) -> None:
    settings = {name: (0.9, value) if name == "betas" else value}
    with pytest.raises(ArgumentError, match=r"(?i)optimizer"):
        build_optimizer(functools.partial(make, **settings), net()[1], (0.1, 0.2, 0.3))
    with pytest.raises(ArgumentError, match=re.escape(f"wd must be a number at least 0, got {value!r}")):
        build_optimizer(make, net()[1], (0.1, 0.2, 0.3), value)


def test_what_makes_no_optimizer() -> None:
    with pytest.raises(ArgumentError, match="must make a torch optimizer, it made dict"):
        build_optimizer(lambda params, lr: {}, net()[1], (0.1, 0.2, 0.3))  # type: ignore[arg-type, return-value]


fused_here = pytest.mark.skipif(not has_fused(torch.optim.AdamW, "cpu"), reason="no fused AdamW on the CPU before 2.4")


class TestAdamW:
    @fused_here
    @pytest.mark.parametrize("weight_decay", [0.0, 0.3])
    def test_it_is_torchs_to_the_bit_and_takes_the_short_way(self, weight_decay: float) -> None:
        ours, torchs = net()[0], net()[0]
        optimizer = AdamW(ours.parameters(), lr=0.05, betas=(0.8, 0.95), weight_decay=weight_decay, fused=True)
        other = torch.optim.AdamW(
            torchs.parameters(), lr=0.05, betas=(0.8, 0.95), weight_decay=weight_decay, fused=True
        )
        assert all(map(torch.equal, train(ours, optimizer), train(torchs, other)))
        assert optimizer._kernel_calls() is not None
        one, two = optimizer.state_dict()["state"], other.state_dict()["state"]
        assert all(torch.equal(one[i][name], two[i][name]) for i in one for name in one[i])

    @fused_here
    def test_groups_and_rates_of_their_own_and_a_state_that_is_loaded(self) -> None:
        (ours, placed), (torchs, others) = net(), net()
        by_torch = functools.partial(torch.optim.AdamW, fused=True, betas=(0.9, 0.99))
        optimizer = build_optimizer(adamw, placed, (0.1, 0.02, 0.3), 0.1)
        other = build_optimizer(by_torch, others, (0.1, 0.02, 0.3), 0.1)
        train(ours, optimizer)
        train(torchs, other)
        optimizer.load_state_dict(deepcopy(other.state_dict()))  # torch would share its tensors
        for o in (optimizer, other):
            o.param_groups[1]["lr"] = 0.5
            o.param_groups[2]["betas"] = (0.5, 0.9)
        assert all(map(torch.equal, train(ours, optimizer), train(torchs, other)))

    def test_what_is_out_of_the_ordinary_is_left_to_torch(self) -> None:
        def steps(make: Any, **options: Any) -> list[torch.Tensor]:
            model = net()[0]
            optimizer = make(model.parameters(), lr=0.05, **options)
            train(model, optimizer, 2)
            model[0].weight.grad = None
            optimizer.step()
            assert float(optimizer.step(lambda: model(torch.ones(1, 3)).sum().backward() or torch.tensor(7.0))) == 7.0
            return [p.detach().clone() for p in model.parameters()]

        for options in ({}, {"amsgrad": True}, {"maximize": True}, {"foreach": True}, {"capturable": False}):
            assert all(map(torch.equal, steps(AdamW, **options), steps(torch.optim.AdamW, **options))), options

    @fused_here
    def test_two_types_of_numbers(self) -> None:
        def steps(make: Any) -> list[torch.Tensor]:
            params = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.float64))]
            optimizer = make(params, fused=True)
            for p in params:
                p.grad = torch.ones_like(p)
            for _ in range(3):
                optimizer.step()
            return params

        assert all(map(torch.equal, steps(AdamW), steps(torch.optim.AdamW)))

    @fused_here
    @pytest.mark.parametrize("kernel", ["_fused_adamw_", "_foreach_add_"])
    @pytest.mark.parametrize("change", ["gone", "other arguments"])
    def test_a_torch_without_the_kernel_takes_its_own_step(
        self, monkeypatch: pytest.MonkeyPatch, kernel: str, change: str
    ) -> None:
        ours, torchs = net()[0], net()[0]
        has_adamw_kernel.cache_clear()
        with monkeypatch.context() as patch:
            patch.delattr(torch, kernel) if change == "gone" else patch.setattr(torch, kernel, lambda other: None)
            optimizer = AdamW(ours.parameters(), lr=0.05, fused=True)
        has_adamw_kernel.cache_clear()
        other = torch.optim.AdamW(torchs.parameters(), lr=0.05, fused=True)
        assert all(map(torch.equal, train(ours, optimizer), train(torchs, other)))
        assert optimizer._kernel_calls() is None

    def test_a_copy_steps_as_the_original(self) -> None:
        model = net()[0]
        optimizer = AdamW(model.parameters(), lr=0.05)
        train(model, optimizer, 2)
        other, copied = deepcopy((model, optimizer))
        assert all(map(torch.equal, train(model, optimizer, 2), train(other, copied, 2)))

    def test_a_hook_is_called_once_a_step(self) -> None:
        model = net()[0]
        torch.optim.AdamW(model.parameters())  # from now on torch's own step calls hooks, too
        optimizer, called = AdamW(model.parameters()), []
        optimizer.register_step_post_hook(lambda *_: called.append("after"))
        optimizer.register_step_pre_hook(lambda *_: called.append("before"))
        train(model, optimizer, 3)
        assert called == ["before", "after"] * 3
