"""The demo: scikit-learn's handwritten digits as a folder of pictures, through the ordinary path."""

from __future__ import annotations

import html
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ArgumentError
from .files import StrPath, atomic_write
from .learner import Learner
from .vision.data import ImageData
from .vision.learner import vision_learner
from .vision.results import plot_confusion, plot_worst

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_digits(folder: Path) -> None:
    """Write the 1,797 digits of scikit-learn (8 x 8 pixels) as `train/<digit>/*.png` and `valid/<digit>/*.png`."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "valid" if number % 5 == 4 else "train"
        place = folder / part / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(place / f"{number:04d}.png")


def digits(out: StrPath = "easylearn-demo", *, epochs: int = 6, progress: bool = True) -> Learner:
    """Train a resnet18 from scratch on the digits and leave a page with what happened.

    Args:
        out: folder for the pictures, the figures and `index.html`.
        epochs: to train.
        progress: print a line per epoch.

    Returns:
        The trained learner.
    """
    if epochs < 1:
        raise ArgumentError(f"--epochs must be at least 1, got {epochs}")
    begun = time.perf_counter()
    folder = Path(out)
    write_digits(folder / "digits")
    print(f"1. wrote scikit-learn's digits as a folder of pictures: {folder / 'digits'}")

    data = ImageData.from_folder(folder / "digits", size=32, augment="basic")
    learn = vision_learner(data, "resnet18", pretrained=False, path=folder / "models", progress=progress)
    print(f"2. {data}")

    curve = learn.lr_find(end_lr=3.0)
    found = learn.sched.plot()
    print(f"3. lr_find: {curve}")

    print(f"4. training {epochs} epochs")
    record = learn.fit_one_cycle(0.05, epochs)
    predictions = learn.predict()
    saved = learn.save("digits")
    print(f"5. saved the weights: {saved}")

    figures = {
        "a training batch": data.show_batch(),
        "finding a learning rate": found,
        "losses": learn.sched.plot_losses(),
        "learning rate and momentum": learn.sched.plot_lr(),
        "confusion matrix": plot_confusion(learn, predictions),
        "what it is most wrong about": plot_worst(learn, 9, predictions),
    }
    page = _write_page(folder, figures, str(record), f"accuracy {record.last['accuracy']:.1%} on {len(predictions)} digits")
    print(f"6. {record.last['accuracy']:.1%} right after {time.perf_counter() - begun:.0f} s; look at {page}")
    return learn


def _write_page(folder: Path, figures: dict[str, Figure], table: str, headline: str) -> Path:
    parts = [
        "<!doctype html><meta charset=utf-8><title>easylearn demo</title>",
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "figure{display:inline-block;margin:0 1.5rem 1.5rem 0;vertical-align:top}img{max-width:32rem;width:100%}"
        "pre{background:#f4f4f4;padding:1rem;overflow:auto}</style>",
        f"<h1>easylearn demo: {html.escape(headline)}</h1><pre>{html.escape(table)}</pre>",
    ]
    for title, figure in figures.items():
        name = f"{title.replace(' ', '-')}.png"
        figure.savefig(folder / name, dpi=110)
        parts.append(f'<figure><img src="{name}" alt="{html.escape(title)}"><figcaption>{html.escape(title)}</figcaption></figure>')
    page = folder / "index.html"
    with atomic_write(page) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")
    return page
