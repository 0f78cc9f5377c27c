"""The 2018 names for images: `from easylearn.conv_learner import *`. Thin, over `vision_learner` and `ImageData`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from . import learner2018
from .core import BasicModel, children
from .data.bunch import Data
from .files import StrPath
from .imports import star
from .learner07 import Learner07
from .metrics import accuracy
from .options import strict
from .torch_imports import Arch07
from .train.optim import OptimizerFn, sgd
from .vision.archs import Arch, get_arch
from .vision.learner import vision_learner
from .vision.model import Pretrained

if TYPE_CHECKING:
    from typing_extensions import Self

model_meta: dict[Any, Sequence[int]] = {}
model_features: dict[Any, int] = {}


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
        arch: Any = f.plain() if isinstance(f, Arch07) else f
        if not isinstance(f, str | Arch | nn.Module) and callable(f) and f.__module__.split(".")[0] != "torchvision":
            arch = f(pretrained is not False)
        whole = isinstance(arch, nn.Module)
        learn = vision_learner(
            data,
            arch if whole else get_arch(getattr(arch, "__name__", arch) if not isinstance(arch, Arch) else arch),
            ps=list(ps) if isinstance(ps, tuple) else ps,
            hidden=(512,) if xtra_fc is None else xtra_fc,
            custom_head=custom_head,
            cut=_cut(arch, xtra_cut, model_meta.get(f) if callable(f) else None),
            precompute=precompute,
            pretrained=pretrained,
            optimizer=sgd if opt_fn is None else opt_fn,
            path=Path(getattr(data, "path", None) or ".") / models_name,
            **({} if clip is None else {"clip": clip}),
            **({"loss": F.l1_loss} if data.task.predicts_numbers and crit is None else {}),
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


def _cut(arch: Any, xtra_cut: int, meta: Sequence[int] | None) -> Any:
    """Where the body ends; None where `vision_learner` knows."""
    if isinstance(arch, nn.Module):
        at = (meta[0] if meta else 0) - xtra_cut
        return lambda net: nn.Sequential(*children(net)[:at]) if at else net
    if not xtra_cut:
        return None
    known = get_arch(arch)
    return lambda net: nn.Sequential(*children(known.cut(net))[:-xtra_cut])


__all__ = star(
    globals(), learner2018, own=["Arch", "BasicModel", "ConvLearner", "Path", "model_features", "model_meta", "torch"]
)
