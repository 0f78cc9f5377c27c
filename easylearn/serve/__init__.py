"""Serving a model file over HTTP. Nothing here imports torch but `torch_engine`: `easylearn-runtime` is made of it."""

from __future__ import annotations

from .app import asgi
from .refusals import Limits

__all__ = ["Limits", "asgi"]
