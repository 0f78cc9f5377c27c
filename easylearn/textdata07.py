"""What data of texts has in 2018: its splits as datasets, and loaders for a loop of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from .data.bunch import SplitName
from .data.order import Loader
from .dataloader import Counted
from .fields07 import Field, FieldVocab
from .files import StrPath
from .modeldata import ShownData
from .texts import data as texts
from .texts.vocab import Vocab


class Example(NamedTuple):
    """One document as the model sees it.

    Args:
        text: its tokens.
        label: a class, labels or numbers; None where nobody knows it, and in a language model.
    """

    text: list[str]
    label: Any = None


@dataclass(frozen=True)
class SplitTexts:
    """One split as `trn_ds`, `val_ds` and `test_ds` show it.

    Args:
        data: the texts.
        name: of the split.
    """

    data: texts.TextLMData | texts.TextData
    name: SplitName

    def __len__(self) -> int:
        return len(self.data.store(self.name))

    @property
    def y(self) -> npt.NDArray[Any] | None:
        """The targets; None where nobody knows them."""
        target = self.data._split(self.name).target
        return None if target is None else target.numpy()

    def __getitem__(self, i: int) -> Example:
        if not 0 <= i < len(self):  # also what ends a loop over it
            raise IndexError(f"the {self.name} split has {len(self)} documents, but number {i} was asked for")
        tokens = [self.data.vocab[int(t)] for t in self.data.store(self.name).doc(i)]
        target = self.data._split(self.name).target
        if target is None:
            return Example(tokens)
        return Example(tokens, self.data.task.decode_target(target[i : i + 1])[0])


class DocumentLoader:
    """Batches of documents as (tokens of shape (sl, bs), targets); the order of training ones is another each time.

    Args:
        loader: the same by easylearn's own names.
        dataset: the documents.
    """

    def __init__(self, loader: Loader, dataset: SplitTexts) -> None:
        self.loader, self.dataset, self.batch_size, self.epoch = loader, dataset, dataset.data.batch_size, 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return Counted(self._through(), len(self))

    def _through(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.epoch += 1
        for batch in self.loader.batches(torch.device("cpu"), epoch=self.epoch - 1):
            target = torch.zeros(len(batch.index)) if batch.target is None else batch.target
            yield batch.inputs[0].t(), target


class StreamData07(ShownData, texts.TextLMData):
    """What a language model's learner has as `data`."""

    __init__ = texts.TextLMData.__init__


class DocumentData07(ShownData, texts.TextData):
    """What a classifier's learner has as `data`."""

    __init__ = texts.TextData.__init__


class TextModelData:
    """What both kinds have in common.

    Args:
        path: `<path>/models` is where weights are saved.
        data: the texts.
        field: how text became tokens; one of ours gets the vocabulary.
    """

    data: StreamData07 | DocumentData07

    def __init__(self, path: StrPath, data: StreamData07 | DocumentData07, field: Any = None) -> None:
        self.path, self.data = Path(path), data
        data.md = self
        if isinstance(field, Field):
            field.vocab, field.known = FieldVocab(data.vocab.tokens, data.vocab.unk), data.vocab

    @property
    def vocab(self) -> Vocab:
        """The vocabulary, made from the training split; `.tokens` is what `TEXT.vocab.itos` was, `.ids` its `stoi`."""
        return self.data.vocab

    @property
    def nt(self) -> int:
        """How many different tokens there are."""
        return len(self.data.vocab)

    @property
    def pad_idx(self) -> int:
        """The number of the padding token."""
        return self.data.vocab.pad

    @property
    def bs(self) -> int:
        """Rows, or documents, in a batch."""
        return self.data.batch_size

    @property
    def trn_ds(self) -> SplitTexts:
        """The training documents."""
        return SplitTexts(self.data, "train")

    @property
    def val_ds(self) -> SplitTexts:
        """The validation documents."""
        return SplitTexts(self.data, "valid")

    @property
    def test_ds(self) -> SplitTexts | None:
        """The test documents; None without any."""
        return SplitTexts(self.data, "test") if "test" in self.data.splits else None

    @cached_property
    def trn_dl(self) -> Any:
        """Training batches (x, y) with x of shape (sl, bs)."""
        return self._batches("train")

    @cached_property
    def val_dl(self) -> Any:
        """Validation batches."""
        return self._batches("valid")

    @cached_property
    def test_dl(self) -> Any:
        """Test batches; None without any."""
        return self._batches("test") if "test" in self.data.splits else None

    def _batches(self, name: SplitName) -> Any:
        return DocumentLoader(self.data.loader(name, training=name == "train"), SplitTexts(self.data, name))
