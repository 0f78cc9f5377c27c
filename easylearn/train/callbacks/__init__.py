"""Callbacks that come with easylearn."""

from __future__ import annotations

from .average import WeightAverage
from .guard import LossGuard
from .mix import CutMix, MixUp
from .patience import EarlyStopping, ReduceLROnPlateau
from .progress import Progress
from .prune import Prune
from .save import KeepBest, SaveBest, SaveCycles
from .scheduler import Scheduler

__all__ = [
    "CutMix", "EarlyStopping", "KeepBest", "LossGuard", "MixUp", "Progress", "Prune", "ReduceLROnPlateau",
    "SaveBest", "SaveCycles", "Scheduler", "WeightAverage",
]  # fmt: skip
