"""Record: the losses, rates and metrics of a fit, row by row; printing, plots and files read only this."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..errors import ArgumentError, StateError

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

_rate = itemgetter("lr")


class Record:
    """Rows per step and per epoch of one fit, or of one lr_find.

    Losses of steps stay on a GPU until an epoch ends or they are read: no step waits for them.

    Args:
        group_names: the layer groups that were trained, in the order of `rates`.

    Attributes:
        epochs: one dictionary per epoch: epoch, train_loss, valid_loss, the metrics, rate, seconds.
        epoch_ends: steps done when each epoch ended.
        stop_reason: why the fit ended early, or None.
        before: seconds of what was done before the first step and is no part of an epoch, by what it was.
        kept: which weights the fit ended with, where a callback chose them; None: those after its last step.
    """

    def __init__(self, group_names: tuple[str, ...] = ()) -> None:
        self.group_names = group_names
        self.epochs: list[dict[str, float]] = []
        self.stop_reason: str | None = None
        self.before: dict[str, float] = {}
        self.kept: str | None = None
        self._losses: list[float] = []
        self._pending: list[Tensor] = []
        self._rates: list[tuple[float, ...]] = []
        self._momentum: list[float] = []
        self._step_epoch: list[int] = []
        self.epoch_ends: list[int] = []
        self._clock = time.perf_counter()

    @classmethod
    def of(cls, *records: Record) -> Self:
        """The `records` of fits, one after the other, as one; a group has no rate (NaN) where it did not train."""
        names = dict.fromkeys(name for record in reversed(records) for name in reversed(record.group_names))
        made = cls(tuple(reversed(names)))
        state, done = made.state_dict(), 0
        for record in records:
            one = record.state_dict()
            found = (dict(zip(record.group_names, row, strict=True)) for row in record.rates)
            one["rates"] = [[row.get(name, math.nan) for name in made.group_names] for row in found]
            for name in ("epochs", "losses", "rates", "momentum", "step_epoch"):
                state[name] += one[name]
            state["epoch_ends"] += [done + end for end in record.epoch_ends]
            state |= {"stop_reason": record.stop_reason, "kept": record.kept}
            for name, seconds in record.before.items():
                state["before"][name] = state["before"].get(name, 0.0) + seconds
            done += len(record)
        made.load_state_dict(state)
        return made

    def add_step(self, epoch: int, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Add a row for a step: its `epoch` in the learner's life, `loss` () and the rates of its `optimizer`."""
        if loss.is_cpu:
            self._losses.append(loss.item())  # no device to wait for, and cheaper than keeping a tensor
        else:
            self._pending.append(loss.detach())
        groups = optimizer.param_groups
        self._rates.append(tuple(map(_rate, groups)))
        first = groups[0]
        self._momentum.append(first["momentum"] if "momentum" in first else first.get("betas", (0.0,))[0])
        self._step_epoch.append(epoch)

    def end_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add a row for an `epoch` of the learner's life: the mean loss of its steps, and its validation `metrics`."""
        losses = self.losses[self.epoch_ends[-1] if self.epoch_ends else 0 :]
        begun, self._clock = self._clock, time.perf_counter()
        row = {"epoch": float(epoch), "train_loss": sum(losses) / len(losses) if losses else math.nan, **metrics}
        row["rate"] = self._rates[-1][-1] if self._rates else math.nan
        row["seconds"] = self._clock - begun
        self.epochs.append(row)
        self.epoch_ends.append(len(self._rates))

    def __len__(self) -> int:
        return len(self._rates)

    @property
    def losses(self) -> list[float]:
        """Training loss of each step."""
        if self._pending:
            self._losses.extend(torch.stack(self._pending).float().tolist())
            self._pending.clear()
        return self._losses

    @property
    def last_loss(self) -> float:
        """The loss of the last step; waits for the device."""
        self._need(self._rates)
        return float(self._pending[-1]) if self._pending else self._losses[-1]

    @staticmethod
    def _need(rows: Sequence[object]) -> None:
        if not rows:
            raise StateError("the record is empty: nothing was trained yet. Call fit first")

    @property
    def rates(self) -> list[tuple[float, ...]]:
        """Learning rate of each trained group at each step."""
        return self._rates

    @property
    def momentum(self) -> list[float]:
        """Momentum, or Adam's first beta, at each step."""
        return self._momentum

    def column(self, name: str) -> list[float]:
        """One value per epoch; epochs without it are left out.

        Args:
            name: of a column, for example "valid_loss".
        """
        values = [row[name] for row in self.epochs if name in row]
        if not values and self.epochs:
            raise ArgumentError(f"the record has no {name!r}; it has {sorted({k for r in self.epochs for k in r})}")
        return values

    @property
    def last(self) -> dict[str, float]:
        """The row of the last epoch."""
        self._need(self.epochs)
        return self.epochs[-1]

    def to_frame(self, level: Literal["epoch", "step"] = "epoch") -> pd.DataFrame:
        """The rows as a DataFrame.

        Args:
            level: "epoch" gives a row per epoch, "step" one per step.
        """
        import pandas as pd

        if level == "epoch":
            frame = pd.DataFrame(self.epochs)
            return frame.astype({"epoch": "int64"}) if len(frame) else frame  # type: ignore[no-any-return]
        if level != "step":
            raise ArgumentError(f"level must be 'epoch' or 'step', got {level!r}")
        rates = {f"rate_{n}": [r[i] for r in self._rates] for i, n in enumerate(self.group_names)}
        columns = {"epoch": self._step_epoch, "loss": self.losses, "momentum": self._momentum, **rates}
        return pd.DataFrame(columns)  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, Any]:
        """All rows, as numbers and lists."""
        return {
            "group_names": list(self.group_names),
            "epochs": [dict(r) for r in self.epochs],
            "losses": list(self.losses),
            "rates": [list(r) for r in self._rates],
            "momentum": list(self._momentum),
            "step_epoch": list(self._step_epoch),
            "epoch_ends": list(self.epoch_ends),
            "stop_reason": self.stop_reason,
            "before": dict(self.before),
            "kept": self.kept,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the `state` that `state_dict` gave."""
        self.group_names = tuple(state["group_names"])
        self.epochs = [dict(r) for r in state["epochs"]]
        self._losses, self._pending = list(state["losses"]), []
        self._rates = [tuple(r) for r in state["rates"]]
        self._momentum = list(state["momentum"])
        self._step_epoch = list(state["step_epoch"])
        self.epoch_ends = [int(n) for n in state["epoch_ends"]]
        self.stop_reason = state["stop_reason"]
        self.before, self.kept = dict(state.get("before", {})), state.get("kept")  # older checkpoints have neither

    def __str__(self) -> str:
        return format_table(self.epochs) if self.epochs else repr(self)

    def __repr__(self) -> str:
        """One line: a notebook shows it below the table that the fit printed."""
        steps = f"{len(self)} step{'' if len(self) == 1 else 's'}"
        if not self.epochs:
            return f"Record({steps})"
        last = dict(zip(self.last, format_row(self.last), strict=True))
        told = ", ".join(f"{name} {value}" for name, value in last.items() if name not in ("epoch", "rate", "seconds"))
        return f"Record({len(self.epochs)} epoch{'' if len(self.epochs) == 1 else 's'}, {steps}; last: {told})"


def format_row(row: Mapping[str, float]) -> list[str]:
    """The cells of one epoch's line."""
    forms = {"epoch": ".0f", "seconds": ".1f", "rate": ".2g"}
    # Four decimals hide an error of 1e-6 and drown one of a million.
    return [format(v, forms.get(name, ".4f" if not v or 1e-3 <= abs(v) < 1e5 else ".4g")) for name, v in row.items()]


def format_table(rows: list[dict[str, float]]) -> str:
    """Epoch rows as an aligned table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    width = {n: max(len(n), 8) for n in names}
    lines = ["  ".join(n.rjust(width[n]) for n in names)]
    for row in rows:
        cells = dict(zip(row, format_row(row), strict=True))
        lines.append("  ".join(cells.get(n, "").rjust(width[n]) for n in names))
    return "\n".join(lines)
