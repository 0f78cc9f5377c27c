"""Samplers: the next point, a pure function of (seed, number, what is known), so that nothing has to be saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import keyed
from ..errors import ArgumentError
from ..quiet import no_warnings
from .gp import propose
from .space import Listed, Space

STARTS = 10
"""Points that a method which learns takes first, spread evenly."""


@dataclass(frozen=True)
class Tried:
    """A trial that a sampler may learn from.

    Args:
        number: of the trial.
        point: its values.
        loss: what came of it, lower is better; one that diverged has the worst loss so far.
        rung: how far it went, from 0 (the first rung) to 1 (the end).
    """

    number: int
    point: Mapping[str, Any]
    loss: float
    rung: float = 1.0


Known = Sequence[Tried]
Sampler = Callable[[Space, int, int, Known], dict[str, Any]]
"""Gives the point of a number, from a space, a seed, the number, and what is known."""


def random(space: Space, seed: int, number: int, known: Known) -> dict[str, Any]:
    """A point anywhere (Bergstra and Bengio, JMLR 2012)."""
    return space.point(keyed.uniform([number], len(space.names), seed, "search")[0].tolist())


def quasi(space: Space, seed: int, number: int, known: Known) -> dict[str, Any]:
    """A point of a scrambled Sobol sequence: spread evenly, however many there are (Owen 1998)."""
    sobol: Any = torch.quasirandom.SobolEngine
    engine = sobol(len(space.names), scramble=True, seed=keyed.key(seed, "sobol") % 2**31)
    drawn = engine.fast_forward(number).draw(1, dtype=torch.float64)[0]
    return space.point(drawn.tolist())


def annealing(space: Space, seed: int, number: int, known: Known, trials: int = 60) -> dict[str, Any]:
    """A step from where a walk stands that takes worse places too, ever more rarely (Kirkpatrick et al. 1983).

    The walk is worked out anew from the trials in their order.

    Args:
        space, seed, number, known: see `Sampler`.
        trials: after which the walk has cooled down.
    """
    if len(known) < STARTS:
        return quasi(space, seed, number, known)
    walk = sorted(known, key=lambda t: t.number)
    here = min(walk[:STARTS], key=lambda t: t.loss)
    low, high = np.percentile([t.loss for t in walk[:STARTS]], [25, 75])
    scale = float(high - low) / 2 or 1.0
    for tried in walk[STARTS:]:
        heat = scale * math.exp(-3 * tried.number / trials)
        worse = (tried.loss - here.loss) / max(heat, 1e-12)
        if worse <= 0 or float(keyed.uniform([tried.number], 1, seed, "accept")[0, 0]) < math.exp(-min(worse, 700.0)):
            here = tried
    return _moved(space, here.point, 0.3 * math.exp(-3 * number / trials), seed, number)


def evolution(
    space: Space, seed: int, number: int, known: Known, population: int = 20, among: int = 5
) -> dict[str, Any]:
    """One change to the best of a few of the youngest trials: aging evolution (arXiv 1802.01548).

    Args:
        space, seed, number, known: see `Sampler`.
        population: the youngest trials that may be a parent.
        among: how many of these compete.
    """
    if len(known) < min(population, 2 * STARTS):
        return quasi(space, seed, number, known)
    young = sorted(known, key=lambda t: t.number)[-population:]
    drawn = keyed.permutation(len(young), seed, "parents", number)[:among]
    parent = min((young[i] for i in drawn), key=lambda t: t.loss)
    return _moved(space, parent.point, 0.1, seed, number)


def reinforce(space: Space, seed: int, number: int, known: Known, rate: float = 0.15, bins: int = 8) -> dict[str, Any]:
    """A point drawn from shares of all values, which what came of others has moved: REINFORCE (Williams 1992).

    As in arXiv 1611.01578, but with shares for each name in place of a network. They are worked out anew from the
    trials in their order.

    Args:
        space, seed, number, known: see `Sampler`.
        rate: how far a trial moves them that is one mean deviation better than the mean.
        bins: equal ranges that stand for the values of a range of numbers.
    """
    if len(known) < STARTS:
        return quasi(space, seed, number, known)
    sizes = [d.n_values or bins if isinstance(d := space.plain(n), Listed) else bins for n in space.names]
    logits = [np.zeros(size) for size in sizes]
    mean = spread = 0.0
    for seen, tried in enumerate(sorted(known, key=lambda t: t.number)):
        pace = max(0.1, 1 / (seen + 1))
        gap = tried.loss - mean if seen else 0.0
        spread += max(0.1, 1 / max(seen, 1)) * (abs(gap) - spread)
        mean += pace * (tried.loss - mean)
        step = rate * max(-3.0, min(3.0, -gap / spread)) if spread > 0 else 0.0
        for logit, size, name, u in zip(logits, sizes, space.names, space.units(tried.point), strict=True):
            if name in tried.point:
                shares = _shares(logit)
                logit -= step * shares
                logit[min(int(u * size), size - 1)] += step
    drawn = keyed.uniform([number], 2 * len(sizes), seed, "reinforce")[0].reshape(2, -1)
    grown = [np.cumsum(_shares(logit))[:-1] for logit in logits]
    at = [int(np.searchsorted(ends, u, "right")) for ends, u in zip(grown, drawn[0], strict=True)]
    return space.point([(k + v) / size for k, v, size in zip(at, drawn[1], sizes, strict=True)])


def _shares(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    grown: npt.NDArray[np.float64] = np.exp(logits - logits.max())
    grown /= grown.sum()
    return grown


def _moved(space: Space, point: Mapping[str, Any], scale: float, seed: int, number: int) -> dict[str, Any]:
    """A neighbour of a point: numbers take a step of about `scale` of their range, values without order are drawn."""
    units, d = np.array(space.units(point)), len(space.names)
    for attempt in range(20):
        rng = np.random.default_rng(keyed.key(seed, "step", number, attempt))
        moves = rng.random(d) < max(1 / d, scale / 2)
        moves[rng.integers(d)] |= not moves.any()
        for i in np.flatnonzero(moves):
            dimension = space.plain(space.names[i])
            n = dimension.n_values or 0
            if isinstance(dimension, Listed) and not dimension.ordered:
                units[i] = rng.random()
                continue
            step = rng.normal() * max(scale, 0.05)
            if n > 0 and abs(step) * n < 1:  # at least the next value
                step = math.copysign(1 / n, step)
            units[i] = abs(units[i] + step) if units[i] + step < 1 else max(0.0, 2 - units[i] - step)
        if (found := space.point(np.clip(units, 0, 1).tolist())) != point:
            return found
    return random(space, seed, number, ())


def gp(space: Space, seed: int, number: int, known: Known) -> dict[str, Any]:
    """Where a Gaussian process over points and rungs expects most of an improvement; see `gp.propose`."""
    if len(known) < STARTS:
        return quasi(space, seed, number, known)
    told = sorted(known, key=lambda t: (t.number, t.rung))
    rungs, losses = np.array([t.rung for t in told]), np.array([t.loss for t in told])
    point: dict[str, Any] = propose(space, [t.point for t in told], rungs, losses, seed, "gp", number)
    return point


# -- Optuna's ----------------------------------------------------------------------------------------------------


def bayes(space: Space, seed: int, number: int, known: Known) -> dict[str, Any]:
    """Where good trials are denser than bad ones: a tree of Parzen estimators (Bergstra et al., NeurIPS 2011)."""
    return _optuna(space, seed, number, known, lambda s, o: o.TPESampler(seed=s, n_startup_trials=0))


def genetic(space: Space, seed: int, number: int, known: Known) -> dict[str, Any]:
    """A child of two good parents of the generation before (NSGA-II, Deb et al. 2002)."""
    return _optuna(space, seed, number, known, lambda s, o: o.NSGAIISampler(seed=s, population_size=STARTS))


def _optuna(space: Space, seed: int, number: int, known: Known, make: Callable[[int, Any], Any]) -> dict[str, Any]:
    """The proposal of one of Optuna's samplers, made anew, with a study in memory that knows what is known."""
    if len(known) < STARTS:
        return quasi(space, seed, number, known)
    try:
        import optuna
    except ImportError as error:
        raise ArgumentError(
            'the methods "bayes" and "genetic" are Optuna\'s: pip install "easylearn[search]"; "random", "quasi", '
            '"annealing", "evolution", "reinforce" and "gp" need nothing'
        ) from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with no_warnings(), keyed.scoped_rng(seed, "optuna", number):
            sampler = make(keyed.key(seed, "optuna", number) % 2**32, optuna.samplers)
            study = optuna.create_study(sampler=sampler, study_name="search")
            for i, tried in enumerate(sorted(known, key=lambda t: t.number)):
                study.add_trial(_told(space, tried, {"NSGAIISampler:generation": i // STARTS}, optuna))
            return _asked(space, study.ask())
    finally:
        optuna.logging.set_verbosity(before)


def _told(space: Space, tried: Tried, notes: Mapping[str, Any], optuna: Any) -> Any:
    """A trial as Optuna knows it: values of lists by their position."""
    params, kinds = {}, {}
    for name, value in tried.point.items():
        dimension = space.plain(name)
        d = optuna.distributions
        if not isinstance(dimension, Listed):
            kind = d.IntDistribution if dimension.whole else d.FloatDistribution
            params[name], kinds[name] = value, kind(dimension.low, dimension.high, log=dimension.log)
        else:
            last = len(dimension.values) - 1
            params[name] = dimension.index(value)
            kinds[name] = (
                d.IntDistribution(0, last) if dimension.ordered else d.CategoricalDistribution(range(last + 1))
            )
    return optuna.trial.create_trial(params=params, distributions=kinds, value=tried.loss, system_attrs=dict(notes))


def _asked(space: Space, trial: Any) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for name in space.names:
        if not space.is_active(name, point):
            continue
        dimension = space.plain(name)
        if not isinstance(dimension, Listed):
            ask = trial.suggest_int if dimension.whole else trial.suggest_float
            point[name] = ask(name, dimension.low, dimension.high, log=dimension.log)
        elif dimension.ordered:
            point[name] = dimension.values[trial.suggest_int(name, 0, len(dimension.values) - 1)]
        else:
            point[name] = dimension.values[trial.suggest_categorical(name, range(len(dimension.values)))]
    return point


METHODS: dict[str, Sampler] = {
    "random": random, "quasi": quasi, "annealing": annealing, "evolution": evolution,
    "reinforce": reinforce,
    "bayes": bayes, "gp": gp, "genetic": genetic,
}  # fmt: skip
LEARNS = {"annealing", "evolution", "reinforce", "bayes", "gp", "genetic"}
"""The methods whose points depend on what came of others."""
