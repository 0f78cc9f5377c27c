"""Text into numbers: seconds and memory for a folder of text files, beside Python's `re`.

    python examples/benchmarks/tokens.py FOLDER              # all *.txt in it and below
    python examples/benchmarks/tokens.py                     # made-up text, to see that it runs

`re` only finds words and signs and counts them; the others read, tokenise, count, make a vocabulary and write the
numbers. Each way runs in its own process. Memory is what this process and those it starts hold at most beyond what the
imports took, shared pages counted once (Linux).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WAYS = ("re", "re to numbers", "word", "word, one process", "bpe")


def run(folder: str, way: str) -> None:
    """Do the work in one way, and print how many tokens it found and the seconds it took."""
    from easylearn.texts import processing
    from easylearn.texts.sources import Documents

    texts = Documents.from_folder(folder, errors="replace")
    if way == "word, one process":
        processing.usual_workers = lambda: 0
    print("ready", flush=True)
    begun, worked = time.perf_counter(), sum(os.times()[:4])
    if way == "re":
        words = re.compile(r"\w+|[^\w\s]")
        found = sum(len(words.findall(text)) for text in texts)
    elif way == "re to numbers":
        words, number, rows = re.compile(r"\w+|[^\w\s]"), {}, []
        for text in texts:
            rows.append(np.array([number.setdefault(w, len(number)) for w in words.findall(text)], np.int32))
        found = sum(map(len, rows))
    else:
        with tempfile.TemporaryDirectory() as place:
            os.environ["EASYLEARN_CACHE"] = place
            _, store = processing.TextProcessor.fit(texts, way.split(",")[0], progress=False)
            found = store.n_tokens
    print(found, time.perf_counter() - begun, sum(os.times()[:4]) - worked, flush=True)


def held(process: int) -> float:
    """Megabytes of a process and of those it started, shared ones once, files aside; 0 where that cannot be seen."""
    total = 0.0
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        total = sum(float(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon:")) / 1024
        for task in Path(f"/proc/{process}/task").iterdir():
            total += sum(held(int(child)) for child in (task / "children").read_text(encoding="ascii").split())
    except OSError:  # ended meanwhile, or no Linux
        pass
    return total


def measure(folder: str, way: str) -> tuple[int, float, float, float]:
    """Tokens, seconds, seconds of all cores together, and megabytes of one way."""
    command = [sys.executable, __file__, folder, "--way", way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        before = most = held(child.pid)
        while child.poll() is None:
            most = max(most, held(child.pid))
            time.sleep(0.2)
        found, seconds, worked = child.stdout.read().split()
    return int(found), float(seconds), float(worked), most - before


def made_up(folder: str) -> None:
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefgh"), 5)) for _ in range(2000)]
    for i in range(20):
        text = " ".join(random.choice(words, 5000)) + ". The END!"
        (Path(folder) / f"{i}.txt").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="made-up text once, to see that it runs")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.way:
        run(chosen.folder, chosen.way)
        return
    with tempfile.TemporaryDirectory() as place:
        if chosen.quick or chosen.folder is None:
            made_up(place)
            chosen.folder, chosen.repeats = place, 1
        size = sum(f.stat().st_size for f in Path(chosen.folder).rglob("*.txt")) / 1e6
        print(f"easylearn on {size:.1f} MB of text{'':8s} tokens   seconds [least, most]       cores memory")
        measured: dict[str, list[tuple[int, float, float, float]]] = {way: [] for way in chosen.ways}
        for _ in range(chosen.repeats):
            for way, values in measured.items():
                values.append(measure(chosen.folder, way))
        for way, values in measured.items():
            tokens, seconds, worked, megabytes = zip(*values, strict=True)
            spent, memory = statistics.median(worked), statistics.median(megabytes)
            least, most = min(seconds), max(seconds)
            took = f"{statistics.median(seconds):7.2f} [{least:.2f}, {most:.2f}]"
            print(f"{way:24s} {tokens[0]:14,}   {took:24s} {spent:6.2f} {memory:6.0f} MB")


if __name__ == "__main__":
    main()
