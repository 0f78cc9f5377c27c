"""Texts of any form into a model's inputs: by a learner, a predictor and a file alike; then what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from easylearn.data.order import ItemLoader
from easylearn.errors import ArgumentError, DataError, WeightsError
from easylearn.export import load_learner, load_predictor
from easylearn.learning import Learner
from easylearn.nn.awd_lstm import AWDLSTM
from easylearn.nn.text_models import LanguageModel
from easylearn.task import NextToken, single_label
from easylearn.texts.data import TextData
from easylearn.texts.learner import text_classifier_learner
from easylearn.texts.preprocess import StreamPreprocessor, TextPreprocessor
from easylearn.texts.processing import TextProcessor
from easylearn.texts.sources import Documents
from easylearn.texts.store import TokenStore

TEXTS = ["a good film", "a BAD film, bad!", "", "été"]
TASK = single_label(["neg", "pos"])
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def processor() -> TextProcessor:
    return TextProcessor.fit(Documents.from_list(TEXTS), min_freq=1)[0]


def texts(processor: TextProcessor, **how: Any) -> TextPreprocessor:
    return TextPreprocessor(processor, **how)


class TestRead:
    def test_one_text(self, processor: TextProcessor) -> None:
        read = texts(processor).read("a good film", first=7)
        assert (read.values, read.ids, read.single) == (["a good film"], ("7",), True)

    @pytest.mark.parametrize(
        "given",
        [
            TEXTS, tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, dtype=object), pd.Series(TEXTS), pd.Index(TEXTS),
            pd.array(TEXTS, "string"), [np.str_(t) for t in TEXTS],
        ],
        ids=lambda g: type(g).__name__,
    )  # fmt: skip
    def test_several(self, processor: TextProcessor, given: Any) -> None:
        read = texts(processor).read(given)
        assert (read.values, read.ids, read.single) == (TEXTS, ("0", "1", "2", "3"), False)
        assert all(type(t) is str for t in read.values)

    def test_a_list_of_one_is_a_list(self, processor: TextProcessor) -> None:
        read = texts(processor).read(["a"], first=3)
        assert read.ids == ("3",) and not read.single

    def test_names_of_rows(self, processor: TextProcessor) -> None:
        how = texts(processor, columns="review")
        frame = pd.DataFrame({"review": TEXTS, "stars": range(4)}, index=list("wxyz"))
        read = how.read(frame)
        assert (read.values, read.ids, read.single) == (TEXTS, ("w", "x", "y", "z"), False)
        assert how.read(frame["review"]).ids == ("w", "x", "y", "z")
        assert how.read(frame[:1]).single is False

    @pytest.mark.parametrize("row", [{"review": "a", "stars": 3}, pd.Series({"review": "a", "stars": 3})])
    def test_a_row_is_one_item(self, processor: TextProcessor, row: Any) -> None:
        how = texts(processor, columns="review")
        assert how.read(row).single and how.read(row).values == ["a"]
        several = how.read([row, "b", row])
        assert several.values == ["a", "b", "a"] and not several.single

    def test_several_columns_are_joined_as_in_training(self, processor: TextProcessor) -> None:
        how = texts(processor, columns=("title", "review"))
        frame = pd.DataFrame({"review": ["b", "d"], "title": ["a", "c"]})
        want = ["xxfld 1 a xxfld 2 b", "xxfld 1 c xxfld 2 d"]
        assert how.read(frame).values == want == list(Documents.from_frame(frame, ["title", "review"]))
        assert how.read(frame.to_dict("records")).values == want and how.read(frame.iloc[1]).values == want[1:]

    def test_a_text_is_never_opened_as_a_file(
        self, processor: TextProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "secret.txt").write_text("nobody shall read this")
        monkeypatch.chdir(tmp_path)
        how = texts(processor)
        for name in ("secret.txt", str(tmp_path / "secret.txt"), str(tmp_path)):
            assert how.read(name).values == [name] and how.read([name]).values == [name]
            assert not how.is_file(name) and how.is_file(Path(name))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (3, "got 3, a int"),
            (None, "got None, a NoneType"),
            (b"a text", "got b'a text', a bytes"),
            ({"a"}, "a set"),
            (torch.zeros(2), "item 0.*got 0.0, a float"),
            (["a", 3], "item 1.*got 3, a int"),
            (["a", b"b"], "item 1.*a bytes"),
            (["a", None], r"item 1.*got None, a NoneType.*missing='empty'"),
            (["a", float("nan")], r"item 1.*got nan, a float.*missing='empty'"),
            (["a", ["b"]], r"item 1.*a list"),
            (["a", Path("b.txt")], r"item 1.*PosixPath.*read_text"),
            ([{"text": "a"}], "item 0.*got a dict; give the text"),
            ({"text": "a"}, "item 0.*got a dict; give the text"),
            (pd.DataFrame({"text": ["a"]}), r"DataFrame.*df\['text'\]"),
            (np.array([["a", "b"]]), r"shape \(1, 2\)"),
            (np.array("a"), "shape"),
            ([], "no texts to predict"),
            (pd.Series([], dtype=object), "no texts to predict"),
        ],
        ids=repr,
    )  # fmt: skip
    def test_anything_else_is_named(self, processor: TextProcessor, given: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            texts(processor).read(given)

    def test_items_of_a_stream_are_numbered_on(self, processor: TextProcessor) -> None:
        with pytest.raises(DataError, match="item 11"):
            texts(processor).read(["a", 3], first=10)

    def test_rows_that_lack_a_column_or_a_text(self, processor: TextProcessor) -> None:
        how = texts(processor, columns=("title", "review"))
        with pytest.raises(DataError, match=r"item 0 has no 'title'; it has \['review'\]"):
            how.read({"review": "a"})
        with pytest.raises(DataError, match=r"item 1, column 'title'.*got 3, a int"):
            how.read([{"title": "a", "review": "b"}, {"title": 3, "review": "b"}])
        with pytest.raises(DataError, match=r"no columns \['title'\]"):
            how.read(pd.DataFrame({"review": ["a"]}))
        with pytest.raises(DataError, match=r"column 'title', row x is missing"):
            how.read(pd.DataFrame({"review": ["a"], "title": [None]}, index=["x"], dtype=object))
        with pytest.raises(DataError, match="no texts to predict"):
            how.read(pd.DataFrame({"review": [], "title": []}))


class TestMissing:
    """What a missing text was in training, it is in a prediction."""

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({"text": ["good", None, "bad", "bad"] * 4, "label": ["p", "n", "n", "p"] * 4}, dtype=object)

    def learner(self, missing: Any) -> Learner:
        frame = self.frame() if missing == "empty" else self.frame().dropna()
        data = TextData.from_df(frame, missing=missing, min_freq=1, batch_size=4, progress=False)
        return text_classifier_learner(data, emb_size=6, n_hidden=6, n_layers=1, device="cpu", progress=False)

    def test_empty_is_remembered_also_by_the_export(self, tmp_path: Path) -> None:
        learn = self.learner("empty")
        learn.export(tmp_path / "file")
        for asked in (learn, load_predictor(tmp_path / "file", device="cpu"), load_learner(tmp_path / "file")):
            want = asked.predict("").probs
            for given in (
                [None],
                [float("nan")],
                [pd.NA],
                [{"text": None}],
                self.frame()[1:2],
                self.frame()["text"][1:2],
            ):
                found = asked.predict(given)
                assert len(found) == 1 and torch.equal(found.probs[0], want)

    def test_refused_where_training_had_none(self, tmp_path: Path) -> None:
        learn = self.learner("error")
        learn.export(tmp_path / "file")
        for asked in (learn, load_predictor(tmp_path / "file", device="cpu")):
            for given in ([None], [{"text": None}], self.frame()):
                with pytest.raises(DataError, match="missing"):
                    asked.predict(given)
            assert len(asked.predict([""])) == 1

    def test_files_of_the_first_edition_do_not_say(self, processor: TextProcessor) -> None:
        recipe = texts(processor).recipe()
        del recipe["missing"]
        assert TextPreprocessor.from_recipe(recipe, TASK).missing == "error"


class TestFiles:
    def values(self, how: TextPreprocessor, path: Path, n: int = 2) -> tuple[list[str], list[str]]:
        pieces = list(how.read_file(path, n))
        assert all(len(p) <= n and not p.single for p in pieces)
        return [v for p in pieces for v in p.values], [i for p in pieces for i in p.ids]

    def test_a_folder_and_a_file(self, processor: TextProcessor, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        for name in ("a.txt", "b/c.txt", "b/d.txt", "no.md"):
            (tmp_path / name).write_text(f"in {name}", encoding="utf-8")
        how = texts(processor)
        assert self.values(how, tmp_path) == (["in a.txt", "in b/c.txt", "in b/d.txt"], ["a.txt", "b/c.txt", "b/d.txt"])
        assert self.values(how, tmp_path / "a.txt") == (["in a.txt"], ["a.txt"])
        with pytest.raises(DataError, match=r"none\.txt cannot be read"):
            self.values(how, tmp_path / "none.txt")

    @pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.parquet"])
    def test_tables(self, processor: TextProcessor, tmp_path: Path, name: str) -> None:
        frame = pd.DataFrame({"n": range(5), "review": ["a", "NA", "007", "null", "e"]})
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
            frame.to_parquet(tmp_path / name)
        else:
            frame.to_csv(tmp_path / name, index=False)
        how = texts(processor, columns="review")
        assert self.values(how, tmp_path / name) == (["a", "NA", "007", "null", "e"], list("01234"))
        assert self.values(how, tmp_path / name, 100)[0] == how.read(frame).values
        with pytest.raises(DataError, match=r"no columns \['text'\]"):
            self.values(texts(processor), tmp_path / name)

    def test_a_row_without_text_is_named_by_its_line(self, processor: TextProcessor, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text('text,n\na,1\n"two\nlines",2\n,3\n')
        with pytest.raises(DataError, match=r"column 'text', x\.csv line 5 is missing"):
            self.values(texts(processor), tmp_path / "x.csv")
        assert self.values(texts(processor, missing="empty"), tmp_path / "x.csv")[0] == ["a", "two\nlines", ""]


class TestSource:
    def test_it_is_what_training_documents_go_through(self, processor: TextProcessor) -> None:
        store = processor.store(Documents.from_list(TEXTS))
        for how in ({}, {"max_tokens": 3}, {"backward": True}):
            made = texts(processor, **how)
            at = np.arange(4)
            a, b = made.source(TEXTS).fetch(at, CPU), made.source_of(store).fetch(at, CPU)
            assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])

    def test_documents_come_by_length(self, processor: TextProcessor) -> None:
        made = texts(processor)
        values = ["a film " * n for n in (3, 9, 1, 7, 5)]
        source = made.source(values)
        order = made.order(values, source, 1)
        assert [b.tolist() for b in order.batches()] == [[1, 3], [4, 0], [2]]
        assert sum(len(b.index) for b in ItemLoader(order, source).batches(CPU)) == 5

    def test_runtime_inputs(self, processor: TextProcessor) -> None:
        inputs = texts(processor, backward=True).runtime_inputs(())
        assert inputs.names == ("tokens", "lengths")
        assert inputs.about == {"pad": 1, "n_tokens": len(processor.vocab), "backward": True}


class TestRecipe:
    @pytest.mark.parametrize(
        "how",
        [{}, {"max_tokens": 9, "backward": True}, {"columns": "review"}, {"columns": ("a", "b"), "missing": "empty"}],
    )
    def test_round_trip_through_json(self, processor: TextProcessor, how: Any) -> None:
        made = texts(processor, **how)
        again = TextPreprocessor.from_recipe(json.loads(json.dumps(made.recipe())), TASK)
        for name in ("backward", "columns", "missing", "max_tokens", "vocab"):
            assert getattr(again, name) == getattr(made, name)
        assert again.source(["a GOOD film"]).store.ids.tolist() == made.source(["a GOOD film"]).store.ids.tolist()

    def test_the_keys_are_those_of_the_first_edition(self, processor: TextProcessor) -> None:
        common = {"kind", "processor", "backward", "columns", "missing"}
        assert set(texts(processor).recipe()) == {*common, "max_tokens"}
        assert set(StreamPreprocessor(processor).recipe()) == {*common, "bptt"}

    @pytest.mark.parametrize(
        "change",
        [
            {"processor": None}, {"processor": {}}, {"max_tokens": -1}, {"max_tokens": "9"}, {"max_tokens": True},
            {"columns": 3},
        ],
        ids=repr,
    )  # fmt: skip
    def test_damaged(self, processor: TextProcessor, change: Any) -> None:
        with pytest.raises(WeightsError, match="damaged"):
            TextPreprocessor.from_recipe({**texts(processor).recipe(), **change}, TASK)

    @pytest.mark.parametrize("key", ["processor", "backward", "columns"])
    def test_lacking_a_key(self, processor: TextProcessor, key: str) -> None:
        recipe = texts(processor).recipe()
        del recipe[key]
        with pytest.raises(WeightsError, match="damaged"):
            TextPreprocessor.from_recipe(recipe, TASK)

    def test_another_vocabulary_than_the_models(self, processor: TextProcessor) -> None:
        n = len(processor.vocab)
        texts(processor).check_model(LanguageModel(AWDLSTM(n, 4, 4, 1)))
        with pytest.raises(WeightsError, match=rf"{n} tokens, the model vectors for {n + 1}"):
            texts(processor).check_model(LanguageModel(AWDLSTM(n + 1, 4, 4, 1)))


class TestStream:
    def test_a_file_leaves_the_words_to_the_vocabulary(self, processor: TextProcessor) -> None:
        made = StreamPreprocessor(processor, bptt=9)
        again = StreamPreprocessor.from_recipe(json.loads(json.dumps(made.recipe())), NextToken(()))
        assert again.bptt == 9 and again.complete(NextToken(())).names == processor.vocab.tokens

    def test_a_whole_text_is_refused(self, processor: TextProcessor) -> None:
        made = StreamPreprocessor(processor)
        for call in (lambda: made.read("a"), lambda: made.read(["a"]), lambda: made.source(["a"])):
            with pytest.raises(ArgumentError, match=r"generate\(learn, prompt, n\)"):
                call()


class TestThreads:
    def test_eight_that_predict_at_once_get_what_one_gets(self) -> None:
        words = ["good", "bad", "long", "short", "film"]
        many = [" ".join(words[(i * j + j) % 5] for j in range(i % 40)) for i in range(64)]
        data = TextData.from_lists(many, ["a", "b"] * 32, min_freq=1, batch_size=4, progress=False)
        learn = text_classifier_learner(data, emb_size=8, n_hidden=12, n_layers=2, device="cpu", progress=False, bptt=7)
        learn.fit(1e-2, 1)
        learn.model.train()
        asked = [many[i::8] for i in range(8)]
        want = [learn.predict(some).probs for some in asked]
        before = {name: t.clone() for name, t in learn.model.state_dict().items()}
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: learn.predict(asked[i % 8]).probs, range(200)))
        assert all(torch.equal(probs, want[i % 8]) for i, probs in enumerate(found))
        after = learn.model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before) and learn.model.training

    def test_eight_that_prepare_at_once(self, processor: TextProcessor) -> None:
        many = [f"word{i} GOOD film don't!!!! {i}" for i in range(400)]
        made = texts(processor)
        want = made.source(many).store
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: made.source(many).store, range(16)))
        assert all(isinstance(s, TokenStore) and np.array_equal(s.ids, want.ids) for s in found)
