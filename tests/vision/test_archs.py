"""Each family's body against torchvision's own net, its groups, its statistics; timm; names."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn.errors import ArgumentError
from easylearn.vision import archs
from easylearn.vision.archs import Arch, arch_names, get_arch, middle, split_after

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def pooled(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


# What each family's own forward does behind the feature map.
TAILS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "resnet18": lambda net, x: net.fc(pooled(x)),
    "resnext50_32x4d": lambda net, x: net.fc(pooled(x)),
    "vgg11_bn": lambda net, x: net.classifier(net.avgpool(x).flatten(1)),
    "alexnet": lambda net, x: net.classifier(net.avgpool(x).flatten(1)),
    "densenet121": lambda net, x: net.classifier(pooled(x)),
    "inception_v3": lambda net, x: net.fc(pooled(x)),
    "googlenet": lambda net, x: net.fc(pooled(x)),
    "squeezenet1_0": lambda net, x: net.classifier(x).flatten(1),
    "squeezenet1_1": lambda net, x: net.classifier(x).flatten(1),
    "mobilenet_v2": lambda net, x: net.classifier(pooled(x)),
    "mobilenet_v3_small": lambda net, x: net.classifier(pooled(x)),
    "efficientnet_b0": lambda net, x: net.classifier(pooled(x)),
    "convnext_tiny": lambda net, x: net.classifier(net.avgpool(x)),
    "regnet_y_400mf": lambda net, x: net.fc(pooled(x)),
    "shufflenet_v2_x0_5": lambda net, x: net.fc(x.mean((2, 3))),
    "mnasnet0_5": lambda net, x: net.classifier(x.mean((2, 3))),
    "swin_t": lambda net, x: net.head(pooled(x)),
}


@pytest.mark.parametrize("name", TAILS)
def test_body_then_the_nets_own_tail_is_the_net(name: str) -> None:
    torch.manual_seed(0)
    arch = get_arch(name)
    net = arch.build().eval()
    x = torch.randn(1, 3, 80, 80)
    with torch.no_grad():
        torch.testing.assert_close(TAILS[name](net, arch.cut(net)(x)), net(x))


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_half_statistics_stand_in_for_transform_input(name: str) -> None:
    torch.manual_seed(0)
    arch = get_arch(name)
    net: Any = arch.build().eval()
    image = torch.rand(1, 3, 80, 80)

    def normalised(stats: archs.Stats) -> Tensor:
        mean, std = (torch.tensor(values)[:, None, None] for values in stats)
        return (image - mean) / std

    with torch.no_grad():
        ours = TAILS[name](net, arch.cut(net)(normalised(arch.stats)))
        net.transform_input = True  # as torchvision sets it for its pretrained weights
        torch.testing.assert_close(ours, net(normalised(archs.IMAGENET_STATS)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TAILS)
def test_groups_hold_the_whole_body(name: str) -> None:
    arch = get_arch(name)
    body = arch.cut(arch.build() if name.startswith("regnet") else build_on_meta(arch))
    stem, late = arch.split(body)
    ids = [[id(p) for m in part for p in m.parameters()] for part in (stem, late)]
    assert ids[0] and ids[1]
    assert ids[0] + ids[1] == [id(p) for p in body.parameters()]


def build_on_meta(arch: Arch) -> nn.Module:
    with torch.device("meta"):
        return arch.build()


def test_splits_of_fast_ai() -> None:
    for name, position in (("resnet34", 6), ("resnet50", 6), ("vgg16", 22), ("vgg19_bn", 22), ("densenet169", 8)):
        arch = get_arch(name)
        body = arch.cut(build_on_meta(arch))
        stem, late = arch.split(body)
        # DenseNet at 7: its transition2 is the first of the late group, fast.ai counted without pool0's ReLU.
        assert len(stem) == (7 if name.startswith("densenet") else position)
        assert [*stem, *late] == list(body.children())
    assert next(n for n, m in body.named_children() if m is late[0]) == "transition2"


def test_every_name_has_weights_with_these_statistics_in_torchvision() -> None:
    for name in arch_names():
        if name.startswith("efficientnet_lite"):
            continue
        arch = get_arch(name)
        entry = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        assert arch.weights is not None and arch.weights.url == entry.url
        shown = entry.transforms()
        assert arch.size == shown.crop_size[0], name
        if name not in ("inception_v3", "googlenet"):
            assert arch.stats == (tuple(shown.mean), tuple(shown.std)), name


def test_arch_is_a_small_value() -> None:
    arch = get_arch("resnet34")
    assert (str(arch), repr(arch)) == ("resnet34", "Arch('resnet34')")
    assert get_arch(arch) is arch and get_arch("resnet34") == arch
    assert repr(arch.untrained()) == "Arch('resnet34', pretrained=False)"
    assert arch.pretrained and not arch.untrained().pretrained
    assert len({arch, get_arch("resnet34"), get_arch("resnet18")}) == 2


def test_unknown_names() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'resnet34'"):
        get_arch("resnet43")
    with pytest.raises(ArgumentError, match="name, an Arch or a module"):
        get_arch(34)  # type: ignore[arg-type]


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else find(name))
    for call in (
        lambda: get_arch("resnet43"),
        lambda: get_arch("vit_tiny_patch16_224"),
        lambda: get_arch("timm/vit_tiny_patch16_224"),
        lambda: get_arch("efficientnet_lite0").build(),
    ):
        with pytest.raises(ArgumentError, match=r'pip install "easylearn\[timm\]"'):
            call()
    assert get_arch("resnet18").name == "resnet18"


@needs_timm
def test_timm_names() -> None:
    vit = get_arch("vit_tiny_patch16_224")
    assert (vit.size, vit.stats) == (224, archs.HALF_STATS)
    assert get_arch("timm/resnet18").name == "timm/resnet18", "the name leads back to timm's, not torchvision's"
    assert get_arch("timm/convnext_atto").name == "convnext_atto"
    assert get_arch("resnet50.a1_in1k").weights != get_arch("timm/resnet50").weights
    with pytest.raises(ArgumentError, match="timm has no architecture"):
        get_arch("timm/resnet1888")


@needs_timm
@pytest.mark.parametrize(
    ("name", "last_of_stem"),
    [
        ("timm/resnet18", "layer2"),
        ("convnext_atto", "stages.1"),
        ("mobilenetv3_small_050", "blocks.1"),
        ("vit_tiny_patch16_224", "blocks.5"),
        ("swin_tiny_patch4_window7_224", "layers.1"),
    ],
)
def test_timm_splits(name: str, last_of_stem: str) -> None:
    arch = get_arch(name)
    body = arch.cut(build_on_meta(arch) if "vit" in name or "resnet" in name else arch.build())
    stem, late = arch.split(body)
    assert body.get_submodule(last_of_stem) is stem[-1]
    assert any(True for m in late for _ in m.parameters())


def test_middle_counts_layers_with_weights() -> None:
    conv = [nn.Conv2d(3, 3, 1) for _ in range(6)]
    assert middle(nn.Sequential(*conv)) == "2"
    assert middle(nn.Sequential(nn.Sequential(*conv), nn.ReLU())) == "0.2"
    with pytest.raises(ArgumentError, match="made of layers"):
        middle(nn.Conv2d(3, 3, 1))


def test_split_after_an_unknown_name() -> None:
    with pytest.raises(ArgumentError, match="no 'layer9'"):
        split_after(nn.Sequential(nn.ReLU()), "layer9.1")


def test_a_builder_is_answered_with_its_name() -> None:
    def resnet18() -> None: ...

    with pytest.raises(ArgumentError, match="pass its name, 'resnet18'"):
        get_arch(resnet18)  # type: ignore[arg-type]
