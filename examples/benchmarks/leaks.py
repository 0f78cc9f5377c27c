"""Fifty leaks planted in images, tables and texts: how many of them `audit` finds, and what it says of clean data.

    python examples/benchmarks/leaks.py                       # made-up photographs; a minute on one core
    python examples/benchmarks/leaks.py --photos dogscats     # with a folder of real ones
    python examples/benchmarks/leaks.py --quick               # few items: no result

A leak is found where the audit names the planted item, and the false alarms are whatever else it calls a leak.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from easylearn import ImageData, TextData, folds
from easylearn.experiment.audit import Audit, audit

Result = tuple[str, int, int, int]  # what, planted, found, false alarms
WORDS = [f"{a}{b}" for a in ("ri", "sto", "li", "gar", "win", "bre") for b in ("ver", "ne", "ght", "den", "ter")]


def altered(image: Image.Image, kind: str, file: Path) -> None:
    """Write a copy of an image that is not the same file."""
    w, h = image.size
    if kind == "resized":
        image.resize((w * 3 // 4, h * 3 // 4), Image.Resampling.LANCZOS).save(file, quality=90)
    elif kind == "recompressed":
        image.save(file, quality=40)
    elif kind == "mirrored":
        ImageOps.mirror(image).save(file, quality=90)


def made_up(n: int, folder: Path, rng: np.random.Generator) -> list[Path]:
    """Images of clouds in all sizes, no two of which are alike."""
    files = []
    for i in range(n):
        pixels = np.full((225, 300, 3), 128.0)
        for cells in (3, 6, 12, 48):
            cloud = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            pixels += (np.asarray(cloud.resize((300, 225), Image.Resampling.BICUBIC), np.float64) - 128) / cells**0.5
        files.append(folder / f"made_up_{i}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def images(photos: list[Path], size: int, n_leaks: int, rng: np.random.Generator) -> Iterator[Result]:
    """Copies of images, each of four kinds, on the other side of a fold."""
    with tempfile.TemporaryDirectory() as folder:
        names, labels = [], []
        for i, photo in enumerate(photos):
            names.append(f"{i}.jpg")
            labels.append("ab"[i % 2])
            (Path(folder) / names[-1]).write_bytes(photo.read_bytes())
        clean = folds(len(names), 5, seed=1)
        data = ImageData.from_names(folder, names, labels, size, valid=clean[0][1], workers=0)
        yield "clean images", 0, 0, false_of(audit(data, clean), set())
        planted = {}
        for k, of in enumerate(rng.choice(len(photos), n_leaks, replace=False)):
            kind = ("copied", "resized", "recompressed", "mirrored")[k % 4]
            name = f"leak{k}_{kind}.jpg"
            if kind == "copied":
                (Path(folder) / name).write_bytes(photos[of].read_bytes())
            else:
                altered(Image.open(photos[of]).convert("RGB"), kind, Path(folder) / name)
            names.append(name)
            labels.append("ab"[k % 2])
            planted[name] = f"{of}.jpg"
        plan = crossing(len(photos), [int(of[:-4]) for of in planted.values()])
        data = ImageData.from_names(folder, names, labels, size, valid=plan[0][1], workers=0)
        found = audit(data, plan)
        pairs = {frozenset(pair) for one in found.leaks for pair in one.items}
        for kind in ("copied", "resized", "recompressed", "mirrored"):
            some = {frozenset((n, of)) for n, of in planted.items() if kind in n}
            yield f"{kind} images", len(some), len(some & pairs), 0
        yield "other images called leaks", 0, 0, len(pairs - {frozenset(p) for p in planted.items()})


def crossing(n: int, of: list[int]) -> Any:
    """Folds of n items and of copies of some, in which each copy is in another fold than its original."""
    plan = folds(n, 5, seed=1)
    fold_of = np.empty(n + len(of), np.int64)
    for fold, (_, valid) in enumerate(plan):
        fold_of[valid] = fold
    fold_of[n:] = (fold_of[of] + 1) % 5
    pairs = tuple((np.flatnonzero(fold_of != f), np.flatnonzero(fold_of == f)) for f in range(5))
    return type(plan)(n + len(of), pairs)


def false_of(found: Audit, planted: set[str]) -> int:
    """How many things an audit calls leaks that nobody planted."""
    return sum(1 for one in found.leaks for item in one.items or [()] if not planted & set(item))


def table(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of patients who come several times, day after day."""
    patient = rng.integers(0, n // 5, n)
    return pd.DataFrame(
        {
            "age": rng.integers(20, 90, n), "kind": rng.choice(list("abcde"), n), "value": rng.normal(size=n).round(3),
            "dose": rng.exponential(size=n).round(2), "patient": [f"p{p}" for p in patient],
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.sort(rng.integers(0, 400, n)), unit="D"),
            "ill": rng.integers(0, 2, n),
        }
    )  # fmt: skip


def tables(n: int, each: int, rng: np.random.Generator) -> Iterator[Result]:
    """Copied rows, patients on both sides, rows from the future; one leak at a time in clean data."""
    features = ["age", "kind", "value", "dose", "ill"]
    false = rows = patients = future = 0
    for k in range(each):
        df = table(n, rng)
        grouped, timed = folds(n, 5, groups=df.patient, seed=k), folds(n, 4, times=df.day, gap=7)
        plain = folds(n, 5, stratify=df.ill, seed=k)
        false += false_of(audit(df[features], plain, target="ill"), set())
        false += false_of(audit(df.drop(columns=["patient", "day"]), grouped, target="ill", groups=df.patient), set())
        false += false_of(audit(df[features], timed, target="ill", times=df.day), set())
        row = int(rng.integers(n))
        copied = pd.concat([df[features], df[features].iloc[[row]]], ignore_index=True)
        found = audit(copied, crossing(n, [row]), target="ill")
        rows += any({str(row), str(n)} == set(pair) for one in found.leaks for pair in one.items)
        # one visit of one patient on the other side
        often = df.patient.value_counts()
        who = str(often[often > 1].index[k])
        train, valid = grouped[0]
        moved = [np.flatnonzero(df.patient == who)[0]]
        back = np.r_[valid, moved] if moved[0] not in valid else np.setdiff1d(valid, moved)
        plan = type(grouped)(n, ((np.setdiff1d(np.arange(n), back), np.sort(back)),))
        found = audit(df[features], plan, target="ill", groups=df.patient)
        patients += any((who,) in one.items for one in found.leaks if one.kind == "groups overlap")
        # one row that comes after what is validated on
        train, valid = timed[1]
        late = int(timed[3][1][rng.integers(len(timed[3][1]))])
        plan = type(grouped)(n, ((np.sort(np.r_[train, late]), valid),))
        found = audit(df[features], plan, target="ill", times=df.day)
        future += any((str(late),) in one.items for one in found.leaks)
    yield "clean tables", 0, 0, false
    yield "copied rows", each, rows, 0
    yield "patients on both sides", each, patients, 0
    yield "rows from the future", each, future, 0


def texts(n: int, each: int, rng: np.random.Generator) -> Iterator[Result]:
    """Documents with some words changed."""
    docs = [" ".join(rng.choice(WORDS, 80)) for _ in range(n)]
    labels = ["ab"[i % 2] for i in range(n)]
    plan = folds(n, 5, seed=1)
    clean = audit(
        TextData.from_df(pd.DataFrame({"text": docs, "label": labels}), "text", "label", valid=plan[0][1]), plan
    )
    yield "clean texts", 0, 0, false_of(clean, set())
    of = rng.choice(n, each, replace=False).tolist()
    copies = []
    for i in of:
        words = docs[i].split()
        for at in rng.choice(80, 3, replace=False):
            words[at] = "other"
        copies.append(" ".join(words).capitalize() + ".")
    plan = crossing(n, of)
    df = pd.DataFrame({"text": docs + copies, "label": labels + ["a"] * each})
    found = audit(TextData.from_df(df, "text", "label", valid=plan[0][1]), plan)
    pairs = {frozenset(pair) for one in found.leaks for pair in one.items}
    planted = {frozenset((str(i), str(n + k))) for k, i in enumerate(of)}
    yield "texts with changed words", each, len(planted & pairs), len(pairs - planted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of images; None makes some up")
    parser.add_argument("--n", type=int, default=400, help="images, rows and texts")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    n, n_images, each = (60, 4, 1) if args.quick else (args.n, 24, 7)
    found = sorted(args.photos.rglob("*.jpg")) if args.photos else []
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        photos = [found[i] for i in rng.permutation(len(found))[:n]] or made_up(n, Path(folder), rng)
        size = 64 if args.quick else args.size
        results = [*images(photos, size, n_images, rng), *tables(n, each, rng), *texts(n, 5, rng)]
    for what, planted, got, false in results:
        print(f"{what:28} planted {planted:3}, found {got:3}, false alarms {false}")
    planted, got, false = (sum(r[k] for r in results) for k in (1, 2, 3))
    print(f"found {got} of {planted} ({got / planted:.0%}), aim 95 %; {false} false alarms, aim 0")
    if args.json:
        args.json.write_text(json.dumps([list(r) for r in results]), encoding="utf-8")


if __name__ == "__main__":
    main()
