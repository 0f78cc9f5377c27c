"""What a server answers instead of a prediction, and the limits that it holds callers to."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError, DataError, check_number, check_whole

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
MANY = 10
LONG = 100_000  # bytes of a body that are read in a thread
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


class RefusedError(DataError):
    """A request that is not answered with a prediction: an HTTP `status`, what was wrong and what to do."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def behind() -> RefusedError:
    """What is said where others are before a request, in the sockets of this process or in its queues."""
    return RefusedError(503, "the server is behind with what came before: come again", {"retry-after": "1"})


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Args:
        max_body: bytes of a request.
        max_pixels: of an image, read in its header before it is decoded; all images of a request may have `MANY` times
            as many.
        max_items: images, rows or texts of one request.
        max_wait: seconds that a request may have to wait for the model, as far as the queue tells; beyond it the server
            answers 503 at once.
        deadline: seconds in which header and body of a request must have come, however slowly the client sends.
        max_connections: to one worker at a time; one more is answered 503 and closed.
        max_text: characters of a text, where the model does not cut long ones itself: it computes token by token, and
            nobody can stop it.

    Raises:
        ArgumentError: one of them is no number above 0.
    """

    max_body: int = 10_000_000
    max_pixels: float = 40e6
    max_items: int = 10_000
    max_wait: float = 1.0
    deadline: float = 30.0
    max_connections: int = 4000
    max_text: int = 100_000

    def __post_init__(self) -> None:
        for name in ("max_body", "max_items", "max_connections", "max_text"):
            check_whole(name, getattr(self, name))
        for name in ("max_pixels", "max_wait", "deadline"):
            check_number(name, getattr(self, name), "above 0")

    @property
    def together(self) -> int:
        """Bytes of bodies that come, or of answers that are not read, which a worker holds at a time."""
        return 50 * self.max_body


def size_of(text: str) -> int:
    """Bytes out of "10MB", "512 KiB" or a number.

    >>> size_of("10MB"), size_of("1.5 KiB"), size_of("77")
    (10000000, 1536, 77)
    """
    return int(_measured(text, _UNITS, "a size such as 10MB"))


def seconds_of(text: str) -> float:
    """Seconds out of "500ms", "1s", "5min" or a number.

    >>> seconds_of("500ms"), seconds_of("5min"), seconds_of("2")
    (0.5, 300.0, 2.0)
    """
    return _measured(text, _SECONDS, "a time such as 500ms, 1s or 5min")


def _measured(text: str, units: dict[str, Any], what: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([a-z]*)\s*", str(text).lower())
    value = float(found[1]) * float(units.get(found[2], 0)) if found else 0.0
    if not 0 < value < math.inf:
        raise ArgumentError(f"expected {what}, got {text!r:.60}")
    return value


def parse_json(body: bytes) -> Any:
    """The JSON of a request; refused where it is none, holds NaN or Infinity or a key twice, or nests too deep.

    >>> parse_json(b'{"a": [1]}')
    {'a': [1]}
    """

    def constant(name: str) -> None:
        raise RefusedError(400, f"the JSON holds {name}, which JSON does not know; leave the key out or write null")

    # In Python, where a thread lets others run: the parser itself lets nobody in between.
    breathe: dict[str, Any] = {"parse_int": lambda text: int(text), "parse_float": lambda text: float(text)}
    try:
        more = breathe if len(body) >= LONG else {}
        return json.loads(body, parse_constant=constant, object_pairs_hook=_unique, **more)
    except UnicodeDecodeError as error:
        raise RefusedError(400, "the JSON is not in UTF-8") from error
    except RecursionError as error:
        raise RefusedError(400, "the JSON nests too deep") from error
    except ValueError as error:
        if isinstance(error, RefusedError):
            raise
        raise RefusedError(400, f"this is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; refused where it says two things of one key, of which others would take the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise RefusedError(400, f"the JSON has the key {name!r:.60} twice in an object")
    return found
