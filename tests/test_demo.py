"""The demo, with fewer digits, a smaller net and one epoch; the whole of it is for the eye."""

from __future__ import annotations

import functools
import html.parser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from easylearn import demo
from easylearn.errors import ArgumentError
from easylearn.learner import Learner


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Learner, str]:
    """The folder that the demo filled, its learner, and what it printed."""
    import contextlib
    import io

    out, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("EASYLEARN_CACHE", str(out / "cache"))
        patch.setattr(demo, "ARCH", "squeezenet1_1")
        patch.setattr(demo, "write_digits", functools.partial(demo.write_digits, every=12))
        learn = demo.digits(out, epochs=1, progress=False)
    return out, learn, printed.getvalue()


def test_the_pictures_are_scikit_learns(tmp_path: Path) -> None:
    demo.write_digits(tmp_path, every=30)
    digits = load_digits()
    files = sorted(tmp_path.glob("*/*/*.png"))
    assert len(files) == 60
    for file in files:
        number = int(file.stem)
        assert number % 30 == 0 and file.parent.name == str(digits.target[number])
        assert file.parent.parent.name == ("valid" if number // 30 % 5 == 4 else "train")
        with Image.open(file) as image:
            assert image.size == (32, 32) and image.mode == "L"
            small = np.asarray(image.resize((12, 12), Image.Resampling.BOX), float)
        assert np.corrcoef(small[2:-2, 2:-2].ravel(), digits.images[number].ravel())[0, 1] > 0.9


def test_a_fifth_of_all_digits_validate(tmp_path: Path) -> None:
    demo.write_digits(tmp_path)
    assert len(list(tmp_path.glob("train/*/*.png"))) == 1438
    assert len(list(tmp_path.glob("valid/*/*.png"))) == 359


def test_the_page_shows_every_figure(ran: tuple[Path, Learner, str]) -> None:
    out, _, _ = ran
    shown: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                shown.append(str(dict(attrs)["src"]))

    page = (out / "index.html").read_text(encoding="utf-8")
    Reader().feed(page)
    assert len(shown) == len(set(shown)) == 6
    assert {f.name for f in out.glob("*.png")} == set(shown)
    for name in shown:
        with Image.open(out / name) as image:
            assert min(image.size) > 300
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
    assert "handwritten digits right" in page and "{" not in page.split("</style>")[1]


def test_the_steps_are_printed_in_their_order(ran: tuple[Path, Learner, str]) -> None:
    out, learn, printed = ran
    starts = [printed.index(f"{k}. ") for k in range(1, 7)]
    assert starts == sorted(starts)
    assert str(out / "index.html") in printed and "lr_find:" in printed
    assert learn.record is not None and len(learn.record.epochs) == 1


def test_the_weights_are_left(ran: tuple[Path, Learner, str]) -> None:
    out, learn, _ = ran
    assert learn.path == out / "models"
    assert (out / "models" / "digits.safetensors").is_file()
    learn.load("digits")


def test_epochs_below_one(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="at least 1, got -1"):
        demo.digits(tmp_path, epochs=-1)
