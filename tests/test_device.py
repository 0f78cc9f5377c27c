from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from easylearn.device import WhileAnyIsInside, check_precision, give_back_memory, kept_memory, pick_device, prepare
from easylearn.errors import ArgumentError

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def have(monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_best_there_is(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, best: str) -> None:
    have(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device().type == best
    assert pick_device("cpu") == CPU and pick_device(CPU) == CPU
    assert pick_device(best).type == best


def test_a_number_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, cuda=True)
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    have(monkeypatch)
    with pytest.raises(ArgumentError, match=f"device '{name}' is not available here; leave device=None"):
        pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "cpu:x", ""])
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(ArgumentError, match="expected such as 'cpu'"):
        pick_device(name)


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in ("fp32", "bf16", "fp16"):
        assert check_precision(precision, CPU) == precision
    have(monkeypatch, cuda=True, bf16=False)
    assert check_precision("fp16", CUDA) == "fp16"
    with pytest.raises(ArgumentError, match="no bfloat16; use precision='fp16' or 'fp32'"):
        check_precision("bf16", CUDA)
    with pytest.raises(ArgumentError, match="not supported on Apple's GPU"):
        check_precision("fp16", MPS)
    with pytest.raises(ArgumentError, match="got 'half'"):
        check_precision("half", CPU)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_threads_of_a_fork_that_come_at_once_are_inside_together(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    @contextmanager
    def noted() -> Iterator[None]:
        seen.append(1)
        yield
        seen.append(10)

    inside, begin, meet = WhileAnyIsInside(noted), WhileAnyIsInside._begin, threading.Barrier(4)

    def slowly(self: WhileAnyIsInside) -> None:
        time.sleep(0.02)
        begin(self)

    def enter(_: int) -> None:
        with inside():
            meet.wait(60)

    def work() -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(enter, range(4)))
        os._exit(sum(seen))

    monkeypatch.setattr(WhileAnyIsInside, "_begin", slowly)
    with inside():  # it is the parent that is inside
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join(60)
    assert child.exitcode == 1 + 11, "the parent's, and one that is opened and closed once"


class TestMemory:
    def test_it_says_whether_it_could_give_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert give_back_memory() is sys.platform.startswith("linux")
        monkeypatch.setattr(sys, "platform", "darwin")
        assert give_back_memory() is False
        with kept_memory(CPU):
            pass

    @pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that keeps memory")
    @pytest.mark.parametrize("what", ["inside alone", "after a fit until something predicts"])
    def test_it_is_kept(self, what: str) -> None:
        """In a process of its own: the tests before have used the memory of this one."""
        done = subprocess.run(
            [sys.executable, "-c", MEASURED + KEPT[what]], capture_output=True, text=True, timeout=300
        )
        before, inside, then, after = map(int, done.stdout.split())
        assert inside - before > 250 and then - before > 250, (done.stdout, done.stderr)
        assert after - before < 30


MEASURED = """
import torch
from easylearn.device import kept_memory

def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

cpu, seen = torch.device("cpu"), [megabytes()]
"""
KEPT = {
    "inside alone": """
with kept_memory(cpu):
    torch.ones(300 * 2**20, dtype=torch.uint8)
    seen.append(megabytes())
    with kept_memory(cpu):
        pass
    seen.append(megabytes())
print(*seen, megabytes())
""",
    "after a fit until something predicts": """
for _ in range(2):
    with kept_memory(cpu, and_afterwards=True):
        torch.ones(300 * 2**20, dtype=torch.uint8)
        with kept_memory(cpu):  # it validates
            pass
    seen.append(megabytes())
with kept_memory(cpu):
    with kept_memory(cpu, and_afterwards=True):  # it predicts, from a split
        pass
print(*seen, megabytes())
""",
}


def test_preparing_leaves_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    prepare(CPU)
    assert torch.get_num_threads() == before
