"""The store of items: each made once by whoever wants it, whole or not there, found by what it is, never in the way."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easylearn.data import cache
from easylearn.data.cache import ItemStore, content_key, open_store
from easylearn.errors import ArgumentError, EasyLearnWarning
from easylearn.files import digest, mapped_copy

SHAPE = (3, 20, 30)
BYTES = 3 * 20 * 30
N = 40
FORK = "fork" in multiprocessing.get_all_start_methods()
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def image(k: int, shape: tuple[int, ...] = SHAPE, dtype: str = "u1") -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, shape).astype(dtype)


def key(k: int) -> str:
    return digest([f"item {k}"])


def opened(folder: Path, items: Iterable[int] = range(6), treatment: str = "a", **options: Any) -> ItemStore:
    options = {"slot_bytes": BYTES} | options
    store = open_store(treatment, [key(k) for k in items], folder=folder, **options)
    assert store is not None
    return store


def fill(store: ItemStore, items: Iterable[int]) -> None:
    for i, k in enumerate(items):
        assert store.put(i, image(k))


def holds(store: ItemStore, i: int, k: int) -> bool:
    """Whether item i is image k; False if it is not there. Anything else is the worst that can happen."""
    got = store.get(i)
    assert got is None or np.array_equal(got, image(k))
    return got is not None


def fetched(
    store: ItemStore, i: int, make: Callable[[], np.ndarray], key_now: Callable[[], str], wait: bool = True
) -> np.ndarray | None:
    (got,) = store.fetch([i], lambda _: [make()], lambda _: [key_now()], wait)
    return got


def index(folder: Path) -> Path:
    (file,) = folder.glob("*.items")
    return file


def contents(folder: Path) -> Path:
    (file,) = folder.glob("*.slots")
    return file


# -- what goes in and what comes out -------------------------------------------------------------------


def test_what_is_put_comes_back(tmp_path: Path) -> None:
    store = opened(tmp_path, range(5))
    kinds = [((3, 20, 30), "u1"), ((3, 10, 30), "u1"), ((1, 7, 5), "u1"), ((450,), "<f4"), ((0, 4), "<f8")]
    for i, (shape, dtype) in enumerate(kinds):
        assert store.get(i) is None and store.filled.sum() == i
        assert store.put(i, image(i, shape, dtype))
    for s in (store, opened(tmp_path, range(5)), pickle.loads(pickle.dumps(store))):
        for i, (shape, dtype) in enumerate(kinds):
            got = s.get(i)
            assert got is not None and got.dtype == dtype and np.array_equal(got, image(i, shape, dtype))
            assert not got.flags.writeable
        assert s.filled.all() and len(s) == 5 and s.key(3) == key(3)


def test_an_item_is_found_wherever_it_stands(tmp_path: Path) -> None:
    """Splits, folds and subsets are positions into one store."""
    fill(opened(tmp_path, range(6)), range(6))
    for items in ([5, 2], [3], [0, 5, 0, 5], [9, 4, 8]):
        store = opened(tmp_path, items)
        assert [holds(store, i, k) for i, k in enumerate(items)] == [k < 6 for k in items]
    assert len(list(tmp_path.glob("*.items"))) == len(list(tmp_path.glob("*.slots"))) == 1
    assert contents(tmp_path).stat().st_size == 8 * BYTES, "items that were there got no second slot"


def test_treatment_and_size_decide(tmp_path: Path) -> None:
    fill(opened(tmp_path), range(6))
    assert not opened(tmp_path, treatment="b").filled.any()
    assert not opened(tmp_path, slot_bytes=BYTES + 1).filled.any()
    assert opened(tmp_path).filled.all()


def test_the_size_of_a_store_that_is_there(tmp_path: Path) -> None:
    assert open_store("a", [key(1)], None, tmp_path) is None and not list(tmp_path.iterdir())
    opened(tmp_path, [1, 2], slot_bytes=8)
    fill(opened(tmp_path, [3, 4]), [3, 4])
    store = opened(tmp_path, [5, 3], slot_bytes=None)
    assert store.slot_bytes == BYTES and holds(store, 1, 3) and not holds(store, 0, 5)
    assert opened(tmp_path, [2, 9], slot_bytes=None).slot_bytes == 8
    assert open_store("a", [key(77)], None, tmp_path) is None


def test_who_opened_before_it_grew_goes_on(tmp_path: Path) -> None:
    early = opened(tmp_path, range(3))
    late = opened(tmp_path, range(8))
    fill(early, range(3))
    assert [holds(late, k, k) for k in range(8)] == [True] * 3 + [False] * 5
    fill(late, range(8))
    assert all(holds(early, k, k) for k in range(3))


class Model:
    """The same as a store, as it is easily understood."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: dict[int, np.ndarray] = {}
        self.views: list[tuple[list[int], ItemStore]] = []

    def open(self, items: list[int]) -> None:
        self.views.append((items, opened(self.folder, items)))

    def put(self, view: int, i: int, shape: tuple[int, ...]) -> None:
        items, store = self.views[view % len(self.views)]
        k = items[i % len(items)]
        array = image(k, shape)
        assert store.put(i % len(items), array)
        self.held.setdefault(k, array)

    def check(self) -> None:
        for items, store in self.views:
            assert store.filled.tolist() == store.sound().tolist() == [k in self.held for k in items]
            for i, k in enumerate(items):
                got = store.get(i)
                assert (got is None) == (k not in self.held) and (got is None or np.array_equal(got, self.held[k]))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("open"), st.lists(st.integers(0, 12), min_size=1, max_size=9)),
            st.tuples(
                st.just("put"),
                st.integers(0, 99),
                st.integers(0, 99),
                st.sampled_from([(), (7,), (1, 9, 9), (3, 20, 30), (450, 4)]),
            ),
            st.just(("reopen",)),
        ),
        max_size=25,
    )
)
def test_any_use_of_it(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]) -> None:
    model = Model(tmp_path_factory.mktemp("store"))
    model.open([0])
    for what, *given_ in steps:
        if what == "reopen":
            model.views = [(items, pickle.loads(pickle.dumps(store))) for items, store in model.views]
        else:
            getattr(model, what)(*given_)
    model.check()


# -- rows ----------------------------------------------------------------------------------------------


def test_rows_of_floats_are_one_table(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 5, 3)).astype(np.float32)
    store = opened(tmp_path, range(6), slot_bytes=rows[0].nbytes)
    assert store.table() is None
    assert all(store.put(i, rows[i]) for i in (0, 1, 2, 5, 3))
    assert store.table() is None and store.sound().tolist() == [True] * 4 + [False, True]
    assert store.put(4, rows[4])
    other = opened(tmp_path, [8, 4, 0, 8], slot_bytes=None)
    assert other.put(0, rows[8])
    table = other.table()
    assert table is not None and table.shape == (8 - 1, 5, 3) and np.array_equal(table[other.slots], rows[[8, 4, 0, 8]])
    table += 1
    again = opened(tmp_path, range(6), slot_bytes=None).table()
    assert again is not None and np.array_equal(again[:6], rows[:6]), "what is done to a table does not reach the file"


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory there is")
def test_more_is_mapped_than_memory_holds(tmp_path: Path) -> None:
    size = 4 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with open(tmp_path / "file", "w+b") as file:
        file.truncate(size)  # a hole
        mapped = mapped_copy(file.fileno(), size)
        mapped[size - 1] = 7
        file.seek(size - 1)
        assert mapped[size - 1] == 7 and file.read() == b"\0", "what is done to it does not reach the file"


def test_items_of_different_shapes_are_no_table(tmp_path: Path) -> None:
    store = opened(tmp_path, range(2), slot_bytes=16)
    assert store.put(0, np.zeros((4,), np.float32)) and store.put(1, np.zeros((2,), np.float32))
    assert store.sound().all()
    assert opened(tmp_path, range(2), slot_bytes=None).sound().all()
    assert opened(tmp_path, [1], slot_bytes=None).table() is None


# -- several at once -----------------------------------------------------------------------------------

_MAKER = """
import os, random, sys, time
from pathlib import Path
import numpy as np
from easylearn.data.cache import open_store
from easylearn.files import digest

folder, log, seed, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
keys = [digest([f"item {k}"]) for k in range(n)]

def make(k):
    with open(log, "a") as file:
        file.write(f"{k}\\n")
    time.sleep(0.002)
    return np.random.default_rng(k).integers(0, 256, (3, 20, 30)).astype("u1")

order = random.Random(seed).sample(range(n), n)
store = open_store("a", [keys[k] for k in order], 1800, folder)
for i, k in enumerate(order):
    got = store.fetch([i], lambda _: [make(k)], lambda _: [keys[k]])[0]
    assert np.array_equal(got, np.random.default_rng(k).integers(0, 256, (3, 20, 30)).astype("u1")), k
"""


def made(log: Path) -> Counter[int]:
    return Counter(int(line) for line in log.read_text().split())


@pytest.mark.parametrize("method", ["spawn", *(["fork"] if FORK else [])])
def test_processes_fill_it_together_and_make_nothing_twice(tmp_path: Path, method: str) -> None:
    log = tmp_path / "log"
    arguments = [[str(tmp_path / "store"), str(log), str(seed), str(N)] for seed in (1, 1, 2)]
    if method == "spawn":
        path = os.pathsep.join(p for p in sys.path if p)
        command = [sys.executable, "-c", _MAKER]
        children = [subprocess.Popen([*command, *a], env={**os.environ, "PYTHONPATH": path}) for a in arguments]
        assert [child.wait(120) for child in children] == [0, 0, 0]
    else:

        def work(given_: list[str]) -> None:
            sys.argv = ["", *given_]
            exec(_MAKER, {})

        forked = [multiprocessing.get_context("fork").Process(target=work, args=(a,)) for a in arguments]
        for child in forked:
            child.start()
        for child in forked:
            child.join(120)
            assert child.exitcode == 0
    assert made(log) == Counter(range(N))
    assert all(holds(opened(tmp_path / "store", range(N)), k, k) for k in range(N))


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_threads_fill_it_together_and_make_nothing_twice(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [opened(tmp_path, range(N)), opened(tmp_path, range(N))]  # as of two folds that are trained side by side
    monkeypatch.setattr(cache.sys, "platform", platform)
    if platform == "win32":
        monkeypatch.setattr("easylearn.data.claims._lock", lambda *_, **__: True)
    count: Counter[int] = Counter()

    def make(k: int) -> np.ndarray:
        count[k] += 1
        time.sleep(0.001)
        return image(k)

    def work(seed: int) -> bool:
        store = stores[seed % 2]
        order = random.Random(seed).sample(range(N), N)
        got = [fetched(store, k, lambda k=k: make(k), lambda k=k: key(k)) for k in order]  # type: ignore[misc]
        return all(g is not None and np.array_equal(g, image(k)) for g, k in zip(got, order, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert count == Counter(range(N))


@pytest.mark.skipif(not FORK, reason="processes are not forked here")
@pytest.mark.parametrize("writes", [0, 1, 2], ids=["while it makes", "before the record", "inside the record"])
def test_an_item_whose_maker_was_killed_is_taken_over(
    tmp_path: Path, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path, range(3))
    begun = multiprocessing.get_context("fork").Event()

    def die() -> None:
        real, left = os.pwrite, writes

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            nonlocal left
            left -= 1
            if left:
                return real(fd, data, offset)
            real(fd, bytes(data)[: len(data) * 3 // 4], offset)
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

        def make() -> np.ndarray:
            begun.set()
            if not writes:
                time.sleep(60)
            return image(1)

        cache.os.pwrite = pwrite
        fetched(store, 1, make, lambda: key(1))

    child = multiprocessing.get_context("fork").Process(target=die)
    child.start()
    assert begun.wait(60)
    if not writes:
        assert fetched(store, 1, lambda: image(1), lambda: key(1), wait=False) is None, "it is being made"
        assert not store.wait([1], 0.05)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    began = time.monotonic()
    assert store.wait([0, 1, 2], 60) and not holds(store, 1, 1)
    got = fetched(store, 1, lambda: image(1), lambda: key(1))
    assert time.monotonic() - began < 30 and np.array_equal(got, image(1))  # type: ignore[arg-type]
    assert holds(opened(tmp_path, [1]), 0, 1)


def test_readers_see_whole_items_while_it_is_filled(tmp_path: Path) -> None:
    n, big = 50, (3, 100, 200)
    stores = [opened(tmp_path, range(n), slot_bytes=60_000) for _ in range(3)]
    filling = True

    def read(store: ItemStore) -> int:
        seen: set[int] = set()
        while filling or len(seen) < n:
            for k in range(n):
                got = store.get(k)
                if got is not None and k not in seen:
                    assert np.array_equal(got, image(k, big))
                    seen.add(k)
        return len(seen)

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, store) for store in stores[1:]]
        for k in range(n):
            stores[0].put(k, image(k, big))
        filling = False
        assert [reader.result(60) for reader in readers] == [n, n]


def test_what_has_changed_since_is_not_kept(tmp_path: Path) -> None:
    store = opened(tmp_path, range(3))

    def gone() -> str:
        raise FileNotFoundError

    for i, now in enumerate([lambda: key(0), lambda: key(99), gone]):
        got = fetched(store, i, lambda i=i: image(i), now)  # type: ignore[misc]
        assert np.array_equal(got, image(i))  # type: ignore[arg-type]
    assert store.filled.tolist() == [True, False, False]


def test_an_error_while_making_is_passed_on_and_claims_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def fail() -> np.ndarray:
        raise ValueError("a bad file")

    with pytest.raises(ValueError, match="a bad file"):
        fetched(store, 0, fail, lambda: key(0))
    assert store.claim(0)


# -- when things go wrong ------------------------------------------------------------------------------


def test_a_deleted_folder_is_no_error(tmp_path: Path) -> None:
    store = opened(tmp_path / "x")
    fill(store, range(3))
    sent = pickle.dumps(store)
    shutil.rmtree(tmp_path / "x")
    assert holds(store, 0, 0) and store.put(4, image(4)) and holds(store, 4, 4)
    gone = pickle.loads(sent)
    assert gone.get(0) is None and not gone.put(0, image(0)) and not gone.filled.any() and gone.table() is None
    assert np.array_equal(fetched(gone, 0, lambda: image(0), lambda: key(0)), image(0))
    assert not opened(tmp_path / "x").filled.any()
    assert pickle.loads(sent).get(0) is None, "another store at the same place is another store"


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 0xFF
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: index(d).write_bytes(b""),
        lambda d: index(d).write_bytes(b"something else of the same kind of length"),
        lambda d: index(d).write_bytes(index(d).read_bytes()[:20]),
        lambda d: flip(index(d), 0),
        lambda d: flip(index(d), 8),
        lambda d: flip(index(d), 16),
        lambda d: index(d).unlink(),
        lambda d: contents(d).unlink(),
        lambda d: contents(d).write_bytes(contents(d).read_bytes()[:-1]),
    ],
    ids=["empty", "foreign", "short header", "magic", "size", "nonce", "no index", "no contents", "short contents"],
)
def test_a_damaged_store_is_replaced(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    fill(opened(tmp_path), range(6))
    damage(tmp_path)
    assert not opened(tmp_path).filled.any()
    fill(opened(tmp_path), range(6))
    assert all(holds(opened(tmp_path), k, k) for k in range(6)) and contents(tmp_path)


def test_the_end_of_a_record_that_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    fill(opened(tmp_path), range(6))
    with open(index(tmp_path), "ab") as file:
        file.write(b"half a record")
    fill(opened(tmp_path, range(9)), range(9))
    assert all(holds(opened(tmp_path, range(9)), k, k) for k in range(9))


@pytest.mark.parametrize("place", ["contents", "shape", "type", "check", "key"])
def test_an_item_that_is_damaged_is_made_again(tmp_path: Path, place: str) -> None:
    """As after the machine lost its power, when what was written last may be on the disk, and what was first not."""
    fill(opened(tmp_path), range(6))
    if place == "contents":
        flip(contents(tmp_path), 2 * BYTES + 7)
    else:
        flip(index(tmp_path), 32 + 2 * 40 + {"key": 8, "shape": 16, "type": 30, "check": 32}[place])
    store = opened(tmp_path)
    assert [holds(store, k, k) for k in range(6)] == [True, True, False, True, True, True]
    assert opened(tmp_path).sound().tolist() == [True, True, False, True, True, True]
    assert np.array_equal(fetched(store, 2, lambda: image(2), lambda: key(2)), image(2))  # type: ignore[arg-type]
    assert all(holds(opened(tmp_path), k, k) for k in range(6))


def test_a_damaged_row_is_found(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    before = opened(tmp_path, slot_bytes=16)
    assert all(map(before.put, range(6), rows))
    flip(contents(tmp_path), 2 * 16 + 3)
    store = opened(tmp_path, slot_bytes=None)
    assert store.sound().tolist() == [True, True, False, True, True, True] and store.table() is None
    assert store.put(2, rows[2])
    table = opened(tmp_path, slot_bytes=None).table()
    assert table is not None and np.array_equal(table, rows)


def test_contents_of_another_item_are_never_taken(tmp_path: Path) -> None:
    """Where two processes register items at once without seeing each other's locks, their slots are the same."""
    opened(tmp_path, range(2))
    before = index(tmp_path).read_bytes()
    mine = opened(tmp_path, range(4))
    index(tmp_path).write_bytes(before)
    theirs = opened(tmp_path, [0, 1, 8, 9])
    assert mine.slots.tolist() == theirs.slots.tolist()
    assert not mine.put(2, image(2)) and mine.get(2) is None
    assert theirs.put(2, image(8)) and mine.get(2) is None and not mine.filled[2]
    assert np.array_equal(fetched(mine, 2, lambda: image(2), lambda: key(2)), image(2))  # type: ignore[arg-type]


def test_too_large_an_array_is_not_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert not store.put(0, image(0, (3, 200, 300))) and not store.put(0, np.zeros((2, 2, 2, 2), np.uint8))
    assert store.get(0) is None and store.put(0, image(0))


def full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    fill(store, range(2))
    monkeypatch.setattr(cache.os, "pwrite", full, raising=False)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert not store.put(2, image(2))
    assert store.get(2) is None and holds(store, 1, 1)
    monkeypatch.setattr(store, "claim", full)
    assert np.array_equal(fetched(store, 2, lambda: image(2), lambda: key(2)), image(2))  # type: ignore[arg-type]


def test_what_cannot_be_kept_is_made_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, groups = opened(tmp_path), []
    fill(store, range(2))
    monkeypatch.setattr(cache.os, "pwrite", full, raising=False)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert not store.put(2, image(2))

    def make(some: Any) -> list[np.ndarray]:
        groups.append(list(some))
        return [image(i) for i in some]

    for wait in (False, True):
        got = store.fetch([0, 3, 1, 4, 5], make, lambda some: [key(i) for i in some], wait)
        assert all(np.array_equal(row, image(i)) for row, i in zip(got, [0, 3, 1, 4, 5], strict=True))  # type: ignore[arg-type]
    assert groups == [[3, 4, 5]] * 2


def test_a_disk_that_takes_half_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    real = os.pwrite
    monkeypatch.setattr(cache.os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:100], at), raising=False)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert not store.put(2, image(2)) and store.get(2) is None and not opened(tmp_path).filled.any()


def test_a_disk_that_fills_up_under_threads_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path, range(N))
    write, written = os.pwrite, itertools.count(1)

    def filling(*args: Any) -> int:
        number = next(written)
        time.sleep(0.001)  # so that the threads meet
        return full() if number > 50 else write(*args)

    monkeypatch.setattr(cache.os, "pwrite", filling, raising=False)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(store.put, range(N), map(image, range(N))))
    assert 18 <= took.count(True) <= 25, "two writes an item"
    assert [holds(store, k, k) for k in range(N)] == took


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert open_store("a", [key(0)], 100, folder) is None and open_store("a", [key(0)], None, folder) is None


def test_a_folder_that_can_only_be_read_still_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(opened(tmp_path), range(5))
    real = os.open

    def reading(path: Any, flags: int, *rest: Any) -> int:
        if flags & (os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *rest)

    monkeypatch.setattr(cache.os, "open", reading)
    monkeypatch.setattr(cache.os, "utime", full)
    store = opened(tmp_path)
    assert all(holds(store, k, k) for k in range(5)) and not store.put(5, image(5))


def test_nothing_is_registered_while_somebody_else_does_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(opened(tmp_path), range(6))
    monkeypatch.setattr(cache, "PATIENCE", 0.02)
    mine = cache.claims_in(tmp_path)
    assert mine.take(cache.byte_of(index(tmp_path).name))
    assert open_store("a", [key(0), key(77)], BYTES, tmp_path) is None
    assert opened(tmp_path, [3, 4]).filled.all(), "for what is there nobody waits"


# -- room ----------------------------------------------------------------------------------------------


def test_the_stores_used_longest_ago_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, treatment in enumerate(["old", "middle", "new"]):
        fill(opened(tmp_path, range(20), treatment), range(20))
        for file in tmp_path.iterdir():
            if file.stat().st_mtime > 10_000:
                os.utime(file, (1000 + age, 1000 + age))
    size = sum(cache.bytes_of(file.stat()) for file in tmp_path.iterdir()) // 3
    assert opened(tmp_path, range(20), "old").filled.all()  # used now
    monkeypatch.setattr(cache, "MOST_HELD", 1)
    assert opened(tmp_path, range(20), "old").filled.all()  # the last one is held now
    with pytest.warns(EasyLearnWarning, match=r"removed.*EASYLEARN_CACHE_GB"):
        opened(tmp_path, range(20), "another", limit_bytes=int(3.5 * size))
    assert not opened(tmp_path, range(20), "middle").filled.any(), "the least recently used store makes room"
    assert opened(tmp_path, range(20), "old").filled.all() and opened(tmp_path, range(20), "new").filled.all()
    assert open_store("big", [key(k) for k in range(20)], BYTES, tmp_path, limit_bytes=20 * BYTES - 1) is None
    assert opened(tmp_path, range(20), "old").filled.all(), "what can never fit throws nothing out"


def test_stores_that_one_process_uses_in_turn_do_not_put_each_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each computed anew whenever the other was, otherwise: two large bodies that folds or trials take in turn."""
    limit = int(1.5 * 20 * BYTES)
    for turn in range(3):
        for treatment in ("a", "b"):
            store = opened(tmp_path, range(20), treatment, limit_bytes=limit)
            assert store.filled.all() == bool(turn)
            fill(store, range(20))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(90_000, 90_000, 0))  # type: ignore[attr-defined]
    assert open_store("c", [key(k) for k in range(20)], BYTES, tmp_path, limit) is None, "half of the disk is all"
    assert opened(tmp_path, range(20), "a").filled.all() and opened(tmp_path, range(20), "b").filled.all()


@pytest.mark.skipif(sys.platform == "win32", reason="there a file that is open cannot be removed anyhow")
def test_what_another_process_uses_stays_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_HELD", {})
    limit = int(1.5 * 20 * BYTES)
    fill(opened(tmp_path, range(20), "theirs"), range(20))
    cache._HELD.clear()
    script = (
        "import sys; from pathlib import Path; from easylearn.data.cache import open_store\n"
        "print(int(open_store('theirs', sys.argv[2:], 1800, Path(sys.argv[1])).filled.all()), flush=True)\n"
        "sys.stdin.read()"
    )
    args = [sys.executable, "-c", script, str(tmp_path), *(key(k) for k in range(20))]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "1\n"
        fill(opened(tmp_path, range(20), "mine", limit_bytes=limit), range(20))
        assert opened(tmp_path, range(20), "theirs").filled.all(), "it is used"
        cache._HELD.clear()
    fill(opened(tmp_path, range(20), "mine"), range(20))
    with pytest.warns(EasyLearnWarning, match="removed"):
        opened(tmp_path, range(20), "more", limit_bytes=2 * limit)
    assert not opened(tmp_path, range(20), "theirs").filled.any() and opened(tmp_path, range(20), "mine").filled.all()


def test_a_process_holds_the_stores_that_it_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_HELD", {})
    for k in (0, 1, 2, 3, 1, *range(4, 10)):
        opened(tmp_path, range(3), f"treatment {k}")
    held = list(cache._HELD)
    assert len(held) == cache.MOST_HELD
    assert held[:3] == [str(opened(tmp_path, range(3), f"treatment {k}").path) for k in (3, 1, 4)]
    assert list(cache._HELD)[-3:] == held[:3]


def test_a_store_may_take_more_than_the_limit_if_the_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, mb = [key(k) for k in range(20)], 10**6
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(900 * mb, 860 * mb, 40 * mb))  # type: ignore[attr-defined]
    fill(opened(tmp_path, range(10), "old"), range(10))
    assert open_store("big", keys, mb, tmp_path, limit_bytes=BYTES, n_items=19) is None
    assert open_store("huge", keys, 3 * mb, tmp_path, limit_bytes=BYTES, n_items=20) is None
    assert opened(tmp_path, range(10), "old").filled.all()
    assert open_store("big", keys[:15], mb, tmp_path, limit_bytes=BYTES, n_items=20) is not None
    store = open_store("big", keys, mb, tmp_path, limit_bytes=BYTES, n_items=20)
    assert store is not None and store.slots.max() == 19, "what is there is not begun anew"


def test_a_store_full_of_what_nobody_wants_any_more_begins_anew(tmp_path: Path) -> None:
    """Files that change again and again would fill it otherwise, and nothing be kept from then on."""
    limit = 60 * BYTES
    for day in range(10):
        items = range(day * 20, day * 20 + 20)
        store = opened(tmp_path, items, limit_bytes=limit)
        fill(store, items)
        assert all(holds(store, i, k) for i, k in enumerate(items))
        assert sum(cache.bytes_of(file.stat()) for file in tmp_path.iterdir()) < 1.5 * limit


def test_contents_without_an_index_are_removed_after_a_day(tmp_path: Path) -> None:
    names = {"k-8.0a.slots": False, "k-9.0b.slots": True, "mine.txt": True}
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    long_ago = time.time() - 2 * 86400
    for name in ("k-8.0a.slots", "mine.txt"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    opened(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_the_usual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
    store = open_store("a", [key(0)], 100)
    assert store is not None and store.path.parent == tmp_path / "images"


def test_unused_room_takes_no_disk(tmp_path: Path) -> None:
    store = opened(tmp_path, range(50), slot_bytes=10**6)
    fill(store, range(50))
    assert cache.bytes_of(contents(tmp_path).stat()) < 50 * 30_000


def test_wrong_arguments(tmp_path: Path) -> None:
    for keys, slot_bytes in (([], 10), ([key(0)], 0)):
        with pytest.raises(ArgumentError, match="at least one item of at least one byte"):
            open_store("a", keys, slot_bytes, tmp_path)


# -- what items are ------------------------------------------------------------------------------------


def test_keys_of_arrays() -> None:
    x = np.arange(12, dtype=np.uint8)
    given_ = [x, x.reshape(3, 4), x.reshape(4, 3), x.astype(np.int16), x[::-1], x[:0]]
    assert len({content_key(a) for a in given_}) == len(given_)
    assert content_key(np.asfortranarray(x.reshape(3, 4))) == content_key(x.reshape(3, 4).copy())
