from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.tabular.build import default_batch_size
from easylearn.tabular.data import TabularData
from easylearn.tabular.learner import tabular_learner
from easylearn.tabular.options import TableKeywords, TableOptions
from easylearn.tabular.preprocess import TablePreprocessor
from tests.tabular.shops import CATS, CONTS, table

CPU = torch.device("cpu")
HAS_ARROW = importlib.util.find_spec("pyarrow") is not None


def make(df: pd.DataFrame, target: str | list[str] = "y", **changes: Any) -> TabularData:
    return TabularData.from_df(df, target, **{"cat_names": CATS, "cont_names": CONTS, **changes})


def whole(data: TabularData, split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(data.loader(split).batches(CPU))
    return torch.cat([b.inputs[0] for b in batches]), torch.cat([b.inputs[1] for b in batches])


def rows_of(data: TabularData, split: Any) -> list[int]:
    """Positions, of a table with the default index."""
    return [int(i) for i in data.ids(split)]


# -- compared with plain pandas ----------------------------------------------------------------------------


def test_codes_numbers_and_targets_are_those_of_plain_pandas() -> None:
    df = table()
    data = make(df, valid=0.25, seed=3)
    train = df.iloc[rows_of(data, "train")]
    for split in ("train", "valid"):
        at = df.iloc[rows_of(data, split)]
        cats, conts = whole(data, split)
        for j, name in enumerate(CATS):
            levels = sorted(train[name].dropna().unique())
            want = [1 if pd.isna(v) else levels.index(v) + 2 if v in levels else 0 for v in at[name]]
            assert cats[:, j].tolist() == want
        held = train["size"].dropna()
        size = (at["size"].fillna(held.median()) - held.mean()) / held.std(ddof=0)
        rain = (at["rain"] - train["rain"].mean()) / train["rain"].std(ddof=0)
        np.testing.assert_allclose(conts, np.column_stack([size, rain, at["size"].isna()]), rtol=1e-4, atol=1e-5)
        target = data.target(split)
        assert target is not None
        np.testing.assert_allclose(target[:, 0], at["y"], rtol=1e-6)
    assert data.cat_names == CATS and data.cont_names == ["size", "rain", "size_na"]


def test_nothing_is_learnt_from_validation_or_test() -> None:
    df = table()
    base = make(df, valid=[1, 5, 9])
    spoilt = df.copy()
    spoilt.loc[[1, 5, 9], "shop"] = "only here"
    spoilt.loc[[1, 5, 9], "size"] = 1e9
    data = make(spoilt, valid=[1, 5, 9], test=spoilt.iloc[[1]])
    assert data.preprocessor.processor.state_dict() == base.preprocessor.processor.state_dict()
    assert "only here" not in data.preprocessor.processor.levels("shop")
    assert whole(data, "valid")[0][:, 0].tolist() == [0, 0, 0] and whole(data, "test")[0][0, 0] == 0
    for a, b in zip(whole(data, "train"), whole(base, "train"), strict=True):
        assert torch.equal(a, b)
    report = data.report()
    assert report.loc[("valid", "shop"), "unknown"] == 3 and "only here" in report.loc[("valid", "shop"), "examples"]
    assert report.loc[("test", "shop"), "unknown"] == 1
    assert report.loc[("train", "size"), "missing"] == int(df.drop([1, 5, 9])["size"].isna().sum())


def test_missing_and_infinite_values_are_counted() -> None:
    df = table()
    df.loc[[0, 1], "rain"] = [np.inf, -np.inf]
    report = make(df, valid=None).report()
    assert report.loc[("train", "rain"), ["missing", "infinite", "filled"]].tolist() == [0, 2, 2]
    assert report.loc[("train", "shop"), "missing"] == df["shop"].isna().sum()
    clean = make(df.dropna(), cont_names=[], cat_names=["shop"], valid=None)
    assert clean.report().empty and list(clean.report().columns) == list(report.columns)


def test_csv_is_the_same_as_the_frame(tmp_path: Path) -> None:
    df = table()
    df.to_csv(tmp_path / "all.csv", index=False)
    a, b = make(df), TabularData.from_csv(tmp_path / "all.csv", "y", cat_names=CATS, cont_names=CONTS)
    assert a.preprocessor.processor.state_dict() == b.preprocessor.processor.state_dict() and a.fingerprint(
        "train"
    ) == b.fingerprint("train")
    files = TabularData.from_csv(
        tmp_path / "all.csv", "y", cat_names=CATS, cont_names=CONTS, valid=tmp_path / "all.csv",
        test=str(tmp_path / "all.csv"),
    )  # fmt: skip
    assert [len(files.ids(p)) for p in ("train", "valid", "test")] == [120, 120, 120]


def test_other_files_are_read_as_the_training_file_was(tmp_path: Path) -> None:
    train, other = tmp_path / "train.csv", tmp_path / "other.csv"
    zips = ["01234", "5678", "9012", "3456"] * 10
    rows = [f"{code},{k % 3},{'NA' if k % 7 % 2 else 'b'}" for k, code in enumerate(zips)]
    train.write_text("\n".join(["zip,n,y", *rows]))
    other.write_text("zip,n,y\n5678,NA,NA\n9012,1,NA\n")
    data = TabularData.from_csv(train, "y", cat_names=["zip", "n"], cont_names=[], valid=other, test=other)
    assert data.classes == ("NA", "b")
    assert data.preprocessor.processor.levels("zip")[2:] == ["01234", "3456", "5678", "9012"]
    assert whole(data, "valid")[0].tolist() == whole(data, "test")[0].tolist() == [[4, 1], [5, 3]]
    assert data.target("valid").tolist() == data.target("test").tolist() == [0, 0]  # type: ignore[union-attr]


# -- which rows validate -----------------------------------------------------------------------------------


def test_validation_by_fraction_indices_mask_frame_or_none() -> None:
    df = table()
    data = make(df, valid=0.25, seed=1)
    assert len(data.ids("train")) == 90 and len(data.ids("valid")) == 30
    assert sorted(rows_of(data, "train") + rows_of(data, "valid")) == list(range(120))
    assert data.ids("valid") == make(df, valid=0.25, seed=1).ids("valid") != make(df, valid=0.25, seed=2).ids("valid")
    mask = np.isin(np.arange(120), [4, 2])
    for valid in ([4, 2], mask):
        assert rows_of(make(df, valid=valid), "valid") == [2, 4]
    own = make(df.iloc[:100], valid=df.iloc[100:])
    assert len(own.ids("train")) == 100 and rows_of(own, "valid") == list(range(100, 120))
    none = make(df, valid=None)
    assert none.splits == ("train",) and len(none.ids("train")) == 120
    with pytest.raises(DataError, match="no valid split"):
        none.loader("valid")


def test_validation_by_class_group_and_time() -> None:
    df = table(200)
    share = df["label"].eq("yes").mean()
    data = make(df, "label", valid=0.1)
    assert data.target("valid") is not None and abs(float(data.target("valid").float().mean()) - share) < 0.05  # type: ignore[union-attr]
    by_group = make(df, groups="day", valid=0.3)
    sides = [set(df["day"].iloc[rows_of(by_group, p)]) for p in ("train", "valid")]
    assert not sides[0] & sides[1] and sides[0] | sides[1] == set(range(7))
    by_time = make(df, time="when", valid="2W")
    late = df["when"] > df["when"].max() - pd.Timedelta(weeks=2)
    assert rows_of(by_time, "valid") == np.flatnonzero(late).tolist() and late.sum() == 14
    assert len(make(df, time="when", valid=0.1).ids("valid")) == 20
    # What says how to split is no feature unless it is named.
    guessed = TabularData.from_df(df.drop(columns=["label", "z"]), "y", groups="day", valid=0.3)
    assert "day" not in guessed.cat_names + guessed.cont_names


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"groups": "day", "time": "when"}, "groups or time, not both"),
        ({"groups": "day", "valid": None}, "valid=None asks for no validation"),
        ({"stratify": True}, "stratify goes with a fraction"),
        ({"valid": 1.5}, r"1\.5"),
        ({"valid": [500]}, "500"),
        ({"valid": "2W"}, "goes with time="),
    ],
)
def test_splits_that_cannot_be(how: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        make(table(), **how)
    with pytest.raises(DataError, match=r"no columns \['wehn'\].*'when'"):
        make(table(), time="wehn", valid=0.2)


# -- what is predicted -------------------------------------------------------------------------------------


def test_several_labels_in_a_cell() -> None:
    df = table()
    text = np.array(["red", "red blue", "", "blue"], object)[np.arange(120) % 4]
    lists = [str(cell).split() for cell in text]
    by_sep = make(df.assign(tags=text), "tags", label_sep=" ", valid=[0, 1, 2, 3])
    by_list = make(df.assign(tags=lists), "tags", valid=[0, 1, 2, 3])
    for data in (by_sep, by_list):
        assert data.task.is_multi and data.classes == ("blue", "red")
        assert data.target("valid").tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]  # type: ignore[union-attr]
    recipe = TablePreprocessor.from_recipe(json.loads(json.dumps(by_sep.preprocessor.recipe())), by_sep.task)
    assert recipe.targets.encode(pd.DataFrame({"tags": ["blue red"]})).tolist() == [[1, 1]]
    with pytest.raises(DataError, match="green"):
        make(df.assign(tags=text), "tags", label_sep=" ", valid=df.assign(tags="green"))


def test_the_test_split_has_its_targets_where_they_are_complete() -> None:
    df = table()
    assert torch.equal(make(df, test=df).target("test"), make(df, valid=df).target("valid"))  # type: ignore[arg-type]
    for test in (df.drop(columns="y"), df.assign(y=[np.nan, *df["y"][1:]])):
        assert make(df, test=test).target("test") is None
    learn = tabular_learner(make(df, "label", test=df), [4], device="cpu", progress=False)
    probs, targets = learn.predict(split="test")
    assert targets is not None and learn.validate("test")["accuracy"] == pytest.approx(
        float((probs.argmax(1) == targets).float().mean())
    )
    with pytest.warns(EasyLearnWarning, match="targets of test are left out: .*perhaps"):
        assert make(df, "label", test=df.assign(label="perhaps")).target("test") is None


# -- how often a row comes ---------------------------------------------------------------------------------


def drawn(data: TabularData, seed: int = 0) -> np.ndarray[Any, Any]:
    """How often each row of the table comes in an epoch."""
    index = torch.cat([b.index for b in data.loader("train", training=True).batches(CPU, seed=seed)])
    return np.bincount(np.array(rows_of(data, "train"))[index], minlength=120)


def test_weights_by_row_column_class_or_balance() -> None:
    df = table().assign(often=np.where(np.arange(120) < 12, 9.0, 1.0))
    train = np.ones(120, bool)
    train[:4] = False
    want = drawn(make(df, weights="often", valid=[0, 1, 2, 3]))
    expected = np.where(train, df["often"], 0) / df["often"][train].sum() * 116
    assert want.sum() == 116 and np.abs(want - expected).max() < 1 + 1e-9
    for weights in (df["often"], df["often"].tolist(), df["often"].to_numpy()):
        assert np.array_equal(want, drawn(make(df, weights=weights, valid=[0, 1, 2, 3])))
    df["label"] = np.where(np.arange(120) < 12, "rare", "usual")
    counts = drawn(make(df, "label", weights="balanced", valid=None))
    assert abs(counts[:12].sum() - 60) <= 1
    counts = drawn(make(df, "label", weights={"rare": 3}, valid=None))
    assert abs(counts[:12].sum() - 120 * 36 / 144) <= 1
    assert drawn(make(df, valid=None)).tolist() == [1] * 120
    in_order = make(df, weights="often", valid=None).loader("train").batches(CPU)
    assert sum(len(b.index) for b in in_order) == 120  # weights are for training alone


@pytest.mark.parametrize(
    ("target", "weights", "message"),
    [
        ("y", "balanced", "one class for each item"),
        ("label", "balansed", "Did you mean 'balanced'"),
        ("label", {"perhaps": 2}, "'perhaps', which is no class"),
        ("label", [1.0] * 7, "7 entries, the table 120 rows"),
        ("label", [-1.0] * 120, "0 or more"),
        ("label", pd.Series(1.0, index=range(1, 121)), "another index"),
        ("label", "shop", "'shop' holds text"),
    ],
)
def test_weights_that_cannot_be(target: str, weights: Any, message: str) -> None:
    with pytest.raises((ArgumentError, DataError), match=message):
        make(table(), target, weights=weights)


def test_a_column_of_weights_is_no_feature(capsys: pytest.CaptureFixture[str]) -> None:
    df = table()[["shop", "size", "rain", "y"]]
    data = TabularData.from_df(df, "y", weights="rain")
    assert "rain" not in data.cont_names and "how often a row comes" in capsys.readouterr().out


# -- tables of every kind ----------------------------------------------------------------------------------


def test_the_callers_table_is_left_as_it_is() -> None:
    df = table()
    before = df.copy(deep=True)
    make(df, test=df).preprocessor.read(df)
    pd.testing.assert_frame_equal(df, before)


@pytest.mark.parametrize("index", ["unsorted", "duplicate", "dates", "two levels"])
def test_odd_indexes_change_nothing(index: str) -> None:
    df = table()
    plain = make(df, seed=2)
    odd = df.copy()
    odd.index = {
        "unsorted": pd.Index(np.random.default_rng(0).permutation(120)),
        "duplicate": pd.Index([7] * 120),
        "dates": pd.DatetimeIndex(df["when"]),
        "two levels": pd.MultiIndex.from_arrays([df["day"], df["label"]]),
    }[index]
    data = make(odd, seed=2)
    assert data.fingerprint("train") == plain.fingerprint("train") and data.fingerprint("valid") == plain.fingerprint(
        "valid"
    )
    assert list(data.ids("valid")) == [str(label) for label in odd.index[rows_of(plain, "valid")]]


@pytest.mark.parametrize(
    "kind", ["nullable", pytest.param("arrow", marks=pytest.mark.skipif(not HAS_ARROW, reason="no pyarrow"))]
)
def test_nullable_and_arrow_types_give_the_same_data(kind: str) -> None:
    df = table()
    typed = df.convert_dtypes(dtype_backend="numpy_nullable" if kind == "nullable" else "pyarrow")
    a, b = make(df, "label", seed=1), make(typed, "label", seed=1)
    assert a.classes == b.classes and a.fingerprint("train") == b.fingerprint("train")
    assert make(df, seed=1).fingerprint("valid") == make(typed, seed=1).fingerprint("valid")
    row = typed.iloc[3]
    assert torch.equal(
        torch.from_numpy(b.preprocessor.read(row).values.cats),
        torch.from_numpy(a.preprocessor.read(df.iloc[3]).values.cats),
    )


def test_booleans_categories_and_constant_columns() -> None:
    df = table()
    df["open"] = df["rain"] > 0.5
    df["maybe"] = pd.array([True, None, False] * 40, dtype="boolean")
    df["grade"] = pd.Categorical(["mid", "low", "high"] * 40, ["low", "mid", "high"], ordered=True)
    df["same"] = 3.0
    df["word"] = "x"
    data = make(df, cat_names=["open", "maybe", "grade", "word"], cont_names=["same", "rain"], valid=None)
    assert data.preprocessor.processor.levels("grade")[2:] == ["low", "mid", "high"]
    assert data.preprocessor.processor.levels("maybe")[2:] == [False, True]
    cats, conts = whole(data, "train")
    assert cats[:3, 1].tolist() == [3, 1, 2] and set(cats[:, 3].tolist()) == {2}
    assert bool((conts[:, 0] == 0).all()) and bool(torch.isfinite(conts).all())
    as_number = make(df, cat_names=[], cont_names=["maybe", "open"], scale="none", valid=None)
    assert whole(as_number, "train")[1][:3, 2].tolist() == [0, 1, 0]  # the flag of the missing one


def test_guessed_columns_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    df = table().drop(columns=["label", "z"])
    data = TabularData.from_df(df, "y")
    out = capsys.readouterr().out
    assert "shop" in data.cat_names and {"size", "rain"} <= set(data.cont_names) and "when" in out
    assert "y" not in data.cat_names + data.cont_names
    make(df)
    assert "rain" not in capsys.readouterr().out
    half = TabularData.from_df(df, "y", cat_names=["shop"])
    assert half.cat_names == ["shop"] and "rain" in half.cont_names


def test_rare_levels_are_folded() -> None:
    df = table()
    df.loc[0, "shop"] = "once"
    data = make(df, valid=None, min_count=2)
    assert "once" not in data.preprocessor.processor.levels("shop") and whole(data, "train")[0][0, 0] == 0
    assert make(df, valid=None, max_levels=3).preprocessor.processor.cardinalities == {"shop": 5, "day": 5}


# -- loaders -----------------------------------------------------------------------------------------------


def test_an_epoch_sees_each_training_row_once() -> None:
    data = make(table(), batch_size=7)
    orders = []
    for epoch in (0, 1, 0):
        index = torch.cat([b.index for b in data.loader("train", training=True).batches(CPU, seed=5, epoch=epoch)])
        assert sorted(index.tolist()) == list(range(96))
        orders.append(index.tolist())
    assert orders[0] == orders[2] != orders[1]


def test_batch_sizes() -> None:
    for n in (1, 100, 10_000, 10**6):
        size = default_batch_size(n)
        assert 64 <= size <= 1024 and size & (size - 1) == 0
    assert make(table(), batch_size=10).batch_size == 10
    with pytest.raises(ArgumentError, match="batch_size"):
        make(table(), batch_size=-1)
    with pytest.raises(ArgumentError, match="batch_size"):
        make(table(), batch_size=0)


# -- adopt and like ----------------------------------------------------------------------------------------


def test_like_takes_codes_scales_and_classes() -> None:
    df = table()
    data = make(df, "label")
    later = table(40, seed=9)
    later["size"] += 100
    same = TabularData.from_df(later, "label", like=data, valid=0.5)
    assert (
        same.preprocessor.processor is data.preprocessor.processor
        and same.classes == data.classes
        and same.cat_names == CATS
    )
    assert same.adopt(data) is same
    with pytest.raises(DataError, match="codes and scales of its own"):
        make(later, "label").adopt(data)
    with pytest.raises(DataError):
        make(df, "y").adopt(data)
    assert make(df, "label").adopt(data)  # made in the same way from the same rows
    with pytest.raises(ArgumentError, match=r"predicts \['label'\], so target cannot be \['y'\]"):
        TabularData.from_df(later, "y", like=data)


def test_data_says_what_it_is() -> None:
    text = repr(make(table(), ["y", "z"]))
    assert "96 train, 24 valid" in text and "regression: y, z" in text
    assert make(table(), "label").classes == ("no", "yes")


# -- bad input ---------------------------------------------------------------------------------------------


def test_a_target_that_is_missing_names_the_rows() -> None:
    df = table()
    df.loc[[3, 70], "y"] = np.nan
    with pytest.raises(DataError, match=r"2 of 120 rows of the target 'y' are missing.*Rows: row 3, row 70"):
        make(df)
    df["label"] = df["label"].astype(object)
    df.loc[[8], "label"] = None
    with pytest.raises(DataError, match=r"1 of 120 rows of the target 'label' have no label.*Rows: row 8"):
        make(df, "label", valid=[0, 1])
    with pytest.raises(DataError, match=r"the target 'label' have no label.*Rows: row 8"):
        make(df, "label", valid=[8])
    make(df.dropna(), "label", test=df)  # targets of a test table are not looked at
    make(df.dropna(), "label", test=df.drop(columns="label"))


def test_a_single_class_and_a_class_that_only_validates() -> None:
    df = table()
    with pytest.raises(DataError, match="every training row of the target 'label' has the label 'no'"):
        make(df.assign(label="no"), "label")
    df.loc[7, "label"] = "perhaps"
    with pytest.raises(DataError, match=r"row 7.*'perhaps'.*stratify"):
        make(df, "label", valid=[7, 8])
    names = df.assign(label=[f"name {k}" for k in range(len(df))])
    with pytest.raises(DataError, match=r"each of the 120 rows of the target 'label' is a class of its own"):
        make(names, "label")
    assert make(names, "label", valid=None).task.n_out == 120


def test_a_column_without_any_training_value_is_told_in_words() -> None:
    df = table().assign(why=[*[None] * 118, "ill", "moved"])
    learn = tabular_learner(make(df, cat_names=["why"], valid=[118, 119]), progress=False)
    with pytest.warns(EasyLearnWarning, match="'why' holds 'ill', 'moved', training had none"):
        learn.predict(df.tail(2))


def test_where_no_column_is_left_each_is_named_with_the_reason() -> None:
    df = table()
    days = [f"{1 + k % 28}/{1 + k // 28}/24" for k in range(len(df))]
    df = pd.DataFrame({"id": range(120), "one": 1, "name": [f"n{k}" for k in range(120)], "day": days, "y": df["y"]})
    with pytest.raises(DataError, match="no column is left") as error:
        TabularData.from_df(df, "y")
    for said in ("id: 120 different", "one: it holds one value", "name: 120", "day: it holds dates, written as text"):
        assert said in str(error.value)


@pytest.mark.parametrize("which", ["df", "valid", "test"])
def test_empty_tables(which: str) -> None:
    df = table()
    given: dict[str, Any] = {"df": df, "valid": df, "test": df, which: df.iloc[:0]}
    with pytest.raises(DataError, match=f"{which} has no rows"):
        make(given["df"], valid=given["valid"], test=given["test"])


def test_text_in_a_continuous_column_names_it() -> None:
    df = table()
    df["rain"] = df["rain"].astype(object)
    df.loc[12, "rain"] = "wet"
    with pytest.raises(DataError, match=r"continuous column 'rain' holds text in row 12: 'wet'.*cat_names"):
        make(df)
    data = make(table())
    with pytest.raises(DataError, match="'rain' holds text in row 0: 'wet'"):
        data.preprocessor.read({"shop": "a", "day": 1, "size": 3.0, "rain": "wet"})


def test_missing_columns_are_named_and_extra_ones_ignored() -> None:
    df = table()
    data = make(df)
    with pytest.raises(DataError, match=r"no columns \['day', 'rain'\]"):
        data.preprocessor.read(df.drop(columns=["day", "rain"]))
    with pytest.raises(DataError, match=r"no columns \['rain'\]"):
        data.preprocessor.read({"shop": "a", "day": 1, "size": 3.0})
    data.preprocessor.read(df.assign(extra="?").drop(columns=["y", "z", "label", "when"]))
    with pytest.raises(DataError, match=r"no columns \['shop'\]"):
        make(df, test=df.drop(columns="shop"))
    with pytest.raises(DataError, match=r"no columns \['shopp'\]; .*'shop'"):
        make(df, cat_names=["shopp"])
    with pytest.raises(DataError, match=r"no columns \['Y'\]"):
        make(df, "Y")


def test_leaks_and_ids_are_warned_of() -> None:
    df = table(300)
    df["twice"] = df["y"] * 2
    with pytest.warns(EasyLearnWarning, match=r"'twice'.*Would it be known when a prediction is wanted"):
        make(df, cont_names=["rain", "twice"])
    df["code"] = df["label"].map({"no": 7, "yes": 9})
    with pytest.warns(EasyLearnWarning, match=r"'code'.*Would it be known"):
        make(df, "label", cat_names=["shop", "code"])
    df["id"] = [f"k{i}" for i in range(300)]
    with pytest.warns(EasyLearnWarning, match="'id' has nearly as many values as there are rows"):
        make(df, cat_names=["shop", "id"])


def test_columns_that_cannot_be_features() -> None:
    df = table()
    with pytest.raises(ArgumentError, match=r"\['y'\] are to be predicted"):
        make(df, cont_names=["rain", "y"])
    with pytest.raises(ArgumentError, match="both categorical and continuous"):
        make(df, cont_names=["day"])
    with pytest.raises(DataError, match="no column is left as a feature"):
        make(df, cat_names=[], cont_names=[])
    with pytest.raises(ArgumentError, match="must name one column or several different ones"):
        make(df, [])
    with pytest.raises(ArgumentError, match="several different ones"):
        make(df, ["y", "y"])
    with pytest.raises(DataError, match=r"\['rain'\] are in the table more than once"):
        make(pd.concat([df, df[["rain"]]], axis=1))


def test_columns_may_be_named_by_an_index() -> None:
    df = table()
    data = TabularData.from_df(df, df.columns[6:7], cat_names=df.columns[:2], cont_names=df.columns[2:4])
    assert data.fingerprint("train") == make(df).fingerprint("train")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": 3}, "target must name one column or several different ones, got '3'"),
        ({"target": table()["y"]}, "name of the column to predict.*Series of 120 rows.*target='y'"),
        ({"target": table()[["y"]]}, "DataFrame of 120 rows"),
        ({"target": None}, "target must name"),
        ({"target": ["y", 3]}, "target must name"),
        ({"cat_names": "shop"}, r"write \['shop'\]"),
        ({"cat_names": [["shop"]]}, "cat_names must hold text"),
        ({"cont_names": 3}, "cont_names must be a list"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"batch_size": "64"}, "batch_size must be a whole number"),
        ({"min_count": 1.5}, "min_count must be a whole number"),
        ({"max_levels": True}, "max_levels must be a whole number"),
        ({"task": "classes"}, "task must be one of"),
        ({"valid": "6W"}, "time"),
        ({"like": table()}, "like= takes the data of a table"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused_in_few_words(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as error:
        make(table(), **{"target": "y", **given})
    assert len(str(error.value)) < 400


def test_lists_of_arrow_are_refused_in_words() -> None:
    pa = pytest.importorskip("pyarrow")
    df = table().assign(l=pd.Series([[1, 2]] * 120, dtype=pd.ArrowDtype(pa.list_(pa.int64()))))
    with pytest.raises(DataError, match=r"'l', row 0: .*cannot be a category"):
        make(df, cat_names=["l"])
    assert make(df, "l", valid=None).classes == ("1", "2")


def test_a_learner_of_single_rows_is_refused_before_it_trains() -> None:
    with pytest.raises(ArgumentError, match=r"batch_size=1.*batch-norm"):
        tabular_learner(make(table(), batch_size=1), [4], device="cpu")


def test_every_option_is_in_the_signature_and_explained() -> None:
    options = {field.name for field in dataclasses.fields(TableOptions)}
    assert options == TableKeywords.__annotations__.keys()
    for call in (TabularData.from_df, TabularData.from_csv, TabularData.from_parquet):
        assert options < set(inspect.signature(call).parameters)
        assert call.__doc__ is not None and all(f"{name}:" in call.__doc__ for name in options)


def test_a_model_elsewhere_gets_data_of_its_own() -> None:
    data = make(table(), "label", test=table())
    moved = data.for_model(torch.nn.Linear(1, 1, device="meta"))
    assert moved is not data and moved.target("train").device.type == "meta"  # type: ignore[union-attr]
    assert data.target("train").device.type == "cpu" and moved.classes == data.classes  # type: ignore[union-attr]
    assert data.for_model(torch.nn.Linear(1, 1)) is data and data.for_model(torch.nn.Identity()) is data


def test_arguments_of_other_libraries_are_explained() -> None:
    for old, new in (("y_names", "target"), ("bs", "batch_size"), ("valid_idx", "valid"), ("procs", "no procs")):
        with pytest.raises(ArgumentError, match=new):
            TabularData.from_df(table(), "y", **{old: 1})
    for wrong in ("all.csv", table().to_numpy(), {"y": [1]}):
        with pytest.raises(ArgumentError, match="df must be a pandas DataFrame"):
            make(wrong)  # type: ignore[arg-type]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        TabularData.from_csv(tmp_path / "none.csv", "y")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match=r"empty\.csv is empty"):
        TabularData.from_csv(tmp_path / "empty.csv", "y")
    (tmp_path / "head.csv").write_text("a,y\n")
    with pytest.raises(DataError, match="df has no rows"):
        TabularData.from_csv(tmp_path / "head.csv", "y")
