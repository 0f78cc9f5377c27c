"""Processes: those that run the same script together, and what they say to each other."""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..device import usable_cores
from ..errors import EasyLearnError, StateError, check_whole
from .state import Pause

LOOK = 0.5  # seconds between two looks at whether another process has failed, while this one waits for it
_FAILED = "easylearn failed"


def wants_processes() -> bool:
    """Whether this script was started as one of several processes, by torchrun or `launch`, or has joined some."""
    if not dist.is_available():
        return False
    told = {"RANK", "WORLD_SIZE"} <= os.environ.keys() and ("MASTER_ADDR" in os.environ or _URL in os.environ)
    return dist.is_initialized() or (told and int(os.environ["WORLD_SIZE"]) > 1)


_URL = "EASYLEARN_RENDEZVOUS"  # where `launch` lets its processes meet


@functools.cache
def join() -> Processes:
    """Join the processes that run this script; once joined, the same object for the life of this one."""
    if dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size(), None)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    meet = dist.rendezvous  # type: ignore[attr-defined]
    found = next(iter(meet(os.environ.get(_URL, "env://"), rank, world)))
    # After a restart the addresses of the processes before are still in the store: each attempt has names of its own.
    attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    store = dist.PrefixStore(attempt, found[0])  # type: ignore[attr-defined]
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_device())
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    return Processes(rank, world, store)


def local_device() -> torch.device | None:
    """The GPU of this process among those of its host; None where there is none."""
    if not torch.cuda.is_available():
        return None
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def launch(train: Callable[..., object], n: int = 2, *args: Any) -> None:
    """Call a function in `n` processes of this host, which train together; from a script or a notebook.

    Each makes its own data and learner, and all come to the same weights; the first one prints and writes files. With
    GPUs, each process takes one of them. A terminal has torchrun for that, which also starts them anew and on several
    hosts.

    Args:
        train: does everything: data, learner, fit, save. What it gives back is lost.
        n: how many processes.
        args: what it is called with.

    Raises:
        StateError: this process uses a GPU, or runs together with others, already.
        ArgumentError: `n` is no number of processes.

    >>> launch(lambda: print("trained"), n=1)
    trained
    """
    check_whole("n, how many processes,", n)
    if wants_processes():
        raise StateError("launch starts processes, and this one is among several already: call the function itself")
    if n == 1:
        train(*args)
        return
    # What was written in a notebook is in no file that another process could import.
    start = "fork" if "__file__" not in vars(sys.modules["__main__"]) and os.name == "posix" else "spawn"
    if start == "fork" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise StateError(
            "a notebook's process that has used a GPU cannot be copied: restart the kernel, and call launch before "
            "anything is put on a GPU; the learner is made inside the function"
        )
    from torch.multiprocessing.spawn import start_processes

    with tempfile.TemporaryDirectory() as folder:
        # A copy of a process whose threads have computed would wait for them for ever: it has none of them.
        threads = 1 if start == "fork" else max(usable_cores() // n, 1)
        given = train, n, threads, Path(folder, "meet").as_uri(), args
        start_processes(_one_of, given, n, start_method=start)  # type: ignore[no-untyped-call]


def _one_of(rank: int, train: Callable[..., object], world: int, threads: int, url: str, args: tuple[Any, ...]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, _URL: url}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(threads)
    train(*args)


class Processes:
    """The processes that run a script together, as one of them sees them.

    Whoever waits for the others looks now and then whether one of them has failed, so that no error of one leaves the
    others waiting.

    Args:
        rank, world: which of how many.
        store: where one tells the others that it has failed; None where the script made the group by itself.
    """

    def __init__(self, rank: int, world: int, store: Any) -> None:
        self.rank, self.world = rank, world
        self._store = store
        self._pairs: list[Any] = []
        self._failed = False

    # -- waiting, and errors ---------------------------------------------------------------------------------

    def _wait(self, begin: Callable[[], Any]) -> None:
        """Begin something in common and wait for the others."""
        try:
            work = begin()
            begun = looked = time.monotonic()
            while not work.is_completed():
                now = time.monotonic()
                time.sleep(min((now - begun) / 8, 0.005))
                if now - looked > LOOK:
                    looked = now
                    self._look()
            work.wait()
        except EasyLearnError:
            raise
        except RuntimeError as error:
            time.sleep(LOOK)  # whoever failed may be about to say why
            self._look()
            raise StateError(
                f"process {self.rank} of {self.world} has lost another one, which was killed, or whose host cannot be "
                f"reached: {str(error)[:200]}. Start all of them anew; fit(..., checkpoint=folder, go_on=True) goes on"
            ) from error

    def _look(self) -> None:
        if self._store is None or not self._store.check([_FAILED]):
            return
        rank, what = json.loads(self._store.get(_FAILED))
        self._failed = True
        raise StateError(f"process {rank} of {self.world} ended with {what}")

    @contextmanager
    def together(self) -> Iterator[None]:
        """An error in the block ends the others, too, wherever they wait; they say whose it was."""
        try:
            yield
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # not that a generator is closed
            if self._store is not None and not self._failed:
                self._failed = True
                with suppress(RuntimeError):  # the store's host may be what is gone
                    if not self._store.check([_FAILED]):
                        self._store.set(_FAILED, json.dumps([self.rank, f"{type(error).__name__}: {error}"]))
            raise

    # -- in common ---------------------------------------------------------------------------------------------

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.any(False)

    def any(self, yes: bool) -> bool:
        """Whether any process says so."""
        found = torch.tensor([int(yes)])
        self._wait(lambda: dist.all_reduce(found, dist.ReduceOp.MAX, async_op=True))
        return bool(found)

    def exchange(self, told: bytes) -> list[bytes]:
        """What each process tells, in the order of their ranks."""
        size = torch.tensor([len(told)])
        sizes = [torch.zeros_like(size) for _ in range(self.world)]
        self._wait(lambda: dist.all_gather(sizes, size, async_op=True))
        longest = max(max(map(int, sizes)), 1)
        own = torch.zeros(longest, dtype=torch.uint8)
        own[: len(told)] = torch.frombuffer(bytearray(told or b"\0"), dtype=torch.uint8)[: len(told)]
        all_of = [torch.empty_like(own) for _ in range(self.world)]
        self._wait(lambda: dist.all_gather(all_of, own, async_op=True))
        return [each[: int(n)].numpy().tobytes() for each, n in zip(all_of, sizes, strict=True)]

    def exchange_tensors(self, told: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors that each process tells, by name, on the CPU, in the order of their ranks."""
        from safetensors.torch import load, save

        own = {name: t.detach().cpu().contiguous() for name, t in told.items()}
        return [load(each) for each in self.exchange(save(own))]

    def agree(self, reason: str | None) -> str | None:
        """The reason of the first process that has one."""
        if not self.any(reason is not None):
            return None
        for each in self.exchange(json.dumps([isinstance(reason, Pause), reason]).encode()):
            pauses, said = json.loads(each)
            if said is not None:
                return Pause(said) if pauses else str(said)
        return reason

    def same(self, what: str, value: Any) -> None:
        """Refuse a plain value that is another one elsewhere."""
        for rank, each in enumerate(self.exchange(json.dumps(value).encode())):
            if json.loads(each) != value:
                raise StateError(
                    f"{what} is {value} in process {self.rank} of {self.world}, and {json.loads(each)} in process "
                    f"{rank}: all of them must make the same data, model and settings"
                )

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the values of the first one."""
        tensors = [t for t in tensors if t.numel()]
        if not tensors:
            return
        with torch.no_grad():
            flat = torch.cat([t.detach().contiguous().reshape(-1).view(torch.uint8) for t in tensors])
            self._wait(lambda: dist.broadcast(flat, 0, async_op=True))
            if self.rank:
                at = 0
                for t in tensors:
                    n = t.numel() * t.element_size()
                    t.copy_(flat[at : at + n].clone().view(t.dtype).view(t.shape))
                    at += n

    def total(self, flat: Tensor, exact: bool) -> Tensor:
        """The sum of a tensor over all processes, which may be put in its place; `exact`: in one binary tree."""
        if not exact:
            self._wait(lambda: dist.all_reduce(flat, async_op=True))
        elif self.world & (self.world - 1) == 0:
            for pair in self._neighbours():  # a sum of two is the same whoever computes it
                self._wait(functools.partial(dist.all_reduce, flat, group=pair, async_op=True))
        else:
            every = [torch.empty_like(flat) for _ in range(self.world)]
            self._wait(lambda: dist.all_gather(every, flat, async_op=True))
            total = Tree()
            for each in every:
                total.add(each)
            return total.result()
        return flat

    def _neighbours(self) -> list[Any]:
        """For each level of the tree the group of this process and its partner; all make all of them, in one order."""
        if not self._pairs:
            step = 1
            while step < self.world:
                for a in range(self.world):
                    if not a & step:
                        pair = dist.new_group([a, a | step])
                        self._pairs += [pair] if self.rank in (a, a | step) else []
                step *= 2
        return self._pairs


class Tree:
    """The sum of tensors that come one by one, added in pairs of neighbours; they may be changed.

    Its order depends on how many there are alone: that of 2^k neighbours is a branch, whoever adds it up.

    >>> tree = Tree()
    >>> for number in (1.0, 2.0, 3.0):
    ...     tree.add(torch.tensor(number))
    >>> tree.result()
    tensor(6.)
    """

    def __init__(self) -> None:
        self._branches: list[tuple[int, Tensor]] = []

    def add(self, tensor: Tensor) -> None:
        """Take in the next one."""
        size = 1
        while self._branches and self._branches[-1][0] == size:
            tensor = self._branches.pop()[1].add_(tensor)
            size *= 2
        self._branches.append((size, tensor))

    def result(self) -> Tensor:
        """The sum of all."""
        total = self._branches.pop()[1]
        while self._branches:
            total = self._branches.pop()[1].add_(total)
        return total
