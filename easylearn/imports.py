"""2018's `fastai.imports`: the modules and names that its notebooks take for granted, from one table.

`from easylearn.imports import *` gives whatever of them is installed; nothing is installed for it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from .quiet import no_warnings

# Of each module either itself, under its own or another name, or some of what is in it.
_TABLE = """
numpy as np | pandas as pd | matplotlib | matplotlib.pyplot as plt | PIL | scipy | sklearn | tqdm as tq | warnings
os | sys | math | json | re | random | string | time | datetime | shutil | copy | itertools | collections | threading
contextlib | pickle | pdb | IPython | ipywidgets as widgets | seaborn as sns | cv2 | graphviz | bcolz | sklearn_pandas
gzip | abc: abstractmethod | glob: glob iglob | itertools: chain | functools: partial | operator: itemgetter attrgetter
concurrent.futures: ThreadPoolExecutor ProcessPoolExecutor | collections: Counter OrderedDict | pathlib: Path
collections.abc: Iterable | IPython.display: FileLink FileLinks display HTML | isoweek: Week
pandas_summary: DataFrameSummary | sklearn_pandas: DataFrameMapper | ipywidgets: interact interactive fixed
PIL.Image as Image | PIL.ImageEnhance as ImageEnhance | PIL.ImageOps as ImageOps | sklearn.metrics as metrics
sklearn.ensemble as ensemble | sklearn.preprocessing as preprocessing | matplotlib: rcParams
matplotlib.animation as animation
tqdm: tqdm trange | tqdm.auto: tqdm as tqdm_notebook | tqdm.auto: trange as tnrange | packaging.version: Version
"""


def load_names(table: str) -> dict[str, Any]:
    """What a `table` names, by name, as far as it is installed.

    >>> sorted(load_names("os | math: sqrt pi | json as js | no_such_module: a"))
    ['js', 'os', 'pi', 'sqrt']
    """
    found: dict[str, Any] = {}
    for entry in (entry.strip() for line in table.strip().splitlines() for entry in line.split("|")):
        what, _, alias = entry.partition(" as ")
        name, _, members = what.partition(":")
        try:
            with no_warnings():  # other people's, of what they mean to change
                module = importlib.import_module(name)
        except ImportError:
            continue
        given = {m: getattr(module, m) for m in members.split()} if members else {name: module}
        found |= {alias: next(iter(given.values()))} if alias else given
    return found


def star(into: dict[str, Any], *sources: ModuleType, own: Iterable[str] = ()) -> list[str]:
    """Put the public names of other modules of 2018 into one, as its `import *` lines did.

    Args:
        into: the module's globals; what is there already stays.
        sources: the later one wins.
        own: names that the module defines.

    Returns:
        The module's `__all__`.
    """
    found = {name: vars(source)[name] for source in sources for name in source.__all__}
    for name, value in found.items():
        into.setdefault(name, value)
    return sorted({*found, *own})


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    return "ipykernel" in sys.modules and sys.modules["ipykernel"].kernelapp.IPKernelApp.initialized()


in_ipynb = in_notebook


def clear_tqdm() -> None:
    """Close bars that an interrupted loop left open."""
    for bar in list(getattr(_names["tqdm"], "_instances", ())):
        bar.close()


_names = load_names(_TABLE)
globals().update(_names)
__all__ = sorted({*_names, "clear_tqdm", "in_ipynb", "in_notebook"})
