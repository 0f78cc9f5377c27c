"""The site: its pages, its reference and its plots are complete, and it builds strictly without a network.

`.mkdocs.yml` is read by mkdocs; what mkdocs does not check, such as a public name that no page shows, is checked here.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import easylearn
from easylearn import losses, metrics, schedules

pytest.importorskip("mkdocs", reason="the site is built with the extra `docs`")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = {
    match[1]
    for page in (DOCS / "reference").glob("*.md")
    for match in re.finditer(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
}


def pages_of(nav: Any) -> Iterator[str]:
    for entry in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else [nav]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from pages_of(entry)


def read(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names_of(module: ModuleType) -> set[str]:
    """The public functions, classes and metrics that a module defines."""
    own = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }
    return {n for n in own if not inspect.isclass(getattr(module, n)) or n.lower() not in {o for o in own if o != n}}


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".mkdocs.yml").read_text(encoding="utf-8"))
    return found


def test_nav_and_pages_are_the_same(settings: dict[str, Any]) -> None:
    listed = list(pages_of(settings["nav"]))
    assert len(set(listed)) == len(listed)
    there = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md") if not p.name.startswith("_")}
    assert set(listed) - {"readme.md"} == there  # the README lies above, and docs/hooks.py brings it in


def test_every_exported_name_is_in_the_reference() -> None:
    short = {name.rpartition(".")[2] for name in REFERENCE if name.startswith(("easylearn.", "easylearn.metrics."))}
    assert {n for n in easylearn.__all__ if not inspect.ismodule(getattr(easylearn, n))} - short == set()


@pytest.mark.parametrize("module", [schedules, metrics, losses])
def test_every_name_of_a_pure_module_is_in_the_reference(module: ModuleType) -> None:
    helpers = {
        "as_metric",
        "check_suited",
        "item_cross_entropy",
        "check_schedule",
        "Metric",
    }  # Metric is listed as easylearn.Metric
    classes = {n for n, v in vars(module).items() if inspect.isclass(v) and (v.__doc__ or "").startswith("See `")}
    shown = {n.rpartition(".")[2] for n in REFERENCE if n.startswith(f"{module.__name__}.")}
    assert names_of(module) - helpers - classes == shown


def test_every_schedule_is_on_its_page_with_the_plot_of_today() -> None:
    gallery = read(ROOT / "examples" / "schedules_gallery.py", "schedules_gallery")
    functions = {n for n, v in vars(schedules).items() if inspect.isfunction(v) and not n.startswith("_")}
    functions = {n for n in functions if getattr(schedules, n).__module__ == schedules.__name__}
    assert gallery.SINGLE.keys() == functions - {"cycle_steps", "check_schedule"}
    page = (DOCS / "schedules.md").read_text(encoding="utf-8")
    for name, schedule in gallery.SINGLE.items():
        assert f"`s.{name}(" in page and f"(img/{name}.svg)" in page
        assert (DOCS / "img" / f"{name}.svg").read_text(encoding="utf-8") == gallery.svg(schedule)


def test_images_are_small_and_used() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in (*DOCS.rglob("*.md"), ROOT / "README.md"))
    for image in (f for f in (DOCS / "img").iterdir() if f.suffix != ".css"):
        assert image.stat().st_size < 200_000 and image.name in text, image.name


def test_contributing_has_the_commands_of_ci() -> None:
    page = (DOCS / "contributing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    commands = {line.split("#")[0].strip() for block in blocks for line in block.splitlines()}
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {c for c in commands if c not in script} == {'pip install -e ".[dev]"'}  # CI reads that one from the README
    for command in ("pytest", "ruff check .", "ruff format --check .", "mypy", "lint-imports"):
        assert command in commands


def test_docstrings_become_markdown() -> None:
    import griffe

    hooks = read(DOCS / "hooks.py", "hooks")
    text = """See `Learner`.

Args:
    a, b: two.
    c, d,
        e: three.

>>> 1 + 1
2

And `nothing`.
"""
    thing = griffe.Function("thing")
    thing.docstring = griffe.Docstring(text)
    hooks.Docstrings().on_instance(obj=thing)
    assert "[`Learner`][easylearn.Learner]" in thing.docstring.value
    assert (
        "    a,\N{NO-BREAK SPACE}b: two.\n    c,\N{NO-BREAK SPACE}d,\N{NO-BREAK SPACE}e: three."
        in thing.docstring.value
    )
    assert "```pycon\n>>> 1 + 1\n2\n```\n" in thing.docstring.value
    assert "And `nothing`." in thing.docstring.value


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml", "-d", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out


def test_the_site_needs_no_network(site: Path) -> None:
    """No script, style, font or image comes from elsewhere."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=[\"']?([^\"' >]+)", text)
        loaded += re.findall(r"<link\b[^>]*?\brel=[\"']?(?:stylesheet|icon|preconnect|preload)[^>]*", text)
        assert [x for x in loaded if "//" in x] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", style.read_text(encoding="utf-8")), style.name


def test_the_site_shows_signatures_examples_and_links(site: Path) -> None:
    learner = (site / "reference" / "learner.html").read_text(encoding="utf-8")
    assert 'id="easylearn.Learner.fit_one_cycle"' in learner
    assert "reference/learner.html" in (site / "index.html").read_text(encoding="utf-8")
    assert "&gt;&gt;&gt; " in (site / "reference" / "schedules.html").read_text(encoding="utf-8").replace(
        '<span class="gp">', ""
    )
    assert (site / "readme.html").exists() and not (site / "hooks.py").exists()
