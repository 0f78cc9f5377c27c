"""Lab against known values, and PSNR against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easylearn.colours import psnr, rgb_to_lab, squared_errors, wanted_of
from easylearn.errors import ArgumentError
from easylearn.lab import coloured

LEVEL = st.integers(0, 255)


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


@given(st.tuples(LEVEL, LEVEL, LEVEL))
def test_there_and_back(rgb: tuple[int, int, int]) -> None:
    image = np.array(rgb, np.uint8).reshape(1, 1, 3)
    lab = rgb_to_lab(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0].numpy()
    assert np.abs(coloured(image, lab[1:]).astype(int) - image).max() <= 1


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
