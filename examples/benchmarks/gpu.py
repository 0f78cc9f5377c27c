"""All that a GPU should show of easylearn, in one command of at most eight minutes: one JSON, one page.

    python examples/benchmarks/gpu.py --out gpu                # gpu.json and gpu.html
    python examples/benchmarks/gpu.py --npz CIFAR.npz          # the real CIFAR-10: x_train, y_train, x_test, y_test
    python examples/benchmarks/gpu.py --dry-run                # everything in tiny sizes on the CPU

Each part runs in a process of its own with a limit of seconds, so one that fails or hangs costs no other. "waits" are
the places of a training step where the program waits for the device (torch's own detector); the loss guard looks at the
losses of twenty steps together, which is counted apart.
"""

from __future__ import annotations

import argparse
import html
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn import Callback, Learner, TensorData, single_label, vision_model

ROOT = Path(__file__).parents[2]
Result = dict[str, Any]


class Sizes:
    """How much of everything; tiny for a dry run.

    Args:
        dry: on the CPU.
    """

    def __init__(self, dry: bool) -> None:
        self.dry = dry
        self.device = torch.device("cpu" if dry else "cuda")
        self.px, self.batch_size, self.steps = (16, 4, 4) if dry else (224, 128, 40)
        self.precisions = ["fp32", "bf16"] if dry else ["fp32", "bf16", "fp16"]

    def network(self) -> nn.Module:
        """A resnet50 of random weights, always the same."""
        torch.manual_seed(0)
        if self.dry:
            tail = [nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
            return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *tail)
        return vision_model("resnet50", 10, pretrained=False).to(memory_format=torch.channels_last)


def items(size: Sizes) -> tuple[Tensor, Tensor]:
    """Random images whose class can be seen, in the device's memory."""
    g = torch.Generator().manual_seed(0)
    n = size.batch_size * min(size.steps, 8)
    y = torch.arange(n) % 10
    x = torch.randn(n, 3, size.px, size.px, generator=g) * 0.5 + (y.float() / 5 - 1)[:, None, None, None]
    return x.to(size.device), y.to(size.device)


def learner(size: Sizes, precision: str, compiled: bool = False) -> Learner:
    data = TensorData(items(size), None, single_label(list("abcdefghij")), batch_size=size.batch_size)
    how: Result = {"device": size.device, "precision": precision, "compile": compiled}
    return Learner(data, size.network(), progress=False, seed=0, **how)


def settle(size: Sizes) -> float:
    if not size.dry:
        torch.cuda.synchronize()
    return time.perf_counter()


def epochs_of(size: Sizes) -> int:
    return max(size.steps // 8, 1)


def precisions(size: Sizes, chosen: argparse.Namespace) -> Result:
    """The mean loss of each epoch in each precision; aim: within 2 % of fp32 over the fit."""
    curves = {}
    for precision in size.precisions:
        learn = learner(size, precision)
        learn.fit(1e-3, 2 * epochs_of(size), cycle_len=None)
        curves[precision] = learn.record.column("train_loss")
    means = {p: statistics.mean(curve) for p, curve in curves.items()}
    return {"curves": curves, "ratio of means to fp32": {p: m / means["fp32"] for p, m in means.items()}, "aim": 0.02}


class _Watch(Callback):
    """Lets torch warn of each wait within steps."""

    def on_batch_end(self, run: Any) -> None:
        torch.cuda.set_sync_debug_mode("warn" if run.step < run.n_steps - 1 else "default")


def waits(size: Sizes, chosen: argparse.Namespace) -> Result:
    """Waits per step, beside those of the guard; aim: 0."""
    learn = learner(size, "bf16")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            learn.fit(1e-3, epochs_of(size), cycle_len=None, callbacks=[] if size.dry else [_Watch()])
        finally:
            if not size.dry:
                torch.cuda.set_sync_debug_mode("default")
    found = [f"{Path(w.filename).name}:{w.lineno}" for w in seen if "synchroniz" in str(w.message)]
    guard = [place for place in found if place.startswith("guard.py")]
    steps = len(learn.record)
    others = sorted({place for place in found if place not in guard})
    return {"steps": steps, "of the guard": len(guard), "others": len(found) - len(guard), "places": others, "aim": 0}


def by_hand(size: Sizes, precision: str) -> Callable[[], int]:
    """The loop that somebody would write: same network, data and optimizer; an epoch of it."""
    x, y = items(size)
    model = size.network().to(size.device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    kind = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    def epoch() -> int:
        model.train()
        for rows in torch.randperm(len(x), device=size.device).split(size.batch_size):
            with torch.autocast(size.device.type, kind, enabled=kind is not None):
                logits = model(x[rows])
            loss = F.cross_entropy(logits.float(), y[rows])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e9)
            optimizer.step()
            optimizer.zero_grad()
        return len(x)

    return epoch


def speed(size: Sizes, chosen: argparse.Namespace) -> Result:
    """Images a second and the peak of memory beside the loop by hand, in turn; aim: at least level."""
    learn = learner(size, "bf16")
    hand = by_hand(size, "bf16")

    def ours() -> int:
        learn.fit(1e-3, 1, cycle_len=None)
        return len(learn.data.ids("train"))

    rates: dict[str, list[float]] = {"ours": [], "by hand": []}
    peaks: dict[str, float] = {}
    for turn in range(2 if size.dry else 8):
        for name, run in (("ours", ours), ("by hand", hand)):
            if not size.dry:
                torch.cuda.reset_peak_memory_stats()
            begun = settle(size)
            n = run()
            rate = n / (settle(size) - begun)
            if turn:  # the first warms up
                rates[name].append(rate)
                peaks[name] = 0.0 if size.dry else torch.cuda.max_memory_allocated() / 2**20
    middle = {name: statistics.median(v) for name, v in rates.items()}
    ratio = middle["ours"] / middle["by hand"]
    return {"images a second": middle, "all": rates, "ratio": ratio, "peak MiB": peaks, "aim": 1.0}


def compiling(size: Sizes, chosen: argparse.Namespace) -> Result:
    """What `compile=True` gains after it has compiled."""
    rates = {}
    for compiled in (False, True):
        learn = learner(size, "bf16", compiled)
        begun = settle(size)
        learn.fit(1e-3, 1, cycle_len=None)
        first = settle(size) - begun
        begun = settle(size)
        learn.fit(1e-3, epochs_of(size), cycle_len=None)
        rates["compiled" if compiled else "plain"] = len(learn.record) / (settle(size) - begun)
        rates["first fit, compiled" if compiled else "first fit"] = first
    return {"steps a second": rates, "gain": rates["compiled"] / rates["plain"]}


def cifar10(size: Sizes, chosen: argparse.Namespace) -> Result:
    """Seconds until 94 % beside the same recipe by hand; made-up images where the real ones are not given."""
    command = [sys.executable, str(Path(__file__).with_name("cifar10_speed.py"))]
    command += ["--npz", str(chosen.npz)] if chosen.npz else ["--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"printed": done.stdout.splitlines()[-12:], "real images": chosen.npz is not None}


def tests(size: Sizes, chosen: argparse.Namespace) -> Result:
    """The tests that are marked `gpu`; in a dry run those of the device that pretends."""
    which = "tests/accelerator_checks.py" if size.dry else "tests/gpu"
    more = ["-k", "trains_as_on_the_cpu and (tensors or tables)"] if size.dry else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rf", which, *more], cwd=ROOT, capture_output=True, text=True
    )
    return {"exit status": done.returncode, "printed": done.stdout.splitlines()[-30:]}


PARTS: dict[str, tuple[Callable[[Sizes, argparse.Namespace], Result], int]] = {
    "tests": (tests, 120),
    "waits": (waits, 45),
    "precisions": (precisions, 75),
    "speed": (speed, 75),
    "compiling": (compiling, 90),
    "cifar10": (cifar10, 75),
}
"""What is done, in this order, and the most seconds it may take: 480 in all."""


def in_its_own_process(name: str, limit: int, chosen: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--part", name, "--out", str(out)]
        command += ["--dry-run"] * chosen.dry_run + (["--npz", str(chosen.npz)] if chosen.npz else [])
        begun = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
            problem = "" if done.returncode == 0 else done.stderr[-2000:]
        except subprocess.TimeoutExpired:
            problem = f"it took more than {limit} seconds"
        result: Result = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        return result | {"seconds": round(time.perf_counter() - begun, 1)} | ({"problem": problem} if problem else {})


def page(results: Result) -> str:
    rows = "".join(
        f"<h2>{html.escape(name)}</h2><pre>{html.escape(json.dumps(found, indent=1))}</pre>"
        for name, found in results.items()
    )
    return f"<!doctype html><meta charset=utf-8><title>easylearn on a GPU</title><h1>easylearn on a GPU</h1>{rows}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="gpu", help="OUT.json and OUT.html are written")
    parser.add_argument("--npz", type=Path, help="the real CIFAR-10")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.dry_run and not torch.cuda.is_available():
        print("there is no GPU here; --dry-run does everything on the CPU in tiny sizes", file=sys.stderr)
        return 2
    if chosen.part:
        found = PARTS[chosen.part][0](Sizes(chosen.dry_run), chosen)
        Path(chosen.out).write_text(json.dumps(found), encoding="utf-8")
        return 0
    device = "the CPU, tiny sizes" if chosen.dry_run else torch.cuda.get_device_name()
    results: Result = {"machine": {"device": device, "torch": torch.__version__}}
    for name, (_, limit) in PARTS.items():
        results[name] = in_its_own_process(name, limit, chosen)
        print(f"{name}: {json.dumps(results[name])[:400]}", flush=True)
        Path(f"{chosen.out}.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        Path(f"{chosen.out}.html").write_text(page(results), encoding="utf-8")
    return 1 if any("problem" in found for found in results.values()) else 0


if __name__ == "__main__":
    assert importlib.util.find_spec("easylearn"), "install easylearn first: pip install -e ."
    sys.exit(main())
