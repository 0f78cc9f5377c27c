"""Maps of several sizes out of any body, by calling its layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from easylearn.errors import ArgumentError
from easylearn.vision.model import vision_model
from easylearn.vision.pyramid import TimmPyramid, pyramid


@pytest.mark.parametrize(
    ("arch", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("mobilenet_v3_small", (16, 24, 48, 576)),
        ("squeezenet1_1", (128, 256, 512)),
        ("shufflenet_v2_x0_5", (24, 48, 96, 1024)),
        ("mnasnet0_5", (16, 24, 48, 1280)),
    ],
)
def test_torchvisions_bodies(arch: str, channels: tuple[int, ...]) -> None:
    body = vision_model(arch, 2, pretrained=False, custom_head=nn.Identity()).body.eval()
    maps = pyramid(body)
    assert maps.channels == channels and maps.strides == (4, 8, 16, 32)[: len(channels)]
    x = torch.randn(1, 3, 75, 110)
    with torch.no_grad():
        found = maps(x)
        assert [m.shape[1] for m in found] == list(channels)
        assert torch.equal(found[-1], body(x))  # nothing is left out at the end


def test_channels_that_come_last_are_put_first() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1)

    net = nn.Sequential(nn.Conv2d(3, 5, 4, 4), Last())
    maps = pyramid(net, torch.zeros(1, 3, 32, 48))
    assert maps.channels == (5,) and maps(torch.zeros(2, 3, 32, 48))[0].shape == (2, 5, 8, 12)


class Innermost(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


class Outermost(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2)


def test_channels_that_could_be_a_side_are_told_from_it() -> None:
    # 96 channels, last, of an image 192 wide: could be half of its width, as those of Swin's first stage
    net = nn.Sequential(nn.Conv2d(3, 96, 4, 4), Innermost(), Outermost(), nn.Conv2d(96, 8, 2, 2))
    maps = pyramid(nn.Sequential(net[0], Innermost()), torch.zeros(1, 3, 128, 192), finest=2)
    assert maps.channels == (96,) and maps.strides == (4,)
    maps = pyramid(net, finest=2)
    assert maps.channels == (96, 8) and [m.shape[1] for m in maps(torch.zeros(1, 3, 64, 64))] == [96, 8]


def test_maps_that_a_body_enlarges_again_come_in_order_of_size() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 8, 2, 2), nn.Upsample(scale_factor=2), nn.Conv2d(8, 6, 1))
    maps = pyramid(net)
    assert (maps.channels, maps.strides) == ((6, 8), (4, 8))
    assert [tuple(m.shape) for m in maps(torch.zeros(1, 3, 32, 48))] == [(1, 6, 8, 12), (1, 8, 4, 6)]


def test_timms_nets_give_their_maps_themselves() -> None:
    pytest.importorskip("timm")
    body = vision_model("efficientnet_lite0", 2, pretrained=False, custom_head=nn.Identity()).body
    maps = pyramid(body)
    assert isinstance(maps, TimmPyramid)
    assert (maps.channels, maps.strides) == ((24, 40, 112, 320), (4, 8, 16, 32))
    assert pyramid(body, finest=2).strides == (2, 4, 8, 16, 32)
    assert [tuple(m.shape[2:]) for m in maps.eval()(torch.zeros(1, 3, 144, 192))] == [
        (36, 48),
        (18, 24),
        (9, 12),
        (5, 6),
    ]


def test_a_pyramid_can_be_copied_and_keeps_its_weights() -> None:
    import copy

    net = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1))
    maps = pyramid(net, torch.zeros(1, 3, 16, 24)).eval()
    again = copy.deepcopy(maps)
    with torch.no_grad():
        net[0].weight.zero_()
    x = torch.randn(1, 3, 16, 24)
    assert not torch.equal(maps(x)[0], again(x)[0])
    assert list(maps.state_dict()) == [f"body.{name}" for name in net.state_dict()]


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(3, 4, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (Branches(), "Branches"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 48, 3)), "Sequential"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)), "Sequential"),
    ],
    ids=["branches", "no maps", "no smaller maps"],
)
def test_a_body_without_maps_is_refused_with_what_to_do(net: nn.Module, named: str) -> None:
    with pytest.raises(ArgumentError, match=rf"(?s){named}.*cut="):
        pyramid(net, torch.zeros(1, 3, 32, 48))
