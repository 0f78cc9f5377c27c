"""A device that pretends: real numbers on the CPU, and it refuses what a GPU would refuse and notes what would wait.

torch lets Python stand in for a device ("PrivateUse1"). Each operation on its tensors comes to `_run`, which computes
on the CPU, so results are those of the CPU, to the bit where the same operations run. It raises where tensors of two
devices meet, where a copy to the CPU is not waited for and at float64, which some devices lack, and notes each wait:
where the program can only go on when the device has finished (`.item()`, a copy to the CPU, a shape that depends on
values).
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

try:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as _setup
except ImportError:  # an older torch
    _setup = None

NAME = "pretend"
DEVICE_THERE = _setup is not None
_COPIES = {"aten::copy_", "aten::_to_copy"}
_WAITS = {
    "aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero", "aten::masked_select",
    "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount",
}  # fmt: skip
_log: list[str] = []
_library: list[torch.library.Library] = []


def make_device() -> str:
    """Register the device in this process, once; its name."""
    if not _library:
        assert _setup is not None
        _setup(NAME)
        _library.append(torch.library.Library("_", "IMPL"))
        _library[0].fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    return NAME


@contextlib.contextmanager
def waiting() -> Iterator[list[str]]:
    """The waits of the block, each as "what, in file:line"."""
    _log.clear()
    yield _log


class FarTensor(Tensor):
    """A tensor of the device; `near` holds its numbers."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> FarTensor:
        if near.dtype == torch.float64:
            raise RuntimeError("float64 is not supported by this device")
        far: FarTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, near.shape, strides=near.stride(), storage_offset=near.storage_offset(),
            dtype=near.dtype, layout=near.layout, device=torch.device(NAME, 0),
        )  # fmt: skip
        far.near = near
        return far

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def data_ptr(self) -> int:
        return self.near.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copy = FarTensor(self.near.clone())
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if is_parameter else copy
        return memo[id(self)]  # type: ignore[no-any-return]

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"FarTensor({self.near})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _wait(what: str) -> None:
    ours = [f for f in traceback.extract_stack() if "easylearn" in f.filename or f.filename.endswith("_checks.py")]
    _log.append(f"{what}, in {ours[-1].filename.rpartition('easylearn')[2]}:{ours[-1].lineno}" if ours else what)


def _check(name: str, first: Any, far: Sequence[Tensor], near: Sequence[Tensor]) -> None:
    indexes = name.startswith("aten::index") and name != "aten::index_select"
    if far and near and name not in _COPIES and not (indexes and isinstance(first, FarTensor)):  # a CPU index is taken
        raise RuntimeError(f"{name}: tensors of two devices; on the CPU {[tuple(t.shape) for t in near]}")
    if name in _WAITS or (indexes and any(t.dtype in (torch.bool, torch.uint8) and t is not first for t in far)):
        _wait(name)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    name, first = func._schema.name, args[0] if args else None
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    far = [t for t in tensors if isinstance(t, FarTensor)]
    _check(name, first, far, [t for t in tensors if not isinstance(t, FarTensor) and t.dim()])
    asked = kwargs.get("device")
    stays_far = bool(far) if asked is None else torch.device(asked).type == NAME
    if (name == "aten::_to_copy" and far and not stays_far) or (
        name == "aten::copy_" and not isinstance(first, FarTensor)
    ):
        if kwargs.get("non_blocking") or args[-1] is True:
            raise RuntimeError("a copy to the CPU that is non_blocking: its numbers may be read before they are there")
        _wait("copy to the CPU")
    if (
        stays_far
        and name in _COPIES
        and not far[name == "aten::copy_" :]
        and not (kwargs.get("non_blocking") or args[-1] is True)
    ):
        _wait("copy from the CPU that is not non_blocking")
    near_args, near_kwargs = tree_map_only(FarTensor, lambda t: t.near, (args, kwargs))
    near_kwargs |= {"device": torch.device("cpu")} if asked is not None else {}
    near_kwargs |= {"pin_memory": False} if "pin_memory" in near_kwargs else {}
    out = _OWN.get(name, func)(*near_args, **near_kwargs)
    if name == "aten::copy_":
        return first
    if not stays_far:
        return out
    out = tree_map_only(Tensor, FarTensor, out)
    return return_and_correct_aliasing(func, args, kwargs, out)


def _lstm_cell(gates: Tensor, hidden: Tensor, cx: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Any:
    """The kernel that torch runs on devices other than the CPU for a step of an LSTM."""
    total = gates + hidden + (0 if b is None else b) + (0 if c is None else c)
    i, f, g, o = total.chunk(4, 1)
    parts = torch.cat([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], 1)
    i, f, g, o = parts.chunk(4, 1)
    cy = f * cx + i * g
    return o * cy.tanh(), cy, parts


def _lstm_cell_backward(
    grad_h: Tensor | None, grad_c: Tensor | None, cx: Tensor, cy: Tensor, parts: Tensor, has_bias: bool
) -> Any:
    if grad_h is None and grad_c is None:
        return None, None, None
    i, f, g, o = parts.chunk(4, 1)
    tanh = cy.tanh()
    grad_h = torch.zeros_like(cy) if grad_h is None else grad_h
    total = grad_h * o * (1 - tanh**2) + (0 if grad_c is None else grad_c)
    by_gate = [total * g * i * (1 - i), total * cx * f * (1 - f), total * i * (1 - g**2), grad_h * tanh * o * (1 - o)]
    gates = torch.cat(by_gate, 1)
    return gates, total * f, gates.sum(0) if has_bias else None


_OWN: dict[str, Any] = {
    "aten::_thnn_fused_lstm_cell": _lstm_cell,
    "aten::_thnn_fused_lstm_cell_backward_impl": _lstm_cell_backward,
}
