"""The study of robustness: what was left out of training, and its marks on made-up figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgepact.solvers.in_context.curves_training import EVERY_FAMILY
from edgepact.solvers.in_context.pricing import SHIPPED
from edgepact.studies import STUDIES
from edgepact.studies.asked import Asked
from edgepact.studies.methods import GDM
from edgepact.studies.odd_fleets import odd_fleets
from edgepact.studies.quoting import KINDS
from edgepact.studies.robustness import (
    UNSEEN,
    WITHOUT,
    Case,
    Config,
    Found,
    Met,
    cases,
    fell,
    quoters,
    trained_without,
    verdicts,
)


def met(*means: float) -> Met:
    posted = np.tile(means, (3, 1))
    return Met(posted, np.maximum.accumulate(posted, axis=1))


def of_case(case: Case, **methods: Met) -> tuple[Found, dict[str, Case]]:
    names = {"ship": GDM, "unseen": UNSEEN}
    of_kind = {names[name]: each for name, each in methods.items()}
    return {"it": dict.fromkeys(KINDS, of_kind)}, {"it": case}


def a_case(family: str | None = None, layers: int | None = None) -> Case:
    return Case("", lambda integer: [], family=family, layers=layers)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_each_family_is_left_out_of_its_own_training_alone(family: str) -> None:
    assert set(WITHOUT[family].families) == set(EVERY_FAMILY) - {family}


def test_a_generator_takes_part_where_its_family_is_met(tmp_path: Path) -> None:
    named = cases(Config())
    trained_without(tmp_path, "exp").write_bytes(SHIPPED.read_bytes())
    there = [name for name, case in named.items() if UNSEEN in quoters(tmp_path, case)]
    assert there == ["satisfaction exp"]


class TestMarks:
    def test_the_generator_that_has_not_seen_it_is_held_at_the_third_quote(self) -> None:
        found = of_case(a_case("log"), ship=met(0.9, 0.9, 0.5), unseen=met(0.1, 0.1, 0.9701))
        assert [each.reached for each in verdicts(*found)] == [True, True]
        found = of_case(a_case("log"), ship=met(0.9, 0.9, 0.99), unseen=met(0.1, 0.1, 0.969))
        assert [each.reached for each in verdicts(*found)] == [False, False]

    def test_exp_is_held_again_at_the_eighth(self) -> None:
        posted = met(0.5, 0.5, 0.9001, 0.9, 0.9, 0.9, 0.9, 0.979)
        held = verdicts(*of_case(a_case("exp"), unseen=posted))
        assert [each.reached for each in held] == [True, False] * 2

    def test_odd_fleets_at_the_second_and_from_the_fifth_and_never_far_below_the_first(
        self,
    ) -> None:
        good = met(0.985, 0.9851, 0.976, 0.98, 0.9901, 0.9901)
        assert all(each.reached for each in verdicts(*of_case(a_case(layers=12), ship=good)))
        bad = met(0.99, 0.984, 0.97, 0.98, 0.99, 0.989)
        assert not any(each.reached for each in verdicts(*of_case(a_case(layers=12), ship=bad)))

    def test_without_a_training_nothing_is_claimed(self) -> None:
        assert verdicts(*of_case(a_case("exp"), ship=met(0.9, 0.9, 0.9))) == []


def test_fleets_that_fell_are_counted() -> None:
    posted = np.array([[0.9, 0.95, 0.895], [0.9, 0.95, 0.88], [0.9, 0.88, 0.99], [0.5, 0.6, 0.7]])
    assert fell(posted) == 0.5


def test_odd_fleets_are_the_same_whatever_the_layers() -> None:
    one, other = (odd_fleets(3, 4, layers_max=k, integer=k == 12) for k in (12, 24))
    for smaller, larger in zip(one, other, strict=True):
        assert 20 <= len(smaller.fleet) <= 200
        np.testing.assert_array_equal(smaller.fleet.alpha, larger.fleet.alpha)
        np.testing.assert_array_equal(smaller.fleet.capacity, larger.fleet.capacity)
        assert (smaller.layers_max, larger.layers_max) == (12, 24)
        assert smaller.integer
        assert not larger.integer


@pytest.mark.slow
def test_the_study_in_small(tmp_path: Path) -> None:
    trained_without(tmp_path, "exp").write_bytes(SHIPPED.read_bytes())
    STUDIES["robustness"](tmp_path, Asked(smoke=True))
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert list(figures["cases"]) == list(cases(Config()))
    assert UNSEEN in figures["cases"]["satisfaction exp"]["integer"]
    assert {each["what"].split(":")[0] for each in figures["marks"]} >= {
        "`exp` left out of training, integer",
        "odd fleets, 24 layers, continuous",
    }
    page = (tmp_path / "page.md").read_text()
    assert "edgepact study robustness --train --smoke" in page
    assert "Not here, since it takes `--train`: generators without `log1p`, `log`, `sqrt`." in page
