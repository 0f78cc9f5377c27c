from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from easylearn.data.loaders import TensorData
from easylearn.data.order import Batch
from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.losses import FocalLoss
from easylearn.task import multi_label, regression, single_label
from easylearn.train.callbacks import CutMix, MixUp

MakeLearner = Callable[..., Learner]
TASKS = {
    "single_label": (single_label(["a", "b", "c"]), torch.tensor([0, 1, 2, 0, 1, 2])),
    "multi_label": (multi_label(["a", "b"]), torch.tensor([[0, 1], [1, 1], [1, 0], [0, 0], [1, 1], [0, 1]])),
    "regression": (regression(["x", "y"]), torch.arange(12.0).reshape(6, 2)),
    "one number": (regression(), torch.arange(6.0)),
}


def images(n: int = 6) -> Tensor:
    return torch.arange(n * 3 * 8 * 8).reshape(n, 3, 8, 8).float()


def mixed(callback: Any, kind: str, n: int = 6) -> Batch:
    task, target = TASKS[kind]
    run: Any = SimpleNamespace(batch=Batch((images(n),), target[:n], torch.arange(n)), task=task)
    callback.on_batch_begin(run)
    batch: Batch = run.batch
    return batch


@pytest.mark.parametrize("kind", TASKS)
class TestEveryTask:
    def test_mixup_mixes_inputs_and_targets_alike(self, kind: str) -> None:
        torch.manual_seed(1)
        batch = mixed(MixUp(1.0), kind)
        # torchvision mixes each item with the one before, by one weight.
        x = images()
        weight = ((batch.inputs[0] - x.roll(1, 0)) / (x - x.roll(1, 0)))[0, 0, 0, 0].item()
        assert 0.0 < weight < 1.0
        torch.testing.assert_close(batch.inputs[0], weight * x + (1 - weight) * x.roll(1, 0))
        soft = TASKS[kind][0].soft_target(TASKS[kind][1])
        torch.testing.assert_close(batch.target, weight * soft + (1 - weight) * soft.roll(1, 0), rtol=1e-4, atol=1e-4)

    def test_cutmix_mixes_targets_by_area(self, kind: str) -> None:
        torch.manual_seed(3)
        batch = mixed(CutMix(1.0), kind)
        own = (batch.inputs[0] == images()).float().mean((1, 2, 3))
        other = (batch.inputs[0] == images().roll(1, 0)).float().mean((1, 2, 3))
        assert 0.0 < own[0] < 1.0
        torch.testing.assert_close(own + other, torch.ones(6))
        soft = TASKS[kind][0].soft_target(TASKS[kind][1])
        share = own.reshape(-1, *[1] * (soft.ndim - 1))
        torch.testing.assert_close(batch.target, share * soft + (1 - share) * soft.roll(1, 0), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("make", [MixUp, CutMix])
    def test_sums_stay(self, kind: str, make: Any) -> None:
        batch, soft = mixed(make(0.7), kind), TASKS[kind][0].soft_target(TASKS[kind][1])
        assert batch.target is not None and batch.target.shape == soft.shape
        torch.testing.assert_close(batch.target.sum(0), soft.sum(0))
        if kind == "single_label":
            torch.testing.assert_close(batch.target.sum(1), torch.ones(6))
        if make is MixUp:
            torch.testing.assert_close(batch.inputs[0].sum(0), images().sum(0))

    def test_the_loss_takes_it(self, kind: str) -> None:
        task, _ = TASKS[kind]
        batch = mixed(MixUp(), kind)
        loss = task.loss(torch.randn(6, task.n_out, requires_grad=True), batch.target)  # type: ignore[arg-type]
        loss.backward()
        assert loss.isfinite()


@pytest.mark.parametrize(("ours", "theirs"), [(MixUp, v2.MixUp), (CutMix, v2.CutMix)])
def test_class_targets_are_torchvisions(ours: Any, theirs: Any) -> None:
    torch.manual_seed(0)
    batch = mixed(ours(0.4), "single_label")
    torch.manual_seed(0)
    x, y = theirs(alpha=0.4, num_classes=3)(images(), TASKS["single_label"][1])
    assert torch.equal(batch.inputs[0], x)
    torch.testing.assert_close(batch.target, y)


def test_a_batch_of_one_is_left_alone() -> None:
    batch = mixed(MixUp(), "single_label", n=1)
    assert torch.equal(batch.inputs[0], images(1)) and batch.target is not None and batch.target.tolist() == [0]


def net(n_out: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_out))


@pytest.mark.parametrize("loss", [None, FocalLoss()])
@pytest.mark.parametrize("callback", [MixUp(), CutMix()])
def test_in_a_fit_training_is_mixed_and_validation_is_not(
    make_learner: MakeLearner, at: Any, callback: Any, loss: Any, weights: Any, same: Any
) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(9, 1, 8, 8), torch.arange(9) % 2
    data = TensorData((x, y), (x, y), single_label(["a", "b"]), batch_size=4)
    seen: list[Any] = []
    spy = at(loss=lambda run: seen.append(run.batch.target))
    runs = []
    for number in range(2):
        torch.manual_seed(number)  # keyed: not read
        learn = make_learner(net(2), data, label_smoothing=0.0 if loss else 0.1, loss=loss)
        record = learn.fit(0.1, 1, callbacks=[callback, spy])
        assert record.last["valid_loss"] == learn.validate()["valid_loss"]
        runs.append(weights(learn))
    assert all(t.is_floating_point() and t.shape[1] == 2 for t in seen)
    assert any(0 < v < 1 for t in seen for v in t.flatten().tolist())
    assert same(*runs)


def test_what_is_no_picture_is_refused(make_learner: MakeLearner) -> None:
    with pytest.raises(ArgumentError, match=r"MixUp mixes images of shape \(b, c, h, w\).*\[\(4, 5\)\]"):
        make_learner().fit(0.1, 1, callbacks=[MixUp()])


@pytest.mark.parametrize("make", [MixUp, CutMix])
@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_bad_alpha(make: Any, alpha: float) -> None:
    with pytest.raises(ArgumentError, match="alpha must be above 0"):
        make(alpha)
