"""contrast: adapt a pretrained encoder to few labels, by pairs of texts of the same or of different classes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.loaders import first_outputs
from ..errors import ArgumentError, check_kind, check_number, check_whole
from ..learning import Learner
from ..nn import registry
from ..nn.bert import TextEncoder
from ..nn.body_head import BodyHead
from ..nn.heads import begin_at
from ..options import strict
from ..task import ExclusiveTask, Predictions
from ..train.callback import Callback
from ..train.record import Record
from ..train.state import Run
from .data import TextData
from .word_model import listed, surest

BATCH = 16  # texts that are compared with one another: 120 pairs
STEPS = 40  # of an epoch at least: so many times some of few texts are shown again
RATE = 2e-5
HEAD_RATE = 1e-3
SUREST = 1 / 3  # of the texts without labels: what is said of those the most surely
AS_LONG = 0.9  # such texts are cut to the length that so many of the labelled ones have at most
SHORTEST = 16  # and no shorter


def pair_loss(vectors: Tensor, target: Tensor) -> Tensor:
    """How far the cosines of all pairs are from 1 within a class and from 0 between classes, both kinds counting alike.

    Args:
        vectors: one per text, (b, c).
        target: numbers of classes, (b,).

    Returns:
        The mean square over pairs of a class, plus that over the others; a kind that is not there counts 0.

    >>> round(float(pair_loss(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))), 4)
    0.0
    """
    v = F.normalize(vectors.float(), dim=1)
    same = target.unsqueeze(0) == target.unsqueeze(1)
    apart = ~torch.eye(len(v), dtype=torch.bool, device=v.device)
    wrong = (v @ v.T - same.to(v.dtype)).square()
    kinds = [(wrong * kind).sum() / kind.sum().clamp_min(1) for kind in (same & apart, ~same)]
    return torch.stack(kinds).sum()


class _PairLoss(Callback):
    """Takes `pair_loss` of what the head gets, instead of the head's loss."""

    changes_steps = True

    def __init__(self) -> None:
        self._vectors: list[Tensor] = []

    def on_fit_begin(self, run: Run) -> None:
        assert isinstance(run.model, BodyHead)
        self._handle = run.model.pool.register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._vectors.append(output)

    def on_batch_begin(self, run: Run) -> None:
        self._vectors.clear()

    def on_loss(self, run: Run) -> None:
        assert run.batch is not None and run.batch.target is not None
        run.loss = pair_loss(torch.cat(self._vectors), run.batch.target)

    def on_fit_end(self, run: Run) -> None:
        self._handle.remove()
        self._vectors.clear()


@strict({"n": "epochs", "n_epoch": "epochs", "num_epochs": "epochs", "rate": "lr", "unlabeled": "unlabelled"})
def contrast(
    learn: Learner, epochs: int = 1, *, lr: float = RATE, unlabelled: Sequence[str] = (),
    said: Predictions | None = None,
) -> Record:  # fmt: skip
    """Adapt the encoder of texts to the classes, then give it a new head: SetFit's step (arXiv 2209.11055).

    Of a batch of 16 texts all 120 pairs are compared, so that each text passes the encoder once for 15 pairs. An epoch
    shows each text once, few texts several times, up to 40 batches; of a text of several windows as many tokens as one
    has, a quarter of its beginning and the rest of its end. Without a validation on the way, which would cost more than
    the training; the new head's epoch ends with one, for which the encoder, another one by then, reads the validation
    texts anew. Where these are many and the labels few, that takes most of the time.

    Where another model has `said` what texts without labels are, they are compared before that, with the labelled ones
    among them and each cut to what most of these have in tokens. A `word_model` errs in another way than the encoder,
    which can learn from it.

    Args:
        learn: of `text_classifier_learner(data, body=...)`, with one class per text.
        epochs: of the encoder.
        lr: highest rate of the encoder, whose every layer trains.
        unlabelled: texts without labels, some thousand.
        said: of these, by a model of the same classes: `counted.predict(unlabelled)`. The third that it is said of the
            most surely is taken, as many of each class.

    Returns:
        The record of the new head's epoch, whose `before` has the seconds of the encoder's training. The learner is
        then frozen, and has the precompute that it had.

    Raises:
        ArgumentError: the model has no such encoder, the texts have several labels or numbers, or `said` is not of
            the texts without labels.
    """
    check_whole("epochs", epochs)
    check_number("lr", lr, "above 0")
    check_kind("contrast takes a learner", learn, Learner)
    model, data = learn.model, learn.data
    if not isinstance(model, BodyHead) or not isinstance(model.body, TextEncoder) or not isinstance(data, TextData):
        raise ArgumentError("contrast needs a learner of text_classifier_learner(data, body=...) with its data")
    if not isinstance(learn.task, ExclusiveTask):
        raise ArgumentError(f"contrast compares texts of the same class with others, and this is {learn.task}")
    precompute, given, begun = learn.precompute, listed(unlabelled), time.perf_counter()
    if given or said is not None:
        chosen, classes = surest(given, said, learn.task, SUREST)
        most = min(max(int(np.quantile(data.store("train").lengths, AS_LONG)), SHORTEST), model.body.window)
        more = data.with_more([given[i] for i in chosen], classes)
        _draw_together(learn, more.training_only(BATCH, most), epochs, lr)
    _draw_together(learn, data.training_only(BATCH, model.body.window), epochs, lr)
    seconds, head = time.perf_counter() - begun, model.head
    head.load_state_dict(registry.build(registry.describe(head)).state_dict())
    begin_at(head, first_outputs(data))
    learn.freeze()
    learn.precompute = precompute
    record = learn.fit_one_cycle(HEAD_RATE, 1)
    record.before["contrast"] = seconds
    return record


def _draw_together(learn: Learner, texts: TextData, epochs: int, lr: float) -> None:
    """Train every layer of the learner's model by `pair_loss` of the training split of `texts`."""
    repeats = -(-STEPS // max(len(texts.loader("train", training=True)), 1))
    own = Learner(
        texts, learn.model, strategy=learn.strategy, seed=learn.seed, callbacks=[_PairLoss()], metrics=[],
        progress=learn.progress, path=learn.path,
    )  # fmt: skip
    own.unfreeze()
    own.fit_one_cycle(lr, epochs * repeats, pct_start=0.1, momentum=None)
