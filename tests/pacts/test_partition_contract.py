"""A menu of layers in the live market: written for a prior, audited, and taken by processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.credits import MICRO
from edgepact.engagement import Finished, chosen
from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.market.offered import FixedMenu, LearntMenu
from edgepact.market.statement import read_statement
from edgepact.mechanisms.contract.layer_menus import play_menu
from edgepact.pacts.partition_bought import own_costs
from edgepact.pacts.partition_contract import PACT, OfferedLayerMenu
from edgepact.pacts.partition_server import Believed, BoughtTerms, ServerTerms
from edgepact.pacts.partition_terms import PrivateDevices, fleet_of
from edgepact.work import Model
from tests.pacts.bought import DEVICES, EXAMPLES, read, stated

SERVER = ServerTerms(revenue=60.0, beta=1.0, layers_max=5, A=1.0, B=0.5, satisfaction="log1p")


def terms_of(seed: int, *, samples: int = 30, devices: int = 3) -> BoughtTerms:
    return BoughtTerms(
        source=Path("own.toml"),
        solver="optimum",
        server=SERVER,
        believed=Believed.sampled((1.0, 4.0), (2.0, 9.0), samples, seed),
        listed=None,
        public={},
        devices=devices,
        seed=seed,
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_offered_menu_keeps_its_promises_and_earns_less_than_the_optimum(seed: int) -> None:
    terms = terms_of(seed)
    offered = PACT.decide(terms, None)
    audit = offered.audit
    assert audit.individually_rational
    assert audit.incentive_compatible
    assert audit.budget_balanced
    # Rounded up by less than a micro-credit, so that whoever is just paid its cost takes part.
    for layers, reward in offered.menu.items():
        assert -1e-12 <= offered.reward[layers] - reward <= 1.0 / MICRO
    assert offered.profit >= offered.menu.profit - 6.0 / MICRO
    # The server's favourites first.
    gains = [
        SERVER.saving * MICRO * each.amount - each.reward_microcredits for each in offered.items
    ]
    assert gains == sorted(gains, reverse=True)
    best = PACT.optimum(terms, None)
    assert best.broken == ()
    realised = play_menu(offered.reward, best.types).profit
    assert realised <= best.menu.upper_bound + 1e-9


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_processes_take_what_the_mathematics_says(seed: int) -> None:
    terms = terms_of(seed, devices=8)
    offered = PACT.decide(terms, None)
    engagement = offered.engagement(Model(name="m", amount_max=5), None)
    question, devices = engagement.question(1), terms.private
    taken = play_menu(offered.reward, terms.types(devices))
    for name, utility in zip(devices.names, taken.utility, strict=True):
        cost = own_costs(devices)[name]
        at = chosen(question, cost)
        item = None if at is None else question.menu[at]
        kept = 0.0 if item is None else item.reward_microcredits - cost(item.amount)
        assert kept == pytest.approx(utility * MICRO, abs=question.tie_microcredits + 0.01)
    # What is expected of the believed types is what processes of these types would do.
    believed = terms.believed
    assert believed is not None
    types = PrivateDevices(
        names=[f"{at}" for at in range(len(believed.alpha))],
        fleet=fleet_of(believed.alpha, believed.capacity, A=SERVER.A, B=SERVER.B),
        satisfaction=SERVER.satisfaction,
    )
    for layers, cost in zip(offered.taken.layers, own_costs(types).values(), strict=True):
        at = chosen(question, cost)
        assert layers == (0 if at is None else question.menu[at].amount)


def test_listed_types_get_the_exact_menu(tmp_path: Path) -> None:
    types = "[[type]]\nalpha = 1.5\ncapacity = 6.0\n[[type]]\nalpha = 3.0\ncapacity = 8.0\n"
    terms = read(tmp_path, PACT, stated("contract", rest=types + DEVICES))
    offered, best = PACT.decide(terms, None), PACT.optimum(terms, None)
    assert offered.exact
    assert "exactly for 2 listed types" in offered.sheets[0].title
    # The two devices are the two types, each half of them.
    assert 2.0 * offered.menu.profit == pytest.approx(best.menu.profit)
    assert best.to_dict()["proved_optimal"]
    assert best.to_dict()["lottery_gain"] >= 0.0


def test_a_capacity_that_just_holds_its_layers_holds_them() -> None:
    devices = PrivateDevices(
        names=["full"],
        fleet=fleet_of(np.array([1.0]), np.array([0.3 * 3 + 0.1]), A=0.3, B=0.1),
        satisfaction="log1p",
    )
    assert np.isfinite(own_costs(devices)["full"](3.0))


def test_a_menu_for_another_model_is_not_offered(tmp_path: Path) -> None:
    offered = OfferedLayerMenu.of(read(tmp_path, PACT, stated("contract")))
    with pytest.raises(InputError, match=r"server.layers_max: expected 12, the layers of clip"):
        offered.engagement(Model(name="clip", amount_max=12), None)


def test_a_menu_needs_something_believed(tmp_path: Path) -> None:
    terms = read(tmp_path, PACT, stated("contract", rest=DEVICES))
    assert PACT.optimum(terms, None).broken == ()
    with pytest.raises(InputError, match=r"own.toml: prior: expected a \[prior\], or \[\[type\]\]"):
        PACT.decide(terms, None)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["optimum", "gdm"])
def test_a_menu_is_played_paid_and_told(tmp_path: Path, solver: str) -> None:
    file = tmp_path / "own.toml"
    text = (EXAMPLES / "scenario-layer-menu.toml").read_text().replace("images = 8", "images = 2")
    file.write_text(text.replace('"optimum"', f'"{solver}"'))
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "edgepact", "run", str(file), "--smoke", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "each device took its best item" in done.stdout
    assert "NO" not in done.stdout.split("Step 4")[1].split()
    terms = read_scenario(file).terms
    statement, costs = read_statement(f"sqlite:///{out / 'ledger.db'}"), own_costs(terms.private)
    assert statement.balanced
    offered = PACT.decide(terms, None)
    assert len(statement.rounds) == 2
    again = (
        offered.learnt(terms.seed)
        if solver == "gdm"
        else FixedMenu(items=offered.items, saving=terms.server.saving)
    )
    assert statement.rounds[0].question.menu == offered.items
    for record in statement.rounds:
        # Each menu is the one that follows from the rounds before it.
        assert record.question == again.question(record.number)
        if isinstance(again, LearntMenu):
            again.observe(
                Finished(
                    number=record.number,
                    question=record.question,
                    answers=record.answers,
                    assigned={},
                )
            )
        assert set(record.answers) == set(costs)
        for name, answer in record.answers.items():
            at = chosen(record.question, costs[name])
            assert answer.item == at
            reward = 0 if at is None else record.question.menu[at].reward_microcredits
            assert record.assigned[name].reward_microcredits == reward
            assert record.paid_microcredits.get(name, 0) == 2 * reward
    assert "device" not in (out / "public.toml").read_text()
    if solver == "gdm":
        assert statement.rounds[1].question.menu != offered.items
        sheets = json.loads((out / "steps.json").read_text())["steps"]
        told = next(each for each in sheets if "wrote from what was taken" in each["chosen"])
        assert [row["answers learnt from"] for row in told["rows"]] == ["0", "3"]
