"""Letting a language model write: one token after the other, drawn from its probabilities."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import keyed
from ..artefact.predictor import Predictor
from ..errors import ArgumentError, StateError
from ..learning import Learner
from ..nn.text_models import LanguageModel
from ..options import strict
from ..train.strategy import Strategy
from .preprocess import StreamPreprocessor, predictor_of
from .vocab import BOS, PAD, UNK


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from a model's probabilities; see `generate`."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ArgumentError(f"temperature must be at least 0, got {self.temperature}")
        if self.top_k is not None and (isinstance(self.top_k, bool) or self.top_k < 1):
            raise ArgumentError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ArgumentError(f"top_p must be above 0 and at most 1, got {self.top_p}")


@strict({"n_words": "n", "n_tokens": "n", "max_tokens": "n", "text": "prompt", "no_unk": "Unknown is never drawn."})
def generate(
    learn: Learner | Predictor, prompt: str, n: int = 40, *, temperature: float = 0.8, top_k: int | None = None,
    top_p: float | None = None, seed: int | None = None,
) -> str:  # fmt: skip
    """Let a language model continue a prompt. One that reads from the end writes what came before it.

    Args:
        learn: of `language_model_learner`, or the predictor of such a model's file.
        prompt: the beginning.
        n: tokens to add.
        temperature: below 1 is safer, above 1 is wilder; 0 takes the most probable token each time.
        top_k: draw among the k most probable tokens alone.
        top_p: draw among the fewest tokens that hold this fraction of the probability (arXiv 1904.09751).
        seed: of the draws; None takes the learner's, or 0.

    Returns:
        The prompt and what follows, as text.

    Raises:
        ArgumentError: this is no language model, or a number is out of range.
    """
    predictor = predictor_of(learn, "generate")
    texts, model = predictor.preprocessor, predictor.model
    if not isinstance(texts, StreamPreprocessor):
        raise ArgumentError(f"generate needs a language model, this is of {texts.kind}; see language_model_learner")
    if not isinstance(model, LanguageModel):
        raise StateError(f"generate needs a LanguageModel, this model is a {type(model).__name__}")
    usual = learn.seed if isinstance(learn, Learner) else 0
    sampling = Sampling(temperature, top_k, top_p, usual if seed is None else seed)
    bos, *ids = texts.processor.encode(prompt)
    never = [texts.vocab.ids[t] for t in (UNK, PAD, BOS)]
    given = [bos, *(ids[::-1] if texts.backward else ids)]
    drawn = continue_tokens(model, predictor.strategy, given, n, sampling, never)
    return texts.processor.decode([*drawn[::-1], *ids] if texts.backward else [*ids, *drawn])


def continue_tokens(
    model: LanguageModel, strategy: Strategy, tokens: Sequence[int], n: int, sampling: Sampling,
    never: Collection[int] = (),
) -> list[int]:  # fmt: skip
    """The `n` tokens that go on after `tokens`, none of them in `never`.

    The model's stored state is not touched, and no global generator is read.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ArgumentError(f"n must be a whole number of at least 0, got {n!r}")
    device = next(model.parameters()).device
    generator = keyed.generator(sampling.seed, "generate")
    banned = torch.tensor(sorted(never), dtype=torch.long)
    drawn: list[int] = []
    with strategy.evaluating(model):
        logits, state = model.step(torch.tensor([list(tokens)], device=device), None)
        for _ in range(n):
            last = logits[0, -1].float().cpu()
            last[banned] = -torch.inf
            drawn.append(draw(last, sampling, generator))
            logits, state = model.step(torch.tensor([[drawn[-1]]], device=device), state)
    return drawn


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token by its logits (n_tokens,) on the CPU, minus infinity for what must not come."""
    if bool(logits.isnan().any()):
        raise StateError("the model's outputs are not numbers (NaN): its training diverged, load other weights")
    if sampling.temperature == 0:
        return int(logits.argmax())
    # From the highest on, so that a temperature near 0 makes the others small and nothing infinite.
    below, tokens = (logits - logits.max()).double().sort(descending=True, stable=True)
    probs = (below / sampling.temperature).softmax(0)
    keep = len(probs) if sampling.top_k is None else min(sampling.top_k, len(probs))
    if sampling.top_p is not None:
        before = probs.cumsum(0) - probs  # what the more probable ones hold already
        keep = min(keep, max(int((before < sampling.top_p).sum()), 1))
    return int(tokens[torch.multinomial(probs[:keep], 1, generator=generator)])
