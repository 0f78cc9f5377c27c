"""What a table model learnt about categories: read out, drawn, and handed to scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from easylearn.errors import ArgumentError, DataError, EasyLearnError, StateError
from easylearn.learning import Learner
from easylearn.tabular.data import TabularData
from easylearn.tabular.embeddings import EntityEmbedder, embeddings, plot_embeddings
from easylearn.tabular.learner import tabular_learner

SHOPS = ["east", "north", "south", "west"]


def table(n: int = 120, seed: int = 0) -> pd.DataFrame:
    g = np.random.default_rng(seed)
    df = pd.DataFrame({"shop": g.choice(SHOPS, n), "size": g.choice(["S", "M", "L"], n), "price": g.normal(size=n)})
    df["sold"] = np.where((df.shop == "east") | (df.shop == "west"), "yes", "no")
    flipped = g.random(n) < 0.1
    df.loc[flipped, "sold"] = np.where(df.sold[flipped] == "yes", "no", "yes")
    return df


@pytest.fixture
def learner() -> Learner:
    """An untrained learner of a small table, with embeddings of lengths that differ."""
    data = TabularData.from_df(
        table(), "sold", cat_names=["shop", "size"], cont_names=["price"], valid=None, batch_size=32
    )
    return tabular_learner(data, [8], linear=False, emb_szs={"shop": 3, "size": 2}, device="cpu", progress=False)


@pytest.fixture
def embedder() -> Callable[..., EntityEmbedder]:
    """A factory of embedders that fit in a moment."""

    def make(**changes: Any) -> EntityEmbedder:
        given: dict[str, Any] = {
            "cat_names": ["shop", "size"], "cont_names": ["price"], "layers": [8], "epochs": 1, "batch_size": 32,
            "emb_szs": {"shop": 3, "size": 2},
        }  # fmt: skip
        return EntityEmbedder(**{**given, **changes})

    return make


# -- as a table ------------------------------------------------------------------------------------------------


def test_each_level_has_the_row_of_its_code(learner: Learner) -> None:
    assert isinstance(learner.data, TabularData)
    frame = embeddings(learner, "shop")
    weight = learner.model.embeddings.tables[0].weight  # type: ignore[union-attr, index]
    assert np.array_equal(frame.to_numpy(), weight.detach().numpy())
    assert list(frame.index)[2:] == SHOPS and frame.index.name == "shop"
    east = learner.data.preprocessor.processor.transform(table()[table().shop == "east"]).cats[0, 0]
    assert np.array_equal(frame.loc["east"].to_numpy(), weight[int(east)].detach().numpy())
    assert embeddings(learner, "size").shape == (5, 2)


def test_the_frame_is_a_copy_or_at_least_leaves_the_model_alone(learner: Learner) -> None:
    before = embeddings(learner, "shop").copy()
    changed = embeddings(learner, "shop") * 0
    assert (changed == 0).all(axis=None)
    pd.testing.assert_frame_equal(embeddings(learner, "shop"), before)


def test_training_moves_the_vectors(learner: Learner) -> None:
    before = embeddings(learner, "shop").to_numpy().copy()
    learner.fit(1e-2, 1)
    assert not np.array_equal(embeddings(learner, "shop").to_numpy()[2:], before[2:])


def test_other_columns_and_other_learners_are_refused(learner: Learner, make_learner: Callable[..., Learner]) -> None:
    with pytest.raises((ArgumentError, DataError), match="shpo"):
        embeddings(learner, "shpo")
    with pytest.raises((ArgumentError, DataError), match="price"):
        embeddings(learner, "price")
    with pytest.raises(ArgumentError, match="tabular_learner"):
        embeddings(make_learner(), "shop")


# -- as a picture ----------------------------------------------------------------------------------------------


def test_the_picture_keeps_most_of_the_variance(learner: Learner) -> None:
    figure = plot_embeddings(learner, "shop")
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    drawn = np.asarray(axes.collections[0].get_offsets())
    values = embeddings(learner, "shop").to_numpy(np.float64)[2:]
    variance = np.sort(np.linalg.eigvalsh(np.cov(values.T)))[::-1]
    assert np.allclose(np.var(drawn, axis=0, ddof=1), variance[:2], atol=1e-7)
    assert [t.get_text() for t in axes.texts] == SHOPS
    assert "shop" in axes.get_title()


def test_chosen_levels_are_named(learner: Learner) -> None:
    (axes,) = plot_embeddings(learner, "shop", levels=["west"]).axes
    assert [t.get_text() for t in axes.texts] == ["west"]
    with pytest.raises(ArgumentError, match=r"no category 'wst'.*west"):
        plot_embeddings(learner, "shop", levels=["wst"])


def test_many_levels_are_thinned_out() -> None:
    df = pd.DataFrame({"store": np.arange(900) % 130, "x": np.sin(np.arange(900.0))})
    data = TabularData.from_df(df, "x", cat_names=["store"], cont_names=[], valid=None, task="regression")
    (axes,) = plot_embeddings(tabular_learner(data, [4], device="cpu"), "store").axes
    assert 30 <= len(axes.texts) <= 60


def test_a_plane_needs_three_levels_in_two_dimensions() -> None:
    df = pd.DataFrame({"two": ["a", "b"] * 20, "x": np.sin(np.arange(40.0))})
    data = TabularData.from_df(df, "x", cat_names=["two"], cont_names=[], valid=None, task="regression")
    with pytest.raises(ArgumentError, match="2 categories"):
        plot_embeddings(tabular_learner(data, [4], device="cpu"), "two")


# -- for scikit-learn ------------------------------------------------------------------------------------------


def test_categories_become_their_vectors(learner: Learner) -> None:
    df = table()
    values = EntityEmbedder(learner).fit(df).transform(df)
    assert values.dtype == np.float32 and values.shape == (len(df), 3 + 2 + 1)
    shops = embeddings(learner, "shop").loc[df["shop"].tolist()].to_numpy()
    sizes = embeddings(learner, "size").loc[df["size"].tolist()].to_numpy()
    assert np.array_equal(values[:, :5], np.concatenate([shops, sizes], 1))
    price = df.price.to_numpy()
    assert np.allclose(values[:, 5], (price - price.mean()) / price.std(), atol=1e-5)


def test_names_of_what_comes_out(embedder: Callable[..., EntityEmbedder]) -> None:
    df = table()
    df.loc[3, "price"] = np.nan
    made = embedder().fit(df, df.sold)
    names = made.get_feature_names_out().tolist()
    assert names[:6] == ["shop_0", "shop_1", "shop_2", "size_0", "size_1", "price"]
    assert len(names) == 7 == made.transform(df).shape[1]  # the flag of missing prices
    shuffled = made.set_output(transform="pandas").transform(df.iloc[::-1])
    assert shuffled.columns.tolist() == names and shuffled.index.equals(df.index[::-1])
    assert isinstance(made.set_output(transform="default").transform(df), np.ndarray)


def test_values_that_were_not_there_in_training(embedder: Callable[..., EntityEmbedder]) -> None:
    df = table()
    made = embedder().fit(df, df.sold)
    new = df.head(2).copy()
    new["shop"] = ["Atlantis", None]
    new.loc[new.index[0], "price"] = np.nan
    values = made.transform(new)
    assert np.isfinite(values).all()
    assert made._fitted is not None
    frame = embeddings(made._fitted, "shop").to_numpy()
    assert np.array_equal(values[:, :3], frame[:2])  # unknown, missing


def test_it_learns_from_y(embedder: Callable[..., EntityEmbedder]) -> None:
    df = table(400)
    made = embedder(epochs=8, lr=3e-2, emb_szs={"shop": 2, "size": 1}).fit(df, df.sold)
    assert made._fitted is not None
    shops = embeddings(made._fitted, "shop")

    def apart(a: str, b: str) -> float:
        return float(np.linalg.norm(shops.loc[a].to_numpy() - shops.loc[b].to_numpy()))

    assert max(apart("east", "west"), apart("north", "south")) < min(apart("east", "north"), apart("west", "south"))


def test_in_a_pipeline(embedder: Callable[..., EntityEmbedder]) -> None:
    df = table(300)
    pipe = make_pipeline(embedder(epochs=3, lr=3e-2), LogisticRegression())
    X, y = df.drop(columns="sold"), df.sold
    pipe.fit(X, y)
    assert pipe.score(X, y) > 0.8
    assert pipe.predict(X.head(3)).shape == (3,)
    assert pipe[:-1].get_feature_names_out().tolist()[-1] == "price"
    pipe.set_params(entityembedder__epochs=1)
    assert pipe.named_steps["entityembedder"].epochs == 1


def test_a_clone_has_the_same_arguments_and_is_not_fitted(
    embedder: Callable[..., EntityEmbedder], learner: Learner
) -> None:
    df = table()
    made = embedder(epochs=2, seed=7).fit(df, df.sold)
    copy = clone(made)
    assert copy.get_params() == made.get_params()
    with pytest.raises((StateError, NotFittedError), match="fit"):
        copy.transform(df)
    assert clone(EntityEmbedder(learner)).learner is learner


def test_the_same_seed_gives_the_same_vectors(
    embedder: Callable[..., EntityEmbedder], disturb: Callable[[], None]
) -> None:
    df, found = table(), []
    for seed in (1, 1, 2):
        disturb()
        found.append(embedder(seed=seed).fit_transform(df, df.sold))
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_fitting_leaves_the_table_and_the_global_generator_alone(embedder: Callable[..., EntityEmbedder]) -> None:
    df = table()
    before, state = df.copy(), torch.random.get_rng_state()
    embedder().fit(df, df.sold.to_numpy())
    pd.testing.assert_frame_equal(df, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_targets_may_be_numbers_and_several(embedder: Callable[..., EntityEmbedder]) -> None:
    df = table()
    y = np.random.default_rng(5).normal(size=(len(df), 2))
    assert embedder(task="regression").fit_transform(df, y).shape == (len(df), 6)


def test_columns_are_guessed_where_none_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    df = table()
    made = EntityEmbedder(layers=[8], epochs=1).fit(df.drop(columns="sold"), df.sold)
    names = {n.rsplit("_", 1)[0] for n in made.get_feature_names_out().tolist()}
    assert names == {"shop", "size", "price"}


def test_what_cannot_be_fitted_is_refused(embedder: Callable[..., EntityEmbedder]) -> None:
    df = table()
    with pytest.raises(ArgumentError, match="needs it"):
        embedder().fit(df)
    with pytest.raises(ArgumentError, match="120 rows, but y has 119"):
        embedder().fit(df, df.sold[1:])
    with pytest.raises(ArgumentError, match="array of rows and columns"):
        embedder().fit(np.zeros(3), [1, 2, 3])
    with pytest.raises(EasyLearnError, match="fit"):
        embedder().transform(df)
    with pytest.raises(ArgumentError, match="epochs"):
        embedder().set_params(epoch=3)
    with pytest.raises(ArgumentError, match="'default' or 'pandas'"):
        embedder().set_output(transform="polars")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="shop"):
        embedder().fit(df, df.sold).transform(df.drop(columns="shop"))


def test_the_repr_names_what_was_given() -> None:
    assert repr(EntityEmbedder(epochs=9)) == "EntityEmbedder(epochs=9)"
