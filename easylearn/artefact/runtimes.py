"""Files for other runtimes: ONNX Runtime, and programs of `torch.export`; each is compared on real items first.

A graph takes what is natural outside (pixels, codes, tokens), as `Preprocessor.runtime_inputs` says, and gives
probabilities. ONNX files are traced: torch 2.3 can, and an LSTM stays one operation for texts of any length. That of
torch's newer exporter takes only texts as long as the example (torch 2.14).
"""

from __future__ import annotations

import copy
import functools
import importlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .. import keyed
from ..data.bunch import Data
from ..data.preprocess import RuntimeInputs
from ..errors import ArgumentError, EasyLearnError, StateError
from ..files import atomic_write
from ..nn.as_graph import as_graph
from ..quiet import no_warnings
from ..task import Task
from ..train.predict import evaluate
from ..train.strategy import SingleDevice
from .check_items import WITHIN, WITHIN_ROUNDED
from .measure import ExportReport, Quantize, TrainedModel, first_batch, timed
from .model_file import describe_task, library_versions
from .self_check import describe_inputs, written_check
from .weights8 import shrink_weights

RuntimeFormat = Literal["onnx", "torch"]
TOLERANCE = 1e-4  # of a probability; of numbers larger than 1, of their size
CALIBRATED = 128  # images whose activations give the ranges of 8-bit numbers
OPSET = 17  # the newest that torch 2.3 writes
KEY = "easylearn"  # of the metadata
CPU = torch.device("cpu")
# Ranges of convolutions are measured before. Those of a head are found for each item: on cats and dogs, 128 px, 8 bits
# took 0.5 points of efficientnet_lite0's accuracy so, and 2.2 where all ranges were measured before (400 images).
_STATIC = ["Conv", "Relu", "Clip", "Add", "MaxPool", "AveragePool", "GlobalAveragePool"]
_DYNAMIC = ["MatMul", "Gemm", "LSTM", "Gather"]


class Graph(nn.Module):
    """The graph that a file holds: `prepare` makes the model's inputs of its own, it gives probabilities."""

    def __init__(self, model: nn.Module, task: Task, prepare: nn.Module | None) -> None:
        super().__init__()
        self.model = as_graph(model)
        self.prepare = prepare
        self.task = task
        self.eval()

    def forward(self, *given: Tensor) -> Tensor:
        inputs: Any = given if self.prepare is None else self.prepare(*given)
        logits: Tensor = self.model(*(inputs if isinstance(inputs, tuple) else (inputs,)))
        return self.task.activate_in_graph(logits)


Program = Callable[[tuple[Tensor, ...]], Tensor]  # a written file, opened in its runtime; it gives probabilities


def open_onnx(path: Path, names: Sequence[str]) -> Program:
    """An ONNX file in ONNX Runtime, on one thread of the CPU; a graph has only those of the inputs that it uses."""
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    used = {i.name for i in session.get_inputs()}

    def run(given: tuple[Tensor, ...]) -> Tensor:
        feed = {name: x.contiguous().numpy() for name, x in zip(names, given, strict=True) if name in used}
        return torch.from_numpy(session.run(None, feed)[0])

    return run


def open_torch(path: Path, names: Sequence[str]) -> Program:
    """A program of `torch.export`, which takes its inputs by their order."""
    with open(path, "rb") as file, no_warnings():
        module = torch.export.load(file).module()

    def run(given: tuple[Tensor, ...]) -> Tensor:
        with torch.no_grad():
            probs: Tensor = module(*given)
        return probs

    return run


class _AsModel(nn.Module):
    """A program as a module that gives logits, so that it is validated as a model is."""

    def __init__(self, program: Program, inputs: RuntimeInputs, task: Task) -> None:
        super().__init__()
        self._program, self._inputs, self._task = program, inputs, task

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._task.outputs_for(self._program(self._inputs.undo(inputs)))


@dataclass(frozen=True)
class _Example:
    """Some real items as inputs of the model and of the file, and the metadata of the file."""

    inputs: tuple[Tensor, ...]
    given: tuple[Tensor, ...]
    runtime: RuntimeInputs
    about: dict[str, Any]
    is_sure: bool  # of the order of what the model gives


def write_runtime(
    target: Path, trained: TrainedModel, changed: TrainedModel, format: RuntimeFormat, quantize: Quantize
) -> ExportReport:
    """Write a model for another runtime, if the file gives the numbers of the learner; `target` stays otherwise.

    `changed` has the model that is written: a pruned one, or the learner's own. "int8" takes its ranges from real items
    where there are convolutions, and finds them while it runs otherwise.
    """
    if trained.task.is_streamed:
        raise StateError(
            f'a language model carries its state from call to call, which a file of format="{format}" does not: export '
            'it with format="easylearn", and continue a prompt with generate(load_predictor(path), prompt)'
        )
    if quantize is not None and format == "torch":
        raise ArgumentError('format="torch" knows no quantize: use format="onnx" or "easylearn"')
    if format == "onnx":
        _package("onnx")
        _package("onnxruntime")
    example = _example(trained)
    written = functools.partial(_written, format, trained.task, example)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "changed"
        with _no_graph_error(format):
            program = written(file, changed.model)
            difference = _difference(program, changed, example)
        if not difference <= TOLERANCE:
            raise StateError(
                f"the {format} file would give other numbers than the learner (they differ by up to {difference:.3g}), "
                "so it was not written: the model does something that depends on the values or the shape of its "
                "inputs, and a graph does not"
            )
        notes = []
        if trained.strategy.precision != "fp32":
            notes.append(f"fp32 is written; the learner computes in {trained.strategy.precision}")
        if quantize is None and changed is trained:
            rows = {"written": {"bytes": float(file.stat().st_size)}}
        else:
            if format == "onnx":
                notes.append("before and after: ONNX Runtime, one thread")
            whole, before = file, program
            if changed is not trained:
                whole = folder / "whole"
                before = written(whole, trained.model)
            rows = {"before": _measured(whole, before, trained, example)}
            if quantize is not None:
                with _no_graph_error(format):
                    file = _quantized(file, folder / "int8", trained, example, quantize)
                    program = _WAYS[format][1](file, example.runtime.names)
                    difference = _difference(program, changed, example)
            rows["after"] = _measured(file, program, trained, example)
        with atomic_write(target) as temporary:
            shutil.copyfile(file, temporary)
    return ExportReport(target, format, rows, len(example.inputs[0]), difference, tuple(notes))


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ArgumentError(f'format="onnx" needs {name}: pip install "easylearn[onnx]"') from error


@contextmanager
def _no_graph_error(format: str) -> Iterator[None]:
    """Turn what exporters and runtimes raise, often a plain `Exception`, into a `StateError` of one line."""
    try:
        yield
    except (EasyLearnError, OSError):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise StateError(
            f'this model cannot be written with format="{format}" by torch {torch.__version__}: {lines[0][:300]}. '
            'format="easylearn" takes any model'
        ) from error


def _example(trained: TrainedModel) -> _Example:
    batch = first_batch(trained)
    if batch is None:
        raise StateError(
            "a file for another runtime is tried on real items first, and this learner has none: give it data with "
            "learn.set_data(data), or load_learner(path, data=data)"
        )
    inputs = tuple(x.cpu() for x in batch.inputs)
    runtime = trained.data.preprocessor.runtime_inputs(inputs)
    given = runtime.undo(inputs)
    about = {
        "easylearn": library_versions().get("easylearn", "unknown"),
        "task": describe_task(trained.task),
        "inputs": describe_inputs(runtime, given),
        "output": "probs",
        "about": {**_recipe(trained), **runtime.about},
    }
    return _Example(inputs, given, runtime, about, not trained.task.sorts_outputs)


def _recipe(trained: TrainedModel) -> dict[str, Any]:
    """How items are prepared, as easylearn's own files say it; nothing where it cannot be written down."""
    with suppress(StateError):
        return trained.data.preprocessor.recipe()
    return {}


def _traced(example: _Example) -> tuple[Tensor, ...]:
    """The example's inputs, at least 2 long wherever a length may vary: exporters take a 1 for a constant."""
    given = list(example.given)
    for i, axes in enumerate(example.runtime.axes):
        for axis in axes:
            given[i] = given[i].repeat_interleave(2, axis) if given[i].shape[axis] == 1 else given[i]
    return tuple(given)


def _write_onnx(path: Path, graph: Graph, example: _Example) -> None:
    names, given = example.runtime.names, _traced(example)
    axes = {name: dict(a) for name, a in zip(names, example.runtime.axes, strict=True)}
    # torch 2.3 knows no other way, and so no word for this one.
    way: dict[str, Any] = {"dynamo": False} if "dynamo" in torch.onnx.export.__code__.co_varnames else {}
    with no_warnings(), torch.no_grad():
        torch.onnx.export(
            graph, given, str(path), input_names=list(names), output_names=["probs"],
            dynamic_axes={**axes, "probs": {0: "batch"}}, opset_version=OPSET, **way,
        )  # fmt: skip


def _write_about(path: Path, example: _Example, program: Program, within: float) -> None:
    """Write the metadata into an ONNX file, with what it gives for items of no meaning."""
    onnx = _package("onnx")
    inputs = example.about["inputs"]
    about = {
        **example.about,
        "check": written_check(inputs, example.given, program if example.is_sure else None, within),
    }
    model = onnx.load(str(path))
    used = {i.name for i in model.graph.input}
    text = json.dumps({**about, "inputs": [i for i in about["inputs"] if i["name"] in used]}, ensure_ascii=False)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: text})
    onnx.save(model, str(path))


def _write_torch(path: Path, graph: Graph, example: _Example) -> None:
    dims = {name: torch.export.Dim(name, min=1) for axes in example.runtime.axes for name in axes.values()}
    if dims.keys() - {"batch"} and any(isinstance(m, nn.RNNBase) for m in graph.modules()):
        raise StateError(
            "torch.export writes a recurrent layer out step by step, for one length only (pytorch issue 115092): for a "
            'model on texts use format="onnx"'
        )
    shapes = tuple({axis: dims[name] for axis, name in axes.items()} for axes in example.runtime.axes)
    with no_warnings(), torch.no_grad(), open(path, "wb") as file:
        program = torch.export.export(graph, _traced(example), dynamic_shapes={"given": shapes})
        torch.export.save(program, file, extra_files={f"{KEY}.json": json.dumps(example.about, ensure_ascii=False)})


_WAYS: Mapping[str, tuple[Callable[[Path, Graph, _Example], None], Callable[[Path, Sequence[str]], Program]]] = {
    "onnx": (_write_onnx, open_onnx),
    "torch": (_write_torch, open_torch),
}


def _written(format: RuntimeFormat, task: Task, example: _Example, file: Path, model: nn.Module) -> Program:
    write, opened = _WAYS[format]
    write(file, Graph(model, task, example.runtime.prepare), example)
    program = opened(file, example.runtime.names)
    if format == "onnx":
        _write_about(file, example, program, WITHIN)
    return program


def _difference(program: Program, trained: TrainedModel, example: _Example) -> float:
    """The largest difference between a file and the model, for all items at once and for one alone."""
    model = copy.deepcopy(trained.model).cpu().float().eval()
    errors = []
    for n in (len(example.inputs[0]), 1):
        with torch.no_grad():
            wanted = trained.task.activate(model(*(x[:n] for x in example.inputs)))
        found = program(tuple(x[:n] for x in example.given))
        if found.shape != wanted.shape:
            return float("inf")
        errors.append(trained.task.difference(found, wanted))
    return float(np.max(errors))  # NaN stays


def _measured(path: Path, program: Program, trained: TrainedModel, example: _Example) -> dict[str, float]:
    one = tuple(x[:1] for x in example.given)
    result = {"bytes": float(path.stat().st_size), "ms": 1000 * timed(lambda: program(one))}
    if "valid" in trained.data.splits:
        model = _AsModel(program, example.runtime, trained.task)
        result.update(evaluate(model, trained.data.loader("valid"), trained.task, SingleDevice(CPU)))
    return result


def _quantized(path: Path, out: Path, trained: TrainedModel, example: _Example, quantize: Quantize) -> Path:
    """Write an ONNX file whose weights have 8 bits; with "int8" it computes in 8 bits, too.

    There weights use seven of them: two products then fit into 16 bits, in which processors without VNNI add them up.
    """
    onnx = _package("onnx")
    if quantize == "weights":
        model = onnx.load(str(path))
        shrink_weights(model)
        onnx.save(model, str(out))
        _write_about(out, example, open_onnx(out, example.runtime.names), WITHIN)
        return out
    tools, shapes = _package("onnxruntime.quantization"), _package("onnxruntime.quantization.shape_inference")
    ready, middle = path.with_name("ready"), path.with_name("middle")
    weights = {"weight_type": tools.QuantType.QInt8, "per_channel": True, "reduce_range": True}
    with no_warnings():
        shapes.quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        convolves = any(node.op_type == "Conv" for node in onnx.load(str(ready)).graph.node)
        first = str(middle if convolves else out)
        tools.quantize_dynamic(str(ready), first, op_types_to_quantize=_DYNAMIC, **weights)
        if convolves:
            rows = _spread_rows(trained.data, example.runtime)
            reader = SimpleNamespace(get_next=lambda: next(rows, None))  # as a `CalibrationDataReader`
            tools.quantize_static(
                first, str(out), reader, quant_format=tools.QuantFormat.QDQ,
                activation_type=tools.QuantType.QUInt8, op_types_to_quantize=_STATIC, **weights,
            )  # fmt: skip
    model = onnx.load(str(out))
    shrink_weights(model)  # what is left: no product is computed in 8 bits whose weight comes first, as that of members
    onnx.save(model, str(out))
    _write_about(out, example, open_onnx(out, example.runtime.names), WITHIN_ROUNDED)
    return out


def _spread_rows(data: Data[Any], runtime: RuntimeInputs) -> Iterator[dict[str, Any]]:
    """`CALIBRATED` items, spread over the training split: in file order the first would be of one class."""
    loader = data.loader("train" if "train" in data.splits else "valid")
    places = min(len(loader), 16)
    most = -(-CALIBRATED // places)
    for k in range(places):
        with keyed.scoped_rng(0, "export"), closing(loader.batches(CPU, start=k * len(loader) // places)) as batches:
            given = [x.numpy() for x in runtime.undo(next(batches).inputs)]
        rows = range(min(most, len(given[0])))
        yield from (dict(zip(runtime.names, (x[i : i + 1] for x in given), strict=True)) for i in rows)
