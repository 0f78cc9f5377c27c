"""segmentation_learner: images with masks and a body in, a Learner out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from ..data.loaders import first_outputs
from ..errors import ArgumentError, did_you_mean
from ..keyed import scoped_rng
from ..learning import Learner, Training, TrainingOptions
from ..nn import registry
from ..nn.body_head import BodyHead
from ..nn.decoders import LightDecoder, PyramidModel, RefiningModel, UnetDecoder
from ..options import strict
from .archs import Arch, Stats, get_arch
from .learner import PRETRAINED_CLIP
from .masks import MaskData
from .model import Cut, Pretrained, vision_model
from .pyramid import Pyramid, pyramid

if TYPE_CHECKING:
    from typing_extensions import Unpack

Body = str | Arch | nn.Module | Learner
Decoder = str | nn.Module
# A decoder by its name, and how many times smaller than the image the finest map is that it takes.
DECODERS: Mapping[str, tuple[Callable[[Sequence[int], int], LightDecoder | UnetDecoder], int]] = {
    "light": (LightDecoder, 4),
    "unet": (UnetDecoder, 2),
}


@dataclass(frozen=True)
class BodyOptions:
    """The body of a model that gives maps.

    Args:
        pretrained: True, False or a file of weights; None takes what the architecture says. See `vision_model`.
        cut: where a module of your own is cut.
        stats: mean and standard deviation per channel; None takes those of the weights.
        seed: of random weights.
    """

    pretrained: Pretrained | None = None
    cut: Cut | None = None
    stats: Stats | None = None
    seed: int = 0


class BodyKeywords(TypedDict, total=False):
    """The fields of `BodyOptions` as keywords, for type checkers."""

    pretrained: Pretrained | None
    cut: Cut | None
    stats: Stats | None
    seed: int


@strict({"num_classes": "n_out", "encoder": "arch"}, BodyOptions)
def segmentation_model(
    arch: Body, n_out: int, decoder: Decoder = "light", *, adds: bool = False, **body_options: Unpack[BodyKeywords]
) -> PyramidModel:
    """A body that gives its maps, with its pretrained weights, and a new decoder over them.

    Args:
        arch: a name, an `Arch` or a module as `vision_model` takes it; or a learner of images, whose body is copied.
        n_out: channels of what comes out, such as the number of classes.
        decoder: "light" (1x1 convolutions, summed top down, one 3x3 at a quarter of the size), "unet" (at half), or a
            module of your own that takes the list of maps, the finest first, and begins with the weights that it has.
        adds: give an image, at the size of the one that came in, by what is to be added to it; see `RefiningModel`.

    Returns:
        The model: images (b, 3, h, w) to logits (b, n_out, h / 4, w / 4), or half of the size.

    Raises:
        ArgumentError: the body gives no maps of several sizes, or an argument is unknown.

    >>> model = segmentation_model("squeezenet1_1", 5, pretrained=False)
    >>> model(torch.zeros(1, 3, 64, 96)).shape, [group.name for group in model.layer_groups()]
    (torch.Size([1, 5, 15, 23]), ['stem', 'late', 'decoder'])
    """
    if isinstance(decoder, str) and decoder not in DECODERS:
        raise ArgumentError(f"unknown decoder {decoder!r}. {did_you_mean(decoder, DECODERS)}")
    if not isinstance(decoder, str | nn.Module):
        raise ArgumentError(f"decoder must be one of {[*DECODERS]}, or a module that takes maps, got {decoder!r}")

    def make(body: Pyramid, groups: Any, mean: list[float], std: list[float]) -> PyramidModel:
        times = body.strides[0] if adds and isinstance(decoder, str) else 1
        if not isinstance(decoder, str):
            head: nn.Module = decoder
        else:
            head = own = DECODERS[decoder][0](body.channels, n_out * times**2)
            if adds:  # nothing, at first
                nn.init.zeros_(own.out.weight)
                begin_decoder_at(own, torch.zeros(n_out * times**2))
        if adds:
            return RefiningModel(body, head, groups, mean, std, times)
        return PyramidModel(body, head, groups, mean, std)

    finest = DECODERS[decoder][1] if isinstance(decoder, str) else 4
    about = {"n_out": n_out, "decoder": decoder, "adds": adds}
    return over_pyramid(arch, BodyOptions(**body_options), finest, make, "easylearn.segmentation_model", about)


def over_pyramid(
    arch: Body, how: BodyOptions, finest: int, make: Callable[..., PyramidModel], name: str, about: Mapping[str, Any]
) -> PyramidModel:
    """A model over a body that gives its maps, with a note for files of what made it.

    Args:
        arch: see `segmentation_model`.
        how: the body's weights, cut, statistics and seed.
        finest: how many times smaller than the image the finest map is.
        make: from a pyramid, the groups of its body, mean and std.
        name: of what is registered to make such a model again.
        about: what that takes besides arch, cut, stats and seed: plain values.
    """
    known: dict[str, Any] = {"arch": arch, "cut": how.cut, "stats": how.stats}
    if isinstance(arch, Learner):
        if replace(how, seed=0) != BodyOptions():
            raise ArgumentError(
                "pretrained, cut and stats are those of the learner whose body is taken; leave them out"
            )
        made, known = _body_of(arch)
    else:
        made = vision_model(arch, 1, **vars(how), custom_head=nn.Identity())
    body, n = pyramid(made.body, finest=finest), len(made.mean)
    with scoped_rng(how.seed, "head"):
        model = make(body, made.body_groups, [0.0] * n, [1.0] * n).train()
    model.mean, model.std = made.mean, made.std
    if known.get("arch") is not None and not callable(known["cut"]):
        registry.note(model, name, {**known, **about, "seed": how.seed})
    return model


@registry.register("easylearn.segmentation_model")
def _untrained(
    arch: str | nn.Module, n_out: int, decoder: Decoder, cut: int | None, stats: Stats | None, adds: bool, seed: int
) -> PyramidModel:
    """What a model file may ask for: no `pretrained`, which would read any other file, or fetch one."""
    return segmentation_model(arch, n_out, decoder, pretrained=False, cut=cut, stats=stats, adds=adds, seed=seed)


def _body_of(learn: Learner) -> tuple[BodyHead, dict[str, Any]]:
    """A copy of a learner's body in its groups, and what is known of how it was made."""
    model = learn.model
    if not isinstance(model, BodyHead):
        raise ArgumentError(
            f"a body can be taken of a learner of images, such as vision_learner makes; this one's model is a "
            f"{type(model).__name__}"
        )
    model = copy.deepcopy(model)
    for p in model.parameters():
        p.requires_grad_(True)
    about = registry.describe(model)
    arguments = about.get("args", {}) if isinstance(about, dict) else {}
    named = isinstance(arguments.get("arch"), str)
    groups = model.body_groups
    if isinstance(model, PyramidModel):
        inner: Any = model.body
        model = BodyHead(inner.body, nn.Identity(), nn.Identity(), groups, model.mean.tolist(), model.std.tolist())
    return model, {n: arguments.get(n) for n in ("arch", "cut", "stats")} if named else {}


@strict({"arch": "body", "model": "body", "opt_func": "optimizer", "loss_func": "loss", "n_out": ""}, Training)
def segmentation_learner(  # type: ignore[misc]  # one of the shared options has another default here
    data: MaskData, body: Body, *, decoder: Decoder = "light", pretrained: Pretrained | None = None,
    precompute: bool = False, cut: Cut | None = None, stats: Stats | None = None,
    clip: float | Literal["auto"] | None = "auto",
    bn_freeze: bool | None = None, **options: Unpack[TrainingOptions],
) -> Learner:  # fmt: skip
    """A Learner of masks: a body's maps of several sizes and a new decoder over them, in three layer groups.

    With pretrained weights it starts frozen: only the decoder trains, until `learn.unfreeze()`. Its outputs are
    coarser than the image (a quarter of its size for the light decoder); loss and metrics compare them at the masks'
    size, and predictions are put back into the file's own pixels.

    Args:
        data: images with masks.
        body: a name such as "efficientnet_lite0", an `Arch`, a module of your own, or a learner whose body is taken.
        decoder: "light", "unet", or a module that takes the list of maps; see `segmentation_model`.
        pretrained: True, False or a file of weights; None takes what the architecture says. See `vision_model`.
        precompute: train the decoder on stored maps of the frozen body, in half precision, without augmentation.
        cut: where a module of your own is cut.
        stats: mean and standard deviation per channel; None takes those of the weights.
        clip: largest norm of the gradients; "auto" is 2.0 where the body is pretrained, no clipping otherwise.
        bn_freeze: keep the body's batch-norm statistics while its weights train; None: where it is pretrained.

    Raises:
        ArgumentError: the body gives no maps of several sizes, or an argument is unknown.
        WeightsError: the weights cannot be had; the message says where to put a file.
    """
    if not isinstance(data, MaskData):
        raise ArgumentError(f"segmentation_learner needs MaskData, got {type(data).__name__}")
    model = segmentation_model(
        body, data.task.n_out, decoder, pretrained=pretrained, cut=cut, stats=stats, seed=options.get("seed", 0)
    )
    if isinstance(decoder, str):
        begin_decoder_at(model.head, first_outputs(data))
    return dense_learner(data, model, has_weights(body, pretrained), precompute, clip, bn_freeze, options)  # type: ignore[arg-type]


def begin_decoder_at(decoder: nn.Module, outputs: Tensor | None) -> None:
    """Let a new one of `DECODERS` begin near some `outputs`, (n_out,), at every pixel; None leaves it as it is."""
    assert isinstance(decoder, LightDecoder | UnetDecoder)
    bias = decoder.out.bias
    if outputs is not None and bias is not None and bias.shape == outputs.shape:
        with torch.no_grad():
            bias.copy_(outputs)


def has_weights(body: Body, pretrained: Pretrained | None) -> bool:
    """Whether a model of this body begins with trained weights."""
    if isinstance(body, Learner):
        return True
    usual = not isinstance(body, nn.Module) and get_arch(body).pretrained
    return (usual if pretrained is None else pretrained) is not False


def dense_learner(
    data: Any, model: nn.Module, trained: bool, precompute: bool, clip: float | Literal["auto"] | None,
    bn_freeze: bool | None, options: TrainingOptions,
) -> Learner:  # fmt: skip
    """A learner of a pyramid with its decoder, frozen where the body is `trained`.

    Args:
        data: what it learns.
        model: the pyramid with its decoder.
        trained: the body's weights are.
        precompute, clip, bn_freeze: see `segmentation_learner`.
        options: see `Training`.
    """
    auto = PRETRAINED_CLIP if trained and options.get("strategy") is None else None
    given: TrainingOptions = {**options, "clip": auto if clip == "auto" else clip}
    # Convolutions are quicker with the channels innermost, on the CPU and on GPUs alike.
    placed = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    keeps = trained if bn_freeze is None else bn_freeze
    learn = Learner(data, placed, bn_freeze=keeps, precompute=precompute, **given)
    if trained:
        learn.freeze()
    return learn
