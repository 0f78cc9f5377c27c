"""What all ways of making text data share: options written once, and a vocabulary by whatever has one."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from easylearn.errors import ArgumentError, WeightsError
from easylearn.export import load_learner, load_predictor
from easylearn.learning import Learner
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.learner import language_model_learner, text_classifier_learner
from easylearn.texts.options import (
    LabelKeywords,
    LabelOptions,
    StreamKeywords,
    StreamOptions,
    TextKeywords,
    TextOptions,
    vocabulary_of,
)
from easylearn.texts.tokenize import WordTokenizer
from easylearn.texts.transfer import read_encoder, save_encoder

TEXTS = ["a good film", "a bad film", "A film"] * 6
SMALL: dict[str, Any] = {"emb_size": 6, "n_hidden": 6, "n_layers": 1, "device": "cpu", "progress": False}


def lm(path: Path, tokenizer: Any = None) -> Learner:
    data = TextLMData.from_lists(TEXTS, min_freq=1, batch_size=2, bptt=5, progress=False, tokenizer=tokenizer)
    return language_model_learner(data, path=path / "models", **SMALL)


@pytest.mark.parametrize(
    ("options", "keywords"),
    [(TextOptions, TextKeywords), (StreamOptions, StreamKeywords), (LabelOptions, LabelKeywords)],
)
def test_type_checkers_see_the_same_options(options: Any, keywords: Any) -> None:
    fields = {f.name: f.type for f in dataclasses.fields(options)}
    assert list(get_type_hints(keywords)) and set(get_type_hints(keywords)) == set(fields)


@pytest.mark.parametrize(
    "make",
    [
        TextLMData.from_df, TextLMData.from_csv, TextLMData.from_folder, TextLMData.from_lists, TextData.from_df,
        TextData.from_csv, TextData.from_folder, TextData.from_lists, TextData.from_pairs,
    ],
)  # fmt: skip
def test_every_constructor_shows_and_explains_all_of_them(make: Any) -> None:
    options = LabelOptions if make.__self__ is TextData else StreamOptions
    parameters = inspect.signature(make).parameters
    for field in dataclasses.fields(options):
        assert parameters[field.name].default == field.default and f"{field.name}:" in (make.__doc__ or "")
    assert "options" not in parameters
    with pytest.raises(ArgumentError, match=r"no argument 'bs'. It is called 'batch_size' here"):
        make("x", bs=3)
    with pytest.raises(ArgumentError, match=r"tokeniser.*tokenizer"):
        make("x", tokeniser="word")


class TestVocabulary:
    def test_of_whatever_has_one(self, tmp_path: Path) -> None:
        learn = lm(tmp_path, WordTokenizer(lower=False))
        learn.export(tmp_path / "lm.easylearn")
        data = learn.data
        assert isinstance(data, TextLMData)
        predictor = load_predictor(tmp_path / "lm.easylearn", device="cpu")
        again = load_learner(tmp_path / "lm.easylearn", device="cpu", progress=False)
        processor = data.preprocessor.processor
        for given in (learn, data, data.preprocessor, processor, data.vocab, predictor, again, again.data):
            vocab, tokenizer = vocabulary_of(given)
            assert vocab == data.vocab and isinstance(tokenizer, WordTokenizer) and not tokenizer.lower
        vocab, tokenizer = vocabulary_of(learn, str.split)
        assert vocab == data.vocab and tokenizer.tokenize(["a b"]) == [["a", "b"]]

    def test_by_the_name_of_what_was_saved(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        learn = lm(Path(), WordTokenizer(lower=False))
        file = save_encoder(learn, "films")
        learn.export("lm.easylearn")
        found = text_classifier_learner(
            TextData.from_lists(TEXTS, ["a", "b"] * 9, vocab="films", progress=False), **SMALL
        )
        found.export(tmp_path / "classifier")
        names = ["films", "models/films", str(file), file, file.absolute(), read_encoder(file), "lm", "lm.easylearn"]
        for given in (*names, Path("lm.easylearn"), "classifier", tmp_path / "classifier"):
            vocab, tokenizer = vocabulary_of(given)
            assert vocab == learn.data.vocab and isinstance(tokenizer, WordTokenizer) and not tokenizer.lower  # type: ignore[attr-defined]

    def test_a_tokenizer_that_no_file_can_hold_is_asked_for(self, tmp_path: Path) -> None:
        file = save_encoder(lm(tmp_path, str.split), "own")
        with pytest.raises(ArgumentError, match=r"own\.safetensors does not say.*tokenizer="):
            vocabulary_of(file)
        assert vocabulary_of(file, str.split)[1].tokenize(["a b"]) == [["a", "b"]]

    def test_refused(self, tmp_path: Path, make_learner: Any) -> None:
        for given in (["a", "b"], 3, make_learner(), make_learner().data):
            with pytest.raises(ArgumentError, match=rf"vocab must be .*got {type(given).__name__}"):
                vocabulary_of(given)
        with pytest.raises(WeightsError, match="there is no encoder"):
            vocabulary_of(tmp_path / "none")
        make_learner().export(tmp_path / "tensors")
        with pytest.raises(WeightsError, match="tensors holds no vocabulary"):
            vocabulary_of(tmp_path / "tensors")
        weights = make_learner().save("weights")
        with pytest.raises(WeightsError, match="holds no encoder"):
            vocabulary_of(weights)
