"""Write a trained model as one file, in easylearn's own format or for another runtime, and report what it cost."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from ..errors import ArgumentError, SaveError, StateError
from ..files import StrPath, as_path, atomic_write
from ..nn.pruning import is_large, prunable, smallest
from ..nn.registry import own_parts
from ..train.sharded import in_one_piece
from .archive import Archive
from .check_items import WITHIN, WITHIN_ROUNDED
from .measure import ExportReport, Format, Quantize, TrainedModel, first_batch, measure
from .model_file import describe_task, library_versions, load_model, write_model
from .pack import How, pack, unpack
from .runtimes import write_runtime
from .self_check import describe_inputs, run_model, written_check


def write_export(
    path: StrPath, trained: TrainedModel, format: Format = "easylearn", quantize: Quantize = None,
    prune: float | None = None,
) -> ExportReport:  # fmt: skip
    """Write a trained model to a file; see `Learner.export` for the arguments."""
    if format not in get_args(Format):
        raise ArgumentError(f"format must be one of {list(get_args(Format))}, got {format!r}")
    if quantize not in (None, "int8", "weights"):
        raise ArgumentError(f'quantize must be "int8", "weights" or None, got {quantize!r}')
    if prune is not None and (isinstance(prune, bool) or not 0 < prune < 1):
        raise ArgumentError(f"prune is a fraction above 0 and below 1, got {prune!r}")
    target = as_path(path, "a file to write")
    _check_ending(target, format)
    model, strategy = in_one_piece(trained.model, trained.strategy)
    trained = replace(trained, model=model, strategy=strategy)
    if target.is_dir():
        raise SaveError(None, f"{target} is a folder; give the name of a file, such as {target / 'model.easylearn'}")
    changed = trained if prune is None else replace(trained, model=pruned(trained.model, prune))
    if format != "easylearn":
        return write_runtime(target, trained, changed, format, quantize)
    how: How | None = None if prune is None else "sparse"
    if quantize is not None:
        how = "int8" if prune is None else "sparse_int8"
    packed = changed.model if how is None else as_packed(changed.model, how)
    spec = {**_spec(changed), "check": _check(replace(trained, model=packed))}
    with atomic_write(target) as temporary:  # it takes its place when it has been compared
        write_model(temporary, changed.model, spec, how=how)
        with Archive(temporary) as archive:
            checked = _compare(trained, archive, exact=how is None)
    if how is None:
        return ExportReport(target, format, {"written": {"bytes": float(target.stat().st_size)}}, checked)
    with tempfile.TemporaryDirectory() as folder:
        whole = write_model(Path(folder) / "whole", trained.model, spec)
        before = {"bytes": float(whole.stat().st_size), **measure(trained, trained.model)}
    after = {"bytes": float(target.stat().st_size), **measure(trained, packed)}
    again = "Weights become floats again when the file is loaded, so it takes the same time; "
    notes = (again + "format='onnx' computes in 8 bits.",) if quantize == "int8" else ()
    return ExportReport(target, format, {"before": before, "after": after}, notes=notes)


def _check_ending(target: Path, format: Format) -> None:
    """Refuse a name whose ending promises another kind of file than the one that would be written."""
    ending = target.suffix.lower()
    is_of: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch", ".easylearn": "easylearn"}
    if is_of.get(ending, format) != format:
        raise ArgumentError(
            f'{target.name} is the name of another kind of file than format="{format}" writes: pass '
            f'format="{is_of[ending]}", or another name'
        )
    if format == "easylearn" and ending in (".pkl", ".pickle", ".safetensors"):
        raise ArgumentError(
            f"{target.name} is the name of another kind of file than is written here: a model of easylearn holds no "
            f"pickle, and its weights and how to build it; call it {target.with_suffix('.easylearn').name}"
        )


def _spec(trained: TrainedModel) -> dict[str, Any]:
    return {
        "easylearn": library_versions().get("easylearn", "unknown"),
        "task": describe_task(trained.task),
        "data": {**trained.data.preprocessor.recipe(), "batch_size": trained.data.batch_size},
        "training": trained.training.to_json(),
    }


def _check(trained: TrainedModel) -> dict[str, Any] | None:
    """What the model gives for items of no meaning, to be looked at where the file is served."""
    batch = first_batch(trained)
    if batch is None:
        return None
    preprocessor = trained.data.preprocessor
    inputs = tuple(x.cpu() for x in batch.inputs)
    runtime = preprocessor.runtime_inputs(inputs)
    given = runtime.undo(inputs)
    run = run_model(trained.model, trained.task, preprocessor, trained.strategy)
    within = WITHIN if trained.strategy.precision == "fp32" else WITHIN_ROUNDED
    return written_check(describe_inputs(runtime, given), given, None if trained.task.sorts_outputs else run, within)


def pruned(model: nn.Module, fraction: float) -> nn.Module:
    """A copy in which a fraction of each large weight, its smallest numbers, is 0 (arXiv 1506.02626)."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in prunable(other).values():
            weight.masked_fill_(smallest(weight, fraction), 0)
    return other


def as_packed(model: nn.Module, how: How) -> nn.Module:
    """A copy with the weights that a packed file would give back."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        way: How = "int8" if "int8" in how else "sparse"
        for weight in filter(is_large, other.parameters()):
            weight.copy_(unpack(pack(weight, way), way, tuple(weight.shape)))
    return other


def _compare(trained: TrainedModel, archive: Archive, exact: bool) -> int:
    """Load the file and compare it with the learner on real items; how many were compared."""
    missing = own_parts(archive.spec["model"])
    whole = isinstance(archive.spec["model"], dict) and set(archive.spec["model"]) == {"own"}
    if missing and not whole:
        return 0  # only its owner can build it
    again = load_model(archive, copy.deepcopy(trained.model).cpu() if whole else None).to(trained.strategy.device)
    batch = first_batch(trained)
    if batch is None or not exact:
        return 0
    with trained.strategy.evaluating(trained.model), trained.strategy.evaluating(again):
        given, back = (trained.strategy.forward(m, batch.inputs) for m in (trained.model, again))
    if not torch.equal(given, back):
        raise StateError(
            "the file would give other numbers than the learner (they differ by up to "
            f"{float((given - back).abs().max()):.3g}), so it was not written: the model holds something besides its "
            "weights and what it was made with. Register what makes it as it is now (@register), and make it with that"
        )
    return len(given)
