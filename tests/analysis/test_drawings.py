"""Confusion matrix and worst mistakes: the numbers against scikit-learn, what is drawn, bad input."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sklearn import metrics as sk
from torch import Tensor, nn

from easylearn.analysis.drawings import plot_confusion, plot_worst
from easylearn.errors import ArgumentError, DataError
from easylearn.learning import Learner
from easylearn.task import Predictions, single_label
from easylearn.task.exclusive import count_confusions
from easylearn.vision.data import ImageData

COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
NAMES = ["red", "green", "blue"]


class Colour(nn.Module):
    """Says which channel is the strongest, with a confidence that grows with `sharp`."""

    def __init__(self, sharp: float = 2.0) -> None:
        super().__init__()
        self.sharp = nn.Parameter(torch.tensor(sharp))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * self.sharp


def images(labels: list[int], channels: int = 3) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Squares of one colour each."""
    x = np.tile(COLOURS[labels][:, None, None], (1, 8, 8, 1))
    return (x if channels == 3 else x[..., :1]), labels


@pytest.fixture
def learn() -> Learner:
    """Two of seven validation labels are wrong: a red square called blue, and a green one called red."""
    x, y = images([0, 1, 2, 0, 1, 2, 1])
    y = [*y]
    y[3], y[4] = 2, 0
    data = ImageData.from_arrays(images([0, 1, 2] * 2), (x, y), x[:2], classes=NAMES, batch_size=4)
    return Learner(data.with_stats([0.5] * 3, [0.5] * 3), Colour(), device="cpu", progress=False)


def predictions(probs: Tensor, targets: Tensor | None) -> Predictions:
    task = single_label([str(c) for c in range(probs.shape[1])])
    return Predictions.of(task, probs, [str(i) for i in range(len(probs))], targets)


def texts(figure: Figure) -> list[str]:
    figure.savefig(io.BytesIO(), format="png", dpi=30)  # an error in the drawing shows only then
    return [t.get_text() for axes in figure.axes for t in axes.texts]


# -- the matrix --------------------------------------------------------------------------------------------


@given(
    n_classes=st.integers(2, 6),
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40),
)
def test_confusion_matrix_is_scikit_learns(n_classes: int, pairs: list[tuple[int, int]]) -> None:
    truth, said = (torch.tensor([p[k] % n_classes for p in pairs]) for k in (0, 1))
    found = count_confusions(torch.eye(n_classes)[said], truth, n_classes)
    assert found.tolist() == sk.confusion_matrix(truth, said, labels=range(n_classes)).tolist()


def test_plot_confusion(learn: Learner) -> None:
    figure = plot_confusion(learn)
    assert sorted(texts(figure)) == ["1", "1", "1", "2", "2"]
    axes = figure.axes[0]
    assert axes.get_title() == "5 of 7 right"
    assert [t.get_text() for t in axes.get_yticklabels()] == NAMES
    assert np.asarray(axes.images[0].get_array()).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 2]]


def test_plot_confusion_takes_predictions(learn: Learner) -> None:
    figure = plot_confusion(learn, learn.tta(2))
    assert figure.axes[0].get_title() == "5 of 7 right"
    with pytest.raises(DataError, match="targets"):
        plot_confusion(learn, learn.predict(split="test"))


@pytest.mark.parametrize("n_classes", [2, 40, 41])
def test_many_classes_are_drawn_without_numbers(n_classes: int) -> None:
    x = np.zeros((n_classes, 8, 8, 3), np.uint8)
    pair = (x, list(range(n_classes)))
    data = ImageData.from_arrays(pair, pair, task="single_label")
    learn = Learner(data, nn.Sequential(nn.Flatten(), nn.Linear(192, n_classes)), device="cpu")
    figure = plot_confusion(learn)
    assert bool(texts(figure)) == (n_classes <= 40)
    assert max(figure.get_size_inches()) <= 21


# -- the worst ---------------------------------------------------------------------------------------------


def test_the_worst_come_first(learn: Learner) -> None:
    said = learn.predict()
    assert said.targets is not None
    losses = nn.functional.nll_loss(said.probs.log(), said.targets, reduction="none")
    order = losses.argsort(descending=True)[:4].tolist()
    figure = plot_worst(learn, 4)
    texts(figure)
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == [said.ids[i] for i in order[:2]]
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 4
    assert {t.split(" (")[0] for t in titles[:2]} == {"said red", "said green"}
    assert {t.split("is ")[1] for t in titles[:2]} == {"blue", "red"}
    assert all("but only" in t for t in titles[2:])
    assert [axes.title.get_color() for axes in figure.axes] == ["C3", "C3", "black", "black"]


def test_the_images_are_those_of_the_predictions(learn: Learner) -> None:
    figure = plot_worst(learn, 7)
    for axes in figure.axes:
        row = int(axes.get_xlabel().split("[")[1].rstrip("]"))
        shown = np.asarray(axes.images[0].get_array())
        assert np.allclose(shown[0, 0], learn.data.valid.sources[row][0, 0] / 255, atol=1e-5)  # type: ignore[attr-defined]


def test_more_than_there_are(learn: Learner) -> None:
    assert len(plot_worst(learn, 100).axes) == 7
    assert len(plot_worst(learn, 1, learn.tta(1)).axes) == 1


def test_grey_images() -> None:
    x, y = images([0, 1, 2, 0], channels=1)
    data = ImageData.from_arrays((x, y), (x, y), channels=1)
    learn = Learner(data, nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), device="cpu")
    figure = plot_worst(learn, 2)
    texts(figure)
    assert figure.axes[0].images[0].get_array().shape == (8, 8)  # type: ignore[union-attr]


def test_any_items_are_drawn(make_learner: Any) -> None:
    learn = make_learner()
    assert len(plot_worst(learn, 3).axes) == 3 and plot_confusion(learn).axes


# -- bad input ---------------------------------------------------------------------------------------------


def test_other_tasks_are_refused() -> None:
    x = np.zeros((4, 8, 8, 3), np.uint8)
    data = ImageData.from_arrays((x, [0.5, 1.5] * 2), (x, [0.5, 1.5] * 2), task="regression")
    numbers = Learner(data, nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), device="cpu")
    with pytest.raises(ArgumentError, match=r"one class per item.*plot_top_losses"):
        plot_worst(numbers)
    with pytest.raises(DataError, match="single-label"):
        plot_confusion(numbers)


def test_predictions_that_are_of_something_else(learn: Learner) -> None:
    with pytest.raises(DataError, match="targets"):
        plot_worst(learn, 3, learn.predict(split="test"))
    with pytest.raises(DataError, match="predict anew"):
        plot_worst(learn, 3, predictions(torch.eye(3), torch.arange(3)))


@pytest.mark.parametrize("n", [0, -1])
def test_none_at_all(learn: Learner, n: int) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        plot_worst(learn, n)
