"""Why a folder keeps no more is said with what lies there, and who uses it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from easylearn.data import cache
from easylearn.data.cache import open_store
from easylearn.data.room import room_taken, why_full
from easylearn.errors import EasyLearnWarning
from easylearn.vision.decode import ItemStage
from easylearn.vision.store import image_keys, open_images, treatment

STAGE = ItemStage((8, 8), "squash")
HOLDER = """import sys; from pathlib import Path; from easylearn.data.cache import open_store
store = open_store(sys.argv[2], sys.argv[4:], int(sys.argv[3]), Path(sys.argv[1]))
[store.put(i, __import__("numpy").zeros(int(sys.argv[3]), "u1")) for i in range(len(store))]
print("open", flush=True); sys.stdin.read()"""


@contextmanager
def held_by_another(folder: Path, key: str, n_bytes: int, keys: list[str]) -> Iterator[None]:
    """While another process uses a store that it has filled."""
    args = [sys.executable, "-c", HOLDER, str(folder), key, str(n_bytes), *keys]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        yield


@pytest.mark.skipif(sys.platform == "win32", reason="there a file that is open cannot be removed anyhow")
def test_what_others_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store full of images that have changed, which another process uses, cannot begin anew."""
    old, new = ([np.full((9, 9, 3), k, np.uint8) for k in numbers] for numbers in (range(20), range(20, 40)))
    names, limit = [str(k) for k in range(20)], 25 * STAGE.max_bytes
    monkeypatch.setenv("EASYLEARN_CACHE_GB", str(limit / 1e9))
    with held_by_another(tmp_path, treatment(STAGE), STAGE.max_bytes, image_keys(old, names)):
        assert room_taken(tmp_path)[0] == room_taken(tmp_path)[1] > 0
        said = why_full(tmp_path, limit)
        assert "are used by other running processes and stay. End these, raise EASYLEARN_CACHE_GB" in said
        with pytest.warns(EasyLearnWarning, match="other running processes use fill it"):
            assert open_images(new, names, STAGE, tmp_path) is None
        assert open_images(old, names, STAGE, tmp_path) is not None, "theirs is whole"
        cache._HELD.clear()
    store = open_images(new, names, STAGE, tmp_path)
    assert store is not None and not store.filled.any() and room_taken(tmp_path)[1] == 0


def test_a_full_disk_and_a_folder_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gb = 10**9
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9 * gb, 6 * gb, 3 * gb))  # type: ignore[attr-defined]
    assert open_store("a", ["0" * 32], 1000, tmp_path) is not None
    said = why_full(tmp_path, 10 * gb)
    assert "GB lie there, 10 may, and the disk has 3 left, of which half may be taken. Free some space, raise" in said
    assert why_full(tmp_path / "absent", gb).startswith(
        "it cannot be written, or was deleted. Make it writable, or set"
    )
