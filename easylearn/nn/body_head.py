"""A model of two parts: a body that makes features and a head that decides from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .dropout import Dropout
from .groups import LayerGroup


class BodyHead(nn.Module):
    """`head(pool(body(x)))`, in three layer groups: the body's stem, its late layers, and the head.

    Args:
        body: images (b, 3, h, w) to a feature map, or tokens (b, t) and lengths (b,) to a vector per text.
        pool: the feature map to one vector per item.
        head: those vectors to logits.
        body_groups: the modules of the stem group and those of the late group, input first. A parameter that the body
            holds itself (a class token) belongs to the stem group.
        mean, std: per channel, what the images the body was trained on were normalised with. These buffers travel with
            the weights but are not applied in `forward`: the batch stage of the data applies them. Texts have none.

    >>> body, head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Linear(4, 2)
    >>> pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> model = BodyHead(body, pool, head, [(body[0],), (body[1],)], mean=[0.5] * 3, std=[0.5] * 3)
    >>> [group.name for group in model.layer_groups()], model(torch.zeros(1, 3, 8, 8)).shape
    (['stem', 'late', 'head'], torch.Size([1, 2]))
    """

    mean: Tensor
    std: Tensor
    feature_dtype: ClassVar[torch.dtype] = torch.float32  # in which precompute keeps features

    def __init__(
        self, body: nn.Module, pool: nn.Module, head: nn.Module, body_groups: Sequence[tuple[nn.Module, ...]],
        mean: Sequence[float] = (), std: Sequence[float] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        if len(body_groups) != 2:
            raise ArgumentError(f"body_groups must be two tuples of modules (stem, late), got {len(body_groups)}")
        if len(mean) != len(std):
            raise ArgumentError(f"mean and std need one number per channel, got {len(mean)} and {len(std)}")
        self.body = body
        self.pool = pool
        self.head = head
        # Kept by position, not by reference: a copy or a replaced layer can then not go out of step.
        place = {id(module): name for name, module in body.named_modules()}
        outside = [type(m).__name__ for group in body_groups for m in group if id(m) not in place]
        if outside:
            raise ArgumentError(f"body_groups names modules that are not in the body: {outside}")
        self._group_names = tuple(tuple(place[id(m)] for m in group) for group in body_groups)
        self.register_buffer("mean", torch.tensor([float(v) for v in mean]))
        self.register_buffer("std", torch.tensor([float(v) for v in std]))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits, shape (b, n_out), of the `inputs` that the body takes: normalised images (b, c, h, w), say."""
        out: Tensor = self.head(self.features(*inputs))
        return out

    def features(self, *inputs: Tensor) -> Tensor:
        """What the head gets of the `inputs`, one row per item; precompute stores it."""
        out: Tensor = self.pool(self.body(*inputs))
        return out

    @property
    def body_groups(self) -> list[tuple[nn.Module, ...]]:
        """The modules of the stem group and those of the late group, as they were given."""
        return [tuple(self.body.get_submodule(name) for name in names) for names in self._group_names]

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """Three groups: "stem" (input to the middle stage), "late" (the later stages) and "head"."""
        stem, late = self.body_groups
        placed = {id(p) for module in (*stem, *late) for p in module.parameters()}
        if loose := [p for p in self.body.parameters() if id(p) not in placed]:
            stem = (*stem, nn.ParameterList(loose))
        return LayerGroup("stem", stem), LayerGroup("late", late), LayerGroup("head", (self.pool, self.head))


def is_linear(head: nn.Module) -> bool:
    """Whether a head is a linear layer, batch-norm and dropout before it."""
    layers = list(head) if isinstance(head, nn.Sequential) else []
    return [type(layer) for layer in layers] == [nn.BatchNorm1d, Dropout, nn.Linear]
