"""Processes: those that run the same script together, and what they say to each other."""

from __future__ import annotations

import atexit
import functools
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..device import usable_cores
from ..errors import EasyLearnError, StateError, check_whole
from .state import Pause

LOOK = 0.5  # seconds between two looks at whether another process has failed, while this one waits for it
LOST = 45.0  # seconds without a sign of life after which a process, or the store of all of them, counts as lost
JOIN = 300.0  # seconds in which all have to be there: on a busy host it takes long to import what a script needs
_FAILED, _SILENCE = "easylearn failed", "silence"


def wants_processes() -> bool:
    """Whether this script was started as one of several processes, by torchrun or `launch`, or has joined some."""
    if not dist.is_available():
        return False
    told = {"RANK", "WORLD_SIZE"} <= os.environ.keys() and ("MASTER_ADDR" in os.environ or _URL in os.environ)
    return dist.is_initialized() or (told and int(os.environ["WORLD_SIZE"]) > 1)


_URL = "EASYLEARN_RENDEZVOUS"  # where `launch` lets its processes meet


@functools.cache
def join() -> Processes:
    """Join the processes that run this script; once joined, the same object for the life of this one.

    Raises:
        StateError: the others are not there after `JOIN` seconds, or one is lost meanwhile.
    """
    if dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size(), None)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    until = time.monotonic() + JOIN

    def look() -> None:
        if time.monotonic() > until:
            raise StateError(
                f"process {rank} of {world} has waited {JOIN:.0f} s for the others: look whether all of them were "
                "started, with the same MASTER_ADDR and MASTER_PORT, and whether their hosts can reach each other"
            )

    def meet() -> Any:
        begin, url = dist.rendezvous, os.environ.get(_URL, "env://")  # type: ignore[attr-defined]
        try:
            return next(iter(begin(url, rank, world, timeout=timedelta(seconds=JOIN))))[0]
        except RuntimeError as error:
            raise StateError(
                f"process {rank} of {world} cannot meet the others: {str(error)[:300]}. MASTER_ADDR and MASTER_PORT "
                "say where the first one is; look whether it was started, and whether this host can reach it"
            ) from error

    first, second = _aside(meet, look), _aside(meet, look)  # a store that one thread waits for is closed to others
    attempt = _aside(lambda: _attempt(first, rank, world, until), look)
    if not attempt:
        look()
    store, watched = (dist.PrefixStore(attempt, each) for each in (first, second))  # type: ignore[attr-defined]
    processes = Processes(rank, world, watched)

    def begin() -> None:
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(local_device())
            backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)

    processes.watching(begin)
    if torch.cuda.is_available():
        torch.cuda.set_device(local_device())  # each thread has its own
    atexit.register(processes.leave)
    return processes


def _attempt(store: Any, rank: int, world: int, until: float) -> str:
    """A name that the processes of this attempt, and no others, have agreed upon.

    After a restart the addresses of the processes before are still in the store, and the agents of several hosts do not
    count attempts alike. So the first process gives a name, all answer to it, and go on when it has read their answers.
    """
    own, pause = secrets.token_hex(8), 0.01
    answers = [f"{own} {other}" for other in range(1, world)]
    if rank == 0:
        store.set("attempt", own)
    while time.monotonic() < until + 10 * LOOK:
        if rank == 0:
            if store.check(answers):
                store.set(f"{own} begins", json.dumps([store.get(answer).decode() for answer in answers]))
                return own
        elif store.check(["attempt"]):
            name = str(store.get("attempt").decode())
            store.set(f"{name} {rank}", own)
            if store.check([f"{name} begins"]) and own in json.loads(store.get(f"{name} begins")):
                return name
        time.sleep(pause := min(1.3 * pause, LOOK))
    return ""  # whoever waits for this says what has happened


def _aside(do: Callable[[], Any], look: Callable[[], None]) -> Any:
    """What `do` gives, which waits for others in a thread of its own, while this one looks around."""
    ended: list[tuple[Any, Exception | None]] = []

    def work() -> None:
        try:
            ended.append((do(), None))
        except Exception as error:
            ended.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while True:
        thread.join(LOOK)
        if ended:
            break
        look()
    found, error = ended[0]
    if error is not None:
        raise error
    return found


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

    Whoever waits for the others looks now and then whether one of them has failed, or is not heard of any more, so that
    nobody waits for ever.

    Args:
        rank, world: which of how many.
        store: where each one tells the others that it lives, or that it has failed; None where the script made the
            group by itself.
    """

    def __init__(self, rank: int, world: int, store: Any) -> None:
        self.rank, self.world = rank, world
        self._watch = None if store is None else _Watch(rank, world, store)
        self._pairs: list[Any] = []
        self._failed = self._lost = False

    def leave(self) -> None:
        """End this process, whose exchange with one that is lost gloo would wait for, for half an hour."""
        if self._lost:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    # -- waiting, and errors ---------------------------------------------------------------------------------

    def watching(self, do: Callable[[], object]) -> None:
        """Do what waits for the others and cannot be asked how far it is."""
        with self._told():
            _aside(do, self._look)

    def _wait(self, begin: Callable[[], Any]) -> None:
        """Begin something in common and wait for the others."""
        with self._told():
            work = begin()
            begun = looked = time.monotonic()
            while not work.is_completed():
                now = time.monotonic()
                time.sleep(min((now - begun) / 8, 0.005))
                if now - looked > LOOK:
                    looked = now
                    self._look()
            work.wait()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """An error of torch's is told as what it means, or as what another process says that it was."""
        try:
            yield
        except EasyLearnError:
            raise
        except RuntimeError as error:
            if self._watch is not None:
                self._watch.look_again()
            self._look()
            raise StateError(
                f"process {self.rank} of {self.world} has lost another one, which was killed, or whose host cannot be "
                f"reached: {str(error)[:200]}. Start all of them anew; fit(..., checkpoint=folder, go_on=True) goes on"
            ) from error

    def _look(self) -> None:
        if self._watch is None:
            return
        if self._watch.failed is not None:
            rank, what = self._watch.failed
            self._failed, self._lost = True, what.startswith(_SILENCE)
            raise StateError(f"process {rank} of {self.world} ended with {what}")
        if (silent := time.monotonic() - self._watch.answered) > LOST:
            self._failed = self._lost = True
            raise StateError(
                f"process {self.rank} of {self.world} has not reached the store of all processes for {silent:.0f} s: "
                "the host of the first one has failed, or the network. Start all of them anew; fit(..., "
                "checkpoint=folder, go_on=True) goes on"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """An error in the block ends the others, too, wherever they wait; they say whose it was."""
        try:
            yield
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # not that a generator is closed
            if self._watch is not None and not self._failed:
                self._failed = True
                self._watch.tell(self.rank, f"{type(error).__name__}: {error}")
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
            made: list[Any] = []
            self.watching(lambda: made.extend(self._make_pairs()))
            self._pairs = made
        return self._pairs

    def _make_pairs(self) -> Iterator[Any]:
        step = 1
        while step < self.world:
            for a in range(self.world):
                if not a & step:
                    pair = dist.new_group([a, a | step])
                    if self.rank in (a, a | step):
                        yield pair
            step *= 2


class _Watch:
    """A thread that tells the others that this process lives, and looks whether they do.

    Each process looks after the next one, and tells all when it is not heard of for `LOST` seconds. Whoever waits reads
    what this thread has found: it alone asks the store, which does not answer where its host is gone.
    """

    def __init__(self, rank: int, world: int, store: Any) -> None:
        self._rank, self._next, self._store = rank, (rank + 1) % world, store
        self.failed: tuple[int, str] | None = None  # which process has, and how
        self.answered = time.monotonic()  # when the store did so last
        self._looks = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        beat, heard, changed = 0, b"", time.monotonic() + JOIN - LOST  # the first sign of life may come late
        while self.failed is None:
            try:
                if beat % 4 == 0:
                    self._store.set(f"alive {self._rank}", str(beat))
                    other = f"alive {self._next}"
                    if self._store.check([other]) and (now := self._store.get(other)) != heard:
                        heard, changed = now, time.monotonic()
                    elif (silent := time.monotonic() - changed) > LOST:
                        self.tell(
                            self._next,
                            f"{_SILENCE}: it was not heard of for {silent:.0f} s, so it was stopped, or its host or "
                            "the network has failed. Start all anew; fit(..., checkpoint=folder, go_on=True) goes on",
                        )
                if self._store.check([_FAILED]):
                    rank, what = json.loads(self._store.get(_FAILED))
                    self.failed = rank, what
                self.answered = time.monotonic()
            except RuntimeError:  # the store is gone: whoever waits looks at when it answered last
                pass
            beat += 1
            self._looks += 1
            time.sleep(LOOK)

    def look_again(self) -> None:
        """Wait, but not for long, until the store was asked from now on: who fails tells it before others notice."""
        seen, until = self._looks, time.monotonic() + 10 * LOOK
        while self.failed is None and self._looks < seen + 2 and time.monotonic() < until:
            time.sleep(LOOK / 10)

    def tell(self, rank: int, what: str) -> None:
        """Tell all processes that one has failed, unless another one was told of before."""

        def write() -> None:
            with suppress(RuntimeError):  # the store's host may be what is gone
                if not self._store.check([_FAILED]):
                    self._store.set(_FAILED, json.dumps([rank, what]))

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        thread.join(10 * LOOK)


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
