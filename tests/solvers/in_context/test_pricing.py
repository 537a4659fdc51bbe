"""The in-context policy: what it sees, what it must not see, and what ships."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.mechanisms.stackelberg.score import range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.in_context import pricing as quoting
from edgepact.solvers.in_context.pricing import DEVICES_LEARNED, SIDE, InContext, Scene
from edgepact.solvers.in_context.pricing_training import (
    Course,
    Pool,
    _missed,
    _row,
    _supply,
    broad_game,
    reference_game,
    train_policy,
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


def scene(rng: np.random.Generator, rounds: int, devices: int, batch: int = 4) -> Scene:
    price = rng.uniform(0.1, 0.9, (batch, rounds)).round(1)
    layers = rng.uniform(size=(batch, rounds, devices))
    parts = [
        price,
        layers,
        (rng.uniform(size=layers.shape) < 0.8) * 1.0,
        (np.arange(rounds) < rng.integers(0, rounds + 1, (batch, 1))) * 1.0,
        *(np.full(batch, value) for value in (0.05, 1.0, 3.0, 12.0, 0.0, devices)),
    ]
    return Scene(*(np.asarray(part, np.float32) for part in parts))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 5))
def test_knots_are_the_best_round_and_its_neighbours(seed: int, rounds: int, devices: int) -> None:
    seen = scene(np.random.default_rng(seed), rounds, devices)
    at = quoting.knots(seen)
    for row in range(len(seen.price)):
        played = int(seen.played[row].sum())
        there = seen.present[row, :played]
        supply = (seen.layers[row, :played] * there).sum(1) / np.maximum(there.sum(1), 1)
        price = seen.price[row, :played]
        assert at.exists[row, SIDE] == (played > 0)
        if played == 0:
            continue
        gain = (1 - price) * supply
        assert at.gain[row, SIDE] == pytest.approx(gain.max(), abs=1e-5)
        best = at.price[row, SIDE]
        below = np.unique(price[price < best])[::-1][:SIDE][::-1]
        above = np.unique(price[price > best])[:SIDE]
        assert np.array_equal(at.price[row, :SIDE][at.exists[row, :SIDE] > 0], below)
        assert np.array_equal(at.price[row, SIDE + 1 :][at.exists[row, SIDE + 1 :] > 0], above)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_actions_cover_the_range_in_order_and_can_be_inverted(seed: int, rounds: int) -> None:
    seen = scene(np.random.default_rng(seed), rounds, 2)
    at = quoting.knots(seen)
    actions = np.tile(np.linspace(-1, 1, 41, dtype=np.float32), (4, 1))
    prices = quoting.price_of(seen, at, actions)
    assert np.all(np.diff(prices) >= -1e-6)
    assert np.allclose(prices[:, 0], seen.low)
    assert np.allclose(prices[:, -1], seen.top)
    assert np.array_equal(
        prices[:, 20][at.exists[:, SIDE] > 0], at.price[:, SIDE][at.exists[:, SIDE] > 0]
    )
    again = quoting.price_of(seen, at, quoting.action_of(seen, at, prices))
    assert np.allclose(again, prices, atol=1e-4)


def test_numpy_and_jax_decide_alike() -> None:
    seen = scene(np.random.default_rng(1), 6, 3)
    weights = quoting.load(quoting.SHIPPED).weights
    at = quoting.knots(seen)
    there = quoting.context(weights, seen, at)
    compiled = jax.jit(lambda s: quoting.context(weights, s, quoting.knots(s)))
    assert np.allclose(there, compiled(jax.tree.map(jnp.asarray, seen)), atol=2e-3)


def test_padding_changes_nothing() -> None:
    seen = scene(np.random.default_rng(2), 6, 3)
    wide = seen._replace(
        layers=np.pad(seen.layers, ((0, 0), (0, 0), (0, 5))),
        present=np.pad(seen.present, ((0, 0), (0, 0), (0, 5))),
    )
    long = wide._replace(
        price=np.pad(wide.price, ((0, 0), (0, 4)), constant_values=0.5),
        played=np.pad(wide.played, ((0, 0), (0, 4))),
        layers=np.pad(wide.layers, ((0, 0), (0, 4), (0, 0)), constant_values=0.3),
        present=np.pad(wide.present, ((0, 0), (0, 4), (0, 0)), constant_values=1.0),
    )
    weights = quoting.load(quoting.SHIPPED).weights
    expected = quoting.context(weights, seen, quoting.knots(seen))
    for padded in (wide, long):
        found = quoting.context(weights, padded, quoting.knots(padded))
        assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("integer", [False, True])
def test_the_order_of_devices_changes_no_bit(integer: bool) -> None:
    rng = np.random.default_rng(3)
    for devices in (2, 7, 300):
        prices, layers = some_rounds(rng, 5, devices)
        layers = np.round(layers) if integer else layers
        present = rng.uniform(size=layers.shape) < 0.8
        layers = np.where(present, layers, 0.0)
        order = rng.permutation(devices)
        terms = known(devices, integer=integer)
        first = SHIPPED.quote(5, terms, prices, layers, present)
        assert SHIPPED.quote(5, terms, prices, layers[:, order], present[:, order]) == first


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
    for index, game in enumerate(reference_fleets(11, 20, integer=True)):
        other = replace(game, fleet=replace(game.fleet, alpha=game.fleet.alpha * (1 + 1e-9)))
        terms = Known.of(game, form=False)
        first = meet(SHIPPED, game, terms, rounds=6, seed=index)
        second = meet(SHIPPED, other, terms, rounds=6, seed=index)
        assert np.array_equal(first.layers, second.layers)
        assert np.array_equal(first.price, second.price)


def test_a_seed_gives_the_same_quotes_and_another_seed_others() -> None:
    games = reference_fleets(12, 10, integer=True)
    first, again, other = (play(SHIPPED, games, rounds=4, seed=seed) for seed in (1, 1, 2))
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


def test_quotes_of_any_number_of_rounds_and_devices_are_in_range() -> None:
    rng = np.random.default_rng(7)
    for devices, rounds in ((1, 0), (1, 1), (10_000, 3), (4, 60)):
        prices, layers = some_rounds(rng, rounds, devices)
        quote = SHIPPED.quote(0, known(devices), prices, layers)
        assert 0.05 <= quote <= 1.0


def test_what_ships_is_near_the_optimum_at_its_second_quote() -> None:
    """Floors well below what the study measures: damage shows, chance does not."""
    for integer, second, sixth in ((False, 0.98, 0.997), (True, 0.94, 0.96)):
        games = reference_fleets(13, 150, integer=integer)
        shares = play(SHIPPED, games, rounds=6, seed=0).mean(axis=0)
        assert shares[1] > second
        assert shares[5] > sixth
    assert quoting.SHIPPED.stat().st_size < 2_000_000


@pytest.mark.parametrize("integer", [False, True])
def test_fleets_far_larger_than_any_it_learned_on_are_priced_as_well(integer: bool) -> None:
    """With all its devices counted, some of these were quoted prices worth a third."""
    rng = np.random.default_rng([20_313, 1000])
    games = [REFERENCE.game(REFERENCE.fleet(rng, 1000), integer=integer) for _ in range(20)]
    shares = play(SHIPPED, games, rounds=8, seed=1)
    assert np.all(shares[:, 3:] > 0.97)


def test_a_policy_is_written_and_read_back(tmp_path: Path) -> None:
    policy = quoting.load(quoting.SHIPPED)
    quoting.save(tmp_path / "copy.npz", policy)
    copy = quoting.load(tmp_path / "copy.npz")
    assert copy.horizon == policy.horizon
    assert np.array_equal(copy.weights["context_in"][0], policy.weights["context_in"][0])


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 nonsense", "text"])
def test_a_damaged_policy_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "policy.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, horizon=np.float64(0.5))
    with pytest.raises(InputError, match=r"policy\.npz"):
        quoting.load(path)


def a_row(game: Game) -> Pool | None:
    row = _row(game)
    return None if row is None else Pool(*(jnp.asarray(part, jnp.float32) for part in row))


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1))
def test_the_pool_holds_the_exact_games(seed: int) -> None:
    rng = np.random.default_rng(seed)
    game = reference_game(rng) if rng.uniform() < 0.3 else broad_game(rng)
    row = a_row(game)
    if row is None:
        return
    prices = np.linspace(float(game.price_min) * 1.01, min(float(game.price_max), 1.0), 30)
    exact = outcome(game, prices)
    found = np.asarray(_supply(row, jnp.asarray(prices)))[:, : len(game.fleet)]
    # Single precision may put a price on the other side of a threshold.
    assert np.mean(~np.isclose(found, exact.layers, rtol=2e-3, atol=2e-3)) < 0.03
    here = jnp.asarray(np.arange(DEVICES_LEARNED) < len(game.fleet), jnp.float32)
    padded = np.pad(exact.layers, ((0, 0), (0, DEVICES_LEARNED - len(game.fleet))))
    missed = np.asarray(_missed(row, here, jnp.asarray(prices), jnp.asarray(padded)))
    expected = np.clip(1.0 - range_of(game).share(exact.server_utility), 0.0, 2.0)
    # The pool averages random prices over fewer cells than the score does.
    assert np.allclose(missed, expected, atol=0.03)


@pytest.mark.slow
def test_a_short_training_learns_to_quote() -> None:
    course = Course(fleets=1500, reference_share=1.0, updates=800, games=128)
    policy = train_policy(0, course)
    shares = play(InContext(policy), reference_fleets(14, 100, integer=False), rounds=4, seed=0)
    assert shares.mean(axis=0)[3] > 0.98


@pytest.mark.slow
def test_training_reproduces_from_its_seed_to_the_bit() -> None:
    course = Course(fleets=20, reference_share=0.5, updates=3, games=8)
    first, again = (train_policy(7, course, chunk=3) for _ in range(2))
    for name, (weight, bias) in first.weights.items():
        assert np.array_equal(weight, again.weights[name][0])
        assert np.array_equal(bias, again.weights[name][1])
