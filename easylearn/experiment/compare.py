"""compare: many runs beside each other, as a table, curves, differences of two, a workbook and a page."""

from __future__ import annotations

import html
import math
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis.page import Piece, drawing, frame, number, plain, section, table, whole_page
from ..analysis.plots import new_figure
from ..errors import ArgumentError, DataError, EasyLearnError, did_you_mean, short
from ..files import StrPath, atomic_write
from .describe import flat
from .leases import started
from .lines import Row, read_lines
from .track import EPOCHS, INFO, LAYERS, STEPS, read_info

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAMED = 10  # curves that get a colour and a name; of more runs, the best ones
MOST_ROWS = 200  # of the table on a page
_IN_EPOCHS = ("fit", "step", "epoch")


@dataclass(frozen=True)
class TrackedRun:
    """One run as `Track` wrote it.

    Args:
        name: its folder's, as short as tells it from the others.
        folder: where it is.
        info: what `run.json` says: arguments, facts, versions, code, and each fit.
        epochs: a row for each epoch of all fits: fit, step, epoch, losses, metrics, rate, seconds.
    """

    name: str
    folder: Path
    info: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]

    @property
    def steps(self) -> list[Row]:
        """A row for each step of all fits, read anew: fit, step, epoch, loss, momentum, rates."""
        return [row for _, row in read_lines(self.folder / STEPS)]

    @property
    def status(self) -> str:
        """How it stands: running, done, stopped by a reason, failed by an error, or killed: its process is gone."""
        last = self.info["fits"][-1] if self.info["fits"] else {}
        if "status" in last:
            return str(last["status"])
        process, host = last.get("process", (0, ""))
        return "killed" if host == socket.gethostname() and started(process) is None else "running"

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Everything that was chosen, flat: arguments= of Track, the last fit's, and what was otherwise before it."""
        *before, last = [flat(fit["arguments"]) for fit in self.info["fits"]] or [{}]
        earlier = {
            f"fit {i}: {name}": value
            for i, fit in enumerate(before, 1)
            for name, value in fit.items()
            if value != last.get(name)
        }
        return {**flat(self.info["arguments"]), **last, **earlier}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the last fit rested on, flat: data, task, model."""
        last = self.info["fits"][-1] if self.info["fits"] else {}
        return flat(last.get("facts", self.info["facts"]))

    def best(self, metric: str) -> float:
        """The best value of a `metric` over the epochs; NaN where it has none."""
        values = [float(row[metric]) for row in self.epochs if metric in row]
        values = [v for v in values if not math.isnan(v)]
        if not values:
            return math.nan
        return max(values) if self.info["directions"].get(metric) else min(values)


def compare(runs: StrPath | Iterable[StrPath] = "runs/*") -> Runs:
    """Read what `Track` wrote of many runs.

    Args:
        runs: folders, as a pattern such as "runs/*" or as a list; a folder without a run is looked into.

    Returns:
        The runs in the order of their beginning; printing it gives their table.

    Raises:
        DataError: there is no run.
    """
    given = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    found: dict[Path, None] = {}
    for one in given:
        pattern = str(one)
        places = [Path(pattern)] if Path(pattern).is_dir() else map(Path, sorted(glob(pattern)))
        for place in places:
            inside = [place] if (place / INFO).is_file() else sorted(f.parent for f in place.glob(f"*/{INFO}"))
            found |= dict.fromkeys(inside)
    if not found:
        raise DataError(
            f"there is no run in {', '.join(map(str, given[:8]))}: fit with callbacks=[Track(folder)] writes "
            f"one, whose folder has a file {INFO}"
        )
    return Runs(list(found))


class Runs:
    """Runs side by side: a sequence of `TrackedRun`, by position or by name.

    Args:
        folders: of the runs.

    Attributes:
        unreadable: why folders were left out, by their names.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.unreadable: dict[str, str] = {}
        self._runs: list[TrackedRun] = []
        for folder, name in zip(folders, _names(folders), strict=True):
            try:
                info = read_info(folder)
                rows = [row for _, row in read_lines(folder / EPOCHS)]
            except (EasyLearnError, OSError) as error:
                self.unreadable[name] = str(error)
                continue
            if info is not None:
                self._runs.append(TrackedRun(name, folder, info, rows))
        if not self._runs:
            raise DataError("no run can be read: " + "; ".join(self.unreadable.values()))
        self._runs.sort(key=lambda run: str(run.info["fits"][0]["begun"]) if run.info["fits"] else "")

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[TrackedRun]:
        return iter(self._runs)

    def __getitem__(self, key: int | str) -> TrackedRun:
        """The run at a position, or of a name."""
        if isinstance(key, int):
            return self._runs[key]
        named = {run.name: run for run in self._runs}
        if key not in named:
            raise ArgumentError(f"there is no run {key!r}. {did_you_mean(str(key), named)}")
        return named[key]

    def __repr__(self) -> str:
        return str(self.table().to_string(max_colwidth=40, max_rows=60))

    def _repr_html_(self) -> str:
        shown = self.table()
        return str(shown.to_html(max_rows=MOST_ROWS))

    @cached_property
    def metric(self) -> str:
        """What runs are ranked by: the first metric with a direction that most of them have, else a loss."""
        order = dict.fromkeys(name for run in self._runs for name in run.info["directions"])
        had = {name: sum(name in row for run in self._runs for row in run.epochs[-1:]) for name in order}
        return max(order, key=lambda name: (had[name] * 2 > len(self._runs), had[name] > 0))  # type: ignore[no-any-return]

    def ranked(self, metric: str | None = None) -> list[TrackedRun]:
        """The runs, the best one first; those without a value of the metric last.

        Args:
            metric: a column of the record that has a direction; None takes `metric` of the runs.
        """
        name = self._known(self.metric if metric is None else metric)
        sign = -1.0 if any(run.info["directions"].get(name) for run in self._runs) else 1.0
        values = {run.name: sign * run.best(name) for run in self._runs}
        return sorted(self._runs, key=lambda run: (math.isnan(values[run.name]), values[run.name]))

    def _known(self, column: str) -> str:
        columns = dict.fromkeys(n for run in self._runs for row in run.epochs for n in row if n not in _IN_EPOCHS)
        if column not in columns:
            raise ArgumentError(f"no run has {column!r}. {did_you_mean(str(column), columns)}")
        return column

    def table(self, sort: str | None = None, full: bool = False) -> pd.DataFrame:
        """A row for each run: how it ended, its last metrics, the best of each, and what was chosen otherwise.

        Args:
            sort: a metric, the best value first; None leaves the runs in the order of their beginning.
            full: show also the arguments, facts and versions that all runs share.
        """
        import pandas as pd

        runs = self.ranked(sort) if sort is not None else self._runs
        chosen = [run.arguments for run in runs]
        others = [{**run.facts, **flat(run.info["versions"], "versions.")} for run in runs]
        kept = (lambda rows: dict.fromkeys(k for r in rows for k in r)) if full else _differing
        columns = {**kept(chosen), **{n: None for n in kept(others) if full or not n.startswith("versions.")}}
        told = {name for run in runs for name in _results(run)}  # an argument may be called like a result
        rows = [
            {**_results(run), **{f"argument {n}" if n in told else n: known[n] for n in columns if n in known}}
            for run, known in zip(runs, ({**o, **c} for o, c in zip(others, chosen, strict=True)), strict=True)
        ]
        return pd.DataFrame(rows, index=pd.Index([run.name for run in runs], name="run"))  # type: ignore[no-any-return]

    def differences(self, first: int | str, second: int | str) -> pd.DataFrame:
        """What two runs do not share: arguments, facts, layers, versions, code, and how they went.

        Args:
            first, second: positions or names.

        Returns:
            A row for each difference, with both values; what one run lacks is empty there.
        """
        import pandas as pd

        for key in (first, second):
            if isinstance(key, int) and not -len(self) <= key < len(self):
                raise ArgumentError(f"there is no run {key}: the {len(self)} runs are numbered from 0")
        a, b = self[first], self[second]
        rows = [(what, *pair) for what, pair in _differences(a, b).items()]
        columns = ["what", a.name, b.name if b.name != a.name else f"{b.name} "]
        return pd.DataFrame(rows, columns=columns).set_index("what")  # type: ignore[no-any-return]

    def plot(self, metric: str | None = None) -> Figure:
        """Curves over each other: of a column of the epochs, or the "loss" of the steps.

        Args:
            metric: such as "valid_loss"; None takes what runs are ranked by.
        """
        by_steps = metric == "loss"
        name = "train_loss" if by_steps else self._known(self.metric if metric is None else metric)
        figure = new_figure(7.2, 4.4)
        axes = figure.add_subplot()
        best = [run.name for run in self.ranked()[:NAMED]]  # the same colours in each drawing
        points = {run.name: _steps_of(run) if by_steps else _epochs_of(run, name) for run in self._runs}
        grey = [(x, y) for run, (x, y) in points.items() if run not in best]
        if grey:  # as one line with gaps, which a thousand runs need
            gap = [math.nan]
            gaps = [[v for points in axis for v in points + gap] for axis in zip(*grey, strict=True)]
            axes.plot(*gaps, color="0.8", linewidth=0.7)
        for run in best:
            x, y = points[run]
            axes.plot(x, y, linewidth=1.4, marker="o" if len(x) < 2 else "", label=short(run, 30))
        axes.set(xlabel="step" if by_steps else "epoch", ylabel="loss" if by_steps else name.replace("_", " "))
        if not by_steps:
            axes.locator_params(axis="x", integer=True)
        legend = axes.legend(fontsize=8, title=f"best {NAMED} of {len(self)}" if len(self) > NAMED else None)
        for text in legend.get_texts():
            text.set_parse_math(False)
        axes.grid(alpha=0.25)
        return figure

    def to_excel(self, path: StrPath) -> Path:
        """Write a workbook: the runs in full, and the epochs of all of them. It needs openpyxl.

        Args:
            path: of the file, whose name ends in .xlsx; an old one is replaced.
        """
        import pandas as pd

        target = _named(path, ".xlsx", "a workbook")
        try:
            import openpyxl  # noqa: F401 - asked for here, for a message that says what to do
        except ImportError as error:
            raise ArgumentError('a workbook needs openpyxl: pip install "easylearn[track]"') from error
        epochs = [{"run": run.name, **row} for run in self._runs for row in run.epochs]
        with atomic_write(target) as temporary, open(temporary, "wb") as file:
            with pd.ExcelWriter(file, engine="openpyxl") as book:
                _for_excel(self.table(full=True).reset_index()).to_excel(book, sheet_name="runs", index=False)
                _for_excel(pd.DataFrame(epochs)).to_excel(book, sheet_name="epochs", index=False)
                for cells in (row for sheet in book.sheets.values() for row in sheet.iter_rows()):
                    for cell in cells:
                        if isinstance(cell.value, str) and cell.data_type == "f":
                            cell.data_type = "s"  # a name such as "=1+1" is a text, and no formula
        return target

    def report(self, path: StrPath = "runs.html") -> Path:
        """Write one HTML page that loads nothing: the table, curves, and what differs.

        Args:
            path: of the file; an old one is replaced.
        """
        target = _named(path, ".html", "a report")
        ranked = self.ranked()
        shown = self.table(sort=self.metric).head(MOST_ROWS)
        last = ["status", "epochs", "seconds", "begun"]
        shown = shown[[*(c for c in shown.columns if shown[c].notna().any() and c not in last), *last]]
        rows = [[name, *map(_cell, row)] for name, row in zip(shown.index, shown.itertuples(index=False), strict=True)]
        right = [str(c) for c in shown.columns if shown[c].dtype.kind in "if"]
        runs = table(
            ["run", *(str(c).replace("_", " ") for c in shown.columns)], rows, [r.replace("_", " ") for r in right]
        )
        more = [f"<p>The best {MOST_ROWS} of {len(self)} runs:</p>"] if len(self) > MOST_ROWS else []
        metrics = [m for m in dict.fromkeys([self.metric, "valid_loss", "train_loss"]) if self._has(m)]
        curves: list[Piece] = [drawing(self.plot(m), f"{m.replace('_', ' ')}, by epoch") for m in metrics]
        two: list[Piece] = []
        if len(ranked) > 1:
            one, other = ranked[:2]
            what = self.differences(one.name, other.name).map(_cell)
            two = [f"<p>{html.escape(one.name)} and {html.escape(other.name)}, the two best:</p>", frame(what, "what")]
        parts = [
            self._head(ranked[0]),
            section("Best first", [*more, runs]),
            section("Curves", ['<div class="figures">', *curves, "</div>"] if curves else []),
            section("What differs", two),
            section("Left out", [f"<p>{html.escape(why)}</p>" for why in self.unreadable.values()]),
        ]
        with atomic_write(target) as temporary:
            temporary.write_text(whole_page(f"{len(self)} runs", parts, 90), encoding="utf-8")
        return target

    def _has(self, column: str) -> bool:
        return any(column in row for run in self._runs for row in run.epochs)

    def _head(self, best: TrackedRun) -> list[Piece]:
        counts: dict[str, int] = {}
        for run in self._runs:
            counts[run.status] = counts.get(run.status, 0) + 1
        states = ", ".join(f"{n} {status}" for status, n in counts.items())
        cards = [("runs", str(len(self))), ("best " + self.metric.replace("_", " "), number(best.best(self.metric)))]
        boxes = "".join(f"<div><b>{html.escape(v)}</b><span>{html.escape(n)}</span></div>" for n, v in cards)
        line = f"{states}. The best by {self.metric.replace('_', ' ')} is {best.name}."
        return [f'<header><h1>Runs</h1><p>{html.escape(line)}</p><div class="cards">{boxes}</div></header>']


def _names(folders: Sequence[Path]) -> list[str]:
    """The name of each folder, with those above it where two are called alike."""
    last = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({parts[-depth:] for parts in last}) < len(set(last)):
        depth += 1
    return ["/".join(parts[-depth:]) for parts in last]


def _results(run: TrackedRun) -> dict[str, Any]:
    """How a run went: the first columns of the table."""
    fits, last = run.info["fits"], run.epochs[-1] if run.epochs else {}
    found: dict[str, Any] = {
        "begun": str(fits[0]["begun"])[:16].replace("T", " ") if fits else "",
        "status": run.status,
        "epochs": len(run.epochs),
        "seconds": sum(float(row["seconds"]) for row in run.epochs if "seconds" in row),
    }
    found |= {n: float(v) for n, v in last.items() if n not in (*_IN_EPOCHS, "rate", "seconds")}
    found |= {f"best {n}": run.best(n) for n in run.info["directions"] if n in last and n != "train_loss"}
    return found if len(fits) < 2 else {**found, "fits": len(fits)}


def _differing(rows: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    """The keys that do not have one value in all rows."""
    keys = dict.fromkeys(key for row in rows for key in row)
    first = rows[0] if rows else {}
    return {k: None for k in keys if any(k not in row or row[k] != first.get(k) for row in rows)}


def _differences(a: TrackedRun, b: TrackedRun) -> dict[str, tuple[Any, Any]]:
    """What differs between two runs, by what it is called, and where their losses part."""

    def all_of(run: TrackedRun) -> dict[str, Any]:
        code = run.info["code"] or {}
        told = {n: run.info[n] for n in ("versions", "machine", "code") if run.info[n]} | {"layers": _layers(run)}
        told |= {"code": {**code, "untracked": list(code.get("untracked", {}))}} if code else {}
        return {**run.arguments, **run.facts, **flat(told)}

    ours, theirs = all_of(a), all_of(b)
    found = {k: (ours.get(k), theirs.get(k)) for k in {**ours, **theirs} if ours.get(k) != theirs.get(k)}
    losses = [[row["loss"] for row in run.steps] for run in (a, b)]
    parted = next((i for i, (x, y) in enumerate(zip_longest(*losses)) if x != y), None)
    if parted is not None:
        one, other = (of[parted] if parted < len(of) else None for of in losses)
        found[f"loss, the same up to step {parted}, then"] = one, other
    results = [_results(run) for run in (a, b)]
    for name in {**results[0], **results[1]}:
        if name not in ("begun", "seconds") and results[0].get(name) != results[1].get(name):
            found[name] = results[0].get(name), results[1].get(name)
    return found


def _layers(run: TrackedRun) -> dict[str, Any]:
    import json

    try:
        layers: dict[str, Any] = json.loads((run.folder / LAYERS).read_bytes())
    except (OSError, ValueError):
        return {}
    return layers


def _epochs_of(run: TrackedRun, name: str) -> tuple[list[float], list[float]]:
    """A column over the epochs of all fits, counted from 1."""
    points = [(i, float(row[name])) for i, row in enumerate(run.epochs, 1) if name in row]
    return [x for x, _ in points], [y for _, y in points]


def _steps_of(run: TrackedRun) -> tuple[list[float], list[float]]:
    """The losses of the steps of all fits, smoothed as `learn.sched.plot_losses` is not: a mean of neighbours."""
    losses = [float(row["loss"]) for row in run.steps]
    width = max(1, len(losses) // 200)
    means = [sum(losses[i : i + width]) / len(losses[i : i + width]) for i in range(0, len(losses), width)]
    return [float(min(i + width, len(losses))) for i in range(0, len(losses), width)], means


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return short(plain(value), 90)


def _named(path: StrPath, ending: str, what: str) -> Path:
    if not str(path).lower().endswith(ending):
        raise ArgumentError(f"{what} is a file whose name ends in {ending}, got {str(path)!r}")
    return Path(path)


def _for_excel(table: pd.DataFrame) -> pd.DataFrame:
    """The table with texts as a workbook can hold them, and without infinities."""

    def fitting(value: Any) -> Any:
        if isinstance(value, float) and math.isinf(value):
            return str(value)
        kept = "".join(c for c in value if c >= " " or c in "\t\n") if isinstance(value, str) else value
        return short(kept, 32_000) if isinstance(kept, str) else kept

    return table.map(fitting)  # type: ignore[no-any-return]
