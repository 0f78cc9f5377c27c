"""recommender: who took what in, a Learner out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import ArgumentError, check_number, check_whole
from ..learning import Learner, Training
from ..nn.history import HistoryEncoder
from ..options import strict
from ..train.optim import adamw
from .data import InteractionData

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..learning import TrainingOptions

WD = 2.0  # times the rate, at each step: with 0.01, lists of MovieLens and last.fm lose 0.03 of nDCG (split by seed 10)


@strict(
    {"opt_func": "optimizer", "opt_fn": "optimizer", "loss_func": "loss", "cbs": "callbacks", "ps": "drop"}, Training
)
def recommender(
    data: InteractionData, n_factors: int = 128, *, drop: float = 0.5, **options: Unpack[TrainingOptions]
) -> Learner:
    """A learner that ranks all items for each person by what they took (a denoising autoencoder, arXiv 1802.05814).

    `learn.fit_one_cycle(3e-3, 60)` suits thousands of persons, and 100 epochs gain a little; with ten times as
    many persons six epochs make as many steps.

    Args:
        data: who took what.
        n_factors: length of the vectors of persons and items.
        drop: the share of a history that training leaves out of it, and asks for all the same.
        optimizer: None takes AdamW with a weight decay of 2 (`wd=None`), which is much, and what few persons want;
            others have their own.

    Returns:
        The learner. Its layer groups are encoder and output; it begins with how many persons took each item.
    """
    if not isinstance(data, InteractionData):
        raise ArgumentError(f"recommender needs InteractionData, got {type(data).__name__}")
    check_whole("n_factors", n_factors)
    check_number("drop", drop, "at least 0", "below 1")
    if options.get("optimizer") is None:
        options = {**options, "optimizer": adamw, "wd": WD if options.get("wd") is None else options["wd"]}
    model = HistoryEncoder(data.task.n_out, n_factors, drop, Training(**options).seed)
    with torch.no_grad():
        counts = torch.from_numpy(data.popularity()).double() + 0.5
        model.decoder.bias.copy_((counts / counts.sum()).log())
    return Learner(data, model, groups=model.layer_groups(), **options)
