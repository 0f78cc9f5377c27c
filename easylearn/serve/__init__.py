"""Serving a model file over HTTP. Nothing here imports torch but `torch_engine`: `easylearn-runtime` is made of it."""

from .app import asgi

__all__ = ["asgi"]
