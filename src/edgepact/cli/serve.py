"""`edgepact serve`: the server of the live market."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepact.errors import InputError

if TYPE_CHECKING:
    from edgepact.market.server import Mechanism


def serve(
    model: Annotated[
        Path | None, typer.Option(help="A model directory [default: the embedded CLIP]")
    ] = None,
    ledger: Annotated[
        str, typer.Option(help="Database URL of the ledger.")
    ] = "sqlite:///edgepact-ledger.db",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 lets the system choose.")
    ] = 8080,
    price: Annotated[
        float | None, typer.Option(help="Post this price, in credits per layer and image.")
    ] = None,
    saving: Annotated[
        float | None,
        typer.Option(help="Quote in context: credits an image that a layer run elsewhere saves."),
    ] = None,
    scenario: Annotated[
        Path | None,
        typer.Option(
            help="Ask what this scenario's mechanism asks, such as a menu or bids; of devices' own "
            "figures it needs none."
        ),
    ] = None,
    price_min: Annotated[
        float | None,
        typer.Option(help="Lowest price to quote, credits [default: 5 % of the saving]"),
    ] = None,
    price_max: Annotated[
        float | None, typer.Option(help="Highest price to quote, credits [default: the saving]")
    ] = None,
    solver: Annotated[
        str,
        typer.Option(
            help="How quotes are found: gdm, the diffusion model; golden-section, grid, cma-es, "
            "gaussian-process or random."
        ),
    ] = "gdm",
    policy: Annotated[
        Path | None,
        typer.Option(help="Weights of the gdm [default: those that come with edgepact]"),
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="File of one-time tokens, one a line, to enrol with.")
    ] = None,
    new_tokens: Annotated[
        int, typer.Option(min=0, max=10_000, help="Make so many one-time tokens and print them.")
    ] = 0,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds to play [default: until stopped]")
    ] = None,
    devices_min: Annotated[
        int, typer.Option(min=1, help="Number of devices to wait for before the first round.")
    ] = 1,
    gather_timeout_s: Annotated[
        float | None,
        typer.Option(help="Start with fewer after so many seconds [default: wait on]"),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, help="Number of images of each device in a round.")
    ] = 16,
    commit_timeout_s: Annotated[
        float, typer.Option(help="Time that devices have to commit, seconds.")
    ] = 10.0,
    round_timeout_s: Annotated[
        float, typer.Option(help="Time that devices have for the work of a round, seconds.")
    ] = 120.0,
    audit_probability: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of jobs computed again before payment.")
    ] = 0.05,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31 - 1,
            help="Seed of quotes and audits, which makes them repeatable: for tests.",
        ),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Where to write the address once the server answers.")
    ] = None,
    job: Annotated[
        str, typer.Option(help="Name of the job that is done, see `edgepact list jobs`.")
    ] = "classification",
    job_settings: Annotated[str, typer.Option(help="Settings of the job, as JSON.")] = "{}",
) -> None:
    """Serve the live market: offers, split inference, payments.

    Devices enrol with a one-time token each and are paid per verified image. The ledger
    survives restarts; start again with the same one and the market goes on.
    """
    import secrets

    from edgepact.credits import PRICE_CREDITS_MAX
    from edgepact.engagement import Engagement
    from edgepact.market.posted import FixedPrice
    from edgepact.market.quoted_price import QuotedPrice
    from edgepact.market.serve_config import ServeConfig
    from edgepact.market.server import MarketServer, Mechanism
    from edgepact.settings import as_object, from_environment
    from edgepact.solvers.by_name import quoter, quoters
    from edgepact.solvers.in_context.pricing import InContext, load
    from edgepact.solvers.quoting import Known
    from edgepact.work import Model

    if solver not in quoters():
        raise InputError("serve", "--solver", f"one of {', '.join(quoters())}", solver)
    said = {"--price": price, "--saving": saving, "--scenario": scenario}
    given = [option for option, value in said.items() if value is not None]
    if policy is not None and (solver != "gdm" or saving is None):
        found = f"--solver {solver}" if saving is not None else " and ".join(given)
        raise InputError("serve", "--policy", "--saving and the gdm beside it", found)
    if len(given) != 1:
        found = f"{'both ' * (len(given) == 2)}{' and '.join(given)}" if given else "neither"
        raise InputError("serve", ", ".join(said), "one of them", found)
    if scenario is not None and (price_min is not None or price_max is not None):
        expected = "--saving beside them; a scenario says all that is asked"
        raise InputError("serve", "--price-min, --price-max", expected, "--scenario")
    mechanism: Mechanism
    if scenario is not None:
        job, mechanism = _stated(scenario, seed)
    elif saving is not None:
        if not 0.0 < saving <= PRICE_CREDITS_MAX:
            expected = f"a number above 0, at most {PRICE_CREDITS_MAX:g}"
            raise InputError("serve", "--saving", expected, saving)
        low = 0.05 * saving if price_min is None else price_min
        high = saving if price_max is None else price_max
        if not 0.0 < low < high <= PRICE_CREDITS_MAX:
            expected = f"0 < min < max <= {PRICE_CREDITS_MAX:g}"
            raise InputError("serve", "--price-min, --price-max", expected, f"{low:g}, {high:g}")
        finds = quoter(solver) if policy is None else InContext(load(policy))

        def quoted(model: Model) -> Engagement:
            assert saving is not None
            known = Known(
                saving=saving,
                layers_max=model.amount_max,
                price_min=low,
                price_max=high,
                devices=devices_min,
                integer=True,
            )
            return QuotedPrice(finds, known, secrets.randbits(31) if seed is None else seed)

        mechanism = quoted
    else:
        assert price is not None
        if not 0.0 <= price <= PRICE_CREDITS_MAX:
            raise InputError("serve", "--price", f"a number from 0 to {PRICE_CREDITS_MAX:g}", price)

        def fixed(model: Model) -> Engagement:
            assert price is not None
            return FixedPrice(price=price, steps_max=model.amount_max)

        mechanism = fixed
    by_environment = from_environment(ServeConfig).get("enrol_tokens", ())
    fresh = tuple(secrets.token_hex(20) for _ in range(new_tokens))
    # The port is taken here, so that a server that cannot have it hands out no tokens.
    market = MarketServer(
        ServeConfig(
            job=job,
            model=model,
            job_settings=as_object("serve", "--job-settings", job_settings),
            ledger_url=ledger,
            host=host,
            port=port,
            ready_file=ready_file,
            rounds=rounds,
            devices_min=devices_min,
            gather_timeout_s=gather_timeout_s,
            units_per_round=images,
            commit_timeout_s=commit_timeout_s,
            round_timeout_s=round_timeout_s,
            enrol_tokens=by_environment + _read_tokens(tokens) + fresh,
            audit_probability=audit_probability,
            seed=seed,
        ),
        mechanism,
    )
    for token in fresh:
        print(f"one-time token: {token}", file=sys.stderr)
    market.run()


def _stated(scenario: Path, seed: int | None) -> "tuple[str, Mechanism]":
    """The job of a scenario, and its mechanism at work."""
    from edgepact.files.scenario import read_scenario
    from edgepact.market.server import Served
    from edgepact.registry import installed

    stated = read_scenario(scenario)
    jobs = tuple(installed("jobs"))
    if stated.pact.job not in jobs:
        expected = f"a job of the live market: {', '.join(jobs)}"
        raise InputError(scenario, "job.name", expected, stated.pact.job)
    decision = stated.pact.decide(stated.terms, None)
    if not isinstance(decision, Served):
        expected = "a scenario whose decision a live market can be served by"
        raise InputError(scenario, "mechanism", expected, stated.pact.name)
    return stated.pact.job, lambda model: decision.engagement(model, seed)


def _read_tokens(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "", "a file of one-time tokens, one a line", f"{error}") from None
    return tuple(line.strip() for line in lines if line.strip())
