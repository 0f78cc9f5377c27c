from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easylearn.data.cells import read_cell, typed


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


def test_a_column_of_text_is_returned_as_it_is() -> None:
    for values in (["x", "1"], ["1"] * 200 + ["x"], ["NA", None], [None, "True", "1"]):
        column = pd.Series(values, dtype=object)
        assert typed(column) is column
    assert typed(pd.Series([None, "2"], name="n", index=[5, 5])).equals(
        pd.Series([np.nan, 2.0], name="n", index=[5, 5])
    )
