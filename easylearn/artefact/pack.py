"""Smaller forms of a tensor: 8 bits for each number, or only the numbers that are not zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError

How = Literal["int8", "sparse", "sparse_int8"]
MARK = "::"  # between the name of a tensor and that of a piece of it; no attribute can hold it
_BYTES = 2**16  # of a mask that are looked at together


def pack(tensor: Tensor, how: How) -> dict[str, Tensor]:
    """The pieces of a packed tensor, by their names.

    `int8` keeps one scale per slice of the first dimension, the largest absolute value over 127 (symmetric, arXiv
    1806.08342, section 2.2). `sparse` keeps one bit per number, and the numbers that are not zero.

    >>> sorted(pack(torch.eye(3), "sparse_int8"))
    ['mask', 'scale', 'values']
    """
    pieces: dict[str, Tensor] = {}
    values = tensor.detach().cpu().float()
    if "int8" in how:
        rows = values.reshape(len(values), -1)
        scale = rows.abs().amax(1) / 127
        safe = torch.where(scale > 0, scale, 1.0)
        values = (rows / safe.unsqueeze(1)).round_().clamp_(-127, 127).to(torch.int8).reshape(tensor.shape)
        pieces["scale"] = scale
    if "sparse" in how:
        nonzero = values != 0
        pieces["mask"] = torch.from_numpy(np.packbits(nonzero.numpy(), bitorder="little"))
        values = values[nonzero]
    pieces["values"] = values.contiguous()
    return pieces


def unpack(pieces: Mapping[str, Tensor], how: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor that was packed, as float32."""
    out = torch.empty(shape)
    unpack_into(out, pieces, how)
    return out


def unpack_into(target: Tensor, pieces: Mapping[str, Tensor], how: str) -> None:
    """As `unpack`, into an existing tensor and without a second one of its size."""
    check(pieces, how, tuple(target.shape))
    if "sparse" in how:
        plain = target.is_contiguous() and target.dtype == torch.float32
        full = target.view(-1) if plain else torch.empty(target.numel())
        _spread(full, pieces["mask"], pieces["values"])
        if not plain:
            target.copy_(full.view(target.shape))
    else:
        target.copy_(pieces["values"])
    if "int8" in how:
        target.mul_(pieces["scale"].view(-1, *[1] * (target.ndim - 1)))


def _spread(full: Tensor, mask: Tensor, values: Tensor) -> None:
    """Put values where a bit is set, zeros elsewhere."""
    done = 0
    for at in range(0, len(mask), _BYTES):
        part = full[8 * at : 8 * (at + _BYTES)]
        bits = np.unpackbits(mask[at : at + _BYTES].numpy(), count=len(part), bitorder="little")
        is_set = torch.from_numpy(bits).bool()
        n = int(is_set.sum())
        if done + n > len(values):
            break
        part.zero_()
        part[is_set] = values[done : done + n].to(part.dtype)
        done += n
    else:
        if done == len(values):
            return
    raise ArgumentError(
        f"its piece 'values' has {len(values)} numbers, and its mask another count of bits that are set"
    )


def check(pieces: Mapping[str, Tensor], how: str, shape: tuple[int, ...]) -> None:
    """Refuse pieces of wrong types or sizes with an `ArgumentError`, before they are unpacked."""
    n = torch.Size(shape).numel()
    if how not in get_args(How):
        raise ArgumentError(f"a tensor cannot be packed by {how!r}")
    # By name: its type, and its shape unless that depends on how many zeros there are.
    sparse, small = "sparse" in how, "int8" in how
    wanted: dict[str, tuple[torch.dtype, tuple[int, ...] | None]] = {
        "values": (torch.int8 if small else torch.float32, None if sparse else shape)
    }
    if small:
        wanted["scale"] = (torch.float32, shape[:1])
    if sparse:
        wanted["mask"] = (torch.uint8, (-(-n // 8),))
    for name, (dtype, size) in wanted.items():
        piece = pieces.get(name)
        if piece is None or piece.dtype != dtype or (size is not None and tuple(piece.shape) != size):
            raise ArgumentError(f"its piece {name!r} is missing or of a wrong kind")
        if size is None and (piece.ndim != 1 or len(piece) > n):
            raise ArgumentError(f"its piece {name!r} has {tuple(piece.shape)} numbers for a tensor of {n}")
    if set(pieces) != set(wanted):
        raise ArgumentError(f"its pieces are {sorted(pieces)}")
