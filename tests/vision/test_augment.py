"""The batch stage against torchvision's own operations, and the keying of its draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from easylearn.errors import ArgumentError
from easylearn.vision import augment
from easylearn.vision.augment import (
    BatchStage,
    Dihedral,
    Erase,
    Flip,
    Light,
    RandomResizedCrop,
    Rotate,
    Shift,
    Transform,
    Zoom,
    resolve,
)
from easylearn.vision.warp import warp

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def smooth(b: int = 8, h: int = 48, w: int = 64) -> Tensor:
    """Pictures without sharp edges, where bilinear interpolations agree."""
    noise = torch.rand(b, 3, 5, 6, generator=torch.Generator().manual_seed(3))
    return (torch.nn.functional.interpolate(noise, (h, w), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


@dataclass(frozen=True)
class Fixed(Transform):
    """A geometric transform without randomness: the matrix is given."""

    values: tuple[float, ...] = (1, 0, 0, 0, 1, 0)

    def matrix(self, u: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return np.tile(np.array(self.values, float).reshape(2, 3), (len(u), 1, 1))


# -- against torchvision -------------------------------------------------------------------------------


def test_plain_is_torchvisions_normalise() -> None:
    from torchvision.transforms.v2 import functional as tv

    x = smooth()
    stage = BatchStage((48, 64))
    wanted = tv.normalize(tv.to_dtype(x, torch.float32, scale=True), list(stage.mean), list(stage.std))
    torch.testing.assert_close(stage.plain(x), wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("degrees", [0.0, 7.0, -10.0, 45.0, 90.0])
def test_rotation_agrees_with_torchvision(degrees: float) -> None:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as tv

    x = smooth(2, 50, 50).float()
    u = np.array([[0.0, 1.0], [0.0, 1.0]])
    got = warp(x, Rotate(degrees, p=1.0).matrix(u, (50, 50)), (50, 50))
    wanted = tv.rotate(x, degrees, InterpolationMode.BILINEAR)
    inside = slice(10, 40)  # torchvision fills the corners with black, here they are reflected
    torch.testing.assert_close(got[..., inside, inside], wanted[..., inside, inside], rtol=1e-3, atol=0.05)


@pytest.mark.parametrize(("zoom", "x", "y"), [(1.0, 0.0, 0.0), (1.1, 0.0, 0.0), (1.5, 2.0, -1.0)])
def test_zoom_and_shift_agree_with_torchvision(zoom: float, x: float, y: float) -> None:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as tv

    images = smooth(2, 48, 64).float()
    matrix = np.tile([[[1 / zoom, 0, -x / zoom], [0, 1 / zoom, -y / zoom]]], (2, 1, 1))
    got = warp(images, matrix, (48, 64))
    wanted = tv.affine(images, 0.0, [x, y], zoom, [0.0, 0.0], InterpolationMode.BILINEAR)
    torch.testing.assert_close(got[..., 8:40, 8:56], wanted[..., 8:40, 8:56], rtol=1e-3, atol=0.05)


def test_a_crop_agrees_with_torchvision() -> None:
    from torchvision.transforms.v2 import functional as tv

    x = smooth(2, 60, 60).float()
    # rows 6 to 36, columns 20 to 50, enlarged to 60x60: its centre is 9 above and 5 right of the image's
    matrix = np.tile([[[0.5, 0, 5.0], [0, 0.5, -9.0]]], (2, 1, 1))
    wanted = tv.resized_crop(x, 6, 20, 30, 30, [60, 60], antialias=False)
    torch.testing.assert_close(
        warp(x, matrix, (60, 60))[..., 2:-2, 2:-2], wanted[..., 2:-2, 2:-2], rtol=1e-3, atol=0.05
    )


def test_flips_are_exact() -> None:
    x = smooth(64)
    index = torch.arange(64)
    out = BatchStage((48, 64), (Flip(),), **PLAIN).augmented(x, index, 0, 0) * 255
    turned = 0
    for got, before in zip(out.round().to(torch.uint8), x, strict=True):
        assert torch.equal(got, before) or torch.equal(got, before.flip(-1))
        turned += not torch.equal(got, before)
    assert 20 < turned < 44
    always = BatchStage((48, 64), (Flip(1.0),), **PLAIN).augmented(x, index, 0, 0)
    assert torch.equal((always * 255).round().to(torch.uint8), x.flip(-1))


def test_dihedral_gives_all_eight_and_agrees_with_interpolation() -> None:
    x = smooth(1, 16, 16).expand(200, -1, -1, -1)
    index = torch.arange(200)
    out = (BatchStage((16, 16), (Dihedral(),), **PLAIN).augmented(x, index, 0, 0) * 255).round()
    ways = [x[0].rot90(k, (1, 2)) for k in range(4)] + [x[0].flip(-1).rot90(k, (1, 2)) for k in range(4)]
    counts = [int(sum(torch.equal(o.to(torch.uint8), w) for o in out)) for w in ways]
    assert sum(counts) == 200 and min(counts) > 8
    warped = BatchStage((16, 16), (Dihedral(), Fixed()), **PLAIN).augmented(x, index, 0, 0) * 255
    torch.testing.assert_close(warped, out, rtol=0, atol=0.01)


def test_dihedral_leaves_oblongs_oblong() -> None:
    x = smooth(64, 24, 40)
    out = (BatchStage((24, 40), (Dihedral(),), **PLAIN).augmented(x, torch.arange(64), 0, 0) * 255).round()
    for got, before in zip(out.to(torch.uint8), x, strict=True):
        assert any(torch.equal(got, before.flip(d)) for d in ([], [-1], [-2], [-1, -2]))


def test_order_of_composition() -> None:
    """Doing two transforms at once gives the same as one after the other."""
    a, b = (1.0, 0.0, 6.0, 0.0, 1.0, -3.0), (0.0, -1.0, 0.0, 1.0, 0.0, 2.0)
    x = smooth(2, 40, 40)
    index = torch.arange(2)
    both = BatchStage((40, 40), (Fixed(a), Fixed(b)), **PLAIN).augmented(x, index, 0, 0)
    first = (BatchStage((40, 40), (Fixed(a),), **PLAIN).augmented(x, index, 0, 0) * 255).round().to(torch.uint8)
    then = BatchStage((40, 40), (Fixed(b),), **PLAIN).augmented(first, index, 0, 0)
    inside = slice(4, -4)  # at the edges one reflection differs from two
    torch.testing.assert_close(both[..., inside, inside], then[..., inside, inside], rtol=0, atol=0.005)


def test_light_is_brightness_and_contrast_about_grey() -> None:
    u = np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.9, 0.3, 0.9, 0.3]])
    factor, summand = Light(0.1, 0.2, p=0.75).light(u)
    pixels = np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(factor[0] * pixels + summand[0], (pixels - 0.5) * 1.2 + 0.5 + 0.1)
    np.testing.assert_allclose(factor[1] * pixels + summand[1], (pixels - 0.5) / 1.2 + 0.5 - 0.1)
    np.testing.assert_allclose(factor[2] * pixels + summand[2], pixels)


def test_light_is_fused_with_normalisation() -> None:
    x = smooth(4)
    stage = BatchStage((48, 64), (Light(0.2, 0.3, p=1.0),))
    u = augment.keyed.uniform(range(4), 4, 1, "augment", "Light", 0, 2, 0)
    factor, summand = (torch.tensor(v).float().view(-1, 1, 1, 1) for v in stage.transforms[0].light(u))  # type: ignore[union-attr]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (stage.mean, stage.std))
    wanted = (x.float() / 255 * factor + summand - mean) / std
    torch.testing.assert_close(stage.augmented(x, torch.arange(4), 1, 2), wanted, rtol=1e-4, atol=1e-5)


def test_erase_blanks_squares() -> None:
    x = torch.full((50, 3, 40, 60), 255, dtype=torch.uint8)
    out = BatchStage((40, 60), (Erase(n=1, size=0.25, p=1.0),), (0.5,) * 3, (0.5,) * 3).augmented(
        x, torch.arange(50), 0, 0
    )
    blank = (out == 0).all(1)
    assert ((out == 1).all(1) | blank).all()
    sizes = blank.sum((1, 2))
    assert sizes.max() == 100 and (sizes > 0).all()
    none = BatchStage((40, 60), (Erase(p=0.0),), (0.5,) * 3, (0.5,) * 3).augmented(x, torch.arange(50), 0, 0)
    assert (none == 1).all()


@pytest.mark.parametrize("size", [(32, 32), (24, 48)])
@pytest.mark.parametrize("transform", [Zoom(1.5, p=1.0), RandomResizedCrop(0.2)])
def test_crops_lie_inside_the_image(transform: Transform, size: tuple[int, int]) -> None:
    u = np.random.default_rng(0).random((500, 4))
    m = transform.matrix(u, size)
    assert m is not None
    corner = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    for sign in ([1, 1], [1, -1], [-1, 1], [-1, -1]):
        end = np.einsum("bij,j->bi", m[:, :, :2], corner * sign) + m[:, :, 2]
        assert (np.abs(end) <= corner + 0.5 + 1e-9).all()


def test_resized_crop_covers_the_range_of_areas() -> None:
    u = np.random.default_rng(0).random((2000, 4))
    m = RandomResizedCrop(0.35).matrix(u, (32, 32))
    area, ratio = m[:, 0, 0] * m[:, 1, 1], m[:, 0, 0] / m[:, 1, 1]
    assert 0.3 < area.min() < 0.36 and 0.95 < area.max() <= 1.0
    assert ratio.min() >= 3 / 4 - 1e-9 and ratio.max() <= 4 / 3 + 1e-9


def test_larger_images_are_shrunk() -> None:
    x = smooth(2, 40, 40)
    stage = BatchStage((32, 32), (RandomResizedCrop(),), **PLAIN)
    assert stage.interpolates and stage.augmented(x, torch.arange(2), 0, 0).shape == (2, 3, 32, 32)
    wanted = torch.nn.functional.interpolate(x.float(), (32, 32), mode="bilinear", antialias=True) / 255
    torch.testing.assert_close(stage.plain(x), wanted, rtol=1e-4, atol=1e-5)


def test_larger_images_are_cut_somewhere_without_zooming() -> None:
    ramp = torch.arange(40, dtype=torch.uint8).repeat(200, 3, 40, 1)  # the value is the column
    got = BatchStage((32, 32), (Fixed(),), **PLAIN).augmented(ramp, torch.arange(200), 0, 0)[:, 0] * 255
    first = got[:, 0, 0]
    torch.testing.assert_close(got.diff(dim=-1), torch.ones_like(got[:, :, 1:]), rtol=0, atol=1e-3)
    assert -0.01 < first.min() < 1 and 7 < first.max() < 8.01


# -- keyed draws ---------------------------------------------------------------------------------------

ALL = (Flip(), Rotate(15), Zoom(1.2), Shift(0.1), RandomResizedCrop(), Light(0.2, 0.2), Erase(2))


def test_each_item_has_its_own_draws_whatever_the_batch() -> None:
    stage = BatchStage((32, 32), ALL, **PLAIN)
    x = smooth(6, 40, 40)
    whole = stage.augmented(x, torch.arange(6), 5, 1)
    order = [4, 0, 5]
    assert torch.equal(stage.augmented(x[order], torch.tensor(order), 5, 1), whole[order])
    assert torch.equal(stage.augmented(x, np.arange(6), 5, 1), whole)


@pytest.mark.parametrize("at_once", [1, 4, 1000])
@pytest.mark.parametrize("transforms", [(), (Flip(),), (Rotate(15), Light(0.2, 0.2))])
def test_images_made_together_are_those_made_alone(
    transforms: tuple[Transform, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, x = BatchStage((32, 32), transforms), smooth(7, 40, 40)
    alone = [torch.cat([f(x[i : i + 1], [i]) for i in range(7)]) for f in views_of(stage)]
    monkeypatch.setattr(augment, "IN_CACHE", at_once * (3 * 40 * 40 + 5 * 32 * 32))
    for want, made in zip(alone, views_of(stage), strict=True):
        got = made(x, list(range(7)))
        assert torch.equal(got, want) and got.is_contiguous(memory_format=torch.channels_last)


def views_of(stage: BatchStage) -> list[Any]:
    return [lambda x, index: stage.plain(x), lambda x, index: stage.augmented(x, index, 0, 0)]


@pytest.mark.parametrize("change", [{"seed": 6}, {"epoch": 2}, {"view": 1}])
def test_seed_epoch_and_view_change_the_draws(change: dict[str, int]) -> None:
    stage = BatchStage((32, 32), ALL, **PLAIN)
    x = smooth(4, 40, 40)
    given = {"seed": 5, "epoch": 1, "view": 0}
    assert not torch.equal(
        stage.augmented(x, [0, 1, 2, 3], **given), stage.augmented(x, [0, 1, 2, 3], **(given | change))
    )


def test_the_same_transform_twice_draws_twice() -> None:
    x = smooth(64)
    out = (BatchStage((48, 64), (Flip(), Flip()), **PLAIN).augmented(x, torch.arange(64), 0, 0) * 255).round()
    same = sum(torch.equal(a.to(torch.uint8), b) for a, b in zip(out, x, strict=True))
    assert 16 < same < 48


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    BatchStage((32, 32), ALL, **PLAIN).augmented(smooth(4, 40, 40), [0, 1, 2, 3], 0, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1]  # type: ignore[union-attr]


@pytest.mark.parametrize("preset", ["none", "basic", "side_on", "top_down"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_presets_and_memory_format(preset: str, channels_last: bool) -> None:
    stage = BatchStage((32, 32), resolve(preset), channels_last=channels_last)
    x = smooth(4, 32, 32)
    before = x.clone()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for out in (stage.plain(x), stage.augmented(x, [0, 1, 2, 3], 0, 0)):
        assert out.is_contiguous(memory_format=layout) and out.dtype == torch.float32 and out.isfinite().all()
    assert torch.equal(x, before)


def test_no_transform_is_the_plain_view() -> None:
    stage = BatchStage((48, 64))
    assert torch.equal(stage.augmented(smooth(), range(8), 0, 0), stage.plain(smooth()))


def test_denormalise_is_the_inverse() -> None:
    stage = BatchStage((48, 64))
    torch.testing.assert_close(stage.denormalise(stage.plain(smooth())), smooth().float() / 255, rtol=1e-4, atol=1e-5)


def test_a_transform_of_ones_own() -> None:
    @dataclass(frozen=True)
    class Darken(Transform):
        most: float = 0.5
        draws: ClassVar[int] = 1

        def light(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return 1 - self.most * u[:, 0], np.zeros(len(u))

    out = BatchStage((48, 64), (Darken(),), **PLAIN).augmented(smooth(), range(8), 0, 0)
    assert (out <= smooth() / 255 + 1e-6).all() and out.max() > 0.4


# -- bad input -----------------------------------------------------------------------------------------


def test_resolve_refuses_with_a_hint() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'side_on'"):
        resolve("sideon")
    with pytest.raises(ArgumentError, match=r"write Flip\(\)"):
        resolve([Flip])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="must list transforms"):
        resolve(["flip"])  # type: ignore[list-item]
    assert resolve(None) == () and resolve(Flip()) == (Flip(),) and resolve([Flip()]) == (Flip(),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Flip(1.5), lambda: Rotate(p=-1), lambda: Zoom(0.9), lambda: Shift(p=2), lambda: RandomResizedCrop(0),
        lambda: RandomResizedCrop(ratio=(2, 1)), lambda: Light(-0.1), lambda: Erase(0), lambda: Erase(size=2),
        lambda: BatchStage((8, 8), mean=(0.5,)), lambda: BatchStage((8, 8), std=(1, 0, 1)),
    ],
)  # fmt: skip
def test_wrong_arguments(make: object) -> None:
    with pytest.raises(ArgumentError):
        make()  # type: ignore[operator]


def test_wrong_number_of_channels() -> None:
    with pytest.raises(ArgumentError, match="3 channels, the images have 1"):
        BatchStage((8, 8)).plain(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees() -> None:
    stage = BatchStage((32, 32), ALL, **PLAIN)
    x = smooth(4, 40, 40)
    on_gpu = stage.augmented(x.cuda(), [0, 1, 2, 3], 0, 0).cpu()
    torch.testing.assert_close(on_gpu, stage.augmented(x, [0, 1, 2, 3], 0, 0), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(stage.plain(x.cuda()).cpu(), stage.plain(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("given", [True, 3, 0.5])
def test_what_is_no_list_of_transforms_is_refused(given: Any) -> None:
    with pytest.raises(ArgumentError, match=r"augment must be.*list of transforms"):
        augment.resolve(given)
