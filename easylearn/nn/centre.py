"""Boxes by their centres: maps that say where objects are and how far their sides, the loss of such maps, the boxes.

A map of b images has the shape (b, classes + 4, h, w), a cell for each `stride` pixels: a logit for each class, high in
the cell of an object's centre (arXiv 1904.07850), and the logarithms of the distances, in cells, from the middle of the
cell to the left, upper, right and lower side. Cells around a centre learn the distances, too (arXiv 1909.00700).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .decoders import LightDecoder
from .registry import register

RARE = 0.01  # how sure a new head is of an object in each cell (arXiv 1708.02002)
SPREAD = 0.09  # of an object, as a share of its sides: 0.54 / 6 of arXiv 1909.00700
NEAR = 0.2  # cells this high on an object's hill learn its sides
LEAST = 0.05  # cells: a side is no nearer
FARTHEST = 8.0  # logarithm of cells: 3,000 of them are wider than any map
SIDES = 5.0  # weight of the sides' loss beside that of the centres
NO_PEAK = -1e4  # in place of the logit of a cell that a neighbour tops
ROUNDS = 6  # of suppression: chains of so many boxes are resolved as one by one would


@register("easylearn.centre_head")
def centre_head(channels: Sequence[int], n_classes: int, width: int = 64, side: float = 4.0) -> LightDecoder:
    """A light decoder that gives the maps of boxes, and begins with few boxes of a usual size.

    Args:
        channels: of a body's maps, the finest first.
        n_classes: how many there are.
        width: channels in between.
        side: cells from an object's centre to its sides, at first.

    >>> centre_head([8, 16], 2)([torch.zeros(1, 8, 9, 12), torch.zeros(1, 16, 5, 6)]).shape
    torch.Size([1, 6, 9, 12])
    """
    head = LightDecoder(channels, n_classes + 4, width, drop=0.0)
    with torch.no_grad():
        bias = head.out.get_parameter("bias")
        bias[:n_classes] = -math.log(1 / RARE - 1)
        bias[n_classes:] = math.log(side)
    return head


def centre_losses(maps: Tensor, target: Tensor, stride: int) -> Tensor:
    """The loss of each image, (b,): a focal loss of the centres, the generalised IoU of the sides (arXiv 1902.09630).

    Args:
        maps: what a model gives, see this module.
        target: boxes in pixels of the model's input, (b, m, 5) of xmin, ymin, xmax, ymax and class; class -1 is none.
        stride: pixels of a cell.
    """
    classes, sides = maps[:, :-4].float(), maps[:, -4:].float()
    hills, far, weights = (
        torch.stack(t) for t in zip(*(_wanted(boxes, maps, stride) for boxes in target), strict=True)
    )
    tops = hills == 1
    right, wrong = F.logsigmoid(classes), F.logsigmoid(-classes)
    focal = -torch.where(tops, wrong.exp() ** 2 * right, (1 - hills) ** 4 * right.exp() ** 2 * wrong).sum((1, 2, 3))
    apart = (1 - _giou(sides.clamp(max=FARTHEST).exp(), far)) * weights
    n_objects = (target[..., 4] >= 0).sum(1).clamp(min=1)
    return focal / tops.sum((1, 2, 3)).clamp(min=1) + SIDES * apart.sum((1, 2)) / n_objects


def _wanted(boxes: Tensor, maps: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one image the hills of the classes (c, h, w), distances to the sides (4, h, w), and their weights (h, w)."""
    n_classes, h, w = maps.shape[1] - 4, *maps.shape[2:]
    labels, boxes = boxes[:, 4].long(), boxes[:, :4].float() / stride
    there = (labels >= 0).nonzero().flatten()
    size = boxes[there, 2:] - boxes[there, :2]
    there = there[size.prod(1).argsort(descending=True, stable=True)]  # of two objects in a cell the smaller one counts
    labels, boxes = labels[there], boxes[there]
    if not len(boxes):
        none = boxes.new_zeros(h, w)
        return none.expand(n_classes, h, w), none.new_ones(4, h, w), none
    size, at = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
    column, row = at[:, 0].long().clamp(0, w - 1), at[:, 1].long().clamp(0, h - 1)
    xs, ys = torch.arange(w, device=boxes.device), torch.arange(h, device=boxes.device)
    spread = 2 * (SPREAD * size).square() + 1e-2
    across = (-(xs - column[:, None]).square() / spread[:, :1]).exp()
    down = (-(ys - row[:, None]).square() / spread[:, 1:]).exp()
    hill = down[:, :, None] * across[:, None, :]
    hills = hill.new_zeros(n_classes, h, w).scatter_reduce_(0, labels[:, None, None].expand_as(hill), hill, "amax")
    x, y = xs + 0.5, ys + 0.5
    left, right = x - boxes[:, :1], boxes[:, 2:3] - x
    above, below = y - boxes[:, 1:2], boxes[:, 3:] - y
    inside = ((left > 0) & (right > 0))[:, None, :] & ((above > 0) & (below > 0))[:, :, None]
    learns = ((hill > NEAR) & inside) | (hill == 1)  # the cell of the centre always does
    numbers = torch.arange(1, len(boxes) + 1, device=boxes.device)
    owner = torch.where(learns, numbers[:, None, None], 0).amax(0)
    whose = (owner - 1).clamp(min=0)
    share = hill * (owner == numbers[:, None, None])
    share = share / share.sum((1, 2), keepdim=True).clamp(min=1e-6)
    weights = share.gather(0, whose[None])[0] * (owner > 0)
    far = torch.stack([_of(left, whose, 1), _of(above, whose, 0), _of(right, whose, 1), _of(below, whose, 0)])
    return hills, far.clamp(min=LEAST), weights


def _of(distances: Tensor, whose: Tensor, axis: int) -> Tensor:
    """For each cell (h, w) the distance of the object that owns it, of (n, w) or (n, h): along `axis` of a map."""
    places = torch.arange(distances.shape[1], device=whose.device)
    return distances[whose, places[None, :] if axis else places[:, None]]


def _giou(found: Tensor, true: Tensor) -> Tensor:
    """The generalised IoU of boxes about one point, by their distances from it: (..., 4, h, w) to (..., h, w)."""
    low, high = torch.minimum(found, true), torch.maximum(found, true)
    both, hull = (_area(t) for t in (low, high))
    union = _area(found) + _area(true) - both
    return both / union - (hull - union) / hull


def _area(sides: Tensor) -> Tensor:
    left, above, right, below = sides.unbind(-3)
    return (left + right) * (above + below)


def found_boxes(maps: Tensor, stride: int, most: int, overlap: float) -> Tensor:
    """The boxes that maps stand for: (b, k, 6) of xmin, ymin, xmax, ymax, score and class, the surest first.

    Centres are cells that no neighbour tops. Of two boxes of a class that overlap too much the surer one stays, the
    other becomes a row of zeros (as one by one, in rounds that a graph can hold: arXiv 2005.03572). Boxes are in pixels
    of the model's input.

    Args:
        maps: see this module.
        stride: pixels of a cell.
        most: boxes of an image.
        overlap: the IoU above which two boxes of a class are one object.
    """
    logits, (h, w) = maps[:, :-4].float(), maps.shape[2:]
    peaks = logits.masked_fill(F.max_pool2d(logits, 3, 1, 1) > logits, NO_PEAK)
    best, at = peaks.flatten(1).topk(min(most, peaks[0].numel()), dim=1)
    cell = at % (h * w)
    label = torch.div(at, h * w, rounding_mode="floor")
    far = maps[:, -4:].float().clamp(max=FARTHEST).exp().flatten(2).gather(2, cell[:, None].expand(-1, 4, -1))
    x, y = (cell % w).float() + 0.5, torch.div(cell, w, rounding_mode="floor").float() + 0.5
    sides = [(x - far[:, 0]).clamp(min=0), (y - far[:, 1]).clamp(min=0), (x + far[:, 2]).clamp(max=w)]
    boxes = torch.stack([*sides, (y + far[:, 3]).clamp(max=h)], -1) * stride
    score = best.sigmoid() * (best > NO_PEAK) * survives(boxes, label, overlap)
    found = torch.cat([boxes, score[..., None], label.to(boxes.dtype)[..., None]], -1)
    return found * (score > 0).to(found.dtype)[..., None]


def survives(boxes: Tensor, label: Tensor, overlap: float) -> Tensor:
    """1 for each box (b, k, 4) that no surer one of its label, before it, suppresses, else 0."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    same = label[:, :, None] == label[:, None, :]
    hides = ((both > overlap * (area[:, :, None] + area[:, None, :] - both)) & same).to(boxes.dtype).triu(1)
    stays = torch.ones_like(area)
    for _ in range(ROUNDS):
        stays = 1 - (hides * stays[:, :, None]).amax(1)
    return stays
