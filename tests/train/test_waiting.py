from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from easylearn.train import waiting
from easylearn.train.waiting import Waiting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that a test moves."""
    made = SimpleNamespace(now=100.0)
    made.monotonic = lambda: made.now
    monkeypatch.setattr(waiting, "time", made)
    monkeypatch.setattr(waiting, "PATIENCE", 2.0)
    return made


def test_lines_come_after_twice_the_time_and_the_end_is_said(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting("storing", 4000) as wait:
        for _ in range(4000):
            clock.now += 1
            wait.add(1)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0] == "storing: 2 of 4,000 items after 0:02, about 1:06:38 to go"
    assert [line.split(" of")[0] for line in lines[1:-1]] == [f"storing: {2**k:,}" for k in range(2, 12)]
    assert lines[-1] == "storing: 4,000 items in 1:06:40"


def test_what_is_done_in_a_moment_is_not_spoken_of(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting("storing", 3) as wait:
        wait.add(1)
        clock.now += 1.9
        wait.add(1)
        clock.now += 100
        wait.add(1)  # the last: whoever waited has it now
    assert capsys.readouterr().err == ""


def test_a_number_that_nobody_knows_and_another_unit(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting("reading", None, unit="rows") as wait:
        clock.now += 3
        wait.add(5)
    assert capsys.readouterr().err.splitlines() == ["reading: 5 rows after 0:03", "reading: 5 rows in 0:03"]


def test_after_an_error_no_end_is_said(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> None:
        with Waiting("reading", 9) as wait:
            clock.now += 3
            wait.add(5)
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        read()
    assert capsys.readouterr().err.splitlines() == ["reading: 5 of 9 items after 0:03, about 0:02 to go"]


def test_silence(clock: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda seen=terminal: seen)
        with Waiting("reading", 9, shown=False) as wait:
            clock.now += 3
            wait.add(5)
    assert capsys.readouterr() == ("", "")


def test_a_program_without_a_console_is_told_nothing(
    clock: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On Windows it has no streams at all."""
    monkeypatch.setattr(sys, "stderr", None)
    with Waiting("reading", 9) as wait:
        clock.now += 3
        wait.add(5)
    assert wait.done == 5 and capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_that_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    with Waiting("reading", 2) as wait:
        wait.add(2)
    err = capsys.readouterr().err
    assert "reading:   0%" in err and "0/2" in err and err.rstrip("\r").endswith(" ")


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_has_bars_where_it_has_widgets(
    widgets: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(waiting, "find_spec", lambda name: object() if widgets and name == "ipywidgets" else None)
    assert waiting.shows_bars() is widgets
    assert waiting.bars().__module__ == ("tqdm.notebook" if widgets else "tqdm.std")
    if not widgets:
        with Waiting("reading", 9) as wait:
            wait.add(9)
        assert capsys.readouterr() == ("", "")
