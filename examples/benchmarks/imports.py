"""What `import easylearn` costs over `import torch`: whole processes, in turn.

python examples/benchmarks/imports.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = ["import torch", "import easylearn", "from easylearn import *", "import torch, torchvision"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one repeat, to see that it runs")
    chosen = parser.parse_args()
    took: dict[str, list[float]] = {s: [] for s in STATEMENTS}
    for repeat in range((0 if chosen.quick else chosen.repeats) + 1):
        for statement in STATEMENTS:
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            if repeat or chosen.quick:  # the first round fills the file cache
                took[statement].append(time.perf_counter() - begun)
    base = statistics.median(took["import torch"])
    for statement, values in took.items():
        middle = statistics.median(values)
        print(f"{statement:28s} {middle:5.2f} s [{min(values):.2f}, {max(values):.2f}]  {middle / base:.2f}")


if __name__ == "__main__":
    main()
