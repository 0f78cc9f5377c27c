from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torch.nn import functional as F

from easylearn.errors import ArgumentError, DataError
from easylearn.task import Regression, Task, regression

G = torch.Generator().manual_seed(0)
OUTPUTS, TARGET = torch.randn(30, 2, generator=G), torch.rand(30, 2, generator=G) + 0.5


class TestLoss:
    @pytest.mark.parametrize("logits_shape", [(6,), (6, 1)])
    @pytest.mark.parametrize("target_shape", [(6,), (6, 1)])
    def test_it_never_broadcasts(self, logits_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        outputs, target = torch.randn(6), torch.arange(6)
        errors, task = (outputs - target).square(), regression()
        outputs, target = outputs.view(logits_shape), target.view(target_shape)
        torch.testing.assert_close(task.loss(outputs, target), errors.mean())
        torch.testing.assert_close(task.item_losses(outputs, target), errors)

    def test_it_is_torchs(self) -> None:
        assert regression(["x", "y"]).loss(OUTPUTS, TARGET) == F.mse_loss(OUTPUTS, TARGET)

    @pytest.mark.parametrize(("scale", "onto"), [("log", torch.log), ("log1p", torch.log1p)])
    def test_on_a_scale(self, scale: Any, onto: Any) -> None:
        task = regression(["x", "y"], scale=scale)
        assert task.loss(OUTPUTS, TARGET) == F.mse_loss(OUTPUTS, onto(TARGET))
        assert task.with_loss(F.l1_loss).loss(OUTPUTS, TARGET) == F.l1_loss(OUTPUTS, onto(TARGET))
        torch.testing.assert_close(task.activate(task.outputs_for(TARGET)), TARGET)
        torch.testing.assert_close(task.activate_in_graph(OUTPUTS), task.activate(OUTPUTS))

    def test_items(self) -> None:
        each = F.mse_loss(OUTPUTS, TARGET, reduction="none").mean(1)
        assert torch.equal(regression(["x", "y"]).item_losses(OUTPUTS, TARGET), each)
        assert not regression(["x", "y"]).item_losses(OUTPUTS.clone().requires_grad_(), TARGET).requires_grad


def test_numbers_are_what_they_are() -> None:
    task = regression(["x", "y"])
    assert task.activate(OUTPUTS) is OUTPUTS and task.index(OUTPUTS[0]) is None
    assert task.decode(torch.tensor([[0.75, 0.25]])) == [(0.75, 0.25)]
    assert regression().decode(torch.tensor([[0.75]])) == regression().decode(torch.tensor([0.75])) == [0.75]
    assert (task.is_exclusive, task.is_multi, task.predicts_numbers) == (False, False, True)
    assert (task.classes, task.row_names, task.summary) == ((), ["x", "y"], "2 numbers: x, y")
    assert task.row((0.5, 2.0), torch.tensor([0.5, 2.0])) == ["0.5", "2"]
    assert [m.name for m in task.metrics] == ["rmse"]
    assert (task.in_words((0.5, 2.0)), task.in_words(0.25)) == ("0.5, 2", "0.25")


def test_what_is_said_of_mistakes() -> None:
    task = regression(["x", "y"])
    table, y, said = task.by_name(OUTPUTS, TARGET), TARGET.double().numpy(), OUTPUTS.double().numpy()
    np.testing.assert_allclose(table["mae"], sk.mean_absolute_error(y, said, multioutput="raw_values"), rtol=1e-5)
    np.testing.assert_allclose(table["r2"], sk.r2_score(y, said, multioutput="raw_values"), rtol=1e-5)
    np.testing.assert_allclose(table["rmse"], ((said - y) ** 2).mean(0) ** 0.5, rtol=1e-5)
    np.testing.assert_allclose(table["bias"], (said - y).mean(0), rtol=1e-4)
    assert table["support"] == [30, 30]
    assert task.item_columns(OUTPUTS, TARGET)["residual"][0] == tuple((OUTPUTS - TARGET)[0].tolist())
    assert regression().item_columns(torch.tensor([[2.0]]), torch.tensor([0.5])) == {"residual": [1.5]}
    assert regression().title(torch.tensor([2.0]), torch.tensor(0.5)) == ("said 2, is 0.5", True)
    for call in (task.confusions, task.calibrated):
        with pytest.raises(ArgumentError, match="plot_predictions"):
            call(OUTPUTS, TARGET)


@pytest.mark.parametrize(
    ("task", "target"), [(regression(), torch.tensor([1.5])), (regression(["x"]), torch.ones(3, 1))]
)
def test_good_targets(task: Regression, target: Tensor) -> None:
    assert task.check_target(target) is target


@pytest.mark.parametrize(
    ("task", "target", "words"),
    [
        (regression(["x", "y"]), torch.zeros(3), "2 columns"),
        (regression(), torch.tensor([0.0, float("nan"), float("inf")]), "2 regression targets.*row 1"),
        (regression(scale="log"), torch.tensor([1.0, 0.0]), r"1 targets have no logarithm.*\[0.0\] in row 1.*above 0"),
        (regression(scale="log1p"), torch.tensor([0.0, -1.0]), "row 1.*above -1"),
    ],
)
def test_bad_targets(task: Regression, target: Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        task.check_target(target)


def test_a_scale_that_is_none() -> None:
    with pytest.raises(ArgumentError, match=r"scale must be one of.*'cube'"):
        regression(scale="cube")  # type: ignore[arg-type]


# -- units -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "onto", "values"),
    [
        ("linear", np.positive, [[1.0, 3e5], [2.0, 5e5], [6.0, -1e5]]),
        ("log", np.log, [[1.0, 3e5], [2.0, 5e5], [6.0, 1e5]]),
        ("log1p", np.log1p, [[0.0, 3e5], [2.0, 5e5], [6.0, 0.0]]),
    ],
)
def test_what_is_learnt_of_training_targets(scale: Any, onto: Any, values: list[list[float]]) -> None:
    y = torch.tensor(values, dtype=torch.float64)
    task = regression(["x", "y"], scale=scale).fitted(y)
    np.testing.assert_allclose(task.center, onto(y.numpy()).mean(0), rtol=1e-12)
    np.testing.assert_allclose(task.spread, onto(y.numpy()).std(0), rtol=1e-12)
    z = (onto(y.numpy()) - task.center) / task.spread
    np.testing.assert_allclose(task.outputs_for(y), z, rtol=1e-9)
    torch.testing.assert_close(task.activate(torch.tensor(z)), y)
    torch.testing.assert_close(task.activate_in_graph(torch.tensor(z)), y)
    zeros = torch.zeros(3, 2)
    assert float(task.loss(zeros, y.float())) == pytest.approx(1.0)  # no better than the mean
    assert float(task.item_losses(zeros, y.float()).mean()) == pytest.approx(1.0)
    own = task.with_loss(lambda outputs, target: (outputs - target).abs().mean())
    expected = np.abs(onto(y.numpy()) - task.center).mean()
    assert float(own.loss(zeros, y.float())) == pytest.approx(expected, rel=1e-5)
    again = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert again == task and task.fitted(y * 2) is task


@pytest.mark.parametrize(
    ("y", "dtype"),
    [
        ([1.0, 3.0], torch.float32),
        ([1e9, 1e9 + 3], torch.float64),
        ([-1e9, 3 - 1e9], torch.float64),
        ([1e9, 3e9], torch.float32),
        ([1e40, -1e40], torch.float64),
        ([1e-40, 3e-40], torch.float64),
        ([1e-8, 3e-8], torch.float32),
        ([7.0, 7.0], torch.float32),
    ],
)
def test_float64_is_taken_where_float32_would_blur(y: list[float], dtype: torch.dtype) -> None:
    given = torch.tensor(y, dtype=torch.float64)
    task = regression().fitted(given)
    held = task.check_target(given)
    assert isinstance(task, Regression) and task.dtype == held.dtype == dtype
    outputs = task.outputs_for(held).float()
    said = task.activate(outputs)
    assert said.dtype == dtype
    np.testing.assert_allclose(said.double() - given, 0, atol=1e-6 * task.spread[0])


def test_targets_that_are_all_alike_have_a_spread_of_one() -> None:
    task = regression().fitted(torch.full((7,), 0.1, dtype=torch.float64))
    assert isinstance(task, Regression) and task.spread == (1.0,) and task.center == pytest.approx((0.1,))


def test_outputs_that_mean_what_others_do() -> None:
    one, other = (regression().fitted(torch.tensor(y)) for y in ([1.0, 2.0], [10.0, 30.0]))
    assert not one.same_as(other) and one.in_units_of(other) == other
    assert one.in_units_of(regression()) == regression()  # of a file that was written before
    assert one.with_loss(F.l1_loss).in_units_of(other).loss_fn is F.l1_loss


@pytest.mark.parametrize(
    ("center", "spread"), [((1.0,), ()), ((1.0, 2.0), (1.0, 1.0)), ((0.0,), (0.0,)), ((math.nan,), (1.0,))]
)
def test_a_center_and_a_spread_that_are_none(center: Any, spread: Any) -> None:
    with pytest.raises(ArgumentError, match="center"):
        Regression(("x",), center=center, spread=spread)


def test_mixed_targets_keep_their_digits() -> None:
    task, y = regression(), torch.tensor([1e9, 1e9 + 3], dtype=torch.float64)
    assert task.soft_target(y) is y and task.soft_target(torch.tensor([1, 2])).dtype == torch.float32
