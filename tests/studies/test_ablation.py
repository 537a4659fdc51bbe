"""The ablation: what is varied, and what the article's reward pays."""

import csv
import json
from dataclasses import fields
from pathlib import Path

import pytest

from edgepact.studies import STUDIES, ablation


def test_a_variant_changes_only_what_it_says() -> None:
    found = ablation.variants()
    base = found[ablation.BASE].solver
    for name, variant in found.items():
        changed = {
            f.name for f in fields(base) if getattr(variant.solver, f.name) != getattr(base, f.name)
        }
        allowed = {"base": set(), "sampling": {"sampling", "steps"}}
        assert changed <= allowed.get(variant.changed, {variant.changed}), name
        assert changed or variant.changed == "base", name


def test_the_articles_reward_pays_for_going_down_and_up() -> None:
    found = ablation.over_a_horizon(ablation.Config())
    still, cycle = found.values()
    assert still.reward == 0.0
    assert still.share == pytest.approx(1.0, abs=1e-4)
    assert cycle.reward == pytest.approx(0.5)
    assert cycle.share < 0.9


@pytest.mark.slow
def test_in_small(tmp_path: Path) -> None:
    STUDIES["ablation"](tmp_path, True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["variants"]) == set(ablation.SMOKED)
    rows = list(csv.DictReader((tmp_path / "curves.csv").read_text().splitlines()))
    config = ablation.config_for(True)
    learners = config.seeds_base + config.seeds * (len(ablation.SMOKED) - 1)
    assert len(rows) == learners * config.epochs
    assert all(float(row["share"]) <= 1.0 + 1e-4 for row in rows)
    assert (tmp_path / "page.md").read_text().count("\n| ") >= len(ablation.SMOKED)
