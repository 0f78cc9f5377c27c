"""Learning curves extrapolated to their end, with an interval: to stop trials that cannot win, never to rank any.

On LCBench the values after a third of the epochs rank trials better than what a power law makes of them: it errs most
where a curve is noisy. What it is good for is to say how far up a curve may still come.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError, check_number
from ..intervals import Interval

LEAST = 4
"""Values that a curve must have to be extrapolated."""
EXPONENTS = np.array([0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5])
AHEAD = 1.0
"""By how much of its range a curve may leave its law while the epochs grow by e: a falling rate lifts it at the end."""


def extrapolate(epochs: Sequence[float], values: Sequence[float], end: float, level: float = 0.95) -> Interval:
    """Where a learning curve will be at its end, by power laws `a + b * t ** -c` of several exponents.

    Each exponent's line is fitted by least squares, late epochs counting more; they are weighted by how well they fit
    (as in arXiv 1505.07427 several laws are, here in closed form). Most curves of training are not laws: a rate that
    falls lifts them at the end. From half of the epochs on the interval allows for that; before, it is too narrow.

    Args:
        epochs: after which the values were measured, rising, from 1 on.
        values: of the metric, at least `LEAST`.
        end: the epoch to extrapolate to.
        level: how often the interval should hold the value at the end.

    Returns:
        The mean of the laws, between their ends.

    Raises:
        ArgumentError: there are too few values, or the end is not after them.

    >>> found = extrapolate([1, 2, 3, 4, 5, 6], [0.5, 0.65, 0.7, 0.725, 0.74, 0.75], 20)
    >>> 0.75 < found.value < 0.82, found.low < found.value < found.high
    (True, True)
    """
    t, y = np.asarray(epochs, float), np.asarray(values, float)
    check_number("level", level, "above 0", "below 1")
    if len(t) != len(y) or len(t) < LEAST or not end > t[-1] or not np.isfinite(y).all():
        raise ArgumentError(
            f"a curve is extrapolated from at least {LEAST} finite values to a later epoch; got {len(y)} values of "
            f"{len(t)} epochs, and {end} as the end"
        )
    from scipy.special import stdtrit

    weight = np.sqrt(t / t[-1])
    means, scales, fits = np.zeros((3, len(EXPONENTS)))
    for i, c in enumerate(EXPONENTS):
        x = np.stack([np.ones_like(t), t**-c], 1)
        square = np.linalg.inv(x.T @ (weight[:, None] * x) + 1e-12 * np.eye(2))
        line = square @ (x.T @ (weight * y))
        rest = float((weight * (y - x @ line) ** 2).sum())
        at = np.array([1.0, end**-c])
        noise = max(rest / (len(t) - 2), 1e-18)
        means[i], scales[i] = at @ line, math.sqrt(noise * (1 + at @ square @ at))
        fits[i] = -0.5 * len(t) * math.log(max(rest, 1e-18))
    share = np.exp(fits - fits.max())
    share /= share.sum()
    mean = float(share @ means)
    spread = math.sqrt(float(share @ (scales**2 + (means - mean) ** 2)))
    spread += AHEAD * float(np.ptp(y)) * math.log(end / t[-1])
    reach = float(stdtrit(len(t) - 2, (1 + level) / 2)) * spread
    return Interval(mean, mean - reach, mean + reach, level)


def is_hopeless(
    epochs: Sequence[float], values: Sequence[float], end: float, beat: float, higher: bool, level: float
) -> bool:
    """Whether a trial, extrapolated, stays behind a value even at the better end of its interval.

    Args:
        epochs, values, end: see `extrapolate`; a curve that is too short is never hopeless.
        beat: the best value so far.
        higher: whether higher values are better.
        level: of the interval: one in (1 - level) / 2 may be wrongly given up.
    """
    if len(values) < LEAST or not all(map(math.isfinite, values)):
        return False
    found = extrapolate(epochs, values, end, level)
    best = max(found.high, *values) if higher else min(found.low, *values)
    return best < beat if higher else best > beat
