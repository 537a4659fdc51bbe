"""Buyers of a scenario: what can be stated, who works on what, what the server earns by it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.inference.gguf import known
from edgepact.market.demand import Buyer, read_demand, read_requests
from edgepact.market.ledger import PieceState, Sale
from edgepact.market.statement import Statement
from edgepact.pacts.partition_buyers import Asking, SizesPieces, mean_worth
from edgepact.pacts.partition_demand import _in_turn, earned, handed_out
from edgepact.pacts.partition_stackelberg import TEXT, PartitionTerms
from edgepact.pacts.partition_texts import TEXTS
from tests.tiny_llama import write_tiny_llama

BUYERS = """
[[buyer]]
name = "school"
revenue_per_unit = 2.0
units = 9
[[buyer]]
name = "newsroom"
revenue_per_unit = 5.5
units = 4
"""
MARKET = """
[server]
beta = 8000.0
layers_max = 6
price_min = 0.05
price_max = 1.2
[[device]]
name = "a"
alpha = 1.5
capacity = 3e-4
A = 1e-5
B = 0.0
[[device]]
name = "b"
alpha = 1.5
capacity = 3e-4
A = 1e-5
B = 0.0
"""
JOB = 'name = "text"\nrounds = 2\ntokens = 8\ntokens_max = 4\n'


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(known.VARIABLE, str(folder / "stages"))
        return known.text_model(write_tiny_llama(folder / "tiny.gguf", blocks=6)).folder


def terms_of(folder: Path, stages: Path, top: str, job: str = JOB) -> PartitionTerms:
    path = folder / "scenario.toml"
    path.write_text(
        f'mechanism = "stackelberg"\n{top}[efficiency]\nmethod = "partition"\nmodel = "{stages}"\n'
        f'[solver]\nname = "golden-section"\n[job]\n{job}'
    )
    terms = read_scenario(path).terms
    assert isinstance(terms, PartitionTerms)
    return terms


def test_buyers_say_what_a_unit_brings(tmp_path: Path, stages: Path) -> None:
    """In a market that is drawn, and in one that the file states without a revenue of its own."""
    worth = (2.0 * 9 + 5.5 * 4) / 13
    for top, job in ((BUYERS, f"{JOB}devices = 2\n"), (f"{MARKET}{BUYERS}", JOB)):
        terms = terms_of(tmp_path, stages, top, job)
        assert [(each.buyer.name, each.buyer.units_each) for each in terms.buyers] == [
            ("school", 4),
            ("newsroom", 4),
        ]
        assert mean_worth(terms.buyers) == pytest.approx(worth)
        best = TEXT.optimum(terms, None)
        assert float(best.market.game.revenue) == pytest.approx(2 * worth)
    assert isinstance(TEXTS, SizesPieces)


@pytest.mark.parametrize(
    ("top", "field"),
    [
        ("[[buyer]]\nunits = 3\n", r"buyer\[1\].revenue_per_unit"),
        ("[[buyer]]\nrevenue_per_unit = 1.0\n", r"buyer\[1\].units"),
        ("[[buyer]]\nrevenue_per_unit = -1.0\nunits = 3\n", r"buyer\[1\].revenue_per_unit"),
        ("[[buyer]]\nrevenue_per_unit = 1.0\nunits = 0\n", r"buyer\[1\].units"),
        ('[[buyer]]\nname = "a b"\nrevenue_per_unit = 1.0\nunits = 3\n', r"buyer\[1\].name"),
        (BUYERS.replace("school", "newsroom"), r"buyer\[2\].name: expected each name once"),
        (BUYERS.replace("units = 9", "units = 9\nprompts = []"), r"buyer\[1\].prompts"),
        (BUYERS.replace("units = 9", 'units = 9\nprompts = ["x"]'), "buyer.prompts"),
        (BUYERS.replace("units = 9", "units = 9\nquota = 3"), r"buyer\[1\].quota"),
        ("buyer = 3\n", "buyer"),
        (f"{MARKET.replace('beta', 'revenue = 3.0' + chr(10) + 'beta')}{BUYERS}", "server.revenue"),
    ],
)
def test_what_a_buyer_cannot_state_is_named(
    tmp_path: Path, stages: Path, top: str, field: str
) -> None:
    with pytest.raises(InputError, match=field):
        terms_of(tmp_path, stages, top)


def test_who_pays_most_is_served_first_and_devices_in_turn(tmp_path: Path, stages: Path) -> None:
    terms = terms_of(tmp_path, stages, BUYERS, f"{JOB}devices = 2\n")
    turns = _in_turn(terms, ["a", "b"])
    told = {
        name: [f"{each.buyer.name}:{number}" for each, number in asked]
        for name, asked in turns.items()
    }
    assert told == {"a": ["newsroom:0", "school:1"], "b": ["school:0", "school:2"]}


def test_requests_reach_devices_with_what_they_ask_for(tmp_path: Path, stages: Path) -> None:
    asked = BUYERS.replace("units = 9", 'units = 9\nprompts = ["one", "two"]')
    asked = asked.replace("units = 4", 'units = 4\nprompts = ["two"]')
    terms = terms_of(tmp_path, stages, asked, f"{JOB}devices = 1\n")
    with handed_out(terms, ["a"], {"a": None}) as orders:
        demand, (file, inputs) = read_demand(orders.demand), (orders.requests["a"], orders.inputs)
        assert inputs["a"] is not None
        assert inputs["a"].read_text().split() == ["two", "one"]
        requests = read_requests(file)
        assert [each.id for each in requests] == ["newsroom:0", "school:0", "school:1", "school:2"]
        # Of a piece that two buyers ask for there is one source.
        assert requests[0].source == requests[2].source != requests[1].source
        for each in requests:
            assert demand.accepted(each.text, "a", each.id).units_most in (1, 4)
        assert json.loads(orders.demand.read_text())["key"] == demand.key.hex()
    assert not orders.demand.exists()


UNITS = st.integers(0, 50)


@given(
    sold=st.lists(
        st.tuples(st.sampled_from(["x", "y"]), UNITS, st.sampled_from(list(PieceState))),
        max_size=8,
    ),
    computing=st.floats(0.0, 1e3),
)
def test_what_the_server_earns_is_what_is_left_of_what_it_was_paid(
    sold: list[tuple[str, int, PieceState]], computing: float
) -> None:
    asking = [Asking(buyer=Buyer(name=name, microcredits=7, units=99), units=99) for name in "xy"]
    sales = tuple(
        Sale(
            request=f"{buyer}:{at}",
            buyer=buyer,
            device="d",
            round=1,
            units=units,
            microcredits=7 * units if state is PieceState.PAID else 0,
            state=state,
        )
        for at, (buyer, units, state) in enumerate(sold)
    )
    nothing = Statement(
        balances={},
        debits=0,
        credits=0,
        unbalanced=(),
        jobs={},
        audited=0,
        paid={},
        members=(),
        sales=sales,
    )
    found = earned(asking, nothing, computing, unit="token", step="block")
    assert found is not None
    paid = [units for _, units, state in sold if state is PieceState.PAID]
    assert found.utility == pytest.approx(7e-6 * sum(paid) - computing)
    assert sum(each.requests for each in found.buyers) == len(paid)
    assert found.to_dict()["utility"] == found.utility
    assert earned([], nothing, computing, unit="token", step="block") is None
