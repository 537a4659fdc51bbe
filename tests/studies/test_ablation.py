"""The ablation: what is varied, against what it is held, and the study in small."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepact.solvers.in_context import curves
from edgepact.solvers.in_context.pricing import SHIPPED, InContext
from edgepact.studies import ablation
from edgepact.studies.ablation import BASE, Result, Variant, draw, lost, noises, page
from edgepact.studies.methods import CEILING

KINDS = ("reference, whole", "reference, continuous", "odd, whole")


@pytest.mark.parametrize("steps", range(1, len(curves.NOISE) + 1))
def test_fewer_steps_go_from_the_first_noise_to_the_last(steps: int) -> None:
    found = noises(steps)
    assert len(found) == steps
    assert found[0] == curves.NOISE[0]
    assert list(found) == sorted(set(found), reverse=True)
    assert steps == 1 or found[-1] == curves.NOISE[-1]


def test_shorter_trainings_take_part_where_they_were_made(tmp_path: Path) -> None:
    without = ablation.variants(tmp_path)
    assert not [name for name, each in without.items() if each.changed == "training"]
    name, (file, _) = next(iter(ablation.TRAININGS.items()))
    (tmp_path / file).write_bytes(SHIPPED.read_bytes())
    assert set(ablation.variants(tmp_path)) - set(without) == {name}
    assert next(iter(without)) == BASE


def made_up() -> tuple[ablation.Found, dict[str, Variant]]:
    """The one that ships misses a tenth at each quote, a worse one twice as much, one as much."""
    rng = np.random.default_rng(0)
    missed = 0.1 + 0.01 * rng.standard_normal((20, 5))
    quoter = InContext.shipped()
    chosen = {
        BASE: Variant("drawn from", quoter),
        CEILING: Variant("drawn from", quoter),
        "twice": Variant("H", quoter),
        "half": Variant("steps", quoter),
    }
    times = {BASE: 1.0, CEILING: 1.0, "twice": 2.0, "half": 0.5}
    found = {
        name: {
            kind: Result(1.0 - times[name] * missed, 1.0)
            for kind in KINDS
            if name != CEILING or kind != KINDS[2]
        }
        for name in chosen
    }
    return found, chosen


def test_regret_is_held_against_the_same_fleets() -> None:
    found, _ = made_up()
    twice, half = (lost(found, name, KINDS[0]) for name in ("twice", "half"))
    assert twice.mean == pytest.approx(1.0, abs=0.02)
    assert twice.more == pytest.approx(0.5, abs=0.01)
    assert half.more == pytest.approx(-0.25, abs=0.01)
    assert twice.more_error == pytest.approx(0.5 * twice.error)
    assert lost(found, CEILING, KINDS[0]).more == 0.0


def test_the_page_says_what_is_worse_and_what_is_better() -> None:
    found, chosen = made_up()
    text = "\n\n".join(page(found, chosen, ablation.Config(), "As ever."))
    assert text.count("Worse than as shipped by more than two standard errors: `twice`.") == 3
    assert text.count("Better by as much: `half`.") == 3
    assert f"| {CEILING} |" not in text.split("## Odd")[1]
    assert draw(found, chosen).axes[0].get_xscale() == "log"


@pytest.mark.slow
def test_in_small(smoke_run: Callable[[str], Path]) -> None:
    folder = smoke_run("ablation")
    measured = json.loads((folder / "metrics.json").read_text())["variants"]
    assert set(measured) == set(ablation.variants(folder))
    rows = list(csv.DictReader((folder / "curves.csv").read_text().splitlines()))
    rounds = ablation.config_for(True).rounds
    kinds = 3 * len(measured) - 1
    assert len(rows) == kinds * rounds, "the ceiling meets no odd fleets"
    assert all(float(row["mean"]) <= 1.0 + 1e-9 for row in rows)
    assert (folder / "ablation.png").stat().st_size > 10_000
    assert "Shorter trainings are not here" in (folder / "page.md").read_text()
