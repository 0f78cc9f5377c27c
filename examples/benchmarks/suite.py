"""easylearn beside a hand-written loop, fastai, Lightning and skorch: one command, one table.

    python examples/benchmarks/suite.py                       # everything
    python examples/benchmarks/suite.py --tasks loop table    # some of it
    python examples/benchmarks/suite.py --json out.json       # keeps every single figure

The peers are `pip install fastai lightning skorch`; one that is not there is left out, and said so. Each implementation
has a process of its own, since some change torch when they are imported. Each is asked for one repeat in turn, and the
first round does not count. A guard waits while others use the machine and does a disturbed repeat again; with psutil
installed it works on every system, without it on Linux.

"plain" is what one would write by hand, "best" the quickest known variant of it: fused AdamW, channels_last, one affine
per picture, and so on. Ratios are medians over plain's in the same run; their aims are those of the project.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from suite_tasks.guard import Guard
from suite_tasks.photos import make_photos
from suite_tasks.report import figures_table, machine, ratios_table, summary, versions
from suite_tasks.rows import IMPLEMENTATIONS, NEED_PHOTOS, PARTS, PEERS
from suite_tasks.settings import Settings
from suite_tasks.workers import Runs, measure, work


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--impl", nargs="+", choices=IMPLEMENTATIONS, default=list(IMPLEMENTATIONS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--photos", type=Path, help="a folder of class folders; made up if not given")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--no-guard", action="store_true", help="measure also while others use the machine")
    parser.add_argument("--quick", action="store_true", help="one short repeat of each, to see that it runs")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    if chosen.worker:
        work(*chosen.worker)
        return 0
    there = [name for name in chosen.impl if name not in PEERS or importlib.util.find_spec(PEERS[name])]
    for name in chosen.impl:
        if name not in there:
            print(f"{name} is not installed and left out: pip install {PEERS[name]}", file=sys.stderr)
    scratch = Path(tempfile.mkdtemp(prefix="easylearn-suite-"))
    threads = 1 if chosen.quick else chosen.threads
    begun = time.perf_counter()
    guard = Guard(on=not (chosen.no_guard or chosen.quick))
    runs: dict[str, Runs] = {}
    errors: dict[str, dict[str, str]] = {}
    try:
        photos = chosen.photos or scratch
        if chosen.photos is None and set(chosen.tasks) & set(NEED_PHOTOS):
            photos = make_photos(200 if chosen.quick else 2000)
        settings = Settings(chosen.quick, threads, photos, scratch)
        for part in (part for task in chosen.tasks for part in PARTS[task]):
            repeats = 1 if chosen.quick else chosen.repeats
            runs[part], errors[part] = measure(Path(__file__).resolve(), part, there, settings, repeats, guard)
            print(f"{part}: {time.perf_counter() - begun:.0f} s since the start", file=sys.stderr)
            for name, error in errors[part].items():
                print(f"{part}, {name}: {error}", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    facts = {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "examples/benchmarks/suite.py", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "threads": threads,
        "guard": {
            "on": guard.on,
            "waited_seconds": round(guard.waited, 1),
            "redone": guard.redone,
            "median_load_of_others": statistics.median(guard.loads) if guard.loads else None,
            "most_load_of_others": max(guard.loads, default=None),
        },
    }
    if chosen.json:
        kept = {**facts, "rows": summary(runs), "figures": runs, "errors": {p: e for p, e in errors.items() if e}}
        chosen.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    print(f"{facts['date']}, {facts['machine']}, {facts['versions']}")
    print(f"{facts['command']}; guard {facts['guard']}\n")
    if chosen.quick:
        print("A quick run shows that everything runs; its figures say nothing.\n")
    print(ratios_table(runs, there, judge=not chosen.quick), figures_table(runs), sep="\n\n")
    return 1 if any(errors.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
