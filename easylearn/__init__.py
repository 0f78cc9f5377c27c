"""easylearn: from your files to a well-trained model in a few lines, on PyTorch.

from easylearn import *

data = ImageData.from_folder("dogscats", size=224, augment="side_on")
learn = vision_learner(data, "resnet34", precompute=True)
learn.fit(1e-2, 3, cycle_len=1, cycle_mult=2)
learn.unfreeze()
learn.fit([1e-4, 1e-3, 1e-2], 3)
probs, targets = learn.tta()
"""

from __future__ import annotations

from . import losses, metrics, schedules
from .analysis.drawings import plot_confusion, plot_worst
from .analysis.interpret import Interpretation
from .artefact.predictor import Predictor
from .data.bunch import Data
from .data.folds import Folds, folds
from .data.loaders import LoaderData, TensorData
from .data.order import Batch, Loader
from .errors import ArgumentError, DataError, EasyLearnError, EasyLearnWarning, SaveError, StateError, WeightsError
from .experiment.audit import audit
from .experiment.blend import Blend, blend
from .experiment.certainty import interval, spread, versus
from .experiment.compare import Runs, TrackedRun, compare
from .experiment.cross_fit import Crossed, cross_fit
from .experiment.found import Found
from .experiment.reproduce import Reproduction, reproduce
from .experiment.search import search
from .experiment.submit import pseudo_label, snapshots, submit
from .experiment.track import Track
from .experiment.trackers import MLflow, TensorBoard, WandB
from .experiment.tuned import tune_thresholds
from .export import load_learner, load_predictor
from .learning import Learner
from .mask_metrics import dice, mean_iou, pixel_accuracy
from .metrics import Metric, accuracy, error_rate, f1, f_beta, mae, perplexity, rmse, rmspe, roc_auc, top_k
from .multi.data import MultiData
from .multi.learner import branch_learner, multi_learner
from .multi.scores import branches
from .nn.awd_lstm import Drops
from .nn.body_head import BodyHead
from .nn.groups import LayerGroup
from .nn.heads import pooled_head
from .nn.registry import register
from .ranked import coverage_at, ndcg_at, recall_at
from .recommenders.ask import against, item_vectors, plot_items, recommend, similar
from .recommenders.data import InteractionData
from .recommenders.learner import recommender
from .schedules import Schedule
from .tabular.collab import CollabData, collab_learner
from .tabular.data import TabularData
from .tabular.embeddings import EntityEmbedder, embeddings, plot_embeddings
from .tabular.features import add_datepart, elapsed_since, rolling_windows
from .tabular.interpret import partial_dependence, permutation_importance
from .tabular.learner import tabular_learner
from .task import (
    ExclusiveTask,
    Prediction,
    Predictions,
    Task,
    average_predictions,
    choose_threshold,
    multi_label,
    next_token,
    ranking,
    regression,
    single_label,
)
from .texts.bodies import TextBody
from .texts.callbacks import ActivationPenalty, RateByLength, SampledSoftmax
from .texts.contrast import contrast
from .texts.data import TextData, TextLMData
from .texts.generate import generate
from .texts.interpret import occlusion
from .texts.learner import language_model_learner, text_classifier_learner
from .texts.tokenize import SubwordTokenizer, WordTokenizer
from .texts.transfer import load_encoder, save_encoder
from .texts.vocab import Vocab
from .texts.word_model import word_model
from .train.callback import Callback
from .train.callbacks import (
    CutMix,
    EarlyStopping,
    KeepBest,
    MixUp,
    Prune,
    ReduceLROnPlateau,
    SaveBest,
    SaveCycles,
    WeightAverage,
)  # fmt: skip
from .train.optim import adamw, sgd
from .train.processes import launch
from .train.record import Record
from .train.state import Pause, Run
from .train.strategy import SingleDevice, Strategy
from .vision.archs import arch_names, get_arch
from .vision.augment import Dihedral, Erase, Flip, Light, RandomResizedCrop, Rotate, Shift, Transform, Zoom
from .vision.boxes_data import BoxData
from .vision.boxes_learner import detection_learner, detection_model
from .vision.data import ImageData
from .vision.gradcam import grad_cam, plot_grad_cam
from .vision.image2image import Image2ImageData, image2image_learner, make_image
from .vision.learner import vision_learner
from .vision.mask_learner import segmentation_learner, segmentation_model
from .vision.masks import MaskData
from .vision.model import vision_model
from .vision.policies import Blur, Hue, Perspective, RandAugment, Saturation, TrivialAugment

__version__ = "0.1.0"

__all__ = [
    "ActivationPenalty", "ArgumentError", "Batch", "Blend", "Blur", "BodyHead", "BoxData", "Callback", "CollabData",
    "Crossed", "CutMix", "Data", "DataError", "Dihedral", "Drops", "EarlyStopping", "EasyLearnError",
    "EasyLearnWarning", "EntityEmbedder", "Erase", "ExclusiveTask", "Flip", "Folds", "Found", "Hue", "Image2ImageData",
    "ImageData", "InteractionData", "Interpretation", "KeepBest", "LayerGroup", "Learner", "Light", "Loader",
    "LoaderData", "MLflow", "MaskData", "Metric", "MixUp", "MultiData", "Pause", "Perspective", "Prediction",
    "Predictions", "Predictor", "Prune", "RandAugment", "RandomResizedCrop", "RateByLength", "Record",
    "ReduceLROnPlateau", "Reproduction", "Rotate", "Run", "Runs", "SampledSoftmax", "Saturation", "SaveBest",
    "SaveCycles", "SaveError", "Schedule", "Shift", "SingleDevice", "StateError", "Strategy", "SubwordTokenizer",
    "TabularData", "Task", "TensorBoard", "TensorData", "TextBody", "TextData", "TextLMData", "Track", "TrackedRun",
    "Transform", "TrivialAugment", "Vocab", "WandB", "WeightAverage", "WeightsError", "WordTokenizer", "Zoom",
    "accuracy", "adamw", "add_datepart", "against", "arch_names", "audit", "average_predictions", "blend",
    "branch_learner", "branches", "choose_threshold", "collab_learner", "compare", "contrast", "coverage_at",
    "cross_fit", "detection_learner", "detection_model", "dice", "elapsed_since", "embeddings", "error_rate", "f1",
    "f_beta", "folds", "generate", "get_arch", "grad_cam", "image2image_learner", "interval", "item_vectors",
    "language_model_learner", "launch", "load_encoder", "load_learner", "load_predictor", "losses", "mae", "make_image",
    "mean_iou", "metrics", "multi_label", "multi_learner", "ndcg_at", "next_token", "occlusion", "partial_dependence",
    "permutation_importance", "perplexity", "pixel_accuracy", "plot_confusion", "plot_embeddings", "plot_grad_cam",
    "plot_items", "plot_worst", "pooled_head", "pseudo_label", "ranking", "recall_at", "recommend", "recommender",
    "register", "regression", "reproduce", "rmse", "rmspe", "roc_auc", "rolling_windows", "save_encoder", "schedules",
    "search", "segmentation_learner", "segmentation_model", "sgd", "similar", "single_label", "snapshots", "spread",
    "submit", "tabular_learner", "text_classifier_learner", "top_k", "tune_thresholds", "versus", "vision_learner",
    "vision_model", "word_model",
]  # fmt: skip
