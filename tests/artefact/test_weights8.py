from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import easylearn as el
from easylearn.artefact.runtimes import open_onnx
from tests.artefact.test_runtimes import LEARNERS, QUIET, given, names, settled, table, wanted

AXES = {"Conv": (1, 2, 3), "LSTM": (2,), "MatMul": (0,), "Gather": (1,)}  # over which one scale is found


def rounded(model: Any) -> dict[str, Any]:
    """Each large weight of a graph with its numbers rounded to 8 bits, by NumPy."""
    found = {}
    for node in model.graph.node:
        for weight in model.graph.initializer:
            whole = numpy_helper.to_array(weight)
            if (
                node.op_type not in (*AXES, "Gemm")
                or weight.name not in node.input
                or whole.dtype != np.float32
                or whole.ndim < 2
                or whole.size < 256
            ):
                continue
            if node.op_type == "LSTM" and whole.ndim < 3:
                continue  # its biases
            is_row = any(a.name == "transB" and a.i for a in node.attribute)
            axes = ((1,) if is_row else (0,)) if node.op_type == "Gemm" else AXES[node.op_type]
            if node.op_type == "MatMul" and whole.ndim == 3:  # of members, (members, outputs, inputs)
                axes = (2,)
            scale = np.abs(whole).max(axes, keepdims=True) / np.float32(127)
            found[weight.name] = np.rint(whole / np.where(scale > 0, scale, 1)).clip(-127, 127) * scale
    return found


def large(name: str) -> el.Learner:
    if name == "images":
        body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3, bias=False))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 2))
        x = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
        data = el.ImageData.from_arrays((x[:16], ["a", "b"] * 8), (x[16:], ["a", "b"] * 4), size=16, workers=0)
        return settled(el.Learner(data, nn.Sequential(body, head), **QUIET))
    if name == "members":
        return trained_table(40, 30, members=3)
    return trained_table(40, 30) if name == "table" else LEARNERS["text single_label"]()


def trained_table(*layers: int, **options: Any) -> el.Learner:
    """Its last layer begins at zero, where no other weight matters."""
    learn = settled(table("single_label", layers=layers, **options))
    learn.fit(1e-2, 1)
    return learn


@pytest.mark.parametrize("name", ["images", "table", "members", "text"])
def test_a_graph_computes_with_the_rounded_weights(name: str, tmp_path: Path) -> None:
    learn = large(name)
    learn.export(tmp_path / "whole.onnx", format="onnx")
    report = learn.export(tmp_path / "small.onnx", format="onnx", quantize="weights")
    model = onnx.load(str(tmp_path / "whole.onnx"))
    changed = rounded(model)
    assert changed
    for weight in model.graph.initializer:
        if weight.name in changed:
            weight.CopyFrom(numpy_helper.from_array(changed[weight.name].astype(np.float32), weight.name))
    onnx.save(model, str(tmp_path / "wanted.onnx"))
    of = [open_onnx(tmp_path / f, names(learn))(given(learn)) for f in ("wanted.onnx", "small.onnx")]
    torch.testing.assert_close(*of, rtol=1e-5, atol=1e-6)
    assert not torch.equal(of[1], wanted(learn)) and report.difference > 0
    small = onnx.load(str(report.path))
    onnx.checker.check_model(small, full_check=True)
    assert not {n.op_type for n in small.graph.node} & {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    kept = {w.name: w for w in small.graph.initializer}
    assert all(kept[f"{n}::values"].data_type == onnx.TensorProto.INT8 and n not in kept for n in changed)
    assert small.metadata_props[0].key == "easylearn"


@pytest.mark.parametrize(("layers", "options"), [((300, 300), {}), ((200, 200), {"members": 4})])
@pytest.mark.parametrize("quantize", ["weights", "int8"])
def test_it_is_a_quarter_of_the_size_and_measured_on_validation(
    layers: tuple[int, ...], options: dict[str, Any], quantize: Any, tmp_path: Path
) -> None:
    learn = trained_table(*layers, **options)
    report = learn.export(tmp_path / "m.onnx", format="onnx", quantize=quantize)
    before, after = report.rows["before"], report.rows["after"]
    assert after["bytes"] < before["bytes"] / 3
    assert set(after) == {"bytes", "ms", *learn.validate()}
    assert (
        after["valid_loss"] == pytest.approx(before["valid_loss"], rel=0.05)
        and after["valid_loss"] != before["valid_loss"]
    )


def test_easylearns_own_file_keeps_weights_so_anyway(tmp_path: Path) -> None:
    learn = trained_table(40, 30)
    said = learn.export(tmp_path / "a", quantize="weights")
    learn.export(tmp_path / "b", quantize="int8")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not said.notes and said.rows["after"]["bytes"] < said.rows["before"]["bytes"]
