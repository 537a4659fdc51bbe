"""The library's front door: what the commands do, as functions.

`import edgepact` offers all of it, and loads each when it is first used. The commands of
`edgepact.cli` parse, call one of these, and print what they return.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepact.errors import InputError, shown
from edgepact.fields import (
    Table,
    check_callable,
    check_choice,
    check_flag,
    check_kind,
    check_path,
    check_whole,
    load,
    terms_in,
)
from edgepact.registry import installed, part

if TYPE_CHECKING:
    from edgepact.files.scenario import Scenario
    from edgepact.framework import Document, Mechanism, Solution
    from edgepact.live.run_config import RunConfig
    from edgepact.solvers.in_context.menus import MenuDecision
    from edgepact.solvers.in_context.rehearsal import Quoted
    from edgepact.solvers.in_context.reserves import ReserveDecision
    from edgepact.studies.results import StudyResults
    from edgepact.training.federated.config import TrainConfig
    from edgepact.training.federated.run import Trained
    from edgepact.written import Written

QUOTES_MAX = 200
"""Most rounds of quotes."""

QUOTES_USUAL = 8
"""Rounds of quotes where no number is asked for."""

WORKERS_MAX = 1024
"""Most processes of a study."""

SEED_MAX = 2**31 - 1
"""Largest seed."""


def solve(terms: Any, *, mechanism: str | None = None) -> "Solution":
    """Solves one market, contract or auction exactly, and audits the answer.

    Args:
        terms: path of a TOML file that states them, or the terms themselves: a `GameFile`, `Game`,
            `Contract`, `WideContract` or `AuctionFile`, or what another mechanism reads.
        mechanism: name of an installed mechanism, for terms that are not one of these.

    Returns:
        A frozen result: its fields, `to_dict()`, `sheets`, and `broken`, the promises of the
        mechanism that the answer does not keep.

    Raises:
        InputError: the terms cannot be used.

    Example:
        >>> import numpy as np
        >>> import edgepact
        >>> fleet = edgepact.Fleet(
        ...     alpha=np.array([3.0]), capacity=np.array([4.2]), A=np.array([0.3577]),
        ...     B=np.array([0.1156]),
        ... )
        >>> game = edgepact.Game(
        ...     fleet, revenue=100.0, beta=10.0, price_min=0.0, price_max=3.577, layers_max=12
        ... )
        >>> best = edgepact.solve(game)
        >>> best.layers.tolist(), best.broken
        ([11.0], ())
    """
    if mechanism is not None:
        part("mechanisms", mechanism, source="solve", field="mechanism")
    if isinstance(terms, str | Path):
        path = check_path("solve", "terms", terms)
        return _solve_document(path, load(path))
    known = _stated(terms)
    name = mechanism or (None if known is None else known[0])
    if name is None:
        expected = "a file, or terms whose mechanism is known or named"
        raise InputError("solve", "terms", expected, shown(terms))
    found: Mechanism = part("mechanisms", name)
    return found.solve(known[1] if known is not None and known[0] == name else terms)


def quote(
    market: Any, *, rounds: int | None = None, seed: int = 0
) -> "Quoted | MenuDecision | ReserveDecision":
    """Decides in context: what to offer next to devices of which only answers are known.

    With a market, prices are posted to its fleet as if nothing were known of it, round after round.
    With a contract, the next menu is written from the take-up of past ones that the file states;
    with an auction, reserves are set from past bids.

    Args:
        market: path of a TOML file with `mechanism = "stackelberg"`, `"contract"` or `"auction"`,
            a `GameFile`, or a `Game`.
        rounds: to play with a market, 1 to 200; 8 if None. The past rounds of a contract or an
            auction stand in its file, so for one it is None.
        seed: of the noise that what is private is generated from, 0 to 2**31 - 1.

    Returns:
        A frozen result: of a market rounds, the exact optimum, and the share of it that each quote
        earned; of a contract the menu, what is expected to be taken of it, and the profit; of an
        auction reserves, and what is expected to be paid.

    Raises:
        InputError: the file cannot be used, nobody could have answered as it says, or no price
            above 0 is worth posting.

    Example:
        >>> import numpy as np
        >>> import edgepact
        >>> fleet = edgepact.Fleet(
        ...     alpha=np.array([3.0]), capacity=np.array([4.2]), A=np.array([0.3577]),
        ...     B=np.array([0.1156]),
        ... )
        >>> game = edgepact.Game(
        ...     fleet, revenue=100.0, beta=10.0, price_min=0.1, price_max=3.577, layers_max=12
        ... )
        >>> quotes = edgepact.quote(game, rounds=3)
        >>> len(quotes.shares), float(quotes.shares.max()) <= 1.0
        (3, True)
    """
    if rounds is not None:
        check_whole("quote", "rounds", rounds, least=1, most=QUOTES_MAX)
    check_whole("quote", "seed", seed, least=0, most=SEED_MAX)
    if isinstance(market, str | Path):
        path = check_path("quote", "market", market)
        document = load(path)
        decided = DECIDED.get(str(document.get("mechanism")))
        if decided is not None:
            if rounds is not None:
                expected = "nothing: past rounds stand in the file"
                raise InputError("quote", "rounds", expected, rounds)
            return decided(path, document, seed)
    from edgepact.solvers.in_context.rehearsal import quoted

    stated = _market(market)
    source = market if isinstance(market, str | Path) else stated.source
    return quoted(
        stated.game, rounds=rounds or QUOTES_USUAL, seed=seed, source=source, names=stated.names
    )


def _menu_decided(path: Path, document: "Document", seed: int) -> "MenuDecision":
    """The next menu for a contract of which take-up is known."""
    from edgepact.files.take_up import held_against, take_up_of
    from edgepact.solvers.in_context.menus import Menus

    _read_whole(path, document)
    stated = take_up_of(path, terms_in(document))
    decided = Menus.shipped().decide(stated.public, stated.seen, seed)
    return held_against(decided, stated.private)


def _reserves_decided(path: Path, document: "Document", seed: int) -> "ReserveDecision":
    """Reserves for an auction of which past bids are known."""
    from edgepact.files.past_bids import past_bids_of
    from edgepact.solvers.in_context.reserves import Reserves

    _read_whole(path, document)
    stated = past_bids_of(path, terms_in(document))
    return Reserves.shipped().decide(stated.public, stated.seen, seed)


DECIDED: "dict[str, Callable[[Path, Document, int], Any]]" = {
    "contract": _menu_decided,
    "auction": _reserves_decided,
}
"""What is decided at once from evidence that a file states, by its mechanism."""


def run(
    what: "str | Path | RunConfig",
    *,
    out: str | Path | None = None,
    smoke: bool = False,
    open_page: bool = False,
    on_live: Callable[[], None] = lambda: None,
) -> "Written":
    """Does the main job, or what the file of a whole scenario says, with real processes.

    Args:
        what: settings of the main job, or path of a scenario in TOML.
        out: folder of a scenario's results; the settings of the main job name their own.
        smoke: a scenario in small; the settings of the main job say this themselves.
        open_page: whether a scenario's market is shown in a browser while it runs; the settings of
            the main job say this themselves.
        on_live: called before the first process is started.

    Returns:
        Where the results are, and what they say.

    Raises:
        InputError: a setting or the file cannot be used; nothing was started.
        MarketError: the job broke down; what was acknowledged is in the ledger.
        MissingExtraError: it needs an optional library.

    Example:
        >>> import edgepact
        >>> edgepact.run("a-scenario-that-is-not-there.toml")
        Traceback (most recent call last):
        ...
        edgepact.errors.InputError: a-scenario-that-is-not-there.toml: expected a TOML file, found \
none there
    """
    from edgepact.written import Written

    check_flag("run", "smoke", smoke)
    check_flag("run", "open_page", open_page)
    check_callable("run", "on_live", on_live)
    folder = None if out is None else check_path("run", "out", out)
    if isinstance(what, str | Path):
        from edgepact.files.scenario import read_scenario
        from edgepact.framework import Run
        from edgepact.live.opened import opened
        from edgepact.live.run_config import free_folder
        from edgepact.live.scenario import run_scenario

        file = check_path("run", "what", what)
        folder = folder or free_folder(f"edgepact-run-{file.stem}")
        with opened(folder, asked=open_page) as shows:
            run = Run(out=folder, on_live=on_live, on_served=shows)
            ran = run_scenario(read_scenario(file, smoke=smoke), run)
        facts = ran.page.with_suffix(".json")
        return Written(page=ran.page, facts=facts, broken=ran.broken)
    from edgepact.live.run import run_market
    from edgepact.live.run_config import RunConfig

    check_kind("run", "what", what, RunConfig, "a file, or a RunConfig")
    page = run_market(what, on_live=on_live)
    return Written(page=page, facts=page.parent / "metrics.json")


def train(
    settings: "TrainConfig",
    *,
    on_progress: Callable[[int, int], None] = lambda done, rounds: None,
) -> "Trained":
    """Trains a model together with clients that keep their images, and pays them.

    Flower simulates the clients on this machine. The folder `settings.out` is resumed where an
    earlier run stopped.

    Args:
        settings: what is trained, by whom, and under which mechanism; `settings.smoke()` gives
            the same in small.
        on_progress: told how many rounds are done, of how many.

    Returns:
        A frozen result: accuracies, bytes and payments.

    Raises:
        InputError: a setting, a file or the folder cannot be used.
        MissingExtraError: Flower or Ray is not installed.
        MarketError: the simulation broke down.

    Example:
        >>> import edgepact
        >>> edgepact.TrainConfig(clients=4, mechanism="bribery")
        Traceback (most recent call last):
        ...
        edgepact.errors.InputError: train: mechanism: expected one of none, contract, auction, \
stackelberg, found "bribery"
    """
    from edgepact.training.federated.config import TrainConfig
    from edgepact.training.federated.run import train as train_together

    check_kind("train", "settings", settings, TrainConfig, "a TrainConfig")
    check_callable("train", "on_progress", on_progress)
    return train_together(settings, on_progress)


def study(
    name: str,
    *,
    smoke: bool = False,
    out: str | Path | None = None,
    train: bool = False,
    seeds: int | None = None,
    epochs: int | None = None,
    fleets: int | None = None,
    workers: int = 1,
    format: str = "png",
    style: str = "page",
    data: str | Path | None = None,
) -> "Written":
    """Reproduces a figure or a comparison: tables, a picture and `metrics.json` in one folder.

    Args:
        name: one of `edgepact.studies.STUDIES`.
        smoke: in small: does it run?
        out: folder of the results; `study-NAME` if None.
        train: train the study's policies first, into the folder, where it has any.
        seeds, epochs, fleets: sizes, in place of the study's own; which of them a study has, its
            `Config` says.
        workers: processes that share the work, where the study can be shared; results do not
            depend on it. A script that asks for more than one needs `if __name__ == "__main__":`,
            since each process loads it.
        format: of the pictures, `png`, `svg` or `pdf`.
        style: of the pictures, `page` for a screen or `article` for a column of print.
        data: folder of figure 4's results, from which fig4 and fig5 draw again and learn only what
            is missing; for fig5 `study-fig4` if it is there and fits.

    Returns:
        Where the results are, and what they say.

    Raises:
        InputError: there is no such study, it trains nothing, it has no such size, it cannot be
            shared, or the folder holds another one.

    Example:
        >>> import edgepact
        >>> edgepact.study("fig99")
        Traceback (most recent call last):
        ...
        edgepact.errors.InputError: study: NAME: expected one of fig4, fig5, quoting, \
robustness, dynamics, ablation, contract, speed, selection, auctions, cheating, capacity, \
pictures, best-of, found "fig99"; did you mean "fig4"?
    """
    from edgepact.studies import STUDIES, TRAININGS
    from edgepact.studies.asked import FORMATS, STYLES, Asked, check_size
    from edgepact.studies.place import check_place, make_place
    from edgepact.studies.results import write_parquet
    from edgepact.written import Written

    check_choice("study", "NAME", name, STUDIES)
    check_flag("study", "smoke", smoke)
    check_flag("study", "train", train)
    if train and name not in TRAININGS:
        raise InputError("study", "--train", f"only with {' or '.join(TRAININGS)}", shown(name))
    folder = Path(f"study-{name}") if out is None else check_path("study", "out", out)
    asked = Asked(
        smoke=smoke,
        seeds=check_size("seeds", seeds),
        epochs=check_size("epochs", epochs),
        fleets=check_size("fleets", fleets),
        workers=check_whole("study", "workers", workers, least=1, most=WORKERS_MAX),
        format=check_choice("study", "format", format, FORMATS),
        style=check_choice("study", "style", style, STYLES),
        data=None if data is None else check_path("study", "data", data),
    )
    chosen = STUDIES[name]
    check_place(folder, name, smoke=smoke)
    chosen.check(name, asked)
    make_place(folder)
    if train:
        chosen.train(folder, smoke)
    chosen(folder, asked)
    write_parquet(folder)
    page = folder / "page.md"
    return Written(page=page if page.exists() else folder, facts=folder / "metrics.json")


def load_study(folder: str | Path) -> "StudyResults":
    """Reads the results of a study: its settings, figures and tables.

    Args:
        folder: that `study` wrote.

    Returns:
        A frozen result whose `tables` are Arrow tables by name, each with `to_pandas()`.

    Raises:
        InputError: there is no study in the folder, or its files cannot be read.
    """
    from edgepact.studies.results import load

    return load(check_path("load_study", "folder", folder))


def _solve_document(source: Path, document: "Document") -> "Solution":
    scenario = _read_whole(source, document)
    name = Table(source, "", document).choice("mechanism", tuple(installed("mechanisms")))
    mechanism: Mechanism = part("mechanisms", name, source=source, field="mechanism")
    try:
        terms = mechanism.read(source, document)
    except InputError:
        if scenario is None:
            raise
        # Not all terms need to be in the file of a whole scenario; its pact knows the others.
        return scenario.pact.optimum(scenario.terms, None)
    return mechanism.solve(terms)


def _read_whole(source: Path, document: "Document") -> "Scenario | None":
    """The scenario that a document is, if it is one; else None.

    A command that uses a part of it has all of it read, by whom `edgepact run` would have it
    read, so that what one command accepts no other refuses.

    Raises:
        InputError: the scenario says something that could not be run.
    """
    from edgepact.files.scenario import is_scenario, scenario_of

    if not is_scenario(document):
        return None
    scenario = scenario_of(source, document)
    expect_runnable = getattr(scenario.pact, "expect_runnable", None)
    if expect_runnable is not None:
        expect_runnable(scenario.terms)
    return scenario


def _stated(terms: Any) -> tuple[str, Any] | None:
    """The mechanism that terms belong to, and the terms as its part takes them; None of others."""
    from edgepact.files.auction import AuctionFile
    from edgepact.files.stackelberg import GameFile
    from edgepact.mechanisms.contract.lottery import WideContract
    from edgepact.mechanisms.contract.terms import Contract
    from edgepact.mechanisms.stackelberg.terms import Game
    from edgepact.solutions.contract import ContractTerms

    if isinstance(terms, Game):
        return "stackelberg", _market(terms)
    if isinstance(terms, Contract | WideContract):
        return "contract", ContractTerms(source=Path("contract"), contract=terms)
    known = {GameFile: "stackelberg", ContractTerms: "contract", AuctionFile: "auction"}
    return (known[type(terms)], terms) if type(terms) in known else None


def _market(terms: Any) -> Any:
    """A game of named devices."""
    from edgepact.files.stackelberg import GameFile, game_of
    from edgepact.mechanisms.stackelberg.terms import Game

    if isinstance(terms, GameFile):
        return terms
    if isinstance(terms, Game):
        names = [f"device-{at + 1}" for at in range(len(terms.fleet))]
        return GameFile(source=Path("game"), game=terms, names=names)
    expected = "a file, a GameFile or a Game"
    check_kind("quote", "market", terms, str | Path, expected)
    path = check_path("quote", "market", terms)
    document = load(path)
    _read_whole(path, document)
    return game_of(path, document)
