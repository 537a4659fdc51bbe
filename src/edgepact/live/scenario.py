"""A whole scenario: a pact's four steps, a table for each, and the job done for real.

1. a resource-efficient method leaves a variable open, measured here;
2. a mechanism prices it: its exact optimum and its audit;
3. a solver finds the decision, held against that optimum;
4. the job uses it.

Private costs appear in steps 2 and 3 as the yardstick of whoever looks on; the solver and the
server of step 4 never see them.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from edgepact.errors import InputError
from edgepact.files.scenario import Scenario
from edgepact.framework import Outcome, Run, Sheet
from edgepact.live.halves_report import write_halves_report
from edgepact.live.report import JOBS, write_report
from edgepact.pacts.compression_stackelberg_model import HalvesPlayed
from edgepact.pacts.partition_bought import LayersBought
from edgepact.pacts.partition_priced import MarketPlayed, WorkPriced
from edgepact.progress import progress_bar
from edgepact.tables import markdown, rich_table

STEPS = {
    1: "a resource-efficient method",
    2: "an incentive mechanism",
    3: "a solver",
    4: "the job",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One table of a step.

    Attributes:
        number: 1 to 4.
        sheet: what it found; its title says what was chosen.
    """

    number: int
    sheet: Sheet

    @property
    def titled(self) -> Sheet:
        """The table under the step's name."""
        title = f"Step {self.number}, {STEPS[self.number]}. {self.sheet.title}"
        return replace(self.sheet, title=title)

    def to_dict(self) -> dict[str, Any]:
        """As `steps.json` has it."""
        rows = [dict(zip(self.sheet.head, row, strict=True)) for row in self.sheet.rows]
        return {
            "step": self.number,
            "part": STEPS[self.number],
            "chosen": self.sheet.title,
            "rows": rows,
            "notes": list(self.sheet.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A scenario that was run.

    Attributes:
        page: path of `steps.md`.
        steps: in order.
        broken: promises of the mechanism that its exact answer does not keep, in words.
    """

    page: Path
    steps: tuple[Step, ...]
    broken: tuple[str, ...]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """All tables."""
        return tuple(step.titled for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """What `steps.json` holds."""
        return {"steps": [step.to_dict() for step in self.steps]}


@dataclass(slots=True)
class _Told:
    """Steps as they come: printed at once, kept for the folder."""

    console: Console = field(default_factory=Console)
    steps: list[Step] = field(default_factory=list)

    def add(self, number: int, sheets: tuple[Sheet, ...]) -> None:
        for sheet in sheets:
            step = Step(number=number, sheet=sheet)
            self.steps.append(step)
            self.console.print(rich_table(step.titled))
            self.console.print()


def run_scenario(scenario: Scenario, run: Run) -> Ran:
    """Takes all four steps; their tables are printed as they come, and kept in the folder.

    Raises:
        InputError: as the pact's steps.
        MissingExtraError: the job needs an optional library.
        MarketError: the job broke down.
    """
    pact, terms, told = scenario.pact, scenario.terms, _Told()
    measured = pact.measure(terms, run)
    told.add(1, measured.sheets)
    optimum = pact.optimum(terms, measured)
    told.add(2, optimum.sheets)
    decision = pact.decide(terms, measured)
    told.add(3, decision.sheets)
    _make_folder(run.out)
    with _watched(run) as watched:
        outcome = pact.engage(terms, measured, decision, watched)
    if isinstance(outcome, Outcome):
        told.add(3, outcome.decided)
    told.add(4, outcome.sheets)
    if isinstance(outcome, HalvesPlayed):
        write_halves_report(run.out, terms, outcome)
    elif isinstance(outcome, MarketPlayed | WorkPriced | LayersBought) and pact.job in JOBS:
        place = getattr(terms, "inputs_place", None)
        small = scenario.smoke
        write_report(run.out, terms, outcome, job=pact.job, place=place, smoke=small)
    page = run.out / "steps.md"
    ran = Ran(page=page, steps=tuple(told.steps), broken=optimum.broken)
    _write(ran, scenario)
    return ran


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"{folder}: {error.strerror}"
        raise InputError("run", "out", "a folder that can be made", found) from None


def _write(ran: Ran, scenario: Scenario) -> None:
    """Writes `steps.md` and `steps.json`."""
    pact = scenario.pact
    head = f"# {pact.method}, {pact.mechanism}, {scenario.solver}"
    small = " --smoke" if scenario.smoke else ""
    command = f"```console\n$ edgepact run {scenario.source.name}{small}\n```"
    text = "\n\n".join([head, command, *(markdown(sheet) for sheet in ran.sheets)])
    ran.page.write_text(text + "\n", encoding="utf-8")
    values = json.dumps(ran.to_dict(), indent=2) + "\n"
    ran.page.with_suffix(".json").write_text(values, encoding="utf-8")


@contextmanager
def _watched(run: Run) -> Iterator[Run]:
    """The same run with a progress bar, from the moment that a job tells how far it is."""
    with ExitStack() as stack:
        bars: dict[str, Callable[[int, int], None]] = {}

        def on_progress(done: int, of: int, what: str) -> None:
            if what not in bars:
                bars[what] = stack.enter_context(progress_bar(what))
            bars[what](done, of)
            run.on_progress(done, of, what)

        yield replace(run, on_progress=on_progress)
