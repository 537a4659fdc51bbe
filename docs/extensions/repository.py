"""Files of the repository as parts of the site, and links to them.

Pages are read on a forge as well, where a link to `../../examples/live.toml` leads to the file. In
the site the same link leads to where the file is shown, which one of these says::

    ```{repository-files} examples
    :files: *.toml *.py
    ```

makes a section of each file: what its first comment says, then the rest of it. A page that includes
a whole file says so with a label in front, `(CHANGELOG.md)=`. A module of the package is shown
where the reference of the API has it. A link to a file that is shown nowhere is a warning, which
the build makes an error.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {
    ".toml": "toml",
    ".py": "python",
    ".yaml": "yaml",
    ".sh": "sh",
    ".service": "ini",
    ".Dockerfile": "docker",
}
"""What a file is coloured as; all else is text."""

HEAD = re.compile(r"(?:#(?!!).*\n)+")
"""The comment that a file begins with."""


class RepositoryFiles(SphinxDirective):
    """Files of a folder, a section each."""

    required_arguments = 1
    option_spec: ClassVar = {"files": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Sections, and a label for the folder and for each file."""
        folder = self.arguments[0]
        found = sorted(
            {
                path
                for pattern in self.options["files"].split()
                for path in (ROOT / folder).glob(pattern)
            }
        )
        if not found:
            raise self.error(f"{folder}: no file is called {self.options['files']}")
        start = nodes.target(ids=[nodes.make_id(f"files-of-{folder}")], names=[name_of(folder)])
        self.state.document.note_explicit_target(start)
        return [start, *(self.section(path) for path in found)]

    def section(self, path: Path) -> nodes.section:
        """One file: its name, what its first comment says, and the rest of it."""
        self.env.note_dependency(str(path))
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        head = HEAD.match(text)
        made = nodes.section(ids=[nodes.make_id(name)], names=[name_of(name)])
        made += nodes.title(name, "", nodes.literal(name, name))
        if head is not None:
            said = " ".join(line.removeprefix("#").strip() for line in head.group().splitlines())
            made += nodes.paragraph(said, said)
            text = text[head.end() :]
        text = text.strip("\n") + "\n"
        made += nodes.literal_block(text, text, language=LANGUAGES.get(path.suffix, "text"))
        self.state.document.note_explicit_target(made)
        return made


def name_of(path: str) -> str:
    """The label of a file or folder."""
    return nodes.fully_normalize_name(path.rstrip("/"))


class RepositoryLinks(SphinxTransform):
    """Lets links to files outside of the documentation lead to where the site shows them."""

    default_priority = 10  # before links to files become downloads

    def apply(self, **kwargs: Any) -> None:
        """Exchanges the links of a page."""
        for link in [
            *self.document.findall(addnodes.download_reference),
            *self.document.findall(addnodes.pending_xref),
        ]:
            if link.get("reftype") == "myst" and (path := self.path_of(link)) is not None:
                link.replace_self(self.link_to(path, link))

    def path_of(self, link: nodes.Element) -> Path | None:
        """What a link names in the repository outside of the documentation, if it does."""
        target = link["reftarget"].partition("#")[0]
        if link.get("refdomain") == "doc":
            path = Path(self.env.srcdir, f"{target}.md").resolve()  # which need be no page
        else:
            path = Path(self.env.doc2path(self.env.docname)).parent.joinpath(target).resolve()
        outside = path.is_relative_to(ROOT) and not path.is_relative_to(self.env.srcdir)
        return path if outside and path.exists() else None

    def page_at(self, path: Path) -> str | None:
        """The page that a file is, behind a link in the file system."""
        pages = (page for page in self.env.found_docs if page.endswith(f"/{path.stem}"))
        return next(
            (page for page in pages if Path(self.env.doc2path(page)).resolve() == path), None
        )

    def link_to(self, path: Path, link: nodes.Element) -> nodes.Element:
        """A link to where the site shows a file or folder."""
        name = path.relative_to(ROOT).as_posix()
        words = {"refdoc": self.env.docname, "refwarn": True, "refexplicit": True}
        if name.startswith("src/") and path.suffix == ".py":
            module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
            made = addnodes.pending_xref(
                refdomain="py", reftype="mod", reftarget=module.removesuffix(".__init__"), **words
            )
        elif (page := self.page_at(path)) is not None:
            made = addnodes.pending_xref(
                refdomain="std", reftype="doc", reftarget=f"/{page}", **words
            )
        else:
            made = addnodes.pending_xref(
                refdomain="std", reftype="ref", reftarget=name_of(name), **words
            )
        made.source, made.line = link.source, link.line
        made += nodes.inline("", "", *link.children)
        return made


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the directive and the links."""
    app.add_directive("repository-files", RepositoryFiles)
    app.add_transform(RepositoryLinks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
