"""What a market is served by, as its settings and its scenario say together."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.framework import Run
from edgepact.inference.gguf import known
from edgepact.inference.models import embedded
from edgepact.live.serving import asked, serve_market
from edgepact.market.processes import LiveMarket
from edgepact.market.quoted_price import QuotedPrice
from edgepact.market.serve_config import ServeOptions
from edgepact.pacts import partition_stackelberg
from edgepact.pacts.partition_live import play
from edgepact.pacts.partition_terms import PrivateDevices
from edgepact.settings import arguments
from edgepact.work import Model
from tests.pacts.bought import EXAMPLES
from tests.tiny_generator import write_tiny
from tests.tiny_llama import write_tiny_llama

MODEL = Model(name="m", amount_max=12)

SCENARIOS = [
    "scenario-partition.toml",
    "scenario-layer-menu.toml",
    "scenario-supply-curves.toml",
    "scenario-block.toml",
]


def with_model(folder: Path, example: str, model: object) -> Path:
    """An example that states a model."""
    text = (EXAMPLES / example).read_text()
    said = text.replace("[efficiency]\n", f"[efficiency]\nmodel = '{model}'\n")
    assert said != text
    file = folder / example
    file.write_text(said)
    return file


@pytest.mark.parametrize("example", SCENARIOS)
def test_a_scenario_says_which_job_and_model_are_served(tmp_path: Path, example: str) -> None:
    plain = EXAMPLES / example
    options, _ = asked(ServeOptions(scenario=plain))
    assert (options.job, options.model) == ("classification", None)
    options, _ = asked(ServeOptions(scenario=plain, model=embedded()))
    assert options.model == embedded()
    own = with_model(tmp_path, example, embedded())
    options, _ = asked(ServeOptions(scenario=own))
    assert options.model == embedded()
    with pytest.raises(InputError, match="serve: model: expected none beside a scenario with a"):
        asked(ServeOptions(scenario=own, model=tmp_path))
    with pytest.raises(InputError, match=r"efficiency.model: expected a model directory, found "):
        asked(ServeOptions(scenario=with_model(tmp_path, example, "none-there")))


def test_a_scenario_says_how_much_a_round_has(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    text = (EXAMPLES / SCENARIOS[0]).read_text()
    file.write_text(
        re.sub(r"(?m)^images = .*\n", "", text).replace("[job]\n", "[job]\nimages = 7\n")
    )
    assert asked(ServeOptions(scenario=file))[0].units == 7
    assert asked(ServeOptions(scenario=file, units_per_round=3))[0].units == 3
    assert asked(ServeOptions(price=1.0))[0].units == 16


@pytest.mark.parametrize("job", ["classification", "training"])
def test_a_job_beside_a_scenario_is_refused(job: str) -> None:
    with pytest.raises(InputError, match="serve: job: expected none beside a scenario"):
        asked(ServeOptions(scenario=EXAMPLES / SCENARIOS[0], job=job))


def test_a_seed_of_quotes_wants_quotes() -> None:
    with pytest.raises(InputError, match="serve: quote_seed: expected what is quoted"):
        asked(ServeOptions(price=1.0, quote_seed=1))


@pytest.mark.parametrize("seeds", [{"seed": 3}, {"quote_seed": 3}, {"seed": 9, "quote_seed": 3}])
def test_quotes_are_repeatable_by_either_seed(seeds: dict[str, int]) -> None:
    _, mechanism = asked(ServeOptions(saving=1.0, solver="random", devices_min=2, **seeds))
    again = asked(ServeOptions(saving=1.0, solver="random", devices_min=2, seed=3))[1]
    prices = []
    for each in (mechanism, again):
        assert not isinstance(each, QuotedPrice)
        assert callable(each)
        prices.append(each(MODEL).question(1).price_microcredits)
    assert prices[0] == prices[1]


OPERATOR = "operator-of-these-tests-and-of-nothing-else"

TINY = """mechanism = "stackelberg"
[efficiency]
method = "partition"
model = "{model}"
[solver]
[job]
devices = 2
"""


def served(folder: Path, job: str, model: Path) -> tuple[ServeOptions, dict[str, Any]]:
    """A server process of a scenario, and what it tells of its model."""
    file = folder / "scenario.toml"
    file.write_text(TINY.format(model=model) + job)
    url = f"sqlite:///{folder / 'ledger.db'}"
    options = ServeOptions(scenario=file, port=0, ledger_url=url, operator_token=OPERATOR)
    with LiveMarket(folder) as live:
        live.start_server(options)
        seen = httpx.get(
            f"{live.url}/market/status", headers={"Authorization": f"Bearer {OPERATOR}"}
        )
        found: dict[str, Any] = seen.raise_for_status().json()
    return asked(options)[0], found


@pytest.mark.slow
def test_a_server_does_pictures_as_its_scenario_states(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "generator", steps=8)
    job = 'name = "picture"\nsteps = 5\nguidance = 1.25\nshared = 2\n'
    options, told = served(tmp_path, job, model)
    assert options.job_settings == {"steps": 5, "guidance": 1.25, "shared": 2}
    assert told["about"]["steps"] == 5
    assert told["about"]["guidance"] == 1.25
    assert told["about"]["shared"] == 2


@pytest.mark.slow
def test_a_server_writes_texts_as_its_scenario_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model file is cut by whoever comes first, here this process, and its folder is served."""
    monkeypatch.setenv(known.VARIABLE, str(tmp_path / "stages"))
    model = write_tiny_llama(tmp_path / "tiny.gguf", blocks=3)
    options, told = served(tmp_path, 'name = "text"\ntokens_max = 7\n', model)
    assert options.job_settings["tokens_max"] == 7
    assert options.model is not None
    assert options.model.is_dir()
    assert told["about"]["tokens_max"] == 7


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"demand": Path("none.json")}, "none.json: expected a file of UTF-8 text"),
        ({"key": Path("none/key")}, "serve: key: expected a file in a folder that exists"),
        ({"key": Path(__file__)}, "expected a key of 32 bytes"),
        ({"model": Path("none")}, "none"),
        ({"tls": Path(__file__)}, "test_serving.py"),
    ],
)
def test_a_wrong_argument_leaves_no_ledger(
    tmp_path: Path, wrong: dict[str, Any], says: str
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with pytest.raises(InputError, match=re.escape(says)):
        serve_market(ServeOptions(price=1.0, port=0, ledger_url=url, **wrong))
    assert not list(tmp_path.iterdir())


class Started(Exception):
    """A server would be started now."""


@pytest.mark.parametrize("solver", ["gdm", "optimum", None])
def test_audits_of_a_run_cannot_be_told_from_its_seed(
    tmp_path: Path, solver: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices are told the seed of the run, since it orders their images."""
    told: list[ServeOptions] = []

    def start_server(market: LiveMarket, options: ServeOptions) -> None:
        told.append(options)
        raise Started

    monkeypatch.setattr(LiveMarket, "start_server", start_server)
    if solver is None:
        terms = read_scenario(EXAMPLES / "scenario-supply-curves.toml").terms
        devices, said = terms.private, {"scenario": EXAMPLES / "scenario-supply-curves.toml"}
    else:
        terms = read_scenario(EXAMPLES / "scenario-partition.toml").terms
        said = partition_stackelberg.PACT.decide(replace(terms, solver=solver, seed=71234), None)
        said, game = said.asked, terms.market.game
        devices = PrivateDevices(
            names=terms.market.names, fleet=game.fleet, satisfaction=game.satisfaction.name
        )
    with pytest.raises(Started):
        play(replace(terms, seed=71234), devices, said, Run(out=tmp_path))
    (options,) = told
    assert options.seed is None  # so that the ledger's secret picks what is audited
    words = arguments(options)
    flags = [flag for flag, value in pairwise(words) if value == "71234"]
    assert flags == (["--quote-seed"] if solver == "gdm" else [])
