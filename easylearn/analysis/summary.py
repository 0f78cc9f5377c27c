"""The layers of a model and the duration of a fit, measured without changing anything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..data.order import Loader
from ..device import kept_memory, prepare
from ..nn.groups import ParamGroup
from ..train.callback import Callback, Hooks, call
from ..train.plan import FitPlan
from ..train.snapshot import restored
from ..train.state import Run
from ..train.strategy import Strategy
from .page import duration


class Summary(str):
    """A text that a notebook shows as it is."""

    def __repr__(self) -> str:
        return str(self)


def summarise(model: nn.Module, loader: Loader, groups: Sequence[ParamGroup], strategy: Strategy) -> Summary:
    """The layers of a model with the shapes they give for one batch: one line per layer, and totals."""
    shapes: dict[int, str] = {}
    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[id(module)] = " x ".join(str(s) for s in output.shape)

    hooks = [m.register_forward_hook(note) for _, m in leaves]
    try:
        with restored(model), strategy.evaluating(model), closing(loader.batches(strategy.device)) as batches:
            batch = next(batches)
            strategy.forward(model, batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    group_of = {n.rpartition(".")[0]: (g.name, p.requires_grad) for g in groups for n, p in g.params}
    rows = [("group", "layer", "kind", "output", "parameters", "trains")]
    for name, module in leaves:
        count = sum(p.numel() for p in module.parameters())
        group, trains = group_of.get(name, ("", False))
        said = (f"{count:,}", "yes" if trains else "frozen") if count else ("", "")
        rows.append((group, name, type(module).__name__, shapes.get(id(module), "-"), *said))
    total = sum(g.n_params() for g in groups)
    training = sum(g.n_params(trainable_only=True) for g in groups)
    return Summary(f"{_table(rows)}\n{told_parameters(total, training)}")


def told_parameters(total: int, training: int) -> str:
    """How many parameters there are, and how many of them train.

    >>> told_parameters(1200, 200), told_parameters(1200, 1200)
    ('1,200 parameters, 200 of them train', '1,200 parameters, all of them train')
    """
    return f"{total:,} parameters, {'all' if training == total else f'{training:,}'} of them train"


def _table(rows: Sequence[Sequence[str]]) -> str:
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, width, strict=True)).rstrip() for r in rows)


def seconds_per_step(run: Run, callbacks: Sequence[Callback] = ()) -> float:
    """Seconds of a training step of a `run`, measured on two batches; everything is restored and no weight changes.

    Args:
        run: made for it.
        callbacks: of the fit; those that say that they change steps are called.
    """
    prepare(run.strategy.device)  # as the fit will
    changing = [c for c in callbacks if c.changes_steps]
    hooks = Hooks(changing)
    with kept_memory(run.strategy.device), restored(run.model), ExitStack() as stack:
        for callback in changing:
            stack.callback(callback.on_fit_end, run)
            callback.on_fit_begin(run)
        run.train_mode()
        batches = stack.enter_context(closing(run.train_loader.batches(run.strategy.device)))
        took: list[float] = []
        begun = time.perf_counter()
        for run.batch in islice(batches, 2):
            call(hooks.batch_begin, run)
            run.logits, run.loss = run.strategy.forward_loss(run.model, run.task, run.batch)
            call(hooks.loss, run)
            torch.autograd.backward(run.loss)
            run.loss.item()  # waits for the device
            call(hooks.batch_end, run)
            now = time.perf_counter()
            took.append(now - begun)
            begun = now
    return took[-1]


def _count(n: float, what: str, ending: str = "s") -> str:
    return f"{n:g} {what}" if n == 1 else f"{n:,.10g} {what}{ending}"


def print_plan(
    plan: FitPlan, groups: Sequence[ParamGroup], run: Run, callbacks: Sequence[Callback], precomputed: bool
) -> None:
    """Measure a step and print the text of a plan, in the main process alone."""
    text = plan_text(plan, groups, seconds_per_step(run, callbacks), precomputed)
    if run.strategy.is_main:
        print(text)


def plan_text(plan: FitPlan, groups: Sequence[ParamGroup], seconds: float, precomputed: bool) -> str:
    """The text of a plan: steps, schedule, rates, trainable parameters and estimated time."""
    cycles = [b - a for a, b in zip((0, *plan.cycle_ends), plan.cycle_ends, strict=False)]
    per_epoch = plan.steps_per_epoch
    lengths = ", ".join(f"{c / per_epoch:g}" for c in cycles[:10]) + (" ..." if len(cycles) > 10 else "")
    rows = [("group", "rate", "trainable parameters")]
    for group, rate in zip(groups, plan.rates, strict=True):
        count = group.n_params(trainable_only=True)
        rows.append((group.name, f"{rate:.3g}" if count else "-", f"{count:,}" if count else "frozen"))
    return (
        f"{_count(plan.n_epochs, 'epoch')} of {_count(per_epoch, 'batch', 'es')} = {_count(plan.n_steps, 'step')}; "
        f"cycles of {lengths} epoch{'' if lengths == '1' else 's'}\n"
        f"schedule: {plan.schedule}\n{_table(rows)}\n"
        f"about {duration(plan.n_steps * seconds)} of training ({seconds * 1e3:.3g} ms a step), validation and "
        "callbacks not counted" + ("; the head alone, on precomputed features" if precomputed else "")
    )
