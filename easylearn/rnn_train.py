"""2018's `fastai.rnn_train`, which has no names of its own left."""

from __future__ import annotations

from . import core
from .imports import star

__all__ = star(globals(), core)
