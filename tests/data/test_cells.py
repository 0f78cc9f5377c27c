from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easylearn.data.cells import as_column, read_cell


@given(st.integers() | st.floats(allow_nan=False) | st.booleans(), st.sampled_from(["", " ", "\t"]))
def test_what_python_writes_is_read_as_it_was(value: Any, blank: str) -> None:
    got = read_cell(f"{blank}{value}{blank}")
    assert got == value and type(got) is type(value)


@given(st.text(st.sampled_from("0123456789+-.,eE_xnaif "), max_size=6))
def test_a_number_is_what_python_reads_but_for_what_would_be_lost(text: str) -> None:
    got = read_cell(text)
    if isinstance(got, int | float):
        assert got == float(text)
        digits = text.strip().lstrip("-")
        assert not digits.startswith("+") and not (digits[:1] == "0" and digits[1:2].isdigit()) and "_" not in text


@pytest.mark.parametrize(
    ("text", "comma", "value"),
    [
        ("1,5", True, 1.5), ("1.5", True, "1.5"), ("1,5", False, "1,5"), ("2", True, 2), ("1,2,3", True, "1,2,3"),
        ("01,5", True, "01,5"), ("1e3", True, 1000.0), ("-INF", False, -np.inf), ("infinity", False, np.inf),
        ("TRUE", False, True), ("tRUE", False, "tRUE"), (" N/A ", False, None), ("-", False, "-"), (".", False, "."),
        ("\u0661", False, "\u0661"), ("1.", False, 1.0), ("- 1", False, "- 1"), ("0", False, 0), ("-0", False, 0),
    ],
)  # fmt: skip
def test_cells(text: str, comma: bool, value: Any) -> None:
    assert read_cell(text, comma) == value


def test_a_column_of_text_is_left_as_it_is() -> None:
    for values in (["x", "1"], ["1"] * 200 + ["x"], ["NA", ""], ["", "True", "1"]):
        column = as_column(values)
        assert [v for v in column.tolist() if v == v] == [v for v in values if v]
        assert column.isna().tolist() == [not v for v in values]
    assert as_column(["", "2"]).equals(pd.Series([np.nan, 2.0]))


@pytest.mark.parametrize(
    ("cells", "lost"),
    [
        (["1.9", "1.10", "1.1"], "'1.10' and '1.1' of the column 'version'"),
        (["1.50", "2", "1.9"], ""),
        (["1.50", "2.00", "1.50"], ""),
        (["2.0", "2", "2e0"], ""),
        (["1.5e10", "1.5e1", "15"], ""),
        (["1.1", "1.10", "x"], ""),
    ],
)
def test_versions_that_become_one_number_are_told(cells: list[str], lost: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        as_column(cells, "version")
        as_column(cells, "version", "text"), as_column(cells, "version", "numbers")
    assert [lost in str(w.message) for w in caught] == [True] * bool(lost)
