"""Plots of a record. Each method returns a matplotlib figure and works without a screen."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import StateError
from ..train.finder import LRCurve
from ..train.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure without a window, which needs no closing; a notebook shows it as an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _kind_of_figure()(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@functools.cache
def _kind_of_figure() -> type[Figure]:
    from matplotlib.figure import Figure

    class Shown(Figure):
        """A figure that says how it looks: IPython knows of others only once pyplot has been imported."""

        def _repr_png_(self) -> bytes:
            held = io.BytesIO()
            self.savefig(held, format="png")
            return held.getvalue()

    Shown.__name__ = "Figure"  # as it is called in a text
    return Shown


def grid(n: int, columns: int, wide: float, high: float) -> tuple[Figure, list[Axes]]:
    """A figure with places for `n` drawings in rows, each of so many inches."""
    rows = -(-n // columns)
    figure = new_figure(wide * columns, high * rows)
    return figure, [figure.add_subplot(rows, columns, place) for place in range(1, n + 1)]


@dataclass(frozen=True)
class SchedPlots:
    """The plots of the last lr_find (`curve`), the last fit (`fitted`) and whichever came last, as `learn.sched`."""

    curve: LRCurve | None
    record: Record | None
    fitted: Record | None

    @property
    def lrs(self) -> list[float]:
        """The last group's rate at each step of the last lr_find or fit."""
        return [r[-1] for r in self._record().rates]

    @property
    def losses(self) -> list[float]:
        """The training loss at each step of the last lr_find or fit."""
        return self._record().losses

    def _record(self) -> Record:
        if self.record is None:
            raise StateError("there is nothing to plot yet: call learn.lr_find() or learn.fit(...) first")
        return self.record

    def plot(self, n_skip: int = 0, n_skip_end: int = 0) -> Figure:
        """Loss against rate of the last lr_find, without `n_skip` points at its start and `n_skip_end` at its end."""
        if self.curve is None:
            raise StateError("loss against rate is a plot of lr_find: call learn.lr_find() first")
        stop = max(len(self.curve.rates) - n_skip_end, n_skip + 1)
        rates = self.curve.rates[n_skip:stop]
        figure = new_figure()
        axes = figure.add_subplot()
        axes.plot(rates, self.curve.losses[n_skip:stop], color="0.8", linewidth=1, label="each step")
        axes.plot(rates, self.curve.smooth[n_skip:stop], label="smoothed")
        # The last points shoot up by design; what matters is the valley before them.
        finite = [v for v in self.curve.smooth if math.isfinite(v)]
        if finite:
            low, high = min(finite), max(finite[: max(len(finite) // 4, 1)])
            axes.set_ylim(low - 0.15 * (high - low + 1e-9), high + 0.6 * (high - low + 1e-9))
        if self.curve.suggestion is not None:
            label = f"suggested {self.curve.suggestion:.2g}"
            axes.axvline(self.curve.suggestion, color="C1", linestyle="--", label=label)
        axes.set(xscale="log", xlabel="learning rate of the last group", ylabel="training loss", title="lr_find")
        axes.legend()
        return figure

    def plot_lr(self) -> Figure:
        """Learning rate of each group at each step of the last lr_find or fit."""
        record = self._record()
        figure = new_figure()
        axes = figure.add_subplot()
        if all(len(set(r)) == 1 for r in record.rates):  # lines that lie on each other would show the last only
            lines = axes.plot([r[0] for r in record.rates], label="learning rate")
        else:
            lines = [axes.plot([r[i] for r in record.rates], label=n)[0] for i, n in enumerate(record.group_names)]
        if len({round(m, 6) for m in record.momentum}) > 1:
            twin = axes.twinx()
            lines += twin.plot(record.momentum, color="0.6", linestyle=":", label="momentum (right)")
            twin.set_ylabel("momentum")
        axes.set(xlabel="step", ylabel="learning rate", title="learning rate")
        if len(lines) > 1:
            figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)
        return figure

    def plot_losses(self) -> Figure:
        """Training loss of each step and validation loss of each epoch of the last fit."""
        if self.fitted is None:
            raise StateError("there are no losses to plot yet: call learn.fit(...) first")
        record = self.fitted
        figure = new_figure()
        axes = figure.add_subplot()
        losses = record.losses
        axes.plot(range(1, len(losses) + 1), losses, color="0.8", linewidth=1, label="training, each step")
        ends = record.epoch_ends
        axes.plot(ends, [row["train_loss"] for row in record.epochs], "o-", label="training, mean of the epoch")
        if any("valid_loss" in row for row in record.epochs):
            axes.plot(ends, [row.get("valid_loss", float("nan")) for row in record.epochs], "s-", label="validation")
        axes.set(xlabel="step", ylabel="loss", title="losses")
        # One early validation of an untrained net can be a thousand times the rest and would flatten all of it.
        every = [*losses, *(row.get("valid_loss", math.nan) for row in record.epochs)]
        finite = sorted(v for v in every if math.isfinite(v))
        usual = finite[int(0.9 * (len(finite) - 1))] if finite else 0.0
        if finite and finite[-1] > 5 * usual > 0:
            axes.set_ylim(-0.05 * usual, 2 * usual)
            axes.set_title(f"losses (the highest, {finite[-1]:.3g}, lies above the frame)")
        axes.legend()
        return figure

    plot_loss = plot_losses
