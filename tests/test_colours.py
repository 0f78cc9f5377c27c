"""Lab against known values, and PSNR against its formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easylearn.colours import lab_to_rgb, psnr, rgb_to_lab, squared_errors, wanted_of
from easylearn.errors import ArgumentError

UNIT = st.floats(0, 1, width=32)


@pytest.mark.parametrize(
    ("rgb", "lab"),  # as colour scientists tabulate them (D65, 2 degrees)
    [
        ((0, 0, 0), (0, 0, 0)),
        ((1, 1, 1), (100, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
    ],
)
def test_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = rgb_to_lab(torch.tensor(rgb).float().view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(lab).float(), rtol=0, atol=0.03)


@given(st.tuples(UNIT, UNIT, UNIT))
def test_there_and_back(rgb: tuple[float, float, float]) -> None:
    x = torch.tensor(rgb).view(1, 3, 1, 1)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, rtol=0, atol=2e-3)


def test_psnr_is_of_all_pixels() -> None:
    image = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    said = (image / 255 + 0.1 * torch.randn(3, 3, 8, 8)).clamp(0, 1)
    mse = float((said - image / 255).square().mean())
    assert psnr(said, image) == pytest.approx(-10 * math.log10(mse), rel=1e-5)
    ab = wanted_of(image, 2)
    assert psnr(ab, image) > 100
    off = ab + 25.5
    assert psnr(off, image) == pytest.approx(20.0, abs=1e-3)  # a tenth of the range
    coarse = torch.nn.functional.avg_pool2d(said, 2)
    assert squared_errors(coarse, image).shape == (3,)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="4 channels"):
        psnr(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ArgumentError, match=r"\(n, 3, h, w\)"):
        psnr(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8))
