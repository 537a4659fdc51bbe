"""The main job: profile, price, serve, classify, pay, report.

The article's case study on one machine: a CLIP image encoder split between
device processes and one server process. A diffusion model that was taught, in
simulation, to price fleets of many kinds reads this one's answers and quotes a
price per layer in each round; devices answer with the layers that pay them best, run them on real
images, and are paid per verified image.
"""

import json
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from edgepact.compiled import keep_compiled
from edgepact.efficiency.profile import Profile, profile
from edgepact.errors import InputError
from edgepact.files.stackelberg import GameFile, read_game
from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.inference import graph
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import ModelInfo, stage_path
from edgepact.jobs.classification import find_images
from edgepact.live.findings import Findings, find
from edgepact.live.report import print_summary, write_report
from edgepact.market.device_config import DeviceConfig
from edgepact.market.play import round_status
from edgepact.market.processes import LiveMarket
from edgepact.market.protocol.messages import check_name
from edgepact.market.serve_config import ServeConfig
from edgepact.market.statement import Statement, read_statement
from edgepact.mechanisms.stackelberg.benchmarks import bayesian_price
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.progress import progress_bar
from edgepact.solvers.by_name import OPTIMUM, quoters
from edgepact.solvers.quotes import Known

DEVICES_MAX = 64
"""Most devices, each a process, on one machine."""

IMAGES_CHECKED = 2000
"""Images opened before anything is started."""

DEVICE_NAMES = ("camera", "phone", "drone", "kiosk", "robot", "watch", "car", "glasses")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Settings of `edgepact run`.

    Attributes:
        fleet: market file to play; None draws a fleet.
        devices: number of devices to draw.
        rounds: rounds to play.
        images: images of each device in a round.
        seed: of the fleet, the quotes and the order of images.
        model: model directory; None takes the embedded CLIP.
        samples: folder of images; None takes the sample set.
        out: folder to write into; must be new or empty.
        solver: one of `quoters()`, or `optimum`.
        smoke: measure briefly and play two rounds.
    """

    fleet: Path | None = None
    devices: int = 5
    rounds: int = 12
    images: int = 12
    seed: int = 0
    model: Path | None = None
    samples: Path | None = None
    out: Path = Path("edgepact-run")
    solver: str = "gdm"
    smoke: bool = False

    def __post_init__(self) -> None:
        options = (*quoters(), OPTIMUM.name)
        if self.solver not in options:
            raise InputError("run", "solver", f"one of {', '.join(options)}", self.solver)


def run_market(
    config: RunConfig,
    *,
    on_live: Callable[[], None] = lambda: None,
    on_market: Callable[[Profile, GameFile], None] = lambda measured, market: None,
    on_findings: Callable[[Findings], None] | None = None,
) -> Path:
    """Does the whole job; returns the path of the report.

    Args:
        config: the settings.
        on_live: called before the first process is started.
        on_market: told what was measured, and the market that is about to be played.
        on_findings: told what came of it, in place of the table that is printed.

    Raises:
        InputError: an option or file is impossible; nothing was started.
        MarketError: the server could not be started, or all devices were lost.
    """
    measured, market = measure_market(config)
    on_market(measured, market)
    findings, path = play_market(config, measured, market, on_live=on_live)
    (on_findings or print_summary)(findings)
    return path


def expect_playable(config: RunConfig) -> GameFile | None:
    """Refuses what cannot work before anything is written; returns the market of a fleet file.

    Raises:
        InputError: an option or file is impossible.
    """
    return _check_inputs(config, config.model or embedded(), config.samples or samples())


def measure_market(config: RunConfig) -> tuple[Profile, GameFile]:
    """Measures the model's layers, and reads or draws the market that is played with it.

    Raises:
        InputError: an option or file is impossible; nothing was started.
    """
    given = expect_playable(config)
    keep_compiled()
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(config.out, "--out", "a folder that can be made", f"{error}") from None
    signal.signal(signal.SIGTERM, _end)
    with progress_bar("Measure the model's layers") as advance:
        repeats = 5 if config.smoke else 30
        measured = profile(config.model or embedded(), repeats=repeats, progress=advance)
    return measured, _market(config, measured, given)


def play_market(
    config: RunConfig, measured: Profile, market: GameFile, *, on_live: Callable[[], None]
) -> tuple[Findings, Path]:
    """Plays a market with real processes; returns what came of it, and the path of the report.

    Raises:
        MarketError: the server could not be started, or all devices were lost.
    """
    model, images = config.model or embedded(), config.samples or samples()
    on_live()
    started_s = time.monotonic()
    lost = _play(config, market, model, images)
    findings = find(
        folder=config.out,
        market=market,
        prior_price=_prior_price(config, market.game),
        profile=measured,
        model=model,
        images=images,
        statement=read_statement(_ledger_url(config)),
        lost=lost,
        live_seconds=time.monotonic() - started_s,
    )
    return findings, write_report(config.out, config, findings)


def _check_inputs(config: RunConfig, model: Path, images: Path) -> GameFile | None:
    """Refuses what cannot work before anything is written; returns the market of a fleet file."""
    if config.out.exists():
        if not config.out.is_dir():
            raise InputError(config.out, "--out", "a new or empty folder", "a file")
        if any(config.out.iterdir()):
            raise InputError(config.out, "--out", "a new or empty folder", "one with files in it")
    if not images.is_dir():
        raise InputError(images, "--images-from", "a folder of images", "no such folder")
    if not model.is_dir():
        raise InputError(model, "--model", "a model directory", "no such folder")
    _check_images(images)
    if not stage_path(model, 0).is_file():
        graph.cut(model)
    if config.fleet is None:
        return None
    market = read_game(config.fleet)
    _check_playable(config.fleet, market, ModelInfo.read(model))
    return market


def _end(signum: int, frame: object) -> None:
    """On SIGTERM everybody is stopped in the same way as on Ctrl-C."""
    raise SystemExit(128 + signum)


def _check_images(folder: Path) -> None:
    """Opens the images that will be used first: a broken one should not end a device later."""
    for picture in find_images(folder)[:IMAGES_CHECKED]:
        try:
            with Image.open(picture.path) as image:
                image.verify()
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(picture.path, "", "an image", f"{error}") from None


def _check_playable(source: Path, market: GameFile, info: ModelInfo) -> None:
    game = market.game
    for field, fits, expected, found in (
        (
            "server.layers_max",
            game.layers_max == info.layers_max,
            f"{info.layers_max}, the layers of {info.name}",
            game.layers_max,
        ),
        (
            "layers",
            game.integer,
            "'integer', since processes run whole layers",
            "'continuous'",
        ),
        (
            "server.price_max",
            game.price_max > game.price_min,
            "more than price_min, or there is nothing to quote",
            game.price_max,
        ),
        ("outside_option", not game.outside_option, "false: live devices do not decline", "true"),
        (
            "device",
            len(market.names) <= DEVICES_MAX,
            f"at most {DEVICES_MAX} devices, each a process here",
            len(market.names),
        ),
    ):
        if not fits:
            raise InputError(source, field, expected, found)
    for name in market.names:
        check_name(str(source), name)
        if name.casefold() == "server":
            raise InputError(source, "device.name", "names other than 'server'", name)


def _market(config: RunConfig, measured: Profile, given: GameFile | None) -> GameFile:
    """The market that is played, also in a file of its own, for `edgepact solve`."""
    path = config.out / "market.toml"
    if given is not None:
        path.write_text(_as_toml(given.game, given.names))
        ratio = float(np.mean(given.game.fleet.A)) / measured.costs.A
        if not 0.5 < ratio < 2.0:
            print(
                f"note: a layer of {measured.model} takes {measured.costs.A:.4g} GMAC, the fleet's "
                f"A is {ratio:.3g} times that; devices decide and are paid by the file",
                file=sys.stderr,
            )
        return given
    path.write_text(_drawn_market(config, measured))
    return read_game(path)


def _drawn_market(config: RunConfig, measured: Profile) -> str:
    """Heterogeneous devices in the units of the model measured here.

    A layer costs the server one credit. Satisfaction is ln(y), the family in
    which the unit of computing drops out, so that a model of one MMAC a layer
    and one of 358 play the same game.
    """
    costs = measured.costs
    prior = _prior(costs.A, costs.B)
    fleet = prior.sample(jax.random.key(config.seed), config.devices)
    game = Game(
        fleet=jax.tree.map(lambda column: np.asarray(column, np.float64), fleet),
        revenue=20.0 * config.devices,
        beta=1.0 / costs.A,
        price_min=0.05,
        price_max=1.2,
        layers_max=costs.layers_max,
        satisfaction=FAMILIES["log"],
    )
    names = [
        name if at < len(DEVICE_NAMES) else f"{name}-{at // len(DEVICE_NAMES) + 1}"
        for at in range(config.devices)
        for name in [DEVICE_NAMES[at % len(DEVICE_NAMES)]]
    ]
    return _as_toml(game, names)


def _prior(A: float, B: float) -> FleetPrior:
    """What the operator believes before anything is seen: the fleets this job draws from."""
    return FleetPrior(
        alpha=Interval(1.0, 6.0), capacity=Interval(B + 13.0 * A, B + 25.0 * A), A=A, B=B
    )


def _prior_price(config: RunConfig, game: Game) -> float:
    """What an operator would post that knows the prior and never looks at an answer."""
    fleet = game.fleet
    A, B = float(fleet.A.mean()), float(fleet.B.mean())
    if config.fleet is None:
        prior = _prior(A, B)
    else:
        # Of a fleet from a file the operator is taken to know the ranges, twice as wide.
        prior = FleetPrior(
            alpha=Interval(float(fleet.alpha.min()) / 2.0, float(fleet.alpha.max()) * 2.0),
            capacity=Interval(float(fleet.capacity.min()) / 2.0, float(fleet.capacity.max()) * 2),
            A=A,
            B=B,
        )
    drawn = prior.sample(jax.random.key(config.seed + 1), 20_000)
    sample = jax.tree.map(lambda column: np.asarray(column, np.float64), drawn)
    return float(bayesian_price(game, sample))


def _quoting(game: Game, solver: str) -> tuple[str, ...]:
    """What the server is told to quote with: what is public in the game, if there is a search."""
    known = Known.of_any(game, source="market")
    if solver == OPTIMUM.name:
        return ("--price", repr(float(equilibrium(game).price)))
    return (
        *("--solver", solver),
        *("--saving", repr(known.saving)),
        *("--price-min", repr(known.price_min)),
        *("--price-max", repr(known.price_max)),
    )


def _play(config: RunConfig, market: GameFile, model: Path, images: Path) -> dict[str, str]:
    """Starts everybody, follows the rounds, stops everybody; returns devices that were lost."""
    from edgepact.live.watching import watching

    names, game = market.names, market.game
    tokens = [secrets.token_hex(20) for _ in names]
    rounds = 2 if config.smoke else config.rounds
    with LiveMarket(config.out) as live, watching(names, rounds, config.images) as on_status:
        live.start_server(
            ServeConfig(
                model=model,
                ledger_url=_ledger_url(config),
                port=0,
                enrol_tokens=tuple(tokens),
                rounds=rounds,
                devices_min=len(names),
                units_per_round=config.images,
                seed=config.seed,
                # What a device that died costs the others; a round takes well under a second.
                round_timeout_s=20.0,
                gather_timeout_s=30.0,
            ),
            _quoting(game, config.solver),
        )
        for at, (name, token) in enumerate(zip(names, tokens, strict=True)):
            live.start_device(
                DeviceConfig(
                    server_url=live.url,
                    name=name,
                    model=model,
                    inputs=images,
                    results=config.out / f"{name}.jsonl",
                    alpha=float(game.fleet.alpha[at]),
                    capacity=float(game.fleet.capacity[at]),
                    A=float(game.fleet.A[at]),
                    B=float(game.fleet.B[at]),
                    satisfaction=game.satisfaction.name,
                    enrol_token=token,
                    seed=config.seed,
                )
            )
        try:
            live.watch(on_status)
        except KeyboardInterrupt:
            print(f"\nstopped; what was paid is in {config.out / 'ledger.db'}", file=sys.stderr)
            raise
        on_status(_last_status(read_statement(_ledger_url(config))))
        return live.lost_devices()


def _last_status(statement: Statement) -> dict[str, Any]:
    """The end of the market as the ledger has it: the server may end between two looks at it."""
    return {"devices_present": [], "rounds": [round_status(each) for each in statement.rounds]}


def _ledger_url(config: RunConfig) -> str:
    return f"sqlite:///{config.out.resolve() / 'ledger.db'}"


def _as_toml(game: Game, names: list[str]) -> str:
    lines = [
        'mechanism = "stackelberg"',
        f'layers = "{"integer" if game.integer else "continuous"}"',
        f'satisfaction = "{game.satisfaction.name}"',
        "",
        "[server]",
        f"revenue = {float(game.revenue)!r}",
        f"beta = {float(game.beta)!r}",
        f"layers_max = {game.layers_max}",
        f"price_min = {float(game.price_min)!r}",
        f"price_max = {float(game.price_max)!r}",
    ]
    fleet: Fleet = game.fleet
    for at, name in enumerate(names):
        lines += [
            "",
            "[[device]]",
            f"name = {json.dumps(name)}",
            f"alpha = {float(fleet.alpha[at])!r}",
            f"capacity = {float(fleet.capacity[at])!r}",
            f"A = {float(fleet.A[at])!r}",
            f"B = {float(fleet.B[at])!r}",
        ]
    return "\n".join(lines) + "\n"
