"""Folders: what they hold, links that lead round in a circle, names that are no text."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from easylearn.errors import DataError
from easylearn.vision.folders import existing_folder, is_image, list_files, list_images, listing, printable, relative

links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_sorted_to_any_depth_without_hidden_files(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/2.PNG", "a/deep/er/1.webp", "a/10.png", ".git/x.jpg", "__MACOSX/._b.jpg", "notes.txt")
    assert list_files(tmp_path) == ["a/10.png", "a/2.PNG", "a/deep/er/1.webp", "b.jpg", "notes.txt"]
    assert list_images(tmp_path) == ["a/10.png", "a/2.PNG", "a/deep/er/1.webp", "b.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.avif", "a.tga", "a.webp", "a.b.tiff"])
def test_endings_of_images(name: str) -> None:
    assert is_image(name) and not is_image(name + ".txt") and not is_image(name.split(".")[0])


@links
def test_each_real_folder_is_entered_once(tmp_path: Path) -> None:
    touch(tmp_path, "train/cats/1.jpg", "train/cats/more/2.jpg", "valid/cats/3.jpg", "elsewhere/4.jpg")
    cats = tmp_path / "train" / "cats"
    for name, to in (
        ("self", cats), ("up", tmp_path), ("twice", cats / "more"), ("out", tmp_path / "elsewhere"),
        ("again", tmp_path / "elsewhere"),
    ):  # fmt: skip
        (cats / name).symlink_to(to, target_is_directory=True)
    (cats / "more" / "round").symlink_to(cats, target_is_directory=True)
    (cats / "file.jpg").symlink_to(tmp_path / "elsewhere" / "4.jpg")
    (cats / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    # A link to a file that is gone stays in the list, so that its loss is told by whoever reads it.
    assert list_images(cats) == ["1.jpg", "again/4.jpg", "broken.jpg", "file.jpg", "more/2.jpg"]


@links
def test_a_folder_that_is_a_link_itself(tmp_path: Path) -> None:
    touch(tmp_path, "real/a/1.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert list_images(tmp_path / "link") == ["a/1.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    touch(tmp_path, name)
    (found,) = list_images(tmp_path)
    assert (tmp_path / found).is_file() and printable(found) == r"caf\xe9.jpg" == relative(tmp_path / found, tmp_path)
    assert listing(tmp_path).encode() and printable("café.jpg") == "café.jpg"


def test_ids_are_relative_where_they_can_be(tmp_path: Path) -> None:
    assert relative(tmp_path / "a" / ".." / "b.jpg", tmp_path) == "b.jpg"
    assert relative(Path("/elsewhere/b.jpg"), tmp_path) == "/elsewhere/b.jpg"


def test_a_folder_that_is_not_there_is_missed_in_words(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "2.jpg")
    with pytest.raises(DataError, match=r"nowhere does not exist .* holds a/, 2\.jpg.*Expected images"):
        existing_folder(tmp_path / "nowhere", "images")
    with pytest.raises(DataError, match="does not exist either"):
        existing_folder(tmp_path / "no" / "where", "images")
    with pytest.raises(DataError, match="is a file"):
        existing_folder(tmp_path / "2.jpg", "images")
