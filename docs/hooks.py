"""What the site needs beyond mkdocs: the README as a page, links out of `docs/`, and docstrings as Markdown.

mkdocs calls the functions, griffe (which reads the docstrings) the class. Neither imports easylearn.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?!README\.md)[^)]*\)")
DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).+)*", re.MULTILINE)
BROKEN = re.compile(r"^( {4}(?:\w+, )+\w+),\n\s+((?:\w+, )*\w+: )", re.MULTILINE)
SEVERAL = re.compile(r"^ {4}\w+(?:, \w+)+:", re.MULTILINE)
NAMED = re.compile(r"(?<![`\[\w])`(\w+)`(?![`\]])")


def on_files(files: Files, config: Any) -> Files:
    """The README becomes a page, as if it lay in `docs/`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "readme.md", content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to the README lead to its page; those to folders beside `docs/` become their text."""
    if "/" in page.file.src_uri:
        return markdown
    text = markdown.replace("](../README.md", "](readme.md")
    return re.sub(r"\[([^\]]+)\]\(examples\)", r"`\1`", OUTSIDE.sub(r"`\1`", text))


class Docstrings(griffe.Extension):
    """Doctests become blocks of code, and exported names in backticks become links."""

    def __init__(self) -> None:
        text = (ROOT / "easylearn" / "__init__.py").read_text(encoding="utf-8")
        self.exported = set(re.findall(r'"(\w+)"', text.partition("__all__")[2])) - {"losses", "metrics", "schedules"}

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is None:
            return
        text, parts, end = obj.docstring.value, [], 0
        text = SEVERAL.sub(lambda m: m[0][:4] + m[0][4:].replace(" ", "\u00a0"), BROKEN.sub(r"\1, \2", text))
        for match in DOCTEST.finditer(text):
            parts += [self.linked(text[end : match.start()], obj.name), f"```pycon\n{match[0]}\n```"]
            end = match.end()
        obj.docstring.value = "".join([*parts, self.linked(text[end:], obj.name)])

    def linked(self, text: str, own: str) -> str:
        """The text, with a link at each exported name that is not its own."""

        def link(match: re.Match[str]) -> str:
            name = match[1]
            return f"[`{name}`][easylearn.{name}]" if name in self.exported and name != own else match[0]

        return NAMED.sub(link, text)
