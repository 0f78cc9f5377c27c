"""The training loop: a fit is epochs, an epoch is batches, a batch is a step. That is all of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from types import FrameType

from .. import keyed
from ..device import prepare
from .callback import Callback, Hooks, call
from .predict import evaluate
from .record import Record
from .state import Pause, Run


def run_fit(run: Run, callbacks: Sequence[Callback]) -> Record:
    """Train until `run.n_steps`, or until somebody gives a `run.stop_reason`."""
    hooks = Hooks(callbacks)
    prepare(run.strategy.device)
    with ExitStack() as stack:
        stack.enter_context(keyed.scoped_rng())
        stack.enter_context(interruptible(run))
        run.strategy.reset(run.optimizer)
        for callback in callbacks:
            callback.on_fit_begin(run)
            stack.callback(callback.on_fit_end, run)
        while (run.step < run.n_steps or run.batch_in_epoch > 0) and run.stop_reason is None:
            one_epoch(run, hooks)
    run.record.stop_reason = run.stop_reason
    return run.record


def one_epoch(run: Run, hooks: Hooks) -> None:
    """Train on each batch once, then validate."""
    if run.batch_in_epoch == 0:
        keyed.seed_global(run.seed, "epoch", run.life_epoch)  # what dropout draws from
    run.train_mode()
    call(hooks.epoch_begin, run)
    if run.step < run.n_steps:  # a resumed run may have only the end of its last epoch before it
        batches = run.train_loader.batches(run.strategy.device, run.seed, run.life_epoch, start=run.batch_in_epoch)
        with closing(batches):
            for run.batch in batches:
                one_batch(run, hooks)
                if run.stop_reason is not None or run.step == run.n_steps:
                    break
    run.metrics = {}
    if run.stop_reason is None and run.valid_loader is not None:
        call(hooks.validate_begin, run)
        run.metrics = evaluate(run.model, run.valid_loader, run.task, run.strategy)
        call(hooks.validate_end, run)
    run.record.end_epoch(run.life_epoch, run.metrics)
    call(hooks.epoch_end, run)
    run.epoch += 1


def one_batch(run: Run, hooks: Hooks) -> None:
    """Forward, loss, backward, step."""
    call(hooks.batch_begin, run)
    assert run.batch is not None
    run.logits, run.loss = run.strategy.forward_loss(run.model, run.task, run.batch)
    call(hooks.loss, run)
    run.strategy.backward(run.loss, len(run.batch.index))
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
        run.stop_reason = Pause(f"interrupted after step {run.step}")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
