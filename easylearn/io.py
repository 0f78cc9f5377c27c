"""2018's `fastai.io`: fetching a file once."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from .files import StrPath
from .imports import load_names


def get_data(url: str, filename: StrPath) -> None:
    """Download `url` as the file `filename`, unless that is there."""
    if not Path(filename).exists():
        Path(filename).parent.mkdir(parents=True, exist_ok=True)
        urllib.request.urlretrieve(url, filename)


_names = load_names("gzip | urllib.request: urlretrieve")
globals().update(_names)
__all__ = ["get_data", *_names]
