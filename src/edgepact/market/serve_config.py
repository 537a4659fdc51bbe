"""How a market is served: one settings object for flags, files and subprocesses."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.market.protocol.messages import UNITS_PER_ROUND_MAX
from edgepact.settings import SECRET, setting

DAY_S = 86400.0


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

    job: str = setting("Name of the job, see `edgepact list jobs`.", default="classification")
    model: Path | None = setting("A model directory [default: the job's own]")
    job_settings: Mapping[str, Any] = setting("Settings of the job, as JSON.", default={})
    ledger_url: str = setting(
        "Database URL of the ledger.", flag="--ledger", default="sqlite:///edgepact-ledger.db"
    )
    host: str = setting("Address to listen on.", default="127.0.0.1")
    port: int = setting("0 lets the system choose.", default=8080)
    ready_file: Path | None = setting(
        "Where to write the address, the port and the process id once the server answers; "
        "without it they go to standard output."
    )
    rounds: int | None = setting(
        "Rounds to play, those in the ledger included [default: until stopped]"
    )
    devices_min: int = setting("Devices to wait for.", default=1)
    gather_timeout_s: float | None = setting(
        "Start with fewer after so many seconds [default: wait on]"
    )
    units_per_round: int = setting(
        "Units of work, such as images, a device and round.", flag="--images", default=16
    )
    commit_timeout_s: float = setting(
        "Time to answer after the first answer, seconds.", default=10.0
    )
    round_timeout_s: float = setting("Time to work after that, seconds.", default=120.0)
    enrol_tokens: tuple[str, ...] = setting(
        "One-time tokens, one for each device that may enrol.",
        env="EDGEPACT_ENROL_TOKENS",
        kind=SECRET,
        default=(),
    )
    audit_probability: float | None = setting(
        "Share of pieces that are audited [default: the least at which cheating loses money]"
    )
    margin: float = setting(
        "Share of its pay that an honest device keeps at least; the audits' rate follows from it.",
        default=0.25,
    )
    audit_timeout_s: float = setting(
        "Time that a device has to show the source of an audited piece, seconds.", default=30.0
    )
    strikes_max: int = setting("Failed audits at which a device is excluded.", default=2)
    repeat_rounds: int = setting(
        "The same work is not paid twice within so many rounds; 0 pays it.", default=2
    )
    round_budget: float | None = setting("Most credits to pay in a round [default: no limit]")
    budget: float | None = setting("Most credits to pay in all [default: no limit]")
    key: Path | None = setting(
        "File of the key that signs verdicts and statements [default: beside the ledger]"
    )
    seed: int | None = setting(
        "Makes seeds and the choice of audits repeatable, and predictable for who knows it: "
        "for tests, on the loopback interface alone."
    )

    def __post_init__(self) -> None:
        units_max = UNITS_PER_ROUND_MAX
        for field, fits, expected in (
            ("port", 0 <= self.port <= 65535, "a port from 0 to 65535"),
            ("rounds", self.rounds is None or self.rounds >= 1, "at least 1"),
            ("devices_min", self.devices_min >= 1, "at least 1"),
            (
                "gather_timeout_s",
                self.gather_timeout_s is None or 0 < self.gather_timeout_s <= DAY_S,
                f"above 0, at most {DAY_S:g} seconds",
            ),
            ("units_per_round", 1 <= self.units_per_round <= units_max, f"1 to {units_max}"),
            (
                "commit_timeout_s",
                0 < self.commit_timeout_s <= DAY_S,
                f"above 0, at most {DAY_S:g} seconds",
            ),
            (
                "round_timeout_s",
                0 < self.round_timeout_s <= DAY_S,
                f"above 0, at most {DAY_S:g} seconds",
            ),
            (
                "audit_probability",
                self.audit_probability is None or 0 <= self.audit_probability <= 1,
                "a number from 0 to 1",
            ),
            ("margin", 0 < self.margin < 1, "a number above 0 and below 1"),
            (
                "audit_timeout_s",
                0 < self.audit_timeout_s <= DAY_S,
                f"above 0, at most {DAY_S:g} seconds",
            ),
            ("strikes_max", self.strikes_max >= 1, "at least 1"),
            ("repeat_rounds", 0 <= self.repeat_rounds <= 10_000, "0 to 10000"),
            (
                "round_budget",
                self.round_budget is None or self.round_budget >= 0,
                "a number from 0",
            ),
            ("budget", self.budget is None or self.budget >= 0, "a number from 0"),
            ("seed", self.seed is None or self.seed >= 0, "a whole number from 0"),
            ("seed", self.seed is None or is_loopback(self.host), "none beyond loopback"),
        ):
            if not fits:
                raise InputError("serve", field, expected, getattr(self, field))
