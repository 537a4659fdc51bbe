"""The main job's pact without its processes: what is drawn, solved and posted."""

from pathlib import Path

import numpy as np
import pytest

import edgepact
from edgepact.credits import MICRO
from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.pacts.partition_stackelberg import PACT
from edgepact.work import Model
from tests.pacts.bought import EXAMPLES, read

DRAWN = (
    "mechanism = 'stackelberg'\n[efficiency]\nmethod = 'partition'\n[solver]\nname = '{}'\n"
    "[job]\nname = 'classification'\ndevices = 4\nseed = {}\n"
)


def test_a_market_that_is_drawn_is_solved_without_measuring(tmp_path: Path) -> None:
    file = tmp_path / "drawn.toml"
    file.write_text(DRAWN.format("gdm", 4))
    best = edgepact.solve(file)
    assert best.broken == ()
    assert len(best.to_dict()["layers"]) == 4
    again = read(tmp_path, PACT, DRAWN.format("gdm", 4))
    assert PACT.optimum(again, None).to_dict() == best.to_dict()
    other = read(tmp_path, PACT, DRAWN.format("gdm", 5))
    assert PACT.optimum(other, None).to_dict() != best.to_dict()


@pytest.mark.parametrize("solver", ["golden-section", "optimum"])
def test_prices_are_posted_by_any_solver(tmp_path: Path, solver: str) -> None:
    terms = read(tmp_path, PACT, DRAWN.format(solver, 1))
    decision = PACT.decide(terms, None)
    question = decision.engagement(Model(name="m", amount_max=12), 0).question(1)
    assert len(question.menu) == 12
    game = decision.market.game
    price = float(question.price_microcredits or 0) / MICRO
    assert game.price_min <= price <= game.price_max
    if solver == "optimum":
        assert price == pytest.approx(float(equilibrium(game).price), abs=1.0 / MICRO)
        assert list(decision.asked) == ["price"]
    else:
        assert decision.asked["solver"] == solver
    with pytest.raises(InputError, match=r"server.layers_max: expected 6, the layers of half"):
        decision.engagement(Model(name="half", amount_max=6), 0)


def test_a_listed_market_is_the_files() -> None:
    terms = read_scenario(EXAMPLES / "scenario-partition.toml").terms
    assert terms.devices == 0
    assert np.asarray(terms.market.game.fleet.alpha).tolist() == [1.5, 3.0, 5.0]


def test_settings_of_the_main_job_are_the_scenarios(tmp_path: Path) -> None:
    from edgepact.live.run import terms_of
    from edgepact.live.run_config import RunConfig

    terms = read(tmp_path, PACT, DRAWN.format("grid", 7))
    told = terms_of(RunConfig(devices=4, seed=7, solver="grid", rounds=terms.rounds))
    assert PACT.optimum(told, None).to_dict() == PACT.optimum(terms, None).to_dict()
