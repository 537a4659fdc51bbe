"""What scenario files state of a training: everything reaches it, and errors name the file."""

import math
from pathlib import Path

import pytest

from edgepact.errors import InputError
from edgepact.fields import load
from edgepact.framework import Pact
from edgepact.pacts import (
    compression_auction,
    compression_contract,
    compression_stackelberg,
    selection_auction,
    selection_contract,
    selection_stackelberg,
)
from edgepact.pacts.training_terms import TrainingTerms
from edgepact.training.federated.config import TrainConfig, stated_in

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PACTS: tuple[Pact, ...] = (
    compression_auction.PACT,
    compression_contract.PACT,
    compression_stackelberg.PACT,
    selection_auction.PACT,
    selection_contract.PACT,
    selection_stackelberg.PACT,
)
TYPES = (
    "quality_max = 0.5\nvalue = { form = 'log1p', scale = 1.0 }\ncost = { form = 'linear' }\n"
    "{rest}\n[[type]]\ncost = 2.0\nprobability = 1.0\n"
)
TOP = {
    "compression-auction-training": "rule = 'second_score'\nterms = 'types.toml'",
    "compression-contract-training": TYPES.partition("{rest}")[0],
    "compression-stackelberg-training": "terms = 'types.toml'",
    "selection-auction-training": "rule = 'proportional_share'\nbudget = 5.0",
    "selection-contract-training": TYPES.partition("{rest}")[0].replace("0.5", "3"),
    "selection-stackelberg-training": "worth = 2.0",
}


def stated(
    pact: Pact,
    *,
    top: str | None = None,
    efficiency: str = "",
    solver: str = "",
    job: str = "",
) -> str:
    types = "[[type]]\ncost = 2.0\nprobability = 1.0\n" if pact.mechanism == "contract" else ""
    return (
        f"mechanism = '{pact.mechanism}'\n{TOP[pact.name] if top is None else top}\n"
        f"[efficiency]\nmethod = '{pact.method}'\n{efficiency}\n[solver]\n{solver}\n"
        f"[job]\nname = 'training'\n{job}\n{types}"
    )


def read(folder: Path, pact: Pact, text: str, *, smoke: bool = False) -> TrainingTerms:
    (folder / "types.toml").write_text("mechanism = 'contract'\n" + TYPES.replace("{rest}", ""))
    file = folder / "own.toml"
    file.write_text(text)
    terms = pact.read(file, load(file), smoke=smoke)
    assert isinstance(terms, TrainingTerms)
    return terms


@pytest.mark.parametrize("pact", PACTS, ids=lambda pact: pact.name)
def test_what_is_not_said_has_defaults(tmp_path: Path, pact: Pact) -> None:
    terms = read(tmp_path, pact, stated(pact))
    assert isinstance(pact, Pact)
    assert terms.solver == pact.solvers[0]
    config, usual = terms.config, TrainConfig()
    assert config.mechanism == pact.mechanism
    for name in ("clients", "rounds", "dirichlet", "aggregate", "costs", "per_round", "task"):
        assert getattr(config, name) == getattr(usual, name)


@pytest.mark.parametrize("pact", PACTS, ids=lambda pact: pact.name)
def test_what_is_said_reaches_the_training(tmp_path: Path, pact: Pact) -> None:
    job = (
        "clients = 7\nrounds = 3\ndirichlet = inf\nlayers = 2\ndata = 'samples'\nseed = 9\n"
        "aggregate = 'fedadam'\ncost_min = 0.25\ncost_max = 0.75\ndeadline_s = 12.5"
    )
    efficiency = "compress = 'update'" if pact.compress else "rate = 0.125"
    if pact.mechanism != "stackelberg":
        efficiency += "\nper_round = 4"
    terms = read(tmp_path, pact, stated(pact, efficiency=efficiency, job=job))
    config = terms.config
    assert (config.clients, config.rounds, config.dirichlet) == (7, 3, math.inf)
    assert (config.task.layers, config.task.data, config.task.seed) == (2, "samples", 9)
    assert (config.aggregate, config.costs, config.deadline_s) == ("fedadam", (0.25, 0.75), 12.5)
    assert config.rate == (1.0 if pact.compress else 0.125)
    assert config.per_round == (None if pact.mechanism == "stackelberg" else 4)
    assert config.priced == ("epochs" if pact.name == "selection-contract-training" else "rate")
    small = read(tmp_path, pact, stated(pact, job=job), smoke=True).config
    assert (small.clients, small.rounds) == (4, 2)


AUCTION, PRICE = selection_auction.PACT, selection_stackelberg.PACT


@pytest.mark.parametrize(
    ("pact", "parts", "told"),
    [
        (AUCTION, {"efficiency": "selector = 'best'"}, "efficiency.selector: expected one of auc"),
        (
            AUCTION,
            {"efficiency": "rate = 1.5"},
            "efficiency.rate: expected a number above 0, at most 1",
        ),
        (AUCTION, {"efficiency": "per_round = 21"}, "efficiency.per_round: expected 1 to 20"),
        (AUCTION, {"efficiency": "speed = 1"}, "efficiency.speed: expected one of method"),
        (AUCTION, {"efficiency": "selector = 'oort'"}, "efficiency.per_round: expected how many"),
        (
            AUCTION,
            {"efficiency": "selector = 'fedcs'\nper_round = 2"},
            "job.deadline_s: expected seconds",
        ),
        (AUCTION, {"job": "cost_min = 5.0"}, "job.cost_min, job.cost_max: expected 0"),
        (AUCTION, {"job": "clients = 0"}, "job.clients"),
        (AUCTION, {"job": "clients = 2.5"}, "job.clients"),
        (AUCTION, {"job": "dirichlet = 0"}, "job.dirichlet"),
        (AUCTION, {"job": "images = 3"}, "job.images: expected one of name, clients"),
        (
            AUCTION,
            {"top": "rule = 'proportional_share'\nbudget = 0"},
            "budget: expected a finite number above 0",
        ),
        (
            AUCTION,
            {"top": "rule = 'vcg'\nbudget = 5.0"},
            "rule: expected one of proportional_share",
        ),
        (
            AUCTION,
            {"top": f"{TOP[AUCTION.name]}\nwinners_max = 3"},
            "winners_max: expected one of mechanism, rule, budget",
        ),
        (
            PRICE,
            {"efficiency": "selector = 'oort'"},
            "efficiency.selector, efficiency.per_round: .* who takes part is what the price",
        ),
        (
            compression_auction.PACT,
            {"top": "rule = 'second_score'\nterms = 'none.toml'"},
            "terms: expected a file that exists",
        ),
        (
            compression_contract.PACT,
            {"top": TOP["selection-contract-training"]},
            "quality_max: expected a compression rate, at most 1",
        ),
        (
            selection_contract.PACT,
            {"top": TOP["selection-contract-training"].replace("= 3", "= 300")},
            "quality_max: expected epochs, at most 100",
        ),
    ],
)
def test_errors_name_the_file_and_its_fields(
    tmp_path: Path, pact: Pact, parts: dict[str, str], told: str
) -> None:
    with pytest.raises(InputError, match=rf"own\.toml: {told}"):
        read(tmp_path, pact, stated(pact, **parts))


def test_a_setting_is_named_as_its_place_spells_it() -> None:
    for spelt, otherwise, told in (
        ({}, "--{}", "here: --per-round: expected how many"),
        ({"per_round": "efficiency.per_round"}, "{}", r"here: efficiency\.per_round: expected how"),
    ):
        with pytest.raises(InputError, match=told), stated_in("here", spelt, otherwise):
            TrainConfig(selector="oort")
    with pytest.raises(InputError, match="elsewhere: rate"), stated_in("here", {}):
        raise InputError("elsewhere", "rate", "a rate", "none")


def test_a_price_that_selects_wants_a_worth() -> None:
    with pytest.raises(InputError, match=r"worth, contract: .* found neither"):
        TrainConfig(mechanism="stackelberg")
    with pytest.raises(InputError, match=r"worth, contract: .* found 2\.0"):
        TrainConfig(mechanism="none", worth=2.0)
    with pytest.raises(InputError, match=r"solver: expected one of gdm, .*, found \"optimum\""):
        TrainConfig(mechanism="stackelberg", worth=2.0, solver="optimum")
    with pytest.raises(InputError, match=r"solver: expected one of exact, gdm"):
        TrainConfig(mechanism="auction", budget=2.0, solver="grid")
    with pytest.raises(InputError, match=r"worth, contract: .*auction and solver gdm.* neither"):
        TrainConfig(mechanism="auction", budget=2.0, solver="gdm")
    with pytest.raises(InputError, match=r"solver: expected exact beside a selector"):
        TrainConfig(
            mechanism="auction",
            budget=2.0,
            worth=1.0,
            solver="gdm",
            selector="oort",
            per_round=2,
        )


def test_images_that_are_not_there_are_told_by_the_file_with_what_can_be_had(
    tmp_path: Path,
) -> None:
    pact = selection_auction.PACT
    text = stated(pact, job="data = 'nowhere'")
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    terms = pact.read(file, load(file), smoke=False)
    with pytest.raises(InputError, match=r'scenario\.toml: job\.data: expected "samples"'):
        pact.optimum(terms, None)
