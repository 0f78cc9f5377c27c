"""The tables in Markdown, and what the JSON says of machine and versions."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .rows import IMPLEMENTATIONS, ROWS, Row
from .workers import Runs

PACKAGES = ("easylearn", "torch", "torchvision", "numpy", "pandas", "Pillow", "fastai", "lightning", "skorch")
DASH = "-"


def values(runs: Mapping[str, Runs], part: str, implementation: str, figure: str) -> list[float]:
    """A figure of an implementation, one number for each repeat that gave it."""
    return [f[figure] for f in runs.get(part, {}).get(implementation, []) if figure in f and f[figure] == f[figure]]


def ratio(runs: Mapping[str, Runs], row: Row, implementation: str, figure: str) -> float | None:
    """Median over the median of the row's base; None where one of them was not measured."""
    own = values(runs, row.part, implementation, figure)
    base = values(runs, row.part, row.base, row.base_figure or row.figure)
    if not own or not base or not statistics.median(base):
        return None
    return statistics.median(own) / statistics.median(base)


def ratios_table(runs: Mapping[str, Runs], implementations: Sequence[str], judge: bool) -> str:
    """One line per row: ratios to its base, ours, the aim, and whether it is met if somebody is to `judge`."""
    others = [name for name in IMPLEMENTATIONS if name in implementations and name != "easylearn"]
    lines = [["task", *others, "easylearn", "aim", "met"]]
    for row in ROWS:
        if not any(values(runs, row.part, name, f) for name in IMPLEMENTATIONS for f, _ in row.figures_of(name)):
            continue
        cells = [_cell(runs, row, name) for name in (*others, "easylearn")]
        reached = ratio(runs, row, "easylearn", row.figures_of("easylearn")[0][0])
        aim = DASH if row.aim is None else f"{'at least' if row.more_is_better else 'at most'} {row.aim:g}"
        met = DASH if row.aim is None or reached is None or not judge else "yes" if row.met(reached) else "**no**"
        lines.append([row.title, *cells, aim, met])
    return _markdown(lines)


def _cell(runs: Mapping[str, Runs], row: Row, name: str) -> str:
    written = []
    for figure, word in row.figures_of(name):
        found = ratio(runs, row, name, figure)
        if found is None:
            continue
        is_base = name == row.base and figure == (row.base_figure or row.figure)
        own = statistics.median(values(runs, row.part, name, figure))
        number = f"1 ({own:,.4g} {row.unit})" if is_base else f"{found:.2f}" if found < 20 else f"{found:.0f}"
        written.append(f"{number} {word}".strip())
    return ", ".join(written) or DASH


def figures_table(runs: Mapping[str, Runs]) -> str:
    """Every figure: median [least, most] over its repeats."""
    lines = [["measured", "implementation", "figure", "median [least, most]", "repeats"]]
    for part, name, figure in _all_figures(runs):
        found = values(runs, part, name, figure)
        middle, low, high = (f"{v:,.4g}" for v in (statistics.median(found), min(found), max(found)))
        lines.append([part, name, figure, f"{middle} [{low}, {high}]", str(len(found))])
    return _markdown(lines)


def summary(runs: Mapping[str, Runs]) -> list[dict[str, object]]:
    """The same for the JSON, with ratios in the rows they belong to."""
    return [
        {
            "title": row.title,
            "unit": row.unit,
            "base": row.base,
            "aim": row.aim,
            "more_is_better": row.more_is_better,
            "ratios": {
                f"{name} {word}".strip(): found
                for name in IMPLEMENTATIONS
                for figure, word in row.figures_of(name)
                if (found := ratio(runs, row, name, figure)) is not None
            },
        }
        for row in ROWS
        if row.part in runs
    ]


def _all_figures(runs: Mapping[str, Runs]) -> Iterator[tuple[str, str, str]]:
    for part, by_name in runs.items():
        for name, repeats in by_name.items():
            for figure in dict.fromkeys(figure for figures in repeats for figure in figures):
                if values(runs, part, name, figure):
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
