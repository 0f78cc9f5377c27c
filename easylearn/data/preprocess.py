"""Preprocessor: how items become what a model takes, the same for training data, a learner and a model file.

It has no state after it was fitted: it may be used by several threads, and predicting changes nothing in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from ..errors import DataError, StateError
from ..placement import Placement
from .order import Indices, Order, Source

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..task import Task


@dataclass(frozen=True)
class Items:
    """Items that came from elsewhere, read but not yet prepared.

    Args:
        values: of all items, as `Preprocessor.source` takes them.
        ids: one name per item.
        single: one item was given by itself, so that one prediction is the answer.
    """

    values: Any
    ids: tuple[str, ...]
    single: bool = False

    def __len__(self) -> int:
        return len(self.ids)


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


Refused = tuple[str, DataError]
"""The name of an item that cannot be read, and why."""


def in_halves(read: Callable[[int, int], Items], names: Sequence[str]) -> Iterator[Items | Refused]:
    """Items between two positions, as `read` gives them; of what it refuses, by halves, the ones that are to blame.

    Args:
        read: gives the items from one position up to another.
        names: of all of them.
    """

    def between(a: int, b: int) -> Iterator[Items | Refused]:
        try:
            items: Items | Refused = read(a, b)
        except DataError as error:
            if b - a > 1:
                middle = (a + b) // 2
                yield from between(a, middle)
                yield from between(middle, b)
                return
            items = names[a], error
        yield items

    return between(0, len(names))


def is_open_file(given: Any) -> bool:
    """Whether it is an open file, or what is read like one."""
    return callable(getattr(given, "read", None))  # the wrapper of a temporary file has its methods by name only


class Preprocessor(ABC):
    """What turns items into a model's inputs; it can be written down as JSON and read again.

    Attributes:
        kind: how a model file calls it.
    """

    kind: ClassVar[str]

    @abstractmethod
    def read(self, given: Any, first: int = 0) -> Items:
        """Read what is `given`, one item or a collection, in any form; `first` numbers those without a name.

        A string is never taken for the name of a file, except where items are files, as images are.

        Raises:
            DataError: something in it is no such item; it is named.
        """

    @abstractmethod
    def source(self, values: Any) -> Source:
        """The source of items that `read` gave."""

    def views(self, values: Any) -> Callable[[int], Source] | None:
        """What gives the source of the k-th augmented view, k > 0, of items that `read` gave; None if none can differ.

        Raises:
            StateError: nobody knows how views are drawn.
        """
        return None

    @property
    def n_views(self) -> int | None:
        """How many augmented views differ; None where that has no end."""
        return None

    def undo_view(self, k: int, outputs: Tensor) -> Tensor:
        """What a model gave for the k-th augmented view, put back to where it is in the plain one."""
        return outputs

    def places(self, values: Any, some: Indices | None = None) -> Sequence[Placement] | None:
        """Where `some` of the images of `values`, or all, lie in what the model gets; None without pixels."""
        return None

    def order(self, values: Any, source: Source, batch_size: int) -> Order:
        """How items that `read` gave are put into batches."""
        return Order(len(source), batch_size)

    def is_file(self, given: Any) -> bool:
        """Whether this is a file or a folder of items for `read_file`, and no item itself."""
        return isinstance(given, Path)

    def read_file(self, path: Path, n: int, skip: bool = False) -> Iterator[Items | Refused]:
        """Items out of a file or a folder, at most `n` at a time; with `skip` also those that cannot be read.

        Raises:
            DataError: there is no such file, or it is of a kind that holds no such items.
        """
        raise DataError(f"{type(self).__name__} reads no items from files; pass the items themselves, not {path}")

    def recipe(self) -> dict[str, Any]:
        """What a model file needs to prepare items alike, in what JSON can hold: `kind`, and what `from_recipe` wants.

        Raises:
            StateError: this preprocessor, or a part of it, cannot be written down.
        """
        raise StateError(
            f"{type(self).__name__} does not say how new items are prepared (it has no recipe), so a model on it "
            "cannot be exported; learn.save(name) writes the weights"
        )

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> Self:
        """The preprocessor that `recipe` was called on.

        Raises:
            WeightsError: the recipe is damaged.
        """
        raise StateError(f"{cls.__name__} cannot be made from a recipe")

    def for_model(self, model: nn.Module) -> Self:
        """The same, prepared as the model expects it (images: normalised with its statistics)."""
        return self

    def complete(self, task: Task) -> Task:
        """The task of a file with what the file leaves out because it is here, as the words of a vocabulary are."""
        return task

    def check_model(self, model: nn.Module) -> None:  # noqa: B027 - most have nothing to check
        """Refuse a model that cannot belong to this preprocessor, such as one with another vocabulary.

        Raises:
            WeightsError: it does not fit.
        """

    def runtime_inputs(self, inputs: Sequence[Tensor]) -> RuntimeInputs:
        """What a file for another runtime shall take: by default the `inputs` of a batch as "x0", "x1" ..."""
        return RuntimeInputs(tuple(f"x{i}" for i in range(len(inputs))), tuple({0: "batch"} for _ in inputs))
