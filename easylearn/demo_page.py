"""What a demo tells while it runs, and the page that it leaves: one HTML file with figures beside it."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ArgumentError
from .files import StrPath, atomic_write
from .train.record import format_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Story:
    """The steps of a demo, printed as they come, with the figures and texts of its page.

    Args:
        out: folder of the page.
        epochs: to train, at least 1.
    """

    def __init__(self, out: StrPath, epochs: int) -> None:
        if epochs < 1:
            raise ArgumentError(f"--epochs must be at least 1, got {epochs}")
        self.folder = Path(out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._begun = time.perf_counter()
        self._step = 0
        self._figures: list[str] = []
        self._quotes: list[str] = []

    def say(self, what: object) -> None:
        """Print the next step."""
        self._step += 1
        print(f"{self._step}. {what}")

    def draw(self, title: str, text: str, figure: Figure) -> None:
        """Put a figure on the page."""
        file = f"{title.lower().replace(' ', '-')}.png"
        figure.savefig(self.folder / file, dpi=110)
        self._figures.append(
            f"<figure><figcaption><b>{html.escape(title)}.</b> {html.escape(text)}</figcaption>"
            f'<img src="{file}" alt="{html.escape(title)}"></figure>'
        )

    def quote(self, text: str, said: str, right: bool = True) -> None:
        """Put a text on the page, with what is said of it."""
        self._quotes.append(quoted(text, said, right))

    def end(self, headline: str, what: str, code: str, then: str, epochs: Sequence[Mapping[str, float]]) -> None:
        """Write the page.

        Args:
            headline: what came of it.
            what: was done, in a few words.
            code: that did it.
            then: what to do next, as HTML.
            epochs: a row for each.
        """
        page = _PAGE.format(
            headline=html.escape(headline),
            what=html.escape(what),
            code=html.escape(code),
            heads="".join(f"<th>{name.replace('_', ' ')}" for name in epochs[0]),
            rows="\n".join(f"<tr>{''.join(f'<td>{c}' for c in format_row(row))}" for row in epochs),
            then=then,
            quotes="\n".join(self._quotes),
            figures="\n".join(self._figures),
        )
        with atomic_write(self.folder / "index.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
        self.say(f"{headline}, after {time.perf_counter() - self._begun:.0f} s. Look at {self.folder / 'index.html'}")


def quoted(text: str, said: str, right: bool) -> str:
    """A text as HTML."""
    kind = "" if right else ' class="wrong"'
    return f"<blockquote{kind}>{html.escape(text)}<cite>{html.escape(said)}</cite></blockquote>"


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
