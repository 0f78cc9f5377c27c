"""Workers of an experiment as new processes of this machine.

A process is given its task, with the user's functions, through a pipe, by cloudpickle, as joblib brings it: so
functions of a notebook work, and a script needs no `if __name__ == "__main__"`. No file holds any of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import ArgumentError, EasyLearnError, StateError, check_whole
from .lines import line_of
from .store import History, Store, read_once

DEATHS = 10
"""Workers that may die, one after another, without any job having ended in between."""
_START = "import sys; sys.path[:] = {path!r}; from easylearn.experiment.workers import main; main({error!r})"
Watcher = Callable[[History], None] | None


def _cloudpickle() -> Any:
    """What sends functions; it comes with scikit-learn's joblib, inside of it up to joblib 1.5."""
    try:
        import cloudpickle
    except ImportError:
        from joblib.externals import cloudpickle
    return cloudpickle


def pack(task: Any) -> bytes:
    """A task with its functions, as it is sent to another process.

    Raises:
        ArgumentError: a function holds something that cannot be sent.
    """
    try:
        packed: bytes = _cloudpickle().dumps(task)
    except Exception as error:
        raise ArgumentError(
            f"make, fit or what they use cannot be sent to another process: {type(error).__name__}: {error!s:.300}. "
            "Open files, connections and the like inside make; or work in this process, workers=1"
        ) from error
    return packed


def unpack(packed: bytes) -> Any:
    """What `pack` packed; it runs code, and comes from nowhere but the process that began the work."""
    return _cloudpickle().loads(packed)


def main(error_file: str) -> None:
    """Be a worker: read the task from standard input, and do it."""
    try:
        unpack(sys.stdin.buffer.read())()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        text = traceback.format_exc()
        row = {"kind": type(error).__name__, "message": str(error), "traceback": text[-4000:]}
        Path(error_file).write_text(line_of(row), encoding="utf-8")
        sys.exit(1)


def run_processes(task: Callable[[], object], store: Store, workers: int, watch: Watcher) -> History:
    """Let new processes do a task, each until it is over; one that dies is replaced, and the new one goes on.

    Args:
        task: works in the folder of the store until there is nothing to do; it is sent by cloudpickle.
        store: of the experiment.
        workers: how many processes.
        watch: told what is known, now and then.
    """
    check_whole("workers", workers)
    packed = pack(task)
    with tempfile.TemporaryDirectory(prefix="easylearn-") as folder:
        crew = [_start(packed, folder, i, 0) for i in range(workers)]
        try:
            return _look_after(crew, store, watch, lambda i, n: _start(packed, folder, i, n))
        finally:
            for process, _ in crew:
                if process.poll() is None:
                    process.terminate()
            for process, _ in crew:
                process.wait()


def _start(packed: bytes, folder: str, index: int, start: int) -> tuple[subprocess.Popen[bytes], Path]:
    error = Path(folder) / f"{index}-{start}.json"
    process = subprocess.Popen(
        [sys.executable, "-c", _START.format(path=[p or os.getcwd() for p in sys.path], error=str(error))],
        stdin=subprocess.PIPE,
        env=_environment(index),
    )
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(packed)
    except BrokenPipeError:  # it died at once, which is seen when it is looked after
        return process, error
    return process, error


def _environment(index: int) -> dict[str, str]:
    """The environment of a worker: a GPU of its own where there are several."""
    import torch

    found = dict(os.environ)
    if torch.cuda.is_available() and torch.cuda.device_count() > 1:
        visible = found.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = visible if visible != [""] else [str(i) for i in range(torch.cuda.device_count())]
        found["CUDA_VISIBLE_DEVICES"] = names[index % len(names)]
    return found


def _look_after(crew: list[Any], store: Store, watch: Watcher, start: Callable[[int, int], Any]) -> History:
    deaths, starts, ended = 0, 0, -1
    while True:
        history = store.poll()
        if len(history.ends) != ended:
            deaths, ended = 0, len(history.ends)
        if watch is not None:
            watch(history)
        for index, (process, error) in enumerate(crew):
            code = process.poll()
            if code in (None, 0):
                continue
            if code == 130:
                raise KeyboardInterrupt
            if error.exists():
                raise _same_error(read_once(error) or {})
            deaths, starts = deaths + 1, starts + 1
            if deaths > DEATHS:
                raise StateError(
                    f"{deaths} workers died, the last with exit code {code}, and no trial ended in between; a negative "
                    "code is a signal, and -9 is often the system's, for want of memory. Use fewer workers"
                )
            crew[index] = start(index, starts)
        if all(process.poll() == 0 for process, _ in crew):
            return store.poll()
        time.sleep(0.05)


def _same_error(row: dict[str, Any]) -> EasyLearnError:
    """An error of a worker, of its own kind where that is ours."""
    kind = vars(errors).get(str(row.get("kind")))
    message = str(row.get("message", "it wrote nothing down"))
    if isinstance(kind, type) and issubclass(kind, EasyLearnError) and kind is not errors.SaveError:
        return kind(message)
    return StateError(f"a worker stopped with {row.get('kind')}: {message}\n{row.get('traceback', '')}")
