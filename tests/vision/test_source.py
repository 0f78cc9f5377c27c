"""The loader gives bit-identical batches whatever the workers, the cache and the place it starts at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from easylearn import device, keyed
from easylearn.data.cache import ItemStore, open_store
from easylearn.data.order import Batch, ItemLoader, Order, Subset
from easylearn.errors import DataError, StateError
from easylearn.vision import source as source_module
from easylearn.vision.augment import BatchStage, resolve
from easylearn.vision.decode import ItemStage
from easylearn.vision.source import Images, ImageSource, choose_workers, in_workers
from easylearn.vision.store import image_keys

CPU = torch.device("cpu")
SIZE = (24, 24)
N = 13


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for k in range(N):
        shape = (40 + 3 * k, 60, 3) if k % 2 else (40, 70, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{k:02}.jpg")
    return [str(folder / f"{k:02}.jpg") for k in range(N)]


def make(files: Sequence[Any], batch_size: int = 4, shuffle: bool = True, **options: Any) -> ItemLoader:
    images = Images(files, [f"image {k}" for k in range(len(files))])
    item_stage = options.pop("item_stage", ItemStage(SIZE))
    batch_stage = options.pop("batch_stage", BatchStage(SIZE, resolve("side_on")))
    source = ImageSource(images, item_stage, batch_stage, **{"view": 0, "workers": 0, **options})
    return ItemLoader(Order(len(files), batch_size, shuffle), source, torch.arange(len(files)))


def opened(key: str, files: Sequence[Any], folder: Path, slot_bytes: int = ItemStage(SIZE).max_bytes) -> ItemStore:
    store = open_store(key, image_keys(files, files), slot_bytes, folder)
    assert store is not None
    return store


def walk(loader: ItemLoader, seed: int = 0, epoch: int = 0, start: int = 0) -> list[Batch]:
    return list(loader.batches(CPU, seed, epoch, start))


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one.inputs[0], other.inputs[0])
        assert torch.equal(one.index, other.index)
        assert one.target is not None and other.target is not None and torch.equal(one.target, other.target)


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- what comes out ------------------------------------------------------------------------------------


def test_an_epoch_has_every_item_once(files: list[str]) -> None:
    batches = walk(make(files, batch_size=4))
    assert [len(b.index) for b in batches] == [4, 4, 5], "a last batch of one is merged into the one before"
    assert len(make(files, batch_size=4)) == 3 and make(files).n_items == N
    order = torch.cat([b.index for b in batches])
    assert order.tolist() == keyed.permutation(N, 0, "shuffle", 0).tolist()
    assert all(torch.equal(b.index, b.target) for b in batches if b.target is not None)
    for b in batches:
        assert b.inputs[0].shape[1:] == (3, *SIZE) and b.inputs[0].dtype == torch.float32


def test_plain_view_is_in_file_order_with_the_central_window(files: list[str]) -> None:
    loader = make(files, shuffle=False, view=None)
    batches = walk(loader)
    assert [len(b.index) for b in batches] == [4, 4, 4, 1]
    assert torch.cat([b.index for b in batches]).tolist() == list(range(N))
    stage = loader.source.batch_stage
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (stage.mean, stage.std))
    for k, got in enumerate(torch.cat([b.inputs[0] for b in batches])):
        whole = loader.source.item_stage.load(files[k])
        top, left = (whole.shape[1] - 24) // 2, (whole.shape[2] - 24) // 2
        wanted = (whole[:, top : top + 24, left : left + 24].float() / 255 - mean) / std
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=2e-6)


def test_training_windows_move_along_the_long_side() -> None:
    ramp = np.broadcast_to(np.arange(36, dtype=np.uint8)[None, :, None], (24, 36, 3)).copy()
    stage = BatchStage(SIZE, (), (0.0,) * 3, (1.0,) * 3)
    left_edges = set()
    for epoch in range(40):
        (batch,) = walk(make([ramp], batch_stage=stage), epoch=epoch)
        edge = (batch.inputs[0] * 255).round()[0, 0, :, 0]
        assert (edge == edge[0]).all()
        left_edges.add(int(edge[0]))
    assert min(left_edges) == 0 and max(left_edges) == 12 and len(left_edges) > 8


def test_squash_has_no_windows(files: list[str]) -> None:
    stage = ItemStage(SIZE, "squash")
    batch = walk(make(files, item_stage=stage, batch_stage=BatchStage(SIZE), shuffle=False, view=0))[0]
    plain = walk(make(files, item_stage=stage, batch_stage=BatchStage(SIZE), shuffle=False, view=None))[0]
    assert torch.equal(batch.inputs[0], plain.inputs[0])


@pytest.mark.parametrize(
    ("n", "batch_size", "wanted"), [(1, 4, [1]), (3, 8, [3]), (9, 4, [4, 5]), (8, 4, [4, 4]), (2, 1, [2])]
)
def test_sizes_of_batches(files: list[str], n: int, batch_size: int, wanted: list[int]) -> None:
    assert [len(b.index) for b in walk(make(files[:n], batch_size=batch_size))] == wanted


def test_views_differ_and_repeat(files: list[str]) -> None:
    views = [torch.cat([b.inputs[0] for b in walk(make(files, shuffle=False, view=v))]) for v in (1, 2, 1)]
    assert torch.equal(views[0], views[2]) and not torch.equal(views[0], views[1])


def test_targets_may_be_unknown(files: list[str]) -> None:
    source = ImageSource(Images(files, files), ItemStage(SIZE), BatchStage(SIZE), workers=0)
    loader = ItemLoader(Order(len(files), 4), source)
    assert all(b.target is None for b in walk(loader))


# -- the same, however it is made ----------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 3])
def test_workers_change_nothing(files: list[str], epoch: int) -> None:
    assert_same(walk(make(files, workers=0), 7, epoch), walk(make(files, workers=2), 7, epoch))


def test_spawned_workers_change_nothing(files: list[str], tmp_path: Path) -> None:
    store = opened("spawned", files, tmp_path)
    spawned = make(files, workers=1, start_method="spawn", store=lambda: store)
    assert_same(walk(make(files)), walk(spawned))
    assert store.filled.all(), "the spawned worker filled the store"


def test_threads_change_nothing(files: list[str], pools: list[int]) -> None:
    with threads(1):
        alone = walk(make(files))
    assert not pools
    with threads(3):
        assert_same(alone, walk(make(files)))
        assert pools == [3]
        walk(make([Image.open(f) for f in files]))
        assert pools == [3], "two threads may meet in one lazy image"


def test_torch_spares_cores_for_workers_and_gets_them_back(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "usable_cores", lambda: 3)
    seen: list[int] = []
    plain = BatchStage.plain

    def looking(self: BatchStage, x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return plain(self, x)

    monkeypatch.setattr(BatchStage, "plain", looking)
    with threads(3):
        for workers in (0, 1, 2):
            for _ in make(files, view=None, shuffle=False, workers=workers, batch_size=N).batches(CPU):
                assert torch.get_num_threads() == 3
    assert seen == [3, 2, 1]


def test_seed_and_epoch_change_the_batches(files: list[str]) -> None:
    first = walk(make(files))[0].inputs[0]
    assert not torch.equal(first, walk(make(files), seed=1)[0].inputs[0])
    assert not torch.equal(first, walk(make(files), epoch=1)[0].inputs[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_any_start(files: list[str], workers: int) -> None:
    whole = walk(make(files), epoch=2)
    for start in range(len(whole) + 1):
        assert_same(walk(make(files, workers=workers), epoch=2, start=start), whole[start:])


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_or_not(files: list[str], tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened("images", files, tmp_path)
    loader = make(files, workers=workers, store=lambda: store)
    partly = walk(loader, epoch=0, start=2)  # only the last batch
    assert store.filled.sum() == 5
    first = walk(loader, epoch=1)
    assert store.filled.all()
    assert_same(partly, walk(make(files), epoch=0, start=2))
    assert_same(first, walk(make(files), epoch=1))

    def forbidden(*args: object) -> None:
        raise AssertionError("a full store needs neither files nor workers")

    monkeypatch.setattr(ItemStage, "load", forbidden)
    monkeypatch.setattr(source_module, "DataLoader", forbidden)
    again = opened("images", files, tmp_path)
    assert_same(first, walk(make(files, workers=workers, store=lambda: again), epoch=1))


def test_what_workers_kept_is_not_compared_once_more(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened("images", files, tmp_path)
    loader = make(files, workers=2, store=lambda: store)
    first = walk(loader)
    assert store.whole.all()
    monkeypatch.setattr("easylearn.data.cache._check", lambda *_: pytest.fail("compared once more"))
    assert_same(walk(loader), first)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_damaged_and_cannot_be_replaced_is_never_taken(
    files: list[str], tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk(make(files, store=lambda: opened("images", files, tmp_path)))
    (contents,) = tmp_path.glob("*.slots")
    contents.write_bytes(bytes(ItemStage(SIZE).max_bytes) + contents.read_bytes()[ItemStage(SIZE).max_bytes :])
    store = opened("images", files, tmp_path)
    store._writable = False
    for _ in range(2):
        assert_same(walk(make(files, workers=workers, store=lambda: store)), walk(make(files)))
    assert store.whole.tolist() == [i != store.slots.tolist().index(0) for i in range(len(files))]


def test_a_store_that_takes_nothing_is_no_harm(files: list[str], tmp_path: Path) -> None:
    store = opened("small", files, tmp_path, 10)  # every image is larger than its slot
    assert_same(walk(make(files, store=lambda: store)), walk(make(files)))
    assert not store.filled.any()


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_state_is_untouched(files: list[str], workers: int) -> None:
    before = torch.get_rng_state()
    walk(make(files, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_leaving_early_is_allowed(files: list[str]) -> None:
    for workers in (0, 2):
        batches = make(files, workers=workers).batches(CPU)
        next(batches)
        batches.close()  # type: ignore[attr-defined]


# -- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_error_with_and_without_workers(files: list[str], tmp_path: Path, workers: int) -> None:
    (tmp_path / "bad.jpg").write_bytes(Path(files[0]).read_bytes()[:500])
    loader = make([*files[:5], str(tmp_path / "bad.jpg"), *files[5:]], shuffle=False, workers=workers)
    got = []
    with pytest.raises(DataError, match=r"bad\.jpg") as error:
        got.extend(loader.batches(CPU))
    assert len(got) == 0 or len(got) == 1
    assert "Traceback" not in str(error.value) and 'on_error="skip"' in str(error.value)


def test_arrays_are_named_by_their_id() -> None:
    with pytest.raises(DataError, match="image 1"):
        walk(make([np.zeros((30, 30), np.uint8), np.full((30, 30), 3.0)], shuffle=False))


def test_automatic_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.sys, "platform", "other")
    monkeypatch.setattr(source_module, "usual_start_method", lambda: "fork")
    monkeypatch.setattr(device.os, "cpu_count", lambda: 4)
    assert choose_workers(10) == 0 and choose_workers(10_000) == 4
    monkeypatch.setattr(device.os, "cpu_count", lambda: 64)
    assert choose_workers(10_000) == source_module.MAX_WORKERS
    monkeypatch.setattr(device.os, "cpu_count", lambda: 1)
    assert choose_workers(10_000) == 0
    monkeypatch.setattr(device.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(source_module, "usual_start_method", lambda: "spawn")
    assert choose_workers(1000) == 0, "spawned processes import torch first"


def test_inside_a_daemon_threads_decode(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon process, such as the worker of a task queue, may have no children."""
    wanted = walk(make(files))
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert_same(walk(make(files, workers=2)), wanted)
    assert choose_workers(10_000) == choose_workers(10, 3) == 0


def test_small_arrays_are_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(source_module, "choose_workers", lambda n, workers: asked.append(n) or 0)
    small, large = np.zeros((1000, 16, 16, 3), np.uint8), np.zeros((2, 1000, 2000, 3), np.uint8)
    for sources in (small, [torch.zeros(3, 16, 16, dtype=torch.uint8)] * 1000, large):
        loader = make(sources, workers=None, shuffle=False)
        assert sum(len(batch.index) for batch in walk(loader)) == len(sources)
    assert asked == [0, 0, 6]


def test_only_what_is_asked_for_and_not_there_is_work(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(source_module, "choose_workers", lambda n, workers: asked.append(n) or 0)
    store = opened("images", files, tmp_path)
    for items in ([3, 5, 3], [5, 8, 9], [3, 5, 8]):
        some = Subset(make(files, store=lambda: store).source, np.array(items))
        list(some.stream([np.arange(3)], CPU))
    list(make(files).source.stream([], CPU))
    assert asked == [2, 2, 0, 0]


# -- processes that fail -------------------------------------------------------------------------------

FULL = """
import numpy as np, torch
from easylearn.vision.augment import BatchStage
from easylearn.vision.decode import ItemStage
from easylearn.vision.source import Images, ImageSource

def batches(workers):
    images = [np.full((500, 500, 3), k, np.uint8) for k in range(48)]
    stages = ItemStage((448, 448)), BatchStage((448, 448))
    source = ImageSource(Images(images, list(map(str, range(48)))), *stages, workers=workers)
    return [x for (x,) in source.stream(np.arange(48).reshape(3, 16), torch.device("cpu"))]

assert all(map(torch.equal, batches(2), batches(0)))
print("the same")
"""


def _in_little_shared_memory(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program where processes share 8 MB, as in a container; skip where no such place may be made."""
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=8m tmpfs /dev/shm && "$@"', "sh"]
    if sys.platform != "linux" or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no file systems may be mounted here")
    return subprocess.run([*mount, sys.executable, "-c", program], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_little_shared_memory_hangs_nobody() -> None:
    done = _in_little_shared_memory(FULL)
    assert done.returncode == 0 and "the same" in done.stdout, done.stderr


def test_without_any_shared_memory(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = walk(make(files))

    def full(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # which workers inherit
    assert_same(walk(make(files, workers=2, start_method="fork")), wanted)


class Deadly(Dataset[int]):
    """Numbers; whoever makes a certain one is killed by the system, as where memory runs out."""

    def __init__(self, deadly: int) -> None:
        self.deadly = deadly

    def __getitem__(self, i: int) -> int:
        if i == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return i


@pytest.mark.parametrize(("workers", "deadly"), [(1, 0), (2, 3)])
def test_a_worker_that_is_killed(workers: int, deadly: int) -> None:
    with pytest.raises(StateError, match=r"processes that prepare images was killed.*workers=0"):
        list(in_workers(Deadly(deadly), range(8), workers))


def test_a_worker_that_is_killed_while_the_program_does_something_else() -> None:
    made = in_workers(Deadly(-1), range(100), 2)
    assert next(made) == 0
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGKILL)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:  # torch would raise here
        pass
    with pytest.raises(StateError, match="was killed"):
        list(made)
