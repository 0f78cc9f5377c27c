"""Many runs: tracked, searched, folded and compared; the names that make a space are here."""

from __future__ import annotations

from .space import choice, log, ordered, powers, standard_space, subset, uniform, when

__all__ = ["choice", "log", "ordered", "powers", "standard_space", "subset", "uniform", "when"]
