"""One device: one settings object for flags, files and subprocesses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from edgepact.errors import InputError, shown
from edgepact.market.protocol.messages import check_name
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.registry import installed
from edgepact.settings import SECRET, setting

DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """One device: what it works on, and what only it knows.

    Raises:
        InputError: a value that cannot be.
    """

    server_url: str = setting(
        "The server, such as http://127.0.0.1:8080.", flag="--server", required=True
    )
    alpha: float = setting("Weight of satisfaction, credits.", required=True)
    capacity: float = setting("W, GMAC per unit of work.", required=True)
    A: float = setting("A, GMAC per layer.", required=True)
    B: float = setting("B, GMAC before the first layer.", required=True)
    name: str = setting("Letters, digits, '.', '_', '-'.", default="device-1")
    satisfaction: str = setting("log1p, log, sqrt or exp.", default="log1p")
    job: str = setting("Name of the job, see `edgepact list jobs`.", default="classification")
    model: Path | None = setting("A model directory [default: the job's own]")
    inputs: Path | None = setting(
        "What to work on, such as a folder of images [default: the job's samples]", flag="--images"
    )
    job_settings: Mapping[str, Any] = setting("Settings of the job, as JSON.", default={})
    results: Path | None = setting("A line of JSON a piece of work [default: NAME.jsonl]")
    enrol_token: str | None = setting(
        "One-time token to enrol with; not needed if the token file holds a token.",
        env="EDGEPACT_ENROL_TOKEN",
        kind=SECRET,
    )
    token_file: Path | None = setting("Where the device keeps its own token over restarts.")
    codec: str | None = setting("How activations are sent [default: the job's favourite]")
    layers_max: int | None = setting("Most layers to ever run [default: the model's]")
    seed: int = setting("Of the order of the inputs.", default=0)
    away_timeout_s: float = setting(
        "How long to wait for a server that is away, seconds.", default=30.0
    )

    def __post_init__(self) -> None:
        check_name("device", self.name)
        codecs = tuple(installed("codecs"))
        for field, fits, expected in (
            ("server_url", _is_http_url(self.server_url), "a URL such as http://127.0.0.1:8080"),
            ("alpha", 0 < self.alpha < math.inf, "a number above 0"),
            ("capacity", 0 <= self.capacity < math.inf, "a number from 0"),
            ("A", 0 < self.A < math.inf, "a number above 0"),
            ("B", 0 <= self.B < math.inf, "a number from 0"),
            ("satisfaction", self.satisfaction in FAMILIES, f"one of {', '.join(FAMILIES)}"),
            ("layers_max", self.layers_max is None or self.layers_max >= 0, "0 or more"),
            ("codec", self.codec in (None, *codecs), f"one of {', '.join(codecs)}"),
            (
                "away_timeout_s",
                0 < self.away_timeout_s <= DAY_S,
                f"above 0, at most {DAY_S:g} seconds",
            ),
        ):
            if not fits:
                raise InputError("device", field, expected, shown(getattr(self, field)))


def _is_http_url(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)
