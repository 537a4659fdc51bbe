"""Writes docs/reference/cli.md from the command line's own help.

Run `python docs/write_cli_reference.py` after a change to the commands; a test compares.
"""

from pathlib import Path

import typer

from edgepact.cli import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
COLUMNS = 90

HEAD = """# The command line

The help of every command, as `edgepact COMMAND --help` prints it. Written by
`python docs/write_cli_reference.py`.

Exit status: 0 for success; 1 for an answer that lacks a property which its mechanism promises, told
in one line below it, for books that are not whole, and for what `doctor` finds missing; 2 for bad
input, with one line that names the file or option, what was expected and what was found; 130 after
Ctrl-C, where `serve` and `device` end their work and exit with 0.
"""


def reference() -> str:
    """The page."""
    root = typer.main.get_command(app)
    return "\n".join([HEAD, *_sections("edgepact", root)])


def _sections(name: str, command: typer.core.TyperCommand) -> list[str]:
    """One for a command, and after that of a group those of its commands."""
    own = [_section(name, command)]
    inner = getattr(command, "commands", {})
    return own + [part for each in inner for part in _sections(f"{name} {each}", inner[each])]


def _section(name: str, command: typer.core.TyperCommand) -> str:
    context = command.context_class(
        command,
        info_name=name,
        terminal_width=COLUMNS,
        max_content_width=COLUMNS,
        help_option_names=["-h", "--help"],
    )
    return f"## {name}\n\n```text\n{command.get_help(context).strip()}\n```\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(reference(), encoding="utf-8")
