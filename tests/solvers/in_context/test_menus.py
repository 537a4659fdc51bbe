"""Menus in context: what is decided, what is kept and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.contract.audit import audit_menu, largest_gain_from_lying
from edgepact.mechanisms.contract.optimum import menu_at, optimal_menu
from edgepact.mechanisms.contract.quality import Log1p, fit_concave
from edgepact.mechanisms.contract.responses import profit, rents
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.solvers.in_context import generator, menus, menus_training, takeup
from edgepact.solvers.in_context.menus import SHIPPED, Menus, Population, load, save
from edgepact.solvers.in_context.menus_training import Course
from edgepact.solvers.in_context.takeup import PastMenu, Public, Rows, TakeUp
from edgepact.studies.contract import Config, past_take_up, priors
from tests.strategies import all_contract_terms, contract_terms

SIZE_MAX = 300_000


def populations(number: int, prior: str = "as trained on") -> list[Contract]:
    rng = np.random.default_rng(77)
    return [priors(Config())[prior].draw(rng) for _ in range(number)]


def three(**other: Any) -> Contract:
    given: dict[str, Any] = {
        "psi": np.array([2.0, 5.0, 1.0]),
        "probability": np.array([0.2, 0.5, 0.3]),
    }
    return Contract(**(given | {"value": Log1p(scale=30.0), "quality_max": 9.0} | other))


def offered(
    quality: list[float], reward: list[float], taken: list[float], declined: float = 0.0
) -> PastMenu:
    columns = (np.array(column, float) for column in (quality, reward, taken))
    names = ("quality", "reward", "taken")
    return PastMenu(**dict(zip(names, columns, strict=True)), declined=declined)


SEEN = TakeUp(
    menus=(
        offered([1.0, 4.0], [5.0, 11.0], [20.0, 11.0]),
        offered([2.0, 6.0], [4.0, 9.5], [9.0, 12.0], 17.0),
    )
)


@given(terms=all_contract_terms())
@settings(max_examples=25, deadline=None)
def test_of_one_known_population_the_menu_is_the_exact_optimum(terms: dict[str, Any]) -> None:
    contract = Contract(**terms)
    order = takeup.order_of(contract)
    columns = (np.asarray(each)[order][None] for each in (contract.psi, contract.probability))
    known = Population(*columns)
    believed = menus.believed_contract(Public(contract=contract), known)
    menu, best = menus.best_menu(believed), optimal_menu(contract)
    assert menu.quality == pytest.approx(best.quality, rel=1e-6, abs=1e-8)
    assert menu.reward == pytest.approx(best.reward, rel=1e-6, abs=1e-8)
    decided = menus.decision_of(believed, menu, devices=0)
    assert decided.profit == pytest.approx(profit(contract, best), rel=1e-7, abs=1e-9)


@given(terms=contract_terms(), learning=st.sampled_from([0.0, 1e-4, 1e-2]))
@settings(max_examples=25, deadline=None)
def test_telling_types_apart_costs_no_more_than_allowed_and_breaks_no_promise(
    terms: dict[str, Any], learning: float
) -> None:
    contract = Contract(**terms)
    best, menu = optimal_menu(contract), menus.best_menu(contract, learning)
    assert profit(contract, menu) >= profit(contract, best) * (1.0 - learning) - 1e-12
    slack = 1e-9 * float(np.max(menu.reward) + 1.0)
    assert largest_gain_from_lying(contract, menu) <= slack
    assert np.min(rents(contract, menu)) >= -slack


def test_types_that_shared_an_item_are_told_apart() -> None:
    contract = three(psi=np.array([3.0, 2.9, 2.8]), probability=np.array([0.4, 0.1, 0.5]))
    assert len(np.unique(optimal_menu(contract).quality)) == 2
    assert len(np.unique(menus.best_menu(contract, 1e-2).quality)) == 3
    level = menus.apart(np.array([0.0, 0.0, 5.0, 9.0, 9.0]), 0.1, 9.0)
    assert np.all(np.diff(level) > 0.09)
    assert level[0] > 0.09
    assert level[-1] <= 9.0


def test_permuting_types_and_rounds_changes_nothing() -> None:
    decider = Menus.shipped()
    whole = decider.decide(Public(contract=three()), SEEN, 3)
    turned = three(psi=np.array([1.0, 2.0, 5.0]))
    back = TakeUp(
        menus=[
            offered(
                *(np.asarray(c)[::-1].tolist() for c in (m.quality, m.reward, m.taken)), m.declined
            )
            for m in reversed(SEEN.menus)
        ]
    )
    again = decider.decide(Public(contract=turned), back, 3)
    for name in ("quality", "reward", "taken", "probability"):
        assert np.array_equal(getattr(whole, name), getattr(again, name)), name
    scaled = three(psi=100.0 * three().psi, value=Log1p(scale=3000.0))
    dearer = TakeUp(menus=[replace(m, reward=100.0 * m.reward) for m in SEEN.menus])
    found = decider.decide(Public(contract=scaled), dearer, 3)
    assert found.quality == pytest.approx(whole.quality, rel=1e-4)


def test_nothing_private_is_read_and_seeds_reproduce() -> None:
    decider = Menus.shipped()
    one = decider.decide(Public(contract=three()), SEEN, 5)
    other = three(probability=np.array([0.9, 0.05, 0.05]))
    two = decider.decide(Public(contract=other), SEEN, 5)
    for name in ("quality", "reward", "taken", "probability", "profit"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    three_ = decider.decide(Public(contract=three()), SEEN, 6)
    assert not np.array_equal(one.probability, three_.probability)


def test_padding_changes_nothing() -> None:
    weights, rows = load(SHIPPED), takeup.read(Public(contract=three()), SEEN)

    def padded(column: np.ndarray, value: float = 0.0) -> np.ndarray:
        wide = [(0, 0)] * (column.ndim - 1) + [(0, 4)]
        return np.pad(column, wide, constant_values=value)

    more = Rows(
        padded(rows.low, 0.0),
        padded(rows.high, 0.0),
        padded(rows.types),
        rows.told,
        type(rows.counts)(*(padded(part) for part in rows.counts)),
        rows.reference,
    )
    seen, seen_more = takeup.intervals(rows), takeup.intervals(more)
    assert seen_more.features[:3] == pytest.approx(seen.features, rel=1e-6, abs=1e-6)
    assert not seen_more.features[3:].any()
    base = menus.grounds(weights, rows, seen).base
    assert menus.grounds(weights, more, seen_more).base[:3] == pytest.approx(base, abs=1e-5)


def test_samples_agree_with_what_was_counted() -> None:
    drawn = Menus.shipped().population(Public(contract=three()), SEEN, 0)
    assert drawn.frequency.sum(axis=1) == pytest.approx(np.ones(len(drawn.frequency)))
    many = TakeUp(
        menus=[replace(m, taken=100 * m.taken, declined=100 * m.declined) for m in SEEN.menus]
    )
    sure = Menus.shipped().population(Public(contract=three()), many, 0).frequency
    # In both rounds types of cost 5 took the least item or none, if in unlike shares.
    assert np.all(np.abs(sure[:, 0] - 37.0 / 69.0) < 0.08)
    assert np.std(sure[:, 0]) < 0.5 * np.std(drawn.frequency[:, 0])


def test_rounds_that_divide_types_alike_count_as_one() -> None:
    one = offered([1.0, 4.0], [5.0, 11.0], [20.0, 11.0])
    parts = [
        offered([1.0, 4.0], [5.0, 11.0], [15.0, 1.0]),
        offered([2.0, 5.0], [10.0, 16.0], [5.0, 10.0]),
    ]
    public = Public(contract=three())
    whole = takeup.read(public, TakeUp(menus=[one]))
    again = takeup.read(public, TakeUp(menus=parts))
    assert np.array_equal(whole.counts.taken, again.counts.taken)
    many = takeup.read(public, TakeUp(menus=[one] * 400))
    assert many.counts.taken.sum() == 400 * 31
    assert many.counts.taken.shape == whole.counts.taken.shape


def test_menus_of_many_items_divide_a_range_into_no_more_rows_than_there_is_room_for() -> None:
    ends = three(psi=np.array([6.0, 0.8]), probability=np.array([0.5, 0.5]))
    public, decider, past = Public(contract=ends, types_told=False), Menus.shipped(), []
    true = three()
    for _ in range(3):
        decision = decider.decide(public, TakeUp(menus=past), 0)
        item = menus.offered_to(true, decision).quality
        taken = np.array([40.0 * np.sum(item == each) for each in decision.quality])
        seen = offered(decision.quality.tolist(), decision.reward.tolist(), taken.tolist())
        past.append(replace(seen, declined=120.0 - float(taken.sum())))
    rows = takeup.read(public, TakeUp(menus=past))
    assert len(rows.types) <= takeup.ROWS_MAX
    assert rows.counts.taken.sum() == pytest.approx(360.0)


def test_costs_that_are_not_told_are_generated_in_their_stretches() -> None:
    ends = three(psi=np.array([6.0, 0.8]), probability=np.array([0.5, 0.5]))
    public = Public(contract=ends, types_told=False)
    rows = takeup.read(public, SEEN)
    drawn = Menus.shipped().population(public, SEEN, 0)
    assert np.all(np.exp(rows.low) - 1e-9 <= drawn.cost)
    assert np.all(drawn.cost <= np.exp(rows.high) + 1e-9)
    assert np.allclose(rows.high[1:], rows.low[:-1])
    # Bounds of both menus divide rows: 5, 2, (9.5 - 4) / 4.
    for bound in (5.0, 2.0, 1.375):
        assert np.any(np.isclose(np.exp(rows.low), bound)), bound
    decided = Menus.shipped().decide(public, SEEN, 0)
    true = three(psi=np.array([1.8, 4.5, 1.2]), probability=np.array([0.25, 0.5, 0.25]))
    menu = menus.offered_to(true, decided)
    assert audit_menu(true, menu).individually_rational
    assert profit(true, menu) > 0.8 * profit(true, optimal_menu(true))


def test_with_little_seen_it_earns_more_than_the_most_likely_frequencies_do() -> None:
    decider, rng = Menus.shipped(), np.random.default_rng(5)
    own, plugged = [], []
    for contract in populations(25):
        counts, seen = past_take_up(rng, contract, 3, 10)
        guess = np.maximum(takeup.frequencies(counts, np.ones(len(contract.psi))), 1e-9)
        best = profit(contract, optimal_menu(contract))
        found = decider.frequencies(Public(contract=contract), seen, 0)
        own.append(profit(contract, optimal_menu(replace(contract, probability=found))) / best)
        plug_in = optimal_menu(replace(contract, probability=guess / guess.sum()))
        plugged.append(profit(contract, plug_in) / best)
    assert np.mean(own) > np.mean(plugged) + 0.002
    assert np.mean(own) > 0.975


def test_a_measured_value_function_a_budget_and_a_single_type_are_served() -> None:
    value = fit_concave(np.array([0.0, 0.1, 0.4, 1.0]), np.array([0.1, 0.7, 0.8, 0.85]))
    decider = Menus.shipped()
    measured = three(psi=np.array([1.0, 0.7, 0.3]), value=value, quality_max=1.0)
    assert len(decider.decide(Public(contract=measured), TakeUp(), 0).quality) > 0
    short = decider.decide(Public(contract=three(budget=2.0, participation_cost=0.1)), TakeUp(), 0)
    assert np.sum(short.taken * short.chance * short.reward) <= 2.0 + 1e-6
    one = Contract(
        psi=np.array([2.0]), probability=np.array([1.0]), value=Log1p(scale=10.0), quality_max=9.0
    )
    alone = decider.decide(Public(contract=one), TakeUp(), 0)
    best = optimal_menu(one)
    assert alone.quality == pytest.approx(best.quality)
    assert alone.reward == pytest.approx(best.reward)
    assert alone.taken == pytest.approx([1.0])


def test_what_cannot_have_been_answered_is_refused() -> None:
    decider, public = Menus.shipped(), Public(contract=three())
    impossible = {
        # Cheaper and better: nobody takes the first item.
        r"round\[1\]\.taken\[1\]: expected 0 devices": offered([1.0, 2.0], [3.0, 30.0], [1.0, 5.0]),
        # It pays the dearest type, too.
        r"round\[1\]\.declined: expected 0 devices": offered([1.0], [6.0], [4.0], 1.0),
        # Only a cost of 1.5 would take it, and there is no such type.
        r"round\[1\]\.taken\[2\]": offered([1.0, 2.0, 3.0], [5.0, 6.6, 8.0], [2.0, 2.0, 2.0]),
        r"round\[1\]\.taken\[1\]: expected a whole": offered([1.0], [6.0], [0.5]),
        r"round\[1\]\.quality\[1\]": offered([10.0], [60.0], [1.0]),
        r"round\[1\]\.reward\[1\]": offered([1.0], [np.nan], [1.0]),
    }
    for message, menu in impossible.items():
        with pytest.raises(InputError, match=message):
            decider.decide(public, TakeUp(menus=[menu]), 0)
    with pytest.raises(InputError, match="sizes lie closer together"):
        decider.decide(Public(contract=three(value=Log1p(scale=1e308))), TakeUp(), 0)
    with pytest.raises(InputError, match="two ends of a range"):
        Public(contract=three(), types_told=False)


def test_menus_written_for_types_are_read_as_they_were_meant() -> None:
    for contract in populations(10):
        menu = optimal_menu(contract)
        taken = np.round(1000.0 * np.asarray(contract.probability))
        past = PastMenu(quality=menu.quality, reward=menu.reward, taken=taken)
        rows = takeup.read(Public(contract=contract), TakeUp(menus=[past]))
        starts = np.flatnonzero(np.concatenate([[True], np.diff(menu.quality) != 0]))
        # Types that shared an item are one row.
        assert rows.counts.first[0].tolist() == [1.0] * len(starts)
        assert rows.types.tolist() == np.diff(np.append(starts, len(taken))).tolist()
        assert rows.counts.taken[0] == pytest.approx(np.add.reduceat(taken, starts))


def test_what_types_take_of_a_menu_that_tells_them_apart_is_read_as_meant() -> None:
    for contract in [*populations(20), three(psi=np.array([2.0, 2.0, 1.99999]))]:
        menu = menus.best_menu(contract, 1e-3)
        taken = np.arange(10.0, 10.0 + len(menu.quality))
        past = PastMenu(quality=menu.quality, reward=menu.reward, taken=taken)
        rows = takeup.read(Public(contract=contract), TakeUp(menus=[past]))
        assert np.sum(rows.counts.taken) == np.sum(taken)
        assert len(rows.types) == len(np.unique(menu.quality))


def test_bounds_follow_from_runs_that_overlap() -> None:
    contract = three(psi=np.array([5.0, 3.0, 1.0]))
    # The first menu tells the dearest from the others, the second the cheapest.
    menus_seen = [
        offered([1.0, 2.0], [5.5, 9.5], [4000.0, 6000.0]),
        offered([1.0, 2.0], [5.5, 7.5], [7000.0, 3000.0]),
    ]
    rows = takeup.read(Public(contract=contract), TakeUp(menus=menus_seen))
    seen = takeup.intervals(rows)
    assert rows.types.tolist() == [1.0, 1.0, 1.0]
    for truth, low, high in zip((0.4, 0.3, 0.3), np.exp(seen.low), np.exp(seen.high), strict=True):
        assert truth - 0.06 < low < truth < high < truth + 0.06


def test_whatever_prices_are_no_promise_is_broken() -> None:
    rng = np.random.default_rng(2)
    for contract in populations(20):
        menu: Menu = menu_at(contract, rng.uniform(0.1, 9.0, len(contract.psi)))
        slack = 1e-9 * float(menu.reward.max() + 1.0)
        assert largest_gain_from_lying(contract, menu) <= slack
        assert np.min(rents(contract, menu)) >= -slack
    with pytest.raises(InputError, match="prices above 0"):
        menu_at(contract, np.zeros(len(contract.psi)))


def test_the_file_is_small_and_comes_back_as_it_was(tmp_path: Path) -> None:
    assert SHIPPED.stat().st_size < SIZE_MAX
    assert SHIPPED.with_suffix(".md").is_file()
    weights = load(SHIPPED)
    save(tmp_path / "again.npz", weights)
    again = load(tmp_path / "again.npz")
    for name, (weight, bias) in weights.items():
        assert np.array_equal(again[name][0], weight)
        assert np.array_equal(again[name][1], bias)
    (tmp_path / "bad.npz").write_bytes(b"no weights")
    for name in ("bad.npz", "missing.npz"):
        with pytest.raises(InputError, match="a trained generator of take-up"):
            load(tmp_path / name)


def test_pools_hold_the_truth_within_its_intervals() -> None:
    pool = menus_training.make_pool(9, Course(), 400)
    matters = np.asarray(pool.matters) > 0
    position = np.asarray(pool.position)
    assert np.mean(position[matters] < 1.0) > 0.99
    # Below lies next to nobody, but for a marvel.
    assert np.mean(position[..., 0][matters[..., 0]] > -1.0) > 0.85
    assert np.all(np.isfinite(np.asarray(pool.features)))
    shape = (400, menus_training.ROWS, takeup.FEATURES)
    assert pool.features.shape == shape


@pytest.mark.full
def test_training_learns() -> None:
    import jax

    course = Course(populations=2000, updates=300, batch=32)
    weights = menus_training.train(0, course)
    assert set(weights) == set(generator.sizes(takeup.FEATURES, takeup.POSITIONS))
    shown = menus_training.make_pool(9, course, 200)

    def missed(weights: Any) -> float:
        return float(menus_training.loss(weights, shown, jax.random.key(1), 2))

    assert missed(weights) < 0.7 * missed(menus_training.initial_weights(0))
