"""Colours, perspective, blur and the policies against torchvision's functions, and torchvision's own transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from easylearn import keyed
from easylearn.errors import ArgumentError
from easylearn.vision import augment
from easylearn.vision.augment import BatchStage, Flip, Light, ModuleTransform, Rotate, Transform, resolve
from easylearn.vision.data import ImageData
from easylearn.vision.policies import (
    MOVES,
    OPERATIONS,
    PIXELS,
    Blur,
    Hue,
    Perspective,
    RandAugment,
    Saturation,
    TrivialAugment,
    apply_operation,
    between,
    blurred,
)
from easylearn.vision.warp import warp

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
NEW = (Saturation(), Hue(), Perspective(p=1.0), Blur(p=1.0), TrivialAugment(), RandAugment())


def photographs(b: int = 6, h: int = 40, w: int = 56) -> Tensor:
    """Images with colours of all kinds, without sharp edges."""
    noise = torch.rand(b, 3, 6, 7, generator=torch.Generator().manual_seed(3))
    return (torch.nn.functional.interpolate(noise, (h, w), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def floats(x: Tensor | None = None) -> Tensor:
    return (photographs() if x is None else x) / 255


def draws_of(stage: BatchStage, n: int) -> list[np.ndarray]:
    """The uniform numbers of each transform, for seed and epoch 0."""
    named = [(t.draws, type(t).__name__, place) for place, t in enumerate(stage.transforms)]
    return [keyed.uniform(range(n), draws, 0, "augment", name, place, 0, 0) for draws, name, place in named]


def coloured(matrix: np.ndarray, x: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", torch.from_numpy(matrix).float(), x)


class TestColours:
    @pytest.mark.parametrize("draw", [0.0, 0.3, 0.5, 0.99])
    def test_saturation(self, draw: float) -> None:
        matrix = Saturation(0.5, p=1.0).colour(np.array([[0.0, draw]]))[0]
        got = coloured(matrix, floats()).clamp(0, 1)
        wanted = tv.adjust_saturation(floats(), 1.5 ** (2 * draw - 1))
        torch.testing.assert_close(got, wanted, rtol=0, atol=2e-4)  # torchvision's weights add up to 0.9999

    @pytest.mark.parametrize("third", [-1, 1])
    def test_hue_at_thirds_of_the_circle(self, third: int) -> None:
        matrix = Hue(0.5, p=1.0).colour(np.array([[0.0, 0.5 + third / 3]]))[0]
        torch.testing.assert_close(coloured(matrix, floats()), tv.adjust_hue(floats(), third / 3), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("turn", [-0.1, -0.05, 0.05, 0.1])
    def test_a_turn_of_hue_goes_where_that_of_hsv_goes(self, turn: float) -> None:
        matrix = Hue(0.1, p=1.0).colour(np.array([[0.0, 0.5 + turn / 0.2]]))[0]
        ours, theirs = ((y - floats()).flatten() for y in (coloured(matrix, floats()), tv.adjust_hue(floats(), turn)))
        assert torch.corrcoef(torch.stack([ours, theirs]))[0, 1] > 0.8
        assert 0.7 < ours.norm() / theirs.norm() < 1.3

    @pytest.mark.parametrize("transform", [Saturation(0.8, p=1.0), Hue(0.3, p=1.0)])
    def test_grey_stays_grey(self, transform: Transform) -> None:
        matrix = transform.colour(keyed.uniform(range(20), 2, 0))
        assert matrix is not None
        np.testing.assert_allclose(matrix @ np.ones(3), 1.0)

    def test_p(self) -> None:
        u = np.array([[0.5, 0.9], [0.0, 0.9]])
        for transform in (Saturation(p=0.3), Hue(p=0.3)):
            first, second = transform.colour(u)
            np.testing.assert_allclose(first, np.eye(3), atol=1e-12)
            assert not np.allclose(second, np.eye(3))

    def test_they_are_fused_with_light_and_normalisation(self) -> None:
        stage = BatchStage((40, 56), (Light(0.2, 0.3, p=1.0), Saturation(0.5, p=1.0), Hue(0.1, p=1.0)))
        x, u = photographs(), draws_of(stage, 6)
        out = stage.augmented(x, range(6), 0, 0)
        factor, summand = (torch.tensor(v).float().view(-1, 1, 1, 1) for v in stage.transforms[0].light(u[0]))  # type: ignore[union-attr]
        y = floats(x) * factor + summand
        for t, draws in zip(stage.transforms[1:], u[1:], strict=True):
            y = torch.stack([coloured(m, row[None])[0] for m, row in zip(t.colour(draws), y, strict=True)])  # type: ignore[arg-type]
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (stage.mean, stage.std))
        torch.testing.assert_close(out, (y - mean) / std, rtol=1e-3, atol=1e-4)

    def test_one_channel_is_left_alone(self) -> None:
        stage = BatchStage((40, 56), (Saturation(p=1.0), Hue(p=1.0)), (0.0,), (1.0,))
        x = photographs()[:, :1]
        torch.testing.assert_close(stage.augmented(x, range(6), 0, 0), x / 255)


class TestPerspective:
    def test_it_agrees_with_torchvision(self) -> None:
        x = photographs(1)
        u = np.array([[0.0, 0.3, 0.1, 0.9, 0.6, 0.2, 0.8, 0.5, 0.4]])
        matrix = Perspective(0.3, p=1.0).matrix(u, (40, 56))
        start = [[0, 0], [56, 0], [56, 40], [0, 40]]
        moved = 0.3 * u[0, 1:].reshape(4, 2) * [28, 20]
        signs = [[1, 1], [-1, 1], [-1, -1], [1, -1]]
        end = [[a + s * m for a, s, m in zip(*row, strict=True)] for row in zip(start, signs, moved, strict=True)]
        wanted = tv.perspective(x.float(), start, end, interpolation=v2.InterpolationMode.BILINEAR)  # type: ignore[arg-type]
        got = warp(x.float(), matrix, (40, 56))
        inside = (tv.perspective(torch.ones(1, 1, 40, 56), start, end) == 1).expand_as(got)  # type: ignore[arg-type]
        assert inside.float().mean() > 0.5
        torch.testing.assert_close(got[inside], wanted[inside], rtol=0, atol=0.05)

    def test_points_go_where_they_should(self) -> None:
        corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        seen = corners * np.array([[[0.9, 0.7], [0.8, 1.0], [0.6, 0.9], [1.0, 0.8]]])
        there = np.concatenate([seen[0], np.ones((4, 1))], 1) @ between(seen, corners)[0].T
        np.testing.assert_allclose(there[:, :2] / there[:, 2:], corners, atol=1e-12)

    def test_it_is_composed_with_other_moves(self) -> None:
        x, size = photographs(4, 120, 168), (120, 168)
        both = BatchStage(size, (Perspective(0.3, p=1.0), Rotate(20, p=1.0)), **PLAIN)
        matrices = [t.matrix(u, size) for t, u in zip(both.transforms, draws_of(both, 4), strict=True)]
        first = warp(x.float(), matrices[0], size)  # type: ignore[arg-type]
        then = warp(first, matrices[1], size) / 255  # type: ignore[arg-type]
        middle = (..., slice(40, -40), slice(50, -50))  # at the edges one reflection differs from two
        torch.testing.assert_close(both.augmented(x, range(4), 0, 0)[middle], then[middle], rtol=0, atol=0.02)

    def test_without_it_nothing_moves(self) -> None:
        stage = BatchStage((40, 56), (Perspective(p=0.0),), **PLAIN)
        torch.testing.assert_close(stage.augmented(photographs(), range(6), 0, 0), floats(), rtol=0, atol=1e-4)


class TestBlur:
    @pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
    def test_it_agrees_with_torchvision(self, sigma: float) -> None:
        got = blurred(floats(), np.full(6, sigma), 2.0)
        torch.testing.assert_close(got, tv.gaussian_blur(floats(), [13, 13], [sigma, sigma]), rtol=0, atol=1e-5)

    def test_each_image_has_its_own(self) -> None:
        stage = BatchStage((40, 56), (Blur((0.2, 3.0), p=0.5),), **PLAIN)
        out = stage.augmented(photographs(60), range(60), 0, 0)
        u = keyed.uniform(range(60), 2, 0, "augment", "Blur", 0, 0, 0)
        for i in (0, 7, 33):
            sigma = 0.2 + 2.8 * u[i, 1]
            blurry = tv.gaussian_blur(floats(photographs(60))[i], [19, 19], [sigma, sigma])
            wanted = blurry if u[i, 0] < 0.5 else floats(photographs(60))[i]
            torch.testing.assert_close(out[i], wanted, rtol=0, atol=1e-4)
        assert 0.3 < (u[:, 0] < 0.5).mean() < 0.7

    def test_images_smaller_than_the_kernel(self) -> None:
        out = BatchStage((4, 5), (Blur((5.0, 9.0), p=1.0),), **PLAIN).augmented(photographs(2, 4, 5), [0, 1], 0, 0)
        assert out.isfinite().all() and out.amax() <= 1 + 1e-5


def of_torchvision(name: str, x: Tensor, m: float) -> Tensor:
    whole = (x * 255).round().byte()
    said: dict[str, Any] = {
        "brightness": lambda: tv.adjust_brightness(x, 1 + m),
        "colour": lambda: tv.adjust_saturation(x, 1 + m),
        "contrast": lambda: tv.adjust_contrast(x, 1 + m),
        "sharpness": lambda: tv.adjust_sharpness(x, 1 + m),
        "posterize": lambda: tv.posterize(whole, int(m)) / 255,
        "solarize": lambda: tv.solarize(x, m),
        "auto_contrast": lambda: tv.autocontrast(x),
        "equalize": lambda: tv.equalize(whole) / 255,
    }
    result: Tensor = said[name]()
    return result


class TestPolicies:
    @pytest.mark.parametrize("name", PIXELS)
    def test_operations_agree_with_torchvision(self, name: str) -> None:
        strengths = {"posterize": [1, 3, 8], "solarize": [0.0, 0.4, 1.0]}.get(name, [-0.9, 0.0, 0.7])
        # Levels that lie between bytes are rounded otherwise by the two.
        for m in strengths:
            got = apply_operation(name, floats(), np.full(6, m))
            close = {"rtol": 0.0, "atol": 5e-4 if name in ("colour", "contrast") else 2e-6}
            torch.testing.assert_close(got, of_torchvision(name, floats(), m), **close)

    def test_operations_of_images_of_one_value(self) -> None:
        flat = torch.full((2, 3, 8, 8), 0.4)
        for name in PIXELS:
            assert apply_operation(name, flat, np.array([0.5, 8.0])).isfinite().all()
        torch.testing.assert_close(apply_operation("auto_contrast", flat, np.zeros(2)), flat)
        torch.testing.assert_close(apply_operation("equalize", flat, np.zeros(2)), flat, rtol=0, atol=1e-6)

    def test_moves_agree_with_torchvision(self) -> None:
        x = floats(photographs(1, 48, 48))
        affine: dict[str, dict[str, Any]] = {
            "shear_x": {"shear": [-np.rad2deg(np.arctan(0.2)), 0.0]},
            "shear_y": {"shear": [0.0, -np.rad2deg(np.arctan(0.2))]},
            "shift_x": {"translate": [0.2 * 48, 0.0]},
            "shift_y": {"translate": [0.0, 0.2 * 48]},
            "rotate": {"angle": 0.2},
        }
        for name, given in affine.items():
            how = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0], **given}
            wanted = tv.affine(x, **how, interpolation=v2.InterpolationMode.BILINEAR)
            move = TrivialAugment._move(name, np.array([0.2]), (48, 48))[:, :2]
            if name == "rotate":
                wanted = tv.rotate(x, 0.2, interpolation=v2.InterpolationMode.BILINEAR)
            middle = (..., slice(14, -14), slice(14, -14))
            got, other = (warp(x, m, (48, 48))[middle] for m in (move, _turned(move)))
            best = min((got - wanted[middle]).abs().max(), (other - wanted[middle]).abs().max())
            assert best < 2e-3, name  # either way round, as the sign is drawn

    @pytest.mark.parametrize("policy", [TrivialAugment(), RandAugment(1), RandAugment(3)])
    def test_every_operation_is_drawn_alike_often(self, policy: TrivialAugment | RandAugment) -> None:
        u = keyed.uniform(range(7000), policy.draws, 0)
        for which, strength, sign in policy.chosen(u):
            counts = np.bincount(which, minlength=len(OPERATIONS))
            assert len(counts) == 14 and counts.min() > 400 and counts.max() < 600
            assert strength.min() >= 0 and strength.max() < 1 and set(np.unique(sign)) == {-1.0, 1.0}

    def test_what_is_chosen_is_done(self) -> None:
        x = photographs(28)
        policy = TrivialAugment()
        out = BatchStage((40, 56), (policy,), **PLAIN).augmented(x, range(28), 0, 0)
        (which, _, _), *_ = policy.chosen(keyed.uniform(range(28), 3, 0, "augment", "TrivialAugment", 0, 0, 0))
        still = np.flatnonzero(which == 0)
        moved = np.flatnonzero(np.isin(which, [OPERATIONS.index(n) for n in MOVES]))
        assert len(still) and len(moved) > 3
        torch.testing.assert_close(out[still], x[still] / 255, rtol=0, atol=1e-4)
        assert all((out[i] - x[i] / 255).abs().mean() > 1e-3 for i in moved)

    def test_a_magnitude_of_nothing_keeps_what_can_be_kept(self) -> None:
        u = np.array([[(OPERATIONS.index(n) + 0.5) / 14, 0.9] for n in OPERATIONS])
        policy, x = RandAugment(1, 0), floats(photographs(14))
        out = policy.change(x.clone(), u)
        kept = [i for i, n in enumerate(OPERATIONS) if n not in ("auto_contrast", "equalize", "solarize")]
        torch.testing.assert_close(out[kept], x[kept], rtol=0, atol=2e-3)
        np.testing.assert_allclose(policy.matrix(u, (40, 56)), np.tile(np.eye(2, 3), (14, 1, 1)), atol=1e-12)


class TestTorchvisionsOwn:
    def test_they_go_into_the_list(self) -> None:
        jitter = v2.ColorJitter(0.4, 0.4)
        assert resolve([Flip(), jitter]) == (Flip(), ModuleTransform(jitter))
        assert resolve(jitter) == (ModuleTransform(jitter),)

    def test_they_do_what_they_do_by_themselves(self) -> None:
        stage = BatchStage((40, 56), resolve([v2.RandomInvert(1.0), v2.RandomHorizontalFlip(1.0)]), **PLAIN)
        x = photographs()
        torch.testing.assert_close(stage.augmented(x, range(6), 0, 0), (255 - x).flip(-1) / 255)

    def test_floats_and_order(self) -> None:
        stage = BatchStage((40, 56), resolve([Light(0.3, 0, p=1.0), v2.ToDtype(torch.float32, scale=True)]), **PLAIN)
        plain = BatchStage((40, 56), (Light(0.3, 0, p=1.0),), **PLAIN)
        x = photographs()
        wanted = plain.augmented(x, range(6), 0, 0).clamp(0, 1)
        torch.testing.assert_close(stage.augmented(x, range(6), 0, 0), wanted, rtol=0, atol=0.5 / 255 + 1e-5)

    def test_draws_belong_to_items(self) -> None:
        stage = BatchStage((40, 56), resolve([v2.RandomErasing(1.0), v2.ColorJitter(0.5, 0.5, 0.5, 0.2)]), **PLAIN)
        x, before = photographs(), torch.get_rng_state()
        whole = stage.augmented(x, range(6), 5, 1)
        assert torch.equal(stage.augmented(x[[4, 0]], [4, 0], 5, 1), whole[[4, 0]])
        assert not torch.equal(stage.augmented(x, range(6), 5, 2), whole)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("odd", [v2.Resize(8), nn.Flatten(), v2.ToPILImage()])
    def test_another_size_or_kind_is_refused(self, odd: nn.Module) -> None:
        with pytest.raises(ArgumentError, match=rf"{type(odd).__name__} must make of an image of shape \(3, 40, 56\)"):
            BatchStage((40, 56), resolve([odd])).augmented(photographs(), range(6), 0, 0)


class TestAllOfThem:
    @pytest.mark.parametrize("transform", [*NEW, ModuleTransform(v2.ColorJitter(0.5, 0.5))])
    def test_images_made_together_are_those_made_alone(
        self, transform: Transform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage, x = BatchStage((32, 32), (Flip(), transform, Light())), photographs(7, 40, 40)
        before, rng = x.clone(), torch.get_rng_state()
        alone = torch.cat([stage.augmented(x[i : i + 1], [i], 0, 0) for i in range(7)])
        for at_once in (1, 4, 1000):
            monkeypatch.setattr(augment, "IN_CACHE", at_once * (3 * 40 * 40 + 5 * 32 * 32))
            got = stage.augmented(x, list(range(7)), 0, 0)
            torch.testing.assert_close(got, alone, rtol=1e-5, atol=1e-5)
            assert got.is_contiguous(memory_format=torch.channels_last) and got.dtype == torch.float32
        assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), rng)
        for other in ({"seed": 1}, {"epoch": 1}, {"view": 1}):
            assert not torch.equal(stage.augmented(x, list(range(7)), **({"seed": 0, "epoch": 0} | other)), got)

    @pytest.mark.parametrize("transform", [*NEW, ModuleTransform(v2.RandomInvert())])
    def test_one_channel(self, transform: Transform) -> None:
        stage = BatchStage((40, 40), (transform,), (0.5,), (0.5,))
        assert stage.augmented(photographs(20, 40, 40)[:, :1], range(20), 0, 0).isfinite().all()

    def test_workers_change_nothing(self, tmp_path: Any) -> None:
        from PIL import Image

        for i, image in enumerate(photographs(8)):
            place = tmp_path / "train" / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{i}.png")

        def batches(workers: int) -> Tensor:
            how: dict[str, Any] = {
                "workers": workers,
                "cache": False,
                "batch_size": 4,
                "augment": [*NEW, v2.ColorJitter(0.4)],
            }
            loader = ImageData.from_folder(tmp_path, size=24, valid=None, **how).loader("train", training=True)
            return torch.cat([b.inputs[0] for b in loader.batches(torch.device("cpu"), 3, 1)])

        assert torch.equal(batches(0), batches(2))

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Saturation(-0.1), lambda: Saturation(p=2), lambda: Hue(0.6), lambda: Hue(float("nan")),
            lambda: Perspective(1.0), lambda: Perspective(-1), lambda: Blur((0.0, 1.0)), lambda: Blur((2.0, 1.0)),
            lambda: Blur(p=-1), lambda: RandAugment(0), lambda: RandAugment(2, 31),
        ],
    )  # fmt: skip
    def test_wrong_arguments(self, make: Any) -> None:
        with pytest.raises(ArgumentError):
            make()


def _turned(matrix: np.ndarray) -> np.ndarray:
    """The move the other way."""
    whole = np.concatenate([matrix, [[[0.0, 0.0, 1.0]]]], 1)
    inverse: np.ndarray = np.linalg.inv(whole)[:, :2]
    return inverse
