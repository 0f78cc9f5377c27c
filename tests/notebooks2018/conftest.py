"""Small stand-ins for the data of 2018's notebooks, and a way to run cells as a notebook does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

Cells = Callable[..., dict[str, Any]]


def write(file: Path, shade: int) -> None:
    """A small image, lighter with a higher shade."""
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(shade + len(file.name)).integers(0, 90, (24, 30, 3))
    Image.fromarray((noise + shade * 40).astype(np.uint8)).save(file)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: data/photos with train, valid and test, data/tags with a csv of several labels."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data"
    for k in range(16):
        write(root / "photos" / ("valid" if k >= 10 else "train") / ("cats", "dogs")[k % 2] / f"{k}.png", k % 2 * 3)
    for k in range(4):
        write(root / "photos" / "test" / f"{k}.png", k)
    rows = ["image_name,tags"]
    for k in range(20):
        write(root / "tags" / "jpg" / f"t_{k}.png", k % 4)
        rows.append(f"t_{k},{('clear road', 'haze', 'clear', 'haze road')[k % 4]}")
    (root / "tags" / "labels.csv").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def run() -> Cells:
    """A function that runs cells one after the other in one namespace; its keywords are there from the beginning."""

    def cells(*sources: str, **names: Any) -> dict[str, Any]:
        namespace = {"__name__": "__main__", **names}
        for number, source in enumerate(sources):
            exec(compile(source, f"cell {number}", "exec"), namespace)
            plt.close("all")
        return namespace

    return cells
