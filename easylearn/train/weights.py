"""Weights in a file: safetensors, replaced atomically, with the task that they were trained for in the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import WeightsError, did_you_mean
from ..files import StrPath, read_tensors, write_tensors
from ..task import Task
from .snapshot import copy_into, whole
from .strategy import Strategy

SCHEMA = 1


def save_weights(path: StrPath, model: nn.Module, task: Task, strategy: Strategy | None = None) -> Path:
    """Write a model's weights and buffers, and the task they were trained for; gives the path.

    Args:
        path: the file to create or replace.
        model: whose state is written.
        task: its kind, names and settings go into the file's header.
        strategy: of a model of several processes, all of which call this; the first one writes.
    """
    header = {"easylearn": json.dumps({"schema": SCHEMA, **task.to_json()})}
    if strategy is None:
        return write_tensors(path, model.state_dict(), header)
    with strategy.together():
        state = whole(model.state_dict(), strategy.is_main)
    return strategy.once(Path(path), lambda file: write_tensors(file, state, header))


def load_weights(path: StrPath, model: nn.Module, task: Task) -> Task:
    """Read weights into a model, where it is and in its own precision, all of them or none.

    Args:
        path: a file made by `save_weights`.
        model: takes the weights.
        task: must be what the weights were trained for.

    Returns:
        The task, with outputs that mean what those of these weights do; see `Task.in_units_of`.

    Raises:
        WeightsError: there is no such file, it is damaged, or it does not fit; the message says what differs.
    """
    file = Path(path)
    if not file.exists():
        if file.name.endswith(".easylearn.safetensors"):
            raise WeightsError(
                f"{file.stem} names a whole model, which load_learner(path) and load_predictor(path) read; learn.load "
                "takes the name that learn.save was given"
            )
        others = sorted(f.stem for f in file.parent.glob("*.safetensors")) if file.parent.is_dir() else []
        hint = did_you_mean(file.stem, others) if others else "The folder has no saved weights."
        raise WeightsError(f"there are no saved weights {file}. {hint}")
    header, found = read_tensors(file, "easylearn", SCHEMA)
    if header is not None:  # as in weights of others
        task = task.in_units_of(_checked_task(file, header, task))
    _copy(file, found, model)
    return task


def _checked_task(file: Path, header: dict[str, Any], task: Task) -> Task:
    try:
        trained_for = Task.from_json(header)
    except WeightsError as error:
        raise WeightsError(f"{file} has a header without its task: {error}") from error
    if difference := trained_for.same_as(task):
        raise WeightsError(
            f"{file} belongs to another task: {difference} (first: the file, second: this learner). Load it into a "
            "learner whose data has the same classes"
        )
    return trained_for


def _copy(file: Path, found: dict[str, Tensor], model: nn.Module) -> None:
    own = model.state_dict()
    shapes = [
        f"{n}: {tuple(found[n].shape)} in the file, {tuple(own[n].shape)} in the model"
        for n in own
        if n in found and own[n].shape != found[n].shape
    ]
    problems = [
        f"{len(names)} {what} (first {names[0]})"
        for what, names in (
            ("tensors of the model are not in the file", [repr(n) for n in own if n not in found]),
            ("tensors of the file are not in the model", [repr(n) for n in found if n not in own]),
            ("shapes differ", shapes),
        )
        if names
    ]
    if problems:
        raise WeightsError(
            f"{file} does not fit the model: {'; '.join(problems)}. Was it saved from another architecture or head?"
        )
    copy_into(own.values(), (found[name] for name in own))
