"""Whole scenarios: which pact a file names, and what is told of files that name none."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from edgepact import registry
from edgepact.errors import InputError
from edgepact.files import scenario as scenarios
from edgepact.files.contract import read_contract
from edgepact.files.scenario import Scenario, read_scenario
from edgepact.files.stackelberg import read_game

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


def test_every_pact_with_an_example_is_found_and_reads_it() -> None:
    found = {path.name: read_scenario(path) for path in sorted(EXAMPLES.glob("scenario-*.toml"))}
    assert {
        "scenario-best-of.toml": "partition-stackelberg-picture",
        "scenario-block.toml": "partition-auction-classification",
        "scenario-compressed.toml": "compression-stackelberg-classification",
        "scenario-compression.toml": "compression-contract-training",
        "scenario-generation-auction.toml": "selection-auction-text",
        "scenario-layer-menu.toml": "partition-contract-classification",
        "scenario-local-work.toml": "selection-contract-training",
        "scenario-partition.toml": "partition-stackelberg-classification",
        "scenario-photo.toml": "partition-stackelberg-photo",
        "scenario-picture.toml": "partition-stackelberg-picture",
        "scenario-price.toml": "selection-stackelberg-training",
        "scenario-selection.toml": "selection-auction-training",
        "scenario-speech.toml": "partition-stackelberg-speech",
        "scenario-supply-curves.toml": "partition-auction-classification",
        "scenario-text.toml": "partition-stackelberg-text",
    }.items() <= {name: each.pact.name for name, each in found.items()}.items()
    for each in found.values():
        assert each.solver in each.pact.solvers


def test_the_terms_are_those_of_a_file_to_solve() -> None:
    market = read_game(EXAMPLES / "scenario-partition.toml")
    assert market.names == read_game(EXAMPLES / "live.toml").names
    assert (market.game.fleet.alpha == [1.5, 3.0, 5.0]).all()
    contract = read_contract(EXAMPLES / "scenario-compression.toml")
    assert list(contract.psi) == [12.0, 6.0, 2.0]


def test_an_older_name_of_a_job_is_another_spelling(tmp_path: Path) -> None:
    text = "mechanism = 'stackelberg'\n[efficiency]\nmethod = 'partition'\n[solver]\n[job]\n"
    for name in ("inference", "classification"):
        drawn = read(tmp_path, text + f"name = '{name}'\ndevices = 3\n")
        assert drawn.pact.job == "classification"
        assert drawn.solver == "gdm"
        assert drawn.terms.market is None
        assert drawn.terms.devices == 3


@pytest.mark.parametrize("method", ["partition", "compression", "selection"])
@pytest.mark.parametrize("mechanism", list(TERMS))
@pytest.mark.parametrize("job", ["inference", "training"])
def test_what_no_pact_is_installed_for_is_told_with_those_that_are(
    tmp_path: Path, method: str, mechanism: str, job: str
) -> None:
    pacts = registry.parts("pacts").values()
    named = {"inference": "classification"}.get(job, job)
    text = (
        f"mechanism = '{mechanism}'\n{TERMS[mechanism]}\n[efficiency]\nmethod = '{method}'\n"
        f"[solver]\n[job]\nname = '{job}'\n"
    )
    beside = [each.name for each in pacts if (each.method, each.mechanism) == (method, mechanism)]
    if any((p.method, p.mechanism, p.job) == (method, mechanism, named) for p in pacts):
        return
    with pytest.raises(InputError) as refused:
        read(tmp_path, text)
    assert refused.value.field == ("job.name" if beside else "mechanism")
    for name in beside or [each.name for each in pacts if each.method == method]:
        assert name in refused.value.expected


def pact(compress: str | None) -> SimpleNamespace:
    def step(*said: object) -> None:
        raise AssertionError("nothing is run")

    return SimpleNamespace(
        **dict.fromkeys(("measure", "optimum", "decide", "engage"), step),
        name=f"compression-{compress}-contract-training",
        method="compression",
        mechanism="contract",
        job="training",
        compress=compress,
        solvers=("exact",),
        read=lambda source, document, smoke: compress,
    )


def test_what_is_compressed_may_be_left_out_while_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text(efficiency: str) -> str:
        return (
            f"mechanism = 'contract'\n[efficiency]\nmethod = 'compression'\n{efficiency}\n"
            "[solver]\n[job]\nname = 'training'\n"
        )

    one, two = {"a": pact("update")}, {"a": pact("update"), "b": pact("model")}
    monkeypatch.setattr(scenarios, "parts", lambda kind: one)
    assert read(tmp_path, text("")).terms == "update"
    with pytest.raises(InputError, match=r"efficiency.compress: expected one of update"):
        read(tmp_path, text("compress = 'codec'"))
    monkeypatch.setattr(scenarios, "parts", lambda kind: two)
    assert read(tmp_path, text("compress = 'model'")).terms == "model"
    with pytest.raises(InputError, match=r"efficiency.compress: expected one of model, update"):
        read(tmp_path, text(""))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (selection(solver="name = 'grid'"), "solver.name: expected one of exact, gdm, found grid"),
        (selection(solver="name = 'gdm'"), "worth, terms: expected .* found neither"),
        (selection(solver="name = 3"), "solver.name: expected one of exact, gdm, found 3"),
        (selection(solver="name = ''"), 'solver.name: expected one of exact, gdm, found ""'),
        (selection().replace("[solver]", ""), "solver: expected a table"),
        ("mechanism = 'auction'\n", "--fleet"),
        (
            selection().replace("'auction'", "'lottery'"),
            "mechanism: expected one of auction, contract, stackelberg; installed pacts: sel",
        ),
        (
            selection().replace("'selection'", "'selecton'"),
            r"efficiency.method: expected one of .* found selecton \(did you mean selection\?\)",
        ),
        (
            selection(efficiency="compress = 'update'"),
            "efficiency.compress: expected nothing with selection",
        ),
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
