"""Items of no meaning, whose probabilities a file holds: whoever opens it finds out whether it gives them there, too.

They are made by a rule, not taken from the data: a file that goes out holds nobody's image. No torch is needed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError

Arrays = dict[str, npt.NDArray[Any]]
N = 2
_LENGTH = 16  # wherever a length may vary
KEPT = 2000  # numbers of each item that a file holds of maps
MOST = 2**26  # numbers; a damaged file may ask for any
_DTYPES = {"uint8": np.uint8, "int64": np.int64, "float32": np.float32}
WITHIN = 1e-3  # of a probability; of numbers larger than 1, of their size
WITHIN_ROUNDED = 0.05  # where arithmetic has fewer bits: a number may be rounded to its other neighbour elsewhere


def can_be_made(inputs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each of the inputs, as metadata of a file has them, is of a type that there is a rule for."""
    return all(said["dtype"] in _DTYPES for said in inputs)


def check_items(inputs: Sequence[Mapping[str, Any]], below: Mapping[str, Any]) -> Arrays:
    """`N` items of no meaning.

    Args:
        inputs: name, dtype and shape of each input; lengths that vary have names.
        below: numbers that codes stay under, one for an input or one for each of its columns.

    >>> check_items([{"name": "x", "dtype": "int64", "shape": ["batch", 3]}], {"x": [5]})["x"].tolist()
    [[0, 2, 4], [1, 3, 0]]
    """
    made: Arrays = {}
    for said in inputs:
        name, dtype = str(said["name"]), said["dtype"]
        shape = [_LENGTH if isinstance(n, str) else int(n) for n in list(said["shape"])[1:]]
        if math.prod(shape) > MOST or dtype not in _DTYPES:
            raise WeightsError(f"the input {name[:60]!r} is {str(said['shape'])[:60]} of {dtype!r:.20}; it is damaged")
        pattern = np.arange(N * math.prod(shape)).reshape(N, *shape) * 37 % 251
        if name.rpartition(".")[2] == "lengths":
            pattern = np.full((N, *shape), _LENGTH)
        elif dtype == "int64":
            pattern = pattern % np.maximum(np.array(below.get(name, [1])), 1)
        made[name] = ((pattern / 125 - 1) if dtype == "float32" else pattern).astype(_DTYPES[dtype])
    return made


def kept(probs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What a file holds of what a model gives: of maps some numbers of each item, evenly spread, else megabytes.

    >>> kept(np.zeros((2, 3))).shape, kept(np.zeros((2, 11, 36, 48))).shape
    ((2, 3), (2, 1901))
    """
    flat = probs.reshape(len(probs), -1)
    return probs if probs.ndim <= 2 else flat[:, :: -(-flat.shape[1] // KEPT)]


def difference(found: npt.NDArray[Any], wanted: Any) -> float:
    """The largest difference between numbers, as a fraction of those that are larger than 1; NaN where one is NaN."""
    right = np.array(wanted, np.float64)
    if found.shape != right.shape:
        return math.inf
    return float((np.abs(found - right) / np.maximum(1, np.abs(right))).max())


def refuse_difference(path: Any, found: npt.NDArray[Any], check: Mapping[str, Any]) -> None:
    """A `WeightsError` where a model gives other numbers than its file says it gave where it was exported."""
    off = difference(kept(found), check["probs"])
    if not off <= min(float(check["within"]), WITHIN_ROUNDED):
        raise WeightsError(f"{path} gives other numbers here than where it was exported (by {off:.3g}); export it anew")
