"""Which device to compute on, in which precision it can, and with how many threads."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal, cast, get_args

import torch

from .errors import ArgumentError

Precision = Literal["fp32", "bf16", "fp16"]


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, such as "cuda:1", or the best there is: CUDA, then Apple's GPU, then the CPU.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None:
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ArgumentError(f"unknown device {device!r}: expected such as 'cpu', 'cuda' or 'cuda:0'") from error
    if not there.get(chosen.type, True):
        raise ArgumentError(f"device {device!r} is not available here; leave device=None to take the best there is")
    return chosen


def check_precision(precision: str, device: torch.device) -> Precision:
    """Refuse a precision that does not exist or that the device cannot compute in."""
    if precision not in get_args(Precision):
        raise ArgumentError(f"precision must be 'fp32', 'bf16' or 'fp16', got {precision!r}")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ArgumentError("this GPU has no bfloat16; use precision='fp16' or 'fp32'")
    if precision == "fp16" and device.type == "mps":
        raise ArgumentError("fp16 with loss scaling is not supported on Apple's GPU; use precision='fp32'")
    return cast(Precision, precision)


@functools.cache
def has_float64(device: torch.device) -> bool:
    """Whether a device computes with float64, which MPS and some others do not."""
    if device.type in ("cpu", "cuda", "meta"):
        return True
    try:
        torch.zeros(1, dtype=torch.float64).to(device)
    except (RuntimeError, TypeError):
        return False
    return True


def moved(x: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    """A tensor on a device (None: where it is); float64 stays on the CPU if the device lacks it."""
    stays = device is None or (x.dtype == torch.float64 and not has_float64(device))
    return x if stays else x.to(device)


def prepare(device: torch.device) -> None:
    """What this process does before it computes on a device: when a fit begins, and where pictures are batched.

    Setting the number of threads to what it is looks idle, but until somebody has set it MKL chooses fewer where it
    sees fit, and sums, and so runs, must not depend on who did before.
    """
    if device.type == "cpu":
        torch.set_num_threads(torch.get_num_threads())


class WhileAnyIsInside:
    """A context of the whole process: open while any thread is inside.

    Args:
        make: gives what is entered with the first thread and left with the last one.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make = make
        self._locks: dict[int, threading.Lock] = {}  # by process: one that was forked waits for no thread of its parent
        self._begin()

    def _begin(self) -> None:
        self._process, self._inside, self._opened, self._is_open = os.getpid(), 0, ExitStack(), False

    def _alone(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())

    @contextmanager
    def __call__(self, stays_open: bool = False) -> Iterator[None]:
        """Be inside; where `stays_open`, the context is not left with this one, but with the next last one."""
        with self._alone():
            if self._process != os.getpid():
                self._begin()
            if not self._is_open:
                self._opened.enter_context(self._make())
                self._is_open = True
            self._inside += 1
        try:
            yield
        finally:
            with self._alone():
                self._inside -= 1
                if not self._inside and not stays_open:
                    self._is_open = False
                    self._opened.close()


@contextmanager
def _keeping() -> Iterator[None]:
    _set_malloc(0, 2**31 - 1)
    try:
        yield
    finally:
        _set_malloc(65_536, 64 * 2**20)
        give_back_memory()


_kept = WhileAnyIsInside(_keeping)


def kept_memory(device: torch.device, and_afterwards: bool = False) -> AbstractContextManager[None]:
    """While anyone is inside, this process keeps the memory that it frees, if `device` is the CPU and this is glibc.

    glibc gives large blocks back to the system at once, and each page of them is cleared anew at the next step. A
    language model of 16,000 words took 409,000 page faults a step that way, and 2.4 times as long. Afterwards all of it
    is given back: a service that predicts must not keep what its largest image took. What trains or goes through a
    split keeps it `and_afterwards`, for the next fit or epoch, until something has predicted.
    """
    return _kept(stays_open=and_afterwards) if device.type == "cpu" else nullcontext()


def _glibc() -> Any:
    """The C library, if it is glibc."""
    if sys.platform.startswith("linux"):
        try:
            libc = ctypes.CDLL("libc.so.6")
            return libc if libc.mallopt and libc.malloc_trim else None
        except (OSError, AttributeError):
            pass  # another C library, such as musl
    return None


def _set_malloc(most_mapped: int, trim_above: int) -> None:
    """How many blocks glibc maps by themselves, and from how many free bytes on it gives back."""
    if libc := _glibc():
        # M_MMAP_THRESHOLD, M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h; the first is what glibc itself comes to.
        for option, value in ((-3, 32 * 2**20), (-4, most_mapped), (-1, trim_above)):
            libc.mallopt(option, value)


def give_back_memory() -> bool:
    """Give freed memory back to the system; False where the C library is no glibc, which alone is asked."""
    libc = _glibc()
    if libc:
        libc.malloc_trim(0)
    return bool(libc)


def keep_few_kernels() -> None:
    """Let torch keep at most 32 of the kernels that oneDNN makes for each shape on a CPU, unless the environment says.

    Texts have hundreds of lengths, so that most shapes are new. Of the 1,024 kernels that it would keep, twice, each
    holds up to half a megabyte and parts the memory it lies in: 120 steps of a language model that has 1.3 GB with 16
    kernels, and 1.5 with 32, took 2.1, and it went on. Images take some hundredths longer then. What was made in this
    process before, stays.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "32")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def cpu_threads(n: int) -> Iterator[None]:
    """Let torch compute with `n` threads for the while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def at_most_threads(n: int) -> AbstractContextManager[None]:
    """Let torch compute with at most `n` threads for the while."""
    return cpu_threads(n) if n < torch.get_num_threads() else nullcontext()


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
