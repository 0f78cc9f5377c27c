"""2018's `fastai.plots`: images side by side, a confusion matrix, and what a model of images got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.metrics import confusion_matrix as confusion_matrix

from . import imports, torch_imports
from .files import StrPath
from .imports import star

Array = npt.NDArray[Any]


def ceildiv(a: int, b: int) -> int:
    """`a` divided by `b`, rounded up."""
    return -(-a // b)


def plots(
    ims: Any, figsize: tuple[float, float] = (12, 6), rows: int = 1, interp: bool = False, titles: Any = None,
    maintitle: str | None = None,
) -> None:  # fmt: skip
    """Draw images in a grid.

    Args:
        ims: arrays (h, w, 3) or (3, h, w), or whatever matplotlib draws.
        figsize: in inches.
        rows: of the grid.
        interp: let matplotlib smooth.
        titles: one per image.
        maintitle: of the figure.
    """
    figure = plt.figure(figsize=figsize)
    if maintitle is not None:
        plt.suptitle(maintitle, fontsize=16)
    for i, image in enumerate(ims):
        axes = figure.add_subplot(rows, ceildiv(len(ims), rows), i + 1)
        axes.axis("off")
        if titles is not None:
            axes.set_title(str(titles[i]), fontsize=16)
        turned = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[-1] not in (3, 4)
        plt.imshow(np.moveaxis(image, 0, -1) if turned else image, interpolation=None if interp else "none")


plots_raw = plots


def plots_from_files(
    imspaths: Sequence[StrPath], figsize: tuple[float, float] = (10, 5), rows: int = 1, titles: Any = None,
    maintitle: str | None = None,
) -> None:  # fmt: skip
    """Draw the images in the files `imspaths`; `figsize`, `rows`, `titles` and `maintitle` as in `plots`."""
    plots([plt.imread(str(p)) for p in imspaths], figsize, rows, titles=titles, maintitle=maintitle)


def plot_confusion_matrix(
    cm: Any, classes: Sequence[Any], normalize: bool = False, title: str = "Confusion matrix", cmap: Any = None,
    figsize: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """Draw a confusion matrix, and print it.

    Args:
        cm: counts, true classes in rows.
        classes: their names.
        normalize: rows as shares.
        title: of the figure.
        cmap: matplotlib's colours; None for blues.
        figsize: in inches.
    """
    counts = np.asarray(cm)
    shown = counts / counts.sum(1, keepdims=True) if normalize else counts
    print(shown)
    plt.figure(figsize=figsize)
    plt.imshow(shown, interpolation="nearest", cmap=cmap or "Blues")
    plt.colorbar()
    ticks = range(len(classes))
    plt.xticks(ticks, [str(c) for c in classes], rotation=45)
    plt.yticks(ticks, [str(c) for c in classes])
    for (i, j), value in np.ndenumerate(shown):
        text = f"{value:.2f}" if normalize else str(value)
        plt.text(j, i, text, ha="center", color="white" if value > shown.max() / 2 else "black")
    plt.title(title)
    plt.ylabel("True label")
    plt.xlabel("Predicted label")
    plt.tight_layout()


def load_img_id(ds: Any, idx: int, path: StrPath) -> Array:
    """The image number `idx` of the data set `ds`, whose files are below `path`, as it is in its file."""
    return np.array(Image.open(Path(path) / ds.fnames[idx]))


class ImageModelResults:
    """What a model said of a data set of images, right, wrong and unsure.

    Args:
        ds: a data set such as `data.val_ds`.
        log_preds: log-probabilities, shape (n, classes).
    """

    def __init__(self, ds: Any, log_preds: Any) -> None:
        self.ds = ds
        self.probs = np.exp(np.asarray(log_preds))
        self.preds = self.probs.argmax(1)
        self.num_classes = self.probs.shape[1]

    def most_by_mask(self, mask: Any, y: int, mult: int) -> Array:
        """The four items in `mask` with the lowest `mult` times the probability of class `y`."""
        idxs = np.flatnonzero(mask)
        return idxs[np.argsort(mult * self.probs[idxs, y])[:4]]

    def most_by_correct(self, y: int, is_correct: bool) -> Array:
        """The four items of class `y` that are most clearly right, or wrong with `is_correct` False."""
        right = self.preds == self.ds.y
        return self.most_by_mask((right == is_correct) & (self.ds.y == y), y, -1 if is_correct else 1)

    def most_by_uncertain(self, y: int) -> Array:
        """The four items of class `y` whose probability is nearest to that of a guess."""
        idxs = np.flatnonzero(self.ds.y == y)
        return idxs[np.argsort(np.abs(self.probs[idxs, y] - 1 / self.num_classes))[:4]]

    def plot_val_with_title(self, idxs: Any, y: int) -> None:
        """Draw the items `idxs` with their probability of class `y`."""
        if len(idxs):
            plots(self.ds.denorm(np.stack([self.ds[i][0] for i in idxs])), titles=[self.probs[i, y] for i in idxs])

    def plot_by_correct(self, y: int, is_correct: bool) -> None:
        """Draw what `most_by_correct` gives of `y` and `is_correct`."""
        self.plot_val_with_title(self.most_by_correct(y, is_correct), y)

    def plot_most_correct(self, y: int) -> None:
        """Draw the items of class `y` that are most clearly right."""
        self.plot_by_correct(y, True)

    def plot_most_incorrect(self, y: int) -> None:
        """Draw the items of class `y` that are most clearly wrong."""
        self.plot_by_correct(y, False)

    def plot_most_uncertain(self, y: int) -> None:
        """Draw the items of class `y` that are least clear."""
        self.plot_val_with_title(self.most_by_uncertain(y), y)


_OWN = [
    "ImageModelResults", "ceildiv", "confusion_matrix", "load_img_id", "plot_confusion_matrix", "plots",
    "plots_from_files", "plots_raw",
]  # fmt: skip
__all__ = star(globals(), imports, torch_imports, own=_OWN)
