"""Damage real exports in every way that comes to mind, and see that each is either read right or refused.

    python examples/benchmarks/fuzz_exports.py --n 10000

Tiny models of every kind (pictures, table, text, language model, plain tensors), each plain, in 8 bits and pruned, are
exported; then bytes are flipped, cut and put in, members swapped, renamed and doubled, and what the files say is
changed with the digests computed anew, as somebody would do who means harm. In worker processes each file is loaded
and asked.

Counted are: `same` (the predictions of the original), `other` (digests were computed anew and it is a valid file of
another model), `refused` (by an error of easylearn), and `wrong`, which is everything else. Watched are the resident
memory that a load needs at most, what is opened besides the file (by an audit hook), and seconds.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import json
import os
import pickle
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from easylearn import (
    EasyLearnError,
    ImageData,
    Learner,
    Predictor,
    TabularData,
    TensorData,
    TextData,
    TextLMData,
    generate,
    language_model_learner,
    load_learner,
    load_predictor,
    single_label,
    tabular_learner,
    text_classifier_learner,
    vision_learner,
    vision_model,
)

SECONDS = 20.0  # for one file, on a machine that does other things, too
ROOM = 3 * 2**30  # of addresses; what asks for more gets an error
CONSTANT = 32 * 2**20  # bytes beside twice the size of the model: buffers, modules, messages
SMALL: dict[str, Any] = {"device": "cpu", "progress": False}
TEXTS = [f"{a} film that {b} liked" for a in ("good", "bad", "long", "short") for b in ("we", "they", "all", "few")]
ASKED = ("a good film", "nobody liked all of it")
PICKLE = pickle.dumps({"weights": [1, 2, 3]})


# -- real exports ------------------------------------------------------------------------------------------


def _pictures() -> Learner:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
    data = ImageData.from_arrays((x[:8], list("abababab")), (x[8:], list("abab")), size=16, batch_size=4, workers=0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
    late = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU())
    net = nn.Sequential(stem, late, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return vision_learner(data, net, hidden=(8,), **SMALL)


def _table() -> Learner:
    rng = np.random.default_rng(0)
    df = pd.DataFrame(
        {
            "shop": rng.choice(list("abcd"), 60),
            "day": rng.integers(0, 7, 60),
            "size": rng.normal(50, 7, 60),
            "rain": np.where(rng.random(60) < 0.2, np.nan, rng.random(60)),
            "label": rng.choice(["yes", "no"], 60),
        }
    )
    data = TabularData.from_df(df, "label", cat_names=["shop", "day"], cont_names=["size", "rain"], batch_size=16)
    return tabular_learner(data, (16, 8), **SMALL)


def _texts(tokenizer: str) -> Learner:
    labels = ["pos" if "good" in t or "long" in t else "neg" for t in TEXTS]
    data = TextData.from_lists(TEXTS, labels, min_freq=1, batch_size=4, progress=False, valid=0.25, tokenizer=tokenizer)
    return text_classifier_learner(data, emb_size=8, n_hidden=12, n_layers=2, layers=(8,), **SMALL)


def _language_model() -> Learner:
    data = TextLMData.from_lists(TEXTS * 3, min_freq=1, batch_size=4, bptt=7, progress=False)
    return language_model_learner(data, emb_size=16, n_hidden=24, n_layers=2, **SMALL)


def _tensors() -> Learner:
    x, y = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2] * 4)
    data = TensorData((x[:8], y[:8]), (x[8:], y[8:]), single_label(["a", "b", "c"]), batch_size=4)
    return Learner(data, nn.Sequential(nn.Linear(5, 60), nn.Tanh(), nn.Linear(60, 3)), **SMALL)


MAKERS: dict[str, Callable[[], Learner]] = {
    "pictures": _pictures,
    "table": _table,
    "words": lambda: _texts("word"),
    "pieces": lambda: _texts("bpe"),
    "language model": _language_model,
    "tensors": _tensors,
}
WAYS: dict[str, dict[str, Any]] = {"plain": {}, "int8": {"quantize": "int8"}, "sparse": {"prune": 0.6}}


def make_exports(folder: Path) -> None:
    """Write every kind in every way."""
    for kind, make in MAKERS.items():
        torch.manual_seed(0)
        learn = make()
        for way, options in WAYS.items():
            learn.export(folder / f"{kind}.{way}", **options)


def ask(kind: str, predictor: Predictor) -> Any:
    """What a predictor says of the items that belong to its kind."""
    if kind == "language model":
        return generate(predictor, "good film", 6, temperature=0)
    if kind == "pictures":
        rng = np.random.default_rng(1)
        items: Any = [rng.integers(0, 255, (20, 24, 3), dtype=np.uint8) for _ in range(2)]
    elif kind == "table":
        items = [
            {"shop": "a", "day": 3, "size": 51.5, "rain": None},
            {"shop": "unheard", "day": None, "size": float("inf"), "rain": 0.5},
        ]
        return [p.probs.tolist() for p in map(predictor.predict, items)]
    elif kind == "tensors":
        items = torch.linspace(-1, 1, 10).reshape(2, 5)
    else:
        items = list(ASKED)
    said = predictor.predict(items)
    return [list(said.labels), said.probs.tolist()]


# -- damage ------------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    10**3,
    10**5,
    10**9,
    10**12,
    2**31,
    2**63,
    10**400,
    -(10**18),
    0.5,
    -0.5,
    1e300,
    float("inf"),
    float("nan"),
    "",
    "a",
    "spec.json",
    "../../etc/passwd",
    "/etc/passwd",
    "torch.nn.Linear",
    "cpu",
    "cuda",
    "meta",
    "easylearn.vision_model",
    "resnet18",
    "vit_giant_patch14_224",
    "images",
    "table",
    "text",
    "x" * 10**5,
    "\ud800",
    [],
    [0],
    [[]],
    [1, 2, 3],
    [10**9],
    {},
    {"own": "Net"},
    {"build": "torch.nn.Linear", "args": {}},
    {"build": "torch.nn.Linear", "args": {"in_features": 10**9, "out_features": 10**9, "device": "cpu"}},
    {"build": "easylearn.awd_lstm", "args": {"n_tokens": 10**9}},
    {"float": "nan"},
    {"dict": {}},
    {"layers": {}},
]


def spec_digest(spec: dict[str, Any]) -> str:
    """As `easylearn.artefact.archive` computes it."""
    text = json.dumps({k: v for k, v in spec.items() if k != "digest"}, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def members(raw: bytes) -> tuple[bytes, bytes]:
    """Spec and weights of a real export."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return archive.read("spec.json"), archive.read("weights.safetensors")


def sealed(spec: Any, weights: bytes) -> bytes:
    """A file of a spec and weights whose digests are right."""
    if isinstance(spec, dict):
        spec = {**spec, "weights": hashlib.blake2b(weights, digest_size=16).hexdigest()}
        spec["digest"] = spec_digest(spec)
    return zipped([("spec.json", json.dumps(spec).encode("utf-8", "surrogatepass")), ("weights.safetensors", weights)])


def zipped(parts: list[tuple[str, bytes]], how: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of members in this order."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", how) as archive:
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content, how)  # without the time: the same seed, the same bytes
    return out.getvalue()


def damage_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Flip, cut out, cut off, put in, or copy some bytes."""
    data, at = bytearray(raw), rng.randrange(len(raw))
    if rng.random() < 0.3:  # the end of a zip file is what is read first
        at = max(0, len(raw) - 1 - rng.randrange(min(len(raw), 300)))
    size = rng.choice([1, 1, 2, 4, 8, 100, 4096])
    what = rng.randrange(6)
    if what == 0:
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif what == 1:
        data[at] = rng.choice([0, 1, 127, 128, 255])
    elif what == 2:
        del data[at:]
    elif what == 3:
        del data[at : at + size]
    elif what == 4:
        data[at:at] = rng.randbytes(size)
    else:
        data[at : at + size] = data[: len(data[at : at + size])]
    return bytes(data)


def damage_members(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    """Swap, double, rename, leave out, add or compress members."""
    spec, weights = members(raw)
    spec2, weights2 = members(other)
    a, b = ("spec.json", spec), ("weights.safetensors", weights)
    name = rng.choice(["../spec.json", "/spec.json", "SPEC.JSON", "data.pkl", "archive/data.pkl", "spec.json/", "a\\b"])
    choices: list[Callable[[], bytes]] = [
        lambda: zipped([("spec.json", spec2), b]),
        lambda: zipped([a, ("weights.safetensors", weights2)]),
        lambda: sealed(json.loads(spec2), weights),
        lambda: zipped([a, a, b]),
        lambda: zipped([a, b, b]),
        lambda: zipped([a, a]),
        lambda: zipped([a]),
        lambda: zipped([]),
        lambda: zipped([a, (name, weights)]),
        lambda: zipped([(name, spec), b]),
        lambda: zipped([a, b, (name, PICKLE)]),
        lambda: zipped([("spec.json", PICKLE), b]),
        lambda: zipped([a, ("weights.safetensors", PICKLE)]),
        lambda: sealed(json.loads(spec), PICKLE),
        lambda: zipped([a, b], zipfile.ZIP_DEFLATED),
        lambda: zipped([b, a]),
        lambda: PICKLE + raw,
        lambda: raw + other,
        lambda: PICKLE,
    ]
    return rng.choice(choices)()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if len(path) > 40:  # what was wrapped into a thousand lists
        return
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _places(part, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _copied(value: Any, levels: int) -> Any:
    if not levels:
        return None
    if isinstance(value, dict):
        return {k: _copied(v, levels - 1) for k, v in value.items()}
    return [_copied(v, levels - 1) for v in value] if isinstance(value, list) else value


def damage_json(value: Any, rng: random.Random) -> Any:
    """Change some parts of what JSON says."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        paths = [p for p in _places(value) if p]
        if not paths:
            return rng.choice(ODD)
        # By depth first: most places are levels of columns and words of a vocabulary.
        depth = rng.choice(sorted({len(p) for p in paths}))
        path = rng.choice([p for p in paths if len(p) == depth])
        holder, key = _at(value, path[:-1]), path[-1]
        old, what = holder[key], rng.randrange(9)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(old, int | float):
            holder[key] = rng.choice([old + 1, old - 1, old * 2, -old, old * 10**6, float(old), str(old)])
        elif what == 2:
            holder[key] = _copied(_at(value, rng.choice(paths)), 40)
        elif what == 3:
            holder[key] = [old] * rng.choice([1, 2, 1000])
        elif what == 4:
            deep = old
            for _ in range(rng.choice([1, 10, 100, 900])):
                deep = rng.choice([[deep], {"layers": {"0": deep}}])
            holder[key] = deep
        elif what == 5 and isinstance(holder, dict):
            holder[str(rng.choice(["", "own", "build", "args", "device", "x"]))] = holder.pop(key)
        elif what == 6 and isinstance(old, list) and old:
            holder[key] = rng.choice([old[:-1], old[::-1], old + old, old[:1] * 500])
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
    return value


def damage_spec(raw: bytes, rng: random.Random) -> bytes:
    """Let it say something else, under the right digests."""
    spec, weights = members(raw)
    said = json.loads(spec)
    if rng.random() < 0.7:  # where the danger is
        part = rng.choice(["model", "model", "data", "task", "packed", "tied", "training"])
        said[part] = damage_json(said[part], rng)
    else:
        said = damage_json(said, rng)
    return sealed(said, weights)


def damage_header(raw: bytes, rng: random.Random) -> bytes:
    """Let the tensors be elsewhere, or of another kind, under the right digests."""
    spec, weights = members(raw)
    (size,) = struct.unpack("<Q", weights[:8])
    header = damage_json(json.loads(weights[8 : 8 + size]), rng)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    length = rng.choice([0, 1, 2**62, 10**8, len(text) - 1]) if rng.random() < 0.1 else len(text)
    return sealed(json.loads(spec), struct.pack("<Q", length) + text + weights[8 + size :])


def damage_weights(raw: bytes, rng: random.Random) -> bytes:
    """Other weights, or bytes where no tensor is, under the right digests."""
    spec, weights = members(raw)
    return sealed(json.loads(spec), damage_bytes(weights, rng))


def damage(raw: bytes, other: bytes, seed: int) -> tuple[str, bytes]:
    """Damage a file in a way that depends on the seed alone.

    Args:
        raw: a real export.
        other: another one.
        seed: of the choice.

    Returns:
        What was done, and the file.
    """
    rng = random.Random(seed)
    name = rng.choice(["bytes", "bytes", "members", "spec", "spec", "spec", "header", "weights"])
    if name == "members":
        return name, damage_members(raw, other, rng)
    changes = {"bytes": damage_bytes, "spec": damage_spec, "header": damage_header, "weights": damage_weights}
    try:
        return name, changes[name](raw, rng)
    except (RecursionError, OverflowError):  # a thousand lists in lists, which JSON does not write; 10**400 as a float
        return "bytes", raw


# -- watching ----------------------------------------------------------------------------------------------


class Watch:
    """Notes what is opened, run or unpickled while it is switched on. An audit hook stays for the process's life."""

    def __init__(self) -> None:
        self.on = False
        self.file = ""
        self.seen: list[str] = []
        here = Path(__file__).resolve().parents[2]
        roots = {sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), os.path.dirname(torch.__path__[0])}
        self.roots = tuple(str(Path(r).resolve()) + os.sep for r in [*roots, here / "easylearn"])
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.fsdecode(arguments[0])
            # A text that another kind's file takes for the path of a picture was not named by the file.
            if path not in (self.file, *ASKED) and not str(Path(path).resolve()).startswith(self.roots):
                self.seen.append(f"open {path}")
        elif event in ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "socket.connect", "exec"):
            ours = getattr(arguments[0], "co_filename", "").startswith(("<frozen", *self.roots)) if arguments else False
            if event != "exec" or not ours:
                self.seen.append(f"{event} {str(arguments)[:80]}")


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status does not say {name}")


class _TooSlow(BaseException):
    pass


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooSlow

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def try_file(kind: str, path: Path, expected: Any, changed: str) -> tuple[str, str]:
    """Load a file and ask it.

    Args:
        kind: of the model that the file was.
        path: the file.
        expected: what the original says.
        changed: what was done to it.

    Returns:
        "same", "other", "refused" or "wrong", and why.
    """
    try:
        said = ask(kind, load_predictor(path, device="cpu"))
        if changed == "spec":
            load_learner(path, device="cpu", progress=False)
    except EasyLearnError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except Exception as error:  # that is what is looked for
        return "wrong", f"{type(error).__name__}: {error}"
    if repr(said) == repr(expected):
        return "same", ""
    if changed == "bytes":
        return "wrong", "the digests are the old ones, the predictions are not"
    return "other", ""


def work(folder: Path, start: int, stop: int) -> dict[str, Any]:
    """Try the files of some seeds in this process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    originals = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
    names = list(originals)
    expected = {name: ask(name.split(".")[0], load_predictor(folder / name, device="cpu")) for name in names}
    for name in names:  # what is imported late is imported now
        load_learner(folder / name, device="cpu", progress=False)
        for kind in MAKERS:
            with suppress(EasyLearnError):
                ask(kind, load_predictor(folder / name, device="cpu"))
    for arch in ("squeezenet1_1", "timm/no such one"):
        with suppress(EasyLearnError):
            vision_model(arch, 2, pretrained=False)
    watch = Watch()
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + ROOM, resource.RLIM_INFINITY))
    counts: Counter[str] = Counter()
    result: dict[str, Any] = {"wrong": [], "opened": [], "memory": 0, "memory_of": "", "seconds": 0.0, "address": 0}
    addresses = _memory("VmPeak")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "damaged"
        watch.file = str(path)
        for seed in range(start, stop):
            name, other = names[seed % len(names)], names[(seed * 7 + seed // len(names)) % len(names)]
            how, raw = damage(originals[name], originals[other], seed)
            path.write_bytes(raw)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before, begun = _memory("VmRSS"), time.perf_counter()
            watch.on = True
            try:
                with _limited(SECONDS):
                    verdict, why = try_file(name.split(".")[0], path, expected[name], how)
            except _TooSlow:
                verdict, why = "wrong", f"it took more than {SECONDS} seconds"
            finally:
                watch.on = False
            grown = _memory("VmHWM") - before
            allowed = 2 * max(len(raw), len(originals[name])) + CONSTANT
            if grown > allowed:
                verdict, why = "wrong", f"{grown / 2**20:.1f} MB for a file of {len(raw):,} bytes ({why[:200]})"
            if grown > result["memory"]:
                result["memory"], result["memory_of"] = grown, f"{name}, seed {seed}, {how}: {why[:150]}"
            result["seconds"] = max(result["seconds"], time.perf_counter() - begun)
            counts[f"{how} {verdict}"] += 1
            if verdict == "wrong":
                result["wrong"].append(f"{name}, seed {seed}, {how}: {why[:600]}")
            result["opened"] += [f"{name}, seed {seed}, {how}: {what}" for what in watch.seen]
            watch.seen.clear()
    result["address"] = _memory("VmPeak") - addresses
    return {**result, "counts": dict(counts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="how many damaged files (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=500, help="files per worker process (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first file (default: %(default)s)")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        print(json.dumps(work(Path(chosen.worker[0]), int(chosen.worker[1]), int(chosen.worker[2]))))
        return
    counts: Counter[str] = Counter()
    wrong, opened, memory, address, seconds, crashes = [], [], (0, ""), 0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        make_exports(Path(folder))
        begun = time.perf_counter()
        sizes = [p.stat().st_size for p in Path(folder).iterdir()]
        print(f"{len(sizes)} exports of {min(sizes):,} to {max(sizes):,} bytes", flush=True)
        for start in range(chosen.seed, chosen.seed + chosen.n, chosen.batch):
            stop = min(start + chosen.batch, chosen.seed + chosen.n)
            command = [sys.executable, __file__, "--worker", folder, str(start), str(stop)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                crashes += 1
                print(f"a worker on seeds {start} to {stop} ended with {done.returncode}: {done.stderr[-2000:]}")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            counts.update(found["counts"])
            wrong += found["wrong"]
            opened += found["opened"]
            memory = max(memory, (found["memory"], found["memory_of"]))
            address, seconds = max(address, found["address"]), max(seconds, found["seconds"])
            print(f"{stop - chosen.seed:,} files, {time.perf_counter() - begun:.0f} s, {len(wrong)} wrong", flush=True)
    total: Counter[str] = Counter()
    for what, n in sorted(counts.items()):
        print(f"  {what:18}{n:7,}")
        total[what.split()[1]] += n
    print(f"all: {dict(total)}; {crashes} crashed workers")
    print(f"largest growth of resident memory: {memory[0] / 2**20:.1f} MB ({memory[1]})")
    print(f"largest growth of addresses in a worker: {address / 2**20:.0f} MB; longest: {seconds:.2f} s")
    print(f"opened, run or unpickled besides the file: {len(opened)}", *opened[:20], sep="\n  ")
    print(f"wrong: {len(wrong)}", *wrong[:50], sep="\n  ")
    sys.exit(1 if wrong or opened or crashes else 0)


if __name__ == "__main__":
    main()
