"""Models out of files: `load_predictor` to predict with, `load_learner` to train on. No code is read from a file."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .analysis.summary import model_name
from .artefact.archive import Archive
from .artefact.model_file import BUILD_ERRORS, load_model
from .data.bunch import Data, Sampling
from .data.loaders import TENSORS, TensorData
from .device import pick_device
from .errors import ArgumentError, DataError, EasyLearnError, WeightsError, strict
from .files import StrPath, atomic_write
from .learner import Learner
from .nn import registry
from .nn.awd_lstm import AWDLSTM
from .tabular.data import RECIPE as TABLE
from .tabular.data import TabularData
from .task import Prediction, Predictions, Task
from .text.data import LM_RECIPE as LANGUAGE_MODEL
from .text.data import RECIPE as TEXT
from .text.data import TextData, TextLMData
from .train.callback import Callback
from .train.predict import gather
from .train.strategy import Strategy
from .vision import model as _vision_model  # noqa: F401 - registers what builds the models of pictures
from .vision.data import RECIPE as IMAGES
from .vision.data import ImageData

CHUNK = 16  # batches that a stream prepares together
MOST_ITEMS = 2**20  # in a batch that a file may ask for


class Predictor:
    """A model that was trained elsewhere, ready to be asked. Make one with `load_predictor`.

    Args:
        model: gives logits.
        task: what they mean.
        data: prepares new items.
        strategy: device and precision.
        info: what the file says of itself.

    Attributes:
        model, task, data, info: as given.
    """

    __slots__ = ("_strategy", "data", "info", "model", "task")

    def __init__(self, model: nn.Module, task: Task, data: Data, strategy: Strategy, info: Mapping[str, Any]) -> None:
        self.model = model.eval()
        self.task = task
        self.data = data
        self.info = info
        self._strategy = strategy

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the columns of `probs`; empty for regression."""
        return self.task.classes

    def predict(self, items: Any) -> Any:
        """What the model says, through the very steps that the learner takes.

        Args:
            items: one item (a picture's path, a text, a row as a dictionary) gives a `Prediction`. A list, a DataFrame,
                or a `Path` of a folder, a csv or a parquet file gives `Predictions` of all of them at once. For more
                than memory holds use `stream`.

        Returns:
            A `Prediction`, or `Predictions` with `probs`, `labels` and `ids` in the order given.

        Raises:
            DataError: an item cannot be read; the message names it.
        """
        if isinstance(items, Iterator):
            raise ArgumentError("predict takes items that are all there; for an iterator use predictor.stream(items)")
        if self.task.is_streamed:
            raise ArgumentError("a language model predicts what comes next: use predictor.generate(prompt, n)")
        if self._is_file(items):
            ids, parts = [], []
            for names, some in self.data.read_items(Path(items), CHUNK * self.data.batch_size):
                ids += names
                parts.append(self._probs(some))
            if not parts:
                raise DataError(f"there is nothing to predict in {items}")
            return self._gathered(torch.cat(parts), ids)
        probs = self._probs(items)
        if self.data.is_single(items):
            return Prediction.of(self.task, probs)[0]
        return self._gathered(probs, self.data.item_ids(items, len(probs)))

    def stream(self, items: Any) -> Iterator[tuple[str, Prediction]]:
        """Predictions one after the other, while memory holds a few batches of items.

        Args:
            items: any iterable of items, or a `Path` as in `predict`.

        Returns:
            A generator of (id, prediction), in the order given.
        """
        if self._is_file(items):
            for names, some in self.data.read_items(Path(items), CHUNK * self.data.batch_size):
                yield from zip(names, Prediction.of(self.task, self._probs(some)), strict=True)
            return
        if not isinstance(items, Iterator) and self.data.is_single(items):
            raise ArgumentError("stream takes many items; for one use predictor.predict(item)")
        first = 0
        for some in _pieces(items, CHUNK * self.data.batch_size):
            names = self.data.item_ids(some, len(some), first)
            yield from zip(names, Prediction.of(self.task, self._probs(some)), strict=True)
            first += len(some)

    def to_csv(self, items: Any, out: StrPath) -> int:
        """Write predictions to a csv: id, label and a probability per class; or id and numbers for regression.

        Args:
            items: what `stream` takes, or a list in which items and `Path`s of files and folders may be mixed. With
                several of them an id begins with the path.
            out: the file to create or replace.

        Returns:
            How many rows were written.
        """
        sources = self._sources(items)
        head = [] if self.task.predicts_numbers else ["label"]
        count = 0
        with atomic_write(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", *head, *self.task.columns])
            for source in sources:
                # Two folders may hold files of the same name.
                of_many = len(sources) > 1 and self._is_file(source)
                within = f"{source}{'/' if os.path.isdir(source) else ':'}" if of_many else ""
                for name, said in self.stream(source):
                    values = [f"{p:.8g}" for p in said.probs.tolist()]
                    writer.writerow([within + name, *(self.task.in_words(said.label) for _ in head), *values])
                    count += 1
        return count

    def generate(
        self,
        prompt: str,
        n: int = 40,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> str:
        """Let a language model write on after a prompt; see `Learner.generate`."""
        return self.data.generate(self.model, prompt, n, Sampling(temperature, top_k, top_p, seed))

    def _is_file(self, items: Any) -> bool:
        """Whether items are in a file or a folder: a `Path` is; a word is only where it can be no item itself."""
        return isinstance(items, str | os.PathLike) and self.data.holds_items(items)

    def _sources(self, items: Any) -> list[Any]:
        """Files and folders one by one, and lists of the items between them."""
        if not isinstance(items, list):
            return [items]
        found: list[Any] = []
        for is_file, group in groupby(items, key=self._is_file):
            some = list(group)
            found += some if is_file else [some]
        return found or [items]

    def _probs(self, items: Any) -> Tensor:
        loader = self.data.new_loader(items)
        try:
            logits, _ = gather(self.model, loader, self._strategy)
        except (EasyLearnError, torch.cuda.OutOfMemoryError):
            raise
        except BUILD_ERRORS as error:
            raise WeightsError(
                f"the model cannot take these items as the file prepares them: {str(error)[:300]}"
            ) from error
        if logits.shape[1:] != (self.task.n_out,):
            raise WeightsError(
                f"the model gives {tuple(logits.shape[1:])} numbers for an item where the file names {self.task.n_out}"
            )
        return self.task.activate(logits)

    def _gathered(self, probs: Tensor, ids: Sequence[str]) -> Predictions:
        return Predictions.of(self.task, probs, ids)

    def __repr__(self) -> str:
        return f"Predictor({model_name(self.model)}, {self.task})"


def _pieces(items: Any, n: int) -> Iterator[Any]:
    """At most `n` items at a time: lists, or parts of a table."""
    if getattr(items, "iloc", None) is not None:
        yield from (items.iloc[a : a + n] for a in range(0, len(items), n))
        return
    if isinstance(items, Tensor | np.ndarray):
        yield from (items[a : a + n] for a in range(0, len(items), n))
        return
    source = iter(items)
    while some := list(islice(source, n)):
        yield some


_KINDS: Mapping[str, type[Data]] = {
    IMAGES: ImageData,
    TABLE: TabularData,
    TEXT: TextData,
    LANGUAGE_MODEL: TextLMData,
    TENSORS: TensorData,
}
"""The kinds of data that a file may name."""


def _open(path: StrPath, own: nn.Module | None) -> tuple[nn.Module, Task, Data, dict[str, Any]]:
    """Model, task, data and spec of a file."""
    with Archive(path) as archive:
        recipe = archive.spec.get("data")
        kind = recipe.get("kind") if isinstance(recipe, dict) else None
        if not isinstance(recipe, dict) or not isinstance(kind, str) or kind not in _KINDS:
            raise WeightsError(
                f"{path} is about {kind!r}, which this easylearn does not know; known are {list(_KINDS)}"
            )
        try:
            task = Task.from_json(archive.spec.get("task"))
            data = _read_recipe(_KINDS[kind], recipe, task, path)
            model = load_model(archive, own)
        except WeightsError:
            raise
        except EasyLearnError as error:
            raise WeightsError(f"{path} cannot be read: {error}") from error
        _check_words(model, data, path)
        return model, data.task, data, archive.spec


def _read_recipe(kind: type[Data], recipe: Mapping[str, Any], task: Task, path: StrPath) -> Data:
    try:
        data = kind.from_recipe(recipe, task)
    except EasyLearnError:
        raise
    except BUILD_ERRORS as error:  # a number that is none, or infinite, deep inside of what a processor had learned
        raise WeightsError(f"{path} says in a damaged way how items are prepared: {str(error)[:200]}") from error
    if data.batch_size > MOST_ITEMS:
        raise WeightsError(f"{path} asks for batches of {data.batch_size:,} items; it is damaged")
    return data


def _check_words(model: nn.Module, data: Data, path: StrPath) -> None:
    """Each token needs its vector; the kernels do not look whether there is one."""
    for part in model.modules():
        if isinstance(part, AWDLSTM) and part.n_tokens != len(data.vocab):
            raise WeightsError(
                f"{path} has a vocabulary of {len(data.vocab):,} tokens and vectors of {part.n_tokens:,}; it is damaged"
            )


@strict({"fname": "path", "cpu": 'device="cpu"'})
def load_predictor(
    path: StrPath, *, model: nn.Module | None = None, device: str | torch.device | None = None
) -> Predictor:
    """A predictor out of a file that `learn.export` wrote. It needs no data, and nothing in the file is executed.

    Args:
        path: the file.
        model: what the file says that only you can make: your own module, where it is not registered.
        device: None takes the best there is.

    Returns:
        The predictor; its numbers are those of the learner, bit for bit on the same kind of machine.

    Raises:
        WeightsError: the file is missing, damaged or of another kind, or the model does not fit; nothing large was
            allocated.
    """
    net, task, data, spec = _open(path, model)
    strategy = Strategy(pick_device(device), _precision(spec))
    net = net.to(strategy.device)
    return Predictor(net, task, data.for_model(net), strategy, spec)


def _precision(spec: Mapping[str, Any]) -> str:
    given = spec.get("precision", "fp32")
    return given if given in ("fp32", "bf16", "fp16") else "fp32"


def _optimizer(name: Any) -> Any:
    """An optimizer by the name that a file has for it; None for one of the user's own."""
    from .train import optim

    if name in ("sgd", "adamw"):
        return getattr(optim, name)
    known = {k: v for k, v in vars(torch.optim).items() if isinstance(v, type) and issubclass(v, torch.optim.Optimizer)}
    return known.get(name) if isinstance(name, str) else None


def _read_training(given: Any, path: StrPath) -> dict[str, Any]:
    """What a file says of training, with nothing in it that is of another kind than it should be."""
    usual: dict[str, Any] = {
        "optimizer": None, "wd": None, "clip": None, "accumulate": 1, "seed": 0, "bn_freeze": False, "frozen": [],
        "epochs_done": 0, "callbacks": [],
    }  # fmt: skip
    if not isinstance(given, dict):
        raise WeightsError(f"{path} does not say how its model was trained")
    found = {name: given.get(name, value) for name, value in usual.items()}
    fits = {
        "optimizer": found["optimizer"] is None or isinstance(found["optimizer"], str),
        "wd": _is_rate(found["wd"]),
        "clip": _is_rate(found["clip"]) and found["clip"] != 0,
        "accumulate": _is_count(found["accumulate"]) and found["accumulate"] > 0,
        "seed": type(found["seed"]) is int,
        "bn_freeze": isinstance(found["bn_freeze"], bool),
        "frozen": isinstance(found["frozen"], list) and all(isinstance(n, str) for n in found["frozen"]),
        "epochs_done": _is_count(found["epochs_done"]),
        "callbacks": isinstance(found["callbacks"], list),
    }
    wrong = [name for name, fit in fits.items() if not fit]
    if wrong:
        raise WeightsError(f"{path} says of its training {wrong[0]}={str(found[wrong[0]])[:50]!r}; it is damaged")
    return found


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_rate(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < math.inf)


def _standing(described: Sequence[Any], path: StrPath) -> list[Callback]:
    """The callbacks of a learner, as far as they can be described."""
    made = []
    for one in described:
        if registry.own_parts(one):
            continue
        arguments = one.get("args") if isinstance(one, dict) else None
        # A model as an argument could be of any size, and no callback of ours takes one.
        plain = isinstance(arguments, dict) and not any(isinstance(v, dict | list) for v in arguments.values())
        if not plain or not registry.is_made_by(one, Callback):
            raise WeightsError(f"{path} names as a callback what is none: {str(one)[:100]}")
        try:
            made.append(registry.build(one))
        except EasyLearnError as error:
            raise WeightsError(f"{path}: {error}") from error
        except BUILD_ERRORS as error:
            raise WeightsError(f"{path} describes a callback that cannot be made: {str(error)[:200]}") from error
    return made


@strict({"fname": "path", "cpu": 'device="cpu"'})
def load_learner(
    path: StrPath,
    *,
    data: Data | None = None,
    model: nn.Module | None = None,
    metrics: Sequence[Any] | None = None,
    callbacks: Sequence[Callback] | None = None,
    device: str | torch.device | None = None,
    models: StrPath = "models",
    progress: bool = True,
) -> Learner:
    """A learner out of a file that `learn.export` wrote: it predicts at once, and trains when it has data.

    Args:
        path: the file.
        data: to go on training with, made with the same classes (and vocabulary, or `like=`); None can be made up for
            by `learn.set_data(data)`.
        model: as in `load_predictor`.
        metrics: None takes the task's usual ones.
        callbacks: None takes those that the file could describe.
        device: None takes the best there is.
        models: folder for `learn.save`.
        progress: draw bars and print a line per epoch.

    Returns:
        The learner, frozen as it was.

    Raises:
        WeightsError: as `load_predictor`.
        DataError: the data does not fit the model.
    """
    net, _, blank, spec = _open(path, model)
    training = _read_training(spec.get("training"), path)
    of_net = getattr(net, "layer_groups", None)
    groups = of_net() if callable(of_net) else None
    learn = Learner(
        blank,
        net,
        groups=groups,
        optimizer=_optimizer(training.get("optimizer")),
        metrics=metrics,
        wd=training["wd"],
        clip=training["clip"],
        accumulate=training["accumulate"],
        precision=_precision(spec),
        device=device,
        seed=training["seed"],
        path=models,
        callbacks=_standing(training["callbacks"], path) if callbacks is None else callbacks,
        bn_freeze=training["bn_freeze"],
        progress=progress,
    )
    for group in learn.layer_groups:
        for _, p in group.params:
            p.requires_grad_(group.name not in training["frozen"])
    learn.epochs_done = training["epochs_done"]
    if data is not None:
        learn.set_data(data)
    return learn
