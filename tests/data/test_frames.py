from __future__ import annotations

import builtins
import bz2
import gzip
import lzma
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from easylearn.data import csv_rows
from easylearn.data.cells import as_column
from easylearn.data.frames import ParquetTable, column_names, iter_table, known_types, read_table
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning

WORDS = [
    "01234", "1.10", "1.1", "NA", "null", "None", "", "a,b", 'say "yes"', "two\nlines", "\r\n", "\u00e9", "e\u0301",
    " blank ", "True", "5", "+49", "1_000", "0x10", "-", "<NA>", "\u4e2d", "tab\there", "#N/A", "Inf", "1e5",
]  # fmt: skip
texts = st.sampled_from(WORDS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8
).filter(lambda t: t.lower() != "nan" and not t.endswith("\r"))  # the latter is part of the line's end


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(content: str | bytes, name: str = "t.csv") -> Path:
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return file

    return make


def read(file: Path, **known: Any) -> pd.DataFrame:
    return read_table(file, **known).frame


def types(frame: pd.DataFrame) -> dict[str, str]:
    return {str(c): "text" if c in known_types(frame)["text"] else str(t) for c, t in frame.dtypes.items()}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(1, 8))
    kinds = draw(st.lists(st.sampled_from(["text", "int", "float", "bool"]), min_size=1, max_size=5))
    columns: dict[str, Any] = {}
    for k, kind in enumerate(kinds):
        values: dict[str, st.SearchStrategy[Any]] = {
            "text": st.none() | texts,
            "int": st.integers(-(2**63), 2**63 - 1),
            "float": st.floats(allow_nan=True),
            "bool": st.booleans(),
        }
        given_ = draw(st.lists(values[kind], min_size=n, max_size=n))
        columns[f"{kind} {k}"] = pd.Series(
            given_, dtype={"int": "int64", "float": "float64", "bool": bool}.get(kind, str)
        )
    return pd.DataFrame(columns)


# -- compared with pandas ------------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(df=tables())
@example(df=pd.DataFrame({"text 0": ["a\rb", "\rx", None]}))
@example(df=pd.DataFrame({"text 0": [" ", None, ""], "int 1": [1, 2, 3]}))
def test_a_frame_that_was_written_is_read_as_it_was(df: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    df.to_csv(file, index=False)
    text = [c for c in df.columns if c.startswith("text")]
    want = df.assign(**{c: df[c].where(df[c] != "", None) for c in text})
    got = read(file, text=text)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mismatched null-like values", FutureWarning)  # pandas 2: None and nan
        pd.testing.assert_frame_equal(got, want.astype(dict.fromkeys(text, got[text[0]].dtype)) if text else want)
    pieces = [t.frame for t in iter_table(file, 3, **known_types(got))]
    whole = pd.concat(pieces)
    for name in df.columns:
        assert [v for v in whole[name].tolist() if v == v] == [v for v in got[name].tolist() if v == v]
        assert whole[name].isna().tolist() == got[name].isna().tolist()
    assert whole.index.tolist() == list(range(len(df)))


@pytest.mark.filterwarnings("ignore:the cells")  # that become one number
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.lists(texts, min_size=2, max_size=2), min_size=1, max_size=8))
def test_what_pandas_is_spared_is_what_it_would_spoil(cells: list[list[str]], tmp_path: Path) -> None:
    """Reading all as text first, and deciding then, is slow and gives the same."""
    file = tmp_path / "t.csv"
    pd.DataFrame(cells, columns=["a", "b"]).to_csv(file, index=False)
    quick = read(file)
    slow = read(file, text=["a", "b"])
    for name in ("a", "b"):
        want = as_column(slow[name].fillna("").tolist(), name)
        pd.testing.assert_series_equal(quick[name], want.rename(name))


def test_a_plain_table_is_read_as_pandas_reads_it(write: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"a": rng.integers(-5, 5, 500), "b": rng.normal(size=500), "c": rng.choice(["x", "y z"], 500)})
    df.loc[3, "b"] = np.nan
    file = write(df.to_csv(index=False))
    pd.testing.assert_frame_equal(read(file), pd.read_csv(file))


# -- columns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "2"], "int64", [1, 2]),
        (["1", ""], "float64", [1.0, None]),
        (["1", "NA", "null", "n/a", "None", "<NA>", "#N/A", "NaN", " na "], "float64", [1.0, *[None] * 8]),
        (["1.5", "-2e3", ".5", "1.", "-inf"], "float64", [1.5, -2000.0, 0.5, 1.0, -np.inf]),
        ([" 1", "2 "], "int64", [1, 2]),
        (["01234", "99999"], "text", ["01234", "99999"]),
        (["-01", "1"], "text", ["-01", "1"]),
        (["00", "1"], "text", ["00", "1"]),
        (["0", "0.5", "-0.5", "1e05"], "float64", [0, 0.5, -0.5, 1e5]),
        (["1", '"007"'], "text", ["1", "007"]),
        (["+49", "1"], "text", ["+49", "1"]),
        (["1_000", "5"], "text", ["1_000", "5"]),
        (["0x10", "5"], "text", ["0x10", "5"]),
        (['"1,5"', "2"], "text", ["1,5", "2"]),
        (["True", "False"], "bool", [True, False]),
        (["TRUE", "false"], "bool", [True, False]),
        (["True", ""], "boolean", [True, None]),
        (["True", "NA"], "boolean", [True, None]),
        (["True", "1"], "text", ["True", "1"]),
        (["True", "yes"], "text", ["True", "yes"]),
        (["NA", "null", "x", ""], "text", ["NA", "null", "x", None]),
        (["x", "nan", "NaN", "NAN"], "text", ["x", None, None, None]),
        (["NA", "NA"], "text", ["NA", "NA"]),
        (["", ""], "float64", [None, None]),
        (["1", "x"], "text", ["1", "x"]),
        (["9007199254740993", "1"], "int64", [9007199254740993, 1]),
        (["9007199254740993", ""], "Int64", [9007199254740993, None]),
        (["-9223372036854775808", "NA"], "Int64", [-(2**63), None]),
        (["18446744073709551615", "1"], "uint64", [2**64 - 1, 1]),
        (["18446744073709551615", ""], "UInt64", [2**64 - 1, None]),
        (["18446744073709551616", "1"], "text", ["18446744073709551616", "1"]),
        (["18446744073709551615", "-1"], "text", ["18446744073709551615", "-1"]),
        (["1e300", "1"], "float64", [1e300, 1.0]),
        (["2024-01-31", "2024-02-01"], "text", ["2024-01-31", "2024-02-01"]),
        (["0.1000000000000000055511151231257827", "3.14159265358979323846"], "float64", [0.1, np.pi]),
    ],
)
def test_the_type_of_a_column(cells: list[str], kind: str, values: list[Any], write: Callable[..., Path]) -> None:
    file = write("a,b\n" + "".join(f"{cell},z\n" for cell in cells))
    frame = read(file)
    assert types(frame) == {"a": kind, "b": "text"}
    assert [None if pd.isna(v) else v for v in frame["a"].tolist()] == values


def test_a_type_is_decided_over_the_whole_column(write: Callable[..., Path]) -> None:
    file = write("a,b\n" + "1,2\n" * 300_000 + "1,x\n007,2\n")
    frame = read(file)
    assert types(frame) == {"a": "text", "b": "text"} and frame["b"].iloc[0] == "2" and frame["a"].iloc[-1] == "007"
    pieces = [t.frame for t in iter_table(file, 1000)]
    assert all(types(p) == types(frame) and len(p) <= 1000 for p in pieces)
    pd.testing.assert_frame_equal(pd.concat(pieces), frame)


def test_what_is_known_as_text_stays_as_it_is_written(write: Callable[..., Path]) -> None:
    file = write("version,zip,word\n1.10,01234,NA\n1.1,00001,null\n")
    for text in (["version", "zip", "word"], [0, 1, -1], {"version", "zip", "word", "more"}):
        assert read(file, text=text).to_numpy().tolist() == [["1.10", "01234", "NA"], ["1.1", "00001", "null"]]
    with pytest.warns(EasyLearnWarning, match=r"'1\.10' and '1\.1' of the column 'version'.*dtype=\{'version': str\}"):
        assert read(file)["version"].tolist() == [1.1, 1.1]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "2"], [1.0, 2.0]),
        (["1", "NA", ""], [1.0, None, None]),
        (["1", "x", "NA", "01"], [1, "x", None, "01"]),
        (["True", "NA"], [True, None]),
        (["True", "1", "0.5"], [True, 1, 0.5]),
        (["NA", ""], [None, None]),
        (["9007199254740993", "NA"], [9007199254740993, None]),
        (["9007199254740993", "1"], [9007199254740993, 1]),
        (["18446744073709551616", "1"], [2**64, 1]),
    ],
)
def test_what_is_known_as_numbers_is_read_cell_by_cell(
    cells: list[str], values: list[Any], write: Callable[..., Path]
) -> None:
    file = write("a,b\n" + "".join(f"{cell},z\n" for cell in cells))
    frame = read(file, numbers=["a"])
    assert [None if pd.isna(v) else v for v in frame["a"].tolist()] == values
    if all(isinstance(v, float) or v is None for v in values):
        assert frame["a"].dtype == np.float64
    alone = [read(write(f"a,b\n{cell},z\n"), numbers=["a"])["a"].iloc[0] for cell in cells]
    assert [None if pd.isna(v) else v for v in alone] == values, "no cell depends on another"


def test_known_types_are_those_of_the_training_table(write: Callable[..., Path]) -> None:
    train = read(write("zip,size,flag,gone\n01234,7,True,\n99999,8,False,\n"))
    assert known_types(train) == {"text": ["zip"], "numbers": ["size", "flag", "gone"]}
    other = read(write("size,zip,flag\nNA,5,True\n"), **known_types(train))
    assert other["zip"].tolist() == ["5"] and np.isnan(other["size"][0]) and other["flag"].tolist() == [True]


def test_columns_are_given_as_they_are_asked_for(write: Callable[..., Path]) -> None:
    file = write("a,b,c\n1,x,2\n")
    assert read(file, columns=["c", "a"]).to_dict("list") == {"c": [2], "a": [1]}
    assert list(next(iter_table(file, 9, columns=["b"], text=["b"])).frame) == ["b"]
    with pytest.raises(DataError, match=r"no columns \['bb', 'z'\].*Did you mean 'b'"):
        read(file, columns=["a", "bb", "z"])
    twice = write("a,a,b\n1,2,3\n")
    assert read(twice, columns=["b"])["b"].tolist() == [3]
    with pytest.raises(DataError, match="more than one column called 'a'"):
        read(twice)


def test_a_table_without_rows(write: Callable[..., Path]) -> None:
    frame = read(write("a,b\n"), text=["b"])
    assert len(frame) == 0 and types(frame) == {"a": "float64", "b": "text"}
    assert list(iter_table(write("a,b\n"), 5)) == []


# -- how a file is written -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(end: str, write: Callable[..., Path]) -> None:
    table = read_table(write(end.join(["", "a,b", "1,x", "", " ", "2,y", ""])))
    assert table.frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}
    assert [table.where(i) for i in (0, 1)] == ["t.csv line 3", "t.csv line 6"]
    assert read(write(end.join(["a,b", "1,x"]))).to_dict("list") == {"a": [1], "b": ["x"]}, "no end after the last"


def test_blank_lines_of_a_single_column(write: Callable[..., Path]) -> None:
    table = read_table(write('a\r\nx\r\n\r\n""\r\n y\r\n'), text=["a"])
    assert table.frame["a"].isna().tolist() == [False, True, False]
    assert table.frame["a"].iloc[2] == " y" and table.where(2) == "t.csv line 5"


def test_rows_are_called_by_the_line_in_which_they_begin(write: Callable[..., Path]) -> None:
    file = write('"a\n1",b\n"two\nlines",x\n"one","three\n\nlines"\n"q ""q"" ,\n",z\nlast,y\n')
    table = read_table(file)
    assert list(table.frame) == ["a\n1", "b"] and table.frame["b"].tolist() == ["x", "three\n\nlines", "z", "y"]
    assert [table.where(i).rsplit(" ", 1)[1] for i in range(4)] == ["3", "5", "8", "10"]


def test_a_document_may_be_long(write: Callable[..., Path]) -> None:
    file = write("a,b\n1," + "long " * 100_000 + "\n")
    assert len(read(file)["b"][0]) == 500_000


def test_quotation_marks_inside_of_a_field_are_letters(write: Callable[..., Path]) -> None:
    table = read_table(write('a,b\n5" disk,x\n"5"" disk",y\n3\' 5",z "q, u"\n'.replace(', u"', ' u"')))
    assert table.frame["a"].tolist() == ['5" disk', '5" disk', "3' 5\""]
    assert table.frame["b"].tolist() == ["x", "y", 'z "q u"']
    pd.testing.assert_frame_equal(table.frame, pd.read_csv(table.path))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_seen_in_the_header(delimiter: str, write: Callable[..., Path]) -> None:
    file = write(f'a{delimiter}"b,c,d,e"\n1{delimiter}x\n', "t.tsv")
    assert read(file).to_dict("list") == {"a": [1], "b,c,d,e": ["x"]}


def test_fractions_after_a_comma_in_files_with_semicolons(write: Callable[..., Path]) -> None:
    frame = read(write("a;b;c;d\n1,5;1.5;1,5;x\n2;-2;1.5;1,5\n;NA;2;3\n"))
    assert types(frame) == {"a": "float64", "b": "float64", "c": "text", "d": "text"}
    assert frame["a"].tolist()[:2] == [1.5, 2.0] and frame["b"].tolist()[:2] == [1.5, -2.0]
    assert read(write("a;b\n1,5;x\n1.5;y\n"), numbers=["a"])["a"].tolist() == [1.5, 1.5]


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zip"])
def test_packed_files(pack: str, write: Callable[..., Path], tmp_path: Path) -> None:
    content = b"a,b\n01,x\n"
    file = tmp_path / f"t.csv.{pack}"
    if pack == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("inner.csv", content)
    else:
        file.write_bytes({"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[pack](content))
    assert read(file)["a"].tolist() == ["01"]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=rf"t\.csv\.{pack} cannot be read"):
        read(file)


def test_an_archive_of_several_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
        archive.writestr("b.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"holds 2 files, a\.csv, b\.csv"):
        read(tmp_path / "t.zip")


def test_encodings(write: Callable[..., Path]) -> None:
    assert read(write(b"\xef\xbb\xbfa,b\n1,\xc3\xa9\n")).to_dict("list") == {"a": [1], "b": ["é"]}
    broken = write(b"a,b\n1,x\n2,\xe9\n3,y\n")
    with pytest.raises(DataError, match=r"t\.csv, line 3: the byte 0xe9 is no UTF-8.*encoding='cp1252'"):
        read(broken)
    with pytest.raises(DataError, match=r"line 1: .*pandas.read_csv\(path, encoding='utf-16'\)"):
        read(write("a,b\n1,é\n".encode("utf-16")))
    with pytest.raises(DataError, match=r"t\.csv, line 2: the byte 0x00"):
        read(write(b"a,b\n1,x\x00y\n"))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 40])
def test_pieces_change_nothing(n: int, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["a,b", '1,"x\n\ny"', "02,é", "", '3,"say ""yes"""', '"4",5" 6"', "5,中文", '6,"long\n' + "z" * 99 + '"']
    for end in ("\n", "\r\n"):
        file = write(end.join(lines) + end)
        whole = read_table(file)
        monkeypatch.setattr(csv_rows, "BLOCK", n)
        monkeypatch.setattr(csv_rows, "ROWS", n)
        small = read_table(file)
        pd.testing.assert_frame_equal(whole.frame, small.frame)
        assert whole.lines is not None and small.lines is not None and whole.lines.tolist() == small.lines.tolist()
        assert small.frame["a"].tolist() == ["1", "02", "3", "4", "5", "6"]
        pieces = list(iter_table(file, 2, text=["a", "b"]))
        assert pieces[0].where(0) == "t.csv line 2" and max(len(p.frame) for p in pieces) <= 2
        pd.testing.assert_frame_equal(pd.concat([p.frame for p in pieces]), read(file, text=["a", "b"]))
        monkeypatch.undo()


def test_zeros_are_told_across_pieces(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "BLOCK", 1)
    with pytest.warns(EasyLearnWarning, match=r"'1\.10' and '1\.1' of the column 'a'"):
        read(write("a,b\n1.10,x\n2.20,x\n1.1,x\n2.2,x\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(write("a,b\n1.10,x\n2.25,x\n,x\n-30.00,x\n"))["a"].tolist()[3] == -30
    assert read(write("a,b\n1,x\n2,x\n  -007,x\n"))["a"].tolist() == ["1", "2", "  -007"]


def test_missing_cells_beside_whole_numbers_of_more_than_64_bits(write: Callable[..., Path]) -> None:
    frame = read(write("a,b\n18446744073709551616,x\n,x\nnan,x\nNA,x\n"), text=["a"])
    assert frame["a"].fillna("missing").tolist() == ["18446744073709551616", "missing", "missing", "NA"]


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_a_row_with_a_field_too_many_names_its_line(first: bool, write: Callable[..., Path]) -> None:
    rows = ["1,x", "2,y,z", "3,u"]
    file = write("\n".join(["a,b", *(rows[1:2] if first else []), *rows]) + "\n")
    with pytest.raises(DataError, match=rf"t\.csv, line {2 if first else 3}: 3 fields, but the header has 2: '2,y,z'"):
        read(file)
    with pytest.raises(DataError, match="3 fields"):
        list(iter_table(file, 1, text=["a", "b"]))
    with pytest.raises(DataError, match=r"line 4: 3 fields"):
        read(write('a,b\n"1\n",x\n2,y,"z\n"\n'))


def test_a_row_with_fewer_fields_is_told(write: Callable[..., Path]) -> None:
    file = write("a,b,c\n1,x,2\n3\n4,y\n")
    with pytest.warns(EasyLearnWarning, match=r"header's 3 in 2 of the lines, the first is line 3"):
        frame = read(file)
    assert frame["b"].isna().tolist() == [False, True, False] and frame["c"].isna().tolist() == [False, True, True]


def test_a_quotation_mark_that_is_never_closed(write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"t\.csv, line 3: a field begins with a quotation mark that is never closed"):
        read(write('a,b\n1,x\n2,"y\n3,z\n'))


def test_headers_that_are_none(write: Callable[..., Path]) -> None:
    file = write("cat.jpg,cat\ndog.jpg,dog\n")
    with pytest.raises(DataError, match=r"t\.csv, line 1: 'cat\.jpg' is no name of a column"):
        read_table(file, is_data=lambda cell: cell.endswith(".jpg"))
    assert list(read_table(file, is_data=lambda cell: False).frame) == ["cat.jpg", "cat"]
    with pytest.warns(EasyLearnWarning, match=r"the first line, 5\.1, 3\.5, holds only numbers"):
        read(write("5.1,3.5\n4.9,3.0\n"))
    assert list(read(write(",a\n0,x\n"))) == ["Unnamed: 0", "a"]


def test_files_that_are_none(write: Callable[..., Path], tmp_path: Path) -> None:
    write("a\n1\n", "sales.csv")
    for call in (read_table, column_names, lambda path: next(iter_table(path, 5))):
        with pytest.raises(DataError, match=r"there is no file .*sale\.csv\. Did you mean 'sales\.csv'"):
            call(tmp_path / "sale.csv")
    with pytest.raises(DataError, match="no folder"):
        read(tmp_path / "none" / "t.csv")
    for content in ("", "\n\n", " \n"):
        with pytest.raises(DataError, match=r"t\.csv is empty"):
            read(write(content))
    with pytest.raises(DataError, match=r"no file of this machine.*download it"):
        read("https://example.org/t.csv")  # type: ignore[arg-type]
    for odd in (5, None, [tmp_path], pd.DataFrame()):
        with pytest.raises(ArgumentError, match="expected the name of a csv or parquet file"):
            read(odd)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"pandas\.read_excel"):
        read(write(b"PK\x03\x04", "t.xlsx"))
    with pytest.raises(DataError, match=r"holds no \*\.parquet file"):
        read(tmp_path)


def test_nothing_is_told_where_nothing_is_odd(write: Callable[..., Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(write("a,b\n1,x\n\n"))


# -- parquet -------------------------------------------------------------------------------------------------


def table(n: int = 103) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    shop = np.array(["a", "b", None, "c"], object)[rng.integers(0, 4, n)]
    return pd.DataFrame({"shop": shop, "size": rng.normal(50, 7, n), "row": np.arange(n, dtype=float)})


def to_parquet(path: Path, df: pd.DataFrame, group: int = 10) -> Path:
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    df.to_parquet(path, row_group_size=group)
    return path


def test_parquet_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = to_parquet(tmp_path / "t.parquet", table())
    whole = read_table(file, columns=["row", "shop"], text=["row"])
    pd.testing.assert_frame_equal(whole.frame, pd.read_parquet(file)[["row", "shop"]])
    assert whole.where(3) == "t.parquet row 3" and column_names(file) == ["shop", "size", "row"]
    pieces = list(iter_table(file, 7))
    assert max(len(p.frame) for p in pieces) == 7 and pieces[1].where(0) == "t.parquet row 7"
    pd.testing.assert_frame_equal(pd.concat([p.frame for p in pieces]), pd.read_parquet(file))
    with pytest.raises(DataError, match=r"no columns \['sizes'\].*'size'"):
        read(file, columns=["sizes"])
    file.rename(tmp_path / "t.bin")
    assert len(read(tmp_path / "t.bin")) == 103


def test_a_folder_of_files_is_one_table(tmp_path: Path) -> None:
    df = table()
    for k, start in enumerate((0, 40, 80)):
        to_parquet(tmp_path / f"part{k}.parquet", df.iloc[start : start + 40].reset_index(drop=True), group=15)
    whole = ParquetTable(tmp_path)
    assert whole.n_rows == len(df) and len(whole.groups) == 8
    pd.testing.assert_frame_equal(whole.read(["row", "size"]), df[["row", "size"]])
    assert len(whole.read(["row"], most_rows=20)) == 30
    pd.testing.assert_frame_equal(read(tmp_path)[["row"]], df[["row"]])


def test_text_as_categories(tmp_path: Path) -> None:
    df = table().assign(kind=lambda d: np.where(d["size"] > 50, "big", "small"))
    df.loc[100:, "kind"] = "huge"  # no such word in the first row groups
    words = ParquetTable(to_parquet(tmp_path / "t.parquet", df)).read(["kind", "size"], categories=True)
    assert sorted(words["kind"].cat.categories) == ["big", "huge", "small"]
    assert words["kind"].astype(str).tolist() == df["kind"].tolist() and words["size"].dtype == df["size"].dtype


def test_parquet_files_that_are_none(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    with pytest.raises(DataError, match="there is no parquet file or folder"):
        ParquetTable(tmp_path / "none.parquet")
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match=r"x\.parquet is not a whole parquet file"):
        read(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").unlink()
    to_parquet(tmp_path / "a.parquet", table())
    to_parquet(tmp_path / "b.parquet", table().rename(columns={"size": "mass"}))
    with pytest.raises(DataError, match=r"different columns: \['mass', 'size'\]"):
        ParquetTable(tmp_path)
    to_parquet(tmp_path / "b.parquet", table().iloc[:0])
    assert len(read(tmp_path / "b.parquet")) == 0 and len(read(tmp_path)) == 103


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def no_pyarrow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    with pytest.raises(ArgumentError, match=r"pip install 'easylearn\[parquet\]'"):
        ParquetTable(tmp_path)
