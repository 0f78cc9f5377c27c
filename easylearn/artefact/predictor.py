"""Predictor: a model, what its outputs mean and how items are prepared for it. Learners predict through one, too."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..data.order import Indices, ItemLoader, Order, Source, Subset
from ..data.preprocess import Items, Preprocessor, Refused, in_halves, is_open_file
from ..errors import ArgumentError, DataError, EasyLearnError, EasyLearnWarning, WeightsError, check_whole
from ..files import StrPath, atomic_write
from ..nn.registry import model_name
from ..placement import Placement
from ..task import Prediction, Predictions, Task
from ..task.gathered import Gathered, by_pieces
from ..train.predict import gather, together
from ..train.strategy import Strategy
from ..train.waiting import Waiting
from .model_file import BUILD_ERRORS

OnError = Literal["raise", "skip"]
CHUNK = 16  # batches that a stream prepares together
ALL = 2**40  # items: more than there are


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Predictor:
    """A trained model, ready to be asked. It keeps no state, and several threads may use it at once.

    `load_predictor` makes one out of a file: `model` gives logits, `task` says what they mean, `preprocessor` prepares
    items, `strategy` has device and precision, `batch_size` is that of inputs, `info` what the file says of the model.
    With `progress`, as a learner has it, `predict` tells how far it is where that takes long; a server wants it silent.
    """

    model: nn.Module
    task: Task
    preprocessor: Preprocessor
    strategy: Strategy
    batch_size: int
    info: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = field(default=False, kw_only=True)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the columns of `probs`; empty for regression."""
        return self.task.classes

    def predict(self, items: Any, on_error: OnError = "raise") -> Prediction | Predictions:
        """What the model says: a `Prediction` of one item, `Predictions` of anything else, in the order given.

        Args:
            items: one item (an image's path or bytes, a text, a row as a dictionary) or several: a list, an array, a
                DataFrame; or a `Path` of a folder, a csv or a parquet file, all of whose items are read at once. For
                more than memory holds use `stream`.
            on_error: "raise" stops at an item that cannot be read; "skip", for several, leaves it out: a warning and
                `errors` of the predictions name it and say why, `ids` which items the others are.

        Raises:
            DataError: an item cannot be read; the message names it. With "skip": none can.
        """
        if isinstance(items, Iterator) and not is_open_file(items):  # an open file is one item
            raise ArgumentError("predict takes items that are all there; for an iterator use predictor.stream(items)")
        if items is None:
            raise ArgumentError("predict takes an item or several, got None: is it missing where it was read?")
        self._refuse_streamed()
        if _skips(on_error):
            return self._predict_rest(items)
        is_file = self.preprocessor.is_file(items)
        ids: list[str] = []
        probs = Gathered()
        places: list[Placement] = []
        given = None if is_file else self.preprocessor.read(items)
        with self._waiting(None if given is None else len(given)) as wait:  # a file's items are counted at its end
            for read in self._files(items) if given is None else [given]:
                ids += read.ids
                probs.add(self._probs(read, wait=wait))
                places += self.preprocessor.places(read.values) or ()
        if not ids:
            raise DataError(f"there is nothing to predict in {items}")
        said = Predictions.of(self.task, probs.tensor(), ids, places=places or None)
        return said[0] if read.single else said

    def _predict_rest(self, items: Any) -> Predictions:
        """Predictions of what can be read."""
        ids, probs, places = list[str](), Gathered(), list[Placement]()
        errors: dict[str, str] = {}
        counted = None if self.preprocessor.is_file(items) or not isinstance(items, Sized) else len(items)
        with self._waiting(counted) as wait:
            for name, found in self.stream(items, "skip"):
                wait.add(1)
                if isinstance(found, DataError):
                    errors[name] = str(found)
                    continue
                ids.append(name)
                probs.add(found.probs[None])
                places += [] if found.place is None else [found.place]
        told = _told(errors, len(ids) + len(errors)) if errors else f"there is nothing to predict in {items!r:.100}"
        if not ids:
            raise DataError(told)
        if errors:
            warnings.warn(told, EasyLearnWarning, stacklevel=3)
        return replace(Predictions.of(self.task, probs.tensor(), ids, places=places or None), errors=errors)

    def tta(self, items: Any, n_aug: int = 4) -> Prediction | Predictions:
        """Test-time augmentation: probabilities averaged over the plain and `n_aug` augmented views of images.

        Views are drawn as the learner's data drew them, for an item by its position: of the same items in the same
        order the numbers are those of `learn.tta`. Of anything but images there is the plain view alone.

        Args:
            items: as in `predict`; all of them are held at once.
            n_aug: augmented views.

        Raises:
            DataError: an item cannot be read; the message names it.
            StateError: the file does not say how views are drawn.
        """
        self._refuse_streamed()
        check_whole("n_aug", n_aug, 0)
        is_file = self.preprocessor.is_file(items)
        read = [*(self.preprocessor.read_file(Path(items), ALL) if is_file else [self.preprocessor.read(items)])]
        if len(read) != 1:  # files of tables and texts may come in pieces
            return self.predict(items)
        (one,) = read
        assert isinstance(one, Items)
        probs, stack = self._views(one, n_aug)
        said = Predictions.of(self.task, probs, one.ids, views=stack, places=self.preprocessor.places(one.values))
        return said[0] if one.single else said

    def stream(self, items: Any, on_error: OnError = "raise") -> Iterator[tuple[str, Any]]:
        """Predictions one after the other, while memory holds a few batches of items.

        Args:
            items: any iterable of items, or a `Path` as in `predict`.
            on_error: "raise" stops at an item that cannot be read; "skip" gives the error in place of its prediction.

        Returns:
            A generator of (id, `Prediction`), in the order given; with "skip" of (id, `DataError`), too.
        """
        self._refuse_streamed()
        skip = _skips(on_error)
        for read in self._read(items, skip):
            if isinstance(read, tuple):
                yield read
            elif not skip:
                said = Prediction.of(self.task, self._probs(read), self.preprocessor.places(read.values))
                yield from zip(read.ids, said, strict=True)
            else:
                yield from zip(read.ids, self._tried(read, np.arange(len(read))), strict=True)

    def _tried(self, read: Items, some: Indices) -> list[Prediction | DataError]:
        """Predictions of some items; what cannot be read is found by halves, and the rest predicted."""
        try:
            return [*Prediction.of(self.task, self._probs(read, some), self.preprocessor.places(read.values, some))]
        except DataError as error:
            if len(some) == 1:
                return [error]
            middle = len(some) // 2
            return [*self._tried(read, some[:middle]), *self._tried(read, some[middle:])]

    def _files(self, path: Any) -> Iterator[Items]:
        return (items for items in self._read(path, False) if isinstance(items, Items))

    def _read(self, items: Any, skip: bool) -> Iterator[Items | Refused]:
        if self.preprocessor.is_file(items):
            yield from self.preprocessor.read_file(Path(items), CHUNK * self.batch_size, skip)
            return
        first = 0
        for some in _pieces(items, CHUNK * self.batch_size):
            for read in self._read_some(some, first) if skip else [self._many(some, first)]:
                yield read
                first += 1 if isinstance(read, tuple) else len(read)

    def _many(self, some: Any, first: int) -> Items:
        read = self.preprocessor.read(some, first)
        if read.single:
            raise ArgumentError('stream and on_error="skip" are for many items; one is predictor.predict(item)')
        return read

    def _read_some(self, some: Any, first: int) -> Iterator[Items | Refused]:
        """Items of a list, a table or an array; what cannot be read comes with its name and the error."""
        rows = getattr(some, "iloc", some)
        if isinstance(some, str | bytes | Mapping) or is_open_file(some) or not isinstance(some, Iterable):
            return iter([self._many(some, first)])
        labels: Any = getattr(some, "index", ())
        names = list(map(str, labels)) if rows is not some else [_name(x, first + i) for i, x in enumerate(some)]
        return in_halves(lambda a, b: self._many(rows[a:b], first + a), names)

    def to_csv(self, items: Any, out: StrPath, on_error: OnError = "raise") -> int:
        """Write predictions to a csv: id, label and a probability per class, or numbers; says how many rows there are.

        Args:
            items: what `stream` takes, or a list in which items and `Path`s of files and folders may be mixed. With
                several of them an id begins with the path.
            out: the file to create or replace.
            on_error: "skip" writes a row for an item that cannot be read, too, and into a last column, "error", why.
        """
        sources, count = self._sources(items), 0
        with atomic_write(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            more = ["error"] if on_error == "skip" else []
            writer.writerow(["id", *self.task.row_names, *more])
            for source in sources:
                # Two folders may hold files of the same name.
                of_many = len(sources) > 1 and self.preprocessor.is_file(source)
                within = f"{source}{'/' if os.path.isdir(source) else ':'}" if of_many else ""
                for name, said in self.stream(source, on_error):
                    error, rows = "", [[""] * len(self.task.row_names)]
                    if isinstance(said, DataError):
                        error = str(said)
                    else:
                        rows = said.rows(self.task)
                    writer.writerows([within + name, *row, *([error] if more else [])] for row in rows)
                    count += len(rows)
        return count

    def _sources(self, items: Any) -> list[Any]:
        """Files and folders one by one, and lists of the items between them."""
        if not isinstance(items, list):
            return [items]
        found: list[Any] = []
        for is_file, group in groupby(items, key=self.preprocessor.is_file):
            some = list(group)
            found += some if is_file else [some]
        return found or [items]

    def _refuse_streamed(self) -> None:
        if self.task.is_streamed:
            raise ArgumentError("a language model predicts what comes next: use generate(predictor, prompt, n)")

    def _waiting(self, n: int | None) -> Waiting:
        """What tells how many of `n` items are predicted; for one a bar would cost more than the item."""
        return Waiting("predicting", n, self.progress and n != 1 and self.strategy.is_main)

    def _probs(self, read: Items, some: Indices | None = None, wait: Waiting | None = None) -> Tensor:
        return by_pieces(self.task.activate, self._outputs(read, some, wait=wait))

    def _views(self, read: Items, n_aug: int) -> tuple[Tensor, Tensor]:
        """What the plain view and at most `n_aug` augmented ones say together, and what each says."""
        how, views = self.preprocessor, self.preprocessor.views(read.values)
        n_aug = 0 if views is None else n_aug if how.n_views is None else min(n_aug, how.n_views)
        outputs = [self._outputs(read)]
        if views is not None:
            more = ((k, self._outputs(read, source=views(k))) for k in range(1, n_aug + 1))
            outputs += [by_pieces(partial(how.undo_view, k), laid) for k, laid in more]
        return together(self.task, outputs)

    def _outputs(
        self, read: Items, some: Indices | None = None, source: Source | None = None, wait: Waiting | None = None
    ) -> Tensor:
        source = self.preprocessor.source(read.values) if source is None else source
        if some is None or len(some) == len(read):
            loader = ItemLoader(self.preprocessor.order(read.values, source, self.batch_size), source)
        else:
            loader = ItemLoader(Order(len(some), self.batch_size), Subset(source, some))
        try:
            logits, _ = gather(self.model, loader, self.strategy, wait=wait)
        except (EasyLearnError, torch.cuda.OutOfMemoryError):
            raise
        except BUILD_ERRORS as error:
            why = str(error)[:300]
            raise WeightsError(f"the model cannot take these items as they are prepared for it: {why}") from error
        found = tuple(logits.shape[1:])
        if found != (self.task.n_out,) and not (found[1:] and self.task.takes(found)):
            raise WeightsError(f"the model gives {found} numbers for an item where {self.task} needs {self.task.n_out}")
        return logits

    def __repr__(self) -> str:
        return f"Predictor({model_name(self.model)}, {self.task})"


def _skips(on_error: OnError) -> bool:
    if on_error not in get_args(OnError):
        raise ArgumentError(f'on_error must be "raise" or "skip", got {on_error!r}')
    return on_error == "skip"


def _told(errors: Mapping[str, str], n: int) -> str:
    """A sentence on the items, of `n`, that were left out."""
    name, why = next(iter(errors.items()))
    first = why if name in why else f"{name}: {why}"
    return f"{len(errors)} of {n} items cannot be read, and have no prediction. The first: {first}"


def _name(item: Any, number: int) -> str:
    """What an item of a list is called; a text is called by its number, as is anything but a file."""
    return str(item) if isinstance(item, str | os.PathLike) else str(number)


def _pieces(items: Any, n: int) -> Iterator[Any]:
    """At most `n` items at a time: lists, or pieces of a table or an array."""
    table = getattr(items, "iloc", items if isinstance(items, Tensor | np.ndarray) else None)
    if table is not None:
        yield from (table[a : a + n] for a in range(0, len(items), n))
    elif isinstance(items, str | bytes | Mapping) or is_open_file(items) or not isinstance(items, Iterable):
        yield items
    else:
        source = iter(items)
        while some := list(islice(source, n)):
            yield some
