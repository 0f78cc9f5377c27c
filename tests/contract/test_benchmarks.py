"""The benchmark suite, the scaling plots and the CIFAR-10 race run with `--quick`, in a folder of their own."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
    tasks = ["--tasks", "loop", "table", "import"]
    root = str(FOLDER.parents[1])
    done = run("suite.py", tmp_path, "--impl", "plain", "easylearn", *tasks, "--against", root, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "| task | plain | easylearn | aim | met |" in done.stdout
    assert "| task | before | now | now / before |" in done.stdout and "no row." in done.stdout
    kept = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert kept["errors"] == {} and kept["worse"] == []
    assert {"processor", "cores"} <= kept["machine"].keys() and {"python", "torch"} <= kept["versions"].keys()
    assert "suite.py --quick" in kept["command"] and kept["commits"].keys() == {"easylearn", "before"}
    for row in kept["rows"]:  # each row has a ratio of ours, but for what the left-out "best" is the base of
        assert row["base"] == "best" or row["ratios"].keys() >= {"plain", "easylearn"}, row
        assert row["against"]["n"] == 1 and row["against"]["low"] == row["against"]["median"]
    names = {"plain", "easylearn", "before"}
    assert [made.keys() for rounds in kept["rounds"].values() for made in rounds] == [names] * len(kept["rounds"])


def test_suite_without_a_peer_says_how_to_get_it(tmp_path: Path) -> None:
    if importlib.util.find_spec("skorch") is not None:
        pytest.skip("skorch is installed")
    done = run("suite.py", tmp_path, "--impl", "skorch", "--tasks", "import")
    assert done.returncode == 0 and "skorch is not installed and left out: pip install skorch" in done.stderr


def test_suite_against_what_is_no_checkout(tmp_path: Path) -> None:
    done = run("suite.py", tmp_path, "--against", str(tmp_path))
    assert done.returncode == 2 and str(tmp_path) in done.stderr and "easylearn/__init__.py" in done.stderr


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Modules of the suite, by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name: importlib.import_module(f"suite_tasks.{name}")


def test_few_labels_wants_the_texts_that_are_to_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["few_labels.py", "reviews", "--named", "3000"])
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module("few_labels").main()
    assert "--named takes texts of --unlabelled" in capsys.readouterr().err


def test_suite_tasks_have_the_functions_that_the_rows_name(suite: Callable[[str], Any]) -> None:
    """Read, not imported: peers need not be there."""
    rows = suite("rows")
    parts = [part for parts in rows.PARTS.values() for part in parts]
    assert (
        parts == list(rows.HAVE) and {row.part for row in rows.ROWS} == set(parts) and set(rows.ONE_THREAD) < {*parts}
    )
    for part, implementations in rows.HAVE.items():
        module = ast.parse((FOLDER / "suite_tasks" / f"{part}.py").read_text(encoding="utf-8"))
        assert {n.name for n in module.body if isinstance(n, ast.FunctionDef)} >= set(implementations), part


class TestIntervals:
    # From tables of the sign test, for instance Conover, Practical Nonparametric Statistics, A3.
    @pytest.mark.parametrize(
        ("n", "rank"), [(1, 1), (5, 1), (6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (21, 6), (30, 10)]
    )
    def test_ranks(self, suite: Callable[[str], Any], n: int, rank: int) -> None:
        assert suite("intervals").rank_of(n) == rank

    @pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
    def test_ranks_by_the_binomial_distribution(self, suite: Callable[[str], Any], confidence: float) -> None:
        binom = pytest.importorskip("scipy.stats").binom
        for n in range(8, 200):
            rank = suite("intervals").rank_of(n, confidence)
            assert 2 * binom.cdf(rank - 1, n, 0.5) <= 1 - confidence < 2 * binom.cdf(rank, n, 0.5)

    def test_interval(self, suite: Callable[[str], Any]) -> None:
        found = suite("intervals").median_interval([15.0, *range(1, 15)])
        assert (found.median, found.low, found.high, found.n) == (8, 4, 12, 15)
        quantile_test = pytest.importorskip("scipy.stats").quantile_test
        values = np.random.default_rng(0).normal(size=31)
        found = suite("intervals").median_interval(values.tolist())
        assert (found.low, found.high) == tuple(quantile_test(values, p=0.5).confidence_interval(0.95))

    def test_it_holds_the_median_as_often_as_it_says(self, suite: Callable[[str], Any]) -> None:
        draws = np.random.default_rng(0).exponential(size=(2000, 15))  # far from normal; its median is log 2
        found = [suite("intervals").median_interval(draw.tolist()) for draw in draws]
        assert 0.95 < np.mean([of.low <= np.log(2) <= of.high for of in found]) < 0.98  # 96.5 %


class TestReport:
    def rounds(self, now: float, drift: bool = True) -> list[Any]:
        """A machine that gets slower by half from round to round, unless it does not drift."""
        noise = np.random.default_rng(0).normal(1, 0.02, (15, 3))
        slow = 1.5 ** np.arange(15) if drift else np.ones(15)
        return [
            {
                "plain": {"us": 100 * s * a, "rate": 1 / (s * a)},
                "before": {"us": 100 * s * b, "rate": 1 / (s * b)},
                "easylearn": {"us": 100 * now * s * c, "rate": 1 / (now * s * c)},
            }
            for s, (a, b, c) in zip(slow, noise, strict=True)
        ]

    def test_ratios_are_taken_within_a_round(self, suite: Callable[[str], Any]) -> None:
        found = suite("report").paired(self.rounds(1.1), ("easylearn", "us"), ("plain", "us"))
        assert 1.05 < found.low < found.median < found.high < 1.15 and found.n == 15

    @pytest.mark.parametrize(("now", "sides"), [(1.1, ["bad"]), (1.0, ["open"]), (0.9, ["good"])])
    def test_a_row_is_worse_if_its_whole_interval_is(
        self, suite: Callable[[str], Any], now: float, sides: list[str]
    ) -> None:
        report, rows = suite("report"), suite("rows")
        rounds = self.rounds(now)
        for part, title in (("loaders", "each one's own loader"), ("images_alone", "first epoch")):  # a time, a rate
            (row,) = (row for row in rows.ROWS if row.part == part and title in row.title)
            assert [row.side(report.against(row, rounds), 1.0)] == sides
            assert report.worse(part, rounds) == ([row.title] if sides == ["bad"] else [])

    def test_what_failed_in_some_rounds_is_compared_in_the_others(self, suite: Callable[[str], Any]) -> None:
        rounds = self.rounds(1.0)
        for made in rounds[10:]:
            del made["easylearn"]
        rounds[0]["plain"]["us"] = float("nan")
        assert suite("report").paired(rounds, ("easylearn", "us"), ("plain", "us")).n == 9
        assert suite("report").paired(rounds, ("best", "us"), ("plain", "us")) is None

    def test_tables(self, suite: Callable[[str], Any]) -> None:
        runs = {"loaders": self.rounds(1.2, drift=False)}
        table = suite("report").ratios_table(runs, ["plain", "easylearn", "before"], judge=True)
        (line,) = (line for line in table.splitlines() if "the same AdamW" in line)
        assert "| 1 (100" in line and "| 1.2" in line and line.endswith("| at most 1.15 | **no** |")
        (line,) = suite("report").against_table(runs, judge=True).splitlines()[2:]
        assert line.endswith("| **worse** |")


class TestRounds:
    @pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]])
    def test_each_is_at_each_place_equally_often(self, suite: Callable[[str], Any], names: list[str]) -> None:
        orders = [suite("workers").in_turn(names, number) for number in range(2 * len(names))]
        assert all(sorted(order) == names for order in orders)
        assert {Counter(order[place] for order in orders)[name] for place in range(len(names)) for name in names} == {2}

    @pytest.fixture
    def part(self, suite: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
        """A part whose workers answer from a list; "best" fails in its third repeat."""
        workers = suite("workers")
        asked: list[str] = []

        class Worker:
            def __init__(self, script: Path, part: str, name: str, settings: Any, checkout: Path) -> None:
                self.name, self.n, self.process = name, 0, SimpleNamespace(pid=1)
                assert settings.scratch.name == f"{part}-{name}"

            def answer(self) -> dict[str, Any]:
                return {"ready": "here"}

            def ask(self) -> dict[str, Any]:
                self.n += 1
                asked.append(self.name)
                return {"error": "it fell"} if self.name == "best" and self.n == 3 else {"figures": {"us": self.n}}

            def end(self) -> None:
                asked.append(f"{self.name} ended")

        monkeypatch.setattr(workers, "Worker", Worker)
        guard = suite("guard").Guard(on=False)
        settings = suite("settings").Settings(True, False, 1, tmp_path, tmp_path)
        made = workers.Part(tmp_path, "text", dict.fromkeys(["plain", "best", "before"], tmp_path), settings, guard)
        made.asked = asked
        return made

    def test_one_that_fails_is_left_out_from_then_on(self, part: Any) -> None:
        part.run(warm_up=1, more=lambda rounds: len(rounds) < 4)
        assert part.errors == {"best": "it fell"}
        assert [sorted(made) for made in part.rounds] == [["before", "best", "plain"]] + [["before", "plain"]] * 3
        assert [made["plain"]["us"] for made in part.rounds] == [2, 3, 4, 5]  # the first one warmed up
        part.end()
        assert part.asked[-3:] == ["plain ended", "best ended", "before ended"]

    def test_a_disturbed_round_is_done_again(self, part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        loads = iter([0.0, 0.9, 0.0])
        monkeypatch.setattr(part.guard, "load", lambda pid, start: next(loads, 0.0))
        part.run(warm_up=0, more=lambda rounds: len(rounds) < 1)
        assert part.guard.redone == 1 and [made["plain"]["us"] for made in part.rounds] == [2]

    def test_what_a_part_does_not_have_is_left_out(self, suite: Callable[[str], Any], tmp_path: Path) -> None:
        settings = suite("settings").Settings(True, False, 1, tmp_path, tmp_path)
        part = suite("workers").Part(tmp_path, "text", {"skorch": tmp_path}, settings, suite("guard").Guard(on=False))
        part.run(warm_up=1, more=lambda rounds: len(rounds) < 2)
        assert part.rounds == [] and part.errors == {}


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


@pytest.mark.slow
def test_units(tmp_path: Path) -> None:
    done = run("units.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_masks(tmp_path: Path) -> None:
    done = run("masks.py", tmp_path, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["impl"] for row in rows] == ["light", "light-whole"] and all(0 <= row["test"] <= 1 for row in rows)
    assert done.stdout.count("| light") == 2
    assert "with a mask" in run("masks.py", tmp_path, "--stage").stdout
    wrong = run("masks.py", tmp_path, "--impl", "smp-unett")
    assert wrong.returncode == 2 and "smp-unett" in wrong.stderr, "nobody else runs under its name"


@pytest.mark.slow
def test_resume(tmp_path: Path) -> None:
    done = run("resume.py", tmp_path, "--kinds", "masks", "boxes-stored", "--json", "out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["runs"]
    assert {name: found["bit-identical"] for name, found in runs.items()} == {"masks": 1, "boxes-stored": 1}
