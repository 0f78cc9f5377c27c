from __future__ import annotations

import io
import os
import pickle
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from easylearn.errors import WeightsError
from easylearn.text.fastai import download_wt103, read_itos

WORDS = ["the", "film", "was", "good", "bad", "long"]


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


class TestItos:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_every_protocol(self, tmp_path: Path, protocol: int) -> None:
        file = tmp_path / "itos.pkl"
        twice = "".join(["rep", "eat"])
        words = ["the", "", "é", "😀", "مرحبا", "a b\n", "\\", "x" * 300, twice, twice, *(f"w{i}" for i in range(2500))]
        file.write_bytes(pickle.dumps(words, protocol))
        assert read_itos(file) == words
        file.write_bytes(pickle.dumps(["one"], protocol))
        assert read_itos(file) == ["one"]

    def test_as_python_2_wrote_it(self, tmp_path: Path) -> None:
        file = tmp_path / "itos.pkl"
        file.write_bytes(b"(lp0\nS'the'\np1\naS'film'\np2\na.")
        assert read_itos(file) == ["the", "film"]

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_hostile_ones_are_refused_and_not_run(self, tmp_path: Path, protocol: int) -> None:
        file, mark = tmp_path / "itos.pkl", tmp_path / "was_here"
        for thing in (Hostile(mark), ["the", Hostile(mark)], [Hostile(mark), "the"]):
            file.write_bytes(pickle.dumps(thing, protocol))
            with pytest.raises(WeightsError, match="holds more than a list of words"):
                read_itos(file)
        assert not mark.exists()

    @pytest.mark.parametrize("thing", [{"a": 1}, ("a",), "a", ["a", 1], [["a"], ["b"]], [], None, ["a", b"b"]])
    def test_anything_else(self, tmp_path: Path, thing: Any) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            file = tmp_path / "itos.pkl"
            file.write_bytes(pickle.dumps(thing, protocol))
            with pytest.raises(WeightsError):
                read_itos(file)

    def test_a_list_within_itself(self, tmp_path: Path) -> None:
        loop: list[Any] = ["a"]
        loop.append(loop)
        file = tmp_path / "itos.pkl"
        file.write_bytes(pickle.dumps(loop))
        with pytest.raises(WeightsError, match="flat list"):
            read_itos(file)

    def test_damaged(self, tmp_path: Path) -> None:
        file = tmp_path / "itos.pkl"
        good = pickle.dumps(WORDS * 3)
        for n in range(0, len(good), 3):
            file.write_bytes(good[:n])
            with pytest.raises(WeightsError):
                read_itos(file)
        rng = random.Random(0)
        for _ in range(300):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] = rng.randrange(256)
            file.write_bytes(bytes(bad))
            with suppress(WeightsError):
                assert all(isinstance(w, str) for w in read_itos(file))
        with pytest.raises(WeightsError, match="cannot be read as a list of words"):
            read_itos(tmp_path / "none.pkl")


class _Answer(io.BytesIO):
    def __init__(self, body: bytes, said: int | None = None) -> None:
        super().__init__(body)
        self.headers = {"Content-Length": str(len(body) if said is None else said)}


class TestDownload:
    def test_files_are_fetched_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        asked: list[str] = []

        def urlopen(address: str, timeout: float) -> _Answer:
            asked.append(address)
            return _Answer(address.encode())

        monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
        monkeypatch.setattr("urllib.request.urlopen", urlopen)
        weights, words = download_wt103(backward=True)
        assert download_wt103(backward=True) == (weights, words)
        assert [a.rpartition("/")[2] for a in asked] == ["bwd_wt103.h5", "itos_wt103.pkl"]
        assert weights.read_bytes() == asked[0].encode()

    def test_a_broken_connection_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
        monkeypatch.setattr("urllib.request.urlopen", lambda address, timeout: _Answer(b"half", said=8))
        with pytest.raises(WeightsError, match="only 4 of 8 bytes"):
            download_wt103()
        assert not [f for f in tmp_path.rglob("*") if f.is_file()]

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def urlopen(address: str, timeout: float) -> _Answer:
            raise OSError("no route")

        monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
        monkeypatch.setattr("urllib.request.urlopen", urlopen)
        with pytest.raises(WeightsError, match="pretrained=\\(weights, vocabulary\\)"):
            download_wt103()
