"""The 2018 names for images: `from easylearn.conv_learner import *`. Thin, over `vision_learner` and `ImageData`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from . import learner
from .core import BasicModel
from .data.bunch import Data
from .dataloader import as_data
from .files import StrPath
from .imports import star
from .learner07 import Learner07
from .metrics import accuracy
from .options import strict
from .torch_imports import Arch07, archs, children
from .train.optim import OptimizerFn, sgd
from .vision.archs import Arch, get_arch
from .vision.learner import vision_learner
from .vision.model import Pretrained, vision_model

if TYPE_CHECKING:
    from typing_extensions import Self

# Where a net of 2018 was cut (its children before that are the body), and where its first layer group ends.
model_meta: dict[Any, Sequence[int]] = {
    **{archs[f"resnet{n}"]: [8, 6] for n in (18, 34, 50, 101, 152)},
    **{archs[name]: [8, 6] for name in ("resnext50", "resnext101", "resnext101_64", "wrn")},
    **{archs[f"vgg{n}"]: [0, 22] for n in (16, 19)}, **{archs[f"dn{n}"]: [0, 7] for n in (121, 161, 169, 201)},
}  # fmt: skip
model_features: dict[Any, int] = {}


class ConvnetBuilder(BasicModel):
    """A body with a head, for `ConvLearner(data, ConvnetBuilder(...))`.

    Args:
        f, ps, xtra_fc, xtra_cut, custom_head, pretrained: see `ConvLearner.pretrained`.
        c: how many outputs.
        is_multi, is_reg: several labels, or numbers; otherwise the head ends in log-probabilities.
    """

    def __init__(
        self, f: Any, c: int, is_multi: bool, is_reg: bool, ps: Any = None, xtra_fc: Sequence[int] | None = None,
        xtra_cut: int = 0, custom_head: nn.Module | None = None, pretrained: Pretrained | None = None,
    ) -> None:  # fmt: skip
        arch, cut = _body(f, xtra_cut, pretrained)
        hidden = (512,) if xtra_fc is None else xtra_fc
        net = vision_model(
            arch, max(c, 1), pretrained=pretrained, cut=cut, ps=ps, hidden=hidden, custom_head=custom_head
        )
        if custom_head is None and not is_multi and not is_reg:
            net.head = nn.Sequential(net.head, nn.LogSoftmax(-1))
        vars(net)["contiguous"] = custom_head is not None
        super().__init__(net, str(f))


class ConvLearner(Learner07):
    """A learner of images under its 2018 name: `ConvLearner.pretrained(f, data)`, or of `BasicModel(net)`, frozen.

    Args:
        data: the images.
        models: the model, or `BasicModel(model)`, whose children are the layer groups.
        precompute: train the head on stored outputs of the body.
        opt_fn, tmp_name, models_name, metrics, clip, crit: see `Learner07`.
    """

    __slots__ = ()

    def __init__(
        self, data: Any, models: Any, precompute: bool = False, opt_fn: OptimizerFn | None = None,
        tmp_name: str = "tmp", models_name: StrPath = "models", metrics: Sequence[Any] | None = None,
        clip: float | None = None, crit: Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        if crit is None and not isinstance(data, Data):  # a model of one's own gives probabilities, or their logarithms
            crit = F.l1_loss if data.is_reg else F.binary_cross_entropy if data.is_multi else F.nll_loss
            metrics = [accuracy] if metrics is None and not data.is_reg and not data.is_multi else metrics
        super().__init__(data, models, opt_fn, tmp_name, models_name, metrics, clip, crit)
        self.freeze()
        self.precompute = precompute

    @staticmethod
    def _parts(models: Any) -> list[Any]:
        parts: list[Any] = models.get_layer_groups(False)  # which was asked whether features are precomputed
        return parts

    @classmethod
    @strict({"opt_func": "opt_fn", "hidden": "xtra_fc"})
    def pretrained(
        cls,
        f: Any,
        data: Any,
        ps: float | Sequence[float] | None = None,
        xtra_fc: Sequence[int] | None = None,
        xtra_cut: int = 0,
        custom_head: nn.Module | None = None,
        precompute: bool = False,
        pretrained: Pretrained | None = None,
        opt_fn: OptimizerFn | None = None,
        tmp_name: str = "tmp",
        models_name: StrPath = "models",
        metrics: Sequence[Any] | None = None,
        clip: float | None = None,
        crit: Callable[..., Any] | None = None,
    ) -> Self:
        """A pretrained body with a new head, frozen but for the head; see `vision_learner`.

        Args:
            f: an architecture, such as `resnet34`; `resnet34.untrained()` starts from random weights; a module; or a
                function that makes a body, given whether it should be pretrained.
            data: the images.
            ps: dropout of the head; one number is used for every block.
            xtra_fc: sizes of the head's hidden layers; None is [512].
            xtra_cut: how many of the body's last layers are left out.
            custom_head: takes the feature map, instead of pooling and head.
            precompute: train the head on stored outputs of the body.
            pretrained: False for random weights, or a file of weights.
            opt_fn: makes the optimizer; None takes SGD with momentum 0.9.
            tmp_name: says nothing; what is kept is in easylearn's cache.
            models_name: folder for saved weights, in the data's.
            metrics: instead of the task's own.
            clip: largest norm of the gradients; None as in `vision_learner`.
            crit: instead of the task's own loss.

        Returns:
            The learner.
        """
        given: Any = as_data(data)
        if given is not data:  # loaders of one's own
            models = ConvnetBuilder(
                f, data.c, data.is_multi, data.is_reg, ps, xtra_fc, xtra_cut, custom_head, pretrained
            )
            return cls(data, models, precompute, opt_fn, tmp_name, models_name, metrics, clip, crit)
        arch, cut = _body(f, xtra_cut, pretrained)
        learn = vision_learner(
            given,
            arch,
            ps=list(ps) if isinstance(ps, tuple) else ps,
            hidden=(512,) if xtra_fc is None else xtra_fc,
            custom_head=custom_head,
            cut=cut,
            precompute=precompute,
            pretrained=pretrained,
            optimizer=sgd if opt_fn is None else opt_fn,
            path=Path(getattr(data, "path", None) or ".") / models_name,
            clip="auto" if clip is None else clip,
            loss=F.l1_loss if data.task.predicts_numbers and crit is None else None,
        )
        made = cls.of(learn)
        if custom_head is not None:  # written when memory lay channel by channel
            made.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            vars(made.model)["contiguous"] = True
            made.set_data(made.data)
        if metrics is not None:
            made.metrics = metrics
        if crit is not None:
            made.crit = crit
        return made

    @classmethod
    @strict()
    def lsuv_learner(
        cls, f: Any, data: Any, ps: Any = None, xtra_fc: Sequence[int] | None = None, xtra_cut: int = 0,
        custom_head: nn.Module | None = None, precompute: bool = False, needed_std: float = 1.0, std_tol: float = 0.1,
        max_attempts: int = 10, do_orthonorm: bool = False, opt_fn: OptimizerFn | None = None,
        metrics: Sequence[Any] | None = None,
    ) -> Self:  # fmt: skip
        """As `pretrained` with random weights, which torch draws well; `needed_std` and what follows say nothing.

        Args:
            f, data, ps, xtra_fc, xtra_cut, custom_head, precompute, opt_fn, metrics: see `pretrained`.
            std_tol, max_attempts, do_orthonorm: say nothing.
        """
        return cls.pretrained(
            f, data, ps, xtra_fc, xtra_cut, custom_head, precompute, False, opt_fn=opt_fn, metrics=metrics
        )


def _body(f: Any, xtra_cut: int, pretrained: Any) -> tuple[Any, Any]:
    """The architecture or the net that `f` stands for, and where its body ends; None where that is known."""
    arch: Any = f.plain() if isinstance(f, Arch07) else f
    if not isinstance(f, str | Arch | nn.Module) and callable(f):
        arch = f.__name__ if f.__module__.split(".")[0] == "torchvision" else f(pretrained is not False)
    if isinstance(arch, nn.Module):
        at = (model_meta[f][0] if f in model_meta else 0) - xtra_cut
        return arch, lambda net: nn.Sequential(*children(net)[:at]) if at else net
    known = get_arch(arch)
    return known, (lambda net: nn.Sequential(*children(known.cut(net))[:-xtra_cut])) if xtra_cut else None


_OWN = ["Arch", "BasicModel", "ConvLearner", "ConvnetBuilder", "Path", "model_features", "model_meta", "torch"]
__all__ = star(globals(), learner, own=_OWN)
