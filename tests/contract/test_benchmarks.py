"""The benchmark suite, the scaling plots and the CIFAR-10 race run with `--quick`, in a folder of their own."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"


def run(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(FOLDER / script), "--quick", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_suite(tmp_path: Path) -> None:
    tasks = ["loop", "table", "import"]
    done = run("suite.py", tmp_path, "--impl", "plain", "easylearn", "--tasks", *tasks, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "| task | plain | easylearn | aim | met |" in done.stdout
    kept = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert kept["errors"] == {}
    assert {"processor", "cores"} <= kept["machine"].keys() and {"python", "torch"} <= kept["versions"].keys()
    assert "suite.py --quick" in kept["command"]
    for row in kept["rows"]:  # each row has a ratio of ours, but for what the left-out "best" is the base of
        assert row["base"] == "best" or row["ratios"].keys() >= {"plain", "easylearn"}, row
    assert all(len(repeats) == 1 for part in kept["figures"].values() for repeats in part.values())


def test_suite_without_a_peer_says_how_to_get_it(tmp_path: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("skorch") is not None:
        pytest.skip("skorch is installed")
    done = run("suite.py", tmp_path, "--impl", "skorch", "--tasks", "import")
    assert done.returncode == 0 and "skorch is not installed and left out: pip install skorch" in done.stderr


def test_suite_tasks_have_the_functions_that_the_rows_name() -> None:
    """Read, not imported: peers need not be there."""
    names: dict[str, dict[str, tuple[str, ...]]] = {}
    source = ast.parse((FOLDER / "suite_tasks" / "rows.py").read_text(encoding="utf-8"))
    wanted = ("IMPLEMENTATIONS", "HAVE", "PARTS")
    for node in source.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in wanted:
            exec(compile(ast.Module([node], []), "rows.py", "exec"), names)
    parts = [part for parts in names["PARTS"].values() for part in parts]
    assert parts == list(names["HAVE"])
    for part, implementations in names["HAVE"].items():
        module = ast.parse((FOLDER / "suite_tasks" / f"{part}.py").read_text(encoding="utf-8"))
        assert {n.name for n in module.body if isinstance(n, ast.FunctionDef)} >= set(implementations), part


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    done = run("scaling.py", tmp_path, "--out", "plots", "--kinds", "images", "rows", "tokens")
    assert done.returncode == 0, done.stderr
    left = {file.name for file in (tmp_path / "plots").iterdir()}
    assert left == {"images.png", "rows.png", "tokens.png", "scaling.json"}
    assert done.stdout.count("slope") >= 6


@pytest.mark.slow
def test_folds(tmp_path: Path) -> None:
    done = run("folds.py", tmp_path, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rounds"]
    assert len(one["seconds"]) == 5
    assert one["decoded"] == one["different_files"] == one["computed"] == one["different_rows"] == 30


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled(tmp_path: Path) -> None:
    done = run("compiled.py", tmp_path, "--models", "small")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"] == "small" and found["speed"] > 0


@pytest.mark.slow
def test_cifar10_speed(tmp_path: Path) -> None:
    done = run("cifar10_speed.py", tmp_path, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "easylearn / hand-written, all epochs:" in done.stdout
    kept = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert {name: len(made) for name, made in kept["runs"].items()} == {"hand-written loop": 1, "easylearn": 1}
