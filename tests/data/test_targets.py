from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer

from easylearn.data.split import split_indices
from easylearn.data.targets import GivenTargets, TargetOptions, Targets, read_targets
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from tests.data.label_cases import CASES, Case


def reload(targets: Targets) -> Targets:
    return Targets.from_state(json.loads(json.dumps(targets.state_dict(), allow_nan=False)), targets.task)


def learn(values: Any, case: Case) -> tuple[GivenTargets, Targets, torch.Tensor]:
    given_ = read_targets(values, TargetOptions(**case.options))
    targets = given_.learn()
    return given_, targets, targets.encode(given_)


# -- the table of rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_table_of_rules(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    values = case.make()
    if case.refused:
        with pytest.raises((DataError, ArgumentError), match=f"(?s){case.refused}"):
            learn(values, case)
    else:
        given_, targets, target = learn(values, case)
        assert given_.task_name == case.kind == targets.task.kind
        assert targets.task.names == case.names and len(given_) == len(target) == len(values)
        assert target.dtype == (torch.int64 if case.kind == "single_label" else torch.float32)
        assert case.first is None or target[: len(case.first)].tolist() == case.first
        for again in (targets.encode(values), reload(targets).encode(values), reload(targets).encode(given_)):
            assert torch.equal(again, target)
    out = capsys.readouterr().out
    assert case.says in out if case.says else not out
    assert out.count("\n") <= 1


@pytest.mark.parametrize("case", [c for c in CASES if not c.refused], ids=lambda c: c.name)
def test_the_form_of_the_values_makes_no_difference(case: Case) -> None:
    """A list, an odd index and many rows give what a column gives."""
    values = case.make()
    options = TargetOptions(**case.options)
    given_ = read_targets(values, options, say=False)
    want = given_.learn()
    forms: list[Any] = [values.set_axis(["x"] * len(values)), pd.concat([values] * 700)]
    if isinstance(values, pd.Series) and values.dtype.kind != "O":
        forms += [values.to_numpy()]
    if isinstance(values, pd.Series) and not isinstance(values.dtype, pd.CategoricalDtype):
        forms += [values.tolist()]
    for form in forms:
        other = read_targets(form, options, say=False)
        found = other.learn()
        assert found.task.classes == want.task.classes and other.task_name == given_.task_name
        assert torch.equal(found.encode(other)[: len(values)], want.encode(given_))
        assert torch.equal(want.encode(form)[: len(values)], want.encode(given_))


def test_the_cases_are_named_once() -> None:
    assert len({c.name for c in CASES}) == len(CASES)


# -- compared with plain pandas ------------------------------------------------------------------------------


def test_class_numbers_are_pandas_codes() -> None:
    column = pd.Series(["b", "c", "a", "b"] * 20)
    given_ = read_targets(column)
    assert given_.learn().encode(given_).tolist() == column.astype("category").cat.codes.tolist()


def test_labels_are_scikit_learns() -> None:
    column = pd.Series(["a;b", "c", "", "b;a"] * 20)
    given_ = read_targets(column, TargetOptions(label_sep=";"))
    want = MultiLabelBinarizer().fit_transform([[w for w in cell.split(";") if w] for cell in column])
    np.testing.assert_array_equal(given_.learn().encode(given_), want)


@pytest.mark.filterwarnings("ignore:the labels")  # that differ by blanks
@given(st.lists(st.integers(-30, 30) | st.floats(-3, 3) | st.text(max_size=2), min_size=1))
def test_the_order_of_classes_is_total_and_never_depends_on_that_of_items(values: list[Any]) -> None:
    options = TargetOptions(task="single_label")
    try:
        one = read_targets(values, options).learn()
    except DataError:
        return
    other = read_targets(values[::-1], options).learn()
    assert one.task.names == other.task.names
    assert len(set(one.task.names)) == len(one.task.names)


# -- training and other items --------------------------------------------------------------------------------


def test_classes_are_learnt_from_training_items_only() -> None:
    given_ = read_targets(["b", "a", "zebra", "b"], where=lambda i: f"labels.csv line {i + 2}")
    targets = given_.learn(np.array([0, 1, 3]))
    assert targets.task.names == ("a", "b")
    with pytest.raises(DataError, match=r"labels\.csv line 4: the label 'zebra'.*no training row"):
        targets.encode(given_)
    assert targets.encode(["a", "b"]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "options", "other", "match"),
    [
        (["pos", "neg"], {}, ["neg", "poss", "po"],
         r"line 1 \(valid\).*'poss'.*2 rows, with 'poss', 'po'.*Did you mean 'pos'\? Known are neg, pos\. Pass str"),
        (["a", "b"], {}, ["a", " b"], r"line 1.*differs from 'b' only by blanks"),
        (["caf\u00e9", "tea"], {}, ["cafe\u0301"], r"differs from 'caf\\xe9' only by .*unicode"),
        (["a b", "a", "b c"], {}, ["c a"], r"label_sep=' '"),
        (["a;b", "c"], {"label_sep": ";"}, ["", "a;d"], r"line 1 \(valid\).*'d'.*Known are a, b, c"),
        ([["a"], ["b"]], {}, [["a"], ["x", "y"]], r"line 1 .*'x'"),
        ([1, 2], {}, [1, 3], r"line 1 .*the label 3 "),
        (["x", "y"], {"classes": ["x", "y"]}, ["z"], r"'z'.*not in classes="),
        ([0, 1], {}, [0, None], r"no label.*line 1"),
        ([0.5, 1], {}, [0.5, None], r"missing.*line 1"),
        ([0.5, 1], {}, [0.5, "x"], r"line 1: 'x'"),
        (pd.DataFrame({"a": [0, 1], "b": [1, 1]}), {}, pd.DataFrame({"a": [0, 2], "b": [1, 1]}),
         r"'a' in valid are neither.*line 1"),
        (pd.DataFrame({"a": [0, 1], "b": [1, 1]}), {}, pd.DataFrame({"a": [0, 1]}), r"no columns \['b'\]"),
        (np.eye(2), {}, np.eye(3), "3 columns to predict, but training had 2"),
    ],
)  # fmt: skip
def test_other_items_that_do_not_fit_are_named(values: Any, options: Any, other: Any, match: str) -> None:
    targets = read_targets(values, TargetOptions(**options), say=False).learn()
    with pytest.raises(DataError, match=match):
        targets.encode(other, where=lambda i: f"line {i}", split="valid", hint="Pass stratify=True")


@pytest.mark.parametrize(
    ("values", "other", "numbers"),
    [
        ([1, 2, 10], ["10", 2.0, "1.0", np.int8(2)], [2, 1, 0, 1]),
        (["1", "2", "10"], [10, 2.0, 1], [2, 1, 0]),
        ([1.0, 2.0], [True, "2"], [0, 1]),
        ([True, False], [0, 1, "True", "false"], [0, 1, 1, 0]),
        (["True", "False"], [True, False], [1, 0]),
        (
            pd.Categorical(pd.to_datetime(["2024-01-01", "2024-01-02"])),
            ["2024-01-02", pd.Timestamp("2024-01-01")],
            [1, 0],
        ),
    ],
)
def test_a_class_is_found_whatever_type_a_file_gave_it(values: Any, other: list[Any], numbers: list[int]) -> None:
    targets = read_targets(pd.Series(values), say=False).learn()
    for value, number in zip(other, numbers, strict=True):
        assert (
            targets.encode([value]).tolist()
            == reload(targets).encode(pd.Series([value], dtype=object)).tolist()
            == [number]
        )


def test_what_is_named_is_the_row_and_how_many_there_are() -> None:
    column = pd.Series(["a", None, "b", *[None] * 9], name="kind", index=[f"i{k}" for k in range(12)])
    with pytest.raises(
        DataError, match=r"10 of 12 rows of the target 'kind' have no label.*row 1 \(index 'i1'\).* and 5 more"
    ):
        read_targets(column).learn(np.array([0, 1, 2]))
    with pytest.raises(DataError, match=r"Rows: line 3, line 5"):
        read_targets(column, where=lambda i: f"line {i + 2}").stratify_codes()
    with pytest.raises(DataError, match=r"row 1 \(index 7\)"):
        read_targets(pd.Series(["a", None], index=[5, 7])).stratify_codes()


def test_numbers_that_are_all_the_same_are_refused() -> None:
    same = read_targets(pd.Series([0.5, 0.5, 0.5, 1.5], name="y"))
    with pytest.raises(DataError, match=r"every training row of the target 'y' has the number 0\.5"):
        same.learn(np.array([0, 1, 2]))
    assert same.learn(np.array([2, 3])).task.predicts_numbers and same.learn(np.array([0])).task.predicts_numbers
    assert read_targets(np.array([[0.5, 1.0], [0.5, 2.0]])).learn().task.n_out == 2


def test_what_leaves_rows_out_is_said_where_it_does() -> None:
    def refusal(values: Any) -> str:
        given = read_targets(values)
        with pytest.raises(DataError, match=r"leave (these rows|them) out") as error:
            given.learn().encode(given)
        return str(error.value)

    for values in (["a", None, "b"], [0.5, np.nan, 1.5]):
        assert "df.dropna(subset=['kind']) does" in refusal(pd.DataFrame({"kind": values}))
    # Where pandas would drop nothing, or there is no table:
    for other in (pd.DataFrame({"kind": ["a", " ", "b"]}), pd.DataFrame({"kind": [0.5, np.inf, 1.5]}), ["a", None]):
        assert "dropna" not in refusal(other)


# -- what is told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["cat", "cat ", "dog"], r"'cat' and 'cat ' of the target 'label' differ only by blanks"),
        (["cat", "Cat", "dog"], r"'cat' and 'Cat' of the target 'label' differ only by case.*str.lower"),
        ([["Sea"], ["sea", "haze"]], "differ only by case"),
        (["cat", "cat\u200b", "dog"], r"'cat' and 'cat\\u200b'.*str\.replace\('\[\\u200b\]', '', regex=True\)"),
        (["\ufeffcat", "cat", "dog"], r"'\\ufeffcat' and 'cat'|'cat' and '\\ufeffcat'"),
        (["red cat", "red  cat", "dog"], r"'red cat' and 'red  cat' .* differ only by blanks"),
        (["caf\u00e9", "cafe\u0301", "tea"], r"'caf\\xe9' and 'cafe\\u0301'"),
        ([["cat"], [" cat", "dog"]], r"'cat' and ' cat'"),
    ],
)
def test_labels_that_look_the_same_are_told_and_stay_two(values: list[Any], words: str) -> None:
    with pytest.warns(EasyLearnWarning, match=words):
        targets = read_targets(values).learn()
    assert targets.task.n_out == 3


@pytest.mark.parametrize(
    ("values", "sep"),
    [
        (["a b", "a", "b c"], " "),
        (["clear road", "haze", "clear", "haze road"], " "),
        (["a;b", "b", "a;c", "c"], ";"),
        (["sun|sea", "sea|sand", "sun"], "|"),
        (["sun & sea", "sea & sand", "sun"], "&"),
        (["a/b", "b/c", "a"], "/"),
        (["and/or", "either"], ""),
        (["c++", "c", "rust"], ""),
        (["new york", "boston"], ""),
        (["golden retriever", "labrador retriever", "golden eagle", "pug"], ""),
        (["spam", "not spam"], ""),
        (["class 1", "class 2", "class 3"], ""),
    ],
)
def test_a_separator_that_was_forgotten(values: list[str], sep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_targets(values * 3).task_name == "single_label"
    out = capsys.readouterr().out
    assert (f"did you mean label_sep={sep!r}" in out) if sep else not out


def test_text_that_says_numbers_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    read_targets(["0.5", "1.5"] * 3)
    assert "text that says numbers, taken as 2 classes" in capsys.readouterr().out
    read_targets([str(i) for i in range(30)])
    assert "30 classes" in capsys.readouterr().out
    read_targets([f"{k}/1/24" for k in range(30)])
    assert "text that says dates, taken as 30 classes" in capsys.readouterr().out
    read_targets([f"name {k}" for k in range(30)])
    assert "30 classes in 30 rows, such as 'name 0'" in capsys.readouterr().out
    names = [f"name {k}" for k in range(3000)]
    with pytest.raises(DataError, match=r"'label' has 3,000 different values in 3,001 rows, such as 'name 0'"):
        read_targets([*names, "name 0"])
    days = pd.date_range("2000-01-01", periods=3000).strftime("%Y-%m-%d")
    with pytest.raises(DataError, match=r"For numbers take \(pd\.to_datetime\(df\['day'\]\) - some_day\)"):
        read_targets(pd.Series(days, name="day"))
    assert read_targets([*names, "name 0"], TargetOptions(task="single_label")).task_name == "single_label"
    read_targets(names * 2, say=False)
    read_targets([20] * 30), read_targets([f"name {k}" for k in range(30)] * 2), read_targets(["2.1.24", "3.1.24"])
    read_targets(["1", "2"] * 3), read_targets(["1.5", "x"] * 3), read_targets([1, 2, 3], say=False)
    assert not capsys.readouterr().out


# -- splitting -----------------------------------------------------------------------------------------------


def test_classes_by_which_to_stratify() -> None:
    given_ = read_targets([1, "1", "b", "b", 1.0, "b"])
    codes = given_.stratify_codes()
    assert codes is not None and len(set(codes.tolist())) == 2 and codes[0] == codes[1] == codes[4]
    _, valid = split_indices(6, 0.34, stratify=codes)
    assert len({codes[i] for i in valid}) == 2
    for values, options in (
        (["a", "b", "c"], {}),
        ([0.5, 1.5], {}),
        ([["a"], ["a"]], {}),
        (["a b", "a b"], {"label_sep": " "}),
        (np.eye(2), {}),
        ([1, 1, 2], {"task": "regression"}),
    ):
        assert read_targets(values, TargetOptions(**options), say=False).stratify_codes() is None  # type: ignore[arg-type]


# -- forms of values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, tuple, np.array, torch.tensor, pd.Series, pd.Index, lambda v: (x for x in v)])
def test_forms_of_one_number_each(form: Any) -> None:
    given_ = read_targets(form([3, 1, 3]), say=False)
    assert given_.learn().task.names == ("1", "3") and given_.learn().encode(given_).tolist() == [1, 0, 1]


def test_a_missing_flag_is_no_crash() -> None:
    for missing in (None, float("nan"), pd.NA):
        with pytest.raises(DataError, match="row 1: a label is missing"):
            read_targets([[1, 0], [1, missing]], TargetOptions(classes=["a", "b"])).learn()


@pytest.mark.parametrize("form", [np.array, torch.tensor, lambda v: [torch.tensor(row) for row in v], pd.DataFrame])
def test_rows_of_zeros_and_ones(form: Any) -> None:
    rows = form([[0, 1], [1, 1], [0, 0]])
    given_ = read_targets(rows, TargetOptions(classes=["haze", "road"]), say=False)
    targets = given_.learn()
    assert targets.task.kind == "multi_label" and targets.task.names == ("haze", "road")
    assert targets.encode(given_).tolist() == targets.encode(rows).tolist() == [[0, 1], [1, 1], [0, 0]]
    assert reload(targets).encode(rows).tolist() == [[0, 1], [1, 1], [0, 0]]


def test_arrays_without_names() -> None:
    flags, numbers = (read_targets(np.array(v), say=False).learn() for v in ([[0, 1], [1, 1]], [[0.5, 2], [1, 1]]))
    assert flags.task.names == ("0", "1") and numbers.task.names == ("target 0", "target 1")
    assert read_targets([0.5, 1], say=False).learn().task.names == ("target",)
    named = read_targets(np.array([[0.5, 2], [1, 1]]), names=["x", "y"], say=False).learn()
    assert named.task.names == named.columns == ("x", "y")
    assert read_targets([0.5, 1], names=["price"], say=False).learn().task.names == ("price",)


def test_columns_of_a_table_are_chosen_by_name() -> None:
    df = pd.DataFrame({"x": ["u", "v"], "a": [0.5, 1.0], 7: [2.0, 3.0]})
    targets = read_targets(df, names=["a", 7], say=False).learn()  # type: ignore[list-item]
    assert targets.columns == ("a", "7")
    one = read_targets(df, names=["x"])
    assert one.learn().encode(df).tolist() == [0, 1]
    with pytest.raises(DataError, match=r"no columns \['z'\]"):
        read_targets(df, names=["z"])
    with pytest.raises(ArgumentError, match="at least one"):
        read_targets(df, names=[])


@pytest.mark.parametrize("values", ["abc", {"a": 1}, {"a", "b"}, 5, None, np.zeros((2, 2, 2)), np.array(3)])
def test_what_holds_no_targets(values: Any) -> None:
    with pytest.raises(ArgumentError, match="one entry per item"):
        read_targets(values)


def test_no_items() -> None:
    for values in ([], np.array([]), pd.Series([], dtype=object)):
        with pytest.raises(DataError, match="no training rows"):
            read_targets(values, TargetOptions(task="single_label")).learn()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"task": "single_lable"}, "Did you mean 'single_label'"),
        ({"task": None}, "task must be one of"),
        ({"label_sep": ""}, "label_sep must be"),
        ({"label_sep": ";", "task": "single_label"}, "label_sep parts the labels"),
        ({"label_sep": ";", "log_target": True}, "log_target is for numbers"),
        ({"log_target": True, "task": "single_label"}, "log_target is for numbers, this task is single_label"),
        ({"classes": ["a"], "task": "regression"}, "classes= names classes"),
        ({"classes": "ab"}, "list of different names"),
        ({"classes": ["a", "a"]}, "list of different names"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        TargetOptions(**options)


@pytest.mark.parametrize(
    ("values", "options", "match"),
    [
        (pd.DataFrame({"a": [0, 1], "b": [1, 1]}), {"task": "single_label"}, r"one target column, got 2: \['a', 'b'\]"),
        (pd.DataFrame({"a": [0, 1], "b": [1, 1]}), {"label_sep": ";"}, "labels of one column, got 2"),
        ([["a"], ["b"]], {"label_sep": ";"}, "holds lists of labels; leave it out"),
        ([["a"], ["b"]], {"task": "single_label"}, "single_label has one class per item"),
        (["a", "b"], {"task": "multi_label"}, "needs label_sep="),
    ],
)
def test_options_that_do_not_fit_the_values(values: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        read_targets(values, TargetOptions(**options))


def test_one_column_of_flags() -> None:
    targets = read_targets(pd.Series([0, 1, 1], name="rain"), TargetOptions(task="multi_label")).learn()
    assert targets.task.names == ("rain",) and targets.encode([1, 0]).tolist() == [[1], [0]]
    with pytest.raises(DataError, match="3 numbers for 2 classes"):
        read_targets(np.eye(3), TargetOptions(classes=["a", "b"])).learn()


def test_lists_of_numbers_are_called_by_their_column() -> None:
    df = pd.DataFrame({"spot": [[0.5, 2], (1, 3), np.array([4.0, 5])], "x": "u"})
    numbers = TargetOptions(task="regression")
    targets = read_targets(df, numbers, names=["spot"]).learn()
    assert targets.task.names == ("spot 0", "spot 1") and targets.columns == ("spot",)
    for other in (df, df["spot"], df["spot"].tolist(), np.array([[0.5, 2], [1, 3], [4, 5]])):
        assert reload(targets).encode(other).tolist() == [[0.5, 2], [1, 3], [4, 5]]
    assert read_targets(df["spot"].tolist(), numbers).learn().task.names == ("target 0", "target 1")
    with pytest.raises(DataError, match=r"3 columns to predict, but training had 2"):
        targets.encode([[1, 2, 3]])
    for bad in ([1.0], None, [], "a"):
        with pytest.raises(DataError, match=r"line 2 of the target 'spot': .*as many numbers, here 2"):
            read_targets(pd.Series([[1, 2], [3, 4], bad], name="spot"), numbers, where=lambda i: f"line {i}")


def test_logarithms() -> None:
    for values, scale in (([1.0, 2], "log"), ([0, 2], "log1p")):
        targets = read_targets(values, TargetOptions(log_target=True)).learn()
        assert targets.task.scale == scale
        assert reload(targets).state_dict() == targets.state_dict()
    with pytest.raises(DataError, match="no logarithm"):
        targets.encode([-1])


# -- as JSON -------------------------------------------------------------------------------------------------


def test_a_state_that_is_damaged() -> None:
    targets = read_targets(["a", "b"]).learn()
    good = targets.state_dict()
    for bad in (
        {},
        {**good, "reading": "what"},
        {**good, "labels": {"kind": "str", "values": ["a", "b", "c"]}},
        {**good, "labels": {"kind": "os.system", "values": ["a", "b"]}},
        {**good, "labels": None},
        {**good, "columns": None},
        {**good, "reading": "labels"},
        {**good, "reading": "numbers", "scale": "sqrt"},
    ):
        with pytest.raises(DataError):
            Targets.from_state(bad, targets.task)


def test_tables_of_version_0_1_are_read() -> None:
    one = read_targets([3, 1], say=False).learn()
    older = {"columns": ["y"], "labels": {"kind": "int", "values": [1, 3]}}
    assert Targets.from_state(older, one.task).encode(["3", 1]).tolist() == [1, 0]
    flags = read_targets(np.eye(2), say=False).learn()
    assert Targets.from_state({"columns": ["a", "b"], "labels": None}, flags.task).encode(np.eye(2)).shape == (2, 2)
    number = read_targets([0.5, 2], say=False).learn()
    assert Targets.from_state({"columns": ["y"], "labels": None}, number.task).encode([3]).tolist() == [[3]]


# -- large columns -------------------------------------------------------------------------------------------


def test_each_value_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading, splitting, learning and encoding a column of text hash it once."""
    calls: list[int] = []
    real = pd.factorize
    monkeypatch.setattr(pd, "factorize", lambda values, **how: (calls.append(len(values)), real(values, **how))[1])
    column = pd.Series(np.random.default_rng(0).choice(["a", "b", "c"], 5000))
    for options in ({}, {"label_sep": ";"}):
        calls.clear()
        given_ = read_targets(column, TargetOptions(**options))  # type: ignore[arg-type]
        given_.stratify_codes()
        given_.learn(np.arange(4000)).encode(given_)
        assert calls == [5000]
    calls.clear()
    numbers = read_targets(pd.Series(np.random.default_rng(0).normal(size=5000)), say=False)
    numbers.learn().encode(numbers)
    assert calls == [], "numbers are not hashed at all"


def test_the_words_of_messages_stay_short() -> None:
    with pytest.raises(DataError) as caught:
        read_targets([f"class {i}" for i in range(1000)] * 2).learn().encode(["x" * 5000])
    assert len(re.sub("x+", "x", str(caught.value))) < 600


def test_several_labels_that_tell_nothing_apart() -> None:
    with pytest.raises(DataError, match="has the one label 'a'"):
        read_targets([["a"], ["a"], ["a"]]).learn()
    assert read_targets([["a"], [], ["a"]]).learn().task.n_out == 1
    assert read_targets([["a", "b"], ["a", "b"]]).learn().task.n_out == 2


@pytest.mark.parametrize("values", [["['a', 'b']", "['a']", "['b']"], ['["a"]', '["b"]'], ["{a}", "{b}"]])
def test_lists_that_were_written_as_text_are_told(values: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    read_targets(values)
    assert "ast.literal_eval" in capsys.readouterr().out
    read_targets([*values, "c"])
    assert "ast.literal_eval" not in capsys.readouterr().out
