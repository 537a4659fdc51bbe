"""How a market is served: one settings object for flags, files and subprocesses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, shown
from edgepact.market.protocol.messages import UNITS_PER_ROUND_MAX
from edgepact.settings import SECRET, setting

DAY_S = 86400.0


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
    audit_probability: float = setting(
        "Share of pieces computed again before payment.", default=0.05
    )
    seed: int | None = setting(
        "Makes seeds and the choice of audits repeatable, and predictable for who knows it: "
        "for tests."
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
            ("audit_probability", 0 <= self.audit_probability <= 1, "a number from 0 to 1"),
            ("seed", self.seed is None or self.seed >= 0, "a whole number from 0"),
        ):
            if not fits:
                raise InputError("serve", field, expected, shown(getattr(self, field)))
