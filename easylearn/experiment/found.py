"""What a search found: the best trial, all of them, how sure it is, what to try next, drawings and a page."""

from __future__ import annotations

import html
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.page import drawing, frame, number, pairs, plain, section, whole_page
from ..analysis.plots import grid, new_figure
from ..errors import ArgumentError, StateError, check_whole, did_you_mean
from ..files import StrPath, atomic_write
from ..learning import Learner
from .engine import Engine, once
from .lines import Row
from .plans import losses_of
from .space import Listed, Space
from .store import Job
from .telling import Line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..intervals import BestOf

EDGE = 0.08  # of a range: the best that lie so near to its end may lie beyond it
FEW = 12  # trials, below which nothing is said of what they have in common


@dataclass(frozen=True)
class Trial:
    """A trial as far as it went.

    Args:
        number: from 0.
        point: its values.
        value: of the metric after its last epoch; None where it diverged, or there was no memory for it.
        status: "done", "paused" (at a rung, others went on), "stopped" (it could not win), "diverged", "infeasible" or
            "failed".
        rung: the last that it came to.
        epochs: trained in all.
        curve: the metric after each epoch.
        reason: of an end that was no good one.
        by: who proposed the point.
        seconds: that it took.
    """

    number: int
    point: Mapping[str, Any]
    value: float | None
    status: str
    rung: int
    epochs: int
    curve: tuple[float | None, ...]
    reason: str
    by: str
    seconds: float

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v!r:.60}" for k, v in self.point.items())
        value = "no value" if self.value is None else number(self.value)
        told = self.status + (f": {self.reason:.100}" if self.reason else "")
        return f"Trial {self.number}: {value} after {self.epochs} epochs ({told}); {values}"


class Found:
    """The results of a search; reading them trains nothing.

    Args:
        engine: of the search.
        space: that it searched.
    """

    def __init__(self, engine: Engine, space: Space) -> None:
        self.engine, self.space = engine, space
        self.history = engine.store().history
        self._jobs = {job.trial: job for job in self.history.jobs}
        rows = defaultdict[int, list[Row]](list)
        for (trial, _), row in sorted(self.history.ends.items()):
            rows[trial].append(row)
        self.trials = [self._trial(n, rows[n]) for n in sorted(rows)]

    def _trial(self, n: int, rows: Sequence[Row]) -> Trial:
        last, job = rows[-1], self._jobs[n]
        what: dict[str, Any] = {k: last.get(k) for k in ("value", "status", "rung")}
        seconds = sum(row["seconds"] for row in rows)
        curve, reason = tuple(last.get("curve", ())), last.get("reason", "")
        return Trial(
            n, job.point, epochs=last.get("epochs", 0), curve=curve, reason=reason, by=job.by, seconds=seconds, **what
        )

    @cached_property
    def _sign(self) -> float:
        """1 where higher is better."""
        return next((1.0 if row["higher"] else -1.0 for row in self.history.ends.values() if "higher" in row), 1.0)

    @cached_property
    def metric(self) -> str:
        """The name of what counts."""
        return next((str(row["metric"]) for row in self.history.ends.values() if "metric" in row), "value")

    @property
    def ranked(self) -> list[Trial]:
        """The trials with a value, the best first; those that went further come before others."""
        good = [t for t in self.trials if t.value is not None]
        return sorted(good, key=lambda t: (t.status != "done", -t.rung, -self._sign * (t.value or 0.0), t.number))

    @property
    def best(self) -> Trial:
        """The best of the trials that went to the end.

        Raises:
            StateError: none has a value.
        """
        if not self.ranked:
            reasons = {t.reason for t in self.trials}
            raise StateError(f"no trial of {self.engine.folder} has a value: {'; '.join(sorted(reasons))[:500]}")
        return self.ranked[0]

    def table(self) -> pd.DataFrame:
        """A row per trial, by number: what came of it, who proposed it, and its values."""
        import pandas as pd

        rows = [
            {
                "trial": t.number, "status": t.status, self.metric: t.value, "epochs": t.epochs, "by": t.by,
                **{n: t.point.get(n) for n in self.space.names},
            }
            for t in self.trials
        ]  # fmt: skip
        table: pd.DataFrame = pd.DataFrame(rows)
        return table

    def learner(self, trial: int | None = None) -> Learner:
        """The learner of a trial with the weights that it ended with.

        Args:
            trial: its number; None is the best.
        """
        chosen = self.best if trial is None else next((t for t in self.trials if t.number == trial), None)
        if chosen is None:
            raise ArgumentError(f"there is no trial {trial}; they are numbered from 0 to {len(self.trials) - 1}")
        return self.engine.learner(self._job(chosen))

    def _job(self, trial: Trial) -> Job:
        return next(j for j in self.history.jobs if j.key == (trial.number, trial.rung))

    @cached_property
    def score(self) -> BestOf:
        """The value of the best trial, and what it is worth on new items: without the luck of having been chosen.

        Raises:
            StateError: there are no predictions to draw from.
        """
        from ..intervals import best_of

        done = [t for t in self.ranked if t.status == "done"]
        said = [self.engine.predictions(self._job(t)) for t in done]
        learn_metrics = {m.name: m for m in said[0].task.metrics} if said else {}
        if not said or said[0].targets is None or self.metric not in learn_metrics:
            raise StateError(
                f"no score can be drawn from: {self.metric} needs predictions of the validation items of finished "
                "trials, and must be a metric that the task has"
            )
        with np.errstate(invalid="ignore"):  # of a few items a draw may leave none out
            return best_of([p.probs for p in said], said[0].targets, learn_metrics[self.metric])

    def advice(self) -> list[str]:
        """What the trials say about the space, a sentence each; nothing where they say nothing."""
        found: list[str] = []
        bad = [t for t in self.trials if t.value is None]
        if len(bad) >= max(3, len(self.trials) / 10):
            kinds = ", ".join(f"{sum(t.status == k for t in bad)} {k}" for k in sorted({t.status for t in bad}))
            found.append(f"{len(bad)} of {len(self.trials)} trials have no value ({kinds}): {self._what_tells(bad)}")
        if len(self.ranked) >= FEW:
            top = self.ranked[: max(3, len(self.ranked) // 10)]
            found += [text for name in self.space.names if (text := self._edge(name, top)) is not None]
            if weak := self._weak():
                found.append(f"{', '.join(weak)} changed next to nothing: fix them, and search the rest")
        return found

    def _what_tells(self, bad: Sequence[Trial]) -> str:
        """The dimension by which bad trials differ most from good ones."""
        gaps = {}
        for name in self.space.names:
            units = [[self._unit(t, name) for t in side if name in t.point] for side in (bad, self.ranked)]
            if all(units):
                gaps[name] = np.mean(units[0]) - np.mean(units[1])
        if not gaps:
            return "look at their reasons"
        name = max(gaps, key=lambda n: abs(gaps[n]))
        return f"most have a {'high' if gaps[name] > 0 else 'low'} {name}"

    def _unit(self, trial: Trial, name: str) -> float:
        return self.space.plain(name).unit(trial.point[name])

    def _edge(self, name: str, top: Sequence[Trial]) -> str | None:
        dimension = self.space.plain(name)
        units = [self._unit(t, name) for t in top if name in t.point]
        if len(units) < 3 or (isinstance(dimension, Listed) and (not dimension.ordered or len(dimension.values) < 4)):
            return None
        margin = max(EDGE, 0.6 / (dimension.n_values or 100))
        middle = float(np.median(units))
        if margin < middle < 1 - margin:
            return None
        end = dimension.value(0.0 if middle <= margin else 1.0)
        which = "lower" if middle <= margin else "upper"
        return f"the best {len(units)} trials have {name} near its {which} end, {plain(end)}: widen that range"

    def _weak(self) -> list[str]:
        """Names whose values tell next to nothing of the outcome."""
        shares = self._importances()
        return [n for n, share in shares.items() if share < 0.02] if len(shares) > 1 and len(self.ranked) >= 30 else []

    @cached_property
    def _model(self) -> Any:
        """A forest from places in the unit cube to values: what the trials know of points in between."""
        from sklearn.ensemble import RandomForestRegressor

        if len(self.ranked) < 5:
            raise StateError(f"{len(self.ranked)} trials have a value, and at least 5 are needed to see what matters")
        x = np.array([self.space.units(t.point) for t in self.trials])
        rows = [{"value": t.value, "higher": self._sign > 0} for t in self.trials]
        y = -self._sign * np.array(losses_of(rows))
        return RandomForestRegressor(200, min_samples_leaf=2, random_state=0, max_features=0.7).fit(x, y)

    def _importances(self) -> dict[str, float]:
        if len(self.ranked) < 5:
            return {}
        return dict(zip(self.space.names, self._model.feature_importances_.tolist(), strict=True))

    def confirm(self, top: int = 3, seeds: int = 5, workers: Any = 1, progress: bool = True) -> pd.DataFrame:
        """Train the best points anew with several seeds, and compare them by their means.

        Args:
            top: how many points.
            seeds: how many for each.
            workers: see `search`.
            progress: print a line for each training as it ends.

        Returns:
            A row per point, best mean first: trial, mean, sd, min, max, the value in the search, and n.
        """
        import pandas as pd

        check_whole("top", top)
        check_whole("seeds", seeds, 2)
        _ = self.best  # refused where no trial has a value
        chosen = self.ranked[:top]
        jobs = [
            Job(i * seeds + k, t.point, seed=self._jobs[t.number].seed + 1 + k, by=str(t.number), rung=0)
            for i, t in enumerate(chosen)
            for k in range(seeds)
        ]
        last = max((j.rung for j in self.history.jobs), default=0)
        recipe = replace(self.engine.recipe, halving=None, splits=())
        if recipe.anew:
            jobs = [replace(job, rung=last) for job in jobs]
        settings = {"kind": "confirm", "trials": [t.number for t in chosen], "seeds": seeds}
        folder = Path(self.engine.folder) / "confirm" / f"{'-'.join(str(t.number) for t in chosen)}x{seeds}"
        engine = Engine(folder, settings, recipe, once(jobs), threads=self.engine.threads)
        with closing(Line(len(jobs), progress, "seed")) as line:
            ends = engine.run(workers, line).ends
        rows = []
        for i, t in enumerate(chosen):
            values = [ends[job.key].get("value") for job in jobs[i * seeds : (i + 1) * seeds]]
            good = np.array([v for v in values if v is not None], float)
            mean, sd = (good.mean(), good.std(ddof=1)) if len(good) > 1 else (math.nan, math.nan)
            low, high = (good.min(), good.max()) if len(good) else (math.nan, math.nan)
            rows.append(
                {"trial": t.number, "mean": mean, "sd": sd, "min": low, "max": high, "search": t.value, "n": len(good)}
            )
        table = pd.DataFrame(rows)
        sorted_table: pd.DataFrame = table.sort_values("mean", ascending=self._sign < 0, ignore_index=True)
        return sorted_table

    # -- drawings --------------------------------------------------------------------------------------------

    def plot_axes(self) -> Figure:
        """Every trial's value over each dimension, darker the later; the best is marked."""
        names = self.space.names
        figure, places = grid(len(names), min(3, len(names)), 3.6, 2.8)
        for name, axes in zip(names, places, strict=True):
            shown = [t for t in self.ranked if name in t.point]
            values = [t.value or 0.0 for t in shown]
            axes.scatter(
                [self._place(name, t.point[name]) for t in shown], values,
                c=[t.number for t in shown], cmap="Blues", vmin=-len(self.trials) / 2, edgecolors="0.5", linewidths=0.4,
                s=22,
            )  # fmt: skip
            if shown:
                axes.scatter([self._place(name, shown[0].point[name])], values[:1], marker="*", s=120, color="C3")
            self._label(axes, name)
        return figure

    def _place(self, name: str, value: Any) -> float:
        dimension = self.space.plain(name)
        return float(dimension.index(value)) if isinstance(dimension, Listed) else float(value)

    def _label(self, axes: Axes, name: str) -> None:
        dimension = self.space.plain(name)
        axes.set(xlabel=name, ylabel=self.metric)
        if isinstance(dimension, Listed):
            axes.set_xticks(range(len(dimension.values)), [str(v)[:16] for v in dimension.values], parse_math=False)
        elif dimension.log:
            axes.set_xscale("log")

    def plot_isolation(self, name: str) -> Figure:
        """What one dimension does, the others being as in the best trials: a forest's mean over those, with its spread.

        Args:
            name: of a dimension.
        """
        if name not in self.space.dimensions:
            raise ArgumentError(f"the space has no {name!r}. {did_you_mean(name, self.space.names)}")
        dimension, at = self.space.plain(name), self.space.names.index(name)
        n = dimension.n_values if isinstance(dimension, Listed) else 60
        units = (np.arange(n or 1) + 0.5) / (n or 1)
        others = np.array([self.space.units(t.point) for t in self.ranked[: max(5, len(self.ranked) // 5)]])
        lines = []
        for u in units:
            moved = others.copy()
            moved[:, at] = u
            lines.append(self._model.predict(moved))
        curves = np.array(lines)
        figure = new_figure()
        axes = figure.add_subplot()
        x = [self._place(name, dimension.value(float(u))) for u in units]
        mark = "o-" if isinstance(dimension, Listed) else "-"
        axes.plot(x, curves.mean(1), mark)
        axes.fill_between(x, curves.min(1), curves.max(1), alpha=0.2)
        self._label(axes, name)
        axes.set_title(f"{name} alone, the rest as in the best {len(others)} trials", fontsize=10, parse_math=False)
        return figure

    def report(self, path: StrPath = "search.html") -> Path:
        """Write what was found as one HTML file.

        Args:
            path: of the file; an old one is replaced.
        """
        best = self.best
        summary = [
            ("folder", str(self.engine.folder)),
            ("trials", str(len(self.trials))),
            ("best", f"trial {best.number}"),
        ]
        summary += [(self.metric, number(best.value or 0.0))] + [(n, plain(v)) for n, v in best.point.items()]
        shares = sorted(self._importances().items(), key=lambda s: -s[1])
        advice = "".join(f"<li>{html.escape(line)}</li>" for line in self.advice())
        parts = [
            section("The best", [pairs(summary)]),
            section("What to do next", [f"<ul>{advice}</ul>"] if advice else []),
            section("Values over each dimension", [drawing(self.plot_axes(), "every trial; the star is the best")]),
            section("What matters", [pairs([(n, f"{100 * s:.0f} %") for n, s in shares])] if shares else []),
            section("Trials", [frame(self.table().sort_values(self.metric, ascending=self._sign < 0))]),
        ]
        with atomic_write(path) as temporary:
            temporary.write_text(whole_page(f"Search of {len(self.trials)} trials", parts, 110), encoding="utf-8")
        return Path(path)

    def __repr__(self) -> str:
        if not self.ranked:
            return f"Found({len(self.trials)} trials, none with a value)"
        point = ", ".join(f"{n}={plain(v)}" for n, v in self.best.point.items())
        return f"Found({len(self.trials)} trials, best {self.metric} {number(self.best.value or 0.0)}: {point})"
