"""The public surface, frozen: growing it is a decision that somebody sees. Change these lists with the code."""

from __future__ import annotations

import dataclasses
import inspect

import easylearn
from easylearn.analysis.interpret import Calibration, Interpretation
from easylearn.analysis.plots import SchedPlots
from easylearn.data.bunch import BlankData, Data
from easylearn.data.loaders import TensorPreprocessor
from easylearn.data.order import Batch, Loader, Source
from easylearn.data.preprocess import Preprocessor
from easylearn.experiment import Audit, Difference, Interval, Spread, Tuned
from easylearn.export import Predictor
from easylearn.learning import Learner
from easylearn.serve import Limits, asgi
from easylearn.task import ExclusiveTask, Prediction, Predictions, Task, regression
from easylearn.texts.interpret import Occlusion
from easylearn.train.callback import HOOKS, Callback
from easylearn.train.finder import LRCurve
from easylearn.train.plan import FitPlan
from easylearn.train.record import Record
from easylearn.train.state import Run
from easylearn.train.strategy import SingleDevice, Strategy


def public(kind: type) -> set[str]:
    return {n for n in dir(kind) if not n.startswith("_")} - set(dir(object))


def arguments(function: object) -> list[str]:
    return [n for n in inspect.signature(function).parameters if n != "self"]  # type: ignore[arg-type]


def test_learner() -> None:
    methods = {
        "baseline",
        "export",
        "interpret",
        "report",
        "bn_freeze",
        "fine_tune",
        "fit",
        "fit_one_cycle",
        "freeze",
        "freeze_to",
        "load",
        "lr_find",
        "plan",
        "predict",
        "resume",
        "save",
        "set_data",
        "summary",
        "tta",
        "unfreeze",
        "validate",
    }
    properties = {"data", "epochs_done", "layer_groups", "model", "precompute", "record", "sched", "strategy"}
    attributes = {
        "callbacks",
        "optimizer",
        "path",
        "progress",
        "seed",
        "task",
        "wd",
    }
    assert public(Learner) == methods | properties | attributes
    assert {n for n in public(Learner) if isinstance(inspect.getattr_static(Learner, n), property)} == properties
    assert Learner.__bases__ == (object,) and all(
        k.__module__ == "easylearn.learner07" for k in Learner.__subclasses__()
    )


def test_arguments_of_the_learner() -> None:
    expected = {
        "fit": "lr n cycle_len cycle_mult epochs schedule momentum wd save_best save_cycles callbacks checkpoint every"
        " keep go_on",
        "plan": "lr n cycle_len cycle_mult epochs schedule momentum wd save_best save_cycles callbacks checkpoint every"
        " keep go_on",
        "fit_one_cycle": "lr n pct_start div div_final momentum wd save_best callbacks checkpoint every keep go_on",
        "resume": "checkpoint schedule momentum callbacks same_data",
        "fine_tune": "epochs lr frozen_epochs spread callbacks",
        "lr_find": "start_lr end_lr lr n_steps",
        "freeze": "names",
        "unfreeze": "names",
        "freeze_to": "k",
        "interpret": "split",
        "report": "path name",
        "bn_freeze": "frozen",
        "predict": "items split on_error",
        "tta": "n_aug split",
        "validate": "split",
        "set_data": "data",
        "save": "name",
        "export": "path format quantize prune",
        "load": "name",
    }
    for name, names in expected.items():
        assert arguments(getattr(Learner, name)) == names.split(), name
    assert arguments(Learner) == [
        "data",
        "model",
        "groups",
        "bn_freeze",
        "precompute",
        "optimizer",
        "metrics",
        "loss",
        "label_smoothing",
        "threshold",
        "wd",
        "clip",
        "accumulate",
        "precision",
        "compile",
        "device",
        "lanes",
        "exact",
        "shard",
        "strategy",
        "seed",
        "path",
        "callbacks",
        "progress",
    ]


def test_hooks_and_callback() -> None:
    assert HOOKS == (
        "on_fit_begin",
        "on_epoch_begin",
        "on_batch_begin",
        "on_loss",
        "on_grads",
        "on_batch_end",
        "on_validate_begin",
        "on_validate_end",
        "on_epoch_end",
        "on_fit_end",
    )
    assert public(Callback) == {*HOOKS, "changes_steps", "state_dict", "load_state_dict"}


def test_run() -> None:
    names = [
        "model",
        "task",
        "optimizer",
        "strategy",
        "groups",
        "train_loader",
        "valid_loader",
        "record",
        "rates",
        "schedule",
        "momentum",
        "n_steps",
        "seed",
        "first_epoch",
        "freeze_stats",
        "cycle_ends",
        "save",
        "saved_best",
        "context",
        "callbacks",
        "resumed",
        "step",
        "epoch",
        "batch",
        "logits",
        "loss",
        "metrics",
        "stop_reason",
        "steps_per_epoch",
    ]
    assert [f.name for f in dataclasses.fields(Run)] == names
    assert public(Run) - set(names) == {"n_epochs", "batch_in_epoch", "life_epoch", "train_mode"}


def test_data() -> None:
    members = {
        "adopt",
        "at_most",
        "classes",
        "describe_item",
        "draw_item",
        "draw_said",
        "draws_beside",
        "fingerprint",
        "for_model",
        "has_views",
        "item_keys",
        "ids",
        "loader",
        "notes",
        "places",
        "plain_inputs",
        "resized",
        "splits",
        "suited_epochs",
    }
    assert public(Data) == members  # and what each object holds:
    assert set(vars(BlankData(regression(), 1, TensorPreprocessor()))) == {
        "task",
        "batch_size",
        "preprocessor",
        "_splits",
    }
    assert Data.__abstractmethods__ == {"fingerprint", "ids", "loader"}
    assert public(Preprocessor) == {
        "check_model",
        "complete",
        "for_model",
        "from_recipe",
        "is_file",
        "n_views",
        "order",
        "places",
        "read",
        "read_file",
        "recipe",
        "runtime_inputs",
        "source",
        "undo_view",
        "views",
    }
    assert Preprocessor.__abstractmethods__ == {"read", "source"}
    assert public(Source) == {"fetch", "stream", "with_targets"} and Source.__abstractmethods__ == {"__len__", "fetch"}
    assert arguments(Loader.batches) == ["device", "seed", "epoch", "start", "shard"]
    assert [f.name for f in dataclasses.fields(Batch)] == ["inputs", "target", "index"]


def test_results() -> None:
    assert public(Record) == {
        "add_step",
        "column",
        "end_epoch",
        "last",
        "last_loss",
        "load_state_dict",
        "losses",
        "momentum",
        "of",
        "rates",
        "state_dict",
        "to_frame",
    }
    assert public(SchedPlots) == {"losses", "lrs", "plot", "plot_loss", "plot_losses", "plot_lr"}
    assert [f.name for f in dataclasses.fields(LRCurve)] == [
        "rates",
        "losses",
        "smooth",
        "suggestion",
        "reason",
        "record",
    ]
    assert [f.name for f in dataclasses.fields(Prediction)] == ["label", "index", "probs", "names", "place"]
    assert public(Prediction) == {"of", "place", "rows", "to_dict"}  # of its fields the class holds what has a default
    assert public(Predictions) == {"classes", "of", "places", "to_dict", "to_frame", "top"}
    fields = ["probs", "targets", "ids", "labels", "views", "task", "errors", "places"]
    assert [f.name for f in dataclasses.fields(Predictions)] == fields
    assert public(Interpretation) == {
        "calibration",
        "confusion_matrix",
        "most_confused",
        "plot_calibration",
        "plot_confusion",
        "plot_predictions",
        "plot_top_losses",
        "report",
        "residuals",
        "top_losses",
        "worst",
    }
    assert [f.name for f in dataclasses.fields(Calibration)] == ["table", "error"]
    assert [f.name for f in dataclasses.fields(Occlusion)] == ["tokens", "effects", "label", "value"]
    fields = ["rates", "schedule", "momentum", "cycle_ends", "steps_per_epoch"]
    assert [f.name for f in dataclasses.fields(FitPlan)] == fields and public(FitPlan) == {"n_epochs", "n_steps"}


def test_task() -> None:
    """What a kind of task of one's own must and may say."""
    must = {"activate", "check_target", "decode", "default_metrics", "own_item_losses"}
    may = {
        "activate_in_graph",
        "alike",
        "averaged",
        "by_name",
        "calibrated",
        "classes",
        "column",
        "compared",
        "confusions",
        "count_classes",
        "decode_target",
        "difference",
        "first_outputs",
        "fitted",
        "in_table",
        "in_units_of",
        "in_words",
        "index",
        "instead",
        "is_exclusive",
        "is_multi",
        "is_ranking",
        "is_squared",
        "is_streamed",
        "item_columns",
        "lowest",
        "may_have_own_loss",
        "n_out",
        "noun",
        "of_pixels",
        "outputs_for",
        "outputs_of",
        "prediction",
        "predictions",
        "row",
        "row_names",
        "own_loss",
        "predicts_numbers",
        "soft_target",
        "sorts_outputs",
        "summary",
        "takes",
        "title",
    }
    given = {
        "accumulator",
        "configured",
        "from_json",
        "item_losses",
        "loss",
        "loss_fn",
        "metrics",
        "same_as",
        "settings",
        "smoothed",
        "to_json",
        "with_loss",
        "with_metrics",
        "with_threshold",
    }
    assert Task.__abstractmethods__ == must and public(Task) == must | may | given
    assert ExclusiveTask.__abstractmethods__ == {"activate", "own_item_losses"}
    assert public(ExclusiveTask) - public(Task) == {"class_numbers"}
    assert [f.name for f in dataclasses.fields(Task)] == ["names", "metrics", "loss_fn"]


def test_the_seam_for_devices() -> None:
    methods = {
        "agree",
        "arithmetic",
        "backward",
        "batches",
        "decide",
        "evaluating",
        "finish_grads",
        "forward",
        "forward_loss",
        "gather",
        "is_main",
        "load_state_dict",
        "must_step",
        "once",
        "outputs",
        "place",
        "reset",
        "scales_loss",
        "state_dict",
        "step",
        "stepped",
        "together",
    }
    settings = {"accumulate", "clip", "device", "gate", "lanes", "precision", "rank", "world"}
    assert public(Strategy) == methods and set(Strategy.__annotations__) == settings
    assert public(SingleDevice) | set(vars(SingleDevice("cpu"))) >= methods | settings


def test_what_is_exported_is_what_is_named() -> None:
    bound = {n for n in vars(easylearn) if not n.startswith("_") and not inspect.ismodule(vars(easylearn)[n])}
    modules = {n for n in easylearn.__all__ if inspect.ismodule(getattr(easylearn, n))}
    assert set(easylearn.__all__) - modules == bound - {"annotations"}
    assert modules == {"losses", "metrics", "schedules"}
    assert easylearn.__all__ == sorted(easylearn.__all__) and len(set(easylearn.__all__)) == len(easylearn.__all__)


def test_predictor() -> None:
    methods = {"predict", "stream", "to_csv", "tta"}
    held = {"batch_size", "classes", "info", "model", "preprocessor", "progress", "strategy", "task"}
    assert public(Predictor) == methods | held
    assert arguments(easylearn.load_predictor) == ["path", "model", "device"]
    assert arguments(easylearn.load_learner) == [
        "path",
        "data",
        "model",
        "metrics",
        "callbacks",
        "device",
        "models",
        "progress",
    ]


def test_folds_and_blends() -> None:
    crossed = {"plan", "oof", "test", "metric", "parts", "engine", "jobs"}
    assert public(easylearn.Crossed) | crossed == {*crossed, "export", "learners", "score", "table"}
    blend = {"members", "how", "weights", "oof", "test", "metric", "ranks"}
    assert public(easylearn.Blend) | blend == {*blend, "export", "plan", "score", "table"}
    names = "make plan fit folder p seeds seed test metric workers check progress callbacks"
    assert arguments(easylearn.cross_fit) == names.split()
    assert arguments(easylearn.blend) == ["members", "how", "metric"]
    assert arguments(easylearn.submit) == ["predictions", "sample", "path", "value", "positive"]
    assert arguments(easylearn.pseudo_label) == ["crossed", "at_least", "fold"]
    assert arguments(easylearn.snapshots) == ["learn", "name", "split"]
    assert arguments(easylearn.tune_thresholds) == ["crossed", "metric", "per_label"]
    assert arguments(easylearn.interval) == ["predictions", "metric", "groups", "level", "draws", "seed"]
    assert arguments(easylearn.versus) == ["one", "other", "metric", "groups", "level", "draws", "seed"]
    assert arguments(easylearn.spread) == ["make", "fit", "p", "seeds", "folder", "metric", "workers", "progress"]
    assert arguments(easylearn.audit) == ["data", "plan", "target", "groups", "times", "test", "fold", "cheap", "seed"]
    assert public(Audit) | {"findings"} == {"findings", "leaks", "table"}
    assert [f.name for f in dataclasses.fields(Interval)] == ["value", "low", "high", "level"]
    assert [f.name for f in dataclasses.fields(Difference)] == ["value", "low", "high", "level", "p", "name"]
    assert public(Difference) - public(Interval) - {"p", "name"} == {"distinguishable"}
    assert public(Spread) | {"metric", "values", "by_items"} >= {"mean", "deviation", "unstable"}
    assert [f.name for f in dataclasses.fields(Tuned)] == ["threshold", "score"]
    assert public(easylearn.Folds) >= {"held_out", "fingerprint"}


def test_several_inputs() -> None:
    own = "with_branches loader_of present here from_df"
    assert public(easylearn.MultiData) - public(Data) == set(own.split())
    given = [n for n in arguments(easylearn.multi_learner) if n not in arguments(Learner)]
    assert given == ["image", "text", "table", "fuse", "width"]
    assert arguments(easylearn.branches) == ["learn", "split", "metric", "draws", "seed"]
    assert arguments(easylearn.branch_learner) == ["learn", "name"]


def test_serving() -> None:
    assert arguments(asgi) == ["model", "limits", "hosts", "token", "counters"]
    assert [f.name for f in dataclasses.fields(Limits)] == [
        "max_body",
        "max_pixels",
        "max_items",
        "max_wait",
        "deadline",
        "max_connections",
        "max_text",
    ]
