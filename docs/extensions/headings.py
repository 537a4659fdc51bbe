"""Captions of the list of pages are headings of a level, which Sphinx does not say."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

CAPTION = 'class="caption" role="heading"'


def level(
    app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None
) -> None:
    """Says the level, after the theme has made the list."""
    name = "furo_navigation_tree"
    if name in context:
        context[name] = context[name].replace(CAPTION, f'{CAPTION} aria-level="2"')


def setup(app: Sphinx) -> dict[str, Any]:
    """Comes after the theme."""
    app.connect("html-page-context", level, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
