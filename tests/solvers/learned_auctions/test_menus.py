"""Learning menus, tariffs and RegretNet."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.mechanisms.auction import tariffs
from edgepact.mechanisms.auction.affine_maximiser import check, sell
from edgepact.solvers.learned_auctions import menus as auction_menus
from edgepact.solvers.learned_auctions import regretnet
from edgepact.solvers.learned_auctions import tariffs as tariff_learning


def uniform(bidders: int, items: int, low: float = 0.0, high: float = 1.0) -> auction_menus.Draw:
    return lambda key: jax.random.uniform(key, (256, bidders, items), minval=low, maxval=high)


@pytest.mark.parametrize("demand", ["additive", "unit"])
def test_logits_of_any_size_stand_for_menus_that_can_be_carried_out(demand: str) -> None:
    for seed, size in enumerate((0.1, 3.0, 30.0)):
        drawn = auction_menus.MenuLogits.draw(jax.random.key(seed), 20, 3, 4, 1.0)
        logits = jax.tree.map(lambda x, size=size: size * x, drawn)
        menu = auction_menus.exactly(logits.menu(demand), demand)
        check(menu, demand)
        assert menu.allocations.dtype == np.float64
        assert not menu.allocations[0].any()


def test_learning_raises_revenue() -> None:
    values = np.random.default_rng(0).random((20_000, 1, 2))
    revenue = []
    for steps in (5, 100):
        course = auction_menus.Course(menu=12, steps=steps, learning_rate=3e-2)
        menu = auction_menus.learn_menu(uniform(1, 2), jax.random.key(0), course=course)
        revenue.append(sell(menu, values).payments.sum(1).mean())
    assert revenue[0] < 0.4
    assert revenue[1] > 0.45


def test_a_tariff_network_keeps_its_promises_before_it_has_learnt_anything() -> None:
    network = tariff_learning.TariffNetwork.draw(jax.random.key(0), tariff_learning.Course())
    values = np.random.default_rng(0).random((500, 3, 4))
    sale = tariffs.sell(network.offer, values)  # which refuses tariffs below the floors
    assert np.all(sale.allocation.sum(1) <= 1.0)
    assert np.all(sale.utility(values) >= 0.0)
    shuffled = tariffs.sell(network.offer, values[:, :, [2, 0, 3, 1]])
    assert np.allclose(shuffled.payments, sale.payments, atol=1e-5)


def test_regretnet_charges_nobody_more_than_its_allocation_is_worth() -> None:
    network = regretnet.RegretNet.draw(jax.random.key(0), 2, 2, 16)
    values = np.random.default_rng(0).random((300, 2, 2))
    sale = network.sell(values)
    assert np.all(sale.utility(values) >= -1e-6)
    assert np.all(sale.allocation.sum(1) <= 1.0 + 1e-6)


@pytest.mark.slow
def test_longer_ascents_find_better_lies() -> None:
    network = regretnet.RegretNet.draw(jax.random.key(0), 2, 2, 16)
    truth = jax.random.uniform(jax.random.key(1), (300, 2, 2))
    course = regretnet.Course(hidden=16)
    found = [
        regretnet.gains(network, truth, regretnet.lies(network, truth, truth, steps, course))
        for steps in (1, 50)
    ]
    assert 0.0 < float(jnp.mean(found[0])) < float(jnp.mean(found[1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("low", "high", "demand", "optimum"),
    [
        (0.0, 1.0, "additive", 4 / 9 + 2 * math.sqrt(2) / 27),
        (2.0, 3.0, "unit", 2.133132),
        (0.0, 1.0, "unit", 2 / (3 * math.sqrt(3))),
    ],
)
def test_one_bidder_pays_what_the_optimum_says(
    low: float, high: float, demand: str, optimum: float
) -> None:
    course = auction_menus.Course(
        menu=24, steps=1500, learning_rate=2e-2, hot=0.05, cold=0.002, unit=0.5 * (low + high)
    )
    draw = uniform(1, 2, low, high)
    menu = auction_menus.learn_menu(
        lambda key: jnp.concatenate([draw(k) for k in jax.random.split(key, 8)]),
        jax.random.key(0),
        demand=demand,
        course=course,
    )
    middle = low + (high - low) * (np.arange(1000) + 0.5) / 1000
    values = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 1, 2)
    assert sell(menu, values).payments.mean() >= 0.999 * optimum
