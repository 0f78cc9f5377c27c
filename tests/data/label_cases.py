"""The table of rules for what is predicted, as cases that every kind of data is held to: docs/labels.md in code.

Each case is a column (or a table of several), what is passed with it, and what must come of it: the kind of task and
the names in their order, or a refusal. Every column has enough rows to be split; a case says nothing about how.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Case:
    """A column to predict, and what becomes of it.

    Args:
        name: of the case.
        make: gives the column, or the table of several columns.
        kind: of the task; empty where it is refused.
        names: of the classes, labels or numbers, in order.
        options: `task`, `label_sep`, `classes`, `log_target`.
        refused: what the message must name.
        says: what is printed; empty for nothing.
        first: the target of the first rows.
    """

    name: str
    make: Callable[[], pd.Series[Any] | pd.DataFrame]
    kind: str = ""
    names: tuple[str, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    says: str = ""
    first: list[Any] | None = None


def column(*values: Any, dtype: Any = None, times: int = 4) -> Callable[[], pd.Series[Any]]:
    """A column in which the values come again and again."""
    return lambda: pd.Series(list(values) * times, name="y", dtype=dtype)


def objects(*values: Any, times: int = 4) -> Callable[[], pd.Series[Any]]:
    return column(*values, dtype=object, times=times)


def arrays(*values: Any) -> Callable[[], pd.Series[Any]]:
    """Cells that are NumPy arrays, as parquet gives lists."""

    def make() -> pd.Series[Any]:
        cells = np.empty(4 * len(values), object)
        for i in range(len(cells)):
            cells[i] = np.array(values[i % len(values)], dtype=object)
        return pd.Series(cells, name="y")

    return make


def arrow(kind: str, *values: Any) -> Callable[[], pd.Series[Any]]:
    """A column of pyarrow's types."""

    def make() -> pd.Series[Any]:
        import pyarrow as pa

        types = {
            "text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "date": pa.date32(),
            "decimal": pa.decimal128(9, 2), "lists": pa.list_(pa.string()), "time": pa.timestamp("us"),
        }  # fmt: skip
        return pd.Series(list(values) * 4, name="y", dtype=pd.ArrowDtype(types[kind]))

    return make


def table(**columns: list[Any]) -> Callable[[], pd.DataFrame]:
    return lambda: pd.DataFrame({name: values * 4 for name, values in columns.items()})


ONE, SEVERAL, NUMBERS = "single_label", "multi_label", "regression"
WHOLE = "whole numbers, taken as classes; task='regression'"
HALVES = [k / 2 for k in range(1, 30)]

CASES = [
    # one class each
    Case("text", column("dog", "cat", "Emu"), ONE, ("Emu", "cat", "dog"), first=[2, 1, 0]),
    Case("text, nullable", column("b", "a", dtype="string"), ONE, ("a", "b")),
    Case("text, Arrow", arrow("text", "b", "a"), ONE, ("a", "b")),
    Case("whole numbers as text", column("10", "9", "2"), ONE, ("2", "9", "10"), first=[2, 1, 0]),
    Case("negative ones as text", column("10", "-9", "2"), ONE, ("-9", "2", "10")),
    Case("leading zeros as text", column("02", "1", "10"), ONE, ("1", "02", "10")),
    Case("words that mean missing elsewhere", column("NA", "null", "b"), ONE, ("NA", "b", "null")),
    Case("bool", column(True, False), ONE, ("False", "True"), first=[1, 0]),
    Case("bool, nullable", column(True, False, dtype="boolean"), ONE, ("False", "True")),
    Case("bool, Arrow", arrow("bool", True, False), ONE, ("False", "True")),
    Case("bool objects", objects(True, False), ONE, ("False", "True")),
    Case("categorical", column("b", "a", dtype="category"), ONE, ("a", "b")),
    Case("categorical of numbers", column(10, 9, dtype="category"), ONE, ("9", "10")),
    Case("categorical of fractions", column(2.5, 10.5, dtype="category"), ONE, ("2.5", "10.5")),
    Case(
        "ordered categorical",
        lambda: pd.Series(pd.Categorical(["lo", "hi", "mid"] * 4, ["lo", "mid", "hi", "none"], ordered=True), name="y"),
        ONE, ("lo", "mid", "hi"), first=[0, 2, 1],
    ),
    Case("mixed types", objects("b", 2, 10, "a"), ONE, ("10", "2", "a", "b")),
    Case("a number and its text", objects("1", 1, "a"), ONE, ("1", "a"), first=[0, 0, 1]),
    Case("ints 1..5", column(1, 2, 3, 4, 5), ONE, tuple("12345"), says=f"5 different {WHOLE}", first=[0, 1, 2, 3, 4]),
    Case("floats 1.0..5.0", column(1.0, 2.0, 3.0, 4.0, 5.0), ONE, tuple("12345"), says=f"5 different {WHOLE}"),
    Case("ints 9 and 10", column(10, 9), ONE, ("9", "10"), says=WHOLE, first=[1, 0]),
    Case("negative ints", column(1, -1, -10), ONE, ("-10", "-1", "1"), says=WHOLE),
    Case("0 and 1", column(0, 1), ONE, ("0", "1")),
    Case("0.0 and 1.0", column(0.0, 1.0), ONE, ("0", "1")),
    Case("nullable Int64", column(3, 1, dtype="Int64"), ONE, ("1", "3"), says=WHOLE),
    Case("nullable Float64", column(3.0, 1.0, dtype="Float64"), ONE, ("1", "3"), says=WHOLE),
    Case("ints, Arrow", arrow("int", 3, 1), ONE, ("1", "3"), says=WHOLE),
    Case("whole floats, Arrow", arrow("float", 3.0, 1.0), ONE, ("1", "3"), says=WHOLE),
    Case("whole objects", objects(3, 1), ONE, ("1", "3"), says=WHOLE),
    Case("whole Decimals", objects(Decimal("3"), Decimal("1.00")), ONE, ("1", "3"), says=WHOLE),
    Case("20 whole numbers", column(*range(20)), ONE, tuple(map(str, range(20))), says=WHOLE),
    Case("21 whole numbers, said to be classes", column(*range(21)), ONE, tuple(map(str, range(21))), {"task": ONE}),
    Case("fractions, said to be classes", column(0.5, 1.5), ONE, ("0.5", "1.5"), {"task": ONE}),
    Case("classes that are given", column("b", "a"), ONE, ("c", "b", "a"), {"classes": ["c", "b", "a"]}, first=[1, 2]),
    Case("whole numbers among them", column(2, 0), ONE, ("c", "b", "a"), {"classes": ["c", "b", "a"]}, first=[2, 0]),
    # several labels each
    Case("label_sep ' '", column("a  b", " c ", "b a a"), SEVERAL, ("a", "b", "c"), {"label_sep": " "},
         first=[[1, 1, 0], [0, 0, 1], [1, 1, 0]]),
    Case("label_sep ';'", column("new york; rome", "rome;"), SEVERAL, ("new york", "rome"), {"label_sep": ";"},
         first=[[1, 1], [0, 1]]),
    Case("label_sep and an empty cell", column("a b", "", None), SEVERAL, ("a", "b"), {"label_sep": " "},
         first=[[1, 1], [0, 0], [0, 0]]),
    Case("label_sep and whole numbers", column("10 9", "2"), SEVERAL, ("2", "9", "10"), {"label_sep": " "}),
    Case("lists", objects(["b", "a"], [], ["a", "a"]), SEVERAL, ("a", "b"), first=[[1, 1], [0, 0], [1, 0]]),
    Case("lists and a missing cell", objects(["b", "a"], None), SEVERAL, ("a", "b"), first=[[1, 1], [0, 0]]),
    Case("tuples", objects(("b", "a"), ("a",)), SEVERAL, ("a", "b")),
    Case("sets", objects({"b", "a"}, frozenset("a")), SEVERAL, ("a", "b")),
    Case("arrays, as in parquet", arrays(["b", "a"], []), SEVERAL, ("a", "b"), first=[[1, 1], [0, 0]]),
    Case("lists, Arrow", arrow("lists", ["b", "a"], [], None), SEVERAL, ("a", "b"), first=[[1, 1], [0, 0], [0, 0]]),
    Case("lists of whole numbers", objects([10, 9], [2]), SEVERAL, ("2", "9", "10")),
    Case("lists and classes", objects(["b"], [0]), SEVERAL, ("a", "b", "c"), {"classes": ["a", "b", "c"]},
         first=[[0, 1, 0], [1, 0, 0]]),
    Case("rows of 0 and 1 with classes", objects([0, 1], [1, 1]), SEVERAL, ("a", "b"), {"classes": ["a", "b"]},
         first=[[0, 1], [1, 1]]),
    Case("columns of 0 and 1", table(a=[0, 1], b=[1, 1]), SEVERAL, ("a", "b"), says="zeros and ones, taken as labels",
         first=[[0, 1], [1, 1]]),
    Case("columns of bool", table(a=[False, True], b=[1.0, 0.0]), SEVERAL, ("a", "b"), says="taken as labels"),
    # numbers
    Case("halves", column(*HALVES), NUMBERS, ("y",), says="numbers, so this is regression", first=[[0.5], [1.0]]),
    Case("two halves", column(0.5, 1.5), NUMBERS, ("y",), says="so this is regression"),
    Case("whole numbers 0..29", column(*range(30)), NUMBERS, ("y",), says="so this is regression"),
    Case("whole floats 0..29", column(*map(float, range(30))), NUMBERS, ("y",), says="so this is regression"),
    Case("Decimals", objects(Decimal("1.50"), Decimal("2.25")), NUMBERS, ("y",), says="regression",
         first=[[1.5], [2.25]]),
    Case("Decimals, Arrow", arrow("decimal", Decimal("1.50"), Decimal("2")), NUMBERS, ("y",), says="regression"),
    Case("numbers in an object column", objects(1.5, 2, Decimal("0.5")), NUMBERS, ("y",), says="regression"),
    Case("nullable fractions", column(0.5, 1.5, dtype="Float64"), NUMBERS, ("y",), says="regression"),
    Case("fractions, Arrow", arrow("float", 0.5, 1.5), NUMBERS, ("y",), says="regression"),
    Case("few whole numbers, said to be numbers", column(1, 2), NUMBERS, ("y",), {"task": NUMBERS}, first=[[1], [2]]),
    Case("text, said to be numbers", column("1.5", "2"), NUMBERS, ("y",), {"task": NUMBERS}, first=[[1.5], [2]]),
    Case("logarithms", column(1, 2), NUMBERS, ("y",), {"log_target": True}, first=[[1], [2]]),
    Case("columns of numbers", table(a=[0.5, 1], b=[1, 2]), NUMBERS, ("a", "b"), says="numbers, so this is regression",
         first=[[0.5, 1], [1, 2]]),
    Case("columns of 0 and 1, said to be numbers", table(a=[0, 1], b=[1, 1]), NUMBERS, ("a", "b"), {"task": NUMBERS}),
    Case("lists of numbers, said to be numbers", objects([0.5, 1], [2, 3]), NUMBERS, ("y 0", "y 1"),
         {"task": NUMBERS}, first=[[0.5, 1], [2, 3]]),
    # refused
    Case("one class only", column("a", "a"), refused="'a'.*nothing to tell apart"),
    Case("one class only, among those given", column(1, 1), options={"classes": ["a", "b"]}, refused="nothing to tell"),
    Case("None for a label", column("a", "b", None), refused="no label.*row 2"),
    Case("an empty text for a label", column("a", "b", " "), refused="no label.*row 2"),
    Case("NaN for a number", column(0.5, 1.5, np.nan), refused="missing.*row 2", says="regression"),
    Case("infinity", column(0.5, np.inf, 1.5), refused="infinite.*row 1", says="regression"),
    Case("pd.NA among nullable numbers", column(1, None, 2, dtype="Int64"), refused="no label.*row 1", says=WHOLE),
    Case("no label at all", column("", None), options={"label_sep": ";"}, refused="no training row.* has a label"),
    Case("dates", lambda: pd.Series(pd.date_range("2024-01-01", periods=8), name="y"), refused="dates.*astype"),
    Case("date objects", objects(dt.date(2024, 1, 1), dt.date(2024, 1, 2)), refused="dates.*row 0.*astype"),
    Case("dates, Arrow", arrow("date", dt.date(2024, 1, 1), dt.date(2024, 1, 2)), refused="dates.*astype"),
    Case("times, Arrow", arrow("time", dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)), refused="dates.*astype"),
    Case("periods", lambda: pd.Series(pd.period_range("2024", periods=8, freq="M"), name="y"), refused="dates"),
    Case("timedeltas", lambda: pd.Series(pd.to_timedelta(range(8), unit="h"), name="y"), refused="durations.*seconds"),
    Case("complex numbers", column(1 + 2j, 2 + 1j), refused=r"complex.*\.real"),
    Case("dates, said to be classes", lambda: pd.Series(pd.date_range("2024", periods=8), name="y"),
         options={"task": ONE}, refused="dates"),
    Case("lists among text", objects(["a"], "b"), refused="row 1.*lists of labels.*'b'"),
    Case("lists with a label missing", objects(["a"], [None]), refused="row 1: a label is missing"),
    Case("arrays with a label missing", arrays(["a"], ["b", np.nan]), refused="row 1: a label is missing"),
    Case("lists of lists", objects(["a"], [["b"]]), refused="row 1"),
    Case("lists of fractions", objects([0.5, 1.5], [2.5, 1]), refused="task='regression'"),
    Case("lists of numbers that differ in length", objects([0.5], [2, 1]), options={"task": NUMBERS}, refused="row 0"),
    Case("dicts", objects({"a": 1}, {"b": 2}), refused="row 0"),
    Case("text among several columns", table(a=[0, 1], b=["x", "y"]), refused=r"\['b'\]"),
    Case("dates among several columns",
         lambda: pd.DataFrame({"a": [0, 1], "b": pd.to_datetime(["2024-01-01", "2024-01-02"])}),
         refused="'b' holds dates"),
    Case("text, said to be several labels", column("a", "b"), options={"task": SEVERAL}, refused="label_sep"),
    Case("text, said to be numbers, and none", column("1", "two"), options={"task": NUMBERS}, refused="row 1: 'two'"),
    Case("a class that is not given", column("a", "d"), options={"classes": ["a", "b"]}, refused="row 1.*'d'.*a, b"),
    Case("a number beyond those given", column(0, 2), options={"classes": ["a", "b"]}, refused="row 1.*2 is not betw"),
    Case("logarithms of what has none", column(1, -2), options={"log_target": True}, refused="no logarithm.*row 1"),
    Case("a number too large", column(1e160, 0.5), refused="no float.*row 0", says="regression"),
    Case("an unknown task", column("a", "b"), options={"task": "single_lable"}, refused="'single_label'"),
]  # fmt: skip
