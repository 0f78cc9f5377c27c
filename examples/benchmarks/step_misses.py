"""Instructions and cache misses of one training step, by hand and with easylearn, whatever else the machine does.

    python examples/benchmarks/step_misses.py                 # second-level cache of 1 MB, as an Intel Xeon's
    python examples/benchmarks/step_misses.py --l2 2097152

A network of 20-64-2 on ready batches of 64, one thread, under callgrind (`apt install valgrind`; Linux; some three
minutes). A step of it is so short that what it costs is mostly code and data that come out of slower memory: each
operation more brings its own, and drives out those of the others. Instructions are the same in each run, misses of the
second level vary by a tenth.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WARM_UP, MEASURED = 60, 100
KINDS: dict[str, dict[str, Any] | None] = {
    "torch's AdamW": {},
    "torch's fused AdamW": {"fused": True},
    "easylearn's AdamW": None,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--l2", type=int, default=2**20, help="bytes of the second-level cache")
    parser.add_argument("--train", nargs=2, metavar=("SIDE", "OPTIMIZER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.train:
        train(*chosen.train)
        return 0
    if shutil.which("valgrind") is None:
        print("this needs valgrind, for instance: apt install valgrind", file=sys.stderr)
        return 1
    print("| optimizer | | instructions | misses of the first level | of the second |\n| --- | --- | --- | --- | --- |")
    for optimizer in KINDS:
        for side in ("by hand", "easylearn") if KINDS[optimizer] is not None else ("easylearn",):
            counts = counted(side, optimizer, chosen.l2)
            first = counts["I1mr"] + counts["D1mr"] + counts["D1mw"]
            second = counts["ILmr"] + counts["DLmr"] + counts["DLmw"]
            print(f"| {optimizer} | {side} | {counts['Ir']:,.0f} | {first:,.0f} | {second:,.0f} |", flush=True)
    return 0


def counted(side: str, optimizer: str, l2: int) -> dict[str, float]:
    """callgrind's events of one step."""
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--cache-sim=yes", f"--LL={l2},16,64"]
        levels = [f"--{level}=32768,8,64" for level in ("I1", "D1")]
        script = [sys.executable, str(Path(__file__).resolve()), "--train", side, optimizer]
        done = subprocess.run(
            [*tool, *levels, f"--callgrind-out-file={folder}/out", *script], capture_output=True, text=True
        )
        dumped = Path(folder, "out.1")
        if not dumped.exists():
            raise SystemExit(done.stderr)
        text = dumped.read_text(encoding="utf-8", errors="replace")
    names = re.search(r"^events: (.*)$", text, re.MULTILINE)
    totals = re.search(r"^(?:totals|summary): (.*)$", text, re.MULTILINE)
    assert names and totals
    return {name: int(n) / MEASURED for name, n in zip(names[1].split(), totals[1].split(), strict=False)}


def train(side: str, optimizer: str) -> None:
    """Steps, of which the last ones are counted; it ends there."""
    import torch
    from suite_tasks.loop import network, ready
    from torch.nn import functional as F

    from easylearn import Callback, Learner, LoaderData, single_label

    torch.set_num_threads(1)
    batches, step = ready(WARM_UP + MEASURED + 30), 0
    options = KINDS[optimizer]
    make = None if options is None else lambda params, lr=1e-3: torch.optim.AdamW(params, lr=lr, **options)

    def count() -> None:
        nonlocal step
        step += 1
        switches = {20: ["-i", "on"], WARM_UP: ["-z"], WARM_UP + MEASURED: ["-d"]}.get(step)
        if switches:
            subprocess.run(["callgrind_control", *switches, str(os.getpid())], capture_output=True, check=True)
        if step == WARM_UP + MEASURED:
            os._exit(0)

    class Count(Callback):
        def on_batch_end(self, run: object) -> None:
            count()

    if side == "easylearn":
        data = LoaderData(batches, batches[:1], single_label(["no", "yes"]))
        Learner(data, network(), optimizer=make, device="cpu", callbacks=[Count()]).fit(1e-3, 1, cycle_len=None)
    assert make is not None
    model = network()
    bare = make(model.parameters())
    model.train()
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        bare.step()
        bare.zero_grad()
        count()


if __name__ == "__main__":
    sys.exit(main())
