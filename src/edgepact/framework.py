"""The project's central noun: a pact is one choice of method, mechanism and job.

The article's framework has four steps, and a pact has a method for each::

    terms    = pact.read(source, document, smoke=False)      what the file states, typed
    measured = pact.measure(terms, run)                      1. what the open variable costs
    optimum  = pact.optimum(terms, measured)                 2. the exact answer, and its audit
    decision = pact.decide(terms, measured)                  3. the solver's, of what is public
    outcome  = pact.engage(terms, measured, decision, run)   4. the job, done, settled, told

Which methods, mechanisms and jobs go together is stated nowhere else: what fits is what pacts
exist. One file a pairing in `edgepact.pacts`; others are found through the entry points
`edgepact.pacts`. `edgepact run SCENARIO`, `solve`, `train` and the live market use pacts and
nothing beneath them.

What the four steps hand on is each pact's own business, so that these protocols say `Any` of it;
what a step gives can always be shown (`Told`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Json = Any
"""What JSON can say."""

Document = dict[str, Any]
"""A TOML file as it was parsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table with words around it: the one form in which results are shown.

    Terminal, page and notebook are made from it (`edgepact.tables`).

    Attributes:
        title: above.
        head: of the columns.
        rows: cells as text.
        notes: sentences below.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Told(Protocol):
    """A result that can be shown."""

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """For people."""
        ...

    def to_dict(self) -> dict[str, Json]:
        """For `--json`: everything that the sheets show."""
        ...


@runtime_checkable
class Outcome(Told, Protocol):
    """What came of the job."""

    @property
    def decided(self) -> tuple[Sheet, ...]:
        """What the solver decided while the job went on, such as the price of each round, shown as
        step 3; none where `Pact.decide` told all of it."""
        ...


@runtime_checkable
class Solution(Told, Protocol):
    """A mechanism's exact answer, with its audit."""

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises of the mechanism that this answer does not keep, in words; none if all is well.
        A command that prints an answer with any ends with exit status 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a pact is run, whatever it is.

    Attributes:
        out: folder of the results.
        on_live: called before the first process is started, so that an interrupt is handled.
        on_served: called with the folder and the address of the live page, once a market is
            served; the address holds the operator's token.
        on_progress: told how much of how much is done, and of what.
    """

    out: Path
    on_live: Callable[[], None] = field(default=lambda: None)
    on_served: Callable[[Path, str], None] = field(default=lambda folder, address: None)
    on_progress: Callable[[int, int, str], None] = field(default=lambda done, of, what: None)


@runtime_checkable
class Pact(Protocol):
    """A method, a mechanism and a job together.

    A pact may have a method `expect_runnable(terms)`, which refuses with an `InputError` what was
    read well and cannot be run, such as more layers than the model has. `measure` does so itself;
    `edgepact solve`, which measures nothing, asks it.
    """

    @property
    def name(self) -> str:
        """`METHOD-MECHANISM-JOB`, such as `partition-stackelberg-classification`."""
        ...

    @property
    def method(self) -> str:
        """Of the framework's first layer: `partition`, `compression`, `selection`, or another."""
        ...

    @property
    def mechanism(self) -> str:
        """Name of an installed mechanism."""
        ...

    @property
    def job(self) -> str:
        """Name of an installed job, or `training`, which Flower carries."""
        ...

    @property
    def compress(self) -> str | None:
        """What is compressed, where the method is compression: `update`, `model` or `codec`."""
        ...

    @property
    def solvers(self) -> tuple[str, ...]:
        """Names of the solvers that can decide, the default first."""
        ...

    def read(self, source: Path, document: Document, *, smoke: bool) -> Any:
        """What a scenario file states, checked and typed.

        Args:
            source: the file, for errors and for files that it names.
            document: all of it.
            smoke: in small: the same with little to do.

        Raises:
            InputError: names the file, the field, what was expected and what was found.
        """
        ...

    def measure(self, terms: Any, run: Run) -> Told:
        """What the open variable costs, measured on this machine."""
        ...

    def optimum(self, terms: Any, measured: Any) -> Solution:
        """The mechanism's exact answer with everybody's costs known, and its audit: a yardstick
        for whoever looks on.

        Args:
            terms: as `read` gave them.
            measured: as `measure` gave it; None from `edgepact solve`, which measures nothing.

        Raises:
            InputError: nothing was measured, and the answer hangs on it.
        """
        ...

    def decide(self, terms: Any, measured: Any) -> Told:
        """The decision of the scenario's solver, which sees what is public.

        Args:
            terms: as `read` gave them; of a live market perhaps of the public part alone.
            measured: as `measure` gave it; None in the process that serves a live market.

        Where it decides round by round, this is what begins, and `Outcome.decided` tells the rest.
        """
        ...

    def engage(self, terms: Any, measured: Any, decision: Any, run: Run) -> Outcome:
        """Does the job with it, and settles.

        Raises:
            MarketError: the job broke down; what was acknowledged is in the ledger.
            MissingExtraError: it needs an optional library.
        """
        ...


@runtime_checkable
class Mechanism(Protocol):
    """A mechanism alone: what `edgepact solve FILE` does with a file that names it."""

    @property
    def name(self) -> str:
        """As files spell it."""
        ...

    @property
    def about(self) -> str:
        """One sentence for `edgepact list`."""
        ...

    def read(self, source: Path, document: Document) -> Any:
        """The terms a file states, typed.

        Raises:
            InputError: names the file, the field, what was expected and what was found.
        """
        ...

    def solve(self, terms: Any) -> Solution:
        """The exact answer and its audit.

        Raises:
            InputError: the terms have no finite answer.
        """
        ...


@runtime_checkable
class Solver(Protocol):
    """A way to find a mechanism's decision, by name."""

    @property
    def name(self) -> str:
        """As options and files spell it."""
        ...

    @property
    def about(self) -> str:
        """One sentence for `edgepact list`."""
        ...

    @property
    def decides(self) -> tuple[str, ...]:
        """Names of the mechanisms whose decisions it finds."""
        ...

    @property
    def sees_costs(self) -> bool:
        """Whether it must be shown what is private: a yardstick, and none that a stranger's
        devices could be priced by."""
        ...

    def make(self, mechanism: str) -> Any:
        """The solver for a mechanism: a `Quoter` of prices, or what writes a contract's menu.

        Raises:
            InputError: it finds no decisions of this mechanism.
        """
        ...
