from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from easylearn.errors import SchemaError, StateError, WeightsError
from easylearn.train.checkpoints import state_file
from easylearn.train.checkpoints.state_file import read_info, read_state, write_state


def equal(a: Any, b: Any) -> bool:
    """The same values, types and orders in memory."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        same_bits = torch.equal(
            a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8)
        )
        dense = a.numel() == 0 or not a.is_contiguous() or b.is_contiguous()
        return a.dtype == b.dtype and a.shape == b.shape and same_bits and dense
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b) or (a != a and b != b)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]).flatmap(
        lambda kind: st.lists(st.integers(0, 3), max_size=3).map(lambda shape: torch.ones(shape).to(kind))
    ),
)
trees = st.dictionaries(
    st.text() | st.integers(),
    st.recursive(
        leaves,
        lambda t: st.one_of(
            st.lists(t, max_size=3),
            st.lists(t, max_size=3).map(tuple),
            st.dictionaries(st.text(max_size=3) | st.integers(), t, max_size=3),
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@given(trees)
def test_any_state_comes_back(tmp_path_factory: pytest.TempPathFactory, state: dict[Any, Any]) -> None:
    file = tmp_path_factory.mktemp("s") / "a.safetensors"
    write_state(file, state, {"step": 1})
    assert equal(read_state(file), state)


def test_tensors_that_share_memory_and_orders_in_memory(tmp_path: Path) -> None:
    base = torch.arange(48.0).reshape(2, 3, 2, 4)
    state = {
        "whole": base,
        "part": base[1],
        "again": base,
        "innermost": base.to(memory_format=torch.channels_last),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "expanded": torch.ones(1).expand(4),
        "every other": torch.arange(6.0)[::2],
        "nothing": torch.zeros(1, 0, 5),
        "number": torch.tensor(3),
        "a/b": {"c": torch.ones(1)},
        "a": {"b": {"c": torch.zeros(1)}},
        "json": torch.ones(2),
    }
    file = write_state(tmp_path / "a.safetensors", state, {})
    found = read_state(file)
    assert all(torch.equal(found[k], v) for k, v in state.items() if isinstance(v, Tensor))
    assert torch.equal(found["a/b"]["c"], torch.ones(1)) and torch.equal(found["a"]["b"]["c"], torch.zeros(1))
    assert found["innermost"].is_contiguous(memory_format=torch.channels_last)
    assert found["turned"].stride() == (1, 3) and found["expanded"].is_contiguous()
    found["whole"].zero_()
    assert found["part"].sum() > 0  # each owns its memory
    assert file.read_bytes() == write_state(file, state, {}).read_bytes()


def test_numbers_are_exact(tmp_path: Path) -> None:
    numbers = [0.1, 1e-310, math.inf, -0.0, 2**100, float(torch.tensor(1 / 3))]
    found = read_state(write_state(tmp_path / "a.safetensors", {"n": [*numbers, math.nan]}, {}))["n"]
    assert found[:-1] == numbers and math.isnan(found[-1]) and math.copysign(1, found[3]) == -1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, "callbacks/0/state/seen, a set"),
        (object(), "a object"),
        (len, "builtin_function_or_method"),
        ({(1, 2): 3}, "keys are neither"),
        (b"bytes", "a bytes"),
        (torch.ones(2).to_sparse(), "layout"),
    ],
)
def test_what_is_neither_plain_nor_a_tensor_is_refused(value: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=said):
        write_state(tmp_path / "a.safetensors", {"callbacks": [{"state": {"seen": value}}]}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    state = {"weight": torch.arange(50.0), "n": [1, 2, 3], "name": "x" * 40}
    return write_state(tmp_path / "a.safetensors", state, {"step": 7})


def test_any_changed_byte_and_any_shortening_is_noticed(whole: Path) -> None:
    content, draw = whole.read_bytes(), random.Random(0)
    state = read_state(whole)
    for _ in range(300):
        changed = bytearray(content)
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        whole.write_bytes(changed)
        try:
            assert equal(read_state(whole), state)  # a letter of the padding, say
        except WeightsError:
            continue
    for length in {0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1}:
        whole.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"a\.safetensors"):
            read_state(whole)
    whole.write_bytes(content + b"more")
    with pytest.raises(WeightsError):
        read_state(whole)
    position = content.index(torch.arange(50.0).numpy().tobytes())
    whole.write_bytes(content[: position + 9] + b"\x07" + content[position + 10 :])
    assert read_info(whole)["step"] == 7  # the header is as it was
    with pytest.raises(WeightsError, match="digest"):
        read_state(whole)


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w\.safetensors is not a checkpoint .*learn\.load"):
        read_info(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        read_state(tmp_path / "missing.safetensors")
    (tmp_path / "p.safetensors").write_bytes(b"\x80\x04\x95pickled")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        read_state(tmp_path / "p.safetensors")
    for schema, wrote in ((1, "newer"), (3, "older")):
        monkeypatch.setattr(state_file, "SCHEMA", schema)
        with pytest.raises(SchemaError, match=rf"a\.safetensors .*{wrote} easylearn \(schema 2\)"):
            read_state(whole)
