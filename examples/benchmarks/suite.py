"""easylearn beside a hand-written loop, fastai, Lightning and skorch: one command, one table.

    python examples/benchmarks/suite.py                               # everything
    python examples/benchmarks/suite.py --tasks loop table            # some of it
    python examples/benchmarks/suite.py --impl plain easylearn        # without the others
    python examples/benchmarks/suite.py --against ../first --json out.json  # and another checkout of easylearn

Each implementation has a process of its own, since some change torch when they are imported. The processes stay alive;
in each of many short rounds every one is asked for one repeat, in another order each time, while the others sleep. What
is compared is the ratio within a round: what slows the machine down for longer than a round cancels out. Given is the
median of the ratios over all rounds with an interval of 95 % that assumes nothing of their distribution.

"plain" is what one would write by hand, "best" the quickest known variant of it: fused AdamW, channels_last, one
affine per image, and so on. "before" is the easylearn of `--against`, in the same rounds; a row is worse than that if
its whole interval is, and such a row is measured for as many rounds again before that is said.

The peers are `pip install fastai lightning skorch`; one that is not there is left out, and said so. A guard waits while
others use the machine and does a disturbed round again; with psutil installed it works on every system, without it on
Linux. On a machine that is never quiet, `--cpu` counts the processor time of one thread.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from suite_tasks.guard import Guard
from suite_tasks.photos import make_photos
from suite_tasks.report import against_table, figures_table, machine, ratios_table, summary, versions, worse
from suite_tasks.rows import IMPLEMENTATIONS, NEED_PHOTOS, ONE_THREAD, PARTS, PEERS
from suite_tasks.settings import Settings
from suite_tasks.workers import Part, Round, work

SCRIPT = Path(__file__).resolve()
HERE = SCRIPT.parents[2]
PHOTOS = 640


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--impl", nargs="+", choices=IMPLEMENTATIONS, default=list(IMPLEMENTATIONS))
    parser.add_argument("--rounds", type=int, default=21, help="short rounds of each task; at least 15 say something")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout of easylearn, measured as well")
    parser.add_argument("--threads", type=int, default=2, help="of torch; one is used for the tiny network")
    parser.add_argument("--cpu", action="store_true", help="count the processor time of one thread, not wall time")
    parser.add_argument("--photos", type=Path, help="a folder of class folders; made up if not given")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--no-guard", action="store_true", help="measure also while others use the machine")
    parser.add_argument("--quick", action="store_true", help="one short round of each, to see that it runs")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.against is not None and not (chosen.against / "easylearn" / "__init__.py").is_file():
        parser.error(f"--against {chosen.against}: there is no easylearn/__init__.py; give the folder of a checkout")
    if chosen.cpu and sys.platform == "win32":
        parser.error("--cpu: Windows does not tell the processor time of processes that have ended")
    return chosen


def checkouts(chosen: argparse.Namespace) -> dict[str, Path]:
    """The implementations that are there, each with the folder whose easylearn it imports."""
    wanted: dict[str, Path] = {}
    for name in chosen.impl:
        if name in PEERS and importlib.util.find_spec(PEERS[name]) is None:
            print(f"{name} is not installed and left out: pip install {PEERS[name]}", file=sys.stderr)
        else:
            wanted[name] = HERE
    if chosen.against is not None:
        wanted["before"] = chosen.against.resolve()
    return wanted


def measure(
    part: str, folders: Mapping[str, Path], settings: Settings, rounds: int, guard: Guard
) -> tuple[list[Round], dict[str, str]]:
    """All rounds of one part, and what went wrong."""

    def more(made: Sequence[Round]) -> bool:
        if len(made) < rounds or settings.quick:
            return len(made) < rounds
        return len(made) < 2 * rounds and bool(worse(part, made))

    running = Part(SCRIPT, part, folders, settings, guard)
    try:
        running.run(warm_up=0 if settings.quick else 1, more=more)
    finally:
        running.end()
    for name, home in running.homes.items():
        if name in ("easylearn", "before") and not Path(home).is_relative_to(folders[name]):
            running.errors[name] = f"easylearn was imported from {home} instead of {folders[name]}"
    return running.rounds, running.errors


def main() -> int:
    chosen = arguments()
    if chosen.worker:
        work(*chosen.worker)
        return 0
    folders = checkouts(chosen)
    scratch = Path(tempfile.mkdtemp(prefix="easylearn-suite-"))
    guard = Guard(on=not (chosen.no_guard or chosen.quick or chosen.cpu))
    runs: dict[str, list[Round]] = {}
    errors: dict[str, dict[str, str]] = {}
    begun = time.perf_counter()
    try:
        photos = chosen.photos or scratch
        if chosen.photos is None and set(chosen.tasks) & set(NEED_PHOTOS):
            photos = make_photos(200 if chosen.quick else PHOTOS)
        threads = 1 if chosen.quick or chosen.cpu else chosen.threads
        settings = Settings(chosen.quick, chosen.cpu, threads, photos, scratch)
        for part in (part for task in chosen.tasks for part in PARTS[task]):
            own = replace(settings, threads=1) if part in ONE_THREAD else settings
            runs[part], errors[part] = measure(part, folders, own, 1 if chosen.quick else chosen.rounds, guard)
            print(f"{part}: {time.perf_counter() - begun:.0f} s since the start", file=sys.stderr)
            for name, error in errors[part].items():
                print(f"{part}, {name}: {error}", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return tell(chosen, folders, guard, runs, {part: e for part, e in errors.items() if e}, threads)


def tell(
    chosen: argparse.Namespace,
    folders: Mapping[str, Path],
    guard: Guard,
    runs: Mapping[str, list[Round]],
    errors: Mapping[str, Mapping[str, str]],
    threads: int,
) -> int:
    """Print the tables, write the JSON; 1 if something failed or got worse."""
    behind = [title for part, rounds in runs.items() for title in worse(part, rounds)] if not chosen.quick else []
    facts = {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "examples/benchmarks/suite.py", *sys.argv[1:]]),
        "commits": {name: commit(folders[name]) for name in ("easylearn", "before") if name in folders},
        "machine": machine(),
        "versions": versions(),
        "threads": threads,
        "time": "processor time" if chosen.cpu else "wall time",
        "guard": {
            "on": guard.on,
            "waited_seconds": round(guard.waited, 1),
            "redone": guard.redone,
            "median_load_of_others": statistics.median(guard.loads) if guard.on and guard.loads else None,
            "most_load_of_others": max(guard.loads) if guard.on and guard.loads else None,
        },
    }
    if chosen.json:
        kept = {**facts, "rows": summary(runs), "worse": behind, "rounds": runs, "errors": errors}
        chosen.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    print(f"{facts['date']}, {facts['machine']}, {facts['versions']}")
    print(f"{facts['command']}; {facts['commits']}; {facts['time']}; guard {facts['guard']}\n")
    if chosen.quick:
        print("A quick run shows that everything runs; its figures say nothing.\n")
    print(ratios_table(runs, list(folders), judge=not chosen.quick))
    if chosen.against is not None:
        print(f"\n{against_table(runs, judge=not chosen.quick)}\n")
        print(f"Worse than {chosen.against}: {'; '.join(behind) or 'no row'}.")
    print(f"\n{figures_table(runs)}")
    return 1 if errors or behind else 0


def commit(folder: Path) -> str | None:
    """What is checked out there, "+" where files differ from it; None where git does not know."""
    try:
        told = ("describe", "--always", "--dirty=+", "--exclude=*")
        done = subprocess.run(["git", "-C", str(folder), *told], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
