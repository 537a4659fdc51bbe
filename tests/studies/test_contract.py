"""The study of menus: its rules, its priors, and the whole of it in small."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepact.mechanisms.contract.audit import audit_menu
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.responses import profit
from edgepact.mechanisms.contract.take_up import TakeUp
from edgepact.solvers.in_context.menus import SHIPPED
from edgepact.solvers.known_form.frequencies import expected_frequencies
from edgepact.studies import STUDIES, contract


def test_rules_keep_promises_and_do_not_look_at_frequencies() -> None:
    config, compared = contract.config_for(True), contract.rules(SHIPPED)
    rng = np.random.default_rng(0)
    for name, prior in contract.priors(config).items():
        drawn = prior.draw(rng)
        counts, seen = contract.past_take_up(rng, drawn, config.rounds, 50)
        expected = [
            contract.expected_of([drawn], [counts], prior, config, apart=apart)[0]
            for apart in (False, True)
        ]
        known = contract.Known("3 x 50 devices", counts, seen, None, *expected)
        best = profit(drawn, optimal_menu(drawn))
        turned = contract.replace(drawn, probability=np.asarray(drawn.probability)[::-1].copy())
        for rule in compared.values():
            menu = rule(drawn, known)
            audit = audit_menu(drawn, menu)
            assert audit.incentive_compatible, name
            assert audit.largest_loss_from_taking_part <= 1e-9 * (menu.reward.max() + 1.0)
            assert profit(drawn, menu) <= best * (1 + 1e-9)
            assert np.array_equal(menu.quality, rule(turned, known).quality)


def test_told_frequencies_the_plug_in_rule_is_optimal() -> None:
    compared, rng = contract.rules(SHIPPED), np.random.default_rng(1)
    drawn = contract.priors(contract.Config())["types of the literature"].draw(rng)
    known = contract.Known(contract.TOLD, None, None, np.asarray(drawn.probability))
    best = profit(drawn, optimal_menu(drawn))
    for exact in (contract.PLUG_IN, contract.GDM, contract.BAYES):
        assert profit(drawn, compared[exact](drawn, known)) == pytest.approx(best)
    for mistaken in ("no rent term", "one item for all", "equal frequencies"):
        assert profit(drawn, compared[mistaken](drawn, known)) < best


def test_bayes_is_right_where_it_can_be_told_by_hand() -> None:
    # Told apart and with one parameter, the posterior is Dirichlet's.
    taken = np.array([[[5.0, 0.0, 1.0]]])
    exists = np.ones((1, 3))
    found = expected_frequencies(
        TakeUp(taken, np.ones_like(taken)),
        exists,
        concentration=(1.0, 1.0),
        least=0.0,
        seed=0,
        sweeps=20,
    )
    assert found[0] == pytest.approx(np.array([6.0, 1.0, 2.0]) / 9.0)
    # Of two types that always share an item nothing tells which is more frequent.
    first = np.array([[[1.0, 0.0, 1.0]]])
    found = expected_frequencies(
        TakeUp(taken, first), exists, concentration=(1.0, 1.0), least=0.0, seed=0, sweeps=800
    )
    assert found[0, 0] == pytest.approx(found[0, 1], abs=0.03)
    assert found[0, 2] == pytest.approx(2.0 / 9.0, abs=0.01)


@pytest.mark.slow
def test_training_in_small(tmp_path: Path) -> None:
    STUDIES["contract"].train(tmp_path, True)
    assert (tmp_path / contract.TRAINED).is_file()


@pytest.mark.slow
def test_in_small(smoke_run: Callable[[str], Path]) -> None:
    folder = smoke_run("contract")
    metrics = json.loads((folder / "metrics.json").read_text())["profit"]
    assert set(metrics["one_contract"]) == set(contract.SMOKED)
    assert metrics["promises"][contract.GDM]["largest_gain_from_lying"] < 1e-6
    rows = list(csv.DictReader((folder / "shares.csv").read_text().splitlines()))
    assert len(rows) == 3 * 8 * 3 * len(contract.LOOKS)
    assert all(float(row["share"]) <= 1.0 + 1e-6 for row in rows)
    assert (folder / "page.md").read_text().count("\n| ") > 20
