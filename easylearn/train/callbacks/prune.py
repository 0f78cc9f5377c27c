"""Prune: weights lose their smallest numbers while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ArgumentError, StateError, check_number, check_whole
from ...nn.pruning import prunable, smallest
from ..callback import Callback
from ..snapshot import refuse_sharded
from ..state import Run


class Prune(Callback):
    """Set a growing share of each large weight to zero while the rest trains on, and keep it there.

    The share grows fast at first and slowly at last, `1 - (1 - t)**3` of the way (arXiv 1710.01878). Each large weight
    that trains (256 numbers or more) loses its own smallest numbers. What is frozen, biases, norms, and convolutions
    that read fewer than 32 numbers for an output (depthwise ones, the first one) stay whole. A weight that has zeros
    already begins with as many: give `Prune` to each fit that shall keep them.

    After the fit `learn.export(path, prune=amount)` changes nothing more, and keeps no zero in easylearn's own files.
    In a list with `WeightAverage` it comes first, so that it prunes the average when the fit ends.

    Args:
        amount: share of each large weight that is zero in the end.
        start: share of the fit's steps before the first numbers go.
        end: share of them after which no more go; the rest of the fit makes up for what is lost.
        every: steps from one choice of the smallest numbers to the next.

    >>> from easylearn import Learner, TensorData, single_label
    >>> data = TensorData((torch.randn(64, 20), torch.arange(64) % 2), None, single_label(["a", "b"]))
    >>> learn = Learner(data, nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 2)), progress=False)
    >>> _ = learn.fit(1e-2, 2, callbacks=[Prune(0.8, every=1)])
    >>> int((learn.model[0].weight == 0).sum())  # of 1000
    800
    """

    def __init__(self, amount: float = 0.5, start: float = 0.0, end: float = 0.75, every: int = 20) -> None:
        self.amount = check_number("amount", amount, "above 0", "below 1")
        self.start = check_number("start", start, "at least 0", "below 1")
        self.end = check_number("end", end, "above 0", "at most 1")
        if start >= end:
            raise ArgumentError(f"start must be below end, got {start} and {end}")
        check_whole("every", every)
        self.every = every
        self._weights: dict[str, nn.Parameter] = {}
        self._masks: dict[str, Tensor] = {}
        self._first: dict[str, float] = {}
        self._chosen = 0  # the step after which numbers were last chosen
        self._loaded: Mapping[str, Any] | None = None

    def on_fit_begin(self, run: Run) -> None:
        """Find the weights, and the zeros that they have."""
        refuse_sharded(run.model, "Prune")
        self._weights = {n: p for n, p in prunable(run.model).items() if p.requires_grad}
        self._masks, self._first, self._chosen = {}, {}, 0
        if self._loaded is not None:
            self._take(self._loaded)
            self._loaded = None
            return
        for name, weight in self._weights.items():
            self._first[name] = float((weight == 0).double().mean())
            self._masks[name] = weight.detach() == 0

    def on_batch_end(self, run: Run) -> None:
        """After the step: choose anew where it is time, and put the zeros back that the step moved."""
        if not run.strategy.stepped:
            return
        begin, end = (max(1, round(share * run.n_steps)) for share in (self.start, self.end))
        late = run.step >= end
        if run.step >= begin and self._chosen < end and (late or run.step - self._chosen >= self.every):
            left = 0.0 if late else (1 - (run.step - begin) / (end - begin)) ** 3
            for name, weight in self._weights.items():
                first = self._first[name]
                if first < self.amount:
                    self._masks[name] = smallest(weight, self.amount - (self.amount - first) * left)
            self._chosen = run.step
        self._zero()

    def on_fit_end(self, run: Run) -> None:
        """Zero what another callback put in place of the weights, such as an average."""
        self._zero()

    def _zero(self) -> None:
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.masked_fill_(self._masks[name], 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the zeros are, a bit for each number, and how many each weight began with."""
        bits = {n: torch.from_numpy(np.packbits(m.cpu().numpy().reshape(-1))) for n, m in self._masks.items()}
        return {"masks": bits, "first": dict(self._first), "chosen": self._chosen} if bits else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._weights:
            self._take(state)
        else:
            self._loaded = state or None

    def _take(self, state: Mapping[str, Any]) -> None:
        if set(state.get("masks", {})) != set(self._weights):
            raise StateError(
                f"the checkpoint pruned {sorted(state.get('masks', {}))[:5]}, and this fit prunes "
                f"{sorted(self._weights)[:5]}: freeze the same layer groups"
            )
        self._first, self._chosen = dict(state["first"]), int(state["chosen"])
        for name, weight in self._weights.items():
            bits = np.unpackbits(state["masks"][name].cpu().numpy(), count=weight.numel())
            self._masks[name] = torch.from_numpy(bits).bool().reshape(weight.shape).to(weight.device)
