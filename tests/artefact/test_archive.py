"""The file itself: what safetensors and zipfile say of it, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from easylearn.artefact import archive as module
from easylearn.artefact.archive import SCHEMA, SPEC, WEIGHTS, Archive, write_archive
from easylearn.errors import SaveError, SchemaError, WeightsError

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def filled(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    n = int(np.prod(shape)) if shape else 1
    raw = np.random.default_rng(seed).integers(0, 2 if dtype == torch.bool else 120, n)
    return torch.from_numpy(raw).to(dtype).reshape(shape)


def digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def sealed(weights: bytes, **said: Any) -> bytes:
    """A file with right digests, written by nothing of easylearn's."""
    spec = {"what": "easylearn model", "schema": 1, **said, "weights": digest(weights)}
    spec["digest"] = digest(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass"))
    return zipped([(SPEC, json.dumps(spec).encode("utf-8", "surrogatepass")), (WEIGHTS, weights)])


def zipped(parts: list[tuple[str, bytes]], how: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", how) as file:
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in parts:
            file.writestr(name, content)
    return out.getvalue()


def with_header(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Write bytes, see that they are refused, and give the message."""

    def check(raw: bytes, error: type[WeightsError] = WeightsError) -> str:
        path = tmp_path / "bad"
        path.write_bytes(raw)
        with pytest.raises(error) as caught:
            Archive(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    return check


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    return write_archive(tmp_path / "good", {"hello": "you"}, {"w": torch.arange(6.0).reshape(2, 3)}).read_bytes()


def parts_of(raw: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        return [(name, file.read(name)) for name in (SPEC, WEIGHTS)]


# -- compared with safetensors and zipfile -----------------------------------------------------------------

TENSORS = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda n: n != "__metadata__" and n.isprintable()),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=4).map(tuple)),
    max_size=5,
)


@given(TENSORS)
@settings(max_examples=60)
def test_it_reads_what_safetensors_writes(described: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    tensors = {name: filled(*about, seed=i) for i, (name, about) in enumerate(described.items())}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(sealed(save_safetensors(tensors)))
        with Archive(path) as archive:
            assert archive.entries.keys() == tensors.keys()
            for name, tensor in tensors.items():
                read = archive.read(name)
                assert read.dtype == tensor.dtype and read.shape == tensor.shape and torch.equal(read, tensor)


@given(TENSORS)
@settings(max_examples=40)
def test_safetensors_reads_what_it_writes(described: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    tensors = {name: filled(*about, seed=i) for i, (name, about) in enumerate(described.items())}
    with tempfile.TemporaryDirectory() as folder:
        path = write_archive(Path(folder) / "file", {"a": 1}, tensors)
        with zipfile.ZipFile(path) as file:
            assert file.testzip() is None and file.namelist() == [SPEC, WEIGHTS]
            assert all(i.compress_type == zipfile.ZIP_STORED for i in file.infolist())
            read = load_safetensors(file.read(WEIGHTS))
            file.extract(WEIGHTS, folder)
        assert read.keys() == tensors.keys() and all(torch.equal(read[n], t) for n, t in tensors.items())
        with safe_open(Path(folder) / WEIGHTS, "pt") as opened:  # type: ignore[no-untyped-call]
            assert set(opened.keys()) == set(tensors)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_reading_into_memory_of_any_order(tmp_path: Path, layout: torch.memory_format) -> None:
    tensor = torch.randn(4, 3, 2, 2)
    path = write_archive(tmp_path / "file", {}, {"w": tensor})
    target = torch.empty(4, 3, 2, 2).contiguous(memory_format=layout)
    with Archive(path) as archive:
        archive.read_into("w", target)
    assert torch.equal(target, tensor) and target.is_contiguous(memory_format=layout)


# -- behaviour ---------------------------------------------------------------------------------------------


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3), "a": torch.zeros(2)}
    first = write_archive(tmp_path / "1", {"x": [1, 2.5, None], "y": "\ud800é"}, tensors).read_bytes()
    second = write_archive(tmp_path / "2", {"y": "\ud800é", "x": [1, 2.5, None]}, dict(reversed(tensors.items())))
    assert first == second.read_bytes()
    with Archive(tmp_path / "1") as archive:
        assert archive.spec["y"] == "\ud800é" and archive.spec["x"] == [1, 2.5, None]


def test_a_spec_may_be_spelt_otherwise(tmp_path: Path, good: bytes) -> None:
    (name, spec), weights = parts_of(good)
    told = dict(reversed(json.loads(spec).items()))
    path = tmp_path / "other"
    path.write_bytes(zipped([weights, (name, json.dumps(told, indent=7).encode())]))
    with Archive(path) as archive:
        assert archive.spec["hello"] == "you" and archive.read("w").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_what_lies_before_the_zip_is_never_read(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "prefixed"
    path.write_bytes(pickle.dumps(print) + good)
    with Archive(path) as archive:
        assert archive.read("w").sum() == 15


@pytest.mark.parametrize("spoiled", ["json", "tensors", "rename"])
def test_a_failure_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: str) -> None:
    path = write_archive(tmp_path / "file", {"n": 1}, {"w": torch.ones(2)})
    old = path.read_bytes()
    spec: dict[str, Any] = {"n": 2}
    error: type[Exception] = SaveError
    if spoiled == "json":
        spec, error = {"n": float("nan")}, ValueError
    elif spoiled == "tensors":

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("safetensors.torch.save_file", full)
    else:

        def lost(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("os.replace", lost)
    with pytest.raises(error):
        write_archive(path, spec, {"w": torch.zeros(2)})
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_as_safetensors_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(SaveError, match="No space left"):
        write_archive(tmp_path / "file", {}, {"w": torch.ones(1)})
    assert not list(tmp_path.iterdir())


def test_it_is_closed_after_a_failure(refused: Callable[..., str], tmp_path: Path, good: bytes) -> None:
    refused(good[:-30])
    (tmp_path / "bad").unlink()  # a file that is open cannot go on Windows; here pytest would warn of it


# -- bad input ---------------------------------------------------------------------------------------------


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        Archive(tmp_path / "none")
    with pytest.raises(WeightsError, match="is a folder"):
        Archive(tmp_path)


def test_a_newer_schema(refused: Callable[..., str]) -> None:
    raw = sealed(with_header({}), schema=SCHEMA + 1, easylearn="9.9")
    told = refused(raw, SchemaError)
    assert "9.9" in told and "update easylearn" in told


@pytest.mark.parametrize("schema", [None, 0, -1, True, "1", 1.0, [1], {"a": 1}])
def test_a_schema_that_is_none(refused: Callable[..., str], schema: Any) -> None:
    assert "its schema is" in refused(sealed(with_header({}), schema=schema))


def test_members(refused: Callable[..., str], good: bytes) -> None:
    spec, weights = parts_of(good)
    evil = pickle.dumps(print)
    for odd in (
        [spec],
        [weights],
        [],
        [spec, spec],
        [spec, spec, weights],
        [spec, weights, weights],
        [spec, weights, ("data.pkl", evil)],
        [spec, ("data.pkl", evil)],
        [(SPEC, evil), weights],
        [spec, (WEIGHTS, evil)],
        [("../spec.json", spec[1]), weights],
        [("/spec.json", spec[1]), weights],
        [("a/../spec.json", spec[1]), weights],
        [spec, ("..\\weights.safetensors", weights[1])],
        [("SPEC.JSON", spec[1]), weights],
        [spec, ("weights.safetensors/", weights[1])],
    ):
        refused(zipped(odd))
    for how in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "compressed" in refused(zipped([spec, weights], how))
    for raw in (b"", b"PK", evil, good + b"x", good + good[:100], good[:-1], good[1:-1]):
        refused(raw)


def test_a_bomb_costs_nothing(refused: Callable[..., str], good: bytes) -> None:
    (_, _), weights = parts_of(good)
    assert "compressed" in refused(zipped([(SPEC, b" " * 50_000_000), weights], zipfile.ZIP_DEFLATED))


def test_a_directory_of_very_many(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    raw = zipped([(f"{i}", b"") for i in range(3000)])

    def read(*_: object, **__: object) -> None:
        raise AssertionError("its directory must not be read")

    monkeypatch.setattr("zipfile.ZipFile", read)
    assert "two members" in refused(raw)


def test_members_that_overlap(refused: Callable[..., str], good: bytes) -> None:
    raw = bytearray(good)
    directory = raw.index(b"PK\x01\x02")
    second = raw.index(b"PK\x01\x02", directory + 4)
    for field in (20, 24):  # sizes of the first member, compressed and plain
        (size,) = struct.unpack_from("<I", raw, directory + field)
        struct.pack_into("<I", raw, directory + field, size + 60)
    refused(bytes(raw))
    raw = bytearray(good)
    struct.pack_into("<I", raw, second + 42, 0)  # the second is said to begin where the first does
    assert "differ" in refused(bytes(raw))


@pytest.mark.parametrize("name", [b"\xff\xfe\xfd", b"spec\x00json"])
def test_a_name_that_is_no_text(refused: Callable[..., str], good: bytes, name: bytes) -> None:
    raw = bytearray(good)
    directory = raw.index(b"PK\x01\x02")
    struct.pack_into("<H", raw, directory + 8, 0x800)  # names are UTF-8
    raw[directory + 46 : directory + 46 + len(name)] = name
    refused(bytes(raw))


def test_every_byte_is_under_a_digest_or_of_no_meaning(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "flipped"
    told = 0
    for i in range(len(good)):
        raw = bytearray(good)
        raw[i] ^= 0x20
        path.write_bytes(bytes(raw))
        try:
            with Archive(path) as archive:
                assert archive.spec["hello"] == "you" and archive.read("w").tolist() == [[0, 1, 2], [3, 4, 5]]
        except WeightsError:
            told += 1
    assert told > len(good) / 2


def test_any_length_but_the_right_one(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "cut"
    for n in range(len(good)):
        path.write_bytes(good[:n])
        with pytest.raises(WeightsError):
            Archive(path)


def test_digests(refused: Callable[..., str], good: bytes) -> None:
    (_, spec), (_, weights) = parts_of(good)
    told = json.loads(spec)
    assert "digest of its weights" in refused(zipped([(SPEC, spec), (WEIGHTS, weights[:-1] + b"\x01")]))
    told["hello"] = "me"
    assert "digest of spec.json" in refused(zipped([(SPEC, json.dumps(told).encode()), (WEIGHTS, weights)]))
    told.pop("digest")
    refused(zipped([(SPEC, json.dumps(told).encode()), (WEIGHTS, weights)]))


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b"{", b'{"what": "else"}', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000],
)
def test_a_spec_that_is_none(refused: Callable[..., str], text: bytes) -> None:
    refused(zipped([(SPEC, text), (WEIGHTS, with_header({}))]))


@pytest.mark.parametrize("deep", [65, 500, 900])
def test_a_spec_of_many_levels_runs_nothing_out_of_stack(refused: Callable[..., str], deep: int) -> None:
    nested: Any = "x"
    for _ in range(deep):
        nested = [nested]
    assert "levels" in refused(sealed(with_header({}), model=nested))


def test_a_spec_of_very_many_lists(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LISTS", 1000)
    assert "lists and objects" in refused(sealed(with_header({}), model=[[]] * 1000))


def test_a_spec_that_is_too_long(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SPEC", 1000)
    assert "bytes, more than" in refused(sealed(with_header({}), model="x" * 1000))


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"1234567",
        with_header({}, b"x"),
        with_header({"w": ONE}),
        with_header({"w": ONE}, b"1234567"),
        with_header({"w": ONE}, b"123456789"),
        with_header([]),
        with_header(b"{"),
        with_header({}, length=2**63),
        with_header({}, length=3),
        with_header(b"[" * 50_000),
        with_header(b'{"a":' * 50_000),
        with_header({"w": ONE, "v": ONE}, b"12345678"),
        with_header({"w": ONE, "v": {**ONE, "data_offsets": [4, 12]}}, b"x" * 12),
        with_header({"w": ONE, "v": {**ONE, "data_offsets": [9, 17]}}, b"x" * 17),
        with_header({"w": {**ONE, "data_offsets": [8, 0]}}, b"x" * 8),
        with_header({"w": {**ONE, "data_offsets": [-8, 0]}}, b"x" * 8),
        with_header({"w": {**ONE, "data_offsets": [0, 8, 8]}}, b"x" * 8),
        with_header({"w": {**ONE, "data_offsets": "08"}}, b"x" * 8),
        with_header({"w": {**ONE, "shape": [2.0]}}, b"x" * 8),
        with_header({"w": {**ONE, "shape": [-1, -2]}}, b"x" * 8),
        with_header({"w": {**ONE, "shape": [True, 2]}}, b"x" * 8),
        with_header({"w": {**ONE, "shape": 2}}, b"x" * 8),
        with_header({"w": {**ONE, "shape": [2**62, 4]}}, b"x" * 8),
        with_header({"w": {**ONE, "dtype": "F33"}}, b"x" * 8),
        with_header({"w": {**ONE, "dtype": ["F32"]}}, b"x" * 8),
        with_header({"w": {**ONE, "more": 1}}, b"x" * 8),
        with_header({"w": {"dtype": "F32"}}, b"x" * 8),
        with_header({"w": [2]}, b"x" * 8),
        with_header({"w": {**ONE, "shape": [0, 10**30], "data_offsets": [0, 0]}}),
        with_header({"w": {**ONE, "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}}),
    ],
)
def test_a_header_that_lies(refused: Callable[..., str], weights: bytes) -> None:
    refused(sealed(weights))


def test_a_header_of_very_many(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TENSORS", 10)
    many = {f"{i}": {**ONE, "data_offsets": [8 * i, 8 * i + 8]} for i in range(11)}
    assert "lists and objects" in refused(sealed(with_header(many, b"x" * 88)))


def test_a_file_that_is_cut_while_it_is_open(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "shrinks"
    path.write_bytes(sealed(save_safetensors({"w": torch.ones(100_000)})))
    with Archive(path) as archive:
        with open(path, "r+b") as file:
            file.truncate(50_000)
        with pytest.raises(WeightsError, match="ends inside of w"):
            archive.read("w")
