"""Gate: lets several threads predict with a model, and one train it, without meeting in the middle of a step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from ..errors import StateError


class Gate:
    """Turns of one model: any number of threads evaluate it at once, a training step has it for itself.

    Turns are taken in the order of asking, so that neither side waits for ever. A thread that has a turn may take
    another inside it. The modes of the modules are noted when the first thread begins to evaluate, and put back when
    the last one ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._waiting: deque[object] = deque()
        self._evaluating: dict[int, int] = {}  # turns that each thread has
        self._training: int | None = None  # the thread that has the model for itself
        self._alone = _Alone(self)
        self._fitting: int | None = None  # the thread that a fit runs in
        self._modes: dict[nn.Module, bool] = {}

    @contextmanager
    def fit(self) -> Iterator[None]:
        """A fit of this thread, whose steps are turns; a StateError while another thread is training the model."""
        me = threading.get_ident()
        with self._turn:
            outer = self._fitting
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

    def refuse_inside_fit(self, what: str) -> None:
        """A StateError while a fit runs, whose optimizer would not notice `what` is done."""
        if self._fitting is not None:
            raise StateError(
                f"{what} inside a fit would reach neither its optimizer nor its rates: let the fit end (a callback "
                "sets run.stop_reason), do it, and fit again"
            )

    def training(self) -> AbstractContextManager[None]:
        """The model is this thread's alone, as for one step."""
        return self._alone

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


class _Alone:
    """The turn of a training step. A class, and no notice where nobody waits: it is taken at each step."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._depth = 0  # turns inside that of the thread that has one

    def __enter__(self) -> None:
        gate, me = self._gate, threading.get_ident()
        if gate._training == me:
            self._depth += 1
            return
        with gate._lock:
            if gate._evaluating or gate._training is not None or gate._waiting:
                gate._wait(lambda: gate._training is None and not (gate._evaluating.keys() - {me}))
            gate._training = me

    def __exit__(self, *_: object) -> None:
        gate = self._gate
        if self._depth:
            self._depth -= 1
            return
        with gate._lock:
            gate._training = None
            if gate._waiting:
                gate._turn.notify_all()
