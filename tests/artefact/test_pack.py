from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from easylearn.artefact.pack import How, check, pack, unpack, unpack_into
from easylearn.errors import ArgumentError

SHAPES = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple)
HOWS: list[How] = ["int8", "sparse", "sparse_int8"]


def numbers(shape: tuple[int, ...], seed: int, zeros: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, shape) * np.exp(rng.normal(0, 3, (shape[0], *[1] * (len(shape) - 1))))
    return torch.from_numpy(np.where(rng.random(shape) < zeros, 0, values).astype(np.float32))


# -- compared with torch and numpy -------------------------------------------------------------------------


@given(SHAPES, st.integers(0, 99))
@settings(max_examples=50)
def test_int8_is_torchs_own_symmetric_quantization(shape: tuple[int, ...], seed: int) -> None:
    weight = numbers(shape, seed)
    back = unpack(pack(weight, "int8"), "int8", shape)
    scale = weight.reshape(shape[0], -1).abs().amax(1).double() / 127
    by_torch = torch.fake_quantize_per_channel_affine(
        weight, scale.float(), torch.zeros(shape[0], dtype=torch.int32), 0, -127, 127
    )
    # A number in the middle of two steps may go either way: one multiplies by the inverse, the other divides.
    step = scale.float().reshape(-1, *[1] * (len(shape) - 1))
    off = (back - by_torch).abs()
    assert bool((off <= step * 1.001).all()) and float((off > step * 0.01).float().mean()) < 0.05
    assert bool(((back - weight).abs() <= step * 0.5001).all())


@given(SHAPES, st.integers(0, 99), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
@settings(max_examples=50)
def test_sparse_keeps_every_bit(shape: tuple[int, ...], seed: int, zeros: float) -> None:
    weight = numbers(shape, seed, zeros)
    pieces = pack(weight, "sparse")
    assert torch.equal(unpack(pieces, "sparse", shape), weight)
    bits = np.unpackbits(pieces["mask"].numpy(), bitorder="little")[: weight.numel()]
    assert np.array_equal(bits.astype(bool), weight.flatten().numpy() != 0)
    assert len(pieces["values"]) == int(weight.count_nonzero())


@given(SHAPES, st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=50)
def test_both_are_the_one_after_the_other(shape: tuple[int, ...], seed: int, zeros: float) -> None:
    weight = numbers(shape, seed, zeros)
    both = unpack(pack(weight, "sparse_int8"), "sparse_int8", shape)
    assert torch.equal(both, unpack(pack(weight, "int8"), "int8", shape))


# -- behaviour ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_into_memory_of_any_order_and_type(how: How, layout: torch.memory_format, dtype: torch.dtype) -> None:
    weight = numbers((8, 4, 3, 3), 1, 0.5)
    target = torch.full((8, 4, 3, 3), 7.0, dtype=dtype).contiguous(memory_format=layout)
    unpack_into(target, pack(weight, how), how)
    assert target.is_contiguous(memory_format=layout) and target.dtype == dtype
    assert torch.allclose(target.float(), unpack(pack(weight, how), how, (8, 4, 3, 3)), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_more_numbers_than_are_looked_at_together(how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = numbers((37, 53), 2, 0.4)
    whole = unpack(pack(weight, how), how, (37, 53))
    monkeypatch.setattr("easylearn.artefact.pack._BYTES", 3)
    assert torch.equal(unpack(pack(weight, how), how, (37, 53)), whole)


def test_zeros_and_half_precision() -> None:
    assert unpack(pack(torch.zeros(2, 3), "int8"), "int8", (2, 3)).tolist() == [[0] * 3] * 2
    half = torch.randn(4, 5).half()
    assert torch.equal(unpack(pack(half, "sparse"), "sparse", (4, 5)), half.float())


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_pieces_that_do_not_fit(how: How) -> None:
    shape = (4, 5)
    good = pack(numbers(shape, 3, 0.5), how)
    check(good, how, shape)
    for name in good:
        spoiled: list[Any] = [None, good[name].double(), torch.cat([good[name], good[name][:1]]), good[name][:-1]]
        for piece in spoiled:
            bad = {n: t for n, t in good.items() if n != name} | ({} if piece is None else {name: piece})
            with pytest.raises(ArgumentError):
                unpack(bad, how, shape)
    with pytest.raises(ArgumentError, match="its pieces are"):
        check({**good, "more": torch.ones(1)}, how, shape)
    with pytest.raises(ArgumentError):
        check(good, how, (10**9, 10**6))


@pytest.mark.parametrize("how", ["", "int4", "int8,sparse", "sparse_int8 "])
def test_an_unknown_way(how: str) -> None:
    with pytest.raises(ArgumentError, match="cannot be packed"):
        check({}, how, (2, 2))


def test_a_mask_that_announces_too_much_or_too_little() -> None:
    good = pack(numbers((4, 8), 3, 0.5), "sparse")
    for mask in (torch.zeros_like(good["mask"]), torch.full_like(good["mask"], 255)):
        with pytest.raises(ArgumentError, match="'values' has"):
            unpack({**good, "mask": mask}, "sparse", (4, 8))
