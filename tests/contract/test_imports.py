"""What importing costs, and what the code may not contain: read from its syntax tree, so that no comment counts."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import easylearn

ROOT = Path(easylearn.__file__).parent
TREES = {file.relative_to(ROOT): ast.parse(file.read_text(encoding="utf-8")) for file in sorted(ROOT.rglob("*.py"))}
FACADES = {
    Path("conv_learner.py"),
    Path("dataset.py"),
    Path("column_data.py"),
    Path("structured.py"),
    Path("nlp.py"),
    Path("datasets07.py"),
    Path("plots.py"),
    Path("sgdr.py"),
    Path("torch_imports.py"),
    Path("datasets07.py"),
    Path("collab07.py"),
    Path("modeldata.py"),
}  # notebooks of 2018 expect np, pd and plt out of them
OF_NOTEBOOKS = {"matplotlib", "pandas", "PIL", "sklearn", "safetensors"}
HEAVY = {
    "torchvision",
    "pandas",
    "sklearn",
    "matplotlib",
    "timm",
    "PIL",
    "tqdm",
    "safetensors",
    "scipy",
    "tokenizers",
    "torchtext",
}


def offenders(rule: Callable[[ast.AST], object], skip: Iterable[str] = ()) -> list[str]:
    """Where the rule says that a node should not be."""
    return [
        f"{file}:{getattr(node, 'lineno', 1)}: {ast.unparse(node)[:80]}"
        for file, tree in TREES.items()
        if str(file) not in skip
        for node in ast.walk(tree)
        if rule(node)
    ]


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        return {node.module.split(".")[0]}
    return set()


def at_import_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: no function bodies, nothing under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from at_import_time(node)


def called(node: ast.AST) -> tuple[str, dict[str | None, str]]:
    """The name of what is called, and its keywords; empty if this is no call."""
    if not isinstance(node, ast.Call):
        return "", {}
    return ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def test_import_easylearn_pulls_in_nothing_heavy() -> None:
    script = f"""
import sys, torch
before = set(sys.modules)
import easylearn
print(sorted({{m.split(".")[0] for m in set(sys.modules) - before}} & {HEAVY!r}))
print(sorted({{"torchvision", "pandas", "sklearn", "matplotlib", "timm", "PIL"}} & set(sys.modules)))
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["[]", "[]"], done.stdout + done.stderr


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    found = {
        f"{file}: {name}"
        for file, tree in TREES.items()
        for node in at_import_time(tree)
        for name in imported(node) & (HEAVY - (OF_NOTEBOOKS if file in FACADES else set()))
    }
    assert found == set()


def test_no_star_import() -> None:
    assert offenders(lambda n: isinstance(n, ast.ImportFrom) and n.names[0].name == "*") == []


def test_no_pickle_but_to_catch_its_error() -> None:
    others = {"cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    pipe = ["experiment/workers.py"]  # what a new process is sent by the one that begins it; no file holds any of it
    assert offenders(lambda n: imported(n) & others, skip=pipe) == []
    assert offenders(lambda n: isinstance(n, ast.ImportFrom) and imported(n) & {"pickle"}) == []

    def used(n: ast.AST) -> bool:
        of_pickle = isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "pickle"
        return of_pickle and isinstance(n, ast.Attribute) and n.attr != "UnpicklingError"

    assert offenders(used) == []


def test_no_file_is_read_by_running_it() -> None:
    torch_readers = ("torch.load", "torch.hub.load_state_dict_from_url", "load_state_dict_from_url")
    numpy_files = ("np.load", "np.save", "numpy.load", "numpy.save")

    def unsafe(n: ast.AST) -> bool:
        name, keywords = called(n)
        return (
            name in ("eval", "exec", "torch.save", "torch.jit.load")
            or keywords.get("weights_only") == "False"
            or keywords.get("allow_pickle") == "True"
            or (name in torch_readers and keywords.get("weights_only") != "True")
            or (name in numpy_files and keywords.get("allow_pickle") != "False")
        )

    assert offenders(unsafe) == []


def test_no_hasattr() -> None:
    assert offenders(lambda n: isinstance(n, ast.Name) and n.id == "hasattr") == []


def test_no_bare_except_and_no_error_is_swallowed() -> None:
    def too_wide(n: ast.AST) -> bool:
        if not isinstance(n, ast.ExceptHandler):
            return False
        caught = "" if n.type is None else ast.unparse(n.type)
        silent = all(isinstance(s, ast.Pass) for s in n.body)
        return caught in ("", "BaseException") or (silent and caught == "Exception")

    assert offenders(too_wide) == []


def test_no_arguments_that_are_swallowed() -> None:
    def swallows(n: ast.AST) -> bool:
        if not isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or n.args.kwarg is None:
            return False
        return isinstance(n, ast.Lambda) or not any(shares_options(d) for d in n.decorator_list)

    def shares_options(n: ast.AST) -> bool:
        """Whether it is `strict(old names, shared dataclasses)`, which refuses what is no field of these."""
        return isinstance(n, ast.Call) and ast.unparse(n.func) == "strict" and len(n.args) > 1

    assert (
        offenders(
            swallows,
            skip=[
                "options.py",
                "tabular/embeddings.py",
                "nn/registry.py",
                "results07.py",
                "fields07.py",
                "datasets07.py",
            ],
        )
        == []
    )
    # `strict` in options wraps any function: it is what refuses them. scikit-learn gives `set_params` any keyword; ours
    # refuses those that it does not know. `register` wraps any constructor, and passes on what that takes. NumPy calls
    # what an array in results07 does with its functions. `get_ds` of datasets07 calls the data set's own constructor.


def test_no_global_generator_is_seeded_or_drawn_from() -> None:
    banned = {"torch.manual_seed", "torch.set_rng_state", "random.seed", "random.setstate", "random.random"}
    own = ("np.random.default_rng", "np.random.RandomState")  # generators of one's own

    def of_everybody(n: ast.AST) -> bool:
        name, _ = called(n)
        return name in banned or (name.startswith("np.random.") and not name.startswith(own))

    assert offenders(of_everybody, skip=["keyed.py"]) == []


def test_every_module_has_a_docstring_and_postponed_annotations() -> None:
    for file, tree in TREES.items():
        future = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
        assert ast.get_docstring(tree) and (future or len(tree.body) == 1), file


def test_no_metaclass_and_no_fall_through() -> None:
    """A misspelt name is an error, not a lookup elsewhere."""
    hooks = ("__getattr__", "__getattribute__", "__setattr__")
    assert offenders(lambda n: isinstance(n, ast.FunctionDef) and n.name in hooks) == []
    assert offenders(lambda n: isinstance(n, ast.ClassDef) and any(k.arg == "metaclass" for k in n.keywords)) == []
