"""The items of a request, in whatever form they came: a file, a multipart form, JSON, a text, a csv."""

from __future__ import annotations

import base64
import binascii
import csv
import functools
import io
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .refusals import Limits, RefusedError, parse_json

_OPTION = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]*))')
_DEPTH = 3  # lists and objects within one another in an item: more than any needs


@dataclass(frozen=True)
class Asked:
    """Items to predict, whether it is one by itself, and whether the answer is a csv; what is no item is an error."""

    items: list[Any]
    single: bool = False
    as_csv: bool = False


def asked(kind: str, content_type: str, body: bytes, limits: Limits, columns: Collection[str] = ()) -> Asked:
    """The items in the body of a request.

    Args:
        kind: of items: "images", "table", "text" or "histories".
        content_type: what the caller calls the body.
        body: as it came.
        limits: of how many items there may be.
        columns: which are kept of a csv, beside "id"; none keeps all.

    Raises:
        RefusedError: 400 where it is damaged, 413 where it is too much, 415 where it is of another kind.
    """
    sort, boundary = _sort_of(content_type[:500])
    if not body:
        raise RefusedError(400, "the body is empty: send an image, JSON, a text or a csv")
    if sort == "application/json" or sort.endswith("+json"):
        found = _of_json(kind, parse_json(body), limits)
    elif sort == "multipart/form-data" and kind != "histories":
        found = _of_form(kind, boundary, body, limits, columns)
    elif kind == "images" and (sort.startswith("image/") or sort == "application/octet-stream"):
        found = Asked([body], single=True)
    elif sort == "text/csv" and kind not in ("images", "histories"):
        found = _of_csv(_decoded(body), limits, columns)
    elif kind == "text" and (sort == "text/plain" or sort == "application/octet-stream"):
        found = Asked([_decoded(body)], single=True)
    else:
        raise RefusedError(415, f"a body of type {sort[:60]!r} is not taken for {kind}; {_TAKEN[kind]}")
    if not found.items:
        raise RefusedError(400, "there are no items in the request")
    _refuse_more(len(found.items), limits)
    return found


@functools.lru_cache(64)
def _sort_of(content_type: str) -> tuple[str, str]:
    """The plain type in a header, and the boundary that a form has."""
    sort, options = _options(content_type)
    return sort or "application/octet-stream", options.get("boundary", "")


def _options(header: str) -> tuple[str, dict[str, str]]:
    """What a header says, and its options by name; the `email` package fails at some that nobody sends by mistake."""
    found = {m[1].lower().rstrip("*"): m[2] if m[2] is not None else m[3] for m in _OPTION.finditer(header)}
    return header.partition(";")[0].strip().lower(), {k: re.sub(r"\\(.)", r"\1", v) for k, v in found.items()}


_TAKEN = {
    "images": 'send the file itself as image/jpeg, a form with files, or JSON {"image": base64}',
    "table": "send JSON, an object for a row or a list of them, or text/csv",
    "text": "send text/plain, JSON, a text or a list of them, or text/csv",
    "histories": 'send JSON, {"history": [names]} for a person or a list of them',
}


def _of_json(kind: str, given: Any, limits: Limits) -> Asked:
    if isinstance(given, dict) and len(given) == 1:
        ((name, inner),) = given.items()
        if name in ("items", "rows", "texts", "images") and isinstance(inner, list):
            given = inner
    single = not isinstance(given, list)
    items = [given] if single else given
    _refuse_more(len(items), limits)  # first: what is in them is looked at one by one
    if any(_is_deep(item, _DEPTH) for item in items):
        raise RefusedError(400, f"an item of the JSON nests deeper than {_DEPTH}")
    return Asked([_from_base64(item) for item in items] if kind == "images" else items, single)


def _from_base64(item: Any) -> bytes | RefusedError:
    """The bytes of an image, or what is wrong with it: the others of its request are predicted all the same."""
    held = item.get("image") if isinstance(item, Mapping) else item
    if not isinstance(held, str):
        return RefusedError(422, 'in JSON an image is {"image": base64 of its file}')
    if held.startswith("data:"):
        held = held.partition(",")[2]
    try:
        return base64.b64decode(held, validate=True)
    except (binascii.Error, ValueError):
        return RefusedError(422, "the image is not base64; neither paths nor addresses are opened")


def _is_deep(given: Any, most: int) -> bool:
    """Whether lists and objects are within one another more than `most` times."""
    if not isinstance(given, list | dict):
        return False
    inner = given if isinstance(given, list) else given.values()
    return not most or any(_is_deep(x, most - 1) for x in inner if isinstance(x, list | dict))


def _refuse_more(n: int, limits: Limits) -> None:
    if n > limits.max_items:
        raise RefusedError(413, f"the request has {n:,} items; at most {limits.max_items:,} are taken")


def _of_form(kind: str, boundary: str, body: bytes, limits: Limits, columns: Collection[str]) -> Asked:
    parts = _parts(boundary, body, limits)
    files, fields = parts.files, parts.fields
    if parts.twice is not None:
        raise RefusedError(400, f"the form has the field {parts.twice[:60]!r} twice")
    if kind == "images":
        return Asked(files, single=len(files) == 1)
    if files:
        if kind == "table":
            if len(files) > 1:
                raise RefusedError(400, f"a form for a table has one csv, got {len(files)} files")
            return _of_csv(_decoded(files[0]), limits, columns)
        return Asked([_decoded(f) for f in files], single=len(files) == 1)
    if kind == "text" and list(fields) == ["text"]:
        return Asked([fields["text"]], single=True)
    return Asked([fields], single=True)


class _Parts:
    """The parts of a multipart form, as its parser finds them: files in order, fields by name."""

    def __init__(self, limits: Limits) -> None:
        self.files: list[bytes] = []
        self.fields: dict[str, str] = {}
        self.twice: str | None = None  # a field that came again
        self.has_ended = False
        self._n, self._most = 0, limits.max_items + 1000
        self._data, self._name, self._value = bytearray(), bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}

    def begin(self) -> None:
        """A part begins."""
        self._data, self._headers = bytearray(), {}
        self._n += 1
        if self._n > self._most:  # counted, for fields of one name replace each other
            raise RefusedError(413, "the form has too many parts")

    def header(self) -> None:
        """A header of a part ends."""
        if len(self._headers) > 20:
            raise RefusedError(400, "a part of the form has more than 20 headers")
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def name(self, data: bytes, start: int, stop: int) -> None:
        """Some of the name of a header."""
        self._name += data[start:stop]
        self._bound(self._name, 200)

    def value(self, data: bytes, start: int, stop: int) -> None:
        """Some of the value of a header."""
        self._value += data[start:stop]
        self._bound(self._value, 4000)

    @staticmethod
    def _bound(held: bytearray, most: int) -> None:
        if len(held) > most:
            raise RefusedError(400, "a header of the form is too long")

    def data(self, data: bytes, start: int, stop: int) -> None:
        """Some of what a part holds."""
        self._data += data[start:stop]

    def end(self) -> None:
        """A part ends."""
        _, options = _options(self._headers.get(b"content-disposition", b"").decode("utf-8", "replace"))
        if "filename" in options:
            self.files.append(bytes(self._data))
        else:
            name = options.get("name", "")
            self.twice = name if name in self.fields else self.twice
            self.fields[name] = _decoded(bytes(self._data))

    def end_all(self) -> None:
        """The last boundary was there."""
        self.has_ended = True


def _parts(boundary: str, body: bytes, limits: Limits) -> _Parts:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    found = _Parts(limits)
    try:
        parser = MultipartParser(boundary.encode("latin-1"), {
            "on_part_begin": found.begin, "on_header_field": found.name, "on_header_value": found.value,
            "on_header_end": found.header, "on_part_data": found.data, "on_part_end": found.end,
            "on_end": found.end_all,
        })  # fmt: skip
        parser.write(body)
        parser.finalize()
    except RefusedError:
        raise
    except (FormParserError, ValueError, KeyError) as error:
        raise RefusedError(400, f"the form is damaged: {error}"[:200]) from error
    if not found.has_ended:
        raise RefusedError(400, "the form has no end: its last boundary is missing")
    return found


def _of_csv(text: str, limits: Limits, columns: Collection[str]) -> Asked:
    """The rows, refused at the first that does not fit: filled up, short rows under a long line would fill memory."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, str]] = []
    try:
        names = next(reader, [])
        twice = [name for name, n in Counter(names).items() if n > 1 and name]
        if twice:
            raise RefusedError(400, f"the csv has the column {twice[0][:60]!r} twice")
        kept = [(k, name) for k, name in enumerate(names) if not columns or name == "id" or name in columns]
        for row in filter(None, reader):
            if len(row) != len(names):
                raise RefusedError(
                    400, f"row {len(rows) + 2} of the csv has another number of fields than its first line"
                )
            rows.append({name: row[k] for k, name in kept})
            if len(rows) > limits.max_items:
                raise RefusedError(413, f"the csv has more than {limits.max_items:,} rows; so many are taken")
    except csv.Error as error:
        raise RefusedError(400, f"the csv is damaged: {error}") from error
    return Asked(rows, as_csv=True)


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"the text is not in UTF-8: {error.reason} at byte {error.start}") from error
