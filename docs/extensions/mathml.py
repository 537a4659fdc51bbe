r"""Formulas as MathML, made when the site is built: no script, no font and no host but its own.

A browser lays MathML out by itself. The TeX of a formula stays in `alttext`. A formula that
latex2mathml does not know is a warning, which the build makes an error; what it would get wrong
is put right here, before (`rewritten`) and after (`mended`).
"""

import re
from html import escape
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

REWRITTEN = (
    # One token, where `\mathrm` would make a variable of each letter, and an italic one of a
    # single letter.
    (re.compile(r"\\mathrm\s*\{\s*([A-Za-z][A-Za-z ]*)\}"), r"\\text{\1}"),
    # `\arg` alone is not known.
    (re.compile(r"\\arg\s*\\(max|min)(?![A-Za-z])"), r"\\arg\1"),
)
BAR = re.compile(r"<mo(?=[^>]*>&#x0(?:007C|2016);)")
PRIMES = re.compile(r"<mi>(&#x0(?:2032|2033|2034|2057);)</mi>")
UNKNOWN = re.compile(r">\\[A-Za-z]+<")


def rewritten(tex: str) -> str:
    """The same formula in words that latex2mathml knows."""
    for pattern, into in REWRITTEN:
        tex = pattern.sub(into, tex)
    return tex


def mended(mathml: str) -> str:
    """Bars and primes that stand as close as those of TeX."""
    # A bar that is no fence would be set as an operator between two things.
    mathml = BAR.sub('<mo lspace="0" rspace="0"', mathml)
    return PRIMES.sub(r'<mo lspace="0" rspace="0">\1</mo>', mathml)


def mathml_of(tex: str, *, block: bool) -> str:
    """The formula as a `math` element.

    Raises:
        ValueError: a command is not known, or the TeX cannot be read.
    """
    tex = " ".join(tex.split())
    try:
        made = convert(rewritten(tex), display="block" if block else "inline")
    except Exception as error:  # latex2mathml has many, with no common class of its own
        raise ValueError(f"{type(error).__name__} {error}") from error
    if unknown := UNKNOWN.search(made):
        raise ValueError(f"{unknown.group()[1:-1]} is not known")
    return mended(made).replace("<math ", f'<math alttext="{escape(tex)}" ', 1)


def write(self: HTML5Translator, node: nodes.Element, *, block: bool) -> None:
    """Puts a formula into a page."""
    tex = node.astext()
    try:
        self.body.append(mathml_of(tex, block=block))
    except ValueError as error:
        logger.warning("formula %r: %s", tex, error, location=node)


def visit_inline(self: HTML5Translator, node: nodes.Element) -> None:
    """A formula in a sentence."""
    write(self, node, block=False)
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.Element) -> None:
    """A formula on a line of its own, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    write(self, node, block=True)
    if node.get("number"):
        self.body.append(f'<span class="eqno">({node["number"]})</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Makes `mathml` a way to show formulas, which is chosen by `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
