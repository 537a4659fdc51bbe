"""Menus of (layers, reward): exact against brute force, in their order, and kept to."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from edgepact.errors import InputError
from edgepact.mechanisms.contract.layer_menu_program import (
    cheapest_rewards,
    climbed_menu,
    first_best_profit,
    lottery_profit,
    optimal_layer_menu,
    posted_price_menu,
)
from edgepact.mechanisms.contract.layer_menus import (
    SampledTypes,
    audit_layer_menu,
    play_menu,
    types_of,
)
from edgepact.mechanisms.stackelberg.layer_pricing import (
    has_common_order,
    optimal_schedule,
    schedule_outcome,
)
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import layers_cap, outcome
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES, Log1p
from edgepact.mechanisms.stackelberg.terms import Game
from tests.strategies import games, numbers, ordered_games

LONG = 60.0
"""Seconds no search here comes near to, however busy the machine is."""


@st.composite
def sampled_types(
    draw: st.DrawFn, *, types_max: int = 5, layers_max: int = 4, convex: bool | None = None
) -> SampledTypes:
    """Costs that rise, convex or not, some impossible, and coincidences of all kinds."""
    count, items = draw(st.integers(1, types_max)), draw(st.integers(1, layers_max))
    column = st.lists(numbers(0.0, 4.0), min_size=items, max_size=items)
    steps = np.array(draw(st.lists(column, min_size=count, max_size=count)))
    if draw(st.booleans()) if convex is None else convex:
        steps = np.sort(steps, axis=1)
    cost = np.concatenate([np.zeros((count, 1)), np.cumsum(steps, axis=1)], axis=1)
    cap = np.array(draw(st.lists(st.integers(0, items), min_size=count, max_size=count)))
    many = st.lists(numbers(0.25, 4.0), min_size=count, max_size=count)
    saving = np.array(draw(many)) if draw(st.booleans()) else np.full(count, draw(numbers(0, 4)))
    return SampledTypes(
        cost=np.where(np.arange(items + 1) <= cap[:, None], cost, np.inf),
        saving=saving,
        weight=np.array(draw(many)),
    )


def by_every_assignment(types: SampledTypes, budget: float | None = None) -> float:
    """The best menu by brute force: any types to any layers, rewards by a linear program each.

    Finitely many suffice. For given layers the rewards that keep all promises form a lattice, so
    there is a least one, and it both earns most and spends least.
    """
    count, items = types.cost.shape
    best = 0.0
    for layers in product(range(items), repeat=count):
        own = types.cost[np.arange(count), layers]
        if np.any(np.isinf(own)):
            continue
        rows, limits = [], []
        for m in range(count):
            for other in set(layers) | {0}:
                if other == layers[m] or np.isinf(types.cost[m, other]):
                    continue
                row = np.zeros(items)
                row[other] += 1.0
                row[layers[m]] -= 1.0
                rows.append(row)
                limits.append(types.cost[m, other] - own[m])
        pays = np.bincount(layers, weights=types.weight, minlength=items)
        bounds = [(0.0, 0.0)] + [(0.0, None)] * (items - 1)
        if rows:
            found = linprog(pays, A_ub=np.array(rows), b_ub=np.array(limits), bounds=bounds)
            if found.status != 0:
                continue
            paid = found.fun
        else:
            paid = 0.0
        if budget is None or paid <= budget * (1 + 1e-9):
            best = max(best, float(types.weight @ (types.saving * layers)) - paid)
    return best


@settings(max_examples=25)
@given(sampled_types(types_max=3, layers_max=3), st.sampled_from([None, 0.5, 2.0, 10.0]))
def test_no_assignment_of_layers_earns_more(types: SampledTypes, budget: float | None) -> None:
    menu = optimal_layer_menu(types, budget=budget, time_limit_s=LONG)
    assert menu.profit == pytest.approx(by_every_assignment(types, budget), rel=1e-6, abs=1e-6)
    assert menu.gap <= 1e-6 * max(menu.upper_bound, 1.0)
    assert budget is None or menu.payments <= budget * (1 + 1e-9)


@pytest.mark.parametrize(
    "cost",
    [
        [[0.0, 0.0, 3.0], [0.0, 0.0, 3.0]],  # alike in all
        [[0.0, 1.0, 4.0], [0.0, 2.0, 5.0]],  # alike in the second layer, the poorer buy first
    ],
)
def test_of_types_that_bear_the_same_for_a_layer_those_run_it_that_save_most(
    cost: list[list[float]],
) -> None:
    types = SampledTypes(
        cost=np.array(cost), saving=np.array([2.0, 4.0]), weight=np.array([1.0, 1.0])
    )
    menu = optimal_layer_menu(types, time_limit_s=LONG)
    assert menu.layers.tolist() == [1, 2]
    assert menu.profit == pytest.approx(by_every_assignment(types, None), abs=1e-9)


@settings(max_examples=40)
@given(sampled_types(), st.sampled_from([None, None, 1.0, 5.0]))
def test_each_way_of_paying_earns_at_least_as_much_as_the_one_before(
    types: SampledTypes, budget: float | None
) -> None:
    menu = optimal_layer_menu(types, budget=budget, time_limit_s=LONG)
    climbed = climbed_menu(types, budget=budget)
    slack = 1e-6 * max(1.0, first_best_profit(types))
    assert 0.0 <= menu.posted_profit <= climbed.profit + slack
    assert climbed.profit <= menu.profit + slack
    assert menu.profit <= lottery_profit(types, budget=budget) + slack
    assert menu.lottery_profit is not None
    assert menu.lottery_profit <= menu.first_best_profit + slack
    assert menu.lottery_gain == pytest.approx(menu.lottery_profit - menu.profit, abs=slack)
    if budget is not None:
        without = optimal_layer_menu(types, time_limit_s=LONG)
        assert menu.profit <= without.profit + slack
        assert menu.first_best_profit <= without.first_best_profit + slack


@settings(max_examples=40)
@given(sampled_types(), st.sampled_from([None, 2.0]))
def test_the_menu_keeps_its_promises(types: SampledTypes, budget: float | None) -> None:
    menu = optimal_layer_menu(types, budget=budget, time_limit_s=LONG)
    audit = audit_layer_menu(menu.reward, menu.layers, types, budget=budget)
    assert audit.individually_rational
    assert audit.incentive_compatible
    assert audit.budget_balanced
    taken = play_menu(menu.reward, types)
    if budget is None:
        assert np.array_equal(taken.layers, menu.layers)
        assert taken.profit == menu.profit
    # Every item on the menu is taken by somebody, and pays its cost at least.
    assert {layers for layers, _ in menu.items()} == set(menu.layers.tolist()) - {0}


@settings(max_examples=30)
@given(sampled_types(types_max=4), st.randoms(use_true_random=False))
def test_order_copies_and_types_that_do_not_occur_change_nothing(
    types: SampledTypes, random: object
) -> None:
    menu = optimal_layer_menu(types, time_limit_s=LONG)
    order = list(range(len(types.weight)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = np.array([*order, *order, *order])
    half = np.concatenate([types.weight[order] / 4, 0 * types.weight, types.weight[order] * 3 / 4])
    cost = types.cost[again]
    cost[len(order) : 2 * len(order), 1:] = 0.0  # who would work for nothing, were it there
    other = SampledTypes(cost=cost, saving=types.saving[again], weight=half)
    found = optimal_layer_menu(other, time_limit_s=LONG)
    assert found.profit == pytest.approx(menu.profit, rel=1e-9, abs=1e-9)
    assert found.upper_bound == pytest.approx(menu.upper_bound, rel=1e-6, abs=1e-6)
    assert lottery_profit(other) == pytest.approx(lottery_profit(types), rel=1e-6, abs=1e-6)


@settings(max_examples=40)
@given(ordered_games(layers_max=6))
def test_in_a_common_order_it_is_the_optimal_price_for_each_layer(game: Game) -> None:
    types = types_of(game.fleet, game.satisfaction, beta=game.beta, layers_max=game.layers_max)
    if not has_common_order(game):
        return
    bought = optimal_schedule(game)
    nothing = schedule_outcome(game, np.zeros(game.layers_max))
    best = float(bought.server_utility - nothing.server_utility)
    menu = optimal_layer_menu(types, time_limit_s=LONG)
    assert menu.profit == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert menu.proved


@settings(max_examples=40)
@given(games(integer=True, outside_option=False, devices_max=4))
def test_the_posted_price_is_the_game_of_the_fleet(game: Game) -> None:
    types = types_of(game.fleet, game.satisfaction, beta=game.beta, layers_max=game.layers_max)
    most = np.sum(np.isfinite(types.cost), axis=1) - 1
    # Nobody gives up all computing that ln(y) is a satisfaction with, though it would fit.
    assert np.all(most == layers_cap(game)) or game.satisfaction.open_at_zero
    free = Game(
        fleet=game.fleet, revenue=0.0, beta=game.beta, price_min=0.0,
        price_max=2.0 * float(np.max(types.saving)) + 1.0, layers_max=game.layers_max,
        integer=True, satisfaction=game.satisfaction,
    )  # fmt: skip
    bought, nothing = equilibrium(free), outcome(free, 0.0)
    best = float(bought.server_utility - nothing.server_utility)
    posted = play_menu(posted_price_menu(types), types).profit
    assert posted == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_two_types_worked_out_by_hand() -> None:
    # Costs (1, 3) and (2, 6), a saving of 4 a layer, one device each. Both are ordered. Layer 1:
    # from both at 2 earns 4, from the first alone at 1 earns 3: both. Layer 2 adds 2 to the first
    # and 4 to the second: from both at 4 earns 0, from the first at 2 earns 2: the first. So one
    # layer pays 2, two pay 4: profit (8 - 4) + (4 - 2) = 6. A price of 2 a layer is this menu.
    # In public the first would run 2 layers for 3, the second 1 for 2: 5 + 2 = 7.
    types = SampledTypes(
        cost=np.array([[0.0, 1.0, 3.0], [0.0, 2.0, 6.0]]),
        saving=np.array([4.0, 4.0]),
        weight=np.ones(2),
    )
    menu = optimal_layer_menu(types, time_limit_s=LONG)
    assert menu.items() == [(1, 2.0), (2, 4.0)]
    assert menu.layers.tolist() == [2, 1]
    assert (menu.profit, menu.payments, menu.posted_profit) == (6.0, 6.0, 6.0)
    assert menu.first_best_profit == 7.0
    assert menu.lottery_profit == pytest.approx(6.0)


def test_types_in_no_order_worked_out_by_hand() -> None:
    # The first type bears (2, 3), the second (1, 4); each layer saves 3, one device each. Costs of
    # its layers are (2, 1) and (1, 3): in no order. Two layers from both cost 4 each: 12 - 8 = 4.
    # Two from the first at 3 and one from the second at 1: does either want the other's? The first
    # keeps 0 of two layers and would lose 1 by one; the second keeps 0 and would lose 1 by two.
    # So everybody is paid just its cost: 9 - 4 = 5, the first best, which no single price reaches:
    # at 1 a layer it buys 1 layer (saves 3): 2; at 1.5 two layers of the first at 3, one of
    # the second at 1.5: 9 - 4.5 = 4.5.
    types = SampledTypes(
        cost=np.array([[0.0, 2.0, 3.0], [0.0, 1.0, 4.0]]),
        saving=np.array([3.0, 3.0]),
        weight=np.ones(2),
    )
    menu = optimal_layer_menu(types, time_limit_s=LONG)
    assert menu.items() == [(1, 1.0), (2, 3.0)]
    assert menu.layers.tolist() == [2, 1]
    assert (menu.profit, menu.first_best_profit, menu.posted_profit) == (5.0, 5.0, 4.5)
    # A budget of 3.9 does not buy both, so the dearer is left out or does less: two layers of
    # the first alone at 3 earn 3; one layer of both at 2 costs 4, too much; one layer of the
    # second at 1 earns 2.
    tight = optimal_layer_menu(types, budget=3.9, time_limit_s=LONG)
    assert (tight.profit, tight.payments) == (3.0, 3.0)
    assert tight.layers.tolist() == [2, 0]


def test_with_a_budget_a_type_takes_the_cheaper_of_two_items_it_likes_equally() -> None:
    # Costs (1, 2) each, saving 2; the second type's second layer costs 4. Paying 1 and 2, the
    # first likes both items equally. Both layers: 4 - 2 and 2 - 1, payments 3. A budget of 2 buys
    # one layer of each, or two of the first: profit 2 either way, but never 3.
    types = SampledTypes(
        cost=np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 5.0]]),
        saving=np.array([2.0, 2.0]),
        weight=np.ones(2),
    )
    assert optimal_layer_menu(types, time_limit_s=LONG).profit == 3.0
    tight = optimal_layer_menu(types, budget=2.0, time_limit_s=LONG)
    assert (tight.profit, tight.payments) == (2.0, 2.0)
    assert audit_layer_menu(tight.reward, tight.layers, types, budget=2.0).budget_balanced


def test_lotteries_may_pay() -> None:
    # Found by search over small whole costs; the sure optimum is checked by brute force.
    types = SampledTypes(
        cost=np.array([[0.0, 2.0, 4.0], [0.0, 0.0, 1.0], [0.0, 1.0, 4.0]]),
        saving=np.full(3, 3.0),
        weight=np.ones(3),
    )
    menu = optimal_layer_menu(types, time_limit_s=LONG)
    assert menu.profit == pytest.approx(by_every_assignment(types))
    assert menu.profit == 6.0
    assert menu.lottery_profit == pytest.approx(20.0 / 3.0)


def drawn(seed: int, count: int) -> SampledTypes:
    rng = np.random.default_rng(seed)
    devices = SimpleNamespace(
        alpha=rng.uniform(2.0, 6.0, count),
        capacity=rng.uniform(8.0, 14.0, count),
        A=np.ones(count),
        B=np.full(count, 0.5),
    )
    return types_of(devices, Log1p(), beta=2.0, layers_max=12, weight=np.full(count, 1.0 / count))


def test_a_search_that_is_stopped_says_what_it_may_have_missed() -> None:
    types = drawn(3, 40)
    stopped = optimal_layer_menu(types, time_limit_s=0.0)
    assert not stopped.proved
    assert stopped.profit + stopped.gap == stopped.upper_bound
    assert stopped.lottery_profit is not None
    assert stopped.upper_bound <= stopped.lottery_profit * (1 + 1e-9)
    assert stopped.profit > stopped.posted_profit
    assert stopped.as_json()["proved_optimal"] is False


def test_a_menu_is_played_by_devices_it_was_not_written_for() -> None:
    menu, fresh = climbed_menu(drawn(4, 300)), drawn(5, 2000)
    taken = play_menu(menu.reward, fresh)
    price = play_menu(posted_price_menu(drawn(4, 300)), fresh)
    assert np.all(taken.utility >= 0.0)
    assert set(np.unique(taken.layers)) <= {0, *(layers for layers, _ in menu.items())}
    assert price.profit < taken.profit < first_best_profit(fresh)


def test_a_bad_menu_is_caught() -> None:
    types = SampledTypes(
        cost=np.array([[0.0, 1.0, 3.0], [0.0, 2.0, 6.0]]),
        saving=np.array([4.0, 4.0]),
        weight=np.ones(2),
    )
    reward = np.array([0.0, 2.0, 3.5])
    lied = audit_layer_menu(reward, np.array([2, 1]), types)
    assert not lied.incentive_compatible
    assert lied.largest_gain_from_lying == 0.5
    assert lied.pairs == 4
    lost = audit_layer_menu(reward, np.array([1, 2]), types)
    assert not lost.individually_rational
    assert lost.largest_loss_from_taking_part == 2.5
    spent = audit_layer_menu(reward, np.array([1, 1]), types, budget=3.0)
    assert not spent.budget_balanced
    generous = np.array([0.0, 5.0, -np.inf])
    assert not audit_layer_menu(generous, np.array([1, 1]), types).budget_balanced


def test_layers_that_no_rewards_bring_about() -> None:
    # The second bears more for the second layer, so it cannot be the one that runs it.
    types = SampledTypes(
        cost=np.array([[0.0, 1.0, 3.0], [0.0, 2.0, 6.0]]), saving=np.ones(2), weight=np.ones(2)
    )
    assert cheapest_rewards(types, np.array([1, 2])) is None
    assert cheapest_rewards(types, np.array([0, 1])) is None
    found = cheapest_rewards(types, np.array([2, 0]))
    assert found is not None
    assert found.tolist() == [0.0, -np.inf, 3.0]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_costs_are_those_of_the_satisfaction(family: str) -> None:
    devices = SimpleNamespace(alpha=[3.0, 3.0], capacity=[4.0, 0.5], A=[1.0, 1.0], B=[1.0, 1.0])
    satisfaction = FAMILIES[family]
    types = types_of(devices, satisfaction, beta=2.0, layers_max=4)
    room = np.array([3.0])
    for layers in range(3):
        left = satisfaction.value(room - layers)
        expected = 3.0 * (satisfaction.value(room) - left)[0]
        assert types.cost[0, layers] == pytest.approx(expected, abs=1e-12)
    assert np.all(np.isinf(types.cost[1, 1:]))
    assert types.cost[0, 4] == np.inf
    assert types.saving.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cost": np.array([[0.0, 2.0, 1.0]])}, r"cost\[0\]"),
        ({"cost": np.array([[1.0, 2.0, 3.0]])}, r"cost\[0\]"),
        ({"cost": np.array([[0.0, np.nan, 3.0]])}, r"cost\[0\]"),
        ({"cost": np.zeros((1, 1))}, "cost"),
        ({"saving": np.array([np.inf])}, r"saving\[0\]"),
        ({"weight": np.array([0.0])}, "weight"),
        ({"weight": np.array([-1.0])}, r"weight\[0\]"),
    ],
)
def test_impossible_types_are_refused(change: dict[str, np.ndarray], field: str) -> None:
    terms = {"cost": np.array([[0.0, 1.0, 3.0]]), "saving": np.ones(1), "weight": np.ones(1)}
    with pytest.raises(InputError, match=field):
        SampledTypes(**(terms | change))


def test_limits_are_told() -> None:
    with pytest.raises(InputError, match="at most 64 types without a common order"):
        optimal_layer_menu(drawn(0, 65))
    with pytest.raises(InputError, match="budget"):
        optimal_layer_menu(drawn(0, 2), budget=-1.0)
    with pytest.raises(InputError, match="reward"):
        play_menu(np.zeros(3), drawn(0, 2))
    nothing = np.where(np.arange(13) == 0, 0.0, -np.inf)
    with pytest.raises(InputError, match="layers"):
        audit_layer_menu(nothing, np.array([1, 0]), drawn(0, 2))
