"""Drawing images: one, or a batch with what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..analysis.plots import new_figure
from ..task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_image(axes: Axes, pixels: Tensor) -> None:
    """Draw an image without ticks.

    Args:
        axes: matplotlib's, empty.
        pixels: in [0, 1], shape (c, h, w) with 1 or 3 channels.
    """
    axes.imshow(pixels.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])


def draw_batch(pixels: Tensor, titles: Sequence[str]) -> Figure:
    """Draw images in a square, each under its title.

    Args:
        pixels: in [0, 1], shape (n, c, h, w).
        titles: one per image.
    """
    columns = max(1, round(len(pixels) ** 0.5))
    rows = -(-len(pixels) // columns)
    figure = new_figure(2.4 * columns, 2.6 * rows)
    for k, (image, title) in enumerate(zip(pixels, titles, strict=True), 1):
        axes = figure.add_subplot(rows, columns, k)
        draw_image(axes, image)
        axes.set_title(title, fontsize=9, parse_math=False)
        axes.set_axis_off()
    return figure


def target_titles(task: Task, target: Tensor | None, index: Tensor) -> list[str]:
    """What is known of each image in words: its class, its labels or its numbers; its number where nothing is."""
    if target is None:
        return [str(i) for i in index.tolist()]
    return [task.in_words(label) or "-" for label in task.decode_target(target)]
