"""Workers of an experiment: new processes of this machine, or whatever a `concurrent.futures.Executor` has.

A process is given the engine, with the user's functions, through a pipe, by cloudpickle, as joblib brings it: so
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
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import ArgumentError, EasyLearnError, StateError, check_whole
from .leases import Leases
from .lines import line_of
from .store import History, Job, Store, read_once

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


def pack(engine: Any) -> bytes:
    """An engine with its functions, as it is sent to another process.

    Raises:
        ArgumentError: a function holds something that cannot be sent.
    """
    try:
        packed: bytes = _cloudpickle().dumps(engine)
    except Exception as error:
        raise ArgumentError(
            f"make, fit or what they use cannot be sent to another process: {type(error).__name__}: {error!s:.300}. "
            "Open files, connections and the like inside make; or work in this process, workers=1"
        ) from error
    return packed


def main(error_file: str) -> None:
    """Be a worker: read the engine from standard input, and work until there is nothing to do."""
    try:
        engine = _cloudpickle().loads(sys.stdin.buffer.read())
        from .engine import work

        work(engine, engine.store())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        text = traceback.format_exc()
        row = {"kind": type(error).__name__, "message": str(error), "traceback": text[-4000:]}
        Path(error_file).write_text(line_of(row), encoding="utf-8")
        sys.exit(1)


def run_processes(engine: Any, store: Store, workers: int, watch: Watcher) -> History:
    """Work with new processes; one that dies is replaced, and its job goes on from the last checkpoint."""
    check_whole("workers", workers)
    packed = pack(engine)
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


# -- executors ---------------------------------------------------------------------------------------------------


def run_executor(engine: Any, store: Store, executor: Executor, watch: Watcher) -> History:
    """Let an executor do the jobs, all that are planned at a time; this process plans them."""
    if not isinstance(executor, Executor):
        raise ArgumentError(
            f"workers must be a number of processes or a concurrent.futures.Executor, got {type(executor).__name__}"
        )
    from .engine import plan_round

    packed, running = pack(engine), dict[Any, Future[None]]()
    with closing(Leases(store.folder / "claims", engine.lease)) as leases:
        while True:
            history = store.poll()
            if watch is not None:
                watch(history)
            for job in history.open_jobs:
                if job.key not in running:
                    running[job.key] = executor.submit(run_packed, packed, job)
            if not (history.open_jobs and engine.order == "rounds"):
                state = plan_round(engine, store, leases)
                if state == "over":
                    return store.poll()
                if state == "done":
                    continue
            over, _ = wait(running.values(), timeout=1, return_when=FIRST_COMPLETED)
            for future in over:
                future.result()  # its error is ours
            running = {key: f for key, f in running.items() if f not in over}


def run_packed(packed: bytes, job: Job) -> None:
    """Do one job of an engine in whatever process this is."""
    from .engine import cpu_threads, do_job

    engine = _cloudpickle().loads(packed)
    store = engine.store()
    with closing(Leases(store.folder / "claims", engine.lease)) as leases, cpu_threads(engine.threads):
        do_job(engine, store, leases, job)
