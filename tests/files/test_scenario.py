"""Whole scenarios: what is read, what fits together, and why the rest does not."""

import math
from pathlib import Path

import pytest

from edgepact.errors import InputError
from edgepact.files.contract import read_contract
from edgepact.files.market import read_market
from edgepact.files.scenario import (
    FITS,
    JOBS,
    METHODS,
    MISFITS,
    Inference,
    Scenario,
    Training,
    read_scenario,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TERMS = {
    "stackelberg": "worth = 2.0",
    "auction": "rule = 'proportional_share'\nbudget = 5.0",
    "contract": "quality_max = 0.5",
}


def read(folder: Path, text: str) -> Scenario:
    file = folder / "scenario.toml"
    file.write_text(text)
    return read_scenario(file)


def selection(*, top: str = "", efficiency: str = "", solver: str = "", job: str = "") -> str:
    return (
        f"mechanism = 'auction'\n{TERMS['auction']}\n{top}\n[efficiency]\nmethod = 'selection'\n"
        f"{efficiency}\n[solver]\n{solver}\n[job]\nname = 'training'\n{job}\n"
    )


def test_the_examples_cover_all_three_methods_and_mechanisms() -> None:
    read_all = [read_scenario(path) for path in sorted(EXAMPLES.glob("scenario-*.toml"))]
    assert {(each.method, each.mechanism, type(each.job)) for each in read_all} == {
        ("partition", "stackelberg", Inference),
        ("compression", "contract", Training),
        ("selection", "auction", Training),
        ("selection", "stackelberg", Training),
    }


def test_the_terms_are_those_of_a_file_to_solve() -> None:
    market = read_market(EXAMPLES / "scenario-partition.toml")
    assert market.names == read_market(EXAMPLES / "live.toml").names
    assert (market.game.fleet.alpha == [1.5, 3.0, 5.0]).all()
    contract = read_contract(EXAMPLES / "scenario-compression.toml")
    assert list(contract.psi) == [12.0, 6.0, 2.0]


def test_what_is_not_said_has_defaults(tmp_path: Path) -> None:
    scenario = read(tmp_path, selection())
    assert scenario.solver == "exact"
    assert scenario.budget == 5.0
    assert isinstance(scenario.job, Training)
    assert (scenario.job.clients, scenario.job.rate, scenario.job.selector) == (20, 1.0, None)
    even = read(tmp_path, selection(job="dirichlet = inf"))
    assert isinstance(even.job, Training)
    assert even.job.dirichlet == math.inf
    text = "mechanism = 'stackelberg'\n[efficiency]\nmethod = 'partition'\n[solver]\n[job]\n"
    drawn = read(tmp_path, text + "name = 'inference'\ndevices = 3\n")
    assert drawn.solver == "gdm"
    assert drawn.terms is None
    assert isinstance(drawn.job, Inference)
    assert drawn.job.devices == 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mechanism", list(TERMS))
@pytest.mark.parametrize("job", JOBS)
def test_whatever_does_not_fit_is_told_why(
    tmp_path: Path, method: str, mechanism: str, job: str
) -> None:
    text = (
        f"mechanism = '{mechanism}'\n{TERMS[mechanism]}\n[efficiency]\nmethod = '{method}'\n"
        f"[solver]\n[job]\nname = '{job}'\n"
    )
    fit = FITS.get((method, mechanism))
    assert (fit is None) == ((method, mechanism) in MISFITS)
    if fit is None:
        with pytest.raises(InputError, match=r"mechanism: expected a mechanism for") as refused:
            read(tmp_path, text)
        assert MISFITS[method, mechanism] in str(refused.value)
    elif job != fit.job:
        with pytest.raises(InputError, match=f"job.name: expected {fit.job}, found {job}: "):
            read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            selection(solver="name = 'gdm'"),
            "solver.name: expected one of exact, found gdm: the rule's",
        ),
        (selection(solver="name = 'magic'"), "solver.name: expected one of gdm, "),
        (selection(efficiency="selector = 'best'"), "efficiency.selector: expected one of auction"),
        (selection(efficiency="rate = 1.5"), "efficiency.rate: expected at most 1"),
        (selection(efficiency="per_round = 21"), "efficiency.per_round: .* from 1 to 20"),
        (selection(efficiency="speed = 1"), "efficiency.speed: expected one of method"),
        (selection(job="clients = 0"), "job.clients"),
        (selection(job="clients = 2.5"), "job.clients"),
        (selection(job="dirichlet = 0"), "job.dirichlet"),
        (selection(job="images = 3"), "job.images: expected one of name, clients"),
        (selection(top="winners_max = 3"), "winners_max: expected one of mechanism, rule, budget"),
        (selection().replace("5.0", "0"), "budget: expected a finite number above 0"),
        (selection().replace("proportional_share", "vcg"), "rule: expected one of prop"),
        (selection().replace("[solver]", ""), "solver: expected a table"),
        ("mechanism = 'auction'\n", "--fleet"),
        ("mechanism = 'lottery'\n", "mechanism: expected one of stackelberg"),
        (
            "efficiency = 1\nsolver = 1\njob = 1\nmechanism = 'auction'",
            "efficiency: expected a tab",
        ),
        ("[", "expected TOML"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read(tmp_path, text)


def test_a_price_selects_by_itself(tmp_path: Path) -> None:
    text = selection(efficiency="selector = 'oort'").replace("'auction'", "'stackelberg'")
    text = text.replace(TERMS["auction"], TERMS["stackelberg"])
    with pytest.raises(InputError, match="who takes part is what the price decides"):
        read(tmp_path, text)


def test_terms_of_another_file_must_be_there(tmp_path: Path) -> None:
    text = selection().replace("'selection'", "'compression'")
    text = text.replace("proportional_share'\nbudget = 5.0", "second_score'\nterms = 'none.toml'")
    with pytest.raises(InputError, match=r"terms: expected a file that exists"):
        read(tmp_path, text)
    (tmp_path / "none.toml").write_text("")
    assert read(tmp_path, text).terms == tmp_path / "none.toml"
