"""Gate: lets several threads predict with a model, and one train it, without meeting in the middle of a step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import StateError


class Gate:
    """Turns of one model: any number of threads evaluate it at once, a training step has it for itself.

    Turns are taken in the order of asking, so that neither side waits for ever. A thread that has a turn may take
    another inside it.

    The modes of the modules (training or evaluation) are noted when the first thread begins to evaluate, and put back
    when the last one ends.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition(threading.Lock())
        self._waiting: deque[object] = deque()
        self._evaluating: dict[int, int] = {}  # turns that each thread has
        self._training: int | None = None  # the thread that has the model for itself
        self._fitting: int | None = None  # the thread that a fit runs in
        self._modes: dict[nn.Module, bool] = {}

    @contextmanager
    def fit(self) -> Iterator[None]:
        """A fit of this thread, whose steps are turns.

        Raises:
            StateError: another thread is training the model.
        """
        me, outer = threading.get_ident(), self._fitting
        with self._turn:
            if outer not in (None, me):
                raise StateError(
                    "this learner is being trained by another thread; wait for that fit to end, or use a learner of "
                    "its own for each thread"
                )
            self._fitting = me
        try:
            yield
        finally:
            self._fitting = outer

    @contextmanager
    def training(self) -> Iterator[None]:
        """The model is this thread's alone, as for one step."""
        me = threading.get_ident()
        if self._training == me:
            yield
            return
        with self._turn:
            if self._evaluating or self._training is not None or self._waiting:
                self._wait(lambda: self._training is None and not (self._evaluating.keys() - {me}))
            self._training = me
        try:
            yield
        finally:
            with self._turn:
                self._training = None
                self._turn.notify_all()

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[None]:
        """The model is in evaluation mode and without gradients; afterwards each module is in its own mode again."""
        me = threading.get_ident()
        with self._turn:
            if me not in self._evaluating and self._training != me and (self._training is not None or self._waiting):
                self._wait(lambda: self._training is None)
            self._evaluating[me] = self._evaluating.get(me, 0) + 1
            modes = {m: m.training for m in model.modules()}
            if any(modes.values()):
                for module, mode in modes.items():
                    self._modes.setdefault(module, mode)
                model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            with self._turn:
                self._evaluating[me] -= 1
                if not self._evaluating[me]:
                    del self._evaluating[me]
                if not self._evaluating:
                    for module, mode in self._modes.items():
                        module.training = mode
                    self._modes = {}
                self._turn.notify_all()

    def _wait(self, free: Callable[[], bool]) -> None:
        """Wait in line until it is this thread's turn."""
        ticket = object()
        self._waiting.append(ticket)
        try:
            self._turn.wait_for(lambda: self._waiting[0] is ticket and free())
        finally:
            self._waiting.remove(ticket)
            self._turn.notify_all()
