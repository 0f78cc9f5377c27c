from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from easylearn import keyed
from easylearn.nn.dropout import Dropout, drop_mask, drop_numbers
from easylearn.nn.registry import build, describe


@given(st.integers(0, 300), st.floats(0.01, 0.94))
@settings(deadline=None, max_examples=20)
def test_mask_holds_zeros_and_one_number_that_keeps_the_mean(n: int, p: float) -> None:
    mask = drop_mask((n, 3), p, torch.zeros(()))
    kept = 256 / (256 - max(round(p * 256), 1))
    assert mask.shape == (n, 3) and mask.dtype == torch.float32
    assert bool(((mask == 0) | ((mask - kept).abs() < 1e-5 * kept)).all())


@pytest.mark.parametrize("p", [0.0, 0.001, 0.02, 0.25, 0.5, 0.95, 0.999])
def test_mask_has_its_share_everywhere(p: float) -> None:
    mask = drop_mask((4000, 64), p, torch.zeros((), dtype=torch.float64))
    exact = min(max(round(p * 256), 1), 255) / 256 if p else 0.0
    assert abs(exact - p) <= 1 / 256
    share = (mask == 0).double().mean().item()
    assert share == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / mask.numel()) + 1e-12)
    # Eight bytes come from one random number: the last one must not be lower than the others.
    each = (mask.view(-1, 8) == 0).double().mean(0)
    assert float((each - exact).abs().max()) <= 6 * math.sqrt(exact * (1 - exact) / (mask.numel() / 8)) + 1e-12
    if p:
        pairs = (mask[:, 1:] == 0) & (mask[:, :-1] == 0)
        assert pairs.double().mean().item() == pytest.approx(exact**2, abs=0.01)


def test_numbers_are_dropped_as_by_a_mask() -> None:
    x = torch.randn(30, 40, dtype=torch.float64, requires_grad=True)
    up = torch.randn(30, 40, dtype=torch.float64)
    with keyed.scoped_rng(3):
        dropped = drop_numbers(x, 0.3)
    with keyed.scoped_rng(3):
        mask = drop_mask(x.shape, 0.3, x)
    dropped.backward(up)
    assert x.grad is not None
    torch.testing.assert_close(dropped, x * mask)
    torch.testing.assert_close(x.grad, up * mask)


@pytest.mark.parametrize("p", [0.0, 0.001, 0.02, 0.1, 0.25, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("shape", [(7,), (64, 32), (1024, 70), (5, 40, 30)], ids=str)
def test_the_layer_drops_as_torchs_does(p: float, shape: tuple[int, ...]) -> None:
    x = torch.ones(shape, requires_grad=True)
    with keyed.scoped_rng(0):
        y = Dropout(p)(x)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y), "what is dropped gets no gradient"
    kept = y[y != 0]
    assert y.shape == x.shape and (len(kept) == 0 or torch.allclose(kept, kept[:1].expand_as(kept)))
    share = (y == 0).double().mean().item()
    assert share == pytest.approx(p, abs=1 / 256 + 5 * math.sqrt(p * (1 - p) / x.numel()))
    if len(kept):  # what remains keeps the mean, exactly so for the share that was aimed at
        assert 1 / kept[0].item() == pytest.approx(1 - p, abs=1 / 256)


def test_the_layer_leaves_alone_what_is_no_training() -> None:
    x = torch.randn(64, 512)
    layer = Dropout(0.5).eval()
    assert layer(x) is x
    assert isinstance(layer, nn.Dropout) and repr(layer) == repr(nn.Dropout(0.5).eval())
    layer.train().p = 0.0
    assert torch.equal(layer(x), x)


def test_the_layer_follows_the_global_generator() -> None:
    made = []
    for seed in (1, 1, 2):
        with keyed.scoped_rng(seed):
            made.append(Dropout(0.5)(torch.ones(64, 512)))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_layer_keeps_the_type(dtype: torch.dtype) -> None:
    assert Dropout(0.5)(torch.ones(64, 512, dtype=dtype)).dtype == dtype


def test_large_tensors_are_dropped_by_random_bytes_and_small_ones_by_torch() -> None:
    for shape, p, ours in (((64, 512), 0.3, True), ((7, 585), 0.3, False), ((64, 512), 0.001, False)):
        x = torch.randn(shape)
        with keyed.scoped_rng(4):
            dropped = Dropout(p)(x)
        with keyed.scoped_rng(4):
            want = x * drop_mask(x.shape, p, x) if ours else nn.Dropout(p)(x)
        assert torch.equal(dropped, want), (shape, p)


def test_what_takes_torchs_layer_takes_this_one() -> None:
    model, x = nn.Sequential(nn.Linear(512, 512), Dropout(0.5)), torch.randn(64, 512)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model)
    assert torch.equal(scripted.eval()(x), model.eval()(x))
    assert (scripted.train()(x) == 0).any()
    graph = torch.fx.symbolic_trace(model.train())
    assert (graph(x) == 0).any() and torch.equal(graph.eval()(x), graph(x)) is False


def test_files_call_it_torchs_with_the_probability_that_it_has() -> None:
    layer = Dropout(0.3)
    layer.p = 0.1
    assert describe(layer) == describe(nn.Dropout(0.1))
    assert isinstance(build(describe(nn.Sequential(layer)))[0], nn.Dropout)
