"""Track: the folder says what the record says, through any kill, and the training is as it would be without it."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import easylearn as el
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning, SchemaError, StateError
from easylearn.experiment import track
from easylearn.experiment.lines import read_lines
from easylearn.learning import Learner
from easylearn.train.callback import Callback
from easylearn.train.checkpoints.writer import Continued
from tests.experiment.small import make
from tests.learners import KINDS


def rows(folder: Path, name: str = track.STEPS) -> list[dict[str, Any]]:
    return [row for _, row in read_lines(folder / name)]


def info(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_bytes())
    return found


def same_weights(a: Learner, b: Learner) -> bool:
    return all(map(torch.equal, a.model.state_dict().values(), b.model.state_dict().values()))


class Fails(Callback):
    def __init__(self, step: int = 0) -> None:
        self.step = step

    def on_batch_end(self, run: Any) -> None:
        if run.step == self.step:
            raise ZeroDivisionError("on purpose")


def test_the_folder_says_what_the_record_says(tmp_path: Path) -> None:
    learn = make()
    record = learn.fit(0.1, 2, callbacks=[el.Track(tmp_path / "a", every=0)])
    steps = rows(tmp_path / "a")
    assert [r["loss"] for r in steps] == record.losses and [r["step"] for r in steps] == list(range(1, 11))
    assert [tuple(r["rates"]) for r in steps] == record.rates and [r["momentum"] for r in steps] == record.momentum
    assert [r["epoch"] for r in steps] == record.to_frame("step")["epoch"].tolist()
    epochs = rows(tmp_path / "a", track.EPOCHS)
    assert [{**r, "epoch": float(r["epoch"])} for r in epochs] == [
        {"fit": 0, "step": end, **row} for row, end in zip(record.epochs, record.epoch_ends, strict=True)
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_data_is_described_and_trains_as_without(kind: Callable[..., Learner], tmp_path: Path) -> None:
    tracked, plain = kind(progress=False), kind(progress=False)
    tracked.fit(0.01, 1, callbacks=[el.Track(tmp_path / "a", code=False, every=0)])
    plain.fit(0.01, 1)
    assert same_weights(tracked, plain)
    facts = info(tmp_path / "a")["facts"]
    assert facts["data"]["kind"] == type(plain.data).__name__ and facts["data"]["items"]["train"] > 0
    assert facts["model"]["parameters"] == sum(p.numel() for p in plain.model.parameters())
    assert set(facts["data"]["fingerprint"]) == {"train", "valid"}
    assert facts["task"]["kind"] == plain.task.kind and facts["task"]["outputs"] == plain.task.n_out


def test_what_was_chosen_is_noted(tmp_path: Path) -> None:
    learn = make(seed=3, wd=0.2, clip=1.5)
    how = [el.Track(tmp_path / "a", {"size": 128, "idea": "é"}), el.EarlyStopping(patience=7)]
    learn.fit(0.25, 2, cycle_mult=2, callbacks=how, save_best=None)
    found = info(tmp_path / "a")
    chosen = found["fits"][0]["arguments"]
    assert chosen["lr"] == {"model": 0.25} and chosen["epochs planned"] == 3.0 and chosen["cycles"] == 2
    assert chosen["optimizer"]["class"] == "AdamW" and chosen["optimizer"]["weight_decay"] == 0.2
    assert chosen["seed"] == 3 and chosen["clip"] == 1.5 and "Sgdr" in chosen["schedule"]
    assert "patience=7" in chosen["callbacks"]["EarlyStopping"] and list(chosen["callbacks"]) == ["EarlyStopping"]
    assert found["arguments"] == {"size": 128, "idea": "é"}
    assert found["versions"]["torch"] == torch.__version__ and found["machine"]["threads"] == torch.get_num_threads()
    assert found["fits"][0]["status"] == "done" and found["fits"][0]["steps"] == 15


def test_several_fits_of_a_learner_are_one_run(tmp_path: Path) -> None:
    learn, tracker = make(), el.Track(tmp_path / "a")
    learn.fit(0.1, 2, callbacks=[tracker])
    learn.fit(0.05, 1, callbacks=[tracker])
    learn.fit(0.01, 1, callbacks=[el.Track(tmp_path / "a")])  # another object, the same life
    assert [r["fit"] for r in rows(tmp_path / "a", track.EPOCHS)] == [0, 0, 1, 2]
    assert [r["epoch"] for r in rows(tmp_path / "a", track.EPOCHS)] == [0, 1, 2, 3]
    assert [f["arguments"]["lr"]["model"] for f in info(tmp_path / "a")["fits"]] == [0.1, 0.05, 0.01]


def test_a_folder_with_another_run_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "a")])
    before = {f.name: f.read_bytes() for f in (tmp_path / "a").iterdir()}
    learn = make()
    with pytest.raises(StateError, match=r"a holds a run of 1 fit .*replace=True"):
        learn.fit(0.1, 1, callbacks=[el.Track(tmp_path / "a")])
    assert learn.epochs_done == 0 and same_weights(learn, make())
    assert before == {f.name: f.read_bytes() for f in (tmp_path / "a").iterdir()}
    learn.fit(0.1, 2, callbacks=[el.Track(tmp_path / "a", replace=True)])
    assert len(rows(tmp_path / "a", track.EPOCHS)) == 2 and len(info(tmp_path / "a")["fits"]) == 1


def test_a_run_that_did_not_end_is_refused_too(tmp_path: Path) -> None:
    make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "a")])
    found = info(tmp_path / "a")
    for key in ("ended", "status"):
        del found["fits"][0][key]
    (tmp_path / "a" / "run.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(StateError, match="did not end"):
        make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "a")])
    assert len(rows(tmp_path / "a")) == 5


@pytest.mark.parametrize(("breaks", "every"), [(8, 3), (7, 3), (5, "epoch"), (2, 3), (10, 1), (9, "epoch")])
def test_rows_after_the_checkpoint_are_cut_and_the_rest_is_as_without_the_break(
    breaks: int, every: Any, tmp_path: Path
) -> None:
    whole = make()
    whole.fit(0.1, 3, callbacks=[el.Track(tmp_path / "whole", every=0)])
    broken = make()
    with pytest.raises(ZeroDivisionError):
        broken.fit(
            0.1, 3, callbacks=[el.Track(tmp_path / "a", every=0), Fails(breaks)], checkpoint=tmp_path / "c", every=every
        )
    assert len(rows(tmp_path / "a")) == breaks
    failed = info(tmp_path / "a")["fits"][0]
    assert failed["status"] == "failed" and "on purpose" in failed["error"]
    again = make()
    again.resume(tmp_path / "c", callbacks=[el.Track(tmp_path / "a", every=0), Fails()])
    assert rows(tmp_path / "a") == rows(tmp_path / "whole") and same_weights(again, whole)

    def results(folder: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in r.items() if k != "seconds"} for r in rows(folder, track.EPOCHS)]

    assert results(tmp_path / "a") == results(tmp_path / "whole")
    ended = info(tmp_path / "a")["fits"]
    assert len(ended) == 1 and ended[0]["status"] == "done" and "error" not in ended[0] and ended[0]["resumed"]


def test_a_second_fit_that_breaks_leaves_the_first_alone(tmp_path: Path) -> None:
    whole, tracker = make(), el.Track(tmp_path / "whole", every=0)
    for _ in range(2):
        whole.fit(0.1, 2, callbacks=[tracker])
    learn, tracker = make(), el.Track(tmp_path / "a", every=0)
    learn.fit(0.1, 2, callbacks=[tracker])
    state = {k: v.clone() for k, v in learn.model.state_dict().items()}
    for step in (1, 4, 8):
        again = make()
        again.model.load_state_dict(state)
        again._epochs_done = 2
        with pytest.raises(ZeroDivisionError):
            again.fit(
                0.1, 2, callbacks=[el.Track(tmp_path / "a"), Fails(step)], checkpoint=tmp_path / f"c{step}", every=2
            )
        resumed = make()
        resumed.resume(tmp_path / f"c{step}", callbacks=[el.Track(tmp_path / "a", every=0), Fails()])
        assert rows(tmp_path / "a") == rows(tmp_path / "whole") and same_weights(resumed, whole)
        found = info(tmp_path / "a")
        (tmp_path / "a" / "run.json").write_text(json.dumps({**found, "fits": found["fits"][:1]}), encoding="utf-8")
        track._cut(tmp_path / "a" / track.STEPS, 0, 10)
        track._cut(tmp_path / "a" / track.EPOCHS, 0, 2)


def test_a_folder_that_is_gone_is_written_anew_from_the_record(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        make().fit(0.1, 2, callbacks=[el.Track(tmp_path / "a"), Fails(8)], checkpoint=tmp_path / "c", every=3)
    for file in (tmp_path / "a").iterdir():
        file.unlink()
    record = make().resume(tmp_path / "c", callbacks=[el.Track(tmp_path / "a"), Fails()])
    assert [r["loss"] for r in rows(tmp_path / "a")] == record.losses


def test_a_finished_run_that_is_resumed_is_left_as_it_is(tmp_path: Path) -> None:
    make().fit(0.1, 2, callbacks=[el.Track(tmp_path / "a")], checkpoint=tmp_path / "c")
    before = [(tmp_path / "a" / name).read_bytes() for name in (track.STEPS, track.EPOCHS)]
    make().resume(tmp_path / "c", callbacks=[el.Track(tmp_path / "a")])
    assert before == [(tmp_path / "a" / name).read_bytes() for name in (track.STEPS, track.EPOCHS)]
    assert info(tmp_path / "a")["fits"][0]["status"] == "done"


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        make().fit(0.1, 2, callbacks=[el.Track(tmp_path / "a"), Fails(8)], checkpoint=tmp_path / "c", every=3)
    make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "b")])
    before = rows(tmp_path / "b")
    with pytest.raises(StateError, match="b holds a run"):
        make().resume(tmp_path / "c", callbacks=[el.Track(tmp_path / "b"), Fails()])
    assert rows(tmp_path / "b") == before


@pytest.mark.parametrize("ends", [False, True])
def test_a_trial_that_was_killed_before_its_first_checkpoint_begins_anew(ends: bool, tmp_path: Path) -> None:
    folder = tmp_path / "0000"

    def trial(breaks: int = 0, lr: float = 0.05, **how: Any) -> Any:  # of two fits
        learn, callbacks = make(), [el.Track(folder), Fails(breaks)]
        again = Continued(folder / "checkpoints")
        learn.fit(0.1, 1, callbacks=callbacks[:1], checkpoint=again, **how)
        return learn.fit(lr, 2, callbacks=callbacks, checkpoint=again, **how)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            trial(breaks=7, every="1000s")
        for file in (folder / "checkpoints" / "fit_2").glob("*"):
            file.unlink()
        if not ends:  # as a kill leaves it
            found = info(folder)
            del found["fits"][1]["ended"], found["fits"][1]["status"]
            (folder / "run.json").write_text(json.dumps(found), encoding="utf-8")
    record = trial(every="1000s")
    assert [r["loss"] for r in rows(folder) if r["fit"] == 1] == record.losses
    assert [(r["fit"], r["step"]) for r in rows(folder)] == [
        *((0, i) for i in range(1, 6)),
        *((1, i) for i in range(1, 11)),
    ]
    assert [f["status"] for f in info(folder)["fits"]] == ["done", "done"]


def test_a_first_fit_without_a_checkpoint_begins_anew_only_where_it_goes_on(tmp_path: Path) -> None:
    for again in (False, True):
        with pytest.raises(ZeroDivisionError if not again else StateError):
            make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "a"), Fails(3)])
    for again in (3, 0):
        checkpoint = Continued(tmp_path / "c")
        try:
            make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "b"), Fails(again)], checkpoint=checkpoint, every="999s")
        except ZeroDivisionError:
            assert info(tmp_path / "b")["fits"][0]["status"] == "failed" and not any((tmp_path / "c").rglob("*.*"))
    assert len(rows(tmp_path / "b")) == 5 and [f["status"] for f in info(tmp_path / "b")["fits"]] == ["done"]


KILLED = """
    import os, signal, sys, torch
    import easylearn as el
    torch.set_num_threads(1)
    from small import make
    class Kill(el.Callback):
        def on_batch_end(self, run):
            if run.step == 8:
                os.kill(os.getpid(), signal.SIGKILL)
    make().fit(0.1, 3, callbacks=[el.Track("a", every=0), Kill()], checkpoint="c", every=3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_leaves_what_was_written_and_the_run_goes_on(tmp_path: Path) -> None:
    path = os.pathsep.join(map(str, (Path(__file__).parents[2], Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL
    (run,) = el.compare(tmp_path / "a")
    assert run.status == "killed" and len(run.steps) == 8
    torn = tmp_path / "a" / track.STEPS
    torn.write_bytes(torn.read_bytes()[:-9])  # as a crash of the machine leaves it

    class Kill(Callback):
        pass

    whole, again = make(), make()
    whole.fit(0.1, 3, callbacks=[el.Track(tmp_path / "whole")])
    again.resume(tmp_path / "c", callbacks=[el.Track(tmp_path / "a"), Kill()])
    assert rows(tmp_path / "a") == rows(tmp_path / "whole") and same_weights(whole, again)


def test_losses_that_are_no_numbers_are_written(tmp_path: Path) -> None:
    learn = make()
    with pytest.warns(EasyLearnWarning):
        learn.fit(1, 1, schedule=lambda done, n: 1e30, callbacks=[el.Track(tmp_path / "a")])
    losses = [float(r["loss"]) for r in rows(tmp_path / "a")]
    assert not math.isfinite(losses[-1]) and info(tmp_path / "a")["fits"][0]["status"] == "stopped"


def test_a_full_disk_is_one_warning_and_the_rows_come_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, calls = track.append_lines, itertools.count()

    def full(*arguments: Any) -> None:
        if 2 <= next(calls) < 9:
            raise OSError(28, "No space left on device")
        inner(*arguments)

    monkeypatch.setattr(track, "append_lines", full)
    learn, plain = make(), make()
    with pytest.warns(EasyLearnWarning, match="No space left.*goes on") as heard:
        record = learn.fit(0.1, 3, callbacks=[el.Track(tmp_path / "a", every=0)])
    plain.fit(0.1, 3)
    assert len(heard) == 1 and same_weights(learn, plain)
    assert [r["loss"] for r in rows(tmp_path / "a")] == record.losses
    assert len(rows(tmp_path / "a", track.EPOCHS)) == 3


def test_a_fit_that_does_not_begin_leaves_no_run(tmp_path: Path) -> None:
    class Refuses(Callback):
        def on_fit_begin(self, run: Any) -> None:
            raise ZeroDivisionError

    tracker = el.Track(tmp_path / "a")
    for order in ([tracker, Refuses()], [Refuses(), tracker]):
        with pytest.raises(ZeroDivisionError):
            make().fit(0.1, 1, callbacks=order)
    assert not list(tmp_path.rglob("*.json*"))
    make().fit(0.1, 1, callbacks=[tracker])
    assert len(info(tmp_path / "a")["fits"]) == 1


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    class Second(el.SingleDevice):
        is_main = False

    data = make().data
    learn = Learner(data, make().model, strategy=Second("cpu"), progress=False)
    learn.fit(0.1, 1, callbacks=[el.Track(tmp_path / "a")])
    assert not (tmp_path / "a").exists()


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_commit_and_uncommitted_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    script = tmp_path / "train.py"
    script.write_text("rate = 1\n", encoding="utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "runs" / "clean")])
    script.write_text("rate = 2\n", encoding="utf-8")
    (tmp_path / "more.py").write_text("x = 1\n", encoding="utf-8")
    make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "runs" / "dirty")])
    clean, dirty = info(tmp_path / "runs" / "clean")["code"], info(tmp_path / "runs" / "dirty")["code"]
    assert clean["commit"] == dirty["commit"] and len(clean["commit"]) == 40
    assert clean["difference"] is None and dirty["difference"] and list(dirty["untracked"]) == ["more.py"]
    assert not (tmp_path / "runs" / "clean" / track.DIFFERENCE).exists()
    git(tmp_path, "stash", "-q")
    git(tmp_path, "apply", str(tmp_path / "runs" / "dirty" / track.DIFFERENCE))
    assert script.read_text(encoding="utf-8") == "rate = 2\n"


def test_where_git_is_not_or_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "a")])
    make().fit(0.1, 1, callbacks=[el.Track(tmp_path / "b", code=False)])
    assert info(tmp_path / "a")["code"] is None and info(tmp_path / "b")["code"] is None


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), torch.ones(1)], ids=type)
def test_arguments_that_no_file_holds_are_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="plain values"):
        el.Track("a", {"x": value})


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="folder of a run"):
        el.Track(3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="every"):
        el.Track("a", every=-1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", DataError), ("[]", DataError), ('{"schema": 1}', DataError), ('{"schema": 99, "fits": []}', SchemaError)],
)
def test_a_damaged_folder_is_named(text: str, kind: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=r"run\.json"):
        make().fit(0.1, 1, callbacks=[el.Track(tmp_path)])


def test_its_state_is_plain_and_comes_back() -> None:
    tracker = el.Track("a")
    tracker.load_state_dict({"id": "x", "fit": 2})
    assert json.loads(json.dumps(tracker.state_dict())) == {"id": "x", "fit": 2}
