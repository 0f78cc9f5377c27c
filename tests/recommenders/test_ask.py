"""Lists for persons and for histories, items like another, and simple methods beside the recommender."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import easylearn as el
from easylearn.data.bunch import PlainInputs
from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from tests.learners import tables
from tests.recommenders.people import data, learner


@pytest.fixture(scope="module")
def trained() -> Learner:
    learn = learner()
    learn.fit_one_cycle(2e-2, 15)
    return learn


def test_a_person_gets_what_they_do_not_have(trained: Learner) -> None:
    found = el.recommend(trained, "p3", k=4)
    assert list(found.columns) == ["rank", "item", "probability"] and found["rank"].tolist() == [1, 2, 3, 4]
    assert set(found["item"].str[0]) == {"b"}  # an odd person takes items of the second kind
    assert not set(found["item"]) & set(trained.data.taken("p3"))
    assert found["probability"].is_monotonic_decreasing
    everything = el.recommend(trained, "p3", k=500)
    assert len(everything) == 24 - 8  # all but what they took


def test_who_has_everything_gets_nothing(trained: Learner) -> None:
    names = list(trained.task.names)
    assert el.recommend(trained, history=names).empty and trained.predict(names).label == ()
    half = el.recommend(trained, history=[names, names[:-1]])
    assert half["item"].tolist() == names[-1:] and half["probability"].tolist() == [1.0]


def test_several_persons(trained: Learner) -> None:
    found = el.recommend(trained, ["p3", "p0"], k=2)
    assert (
        list(found.columns) == ["id", "rank", "item", "probability"] and found["id"].tolist() == ["p3"] * 2 + ["p0"] * 2
    )
    alone = el.recommend(trained, "p0", k=2)
    assert found["item"].tolist()[2:] == alone["item"].tolist()


def test_a_history_is_a_person(trained: Learner, tmp_path: Path) -> None:
    by_history = el.recommend(trained, history=trained.data.taken("p3"), k=3)
    assert by_history.equals(el.recommend(trained, "p3", k=3))
    new = el.recommend(trained, history=["a2", "a4"], k=3)
    assert set(new["item"].str[0]) == {"a"} and not {"a2", "a4"} & set(new["item"])
    predictor = el.load_predictor(trained.export(tmp_path / "m.easylearn").path, device="cpu")
    assert el.recommend(predictor, history=["a2", "a4"], k=3).equals(new)
    assert len(el.recommend(predictor, history=[["a2"], []], k=3)) == 6
    with pytest.raises(ArgumentError, match="knows no persons"):
        el.recommend(predictor, "p3")


def test_similar_items_are_of_one_kind(trained: Learner) -> None:
    found = el.similar(trained, "a6", k=5)
    assert set(found["item"].str[0]) == {"a"} and "a6" not in set(found["item"])
    vectors = el.item_vectors(trained)
    assert vectors.shape == (24, 8) and vectors.index.name == "item"
    a, b = (vectors.loc[n].to_numpy() for n in ("a6", found["item"][0]))
    assert found["similarity"][0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-4)
    assert len(el.similar(trained, "a6", k=99)) == 23


def test_items_are_drawn(trained: Learner) -> None:
    for items in (None, ["a0", "a2", "b1"]):
        (axes,) = el.plot_items(trained, items).axes
        assert len(axes.texts) == (24 if items is None else 3)
    with pytest.raises(ArgumentError, match="no item 'a1'"):
        el.plot_items(trained, ["a1", "a2", "a4"])


def test_against_simple_methods(trained: Learner) -> None:
    found = el.against(trained)
    assert list(found.scores) == ["this model", "best constant", "item neighbours", "EASE"]
    assert found.scores["this model"] == pytest.approx(trained.validate())
    assert found.scores["best constant"]["recall_10"] < 0.6 < found.scores["EASE"]["recall_10"]
    assert found.scores["item neighbours"]["recall_10"] > 0.85 and found.judged_by == "recall_10"


def test_they_are_what_the_rankers_give(trained: Learner) -> None:
    from easylearn.analysis import rankers

    plain = [rankers.taken(trained.data.plain_inputs(s)) for s in ("train", "valid")]  # type: ignore[arg-type]
    scores = torch.from_numpy(rankers.ease(*plain))
    total = trained.task.accumulator()
    total.add(scores, torch.cat([b.target for b in data().loader("valid").batches(torch.device("cpu"))]))  # type: ignore[misc]
    assert el.against(trained).scores["EASE"]["ndcg_10"] == pytest.approx(total.result()["ndcg_10"])


def test_of_training_persons_they_know_what_the_recommender_knows(trained: Learner) -> None:
    from easylearn.analysis import rankers

    taken = trained.data._split("train").histories  # type: ignore[attr-defined]
    all_of_it = rankers.taken(trained.data.plain_inputs("train"))  # type: ignore[arg-type]
    known = rankers.taken(PlainInputs(words=(taken.known.items, taken.known.starts, 24)))
    assert 0 < known.nnz < all_of_it.nnz
    total = trained.task.accumulator()
    target = torch.cat([b.target for b in trained.data.loader("train").batches(torch.device("cpu"))])  # type: ignore[misc]
    total.add(torch.from_numpy(rankers.neighbours(all_of_it, known)), target)
    found = el.against(trained, "train").scores["item neighbours"]
    assert found["ndcg_10"] == pytest.approx(total.result()["ndcg_10"])


def branched() -> Learner:
    frame = pd.DataFrame({"about": ["rock music", "calm music"] * 8, "size": range(16), "v0": np.arange(16) / 16})
    made = el.MultiData.from_df(frame, "v0", text="about", cont_names=["size"], task="regression", batch_size=4)
    return el.multi_learner(made, progress=False, device="cpu")


def test_vectors_of_items_that_nobody_took_are_learnt_from_what_describes_them(trained: Learner) -> None:
    vectors = el.item_vectors(trained).add_prefix("v")
    known = vectors.assign(about=[f"{'rock' if i[0] == 'a' else 'calm'} music" for i in vectors.index], size=0.0)
    names = [*vectors.columns]
    made = el.MultiData.from_df(known, names, text="about", task="regression", batch_size=8, valid=None)
    learn = el.multi_learner(made, progress=False, device="cpu")
    learn.fit_one_cycle(1e-2, 8)
    found = learn.predict(pd.DataFrame({"about": ["calm music", "rock music"]})).probs.numpy()
    means = np.stack([vectors[vectors.index.str[0] == kind].mean() for kind in "ba"])
    near = found @ means.T
    assert near[0, 0] > near[0, 1] and near[1, 1] > near[1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda learn: el.recommend(learn), "history="),
        (lambda learn: el.recommend(learn, "p1", history=["a0"]), "history="),
        (lambda learn: el.recommend(learn, "p1", k=0), "k must be"),
        (lambda learn: el.recommend(learn, "q1"), "no person 'q1'"),
        (lambda learn: el.similar(learn, "a1"), "no item 'a1'.*has no vector.*mean"),
        (lambda learn: el.item_vectors(branched()), "several inputs.*columns of item_vectors"),
        (lambda learn: el.recommend(branched(), history=["a"]), "several inputs has no vectors of items, nor lists"),
        (lambda learn: el.similar(3, "a1"), "got int"),
        (lambda learn: el.against(tables(progress=False, device="cpu")), "recommender"),
    ],
)
def test_what_is_wrong_is_named(trained: Learner, call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call(trained)
