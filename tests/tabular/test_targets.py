from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from easylearn.tabular.targets import find_targets, range_of, task_kind

from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.task import multi_label, regression, single_label

ALL = np.arange(4)


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns)


# -- compared with plain pandas ----------------------------------------------------------------------------


def test_class_numbers_are_pandas_codes() -> None:
    df = frame(y=["b", "c", "a", "b"])
    found = find_targets(df, ["y"], ALL)
    assert found.task.classes == ("a", "b", "c")
    assert found.encode(df).tolist() == df["y"].astype("category").cat.codes.tolist()
    assert found.encode(df).dtype == torch.int64


def test_ordered_classes_keep_their_order() -> None:
    y = pd.Categorical(["low", "high", "mid", "low"], ["low", "mid", "high"], ordered=True)
    assert find_targets(frame(y=y), ["y"], ALL).task.names == ("low", "mid", "high")


def test_numbers_are_themselves_in_their_own_units() -> None:
    df = frame(a=[1.5, 2, 3, 4], b=[10, 20, 30, 40])
    for log in (False, True):
        found = find_targets(df, ["a", "b"], ALL, log_target=log)
        got = found.encode(df)
        assert got.dtype == torch.float32 and torch.equal(got, torch.tensor(df.to_numpy(), dtype=torch.float32))


# -- what kind of task -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        (["a", "b"] * 20, "single_label", ""),
        ([True, False] * 20, "single_label", ""),
        (pd.array([True, False] * 20, dtype="boolean"), "single_label", ""),
        (pd.Categorical([3.5, 4.5] * 20), "single_label", ""),
        ([0, 1, 2, 3] * 10, "single_label", "4 different whole numbers, taken as classes"),
        ([0.0, 1.0] * 20, "single_label", "2 different whole numbers"),
        (pd.array([0, 1] * 20, dtype="Int64"), "single_label", "2 different whole numbers"),
        (range(40), "regression", "numbers, so this is regression"),
        (np.linspace(0, 1, 40), "regression", "numbers, so this is regression"),
    ],
)
def test_one_target(values: object, kind: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    df = frame(y=values)
    assert task_kind(df, ["y"]) == kind
    out = capsys.readouterr().out
    assert said in out if said else not out


def test_several_targets(capsys: pytest.CaptureFixture[str]) -> None:
    df = frame(a=[0, 1, 1, 0], b=[True, False, True, True], c=[0.5, 1, 2, 3])
    found = find_targets(df, ["a", "b"], ALL)
    assert found.task.kind == "multi_label" and found.task.names == ("a", "b")
    assert found.encode(df).tolist() == [[0, 1], [1, 0], [1, 1], [0, 1]]
    assert "taken as labels" in capsys.readouterr().out
    assert find_targets(df, ["a", "c"], ALL).task.kind == "regression"
    assert find_targets(df, ["a", "b"], ALL, "regression").task.kind == "regression"
    assert find_targets(df, ["a"], ALL, "multi_label").encode(df).shape == (4, 1)


def test_the_logarithm_copes_with_zeros() -> None:
    assert find_targets(frame(y=[1.0, 2, 3, 4]), ["y"], ALL, log_target=True).task.scale == "log"
    assert find_targets(frame(y=[0, 2, 3, 4]), ["y"], ALL, log_target=True).task.scale == "log1p"
    assert find_targets(frame(y=[0, 2, 3, 4]), ["y"], ALL, "regression").task.scale == "linear"


# -- ranges ------------------------------------------------------------------------------------------------


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
        with pytest.raises(ArgumentError, match=f"this task is {task.kind}"):
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


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[1.5, np.nan, 3, 4], pd.array([15, None, 30, 40], "Int64"), [1.5, np.inf, 3, 4]])
def test_a_number_that_is_missing_names_its_row(values: object) -> None:
    df = frame(y=values).set_index(pd.Index(["p", "q", "r", "s"]))
    with pytest.raises(DataError, match=r"1 of 4 rows of the target 'y'.*Rows: row 1 \(index 'q'\)"):
        find_targets(df, ["y"], ALL, "regression").encode(df)


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA])
def test_a_class_that_is_missing_names_its_row(hole: object) -> None:
    df = frame(y=pd.Series(["a", "b", hole, "a"], dtype=object))
    with pytest.raises(DataError, match=r"target 'y' have no label.*Rows: row 2"):
        find_targets(df, ["y"], ALL)
    with pytest.raises(DataError, match=r"target 'y' have no label.*Rows: row 2"):
        find_targets(df, ["y"], np.array([0, 1])).encode(df)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(DataError, match="every training row of the target 'y' has the label 'a'"):
        find_targets(frame(y=["a", "a", "a", "b"]), ["y"], np.arange(3))
    with pytest.raises(DataError, match="has the label 1"):
        find_targets(frame(y=[1, 1, 1, 1]), ["y"], ALL)


def test_a_class_that_training_has_not_is_named() -> None:
    df = frame(y=["a", "b", "a", "zebra"])
    with pytest.raises(DataError, match=r"no training row has \('zebra'\).*Rows: row 3"):
        find_targets(df, ["y"], np.arange(3)).encode(df)


def test_values_that_do_not_fit_the_task() -> None:
    with pytest.raises(DataError, match=r"neither 0 nor 1.*Rows: row 2"):
        find_targets(frame(a=[0, 1, 2, 0]), ["a"], ALL, "multi_label").encode(frame(a=[0, 1, 2, 0]))
    with pytest.raises(DataError, match=r"no logarithm.*Rows: row 3"):
        find_targets(frame(a=[1, 2, 3, -5]), ["a"], ALL, log_target=True).encode(frame(a=[1, 2, 3, -5]))
    with pytest.raises(DataError, match=r"row 1.*'two'"):
        find_targets(frame(a=["1", "two", "3", "4"]), ["a"], ALL, "regression").encode(frame(a=["1", "two", "3", "4"]))
    with pytest.raises(DataError, match=r"several targets must be numbers.*\['b'\]"):
        task_kind(frame(a=[1, 2], b=["x", "y"]), ["a", "b"])


def test_arguments_that_do_not_fit() -> None:
    df = frame(a=[1, 2], b=[3, 4])
    with pytest.raises(ArgumentError, match="'single_label'"):
        task_kind(df, ["a"], "single_lable")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="at least one target"):
        task_kind(df, [])
    with pytest.raises(ArgumentError, match="single_label has one target column, got 2"):
        task_kind(df, ["a", "b"], "single_label")
    with pytest.raises(ArgumentError, match="log_target is for numbers"):
        task_kind(df, ["a"], "single_label", log_target=True)
    with pytest.raises(DataError, match=r"no columns \['z'\]"):
        task_kind(df, ["z"])
