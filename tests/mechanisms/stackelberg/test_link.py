"""What a link costs enters the best response; the exact price against brute force."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.audit import audit_price
from edgepact.mechanisms.stackelberg.benchmarks import first_best, personalised
from edgepact.mechanisms.stackelberg.link import (
    Links,
    Traffic,
    convex_marginals,
    link_costs,
)
from edgepact.mechanisms.stackelberg.optimum import breakpoints, equilibrium
from edgepact.mechanisms.stackelberg.responses import best_response, layer_prices, outcome
from edgepact.mechanisms.stackelberg.terms import Game
from tests.strategies import games, linked_games, numbers

ROUNDING = 1e-7


def utilities(game: Game, device: int, price: float) -> np.ndarray:
    """Of a device at every number of layers, straight from the definition."""
    f = game.fleet
    layers = np.arange(game.layers_max + 1)
    left = f.capacity[device] - f.B[device] - f.A[device] * layers
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = game.satisfaction.value(np.where(left > -1e-9, np.maximum(left, 0.0), 1.0))
    utility = price * layers + f.alpha[device] * kept
    if game.outside_option:
        utility[0] = f.alpha[device] * game.satisfaction.value(f.capacity[device])
    if game.link is not None:
        utility[1:] -= game.link[device]
    return np.where(left >= -1e-9, utility, -np.inf)


def takes_part(game: Game, device: int) -> bool:
    room = game.fleet.capacity[device] - game.fleet.B[device]
    return bool(room > 0 if game.satisfaction.open_at_zero else room >= 0)


def profit(game: Game, price: float) -> float:
    """What the server keeps at a price, over all best responses of all devices."""
    total = 0.0
    for device in range(len(game.fleet)):
        if not takes_part(game, device):
            continue
        utility = utilities(game, device, price)
        best = utility.max()
        ties = np.flatnonzero(utility >= best - 1e-12 * (1 + abs(best)))
        total += max((game.saving[device] - price) * layers for layers in ties)
    return total


@given(linked_games(), st.floats(0.0, 16.0))
def test_no_device_gains_by_deviating(game: Game, price: float) -> None:
    result = outcome(game, price)
    for device in range(len(game.fleet)):
        if not takes_part(game, device):
            assert result.layers[device] == 0
            continue
        utility = utilities(game, device, price)
        got = utility[int(result.layers[device])]
        assert got >= utility.max() - ROUNDING * (1 + abs(utility.max()))
        assert result.device_utility[device] == pytest.approx(got, rel=1e-9, abs=1e-9)


@given(linked_games(devices_max=4))
def test_no_price_is_better_than_the_exact_one(game: Game) -> None:
    best = equilibrium(game)
    without = float(game.revenue - np.sum(game.saving) * game.layers_max)
    kept = float(best.server_utility) - without
    assert game.price_min <= best.price <= game.price_max
    assert kept <= profit(game, float(best.price)) + ROUNDING * (1 + abs(kept))
    jumps = breakpoints(game)
    jumps = jumps[np.isfinite(jumps)]
    near = [jumps - 1e-9, jumps, jumps + 1e-9, [game.price_min, game.price_max]]
    grid = np.concatenate([*near, np.linspace(game.price_min, game.price_max, 101)])
    tried = outcome(game, np.clip(grid, game.price_min, game.price_max)).server_utility - without
    assert tried.max() <= kept + ROUNDING * (1 + abs(kept))


@given(linked_games())
def test_uniform_below_personalised_below_first_best(game: Game) -> None:
    uniform, personal, first = equilibrium(game), personalised(game), first_best(game)
    slack = ROUNDING * (1 + abs(float(first.server_utility)))
    assert uniform.server_utility <= personal.server_utility + slack
    assert personal.server_utility <= first.server_utility + slack


@given(linked_games(devices_max=3))
def test_first_best_is_the_largest_joint_surplus(game: Game) -> None:
    surplus = 0.0
    for device in range(len(game.fleet)):
        if takes_part(game, device):
            joint = utilities(game, device, float(game.saving[device]))
            if np.isfinite(joint[0]):
                surplus += joint.max() - joint[0]
    kept = float(first_best(game).server_utility - game.revenue) + float(
        np.sum(game.saving) * game.layers_max
    )
    assert kept == pytest.approx(surplus, rel=1e-6, abs=1e-6)


@given(games(integer=True))
def test_links_that_cost_nothing_change_nothing(game: Game) -> None:
    free = replace(game, link=np.zeros((len(game.fleet), game.layers_max)))
    one, other = equilibrium(game), equilibrium(free)
    assert float(other.server_utility) == pytest.approx(float(one.server_utility), abs=1e-6)
    before, after = layer_prices(game), layer_prices(free)
    assert np.array_equal(np.isinf(before), np.isinf(after))
    finite = np.isfinite(before)
    scale = 1.0 + game.fleet.alpha.max()
    assert np.abs(before[finite] - after[finite]).max(initial=0.0) <= 1e-6 * scale


@given(st.lists(numbers(-10.0, 10.0), min_size=1, max_size=9), numbers(-12.0, 12.0))
def test_who_counts_the_prices_met_takes_a_best_amount(costs: list[float], price: float) -> None:
    cost = np.array([[0.0, *costs]])
    slopes = convex_marginals(cost)[0]
    assert np.all(np.diff(slopes) >= -1e-9)
    gains = price * np.arange(len(costs) + 1) - cost[0]
    for layers in (np.sum(slopes < price), np.sum(slopes <= price)):
        assert gains[layers] >= gains.max() - 1e-9


def test_what_a_device_cannot_do_is_never_priced() -> None:
    slopes = convex_marginals(np.array([[0.0, 3.0, 2.0, np.inf, np.inf]]))
    assert slopes.tolist() == [[1.0, 1.0, np.inf, np.inf]]


def test_compiled_it_is_the_same() -> None:
    rng = np.random.default_rng(3)
    fleet = Fleet(rng.uniform(2, 6, 5), rng.uniform(8, 14, 5), np.ones(5), np.full(5, 0.5))
    game = Game(fleet, 0.0, 1.0, 0.05, 1.0, layers_max=6, link=rng.uniform(-1, 1, (5, 6)))
    there = jax.tree.map(jnp.asarray, game)
    price = jax.jit(lambda g: equilibrium(g).price)(there)
    assert float(price) == pytest.approx(float(equilibrium(game).price), rel=1e-5)


def test_a_slow_link_whose_time_costs_keeps_a_device_out_or_sends_it_to_the_last_cut() -> None:
    fleet = Fleet(*(np.array([x, x]) for x in (3.0, 14.0, 1.0, 0.5)))
    game = Game(fleet, 0.0, 1.0, 0.0, 2.0, layers_max=4)
    traffic = Traffic(sent_bytes=[2_000, 20_000, 20_000, 20_000, 256])
    links = Links(
        link_mbit=np.array([100.0, 0.25]),
        round_trip_ms=np.array([1.0, 200.0]),
        time_cost=np.array([1.0, 1.0]),
        energy_cost=np.zeros(2),
    )
    linked = replace(game, link=link_costs(links, traffic, np))
    assert best_response(game, 0.22).tolist() == [1.0, 1.0]
    assert best_response(linked, 0.22).tolist() == [1.0, 0.0]
    assert best_response(linked, 0.24).tolist() == [2.0, 4.0]
    # Its image costs more to send than the last vector: all layers, or none, and never between.
    prices = np.linspace(0.0, 2.0, 401)
    assert set(best_response(linked, prices)[:, 1].tolist()) == {0.0, 4.0}


def test_the_cost_is_time_and_energy_beyond_sending_the_image() -> None:
    links = Links(link_mbit=8.0, round_trip_ms=100.0, time_cost=2.0, energy_cost=10.0)
    traffic = Traffic(sent_bytes=[1e6, 3e6], round_trips=[1, 4])
    # 2 MB more at a megabyte a second, three round trips more, 2 MB of energy more.
    assert link_costs(links, traffic, np).tolist() == pytest.approx([2 * (2 + 0.3) + 20])


def test_liars_are_audited_with_their_own_links() -> None:
    rng = np.random.default_rng(5)
    fleet = Fleet(rng.uniform(2, 6, 2), rng.uniform(8, 14, 2), np.ones(2), np.full(2, 0.5))
    game = Game(fleet, 20.0, 1.0, 0.05, 1.0, layers_max=2, link=rng.uniform(-0.2, 0.5, (2, 2)))
    audit = audit_price(game, equilibrium(game))
    assert audit.individually_rational
    assert audit.budget_balanced


def test_links_that_fit_no_game_are_refused() -> None:
    fleet = Fleet([3.0], [9.0], [1.0], [0.5])
    terms = {"revenue": 0.0, "beta": 1.0, "price_min": 0.0, "price_max": 1.0, "layers_max": 3}
    with pytest.raises(InputError, match="continuous layers"):
        Game(fleet, **terms, integer=False, link=np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"shape \(1, 3\)"):
        Game(fleet, **terms, link=np.zeros((1, 2)))
    with pytest.raises(InputError, match="finite"):
        Game(fleet, **terms, link=np.full((1, 3), np.nan))
    with pytest.raises(InputError, match=r"sent_bytes\[2\]"):
        Traffic(sent_bytes=[1.0, -1.0])
    with pytest.raises(InputError, match="round_trips"):
        Traffic(sent_bytes=[1.0, 1.0], round_trips=[1.0])
