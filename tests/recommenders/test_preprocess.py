"""Histories in every form that they come in, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from easylearn.errors import DataError, EasyLearnWarning, WeightsError
from easylearn.recommenders.gather import Columns
from easylearn.recommenders.preprocess import HistoryPreprocessor
from easylearn.task import ranking

ITEMS = ("7", "Air", "Muse", "Oasis")
PREPARE = HistoryPreprocessor(ITEMS, Columns("who", "what", "plays"))
CPU = torch.device("cpu")


def rows(given: Any) -> list[list[float]]:
    """The weights as they were given."""
    read = PREPARE.read(given)
    (x,) = PREPARE.source(read.values).fetch(np.arange(len(read)), CPU)
    assert len(x) == len(read.ids)
    return x.expm1().round(decimals=4).tolist()


@pytest.mark.parametrize(
    "given",
    [
        ["Air", "Muse"], ("Air", "Muse"), np.array(["Air", "Muse"]), pd.Series(["Air", "Muse"]),
        {"history": ["Air", "Muse"]}, {"Air": 1, "Muse": 1.0}, {"history": {"Muse": 1, "Air": 1, "7": 0}},
    ],
    ids=str,
)  # fmt: skip
def test_one_history_in_any_form(given: Any) -> None:
    assert PREPARE.read(given).single and rows(given) == [[0, 1, 1, 0]]
    assert not PREPARE.read([given]).single and rows([given, ["Oasis"]]) == [[0, 1, 1, 0], [0, 0, 0, 1]]


def test_numbers_are_names_too_and_what_comes_twice_counts_twice() -> None:
    assert rows([7, 7.0, "Muse", "7"]) == [[3, 0, 1, 0]]
    assert rows([[], {}, {"history": []}]) == [[0] * 4] * 3


def test_a_table_and_a_file_are_of_persons(tmp_path: Path) -> None:
    df = pd.DataFrame({"who": ["b", "a", "b"], "what": ["Air", "Muse", "7"], "plays": [2, 3, 1], "more": 0})
    read = PREPARE.read(df)
    assert read.ids == ("b", "a") and rows(df) == [[1, 2, 0, 0], [0, 0, 3, 0]]
    assert rows(df.drop(columns="plays")) == [[1, 1, 0, 0], [0, 0, 1, 0]]
    df.to_csv(tmp_path / "new.csv", index=False)
    (of_file,) = PREPARE.read_file(tmp_path / "new.csv", 10)
    assert of_file.ids == ("b", "a")
    with pytest.raises(DataError, match="no column 'what'"):
        PREPARE.read(df.drop(columns="what"))


def test_what_is_not_known_is_left_out_and_told() -> None:
    with pytest.warns(EasyLearnWarning, match="'Mues'.*'Muse'"):
        assert rows(["Air", "Mues"]) == [[0, 1, 0, 0]]
    with pytest.warns(EasyLearnWarning, match="'a', 'b'"):
        assert rows([["a"], ["b", "a"]]) == [[0] * 4] * 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"\[\[\]\]"),
        ("Air", r"\[name\]"),
        (None, "got None"),
        ([["Air"], 3], "history 1"),
        ([[["Air"]]], "history 0"),
        ([["Air", None]], "history 0 holds None"),
        ({"Air": -1}, "'Air'"),
        ({"Air": float("nan")}, "nan"),
        ({"Air": "much"}, "much"),
        ({"history": "Air"}, "history 0"),
    ],
)
def test_what_is_no_history_is_told(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PREPARE.read(given)


def test_a_damaged_recipe_is_refused() -> None:
    task = ranking(ITEMS)
    assert vars(HistoryPreprocessor.from_recipe(PREPARE.recipe(), task).columns) == vars(PREPARE.columns)
    for damaged in ({}, {"columns": None}, {"columns": {"user": "a"}}):
        with pytest.raises(WeightsError, match="damaged"):
            HistoryPreprocessor.from_recipe(damaged, task)
