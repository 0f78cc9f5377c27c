"""TensorBoard, WandB and MLflow: copies of the record for who looks at runs there. None can stop or change a fit."""

from __future__ import annotations

import math
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import keyed
from ..errors import ArgumentError, EasyLearnWarning
from ..files import StrPath, as_path
from ..train.state import Run
from .describe import LONG, arguments_of, directions_of, facts_of, flat, place_of
from .follow import Follower, how_it_ended

Values = dict[str, Any]


class _Copy(Follower):
    """Copies steps, epochs and arguments somewhere. An error there is one warning, and the copying ends.

    The global random generators are put back after each call, so that the training does not depend on what is called.
    """

    package = ""

    def __init__(self, every: float) -> None:
        super().__init__(every)
        self._broken = False
        self._offset = 0  # steps of the earlier fits: the axis goes on
        self._fit = 0

    def _open(self, run: Run, arguments: Values) -> None:
        """Begin a run, or go on with it; `arguments` are numbers and texts by their names."""
        raise NotImplementedError

    def _log(self, values: Mapping[str, float], step: int) -> None:
        """Note values at a step of the learner's life."""
        raise NotImplementedError

    def _close(self, status: str, result: Mapping[str, float]) -> None:
        """End the run, which another fit may go on with."""
        raise NotImplementedError

    def _try(self, what: str, call: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            with keyed.scoped_rng():
                call()
        except Exception as error:
            self._broken = True
            hint = '; pip install "easylearn[track]" brings it' if isinstance(error, ImportError) else ""
            problem = f"{type(error).__name__}: {error}"[:300]
            text = f"{type(self).__name__} failed {what} ({problem}){hint}. The fit goes on without it"
            _warn(text)

    def begin(self, run: Run) -> None:
        """Begin a run there, with all that is known of this one."""
        self._broken = False
        if self.restored:
            self._offset, self._fit = int(self.restored["offset"]), int(self.restored["fit"])
            self.steps, self.epochs = run.step, len(run.record.epochs)  # they were copied before the break
        self.state = {"offset": self._offset, "fit": self._fit}
        self._try("to begin", lambda: self._open(run, _described(run)))

    def follow(self, run: Run) -> None:
        """Copy what is new."""
        self._try("to copy", lambda: self._copy(run))

    def _copy(self, run: Run) -> None:
        record, names = run.record, run.record.group_names
        for i, loss in enumerate(record.losses[self.steps :], self.steps):
            rates = {f"rate/{name}": rate for name, rate in zip(names, record.rates[i], strict=True)}
            self._log({"step/loss": loss, "step/momentum": record.momentum[i], **rates}, self._offset + i + 1)
            self.steps = i + 1
        for row, end in zip(record.epochs[self.epochs :], record.epoch_ends[self.epochs :], strict=True):
            self._log({f"epoch/{n}": float(v) for n, v in row.items() if n != "epoch"}, self._offset + end)
            self.epochs += 1

    def finish(self, run: Run) -> None:
        """End the run there."""
        names = directions_of(run)
        last = run.record.epochs[-1] if run.record.epochs else {}
        result = {n: float(last[n]) for n in names if n in last and math.isfinite(last[n])}
        self._try("to end", lambda: self._close(how_it_ended(run), result))
        self._offset, self._fit = self._offset + run.step, self._fit + 1


def _warn(text: str) -> None:
    warnings.warn(text, EasyLearnWarning, stacklevel=5)


def _described(run: Run) -> Values:
    """Arguments, facts and versions of a fit as numbers and texts by their names."""
    facts = {name: value for name, value in facts_of(run).items() if name not in LONG}
    facts.get("task", {}).pop("names", None)
    place = place_of(run.strategy.device)
    told = flat({**arguments_of(run), **facts, "versions": place["versions"], "machine": place["machine"]})
    return {n: v if isinstance(v, bool | int | float | str) else str(v) for n, v in told.items() if v is not None}


class TensorBoard(_Copy):
    """Copies the record for TensorBoard, its hyper-parameters in the same run. It needs the package tensorboard.

    An error of TensorBoard's is one warning: the fit goes on, and trains what it would have without it.

    Args:
        folder: of this run; `tensorboard --logdir` shows it, or the folder above it with others.
        every: seconds between two copies of steps.
    """

    def __init__(self, folder: StrPath, every: float = 5.0) -> None:
        super().__init__(every)
        self.folder = as_path(folder, "the folder of TensorBoard")
        self._writer: Any = None

    def _open(self, run: Run, arguments: Values) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        purge = self._offset + run.step + 1 if self.restored else None
        self._writer = SummaryWriter(str(self.folder), purge_step=purge, flush_secs=10)
        self.steps, self.epochs = run.step, len(run.record.epochs)
        if self._fit == 0 and not self.restored:  # add_hparams of torch's would make a run of its own
            told = {f"epoch/{name}": math.nan for name in directions_of(run) if run.valid_loader or "valid" not in name}
            for summary in hparams(arguments, told):  # type: ignore[no-untyped-call]
                self._writer.file_writer.add_summary(summary)
        else:
            changed = "\n".join(f"    {name}: {value}" for name, value in arguments.items())
            self._writer.add_text(f"arguments of fit {self._fit + 1}", changed, self._offset)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        now = time.time()
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=now)

    def _close(self, status: str, result: Mapping[str, float]) -> None:
        self._writer.close()


class WandB(_Copy):
    """Copies the record for Weights & Biases. It needs the package wandb; nothing is sent unless `offline=False`.

    Each fit of a learner is a run there, and those of one object a group, with steps that go on.
    An error of wandb's is one warning: the fit goes on, and trains what it would have without it.

    Args:
        project: what the runs belong to.
        name: of this run.
        offline: write files below `folder` alone, which `wandb sync` may send later.
        folder: where wandb puts its files.
        every: seconds between two copies of steps.
    """

    def __init__(
        self, project: str, name: str | None = None, offline: bool = True, folder: StrPath = ".", every: float = 5.0
    ) -> None:
        super().__init__(every)
        if not isinstance(project, str) or not project:
            raise ArgumentError(f"project must be the name of a project, got {project!r}")
        self.project, self.name, self.offline = project, name, offline
        self.folder = as_path(folder, "the folder of wandb")
        self._group = ""
        self._run_there: Any = None

    def _open(self, run: Run, arguments: Values) -> None:
        import wandb

        there = str(self.restored["id"]) if self.restored else secrets.token_hex(4)
        self._group = str(self.restored["group"]) if self.restored else self._group or there
        self.state |= {"id": there, "group": self._group}
        self._run_there = wandb.init(
            project=self.project,
            name=self.name,
            id=there,
            group=self._group,
            dir=str(self.folder),
            mode="offline" if self.offline else "online",
            resume=None if self.offline else "allow",
            config=arguments,
            settings=wandb.Settings(console="off", silent=True),
        )

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._run_there.log(dict(values), step=step)

    def _close(self, status: str, result: Mapping[str, float]) -> None:
        self._run_there.summary.update({f"result/{name}": value for name, value in result.items()})
        self._run_there.finish(exit_code=1 if status == "failed" else 0)


class MLflow(_Copy):
    """Copies the record for MLflow. It needs the package mlflow, or mlflow-skinny.

    An error of MLflow's is one warning: the fit goes on, and trains what it would have without it.

    Args:
        experiment: what the runs belong to; it is made where there is none.
        name: of this run.
        uri: of the tracking store: a folder, a database or a server; None is MLflow's own choice.
        every: seconds between two copies of steps.
    """

    def __init__(
        self, experiment: str = "easylearn", name: str | None = None, uri: StrPath | None = None, every: float = 5.0
    ) -> None:
        super().__init__(every)
        if not isinstance(experiment, str) or not experiment:
            raise ArgumentError(f"experiment must be the name of an experiment, got {experiment!r}")
        self.experiment, self.name = experiment, name
        self.uri = uri.resolve().as_uri() if isinstance(uri, Path) else None if uri is None else str(uri)
        self._id = ""
        self._client: Any = None
        self._waiting: list[Any] = []
        self._noted: Values = {}

    def _open(self, run: Run, arguments: Values) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(self.experiment)
        place = found.experiment_id if found is not None else self._client.create_experiment(self.experiment)
        self._id = str(self.restored["id"]) if self.restored else self._id
        if self._id:
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = str(self._client.create_run(place, run_name=self.name).info.run_id)
        self.state["id"] = self._id
        before = f"fit {self._fit + 1}/" if self._fit else ""  # a parameter there has one value for good
        new = {name: value for name, value in arguments.items() if self._noted.get(name) != value}
        params = [Param(_key(before + name), str(value)[:500]) for name, value in new.items()]
        self._noted |= arguments
        for i in range(0, 0 if self.restored else len(params), 100):  # of which a call takes no more
            self._client.log_batch(self._id, params=params[i : i + 100])

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(_key(name), value, now, step) for name, value in values.items()]
        if len(self._waiting) >= 500:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for i in range(0, len(waiting), 1000):
            self._client.log_batch(self._id, metrics=waiting[i : i + 1000])

    def _copy(self, run: Run) -> None:
        super()._copy(run)
        self._flush()

    def _close(self, status: str, result: Mapping[str, float]) -> None:
        self._client.set_terminated(self._id, {"done": "FINISHED", "failed": "FAILED"}.get(status, "KILLED"))


def _key(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)[:250]
