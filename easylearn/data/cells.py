"""Cells of text as what they say: numbers, truth values, or text; decided over a whole column, or cell by cell."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import EasyLearnWarning
from .values import MISSING_WORDS

if TYPE_CHECKING:
    import pandas as pd

Known = Literal["text", "numbers", ""]

EXACT = 2**53  # up to here a float64 tells every whole number from the next
_USUAL = re.compile(r"-?(?:0|[1-9]\d*)((?:\.\d+)?(?:[eE][+-]?\d+)?)", re.ASCII)
_NUMBER = re.compile(r"-?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|-?inf(inity)?", re.ASCII | re.IGNORECASE)
_COMMA = re.compile(r"-?(0|[1-9]\d*),\d+", re.ASCII)
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
EMPTY = frozenset({"", "nan", "nAn", "naN", "nAN", "Nan", "NAn", "NaN", "NAN"})
FIRST = 100  # cells that are tried before a whole column is


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
    found = _USUAL.fullmatch(bare)
    if found and not found[1]:
        return int(bare)
    if comma and _COMMA.fullmatch(bare):
        return float(bare.replace(",", "."))
    if not (comma and "." in bare) and _NUMBER.fullmatch(bare):
        return float(bare)
    if bare in _TRUTH:
        return _TRUTH[bare]
    return None if bare.lower() in MISSING_WORDS else text


def as_column(
    cells: Sequence[str] | npt.NDArray[np.object_], name: str = "", known: Known = "", *, comma: bool = False
) -> pd.Series[Any]:
    """Cells as a column of numbers, truth values or text.

    Args:
        cells: empty where one is missing.
        name: of the column, for messages.
        known: "text" leaves them as they are; "numbers" reads them one by one, and those that are none stay text among
            the others. Otherwise one such cell makes the whole column text.
        comma: fractions may follow a comma, as they do in files that are parted by semicolons.

    Returns:
        int64 or uint64; float64 where something is missing or has a fraction, and always if known; but Int64 or UInt64
        for whole numbers so large that a float64 would change them; bool or boolean; or text, in which an empty cell
        and "nan" are missing. Whole numbers of more than 64 bits are text.

    >>> as_column(["1", "NA", "2.5"]).tolist(), as_column(["1", "NA", "x"]).tolist()
    ([1.0, nan, 2.5], ['1', 'NA', 'x'])
    """
    import pandas as pd

    if known == "numbers" or (not known and no_text(cells[:FIRST], comma)):
        codes, texts = pd.factorize(np.asarray(cells, object))
        values = _values(texts.tolist(), comma, known == "numbers")
        held = None if values is None else _array(values, known == "numbers")
        if held is not None:
            if not known and held.dtype.kind == "f":
                _tell_lost_zeros(name, texts.tolist(), held)
            numbers: pd.Series[Any] = pd.Series(held[codes])
            return numbers
    text: pd.Series[Any] = pd.Series([np.nan if cell in EMPTY else cell for cell in cells], dtype=str)
    return text


def no_text(cells: Sequence[str] | npt.NDArray[np.object_], comma: bool) -> bool:
    """Whether nothing of a column, or of its beginning, says that it is text."""
    return any(not any(isinstance(read_cell(cell, style), str) for cell in cells) for style in {comma, False})


def _values(texts: list[str], comma: bool, each: bool) -> list[Any] | None:
    """What distinct cells say; None where one of them makes the whole column text."""
    if each:
        return [v if not isinstance(v := read_cell(t, comma), str) else read_cell(t) for t in texts]
    for style in (True, False) if comma else (False,):
        values = [read_cell(t, style) for t in texts]
        if str not in set(map(type, values)):  # only words for "missing" are words
            return values if EMPTY.issuperset(texts) or any(v is not None for v in values) else None
    return None


def _array(values: list[Any], each: bool) -> Any:
    """The distinct values of a column in an array of the type that holds the column; None where only text does."""
    import pandas as pd

    kinds = set(map(type, values))
    gaps = type(None) in kinds
    kinds -= {type(None)}
    whole = [v for v in values if type(v) is int]
    if not kinds:
        return np.full(len(values), np.nan)
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


def _tell_lost_zeros(name: str, texts: Sequence[str], values: Any) -> None:
    """Warn where two cells that differ by the zeros at their end only, as versions do, became one number."""
    if len(np.unique(values)) == len(texts):
        return
    bare: dict[str, str] = {}
    for text in texts:
        found = _USUAL.fullmatch(text.strip())
        if found and found[1][1:].isdigit() and (other := bare.setdefault(found[0].rstrip("0"), text)) != text:
            warnings.warn(
                f"the cells {other!r} and {text!r} of the column {name!r} are read as one number. If they are versions "
                f"or codes, pass the DataFrame that pandas.read_csv(path, dtype={{{name!r}: str}}) gives",
                EasyLearnWarning,
                stacklevel=5,
            )
            return
