"""Claims: one at a time among threads and processes, gone with whoever held them, never in the way."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from easylearn.data import claims
from easylearn.data.claims import BYTES, FILE, USERS, Claims, byte_of, claims_in, use_of

fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def forked(target: Callable[..., Any], *args: Any) -> Any:
    child = multiprocessing.get_context("fork").Process(target=target, args=args)
    child.start()
    return child


def answer(child: Any) -> int:
    child.join(60)
    code = child.exitcode
    assert isinstance(code, int)
    return code


def test_a_byte_is_claimed_once(tmp_path: Path) -> None:
    mine = claims_in(tmp_path)
    assert claims_in(tmp_path) is mine, "a second opened file would lose the locks of the first when it is closed"
    assert mine.take(3) and not mine.take(3) and mine.take(4)
    mine.give_back(3)
    assert mine.take(3)


def test_of_many_threads_one_gets_it(tmp_path: Path) -> None:
    mine = claims_in(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for byte in range(50):
            assert sum(pool.map(lambda _, b=byte: mine.take(b), range(8))) == 1


@fork
def test_a_thing_that_several_processes_use_is_used_until_the_last_one_ends(tmp_path: Path) -> None:
    mine, first = claims_in(tmp_path), use_of("a thing")
    assert first >= BYTES and first + USERS <= 2**31
    own = mine.use(first)
    assert own is not None and not mine.is_used(first), "by this one alone"
    ready, end = (multiprocessing.get_context("fork").Event() for _ in range(2))

    def other() -> None:
        if mine.is_used(first) and mine.use(first) is not None:
            ready.set()
            end.wait(60)

    child = forked(other)
    assert ready.wait(60), "the parent uses it, too"
    mine.give_back(own)
    assert mine.is_used(first) and not mine.is_used(use_of("another thing"))
    end.set()
    assert answer(child) == 0 and not mine.is_used(first)


def test_threads_that_come_at_once_share_the_claims_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Claims.__init__

    def slowly(self: Claims, path: Path) -> None:
        time.sleep(0.02)
        begin(self, path)

    monkeypatch.setattr(Claims, "__init__", slowly)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(claims_in, [tmp_path] * 8)]
        assert len({id(each) for each in found}) == 1
        assert sum(pool.map(lambda each: each.take(7), found)) == 1


@fork
@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_folder_that_goes_by_two_names_has_its_claims_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    mine = claims_in(tmp_path / "folder")
    assert mine.take(7) and not claims_in(tmp_path / "link").take(7)
    gc.collect()
    assert answer(forked(lambda: os._exit(int(mine.take(7))))) == 0, "what was closed meanwhile has not given it back"


@fork
def test_another_process_sees_it_and_its_end(tmp_path: Path) -> None:
    mine = claims_in(tmp_path)

    def ask(byte: int) -> None:
        os._exit(int(mine.take(byte)))

    assert mine.take(7)
    assert answer(forked(ask, 7)) == 0 and answer(forked(ask, 8)) == 1
    mine.give_back(7)
    assert answer(forked(ask, 7)) == 1
    assert mine.take(7), "the child has ended, and its claim with it"


@fork
def test_a_fork_inherits_no_claim_and_no_lock(tmp_path: Path) -> None:
    mine = claims_in(tmp_path)
    assert mine.take(1)

    def look() -> None:
        os._exit(10 * len(mine._held) + int(mine.take(2)) if not mine.take(1) else 99)

    with mine._mutex:  # as if another thread were just inside
        child = forked(look)
        assert answer(child) == 1


@fork
def test_threads_of_a_fork_that_come_at_once_see_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, begin = claims_in(tmp_path), Claims._begin
    mine.take(0)

    def slowly(self: Claims) -> None:
        time.sleep(0.02)
        begin(self)

    def ask() -> None:
        with ThreadPoolExecutor(8) as pool:
            os._exit(sum(pool.map(lambda _: mine.take(1), range(8))))

    monkeypatch.setattr(Claims, "_begin", slowly)
    assert answer(forked(ask)) == 1


@fork
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    mine = claims_in(tmp_path)
    taken = multiprocessing.get_context("fork").Event()

    def hold() -> None:
        mine.take(5)
        taken.set()
        time.sleep(600)  # longer than anybody waits for it below

    child = forked(hold)
    assert taken.wait(60) and not mine.take(5)
    threading.Timer(0.2, os.kill, (child.pid, signal.SIGKILL)).start()
    with mine.hold(5, 60) as claimed:
        assert claimed
    child.join()


def test_waiting_ends(tmp_path: Path) -> None:
    mine = claims_in(tmp_path)
    assert mine.take(1)
    with mine.hold(1, 0.05) as claimed:
        assert not claimed
    assert not mine.take(1), "whoever waited in vain gives nothing back"
    threading.Timer(0.1, mine.give_back, (1,)).start()
    with mine.hold(1, 60) as claimed:
        assert claimed
    assert mine.take(1)


def test_it_is_given_back_after_an_error(tmp_path: Path) -> None:
    mine = claims_in(tmp_path)
    with pytest.raises(KeyboardInterrupt), mine.hold(1, 1):
        raise KeyboardInterrupt
    assert mine.take(1)


def test_where_no_file_can_be_made_threads_still_see_each_other(tmp_path: Path) -> None:
    mine = claims_in(tmp_path / "nowhere")
    assert mine.take(1) and not mine.take(1)
    mine.give_back(1)
    assert mine.take(1)


def test_a_deleted_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    old = claims_in(tmp_path / "x")
    shutil.rmtree(tmp_path / "x")
    assert old.take(1) and not old.is_of(tmp_path / "x" / FILE)
    (tmp_path / "x").mkdir()
    new = claims_in(tmp_path / "x")
    assert new is not old and new.is_of(tmp_path / "x" / FILE) and new.take(1)


def test_a_file_system_without_locks_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    mine = claims_in(tmp_path)
    assert mine.take(1) and not mine.take(1)
    mine.give_back(1)


def test_bytes() -> None:
    found = {byte_of(str(name)) for name in range(1000)}
    assert len(found) > 990 and all(0 <= byte < BYTES < 2**31 for byte in found)


def test_nothing_stays_open(tmp_path: Path) -> None:
    one = claims_in(tmp_path)
    fd = one._fd
    assert fd is not None and os.path.samestat(os.fstat(fd), (tmp_path / FILE).stat())
    del one
    with suppress(OSError):  # else another thread has opened a file meanwhile, which has its number now
        assert not os.path.samestat(os.fstat(fd), (tmp_path / FILE).stat())


def test_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls, played by what the system here has: a place in the file, then one byte from there."""
    fcntl = pytest.importorskip("fcntl")
    seen = []

    def locking(fd: int, mode: int, n: int) -> None:
        byte = os.lseek(fd, 0, os.SEEK_CUR)
        seen.append((mode, byte, n))
        if byte == 13:
            raise PermissionError(13, "Permission denied")
        fcntl.lockf(fd, fcntl.LOCK_UN if mode == 0 else fcntl.LOCK_EX | fcntl.LOCK_NB, n, byte)

    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0))
    monkeypatch.setattr(claims.sys, "platform", "win32")
    mine = Claims(tmp_path / FILE)
    assert mine.take(12) and not mine.take(13)
    mine.give_back(12)
    assert seen == [(2, 12, 1), (2, 13, 1), (0, 12, 1)]
