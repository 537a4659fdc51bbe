"""Slots of generation sold by a forward auction: rules of `solve`, limits of the fleet, a run."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.credits import MICRO, in_credits
from edgepact.errors import InputError
from edgepact.files.auction import read_auction
from edgepact.files.scenario import read_scenario
from edgepact.inference.gguf import known
from edgepact.market.ledger import Ledger, buyer_of
from edgepact.market.statement import read_statement
from edgepact.pacts.selection_slots import TEXT, SlotTerms, slot_buyer, sold_to, winners
from edgepact.solutions.auction import solve_auction
from tests.tiny_llama import write_tiny_llama

TOP = 'rule = "reserve"\nprior = { form = "uniform", low = 0.0, high = 10.0 }\n'
JOB = 'name = "text"\ndevices = 2\nrounds = 2\ntokens = 9\ntokens_max = 4\n'
BIDS = (9.0, 4.0, 8.0, 7.5, 9.5, 7.0, 3.0)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(known.VARIABLE, str(folder / "stages"))
        return known.text_model(write_tiny_llama(folder / "tiny.gguf", blocks=6)).folder


def bids_of(bids: Any = BIDS) -> str:
    return "".join(
        f'[[bid]]\nname = "u{at}"\nbid = {bid!r}\nprompt = "prompt {at}"\n'
        for at, bid in enumerate(bids)
    )


def stated(folder: Path, stages: Path, top: str = "", job: str = JOB, bids: str = "") -> Path:
    path = folder / "slots.toml"
    path.write_text(
        f'mechanism = "auction"\n{TOP}{top}{bids or bids_of()}[efficiency]\nmethod = "selection"\n'
        f'model = "{stages}"\n[solver]\nname = "optimum"\n[job]\n{job}'
    )
    return path


def terms_of(*args: Any, smoke: bool = False, **stating: Any) -> SlotTerms:
    terms = read_scenario(stated(*args, **stating), smoke=smoke).terms
    assert isinstance(terms, SlotTerms)
    return terms


# ---------------------------------------------------------------- what is for sale


def test_the_fleet_limits_what_is_sold(tmp_path: Path, stages: Path) -> None:
    """A device does two texts of 4 tokens in a round of 9, two devices in two rounds eight."""
    terms = terms_of(tmp_path, stages, "unit_cost = 2.0\n")
    assert (terms.slot, terms.capacity, terms.rule.units) == (4, 8, 8)
    fewer = terms_of(tmp_path, stages, "unit_cost = 2.0\nunits = 3\n")
    assert fewer.rule.units == 3
    pairs = terms_of(tmp_path, stages, job=f"{JOB}slot = 2\n")
    assert (pairs.slot, pairs.capacity) == (8, 4)
    with pytest.raises(InputError, match="units: expected at most 4, the slots that the fleet"):
        _ = terms_of(tmp_path, stages, "units = 5\n", job=f"{JOB}slot = 2\n").auction
    with pytest.raises(InputError, match="job: expected rounds in which a device can do 80 tokens"):
        _ = terms_of(tmp_path, stages, job=f"{JOB}slot = 20\n").auction


def test_what_a_slot_costs_is_counted_where_it_is_not_said(tmp_path: Path, stages: Path) -> None:
    """All of the model for each of its tokens, at a credit a block."""
    terms = terms_of(tmp_path, stages)
    split = terms.play.split
    costs = split.costs(stages, terms.play.settings)
    assert terms.rule.unit_cost == pytest.approx(4 * costs.total / costs.A)
    # Above all that the prior holds possible a value is its own virtual value.
    assert terms.rule.reserve == pytest.approx(terms.rule.unit_cost)


def test_winners_and_payments_are_those_of_solve(tmp_path: Path, stages: Path) -> None:
    terms = terms_of(tmp_path, stages, "unit_cost = 2.0\nunits = 3\n")
    alone = tmp_path / "alone.toml"
    listed = bids_of().replace("prompt =", "#")
    alone.write_text(f'mechanism = "auction"\n{TOP}units = 3\nunit_cost = 2.0\n{listed}')
    theirs, ours = solve_auction(read_auction(alone)), TEXT.optimum(terms, None)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.broken == ()
    buyers = winners(terms, ours)
    assert [(each.buyer.name, each.prompts) for each in buyers] == [
        ("u0", ("prompt 0",)),
        ("u2", ("prompt 2",)),
        ("u4", ("prompt 4",)),
    ]
    assert {each.buyer.microcredits for each in buyers} == {7_500_000}  # the highest losing bid
    assert {(each.buyer.per, each.buyer.requests) for each in buyers} == {("request", 1)}


@pytest.mark.parametrize(
    ("top", "job", "bids", "field"),
    [
        ("rule = 3\n", JOB, "", "rule"),
        ("budget = 3.0\n", JOB, "", "budget"),
        ("units = 0\n", JOB, "", "units"),
        ("", f"{JOB}slot = 0\n", "", "job.slot"),
        ("", JOB, '[[bid]]\nbid = 9.0\nprompt = ""\n', r"bid\[1\].prompt"),
        ("", JOB, '[[bid]]\nbid = 9.0\nprompt = "x"\n[[bid]]\nbid = 8.0\n', r"bid\[2\].prompt"),
        ("", JOB, "[[bid]]\nbid = -1.0\n", r"bid\[1\].bid"),
        ('bids = "bids.csv"\n', JOB, '[[bid]]\nbid = "x"\n', "bid"),
    ],
)
def test_what_cannot_be_stated_is_named(
    tmp_path: Path, stages: Path, top: str, job: str, bids: str, field: str
) -> None:
    path = stated(tmp_path, stages, top, job, bids)
    if top.startswith("rule"):
        path.write_text(path.read_text().replace('rule = "reserve"\n', ""))
    with pytest.raises(InputError, match=field):
        read_scenario(path)


def test_where_nobody_reaches_the_reserve_nothing_is_begun(tmp_path: Path, stages: Path) -> None:
    terms = terms_of(tmp_path, stages, "unit_cost = 9.9\n")
    with pytest.raises(InputError, match=r"bid: expected one of at least the reserve, 9\.95"):
        TEXT.expect_runnable(terms)
    spaced = terms_of(
        tmp_path, stages, "unit_cost = 0.0\n", bids='[[bid]]\nname="a b"\nbid = 9.0\n'
    )
    with pytest.raises(InputError, match=r"bid\[1\].name"):
        winners(spaced, sold_to(spaced))


# ---------------------------------------------------------------- promises

VALUES = st.lists(st.integers(0, 40).map(lambda at: at / 4), min_size=1, max_size=5)


@given(values=VALUES, lie=st.integers(0, 48), at=st.integers(0, 4), units=st.integers(1, 4))
def test_truth_is_best_nobody_loses_and_the_best_users_win(
    slots: SlotTerms, values: list[float], lie: int, at: int, units: int
) -> None:
    """Against every subset of users, and against a lie; also in whole micro-credits."""
    rule, truth, cost = replace(slots.rule, units=units), np.array(values), 2.0
    award = rule.award(truth)
    wins, paid = award.wins, award.payments
    virtual = 2.0 * truth - 10.0 - cost  # of a uniform prior on [0, 10]
    subsets = (
        sum(virtual[list(chosen)])
        for size in range(min(units, len(values)) + 1)
        for chosen in itertools.combinations(range(len(values)), size)
    )
    assert sum(virtual[wins]) == pytest.approx(max(subsets), abs=1e-9)
    assert np.all(paid <= np.where(wins, truth, 0.0) + 1e-9)
    assert np.all(paid[wins] >= cost)
    for user in np.flatnonzero(wins):
        buyer = slot_buyer("u", float(paid[user]), pieces=3, units_each=1)
        owed = buyer.requests * buyer.microcredits
        assert in_credits(owed) <= truth[user] + 1e-9
        assert paid[user] * MICRO - 3 <= owed <= paid[user] * MICRO + 1e-5
    liar = at % len(values)
    lied = truth.copy()
    lied[liar] = lie / 4
    other = rule.award(lied)
    gain = float(other.wins[liar]) * (truth[liar] - other.payments[liar])
    assert gain <= float(wins[liar]) * (truth[liar] - paid[liar]) + 1e-9


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory, stages: Path) -> SlotTerms:
    return terms_of(tmp_path_factory.mktemp("slots"), stages, "unit_cost = 2.0\n")


# ---------------------------------------------------------------- a run


@pytest.mark.slow
def test_winners_get_their_texts_and_pay_the_server_which_pays_devices(
    tmp_path: Path, stages: Path
) -> None:
    path = stated(tmp_path, stages, "unit_cost = 2.0\nunits = 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "edgepact", "run", str(path), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "What was generated for whom" in done.stdout
    url = f"sqlite:///{tmp_path / 'out' / 'ledger.db'}"
    statement = read_statement(url)
    assert statement.balanced
    assert {each.buyer: each.microcredits for each in statement.sales} == {
        name: 7_500_000 for name in ("u0", "u2", "u4")
    }
    assert statement.balances[buyer_of("u4")] == -7_500_000
    paid = sum(each.microcredits for each in statement.payments)
    assert statement.balances["server"] == 22_500_000 - paid
    with Ledger(url, read_only=True) as ledger:
        assert ledger.check() == []
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {each["prompt"] for each in metrics["texts"]} == {f"prompt {at}" for at in (0, 2, 4)}
    assert [each["user"] for each in metrics["slots"] if each["paid"]] == ["u0", "u2", "u4"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What was generated for whom" in page
    assert "What the server earned" in page
    assert "Split inference by real processes" not in page  # these are its cards
