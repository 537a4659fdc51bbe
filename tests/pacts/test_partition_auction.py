"""Layers bought by auction in the live market: what the rule awards, audited and by processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepact.credits import MICRO
from edgepact.engagement import truthful_bids
from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.market.procured import LearntBlock
from edgepact.market.statement import read_statement
from edgepact.mechanisms.auction.supply_curves import block_costs
from edgepact.pacts.partition_auction import PACT
from edgepact.pacts.partition_bought import own_costs
from edgepact.work import Model
from tests.pacts.bought import DEVICES, EXAMPLES, SERVER, read, stated

TOPS = (
    "rule = 'vcg'\nlayers_total = 5\n",
    "rule = 'vcg'\ndevices_max = 1\n",
    "rule = 'proportional_share'\nblock = 2\nbudget = 1.5\n",
)

MODEL = Model(name="m", amount_max=4)


@pytest.mark.parametrize("top", TOPS)
def test_the_rule_keeps_its_promises(tmp_path: Path, top: str) -> None:
    terms = read(tmp_path, PACT, stated("auction", top=top))
    best = PACT.optimum(terms, None)
    assert best.broken == ()
    assert np.sum(best.layers) > 0
    assert (best.payments >= best.borne).all()
    told = best.to_dict()
    assert told["audit"]["incentive_compatible"]
    assert [each["name"] for each in told["devices"]] == ["one", "two"]
    assert told["profit"] == pytest.approx(told["saving"] - np.sum(best.payments))


def test_a_device_without_room_for_the_block_is_told_as_such(tmp_path: Path) -> None:
    small = DEVICES.replace("capacity = 6.0", "capacity = 0.0")
    terms = read(tmp_path, PACT, stated("auction", top=TOPS[-1], rest=small))
    best = PACT.optimum(terms, None)
    told = json.loads(json.dumps(best.to_dict(), allow_nan=False))
    costs = {each["name"]: each["block_cost"] for each in told["devices"]}
    assert costs["one"] is None
    assert costs["two"] > 0
    assert [row[2] == "no room for it" for row in best.sheets[0].rows] == [True, False]


def test_a_server_whose_own_layers_get_dearer_couples_devices(tmp_path: Path) -> None:
    text = stated("auction", top="rule = 'vcg'", server=SERVER + "cost_rise = 0.25")
    terms = read(tmp_path, PACT, text)
    best = PACT.optimum(terms, None)
    assert best.broken == ()
    assert best.profit > 0.0
    # Its own eight layers: 1, 1.25, 1.5, ... credits.
    assert terms.alone(2) == pytest.approx(8 + 0.25 * 28)
    assert terms.saved(1, 2) == pytest.approx(1 + 0.25 * 7)
    assert terms.saved(0, 2) == 0.0


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"top": ""}, "rule: expected one of vcg, proportional_share"),
        ({"top": "rule = 'optimal'"}, "rule: expected one of vcg, proportional_share"),
        ({"top": "rule = 'vcg'"}, "rule: expected one that makes devices compete.*layers_total"),
        (
            {"top": "rule = 'vcg'\nlayers_total = 3\ndevices_max = 1"},
            "devices_max: expected neither layers_total nor server.cost_rise",
        ),
        ({"top": "rule = 'vcg'\nlayers_total = 0"}, "layers_total: expected a whole number from 1"),
        ({"top": "rule = 'vcg'\nlayers_total = 3\nbudget = 1.0"}, "budget: expected one of"),
        (
            {"server": SERVER + "cost_rise = 0"},
            "server.cost_rise: expected a finite number above 0",
        ),
        ({"top": "rule = 'proportional_share'\nblock = 2"}, "budget: expected a finite number"),
        (
            {"top": "rule = 'proportional_share'\nblock = 5\nbudget = 1.0"},
            "block: expected a whole number from 1 to 4",
        ),
        (
            {"top": TOPS[2], "server": SERVER + "cost_rise = 1.0"},
            "server.cost_rise: expected one of",
        ),
    ],
)
def test_errors_name_the_file_and_its_fields(
    tmp_path: Path, parts: dict[str, str], told: str
) -> None:
    with pytest.raises(InputError, match=rf"own\.toml: {told}"):
        read(tmp_path, PACT, stated("auction", **parts))


def test_a_prior_is_not_needed(tmp_path: Path) -> None:
    terms = read(tmp_path, PACT, stated("auction", rest=DEVICES))
    assert PACT.optimum(terms, None).broken == ()
    decision = PACT.decide(terms, None)
    asked = decision.engagement(Model(name="m", amount_max=4), None).question(1)
    assert asked.bid_amounts == (1.0, 2.0, 3.0, 4.0)
    with pytest.raises(InputError, match=r"server.layers_max: expected 12"):
        decision.engagement(Model(name="m", amount_max=12), None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["supply-curves", "block"])
def test_an_auction_is_played_paid_and_told(tmp_path: Path, name: str) -> None:
    file, out = tmp_path / "own.toml", tmp_path / "out"
    text = (EXAMPLES / f"scenario-{name}.toml").read_text().replace("images = 8", "images = 2")
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "edgepact", "run", str(file), "--smoke", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "awards are those of the rule on true costs" in done.stdout
    assert "NO" not in done.stdout.split("Step 4")[1].split()
    terms = read_scenario(file).terms
    best, costs = PACT.optimum(terms, None), own_costs(terms.private)
    statement = read_statement(f"sqlite:///{out / 'ledger.db'}")
    assert statement.balanced
    assert len(statement.rounds) == 2
    for record in statement.rounds:
        assert set(record.answers) == set(costs)
        for at, own in enumerate(best.devices.names):
            bids = truthful_bids(record.question.bid_amounts, costs[own])
            assert record.answers[own].bids_microcredits == bids
            item = record.assigned[own]
            assert item.amount == best.layers[at]
            # Bids are whole micro-credits, and so is pay.
            assert item.reward_microcredits == pytest.approx(best.payments[at] * MICRO, abs=20)
            assert record.paid_microcredits.get(own, 0) == 2 * item.reward_microcredits
    public = (out / "public.toml").read_text()
    assert "[[device]]" not in public


@pytest.mark.slow
def test_what_a_block_is_paid_at_most_follows_from_the_bids_of_others(tmp_path: Path) -> None:
    file, out = tmp_path / "own.toml", tmp_path / "out"
    text = (EXAMPLES / "scenario-block.toml").read_text().replace("images = 8", "images = 2")
    text = text.replace('"exact"', '"gdm"').replace("devices = 5", "devices = 8")
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "edgepact", "run", str(file), "--smoke", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "NO" not in done.stdout.split("Step 4")[1].split()
    terms = read_scenario(file).terms
    best, costs = PACT.optimum(terms, None), own_costs(terms.private)
    statement = read_statement(f"sqlite:///{out / 'ledger.db'}")
    assert statement.balanced
    sheets = json.loads((out / "steps.json").read_text())["steps"]
    told = next(each for each in sheets if "from the bids of others" in each["chosen"])
    assert [row["bids learnt from"] for row in told["rows"]] == ["0", "8"]
    for record in statement.rounds:
        for at, own in enumerate(best.devices.names):
            item = record.assigned[own]
            assert item.amount in (0.0, best.layers[at])
            assert item.reward_microcredits <= best.payments[at] * MICRO + 20
            assert item.reward_microcredits >= (costs[own](item.amount) if item.amount else 0.0)


def test_of_curves_no_ceilings_are_learnt(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"solver.name: expected exact, .*, found gdm"):
        read(tmp_path, PACT, stated("auction", solver="name = 'gdm'"))


def test_the_first_ceiling_is_the_best_one_for_what_is_believed(tmp_path: Path) -> None:
    top = "rule = 'proportional_share'\nblock = 2\nbudget = 9.0\n"
    text = stated("auction", top=top, solver="name = 'gdm'")
    terms = read(tmp_path, PACT, text)
    assert isinstance(PACT.decide(terms, None).engagement(MODEL, 1), LearntBlock)
    first = terms.buying(0).ceilings(["one", "two"]).most
    bears = block_costs(terms.believed_types().cost, 2)
    left = [(2.0 - cost) * np.mean(bears <= cost) for cost in bears]
    assert first["one"] == first["two"] == pytest.approx(bears[int(np.argmax(left))])
    unsure = read(tmp_path, PACT, stated("auction", top=top, solver="name = 'gdm'", rest=DEVICES))
    assert unsure.buying(0).ceilings(["one"]).most["one"] == pytest.approx(2.0)
