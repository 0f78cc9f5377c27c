"""Many runs: tracked, searched, folded and compared; the names that make a space are here."""

from __future__ import annotations

from ..intervals import Difference, Interval
from .architecture import Darts, cell_net, cells, darts, genotype
from .audit import Audit, Finding
from .certainty import Spread
from .space import choice, log, ordered, powers, standard_space, subset, uniform, when
from .tuned import Tuned

__all__ = [
    "Audit", "Darts", "Difference", "Finding", "Interval", "Spread", "Tuned", "cell_net", "cells", "choice", "darts",
    "genotype", "log", "ordered", "powers", "standard_space", "subset", "uniform", "when",
]  # fmt: skip
