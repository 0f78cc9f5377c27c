"""An interpolated Kneser-Ney model of three tokens: what a language model has to beat, on the same tokens.

Kneser and Ney 1995, in the interpolated form of Chen and Goodman 1999, one discount per order, found from how many
n-grams come once and twice. Used by language_model.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Table:
    """Sorted keys with their counts."""

    def __init__(self, keys: Ints, weights: Ints | None = None) -> None:
        if weights is None:
            self.keys, self.counts = np.unique(keys, return_counts=True)
        else:
            self.keys, place = np.unique(keys, return_inverse=True)
            self.counts = np.bincount(place, weights=weights).astype(np.int64)

    def get(self, keys: Ints) -> Ints:
        """The count of each key, 0 where it is not there."""
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.counts[place], 0)

    @property
    def discount(self) -> float:
        """n1 / (n1 + 2 n2)."""
        once, twice = int((self.counts == 1).sum()), int((self.counts == 2).sum())
        return once / max(once + 2 * twice, 1)


class KneserNey:
    """P(c | a b) by counts of training tokens; `size` is the number of different tokens."""

    def __init__(self, tokens: Ints, size: int) -> None:
        self.size = size
        a, b, c = tokens[:-2], tokens[1:-1], tokens[2:]
        pairs = np.unique(tokens[:-1] * size + tokens[1:])
        self.three = Table((a * size + b) * size + c)
        triples = self.three.keys
        self.after_two = Table(triples // size, self.three.counts)
        self.kinds_after_two = Table(triples // size)
        # Below the highest order an n-gram counts as often as there are different words before it.
        self.two = Table(triples % (size * size))
        self.after_one = Table(self.two.keys // size, self.two.counts)
        self.kinds_after_one = Table(self.two.keys // size)
        self.one = Table(pairs % size)

    def probability(self, a: Ints, b: Ints, c: Ints) -> Floats:
        """Of each c after its a and b."""
        d1, d2, d3 = self.one.discount, self.two.discount, self.three.discount
        total = self.one.counts.sum()
        p = np.maximum(self.one.get(c) - d1, 0) / total + d1 * len(self.one.keys) / total / self.size
        p = self._mix(self.two.get(b * self.size + c), self.after_one.get(b), self.kinds_after_one.get(b), d2, p)
        ab = a * self.size + b
        seen = self.three.get(ab * self.size + c)
        return self._mix(seen, self.after_two.get(ab), self.kinds_after_two.get(ab), d3, p)

    @staticmethod
    def _mix(count: Ints, total: Ints, kinds: Ints, discount: float, lower: Floats) -> Floats:
        safe = np.maximum(total, 1)
        mixed = np.maximum(count - discount, 0) / safe + discount * kinds / safe * lower
        return np.where(total > 0, mixed, lower)

    def perplexity(self, tokens: Ints, step: int = 1_000_000) -> float:
        """Of all tokens but the first two."""
        total = 0.0
        for start in range(2, len(tokens), step):
            end = min(start + step, len(tokens))
            total += np.log(
                self.probability(tokens[start - 2 : end - 2], tokens[start - 1 : end - 1], tokens[start:end])
            ).sum()
        return float(np.exp(-total / (len(tokens) - 2)))
