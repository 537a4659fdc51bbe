"""The four steps as tables: printed as they come, kept as Markdown and JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edgepact.files.scenario import Scenario
from edgepact.pages import table as markdown_table

STEPS = {
    1: "a resource-efficient method",
    2: "an incentive mechanism",
    3: "a solver",
    4: "the job",
}

WORDS = {
    "partition": "partition: each device runs the first L layers of the model",
    "compression": "compression: each client sends its update at a rate r of the bytes of float32",
    "selection": "selection: in each round some of the clients train",
}
"""Methods, and the variable that they leave open."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step's table.

    Attributes:
        number: 1 to 4.
        about: what was chosen.
        head: of the columns.
        rows: cells as text.
        notes: sentences below.
    """

    number: int
    about: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Step, its part in the framework, what was chosen."""
        return f"Step {self.number}, {STEPS[self.number]}. {self.about}"

    def show(self, console: Console) -> None:
        """Prints it."""
        console.print(self.title, style="bold", highlight=False)
        shown = Table()
        for at, name in enumerate(self.head):
            shown.add_column(name, justify="right" if at else "left")
        for row in self.rows:
            shown.add_row(*row)
        console.print(shown)
        for note in self.notes:
            console.print(note, highlight=False)
        console.print()

    def markdown(self) -> str:
        """The same as Markdown."""
        return "\n\n".join([f"## {self.title}", markdown_table(self.head, self.rows), *self.notes])


class Record:
    """Steps as they come: printed at once, kept for the folder."""

    def __init__(self) -> None:
        self._console = Console()
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        """Prints a step and keeps it."""
        self._steps.append(step)
        step.show(self._console)

    def write(self, folder: Path, scenario: Scenario) -> Path:
        """Writes `steps.md` and `steps.json`; returns the path of the first."""
        head = f"# {scenario.method}, {scenario.mechanism}, {scenario.solver}"
        command = f"```console\n$ edgepact run {scenario.source.name}\n```"
        page = "\n\n".join([head, command, *(each.markdown() for each in self._steps)])
        (folder / "steps.md").write_text(page + "\n", encoding="utf-8")
        listed = [
            {
                "step": each.number,
                "part": STEPS[each.number],
                "chosen": each.about,
                "rows": [dict(zip(each.head, row, strict=True)) for row in each.rows],
                "notes": list(each.notes),
            }
            for each in self._steps
        ]
        (folder / "steps.json").write_text(json.dumps({"steps": listed}, indent=2) + "\n")
        return folder / "steps.md"


def yes(fact: bool) -> str:
    """A fact in a cell; what should not be stands out."""
    return "yes" if fact else "NO"
