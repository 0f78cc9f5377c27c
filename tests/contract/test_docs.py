"""Every Python block of the README and the docs runs, and every relative link leads somewhere.

The blocks of one file share their names, as they would in one notebook. They run in a folder that `world` fills with
small pictures under the names that the pages use; published weights are replaced by random ones (of texts, of a small
encoder), so that nothing is downloaded. A block behind `<!-- not run: reason -->` is compiled only.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import numpy as np
import pytest
from PIL import Image

from easylearn.keyed import scoped_rng
from easylearn.texts.bodies import TextBody
from easylearn.vision.archs import get_arch
from easylearn.vision.weights import State, TorchvisionWeights
from examples.made_up import cells, encoder, scenes

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(p.relative_to(ROOT)) for p in PAGES]
BLOCK = re.compile(r"(?P<mark><!-- not run: [^>]+ -->\n+)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


@dataclass(frozen=True)
class Block:
    """Some lines of Python in a page."""

    page: Path
    line: int
    code: str
    runs: bool

    def compiled(self) -> CodeType:
        """Its code, with the line numbers of the page."""
        return compile("\n" * self.line + self.code, str(self.page), "exec")


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, m.start("code")), m["code"], m["mark"] is None) for m in BLOCK.finditer(text)
    ]


def picture(file: Path, kind: int, number: int) -> None:
    """A noisy picture, dark or light by its kind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 90, (48, 64, 3)) + 100 * kind
    Image.fromarray(pixels.astype(np.uint8)).save(file)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of."""
    folder = tmp_path_factory.mktemp("pages")
    names = ("cats", "dogs")
    for part, n in (("train", 4), ("valid", 2)):
        for k in range(2 * n):
            picture(folder / "photos" / part / names[k % 2] / f"{k}.jpg", k % 2, k)
    for k in range(3):
        picture(folder / "photos" / "test" / f"{k}.jpg", k % 2, 50 + k)
    shutil.copytree(folder / "photos" / "train", folder / "unsplit")
    picture(folder / "new.jpg", 1, 99)
    scenes(folder / "roads")
    shutil.copy(folder / "roads" / "valid" / "images" / "0.jpg", folder / "street.jpg")
    cells(folder / "bccd")
    shutil.copy(folder / "bccd" / "images" / "3.jpg", folder / "smear.jpg")

    rows = ["image,tags,height"]
    for k in range(12):
        picture(folder / "planet" / "train-jpg" / f"train_{k}.jpg", k % 2, k)
        rows.append(f"train_{k},{'clear road' if k % 2 else 'haze'},{0.5 + k % 2}")
    (folder / "planet" / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def world(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder holds those files, and weights come from nowhere."""

    def read(weights: TorchvisionWeights) -> State:
        with scoped_rng(0, weights.model):
            return get_arch(weights.model).build().state_dict()

    shutil.copytree(filled, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(TorchvisionWeights, "read", read)
    monkeypatch.setattr(TextBody, "folder", encoder(tmp_path / "encoder"))
    return tmp_path / "world"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_blocks_of_a_page_run(page: Path, world: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        code = block.compiled()
        if block.runs:
            exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_lead_to_files(page: Path) -> None:
    targets = [m[1] for m in LINK.finditer(page.read_text(encoding="utf-8")) if m[1]]
    assert [t for t in targets if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_anchors_name_headings(page: Path) -> None:
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        if match[2]:
            target = page.parent / match[1] if match[1] else page
            heads = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert match[2][1:] in {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in heads}


def test_the_readme_has_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert 'pip install -e ".[demo]" && easylearn demo' in lines
    assert 'pip install -e ".[dev]" && pytest' in lines


def test_blocks_that_do_not_run_are_few() -> None:
    every = [b for page in PAGES for b in blocks(page)]
    assert sum(not b.runs for b in every) <= len(every) // 5


def test_a_block_that_fails_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    code = ("x = 1", "1 / 0", "x / 0")
    mark = "<!-- not run: it fails -->\n"
    page.write_text("\n".join(f"{mark * (k == 1)}```python\n{c}\n```\n" for k, c in enumerate(code)))
    first, second, third = blocks(page)
    assert [b.runs for b in (first, second, third)] == [True, False, True]
    names: dict[str, object] = {}
    exec(first.compiled(), names)
    with pytest.raises(ZeroDivisionError) as caught:
        exec(third.compiled(), names)
    assert page.read_text().splitlines()[caught.traceback[-1].lineno] == "x / 0"
