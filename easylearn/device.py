"""Which device to compute on, in which precision it can, and with how many threads."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import torch

from .errors import ArgumentError

Precision = Literal["fp32", "bf16", "fp16"]


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or the best there is: CUDA, then Apple's GPU, then the CPU.

    Args:
        device: such as "cpu" or "cuda:1"; None chooses.

    Raises:
        ArgumentError: the device is not there.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ArgumentError(f"unknown device {device!r}: expected such as 'cpu', 'cuda' or 'cuda:0'") from error
    missing = (chosen.type == "cuda" and not torch.cuda.is_available()) or (
        chosen.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ArgumentError(f"device {device!r} is not available here; leave device=None to take the best there is")
    return chosen


def check_precision(precision: str, device: torch.device) -> Precision:
    """Refuse a precision that does not exist or that the device cannot compute in."""
    if precision == "fp32":
        return "fp32"
    if precision == "bf16":
        if device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ArgumentError("this GPU has no bfloat16; use precision='fp16' or 'fp32'")
        return "bf16"
    if precision == "fp16":
        if device.type == "mps":
            raise ArgumentError("fp16 with loss scaling is not supported on Apple's GPU; use precision='fp32'")
        return "fp16"
    raise ArgumentError(f"precision must be 'fp32', 'bf16' or 'fp16', got {precision!r}")


@functools.lru_cache
def prepare(device: torch.device) -> None:
    """What this process does once before it computes on a device: when a fit begins, and where pictures are batched.

    On the CPU it keeps freed memory. Setting the number of threads to what it is looks idle, but it is then settled:
    MKL no longer chooses fewer where it sees fit, which it does until somebody has set them. Sums, and so runs, must
    not depend on who did before.
    """
    if device.type == "cpu":
        keep_freed_memory()
        torch.set_num_threads(torch.get_num_threads())


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next allocations.

    glibc gives large blocks back to the system at once and asks for them again at the next step; each page of them is
    then cleared anew. A language model of 16,000 words took 409,000 page faults a step that way, and 2.4 times as long.

    Returns:
        Whether the setting was made: False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
        return bool(libc.mallopt(mmap_max, 0) and libc.mallopt(trim_threshold, 2**31 - 1))
    except (OSError, AttributeError):
        return False  # another C library, such as musl


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def at_most_threads(n: int) -> Iterator[None]:
    """Let torch compute with at most `n` threads for the while."""
    before = torch.get_num_threads()
    if n >= before:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def mapping(n: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, or for two threads and more that of a pool, which begins at once and forgets the rest after an error."""
    if n < 2:
        yield map
        return
    pool = ThreadPoolExecutor(n)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
