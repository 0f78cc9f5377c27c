"""The store of decoded pictures: whole or not there, shared between processes, never in the way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easylearn.data import cache
from easylearn.data.cache import ByteStore, file_bytes, open_store
from easylearn.errors import ArgumentError


def picture(k: int, shape: tuple[int, int, int] = (3, 20, 30)) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, shape, dtype=np.uint8)


def fill(store: ByteStore, slots: range) -> None:
    for k in slots:
        assert store.put(k, picture(k))


def opened(key: str, folder: Path, n: int = 6, limit: int | None = None) -> ByteStore:
    store = open_store(key, n, 3 * 20 * 30, folder, limit)
    assert store is not None
    return store


def test_what_is_put_comes_back(tmp_path: Path) -> None:
    store = opened("a", tmp_path, 3)
    assert store.get(0) is None and not store.complete
    shapes = [(3, 20, 30), (3, 10, 30), (1, 7, 5)]
    for k, shape in enumerate(shapes):
        assert store.put(k, picture(k, shape))
    for k, shape in enumerate(shapes):
        got = store.get(k)
        assert got is not None and np.array_equal(got, picture(k, shape)) and not got.flags.writeable
    assert store.filled.tolist() == [1, 1, 1] and store.complete


def test_nothing_is_public_until_all_is_there(tmp_path: Path) -> None:
    store = opened("a", tmp_path)
    fill(store, range(5))
    assert not store.publish()
    assert opened("a", tmp_path).get(0) is None, "another process must not see half a store"
    fill(store, range(5, 6))
    assert store.publish() and store.publish()
    again = opened("a", tmp_path)
    assert again.complete and np.array_equal(again.get(5), picture(5))  # type: ignore[arg-type]
    assert not again.put(0, picture(1)), "a finished store is read-only"
    assert np.array_equal(store.get(0), picture(0))  # type: ignore[arg-type]


def test_key_and_shape_decide(tmp_path: Path) -> None:
    store = opened("a", tmp_path)
    fill(store, range(6))
    store.publish()
    assert not opened("b", tmp_path).complete
    assert not opened("a", tmp_path, n=7).complete


def test_an_unfinished_store_leaves_nothing_behind(tmp_path: Path) -> None:
    store = opened("a", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    del store
    assert not list(tmp_path.iterdir())


def _work(store: ByteStore, slots: range) -> None:
    fill(store, slots)
    os._exit(0 if store.get(slots[0]) is not None else 1)


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_workers_fill_it(tmp_path: Path, method: str) -> None:
    store = opened("a", tmp_path)
    context = multiprocessing.get_context(method)
    if method == "fork":
        workers = [context.Process(target=_work, args=(store, slots)) for slots in (range(3), range(3, 6))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
    else:  # what a spawned worker does with the store: it gets a pickled one
        fill(pickle.loads(pickle.dumps(store)), range(6))
    assert store.complete and store.publish()
    assert all(np.array_equal(store.get(k), picture(k)) for k in range(6))  # type: ignore[arg-type]


def test_pickled_before_and_opened_after_publishing(tmp_path: Path) -> None:
    store = opened("a", tmp_path)
    sent = pickle.dumps(store)
    fill(store, range(6))
    store.publish()
    assert pickle.loads(sent).complete


def test_a_deleted_folder_is_no_error(tmp_path: Path) -> None:
    store = opened("a", tmp_path / "x")
    fill(store, range(3))
    sent = pickle.dumps(store)
    shutil.rmtree(tmp_path / "x")
    fill(store, range(3, 6))
    assert store.publish() and np.array_equal(store.get(0), picture(0))  # type: ignore[arg-type]
    gone = pickle.loads(sent)
    assert gone.get(0) is None and not gone.put(0, picture(0)) and not gone.complete and not gone.publish()


def test_a_damaged_file_is_built_again(tmp_path: Path) -> None:
    store = opened("a", tmp_path)
    fill(store, range(6))
    store.publish()
    store.final.write_bytes(store.final.read_bytes()[:100])
    assert not opened("a", tmp_path).complete


def test_too_large_an_array_is_not_kept(tmp_path: Path) -> None:
    store = opened("a", tmp_path)
    assert not store.put(0, picture(0, (3, 200, 300)))
    assert store.get(0) is None


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened("a", tmp_path)
    fill(store, range(2))

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "pwrite", full, raising=False)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert not store.put(2, picture(2))
    assert store.get(2) is None and np.array_equal(store.get(1), picture(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_threads_fill_one_store(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 200
    store = opened("a", tmp_path, n)
    monkeypatch.setattr(cache.sys, "platform", platform)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(store.put, range(n), map(picture, range(n))))
    assert store.complete
    assert all(np.array_equal(store.get(k), picture(k)) for k in range(n))  # type: ignore[arg-type]


def test_a_disk_that_fills_up_under_threads_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened("a", tmp_path, 40)
    write, written = os.pwrite, 0

    def filling(*args: Any) -> int:
        nonlocal written
        written += 1
        time.sleep(0.001)  # so that the threads meet
        if written > 50:
            raise OSError(28, "No space left on device")
        return write(*args)

    monkeypatch.setattr(cache.os, "pwrite", filling, raising=False)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(store.put, range(40), map(picture, range(40))))
    assert took.count(True) == 16, "three writes a picture"
    held = [(k, store.get(k)) for k in range(40)]
    assert all(np.array_equal(pixels, picture(k)) for k, pixels in held if pixels is not None)


def test_limit_and_least_recently_used(tmp_path: Path) -> None:
    size = file_bytes(6, 1800)
    for age, key in enumerate(["old", "middle", "new"]):
        store = opened(key, tmp_path)
        fill(store, range(6))
        store.publish()
        os.utime(store.final, (1000 + age, 1000 + age))
    assert opened("old", tmp_path, limit=10 * size).complete  # used now
    opened("another", tmp_path, limit=3 * size)
    assert not (opened("middle", tmp_path).complete), "the least recently used store makes room"
    assert opened("old", tmp_path).complete and opened("new", tmp_path).complete
    assert open_store("big", 6, 1800, tmp_path, limit_bytes=size - 1) is None
    assert opened("old", tmp_path).complete, "what can never fit throws nothing out"


def test_abandoned_files_are_removed(tmp_path: Path) -> None:
    host = cache.socket.gethostname()
    dead = multiprocessing.Process(target=time.time)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: None)
        dead.start()
    dead.join()
    names = {
        f"k.{host}.{dead.pid}.00{cache._PART}": False,
        f"k.{host}.{os.getpid()}.00{cache._PART}": True,
        f"k.elsewhere.org.{dead.pid}.00{cache._PART}": True,
        f"old.elsewhere.org.1.00{cache._PART}": False,
        "mine.txt": True,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    long_ago = time.time() - 3 * 86400
    os.utime(tmp_path / f"old.elsewhere.org.1.00{cache._PART}", (long_ago, long_ago))
    opened("a", tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert open_store("a", 3, 100, tmp_path / "file") is None
    assert open_store("a", 3, 100, tmp_path / "file" / "below") is None


def test_the_usual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
    store = open_store("a", 3, 100)
    assert store is not None and store.path.parent == tmp_path / "images"


def test_unused_room_takes_no_disk(tmp_path: Path) -> None:
    store = open_store("a", 50, 10**6, tmp_path)
    assert store is not None
    for k in range(50):
        store.put(k, picture(k))
    assert cache._taken(store.path) < 50 * 30_000


def test_wrong_arguments(tmp_path: Path) -> None:
    for n, slot_bytes in ((0, 10), (10, 0)):
        with pytest.raises(ArgumentError, match="at least one slot"):
            open_store("a", n, slot_bytes, tmp_path)
