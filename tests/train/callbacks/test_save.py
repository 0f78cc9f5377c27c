from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from easylearn import TensorData, metrics, single_label
from easylearn.errors import ArgumentError, EasyLearnWarning, StateError
from easylearn.learning import Learner
from easylearn.metrics import Metric
from easylearn.train.callback import Callback
from easylearn.train.callbacks import KeepBest, SaveBest, SaveCycles, WeightAverage, save
from easylearn.train.callbacks.save import suited
from easylearn.train.state import Pause, Run
from easylearn.train.strategy import SingleDevice

MakeLearner = Callable[..., Learner]


@pytest.fixture
def scripted(make_learner: MakeLearner) -> Callable[..., Learner]:
    def make(values: list[float], higher: bool | None, **settings: Any) -> Learner:
        left = iter(values)
        return make_learner(metrics=[Metric("score", lambda outputs, target: next(left), higher)], **settings)

    return make


def saved(tmp_path: Path, name: str) -> dict[str, Any]:
    return load_file(tmp_path / "models" / f"{name}.safetensors")


class TestSaveBest:
    @pytest.mark.parametrize(("higher", "best"), [(True, 3), (False, 1)])
    def test_it_keeps_the_best_epoch_by_the_metrics_direction(
        self,
        scripted: Callable[..., Learner],
        at: Any,
        weights: Any,
        same: Any,
        tmp_path: Path,
        higher: bool,
        best: int,
    ) -> None:
        copies: list[Any] = []
        learn = scripted([5, 2, 4, 7, 6], higher)
        learn.fit(0.1, 5, save_best="top", callbacks=[at(epoch_end=lambda run: copies.append(weights(run.model)))])
        assert same(saved(tmp_path, "top"), copies[best])

    def test_lower_is_better_for_an_error(
        self, make_learner: MakeLearner, at: Any, weights: Any, same: Any, tmp_path: Path
    ) -> None:
        # The 2018 library took the first metric and thought that higher is better.
        copies: list[Any] = []
        learn = make_learner(metrics=[metrics.error_rate])
        record = learn.fit(
            0.2, 5, save_best="top", callbacks=[at(epoch_end=lambda run: copies.append(weights(run.model)))]
        )
        errors = record.column("error_rate")
        assert len(set(errors)) > 1 and same(saved(tmp_path, "top"), copies[errors.index(min(errors))])

    def test_the_first_metric_with_a_direction_or_the_loss(
        self, scripted: Callable[..., Learner], at: Any, weights: Any, same: Any, tmp_path: Path
    ) -> None:
        copies: list[Any] = []
        learn = scripted([1, 9, 1, 1], None)
        record = learn.fit(
            0.1, 4, save_best="top", callbacks=[at(epoch_end=lambda run: copies.append(weights(run.model)))]
        )
        losses = record.column("valid_loss")
        assert same(saved(tmp_path, "top"), copies[losses.index(min(losses))])

    def test_an_object_says_more(self, scripted: Callable[..., Learner], tmp_path: Path) -> None:
        scripted([1, 2], True).fit(0.1, 2, save_best=SaveBest("by_loss", "valid_loss"))
        assert saved(tmp_path, "by_loss")

    def test_an_unknown_direction_is_an_error_before_training(
        self, scripted: Callable[..., Learner], weights: Any, same: Any
    ) -> None:
        learn = scripted([1, 2], None)
        before = weights(learn)
        with pytest.raises(ArgumentError, match="whether higher or lower 'score' is better"):
            learn.fit(0.1, 2, save_best=SaveBest("top", "score"))
        assert same(before, weights(learn)) and learn.epochs_done == 0

    def test_without_validation(self, make_learner: MakeLearner, make_data: Any) -> None:
        with pytest.raises(ArgumentError, match="there is none"):
            make_learner(data=make_data(n_valid=None)).fit(0.1, 1, save_best="top")

    def test_several_fits_keep_the_best_of_all(
        self, scripted: Callable[..., Learner], weights: Any, same: Any, tmp_path: Path
    ) -> None:
        learn = scripted([5, 3, 4, 6], True, callbacks=[SaveBest("top")])
        learn.fit(0.1, 1)
        best = weights(learn)
        with pytest.warns(EasyLearnWarning, match=r"top\.safetensors keeps .* an earlier fit, whose score of 5 "):
            learn.fit(0.1, 2)
        assert same(saved(tmp_path, "top"), best)
        learn.fit(0.1, 1)
        assert same(saved(tmp_path, "top"), weights(learn))

    @pytest.mark.parametrize("how", ["name", "object", "callback"])
    def test_a_second_fit_replaces_nothing_better(
        self, scripted: Callable[..., Learner], weights: Any, same: Any, tmp_path: Path, how: str
    ) -> None:
        def asked() -> dict[str, Any]:
            if how == "callback":
                return {"callbacks": [SaveBest("top")]}
            return {"save_best": "top" if how == "name" else SaveBest("top")}

        learn = scripted([5, 3, 4, 6], True)
        learn.fit(0.1, 1, **asked())
        best = weights(learn)
        with pytest.warns(EasyLearnWarning, match="no epoch of this one surpassed"):
            learn.fit_one_cycle(0.1, 2, **asked())
        assert same(saved(tmp_path, "top"), best)
        learn.fit(0.1, 1, **asked())
        assert same(saved(tmp_path, "top"), weights(learn))

    @pytest.mark.parametrize("change", ["data", "model", "deleted", "metric"])
    def test_it_begins_anew_where_nothing_compares(
        self,
        scripted: Callable[..., Learner],
        make_data: Any,
        make_model: Any,
        weights: Any,
        same: Any,
        tmp_path: Path,
        change: str,
    ) -> None:
        learn = scripted([5, 3], True)
        learn.fit(0.1, 1, save_best="top")
        if change == "data":
            learn.set_data(make_data(seed=3))
        elif change == "model":
            learn.model = make_model("plain")[0]
        elif change == "deleted":
            (tmp_path / "models" / "top.safetensors").unlink()
        learn.fit(0.1, 1, save_best=SaveBest("top", "valid_loss") if change == "metric" else "top")
        assert same(saved(tmp_path, "top"), weights(learn))

    def test_what_a_resumed_fit_saved_is_known(
        self, scripted: Callable[..., Learner], at: Any, weights: Any, same: Any, tmp_path: Path
    ) -> None:
        def stop(run: Any) -> None:
            run.stop_reason = Pause("enough") if run.epoch == 1 else None

        learn = scripted([5, 3], True)
        learn.fit(0.1, 3, save_best="top", checkpoint=tmp_path / "run", callbacks=[at(epoch_begin=stop)])
        best, later = saved(tmp_path, "top"), scripted([3, 4, 4], True)
        later.resume(tmp_path / "run", callbacks=[at()])
        with pytest.warns(EasyLearnWarning, match="score of 5"):
            later.fit(0.1, 1, save_best="top")
        assert same(saved(tmp_path, "top"), best)

    def test_nan_is_never_the_best(self, scripted: Callable[..., Learner], weights: Any, tmp_path: Path) -> None:
        learn = scripted([float("nan"), float("nan")], True)
        learn.fit(0.1, 2, save_best="top")
        assert not (tmp_path / "models" / "top.safetensors").exists()

    def test_with_averaging_it_saves_what_was_validated(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        learn = make_learner(metrics=[])
        record = learn.fit(0.1, 3, save_best="top", callbacks=[WeightAverage("ema", decay=0.5)])
        best = min(record.column("valid_loss"))
        assert learn.load("top").validate()["valid_loss"] == best


class TestSaveCycles:
    @pytest.mark.parametrize(
        ("n", "cycle_len", "cycle_mult", "ends"), [(3, 1, 2, [6, 18, 42]), (2, 2, 1, [12, 24]), (3, 0.5, 1, [3, 6, 9])]
    )
    def test_exactly_at_each_cycles_last_batch(
        self,
        make_learner: MakeLearner,
        at: Any,
        weights: Any,
        same: Any,
        tmp_path: Path,
        n: int,
        cycle_len: float,
        cycle_mult: int,
        ends: list[int],
    ) -> None:
        # The 2018 library saved one batch early.
        copies: dict[int, Any] = {}

        def copy(run: Any) -> None:
            copies[run.step] = weights(run.model)

        learn = make_learner()
        learn.fit(0.1, n, cycle_len=cycle_len, cycle_mult=cycle_mult, save_cycles="c", callbacks=[at(batch_end=copy)])
        for k, end in enumerate(ends):
            assert same(saved(tmp_path, f"c_{k}"), copies[end])
            assert not same(saved(tmp_path, f"c_{k}"), copies[end - 1])
        assert len(list((tmp_path / "models").iterdir())) == n

    def test_without_cycles_the_end(self, make_learner: MakeLearner, tmp_path: Path, weights: Any, same: Any) -> None:
        learn = make_learner()
        learn.fit(0.1, 2, cycle_len=None, save_cycles="c")
        assert same(saved(tmp_path, "c_0"), weights(learn))


@pytest.mark.parametrize("callback", [SaveBest("x"), SaveCycles("x")])
def test_a_run_with_nowhere_to_save_says_so(callback: Any) -> None:
    run: Any = SimpleNamespace(
        save=None,
        step=1,
        cycle_ends=(1,),
        metrics={"valid_loss": 1.0},
        task=SimpleNamespace(metrics=()),
        valid_loader=1,
        saved_best={},
    )
    callback.on_fit_begin(run)
    with pytest.raises(StateError, match="this run cannot save"):
        callback.on_batch_end(run), callback.on_epoch_end(run)


class TestKeepBest:
    @pytest.mark.parametrize("rate", [0.3, 3.0])
    def test_it_ends_with_the_weights_of_the_least_loss(
        self, make_learner: MakeLearner, at: Any, weights: Any, same: Any, rate: float
    ) -> None:
        keep, learn = KeepBest(), make_learner()
        copies, losses = [weights(learn)], [learn.validate()["valid_loss"]]
        record = learn.fit(
            rate, 6, callbacks=[keep, at(epoch_end=lambda run: copies.append(weights(run.model)))], momentum=None
        )
        losses += record.column("valid_loss")
        best = losses.index(min(losses))
        assert best < 6 or rate < 1  # a large rate does harm at some time
        assert same(weights(learn), copies[best]) and keep.epoch == best and keep.best == losses[best]
        assert learn.validate()["valid_loss"] == pytest.approx(min(losses))

    def test_of_several_processes_the_first_one_says_what_is_best(self, make_learner: MakeLearner) -> None:
        """Last bits differ where devices do, and then each kept the weights of another epoch."""
        said = iter([0.5, 0.4, 0.6, 0.3, 0.7])

        class Second(SingleDevice):
            def gather(self, rows: torch.Tensor) -> torch.Tensor:
                first = torch.full_like(rows, next(said)) if rows.dtype == torch.float64 else rows
                return torch.cat([first, rows])

        learn, keep = make_learner(), KeepBest()
        learn._strategy = Second(torch.device("cpu"))
        record = learn.fit(0.1, 4, callbacks=[keep])
        assert record.column("valid_loss") == [0.4, 0.6, 0.3, 0.7] and (keep.epoch, keep.best) == (3, 0.3)

    def test_of_several_it_ends_with_their_mean(self, at: Any, weights: Any) -> None:
        x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        own = (x[:, :3], (x[:, 0] + x[:, 3] > 0).long())
        torch.manual_seed(0)
        learn = Learner(TensorData(own, own, single_label(["a", "b"]), batch_size=20), nn.Linear(3, 2), progress=False)
        learn.fit(0.1, 5)
        keep, copies, losses = KeepBest(3), [weights(learn)], [learn.validate()["valid_loss"]]
        note = at(epoch_end=lambda run: copies.append(weights(run.model)))
        losses += learn.fit(0.1, 6, cycle_len=None, callbacks=[keep, note]).column("valid_loss")
        first = sorted(range(7), key=losses.__getitem__)[:3]
        for name, live in weights(learn).items():
            torch.testing.assert_close(live, torch.stack([copies[i][name] for i in first]).mean(0))
        assert learn.validate()["valid_loss"] < sum(losses[i] for i in first) / 3 and keep.epoch == first[0]

    def test_a_mean_that_is_worse_than_what_it_is_made_of_gives_way_to_the_best(self, at: Any) -> None:
        x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        own = (x, (x[:, 0] > 0).long())
        torch.manual_seed(0)
        first, last = nn.Linear(4, 8), nn.Linear(8, 2)
        model = nn.Sequential(first, nn.Tanh(), last)
        learn = Learner(TensorData(own, own, single_label(["a", "b"]), batch_size=20), model, progress=False)
        learn.fit(1e-2, 5)

        def turn(run: Run) -> None:
            with torch.no_grad():
                for p in (first.weight, first.bias, last.weight):
                    p.neg_()  # the same function, and half way between both is none

        keep = KeepBest(2)
        learn.fit(1e-6, 1, callbacks=[at(epoch_begin=turn), keep])
        assert keep.best is not None and keep.best < 0.5
        assert learn.validate()["valid_loss"] == pytest.approx(keep.best, rel=1e-4)

    @pytest.mark.parametrize("weighted", [True, False])
    def test_the_loss_has_its_weights_of_classes_where_a_mean_is_judged(self, at: Any, weighted: bool) -> None:
        """Both epochs find what is rare with many false alarms, the mean of their weights never; which is worse?"""
        x = torch.tensor([[1.0]] * 86 + [[-1.0]] * 114)
        own = (x, (torch.arange(200) < 10).long())
        first, last = nn.Linear(1, 1, bias=False), nn.Linear(1, 2)
        with torch.no_grad():
            first.weight.fill_(3.0)
            last.weight.copy_(torch.tensor([[0.0], [2.5]]))
            last.bias.copy_(torch.tensor([0.0, -1.0]))
        model, loss = nn.Sequential(first, nn.Tanh(), last), nn.CrossEntropyLoss(torch.tensor([1.0, 100.0]))
        data = TensorData(own, own, single_label(["often", "seldom"]), batch_size=200)
        learn = Learner(data, model, loss=loss if weighted else nn.CrossEntropyLoss(), progress=False)

        def turn(run: Run) -> None:
            with torch.no_grad():
                for p in (first.weight, last.weight):
                    p.neg_()  # the same function, and half way between both it is a constant

        keep = KeepBest(2)
        learn.fit(1e-9, 1, callbacks=[at(epoch_begin=turn), keep])
        ended = learn.validate()["valid_loss"]
        assert keep.best is not None and (abs(ended - keep.best) < 1e-4 if weighted else ended < keep.best - 0.2)

    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    @pytest.mark.parametrize("n", [1, 7, 21, 200])
    def test_what_stands_for_losses_of_items_has_their_mean_and_error(self, n: int, reduction: str) -> None:
        r = torch.Generator().manual_seed(n)
        logits, target = torch.randn(n, 3, generator=r), torch.randint(3, (n,), generator=r)
        each = nn.functional.cross_entropy(logits, target, reduction="none").double() * (n if reduction == "sum" else 1)
        run: Any = SimpleNamespace(
            task=SimpleNamespace(loss=nn.CrossEntropyLoss(reduction=reduction)),
            strategy=SimpleNamespace(device=torch.device("cpu")),
        )
        found = save._pseudo_losses(run, logits, target)
        assert len(found) == min(n, 20) and float(found.mean()) == pytest.approx(float(each.mean()), rel=1e-5)
        if n < 20 and reduction == "mean":
            torch.testing.assert_close(found.sort()[0], each.sort()[0], atol=1e-5, rtol=0)
        elif n > 1:
            errors = [float(v.std() / len(v) ** 0.5) for v in (found, each)]
            assert errors[0] == pytest.approx(errors[1], rel=0.5)

    def test_after_an_error_it_ends_with_the_best_and_a_fit_in_its_handler_with_the_mean(
        self, make_learner: MakeLearner, at: Any, weights: Any, same: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ends, looked = [], [0]
        item_losses = save._item_losses

        def look(run: Run) -> Any:
            looked[0] += 1
            return item_losses(run)

        def fail(run: Run) -> None:
            if run.epoch == 2:
                raise ZeroDivisionError

        monkeypatch.setattr(save, "_item_losses", look)
        for error in (True, False):
            learn = make_learner()
            rows = [(learn.validate()["valid_loss"], weights(learn.model))]  # the start counts, too
            note = at(epoch_end=lambda run, rows=rows: rows.append((run.metrics["valid_loss"], weights(run.model))))
            try:
                learn.fit(1e-3, 3, callbacks=[KeepBest(3), note, *([at(batch_begin=fail)] if error else [])])
            except ZeroDivisionError:
                assert looked == [0] and same(weights(learn), min(rows, key=lambda row: row[0])[1])
                again = make_learner()
                again.fit(1e-3, 3, callbacks=[KeepBest(3)])
                ends.append(weights(again))
        assert looked == [4] and same(ends[0], weights(learn))

    def test_a_checkpoint_holds_the_best_so_far(self) -> None:
        keep = KeepBest(2)
        keep._kept = [(0.5, 3, [torch.ones(2)]), (0.7, 1, [torch.zeros(2)])]
        other = KeepBest()
        other.load_state_dict(keep.state_dict())
        assert (other.n, other.best, other.epoch, len(other._kept)) == (2, 0.5, 3, 2)
        other.load_state_dict(KeepBest(4).state_dict())
        assert (other.n, other.best, other.epoch, other._kept) == (4, None, 0, [])

    def test_a_fit_that_only_does_harm_leaves_the_weights_as_they_were(
        self, make_learner: MakeLearner, weights: Any, same: Any
    ) -> None:
        keep, learn = KeepBest(), make_learner()
        learn.fit(0.1, 3)
        before = weights(learn)
        assert learn.fit(5.0, 2, callbacks=[keep]).last["valid_loss"] > float(keep.best or 0)
        assert same(before, weights(learn)) and keep.epoch == 0

    def test_without_validation_the_last_weights_stay(
        self, make_learner: MakeLearner, make_data: Any, weights: Any, same: Any
    ) -> None:
        ends = []
        for given in ([], [KeepBest()]):
            learn = make_learner(data=make_data(n_valid=None))
            learn.fit(0.1, 2, callbacks=given)
            ends.append(weights(learn))
        assert same(*ends)


def test_the_record_names_the_epochs_whose_weights_were_kept(make_learner: MakeLearner) -> None:
    learn = make_learner()
    learn.fit(0.1, 2)
    record = learn.fit(0.01, 4, callbacks=[KeepBest(3)])
    order = sorted(record.epochs, key=lambda row: row["valid_loss"])
    alone, several = f"epoch {order[0]['epoch']:.0f}, ", sorted(f"{row['epoch']:.0f}" for row in order[:3])
    assert record.kept is not None
    assert record.kept.startswith((alone, f"mean of the best 3 epochs ({', '.join(several)}), "))
    assert record.kept.endswith(f"valid_loss {learn.validate()['valid_loss']:.4f}")
    record = learn.fit(100.0, 1, callbacks=[KeepBest()])
    assert str(record.kept).startswith("the weights before the first epoch, valid_loss ")


class TestWithoutANumberOfEpochs:
    def test_data_that_says_nothing_is_trained_for_one(self, make_learner: MakeLearner, capsys: Any) -> None:
        learn = make_learner(progress=True)
        learn.fit_one_cycle(0.1)
        assert learn.epochs_done == 1 and "suits" not in capsys.readouterr().out

    @pytest.mark.parametrize("progress", [True, False])
    def test_data_that_says_what_suits_it(
        self, make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: Any, progress: bool
    ) -> None:
        learn = make_learner(progress=progress)
        monkeypatch.setattr(type(learn.data), "suited_epochs", 4)
        record = learn.fit_one_cycle(2.0)
        assert len(record.epochs) == 4
        assert learn.validate()["valid_loss"] <= min(record.column("valid_loss")) + 1e-6
        said = f"trains for 4 epochs, as suits {learn.data.loader('train').n_items} items, and ends with"
        out = capsys.readouterr().out
        assert (said in out) == progress
        loss = learn.validate()["valid_loss"]
        assert out.endswith(f", valid_loss {loss:.4f}\n") and "\nkept: " in out if progress else out == ""
        record = learn.fit(0.01, 2, callbacks=[KeepBest()])
        best = min(record.epochs, key=lambda row: row["valid_loss"])
        kept = f"epoch {best['epoch']:.0f}" if best["valid_loss"] < loss else "the weights before the first epoch"
        loss = learn.validate()["valid_loss"]
        assert capsys.readouterr().out.endswith(f"kept: {kept}, valid_loss {loss:.4f}\n" if progress else "")
        learn.fit_one_cycle(0.1, 2)
        assert learn.epochs_done == 8

    @pytest.mark.parametrize(("epochs", "n"), [(1, 1), (8, 2), (60, 8)])
    def test_the_best_quarter_is_averaged(
        self, make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, epochs: int, n: int
    ) -> None:
        data = make_learner().data
        monkeypatch.setattr(type(data), "suited_epochs", epochs)
        count, (keep,) = suited(None, 1, None, [], data, say=False)
        assert isinstance(keep, KeepBest) and (count, keep.n) == (epochs, n)

    @pytest.mark.parametrize("given", [WeightAverage(), KeepBest()])
    @pytest.mark.parametrize("of", ["fit", "learner"])
    def test_whoever_says_which_weights_a_fit_ends_with_has_its_way(
        self, make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: Any, given: Callback, of: str
    ) -> None:
        learn = make_learner(progress=True, callbacks=[given] if of == "learner" else [])
        monkeypatch.setattr(type(learn.data), "suited_epochs", 3)
        begun = []
        monkeypatch.setattr(KeepBest, "on_fit_begin", lambda self, run: begun.append(self))
        learn.fit_one_cycle(0.1, callbacks=[given] if of == "fit" else [])
        assert learn.epochs_done == 3 and begun == ([given] if isinstance(given, KeepBest) else [])
        assert "trains for 3 epochs" in (said := capsys.readouterr().out) and "ends with" not in said

    def test_callbacks_that_are_no_list_are_refused(self, make_learner: MakeLearner) -> None:
        with pytest.raises(ArgumentError, match=r"callbacks must be a list, got KeepBest; write \[KeepBest"):
            make_learner().fit_one_cycle(0.1, callbacks=KeepBest())  # type: ignore[arg-type]

    def test_a_whole_number_as_rate_is_told(self, make_learner: MakeLearner) -> None:
        with pytest.raises(ArgumentError, match="learning rate comes first, and 5 looks like a number of epochs"):
            make_learner().fit_one_cycle(5)
