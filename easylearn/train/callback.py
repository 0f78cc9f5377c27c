"""Callback: the hooks of the loop, declared as no-ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, did_you_mean
from .state import Run

Hook = Callable[[Run], None]

HOOKS = (
    "on_fit_begin",
    "on_epoch_begin",
    "on_batch_begin",
    "on_loss",
    "on_grads",
    "on_batch_end",
    "on_validate_begin",
    "on_validate_end",
    "on_epoch_end",
    "on_fit_end",
)


class Callback:
    """Base of all callbacks: override the hooks you need; each gets the `Run`.

    A class with a misspelt hook cannot be created. A callback that keeps something between steps gives it
    in `state_dict`, so that an interrupted run can go on.

    >>> class Shout(Callback):
    ...     def on_epoch_ended(self, run):
    ...         print("done")
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: Shout.on_epoch_ended is not a hook. Did you mean 'on_epoch_end'?
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in vars(cls):
            if name.startswith("on_") and name not in HOOKS:
                close = did_you_mean(name, HOOKS).split(" or ")[0].rstrip("?")
                raise ArgumentError(f"{cls.__name__}.{name} is not a hook. {close}?")

    def on_fit_begin(self, run: Run) -> None:
        """Before the first step; `on_fit_end` is called for exactly those whose `on_fit_begin` returned."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before the first batch of an epoch; the model is in training mode."""

    def on_batch_begin(self, run: Run) -> None:
        """`run.batch` is on the device and may be replaced."""

    def on_loss(self, run: Run) -> None:
        """`run.logits` and `run.loss` are there; `run.loss` may be replaced."""

    def on_grads(self, run: Run) -> None:
        """Gradients are complete and unscaled; the optimizer steps next."""

    def on_batch_end(self, run: Run) -> None:
        """After the step; `run.step` counts it."""

    def on_validate_begin(self, run: Run) -> None:
        """Before the validation batches."""

    def on_validate_end(self, run: Run) -> None:
        """`run.metrics` is there."""

    def on_epoch_end(self, run: Run) -> None:
        """The record has the epoch's row. Setting `run.stop_reason` ends the fit here."""

    def on_fit_end(self, run: Run) -> None:
        """Whatever happened; last begun, first ended."""

    def state_dict(self) -> dict[str, Any]:
        """What must be kept for the run to go on: numbers, strings, lists, dictionaries and tensors only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class Hooks:
    """The bound methods to call at each hook, found once: a hook that nobody overrides costs nothing."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        def of(name: str) -> tuple[Hook, ...]:
            base = getattr(Callback, name)
            return tuple(getattr(c, name) for c in callbacks if getattr(type(c), name) is not base)

        self.epoch_begin = of("on_epoch_begin")
        self.batch_begin = of("on_batch_begin")
        self.loss = of("on_loss")
        self.grads = of("on_grads")
        self.batch_end = of("on_batch_end")
        self.validate_begin = of("on_validate_begin")
        self.validate_end = of("on_validate_end")
        self.epoch_end = of("on_epoch_end")


def call(hooks: tuple[Hook, ...], run: Run) -> None:
    """Call each hook in order."""
    for hook in hooks:
        hook(run)
