"""The folder of an experiment: what it is, rounds of jobs, events of workers; files that are written once, or grow."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, SaveError, StateError, WeightsError
from ..files import StrPath, as_path, part_of
from .lines import Row, append_lines, line_of, read_line

SCHEMA = 1
Key = tuple[int, int]
"""Which trial, and which of its rungs, both from 0."""


@dataclass(frozen=True)
class Job:
    """A part of the work of an experiment: one trial, as far as one of its rungs.

    Args:
        trial: its number, from 0.
        point: the values of the trial, in what JSON can hold.
        seed: read by `make` as `p.seed`.
        fold: read as `p.fold`; None where there are no folds.
        rung: how far it is trained: to the end of this rung, from 0.
        by: who proposed the point.
        bracket: the rung at which the trial began.
        beat: the best value that was known when it was planned, where a trial that cannot reach it is to stop.
    """

    trial: int
    point: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    fold: int | None = None
    rung: int = 0
    by: str = ""
    bracket: int = 0
    beat: float | None = None

    @property
    def key(self) -> Key:
        """Trial and rung."""
        return self.trial, self.rung


@dataclass
class History:
    """What an experiment has done: jobs, round after round, and the last event of each job that has ended."""

    rounds: list[list[Job]] = field(default_factory=list)
    ends: dict[Key, Row] = field(default_factory=dict)

    @property
    def jobs(self) -> list[Job]:
        """All jobs, in the order in which they were planned."""
        return [job for jobs in self.rounds for job in jobs]

    @property
    def open_jobs(self) -> list[Job]:
        """Those that have not ended."""
        return [job for job in self.jobs if job.key not in self.ends]


class Store:
    """Reads and writes the folder of an experiment; any number of processes may, on any number of machines.

    Args:
        folder: made where there is none.
        settings: what the experiment is, in what JSON can hold; another one in the same folder is refused.

    Raises:
        ArgumentError: the folder is a file, or the settings are not plain.
        StateError: the folder holds another experiment; the message names what differs.
    """

    def __init__(self, folder: StrPath, settings: Mapping[str, Any]) -> None:
        self.folder = as_path(folder, "a folder")
        self.history = History()
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._read: dict[str, int] = {}
        try:
            given = {"schema": SCHEMA, **settings}
            text = line_of(given)
        except TypeError as error:
            raise ArgumentError(
                f"an experiment is compared with that of its folder, so it is told in plain values (numbers, texts, "
                f"True, False, None, lists, dictionaries): {error}"
            ) from error
        try:
            for part in ("rounds", "events", "trials", "claims"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ArgumentError(f"{self.folder} is to be a folder, and {error.filename} is a file") from error
        except OSError as error:
            raise _not_written(Path(error.filename or self.folder), error) from error
        if not create_once(self.folder / "search.json", text):
            self._compare(read_once(self.folder / "search.json"), given)
        self.poll()

    def _compare(self, saved: Row | None, given: Mapping[str, Any]) -> None:
        if saved is None:
            raise WeightsError(f"{self.folder / 'search.json'} is damaged; give another folder, or delete this one")
        plain = read_line(line_of(given).encode()) or {}  # as it comes back out of a file
        for name in dict.fromkeys((*saved, *plain)):
            if saved.get(name) != plain.get(name):
                raise StateError(
                    f"{self.folder} holds another experiment: its {name} is {saved.get(name)!r:.300}, and "
                    f"{plain.get(name)!r:.300} was asked for. The same call goes on with it; anything else needs a "
                    "folder of its own"
                )

    def trial_folder(self, trial: int) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / f"{trial:04d}"

    def poll(self) -> History:
        """Read what has been written since; gives the history."""
        rounds = self.history.rounds
        while (row := read_once(self._round(len(rounds)))) is not None:
            rounds.append([Job(**job) for job in row["jobs"]])
        with os.scandir(self.folder / "events") as files:
            found = sorted((f.name, f.stat().st_size) for f in files if f.name.endswith(".jsonl"))
        for name, size in found:
            if size > self._read.get(name, 0) and name != f"{self.name}.jsonl":
                self._read_events(name)
        return self.history

    def _read_events(self, name: str) -> None:
        """Read the whole lines that came since; what a crash left torn at the end of a file is ignored."""
        with open(self.folder / "events" / name, "rb") as file:
            file.seek(self._read.get(name, 0))
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read[name] = self._read.get(name, 0) + len(line)
                row = read_line(line)
                if row is not None:
                    self.history.ends.setdefault((row["trial"], row["rung"]), row)

    def end(self, row: Row) -> None:
        """Write the event with which a job has ended."""
        events = self.folder / "events" / f"{self.name}.jsonl"
        try:
            append_lines(events, [line_of(row)])
        except OSError as error:
            raise _not_written(events, error) from error
        self.history.ends.setdefault((row["trial"], row["rung"]), row)

    def add_round(self, jobs: Sequence[Job]) -> bool:
        """Write the next round of jobs; False if somebody else has.

        Raises:
            WeightsError: there is a file of that round which is not whole.
        """
        text, path = line_of({"jobs": [asdict(job) for job in jobs]}), self._round(len(self.history.rounds))
        if create_once(path, text):
            return True
        if read_once(path) is None:  # whoever may write it holds the claim of the round, so nobody is about it
            raise WeightsError(f"{path} is damaged, and nothing goes on without it: restore it, or give another folder")
        return False

    def _round(self, number: int) -> Path:
        return self.folder / "rounds" / f"{number:06d}.json"


def create_once(path: Path, text: str, sync: bool = True) -> bool:
    """Write a file that nobody has written, whole; False if it is there.

    Args:
        path: in a folder that is there.
        text: what it holds.
        sync: wait until the disk has it.

    Raises:
        FileNotFoundError: the folder is not there.
        SaveError: it cannot be written, and is not there.
    """
    if path.exists():  # also where nothing can be written
        return False
    part = None
    try:
        part = part_of(path)
        with open(part, "wb") as file:
            file.write(text.encode())
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.link(part, path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise
    except OSError as error:
        return _create_exclusively(path, text, error)  # a file system without hard links
    finally:
        if part is not None:
            with suppress(OSError):
                os.unlink(part)
    return True


def _create_exclusively(path: Path, text: str, why: OSError) -> bool:
    try:
        file = open(path, "xb")  # noqa: SIM115 - a file that could not be made is not to be deleted
    except FileExistsError:
        return False
    except OSError as error:
        raise _not_written(path, error) from why
    try:
        with file:
            file.write(text.encode())
    except OSError as error:  # of a full disk: what is left of it would pass for a damaged one
        with suppress(OSError):
            path.unlink()  # now that it is closed: Windows deletes no file that is open
        raise _not_written(path, error) from why
    return True


def _not_written(path: Path, error: OSError) -> SaveError:
    return SaveError(
        error.errno,
        f"could not write {path}: {error.strerror or error}. Free some space, or give a folder that can be written; in "
        "this one the same call goes on once it can be",
    )


def read_once(path: Path) -> Row | None:
    """What `create_once` wrote as one line; None where it is missing, or not whole (yet)."""
    try:
        return read_line(path.read_bytes())
    except FileNotFoundError:
        return None
