"""What is being predicted: `Task`, one final class per kind, and predictions."""

from __future__ import annotations

from .accumulate import Accumulator
from .base import LossFn, Task
from .box_predictions import BoxPrediction, BoxPredictions
from .boxes import Boxes, boxes
from .choose_threshold import choose_threshold
from .exclusive import ExclusiveTask, SingleLabel, single_label
from .image import ImagePrediction, ImageTask
from .mask import Masks, masks
from .mask_predictions import MaskPrediction, MaskPredictions
from .multi_label import MultiLabel, multi_label
from .next_token import NO_TARGET, NextToken, next_token
from .predictions import Prediction, Predictions, average_predictions
from .regression import Regression, Scale, regression

__all__ = [
    "NO_TARGET",
    "Accumulator",
    "BoxPrediction",
    "BoxPredictions",
    "Boxes",
    "ExclusiveTask",
    "ImagePrediction",
    "ImageTask",
    "LossFn",
    "MaskPrediction",
    "MaskPredictions",
    "Masks",
    "MultiLabel",
    "NextToken",
    "Prediction",
    "Predictions",
    "Regression",
    "Scale",
    "SingleLabel",
    "Task",
    "average_predictions",
    "boxes",
    "choose_threshold",
    "masks",
    "multi_label",
    "next_token",
    "regression",
    "single_label",
]
