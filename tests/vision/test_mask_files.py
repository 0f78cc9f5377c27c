"""Masks out of files: what their numbers mean, and all that is refused, each with the file and the value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from easylearn.errors import ArgumentError, DataError
from easylearn.losses import VOID
from easylearn.placement import Placement
from easylearn.vision.decode import ItemStage, shape_of
from easylearn.vision.mask_files import check_size, codes_of, fitted, read_masks

ARRAY = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def png(path: Path, array: Any, mode: str | None = None) -> str:
    image = Image.fromarray(np.asarray(array))
    if mode == "P":
        image.putpalette([c for k in range(256) for c in (k, 255 - k, 3)])
    image.save(path)
    return str(path)


@pytest.mark.parametrize(
    "codes",
    [
        ["road", "sky", "other"],
        {0: "road", 1: "sky", 2: "other"},
        {"road": 0, "sky": 1, "other": 2},
    ],
)
def test_codes_in_each_form(codes: Any, tmp_path: Path) -> None:
    found = codes_of(codes, None, False)
    assert found.names == ("road", "sky", "other") and found.values == (0, 1, 2)
    assert np.array_equal(found.read(png(tmp_path / "a.png", ARRAY), "a"), ARRAY)


@pytest.mark.parametrize(
    ("text", "name"), [("value,name\n0,NA\n1,sky\n2,other\n", "codes.csv"), ("NA\nsky\nother\n", "codes.txt")]
)
def test_codes_in_files(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert codes_of(name, None, False, tmp_path).names == ("NA", "sky", "other")  # a class may be called NA


@pytest.mark.parametrize("void", ["sky", 1, ["sky"], [1]])
def test_what_is_void_has_no_class(void: Any) -> None:
    found = codes_of(["road", "sky", "other"], void, False)
    assert found.names[0] == "road"
    assert found.read(ARRAY, "a").tolist()[0][1] == VOID


def test_several_numbers_may_be_one_class_and_numbers_without_a_name_void() -> None:
    found = codes_of({0: "road", 1: "car", 2: "car"}, 255, False)
    assert found.names == ("road", "car")
    assert found.read(np.array([[0, 1, 2, 255]]), "a").tolist() == [[0, 1, 1, VOID]]


def test_binary_masks(tmp_path: Path) -> None:
    found = codes_of(None, None, True)
    assert found.names == ("background", "object") and found.values == (0, 255)
    for array in (np.array([[0, 255]], np.uint8), np.array([[0, 1]], np.uint8), np.array([[False, True]])):
        assert found.read(array, "a").tolist() == [[0, 1]]
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    image.save(tmp_path / "one.png")
    assert found.read(str(tmp_path / "one.png"), "one").tolist() == [[0, 1]]
    assert codes_of(["no", "yes"], None, True).names == ("no", "yes")
    with pytest.raises(DataError, match=r"a\.png.*\(127\).*threshold"):
        found.read(np.array([[0, 127]], np.uint8), "a.png")


def test_colours_and_palettes(tmp_path: Path) -> None:
    colours = {(128, 64, 128): "road", (70, 130, 180): "sky", (0, 0, 0): "none"}
    found = codes_of(colours, "none", False)
    array = np.array([[[128, 64, 128], [70, 130, 180], [0, 0, 0]]], np.uint8)
    assert found.read(png(tmp_path / "c.png", array), "c").tolist() == [[0, 1, VOID]]
    with pytest.raises(DataError, match=r"c.*\(1, 2, 3\).*row 0, column 1"):
        found.read(np.array([[[128, 64, 128], [1, 2, 3]]], np.uint8), "c")
    numbers = codes_of(["a", "b", "c"], None, False)
    assert np.array_equal(numbers.read(png(tmp_path / "p.png", ARRAY, "P"), "p"), ARRAY)  # the numbers, not the colours
    grey = np.repeat(ARRAY[..., None], 3, 2)
    assert np.array_equal(numbers.read(png(tmp_path / "g.png", grey), "g"), ARRAY)


@pytest.mark.parametrize("mode", ["P", "L", "1", "LA"])
def test_colours_of_palettes_and_grey_ones_are_colours(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode)
    if mode == "P":
        image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
        image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "m.png")
    found = codes_of({(255, 255, 255): "thing", (0, 0, 0): "back"}, None, False)
    assert found.read(str(tmp_path / "m.png"), "m").tolist() == [[1, 0]]
    with pytest.raises(DataError, match=r"m: the mask has numbers.*codes=\{0: \"Road\"\}"):
        found.read(np.array([[0, 255]], np.uint8), "m")


def test_numbers_in_the_forms_that_tables_and_json_have() -> None:
    wanted = codes_of({0: "a", 1: "b", 7: "c"}, 9, False)
    for codes in ({0.0: "a", 1.0: "b", 7.0: "c"}, {"0": "a", "1": "b", "7": "c"}, {"a": 0, "b": 1, "c": np.float64(7)}):
        assert np.array_equal(codes_of(codes, np.array([9]), False).numbers, wanted.numbers)
    for void in (9.0, np.int64(9), [9.0], range(9, 10)):
        assert np.array_equal(codes_of({0: "a", 1: "b", 7: "c"}, void, False).numbers, wanted.numbers)
    for codes in ({0: "a", 1: None}, {0: "a", 1: " "}, ["a", float("nan")]):
        with pytest.raises(ArgumentError, match="the class of 1 has no name"):
            codes_of(codes, None, False)
    with pytest.raises(ArgumentError, match=r"from 0 to 255, got 0\.5"):
        codes_of({0.5: "a", 1: "b"}, None, False)


def test_colours_in_a_csv(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("name,r,g,b\nroad,128,64,128\nsky,70,130,180\n")
    found = codes_of("classes.csv", None, False, tmp_path)
    assert found.colours == {(128, 64, 128): 0, (70, 130, 180): 1} and found.values == ()


NUMBERS = codes_of(["a", "b", "c"], None, False)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[0, 1], [7, 7]], np.uint8), ["m.png", "2 pixels", r"\(7\)", "row 1, column 0", "void="]),
        (np.array([[0, 1000]], np.uint16), ["m.png", "1000", "instances"]),
        (np.array([[0, -1]], np.int32), ["m.png", "-1"]),
        (np.array([[0.0, 1.0]]), ["m.png", "whole numbers", "float64"]),
        (np.zeros((2, 2, 4), np.uint8), ["m.png", r"\(2, 2, 4\)"]),
        (np.zeros((0, 2), np.uint8), ["m.png", r"\(0, 2\)"]),
        (np.array([[[0, 1, 2]]], np.uint8), ["m.png", "colours", "codes="]),
    ],
)
def test_what_cannot_be_a_mask_is_refused(array: Any, words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        NUMBERS.read(array, "m.png")
    for word in words:
        assert error.match(word)


def test_files_that_cannot_be_masks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(ARRAY).save(tmp_path / "m.jpg")
    with pytest.raises(DataError, match=r"m\.jpg is a JPEG.*PNG"):
        NUMBERS.read(str(tmp_path / "m.jpg"), str(tmp_path / "m.jpg"))
    (tmp_path / "broken.png").write_bytes(Path(png(tmp_path / "a.png", ARRAY)).read_bytes()[:40])
    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        NUMBERS.read(str(tmp_path / "broken.png"), str(tmp_path / "broken.png"))
    with pytest.raises(DataError, match=r"gone\.png cannot be read"):
        NUMBERS.read(str(tmp_path / "gone.png"), str(tmp_path / "gone.png"))
    Image.fromarray(np.array([[0, 40000]], np.uint16)).save(tmp_path / "instances.png")
    with pytest.raises(DataError, match=r"40000.*instances"):
        NUMBERS.read(str(tmp_path / "instances.png"), "instances.png")


@pytest.mark.parametrize(
    ("codes", "void", "binary", "words"),
    [
        (None, None, False, "codes="),
        (["a", "b"], "c", False, "void='c'"),
        ({300: "a", 1: "b"}, None, False, "300"),
        ({(1, 2): "a", 1: "b"}, None, False, r"\(1, 2\)"),
        ({0: "a", "x": "b"}, None, False, "'x'"),
        (["a", "b", "c"], None, True, "binary"),
        (["a", "b"], "a", True, "binary"),
        (5, None, False, "codes=.*5"),
        (5, None, True, "codes=.*5"),
        ({"a": ("x", "y", "z"), "b": (1, 2, 3)}, None, False, "'x'"),
    ],
)
def test_codes_that_mean_nothing_are_refused(codes: Any, void: Any, binary: bool, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        codes_of(codes, void, binary)


def test_a_file_of_codes_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "codes.csv").write_text("id,label\n0,road\n")
    with pytest.raises(DataError, match=r"codes\.csv.*value and name.*label"):
        codes_of("codes.csv", None, False, tmp_path)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("value,name\nabc,road\n1,sky\n", "codes.csv", r"row 0.*value.*'abc'"),
        ("value,name\n0,road\n,sky\n", "codes.csv", r"row 1.*value.*nan"),
        ("r,g,b,name\n1,2,3,road\n1,2,3.5,sky\n", "codes.csv", r"row 1.*b is.*3\.5"),
        (None, "codes.txt", r"codes\.txt cannot be read"),
    ],
)
def test_a_file_of_codes_with_something_else_in_it_is_refused(
    text: str | None, name: str, words: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        codes_of(name, None, False, tmp_path)


def test_lines_of_a_text_that_are_empty_keep_their_number(tmp_path: Path) -> None:
    (tmp_path / "codes.txt").write_text("road\n  \nsky\n")
    found = codes_of("codes.txt", None, False, tmp_path)
    assert found.names == ("road", "sky") and found.values == (0, 2)


@pytest.mark.parametrize("void", [(9, 9, 9), [(9, 9, 9)]])
def test_a_colour_may_be_void(void: Any) -> None:
    found = codes_of({(0, 0, 0): "road", (1, 2, 3): "sky", (9, 9, 9): "edge"}, void, False)
    array = np.array([[[0, 0, 0], [1, 2, 3], [9, 9, 9]]], np.uint8)
    assert found.names == ("road", "sky") and found.read(array, "a").tolist() == [[0, 1, VOID]]


def test_only_usual_formats_are_opened(tmp_path: Path) -> None:
    Image.fromarray(ARRAY).save(tmp_path / "m.png", format="PCX")  # of Pillow's other formats some start programs
    with pytest.raises(DataError, match=r"m\.png cannot be read"):
        NUMBERS.read(str(tmp_path / "m.png"), str(tmp_path / "m.png"))
    with pytest.raises(DataError, match=r"m\.png cannot be read"):
        shape_of(str(tmp_path / "m.png"))


def test_masks_lie_where_their_images_lie() -> None:
    stage = ItemStage((8, 8), "pad")
    place = stage.place(4, 16)
    assert place == Placement((4, 16), (8, 8), 3, 0, (2, 8))
    mask = np.repeat(np.repeat(np.array([[0, 1]], np.uint8), 4, 0), 8, 1)
    out = fitted(mask, place)
    assert (out[:3] == VOID).all() and (out[5:] == VOID).all()
    assert out[3].tolist() == [0] * 4 + [1] * 4
    assert np.array_equal(fitted(mask, ItemStage((4, 16), "squash").place(4, 16)), mask)
    # the image in the same frame: bright where the mask says 1
    image = stage.load(mask * 255)
    assert (image[0, 3, :3] < 60).all() and (image[0, 3, 5:] > 190).all()


def test_sizes_that_differ_and_turned_images_are_refused(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), np.uint8)
    check_size(mask, np.zeros((4, 6, 3), np.uint8), "m.png")
    with pytest.raises(DataError, match=r"m\.png.*4 x 6.*8 x 6"):
        check_size(mask, np.zeros((8, 6, 3), np.uint8), "m.png")
    exif = Image.Exif()
    for orientation, words in ((6, "EXIF"), (3, "upside down")):
        exif[0x0112] = orientation
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / f"{orientation}.jpg", exif=exif)
        with pytest.raises(DataError, match=words):
            check_size(mask, str(tmp_path / f"{orientation}.jpg"), "m.png")
    check_size(mask.T, str(tmp_path / "6.jpg"), "m.png")  # drawn on the image as it is looked at
    exif[0x0112] = 6  # nothing tells whether the mask of a square image was turned
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "square.jpg", exif=exif)
    with pytest.raises(DataError, match="EXIF"):
        check_size(mask[:, :4], str(tmp_path / "square.jpg"), "m.png")


def test_many_are_read_in_order() -> None:
    pairs = [(np.zeros((4, 4, 3), np.uint8), np.full((4, 4), k % 3, np.uint8)) for k in range(9)]
    masks = read_masks(NUMBERS, pairs, [f"m{k}" for k in range(9)], ItemStage((2, 2), "squash").place)
    assert masks[:, 0, 0].tolist() == [k % 3 for k in range(9)] and masks.dtype == torch.uint8
