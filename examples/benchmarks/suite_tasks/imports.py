"""Seconds of whole processes that import one thing."""

from __future__ import annotations

import compileall
import importlib.util
import subprocess
import sys
import time

from .settings import Repeat, Settings


def _importing(**statements: str) -> Repeat:
    def seconds(statement: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return time.perf_counter() - begun

    return lambda: {name: seconds(statement) for name, statement in statements.items()}


def plain(_settings: Settings) -> Repeat:
    return _importing(seconds="import torch")


def best(_settings: Settings) -> Repeat:
    """Nothing is quicker than plain; torchvision is here for comparison."""
    return _importing(torchvision="import torch, torchvision")


def easylearn(_settings: Settings) -> Repeat:
    """Compiled to bytecode first, as pip does with what it installs, but not with a folder that is being worked on."""
    found = importlib.util.find_spec("easylearn")
    assert found is not None and found.submodule_search_locations
    compileall.compile_dir(found.submodule_search_locations[0], quiet=2)
    return _importing(seconds="import easylearn")


def fastai(_settings: Settings) -> Repeat:
    return _importing(seconds="from fastai.vision.all import *")


def lightning(_settings: Settings) -> Repeat:
    return _importing(seconds="import lightning")


def skorch(_settings: Settings) -> Repeat:
    return _importing(seconds="import skorch")
