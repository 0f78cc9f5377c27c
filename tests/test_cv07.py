"""The arrays of one image under 2018's functions, and transforms of one's own."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from easylearn import cv07
from easylearn.cv07 import TfmType, Transform


def image(rows: int = 12, columns: int = 16) -> Any:
    return np.random.default_rng(0).random((rows, columns, 3)).astype(np.float32)


def test_turning_by_a_right_angle_is_numpys() -> None:
    square = image(12, 12)
    assert np.allclose(cv07.rotate_cv(square, 90), np.rot90(square), atol=1e-5)
    assert np.allclose(cv07.rotate_cv(square, 0), square, atol=1e-5)


def test_turning_a_little_is_scipys_inside() -> None:
    smooth = ndimage.gaussian_filter(image(41, 61)[..., 0], 3)
    ours, theirs = cv07.rotate_cv(smooth, 10), ndimage.rotate(smooth, 10, reshape=False, order=1)
    assert np.abs(ours - theirs)[12:-12, 12:-12].max() < 0.01


def test_a_zoom_shows_the_middle_larger() -> None:
    x = np.zeros((16, 16), np.float32)
    x[6:10, 6:10] = 1
    assert cv07.zoom_cv(x, 1.0).sum() == pytest.approx(4 * x.sum(), rel=0.1)
    assert cv07.stretch_cv(x, 0.0, 1.0).sum() == pytest.approx(2 * x.sum(), rel=0.1)
    assert np.allclose(cv07.zoom_cv(x, 0.0), x, atol=1e-5)


@given(st.integers(0, 7), st.integers(2, 6), st.integers(2, 6))
def test_the_eight_ways_move_every_pixel(dih: int, rows: int, columns: int) -> None:
    x = np.arange(rows * columns * 3).reshape(rows, columns, 3)
    turned = cv07.dihedral(x, dih)
    assert sorted(turned.ravel()) == sorted(x.ravel())
    assert turned.shape[:2] == ((rows, columns) if dih % 2 == 0 else (columns, rows))


def test_the_eight_ways_differ() -> None:
    x = np.arange(9).reshape(3, 3)
    assert len({cv07.dihedral(x, k).tobytes() for k in range(8)}) == 8


@given(st.integers(4, 20), st.integers(4, 20), st.integers(2, 20))
def test_sizes(rows: int, columns: int, side: int) -> None:
    x = image(rows, columns)
    assert min(cv07.scale_min(x, side).shape[:2]) == side
    assert cv07.no_crop(x, side).shape == (side, side, 3)
    assert cv07.center_crop(x).shape[:2] == (min(rows, columns),) * 2


def test_light_contrast_holes_and_boxes() -> None:
    x = image()
    assert np.allclose(cv07.lighting(x, 0.0, 1.0), x, atol=1e-6)
    assert cv07.lighting(x, 0.2, 1.0).mean() > x.mean() and cv07.lighting(x, 0.0, 0.5).std() < x.std()
    assert (cv07.cutout(x, 2, 4) == 0).any() and not (x == 0).any()
    mask = np.zeros((9, 9))
    mask[2:5, 3:8] = 1
    assert cv07.to_bb(mask).tolist() == [2, 3, 4, 7] and not cv07.to_bb(mask * 0).any()
    assert np.argwhere(cv07.coords2px(np.array([1, 2, 3, 4]), x)).tolist() == [[1, 2], [1, 4], [3, 2], [3, 4]]
    assert all(abs(cv07.rand0(0.3)) <= 0.3 for _ in range(20))


def test_pixels_are_normalised_and_come_back() -> None:
    x, stats = image(), ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    made, same = cv07.Normalize(*stats, tfm_y=TfmType.PIXEL)(x, x)
    assert np.array_equal(made, same) and np.allclose(cv07.Denormalize(*stats)(made), x, atol=1e-6)
    assert cv07.Normalize(*stats)(x, 3)[1] == 3


class Halved(Transform):
    """Light by a factor that is drawn once for image and target."""

    def set_state(self) -> None:
        self.store.by = random.choice([0.5, 0.25])

    def do_transform(self, x: Any, is_y: bool) -> Any:
        return x * self.store.by


@pytest.mark.parametrize("kind", [TfmType.PIXEL, TfmType.CLASS])
def test_an_image_and_its_mask_share_what_is_drawn(kind: TfmType) -> None:
    x = image()
    for _ in range(5):
        made, target = Halved(kind)(x, x)
        assert np.array_equal(made, target)


def test_a_target_that_is_no_image_stays() -> None:
    x = image()
    assert Halved()(x, 7)[1] == 7 and Halved(TfmType.COORD)(x, [0, 0, 1, 1])[1] == [0, 0, 1, 1]


def test_boxes_follow_a_padding() -> None:
    made, boxes = cv07.AddPadding(2, tfm_y=TfmType.COORD)(image(), np.array([1, 2, 5, 6, 0, 0, 3, 3]))
    assert made.shape == (16, 20, 3) and boxes[0] <= 3 and len(boxes) == 8
    plain, _ = cv07.AddPadding(2)(image(), 0)
    assert np.array_equal(plain[2:-2, 2:-2], image()) and np.array_equal(plain[1], plain[2])


def test_a_blur_is_the_mean_of_squares() -> None:
    x = image()
    made, _ = cv07.RandomBlur(3, probability=1.0)(x)
    expected = np.stack([ndimage.uniform_filter(x[..., c], 3, mode="mirror") for c in range(3)], -1)
    assert np.allclose(made, expected, atol=1e-5)
    assert np.array_equal(cv07.RandomBlur(3, probability=0.0)(x)[0], x)


def test_several_one_after_the_other() -> None:
    x = np.ones((2, 2))
    assert cv07.compose(x, None, [lambda x, y: (x + 1, y)] * 2).tolist() == [[3, 3], [3, 3]]
    assert cv07.compose(x, 1, [lambda x, y: (x, y + 1)])[1] == 2


def test_a_transform_that_does_nothing_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Transform.*do_transform"):
        Transform()(image())
