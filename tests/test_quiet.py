"""What one thread is not told of others are told of, and nobody's filters are lost."""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sklearn.utils.parallel import Parallel, delayed

import easylearn
from easylearn.quiet import Quiet, each_once, no_warnings, note

PACKAGE = Path(easylearn.__file__).parent


def in_another(work: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(60)


def warn(text: str = "odd", category: type[Warning] = UserWarning) -> None:
    warnings.warn(text, category, stacklevel=1)


def test_a_thread_is_not_told_and_others_are() -> None:
    with no_warnings():
        warn()
        with pytest.raises(UserWarning, match="odd"):  # warnings are errors in these tests
            in_another(warn)
    with pytest.raises(UserWarning, match="odd"):
        warn()


def test_only_what_is_named_is_kept_back() -> None:
    with Quiet("the (loss|weights) became", DeprecationWarning)():
        warn("The loss became NaN", DeprecationWarning)
        for other in (("a loss", DeprecationWarning), ("the loss became NaN", UserWarning)):
            with pytest.raises(other[1]):
                warn(*other)


def test_contexts_lie_in_one_another_and_end_with_errors() -> None:
    def fail() -> None:
        with no_warnings():
            warn()
            raise KeyError

    with no_warnings():
        with pytest.raises(KeyError):
            fail()
        warn()
    with pytest.raises(UserWarning):
        warn()


def test_the_filters_of_a_thread_that_comes_and_one_that_goes_stay() -> None:
    """With `warnings.catch_warnings` in both, "ignore" stayed for good where the one that began first left first."""
    before, begun, ended = list(warnings.filters), threading.Event(), threading.Event()

    def work() -> None:
        with no_warnings():
            begun.set()
            ended.wait(60)
            warn()

    with warnings.catch_warnings():
        thread = threading.Thread(target=work)
        thread.start()
        begun.wait(60)
        warnings.filterwarnings("ignore", "mine")
        ended.set()
        thread.join(60)
        warn("mine")
        with pytest.raises(UserWarning):
            warn("not mine")
    assert [f for f in warnings.filters if not isinstance(f[1], Quiet)] == [  # type: ignore[comparison-overlap]
        f
        for f in before
        if not isinstance(f[1], Quiet)  # type: ignore[comparison-overlap]
    ]


def test_it_goes_before_filters_that_are_set_later_and_is_added_once() -> None:
    with warnings.catch_warnings():
        quiet, other = Quiet(), Quiet("never")
        for _ in range(3):
            with quiet(), other():
                warn()
        n = len(warnings.filters)
        for _ in range(9):
            warnings.simplefilter("error")
            with quiet():
                warn()
            with quiet():
                warn()
        assert len(warnings.filters) <= n + 1


def test_another_process_gets_a_filter_that_takes_nothing() -> None:
    with warnings.catch_warnings(), no_warnings():
        sent = pickle.loads(pickle.dumps(warnings.filters))
    assert sent[0][0] == "ignore" and isinstance(sent[0][1], re.Pattern) and not sent[0][1].match("odd")


def test_scikit_learn_passes_filters_on_to_its_workers() -> None:
    """It makes each anew by its pattern; one that was never entered there keeps nothing back."""

    def loud() -> str:
        with warnings.catch_warnings(record=True) as told:
            warnings.warn("odd", UserWarning, stacklevel=1)
        return str([str(w.message) for w in told])

    with no_warnings():
        assert Parallel(n_jobs=1)([delayed(loud)()]) == ["[]"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with no_warnings():  # puts the filter in front of it
            pass
        assert Parallel(n_jobs=2, backend="threading")([delayed(loud)()]) == ["['odd']"]


def test_the_library_changes_no_filters_of_others() -> None:
    found = [f for f in PACKAGE.rglob("*.py") if "warnings.catch_warnings(" in f.read_text(encoding="utf-8")]
    assert [f.name for f in found] == ["report.py"]  # which must hear what is said, and gives back what is not its own


def test_a_note_is_printed_once_within_and_each_time_outside(capsys: pytest.CaptureFixture[str]) -> None:
    told: set[str] = set()
    for _ in range(2):  # two trials of one search
        with each_once(told):
            note("3 numbers"), note("3 numbers"), note("4 numbers")
    with each_once(set()):  # another search
        note("3 numbers")
    note("3 numbers"), note("3 numbers")
    assert capsys.readouterr().out.split(" numbers\n")[:-1] == ["3", "4", "3", "3", "3"]


def test_an_error_within_leaves_nothing_behind_and_other_threads_are_outside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        in_another(lambda: note("a"))
        note("a")
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"), each_once({"a"}):
        fail()
    note("a")
    assert capsys.readouterr().out == "a\na\n"
