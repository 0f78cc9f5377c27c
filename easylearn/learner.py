"""2018's `fastai.learner`: everything of it but images and tables, and its `Learner`."""

from __future__ import annotations

from . import dataset, imports, initializers, layers, metrics07, model, sgdr
from .imports import star
from .learner07 import Learner07

Learner = Learner07
__all__ = star(globals(), imports, dataset, model, sgdr, layers, initializers, metrics07, own=["Learner"])
