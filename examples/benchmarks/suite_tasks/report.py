"""The tables in Markdown, and what the JSON says of machine and versions."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .intervals import Interval, median_interval
from .rows import IMPLEMENTATIONS, OURS, ROWS, Row
from .workers import Round

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "Pillow", "fastai", "lightning", "skorch")
DASH = "-"
VERDICTS = {"good": "better", "bad": "**worse**", "open": "no difference seen"}
AIM_MET = {"good": "yes", "bad": "**no**", "open": "perhaps"}
Runs = Mapping[str, Sequence[Round]]
Figure = tuple[str, str]
"""An implementation and the name of one of its figures."""


def values(rounds: Sequence[Round], implementation: str, figure: str) -> list[float]:
    """A figure of an implementation, one number for each round that gave it."""
    found = (made.get(implementation, {}).get(figure, float("nan")) for made in rounds)
    return [value for value in found if value == value]


def paired(rounds: Sequence[Round], above: Figure, below: Figure) -> Interval | None:
    """The median ratio of two figures within a round, with its interval; None where no round gave both."""
    ratios = []
    for made in rounds:
        both = [values([made], *figure) for figure in (above, below)]
        if all(both) and both[1][0]:
            ratios.append(both[0][0] / both[1][0])
    return median_interval(ratios) if ratios else None


def base_of(row: Row) -> Figure:
    """What counts as 1 in a row."""
    return row.base, row.base_figure or row.figure


def against(row: Row, rounds: Sequence[Round]) -> Interval | None:
    """easylearn over the easylearn that it is held against, in rounds of the row's part."""
    figure = row.figures_of("easylearn")[0][0]
    return paired(rounds, ("easylearn", figure), ("before", figure))


def worse(part: str, rounds: Sequence[Round]) -> list[str]:
    """The rows of a part whose whole interval is worse than what easylearn is held against."""
    rows = [(row, against(row, rounds)) for row in ROWS if row.part == part]
    return [row.title for row, found in rows if found is not None and row.side(found, 1.0) == "bad"]


def ratios_table(runs: Runs, implementations: Sequence[str], judge: bool) -> str:
    """One line per row: ratios to its base, ours, the aim, and whether it is met if somebody is to `judge`."""
    names = [name for name in IMPLEMENTATIONS if name in implementations and name != "easylearn"] + ["easylearn"]
    lines = [["task", *names, "aim", "met"]]
    for row in ROWS:
        rounds = runs.get(row.part, ())
        if not any(values(rounds, name, figure) for name in names for figure, _ in row.figures_of(name)):
            continue
        reached = paired(rounds, ("easylearn", row.figures_of("easylearn")[0][0]), base_of(row))
        aim = DASH if row.aim is None else f"{'at least' if row.more_is_better else 'at most'} {row.aim:g}"
        met = DASH if row.aim is None or reached is None or not judge else AIM_MET[row.side(reached, row.aim)]
        lines.append([row.title, *(_cell(rounds, row, name) for name in names), aim, met])
    return _markdown(lines)


def against_table(runs: Runs, judge: bool) -> str:
    """One line per row: easylearn beside the one that it is held against."""
    lines = [["task", "before", "now", "now / before", ""]]
    for row in ROWS:
        rounds = runs.get(row.part, ())
        found = against(row, rounds)
        if found is None:
            continue
        figure = row.figures_of("easylearn")[0][0]
        middles = [statistics.median(values(rounds, name, figure)) for name in ("before", "easylearn")]
        cells = [f"{middle:,.4g} {row.unit}" for middle in middles]
        lines.append([row.title, *cells, _written(found), VERDICTS[row.side(found, 1.0)] if judge else DASH])
    return _markdown(lines)


def _cell(rounds: Sequence[Round], row: Row, name: str) -> str:
    written = []
    for figure, word in row.figures_of(name):
        found = paired(rounds, (name, figure), base_of(row))
        if found is None:
            continue
        if (name, figure) == base_of(row):
            number = f"1 ({statistics.median(values(rounds, name, figure)):,.4g} {row.unit})"
        else:
            number = _written(found)
        written.append(f"{number} {word}".strip())
    return ", ".join(written) or DASH


def _written(ratio: Interval) -> str:
    digits = 2 if ratio.median < 20 else 0
    return f"{ratio.median:.{digits}f} [{ratio.low:.{digits}f}, {ratio.high:.{digits}f}]"


def figures_table(runs: Runs) -> str:
    """Every figure: its median with an interval, the least and the most."""
    lines = [["measured", "implementation", "figure", "median [interval]", "least, most", "rounds"]]
    for part, name, figure in _all_figures(runs):
        found = values(runs[part], name, figure)
        of = median_interval(found)
        middle, low, high, least, most = (f"{v:,.4g}" for v in (of.median, of.low, of.high, min(found), max(found)))
        lines.append([part, name, figure, f"{middle} [{low}, {high}]", f"{least}, {most}", str(of.n)])
    return _markdown(lines)


def summary(runs: Runs) -> list[dict[str, object]]:
    """The same for the JSON, with ratios in the rows they belong to."""
    rows: list[dict[str, object]] = []
    for row in (row for row in ROWS if row.part in runs):
        rounds = runs[row.part]
        ratios = {
            f"{name} {word}".strip(): vars(found)
            for name in IMPLEMENTATIONS
            for figure, word in row.figures_of(name)
            if (found := paired(rounds, (name, figure), base_of(row))) is not None
        }
        beside = against(row, rounds)
        rows.append(
            {
                "part": row.part,
                "title": row.title,
                "unit": row.unit,
                "base": row.base,
                "aim": row.aim,
                "more_is_better": row.more_is_better,
                "ratios": ratios,
                "against": None if beside is None else {**vars(beside), "side": row.side(beside, 1.0)},
            }
        )
    return rows


def _all_figures(runs: Runs) -> Iterator[tuple[str, str, str]]:
    for part, rounds in runs.items():
        for name in (*IMPLEMENTATIONS, *OURS.keys() - {*IMPLEMENTATIONS}):
            for figure in dict.fromkeys(figure for made in rounds for figure in made.get(name, ())):
                if values(rounds, name, figure):
                    yield part, name, figure


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    written = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in written)


def machine() -> dict[str, object]:
    """Processor, cores, memory and system, as far as they can be had without asking anybody."""
    model = platform.processor() or platform.machine()
    memory = None
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]  # fmt: skip
        model = names[0] if names else model
    if Path("/proc/meminfo").exists():
        memory = round(int(Path("/proc/meminfo").read_text().split()[1]) / 2**20, 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": model, "cores": cores, "memory_gib": memory, "system": platform.platform()}


def versions() -> dict[str, str]:
    """Of Python and of the packages that are there."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
