"""The runtime is a part of easylearn, copied when the wheel is built: the modules below, under another name."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGE = "easylearn_runtime"
HOUSE = Path(__file__).resolve().parent.parent
MODULES = {
    "": ["errors", "files", "lab", "placement", "quiet"],
    "analysis": ["page"],
    "artefact": ["check_items"],
    "data": ["claims", "levels", "values"],
    "recommenders": ["reading"],
    "serve": [p.stem for p in sorted((HOUSE / "serve").glob("*.py")) if p.stem not in ("__init__", "torch_engine")],
    "tabular": ["fitted", "reports"],
    "texts": ["store", "tokenize", "vocab", "words"],
}
PAGES = {
    "analysis": ["page.html"],
    "serve": ["local.js", "page.css", "page.drawn.js", "page.html", "page.js", "prepare.js"],
}
ROOT = '''"""Serves models that easylearn exported as ONNX files."""

from .serve import asgi

__version__ = "0.1.0"
__all__ = ["asgi"]
'''
MAIN = '''"""The command `easylearn-runtime`."""

from __future__ import annotations

import argparse
import sys

from . import __version__
from .errors import EasyLearnError
from .serve.command import add_commands


def main() -> int:
    """Run a command: 0 if it worked, 1 after an error."""
    parser = argparse.ArgumentParser(prog="easylearn-runtime", description="Serve models that easylearn exported.")
    parser.add_argument("--version", action="version", version=f"easylearn-runtime {__version__}")
    add_commands(parser.add_subparsers(dest="command", required=True))
    chosen = parser.parse_args()
    try:
        return int(chosen.run(chosen))
    except (EasyLearnError, OSError) as error:
        print(f"easylearn-runtime: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
'''


class Build(build_py):
    """Copies the modules instead of finding packages."""

    def run(self) -> None:
        for file, text in self._files().items():
            target = Path(self.build_lib) / PACKAGE / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What is built."""
        return [str(Path(self.build_lib) / PACKAGE / file) for file in self._files()]

    def _files(self) -> dict[str, str]:
        """Texts by their place in the package."""
        found = {"__init__.py": ROOT, "main.py": MAIN, "py.typed": ""}
        for package, modules in MODULES.items():
            if package:
                found[f"{package}/__init__.py"] = (HOUSE / package / "__init__.py").read_text(encoding="utf-8")
            for module in modules:
                found[f"{package}/{module}.py"] = (HOUSE / package / f"{module}.py").read_text(encoding="utf-8")
        for name in (f"{package}/{page}" for package, pages in PAGES.items() for page in pages):
            found[name] = (HOUSE / name).read_text(encoding="utf-8")
        return {name.lstrip("/"): text for name, text in found.items()}


# Built elsewhere: a folder `build` in the checkout would be a second copy of modules, found by whoever reads the tree.
built = tempfile.mkdtemp(prefix="easylearn-runtime-")
atexit.register(shutil.rmtree, built, ignore_errors=True)
setup(
    cmdclass={"build_py": Build},
    packages=[PACKAGE],
    package_dir={PACKAGE: "."},
    options={"build": {"build_base": built}},
)
