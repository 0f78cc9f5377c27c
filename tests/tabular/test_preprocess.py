"""Rows that come later: in every form, from files that changed their types, with what training never saw."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn import cli, load_predictor
from easylearn.data.bunch import BlankData
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning, WeightsError
from easylearn.learning import Learner
from easylearn.tabular.data import TabularData
from easylearn.tabular.learner import tabular_learner
from easylearn.tabular.preprocess import TablePreprocessor
from tests.tabular.shops import CATS, CONTS, table


def made(df: pd.DataFrame | None = None, **changes: Any) -> TabularData:
    given: dict[str, Any] = {"cat_names": CATS, "cont_names": CONTS, "valid": None, "task": "single_label"}
    return TabularData.from_df(table() if df is None else df, "label", **{**given, **changes})


def learner(data: TabularData) -> Learner:
    return tabular_learner(data, [4], device="cpu", progress=False)


# -- every form of rows ------------------------------------------------------------------------------------


def test_rows_come_as_dict_series_list_or_frame() -> None:
    df = table()
    data = made(df)
    cats, conts = data._split("train").loader(200, shuffle=False).source.inputs  # type: ignore[attr-defined]
    read = data.preprocessor.read
    rows = [df.iloc[i].to_dict() for i in range(5)]
    named = df.set_axis([f"r{i}" for i in range(120)])
    for items, n, single, ids in (
        (named, 120, False, [f"r{i}" for i in range(120)]),
        (rows, 5, False, list("01234")),
        ([df.iloc[i] for i in range(5)], 5, False, list("01234")),
        (rows[0], 1, True, ["0"]),
        (df.iloc[0], 1, True, ["0"]),
        (tuple(rows), 5, False, list("01234")),
    ):
        found = read(items)
        assert (found.single, list(found.ids), len(found)) == (single, ids, n)
        inputs = data.preprocessor.source(found.values).fetch(np.arange(n), torch.device("cpu"))
        assert torch.equal(inputs[0], cats[:n]) and torch.allclose(inputs[1], conts[:n], atol=1e-6)
    assert list(read(rows, first=7).ids) == [*"789", "10", "11"]
    for wrong in ("shop", 3, [1, 2], np.zeros((2, 2)), "rows.csv"):
        with pytest.raises(ArgumentError, match="expected a DataFrame, one row"):
            read(wrong)
    for nothing in (df.iloc[:0], []):
        with pytest.raises(DataError, match="no rows to predict"):
            read(nothing)


@pytest.mark.parametrize("odd", [None, np.nan, pd.NA, pd.NaT, float("inf"), "never seen", -1, 2.5, True, 10**400])
def test_any_value_is_taken_and_counted(odd: Any) -> None:
    preprocessor = made().preprocessor
    for name in (*CATS, *CONTS):
        if name in CONTS and isinstance(odd, str):
            continue
        row = {"shop": "a", "day": 1, "size": 3.0, "rain": 0.1, name: odd}
        encoded, report = preprocessor.read(row).values, preprocessor.report(row)
        assert np.isfinite(encoded.conts).all() and encoded.report == report
        gone = odd is None or (not isinstance(odd, int) and pd.isna(odd))
        known = name == "day" and odd is True  # True is 1
        if name in CATS:
            assert encoded.cats[0, CATS.index(name)] == (3 if known else 1 if gone else 0)
        assert report.rows == 1
        assert report.missing == ({name: 1} if gone else {})
        assert report.unknown == ({name: 1} if name in CATS and not gone and not known else {})
        beyond = name in CONTS and not gone and odd in (float("inf"), 10**400)
        assert report.infinite == ({name: 1} if beyond else {})


@settings(max_examples=80, deadline=None)
@given(
    shop=st.sampled_from(["a", "b", "z", "", None, float("nan"), 3, True]),
    day=st.one_of(st.integers(-1, 8), st.sampled_from(["2", "2.0", "x", None, 2.0, 1e300])),
    size=st.one_of(st.none(), st.floats(), st.integers(-(10**9), 10**9)),
    scale=st.sampled_from(["standard", "quantile", "none"]),
)
def test_a_row_by_itself_is_what_it_is_in_a_table(shop: Any, day: Any, size: Any, scale: Any) -> None:
    preprocessor = made(scale=scale).preprocessor
    row = {"shop": shop, "day": day, "size": size, "rain": 0.5}
    alone = preprocessor.processor.transform_row(row)
    assert alone is not None
    among = preprocessor.processor.transform(pd.DataFrame([row, row]))
    assert alone.cats[0].tolist() == among.cats[0].tolist()
    np.testing.assert_array_equal(alone.conts[0], among.conts[0])


def test_missing_columns_and_text_among_numbers_are_named() -> None:
    read = made().preprocessor.read
    with pytest.raises(DataError, match=r"no columns \['rain'\]"):
        read({"shop": "a", "day": 1, "size": 2.0})
    with pytest.raises(DataError, match="'rain' holds text in row 0: 'wet'"):
        read({"shop": "a", "day": 1, "size": 3.0, "rain": "wet"})


# -- no state ----------------------------------------------------------------------------------------------


def test_predicting_changes_nothing_and_threads_do_not_meet() -> None:
    df = table()
    data = made(df)
    learn = learner(data)
    before, report = json.dumps(data.preprocessor.recipe()), data.report()
    others = [df.iloc[i : i + 7].assign(day=range(i, i + 7)) for i in range(0, 105, 7)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasyLearnWarning)
        want = [learn.predict(other).probs for other in others]
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(lambda other: learn.predict(other).probs, others * 4))
    assert all(torch.equal(a, b) for a, b in zip(got, want * 4, strict=True))
    assert json.dumps(data.preprocessor.recipe()) == before
    pd.testing.assert_frame_equal(data.report(), report)


def test_a_report_counts_what_is_odd_in_any_table() -> None:
    data = made()
    new = table(10).assign(shop=["a", "zz", None, *"bbbbbbb"], rain=[np.nan, np.inf, *[0.5] * 8])
    found = data.preprocessor.report(new)
    assert (found.rows, found.unknown, found.infinite) == (10, {"shop": 1}, {"rain": 1})
    assert found.missing["shop"] == 1 and found.missing["rain"] == 1 and found.examples == {"shop": ["'zz'"]}
    assert data.preprocessor.report(table()).unknown == {}


# -- a column that means another thing ---------------------------------------------------------------------


def test_a_column_of_which_nothing_is_known_is_warned_of_once() -> None:
    data = made()
    learn = learner(data)
    new = table(10).assign(shop=[f"shop {i % 3}" for i in range(10)], day=[None, *[70] * 9])
    with pytest.warns(EasyLearnWarning, match=r"(?s)'shop'.*'shop 0'.*'a'.*'day'.*70") as told:
        learn.predict(new)
    assert len(told) == 1
    learn.predict(table(10).assign(shop=["a", *["zz"] * 9]))  # a known one among them: nothing is said
    learn.predict(table(10).assign(shop=None))
    learn.predict({"shop": "zz", "day": 70, "size": 1.0, "rain": 0.1})  # of one row it is no wonder


def test_a_file_is_warned_of_once_though_it_is_read_in_pieces(tmp_path: Path) -> None:
    df = table(60)
    preprocessor = made(df).preprocessor
    df.assign(shop=["a", *["zz"] * 59]).to_csv(tmp_path / "some.csv", index=False)
    assert len(list(preprocessor.read_file(tmp_path / "some.csv", 20))) >= 3
    df.assign(shop="zz").to_csv(tmp_path / "none.csv", index=False)
    with pytest.warns(EasyLearnWarning, match="'shop' is known") as told:
        assert sum(len(items) for items in preprocessor.read_file(tmp_path / "none.csv", 20)) == 60
    assert len(told) == 1


# -- files -------------------------------------------------------------------------------------------------


def odd_columns(n: int = 6000) -> pd.DataFrame:
    """Columns that a reader of files spoils in silence if it looks at the file alone."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "zip": np.array(["01234", "1234", "99999"], object)[rng.integers(0, 3, n)],
            "version": np.array(["1.10", "1.1", "2.0"], object)[rng.integers(0, 3, n)],
            "kind": np.array(["NA", "null", "b", None], object)[rng.integers(0, 4, n)],
            "late": [str(i % 7) if i < n - 50 else "letters" for i in range(n)],
            "whole": rng.integers(0, 5, n),
            "gaps": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 5, n)),
            "flag": rng.random(n) < 0.5,
            "when": pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.integers(0, 4, n), unit="D"),
            "x": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "label": np.array(["no", "yes"])[rng.integers(0, 2, n)],
        }
    )


ODD_CATS = ["zip", "version", "kind", "late", "whole", "gaps", "flag", "when"]


@pytest.fixture(scope="module")
def odd() -> tuple[pd.DataFrame, Learner]:
    """A table of such columns and a learner of it."""
    df = odd_columns()
    return df, learner(made(df, cat_names=ODD_CATS, cont_names=["x"]))


@pytest.mark.parametrize("kind", ["csv", "gz", "parquet", "folder"])
def test_a_file_is_predicted_as_the_table_it_was_written_from(
    odd: tuple[pd.DataFrame, Learner], kind: str, tmp_path: Path
) -> None:
    df, learn = odd
    file = tmp_path / {"csv": "t.csv", "gz": "t.csv.gz", "parquet": "t.parquet", "folder": "parts"}[kind]
    if kind in ("csv", "gz"):
        df.to_csv(file, index=False)
    else:
        pytest.importorskip("pyarrow")
        if kind == "parquet":
            df.to_parquet(file, row_group_size=500)
        else:
            file.mkdir()
            df.iloc[:5970].to_parquet(file / "a.parquet")
            df.iloc[5970:].to_parquet(file / "b.parquet")
    want = learn.predict(df)
    # Rows share their batches with others, which moves the last digits.
    assert torch.allclose(learn.predict(file).probs, want.probs, atol=1e-6)
    assert learn.data.preprocessor.report(df).is_clean is False and not learn.data.preprocessor.report(df).unknown  # type: ignore[attr-defined]
    for n in (7, 1000, 10_000):
        pieces = [items.values for items in learn.data.preprocessor.read_file(file, n)]
        whole = learn.data.preprocessor.read(df).values
        assert max(len(piece.cats) for piece in pieces) <= n
        np.testing.assert_array_equal(np.concatenate([p.cats for p in pieces]), whole.cats)
        np.testing.assert_array_equal(np.concatenate([p.conts for p in pieces]), whole.conts)


def test_the_command_line_predicts_as_the_learner_does(odd: tuple[pd.DataFrame, Learner], tmp_path: Path) -> None:
    df, learn = odd
    df.to_csv(tmp_path / "t.csv", index=False)
    model = learn.export(tmp_path / "m.easylearn").path
    assert cli.main(["predict", str(model), str(tmp_path / "t.csv"), "--out", str(tmp_path / "o.csv")]) == 0
    out, want = pd.read_csv(tmp_path / "o.csv"), learn.predict(df)
    assert out["label"].tolist() == list(want.labels) and len(out) == len(df)
    np.testing.assert_allclose(out[["p_no", "p_yes"] if "p_no" in out else ["no", "yes"]], want.probs, atol=1e-5)


def test_other_files_of_training_are_read_with_its_types(tmp_path: Path) -> None:
    df = odd_columns(600).drop(columns="version")  # of a file to train with nobody knows that 1.10 is no number
    few = df[df["late"] != "letters"].iloc[:100]
    for name, rows in (("train", df), ("other", few)):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    options: dict[str, Any] = {"cat_names": [c for c in ODD_CATS if c != "version"], "cont_names": ["x"]}
    here = TabularData.from_df(df, "label", valid=few, test=few, **options)
    other = tmp_path / "other.csv"
    files = TabularData.from_csv(tmp_path / "train.csv", "label", valid=other, test=other, **options)
    for split in ("valid", "test"):
        assert files.seen(split).unknown == {}  # type: ignore[arg-type]
        assert files.fingerprint(split) == here.fingerprint(split)  # type: ignore[arg-type]
    again = TabularData.from_csv(other, "label", like=files, valid=None)
    assert again.seen("train").unknown == {}


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=4),
    "digits": st.from_regex(r"[+-]?0?[0-9]{1,3}(\.[0-9]{1,2})?", fullmatch=True),
    "words": st.sampled_from(["NA", "null", "None", "n/a", "True", "false", "nan?", "inf", "1e3", " 7", "-", "<NA>"]),
    "whole": st.integers(-(2**60), 2**60),
    "small": st.integers(0, 9),
    "fraction": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "mixed": st.one_of(st.integers(0, 9), st.sampled_from(["a", "b", "0x1"])),
    "date": st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1)),
    "time": st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
    "decimal": st.decimals(-1000, 1000, places=2),
}


@settings(max_examples=120, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(VALUES)), gaps=st.booleans())
def test_categories_of_any_kind_survive_a_csv_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str, gaps: bool
) -> None:
    values = data.draw(st.lists(VALUES[kind], min_size=4, max_size=30))
    if gaps:
        values[1] = None
    column = pd.Series(values, dtype=object)
    if kind not in ("mixed", "date", "decimal"):
        column = column.infer_objects()
    df = pd.DataFrame(
        {"c": column, "x": np.arange(len(values)) / 3, "label": ["a", "b"] * 2 + ["a"] * (len(values) - 4)}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasyLearnWarning)
        preprocessor = made(df, cat_names=["c"], cont_names=["x"]).preprocessor
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    df.to_csv(file, index=False, lineterminator="\n")
    want = preprocessor.read(df).values
    # An empty text and the word "nan" are written as what is missing, so they are it.
    missing = [isinstance(v, str) and v.lower() in ("", "nan") for v in values]
    codes = np.where(missing, 1, want.cats[:, 0])
    pieces = [items.values for items in preprocessor.read_file(file, 3)]
    got = np.concatenate([piece.cats[:, 0] for piece in pieces])
    assert got.tolist() == codes.tolist()
    np.testing.assert_array_equal(np.concatenate([piece.conts for piece in pieces]), want.conts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(width=64), st.integers(-(10**12), 10**12)), min_size=4, max_size=20))
def test_numbers_survive_a_csv_file(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    x = pd.Series(values, dtype="float64")
    df = pd.DataFrame(
        {"c": ["p", "q"] * 2 + ["p"] * (len(values) - 4), "x": x, "label": ["a", "b"] * 2 + ["a"] * (len(values) - 4)}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasyLearnWarning)
        preprocessor = made(df, cat_names=["c"], cont_names=["x"], scale="none").preprocessor
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    df.to_csv(file, index=False)
    (items,) = preprocessor.read_file(file, 1000)
    np.testing.assert_array_equal(items.values.conts, preprocessor.read(df).values.conts)


def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    read_file = made().preprocessor.read_file
    (tmp_path / "t.csv").write_text("shop,day,size,rain\na,1,2.5,0.1\na,1,2.5,wet\n")
    with pytest.raises(DataError, match=r"'rain' holds text in t\.csv line 3: 'wet'"):
        list(read_file(tmp_path / "t.csv", 100))
    (tmp_path / "t.csv").write_text("shop,day,size\na,1,2.5\n")
    with pytest.raises(DataError, match=r"t\.csv has no columns \['rain'\]"):
        list(read_file(tmp_path / "t.csv", 100))
    with pytest.raises(DataError, match="there is no file"):
        list(read_file(tmp_path / "none.csv", 100))
    learn = learner(made())
    (tmp_path / "t.csv").write_text("shop,day,size,rain\n")
    with pytest.raises(DataError, match="nothing to predict"):
        learn.predict(tmp_path / "t.csv")


# -- as a file of a model says it --------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"scale": "quantile"}, {"task": "single_label", "min_count": 2}])
def test_a_recipe_gives_the_same_preprocessor(how: dict[str, Any]) -> None:
    df = table()
    data = made(df, **how)
    recipe = json.loads(json.dumps(data.preprocessor.recipe(), allow_nan=False))
    assert {"kind", "processor", "columns", "labels", "y_range"} <= recipe.keys() and recipe["kind"] == "table"
    again = TablePreprocessor.from_recipe(recipe, data.task)
    for a, b in zip(again.read(df).values.tensors(), data.preprocessor.read(df).values.tensors(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(again.targets.encode(df), data.preprocessor.targets.encode(df))
    assert again.recipe() == data.preprocessor.recipe()
    for broken in ({}, {**recipe, "processor": 3}, {**recipe, "y_range": [1]}, {**recipe, "columns": None}):
        with pytest.raises((WeightsError, DataError)):
            TablePreprocessor.from_recipe(broken, data.task)


def test_a_loaded_model_knows_what_new_data_shall_be_like(tmp_path: Path) -> None:
    from easylearn import accuracy, load_learner

    df = table()
    learn = learner(made(df))
    path = learn.export(tmp_path / "m.easylearn").path
    loaded = load_learner(path, metrics=[accuracy], device="cpu", progress=False)
    assert isinstance(loaded.data, BlankData)
    new = TabularData.from_df(df, "label", like=loaded.data, valid=0.5)
    loaded.set_data(new)
    assert loaded.data.preprocessor is new.preprocessor
    assert torch.equal(load_predictor(path, device="cpu").predict(df).probs, learn.predict(df).probs)
    with pytest.raises(ArgumentError, match="like= takes the data of a table"):
        TabularData.from_df(df, "label", like=3)


def test_decimals_and_numbers_of_object_type_are_numbers() -> None:
    rng = np.random.default_rng(0)
    df = table().assign(
        money=[Decimal(int(v)) / 100 for v in rng.integers(0, 10**6, 120)],
        ratio=pd.Series(rng.random(120), dtype=object),
    )
    data = made(df, cat_names=None, cont_names=None)
    assert {"money", "ratio"} <= set(data.cont_names)
