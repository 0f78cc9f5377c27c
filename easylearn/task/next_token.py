"""NextToken: at each position of a text, the token that comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, DataError
from ..metrics import Metric, accuracy, item_cross_entropy, perplexity
from .accumulate import Accumulator, Means
from .exclusive import ExclusiveTask
from .names import as_names

NO_TARGET = -100
"""Where a next-token target says this, there is nothing to predict."""


@final
@dataclass(frozen=True, repr=False)
class NextToken(ExclusiveTask):
    """At each position of a text, the token that comes next: cross-entropy, softmax, perplexity.

    Logits have shape (b, t, number of tokens), targets (b, t). A vocabulary is kept with the data, and so a task that
    came out of a file has no names until the data gives them.

    Args:
        names, metrics, loss_fn: see `Task`; each metric is a mean over tokens.
    """

    kind: ClassVar[str] = "next_token"
    noun = "token"
    is_streamed = True

    def __post_init__(self) -> None:
        super().__post_init__()
        unfit = [m.name for m in self.metrics if m.per_item is None]
        if unfit:  # said when it is made, and not after an epoch
            raise ArgumentError(
                f"a {self.kind} task can report metrics that are a mean over tokens (perplexity, accuracy, top_k(5)), "
                f"and {unfit[0]!r} is not: it has no per_item"
            )

    def default_metrics(self) -> tuple[Metric, ...]:
        return perplexity, accuracy

    def own_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=NO_TARGET)

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        raise ArgumentError(
            "a language model has a loss per token, and no items; learn.validate() gives its mean and perplexity"
        )

    def item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.own_item_losses(logits, target)

    def activate(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def first_outputs(self, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Task.first_outputs`: how frequent each token is, whatever came before; `weights` are for items."""
        counts = torch.bincount(target.flatten(), minlength=len(self.names)).double() + 0.5
        return (counts / counts.sum()).log()

    def outputs_for(self, probs: Tensor) -> Tensor:
        return probs.clamp_min(1e-38).log()

    def check_target(self, target: Tensor) -> Tensor:
        """Refused: a language model's targets are its own text."""
        raise ArgumentError("the targets of a language model are its own text; make the data with TextLMData")

    def accumulator(self, device: torch.device | None = None) -> Accumulator:
        """See `Task.accumulator`: sums alone, as the logits of a text of n tokens are n times the vocabulary."""
        return _Tokens(self)

    @property
    def summary(self) -> str:
        return f"the next of {len(self.names):,} tokens"


class _Tokens:
    """Means over all tokens that have a target. A loss of one's own counts by how many tokens a batch has."""

    def __init__(self, task: NextToken) -> None:
        self._task = task
        # Perplexity wants the task's own loss of each token: it is computed once for both.
        self._means = Means(item_cross_entropy, task.metrics, task.activate, is_large=True)
        self._loss = 0.0

    def add(self, logits: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        rows, wanted = logits.flatten(0, -2), target.flatten()
        known = wanted != NO_TARGET
        if not bool(known.all()):
            rows, wanted = rows[known], wanted[known]
        if self._task.loss_fn is not None:
            self._loss += float(self._task.loss(logits, target)) * len(wanted)
        self._means.add(rows, wanted)

    def result(self) -> dict[str, float]:
        if not self._means.count:
            raise DataError("there is nothing to predict: the text has no second token")
        found = self._means.result()
        return found if self._task.loss_fn is None else found | {"valid_loss": self._loss / self._means.count}


def next_token(tokens: Sequence[str]) -> NextToken:
    """At each position of a text, the token that comes next: cross-entropy, softmax, perplexity.

    Args:
        tokens: the vocabulary, in the order of the model's outputs.

    >>> task = next_token(["the", "film"])
    >>> task.loss(torch.zeros(1, 3, 2), torch.tensor([[0, 1, NO_TARGET]]))
    tensor(0.6931)
    """
    return NextToken(as_names(tokens, "token"))
