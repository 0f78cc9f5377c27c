"""From an architecture to a model: body, pooling and head."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..keyed import scoped_rng
from ..nn import registry
from ..nn.body_head import BodyHead
from ..nn.heads import pooled_head
from ..nn.layers import ConcatPool2d, TokenPool
from ..options import strict
from ..train.gate import Gate
from .archs import Arch, Stats, get_arch, middle, split_after
from .weights import State, TorchvisionWeights, fill_body, read_file

if TYPE_CHECKING:
    from typing_extensions import Unpack

Cut = int | Callable[[nn.Module], nn.Module]
Pretrained = bool | str | os.PathLike[str]

# What a net's forward may raise on an image that does not suit it.
_FORWARD_ERRORS = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, NotImplementedError, AttributeError)


@dataclass(frozen=True)
class HeadOptions:
    """The head of a model of images.

    Args:
        ps: dropout of the head, see `pooled_head`.
        hidden: sizes of the head's hidden layers.
        custom_head: a module that takes the feature map; it replaces pooling and head.
    """

    ps: float | Sequence[float] | None = None
    hidden: Sequence[int] = ()
    custom_head: nn.Module | None = None


class HeadKeywords(TypedDict, total=False):
    """The fields of `HeadOptions` as keywords, for type checkers."""

    ps: float | Sequence[float] | None
    hidden: Sequence[int]
    custom_head: nn.Module | None


@strict({"xtra_fc": "hidden", "drop": "ps", "num_classes": "n_out"}, HeadOptions)
def vision_model(
    arch: str | Arch | nn.Module, n_out: int, *, pretrained: Pretrained | None = None, cut: Cut | None = None,
    stats: Stats | None = None, seed: int = 0, **head_options: Unpack[HeadKeywords],
) -> BodyHead:  # fmt: skip
    """A body with its pretrained weights and a new head.

    Args:
        arch: a name (`arch_names()`, or any of timm's), an `Arch`, or a module of your own, which is not copied.
        n_out: how many logits.
        pretrained: True for the published weights, False for random ones, the path of a file of weights,
            or the name of an entry in torchvision's enum ("IMAGENET1K_V2"). None means what the
            architecture says (True). A module of your own keeps its weights unless this is a path.
        cut: a number as in `list(net.children())[:cut]`, or a function from the net to its body. None: the
            architecture's own; of a module of your own, everything before its last pooling and linear layers.
        stats: mean and standard deviation per channel to normalise images with. None: those of the weights; for a
            module of your own ImageNet's.
        seed: the random weights of body and head depend on it and on nothing else.

    Returns:
        The model, in training mode, everything trainable.

    Raises:
        ArgumentError: the architecture is unknown, or the net cannot be cut.
        WeightsError: the weights cannot be had or do not fit.

    >>> model = vision_model("squeezenet1_1", 2, pretrained=False)
    >>> model(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 2])
    """
    noted: str | Arch | nn.Module = arch
    if isinstance(arch, nn.Module):
        own = arch
        sizes, known = [224], Arch(type(own).__name__, lambda: own, _before_head, pretrained=False)
    else:
        known = get_arch(arch)
        # A small image is enough to learn the number of features; some transformers take only their own size.
        noted, sizes = _as_noted(known), [128, known.size]
    state, source = _chosen_weights(known, isinstance(arch, nn.Module), pretrained)
    with scoped_rng(seed, "body"), nullcontext() if state is None else registry.undrawn():
        net = known.build()
    net_state = net.state_dict(keep_vars=True)
    body = known.cut(net) if cut is None else _cut(net, cut)
    if state is not None:
        fill_body(net_state, body, state, source, known.weights_by_order)
    groups = known.split(body) if cut is None else split_after(body, middle(body))
    pool: nn.Module = nn.Identity()
    how = HeadOptions(**head_options)
    head = how.custom_head
    if head is None:
        out = _probe(body, sizes)
        pool = _pool_for(body, out)
        n_features = pool(out).shape[1]
        with scoped_rng(seed, "head"):
            head = pooled_head(n_features, n_out, how.hidden, how.ps)
    mean, std = stats or known.stats
    model = BodyHead(body, pool, head, groups, mean, std).train()
    if not callable(cut):  # a function cannot be written to a file: whoever loads it gives the model
        made = {
            "arch": noted, "n_out": n_out, "ps": how.ps, "hidden": how.hidden, "custom_head": how.custom_head,
            "cut": cut, "stats": stats, "seed": seed,
        }  # fmt: skip
        registry.note(model, "easylearn.vision_model", made)
    return model


@registry.register("easylearn.vision_model")
@strict(None, HeadOptions)
def _untrained(
    arch: str | nn.Module, n_out: int, cut: int | None, stats: Stats | None, seed: int, **head: Unpack[HeadKeywords]
) -> BodyHead:
    """What a model file may ask for: no `pretrained`, which would read any other file, or fetch one."""
    return vision_model(arch, n_out, pretrained=False, cut=cut, stats=stats, seed=seed, **head)


def _as_noted(arch: Arch) -> str | Arch:
    """A name for the architecture, if it is one of those that have names; else itself."""
    with suppress(ArgumentError):
        return arch.name if get_arch(arch.name).untrained() == arch.untrained() else arch
    return arch


def _chosen_weights(arch: Arch, is_own: bool, pretrained: Pretrained | None) -> tuple[State | None, object]:
    """The tensors to start from, if any, and where they are from."""
    pretrained = arch.pretrained if pretrained is None else pretrained
    if pretrained is False or (is_own and pretrained is True):
        return None, ""
    # timm builds a model in order to read its weights.
    with scoped_rng():
        if pretrained is not True:
            if not is_own and re.fullmatch(r"IMAGENET1K_V\d+", str(pretrained)):
                entry = TorchvisionWeights(arch.name, str(pretrained))
                return entry.read(), entry.url
            return read_file(pretrained), pretrained
        if arch.weights is None:
            raise ArgumentError(f"{arch.name} has no published weights: give pretrained=False, or the path of a file")
        return arch.weights.read(), arch.weights.url


def _pool_for(body: nn.Module, out: Tensor) -> nn.Module:
    """The pooling that suits a body's output: a map, tokens, or vectors that need none."""
    if out.ndim == 4:
        # timm's mark on the few nets that give (b, h, w, c).
        return ConcatPool2d(channels_last=str(getattr(body, "output_fmt", "")).endswith("NHWC"))
    if out.ndim == 3:
        n_prefix = getattr(body, "num_prefix_tokens", 0)
        return TokenPool(n_prefix if isinstance(n_prefix, int) else 0)
    if out.ndim == 2:
        return nn.Identity()
    raise ArgumentError(
        f"a body must give a feature map (b, c, h, w), tokens (b, n, c) or vectors (b, c); "
        f"this {type(body).__name__} gives {tuple(out.shape)}. Cut it elsewhere (cut=), or give custom_head="
    )


def _image(module: nn.Module, size: int) -> Tensor:
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    # Not zeros: `_before_head` compares two outputs, and of a black image too many nets make the same.
    ramp = torch.linspace(-1, 1, 3 * size * size, device=like.device, dtype=like.dtype)
    return ramp.reshape(1, 3, size, size)


def _probe(module: nn.Module, sizes: Sequence[int]) -> Tensor:
    """What the module gives for one image of the first of the sizes that it takes."""
    for size in sizes:
        try:
            with Gate().evaluating(module), scoped_rng():
                out = module(_image(module, size))
        except _FORWARD_ERRORS as error:
            failure = error
            continue
        if isinstance(out, Tensor):
            return out
        raise ArgumentError(f"a body must give one tensor, this {type(module).__name__} gives a {type(out).__name__}")
    raise ArgumentError(
        f"the body does not run on an image of shape (1, 3, {sizes[-1]}, {sizes[-1]}): {failure}. If the net's forward "
        "is not a chain of its children, give cut= a function that returns its body as one module"
    ) from failure


def _cut(net: nn.Module, cut: Cut) -> nn.Module:
    """The body that `cut` says."""
    if isinstance(cut, bool) or not (isinstance(cut, int) or callable(cut)):
        raise ArgumentError(f"cut must be a number of children or a function from the net to its body, got {cut!r}")
    if isinstance(cut, int):
        children = list(net.named_children())
        if not children[:cut]:
            raise ArgumentError(
                f"cut={cut} leaves no layer of {type(net).__name__}, whose children are {list(dict(children))}"
            )
        return nn.Sequential(OrderedDict(children[:cut]))
    body = cut(net)
    if not isinstance(body, nn.Module):
        raise ArgumentError(f"cut must return the body as a module, it returned a {type(body).__name__}")
    return body


_HEAD_START = (nn.Linear, nn.Flatten, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d)
_HEAD_LAYERS = (
    *_HEAD_START, nn.Dropout, nn.Identity, nn.BatchNorm1d, nn.LayerNorm, nn.Softmax, nn.LogSoftmax, nn.ReLU, nn.GELU,
    nn.Hardswish, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU,
)  # fmt: skip


def _before_head(net: nn.Module, size: int = 224) -> nn.Module:
    """The body of somebody's net: its children before the last pooling and linear layers, checked on one image."""
    children = list(net.named_children())
    tail = len(children)
    while tail and all(isinstance(m, _HEAD_LAYERS) for m in _leaves(children[tail - 1][1])):
        tail -= 1
    heads = [any(isinstance(m, _HEAD_START) for m in _leaves(module)) for _, module in children]
    at = next((i for i in range(tail, len(children)) if heads[i]), 0)
    advice = (
        "Say where its body ends: cut=N for list(net.children())[:N], or cut=function from the net to its body "
        f"(a module). Its children are {[name for name, _ in children]}"
    )
    if not at:
        raise ArgumentError(f"no pooling or linear layers were found at the end of {type(net).__name__}. {advice}")
    seen: list[Tensor] = []
    handle = children[at][1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    body = nn.Sequential(OrderedDict(children[:at]))
    try:
        with Gate().evaluating(net), scoped_rng():
            net(_image(net, size))
            out = body(_image(net, size))
    except _FORWARD_ERRORS as error:
        raise ArgumentError(
            f"{type(net).__name__} could not be cut before {children[at][0]!r}: on an image of {size} x {size} "
            f"it fails with: {error}. {advice}"
        ) from error
    finally:
        handle.remove()
    if out.is_meta:
        return body  # without numbers there is nothing to compare; it was compared when this net was first cut
    # Many forwards average or flatten by a function between the two; that belongs to the head.
    possible = [out, out.mean((2, 3))] if isinstance(out, Tensor) and out.ndim == 4 else [out]
    first = seen[0].flatten() if len(seen) == 1 else torch.empty(0)
    if not any(first.numel() == o.numel() and torch.allclose(first, o.flatten()) for o in possible):
        raise ArgumentError(
            f"{type(net).__name__}'s forward does more than call its children in turn before {children[at][0]!r}, so "
            f"they alone are not its body. {advice}"
        )
    return body


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if next(m.children(), None) is None]
