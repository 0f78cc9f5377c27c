from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from easylearn.errors import ArgumentError, EasyLearnWarning
from easylearn.tabular.ranges import range_of
from easylearn.task import multi_label, regression, single_label


def test_ranges_are_on_the_models_scale() -> None:
    y = torch.tensor([[1.0], [100.0]])
    bounds = range_of(regression(scale="log"), y, (0.5, 200.0))
    assert bounds is not None
    np.testing.assert_allclose(np.concatenate(bounds), [math.log(0.5), math.log(200)])
    low, high = range_of(regression(["a", "b"]), torch.tensor([[0.0, 5.0], [10.0, 5.0]]), "auto") or ((), ())
    np.testing.assert_allclose(low[0], -1.0)
    np.testing.assert_allclose(high[0], 11.0)
    assert low[1] < 5 < high[1]  # a target that never varies has room, too
    auto = range_of(regression(scale="log"), y, "auto")
    assert auto is not None and auto[0] < 0 and auto[1] > math.log(100)
    assert range_of(regression(), y, None) is None


def test_ranges_that_cannot_be() -> None:
    y = torch.tensor([[1.0], [3.0]])
    for task in (single_label(["a", "b"]), multi_label(["a"])):
        with pytest.raises(ArgumentError, match=f"this task is {task}".replace("(", r"\(").replace(")", r"\)")):
            range_of(task, y, (0, 1))
    for wrong in ((3, 1), (1, 1), (1, 2, 3), (1,)):
        with pytest.raises(ArgumentError, match="low below high"):
            range_of(regression(), y, wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="'auto' or None"):
        range_of(regression(), y, "atuo")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no finite logarithm"):
        range_of(regression(scale="log"), y, (0, 10))
    with pytest.warns(EasyLearnWarning, match="from 1 to 3; the model can never predict them"):
        range_of(regression(), y, (0, 2))
