from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from easylearn.train.snapshot import restored


class Drifting(nn.Module):
    """Replaces its buffer instead of changing it in place, as many modules do."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


def wreck(model: nn.Module) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        model(torch.randn(6, 5)).square().sum().backward()
        optimizer.step()
    random.random(), np.random.rand(3), torch.rand(3)
    model.requires_grad_(False)
    next(model.modules()).eval()


@pytest.fixture
def model(make_model: Callable[..., Any]) -> nn.Module:
    net: nn.Module = make_model("mlp")[0]
    net[0].append(Drifting())  # type: ignore[operator, index]
    net[0].eval()  # type: ignore[operator, index]
    next(net[0].parameters()).requires_grad_(False)  # type: ignore[union-attr, index]
    list(net.parameters())[-1].grad = torch.full((3,), 7.0)
    return net


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_everything_is_as_it_was(model: nn.Module, error: type[BaseException] | None, weights: Any, same: Any) -> None:
    before = weights(model)
    pointers = [t.data_ptr() for t in model.state_dict().values()]
    tensors = [id(p) for p in (*model.parameters(), *model.buffers())]
    modes = [m.training for m in model.modules()]
    grads = [(p.grad, p.requires_grad) for p in model.parameters()]
    rng = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index, union-attr]
    try:
        with restored(model):
            assert all(p.grad is None for p in model.parameters())
            wreck(model)
            assert not same(before, weights(model))
            if error is not None:
                raise error
    except (ZeroDivisionError, KeyboardInterrupt) as raised:
        assert type(raised) is error  # noqa: PT017 (there may be none)
    assert same(before, weights(model))
    assert pointers == [t.data_ptr() for t in model.state_dict().values()]  # in place: an optimizer goes on
    assert tensors == [id(p) for p in (*model.parameters(), *model.buffers())]
    assert modes == [m.training for m in model.modules()]
    assert all(p.grad is g and p.requires_grad == r for p, (g, r) in zip(model.parameters(), grads, strict=True))
    assert rng == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index, union-attr]


def test_not_even_nan_is_changed(make_model: Callable[..., Any]) -> None:
    model = make_model("plain")[0]
    with torch.no_grad():
        model[0].weight[0] = float("nan")
        model[0].weight[1] = -0.0
    before = model[0].weight.detach().clone().view(torch.int32)
    with restored(model):
        wreck(model)
    assert torch.equal(model[0].weight.detach().view(torch.int32), before)
