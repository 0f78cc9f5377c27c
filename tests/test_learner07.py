"""The learner of the 2018 modules: arrays of log-probabilities, and an average that is not taken for a stack."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from easylearn.errors import ArgumentError, DataError
from easylearn.learner07 import Learner07
from easylearn.learning import Learner


@pytest.fixture
def pair(make_learner: Callable[..., Learner], make_data: Callable[..., object]) -> tuple[Learner, Learner07]:
    learn = make_learner(data=make_data(n_test=6))
    return learn, Learner07.of(learn)


def test_it_is_the_same_learner(pair: tuple[Learner, Learner07]) -> None:
    learn, old = pair
    assert type(old) is Learner07 and old.model is learn.model and old.data is learn.data
    assert old.optimizer is learn.optimizer and repr(old) == repr(learn)
    old.fit(0.01, 1)
    assert old.epochs_done == 1 and learn.validate() == old.validate()


def test_predict_gives_log_probabilities_of_a_split(pair: tuple[Learner, Learner07]) -> None:
    learn, old = pair
    new = learn.predict()
    found, targets = old.predict_with_targs()
    assert isinstance(found, np.ndarray) and np.allclose(np.exp(found), new.probs, atol=1e-6)
    assert np.array_equal(targets, new.targets) and np.array_equal(found, old.predict())
    for test in (old.predict(True), old.predict(is_test=True)):
        assert np.allclose(np.exp(test), learn.predict(split="test").probs, atol=1e-6)
    assert old.predict_with_targs(True)[1] is None


def test_predict_of_items_and_of_a_named_split_is_as_ever(pair: tuple[Learner, Learner07]) -> None:
    learn, old = pair
    x = torch.randn(3, 5)
    assert torch.equal(old.predict(x).probs, learn.predict(x).probs)
    assert torch.equal(old.predict(split="train").probs, learn.predict(split="train").probs)


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_other_tasks_have_no_logarithm(make_learner: Callable[..., Learner], make_data: object, kind: str) -> None:
    learn = make_learner(data=make_data(kind))  # type: ignore[operator]
    assert np.array_equal(Learner07.of(learn).predict(), learn.predict().probs.numpy())


def test_tta_averages_and_says_so(pair: tuple[Learner, Learner07]) -> None:
    learn, old = pair
    averages = old.TTA()
    probs, targets = averages
    assert averages[0] is probs and averages.predictions.ids == learn.tta().ids
    wanted = learn.tta()
    assert np.array_equal(probs, wanted.probs) and np.array_equal(targets, wanted.targets)
    assert np.array_equal(np.argmax(probs, 1), wanted.probs.argmax(1)) and np.asarray(probs).shape == (10, 3)
    assert np.array_equal(np.concatenate([probs, probs])[10:], wanted.probs) and np.allclose(np.sum(probs, 1), 1)
    for wrong in (np.exp, np.mean):
        with pytest.raises(ArgumentError, match=r"stack=True"):
            wrong(probs)
    assert np.allclose(np.exp(np.log(probs)), probs, atol=1e-6) and np.mean(probs * 1) == pytest.approx(1 / 3)


def test_the_stack_of_the_late_07(pair: tuple[Learner, Learner07]) -> None:
    learn, old = pair
    logs, targets = old.TTA(stack=True)
    assert logs.shape == (1, 10, 3) and np.array_equal(targets, learn.tta().targets)  # tensors have no augmented views
    assert np.allclose(np.mean(np.exp(logs), 0), learn.tta().probs, atol=1e-6)


def test_bad_input(pair: tuple[Learner, Learner07], make_learner: Callable[..., Learner]) -> None:
    _, old = pair
    for call in (
        lambda: old.vocab,
        lambda: old.generate("a"),
        lambda: old.save_encoder("a"),
        lambda: old.load_encoder("a"),
    ):
        with pytest.raises(ArgumentError, match=r"no text|language model|text models"):
            call()
    with pytest.raises(ArgumentError, match="is_test"):
        old.predict(test=True)
    with pytest.raises(DataError, match="test"):
        Learner07.of(make_learner()).TTA(is_test=True)
