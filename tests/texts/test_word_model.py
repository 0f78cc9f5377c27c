"""`word_model`: counted words beside an encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from easylearn.errors import ArgumentError, DataError
from easylearn.task import Predictions, average_predictions
from easylearn.texts.data import TextData
from easylearn.texts.learner import text_classifier_learner
from easylearn.texts.word_model import _divided, word_model

GOOD, BAD = ("good", "great", "fine", "lovely", "superb"), ("bad", "dull", "poor", "awful", "boring")
RNG = np.random.default_rng(0)
UNLABELLED = [f"{' and '.join(RNG.choice(kind, 3))} film" for kind in (GOOD, BAD) for _ in range(60)]
TEXTS = [f"a {word} film {i}" for i in range(6) for word in (GOOD[0], BAD[0], GOOD[1], BAD[1])]
LABELS = ["pos", "neg"] * 12


def some_data(**changes: Any) -> TextData:
    return TextData.from_lists(TEXTS, LABELS, **{"valid": list(range(0, 24, 5)), "progress": False, **changes})


class TestPredictions:
    def test_without_more_texts_it_is_scikit_learns_tfidf_and_regression(self) -> None:
        data, new = some_data(valid=None), ["a good dull film", "great", ""]
        own = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0))
        wanted = own.fit(TEXTS, LABELS).predict_proba(new)
        model = word_model(data)
        np.testing.assert_allclose(model.predict(new).probs.numpy(), wanted, atol=1e-4)
        assert repr(model).startswith("WordModel(single_label of 2 (") and len(repr(model)) < 200

    def test_texts_without_labels_tell_of_words_that_no_label_has(self) -> None:
        new, data = [f"a {w} film" for w in (*GOOD[2:], *BAD[2:])], some_data(valid=[0, 1])
        blind, told = (word_model(data, more).predict(new).probs[:, 1] for more in ([], UNLABELLED))
        assert float(blind.std()) < 1e-6  # words that it never saw
        assert float(told[:3].mean() - told[3:].mean()) > 0.15

    def test_words_learn_from_what_is_said_of_texts_without_labels(self) -> None:
        data, longer = some_data(valid=[0, 1]), [f"{text} {i % 7}" for i, text in enumerate(UNLABELLED)]
        sure = torch.rand(len(longer), generator=torch.Generator().manual_seed(0)) / 2 + 0.5
        good = torch.tensor([any(w in text for w in GOOD) for text in longer])
        probs = torch.where(good, sure, 1 - sure)
        said = Predictions.of(data.task, torch.stack([1 - probs, probs], 1), tuple(map(str, range(len(longer)))))
        words = word_model(data, longer, said=said)
        new = [f"a {w} film" for w in (*GOOD[2:], *BAD[2:])]
        assert words.predict(new).labels == ("pos",) * 3 + ("neg",) * 3
        scores = words.directions.transform(TEXTS[2:])
        assert scores.shape == (22, 1) and abs(float(scores.std()) - 1) < 1e-5
        assert torch.equal(word_model(some_data(), words).predict(new).probs[:, 1] > 0.5, torch.arange(6) < 3)

    def test_of_each_class_as_many_texts_are_taken_those_it_is_said_of_most_surely(self) -> None:
        texts = ["red rose", "blue sky", "green leaf"] * 4
        data = TextData.from_lists(texts, list("abc") * 4, valid=[0], progress=False)
        more = ["red wine"] * 20 + ["blue sea"] * 5 + ["green tea"] * 5
        probs = torch.full((30, 3), 0.1)
        probs[:20, 0], probs[20:25, 1], probs[25:, 2] = 0.8, 0.4, 0.4  # the first is the likeliest of too many
        words = word_model(data, more, said=Predictions.of(data.task, probs, tuple(map(str, range(30)))))
        assert words.directions.transform(["red wine", "blue sea", "green tea"]).argmax(1).tolist() == [0, 1, 2]
        assert words.predict(["wine, red wine", "sea", "tea"]).labels == ("a", "b", "c")

    @hypothesis.given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 9), st.booleans())
    def test_no_text_is_taken_for_two_classes(self, k: int, each: int, seed: int, coarse: bool) -> None:
        """Of three classes and more the second of a text may be surer than the first of others; and of ties two are."""
        n = each * k + seed
        probs = torch.rand(n, k, generator=torch.Generator().manual_seed(seed)).pow(3)
        probs = (probs * 2).round() / 2 if coarse else probs
        rows = _divided(probs, each)
        assert rows.shape == (each, k) and len(rows.flatten().unique()) == each * k
        of = torch.full((n,), -1)
        for c in range(k):
            of[rows[:, c]] = c
        held = torch.where(of >= 0, probs.gather(1, of.clamp_min(0)[:, None])[:, 0], -1.0)
        least = torch.stack([probs[rows[:, c], c].min() for c in range(k)])
        both = (probs > held[:, None]) & (probs > least)  # a row and a class that would rather have each other
        assert not both.any()
        if k == 2 and not coarse:
            two = torch.stack([1 - probs[:, 0], probs[:, 0]], 1)
            assert torch.equal(_divided(two, each), two.argsort(dim=0, descending=True, stable=True)[:each])

    def test_classes_that_want_the_same_texts_take_no_more_turns_than_there_are_classes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of one class that is all but sure the others want the same texts, one after the other."""
        turns, argsort = [], torch.Tensor.argsort

        def counted(*args: Any, **how: Any) -> torch.Tensor:
            turns.append(1)
            return argsort(*args, **how)

        logits = 0.1 * torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
        logits[:, 0] = torch.linspace(0, 3, 300)
        monkeypatch.setattr(torch.Tensor, "argsort", counted)
        assert len(_divided(logits.softmax(1), 50).flatten().unique()) == 300 and len(turns) <= 7

    def test_says_the_same_of_a_split_as_of_its_texts_and_knows_the_targets(self) -> None:
        data = some_data()
        words = word_model(data, UNLABELLED)
        split = words.predict()
        assert split.ids == tuple(data.ids("valid")) and torch.equal(split.targets, data.loader("valid").target)
        again = words.predict([TEXTS[i] for i in range(0, 24, 5)])
        assert torch.equal(split.probs, again.probs) and again.targets is None
        one = words.predict(TEXTS[5])
        assert one.label == split.labels[1] and torch.equal(one.probs, split.probs[1])
        torch.testing.assert_close(words.predict(split="train").probs.sum(1), torch.ones(19))

    def test_goes_into_a_mean_with_a_learner(self) -> None:
        data = some_data(min_freq=1)
        learn = text_classifier_learner(data, emb_size=4, n_hidden=4, n_layers=1, device="cpu", progress=False)
        words = word_model(learn.data, UNLABELLED)
        for both in (
            (learn.predict(), words.predict()),
            (learn.predict(["a fine film"]), words.predict(["a fine film"])),
        ):
            torch.testing.assert_close(average_predictions(*both).probs, (both[0].probs + both[1].probs) / 2)

    def test_takes_the_directions_of_another_and_is_the_same_each_time(self) -> None:
        first, again = (word_model(some_data(), UNLABELLED) for _ in range(2))
        assert torch.equal(first.predict().probs, again.predict().probs)
        other = word_model(some_data(valid=[0, 1]), first)
        assert other.directions is first.directions
        assert other.predict(["a superb film"]).labels == ("pos",)

    def test_each_text_counts_as_often_as_it_is_drawn(self) -> None:
        weights = np.array([4.0, 1.0] * 12)
        own = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0))
        own.fit(TEXTS, LABELS, logisticregression__sample_weight=weights / weights.mean())
        found = word_model(some_data(valid=None, weights=weights.tolist())).predict(TEXTS).probs.numpy()
        np.testing.assert_allclose(found, own.predict_proba(TEXTS), atol=1e-4)
        plain = word_model(some_data(valid=None)).predict(TEXTS).probs.numpy()
        assert np.abs(found - plain).max() > 0.02

    @pytest.mark.filterwarnings("error")
    def test_texts_without_labels_of_any_sequence_also_few_and_alike(self) -> None:
        data, alike = some_data(), ["a dull film"] * 30
        wanted = word_model(data, alike).predict().probs
        assert wanted.isfinite().all()
        for given in (pd.Series(alike, index=range(7, 37)), np.array(alike), tuple(alike)):
            assert torch.equal(word_model(data, given).predict().probs, wanted)

    def test_three_classes(self) -> None:
        data = TextData.from_lists(
            ["red rose", "blue sky", "green leaf"] * 4, list("abc") * 4, valid=[0], progress=False
        )
        assert word_model(data).predict(["a leaf", "the sky", "one rose"]).labels == ("c", "b", "a")


class TestRefusals:
    def test_wants_texts_with_one_class_each(self) -> None:
        with pytest.raises(ArgumentError, match=r"TextData.*str"):
            word_model("texts")  # type: ignore[arg-type]
        numbers = TextData.from_lists(TEXTS, np.linspace(0, 1, 24).tolist(), valid=[0], progress=False)
        with pytest.raises(ArgumentError, match=r"one class for each text.*regression"):
            word_model(numbers)

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["fine", None], "unlabelled: item 1"),
            (["a", "b"], "2 texts without labels"),
            (["fine"] * 9, "9 texts without labels share one word"),
            ("one text", "list of texts.*str"),
            (None, "list of texts.*NoneType"),
            (pd.DataFrame({"text": UNLABELLED, "stars": 1}), "list of texts.*DataFrame"),
            ({"fine film": 1}, "list of texts.*dict"),
        ],
    )
    def test_texts_without_labels_that_are_none(self, more: Any, message: str) -> None:
        with pytest.raises((ArgumentError, DataError), match=message):
            word_model(some_data(), more)

    def test_what_is_said_of_other_texts_or_classes(self) -> None:
        data = some_data()
        said = word_model(data).predict(UNLABELLED)
        for more, named in ((UNLABELLED[1:], "got of"), ([], "each of the 0"), (word_model(data), "give the texts")):
            with pytest.raises(ArgumentError, match=f"said must be .*unlabelled.*{named}"):
                word_model(data, more, said=said)
        with pytest.raises(ArgumentError, match=r"said must be .*ndarray"):
            word_model(data, UNLABELLED, said=said.probs.numpy())  # type: ignore[arg-type]
        three = TextData.from_lists(TEXTS, list("abc") * 8, valid=[0], progress=False)
        few = Predictions.of(three.task, torch.full((2, 3), 1 / 3), ("0", "1"))
        with pytest.raises(ArgumentError, match="2 texts without labels are fewer than the 3 classes"):
            word_model(three, UNLABELLED[:2], said=few)
        other = TextData.from_lists(TEXTS, ["good", "bad"] * 12, valid=[0], progress=False)
        with pytest.raises(ArgumentError, match="other classes"):
            word_model(other, UNLABELLED, said=said)

    def test_texts_without_words(self) -> None:
        with pytest.raises(DataError, match="no training text has a word"):
            word_model(TextData.from_lists(["?", "!"] * 5, ["a", "b"] * 5, valid=[0], progress=False))

    def test_texts_that_were_not_kept(self) -> None:
        data = some_data()
        splits = {name: replace(split, documents=None) for name, split in data._splits.items()}
        with pytest.raises(DataError, match=r"texts of the train split.*not kept"):
            word_model(TextData(data.task, splits, data.preprocessor))

    def test_items_and_a_split(self) -> None:
        words = word_model(some_data())
        with pytest.raises(ArgumentError, match="not both"):
            words.predict(TEXTS, split="valid")
        with pytest.raises(DataError, match="test"):
            words.predict(split="test")
        with pytest.raises(DataError, match="item 1"):
            words.predict(["fine", None])
