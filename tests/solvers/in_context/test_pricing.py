"""Quotes from generated supply curves: what they see, what they must not see, and what ships."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.score import range_of
from edgepact.solvers.in_context import pricing, supply
from edgepact.solvers.in_context.pricing import (
    CAREFUL_AFTER,
    INDEPENDENT,
    WAYS,
    Answers,
    InContext,
    Prices,
)
from edgepact.solvers.quoter import Known
from edgepact.solvers.quoting import REFERENCE, meet, play, reference_fleets

SHIPPED = InContext.shipped()


def known(devices: int = 3, *, integer: bool = False) -> Known:
    return Known(
        saving=1.0,
        layers_max=12,
        price_min=0.05,
        price_max=3.0,
        devices=devices,
        integer=integer,
    )


def some_rounds(rng: np.random.Generator, rounds: int, devices: int) -> tuple[np.ndarray, ...]:
    prices = rng.uniform(0.1, 0.9, rounds)
    layers = np.clip(rng.uniform(0, 12, devices) + 6 * (prices[:, None] - 0.5), 0.0, 12.0)
    return prices, layers


def test_the_reference_prior_is_known_by_its_layers() -> None:
    assert REFERENCE.layers_max == pricing.REFERENCE_LAYERS


def test_the_decider_of_prices_posts_what_the_quoter_would() -> None:
    prices, layers = some_rounds(np.random.default_rng(8), 3, 3)
    decided = Prices(SHIPPED).decide(known(), Answers(prices=prices, layers=layers), 5)
    assert decided.price == SHIPPED.quote(5, known(), prices, layers)
    assert decided.to_dict() == {"price": decided.price, "rounds_seen": 3}
    wrong = Answers(prices=prices, layers=layers + 20.0)
    with pytest.raises(InputError, match="layers"):
        Prices(SHIPPED).decide(known(), wrong, 5)


@pytest.mark.parametrize("integer", [False, True])
def test_the_order_of_devices_changes_no_bit(integer: bool) -> None:
    rng = np.random.default_rng(3)
    for devices in (2, 7, 600):
        prices, layers = some_rounds(rng, 5, devices)
        layers = np.round(layers) if integer else layers
        present = rng.uniform(size=layers.shape) < 0.8
        layers = np.where(present, layers, 0.0)
        order = rng.permutation(devices)
        terms = known(devices, integer=integer)
        first = SHIPPED.quote(5, terms, prices, layers, present)
        assert SHIPPED.quote(5, terms, prices, layers[:, order], present[:, order]) == first


def test_what_is_written_where_a_device_was_away_changes_no_bit() -> None:
    prices, layers = some_rounds(np.random.default_rng(4), 4, 3)
    present = np.ones((4, 3), dtype=bool)
    present[1:3, 2] = False
    other = np.where(present, layers, 7.0)
    first = SHIPPED.quote(5, known(), prices, layers, present)
    assert SHIPPED.quote(5, known(), prices, other, present) == first


def test_quotes_scale_with_what_a_layer_saves() -> None:
    prices, layers = some_rounds(np.random.default_rng(4), 4, 3)
    terms = known()
    # A power of two scales floats without rounding.
    scaled = replace(terms, saving=8.0, price_min=0.4, price_max=24.0)
    for rounds in range(5):
        quote = SHIPPED.quote(5, terms, prices[:rounds], layers[:rounds])
        assert SHIPPED.quote(5, scaled, 8 * prices[:rounds], layers[:rounds]) == 8 * quote


def test_nothing_private_moves_a_quote() -> None:
    """Costs are changed by so little that every whole number of layers stays the same."""
    for index, game in enumerate(reference_fleets(11, 6, integer=True)):
        other = replace(game, fleet=replace(game.fleet, alpha=game.fleet.alpha * (1 + 1e-9)))
        terms = Known.of(game, form=False)
        first = meet(SHIPPED, game, terms, rounds=5, seed=index)
        second = meet(InContext.shipped(), other, terms, rounds=5, seed=index)
        assert np.array_equal(first.layers, second.layers)
        assert np.array_equal(first.price, second.price)


def test_a_seed_gives_the_same_quotes_and_another_seed_others() -> None:
    games = reference_fleets(12, 4, integer=True)
    first, other = (play(SHIPPED, games, rounds=4, seed=seed) for seed in (1, 2))
    # Nothing is remembered but what saves working the same out twice.
    again = play(InContext.shipped(), games, rounds=4, seed=1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0, 13.0])
def test_impossible_answers_are_named(wrong: float) -> None:
    prices, layers = some_rounds(np.random.default_rng(5), 3, 3)
    layers[1, 2] = wrong
    with pytest.raises(InputError, match=r"layers\[1\]\[2\]"):
        SHIPPED.quote(0, known(), prices, layers)


def test_impossible_prices_and_presence_are_named() -> None:
    prices, layers = some_rounds(np.random.default_rng(6), 3, 3)
    with pytest.raises(InputError, match=r"prices\[0\]"):
        SHIPPED.quote(0, known(), np.array([np.nan, *prices[1:]]), layers)
    with pytest.raises(Exception, match="present"):
        SHIPPED.quote(0, known(), prices, layers, np.ones((3, 3)))


def test_where_only_one_price_may_be_posted_it_is_quoted() -> None:
    terms = replace(known(), price_min=1.5)
    assert SHIPPED.quote(0, terms, np.empty(0), np.empty((0, 3))) == 1.5


@pytest.mark.parametrize("integer", [False, True])
def test_quotes_of_any_number_of_rounds_and_devices_are_in_range(integer: bool) -> None:
    rng = np.random.default_rng(7)
    for devices, rounds in ((1, 0), (1, 1), (10_000, 3), (4, 60)):
        prices, layers = some_rounds(rng, rounds, devices)
        layers = np.round(layers) if integer else layers
        for layers_max in (12, 40):
            terms = replace(known(devices, integer=integer), layers_max=layers_max)
            assert 0.05 <= SHIPPED.quote(0, terms, prices, layers) <= 1.0


def test_answers_that_no_fleet_could_give_are_priced_all_the_same() -> None:
    rng = np.random.default_rng(8)
    for integer in (False, True):
        for rounds in (2, 9, 25):
            prices = rng.choice([0.2, 0.4, 0.41, 0.7], rounds)
            layers = rng.integers(0, 13, (rounds, 4)) * 1.0
            quote = SHIPPED.quote(1, known(4, integer=integer), prices, layers)
            assert 0.05 <= quote <= 1.0


def test_what_ships_is_near_the_optimum_at_its_second_quote() -> None:
    """Floors well below what the study measures: damage shows, chance does not."""
    for integer, second, sixth in ((False, 0.95, 0.97), (True, 0.93, 0.92)):
        games = reference_fleets(13, 8, integer=integer)
        shares = play(SHIPPED, games, rounds=6, seed=0).mean(axis=0)
        assert shares[1] > second
        assert shares[5] > sixth
    assert pricing.SHIPPED.stat().st_size < 1_000_000


def test_fleets_unlike_any_it_learned_on_are_priced_as_well() -> None:
    rng = np.random.default_rng(9)
    shares = []
    for _ in range(4):
        devices = int(rng.integers(20, 100))
        fleet = Fleet(
            alpha=np.exp(1.3 + 0.8 * rng.standard_normal(devices)),
            capacity=rng.uniform(4.0, 22.0, devices),
            A=np.ones(devices),
            B=np.full(devices, 0.5),
        )
        game = REFERENCE.game(fleet, integer=True)
        shares.append(play(SHIPPED, [game], rounds=5, seed=1)[0])
    mean = np.mean(shares, axis=0)
    assert mean[1] > 0.93
    assert mean[4] > 0.96
    # Not one of them is quoted a price far worse than its first.
    assert all(np.all(row[1:] > row[0] - 0.05) for row in shares)


def test_a_fleet_that_does_not_change_is_never_quoted_much_worse_again() -> None:
    """After some rounds only what is certain to earn next to the best is posted, for ever."""
    for integer in (False, True):
        for index, game in enumerate(reference_fleets(15, 2, integer=integer)):
            terms = Known.of(game, form=False)
            met = meet(SHIPPED, game, terms, rounds=14, seed=index)
            prices, layers = met.price, met.layers
            for _ in range(2):
                # What is posted again tells nothing new, and the price stays, whatever the round.
                prices = np.concatenate([prices, np.full(95, prices[-1])])
                layers = np.concatenate([layers, np.repeat(layers[-1:], 95, axis=0)])
                last = SHIPPED.quote(index, terms, prices, layers)
                prices = np.append(prices, last)
                layers = np.concatenate([layers, outcome(game, last).layers[None]])
            assert len(prices) >= 200
            shares = range_of(game).share(outcome(game, prices).server_utility)
            best = np.maximum.accumulate(shares)
            assert np.all(shares[CAREFUL_AFTER:] > best[CAREFUL_AFTER:] - 0.01)


def test_surprise_moves_belief_away_from_the_reference_prior() -> None:
    prior = replace(REFERENCE, satisfaction=FAMILIES["exp"])
    moved = 0
    for index, game in enumerate(reference_fleets(16, 4, integer=True, prior=prior)):
        terms = Known.of(game, form=False)
        met = meet(SHIPPED, game, terms, rounds=6, seed=index)
        before = SHIPPED.believed(index, terms, met.price[:0], met.layers[:0])
        after = SHIPPED.believed(index, terms, met.price, met.layers)
        assert set(after) == set(WAYS)
        assert sum(after.values()) == pytest.approx(1.0)
        moved += after["reference"] < before["reference"] / 2
    assert moved >= 2


def test_a_generator_is_written_and_read_back(tmp_path: Path) -> None:
    weights = pricing.load(pricing.SHIPPED)
    pricing.save(tmp_path / "copy.npz", weights)
    copy = pricing.load(tmp_path / "copy.npz")
    assert copy.keys() == weights.keys()
    assert all(np.array_equal(copy[name][0], weights[name][0]) for name in weights)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 nonsense", "text"])
def test_a_damaged_generator_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "policy.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, horizon=np.float64(0.5))
    with pytest.raises(InputError, match=r"policy\.npz"):
        pricing.load(path)


def test_prices_drawn_each_by_itself_are_worse_than_generated_ones() -> None:
    games = reference_fleets(11, 8, integer=True)
    crude = InContext(pricing.load(pricing.SHIPPED), ways=(INDEPENDENT,))
    own, other = (play(each, games, rounds=2, seed=1)[:, 1].mean() for each in (SHIPPED, crude))
    assert other < own - 0.01


@pytest.mark.parametrize("integer", [True, False])
def test_supplies_agree_with_every_answer_of_each_device(integer: bool) -> None:
    public = known(4, integer=integer)
    layers = np.array([[5.0, 0.0, 3.0, 9.0], [8.0, 2.0, 4.0, 12.0]])
    prices = np.array([0.3, 0.6])
    found = SHIPPED.supplies(1, public, prices, layers)
    assert sum(share for _, share in found) == pytest.approx(1.0)
    for sample, _ in found:
        for price, answers in zip(np.log(prices), layers, strict=True):
            # A curve may touch a price that was posted; it does not pass on the wrong side.
            below, above = (supply.each_supply(sample, price + at) for at in (-1e-9, 1e-9))
            assert np.all(below <= answers + 1e-6)
            assert np.all(above >= answers - 1e-6)


def test_supplies_of_more_devices_than_are_drawn_are_refused() -> None:
    with pytest.raises(InputError, match="observed rounds: devices: expected at most 512"):
        SHIPPED.supplies(1, known(513), np.zeros(0), np.zeros((0, 513)))
