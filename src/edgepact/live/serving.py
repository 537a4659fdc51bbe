"""A market that is served as its settings say: a price, quotes in context, or a scenario's own.

Which of them is asked of devices, and what of the settings fits together, is decided here, so that
a command line, a file and a process that was started with arguments are answered alike. Errors name
fields of `ServeOptions`; whoever states them says how they are spelt.
"""

import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepact.engagement import Engagement
from edgepact.errors import InputError, check_choice
from edgepact.market.opening import CutsModel, Mechanism, Served, StatesModel, StatesSettings
from edgepact.market.posted import FixedPrice
from edgepact.market.quoted_price import QuotedPrice
from edgepact.market.serve_config import ServeOptions
from edgepact.market.server import MarketServer
from edgepact.registry import installed
from edgepact.solvers.by_name import DEFAULT, quoter, quoters
from edgepact.solvers.quoter import Known, Quoter
from edgepact.work import Model

PRICE_MIN_SHARE = 0.05
"""Lowest price to quote, as a share of the saving, if nothing is said."""

ASKED = tuple(ServeOptions.ALTERNATIVES)
"""Fields of which one says what is asked of devices."""


def serve_market(options: ServeOptions) -> None:
    """Serves until the rounds are over or the process is told to stop; prints new tokens.

    Raises:
        InputError: the settings do not fit together, or a file that they name cannot be read.
        MarketError: the ledger cannot be used.
    """
    options, mechanism = asked(options)
    fresh = tuple(secrets.token_hex(20) for _ in range(options.new_tokens))
    tokens = options.enrol_tokens + _read_tokens(options.tokens) + fresh
    # The port is taken here, so that a server that cannot have it hands out no tokens.
    market = MarketServer(replace(options, enrol_tokens=tokens), mechanism)
    for token in fresh:
        print(f"one-time token: {token}", file=sys.stderr)
    market.run()


def asked(options: ServeOptions) -> tuple[ServeOptions, Mechanism]:
    """What is asked of devices, and the settings with the job and the model that go with it.

    Raises:
        InputError: none of `ASKED` is stated, or more than one; or what is beside it does not fit.
    """
    source = options.SOURCE
    check_choice(source, "solver", options.solver, quoters())
    given = [name for name in ASKED if getattr(options, name) is not None]
    if options.policy is not None and (options.solver != DEFAULT or options.saving is None):
        found = f"solver {options.solver}" if options.saving is not None else " and ".join(given)
        raise InputError(source, "policy", "a saving and the gdm beside it", found or "nothing")
    if len(given) != 1:
        found = f"{'both ' * (len(given) == 2)}{' and '.join(given)}" if given else "none of them"
        raise InputError(source, ", ".join(ASKED), "one of them", found)
    bounds = {"price_min": options.price_min, "price_max": options.price_max}
    stated = [name for name, value in bounds.items() if value is not None]
    if options.saving is None and stated:
        expected = "a saving beside it; nothing else is quoted within bounds"
        raise InputError(source, ", ".join(stated), expected, given[0])
    if options.scenario is not None:
        return _of_scenario(options, options.scenario)
    if options.saving is not None:
        return options, _quoted(options, options.saving)
    price = options.price
    assert price is not None
    if options.quote_seed is not None:
        raise InputError(source, "quote_seed", "what is quoted beside it", "price")
    return options, lambda model: FixedPrice(price=price, steps_max=model.amount_max)


def _quoted(options: ServeOptions, saving: float) -> Mechanism:
    """Quotes in context."""
    low = PRICE_MIN_SHARE * saving if options.price_min is None else options.price_min
    high = saving if options.price_max is None else options.price_max
    if low >= high:
        expected = "the first below the second"
        raise InputError(options.SOURCE, "price_min, price_max", expected, f"{low:g}, {high:g}")
    finds = quoter(options.solver) if options.policy is None else _trained(options.policy)

    def quoted(model: Model) -> Engagement:
        known = Known(
            saving=saving,
            layers_max=model.amount_max,
            price_min=low,
            price_max=high,
            devices=options.devices_min,
            integer=True,
        )
        seed = _seed_of_quotes(options)
        return QuotedPrice(finds, known, secrets.randbits(31) if seed is None else seed)

    return quoted


def _trained(policy: Path) -> Quoter:
    from edgepact.solvers.in_context.pricing import InContext, load

    return InContext(load(policy))


def _seed_of_quotes(options: ServeOptions) -> int | None:
    return options.seed if options.quote_seed is None else options.quote_seed


def _of_scenario(options: ServeOptions, scenario: Path) -> tuple[ServeOptions, Mechanism]:
    """A scenario's mechanism at work, on its job and its model.

    Raises:
        InputError: the settings state a job, or another model where the scenario has its own.
    """
    for field, given in (("job", options.job), ("job_settings", options.job_settings)):
        if given:
            expected = f"none beside a scenario: {scenario} says which job is done, and how"
            raise InputError(options.SOURCE, field, expected, given)
    from edgepact.files.scenario import read_scenario

    stated = read_scenario(scenario)
    jobs = tuple(installed("jobs"))
    if stated.pact.job not in jobs:
        expected = f"a job of the live market: {', '.join(jobs)}"
        raise InputError(scenario, "job.name", expected, stated.pact.job)
    decision = stated.pact.decide(stated.terms, None)
    if not isinstance(decision, Served):
        expected = "a scenario whose decision a live market can be served by"
        raise InputError(scenario, "mechanism", expected, stated.pact.name)
    model = stated.terms.model if isinstance(stated.terms, StatesModel) else None
    if model is not None:
        if options.model is not None:
            expected = f"none beside a scenario with a model of its own, {model}"
            raise InputError(options.SOURCE, "model", expected, options.model)
        if model.is_file() and isinstance(stated.terms, CutsModel):
            model = stated.terms.model_folder
        if not model.is_dir():
            raise InputError(scenario, "efficiency.model", "a model directory", f"{model}")
    if getattr(stated.terms, "buyers", ()) and options.demand is None:
        print(
            f"note: {scenario} has buyers, but nobody hands out their requests here: devices bring "
            "work of their own; --demand names a file of those who do",
            file=sys.stderr,
        )
    seed = _seed_of_quotes(options)
    settings, units = dict[str, Any](), options.units_per_round
    if isinstance(stated.terms, StatesSettings):
        settings = dict(stated.terms.settings)
        units = units or stated.terms.units
    served = replace(
        options,
        job=stated.pact.job,
        job_settings=settings,
        model=model or options.model,
        units_per_round=units,
    )
    return served, lambda made: decision.engagement(made, seed)


def _read_tokens(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or f"{error}"
        raise InputError(path, "", "a file of one-time tokens, one a line", found) from None
    return tuple(line.strip() for line in lines if line.strip())
