"""What is delivered: the licence, the oldest Python, and what the sdist and the wheel hold."""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
OLDEST = tuple(int(n) for n in PROJECT["requires-python"].removeprefix(">=").split("."))
LICENCE = ROOT / "docs" / "LICENSE"


def test_the_licence_is_apaches_own_text_to_the_last_line() -> None:
    assert hashlib.sha256(LICENCE.read_bytes()).hexdigest() == (
        "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    )


def test_the_oldest_python_is_the_same_everywhere() -> None:
    classified = [
        tuple(int(n) for n in match[1].split("."))
        for text in PROJECT["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text))
    ]
    assert min(classified) == OLDEST and classified == sorted(classified)
    assert SETTINGS["tool"]["mypy"]["python_version"] == "{}.{}".format(*OLDEST)
    assert SETTINGS["tool"]["ruff"]["target-version"] == "py{}{}".format(*OLDEST)


def test_no_file_needs_the_grammar_of_a_newer_python() -> None:
    def newer(code: str) -> bool:
        try:
            ast.parse(code, feature_version=OLDEST)
        except SyntaxError:
            return True
        return False

    assert newer("type Pair = tuple[int, int]") and newer("try:\n    f()\nexcept* OSError:\n    pass")
    files = [f for folder in ("easylearn", "tests", "examples", "docs") for f in (ROOT / folder).rglob("*.py")]
    assert len(files) > 200
    assert [f for f in files if newer(f.read_text(encoding="utf-8"))] == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, made from a copy of the files, and the wheel, made from the sdist; without a network."""
    pytest.importorskip("build", reason="packages are built with the extra `dev`")
    folder = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for part in ("docs", "easylearn", "examples", "tests"):
        shutil.copytree(ROOT / part, folder / "copy" / part, ignore=ignored)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / "copy")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    printed = done.stdout + done.stderr
    assert done.returncode == 0 and "Deprecat" not in printed, printed
    return folder / "dist"


def of_the_package() -> set[str]:
    """The files that whoever installs it must get; `runtime` is another distribution."""
    left_out = {"__pycache__", "runtime"}
    files = {f for f in (ROOT / "easylearn").rglob("*") if f.is_file() and not left_out & {*f.parts}}
    return {f.relative_to(ROOT).as_posix() for f in files}


def test_the_wheel_holds_the_package_and_the_licence(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        files = {name.partition(".dist-info/")[2] or name for name in wheel.namelist()}
        texts = {Path(n).name: wheel.read(n) for n in wheel.namelist() if ".dist-info/" in n}
    assert {"easylearn/py.typed", "easylearn/analysis/page.html"} <= set(of_the_package())
    assert files - of_the_package() == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/docs/LICENSE", "top_level.txt"
    }  # fmt: skip
    assert of_the_package() <= files and texts["LICENSE"] == LICENCE.read_bytes()
    assert b"Tag: py3-none-any" in texts["WHEEL"] and b"easylearn = easylearn.cli:main" in texts["entry_points.txt"]
    about = Parser().parsestr(texts["METADATA"].decode())
    assert about["License-Expression"] == "Apache-2.0" and about["License-File"] == "docs/LICENSE"
    assert about["Requires-Python"] == PROJECT["requires-python"]
    assert about["Description-Content-Type"] == "text/markdown"


def test_the_sdist_holds_what_the_wheel_is_made_of(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        files = {m.name.partition("/")[2] for m in sdist.getmembers() if m.isfile()}
    # setuptools takes the tests at the top of their folder of its own accord
    files = {name for name in files if not name.startswith(("easylearn.egg-info/", "tests/test_"))}
    beside = {"PKG-INFO", "README.md", "docs/LICENSE", "pyproject.toml", "setup.cfg"}
    assert files == of_the_package() | beside
