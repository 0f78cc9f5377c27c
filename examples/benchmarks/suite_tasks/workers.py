"""One process per implementation. The parent asks each in turn for one repeat, so that noise hits all alike."""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from .guard import DISTURBED, RETRIES, Guard
from .rows import HAVE
from .settings import Figures, Settings

Runs = dict[str, list[Figures]]


# -- the parent's side -------------------------------------------------------------------------------------


class Worker:
    """A process that has set an implementation up and waits to be asked.

    Args:
        script: to be run with `--worker`.
        part: a module of the suite.
        implementation: one of its functions.
        settings: what it is told.
    """

    def __init__(self, script: Path, part: str, implementation: str, settings: Settings) -> None:
        told = json.dumps({**asdict(settings), "photos": str(settings.photos), "scratch": str(settings.scratch)})
        self.name = implementation
        self.process = subprocess.Popen(
            [sys.executable, str(script), "--worker", part, implementation, told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "EASYLEARN_CACHE": str(settings.scratch / "cache")},
        )

    def answer(self) -> dict[str, Any]:
        """The next line that it writes: "ready", "figures" or "error"."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line.strip() else {"error": "the process died"}
        return said

    def ask(self) -> dict[str, Any]:
        """One repeat."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("repeat\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": "the process died"}
        return self.answer()

    def end(self) -> None:
        """Let it end, or make it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def measure(
    script: Path, part: str, implementations: Sequence[str], settings: Settings, repeats: int, guard: Guard
) -> tuple[Runs, dict[str, str]]:
    """All repeats of one part.

    Args:
        script: to be run with `--worker`.
        part: a module of the suite.
        implementations: those that are wanted; what the part does not have is left out.
        settings: what they are told.
        repeats: rounds that count; one before them warms up, unless the run is a quick one.
        guard: waits while others use the machine.

    Returns:
        The figures of each implementation, round by round, and what went wrong.
    """
    workers: list[Worker] = []
    runs: Runs = {}
    errors: dict[str, str] = {}
    try:
        for name in (name for name in implementations if name in HAVE[part]):
            worker = Worker(script, part, name, settings)
            workers.append(worker)
            said = worker.answer()
            if "ready" in said:
                runs[name] = []
            else:
                errors[name] = said["error"]
        warm_up = 0 if settings.quick else 1
        for number in range(warm_up + repeats):
            for worker in workers:
                if worker.name not in runs or worker.name in errors:
                    continue
                said, load = _undisturbed(worker, guard, retries=RETRIES if number >= warm_up else 0)
                if "error" in said:
                    errors[worker.name] = said["error"]
                elif number >= warm_up:
                    runs[worker.name].append(said["figures"])
                    guard.loads.append(load)
    finally:
        for worker in workers:
            worker.end()
    return runs, errors


def _undisturbed(worker: Worker, guard: Guard, retries: int) -> tuple[dict[str, Any], float]:
    """A repeat, and the load of others; done again while that was too much."""
    for attempt in range(retries + 1):
        guard.wait()
        start = guard.start(worker.process.pid)
        said = worker.ask()
        load = guard.load(worker.process.pid, start)
        if "error" in said or load <= DISTURBED or attempt == retries:
            break
        guard.redone += 1
    return said, load


# -- the worker's side -------------------------------------------------------------------------------------


def work(part: str, implementation: str, told: str) -> None:
    """Set up, say so, and make a repeat whenever a line comes."""
    out = os.fdopen(os.dup(1), "w", buffering=1)  # whatever libraries print must not get between the lines
    _draw_elsewhere()
    given: Mapping[str, Any] = json.loads(told)
    settings = Settings(given["quick"], given["threads"], Path(given["photos"]), Path(given["scratch"]))
    try:
        if part != "imports":
            _seed(0, settings.threads)
        repeat = getattr(importlib.import_module(f"suite_tasks.{part}"), implementation)(settings)
        _say(out, ready=True)
        for number, _ in enumerate(sys.stdin, 1):
            if part != "imports":
                _seed(number)
            _say(out, figures=repeat())
    except Exception:
        _say(out, error=traceback.format_exc(limit=-6))


def _say(out: IO[str], **what: Any) -> None:
    out.write(json.dumps(what) + "\n")


def _seed(number: int, threads: int | None = None) -> None:
    import numpy as np
    import torch

    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
    if threads is not None:
        torch.set_num_threads(threads)


def _draw_elsewhere() -> None:
    """Let progress bars draw as if somebody looked: on a terminal that a thread empties; else into nothing."""
    try:
        import pty

        reader, writer = pty.openpty()
    except (ImportError, OSError):  # Windows has none
        writer = os.open(os.devnull, os.O_WRONLY)
    else:
        threading.Thread(target=_swallow, args=(reader,), daemon=True).start()
    os.dup2(writer, 1)
    os.dup2(writer, 2)


def _swallow(reader: int) -> None:
    try:
        while os.read(reader, 2**16):
            pass
    except OSError:
        pass
