"""An ONNX graph that keeps its large weights in 8 bits, and computes with floats."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from ..nn.pruning import is_large
from .pack import pack

_RECURRENT = ("LSTM", "GRU", "RNN")
# Which inputs of an operation are weights.
_WEIGHTS = {"Conv": (1,), "ConvTranspose": (1,), "Gather": (0,), "Gemm": (1,), "MatMul": (0, 1)} | dict.fromkeys(
    _RECURRENT, (1, 2)
)


def shrink_weights(model: Any) -> None:
    """Put 8 bits in place of each large weight of an `onnx.ModelProto`.

    Each becomes `Cast(values) * scale`, with a scale for each output (or row of a table of vectors), the largest
    absolute value over 127 (symmetric, arXiv 1806.08342). Runtimes compute such a constant once, when they open a file.
    `DequantizeLinear` would say the same, but ONNX Runtime takes it as leave to compute in 8 bits: a matrix product of
    2048 by 2048 was then off by 0.5 %, and a convolution slower by a fifth, computed anew for each item (1.32).
    """
    onnx = importlib.import_module("onnx")
    users = {name: (node, k) for node in reversed(model.graph.node) for k, name in enumerate(node.input)}
    nodes = []
    for weight in list(model.graph.initializer):
        node, k = users.get(weight.name, (None, 0))
        if node is None or k not in _WEIGHTS.get(node.op_type, ()) or weight.data_type != onnx.TensorProto.FLOAT:
            continue
        whole = torch.from_numpy(onnx.numpy_helper.to_array(weight).copy())
        if not is_large(whole):
            continue
        values, scale = _packed(whole, node, k)
        name = weight.name
        pieces = {f"{name}::values": values, f"{name}::scale": scale}
        model.graph.initializer.remove(weight)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(x.numpy(), n) for n, x in pieces.items())
        nodes += [
            onnx.helper.make_node("Cast", [f"{name}::values"], [f"{name}::floats"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [f"{name}::floats", f"{name}::scale"], [name]),
        ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _packed(weight: torch.Tensor, node: Any, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of a weight, input `k` of a node, and scales to multiply them by."""
    across = (node.op_type == "MatMul" and k == 1) or (node.op_type == "Gemm" and not _is_transposed(node))
    if across:  # outputs are columns
        values, scale = _by_rows(weight.mT, weight.ndim - 1)
        return values.mT.contiguous(), scale.mT.contiguous()
    if node.op_type == "MatMul":  # of members: each has its own outputs
        return _by_rows(weight, weight.ndim - 1)
    return _by_rows(weight, 2 if node.op_type in _RECURRENT else 1)  # directions and gates


def _by_rows(weight: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """With a scale for each place in the first `n` dimensions."""
    pieces = pack(weight.flatten(0, n - 1), "int8")
    return pieces["values"].view(weight.shape), pieces["scale"].view(*weight.shape[:n], *[1] * (weight.ndim - n))


def _is_transposed(node: Any) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)
