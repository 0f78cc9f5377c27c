"""Augmentation as a model file holds it: names and numbers, no code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .augment import Dihedral, Erase, Flip, Light, RandomResizedCrop, Rotate, Shift, Transform, Zoom
from .policies import Blur, Hue, Perspective, RandAugment, Saturation, TrivialAugment

_NAMED: dict[str, type[Transform]] = {
    t.__name__: t for t in (
        Flip, Dihedral, Rotate, Zoom, Shift, RandomResizedCrop, Light, Erase, Saturation, Hue, Perspective, Blur,
        TrivialAugment, RandAugment,
    )
}  # fmt: skip
MOST_ERASED = 1000  # squares that a file may ask for


def transforms_to_json(transforms: Sequence[Transform]) -> list[dict[str, Any]] | None:
    """Transforms in what JSON can hold; None where one is of another kind than those here, and so code.

    >>> transforms_to_json([Flip()])
    [{'name': 'Flip', 'p': 0.5}]
    """
    if any(_NAMED.get(type(t).__name__) is not type(t) for t in transforms):
        return None
    fields = ({"name": type(t).__name__, **asdict(t)} for t in transforms)
    return [{n: list(v) if isinstance(v, tuple) else v for n, v in one.items()} for one in fields]


def transforms_from_json(given: Any) -> tuple[Transform, ...] | None:
    """What `transforms_to_json` wrote; KeyError, TypeError or ValueError where it is damaged."""
    if given is None:
        return None
    found: list[Transform] = []
    for one in given:
        values = {n: tuple(v) if isinstance(v, list) else v for n, v in dict(one).items() if n != "name"}
        numbers = [x for v in values.values() for x in (v if isinstance(v, tuple) else (v,))]
        n = values.get("n", 1)
        if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers) or n not in range(MOST_ERASED):
            raise ValueError(f"augmentation {one}")
        found.append(_NAMED[one["name"]](**values))
    return tuple(found)
