"""Occlusion: which tokens of a text a classifier decided by."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..analysis.plots import new_figure
from ..artefact.predictor import Predictor
from ..data.order import ItemLoader
from ..errors import ArgumentError
from ..learning import Learner
from ..train.predict import gather
from .preprocess import TextPreprocessor, predictor_of
from .store import TokenStore

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_FOR, _AGAINST = (34, 136, 85), (204, 68, 51)  # green and red, as the colour of a token's ground
MOST_BARS = 40


@dataclass(frozen=True)
class Occlusion:
    """What each token of a text does to a prediction; a notebook shows it as a coloured text.

    Args:
        tokens: of the text, without the mark of its beginning.
        effects: what the prediction loses where the token cannot be read: its value with the token minus its value
            without. Above 0 the token speaks for the label.
        label: the class or number that is looked at.
        value: its probability, or the number, for the whole text.
    """

    tokens: tuple[str, ...]
    effects: tuple[float, ...]
    label: str
    value: float

    def to_frame(self) -> pd.DataFrame:
        """One row per token in the order of the text: token, effect."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame({"token": self.tokens, "effect": self.effects})
        return frame

    def to_html(self) -> str:
        """The text as HTML: the greener a token's ground, the more it speaks for the label; red speaks against it."""
        largest = max((abs(e) for e in self.effects), default=0.0) or 1.0
        words = []
        for token, effect in zip(self.tokens, self.effects, strict=True):
            red, green, blue = _FOR if effect > 0 else _AGAINST
            colour = f"rgba({red},{green},{blue},{abs(effect) / largest * 0.75:.2f})"
            words.append(
                f'<span style="background:{colour};padding:1px 3px;border-radius:3px" title="{effect:+.4f}">'
                f"{html.escape(token)}</span>"
            )
        head = f"<b>{html.escape(self.label)}</b> {self.value:.4g}"
        return f'<div style="line-height:1.9;font-family:sans-serif"><p>{head}</p><p>{" ".join(words)}</p></div>'

    _repr_html_ = to_html

    def plot(self) -> Figure:
        """Draw the effect of each token as a bar; of a long text, of the tokens that matter most."""
        shown = sorted(sorted(range(len(self.tokens)), key=lambda i: -abs(self.effects[i]))[:MOST_BARS])
        figure = new_figure(6.0, 0.6 + 0.21 * max(len(shown), 4))
        axes = figure.add_subplot()
        colours = [np.array(_FOR if self.effects[i] > 0 else _AGAINST) / 255 for i in shown]
        axes.barh(range(len(shown)), [self.effects[i] for i in shown], color=colours)
        axes.set_yticks(range(len(shown)), [self.tokens[i][:24] for i in shown], fontsize=8, parse_math=False)
        axes.invert_yaxis()
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set_xlabel("what is lost without the token")
        axes.set_title(f"{self.label[:40]}: {self.value:.4g}", fontsize=10, parse_math=False)
        return figure


def occlusion(learn: Learner | Predictor, text: str, target: str | int | None = None) -> Occlusion:
    """What each token of a text does to a prediction: each in turn is made *unknown*, and the text is read again.

    After arXiv 1311.2901, which covers parts of an image. A text of n tokens is read n + 1 times, and is cut as
    training texts are (`max_tokens`); what is cut off has no effect.

    Args:
        learn: a text classifier, or the predictor of its file.
        text: one text.
        target: a class's name or number; None takes the most probable class (of numbers, the first).

    Raises:
        ArgumentError: this is no text classifier, or there is no such class.
    """
    predictor = predictor_of(learn, "occlusion")
    texts, task = predictor.preprocessor, predictor.task
    if not isinstance(texts, TextPreprocessor):
        elsewhere = "grad_cam looks into images, permutation_importance into tables"
        raise ArgumentError(f"occlusion needs a text classifier, this model is of {texts.kind}; {elsewhere}")
    if not isinstance(text, str):
        raise ArgumentError(f"occlusion takes one text, got a {type(text).__name__}")
    chosen = None if target is None else task.column(target)
    ids = texts.processor.encode(text)
    n = len(ids)
    rows = np.tile(np.array(ids, np.int32), (n, 1))
    rows[range(1, n), range(1, n)] = texts.vocab.unk  # the mark of the beginning is no token of the text
    source = texts.source_of(TokenStore(rows.ravel(), np.full(n, n)))
    loader = ItemLoader(texts.order(rows, source, predictor.batch_size), source)
    logits, _ = gather(predictor.model, loader, predictor.strategy)
    values = task.activate(logits).double().reshape(n, -1)
    column = chosen or 0
    if chosen is None and task.classes:
        column = int(values[0].argmax())
    effects = (values[0, column] - values[1:, column]).tolist()
    tokens = tuple(texts.vocab[i] for i in ids[1:])
    return Occlusion(tokens, tuple(effects), task.names[column], float(values[0, column]))
