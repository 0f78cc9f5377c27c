"""Where decoded images are kept: one store for each treatment, in which an image is found by what it is."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import Tensor

from ..data.cache import DEFAULT_LIMIT, ItemStore, content_key, open_store
from ..data.room import room_taken
from ..errors import DataError, EasyLearnWarning
from ..files import StrPath, cache_dir, cache_limit, digest, file_keys
from .decode import VERSION, AnyImage, ItemStage

Keys = Callable[[Sequence[StrPath]], list[str]]


def image_keys(sources: Sequence[AnyImage], ids: Sequence[str], of_files: Keys = file_keys) -> list[str]:
    """What each image is now: a file's identity, as `of_files` gives it, or the contents of what is in memory."""
    try:
        return item_keys(sources, of_files)
    except OSError as error:
        names = [name for name, s in zip(ids, sources, strict=True) if _is_file(s) and os.fspath(s) == error.filename]
        raise DataError(
            f"{', '.join(names) or error.filename} cannot be read: {error.strerror}. Was {error.filename} removed?"
        ) from error


def item_keys(sources: Sequence[AnyImage], of_files: Keys = file_keys) -> list[str]:
    """As `image_keys`; an `OSError` says that a file is gone."""
    files = iter(of_files([s for s in sources if _is_file(s)]))
    return [next(files) if _is_file(s) else _content(s) for s in sources]


def _content(source: AnyImage) -> str:
    """What an image in memory is."""
    if isinstance(source, bytes | bytearray | memoryview):
        return digest([bytes(source)])
    if isinstance(source, np.ndarray | Tensor):
        return content_key(source.detach().cpu().numpy() if isinstance(source, Tensor) else source)
    # What the numbers of a PIL image mean is said by its mode, its palette and, of transparency, its info.
    palette = source.getpalette() if source.mode == "P" else None
    return digest([content_key(np.asarray(source)), f"{source.mode} {palette} {source.info.get('transparency')!r}"])


def _is_file(source: AnyImage) -> bool:
    return isinstance(source, str | os.PathLike)


def treatment(stage: ItemStage) -> str:
    """Names everything that decides the pixels of an image at working size, but for the image."""
    return digest([str(VERSION), *_versions(), repr(stage)])


@functools.cache
def _versions() -> list[str]:
    return [f"{name} {version(name)}" for name in ("pillow", "torchvision", "torch")]


def open_images(
    sources: Sequence[AnyImage], ids: Sequence[str], stage: ItemStage, cache: bool | str | os.PathLike[str]
) -> ItemStore | None:
    """The store of some images as they are now; `cache` is False for none, True for the usual folder, or a folder.

    None where it is not wanted, not needed (arrays at working size) or not possible.
    """
    first = sources[0]
    if cache is False or (isinstance(first, np.ndarray) and first.shape[:2] == stage.working_size):
        return None
    folder = cache_dir() / "images" if cache is True else Path(cache)
    store = open_store(treatment(stage), image_keys(sources, ids), stage.max_bytes, folder)
    fits = len(sources) * stage.max_bytes <= cache_limit(DEFAULT_LIMIT)
    with suppress(OSError):
        if store is None and fits and room_taken(folder)[1]:
            warnings.warn(
                f"decoded images could not be kept in {folder}: stores that other running processes use fill it, and "
                "stay. Each image is decoded in every epoch until these end; or raise EASYLEARN_CACHE_GB, or set "
                "EASYLEARN_CACHE to another folder",
                EasyLearnWarning,
                stacklevel=2,
            )
    return store
