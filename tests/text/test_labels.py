from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from easylearn.errors import ArgumentError, DataError
from easylearn.text.labels import find_labels, have_classes


def learn(values: list[Any], **settings: Any) -> Any:
    return find_labels(values, [f"r{i}" for i in range(len(values))], "column 'y'", **settings)


def rows(n: int) -> list[str]:
    return [f"r{i}" for i in range(n)]


class TestOneClass:
    @pytest.mark.parametrize(
        ("values", "classes", "codes"),
        [
            (["pos", "neg", "pos"], ["neg", "pos"], [1, 0, 1]),
            ([10, 9, 10], ["9", "10"], [1, 0, 1]),
            ([1.0, 0.0, 1.0], ["0", "1"], [1, 0, 1]),
            ([True, False, True], ["False", "True"], [1, 0, 1]),
            ([np.bool_(True), np.bool_(False)], ["False", "True"], [1, 0]),
            ([np.int64(3), np.int64(-2)], ["-2", "3"], [1, 0]),
            (["10", "9"], ["10", "9"], [0, 1]),
            (["a", 1], ["1", "a"], [1, 0]),
            (["مرحبا", "😀"], sorted(["مرحبا", "😀"]), [0, 1]),
        ],
    )
    def test_kinds_of_values(self, values: list[Any], classes: list[str], codes: list[int]) -> None:
        labels = learn(values)
        assert labels.task.kind == "single_label" and list(labels.task.classes) == classes
        target = labels.encode(values, rows(len(values)), "train")
        assert target.tolist() == codes and target.dtype == torch.int64

    def test_a_guess_that_could_be_another_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        learn([1, 2, 3])
        assert "3 different whole numbers, taken as classes; task='regression'" in capsys.readouterr().out
        learn([0, 1]), learn(["a", "b"])
        assert not capsys.readouterr().out

    def test_one_class_is_too_few(self) -> None:
        with pytest.raises(DataError, match="at least two classes in training"):
            learn(["a", "a"])

    @pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
    def test_a_missing_label_is_named_by_row(self, missing: Any) -> None:
        values = ["a", "b", missing]
        with pytest.raises(DataError, match=r"1 train documents have no label in column 'y', the first is row r2"):
            learn(values).encode(values, rows(3), "train")

    def test_a_label_unseen_in_training_is_named_by_row(self) -> None:
        with pytest.raises(DataError, match=r"valid row r1: the label 'poss' does not occur in training.*'pos'"):
            learn(["pos", "neg"]).encode(["neg", "poss"], rows(2), "valid")


class TestSeveralLabels:
    def test_by_separator(self) -> None:
        values = ["rude; toxic", "", None, "rude"]
        labels = learn(values, sep=";")
        assert labels.task.kind == "multi_label" and labels.task.classes == ("rude", "toxic")
        assert labels.encode(values, rows(4), "train").tolist() == [[1, 1], [0, 0], [0, 0], [1, 0]]
        with pytest.raises(DataError, match="valid row r0: the label 'ruder'"):
            labels.encode(["ruder"], rows(1), "valid")

    def test_lists_of_labels(self) -> None:
        values = [["rude", "toxic"], [], {"rude"}, None]
        labels = learn(values)
        assert labels.task.kind == "multi_label"
        assert labels.encode(values, rows(4), "train").tolist() == [[1, 1], [0, 0], [1, 0], [0, 0]]
        assert learn(values, task="multi_label").task.classes == ("rude", "toxic")

    def test_columns_of_zeros_and_ones(self, capsys: pytest.CaptureFixture[str]) -> None:
        values = [(0, 1), (1, 1)]
        labels = learn(values, names=["a", "b"])
        assert labels.task.kind == "multi_label" and labels.task.classes == ("a", "b")
        assert "taken as labels" in capsys.readouterr().out
        assert labels.encode(values, rows(2), "train").tolist() == [[0, 1], [1, 1]]
        with pytest.raises(DataError, match=r"valid row r0: each label is 0 or 1, got \[2.0, 0.0\]"):
            labels.encode([(2, 0)], rows(1), "valid")
        with pytest.raises(DataError, match="the first is row r1"):
            labels.encode([(0, 0), (float("nan"), 1)], rows(2), "valid")

    def test_refused(self) -> None:
        with pytest.raises(ArgumentError, match="needs label_sep="):
            learn(["a", "b"], task="multi_label")
        with pytest.raises(ArgumentError, match="label_sep parts the labels"):
            learn(["a", "b"], task="single_label", sep=";")
        with pytest.raises(DataError, match="holds no label at all"):
            learn(["", None], sep=";")
        with pytest.raises(DataError, match="must hold zeros and ones"):
            learn([(0, 2)], task="multi_label", names=["a", "b"])
        with pytest.raises(ArgumentError, match="one label column"):
            learn([(0, 1)], task="single_label", names=["a", "b"])
        with pytest.raises(ArgumentError, match="Did you mean 'single_label'"):
            learn(["a"], task="single_lable")


class TestNumbers:
    def test_guessed_and_asked_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        labels = learn([0.5, 1.5, 2.0])
        assert labels.task.kind == "regression" and "so this is regression" in capsys.readouterr().out
        target = labels.encode([0.5, 1.5], rows(2), "train")
        assert target.tolist() == [[0.5], [1.5]] and target.dtype == torch.float32
        assert learn(list(range(30))).task.kind == "regression"
        assert learn([1, 2], task="regression").encode([1, 2], rows(2), "train").tolist() == [[1], [2]]

    def test_several_columns(self) -> None:
        labels = learn([(0.5, 2.0), (1.0, 3.0)], names=["x", "y"])
        assert labels.task.kind == "regression" and labels.task.names == ("x", "y")
        assert labels.encode([(1, 2)], rows(1), "valid").tolist() == [[1, 2]]

    def test_what_is_no_number_is_named_by_row(self) -> None:
        labels = learn([0.5, 1.5], task="regression")
        with pytest.raises(DataError, match="valid row r1: a number was expected, got 'many'"):
            labels.encode([1.0, "many"], rows(2), "valid")
        with pytest.raises(DataError, match="no finite number, the first is row r0"):
            labels.encode([float("inf")], rows(1), "valid")
        with pytest.raises(DataError, match="no label in column 'y', the first is row r0"):
            labels.encode([None], rows(1), "valid")


def test_what_can_be_stratified() -> None:
    assert have_classes([1, 2], "auto", None) and have_classes(["a"], "single_label", None)
    assert not have_classes([0.5], "auto", None) and not have_classes([1, 2], "regression", None)
    assert not have_classes(["a;b"], "auto", ";") and not have_classes([["a"]], "auto", None)
