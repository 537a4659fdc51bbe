"""Docstrings and signatures as they are written in the source.

Signatures are taken from the source and not from the objects, so that `Float[Array, " devices"]`
stays what a reader of the code sees, in place of what jaxtyping makes of it. What `import edgepact`
offers is described as that, once. Docstrings have formulas between dollars, as the pages have.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import edgepact

INLINE = re.compile(r"(?<![\\$`\w])\$(?!\s)([^$`]+?)(?<!\s)\$(?![\w$])")
BLOCK = re.compile(r"^([ \t]*)\$\$(.+?)\$\$(\S?)$", re.MULTILINE | re.DOTALL)
GIVEN = re.compile(r"^( *)(Returns|Yields):\n( +)(?=\S)", re.MULTILINE)
SHAPE = re.compile(r"\[([\w.~]+), '\s*([^']*)'\]")
FRONT_DOOR = {
    id(offered): name
    for name in edgepact.__all__
    if inspect.isclass(offered := getattr(edgepact, name)) or inspect.isfunction(offered)
}
"""Names of what `import edgepact` offers, by what it is."""


class Qualified(ast.NodeTransformer):
    """Gives the names in annotations their modules, which the site links and does not show."""

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A name by itself."""
        found = self._known.get(node.id)
        if (name := FRONT_DOOR.get(id(found))) is not None:
            return ast.Name(f"~edgepact.{name}")
        if inspect.isclass(found) and str(found.__module__).startswith("edgepact."):
            return ast.Name(f"~{found.__module__}.{found.__qualname__}")
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """A name in quotes is a name; a shape, which is in quotes too, has none."""
        if isinstance(node.value, str) and node.value.isidentifier() and node.value[0].isupper():
            return self.visit_Name(ast.Name(node.value))
        return node


def shown(annotation: ast.expr | None, known: dict[str, Any]) -> str:
    """An annotation without the space that jaxtyping wants in a shape."""
    if annotation is None:
        return ""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return SHAPE.sub(r'[\1, "\2"]', ast.unparse(Qualified(known).visit(annotation)))


def source_of(obj: Any) -> Any:
    """The syntax of a function or class, or None if it has no source."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None


def known_to(obj: Any) -> dict[str, Any]:
    """What the names in a function's or class's module stand for."""
    module = inspect.getmodule(inspect.unwrap(obj))
    return {} if module is None else vars(module)


def fields_of(cls: type) -> dict[str, str]:
    """Annotations of a class's fields, those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        source = source_of(base) if base.__module__.startswith("edgepact") else None
        for each in source.body if isinstance(source, ast.ClassDef) else ():
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                found[each.target.id] = shown(each.annotation, known_to(base))
    return found


def written(parameters: Any, annotations: dict[str, str]) -> Iterator[str]:
    """Parameters with their annotations, as `def` has them."""
    starred = False
    for each in parameters:
        if each.kind is each.VAR_POSITIONAL:
            starred = True
        elif each.kind is each.KEYWORD_ONLY and not starred:
            yield "*"
            starred = True
        name = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "") + each.name
        annotation = annotations.get(each.name, "")
        text = f"{name}: {annotation}" if annotation else name
        if each.default is not each.empty:
            plain = isinstance(each.default, bool | int | float | str | None)
            default = repr(each.default) if plain else "..."
            text += f" = {default}" if annotation else f"={default}"
        yield text


def written_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returned: str
) -> tuple[str, str | None] | None:
    """Arguments and what is returned, in the words of the source."""
    if what not in ("class", "function", "method"):
        return None
    try:
        parameters = list(inspect.signature(obj).parameters.values())
    except (TypeError, ValueError):
        return None
    if what == "class":
        init = source_of(obj.__init__) if inspect.isfunction(obj.__init__) else None
    else:
        init = source_of(obj)
    if isinstance(init, ast.FunctionDef | ast.AsyncFunctionDef):
        known = known_to(obj)
        every = (*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs)
        every += tuple(each for each in (init.args.vararg, init.args.kwarg) if each is not None)
        annotations = {each.arg: shown(each.annotation, known) for each in every}
        gives = shown(init.returns, known) if what != "class" else ""
    elif what == "class":
        annotations, gives = fields_of(obj), ""
    else:
        return None
    if what == "method" and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    return f"({', '.join(written(parameters, annotations))})", gives or None


def formulas(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Formulas between dollars, and what is returned, become what Sphinx takes them for."""

    def block(found: "re.Match[str]") -> str:
        indent, tex, stop = found.groups()
        return f"\n{indent}.. math:: {' '.join(f'{tex}{stop}'.split())}\n"

    # What is returned is told in a sentence, which may have a colon and no type before it.
    text = GIVEN.sub(r"\1\2:\n\3: ", "\n".join(lines))
    text = BLOCK.sub(block, text)
    lines[:] = INLINE.sub(r":math:`\1`", text).split("\n")


def elsewhere(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Modules leave out what `import edgepact` offers, and aliases of types."""
    if what != "module":
        return None
    aliases = not (inspect.isclass(obj) or inspect.isfunction(obj))
    return True if id(obj) in FRONT_DOOR or aliases else None


def exact(app: Sphinx, document: nodes.document) -> None:
    """Names in signatures are whole: what only ends like one is something else."""
    for link in document.findall(addnodes.pending_xref):
        if link.get("refdomain") == "py" and link.get("refspecific") is False:
            del link["refspecific"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Listens to autodoc."""
    app.connect("autodoc-process-signature", written_signature)
    app.connect("autodoc-process-docstring", formulas, priority=400)
    app.connect("autodoc-skip-member", elsewhere)
    app.connect("doctree-read", exact)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
