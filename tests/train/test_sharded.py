"""Shares of weights in each process: the same losses, metrics and files as one process has, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import easylearn as el
from easylearn.device import at_most_threads
from easylearn.errors import ArgumentError
from easylearn.train.distributed import Lanes
from easylearn.train.processes import Processes
from easylearn.train.sharded import Sharded, _blocks, _fully_shard, _outline
from easylearn.train.snapshot import own_class, shared_out, whole
from tests import learners
from tests.train.test_distributed import launched
from tests.train.together import FITS, PLAIN, At, last_row, made, odd, pause, scores

NEAR = {"rel": 1e-5, "abs": 1e-5}


def has_fsdp2() -> bool:
    try:
        _fully_shard()
    except ArgumentError:
        return False
    return True


new_torch = pytest.mark.skipif(not has_fsdp2(), reason="this torch has no such FSDP2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made_folder: Path = tmp_path_factory.mktemp("shares")
    with at_most_threads(1):
        made("tensors", optimizer=PLAIN).fit(
            0.01, 2, checkpoint=made_folder / "tensors of one", callbacks=[At(3, 0, pause)]
        )
    return made_folder


@pytest.fixture(scope="module")
def told(folder: Path) -> list[dict[str, Any]]:
    """What each of the two has found."""
    return launched("share_out", folder)


@new_torch
class TestTwoProcesses:
    @pytest.mark.parametrize("kind", FITS)
    def test_losses_and_metrics_are_those_of_one(self, told: list[dict[str, Any]], kind: str) -> None:
        losses, row, shares = told[0][kind]
        assert told[1][kind] == [losses, row, shares] and shares == ["DTensor"]
        with at_most_threads(1):
            learn = made(kind, optimizer=PLAIN)
            learn.fit(0.01, 1)
        assert learn.record is not None
        assert losses == pytest.approx(learn.record.losses, **NEAR)
        assert row == pytest.approx(last_row(learn), **NEAR)

    def test_a_process_may_have_several_lanes(self, told: list[dict[str, Any]]) -> None:
        with at_most_threads(1):
            learn = made("tables", lanes=4, optimizer=PLAIN)
            learn.fit(0.01, 1)
        assert learn.record is not None
        assert told[0]["more lanes"][0] == pytest.approx(learn.record.losses, **NEAR)

    def test_a_run_goes_on_with_and_without_shares(self, folder: Path, told: list[dict[str, Any]]) -> None:
        with at_most_threads(1):
            untouched, resumed = (made("tensors", lanes=n, optimizer=PLAIN) for n in (2, None))
            untouched.fit(0.01, 2)
            resumed.resume(folder / "sharded", callbacks=[At(3, 1, pause)])
        assert last_row(resumed) == pytest.approx(last_row(untouched), **NEAR)
        assert told[0]["resumed"] == told[1]["resumed"] == pytest.approx(last_row(untouched), **NEAR)

    def test_one_process_may_end_the_fit(self, told: list[dict[str, Any]]) -> None:
        assert told[0]["stopped"] == told[1]["stopped"] == [4, "the time is over"]

    def test_weights_of_a_file_and_shares_are_averaged(self, told: list[dict[str, Any]]) -> None:
        with at_most_threads(1):
            learn = made("tensors", lanes=2, optimizer=PLAIN)
            learn.fit(0.01, 4, callbacks=[el.KeepBest(3)])
            wanted = learn.validate()
        assert told[0]["averaged"] == told[1]["averaged"] == pytest.approx(wanted, **NEAR)

    def test_each_item_is_validated_once(self, told: list[dict[str, Any]]) -> None:
        with at_most_threads(1):
            _, validated, probs = scores(odd())
        for each in told:
            assert each["odd"][1] == pytest.approx(validated, **NEAR)
            torch.testing.assert_close(torch.tensor(each["odd"][2]), torch.tensor(probs), rtol=1e-5, atol=1e-6)

    def test_files_are_those_of_any_learner(self, folder: Path, told: list[dict[str, Any]]) -> None:
        before, after, rates = told[0]["validated"]
        assert before != after and len(rates) == 12 and told[0]["loaded"] == pytest.approx(after, **NEAR)
        learn = made("texts", lanes=None)
        learn.load(folder / "of shares")
        assert learn.validate() == pytest.approx(after, **NEAR)
        exported = el.load_learner(folder / "of shares.easylearn", device="cpu")
        for a, b in zip(exported.model.parameters(), learn.model.parameters(), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("name", ["WeightAverage", "Prune", "precompute"])
    def test_what_needs_whole_weights_is_refused(self, told: list[dict[str, Any]], name: str) -> None:
        assert name in told[0][name] and 'shard="fsdp"' in told[0][name]


def test_one_process_alone_has_nothing_to_share() -> None:
    assert isinstance(learners.tensors(shard="fsdp", lanes=2, device="cpu").strategy, Lanes)
    with pytest.raises(ArgumentError, match=r'shard must be "fsdp" or None'):
        learners.tensors(shard="zero", device="cpu")


@new_torch
@pytest.mark.parametrize(("how", "says"), [(("fp16",), "fp16"), (("fp32", None, 1, True), "compile=")])
def test_what_does_not_go_together_is_refused(how: tuple[Any, ...], says: str) -> None:
    if says == "fp16":
        pytest.importorskip("torch.distributed.tensor")
    with pytest.raises(ArgumentError, match=says):
        Sharded(2, True, Processes(0, 2, None), "cpu", *how)


@new_torch
def test_more_processes_than_lanes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="1 lanes cannot be shared by 2 processes"):
        Sharded(1, True, Processes(0, 2, None), "cpu")


def test_an_old_torch_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.distributed.fsdp.FSDPModule", raising=False)
    with pytest.raises(ArgumentError, match=r"FSDP2.*update torch"):
        Sharded(2, True, Processes(0, 2, None), "cpu")


def test_blocks_are_large_listed_and_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easylearn.train.sharded.LEAST_NUMBERS", 50)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(20, 8), nn.Linear(8, 20)
            self.out.weight = self.words.weight
            self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3))
            self.more = nn.Sequential(nn.Linear(8, 2), self.out)

    net = Tied()
    found = [*_blocks(net)]
    # The inner one first; what a block of its own has is not counted again. `more` and `out` share a weight.
    assert set(found) == {layer[0] for layer in net.layers}  # type: ignore[index]


def test_an_outline_has_no_weights_and_the_same_ties() -> None:
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "norm": nn.BatchNorm1d(4)})
    net["b"].weight = net["a"].weight
    outline = _outline(net)
    assert isinstance(outline, nn.ModuleDict) and outline["b"].weight is outline["a"].weight
    assert all(p.is_meta for p in outline.parameters()) and not outline["norm"].running_var.is_meta  # type: ignore[union-attr]
    assert not net["a"].weight.is_meta


def test_tensors_that_are_not_shared_out_stay_as_they_are() -> None:
    t = torch.ones(3)
    assert whole({"a": [t, (1, "x")]})["a"][0] is t and shared_out(t, torch.zeros(3)) is t
    assert own_class(nn.Linear(2, 2)) is nn.Linear
