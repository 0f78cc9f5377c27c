"""Decoders over maps of several sizes, and the packing that precompute keeps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from easylearn.errors import ArgumentError
from easylearn.nn.decoders import LightDecoder, PyramidModel, UnetDecoder, pack, unpack

SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4)


@given(SIZES, st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_packing_keeps_every_map(sizes: list[tuple[int, int, int]], n: int) -> None:
    maps = [torch.randn(n, *size) for size in sizes]
    packed = pack(maps)
    assert packed.dtype == torch.float16 and len(packed) == n
    for one, again in zip(maps, unpack(packed), strict=True):
        assert torch.equal(one.half().float(), again)


def test_packing_of_many_channels_and_of_what_half_precision_cannot_hold() -> None:
    maps = [torch.full((1, 2051, 1, 3), 1e6)]
    (again,) = unpack(pack(maps))
    assert again.shape == (1, 2051, 1, 3) and again.isfinite().all()


def maps_of(n: int = 2) -> list[Tensor]:
    return [torch.randn(n, 6, 9, 13), torch.randn(n, 10, 5, 7), torch.randn(n, 16, 3, 4)]


@pytest.mark.parametrize("kind", [LightDecoder, UnetDecoder])
def test_decoders_give_the_finest_size_and_take_packed_maps(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    decoder = kind([6, 10, 16], 4).eval()
    maps = maps_of()
    out = decoder(maps)
    assert out.shape == (2, 4, 9, 13)
    torch.testing.assert_close(decoder(pack(maps)), out, rtol=0, atol=2e-2)
    out.sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())


@pytest.mark.parametrize("kind", [LightDecoder, UnetDecoder])
def test_one_map_is_enough(kind: type[nn.Module]) -> None:
    assert kind([6], 2)([torch.randn(2, 6, 5, 5)]).shape == (2, 2, 5, 5)


def test_the_light_decoder_is_a_sum_of_its_levels() -> None:
    decoder = LightDecoder([6, 10], 3, width=8).eval()
    a, b = torch.randn(1, 6, 8, 8), torch.randn(1, 10, 4, 4)
    wide = nn.functional.interpolate(decoder.lateral[1](b), (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(decoder([a, b]), decoder.out(decoder.mix(decoder.lateral[0](a) + wide)))


@pytest.mark.parametrize(("channels", "n_out", "width"), [([], 2, 8), ([3, 0], 2, 8), ([3], 0, 8), ([3], 2, -1)])
def test_what_no_decoder_can_be_made_of_is_refused(channels: list[int], n_out: int, width: int) -> None:
    with pytest.raises(ArgumentError):
        LightDecoder(channels, n_out, width)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 4, 1), nn.Conv2d(6, 10, 3, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        a = self.first(x)
        return [a, self.second(a)]


def test_a_pyramid_model_has_three_groups_and_packs_only_for_storing() -> None:
    body = Body()
    model = PyramidModel(body, LightDecoder([6, 10], 2), [(body.first,), (body.second,)]).eval()
    x = torch.randn(2, 3, 16, 24)
    assert [g.name for g in model.layer_groups()] == ["stem", "late", "decoder"]
    assert torch.equal(model(x), model.head(body(x)))
    features = model.features(x)
    assert features.dtype == model.feature_dtype == torch.float16
    torch.testing.assert_close(model.head(features), model(x), rtol=0, atol=5e-3)
