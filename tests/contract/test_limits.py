"""Sizes of the code stay within their limits; what is above one today is listed in `limits.txt`, and the list shrinks.

`python tests/contract/test_limits.py` writes down what has shrunk. It adds nothing and raises no number: whoever must,
edits the list, where a reviewer sees it. Only where there is no list at all, one is begun.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import easylearn

PACKAGE = Path(easylearn.__file__).parent
LIST = Path(__file__).with_name("limits.txt")
LIMITS = {
    "lines of a module": 500,
    "lines of a function": 50,
    "branches": 10,
    "arguments": 7,
    "names private to torch": 0,
}

# Callers of these see each argument in one place, and their argument lists are the interface of the library.
FACADE_MODULES = {
    "conv_learner.py", "dataset.py", "column_data.py", "structured.py", "nlp.py", "model.py", "lm_rnn.py",
    "text.py", "fields07.py", "dataloader.py", "learner07.py", "transforms.py",
}  # fmt: skip
FACADE_METHODS = {
    "Learner.__init__", "Learner.plan", "audit", "cross_fit", "difference_of", "folds", "search", "spread",
}  # fmt: skip
# Their private names have a fallback that is tested.
MAY_USE_PRIVATE_TORCH = {"train/optim.py", "nn/awd_lstm.py"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Sizes = dict[tuple[str, str], int]


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, Function]]:
    """Every function with its name as a path through classes and functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function | ast.ClassDef):
            name = f"{inside}{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from functions(node, f"{name}.")
        else:
            yield from functions(node, inside)


def n_lines(function: Function, source: list[str]) -> int:
    """Lines of code in the body: no docstring, no comments, no blank lines."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    lines = (line.strip() for line in source[body[0].lineno - 1 : function.end_lineno])
    return sum(bool(line) and not line.startswith("#") for line in lines)


def n_branches(function: Function) -> int:
    """McCabe's number as ruff counts it: one, and one for each branch, loop, handler and nested function."""
    branches = 1
    for node in ast.walk(function):
        if isinstance(node, ast.If | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.match_case):
            branches += 1
        if isinstance(node, ast.Try) and node.orelse:
            branches += 1
        if isinstance(node, Function) and node is not function:
            branches += 1
    return branches


def n_arguments(function: Function) -> int:
    """Arguments that a caller gives by position or name."""
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def is_facade(file: str, name: str) -> bool:
    """Whether a function is called by users with an argument list that is the library's interface."""
    _, _, last = name.rpartition(".")
    return (
        file in FACADE_MODULES
        or name in FACADE_METHODS
        or name.startswith("Learner.fit")
        or (last.startswith("from_") and not name.startswith("_"))
        or (last.endswith("_learner") and last == name)
    )


def private_names() -> set[str]:
    """Names with one underscore that torch's modules, parameters and optimizers have, or may be given."""
    parameter = nn.Parameter(torch.ones(1))
    things = (nn.LSTM(1, 1), parameter, torch.optim.SGD([parameter]), torch.optim.AdamW([parameter]))
    names = {n for thing in things for n in dir(thing) if n.startswith("_") and not n.startswith("__")}
    return names | {"_step_supports_amp_scaling"}  # of optimizers with a fused kernel


def private_uses(tree: ast.AST, of_objects: set[str]) -> Counter[str]:
    """Names private to torch that a module uses: found below `torch` or `nn`, or on an object other than `self`."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            found.update(a.name for a in node.names if a.name.startswith("_"))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            if owner.split(".")[0] in ("torch", "nn", "F") or (node.attr in of_objects and owner != "self"):
                found[node.attr] += 1
    return found


@functools.cache
def above_the_limits() -> Sizes:
    """Every size above its limit, by what is measured and where."""
    sizes: Sizes = {}
    of_objects = private_names()
    for path in sorted(PACKAGE.rglob("*.py")):
        file, text = path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")
        tree, source = ast.parse(text), text.splitlines()
        sizes["lines of a module", file] = len(source)
        for name, function in functions(tree):
            sizes["lines of a function", f"{file}::{name}"] = n_lines(function, source)
            sizes["branches", f"{file}::{name}"] = n_branches(function)
            if not is_facade(file, name):
                sizes["arguments", f"{file}::{name}"] = n_arguments(function)
        if file not in MAY_USE_PRIVATE_TORCH:
            for name, times in private_uses(tree, of_objects).items():
                sizes["names private to torch", f"{file}::{name}"] = times
    return {key: size for key, size in sizes.items() if size > LIMITS[key[0]]}


def listed() -> Sizes:
    """The sizes that `limits.txt` names."""
    rows = (line.split(" | ") for line in LIST.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {(what, where): int(size) for what, size, where in rows}


def grown(now: Sizes, before: Sizes) -> list[str]:
    """What is above its limit and not listed, or larger than listed."""
    return [
        f"{where}: {size} {what}, the limit is {LIMITS[what]}"
        + (f", and {before[what, where]} are listed" if (what, where) in before else "")
        for (what, where), size in now.items()
        if size > before.get((what, where), LIMITS[what])
    ]


def shrunk(now: Sizes, before: Sizes) -> list[str]:
    """What is smaller than listed, or below its limit now."""
    return [
        f"{where}: {size} {what} are listed, {now.get((what, where), f'at most {LIMITS[what]}')} today"
        for (what, where), size in before.items()
        if now.get((what, where), 0) < size
    ]


def test_nothing_is_above_its_limit_but_what_is_listed() -> None:
    assert grown(above_the_limits(), listed()) == []


def test_what_has_shrunk_is_written_down() -> None:
    assert shrunk(above_the_limits(), listed()) == [], "run python tests/contract/test_limits.py"


CODE = '''
class A:
    def long(self, a, /, b=1, *more, c, **rest):
        """Not counted.

        Nor this.
        """
        # nor this

        def inner(d):
            return d

        for x in more:
            if x:
                pass
            elif c:
                pass
        else:
            pass
        try:
            y = [i for i in more if i]
        except (ValueError, KeyError):
            pass
        else:
            pass
        return inner(y) if y and b or c else 0

    @classmethod
    def short(cls, a): ...
'''


def test_how_a_function_is_measured() -> None:
    found = dict(functions(ast.parse(CODE)))
    assert list(found) == ["A.long", "A.long.inner", "A.short"]
    assert {name: n_lines(f, CODE.splitlines()) for name, f in found.items()} == {
        "A.long": 16,
        "A.long.inner": 1,
        "A.short": 1,
    }
    assert {name: n_branches(f) for name, f in found.items()} == {"A.long": 7, "A.long.inner": 1, "A.short": 1}
    assert {name: n_arguments(f) for name, f in found.items()} == {"A.long": 3, "A.long.inner": 1, "A.short": 1}


@pytest.mark.parametrize(
    ("file", "name", "facade"),
    [
        ("nlp.py", "anything", True),
        ("learner.py", "Learner.fit_one_cycle", True),
        ("learner.py", "Learner.__init__", True),
        ("learner.py", "Learner._fit", False),
        ("vision/learner.py", "vision_learner", True),
        ("vision/data.py", "ImageData.from_csv", True),
        ("vision/data.py", "ImageData._from_list", False),
        ("texts/data.py", "_from_files", False),
        ("data/order.py", "Order.__init__", False),
    ],
)
def test_what_the_facade_is(file: str, name: str, facade: bool) -> None:
    assert is_facade(file, name) is facade


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("torch._foreach_add_(x, 1)", ["_foreach_add_"]),
        ("nn.modules.batchnorm._BatchNorm", ["_BatchNorm"]),
        ("from torch.optim.adamw import _adamw, adamw", ["_adamw"]),
        ("model.layers[0]._buffers['a'] = x; model._buffers", ["_buffers", "_buffers"]),
        ("optimizer._step_supports_amp_scaling = False", ["_step_supports_amp_scaling"]),
        ("self._buffers; torch.__version__; other._mine; torch.add(x, 1)", []),
    ],
)
def test_what_is_private_to_torch(code: str, names: list[str]) -> None:
    assert sorted(private_uses(ast.parse(code), private_names()).elements()) == names


def test_a_list_that_is_too_short_or_too_long() -> None:
    one, two, three = (("arguments", f"{name}.py::f") for name in ("one", "two", "three"))
    assert grown({one: 9}, {one: 9}) == shrunk({one: 9}, {one: 9}) == []
    assert "one.py::f: 10 arguments" in grown({one: 10, two: 8}, {one: 9, two: 8})[0]
    assert "three.py::f: 8 arguments" in grown({three: 8}, {one: 9})[0]
    assert "one.py::f: 9 arguments" in shrunk({one: 8}, {one: 9})[0]
    assert "two.py::f: 8 arguments" in shrunk({}, {two: 8})[0]


def main() -> int:
    """Write the list anew, unless something has grown."""
    now = above_the_limits()
    worse = grown(now, listed()) if LIST.exists() else []
    if worse:
        print("\n".join(worse), file=sys.stderr)
        return 1
    head = "# What is above its limit today, and by how much it may be; see test_limits.py. This list only shrinks."
    rows = [f"{what} | {now[what, where]} | {where}" for what, where in sorted(now)]
    LIST.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
