"""The command line: parse, call, print.

Only Typer is imported here; each command imports what it needs when it runs,
so that `edgepact --help` answers at once and a device loads no JAX.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepact.errors import EdgepactError, InputError

app = typer.Typer(
    name="edgepact",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Split a model between an edge server and the devices around it, find the price that "
        "makes them take part, do the work and pay for it.\n\n"
        "Start with `edgepact run`: five devices and a server on this machine, real images, "
        "a price found by a diffusion model, and a report."
    ),
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


class _Interrupt:
    """Ctrl-C: at once, but as KeyboardInterrupt while there are processes to stop.

    An exception in the middle of an import, or of a callback of JAX, is answered with
    tracebacks or swallowed, and while nothing has been started there is nothing to clean up.
    """

    came = False
    live = False

    def __call__(self, signum: int, frame: object) -> None:
        self.came = True
        if not self.live:
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h\n")  # progress bars hide the cursor
                sys.stderr.flush()
            os._exit(130)
        raise KeyboardInterrupt


_interrupt = _Interrupt()


def main() -> None:
    """Entry point of the `edgepact` command: errors become one line and exit status 2."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except EdgepactError as error:
        print(f"edgepact: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except BaseException:
        if not _interrupt.came:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        # Everything of ours has been stopped by now. The usual way out would take the
        # interpreter apart while JAX may still be computing, and crash.
        os._exit(130)


@app.command()
def solve(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A market in TOML.")],
    as_json: Json = False,
) -> None:
    """Solve one market exactly: the best price, what everybody gets, and an audit.

    FILE names the mechanism (a Stackelberg game, a contract or an auction), the server's terms
    and the devices; examples/ holds some.
    """
    from edgepact.files import mechanism_of

    solved_by = {
        "auction": _solve_auction,
        "contract": _solve_contract,
        "stackelberg": _solve_stackelberg,
    }
    solved_by[mechanism_of(file)](file, as_json)


def _solve_stackelberg(file: Path, as_json: bool) -> None:
    import numpy as np

    from edgepact.files.market import read_market
    from edgepact.mechanisms.stackelberg.audit import audit_price
    from edgepact.mechanisms.stackelberg.optimum import equilibrium

    market = read_market(file)
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        result = equilibrium(market.game)
    results = (result.price, result.server_utility, result.device_utility, result.payments)
    if not all(np.isfinite(each).all() for each in results):
        expected = "numbers whose sizes lie closer together"
        raise InputError(file, "", expected, "a market without a finite solution in float64")
    audit = audit_price(market.game, result)
    if as_json:
        layers = result.layers.astype(int) if market.game.integer else result.layers
        _print_json(
            {
                "price": float(result.price),
                "server_utility": float(result.server_utility),
                "layers": layers.tolist(),
                "device_utility": result.device_utility.tolist(),
                "payments": result.payments.tolist(),
                "audit": audit.as_json(),
            }
        )
        return
    from rich.console import Console

    from edgepact.tables import audit_table, benchmarks_table, market_table

    console = Console()
    console.print(market_table(market, result))
    console.print(benchmarks_table(market.game, result))
    console.print(audit_table(audit))


def _solve_contract(file: Path, as_json: bool) -> None:
    import numpy as np

    from edgepact.files.contract import read_contract
    from edgepact.mechanisms.contract import optimum as contracts
    from edgepact.mechanisms.contract.audit import audit_menu
    from edgepact.mechanisms.contract.lottery import WideContract

    contract = read_contract(file)
    if isinstance(contract, WideContract):
        _solve_wide_contract(contract, as_json)
        return
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        menu = contracts.optimal_menu(contract)
        first_best = contracts.profit(contract, contracts.complete_information(contract))
        profit, rents = contracts.profit(contract, menu), contracts.rents(contract, menu)
        virtual_cost = contracts.virtual_cost(contract)
    results = (menu.quality, menu.reward, rents, virtual_cost, profit, first_best)
    if not all(np.isfinite(each).all() for each in results):
        expected = "numbers whose sizes lie closer together"
        raise InputError(file, "", expected, "a contract without a finite solution in float64")
    audit = audit_menu(contract, menu)
    if as_json:
        items = zip(menu.quality.tolist(), menu.reward.tolist(), strict=True)
        _print_json(
            {
                "menu": [{"quality": quality, "reward": reward} for quality, reward in items],
                "virtual_cost": virtual_cost.tolist(),
                "profit": profit,
                "rents": rents.tolist(),
                "first_best_profit": first_best,
                "audit": audit.as_json(),
            }
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("type", "cost", "probability", "quality", "reward", "rent"):
        table.add_column(title, justify="right")
    columns = (contract.psi, contract.probability, menu.quality, menu.reward, rents)
    for at, row in enumerate(zip(*columns, strict=True), start=1):
        table.add_row(str(at), *(f"{each:.6g}" for each in row))
    console = Console()
    console.print(table)
    console.print(f"profit {profit:.6g} credits; if costs were public {first_best:.6g}")
    for question, answer in audit.as_json().items():
        console.print(f"{question.replace('_', ' ')}: {answer}")


def _solve_auction(file: Path, as_json: bool) -> None:
    import numpy as np

    from edgepact.files.auction import read_auction
    from edgepact.mechanisms.auction.audit import audit_auction

    read = read_auction(file)
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        award = read.auction.award(read.bids)
    if not np.isfinite(award.payments).all():
        expected = "numbers whose sizes lie closer together"
        raise InputError(file, "", expected, "an auction without finite payments in float64")
    audit = audit_auction(read.auction, read.bids)
    if as_json:
        winners = [read.names[at] for at in np.flatnonzero(award.wins)]
        answer: dict[str, Any] = {
            "winners": winners,
            "payments": dict(zip(read.names, award.payments.tolist(), strict=True)),
        }
        if award.unit_price is not None:
            answer["unit_price"] = float(award.unit_price)
        _print_json(answer | {"audit": audit.as_json()})
        return
    from rich.console import Console

    from edgepact.tables import auction_audit_table, auction_table

    console = Console()
    console.print(auction_table(read, award))
    console.print(auction_audit_table(read.auction, audit))


def _solve_wide_contract(contract: Any, as_json: bool) -> None:
    from edgepact.mechanisms.contract.lottery import first_best_profit, lottery_menu

    menu, first_best = lottery_menu(contract), first_best_profit(contract)
    if as_json:
        _print_json(menu.as_json() | {"first_best_profit": first_best})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("type", "costs", "probability", "quality", "reward", "rent"):
        table.add_column(title, justify="right")
    for at, items in enumerate(menu.items(), start=1):
        costs = ", ".join(f"{cost:.6g}" for cost in contract.psi[at - 1])
        sure = len(items) == 1
        quality = "\n".join(
            f"{'none' if q is None else f'{q:.6g}'}{'' if sure else f' at {chance:.1%}'}"
            for q, chance in items
        )
        row = (contract.probability[at - 1], menu.reward[at - 1], menu.rents[at - 1])
        shown = [f"{each:.6g}" for each in row]
        table.add_row(str(at), costs, shown[0], quality, *shown[1:])
    console = Console()
    console.print(table)
    console.print(f"profit {menu.profit:.6g} credits; if costs were public {first_best:.6g}")
    console.print(menu.about_lotteries())
    console.print(f"largest gain from lying: {menu.largest_gain_from_lying:.3g} credits")
    console.print(
        f"largest loss from taking part: {menu.largest_loss_from_taking_part:.3g} credits"
    )


@app.command()
def quote(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A market in TOML.")],
    rounds: Annotated[int, typer.Option(min=1, max=200, help="Rounds to play.")] = 8,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of the noise that prices are drawn from.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Quote prices to a fleet as if nothing were known of it, round after round.

    The diffusion model posts a price, sees how many layers each device of FILE runs for it, and
    posts the next one. What it never sees, the devices' own alpha and capacity, gives the exact
    optimum that its quotes are held against.
    """
    from edgepact.files.market import read_market
    from edgepact.solvers.in_context.quoted import quoted

    market = read_market(file)
    result = quoted(market.game, rounds=rounds, seed=seed, source=file)
    if as_json:
        _print_json(result.as_json())
        return
    from rich.console import Console

    from edgepact.tables import quotes_table

    Console().print(quotes_table(market, result))


@app.command()
def run(
    scenario: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SCENARIO]",
            help="A whole scenario in TOML: method, mechanism, solver and job; see examples/.",
        ),
    ] = None,
    fleet: Annotated[
        Path | None,
        typer.Option(help="A market in TOML to play instead of a fleet drawn at random."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Devices to draw and start [default: 5]"),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Rounds to play [default: 12]")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Images a device and round [default: 12]")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**31 - 1, help="Of the fleet, the GDM and the images [default: 0]"
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model directory instead of the embedded CLIP.")
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option("--images-from", help="A folder of images instead of the sample set."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder for the results; the same again resumes a training "
            "[default: edgepact-run-SEED or -SCENARIO, numbered]"
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option(help="Measure briefly, play few rounds: a test.")] = False,
) -> None:
    """The main job: profile, price, serve, classify, pay, report.

    Measures the model on this machine, draws a fleet of devices with private costs, starts a server
    that prices by a diffusion model and a process for each device, plays rounds on real images,
    pays for every verified one, and writes report.html.

    With SCENARIO it does what that file says instead: any method (partition, compression,
    selection), mechanism (Stackelberg game, contract, auction), solver and job that fit together,
    in four steps with a table each. Only --out and --smoke go with it.
    """
    if scenario is not None:
        options = {
            "--fleet": fleet,
            "--devices": devices,
            "--rounds": rounds,
            "--images": images,
            "--seed": seed,
            "--model": model,
            "--images-from": samples,
        }
        for option, value in options.items():
            if value is not None:
                expected = f"the setting in {scenario}, which says all of them"
                raise InputError("run", option, expected, f"{value}")
        _run_scenario(scenario, out, smoke)
        return
    from edgepact.live.run import RunConfig, run_market

    if fleet is not None and devices is not None:
        raise InputError("run", "--devices", "either --fleet or --devices", "both")
    report = run_market(
        RunConfig(
            fleet=fleet,
            devices=devices or 5,
            rounds=rounds or 12,
            images=images or 12,
            seed=seed or 0,
            model=model,
            samples=samples,
            out=out or _free_folder(f"edgepact-run-{seed or 0}"),
            smoke=smoke,
        ),
        on_live=lambda: setattr(_interrupt, "live", True),
    )
    print(f"\nReport: {report}")


def _run_scenario(file: Path, out: Path | None, smoke: bool) -> None:
    from edgepact.files.scenario import read_scenario
    from edgepact.live.steps import run_scenario

    page = run_scenario(
        read_scenario(file),
        out or _free_folder(f"edgepact-run-{file.stem}"),
        smoke=smoke,
        on_live=lambda: setattr(_interrupt, "live", True),
    )
    print(f"\nResults: {page}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which one; see below.")],
    smoke: Annotated[bool, typer.Option(help="In small: does it run?")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results [default: study-NAME]")
    ] = None,
    train: Annotated[
        bool,
        typer.Option(help="quoting, robustness, contract: train policies first, into the folder."),
    ] = False,
) -> None:
    """Reproduce a figure or benchmark: CSV, PNG and metrics.json in one folder.

    fig4: the server's utility against training epochs, for the GDM, PPO and random pricing,
    with the exact optimum as ceiling. fig5: their final and mean utility. quoting: how soon quotes
    to unseen fleets are good, for every method. robustness: the same where the prior is wrong.
    dynamics: the same where the fleet changes from round to round. ablation: what each
    part of the diffusion model is worth. speed: the time of a quote. contract: menus, by profit
    and in federated training. selection: who should train, by money and time. auctions: revenue
    and regret of auctions that are learnt.
    """
    from edgepact.studies import STUDIES, TRAININGS

    if name not in STUDIES:
        raise InputError("study", "NAME", f"one of {', '.join(STUDIES)}", name)
    if train and name not in TRAININGS:
        raise InputError("study", "--train", f"only with {' or '.join(TRAININGS)}", name)
    folder = out or Path(f"study-{name}")
    if train:
        TRAININGS[name](folder, smoke)
    STUDIES[name](folder, smoke)
    print(f"Results: {folder}")


@app.command()
def profile(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="A model directory [default: the embedded CLIP]"),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=3, max=10_000, help="Runs of each stage; the fastest counts.")
    ] = 50,
    as_json: Json = False,
) -> None:
    """Measure a model's stages on this machine: seconds, GMAC, and the fit A*L + B.

    L is the number of layers a device runs, A what one costs, B what comes before the first.
    """
    from edgepact.efficiency.profile import profile as measure
    from edgepact.inference.models import embedded
    from edgepact.progress import progress_bar

    with progress_bar("profile", enabled=not as_json) as advance:
        measured = measure(model or embedded(), repeats=repeats, progress=advance)
    if as_json:
        _print_json(measured.as_json())
        return
    from rich.console import Console

    Console().print(measured.table())


model_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(
    model_app, name="model", help="Look into a model folder, cut a model, make it smaller."
)


@model_app.command("inspect")
def model_inspect(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="A model directory [default: the embedded CLIP]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count a model's stages: parameters, bytes, operations, and where it is cut.

    A stage is what lies between two cuts: embed, the blocks, the head. A device that runs L
    layers needs the first L + 1 stages. Nothing is run; `edgepact profile` measures.
    """
    from edgepact.efficiency.footprint import footprint
    from edgepact.inference.models import embedded

    counted = footprint(model or embedded())
    if as_json:
        _print_json(counted.as_json())
        return
    from rich.console import Console

    Console().print(counted.table())


@model_app.command("cut")
def model_cut(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A folder with image.onnx and its weights.")
    ],
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TENSOR",
            help="Output of embed, then of each block: once for each [default: as image.onnx says]",
        ),
    ] = None,
    possible: Annotated[
        bool, typer.Option("--list", help="Print the tensors it can be cut at, and cut nothing.")
    ] = False,
) -> None:
    """Cut a model into stages: stage_00.onnx, stage_01.onnx, ... beside image.onnx.

    A model can be cut in two where a single tensor carries all that depends on the image. All
    stages read the weights of the whole model, which stay where they are. The stages are run
    and compared with the whole model before they get their names.
    """
    from edgepact.inference import graph
    from edgepact.inference.pipeline import IMAGE_GRAPH

    if possible:
        if at:
            raise InputError("model cut", "--list", "either --list or --at", "both")
        for name in graph.single_tensor_cuts(model / IMAGE_GRAPH):
            print(name)
        return
    if at:
        graph.choose_boundaries(model, at)
    for path in graph.cut(model):
        print(path)


@model_app.command("compress")
def model_compress(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the smaller one.")],
    method: Annotated[str, typer.Option(help="int8, magnitude or structured; see below.")],
    share: Annotated[
        float | None,
        typer.Option(help="magnitude, structured: what to remove, from 0 to below 1."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images-from", help="Images to judge by [default: the sample set]"),
    ] = None,
    fit_images: Annotated[
        Path | None,
        typer.Option(
            "--fit-from", help="structured: images to choose by, others than to judge by."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a model smaller, and measure what that gains and loses.

    int8: weights and products in whole numbers; fewer bytes, as many operations, each of them
    cheaper. structured: fewer hidden units in every block; fewer bytes, operations and seconds.
    magnitude: the smallest weights of every matrix become 0; fewer bytes only where the model
    is sent or stored compressed, and no seconds.

    With --fit-from, structured removes the units that the others can best stand in for on those
    images, and lets them; without, those with the smallest weights. OUT is a model directory like
    any other, for `profile`, `run --model`, `serve` and `device`. Its text encoder is MODEL's.
    A folder of images has one folder for each class, if accuracy is to be measured; the files of
    Fashion-MNIST will do too, whose training half is for --fit-from.
    """
    from edgepact.studies.compress import CompressConfig, compress

    measured = compress(
        CompressConfig(
            model=model,
            out=out,
            method=method,
            share=share,
            images=images,
            fit_images=fit_images,
        )
    )
    if as_json:
        _print_json(measured.as_json())
        return
    from rich.console import Console

    Console().print(measured.table())


@app.command()
def serve(
    model: Annotated[
        Path | None, typer.Option(help="A model directory [default: the embedded CLIP]")
    ] = None,
    ledger: Annotated[
        str, typer.Option(help="Database URL of the ledger.")
    ] = "sqlite:///edgepact-ledger.db",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 lets the system choose.")] = 8080,
    price: Annotated[
        float | None, typer.Option(help="Post this price, in credits per layer and image.")
    ] = None,
    saving: Annotated[
        float | None,
        typer.Option(help="Quote in context: credits an image that a layer run elsewhere saves."),
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
    devices_min: Annotated[int, typer.Option(min=1, help="Devices to wait for.")] = 1,
    gather_timeout_s: Annotated[
        float | None,
        typer.Option(help="Start with fewer after so many seconds [default: wait on]"),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images a device and round.")] = 16,
    commit_timeout_s: Annotated[float, typer.Option(help="Time to commit, seconds.")] = 10.0,
    round_timeout_s: Annotated[float, typer.Option(help="Time to work, seconds.")] = 120.0,
    audit_probability: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of jobs computed again before payment.")
    ] = 0.05,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, help="Makes quotes and audits repeatable: for tests."),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Where to write the address once the server answers.")
    ] = None,
    job: Annotated[
        str, typer.Option(help="What is done: the name of an installed job.")
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
    from edgepact.job import Model
    from edgepact.market.posted import FixedPrice
    from edgepact.market.quoted import QuotedPrice
    from edgepact.market.serve_config import ServeConfig
    from edgepact.market.server import MarketServer
    from edgepact.solvers.in_context.pricing import InContext, load
    from edgepact.solvers.quoters import QUOTERS
    from edgepact.solvers.quotes import Known

    if solver not in QUOTERS:
        raise InputError("serve", "--solver", f"one of {', '.join(QUOTERS)}", solver)
    if policy is not None and (solver != "gdm" or saving is None):
        found = "--price" if saving is None else f"--solver {solver}"
        raise InputError("serve", "--policy", "--saving and the gdm beside it", found)
    if (price is None) == (saving is None):
        found = "neither" if price is None else "both"
        raise InputError("serve", "--price, --saving", "one of the two", found)
    settings = _json_object("--job-settings", job_settings)
    if saving is not None:
        if not 0.0 < saving <= PRICE_CREDITS_MAX:
            expected = f"a number above 0, at most {PRICE_CREDITS_MAX:g}"
            raise InputError("serve", "--saving", expected, saving)
        low = 0.05 * saving if price_min is None else price_min
        high = saving if price_max is None else price_max
        if not 0.0 < low < high <= PRICE_CREDITS_MAX:
            expected = f"0 < min < max <= {PRICE_CREDITS_MAX:g}"
            raise InputError("serve", "--price-min, --price-max", expected, f"{low:g}, {high:g}")

        quoter = QUOTERS[solver]() if policy is None else InContext(load(policy))

        def mechanism(model: Model) -> Engagement:
            assert saving is not None
            known = Known(
                saving=saving,
                layers_max=model.amount_max,
                price_min=low,
                price_max=high,
                devices=devices_min,
                integer=True,
            )
            return QuotedPrice(quoter, known, secrets.randbits(31) if seed is None else seed)

    else:
        assert price is not None
        if not 0.0 <= price <= PRICE_CREDITS_MAX:
            raise InputError("serve", "--price", f"a number from 0 to {PRICE_CREDITS_MAX:g}", price)

        def mechanism(model: Model) -> Engagement:
            assert price is not None
            return FixedPrice(price=price, steps_max=model.amount_max)

    fresh = tuple(secrets.token_hex(20) for _ in range(new_tokens))
    environ_tokens = os.environ.get("EDGEPACT_ENROL_TOKENS", "")
    # The port is taken here, so that a server that cannot have it hands out no tokens.
    market = MarketServer(
        ServeConfig(
            job=job,
            model=model,
            job_settings=settings,
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
            enrol_tokens=tuple(environ_tokens.split()) + _read_tokens(tokens) + fresh,
            audit_probability=audit_probability,
            seed=seed,
        ),
        mechanism,
    )
    for token in fresh:
        print(f"one-time token: {token}", file=sys.stderr)
    market.run()


@app.command()
def device(
    server: Annotated[str, typer.Option(help="The server, such as http://127.0.0.1:8080.")],
    alpha: Annotated[float, typer.Option(help="Weight of satisfaction, credits.")],
    capacity: Annotated[float, typer.Option(help="W, GMAC per image.")],
    layer_gmac: Annotated[float, typer.Option("--A", help="A, GMAC per layer.")],
    before_gmac: Annotated[float, typer.Option("--B", help="B, GMAC before the first layer.")],
    name: Annotated[str, typer.Option(help="Letters, digits, '.', '_', '-'.")] = "device-1",
    satisfaction: Annotated[str, typer.Option(help="log1p, log, sqrt or exp.")] = "log1p",
    images: Annotated[
        Path | None, typer.Option(help="Folder of images [default: the sample set]")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="A line of JSON an image [default: NAME.jsonl]")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model directory [default: the embedded CLIP]")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="EDGEPACT_ENROL_TOKEN", help="One-time token to enrol with."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Where the device keeps its own token over restarts.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="How activations are sent, such as int8 [default: the job's favourite]"),
    ] = None,
    layers_max: Annotated[
        int | None, typer.Option(min=0, help="Most layers to ever run [default: the model's]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the order of images.")] = 0,
    away_timeout_s: Annotated[
        float, typer.Option(help="How long to wait for a server that is away, seconds.")
    ] = 30.0,
    job: Annotated[
        str, typer.Option(help="What is done: the name of an installed job.")
    ] = "classification",
    job_settings: Annotated[str, typer.Option(help="Settings of the job, as JSON.")] = "{}",
) -> None:
    """Take part in a live market as one device: commit, run layers, get paid.

    It decides by itself how many layers are worth their price, from alpha and capacity, which
    it tells nobody.
    """
    from edgepact.credits import in_credits
    from edgepact.market.device import run_device
    from edgepact.market.device_config import DeviceConfig

    summary = run_device(
        DeviceConfig(
            server_url=server,
            name=name,
            job=job,
            model=model,
            inputs=images,
            job_settings=_json_object("--job-settings", job_settings),
            results=results,
            alpha=alpha,
            capacity=capacity,
            A=layer_gmac,
            B=before_gmac,
            satisfaction=satisfaction,
            layers_max=layers_max,
            enrol_token=token,
            token_file=token_file,
            codec=codec,
            seed=seed,
            away_timeout_s=away_timeout_s,
        )
    )
    credits = in_credits(summary.paid_microcredits)
    print(f"{name}: {summary.units} units in {summary.rounds} rounds, {credits:.6f} credits")


@app.command()
def ledger(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Database URL of a ledger.")
    ] = "sqlite:///edgepact-ledger.db",
    as_json: Json = False,
) -> None:
    """Show a ledger: balances, payments by round, and whether the books balance."""
    from edgepact.market.statement import read_statement

    statement = read_statement(url)
    if as_json:
        _print_json(statement.as_json())
        return
    from rich.console import Console

    for table in statement.tables():
        Console().print(table)


@app.command()
def train(
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Clients in the fleet.")] = 20,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="Rounds in all, those of an earlier run included.")
    ] = 20,
    dirichlet: Annotated[
        float,
        typer.Option(help="How evenly labels are spread: 0.1 hardly, 1 unevenly, inf evenly."),
    ] = 1.0,
    mechanism: Annotated[
        str,
        typer.Option(
            help="Who trains for what: none, contract (a menu), auction (bids) or stackelberg "
            "(a price for taking part, or for each step of the rate)."
        ),
    ] = "none",
    contract: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cost types and value, in TOML.")
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="Who decides: a contract's menu by optimum or gdm; a posted price by gdm, "
            "golden-section, grid, cma-es, gaussian-process or random [default: the first]"
        ),
    ] = None,
    worth: Annotated[
        float | None,
        typer.Option(
            help="With stackelberg, instead of a contract: credits an update is worth; clients "
            "take part for the price or stay away."
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(help="Without a contract: share of the bytes of float32 an update takes."),
    ] = 1.0,
    per_round: Annotated[
        int | None, typer.Option(min=1, help="Train at most so many in a round [default: all]")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Most credits to promise in a round [default: no limit]")
    ] = None,
    selector: Annotated[
        str | None,
        typer.Option(
            help="Who is chosen of the willing: random, fedcs, oort, power-of-choice, or auction: "
            "the winners [default: the mechanism's own choice]"
        ),
    ] = None,
    pay: Annotated[
        float, typer.Option(min=0, help="Without a mechanism: credits for each accepted update.")
    ] = 0.0,
    cost_min: Annotated[
        float, typer.Option(min=0, help="Least private cost of an update, without a contract.")
    ] = 0.5,
    cost_max: Annotated[
        float, typer.Option(min=0, help="Largest private cost of an update, likewise.")
    ] = 1.5,
    deadline: Annotated[
        float | None, typer.Option(help="Seconds of a round, by the clients' simulated clocks.")
    ] = None,
    aggregate: Annotated[str, typer.Option(help="fedavg or fedadam.")] = "fedavg",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of Fashion-MNIST, or samples: the 300 images of the package "
            "[default: where Debian puts it]",
        ),
    ] = None,
    layers: Annotated[
        int,
        typer.Option(min=1, max=48, help="Blocks of the image tower; the embedded one has 12."),
    ] = 4,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Processes that play clients [default: one a core]"),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of weights, split, costs and draws.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; the same again resumes [default: edgepact-train]"),
    ] = None,
    smoke: Annotated[
        bool, typer.Option(help="In small: sample images, four clients, two rounds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model together with devices that keep their images, and pay them.

    The embedded CLIP's image tower learns Fashion-MNIST, split over clients that Flower simulates
    on this machine. In each round the server asks (a contract offers a menu of compression rates
    and rewards, an auction calls for bids), clients answer for their own good, train on their own
    images and send a compressed update; accepted updates are averaged and paid. The folder holds
    checkpoint, ledger, rounds.csv, metrics.json and accuracy.png; the same command resumes it
    after a crash.

    First try: edgepact train --smoke. Needs: pip install 'edgepact[federated]'.
    """
    from dataclasses import replace

    from edgepact.progress import progress_bar
    from edgepact.training.federated.config import TrainConfig
    from edgepact.training.federated.run import expect_ready
    from edgepact.training.federated.run import train as train_together
    from edgepact.training.federated.task import TaskConfig

    task = TaskConfig(seed=seed, layers=layers)
    if data is not None:
        task = replace(task, data=data)
    config = TrainConfig(
        clients=clients,
        rounds=rounds,
        dirichlet=dirichlet,
        mechanism=mechanism,
        contract=contract,
        solver=solver,
        worth=worth,
        rate=rate,
        per_round=per_round,
        budget=budget,
        selector=selector,
        pay=pay,
        costs=(cost_min, cost_max),
        deadline_s=deadline,
        aggregate=aggregate,
        task=task,
        out=out or Path("edgepact-train"),
        workers=workers,
    )
    config = config.smoke() if smoke else config
    expect_ready(config)
    with progress_bar("train together", enabled=not as_json) as advance:
        trained = train_together(config, advance)
    if as_json:
        _print_json(trained.as_json())
        return
    from rich.console import Console

    console = Console()
    for table in trained.tables():
        console.print(table)
    console.print(f"Results: {trained.out}", markup=False, highlight=False)


def _free_folder(name: str) -> Path:
    """A folder that is not there yet: a second run must not touch the first one's report."""
    number = 1
    folder = Path(name)
    while folder.exists():
        number += 1
        folder = Path(f"{name}-{number}")
    return folder


def _read_tokens(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "", "a file of one-time tokens, one a line", f"{error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(option, "", "a JSON object", text)
    return value


def _one_line(error: Exception) -> str:
    """A message without the line breaks and control characters that input can carry into it."""
    return "".join(char if char.isprintable() else " " for char in str(error))


def _print_json(value: Any) -> None:
    # NaN is not JSON; whoever reads this must not be handed it.
    print(json.dumps(value, allow_nan=False))
