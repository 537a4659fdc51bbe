"""The run config of a deployment: every setting reaches the training, or is refused."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgepact.errors import InputError
from edgepact.training.federated.composition import engagement_of
from edgepact.training.federated.config import TrainConfig
from edgepact.training.federated.posted import ByPrice
from edgepact.training.federated.run_config import NAMES, read_run_config, read_shared
from edgepact.training.federated.selecting import BySelector
from edgepact.training.federated.task_config import TaskConfig

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
APP = tomllib.loads((EXAMPLES / "federated_app" / "pyproject.toml").read_text())
STATED: dict[str, Any] = APP["tool"]["flwr"]["app"]["config"]


def test_the_example_states_every_setting_since_flower_overrides_no_other() -> None:
    assert set(STATED) == set(NAMES)
    config, usual = read_run_config(STATED), TrainConfig()
    assert (config.clients, config.rounds, config.rate) == (2, 3, 0.1)
    for name in ("mechanism", "contract", "priced", "solver", "worth", "per_round", "budget",
                 "selector", "pay", "deadline_s", "task"):  # fmt: skip
        assert getattr(config, name) == getattr(usual, name)


def test_nothing_that_is_said_is_ignored() -> None:
    config = read_run_config(
        STATED
        | {
            "mechanism": "stackelberg",
            "worth": 2.0,
            "solver": "grid",
            "deadline": 12.5,
            "learning-rate": 0.01,
            "dirichlet": float("inf"),
        }
    )
    assert (config.worth, config.solver, config.deadline_s) == (2.0, "grid", 12.5)
    assert config.task.learning_rate == 0.01
    assert isinstance(engagement_of(config), ByPrice)
    unpaid = {"selector": "fedcs", "per-round": 1, "deadline": 3.0, "pay": 1.5}
    chosen = engagement_of(read_run_config(STATED | unpaid))
    assert isinstance(chosen, BySelector)
    assert chosen.pay_microcredits == 1_500_000
    work = {
        "mechanism": "contract",
        "priced": "epochs",
        "contract": str(EXAMPLES / "scenario-local-work.toml"),
        "budget": 3.0,
    }
    priced = read_run_config(STATED | work)
    assert priced.contract is not None
    assert (priced.contract.contract.quality_max, priced.budget) == (4.0, 3.0)
    assert priced.variable.whole


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"seletor": "oort"}, "seletor: expected selector"),
        ({"workers": 3}, "workers: expected one of clients"),
        ({"solver": "gdm"}, "solver: expected none: mechanism none"),
        ({"selector": "oort"}, "per-round: expected how many"),
        ({"selector": "fedcs", "per-round": 1}, "deadline: expected seconds"),
        ({"worth": 2.0}, "worth, contract: expected with mechanism stackelberg"),
        ({"rounds": "many"}, "rounds: expected a whole number"),
        ({"steps": 0}, "steps: expected a whole number from 1 to"),
        ({"priced": "hours"}, "priced: expected one of rate, epochs"),
        ({"contract": "none.toml"}, "none.toml: expected a TOML file"),
    ],
)
def test_what_cannot_be_is_refused_in_its_own_words(said: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_run_config(STATED | said)


def test_a_client_reads_no_file_of_the_servers() -> None:
    shared = read_shared(STATED | {"contract": "only-on-the-server.toml", "seed": 3})
    assert (shared.clients, shared.task) == (2, TaskConfig(seed=3))
