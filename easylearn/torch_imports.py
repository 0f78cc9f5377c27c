"""2018's `fastai.torch_imports`: torch under the names of its notebooks, and the architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from . import imports
from .files import StrPath
from .imports import load_names, star
from .vision.archs import HALF_STATS, Arch, build_timm, get_arch, timm_cut
from .vision.weights import TimmWeights, fill_body, read_file

_names = load_names(
    """
torch | torchvision | torch.nn.functional as F | torch: nn cuda backends FloatTensor LongTensor optim
torch.autograd: Variable | torch.utils.data: Dataset TensorDataset | torchvision.transforms: Compose
torch.nn.init: kaiming_normal_ as kaiming_normal | torch.nn.init: kaiming_uniform_ as kaiming_uniform
"""
)
# docs/from-fastai.md says where another set of weights, or the nearest net, stands for that of 2018.
_ARCHS = {
    **{f"resnet{n}": f"resnet{n}" for n in (18, 34, 50, 101, 152)},
    **{f"{name}{n}": f"densenet{n}" for n in (121, 161, 169, 201) for name in ("densenet", "dn")},
    **{f"vgg{n}{end}": f"vgg{n}_bn" for n in (16, 19) for end in ("", "_bn")},
    "resnext50": "resnext50_32x4d", "resnext101": "resnext101_32x8d", "resnext101_64": "resnext101_64x4d",
    "wrn": "wide_resnet50_2", "inception_v3": "inception_v3", "squeezenet1_1": "squeezenet1_1",
}  # fmt: skip
_OF_TIMM = {"inception_4": "inception_v4", "inceptionresnet_2": "inception_resnet_v2", "nasnetalarge": "nasnetalarge"}


@dataclass(frozen=True, repr=False)
class Arch07(Arch):
    """An architecture that may also be called, as in 2018: `resnet34(True)` is the whole net with its weights.

    Args:
        features_only: the call gives the layers before the pooling, as that of `vgg16` did.
    """

    features_only: bool = False

    def __call__(self, pre: bool = False, pretrained: bool | str | None = None) -> nn.Module:
        """The net; `pre`, or `pretrained`, with its published weights."""
        net = self.build()
        if (pre or pretrained) and self.weights is not None:
            fill_body(net.state_dict(keep_vars=True), net, self.weights.read(), self.weights.url, self.weights_by_order)
        return self.cut(net) if self.features_only else net

    @property
    def __name__(self) -> str:
        return self.name

    def plain(self) -> Arch:
        """The same as an `Arch`, which a model file can name."""
        return Arch(**{f.name: getattr(self, f.name) for f in fields(Arch)})


def _arch(name: str, of: str) -> Arch07:
    given = get_arch(of)
    return Arch07(**{**vars(given), "features_only": name in ("vgg16", "vgg19") or name.startswith("dn")})


archs: dict[str, Arch07] = {name: _arch(name, of) for name, of in _ARCHS.items()} | {
    name: Arch07(of, partial(build_timm, of), timm_cut, None, HALF_STATS, 299, TimmWeights(of), features_only=True)
    for name, of in _OF_TIMM.items()
}


def children(m: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    """The modules right below `m`, or the list itself."""
    return list(m.children()) if isinstance(m, nn.Module) else list(m)


def save_model(m: nn.Module, p: StrPath) -> None:
    """Write the weights of `m` to the file `p`, as safetensors."""
    safetensors.torch.save_model(m, str(p))


def load_model(m: nn.Module, p: StrPath) -> None:
    """Read the weights of `m` from the file `p`, of `save_model` or torch's own."""
    try:
        safetensors.torch.load_model(m, str(p))
    except SafetensorError:
        m.load_state_dict(dict(read_file(p)))


globals().update(_names)
globals().update(archs)
__all__ = star(globals(), imports, own=[*_names, *archs, "children", "load_model", "save_model"])
