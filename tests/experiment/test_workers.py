"""Workers as new processes: functions of any kind are sent, errors come back, and who dies is replaced."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path

import pytest

from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.experiment.store import Job, Store
from easylearn.experiment.workers import _same_error, pack, run_processes, unpack


def test_closures_are_sent() -> None:
    n = 3

    def add(x: int) -> int:
        return x + n

    assert unpack(pack(partial(add, 4)))() == 7
    with pytest.raises(ArgumentError, match=r"cannot be sent.*workers=1"):
        pack(partial(add, threading.Lock()))


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    folder = str(tmp_path)

    def work() -> None:
        first = Path(folder, "first")
        if not first.exists():
            first.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        store = Store(folder, {"kind": "test"})
        store.end({"trial": 0, "rung": 0, "status": "done", "value": 1.0})

    store = Store(tmp_path, {"kind": "test"})
    store.add_round([Job(0)])
    assert run_processes(work, store, 1, None).ends[0, 0]["value"] == 1.0


def test_an_error_comes_back(tmp_path: Path) -> None:
    def work() -> None:
        raise DataError("row 3 is wrong")

    with pytest.raises(DataError, match="row 3 is wrong"):
        run_processes(work, Store(tmp_path, {}), 1, None)
    other = _same_error({"kind": "KeyError", "message": "'x'", "traceback": "line 7"})
    assert isinstance(other, StateError) and str(other) == "a worker stopped with KeyError: 'x'\nline 7"


def test_workers_that_die_for_ever_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easylearn.experiment.workers.DEATHS", 1)
    monkeypatch.setattr("easylearn.experiment.workers._START", "import os; os._exit(9)  # {path} {error}")
    with pytest.raises(StateError, match="2 workers died, the last with exit code 9"):
        run_processes(print, Store(tmp_path, {}), 1, None)
    with pytest.raises(ArgumentError, match="workers"):
        run_processes(print, Store(tmp_path, {}), 0, None)
