"""One process per implementation, alive for all rounds. In each round the parent asks one after the other."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from .guard import DISTURBED, Guard
from .rows import HAVE, OURS
from .settings import Figures, Settings

Round = dict[str, Figures]
"""What one round gave, by implementation; one that failed is not in it."""


# -- the parent's side -------------------------------------------------------------------------------------


class Worker:
    """A process that has set an implementation up and waits to be asked.

    Args:
        script: to be run with `--worker`.
        part: a module of the suite.
        implementation: one of its functions, or "before".
        settings: what it is told.
        checkout: the folder whose easylearn it imports.
    """

    def __init__(self, script: Path, part: str, implementation: str, settings: Settings, checkout: Path) -> None:
        settings.scratch.mkdir(parents=True, exist_ok=True)
        told = json.dumps({**asdict(settings), "photos": str(settings.photos), "scratch": str(settings.scratch)})
        paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.name = implementation
        self.process = subprocess.Popen(
            [sys.executable, str(script), "--worker", part, implementation, told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "EASYLEARN_CACHE": str(settings.scratch / "cache"),
            },
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


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """The order of a round: each is at each place equally often, and after either of its neighbours.

    >>> ["".join(in_turn("abc", number)) for number in range(6)]
    ['abc', 'cba', 'bca', 'acb', 'cab', 'bac']
    """
    first = number // 2 % len(names)
    turned = [*names[first:], *names[:first]]
    return turned[::-1] if number % 2 else turned


class Part:
    """The rounds of one part of the suite.

    Args:
        script: to be run with `--worker`.
        part: a module of the suite.
        checkouts: the implementations that are wanted, each with the folder whose easylearn it imports; what the part
            does not have is left out.
        settings: what they are told.
        guard: waits while others use the machine.

    Attributes:
        rounds: those that count.
        errors: of the implementations that failed, which are then left out.
        homes: where the easylearn of each implementation was found.
    """

    def __init__(
        self, script: Path, part: str, checkouts: Mapping[str, Path], settings: Settings, guard: Guard
    ) -> None:
        self.guard = guard
        self.rounds: list[Round] = []
        self.errors: dict[str, str] = {}
        self.homes: dict[str, str] = {}
        self._workers: dict[str, Worker] = {}
        try:
            for name, checkout in checkouts.items():
                if OURS.get(name, name) in HAVE[part]:
                    own = replace(settings, scratch=settings.scratch / f"{part}-{name}")
                    self._workers[name] = Worker(script, part, name, own, checkout)
                    said = self._workers[name].answer()  # one after the other: setting up takes the machine
                    if "error" in said:
                        self.errors[name] = said["error"]
                    else:
                        self.homes[name] = said["ready"]
        except BaseException:
            self.end()
            raise

    def run(self, warm_up: int, more: Callable[[list[Round]], bool]) -> None:
        """Rounds while `more` of them are wanted; `warm_up` others before them do not count."""
        if not self._workers:
            return
        for number in range(warm_up):
            self._round(number)
        redone = 0
        while len(self.errors) < len(self._workers) and more(self.rounds):
            self.guard.wait()
            made, load = self._round(len(self.rounds) + redone)
            if load > DISTURBED and redone < len(self.rounds) + 5:
                redone += 1
                self.guard.redone += 1
                continue
            self.guard.loads.append(load)
            self.rounds.append(made)

    def _round(self, number: int) -> tuple[Round, float]:
        """Every implementation once, and the most that others used the machine meanwhile."""
        made: Round = {}
        most = 0.0
        for name in in_turn(list(self._workers), number):
            if name in self.errors:
                continue
            worker = self._workers[name]
            start = self.guard.start(worker.process.pid)
            said = worker.ask()
            most = max(most, self.guard.load(worker.process.pid, start))
            if "error" in said:
                self.errors[name] = said["error"]
            else:
                made[name] = said["figures"]
        return made, most

    def end(self) -> None:
        """Let all processes end."""
        for worker in self._workers.values():
            worker.end()


# -- the worker's side -------------------------------------------------------------------------------------


def work(part: str, implementation: str, told: str) -> None:
    """Set up, say so, and make a repeat whenever a line comes."""
    out = os.fdopen(os.dup(1), "w", buffering=1)  # whatever libraries print must not get between the lines
    _draw_elsewhere()
    given: dict[str, Any] = json.loads(told)
    settings = Settings(**{**given, "photos": Path(given["photos"]), "scratch": Path(given["scratch"])})
    try:
        found = importlib.util.find_spec("easylearn")
        if part != "imports":
            _seed(0, settings.threads)
        repeat = getattr(importlib.import_module(f"suite_tasks.{part}"), OURS.get(implementation, implementation))(
            settings
        )
        _say(out, ready=str(found and found.origin))
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
