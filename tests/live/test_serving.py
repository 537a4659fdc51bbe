"""What a market is served by, as its settings and its scenario say together."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.framework import Run
from edgepact.inference.models import embedded
from edgepact.live.serving import asked
from edgepact.market.processes import LiveMarket
from edgepact.market.quoted_price import QuotedPrice
from edgepact.market.serve_config import ServeOptions
from edgepact.pacts import partition_stackelberg
from edgepact.pacts.partition_live import play
from edgepact.pacts.partition_terms import PrivateDevices
from edgepact.settings import arguments
from edgepact.work import Model
from tests.pacts.bought import EXAMPLES

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
