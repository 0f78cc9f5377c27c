"""Rows that come batch by batch, put together: in memory, or, where they are many, in a file that is mapped."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO

import torch
from torch import Tensor

from ..errors import DataError, EasyLearnError
from ..files import cache_dir, mapped_copy

MOST = 2**29  # bytes that stay in memory: with the copy that puts them together a GB
_PIECE = 2**26  # bytes that are worked on together where there are more


class Gathered:
    """Rows (b, ...) of one shape, and of the type of the first ones, in the order in which they come.

    What is more than `MOST` is written to a file of the cache folder without a name, which is gone with the process, or
    when nobody has the rows any more. Where no file can be made they stay in memory.

    >>> rows = Gathered()
    >>> rows.add(torch.tensor([[1.0, 2.0]]))
    >>> rows.add(torch.tensor([[3.0, 4.0]]))
    >>> rows.tensor()
    tensor([[1., 2.],
            [3., 4.]])
    """

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def add(self, rows: Tensor) -> None:
        """Take in some rows, on the CPU.

        Raises:
            DataError: they are of another shape than those before.
        """
        if self._rows:
            like = self._rows[0]
            if rows.shape[1:] != like.shape[1:]:
                raise DataError(
                    f"what is predicted of some items has the shape {tuple(like.shape[1:])}, of others "
                    f"{tuple(rows.shape[1:])}, so it cannot be put together: the outputs of all have to be of one size"
                )
            rows = rows.to(like.dtype)
        self._rows.append(rows)
        self._bytes += rows.nbytes
        if self._bytes <= MOST:
            return
        if self._file is None:
            with suppress(OSError):
                cache_dir().mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=cache_dir())  # noqa: SIM115 - it lives as long as they
                weakref.finalize(self, self._file.close)
        if self._file is not None:
            try:
                for some in self._rows:
                    self._file.write(some.contiguous().numpy().data)
                self._file.flush()
            except OSError as error:
                with suppress(OSError):  # which writes what waits once more
                    self._file.close()
                raise EasyLearnError(
                    f"{cache_dir()} is full ({error.strerror}) at {self._bytes >> 20:,} MB of what a model says of the "
                    "items, which are gone: nothing is kept of them. Free some space there, or set the environment "
                    "variable EASYLEARN_CACHE to a folder with more room, and predict again; or a few items at a time, "
                    "as predictor.stream(items) does, which keeps none"
                ) from error
            self._rows = [rows[:0].clone()]  # a view would keep all of them in memory

    def tensor(self) -> Tensor:
        """All rows, (n, ...). Changes to them do not reach the file."""
        if self._file is None:
            return self._rows[0] if len(self._rows) == 1 else torch.cat(self._rows)
        (like,) = self._rows
        mapped = mapped_copy(self._file.fileno(), self._bytes)
        return torch.frombuffer(mapped, dtype=like.dtype).view(-1, *like.shape[1:])


def stacked(each: Iterable[Tensor]) -> Tensor:
    """Tensors of one shape, one after the other, as one, (v, ...); a single one is not copied.

    >>> stacked([torch.zeros(2), torch.ones(2)])
    tensor([[0., 0.],
            [1., 1.]])
    """
    rest = iter(each)
    first, second = next(rest), next(rest, None)
    if second is None:
        return first[None]
    found = Gathered()
    found.add(first[None])
    found.add(second[None])
    del first, second
    for one in rest:
        found.add(one[None])
    return found.tensor()


def by_pieces(fn: Callable[..., Tensor], *given: Tensor, n_bytes: int = 0) -> Tensor:
    """What `fn` makes of the rows of tensors (n, ...), each by itself: of all at once, or gathered where that is much.

    Args:
        fn: is given some rows of each.
        given: the tensors.
        n_bytes: of what rows are only named by what is given, as by numbers.

    >>> by_pieces(torch.exp, torch.zeros(3))
    tensor([1., 1., 1.])
    """
    n, n_bytes = len(given[0]), max(n_bytes, *(rows.nbytes for rows in given))
    if n_bytes <= MOST:
        return fn(*given)
    found, few = Gathered(), max(1, n * _PIECE // n_bytes)
    for a in range(0, n, few):
        found.add(fn(*(rows[a : a + few] for rows in given)))
    return found.tensor()
