"""Damaged exports are read right or refused, by the script that tries ten thousand of them."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easylearn.export import load_predictor


def _script() -> Any:
    file = Path(__file__).parents[2] / "examples" / "benchmarks" / "fuzz_exports.py"
    spec = importlib.util.spec_from_file_location("fuzz_exports", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fuzz = _script()


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, Any]]:
    folder = tmp_path_factory.mktemp("exports")
    fuzz.make_exports(folder)
    return {
        f.name: (f.read_bytes(), fuzz.ask(f.name.split(".")[0], load_predictor(f, device="cpu")))
        for f in sorted(folder.iterdir())
    }


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_read_right_or_refused(exports: dict[str, tuple[bytes, Any]], seed: int, one: int, two: int) -> None:
    names = list(exports)
    name = names[one % len(names)]
    raw, expected = exports[name]
    how, damaged = fuzz.damage(raw, exports[names[two % len(names)]][0], seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "damaged"
        path.write_bytes(damaged)
        verdict, why = fuzz.try_file(name.split(".")[0], path, expected, how)
    assert verdict != "wrong", f"{name}, {how}: {why}"


def test_the_damage_is_of_all_kinds(exports: dict[str, tuple[bytes, Any]]) -> None:
    raw, other = exports["table.plain"][0], exports["words.int8"][0]
    done = Counter(fuzz.damage(raw, other, seed)[0] for seed in range(100))
    assert done.keys() == {"bytes", "members", "spec", "header", "weights"}
    changed = [fuzz.damage(raw, other, seed)[1] != raw for seed in range(100)]
    assert sum(changed) > 80
    assert fuzz.damage(raw, other, 7) == fuzz.damage(raw, other, 7)


def test_what_was_not_damaged_is_the_same(exports: dict[str, tuple[bytes, Any]], tmp_path: Path) -> None:
    for name, (raw, expected) in exports.items():
        (tmp_path / "file").write_bytes(raw)
        assert fuzz.try_file(name.split(".")[0], tmp_path / "file", expected, "spec") == ("same", "")


def test_the_watch_sees_what_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    watch = fuzz.Watch()
    watch.file = str(tmp_path / "a")
    watch.on = True
    try:
        (tmp_path / "a").read_text()
        (tmp_path / "b").read_text()
        fuzz.pickle.loads(fuzz.pickle.dumps(Path))
    finally:
        watch.on = False
    assert [w.split()[0] for w in watch.seen] == ["open", "pickle.find_class"] and str(tmp_path / "b") in watch.seen[0]
