"""Ratings: the dot product against one written by hand, ids that training never saw, bounds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.learning import Learner
from easylearn.nn.embeddings import DotProduct
from easylearn.tabular.collab import CollabData, collab_learner
from easylearn.tabular.data import TabularData
from easylearn.tabular.embeddings import embeddings
from easylearn.tabular.learner import tabular_learner


def ratings(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Films of two kinds, users who like the one or the other."""
    g = np.random.default_rng(seed)
    df = pd.DataFrame({"user": g.integers(0, 20, n), "film": [f"f{i}" for i in g.integers(0, 15, n)]})
    likes = (df.user % 2) == (df.film.str[1:].astype(int) % 2)
    df["stars"] = np.clip(np.where(likes, 4.5, 1.5) + 0.3 * g.normal(size=n), 1, 5)
    return df


@pytest.fixture
def learner() -> Callable[..., Learner]:
    """A factory of learners of a small table of ratings."""

    def make(data: TabularData | None = None, **changes: Any) -> Learner:
        given = CollabData.from_df(ratings(), batch_size=16) if data is None else data
        return collab_learner(given, **{"n_factors": 4, "device": "cpu", "progress": False, **changes})

    return make


def random_weights(learn: Learner) -> DotProduct:
    """The learner's model, every weight of which is drawn anew."""
    model = learn.model
    assert isinstance(model, DotProduct)
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    return model


# -- data ------------------------------------------------------------------------------------------------------


def test_the_first_three_columns_are_taken_unless_named() -> None:
    df = ratings()
    assert CollabData.from_df(df).cat_names == ["user", "film"]
    named = CollabData.from_df(df[["stars", "film", "user"]], "user", "film", "stars")
    assert named.cat_names == ["user", "film"] and named.preprocessor.targets.columns == ("stars",)
    assert named.task.kind == "regression" and named.cont_names == []


def test_whole_numbers_of_stars_are_no_classes() -> None:
    df = ratings()
    df["stars"] = df.stars.round().astype(int)
    assert CollabData.from_df(df).task.kind == "regression"


def test_a_csv_gives_the_same_as_its_table(tmp_path: Path) -> None:
    df = ratings().round(3)
    df.to_csv(tmp_path / "ratings.csv", index=False)
    a, b = CollabData.from_csv(tmp_path / "ratings.csv", "user", "film", "stars"), CollabData.from_df(df)
    assert a.fingerprint("train") == b.fingerprint("train") and a.fingerprint("valid") == b.fingerprint("valid")
    with pytest.raises(DataError, match="no file"):
        CollabData.from_csv(tmp_path / "none.csv")


def test_pairs_that_come_twice_are_all_kept() -> None:
    df = pd.concat([ratings(50), ratings(50)])
    data = CollabData.from_df(df, valid=None, batch_size=16)
    batches = list(data.loader("train", training=True).batches(torch.device("cpu")))
    assert sum(len(b.index) for b in batches) == 100
    assert len(data.ids("train")) == 100


def test_the_last_ratings_by_time_validate() -> None:
    df = ratings(100).assign(when=pd.date_range("2020-01-01", periods=100))
    data = CollabData.from_df(df, "user", "film", "stars", valid=0.1, time="when")
    target = data.target("valid")
    assert target is not None and np.allclose(target.ravel(), df.stars[-10:].to_numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stars": np.nan}, "stars"),
        ({"stars": "good"}, "good"),
    ],
)
def test_a_rating_that_is_no_number_names_its_row(changes: dict[str, Any], message: str) -> None:
    df = ratings(30).astype({"stars": object})
    df.loc[7, "stars"] = changes["stars"]
    with pytest.raises(DataError, match=rf"(?s)(?=.*{message})(?=.*\b7\b)"):
        CollabData.from_df(df)


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ArgumentError, match="DataFrame"):
        CollabData.from_df(np.zeros((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="users, items and ratings"):
        CollabData.from_df(ratings()[["user", "film"]])
    with pytest.raises(DataError, match="flim"):
        CollabData.from_df(ratings(), item="flim")
    with pytest.raises(ArgumentError, match="'rating' here"):
        CollabData.from_df(ratings(), rating_name="stars")  # type: ignore[call-arg]


# -- the dot product -------------------------------------------------------------------------------------------


def test_predictions_are_the_dot_product_written_by_hand(learner: Callable[..., Learner]) -> None:
    df = ratings()
    learn = learner(CollabData.from_df(df, valid=None, y_range=(0.0, 6.0)))
    model = random_weights(learn)
    users, films = embeddings(learn, "user"), embeddings(learn, "film")
    by_hand = []
    for user, film in zip(df.user[:20].tolist(), df.film[:20].tolist(), strict=True):
        u, f = users.loc[user].to_numpy(np.float64), films.loc[film].to_numpy(np.float64)
        score = float(u[:-1] @ f[:-1] + u[-1] + f[-1] + model.bias.item())
        by_hand.append(6 / (1 + np.exp(-score)))
    said = learn.predict(df.head(20)).probs.ravel().tolist()
    assert np.allclose(said, by_hand, atol=1e-4)
    assert users.shape == (20 + 2, 4 + 1) and films.shape == (15 + 2, 4 + 1)


def test_without_bounds_it_begins_at_the_mean_of_the_ratings(learner: Callable[..., Learner]) -> None:
    df = ratings()
    learn = learner(CollabData.from_df(df, valid=None, y_range=None), n_factors=1)
    with torch.no_grad():
        for p in learn.model.parameters():
            p.zero_()
    assert float(learn.predict(df.head(1)).probs) == pytest.approx(df.stars.mean(), abs=1e-4)


@pytest.mark.parametrize("use_nn", [False, True])
def test_it_learns_who_likes_what(learner: Callable[..., Learner], use_nn: bool) -> None:
    learn = learner(use_nn=use_nn, wd=0.0)
    learn.fit_one_cycle(5e-2, 8)
    predicted, truth = learn.predict()
    assert float(((predicted - truth) ** 2).mean()) < 0.5  # 2.3 for the mean


def test_the_same_seed_gives_the_same_model(learner: Callable[..., Learner], disturb: Callable[[], None]) -> None:
    vectors = []
    for seed in (1, 1, 2):
        disturb()
        learn = learner(seed=seed)
        learn.fit(0.01, 1)
        vectors.append(learn.model.state_dict()["users.weight"])
    assert torch.equal(vectors[0], vectors[1]) and not torch.equal(vectors[0], vectors[2])


# -- ids that training did not see -----------------------------------------------------------------------------


def test_who_is_unknown_gets_the_vector_of_the_unknown(learner: Callable[..., Learner]) -> None:
    df = ratings()
    learn = learner(CollabData.from_df(df, valid=None, batch_size=16, y_range=(0.0, 6.0)))
    model = random_weights(learn)
    new = pd.DataFrame({"user": [999, 3, 999, None], "film": ["f1", "film 999", "film 999", "f1"]})
    said = learn.predict(new).probs.ravel()
    users, films = embeddings(learn, "user"), embeddings(learn, "film")
    seen, at = (users.index.get_loc(3), films.index.get_loc("f1")), (0, 1)  # unknown and missing come first
    for place, (u, f) in enumerate([(at[0], seen[1]), (seen[0], at[0]), (at[0], at[0]), (at[1], seen[1])]):
        user, film = users.iloc[u].to_numpy(np.float64), films.iloc[f].to_numpy(np.float64)
        score = float(user[:-1] @ film[:-1] + user[-1] + film[-1] + model.bias.item())
        assert float(said[place]) == pytest.approx(6 / (1 + np.exp(-score)), abs=1e-4)


def test_a_film_that_all_like_is_liked_by_who_is_unknown(learner: Callable[..., Learner]) -> None:
    df = ratings()
    df.loc[df.film == "f1", "stars"], df.loc[df.film == "f2", "stars"] = 4.9, 1.1
    learn = learner(CollabData.from_df(df, batch_size=16))
    learn.fit_one_cycle(5e-2, 6)
    with pytest.warns(EasyLearnWarning, match="'user'.*999"):
        good, bad = learn.predict([{"user": 999, "film": "f1"}, {"user": 999, "film": "f2"}]).labels
    assert good > bad + 1


@pytest.mark.parametrize("use_nn", [False, True])
def test_ids_first_seen_in_validation_or_later_are_counted(learner: Callable[..., Learner], use_nn: bool) -> None:
    df = ratings()
    more = pd.DataFrame({"user": [77], "film": ["f1"], "stars": [3.0]})
    data = CollabData.from_df(df, valid=more, batch_size=16)
    learn = learner(data, use_nn=use_nn)
    assert np.isfinite(learn.validate()["valid_loss" if "valid_loss" in learn.validate() else "loss"])
    assert 77 not in data.preprocessor.processor.levels("user")
    one = learn.predict({"user": 5, "film": "none such"})
    assert 1.0 <= float(one.probs) <= 5.0


def test_rare_ids_fold_into_unknown() -> None:
    df = pd.concat([ratings(), pd.DataFrame({"user": [50], "film": ["f1"], "stars": [2.0]})], ignore_index=True)
    assert 50 in CollabData.from_df(df, valid=None).preprocessor.processor.levels("user")
    assert 50 not in CollabData.from_df(df, valid=None, min_count=2).preprocessor.processor.levels("user")


# -- bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_nn", [False, True])
@pytest.mark.parametrize("bounds", ["auto", (0.5, 5.5)])
def test_predictions_keep_to_the_bounds(learner: Callable[..., Learner], use_nn: bool, bounds: Any) -> None:
    df = ratings()
    learn = learner(CollabData.from_df(df, y_range=bounds), use_nn=use_nn)
    with torch.no_grad():
        for p in learn.model.parameters():
            p.mul_(1e3).add_(0.1)
    low, high = (0.5, 5.5) if bounds != "auto" else (df.stars.min() - 0.41, df.stars.max() + 0.41)
    said = learn.predict().probs
    assert said.min() >= low - 1e-5 and said.max() <= high + 1e-5


def test_the_learners_bounds_go_before_those_of_the_data(learner: Callable[..., Learner]) -> None:
    learn = learner(CollabData.from_df(ratings(), y_range=(0.0, 6.0)), y_range=(-10.0, 10.0))
    with torch.no_grad():
        random_weights(learn).bias.fill_(100.0)
    assert float(learn.predict().probs.max()) == pytest.approx(10.0, abs=1e-3)


# -- the neural version, and other models' arguments -----------------------------------------------------------


def test_the_neural_version_is_a_network_of_the_given_layers(learner: Callable[..., Learner]) -> None:
    learn = learner(use_nn=True, layers=[6, 3], emb_szs={"user": 5, "film": 2}, ps=0.25)
    assert [m.out_features for m in learn.model.modules() if isinstance(m, nn.Linear)] == [6, 3, 1]
    assert embeddings(learn, "user").shape[1] == 5 and embeddings(learn, "film").shape[1] == 2


def test_other_tables_and_sizes_are_refused(learner: Callable[..., Learner]) -> None:
    df = ratings()
    three = TabularData.from_df(
        df.assign(day=df.user % 7), "stars", cat_names=["user", "film", "day"], cont_names=[], task="regression"
    )
    with pytest.raises(ArgumentError, match="tabular_learner"):
        collab_learner(three)
    classes = TabularData.from_df(
        df.assign(stars=df.stars > 3), "stars", cat_names=["user", "film"], cont_names=[], task="single_label"
    )
    with pytest.raises(ArgumentError, match="CollabData"):
        collab_learner(classes)
    with pytest.raises(ArgumentError, match="n_factors must be a whole number of at least 1"):
        learner(n_factors=0)
    with pytest.raises(ArgumentError, match="'optimizer' here"):
        learner(opt_func=torch.optim.Adam)


def test_a_table_learner_takes_ratings_too() -> None:
    learn = tabular_learner(CollabData.from_df(ratings()), [4], device="cpu", progress=False)
    assert learn.predict().probs.shape == (80, 1)
