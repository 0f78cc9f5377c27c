from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.tabular.data import TabularData, default_batch_size

CPU = torch.device("cpu")
HAS_ARROW = importlib.util.find_spec("pyarrow") is not None
CATS, CONTS = ["shop", "day"], ["size", "rain"]


def table(n: int = 120, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = rng.normal(50, 7, n)
    size[rng.random(n) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "shop": np.array(["a", "b", None, "c"], object)[rng.integers(0, 4, n)],
            "day": rng.integers(0, 7, n),
            "size": size,
            "rain": rng.random(n),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.permutation(n), unit="D"),
            "label": np.array(["no", "yes"])[rng.integers(0, 2, n)],
            "y": rng.normal(100, 10, n),
            "z": rng.normal(0, 1, n),
        }
    )


def make(df: pd.DataFrame, target: str | list[str] = "y", **changes: Any) -> TabularData:
    return TabularData.from_df(df, target, **{"cat_names": CATS, "cont_names": CONTS, **changes})


def whole(data: TabularData, part: Any) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(data.loader(part).batches(CPU))
    return torch.cat([b.inputs[0] for b in batches]), torch.cat([b.inputs[1] for b in batches])


def rows_of(data: TabularData, part: Any) -> list[int]:
    """Positions, of a table with the default index."""
    return [int(i) for i in data.ids(part)]


# -- compared with plain pandas ----------------------------------------------------------------------------


def test_codes_numbers_and_targets_are_those_of_plain_pandas() -> None:
    df = table()
    data = make(df, valid=0.25, seed=3)
    train = df.iloc[rows_of(data, "train")]
    for part in ("train", "valid"):
        at = df.iloc[rows_of(data, part)]
        cats, conts = whole(data, part)
        for j, name in enumerate(CATS):
            levels = sorted(train[name].dropna().unique())
            want = [1 if pd.isna(v) else levels.index(v) + 2 if v in levels else 0 for v in at[name]]
            assert cats[:, j].tolist() == want
        held = train["size"].dropna()
        size = (at["size"].fillna(held.median()) - held.mean()) / held.std(ddof=0)
        rain = (at["rain"] - train["rain"].mean()) / train["rain"].std(ddof=0)
        np.testing.assert_allclose(conts, np.column_stack([size, rain, at["size"].isna()]), rtol=1e-4, atol=1e-5)
        target = data.target(part)
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
    assert data.processor.state_dict() == base.processor.state_dict()
    assert "only here" not in data.processor.levels("shop")
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
    assert a.processor.state_dict() == b.processor.state_dict() and a.fingerprint("train") == b.fingerprint("train")
    files = TabularData.from_csv(
        tmp_path / "all.csv", "y", cat_names=CATS, cont_names=CONTS, valid=tmp_path / "all.csv",
        test=str(tmp_path / "all.csv"),
    )  # fmt: skip
    assert [len(files.ids(p)) for p in ("train", "valid", "test")] == [120, 120, 120]


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
    assert not none.has_valid and not none.has_test and len(none.ids("train")) == 120
    with pytest.raises(DataError, match="no valid part"):
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
        ({"groups": "day", "valid": None}, "does not ask for a split"),
        ({"stratify": True}, "stratify goes with a fraction and one column"),
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


# -- tables of every kind ----------------------------------------------------------------------------------


def test_the_callers_table_is_left_as_it_is() -> None:
    df = table()
    before = df.copy(deep=True)
    make(df, test=df).new_loader(df)
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
        next(b.new_loader(row).batches(CPU)).inputs[0], next(a.new_loader(df.iloc[3]).batches(CPU)).inputs[0]
    )


def test_booleans_categories_and_constant_columns() -> None:
    df = table()
    df["open"] = df["rain"] > 0.5
    df["maybe"] = pd.array([True, None, False] * 40, dtype="boolean")
    df["grade"] = pd.Categorical(["mid", "low", "high"] * 40, ["low", "mid", "high"], ordered=True)
    df["same"] = 3.0
    df["word"] = "x"
    data = make(df, cat_names=["open", "maybe", "grade", "word"], cont_names=["same", "rain"], valid=None)
    assert data.processor.levels("grade")[2:] == ["low", "mid", "high"]
    assert data.processor.levels("maybe")[2:] == [False, True]
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
    assert "once" not in data.processor.levels("shop") and whole(data, "train")[0][0, 0] == 0
    assert make(df, valid=None, max_levels=3).processor.cardinalities == {"shop": 5, "day": 5}


# -- loaders -----------------------------------------------------------------------------------------------


def test_an_epoch_sees_each_training_row_once() -> None:
    data = make(table(), batch_size=7)
    orders = []
    for epoch in (0, 1, 0):
        index = torch.cat([b.index for b in data.train_loader().batches(CPU, seed=5, epoch=epoch)])
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


def test_new_rows_come_as_dict_series_list_or_frame() -> None:
    df = table()
    data = make(df)
    want = make(df, valid=None, like=data)
    cats, conts = whole(want, "train")
    lists = [df.iloc[i].to_dict() for i in range(5)]
    for items, n in ((df, 120), (lists, 5), ([df.iloc[i] for i in range(5)], 5), (lists[0], 1), (df.iloc[0], 1)):
        batch = list(data.new_loader(items).batches(CPU))
        assert torch.equal(torch.cat([b.inputs[0] for b in batch]), cats[:n])
        assert torch.allclose(torch.cat([b.inputs[1] for b in batch]), conts[:n], atol=1e-6)
        assert batch[0].target is None
    assert [data.is_single(x) for x in (df, lists, lists[0], df.iloc[0])] == [False, False, True, True]
    for wrong in ("shop", 3, [1, 2], np.zeros((2, 2))):
        with pytest.raises(ArgumentError, match="expected a DataFrame, one row"):
            data.new_loader(wrong)


# -- adopt and like ----------------------------------------------------------------------------------------


def test_like_takes_codes_scales_and_classes() -> None:
    df = table()
    data = make(df, "label")
    later = table(40, seed=9)
    later["size"] += 100
    same = TabularData.from_df(later, "label", like=data, valid=0.5)
    assert same.processor is data.processor and same.classes == data.classes and same.cat_names == CATS
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
    with pytest.raises(DataError, match=r"row 7: the label 'perhaps' of the target 'label' is in no training row"):
        make(df, "label", valid=[7, 8])


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
        data.new_loader({"shop": "a", "day": 1, "size": 3.0, "rain": "wet"})


def test_missing_columns_are_named_and_extra_ones_ignored() -> None:
    df = table()
    data = make(df)
    with pytest.raises(DataError, match=r"no columns \['day', 'rain'\]"):
        data.new_loader(df.drop(columns=["day", "rain"]))
    with pytest.raises(DataError, match=r"no columns \['rain'\]"):
        data.new_loader({"shop": "a", "day": 1, "size": 3.0})
    data.new_loader(df.assign(extra="?").drop(columns=["y", "z", "label", "when"]))
    with pytest.raises(DataError, match=r"no columns \['shop'\]"):
        make(df, test=df.drop(columns="shop"))
    with pytest.raises(DataError, match=r"no columns \['shopp'\]; .*'shop'"):
        make(df, cat_names=["shopp"])
    with pytest.raises(DataError, match=r"no columns \['Y'\]"):
        make(df, "Y")


@pytest.mark.parametrize("odd", [None, np.nan, pd.NA, pd.NaT, float("inf"), "never seen", -1, 2.5, True])
def test_any_value_at_prediction_is_taken_and_counted(odd: Any) -> None:
    data = make(table())
    n_missing = n_unknown = 0
    for name in (*CATS, *CONTS):
        if name in CONTS and isinstance(odd, str):
            continue
        row = {"shop": "a", "day": 1, "size": 3.0, "rain": 0.1, name: odd}
        batch = next(data.new_loader(row).batches(CPU))
        assert bool(torch.isfinite(batch.inputs[1]).all())
        gone = odd is None or pd.isna(odd)
        if name in CATS:
            known = name == "day" and odd is True  # True is 1
            assert batch.inputs[0][0, CATS.index(name)] == (3 if known else 1 if gone else 0)
            n_missing += gone
            n_unknown += not gone and not known
        report = data.report()
        if gone:
            assert report.loc[("predict", name), "missing"] == 1
        elif name in CATS and not known:
            assert report.loc[("predict", name), "unknown"] == 1
        elif odd == float("inf"):
            assert report.loc[("predict", name), ["infinite", "filled"]].tolist() == [1, 1]
    met = data.met("predict")
    assert sum(met.unknown.values()) == n_unknown and met.rows == (2 if isinstance(odd, str) else 4)


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
