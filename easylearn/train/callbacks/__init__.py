"""Callbacks that come with easylearn."""

from __future__ import annotations

from .average import WeightAverage
from .early_stopping import EarlyStopping
from .guard import LossGuard
from .mix import CutMix, MixUp
from .plateau import ReduceLROnPlateau
from .progress import Progress
from .save import SaveBest, SaveCycles
from .scheduler import Scheduler

__all__ = [
    "CutMix", "EarlyStopping", "LossGuard", "MixUp", "Progress", "ReduceLROnPlateau", "SaveBest", "SaveCycles",
    "Scheduler", "WeightAverage",
]  # fmt: skip
