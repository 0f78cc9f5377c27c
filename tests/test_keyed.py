from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easylearn import keyed

parts = st.lists(st.one_of(st.integers(), st.text(st.characters(codec="ascii", categories=["L", "N"]))), max_size=4)


class TestKey:
    @given(a=parts, b=parts)
    def test_equal_only_for_equal_parts(self, a: list[keyed.Part], b: list[keyed.Part]) -> None:
        assert (keyed.key(*a) == keyed.key(*b)) == (a == b)
        assert 0 <= keyed.key(*a) < 2**64

    def test_kinds_and_order_matter(self) -> None:
        different = [keyed.key(*p) for p in ([1, 2], [2, 1], [12], ["1", 2], ["12"], [], [1], [-1])]
        assert len(set(different)) == len(different)
        assert keyed.key(np.int64(3)) == keyed.key(3)  # type: ignore[arg-type]

    def test_the_same_numbers_in_every_process(self) -> None:
        """Fixed numbers: changing them changes every shuffle and split that users have made."""
        assert keyed.key(0, "shuffle", 1) == 16242326786510754057
        assert keyed.permutation(6, 0, "shuffle", 1).tolist() == [3, 4, 1, 5, 2, 0]
        assert keyed.uniform([5], 2, 7, "flip").tolist() == [[0.5671690033848844, 0.9039196100033258]]
        code = "from easylearn import keyed; print(keyed.key(0, 'shuffle', 1))"
        environment = {**os.environ, "PYTHONHASHSEED": "7"}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert int(out.stdout) == keyed.key(0, "shuffle", 1)


def test_generator_and_permutation() -> None:
    a, b = (torch.rand(4, generator=keyed.generator(3, "x")) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, torch.rand(4, generator=keyed.generator(4, "x")))
    assert sorted(keyed.permutation(100, 1).tolist()) == list(range(100))
    assert keyed.permutation(100, 1).tolist() != keyed.permutation(100, 2).tolist()
    assert keyed.permutation(0, 1).tolist() == []


class TestUniform:
    @given(items=st.lists(st.integers(0, 2**62), min_size=1, max_size=20), n=st.integers(1, 5), seed=st.integers())
    def test_a_row_depends_on_its_item_only(self, items: list[int], n: int, seed: int) -> None:
        together = keyed.uniform(items, n, seed, "flip")
        assert together.shape == (len(items), n) and together.dtype == np.float64
        assert ((together >= 0) & (together < 1)).all()
        for item, row in zip(items, together, strict=True):
            np.testing.assert_array_equal(keyed.uniform([item], n, seed, "flip")[0], row)
            np.testing.assert_array_equal(keyed.uniform([item], n + 3, seed, "flip")[0, :n], row)

    def test_it_looks_uniform_and_independent(self) -> None:
        draws = keyed.uniform(np.arange(20000), 4, 0, "light", 1)
        next_epoch = keyed.uniform(np.arange(20000), 1, 0, "light", 2)
        columns = np.concatenate([draws, next_epoch, np.roll(draws[:, :1], 1, axis=0)], 1)
        correlation = np.corrcoef(columns.T) - np.eye(6)
        assert np.abs(correlation).max() < 0.04
        for column in draws.T:
            counts = np.histogram(column, 20, (0, 1))[0]
            assert ((counts - 1000) ** 2 / 1000).sum() < 50, "chi-squared with 19 degrees of freedom, p = 0.0001"


def states() -> tuple[object, ...]:
    numpy_state = np.random.get_state()
    return random.getstate(), numpy_state[1].tobytes(), numpy_state[2], torch.get_rng_state().numpy().tobytes()


class TestGlobalGenerators:
    def test_keyed_draws_leave_them_alone(self) -> None:
        before = states()
        keyed.generator(1)
        keyed.permutation(10, 1)
        keyed.uniform([1], 1, 1)
        assert states() == before

    def test_scoped(self) -> None:
        before = states()
        drawn = []
        for _ in range(2):
            with keyed.scoped_rng(0, "head"):
                drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
        assert drawn[0] == drawn[1]
        assert states() == before

    def test_scoped_after_an_error(self) -> None:
        before = states()
        with pytest.raises(ZeroDivisionError), keyed.scoped_rng(1):
            _ = torch.rand(1).item() / 0
        assert states() == before

    def test_scoped_without_a_key_only_gives_back(self) -> None:
        before = states()
        with keyed.scoped_rng():
            assert states() == before
            torch.rand(1)
        assert states() == before

    def test_capture_and_restore(self) -> None:
        state = keyed.rng_state()
        first = random.random(), np.random.rand(), torch.rand(2).tolist()
        keyed.seed_global(5)
        keyed.set_rng_state(state)
        assert (random.random(), np.random.rand(), torch.rand(2).tolist()) == first
        keyed.set_rng_state(state)

    def test_on_any_default_device(self) -> None:
        before = states()
        with torch.device("meta"), keyed.scoped_rng(0, "body"):
            random.random()
        assert states() == before
