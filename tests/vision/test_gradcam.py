"""Grad-CAM: where theory says what it must be, what it leaves alone, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.nn.body_head import BodyHead
from easylearn.nn.layers import ConcatPool2d
from easylearn.vision.data import ImageData
from easylearn.vision.gradcam import grad_cam, plot_grad_cam
from easylearn.vision.learner import vision_learner

SIZE = 16


def data(regression: bool = False, channels: int = 3) -> ImageData:
    x = np.random.default_rng(0).integers(0, 255, (6, SIZE, SIZE, channels)).astype(np.uint8)
    y: list[Any] = [0.5, 1.5, 2.5] * 2 if regression else [0, 1, 2] * 2
    names = None if regression else ["red", "green", "blue"]
    return ImageData.from_arrays(
        (x, y), (x, y), classes=names, task="regression" if regression else "auto", batch_size=4, channels=channels
    )


def learner(body: nn.Module, pool: nn.Module, head: nn.Module, regression: bool = False) -> Learner:
    stats = [0.5] * 3
    model = BodyHead(body, pool, head, [(body,), ()], stats, stats)
    return Learner(data(regression), model, device="cpu", progress=False)


class Average(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def image(seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)


def seen(learn: Learner, item: Any) -> Tensor:
    images = learn.data.preprocessor
    (x,) = images.source(images.read(item).values).fetch(np.arange(1), torch.device("cpu"))
    return x


def test_after_average_pooling_it_is_the_class_activation_map() -> None:
    """Section 3 of the paper: with one linear layer on averages, the weights are those of the class (CAM)."""
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 3)
    learn = learner(conv, Average(), linear)
    x = seen(learn, image())
    for column in range(3):
        expected = (conv(x)[0] * linear.weight[column, :, None, None]).sum(0).relu().detach()
        found = grad_cam(learn, image(), column)
        assert found.shape == (SIZE, SIZE) and not found.requires_grad
        torch.testing.assert_close(found, expected / expected.max(), rtol=1e-4, atol=1e-5)


def test_against_hooks_on_the_whole_model() -> None:
    """As most code has it: activations and gradients caught on the way of the whole network."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())
    head = nn.Sequential(nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 3))
    learn = learner(body, ConcatPool2d(), head)
    caught: list[Tensor] = []
    hook = body.register_forward_hook(lambda module, inputs, output: caught.append(output))
    logits = learn.model.eval()(seen(learn, image()))
    hook.remove()
    best = int(logits.argmax())
    (gradient,) = torch.autograd.grad(logits[0, best], caught[0])
    heat = (gradient.mean((2, 3), keepdim=True) * caught[0]).sum(1, keepdim=True).relu()
    heat = nn.functional.interpolate(heat, size=(SIZE, SIZE), mode="bilinear", align_corners=False)[0, 0].detach()
    torch.testing.assert_close(grad_cam(learn, image()), heat / heat.max(), rtol=1e-4, atol=1e-5)


def test_it_finds_the_place() -> None:
    """A head that likes red, and an image with a red corner."""
    learn = learner(nn.AvgPool2d(4), Average(), nn.Linear(3, 3))
    with torch.no_grad():
        learn.model.head.weight.copy_(torch.eye(3))  # type: ignore[union-attr,operator]
    item = np.zeros((SIZE, SIZE, 3), np.uint8)
    item[:4, :4, 0] = 255
    heat = grad_cam(learn, item, "red")
    assert heat[:4, :4].mean() > 0.5 > 0.05 > heat[8:, 8:].mean()
    assert float(heat.max()) == pytest.approx(1.0) and float(heat.min()) >= 0


def test_nothing_speaks_for_it() -> None:
    learn = learner(nn.ReLU(), Average(), nn.Linear(3, 3))
    with torch.no_grad():
        learn.model.head.weight.fill_(-1.0)  # type: ignore[union-attr,operator]
    assert torch.equal(grad_cam(learn, image()), torch.zeros(SIZE, SIZE))


def test_the_learner_is_as_it_was(weights: Any, same: Any) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    learn = learner(body, nn.Identity(), nn.Sequential(nn.ReLU(inplace=True), Average(), nn.Linear(4, 3)))
    learn.model.train()
    body[1].eval()
    body[0].weight.requires_grad_(False)
    modes = [m.training for m in learn.model.modules()]
    before, rng = weights(learn), torch.get_rng_state()
    grad_cam(learn, image(), "green")
    with pytest.raises(ArgumentError):
        grad_cam(learn, image(), "gren")
    assert same(before, weights(learn)) and torch.equal(rng, torch.get_rng_state()) and torch.is_grad_enabled()
    assert modes == [m.training for m in learn.model.modules()]
    assert all(p.grad is None for p in learn.model.parameters()) and not body[0].weight.requires_grad
    assert not any(m._forward_hooks or m._backward_hooks for m in learn.model.modules())


def test_maps_with_their_channels_last() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1)

    torch.manual_seed(0)
    head = nn.Linear(6, 3)
    last = grad_cam(learner(Last(), ConcatPool2d(channels_last=True), head), image(), 1)
    first = grad_cam(learner(nn.Identity(), ConcatPool2d(), head), image(), 1)
    torch.testing.assert_close(last, first)


def test_a_named_architecture_and_the_drawing() -> None:
    learn = vision_learner(data(), "resnet18", pretrained=False, device="cpu", progress=False)
    figure = plot_grad_cam(learn, image())
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    left, right = figure.axes
    assert left.get_title().split(" (")[0] in learn.task.names and len(left.images) == 1 and len(right.images) == 2
    numbers = learner(nn.Conv2d(3, 4, 3), Average(), nn.Linear(4, 1), regression=True)
    assert plot_grad_cam(numbers, image()).axes[0].get_title().startswith("target: ")


@pytest.mark.parametrize(
    ("target", "words"),
    [("blu", "Did you mean 'blue'"), (3, "from 0 to 2"), (-1, "from 0 to 2"), (True, "from 0 to 2"), (0.5, "from 0")],
)
def test_no_such_class(target: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        grad_cam(learner(nn.ReLU(), Average(), nn.Linear(3, 3)), image(), target)


def test_bodies_without_a_map(make_learner: Any) -> None:
    with pytest.raises(ArgumentError, match="vision_learner"):
        grad_cam(make_learner(), torch.zeros(5))
    tokens = learner(nn.Flatten(2), nn.Flatten(), nn.Linear(3 * SIZE**2, 3))
    with pytest.raises(ArgumentError, match="transformers have none"):
        grad_cam(tokens, image())
    assert not tokens.model.training or tokens.model.body.training


def test_one_image_at_a_time() -> None:
    learn = learner(nn.ReLU(), Average(), nn.Linear(3, 3))
    with pytest.raises(ArgumentError, match="one image, got 2"):
        grad_cam(learn, [image(), image()])
    torch.testing.assert_close(grad_cam(learn, [image()]), grad_cam(learn, image()))
