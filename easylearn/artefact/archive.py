"""One file for a whole model: a zip of `spec.json` and `weights.safetensors`, nothing in it compressed or executable.

Everything is checked before anything is allocated: names and sizes of the members, the header of the tensors against
what the model wants, and digests of all bytes. Tensors are then read into the model's own memory, one at a time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..errors import SchemaError, WeightsError
from ..files import StrPath, as_path, atomic_write

SCHEMA = 2
SPEC, WEIGHTS = "spec.json", "weights.safetensors"
WHAT = "easylearn model"
MOST_SPEC = 32 * 2**20  # bytes, which cost some nine times as much to read; a million words take 20 MB
MOST_HEADER = 16 * 2**20  # bytes; ten thousand tensors take 2 MB
MOST_DIRECTORY = 4096  # bytes; that of two members takes 200
MOST_LISTS = 2**20  # lists and objects in JSON: read, an empty one takes 20 times the bytes that it is written with
MOST_TENSORS = 2**16
MOST_LEVELS = 64  # of lists in lists; nothing may run out of stack with what was read
MOST_NUMBERS = 2**60  # in a tensor, empty dimensions left aside
_CHUNK = 2**20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same model gives the same bytes at any time

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """The type, the shape and the bytes of a tensor in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int  # its first byte, from the beginning of the file
    size: int  # in bytes


def write_archive(path: StrPath, spec: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a model file, whole or not at all, and give its path.

    `spec` is what JSON can hold; digests are added. Tensors are on the CPU, contiguous, with bytes of their own.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_write(path) as temporary, ExitStack() as stack:
        beside = temporary.with_name(temporary.name + ".tensors")
        stack.callback(lambda: beside.unlink(missing_ok=True))
        try:
            save_file(dict(tensors), beside)
        except SafetensorError as error:  # its own name for a full disk
            raise OSError(None, str(error)) from error
        with open(beside, "rb") as file:
            weights_digest = _digest_of(file, os.fstat(file.fileno()).st_size)
        full = {"what": WHAT, "schema": SCHEMA, **spec, "weights": weights_digest}
        full["digest"] = _spec_digest(full)
        text = json.dumps(full, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(SPEC, _EPOCH), text.encode("utf-8", "surrogatepass"))
            info = zipfile.ZipInfo(WEIGHTS, _EPOCH)
            with open(beside, "rb") as source, archive.open(info, "w", force_zip64=True) as member:
                while chunk := source.read(_CHUNK):
                    member.write(chunk)
    return Path(path)


class Archive:
    """A model file, opened and checked; use it in a `with` block.

    A file that is none or damaged raises `WeightsError` before anything large is allocated.

    Attributes:
        spec: what the file says of the model.
        entries: its tensors by name.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = as_path(path, "a model file")
        if not self.path.is_file():
            what = "is a folder, not a file" if self.path.is_dir() else "does not exist"
            near = self.path.with_name(self.path.name + ".easylearn")
            hint = f"; did you mean {near}?" if near.exists() else ""
            raise WeightsError(f"the model file {self.path} {what}{hint}")
        if self.path.suffix == ".safetensors":
            raise WeightsError(
                f"{self.path} holds weights alone, as learn.save writes them: make the learner again and call "
                "learn.load(name), or write a whole model with learn.export(path)"
            )
        if self.path.suffix.lower() == ".onnx" and not zipfile.is_zipfile(self.path):
            raise WeightsError(
                f"{self.path} is an ONNX file, which easylearn writes and does not read back: onnxruntime runs it, and "
                "`easylearn serve` answers with it. To go on here, export the learner again with "
                'learn.export("model.easylearn")'
            )
        self._file: IO[bytes] = open(self.path, "rb")  # noqa: SIM115 - closed by `__exit__`
        with ExitStack() as stack:
            stack.callback(self._file.close)
            try:
                members = self._members()
                self.spec = self._read_spec(*members[SPEC])
                begin, size = members[WEIGHTS]
                self._file.seek(begin)
                if _digest_of(self._file, size) != self.spec["weights"]:
                    raise self._damaged("the digest of its weights differs")
                self.entries = self._read_header(begin, size)
            except (OSError, zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OverflowError) as error:
                raise self._damaged(str(error)) from error
            stack.pop_all()  # nothing was wrong: it stays open

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read_into(self, name: str, target: Tensor) -> None:
        """Read a tensor into one of the same shape and type, without a second copy if that is contiguous."""
        entry = self.entries[name]
        plain = target.device.type == "cpu" and target.is_contiguous()
        into = target.detach() if plain else torch.empty(entry.shape, dtype=entry.dtype)
        if entry.size:
            self._file.seek(entry.begin)
            view = into.reshape(-1).view(torch.uint8).numpy().data
            if self._file.readinto(view) != entry.size:  # type: ignore[attr-defined]
                raise self._damaged(f"it ends inside of {name}")
        if not plain:
            with torch.no_grad():
                target.copy_(into)

    def read(self, name: str) -> Tensor:
        """A tensor of the file, in newly allocated memory."""
        out = torch.empty(self.entries[name].shape, dtype=self.entries[name].dtype)
        self.read_into(name, out)
        return out

    def _at(self, place: int, size: int) -> bytes:
        self._file.seek(place)
        return self._file.read(size)

    def _damaged(self, why: str) -> WeightsError:
        return WeightsError(
            f"{self.path} is not a whole model file of easylearn ({why}). Copy or export it again; weights alone "
            "(.safetensors) are read by learn.load"
        )

    def _members(self) -> dict[str, tuple[int, int]]:
        """First byte and size of the two members; a file with others is refused."""
        total = os.fstat(self._file.fileno()).st_size
        self._check_directory(total)
        with zipfile.ZipFile(self._file) as archive:
            infos = archive.infolist()
            names = sorted(i.filename for i in infos)
            if names != [SPEC, WEIGHTS]:
                raise self._damaged(f"it should hold {SPEC} and {WEIGHTS}, but holds {names[:5]}")
            found = {}
            for info in infos:
                plain = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
                if not plain or info.flag_bits & 1:
                    raise self._damaged(f"{info.filename} is compressed or encrypted")
                archive.open(info).close()  # compares the member's own header with the directory
                # which may have other lengths of name and extra field
                name_size, extra_size = struct.unpack("<HH", self._at(info.header_offset + 26, 4))
                begin = info.header_offset + 30 + name_size + extra_size
                if begin + info.file_size > total:
                    raise self._damaged(f"{info.filename} is cut short")
                found[info.filename] = (begin, info.file_size)
        (a, size), (b, _) = sorted(found.values())
        if a + size > b:
            raise self._damaged("its members overlap")
        return found

    def _check_directory(self, total: int) -> None:
        """Refuse a directory of more than two members: zipfile would read it whole, at many times its size."""
        end = self._at(total - 22, 22)
        n_members, size = struct.unpack("<HI", end[10:16])
        if end[:4] != b"PK\x05\x06" or n_members != 2 or size > MOST_DIRECTORY:
            raise self._damaged("it does not end as a zip file of two members")
        locator = self._at(total - 42, 20) if total >= 42 else b""
        if locator[:4] == b"PK\x06\x07":
            (place,) = struct.unpack("<Q", locator[8:16])
            record = self._at(place, 56)
            if record[:4] != b"PK\x06\x06" or struct.unpack("<QQ", record[32:48]) != (2, size):
                raise self._damaged("its two directories differ")

    def _read_spec(self, begin: int, size: int) -> dict[str, Any]:
        if size > MOST_SPEC:
            raise self._damaged(f"{SPEC} has {size:,} bytes, more than {MOST_SPEC:,}")
        spec = self._json(SPEC, self._at(begin, size), MOST_LISTS)
        if not isinstance(spec, dict) or spec.get("what") != WHAT:
            raise self._damaged(f"{SPEC} does not say that it is a model")
        schema = spec.get("schema")
        if type(schema) is not int or schema < 1:
            raise self._damaged(f"its schema is {str(schema)[:50]!r}")
        if schema > SCHEMA:
            raise SchemaError(
                f"{self.path} was written by a newer easylearn ({str(spec.get('easylearn'))[:50]}, schema {schema}); "
                f"this one reads up to schema {SCHEMA}: update easylearn"
            )
        if spec.pop("digest", None) != _spec_digest(spec):
            raise self._damaged(f"the digest of {SPEC} differs")
        return spec

    def _json(self, what: str, text: bytes, most: int) -> Any:
        """The value of a JSON text; one that is nested deeply or has very many parts is refused."""
        if text.count(b"[") + text.count(b"{") > most:
            raise self._damaged(f"{what} has more than {most:,} lists and objects")
        try:
            value = json.loads(text.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise self._damaged(f"{what} is not JSON: {error}") from error
        if _is_deep([value]):
            raise self._damaged(f"{what} has more than {MOST_LEVELS} levels")
        return value

    def _read_header(self, begin: int, size: int) -> dict[str, Entry]:
        """The tensors that a safetensors file announces, with every byte accounted for."""
        (length,) = struct.unpack("<Q", self._at(begin, 8))
        if length > min(size - 8, MOST_HEADER):
            raise self._damaged(f"{WEIGHTS} announces a header of {length:,} bytes")
        header = self._json(f"the header of {WEIGHTS}", self._at(begin + 8, length), 3 * MOST_TENSORS)
        if not isinstance(header, dict):
            raise self._damaged(f"the header of {WEIGHTS} is a {type(header).__name__}")
        header.pop("__metadata__", None)
        data = place = begin + 8 + length
        entries = {name: self._entry(name, given, data) for name, given in header.items()}
        for first, n in sorted((e.begin, e.size) for e in entries.values()):
            if first != place:
                raise self._damaged(f"the tensors of {WEIGHTS} overlap, or leave bytes between them")
            place += n
        if place != begin + size:
            raise self._damaged(f"{WEIGHTS} should end at byte {place - begin:,}, but has {size:,} bytes")
        return entries

    def _entry(self, name: str, given: Any, data: int) -> Entry:
        try:
            shape, (first, last), dtype = given["shape"], given["data_offsets"], _DTYPES[given["dtype"]]
            fits = (
                given.keys() == {"dtype", "shape", "data_offsets"}
                and isinstance(shape, list)
                and all(type(n) is int and n >= 0 for n in (*shape, first, last))
                and math.prod(max(n, 1) for n in shape) <= MOST_NUMBERS  # also where an empty dimension makes it 0
                and math.prod(shape) * dtype.itemsize == last - first
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            fits = False
        if not fits:
            raise self._damaged(f"the header of {WEIGHTS} has a wrong entry for {name[:100]!r}: {str(given)[:150]}")
        return Entry(dtype, tuple(shape), data + first, last - first)


def _is_deep(value: Any, most: int = MOST_LEVELS + 1) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    return not most or any(_is_deep(part, most - 1) for part in parts if isinstance(part, dict | list))


def _digest_of(file: IO[bytes], size: int) -> str:
    state = hashlib.blake2b(digest_size=16)
    while size > 0:
        chunk = file.read(min(_CHUNK, size))
        if not chunk:
            raise OSError(f"{size:,} bytes are missing")
        size -= len(chunk)
        state.update(chunk)
    return state.hexdigest()


def _spec_digest(spec: Mapping[str, Any]) -> str:
    """A digest of the values of a spec; reformatting its JSON does not change it."""
    plain = {k: v for k, v in spec.items() if k != "digest"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
