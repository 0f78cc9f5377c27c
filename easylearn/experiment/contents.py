"""What items hold, whatever they are: names, digests, small gray copies of images, words, columns; for an audit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import keyed
from ..data.branched import BranchedData
from ..data.bunch import Data, SplitName
from ..errors import ArgumentError, DataError, did_you_mean
from ..files import digest
from ..tabular.data import TabularData
from ..task import Task
from ..texts.data import TextData
from ..vision.data import ImageData

if TYPE_CHECKING:
    import pandas as pd

SMALL = 32  # pixels of the side of a gray copy
CPU = torch.device("cpu")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contents:
    """What some items hold; None where items are of another kind, or it was not looked at.

    Args:
        ids: their names.
        named: whether the names say which item it is, and are not only numbers within a split.
        targets: codes of classes, or numbers, shape (n,).
        numbers: whether targets are numbers.
        keys: equal for equal contents; "" for what may be equal by chance.
        gray: of images, shape (n, SMALL, SMALL).
        words: of texts.
        columns: of rows, shape (n, columns), with codes for what is no number.
        names: of these columns.
    """

    ids: list[str]
    named: bool = True
    targets: Floats | None = None
    numbers: bool = False
    keys: list[str] | None = None
    gray: npt.NDArray[np.float32] | None = None
    words: list[list[str]] | None = None
    columns: Floats | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


def contents_of(data: Data[Any], split: SplitName, cheap: bool) -> Contents:
    """The contents of a split of data of any kind; what takes long is left out where it should be `cheap`."""
    ids = [str(i) for i in data.ids(split)]
    named = ids != [str(i) for i in range(len(ids))]
    plain = Contents(ids, named)
    if isinstance(data, ImageData):
        targets = _targets(data.loader(split).target, data.task)
        gray = None if cheap else _gray(data, split)
        plain = replace(plain, targets=targets, keys=_image_keys(data._split(split).sources), gray=gray)
    elif isinstance(data, TextData):
        texts = [_text(data.describe_item(split, i)) for i in range(len(ids))]
        keys = [digest([" ".join(words)]) if words else "" for words in texts]
        target = _targets(data._split(split).target, data.task)
        plain = replace(plain, targets=target, keys=keys, words=None if cheap else texts)
    elif isinstance(data, BranchedData):
        targets = _targets(data.loader(split).target, data.task)
        plain = replace(plain, targets=targets, keys=list(data.item_keys(split)))
    else:
        plain = _of_tensors(data, split, plain)
    return replace(plain, numbers=data.task.predicts_numbers)


def contents_of_frame(frame: pd.DataFrame, target: str | None) -> Contents:
    """The contents of a table.

    Args:
        frame: one row per item.
        target: the column to predict.
    """
    import pandas as pd

    if target is not None and target not in frame:
        raise ArgumentError(f"the table has no column {target!r}. {did_you_mean(str(target), map(str, frame.columns))}")
    told = frame.drop(columns=[] if target is None else [target])
    columns = []
    for _, column in told.items():
        number = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
        values = column if number else pd.Series(pd.factorize(column.astype(str))[0])
        columns.append(values.to_numpy(np.float64, na_value=np.nan))
    matrix = np.stack(columns, 1) if columns else np.zeros((len(frame), 0))
    targets, numbers = None, False
    if target is not None:
        y = frame[target]
        numbers = pd.api.types.is_float_dtype(y.dtype) or (pd.api.types.is_integer_dtype(y.dtype) and y.nunique() > 20)
        codes = None if numbers else pd.Series(pd.factorize(_hashable(y))[0])
        targets = (y if codes is None else codes).to_numpy(np.float64, na_value=np.nan)
    plain = pd.DataFrame({k: _hashable(told.iloc[:, k]) for k in range(told.shape[1])})
    keys = [str(k) for k in pd.util.hash_pandas_object(plain.astype(object), index=False)] if len(columns) else None
    names = tuple(map(str, told.columns))
    ids = [str(i) for i in frame.index]
    return Contents(ids, False, targets, numbers, _distinct(keys, matrix), columns=matrix, names=names)


def _hashable(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column whose cells can be told apart: lists, dictionaries and arrays by what they are written as."""
    held = column.dtype == object and not all(isinstance(v, Hashable) for v in column)
    return column.map(repr, na_action="ignore") if held else column


def _targets(target: Tensor | None, task: Task) -> Floats | None:
    """One number per item; None where an item has several."""
    if target is None or task.is_multi or target[:1].numel() != 1:
        return None
    found: Floats = target.reshape(-1).double().numpy()
    return found


def _image_keys(sources: Sequence[Any]) -> list[str]:
    """Digests of contents. Files of a size that no other has are equal to none, and are not read."""
    sizes = [os.stat(s).st_size if isinstance(s, str | Path) else -1 for s in sources]
    keys = []
    for source, size in zip(sources, sizes, strict=True):
        if size >= 0:
            keys.append(f"{size}:{source}")
        else:
            array = np.ascontiguousarray(source.numpy() if isinstance(source, Tensor) else np.asarray(source))
            keys.append(digest([str(array.shape), array.reshape(-1).view(np.uint8).data]))
    return keys


def settle_files(keys: list[str]) -> list[str]:
    """Read the files that have the size of another one, and give them the digests of their bytes."""
    parts = [key.partition(":") for key in keys]
    often = Counter(size for size, colon, _ in parts if colon)
    settled = []
    for key, (size, colon, path) in zip(keys, parts, strict=True):
        settled.append(digest([Path(path).read_bytes()]) if colon and often[size] > 1 else key)
    return settled


def _gray(data: ImageData, split: SplitName) -> npt.NDArray[np.float32]:
    """Each image as the model sees it, small and gray, without its mean and contrast; noise where it has none."""
    found = torch.zeros(len(data.ids(split)), SMALL, SMALL)
    with closing(data.loader(split).batches(CPU)) as batches:
        for batch in batches:
            gray = batch.inputs[0].float().mean(1, keepdim=True)
            found[batch.index] = F.adaptive_avg_pool2d(gray, SMALL)[:, 0]
    found -= found.mean((1, 2), keepdim=True)
    flat = found.flatten(1).norm(dim=1) < 0.02 * SMALL
    found[flat] = torch.randn(int(flat.sum()), SMALL, SMALL, generator=keyed.generator(0, "flat", split))
    gray_ones: npt.NDArray[np.float32] = (found / found.flatten(1).norm(dim=1)[:, None, None]).numpy()
    return gray_ones


def _text(described: dict[str, str]) -> list[str]:
    """The words of a document, without what typing changes."""
    text = " ".join(described.values()).lower()
    return "".join(c if c.isalnum() else " " for c in text).split()


def _of_tensors(data: Data[Any], split: SplitName, plain: Contents) -> Contents:
    """Rows of a table, or of tensors: what their loader gives."""
    inputs: list[list[Tensor]] = []
    order: list[Tensor] = []
    targets: list[Tensor] = []
    try:
        loader = data.loader(split)
    except DataError:
        return plain
    with closing(loader.batches(CPU)) as batches:
        for batch in batches:
            inputs.append([t.reshape(len(batch.index), -1).double() for t in batch.inputs if t.ndim])
            order.append(batch.index)
            targets += [] if batch.target is None else [batch.target]
    if not order or len(plain) != sum(map(len, order)):
        return plain
    back = torch.argsort(torch.cat(order))
    matrix: Floats = torch.cat([torch.cat(row, 1) for row in inputs])[back].numpy()
    found = _targets(torch.cat(targets)[back], data.task) if targets else None
    rows = np.ascontiguousarray(matrix)
    keys = [digest([row.data.cast("B")]) for row in rows]
    named = tuple(f"column {i}" for i in range(matrix.shape[1]))
    unknown = np.zeros(len(rows), bool)
    if isinstance(data, TabularData):
        named = (*data.cat_names, *data.cont_names)
        unknown = (matrix[:, : len(data.cat_names)] == 0).any(1)  # two unknown values need not be the same one
    keys = ["" if odd else key for key, odd in zip(keys, unknown, strict=True)]
    wide = matrix.shape[1] > 1000
    return replace(plain, targets=found, keys=_distinct(keys, matrix), columns=None if wide else matrix, names=named)


def _distinct(keys: list[str] | None, matrix: Floats) -> list[str] | None:
    """The keys; "" where columns have so few values that equal rows come by chance."""
    if keys is None or not len(keys):
        return keys
    different = matrix[np.unique(keys, return_index=True)[1]]
    pairs = len(different) * (len(different) - 1) / 2
    alike = 0.0  # the logarithm of how probable it is that two rows are equal, were the columns independent
    for column in different.T:
        _, counts = np.unique(column, return_counts=True)
        alike += float(np.log(((counts * (counts - 1) / 2).sum() + 0.5) / (pairs + 0.5)))
    return keys if 0.5 * len(keys) ** 2 * np.exp(alike) < 1 else [""] * len(keys)


def pairs_alike(gray: npt.NDArray[np.float32], least: float, fine: float, block: int = 1024) -> list[tuple[int, int]]:
    """Pairs of images that are the same but for size, compression or a mirror.

    Args:
        gray: see `Contents`.
        least: the correlation of copies of half the size, above which two are compared.
        fine: the correlation above which they are the same.
        block: how many are compared at a time.
    """
    half = F.avg_pool2d(torch.from_numpy(gray)[:, None], 2)[:, 0]
    half = half / half.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-12)
    mirrored, straight = half.flip(2).flatten(1), half.flatten(1)
    found = set[tuple[int, int]]()
    for a in range(0, len(gray), block):
        for b in range(a, len(gray), block):
            for other in (straight, mirrored):
                near = (straight[a : a + block] @ other[b : b + block].T > least).nonzero() + torch.tensor([a, b])
                found.update((i, j) for i, j in near.tolist() if i < j)
    whole = gray.reshape(len(gray), -1)
    flipped = np.ascontiguousarray(gray[:, :, ::-1]).reshape(len(gray), -1)
    return sorted((i, j) for i, j in found if max(whole[i] @ whole[j], whole[i] @ flipped[j]) > fine)


def texts_alike(words: Sequence[list[str]], least: float, n: int = 3, sketch: int = 48) -> list[tuple[int, int]]:
    """Pairs of texts of which this share of all runs of `n` words is common; found by their smallest digests."""
    runs = [{" ".join(text[i : i + n]) for i in range(len(text) - n + 1)} for text in words]
    held: dict[int, list[int]] = {}
    for i, some in enumerate(runs):
        if len(some) < 5:
            continue
        for number in sorted(int.from_bytes(digest([run]).encode()[:8], "big") for run in some)[:sketch]:
            held.setdefault(number, []).append(i)
    common: Counter[tuple[int, int]] = Counter()
    for rows in held.values():
        if len(rows) <= 50:  # a run that many have says nothing
            common.update((a, b) for k, a in enumerate(rows) for b in rows[k + 1 :])
    return sorted(
        pair
        for pair, times in common.items()
        if times >= 4 and len(runs[pair[0]] & runs[pair[1]]) > least * len(runs[pair[0]] | runs[pair[1]])
    )
