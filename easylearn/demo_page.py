"""The page that a demo leaves: one HTML file with figures beside it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .files import atomic_write
from .train.record import format_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """One figure of the page."""

    title: str
    text: str
    figure: Figure

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.title.lower().replace(' ', '-')}.png"


@dataclass(frozen=True)
class Quote:
    """A text of the page, with what is said of it."""

    text: str
    said: str
    right: bool = True


@dataclass(frozen=True)
class Page:
    """What a page holds.

    Args:
        headline: what came of it.
        what: was done, in a few words.
        code: that did it.
        then: what to do next, as HTML.
        epochs: a row for each.
        drawings: its figures.
        quotes: its texts.
    """

    headline: str
    what: str
    code: str
    then: str
    epochs: Sequence[Mapping[str, float]]
    drawings: Sequence[Drawing]
    quotes: Sequence[Quote] = ()


def quoted(quote: Quote) -> str:
    """A text as HTML."""
    kind = "" if quote.right else ' class="wrong"'
    return f"<blockquote{kind}>{html.escape(quote.text)}<cite>{html.escape(quote.said)}</cite></blockquote>"


def write_page(folder: Path, page: Page) -> Path:
    """Write `index.html` and its figures into a folder; gives the path of the page."""
    figures = []
    for d in page.drawings:
        d.figure.savefig(folder / d.file, dpi=110)
        figures.append(
            f"<figure><figcaption><b>{html.escape(d.title)}.</b> {html.escape(d.text)}</figcaption>"
            f'<img src="{d.file}" alt="{html.escape(d.title)}"></figure>'
        )
    cells = [f"<tr>{''.join(f'<td>{c}' for c in format_row(row))}" for row in page.epochs]
    with atomic_write(folder / "index.html") as temporary:
        temporary.write_text(
            _PAGE.format(
                headline=html.escape(page.headline),
                what=html.escape(page.what),
                code=html.escape(page.code),
                heads="".join(f"<th>{name.replace('_', ' ')}" for name in page.epochs[0]),
                rows="\n".join(cells),
                then=page.then,
                quotes="\n".join(map(quoted, page.quotes)),
                figures="\n".join(figures),
            ),
            encoding="utf-8",
        )
    return folder / "index.html"


_PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>easylearn demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 76rem; margin: 2rem auto; padding: 0 1.5rem }}
h1 {{ font-size: 1.6rem; margin-bottom: .2rem }}
pre {{ background: #f5f5f2; padding: .8rem 1rem; overflow: auto; border-radius: 4px }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .2rem 1.2rem .2rem 0; text-align: right; border-bottom: 1px solid #ddd }}
main {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 2rem; margin-top: 2rem }}
figure {{ margin: 0 }}
blockquote {{ max-width: 50rem; margin: 1.2rem 0; padding-left: 1rem; border-left: 4px solid #2a7 }}
blockquote.wrong {{ border-color: #c33 }}
cite {{ display: block; font-size: .85rem; color: #666; font-style: normal }}
figcaption {{ margin-bottom: .5rem }}
img {{ width: 100%; max-width: 34rem }}
</style>
<h1>{headline}</h1>
<p>{what}, in a few lines:</p>
<pre>{code}</pre>
<table><tr>{heads}
{rows}
</table>
{quotes}
<main>
{figures}
</main>
<h2>What next</h2>
<p>{then}</p>
</html>
"""
