from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import easylearn as el
from easylearn.errors import ArgumentError, DataError
from easylearn.multi.preprocess import MultiPreprocessor

CPU = torch.device("cpu")
N = 24


def rows(folder: Path, n: int = N) -> pd.DataFrame:
    """Items whose class shows in an image, in a word and in a number."""
    rng, found = np.random.default_rng(0), []
    for i in range(n):
        pixels = rng.integers(0, 90, (12, 10, 3)) + 100 * (i % 2)
        if not (folder / f"{i}.png").exists():  # a file that is written anew is another one
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        words = f"a {'good' if i % 2 else 'bad'} film of {1900 + i}"
        found.append({"file": f"{i}.png", "title": words, "year": float(i), "land": "ab"[i % 2], "y": "pn"[i % 2]})
    return pd.DataFrame(found, index=[f"id{i}" for i in range(n)])


def gaps(df: pd.DataFrame) -> pd.DataFrame:
    df = df.copy()
    df.loc[df.index[::5], "file"], df.loc[df.index[1::6], "title"] = None, "  "
    return df


HOW: dict[str, Any] = {
    "image": "file", "text": "title", "cat_names": ["land"], "cont_names": ["year"], "size": 8, "batch_size": 4,
    "workers": 0,
}  # fmt: skip


def make(folder: Path, df: pd.DataFrame | None = None, **how: Any) -> el.MultiData:
    df = gaps(rows(folder)) if df is None else df
    return el.MultiData.from_df(df, "y", **{**HOW, "path": folder, **how})


class TestBranches:
    def test_each_is_the_data_of_its_kind_with_the_same_split_and_ids(self, tmp_path: Path) -> None:
        df = gaps(rows(tmp_path))
        data = make(tmp_path, df)
        assert {n: type(b) for n, b in data.branches.items()} == {
            "image": el.ImageData, "text": el.TextData, "table": el.TabularData
        }  # fmt: skip
        for split in data.splits:
            ids = list(data.ids(split))
            have = {"image": df["file"].notna(), "text": df["title"].str.strip() != "", "table": df["y"].notna()}
            for name, branch in data.branches.items():
                assert list(branch.ids(split)) == [i for i in ids if have[name][i]] and branch.task == data.task
        assert len(data.ids("train")) + len(data.ids("valid")) == N
        assert set(data.ids("train")).isdisjoint(data.ids("valid"))

    def test_the_split_is_that_of_a_table(self, tmp_path: Path) -> None:
        df = rows(tmp_path)
        alone = el.TabularData.from_df(df, "y", cat_names=["land"], cont_names=["year"], seed=3)
        assert list(make(tmp_path, df, seed=3).ids("valid")) == list(alone.ids("valid"))
        grouped = make(tmp_path, df.assign(g=np.arange(N) // 4), groups="g").ids("valid")
        assert len({int(i[2:]) // 4 for i in grouped}) * 4 == len(grouped)
        assert set(make(tmp_path, df, time="year", valid=0.25).ids("valid")) == {f"id{i}" for i in range(18, 24)}

    def test_several_of_a_kind(self, tmp_path: Path) -> None:
        df = rows(tmp_path).assign(back=lambda d: d["file"][::-1].to_numpy())
        data = make(tmp_path, df, image=["file", "back"], text={"short": "title", "long": ["title", "land"]})
        assert list(data.branches) == ["file", "back", "short", "long", "table"]
        sizes = make(tmp_path, df, image={"front": "file", "back": "back"}, size={"front": 8, "back": (4, 6)})
        assert [sizes.branches[n].size for n in ("front", "back")] == [(8, 8), (4, 6)]  # type: ignore[attr-defined]

    def test_any_subset_of_kinds(self, tmp_path: Path) -> None:
        df = rows(tmp_path)
        assert list(make(tmp_path, df, cat_names=None, cont_names=None).branches) == ["image", "text"]
        assert list(make(tmp_path, df, image=None, text=None).branches) == ["table"]

    def test_an_image_may_come_twice(self, tmp_path: Path) -> None:
        data = make(tmp_path, rows(tmp_path).assign(file="0.png"))
        assert sum(len(data.branches["image"].ids(s)) for s in data.splits) == N

    def test_arrays_in_cells(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).integers(0, 255, (N, 9, 9, 3), dtype=np.uint8)
        data = make(tmp_path, rows(tmp_path).assign(file=list(x)))
        batch = next(data.loader("valid").batches(CPU))
        assert batch.inputs[0].shape[1:] == (3, 8, 8)

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        df = rows(tmp_path)
        (tmp_path / "3.png").write_bytes(b"no image")
        df.loc["id5", "file"] = "lost.png"
        with pytest.raises(DataError, match=r"row id5.*lost\.png"):
            make(tmp_path, df)
        data = make(tmp_path, df, on_error="skip")
        lack = {i for s in data.splits for k, i in enumerate(data.ids(s)) if "image" not in data.here(s, k)}
        assert lack == {"id3", "id5"} and any("could not be read" in note for note in data.notes())

    @pytest.mark.parametrize(
        ("y", "how", "kind", "n_out"),
        [
            (lambda i: (i * 7 % 23) / 7, {}, "regression", 1),
            (lambda i: "a b" if i % 3 else "b c", {"label_sep": " "}, "multi_label", 3),
            (lambda i: "abc"[i % 3], {}, "single_label", 3),
        ],
    )
    def test_tasks(self, tmp_path: Path, y: Any, how: dict[str, Any], kind: str, n_out: int) -> None:
        data = make(tmp_path, gaps(rows(tmp_path)).assign(y=[y(i) for i in range(N)]), **how)
        assert data.task.kind == kind and data.task.n_out == n_out

    def test_weights(self, tmp_path: Path) -> None:
        df = gaps(rows(tmp_path)).assign(w=[1.0 if i % 2 else 0.0 for i in range(N)])
        data = make(tmp_path, df, weights="w")
        for one in (data, data.branches["image"], data.branches["text"], data.branches["table"]):
            drawn = torch.cat([b.target for b in one.loader("train", training=True).batches(CPU)])  # type: ignore[misc]
            assert set(drawn.tolist()) == {0}  # "n", which odd items have


class TestLike:
    def test_it_takes_all_that_was_learnt(self, tmp_path: Path) -> None:
        df = gaps(rows(tmp_path))
        data = make(tmp_path, df, max_tokens=4)
        some = df.iloc[:9].assign(land="b", title="a fresh word", year=lambda d: d["year"] * 7)
        with pytest.raises(DataError):
            make(tmp_path, some).adopt(data)
        new = make(tmp_path, some, like=data)
        new.adopt(data)
        assert new.classes == data.classes
        wanted = data.preprocessor.read(some.loc[list(new.ids("train"))])
        found = new.loader("train").source.fetch(np.arange(len(new.ids("train"))), CPU)
        for a, b in zip(
            found[2:], data.preprocessor.source(wanted.values).fetch(np.arange(len(wanted)), CPU)[2:], strict=True
        ):
            assert torch.equal(a, b)

    @pytest.mark.parametrize(
        ("how", "match"), [({"image": None}, "branches"), ({"like": 3}, "like="), ({"targets": "land"}, r"\['y'\]")]
    )
    def test_refused(self, tmp_path: Path, how: dict[str, Any], match: str) -> None:
        df = rows(tmp_path)
        targets, given = how.pop("targets", "y"), {**HOW, "path": tmp_path, "like": make(tmp_path, df), **how}
        with pytest.raises(ArgumentError, match=match):
            el.MultiData.from_df(df, targets, **{**given, "cat_names": None} if targets == "land" else given)


class TestBatches:
    def test_a_batch_is_those_of_the_branches(self, tmp_path: Path) -> None:
        df = gaps(rows(tmp_path))
        data = make(tmp_path, df, method="squash")
        ids = data.ids("train")
        for batch in data.loader("train", training=True).batches(CPU, seed=1):
            pixels, tokens, lengths, _, _, present = batch.inputs
            for k, i in enumerate(batch.index.tolist()):
                row, text = df.loc[ids[i]], data.branches["text"]
                assert present[k].tolist() == [int(pd.notna(row["file"])), int(bool(row["title"].strip())), 1]
                assert batch.target is not None and data.classes[int(batch.target[k])] == row["y"]
                if present[k, 0]:
                    images = data.branches["image"]
                    at = list(images.ids("train")).index(ids[i])
                    assert torch.equal(
                        pixels[k], next(images.loader("train").source.stream([np.array([at])], CPU))[0][0]
                    )  # type: ignore[attr-defined]
                if present[k, 1]:
                    words = text.preprocessor.processor.decode(tokens[k, : int(lengths[k])].numpy())
                    assert words == text.text("train", list(text.ids("train")).index(ids[i]))  # type: ignore[attr-defined]

    def test_workers_change_nothing(self, tmp_path: Path) -> None:
        df, found = gaps(rows(tmp_path)), []
        for workers in (0, 2):
            data = make(tmp_path, df, workers=workers, augment="side_on", cache=False)
            found.append([b.inputs for b in data.loader("train", training=True).batches(CPU, seed=2, epoch=1)])
        assert all(torch.equal(x, y) for a, b in zip(*found, strict=True) for x, y in zip(a, b, strict=True))

    def test_views_are_those_of_the_images(self, tmp_path: Path) -> None:
        data = make(tmp_path, augment="side_on")
        (plain,), (view,) = ([*data.loader("valid", view=v).batches(CPU)][:1] for v in (0, 1))
        assert data.has_views and not torch.equal(plain.inputs[0], view.inputs[0])
        assert all(torch.equal(a, b) for a, b in zip(plain.inputs[1:], view.inputs[1:], strict=True))


class TestItems:
    def test_they_are_told_and_drawn(self, tmp_path: Path) -> None:
        data = make(tmp_path)
        for i in range(len(data.ids("valid"))):
            fields, here = data.describe_item("valid", i), data.here("valid", i)
            assert {"land", "year"} <= set(fields) and ("title" in fields) == ("text" in here)
            axes = Figure().add_subplot()
            data.draw_item("valid", i, axes)
            assert bool(axes.images) == ("image" in here)
        assert any("no image" in note for note in data.notes()) and "table 19" in repr(data)

    def test_equal_items_have_equal_keys(self, tmp_path: Path) -> None:
        df = rows(tmp_path, 6)
        data = make(tmp_path, pd.concat([df, df.rename(lambda i: f"{i} again")]), valid=None)
        keys = data.item_keys("train")
        assert keys[:6] == keys[6:] and len(set(keys)) == 6

    def test_another_size(self, tmp_path: Path) -> None:
        data = make(tmp_path).resized(10)
        assert next(iter(data.loader("train").batches(CPU))).inputs[0].shape[2:] == (10, 10)
        assert data.preprocessor.branches["image"] is data.branches["image"].preprocessor
        with pytest.raises(ArgumentError, match="no size"):
            make(tmp_path, image=None).resized(10)


class TestReading:
    def values(self, data: el.MultiData, given: Any) -> tuple[torch.Tensor, ...]:
        read = data.preprocessor.read(given)
        return data.preprocessor.source(read.values).fetch(np.arange(len(read)), CPU)

    def test_rows_are_read_as_those_of_training(self, tmp_path: Path) -> None:
        df = gaps(rows(tmp_path))
        data = make(tmp_path, df)
        some = df.loc[list(data.ids("valid"))]
        source = data.loader("valid").source
        wanted, found = source.fetch(np.arange(len(some)), CPU), self.values(data, some)
        present = wanted[-1]
        assert torch.equal(found[-1], present)
        assert torch.equal(found[0][present[:, 0] > 0], wanted[0][present[:, 0] > 0])
        assert torch.equal(found[2][present[:, 1] > 0], wanted[2][present[:, 1] > 0])
        assert torch.equal(found[4], wanted[4])

    def test_forms(self, tmp_path: Path) -> None:
        df = rows(tmp_path)
        data = make(tmp_path, df)
        row = df.iloc[0].to_dict()
        array = np.asarray(Image.open(tmp_path / "0.png"))
        wanted = self.values(data, row)
        given: list[Any] = [[row], df.iloc[0], df.iloc[:1], {**row, "file": array}]
        given += [{**row, "file": (tmp_path / "0.png").read_bytes()}, {**row, "file": tmp_path / "0.png"}]
        for one in given:
            assert all(torch.equal(a, b) for a, b in zip(self.values(data, one), wanted, strict=True))
        assert data.preprocessor.read(row).single and not data.preprocessor.read([row]).single

    def test_columns_that_are_not_there_are_missing(self, tmp_path: Path) -> None:
        data = make(tmp_path, rows(tmp_path))
        assert self.values(data, {"land": "a", "year": 3.0})[-1].tolist() == [[0, 0, 1]]
        assert self.values(data, {"land": "a", "year": 3.0, "title": "a film"})[-1].tolist() == [[0, 1, 1]]
        with pytest.raises(DataError, match="row 0 has no input"):
            make(tmp_path, rows(tmp_path), cat_names=None, cont_names=None).preprocessor.read({"file": None})

    def test_files_of_rows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        df = gaps(rows(tmp_path))
        data = make(tmp_path, df)
        df.to_csv(tmp_path / "films.csv", index=False)
        recipe = data.preprocessor.recipe()
        again = MultiPreprocessor.from_recipe(recipe, data.task)
        assert again.targets.columns == ("y",)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        (read,) = again.read_file(tmp_path / "films.csv", 1000)
        found = again.source(read.values).fetch(np.arange(N), CPU)  # type: ignore[union-attr]
        assert all(torch.equal(a, b) for a, b in zip(found, self.values(data, df), strict=True))
        assert list(again.branches) == ["image", "text", "table"]


class TestRefused:
    @pytest.mark.parametrize(
        ("how", "match"),
        [
            ({"image": None, "text": None, "cat_names": None, "cont_names": None}, "no input"),
            ({"text": {"table": "title"}}, "'table'"),
            ({"text": {"my text": "title"}}, "'my text'"),
            ({"text": {"image": "title"}}, "'image'"),
            ({"cat_names": ["y"]}, r"\['y'\]"),
            ({"size": {"image": 8, "back": 8}}, "back"),
            ({"image": 3}, "image must name columns .* 3"),
            ({"text": ["title", 3]}, "text must name columns .* 3"),
            ({"imagee": "file"}, "'image'"),
            ({"groups": 3}, "groups"),
            ({"batch_size": 0}, "batch_size"),
        ],
    )
    def test_arguments(self, tmp_path: Path, how: dict[str, Any], match: str) -> None:
        with pytest.raises((ArgumentError, TypeError), match=match):
            make(tmp_path, rows(tmp_path, 8), **how)

    def test_columns(self, tmp_path: Path) -> None:
        df = rows(tmp_path, 8)
        with pytest.raises(DataError, match=r"'titel'"):
            make(tmp_path, df, text="titel")
        with pytest.raises(DataError, match=r"id2"):
            make(tmp_path, df.assign(title=[3.5 if i == 2 else "a" for i in range(8)]))
        with pytest.raises(ArgumentError, match="DataFrame"):
            make(tmp_path, [1, 2])  # type: ignore[arg-type]

    def test_rows_without_any_input(self, tmp_path: Path) -> None:
        df = rows(tmp_path, 12)
        df.loc["id3", ["file", "title"]] = None
        with pytest.raises(DataError, match="row id3"):
            make(tmp_path, df, cat_names=None, cont_names=None)
        with pytest.raises(DataError, match="valid split has the input 'image'"):
            make(tmp_path, df.assign(file=[f"{i}.png" if i > 3 else None for i in range(12)]), valid=[1, 2])
