"""Letting a language model write: one token after the other, drawn from its probabilities."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from .. import keyed
from ..data._old_bunch import Sampling
from ..errors import ArgumentError, StateError
from ..nn.awd_lstm import LanguageModel
from ..train.predict import evaluating


def continue_tokens(
    model: LanguageModel, tokens: Sequence[int], n: int, sampling: Sampling, never: Collection[int] = ()
) -> list[int]:
    """Draw `n` tokens that go on after `tokens`.

    The model's stored state is not touched, and no global generator is read.

    Args:
        model: is put into evaluation mode for the while.
        tokens: ids to start from, at least one.
        n: how many to draw.
        sampling: temperature, top_k, top_p and seed.
        never: ids that must not be drawn.

    Returns:
        The new ids.
    """
    if n < 0:
        raise ArgumentError(f"n must be at least 0, got {n}")
    if not tokens:
        raise ArgumentError("there is no token to start from")
    device = next(model.parameters()).device
    generator = keyed.generator(sampling.seed, "generate")
    banned = torch.tensor(sorted(never), dtype=torch.long)
    drawn: list[int] = []
    with evaluating(model):
        logits, state = model.step(torch.tensor([list(tokens)], device=device), None)
        for _ in range(n):
            last = logits[0, -1].float().cpu()
            last[banned] = -torch.inf
            drawn.append(draw(last, sampling, generator))
            logits, state = model.step(torch.tensor([[drawn[-1]]], device=device), state)
    return drawn


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token by its logits.

    Args:
        logits: shape (n_tokens,), on the CPU; minus infinity for what must not come.
        sampling: temperature, top_k and top_p.
        generator: gives the randomness.

    Raises:
        StateError: a logit is NaN.

    >>> draw(torch.tensor([0.0, 3.0, 1.0]), Sampling(temperature=0), torch.Generator())
    1
    """
    if bool(logits.isnan().any()):
        raise StateError("the model's outputs are not numbers (NaN): its training diverged, load other weights")
    if sampling.temperature == 0:
        return int(logits.argmax())
    # From the highest on, so that a temperature near 0 makes the others small and nothing infinite.
    below = (logits - logits.max()).double()
    scaled, tokens = (below / sampling.temperature).sort(descending=True, stable=True)
    probs = scaled.softmax(0)
    keep = len(probs) if sampling.top_k is None else min(sampling.top_k, len(probs))
    if sampling.top_p is not None:
        before = probs.cumsum(0) - probs  # what the more probable ones hold already
        keep = min(keep, max(int((before < sampling.top_p).sum()), 1))
    chosen = torch.multinomial(probs[:keep], 1, generator=generator)
    return int(tokens[chosen])
