from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from easylearn import files
from easylearn.errors import ArgumentError, SaveError
from easylearn.files import as_path, atomic_write, write_tensors


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def write_and_fail(target: Path, error: BaseException) -> None:
    with atomic_write(target) as temporary:
        temporary.write_text("half of i")
        raise error


class TestAtomicWrite:
    def test_new_and_replaced(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "er" / "model.txt"
        for text in ("first", "second"):
            with atomic_write(target) as temporary:
                assert temporary.parent == target.parent
                temporary.write_text(text)
            assert target.read_text() == text
        assert names(target.parent) == ["model.txt"]

    def test_a_string_will_do(self, tmp_path: Path) -> None:
        with atomic_write(str(tmp_path / "a.txt")) as temporary:
            temporary.write_text("a")
        assert (tmp_path / "a.txt").read_text() == "a"

    def test_the_old_file_is_there_until_the_end(self, tmp_path: Path) -> None:
        target = tmp_path / "model.txt"
        target.write_text("old")
        with atomic_write(target) as temporary:
            temporary.write_text("new")
            assert target.read_text() == "old"
        assert target.read_text() == "new"

    @pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
    def test_an_error_inside(self, tmp_path: Path, error: BaseException) -> None:
        target = tmp_path / "model.txt"
        target.write_text("old")
        with pytest.raises(type(error)):
            write_and_fail(target, error)
        assert target.read_text() == "old"
        assert names(tmp_path) == ["model.txt"]

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    @pytest.mark.parametrize("existed", [True, False])
    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, existed: bool) -> None:
        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        target = tmp_path / "model.txt"
        if existed:
            target.write_text("old")
        monkeypatch.setattr(os, call, full)
        state = "the file that was there is unchanged" if existed else "no file was made"
        with pytest.raises(SaveError, match=rf"model\.txt: No space left.*; {state}.*Free some space") as caught:
            with atomic_write(target) as temporary:
                temporary.write_text("new")
        assert caught.value.errno == errno.ENOSPC and isinstance(caught.value.__cause__, OSError)
        assert names(tmp_path) == (["model.txt"] if existed else [])
        assert not existed or target.read_text() == "old"

    def test_a_disk_that_fills_while_writing(self, tmp_path: Path) -> None:
        target = tmp_path / "model.txt"
        target.write_text("old")
        with pytest.raises(SaveError, match="unchanged"):
            write_and_fail(target, OSError(errno.ENOSPC, "No space left on device"))
        assert names(tmp_path) == ["model.txt"]
        assert target.read_text() == "old"

    def test_a_folder_is_no_file_to_write(self, tmp_path: Path) -> None:
        with (
            pytest.raises(SaveError, match=r"it is a folder\. Name a file in it$"),
            atomic_write(tmp_path) as temporary,
        ):
            temporary.write_text("new")
        assert not list(tmp_path.iterdir())

    def test_a_file_within_the_writing_is_told_once(self, tmp_path: Path) -> None:
        with pytest.raises(SaveError) as told, atomic_write(tmp_path / "outer") as temporary:
            with atomic_write(temporary.with_name("inner")):
                raise OSError(28, "No space left on device")
        said = str(told.value)
        assert said.count("could not write") == 1 and "outer: No space left on device; no file was made" in said

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(SaveError, match="no file was made"), atomic_write(tmp_path / "file" / "model.txt"):
            pytest.fail("the body must not run")

    def test_the_data_is_on_disk_before_the_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
        monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
        with atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("a")
        assert calls == ["fsync", "replace"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
    def test_permissions_follow_the_umask(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        old = os.umask(0o027)
        try:
            with monkeypatch.context() as patch:
                patch.delattr(os, "umask")  # to ask for it is to set it, in all threads
                with atomic_write(tmp_path / "a") as temporary:
                    temporary.write_text("a")
            assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
            assert os.umask(0o027) == 0o027
        finally:
            os.umask(old)


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "here"))
    assert files.cache_dir() == tmp_path / "here"
    monkeypatch.delenv("EASYLEARN_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / "easylearn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_dir() == Path.home() / ".cache" / "easylearn"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert files.cache_dir() == tmp_path / "easylearn"


def test_cache_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EASYLEARN_CACHE_GB", raising=False)
    assert files.cache_limit(7) == 7
    monkeypatch.setenv("EASYLEARN_CACHE_GB", "2.5")
    assert files.cache_limit(7) == 2_500_000_000
    for bad in ("much", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("EASYLEARN_CACHE_GB", bad)
        with pytest.raises(ArgumentError, match=f"EASYLEARN_CACHE_GB is a number of GB above 0, got '{bad}'"):
            files.cache_limit(7)


def test_digest() -> None:
    same = [files.digest(["ab", "c"]), files.digest([b"ab", memoryview(b"c")])]
    other = [files.digest(p) for p in ([], [""], ["abc"], ["a", "bc"], ["c", "ab"])]
    assert same[0] == same[1] and len(same[0]) == 32
    assert len({same[0], *other}) == 6


def test_file_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"123")
    os.utime(path, ns=(10, 10))
    first = files.file_identity(path)
    monkeypatch.chdir(tmp_path)
    assert files.file_identity("a.jpg") == first
    os.utime(path, ns=(10, 11))
    assert files.file_identity(path) != first
    path.write_bytes(b"1234")
    os.utime(path, ns=(10, 10))
    assert files.file_identity(path) != first


class TestWriteTensors:
    def test_what_is_written_can_be_read(self, tmp_path: Path) -> None:
        from safetensors import safe_open

        path = write_tensors(tmp_path / "new" / "a.safetensors", {"x": torch.arange(3)}, {"who": "me"})
        with safe_open(path, framework="pt") as opened:
            assert opened.metadata() == {"who": "me"}
            assert torch.equal(opened.get_tensor("x"), torch.arange(3))

    def test_a_failed_write_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from safetensors import SafetensorError

        path = write_tensors(tmp_path / "a.safetensors", {"x": torch.arange(3)}, {})
        before = path.read_bytes()

        def full(tensors: object, file: object, metadata: object) -> None:
            raise SafetensorError("no space left")

        monkeypatch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(SaveError, match="no space left"):
            write_tensors(path, {"x": torch.arange(4)}, {})
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_keys_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = tmp_path / "a.jpg", tmp_path / "b.jpg"
    a.write_bytes(b"first")
    b.write_bytes(b"first")
    seen = set(files.file_keys([a, b]))
    assert len(seen) == 2 and set(files.file_keys([str(b), a])) == seen
    monkeypatch.chdir(tmp_path)
    assert files.file_keys(["a.jpg"]) == files.file_keys([a])
    info = a.stat()
    a.write_bytes(b"other")
    os.utime(a, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert a.stat().st_size == info.st_size and a.stat().st_mtime_ns == info.st_mtime_ns
    if sys.platform != "win32":
        assert not seen & set(files.file_keys([a])), "a file that was replaced and given the old size and time"
    with pytest.raises(FileNotFoundError):
        files.file_keys([a, tmp_path / "none.jpg"])


def test_a_file_that_has_just_changed_may_change_again_within_the_tick(tmp_path: Path) -> None:
    for k in range(10):
        (tmp_path / "a").write_bytes(b"%02d" % k)
        before = files.file_keys([tmp_path / "a"])
        (tmp_path / "a").write_bytes(b"xx")
        assert files.file_keys([tmp_path / "a"]) != before


@pytest.mark.parametrize("given", [5, True, None, 1.5, ["a"]])
def test_what_is_no_path_is_refused_in_words(given: Any) -> None:
    with pytest.raises(ArgumentError, match=r"path of a folder.*got"):
        as_path(given, "a folder")
    with pytest.raises(ArgumentError, match="file to write"), atomic_write(given):
        pass
