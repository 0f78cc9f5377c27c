"""Lines: what was written is read again, and a crash at any byte loses at most the last row."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easylearn.errors import DataError
from easylearn.experiment.lines import append_lines, cut_lines, line_of, read_line, read_lines, seal

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ROWS = [{"step": i, "loss": i / 7, "word": 'a "sum": "x"}\n é'} for i in range(5)]


def finite(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(max_size=6).filter(lambda k: k != "sum"), PLAIN, max_size=5))
def test_a_row_comes_back_and_its_line_is_json(row: dict[str, Any]) -> None:
    line = line_of(row)
    assert line.count("\n") == 1 and line.endswith("\n")
    assert read_line(line.encode()) == finite(row)
    assert {k: v for k, v in json.loads(line).items() if k != "sum"} == finite(row)


def test_no_number_is_a_text_that_float_reads() -> None:
    row = read_line(line_of({"a": math.nan, "b": [math.inf, {"c": -math.inf}]}).encode())
    assert row is not None and math.isnan(float(row["a"])) and float(row["b"][0]) == math.inf
    assert float(row["b"][1]["c"]) == -math.inf


def test_a_line_written_by_hand_is_the_same() -> None:
    assert seal('{"a": 1, "b": 0.1, ') == line_of({"a": 1, "b": 0.1})


@given(st.integers(0, 60), st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    line = bytearray(line_of({"step": 3, "loss": 0.25, "rates": [0.1]}).encode())
    line[place % len(line)] ^= change
    assert read_line(bytes(line)) is None


def test_pandas_reads_the_file(tmp_path: Path) -> None:
    append_lines(tmp_path / "a.jsonl", map(line_of, ROWS))
    assert pd.read_json(tmp_path / "a.jsonl", lines=True)["loss"].tolist() == pytest.approx([r["loss"] for r in ROWS])


def test_every_truncation_loses_at_most_the_last_row_and_can_be_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    append_lines(file, map(line_of, ROWS), sync=True)
    whole, ends = file.read_bytes(), [place for place, _ in read_lines(file)]
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        kept = sum(end <= size for end in ends)
        assert [row for _, row in read_lines(file)] == ROWS[:kept]
        append_lines(file, [line_of({"more": 1})])
        assert [row for _, row in read_lines(file)] == [*ROWS[:kept], {"more": 1}]


def test_a_file_that_is_not_there_has_no_rows_and_nothing_makes_none(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "none")) == []
    append_lines(tmp_path / "none", [])
    cut_lines(tmp_path / "none", 3)
    assert not (tmp_path / "none").exists()


def test_damage_before_whole_lines_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    append_lines(file, map(line_of, ROWS))
    file.write_bytes(file.read_bytes().replace(b'"step": 2', b'"step": 9'))
    with pytest.raises(DataError, match=r"line 3 of .*a\.jsonl"):
        list(read_lines(file))


def test_cut_and_written_on(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    append_lines(file, map(line_of, ROWS))
    cut_lines(file, next(place for place, row in read_lines(file) if row["step"] == 1))
    append_lines(file, [line_of({"step": 7})])
    assert [row["step"] for _, row in read_lines(file)] == [0, 1, 7]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.jsonl"
    append_lines(file, [line_of(ROWS[0])])
    before = file.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        append_lines(file, map(line_of, ROWS[1:]), sync=True)
    assert file.read_bytes() == before
