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

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .public import *
else:

    def __getattr__(name: str) -> object:
        """A public name or a module, imported when it is first asked for: `easylearn --help` needs no torch."""
        from importlib import import_module

        if name in __all__ and name not in ("losses", "metrics", "schedules"):
            public = import_module(".public", __name__)
            globals().update((known, getattr(public, known)) for known in __all__)
            return globals()[name]
        try:
            if not name.startswith("_"):
                found = import_module(f".{name}", __name__)
                if getattr(found, "__path__", None):  # the modules of a package are there, too
                    import_module(".public", __name__)
                return found
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
        from .errors import did_you_mean

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. {did_you_mean(name, __all__)}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


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
