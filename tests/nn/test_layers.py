"""Pooling layers against torch's own."""

import pytest
import torch
from torch import nn

from easylearn.nn.layers import ConcatPool2d, TokenPool, WarmBatchNorm1d


def test_concat_pool_is_torchs_two_poolings_maxima_first() -> None:
    x = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    reference = torch.cat([nn.AdaptiveMaxPool2d(1)(x), nn.AdaptiveAvgPool2d(1)(x)], 1).flatten(1)
    torch.testing.assert_close(ConcatPool2d()(x), reference)
    torch.testing.assert_close(ConcatPool2d(channels_last=True)(x.permute(0, 2, 3, 1)), reference)


@pytest.mark.parametrize("side", [1, 2, 7])
def test_concat_pool_takes_any_size_and_any_memory_format(side: int) -> None:
    x = torch.randn(2, 4, side, side, requires_grad=True)
    out = ConcatPool2d()(x.contiguous(memory_format=torch.channels_last))
    assert out.shape == (2, 8)
    out.sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


def test_token_pool_keeps_prefix_tokens_out_of_the_average() -> None:
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(TokenPool()(x), torch.cat([x.max(1).values, x.mean(1)], 1))
    torch.testing.assert_close(TokenPool(2)(x), torch.cat([x[:, 0], x[:, 2:].mean(1)], 1))


def test_layers_print_what_they_do() -> None:
    assert repr(ConcatPool2d()) == "ConcatPool2d()"
    assert repr(ConcatPool2d(True)) == "ConcatPool2d(channels_last=True)"
    assert repr(TokenPool(1)) == "TokenPool(n_prefix=1)"


class TestWarmBatchNorm:
    def test_the_first_ten_batches_are_averaged_then_it_is_torchs_rule(self) -> None:
        generator = torch.Generator().manual_seed(0)
        batches = [3 + 0.01 * torch.randn(8, 4, generator=generator) for _ in range(14)]
        layer = WarmBatchNorm1d(4)
        for batch in batches[:10]:
            layer(batch)
        torch.testing.assert_close(layer.running_mean, torch.stack([b.mean(0) for b in batches[:10]]).mean(0))
        torch.testing.assert_close(layer.running_var, torch.stack([b.var(0) for b in batches[:10]]).mean(0))
        torchs = torch.nn.BatchNorm1d(4)
        torchs.load_state_dict(layer.state_dict())
        for batch in batches[10:]:
            torch.testing.assert_close(layer(batch), torchs(batch), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(layer.running_mean, torchs.running_mean)
        torch.testing.assert_close(layer.eval()(batches[0]), torchs.eval()(batches[0]), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_warm_batch_norm_trains_in_any_precision(dtype: torch.dtype) -> None:
    layer, x = WarmBatchNorm1d(3).to(dtype), torch.randn(8, 3, dtype=torch.float64).to(dtype)
    torch.testing.assert_close(layer(x), torch.nn.BatchNorm1d(3).to(dtype)(x))
    assert layer.running_mean is not None and layer.running_mean.dtype == dtype
    torch.testing.assert_close(layer.running_mean, x.mean(0), rtol=1e-2, atol=1e-2)
