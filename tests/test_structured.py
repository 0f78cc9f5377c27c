from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

import easylearn.structured as structured
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.structured import NaDict, add_datepart, apply_cats, get_elapsed, get_sample, proc_df, train_cats


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": ["S", "L", None, "M", "L"],
            "n": [1.0, None, 3.0, 8.0, 2.0],
            "m": [1, 2, 3, 4, 5],
            "open": [True, False, True, True, False],
            "y": [0.5, 1.5, 2.5, 3.5, 4.5],
        }
    )


def test_exported_names() -> None:
    assert structured.__all__ == sorted(structured.__all__)
    assert {"add_datepart", "apply_cats", "get_elapsed", "proc_df", "train_cats", "np", "pd"} <= set(structured.__all__)
    assert all(n in vars(structured) for n in structured.__all__)


# train_cats, apply_cats


@pytest.mark.parametrize("dtype", [object, "string", "str"])
def test_train_cats_in_place(dtype: Any) -> None:
    df = table().astype({"size": dtype})
    if dtype == "str":
        df.loc[2, "size"] = None
    assert train_cats(df) is df
    assert df["size"].cat.categories.tolist() == ["L", "M", "S"]
    assert df["size"].cat.ordered
    assert df["size"].cat.codes.tolist() == [2, 0, -1, 1, 0]
    assert [str(d) for d in df.dtypes][1:] == ["float64", "int64", "bool", "float64"]


def test_train_cats_of_many_rows_and_of_mixed_objects() -> None:
    many = train_cats(pd.DataFrame({"c": ["b", "a", None] * 40}))
    assert many["c"].cat.codes.tolist() == [1, 0, -1] * 40
    mixed = train_cats(pd.DataFrame({"c": pd.Series(["b", 2, None, "a"], dtype=object)}))
    assert mixed["c"].cat.categories.tolist() == [2, "a", "b"]
    assert train_cats(pd.DataFrame({"c": pd.Series([None, None], dtype=object)}))["c"].cat.codes.tolist() == [-1, -1]
    with pytest.raises(DataError, match="'c', row 0"):
        train_cats(pd.DataFrame({"c": [[1], [2]]}))


def test_apply_cats_gives_the_codes_of_training() -> None:
    trn = train_cats(table())
    new = pd.DataFrame({"size": ["M", "XL", None, "S"], "other": ["q"] * 4}, index=[4, 4, 1, 0])
    assert apply_cats(new, trn) is new
    assert new["size"].cat.codes.tolist() == [1, -1, -1, 2]
    assert new["size"].cat.categories.equals(trn["size"].cat.categories)
    assert not isinstance(new["other"].dtype, pd.CategoricalDtype)
    assert apply_cats(new.copy(), trn)["size"].tolist() == new["size"].tolist()
    manual = train_cats(table())
    manual["size"] = manual["size"].cat.set_categories(["S", "M", "L"], ordered=True)
    assert apply_cats(pd.DataFrame({"size": ["L", "S"]}), manual)["size"].cat.codes.tolist() == [2, 0]


# add_datepart, get_elapsed


def test_add_datepart_in_place() -> None:
    df = pd.DataFrame(
        {"Date": ["2020-01-01", "2021-06-30"], "saledate": ["2020-01-02", None], "x": [1, 2]}, index=[5, 5]
    )
    assert add_datepart(df, ["Date", "saledate"], time=True) is df
    assert df.columns[0] == "x"
    assert df["Elapsed"].tolist() == [1_577_836_800, 1_625_011_200]
    assert df["saleHour"].isna().tolist() == [False, True]
    kept = pd.DataFrame({"Date": ["2020-01-01"]})
    assert add_datepart(kept, "Date", drop=False).Date.dt.year.tolist() == [2020]
    some = add_datepart(pd.DataFrame({"Date": ["2020-01-01", "never"]}), "Date", errors="coerce")
    assert some.Year.tolist()[0] == 2020 and some.Year.isna().tolist() == [False, True]
    with pytest.raises(DataError, match="Dated"):
        add_datepart(kept, "Dated")


def test_add_datepart_replaces_nothing_but_itself() -> None:
    df = pd.DataFrame({"Date": ["2020-01-01", "2021-06-30"], "Year": [7, 8]})
    with pytest.raises(ArgumentError, match=r"\['Year'\] of its own.*'Date'"):
        add_datepart(df, "Date")
    assert list(df.columns) == ["Date", "Year"] and df["Year"].tolist() == [7, 8]
    again = add_datepart(df.drop(columns="Year"), "Date", drop=False)
    columns = list(again.columns)
    assert list(add_datepart(again, "Date", drop=False).columns) == columns  # as a cell of a notebook that runs twice


@pytest.mark.filterwarnings("ignore:Could not infer format")
def test_add_datepart_changes_nothing_if_it_fails() -> None:
    df = pd.DataFrame({"Date": ["2020-01-01", "never"]})
    with pytest.raises(DataError, match="never"):
        add_datepart(df, "Date")
    assert list(df.columns) == ["Date"]


def lesson_get_elapsed(df: pd.DataFrame, fld: str) -> list[float]:
    """The function of fast.ai's Rossmann notebook, with NaN where it gave garbage."""
    last_date, last_store, res = None, 0, []
    for s, v, d in zip(df.Store.values, df[fld].values, df.Date, strict=True):
        if s != last_store:
            last_date, last_store = None, s
        if v:
            last_date = d
        res.append(np.nan if last_date is None else float((d - last_date).days))
    return res


def test_get_elapsed_is_the_lessons_without_its_sorting() -> None:
    rng = np.random.default_rng(0)
    days = pd.date_range("2013-01-01", periods=50)
    df = pd.DataFrame({"Store": np.repeat([1, 2, 3], 50), "Date": list(days) * 3, "Promo": rng.random(150) < 0.1})
    shuffled = df.sample(frac=1, random_state=0)
    for pre, ascending in (("After", True), ("Before", False)):
        ordered = df.sort_values(["Store", "Date"], ascending=[True, ascending])
        want = pd.Series(lesson_get_elapsed(ordered, "Promo"), index=ordered.index)
        assert get_elapsed(shuffled, "Promo", pre) is shuffled
        pd.testing.assert_series_equal(shuffled[pre + "Promo"].sort_index(), want.sort_index(), check_names=False)
    with pytest.raises(ArgumentError, match="'After'"):
        get_elapsed(df, "Promo", "Since")


# proc_df


def test_proc_df() -> None:
    df = train_cats(table())
    before = df.copy(deep=True)
    x, y, nas = proc_df(df, "y")
    pd.testing.assert_frame_equal(df, before)
    assert list(x.columns) == ["size", "n", "m", "open", "n_na"]
    assert x["size"].tolist() == [3, 1, 0, 2, 1]
    assert x["n"].tolist() == [1.0, 2.5, 3.0, 8.0, 2.0]
    assert x["n_na"].tolist() == [False, True, False, False, False]
    assert y.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert nas == {"n": 2.5}


def test_the_callers_lists_and_dicts_are_left_alone() -> None:
    df = train_cats(table())
    skip, ignore = ["m"], ["open"]
    x = proc_df(df, "y", skip_flds=skip, ignore_flds=ignore)[0]
    assert (skip, ignore) == (["m"], ["open"])
    assert list(x.columns) == ["open", "size", "n", "n_na"]
    nas = proc_df(df, "y")[2]
    copy = nas.copy()
    proc_df(df.assign(m=np.nan), "y", na_dict=nas)
    assert nas == copy
    assert nas.medians == copy.medians


def test_missing_in_the_test_table_only() -> None:
    trn = train_cats(table())
    x, _, nas = proc_df(trn, "y")
    new = apply_cats(table().drop(columns="y").assign(m=[None, 2, 3, 4, np.inf], n=[100.0, None, 100, 100, 100]), trn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x_new, y_new, nas_new = proc_df(new, na_dict=nas)
    assert y_new is None
    assert list(x_new.columns) == list(x.columns)
    assert x_new["m"].tolist() == [3, 2, 3, 4, 3]
    assert x_new["n"].tolist() == [100, 2.5, 100, 100, 100]
    assert nas_new == nas
    # Training without anything missing: {} is no reason to flag what is missing in the test table.
    x, _, nas = proc_df(trn.assign(n=1.0), "y")
    assert nas == {}
    assert list(proc_df(new, na_dict=nas)[0].columns) == list(x.columns)


def test_a_plain_na_dict_is_taken_with_a_warning() -> None:
    new = train_cats(table().drop(columns="y").assign(m=[None, 2, 3, 4, 6]))
    with pytest.warns(EasyLearnWarning, match=r"\['m'\] have missing values here"):
        x, _, _ = proc_df(new, na_dict={"n": 7.0})
    assert x["n"].tolist()[1] == 7.0
    assert x["m"].tolist()[0] == 3.5
    assert list(x.columns) == ["size", "n", "m", "open", "n_na"]


def test_scaling_is_scikit_learns_and_reused() -> None:
    trn = train_cats(table())
    x, _, nas, mapper = proc_df(trn, "y", do_scale=True)
    want = StandardScaler().fit_transform(trn[["m"]])
    np.testing.assert_allclose(x[["m"]], want)
    assert x["n"].mean() == pytest.approx(0)
    new = apply_cats(table(), trn)
    x_new, _, _, same = proc_df(new.iloc[:2], "y", do_scale=True, na_dict=nas, mapper=mapper)
    pd.testing.assert_frame_equal(x_new, x.iloc[:2])
    assert same == mapper
    with pytest.raises(DataError, match="m"):
        proc_df(new.drop(columns="m"), "y", do_scale=True, na_dict=nas, mapper=mapper)


def test_text_targets_few_categories_and_functions() -> None:
    df = train_cats(table().assign(y=["no", "yes", "no", "no", "yes"]))
    x, y, _ = proc_df(df, "y", max_n_cat=3, preproc_fn=lambda d: d.insert(0, "twice", d["m"] * 2))
    assert y.tolist() == [0, 1, 0, 0, 1]
    assert x["twice"].tolist() == [2, 4, 6, 8, 10]
    assert [c for c in x.columns if c.startswith("size_")] == ["size_L", "size_M", "size_S", "size_nan"]
    assert x.filter(like="size_").astype(int).sum().tolist() == [2, 1, 1, 1]
    text = table().assign(y=["no", "yes", "no", "no", "yes"])
    assert proc_df(text, "y")[1].tolist() == [0, 1, 0, 0, 1]


def test_samples_are_keyed_and_in_order() -> None:
    df = pd.DataFrame({"a": range(100), "y": range(100)})
    x, y, _ = proc_df(df, "y", subset=10)
    assert x["a"].is_monotonic_increasing
    assert len(x) == 10
    pd.testing.assert_frame_equal(get_sample(df, 10)[["a"]], x)
    assert (y == x["a"]).all()
    with pytest.raises(ArgumentError, match="at least 1"):
        get_sample(df, 0)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "float32", "int8"])
def test_other_numbers(dtype: str) -> None:
    gap: Any = None if dtype[0] in "IF" else 1
    df = pd.DataFrame({"a": pd.Series([1, gap, 3], dtype=dtype)}).set_axis([1, 1, 0])
    x, _, nas = proc_df(df)
    assert x["a"].tolist() == [1, 2 if gap is None else 1, 3]
    assert nas == ({"a": 2.0} if gap is None else {})


def test_what_proc_df_refuses_or_warns_of() -> None:
    df = train_cats(table())
    with pytest.raises(DataError, match=r"\['z'\]"):
        proc_df(df, "y", skip_flds=["z"])
    with pytest.raises(ArgumentError, match="write \\['m'\\]"):
        proc_df(df, "y", skip_flds="m")
    with pytest.warns(EasyLearnWarning, match="'d' holds dates.*add_datepart"):
        dates = proc_df(
            df.assign(d=pd.to_datetime(["2020-01-02", "2020-01-01", None, "2020-01-01", "2021-01-01"])), "y"
        )
    assert dates[0]["d"].tolist() == [2, 1, 0, 1, 3]
    with pytest.raises(DataError, match=r"the target 'y' are missing.*row 1"):
        proc_df(df.assign(y=[1, None, 1, 1, 1]), "y")
    with pytest.raises(DataError, match=r"the target 'size' have no label.*row 2"):
        proc_df(df, "size")
    with pytest.raises(DataError, match=r"\['q'\]"):
        proc_df(df, "y", na_dict={"q": 1.0})
    with pytest.warns(EasyLearnWarning, match=r"\['size'\] hold text"):
        proc_df(table(), "y", na_dict=NaDict({"n": 1.0}))
    with pytest.raises(DataError, match="more than once"):
        proc_df(pd.DataFrame([[1, 2]], columns=["a", "a"]))


# what is taken apart, and forests


def test_the_steps_of_proc_df_one_by_one() -> None:
    df = train_cats(table())
    nas = structured.fix_missing(df, df["n"], "n", {})
    assert nas == {"n": 2.5} and df["n"].tolist()[1] == 2.5 and df["n_na"].tolist()[1]
    assert structured.fix_missing(df, df["size"], "size", {}) == {}
    structured.numericalize(df, df["size"], "few", 3)
    structured.numericalize(df, df["size"], "code", None)
    assert "few" not in df and df["code"].tolist() == [3, 1, 0, 2, 1]
    mapper = structured.scale_vars(df)
    assert df["m"].mean() == pytest.approx(0) and mapper["m"] == (3.0, pytest.approx(2**0.5))
    assert structured.is_date(pd.Series(pd.to_datetime(["2020-01-01"]))) and not structured.is_date(df["m"])
    assert structured.is_categorical_dtype(df["size"]) and not structured.is_categorical_dtype(df["m"].dtype)
    dates = structured.combine_date([2018, 2020], 2, days=[1, 29], hours=5)
    assert dates.astype(str).tolist() == ["2018-02-01T05", "2020-02-29T05"]
    cats, conts = structured.get_nn_mappers(t := table(), ["size"], ["n"])
    assert (
        t["size"].tolist()[2] == "#NA#" and t["n"].tolist()[1] == 108 and (cats[0][0], conts[0][0]) == ("size", ["n"])
    )


def test_forests_draw_few_rows_until_they_are_reset() -> None:
    from sklearn.ensemble import RandomForestRegressor

    x = pd.DataFrame({"a": np.arange(400.0), "b": 0.0})

    def leaves(**more: Any) -> int:
        forest = RandomForestRegressor(30, random_state=0, oob_score=True, **more).fit(x, x["a"])
        assert structured.rf_feat_importance(forest, x)["cols"].tolist() == ["a", "b"]
        assert structured.parallel_trees(forest, lambda t: t.get_n_leaves()) == [
            t.get_n_leaves() for t in forest.estimators_
        ]
        return max(t.get_n_leaves() for t in forest.estimators_)

    before = leaves()
    structured.set_rf_samples(40)
    structured.set_rf_samples(20)
    try:
        assert leaves() == leaves(max_samples=20) <= 20 < before
    finally:
        structured.reset_rf_samples()
    structured.reset_rf_samples()
    assert leaves() == before


def test_a_tree_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt
    from sklearn.tree import DecisionTreeRegressor

    monkeypatch.setattr(plt, "show", lambda: None)
    x = pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, 0.0]})
    with plt.rc_context():
        structured.set_plot_sizes(6, 8, 10)
        structured.draw_tree(DecisionTreeRegressor().fit(x, [0, 1]), x, precision=2)
    assert any("a <= 1.5" in text.get_text() for text in plt.gca().texts)
    plt.close("all")
