"""Waiting: what is told while something takes long: a bar where somebody sees one, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 2.0
"""Seconds of work before anything is said of it."""


class Waiting:
    """A context that counts what is done, and tells of it on the standard error where that takes longer than a moment.

    On a terminal and in a notebook with widgets it draws a bar that goes away. Elsewhere a line says how far it is and
    when it may be done, each after twice the time of the one before, so that a night's work leaves a dozen lines in a
    log.

    Args:
        what: is done, "precompute train" for one.
        total: how many in all; None where nobody knows.
        shown: False says nothing.
        unit: of what is counted, in the plural.
        patience: seconds before the first line; None takes `PATIENCE`.

    >>> with Waiting("reading", 3, shown=False) as wait:
    ...     wait.add(3)
    >>> wait.done
    3
    """

    def __init__(
        self, what: str, total: int | None, shown: bool = True, unit: str = "items", patience: float | None = None
    ) -> None:
        self.what, self.total, self.shown, self.unit = what, total, shown, unit
        self.patience = PATIENCE if patience is None else patience
        self.done = 0
        self._bar: Any = None
        self._told = False

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self._next = self.patience
        if self.shown and shows_bars():
            self._bar = bars()(
                total=self.total,
                desc=self.what,
                leave=False,
                unit=f" {self.unit}",
                delay=self.patience,
                file=sys.stderr,
            )
        return self

    def add(self, n: int) -> None:
        """Count `n` more, and tell how far it is where it is time."""
        self.done += n
        if self._bar is not None:
            self._bar.update(n)
        elif self.shown and self.done != self.total and (passed := time.monotonic() - self._begun) >= self._next:
            self._next = 2 * passed
            self._tell(f"{self._so_far()} after {_clock(passed)}{self._rest(passed)}")

    def put_off(self) -> None:
        """Wait anew with the next line: something else was said just now."""
        self._next = max(self._next, time.monotonic() - self._begun + self.patience)

    def _so_far(self) -> str:
        return f"{self.done:,}{'' if self.total is None else f' of {self.total:,}'} {self.unit}"

    def _rest(self, passed: float) -> str:
        if self.total is None or not self.done:
            return ""
        return f", about {_clock(passed * (self.total - self.done) / self.done)} to go"

    def _tell(self, text: str) -> None:
        self._told = True
        if sys.stderr is not None:  # else it would go to the standard output
            print(f"{self.what}: {text}", file=sys.stderr, flush=True)

    def __exit__(self, kind: object, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._told and kind is None:  # of what was said to go on, the end is said, too
            self._tell(f"{self.done:,} {self.unit} in {_clock(time.monotonic() - self._begun)}")


def _clock(seconds: float) -> str:
    """A time as minutes and seconds, hours before them where it takes some."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def shows_bars() -> bool:
    """Whether somebody sees a bar move: on a terminal, or in a notebook that has widgets."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()  # a program of Windows without a console has none
    return is_terminal or _has_widgets()


def bars() -> Any:
    """Tqdm's bars: as widgets in a notebook that has these, else as text. `tqdm.auto` warns of one that has none."""
    if _has_widgets():
        from tqdm.notebook import tqdm as of_widgets

        return of_widgets
    from tqdm.std import tqdm as of_text

    return of_text


def _has_widgets() -> bool:
    """Whether this process is the kernel of a notebook, whose output is no terminal, and ipywidgets is there."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    in_notebook = any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)
    return in_notebook and find_spec("ipywidgets") is not None
