"""word_model: counts the words of texts, and learns from texts without labels which of them are alike, or what of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.bunch import Data, SplitName
from ..errors import ArgumentError, DataError
from ..options import strict
from ..task import ExclusiveTask, Prediction, Predictions
from .data import TextData
from .sources import Documents, is_frame

PAIRS = (1, 2)  # words, and pairs of neighbours
C = 10.0  # inverse strength of the penalty, for rows of length 1 to 1.4
DIRECTIONS = 100  # and at most one for 20 texts
NAMED = 0.8  # of the texts without labels that something was said of, those it is said of the most surely
LEAST = 8  # texts that have a word or pair, without which it has no part in the directions; of few texts a 500th


@dataclass(frozen=True, eq=False, repr=False)
class WordModel:
    """A logistic regression on which words a text has; `word_model` makes it. It knows no file to be written to.

    Args:
        data: what it learnt from.
        words: TF-IDF of words and pairs in the labelled texts, of scikit-learn.
        directions: how a text lies among the texts without labels, or what these say of its words; None where there
            were none.
        regression: on both side by side.
    """

    data: TextData
    words: Any
    directions: Any
    regression: Any

    def __repr__(self) -> str:
        taught = "" if self.directions is None else ", taught by texts without labels"
        return f"WordModel({self.data.task}, {len(self.words.vocabulary_):,} words and pairs{taught})"

    @strict({"part": "split"})
    def predict(self, items: Any = ..., *, split: SplitName | None = None) -> Any:
        """What it says, as `Learner.predict` does, so that `average_predictions` takes both.

        Args:
            items: a text, several, or rows; left out, they are a whole split.
            split: "train", "valid" or "test"; None is "valid".

        Returns:
            A `Prediction` of one text, else `Predictions`.

        Raises:
            ArgumentError: both were given.
            DataError: there is no such split, or an item is no text.
        """
        task, data = self.data.task, self.data
        if items is ...:
            name: SplitName = "valid" if split is None else split
            texts = list(data.documents(name))
            return Predictions.of(task, self._probs(texts), tuple(data.ids(name)), data.loader(name).target)
        if split is not None:
            raise ArgumentError(f"predict takes items or split={split!r}, not both")
        read = data.preprocessor.read(items)
        probs = self._probs(read.values)
        return Prediction.of(task, probs)[0] if read.single else Predictions.of(task, probs, read.ids)

    def _probs(self, texts: Sequence[str]) -> Tensor:
        said = self.regression.predict_proba(_inputs(self.words, self.directions, texts))
        probs = np.zeros((len(texts), self.data.task.n_out), np.float32)
        probs[:, self.regression.classes_] = said
        return torch.from_numpy(probs)


@strict({"unlabeled": "unlabelled", "texts": "unlabelled"})
def word_model(
    data: Data[Any], unlabelled: Sequence[str] | WordModel = (), *, said: Predictions | None = None
) -> WordModel:
    """TF-IDF and logistic regression, told by texts without labels which words go together; goes beside an encoder.

    The texts without labels give directions in the space of words, the first singular vectors of their TF-IDF (latent
    semantic analysis, doi 10.1002/(SICI)1097-4571(199009)41:6<391::AID-ASI1>3.0.CO;2-9), so that what is learnt of one
    word holds for others that come with it. The regression sees the words and the place along the directions.

    Or another model has `said` what the texts without labels are: a regression on their words learns from that what
    each word says, and what it says of a text is the direction. The texts may then be of another kind, and longer.

    Args:
        data: `TextData`, as `learn.data` is, with one class each; how it is split into tokens makes no difference. Its
            `weights` say how much each training text counts.
        unlabelled: texts of the same kind, the more the better: some thousand and more. Or another `word_model`, whose
            directions are taken.
        said: of the texts without labels, by a learner of the same classes: `learn.predict(unlabelled)`. Of each class
            the same number is taken.

    Returns:
        The model. `average_predictions(learn.predict(texts), words.predict(texts))` is its mean with a learner.

    Raises:
        ArgumentError: the texts have several labels or numbers, those without labels are no list, or `said` is not of
            them.
        DataError: the texts are too many to have been kept, have no words, or one is no text.

    >>> data = TextData.from_lists(["a good film", "a bad film"] * 5, ["pos", "neg"] * 5, valid=[0, 1], progress=False)
    >>> word_model(data, ["good and fine", "so bad and so poor"] * 9).predict("a poor film").label
    'neg'
    """
    if not isinstance(data, TextData):
        raise ArgumentError(f"word_model takes TextData, as learn.data is, got {type(data).__name__}")
    if not isinstance(data.task, ExclusiveTask):
        raise ArgumentError(f"word_model wants one class for each text, and this is {data.task}")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = list(data.documents("train"))
    loader = data.loader("train", training=True)
    target, weights = loader.target, loader.order.weights
    assert target is not None
    share = None if weights is None else weights / weights.mean()
    answers = data.task.class_numbers(target).numpy()
    words = TfidfVectorizer(ngram_range=PAIRS, sublinear_tf=True)
    try:
        words.fit(texts)
    except ValueError as error:
        raise DataError(f"no training text has a word of two letters or more: {error}") from error
    if isinstance(unlabelled, WordModel):
        if said is not None:
            raise ArgumentError("said must be of the texts in unlabelled, which is another word_model; give the texts")
        directions = unlabelled.directions
    elif said is not None:
        directions = _said_of_words(listed(unlabelled), said, data.task, texts)
    else:
        directions = _directions(listed(unlabelled))
    regression = LogisticRegression(C=C, max_iter=1000)
    return WordModel(data, words, directions, regression.fit(_inputs(words, directions, texts), answers, share))


def listed(texts: Any) -> list[str]:
    """Texts without labels as a list."""
    if is_frame(texts) or isinstance(texts, str | Mapping) or not isinstance(texts, Iterable):
        raise ArgumentError(
            "unlabelled must be a list of texts, such as df['text'], or another word_model; got a "
            f"{type(texts).__name__}"
        )
    given = list(texts)
    return list(Documents.from_list(given, where="unlabelled")) if given else []


def surest(
    given: Sequence[str], said: Any, task: ExclusiveTask, fraction: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of texts that something was `said` of those it is said of the most surely: their positions and their classes.

    Args:
        given: the texts.
        said: `Predictions` of them.
        task: of the labelled texts, whose classes they must be.
        fraction: of the texts, which all classes share alike; of each at least one.
    """
    if not isinstance(said, Predictions) or len(said.probs) != len(given) or not given:
        kind = f"of {len(said.probs):,}" if isinstance(said, Predictions) else f"a {type(said).__name__}"
        raise ArgumentError(
            f"said must be learn.predict(unlabelled), of each of the {len(given):,} texts without labels; got {kind}"
        )
    if difference := task.same_as(said.task):
        raise ArgumentError(f"said is of other classes than the data: {difference}")
    if len(given) < task.n_out:
        raise ArgumentError(f"{len(given)} texts without labels are fewer than the {task.n_out} classes; give more")
    each = max(int(fraction * len(given) / task.n_out), 1)
    return _divided(said.probs, each).T.flatten().numpy(), np.repeat(np.arange(task.n_out), each)


def _divided(probs: Tensor, each: int) -> Tensor:
    """For each class the rows, (each, classes), that are most probably of it, none of two classes.

    A row that several want is of that in which it is most probable (of equal ones the first), and the others take the
    next, until no row and class would both change ("stable", Gale and Shapley, 1962). Both go by the same numbers, so
    the surest pairs come first; each turn takes those before the next class is full.
    """
    wanted, of = probs.clone(), torch.full((len(probs),), -1)
    classes = torch.arange(probs.shape[1])
    left = torch.full_like(classes, each)
    while left.any():
        best, at = wanted.max(1)
        order = best.argsort(descending=True, stable=True)[: int((best >= 0).sum())]
        taken = (at[order, None] == classes).cumsum(0, dtype=torch.int32)
        end = int(((taken >= left) & (left > 0)).any(1).int().argmax()) + 1  # with the row that fills a class
        of[order[:end]], left = at[order[:end]], left - taken[end - 1]
        wanted[order[:end]], wanted[:, left == 0] = -1.0, -1.0
    own = torch.where(of[:, None] == classes, probs, -1.0)
    return own.argsort(dim=0, descending=True, stable=True)[:each]


def _counted(texts: Sequence[str]) -> tuple[Any, Any]:
    """TF-IDF of what several texts share, and the rows that it makes of them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    least = min(LEAST, 1 + len(texts) // 500)
    counts = TfidfVectorizer(ngram_range=PAIRS, sublinear_tf=True, min_df=least, dtype=np.float32)
    try:
        return counts, counts.fit_transform(texts)
    except ValueError as error:
        raise DataError(f"the {len(texts):,} texts without labels share no words: {error}") from error


def _directions(given: Sequence[str]) -> Any:
    """The first singular vectors of the texts' words; None where there are no texts."""
    if not given:
        return None
    from sklearn.decomposition import TruncatedSVD
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    counts, found = _counted(given)
    if found.shape[1] < 2:
        raise DataError(f"the {len(given):,} texts without labels share one word alone, which tells of no others")
    svd = TruncatedSVD(min(DIRECTIONS, 1 + len(given) // 20, found.shape[1]), n_iter=2, random_state=0)
    with np.errstate(invalid="ignore"):  # it divides by a variance, which texts that are alike have not
        svd.fit(found)
    return make_pipeline(counts, svd, Normalizer())


@dataclass(frozen=True, eq=False)
class _WordsSay:
    """What words say by a regression, a column for each class or one for two, so that training texts spread by 1."""

    counts: Any
    regression: Any
    spread: float = 1.0

    def transform(self, texts: Sequence[str]) -> Any:
        found = self.regression.decision_function(self.counts.transform(texts))
        return (found[:, None] if found.ndim == 1 else found) / self.spread


def _said_of_words(given: Sequence[str], said: Any, task: ExclusiveTask, train: Sequence[str]) -> _WordsSay:
    """What the words of `given` say, if what was `said` of these is right; `train` are the labelled texts."""
    from sklearn.linear_model import LogisticRegression

    chosen, classes = surest(given, said, task, NAMED)
    counts, found = _counted(given)
    regression = LogisticRegression(C=C, max_iter=1000)
    regression.fit(found[chosen], classes)
    says = _WordsSay(counts, regression)
    return replace(says, spread=float(says.transform(train).std()) or 1.0)


def _inputs(words: Any, directions: Any, texts: Sequence[str]) -> Any:
    """A row for each text: TF-IDF, of the length 1, and the place along the directions, of a length about 1."""
    own = words.transform(texts)
    if directions is None:
        return own
    from scipy import sparse  # type: ignore[import-untyped]

    return sparse.hstack([own, sparse.csr_matrix(directions.transform(texts))]).tocsr()
