"""Seconds of whole processes that import one thing."""

from __future__ import annotations

import compileall
import importlib.util
import subprocess
import sys

from .settings import Repeat, Settings


def _importing(settings: Settings, **statements: str) -> Repeat:
    def seconds(statement: str) -> float:
        begun = settings.now()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return settings.now() - begun

    return lambda: {name: seconds(statement) for name, statement in statements.items()}


def plain(settings: Settings) -> Repeat:
    return _importing(settings, seconds="import torch")


def best(settings: Settings) -> Repeat:
    """Nothing is quicker than plain; torchvision is here for comparison."""
    return _importing(settings, torchvision="import torch, torchvision")


def easylearn(settings: Settings) -> Repeat:
    """Compiled to bytecode first, as pip does with what it installs, but not with a folder that is being worked on."""
    found = importlib.util.find_spec("easylearn")
    assert found is not None and found.submodule_search_locations
    compileall.compile_dir(found.submodule_search_locations[0], quiet=2)
    return _importing(settings, seconds="import easylearn")


def fastai(settings: Settings) -> Repeat:
    return _importing(settings, seconds="from fastai.vision.all import *")


def lightning(settings: Settings) -> Repeat:
    return _importing(settings, seconds="import lightning")


def skorch(settings: Settings) -> Repeat:
    return _importing(settings, seconds="import skorch")
