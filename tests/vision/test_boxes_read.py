"""Boxes out of tables, XML, JSON and masks; and what cannot be right."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.vision.boxes_data import BoxData, BoxSplit

ROWS = [
    ("a.png", 2, 3, 20, 30, "cat"), ("a.png", 30, 5, 60, 40, "dog"), ("b.png", 1, 1, 10, 10, "cat"),
    ("c.png", 5, 6, 7, 9, "dog"), ("d.png", 0, 0, 64, 48, "cat"), ("e.png", None, None, None, None, None),
]  # fmt: skip
COLUMNS = ["file", "xmin", "ymin", "xmax", "ymax", "label"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcde":
        Image.fromarray(np.full((48, 64, 3), 100, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def table(*more: tuple[Any, ...], rows: list[tuple[Any, ...]] = ROWS) -> pd.DataFrame:
    return pd.DataFrame([*rows, *more], columns=COLUMNS)


def read(folder: Path, df: pd.DataFrame, **how: Any) -> BoxData:
    given = {"size": (48, 64), "valid": [4], "workers": 0, "cache": False, **how}
    return BoxData.from_df(df, folder, **given)


def all_boxes(data: BoxData, split: Any = "train") -> dict[str, list[list[float]]]:
    one = data._split(split)
    assert one.targets is not None
    return {i: t[t[:, 4] >= 0].tolist() for i, t in zip(one.ids, one.targets, strict=True)}


EXPECTED = {
    "a.png": [[2.0, 3.0, 20.0, 30.0, 0.0], [30.0, 5.0, 60.0, 40.0, 1.0]], "b.png": [[1.0, 1.0, 10.0, 10.0, 0.0]],
    "c.png": [[5.0, 6.0, 7.0, 9.0, 1.0]], "d.png": [[0.0, 0.0, 64.0, 48.0, 0.0]],
}  # fmt: skip


def test_a_table(folder: Path) -> None:
    data = read(folder, table())
    assert all_boxes(data) == EXPECTED and data.classes == ("cat", "dog")
    assert all_boxes(data, "valid") == {"e.png": []}  # an image without boxes
    assert data.notes() == [] and "boxes, 2 classes" in repr(data) and "cat 3, dog 2" in repr(data)
    train = data.train
    assert isinstance(train, BoxSplit) and train.shapes == ((48, 64),) * 4


def test_a_csv_is_read_like_a_table(folder: Path) -> None:
    table().to_csv(folder / "boxes.csv", index=False)
    data = BoxData.from_csv(folder, size=(48, 64), valid=[4])
    assert all_boxes(data) == EXPECTED
    table(rows=ROWS[:4]).to_csv(folder / "train.csv", index=False)
    table(rows=ROWS[4:]).to_csv(folder / "valid.csv", index=False)
    data = BoxData.from_csv(folder, "train.csv", size=(48, 64), valid="valid.csv")
    assert list(all_boxes(data, "valid")) == ["d.png", "e.png"]


def test_other_columns_and_the_other_form(folder: Path) -> None:
    df = table(rows=ROWS[:5])
    df["w"], df["h"] = df.xmax - df.xmin, df.ymax - df.ymin
    renamed = df.rename(columns={"file": "image", "label": "kind"})
    how = {"file_col": "image", "label_col": "kind", "box_cols": ["xmin", "ymin", "w", "h"], "form": "size"}
    assert all_boxes(read(folder, renamed, valid=None, **how)) == EXPECTED
    assert read(folder, table(rows=ROWS[:5]), label_col=None, valid=None).classes == ("object",)


def test_splits_by_a_column(folder: Path) -> None:
    df = table().assign(part=["train", "train", "Training", "val", "test", "valid"])
    data = read(folder, df, split_col="part")
    assert [list(all_boxes(data, s)) for s in data.splits] == [["a.png", "b.png"], ["c.png", "e.png"], ["d.png"]]
    df.loc[1, "part"] = "test"
    with pytest.raises(DataError, match=r"row 1.*of the test split, and was of the train split"):
        read(folder, df, split_col="part")
    with pytest.raises(DataError, match=r"row 0.*'somewhere' is none of train, valid and test"):
        read(folder, df.assign(part="somewhere"), split_col="part")


def test_groups_stay_together_by_a_column(folder: Path) -> None:
    df = table(rows=ROWS[:5]).assign(patient=[1, 1, 1, 2, 2])
    data = read(folder, df, groups="patient", valid=0.5)
    assert {*all_boxes(data, "valid")} in ({"a.png", "b.png"}, {"c.png", "d.png"})


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("b.png", 1, 1, None, 10, "cat"), r"row 6.*'xmax' is missing.*without boxes"),
        (("b.png", 1, 1, 10, 10, None), r"row 6.*'label' is missing"),
        (("b.png", None, None, None, None, "cat"), r"row 6.*'xmin' is missing"),
        ((None, 1, 1, 10, 10, "cat"), r"row 6.*: the file name is missing"),
        (("z.png", 1, 1, 10, 10, "cat"), r"z\.png does not exist"),
        (("b.png", 1, 1, "wide", 10, "cat"), r"row 6.*'xmax' is 'wide', and not a number"),
        (("b.png", 1, 1, float("inf"), 10, "cat"), r"row 6.*'xmax' is inf"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_right(folder: Path, row: tuple[Any, ...], why: str) -> None:
    with pytest.raises(DataError, match=why):
        read(folder, table(row))


def test_a_missing_column(folder: Path) -> None:
    with pytest.raises(DataError, match=r"box_cols\[2\]='xmax' is not a column.*box_cols="):
        read(folder, table().drop(columns="xmax"))
    with pytest.raises(DataError, match="label_col='label' is not a column"):
        read(folder, table().drop(columns="label"))
    with pytest.raises(ArgumentError, match="file_col='file' is not a column"):
        read(folder, table().drop(columns="file"))


def test_a_class_that_only_valid_has_or_that_is_not_in_the_list(folder: Path) -> None:
    with pytest.raises(DataError, match=r"row 5 .*'bird'.*training images do not have.*valid split"):
        read(folder, table(("e.png", 1, 1, 9, 9, "bird"), rows=ROWS[:5]))
    with pytest.raises(DataError, match=r"row 1 .*'dog'.*classes given do not have"):
        read(folder, table(), classes=["cat", "dgo"])
    assert read(folder, table(), classes=["dog", "bird", "cat"]).classes == ("dog", "bird", "cat")


def test_boxes_without_an_area_are_left_out_and_told(folder: Path) -> None:
    with pytest.warns(EasyLearnWarning, match=r"1 box without an area left out.*row 6 .*5, 5, 5, 9"):
        data = read(folder, table(("b.png", 5, 5, 5, 9, "cat")))
    assert all_boxes(data) == EXPECTED and "without an area" in data.notes()[0]
    swapped = table(rows=ROWS[:5]).rename(columns={"xmin": "xmax", "xmax": "xmin"})
    with pytest.raises(DataError, match=r"of 5 boxes have no area.*corners"):
        read(folder, swapped, valid=None)


def test_boxes_that_came_before_are_left_out_and_told(folder: Path) -> None:
    again = ("./a.png", 2, 3, 20, 30, "cat")  # the same file, too
    with pytest.warns(EasyLearnWarning, match=r"1 box that came before left out, the first: row 6 .*a\.png"):
        data = read(folder, pd.DataFrame([*ROWS, again], columns=COLUMNS))
    assert all_boxes(data) == EXPECTED
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(folder, table(("a.png", 2, 3, 20, 30, "dog"), ("b.png", 2, 3, 20, 30, "cat")))  # others


def test_classes_that_look_the_same_are_told(folder: Path) -> None:
    with pytest.warns(EasyLearnWarning, match="'cat' and 'cat ' of the target 'label' differ only by blanks"):
        read(folder, table(("b.png", 20, 1, 30, 10, "cat ")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(folder, table(("b.png", 20, 1, 30, 10, "cat ")), classes=["cat", "cat ", "dog"])  # meant so


@pytest.mark.parametrize("label", ["", " "])
def test_a_label_of_blanks_is_missing(folder: Path, label: str) -> None:
    with pytest.raises(DataError, match=r"row 6 .*'label' is missing"):
        read(folder, table(("b.png", 20, 1, 30, 10, label)))


def test_boxes_outside_are_left_out_and_cut(folder: Path) -> None:
    with pytest.warns(EasyLearnWarning) as told:
        data = read(folder, table(("b.png", 70, 5, 90, 9, "cat"), ("c.png", 50, 40, 80, 60, "cat")))
    words = [str(w.message) for w in told]
    assert "1 box outside of the image left out, the first: row 6" in words[0] and "in 64 x 48" in words[0]
    assert "1 box reaching out of the image cut off, the first: row 7" in words[1]
    assert (
        all_boxes(data)["c.png"][1] == [50.0, 40.0, 64.0, 48.0, 0.0] and all_boxes(data)["b.png"] == EXPECTED["b.png"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(folder, table(("d.png", 0, 0, 64.9, 48, "cat")))  # a pixel too many is how some count
    far = table(rows=[(f, 100 + a, b, 100 + c, d, n) for f, a, b, c, d, n in ROWS[:5]])
    with pytest.raises(DataError, match=r"of \d boxes lie outside of their images"):
        read(folder, far, valid=None)


def test_corners_read_as_sizes_are_refused_and_boxes_over_the_edge_are_not(folder: Path) -> None:
    corners = table(rows=[(f"{'abcde'[k % 5]}.png", 30 - k, 20 - k, 60 - k, 40 - k, "cat") for k in range(12)])
    with pytest.raises(DataError, match=r"1\d of 12 boxes.*width and height, reach out.*form=\"corners\""):
        read(folder, corners, form="size", valid=None)
    assert read(folder, corners, valid=None).notes() == []
    with pytest.warns(EasyLearnWarning, match="reaching out"):  # too few to say so
        read(folder, corners[:9], form="size", valid=None)
    wide = corners.assign(xmax=20, ymax=60)  # a width and a height: all are cut off at the lower edge
    with pytest.warns(EasyLearnWarning, match="12 boxes reaching out"):
        read(folder, wide, form="size", valid=None)
    sizes = corners.assign(xmax=12, ymax=12)
    assert read(folder, sizes, form="size", valid=None).notes() == []


def test_fractions_are_refused(folder: Path) -> None:
    df = table(rows=ROWS[:5])
    df[COLUMNS[1:5]] = df[COLUMNS[1:5]] / 64.0
    with pytest.raises(DataError, match="fractions"):
        read(folder, df)


def test_no_boxes_at_all(folder: Path) -> None:
    with pytest.raises(DataError, match="no training image has a box"):
        read(folder, table(rows=[("a.png", *[None] * 5), ("b.png", *[None] * 5)]), valid=[1])


def test_missing_files_may_be_left_out(folder: Path) -> None:
    data = read(folder, table(("z.png", 1, 1, 10, 10, "cat")), on_error="skip")
    assert all_boxes(data) == EXPECTED and list(data.report()) == ["z.png"]


@pytest.mark.parametrize(
    "how",
    [
        {"form": "xywh"},
        {"exif": "yes"},
        {"box_cols": ["a", "b"]},
        {"box_cols": 4},
        {"classes": "cat"},
        {"method": "crop"},
    ],
)
def test_unknown_options(folder: Path, how: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(how))):
        read(folder, table(), **how)


class TestExif:
    @pytest.fixture
    def turned(self, folder: Path) -> Path:
        image = Image.fromarray(np.full((48, 64, 3), 100, np.uint8))
        exif = image.getexif()
        exif[0x0112] = 6  # to be turned clockwise: 48 wide and 64 high when it is looked at
        image.save(folder / "b.png", exif=exif)
        return folder

    def test_nobody_knows_which_way_boxes_are(self, turned: Path) -> None:
        with pytest.raises(DataError, match=r"b\.png is to be turned.*EXIF orientation 6.*exif="):
            read(turned, table())

    def test_boxes_of_what_is_shown_and_of_what_is_stored(self, turned: Path) -> None:
        assert all_boxes(read(turned, table(), exif="shown"))["b.png"] == EXPECTED["b.png"]
        stored = read(turned, table(), exif="stored")
        assert all_boxes(stored)["b.png"] == [[38.0, 1.0, 47.0, 10.0, 0.0]]
        assert isinstance(stored.train, BoxSplit) and stored.train.shapes[1] == (64, 48)

    def test_the_size_that_was_said_tells(self, turned: Path) -> None:
        for size, expected in (((64, 48), [1.0, 1.0, 10.0, 10.0]), ((48, 64), [38.0, 1.0, 47.0, 10.0])):
            write_coco(turned, sizes={"b.png": size})
            data = BoxData.from_coco(turned, "all.json", size=(48, 64), valid=[4])
            assert all_boxes(data)["b.png"][0][:4] == expected


def write_coco(folder: Path, sizes: dict[str, Any] | None = None, **more: Any) -> None:
    rows, sides = ROWS, ("height", "width")
    names = sorted({r[0] for r in rows})
    kinds = {"cat": 7, "dog": 3}
    given: dict[str, Any] = {
        "images": [
            {"id": 10 + k, "file_name": n, **dict(zip(sides, (sizes or {}).get(n, (48, 64)), strict=True))}
            for k, n in enumerate(names)
        ],
        "annotations": [
            {"id": k, "image_id": 10 + names.index(f), "category_id": kinds[c], "bbox": [a, b, x - a, y - b]}
            for k, (f, a, b, x, y, c) in enumerate(rows) if c
        ],
        "categories": [{"id": v, "name": n} for n, v in kinds.items()],
    }  # fmt: skip
    (folder / "all.json").write_text(json.dumps(given | more))


class TestCoco:
    def test_all(self, folder: Path) -> None:
        write_coco(folder)
        data = BoxData.from_coco(folder, "all.json", size=(48, 64), valid=[4])
        assert all_boxes(data) == EXPECTED and all_boxes(data, "valid") == {"e.png": []}

    def test_crowds_are_left_out_and_told(self, folder: Path) -> None:
        write_coco(folder)
        given = json.loads((folder / "all.json").read_text())
        given["annotations"][2]["iscrowd"] = 1
        (folder / "all.json").write_text(json.dumps(given))
        with pytest.warns(EasyLearnWarning, match="1 box around crowds left out, the first: all.json annotation 2"):
            data = BoxData.from_coco(folder, "all.json", size=(48, 64), valid=[4])
        assert all_boxes(data)["b.png"] == []
        assert all_boxes(BoxData.from_coco(folder, "all.json", size=48, valid=[4], crowds=True)) == EXPECTED

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"images": 3}, "must hold lists of images"),
            ({"categories": []}, "category 7, which the file does not list"),
            ({"images": []}, "image 10, which the file does not list"), ({"images": [{"id": 1}]}, "no 'file_name'"),
            ({"annotations": [{"image_id": 10, "category_id": 7, "bbox": [1, 2]}]}, r"bbox must be \[xmin"),
            ({"annotations": [{"image_id": 10, "category_id": 7, "bbox": [1, 2, "x", 4]}]}, "'bbox' is 'x'"),
            ({"annotations": [{"image_id": 10, "bbox": [1, 2, 3, 4]}]}, "no 'category_id'"),
        ],
    )  # fmt: skip
    def test_what_is_not_of_coco(self, folder: Path, more: dict[str, Any], why: str) -> None:
        write_coco(folder, **more)
        with pytest.raises(DataError, match=why):
            BoxData.from_coco(folder, "all.json", size=48)

    def test_files_that_are_none(self, folder: Path) -> None:
        with pytest.raises(DataError, match=r"all\.json does not exist; its folder holds"):
            BoxData.from_coco(folder, "all.json")
        for text in ("{", "[1]", "[" * 100_000):
            (folder / "all.json").write_text(text)
            with pytest.raises(DataError, match=r"all\.json"):
                BoxData.from_coco(folder, "all.json")

    def test_boxes_of_an_image_of_another_size(self, folder: Path) -> None:
        write_coco(folder, sizes={"a.png": (96, 128)})
        with pytest.raises(DataError, match=r"a\.png: its boxes were drawn on an image of 128 x 96, and the file"):
            BoxData.from_coco(folder, "all.json", size=48)


def write_voc(folder: Path, rows: list[tuple[Any, ...]] = ROWS) -> None:
    (folder / "Annotations").mkdir(exist_ok=True)
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for name in sorted({r[0] for r in rows}):
        objects = "".join(
            f"<object><name>{c}</name><difficult>{int(f == 'c.png')}</difficult><bndbox><xmin>{a + 1}</xmin>"
            f"<ymin>{b + 1}</ymin><xmax>{x}</xmax><ymax>{y}</ymax></bndbox></object>"
            for f, a, b, x, y, c in rows
            if f == name and c
        )
        size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"
        (folder / "Annotations" / name.replace(".png", ".xml")).write_text(text)


class TestVoc:
    def test_all(self, folder: Path) -> None:
        write_voc(folder)
        data = BoxData.from_voc(folder, (48, 64), images="", valid=[4], difficult=True)
        assert all_boxes(data) == EXPECTED and all_boxes(data, "valid") == {"e.png": []}
        with pytest.warns(EasyLearnWarning, match=r"1 box marked as difficult left out, the first: c\.xml object 1"):
            data = BoxData.from_voc(folder, (48, 64), images="", valid=[4])
        assert all_boxes(data)["c.png"] == []

    def test_lists(self, folder: Path) -> None:
        write_voc(folder)
        (folder / "ImageSets/Main/train.txt").write_text("a\nb\n")
        (folder / "ImageSets/Main/val.txt").write_text("d -1\n")
        data = BoxData.from_voc(folder, 48, images="", train="train", valid="val")
        assert (list(all_boxes(data)), list(all_boxes(data, "valid"))) == (["a.png", "b.png"], ["d.png"])
        (folder / "ImageSets/Main/val.txt").write_text("q\n")
        with pytest.raises(DataError, match=r"val\.txt names 'q', of which there is no XML"):
            BoxData.from_voc(folder, 48, images="", train="train", valid="val")
        with pytest.raises(DataError, match=r"test\.txt does not exist"):
            BoxData.from_voc(folder, 48, images="", train="train", valid="test")
        with pytest.raises(ArgumentError, match="train= must name one"):
            BoxData.from_voc(folder, 48, images="", valid="val")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("<annotation>", "is no XML"), ("<!DOCTYPE x><annotation/>", "declares entities"),
            ("<annotation><object><bndbox/></object></annotation>", "object 1: it has no name"),
            ("<annotation><object><name>cat</name></object></annotation>", "object 1: 'xmin' is None"),
        ],
    )  # fmt: skip
    def test_what_is_not_of_voc(self, folder: Path, text: str, why: str) -> None:
        write_voc(folder)
        (folder / "Annotations" / "b.xml").write_text(text)
        with pytest.raises(DataError, match=rf"b\.xml.*{why}"):
            BoxData.from_voc(folder, 48, images="")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
    def test_entities_in_any_encoding(self, folder: Path, encoding: str) -> None:
        write_voc(folder)
        text = '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>'
        (folder / "Annotations" / "b.xml").write_bytes(text.encode(encoding))
        with pytest.raises(DataError, match=r"b\.xml.*declares entities"):
            BoxData.from_voc(folder, 48, images="")

    def test_no_annotations(self, folder: Path) -> None:
        (folder / "Annotations").mkdir()
        with pytest.raises(DataError, match="no XML files below"):
            BoxData.from_voc(folder, 48, images="")


class TestMasks:
    @pytest.fixture
    def masks(self, tmp_path: Path) -> Path:
        for name in ("images", "masks"):
            (tmp_path / name).mkdir()
        for k in range(3):
            Image.fromarray(np.full((48, 64, 3), 100, np.uint8)).save(tmp_path / "images" / f"{k}.jpg")
            mask = np.zeros((48, 64), np.uint16)
            mask[2:9, 5:20], mask[30:40, 40 : 44 + k] = 1000, 7
            Image.fromarray(mask).save(tmp_path / "masks" / f"{k}.png")
        return tmp_path

    def test_a_box_around_each_number(self, masks: Path) -> None:
        data = BoxData.from_masks(masks, (48, 64), valid=[2])
        assert all_boxes(data)["images/1.jpg"] == [[40.0, 30.0, 45.0, 40.0, 0.0], [5.0, 2.0, 20.0, 9.0, 0.0]]
        kinds = BoxData.from_masks(masks, (48, 64), valid=[2], label=lambda v: "big" if v == 1000 else None)
        assert all_boxes(kinds)["images/1.jpg"] == [[5.0, 2.0, 20.0, 9.0, 0.0]] and kinds.classes == ("big",)

    def test_what_is_no_mask(self, masks: Path) -> None:
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(masks / "masks" / "1.png")
        with pytest.raises(DataError, match=r"1\.png has 3 dimensions"):
            BoxData.from_masks(masks, 48)
        (masks / "masks" / "1.png").unlink()
        with pytest.raises(DataError, match=r"1\.jpg has no mask in"):
            BoxData.from_masks(masks, 48)
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(masks / "masks" / "1.jpg")
        with pytest.raises(DataError, match=r"1\.jpg is a JPEG"):
            BoxData.from_masks(masks, 48)
        (masks / "masks" / "1.jpg").unlink()
        whole = (masks / "masks" / "0.png").read_bytes()
        eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\n"  # Pillow would run Ghostscript
        for data in (whole[:60], b"no image", eps):
            (masks / "masks" / "1.png").write_bytes(data)
            with pytest.raises(DataError, match=r"the mask .*1\.png cannot be read"):
                BoxData.from_masks(masks, 48)
        (masks / "masks" / "1.png").write_bytes(whole)
        with pytest.raises(DataError, match="more than 1,000 pixels"):
            BoxData.from_masks(masks, 48, max_pixels=1000)
        with pytest.raises(ArgumentError, match=r"label is .* got 3"):
            BoxData.from_masks(masks, 48, label=3)  # type: ignore[arg-type]

    def test_a_mask_of_another_size(self, masks: Path) -> None:
        Image.fromarray(np.ones((24, 32), np.uint8)).save(masks / "masks" / "1.png")
        with pytest.raises(DataError, match=r"drawn on an image of 32 x 24, and the file has 64 x 48"):
            BoxData.from_masks(masks, 48)


@pytest.mark.parametrize(
    ("boxes", "why"),
    [([[0, 0, 4, 4, 1]], "1 classes"), ([[0, 0, 0, 4, 0]], "with an area"), ([[0, 0, 4]], "rows of"), ("x", "rows of")],
)
def test_arrays_that_are_no_boxes(boxes: Any, why: str) -> None:
    x = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(DataError, match=rf"train\[0\].*{why}"):
        BoxData.from_arrays((x, [boxes] * 4), classes=["a"])
