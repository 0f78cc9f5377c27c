from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.learning import Learner
from easylearn.texts import gather
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.learner import language_model_learner, text_classifier_learner
from easylearn.texts.options import LabelOptions
from easylearn.texts.tokenize import WordTokenizer
from easylearn.texts.vocab import BOS, UNK, Vocab

SMALL: dict[str, Any] = {"emb_size": 8, "n_hidden": 12, "n_layers": 1, "device": "cpu", "progress": False}
TEXTS = [f"{a} film that {b} liked" for a in ("good", "bad", "long", "short") for b in ("we", "they", "all", "few")]
LABELS = ["pos" if "good" in t or "long" in t else "neg" for t in TEXTS]
QUIET: dict[str, Any] = {"min_freq": 1, "progress": False, "batch_size": 4}


def frame(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS, "label": LABELS, **changes}, index=range(100, 116))


def write(root: Path, folders: list[str], n: int = 4) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            (root / folder / f"{i}.txt").write_text(f"{folder} text {i} is here", encoding="utf-8")


def fit(data: TextData | TextLMData) -> Learner:
    if isinstance(data, TextData):
        learn = text_classifier_learner(data, **SMALL)
    else:
        learn = language_model_learner(data, **SMALL)
    learn.fit(1e-3, 1)
    return learn


class TestFromDf:
    def test_parts_names_and_targets(self) -> None:
        data = TextData.from_df(frame(), valid=0.25, **QUIET)
        assert data.classes == ("neg", "pos") and data.splits == ("train", "valid")
        ids = [*data.ids("train"), *data.ids("valid")]
        assert sorted(ids) == [str(i) for i in range(100, 116)] and len(data.ids("valid")) == 4
        for part in ("train", "valid"):
            for batch in data.loader(part).batches(torch.device("cpu")):  # type: ignore[arg-type]
                for i, target in zip(batch.index.tolist(), batch.target.tolist(), strict=True):  # type: ignore[union-attr]
                    row = frame().loc[int(data.ids(part)[i])]  # type: ignore[arg-type]
                    assert data.text(part, i).removeprefix("xxbos").strip() == row["text"]  # type: ignore[arg-type]
                    assert data.classes[target] == row["label"]

    def test_the_table_is_left_alone(self) -> None:
        df = frame()
        TextData.from_df(df, **QUIET)
        pd.testing.assert_frame_equal(df, frame())

    def test_stratified_by_fraction_and_the_same_by_seed(self, disturb: Callable[[], None]) -> None:
        made = []
        for seed in (0, 0, 1):
            disturb()
            made.append(TextData.from_df(frame(), valid=0.25, seed=seed, **QUIET))
        a, b, c = made
        assert list(a.ids("valid")) == list(b.ids("valid")) != list(c.ids("valid"))
        assert a._split("valid").target.tolist().count(0) == 2  # type: ignore[union-attr]
        assert a.fingerprint("train") == b.fingerprint("train") != c.fingerprint("train")

    @pytest.mark.parametrize(
        "valid", [[3, 1], np.arange(16) < 2, pd.Series(np.arange(16) < 2, index=range(100, 116)), None]
    )
    def test_other_ways_to_split(self, valid: Any) -> None:
        data = TextData.from_df(frame(), valid=valid, **QUIET)
        assert len(data.ids("train")) == (16 if valid is None else 14) and ("valid" in data.splits) == (
            valid is not None
        )

    def test_a_mask_of_pandas_is_read_by_its_index(self) -> None:
        mask = pd.Series(np.arange(16) < 2, index=range(100, 116))
        data = TextData.from_df(frame(), valid=mask[::-1], **QUIET)
        assert list(data.ids("valid")) == ["100", "101"]
        with pytest.raises(ArgumentError, match="another index"):
            TextData.from_df(frame(), valid=mask.reset_index(drop=True), **QUIET)

    def test_tables_of_their_own(self) -> None:
        test = pd.DataFrame({"text": ["unseen words here"]})
        data = TextData.from_df(frame(), valid=frame()[:3], test=test, **QUIET)
        assert [len(data.ids(p)) for p in ("train", "valid", "test")] == [16, 3, 1]
        assert UNK in [data.vocab[i] for i in data.store("test").doc(0)], "the vocabulary is of the training split"
        with pytest.raises(DataError, match=r"no columns \['label'\]"):
            TextData.from_df(frame(), valid=pd.DataFrame({"text": ["a"]}), **QUIET)
        for how in ({"groups": list(range(16))}, {"time": list(range(16))}):
            with pytest.raises(ArgumentError, match=f"{next(iter(how))} says which texts validate, but valid="):
                TextData.from_df(frame(), valid=frame()[:3], **how, **QUIET)

    def test_several_text_columns(self) -> None:
        data = TextLMData.from_df(frame(title="a title"), ["title", "text"], **QUIET)
        ids = [data.vocab[i] for i in data.store("train").doc(0)]
        assert ids[:6] == [BOS, "xxfld", "1", "a", "title", "xxfld"]

    def test_numbers_are_regression(self, capsys: pytest.CaptureFixture[str]) -> None:
        data = TextData.from_df(frame(label=np.linspace(0, 1, 16)), **QUIET)
        assert data.task.predicts_numbers and "so this is regression" in capsys.readouterr().out
        assert data._split("train").target.shape == (13, 1)  # type: ignore[union-attr]
        fit(data)

    def test_several_labels(self, capsys: pytest.CaptureFixture[str]) -> None:
        cells = ["rude;long" if i % 3 else "" for i in range(16)]
        data = TextData.from_df(frame(label=cells), label_sep=";", **QUIET)
        assert data.task.is_multi and data.classes == ("long", "rude")
        fit(data)
        columns = TextData.from_df(frame(a=[0, 1] * 8, b=1), label=["a", "b"], **QUIET)
        assert columns.classes == ("a", "b")
        fit(columns)

    def test_a_vocabulary_given(self) -> None:
        lm = TextLMData.from_df(frame(), tokenizer=WordTokenizer(lower=False), **QUIET)
        for vocab in (lm, lm.vocab, lm.preprocessor):
            data = TextData.from_df(frame(), vocab=vocab, progress=False)
            assert data.vocab == lm.vocab and isinstance(data.tokenizer, WordTokenizer) and not data.tokenizer.lower
        with pytest.raises(ArgumentError, match="vocab must be a Vocab, the data, learner"):
            TextData.from_df(frame(), vocab=["a", "b"], **QUIET)

    def test_old_names_and_wrong_things(self) -> None:
        with pytest.raises(ArgumentError, match="batch_size"):
            TextData.from_df(frame(), bs=3)  # type: ignore[call-arg]
        with pytest.raises(ArgumentError, match="df must be a pandas DataFrame, got list"):
            TextData.from_df(TEXTS, **QUIET)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"no columns \['labl'\].*'label'"):
            TextData.from_df(frame(), label="labl", **QUIET)
        with pytest.raises(DataError, match=r"no columns \['texts'\].*'text'"):
            TextData.from_df(frame(), "texts", **QUIET)
        with pytest.raises(ArgumentError, match="batch_size must be a whole number"):
            TextData.from_df(frame(), min_freq=1, progress=False, batch_size=0)


class TestColumns:
    def test_names_of_any_kind(self) -> None:
        df = pd.DataFrame({0: TEXTS, 1: LABELS, "more": TEXTS})
        data = TextData.from_df(df, 0, 1, valid=[1], **QUIET)  # type: ignore[arg-type]
        assert data.classes == ("neg", "pos") and data.preprocessor.columns == "0"
        assert data.describe_item("valid", 0) == {"0": TEXTS[1]}
        tested = TextData.from_df(df, 0, 1, valid=[1], test=df[:3], **QUIET)  # type: ignore[arg-type]
        assert tested._split("test").target is not None
        two = TextData.from_df(df, df.columns[[0, 2]], 1, valid=[1], **QUIET)  # type: ignore[arg-type]
        assert two.preprocessor.columns == ("0", "more")
        learn = fit(data)
        assert torch.equal(learn.predict(df).probs, learn.predict(TEXTS).probs)

    def test_values_in_place_of_names_are_told_briefly(self) -> None:
        df = frame()
        for name, given in (("text", df["text"]), ("label", df["label"]), ("text", df), ("label", df[["label"]])):
            with pytest.raises(
                ArgumentError, match=f"{name} must name columns of the table, got a .*from_lists"
            ) as found:
                TextData.from_df(df, **{name: given}, **QUIET)
            assert len(str(found.value)) < 200
        with pytest.raises(ArgumentError, match="got a DataFrame; use from_df"):
            TextData.from_lists(df, LABELS, **QUIET)  # type: ignore[arg-type]

    def test_a_name_that_is_there_twice(self) -> None:
        df = pd.concat([frame(), frame()[["text"]]], axis=1)
        with pytest.raises(DataError, match=r"\['text'\] are in the table more than once"):
            TextData.from_df(df, **QUIET)


class TestSplits:
    @pytest.mark.parametrize("given", ["who", [f"w{i // 4}" for i in range(16)]])
    def test_groups_stay_together(self, given: Any) -> None:
        df = frame(who=[f"w{i // 4}" for i in range(16)])
        for cls in (TextData, TextLMData):
            data = cls.from_df(df, valid=0.25, groups=given, **QUIET)
            who = {df.loc[int(i), "who"] for i in data.ids("valid")}
            assert len(data.ids("valid")) == 4 and len(who) == 1

    def test_the_last_ones_by_time(self) -> None:
        df = frame(day=pd.date_range("2024-01-01", periods=16)[::-1])
        for cls in (TextData, TextLMData):
            assert list(cls.from_df(df, valid=0.25, time="day", **QUIET).ids("valid")) == ["100", "101", "102", "103"]
            assert list(cls.from_df(df, valid="2D", time="day", **QUIET).ids("valid")) == ["100", "101"]
        with pytest.raises(DataError, match=r"no column 'dey', given as time.*'day'"):
            TextData.from_df(df, time="dey", **QUIET)

    def test_lists_and_folders(self, tmp_path: Path) -> None:
        data = TextData.from_lists(TEXTS, LABELS, valid=0.25, groups=[i // 4 for i in range(16)], **QUIET)
        assert len({int(i) // 4 for i in data.ids("valid")}) == 1
        write(tmp_path, ["pos", "neg"], 6)
        data = TextData.from_folder(tmp_path, valid=0.3, groups=lambda name: name.split("/")[1], **QUIET)
        kept = {i.split("/")[1] for i in data.ids("valid")}
        assert len(data.ids("valid")) == 4 and len(kept) == 2
        for wrong in ("column", lambda name: name):
            with pytest.raises(ArgumentError, match="groups must have one entry"):
                TextData.from_lists(TEXTS, LABELS, groups=wrong, **QUIET)
        with pytest.raises(ArgumentError, match=r"groups must have one entry per file.*'author'"):
            TextData.from_folder(tmp_path, groups="author", **QUIET)

    def test_stratified_or_not(self) -> None:
        labels = ["rare" if i % 8 == 0 else "often" for i in range(64)]
        for seed in range(4):
            data = TextData.from_lists(TEXTS * 4, labels, valid=0.25, seed=seed, **QUIET)
            assert data._split("valid").target.tolist().count(1) == 2  # type: ignore[union-attr]
        plain = [TextData.from_lists(TEXTS * 4, labels, valid=0.25, seed=s, stratify=False, **QUIET) for s in range(6)]
        assert {d._split("valid").target.tolist().count(1) for d in plain} != {2}  # type: ignore[union-attr]
        with pytest.raises(ArgumentError, match="stratify goes with a fraction"):
            TextData.from_lists(TEXTS, np.linspace(0, 1, 16), stratify=True, **QUIET)
        with pytest.raises(ArgumentError, match="stratify goes with a fraction"):
            TextData.from_lists(TEXTS, LABELS, stratify=True, valid=[1, 2], **QUIET)


class TestWeights:
    def drawn(self, data: TextData) -> list[str]:
        """The labels that come in ten epochs of training."""
        loader = data.loader("train", training=True)
        found = [t for e in range(10) for b in loader.batches(torch.device("cpu"), 0, e) for t in b.target.tolist()]  # type: ignore[union-attr]
        assert len(found) == 10 * len(data.ids("train"))
        return [data.classes[t] for t in found]

    def test_balanced_by_class_and_by_text(self) -> None:
        labels = ["rare" if i < 4 else "often" for i in range(16)]
        plain = TextData.from_lists(TEXTS, labels, valid=None, **QUIET)
        assert self.drawn(plain).count("rare") == 40
        balanced = TextData.from_lists(TEXTS, labels, valid=None, weights="balanced", **QUIET)
        assert 75 <= self.drawn(balanced).count("rare") <= 85
        by_class = TextData.from_lists(TEXTS, labels, valid=None, weights={"rare": 0}, **QUIET)
        assert set(self.drawn(by_class)) == {"often"}
        df = pd.DataFrame({"text": TEXTS, "label": labels, "w": [1.0] * 4 + [0.0] * 12})
        for given in ("w", df["w"].tolist()):
            assert set(self.drawn(TextData.from_df(df, valid=None, weights=given, **QUIET))) == {"rare"}
        assert plain.fingerprint("train") != balanced.fingerprint("train") != by_class.fingerprint("train")

    def test_of_all_texts_those_of_the_training_split_count(self) -> None:
        weights = [float(i in (3, 7)) for i in range(16)]
        data = TextData.from_lists(TEXTS, LABELS, valid=[0, 1, 2, 5], weights=weights, **QUIET)
        loader = data.loader("train", training=True)
        drawn = {data.ids("train")[i] for b in loader.batches(torch.device("cpu")) for i in b.index.tolist()}
        assert drawn == {"3", "7"}
        assert sum(len(b.index) for b in data.loader("valid").batches(torch.device("cpu"))) == 4

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([1.0] * 5, r"16 texts, got shape \(5,\)"),
            ([1.0] * 20, r"16 texts, got shape \(20,\)"),
            (3.0, "16 texts"),
            ({"poz": 2}, r"'poz'.*'pos'"),
            ([-1.0] * 16, "0 or more"),
            ([0.0] * 16, r"all .* are 0"),
            ("balancd", "weights must have one entry"),
        ],
    )
    def test_refused_before_the_long_part(self, given: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LabelOptions, "fit", lambda *a: pytest.fail("texts were tokenised"))
        with pytest.raises((ArgumentError, DataError), match=message):
            TextData.from_lists(TEXTS, LABELS, valid=None, weights=given, **QUIET)


class TestTestSplit:
    def test_labels_that_are_there_are_targets(self, tmp_path: Path) -> None:
        data = TextData.from_df(frame(), test=frame()[:6], **QUIET)
        assert data._split("test").target.tolist() == [data.classes.index(x) for x in LABELS[:6]]  # type: ignore[union-attr]
        learn = fit(data)
        assert "accuracy" in learn.validate("test") and learn.predict(split="test").targets is not None
        frame().to_csv(tmp_path / "a.csv", index=False)
        assert TextData.from_csv(tmp_path / "a.csv", test=tmp_path / "a.csv", **QUIET)._split("test").target is not None

    def test_without_them_there_are_none(self, tmp_path: Path) -> None:
        frame().to_csv(tmp_path / "a.csv", index=False)
        frame().drop(columns="label").to_csv(tmp_path / "test.csv", index=False)
        made = TextData.from_csv(tmp_path / "a.csv", test=tmp_path / "test.csv", **QUIET)
        empty = TextData.from_df(frame(), test=frame(label=None), **QUIET)
        for data in (made, empty):
            assert data._split("test").target is None
        with pytest.raises(DataError, match="no targets"):
            fit(made).validate("test")

    def test_only_some_of_them_are_told(self) -> None:
        with pytest.warns(EasyLearnWarning, match=r"test: only 15 of 16 rows have a label.*row 115 has none"):
            data = TextData.from_df(frame(), test=frame(label=[*LABELS[:15], None]), **QUIET)
        assert data._split("test").target is None

    def test_a_label_that_training_lacks_is_named(self) -> None:
        with pytest.raises(DataError, match=r"row 100 \(test\): the label 'good'.*leave the labels of the test out"):
            TextData.from_df(frame(), test=frame(label="good"), **QUIET)

    def test_class_folders(self, tmp_path: Path) -> None:
        write(tmp_path, ["train/pos", "train/neg", "test/pos", "test/neg", "other"])
        data = TextData.from_folder(tmp_path, test="test", **QUIET)
        assert data._split("test").target.tolist() == [0] * 4 + [1] * 4  # type: ignore[union-attr]
        assert TextData.from_folder(tmp_path, test="other", **QUIET)._split("test").target is None
        write(tmp_path, ["test/unsure"])
        assert TextData.from_folder(tmp_path, test="test", **QUIET)._split("test").target is None


class TestAsTheyWere:
    """What a report shows is what was given, not tokens."""

    text = "A GOOD film!!!!<br />we  liked it"

    def test_rows_and_lists(self) -> None:
        df = frame(text=[self.text] * 16, title=[f"Title {i}" for i in range(16)])
        data = TextData.from_df(df, valid=[3, 1], **QUIET)
        assert data.describe_item("valid", 1) == {"text": self.text} and data.text("valid", 1) != self.text
        two = TextData.from_df(df, ["title", "text"], valid=[3, 1], **QUIET)
        assert two.describe_item("valid", 1) == {"title": "Title 3", "text": self.text}
        listed = TextData.from_lists([self.text] * 16, LABELS, valid=[3, 1], **QUIET)
        assert listed.describe_item("train", 0) == {"text": self.text}

    def test_nothing_is_copied(self) -> None:
        texts = [f"{self.text} {i}" for i in range(16)]
        data = TextData.from_df(frame(text=pd.Series(texts, dtype=object, index=range(100, 116))), valid=[3], **QUIET)
        assert data.describe_item("valid", 0)["text"] is texts[3]

    def test_files_are_read_again(self, tmp_path: Path) -> None:
        write(tmp_path, ["pos", "neg"])
        data = TextData.from_folder(tmp_path, valid=None, **QUIET)
        assert data.describe_item("train", 0) == {"text": "neg text 0 is here"}
        (tmp_path / "neg" / "0.txt").unlink()
        assert data.describe_item("train", 0) == {"text": data.text("train", 0)}

    def test_too_many_are_not_kept(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        write(tmp_path, ["pos", "neg"])
        monkeypatch.setattr(gather, "MOST_SHOWN", 10)
        data = TextData.from_df(frame(text=[self.text] * 16), valid=[3, 1], **QUIET)
        assert data._split("train").documents is None
        assert data.describe_item("train", 0) == {"text": data.text("train", 0)}
        files = TextData.from_folder(tmp_path, valid=None, **QUIET)
        assert files.describe_item("train", 0) == {"text": "neg text 0 is here"}, "of files only the names are kept"


class TestFromLists:
    def test_any_sequence_of_labels(self) -> None:
        codes = [int(label == "pos") for label in LABELS]
        given = [codes, np.array(codes), torch.tensor(codes), pd.Series(codes, index=range(50, 66)), tuple(codes)]
        found = [TextData.from_lists(pd.Series(TEXTS, index=range(7, 23)), g, **QUIET) for g in given]  # type: ignore[arg-type]
        for data in found:
            assert data.classes == ("0", "1") and data.fingerprint("train") == found[0].fingerprint("train")
        with pytest.raises(ArgumentError, match=r"array of shape \(16, 2\).*from_df"):
            TextData.from_lists(TEXTS, np.zeros((16, 2)), **QUIET)

    def test_lists_of_labels(self) -> None:
        data = TextData.from_lists(TEXTS, [["a"], ["a", "b"], [], ["c"]] * 4, **QUIET)
        assert data.task.is_multi and data.classes == ("a", "b", "c")
        assert TextData.from_lists(TEXTS, ["a b", "c"] * 8, label_sep=" ", **QUIET).classes == ("a", "b", "c")

    def test_validation_of_its_own(self) -> None:
        data = TextData.from_lists(TEXTS, LABELS, valid=(["one good film"], ["pos"]), **QUIET)
        assert len(data.ids("train")) == 16 and data._split("valid").target.tolist() == [1]  # type: ignore[union-attr]
        lm = TextLMData.from_lists(TEXTS, valid=["one good film"], **QUIET)
        assert lm.store("valid").n_tokens == 4

    def test_refused(self) -> None:
        with pytest.raises(DataError, match="16 texts, but 15 labels"):
            TextData.from_lists(TEXTS, LABELS[1:], **QUIET)
        with pytest.raises(DataError, match="valid: there are 1 texts, but 2 labels"):
            TextData.from_lists(TEXTS, LABELS, valid=(["a"], ["pos", "neg"]), **QUIET)
        with pytest.raises(ArgumentError, match="list of texts, got one text"):
            TextLMData.from_lists("a text", **QUIET)
        with pytest.raises(DataError, match=r"item 1 \(valid\): the label 'pas'.*'pos'"):
            TextData.from_lists(TEXTS, LABELS, valid=(["a", "b"], ["pos", "pas"]), **QUIET)


class TestFromCsv:
    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
    def test_a_file_is_as_good_as_its_frame(self, tmp_path: Path, name: str) -> None:
        df = pd.DataFrame({"text": [*TEXTS[:13], "NA", "007", "null"], "label": ["01", "1", "NA", "01"] * 4, "w": 1.0})
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
            df.to_parquet(tmp_path / name)
        else:
            df.to_csv(tmp_path / name, index=False)
        for valid in (0.25, tmp_path / name):
            own = df if isinstance(valid, Path) else valid
            a = TextData.from_csv(tmp_path / name, valid=valid, test=tmp_path / name, weights="w", **QUIET)
            b = TextData.from_df(df, valid=own, test=df, weights="w", **QUIET)
            assert a.classes == b.classes == ("01", "1", "NA")
            assert [a.fingerprint(s) for s in a.splits] == [b.fingerprint(s) for s in b.splits]
        learn = fit(b)
        assert torch.equal(learn.predict(tmp_path / name).probs, learn.predict(df).probs)
        assert torch.equal(learn.predict(df).probs, learn.predict(df["text"]).probs)

    def test_only_the_columns_that_are_needed_are_read(self, tmp_path: Path) -> None:
        frame(junk=["x" * 50] * 16, who=list(range(16))).to_csv(tmp_path / "a.csv", index=False)
        data = TextData.from_csv(tmp_path / "a.csv", groups="who", **QUIET)
        documents: Any = data._split("train").documents
        assert documents is not None and list(documents.describe(0)) == ["text"]
        with pytest.raises(DataError, match=r"no columns \['whom'\].*'who'"):
            TextData.from_csv(tmp_path / "a.csv", groups="whom", **QUIET)

    def test_mixed_line_ends_and_words_that_look_missing(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        rows = [f'"{t}\r\nNA",{label}' for t, label in zip(TEXTS, LABELS, strict=True)]
        file.write_bytes(("text,label\n" + "\n".join(rows) + "\nnull,pos\nNA,neg\n").encode())
        data = TextData.from_csv(file, valid=0.25, test=file, **QUIET)
        assert len(data.ids("train")) + len(data.ids("valid")) == 18 and data.classes == ("neg", "pos")
        texts = [data.text("test", i) for i in range(18)]
        assert texts[16].endswith("null") and texts[17].endswith("NA")
        assert len(TextLMData.from_csv(file, valid=file, **QUIET).ids("valid")) == 18

    def test_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        with pytest.raises(DataError, match="there is no file"):
            TextData.from_csv(file)
        file.write_bytes(b"text,label\n\xff\xfe,a\n")
        with pytest.raises(DataError, match="is no UTF-8"):
            TextData.from_csv(file)
        file.write_bytes(b"")
        with pytest.raises(DataError, match=r"a\.csv is empty"):
            TextData.from_csv(file)
        file.write_text("text,label\na,x\n,y\n")
        with pytest.raises(DataError, match=r"column 'text', a\.csv line 3 is missing"):
            TextData.from_csv(file)


class TestFromFolder:
    def test_classes_by_folder(self, tmp_path: Path) -> None:
        write(tmp_path, ["train/pos", "train/neg", "valid/pos", "valid/neg", "test"])
        data = TextData.from_folder(tmp_path, test="test", **QUIET)
        assert data.classes == ("neg", "pos") and [len(data.ids(p)) for p in ("train", "valid", "test")] == [8, 8, 4]
        assert data.ids("train")[0] == "neg/0.txt" and data.ids("test")[0] == "0.txt"
        lm = TextLMData.from_folder(tmp_path, **QUIET)
        assert (
            len(lm.ids("train")) == 8 and len(TextLMData.from_folder(tmp_path, fraction=0.5, **QUIET).ids("train")) == 4
        )

    def test_a_fraction_of_plain_folders(self, tmp_path: Path) -> None:
        write(tmp_path, ["pos", "neg", "unsup"])
        data = TextData.from_folder(tmp_path, valid=0.25, classes=["pos", "neg"], **QUIET)
        assert data.classes == ("neg", "pos") and len(data.ids("valid")) == 2
        with pytest.raises(DataError, match=r"no folder 'poss'.*'pos'"):
            TextData.from_folder(tmp_path, classes=["poss", "neg"], **QUIET)

    def test_what_validates_or_tests_does_not_train(self, tmp_path: Path) -> None:
        write(tmp_path, ["pos", "neg", "check/pos", "check/neg", "test"])
        for cls in (TextData, TextLMData):
            data = cls.from_folder(tmp_path, valid="check", test="test", **QUIET)
            assert sorted({i.split("/")[0] for i in data.ids("train")}) == ["neg", "pos"]
            assert [len(data.ids(p)) for p in ("train", "valid", "test")] == [8, 8, 4]

    def test_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="there is no folder"):
            TextData.from_folder(tmp_path / "none")
        with pytest.raises(DataError, match="has no file"):
            TextData.from_folder(tmp_path)
        write(tmp_path, ["pos", "neg"])
        with pytest.raises(ArgumentError, match="fraction must be"):
            TextLMData.from_folder(tmp_path, fraction=0)
        (tmp_path / "readme.txt").write_text("read me")
        with pytest.raises(DataError, match=r"readme.txt lies in no class's folder"):
            TextData.from_folder(tmp_path, **QUIET)
        assert len(TextData.from_folder(tmp_path, classes=["pos", "neg"], valid=None, **QUIET).ids("train")) == 8
        (tmp_path / "neg" / "1.txt").write_bytes(b"fine so far \xff and on")
        with pytest.raises(DataError, match=r"1\.txt.*12"):
            TextData.from_folder(tmp_path, classes=["pos", "neg"], **QUIET)
        TextData.from_folder(tmp_path, classes=["pos", "neg"], errors="replace", **QUIET)

    def test_an_unseen_class_is_named_by_file(self, tmp_path: Path) -> None:
        write(tmp_path, ["train/pos", "train/neg", "valid/pos", "valid/new"])
        with pytest.raises(DataError, match=r"new/0.txt \(valid\): the label 'new'"):
            TextData.from_folder(tmp_path, **QUIET)


STRANGE = [
    "", " ", "x", "\n\r\n\r", "😀😀😀 👩‍👩‍👧 🇩🇪", "مرحبا بالعالم", "שלום עולם", "a\x00b", "\ufeffbom", "á́́",
    "a\r\nb\rc\nd", "<br />", "x" * 5000, "\u2028 \u200b", "!!!!!!", "xxbos xxpad xxunk",
]  # fmt: skip


class TestBadInput:
    def test_strange_texts_train_and_are_predicted(self) -> None:
        labels = ["a", "b"] * (len(STRANGE) // 2)
        learn = fit(TextData.from_lists(STRANGE, labels, valid=[0, 1, 4], **QUIET))
        assert set(learn.predict(STRANGE).labels) <= {"a", "b"} and len(learn.predict(STRANGE)) == len(STRANGE)
        assert learn.predict().probs.isfinite().all()

    def test_strange_texts_in_a_language_model(self) -> None:
        learn = fit(TextLMData.from_lists(STRANGE, valid=[0, 1, 4, 5], **{**QUIET, "batch_size": 2, "bptt": 5}))
        assert np.isfinite(learn.validate()["perplexity"])

    def test_nothing_but_empty_documents(self) -> None:
        data = TextData.from_lists([""] * 8, ["a", "b"] * 4, **QUIET)
        assert data.store("train").lengths.tolist() == [1] * 6 and data.report()["empty"].tolist() == [6, 2]
        fit(data)
        lm = TextLMData.from_lists([""] * 8, valid=0.25, **{**QUIET, "batch_size": 2})
        assert np.isfinite(fit(lm).validate()["perplexity"])

    @pytest.mark.parametrize("make", ["classifier", "lm"])
    def test_a_document_of_a_million_characters(self, make: str) -> None:
        words = ["good", "bad", "long", "film"]
        big = " ".join(words[(i * i) % 7 % 4] for i in range(210_000))
        assert len(big) > 950_000
        texts = [big, *TEXTS[:3]]
        if make == "classifier":
            data = TextData.from_lists(texts, ["a", "b", "a", "b"], valid=[2, 3], **QUIET)
            learn = text_classifier_learner(data, bptt=5000, max_len=1000, **SMALL)
            assert learn.predict([big, "good"]).probs.isfinite().all()
            short = TextData.from_lists(texts, ["a", "b", "a", "b"], valid=[2, 3], max_tokens=400, **QUIET)
            fit(short)
        else:
            lm = TextLMData.from_lists(texts, valid=[2, 3], **{**QUIET, "batch_size": 100, "bptt": 700})
            fit(lm)

    def test_a_missing_text_is_named(self) -> None:
        texts = [*TEXTS[:15], float("nan")]
        for cls in (TextData, TextLMData):
            with pytest.raises(
                DataError, match=r"column 'text', row 115 is missing \(got nan, a float\).*missing='empty'"
            ):
                cls.from_df(frame(text=texts), **QUIET)
            data = cls.from_df(frame(text=texts), missing="empty", valid=[14, 15], **QUIET)
            assert data.store("valid").lengths.tolist() == [6, 1]
        with pytest.raises(DataError, match="row 115: expected a text, got 3, a int"):
            TextData.from_df(frame(text=[*TEXTS[:15], 3]), **QUIET)

    def test_a_missing_label_is_named(self) -> None:
        with pytest.raises(DataError, match=r"1 of 16 rows of the target 'label' have no label.*row 115"):
            TextData.from_df(frame(label=[*LABELS[:15], None]), valid=[0], **QUIET)

    def test_a_label_unseen_in_training_is_named(self) -> None:
        with pytest.raises(DataError, match=r"row 115 \(valid\): the label 'new'.*in no training row"):
            TextData.from_df(frame(label=[*LABELS[:15], "new"]), valid=[15], **QUIET)

    def test_a_batch_longer_than_the_corpus(self) -> None:
        data = TextData.from_df(frame(), min_freq=1, progress=False, batch_size=1000)
        assert len(data.loader("train", training=True)) == 1
        fit(data)
        with pytest.raises(
            DataError, match=r"train split of 14 documents: 84 tokens do not fill 1000 rows.*at most 83"
        ):
            TextLMData.from_df(frame(), min_freq=1, progress=False, batch_size=1000)
        fit(TextLMData.from_df(frame(), min_freq=1, progress=False, batch_size=83))

    def test_too_little_to_validate(self) -> None:
        with pytest.raises(DataError, match="valid split of 1 documents: a language model needs at least two tokens"):
            TextLMData.from_lists(TEXTS, valid=[""], **QUIET)

    def test_empty_tables(self) -> None:
        with pytest.raises(DataError, match="no documents"):
            TextLMData.from_df(frame()[:0], **QUIET)
        with pytest.raises(DataError, match="no documents"):
            TextLMData.from_lists([], **QUIET)
        with pytest.raises((DataError, ArgumentError)):
            TextData.from_lists([], [], **QUIET)


class TestPredictions:
    def test_in_the_order_given_and_independent_of_batch_mates(self) -> None:
        learn = fit(TextData.from_df(frame(), valid=0.25, **QUIET))
        texts = ["good", "bad film that all of them liked", "", "long film", "few", *TEXTS, "short " * 50]
        together = learn.predict(texts)
        for i, text in enumerate(texts):
            alone = learn.predict(text)
            torch.testing.assert_close(alone.probs, together.probs[i], rtol=1e-5, atol=1e-6)
            assert alone.label == together.labels[i]
        torch.testing.assert_close(learn.predict(texts[::-1]).probs.flip(0), together.probs, rtol=1e-5, atol=1e-6)

    def test_a_split_comes_in_its_own_order(self) -> None:
        data = TextData.from_df(frame(), valid=0.5, test=frame(), **QUIET)
        learn = fit(data)
        found = learn.predict()
        assert found.ids == tuple(data.ids("valid")) and torch.equal(found.targets, data._split("valid").target)  # type: ignore[arg-type]
        single = learn.predict([str(frame().loc[int(i), "text"]) for i in found.ids])
        torch.testing.assert_close(found.probs, single.probs, rtol=1e-5, atol=1e-6)
        assert learn.predict(split="test").ids == tuple(str(i) for i in range(100, 116))
        assert torch.equal(learn.tta().probs, found.probs)


class TestOtherData:
    def test_set_data(self, make_data: Any) -> None:
        data = TextData.from_df(frame(), **QUIET)
        learn = fit(data)
        learn.set_data(TextData.from_df(frame()[:8], vocab=learn.data.vocab, valid=None, **{**QUIET, "batch_size": 2}))
        assert learn.data.batch_size == 2
        with pytest.raises(DataError, match=r"another vocabulary than the model; make it with vocab=learn"):
            learn.set_data(TextData.from_df(frame(text=["other words"] * 16), **QUIET))
        with pytest.raises(DataError, match="backward=False"):
            learn.set_data(TextData.from_df(frame(), vocab=learn.data.vocab, backward=True, **QUIET))
        with pytest.raises(DataError, match="does not fit the model"):
            learn.set_data(make_data())

    def test_a_report_and_names(self) -> None:
        data = TextData.from_df(frame(), valid=0.25, **QUIET)
        report = data.report()
        assert report.loc["train", "documents"] == 12 and report.loc["valid", "tokens"] == 24
        assert [kind.kind for kind in report.dtypes] == [*"iiiiif"]  # numbers of texts are no fractions
        assert repr(data).startswith("TextData(train 12 documents of 72 tokens") and "2 classes" in repr(data)
        assert "different tokens" in repr(TextLMData.from_df(frame(), **QUIET))
        assert isinstance(data.vocab, Vocab)
        with pytest.raises(DataError, match="there is no test split"):
            data.ids("test")


def test_more_texts_of_known_classes_stand_behind_the_training_split() -> None:
    data = TextData.from_lists(TEXTS, LABELS, valid=[0], weights=np.linspace(1, 2, 16), **QUIET)
    both = data.with_more(["bad film", "a film that nobody saw"], np.array([0, 1]))
    assert both.splits == ("train",) and both.batch_size == data.batch_size and both.vocab is data.vocab
    assert both.ids("train") == (*data.ids("train"), "more 0", "more 1")
    loader, own = both.loader("train", training=True), data.loader("train", training=True)
    assert loader.target is not None and own.target is not None
    assert loader.target.tolist() == [*own.target.tolist(), 0, 1]
    assert both.text("train", 14) == data.text("train", 14) and both.text("train", 15).endswith("bad film")
    one, other = own.order.weights, loader.order.weights
    assert one is not None and other is not None
    np.testing.assert_allclose(other / other[0], [*one / one[0], *[one.mean() / one[0]] * 2])
