"""Callback: the hooks of the loop, declared as no-ops."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MethodType
from typing import Any, ClassVar

from ..errors import ArgumentError, did_you_mean
from .state import Run

Hook = Callable[[Run], None]

HOOKS = (
    "on_fit_begin", "on_epoch_begin", "on_batch_begin", "on_loss", "on_grads", "on_batch_end",
    "on_validate_begin", "on_validate_end", "on_epoch_end", "on_fit_end",
)  # fmt: skip


class Callback:
    """Base of all callbacks: override the hooks you need; each gets the `Run`.

    A callback that keeps something between steps gives it in `state_dict`, so that an interrupted run can go on.

    Attributes:
        changes_steps: whether it changes what a step computes, and nothing else: `learn.plan` then times steps with it.

    >>> class Shout(Callback):
    ...     def on_epoch_ended(self, run):
    ...         print("done")
    Traceback (most recent call last):
    easylearn.errors.ArgumentError: Shout.on_epoch_ended is not a hook. Did you mean 'on_epoch_end'?
    """

    changes_steps: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in dir(cls):  # not vars(cls): a mixin may bring it
            if name.startswith("on_") and name not in HOOKS:
                close = difflib.get_close_matches(name, HOOKS, n=1)
                raise ArgumentError(f"{cls.__name__}.{name} is not a hook. {did_you_mean(name, close or HOOKS)}")

    def on_fit_begin(self, run: Run) -> None:
        """Before the first step of `run`; `on_fit_end` is called for exactly those whose `on_fit_begin` returned."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before the first batch of an epoch; `run.model` is in training mode."""

    def on_batch_begin(self, run: Run) -> None:
        """Before the forward pass; `run.batch` is on the device and may be replaced."""

    def on_loss(self, run: Run) -> None:
        """After the loss is computed; `run.logits` and `run.loss` are set, and `run.loss` may be replaced."""

    def on_grads(self, run: Run) -> None:
        """Before the step of `run.optimizer`; gradients are complete and unscaled."""

    def on_batch_end(self, run: Run) -> None:
        """After the step; `run.step` counts it."""

    def on_validate_begin(self, run: Run) -> None:
        """Before the batches of `run.valid_loader`."""

    def on_validate_end(self, run: Run) -> None:
        """After the validation batches; `run.metrics` is set."""

    def on_epoch_end(self, run: Run) -> None:
        """After the record has the epoch's row. Setting `run.stop_reason` ends the fit here."""

    def on_fit_end(self, run: Run) -> None:
        """After the last step of `run`, or after an error; the callback that began last ends first."""

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs: numbers, strings, lists, dictionaries and tensors only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the `state` that `state_dict` gave."""


class Hooks:
    """The bound methods to call at each hook, found once; a hook that no callback overrides costs nothing."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        def of(name: str) -> tuple[Hook, ...]:
            base = getattr(Callback, name)
            bound = [getattr(c, name) for c in callbacks]
            return tuple(hook for hook in bound if not (isinstance(hook, MethodType) and hook.__func__ is base))

        self.epoch_begin = of("on_epoch_begin")
        self.batch_begin = of("on_batch_begin")
        self.loss = of("on_loss")
        self.grads = of("on_grads")
        self.batch_end = of("on_batch_end")
        self.validate_begin = of("on_validate_begin")
        self.validate_end = of("on_validate_end")
        self.epoch_end = of("on_epoch_end")


def check_callbacks(callbacks: Sequence[Callback]) -> list[Callback]:
    """The callbacks as a list; anything else is refused, such as a class instead of an object."""
    if not isinstance(callbacks, Iterable):
        kind = type(callbacks).__name__
        raise ArgumentError(f"callbacks must be a list, got {kind}; write [{kind}(...)]")
    for c in callbacks:
        if not isinstance(c, Callback):
            what = f"the class {c.__name__}; write {c.__name__}()" if isinstance(c, type) else type(c).__name__
            raise ArgumentError(f"callbacks must be objects of a Callback class, got {what}")
    return list(callbacks)


def call(hooks: tuple[Hook, ...], run: Run) -> None:
    """Call each hook in order."""
    for hook in hooks:
        hook(run)
