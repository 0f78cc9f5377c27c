"""Occlusion: by hand, what it shows, and what is refused."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from easylearn.errors import ArgumentError
from easylearn.export import load_predictor
from easylearn.learning import Learner
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.interpret import Occlusion, occlusion
from easylearn.texts.learner import language_model_learner, text_classifier_learner

SMALL: dict[str, Any] = {"emb_size": 8, "n_hidden": 12, "n_layers": 1, "device": "cpu", "progress": False}
TEXTS = [f"the {w} film we saw {when}" for w in ("good", "fine", "bad", "poor") for when in ("today", "again", "once")]
LABELS = ["pos" if "good" in t or "fine" in t else "neg" for t in TEXTS]

TELLING = {"pos": ["good", "fine"], "neg": ["bad", "poor"]}


def classifier(labels: list[Any] | None = None, **changes: Any) -> Learner:
    how = {n: changes.pop(n) for n in ("max_tokens", "backward") if n in changes}
    given = (LABELS if labels is None else labels) * 4
    data = TextData.from_lists(TEXTS * 4, given, min_freq=1, batch_size=8, progress=False, **how)
    return text_classifier_learner(data, **{**SMALL, **changes})


@pytest.mark.parametrize("backward", [False, True])
def test_each_effect_is_the_probability_with_minus_that_without(backward: bool) -> None:
    learn = classifier(backward=backward)
    data = learn.data
    assert isinstance(data, TextData)
    found = occlusion(learn, "The good film")
    assert found.tokens == ("xxmaj", "the", "good", "film")
    whole = learn.predict("The good film")
    assert found.label == whole.label and found.value == pytest.approx(float(whole.probs.max()), rel=1e-5)
    column = whole.index
    ids = data.preprocessor.processor.encode("The good film")
    for i in range(1, len(ids)):
        changed = [*ids[:i], data.vocab.unk, *ids[i + 1 :]]
        row = [changed[0], *changed[:0:-1]] if backward else changed
        with torch.no_grad():
            logits = learn.model.eval()(torch.tensor([row]), torch.tensor([len(row)]))
        without = float(logits.softmax(1)[0, column])
        assert found.effects[i - 1] == pytest.approx(found.value - without, abs=1e-6)


def one_word_tells() -> tuple[list[str], list[str]]:
    """Texts whose other words say nothing, and are *unknown* as often as any: then only one word can matter.

    In one text of four no word tells; its label is as often the one as the other.
    """
    rng, rare = random.Random(0), iter(range(10**6))
    texts, labels = [], []
    for i in range(320):
        fill = [rng.choice(["the", "film", "we", "saw", "today", f"rare{next(rare)}"]) for _ in range(5)]
        labels.append(["pos", "neg"][i % 2])
        tells = rng.choice(TELLING[labels[-1]]) if i % 8 < 6 else f"rare{next(rare)}"
        fill.insert(rng.randrange(6), tells)
        texts.append(" ".join(fill))
    return texts, labels


@pytest.mark.parametrize("seed", range(3))
def test_the_word_that_tells_is_the_only_one_that_matters(seed: int) -> None:
    texts, labels = one_word_tells()
    data = TextData.from_lists(texts, labels, batch_size=16, valid=None, progress=False)  # what comes once is unknown
    learn = text_classifier_learner(data, **SMALL, drop_mult=0.0, alpha=0, beta=0, seed=seed)
    learn.fit_one_cycle(3e-2, 12)
    for label, words in TELLING.items():
        for word in words:
            text = f"the {word} film we saw today"
            found = occlusion(learn, text)
            other = occlusion(learn, text, "neg" if label == "pos" else "pos")
            assert found.label == label and found.value > 0.95
            assert other.effects == pytest.approx([-e for e in found.effects], abs=1e-5)  # of two classes
            effects = dict(zip(found.tokens, found.effects, strict=True))
            assert effects.pop(word) > 0.1 and max(map(abs, effects.values())) < 0.05


def test_what_is_cut_off_has_no_effect() -> None:
    found = occlusion(classifier(max_tokens=4), "the good film we saw today again")
    assert len(found.effects) == 7 and [e == 0 for e in found.effects] == [True] * 4 + [False] * 3


def test_numbers_and_several_labels() -> None:
    numbers = classifier([i + 0.5 for i in range(12)])
    assert occlusion(numbers, "a good film").value == pytest.approx(numbers.predict("a good film").label, rel=1e-5)
    several = classifier([["x", "y"], ["x"]] * 6)
    assert occlusion(several, "a good film", "y").label == "y" and several.task.kind == "multi_label"


def test_a_predictor_is_asked_as_its_learner_is(tmp_path: Path) -> None:
    learn = classifier(backward=True, max_tokens=5)
    learn.export(tmp_path / "texts")
    found = occlusion(load_predictor(tmp_path / "texts", device="cpu"), "a good film we saw again")
    assert found == occlusion(learn, "a good film we saw again")


def test_nothing_moves_and_it_is_the_same_each_time(weights: Any, same: Any) -> None:
    learn = classifier()
    learn.model.train()
    before, rng = weights(learn), torch.get_rng_state()
    assert occlusion(learn, "a good film") == occlusion(learn, "a good film")
    assert same(before, weights(learn)) and torch.equal(rng, torch.get_rng_state()) and learn.model.training


def test_html_and_drawing() -> None:
    found = Occlusion(("<b>", "good", "$x_$"), (-0.2, 0.4, 0.0), "a & b", 0.75)
    text = found.to_html()
    assert "&lt;b&gt;" in text and "a &amp; b" in text and "<b>good" not in text and found._repr_html_() == text
    assert text.count("<span") == 3 and "rgba(34,136,85,0.75)" in text and "rgba(204,68,51,0.38)" in text
    figure = found.plot()
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["<b>", "good", "$x_$"]
    long = Occlusion(("a",) * 99, tuple(k / 99 for k in range(99)), "a", 0.5)
    assert len(long.plot().axes[0].patches) == 40


def test_an_empty_text() -> None:
    found = occlusion(classifier(), "")
    assert found.tokens == () and "<p>" in found.to_html() and found.plot() is not None


def test_refused(make_learner: Any) -> None:
    with pytest.raises(ArgumentError, match="text classifier"):
        occlusion(make_learner(), "text")
    lm = language_model_learner(
        TextLMData.from_lists(TEXTS * 4, min_freq=1, bptt=5, batch_size=2, progress=False), **SMALL
    )
    with pytest.raises(ArgumentError, match="of language_model"):
        occlusion(lm, "text")
    with pytest.raises(ArgumentError, match="a learner or a predictor, got a str"):
        occlusion("learn", "text")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="one text"):
        occlusion(classifier(), ["text"])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="Did you mean 'pos'"):
        occlusion(classifier(), "text", "poss")
