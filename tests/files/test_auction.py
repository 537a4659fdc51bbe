"""Auction files: what they mean, what they print, and what is said of those that are wrong."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.files.auction import read_auction
from edgepact.mechanisms.auction.knapsack_vcg import KnapsackVcg
from edgepact.mechanisms.auction.optimal_procurement import OptimalProcurement
from edgepact.mechanisms.auction.posted_prices import PostedPrices
from edgepact.mechanisms.auction.prior import Mixture, TruncatedExponential
from tests.test_cli import assert_refused, edgepact

SHOWN = ["bids", "total_payments", "gains"]
"""What the tables show besides."""

SHARE = 'rule = "proportional_share"\nbudget = 8.0\n'
UNIFORM = 'prior = { form = "uniform", low = 0.0, high = 1.0 }\n'
BIDS = [(1.0, 4.0), (2.0, 5.0), (3.0, 5.0), (2.0, 2.0), (5.0, 4.0)]
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("auction*.toml"))
AUDIT = [
    "individually_rational",
    "incentive_compatible",
    "budget_balanced",
    "largest_gain_from_lying",
    "largest_loss_from_taking_part",
]


def listed(rows: list[tuple[float, float]], extra: str = "") -> str:
    return "".join(
        f'[[bid]]\nname = "phone-{at}"\nbid = {bid}\nvalue = {value}\n{extra}'
        for at, (bid, value) in enumerate(rows, start=1)
    )


def auction_file(folder: Path, terms: str, bids: str = listed(BIDS)) -> Path:
    path = folder / "auction.toml"
    path.write_text(f'mechanism = "auction"\n{terms}{bids}')
    return path


def solved(path: Path) -> dict:
    answer = edgepact("solve", path, "--json")
    assert (answer.status, answer.err) == (0, "")
    return json.loads(answer.out)


def test_proportional_share_prints_the_promised_keys(tmp_path: Path) -> None:
    answer = solved(auction_file(tmp_path, SHARE))
    assert list(answer) == ["winners", "payments", "unit_price", "audit", *SHOWN]
    assert answer["winners"] == ["phone-1", "phone-2"]
    assert list(answer["payments"]) == [f"phone-{at}" for at in range(1, 6)]
    assert list(answer["payments"].values()) == pytest.approx([2.4, 3.0, 0.0, 0.0, 0.0])
    assert answer["unit_price"] == pytest.approx(0.6)
    assert set(answer["audit"]) >= set(AUDIT)
    assert all(answer["audit"][key] for key in AUDIT[:3])
    assert answer["audit"]["largest_gain_from_lying"] < 1e-9


@pytest.mark.parametrize(
    ("terms", "bids", "payments"),
    [
        ('rule = "vcg"\nwinners_max = 2\n', listed(BIDS), [2.0, 3.0, 0.0, 0.0, 0.0]),
        (
            'rule = "vcg"\ncapacity = 5\n',
            listed(BIDS, "size = 2\n"),
            [2.0, 3.0, 0.0, 0.0, 0.0],
        ),
        (
            f'rule = "optimal"\nwinners_max = 1\n{UNIFORM}',
            listed([(0.2, 1.0), (0.4, 1.0), (0.6, 1.0)]),
            [0.4, 0.0, 0.0],
        ),
        (
            f'rule = "optimal"\nbudget = 0.5\n{UNIFORM}',
            listed([(0.2, 1.0), (0.6, 1.0)]),
            [0.5, 0.0],
        ),
        (
            f'rule = "reserve"\nunits = 1\nunit_cost = 0.0\n{UNIFORM}',
            "[[bid]]\nbid = 0.4\n[[bid]]\nbid = 0.9\n[[bid]]\nbid = 0.7\n",
            [0.0, 0.7, 0.0],
        ),
        (
            'rule = "second_score"\nwinners_max = 1\nscore = { weights = [2.0, 1.0] }\n',
            "[[bid]]\nbid = 1.0\nquality = [1, 2]\n[[bid]]\nbid = 2.0\nquality = [1.0, 2.0]\n",
            [2.0, 0.0],
        ),
        (
            'rule = "fmore"\nwinners_max = 1\nscore = { weights = [2.0, 1.0] }\n',
            "[[bid]]\nbid = 1.0\nquality = [1, 2]\n[[bid]]\nbid = 2.0\nquality = [1.0, 2.0]\n",
            [1.0, 0.0],
        ),
    ],
)
def test_other_rules(tmp_path: Path, terms: str, bids: str, payments: list[float]) -> None:
    path = auction_file(tmp_path, terms, bids)
    answer = solved(path)
    assert list(answer) == ["winners", "payments", "audit", *SHOWN]
    assert list(answer["payments"].values()) == pytest.approx(payments, abs=1e-9)
    assert answer["winners"] == [name for name, paid in answer["payments"].items() if paid > 0.0]
    assert answer["audit"]["individually_rational"]
    assert answer["audit"]["incentive_compatible"] is ("fmore" not in terms)
    assert "largest gain from lying" in edgepact("solve", path).out


def test_bids_in_a_table_mean_the_same(tmp_path: Path) -> None:
    columns = {
        "name": [f"phone-{at}" for at in range(1, 6)],
        "bid": [bid for bid, _ in BIDS],
        "value": [value for _, value in BIDS],
    }
    pyarrow.csv.write_csv(pa.table(columns), tmp_path / "bids.csv")
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "bids.parquet")
    answers = [
        solved(auction_file(tmp_path, SHARE, bids))
        for bids in (listed(BIDS), 'bids = "bids.csv"\n', 'bids = "bids.parquet"\n')
    ]
    assert answers[0] == answers[1] == answers[2]


def test_qualities_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "bids.csv").write_text("bid,quality_1,quality_2\n1,4,1\n0.5,1,1\n")
    score = 'score = { form = "product", weights = [0.5, 0.5] }\n'
    path = auction_file(
        tmp_path, f'rule = "fmore"\nwinners_max = 1\n{score}', 'bids = "bids.csv"\n'
    )
    assert solved(path)["payments"] == {"bid-1": 1.0, "bid-2": 0.0}


def test_priors(tmp_path: Path) -> None:
    exponential = "{ form = 'exponential', low = 0.0, high = 2.0, rate = 1.5 }"
    histogram = "{ form = 'histogram', bins = [0, 1, 3], weights = [0.25, 0.75] }"
    mixture = f"{{ form = 'mixture', parts = [{exponential}, {histogram}], weights = [0.5, 0.5] }}"
    kinds = []
    for prior in (exponential, histogram, mixture):
        terms = f'rule = "optimal"\nwinners_max = 2\nprior = {prior}\n'
        auction = read_auction(auction_file(tmp_path, terms)).auction
        assert isinstance(auction, OptimalProcurement)
        kinds.append(auction.virtual.prior)
    assert isinstance(kinds[0], TruncatedExponential)
    assert kinds[1].edges.tolist() == [0.0, 1.0, 3.0]
    assert isinstance(kinds[2], Mixture)
    assert kinds[2].edges.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_terms_choose_among_forms_of_a_rule(tmp_path: Path) -> None:
    terms = 'rule = "vcg"\ncapacity = 9\n'
    sized = read_auction(auction_file(tmp_path, terms, listed(BIDS, "size = 3\n"))).auction
    assert isinstance(sized, KnapsackVcg)
    assert (sized.capacity, sized.sizes.tolist()) == (9, [3] * 5)
    posted = read_auction(auction_file(tmp_path, f'rule = "optimal"\nbudget = 9\n{UNIFORM}'))
    assert isinstance(posted.auction, PostedPrices)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_solve_and_keep_their_promises(path: Path) -> None:
    answer = solved(path)
    assert answer["winners"]
    assert all(answer["audit"][key] for key in AUDIT[:3])


OPTIMAL = f'rule = "optimal"\nwinners_max = 2\n{UNIFORM}'
RESERVE = f'rule = "reserve"\nunits = 1\n{UNIFORM}'
SCORED = 'rule = "fmore"\nwinners_max = 1\nscore = { weights = [1.0] }\n'


@pytest.mark.parametrize(
    ("terms", "bids", "field"),
    [
        ("", listed(BIDS), "rule"),
        ('rule = "raffle"\n', listed(BIDS), "rule"),
        ('rule = "proportional_share"\n', listed(BIDS), "budget"),
        (SHARE.replace("8.0", "-1.0"), listed(BIDS), "budget"),
        (SHARE + "winners_max = 2\n", listed(BIDS), "winners_max"),
        (SHARE, "", "bid"),
        (SHARE, "bid = []\n", "bid"),
        (SHARE, "bid = [1]\n", "bid[1]"),
        (SHARE, "[[bid]]\nbid = -1.0\nvalue = 1.0\n", "bid[1].bid"),
        (SHARE, "[[bid]]\nbid = inf\nvalue = 1.0\n", "bid[1].bid"),
        (SHARE, "[[bid]]\nbid = 1.0\nvalue = 0.0\n", "bid[1].value"),
        (SHARE, "[[bid]]\nbid = 1.0\n", "bid[1].value"),
        (SHARE, listed(BIDS, "colour = 1\n"), "bid[1].colour"),
        (SHARE, listed(BIDS, "size = 1\n"), "bid[1].size"),
        (SHARE, listed(BIDS) + listed(BIDS), "bid.name"),
        (SHARE, 'bids = "none.csv"\n', "bids"),
        (SHARE, 'bids = "none.csv"\n' + listed(BIDS), "bid"),
        ('rule = "vcg"\n', listed(BIDS), "winners_max"),
        ('rule = "vcg"\nwinners_max = 0\n', listed(BIDS), "winners_max"),
        ('rule = "vcg"\nwinners_max = 1\ncapacity = 1\n', listed(BIDS), "capacity"),
        ('rule = "vcg"\ncapacity = 1\n', listed(BIDS), "bid[1].size"),
        ('rule = "vcg"\ncapacity = 1\n', listed(BIDS, "size = 1.5\n"), "bid[1].size"),
        (
            'rule = "vcg"\ncapacity = 1000000007\n',
            listed(BIDS, "size = 1000000007\n") + "[[bid]]\nbid = 1\nvalue = 1\nsize = 1\n",
            "capacity",
        ),
        ('rule = "optimal"\nwinners_max = 1\n', listed(BIDS), "prior"),
        (OPTIMAL.replace("uniform", "normal"), listed(BIDS), "prior.form"),
        (OPTIMAL.replace("1.0", "0.0"), listed(BIDS), "prior.high"),
        (OPTIMAL.replace("low = 0.0, ", ""), listed(BIDS), "prior.low"),
        (OPTIMAL.replace("high", "colour = 1, high"), listed(BIDS), "prior.colour"),
        (OPTIMAL.replace("uniform", "exponential"), listed(BIDS), "prior.rate"),
        (
            OPTIMAL.replace(UNIFORM, "prior = { form = 'histogram', bins = 3 }\n"),
            listed(BIDS),
            "prior.bins",
        ),
        (
            OPTIMAL.replace(
                UNIFORM, "prior = { form = 'histogram', bins = [0, 'a'], weights = [1] }\n"
            ),
            listed(BIDS),
            "prior.bins.2",
        ),
        (
            OPTIMAL.replace(
                UNIFORM, "prior = { form = 'histogram', bins = [-1, 1], weights = [1] }\n"
            ),
            listed(BIDS),
            "prior.bins",
        ),
        (
            OPTIMAL.replace(
                UNIFORM, "prior = { form = 'histogram', bins = [0, 1], weights = [0.5] }\n"
            ),
            listed(BIDS),
            "prior.weights",
        ),
        (
            OPTIMAL.replace(UNIFORM, "prior = { form = 'mixture', parts = [], weights = [1] }\n"),
            listed(BIDS),
            "prior.parts",
        ),
        (RESERVE.replace("units = 1\n", ""), "[[bid]]\nbid = 1\n", "units"),
        (RESERVE + "unit_cost = -1\n", "[[bid]]\nbid = 1\n", "unit_cost"),
        (RESERVE, listed(BIDS), "bid[1].value"),
        (SCORED, "[[bid]]\nbid = 1\n", "bid[1].quality"),
        (SCORED, "[[bid]]\nbid = 1\nquality = [1, 2]\n", "bid[1].quality"),
        (SCORED, "[[bid]]\nbid = 1\nquality = [0]\n", "bid[1].quality"),
        (SCORED.replace("1.0", "-1.0"), "[[bid]]\nbid = 1\nquality = [1]\n", "score.weights"),
        (SCORED.replace("{ w", "{ form = 'max', w"), "[[bid]]\nbid = 1\n", "score.form"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, terms: str, bids: str, field: str) -> None:
    path = auction_file(tmp_path, terms, bids)
    assert_refused(edgepact("solve", path, "--json"), f"{path}: {field}")


def test_what_is_wrong_in_a_table_is_named(tmp_path: Path) -> None:
    path = auction_file(tmp_path, SHARE, 'bids = "bids.csv"\n')
    for text, told in (
        ("bid\n1\n", "bids.csv: value"),
        ("bid,value\n1,2\n,2\n", "bids.csv: bid[2].bid"),
        ("bid,value\n1,many\n", "bids.csv: bid[1].value"),
        ("bid,value\n1,0\n", "bids.csv: bid[1].value"),
        ("bid,value\n", "bids.csv: rows: expected 1 to 20000000 bids"),
        ("bid,value,name\n1,1,a\n1,1,a\n", "bid.name"),
    ):
        (tmp_path / "bids.csv").write_text(text)
        assert_refused(edgepact("solve", path), told)


@settings(max_examples=25)
@given(
    terms=st.sampled_from([SHARE, 'rule = "vcg"\nwinners_max = 2\n', OPTIMAL]),
    value=st.one_of(st.floats().map(repr), st.integers().map(str), st.just('"1"')),
    field=st.sampled_from(["bid = 3.0", "value = 2.0", "high = 1.0", "budget = 8.0"]),
)
def test_any_value_anywhere_is_solved_or_refused(
    tmp_path_factory: pytest.TempPathFactory, terms: str, value: str, field: str
) -> None:
    text = (terms + listed(BIDS)).replace(field, f"{field.split(' = ')[0]} = {value}")
    path = auction_file(tmp_path_factory.mktemp("any"), "", text)
    answer = edgepact("solve", path, "--json")
    if answer.status == 0:
        assert answer.err == ""
        audit = json.loads(answer.out)["audit"]
        assert audit["individually_rational"]
        assert audit["incentive_compatible"]
        assert np.isfinite(audit["largest_gain_from_lying"])
    else:
        assert_refused(answer, path)
