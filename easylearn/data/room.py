"""Why nothing more could be kept in a folder of stores, in words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .cache import bytes_of, files_of
from .claims import claims_in, use_of


def room_taken(folder: Path) -> tuple[int, int]:
    """Bytes of the stores in a folder, and of those that other running processes use, which nobody removes."""
    taken = {of[0][0].name: sum(bytes_of(info) for _, info in of) for of in files_of(folder).values()}
    theirs = [n for index, n in taken.items() if claims_in(folder).is_used(use_of(index))]
    return sum(taken.values()), sum(theirs)


def why_full(folder: Path, limit: int) -> str:
    """Why a folder, whose stores may take `limit` bytes, keeps no more, and what to do: the end of a sentence."""
    elsewhere = "set the environment variable EASYLEARN_CACHE to another folder"
    try:
        (taken, theirs), free = room_taken(folder), shutil.disk_usage(folder).free
    except OSError:
        return f"it cannot be written, or was deleted. Make it writable, or {elsewhere}"
    if not os.access(folder, os.W_OK):
        return f"it cannot be written. Make it writable, or {elsewhere}"
    full = f"{taken / 1e9:.3g} GB lie there, {limit / 1e9:.3g} may, and the disk has {free / 1e9:.3g} left"
    if theirs:
        full += f"; {theirs / 1e9:.3g} GB are used by other running processes and stay. End these"
    else:
        full += ", of which half may be taken. Free some space"
    return f"{full}, raise EASYLEARN_CACHE_GB if that is the limit, or {elsewhere}"
