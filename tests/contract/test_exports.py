"""What is public: the names and their documentation."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import easylearn

MODULES = [
    "easylearn",
    "easylearn.experiment",
    "easylearn.conv_learner",
    "easylearn.dataset",
    "easylearn.column_data",
    "easylearn.structured",
    "easylearn.nlp",
    "easylearn.core",
    "easylearn.imports",
    "easylearn.initializers",
    "easylearn.io",
    "easylearn.layer_optimizer",
    "easylearn.layers",
    "easylearn.learner",
    "easylearn.metrics07",
    "easylearn.model",
    "easylearn.plots",
    "easylearn.sgdr",
    "easylearn.torch_imports",
    "easylearn.bow07",
    "easylearn.collab07",
    "easylearn.fields07",
    "easylearn.forests07",
    "easylearn.lm_rnn",
    "easylearn.modeldata",
    "easylearn.rnn_reg",
    "easylearn.serve",
    "easylearn.text",
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


def words(text: str) -> set[str]:
    """What a docstring explains: the names of its Args section, and those that stand in backticks."""
    return explained(text) | set(re.findall(r"`(\w+)[\w.]*`", text))


@functools.cache
def everywhere() -> dict[str, Any]:
    """Every name in a module of the package, and the objects that docs call `learn`, `data` and `predictor`."""
    modules = {name: module for name, module in sys.modules.items() if name.startswith("easylearn.")}
    found = {name: thing for module in modules.values() for name, thing in vars(module).items()}
    objects = {"learn": found["Learner"], "data": found["Data"], "predictor": found["Predictor"]}
    return {**found, **objects, "easylearn": easylearn}


def resolve(reference: str, owner: type | None, module: ModuleType) -> Any:
    """What a name in backticks stands for: in the class, in its module, or anywhere in the package."""
    first, *rest = reference.removesuffix("()").split(".")
    found: Any = inspect.getattr_static(owner, first, None) if owner is not None else None
    found = found or vars(module).get(first) or everywhere().get(first)
    for name in rest:
        found = inspect.getattr_static(found, name, None)
    return found


REFERENCE = re.compile(
    r"(?:[Ss]ee|[Aa]s (?:in|for)|arguments (?:as|of)|those of)\s+`([\w.]+)`|`([\w.]+)` with the same"
)


def unexplained(member: Any, owner: type | None) -> set[str]:
    """Arguments that neither the docstring explains, nor what it refers to, nor the method that is overridden."""
    function = function_of(member)
    text = inspect.getdoc(function) or ""
    module = sys.modules[function.__module__]
    texts = [text]
    for reference in {one or other for one, other in REFERENCE.findall(text)}.difference(parameters(member)):
        found = resolve(reference, owner, module)
        assert found is not None, f"{function.__qualname__} refers to `{reference}`, which is not there"
        texts.append(inspect.getdoc(function_of(found)) or "")
    for base in owner.__mro__[1:] if owner is not None and owner is not member else ():
        if function.__name__ in vars(base):
            texts.append(inspect.getdoc(function_of(vars(base)[function.__name__])) or "")
    return set(parameters(member)).difference(*map(words, texts))


UNEXPLAINED = Path(__file__).with_name("unexplained.txt")


@functools.cache
def with_arguments() -> dict[str, tuple[Any, type | None]]:
    """Everything public that takes arguments, once, with the class that it belongs to."""
    found: dict[str, tuple[Any, type | None]] = {}
    for name, member in MEMBERS.items():
        function = function_of(member)
        if inspect.isclass(member) and (issubclass(member, Exception | Enum) or "__init__" not in vars(member)):
            continue  # an inherited constructor is explained where it is written
        owner = importlib.import_module(name.rsplit(".", 2)[0]) if name.count(".") > 1 else None
        owner = member if inspect.isclass(member) else getattr(owner, name.rsplit(".", 2)[1], None)
        if parameters(member):
            found[f"{function.__module__}.{function.__qualname__}"] = member, owner if inspect.isclass(owner) else None
    return found


def unexplained_today() -> dict[str, list[str]]:
    return {name: sorted(names) for name, of in with_arguments().items() if (names := unexplained(*of))}


def test_arguments_are_explained_but_for_a_list_that_shrinks() -> None:
    """`python tests/contract/test_exports.py` takes off the list what is explained by now."""
    assert len(with_arguments()) > 150
    missing, listed = unexplained_today(), UNEXPLAINED.read_text(encoding="utf-8").split()
    assert {name: names for name, names in missing.items() if name not in listed} == {}
    assert [name for name in listed if name not in missing] == [], "run python tests/contract/test_exports.py"


def documented(one: int, two: int, three: int) -> None:
    """Use `one`, and see `function_of` for nothing.

    Args:
        two: the second.
    """


def test_what_explains_an_argument() -> None:
    class Base:
        def method(self, a: int, b: int) -> None:
            """Needs `a`."""

    class Sub(Base):
        def method(self, a: int, b: int) -> None:
            """Overrides."""

        def other(self, a: int, b: int, c: int) -> None:
            """See `more`, and `c`."""

        def more(self, a: int) -> None:
            """Needs `a.part`."""

        def lost(self, a: int) -> None:
            """See `nowhere.to_be_found`."""

    assert unexplained(documented, None) == {"three"}
    assert unexplained(vars(Sub)["method"], Sub) == {"b"}
    assert unexplained(vars(Sub)["other"], Sub) == {"b"}
    with pytest.raises(AssertionError, match=r"nowhere\.to_be_found"):
        unexplained(vars(Sub)["lost"], Sub)


def test_the_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", easylearn.__version__)


if __name__ == "__main__":
    today = sorted(unexplained_today())
    before = UNEXPLAINED.read_text(encoding="utf-8").split() if UNEXPLAINED.exists() else today
    UNEXPLAINED.write_text("\n".join(name for name in today if name in before) + "\n", encoding="utf-8")
