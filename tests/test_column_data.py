"""The 2018 names for tables: the Rossmann lesson's shape on a small table, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from easylearn import column_data
from easylearn.column_data import CollabFilterDataset, ColumnarModelData
from easylearn.errors import ArgumentError, DataError
from easylearn.learning import Learner
from easylearn.modeldata import RowLoader
from easylearn.structured import add_datepart, apply_cats, proc_df, train_cats

CATS = ["Store", "DayOfWeek", "StateHoliday"]


def shops(n_stores: int = 6, n_days: int = 60, seed: int = 0) -> pd.DataFrame:
    """Sales that depend on store, weekday and promotion."""
    g = np.random.default_rng(seed)
    days = pd.date_range("2015-01-01", periods=n_days)
    df = pd.DataFrame({"Store": np.repeat(np.arange(1, n_stores + 1), n_days), "Date": np.tile(days, n_stores)})
    df["DayOfWeek"] = df.Date.dt.day_of_week + 1
    df["StateHoliday"] = np.where(g.random(len(df)) < 0.1, "a", "0")
    df["Promo"] = (g.random(len(df)) < 0.4).astype(float)
    df["CompetitionDistance"] = np.where(df.Store == 2, np.nan, 100.0 * df.Store)
    df["Sales"] = 4000 * np.exp(0.1 * df.Store + 0.05 * df.DayOfWeek + 0.3 * df.Promo + 0.05 * g.normal(size=len(df)))
    return df


def exp_rmspe(y_pred: torch.Tensor, targ: torch.Tensor) -> float:
    truth = targ.exp()
    return float((((truth - y_pred.exp()) / truth) ** 2).mean().sqrt())


@pytest.fixture
def features() -> Callable[..., dict[str, Any]]:
    """Arguments of `from_data_frame` over a small table of two categorical and two continuous columns."""

    def make(n: int = 40, **changes: Any) -> dict[str, Any]:
        g = np.random.default_rng(1)
        df = pd.DataFrame({"a": g.integers(0, 4, n), "b": g.integers(0, 3, n), "u": g.normal(size=n), "v": g.random(n)})
        given = {"path": ".", "val_idxs": range(8), "df": df, "y": g.normal(size=n), "cat_flds": ["a", "b"], "bs": 8}
        return {**given, **changes}

    return make


SIZES: dict[str, Any] = {
    "emb_szs": [(5, 3), (4, 2)],
    "n_cont": 2,
    "emb_drop": 0.0,
    "out_sz": 1,
    "szs": [8, 4],
    "drops": [0.0, 0.0],
}


def test_the_lessons_script_runs_and_learns(tmp_path: Path) -> None:
    joined, joined_test = shops(), shops(n_days=10, seed=1).drop(columns="Sales")
    joined_test.loc[0, "StateHoliday"] = "new"
    add_datepart(joined, "Date", drop=False)
    add_datepart(joined_test, "Date", drop=False)
    contin = ["CompetitionDistance", "Promo", "Day"]
    joined = joined[[*CATS, *contin, "Sales", "Date"]].copy()
    joined_test = joined_test[[*CATS, *contin, "Date"]].copy()
    for name in CATS:
        joined[name] = joined[name].astype(str)
        joined_test[name] = joined_test[name].astype(str)
    train_cats(joined)
    apply_cats(joined_test, joined)
    joined, joined_test = joined.set_index("Date"), joined_test.set_index("Date")  # dates come several times

    df, y, nas, mapper = proc_df(joined, "Sales", do_scale=True)
    df_test, _, nas, mapper = proc_df(joined_test, do_scale=True, mapper=mapper, na_dict=nas)
    yl = np.log(y)
    val_idx = np.flatnonzero(df.index >= pd.Timestamp("2015-02-20"))

    md = ColumnarModelData.from_data_frame(
        tmp_path, val_idx, df, yl.astype(np.float32), cat_flds=CATS, bs=32, test_df=df_test
    )
    cat_sz = [(c, len(joined[c].cat.categories) + 1) for c in CATS]
    emb_szs = [(c, min(50, (c + 1) // 2)) for _, c in cat_sz]
    m = md.get_learner(
        emb_szs, len(df.columns) - len(CATS), 0.04, 1, [32, 16], [0.001, 0.01], y_range=(0, np.max(yl) * 1.2),
        metrics=[exp_rmspe],
    )  # fmt: skip
    m.progress = False
    assert isinstance(m, Learner)
    assert len(m.layer_groups) == 3
    before = m.validate()["exp_rmspe"]
    m.fit(2e-2, 3, cycle_len=2)
    assert m.validate()["exp_rmspe"] < min(0.5, before)
    m.fit([1e-4, 1e-3, 1e-3], 1)
    assert m.save("val0").parent == tmp_path / "models"
    m.load("val0")

    predicted, truth = m.predict_with_targs()
    assert np.allclose(np.ravel(truth), yl[val_idx], atol=1e-5) and np.array_equal(m.predict(), predicted)
    assert exp_rmspe(*map(torch.from_numpy, (predicted, truth))) == pytest.approx(m.validate()["exp_rmspe"], rel=1e-4)
    for_test = m.predict(True)
    assert isinstance(for_test, np.ndarray) and for_test.shape == (len(df_test), 1) and np.isfinite(for_test).all()
    assert m.predict_with_targs(True)[1] is None


def test_the_parts_are_those_of_the_frame(features: Callable[..., dict[str, Any]]) -> None:
    given = features()
    md = ColumnarModelData.from_data_frame(**given)
    assert (len(md.trn_ds), len(md.val_ds), md.test_ds) == (32, 8, None)
    assert np.allclose(md.val_y.ravel(), given["y"][:8])
    assert np.allclose(md.trn_y.ravel(), given["y"][8:])
    assert md.trn_ds.cats.shape == (32, 2) and md.trn_ds.conts.shape == (32, 2)
    assert md.data.cat_names == ["a", "b"] and md.data.cont_names == ["u", "v"]
    assert (md.bs, md.is_reg, md.is_multi, md.path) == (8, True, False, Path())


def test_the_frame_is_left_alone(features: Callable[..., dict[str, Any]]) -> None:
    given = features()
    before = given["df"].copy()
    ColumnarModelData.from_data_frame(**given)
    pd.testing.assert_frame_equal(given["df"], before)


def test_a_mask_selects_the_same_rows(features: Callable[..., dict[str, Any]]) -> None:
    by_mask = ColumnarModelData.from_data_frame(**features(val_idxs=np.arange(40) < 8))
    by_place = ColumnarModelData.from_data_frame(**features())
    assert np.array_equal(by_mask.val_y, by_place.val_y)
    assert not ColumnarModelData.from_data_frame(**features(val_idxs=None)).data.splits[1:]


def test_targets_go_by_place_not_by_label(features: Callable[..., dict[str, Any]]) -> None:
    given = features()
    series = pd.Series(given["y"], index=np.arange(40)[::-1])
    assert np.allclose(ColumnarModelData.from_data_frame(**{**given, "y": series}).val_y.ravel(), given["y"][:8])


def test_a_feature_may_be_called_as_the_target_is(features: Callable[..., dict[str, Any]]) -> None:
    given = features()
    given["df"] = given["df"].rename(columns={"u": "y"})
    md = ColumnarModelData.from_data_frame(**given)
    assert md.data.cont_names == ["y", "v"] and md.data.task.n_out == 1
    assert np.allclose(md.data.target("valid").ravel(), given["y"][:8])  # type: ignore[union-attr]


def test_two_frames_equal_one_that_is_split(features: Callable[..., dict[str, Any]]) -> None:
    given = features()
    df, y = given["df"], given["y"]
    one = ColumnarModelData.from_data_frame(**given)
    two = ColumnarModelData.from_data_frames(".", df[8:], df[:8], y[8:], y[:8], ["a", "b"], 8, test_df=df[:3])
    for a, b in ((one.trn_ds, two.trn_ds), (one.val_ds, two.val_ds)):
        assert np.array_equal(a.cats, b.cats) and np.array_equal(a.conts, b.conts)
        assert a.y is not None and b.y is not None and np.array_equal(a.y, b.y)
    assert len(two.test_ds) == 3 and not two.test_ds.y.any() and two.data.target("test") is None


def test_batches_hold_the_table_as_it_was_given(features: Callable[..., dict[str, Any]]) -> None:
    given = features(y=np.arange(40.0), shuffle=False, test_df=features()["df"][:3])
    md = ColumnarModelData.from_data_frame(**given)
    cats, conts, y = next(iter(md.trn_dl))
    assert (len(md.trn_dl), md.val_dl.batch_size, len(md.test_dl)) == (4, 16, 1)
    assert np.array_equal(cats, given["df"][["a", "b"]][8:16]) and cats.dtype == torch.int64
    assert np.allclose(conts, given["df"][["u", "v"]][8:16]) and conts.dtype == torch.float32
    assert y.shape == (8, 1) and y.ravel().tolist() == list(range(8, 16))
    shuffled = ColumnarModelData.from_data_frame(**{**given, "shuffle": True})
    order = torch.cat([batch[-1] for batch in shuffled.trn_dl]).ravel().tolist()
    assert order != sorted(order) == list(range(8, 40))
    learn = md.get_learner(**SIZES)
    assert np.array_equal(learn.data.val_y, md.val_y) and learn.data.trn_ds is md.trn_ds
    found = learn.predict_array(md.val_ds.cats, md.val_ds.conts)
    assert np.allclose(found, learn.predict(), atol=1e-6)


def test_a_loop_of_ones_own_trains_on_the_batches(features: Callable[..., dict[str, Any]]) -> None:
    md = ColumnarModelData.from_data_frame(**features(bs=13))  # the last training batch would be one of 6
    model = column_data.MixedInputModel([(5, 3), (4, 2)], 2, 0.0, 1, [8], [0.0], y_range=(-3, 3), use_bn=True)
    opt = torch.optim.Adam(model.parameters(), 1e-2)
    first = column_data.fit(model, md, 1, opt, column_data.F.mse_loss)  # type: ignore[attr-defined]
    column_data.set_lrs(opt, 1e-3)  # type: ignore[attr-defined]
    assert opt.param_groups[0]["lr"] == 1e-3 and np.isfinite(first).all()
    assert len(RowLoader(md.trn_ds, 31, shuffle=True)) == 1  # one row is joined to the batch before
    classes = column_data.MixedInputModel([(5, 3)], 0, 0.0, 3, [8], [0.0], is_reg=False)
    assert torch.allclose(classes(torch.ones(2, 1).long(), torch.zeros(2, 1)).exp().sum(1), torch.ones(2))


def test_positions_may_count_from_the_end() -> None:
    xs = np.arange(30).reshape(10, 3)
    md = ColumnarModelData.from_arrays(".", [-1], xs, xs[:, 0], bs=4)
    *x, y = next(iter(md.val_dl))
    assert [t.tolist() for t in x] == [[27], [28], [29]] and y.tolist() == [27]
    seq = ColumnarModelData.from_arrays(".", [0, 1], xs, xs + 1, bs=4)
    assert next(iter(seq.trn_dl))[-1].shape == (4, 3)


def test_arrays_are_columns_of_numbers() -> None:
    xs = np.random.default_rng(0).normal(size=(20, 3))
    md = ColumnarModelData.from_arrays(".", [0, 1, 2, 3], xs, xs[:, 0] + 0.1 * xs[:, 1], test_xs=xs[:2])
    assert md.data.cat_names == [] and md.data.cont_names == ["x0", "x1", "x2"]
    assert (len(md.trn_ds), len(md.val_ds), md.data.splits) == (16, 4, ("train", "valid", "test"))
    assert md.get_learner([], 3, 0.0, 1, [4], [0.0]).task.n_out == 1


def test_classes_and_labels(features: Callable[..., dict[str, Any]]) -> None:
    classes = ColumnarModelData.from_data_frame(**features(y=np.arange(40) % 3, is_reg=False))
    assert classes.data.task.kind == "single_label" and classes.data.task.n_out == 3 and not classes.is_reg
    labels = np.stack([np.arange(40) % 2, np.arange(40) % 3 == 0], 1).astype(float)
    several = ColumnarModelData.from_data_frame(**features(y=labels, is_reg=False, is_multi=True))
    assert several.is_multi and several.data.task.names == ("y0", "y1")
    learn = classes.get_learner(**{**SIZES, "out_sz": 3})
    learn.progress = False
    learn.fit(1e-2, 1)
    assert learn.predict().shape == (8, 3) and np.allclose(np.exp(learn.predict()).sum(1), 1, atol=1e-5)


def test_shuffle_can_be_left_out(features: Callable[..., dict[str, Any]]) -> None:
    def order(shuffle: bool) -> list[int]:
        md = ColumnarModelData.from_data_frame(**features(shuffle=shuffle))
        return torch.cat(
            [b.index for b in md.data.loader("train", training=True).batches(torch.device("cpu"))]
        ).tolist()

    assert order(False) == list(range(32))
    assert order(True) != list(range(32)) and sorted(order(True)) == list(range(32))


def test_the_network_has_the_sizes_that_were_given(features: Callable[..., dict[str, Any]]) -> None:
    learn = ColumnarModelData.from_data_frame(**features()).get_learner(**{**SIZES, "drops": [0.25, 0.5]})
    tables = [m for m in learn.model.modules() if isinstance(m, nn.Embedding)]
    assert [t.embedding_dim for t in tables] == [3, 2]
    assert [t.num_embeddings for t in tables] == [4 + 2, 3 + 2]  # the levels, and unknown and missing
    linear = [m.out_features for m in learn.model.modules() if isinstance(m, nn.Linear)]
    assert linear == [8, 4, 1]
    assert [m.p for m in learn.model.modules() if isinstance(m, nn.Dropout)][-2:] == [0.25, 0.5]


def test_y_range_bounds_what_is_predicted(features: Callable[..., dict[str, Any]]) -> None:
    learn = ColumnarModelData.from_data_frame(**features()).get_learner(**SIZES, y_range=(-5.0, 5.0))
    with torch.no_grad():
        learn.model.last.weight.mul_(1e6)  # type: ignore[union-attr, operator]
    assert np.abs(learn.predict()).max() <= 5.0


def test_an_optimizer_of_torch_is_used(features: Callable[..., dict[str, Any]]) -> None:
    learn = ColumnarModelData.from_data_frame(**features()).get_learner(**SIZES, opt_fn=column_data.optim.Adam)
    learn.progress = False
    assert learn.optimizer is torch.optim.Adam
    assert np.isfinite(learn.fit(1e-3, 1).losses).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_cont": 3}, r"n_cont is 3, but 2 columns .*\['u', 'v'\]"),
        ({"out_sz": 2}, "out_sz is 2, but there are 1 targets"),
        ({"drops": [0.1]}, "drops has 1 entries, szs has 2"),
        ({"emb_szs": [(5, 3)]}, r"1 entries, cat_flds names 2 columns: \['a', 'b'\]"),
        ({"emb_szs": [(5, 0), (4, 2)]}, "embedding of 'a' must be .* at least 1"),
        ({"y_range": (2, 1)}, "low below high"),
        ({"qrnn": 0.1}, "no argument 'qrnn'"),
        ({"opt_func": None}, "'opt_fn' here"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    features: Callable[..., dict[str, Any]], changes: dict[str, Any], message: str
) -> None:
    md = ColumnarModelData.from_data_frame(**features())
    with pytest.raises(ArgumentError, match=message):
        md.get_learner(**{**SIZES, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"y": np.zeros(39)}, DataError, r"\(40\), got shape \(39,\)"),
        ({"y": 3.0}, DataError, r"got shape \(\)"),
        ({"y": np.r_[np.nan, np.arange(39)]}, DataError, "'y'"),
        ({"is_multi": True}, ArgumentError, "is_reg=False"),
        ({"cat_flds": ["a", "z"]}, DataError, "z"),
        ({"df": np.zeros((40, 2))}, ArgumentError, "pandas DataFrame, got ndarray"),
        ({"val_idxs": [40]}, ArgumentError, "40"),
        ({"test_df": pd.DataFrame({"a": [1]})}, DataError, "'b'|b"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    features: Callable[..., dict[str, Any]], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ColumnarModelData.from_data_frame(**features(**changes))


def test_text_among_the_numbers_is_named(features: Callable[..., dict[str, Any]]) -> None:
    given = features()
    given["df"]["v"] = "much"
    with pytest.raises(DataError, match=r"'v'.*'much'"):
        ColumnarModelData.from_data_frame(**given)


def test_two_frames_must_fit_each_other(features: Callable[..., dict[str, Any]]) -> None:
    df, y = features()["df"], features()["y"]
    with pytest.raises(DataError, match=r"\(8\), got shape \(7,\)"):
        ColumnarModelData.from_data_frames(".", df[8:], df[:8], y[8:], y[:7], ["a", "b"])
    with pytest.raises(DataError, match=r"shape \(32, 1\) in training, but \(8, 2\)"):
        ColumnarModelData.from_data_frames(".", df[8:], df[:8], y[8:], np.zeros((8, 2)), ["a", "b"])
    with pytest.raises(ArgumentError, match="got list"):
        ColumnarModelData.from_data_frames(".", df[8:], [], y[8:], [], ["a", "b"])  # type: ignore[arg-type]


def test_fit_takes_metrics_and_decay(features: Callable[..., dict[str, Any]]) -> None:
    learn = ColumnarModelData.from_data_frame(**features()).get_learner(**SIZES, crit=column_data.F.l1_loss)  # type: ignore[attr-defined]
    learn.progress = False
    loss, by_name = learn.fit(1e-3, 1, wds=1e-5, metrics=[exp_rmspe], cycle_len=2)
    assert (loss, by_name) == (learn.record.last["valid_loss"], learn.record.last["exp_rmspe"])  # type: ignore[union-attr]
    found, target = learn.predict_with_targs()
    assert found.shape == target.shape == (8, 1) and loss == pytest.approx(np.abs(found - target).mean(), rel=1e-5)  # type: ignore[union-attr]


# -- ratings -----------------------------------------------------------------------------------------------


def ratings() -> pd.DataFrame:
    g = np.random.default_rng(0)
    df = pd.DataFrame({"userId": g.integers(1, 21, 300), "movieId": g.integers(1, 16, 300) * 10})
    df["rating"] = (1 + df.userId % 3 + df.movieId // 10 % 3 + 0.2 * g.random(300)).astype(float)
    return df


@pytest.mark.parametrize("opt_fn", [None, torch.optim.Adam])
def test_the_film_lesson_runs_and_learns(tmp_path: Path, opt_fn: Any) -> None:
    ratings().to_csv(tmp_path / "ratings.csv", index=False)
    cf = CollabFilterDataset.from_csv(tmp_path, "ratings.csv", "userId", "movieId", "rating")
    learn = cf.get_learner(5, column_data.get_cv_idxs(300), 16, opt_fn=opt_fn)
    learn.progress = False

    def error() -> float:
        predicted, truth = learn.predict_with_targs()
        return float(((predicted - truth) ** 2).mean())

    before = error()
    learn.fit(5e-2, 3, wd=2e-4, cycle_len=1, cycle_mult=2)
    assert error() < before / 2
    predictions = learn.predict()
    assert predictions.shape == learn.data.val_y.shape == (60,)
    films = np.array([cf.item2idx[i] for i in (10, 20, 30)])
    assert learn.model.ib(column_data.V(films)).shape == (3, 1) and learn.model.i.weight.shape == (cf.n_items, 5)  # type: ignore[attr-defined]
    score = learn.model.eval()(*column_data.V([cf.user_col[:4], cf.item_col[:4]]))  # type: ignore[attr-defined]
    rating = learn.task.activate(score.detach())  # the model's own outputs are in deviations from the mean
    assert np.allclose(rating, learn.predict(cf.df[:4]).probs.ravel(), atol=1e-6)
    learn.export(tmp_path / "films.easylearn")
    assert learn.save("films").parent == tmp_path / "models"


def test_ratings_serve_a_model_of_ones_own(tmp_path: Path) -> None:
    cf = CollabFilterDataset.from_data_frame(tmp_path, ratings(), "userId", "movieId", "rating")
    assert (cf.n_users, cf.n_items, len(cf)) == (20, 15, 300) and cf.min_score == min(cf.ratings)
    assert cf.users[cf.user_col[7]] == ratings().userId[7] == next(u for u, i in cf.user2idx.items() if i == cf[7][0])
    model, data = cf.get_model(3), cf.get_data(np.arange(30), 16)
    opt = torch.optim.SGD(model.parameters(), 1e-1)
    assert column_data.fit(model, data, 1, opt, column_data.F.mse_loss)[0] < 5  # type: ignore[attr-defined]


def test_ratings_columns_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="film"):
        CollabFilterDataset.from_data_frame(tmp_path, ratings(), "userId", "film", "rating").get_learner(5, [0])
    with pytest.raises(DataError, match=r"no file .*none\.csv"):
        CollabFilterDataset.from_csv(tmp_path, "none.csv", "userId", "movieId", "rating")
    with pytest.raises(ArgumentError, match="'user_name' here"):
        CollabFilterDataset.from_data_frame(tmp_path, ratings(), user="userId")  # type: ignore[call-arg]


# -- the star ----------------------------------------------------------------------------------------------


def test_the_star_brings_what_notebooks_of_that_time_expect() -> None:
    names: dict[str, Any] = {}
    exec("from easylearn.structured import *\nfrom easylearn.column_data import *", names)
    assert names["np"] is np and names["pd"] is pd and names["Path"] is Path and names["optim"] is torch.optim
    assert names.keys() >= {"ColumnarModelData", "CollabFilterDataset", "proc_df", "get_cv_idxs", "F", "math", "plt"}
