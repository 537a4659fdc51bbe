"""Settings of the job: told to devices by the server, and none taken beyond the limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edgepact.errors import InputError, MarketError
from edgepact.fields import check_whole
from edgepact.jobs.picture.job import PICTURE
from edgepact.market.device import DeviceSummary, run_device
from edgepact.market.device_config import DeviceConfig
from edgepact.market.posted import FixedPrice
from edgepact.market.protocol.messages import SETTINGS_MAX, read_settings
from edgepact.market.server import MarketServer
from edgepact.work import Job, Json
from tests.market.echo import Echo, EchoDevice
from tests.market.harness import DEVICE, served
from tests.tiny_generator import write_tiny

NUMBERS = {"loud": 3, "words": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(Echo):
    """An echo with settings, of which one has to be alike."""

    agreed: frozenset[str] = frozenset({"loud"})
    made: list[Mapping[str, Json]] = field(default_factory=list)

    def told(self, settings: Mapping[str, Json]) -> Mapping[str, Json]:
        both = {"loud": 0, "words": 1} | dict(settings)
        return {name: check_whole("job", name, both[name], least=0, most=9) for name in both}

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> EchoDevice:
        self.made.append(self.told(settings))
        return EchoDevice(self)


def take_part(server: MarketServer, folder: Path, job: Job, **settings: Any) -> DeviceSummary:
    """A device of the market, in this thread."""
    options: dict[str, Any] = {
        "server_url": server.url,
        "enrol_token": "once-0",
        "results": folder / "results.jsonl",
        "away_timeout_s": 20.0,
        **DEVICE,
    }
    return run_device(DeviceConfig(**(options | settings)), job=job)


def market(folder: Path, job: Job, **settings: Any) -> Any:
    """A market of a round."""
    options: dict[str, Any] = {"rounds": 1, "units_per_round": 3, "job_settings": NUMBERS}
    mechanism = FixedPrice(price=1.0, steps_max=4)
    return served(folder, job=job, mechanism=mechanism, **(options | settings))


@pytest.mark.parametrize(
    ("stated", "then"),
    [
        ({}, [{"loud": 0, "words": 1}, NUMBERS]),
        (NUMBERS, [NUMBERS]),
        ({"words": 7}, [{"loud": 0, "words": 7}, {"loud": 3, "words": 7}]),
    ],
    ids=["stated-nothing", "stated-the-same", "stated-its-own"],
)
def test_a_device_has_the_servers_settings_below_its_own(
    tmp_path: Path, stated: dict[str, int], then: list[dict[str, int]]
) -> None:
    job = Told()
    with market(tmp_path, job) as server:
        done = take_part(server, tmp_path, job, job_settings=stated)
    assert job.made == then
    assert (done.rounds, done.units) == (1, 3)


def test_what_has_to_be_alike_and_is_not_is_told_with_what_to_give(tmp_path: Path) -> None:
    job = Told()
    with market(tmp_path, job) as server:
        with pytest.raises(MarketError, match="loud 3, device-1 with 4, and both") as caught:
            take_part(server, tmp_path, job, job_settings={"loud": 4})
        assert "--job-settings '{\"loud\": 3}'" in str(caught.value)


def test_settings_beyond_the_jobs_limits_are_not_taken(tmp_path: Path) -> None:
    """A server can tell anything."""
    job = Told()
    with market(tmp_path, job) as server:
        rules = server.market.rules
        for hostile in ({"loud": 10}, {"loud": 0, "words": "many"}):
            server.market.rules = replace(rules, job_settings=hostile)
            with pytest.raises(MarketError, match="the server's settings cannot be used here"):
                take_part(server, tmp_path, job, token_file=tmp_path / "token")
    assert job.made == [{"loud": 0, "words": 1}] * 2


@pytest.mark.parametrize(
    "hostile",
    [
        [],
        "loud",
        {"loud": None},
        {"loud": {}},
        {"loud": [1] * 9},
        {"loud": 10**400},
        {"loud": "x" * 2000},
        {"x" * 65: 1},
        {f"n{at}": 1 for at in range(SETTINGS_MAX + 1)},
    ],
)
def test_what_are_no_settings_is_an_input_error(hostile: object) -> None:
    with pytest.raises(InputError, match="job_settings"):
        read_settings("offer", hostile)


def test_a_server_does_not_start_with_settings_that_cannot_be(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="job: loud: expected a whole number"),
        market(tmp_path, Told(), job_settings={"loud": 99}),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_picture_is_drawn_as_the_server_draws_it(tmp_path: Path) -> None:
    """Of other steps than the generator's own, by a device that was told none."""
    model = write_tiny(tmp_path / "generator", steps=8)
    settings = {"model": model, "job_settings": {"steps": 5, "guidance": 1.25, "shared": 2}}
    mechanism = FixedPrice(price=1.0, steps_max=5)
    with served(tmp_path, job=PICTURE, mechanism=mechanism, rounds=1, **settings) as server:
        done = take_part(server, tmp_path, PICTURE, model=model, capacity=3.0)
    assert (done.rounds, done.units) == (1, 16)
