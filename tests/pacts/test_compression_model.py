"""Forms and price together as a pact, without its processes: what is read, solved and chosen."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepact.efficiency.halves import FormMeasured, HalvesMeasured
from edgepact.efficiency.model_compression.report import Images
from edgepact.efficiency.profile import CodecCost, LineFit, Profile
from edgepact.errors import InputError
from edgepact.files.scenario import read_scenario
from edgepact.framework import Pact
from edgepact.inference.models import embedded
from edgepact.mechanisms.stackelberg.halves import best_halves
from edgepact.pacts.compression_stackelberg_model import (
    PACT,
    FormsMeasured,
    HalvesCosts,
    HalvesTerms,
    _profile_of,
    devices_of,
    game_of,
    judged_by,
)
from edgepact.solvers.by_name import OPTIMUM
from edgepact.work import Model
from tests.pacts.bought import EXAMPLES

TEXT = (EXAMPLES / "scenario-compressed.toml").read_text()


def form(name: str, seconds: float, gmac: float) -> FormMeasured:
    return FormMeasured(
        name=name,
        weight_bytes=100,
        embed_bytes=10,
        gmac_per_stage=(0.0001, *[gmac] * 12, 0.0001),
        seconds_per_stage=(1e-5, *[seconds] * 12, 1e-5),
        fit=LineFit(A_s=seconds, B_s=1e-5, r_squared=1.0),
        accuracy=0.9,
    )


def measured(terms: HalvesTerms, *, pruned: float = 0.88) -> FormsMeasured:
    """The original, one that is faster, and one that is smaller and less often right."""
    forms = (
        form("original", 4e-5, 8e-4),
        form("int8", 3e-5, 8e-4),
        form("heads", 2e-5, 4e-4),
    )
    accuracy = np.full((3, 3, 13), 0.93)
    accuracy[2, :, 1:] = pruned
    accuracy[:, 2, :-1] = pruned
    assert terms.market is not None
    base = Profile(
        model="m",
        threads=1,
        repeats=1,
        seconds_per_stage=forms[0].seconds_per_stage,
        seconds_per_cut=(1e-5,) * 13,
        gmac_per_stage=forms[0].gmac_per_stage,
        fit=forms[0].fit,
        codecs=(CodecCost(codec="fp16", bytes_per_image=1, encode_s=0.0, decode_s=0.0),),
        pixel_bytes=1,
        vector_bytes=1,
        unit="image",
        step="block",
    )
    return FormsMeasured(
        profile=base,
        devices=devices_of(terms.market),
        split=terms.split,
        market=terms.market,
        halves=HalvesMeasured(model="m", forms=forms, accuracy=accuracy, images=300),
        folders={each.name: Path(each.name) for each in forms},
        images=Images(pixels=np.zeros((1, 1, 28, 28), np.float32), classes=np.zeros(1, np.int64)),
    )


@pytest.fixture(scope="module")
def terms() -> HalvesTerms:
    found: HalvesTerms = read_terms(TEXT)
    return found


def read_terms(text: str, *, smoke: bool = False) -> HalvesTerms:
    terms: HalvesTerms = PACT.read(Path("own.toml"), tomllib.loads(text), smoke=smoke)
    return terms


def test_it_is_a_pact_of_a_model_with_an_inference_job() -> None:
    assert isinstance(PACT, Pact)
    assert PACT.compress == "model"
    assert read_scenario(EXAMPLES / "scenario-compressed.toml").pact is PACT


def test_what_a_scenario_states(terms: HalvesTerms) -> None:
    assert terms.forms.names == ("original", "int8", "weights8", "weights4", "heads")
    assert (terms.cost, terms.accuracy_least) == ("seconds", 0.9)
    assert (terms.forms.share, terms.forms.steps) == (0.5, 400)
    assert (terms.rounds, terms.units, terms.devices) == (4, 8, 0)
    small = read_terms(TEXT, smoke=True)
    assert (small.forms.steps, small.accuracy_least) == (0, 0.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"int8", ', '"int9", ', r"efficiency\.forms: expected one of original"),
        ('"int8", ', '"heads", ', r"efficiency\.forms: expected each form once"),
        ('"seconds"', '"bytes"', r"efficiency\.cost: expected seconds or gmac|one of seconds"),
        ("share = 0.5", "share = 1.5", r"efficiency\.share"),
        ("accuracy_least = 0.9", "accuracy_least = 9", r"efficiency\.accuracy_least"),
        ("share = 0.5", "shares = 0.5", r"efficiency\.shares"),
        ('"integer"', '"continuous"', r"layers: expected 'integer'"),
        ('compress = "model"', 'compress = "update"', r"efficiency\.compress"),
    ],
)
def test_what_it_cannot_state(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(InputError, match=message):
        read_terms(TEXT.replace(old, new))


def test_nothing_is_known_of_forms_before_they_are_measured(terms: HalvesTerms) -> None:
    for step in (PACT.optimum, PACT.decide):
        with pytest.raises(InputError, match=r"efficiency\.forms: expected a run"):
            step(terms, None)


def test_the_optimum_is_the_best_of_all_pairs(terms: HalvesTerms) -> None:
    terms = replace(terms, accuracy_least=0.0)
    known = measured(terms)
    best = PACT.optimum(terms, known)
    problem, _ = game_of(terms, known)
    expected = best_halves(problem)
    assert [(each.device, each.server) for each in best.found] == [
        (each.device, each.server) for each in expected
    ]
    assert best.broken == ()
    pairs, devices, audit = best.sheets
    assert len(pairs.rows) == 9
    assert [row[0] for row in devices.rows] == ["camera", "phone", "drone"]
    assert audit.rows
    decision = PACT.decide(replace(terms, solver=OPTIMUM.name), known)
    assert decision.chosen.server_utility == expected[0].server_utility
    assert decision.asked == {"price": expected[0].price}
    assert decision.to_dict()["device"] == decision.forms[0]
    engaged = decision.engagement(Model(name="m", amount_max=12), 0)
    assert engaged.question(1).price_microcredits == round(expected[0].price * 1e6)


def test_a_solver_that_sees_no_costs_chooses_by_the_prior_and_quotes(terms: HalvesTerms) -> None:
    known = measured(terms, pruned=0.93)
    decision = PACT.decide(replace(terms, solver="golden-section"), known)
    # Where it costs no accuracy the fastest form is best for anybody.
    assert decision.forms == ("heads", "heads")
    assert decision.asked["solver"] == "golden-section"
    assert 0 < decision.asked["saving"] < 1.0
    assert "believed" in decision.sheets[0].title
    other = replace(terms.market.game.fleet, alpha=terms.market.game.fleet.alpha[::-1])
    game = replace(terms.market.game, fleet=other)
    again = replace(known, market=replace(known.market, game=game))
    assert PACT.decide(replace(terms, solver="golden-section"), again).forms == decision.forms


def test_a_layer_that_is_worth_nothing_is_priced_lowest(terms: HalvesTerms) -> None:
    known = measured(replace(terms, accuracy_least=0.0), pruned=0.0)
    decision = PACT.decide(replace(terms, solver="golden-section", accuracy_least=0.0), known)
    spoilt = replace(decision, chosen=replace(decision.chosen, device=2, server=0))
    assert spoilt.asked == {"price": 0.05}


def test_a_floor_leaves_pairs_out(terms: HalvesTerms) -> None:
    known = measured(terms)
    best = PACT.optimum(terms, known)
    assert {(each.device, each.server) for each in best.found} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert best.sheets[0].notes == ("5 pairs fall below the least accuracy.",)
    with pytest.raises(InputError, match=r"efficiency\.accuracy_least: expected at most 0\.93"):
        PACT.optimum(replace(terms, accuracy_least=0.95), known)


def test_operations_are_those_of_both_forms(terms: HalvesTerms) -> None:
    known = measured(terms)
    problem, _ = game_of(replace(terms, accuracy_least=0.0), known)
    pair = next(e for e in best_halves(problem) if (e.device, e.server) == (2, 0))
    costs = _profile_of(known, pair).costs
    assert isinstance(costs, HalvesCosts)
    assert costs.device(3) == pytest.approx(0.0001 + 3 * 4e-4)
    assert costs.server(3) == pytest.approx(9 * 8e-4 + 0.0001)
    assert (costs.device(0), costs.server(12)) == (0.0, 0.0)
    assert costs.server(0) == costs.total == pytest.approx(12 * 8e-4 + 0.0002)


def test_forms_are_judged_by_images_with_classes(terms: HalvesTerms, tmp_path: Path) -> None:
    found = judged_by(replace(terms, smoke=True))
    assert found.pixels.shape == (60, 1, 28, 28)
    assert found.classes is not None
    assert len(set(found.classes.tolist())) == 10
    flat = next(iter((embedded().parent / "samples").glob("*/*.png")))
    (tmp_path / "a.png").write_bytes(flat.read_bytes())
    with pytest.raises(InputError, match=r"job\.images_from: expected images in a folder"):
        judged_by(replace(terms, inputs_from=tmp_path))
