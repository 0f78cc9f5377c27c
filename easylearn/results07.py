"""What a learner of 2018 gave: averages that are no stack, plots with their numbers, the model in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import nn

from .analysis.plots import SchedPlots, new_figure
from .errors import ArgumentError, StateError
from .fit07 import Record07
from .learning import Learner
from .nn.body_head import BodyHead
from .task import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
_OF_A_STACK = (np.exp, np.mean)


class Averaged(np.ndarray[Any, Any]):
    """Averaged probabilities, which refuse what scripts of 2018 do to a stack of log-probabilities.

    Attributes:
        is_average: False for whatever is computed of them.
    """

    is_average = False

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        self._refuse(ufunc)
        return getattr(ufunc, method)(*_plain(inputs), **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self._refuse(func)
        return func(*_plain(args), **kwargs)

    def _refuse(self, func: Any) -> None:
        if self.is_average and func in _OF_A_STACK:
            raise ArgumentError(
                f"TTA() gives averaged probabilities, of which np.{func.__name__} makes something else. Use them as "
                "they are, or write learn.TTA(stack=True) for the stack of views that 0.7 gave"
            )


def _plain(given: Any) -> Any:
    """Ordinary arrays, also within lists."""
    if isinstance(given, list | tuple):
        return type(given)(map(_plain, given))
    return given.view(np.ndarray) if isinstance(given, Averaged) else given


@dataclass(frozen=True)
class Averages:
    """What `TTA()` gives: it unpacks as averaged probabilities and targets.

    Args:
        probs: shape (n, n_out); `np.exp` and `np.mean` of them are refused, since those are for the stack.
        targets: None where they are not known.
        predictions: the same with ids, labels and views.
    """

    probs: Averaged
    targets: Array | None
    predictions: Predictions

    def __iter__(self) -> Iterator[Any]:
        return iter((self.probs, self.targets))

    def __getitem__(self, i: int) -> Any:
        return (self.probs, self.targets)[i]


class Sched07(SchedPlots):
    """The plots of the last lr_find and fit, and their numbers under 2018's names."""

    @property
    def iterations(self) -> list[int]:
        """The number of each step."""
        return list(range(1, len(self._record()) + 1))

    @property
    def epochs(self) -> list[int]:
        """Steps done when each epoch ended."""
        return self._record().epoch_ends

    @property
    def val_losses(self) -> list[float]:
        """The validation loss of each epoch."""
        return self._record().column("valid_loss")

    @property
    def rec_metrics(self) -> list[list[float]]:
        """The metrics of each epoch."""
        return [Record07().values(row)[1:] for row in self._record().epochs]

    def plot_lr(self, show_text: bool = True, show_moms: bool = True) -> Figure:
        """Rates and momentum of each step; `show_text` and `show_moms` say nothing."""
        return super().plot_lr()

    def plot_loss(self, n_skip: int = 0, n_skip_end: int = 0) -> Figure:  # type: ignore[override]
        """Loss of each step; see `plot_losses`.

        Args:
            n_skip: steps left out at the start.
            n_skip_end: steps left out at the end.
        """
        if not n_skip and not n_skip_end and self.fitted is not None:
            return self.plot_losses()
        figure = new_figure()
        stop = max(len(self.losses) - n_skip_end, n_skip + 1)
        axes = figure.add_subplot()
        axes.plot(self.iterations[n_skip:stop], self.losses[n_skip:stop])
        axes.set(xlabel="step", ylabel="loss")
        return figure


class Models:
    """What `learn.models` was.

    Args:
        learn: whose model.
    """

    def __init__(self, learn: Learner) -> None:
        self._learn = learn

    @property
    def model(self) -> nn.Module:
        """The whole model; another one may be put in its place."""
        return self._learn.model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._learn.model = model

    @property
    def fc_model(self) -> nn.Module:
        """The head."""
        return self._both().head

    @property
    def top_model(self) -> nn.Module:
        """The body."""
        return self._both().body

    def _both(self) -> BodyHead:
        if not isinstance(self.model, BodyHead):
            raise StateError(f"a {type(self.model).__name__} has no body and head")
        return self.model

    def get_layer_groups(self, do_fc: bool = False) -> list[list[nn.Module]]:
        """The modules of each layer group, input first; with `do_fc` those of the head alone."""
        return [list(g.modules) for g in self._learn.layer_groups][-1 if do_fc else 0 :]
