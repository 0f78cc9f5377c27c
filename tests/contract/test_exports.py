"""What is public: the names and their documentation."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import Any

import pytest

import easylearn

MODULES = [
    "easylearn",
    "easylearn.conv_learner",
    "easylearn.dataset",
    "easylearn.column_data",
    "easylearn.structured",
    "easylearn.nlp",
]


def public() -> Iterator[tuple[str, Any]]:
    """Every exported class and function, and every public method of the classes."""
    for name in MODULES:
        module = importlib.import_module(name)
        for word in module.__all__:
            thing = getattr(module, word)
            if not str(getattr(thing, "__module__", "")).startswith("easylearn"):
                continue  # np, pd, plt, torch, Path
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield f"{name}.{word}", thing
            if inspect.isclass(thing):
                for own, member in vars(thing).items():
                    if not own.startswith("_") and (
                        inspect.isfunction(member) or isinstance(member, classmethod | staticmethod | property)
                    ):
                        yield f"{name}.{word}.{own}", member


MEMBERS = dict(public())


def function_of(member: Any) -> Any:
    if isinstance(member, classmethod | staticmethod):
        return member.__func__
    return member.fget if isinstance(member, property) else member


@pytest.mark.parametrize("name", MODULES)
def test_every_name_in_all_exists_once(name: str) -> None:
    module = importlib.import_module(name)
    assert [n for n in module.__all__ if n not in vars(module)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_the_star_gives_exactly_all(name: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from {name} import *", names)
    assert names.keys() - {"__builtins__"} == set(importlib.import_module(name).__all__)


def test_nothing_public_is_left_out_of_all() -> None:
    """Whatever stands in `easylearn/__init__.py` without an underscore is exported, sub-packages aside."""
    own = {
        name
        for name, value in vars(easylearn).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert own <= set(easylearn.__all__)


@pytest.mark.parametrize("name", MEMBERS)
def test_public_things_have_a_docstring(name: str) -> None:
    text = inspect.getdoc(function_of(MEMBERS[name]))
    assert text and text.splitlines()[0].rstrip().endswith((".", ":")), f"{name}: {text!r}"


def parameters(member: Any) -> list[str]:
    """The arguments that a caller gives."""
    if isinstance(member, property):
        return []
    try:
        names = inspect.signature(function_of(member)).parameters
    except ValueError:  # an exception, built by Python itself
        return []
    return [n for n in names if n not in ("self", "cls")]


def explained(text: str) -> set[str]:
    """The arguments in the Args section of a docstring, where "a, b: ..." explains two."""
    if "Args:" not in text:
        return set()
    section = text.split("Args:")[1].split("Returns:")[0].split("Raises:")[0].split("Attributes:")[0]
    found = re.findall(r"^ {4}((?:\w+,\s+)*\w+):", section, re.MULTILINE)
    return {word for words in found for word in re.split(r",\s+", words)}


@pytest.mark.parametrize("name", MEMBERS)
def test_arguments_are_explained(name: str) -> None:
    """All of what is exported, and of methods with many; in the Args section or in the sentence, in backticks."""
    member = MEMBERS[name]
    needed, text = parameters(member), inspect.getdoc(function_of(member)) or ""
    if inspect.isclass(member) and (issubclass(member, Exception | Enum) or "__init__" not in vars(member)):
        return  # an inherited constructor is explained where it is written
    elsewhere = re.search(r"[Ss]ee `|[Aa]s in `|same arguments", text)
    if not elsewhere and (name.count(".") == 1 or len(needed) > 3):
        assert set(needed) - explained(text) - set(re.findall(r"`(\w+)`", text)) == set()


def test_the_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", easylearn.__version__)
