"""The training loop: a fit is epochs, an epoch is batches, a batch is a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from types import FrameType

from .. import keyed
from ..device import kept_memory, prepare
from .callback import Callback, Hook, Hooks, call
from .distributed import Lanes, hooks_of
from .fitting import REFUSED, check_gradient, check_outputs, explain
from .predict import evaluate_alike
from .record import Record
from .state import Pause, Run


def run_fit(run: Run, callbacks: Sequence[Callback]) -> Record:
    """Train until `run.n_steps`, or until a callback or Ctrl-C sets `run.stop_reason`."""
    gate, run.callbacks = run.strategy.gate, callbacks
    prepare(run.strategy.device)
    with ExitStack() as stack:
        stack.enter_context(gate.fit())
        stack.enter_context(run.strategy.together())
        stack.enter_context(kept_memory(run.strategy.device, and_afterwards=True))
        stack.enter_context(keyed.scoped_rng())
        stack.enter_context(interruptible(run))
        with gate.training():
            hooks = stack.enter_context(hooks_of(run, callbacks))
            run.strategy.reset(run.optimizer)
        for callback in callbacks:
            _in_turn(run, callback.on_fit_begin)
            stack.callback(_in_turn, run, callback.on_fit_end)
        while (run.step < run.n_steps or run.batch_in_epoch > 0) and run.stop_reason is None:
            one_epoch(run, hooks)
    run.record.stop_reason = run.stop_reason
    return run.record


def _in_turn(run: Run, *hooks: Hook) -> None:
    """Call hooks, which may change the model, while no other thread uses it."""
    with run.strategy.gate.training():
        call(hooks, run)


def one_epoch(run: Run, hooks: Hooks) -> None:
    """Train on each batch once, then validate."""
    if run.batch_in_epoch == 0:
        keyed.seed_global(run.seed, "epoch", run.life_epoch)  # what dropout draws from
    with run.strategy.gate.training():
        run.train_mode()
        call(hooks.epoch_begin, run)
    if run.step < run.n_steps:  # a resumed run may have only the end of its last epoch before it
        strategy = run.strategy
        batches = strategy.batches(run.train_loader, run.seed, run.life_epoch, run.batch_in_epoch)
        turn = strategy.gate.training()  # whoever predicts from another thread does so between two steps
        with closing(batches):
            for run.batch in batches:
                with turn:
                    one_batch(run, hooks)
                run.stop_reason = strategy.agree(run.stop_reason)
                if run.stop_reason is not None or run.step == run.n_steps:
                    break
    run.metrics = {}
    if run.stop_reason is None and run.valid_loader is not None:
        _in_turn(run, *hooks.validate_begin)
        run.metrics = evaluate_alike(run.model, run.valid_loader, run.task, run.strategy)
        _in_turn(run, *hooks.validate_end)
    run.record.end_epoch(run.life_epoch, run.metrics)
    _in_turn(run, *hooks.epoch_end)
    run.stop_reason = run.strategy.agree(run.stop_reason)
    run.epoch += 1


def one_batch(run: Run, hooks: Hooks) -> None:
    """Forward, loss, backward, step."""
    call(hooks.batch_begin, run)
    assert run.batch is not None
    run.logits = run.loss = None  # the memory of the last batch's, for this one's
    try:
        run.logits, run.loss = run.strategy.forward_loss(run.model, run.task, run.batch)
    except REFUSED as error:  # of a layer that was replaced after the learner was made, say
        if run.step == 0:
            explain(error, run.model, run.batch.inputs, run.strategy)
        raise
    if run.step == 0:
        check_outputs(run.logits, run.task)
        check_gradient(run.logits, run.loss, run.task)
    call(hooks.loss, run)
    run.strategy.backward(run.loss, run.batch.index.numel())
    if run.strategy.must_step(run.batch_in_epoch + 1 == run.steps_per_epoch or run.step + 1 == run.n_steps):
        run.strategy.finish_grads(run.optimizer)
        call(hooks.grads, run)
        run.strategy.step(run.optimizer)
    run.step += 1
    run.record.add_step(run.life_epoch, run.loss, run.optimizer)
    call(hooks.batch_end, run)


@contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """First Ctrl-C: the present step is finished and the fit ends. Second: KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        reason = Pause(f"interrupted after step {run.step}")
        if isinstance(run.strategy, Lanes):
            run.strategy.asked = reason  # all processes have to stop at the same step
        else:
            run.stop_reason = reason
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
