"""Track: a folder with what a run was and how it went, which any kill leaves readable."""

from __future__ import annotations

import datetime
import json
import math
import os
import secrets
import socket
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, DataError, EasyLearnWarning, SchemaError, StateError
from ..files import StrPath, as_path, atomic_write
from ..train.checkpoints.writer import CheckpointWriter
from ..train.state import Run
from .describe import LONG, arguments_of, code_of, directions_of, facts_of, place_of
from .follow import Follower, how_it_ended
from .lines import append_lines, cut_lines, line_of, read_lines, seal

SCHEMA = 1
INFO, LAYERS, STEPS, EPOCHS, DIFFERENCE = "run.json", "layers.json", "steps.jsonl", "epochs.jsonl", "uncommitted.diff"


class Track(Follower):
    """Writes down a learner's fits in a folder: arguments, facts, versions, code, seeds, and each step and epoch.

    `run.json` says what it was, `steps.jsonl` and `epochs.jsonl` how it went; see `docs/tracking.md`. One object in
    several fits of a learner makes one run. A fit that is resumed goes on in its folder: rows after the checkpoint are
    cut. Nothing that it does changes what is trained.

    Args:
        folder: of this run, such as "runs/first".
        arguments: whatever else the run shall be known by, in plain values, such as {"size": 128}.
        replace: take the place of another run in that folder.
        code: ask git for the commit, and keep what is not committed as `uncommitted.diff`.
        every: seconds between two writings of steps.

    Raises:
        StateError: when a fit begins, if the folder holds another run.

    >>> import tempfile, torch, easylearn as el
    >>> x, y = torch.randn(8, 2), torch.arange(8) % 2
    >>> data = el.TensorData((x, y), (x, y), el.single_label(["a", "b"]), batch_size=4)
    >>> learn = el.Learner(data, torch.nn.Linear(2, 2), progress=False)
    >>> folder = tempfile.mkdtemp()
    >>> record = learn.fit(0.1, 2, callbacks=[el.Track(folder, code=False)])
    >>> el.compare([folder])[0].epochs[-1]["valid_loss"] == record.last["valid_loss"]
    True
    """

    def __init__(
        self,
        folder: StrPath,
        arguments: Mapping[str, Any] | None = None,
        replace: bool = False,
        code: bool = True,
        every: float = 5.0,
    ) -> None:
        super().__init__(every)
        self.folder = as_path(folder, "the folder of a run")
        self.arguments = dict(arguments or {})
        self.replace = replace
        self.code = code
        try:
            json.dumps(self.arguments, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"arguments= of Track must be in plain values (numbers, texts, lists, dictionaries): {error}"
            ) from error
        self._info: dict[str, Any] = {}
        self._warned = self._over = False

    # -- the folder ------------------------------------------------------------------------------------------

    def _goes_on(self, found: Mapping[str, Any], run: Run) -> bool:
        """Whether the run of the folder is this learner's own, before this fit."""
        mine = found["id"] == self._info.get("id")
        last = found["fits"][-1] if found["fits"] else {}
        same_life = 0 < run.first_epoch == last.get("first_epoch", 0) + last.get("epochs", 0)
        return self.replace or mine or not last or same_life

    def _without_lost(self, found: dict[str, Any] | None, run: Run) -> dict[str, Any] | None:
        """The run of the folder without its last fit, where a kill before its first checkpoint makes it begin anew."""
        place, last = self._goes_on_from(run), found["fits"][-1] if found is not None and found["fits"] else {}
        lost = place is not None and last.get("checkpoints") == place and last.get("status") != "done"
        if found is None or self.restored is not None or not lost:
            return found
        fits = found["fits"][:-1]
        for name in (STEPS, EPOCHS):
            _cut(self.folder / name, len(fits), 0)
        return {**found, "fits": fits} if fits else None

    def _goes_on_from(self, run: Run) -> str | None:
        """Where a fit that may be called again after a kill has its checkpoints, as seen from the folder."""
        folders = [c.folder for c in run.callbacks if isinstance(c, CheckpointWriter) and c.begins_anew]
        return os.path.relpath(folders[0], self.folder) if folders else None

    def _taken(self, found: Mapping[str, Any]) -> StateError:
        last, state = found["fits"][-1], "" if _ended(found) else ", which did not end"
        return StateError(
            f"{self.folder} holds a run of {len(found['fits'])} fit{'s'[: len(found['fits']) > 1]}{state} (begun "
            f"{last['begun']}). Give another folder, or Track({str(self.folder)!r}, replace=True); a fit with "
            "checkpoint= is continued by learn.resume"
        )

    def begin(self, run: Run) -> None:
        """Open the folder for a `run`: go on with a fit that was killed, or note a new one."""
        found = self._without_lost(read_info(self.folder), run)
        self._warned = self._over = False
        if self.restored is not None:
            if found is not None and found["id"] != self.restored["id"]:
                raise self._taken(found)
            if found is not None and len(found["fits"]) > self.restored["fit"]:
                self._resume(run, found, int(self.restored["fit"]))
                return
        elif found is not None and not self._goes_on(found, run):
            raise self._taken(found)
        if found is not None and self.replace and found["id"] != self._info.get("id"):
            found = None
        self._begin_anew(run, found)

    def _begin_anew(self, run: Run, found: dict[str, Any] | None) -> None:
        """Note a fit, the first one or a further one of a learner."""
        facts = facts_of(run)
        layers = {name: facts.pop(name) for name in list(facts) if name in LONG}
        if found is None:
            self._clear()
            code, difference = code_of(self.folder) if self.code else (None, "")
            found = {
                "schema": SCHEMA,
                "id": self.restored["id"] if self.restored else secrets.token_hex(8),
                "arguments": self.arguments,
                "directions": directions_of(run),
                **place_of(run.strategy.device),
                "code": code,
                "facts": facts,
                "fits": [],
            }
            self._write(LAYERS, layers)
            if difference:
                self._write(DIFFERENCE, difference)
        fit = {"begun": _now(), "process": [os.getpid(), socket.gethostname()], "first_epoch": run.first_epoch}
        if (place := self._goes_on_from(run)) is not None:
            fit["checkpoints"] = place
        fit["arguments"] = arguments_of(run)
        if facts != found["facts"]:
            fit["facts"] = facts
        self._info = {**found, "fits": [*found["fits"], fit]}
        self.state = {"id": found["id"], "fit": len(found["fits"])}
        self._write(INFO, self._info)

    def _resume(self, run: Run, found: dict[str, Any], fit: int) -> None:
        """Cut the rows that came after the checkpoint; the record gives those that are missing."""
        last = found["fits"][fit]
        same_end = last.get("status") == how_it_ended(run) != "failed"
        if same_end and last["steps"] == run.step:  # it had ended: whoever asks for its learner changes nothing
            self._info, self.state, self._over = found, {"id": found["id"], "fit": fit}, True
            self.steps, self.epochs = run.step, len(run.record.epochs)
            return
        self._info = {**found, "fits": found["fits"][: fit + 1]}
        self.state = {"id": found["id"], "fit": fit}
        again = [*self._info["fits"][fit].get("resumed", []), {"at": _now(), "step": run.step}]
        self._info["fits"][fit] |= {"resumed": again, "process": [os.getpid(), socket.gethostname()]}
        for key in ("ended", "status", "stop_reason", "error"):
            self._info["fits"][fit].pop(key, None)
        self.steps = _cut(self.folder / STEPS, fit, run.step)
        self.epochs = _cut(self.folder / EPOCHS, fit, len(run.record.epochs))
        self._write(INFO, self._info)

    def _clear(self) -> None:
        for name in (INFO, LAYERS, STEPS, EPOCHS, DIFFERENCE):
            (self.folder / name).unlink(missing_ok=True)

    def _write(self, name: str, content: Mapping[str, Any] | str) -> None:
        with atomic_write(self.folder / name) as temporary:
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
            temporary.write_text(text, encoding="utf-8")

    # -- its rows --------------------------------------------------------------------------------------------

    def follow(self, run: Run) -> None:
        """Append what is new in the record; a full disk gives one warning, and later rows bring the missing ones."""
        record, fit = run.record, self.state["fit"]
        lines, epochs = _lines_of_steps(run, fit, self.steps), record.epochs[self.epochs :]
        ends = record.epoch_ends[self.epochs :]
        rows = [
            {"fit": fit, "step": end, **{n: float(v) for n, v in row.items()}, "epoch": int(row["epoch"])}
            for row, end in zip(epochs, ends, strict=True)
        ]
        try:
            append_lines(self.folder / STEPS, lines)
            self.steps += len(lines)
            append_lines(self.folder / EPOCHS, map(line_of, rows))
            self.epochs += len(rows)
        except OSError as error:
            self._warn(error)

    def finish(self, run: Run) -> None:
        """Note how the `run` ended; one that failed before its first step leaves no trace."""
        if self._over:
            return
        status, error = how_it_ended(run), sys.exc_info()[1]
        if run.step == 0 and status == "failed":
            self._info["fits"].pop()
            if not self._info["fits"]:
                self._clear()
                return
        else:
            last = self._info["fits"][-1]
            last |= {"ended": _now(), "status": status, "stop_reason": run.stop_reason and str(run.stop_reason)}
            if status == "failed" and error is not None:
                last["error"] = f"{type(error).__name__}: {error}"[:1000]
            last |= {"steps": run.step, "epochs": run.epoch}
        try:
            self._write(INFO, self._info)
        except OSError as problem:
            self._warn(problem)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.folder} could not be written ({error.strerror or error}); the fit goes on. Free some space: "
                "the next rows bring those that are missing",
                EasyLearnWarning,
                stacklevel=2,
            )


def _lines_of_steps(run: Run, fit: int, start: int) -> list[str]:
    """The lines of the steps of a record from `start` on."""
    record, first, per_epoch = run.record, run.first_epoch, run.steps_per_epoch
    losses, rates, momentum = record.losses[start:], record.rates[start:], record.momentum[start:]
    columns = zip(range(start, start + len(losses)), losses, momentum, rates, strict=True)
    if math.isfinite(sum(losses) + sum(momentum) + sum(map(sum, rates))):  # written by hand, in half the time
        return [
            seal(
                f'{{"fit": {fit}, "step": {i + 1}, "epoch": {first + i // per_epoch}, "loss": {loss!r}, '
                f'"momentum": {m!r}, "rates": {list(r)!r}, '
            )
            for i, loss, m, r in columns
        ]
    return [
        line_of({"fit": fit, "step": i + 1, "epoch": first + i // per_epoch, "loss": loss, "momentum": m, "rates": r})
        for i, loss, m, r in columns
    ]


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")


def _ended(found: Mapping[str, Any]) -> bool:
    return bool(found["fits"]) and "ended" in found["fits"][-1]


def _cut(path: Path, fit: int, keep: int) -> int:
    """Cut a file after the first `keep` rows of a fit; how many it has."""
    end = rows = 0
    for place, row in read_lines(path):
        if row["fit"] > fit or (row["fit"] == fit and rows == keep):
            break
        end, rows = place, rows + (row["fit"] == fit)
    cut_lines(path, end)
    return rows


def read_info(folder: Path) -> dict[str, Any] | None:
    """What `run.json` of a folder says; None if there is none.

    Raises:
        DataError: it is damaged, or nothing that `Track` writes; a SchemaError if a newer easylearn wrote it.
    """
    file = folder / INFO
    try:
        info = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read ({error}): restore it, or delete that folder") from error
    if not isinstance(info, dict) or not isinstance(info.get("schema"), int) or not isinstance(info.get("fits"), list):
        raise DataError(f"{file} is not what Track writes: {str(info)[:100]}")
    if info["schema"] > SCHEMA:
        raise SchemaError(f"{file} was written by a newer easylearn (schema {info['schema']}): update easylearn")
    return info
