"""Every script in `examples` runs with `--quick`, in a folder of its own, and leaves its pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAVES = {  # by the --out that is given
    "augmentations.py": ("out.png", {"out.png"}),
    "few_labels.py": ("out", {"out/reviews.easylearn"}),
    "lesson1_dogscats.py": (
        "out",
        {
            "out/batch.png", "out/lr_find.png", "out/rates.png", "out/losses.png", "out/confusion.png",
            "out/worst.png", "out/best.safetensors",
        },
    ),
    "lesson2_multilabel.py": ("out", {"out/batch.png", "out/f2.png", "out/worst.png", "out/digits/labels.csv"}),
    "lesson3_rossmann.py": ("out.png", {"out.png"}),
    "lesson4_imdb.py": ("out", {"out/encoder.safetensors", "out/losses.png"}),
    "lesson5_movielens.py": ("out", {"out/films.png", "out/losses.png"}),
    "lesson6_own_architecture.py": ("out", {"out/few.png", "out/digits.easylearn"}),
    "lesson7_music.py": ("out", {"out/artists.png", "out/report.html", "out/music.easylearn"}),
    "lesson8_several.py": ("out", {"out/branches.png", "out/films.easylearn"}),
    "lesson9_masks.py": ("out", {"out/batch.png", "out/worst.png", "out/confusion.png", "out/scenes.easylearn"}),
    "lesson10_boxes.py": ("out", {"out/batch.png", "out/worst.png", "out/boxes.csv", "out/cells.easylearn"}),
    "schedules_gallery.py": ("out.png", {"out.png"}),
}  # fmt: skip


def run(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_every_example_is_known() -> None:
    assert {f.name for f in (ROOT / "examples").glob("*.py")} == LEAVES.keys() | {"made_up.py"}


@pytest.mark.parametrize("script", [name for name in LEAVES if name.startswith("lesson")])
def test_a_lesson_is_short_and_says_what_it_reached(script: str) -> None:
    text = (ROOT / "examples" / script).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert "It reached" in text.split('"""')[1]
    assert f"](../examples/{script})" in (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", LEAVES)
def test_quick(script: str, tmp_path: Path) -> None:
    out, expected = LEAVES[script]
    done = run(script, tmp_path, "--quick", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    left = {f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*") if f.is_file()}
    assert left >= expected
    assert {name.split("/")[0] for name in left} <= {out, "cache"}  # it writes where it was told to


BENCHMARKS = ["finetuning_ways", "rare_tags", "real_search", "recommend", "resume", "several", "tables"]


@pytest.mark.parametrize("script", [f"benchmarks/{name}.py" for name in BENCHMARKS])
def test_benchmarks(script: str, tmp_path: Path) -> None:
    done = run(script, tmp_path, "--quick")
    assert done.returncode == 0, done.stderr
    assert "easylearn" in done.stdout


@pytest.mark.parametrize(
    "script", ["lesson1_dogscats.py", "lesson4_imdb.py", "benchmarks/real_folds.py", "benchmarks/real_search.py"]
)
def test_an_example_without_data_says_what_it_needs(script: str, tmp_path: Path) -> None:
    done = run(script, tmp_path)
    assert done.returncode == 2 and "or --quick" in done.stderr
    assert list(tmp_path.iterdir()) == []
