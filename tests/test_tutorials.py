"""Tutorials are done as a reader does them: every block, in order, in one empty folder.

`toml` blocks, and `python` blocks without prompts, become the file that their first line names.
`console` blocks are run by the command line, and `python` blocks with prompts as one session; every
line of a `text` block has to stand in what the commands before it have printed. Installing is left
to the stage of CI that installs the base.
"""

import doctest
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import process

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"console", "python", "text", "toml"}


def plain(text: str) -> str:
    """Without differences of spaces, which follow from the width of a terminal."""
    return " ".join(text.split())


class Reader:
    """Does what a page says, and keeps what was printed."""

    def __init__(self, page: Path) -> None:
        self.page, self.printed, self.names = page, "", dict[str, Any]()

    def do(self, kind: str, block: str) -> None:
        does = {
            "console": self.console,
            "text": self.text,
            "python": self.python,
            "toml": self.file,
        }
        does[kind](block)

    def file(self, block: str) -> None:
        name = block.splitlines()[0].removeprefix("# ")
        assert re.fullmatch(r"[a-z-]+\.(toml|py)", name), "its first line names the file"
        Path(name).write_text(block)

    def console(self, block: str) -> None:
        for line in block.splitlines():
            assert line.startswith("$ ")
            words = shlex.split(line[2:])
            if words[:2] == ["pip", "install"]:
                continue
            assert words[0] == "edgepact"
            ran = process(*words[1:])
            assert ran.returncode == 0, line + ran.stdout + ran.stderr
            self.printed += ran.stdout

    def text(self, block: str) -> None:
        printed = plain(self.printed)
        for line in block.splitlines():
            assert plain(line) in printed, line

    def python(self, block: str) -> None:
        if ">>> " not in block:
            self.file(block)
            return
        name = self.page.name
        session = doctest.DocTestParser().get_doctest(block, self.names, name, name, 0)
        said: list[str] = []
        result = doctest.DocTestRunner().run(session, out=said.append, clear_globs=False)
        assert result.attempted
        assert not result.failed, "".join(said)
        self.names = session.globs


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_reader_gets_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert {kind for kind, _ in blocks} <= KINDS
    assert len(blocks) == page.read_text(encoding="utf-8").count("\n```\n"), "each is one of them"
    reader = Reader(page)
    for kind, block in blocks:
        reader.do(kind, block)
