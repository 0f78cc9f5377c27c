from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from easylearn.errors import SaveError, StateError, WeightsError
from easylearn.experiment import store
from easylearn.experiment.store import Job, Store, create_once, read_once

SETTINGS = {"kind": "test", "names": ["a", "b"], "x": 0.1}


def end(trial: int, rung: int = 0, **more: Any) -> dict[str, Any]:
    return {"trial": trial, "rung": rung, "status": "done", "value": trial / 7, **more}


def test_what_is_written_is_read_by_another(tmp_path: Path) -> None:
    one = Store(tmp_path / "s", SETTINGS)
    jobs = [Job(0, {"lr": 0.1}, 3, fold=2), Job(1, {"arch": None}, by="list", rung=1, bracket=1)]
    assert one.add_round(jobs)
    one.end(end(1, 1))
    other = Store(tmp_path / "s", SETTINGS)
    assert other.history.rounds == [jobs]
    assert other.history.ends == {(1, 1): end(1, 1)}
    assert [j.trial for j in other.history.open_jobs] == [0]
    one.end(end(0))
    assert other.poll().open_jobs == []


def test_a_round_is_planned_once(tmp_path: Path) -> None:
    one, other = Store(tmp_path, SETTINGS), Store(tmp_path, SETTINGS)
    assert one.add_round([Job(0)])
    assert not other.add_round([Job(0, seed=1)])
    assert other.poll().rounds == [[Job(0)]]
    assert other.add_round([Job(1)])


def test_another_experiment_is_refused(tmp_path: Path) -> None:
    Store(tmp_path, SETTINGS)
    with pytest.raises(StateError, match=r"'x'|x is 0\.1.*0\.2"):
        Store(tmp_path, {**SETTINGS, "x": 0.2})
    with pytest.raises(StateError, match="more is None"):
        Store(tmp_path, {**SETTINGS, "more": 1})
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(WeightsError, match="damaged"):
        Store(tmp_path, SETTINGS)


def test_of_a_truncated_file_of_events_only_the_last_is_lost(tmp_path: Path) -> None:
    one = Store(tmp_path, SETTINGS)
    ends = [0]
    path = tmp_path / "events" / f"{one.name}.jsonl"
    for trial in range(4):
        one.end(end(trial, reason="été"))
        ends.append(os.path.getsize(path))
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        known = Store(tmp_path, SETTINGS).history.ends
        assert [key[0] for key in known] == list(range(sum(size >= e for e in ends[1:]))), size


def test_a_torn_event_is_read_when_it_is_whole(tmp_path: Path) -> None:
    one, other = Store(tmp_path, SETTINGS), Store(tmp_path, SETTINGS)
    one.end(end(0))
    path = tmp_path / "events" / f"{one.name}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert other.poll().ends == {}
    path.write_bytes(whole)
    assert list(other.poll().ends) == [(0, 0)]


@pytest.mark.parametrize("links", [True, False])
def test_one_of_many_writes_a_file(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(95, "not supported")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    won: list[int] = []
    start = threading.Barrier(8)

    def write(i: int) -> None:
        start.wait()
        if create_once(tmp_path / "once", f"{i}" * 1000):
            won.append(i)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(won) == 1
    assert (tmp_path / "once").read_text() == f"{won[0]}" * 1000
    assert [p.name for p in tmp_path.iterdir()] == ["once"]


def test_what_is_not_whole_is_not_there(tmp_path: Path) -> None:
    assert read_once(tmp_path / "none") is None
    (tmp_path / "torn").write_text('{"a": 1')
    assert read_once(tmp_path / "torn") is None


def test_a_folder_that_can_only_be_read_gives_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Store(tmp_path, SETTINGS)
    one.add_round([Job(0)])
    one.end(end(0))

    def refused(path: Path) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def opened(path: Path, mode: str) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(store, "part_of", refused)
    monkeypatch.setattr(store, "open", opened, raising=False)
    assert not create_once(tmp_path / "search.json", "other")
    with pytest.raises(SaveError, match=r"new\.json: Read-only file system.*give a folder that can be written"):
        create_once(tmp_path / "new.json", "{}")


def test_events_and_folders_that_cannot_be_written_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **how: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one = Store(tmp_path, SETTINGS)
    monkeypatch.setattr(store, "append_lines", full)
    with pytest.raises(SaveError, match=r"jsonl: No space left on device\. Free some space"):
        one.end(end(0))
    assert not one.history.ends
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(SaveError, match=r"other: No space left on device"):
        Store(tmp_path / "other", SETTINGS)


def test_a_full_disk_leaves_no_file_that_passes_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_open, unlink = [False], Path.unlink

    class Full:
        def __init__(self, path: Path, mode: str) -> None:
            path.touch()

        def __enter__(self) -> Full:
            is_open[0] = True
            return self

        def __exit__(self, *what: Any) -> None:
            is_open[0] = False

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def of_windows(path: Path) -> None:
        if is_open[0]:
            raise PermissionError(errno.EACCES, "used by another process")
        unlink(path)

    with monkeypatch.context() as patched:
        patched.setattr(store, "open", Full, raising=False)
        patched.setattr(Path, "unlink", of_windows)
        with pytest.raises(SaveError, match="No space left"):
            create_once(tmp_path / "search.json", "{}")
    assert not list(tmp_path.iterdir())
    Store(tmp_path, SETTINGS)
