"""What a fit was, in plain values: its arguments, the facts it rests on, and where, with what and from which code."""

from __future__ import annotations

import functools
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..artefact.model_file import library_versions
from ..errors import StateError, name_of, short
from ..files import digest
from ..nn.registry import model_name
from ..schedules import Schedule
from ..train.callbacks import LossGuard, Progress, Scheduler
from ..train.checkpoints.context import RunContext, what_is
from ..train.checkpoints.layout import encode_schedule
from ..train.checkpoints.writer import CheckpointWriter
from ..train.state import Run
from .follow import Follower

LONG = {"parameters", "buffers", "layers"}  # of the facts: one entry for each layer
OPTIONS = ("weight_decay", "momentum", "betas", "eps", "alpha", "dampening", "nesterov", "amsgrad")  # of optimizers
STANDING = (Scheduler, LossGuard, Progress, CheckpointWriter, Follower)  # callbacks that are no choice of how to train
MOST_DIFF = 2_000_000  # characters of an uncommitted difference that are kept
MOST_FILES = 50  # untracked files that are looked into
Facts = dict[str, Any]


def arguments_of(run: Run) -> Facts:
    """The plan of a fit and the settings that it was made with."""
    context: RunContext | None = run.context
    first = run.optimizer.param_groups[0]
    return {
        "lr": {group.name: float(rate) for group, rate in zip(run.groups, run.rates, strict=True)},
        "epochs planned": run.n_steps / run.steps_per_epoch,
        "cycles": len(run.cycle_ends),
        "schedule": _schedule(run.schedule),
        "momentum": None if run.momentum is None else _schedule(run.momentum),
        "optimizer": {"class": type(run.optimizer).__name__, **_plain({k: first[k] for k in OPTIONS if k in first})},
        "batch_size": int(run.train_loader.batch_size),
        "clip": run.strategy.clip,
        "accumulate": run.strategy.accumulate,
        "precision": run.strategy.precision,
        "seed": int(run.seed),
        "trains": [g.name for g in run.groups if g.trainable],
        "bn_freeze": run.freeze_stats,
        "precompute": context is not None and run.model is not context.model,
        "callbacks": {type(c).__name__: short(what_is(c), 300) for c in run.callbacks if not isinstance(c, STANDING)},
    }


def _schedule(schedule: Schedule) -> str:
    return short(repr(schedule), 300) if encode_schedule(schedule) is not None else name_of(schedule)


def _plain(values: Mapping[str, Any]) -> Facts:
    """Those of the values that are numbers, words, or a few of them."""
    kept = {}
    for name, value in values.items():
        several = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if len(several) <= 8 and all(isinstance(v, bool | int | float | str) for v in several):
            kept[str(name)] = value if several == [value] else several
    return kept


def facts_of(run: Run) -> Facts:
    """What a fit rests on: data, task and model. Those under the names in `LONG` have an entry for each layer."""
    context: RunContext | None = run.context
    if context is None:
        return {"model": {"name": type(run.model).__name__}, "task": {"kind": run.task.kind}}
    return context_facts(context)


def context_facts(context: RunContext) -> Facts:
    """What a learner's run rests on; see `facts_of`."""
    known, model, data, task = dict(context.facts), context.model, context.data, context.task
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    try:
        recipe = _plain(data.preprocessor.recipe())
    except StateError:  # it cannot be written down
        recipe = {}
    return {
        "data": {
            "kind": known.pop("kind of data"),
            "items": {split: int(data.loader(split).n_items) for split in data.splits},
            "fingerprint": known.pop("data"),
            **{f"preprocess {name}": value for name, value in recipe.items() if name != "kind"},
        },
        "task": {
            "kind": task.kind,
            "outputs": task.n_out,
            "settings": known.pop("settings of the task"),
            "names": [short(str(name), 40) for name in task.names[:100]],
            "digest of names": known.pop("names of classes or outputs"),
            "loss": known.pop("loss"),
            "metrics": known.pop("metrics"),
        },
        "model": {
            "name": model_name(model),
            "parameters": sum(n for n, _ in counts),
            "that train": sum(n for n, trains in counts if trains),
            "layer groups": known.pop("layer groups"),
            "digest": digest([f"{key}{known[key]}" for key in sorted(LONG)]),
        },
        **{key: known.pop(key) for key in sorted(LONG)},
    }


def directions_of(run: Run) -> dict[str, bool | None]:
    """Whether higher is better, for each column of the record that has a direction; the metric to go by is first."""
    known = {m.name: m.higher_is_better for m in run.task.metrics}
    return {**{n: d for n, d in known.items() if d is not None}, "valid_loss": False, "train_loss": False}


_versions = functools.cache(library_versions)  # which of them are loaded does not change in a process


def place_of(device: torch.device) -> Facts:
    """Where and with what this process computes."""
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "versions": {**_versions(), "torch": str(torch.__version__)},
        "machine": {
            "host": socket.gethostname(),
            "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
            "device": f"{device.type}, {named}".rstrip(", "),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "command": {"arguments": list(sys.argv), "folder": os.getcwd(), "python": sys.executable},
    }


def code_of(leave_out: Path | None = None) -> tuple[Facts | None, str]:
    """The commit of the script that runs, and the uncommitted difference as a text; None where git knows of neither.

    Args:
        leave_out: a folder whose files are no code, such as that of the runs.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = Path(main).resolve().parent if isinstance(main, str) and Path(main).exists() else Path.cwd()
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, ""
    top = Path((_git(folder, "rev-parse", "--show-toplevel") or str(folder)).strip())
    changed = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD") or ""
    untracked = (_git(top, "ls-files", "--others", "--exclude-standard", "-z") or "").split("\0")
    files = {name: digest([found]) for name in untracked if (found := _content(top / name, leave_out)) is not None}
    facts = {
        "commit": commit.strip(),
        "difference": digest([changed]) if changed else None,
        "lines changed": sum(line[:1] in "+-" and line[:3] not in ("+++", "---") for line in changed.splitlines()),
        "untracked": dict(list(files.items())[:MOST_FILES]),
    }
    return facts, short(changed, MOST_DIFF)


def _content(file: Path, leave_out: Path | None) -> bytes | None:
    """What is in an untracked file of Python; None for any other."""
    outside = leave_out is None or leave_out.resolve() not in file.resolve().parents
    small = outside and file.suffix in (".py", ".ipynb") and file.is_file() and file.stat().st_size < MOST_DIFF
    return file.read_bytes() if small else None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, None where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=20,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def flat(values: Mapping[str, Any], prefix: str = "") -> Facts:
    """Nested values under one name each, joined by points; a group of which there is one only has the outer name.

    >>> flat({"lr": {"head": 0.1}, "data": {"kind": "ImageData", "items": {"train": 9}}, "trains": ["head"]})
    {'lr.head': 0.1, 'data.kind': 'ImageData', 'data.items.train': 9, 'trains': 'head'}
    """
    found: Facts = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            found[f"{prefix}{name}"] = ", ".join(map(str, value))
        else:
            found[f"{prefix}{name}"] = value
    return found
