"""One device: one settings object for flags, files and subprocesses.

The command line loads this module before it knows what it is asked, so it imports nothing large.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgepact.errors import InputError
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.registry import installed
from edgepact.settings import SECRET, SEED_MAX, check, setting

MS_MAX = 1e6

IN_FLIGHT_MAX = 8
"""Most pieces of a device that the server works on at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """One device: what it works on, and what only it knows.

    Raises:
        InputError: a value that cannot be.
    """

    SOURCE: ClassVar[str] = "device"

    server_url: str = setting(
        "Address of the server, such as http://127.0.0.1:8080; several with commas between them, "
        "if it may move.",
        flag="--server",
        required=True,
    )
    alpha: float = setting(
        "alpha: weight of the device's satisfaction, credits.", required=True, above=0
    )
    capacity: float = setting(
        "W: computing that the device has in the time of one unit of work, such as an image or a "
        "token, GMAC.",
        required=True,
        least=0,
    )
    A: float = setting(
        "A: computing of one step of a unit, such as a layer, a block or a stage, GMAC.",
        required=True,
        above=0,
    )
    B: float = setting(
        "B: computing of a unit before the first step, GMAC.", required=True, least=0
    )
    name: str = setting("Name of the device: letters, digits, '.', '_', '-'.", default="device-1")
    satisfaction: str = setting(
        "Form of the satisfaction: log1p, log, sqrt or exp.",
        default="log1p",
        choices=tuple(FAMILIES),
    )
    inputs: Path | None = setting(
        "What to work on, such as a folder of images or a file of prompts "
        "[default: the job's samples]",
        flag="--images",
    )
    requests: Path | None = setting(
        "File of the requests of buyers, which alone are worked on, where the server asks for them"
    )
    results: Path | None = setting(
        "File of results, a line of JSON a piece of work [default: NAME.jsonl]"
    )
    model: Path | None = setting("A model directory [default: the job's own]")
    enrol_token: str | None = setting(
        "One-time token to enrol with; not needed if the token file holds a token.",
        flag="--token",
        env="EDGEPACT_ENROL_TOKEN",
        kind=SECRET,
    )
    token_file: Path | None = setting("Where the device keeps its own token over restarts.")
    codec: str | None = setting(
        "How activations travel, such as int8 [default: the job's favourite]",
        choices=lambda: tuple(installed("codecs")),
    )
    layers_max: int | None = setting(
        "Most steps of a unit, such as layers, to ever run [default: the model's]", least=0
    )
    time_cost: float = setting(
        "Worth of a second that a piece of work is on its way, credits.", default=0.0, least=0
    )
    energy_cost: float = setting(
        "Worth of the energy of sending a megabyte, credits.", default=0.0, least=0
    )
    link_mbit: float | None = setting(
        "Rate at which the device sends, Mbit/s [default: as measured]", above=0
    )
    round_trip_ms: float | None = setting(
        "Time of a message there and back, ms [default: as measured]", least=0, most=MS_MAX
    )
    seed: int = setting("Seed of the order of the inputs.", default=0, least=0, most=SEED_MAX)
    away_timeout_s: float = setting(
        "How long to wait for a server that is away, seconds; inf waits for ever.",
        default=120.0,
        above=0,
        infinite=True,
    )
    ca: Path | None = setting(
        "Certificates to trust, PEM, such as those that `serve --tls` has made."
    )
    in_flight: int | None = setting(
        "Most jobs in flight at once [default: as the round trip makes worth it].",
        least=1,
        most=IN_FLIGHT_MAX,
    )
    job: str = setting(
        "Name of the job that is done, see `edgepact list jobs`.", default="classification"
    )
    chat: int | None = setting(
        "Port of this machine at which chat clients, which speak OpenAI's protocol, are answered; "
        "0 for any that is free. For jobs that write text.",
        least=0,
        most=65535,
    )
    chat_token_file: Path | None = setting(
        "Where the token is kept that these show as their API key [default: NAME.chat-token]"
    )
    show_pieces: bool = setting(
        "Show the server's operator a piece every few seconds, on the live page: a thumbnail, the "
        "beginning of a text or of a sound, and the answer.",
        default=False,
    )
    job_settings: Mapping[str, Any] = setting(
        "Settings of the job, as JSON; what is not stated is as the server tells it.", default={}
    )

    def __post_init__(self) -> None:
        from edgepact.market.protocol.messages import check_name  # it takes NumPy along

        check(self)
        check_name(self.SOURCE, self.name)
        for address in self.addresses:
            if "@" in address:
                # It is not shown: what stands before the @ may be a password.
                expected = "a URL without a user's name and password: the token says who it is"
                raise InputError(self.SOURCE, "server_url", expected, "one with an @")
            if not _is_http_url(address):
                expected = "a URL such as http://127.0.0.1:8080"
                raise InputError(self.SOURCE, "server_url", expected, address)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of the server, the first to try first."""
        return tuple(each.strip().rstrip("/") for each in self.server_url.split(","))


def _is_http_url(text: str) -> bool:
    import httpx

    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)
