"""Folders of images: which files they hold, and how these are called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..data.places import copied, is_elsewhere
from ..errors import DataError
from ..files import StrPath, as_path
from .decode import IMAGE_SUFFIXES


def existing_folder(path: StrPath, expected: str) -> Path:
    """The folder, or an error that says what it should have held."""
    folder = copied(path) if is_elsewhere(path) else as_path(path, "a folder")
    if not folder.exists():
        near = folder.parent
        found = f"{near} holds {listing(near)}" if near.is_dir() else f"{near} does not exist either"
        raise DataError(f"the folder {folder} does not exist ({found}). Expected {expected}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder. Expected {expected}")
    return folder


def list_files(folder: Path) -> list[str]:
    """Every file below `folder`, as sorted posix paths relative to it; hidden files are left out.

    A link to a file that is gone is listed: whoever reads it then says so.
    """
    # Links may lead round in a circle: each real folder is entered once, and none that holds `folder` itself.
    seen = {identity(place) for place in folder.resolve().parents}
    return sorted(_below(folder, "", seen))


def _below(place: Path, base: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    if identity(place) in seen:
        return
    seen.add(identity(place))
    with os.scandir(place) as entries:
        for entry in sorted(entries, key=lambda e: (e.is_symlink(), e.name)):  # links last: what is there counts first
            if entry.is_dir() and is_visible(entry.name):
                yield from _below(place / entry.name, f"{base}{entry.name}/", seen)
            elif is_visible(entry.name) and (entry.is_file() or is_dead_link(entry.path)):
                yield base + entry.name


def is_dead_link(path: StrPath) -> bool:
    """Whether it is a link to what is not there."""
    return os.path.islink(path) and not os.path.exists(path)


def identity(folder: Path) -> tuple[int, int]:
    """What is equal for two names of one folder, and for no others."""
    info = folder.stat()
    return info.st_dev, info.st_ino


def is_image(name: str) -> bool:
    """Whether a file's ending is one that images have."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_images(folder: Path) -> list[str]:
    """Every image file below `folder`; see `list_files`."""
    return [name for name in list_files(folder) if is_image(name)]


def is_visible(name: str) -> bool:
    """False for hidden files, and for what macOS puts into archives."""
    return not name.startswith(".") and name != "__MACOSX"


def listing(folder: Path) -> str:
    """What a folder holds, in a few words."""
    folders = sorted(f.name + "/" for f in folder.iterdir() if f.is_dir() and is_visible(f.name))
    files = sorted(f.name for f in folder.iterdir() if not f.is_dir() and is_visible(f.name))
    shown = folders[:8] + files[:3]
    rest = len(folders) + len(files) - len(shown)
    return printable(", ".join(shown)) + (f" and {rest} more" if rest else "") if shown else "nothing"


def relative(file: Path, root: Path) -> str:
    """A file's id: its posix path relative to `root`, or its whole path if it lies elsewhere."""
    clean, base = Path(os.path.normpath(file)), Path(os.path.normpath(root))
    return printable(clean.relative_to(base).as_posix() if clean.is_relative_to(base) else clean.as_posix())


def printable(name: str) -> str:
    r"""A file's name as text that can be printed and written: bytes that are no UTF-8 as \xNN.

    >>> print(printable("caf\udce9.jpg"))
    caf\xe9.jpg
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name
