"""A model file to the engine that serves it."""

from __future__ import annotations

from pathlib import Path

from ..errors import WeightsError
from .engine import Engine, OnnxEngine
from .refusals import Limits


def open_engine(path: Path, limits: Limits) -> Engine:
    """The engine of a model file: torch for what `learn.export` writes by default, ONNX Runtime for an ONNX file."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix.lower() == ".onnx":
        return OnnxEngine(path, limits)
    if head[:2] != b"PK" and path.suffix.lower() != ".easylearn":
        raise WeightsError(f"{path} is neither an .onnx file nor one that learn.export wrote")
    try:
        from .torch_engine import TorchEngine
    except ImportError as error:
        raise WeightsError(f"{path} needs easylearn itself; this runtime serves .onnx files alone") from error
    return TorchEngine(path, limits)
