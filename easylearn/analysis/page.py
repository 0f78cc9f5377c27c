"""HTML for reports: one page that loads nothing, its tables, and its drawings at whatever resolution fits."""

from __future__ import annotations

import base64
import html
import io
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import short
from ..quiet import Quiet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Of a name in a script that matplotlib's font lacks: boxes in a drawing, and right in the tables beside it.
_no_glyph = Quiet("Glyph .* missing from")
LONG = 60  # characters from which a cell needs a wide column
Row = Sequence[Any]
Piece = str | Callable[[int], str]  # HTML, or a drawing that becomes HTML at a resolution (dots per inch)


def whole_page(title: str, parts: Iterable[Iterable[Piece]], dpi: int) -> str:
    """The whole page, with drawings of `dpi` dots per inch."""
    body = "\n".join(piece(dpi) if callable(piece) else piece for part in parts for piece in part)
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return string.Template(template).substitute(title=html.escape(title), body=body)


def section(title: str, pieces: Sequence[Piece]) -> list[Piece]:
    """A part of the page under its title; nothing where there is nothing in it."""
    return [f"<section><h2>{html.escape(title)}</h2>", *pieces, "</section>"] if pieces else []


def drawing(figure: Figure, caption: str) -> Piece:
    """A figure, as wide as it was made, over its caption."""

    def draw(dpi: int) -> str:
        stream = io.BytesIO()
        with _no_glyph():
            figure.savefig(stream, format="png", dpi=dpi)
        code = base64.b64encode(stream.getvalue()).decode()
        text, wide = html.escape(caption), round(figure.get_figwidth() * 100)
        image = f'<img src="data:image/png;base64,{code}" alt="{text}" style="width:{wide}px">'
        return f"<figure>{image}<figcaption>{text}</figcaption></figure>"

    return draw


def table(heads: Sequence[str], rows: Sequence[Row], right: Iterable[str] = ()) -> str:
    """A table; columns of numbers, and those named in `right`, are set to the right."""
    numbers = set(right) | {
        h for i, h in enumerate(heads) if rows and all(isinstance(row[i], int | float) for row in rows)
    }
    kinds = [' class="n"' if h in numbers else "" for h in heads]
    head = "".join(f"<th{kind}>{html.escape(str(h))}</th>" for h, kind in zip(heads, kinds, strict=True))
    body = "\n".join("<tr>" + "".join(map(_cell, row, kinds)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


class Html(str):
    """Text that is HTML already."""


def _cell(value: Any, kind: str) -> str:
    text = value if isinstance(value, Html) else html.escape(plain(value))
    return f"<td{' class=t' if len(text) > LONG else kind}>{text}</td>"


def frame(given: pd.DataFrame, index: str | None = None) -> str:
    """A table of a DataFrame, with its index as the first column where that has a name."""
    shown = given if index is None else given.reset_index(names=index)
    return table([str(c) for c in shown.columns], list(shown.itertuples(index=False, name=None)))


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values beside each other."""
    lines = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in rows)
    return f'<table class="pairs">{lines}</table>'


def plain(value: Any) -> str:
    """A value as a person would write it."""
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value) or "none"
    return str(value)


def number(value: float) -> str:
    """A number with as many digits as can be read.

    >>> number(0.25), number(123456.0)
    ('0.2500', '1.235e+05')
    """
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(5), duration(90), duration(7300)
    ('5.0 s', '90 s', '2.0 h')
    """
    if seconds >= 120:
        return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def listed(names: Sequence[Any]) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(short(str(n), 40) for n in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
