"""The study of menus: its rules, its priors, and the whole of it in small."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from edgepact.mechanisms.contract.audit import audit_menu
from edgepact.mechanisms.contract.optimum import optimal_menu
from edgepact.mechanisms.contract.responses import profit
from edgepact.solvers.in_context.menus import SHIPPED
from edgepact.studies import STUDIES, TRAININGS, contract


def test_rules_keep_promises_and_do_not_look_at_frequencies() -> None:
    config, compared = contract.config_for(True), contract.rules(SHIPPED)
    rng = np.random.default_rng(0)
    for name, draw in contract.priors(config).items():
        drawn = draw(rng)
        seen = contract.past_take_up(rng, drawn, config.rounds, 50)
        known = contract.Known("3 x 50 devices", seen, None)
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
    drawn = contract.priors(contract.Config())["types of the literature"](rng)
    known = contract.Known(contract.TOLD, None, np.asarray(drawn.probability))
    best = profit(drawn, optimal_menu(drawn))
    assert profit(drawn, compared[contract.PLUG_IN](drawn, known)) == pytest.approx(best)
    for mistaken in ("no rent term", "one item for all", "equal frequencies"):
        assert profit(drawn, compared[mistaken](drawn, known)) < best


@pytest.mark.slow
def test_in_small(tmp_path: Path) -> None:
    TRAININGS["contract"](tmp_path, True)
    assert (tmp_path / contract.TRAINED).is_file()
    STUDIES["contract"](tmp_path, True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())["profit"]
    assert set(metrics["one_contract"]) == set(contract.SMOKED)
    assert metrics["promises"][contract.GDM]["largest_gain_from_lying"] < 1e-6
    rows = list(csv.DictReader((tmp_path / "shares.csv").read_text().splitlines()))
    assert len(rows) == 3 * 8 * 3 * len(contract.COLOURS)
    assert all(float(row["share"]) <= 1.0 + 1e-6 for row in rows)
    assert (tmp_path / "page.md").read_text().count("\n| ") > 20
