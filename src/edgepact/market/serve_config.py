"""How a market is served: settings objects for flags, files and subprocesses.

`ServeConfig` is what the server is told; `ServeOptions` adds what is asked of devices, as
`edgepact serve` is told it. The command line loads this module before it knows what it is asked, so
it imports nothing large.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

from edgepact.credits import PRICE_CREDITS_MAX
from edgepact.engagement import UNITS_PER_ROUND_MAX
from edgepact.errors import InputError, check_choice
from edgepact.market.logs import FORMATS, LEVELS
from edgepact.settings import DAY_S, SECRET, SEED_MAX, check, setting

DEFAULT_JOB = "classification"
"""The job that is done if nothing is said."""

NEW_TOKENS_MAX = 10_000

UNITS = 16
"""Units of each device in a round, if nothing is said."""

MARGIN = 0.25
"""Share of its pay that an honest device is taken to keep, if nothing is said."""


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How a market is served.

    What is asked of devices, such as a price, is the mechanism's own and stands elsewhere.

    Raises:
        InputError: a value that cannot be.
    """

    SOURCE: ClassVar[str] = "serve"

    model: Path | None = setting("A model directory [default: the scenario's, or the job's own]")
    ledger_url: str = setting(
        "Database URL of the ledger.", flag="--ledger", default="sqlite:///edgepact-ledger.db"
    )
    host: str = setting("Address to listen on.", default="127.0.0.1")
    port: int = setting(
        "Port to listen on; 0 lets the system choose.", default=8080, least=0, most=65535
    )
    ready_file: Path | None = setting(
        "Where to write the address, the port and the process id once the server answers "
        "[default: they are printed]"
    )
    rounds: int | None = setting(
        "Rounds to play, those in the ledger included [default: until stopped]", least=1
    )
    devices_min: int = setting(
        "Number of devices to wait for before the first round.", default=1, least=1
    )
    gather_timeout_s: float | None = setting(
        "Start with fewer after so many seconds [default: wait on]", above=0, most=DAY_S
    )
    units_per_round: int | None = setting(
        "Number of units of work, such as images or tokens, of each device in a round "
        f"[default: the scenario's, or {UNITS}].",
        flag="--images",
        least=1,
        most=UNITS_PER_ROUND_MAX,
    )
    commit_timeout_s: float = setting(
        "Time that devices have to commit after the first of them, seconds.",
        default=10.0,
        above=0,
        most=DAY_S,
    )
    round_timeout_s: float = setting(
        "Time that devices have for the work of a round, seconds.",
        default=120.0,
        above=0,
        most=DAY_S,
    )
    wait_share: float = setting(
        "How long a round waits for devices that lag, as a share of the time that the others take, "
        "over all rounds, such as 0.05; with inf no device is taken to lag.",
        default=math.inf,
        least=0,
        infinite=True,
    )
    enrol_tokens: tuple[str, ...] = setting(
        "One-time tokens, one for each device that may enrol.",
        env="EDGEPACT_ENROL_TOKENS",
        kind=SECRET,
        default=(),
    )
    operator_token: str | None = setting(
        "Token that shows the whole status and the metrics [default: a new one at each start, "
        "in the ready file].",
        env="EDGEPACT_OPERATOR_TOKEN",
        kind=SECRET,
    )
    allow_hosts: tuple[str, ...] = setting(
        "A name that the server may be called by, beside addresses and localhost; may be repeated.",
        flag="--allow-host",
        default=(),
    )
    tls: Path | None = setting(
        "Folder of the certificates to serve with; they are made there on first use "
        "[default: no TLS]"
    )
    connections_max: int = setting("Most connections at once.", default=2048, least=1, most=65_536)
    connections_each: int = setting(
        "Most connections at once of one device, or of one address without a token.",
        default=256,
        least=1,
        most=65_536,
    )
    requests_each: int = setting(
        "Most requests at once of one device, or of one address without a token.",
        default=12,
        least=1,
        most=65_536,
    )
    requests_per_s: float = setting(
        "Most requests a second of one device, or of one address without a token.",
        default=300.0,
        above=0,
        most=1e6,
    )
    bytes_per_s: float = setting(
        "Most bytes of request bodies a second of one device, or of one address without a token.",
        default=32.0 * 2**20,
        above=0,
        most=1e12,
    )
    wrong_tokens_each: int = setting(
        "Wrong tokens that one address may show at once; one more comes with each second.",
        default=30,
        least=1,
        most=1_000_000,
    )
    unpaid_per_minute: int = setting(
        "Most inferences a minute, and at once, of a client that is not paid for them; 0 refuses "
        "them.",
        default=600,
        least=0,
        most=1_000_000,
    )
    page: bool = setting(
        "Show the market as it runs under /page, to those who have the operator's token.",
        default=True,
    )
    best_price: float | None = setting(
        "Price of the exact optimum, credits, where somebody knows it: a line on the page, by "
        "which nothing is decided.",
        least=0,
        most=PRICE_CREDITS_MAX,
    )
    grpc_port: int | None = setting(
        "Port to answer the Open Inference Protocol over gRPC on, for which edgepact is installed "
        "with its extra grpc; 0 lets the system choose [default: no gRPC]",
        least=0,
        most=65535,
    )
    head_timeout_s: float = setting(
        "How long the head of a request may take, seconds.", default=10.0, above=0, most=DAY_S
    )
    body_timeout_s: float = setting(
        "How long the body of a request may take, seconds.", default=30.0, above=0, most=DAY_S
    )
    batch_max: int = setting(
        "Most pieces of work, such as images, that pass the stages of a model together; "
        "1 works them one by one.",
        default=16,
        least=1,
        most=64,
    )
    batch_wait_ms: float = setting(
        "Longest time that a piece waits for others to be computed together with it, milliseconds; "
        "a server with nothing else to do never waits.",
        default=20.0,
        least=0,
        most=60_000,
    )
    audit_probability: float | None = setting(
        "Share of jobs that are audited [default: the least at which cheating loses money].",
        least=0,
        most=1,
    )
    margin: float = setting(
        "Share of its pay that an honest device keeps at least; the rate of audits follows.",
        default=MARGIN,
        least=0.01,
        most=0.99,
    )
    audit_timeout_s: float = setting(
        "Time that a device has to show the source of an audited job, seconds.",
        default=30.0,
        above=0,
        most=DAY_S,
    )
    strikes_max: int = setting(
        "Failed audits at which a device is excluded.", default=2, least=1, most=1000
    )
    repeat_rounds: int = setting(
        "The same work is not paid twice within so many rounds; 0 pays it.",
        default=2,
        least=0,
        most=10_000,
    )
    demand: Path | None = setting(
        "File of buyers, who ask for work and pay the server for it: a piece that none of them has "
        "asked for is refused [default: devices bring their own work]"
    )
    round_budget: float | None = setting(
        "Most credits to pay in a round [default: no limit].", least=0
    )
    budget: float | None = setting("Most credits to pay in all [default: no limit].", least=0)
    log_format: str = setting(
        "How what happens is told on standard error: text, or json, a line an event.",
        default="text",
    )
    log_level: str = setting(
        "The least that is told: debug, info (every exchange with its times), warning or error.",
        default="warning",
    )
    standby: bool = setting(
        "Wait while another server serves the ledger, and take over when it is gone.", default=False
    )
    key: Path | None = setting(
        "File of the key that signs verdicts and statements [default: beside the ledger]."
    )
    seed: int | None = setting(
        "Seed of quotes and audits, which makes them repeatable, and predictable for who knows it: "
        "for tests, on the loopback interface alone.",
        least=0,
        most=SEED_MAX,
    )
    engine: str = setting(
        "Where the model is computed: process, in the server itself; ray, by replicas in Ray Serve "
        "(the extra ray), while the market and its ledger stay in the server.",
        default="process",
        choices=("process", "ray"),
    )
    replicas: int = setting(
        "Number of replicas of the model, with --engine ray.", default=2, least=1, most=1024
    )
    ray_address: str | None = setting(
        "Address of the Ray that the replicas run in [default: one is started on this machine]"
    )
    job: str | None = setting(
        "Name of the job that is done, see `edgepact list jobs` "
        "[default: the scenario's, or classification]"
    )
    job_settings: Mapping[str, Any] = setting("Settings of the job, as JSON.", default={})

    @property
    def units(self) -> int:
        """Units of each device in a round."""
        return UNITS if self.units_per_round is None else self.units_per_round

    def __post_init__(self) -> None:
        check(self)
        check_choice(self.SOURCE, "log_format", self.log_format, FORMATS)
        check_choice(self.SOURCE, "log_level", self.log_level, LEVELS)
        if self.seed is not None and not is_loopback(self.host):
            expected = f"none beyond the loopback interface, which {self.host} is"
            raise InputError(self.SOURCE, "seed", expected, self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(ServeConfig):
    """How a market is served, and what is asked of devices: a price, quotes, or a scenario's.

    What of it fits together is checked where it is put to work, in `edgepact.live.serving`.

    Raises:
        InputError: a value that cannot be.
    """

    ALTERNATIVES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "price": (),
        "saving": ("price_min", "price_max", "solver", "policy", "quote_seed"),
        "scenario": ("quote_seed",),
    }
    """Fields of which one says what is asked of devices, with those that go beside it."""

    price: float | None = setting(
        "Post this price, in credits a unit for each step of it, such as a layer of an image or a "
        "block of a token.",
        least=0,
        most=PRICE_CREDITS_MAX,
    )
    saving: float | None = setting(
        "Let the diffusion model quote prices, which learns from answers: this is what a step that "
        "a device runs, such as a layer, saves the server, credits a unit, such as an image.",
        above=0,
        most=PRICE_CREDITS_MAX,
    )
    price_min: float | None = setting(
        "Lowest price to quote, credits [default: 5 % of the saving]",
        above=0,
        most=PRICE_CREDITS_MAX,
    )
    price_max: float | None = setting(
        "Highest price to quote, credits [default: the saving]", above=0, most=PRICE_CREDITS_MAX
    )
    solver: str = setting(
        "How quotes are found: gdm, the diffusion model; golden-section, grid, cma-es, "
        "gaussian-process or random.",
        default="gdm",
    )
    quote_seed: int | None = setting(
        "Seed of quotes alone: they are repeatable while audits stay unpredictable [default: the "
        "seed; without one nobody knows it]",
        least=0,
        most=SEED_MAX,
    )
    policy: Path | None = setting("Weights of the gdm [default: those that come with edgepact]")
    scenario: Path | None = setting(
        "Ask what this scenario's mechanism asks, such as a menu or bids; of devices' own "
        "figures it needs none."
    )
    tokens: Path | None = setting("File of one-time tokens, one a line, to enrol with.")
    new_tokens: int = setting(
        "Make so many one-time tokens and print them.", default=0, least=0, most=NEW_TOKENS_MAX
    )
