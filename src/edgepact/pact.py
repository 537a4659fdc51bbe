"""The project's central noun: a pact is one choice of method, mechanism and job.

The article's framework has four steps, and a pact has a method for each::

    terms    = pact.read(scenario)                    what the file states, typed
    measured = pact.measure(terms, run)               1. what the open variable costs
    optimum  = pact.optimum(terms, measured)          2. the mechanism's exact answer and audit
    decision = pact.decide(terms, measured)           3. the solver's, which sees nothing private
    outcome  = pact.engage(terms, measured, decision, run)   4. the job, done, settled, told

Which methods, mechanisms and jobs go together is stated nowhere else: what fits is what pacts
exist. One file a pairing in `edgepact.pacts`; others are found through the entry points
`edgepact.pacts`. `edgepact run SCENARIO`, `solve`, `train` and the live market use pacts and
nothing beneath them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from edgepact.files.scenario import Scenario

Json = Any
"""What JSON can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One of the four steps as a table.

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


@runtime_checkable
class Told(Protocol):
    """A result that can be shown: what every method of a pact returns, but `read`."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """For the page and the terminal."""
        ...

    def to_dict(self) -> dict[str, Json]:
        """For `--json`: everything that the tables show."""
        ...


@runtime_checkable
class Solution(Protocol):
    """A mechanism's exact answer, with its audit."""

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises of the mechanism that this answer does not keep, in words; none if all is well.
        A command that prints an answer with any ends with exit status 1."""
        ...

    def to_dict(self) -> dict[str, Json]:
        """For `--json`: everything that the tables show."""
        ...

    def tables(self) -> "Sequence[RichTable | str]":
        """For the terminal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a pact is run, whatever it is.

    Attributes:
        out: folder of the results.
        smoke: in small: does it run?
        on_live: called before the first process is started, so that an interrupt is handled.
        on_progress: told how much of how much is done, and of what.
    """

    out: Path
    smoke: bool = False
    on_live: Callable[[], None] = field(default=lambda: None)
    on_progress: Callable[[int, int, str], None] = field(default=lambda done, of, what: None)


T = TypeVar("T")
M = TypeVar("M", bound=Told)
D = TypeVar("D", bound=Told)


@runtime_checkable
class Pact(Protocol[T, M, D]):
    """A method, a mechanism and a job together.

    Attributes:
        name: `METHOD-MECHANISM-JOB`, such as `partition-stackelberg-classification`.
        method, mechanism, job: names of its parts.
        compress: what is compressed, where the method is compression: `update`, `model` or
            `codec`; None elsewhere.
        solvers: names of the solvers that can decide, the default first.
    """

    name: str
    method: str
    mechanism: str
    job: str
    compress: str | None
    solvers: tuple[str, ...]

    def read(self, scenario: "Scenario") -> T:
        """What the file states, checked and typed.

        Raises:
            InputError: names the file, the field, what was expected and what was found.
        """
        ...

    def measure(self, terms: T, run: Run) -> M:
        """What the open variable costs, measured on this machine."""
        ...

    def optimum(self, terms: T, measured: M) -> "Exact":
        """The mechanism's exact answer with everybody's costs known, and its audit: a yardstick
        for whoever looks on. Without private costs in the file they are those of the devices
        that `engage` will draw."""
        ...

    def decide(self, terms: T, measured: M) -> D:
        """The decision of the scenario's solver: an `Engagement`, ready to be asked."""
        ...

    def engage(self, terms: T, measured: M, decision: D, run: Run) -> Told:
        """Does the job with it, and settles.

        Raises:
            MarketError: the job broke down; what was acknowledged is in the ledger.
            MissingExtraError: it needs an optional library.
        """
        ...


@runtime_checkable
class Exact(Told, Solution, Protocol):
    """What step 2 gives: an exact answer that is also a step of the page."""


@runtime_checkable
class Mechanism(Protocol):
    """A mechanism alone: what `edgepact solve FILE` does with a file that names it."""

    name: str

    def read(self, source: Path, document: dict[str, Json]) -> Any:
        """The terms a file states, typed.

        Raises:
            InputError: names file, field, what was expected and what was found.
        """
        ...

    def solve(self, terms: Any) -> Solution:
        """The exact answer and its audit."""
        ...


@runtime_checkable
class Solver(Protocol):
    """A way to find a mechanism's decision, by name.

    Attributes:
        name: as options and files spell it.
        about: one line for `edgepact list`.
        decides: names of the mechanisms whose decisions it finds.
    """

    name: str
    about: str
    decides: tuple[str, ...]

    def make(self, mechanism: str) -> Any:
        """The solver for a mechanism: a `Quoter` for prices, a writer of menus for contracts."""
        ...
