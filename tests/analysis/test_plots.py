from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from easylearn.errors import StateError
from easylearn.learning import Learner

MakeLearner = Callable[..., Learner]


def drawn(figure: Figure) -> Figure:
    """Drawn headless, for an error in the drawing shows only then."""
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    return figure


def lines(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))  # type: ignore[arg-type]
        for axes in figure.axes
        for line in axes.get_lines()
    }


def test_loss_against_rate(make_learner: MakeLearner) -> None:
    learn = make_learner()
    curve = learn.lr_find()
    figure = drawn(learn.sched.plot())
    assert figure.axes[0].get_xscale() == "log"
    assert lines(figure)["smoothed"] == (list(curve.rates), list(curve.smooth))
    cut = lines(learn.sched.plot(n_skip=10, n_skip_end=5))["each step"]
    assert cut == (list(curve.rates[10:-5]), list(curve.losses[10:-5]))
    drawn(learn.sched.plot(n_skip=10**6, n_skip_end=10**6))


def test_the_suggestion_is_drawn(make_learner: MakeLearner, make_data: Any) -> None:
    learn = make_learner(data=make_data(n_train=128, batch_size=16))
    curve = learn.lr_find()
    assert curve.suggestion is not None
    assert f"suggested {curve.suggestion:.2g}" in lines(drawn(learn.sched.plot()))


@pytest.mark.parametrize("start", ["at once", "later"])
def test_losses_that_are_no_numbers_can_be_plotted(make_learner: MakeLearner, start: str) -> None:
    learn = make_learner("plain")
    if start == "at once":
        with torch.no_grad():
            next(learn.model.parameters()).fill_(math.nan)
    learn.lr_find(1e-3, 1e30)
    drawn(learn.sched.plot()), drawn(learn.sched.plot_lr())


def test_short_data_gives_a_whole_plot(make_learner: MakeLearner, make_data: Any) -> None:
    learn = make_learner("plain", make_data(n_train=4))
    learn.lr_find(1e-6, 1e-3)
    assert len(lines(learn.sched.plot())["smoothed"][0]) == 100


def test_rates_of_a_fit(make_learner: MakeLearner) -> None:
    learn = make_learner()
    record = learn.fit([0.1, 0.2, 0.3], 2)
    found = lines(drawn(learn.sched.plot_lr()))
    assert set(found) == {"stem", "late", "head"}
    assert found["late"][1] == [r[1] for r in record.rates]
    assert learn.sched.lrs == [r[-1] for r in record.rates] and learn.sched.losses == record.losses


def test_momentum_is_drawn_where_it_moves(make_learner: MakeLearner) -> None:
    learn = make_learner()
    record = learn.fit_one_cycle(0.1, 2)
    figure = drawn(learn.sched.plot_lr())
    assert len(figure.axes) == 2 and lines(figure)["momentum (right)"][1] == record.momentum
    learn.fit(0.1, 1)
    assert len(learn.sched.plot_lr().axes) == 1


def test_plot_lr_is_of_whichever_came_last(make_learner: MakeLearner) -> None:
    learn = make_learner()
    learn.fit(0.1, 1)
    curve = learn.lr_find()
    assert learn.sched.lrs == list(curve.rates)
    assert lines(learn.sched.plot_lr())["learning rate"][1] == list(curve.rates)  # one line: all groups are the same
    assert len(lines(learn.sched.plot_losses())["training, each step"][0]) == 6  # still those of the fit
    learn.fit(0.1, 2)
    assert len(learn.sched.lrs) == 12


def test_losses(make_learner: MakeLearner, make_data: Any) -> None:
    learn = make_learner()
    record = learn.fit(0.1, 2)
    found = lines(drawn(learn.sched.plot_losses()))
    assert found["training, each step"] == (list(range(1, 13)), record.losses)
    assert found["training, mean of the epoch"] == ([6, 12], record.column("train_loss"))
    assert found["validation"] == ([6, 12], record.column("valid_loss"))
    without = make_learner(data=make_data(n_valid=None))
    without.fit(0.1, 1)
    assert "validation" not in lines(drawn(without.sched.plot_losses()))
    assert lines(learn.sched.plot_loss()).keys() == found.keys()


def test_an_interrupted_fit_can_be_plotted(make_learner: MakeLearner, at: Any) -> None:
    def stop(run: Any) -> None:
        run.stop_reason = "enough" if run.step == 8 else None

    learn = make_learner()
    learn.fit(0.1, 3, callbacks=[at(batch_end=stop)])
    drawn(learn.sched.plot_losses()), drawn(learn.sched.plot_lr())


def test_one_loss_far_above_the_rest_does_not_flatten_them(make_learner: MakeLearner) -> None:
    learn = make_learner()
    record = learn.fit(0.1, 5)
    record.epochs[0]["valid_loss"] = 1e6
    axes = drawn(learn.sched.plot_losses()).axes[0]
    assert axes.get_ylim()[1] < 100 and "1e+06" in axes.get_title()


def test_nothing_yet(make_learner: MakeLearner) -> None:
    sched = make_learner().sched
    for plot, said in ((sched.plot, "lr_find"), (sched.plot_lr, "nothing to plot"), (sched.plot_losses, "no losses")):
        with pytest.raises(StateError, match=said):
            plot()


def test_figures_belong_to_no_window(make_learner: MakeLearner) -> None:
    learn = make_learner()
    learn.fit(0.1, 1)
    learn.sched.plot_losses()
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_a_fresh_notebook_shows_an_image(make_learner: MakeLearner) -> None:
    """With formatters that know nothing of matplotlib: IPython teaches them when pyplot is imported."""
    formatters = pytest.importorskip("IPython.core.formatters")
    learn = make_learner()
    learn.lr_find()
    learn.fit(0.05, 1)
    figures = [learn.sched.plot(), learn.sched.plot_lr(), learn.sched.plot_losses(), learn.interpret().plot_confusion()]
    for figure in figures:
        shown, _ = formatters.DisplayFormatter().format(figure)
        assert shown["image/png"].startswith(b"\x89PNG") and shown["text/plain"].startswith("<Figure size")
