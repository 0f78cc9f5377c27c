"""Cells of text as what they say: numbers, truth values, or text; decided over a whole column, or cell by cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .values import MISSING_WORDS

if TYPE_CHECKING:
    import pandas as pd

EXACT = 2**53  # up to here a float64 tells every whole number from the next
_WHOLE = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_NUMBER = re.compile(r"-?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|-?inf(inity)?", re.ASCII | re.IGNORECASE)
_COMMA = re.compile(r"-?(0|[1-9]\d*),\d+", re.ASCII)
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_FIRST = 100  # cells that are tried before a whole column is


def read_cell(text: str, comma: bool = False) -> Any:
    """What one cell says.

    Args:
        text: the cell.
        comma: a fraction follows a comma, not a dot.

    Returns:
        An int, a float, a bool, None where a word for "missing" stands, or else the text as it is. What has a zero or a
        plus before its digits is text: it is a code or a telephone number, and would lose them.

    >>> [read_cell(t) for t in ("7", "-0.5", "1e3", "True", "N/A", "01234", "1_000", "0x10")]
    [7, -0.5, 1000.0, True, None, '01234', '1_000', '0x10']
    """
    bare = text.strip()
    if _WHOLE.fullmatch(bare):
        return int(bare)
    if comma and _COMMA.fullmatch(bare):
        return float(bare.replace(",", "."))
    if not (comma and "." in bare) and _NUMBER.fullmatch(bare):
        return float(bare)
    if bare in _TRUTH:
        return _TRUTH[bare]
    return None if bare.lower() in MISSING_WORDS else text


def typed(column: pd.Series[Any], *, each: bool = False, comma: bool = False) -> pd.Series[Any]:
    """A column of text as numbers or truth values.

    Args:
        column: text; missing where a cell is empty.
        each: cells are read one by one, and those that are neither stay text among the others. Otherwise one such cell
            makes the whole column text, and it is returned as it is.
        comma: fractions may follow a comma, as they do in files that are parted by semicolons.

    Returns:
        int64 or uint64; float64 where something is missing or has a fraction, and always with `each`; but Int64 or
        UInt64 for whole numbers so large that a float64 would change them; bool or boolean; or text. Whole numbers of
        more than 64 bits are text.

    >>> import pandas as pd
    >>> typed(pd.Series(["1", "NA", "2.5"])).tolist(), typed(pd.Series(["1", "NA", "x"])).tolist()
    ([1.0, nan, 2.5], ['1', 'NA', 'x'])
    """
    import pandas as pd

    styles = (True, False) if comma else (False,)
    some = column.iloc[:_FIRST].dropna().tolist()
    if not each and not any(_no_text(some, style) for style in styles):
        return column  # without a look at the rest
    codes, found = pd.factorize(column)
    texts = list(found)
    if each:
        values = [v if not isinstance(v := read_cell(t, comma), str) else read_cell(t) for t in texts]
    else:
        style = next((style for style in styles if _no_text(texts, style)), None)
        if style is None:
            return column
        values = [read_cell(t, style) for t in texts]
    held = _array(values, bool((codes < 0).any()) or None in values, each)
    if held is None:
        return column
    cells = pd.api.extensions.take(held, codes, allow_fill=True)
    made: pd.Series[Any] = pd.Series(cells, index=column.index, name=column.name)
    return made


def _no_text(texts: Sequence[str], comma: bool) -> bool:
    return not any(isinstance(read_cell(t, comma), str) for t in texts)


def _array(values: list[Any], gaps: bool, each: bool) -> Any:
    """The distinct values of a column in an array of the type that holds the column; None where only text does."""
    import pandas as pd

    kinds = {type(v) for v in values if v is not None}
    whole = [v for v in values if type(v) is int]
    if not kinds:
        return np.full(len(values), np.nan) if each or not values else None  # only words for "missing": they are words
    if kinds == {bool}:
        return pd.array(values, "boolean") if gaps else np.array(values)
    if not kinds <= {int, float} or (whole and (max(whole) >= 2**64 or min(whole) < -(2**63))):
        return np.array(values, object) if each else None
    if kinds == {int} and not (each or gaps):
        if max(whole) < 2**63:
            return np.array(values, np.int64)
        return np.array(values, np.uint64) if min(whole) >= 0 else None
    if kinds == {int} and max(map(abs, whole)) > EXACT:
        return pd.array(values, "Int64" if max(whole) < 2**63 else "UInt64")
    return np.array([np.nan if v is None else v for v in values], np.float64)
