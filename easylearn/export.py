"""Models out of files: `load_predictor` to predict with, `load_learner` to train on. No code is read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .artefact.archive import Archive
from .artefact.ensemble import is_ensemble, make_ensemble, read_members
from .artefact.model_file import load_model, refuse_damage
from .artefact.predictor import Predictor
from .artefact.training import TrainingSettings
from .data.bunch import BlankData, Data
from .data.loaders import TensorPreprocessor
from .data.preprocess import Preprocessor
from .errors import ArgumentError, WeightsError
from .files import StrPath
from .learning import Learner
from .multi.preprocess import MultiPreprocessor
from .nn import history as _history  # noqa: F401 - registers what builds the models of recommenders
from .options import strict
from .recommenders.preprocess import HistoryPreprocessor
from .tabular.preprocess import TablePreprocessor
from .task import Task
from .texts.preprocess import StreamPreprocessor, TextPreprocessor
from .train.callback import Callback
from .train.strategy import SingleDevice
from .vision import boxes_learner as _boxes_learner  # noqa: F401
from .vision import mask_learner as _mask_learner  # noqa: F401 - register what builds the models of images
from .vision import model as _vision_model  # noqa: F401
from .vision.boxes_preprocess import BoxPreprocessor
from .vision.dense import DensePreprocessor
from .vision.made_images import MadePreprocessor
from .vision.preprocess import ImagePreprocessor

MOST_ITEMS = 2**20  # in a batch that a file may ask for

_KINDS: Mapping[str, type[Preprocessor]] = {
    kind.kind: kind
    for kind in (
        ImagePreprocessor,
        DensePreprocessor,
        BoxPreprocessor,
        MadePreprocessor,
        TablePreprocessor,
        TextPreprocessor,
        StreamPreprocessor,
        TensorPreprocessor,
        HistoryPreprocessor,
        MultiPreprocessor,
    )
}
"""The kinds of items that a file may name."""


def _open(path: StrPath, own: nn.Module | None) -> tuple[nn.Module, Task, BlankData, dict[str, Any]]:
    """Model, task, data without items, and spec of a file."""
    with Archive(path) as archive:
        if is_ensemble(archive):
            raise ArgumentError(f"{path} holds several models, which predict together: load_predictor(path)")
        return _read(archive, own)


def _read(archive: Archive, own: nn.Module | None) -> tuple[nn.Module, Task, BlankData, dict[str, Any]]:
    """The same of an open file, or of one of the models of an ensemble's."""
    path = archive.path
    recipe = archive.spec.get("data")
    kind = recipe.get("kind") if isinstance(recipe, dict) else None
    if not isinstance(recipe, dict) or not isinstance(kind, str) or kind not in _KINDS:
        raise WeightsError(f"{path} is about {kind!r}, which this easylearn does not know; known are {list(_KINDS)}")
    batch_size = recipe.get("batch_size")
    if type(batch_size) is not int or not 0 < batch_size <= MOST_ITEMS:
        raise WeightsError(f"{path} asks for batches of {str(batch_size)[:50]} items; it is damaged")
    # also a number that is none, or infinite, deep inside of what a processor had learned
    with refuse_damage(path, "says in a damaged way how items are prepared"):
        task = Task.from_json(archive.spec.get("task"))
        preprocessor = _KINDS[kind].from_recipe(recipe, task)
        data = BlankData(preprocessor.complete(task), batch_size, preprocessor)
        model = load_model(archive, own)
        preprocessor.check_model(model)
    return model, data.task, data, archive.spec


@strict({"fname": "path", "cpu": 'device="cpu"'})
def load_predictor(
    path: StrPath, *, model: nn.Module | None = None, device: str | torch.device | None = None
) -> Predictor:
    """A predictor out of a file that `learn.export` or a blend's `export` wrote; nothing in the file is executed.

    Args:
        path: the file.
        model: what the file says that only you can make: your own module, where it is not registered.
        device: None takes the best there is.

    Returns:
        The predictor; its numbers are those of the learner, bit for bit on the same kind of machine.

    Raises:
        WeightsError: the file is missing, damaged or of another kind, or the model does not fit.
    """
    with Archive(path) as archive:
        if not is_ensemble(archive):
            return _predictor(archive, model, device)
        found = read_members(archive)
        each = [_predictor(one, model, device) for one in found.archives]
        if any(each[0].task.same_as(one.task) for one in each):
            raise WeightsError(f"the models in {path} predict different things")
        return make_ensemble(each, found, archive.spec)


def _predictor(archive: Archive, model: nn.Module | None, device: str | torch.device | None) -> Predictor:
    net, task, data, spec = _read(archive, model)
    training = TrainingSettings.from_json(spec.get("training"), archive.path)
    strategy = SingleDevice(device, training.precision)
    net = strategy.place(net).eval()
    return Predictor(net, task, data.preprocessor.for_model(net), strategy, data.batch_size, spec)


@strict({"fname": "path", "cpu": 'device="cpu"'})
def load_learner(
    path: StrPath, *, data: Data[Any] | None = None, model: nn.Module | None = None,
    metrics: Sequence[Any] | None = None, callbacks: Sequence[Callback] | None = None,
    device: str | torch.device | None = None, models: StrPath = "models", progress: bool = True,
) -> Learner:  # fmt: skip
    """A learner out of a file that `learn.export` wrote: it predicts at once, and trains when it has data.

    Args:
        path: the file.
        data: to go on training with, made with the same classes (and vocabulary, or `like=`); `learn.set_data(data)`
            gives some later.
        model, device: as in `load_predictor`.
        metrics: None takes the task's usual ones.
        callbacks: None takes those that the file could describe.
        models: folder for `learn.save`.
        progress: draw bars and print a line per epoch.

    Returns:
        The learner, frozen as it was.

    Raises:
        WeightsError: as `load_predictor`; `DataError` where the data does not fit the model.
    """
    net, _, blank, spec = _open(path, model)
    training = TrainingSettings.from_json(spec.get("training"), path)
    same = {name: vars(training)[name] for name in ("wd", "clip", "accumulate", "precision", "seed", "bn_freeze")}
    made = training.make_callbacks(path) if callbacks is None else callbacks
    learn = Learner(
        blank, net, optimizer=training.make_optimizer(), metrics=metrics, device=device, path=models, callbacks=made,
        progress=progress, **same,
    )  # fmt: skip
    for group in learn.layer_groups:
        for _, p in group.params:
            p.requires_grad_(group.name not in training.frozen)
    learn._epochs_done = training.epochs_done
    if data is not None:
        learn.set_data(data)
    return learn
