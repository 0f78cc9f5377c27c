"""What a Learner needs of data: a task, loaders over train, valid and test, and ids for every item."""

from __future__ import annotations

import math
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, get_args

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, DataError, StateError, did_you_mean
from ..task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PartName = Literal["train", "valid", "test"]
P = TypeVar("P")


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from a model's probabilities.

    Args:
        temperature: logits are divided by it: below 1 is safer, above 1 is wilder; 0 takes the most probable token.
        top_k: draw among the k most probable tokens alone.
        top_p: draw among the fewest tokens that hold this share of the probability (arXiv 1904.09751).
        seed: of the draws.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ArgumentError(f"temperature must be at least 0, got {self.temperature}")
        if self.top_k is not None and (isinstance(self.top_k, bool) or self.top_k < 1):
            raise ArgumentError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ArgumentError(f"top_p must be above 0 and at most 1, got {self.top_p}")


@dataclass(slots=True)
class Batch:
    """Some items, ready for the model and on its device.

    Args:
        inputs: what the model is called with.
        target: what it should give; None where nobody knows.
        index: positions of the items in their part, shape (b,), on the CPU.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor | None
    index: Tensor


@dataclass(frozen=True)
class RuntimeInputs:
    """What a model file for another runtime takes, and how that is related to what the model takes.

    Args:
        names: of the inputs, in order.
        axes: per input, the axes whose length may vary, by name; the first is always "batch".
        prepare: from the file's inputs to the model's (a tensor, or a tuple of them); None where they are the same.
        undo: from the model's inputs, as a loader gives them, to the file's.
        about: what somebody who has the file alone should know of them, in what JSON can hold.
    """

    names: tuple[str, ...]
    axes: tuple[Mapping[int, str], ...]
    prepare: nn.Module | None = None
    undo: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] = tuple
    about: Mapping[str, Any] = field(default_factory=dict)


class Loader(Protocol):
    """A way through the items of one part. `len` counts batches."""

    batch_size: int
    n_items: int

    def __len__(self) -> int: ...

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0
    ) -> Generator[Batch, None, None]:
        """The batches of one epoch, from batch `start` on.

        The same (seed, epoch) gives the same batches, whatever the number of workers and wherever it starts.

        Args:
            device: where the batches should be.
            seed: of the run.
            epoch: counted over the whole life of the learner.
            start: how many batches to leave out, for a run that goes on in the middle.

        Returns:
            A generator. Close it if you do not go to its end: it may hold worker processes.
        """
        ...


class Data(ABC):
    """Train, valid and maybe test items of one task. A modality implements this; a Learner uses it.

    Args:
        task: what is predicted.
        batch_size: items in a training batch.
    """

    def __init__(self, task: Task, batch_size: int) -> None:
        if batch_size < 1:
            raise ArgumentError(f"batch_size must be at least 1, got {batch_size}")
        self.task = task
        self.batch_size = batch_size

    @abstractmethod
    def train_loader(self) -> Loader:
        """Training items, shuffled, augmented; a last batch of one item is merged into the one before."""

    @abstractmethod
    def loader(self, part: PartName, view: int = 0) -> Loader:
        """Every item of a part once: view 0 as it is, view k > 0 its k-th augmented view.

        They may come in any order; `Batch.index` says which is which.
        """

    @abstractmethod
    def new_loader(self, items: Any) -> Loader:
        """Items that came from elsewhere, prepared as the validation items are; their targets are None."""

    def is_single(self, items: Any) -> bool:
        """Whether `items`, as `new_loader` takes them, is one item and not a collection."""
        return not isinstance(items, list | tuple)

    def holds_items(self, source: Any) -> bool:
        """Whether a path is a file or a folder of items for `read_items`, and not an item itself."""
        return isinstance(source, Path)

    def read_items(self, source: Path, n: int) -> Iterator[tuple[list[str], Any]]:
        """Items out of a file or a folder, at most `n` at a time: their names, and what `new_loader` takes.

        Raises:
            DataError: there is no such file, or it is of a kind that holds no such items.
        """
        raise DataError(f"{type(self).__name__} reads no items from files; pass the items themselves, not {source}")

    def item_ids(self, items: Any, n: int, first: int = 0) -> list[str]:
        """Names for `n` items that came from elsewhere: their positions, counted from `first`, if they have none."""
        return [str(i) for i in range(first, first + n)]

    @abstractmethod
    def ids(self, part: PartName) -> Sequence[str]:
        """One name per item of the part, in file order."""

    @abstractmethod
    def fingerprint(self, part: PartName) -> str:
        """Changes whenever what `loader(part)` yields could change: items, transforms, size."""

    @property
    def has_valid(self) -> bool:
        """Whether there is a validation part."""
        return True

    @property
    def has_test(self) -> bool:
        """Whether there is a test part."""
        return False

    @property
    def has_views(self) -> bool:
        """Whether augmented views exist, so that `tta` can average them."""
        return False

    @property
    def has_pictures(self) -> bool:
        """Whether an item is best shown by `draw_item`; otherwise `describe_item` says all of it."""
        return False

    def describe_item(self, part: PartName, i: int) -> dict[str, str]:
        """What is in item `i` of a part, in words: a document's text, or a row's columns and values.

        Args:
            part: "train", "valid" or "test".
            i: position in the part, from 0.

        Returns:
            Names and values; empty where an item has no words.
        """
        return {}

    def draw_item(self, part: PartName, i: int, axes: Axes) -> None:
        """Draw item `i` of a part: a picture, or in words what `describe_item` says.

        Args:
            part: "train", "valid" or "test".
            i: position in the part, from 0.
            axes: matplotlib's, empty. Its title stays free.
        """
        fields = self.describe_item(part, i)
        write_on(axes, "\n".join(fields.values() if len(fields) == 1 else (f"{n}: {v}" for n, v in fields.items())))

    def notes(self) -> list[str]:
        """What is odd about the items, in sentences for a run's report: what was left out, unknown or missing."""
        return []

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the model's outputs; empty for regression."""
        return self.task.classes

    def resized(self, size: int) -> Data:
        """The same data at another size, for kinds of data that have one."""
        raise ArgumentError(
            f"{type(self).__name__} has no size; set_data({size}) is for images. Pass another data object"
        )

    def for_model(self, model: nn.Module) -> Data:
        """The same data, prepared as the model expects it (images: normalised with its statistics)."""
        return self

    @property
    def vocab(self) -> Any:
        """The vocabulary; for text."""
        raise ArgumentError(f"{type(self).__name__} has no vocabulary: it is no text")

    def save_encoder(self, path: Path, model: nn.Module) -> Path:
        """Write the part of a model that reads, with what is needed to read elsewhere; for text."""
        raise ArgumentError(
            f"save_encoder is for text models; this learner's data is {type(self).__name__}. learn.save(name) writes "
            "all weights"
        )

    def load_encoder(self, path: Path, model: nn.Module) -> None:
        """Put a saved encoder into a model; for text."""
        raise ArgumentError(
            f"load_encoder is for text models; this learner's data is {type(self).__name__}. learn.load(name) reads "
            "all weights"
        )

    def generate(self, model: nn.Module, prompt: str, n: int, sampling: Sampling) -> str:
        """Let a language model go on after a prompt; for text."""
        raise ArgumentError(
            f"generate needs a language model; this learner's data is {type(self).__name__}. Make one with "
            "language_model_learner"
        )

    @property
    def has_train(self) -> bool:
        """Whether there is anything to train on; what came out of a model file has only ways to prepare new items."""
        return True

    def recipe(self) -> dict[str, Any]:
        """How new items are prepared, in what JSON can hold: what a model file needs of the data.

        Returns:
            `kind`, which says which class can read it, and whatever `from_recipe` of that class wants.

        Raises:
            StateError: this kind of data, or a part of it, cannot be written down.
        """
        raise StateError(
            f"{type(self).__name__} does not say how new items are prepared (it has no recipe), so a model on it "
            "cannot be exported; learn.save(name) writes the weights"
        )

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> Data:
        """Data without items that prepares new ones as the data did that `recipe` was called on.

        Raises:
            WeightsError: the recipe is damaged.
        """
        raise StateError(f"{cls.__name__} cannot be made from a recipe")

    def runtime_inputs(self, inputs: tuple[Tensor, ...]) -> RuntimeInputs:
        """What a file for another runtime shall take: if nothing else is said, what the model takes, as "x0", "x1"...

        Args:
            inputs: those of a batch.

        Returns:
            Names, axes, and the step from these inputs to the model's, which becomes part of the file.
        """
        return RuntimeInputs(tuple(f"x{i}" for i in range(len(inputs))), tuple({0: "batch"} for _ in inputs))

    def adopt(self, old: Data) -> Data:
        """The same data, prepared for a model that was trained with `old`.

        Raises:
            DataError: the task or the class list differs; the message names the difference.
        """
        difference = self.task.same_as(old.task)
        if type(self) is not type(old) and not (isinstance(self, type(old)) or isinstance(old, type(self))):
            difference = f"one is {type(self).__name__}, the other {type(old).__name__}"
        if difference:
            raise DataError(
                f"this data does not fit the model: {difference}. Make it with the same classes as the data the "
                "model was built for, or build a new learner"
            )
        return self


class PartedData(Data, Generic[P]):
    """Data that keeps its parts in a dictionary."""

    _parts: dict[PartName, P]

    def _part(self, part: PartName) -> P:
        if part not in self._parts:
            if part not in get_args(PartName):
                raise ArgumentError(f"there is no part {part!r}. {did_you_mean(part, self._parts)}")
            raise DataError(f"there is no {part} part; pass {part}= when making the data")
        return self._parts[part]

    @property
    def has_train(self) -> bool:
        """Whether there is anything to train on."""
        return "train" in self._parts

    @property
    def has_valid(self) -> bool:
        """Whether there is a validation part."""
        return "valid" in self._parts

    @property
    def has_test(self) -> bool:
        """Whether there is a test part."""
        return "test" in self._parts


LINE = 46  # characters that fit across a drawing of `draw_item`
LINES = 16


def write_on(axes: Axes, text: str) -> None:
    """Write a text into a drawing, wrapped, its end cut off where it is too long.

    Args:
        axes: matplotlib's, empty.
        text: signs such as $ stay what they are.
    """
    lines = [piece for line in text.splitlines() for piece in textwrap.wrap(line, LINE) or [""]]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], "..."]
    axes.text(0.0, 1.0, "\n".join(lines), fontsize=7.5, va="top", parse_math=False, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_color("0.85")
