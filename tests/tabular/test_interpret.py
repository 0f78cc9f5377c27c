"""Importance and dependence: against scikit-learn and by hand, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import partial_dependence as sk_dependence
from sklearn.inspection import permutation_importance as sk_importance

from easylearn.errors import ArgumentError, DataError
from easylearn.learning import Learner
from easylearn.metrics import Metric, mae, r2, roc_auc
from easylearn.tabular.data import TabularData
from easylearn.tabular.interpret import partial_dependence, permutation_importance
from easylearn.tabular.learner import tabular_learner

COLUMNS = ["shop", "day", "size", "rain"]


def table(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    shop, size = np.array(list("abcd"))[rng.integers(0, 4, n)], rng.normal(50, 7, n)
    df = pd.DataFrame({"shop": shop, "day": rng.integers(0, 7, n), "size": size, "rain": rng.random(n)})
    df["profit"] = 20.0 * (df["shop"] == "a") - 10.0 * (df["shop"] == "b") + df["size"]
    df["label"] = np.where(df["profit"] > 52, "yes", "no")
    return df


def learner(target: str = "profit", df: pd.DataFrame | None = None, epochs: int = 6, **changes: Any) -> Learner:
    settings = {"cat_names": COLUMNS[:2], "cont_names": COLUMNS[2:], "batch_size": 32, **changes}
    data = TabularData.from_df(table() if df is None else df, target, **settings)
    learn = tabular_learner(data, (16,), device="cpu", progress=False)
    if epochs:
        learn.fit_one_cycle(3e-2, epochs)
    return learn


@pytest.fixture(scope="module")
def trained() -> Learner:
    return learner()


class AsEstimator(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A learner as scikit-learn wants it; columns of numbers, so that shops are 0 to 3."""

    def __init__(self, learn: Learner | None = None) -> None:
        self.learn = learn

    def fit(self, X: Any, y: Any) -> AsEstimator:
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> Any:
        assert self.learn is not None
        frame = pd.DataFrame(np.asarray(X, float), columns=COLUMNS)
        frame["shop"] = [("a", "b", "c", "d")[int(v)] for v in frame["shop"]]
        frame["day"] = frame["day"].astype(int)
        return np.array(self.learn.predict(frame).labels)


def plain(learn: Learner) -> tuple[pd.DataFrame, Any]:
    """The validation rows as numbers, and their targets."""
    df = table().loc[[int(i) for i in learn.data.ids("valid")]]
    return df[COLUMNS].assign(shop=df["shop"].map(dict(zip("abcd", range(4), strict=True))).astype(float)), df["profit"]


class TestImportance:
    def test_it_agrees_with_scikit_learn(self, trained: Learner) -> None:
        x, y = plain(trained)
        theirs = sk_importance(
            AsEstimator(trained).fit(x, y), x.astype(float), y, scoring="r2", n_repeats=20, random_state=0
        )
        ours = permutation_importance(trained, metric=r2, repeats=20)
        expected = pd.Series(theirs.importances_mean, index=COLUMNS)
        spread = np.sqrt(pd.Series(theirs.importances_std, index=COLUMNS) ** 2 + ours["std"] ** 2) / np.sqrt(20)
        assert ((ours["mean"] - expected).abs() <= 4 * spread + 1e-6).all()
        assert list(ours.index)[:2] == list(expected.sort_values(ascending=False).index)[:2]

    def test_a_column_that_says_nothing_loses_nothing(self, trained: Learner) -> None:
        found = permutation_importance(trained)
        assert list(found.columns) == ["mean", "std"] and found.index.name == "column"
        assert set(found.index) == set(COLUMNS) and found["mean"].is_monotonic_decreasing
        assert set(found.index[:2]) == {"shop", "size"} and found["mean"].iloc[0] > 20 * abs(found.loc["rain", "mean"])

    def test_it_is_keyed(self, trained: Learner) -> None:
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        first = permutation_importance(trained)
        torch.rand(3)
        pd.testing.assert_frame_equal(first, permutation_importance(trained))
        assert not first.equals(permutation_importance(trained, seed=1))
        torch.set_rng_state(before[0])
        permutation_importance(trained)
        assert torch.equal(before[0], torch.get_rng_state()) and np.random.get_state()[1].tolist() == before[1]

    def test_directions(self, trained: Learner) -> None:
        by_error = permutation_importance(trained, metric=mae)
        assert by_error.loc["size", "mean"] > 0 and permutation_importance(trained, metric=r2).loc["size", "mean"] > 0
        classes = learner("label")
        assert permutation_importance(classes, metric=roc_auc).loc["size", "mean"] > 0.05

    def test_a_number_goes_with_its_flag(self) -> None:
        df = table()
        df["profit"] = 0.0 + df["size"].isna() * 5
        df.loc[::2, "size"] = np.nan
        df["profit"] = np.where(df["size"].isna(), 5.0, 0.0)
        found = permutation_importance(learner(df=df))
        assert found.index[0] == "size" and set(found.index) == set(COLUMNS)

    def test_the_data_is_left_alone(self, trained: Learner) -> None:
        before = trained.data.fingerprint("valid"), trained.validate()
        permutation_importance(trained), partial_dependence(trained, "size")
        assert before == (trained.data.fingerprint("valid"), trained.validate())


class TestDependence:
    @pytest.mark.parametrize("column", ["size", "rain"])
    def test_it_agrees_with_scikit_learn(self, trained: Learner, column: str) -> None:
        x, y = plain(trained)
        values = np.quantile(x[column], [0.1, 0.4, 0.8])
        theirs = sk_dependence(
            AsEstimator(trained).fit(x, y), x.astype(float), [column], custom_values={column: values}, method="brute"
        )
        ours = partial_dependence(trained, column, values=values)
        np.testing.assert_allclose(ours["profit"], theirs["average"][0], rtol=1e-4)
        np.testing.assert_allclose(ours.index, values)

    @pytest.mark.parametrize("scale", ["standard", "quantile", "none"])
    def test_the_values_by_themselves(self, scale: Any) -> None:
        found = partial_dependence(learner(scale=scale, epochs=0), "size", n_points=7)
        held = table()["size"]
        assert len(found) == 7 and found.index.name == "size" and held.min() < found.index.min() < 45
        assert 55 < found.index.max() < held.max()

    def test_categories(self, trained: Learner) -> None:
        found = partial_dependence(trained, "shop")
        assert found.index.tolist() == ["a", "b", "c", "d"]
        assert found["profit"].idxmax() == "a" and found["profit"].idxmin() == "b"
        x = table().loc[[int(i) for i in trained.data.ids("valid")]].assign(shop="b")
        by_hand = np.mean(trained.predict(x).labels)
        assert found.loc["b", "profit"] == pytest.approx(by_hand, rel=1e-4)
        unknown = partial_dependence(trained, "shop", values=["zz", "(missing)", "a"])
        assert unknown.loc["a", "profit"] == pytest.approx(found.loc["a", "profit"])
        days = partial_dependence(trained, "day")
        assert days.index.tolist() == list(range(7))

    def test_classes(self) -> None:
        found = partial_dependence(learner("label"), "size", n_points=5)
        assert list(found.columns) == ["no", "yes"] and found.sum(axis=1).to_numpy() == pytest.approx(np.ones(5))
        assert found["yes"].iloc[-1] > found["yes"].iloc[0]

    def test_some_rows(self, trained: Learner) -> None:
        some = partial_dependence(trained, "size", values=[50], max_rows=10)
        assert some.equals(partial_dependence(trained, "size", values=[50], max_rows=10))
        assert not some.equals(partial_dependence(trained, "size", values=[50], max_rows=10, seed=1))


class TestWords:
    """What the data says of its rows, for the worst of them and for reports."""

    @pytest.mark.parametrize("scale", ["standard", "quantile", "none"])
    def test_rows_in_their_own_units(self, scale: Any) -> None:
        df = table(60)
        df.loc[3, "size"] = np.nan
        data = TabularData.from_df(
            df,
            "profit" if scale == "x" else "label",
            cat_names=COLUMNS[:2],
            cont_names=COLUMNS[2:],
            scale=scale,
            valid=0.2,
        )
        for i, name in enumerate(data.ids("train")):
            said, row = data.describe_item("train", i), df.loc[int(name)]
            assert said["shop"] == row["shop"] and said["day"] == str(row["day"])
            assert float(said["rain"]) == pytest.approx(row["rain"], abs=1e-4)
            assert said["size"] == "nan" or float(said["size"]) == pytest.approx(row["size"], rel=1e-3)
        both = [data.describe_item("train", i)["size"] for i in range(48)]
        assert ("nan" in both) == (3 in [int(i) for i in data.ids("train")])

    def test_a_zero_is_a_zero(self) -> None:
        df = pd.DataFrame({"gain": [0.0] * 30 + [7298.0, 99999.0], "y": [0.5] * 32})
        data = TabularData.from_df(df, "y", cat_names=[], cont_names=["gain"], task="regression", valid=[0, 1])
        assert {data.describe_item("train", i)["gain"] for i in range(30)} == {"0", "7298", "99999"}

    def test_streamed_rows(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        df = table(50)
        df.to_parquet(tmp_path / "t.parquet", row_group_size=7)
        data = TabularData.from_parquet(
            tmp_path / "t.parquet", "profit", cat_names=COLUMNS[:2], cont_names=COLUMNS[2:], stream=True
        )
        for i, name in enumerate(data.ids("valid")):
            assert data.describe_item("valid", i)["shop"] == df["shop"][int(name)]
        learn = tabular_learner(data, (8,), device="cpu", progress=False)
        assert set(permutation_importance(learn, repeats=1).index) == set(COLUMNS)

    def test_notes(self) -> None:
        df = table(60)
        data = TabularData.from_df(
            df.iloc[:40], "profit", cat_names=["shop"], cont_names=["size"],
            valid=df.iloc[40:].assign(shop="zz", size=np.nan),
        )  # fmt: skip
        notes = data.notes()
        assert len(notes) == 2 and "valid split, column shop: 20 unknown (100.0%), for example 'zz'" in notes[0]
        assert "column size: 20 missing" in notes[1]


class TestRefused:
    def test_what_is_no_table(self, make_learner: Callable[..., Learner]) -> None:
        for call in (permutation_importance, lambda learn: partial_dependence(learn, "size")):
            with pytest.raises(ArgumentError, match="for tables"):
                call(make_learner())

    def test_arguments(self, trained: Learner) -> None:
        with pytest.raises(ArgumentError, match="repeats"):
            permutation_importance(trained, repeats=0)
        with pytest.raises(ArgumentError, match="Did you mean 'train'"):
            permutation_importance(trained, "trian")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="higher_is_better"):
            permutation_importance(trained, metric=lambda probs, target: 0.0)
        own = Metric("own", lambda outputs, targets: float(outputs.mean()), True)
        assert len(permutation_importance(trained, metric=own)) == 4
        with pytest.raises(ArgumentError, match="Did you mean 'size'"):
            partial_dependence(trained, "siz")
        with pytest.raises(ArgumentError, match="n_points"):
            partial_dependence(trained, "size", n_points=1)
        with pytest.raises(ArgumentError, match="no values"):
            partial_dependence(trained, "size", values=[])

    def test_splits(self) -> None:
        learn = learner(test=table(20).drop(columns="profit"), epochs=0)
        with pytest.raises(DataError, match="no targets"):
            permutation_importance(learn, "test")
        assert len(partial_dependence(learn, "size", "test")) == 20
        assert len(permutation_importance(learner(test=table(20), epochs=0), "test")) == 4
        with pytest.raises(ArgumentError, match="'split' here"):
            permutation_importance(learn, part="test")  # type: ignore[call-arg]
