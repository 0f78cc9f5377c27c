"""Learner07: the learner that the 2018 modules give. It answers `predict` and `TTA` with what 0.7 gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .data.bunch import SplitName
from .errors import ArgumentError
from .files import StrPath
from .learner import Learner
from .options import strict
from .task import Predictions, Task
from .text.generate import generate
from .text.preprocess import AnyText
from .text.transfer import load_encoder, save_encoder
from .text.vocab import Vocab

if TYPE_CHECKING:
    from typing_extensions import Self

_OF_A_STACK = (np.exp, np.mean)
_LEAST = 1e-38  # a smaller probability has no logarithm in float32


class Averaged(Tensor):
    """Averaged probabilities, which refuse what scripts of 2018 do to a stack of log-probabilities.

    Attributes:
        is_average: False for whatever is computed of them.
    """

    is_average = False

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        self._refuse(ufunc)
        return getattr(ufunc, method)(*_plain(inputs), **kwargs)

    def __array_function__(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self._refuse(func)
        return func(*_plain(args), **kwargs)

    def _refuse(self, func: Any) -> None:
        if self.is_average and func in _OF_A_STACK:
            raise ArgumentError(
                f"TTA() gives averaged probabilities, of which np.{func.__name__} makes something else. Use them as "
                "they are, or write np.mean(np.exp(learn.TTA(stack=True)[0]), 0)"
            )


def _plain(given: Any) -> Any:
    """Arrays instead of tensors, also within lists."""
    if isinstance(given, list | tuple):
        return type(given)(map(_plain, given))
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else given


class Learner07(Learner):
    """A `Learner` with the calls of 2018: `predict()`, `predict(is_test=True)`, `predict_with_targs` and `TTA`.

    One of texts has `vocab`, `generate`, `save_encoder` and `load_encoder`, too.
    """

    __slots__ = ()

    @classmethod
    def of(cls, learn: Learner) -> Self:
        """The same learner with the calls of 2018; nothing is copied, and the one given is used no more.

        Args:
            learn: made by a builder such as `vision_learner`.
        """
        made = cls.__new__(cls)
        for name in Learner.__slots__:
            setattr(made, name, getattr(learn, name))
        return made

    @strict({"test": "It is called 'is_test' here.", "use_swa": "Average weights with the callback WeightAverage()."})
    def predict(self, items: Any = None, is_test: bool = False, *, split: SplitName | None = None) -> Any:
        """What the full model says: of a whole split as an array, as 0.7 did.

        Args:
            items: see `Learner.predict`; None, True and False stand for a whole split, as in `predict(is_test)`.
            is_test: the test split instead of the validation split.
            split: gives `Predictions` of that split, as `Learner.predict` does.

        Returns:
            Of a whole split a NumPy array of shape (n, n_out): log-probabilities with one class for each item,
            probabilities with several labels, else numbers. Of items what `Learner.predict` gives.
        """
        if split is not None or (items is not None and not isinstance(items, bool)):
            return super().predict(items, split=split)
        return self.predict_with_targs(is_test or bool(items))[0]

    def predict_with_targs(self, is_test: bool = False) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        """As `predict` of `is_test`, and the targets: None where they are not known."""
        found = super().predict(split=_split(is_test))
        return _logs(self.task, found.probs).numpy(), None if found.targets is None else found.targets.numpy()

    def TTA(self, n_aug: int = 4, is_test: bool = False, *, stack: bool = False) -> Any:  # noqa: N802 (its 2018 name)
        """Test-time augmentation; see `tta`.

        Args:
            n_aug: augmented views.
            is_test: the test split instead of the validation split.
            stack: give what the last 0.7 gave: log-probabilities of shape (n_aug + ceil(n_aug / 4), n, n_out), the
                plain view repeated first, and the targets.

        Returns:
            `Predictions`, which unpack as averaged probabilities and targets; `np.exp` and `np.mean` of the
            probabilities are refused, since those are for the stack.
        """
        result: Predictions = self.tta(n_aug, split=_split(is_test))
        if stack:
            views = _logs(self.task, result.views)
            return torch.cat([views[:1]] * max(math.ceil(n_aug / 4), 1) + [views[1:]]), result.targets
        probs = result.probs.as_subclass(Averaged)
        probs.is_average = True
        return replace(result, probs=probs)

    # -- what texts had ------------------------------------------------------------------------------

    @property
    def vocab(self) -> Vocab:
        """The vocabulary of a text model."""
        texts = self.data.preprocessor
        if not isinstance(texts, AnyText):
            raise ArgumentError(f"{type(self.data).__name__} has no vocabulary: it is no text")
        return texts.vocab

    def generate(
        self,
        prompt: str,
        n: int = 40,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """Let a language model continue a prompt; see `easylearn.generate`."""
        return generate(self, prompt, n, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)

    def save_encoder(self, name: StrPath) -> Path:
        """Save what reads in a text model; see `easylearn.save_encoder`."""
        return save_encoder(self, name)

    def load_encoder(self, name: StrPath) -> Self:
        """Put a saved encoder into this learner; see `easylearn.load_encoder`."""
        load_encoder(self, name)
        return self


def _split(is_test: bool) -> SplitName:
    return "test" if is_test else "valid"


def _logs(task: Task, probs: Tensor) -> Tensor:
    return probs.clamp_min(_LEAST).log() if task.is_exclusive else probs
